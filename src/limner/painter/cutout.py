"""The subject of a reference picture, cut out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from limner.engine.core import UInt8

SIDE = 640  # longest side of a cut-out, pixels: as large as a subject of a 1024 pixel picture
SEARCH = 192  # longest side at which the ground is looked for
NEAR = 30.0  # distance of colours (Euclidean, of 0 to 255 in each channel) that still are the ground


@dataclass(frozen=True, slots=True)
class Cutout:
    """A subject in its tight box: (H, W, 4) uint8, straight alpha."""

    pixels: UInt8
    how: Literal["alpha", "ground", "card"]  # by its own alpha; off a plain ground; not at all, on a card


def cut_out(picture: UInt8) -> Cutout:
    """Find the subject of a picture, (H, W, 4) uint8 with straight alpha.

    By its alpha where it has one; else by the plain ground that reaches in from its edges; else the whole picture is
    kept, with round corners and a white rim like a card.
    """
    image = Image.fromarray(picture)
    image.thumbnail((SIDE * 2, SIDE * 2), Image.Resampling.LANCZOS)
    alpha = np.asarray(image.getchannel("A"))
    if (alpha < 128).mean() > 0.02 and (alpha > 128).any():
        return Cutout(_fitted(image), "alpha")
    image.putalpha(255)
    ground = _ground(image)
    if ground is not None:
        image.putalpha(ground)
        return Cutout(_fitted(image), "ground")
    return Cutout(_card(image), "card")


def _ground(image: Image.Image) -> Image.Image | None:
    """The subject's alpha on a plain ground, or None where the ground is not plain."""
    small = image.convert("RGB")
    small.thumbnail((SEARCH, SEARCH), Image.Resampling.BOX)
    colours = np.asarray(small, np.float32)
    rim = np.concatenate((colours[0], colours[-1], colours[:, 0], colours[:, -1]))
    ground = np.median(rim, axis=0)
    # Three sides suffice: portraits are cut by the lower edge.
    sides = [np.linalg.norm(side - ground, axis=1) < NEAR for side in (colours[0], colours[-1], colours[:, 0], colours[:, -1])]
    if sorted(side.mean() for side in sides)[1] < 0.7 or np.mean([side.mean() for side in sides]) < 0.75:
        return None
    like = np.linalg.norm(colours - ground, axis=2) < NEAR
    reached = _spread(like)
    if not 0.03 < reached.mean() < 0.97:
        return None
    # At full size the colour decides within a narrow band around the coarse border.
    coarse = Image.fromarray((~reached * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    wide = np.asarray(coarse.filter(ImageFilter.MaxFilter(9)), np.float32) / 255
    core = np.asarray(coarse.filter(ImageFilter.MinFilter(9)), np.float32) / 255
    distance = np.linalg.norm(np.asarray(image.convert("RGB"), np.float32) - ground, axis=2)
    own = np.clip((distance - 0.4 * NEAR) / (0.8 * NEAR), 0, 1)
    alpha = np.clip(np.maximum(core, np.minimum(wide, own)), 0, 1)
    return Image.fromarray((alpha * 255).astype(np.uint8))


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
    box = image.getchannel("A").point(lambda a: 255 if a > 24 else 0).getbbox()
    image = image.crop(box)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _card(image: Image.Image) -> UInt8:
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    w, h = image.size
    rim, radius = max(3, min(w, h) // 24), max(6, min(w, h) // 10)
    card = Image.new("RGBA", (w, h), (255, 255, 255, 0))
    ImageDraw.Draw(card).rounded_rectangle((0, 0, w - 1, h - 1), radius, (255, 255, 255, 255))
    inside = Image.new("L", (w, h), 0)
    ImageDraw.Draw(inside).rounded_rectangle((rim, rim, w - 1 - rim, h - 1 - rim), radius - rim // 2, 255)
    card.paste(image, (0, 0), inside)
    return np.asarray(card)
