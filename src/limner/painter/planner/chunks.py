"""Cutting a prompt into chunks: the longest phrases known, each with what it can mean where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from limner.painter.bank import Bank, singular_phrase
from limner.painter.planner.words import (
    FOREIGN,
    LONGEST,
    MARKS,
    MARKS_OF,
    VOCABULARY,
    Kind,
    Language,
    Word,
    language_of,
    phrase,
)

PLURALS: frozenset[Kind] = frozenset({"person", "garment", "subject", "feature", "noun"})
HEADS: frozenset[Kind] = frozenset({"noun", "person", "subject", "garment", "feature"})
OPENERS: frozenset[Kind] = frozenset({"article", "their", "count", "adjective"})
_LENS = re.compile(r"f / ?\d[\d.]*(?= |$)|\d+mm(?= |$)")  # a stop or a focal length
TINTS = frozenset({"light", "dark", "pale", "bright", "deep", "pastel", "soft", "vivid", "muted"})  # of a colour
PARTING = (",", "|", ";", "/", "+", "\n")  # between keywords
FROM = ("from", "up", "down", "off", "of", "on", "out")  # before a place
ENDINGS: dict[str, tuple[str, ...]] = {
    "es": ("s", "es"),
    "fr": ("s", "x"),
    "de": ("e", "en", "n", "er", "s"),
}  # of plurals


@dataclass(frozen=True, slots=True)
class Chunk:
    """A word or phrase of the prompt."""

    text: str
    word: Word
    concept: str | None = None  # the drawing that it names, where it can be a noun
    plural: bool = False
    at: int = 0  # its first token
    size: int = 1  # how many tokens it has

    @property
    def kind(self) -> Kind:
        return self.word.kind

    def says(self, fact: str) -> str | None:
        return self.word.facts.get(fact)


class Lexicon:
    """All phrases that are known: the tables' and the names of the bank's drawings."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self._nouns = bank.words
        self._longest: dict[str, int] = {}
        for key in (*VOCABULARY, *(k.replace("'s", " 's") for k in bank.words)):
            parts = key.split()
            self._longest[parts[0]] = min(LONGEST, max(len(parts), self._longest.get(parts[0], 1)))

    def find(self, parts: list[str], counted: bool, language: Language | None = None) -> Chunk | None:
        """The chunk that these tokens are together, or None. Where they were counted, a plural is of its singular."""
        if language and (found := self._foreign(parts, language)):
            return found
        key = phrase(parts)
        noun = key.replace(" 's", "'s")
        one = singular_phrase(noun)
        concept = self._nouns.get(noun)
        if concept is None or (counted and one in self._nouns):
            concept = self._nouns.get(one)
        plural = one != noun and (counted or noun not in self._nouns)
        word = VOCABULARY.get(key)
        if word is None and one != noun:
            word = VOCABULARY.get(one.replace("'s", " 's"))
            word, plural = (word, True) if word and word.kind in PLURALS else (None, plural)
        if concept is None and word is not None:
            concept = word.facts.get("concept")
        if word is None and concept is not None:
            word = Word("noun", {})
        elif word is not None and word.kind == "noun" and concept is None:
            word = Word("vain", {**word.facts, "noun": "yes"})  # known, but not drawn
        return Chunk(noun, word, concept, plural) if word else None

    def _foreign(self, parts: list[str], language: Language) -> Chunk | None:
        together = phrase(parts) if language in MARKS_OF else "".join(parts)
        if word := FOREIGN[language].get(phrase(parts)):
            return Chunk(together, word, None, together.endswith(("s", "x")))
        nouns = self.bank.foreign(language)
        if together in nouns:
            return Chunk(together, Word("noun", {}), nouns[together])
        for ending in ENDINGS.get(language, ()):
            if together.endswith(ending) and (concept := nouns.get(together[: -len(ending)])):
                return Chunk(together, Word("noun", {}), concept, plural=True)
        return None

    def reach(self, token: str, language: Language | None) -> int:
        """How many tokens a phrase that begins with this one can have."""
        return LONGEST if language else self._longest.get(token, 1)


def tag(tokens: Sequence[str], lexicon: Lexicon) -> list[Chunk]:
    """Cut tokens into the longest phrases known."""
    language = language_of(tokens)
    chunks: list[Chunk] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        counted = bool(chunks) and chunks[-1].kind in ("count", "adjective")
        found, size = None, 0
        if lens := _LENS.match(" ".join(tokens[at : at + 3])):
            found, size = Chunk(lens[0], Word("quiet", {})), len(lens[0].split())
        elif token in MARKS:
            found, size = Chunk(token, Word("comma", {})), 1
        elif (
            token in TINTS
            and at + 1 < len(tokens)
            and _colour(tokens[at + 1])
            and not _colour(phrase(list(tokens[at : at + 2])))
        ):
            found, size = Chunk(token, Word("quiet", {})), 1
        else:
            for size in range(min(lexicon.reach(token, language), len(tokens) - at), 0, -1):
                if found := lexicon.find(list(tokens[at : at + size]), counted, language):
                    break
        if found is None:
            size = 1
            number = token.isascii() and token.isdigit()
            found = Chunk(token, Word("count", {"count": token}) if number else Word("unknown", {}))
            if number and (years := _age(tokens[at + 1 : at + 3], int(token))):
                found, size = Chunk(phrase(list(tokens[at : at + 3])), Word("adjective", {"age": years})), 3
        last = chunks[-1] if chunks else None
        if language in ("zh", "ja") and found.kind == "unknown" and last and last.kind == "unknown":
            chunks[-1] = replace(last, text=last.text + found.text, size=last.size + size)
        else:
            chunks.append(replace(found, at=at, size=size))
        at += size
    return chunks


def _colour(text: str) -> bool:
    word = VOCABULARY.get(text)
    return word is not None and "colour" in word.facts


def _age(after: Sequence[str], number: int) -> str | None:
    if list(after) not in (["years", "old"], ["year", "old"]):
        return None
    return "child" if number <= 12 else "elder" if number >= 60 else "adult"


def is_list(chunks: Sequence[Chunk]) -> bool:
    """Whether a prompt is rather a list of keywords than sentences: more than every fifth chunk parts two others."""
    return sum(chunk.text in PARTING for chunk in chunks) > len(chunks) / 5


def settle(chunks: Sequence[Chunk], told: Mapping[int, bool] = MappingProxyType({})) -> list[Chunk]:
    """Decide by their neighbours whether words that can also be nouns are nouns.

    Args:
        chunks: as `tag` cut them.
        told: by number, chunks of which it is known already whether they name something.
    """
    settled: list[Chunk] = []
    for at, chunk in enumerate(chunks):
        before = settled[-1] if settled else None
        after = chunks[at + 1] if at + 1 < len(chunks) else None
        if at in told:
            if not told[at] and (chunk.concept is not None or chunk.kind in ("unknown", "person")):
                adjective = chunk.kind == "adjective"
                chunk = replace(chunk, word=chunk.word if adjective else Word("vain", {}), concept=None)
            elif told[at] and chunk.concept is not None and chunk.kind in ("adjective", "stop", "quiet", "vain"):
                chunk = replace(chunk, word=Word("noun", {}))
        elif chunk.concept is not None and chunk.kind != "noun" and _is_noun(chunk, before, after, settled):
            chunk = replace(chunk, word=Word("noun", chunk.word.facts if chunk.kind in ("place", "setting") else {}))
        elif _is_verb(chunk, before, after):
            chunk = replace(chunk, word=Word("unknown", {}), concept=None)
        settled.append(chunk)
    return settled


def _is_verb(chunk: Chunk, before: Chunk | None, after: Chunk | None) -> bool:
    """Whether a plural is rather a verb: "a dog guards the house"."""
    named = before is not None and before.kind in ("noun", "person", "subject", "unknown")
    return named and chunk.plural and chunk.kind in HEADS and after is not None and after.kind in ("article", "their")


def _is_noun(chunk: Chunk, before: Chunk | None, after: Chunk | None, settled: Sequence[Chunk]) -> bool:
    opened = before is not None and before.kind in OPENERS
    match chunk.kind:
        case "stop" | "quiet":
            return opened and before is not None and before.kind != "their" and (after is None or after.text != "of")
        case "adjective":
            continued = after is not None and (
                after.kind in HEADS | {"adjective", "unknown", "place"} or after.text == "and"
            )
            told = before is not None and (before.kind == "copula" or before.text == "in")
            return (
                not continued
                and not told
                and (before is None or before.kind in OPENERS | {"comma", "relation", "and", "quiet"})
                and (before is None or before.text not in TINTS)
            )
        case "place":
            if "hint" not in chunk.word.facts:
                return False
            lead = next((c for c in reversed(settled) if c.kind not in OPENERS | {"quiet"}), None)
            there = lead is not None and (lead.says("relation") in ("on", "inside", "beside") or lead.text in FROM)
            return not there and (opened or chunk.plural)
        case "setting":
            return before is not None and (before.kind in ("count", "adjective") or before.text in ("a", "an"))
    return False
