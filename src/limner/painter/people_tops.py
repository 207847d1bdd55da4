"""The upper garments of the people without their sleeves: trunks with the details that make a suit a suit.

Everything is drawn in the trunk's frame (see people_clothes): the middle of the hips is the origin, up is negative, the
neck is at -`torso`, and the middle of the chest is a little to the right, where the doll looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from limner.painter.colours import SHADES, SKINS, luminance, shade, tint
from limner.painter.people_clothes import TOPS, Cut, Trunk, darker, paler, trim
from limner.painter.people_pen import Pen, ellipse, ink, polygon, smooth
from limner.painter.scene import Person, Top


@dataclass(frozen=True)
class Worn:
    """What a detail needs to know: the trunk it is on, the garment's cut and colour, and the skin that shows."""

    trunk: Trunk
    cut: Cut
    colour: str
    skin: str


def draw_trunk(pen: Pen, person: Person, trunk: Trunk) -> None:
    """The upper garment without its sleeves, in the trunk's frame."""
    colour, cut = SHADES[person.top_colour], TOPS[person.top]
    edge = trunk.edge(cut)
    left = [(-x, y) for x, y in edge]
    hem = f" Q 4,{edge[-1][1] + 9:.1f} {left[-1][0]:.1f},{left[-1][1]:.1f} "
    body = smooth(edge) + hem + smooth(left[::-1], "L") + " Z"
    inner = "#f7f7f7" if luminance(colour) < 0.8 else SHADES["navy"]
    opened = person.top in ("jacket", "suit")
    pen.fill(body, inner if opened else colour)
    if opened:
        gap_top, gap_hem = (20, 24) if person.top == "jacket" else (26, 3)
        for side in (-1, 1):
            panel = [(side * x, y) for x, y in edge]
            middle = 7
            pen.fill(
                smooth(panel)
                + f" Q {middle + side * gap_hem:.1f},{cut.hem + 10} {middle + side * gap_hem:.1f},{cut.hem + 6}"
                + f" L {middle + side * gap_top * 0.7:.1f},{-0.35 * trunk.torso:.1f}"
                f" L {side * trunk.neck:.1f},{-trunk.torso - 10} Z",
                colour,
            )
    shadow = [(0.55 * x if y > -trunk.torso + 30 else 0.8 * x, y) for x, y in edge[2:]]
    pen.fill(smooth(edge[2:]) + smooth(shadow[::-1], "L") + " Z", shade(colour, 0.1), outline=False)
    _DETAILS[person.top](pen, Worn(trunk, cut, colour, SKINS[person.skin]))


# --- details, each in the trunk's frame -----------------------------------------------------------------------------


def _neckline(pen: Pen, on: Worn, colour: str, depth: float, band: float = 7) -> None:
    n, top = on.trunk.neck + 3, -on.trunk.torso - 11
    scoop = f"M {-n},{top} C {-0.7 * n},{top + depth} {0.9 * n},{top + depth} {n},{top}"
    pen.fill(scoop + " Z", on.skin, outline=False)
    pen.line(scoop, colour, band)


def _t_shirt(pen: Pen, on: Worn) -> None:
    _neckline(pen, on, ink(on.colour, 0.14), 26)
    x, y = on.trunk.hip, on.cut.hem
    pen.line(f"M {-x + 6},{y - 9} Q 4,{y} {x - 6},{y - 9}", ink(on.colour, 0.14), 3)


def _collar(pen: Pen, on: Worn, colour: str, size: float) -> None:
    n, top = on.trunk.neck + 2, -on.trunk.torso - 16
    for s in (-1, 1):
        pen.fill(
            polygon([(s * n, top), (5, top + 22), (5 + s * 0.75 * size, top + 22 + size), (s * (n + 10), top + 20)]),
            colour,
        )


def _buttons(pen: Pen, x: float, ys: list[float], colour: str, r: float = 4.5) -> None:
    for y in ys:
        pen.fill(ellipse(x, y, r), colour, outline=False)


def _shirt(pen: Pen, on: Worn) -> None:
    t = on.trunk.torso
    _neckline(pen, on, ink(on.colour, 0.2), 24, 4)
    pen.line(f"M -4,{-t + 8} L -4,{on.cut.hem + 3} M 14,{-t + 8} L 14,{on.cut.hem + 3}", ink(on.colour, 0.18), 3)
    _buttons(pen, 5, [-t * f for f in (0.82, 0.62, 0.42, 0.22, 0.03)], ink(on.colour, 0.5))
    pocket = on.trunk.shoulder * 0.3
    pen.line(
        f"M {pocket},{-0.7 * t} L {pocket + 30},{-0.7 * t} L {pocket + 30},{-0.57 * t} L {pocket + 15},{-0.53 * t}"
        f" L {pocket},{-0.57 * t} Z", ink(on.colour, 0.2), 3,
    )  # fmt: skip
    _collar(pen, on, paler(on.colour), 22)


def _sweater(pen: Pen, on: Worn) -> None:
    t, w = on.trunk.torso, on.trunk.waist + on.cut.loose
    line = ink(on.colour, 0.17)
    for row, f in enumerate((0.76, 0.66, 0.56)):
        half = int(w // 15)
        zigzag = " L ".join(f"{4 + 14 * i:.0f},{-f * t + (7 if i % 2 else -4):.0f}" for i in range(-half, half + 1))
        pen.line("M " + zigzag, paler(on.colour) if row == 1 else line, 5)
    h, y = on.trunk.hip + on.cut.loose, on.cut.hem
    pen.fill(
        f"M {-h},{y - 24} Q 4,{y - 14} {h},{y - 24} L {h - 2},{y + 1} Q 4,{y + 11} {-h + 2},{y + 1} Z",
        darker(on.colour),
    )
    for x in range(int(-h) + 14, int(h) - 6, 14):
        pen.line(f"M {x},{y - 14} L {x},{y}", ink(on.colour, 0.26), 3)
    n = on.trunk.neck + 6
    pen.fill(
        f"M {-n},{-t - 26} Q 0,{-t - 16} {n},{-t - 26} L {n + 4},{-t - 2} Q 2,{-t + 14} {-n - 4},{-t - 2} Z",
        darker(on.colour),
    )


def _jacket(pen: Pen, on: Worn) -> None:
    t = on.trunk.torso
    inner = "#f7f7f7" if luminance(on.colour) < 0.8 else SHADES["navy"]
    _neckline(pen, on, ink(inner, 0.14), 26, 5)
    metal = SHADES["silver"] if luminance(on.colour) < 0.6 else SHADES["grey"]
    for s in (-1, 1):
        pen.line(f"M {7 + s * 24},{on.cut.hem + 4} L {7 + s * 14},{-0.35 * t} L {s * on.trunk.neck},{-t - 8}", metal, 4)
        pen.fill(
            polygon([
                (s * (on.trunk.neck - 2), -t - 22), (s * (on.trunk.neck + 16), -t - 6), (7 + s * 27, -0.66 * t),
                (7 + s * 15, -0.62 * t),
            ]),
            ink(on.colour, 0.12),
        )  # fmt: skip
        x = s * 0.66 * on.trunk.hip + 4
        pen.line(f"M {x - 4 * s},{-0.2 * t} L {x + 10 * s},{-0.05 * t}", ink(on.colour, 0.25), 5)
    h, y = on.trunk.hip + on.cut.loose, on.cut.hem
    for s in (-1, 1):
        pen.fill(
            polygon([(s * h, y - 16), (7 + s * 23, y - 10), (7 + s * 24, y + 7), (s * (h - 1), y + 1)]),
            darker(on.colour),
        )


def _dress(pen: Pen, on: Worn) -> None:
    t, w = on.trunk.torso, on.trunk.waist + on.cut.loose
    _neckline(pen, on, paler(on.colour), 36, 8)
    sash = paler(on.colour) if luminance(on.colour) < 0.85 else SHADES["pink"]
    y = -0.4 * t
    pen.fill(
        f"M {-w - 2},{y - 10} Q 4,{y - 2} {w + 2},{y - 10} L {w + 4},{y + 12} Q 4,{y + 20} {-w - 4},{y + 12} Z", sash
    )
    for s in (-1, 1):
        pen.fill(
            f"M 12,{y + 5} C {12 + s * 12},{y - 16} {12 + s * 30},{y - 12} {12 + s * 30},{y + 4}"
            f" C {12 + s * 30},{y + 20} {12 + s * 12},{y + 24} 12,{y + 5} Z",
            sash,
        )
    pen.fill(ellipse(12, y + 5, 7), sash)


def _hoodie(pen: Pen, on: Worn) -> None:
    t, h, y = on.trunk.torso, on.trunk.hip + on.cut.loose, on.cut.hem
    n = on.trunk.neck
    pen.fill(
        f"M {-h},{y - 20} Q 4,{y - 10} {h},{y - 20} L {h - 2},{y + 1} Q 4,{y + 11} {-h + 2},{y + 1} Z",
        darker(on.colour),
    )
    p = 0.72 * on.trunk.waist
    pen.fill(
        f"M {-0.55 * p + 5},{-0.34 * t} L {0.55 * p + 5},{-0.34 * t} L {p + 5},{-0.14 * t}"
        f" L {p + 3},{-0.02 * t} L {-p + 7},{-0.02 * t} L {-p + 5},{-0.14 * t} Z",
        ink(on.colour, 0.08),
    )  # fmt: skip
    pen.fill(
        f"M {-n - 20},{-t - 8} C {-n - 14},{-t - 44} {n + 14},{-t - 44} {n + 20},{-t - 8}"
        f" C {n + 22},{-t + 16} 22,{-t + 34} 5,{-t + 40}"
        f" C -16,{-t + 34} {-n - 22},{-t + 16} {-n - 20},{-t - 8} Z", darker(on.colour),
    )  # fmt: skip
    pen.fill(
        f"M {-n - 2},{-t - 14} C {-0.6 * n},{-t + 8} -4,{-t + 16} 5,{-t + 18}"
        f" C 14,{-t + 16} {0.8 * n},{-t + 8} {n + 2},{-t - 14} Z",
        on.skin,
    )
    cord = "#f7f7f7" if luminance(on.colour) < 0.8 else SHADES["grey"]
    pen.line(f"M -12,{-t + 26} L -14,{-t + 70} M 22,{-t + 26} L 24,{-t + 64}", cord, 5)


def _suit(pen: Pen, on: Worn) -> None:
    t, n = on.trunk.torso, on.trunk.neck
    tie = (
        SHADES["red"]
        if on.colour not in (SHADES["red"], SHADES["pink"], SHADES["orange"], SHADES["brown"])
        else SHADES["navy"]
    )
    pen.fill(polygon([(0, -t + 6), (12, -t + 6), (18, -0.55 * t), (7, -0.42 * t), (-4, -0.55 * t)]), tie)
    pen.fill(polygon([(-4, -t + 2), (16, -t + 2), (11, -t + 20), (1, -t + 20)]), tie)
    for s in (-1, 1):
        pen.fill(polygon([(s * n, -t - 24), (6, -t + 6), (6 + s * 18, -t + 24), (s * (n + 8), -t - 4)]), "#ffffff")
        pen.fill(
            polygon([
                (s * (n + 4), -t - 14), (s * (n + 20), -t - 2), (7 + s * 46, -0.76 * t), (7 + s * 34, -0.7 * t),
                (7 + s * 42, -0.64 * t), (7 + s * 3, -0.36 * t), (7 + s * 22, -0.78 * t),
            ]),
            ink(on.colour, 0.1),
        )  # fmt: skip
        x = s * 0.62 * on.trunk.hip + 4
        pen.line(f"M {x - 12},{-0.16 * t} L {x + 12},{-0.16 * t}", ink(on.colour, 0.25), 5)
    pen.line(f"M 8,{-0.34 * t} L 9,{on.cut.hem + 4}", ink(on.colour, 0.25), 3.5)
    _buttons(pen, 1, [-0.3 * t, -0.16 * t], ink(on.colour, 0.5), 5)
    pen.fill(polygon([(36, -0.68 * t), (56, -0.7 * t), (54, -0.64 * t), (38, -0.62 * t)]), "#ffffff", outline=False)


def _coat(pen: Pen, on: Worn) -> None:
    t, n, w = on.trunk.torso, on.trunk.neck, on.trunk.waist + on.cut.loose
    _neckline(pen, on, ink(on.colour, 0.2), 24, 4)
    for s in (-1, 1):
        pen.fill(
            polygon(
                [(s * n, -t - 26), (s * (n + 22), -t - 6), (7 + s * 44, -0.74 * t), (7 + s * 2, -0.6 * t), (6, -t + 14)]
            ),
            ink(on.colour, 0.12),
        )
    pen.line(f"M 9,{-0.6 * t} L 9,{on.cut.hem}", ink(on.colour, 0.25), 4)
    button = SHADES["gold"] if on.colour != SHADES["gold"] else SHADES["brown"]
    for x in (-9, 27):
        _buttons(pen, x, [-0.54 * t, -0.22 * t, -0.06 * t], button, 6)
    y = -0.38 * t
    pen.fill(
        f"M {-w - 2},{y - 9} Q 4,{y - 1} {w + 2},{y - 9} L {w + 3},{y + 9} Q 4,{y + 17} {-w - 3},{y + 9} Z",
        ink(on.colour, 0.3),
    )
    pen.line(f"M 0,{y - 8} L 20,{y - 8} L 20,{y + 14} L 0,{y + 14} Z", button, 4)


def _robe(pen: Pen, on: Worn) -> None:
    t, w, n = on.trunk.torso, on.trunk.waist + on.cut.loose, on.trunk.neck
    edge = trim(on.colour)
    _neckline(pen, on, edge, 24, 4)
    pen.fill(
        f"M {-n - 2},{-t - 22} C {-n - 34},{-t - 8} {-n - 30},{-t + 24} 4,{-t + 48}"
        f" C {n + 36},{-t + 24} {n + 36},{-t - 8} {n + 2},{-t - 22}"
        f" C {n},{-t + 4} 14,{-t + 14} 5,{-t + 20} C -8,{-t + 14} {-n},{-t + 4} {-n - 2},{-t - 22}"
        " Z", darker(on.colour), edge=edge,
    )  # fmt: skip
    pen.line(f"M 5,{-t + 48} L 6,{-0.4 * t}", edge, 6)
    y = -0.38 * t
    pen.line(f"M {-w - 1},{y} Q 4,{y + 10} {w + 1},{y}", edge, 11)
    pen.line(f"M 14,{y + 6} L 8,{y + 70} M 16,{y + 6} L 26,{y + 60}", edge, 6)
    pen.fill(ellipse(15, y + 6, 10), edge)


def _armor(pen: Pen, on: Worn) -> None:
    t, w, h = on.trunk.torso, on.trunk.waist + on.cut.loose, on.trunk.hip + on.cut.loose
    n = on.trunk.neck + 5
    pen.fill(
        f"M {-n},{-t - 24} Q 0,{-t - 14} {n},{-t - 24} L {n + 14},{-t} Q 4,{-t + 24} {-n - 14},{-t} Z",
        darker(on.colour),
    )
    s = on.trunk.shoulder
    pen.fill(
        f"M {-0.74 * s},{-t + 20} Q 4,{-t + 40} {0.78 * s},{-t + 20}"
        f" C {0.92 * s},{-0.62 * t} {0.8 * w},{-0.5 * t} 6,{-0.36 * t}"
        f" C {-0.8 * w},{-0.5 * t} {-0.92 * s},{-0.62 * t} {-0.74 * s},{-t + 20} Z", paler(on.colour),
    )  # fmt: skip
    pen.line(f"M 6,{-t + 30} L 7,{-0.38 * t}", ink(on.colour, 0.2), 4)
    pen.line(
        f"M {-0.55 * s},{-t + 40} C {-0.66 * s},{-0.68 * t} {-0.5 * s},{-0.58 * t} {-0.4 * s},{-0.54 * t}",
        tint(on.colour, 0.75),
        7,
    )
    y = -0.3 * t
    pen.fill(
        f"M {-w - 3},{y - 12} Q 4,{y - 2} {w + 3},{y - 12} L {w + 5},{y + 10} Q 4,{y + 20} {-w - 5},{y + 10} Z",
        SHADES["brown"],
    )
    pen.fill(ellipse(6, y + 5, 12, 11), SHADES["gold"])
    for i, x in enumerate((-1, 0, 1)):
        mid = 6 + x * 0.64 * h
        pen.fill(
            f"M {mid - 0.36 * h},{y + 14} L {mid + 0.36 * h},{y + 14} L {mid + 0.34 * h},{on.cut.hem + 10}"
            f" Q {mid},{on.cut.hem + 34} {mid - 0.34 * h},{on.cut.hem + 10} Z",
            paler(on.colour) if i == 1 else darker(on.colour),
        )  # fmt: skip


_DETAILS: dict[Top, Callable[[Pen, Worn], None]] = {
    "t-shirt": _t_shirt, "shirt": _shirt, "sweater": _sweater, "jacket": _jacket, "dress": _dress, "hoodie": _hoodie,
    "suit": _suit, "coat": _coat, "robe": _robe, "armor": _armor,
}  # fmt: skip
