"""From the native picture to the exact pixels, under the draft's guidance.

A small network redraws the picture at the size of the draft (`FullSize`): ink, rims and shadows as crisp as vector
graphics, with the texture of the style's paper or pen, which is drawn here and not learned. It works on cells of 2×2
pixels, tile by tile, so that memory is bounded; tiles overlap by more than what a pixel depends on, so there are no
seams. Styles of square blocks have no need of it (`blocks`), and what it does no better than arithmetic is left to the
guided filter (`widen`).

The network is a folder of fullsize.onnx and meta.json, written by `training/fullsize_train.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limner.engine.core import Float32, UInt8
from limner.painter.denoiser import STYLES
from limner.painter.folder import read_folder
from limner.painter.scene import Style
from limner.runtime.openvino import Network

KIND, FORMAT = "limner-fullsize", 1
FILE = "fullsize.onnx"
WEIGHTS = Path(__file__).parent / "weights" / "fullsize"

CELL = 2  # pixels on a side of one
DRAFT = 3 * CELL**2  # channels of a cell: rows, columns, colours
SEEN = DRAFT + CELL**2 + 6  # of what the network sees of a cell: draft, texture, the draft as small as the
# native picture, and the native picture: what they differ by is the picture's tone, in the place of the draft's
CONDITION = len(STYLES) + 2  # style, strength, scale
MULTIPLE = 8  # pixels; the network's sizes are multiples of it
TILE = 1024  # pixels on a side of what is painted at once
OVERLAP = 80  # pixels that a tile sees of its neighbours, more than any pixel depends on

RADIUS = 2  # of the guided filter's windows, native pixels
DOUBT = 130.0  # variance of the draft, intensities of 0 to 255, at which fit and expectation weigh the same
BLOCKS: dict[Style, int] = {"pixel": 2}
"""Styles that are painted in square blocks, and the side of one, native pixels."""
PALETTE = 40  # colours of a picture of blocks
FILTERED: tuple[Style, ...] = ("flat",)
"""Styles that are the draft in another light, for which the guided filter is the better."""


class FullSize:
    """The network, compiled. Not to be called from two threads at once."""

    def __init__(self, network: Network, meta: Mapping[str, Any]) -> None:
        self.meta = meta
        self._network = network

    @classmethod
    def load(cls, folder: Path = WEIGHTS, threads: int = 0) -> FullSize:
        """Read and compile it for so many CPU threads, 0 for all cores.

        Raises:
            ModelUnusable: a file is missing, corrupt or of another format.
        """
        expected = {"kind": KIND, "format": FORMAT, "styles": list(STYLES)}
        meta, _ = read_folder(
            folder, "The full-size network", expected, (FILE,), "limner.painter.training.fullsize_train"
        )
        return cls(Network(folder / FILE, precision="bf16", threads=threads), meta)

    def __call__(
        self, native: Float32, guide: UInt8, style: Float32, strength: float, paper: UInt8, tile: int = TILE
    ) -> UInt8:
        """The picture at the guide's size: (H, W, 3) uint8.

        Args:
            native: the picture, (3, h, w) in [-1, 1]; h and w at most H and W.
            guide: the draft drawn at full size, (H, W, 3) uint8.
            style: as the denoiser takes it, (1, len(STYLES)).
            strength: in [0, 1], how far the native picture may have left the draft.
            paper: the style's `texture`, (H, W) uint8.
            tile: pixels on a side of what is painted at once, a multiple of MULTIPLE; the picture depends on it by a
                grey level at most.
        """
        height, width = guide.shape[:2]
        cells = seen(native, guide, paper)
        given = condition(style, strength, width, height)
        full = np.empty((*cells.shape[:2], DRAFT), np.uint8)
        side, margin = tile // CELL, OVERLAP // CELL
        for top in range(0, full.shape[0], side):
            for left in range(0, full.shape[1], side):
                y, x = max(0, top - margin), max(0, left - margin)
                view = np.ascontiguousarray(cells[y : top + side + margin, x : left + side + margin])
                drawn = self._network({"seen": view[None], "condition": given})[0]
                full[top : top + side, left : left + side] = drawn[top - y :, left - x :][:side, :side]
        return pixels(full)[:height, :width]


def seen(native: Float32, guide: UInt8, paper: UInt8) -> UInt8:
    """What the network sees of each cell, (ceil(H / 8) * 4, ceil(W / 8) * 4, SEEN) uint8; the last pixels are repeated.

    Args:
        native: the picture, (3, h, w) in [-1, 1].
        guide: the draft, (H, W, 3) uint8.
        paper: the style's texture, (H, W) uint8.
    """
    height, width = guide.shape[:2]
    picture = Image.fromarray(np.ascontiguousarray(_bytes(_intensities(native)).transpose(1, 2, 0)))
    draft = Image.fromarray(guide).resize(picture.size, Image.Resampling.BOX)
    half = (-(-width // CELL), -(-height // CELL))
    smooth = [np.asarray(image.resize(half, Image.Resampling.BICUBIC)) for image in (draft, picture)]
    fill = [(0, -side % MULTIPLE) for side in (height, width)]
    if any(more for _, more in fill):
        guide, paper = np.pad(guide, (*fill, (0, 0)), mode="edge"), np.pad(paper, fill, mode="edge")
        cells = [(0, more // CELL) for _, more in fill]
        smooth = [np.pad(plane, (*cells, (0, 0)), mode="edge") for plane in smooth]
    return np.concatenate((_cells(guide), _cells(paper[..., None]), *smooth), axis=2)


def pixels(cells: UInt8) -> UInt8:
    """Cells of a picture, (h, w, DRAFT), as the picture, (h * CELL, w * CELL, 3)."""
    h, w, _ = cells.shape
    return cells.reshape(h, w, CELL, CELL * 3).swapaxes(1, 2).reshape(h * CELL, w * CELL, 3)


def condition(style: Float32, strength: float, width: int, height: int) -> Float32:
    """What the network is told: the style, (1, len(STYLES)), strength and scale, as (1, CONDITION)."""
    scale = math.log2(unit(width, height) / 4)
    return np.concatenate((style, np.array([[strength, scale]], np.float32)), axis=1)


def unit(width: int, height: int) -> float:
    """Pixels of a picture of this size to one of its native picture, which is about 256 pixels a side."""
    return math.sqrt(width * height) / 256


def texture(style: str, width: int, height: int, seed: int) -> UInt8:
    """What paper and pen of a style add everywhere, before any picture: (height, width) uint8, 128 on average or so.

    Comic has a screen of dots, the medieval page one of hatching, watercolour has the tooth of its paper with a bare
    margin (0), and the others have fine grain. Screens scale with the picture, grain does not.

    Args:
        seed: in [0, 2^128); of what is drawn by chance.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    u = unit(width, height)
    y, x = np.arange(height, dtype=np.float32)[:, None] / np.float32(u), np.arange(width, dtype=np.float32) / u
    if style == "comic":
        pitch = np.float32(np.pi / 2)
        return _bytes(127.5 - 127.5 * np.cos(pitch * y) * np.cos(pitch * x))
    if style == "medieval":
        a, b = np.float32(1.3) * y, np.float32(1.0) * x
        return _bytes(127.5 + 127.5 * (np.sin(a) * np.cos(b) + np.cos(a) * np.sin(b)))
    if style != "watercolor":
        return np.frombuffer(rng.bytes(width * height), np.uint8).reshape(height, width)
    half = np.frombuffer(rng.bytes((width // 2) * (height // 2)), np.uint8).reshape(height // 2, width // 2)
    tooth = np.asarray(Image.fromarray(half).resize((width, height), Image.Resampling.BILINEAR))
    waves = rng.standard_normal((int(height / u / 12) + 2, int(width / u / 12) + 2), np.float32)
    edge = _resized(waves, (width, height)) * np.float32(0.8) + np.float32(6)
    within = np.minimum(np.minimum(x, x[::-1]), np.minimum(y, y[::-1])) - edge
    return _bytes((tooth * np.float32(0.875) + 32) * np.clip(within * np.float32(max(1.0, u / 2)) + 0.5, 0, 1))


def widen(native: Float32, guide: UInt8, trust: float = 1.0) -> UInt8:
    """The picture at the guide's size by arithmetic alone: (H, W, 3) uint8, the same bits every time.

    Around every pixel the native picture is nearly a linear function of the draft at the same size. The slope of that
    function is fitted in small windows and widened (He and Sun, "Fast Guided Filter", 2015), and

        full = widened(native - slope * draft) + widened(slope) * full draft

    so edges that are the draft's are crisp, and what the draft lacks is there as plain interpolation has it.

    Args:
        native: the picture, (3, h, w) in [-1, 1]; h and w at most H and W.
        guide: the draft drawn at full size, (H, W, 3) uint8.
        trust: in [0, 1]: the slope to expect where the draft is too flat for a fit. 1 keeps the draft's faint
            detail, for a picture that was painted over it; 0 drops it, for one that was painted without.
    """
    drawn = Image.fromarray(guide)
    small = np.asarray(drawn.resize(native.shape[:0:-1], Image.Resampling.BOX))
    draft = np.ascontiguousarray(small.transpose(2, 0, 1), np.float32)
    picture = _intensities(native)
    slope = _slope(draft, picture, trust)
    rest = picture - slope * draft
    plane = np.empty(guide.shape[:2], np.float32)
    full = np.empty_like(guide)
    for channel in range(3):
        np.multiply(_resized(slope[channel], drawn.size), np.asarray(drawn.getchannel(channel)), out=plane)
        plane += _resized(rest[channel], drawn.size)
        full[..., channel] = _bytes(plane)
    return full


def blocks(native: Float32, width: int, height: int, side: int) -> UInt8:
    """The picture made of flat blocks of few colours, each of `side` by `side` native pixels: (height, width, 3) uint8.

    Args:
        native: the picture, (3, h, w) in [-1, 1], h and w multiples of `side`.
    """
    _, h, w = native.shape
    means = _intensities(native).reshape(3, h // side, side, w // side, side).mean(axis=(2, 4))
    image = Image.fromarray(np.ascontiguousarray(_bytes(means).transpose(1, 2, 0)))
    image = image.quantize(PALETTE, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE).convert("RGB")
    return np.asarray(image.resize((width, height), Image.Resampling.NEAREST))


def _cells(picture: UInt8) -> UInt8:
    """(H, W, C) with even sides as (H / CELL, W / CELL, CELL * CELL * C), rows first."""
    h, w, c = picture.shape
    return picture.reshape(h // CELL, CELL, w // CELL, CELL * c).swapaxes(1, 2).reshape(h // CELL, w // CELL, -1)


def _slope(draft: Float32, picture: Float32, trust: float) -> Float32:
    """How much the picture changes where the draft changes by one, per channel and pixel; all (3, h, w)."""
    mean_draft, mean_picture = _mean(draft), _mean(picture)
    covariance = _mean(draft * picture) - mean_draft * mean_picture
    variance = _mean(draft * draft) - mean_draft * mean_draft
    fitted = (covariance + np.float32(trust * DOUBT)) / (variance + np.float32(DOUBT))
    return _mean(fitted.astype(np.float32))


def _mean(planes: Float32) -> Float32:
    """The mean over windows of 2 * RADIUS + 1 pixels a side, (C, h, w); borders are repeated."""
    for axis in (1, 2):
        length = planes.shape[axis]
        padded = np.pad(planes, [(RADIUS, RADIUS) if a == axis else (0, 0) for a in range(3)], mode="edge")
        shifts = (padded.take(range(k, k + length), axis) for k in range(2 * RADIUS + 1))
        planes = sum(shifts, start=np.zeros_like(planes)) / np.float32(2 * RADIUS + 1)
    return planes


def _intensities(native: Float32) -> Float32:
    """From [-1, 1] to [0, 255]."""
    return (np.clip(native, -1, 1) + 1) * np.float32(127.5)


def _resized(plane: Float32, size: tuple[int, int]) -> Float32:
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC))


def _bytes(intensities: Float32) -> UInt8:
    """Rounded and clipped to [0, 255]; the argument is overwritten."""
    intensities += np.float32(0.5)
    return np.clip(intensities, 0, 255, out=intensities).astype(np.uint8)
