"""What the bank's concepts are called: the hand-made lists, and the words that the keyword package adds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from limner.painter.bank import Faces, Size, Surface, normal

CONCEPTS = Path(__file__).with_name("concepts.txt")
FOREIGN = Path(__file__).with_name("foreign.txt")
LANGUAGES = ("zh", "es", "fr", "de", "ja")
KINDS = (None, get_args(Surface), get_args(Size), get_args(Faces))  # what a section's four words may be; None is any

LINE = re.compile(r"([-+~*]?)([a-z0-9-]+)(?: @([a-z]+:[^\s\[]+)(?:\[([a-z,]+)\])?)?(?: = (.+))?")
SPOKEN = frozenset({"smiley", "gesture"})  # groups whose English labels are common in other senses: "a sad face"


class BuildFailed(Exception):
    """The bank cannot be built as concepts.txt asks; the message names every entry at fault."""


@dataclass(frozen=True, slots=True)
class Concept:
    """One line of concepts.txt."""

    name: str
    mark: str  # which set draws it, as concepts.txt explains
    words: tuple[str, ...]  # the label first
    group: str
    surface: str
    size: str
    faces: str
    origin: str = ""  # "set:icon" of the drawing, where it is of one of the other sets
    tints: tuple[str, ...] = ()  # colours of a silhouette's parts, the largest part's first


def read_concepts(text: str) -> list[Concept]:
    """The lines of concepts.txt, in order.

    Raises:
        BuildFailed: a line cannot be read, a name comes twice, or a word names two concepts.
    """
    section: tuple[str, ...] = ()
    found: dict[str, Concept] = {}
    owner: dict[str, str] = {}
    for number, line in enumerate((line.partition("#")[0].strip() for line in text.splitlines()), 1):
        if match := re.fullmatch(r"\[(.+)\]", line):
            section = tuple(match[1].split())
            if len(section) != 4 or any(kind and word not in kind for word, kind in zip(section, KINDS, strict=True)):
                raise BuildFailed(f"concepts.txt line {number}: a section is [group surface size faces], not {line}.")
        elif match := LINE.fullmatch(line):
            mark, name, origin, tints, rest = match.groups()
            if name in found or len(section) != 4:
                raise BuildFailed(f"concepts.txt line {number}: {name} comes twice, or before the first section.")
            words = tuple(word.strip() for word in (rest or name.replace("-", " ")).split(","))
            for word in words:
                if owner.setdefault(normal(word), name) != name:
                    raise BuildFailed(f"concepts.txt line {number}: {word!r} names {owner[normal(word)]} and {name}.")
            colours = tuple(tints.split(",")) if tints else ()
            found[name] = Concept(name, mark, words, *section, origin or "", colours)
        elif line:
            raise BuildFailed(f"concepts.txt line {number} cannot be read: {line}")
    return list(found.values())


def code(point: str) -> str:
    """A code point sequence in one spelling: lower case, without the emoji presentation mark."""
    return point.lower().replace("-fe0f", "")


def lexicon(
    concepts: Sequence[Concept], codes: Mapping[str, str], emojibase: Path
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """English words, and those of the other languages, each with the concept it names.

    Args:
        codes: code points by icon name.
        emojibase: the folder of the unpacked keywords package.
    """
    english = {normal(word): concept.name for concept in concepts for word in concept.words}
    by_code = {codes[concept.name]: concept for concept in concepts if concept.name in codes}
    for label, _, concept in labelled(emojibase, "en", by_code):
        if concept.group not in SPOKEN:
            english.setdefault(normal(label), concept.name)
    everyday = read_foreign(FOREIGN.read_text(), {concept.name for concept in concepts})
    others = {}
    for language in LANGUAGES:
        words = foreign_words(labelled(emojibase, language, by_code), language) | everyday[language]
        others[language] = dict(sorted(words.items()))
    return english, others


def read_foreign(text: str, names: Set[str]) -> dict[str, dict[str, str]]:
    """The lines of foreign.txt: for each language its words and the concepts they name.

    Raises:
        BuildFailed: a line names no concept, or has not five languages, or a word twice.
    """
    found: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        name, _, rest = line.partition(" = ")
        columns = rest.split(";")
        if name not in names or len(columns) != len(LANGUAGES):
            raise BuildFailed(f"foreign.txt: {line!r} is not a concept of the bank and {len(LANGUAGES)} languages.")
        for language, column in zip(LANGUAGES, columns, strict=True):
            for word in column.split(","):
                if found[language].setdefault(word.strip(), name) != name:
                    raise BuildFailed(f"foreign.txt: {word.strip()!r} ({language}) names two concepts.")
    return found


Labelled = tuple[str, list[str], Concept]  # a label and its keywords in one language, lower case, and what they name


def labelled(emojibase: Path, language: str, by_code: Mapping[str, Concept]) -> list[Labelled]:
    """One language's label and keywords of each concept."""
    entries = json.loads((emojibase / language / "compact.json").read_text())
    known = [(entry, by_code[code(entry["hexcode"])]) for entry in entries if code(entry["hexcode"]) in by_code]
    return [
        (entry["label"].lower(), [tag.lower() for tag in entry.get("tags", ())], concept) for entry, concept in known
    ]


def foreign_words(entries: Sequence[Labelled], language: str) -> dict[str, str]:
    """A language's labels, and the keywords that are the head of a label ("manzana" of "manzana roja").

    Other keywords are too loose to draw from. Where several labels share a head, the shortest label has it; heads of
    an animal's face ("cara de perro") are the face, not the animal, and are left out.
    """
    words: dict[str, str] = {}
    lengths: dict[str, int] = {}
    for label, _, concept in entries:
        words[label] = concept.name
        lengths[label] = 0
    for label, tags, concept in entries:
        if concept.group == "animal-head" and " " in label:
            continue
        for tag in tags:
            if _is_head(tag, label, language) and len(label) < lengths.get(tag, 99):
                words[tag], lengths[tag] = concept.name, len(label)
    if language == "ja":
        words |= {_hiragana(word): name for word, name in words.items() if _hiragana(word) not in words}
    return words


def _is_head(tag: str, label: str, language: str) -> bool:
    if language in ("zh", "ja"):
        return _hiragana(label).endswith(_hiragana(tag)) and not label.endswith(("脸", "の顔"))
    parts = label.split(" ")
    return tag == parts[-1 if language == "de" else 0]


def _hiragana(text: str) -> str:
    return "".join(chr(ord(letter) - 0x60) if "ァ" <= letter <= "ヶ" else letter for letter in text)
