"""The sheet that places are drawn on: colours under the light of an hour and a weather, paint, and outlines.

Every colour that a place names is its colour at noon; `Sheet.tone` carries it to the hour, weather and distance.
Lengths are in units of a thousandth of the picture's height; y runs down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from random import Random

from limner.painter.scene import Time, Weather

Rgb = tuple[float, float, float]  # 0 to 255, or factors where it is a light
BLEED = 2.0


@lru_cache(maxsize=4096)
def rgb(colour: str) -> Rgb:
    """`#rrggbb` as three numbers from 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def hexed(colour: Rgb) -> str:
    """The nearest `#rrggbb`."""
    r, g, b = (min(255, max(0, round(v))) for v in colour)
    return f"#{r:02x}{g:02x}{b:02x}"


def mix(a: Rgb, b: Rgb, t: float) -> Rgb:
    """`a` at t=0, `b` at t=1."""
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


def lit(colour: Rgb, light: Rgb) -> Rgb:
    """A colour under a light."""
    return colour[0] * light[0], colour[1] * light[1], colour[2] * light[2]


def grey(colour: Rgb) -> Rgb:
    """The cool grey of a colour's luma."""
    luma = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    return luma * 0.95, luma * 0.99, luma * 1.05


@lru_cache(maxsize=4096)
def shades(colour: str) -> tuple[str, str]:
    """A colour's shaded and lit versions: darker and cooler, lighter and warmer."""
    c = rgb(colour)
    return hexed(mix(c, rgb("#14304e"), 0.26)), hexed(mix(c, rgb("#fff6c8"), 0.28))


@dataclass(frozen=True)
class Hour:
    """A clear sky at one time of day. `at` is the light's x as a fraction and its altitude: 0 at the horizon, 1 at "
    "the top."""

    zenith: str
    middle: str
    horizon: str
    light: Rgb  # factors on everything under this sky
    lamp: Rgb  # factors on everything in a room
    cloud: str
    shade: str
    disc: str | None
    glow: str
    at: tuple[float, float]
    radius: float
    stars: float  # 0 none to 1 many
    windows: float  # share of windows that are lit
    cast: float = 0.0  # share of the sky's own colour in everything under it


HOURS: dict[Time, Hour] = {
    "dawn": Hour("#86a4ea", "#f6c0d4", "#ffead2", (0.97, 0.88, 0.91), (0.97, 0.88, 0.88), "#fff2ef", "#f1b9ca",
                 "#fffbe8", "#ffe3b8", (0.24, 0.16), 62, 0.0, 0.25),
    "day": Hour("#3f9deb", "#8accf7", "#e0f4fb", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), "#ffffff", "#d4e7f6",
                "#fffce6", "#fff7cf", (0.8, 0.74), 50, 0.0, 0.0),
    "sunset": Hour("#5b62b8", "#f79670", "#ffda8c", (1.04, 0.82, 0.67), (1.02, 0.85, 0.70), "#ffc7a0", "#ea8a7d",
                   "#fff5c8", "#ffd680", (0.74, 0.15), 84, 0.0, 0.2),
    "dusk": Hour("#2c2e70", "#8b5cab", "#f3a5a4", (0.63, 0.55, 0.78), (0.80, 0.66, 0.62), "#a87bb8", "#785a9f",
                 None, "#ffb8a0", (0.3, 0.0), 0, 0.4, 0.6, 0.1),
    "night": Hour("#0c1642", "#1e316e", "#42599a", (0.41, 0.48, 0.74), (0.66, 0.54, 0.53), "#4a5fa6", "#34468a",
                  "#f8f3da", "#93a8ec", (0.78, 0.72), 46, 1.0, 0.6, 0.2),
}  # fmt: skip


@dataclass(frozen=True)
class Cover:
    """What a weather does to a clear sky."""

    grey: float  # how far colours go to grey
    dim: float  # brightness factor
    clouds: float  # clouds for each 1000 units of width
    deck: float  # how dark the bank of cloud along the top is; 0 for none


COVERS: dict[Weather, Cover] = {
    "clear": Cover(0.0, 1.0, 3.0, 0.0),
    "cloudy": Cover(0.5, 0.95, 7.0, 0.75),
    "rain": Cover(0.72, 0.78, 5.0, 1.0),
    "snow": Cover(0.62, 0.98, 5.0, 0.85),
}


@dataclass(frozen=True)
class Sky:
    """The air over a place: an hour under a weather."""

    zenith: Rgb
    middle: Rgb
    haze: Rgb  # the colour at the horizon, which far things fade into
    light: Rgb
    lamp: Rgb
    cloud: Rgb
    shade: Rgb
    hour: Hour
    cover: Cover
    weather: Weather

    @property
    def clear(self) -> bool:
        return self.weather == "clear"


@lru_cache(maxsize=32)
def sky_at(time: Time, weather: Weather) -> Sky:
    """The sky of a time and a weather."""
    hour, cover = HOURS[time], COVERS[weather]

    dimmed = cover.dim + (1 - cover.dim) * 0.5 * hour.stars

    def under(colour: str, share: float = cover.grey) -> Rgb:
        c = rgb(colour)
        return lit(mix(c, grey(c), share), (dimmed, dimmed, dimmed))

    even, dim = sum(hour.light) / 3, 1 - (1 - dimmed) * 0.8
    light = lit(mix(hour.light, (even, even, even), 0.35 * cover.grey), (dim, dim, dim))
    zenith, middle, horizon = under(hour.zenith), under(hour.middle), under(hour.horizon)
    cloud, shade = under(hour.cloud, cover.grey * 0.8), under(hour.shade)
    return Sky(zenith, middle, horizon, light, hour.lamp, cloud, shade, hour, cover, weather)


@dataclass
class Sheet:
    """A drawing under way: `body` lies behind the things of the scene, `front` over them."""

    sky: Sky
    w: float  # width in units
    rng: Random  # for what stays the same at every hour
    air: Random  # for what the sky and the weather need
    indoors: bool = False
    body: list[str] = field(default_factory=list)
    front: list[str] = field(default_factory=list)
    names: int = 0
    sun: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.parts = self.body
        self.u = min(1.0, 0.5 + 0.5 * self.w / 1000)  # things are smaller on narrow pictures
        self.tones: dict[tuple[str, float, float], str] = {}

    def tone(self, colour: str, depth: float = 0.0, snow: float = 0.0) -> str:
        """The colour as seen now: `depth` 0 near to 1 lost in haze; `snow` is how much of it settles when it snows."""
        key = (colour, depth, snow)
        if key not in self.tones:
            c = rgb(colour)
            if snow and self.sky.weather == "snow":
                c = mix(c, (240, 246, 252), snow)
            if self.indoors:
                c = lit(c, self.sky.lamp)
            else:
                c = lit(mix(c, grey(c), self.sky.cover.grey * 0.35), self.sky.light)
                c = mix(c, self.sky.middle, self.sky.hour.cast)
            self.tones[key] = hexed(mix(c, self.sky.haze, depth * 0.85))
        return self.tones[key]

    def add(self, svg: str) -> None:
        self.parts.append(svg)

    def path(self, d: str, fill: str, more: str = "") -> None:
        self.parts.append(f'<path d="{d}" fill="{fill}" {more}/>')

    def line(self, d: str, stroke: str, width: float, opacity: float = 1.0) -> None:
        """Round-ended strokes; `h0` draws a dot."""
        self.parts.append(
            f'<path d="{d}" fill="none" stroke="{stroke}" stroke-width="{width:.1f}" stroke-linecap="round" '
            f'stroke-linejoin="round" stroke-opacity="{opacity:.2f}"/>'
        )

    def rect(self, x: float, y: float, w: float, h: float, fill: str, more: str = "") -> None:
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{fill}" {more}/>')

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: str, more: str = "") -> None:
        """Arcs rather than <ellipse>, whose box Skia does not give to gradients."""
        arc = f"a{rx:.1f} {ry:.1f} 0 1 0"
        self.path(f"M{x - rx:.1f} {y:.1f}{arc} {2 * rx:.1f} 0{arc} {-2 * rx:.1f} 0z", fill, more)

    def fade(self, *stops: tuple[float, str, float] | tuple[float, str], across: bool = False) -> str:
        """A linear gradient over the shape's box, downwards or `across`; gives its paint.

        Stops are (offset, colour, opacity=1).
        """
        self.names += 1
        end = 'x2="1" y2="0"' if across else 'x2="0" y2="1"'
        self.parts.append(f'<linearGradient id="bg-{self.names}" x1="0" y1="0" {end}>{_stops(stops)}</linearGradient>')
        return f"url(#bg-{self.names})"

    def halo(self, *stops: tuple[float, str, float] | tuple[float, str]) -> str:
        """A radial gradient over the shape's box; gives its paint."""
        self.names += 1
        self.parts.append(
            f'<radialGradient id="bg-{self.names}" cx="0.5" cy="0.5" r="0.5">{_stops(stops)}</radialGradient>'
        )
        return f"url(#bg-{self.names})"

    def glow(self, x: float, y: float, rx: float, ry: float, colour: str, opacity: float) -> None:
        """Light that dies away from a point."""
        paint = self.halo((0, colour, opacity), (0.35, colour, opacity * 0.45), (1, colour, 0))
        self.ellipse(x, y, rx, ry, paint)

    def mirrored(self, flipped: bool) -> Callable[[float], float]:
        """From fractions of the width, counted from the right if `flipped`, to x."""
        return lambda x: self.w * (1 - x if flipped else x)

    def sides(self, n: int, inner: float = 0.27) -> list[float]:
        """n values of x, left and right in turn, that leave the middle free from `inner` to 1 - `inner`."""
        first = self.rng.random() < 0.5
        return [
            self.w * (x if (i % 2 == 0) == first else 1 - x)
            for i, x in enumerate(self.rng.uniform(-0.01, inner) for _ in range(n))
        ]


def _stops(stops: tuple[tuple[float, str, float] | tuple[float, str], ...]) -> str:
    return "".join(
        f'<stop offset="{s[0]:.2f}" stop-color="{s[1]}"' + (f' stop-opacity="{s[2]:.2f}"/>' if len(s) == 3 else "/>")
        for s in stops
    )


def box(x: float, y: float, w: float, h: float) -> str:
    """A rectangle as path data."""
    return f"M{x:.1f} {y:.1f}h{w:.1f}v{h:.1f}h{-w:.1f}z"


def dot(x: float, y: float) -> str:
    """A point for `Sheet.line`, which its round ends make a disc."""
    return f"M{x:.1f} {y:.1f}h0.01"


def contour(s: Sheet, y: float, rise: float, wave: float) -> list[tuple[float, float]]:
    """Points of a gentle outline around y, `rise` high, whose hills are about `wave` wide."""
    phases = [s.rng.uniform(0, math.tau) for _ in range(3)]
    step = min(60.0, wave / 8)
    points, x = [], -20.0
    while x < s.w + 20 + step:
        turn = math.tau * x / wave
        lift = (
            0.62 * math.sin(turn + phases[0])
            + 0.28 * math.sin(2.1 * turn + phases[1])
            + 0.1 * math.sin(4.3 * turn + phases[2])
        )
        points.append((x, y - rise * lift))
        x += step
    return points


def smooth(points: list[tuple[float, float]]) -> str:
    """Path data of a curve through the middles of the points' chords, from the first to the last."""
    (x, y), parts = points[0], [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (ax, ay), (bx, by) in pairwise(points[1:]):
        parts.append(f"Q{ax:.1f} {ay:.1f} {(ax + bx) / 2:.1f} {(ay + by) / 2:.1f}")
    x, y = points[-1]
    return "".join(parts) + f"L{x:.1f} {y:.1f}"


def hill(
    s: Sheet, y: float, rise: float, wave: float, colour: str, depth: float = 0.0, snow: float = 0.85, foot: float = 1.0
) -> list[tuple[float, float]]:
    """A rolling hill from y down to the bottom, lighter at its brow; gives its outline's points."""
    points = contour(s, y, rise, wave)
    dark = hexed(mix(rgb(colour), rgb("#20405a"), 0.22 * foot))
    paint = s.fade((0, s.tone(colour, depth, snow)), (1, s.tone(dark, depth * 0.8, snow)))
    s.path(f"{smooth(points)}V{1000 + BLEED:.0f}H{-20:.0f}Z", paint)
    return points


def at(points: list[tuple[float, float]], x: float) -> float:
    """The outline's y at x."""
    first, step = points[0][0], points[1][0] - points[0][0]
    i = min(len(points) - 2, max(0, int((x - first) / step)))
    t = (x - points[i][0]) / step
    return points[i][1] * (1 - t) + points[i + 1][1] * t
