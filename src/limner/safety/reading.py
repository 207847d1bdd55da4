"""A text as the policy reads it: its words in one spelling, and every way that a disguised one may be meant."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise, takewhile

from limner.safety.lookalikes import Letter, letter
from limner.safety.pieces import CUT, Manner, Piece, cut, spaceless

_STOP = re.compile(rf"[.!?]\s|\n\s*\n|[。！？｡{CUT}]")  # ends a sentence, and so a phrase
_LINKS = frozenset("._-*~^=+|·•‧‐‑")  # between letters of a word that was pulled apart
_BESIDE = "!¡|+(<°×"  # signs that stand beside a word more often than in it
_STRETCHED = re.compile(r"(.)\1\1+")
_TALL_I = re.compile(r"(?<=[a-z])I(?=[a-z])")  # a capital I among small letters is read as an l
_NO_SIGN = Letter("", "")
_WIDEST_GAP = 8  # between two letters of a spelled word
_MOST_SHORT = 8  # pieces of one or two letters that are put together


@dataclass(frozen=True, slots=True)
class Word:
    """One way to read `pieces[start:end]` of a text.

    Attributes:
        own: its letters as they are, case folded and without marks.
        reading: as it is read where look-alikes, digits or signs disguise it; else None.
        whole: whether it is a word of the text, or a spelled one, and not put together from parts of words.
    """

    start: int
    end: int
    own: str
    reading: str | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """What a rule looks at.

    Attributes:
        words: the readings that begin at each piece.
        stops: numbers of the pieces that begin a sentence or follow an exception.
        spelled: runs of single letters put together, each as it is and as it is read.
        solid: the text without such gaps as stand inside a word of a script without spaces.
        plain: the whole text, case folded and without marks, white space as single spaces.
        unmasked: the same with disguised words as they are read.
    """

    words: tuple[tuple[Word, ...], ...]
    stops: frozenset[int]
    spelled: tuple[tuple[str, str], ...]
    solid: str
    plain: str
    unmasked: str


def fold(reading: str) -> str:
    """A reading with i and l united, which 1, ! and | stand for alike."""
    return reading.replace("i", "l")


def read(text: str, manner: Manner) -> Text:
    """Read a text that `clean` made."""
    if manner.digits:
        text = _TALL_I.sub("1", text)
    pieces, tail = cut(text, manner)
    honest = frozenset(
        each.script for piece in pieces for each in piece.letters if each.script and not (each.twin or each.odd)
    )
    spelled = list(_spelled(pieces))
    signed = _signed(pieces, tail) if manner.digits else ()
    masked = [*signed, *_linked(pieces, honest), *(_put(pieces, run, honest, whole=True) for run in spelled)]
    alone = [word for number, piece in enumerate(pieces) for word in _alone(number, piece, honest)]
    inside = [_put(pieces, run, honest, whole=True) for run in _inside(pieces, spelled)]
    words: list[list[Word]] = [[] for _ in pieces]
    for word in (*alone, *masked, *inside, *_short(pieces, honest)):
        words[word.start].append(word)
    return Text(
        words=tuple(map(tuple, words)),
        stops=frozenset(number for number, piece in enumerate(pieces) if _STOP.search(piece.gap)),
        spelled=tuple((_own(pieces, run), _reading(pieces, run)) for run in spelled),
        solid=_solid(pieces),
        plain=_written(pieces, tail, []),
        unmasked=_written(pieces, tail, [*(word for word in alone if word.reading), *masked]),
    )


def _own(pieces: Sequence[Piece], run: range) -> str:
    return "".join(pieces[number].own for number in run)


def _reading(pieces: Sequence[Piece], run: range) -> str:
    return "".join(pieces[number].reading for number in run)


def _disguised(letters: Sequence[Letter], honest: frozenset[str]) -> bool:
    """Whether letters are not what they seem: several scripts, odd ones, digits or signs among letters, or look-alikes
    throughout, of a script that the rest of the text is not written in."""
    scripts = {each.script for each in letters if each.script}
    odd = any(each.odd for each in letters)
    if not (scripts or odd) or all(each.own == each.reading for each in letters):
        return False
    plain = len(scripts) == 1 and not odd and all(each.script for each in letters)
    return not plain or (scripts.isdisjoint(honest) and all(each.twin for each in letters))


def _alone(number: int, piece: Piece, honest: frozenset[str]) -> Iterator[Word]:
    """A piece by itself, without digits at its ends, and with stretched letters made short."""
    own, end = piece.own, number + 1
    reading = piece.reading if _disguised(piece.letters, honest) else None
    yield Word(number, end, own, reading, whole=True)
    bare = own.strip("0123456789")
    if bare and bare != own:
        yield Word(number, end, bare, whole=True)
    for copies in (r"\1", r"\1\1"):
        if _STRETCHED.search(own):
            yield Word(number, end, _STRETCHED.sub(copies, own), whole=True)
        if reading and _STRETCHED.search(reading):
            yield Word(number, end, own, _STRETCHED.sub(copies, reading), whole=True)


def _put(pieces: Sequence[Piece], run: range, honest: frozenset[str], *, whole: bool = False) -> Word:
    """Pieces put together."""
    letters = [each for number in run for each in pieces[number].letters]
    reading = _reading(pieces, run) if _disguised(letters, honest) else None
    return Word(run.start, run.stop, _own(pieces, run), reading, whole)


def _signed(pieces: Sequence[Piece], tail: str) -> Iterator[Word]:
    """Pieces with signs in them and beside them that stand for letters: sh!t, $ex."""
    gaps = [*(piece.gap for piece in pieces), tail]
    for run in _groups(pieces, lambda _, right: len(_signs(right.gap)) == len(right.gap)):
        before = list(_signs(gaps[run.start][::-1]))[::-1]
        after = list(_signs(gaps[run.stop]))
        while before and before[0].own in _BESIDE:
            del before[0]
        while after and after[-1].own in _BESIDE:
            del after[-1]
        if len(run) == 1 and not before and not after:
            continue
        letters = before
        for number in run:
            letters += _signs(gaps[number]) if number > run.start else ()
            letters += pieces[number].letters
        letters += after
        if any(each.script for each in letters):
            own, reading = "".join(each.own for each in letters), "".join(each.reading for each in letters)
            yield Word(run.start, run.stop, own, reading, whole=True)


@lru_cache(maxsize=512)
def _signs(gap: str) -> tuple[Letter, ...]:
    """The signs that a gap begins with."""
    known = (letter(character) for character in gap)
    return tuple(takewhile(lambda each: each.sign, (each or _NO_SIGN for each in known)))


def _linked(pieces: Sequence[Piece], honest: frozenset[str]) -> Iterator[Word]:
    """Pieces with one mark between each two of them: bl-ood."""
    for run in _groups(pieces, lambda _, right: len(right.gap) == 1 and _link(right.gap)):
        if len(run) > 1 and _mostly_letters(pieces, run):
            yield _put(pieces, run, honest)


def _link(gap: str) -> bool:
    return gap in _LINKS or (gap != CUT and unicodedata.category(gap)[0] == "S")


def _spelled(pieces: Sequence[Piece]) -> Iterator[range]:
    """Runs of three and more single letters: b l o o d, b.l.o.o.d."""

    def next_to(left: Piece, right: Piece) -> bool:
        single = len(left.letters) == len(right.letters) == 1
        return single and len(right.gap) <= _WIDEST_GAP and CUT not in right.gap

    for run in _groups(pieces, next_to):
        if len(run) > 2 and _mostly_letters(pieces, run) and not spaceless(_own(pieces, run)):
            yield run


def _mostly_letters(pieces: Sequence[Piece], run: range) -> bool:
    """Whether at least half of what was put together is letters: else it is a number, a version, a fingerprint."""
    letters = [bool(each.script) for number in run for each in pieces[number].letters]
    return 2 * sum(letters) >= len(letters)


def _inside(pieces: Sequence[Piece], spelled: Sequence[range]) -> Iterator[range]:
    """Spelled words within spelled runs: between wider gaps, and beside an article."""
    for run in spelled:
        narrow = min(len(pieces[number].gap) for number in run[1:])
        wide = [run.start, *(number for number in run[1:] if len(pieces[number].gap) > narrow), run.stop]
        for start, stop in pairwise(wide):
            for part in (range(start, stop), range(start + 1, stop), range(start, stop - 1)):
                dropped = {*range(start, stop)} - {*part}
                if len(part) > 1 and part != run and all(pieces[number].own in ("a", "i") for number in dropped):
                    yield part


def _short(pieces: Sequence[Piece], honest: frozenset[str]) -> Iterator[Word]:
    """Three and more pieces of one or two letters, not all of one: bl oo d."""
    for run in _groups(pieces, lambda left, right: _brief(left) and _brief(right) and len(right.gap) == 1):
        whole = _put(pieces, run, honest)
        if len(run) < 3 or spaceless(whole.own):
            continue
        own_at = [0, *accumulate(len(pieces[number].own) for number in run)]
        read_at = [0, *accumulate(len(pieces[number].reading) for number in run)]
        singles = [0, *accumulate(len(pieces[number].letters) == 1 for number in run)]
        for first in range(len(run)):
            for last in range(first + 3, min(len(run), first + _MOST_SHORT) + 1):
                if singles[last] - singles[first] < last - first:
                    own = whole.own[own_at[first] : own_at[last]]
                    reading = whole.reading and whole.reading[read_at[first] : read_at[last]]
                    yield Word(run.start + first, run.start + last, own, reading)


def _brief(piece: Piece) -> bool:
    return len(piece.letters) <= 2 and all(each.script for each in piece.letters)


def _groups(pieces: Sequence[Piece], together: Callable[[Piece, Piece], bool]) -> Iterator[range]:
    """The text's pieces in the longest runs whose neighbours belong `together`."""
    start = 0
    for number in range(1, len(pieces) + 1):
        if number == len(pieces) or not together(pieces[number - 1], pieces[number]):
            yield range(start, number)
            start = number


def _solid(pieces: Sequence[Piece]) -> str:
    """The text with a line end at each gap but those that pull single characters or a word apart."""
    written = []
    for number, piece in enumerate(pieces):
        single = number > 0 and len(piece.letters) == len(pieces[number - 1].letters) == 1
        inside = len(piece.gap) == 1 and (_link(piece.gap) or (single and piece.gap.isspace()))
        written += [piece.own] if inside else ["\n", piece.own]
    return "".join(written)


def _written(pieces: Sequence[Piece], tail: str, masked: Sequence[Word]) -> str:
    """The text with the longest of the `masked` words at each place as it is read."""
    longest: dict[int, Word] = {}
    for word in masked:
        if word.start not in longest or word.end > longest[word.start].end:
            longest[word.start] = word
    written: list[str] = []
    number = 0
    while number < len(pieces):
        found = longest.get(number)
        written += [pieces[number].gap, pieces[number].own if found is None else found.reading or found.own]
        number = number + 1 if found is None else found.end
    return " ".join(re.split(r"\s+", "".join([*written, tail])))
