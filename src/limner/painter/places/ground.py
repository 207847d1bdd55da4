"""What open-air places share: meadows, paths, fences, peaks, near plants and contact shadows."""

from __future__ import annotations

from limner.painter.places.sheet import Sheet, dot, shades
from limner.painter.places.stamps import stamp

FLOWERS = ("#f58fb0", "#ffd65a", "#ffffff", "#b78af0", "#f2704f")


LEAVES = (
    ("#5fae4a", "#74b84f", "#4c9c56"),
    ("#4f9e52", "#86b84a", "#3f8f5c"),
    ("#e0983a", "#d4663a", "#c9a53c"),
    ("#6fb35a", "#f2a3bd", "#8cc26a"),
)


def spread(s: Sheet, gap: float, jitter: float = 0.5) -> list[float]:
    """Positions across the whole width, about `gap` apart."""
    n = max(2, round(s.w / gap) + 1)
    return [(i + s.rng.uniform(-jitter, jitter)) * s.w / (n - 1) for i in range(n)]


def shadow(s: Sheet, x: float, y: float, rx: float, ry: float) -> None:
    """The soft patch under something that stands."""
    s.ellipse(x, y, rx, ry, "#14243c", 'fill-opacity="0.18"')


def meadow(s: Sheet, top: float, colour: str, flowers: float = 1.0) -> None:
    """Grass strokes and flower dots from y = top down, sparser in the middle, where things will stand."""
    dark, light = shades(colour)
    blades: dict[str, str] = {dark: "", light: ""}
    petals: dict[str, str] = dict.fromkeys(FLOWERS[:4], "")
    for _ in range(round(46 * s.w / 1000)):
        y = s.rng.uniform(top + 20, 990)
        x, k = s.rng.uniform(0, s.w), 6 + 16 * (y - top) / (1000 - top)
        blades[s.rng.choice((dark, light))] += (
            f"M{x - k * 0.6:.1f} {y - k:.1f}L{x:.1f} {y:.1f}L{x + k * 0.5:.1f} {y - k * 0.9:.1f}"
        )
    for _ in range(round(30 * flowers * s.w / 1000)):
        x, y = s.sides(1, 0.36)[0], s.rng.uniform(top + 25, 985)
        petals[s.rng.choice(FLOWERS[:4])] += dot(x, y)
    for colour_, d in blades.items():
        s.line(d, s.tone(colour_, 0, 0.9), 3.4, 0.75)
    if s.sky.weather != "snow":
        for colour_, d in petals.items():
            if d:
                s.line(d, s.tone(colour_), 9.5)


def trail(s: Sheet, top: float, colour: str, edge: str) -> None:
    """A path that winds from the bottom of the picture to y = top."""
    c, sway = s.w * s.rng.uniform(0.42, 0.58), s.w * s.rng.choice((-0.16, 0.16))
    sway = max(-170.0, min(170.0, sway))
    base, mid = 150 * s.u + 60, (1000 + top) / 2
    for grow, ink in ((18, edge), (0, colour)):
        a, b = base + grow, 11 + grow * 0.25
        s.path(
            f"M{c - a:.1f} 1002C{c - a * 0.7 + sway * 0.2:.1f} {mid + 90:.1f} {c - sway - a * 0.3:.1f} {mid:.1f} "
            f"{c + sway * 0.5 - b:.1f} {top:.1f}"
            f"L{c + sway * 0.5 + b:.1f} {top:.1f}C{c - sway + a * 0.4:.1f} {mid:.1f} {c + a * 0.8 + sway * 0.2:.1f} "
            f"{mid + 90:.1f} {c + a:.1f} 1002Z",
            s.tone(ink, 0, 0.75),
        )


def brink(s: Sheet, *names: str, size: float = 130, **colours: str) -> None:
    """Near plants in the lower corners, over everything."""
    s.parts = s.front
    for x in s.sides(round(4 + 3 * s.w / 1000), 0.13):
        k = s.rng.uniform(0.7, 1.25) * s.u
        stamp(s, s.rng.choice(names), x, 1012, size * k, 0, s.rng.random() < 0.5, **colours)


def fence(s: Sheet, y: float, left: float, right: float, k: float) -> None:
    """White rails between two values of x."""
    ink, n = s.tone("#f7efe2"), max(2, round((right - left) / (62 * k)))
    d = "".join(f"M{left + (right - left) * i / n:.1f} {y:.1f}v{-60 * k:.1f}" for i in range(n + 1))
    s.line(d, ink, 9 * k)
    s.line(f"M{left:.1f} {y - 22 * k:.1f}H{right:.1f}M{left:.1f} {y - 45 * k:.1f}H{right:.1f}", ink, 7 * k)


def peaks(s: Sheet, foot: float, height: float, gap: float, colour: str, depth: float) -> None:
    """A chain of snowy peaks, their right sides in shade."""
    stone, cap = s.tone(colour, depth, 0.35), s.tone("#ffffff", depth * 0.6)
    dark = s.tone(shades(colour)[0], depth, 0.3)
    shaded_cap = s.tone("#cddcf0", depth * 0.6)
    xs = spread(s, gap, 0.3)
    chain = sorted(
        ((x, height * s.rng.uniform(0.6, 1.0), gap * s.rng.uniform(0.75, 1.0)) for x in xs), key=lambda p: p[1]
    )
    for x, h, half in chain:
        top, k = foot - h, s.rng.uniform(-0.12, 0.12) * half
        s.path(
            f"M{x - half:.1f} {foot:.1f}L{x - half * 0.45:.1f} {foot - h * 0.5:.1f}L{x:.1f} {top:.1f}"
            f"L{x + half * 0.42:.1f} {foot - h * 0.55:.1f}L{x + half:.1f} {foot:.1f}Z",
            stone,
        )
        s.path(
            f"M{x:.1f} {top:.1f}L{x + half * 0.42:.1f} {foot - h * 0.55:.1f}L{x + half:.1f} {foot:.1f}H{x + k:.1f}"
            f"L{x + half * 0.16:.1f} {foot - h * 0.42:.1f}L{x - half * 0.03:.1f} {foot - h * 0.62:.1f}Z",
            dark,
        )
        a, b = half * 0.27, h * 0.3
        s.path(
            f"M{x:.1f} {top:.1f}L{x - a:.1f} {top + b:.1f}L{x - a * 0.55:.1f} {top + b * 0.82:.1f}"
            f"L{x - a * 0.2:.1f} {top + b * 1.15:.1f}L{x + a * 0.15:.1f} {top + b * 0.8:.1f}"
            f"L{x + a * 0.5:.1f} {top + b * 1.05:.1f}L{x + a * 0.84:.1f} {top + b * 0.9:.1f}Z",
            cap,
        )
        s.path(
            f"M{x:.1f} {top:.1f}L{x - half * 0.02:.1f} {top + b * 0.9:.1f}L{x + a * 0.15:.1f} {top + b * 0.8:.1f}"
            f"L{x + a * 0.5:.1f} {top + b * 1.05:.1f}L{x + a * 0.84:.1f} {top + b * 0.9:.1f}Z",
            shaded_cap,
        )
