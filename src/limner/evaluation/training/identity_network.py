"""The identity network: a small convolutional network from a look at a subject to a point on a sphere."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from limner.evaluation.identity import FEATURES

WIDTHS = (32, 48, 96, 128)


class Block(nn.Module):
    """Two convolutions, the first of which may halve the size and change the width, around a short cut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.short = nn.Conv2d(before, after, 1, stride) if before != after or stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.short(x))


class IdentityNetwork(nn.Module):
    """(B, 3, SIDE, SIDE) in [-1, 1] to (B, FEATURES), each of length 1.

    The last map is read in four quarters, so that hair stays apart from clothes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 5, 2, 2)
        blocks = [Block(before, after, 2) for before, after in pairwise(WIDTHS)]
        self.blocks = nn.Sequential(blocks[0], Block(WIDTHS[1], WIDTHS[1], 1), *blocks[1:])
        self.head = nn.Linear(4 * WIDTHS[-1], FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(functional.relu(self.stem(x)))
        quarters = functional.avg_pool2d(y, 2).flatten(1)
        return functional.normalize(self.head(quarters), dim=1)
