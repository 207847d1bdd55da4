"""What the denoiser takes and gives, shared by its training and its use: sizes, token grids, rotary tables, hiding.

Its files are a folder of denoiser.onnx and meta.json, written by `training/export.py` and read by `read_weights`.
Nothing here imports torch; the network itself is `training/network.py`, and runs from its ONNX file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np

from limner.engine.core import Float32, UInt8
from limner.painter.folder import read_folder
from limner.painter.scene import Style

Array: TypeAlias = Any  # a numpy array or a torch tensor; results are of the kind that came in

KIND, FORMAT = "limner-denoiser", 1
FILE = "denoiser.onnx"

PATCH = 16  # pixels on a side of one image token
TOKENS = 256  # image tokens of a picture, about: 256×256 pixels where it is square
HEAD_DIM = 32
TEXT_DIM = 384  # features of one text token
TEXT_TOKENS = 24
REFERENCE_SIDE = 6  # tokens on a side of one reference, 96×96 pixels
REFERENCE_TOKENS = REFERENCE_SIDE**2
STYLES: tuple[Style, ...] = get_args(Style)  # in this order; the first is the default


def grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of image tokens for a picture of this size: at most TOKENS, near in aspect ratio.

    The aspect is within 9% of the picture's from 1:4 to 4:1.

    >>> grid(1024, 1024), grid(1280, 720)
    ((16, 16), (12, 21))
    """
    aspect = width / height
    candidates = [(rows, TOKENS // rows) for rows in range(6, 43)] + [(TOKENS // cols, cols) for cols in range(6, 43)]
    # A little fewer tokens is no loss, a wrong aspect stretches the strokes.
    return min(candidates, key=lambda g: abs(math.log(g[1] / g[0] / aspect)) + 0.2 * (1 - g[0] * g[1] / TOKENS))


def rotary(rows: int, cols: int, references: int) -> tuple[Float32, Float32]:
    """Rotary tables for a picture's tokens, its text tokens and `references` references, in that order.

    Picture tokens count from the centre, so that a wider grid only adds cells at its sides. Text stands at the centre.
    Each reference has a grid of its own, far to the right (the position offset of FLUX Kontext and OminiControl).

    Returns:
        cos and sin, each (rows * cols + TEXT_TOKENS + references * REFERENCE_TOKENS, HEAD_DIM / 2) float32.
    """
    places = [_cells(rows, cols, 0.0), np.zeros((TEXT_TOKENS, 2), np.float32)]
    places += [_cells(REFERENCE_SIDE, REFERENCE_SIDE, 64.0 * (k + 1)) for k in range(references)]
    quarter = HEAD_DIM // 4
    frequencies = (100.0 ** -(np.arange(quarter) / quarter)).astype(np.float32)
    angles = (np.concatenate(places)[:, :, None] * frequencies).reshape(-1, 2 * quarter)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _cells(rows: int, cols: int, shift: float) -> Float32:
    """Row and column of each cell, counted from the centre, the columns moved right: (rows * cols, 2)."""
    y, x = np.meshgrid(np.arange(rows) - (rows - 1) / 2, np.arange(cols) - (cols - 1) / 2 + shift, indexing="ij")
    return np.stack((y.ravel(), x.ravel()), axis=1).astype(np.float32)


def hide(draft: UInt8, strength: float, rng: np.random.Generator) -> Float32:
    """Hide a draft to the degree of `strength`: what is left of it is what the picture must keep to.

    Args:
        draft: (H, W, 3) uint8, H and W multiples of PATCH.
        strength: in [0, 1]; 0 hides nothing, 1 everything. Between them the draft is blurred, by up to 8 pixels, and
            the share strength² of its patches is dropped.
        rng: decides which patches.

    Returns:
        (4, H, W): colours in [-1, 1] and visibility in {0, 1}; hidden pixels are 0 in all channels.
    """
    h, w = draft.shape[:2]
    colours = (draft.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    if strength > 0:
        ys, xs = np.arange(h, dtype=np.float32), np.arange(w, dtype=np.float32)
        colours = blurred(colours, np.array([max(strength, 1e-3)], np.float32), ys, xs)
    seen = np.concatenate((colours, np.ones((1, 1, h, w), np.float32)), axis=1)
    left = kept(np.array([strength]), h // PATCH, w // PATCH, rng).astype(np.float32)
    return np.asarray(covered(seen, left)[0], np.float32)


def kept(strength: Array, rows: int, cols: int, rng: np.random.Generator) -> Array:
    """Which patches of drafts stay visible at each strength, (B,) to (B, rows, cols) bool."""
    return rng.random((len(strength), rows, cols)) >= strength[:, None, None] ** 2  # never at 1: numbers are below it


def blurred(colours: Array, strength: Array, ys: Array, xs: Array) -> Array:
    """The drafts' Gaussian blur of 8 * strength pixels, by operators alone, so of numpy and of torch alike.

    Args:
        colours: (B, C, H, W).
        strength: (B,) above 0.
        ys, xs: 0 to H - 1 and 0 to W - 1, floats.

    Returns:
        (B, C, H, W). At the edges the weights of the pixels that are there are scaled to sum to 1.
    """
    down, across = (_gaussian(at, 8 * strength) for at in (ys, xs))
    return down[:, None] @ colours @ across[:, None].swapaxes(-1, -2)


def _gaussian(at: Array, deviation: Array) -> Array:
    """Weights of pixel j in blurred pixel i, (B, n, n), for pixels at `at` (n,) and deviations (B,)."""
    far = (at[:, None] - at) / deviation[:, None, None]
    near = math.e ** (far * far / -2)
    return near / near.sum(-1)[..., None]


def covered(seen: Array, left: Array) -> Array:
    """(B, C, H, W) with 0 in all channels of the patches where `left`, (B, rows, cols), is 0 and not 1."""
    b, c, h, w = seen.shape
    rows, cols = left.shape[1:]
    patches = seen.reshape(b, c, rows, PATCH, cols, PATCH) * left[:, None, :, None, :, None]
    return patches.reshape(b, c, h, w)


def reference_patches(sprite: UInt8) -> Float32:
    """A reference's tokens: (96, 96, 4) uint8, premultiplied, to (REFERENCE_TOKENS, 4 * PATCH * PATCH) in [0, 1]."""
    side = REFERENCE_SIDE
    x = np.asarray(sprite.transpose(2, 0, 1) / np.float32(255), np.float32)
    return x.reshape(4, side, PATCH, side, PATCH).transpose(1, 3, 0, 2, 4).reshape(REFERENCE_TOKENS, -1)


def one_hot(style: Style, weight: float = 1.0) -> Float32:
    """The style as the denoiser takes it, (1, len(STYLES)); what `weight` leaves of 1 goes to the default style."""
    eye = np.eye(len(STYLES), dtype=np.float32)
    return np.asarray(eye[[STYLES.index(style)]] * weight + eye[[0]] * (1 - weight), np.float32)


def read_weights(folder: Path) -> tuple[dict[str, Any], Path]:
    """What meta.json says of a denoiser, and the path of its network, checked against it.

    Raises:
        ModelUnusable: with a sentence that says which file is at fault.
    """
    expected = {"kind": KIND, "format": FORMAT, "patch": PATCH, "styles": list(STYLES)}
    meta, _ = read_folder(folder, "The denoiser", expected, (FILE,), "limner.painter.training.export")
    return meta, folder / FILE
