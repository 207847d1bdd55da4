"""Repainting a part of a picture: the scene moved into the part, and the picture as the ground that it stands on.

What the prompt names is planned for the rectangle around the mask and stands in it. Where the prompt names a place too,
the mask shows that place, laid out as for the whole picture: a picture of the painter's own, asked for again with its
place and seed, goes on behind the new subject. Without a place (`plain`, of no colour), what is around the mask flows
in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from limner.engine.core import Float32, UInt8
from limner.painter.draft import Draft
from limner.painter.scene import Scene


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle in a picture, in fractions of its sides."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def around(cls, mask: UInt8) -> Frame:
        """Of all that a mask, (H, W), repaints."""
        (top, bottom), (left, right) = (np.flatnonzero(mask.any(axis))[[0, -1]] + (0, 1) for axis in (1, 0))
        height, width = mask.shape
        return cls(left / width, top / height, (right - left) / width, (bottom - top) / height)

    def moved(self, scene: Scene, *, placed: bool) -> Scene:
        """The scene with what stands in it scaled into the frame; without its place where nobody named that."""
        items = (
            item.model_copy(
                update={
                    "x": self.left + item.x * self.width,
                    "y": self.top + item.y * self.height,
                    "height": item.height * self.height,
                }
            )
            for item in scene.items
        )
        place = {} if placed else {"place": "plain", "backdrop": None}
        return scene.model_copy(update={"items": tuple(items), **place})


def grounded(draft: Draft, scene: Scene, picture: UInt8, mask: UInt8) -> Draft:
    """The scene's draft on the picture, (H, W, 3): inside the mask, (H, W), on its place, or on what flows in."""
    height, width = mask.shape
    placed = scene.place != "plain" or scene.backdrop is not None or bool(mask.min() > 0)  # where nothing could flow in
    ground = draft.backdrop(width, height) if placed else flowing(picture, mask)
    return draft.on(np.where(mask[..., None] > 0, ground, picture), front=placed)


def flowing(picture: UInt8, mask: UInt8) -> UInt8:
    """The picture, (H, W, 3), with the colours around the mask in it: from near and far, the far ones smoother.

    Pull-push interpolation (Gortler et al., "The Lumigraph", 1996), each level half as high and a fourth as wide, since
    skies, horizons and grounds lie along rows.
    """
    known = (mask == 0).astype(np.float32)[..., None]
    return _filled(picture * known, known).clip(0, 255).round().astype(np.uint8)


def _filled(colours: Float32, known: Float32) -> Float32:
    """Colours times how well they are known, (H, W, 3) and (H, W, 1), completed."""
    height, width = known.shape[:2]
    if known.min() == 1 or (height, width) == (1, 1):
        return np.divide(colours, np.maximum(known, 1e-6), dtype=np.float32)
    sums = _sums(np.concatenate((colours, known), axis=2))
    most = np.maximum(sums[..., 3:], 1, dtype=np.float32)
    below = _filled(*np.split(np.divide(sums, most, dtype=np.float32), [3], axis=2))
    far = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), Image.Resampling.BILINEAR))
        for plane in below.transpose(2, 0, 1)
    ]
    whole: Float32 = colours + (1 - known) * np.stack(far, axis=2)
    return whole


def _sums(planes: Float32) -> Float32:
    """Over blocks of 2×4 cells, (H, W, C) to (ceil(H / 2), ceil(W / 4), C)."""
    height, width, channels = planes.shape
    padded = np.pad(planes, ((0, height % 2), (0, -width % 4), (0, 0)))
    sums: Float32 = padded.reshape(-(-height // 2), 2, -(-width // 4), 4, channels).sum((1, 3))
    return sums
