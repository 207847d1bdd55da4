"""Noun phrases: "two small red and three blue balloons" as one head and what is said before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from limner.painter.bank import singular_phrase
from limner.painter.planner.chunks import Chunk
from limner.painter.planner.words import STOPS, Word

MOST_OF_ONE = 20
VERBAL = ("ing", "ed", "ly", "'s")  # ends of words that are hardly ever nouns

Finder = Callable[[str], str | None]  # the concept for a noun that no table knows, or None


@dataclass(slots=True)
class Spec:
    """What stands before a noun, once: "a small red"; "a red and a blue balloon" has two."""

    words: list[Chunk] = field(default_factory=list)
    opener: Chunk | None = None
    count: int | None = None
    exact: bool = False  # whether that is a number

    @property
    def counted(self) -> bool:
        return self.opener is not None or self.count is not None

    def opened_by(self, fact: str) -> bool:
        return self.opener is not None and self.opener.says(fact) is not None


@dataclass(slots=True)
class Phrase:
    """A head and all that is said before it."""

    head: Chunk
    specs: list[Spec]
    end: int  # index of the chunk after it

    @property
    def words(self) -> list[Chunk]:
        return [word for spec in self.specs for word in spec.words]

    @property
    def theirs(self) -> bool:
        """Whether it is someone's: "her red hat"."""
        opener = self.specs[0].opener
        return opener is not None and opener.kind == "their"


def phrase_at(chunks: Sequence[Chunk], start: int, fresh: bool, named: bool, find: Finder) -> Phrase | None:
    """The noun phrase that begins at `start`, or None.

    Args:
        chunks: settled.
        start: index of its first chunk.
        fresh: whether a clause begins here, so that "smiling" can be an adjective.
        named: whether a lone unknown word here can be a noun rather than a verb.
        find: asked for the concept of an unknown head.
    """
    specs, at = [Spec()], start
    while at < len(chunks):
        chunk, spec = chunks[at], specs[-1]
        after = chunks[at + 1] if at + 1 < len(chunks) else None
        match chunk.kind:
            case "article" | "their" if not spec.words and spec.opener is None:
                spec.opener = chunk
            case "count" if not spec.words and spec.count is None:
                spec.count = min(int(chunk.word.facts["count"][:4]), MOST_OF_ONE)
                spec.exact = chunk.says("vague") is None
            case "adjective" | "unknown":
                spec.words.append(chunk)
            case "verb" if at > start or fresh:
                spec.words.append(chunk)
            case "vain" if chunk.says("noun") and spec.words:
                return Phrase(chunk, specs, at + 1)
            case "setting" | "vain" if at > start:
                spec.words.append(chunk)
            case "quiet" if at > start:
                pass
            case "and" | "comma" if _joins(spec, chunks, at):
                specs.append(Spec())
            case "noun" | "person" | "subject" | "garment" | "feature":
                if after is None or not _compound(chunk, after, spec):
                    return Phrase(chunk, specs, at + 1)
                if chunk.kind == "noun" and chunk.concept == after.concept:
                    return Phrase(replace(chunk, plural=after.plural), specs, at + 2)  # "a golden retriever puppy"
                if (chunk.kind, after.kind) == ("noun", "person"):
                    return Phrase(chunk, [*specs[:-1], replace(spec, words=[*spec.words, after])], at + 2)
                spec.words.append(chunk)
            case "place":
                if after is None or after.kind not in ("noun", "person", "garment") or not spec.counted:
                    return Phrase(chunk, specs, at + 1)
                spec.words.append(chunk)
            case _:
                break
        at += 1
    return _unknown(specs, chunks, at, named, find)


def _joins(spec: Spec, chunks: Sequence[Chunk], at: int) -> bool:
    """Whether the "and" or comma at `at` stands between adjectives of one noun."""
    if not any(w.kind == "adjective" for w in spec.words) or chunks[at].text in STOPS:
        return False
    after = [c.kind for c in chunks[at + 1 : at + 4]]
    if after[:1] == ["and"]:
        after = after[1:]
    if after[:1] in (["adjective"], ["quiet"]):
        return True
    return spec.counted and len(after) > 1 and after[0] in ("article", "count") and after[1] == "adjective"


def _compound(chunk: Chunk, after: Chunk, spec: Spec) -> bool:
    """Whether the next noun is the head and this one only says more of it: "a robot dog"."""
    if chunk.plural or not {chunk.kind, after.kind} <= {"noun", "person"}:
        return False
    return spec.counted or bool(spec.words) or after.plural or (chunk.kind, after.kind) == ("person", "person")


def _unknown(specs: list[Spec], chunks: Sequence[Chunk], end: int, named: bool, find: Finder) -> Phrase | None:
    """A phrase whose noun no table knows, with the concept that is nearest to it, if there is one."""
    words = specs[-1].words
    if not words or words[-1].kind != "unknown" or words[-1] is not chunks[end - 1]:
        return None
    name = words[-1].text
    if name.endswith(VERBAL) or not (named or specs[-1].counted):
        return None
    concept = find(name)
    if concept is None:
        return None
    words.pop()
    return Phrase(Chunk(name, Word("noun", {}), concept, singular_phrase(name) != name), specs, end)
