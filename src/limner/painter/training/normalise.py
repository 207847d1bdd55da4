"""One emoji's SVG made plain: what Skia's SVG reader draws the same as resvg, in as few bytes as that takes.

`use` and inherited gradients are written out, colours become six digits and an opacity, ids carry the drawing's name so
that several drawings can stand in one document, and numbers are cut to two decimals.
"""

from __future__ import annotations

import copy
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import resvg_py
import skia
from PIL import Image

from limner.engine.core import UInt8

XLINK = "{http://www.w3.org/1999/xlink}href"
COLOURS = ("fill", "stroke", "stop-color")
OPACITIES = {"fill": "fill-opacity", "stroke": "stroke-opacity", "stop-color": "stop-opacity"}
NAMES = {"red": "ff0000", "orange": "ffa500", "gray": "808080", "grey": "808080", "silver": "c0c0c0", "white": "ffffff"}
DRAWN = {
    "svg", "path", "ellipse", "rect", "circle", "g", "defs", "clipPath", "linearGradient", "radialGradient", "stop",
    "use",
}  # fmt: skip
Box = tuple[float, float, float, float]


class CannotNormalise(ValueError):
    """The SVG holds something that the bank's plain form has no room for; the message names it."""


def normalise(body: str, prefix: str, side: float) -> str:
    """An icon's inner SVG in plain form, without a root element, clipped to its own view box.

    Args:
        body: the elements inside the icon's root.
        prefix: put before every id.
        side: width and height of the icon's view box, whose corner is at (0, 0).

    Raises:
        CannotNormalise: it holds an element or a colour that is not understood.
    """
    root = ET.fromstring(f'<svg xmlns:xlink="{XLINK[1:-5]}">{body}</svg>')  # noqa: S314  pinned
    for element in root.iter():
        if element.tag not in DRAWN:
            raise CannotNormalise(f"element <{element.tag}>")
    _write_out_references(root)
    _plain_attributes(root)
    _rename_ids(root, prefix)
    inner = "".join(ET.tostring(child, encoding="unicode") for child in root).replace(" />", "/>")
    if _overflows(inner, side):
        clip = f'<clipPath id="{prefix}-edge"><path d="M0 0h{side:g}v{side:g}H0z"/></clipPath>'
        inner = f'{clip}<g clip-path="url(#{prefix}-edge)">{inner}</g>'
    return inner


def _write_out_references(root: ET.Element) -> None:
    named = {str(element.get("id")): element for element in root.iter() if element.get("id")}
    for parent in list(root.iter()):
        for position, child in enumerate(list(parent)):
            if child.tag == "use":
                parent[position] = _written_out(child, named, parent.tag == "clipPath")
            elif child.tag.endswith("Gradient") and _target(child):
                _inherit(child, named)
    used = {
        match
        for element in root.iter()
        for value in element.attrib.values()
        for match in re.findall(r"url\(#([^)]+)\)", value)
    }
    for defs in list(root.iter("defs")):
        for child in list(defs):
            if child.get("id") not in used:
                defs.remove(child)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "defs" and not len(child):
                parent.remove(child)


def _target(element: ET.Element) -> str:
    return (element.get("href") or element.get(XLINK) or "").removeprefix("#")


def _written_out(use: ET.Element, named: dict[str, ET.Element], clipping: bool) -> ET.Element:
    """What a `use` shows: a copy of its target, in a group of its own where it says more and groups are allowed."""
    if _target(use) not in named:
        raise CannotNormalise(f"a use of #{_target(use)}, which is not there")
    target = named[_target(use)]
    written = _written_out(target, named, clipping) if target.tag == "use" else copy.deepcopy(target)
    written.attrib.pop("id", None)
    rest = {name: value for name, value in use.attrib.items() if name not in ("href", XLINK, "id")}
    if rest and not clipping:
        group = ET.Element("g", rest)
        group.append(written)
        return group
    written.attrib.update(rest)
    return written


def _inherit(gradient: ET.Element, named: dict[str, ET.Element]) -> None:
    """Give a gradient the stops and attributes that it takes from another (SVG 1.1, 13.2)."""
    while target := _target(gradient):
        if target not in named:
            raise CannotNormalise(f"a gradient that takes after #{target}, which is not there")
        other = named[target]
        gradient.attrib = {k: v for k, v in gradient.attrib.items() if k not in ("href", XLINK)}
        for name, value in other.attrib.items():
            if name != "id" and (name.startswith("gradient") or name in ("href", XLINK) or other.tag == gradient.tag):
                gradient.attrib.setdefault(name, value)
        if not len(gradient):
            gradient.extend(copy.deepcopy(stop) for stop in other)


def _plain_attributes(root: ET.Element) -> None:
    for element in root.iter():
        for name in COLOURS:
            if (value := element.get(name)) is not None:
                colour, opacity = plain_colour(value)
                element.set(name, colour)
                if opacity < 1:
                    before = float(element.get(OPACITIES[name], "1"))
                    element.set(OPACITIES[name], f"{opacity * before:.3g}")
        if (data := element.get("d")) is not None:
            element.set("d", shorter_path(data))
        for name, value in list(element.attrib.items()):
            if name in ("gradientTransform", "transform"):
                element.set(name, _rounded(value, 4))
            elif name not in ("d", "id") and not value.startswith(("url", "#")):
                element.set(name, _rounded(value, 3))


def plain_colour(value: str) -> tuple[str, float]:
    """A paint as `#rrggbb`, `none` or `url(...)`, and its opacity in [0, 1].

    Raises:
        CannotNormalise: it is none of the forms that the sets use.
    """
    if value == "none" or value.startswith("url("):
        return value, 1.0
    if match := re.fullmatch(r"rgba\((\d+), *(\d+), *(\d+), *([\d.]+)\)", value):
        red, green, blue = (int(part) for part in match.groups()[:3])
        return f"#{red:02x}{green:02x}{blue:02x}", float(match[4])
    digits = NAMES.get(value, value.removeprefix("#").lower())
    if len(digits) in (3, 4):
        digits = "".join(2 * digit for digit in digits)
    if not re.fullmatch(r"[0-9a-f]{6}([0-9a-f]{2})?", digits):
        raise CannotNormalise(f"the colour {value!r}")
    return "#" + digits[:6], int(digits[6:] or "ff", 16) / 255


def shorter_path(data: str, decimals: int = 2) -> str:
    """Path data with its numbers at `decimals` decimals (SVG 1.1, 8.3; an arc's flags may stand without spaces)."""
    parts = []
    for command, body in re.findall(r"([MmLlHhVvCcSsQqTtAaZz])([^MmLlHhVvCcSsQqTtAaZz]*)", data):
        numbers: list[str] = []
        rest = body.strip(" ,\n\t")
        while rest:
            flag = command in "Aa" and len(numbers) % 7 in (3, 4)
            match = re.match(r"[01]" if flag else r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", rest)
            if match is None:
                raise CannotNormalise(f"path data near {rest[:20]!r}")
            numbers.append(match[0] if flag else _short(float(match[0]), decimals))
            rest = rest[match.end() :].lstrip(" ,\n\t")
        joined = ""
        for number in numbers:
            joined += number if not joined or number.startswith("-") else " " + number
        parts.append(command + joined)
    return "".join(parts)


def _short(number: float, decimals: int) -> str:
    text = f"{number:.{decimals}f}".rstrip("0").rstrip(".") if decimals else f"{number:.0f}"
    text = re.sub(r"^(-?)0\.", r"\1.", text)
    return "0" if text in ("-0", "", "-", "-.") else text


def _rounded(text: str, decimals: int) -> str:
    return re.sub(r"-?\d*\.\d+(?:e-?\d+)?", lambda match: _short(float(match[0]), decimals), text)


def _rename_ids(root: ET.Element, prefix: str) -> None:
    names = {
        str(element.get("id")): f"{prefix}-{index}"
        for index, element in enumerate(e for e in root.iter() if e.get("id"))
    }
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id":
                element.set("id", names[value])
            elif "url(#" in value:
                element.set(name, re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{names[match[1]]})", value))


def document(inner: str, box: Box, pixels: int) -> str:
    """A whole SVG document, `pixels` square, that shows `box` of a fragment."""
    view = " ".join(f"{value:g}" for value in box)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view}" width="{pixels}" height="{pixels}">{inner}</svg>'
    )


def by_skia(inner: str, box: Box, pixels: int) -> UInt8:
    """A fragment rendered by Skia: (pixels, pixels, 4) uint8, premultiplied."""
    stream = skia.MemoryStream.MakeCopy(document(inner, box, pixels).encode())
    dom = skia.SVGDOM.MakeFromStream(stream)
    if dom is None:
        raise CannotNormalise("Skia cannot read it")
    dom.setContainerSize(skia.Size(pixels, pixels))
    surface = skia.Surface(pixels, pixels)
    dom.render(surface.getCanvas())
    info = skia.ImageInfo.Make(pixels, pixels, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    result = np.zeros((pixels, pixels, 4), np.uint8)
    surface.readPixels(info, result, 4 * pixels, 0, 0)
    return result


def by_resvg(inner: str, box: Box, pixels: int) -> UInt8:
    """A fragment rendered by resvg: (pixels, pixels, 4) uint8, premultiplied."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=document(inner, box, pixels)))
    straight = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(np.float32)
    straight[..., :3] *= straight[..., 3:] / 255
    return np.rint(straight).astype(np.uint8)


def disagreement(inner: str, original: str, side: float, pixels: int = 128) -> float:
    """Mean absolute difference in grey levels between the plain form in Skia and the original in resvg."""
    box = (0.0, 0.0, side, side)
    one = by_skia(inner, box, pixels).astype(np.float32)
    other = by_resvg(original, box, pixels).astype(np.float32)
    return float(np.abs(one - other).mean())


def tight_box(inner: str, side: float, pixels: int = 512) -> Box:
    """The smallest box that holds what the fragment draws, measured to side/512, or zeros where it draws nothing."""
    alpha = by_skia(inner, (0.0, 0.0, side, side), pixels)[..., 3] > 24
    if not alpha.any():
        return (0.0, 0.0, 0.0, 0.0)
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    unit = side / pixels
    x, y = float(columns[0]) * unit, float(rows[0]) * unit
    width, height = float(columns[-1] + 1) * unit - x, float(rows[-1] + 1) * unit - y
    return (round(x, 3), round(y, 3), round(width, 3), round(height, 3))


def _overflows(inner: str, side: float) -> bool:
    wide = by_skia(inner, (-side / 2, -side / 2, 2 * side, 2 * side), 128)[..., 3] > 128
    wide[31:97, 31:97] = False
    return bool(wide.any())


def paints(inner: str, side: float, pixels: int = 160) -> list[tuple[str, float]]:
    """The colours that a fragment shows with their shares of its area, largest first; shares add up to 1."""
    colours = sorted(set(re.findall(r"#[0-9a-f]{6}", inner)))
    shown = by_skia(inner, (0.0, 0.0, side, side), pixels).reshape(-1, 4)
    shown = shown[shown[:, 3] > 250][:, :3].astype(np.int32)
    if not colours or not len(shown):
        return []
    palette = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in colours], np.int32)
    nearest = np.abs(shown[:, None] - palette[None]).sum(2).argmin(1)
    counts = np.bincount(nearest, minlength=len(colours))
    shares = [
        (colour, round(int(count) / len(shown), 4)) for colour, count in zip(colours, counts, strict=True) if count
    ]
    return sorted(shares, key=lambda pair: (-pair[1], pair[0]))
