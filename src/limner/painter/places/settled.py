"""The city, the farm and the park, each a function that draws itself on a sheet, far things first."""

from __future__ import annotations

from limner.painter.places.air import birds, heavens, weather
from limner.painter.places.ground import FLOWERS, LEAVES, brink, fence, meadow, shadow, spread, trail
from limner.painter.places.sheet import BLEED, Sheet, at, box, contour, dot, hexed, hill, mix, rgb, shades, smooth
from limner.painter.places.stamps import row, stamp

TOWERS = ("#e8876b", "#f2b872", "#7fb3c8", "#c98fa8", "#8fa6d8", "#e9d3a8", "#9cc4a4", "#d8d8e0")


def city(s: Sheet) -> None:
    heavens(s, 0.68)
    birds(s, 110, 220)
    k = 0.55 + 0.45 * s.u
    for depth, low, high, step in ((0.8, 200, 420, 70), (0.6, 150, 330, 84)):
        d, x = "", -30.0
        while x < s.w + 30:
            w, h = step * k * s.rng.uniform(0.6, 1.2), s.rng.uniform(low, high) * (0.7 + 0.3 * k)
            d += box(x, 690 - h, w, h + 2)
            if s.rng.random() < 0.3:
                d += box(x + w * 0.3, 690 - h - 26, w * 0.4, 28) + box(x + w * 0.48, 690 - h - 60, w * 0.06, 40)
            x += w
        s.path(d, s.tone("#6f86b8", depth))
        if s.sky.hour.windows:
            s.line(
                "".join(
                    dot(s.air.uniform(0, s.w), s.air.uniform(700 - low, 690)) for _ in range(round(50 * s.w / 1000))
                ),
                "#ffdf8a",
                5.5,
                0.75 * s.sky.hour.windows,
            )
    x = -40.0
    while x < s.w + 30:
        w = s.rng.uniform(95, 165) * k
        middle = 1 - min(1.0, abs((x + w / 2) / s.w - 0.5) / 0.5)
        h = s.rng.uniform(300, 520) * (1 - 0.62 * middle)
        _tower(s, x, 716, w, h, s.rng.choice(TOWERS), 0.16)
        x += w + s.rng.choice((0.0, 0.0, 8.0))
    x = -10.0
    while x < s.w:
        w = s.rng.uniform(105, 150) * k
        if abs((x + w / 2) / s.w - 0.5) > 0.12:
            _shop(s, x, 736, w, s.rng.uniform(120, 165) * (0.6 + 0.4 * k))
        x += w + s.rng.uniform(0, 26)
    _bushes(s, 734)
    s.rect(-BLEED, 730, s.w + 4, 274, s.tone("#cfc8c4", 0, 0.6))
    s.line(
        "".join(f"M{x:.1f} 731l{(x - s.w / 2) * 0.06:.1f} 38" for x in spread(s, 90, 0.0)), s.tone("#aaa4a4"), 2.5, 0.8
    )
    s.rect(-BLEED, 768, s.w + 4, 12, s.tone("#9a9498", 0, 0.4))
    s.rect(-BLEED, 778, s.w + 4, 226, s.fade((0, s.tone("#6d7285", 0, 0.35)), (1, s.tone("#565b70", 0, 0.3))))
    dashes = "".join(f"M{x:.1f} 872h86l-10 14h-86z" for x in (i * 190 - 40 for i in range(round(s.w / 190) + 2)))
    s.path(dashes, s.tone("#f5efdc"), 'fill-opacity="0.85"')
    s.path(box(-BLEED, 962, s.w + 4, 10), s.tone("#f5efdc"), 'fill-opacity="0.6"')
    if s.sky.weather == "rain":
        for x in s.sides(5, 0.45):
            s.ellipse(
                x,
                s.air.uniform(800, 960),
                s.air.uniform(50, 110),
                9,
                hexed(mix(s.sky.haze, (255, 255, 255), 0.2)),
                'fill-opacity="0.35"',
            )
    for x in (0.07, 0.93) if s.w < 1300 else (0.05, 0.28, 0.72, 0.95):
        stamp(s, "oak", s.w * x, 766, 190 * k, 0, leaf="#6fb35a")
        lamp = s.w * (x + (0.09 if x < 0.5 else -0.09))
        stamp(s, "lamp", lamp, 770, 300 * k)
        if s.sky.hour.windows >= 0.5:
            s.glow(lamp, 770 - 264 * k, 120, 120, "#ffe3a0", 0.7)
    weather(s)


def _tower(s: Sheet, x: float, foot: float, w: float, h: float, colour: str, depth: float) -> None:
    """A building with a grid of windows, some of them lit, and a roof of one of four kinds."""
    top, dark = foot - h, s.tone(shades(colour)[0], depth)
    s.rect(x, top, w, h, s.tone(colour, depth))
    s.rect(x + w * 0.8, top, w * 0.2, h, dark)
    roof = s.rng.randrange(4)
    if roof == 0:
        s.rect(x - 4, top - 6, w + 8, 12, dark)
    elif roof == 1:
        s.path(f"M{x:.1f} {top + 1:.1f}l{w / 2:.1f} {-w * 0.32:.1f}l{w / 2:.1f} {w * 0.32:.1f}z", dark)
    elif roof == 2:
        s.path(
            box(x + w * 0.2, top - w * 0.22, w * 0.6, w * 0.22 + 1)
            + box(x + w * 0.48, top - w * 0.55, w * 0.05, w * 0.4),
            dark,
        )
    else:
        s.path(
            f"M{x + w * 0.18:.1f} {top + 1:.1f}v{-w * 0.24:.1f}q{w * 0.16:.1f} {-w * 0.12:.1f} {w * 0.32:.1f} "
            f"0v{w * 0.24:.1f}z",
            s.tone("#9a6f58", depth),
        )
    if s.sky.weather == "snow":
        s.rect(x - 3, top - 5, w + 6, 8, s.tone("#f7fbff", depth), 'rx="4"')
    gap = 30 if depth < 0.3 else 24
    cols, rows = max(2, int(w / gap)), max(2, int(h / (gap * 1.25)))
    cw, rh = w / cols, (h - 14) / rows
    on, off = "", ""
    for i in range(rows):
        for j in range(cols):
            d = box(x + cw * (j + 0.24), top + 14 + rh * (i + 0.1), cw * 0.52, rh * 0.52)
            if s.rng.random() < s.sky.hour.windows:
                on += d
            else:
                off += d
    s.path(off, s.tone(hexed(mix(rgb("#39587c"), rgb(colour), 0.25 + 0.3 * depth)), depth), 'fill-opacity="0.75"')
    if on:
        s.path(on, hexed(mix(rgb("#ffd873"), s.sky.haze, depth * 0.4)))


def _bushes(s: Sheet, y: float) -> None:
    for x in s.sides(round(5 * s.w / 1000) + 2, 0.4):
        stamp(s, "bush", x, y, s.rng.uniform(30, 46), 0.05)


def _shop(s: Sheet, x: float, foot: float, w: float, h: float) -> None:
    """A low front with an awning, a shop window and a door."""
    colour, cloth = s.rng.choice(TOWERS), s.rng.choice(("#e2564e", "#3f8fc0", "#4fa36a", "#f0a33c"))
    s.rect(x, foot - h, w, h, s.tone(colour))
    s.rect(x - 4, foot - h - 4, w + 8, 13, s.tone(shades(colour)[0], 0, 0.8))
    glass = "#ffdf94" if s.sky.hour.windows >= 0.5 or s.sky.weather == "rain" else s.tone("#a9d8ef")
    for i in range(2):
        s.rect(x + w * (0.14 + 0.42 * i), foot - h * 0.88, w * 0.28, h * 0.22, glass)
    s.rect(x + w * 0.1, foot - h * 0.44, w * 0.5, h * 0.34, glass)
    s.rect(x + w * 0.68, foot - h * 0.46, w * 0.22, h * 0.46, s.tone("#5d4640"))
    n, drop = 6, h * 0.16
    top = foot - h * 0.6
    for i in range(n):
        a, c = x + 2 + (w - 4) * i / n, (w - 4) / n
        s.path(
            f"M{a:.1f} {top:.1f}h{c:.1f}v{drop:.1f}a{c / 2:.1f} {c / 2:.1f} 0 0 1 {-c:.1f} 0z",
            s.tone(cloth if i % 2 else "#fff6e8", 0, 0.4),
        )


def farm(s: Sheet) -> None:
    heavens(s, 0.56)
    birds(s, 140, 240)
    k = 0.55 + 0.45 * s.u
    far = hill(s, 530, 30, 620, "#9cc45c", 0.55)
    row(s, ("oak", "poplar", "bush"), spread(s, 120), far, 62 * k, 0.5)
    hill(s, 566, 22, 540, "#c9c45a", 0.38)
    mid = contour(s, 600, 14, 900)
    s.path(f"{smooth(mid)}V1002H-20Z", s.tone("#e3c765", 0.22, 0.7))
    vanish = s.w * s.rng.uniform(0.4, 0.6)
    rows = "".join(
        f"M{vanish + (x - vanish) * 0.55:.1f} 606L{vanish + (x - vanish) * 1.5:.1f} 720" for x in spread(s, 46, 0.0)
    )
    s.line(rows, s.tone("#b9973f", 0.2, 0.5), 6, 0.6)
    left = s.rng.random() < 0.5
    side = s.mirrored(not left)
    stamp(s, "silo", side(0.3), 664, 230 * k, 0.08)
    stamp(s, "barn", side(0.17), 672, 230 * k, 0.05)
    shadow(s, side(0.2), 674, 190 * k, 10)
    stamp(s, "windmill" if s.rng.random() < 0.6 else "oak", side(0.84), 652, 250 * k, 0.12)
    stamp(s, "poplar", side(0.02), 668, 250 * k, 0.1)
    grass = s.rng.choice(("#86bf55", "#7ab85a"))
    hill(s, 684, 12, 1000, grass, 0.05)
    meadow(s, 700, grass, 1.0)
    trail(s, 686, "#e3c48c", "#a8a851")
    fence(s, 760, -10, s.w * 0.27, k)
    fence(s, 760, s.w * 0.73, s.w + 10, k)
    for x, y in ((side(0.1), 850), (side(0.2), 800)):
        shadow(s, x, y, 66 * k, 8)
        stamp(s, "bale", x, y, 92 * k)
    for x in s.sides(round(5 + 3 * s.w / 1000), 0.14):
        stamp(
            s,
            "flower",
            x,
            s.rng.uniform(890, 985),
            s.rng.uniform(110, 170) * k,
            petal="#ffc93c",
            heart="#7a4a2c",
            leaf="#4f963f",
        )
    brink(s, "tuft", leaf="#5c9c3f", size=90)
    weather(s)


def park(s: Sheet) -> None:
    heavens(s, 0.56)
    birds(s, 130, 240)
    k, leaves = 0.55 + 0.45 * s.u, s.rng.choice(LEAVES)
    d, x = "", -20.0
    while x < s.w + 20:
        w, h = s.rng.uniform(34, 74) * k, s.rng.uniform(60, 210) * k
        d += box(x, 560 - h, w, h + 10)
        x += w + s.rng.choice((0, 0, 14))
    s.path(d, s.tone("#8fa3c8", 0.66))
    if s.sky.hour.windows >= 0.5:
        s.line(
            "".join(dot(s.air.uniform(0, s.w), s.air.uniform(490, 550)) for _ in range(round(40 * s.w / 1000))),
            "#ffe09a",
            4,
            0.7,
        )
    grass = "#86c45c"
    far = hill(s, 556, 12, 700, grass, 0.42)
    row(s, ("oak", "birch", "poplar", "bush"), spread(s, 80), far, 120 * k, 0.4, leaf=leaves[1])
    mid = hill(s, 606, 12, 800, grass, 0.2)
    xs = [x for x in spread(s, 150) if abs(x / s.w - 0.5) > 0.2]
    for x in xs:
        stamp(
            s,
            s.rng.choice(("oak", "birch", "oak")),
            x,
            at(mid, x) + 8,
            s.rng.uniform(200, 270) * k,
            0.2,
            s.rng.random() < 0.5,
            leaf=s.rng.choice(leaves),
        )
    if s.rng.random() < 0.6:
        x = s.w * s.rng.choice((0.3, 0.7))
        s.ellipse(x, 668, 190 * k, 21, s.tone("#5f9f4a", 0.1))
        s.ellipse(x, 668, 180 * k, 17, s.fade((0, s.tone("#8fd0ea", 0.1)), (1, s.tone("#4fa3d0", 0.1))))
        s.line(f"M{x - 70 * k:.1f} 664h{50 * k:.1f}M{x + 10 * k:.1f} 672h{70 * k:.1f}", s.tone("#ffffff"), 3, 0.6)
    hill(s, 690, 10, 1100, grass, 0.04)
    meadow(s, 704, grass, 1.0)
    trail(s, 690, "#e9d5ae", "#b9b878")
    left = s.rng.random() < 0.5
    side = s.mirrored(not left)
    shadow(s, side(0.2), 782, 120 * k, 9)
    stamp(s, "bench", side(0.2), 780, 92 * k)
    for x in (0.335, 0.8):
        shadow(s, side(x), 788, 24 * k, 5)
        stamp(s, "lamp", side(x), 788, 300 * k)
        if s.sky.hour.windows >= 0.5:
            s.glow(side(x), 788 - 264 * k, 130, 130, "#ffe3a0", 0.75)
    for x, y, size in ((0.035, 840, 620), (0.95, 800, 520)):
        shadow(s, side(x), y, size * 0.25 * k, 13)
        stamp(s, "oak", side(x), y, size * k, 0, leaf=s.rng.choice(leaves))
    bed = s.rng.choice(FLOWERS)
    for x in s.sides(round(7 + 5 * s.w / 1000), 0.17):
        stamp(
            s,
            "flower",
            x,
            s.rng.uniform(870, 980),
            s.rng.uniform(44, 72) * k,
            petal=s.rng.choice((bed, "#ffd65a", "#ffffff")),
            heart="#f0a33c",
        )
    brink(s, "tuft", "bush", leaf="#4d9a44", size=80)
    weather(s)
