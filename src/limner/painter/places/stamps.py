"""What stands about in places: trees, plants, rocks, houses and small things, as data.

A stamp is drawn with its foot at the origin, about 100 units high, and is set down with `stamp`. `{leaf}`,
`{leaf_dark}`, `{leaf_soft}` and `{leaf_light}` are a role's colour and its shades; `pane` is a window's light.
"""

from __future__ import annotations

from typing import NamedTuple

from limner.painter.places.sheet import Sheet, at, hexed, mix, rgb, shades


class Stamp(NamedTuple):
    svg: str
    colours: dict[str, str]  # role: colour at noon
    snow: str = ""


def _tier(top: float, half: float, foot: float, capped: float = 0.0) -> str:
    """One skirt of a fir: its dark whole, its lit left side, and snow on the upper `capped` of it."""
    whole = f"M0 {top}L{half} {foot}Q{half / 2} {foot + 6} 0 {foot + 3}Q{-half / 2} {foot + 6} {-half} {foot}Z"
    left = (
        f"M0 {top}L{-half} {foot}Q{-half * 0.6:.1f} {foot + 5} {-half * 0.25:.1f} {foot + 3.5}Q{half * 0.1:.1f} "
        f"{(top + foot) / 2} 0 {top}Z"
    )
    svg = f'<path d="{whole}" fill="{{leaf_dark}}"/><path d="{left}" fill="{{leaf}}"/>'
    if capped:
        a, y = half * capped, top + (foot - top) * capped
        scallops = "".join(
            f"Q{a * (0.75 - 0.5 * i):.1f} {y + 9 - 3 * (i % 2):.1f} {a * (0.5 - 0.5 * i):.1f} {y - 1:.1f}"
            for i in range(4)
        )
        svg += f'<path d="M0 {top}L{a:.1f} {y:.1f}{scallops}Z" fill="{{snow}}"/>'
    return svg


def _blobs(*circles: tuple[float, float, float]) -> str:
    return "".join(f'<circle cx="{x}" cy="{y}" r="{r}"/>' for x, y, r in circles)


def _frond(x: float, y: float, dx: float, dy: float, sag: float, role: str) -> str:
    """A palm's leaf from (x, y), a crescent."""
    mx, my = x + dx * 0.5, y + dy * 0.5 - sag
    return (
        f'<path d="M{x} {y}Q{mx:.1f} {my:.1f} {x + dx} {y + dy}Q{mx + dx * 0.05:.1f} {my + 13:.1f} {x} {y + 3}Z" '
        f'fill="{{{role}}}"/>'
    )


CROWN = _blobs((-17, -47, 17), (18, -47, 17), (-12, -68, 19), (14, -68, 18), (1, -80, 18), (0, -54, 20))


BARK = "#8a5a3c"


STAMPS: dict[str, Stamp] = {
    "oak": Stamp(
        '<path d="M-6 0Q-3-14-3.500-45H3.500Q3-14 6 0Z" fill="{bark}"/><path d="M0-22L12-40L14-38'
        'L1-17Z" fill="{bark}"/>'
        f'<g fill="{{leaf_dark}}">{CROWN}</g>'
        f'<g fill="{{leaf}}" transform="translate(-2.500 -9) scale(0.88)">{CROWN}</g>'
        f'<g fill="{{leaf_soft}}" transform="translate(-7 -29) scale(0.6)">{CROWN}</g>'
        '<path d="M-28-47q3-4 7-1M12-43q4-4 8 0M-4-44q3-3 6 0M13-70q4-4 7 1M-3-62q3-4 7 0M22-54q3-3 6 1" '
        'fill="none" stroke="{leaf_dark}" stroke-width="1.300" stroke-linecap="round"/>'
        '<path d="M-20-76q3-5 7-4M-8-90q4-4 8-2M-24-60q1-4 4-5" fill="none" stroke="{leaf_light}" stroke-width="2" '
        'stroke-linecap="round"/>',
        {"leaf": "#5fae4a", "bark": BARK},
        '<path d="M-31-68A19 19 0 0 1-16-87A18 18 0 0 1 18-86A18 18 0 0 1 32-67Q27-58 21-68Q15-56 7-70Q0-58-7-71'
        'Q-14-58-20-69Q-26-60-31-68Z" fill="{snow}"/>'
        '<path d="M-34-48A17 17 0 0 1-26-62Q-20-62-19-55Q-24-48-28-54Q-30-48-34-48ZM35-47A17 17 0 0 0 29-60Q22-62 '
        '20-55Q25-48 29-53Q31-47 35-47Z" fill="{snow}"/>',
    ),
    "fir": Stamp(
        '<rect x="-4" y="-16" width="8" height="16" fill="{bark}"/>'
        + _tier(-58, 31, -13) + _tier(-80, 25, -37) + _tier(-100, 18, -62),
        {"leaf": "#3c8a5a", "bark": "#7a4f38"},
        _tier(-58, 31, -13, 0.62) + _tier(-80, 25, -37, 0.66) + _tier(-100, 18, -62, 0.6),
    ),
    "spire": Stamp(  # a fir far away
        '<path d="M0-100L13-66L9-67L20-36L14-37L27-4H3V0H-3V-4H-27L-14-37L-20-36L-9-67L-13-66Z" fill="{leaf_dark}"/>'
        '<path d="M0-100L2-60L-3-30L-2-4H-27L-14-37L-20-36L-9-67L-13-66Z" fill="{leaf}"/>',
        {"leaf": "#3c8a5a"},
        '<path d="M0-100L13-66Q6-62 0-68Q-6-62-13-66ZM-9-40L-20-36L-27-4Q-16-6-12-20ZM9-40L20-36'
        'L27-4Q18-8 13-18Z" fill="{snow}"/>',
    ),
    "grove": Stamp(  # a broad tree far away
        '<path d="M-3 0L-2-36H2L3 0Z" fill="{bark}"/><path d="M-20-34A18 18 0 0 1-28-64A24 24 0 0 1 2-98A24 24 0 0 1 '
        '29-62A18 18 0 0 1 18-34Z" fill="{leaf_dark}"/>'
        '<path d="M-20-42A14 14 0 0 1-25-64A20 20 0 0 1 0-94A19 19 0 0 1 17-66A14 14 0 0 1 4-42Z" fill="{leaf}"/>',
        {"leaf": "#5fae4a", "bark": BARK},
        '<path d="M-26-70A24 24 0 0 1 2-100A24 24 0 0 1 27-70Q14-80 4-72Q-8-84-26-70Z" fill="{snow}"/>',
    ),
    "poplar": Stamp(
        '<path d="M-3 0L-2-30H2L3 0Z" fill="{bark}"/><path d="M0-100Q17-62 13-32Q9-14 0-13Q-9-14-13-32Q-17-62 0-100'
        'Z" fill="{leaf_dark}"/>'
        '<path d="M0-100Q-17-62-13-32Q-9-14-2-14Q4-36 2-58Q4-76 0-100Z" fill="{leaf}"/>',
        {"leaf": "#4f9e52", "bark": BARK},
        '<path d="M0-100Q9-80 10-68Q4-72 0-69Q-5-74-10-67Q-8-82 0-100Z" fill="{snow}"/>',
    ),
    "birch": Stamp(
        '<path d="M-3 0L-2-70H2L3 0Z" fill="{bark}"/><path d="M-3-8h3M-2-20h3M-2.500-32h3M0-44h2.500'
        'M-2-52h3" stroke="{mark}" stroke-width="1.6" fill="none"/>'
        f'<g fill="{{leaf_dark}}">{_blobs((-9, -58, 11), (10, -60, 12), (0, -76, 15), (-3, -88, 11))}</g>'
        f'<g fill="{{leaf}}">{_blobs((-11, -61, 9), (7, -64, 9), (-3, -78, 12), (-4, -90, 9))}</g>'
        f'<g fill="{{leaf_light}}">{_blobs((-8, -82, 4), (-13, -63, 4), (4, -69, 3))}</g>',
        {"leaf": "#9cc24c", "bark": "#f2eee6", "mark": "#4a4441"},
        f'<g fill="{{snow}}">{_blobs((-4, -94, 8), (-13, -67, 5), (11, -69, 6))}</g>',
    ),
    "bush": Stamp(
        f'<g fill="{{leaf_dark}}">{_blobs((-50, -26, 28), (50, -24, 26), (-18, -50, 34), (22, -48, 32))}'
        f'<rect x="-72" y="-24" width="144" height="24" rx="12"/></g>'
        f'<g fill="{{leaf}}">{_blobs((-48, -30, 22), (45, -29, 20), (-20, -55, 27), (20, -53, 24))}</g>'
        f'<g fill="{{leaf_light}}">{_blobs((-28, -66, 9), (-54, -38, 7), (14, -64, 7))}</g>',
        {"leaf": "#57a350"},
        '<path d="M-72-40A28 28 0 0 1-50-54A34 34 0 0 1 3-72A32 32 0 0 1 54-52A26 26 0 0 1 73-36Q62-28 54-40Q42-28 '
        '32-46Q18-34 6-50Q-8-36-22-50Q-34-34-48-44Q-62-30-72-40Z" fill="{snow}"/>',
    ),
    "palm": Stamp(
        '<path d="M-5 0Q0-46 15-79L20-77Q8-40 6 0Z" fill="{bark}"/>'
        '<path d="M-4-10L6-9M-3-24L7-22M0-38L10-35M5-52L14-49M9-65L18-61" stroke="{bark_dark}" stroke-width="1.6" '
        'fill="none"/>'
        + _frond(17, -79, -40, 26, 24, "leaf_dark") + _frond(17, -79, 40, 30, 26, "leaf_dark")
        + _frond(17, -79, 10, 38, 2, "leaf_dark")
        + _frond(17, -79, -48, 6, 18, "leaf") + _frond(17, -79, 46, 8, 20, "leaf")
        + _frond(17, -79, -20, 34, 12, "leaf")
        + _frond(17, -79, -34, -14, 10, "leaf_light") + _frond(17, -79, 30, -16, 12, "leaf_light")
        + f'<g fill="{{bark_dark}}">{_blobs((14, -76, 3.6), (20, -75, 3.6))}</g>',
        {"leaf": "#3f9f5a", "bark": "#b98a5a"},
    ),
    "cactus": Stamp(
        '<g fill="none" stroke-linecap="round"><g stroke="{leaf_dark}"><path d="M0-2V-90" stroke-width="19"/>'
        '<path d="M0-38H-26V-66M0-26H25V-56" stroke-width="13" stroke-linejoin="round"/></g>'
        '<g stroke="{leaf}"><path d="M-2-2V-90" stroke-width="13"/><path d="M-6-38H-26V-66M0-26H24V-56" '
        'stroke-width="7.500" stroke-linejoin="round"/></g>'
        '<path d="M-4-12V-88M-27-44V-64M23-34V-54" stroke="{leaf_light}" stroke-width="2.200"/></g>'
        '<g fill="{flower}"><circle cx="0" cy="-100" r="5"/><circle cx="-26" cy="-73" r="3.500"/></g>',
        {"leaf": "#4f9b63", "flower": "#f27a9b"},
    ),
    "tuft": Stamp(
        '<path d="M-4 0Q-12-50-40-74Q-20-40-16 0Z" fill="{leaf_dark}"/><path d="M4 0Q14-54 42-80Q20-40 18 0Z" '
        'fill="{leaf_dark}"/>'
        '<path d="M-10 0Q-10-64-22-96Q2-56 4 0Z" fill="{leaf}"/><path d="M-2 0Q2-66 22-100Q14-50 12 0Z" '
        'fill="{leaf_light}"/>',
        {"leaf": "#5aa14a"},
    ),
    "fern": Stamp(
        '<g fill="none" stroke-linecap="round"><g stroke="{leaf_dark}" stroke-width="9">'
        '<path d="M0 0Q-22-60-70-50M0 0Q22-60 70-46"/></g>'
        '<g stroke="{leaf}" stroke-width="10"><path d="M0 0Q-14-84-50-86M0 0Q14-82 50-80"/></g>'
        '<path d="M0 0Q-2-70-12-98M0 0Q-14-84-50-86" stroke="{leaf_light}" stroke-width="5"/></g>',
        {"leaf": "#3f9a5c"},
    ),
    "flower": Stamp(
        '<path d="M0 0Q4-40 0-78" fill="none" stroke="{leaf}" stroke-width="7"/><path d="M1-24Q26-28 32-52Q6-48 1-24'
        'Z" fill="{leaf_light}"/>'
        f'<g fill="{{petal}}">{_blobs((0, -100, 15), (20, -86, 15), (13, -64, 15), (-13, -64, 15), (-20, -86, 15))}'
        f'</g><circle cx="0" cy="-80" r="12" fill="{{heart}}"/>',
        {"leaf": "#4f9a4a", "petal": "#f58fb0", "heart": "#ffd65a"},
    ),
    "mushroom": Stamp(
        '<path d="M-14 0Q-10-30-12-50H12Q10-30 14 0Q0 6-14 0Z" fill="{stem}"/><path d="M-48-44Q-44-98 0-100Q44-98 '
        '48-44Q0-34-48-44Z" fill="{cap}"/>'
        '<g fill="#ffffff" fill-opacity="0.85"><circle cx="-18" cy="-70" r="8"/><circle cx="14" cy="-80" r="9"/>'
        '<circle cx="26" cy="-58" r="6"/></g>',
        {"stem": "#f3e6d2", "cap": "#e2523f"},
    ),
    "rock": Stamp(
        '<path d="M-80 0L-70-48L-30-88L24-96L66-56L82 0Z" fill="{stone_dark}"/><path d="M-70-48L-30-88L24-96L6-58'
        'L-36-40Z" fill="{stone_light}"/>'
        '<path d="M-80 0L-70-48L-36-40L-22 0Z" fill="{stone}"/>',
        {"stone": "#9aa3ad"},
        '<path d="M-66-56L-30-92L24-100L56-68Q30-76 14-66Q-4-76-20-62Q-40-66-66-56Z" fill="{snow}"/>',
    ),
    "cottage": Stamp(
        '<rect x="34" y="-112" width="15" height="42" fill="{brick_dark}"/><rect x="-62" y="-56" width="124" '
        'height="56" fill="{wall}"/>'
        '<rect x="-62" y="-56" width="124" height="9" fill="{wall_dark}"/><path d="M-76-52L-50-100H50'
        'L76-52Z" fill="{roof}"/>'
        '<path d="M-76-52L-70-63H70L76-52Z" fill="{roof_dark}"/><path d="M-9 0V-28Q0-40 9-28V0Z" fill="{door}"/>'
        '<g fill="{pane}" stroke="{wall_light}" stroke-width="3"><rect x="-46" y="-38" width="22" height="22"/>'
        '<rect x="26" y="-38" width="22" height="22"/>'
        '<path d="M-35-38v22M-46-27h22M37-38v22M26-27h22" fill="none"/></g>',
        {"wall": "#f6e7cf", "roof": "#c8553d", "door": "#7c4a32", "brick": "#b0604a"},
        '<path d="M-70-62L-50-100H50L70-62Q56-56 46-64Q32-54 16-64Q0-54-16-64Q-34-54-48-64Q-58-56-70-62Z" '
        'fill="{snow}"/><rect x="31" y="-116" width="21" height="7" rx="3" fill="{snow}"/>',
    ),
    "barn": Stamp(
        '<path d="M-60 0V-62L-44-90L0-108L44-90L60-62V0Z" fill="{wall}"/><path d="M-68-58L-49-92L0-114L49-92L68-58'
        'L60-55L43-86L0-104L-43-86L-60-55Z" fill="{roof}"/>'
        '<rect x="-24" y="-46" width="48" height="46" fill="{wall_dark}"/><path d="M-24-46H24V0H-24ZM0-46V0M-24-46'
        'L0 0L24-46M-24 0L0-46L24 0" fill="none" stroke="{trim}" stroke-width="3.500"/>'
        '<g fill="{pane}" stroke="{trim}" stroke-width="3.500"><rect x="-12" y="-82" width="24" height="22"/></g>',
        {"wall": "#c8433a", "roof": "#6d5a60", "trim": "#fdf3e4"},
        '<path d="M-68-58L-49-92L0-114L49-92L68-58L60-60L46-84L0-102L-46-84L-60-60Z" fill="{snow}"/>',
    ),
    "silo": Stamp(
        '<path d="M-16 0V-80Q-16-100 0-100Q16-100 16-80V0Z" fill="{metal}"/><path d="M4 0V-99Q16-96 16-80V0Z" '
        'fill="{metal_dark}"/>'
        '<path d="M-16-80Q-16-100 0-100Q16-100 16-80Z" fill="{roof}"/><path d="M-16-62h32M-16-42h32'
        'M-16-22h32" stroke="{metal_dark}" stroke-width="2.500"/>',
        {"metal": "#d7dde2", "roof": "#b34a3f"},
        '<path d="M-15-84Q-13-101 0-101Q13-101 15-84Q8-90 0-86Q-8-90-15-84Z" fill="{snow}"/>',
    ),
    "windmill": Stamp(
        '<path d="M-15 0L-9-64H9L15 0Z" fill="{wall}"/><path d="M2 0V-64H9L15 0Z" fill="{wall_dark}"/>'
        '<path d="M-11-63Q0-82 11-63Z" fill="{roof}"/><path d="M-4 0V-13Q0-18 4-13V0Z" fill="{roof_dark}"/>'
        '<g transform="translate(0 -66) rotate(20)" fill="{sail}" stroke="{roof_dark}" stroke-width="1">'
        '<path d="M-1 0V-36H9V-8ZM0-1H36V9H8ZM1 0V36H-9V8ZM0 1H-36V-9H-8Z"/></g><circle cx="0" cy="-66" r="3" '
        'fill="{roof_dark}"/>',
        {"wall": "#f4ead8", "roof": "#a4553f", "sail": "#fffaf0"},
    ),
    "bale": Stamp(
        '<ellipse cx="0" cy="-50" rx="62" ry="50" fill="{hay_dark}"/><circle cx="-12" cy="-50" r="50" fill="{hay}"/>'
        '<g fill="none" stroke="{hay_dark}" stroke-width="5"><circle cx="-12" cy="-50" r="34"/>'
        '<circle cx="-12" cy="-50" r="18"/></g>',
        {"hay": "#eec765"},
        '<path d="M-52-76Q-30-104 6-100Q34-98 46-82Q20-90 4-82Q-24-92-52-76Z" fill="{snow}"/>',
    ),
    "bench": Stamp(
        '<g fill="{metal}"><path d="M-70 0V-96h9V0ZM61 0V-96h9V0ZM-78-48H78v8H-78Z"/></g>'
        '<g fill="{wood}"><rect x="-86" y="-98" width="172" height="15" rx="4"/><rect x="-86" y="-78" width="172" '
        'height="15" rx="4"/><rect x="-90" y="-56" width="180" height="13" rx="4"/></g>',
        {"wood": "#b9754a", "metal": "#49525c"},
        '<rect x="-90" y="-61" width="180" height="10" rx="5" fill="{snow}"/><rect x="-86" y="-102" width="172" '
        'height="7" rx="3" fill="{snow}"/>',
    ),
    "lamp": Stamp(
        '<path d="M-1.200-80H1.200L2 0H-2ZM-4 0V-4H4V0ZM-5-82H5V-79H-5Z" fill="{metal}"/>'
        '<path d="M-4.500-82L-6-94H6L4.500-82Z" fill="{pane}"/><path d="M-7-94L-3-99H3L7-94Z" fill="{metal}"/>',
        {"metal": "#3f4752"},
        '<path d="M-7-95L-3-101H3L7-95Z" fill="{snow}"/>',
    ),
    "boat": Stamp(
        '<path d="M-2-20V-98H2V-20Z" fill="{wood}"/><path d="M4-94Q40-60 44-26H4Z" fill="{sail}"/>'
        '<path d="M-4-86Q-24-52-30-26H-4Z" fill="{flag}"/>'
        '<path d="M-50-20H52Q44 0 30 0H-28Q-44 0-50-20Z" fill="{hull}"/><path d="M-50-20H52'
        'L49-14H-48Z" fill="{sail}"/>',
        {"wood": "#7c5038", "sail": "#fffaf0", "flag": "#f27a5e", "hull": "#c8503f"},
    ),
    "parasol": Stamp(
        '<path d="M-2 0L-1-88H1.500L2.500 0Z" fill="{pole}"/><path d="M-60-54Q-50-98 0-100Q50-98 60-54Q45-62 30-54'
        'Q15-62 0-54Q-15-62-30-54Q-45-62-60-54Z" fill="{cloth}"/>'
        '<path d="M-30-54Q-28-92 0-100Q28-92 30-54Q15-62 0-54Q-15-62-30-54Z" fill="{stripe}"/>'
        '<path d="M-10-57Q-10-90 0-100Q10-90 10-57Q5-58 0-54Q-5-58-10-57Z" fill="{cloth}"/>',
        {"pole": "#f3ead9", "cloth": "#f0625a", "stripe": "#fff7ea"},
    ),
    "starfish": Stamp(
        '<path d="M0-58L9-36L30-44L20-22L38-8L14-6L8 12L0-2L-8 12L-14-6L-38-8L-20-22L-30-44'
        'L-9-36Z" fill="{skin}" stroke="{skin}" stroke-width="8" stroke-linejoin="round"/>',
        {"skin": "#f58f6c"},
    ),
    "shell": Stamp(
        '<path d="M0 0Q-52-14-46-54Q-40-84 0-86Q40-84 46-54Q52-14 0 0Z" fill="{skin}"/>'
        '<path d="M0-2L-28-70M0-2V-84M0-2L28-70" stroke="{skin_dark}" stroke-width="5" fill="none"/>',
        {"skin": "#fbd3c4"},
    ),
    "kelp": Stamp(
        '<g fill="none" stroke-linecap="round"><path d="M0 2C-22-22 20-40 0-62C-14-78 8-88 2-100" stroke="{leaf}" '
        'stroke-width="9"/>'
        '<path d="M12 2C-4-18 26-32 12-54C4-66 16-70 14-78" stroke="{leaf_dark}" stroke-width="7"/>'
        '<path d="M-12 2C-26-12-4-26-14-42C-18-50-10-54-12-62" stroke="{leaf_light}" stroke-width="6"/></g>',
        {"leaf": "#2f9a76"},
    ),
    "coral": Stamp(
        '<g fill="none" stroke="{skin}" stroke-width="13" stroke-linecap="round" stroke-linejoin="round">'
        '<path d="M0 2V-50L-30-72V-92M0-44L24-66L20-96M0-50L-2-84M-30-72L-50-74M24-66L48-78M0-18L34-36L40-46"/></g>'
        '<g fill="{skin_light}"><circle cx="-30" cy="-93" r="4"/><circle cx="20" cy="-97" r="4"/>'
        '<circle cx="-2" cy="-85" r="4"/><circle cx="48" cy="-79" r="4"/><circle cx="-50" cy="-75" r="4"/></g>',
        {"skin": "#f2687e"},
    ),
    "anemone": Stamp(
        '<g fill="none" stroke="{skin}" stroke-width="10" stroke-linecap="round">'
        '<path d="M-20 0Q-46-30-60-64M-12 0Q-28-40-34-84M-3 0Q-4-50-8-94M6 0Q14-44 20-90M14 0Q30-36 44-78'
        'M20 0Q48-26 64-56"/></g>'
        f'<g fill="{{skin_light}}">{_blobs((-60, -64, 8), (-34, -84, 8), (-8, -94, 8))}'
        f'{_blobs((20, -90, 8), (44, -78, 8), (64, -56, 8))}</g>'
        f'<path d="M-34 2Q-30-24 0-24Q30-24 34 2Z" fill="{{skin_dark}}"/>',
        {"skin": "#b879d6"},
    ),
    "fish": Stamp(
        '<path d="M-34-50L-62-72V-28Z" fill="{skin_dark}"/><path d="M-40-50Q-4-92 44-50Q-4-8-40-50Z" fill="{skin}"/>'
        '<circle cx="24" cy="-55" r="5" fill="{eye}"/>',
        {"skin": "#f5b04c", "eye": "#203048"},
    ),
    "snowman": Stamp(
        '<g fill="{snow_dark}"><circle cx="0" cy="-22" r="24"/><circle cx="0" cy="-56" r="18"/>'
        '<circle cx="0" cy="-82" r="13"/></g><g fill="{snow}"><circle cx="-2" cy="-24" r="21"/>'
        '<circle cx="-2" cy="-58" r="15"/><circle cx="-1" cy="-83" r="11"/></g>'
        '<path d="M-16-70H16V-64H6V-48H0V-64H-16Z" fill="{scarf}"/><path d="M2-83L18-80L2-78Z" fill="#f28c3a"/>'
        '<g fill="#2c3340"><circle cx="-5" cy="-86" r="1.800"/><circle cx="4" cy="-86" r="1.800"/>'
        '<rect x="-11" y="-97" width="22" height="4"/><rect x="-8" y="-110" width="16" height="14"/></g>',
        {"snow": "#fafdff", "scarf": "#e2504a"},
    ),
}  # fmt: skip


FAR = {"fir": "spire", "oak": "grove", "birch": "grove"}  # what stands in for a stamp in the haze


def stamp(
    s: Sheet, name: str, x: float, y: float, size: float, depth: float = 0.0, flip: bool = False, turn: float = 0.0,
    snowy: bool = False,
    /, **colours: str,
) -> None:  # fmt: skip
    """Set a stamp down with its foot at (x, y), `size` units high, in its own colours or those given by role.

    `snowy` puts its snow on in any weather; `turn` is in degrees, clockwise.
    """
    drawn = STAMPS[FAR.get(name, name) if depth > 0.3 else name]
    inks = {"pane": pane(s), "snow": s.tone("#f7fbff", depth)}
    for role, colour in (drawn.colours | colours).items():
        dark, light = shades(colour)
        inks[role], inks[role + "_dark"], inks[role + "_light"] = (
            s.tone(colour, depth),
            s.tone(dark, depth),
            s.tone(light, depth),
        )
        inks[role + "_soft"] = s.tone(hexed(mix(rgb(colour), rgb(light), 0.45)), depth)
    svg = drawn.svg + (drawn.snow if snowy or s.sky.weather == "snow" else "")
    k = size / 100
    rotation = f" rotate({turn:.1f})" if turn else ""
    s.add(
        f'<g transform="translate({x:.1f} {y:.1f}) scale({-k if flip else k:.3f} '
        f'{k:.3f}){rotation}">{svg.format_map(inks)}</g>'
    )


def pane(s: Sheet) -> str:
    """The colour of a window seen from outside: lit when it is dark."""
    return "#ffd977" if s.sky.hour.windows >= 0.5 or s.sky.weather == "rain" else s.tone("#a9d8ef")


def row(
    s: Sheet,
    names: tuple[str, ...],
    xs: list[float],
    foot: list[tuple[float, float]],
    size: float,
    depth: float,
    **colours: str,
) -> None:
    """Stamps chosen at random along an outline, sizes varied."""
    for x in xs:
        k = s.rng.uniform(0.75, 1.2)
        stamp(s, s.rng.choice(names), x, at(foot, x) + 4, size * k, depth, s.rng.random() < 0.5, **colours)
