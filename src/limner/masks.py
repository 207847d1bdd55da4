"""The part of a picture that is repainted: what a mask says, and how picture and mask come to the size that is painted.

A mask says it by its transparency, as OpenAI's images/edits has it: where its alpha is 0 the picture is repainted,
where it is 255 the picture stays, and between them it is partly held. Its colours say nothing, so a mask without any
transparency is refused rather than read as black and white, which programs mean in both ways.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from limner.engine.core import UInt8
from limner.errors import InvalidRequest

LONG_SIDE = 2048
"""Most pixels along a side of the picture and of its mask, which are read as large as a finished picture can be."""

LEAST_SIDE, STEP = 512, 8
"""Fewest pixels along a side of a finished picture, and what divides its sides."""

CUT = 1 / 50
"""The share of a side that may be cut off to come from one shape to the other: sides rounded to 8 pixels need it."""


def size_like(width: int, height: int) -> tuple[int, int] | None:
    """The size to ask for to repaint a picture of this size: it, or the nearest with its shape that can be painted.

    None where it is too long: no such size has its shape.
    """
    longest, shortest = max(width, height), min(width, height)
    scale = min(LONG_SIDE / longest, max(1.0, LEAST_SIDE / shortest))
    if shortest * scale < LEAST_SIDE * (1 - CUT / 2):
        return None
    sides = (max(LEAST_SIDE, round(side * scale / STEP) * STEP) for side in (width, height))
    return next(sides), next(sides)


def fitted(picture: UInt8, mask: UInt8, width: int, height: int) -> tuple[UInt8, UInt8]:
    """Picture and mask, each (H, W, 4) with straight alpha, at the size that is painted.

    Returns:
        The picture, (height, width, 4), laid on white; and how much of it is repainted, (height, width), 0 to 255.

    Raises:
        InvalidRequest: they are not of one size, not of the finished picture's shape, or nothing is transparent.
    """
    rows, columns = picture.shape[:2]
    if mask.shape[:2] != (rows, columns):
        raise InvalidRequest(
            f"The mask is {mask.shape[1]}×{mask.shape[0]} pixels and the picture {columns}×{rows}; they must be of one "
            "size. Make the mask of the picture itself.",
            "mask",
        )
    seen_width, seen_height = min(columns, rows * width / height), min(rows, columns * height / width)
    if seen_width < columns * (1 - CUT) or seen_height < rows * (1 - CUT):
        like = size_like(columns, rows)
        asked = "Cut the picture" if like is None else f"Ask for {like[0]}×{like[1]}, or cut the picture"
        raise InvalidRequest(
            f"The picture to repaint is {columns}×{rows} pixels, and {width}×{height} were asked for; they must be of "
            f"one shape. {asked} and its mask.",
            "mask",
        )
    left, top = (columns - seen_width) / 2, (rows - seen_height) / 2
    box = (left, top, left + seen_width, top + seen_height)
    whole = Image.alpha_composite(Image.new("RGBA", (columns, rows), "white"), Image.fromarray(picture))
    hidden = Image.fromarray(255 - mask[..., 3])
    if (columns, rows) != (width, height):
        whole = whole.resize((width, height), Image.Resampling.LANCZOS, box)
        hidden = hidden.resize((width, height), Image.Resampling.BILINEAR, box)
    if hidden.getextrema() == (0, 0):
        raise InvalidRequest(
            "The mask has no transparent pixel, so nothing would be repainted. Send a PNG or WebP that is transparent "
            "where the picture is to be repainted and opaque where it is to stay; its colours say nothing.",
            "mask",
        )
    return np.asarray(whole), np.asarray(hidden)
