"""The full-size network in torch: a small U-Net that redraws a picture at the draft's size.

It works on cells of 2×2 pixels and coarser. Where the native picture agrees with the draft, the draft and the smooth
difference in tone between both are nearly the answer; the network predicts what is to be added. Style, strength and
scale reach it as modulation (FiLM: Perez et al., 2018).

Legend: B batch, h×w cells, multiples of 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.painter.fullsize import CELL, CONDITION, DRAFT, SEEN

WIDTHS = (24, 32, 48)  # channels at cells, and at a half and a quarter of their number a side
LEAK = 0.1
DILATIONS = (1, 2, 1)  # of the convolutions at the coarsest


class Stage(nn.Module):
    """A convolution, the style's modulation and a rectifier, a leaky one: plain ones died in some hundred steps."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 3, stride, 1)
        self.film = nn.Linear(CONDITION, 2 * outer)
        nn.init.zeros_(self.film.bias)
        nn.init.normal_(self.film.weight, std=0.1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, inner, ...) and (B, CONDITION) to (B, outer, ...)."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        return functional.leaky_relu(self.conv(x) * (1 + scale) + shift, LEAK)


class Network(nn.Module):
    """What is seen of each cell, and the condition, to the cells of the picture at full size."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = WIDTHS
        self.first = nn.Conv2d(SEEN, a, 3, 1, 1)
        self.down = Stage(a, b, 2)
        self.middle = Stage(b, b)
        self.sink = Stage(b, c, 2)
        self.deep = nn.ModuleList(nn.Conv2d(c, c, 3, 1, d, d) for d in DILATIONS)
        self.rise = nn.Conv2d(c, b, 1)
        self.middle_out = Stage(b, b)
        self.lift = nn.Conv2d(b, a, 1)
        self.fine = Stage(a, a)
        self.last = nn.Conv2d(a, DRAFT, 3, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=1.0)
        with torch.no_grad():
            for module in (*self.deep, self.rise, self.lift):  # what is added to a way that is shorter
                for parameter in module.parameters():
                    parameter.mul_(0.3)
            for parameter in self.last.parameters():  # it begins as the draft in the picture's tone
                parameter.zero_()

    def forward(self, seen: Tensor, condition: Tensor) -> Tensor:
        """Repaint.

        Args:
            seen: (B, h, w, SEEN) in [0, 255], of `fullsize.seen`.
            condition: (B, CONDITION), of `fullsize.condition`.

        Returns:
            (B, h, w, DRAFT), about in [0, 255]: the cells of the picture.
        """
        # The draft in the picture's tone, which is the picture already but for the strokes of its style.
        toned = seen[..., :DRAFT] + (seen[..., SEEN - 3 :] - seen[..., SEEN - 6 : SEEN - 3]).repeat(1, 1, 1, CELL**2)
        x = functional.leaky_relu(self.first(seen.permute(0, 3, 1, 2) / 127.5 - 1), LEAK)
        middle = self.middle(self.down(x, condition), condition)
        y = self.sink(middle, condition)
        for conv in self.deep:
            y = y + functional.leaky_relu(conv(y), LEAK)
        y = functional.interpolate(self.rise(y), scale_factor=2.0, mode="nearest")
        y = self.middle_out(y + middle, condition)
        y = functional.interpolate(self.lift(y), scale_factor=2.0, mode="nearest")
        y = self.last(self.fine(y + x, condition))
        full: Tensor = toned + y.permute(0, 2, 3, 1) * 127.5
        return full
