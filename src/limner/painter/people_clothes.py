"""Clothes of the people: cuts as a table, and the details that make a suit a suit.

The trunk is drawn in its own frame: the middle of the hips is the origin, up is negative, the neck at -`torso`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from limner.painter.colours import SHADES, luminance, shade, tint
from limner.painter.people_pen import Pen, Point, Spine, hull, ink, polygon, sections, smooth, tube
from limner.painter.scene import Bottom, Top

Tone = Callable[[str], str]


@dataclass(frozen=True)
class Band:
    """A cuff, plate or turn-up around a limb between two fractions of its length."""

    start: float
    stop: float
    ease: float
    tone: Tone
    caps: str = "||"


@dataclass(frozen=True)
class Cut:
    """How far a garment reaches down the limbs (fractions of the arm and leg) and how wide it is there."""

    sleeve: float = 0.0
    ease: tuple[float, float] = (4.0, 4.0)
    hem: float = 14.0  # of the trunk, below the hips
    loose: float = 0.0  # extra width of the trunk
    skirt: float = 0.0  # fraction of the leg that a skirt part covers
    flare: float = 0.0
    bands: tuple[Band, ...] = ()


def darker(colour: str) -> str:
    return ink(colour, 0.12)


def paler(colour: str) -> str:
    return tint(colour, 0.3) if luminance(colour) < 0.85 else shade(colour, 0.08)


def faded(colour: str) -> str:
    return tint(colour, 0.45)


def trim(colour: str) -> str:
    """The contrasting colour of hems and belts."""
    return SHADES["red" if colour in (SHADES["gold"], SHADES["yellow"], SHADES["beige"]) else "gold"]


TOPS: dict[Top, Cut] = {
    "t-shirt": Cut(sleeve=0.4, ease=(4, 9), bands=(Band(0.36, 0.4, 9.5, darker),)),
    "shirt": Cut(sleeve=0.97, ease=(3, 4), hem=20, bands=(Band(0.88, 0.98, 6, paler),)),
    "sweater": Cut(sleeve=0.97, ease=(6, 8), hem=16, loose=5, bands=(Band(0.86, 0.99, 7, darker),)),
    "jacket": Cut(sleeve=0.95, ease=(6, 7), hem=12, loose=4, bands=(Band(0.87, 0.95, 8, darker),)),
    "dress": Cut(sleeve=0.3, ease=(9, 12), skirt=0.56, flare=36, bands=(Band(0.26, 0.3, 9, paler),)),
    "hoodie": Cut(sleeve=0.97, ease=(7, 9), hem=20, loose=6, bands=(Band(0.87, 0.98, 6, darker),)),
    "suit": Cut(sleeve=0.93, ease=(5, 5), hem=30, loose=3, bands=(Band(0.92, 0.98, 3, lambda _: "#f7f7f7"),)),
    "coat": Cut(sleeve=0.96, ease=(7, 8), loose=6, skirt=0.6, flare=22, bands=(Band(0.82, 0.95, 10, darker),)),
    "robe": Cut(sleeve=0.9, ease=(6, 26), loose=6, skirt=0.93, flare=34, bands=(Band(0.84, 0.9, 26, trim),)),
    "armor": Cut(
        sleeve=0.96, ease=(3, 3), hem=10, loose=5,
        bands=(
            Band(0.02, 0.3, 12, paler, "()"), Band(0.42, 0.58, 7, darker, "()"), Band(0.64, 0.95, 6, paler),
            Band(0.9, 0.97, 9, darker),
        ),
    ),
}  # fmt: skip
BOTTOMS: dict[Bottom, Cut] = {
    "trousers": Cut(sleeve=0.95, ease=(3, 7)),
    "jeans": Cut(sleeve=0.92, ease=(2, 4), bands=(Band(0.85, 0.93, 7, faded),)),
    "shorts": Cut(sleeve=0.46, ease=(4, 13), bands=(Band(0.42, 0.46, 13, darker),)),
    "skirt": Cut(skirt=0.38, flare=32),
}


@dataclass(frozen=True)
class Trunk:
    """Half widths and the length of a trunk."""

    torso: float
    shoulder: float
    waist: float
    hip: float
    neck: float

    def edge(self, cut: Cut) -> list[Point]:
        """The right side, from the neck to the hem."""
        t, e = self.torso, cut.loose
        upper = [
            (self.neck, -t - 10),
            (0.7 * self.shoulder, -t - 3),
            (self.shoulder + 0.5 * e, -t + 18),
            (self.shoulder - 6 + e, -t + 62),
            (self.waist + e, -0.4 * t),
        ]
        return upper if cut.skirt else [*upper, (self.hip + e, -8), (self.hip + e, cut.hem)]


def limb(pen: Pen, path: Spine, skin: str, cut: Cut, colour: str) -> None:
    """An arm or a leg: the skin where it shows, and the cloth over it."""
    if cut.sleeve < 0.95:
        bare(pen, path, skin)
    sleeve(pen, path, cut, colour)


def sleeve(pen: Pen, path: Spine, cut: Cut, colour: str) -> None:
    """The cloth over a limb and its bands."""
    _tube(pen, path, 0.0, cut.sleeve, cut.ease, colour, "(|")
    for band in cut.bands:
        _tube(pen, path, band.start, band.stop, (band.ease, band.ease), band.tone(colour), band.caps)


def bare(pen: Pen, path: Spine, skin: str) -> None:
    _tube(pen, path, 0.0, 1.0, (0, 0), skin, "()")


def _tube(pen: Pen, path: Spine, start: float, stop: float, ease: tuple[float, float], colour: str, caps: str) -> None:
    outline, side = tube(path, start, stop, ease, caps=caps)
    pen.fill(outline, colour)
    pen.fill(side, shade(colour, 0.1), outline=False)


def skirt(pen: Pen, trunk: Trunk, legs: list[Spine], cut: Cut, colour: str, *, lean: float) -> None:
    """A skirt, or the lower part of a dress, coat or robe: the hull of the waist and of the legs that it covers."""
    waist = (trunk.waist + cut.loose, -0.43 * trunk.torso)
    hip = (trunk.hip + cut.loose + 4, 0.0)
    points: list[Point] = [(s * x + lean * -y / 57.3, y) for x, y in (waist, hip) for s in (-1, 1)]
    hems: list[Point] = []
    for leg in legs:
        cuts = sections(leg, 0.02, cut.skirt, (2.0, cut.flare))
        sides = [[(x + s * nx * r, y + s * ny * r) for x, y, r, nx, ny in cuts] for s in (-1, 1)]
        points += [p for side in sides for p in side]
        hems += [side[-1] for side in sides]
    left, right = min(hems), max(hems)
    outline, dip = _hemmed(hull(points), left, right)
    hem = f"Q {dip[0]:.2f},{dip[1]:.2f} {left[0]:.2f},{left[1]:.2f} Z" if dip else "Z"
    pen.fill(polygon(outline).removesuffix("Z") + hem, colour)
    dip = dip or ((left[0] + right[0]) / 2, max(y for _, y in hems))
    # the shaded part, from the middle of the waist to 70% of the hem
    hem_x, hem_y = (0.09 * left[i] + 0.42 * dip[i] + 0.49 * right[i] for i in (0, 1))
    waist_x, waist_y = 0.45 * trunk.waist, -0.3 * trunk.torso
    slope = (hem_x - waist_x) / (hem_y - waist_y)
    shaded = [(x, y) for x, y in outline if x > waist_x + slope * (y - waist_y)]
    pen.fill(polygon([(waist_x, waist_y), *shaded, (hem_x, hem_y)]), shade(colour, 0.1), outline=False)
    for share in (0.24, 0.44, 0.66, 0.84):
        x, y = left[0] + share * (right[0] - left[0]), left[1] + share * (right[1] - left[1])
        wx, wy = (2 * share - 1) * 0.8 * trunk.waist, -0.1 * trunk.torso
        fold = [(wx + u * (x - wx), wy + u * (y - wy)) for u in (0.35, 0.9)]
        pen.line(smooth(fold), ink(colour, 0.16), 4)


def _hemmed(outline: list[Point], left: Point, right: Point) -> tuple[list[Point], Point | None]:
    """A skirt's outline from its left corner over the waist to the right one, and the control point of its hem."""
    if left not in outline or right not in outline:
        return outline, None
    start = outline.index(left)
    turned = outline[start:] + outline[:start]  # a hull runs clockwise
    end = turned.index(right) + 1
    low = max((y for _, y in turned[end:]), default=(left[1] + right[1]) / 2) + 14
    return turned[:end], ((left[0] + right[0]) / 2, low)
