"""The detector's network in torch: fixed gradient features of cells, and learned convolutions over a window of them.

The features are histograms of oriented gradients (Dalal and Triggs, 2005) of lightness and of colour, with the cells'
mean colours: what they see is an outline, whatever paint is inside, so that little is left to learn and two busy cores
learn it in minutes. A window is 8×8 cells of 8 pixels; slid over a picture of several sizes it finds things of any.

Legend: B batch, H×W pixels (multiples of CELL), h×w cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.evaluation.detector import CELL, CHANNELS, WINDOW

ORIENTATIONS = 9
FEATURES = 2 * ORIENTATIONS + 3
"""Oriented gradients of lightness and of colour, and three means."""
WIDTHS = (48, 96, 208)


class Features(nn.Module):
    """(B, 3, H, W) pixels in [0, 255] to (B, FEATURES, H / CELL, W / CELL). Nothing in it is learned."""

    opponent: Tensor  # (3, 3, 1, 1): lightness, red against green, yellow against blue
    ways: Tensor  # (3 * ORIENTATIONS, 1, 3, 3): the slope of each plane along each direction

    def __init__(self) -> None:
        super().__init__()
        angles = torch.arange(ORIENTATIONS) * math.pi / ORIENTATIONS
        opponent = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]]) / 128
        self.register_buffer("opponent", opponent[:, :, None, None], persistent=False)
        ways = torch.zeros(ORIENTATIONS, 1, 3, 3)
        ways[:, 0, 1, 2], ways[:, 0, 1, 0] = angles.cos(), -angles.cos()
        ways[:, 0, 2, 1], ways[:, 0, 0, 1] = angles.sin(), -angles.sin()
        self.register_buffer("ways", ways.repeat(3, 1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        planes = functional.conv2d(pixels - 128, self.opponent)
        slopes = functional.conv2d(functional.pad(planes, (1, 1, 1, 1), mode="replicate"), self.ways, groups=3)
        light, first, second = slopes.square().chunk(3, dim=1)
        parts = []
        for energy in (light, first + second):
            whole = energy.sum(1, keepdim=True) * (2 / ORIENTATIONS) + 1e-5  # the squared slope
            sharp = (energy / whole) ** 3 * whole.sqrt()
            cells = functional.avg_pool2d(sharp, CELL)
            around = functional.avg_pool2d(cells.sum(1, keepdim=True), 3, 1, 1, count_include_pad=False)
            parts.append(cells / (around + 0.03))
        return torch.cat((*parts, functional.avg_pool2d(planes, CELL)), dim=1)


class Head(nn.Module):
    """(B, FEATURES, h, w) to (B, CHANNELS, h - 7, w - 7): what is in each window; see `detector.read`."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = WIDTHS
        last = WINDOW // CELL - 4
        self.layers = nn.Sequential(
            nn.BatchNorm2d(FEATURES),
            nn.Conv2d(FEATURES, a, 3, bias=False), nn.BatchNorm2d(a), nn.ReLU(inplace=True),
            nn.Conv2d(a, b, 3, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True),
            nn.Conv2d(b, c, last, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True),
            nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.out = nn.Conv2d(c, CHANNELS, 1)

    def forward(self, features: Tensor) -> Tensor:
        y: Tensor = self.out(self.layers(features))
        return y


class Network(nn.Module):
    """(B, 3, H, W) pixels in [0, 255] to (B, CHANNELS, H / CELL - 7, W / CELL - 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = Features(), Head()

    def forward(self, pixels: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(pixels))
        return y
