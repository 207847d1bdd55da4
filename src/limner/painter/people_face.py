"""Faces of the people: skull, features by expression, beard and glasses, in the head's frame (see people_head)."""

from __future__ import annotations

from dataclasses import dataclass

from limner.painter.colours import mix, shade
from limner.painter.people_pen import Pen, ellipse, ink
from limner.painter.scene import Expression, Person

TURN = 9  # how far right of the head's middle the face's is, as the doll looks a little to the right
DARK = "#2b2330"

_SKULLS = {
    "child": "M -93,6 C -96,-70 -52,-104 0,-104 C 52,-104 96,-70 93,6 C 92,62 52,98 4,98 C -48,98 -92,62 -93,6 Z",
    "feminine": "M -91,-4 C -93,-74 -50,-104 0,-104 C 50,-104 93,-74 91,-4 C 90,52 52,100 6,100"
    " C -44,100 -90,52 -91,-4 Z",
    "masculine": "M -91,-4 C -93,-74 -50,-104 0,-104 C 50,-104 93,-74 91,-4 C 91,62 66,102 8,103"
    " C -52,102 -91,62 -91,-4 Z",
}


def skull(pen: Pen, person: Person, skin: str) -> None:
    for x, y, r in ((-90, 12, 20), (91, 12, 15)):
        pen.fill(ellipse(x, y, r * 0.85, r), skin)
        pen.line(f"M {x - 3},{y - 6} C {x + 4},{y - 2} {x + 4},{y + 4} {x - 2},{y + 8}", shade(skin, 0.2), 3.5)
    pen.fill(_SKULLS["child" if person.age == "child" else person.build], skin)
    pen.fill(
        "M 70,-68 C 84,-48 91,-28 91,-4 C 90,52 52,100 6,100 C 0,100 -6,99 -12,98 C 52,88 92,20 70,-68 Z",
        shade(skin, 0.09), outline=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Look:
    """A facial expression. Brows: heights of the inner and outer ends, above (negative) their usual place."""

    eyes: str = "open"
    brows: tuple[float, float] = (0, 0)
    mouth: str = ""
    lips: str = "line"  # "line" or "open"
    teeth: str = ""
    tongue: str = ""


LOOKS: dict[Expression, Look] = {
    "smile": Look(mouth="M -27,42 C -14,64 20,64 33,42"),
    "grin": Look(
        brows=(-4, -2), lips="open",
        mouth="M -36,36 C -14,42 22,42 44,36 C 44,84 -34,86 -36,36 Z",
        teeth="M -33,39 C -14,43 22,43 41,39 C 40,46 39,50 37,53 C 18,57 -12,57 -30,53 C -32,49 -33,44 -33,39 Z",
        tongue="M -18,67 C -8,58 18,58 26,66 C 14,76 -6,77 -18,67 Z",
    ),
    "neutral": Look(mouth="M -19,52 L 25,52"),
    "sad": Look(eyes="sad", brows=(-13, 6), mouth="M -23,62 C -12,43 18,43 29,62"),
    "surprised": Look(
        eyes="wide", brows=(-18, -16), lips="open",
        mouth=ellipse(4, 60, 16, 21),
        tongue="M -7,72 C -2,64 10,64 15,72 C 10,79 -2,79 -7,72 Z",
    ),
    "angry": Look(
        eyes="angry", brows=(14, -12), lips="open",
        mouth="M -28,68 C -20,42 26,42 34,68 C 14,60 -8,60 -28,68 Z",
        teeth="M -22,62 C -16,46 22,46 28,62 C 12,56 -6,56 -22,62 Z",
    ),
    "asleep": Look(eyes="closed", brows=(-2, 3), lips="open", mouth=ellipse(4, 56, 9, 7)),
}  # fmt: skip


def face(pen: Pen, person: Person, skin: str, colour: str) -> None:
    look = LOOKS[person.expression]
    down = person.pose == "reading"
    for x, rx in ((-42, 19), (60, 17)):
        pen.fill(ellipse(x, 38, rx, 13), "#f0605a", outline=False, opacity=0.34 if person.build == "feminine" else 0.22)
    for side, x in ((-1, -32 + TURN), (1, 34 + TURN)):
        _eye(pen, look.eyes, side, x, 6 if down else 2, lashes=person.build == "feminine", down=down)
        inner, outer = look.brows
        brow = mix(colour, "#c4c0bc", 0.8) if person.age == "elder" else mix(colour, DARK, 0.25)
        width = 5.5 if person.build == "feminine" else 8.5
        lift = -34.0
        pen.line(
            f"M {x - side * 15},{lift + inner}"
            f" Q {x + side * 2},{lift - 7 + (inner + outer) / 2} {x + side * 17},{lift + 3 + outer}",
            brow, width,
        )  # fmt: skip
    pen.line(f"M {TURN + 1},14 C {TURN + 13},24 {TURN + 11},29 {TURN - 1},29", shade(skin, 0.24), 5)
    if person.age == "elder":
        fold = shade(skin, 0.2)
        pen.line("M -36,-60 C -12,-66 30,-66 54,-60 M -26,-74 C -8,-79 24,-79 42,-74", fold, 3.5)
        pen.line("M -62,6 L -74,0 M -62,12 L -75,13 M 72,6 L 82,0 M 72,12 L 83,13", fold, 3.5)
        pen.line("M -26,28 C -36,36 -40,44 -40,54 M 38,28 C 47,36 50,44 49,54", fold, 4)
        pen.line("M -30,22 C -24,26 -16,26 -12,22 M 36,22 C 42,26 50,26 54,22", fold, 3)
    if person.beard == "full":
        pen.fill(ellipse(4, 54, 34, 21), skin, outline=False)
    if look.lips == "line":
        pen.line(look.mouth, "#8c3a3a" if person.skin != "dark" else "#3d1d1a", 6)
    else:
        pen.fill(look.mouth, "#7c2430", edge="#5b1722")
    if look.tongue:
        pen.fill(look.tongue, "#e8707c", outline=False)
    if look.teeth:
        pen.fill(look.teeth, "#ffffff", outline=False)
    if person.expression == "sad":
        pen.fill("M -46,24 C -40,34 -36,40 -36,46 C -36,58 -56,58 -56,46 C -56,40 -52,34 -46,24 Z", "#7cc4f4")


def _eye(pen: Pen, kind: str, side: int, x: float, y: float, *, lashes: bool, down: bool) -> None:
    if kind == "closed" or (down and kind == "open"):
        depth = 11 if kind == "closed" else 9
        pen.line(f"M {x - 14},{y + 2} Q {x},{y + 2 + depth * 1.6} {x + 14},{y + 2}", DARK, 5.5)
        if lashes:
            pen.line(
                f"M {x + side * 13},{y + 4} L {x + side * 21},{y + 9} M {x + side * 6},{y + 9}"
                f" L {x + side * 11},{y + 16}",
                DARK,
                4,
            )
        return
    if kind == "wide":
        pen.fill(ellipse(x, y, 19, 22), "#ffffff", edge="#8d8794")
        pen.fill(ellipse(x + 1, y, 9, 11), DARK, outline=False)
        pen.fill(ellipse(x - 3, y - 5, 3.4), "#ffffff", outline=False)
    else:
        pen.fill(ellipse(x, y, 10.5, 14), DARK, outline=False)
        pen.fill(ellipse(x - 3.4, y - 5, 4), "#ffffff", outline=False)
    if kind == "angry":
        pen.line(f"M {x - side * 14},{y - 7} L {x + side * 14},{y - 17}", DARK, 6)
    if kind == "sad":
        pen.line(f"M {x - side * 12},{y - 17} L {x + side * 15},{y - 7}", DARK, 5)
    if lashes:
        top = y - (15 if kind == "wide" else 9)
        pen.line(
            f"M {x + side * 7},{top} L {x + side * 18},{top - 7} M {x + side * 11},{top + 7}"
            f" L {x + side * 22},{top + 3}",
            DARK,
            4,
        )


def beard(pen: Pen, person: Person, colour: str) -> None:
    if person.beard == "moustache":
        pen.fill(
            "M 4,34 C 20,26 40,32 50,44 C 58,52 66,48 68,42 C 70,62 44,68 24,56 C 14,52 6,50 4,44"
            " C 2,50 -6,52 -16,56 C -36,68 -62,62 -60,42 C -58,48 -50,52 -42,44 C -32,32 -12,26 4,34 Z",
            colour,
        )
        return
    if person.beard == "stubble":
        jaw = (
            "M -90,14 C -84,30 -66,40 -46,36 C -30,28 38,28 54,36 C 72,40 86,30 90,14 C 91,62 66,102 8,103"
            " C -52,102 -91,62 -90,14 Z"
        )
        pen.fill(jaw, mix(colour, DARK, 0.2), outline=False, opacity=0.38)
        return
    pen.fill(
        "M -94,0 C -86,24 -70,36 -46,34 C -28,26 -10,30 4,36 C 18,30 36,26 54,34 C 74,36 86,24 93,0"
        " C 100,50 96,92 68,124"
        " C 48,146 22,152 4,160 C -16,152 -46,146 -66,124 C -96,92 -102,50 -94,0 Z",
        colour,
    )
    pen.line(
        "M -44,108 C -38,122 -28,130 -18,134 M 4,112 L 4,140 M 50,108 C 44,122 36,130 26,134", ink(colour, 0.18), 4.5
    )


def glasses(pen: Pen, kind: str) -> None:
    left, right, y = -32 + TURN, 34 + TURN, 3
    frame = "#33303a" if kind != "round" else "#5a3a2a"
    if kind == "round":
        lenses = [ellipse(x, y, 29, 29) for x in (left, right)]
    else:
        lenses = [
            f"M {x - 30},{y - 20} C {x - 30},{y - 25} {x + 30},{y - 25} {x + 30},{y - 20} L {x + 26},{y + 16}"
            f" C {x + 24},{y + 25} {x - 24},{y + 25} {x - 26},{y + 16} Z"
            for x in (left, right)
        ]
    pen.line(f"M {left - 29},{y - 6} L -88,{y - 2} M {right + 29},{y - 6} L 88,{y - 2}", frame, 6)
    for lens in lenses:
        if kind == "sunglasses":
            pen.fill(lens, "#2a2833", edge="#16151c")
        else:
            pen.fill(lens, "#d8efff", outline=False, opacity=0.14)
            pen.line(lens, frame, 6.5 if kind == "round" else 8)
    pen.line(f"M {left + 27},{y - 6} Q {TURN + 1},{y - 14} {right - 27},{y - 6}", frame, 6.5)
    if kind == "sunglasses":
        for x in (left, right):
            pen.line(f"M {x - 14},{y - 8} L {x - 4},{y - 14}", "#8f96b5", 5)
