"""Casting: the choices that a prompt leaves open, made by the seed. Who it is, what they wear, where and when it is.

Every choice has dice of its own, named for what is chosen, so that a word more in the prompt changes nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

from limner.painter.bank import Bank
from limner.painter.composition import LIGHT, MOUNTS, Relation, Size, Wish
from limner.painter.planner.granted import grant
from limner.painter.planner.reading import ANIMATE, Mention, Reading
from limner.painter.planner.setting import PLEASANT, Dice, Setting, setting_of
from limner.painter.scene import Colour, Item, Person, Place, Reference, Thing

MOST_GROUPS = 8
MOST_ITEMS = 64  # what a scene may hold
VAGUE = {"thing": (2, 3, 3, 4), "person": (2, 3), "subject": (2,)}  # how many a plural without a number is

FAMILY: tuple[dict[str, str], ...] = ({"build": "masculine"}, {"build": "feminine"}, {"age": "child"}, {"age": "child"})
CLOTHES = (
    "red", "orange", "yellow", "green", "teal", "blue", "navy", "purple", "pink", "white", "grey", "beige", "brown",
)  # fmt: skip
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
COOL = ("t-shirt", "t-shirt", "shirt")
GREY = ("grey", "white")
HAIR_COLOURS = ("black", "brown", "brown", "blonde", "red")


def cast_all(
    reading: Reading, references: int, dice: Dice, bank: Bank, busts: Collection[int] = ()
) -> tuple[list[Wish], Setting]:
    """Choose everything that the reading leaves open; what cannot be had is added to its `unused` and `notes`.

    `busts` are the numbers of those references that their own pictures' lower edges cut.
    """
    _greet(reading, references, dice, bank)
    shown = _references(reading, references)
    _let_fly(reading)
    setting = setting_of(reading, dice, bank)
    shown = _limit(reading, grant(reading, setting, shown, bank), bank)
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
        if relation in ("with", "around"):
            relation = "beside"
        looks: list[Item] = []
        role: Item | None = None
        if index in shown:
            looks, role = [Reference(index=shown[index])], _role(mention)
        elif mention.kind == "thing":
            looks = [_thing(mention, second, reading, bank)]
        else:
            roles = FAMILY if mention.noun in ("family", "families") else ({},)
            kin = [replace(mention, usual={**mention.usual, **roles[k % len(roles)]}) for k in range(count)]
            looks = [_person(m, setting.place, held, dice("person", index, k)) for k, m in enumerate(kin)]
        wishes.append(
            Wish(
                looks[0],
                count,
                cast("Size | None", mention.facts.get("size")),
                cast("Relation | None", relation),
                mention.other,
                tuple(looks[1:]),
                role,
                shown.get(index) in busts,
            )
        )
    return _surround(reading, wishes), setting


def _let_fly(reading: Reading) -> None:
    """Who flies a kite stands on the ground, and the kite is over them."""
    for index, (person, thing) in enumerate(pairwise(reading.mentions)):
        if person.kind != "thing" and person.facts.get("air") and thing.concept in LIGHT and thing.relation is None:
            del person.facts["air"]
            thing.relation, thing.other = "above", index


def _limit(reading: Reading, shown: dict[int, int], bank: Bank) -> dict[int, int]:
    """Leave out what is too much for a picture: the last things named, before people and animals."""
    mentions = reading.mentions
    over = len(mentions) - max(MOST_GROUPS, len(shown))
    if over <= 0:
        return shown
    lively = [m.kind != "thing" or bank[m.concept].group in ANIMATE for m in mentions]
    rest = sorted((i for i in range(len(mentions)) if i not in shown), key=lambda i: (i == 0, lively[i], -i))
    for index in sorted(rest[:over]):
        reading.waste(mentions[index].noun)
    reading.notes.append(f"A picture shows up to {MOST_GROUPS} groups: what more the prompt names is not drawn.")
    return reading.drop(rest[:over], shown)


def _surround(reading: Reading, wishes: list[Wish]) -> list[Wish]:
    """Half of what is around something goes to each side of it."""
    halves: list[Wish] = []
    for index, mention in enumerate(reading.mentions):
        wish = wishes[index]
        if wish.count > 1 and (mention.relation == "around" or (mention.relation == "with" and not mention.exact)):
            less = wish.count // 2
            if mention.kind == "thing":
                wish = replace(wish, size=wish.size or "small")
            wishes[index] = replace(
                wish, count=wish.count - less, relation="left", looks=wish.looks[: wish.count - less - 1]
            )
            item = wish.looks[-less] if wish.looks else wish.item
            halves.append(
                replace(wish, item=item, count=less, relation="right", looks=wish.looks[len(wish.looks) - less + 1 :])
            )
    return wishes + halves


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
            mentions.append(replace(mentions[taken], count=count - 1, relation="beside", other=taken))
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


def _role(mention: Mention) -> Item | None:
    """What a reference stands in for, by the mention's noun: a mug is small, a child not as tall as a man."""
    if mention.kind == "thing":
        return Thing(concept=mention.concept)
    age = mention.facts.get("age", mention.usual.get("age"))
    if age in ("child", "elder"):
        return Person(age=age)
    return Person() if mention.kind == "person" or "build" in {**mention.usual, **mention.facts} else None  # "she"


def _thing(mention: Mention, second: bool, reading: Reading, bank: Bank) -> Thing:
    names = bank.variants(mention.concept)
    name = names[1] if second and len(names) > 1 else names[0]
    colour = cast("Colour | None", mention.facts.get("colour"))
    if colour is not None:
        able = [n for n in (name, *names) if bank[n].recolourable or bank[n].colours[:1] == (colour,)]
        if not able:
            reading.waste(mention.said.get("colour", ""))
            reading.notes.append(f"The {bank[name].label} keeps its own colours: it cannot be drawn in {colour}.")
            return Thing(concept=name)
        name = able[0]
    return Thing(concept=name, colour=colour)


def _person(mention: Mention, place: Place, busy: bool, rng: random.Random) -> Person:
    """Someone who is all that was said, and for the rest whoever the dice say. "" is what was said not to be there."""
    facts: dict[str, Any] = {**mention.usual, **mention.facts}
    if facts.get("age") == "young":
        facts["age"] = mention.usual.get("age", "adult")
    if facts.get("hat") == "any":
        facts["hat"] = mention.usual.get("hat") or rng.choice(HATS)
    looks: dict[str, Any] = {
        "age": "adult",
        "build": "masculine" if facts.get("beard") else rng.choice(("feminine", "masculine")),
    } | facts
    build, age = looks["build"], looks["age"]
    cold, hot = place == "snow", place == "beach"
    looks = {
        "skin": rng.choice(SKINS),
        "hair": rng.choice(HAIRS[build, age]),
        "hair_colour": rng.choice(GREY if age == "elder" else HAIR_COLOURS),
        "top": rng.choice(WARM if cold else COOL if hot or "bottom" in facts else TOPS[build]),
        "top_colour": rng.choice(CLOTHES),
        "pose": "standing" if busy else rng.choice(POSES),
        "expression": rng.choice(FACES),
        "hat": "beanie" if cold and rng.random() < 0.5 else "",
        "glasses": "round" if rng.random() < 0.08 else "",
        "beard": "full" if build == "masculine" and age != "child" and rng.random() < 0.2 else "",
    } | looks
    legs = "shorts" if hot and "top" not in mention.usual else rng.choice(LEGS[build])
    if looks["top"] in FORMAL or (cold and legs in ("shorts", "skirt")):
        legs = "trousers"
    shades = ("blue", "navy") if legs == "jeans" and "bottom" not in facts else BOTTOMS
    shade = rng.choice([c for c in shades if c != looks["top_colour"]])
    looks = {"bottom": legs, "bottom_colour": looks["top_colour"] if looks["top"] == "suit" else shade} | looks
    fields = Person.model_fields
    return Person.model_validate({k: None if v == "" else v for k, v in looks.items() if k in fields})
