"""What the families with a latent share: sizes, rows of a batch, and the way from and to pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from limner.engine.core import PREVIEW_SIDE, Float32, Held, Request, UInt8
from limner.errors import InvalidRequest
from limner.pipelines.base import pooled
from limner.pipelines.repaint import coarse

Choice = TypeVar("Choice")

Conditioning = Mapping[str, Tensor]
"""What a denoiser is told beside latent and time, by the names of its arguments, without a batch axis."""


def chosen(asked: Choice | None, model: Choice | None, family: Choice) -> Choice:
    """What the request asks for, else what the model's entry says, else the family's own."""
    return asked if asked is not None else model if model is not None else family


def check(request: Request, family: str, *, references: bool) -> None:
    """Refuse what no family with a latent does, and references where this model has no method for them.

    Raises:
        InvalidRequest: the request has a strength, a style, a scene, or such references beside what it repaints.
    """
    for name in ("strength", "style", "scene"):
        if getattr(request, name) is not None:
            raise InvalidRequest(f"{family} has no {name}; the built-in painter has. Leave it out, or ask that model.")
    if further(request) and not references:
        raise no_references(family)


def further(request: Request) -> tuple[UInt8, ...]:
    """The references beside the picture that is repainted, where one is."""
    return request.references if request.mask is None else request.references[1:]


def unguided(request: Request, guidance: float) -> tuple[str, ...]:
    """A note where the request has a negative prompt and no guidance by two evaluations to lead away from it."""
    if guidance != 1 or not request.negative_prompt:
        return ()
    return ("The negative prompt has no effect without guidance. Ask for a guidance above 1.",)


def padded(width: int, height: int, multiple: int) -> tuple[int, int]:
    """The least (width, height) of at least these sides, pixels, that the family can paint."""
    return -(-width // multiple) * multiple, -(-height // multiple) * multiple


def stacked(rows: Sequence[Conditioning]) -> dict[str, Tensor]:
    """The conditioning of a batch, each tensor with a batch axis of B in front, from those of B rows."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def packed(latent: Tensor) -> Tensor:
    """An autoencoder's latent of (C, H, W) as tokens of 2×2 cells on their grid, (H/2, W/2, 4C)."""
    channels, height, width = latent.shape
    return latent.reshape(channels, height // 2, 2, width // 2, 2).permute(1, 3, 0, 2, 4).flatten(2)


def unpacked(tokens: Tensor) -> Tensor:
    """What `packed` was given, from what it gave."""
    rows, columns, channels = tokens.shape
    cells = tokens.reshape(rows, columns, channels // 4, 2, 2).permute(2, 0, 3, 1, 4)
    return cells.reshape(channels // 4, 2 * rows, 2 * columns)


def held(
    request: Request,
    width: int,
    height: int,
    encoded: Callable[[Tensor], Tensor],
    arranged: Callable[[Tensor], Tensor] = lambda latent: latent,
) -> Held | None:
    """What a request with a mask holds of the picture that it repaints; None without a mask.

    Args:
        width, height: what is painted, `padded`; the picture stands in its middle, its last pixels repeated around it.
        encoded: from pixels in [-1, 1], (3, height, width), to their clean latent, (C, h, w).
        arranged: from that to the latent as the engine has it: `packed`, say.
    """
    if request.mask is None:
        return None
    top, left = (height - request.height) // 2, (width - request.width) // 2
    around = (top, height - request.height - top), (left, width - request.width - left)
    picture = np.pad(request.references[0][..., :3], (*around, (0, 0)), "edge").astype(np.float32) / 127.5 - 1
    clean = encoded(torch.from_numpy(picture).permute(2, 0, 1))
    share = 1 - coarse(np.pad(request.mask, around, "edge"), *clean.shape[1:])
    return Held(to_array(arranged(clean)), to_array(arranged(torch.from_numpy(share).expand(clean.shape))))


def to_pixels(decoded: Tensor, width: int, height: int) -> UInt8:
    """A picture of (3, H, W) in [-1, 1], its middle of (height, width, 3) kept."""
    _, h, w = decoded.shape
    top, left = (h - height) // 2, (w - width) // 2
    kept = decoded[:, top : top + height, left : left + width].permute(1, 2, 0)
    pixels: UInt8 = ((kept.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return pixels


def preview(decoded: Callable[[Float32], Tensor], x: Float32, request: Request, cell: int) -> UInt8:
    """A small picture of an autoencoder's clean latent, (C, h, w): its cells averaged, then decoded as any other.

    What is decoded has at most PREVIEW_SIDE pixels a side; `cell` is how many there are along a side of a cell.
    """
    small = pooled(x, PREVIEW_SIDE // cell)
    shrunk = x.shape[-1] // small.shape[-1]
    _, height, width = (picture := decoded(small)).shape
    return to_pixels(picture, min(width, request.width // shrunk), min(height, request.height // shrunk))


def no_references(family: str) -> InvalidRequest:
    """The refusal of references by a family that has no way to take them."""
    return InvalidRequest(
        f"{family} takes no references. Send the prompt alone, or ask a model that takes them: FLUX.1 Kontext, FLUX.2, "
        "Qwen-Image-Edit, or Stable Diffusion and SDXL with an IP-Adapter."
    )


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
