"""Places with no ground or none to walk on: under water, in the sky, in space; and the plain studio ground."""

from __future__ import annotations

from limner.painter.places.air import billows, birds, fall, heavens, stars, weather
from limner.painter.places.ground import spread
from limner.painter.places.sheet import BLEED, Sheet, at, contour, dot, hexed, hill, mix, rgb, shades, smooth
from limner.painter.places.stamps import stamp


def underwater(s: Sheet) -> None:
    deep, mid, top = s.tone("#0d4f94"), s.tone("#1b8fc9"), s.tone("#7fe0ea")
    s.rect(-BLEED, -BLEED, s.w + 4, 1004, s.fade((0, top), (0.4, mid), (1, deep)))
    s.sun = (0.5, 0.0) if s.sky.clear else None
    s.glow(s.w / 2, -20, 300 + s.w * 0.4, 420, s.tone("#f2ffe8"), 0.75 if s.sky.clear else 0.35)
    surface = contour(s, 34, 14, 260)
    s.path(f"{smooth(surface)}V-2H-20Z", s.tone("#d8fbf4"), 'fill-opacity="0.55"')
    ink = s.tone("#eafff4")
    for i in range(max(3, round(5 * s.w / 1000))):
        x, b = s.w * (i + s.rng.uniform(0.1, 0.7)) / max(3, round(5 * s.w / 1000)), s.rng.uniform(16, 40) * s.u
        paint = s.fade((0, ink, 0.42 if s.sky.clear else 0.16), (1, ink, 0.0))
        s.path(f"M{x - b:.1f} -2H{x + b:.1f}L{x + b * 3.5 - 130:.1f} 760H{x - b * 3.5 - 150:.1f}Z", paint)
    for y, rise, depth, colour in ((700.0, 46, 0.5, "#2f7fb4"), (760.0, 40, 0.3, "#3a86a8")):
        brow = contour(s, y, rise, 420)
        s.path(f"{smooth(brow)}V1002H-20Z", s.tone(hexed(mix(rgb(colour), rgb("#1b8fc9"), depth))))
        for x in spread(s, 120):
            stamp(
                s,
                s.rng.choice(("kelp", "coral", "kelp")),
                x,
                at(brow, x) + 6,
                s.rng.uniform(70, 150) * s.u,
                0,
                leaf="#2a86a8",
                skin="#3f86b8",
            )
    _school(s)
    floor = hill(s, 838, 16, 640, "#e7d3a0", 0.0, 0.0, 0.8)
    s.line(
        "".join(f"M{x:.1f} {at(floor, x) + s.rng.uniform(40, 140):.1f}q22 -9 44 0" for x in spread(s, 75)),
        s.tone("#c9ae7a"),
        4,
        0.55,
    )
    plants = [
        (x, s.rng.uniform(850, 930), s.rng.choice(("kelp", "kelp", "coral", "coral", "anemone", "rock")))
        for x in s.sides(round(7 + 5 * s.w / 1000), 0.25)
    ]
    for x, y, name in sorted(plants, key=lambda p: p[1]):
        tall = {"kelp": 330, "coral": 170, "anemone": 90, "rock": 100}[name]
        stamp(
            s,
            name,
            x,
            y,
            tall * s.rng.uniform(0.7, 1.15) * (0.45 + 0.55 * s.u),
            0,
            s.rng.random() < 0.5,
            skin=s.rng.choice(("#f2687e", "#f59a5a", "#c77fe0", "#ffc857")),
            stone="#7d93a8",
            leaf=s.rng.choice(("#2f9a76", "#5fb25a", "#238a8a")),
        )
    for name in ("starfish", "shell"):
        stamp(s, name, s.sides(1, 0.3)[0], s.rng.uniform(925, 975), 34)
    s.parts = s.front
    rings = fills = ""
    for x0 in s.sides(round(4 + 3 * s.w / 1000), 0.34):
        y = s.rng.uniform(560, 900)
        for _ in range(6):
            r, x = s.rng.uniform(4, 14), x0 + s.rng.uniform(-20, 20)
            rings += f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 1 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 1 {-2 * r:.1f} 0z"
            fills += dot(x - r * 0.3, y - r * 0.35)
            y -= s.rng.uniform(40, 95)
    bubble = s.tone("#e6fbff")
    s.path(rings, bubble, f'fill-opacity="0.22" stroke="{bubble}" stroke-width="2.2" stroke-opacity="0.75"')
    s.line(fills, "#ffffff", 4.5, 0.8)
    if s.sky.weather == "snow":
        s.line(
            "".join(dot(s.air.uniform(0, s.w), s.air.uniform(60, 800)) for _ in range(round(50 * s.w / 1000))),
            s.tone("#ffffff"),
            5,
            0.6,
        )


def _school(s: Sheet) -> None:
    """Far fish in the upper half."""
    for _ in range(2 + round(s.w / 1000)):
        x0, y0, flip = s.rng.uniform(0.05, 0.95) * s.w, s.rng.uniform(170, 520), s.rng.random() < 0.5
        for _ in range(s.rng.randint(4, 7)):
            stamp(
                s,
                "fish",
                x0 + s.rng.uniform(-90, 90) * s.u,
                y0 + s.rng.uniform(-45, 45),
                s.rng.uniform(20, 32),
                0,
                flip,
                skin="#3b8fc4",
                eye="#3b8fc4",
            )


def sky(s: Sheet) -> None:
    heavens(s, 0.76)
    if s.rng.random() < 0.4 and s.sky.hour.stars == 0 and s.sky.clear:
        cx, cy, r = s.w * s.rng.choice((0.25, 0.75)), 860.0, min(620.0, 320 + s.w * 0.2)
        for i, ink in enumerate(("#f2685f", "#f7a24f", "#fbe06a", "#7ecb78", "#5aaee8", "#9b7fe0")):
            q = r - i * 17
            s.path(
                f"M{cx - q:.1f} {cy:.1f}A{q:.1f} {q:.1f} 0 0 1 {cx + q:.1f} {cy:.1f}",
                "none",
                f'stroke="{ink}" stroke-width="17.5" stroke-opacity="0.4"',
            )
    birds(s, 180, 420)
    puff = mix(s.sky.cloud, (255, 255, 255), 0.25 if s.sky.hour.stars < 1 else 0.0)
    for y, r, far in ((735.0, 66, 0.6), (790, 92, 0.36), (862, 122, 0.14), (945, 160, 0.0)):
        light, shade = mix(puff, s.sky.haze, far), mix(mix(s.sky.shade, s.sky.middle, 0.3), s.sky.haze, far)
        billows(s, y, r * (0.5 + 0.5 * s.u), 1002, light, shade)
    weather(s)


def space(s: Sheet) -> None:
    dark = s.rng.choice(
        (("#1a1446", "#3b2a86", "#6d4bb0"), ("#0f1b4a", "#1f4b96", "#2f86b8"), ("#2a1040", "#6b2a78", "#b04a86"))
    )
    s.rect(-BLEED, -BLEED, s.w + 4, 1004, s.fade((0, s.tone(dark[0])), (0.6, s.tone(dark[1])), (1, s.tone(dark[2]))))
    for ink, opacity in ((dark[2], 0.7), ("#f58fb8", 0.38), ("#5ad0e8", 0.3)):
        x, y = s.rng.uniform(0, s.w), s.rng.uniform(120, 800)
        s.glow(
            x, y, s.rng.uniform(260, 480), s.rng.uniform(180, 330), s.tone(ink), opacity * (1.0 if s.sky.clear else 1.3)
        )
    if s.sky.weather == "cloudy":
        for _ in range(5):
            s.glow(s.air.uniform(0, s.w), s.air.uniform(0, 900), 420, 130, s.tone("#e8c8f0"), 0.45)
    stars(s, 1050, 1.3)
    left = s.rng.random() < 0.5
    _planet(
        s,
        s.w * (0.2 if left else 0.8),
        230,
        120 * (0.4 + 0.6 * s.u),
        s.rng.choice(("#f0a35a", "#e87f7a", "#8fc4e8")),
        ring=True,
    )
    _planet(
        s,
        s.w * (0.86 if left else 0.14),
        470,
        54 * (0.4 + 0.6 * s.u),
        s.rng.choice(("#7fd0b0", "#b79af0", "#f2d07a")),
        ring=False,
    )
    s.sun = (0.12, 0.08) if left else (0.88, 0.08)
    if s.sky.weather in ("rain", "snow") or s.rng.random() < 0.3:
        for _ in range(3 if s.sky.clear else 9):
            x, y, k = s.air.uniform(0, s.w), s.air.uniform(30, 620), s.air.uniform(60, 150)
            s.path(
                f"M{x:.1f} {y:.1f}l{k:.1f} {-k * 0.5:.1f}l{-k * 0.96:.1f} {k * 0.56:.1f}z",
                "#fff6dc",
                'fill-opacity="0.7"',
            )
            s.ellipse(x, y + 3, 5, 5, "#fffbe8")
    if s.rng.random() < 0.55:  # the ground of a moon
        soil = s.rng.choice(("#b9b4cc", "#c8a08c", "#8fa0c0"))
        brow = hill(s, 868, 22, 900, soil)
        for x in spread(s, 150):
            y = at(brow, x) + s.rng.uniform(35, 110)
            r = 14 + (y - 850) * 0.3
            s.ellipse(x, y, r * 1.3, r * 0.42, s.tone(shades(soil)[0]))
            s.ellipse(x, y + r * 0.12, r * 1.14, r * 0.3, s.tone(hexed(mix(rgb(soil), rgb("#30284a"), 0.45))))
    else:  # the edge of a blue planet
        r = 900 + s.w * 0.9
        cy = 850 + r
        s.glow(s.w / 2, cy, r * 1.09, r * 1.09, s.tone("#8fe0ff"), 0.9)
        s.ellipse(s.w / 2, cy, r, r, s.tone("#3b93d8"))
        s.ellipse(s.w / 2, cy + 34, r, r, s.tone("#2f7fc8"))
        for x in spread(s, 190):
            s.ellipse(
                x,
                s.rng.uniform(925, 990),
                s.rng.uniform(50, 110),
                s.rng.uniform(8, 16),
                s.tone(s.rng.choice(("#6fc080", "#ffffff", "#ffffff", "#86cc7a"))),
                'fill-opacity="0.8"',
            )


def _planet(s: Sheet, x: float, y: float, r: float, colour: str, ring: bool) -> None:
    dark, light = shades(colour)
    back = (
        f'stroke="{s.tone(light)}" stroke-width="{r * 0.17:.1f}" stroke-opacity="0.85" transform="rotate(-18 '
        f'{x:.1f} {y:.1f})"'
    )
    if ring:
        s.path(
            f"M{x - r * 1.75:.1f} {y:.1f}A{r * 1.75:.1f} {r * 0.46:.1f} 0 0 1 {x + r * 1.75:.1f} {y:.1f}", "none", back
        )
    s.glow(x, y, r * 1.5, r * 1.5, s.tone(light), 0.4)
    s.ellipse(x, y, r, r, s.tone(dark))
    s.path(
        f"M{x - r:.1f} {y:.1f}A{r:.1f} {r:.1f} 0 0 1 {x + r * 0.5:.1f} {y - r * 0.866:.1f}Q{x + r * 0.75:.1f} "
        f"{y + r * 0.2:.1f} {x - r * 0.2:.1f} {y + r * 0.98:.1f}A{r:.1f} {r:.1f} 0 0 1 {x - r:.1f} {y:.1f}Z",
        s.tone(colour),
    )
    for dx, dy, k in ((-0.45, -0.3, 0.16), (0.05, 0.2, 0.22), (-0.5, 0.35, 0.1), (0.1, -0.55, 0.12)):
        s.ellipse(x + dx * r, y + dy * r, k * r * 1.3, k * r * 0.8, s.tone(dark), 'fill-opacity="0.4"')
    if ring:
        s.path(
            f"M{x - r * 1.75:.1f} {y:.1f}A{r * 1.75:.1f} {r * 0.46:.1f} 0 0 0 {x + r * 1.75:.1f} {y:.1f}", "none", back
        )


def plain(s: Sheet, colour: str) -> None:
    """A studio ground of one colour: a wall that curves into a floor, a soft vignette, and a broad pool of light."""
    base = rgb(colour)
    luma = (0.3 * base[0] + 0.59 * base[1] + 0.11 * base[2]) / 255
    high = hexed(mix(base, (255, 255, 255), 0.22 if luma < 0.85 else 0.5))
    low = hexed(mix(base, rgb("#1c2440"), 0.10 + 0.08 * luma))
    s.rect(-BLEED, -BLEED, s.w + 4, 1004, s.tone(colour))
    x = s.w * (0.5 + s.rng.uniform(-0.12, 0.12))
    s.glow(x, 360, max(520.0, s.w * 0.62), 620, s.tone(high), 0.85)
    s.sun = (round(x / s.w, 4), 0.1)
    s.rect(
        -BLEED,
        690,
        s.w + 4,
        314,
        s.fade((0, s.tone(low), 0.0), (0.12, s.tone(low), 0.4), (0.5, s.tone(low), 0.22), (1, s.tone(low), 0.55)),
    )
    s.glow(s.w / 2, 870, max(300.0, s.w * 0.4), 100, s.tone(high), 0.8)
    for a, b in ((0.0, 0.28), (1.0, 0.72)):
        ink = s.tone(low)
        stops = ((0, ink, 0.32), (1, ink, 0.0)) if a == 0 else ((0, ink, 0.0), (1, ink, 0.32))
        left = min(a, b) * s.w
        s.rect(left - (2 if a == 0 else 0), -BLEED, abs(b - a) * s.w + 2, 1004, s.fade(*stops, across=True))
    s.parts = s.front
    fall(s, -20, s.w + 60, -60, 1000)
