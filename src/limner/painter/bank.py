"""The bank: open drawings of the things that a prompt can name, and the words that name them.

A folder of five files: meta.json (what, from where, checksums), index.json (every drawing's facts), drawings.xz (their
SVG in blocks of fifty, each an xz stream), lexicon.json (English words) and languages.json.xz (five more languages).
`limner.painter.training.build_bank` writes it. Nothing is decompressed until a drawing is asked for.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from limner.painter.folder import read_folder
from limner.painter.recolour import moved, replaced
from limner.painter.scene import Colour

FORMAT = 1
DEFAULT = Path(__file__).parent / "bank"
FILES = ("index.json", "drawings.xz", "lexicon.json", "languages.json.xz")
MAKER = "limner.painter.training.build_bank"
Surface = Literal["ground", "water", "air", "indoor", "any"]
Size = Literal["tiny", "small", "medium", "large", "huge"]
Faces = Literal["left", "right", "front"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One drawing and what is known of it."""

    name: str  # unique: the concept's name, or "concept--set" for its drawing in another set
    concept: str
    label: str  # singular English noun phrase, "apple"
    source: str  # key of meta.json's sources
    group: str  # "animal", "food", "vehicle", ...
    surface: Surface  # where it belongs
    size: Size  # its height in the world: tiny under 0.15 m, small to 0.5, medium to 2, large to 6, huge
    faces: Faces
    box: tuple[float, float, float, float]  # x, y, width, height of what it draws, in its own units
    colours: tuple[Colour, ...]  # its main colours, the largest first
    recolourable: bool  # whether its main part is enough of it for a colour word to mean the whole
    body: Mapping[str, float] = field(repr=False)  # the "#rrggbb" of its main part, each with its share of the area
    svg: str = field(repr=False)  # elements without a root; every colour is #rrggbb, every id starts with the name


class Bank:
    """All drawings, by name. Made by `Bank.load`; reading it from several threads is safe."""

    def __init__(
        self, meta: dict[str, Any], index: dict[str, Any], packed: bytes, words: dict[str, str], foreign: bytes
    ) -> None:
        self.meta: Mapping[str, Any] = meta
        self._rows: dict[str, dict[str, Any]] = {row["name"]: row for row in index["drawings"]}
        self._extents: list[list[int]] = index["blocks"]
        self._packed = packed
        self._blocks: dict[int, bytes] = {}
        self._drawings: dict[str, Drawing] = {}
        self._languages_packed = foreign
        self._languages: dict[str, dict[str, str]] = {}
        self._variants: dict[str, list[str]] = {}
        for name, row in self._rows.items():
            self._variants.setdefault(row["concept"], []).append(name)
        self.names: tuple[str, ...] = tuple(self._variants)
        self.words: Mapping[str, str] = words

    @classmethod
    def load(cls, path: Path = DEFAULT) -> Bank:
        """Read the bank's folder.

        Raises:
            ModelUnusable: a file is missing, changed, or of another format than this program reads.
        """
        meta, contents = read_folder(path, "The bank of drawings", {"format": FORMAT}, FILES, MAKER)
        index, packed, lexicon, languages = contents
        return cls(meta, json.loads(index), packed, json.loads(lexicon)["words"], languages)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __len__(self) -> int:
        """How many concepts there are; `meta` counts the drawings."""
        return len(self.names)

    def __getitem__(self, name: str) -> Drawing:
        """The drawing of that name.

        Raises:
            KeyError: there is none.
        """
        drawing = self._drawings.get(name)
        if drawing is None:
            if name not in self._rows:
                raise KeyError(f"The bank has no drawing named {name!r}.")
            drawing = self._drawings[name] = self._read(self._rows[name])
        return drawing

    def _read(self, row: dict[str, Any]) -> Drawing:
        facts = {key: value for key, value in row.items() if key not in ("block", "at", "length")}
        block = self._blocks.get(row["block"])
        if block is None:
            start, length = self._extents[row["block"]]
            block = self._blocks[row["block"]] = lzma.decompress(self._packed[start : start + length])
        facts["svg"] = block[row["at"] : row["at"] + row["length"]].decode()
        facts["box"] = tuple(row["box"])
        facts["colours"] = tuple(row["colours"])
        return Drawing(**facts)

    def variants(self, concept: str) -> tuple[str, ...]:
        """Names of all drawings of a concept, the main one first.

        Raises:
            KeyError: the bank has no such concept.
        """
        if concept not in self._variants:
            raise KeyError(f"The bank has no concept named {concept!r}.")
        return tuple(self._variants[concept])

    def find(self, words: str) -> str | None:
        """The concept that an English noun phrase names exactly: "a puppy", "Red apples". None where none does.

        For words that are near in meaning only, see `limner.painter.words.Words.nearest`.
        """
        phrase = normal(words)
        return self.words.get(phrase) or self.words.get(singular_phrase(phrase))

    def foreign(self, language: Literal["zh", "es", "fr", "de", "ja"]) -> Mapping[str, str]:
        """Words of another language, lower case, and the concepts they name."""
        if not self._languages:
            self._languages = json.loads(lzma.decompress(self._languages_packed))
        return self._languages[language]


def recolour(drawing: Drawing, colour: Colour) -> str:
    """The drawing's SVG with its main part in another colour; shading, outlines, eyes and other parts stay.

    A drawing whose main part already has the asked colour is returned as it is.
    """
    return replaced(drawing.svg, moved(drawing.body, colour))


# fmt: off
IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth", "geese": "goose",
    "mice": "mouse", "people": "person", "oxen": "ox", "leaves": "leaf", "wolves": "wolf", "knives": "knife",
    "loaves": "loaf", "calves": "calf", "scarves": "scarf", "shelves": "shelf", "bookshelves": "bookshelf",
    "elves": "elf", "hooves": "hoof", "lice": "louse", "dice": "die", "cacti": "cactus", "fungi": "fungus",
    "octopi": "octopus", "firemen": "fireman", "policemen": "policeman", "snowmen": "snowman",
    "spacemen": "spaceman", "mermen": "merman", "fishermen": "fisherman", "potatoes": "potato",
    "tomatoes": "tomato", "mangoes": "mango", "volcanoes": "volcano", "buffaloes": "buffalo",
    "tornadoes": "tornado", "heroes": "hero", "superheroes": "superhero", "dominoes": "domino",
    "mosquitoes": "mosquito", "shoes": "shoe", "canoes": "canoe", "cookies": "cookie", "pies": "pie",
    "ties": "tie", "neckties": "necktie", "movies": "movie", "brownies": "brownie", "budgies": "budgie",
    "collies": "collie", "houses": "house", "horses": "horse", "vases": "vase", "roses": "rose", "purses": "purse",
    "noses": "nose", "nurses": "nurse", "cases": "case", "suitcases": "suitcase", "briefcases": "briefcase",
    "bookcases": "bookcase", "lighthouses": "lighthouse", "blouses": "blouse", "cheeses": "cheese", "axes": "axe",
    "pickaxes": "pickaxe", "toes": "toe", "moose": "moose", "sheep": "sheep",
}
SAME = frozenset((
    "glasses", "sunglasses", "trousers", "jeans", "shorts", "pants", "scissors", "binoculars", "bus", "gas",
    "cactus", "octopus", "walrus", "lens", "canvas", "grass", "cross", "class", "dress", "chess", "lotus",
    "hibiscus", "asparagus", "hippopotamus", "platypus", "circus", "virus", "fungus", "abacus", "campus",
    "compass", "mattress", "goggles", "headphones", "princess", "actress", "fortress", "waitress", "hostess",
    "molasses", "watercress", "fries", "chopsticks", "maracas", "christmas", "paris", "cyclops", "species",
    "series", "stegosaurus", "brontosaurus", "diplodocus", "brachiosaurus", "skis", "claus", "iris", "tennis",
    "bellows", "citrus", "cosmos", "atlas", "abs", "bonus", "triceratops", "kudos", "ibis", "bias", "glass",
    "brass", "bass", "moss", "boss", "kiss", "venus", "uranus", "mars",
))
# fmt: on


def singular(word: str) -> str:
    """The singular of an English noun in lower case; a word that is none comes back as it was."""
    if word in SAME or len(word) < 4 or not word.endswith(("s", "i", "e", "n")):
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    if word.endswith("uses"):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def singular_phrase(phrase: str) -> str:
    """A noun phrase with its head in the singular: the word before the first "of", "in" or the like, or the last."""
    words = phrase.split(" ")
    joints = [at for at, word in enumerate(words) if at and word in ("of", "in", "with", "on", "and")]
    head = (joints[0] if joints else len(words)) - 1
    # Glasses alone are worn; those of wine are many of one.
    words[head] = "glass" if head and words[head] == "glasses" else singular(words[head])
    return " ".join(words)


def normal(words: str) -> str:
    """Lower case, single spaces, plain apostrophes, no article in front, no punctuation at the ends."""
    plain = words.lower().replace("’", "'").replace("-", " ")
    parts = plain.strip(" .,;:!?\"'()").split()
    if len(parts) > 1 and parts[0] in ("a", "an", "the", "some", "one"):
        parts = parts[1:]
    return " ".join(parts)
