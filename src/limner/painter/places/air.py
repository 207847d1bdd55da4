"""The air over places: skies, sun, moon, stars, clouds, rain, snow, birds, and light on water."""

from __future__ import annotations

import math

from limner.painter.places.sheet import BLEED, Rgb, Sheet, dot, hexed, mix, rgb

PUFFS = (  # (x, y, radius) of a cloud's rounds, on a flat foot from -50 to 50
    ((-34, -13, 14), (-12, -25, 23), (17, -19, 18), (37, -9, 10)),
    ((-22, -15, 17), (4, -29, 24), (28, -14, 16), (40, -9, 10)),
    ((-30, -18, 19), (-4, -14, 15), (20, -24, 20), (40, -12, 12)),
)


def heavens(s: Sheet, horizon: float, clouds: bool = True) -> None:
    """The whole sky down to `horizon` (fraction of the height), and haze below it; notes where the light is."""
    sky, hour, h = s.sky, s.sky.hour, horizon * 1000
    s.rect(-BLEED, h - 20, s.w + 2 * BLEED, 1022 + BLEED - h, hexed(sky.haze))
    paint = s.fade((0, hexed(sky.zenith)), (0.55, hexed(sky.middle)), (1, hexed(sky.haze)))
    s.rect(-BLEED, -BLEED, s.w + 2 * BLEED, h + 3, paint)
    mirrored = s.rng.random() < 0.35
    x = s.w * (1 - hour.at[0] if mirrored else hour.at[0])
    y = h * (1 - hour.at[1])
    if sky.clear:
        stars(s, h)
        s.sun = (round(x / s.w, 4), round(y / 1000, 4))
        reach = 300 + hour.radius * 2.5
        s.glow(x, y, reach, reach, hour.glow, 0.85 if hour.at[1] < 0.5 else 0.6)
        if hour.at[1] < 0.3:
            s.glow(x, h, s.w * 0.7, h * 0.55, hour.glow, 0.55)
        if hour.disc:
            r = hour.radius * (0.7 + 0.3 * s.u)
            s.ellipse(x, y, r, r, hour.disc)
            if hour.stars:
                for dx, dy, k in ((-0.35, -0.2, 0.2), (0.3, 0.25, 0.26), (0.15, -0.45, 0.13), (-0.2, 0.45, 0.15)):
                    s.ellipse(x + dx * r, y + dy * r, k * r, k * r, "#dcd5b4")
    else:
        s.glow(x, y, 420, 300, hexed(mix(sky.cloud, (255, 255, 255), 0.25)), 0.5)
    if clouds:
        cloudscape(s, h)


def stars(s: Sheet, bottom: float, amount: float | None = None) -> None:
    """Stars down to y = bottom."""
    amount = s.sky.hour.stars if amount is None else amount
    n = round(amount * 90 * s.w * bottom / 6e5)
    for share, width, opacity in ((0.6, 2.6, 0.7), (0.3, 4.2, 0.9), (0.1, 6.5, 1.0)):
        d = "".join(dot(s.air.uniform(0, s.w), bottom * 0.95 * s.air.random() ** 1.25) for _ in range(round(n * share)))
        if d:
            s.line(d, "#fffbe6", width, opacity)
    for _ in range(round(n / 22)):
        x, y, r = s.air.uniform(0, s.w), s.air.uniform(0, bottom * 0.6), s.air.uniform(7, 13)
        q = r * 0.14
        s.path(
            f"M{x:.1f} {y - r:.1f}L{x + q:.1f} {y - q:.1f}L{x + r:.1f} {y:.1f}L{x + q:.1f} {y + q:.1f}"
            f"L{x:.1f} {y + r:.1f}"
            f"L{x - q:.1f} {y + q:.1f}L{x - r:.1f} {y:.1f}L{x - q:.1f} {y - q:.1f}Z",
            "#fffdf0",
        )


def cloud(s: Sheet, x: float, y: float, size: float, light: Rgb, shade: Rgb) -> None:
    """A flat-bottomed cloud about `size` wide whose base is at y."""
    k, turned = size / 100, s.air.choice((-1, 1))
    rounds = "".join(f'<circle cx="{x}" cy="{y}" r="{r}"/>' for x, y, r in s.air.choice(PUFFS))
    puffs = f'{rounds}<rect x="-50" y="-18" width="101" height="19" rx="9.5"/>'
    s.add(
        f'<g transform="translate({x:.1f} {y:.1f}) scale({k * turned:.3f} {k:.3f})">'
        f'<g fill="{hexed(shade)}">{puffs}</g>'
        f'<g fill="{hexed(light)}" transform="translate(-1 -4.5) scale(0.95)">{puffs}</g></g>'
    )


def cloudscape(s: Sheet, h: float) -> None:
    """Clouds for the weather between the top and y = h: small and far ones low, large ones high."""
    n = max(2, round(s.sky.cover.clouds * s.w / 1000))
    for i in range(n):
        low = 1 - i / n
        x = s.w * ((i * 0.618 + s.air.random() * 0.25) % 1.0) * 1.1 - 0.05 * s.w
        size = (110 + 190 * (1 - low) + 60 * s.air.random()) * (0.6 + 0.4 * s.u)
        y = h * (0.28 + 0.55 * low) - s.air.random() * 0.1 * h
        if s.sun and math.hypot(x - s.sun[0] * s.w, y - size * 0.2 - s.sun[1] * 1000) < 0.75 * size:
            x += size * (1 if x > s.sun[0] * s.w else -1)  # clear of the sun
        behind = mix(s.sky.middle, s.sky.haze, 0.5 + 0.5 * low)
        cloud(s, x, y, size, mix(s.sky.cloud, behind, 0.05 + 0.4 * low), mix(s.sky.shade, behind, 0.05 + 0.4 * low))
    if s.sky.cover.deck:
        for y, r, dark in ((0.17, 66, 0.3), (0.09, 84, 0.6)):
            shade = mix(s.sky.shade, s.sky.zenith, dark * s.sky.cover.deck)
            billows(s, h * y, r * (0.6 + 0.4 * s.u), -BLEED, mix(s.sky.cloud, shade, 0.5), shade)


def billows(s: Sheet, y: float, r: float, end: float, light: Rgb, shade: Rgb) -> None:
    """A bank of cloud from y to `end`, its edge at y round with puffs of about radius r; lit from above."""
    x = -r * (1 + s.air.random())
    d, sweep, last = f"M{x:.1f} {end:.1f}V{y:.1f}", int(end > y), y
    while x < s.w + r:
        step, foot = r * s.air.uniform(0.8, 1.9), y + r * s.air.uniform(-0.35, 0.35)
        radius = math.hypot(step, foot - last) / 2 * s.air.uniform(1.0, 1.12)
        d += f"A{radius:.1f} {radius:.1f} 0 0 {sweep} {x + step:.1f} {foot:.1f}"
        x, last = x + step, foot
    if end > y:
        paint = s.fade((0, hexed(light)), (0.4, hexed(mix(light, shade, 0.3))), (1, hexed(shade)))
    else:
        paint = s.fade((0, hexed(shade)), (0.6, hexed(mix(light, shade, 0.6))), (1, hexed(light)))
    s.path(f"{d}V{end:.1f}Z", paint)


def fall(s: Sheet, x0: float, x1: float, y0: float, y1: float, near: float = 1.0) -> None:
    """What the weather lets fall between the given bounds: streaks of rain, or flakes. `near` scales their size."""
    area, air = (x1 - x0) * (y1 - y0) / 1e6, s.air
    if s.sky.weather == "rain":
        for n, length, width, opacity in ((95, 40, 2.6, 0.5), (50, 70, 4.0, 0.6)):
            d, reach = "", length * near
            for _ in range(round(n * area / near)):
                x, y = air.uniform(x0, x1), air.uniform(y0, y1)
                d += f"M{x:.1f} {y:.1f}l{-reach * 0.22:.1f} {reach:.1f}"
            if d:
                s.line(d, hexed(mix(rgb("#dceaf8"), s.sky.haze, 0.15)), width * near, opacity)
    elif s.sky.weather == "snow":
        for n, width, opacity in ((80, 6.0, 0.8), (45, 10.5, 0.9), (16, 17.0, 0.92)):
            d = "".join(dot(air.uniform(x0, x1), air.uniform(y0, y1)) for _ in range(round(n * area / near)))
            if d:
                s.line(d, hexed(mix((255, 255, 255), s.sky.haze, 0.12)), width * near, opacity)


def weather(s: Sheet) -> None:
    """Rain or snow over everything."""
    s.parts = s.front
    fall(s, -20, s.w + 60, -60, 1000)


def birds(s: Sheet, top: float, bottom: float) -> None:
    """A few far birds."""
    if s.sky.weather in ("rain", "snow") or s.sky.hour.stars == 1:
        return
    d, x0, y0 = "", s.air.uniform(0.2, 0.7) * s.w, s.air.uniform(top, bottom)
    for _ in range(s.air.randint(3, 5)):
        x, y, k = x0 + s.air.uniform(-110, 110) * s.u, y0 + s.air.uniform(-45, 45), s.air.uniform(9, 16)
        d += (
            f"M{x - k:.1f} {y - k * 0.3:.1f}Q{x - k * 0.4:.1f} {y - k * 0.8:.1f} {x:.1f} {y:.1f}Q{x + k * 0.4:.1f} "
            f"{y - k * 0.8:.1f} {x + k:.1f} {y - k * 0.3:.1f}"
        )
    s.line(d, hexed(mix(s.sky.zenith, rgb("#202840"), 0.5)), 3.2, 0.7)


def glitter(s: Sheet, top: float, bottom: float, colour: str) -> None:
    """The light's broken path on water."""
    if s.sun is None:
        return
    d, x0 = "", s.sun[0] * s.w
    for i in range(16):
        t = (i + s.air.random() * 0.6) / 16
        y, reach = top + 4 + (bottom - top) * t, (26 + 90 * t) * (0.5 + s.air.random())
        x = x0 + s.air.uniform(-34, 34) * (0.4 + t)
        d += f"M{x - reach / 2:.1f} {y:.1f}h{reach:.1f}"
    s.line(d, colour, 5.5, 0.62)


def rays(s: Sheet, foot: float) -> None:
    """Shafts of light from where the sun is."""
    x0, side = (s.sun[0] if s.sun else 0.5) * s.w, -1 if s.sun and s.sun[0] > 0.5 else 1
    for i in range(4):
        a, b = x0 + side * (60 + 120 * i) * s.u, (26 + 14 * (i % 2)) * s.u
        lean = side * (150 + 60 * i) * s.u
        paint = s.fade((0, s.sky.hour.glow, 0.22), (1, s.sky.hour.glow, 0.0))
        s.path(f"M{a - b:.1f} -2H{a + b:.1f}L{a + lean + b * 3:.1f} {foot:.1f}H{a + lean - b * 3:.1f}Z", paint)
