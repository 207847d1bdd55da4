"""Counts, colours and positions that a prompt asks for, measured in the scene: a hundred pairs, several seeds."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.planner import ParsingPlanner
from limner.painter.planner.reader import Reader
from limner.painter.scene import Scene, Thing
from limner.painter.words import Words

BANK = Bank.load()
PLANNER = ParsingPlanner(BANK, Words.load(), Reader.load())
LISTED = (
    "dog cat car bench bicycle cow horse elephant bear zebra giraffe umbrella suitcase kite skateboard bottle fork "
    "knife spoon bowl banana apple sandwich broccoli carrot pizza cake chair couch bed toilet laptop clock scissors "
    "toothbrush bus train boat airplane sheep backpack"
)
NOUNS = LISTED.split()
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
PAIRS = [tuple(random.Random(k).sample(NOUNS, 2)) for k in range(100)]
MARGIN = 0.1  # of both sizes: nearer than that, two things are not apart (GenEval, Ghosh et al., 2023)


def a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def found(scene: Scene, noun: str) -> list[Thing]:
    concept = BANK.find(noun)
    return [i for i in scene.items if isinstance(i, Thing) and BANK[i.concept].concept == concept]


def sides(one: Thing, other: Thing, aspect: float) -> set[str]:
    """Where one thing is of another, as GenEval judges it."""
    wide = draft.ratio(one, BANK) * one.height + draft.ratio(other, BANK) * other.height
    dx = (one.x - other.x) * aspect
    dy = (one.y - one.height / 2) - (other.y - other.height / 2)
    dx = math.copysign(max(abs(dx) - MARGIN * wide, 0), dx)
    dy = math.copysign(max(abs(dy) - MARGIN * (one.height + other.height), 0), dy)
    length = math.hypot(dx, dy) or 1.0
    where = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}
    return {name for name, share in where.items() if share / length > 0.5}


@pytest.mark.parametrize("relation", ["left of", "right of", "above", "below"])
def test_two_things_stand_as_the_prompt_says(relation: str) -> None:
    wrong = []
    for number, (one, other) in enumerate(PAIRS):
        aspect = (1.0, 1.7778, 0.5625)[number % 3]
        for seed in range(2):
            scene = PLANNER.plan(f"a photo of {a(one)} {relation} {a(other)}", seed, aspect).scene
            left, right = found(scene, one), found(scene, other)
            if len(scene.items) != 2 or len(left) != 1 or len(right) != 1:
                wrong.append(f"{one} {relation} {other}: {Counter(type(i).__name__ for i in scene.items)}")
            elif relation not in sides(left[0], right[0], aspect):
                wrong.append(f"{one} {relation} {other}, seed {seed}, aspect {aspect}")
    assert wrong == []


def test_each_of_two_things_has_its_own_colour() -> None:
    wrong = []
    for number, (one, other) in enumerate(PAIRS):
        first, second = random.Random(number).sample(COLOURS, 2)
        scene = PLANNER.plan(f"a photo of {a(first)} {one} and {a(second)} {other}", number, 1.0).scene
        for noun, colour in ((one, first), (other, second)):
            things = found(scene, noun)
            shown = [
                t
                for t in things
                if t.colour == colour or (t.colour is None and BANK[t.concept].colours[:1] == (colour,))
            ]
            if len(things) != 1 or not shown:
                wrong.append(f"{colour} {noun} of {first} {one}, {second} {other}: {things}")
        if len(scene.items) != 2:
            wrong.append(f"{len(scene.items)} things for {one} and {other}")
    assert wrong == []


def test_as_many_are_drawn_as_were_asked_for() -> None:
    numbers = ("two", "three", "four", "five", "six", "seven")
    wrong = []
    for number, (one, _) in enumerate(PAIRS):
        noun = {"knife": "knives", "bus": "buses", "sheep": "sheep", "toothbrush": "toothbrushes"}.get(one, f"{one}s")
        noun = one if one in ("scissors", "broccoli") else f"{one}es" if one in ("bench", "sandwich") else noun
        count = number % len(numbers)
        scene = PLANNER.plan(f"a photo of {numbers[count]} {noun}", number, 1.0).scene
        if len(found(scene, one)) != count + 2 or len(scene.items) != count + 2:
            wrong.append(f"{numbers[count]} {noun}: {len(scene.items)}")
    assert wrong == []
