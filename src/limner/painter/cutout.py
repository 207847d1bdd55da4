"""The subject of a reference picture, cut out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from limner.engine.core import UInt8
from limner.errors import ReferenceRefused

SIDE = 640  # longest side of a cut-out, pixels: as large as a subject of a 1024 pixel picture
SEARCH = 192  # longest side at which the ground is looked for
FAINT = 24  # alpha of 0 to 255 up to which a pixel counts as invisible
NEAR = 30.0  # distance of colours (Euclidean, of 0 to 255 in each channel) that still are the ground


@dataclass(frozen=True, slots=True)
class Cutout:
    """A subject in its tight box: (H, W, 4) uint8, straight alpha."""

    pixels: UInt8
    how: Literal["alpha", "ground", "card"]  # by its own alpha; off a plain ground; not at all, on a card


def cut_out(picture: UInt8) -> Cutout:
    """Find the subject of a picture, (H, W, 4) uint8 with straight alpha.

    By its alpha where it has one; else by the plain ground that reaches in from its edges; else the whole picture is
    kept, with round corners and a white rim like a card. The cut-out's longest side is at most SIDE pixels.

    Raises:
        ReferenceRefused: nothing of the picture is visible.
    """
    image = Image.fromarray(picture)
    image.thumbnail((SIDE * 2, SIDE * 2), Image.Resampling.LANCZOS)
    alpha = np.asarray(image.getchannel("A"))
    if not (alpha > FAINT).any():
        raise ReferenceRefused("A reference picture is wholly transparent. Send one that shows the subject.", "blank")
    if (alpha < 128).mean() > 0.02:
        return Cutout(_fitted(image), "alpha")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    subject = _off_ground(image)
    return Cutout(_fitted(subject), "ground") if subject is not None else Cutout(_card(image), "card")


def _off_ground(image: Image.Image) -> Image.Image | None:
    """The subject of an opaque picture without its plain ground, or None where the ground is not plain."""
    small = image.convert("RGB")
    small.thumbnail((SEARCH, SEARCH), Image.Resampling.BOX)
    colours = np.asarray(small, np.float32)
    sides = (colours[0], colours[-1], colours[:, 0], colours[:, -1])
    ground = np.median(np.concatenate(sides), axis=0)
    plain = sorted(float((np.linalg.norm(side - ground, axis=1) < NEAR).mean()) for side in sides)
    # Three sides suffice: portraits are cut by the lower edge.
    if plain[1] < 0.7 or sum(plain) / 4 < 0.75:
        return None
    like = np.linalg.norm(colours - ground, axis=2) < NEAR
    reached = _spread(like)
    if not 0.03 < reached.mean() < 0.97:
        return None
    # At full size the colour decides within a narrow band around the coarse border.
    coarse = Image.fromarray((~reached * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    wide, core = (_extreme(pick, np.asarray(coarse), 9) > 127 for pick in (np.maximum, np.minimum))
    pixels = np.asarray(image.convert("RGB"), np.float32)
    distance = np.linalg.norm(pixels - ground, axis=2)
    inside = core | wide & (distance > 0.6 * NEAR)
    deep = _extreme(np.minimum, inside.astype(np.uint8), 5) > 0
    # A pixel on the rim is as much subject as it is on the way from the ground to the farthest colour beside it.
    farthest = _extreme(np.maximum, (distance / 2).astype(np.uint8), 5).astype(np.float32)
    share = distance / np.maximum(2 * farthest + 1, 2 * NEAR)
    alpha = np.where(deep, 1, inside * np.minimum(share, 1))[..., None]
    # The ground is taken out of the rim's colours, else it would be a halo on another ground.
    colours = np.clip(ground + (pixels - ground) / np.maximum(alpha, 0.1), 0, 255)
    return Image.fromarray(np.concatenate((colours, alpha * 255), axis=2).round().astype(np.uint8))


def _extreme(pick: Callable[[UInt8, UInt8], UInt8], values: UInt8, side: int) -> UInt8:
    """The greatest or least value in the square of `side` pixels around each: `pick` is np.maximum or np.minimum.

    Rows first and columns then, which is the same as squares and a tenth of Pillow's rank filters' time.
    """
    for _ in range(2):
        padded = np.pad(values, ((side // 2, side // 2), (0, 0)), mode="edge")
        values = reduce(pick, (padded[k : k + len(values)] for k in range(side))).T
    return values


def _spread(like: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What of `like` is connected to the picture's edges."""
    padded = np.pad(like, 1, constant_values=True)
    reached = np.zeros_like(padded)
    reached[[0, -1]] = reached[:, [0, -1]] = True
    count = 0
    while count != (count := int(reached.sum())):
        for _ in range(8):
            grown = reached.copy()
            grown[1:] |= reached[:-1]
            grown[:-1] |= reached[1:]
            grown[:, 1:] |= reached[:, :-1]
            grown[:, :-1] |= reached[:, 1:]
            reached = grown & padded
    return reached[1:-1, 1:-1]


def _fitted(image: Image.Image) -> UInt8:
    """Cropped to what is visible, and no larger than SIDE."""
    image = image.crop(image.getchannel("A").point(lambda a: 255 if a > FAINT else 0).getbbox())
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _card(image: Image.Image) -> UInt8:
    """The whole picture, round at its corners, on a white card a little larger."""
    image.thumbnail((SIDE * 12 // 13,) * 2, Image.Resampling.LANCZOS)  # the rest is for the rim
    rim = max(1, min(image.size) // 24)
    radius = min(image.size) // 10
    w, h = image.width + 2 * rim, image.height + 2 * rim
    card = Image.new("RGBA", (w, h), (255, 255, 255, 0))
    ImageDraw.Draw(card).rounded_rectangle((0, 0, w - 1, h - 1), radius + rim, (255, 255, 255, 255))
    inside = Image.new("L", image.size, 0)
    ImageDraw.Draw(inside).rounded_rectangle((0, 0, image.width - 1, image.height - 1), radius, 255)
    card.paste(image, (rim, rim), inside)
    return np.asarray(card)
