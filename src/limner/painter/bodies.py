"""Bodies for what the bank draws as a face alone: no fox on a hill and no robot in a city is a floating head.

A body is flat shapes from three tables: a stance (how it sits or stands), a tail and a coat. `ROWS` says for each face
which of them it has, and which of the face's own colours go where; so a recoloured face brings a recoloured body.
The shapes and their frame are in `limner.painter.stances`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from limner.painter.bank import Drawing
from limner.painter.colours import tint
from limner.painter.recolour import from_polar, polar
from limner.painter.stances import COATS, GROUND, STANCES, TAILS, Part

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """The body of one face. Colours are `#rrggbb` as in the bank's drawing; "" takes the usual one."""

    stance: str
    tail: str
    fur: str
    belly: str = ""  # a lighter fur
    limb: str = ""  # a slightly darker fur
    foot: str = ""  # like the limbs
    pad: str = ""  # like the belly
    tip: str = ""  # of the tail; like the belly
    mane: str = ""  # like the limbs
    rim: str = ""  # an edge all round, for white animals; "" has none
    coat: str = ""  # a key of COATS
    size: float = 100.0  # of the head: the root of its box's area
    head: tuple[float, float] | None = None  # another place for it than the stance's


def whole(drawing: Drawing, svg: str) -> tuple[str, Box]:
    """A face as a whole animal; any other drawing as it is.

    Args:
        drawing: of the bank.
        svg: its fragment, as it is or recoloured by `limner.painter.bank.recolour`.

    Returns:
        The fragment and the box (x, y, width, height) of what it draws, in its own units; the feet are at the bottom.
    """
    row = ROWS.get(drawing.name)
    if row is None:
        return svg, drawing.box
    colours = _palette(row, dict(zip(_HEX.findall(drawing.svg), _HEX.findall(svg), strict=True)))
    stance, tail = STANCES[row.stance], TAILS[row.tail]
    place = f'<g transform="translate({stance.tail[0]:g} {stance.tail[1]:g})">'
    body = (*stance.parts, *COATS.get(row.coat, ()))
    under = _drawn(body, colours, _RIM) + f"{place}{_drawn(tail.parts, colours, _RIM)}</g>" if row.rim else ""
    fragment = f"{place}{_drawn(tail.parts, colours)}</g>{_drawn(body, colours)}"

    x, y, width, height = drawing.box
    scale = row.size / (width * height) ** 0.5
    middle, chin = row.head or stance.head
    left, top = middle - scale * width / 2, chin - scale * height
    face = f'<g transform="translate({left - scale * x:.3f} {top - scale * y:.3f}) scale({scale:.4f})">{svg}</g>'

    edge = _RIM if row.rim else 0.0
    start = min(left, stance.sides[0] - edge, stance.tail[0] + tail.left - edge)
    end = max(left + scale * width, stance.sides[1] + edge, stance.tail[0] + tail.reach + edge)
    return f'<g fill="none">{under}{fragment}{face}</g>', (start, top, end - start, GROUND + edge - top)


_HEX = re.compile(r"#[0-9a-f]{6}")
_RIM = 3.2


def _palette(row: Row, recoloured: Mapping[str, str]) -> dict[str, str]:
    def own(colour: str, usual: str) -> str:
        return recoloured.get(colour, colour) if colour else usual

    fur = own(row.fur, "")
    belly = own(row.belly, tint(fur, 0.5))
    dark = _darker(fur)
    limb = own(row.limb, dark)
    foot = own(row.foot, limb)
    return {
        "fur": fur, "dark": dark, "belly": belly, "limb": limb, "foot": foot, "pad": own(row.pad, belly),
        "tip": own(row.tip, belly), "mane": own(row.mane, limb), "rim": own(row.rim, ""),
    }  # fmt: skip


def _darker(colour: str) -> str:
    light, chroma, hue = polar(colour)
    return from_polar(0.91 * light, chroma, hue)


def _drawn(parts: tuple[Part, ...], colours: Mapping[str, str], rim: float = 0.0) -> str:
    """The parts as SVG, or with a `rim` what shows of it around them: the same shapes, that much larger."""
    return "".join(_shape(part, colours, rim) for part in parts if not (rim and part.role == "shadow"))


def _shape(part: Part, colours: Mapping[str, str], rim: float) -> str:
    if part.role == "shadow":
        paint = 'fill="#1c1030" fill-opacity="0.14"'
    else:
        colour = colours["rim" if rim else part.role]
        line = part.line + 2 * rim
        paint = f'fill="{"none" if part.line else colour}"'
        if line:
            paint += f' stroke="{colour}" stroke-width="{line:g}" stroke-linecap="round" stroke-linejoin="round"'
    shape = f'<path {paint} d="{part.path}"/>'
    return shape + (f'<g transform="scale(-1 1)">{shape}</g>' if part.twin else "")


_INK = "#212121"
ROWS: Mapping[str, Row] = {
    "fox": Row("sit", "bushy", "#ff822d", "#ffdea7", foot=_INK),
    "fox--noto": Row("sit", "bushy", "#ff6011", "#fee9c9", foot="#4a4a4c"),
    "wolf": Row("sit", "bushy", "#9b9b9b", "#d3d3d3", foot="#d3d3d3"),
    "wolf--noto": Row("sit", "bushy", "#b0b0b0", "#e0e0e0", foot="#e0e0e0"),
    "lion": Row("sit", "tufted", "#ffb02e", "#ffdea7", foot="#f3c07b", mane="#6d4534", size=112),
    "lion--noto": Row("sit", "tufted", "#fec000", "#ffd899", foot="#ffd899", mane="#865c50", size=112),
    "tiger-face": Row("sit", "striped", "#ff822d", "#f3eef8", foot="#f3eef8", mane=_INK, coat="tiger"),
    "tiger-face--noto": Row("sit", "striped", "#ff8e01", "#ffd2b1", foot="#ffd2b1", mane="#2f2f2f", coat="tiger"),
    "dog-face": Row("sit", "wagging", "#f3c07b", "#ffdea7", foot="#ffdea7"),
    "dog-face--noto": Row("sit", "wagging", "#ffeac8", foot="#d27856"),
    "cat-face": Row("sit", "striped", "#ffb02e", mane="#ff822d", coat="tiger"),
    "cat-face--noto": Row("sit", "striped", "#ffc022", mane="#ff9b31", coat="tiger"),
    "bear": Row("plush", "none", "#a56953", "#f3ad61", limb="#8c5543"),
    "bear--noto": Row("plush", "none", "#855b52", "#b99277"),
    "polar-bear": Row("plush", "none", "#f4f4f4", "#ffffff", pad="#9b9b9b", rim="#9b9b9b"),
    "polar-bear--noto": Row("plush", "none", "#ffffff", "#ffffff", pad="#cfd8dc", rim="#91bdce"),
    "panda": Row("plush", "none", "#f4f4f4", "#f4f4f4", limb="#433b6b", pad="#635994", rim="#433b6b", coat="yoke"),
    "panda--noto": Row(
        "plush", "none", "#ffffff", "#ffffff", limb="#4d4d4d", pad="#e0e0e0", rim="#4d4d4d", coat="yoke"
    ),
    "koala": Row("plush", "none", "#9b9b9b", pad="#636363"),
    "koala--noto": Row("plush", "none", "#b0b0b0", "#dfdfdf", pad="#6f7276"),
    "hamster": Row("plush", "none", "#f3ad61", pad="#ff8687"),
    "hamster--noto": Row("plush", "none", "#f2a159", "#ffd2b1", pad="#ffa7aa"),
    "mouse-face": Row("plush", "thin", "#cdc4d6", pad="#ff8687"),
    "mouse-face--noto": Row("plush", "thin", "#b0b0b0", pad="#ffa8a7"),
    "rabbit-face": Row("plush", "cotton", "#cdc4d6", "#f4f4f4", pad="#ff8687"),
    "rabbit-face--noto": Row("plush", "cotton", "#b5c2c8", "#ffffff", pad="#feaca9"),
    "monkey-face": Row("plush", "curled", "#7d4533", "#e39d89"),
    "monkey-face--noto": Row("plush", "curled", "#b6885a", "#ffcd88"),
    "frog": Row("squat", "none", "#00d26a", "#fcd53f"),
    "frog--noto": Row("squat", "none", "#b7d019"),
    "dragon-face": Row("plush", "drake", "#00d26a", "#fcd53f", mane="#f70a8d", pad="#fcd53f"),
    "dragon-face--noto": Row("plush", "drake", "#06aa46", "#bcce45", mane="#73dc86"),
    "cow-face": Row("hoofed", "cow", "#d3d3d3", "#fbb8ab", limb="#636363", foot="#636363", mane="#636363", coat="cow"),
    "cow-face--noto": Row(
        "hoofed", "cow", "#dfdfdf", "#ffd3b0", limb="#bc8954", foot="#2e2f31", mane="#bc8954", coat="cow"
    ),
    "pig-face": Row("hoofed", "piggy", "#ff8687", "#fbb8ab", size=96),
    "pig-face--noto": Row("hoofed", "piggy", "#ffd3b0", foot="#ffa5a8", limb="#ffa5a8", size=96),
    "boar": Row("hoofed", "short", "#865b52", "#b79277", foot="#47302d", mane="#47302d", head=(-40, 146)),
    "horse-face": Row("horse", "flowing", "#a56953", "#a56953", foot="#6d4534", mane="#1c1c1c", tip="#6d4534"),
    "horse-face--noto": Row("horse", "flowing", "#feaf5f", "#feaf5f", foot="#845846", mane="#845846", tip="#cd935f"),
    "unicorn": Row("horse", "flowing", "#efd5ff", "#efd5ff", foot="#8d65c5", mane="#5092ff", tip="#ff6dc6"),
    "unicorn--noto": Row("horse", "flowing", "#dfdfdf", "#dfdfdf", foot="#90909b", mane="#e74b8c", tip="#ef7fad"),
    "moose": Row("horse", "short", "#8c5543", "#a56953", foot="#5c2614", head=(-42, 134), size=104),
    "moose--noto": Row("hoofed", "short", "#875e51", "#a4725e", foot="#4d3129", size=104),
    "chicken": Row("hen", "none", "#e0e0e0", limb="#b1b1b1", foot="#fbbb02", size=88),
    "robot": Row("stand", "none", "#cdc4d6", "#00a6ed", limb="#212121", foot="#cdc4d6", pad="#cdc4d6"),
    "robot--noto": Row("stand", "none", "#90a4ae", "#c62828", limb="#666666", foot="#90a4ae", pad="#90a4ae"),
    "alien": Row("stand", "none", "#86d72f", pad="#86d72f", size=110),
    "alien--noto": Row("stand", "none", "#adbcc3", pad="#adbcc3", size=110),
    "ogre": Row("stand", "none", "#ca0b4a", "#533566", limb="#ca0b4a", foot="#990838", pad="#ca0b4a"),
    "ogre--noto": Row("stand", "none", "#f04e3e", "#374c57", limb="#f04e3e", foot="#a81919", pad="#f04e3e"),
    "goblin": Row("stand", "none", "#f8312f", "#533566", limb="#f8312f", foot="#ca0b4a", pad="#f8312f"),
    "goblin--noto": Row("stand", "none", "#f44336", "#b71c1c", limb="#f44336", foot="#b71c1c", pad="#f44336"),
    "clown-face": Row("stand", "none", "#0074ba", "#f70a8d", foot="#f8312f", pad="#ffffff"),
    "clown-face--noto": Row("stand", "none", "#e30c00", "#ffffff", foot="#422b0d", pad="#ffffff"),
}
