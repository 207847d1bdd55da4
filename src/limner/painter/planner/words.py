"""The planner's words: how a prompt is cut into them, and what each means.

The words themselves are in words.txt, those of five other languages in tongues.txt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args

Kind = Literal[
    "article", "their", "count", "adjective", "noun", "person", "subject", "garment", "feature", "place", "setting",
    "verb", "relation", "wear", "not", "pronoun", "copula", "and", "comma", "stop", "quiet", "vain", "unknown",
]  # fmt: skip

Language = Literal["zh", "es", "fr", "de", "ja"]

TABLE = Path(__file__).with_name("words.txt")
TONGUES = Path(__file__).with_name("tongues.txt")
LONGEST = 7  # tokens in a phrase
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]"  # Chinese and Japanese, sign by sign: the longest phrase wins later
    r"|'s\b|\d+(?:[./]\d+)*[a-z]*"
    r"|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+(?:'(?!s\b)[^\W\d_]+)*"
    r"|[.,;:!?()/|\n&+。、，；：！？（）]"
)
_GLUED = re.compile(r"(?<=\d)(?=(?:girl|boy|man|men|woman|women|people|person|kid|cat|dog)s?\b)")
MARKS = frozenset(".,;:!?()/|\n。、，；：！？（）")
STOPS = frozenset(".!?\n。！？")


@dataclass(frozen=True, slots=True)
class Word:
    """What a word or a phrase is in a sentence, and what it says of the picture."""

    kind: Kind
    facts: Mapping[str, str]


# Chinese and Japanese put "on", "in" and their like behind the noun; English ones go before it.
_AFTER = (
    (re.compile(r"在([^，。、在]{1,8}?)的?(?:上面|上方|上)"), r" on \1 "),
    (re.compile(r"在([^，。、在]{1,8}?)的?(?:下面|下方|下)"), r" under \1 "),
    (re.compile(r"在([^，。、在]{1,8}?)的?(?:左边|左侧|左)"), r" to the left of \1 "),
    (re.compile(r"在([^，。、在]{1,8}?)的?(?:右边|右侧|右)"), r" to the right of \1 "),
    (re.compile(r"在([^，。、在]{1,8}?)的?(?:旁边|身边)"), r" next to \1 "),
    (re.compile(r"在([^，。、在]{1,8}?)的?(?:后面|后)"), r" behind \1 "),
    (re.compile(r"在([^，。、在]{1,8}?)的?(?:前面|前)"), r" in front of \1 "),
    (re.compile(r"在([^，。、在]{1,8}?)的?(?:里面|里|中)"), r" in \1 "),
    (re.compile(r"([^，。、のと]{1,8})の上[にでの]?"), r" on \1 "),
    (re.compile(r"([^，。、のと]{1,8})の下[にでの]?"), r" under \1 "),
    (re.compile(r"([^，。、のと]{1,8})の(?:隣|横)[にでの]?"), r" next to \1 "),
    (re.compile(r"([^，。、のと]{1,8})の中[にでの]?"), r" in \1 "),
)  # fmt: skip


_NUMBER = r"\d|two|three|four|five|six|seven|eight|nine"
_NAME = r"(?:an?|the|one) [\w-]+(?: [\w-]+){0,4}?"
_OWN = "(?:its|his|her|their)"
_AT = "(?:(?:on|to|at) the )?"
_END = r"(?=[.,;!?]|$)"
_TWINS = (
    r"jeans|trousers|pants|shorts|glasses|sunglasses|eyeglasses|spectacles|goggles|scissors|pliers|binoculars|tongs"
)
_TURNED = (
    # One thing in spite of its plural: a pair of jeans, a bunch of grapes.
    (re.compile(rf"\b(?:an?|one) pair of ({_TWINS})\b"), r"one \1"),
    (re.compile(rf"\bpairs? of ({_TWINS})\b"), r"\1"),
    (re.compile(r"\b(?:an?|one) bunch of (grapes|bananas|flowers|keys)\b"), r"one \1"),
    (re.compile(r"\bbunch(?:es)? of (grapes|bananas|flowers|keys)\b"), r"\1"),
    (re.compile(r"\bboth (?=an?\b|the\b)"), ""),
    # Numbers behind or after another: "apples (2)", "apples, two of them", "not one but two apples".
    (re.compile(rf"\b([\w-]+) \(({_NUMBER})\)"), r"\2 \1"),
    (re.compile(rf"\b([\w-]+), ({_NUMBER}) of them\b"), r"\2 \1"),
    (re.compile(rf"\bnot one,? but ({_NUMBER})\b"), r"\1"),
    # Sides told of the second thing, or before both.
    (re.compile(rf"\b({_NAME}) with ({_NAME}) (?:on|to) {_OWN} (left|right)\b"), r"\2 to the \3 of \1"),
    (re.compile(rf"\b({_NAME}),? and (?:on|to) {_OWN} (left|right),? ({_NAME}){_END}"), r"\3 to the \2 of \1"),
    (
        re.compile(rf"{_AT}\b(left|right)[,:]? ({_NAME})[;,] {_AT}(?:left|right)[,:]? ({_NAME}){_END}"),
        r"\2 to the \1 of \3",
    ),
    (re.compile(rf"\bat the top,? ({_NAME})[,;](?: and)? at the bottom,? ({_NAME}){_END}"), r"\1 above \2"),
    (re.compile(rf"\bat the bottom,? ({_NAME})[,;](?: and)? at the top,? ({_NAME}){_END}"), r"\2 above \1"),
)  # fmt: skip
"""Turns of phrase that the grammar does not have, and the same in words that it has."""


def plain(text: str) -> str:
    """A text in lower case and compatibility form, "1girl" in two words, and some turns of phrase made plainer."""
    simple = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    for pattern, english in (*_AFTER, *_TURNED):
        simple = pattern.sub(english, simple)
    return _GLUED.sub(" ", simple)


def tokens(text: str) -> list[str]:
    """Words, numbers and marks of a text, made plain; hyphens part words as spaces do."""
    return _TOKEN.findall(plain(text))


def spans(simple: str) -> list[tuple[int, int]]:
    """Where each of the tokens of a text that is plain already begins and ends in it."""
    return [match.span() for match in _TOKEN.finditer(simple)]


def phrase(parts: list[str]) -> str:
    """Tokens as the key of a table."""
    return " ".join(parts)


def _rows(file: Path) -> Iterator[tuple[str, str, str]]:
    """Section, word and meaning of each word in a table."""
    section = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            words, _, meaning = line.partition("|")
            for word in words.split(","):
                yield section, phrase(tokens(word)), meaning.strip()


def _vocabulary() -> Mapping[str, Word]:
    known: dict[str, Word] = {}
    for kind, words, meaning in _rows(TABLE):
        if kind not in get_args(Kind):
            raise ValueError(f"{TABLE.name} has a section [{kind}], which is no kind of word.")
        if words in known:
            raise ValueError(f"{TABLE.name} has {words!r} as {known[words].kind} and again as {kind}.")
        facts = dict(fact.split("=", 1) for fact in meaning.split())
        known[words] = Word(cast("Kind", kind), MappingProxyType(facts))
    return MappingProxyType(known)


def _tongues(
    vocabulary: Mapping[str, Word],
) -> tuple[Mapping[Language, Mapping[str, Word]], Mapping[Language, frozenset[str]]]:
    words: dict[Language, dict[str, Word]] = {language: {} for language in get_args(Language)}
    marks: dict[Language, frozenset[str]] = {}
    for section, word, meaning in _rows(TONGUES):
        language = cast("Language", section)
        if word == "marks":
            marks[language] = frozenset(m.strip() for m in meaning.split(","))
        else:
            words[language][word] = vocabulary[phrase(tokens(meaning))]
    return MappingProxyType(words), MappingProxyType(marks)


VOCABULARY = _vocabulary()
FOREIGN, MARKS_OF = _tongues(VOCABULARY)


def language_of(parts: Sequence[str]) -> Language | None:
    """The language of a text, by its script or its small words; None is English."""
    if any("\u3040" <= part <= "\u30ff" for part in parts):
        return "ja"
    if any("\u3400" <= part <= "\u9fff" for part in parts):
        return "zh"
    counts = {language: sum(part in marks for part in parts) for language, marks in MARKS_OF.items()}
    english = sum(part in ("a", "an", "the", "of", "with", "and", "on", "in", "at") for part in parts)
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] > english else None
