"""What repainting a part of a picture needs on both sides of the denoiser: the mask's grid before, the pixels after.

Between them a family tells the sampler its clean latent of the picture (`core.Held`), which stands in the place of the
prediction outside the mask, at every evaluation (`samplers.holding`). No autoencoder gives back the pixels that it was
given, so those of the picture itself are laid over what was decoded.
"""

from __future__ import annotations

import numpy as np

from limner.engine.core import Float32, Request, UInt8

FEATHER = 6
"""Pixels inside the mask's border over which the new picture comes in."""


def coarse(mask: UInt8, rows: int, columns: int) -> Float32:
    """A mask on a coarser grid, (rows, columns) in [0, 1]: of each cell, what is repainted most of its pixels."""
    height, width = mask.shape
    tall = np.maximum.reduceat(mask, np.arange(rows) * height // rows, axis=0)
    most = np.maximum.reduceat(tall, np.arange(columns) * width // columns, axis=1)
    return np.divide(most, 255, dtype=np.float32)


def feathered(mask: UInt8) -> UInt8:
    """The mask with a ramp inside its borders, (H, W): 0 stays 0, and so does 255 FEATHER pixels away from less."""
    total, inner = np.zeros(mask.shape, np.uint16), mask
    for _ in range(FEATHER):
        total += inner
        inner = _eroded(inner)
    return (total // FEATHER).astype(np.uint8)


def laid(pixels: UInt8, request: Request) -> UInt8:
    """A finished picture, (H, W, 3), over the one that it repaints: where the mask is 0, that one's pixels exactly."""
    if request.mask is None:
        return pixels
    share = feathered(request.mask)[..., None].astype(np.uint16)
    mixed = request.references[0][..., :3] * (255 - share) + pixels * share
    return ((mixed + 127) // 255).astype(np.uint8)


def _eroded(mask: UInt8) -> UInt8:
    """The least of each pixel and its eight neighbours; the picture's edges are no border."""
    for axis in (0, 1):
        along = mask.swapaxes(0, axis)
        least = along.copy()
        np.minimum(least[1:], along[:-1], out=least[1:])
        np.minimum(least[:-1], along[1:], out=least[:-1])
        mask = least.swapaxes(0, axis)
    return mask
