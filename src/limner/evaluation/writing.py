"""How prompts.jsonl was written: GenEval's six tasks over the classes, in as many ways of speaking as came to mind.

    python -m limner.evaluation.writing

The combinations are drawn with a fixed seed. No phrase is from the planner's training; a change here is a change of the
yardstick, so that scores before and after cannot be compared.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from limner.evaluation.classes import CLASSES, Class
from limner.evaluation.prompts import FILE, RELATIONS, Prompt, Relation, Task, Wanted
from limner.painter.scene import Colour

SEED = 553
SIZES: dict[Task, int] = {
    "one-object": 80, "two-objects": 99, "counting": 80, "colours": 94, "position": 100, "colour-attribution": 100,
}  # fmt: skip
"""Prompts a task, as GenEval has them."""

ASKED: tuple[Colour, ...] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
FINER: dict[Colour, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"), "green": ("emerald",), "blue": ("azure", "sapphire-blue"), "purple": ("violet",),
    "black": ("jet-black",), "white": ("snow-white",), "brown": ("chocolate-brown",), "yellow": ("lemon-yellow",),
}  # fmt: skip
"""Other words for a colour, for one prompt in six."""

ONE = (
    "a photo of {a}", "{a}", "just {a}, nothing more", "{noun}", "one single {noun}", "show me {a}, please",
    "{a} all by itself", "here we see {a}", "a lone {noun}", "somebody drew {a}", "{a}, centered", "this is {a}",
    "a rather charming {noun}", "can you paint {a}?", "{a}. That is all.", "an everyday {noun}",
    "our subject today: {a}", "look, {a}!", "nothing but {a}", "a very plain picture of {a}",
)  # fmt: skip
TWO = (
    "a photo of {a} and {b}", "{a} and {b}", "{a} with {b}", "{a} next to {b}", "both {a} and {b}", "{a} plus {b}",
    "{noun}, {other}", "{a} beside {b} and nothing else", "two things: {a} and {b}", "{a} together with {b}",
    "{a} in the company of {b}", "here is {a}, and here is {b}", "{a} standing near {b}", "{a}, {b} and nothing else",
    "I want {a} and also {b}", "{a} meets {b}", "side by side: {a}, {b}", "there is {a} as well as {b}",
)  # fmt: skip
COUNT = (
    "{n} {plural}", "a photo of {n} {plural}", "exactly {n} {plural}", "a group of {n} {plural}",
    "{plural}, {d} of them", "{n} {plural} side by side", "{n} {plural} in a row", "there are {n} {plural}",
    "I count {n} {plural}", "{d} {plural}", "{n} identical {plural}",
    "please draw {n} {plural}, no more and no fewer", "{n} lovely {plural}", "a set of {n} {plural}",
    "not one but {n} {plural}", "{plural} ({d})",
)  # fmt: skip
COLOURED = (
    "a photo of {c} {noun}", "{c} {noun}", "{a} that is {k}", "{bare} {noun}", "one {bare} {noun}, nothing else",
    "{a} painted {k}", "{a} in {k}", "{a}; its colour is {k}", "{a}, {k} all over",
    "{c} {noun} on its own", "give me {a} and make it {k}", "this {noun} is {k}", "{a} with a {k} color",
    "the {noun} happens to be {k}", "a shiny {bare} {noun}",
)  # fmt: skip
SIDE = (
    "{a} to the {side} of {b}", "{a} on the {side} of {b}", "a photo of {a} {side} of {b}",
    "there is {a} to the {side} of {b}", "{b} with {a} on its {side}", "{b}, and to its {side} {a}",
    "on the {side}, {a}; on the {back}, {b}", "{a} is on the {side} and {b} is on the {back}",
    "{b} stands to the {back} of {a}", "{side}: {a}, {back}: {b}", "put {a} on the {side} side of {b}",
    "{a} sits {side} of {b}",
)  # fmt: skip
OVER = (
    "{a} above {b}", "{a} over {b}", "a photo of {a} above {b}", "{a} floating above {b}", "{b} below {a}",
    "{b} underneath {a}", "there is {a} directly above {b}", "at the top {a}, at the bottom {b}", "{b} beneath {a}",
    "{a} hangs over {b}", "{b} is under {a}", "{a} up high, {b} down low",
)  # fmt: skip
UNDER = (
    "{a} below {b}", "{a} underneath {b}", "a photo of {a} below {b}", "{a} beneath {b}", "{b} above {a}",
    "there is {a} directly below {b}", "at the bottom {a}, at the top {b}", "{b} floats over {a}", "{a} is under {b}",
    "{b} over {a}", "{a} lies below {b}", "{b} up high, {a} down low",
)  # fmt: skip
BOTH = (
    "a photo of {c} {noun} and {e} {other}", "{c} {noun} and {e} {other}", "{c} {noun} next to {e} {other}",
    "the {noun} is {k}, the {other} is {m}", "{a} in {k} and {b} in {m}", "{bare} {noun}, {mare} {other}",
    "{c} {noun} with {e} {other}", "{a} that is {k} beside {b} that is {m}", "{e} {other} and {c} {noun}",
    "{c} {noun} accompanied by {e} {other}", "one {bare} {noun}, one {mare} {other}",
    "{c}-colored {noun} and {e}-colored {other}", "both {c} {noun} and {e} {other}", "{c} {noun} meets {e} {other}",
)  # fmt: skip
NUMBERS = {2: "two", 3: "three", 4: "four"}


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def write() -> list[Prompt]:
    """All prompts; the same on every machine."""
    rng = random.Random(SEED)  # noqa: S311  a fixed choice, no secret
    coloured = [one for one in CLASSES if one.coloured]
    prompts = [
        Prompt("one-object", _say(ONE, k, a=article(one.noun), noun=one.noun), (Wanted(one.concept),))
        for k, one in enumerate(CLASSES)
    ]
    for k, (one, other) in enumerate(_pairs(CLASSES, SIZES["two-objects"], rng)):
        said = _say(TWO, k, a=article(one.noun), b=article(other.noun), noun=one.noun, other=other.noun)
        prompts.append(Prompt("two-objects", said, (Wanted(one.concept), Wanted(other.concept))))
    for k, one in enumerate(rng.sample(CLASSES, len(CLASSES))):
        count = (2, 3, 4)[k % 3]
        said = _say(COUNT, k, n=NUMBERS[count], d=str(count), plural=one.plural)
        prompts.append(Prompt("counting", said, (Wanted(one.concept, count),)))
    shuffled = rng.sample([(one, c) for one in coloured for c in ASKED], len(coloured) * len(ASKED))
    for k, (one, colour) in enumerate(_even(shuffled, SIZES["colours"])):
        word = _word(colour, k)
        said = _say(COLOURED, k, c=article(word), k=word, bare=word, a=article(one.noun), noun=one.noun)
        prompts.append(Prompt("colours", said, (Wanted(one.concept, 1, colour),)))
    for k, (one, other) in enumerate(_pairs(CLASSES, SIZES["position"], rng)):
        relation = RELATIONS[k % 4]
        prompts.append(_placed(one, other, relation, k // 4))
    for k, (one, other) in enumerate(_pairs(coloured, SIZES["colour-attribution"], rng)):
        colour, second = rng.sample(ASKED, 2)
        word, last = _word(colour, k), _word(second, k + 3)
        said = _say(
            BOTH, k, c=article(word), k=word, bare=word, noun=one.noun, e=article(last), m=last, mare=last,
            other=other.noun, a=article(one.noun), b=article(other.noun),
        )  # fmt: skip
        facts = (Wanted(one.concept, 1, colour), Wanted(other.concept, 1, second))
        prompts.append(Prompt("colour-attribution", said, facts))
    return prompts


def _say(phrases: Sequence[str], number: int, /, **words: str) -> str:
    return phrases[number % len(phrases)].format(**words)


def _word(colour: Colour, k: int) -> str:
    finer = FINER.get(colour, ())
    return finer[k // 6 % len(finer)] if finer and k % 6 == 5 else colour


def _pairs(classes: Sequence[Class], count: int, rng: random.Random) -> list[tuple[Class, Class]]:
    """Different pairs of different classes; every class comes as often as another, to within one or two."""
    pairs: dict[frozenset[str], tuple[Class, Class]] = {}
    while len(pairs) < count:
        order = rng.sample(classes, len(classes))
        for one, other in zip(order[::2], order[1::2], strict=False):
            if len(pairs) < count:
                pairs.setdefault(frozenset((one.concept, other.concept)), (one, other))
    return list(pairs.values())


def _even(shuffled: Sequence[tuple[Class, Colour]], count: int) -> list[tuple[Class, Colour]]:
    """So many of them that every class, and every colour, comes nearly as often as another."""
    taken: list[tuple[Class, Colour]] = []
    while len(taken) < count:
        classes, colours = [c.concept for c, _ in taken], [c for _, c in taken]
        left = [pair for pair in shuffled if pair not in taken]
        taken.append(min(left, key=lambda pair: (classes.count(pair[0].concept), colours.count(pair[1]))))
    return taken


def _placed(one: Class, other: Class, relation: Relation, k: int) -> Prompt:
    words = {"a": article(one.noun), "b": article(other.noun)}
    if relation in ("left", "right"):
        said = _say(SIDE, k, **words, side=relation, back="right" if relation == "left" else "left")
    else:
        said = _say(OVER if relation == "above" else UNDER, k, **words)
    return Prompt("position", said, (Wanted(one.concept, position=(relation, 1)), Wanted(other.concept)))


def text(prompts: Sequence[Prompt]) -> str:
    """The file's text."""
    return "".join(json.dumps(prompt.record(), ensure_ascii=False) + "\n" for prompt in prompts)


if __name__ == "__main__":
    FILE.write_text(text(write()), "utf-8")
