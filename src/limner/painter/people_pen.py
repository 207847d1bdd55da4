"""A pen that writes SVG paths in nested frames and knows the box they fill, and the tapered limbs drawn with it.

Angles of limbs are in degrees from straight down, positive towards the right of the picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import cos, hypot, inf, pi, radians, sin

from limner.painter.colours import luminance, shade, tint

Point = tuple[float, float]
Frame = tuple[float, float, float, float, float, float]  # a, b, c, d, e, f of SVG's matrix()
Spine = list[tuple[float, float, float]]  # x, y, radius along a limb, evenly spaced in its parameter
Cross = tuple[float, float, float, float, float]  # a cut across a limb: x, y, radius, unit normal

OUTLINE = 3.6
_TOKEN = re.compile(r"([MLQCZ])|(-?\d+(?:\.\d+)?(?:e-?\d+)?)")
_SAMPLES = 24
_POINTS = {"M": 1, "L": 1, "Q": 2, "C": 3}


class Pen:
    """Collects filled and stroked paths. Paths use absolute M, L, Q, C and Z only; no ids, so fragments never clash."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.left = self.top = inf
        self.right = self.bottom = -inf
        self._frame: Frame = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
        self._warp: Callable[[float, float], Point] | None = None

    @contextmanager
    def frame(self, x: float, y: float, *, angle: float = 0.0, sx: float = 1.0, sy: float = 1.0) -> Iterator[None]:
        """Draw with the origin at (x, y), turned clockwise by `angle` degrees and scaled."""
        before = self._frame
        a, b, c, d, _, _ = before
        co, si = cos(radians(angle)), sin(radians(angle))
        e, f = self.at(x, y)
        self._frame = (
            (a * co + c * si) * sx, (b * co + d * si) * sx, (c * co - a * si) * sy, (d * co - b * si) * sy, e, f,
        )  # fmt: skip
        yield
        self._frame = before

    @contextmanager
    def warped(self, warp: Callable[[float, float], Point] | None) -> Iterator[None]:
        """Move every point by `warp`, in the coordinates of the current frame."""
        self._warp = warp
        yield
        self._warp = None

    def at(self, x: float, y: float) -> Point:
        """The point (x, y) of the current frame in the outermost one."""
        a, b, c, d, e, f = self._frame
        return a * x + c * y + e, b * x + d * y + f

    @property
    def scale(self) -> float:
        a, b, _, _, _, _ = self._frame
        return hypot(a, b)

    def fill(self, d: str, colour: str, *, outline: bool = True, edge: str | None = None, opacity: float = 1.0) -> None:
        """A closed path in `colour`, with a thin outline in a darker tone of it (or in `edge`)."""
        stroke = ""
        if outline:
            line = edge or edge_of(colour)
            stroke = f' stroke="{line}" stroke-width="{OUTLINE}" stroke-linejoin="round"'
        see = f' fill-opacity="{opacity:g}"' if opacity < 1 else ""
        self.parts.append(f'<path d="{self._place(d, OUTLINE / 2 if outline else 0)}" fill="{colour}"{stroke}{see}/>')

    def line(self, d: str, colour: str, width: float, *, opacity: float = 1.0) -> None:
        """An open stroke with round caps; `width` is in the current frame's units."""
        width *= self.scale
        see = f' stroke-opacity="{opacity:g}"' if opacity < 1 else ""
        self.parts.append(
            f'<path d="{self._place(d, width / 2)}" fill="none" stroke="{colour}" stroke-width="{width:.2f}"'
            f' stroke-linecap="round" stroke-linejoin="round"{see}/>'
        )

    def _place(self, d: str, margin: float) -> str:
        """The path in the outermost frame; the box grows by the points that it passes."""
        a, b, c, d_, e, f = self._frame
        out: list[str] = []
        pairs: list[Point] = []
        command, here, first = "M", (0.0, 0.0), 0.0
        half = False
        for letter, number in _TOKEN.findall(d):
            if letter:
                command = letter
                if letter == "Z":
                    out.append("Z")
                continue
            half = not half
            if half:
                first = float(number)
                continue
            x, y = first, float(number)
            if self._warp:
                x, y = self._warp(x, y)
            pairs.append((a * x + c * y + e, b * x + d_ * y + f))
            if len(pairs) < _POINTS[command]:
                continue
            out.append(command + " ".join([f"{x:.1f},{y:.1f}" for x, y in pairs]))
            if not all(self._holds(p, margin) for p in pairs):
                for x, y in pairs if len(pairs) == 1 else _along(here, pairs):
                    self.left, self.right = min(self.left, x - margin), max(self.right, x + margin)
                    self.top, self.bottom = min(self.top, y - margin), max(self.bottom, y + margin)
            here = pairs[-1]
            pairs = []
        return "".join(out)

    def _holds(self, point: Point, margin: float) -> bool:
        x, y = point
        return (
            self.left <= x - margin
            and x + margin <= self.right
            and self.top <= y - margin
            and y + margin <= self.bottom
        )


def _along(start: Point, controls: list[Point]) -> list[Point]:
    """Points on a quadratic or cubic Bézier curve, by de Casteljau's construction."""
    found = []
    for i in range(1, 9):
        t, line = i / 8, [start, *controls]
        while len(line) > 1:
            line = [_lerp(p, q, t) for p, q in pairwise(line)]
        found.append(line[0])
    return found


def edge_of(colour: str) -> str:
    """The outline of a shape in this colour: a darker tone of the same hue."""
    return shade(colour, 0.3)


def ink(colour: str, amount: float = 0.22) -> str:
    """A tone for seams and folds on a cloth of this colour: darker, or lighter where the cloth is nearly black."""
    return shade(colour, amount) if luminance(colour) > 0.27 else tint(colour, amount)


def ellipse(x: float, y: float, rx: float, ry: float | None = None) -> str:
    ry = rx if ry is None else ry
    k, m = 0.5523 * rx, 0.5523 * ry
    return (
        f"M {x - rx:.2f},{y:.2f} C {x - rx:.2f},{y - m:.2f} {x - k:.2f},{y - ry:.2f} {x:.2f},{y - ry:.2f}"
        f" C {x + k:.2f},{y - ry:.2f} {x + rx:.2f},{y - m:.2f} {x + rx:.2f},{y:.2f}"
        f" C {x + rx:.2f},{y + m:.2f} {x + k:.2f},{y + ry:.2f} {x:.2f},{y + ry:.2f}"
        f" C {x - k:.2f},{y + ry:.2f} {x - rx:.2f},{y + m:.2f} {x - rx:.2f},{y:.2f} Z"
    )


def scallops(cx: float, cy: float, rx: float, ry: float, count: int, *, bulge: float = 1.25) -> str:
    """An ellipse with a bumpy rim."""
    step = 2 * pi / count
    path = [f"M {cx + rx:.1f},{cy:.1f}"]
    for i in range(1, count + 1):
        mid, end = (i - 0.5) * step, i * step
        path.append(
            f"Q {cx + bulge * rx * cos(mid):.1f},{cy + bulge * ry * sin(mid):.1f}"
            f" {cx + rx * cos(end):.1f},{cy + ry * sin(end):.1f}"
        )
    return " ".join(path) + " Z"


def smooth(points: Sequence[Point], start: str = "M") -> str:
    """A Catmull-Rom curve through the points, as cubic segments; `start` is M or L."""
    path = [f"{start} {points[0][0]:.2f},{points[0][1]:.2f}"]
    last = len(points) - 1
    for i in range(last):
        before, here, there, after = points[max(i - 1, 0)], points[i], points[i + 1], points[min(i + 2, last)]
        path.append(
            f"C {here[0] + (there[0] - before[0]) / 6:.2f},{here[1] + (there[1] - before[1]) / 6:.2f}"
            f" {there[0] - (after[0] - here[0]) / 6:.2f},{there[1] - (after[1] - here[1]) / 6:.2f}"
            f" {there[0]:.2f},{there[1]:.2f}"
        )
    return " ".join(path)


def polygon(points: Sequence[Point]) -> str:
    return "M " + " L ".join(f"{x:.2f},{y:.2f}" for x, y in points) + " Z"


def step(point: Point, angle: float, length: float) -> Point:
    """`length` from the point along a limb's angle."""
    return point[0] + length * sin(radians(angle)), point[1] + length * cos(radians(angle))


def spine(a: Point, b: Point, c: Point, radii: tuple[float, float, float]) -> Spine:
    """The axis of a limb from `a` over the joint `b`, which is rounded off, to `c`."""
    soft = 0.3
    near = (b[0] + soft * (a[0] - b[0]), b[1] + soft * (a[1] - b[1]))
    far = (b[0] + soft * (c[0] - b[0]), b[1] + soft * (c[1] - b[1]))
    bend = (1 - soft) / 2
    found: Spine = []
    for i in range(_SAMPLES + 1):
        t = i / _SAMPLES
        if t < bend:
            x, y = _lerp(a, near, t / bend)
        elif t <= 1 - bend:
            u = (t - bend) / (1 - 2 * bend)
            x, y = _lerp(_lerp(near, b, u), _lerp(b, far, u), u)
        else:
            x, y = _lerp(far, c, (t - 1 + bend) / bend)
        first, second = (radii[0], radii[1]) if t < 0.5 else (radii[1], radii[2])
        found.append((x, y, first + (second - first) * (2 * t if t < 0.5 else 2 * t - 1)))
    return found


def tube(limb: Spine, start: float, stop: float, ease: tuple[float, float], *, caps: str = "()") -> tuple[str, str]:
    """The outline of a limb (or the cloth on it) between two fractions of its length, and the shaded side of it.

    `ease` is how much wider than the limb it is at the start and the stop. A cap is round where `caps` has a bracket
    and flat where it has a bar.
    """
    middle = sections(limb, start, stop, ease)
    left = _outside([(x + nx * r, y + ny * r) for x, y, r, nx, ny in middle], middle)
    right = _outside([(x - nx * r, y - ny * r) for x, y, r, nx, ny in middle], middle)
    outline = (
        smooth(left)
        + _cap(left[-1], right[-1], caps[1] == ")")
        + smooth(right[::-1], "L")
        + _cap(right[0], left[0], caps[0] == "(")
        + " Z"
    )
    lit = sum(nx + 0.5 * ny for *_, nx, ny in middle) > 0
    side = left if lit else right
    sign = 0.3 if lit else -0.3
    inner = [(x + sign * nx * r, y + sign * ny * r) for x, y, r, nx, ny in middle]
    return outline, smooth(side) + smooth(inner[::-1], "L") + " Z"


def _outside(side: list[Point], cuts: list[Cross]) -> list[Point]:
    """One side of a limb without the loop that it makes inside a sharply bent joint."""
    kept = [p for p in side[1:-1] if all(hypot(p[0] - x, p[1] - y) > r - 1.5 for x, y, r, _, _ in cuts)]
    return [side[0], *kept, side[-1]]


def sections(limb: Spine, start: float, stop: float, ease: tuple[float, float]) -> list[Cross]:
    """Cuts across a limb: x, y, radius, and the unit normal (to the right of a limb that hangs down)."""
    count = max(3, round((stop - start) * 14))
    cuts = []
    for i in range(count + 1):
        u = i / count
        t = start + (stop - start) * u
        x, y, r = _sample(limb, t)
        x0, y0, _ = _sample(limb, max(t - 0.03, 0.0))
        x1, y1, _ = _sample(limb, min(t + 0.03, 1.0))
        length = hypot(x1 - x0, y1 - y0) or 1.0
        cuts.append((x, y, r + ease[0] + (ease[1] - ease[0]) * u, (y1 - y0) / length, (x0 - x1) / length))
    return cuts


def _sample(limb: Spine, t: float) -> tuple[float, float, float]:
    position = t * (len(limb) - 1)
    i = min(int(position), len(limb) - 2)
    u = position - i
    (x, y, r), (x1, y1, r1) = limb[i], limb[i + 1]
    return x + u * (x1 - x), y + u * (y1 - y), r + u * (r1 - r)


def _cap(start: Point, end: Point, is_round: bool) -> str:
    if not is_round:
        return ""
    # the cubic that bulges by 4/3 of the radius is within 3% of a half circle
    dx, dy = (end[1] - start[1]) * 2 / 3, (start[0] - end[0]) * 2 / 3
    sx, sy, ex, ey = start[0] + dx, start[1] + dy, end[0] + dx, end[1] + dy
    return f" C {sx:.2f},{sy:.2f} {ex:.2f},{ey:.2f} {end[0]:.2f},{end[1]:.2f} "


def _lerp(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def hull(points: Sequence[Point]) -> list[Point]:
    """The convex hull, in order, by Andrew's monotone chain."""

    def half(ordered: list[Point]) -> list[Point]:
        chain: list[Point] = []
        for p in ordered:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], p) <= 0:
                chain.pop()
            chain.append(p)
        return chain[:-1]

    ordered = sorted(set(points))
    return half(ordered) + half(ordered[::-1])


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
