"""Rules about words: terms and patterns put together for looking many of them up in a text at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from limner.safety import pieces, reading
from limner.safety.pieces import Manner
from limner.safety.reading import Text, Word, fold

HONEST = ("aß",)
"""Words that nobody need list as exceptions: German "ate", whose case folding is an English rude word."""

_LONG = 5  # letters from which a word is looked for inside a longer run of spelled letters


@dataclass(frozen=True, slots=True)
class Rule:
    """What one rule of the policy refuses.

    Attributes:
        name: the category, as audits and logs call it.
        terms: words and phrases; a star at either end stands for any letters.
        patterns: compiled, with a `search` in linear time.
        allow: words and phrases that are taken out of the text before it is read.
    """

    name: str
    terms: tuple[str, ...] = ()
    patterns: tuple[Any, ...] = ()
    allow: tuple[str, ...] = ()


class Unusable(Exception):
    """An entry of a rule that cannot be used: its key and place, such as `terms.2`, with the rule's number and why."""

    def __init__(self, entry: str, number: int, reason: str) -> None:
        super().__init__(entry)
        self.number = number
        self.reason = reason


@dataclass(slots=True)
class _Node:
    """What may follow, by the word as it is in the policy, and the rule of a term that ends here."""

    following: dict[str, _Node] = field(default_factory=dict)
    rule: int | None = None


@dataclass(frozen=True, slots=True)
class _Star:
    """A word of a term with stars; `key` is its place in the tree."""

    key: str
    own: str
    folded: str

    def fits(self, word: Word) -> bool:
        """Whether a word is this one, with any letters where the stars are unless it was put together."""
        forms = (
            [(word.own, self.own)]
            if word.reading is None
            else [(word.own, self.own), (fold(word.reading), self.folded)]
        )
        return any(self._in(form, core) if word.whole else form == core for form, core in forms)

    def _in(self, word: str, core: str) -> bool:
        if self.key.startswith("*"):
            return core in word if self.key.endswith("*") else word.endswith(core)
        return word.startswith(core)


class Blocklist:
    """Rules that share their exceptions. Building it is slow, looking is not: words are looked up, not gone through.

    Raises:
        Unusable: a term or an exception has no letter, or stands for too much.
    """

    def __init__(self, rules: Sequence[tuple[int, Rule]], manner: Manner) -> None:
        self._manner = manner
        self._exceptions = _exceptions(*rules[0])
        self._root = _Node()
        self._folded: dict[str, set[str]] = {}
        self._stars: dict[str, _Star] = {}
        self._solid: list[tuple[str, int]] = []
        self._long: list[tuple[str, str, int]] = []
        self._patterns = [(pattern, number) for number, rule in rules for pattern in rule.patterns]
        for number, rule in rules:
            for place, term in enumerate(rule.terms, 1):
                self._add(term, f"terms.{place}", number)

    def find(self, cleaned: str, known: dict[str, Text]) -> int | None:
        """The number of the first rule that refuses a text that `pieces.clean` made; None where none does.

        `known` keeps what was read, for other lists of the same manner that look at the same text.
        """
        left = self._exceptions.sub(f"\n{pieces.CUT}\n", cleaned)
        if left not in known:
            known[left] = reading.read(left, self._manner)
        return min(self._hits(known[left]), default=None)

    def _add(self, term: str, entry: str, number: int) -> None:
        core = term.strip().strip("*")
        words = pieces.parts(core, self._manner)
        if not words:
            raise Unusable(entry, number, "holds no letter. Write a word or a phrase")
        if "*" in core:
            raise Unusable(entry, number, "has a star in its middle. A star stands at its beginning or its end")
        whole = "".join(own for own, _ in words)
        if pieces.spaceless(core):
            self._solid.append((whole, number))
            return
        if len(whole) < 2 or ("*" in term and len(whole) < 3):
            raise Unusable(entry, number, "is too short and would refuse nearly everything. Write a longer word")
        stars = ("*" if term.strip().startswith("*") else "", "*" if term.strip().endswith("*") else "")
        self._plant(words, stars, number)
        if len(words) > 1:
            self._plant([(whole, "".join(read for _, read in words))], stars, number)
        if len(whole) >= _LONG:
            self._long.append((whole, fold("".join(read for _, read in words)), number))

    def _plant(self, words: Sequence[tuple[str, str]], stars: tuple[str, str], number: int) -> None:
        node = self._root
        for place, (own, read) in enumerate(words):
            key = (stars[0] if place == 0 else "") + own + (stars[1] if place == len(words) - 1 else "")
            if key == own:
                self._folded.setdefault(fold(read), set()).add(own)
            else:
                self._stars[key] = _Star(key, own, fold(read))
            node = node.following.setdefault(key, _Node())
        node.rule = number if node.rule is None else min(node.rule, number)

    def _hits(self, text: Text) -> Iterator[int]:
        every = "\n".join(word.own for words in text.words for word in words)
        read = "\n".join(fold(word.reading) for words in text.words for word in words if word.reading)
        stars = [star for star in self._stars.values() if star.own in every or star.folded in read]
        waiting = [(number, self._root) for number in range(len(text.words))]
        seen: set[tuple[int, int]] = set()
        while waiting:
            number, node = waiting.pop()
            for word in text.words[number] if number < len(text.words) else ():
                for key in self._keys(word, stars):
                    after = node.following.get(key)
                    if after is None:
                        continue
                    if after.rule is not None:
                        yield after.rule
                    place = (word.end, id(after))
                    if after.following and word.end not in text.stops and place not in seen:
                        seen.add(place)
                        waiting.append((word.end, after))
        for own, folded, number in self._long if text.spelled else ():
            if any(own in run or folded in fold(read) for run, read in text.spelled):
                yield number
        for own, number in self._solid:
            if own in text.solid:
                yield number
        for pattern, number in self._patterns:
            if pattern.search(text.plain) or pattern.search(text.unmasked):
                yield number

    def _keys(self, word: Word, stars: Sequence[_Star]) -> Iterator[str]:
        """The words of the policy that a word of the text may be."""
        yield word.own
        if word.reading is not None:
            yield from self._folded.get(fold(word.reading), ())
        yield from (star.key for star in stars if star.fits(word))


def _exceptions(number: int, rule: Rule) -> re.Pattern[str]:
    """Finds what is allowed, in a text that `pieces.clean` made, in any case and with any white space."""
    written = []
    for place, phrase in enumerate((*HONEST, *rule.allow), 1 - len(HONEST)):
        words = pieces.clean(phrase).split()
        if not words:
            raise Unusable(f"allow.{place}", number, "holds nothing to allow. Write a word or a phrase")
        body = r"\s+".join(map(re.escape, words))
        solid = pieces.spaceless(phrase)
        before = r"(?<!\w)" if words[0][0].isalnum() and not solid else ""
        after = r"(?!\w)" if words[-1][-1].isalnum() and not solid else ""
        written.append(f"{before}{body}{after}")
    return re.compile("|".join(sorted(written, key=len, reverse=True)), re.IGNORECASE)
