"""One-coloured silhouettes made into drawings: each part in a colour of its own, with a darker outline around it.

A silhouette is one path whose gaps are the lines between its parts. Its outer contours, each with the holes that lie in
it, are the parts; the outline is wide enough to close the gaps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from limner.painter.colours import SHADES, shade
from limner.painter.scene import Colour
from limner.painter.training.normalise import CannotNormalise, shorter_path

OUTLINE = 0.03  # of the icon's side
ROOM = 0.93  # what the silhouette is shrunk to, so that its outline fits
DARKER = 0.5
COUNTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}
Point = tuple[float, float]


class Contour:
    """One closed line of a path: its data from an absolute start, and the points between its segments."""

    def __init__(self, start: Point) -> None:
        self.data = f"M{start[0]:.2f} {start[1]:.2f}"
        self.points = [start]

    @property
    def area(self) -> float:
        """Twice the area, by the shoelace formula over the points."""
        pairs = zip(self.points, self.points[1:] + self.points[:1], strict=True)
        return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs))

    def holds(self, point: Point) -> bool:
        """Whether a point lies inside, by the even-odd rule over the points."""
        inside = False
        x, y = point
        for (x1, y1), (x2, y2) in zip(self.points, self.points[1:] + self.points[:1], strict=True):
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                inside = not inside
        return inside


def coloured(body: str, side: float, tints: Sequence[str]) -> str:
    """A silhouette's inner SVG with its parts coloured, the largest part in the first colour; the last goes on.

    Raises:
        CannotNormalise: it is not one path, or a colour is none of the scene's.
    """
    paths = re.findall(r' d="([^"]+)"', body)
    if len(paths) != 1 or not tints or not set(tints) <= SHADES.keys():
        raise CannotNormalise(f"a silhouette of {len(paths)} paths in the colours {tints}")
    groups: dict[str, str] = {}
    names: list[Colour] = [name for name in SHADES if name in tints]
    for at, part in enumerate(parts(contours(paths[0]))):
        name = next(name for name in names if name == tints[min(at, len(tints) - 1)])
        groups[SHADES[name]] = groups.get(SHADES[name], "") + part
    width = OUTLINE * side / ROOM
    lines = "".join(
        f'<path fill="none" stroke="{shade(colour, DARKER)}" stroke-width="{width:.1f}" stroke-linejoin="round"'
        f' d="{shorter_path(data, 1)}"/>'
        for colour, data in groups.items()
    )
    fills = "".join(f'<path fill="{colour}" d="{shorter_path(data, 1)}"/>' for colour, data in groups.items())
    inset = side * (1 - ROOM) / 2
    return f'<g transform="translate({inset:.2f} {inset:.2f}) scale({ROOM})">{lines}{fills}</g>'


def parts(lines: Sequence[Contour]) -> list[str]:
    """Path data of each part, an outer contour with the holes in it, the largest part first."""
    ordered = sorted(lines, key=lambda line: -line.area)
    depths: list[int] = []
    owners: list[int] = []
    for at, line in enumerate(ordered):
        around = [other for other in range(at) if ordered[other].holds(line.points[0])]
        depths.append(len(around))
        owners.append(around[-1] if len(around) % 2 else at)
    return [
        "".join(line.data for line, owner in zip(ordered, owners, strict=True) if owner == at)
        for at, depth in enumerate(depths)
        if depth % 2 == 0
    ]


def contours(data: str) -> list[Contour]:
    """The closed lines of a path (SVG 1.1, 8.3)."""
    found: list[Contour] = []
    here = start = (0.0, 0.0)
    for command, body in re.findall(r"([MmLlHhVvCcSsQqTtAaZz])([^MmLlHhVvCcSsQqTtAaZz]*)", data):
        numbers = _numbers(command, body)
        kind = command.upper()
        size = COUNTS[kind] or 1
        for at in range(0, len(numbers) or 1, size):
            values = numbers[at : at + size]
            base = here if command.islower() else (0.0, 0.0)
            if kind == "M" and at == 0:
                here = start = (base[0] + values[0], base[1] + values[1])
                found.append(Contour(here))
                continue
            if kind == "Z":
                here = start
                found[-1].data += "Z"
                continue
            if kind == "H":
                here = (base[0] + values[0], here[1])
            elif kind == "V":
                here = (here[0], base[1] + values[0])
            else:
                here = (base[0] + values[-2], base[1] + values[-1])
            letter = {"M": "L", "m": "l"}.get(command, command)
            found[-1].data += letter + " ".join(f"{round(value, 2):g}" for value in values)
            found[-1].points.append(here)
    return found


def _numbers(command: str, body: str) -> list[float]:
    plain = shorter_path(command + body, 2)[1:]
    if command in "Aa":  # a flag may stand without a space after it
        return [float(part) for part in re.findall(r"-?\d*\.?\d+", plain)]
    return [float(part) for part in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", plain)]
