"""True renderings: scenes made straight from a prompt's facts, as a painter without fault would compose them.

The detector's score on them is its ceiling: no painter that draws with this bank can be told to do better.
"""

from __future__ import annotations

import random

from limner.engine.core import UInt8
from limner.evaluation.prompts import Prompt
from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.scene import Place, Scene, Thing

SIDE = 512
PLACES: tuple[Place, ...] = ("plain", "plain", "park", "farm", "mountains", "snow", "room", "stage")
"""Half of the pictures that people ask for say nothing of a place; the others bring its trees and houses."""
WIDEST = 0.8


def scene(prompt: Prompt, seed: int, bank: Bank) -> Scene:
    """A scene that shows exactly what the prompt asks for, in a place that the seed chooses."""
    rng = random.Random(seed)  # noqa: S311  chance, no secret
    things = [Thing(concept=one.concept, colour=one.colour) for one in prompt.include for _ in range(one.count)]
    wanted = next((one.position for one in prompt.include if one.position), None)
    order, stacked = list(range(len(things))), False
    if wanted is not None:
        relation, _ = wanted
        stacked = relation in ("above", "below")
        if relation in ("right", "below"):
            order.reverse()
    spots = _stack() if stacked else _row(len(things), rng)
    room = WIDEST if stacked else WIDEST / len(things)
    placed = []
    for index, (x, y) in zip(order, spots, strict=True):
        thing = things[index]
        tall = rng.uniform(0.34, 0.4) if stacked else rng.uniform(0.4, 0.56) if len(things) < 3 else 0.34
        height = min(tall, room / draft.ratio(thing, bank))
        placed.append(thing.model_copy(update={"x": x, "y": y, "height": height}))
    return Scene(place=rng.choice(PLACES), items=tuple(placed), variant=rng.randrange(2**32))


def drawn(prompt: Prompt, seed: int, bank: Bank) -> UInt8:
    """The true rendering of a prompt, (SIDE, SIDE, 3); the draft alone, which no denoiser has touched."""
    return draft.compose(scene(prompt, seed, bank), 1.0, bank).draw(SIDE, SIDE)


def _row(count: int, rng: random.Random) -> list[tuple[float, float]]:
    lean = rng.uniform(-0.04, 0.04)
    return [(0.5 + lean + (k - (count - 1) / 2) * 0.92 / count, rng.uniform(0.84, 0.9)) for k in range(count)]


def _stack() -> list[tuple[float, float]]:
    return [(0.5, 0.46), (0.5, 0.92)]
