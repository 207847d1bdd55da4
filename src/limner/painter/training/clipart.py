"""Free-form SVG, as drawing programs write it, made into an icon: plain attributes, cropped to what it shows.

Clip art comes on pages of any size, in any unit, with its colours in styles and its own notes inside. What comes out is
the inner SVG of a square view box of `SIDE` units with a corner at (0, 0), ready for `normalise`.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
from PIL import ImageColor

from limner.painter.training.normalise import DRAWN, XLINK, Box, CannotNormalise, by_skia, shorter_path

SIDE = 128.0
MARGIN = 2.0
STEP = 0.04  # of the finished view box: what a coordinate may be rounded by
SVG = "{http://www.w3.org/2000/svg}"
UNITS = {"": 1.0, "px": 1.0, "pt": 1.25, "mm": 3.543307, "cm": 35.43307, "in": 90.0, "pc": 15.0, "em": 16.0, "ex": 8.0}
GROUPS = frozenset({"a", "symbol", "svg", "switch"})  # drawn like a group
SHAPES = frozenset({"line", "polyline", "polygon"})
PAINT = frozenset({
    "fill", "stroke", "stroke-width", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit", "stroke-dasharray",
    "opacity", "fill-opacity", "stroke-opacity", "fill-rule", "clip-rule", "stop-color", "stop-opacity", "clip-path",
})  # fmt: skip
LENGTHS = frozenset({"x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "fx", "fy", "width", "height"})
KEPT = PAINT | LENGTHS | {
    "d", "id", "transform", "gradientTransform", "gradientUnits", "spreadMethod", "offset", "clipPathUnits", "href",
    "stroke-dashoffset", XLINK,
}  # fmt: skip


def icon_of(text: str) -> str:
    """The inner SVG of a picture, `SIDE` units square.

    Args:
        text: a whole SVG document.

    Raises:
        CannotNormalise: it is no SVG, or holds letters, bitmaps, filters or styles that an icon has no room for.
    """
    try:
        root = ET.fromstring(re.sub(r"^.*?(?=<svg)", "", text, flags=re.DOTALL))  # noqa: S314  pinned
    except ET.ParseError as error:
        raise CannotNormalise(f"XML that is not well formed: {error}") from error
    sheet = _stylesheet(root)
    page = _page(root)
    plain = ET.Element("g", {"fill": "#000000"})
    for child in root:
        _copy(child, plain, sheet)
    plain.attrib.update({k: v for k, v in _paint(root, sheet).items() if k in ("fill", "stroke", "stroke-width")})
    box = _shown(_text(plain), page)
    scale = (SIDE - 2 * MARGIN) / max(box[2], box[3])
    _round(plain, scale)
    x, y = SIDE / 2 - scale * (box[0] + box[2] / 2), SIDE / 2 - scale * (box[1] + box[3] / 2)
    return f'<g transform="matrix({scale:.5g} 0 0 {scale:.5g} {x:.2f} {y:.2f})">{_text(plain)}</g>'


def _text(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode").replace(" />", "/>").replace(f' xmlns:xlink="{XLINK[1:-1]}"', "")


def _page(root: ET.Element) -> Box:
    if view := root.get("viewBox"):
        x, y, width, height = (float(part) for part in re.split(r"[ ,]+", view.strip()))
    else:
        x = y = 0.0
        width, height = _length(root.get("width", "1000")), _length(root.get("height", "1000"))
    if not (width > 0 and height > 0):
        raise CannotNormalise("a page without a size")
    return x, y, width, height


def _length(value: str) -> float:
    match = re.fullmatch(r"\s*(-?[\d.]+(?:[eE][-+]?\d+)?)\s*(\w*)\s*", value)
    if match is None or match[2] not in UNITS:
        if value.strip().endswith("%"):
            return 1000.0
        raise CannotNormalise(f"the length {value!r}")
    return float(match[1]) * UNITS[match[2]]


def _stylesheet(root: ET.Element) -> dict[str, str]:
    """Declarations by class; other selectors are not read."""
    rules: dict[str, str] = {}
    for style in root.iter(SVG + "style"):
        for names, body in re.findall(r"([^{}]+)\{([^}]*)\}", style.text or ""):
            for name in names.split(","):
                rules[name.strip()] = rules.get(name.strip(), "") + body + ";"
    return rules


def _paint(element: ET.Element, sheet: dict[str, str]) -> dict[str, str]:
    """What an element says of its paint, its style before its attributes (SVG 1.1, 6.4)."""
    found = {name: value for name, value in element.attrib.items() if name in PAINT or name in ("display", "filter")}
    classes = "".join(sheet.get("." + name, "") for name in element.get("class", "").split())
    for declaration in (classes + element.get("style", "")).split(";"):
        name, _, value = declaration.partition(":")
        found[name.strip()] = value.replace("!important", "").strip()
    if found.get("filter", "none") != "none" or found.get("mask", "none") != "none":
        raise CannotNormalise("a filter or a mask")
    return {name: value for name, value in found.items() if value}


def _copy(element: ET.Element, parent: ET.Element, sheet: dict[str, str]) -> None:
    tag = element.tag.removeprefix(SVG) if isinstance(element.tag, str) else ""
    paint = _paint(element, sheet)
    if tag in ("text", "image", "pattern", "mask", "flowRoot"):
        raise CannotNormalise(f"element <{tag}>")
    if tag not in DRAWN | SHAPES | GROUPS or paint.get("display") == "none":
        return
    if paint.get("visibility") == "hidden":
        return
    kept = {name: value for name, value in element.attrib.items() if name in KEPT and name not in PAINT}
    kept |= {name: _value(name, value) for name, value in paint.items() if name in PAINT}
    for name in LENGTHS & kept.keys():
        kept[name] = kept[name] if kept[name].endswith("%") else f"{_length(kept[name]):g}"
    if tag in SHAPES:
        kept["d"], tag = _outline(element, tag), "path"
        kept = {name: value for name, value in kept.items() if name not in LENGTHS}
    made = ET.SubElement(parent, "g" if tag in GROUPS else tag, kept)
    for child in element:
        _copy(child, made, sheet)


def _value(name: str, value: str) -> str:
    if name in ("fill", "stroke", "stop-color"):
        return _colour(value)
    if name == "stroke-width":
        return f"{_length(value):g}"
    if name in ("opacity", "fill-opacity", "stroke-opacity", "stop-opacity"):
        return f"{float(value.rstrip('%')) / (100 if value.endswith('%') else 1):g}"
    return value


def _colour(value: str) -> str:
    """A paint with its colour in six digits."""
    if match := re.match(r"url\(['\"]?#([^)'\"]+)['\"]?\)", value):
        return f"url(#{match[1]})"
    if value in ("none", "transparent"):
        return "none"
    value = re.sub(r"icc-color\([^)]*\)", "", value).strip()
    try:
        red, green, blue = ImageColor.getrgb(value)[:3]
    except ValueError as error:
        raise CannotNormalise(f"the colour {value!r}") from error
    return f"#{red:02x}{green:02x}{blue:02x}"


def _outline(element: ET.Element, tag: str) -> str:
    if tag == "line":
        x1, y1, x2, y2 = (_length(element.get(name, "0")) for name in ("x1", "y1", "x2", "y2"))
        return f"M{x1:g} {y1:g}L{x2:g} {y2:g}"
    points = element.get("points", "").strip()
    return f"M{points}{'Z' if tag == 'polygon' else ''}" if points else ""


def _shown(inner: str, page: Box) -> Box:
    """The square-ish box that holds what is drawn, looked for on the page and half a page around it, then closer."""
    x, y, width, height = page
    edge = 2 * max(width, height)
    view = (x + width / 2 - edge / 2, y + height / 2 - edge / 2, edge, edge)
    for _ in range(2):
        alpha = by_skia(inner, view, 512)[..., 3] > 12
        if not alpha.any():
            raise CannotNormalise("nothing to see on its page")
        rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
        unit = view[2] / 512
        left, top = view[0] + unit * float(columns[0]), view[1] + unit * float(rows[0])
        wide, tall = unit * float(columns[-1] + 1 - columns[0]), unit * float(rows[-1] + 1 - rows[0])
        edge = 1.06 * max(wide, tall)
        view = (left + wide / 2 - edge / 2, top + tall / 2 - edge / 2, edge, edge)
    return left, top, wide, tall


def _round(element: ET.Element, scale: float) -> None:
    """Cut path data to what shows at `scale`; a group's transform changes the scale of what is in it."""
    if transform := element.get("transform"):
        scale *= _zoom(transform)
    decimals = min(max(math.ceil(-math.log10(STEP / max(scale, 1e-6))), 0), 4)
    if (data := element.get("d")) is not None:
        element.set("d", shorter_path(data, decimals))
    for child in element:
        _round(child, scale)


def _zoom(transform: str) -> float:
    """How much larger a transform makes things, the mean of both directions."""
    zoom = 1.0
    for name, body in re.findall(r"(\w+)\s*\(([^)]*)\)", transform):
        parts = [float(part) for part in re.split(r"[ ,]+", body.strip())]
        if name == "matrix" and len(parts) == 6:
            zoom *= math.sqrt(abs(parts[0] * parts[3] - parts[1] * parts[2]))
        elif name == "scale":
            zoom *= math.sqrt(abs(parts[0] * parts[-1]))
    return zoom
