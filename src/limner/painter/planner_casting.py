"""Casting: the choices that a prompt leaves open, made by the seed. Who it is, what they wear, where and when it is.

Every choice has dice of its own, named for what is chosen, so that a word more in the prompt changes nothing else.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, cast

from limner.painter.bank import Bank
from limner.painter.composition import MOUNTS, Relation, Size, Wish
from limner.painter.planner_reading import Mention, Reading
from limner.painter.scene import Colour, Item, Person, Place, Reference, Style, Thing, Time, Weather

MOST_ITEMS = 64  # what a scene may hold
VAGUE = {"thing": (2, 3, 3, 4), "person": (2, 3), "subject": (2,)}  # how many a plural without a number is

CLOTHES = (
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "navy",
    "purple",
    "pink",
    "white",
    "grey",
    "beige",
    "brown",
)
BOTTOMS = ("navy", "blue", "grey", "brown", "black", "beige", "green")
SKINS = ("pale", "light", "light", "tan", "brown", "dark")
HAIRS = {
    ("feminine", "child"): ("bob", "long", "ponytail", "braids", "curly", "bun"),
    ("feminine", "adult"): ("bob", "long", "long", "ponytail", "curly", "bun", "afro", "short"),
    ("feminine", "elder"): ("bun", "bob", "short", "curly"),
    ("masculine", "child"): ("short", "short", "spiky", "curly"),
    ("masculine", "adult"): ("short", "short", "curly", "spiky", "afro", "bald"),
    ("masculine", "elder"): ("short", "bald", "short"),
}
TOPS = {
    "feminine": ("t-shirt", "shirt", "sweater", "dress", "dress", "hoodie", "jacket"),
    "masculine": ("t-shirt", "shirt", "sweater", "hoodie", "jacket"),
}
LEGS = {"feminine": ("jeans", "skirt", "trousers", "shorts"), "masculine": ("jeans", "trousers", "trousers", "shorts")}
FORMAL = ("suit", "robe", "armor", "coat")
POSES = ("standing", "standing", "standing", "waving", "hands-on-hips", "walking")
FACES = ("smile", "smile", "smile", "grin", "neutral")
HATS = ("cap", "beanie", "straw", "cowboy")
WARM = ("coat", "sweater", "jacket", "hoodie")
LIGHT = ("t-shirt", "t-shirt", "shirt")

# Where things are at home, by the bank's groups and, before that, by concept. "+" joins a group to its surface.
HOMES: dict[str, tuple[Place, ...]] = {
    "animal": ("park", "forest", "farm", "mountains"),
    "animal+water": ("underwater",),
    "animal+air": ("sky", "park", "forest", "mountains"),
    "animal-head": ("forest", "mountains", "park"),
    "insect": ("park", "forest"),
    "nature": ("mountains", "park"),
    "plant": ("park", "forest", "farm"),
    "food": ("kitchen", "plain", "park"),
    "drink": ("kitchen", "plain"),
    "dishware": ("kitchen",),
    "sky": ("sky", "mountains", "park"),
    "building": ("park", "mountains", "city"),
    "structure": ("city", "park"),
    "vehicle": ("city", "mountains", "park"),
    "vehicle+air": ("sky",),
    "vehicle+water": ("beach",),
    "marine": ("beach",),
    "toy": ("room", "park", "plain"),
    "sport": ("park", "plain"),
    "music": ("stage", "room"),
    "clothes": ("plain", "room"),
    "furniture": ("room",),
    "household": ("room", "plain"),
    "clock": ("room", "plain"),
    "device": ("room", "plain"),
    "paper": ("library", "room", "plain"),
    "money": ("plain",),
    "tool": ("plain", "room"),
    "heart": ("plain", "sky"),
    "fantasy": ("mountains", "forest", "park"),
    "figure": ("park", "city"),
    "person": ("park", "city", "beach", "mountains", "room"),
}
AT_HOME: dict[tuple[Place, ...], str] = {
    (
        "underwater",
    ): "coral squid octopus jellyfish shrimp lobster diving-mask mermaid woman-merpeople man-merpeople oyster",
    (
        "beach",
    ): "crab seal palm-tree desert-island spiral-shell umbrella-on-ground ring-buoy person-surfing tropical-drink coconut volleyball",
    (
        "snow",
    ): "penguin polar-bear snowman-without-snow sled skis ice-skate mammoth snowboarder snowflake ice-hockey evergreen-tree",
    ("desert",): "camel two-hump-camel cactus scorpion",
    (
        "space",
    ): "rocket satellite flying-saucer alien alien-monster ringed-planet comet astronaut globe-showing-europe-africa robot telescope",
    ("farm",): "cow ox pig ewe goat chicken rooster tractor horse donkey hatching-chick baby-chick sheaf-of-rice goose",
    (
        "forest",
    ): "mushroom deer bear wolf owl chipmunk hedgehog moose person-fairy person-elf unicorn tent axe wood badger boar",
    ("sky",): "airplane small-airplane helicopter parachute rainbow cloud kite dragon phoenix-bird",
    ("room",): "teddy-bear christmas-tree candle",
    (
        "city",
    ): "office-building convenience-store hotel bank school bus taxi police-car traffic-light vertical-traffic-light bus-stop",
    ("mountains",): "castle mountain volcano mount-fuji person-climbing llama eagle",
    ("stage",): "microphone performing-arts mirror-ball",
    ("kitchen",): "cooking pot-of-food teapot",
    ("library",): "books closed-book globe",
    ("park",): "swan duck dog bicycle fountain person-biking",
}
HOME_OF: dict[str, tuple[Place, ...]] = {concept: where for where, all_ in AT_HOME.items() for concept in all_.split()}
NIGHT = frozenset(
    [
        "crescent-moon",
        "full-moon",
        "full-moon-face",
        "star",
        "glowing-star",
        "fireworks",
        "bat",
        "owl",
        "comet",
        "ghost",
    ]
)
INDOORS = frozenset({"room", "library", "kitchen", "stage"})
PLEASANT: tuple[tuple[str, Place], ...] = (
    ("cat", "park"), ("rabbit", "forest"), ("hedgehog", "forest"), ("sailboat", "beach"), ("butterfly", "park"), ("tulip", "park"),
    ("penguin", "snow"), ("tropical-fish", "underwater"), ("duck", "farm"), ("owl", "forest"), ("teddy-bear", "room"), ("whale", "underwater"),
)  # fmt: skip


class Dice:
    """Random generators by name, all of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, *name: str | int) -> random.Random:
        """The generator for one choice; the same name always starts it afresh."""
        return random.Random(f"{self.seed}/{'/'.join(map(str, name))}")  # noqa: S311 - a picture's variety, no secret


@dataclass(frozen=True)
class Setting:
    """Where and when the picture is, and its style."""

    place: Place
    backdrop: Colour | None
    time: Time
    weather: Weather
    style: Style


def cast_all(reading: Reading, references: int, dice: Dice, bank: Bank) -> tuple[list[Wish], Setting]:
    """Choose everything that the reading leaves open; what cannot be had is added to its `unused` and `notes`."""
    _greet(reading, references, dice, bank)
    shown = _references(reading, references)
    setting = _setting(reading, dice, bank)
    second = dice("set").random() < 0.3
    wishes: list[Wish] = []
    room = MOST_ITEMS - len(reading.mentions)
    for index, mention in enumerate(reading.mentions):
        count = mention.count if mention.count is not None else dice("count", index).choice(VAGUE[mention.kind])
        count = min(count, room + 1)
        room -= count - 1
        relation = mention.relation
        if mention.facts.get("air") and relation is None:
            relation = "above"
        held = any(m.relation == "holding" and m.other == index for m in reading.mentions)
        if relation == "on" and mention.kind != "thing" and mention.other is not None:
            anchor = reading.mentions[mention.other]
            if anchor.kind == "thing" and bank[anchor.concept].group in MOUNTS:
                mention = replace(mention, facts=mention.facts | {"pose": "standing"})  # its legs are hidden
        looks: list[Item] = []
        if index in shown:
            looks = [Reference(index=shown[index])]
        elif mention.kind == "thing":
            looks = [_thing(mention, second, reading, bank)]
        else:
            looks = [_person(mention, setting.place, held, dice("person", index, k)) for k in range(count)]
        wishes.append(
            Wish(
                looks[0],
                count,
                cast("Size | None", mention.facts.get("size")),
                cast("Relation | None", relation),
                mention.other,
                tuple(looks[1:]),
            )
        )
    return wishes, setting


def _greet(reading: Reading, references: int, dice: Dice, bank: Bank) -> None:
    """A prompt that names nothing known gets something pleasant, and a note."""
    if reading.mentions or references or reading.hints or "place" in reading.setting:
        return
    concept, place = dice("pleasant").choice(PLEASANT)
    reading.mentions.append(Mention(bank[concept].label, "thing", concept))
    reading.hints.append((place,))
    unknown = ", ".join(f'"{word}"' for word in reading.unused[:6])
    because = (
        f"No word of the prompt names something that can be drawn ({unknown})"
        if unknown
        else "The prompt names nothing to draw"
    )
    reading.notes.append(f"{because}: the picture shows a {bank[concept].label} instead.")


def _references(reading: Reading, references: int) -> dict[int, int]:
    """Which mention is shown as which reference. Mentions are split, or added, so that every reference has one."""
    mentions = reading.mentions
    if not references:
        return {}
    order = [i for i, m in enumerate(mentions) if m.kind == "subject"]
    order += [i for i, m in enumerate(mentions) if m.kind == "person"]
    order += [i for i, m in enumerate(mentions) if m.kind == "thing" and m.pointed and m.relation != "holding"]
    shown: dict[int, int] = {}
    for number in range(references):
        taken = next((i for i in order if i not in shown), None)
        if taken is None:
            mentions.append(Mention("subject", "subject"))
            taken = len(mentions) - 1
        elif (count := mentions[taken].count or 2) > 1:
            rest = Mention(**{f: getattr(mentions[taken], f) for f in Mention.__slots__})
            rest.count, rest.relation, rest.other = count - 1, "beside", taken
            mentions.append(rest)
            order.insert(order.index(taken) + 1, len(mentions) - 1)
        mentions[taken].count = 1
        shown[taken] = number
    for index in shown:
        for name, word in mentions[index].said.items():
            if name != "size":
                reading.waste(word)
    if any(set(mentions[i].said) - {"size"} for i in shown):
        reading.notes.append("A reference is shown as it is: what the prompt says of its looks had no effect.")
    return shown


def _setting(reading: Reading, dice: Dice, bank: Bank) -> Setting:
    said = reading.setting
    place = cast("Place", said["place"]) if "place" in said else _place(reading, dice("place"), bank)
    concepts = [m.concept for m in reading.mentions]
    time, weather = said.get("time"), said.get("weather")
    if time is None:
        hours = ("day",) * 7 + ("dawn", "sunset", "dusk")
        night = any(c in NIGHT for c in concepts)
        time = "night" if night else "day" if "sun" in concepts else dice("time").choice(hours)
    if weather is None:
        airs = ("clear",) * 4 + (("snow",) if place == "snow" else ("cloudy",))
        weather = "clear" if time == "night" else dice("weather").choice(airs)
    backdrop = said.get("backdrop") if place == "plain" else None
    style = said.get("style", "storybook")
    return Setting(
        place, cast("Colour | None", backdrop), cast("Time", time), cast("Weather", weather), cast("Style", style)
    )


def _place(reading: Reading, rng: random.Random, bank: Bank) -> Place:
    """The likeliest place that the prompt hints at, else one where its things are at home."""
    firm = [h for h in reading.hints if h != ("sky",)]
    for hint in firm or reading.hints:
        return cast("Place", rng.choice(hint))
    homes = [_home(m, bank) for m in reading.mentions]
    if "weather" in reading.setting or reading.setting.get("time") not in (None, "day"):
        homes = [tuple(p for p in home if p not in INDOORS) or home for home in homes]
    # A place in which nobody is out of place, if there is one; the main subject decides between them.
    common = [p for p in homes[0] if all(p in home for home in homes[1:])]
    return rng.choice(common or list(homes[0]))


def _home(mention: Mention, bank: Bank) -> tuple[Place, ...]:
    if mention.kind != "thing":
        return HOMES["person"]
    if mention.concept in HOME_OF:
        return HOME_OF[mention.concept]
    drawing = bank[mention.concept]
    return HOMES.get(f"{drawing.group}+{drawing.surface}") or HOMES.get(drawing.group) or ("plain",)


def _thing(mention: Mention, second: bool, reading: Reading, bank: Bank) -> Thing:
    names = bank.variants(mention.concept)
    name = names[1] if second and len(names) > 1 else names[0]
    colour = cast("Colour | None", mention.facts.get("colour"))
    if colour is not None:
        able = [n for n in (name, *names) if bank[n].recolourable or bank[n].colours[:1] == (colour,)]
        if not able:
            reading.waste(mention.said["colour"])
            reading.notes.append(f"The {bank[name].label} keeps its own colours: it cannot be drawn in {colour}.")
            return Thing(concept=name)
        name = able[0]
    return Thing(concept=name, colour=colour)


def _person(mention: Mention, place: Place, busy: bool, rng: random.Random) -> Person:
    """Someone who is all that was said, and for the rest whoever the dice say."""
    facts: dict[str, Any] = {**mention.usual, **mention.facts}
    open_ = {
        "hat": mention.facts.get("hat") != "",
        "glasses": mention.facts.get("glasses") != "",
        "beard": mention.facts.get("beard") != "",
    }
    if facts.get("age") == "young":
        facts["age"] = mention.usual.get("age", "adult")
    if facts.get("hat") == "any":
        facts["hat"] = mention.usual.get("hat") or rng.choice(HATS)
    age = facts.get("age", "adult")
    if "build" not in facts:
        facts["build"] = "masculine" if facts.get("beard") else rng.choice(("feminine", "masculine"))
    build = facts["build"]
    dressed = "top" in facts or "bottom" in facts
    cold, hot = place == "snow", place == "beach"
    tops = WARM if cold else LIGHT if hot and "bottom" in facts else TOPS[build]
    picks: dict[str, Any] = {
        "age": age,
        "skin": rng.choice(SKINS),
        "hair": rng.choice(HAIRS[build, age]),
        "hair_colour": rng.choice(("grey", "white"))
        if age == "elder"
        else rng.choice(("black", "brown", "brown", "blonde", "red")),
        "top": rng.choice([t for t in tops if t != "dress" or "bottom" not in facts]),
        "top_colour": rng.choice(CLOTHES),
        "pose": "standing" if busy else rng.choice(POSES),
        "expression": rng.choice(FACES),
        "hat": "beanie" if cold and open_["hat"] and rng.random() < 0.5 else None,
        "glasses": "round" if open_["glasses"] and rng.random() < 0.08 else None,
        "beard": "full" if build == "masculine" and age != "child" and open_["beard"] and rng.random() < 0.2 else None,
    }
    legs, bottoms = rng.choice(LEGS[build]), [c for c in BOTTOMS if c != facts.get("top_colour", picks["top_colour"])]
    top = facts.get("top", picks["top"])
    picks["bottom"] = (
        "shorts"
        if hot and not dressed
        else "trousers"
        if top in FORMAL or (cold and legs in ("shorts", "skirt"))
        else legs
    )
    picks["bottom_colour"] = facts.get("top_colour", picks["top_colour"]) if top == "suit" else rng.choice(bottoms)
    if picks["bottom"] == "jeans" and "bottom" not in facts:
        picks["bottom_colour"] = rng.choice(("blue", "navy"))
    merged = picks | {k: v for k, v in facts.items() if k in Person.model_fields}
    return Person.model_validate({k: v if v != "" else None for k, v in merged.items()})
