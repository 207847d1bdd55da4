"""The planner's words: how a prompt is cut into them, and what each means. The words themselves are in planner_words.txt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args

Kind = Literal[
    "article", "their", "count", "adjective", "noun", "person", "subject", "garment", "feature", "place", "setting", "verb",
    "relation", "wear", "not", "pronoun", "copula", "and", "comma", "stop", "quiet", "vain", "unknown",
]  # fmt: skip

TABLE = Path(__file__).with_name("planner_words.txt")
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


def tokens(text: str) -> list[str]:
    """Words, numbers and marks of a text, in lower case and compatibility form; hyphens part words as spaces do."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    return _TOKEN.findall(_GLUED.sub(" ", plain))


def phrase(parts: list[str]) -> str:
    """Tokens as the key of a table."""
    return " ".join(parts)


def _rows(text: str) -> Iterator[tuple[str, Word]]:
    kind = ""
    for line in text.splitlines():
        if line.startswith("["):
            kind = line.strip("[]")
            if kind not in get_args(Kind):
                raise ValueError(f"{TABLE.name} has a section [{kind}], which is no kind of word.")
        elif line and not line.startswith("#"):
            words, _, facts = line.partition("|")
            said = MappingProxyType(dict(fact.split("=", 1) for fact in facts.split()))
            for word in words.split(","):
                yield phrase(tokens(word)), Word(cast("Kind", kind), said)


def _vocabulary(text: str) -> Mapping[str, Word]:
    known: dict[str, Word] = {}
    for words, word in _rows(text):
        if words in known:
            raise ValueError(f"{TABLE.name} has {words!r} as {known[words].kind} and again as {word.kind}.")
        known[words] = word
    return MappingProxyType(known)


VOCABULARY = _vocabulary(TABLE.read_text(encoding="utf-8"))
