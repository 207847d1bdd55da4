"""Looks at sprites for the identity network: as a reference, and as something that was painted into a scene.

The second is all that may happen to a subject on the way: light, tint, blur, ink, paper, blocks, another ground,
something in front. None of it is the painter's own code, so that the network is no judge of what that does best.

Tensors are float32, colours in [0, 1], (B, C, SIDE, SIDE).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from limner.evaluation.identity import GROUNDS, SIDE


def reference_look(sprites: Tensor, rng: torch.Generator) -> Tensor:
    """As `Identity.gallery` shows it on a ground, a little moved. `sprites` are (B, 4, h, w), premultiplied."""
    moved = _moved(sprites, rng, scale=(0.95, 1.05), shift=0.03, turn=0.0)
    grounds = torch.tensor(GROUNDS)[torch.randint(len(GROUNDS), (len(sprites),), generator=rng)] / 255
    return moved[:, :3] + (1 - moved[:, 3:]) * grounds[:, :, None, None]


def painted_look(sprites: Tensor, scenery: Tensor, rng: torch.Generator) -> Tensor:
    """As it may look in a picture. `scenery` is (B, 3, h', w') with h', w' of at least SIDE."""
    count = len(sprites)
    moved = _moved(sprites, rng, scale=(0.7, 1.15), shift=0.08, turn=0.08)
    light = _uniform(rng, (count, 1, 1, 1), 0.6, 1.15) * _uniform(rng, (count, 3, 1, 1), 0.85, 1.1)
    x = (moved[:, :3] * light).clamp(max=1) + (1 - moved[:, 3:]) * _cropped(scenery, rng)
    x = _covered(x, scenery, rng)
    x = torch.where(_some(rng, count, 0.25), _inked(x, rng), x)
    x = torch.where(_some(rng, count, 0.5), _blurred(x, float(_uniform(rng, (1,), 0.4, 1.3))), x)
    x = torch.where(_some(rng, count, 0.2), _blocks(x, int(torch.randint(16, 40, (1,), generator=rng))), x)
    x = torch.where(_some(rng, count, 0.15), (x * 6).round() / 6, x)
    x = _tinted(x, rng)
    grain = torch.randn(count, 1, SIDE, SIDE, generator=rng) * _uniform(rng, (count, 1, 1, 1), 0, 0.05)
    paper = functional.interpolate(torch.randn(count, 1, 9, 9, generator=rng), SIDE, mode="bicubic")
    return (x + grain + 0.06 * paper * _some(rng, count, 0.3)).clamp(0, 1)


def _uniform(rng: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)


def _some(rng: torch.Generator, count: int, share: float) -> Tensor:
    """Which rows something happens to: (count, 1, 1, 1) bool."""
    return torch.rand(count, 1, 1, 1, generator=rng) < share


def _moved(sprites: Tensor, rng: torch.Generator, scale: tuple[float, float], shift: float, turn: float) -> Tensor:
    """Mirrored, turned, scaled and moved: (B, 4, SIDE, SIDE)."""
    count = len(sprites)
    size = _uniform(rng, (count,), *scale)
    wide = size * _uniform(rng, (count,), 0.95, 1.05)
    mirror = 1 - 2 * (torch.rand(count, generator=rng) < 0.5).float()
    angle = _uniform(rng, (count,), -turn, turn)
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = (_uniform(rng, (count,), -2 * shift, 2 * shift) for _ in range(2))
    rows = torch.stack((mirror * cos / wide, -sin / wide, x)), torch.stack((mirror * sin / size, cos / size, y))
    grid = functional.affine_grid(torch.stack(rows).permute(2, 0, 1), [count, 4, SIDE, SIDE], align_corners=False)
    return functional.grid_sample(sprites, grid, align_corners=False)


def _cropped(scenery: Tensor, rng: torch.Generator) -> Tensor:
    """A piece of each background, a third of them mirrored."""
    high, wide = scenery.shape[2] - SIDE + 1, scenery.shape[3] - SIDE + 1
    top, left = (int(torch.randint(n, (1,), generator=rng)) for n in (high, wide))
    piece = scenery[:, :, top : top + SIDE, left : left + SIDE]
    return torch.where(_some(rng, len(piece), 0.33), piece.flip(3), piece)


def _covered(x: Tensor, scenery: Tensor, rng: torch.Generator) -> Tensor:
    """A third of them with something of the scenery in front, at an edge."""
    count = len(x)
    y0, x0 = (_uniform(rng, (count, 1, 1, 1), 0.6, 1.0) for _ in range(2))
    ramp = torch.linspace(0, 1, SIDE)
    below, beside = ramp.view(1, 1, -1, 1) > y0, ramp.view(1, 1, 1, -1) > x0
    beside = torch.where(_some(rng, count, 0.5), beside, beside.flip(3))
    hidden = torch.where(_some(rng, count, 0.5), below.expand(-1, -1, SIDE, SIDE), beside.expand(-1, -1, SIDE, SIDE))
    return torch.where(hidden & _some(rng, count, 0.33), _cropped(scenery.roll(1, 0), rng), x)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    reach = math.ceil(2.5 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).view(1, 1, 1, -1).expand(3, 1, 1, -1)
    for kernel, pad in ((weights, (reach, reach, 0, 0)), (weights.transpose(2, 3), (0, 0, reach, reach))):
        x = functional.conv2d(functional.pad(x, pad, mode="replicate"), kernel, groups=3)
    return x


def _inked(x: Tensor, rng: torch.Generator) -> Tensor:
    """With dark lines where its lightness changes."""
    light = x.mean(1, keepdim=True)
    across = functional.pad((light[..., 2:] - light[..., :-2]).abs(), (1, 1))
    down = functional.pad((light[..., 2:, :] - light[..., :-2, :]).abs(), (0, 0, 1, 1))
    return x * (1 - ((across + down) * _uniform(rng, (len(x), 1, 1, 1), 0.5, 3.0)).clamp(0, 0.9))


def _blocks(x: Tensor, side: int) -> Tensor:
    """In side × side blocks of one colour."""
    return functional.interpolate(functional.interpolate(x, side, mode="area"), SIDE, mode="nearest")


def _tinted(x: Tensor, rng: torch.Generator) -> Tensor:
    """With other saturation, contrast, lightness and tone, as styles and printing have."""
    count = len(x)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * _uniform(rng, (count, 1, 1, 1), 0.45, 1.5)
    x = 0.5 + (x - 0.5) * _uniform(rng, (count, 1, 1, 1), 0.6, 1.25)
    mixing = torch.eye(3) + 0.07 * torch.randn(count, 3, 3, generator=rng)
    x = torch.einsum("bij,bjhw->bihw", mixing, x) + 0.06 * torch.randn(count, 3, 1, 1, generator=rng)
    return x.clamp(1e-3, 1) ** _uniform(rng, (count, 1, 1, 1), 0.7, 1.4)
