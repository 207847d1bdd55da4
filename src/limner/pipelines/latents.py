"""What the families with a latent share: sizes, rows of a batch, and the way from and to pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from limner.engine.core import Float32, UInt8

Choice = TypeVar("Choice")

Conditioning = Mapping[str, Tensor]
"""What a denoiser is told beside latent and time, by the names of its arguments, without a batch axis."""


def chosen(asked: Choice | None, model: Choice | None, family: Choice) -> Choice:
    """What the request asks for, else what the model's entry says, else the family's own."""
    return asked if asked is not None else model if model is not None else family


def padded(width: int, height: int, multiple: int) -> tuple[int, int]:
    """The least (width, height) of at least these sides, pixels, that the family can paint."""
    return -(-width // multiple) * multiple, -(-height // multiple) * multiple


def stacked(rows: Sequence[Conditioning]) -> dict[str, Tensor]:
    """The conditioning of a batch, each tensor with a batch axis of B in front, from those of B rows."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def to_pixels(decoded: Tensor, width: int, height: int) -> UInt8:
    """A picture of (3, H, W) in [-1, 1], its middle of (height, width, 3) kept."""
    _, h, w = decoded.shape
    top, left = (h - height) // 2, (w - width) // 2
    kept = decoded[:, top : top + height, left : left + width].permute(1, 2, 0)
    pixels: UInt8 = ((kept.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return pixels


def on_white(reference: UInt8) -> UInt8:
    """A reference of (H, W, 4) with straight alpha, laid on white: (H, W, 3)."""
    alpha = reference[..., 3:].astype(np.float32) / 255
    laid: Any = reference[..., :3] * alpha + 255 * (1 - alpha)
    pixels: UInt8 = laid.round().astype(np.uint8)
    return pixels


def to_tensor(x: Float32, device: torch.device) -> Tensor:
    """The engine's array as a float32 tensor on `device`."""
    return torch.from_numpy(x).to(device)


def to_array(prediction: Tensor) -> Float32:
    """A prediction as the engine wants it: float32, on the CPU."""
    array: Float32 = prediction.float().cpu().numpy()
    return array
