"""The wild places, each a function that draws itself on a sheet, far things first."""

from __future__ import annotations

import math

from limner.painter.places.air import birds, glitter, heavens, rays, weather
from limner.painter.places.ground import FLOWERS, LEAVES, brink, meadow, peaks, shadow, spread, trail
from limner.painter.places.sheet import BLEED, Sheet, at, box, contour, dot, hexed, hill, mix, rgb, smooth
from limner.painter.places.stamps import row, stamp


def beach(s: Sheet) -> None:
    horizon, shore = 440.0, 690.0
    heavens(s, 0.44)
    birds(s, 120, 260)
    if s.rng.random() < 0.7:
        x, w = s.rng.choice((0.12, 0.86)) * s.w, 190 * (0.5 + s.u)
        s.path(
            f"M{x - w:.1f} 443Q{x - w * 0.6:.1f} 408 {x - w * 0.3:.1f} 402Q{x - w * 0.1:.1f} 362 {x + w * 0.16:.1f} "
            f"392Q{x + w * 0.5:.1f} 404 {x + w:.1f} 443Z",
            s.tone("#4f9a7a", 0.45),
        )
    dark, mid, shallow = s.tone("#1f78c8", 0.15), s.tone("#2aa4d8"), s.tone("#7fdcd8")
    s.rect(
        -BLEED,
        horizon,
        s.w + 2 * BLEED,
        562,
        s.fade((0, hexed(mix(rgb(dark), s.sky.haze, 0.35))), (0.12, dark), (0.32, mid), (0.5, shallow)),
    )
    glitter(s, horizon, 640, s.sky.hour.disc or "#ffffff")
    boat = s.rng.choice((0.3, 0.64)) * s.w
    stamp(
        s,
        "boat",
        boat,
        486,
        92 * s.u,
        0.1,
        s.rng.random() < 0.5,
        hull=s.rng.choice(("#c8503f", "#3f6fb0", "#f0f0ea")),
        flag=s.rng.choice(("#f27a5e", "#ffd15a", "#57b8a6")),
    )
    waves = ""
    for _ in range(round(26 * s.w / 1000)):
        y = 455 + 170 * s.rng.random() ** 0.8
        x, k = s.rng.uniform(0, s.w), 14 + (y - 440) * 0.2
        waves += f"M{x - k:.1f} {y:.1f}q{k / 2:.1f} {-k * 0.22:.1f} {k:.1f} 0q{k / 2:.1f} {k * 0.22:.1f} {k:.1f} 0"
    s.line(waves, s.tone("#ffffff"), 3.4, 0.4)
    foam = contour(s, shore - 34, 12, 520)
    s.line(smooth(contour(s, shore - 78, 8, 420)), s.tone("#ffffff"), 7, 0.55)
    s.path(f"{smooth(foam)}V1002H-20Z", s.tone("#ffffff"))
    wet = [(x, y + 15 + 5 * math.sin(x / 61)) for x, y in foam]
    s.path(f"{smooth(wet)}V1002H-20Z", s.tone("#d9b27c", 0, 0.3))
    dry = [(x, y + 40 + 7 * math.sin(x / 97 + 1)) for x, y in wet]
    s.path(f"{smooth(dry)}V1002H-20Z", s.fade((0, s.tone("#f6dca4", 0, 0.7)), (1, s.tone("#e8bd7c", 0, 0.6))))
    specks = "".join(dot(s.rng.uniform(0, s.w), s.rng.uniform(790, 995)) for _ in range(round(60 * s.w / 1000)))
    s.line(specks, s.tone("#c9985c"), 4, 0.55)
    ripples = ""
    for _ in range(round(9 * s.w / 1000)):
        x, y, k = s.rng.uniform(0, s.w), s.rng.uniform(800, 985), s.rng.uniform(25, 60)
        ripples += f"M{x - k:.1f} {y:.1f}q{k:.1f} -12 {2 * k:.1f} 0"
    s.line(ripples, s.tone("#d9aa6c"), 4, 0.5)
    left = s.rng.random() < 0.5
    for x, y, size in ((0.04, 850, 620), (0.135, 815, 470)):
        shadow(s, s.w * (x if left else 1 - x), y, size * 0.16 * s.u, 10)
        stamp(s, "palm", s.w * (x if left else 1 - x), y, size * (0.35 + 0.65 * s.u), 0, not left)
    far = s.w * (0.87 if left else 0.13)
    if s.w > 500:
        cloth = s.rng.choice(("#f0625a", "#3f9fd6", "#f6b53c"))
        shadow(s, far, 804, 70 * s.u, 9)
        stamp(s, "parasol", far, 804, 210 * s.u, 0, False, 6 if left else -6, cloth=cloth)
        s.path(f"M{far - 78 * s.u:.1f} 812l{20 * s.u:.1f} -20h{116 * s.u:.1f}l{-20 * s.u:.1f} 20z", s.tone(cloth))
    for name, size in (("starfish", 40), ("shell", 30), ("shell", 24)):
        x = s.sides(1, 0.3)[0]
        stamp(s, name, x, s.rng.uniform(880, 975), size * (0.5 + 0.5 * s.u), 0, False, s.rng.uniform(-25, 25))
    weather(s)


def forest(s: Sheet) -> None:
    heavens(s, 0.6, clouds=s.sky.weather != "clear")
    leaves = s.rng.choice(LEAVES)
    firs = s.rng.random() < 0.4
    kinds = ("fir", "fir", "poplar") if firs else ("oak", "oak", "birch", "poplar")
    green = "#5d9e52" if firs or leaves[0] != "#e0983a" else "#b5923f"
    s.glow(s.w * 0.5, 430, s.w * 0.5 + 60, 330, s.sky.hour.glow, 0.5 if s.sky.clear else 0.2)
    for depth, foot, size, gap in ((0.78, 560, 330, 74), (0.58, 590, 400, 108), (0.36, 628, 480, 170)):
        brow = contour(s, foot, 10, 600)
        ink = s.tone(green, depth, 0.5)
        s.path(f"{smooth(brow)}V1002H-20Z", ink)
        xs = spread(s, gap * (0.55 + 0.45 * s.u))
        if depth < 0.5:
            xs = [x for x in xs if abs(x / s.w - 0.5) > 0.14]
        for x in xs:
            stamp(
                s,
                s.rng.choice(kinds),
                x,
                at(brow, x) + 8,
                size * s.rng.uniform(0.75, 1.15) * (0.6 + 0.4 * s.u),
                depth,
                s.rng.random() < 0.5,
                leaf=_green(s, leaves, firs),
            )
    hill(s, 660, 14, 900, green, 0.12)
    meadow(s, 680, green, 0.6)
    trail(s, 668, "#c9a574", "#7d7a44")
    for x in s.sides(round(4 + 2 * s.w / 1000), 0.24):
        stamp(
            s,
            s.rng.choice(("bush", "fern", "fern")),
            x,
            s.rng.uniform(690, 760),
            s.rng.uniform(60, 100),
            0.1,
            leaf=s.rng.choice(("#3f8f50", "#57a350", "#4a9a6a")),
        )
    for x, y, k in sorted(
        ((x, s.rng.uniform(770, 880), s.rng.uniform(0.9, 1.15)) for x in s.sides(2 + round(2 * s.w / 1000), 0.15)),
        key=lambda p: p[1],
    ):
        shadow(s, x, y, 120 * s.u * k, 15)
        stamp(
            s,
            s.rng.choice(kinds[:2]),
            x,
            y,
            (690 if firs else 820) * k * (0.5 + 0.5 * s.u),
            0,
            s.rng.random() < 0.5,
            leaf=_green(s, leaves, firs),
        )
    for x in s.sides(3, 0.3):
        stamp(s, "mushroom", x, s.rng.uniform(870, 960), s.rng.uniform(30, 48) * (0.5 + 0.5 * s.u))
    for x in s.sides(2, 0.22):
        stamp(s, "rock", x, s.rng.uniform(880, 950), s.rng.uniform(36, 56) * (0.5 + 0.5 * s.u))
    if s.sky.clear and s.sky.hour.stars == 0:
        rays(s, 640)
    brink(s, "fern", "tuft", leaf="#2f7d4c")
    weather(s)


def _green(s: Sheet, leaves: tuple[str, ...], firs: bool) -> str:
    return s.rng.choice(("#3c8a5a", "#2f7a58", "#4a9960")) if firs else s.rng.choice(leaves)


def mountains(s: Sheet) -> None:
    heavens(s, 0.6)
    birds(s, 150, 300)
    stone = s.rng.choice(("#7d8fb3", "#8d86a8", "#7f95a0"))
    k = 0.55 + 0.45 * s.u
    peaks(s, 612, 330 * k, 250 * k, stone, 0.6)
    peaks(s, 618, 430 * k, 370 * k, stone, 0.22)
    s.rect(-BLEED, 520, s.w + 4, 110, s.fade((0, hexed(s.sky.haze), 0.0), (1, hexed(s.sky.haze), 0.7)))
    lake = s.rng.random() < 0.5
    woods = hill(s, 606, 12, 700, "#5b9a6a", 0.45)
    row(s, ("fir",), spread(s, 46), woods, 84 * k, 0.45, leaf="#3f8464")
    if lake:
        s.rect(-BLEED, 622, s.w + 4, 380, s.fade((0, s.tone("#9fd4ea", 0.3)), (0.25, s.tone("#4fa3cf"))))
        glitter(s, 622, 690, s.sky.hour.disc or "#ffffff")
        s.line(
            "".join(f"M{x:.1f} {s.rng.uniform(634, 690):.1f}h{s.rng.uniform(20, 70):.1f}" for x in spread(s, 70)),
            s.tone("#ffffff"),
            3,
            0.45,
        )
    near = hill(s, 706 if lake else 650, 18, 800, "#74b45a", 0.1)
    xs = [x for x in spread(s, 60) if abs(x / s.w - 0.5) > 0.24]
    row(s, ("fir",), xs, near, 170 * k, 0.12, leaf="#35805a")
    hill(s, 756, 16, 1000, "#86c25f")
    meadow(s, 760, "#86c25f", 1.6)
    trail(s, 752, "#e0c391", "#a8b05c")
    if s.rng.random() < 0.55:
        x = s.w * s.rng.choice((0.16, 0.84))
        stamp(s, "cottage", x, 776, 120 * k, 0.03, wall="#b98058", roof="#8a4a3a")
        shadow(s, x, 778, 80 * k, 7)
    for x in s.sides(3, 0.2):
        stamp(s, "rock", x, s.rng.uniform(850, 960), s.rng.uniform(40, 80) * k, 0, s.rng.random() < 0.5)
    for x, y in ((0.03, 880), (0.97, 860)):
        stamp(s, "fir", x * s.w, y, 500 * k, 0, leaf="#2f7a58")
    brink(s, "tuft", "flower", "tuft", leaf="#4d9a4c", petal=s.rng.choice(FLOWERS))
    weather(s)


def desert(s: Sheet) -> None:
    heavens(s, 0.58)
    birds(s, 150, 260)
    k, sand = 0.55 + 0.45 * s.u, s.rng.choice(("#f0c07a", "#eeb070", "#f3cd8c"))
    scene = s.rng.randrange(3)
    if scene == 0:  # table mountains
        for x in s.sides(round(2 + 2 * s.w / 1000), 0.3):
            w, h = s.rng.uniform(110, 200) * k, s.rng.uniform(120, 220) * k
            ink = s.tone("#c8744f", 0.35, 0.3)
            s.path(
                f"M{x - w:.1f} 592L{x - w * 0.72:.1f} {590 - h * 0.55:.1f}L{x - w * 0.6:.1f} {590 - h:.1f}"
                f"H{x + w * 0.55:.1f}L{x + w * 0.7:.1f} {590 - h * 0.5:.1f}L{x + w:.1f} 592Z",
                ink,
            )
            s.path(
                f"M{x + w * 0.1:.1f} {590 - h:.1f}H{x + w * 0.55:.1f}L{x + w * 0.7:.1f} {590 - h * 0.5:.1f}"
                f"L{x + w:.1f} 592H{x + w * 0.3:.1f}L{x + w * 0.2:.1f} {590 - h * 0.5:.1f}Z",
                s.tone("#a55a48", 0.35, 0.3),
            )
            s.path(
                box(x - w * 0.63, 590 - h * 0.8, w * 1.22, h * 0.07)
                + box(x - w * 0.68, 590 - h * 0.62, w * 1.34, h * 0.05),
                s.tone("#e39a68", 0.35),
                'fill-opacity="0.7"',
            )
    elif scene == 1:  # pyramids
        for x, h in ((0.2, 230), (0.36, 150), (0.83, 190)):
            a, t = h * 0.95 * k, 596 - h * k
            s.path(f"M{s.w * x:.1f} {t:.1f}L{s.w * x - a:.1f} 598H{s.w * x + a:.1f}Z", s.tone("#e0ad68", 0.3))
            s.path(f"M{s.w * x:.1f} {t:.1f}L{s.w * x + a * 0.3:.1f} 598H{s.w * x + a:.1f}Z", s.tone("#b98350", 0.3))
    for y, rise, wave, depth in (
        (590.0, 26, 620, 0.45),
        (640.0, 34, 760, 0.25),
        (700.0, 30, 900, 0.1),
        (770.0, 24, 1300, 0.0),
    ):
        brow = hill(s, y, rise, wave, sand, depth, 0.5, 0.5)
        shade = [(x, y_ + 10 + 26 * max(0.0, math.sin(x / wave * 9 + y))) for x, y_ in brow]
        s.path(
            f"{smooth(brow)}L{shade[-1][0]:.1f} {shade[-1][1]:.1f}{smooth(shade[::-1]).replace('M', 'L')}Z",
            s.tone("#c98550", depth, 0.4),
            'fill-opacity="0.35"',
        )
        if y == 640 and scene == 2:  # an oasis
            x = s.w * s.rng.choice((0.2, 0.8))
            s.ellipse(x, 668, 150 * k, 14, s.tone("#58b4c8", 0.1))
            for dx, size in ((-110, 190), (-60, 240), (90, 210)):
                stamp(s, "palm", x + dx * k, 664, size * k, 0.2, dx > 0)
            for dx in (-140, 120):
                stamp(s, "bush", x + dx * k, 672, 40 * k, 0.15, leaf="#6fa35a")
    ripples = ""
    for _ in range(round(22 * s.w / 1000)):
        y = s.rng.uniform(800, 985)
        x, r = s.rng.uniform(0, s.w), (y - 730) * s.rng.uniform(0.15, 0.4)
        ripples += f"M{x - r:.1f} {y:.1f}q{r / 2:.1f} -7 {r:.1f} 0t{r:.1f} 0"
    s.line(ripples, s.tone("#cf9658"), 3.6, 0.5)
    plants = sorted(
        ((x, s.rng.uniform(700, 900)) for x in s.sides(round(3 + 3 * s.w / 1000), 0.22)), key=lambda p: p[1]
    )
    for x, foot in plants:
        tall = (foot - 560) * s.rng.uniform(0.75, 1.15) * k
        shadow(s, x + tall * 0.12, foot, tall * 0.3, tall * 0.035)
        stamp(s, "cactus", x, foot, tall, max(0.0, (800 - foot) / 700), s.rng.random() < 0.5)
    for x in s.sides(4, 0.3):
        stamp(
            s,
            s.rng.choice(("rock", "tuft", "rock")),
            x,
            s.rng.uniform(860, 965),
            s.rng.uniform(28, 52) * k,
            0,
            stone="#b98a6c",
            leaf="#a8a05a",
        )
    weather(s)


def snow(s: Sheet) -> None:
    heavens(s, 0.58)
    k = 0.55 + 0.45 * s.u
    peaks(s, 596, 250 * k, 260 * k, "#8fa5cc", 0.55)
    white = "#f3f8fd"
    for y, rise, wave, depth, size, gap in ((570.0, 22, 500, 0.5, 96.0, 64), (620.0, 24, 620, 0.31, 150.0, 110)):
        brow = hill(s, y, rise, wave, white, depth, 0, 0.6)
        xs = [x for x in spread(s, gap) if depth > 0.4 or abs(x / s.w - 0.5) > 0.2]
        for x in xs:
            _snowy(s, "fir", x, at(brow, x) + 4, size * s.rng.uniform(0.75, 1.2) * k, depth, leaf="#3f8474")
    x = s.w * s.rng.choice((0.27, 0.73))
    brow = hill(s, 690, 16, 900, white, 0.12, 0, 0.7)
    _snowy(s, "cottage", x, at(brow, x) + 8, 150 * k, 0.05, wall="#a5694a", roof="#7a4438")
    if s.sky.hour.windows >= 0.5:
        s.glow(x, at(brow, x) - 30 * k, 130 * k, 90 * k, "#ffd98a", 0.5)
    puffs = "".join(dot(x + 46 * k + i * 9, at(brow, x) - 180 * k - i * 26) for i in range(4))
    s.line(puffs, s.tone("#f4f7fb", 0.2), 24 * k, 0.5)
    hill(s, 752, 16, 1200, white, 0.0, 0, 0.75)
    drifts = ""
    for _ in range(round(16 * s.w / 1000)):
        x, y, r = s.rng.uniform(0, s.w), s.rng.uniform(790, 985), s.rng.uniform(24, 66)
        drifts += f"M{x - r:.1f} {y:.1f}q{r:.1f} -13 {2 * r:.1f} 0"
    s.line(drifts, s.tone("#b9d0e8"), 4.5, 0.6)
    sparkles = "".join(dot(s.rng.uniform(0, s.w), s.rng.uniform(770, 990)) for _ in range(round(30 * s.w / 1000)))
    s.line(sparkles, "#ffffff", 5, 0.8)
    for x, y, size in sorted(
        ((x, s.rng.uniform(800, 900), s.rng.uniform(330, 520)) for x in s.sides(2 + round(2 * s.w / 1000), 0.13)),
        key=lambda p: p[1],
    ):
        shadow(s, x, y, size * 0.26 * k, 13)
        _snowy(s, "fir", x, y, size * k, 0.0, leaf="#2f7a66")
    if s.rng.random() < 0.5:
        x = s.sides(1, 0.22)[0]
        shadow(s, x, 880, 48 * k, 8)
        stamp(s, "snowman", x, 880, 170 * k)
    weather(s)


def _snowy(s: Sheet, name: str, x: float, y: float, size: float, depth: float, **colours: str) -> None:
    """A stamp under snow in any weather."""
    stamp(s, name, x, y, size, depth, s.rng.random() < 0.5, 0, True, **colours)
