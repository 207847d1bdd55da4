"""Many pictures in one: plain tiles, and the contact sheet of `limner compare`, with a label to each row and column."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import skia
from PIL import ImageFont

from limner.engine.core import UInt8

PAPER: Final = skia.Color(250, 249, 246)
INK: Final = skia.Color(38, 36, 34)
MISSING: Final = skia.Color(226, 223, 216)

TILES_ACROSS: Final = 3
MOST_LINES: Final = 8
"""Most lines of a label; what is longer ends in an ellipsis."""


def tiled(pictures: Sequence[UInt8]) -> UInt8:
    """Pictures of one size, (H, W, 3) each, side by side in rows of TILES_ACROSS, with nothing between them."""
    height, width, _ = pictures[0].shape
    across = min(len(pictures), TILES_ACROSS)
    whole = np.zeros((math.ceil(len(pictures) / across) * height, across * width, 3), np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // across * height, number % across * width
        whole[top : top + height, left : left + width] = picture
    return whole


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand on a sheet, pixels."""

    size: tuple[int, int]  # of the whole, width and height
    wide: int  # of a picture on it
    high: int
    font: float
    gap: int
    aside: int  # width of the rows' labels
    top: int  # of the first row
    heads: Sequence[Sequence[str]]  # the columns' labels in lines

    def place(self, row: int, column: int) -> tuple[int, int]:
        """The upper left corner of a picture."""
        left = self.aside + 2 * self.gap + column * (self.wide + self.gap)
        return left, self.top + row * (self.high + self.gap)


def layout(width: int, height: int, rows: int, columns: Sequence[str], side: int) -> Layout:
    """The layout of a sheet of pictures of `width` by `height`, as `labelled` draws it."""
    scale = min(1.0, side / max(height, width))
    wide, high = (max(1, round(length * scale)) for length in (width, height))
    font = max(12.0, min(wide, high) / 20)
    gap, aside = round(font * 0.8), round(max(8 * font, 0.45 * wide))
    heads = [_lines(text, font, wide) for text in columns]
    top = round(max(map(len, heads), default=0) * font * 1.3) + 2 * gap
    size = (aside + len(columns) * (wide + gap) + 2 * gap, top + rows * (high + gap))
    return Layout(size, wide, high, font, gap, aside, top, heads)


def labelled(cells: Sequence[Sequence[UInt8 | None]], rows: Sequence[str], columns: Sequence[str], side: int) -> UInt8:
    """A sheet of `cells[row][column]`, pictures of one size, (H, W, 3); None leaves a place that says so.

    `side` is the longer side of a picture on the sheet, pixels; none is enlarged. Letters that the built-in font lacks
    are taken from the system's fonts where it has them.
    """
    height, width, _ = next((cell for row in cells for cell in row if cell is not None), np.empty((1, 1, 3))).shape
    page = layout(width, height, len(rows), columns, side)
    gap, font = page.gap, page.font
    surface = skia.Surface(*page.size)
    with surface as canvas:
        canvas.clear(PAPER)
        for column, lines in enumerate(page.heads):
            _write(canvas, lines, page.place(0, column)[0], gap, font)
        for row, (text, pictures) in enumerate(zip(rows, cells, strict=True)):
            _write(canvas, _lines(text, font, page.aside), gap, page.place(row, 0)[1], font)
            for column, picture in enumerate(pictures):
                place = skia.Rect.MakeXYWH(*page.place(row, column), page.wide, page.high)
                if picture is None:
                    canvas.drawRect(place, skia.Paint(Color=MISSING))
                    _write(canvas, ["not painted"], place.left() + gap, place.top() + gap, font)
                else:
                    canvas.drawImageRect(_image(picture), place, SMOOTH)
    return np.ascontiguousarray(surface.toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3])


SMOOTH: Final = skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kLinear)


def _image(pixels: UInt8) -> skia.Image:
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return skia.Image.fromarray(opaque, skia.kRGBA_8888_ColorType)


@functools.cache
def _typeface(letter: str) -> skia.Typeface:
    """The font of a letter: Pillow's built-in one, which marks are drawn in, too, else one of the system's."""
    if letter == "":
        face = ImageFont.load_default(16)
        return skia.Typeface.MakeFromData(skia.Data.MakeWithCopy(getattr(face, "font_bytes", b"")))
    built_in = _typeface("")
    if built_in.unicharToGlyph(ord(letter)):
        return built_in
    return skia.FontMgr().matchFamilyStyleCharacter("", skia.FontStyle(), [], ord(letter)) or built_in


def _font(letter: str, size: float) -> skia.Font:
    font = skia.Font(_typeface(letter), size)
    font.setSubpixel(True)  # else letters stand at whole pixels, unevenly
    return font


def _lines(text: str, size: float, width: float) -> list[str]:
    """`text` in lines of at most `width` pixels, broken at spaces where there are any."""
    lines = [""]
    room = width
    for letter in " ".join(text.split()):
        advance = _font(letter, size).measureText(letter)
        if advance > room:
            kept, space, rest = lines[-1].rpartition(" ")
            lines[-1:] = [kept, rest] if space and letter != " " else [lines[-1], ""]
            room = width - sum(_font(each, size).measureText(each) for each in lines[-1])
        if lines[-1] or letter != " ":
            lines[-1] += letter
            room -= advance
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], lines[MOST_LINES - 1][:-1] + "…"]


def _write(canvas: skia.Canvas, lines: Sequence[str], x: float, y: float, size: float) -> None:
    """Lines of text, the first one's top at `y`."""
    paint = skia.Paint(Color=INK, AntiAlias=True)
    for number, line in enumerate(lines):
        left = x
        for letter in line:
            font = _font(letter, size)
            canvas.drawString(letter, left, y + (1.3 * number + 1) * size, font, paint)
            left += font.measureText(letter)
