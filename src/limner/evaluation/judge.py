"""Whether a picture shows what its prompt asked for, by what the detector found in it.

The rules are GenEval's: enough things of each class, exactly as many where counting is the task, of the colour that was
asked for, on the side that was asked for. What else is in the picture does not matter, since a place brings things of
its own. Plain arithmetic on detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limner.evaluation.detector import Detection, apart
from limner.evaluation.prompts import Prompt, Relation, Wanted

FOUND = 0.35
"""Score from which a thing counts as found. Chosen, as the next, where true renderings pass and swapped ones fail."""
COUNTED = 0.5
"""The same where things are counted, since one too many is as wrong as one too few."""
TOUCH = 0.1
"""How much of their two sizes centres must be apart for one thing to be beside the other."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the picture is right, and what is wrong with it if it is not: "2 dogs, not 3", "the car is red"."""

    right: bool
    why: str = ""


def judge(prompt: Prompt, found: Sequence[Detection]) -> Verdict:
    """Hold what was found against what the prompt asked for."""
    least = COUNTED if prompt.task == "counting" else FOUND
    things = [_of(wanted, prompt.include, found, least) for wanted in prompt.include]
    for wanted, these in zip(prompt.include, things, strict=True):
        if len(these) < wanted.count or (prompt.task == "counting" and len(these) != wanted.count):
            return Verdict(False, f"{len(these)} {wanted.concept}, not {wanted.count}")
        if wanted.colour is not None:
            wrong = [one.colour for one in these[: wanted.count] if one.colour != wanted.colour]
            if wrong:
                return Verdict(False, f"{wanted.concept} is {wrong[0]}, not {wanted.colour}")
        if wanted.position is not None:
            relation, other = wanted.position
            if things[other] and relation not in sides(these[0], things[other][0]):
                return Verdict(False, f"{wanted.concept} is not {relation} of {prompt.include[other].concept}")
    return Verdict(True)


def sides(one: Detection, other: Detection) -> set[Relation]:
    """On which sides of the other thing this one is: none, one, or two where it is at a slant.

    GenEval's rule: the way between the centres, less a part of both sizes, must lie within 60° of the direction.
    """
    dx, dy = one.x - other.x, one.y - other.y
    dx = _beyond(dx, TOUCH * (one.width + other.width))
    dy = _beyond(dy, TOUCH * (one.height + other.height))
    length = float((dx * dx + dy * dy) ** 0.5)
    if length < 1e-3:
        return set()
    told: dict[Relation, float] = {"left": -dx, "right": dx, "above": -dy, "below": dy}
    return {relation for relation, way in told.items() if way / length > 0.5}


def _beyond(way: float, least: float) -> float:
    return max(abs(way) - least, 0.0) * (1 if way > 0 else -1)


def _of(wanted: Wanted, include: Sequence[Wanted], found: Sequence[Detection], least: float) -> list[Detection]:
    """The things of a class, the surest first; none that is rather of another class that was asked for."""
    others = {one.concept for one in include} - {wanted.concept}
    mine = [one for one in found if all(one.score(wanted.concept) > one.score(other) for other in others)]
    return apart(mine, wanted.concept, least)
