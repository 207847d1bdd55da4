"""What the colour names of a scene look like, and the light and dark sides of a colour.

Colours are `#rrggbb` strings in sRGB throughout: Skia's SVG reader takes neither names nor four or eight digits.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

from limner.painter.scene import Colour, HairColour, Skin

SHADES: dict[Colour, str] = {
    "red": "#dc3b3b",
    "orange": "#f28a2b",
    "yellow": "#f8d046",
    "green": "#43a552",
    "teal": "#1f9c9a",
    "blue": "#3d7fdb",
    "navy": "#2a3c70",
    "purple": "#8050bb",
    "pink": "#f388b4",
    "brown": "#8a5832",
    "black": "#2d2d36",
    "grey": "#8d929b",
    "white": "#fafafa",
    "gold": "#dba827",
    "silver": "#c1c7d0",
    "beige": "#e4d0aa",
}
SKINS: dict[Skin, str] = {
    "pale": "#fce3d4",
    "light": "#f5c9a8",
    "tan": "#dba26c",
    "brown": "#a96d45",
    "dark": "#6d442b",
}
HAIRS: dict[HairColour, str] = {
    "black": "#2b2630",
    "brown": "#6b4128",
    "blonde": "#f0c65a",
    "red": "#c8502a",
    "grey": "#9a9aa3",
    "white": "#f1f0ee",
    "blue": "#3f78d6",
    "pink": "#f07fb2",
    "purple": "#8652c4",
    "green": "#4aa65a",
}


def mix(one: str, other: str, amount: float) -> str:
    """`one` with `amount` in [0, 1] of `other`, channel by channel in sRGB."""
    pairs = zip(_channels(one), _channels(other), strict=True)
    return _hex(*((1 - amount) * a + amount * b for a, b in pairs))


@lru_cache(4096)
def shade(colour: str, amount: float) -> str:
    """The same hue with `amount` in [0, 1] of its lightness gone; greys turn a little blue, as shadows do."""
    hue, light, saturation = colorsys.rgb_to_hls(*_channels(colour))
    if saturation < 0.12 or light > 0.97:
        hue, saturation = 0.63, 0.14
    rich = _hex(*colorsys.hls_to_rgb(hue, light * (1 - amount), saturation))
    return mix(
        rich, mix(colour, "#2a1d38", amount), 0.5
    )  # half of it towards a dusky violet, or skin would glow orange


def tint(colour: str, amount: float) -> str:
    """The colour with `amount` in [0, 1] of the way to white gone."""
    return mix(colour, "#ffffff", amount)


def luminance(colour: str) -> float:
    """Perceived lightness in [0, 1]: the luma of ITU-R BT.709 on the sRGB values."""
    red, green, blue = _channels(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _channels(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255


def _hex(red: float, green: float, blue: float) -> str:
    return "#" + "".join(f"{round(255 * min(max(c, 0.0), 1.0)):02x}" for c in (red, green, blue))
