"""The indoor places, each a function that draws itself on a sheet.

Rooms are drawn from the outside in: the view, a wall with holes for its windows, then what stands before it.
"""

from __future__ import annotations

from limner.painter.places.furniture import (
    armchair,
    bars,
    boards,
    checks,
    curtains,
    hole,
    lamplight,
    picture,
    pierced,
    plant,
    rug,
    shelves,
    skirting,
    sofa,
    sunlight,
    view,
)
from limner.painter.places.sheet import BLEED, Sheet, box, dot, shades


def room(s: Sheet) -> None:
    floor, k = 700.0, 0.5 + 0.5 * s.u
    wall, cloth = s.rng.choice(
        (
            ("#f3e2cc", "#d8705a"),
            ("#d5e5e2", "#e8a24a"),
            ("#f0d6d4", "#5f8fa8"),
            ("#dfe3f0", "#7a6fb0"),
            ("#e6ebd2", "#4f8f7a"),
        )
    )
    left = s.rng.random() < 0.5
    side = s.mirrored(not left)
    w, h, sill = min(330.0, s.w * 0.42), 330.0, 490.0
    spots = [s.w * 0.5] if s.w < 1500 else [s.w * 0.3, s.w * 0.7]
    view(s, -20, s.w + 20, sill - h - 20, sill, 430)
    pierced(s, [hole(x, sill, w, h) for x in spots], floor, wall, shades(wall)[0] if s.rng.random() < 0.3 else wall)
    stripes = s.rng.random() < 0.5
    d, x = "", 20.0
    while x < s.w and stripes:
        if all(abs(x + 9 - c) > w / 2 + 12 for c in spots):
            d += box(x, -2, 18, floor)
        x += 64
    if d:
        s.path(d, s.tone(shades(wall)[1]), 'fill-opacity="0.55"')
    boards(s, floor, s.rng.choice(("#c98f5c", "#b57a4c", "#d8aa78")))
    skirting(s, floor, "#fbf4e8")
    for x in spots:
        bars(s, x, sill, w, h, "#fdf8ee")
        curtains(s, x, sill, w, h, cloth, 640)
    picture(s, side(0.13) - 60 * k, 190, 120 * k, 92 * k)
    if s.w > 520:
        picture(s, side(0.86) - 40 * k, 160, 80 * k, 100 * k)
    rug(s, s.w / 2, 872, min(s.w * 0.4, 420), 74, s.rng.choice(("#c8605a", "#4f8f9f", "#d89a4a")))
    sunlight(s, spots[0], w, h, sill, floor, (90 if left else -90) * k)
    sofa(s, side(0.1), 800, 300 * k, s.rng.choice(("#4f8f8a", "#d8805a", "#6f7fb8", "#e0a84a")))
    lamp = side(0.9)
    lamplight(s, lamp, 380, 330)
    s.line(f"M{lamp:.1f} 786V390M{lamp - 34 * k:.1f} 788h{68 * k:.1f}", s.tone("#5d4a44"), 8 * k)
    glow = "#ffe3a0" if s.sky.hour.windows >= 0.5 else s.tone("#f7e3bd")
    s.path(f"M{lamp - 38 * k:.1f} 322h{76 * k:.1f}l{28 * k:.1f} {88 * k:.1f}h{-132 * k:.1f}z", glow)
    if s.w > 420:
        plant(s, side(0.985), 840, 260 * k)


def library(s: Sheet) -> None:
    floor, k = 715.0, 0.5 + 0.5 * s.u
    bays = max(1, round(s.w / 1250))
    w, h, sill = min(360.0, s.w / bays * 0.42), 480.0, 580.0
    shift = s.rng.choice((-0.07, 0.0, 0.07))
    spots = [s.w * ((i + 0.5) / bays + (shift if bays == 1 else 0)) for i in range(bays)]
    view(s, min(spots) - w, max(spots) + w, sill - h - 20, sill, 470)
    pierced(s, [hole(x, sill, w, h, w * 0.45) for x in spots], floor, "#e8d3b4", "#d8bd98")
    boards(s, floor, "#a8693f", 110)
    edges = [-14.0, *[e for x in spots for e in (x - w / 2 - 44, x + w / 2 + 44)], s.w + 14]
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        shelves(s, a, b, 44, floor)
    s.rect(-BLEED, -BLEED, s.w + 4, 26, s.tone("#6b4029"))
    for x in spots:
        bars(s, x, sill, w, h, "#8a5a3a", w * 0.45)
        s.rect(x - w / 2 - 26, sill + 28, w + 52, floor - sill - 28, s.tone("#8f5c3a"))
        for i in range(3):
            s.rect(
                x - w / 2 - 12 + (w + 36) / 3 * i,
                sill + 46,
                (w + 36) / 3 - 12,
                floor - sill - 70,
                s.tone("#7a4a2e"),
                'rx="5"',
            )
        s.rect(x - w / 2 - 18, sill - 14, w + 36, 16, s.tone("#c8605a"), 'rx="7"')
        if w > 200:
            plant(s, x - w * 0.38, sill - 12, 96)
            for i, ink in enumerate(("#3f7f8f", "#e09a3a", "#a83f5a")):
                s.rect(x + w * 0.24 + i * 3, sill - 28 - 13 * i, 66 - 6 * i, 12, s.tone(ink), 'rx="2"')
    left = s.rng.random() < 0.5
    side = s.mirrored(not left)
    x = side(0.2)
    if s.w > 500:
        d = f"M{x:.1f} 60L{x - 50:.1f} 752M{x + 56:.1f} 60L{x + 6:.1f} 752"
        rungs = "".join(f"M{x - 6 - 7.2 * i + 4:.1f} {130 + 92 * i}h52" for i in range(7))
        s.line(d + rungs, s.tone("#d9a468"), 9)
    rug(s, s.w / 2, 880, min(s.w * 0.42, 460), 76, s.rng.choice(("#a8404a", "#3f6f8f", "#4f7f5f")))
    lean = (110 if s.rng.random() < 0.5 else -110) * k
    for x in spots:
        sunlight(s, x, w, h, sill, floor, lean)
    for x in [s.w * (i + 0.5) / bays + dx * s.w / bays for i in range(bays) for dx in (-0.33, 0.33)]:
        s.line(f"M{x:.1f} 0V96", s.tone("#5d4038"), 5)
        lamplight(s, x, 150, 210)
        s.path(
            f"M{x - 46 * k:.1f} 150Q{x - 40 * k:.1f} 96 {x:.1f} 94Q{x + 40 * k:.1f} 96 {x + 46 * k:.1f} 150Z",
            "#ffe3a0" if s.sky.hour.windows >= 0.5 else s.tone("#f6e0b4"),
        )
    if s.w > 420:
        armchair(s, side(0.9), 852, 210 * k, s.rng.choice(("#4f7f6f", "#b8604a", "#5a6fa8")), left)


def kitchen(s: Sheet) -> None:
    floor, k = 715.0, 0.5 + 0.5 * s.u
    front, wall = s.rng.choice(
        (
            ("#7fb0a8", "#fbf1dc"),
            ("#e8a87a", "#f6efe0"),
            ("#8fa8d0", "#f7efe6"),
            ("#f0d28a", "#e6efe8"),
            ("#d88f8f", "#faf0e6"),
        )
    )
    dark, light = shades(front)
    w, h, sill = min(300.0, s.w * 0.36), 270.0, 430.0
    view(s, s.w / 2 - w, s.w / 2 + w, sill - h - 20, sill, 380)
    pierced(s, [hole(s.w / 2, sill, w, h)], floor, wall, wall)
    tiles = "".join(f"M-2 {y}H{s.w + 2:.1f}" for y in (470, 508, 546)) + "".join(
        f"M{x * 46:.0f} 456V560" for x in range(int(s.w / 46) + 1)
    )
    s.rect(-BLEED, 456, s.w + 4, 104, s.tone("#ffffff"))
    s.line(tiles, s.tone(light), 3, 0.8)
    bars(s, s.w / 2, sill, w, h, "#fdf8ee")
    s.path(
        f"M{s.w / 2 - w / 2 - 20:.1f} {sill - h - 16:.1f}h{w + 40:.1f}v44"
        + "".join(f"a{(w + 40) / 16:.1f} 20 0 0 1 {-(w + 40) / 8:.1f} 0" for _ in range(8))
        + "z",
        s.tone("#e8705f"),
    )
    for a, b in ((-12.0, s.w / 2 - w / 2 - 60), (s.w / 2 + w / 2 + 60, s.w + 12)):  # wall cupboards
        n = max(1, round((b - a) / 130))
        for i in range(n):
            x, cw = a + (b - a) * i / n, (b - a) / n
            s.rect(x, 70, cw, 250, s.tone(front))
            s.rect(x + 12, 84, cw - 24, 222, "none", f'stroke="{s.tone(dark)}" stroke-width="4" rx="6"')
            s.line(dot(x + (cw - 24 if i % 2 == 0 else 24), 282), s.tone("#f6dd9a"), 13)
        s.rect(a - 4, 316, b - a + 8, 12, s.tone(dark))
        s.rect(a, 404, b - a, 9, s.tone("#b87f52"))  # a shelf with jars
        x = a + 26
        while x < b - 30:
            jar = s.tone(s.rng.choice(("#e2705a", "#f0b84a", "#6fae8a", "#7f9fd0", "#b8c4d0")))
            r = s.rng.uniform(13, 19)
            s.rect(x, 404 - r * 2.3, r * 1.9, r * 2.3, jar, 'rx="5"')
            s.rect(x + r * 0.25, 404 - r * 2.8, r * 1.4, r * 0.55, s.tone("#8a5a3a"), 'rx="2"')
            x += r * 1.9 + s.rng.uniform(10, 34)
    s.rect(-BLEED, floor - 4, s.w + 4, 292, s.fade((0, s.tone("#e3d3bc")), (1, s.tone("#f3e7d3"))))
    checks(s, floor, "#c9a98a")
    n = max(2, round(s.w / 150))
    cw = s.w / n
    s.rect(-BLEED, 574, s.w + 4, floor - 574, s.tone(front))
    stove = s.rng.choice((0, n - 1)) if n > 2 else n - 1
    for i in range(n):
        x = cw * i
        if i == stove:
            s.rect(x + 2, 566, cw - 4, floor - 562, s.tone("#e9edf0"))
            s.rect(x + cw * 0.14, 622, cw * 0.72, 76, s.tone("#3f4a58"), 'rx="8"')
            s.line(f"M{x + cw * 0.2:.1f} 612h{cw * 0.6:.1f}", s.tone("#9aa6b0"), 7)
            s.line("".join(dot(x + cw * t, 590) for t in (0.22, 0.42, 0.62, 0.82)), s.tone("#55606c"), 13)
            s.rect(x + cw * 0.24, 510, cw * 0.5, 44, s.tone("#d8574a"), 'rx="9"')
            s.line(f"M{x + cw * 0.2:.1f} 518h{cw * 0.58:.1f}", s.tone("#b04038"), 9)
            s.line(dot(x + cw * 0.49, 506), s.tone("#3f3438"), 13)
            steam = f"M{x + cw * 0.4:.1f} 492q-14 -20 0 -38t0 -36M{x + cw * 0.58:.1f} 488q-14 -20 0 -38t0 -36"
            s.line(steam, s.tone("#ffffff"), 7, 0.5)
        else:
            s.rect(x + 8, 596, cw - 16, 30, "none", f'stroke="{s.tone(dark)}" stroke-width="4" rx="5"')
            s.rect(x + 8, 636, cw - 16, 66, "none", f'stroke="{s.tone(dark)}" stroke-width="4" rx="5"')
            s.line(f"M{x + cw * 0.42:.1f} 611h{cw * 0.16:.1f}", s.tone("#f6dd9a"), 7)
    s.rect(-BLEED, 552, s.w + 4, 24, s.tone("#c98f5c"))
    s.rect(-BLEED, 572, s.w + 4, 6, s.tone("#8a5a3a"))
    tap = s.w / 2
    s.line(f"M{tap:.1f} 552V496q0 -26 26 -26t26 26v10M{tap - 18:.1f} 524h36", s.tone("#b5c0c8"), 10)
    left = stove == 0
    side = s.mirrored(left)
    plant(s, s.w / 2 - w * 0.36, sill - 2, 84)
    x = side(0.25)
    s.path(
        f"M{x - 56 * k:.1f} 522h{112 * k:.1f}q{-10 * k:.1f} 30 {-34 * k:.1f} 30h{-44 * k:.1f}q{-24 * k:.1f} 0 "
        f"{-34 * k:.1f} -30z",
        s.tone("#f6efe2"),
    )
    for dx, ink in ((-30, "#e2504a"), (0, "#f5b43c"), (28, "#8fbf4a")):
        s.ellipse(x + dx * k, 512, 20 * k, 19, s.tone(ink))
    s.path(
        f"M{x - 56 * k:.1f} 522h{112 * k:.1f}q{-5 * k:.1f} 17 {-14 * k:.1f} 22h{-84 * k:.1f}q{-9 * k:.1f} -5 "
        f"{-14 * k:.1f} -22z",
        s.tone("#f6efe2"),
    )
    s.line(f"M{s.w / 2:.1f} 0V60", s.tone("#5d4a44"), 5)
    lamplight(s, s.w / 2, 112, 260)
    s.path(
        f"M{s.w / 2 - 70 * k:.1f} 112Q{s.w / 2 - 54 * k:.1f} 58 {s.w / 2:.1f} 56Q{s.w / 2 + 54 * k:.1f} 58 "
        f"{s.w / 2 + 70 * k:.1f} 112Z",
        "#ffe3a0" if s.sky.hour.windows >= 0.5 else s.tone("#e8705f"),
    )
    sunlight(s, s.w / 2, w, h, sill, floor, 80 * k * (1 if left else -1))


def stage(s: Sheet) -> None:
    floor, k = 700.0, 0.5 + 0.5 * s.u
    cloth = s.rng.choice(("#b8303a", "#8f2f5f", "#a8402f", "#3f3f8f"))
    dark, light = shades(cloth)
    deep = shades(dark)[0]
    view(s, 0, s.w, 100, floor, 560)
    s.rect(-BLEED, -BLEED, s.w + 4, 1004, "#20143c", 'fill-opacity="0.16"')
    boards(s, floor, "#b5793f", 100)
    s.rect(-BLEED, floor - 10, s.w + 4, 12, s.tone("#5d3a26"))
    for x, ink in ((0.3, "#ffe9b0"), (0.5, "#fff6dc"), (0.7, "#ffd0d8")):
        paint = s.fade((0, ink, 0.4), (1, ink, 0.06))
        a, b = s.w * (x * 0.7 + 0.15), s.w * 0.5 + (x - 0.5) * s.w * 0.5
        s.path(f"M{a - 12:.1f} 40H{a + 12:.1f}L{b + 150 * k:.1f} 870H{b - 150 * k:.1f}Z", paint)
        s.ellipse(b, 870, 150 * k, 30, ink, 'fill-opacity="0.26"')
    s.glow(s.w / 2, 860, s.w * 0.45, 120, "#fff0c0", 0.5)
    s.sun = (0.5, 0.04)
    span = max(60.0, s.w * 0.17)
    for side in (-1, 1):
        edge = s.w / 2 + side * (s.w / 2 + 6)
        n = 5
        for i in range(n):
            a, b = edge - side * span * i / n, edge - side * span * (i + 1) / n
            sag = 30 * (i + 1) / n
            paint = s.fade(
                (0, s.tone(deep if side < 0 else dark)),
                (0.5, s.tone(light if i % 2 else cloth)),
                (1, s.tone(deep if side > 0 else dark)),
                across=True,
            )
            s.path(
                f"M{a:.1f} -2H{b - side * 0.5:.1f}Q{b - side * 14:.1f} {420 - i * 20} {b + side * sag * 0.4:.1f} 560"
                f"Q{b - side * 6:.1f} 700 {b - side * 0.5:.1f} {812 - sag:.1f}Q{(a + b) / 2:.1f} {826 - sag:.1f} "
                f"{a:.1f} {818 - sag:.1f}Z",
                paint,
            )
        s.line(f"M{edge:.1f} 566L{edge - side * span * 0.86:.1f} 556", s.tone("#f0c65a"), 13)
    n = max(3, round(s.w / 190))
    sw = s.w / n
    for i in range(n):
        x = sw * i
        paint = s.fade((0, s.tone(deep)), (0.7, s.tone(cloth)), (1, s.tone(light)))
        s.path(f"M{x - 2:.1f} -2H{x + sw + 2:.1f}V92Q{x + sw / 2:.1f} 190 {x - 2:.1f} 92Z", paint)
        s.line(f"M{x:.1f} 94Q{x + sw / 2:.1f} 190 {x + sw:.1f} 94", s.tone("#f0c65a"), 8)
        for t in (0.3, 0.5, 0.7):
            s.line(f"M{x + sw * t:.1f} 0Q{x + sw * (t * 0.9 + 0.05):.1f} 80 {x + sw * t:.1f} 120", s.tone(dark), 4, 0.5)
    s.rect(-BLEED, -BLEED, s.w + 4, 28, s.tone("#f0c65a"))
    s.rect(-BLEED, 24, s.w + 4, 6, s.tone("#a87f2f"))
    s.parts = s.front
    m = max(3, round(s.w / 150))
    s.rect(-BLEED, 978, s.w + 4, 26, s.tone("#5d3a26"))
    for i in range(m):
        x = s.w * (i + 0.5) / m
        s.glow(x, 976, 60, 40, "#fff0b8", 0.7)
        s.path(f"M{x - 22:.1f} 1002a22 24 0 0 1 44 0z", s.tone("#f0c65a"))
