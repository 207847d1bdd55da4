"""The size of the pictures that a request in OpenAI's shape asks for: as WxH, as H3's ratio and area, or auto."""

from __future__ import annotations

import math
import re
from typing import Final

from limner import masks
from limner.api import contract
from limner.api.contract import SIDE_MAX, SIDE_MIN, SIDE_STEP, shown
from limner.api.openai_errors import Refused
from limner.errors import InvalidRequest

AREAS: Final = {"1K": 2**20, "2K": 2**22}
"""Pixels of H3's areas that fit sides of SIDE_MAX."""


def size_of(size: str, aspect_ratio: str | None, area: str | None, *, extra: bool) -> tuple[int, int]:
    """(width, height) in pixels that these fields ask for. `extra`: other ratios than MiniMax's are taken.

    Raises:
        Refused: they contradict each other, or it cannot be painted.
    """
    if size != "auto":
        if aspect_ratio is not None or area is not None:
            raise Refused("Give size, or aspect_ratio and area, not both.", "size")
        return _sides(size)
    if area == "4K":
        raise Refused(f"Field area must be 1K or 2K: sides are at most {SIDE_MAX} pixels here.", "area")
    ratio = aspect_ratio if aspect_ratio not in (None, "auto") else "1:1"
    try:
        width, height = contract.size_of(ratio, extra=extra)
    except InvalidRequest as error:
        raise Refused(error.message, "aspect_ratio") from None
    if area != "2K":
        return width, height
    scale = math.sqrt(AREAS["2K"] / AREAS["1K"])
    width, height = (round(side * scale / SIDE_STEP) * SIDE_STEP for side in (width, height))
    if max(width, height) > SIDE_MAX:
        raise Refused(
            f"Field area must be 1K for aspect_ratio {ratio}: 2K would be {width}x{height}, and sides are at most "
            f"{SIDE_MAX} pixels here.",
            "area",
        )
    return width, height


def _sides(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5})[xX×]([0-9]{1,5})", size.strip())
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if any(not SIDE_MIN <= side <= SIDE_MAX or side % SIDE_STEP for side in sides):
        raise Refused(
            f"Field size must be auto or WxH with sides of {SIDE_MIN} to {SIDE_MAX} pixels, multiples of {SIDE_STEP}, "
            f"such as 1024x1024 or 1536x1024; got {shown(size)}.",
            "size",
        )
    return sides


def like_repainted(width: int, height: int) -> tuple[int, int]:
    """The size to repaint a part of a picture of this size in: what is kept of it loses as little as can be.

    Raises:
        Refused: it is longer than 4:1.
    """
    return masks.size_like(width, height) or like(width, height)


def like(width: int, height: int) -> tuple[int, int]:
    """The size to paint an edit of a picture of this size in: its own, or else about a megapixel of its ratio.

    Raises:
        Refused: it is longer than 4:1.
    """
    if all(SIDE_MIN <= side <= SIDE_MAX and side % SIDE_STEP == 0 for side in (width, height)):
        return width, height
    if max(width, height) > 4 * min(width, height):
        raise Refused(f"The first image is {width}x{height}, longer than 4:1; give the size to paint it in.", "size")
    ratio = width / height
    ideal = (math.sqrt(AREAS["1K"] * ratio), math.sqrt(AREAS["1K"] / ratio))
    first, second = (max(SIDE_MIN, round(side / SIDE_STEP) * SIDE_STEP) for side in ideal)
    return first, second
