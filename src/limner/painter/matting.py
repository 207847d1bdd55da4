"""Finding the subject of an opaque picture: two small networks, and the refinement of what they find to crisp edges.

One finds people in photographs: MediaPipe's selfie segmentation, converted by `training/matting_people.py`. The other
is the same layers after they learned on drawings of people and things before all kinds of grounds
(`training/matting_train.py`).
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from limner.engine.core import Float32, UInt8
from limner.painter.folder import read_folder
from limner.runtime.openvino import Network

KIND, FORMAT = "limner-matting", 1
THINGS, PEOPLE = "things.onnx", "people.onnx"
WEIGHTS = Path(__file__).parent / "weights" / "matting"

SIDE = 192  # of a square that has as many pixels as the first network looks at
MULTIPLE = 32  # that its sides are divisible by
PEOPLE_SIDE = 256  # of the square that the second network looks at
GUIDED = 256  # longest side at which the guided filter's lines are fitted


class Matting:
    """Both networks. Not to be called from two threads at once."""

    def __init__(self, folder: Path = WEIGHTS, threads: int = 0) -> None:
        """Check both networks' files; they are compiled, for so many CPU threads (0: all cores), when first needed.

        Raises:
            ModelUnusable: a file is missing, corrupt or of another format.
        """
        expected = {"kind": KIND, "format": FORMAT}
        self.meta, _ = read_folder(
            folder, "The matting", expected, (THINGS, PEOPLE), "limner.painter.training.matting_export"
        )
        self._folder = folder
        self._threads = threads

    # In float32: bfloat16 would save a few milliseconds a call, and makes rims ragged.
    @cached_property
    def _things(self) -> Network:
        return Network(self._folder / THINGS, threads=self._threads)

    @cached_property
    def _people(self) -> Network:
        return Network(self._folder / PEOPLE, threads=self._threads)

    def things(self, picture: Image.Image) -> Float32:
        """The alpha of the subject of a picture, drawn or not: (h, w) in [0, 1], of about SIDE² pixels."""
        width, height = _looked_at(picture.width / picture.height)
        return np.asarray(self._things({"picture": _pixels(picture, width, height)})[0, 0], np.float32)

    def people(self, picture: Image.Image) -> Float32:
        """How surely each pixel shows a person of a photograph: (PEOPLE_SIDE, PEOPLE_SIDE) in [0, 1]."""
        return np.asarray(self._people({"picture": _pixels(picture, PEOPLE_SIDE, PEOPLE_SIDE)})[0, 0], np.float32)


def _looked_at(aspect: float) -> tuple[int, int]:
    """Width and height that the first network sees a picture at, near in aspect from 1:3 to 3:1."""
    aspect = min(max(aspect, 1 / 3), 3.0)
    width, height = (max(1, round(SIDE * math.sqrt(a) / MULTIPLE)) * MULTIPLE for a in (aspect, 1 / aspect))
    return width, height


def _pixels(picture: Image.Image, width: int, height: int) -> Float32:
    small = picture.resize((width, height), Image.Resampling.BOX if picture.width > width else Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(small, np.float32).transpose(2, 0, 1)[None] / 255)


def refine(alpha: Float32, picture: Image.Image) -> Float32:
    """Bring a coarse alpha of any size to a picture's own pixels, its edges on the picture's edges.

    The guided filter (He, Sun and Tang, 2013; fast variant, 2015): around each pixel alpha is a linear function of the
    colour, fitted at a low resolution and applied at the full one. What is not quite 0 or 1 then is pushed apart, so
    that a rim is as wide as an edge of the picture and not as the window.

    Returns:
        (H, W) in [0, 1].
    """
    scale = min(1.0, GUIDED / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    guide = np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32) / np.float32(255)
    coarse = np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BILINEAR), np.float32)
    lines = _lines(guide, coarse, radius=max(1, max(size) // 24), noise=1e-4)
    grown = [Image.fromarray(np.ascontiguousarray(line)) for line in lines]
    slopes = [np.asarray(line.resize(picture.size, Image.Resampling.BILINEAR)) for line in grown]
    colours = np.asarray(picture, np.float32) / np.float32(255)
    fine = slopes[3] + sum(slopes[k] * colours[..., k] for k in range(3))
    return np.asarray(np.clip((fine - 0.5) * 1.6 + 0.5, 0, 1), np.float32)


def _lines(guide: Float32, alpha: Float32, radius: int, noise: float) -> Float32:
    """The guided filter's mean coefficients: (4, H, W), a slope for each of three colours and an offset.

    Args:
        guide: (H, W, 3) in [0, 1].
        alpha: (H, W).
        radius: of the square window, pixels.
        noise: what variance of colour is not an edge, added to the covariance's diagonal.
    """
    r, g, b = (guide[..., k] for k in range(3))
    stack = np.stack((r, g, b, alpha, r * alpha, g * alpha, b * alpha, r * r, r * g, r * b, g * g, g * b, b * b))
    mr, mg, mb, ma, ra, ga, ba, rr, rg, rb, gg, gb, bb = box(stack, radius)
    rr, gg, bb = rr - mr * mr + noise, gg - mg * mg + noise, bb - mb * mb + noise
    rg, rb, gb = rg - mr * mg, rb - mr * mb, gb - mg * mb
    ra, ga, ba = ra - mr * ma, ga - mg * ma, ba - mb * ma
    # The symmetric 3×3 system by its cofactors.
    c0, c1, c2 = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c3, c4, c5 = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    scale = 1 / (rr * c0 + rg * c1 + rb * c2)
    x = (c0 * ra + c1 * ga + c2 * ba) * scale
    y = (c1 * ra + c3 * ga + c4 * ba) * scale
    z = (c2 * ra + c4 * ga + c5 * ba) * scale
    return box(np.stack((x, y, z, ma - x * mr - y * mg - z * mb)), radius)


def box(values: Float32, radius: int) -> Float32:
    """The mean over the square of radius `radius` around each place, as much of it as there is: (..., H, W)."""
    for axis in (-2, -1):
        count = values.shape[axis]
        total = np.cumsum(values, axis=axis, dtype=np.float64)
        total = np.concatenate((np.zeros_like(np.take(total, [0], axis)), total), axis=axis)
        low = np.maximum(np.arange(count) - radius, 0)
        high = np.minimum(np.arange(count) + radius + 1, count)
        shape = (-1, 1) if axis == -2 else (-1,)
        values = ((np.take(total, high, axis) - np.take(total, low, axis)) / (high - low).reshape(shape)).astype(
            np.float32
        )
    return values


def unmix(picture: UInt8, alpha: Float32) -> UInt8:
    """The subject's own colours at its rim, without the ground's share in them: (H, W, 3) uint8.

    Estimated from blurred subject and ground (Forte, "Approximate fast foreground colour estimation", 2021).
    """
    height, width = alpha.shape
    scale = min(1.0, GUIDED / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX), np.float32).transpose(2, 0, 1)
    share = np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BOX), np.float32)
    radius = max(1, max(size) // 40)
    inner = box(small * share, radius) / (box(share, radius) + 1e-4)
    outer = box(small * (1 - share), radius) / (box(1 - share, radius) + 1e-4)
    inner, outer = (
        np.asarray(
            Image.fromarray(np.clip(part.transpose(1, 2, 0) + 0.5, 0, 255).astype(np.uint8)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
        )
        for part in (inner, outer)
    )
    share = alpha[..., None]
    clean = inner + share * (picture - share * inner - (1 - share) * outer)
    rim = np.where(share < 0.99, clean, picture)
    return np.clip(rim + 0.5, 0, 255).astype(np.uint8)
