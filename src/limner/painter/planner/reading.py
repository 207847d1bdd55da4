"""What a prompt says, as data: who and what it names, how each looks, how they stand to each other, and where it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from limner.painter.bank import Bank
from limner.painter.planner.chunks import Chunk

ANIMATE = frozenset({"animal", "animal-head", "insect", "figure", "fantasy"})  # groups of the bank
MOST_MENTIONS = 16
SETTINGS = ("place", "time", "weather", "style", "frame")
LOOKS = ("age", "build", "skin", "hair", "hair_colour", "beard", "glasses", "hat", "top", "expression", "pose", "size")
CLOTHES = {"top": "top_colour", "bottom": "bottom_colour", "hat": "hat_colour"}
HAIR_COLOURS = {
    "yellow": "blonde", "gold": "blonde", "beige": "blonde", "orange": "red", "silver": "grey", "navy": "blue",
    "teal": "blue",
}  # fmt: skip
SEATS = ("chair", "sofa", "couch", "bed", "seat", "bench", "throne", "stool", "hammock", "swing")  # ends of names
SKINS = {"white": "light", "black": "dark", "beige": "tan", "gold": "tan", "brown": "brown", "dark": "dark"}


def inside(concept: str, bank: Bank) -> str:
    """What "in" means with a thing: in a box, on a chair, in front of a house, which is drawn from outside."""
    drawing = bank[concept]
    if drawing.label.endswith(SEATS) or drawing.concept == "couch-and-lamp":
        return "on"
    return "front" if drawing.group == "building" else "inside"


def able(mention: Mention, bank: Bank) -> bool:
    """Whether someone or something can hold things."""
    return mention.kind != "thing" or bank[mention.concept].group in ANIMATE


@dataclass(slots=True)
class Mention:
    """A group of equal things or people that the prompt names."""

    noun: str
    kind: Literal["thing", "person", "subject"]
    concept: str = ""
    count: int | None = 1  # None: a plural without a number
    pointed: bool = False  # "this dog", "the girl"
    exact: bool = False  # counted with a number: "two trees", not "some trees"
    late: bool = False  # named after the place
    usual: Mapping[str, str] = field(default_factory=dict)  # what the noun says of itself: a king has a crown
    facts: dict[str, str] = field(default_factory=dict)  # what was said of this one; "" denies a part
    said: dict[str, str] = field(default_factory=dict)  # by which words
    relation: str | None = None
    other: int | None = None  # which mention it stands to

    def note(self, name: str, value: str, text: str) -> bool:
        """Keep a fact and the word that says it. False where another was said before."""
        if self.facts.setdefault(name, value) != value:
            return False
        self.said.setdefault(name, text)
        return True


@dataclass(slots=True)
class Reading:
    """What a prompt says."""

    mentions: list[Mention] = field(default_factory=list)
    setting: dict[str, str] = field(default_factory=dict)  # place, backdrop, time, weather, style, frame
    hints: list[tuple[str, ...]] = field(default_factory=list)  # places that it makes likely
    unused: list[str] = field(default_factory=list)
    granted: list[str] = field(default_factory=list)  # what the place draws by itself
    notes: list[str] = field(default_factory=list)

    def waste(self, text: str) -> None:
        """Note a word that had no effect."""
        if text and text not in self.unused:
            self.unused.append(text)

    def drop(self, indices: Collection[int], shown: dict[int, int]) -> dict[int, int]:
        """Take mentions out; what stood to them stands by itself. Returns `shown` by the new numbers."""
        kept = [i for i in range(len(self.mentions)) if i not in indices]
        numbers = {old: new for new, old in enumerate(kept)}
        for mention in self.mentions:
            if mention.other in indices:
                mention.relation = mention.other = None
            elif mention.other is not None:
                mention.other = numbers[mention.other]
        self.mentions[:] = [self.mentions[i] for i in kept]
        return {numbers[index]: reference for index, reference in shown.items()}

    def between(self, middle: int, to: Sequence[int]) -> bool:
        """Put mentions to both sides of another, parting several of one kind. Whether both sides are taken then."""
        one = self.mentions[to[0]]
        if len(to) == 1 and (one.count or 2) > 1 and len(self.mentions) < MOST_MENTIONS:
            twin = replace(one, count=(one.count or 2) // 2, facts=dict(one.facts), said=dict(one.said))
            one.count = (one.count or 2) - (twin.count or 1)
            self.mentions.append(twin)
            to = [*to, len(self.mentions) - 1]
        for index, side in zip(to, ("left", "right"), strict=False):
            self.mentions[index].relation, self.mentions[index].other = side, middle
        return len(to) > 1

    def bind(self, words: list[Chunk], head: Chunk, to: list[Mention]) -> None:
        """Give adjectives to what they are about; those that say nothing of it had no effect."""
        for word in words:
            facts = word.word.facts
            used = [self._say(key, value, word, head, to) for key, value in facts.items() if key not in SETTINGS]
            known = word.kind not in ("unknown", "vain", "noun")
            if not (known and (any(used) or not facts or self.set_scene(word))):
                self.waste(word.text)

    def _say(self, key: str, value: str, word: Chunk, head: Chunk, to: list[Mention]) -> bool:
        """Say one fact of the head. False where it is of no use there."""
        paints = head.says("paints")
        fields: list[str] = []
        match head.kind:
            case "noun" if key in ("colour", "size", "air"):
                fields = [key]
            case "person" | "subject" if key in LOOKS:
                fields = [key]
            case "person" | "subject" if key == "colour":
                fields, value = (["skin"], SKINS[value]) if value in ("white", "black") else (["top_colour"], value)
            case "garment" if key == "colour" and paints == "clothes":
                fields = ["top_colour", "bottom_colour"]
            case "garment" if key == "colour":
                fields = [CLOTHES[part] for part in head.word.facts if part in CLOTHES]
            case "garment" | "feature" if key in ("expression", "pose"):
                fields = [key]
            case "feature" if paints == "hair_colour" and key in ("colour", "hair_colour"):
                fields, value = ["hair_colour"], HAIR_COLOURS.get(value, value)
            case "feature" if paints == "hair_colour" and key in ("length", "hair"):
                fields = ["hair"]
            case "feature" if paints == "skin" and (key == "skin" or (key in ("colour", "tone") and value in SKINS)):
                fields, value = ["skin"], SKINS.get(value, value)
            case "feature" if {"hair", "beard"} & set(head.word.facts) and key in ("colour", "hair_colour"):
                fields, value = ["hair_colour"], HAIR_COLOURS.get(value, value)
            case "feature" if "beard" in head.word.facts and key == "length":
                return True  # a full beard is long
            case "place" if key == "colour" and paints == "backdrop":
                self.setting.setdefault("place", "plain")
                self.setting.setdefault("backdrop", value)
                return True
        done = [mention.note(name, value, word.text) for mention in to for name in fields]  # all of them, not up to one
        return any(done)

    def set_scene(self, chunk: Chunk) -> bool:
        """Take what a chunk says of the whole picture. False where it says nothing."""
        said = False
        setting = self.setting
        for key, value in chunk.word.facts.items():
            if key in SETTINGS:
                setting.setdefault(key, value)
                said = said or setting[key] == value or key == "place"
            elif key == "hint":
                self.hints.append(tuple(value.split(",")))
                said = True
        return said
