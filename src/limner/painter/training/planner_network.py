"""The reader's network in torch: see `limner.painter.planner.reader` for what it is for.

Legend: B batch, N words, D width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.painter.planner.reader import HEAD_DIM, LEXICAL, RELATIONS, ROLES
from limner.painter.training.network import rms, rotate

TEXT_DIM = 384
REACH = 2  # neighbours on each side that a word is mixed with


@dataclass(frozen=True)
class Config:
    """The network's size."""

    depth: int = 3
    width: int = 128
    hidden: int = 256  # of the SwiGLU
    pointer: int = 96  # width of the two sides of a pointer

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Mix(nn.Module):
    """A depthwise convolution over a word and its two neighbours on each side: syntax is mostly local."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2 * REACH + 1, width))
        nn.init.normal_(self.weight, std=0.3)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """x (B, N, D), kept (B, N, 1), 0 where there is no word; returns (B, N, D)."""
        padded = functional.pad(x * kept, (0, 0, REACH, REACH))
        n = x.shape[1]
        return x + sum((padded[:, k : k + n] * weight for k, weight in enumerate(self.weight)), torch.zeros(()))


class Block(nn.Module):
    """Neighbours, attention and SwiGLU, each after a root-mean-square normalisation."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d = config.width
        self.heads = d // HEAD_DIM
        self.mix = Mix(d)
        self.norm1 = nn.Parameter(torch.ones(d))
        self.norm2 = nn.Parameter(torch.ones(d))
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, hidden: Tensor, kept: Tensor) -> Tensor:
        """One block.

        Args:
            x: (B, N, D).
            cos, sin: (N, HEAD_DIM / 2).
            hidden: (B, 1, 1, N), added to the attention.
            kept: (B, N, 1), 0 where there is no word.

        Returns:
            (B, N, D).
        """
        b, n, d = x.shape
        q, k, v = (
            self.qkv(self.mix(rms(x, self.norm1), kept))
            .reshape(b, n, 3, self.heads, HEAD_DIM)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        weights = torch.softmax((q @ k.transpose(-2, -1)) * HEAD_DIM**-0.5 + hidden, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, n, d))
        a, gate = self.up(rms(x, self.norm2)).chunk(2, dim=-1)
        y: Tensor = x + self.down(functional.silu(a) * gate)
        return y


class Network(nn.Module):
    """Token embeddings and what tables know of N words to their roles, relations and pointers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        d, p = config.width, config.pointer
        self.embed = nn.Linear(TEXT_DIM, d)
        self.embed_lexical = nn.Linear(LEXICAL, d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.Parameter(torch.ones(d))
        self.labels = nn.Linear(d, len(ROLES) + len(RELATIONS))
        self.nothing = nn.Parameter(torch.zeros(d))  # what a word without a head points to
        self.pointers = nn.ModuleList(nn.ModuleList((nn.Linear(d, p), nn.Linear(d, p))) for _ in range(2))
        for name, weight in self.named_parameters():
            if weight.ndim == 2 and ".mix." not in name:
                inner = ".out." in name or ".down." in name
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5 * (0.5 if inner else 1))
        nn.init.normal_(self.embed_lexical.weight, std=0.5)  # few of its inputs are ones, and they tell the most

    def forward(
        self, features: Tensor, lexical: Tensor, cos: Tensor, sin: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        """Logits of all N words.

        Args:
            features: mean token embeddings, (B, N, 384), of any scale.
            lexical: (B, N, LEXICAL), zeros and ones.
            cos, sin: rotary tables, (N, HEAD_DIM / 2).
            hidden: (B, N), minus infinity (or much) where there is no word; None where there are words everywhere.

        Returns:
            (B, N, roles + relations + 2 * (N + 1)); of each pointer the first logit is "no word".
        """
        b, n, _ = features.shape
        zero = torch.zeros(b, n, dtype=features.dtype) if hidden is None else hidden
        kept = (zero == 0).to(features.dtype)[..., None]
        x = self.embed(functional.layer_norm(features, (TEXT_DIM,))) + self.embed_lexical(lexical)
        for block in self.blocks:
            x = block(x, cos, sin, zero[:, None, None, :], kept)
        x = rms(x, self.norm)
        ends = torch.cat((self.nothing.expand(b, 1, -1), x), dim=1)
        masked = torch.cat((torch.zeros_like(zero[:, :1]), zero), dim=1)[:, None, :]
        scale = self.config.pointer**-0.5
        # The word that points to nothing stands where no word is: its angles are those of position 0.
        cos_ends, sin_ends = torch.cat((cos[:1], cos)), torch.cat((sin[:1], sin))
        pointers = []
        for pair in self.pointers:
            own, target = pair.children()
            a, b_ = self._turned(own(x), cos, sin), self._turned(target(ends), cos_ends, sin_ends)
            pointers.append(a @ b_.transpose(1, 2) * scale + masked)
        return torch.cat((self.labels(x), *pointers), dim=-1)

    def _turned(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary positions for (B, N, pointer), so that pointers know how far apart two words are."""
        b, n, p = x.shape
        turned = rotate(x.reshape(b, n, p // HEAD_DIM, HEAD_DIM).transpose(1, 2), cos, sin)
        return turned.transpose(1, 2).reshape(b, n, p)
