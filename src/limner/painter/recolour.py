"""Giving a drawing another colour: its main hue is moved, its shading, outlines and eyes stay.

All arithmetic is in OKLab (Ottosson, "A perceptual color space for image processing", 2020) in its polar form:
lightness in [0, 1], chroma from 0 to about 0.32, hue in degrees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from limner.painter.colours import SHADES
from limner.painter.scene import Colour

GREY = 0.045  # below this chroma a colour counts as neutral
HUE_REACH = 32.0  # degrees either side of the main hue that move with it
Polar = tuple[float, float, float]


def polar(colour: str) -> Polar:
    """`#rrggbb` as OKLab lightness, chroma and hue."""
    red, green, blue = (_linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    middle = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    light = 0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short
    a = 1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short
    b = 0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short
    return light, math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360


def from_polar(light: float, chroma: float, hue: float) -> str:
    """The nearest `#rrggbb`: chroma is lowered until the colour is in sRGB."""
    light = min(max(light, 0.0), 1.0)
    for step in range(41):
        channels = _channels(light, chroma * (1 - step / 40), hue)
        if all(-0.002 <= channel <= 1.002 for channel in channels):
            break
    return "#" + "".join(f"{round(255 * _gamma(min(max(channel, 0.0), 1.0))):02x}" for channel in channels)


def _channels(light: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _gamma(channel: float) -> float:
    return 12.92 * channel if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055


def hue_distance(one: float, other: float) -> float:
    """Degrees between two hues, 0 to 180."""
    return abs((one - other + 180) % 360 - 180)


def body(paints: Sequence[tuple[str, float]], glazed: bool = False, fur: str = "") -> list[str]:
    """The colours of a drawing's main part: those of the hue, or of the grey, that covers most of it.

    Args:
        paints: `#rrggbb` with its share of the drawing's area.
        glazed: it is a vehicle or a building: its panes, tyres and bare metal are not what a colour word means.
        fur: a `#rrggbb` that is known to be of the main part, which may be less than a muzzle or a belly covers.
    """
    seen = [(colour, share * _weight(polar(colour), glazed), polar(colour)) for colour, share in paints]
    vivid = [entry for entry in seen if entry[2][1] >= GREY]
    # Eyes, mouths and outlines are dark and neutral; they count only where nothing else does.
    neutral = [entry for entry in seen if entry[2][1] < GREY]
    pale = [entry for entry in neutral if entry[2][0] >= 0.38] or neutral

    def cover(hue: float) -> float:
        return sum(share for _, share, (_, _, other) in vivid if hue_distance(hue, other) <= HUE_REACH)

    def near(heading: float) -> list[str]:
        return [colour for colour, _, (_, _, hue) in vivid if hue_distance(heading, hue) <= HUE_REACH]

    best = max((entry[2][2] for entry in vivid), key=cover, default=None)
    if best is None or cover(best) < 0.8 * sum(share for _, share, _ in pale):
        found = _one_lightness(pale)
    else:
        found = near(best)
    if not fur or fur in found:
        return found
    light, chroma, hue = polar(fur)
    return near(hue) if chroma >= GREY else _of_lightness(light, pale)


def _weight(colour: Polar, glazed: bool) -> float:
    light, chroma, hue = colour
    if light < 0.36:
        return 0.3
    if glazed and light > 0.7 and chroma >= GREY and 195 <= hue <= 255:
        return 0.15
    return 0.5 if glazed and chroma < GREY and light < 0.65 else 1.0


def _one_lightness(neutral: Sequence[tuple[str, float, Polar]]) -> list[str]:
    if not neutral:
        return []
    return _of_lightness(max(neutral, key=lambda entry: entry[1])[2][0], neutral)


def _of_lightness(centre: float, neutral: Sequence[tuple[str, float, Polar]]) -> list[str]:
    return [colour for colour, _, (light, _, _) in neutral if abs(light - centre) <= 0.3]


def moved(family: Mapping[str, float], colour: Colour) -> dict[str, str]:
    """Which colours become which when a drawing's main part is to be `colour`; none where it already is.

    Args:
        family: the colours of its main part, as `body` finds them, each with its share of the drawing's area.
    """
    if not family:
        return {}
    old = {name: polar(name) for name in family}
    total = sum(family.values()) or 1.0
    light = sum(family[name] * old[name][0] for name in family) / total
    chroma = max(sum(family[name] * old[name][1] for name in family) / total, 1e-6)
    heading = _mean_hue([(old[name][2], family[name] * old[name][1]) for name in family])
    new_light, new_chroma, new_hue = polar(SHADES[colour])
    if _apart((light, chroma, heading), (new_light, new_chroma, new_hue)) < 0.075:
        return {}
    plain = new_chroma < GREY
    result = {}
    for name, (one_light, one_chroma, hue) in old.items():
        offset = one_light - light
        # Shading keeps its steps but must not leave the colour: a black cat has no white back.
        reach = min(1.0, 0.22 / max(abs(offset), 1e-6)) if offset > 0 else min(1.0, 0.34 / max(abs(offset), 1e-6))
        shaded = min(max(new_light + offset * reach, 0.16), 0.985)
        if plain:
            strength = new_chroma
        elif chroma >= GREY:
            strength = new_chroma * min(max(one_chroma / chroma, 0.45), 1.3)
        else:
            strength = new_chroma * max(1 - 1.2 * max(offset, 0.0), 0.4)
        turn = ((hue - heading + 180) % 360 - 180) * 0.4 if chroma >= GREY and not plain else 0.0
        result[name] = from_polar(shaded, strength, (new_hue + turn) % 360)
    return result


def _mean_hue(weighted: Sequence[tuple[float, float]]) -> float:
    x = sum(weight * math.cos(math.radians(hue)) for hue, weight in weighted)
    y = sum(weight * math.sin(math.radians(hue)) for hue, weight in weighted)
    return math.degrees(math.atan2(y, x)) % 360


def replaced(svg: str, colours: dict[str, str]) -> str:
    """The fragment with each `#rrggbb` of `colours` swapped for its other."""
    return re.sub(r"#[0-9a-f]{6}", lambda match: colours.get(match[0], match[0]), svg)


def nearest_colour(colour: str) -> Colour:
    """The colour name that `#rrggbb` is closest to, never gold or silver: those are for the asker to say."""
    names: list[Colour] = [name for name in SHADES if name not in ("gold", "silver")]
    return min(names, key=lambda name: _apart(polar(colour), polar(SHADES[name])))


def _apart(one: Polar, other: Polar) -> float:
    """How unlike two colours are to someone who names them: hue counts twice as much as in OKLab's own distance."""
    across = 2 * math.sqrt(one[1] * other[1]) * math.sin(math.radians(hue_distance(one[2], other[2])) / 2)
    return math.sqrt((one[0] - other[0]) ** 2 + 2.5 * (one[1] - other[1]) ** 2 + 5 * across**2)
