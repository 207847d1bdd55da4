"""Places as vector drawings: the ground and air of a scene at any hour, in any weather, at any shape of picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Literal

from limner.painter.colours import SHADES
from limner.painter.places import beyond, rooms, settled, wild
from limner.painter.places.sheet import Rgb, Sheet, lit, sky_at
from limner.painter.scene import Colour, Place, Time, Weather

Surface = Literal["ground", "water", "air", "none"]


@dataclass(frozen=True)
class Backdrop:
    """A place as two SVG fragments, without a root, in a box of 1000 * aspect by 1000 units that they overfill by 2.

    Fractions are of the picture's height, and of its width for x, from the top left. Things stand between `horizon`
    and 1; one at the middle distance has its feet at `ground`. `light` multiplies the colours of things.
    """

    svg: str  # behind everything; opaque
    front: str  # over everything: rain, flakes, bubbles, the nearest grass; may be empty
    ground: float
    horizon: float
    light: tuple[float, float, float]  # each from 0 to 1.2
    sun: tuple[float, float] | None  # the sun, the moon, a window or a lamp; None where the light has no direction
    surface: Surface


@dataclass(frozen=True)
class Kind:
    """How a place is drawn, and where things are in it."""

    paint: Callable[[Sheet], None]
    horizon: float
    ground: float
    surface: Surface = "ground"
    indoors: bool = False
    tint: Rgb = (1, 1, 1)  # what the place itself does to the light


# Grounds for a plain place where no colour is asked for.
PLAIN = ("#f4e3c8", "#cfe6ee", "#f6d6d2", "#d9e8cf", "#dfd8ee", "#f7e7b4", "#cfdcec", "#f3d9c0")

KINDS: dict[Place, Kind] = {
    "beach": Kind(wild.beach, 0.44, 0.84),
    "forest": Kind(wild.forest, 0.56, 0.85),
    "mountains": Kind(wild.mountains, 0.58, 0.85),
    "city": Kind(settled.city, 0.66, 0.87),
    "desert": Kind(wild.desert, 0.56, 0.84),
    "underwater": Kind(beyond.underwater, 0.7, 0.88, "water", tint=(0.84, 0.97, 1.03)),
    "sky": Kind(beyond.sky, 0.72, 0.68, "air"),
    "space": Kind(beyond.space, 0.8, 0.7, "none"),
    "room": Kind(rooms.room, 0.68, 0.86, indoors=True),
    "library": Kind(rooms.library, 0.7, 0.87, indoors=True),
    "kitchen": Kind(rooms.kitchen, 0.7, 0.87, indoors=True),
    "stage": Kind(rooms.stage, 0.7, 0.86, indoors=True),
    "farm": Kind(settled.farm, 0.54, 0.85),
    "snow": Kind(wild.snow, 0.56, 0.85),
    "park": Kind(settled.park, 0.55, 0.85),
    "plain": Kind(partial(beyond.plain, colour=PLAIN[0]), 0.68, 0.86),
}
# How much of a place's light falls on things: with all of it a white shirt at sunset is no longer white.
ON_THINGS = 0.5


def draw(place: Place, time: Time, weather: Weather, aspect: float, variant: int, backdrop: Colour | None) -> Backdrop:
    """A place at an hour in a weather. The same arguments give the same text.

    Args:
        place, time, weather: what to draw; rooms show time and weather through a window.
        aspect: width over height, from 0.25 to 4.
        variant: which of the place's many arrangements.
        backdrop: the colour of a `plain` place; None leaves it to the variant. Other places have no use for it.

    Raises:
        ValueError: `aspect` is not a number from 0.25 to 4.
    """
    if not 0.25 <= aspect <= 4:
        raise ValueError(f"A place is drawn at an aspect from 0.25 to 4, not {aspect}.")
    kind = KINDS[place]
    if place == "plain":
        colour = SHADES[backdrop] if backdrop else PLAIN[variant % len(PLAIN)]
        kind = replace(kind, paint=partial(beyond.plain, colour=colour))
    sky = sky_at(time, weather)
    lasting, hourly = Random(f"{place} {variant}"), Random(f"{place} {variant} {time} {weather}")  # noqa: S311 - no secrets
    sheet = Sheet(sky, 1000 * aspect, lasting, hourly, kind.indoors)
    kind.paint(sheet)
    light = lit(sky.lamp if kind.indoors else sky.light, kind.tint)
    r, g, b = (round(min(1.2, 1 + ON_THINGS * (v - 1)), 4) for v in light)
    body, front = "".join(sheet.body), "".join(sheet.front)
    return Backdrop(body, front, kind.ground, kind.horizon, (r, g, b), sheet.sun, kind.surface)
