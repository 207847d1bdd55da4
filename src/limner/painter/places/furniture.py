"""What rooms are made of: walls, windows and the view from them, floors, lamps, shelves and seats."""

from __future__ import annotations

from limner.painter.places.air import fall, heavens
from limner.painter.places.sheet import BLEED, Sheet, box, hill, shades
from limner.painter.places.stamps import stamp

BOOKS = ("#c8503f", "#e09a3a", "#3f7f8f", "#5f8f5a", "#7a4f8f", "#f0d9a8", "#2f4f7f", "#a83f5a", "#d8734f")


WOOD = "#9a643f"


def view(s: Sheet, x0: float, x1: float, y0: float, y1: float, horizon: float) -> None:
    """The open air behind windows between the given bounds, with the weather in it."""
    s.indoors = False
    heavens(s, horizon / 1000)
    hill(s, horizon - 30, 26, 420, "#8fbf7a", 0.5)
    for i in range(round((x1 - x0) / 70) + 1):
        x = x0 + 70 * i + s.rng.uniform(-16, 16)
        stamp(s, s.rng.choice(("grove", "spire", "poplar")), x, horizon + 6, s.rng.uniform(60, 110), 0.4)
    hill(s, horizon + 8, 12, 380, "#7cb862", 0.15)
    for i in range(round((x1 - x0) / 130) + 1):
        stamp(
            s,
            s.rng.choice(("grove", "grove", "bush")),
            x0 + 130 * i + s.rng.uniform(-30, 30),
            horizon + 44,
            s.rng.uniform(110, 170),
            0.1,
        )
    fall(s, x0, x1, y0, y1, 0.6)
    s.indoors = True
    s.tones.clear()


def pierced(s: Sheet, holes: list[str], floor: float, top: str, bottom: str) -> None:
    """A wall down to the floor with holes in it."""
    paint = s.fade((0, s.tone(top)), (1, s.tone(bottom)))
    s.path(f"M-2 -2H{s.w + 2:.1f}V{floor:.1f}H-2Z{''.join(holes)}", paint, 'fill-rule="evenodd"')


def hole(x: float, y: float, w: float, h: float, arch: float = 0.0) -> str:
    """Path data of a window w by h, its sill at y; `arch` is how high its round top is."""
    if not arch:
        return box(x - w / 2, y - h, w, h)
    return (
        f"M{x - w / 2:.1f} {y:.1f}V{y - h + arch:.1f}A{w / 2:.1f} {arch:.1f} 0 0 1 {x + w / 2:.1f} "
        f"{y - h + arch:.1f}V{y:.1f}Z"
    )


def bars(s: Sheet, x: float, y: float, w: float, h: float, frame: str, arch: float = 0.0) -> None:
    """A window's frame, cross bars and sill; its top is round if `arch`."""
    ink, dark = s.tone(frame), s.tone(shades(frame)[0])
    s.path(hole(x, y, w, h, arch), "none", f'stroke="{ink}" stroke-width="15"')
    third = h / 3
    s.line(
        f"M{x:.1f} {y - h + (0 if not arch else arch * 0.06):.1f}V{y:.1f}M{x - w / 2:.1f} {y - third:.1f}h{w:.1f}"
        f"M{x - w / 2:.1f} {y - 2 * third:.1f}h{w:.1f}",
        ink,
        7,
    )
    if w > 260:
        s.line(
            f"M{x - w / 4:.1f} {y - h + arch * 0.16:.1f}V{y:.1f}M{x + w / 4:.1f} {y - h + arch * 0.16:.1f}V{y:.1f}",
            ink,
            5,
        )
    s.rect(x - w / 2 - 26, y, w + 52, 22, ink, 'rx="4"')
    s.rect(x - w / 2 - 20, y + 20, w + 40, 8, dark)


def curtains(s: Sheet, x: float, y: float, w: float, h: float, colour: str, foot: float) -> None:
    """Two drawn-back curtains on a rod over a window whose sill is at y."""
    dark, light = shades(colour)
    top, reach = y - h - 34, min(92.0, w * 0.34)
    for side in (-1, 1):
        a = x + side * (w / 2 + 46)
        inner = a - side * reach
        s.path(
            f"M{a:.1f} {top:.1f}H{inner - side * 16:.1f}Q{inner:.1f} {y - h * 0.35:.1f} "
            f"{a - side * reach * 0.45:.1f} {y - h * 0.18:.1f}Q{inner + side * 8:.1f} {foot - 40:.1f} "
            f"{inner + side * 20:.1f} {foot:.1f}H{a + side * 12:.1f}Q{a - side * 6:.1f} {y - h * 0.2:.1f} {a:.1f} "
            f"{top:.1f}Z",
            s.tone(colour),
        )
        for t in (0.25, 0.6):
            s.line(
                f"M{a - side * reach * t:.1f} {top + 4:.1f}Q{a - side * reach * t:.1f} {y - h * 0.4:.1f} "
                f"{a - side * reach * t * 0.4:.1f} {y - h * 0.2:.1f}T{a - side * reach * t * 0.7:.1f} {foot - 6:.1f}",
                s.tone(dark),
                4,
                0.5,
            )
        s.line(
            f"M{a + side * 4:.1f} {y - h * 0.19:.1f}L{a - side * reach * 0.5:.1f} {y - h * 0.16:.1f}", s.tone(light), 11
        )
    s.line(f"M{x - w / 2 - 66:.1f} {top:.1f}H{x + w / 2 + 66:.1f}", s.tone("#7a4f38"), 11)


def sunlight(s: Sheet, x: float, w: float, h: float, sill: float, floor: float, lean: float) -> None:
    """What falls in through a window w by h centred at x: a shaft and a patch on the floor, behind who stands in it."""
    ink, end = s.sky.hour.glow, 990.0
    strength = (0.5 if s.sky.clear else 0.2) * (0.5 if s.sky.hour.stars else 1.0)

    def edge(t: float, y: float) -> str:
        """The point at height y of the shaft that comes from fraction t of the window's width."""
        down = (y - sill) / (end - sill)
        return f"{x + (t - 0.5) * w * (1 + 0.25 * down) + lean * down:.1f} {y:.1f}"

    cross = (floor + 30 + end) / 2
    panes = [
        (i / 3 + 0.02, (i + 1) / 3 - 0.02, top, foot)
        for i in range(3)
        for top, foot in ((floor + 30, cross - 8), (cross + 8, end))
    ]
    patch = "".join(f"M{edge(a, top)}L{edge(b, top)}L{edge(b, foot)}L{edge(a, foot)}Z" for a, b, top, foot in panes)
    s.path(patch, ink, f'fill-opacity="{strength * 0.7:.2f}"')
    paint = s.fade((0, ink, strength * 0.5), (1, ink, 0.0))
    s.path(f"M{edge(0, sill)}L{edge(1, sill)}L{edge(1, end)}L{edge(0, end)}Z", paint)
    s.sun = (round(x / s.w, 4), round((sill - h / 2) / 1000, 4))


def lamplight(s: Sheet, x: float, y: float, r: float) -> None:
    """The light of a lamp, when it is dark enough for one."""
    if s.sky.hour.windows >= 0.5 or s.sky.weather == "rain":
        s.glow(x, y, r, r, "#ffdf9a", 0.8 if s.sky.hour.stars else 0.45)


def boards(s: Sheet, top: float, colour: str, gap: float = 120) -> None:
    """A floor of boards that run away from the viewer, from y = top down."""
    dark, light = shades(colour)
    s.rect(-BLEED, top, s.w + 4, 1002 - top, s.fade((0, s.tone(dark)), (0.3, s.tone(colour)), (1, s.tone(light))))
    n, c = int(s.w / gap) + 4, s.w / 2
    d = "".join(
        f"M{c + (i - n) * gap * 0.6:.1f} {top:.1f}L{c + (i - n) * gap * 1.25:.1f} 1002" for i in range(2 * n + 1)
    )
    s.line(d, s.tone(dark), 3, 0.55)


def checks(s: Sheet, top: float, colour: str) -> None:
    """A checked floor in perspective."""
    rows, c, d = 6, s.w / 2, ""
    ys = [top + (1004 - top) * ((i / rows) ** 1.5) for i in range(rows + 1)]
    n = int(s.w / 120) + 3
    for i in range(rows):
        y0, y1 = ys[i], ys[i + 1]
        k0, k1 = (0.62 + 0.6 * (y - top) / (1004 - top) for y in (y0, y1))
        for j in range(-n, n):
            if (i + j) % 2:
                a, b = j * 118, (j + 1) * 118
                d += (
                    f"M{c + a * k0:.1f} {y0:.1f}L{c + b * k0:.1f} {y0:.1f}L{c + b * k1:.1f} {y1:.1f}"
                    f"L{c + a * k1:.1f} {y1:.1f}Z"
                )
    s.path(d, s.tone(colour), 'fill-opacity="0.6"')


def skirting(s: Sheet, top: float, colour: str) -> None:
    s.rect(-BLEED, top - 24, s.w + 4, 24, s.tone(colour))
    s.rect(-BLEED, top - 4, s.w + 4, 5, s.tone(shades(colour)[0]))


def rug(s: Sheet, x: float, y: float, rx: float, ry: float, colour: str) -> None:
    dark, light = shades(colour)
    s.ellipse(x, y + 4, rx + 3, ry + 3, "#2a1a20", 'fill-opacity="0.18"')
    for k, ink in ((1.0, dark), (0.94, light), (0.84, colour), (0.58, light), (0.53, colour)):
        s.ellipse(x, y, rx * k, ry * k, s.tone(ink))


def plant(s: Sheet, x: float, y: float, size: float) -> None:
    """A leafy plant in a pot."""
    stamp(s, s.rng.choice(("fern", "tuft")), x, y - size * 0.3, size * 0.75, leaf=s.rng.choice(("#3f8f5c", "#5aa14a")))
    k = size * 0.16
    pot = s.rng.choice(("#d8805a", "#f0e4d0", "#5f8fa8"))
    s.path(
        f"M{x - k:.1f} {y - size * 0.34:.1f}h{2 * k:.1f}l{-k * 0.3:.1f} {size * 0.34:.1f}h{-1.4 * k:.1f}z", s.tone(pot)
    )
    s.path(box(x - k * 1.12, y - size * 0.36, k * 2.24, size * 0.07), s.tone(shades(pot)[1]))


def picture(s: Sheet, x: float, y: float, w: float, h: float) -> None:
    """A framed landscape, its top left at (x, y)."""
    s.rect(x - 7, y - 7, w + 14, h + 14, s.tone(s.rng.choice(("#7a4f38", "#f6efe2", "#c9a04a"))))
    s.rect(x, y, w, h, s.tone(s.rng.choice(("#f7dcb0", "#cfe6f0", "#f6cdc4"))))
    s.ellipse(x + w * 0.7, y + h * 0.32, w * 0.11, w * 0.11, s.tone("#f2a25a"))
    s.path(
        f"M{x:.1f} {y + h:.1f}V{y + h * 0.7:.1f}L{x + w * 0.32:.1f} {y + h * 0.38:.1f}L{x + w * 0.6:.1f} "
        f"{y + h * 0.72:.1f}L{x + w * 0.76:.1f} {y + h * 0.56:.1f}L{x + w:.1f} {y + h * 0.8:.1f}V{y + h:.1f}Z",
        s.tone(s.rng.choice(("#5f9f8a", "#7a86b8", "#6fa35a"))),
    )


def sofa(s: Sheet, x: float, y: float, w: float, colour: str) -> None:
    """A sofa centred at x with its feet at y."""
    dark, light = (s.tone(c) for c in shades(colour))
    body, h = s.tone(colour), w * 0.42
    s.ellipse(x, y + 2, w * 0.56, 13, "#2a1a20", 'fill-opacity="0.2"')
    s.line(f"M{x - w * 0.42:.1f} {y - 8:.1f}v6M{x + w * 0.42:.1f} {y - 8:.1f}v6", s.tone("#5d4038"), 13)
    s.rect(x - w * 0.46, y - h - w * 0.1, w * 0.92, h, dark, f'rx="{w * 0.08:.1f}"')
    s.line(f"M{x:.1f} {y - h - w * 0.08:.1f}v{h * 0.55:.1f}", body, 4)
    s.rect(x - w * 0.4, y - h * 0.62, w * 0.8, h * 0.34, light, f'rx="{w * 0.04:.1f}"')
    s.rect(x - w * 0.46, y - h * 0.4, w * 0.92, h * 0.34, body, f'rx="{w * 0.04:.1f}"')
    for side in (-1, 1):
        s.rect(x + side * w * 0.46 - w * 0.08, y - h * 0.82, w * 0.16, h * 0.78, body, f'rx="{w * 0.07:.1f}"')
    cushion = s.tone(s.rng.choice(("#f6d98a", "#f2efe6", "#e88f7a")))
    s.rect(
        x - w * 0.3,
        y - h * 0.98,
        w * 0.2,
        w * 0.19,
        cushion,
        f'rx="{w * 0.04:.1f}" transform="rotate(-12 {x - w * 0.2:.1f} {y - h * 0.8:.1f})"',
    )


def armchair(s: Sheet, x: float, y: float, size: float, colour: str, left: bool) -> None:
    """A wing chair seen from the side, facing the middle."""
    dark, light = (s.tone(c) for c in shades(colour))
    f = -1 if left else 1
    k = size / 100
    s.ellipse(x, y, 60 * k, 8 * k, "#2a1a20", 'fill-opacity="0.2"')
    s.add(
        f'<g transform="translate({x:.1f} {y:.1f}) scale({k * f:.3f} {k:.3f})"><path d="M-38-10l-4 10'
        f'M34-10l5 10" stroke="{s.tone("#5d4038")}" stroke-width="6" stroke-linecap="round"/>'
        f'<path d="M-44-8L-52-92Q-50-106-36-104Q-20-100-20-84L-16-30L40-32V-8Z" fill="{dark}"/>'
        f'<rect x="-30" y="-44" width="64" height="18" rx="9" fill="{light}"/>'
        f'<path d="M-40-8Q-44-56-30-60H24Q38-60 38-48Q38-42 30-40L34-8Z" fill="{s.tone(colour)}"/></g>'
    )


def shelves(s: Sheet, x0: float, x1: float, top: float, foot: float) -> None:
    """A bookcase full of coloured books."""
    wood, dark = s.tone(WOOD), s.tone("#6b4029")
    s.rect(x0, top, x1 - x0, foot - top, wood)
    n = 6
    pitch = (foot - top - 46) / n
    inside = [(x0 + 11, x1 - 11)]
    if x1 - x0 > 330:
        m = (x0 + x1) / 2
        inside = [(x0 + 11, m - 7), (m + 7, x1 - 11)]
    backs = books = ""
    spines: dict[str, str] = dict.fromkeys(BOOKS, "")
    bands = ""
    for a, b in inside:
        for i in range(n):
            y = top + 24 + pitch * (i + 1) - 10
            backs += box(a, y - pitch + 12, b - a, pitch - 12)
            x = a + 3
            while x < b - 12:
                r = s.rng.random()
                if r < 0.045:  # a gap that something small stands in
                    x += 34
                    if x < b - 10:
                        spines[s.rng.choice(BOOKS)] += f"M{x - 26:.1f} {y:.1f}h18l5 -22q-14 -16 -28 0z"
                    continue
                if r < 0.09 and x < b - 74:  # a pile
                    for j in range(3):
                        spines[s.rng.choice(BOOKS)] += box(x + s.rng.uniform(0, 8), y - 15 * (j + 1), 58, 14)
                    x += 70
                    continue
                w, h = s.rng.uniform(13, 25), (pitch - 12) * s.rng.uniform(0.62, 0.93)
                w = min(w, b - x - 2)
                spines[s.rng.choice(BOOKS)] += box(x, y - h, w - 1.2, h)
                if r > 0.6:
                    bands += box(x, y - h * 0.85, w - 1.2, 5) + (box(x, y - h * 0.22, w - 1.2, 5) if r > 0.8 else "")
                x += w
            books += box(a - 3, y, b - a + 6, 10)
    s.path(backs, dark)
    for colour, d in spines.items():
        if d:
            s.path(d, s.tone(colour))
    s.path(bands, s.tone("#f6dd9a"), 'fill-opacity="0.8"')
    s.path(books, s.tone("#b87f52"))
    s.path(box(x0 - 8, top - 14, x1 - x0 + 16, 24) + box(x0 - 5, foot - 24, x1 - x0 + 10, 26), s.tone("#83502f"))
