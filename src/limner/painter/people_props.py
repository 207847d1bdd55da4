"""What people sit on, lean on and hold."""

from __future__ import annotations

from limner.painter.colours import shade, tint
from limner.painter.people_pen import Pen, Spine, ellipse


def stool(pen: Pen, half: float, seat: float, ground: float) -> None:
    """A wooden stool, `half` wide to each side, its seat at height `seat`."""
    wood = "#b9814f"
    for x, u in ((-0.55 * half, -0.8 * half), (0.65 * half, 0.9 * half)):
        pen.line(f"M {x:.1f},{seat:.1f} L {u:.1f},{ground - 8:.1f}", shade(wood, 0.3), 18)
        pen.line(f"M {x:.1f},{seat:.1f} L {u:.1f},{ground - 8:.1f}", wood, 12)
    bar = (seat + ground) / 2 + 20
    pen.line(f"M {-0.68 * half:.1f},{bar:.1f} L {0.78 * half:.1f},{bar:.1f}", shade(wood, 0.15), 9)
    pen.fill(
        f"M {-half + 8:.1f},{seat - 8:.1f} L {half + 6:.1f},{seat - 8:.1f}"
        f" Q {half + 22:.1f},{seat + 6:.1f} {half + 6:.1f},{seat + 16:.1f}"
        f" L {-half + 8:.1f},{seat + 16:.1f} Q {-half - 8:.1f},{seat + 4:.1f} {-half + 8:.1f},{seat - 8:.1f} Z",
        tint(wood, 0.15),
    )  # fmt: skip


def cane(pen: Pen, x: float, y: float, ground: float) -> None:
    """A walking stick, from a hand to the ground."""
    path = f"M {x - 20},{y + 18} C {x - 22},{y - 12} {x + 12},{y - 12} {x + 12},{y + 14} L {x + 16},{ground - 6}"
    pen.line(path, "#4a2f1d", 13)
    pen.line(path, "#8a5a34", 8)


def book(pen: Pen, hands: tuple[Spine, Spine], cover: str, skin: str) -> None:
    """An open book between the ends of two arms, and the thumbs that hold it."""
    (x0, y0, r), (x1, y1, _) = hands[0][-1], hands[1][-1]
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    w, h = 0.5 * (x1 - x0) + 0.7 * r, 0.62 * (x1 - x0) + 0.6 * r
    with pen.frame(x, y - 0.1 * h):
        pen.fill(
            f"M 0,{-0.62 * h} L {-w},{-0.8 * h} L {-w},{0.3 * h} L 0,{0.46 * h} L {w},{0.3 * h} L {w},{-0.8 * h} Z",
            cover,
        )
        leaf = (
            f"C {s * 0.3 * w},{-0.9 * h} {s * 0.8 * w},{-0.96 * h} {s * 0.94 * w},{-0.9 * h}"
            f" L {s * 0.97 * w},{-0.76 * h} L 0,{-0.56 * h} Z"
            for s in (-1, 1)
        )
        for half in leaf:
            pen.fill(f"M 0,{-0.66 * h} {half}", "#fbf6e8")
        pen.line(f"M 0,{-0.56 * h} L 0,{0.44 * h}", shade(cover, 0.25), 6)
        lines = f"M {0.3 * w},{-0.34 * h} L {0.76 * w},{-0.43 * h} M {0.3 * w},{-0.18 * h} L {0.76 * w},{-0.27 * h}"
        pen.line(lines, tint(cover, 0.55), 6)
    for side, hand in ((1, x0), (-1, x1)):
        with pen.frame(hand - side * 0.8 * r, y + 0.2 * r, angle=-side * 60):
            pen.fill(ellipse(0, 0.5 * r, 0.45 * r, 0.95 * r), skin)
