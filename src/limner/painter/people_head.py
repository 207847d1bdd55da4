"""Heads of the people: face, expression, hair, beard, glasses and hat.

Everything is drawn in the head's own frame: its centre is the origin and its radius about 100, turned a little to the
right of the picture, so that the face's middle is at x = `TURN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from limner.painter import people_face as faces
from limner.painter.colours import HAIRS, SHADES, SKINS, mix, shade, tint
from limner.painter.people_hats import draw_hat
from limner.painter.people_pen import Pen, Point, ellipse, ink, polygon, scallops
from limner.painter.scene import Hat, Person

BRIM = -46.0  # hats cover the head above this


def hair_colour(person: Person) -> str:
    colour = HAIRS[person.hair_colour]
    return mix(colour, "#d0ccc6", 0.35) if person.age == "elder" else colour


# --- hair ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hair:
    """Paths of one hair style: behind the body, behind the head, over the forehead, and strands drawn as lines."""

    behind: str = ""
    front: str = ""
    strands: str = ""
    braids: bool = False
    band: Point | None = None  # a hair tie


def _fringe(points: list[Point], depth: float) -> str:
    """A row of curls from point to point, hanging down by `depth`, closed over the top of the head."""
    path = [f"M {points[0][0]},{points[0][1]}"]
    for (x, y), (u, v) in pairwise(points):
        path.append(f"Q {(x + u) / 2:.1f},{(y + v) / 2 + depth:.1f} {u},{v}")
    return " ".join(path) + f" C 112,-70 70,-118 0,-118 C -70,-118 -112,-70 {points[0][0]},{points[0][1]} Z"


_SWEPT = (
    "M -97,14 C -116,-64 -80,-126 4,-126 C 82,-126 114,-62 97,14 C 92,-18 82,-46 56,-62"
    " C 12,-76 -50,-66 -76,-36 C -88,-20 -93,0 -97,14 Z"
)
_SPIKES = [
    (-98, 20), (-126, -22), (-106, -34), (-130, -84), (-92, -84), (-88, -138), (-48, -114), (-24, -168), (8, -120),
    (50, -164), (62, -110), (110, -126), (96, -76), (132, -66), (106, -30), (124, -2), (98, 22), (88, -26), (66, -50),
    (48, -18), (22, -54), (-2, -18), (-28, -54), (-52, -20), (-80, -40),
]  # fmt: skip

HAIR: dict[str, Hair] = {
    "short": Hair(
        front="M -97,16 C -116,-62 -84,-130 2,-130 C 84,-130 116,-66 98,14 C 92,-6 87,-22 84,-40"
              " C 50,-38 14,-54 -14,-74"
        " C -32,-50 -60,-36 -82,-32 C -87,-16 -92,0 -97,16 Z",
        strands="M -14,-74 C 0,-92 20,-104 44,-108",
    ),
    "bob": Hair(
        behind="M -110,-20 C -126,-128 126,-128 110,-20 C 122,40 120,76 106,96 C 64,112 -64,112 -106,96"
        " C -120,76 -122,40 -110,-20 Z",
        front="M -109,84 C -126,-62 -80,-131 0,-131 C 80,-131 126,-62 109,84 C 92,74 84,32 85,-20"
              " C 50,-36 -42,-36 -77,-20"
        " C -78,32 -92,74 -109,84 Z",
        strands="M -34,-108 C -42,-84 -44,-62 -42,-44 M 36,-112 C 46,-86 50,-64 50,-42",
    ),
    "long": Hair(
        behind="M -108,-20 C -124,-132 124,-132 108,-20 C 116,80 142,160 128,256 C 96,282 44,270 0,276"
        " C -44,270 -96,282 -128,256 C -142,160 -116,80 -108,-20 Z",
        front="M -106,96 C -124,-62 -80,-131 0,-131 C 80,-131 124,-62 106,96 C 90,56 90,4 80,-30 C 48,-40 6,-62 -16,-94"
        " C -32,-54 -60,-38 -80,-24 C -86,10 -90,56 -106,96 Z",
        strands="M -16,-94 C 2,-106 24,-112 44,-112",
    ),
    "ponytail": Hair(
        behind="M -62,-104 C -128,-142 -190,-72 -176,14 C -168,70 -160,116 -122,166 C -112,126 -128,70 -118,28"
        " C -110,-8 -92,-30 -60,-44 Z",
        front=_SWEPT,
        strands="M -72,-72 C -40,-96 10,-102 50,-90 M -84,-44 C -60,-78 -20,-84 10,-84",
        band=(-84, -80),
    ),
    "bun": Hair(
        behind=ellipse(-12, -148, 50, 47),
        front=_SWEPT,
        strands="M -40,-150 C -36,-178 8,-178 12,-152 C 12,-134 -18,-132 -18,-148 M -60,-84 C -20,-104 20,-104 60,-84",
        band=(-10, -118),
    ),
    "curly": Hair(
        behind=scallops(0, 6, 114, 124, 15, bulge=1.26),
        front=_fringe(
            [(-98, 16), (-92, -18), (-66, -46), (-32, -60), (4, -62), (40, -58), (72, -42), (94, -14), (98, 18)], 26
        ),
        strands="M -70,-96 C -54,-112 -34,-112 -28,-98 M 10,-112 C 26,-124 44,-118 48,-102 M -96,40"
                " C -112,52 -112,70 -98,78"
        " M 100,44 C 116,56 112,74 100,80",
    ),
    "afro": Hair(
        behind=scallops(0, -38, 142, 138, 19, bulge=1.16),
        front=_fringe([(-96, 6), (-80, -32), (-46, -54), (-8, -62), (30, -60), (64, -46), (88, -22), (97, 6)], 12),
        strands="M -96,-120 C -84,-136 -66,-136 -60,-122 M -10,-148 C 4,-162 24,-158 26,-144 M 84,-112"
                " C 98,-120 112,-110 108,-96"
        " M -122,-48 C -136,-40 -136,-22 -122,-16 M 122,-34 C 136,-26 134,-8 120,-4",
    ),
    "braids": Hair(
        front="M -102,52 C -122,-62 -80,-128 0,-128 C 80,-128 122,-62 102,52 C 90,30 90,-6 78,-36 C 50,-46 20,-62 6,-96"
        " C -10,-62 -46,-46 -78,-34 C -88,-4 -90,30 -102,52 Z",
        strands="M 6,-96 C 4,-108 2,-116 0,-126",
        braids=True,
    ),
    "spiky": Hair(front=polygon(_SPIKES), strands="M -50,-84 C -44,-72 -40,-64 -40,-56 M 30,-90"
                                                  " C 34,-76 36,-66 36,-58"),
    "bald": Hair(),
}  # fmt: skip


def _under_hat(x: float, y: float) -> Point:
    """Hair above a hat's brim is pressed against the skull, so that it never sticks out of the hat."""
    room = 1 + max(0.0, (y - BRIM) / 55)
    reach = ((x / 100) ** 2 + (y / 104) ** 2) ** 0.5
    return (x, y) if reach <= room else (x * room / reach, y * room / reach)


def _covers(hat: Hat | None) -> bool:
    return hat not in (None, "crown")


def draw_behind(pen: Pen, person: Person) -> None:
    """What is behind the body and the head: the back of the hair."""
    hair, colour = HAIR[person.hair], hair_colour(person)
    with pen.warped(_under_hat if _covers(person.hat) else None):
        if hair.behind:
            pen.fill(hair.behind, shade(colour, 0.13))


def draw_head(pen: Pen, person: Person) -> None:
    """The head with everything on it, over the body."""
    skin, colour = SKINS[person.skin], hair_colour(person)
    hair = HAIR[person.hair]
    faces.skull(pen, person, skin)
    if person.beard in ("stubble", "full"):
        faces.beard(pen, person, colour)
    faces.face(pen, person, skin, colour)
    if person.beard == "moustache":
        faces.beard(pen, person, colour)
    with pen.warped(_under_hat if _covers(person.hat) else None):
        if hair.front:
            pen.fill(hair.front, colour)
        if hair.strands:
            pen.line(hair.strands, ink(colour, 0.2), 4.5)
    if hair.front and not _covers(person.hat):
        pen.line("M -66,-76 C -50,-98 -28,-109 -2,-112", tint(colour, 0.35), 9, opacity=0.7)
    if not hair.front and not _covers(person.hat):
        pen.line("M -52,-66 C -40,-80 -26,-86 -10,-88", tint(skin, 0.7), 10, opacity=0.8)
    if hair.band and not _covers(person.hat):
        x, y = hair.band
        flat = person.hair == "bun"
        pen.fill(ellipse(x, y, 32 if flat else 15, 11 if flat else 26), _tie(person))
    if person.glasses:
        faces.glasses(pen, person.glasses)
    if person.hat:
        draw_hat(pen, person.hat, person.hat_colour)


def draw_braid(pen: Pen, person: Person, side: int) -> None:
    """The braid on the left (-1) or right (1) of the head, where the hair is braided."""
    if HAIR[person.hair].braids:
        _braid(pen, side, hair_colour(person), _tie(person))


def _tie(person: Person) -> str:
    return SHADES["yellow" if person.hair_colour in ("red", "pink", "purple") else "red"]


def _braid(pen: Pen, side: int, colour: str, tie: str) -> None:
    rows = 7
    for i in range(rows):
        x, y, r = side * (96 + 2.6 * i), 46 + 24 * i, 23 - 1.2 * i
        for lobe, tone in ((-1, shade(colour, 0.08)), (1, colour)):
            with pen.frame(x + lobe * 0.5 * r, y + 6 * lobe, angle=lobe * 32):
                pen.fill(ellipse(0, 0, 0.78 * r, 1.08 * r), tone)
    x, y = side * 115, 216
    tuft = f"M {x - 12},{y} C {x - 26},{y + 30} {x - 10},{y + 40} {x},{y + 52}"
    pen.fill(f"{tuft} C {x + 10},{y + 40} {x + 26},{y + 30} {x + 12},{y} Z", colour)
    pen.fill(ellipse(x, y, 17, 10), tie)
