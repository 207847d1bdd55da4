"""The denoiser's network in torch: an in-context diffusion transformer on raw patches.

It predicts the clean picture from a noisy one ("Back to Basics: Let Denoising Generative Models Denoise", Li and He,
2025), given the draft as extra input channels, the prompt's token features and the reference's patches as tokens of the
same sequence (as in FLUX Kontext and OminiControl), and t, strength and style as modulation. There is no autoencoder.

Legend: B batch, H×W pixels (multiples of 16), N image tokens, M text tokens, R reference tokens, D width, t in [0, 1]
with 1 clean. Pixels are in [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.painter.denoiser import HEAD_DIM, PATCH, REFERENCE_TOKENS, TEXT_DIM, TEXT_TOKENS


@dataclass(frozen=True)
class Config:
    """One dial, `depth`; the rest follows from it."""

    depth: int = 8
    styles: int = 9
    patch: int = PATCH

    @property
    def width(self) -> int:
        return 32 * self.depth

    @property
    def heads(self) -> int:
        return self.width // HEAD_DIM

    @property
    def hidden(self) -> int:
        """Width of the SwiGLU: 8/3 of the width, rounded up to a multiple of 32."""
        return math.ceil(self.width * 8 / 3 / 32) * 32

    def operations(self, tokens: int, references: int = 0) -> float:
        """Floating-point operations of one evaluation on one picture of so many image tokens, counted from the shapes.

        A multiplication and an addition are two. Training takes three times as many: backward is twice forward.
        """
        d, p = self.width, self.patch
        text, extra = TEXT_TOKENS, references * REFERENCE_TOKENS
        n = tokens + text + extra
        embed = tokens * 128 * (7 * p * p + d) + text * TEXT_DIM * d + extra * 128 * (4 * p * p + d)
        blocks = self.depth * n * (4 * d * d + 3 * d * self.hidden + 2 * n * d)
        head = tokens * (p // 2) ** 2 * (12 * d + 9 * (40 * 32 + 32 * 32 + 32 * 12))
        return 2.0 * (embed + blocks + head)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def patchify(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) to (B, H/patch * W/patch, C * patch * patch), rows first."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // patch) * (w // patch), c * patch * patch)


def rms(x: Tensor, scale: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last axis (Zhang and Sennrich, 2019)."""
    return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6).to(x.dtype) * scale


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021): (B, heads, N, HEAD_DIM) turned by angles given as (N, HEAD_DIM / 2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention, (B, heads, N, HEAD_DIM) each, written out.

    On the CPU the backward of scaled_dot_product_attention takes a quarter of the whole step.
    """
    weights = torch.softmax((q @ k.transpose(-2, -1)) * HEAD_DIM**-0.5, dim=-1)
    return weights.to(v.dtype) @ v


def waves(v: Tensor, width: int) -> Tensor:
    """Sinusoidal features of a scalar in [0, 1]: (B,) to (B, width)."""
    freqs = torch.exp(torch.linspace(0.0, math.log(1000.0), width // 2, device=v.device))
    angles = v.float()[:, None] * freqs
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class Block(nn.Module):
    """Attention and SwiGLU, both modulated by the shared vector plus this block's own offset."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d = config.width
        self.heads = config.heads
        self.norm1 = nn.Parameter(torch.ones(d))
        self.norm2 = nn.Parameter(torch.ones(d))
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.norm_q = nn.Parameter(torch.ones(HEAD_DIM))
        self.norm_k = nn.Parameter(torch.ones(HEAD_DIM))
        self.out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, d, bias=False)
        self.offset = nn.Parameter(torch.zeros(6, d))

    def forward(self, x: Tensor, modulation: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (B, N, D), modulation (B, 6, D), cos and sin (N, HEAD_DIM / 2); returns (B, N, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.offset).to(x.dtype).unsqueeze(2).unbind(1)
        x = x + gate1 * self.attend(rms(x, self.norm1) * (1 + scale1) + shift1, cos, sin)
        a, b = self.up(rms(x, self.norm2) * (1 + scale2) + shift2).chunk(2, dim=-1)
        y: Tensor = self.down(functional.silu(a) * b)
        return x + gate2 * y

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attention of all tokens to all, with normalised queries and keys; shapes as in `forward`."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, HEAD_DIM).permute(2, 0, 3, 1, 4).unbind(0)
        q = rotate(rms(q, self.norm_q), cos, sin).to(v.dtype)
        k = rotate(rms(k, self.norm_k), cos, sin).to(v.dtype)
        attended = functional.scaled_dot_product_attention if x.is_cuda else attention
        y: Tensor = self.out(attended(q, k, v).transpose(1, 2).reshape(b, n, d))
        return y


class Network(nn.Module):
    """The denoiser: a noisy picture and everything known about it to the clean picture."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        d, p = config.width, config.patch
        # A narrow first layer: pictures lie near a low-dimensional manifold, and noise does not (JiT).
        self.embed = nn.Sequential(nn.Linear(7 * p * p, 128, bias=False), nn.Linear(128, d))
        self.embed_text = nn.Linear(TEXT_DIM, d)
        self.embed_reference = nn.Sequential(nn.Linear(4 * p * p, 128, bias=False), nn.Linear(128, d))
        self.kinds = nn.Parameter(torch.zeros(3, d))  # picture, text, reference
        self.scalars = nn.Sequential(nn.Linear(128, d), nn.SiLU(), nn.Linear(d, d))
        self.style = nn.Linear(config.styles, d, bias=False)
        self.modulation = nn.Linear(d, 6 * d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.Parameter(torch.ones(d))
        self.unembed = nn.Linear(d, 12 * (p // 2) ** 2)
        self.head = nn.ModuleList(
            (nn.Conv2d(40, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 12, 3, padding=1))
        )
        # Ink, grain and blocks are matters of pixels, so the style steers the head itself (FiLM, Perez et al. 2018).
        self.film = nn.Linear(d, 4 * 32)
        self.initialise()

    def initialise(self) -> None:
        """Branches and head end in zeros, so that the untrained network returns what is visible of the draft."""
        for name, weight in self.named_parameters():
            if name.startswith(("modulation.", "head.2.", "film.")) or name.endswith((".out.weight", ".down.weight")):
                nn.init.zeros_(weight)
            elif name.endswith(".offset"):
                weight.data[[2, 5]] = 1.0  # the gates: blocks open as soon as their last matrices leave zero
            elif weight.ndim == 2 and name != "kinds":
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        draft: Tensor,
        text: Tensor,
        reference: Tensor,
        strength: Tensor,
        style: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> Tensor:
        """Predict the clean picture.

        Args:
            x: noisy picture, (B, 3, H, W).
            t: (B,), 1 is clean.
            draft: colours in [-1, 1] and visibility in {0, 1}, (B, 4, H, W); hidden pixels are 0.
            text: token features of the prompt, (B, M, 384), zeros where there is no token.
            reference: patches of the reference subjects, premultiplied colours and alpha, (B, R, 4 * patch * patch).
            strength: (B,) in [0, 1].
            style: one-hot, (B, styles); all zeros means any style.
            cos, sin: rotary tables of all N + M + R tokens, (N + M + R, HEAD_DIM / 2), or (B, 1, N + M + R,
                HEAD_DIM / 2) where each picture has its own.

        Returns:
            (B, 3, H, W).
        """
        h, w = x.shape[2] // self.config.patch, x.shape[3] // self.config.patch
        seen = torch.cat((x, draft), dim=1)
        tokens = torch.cat(
            (
                self.embed(patchify(seen, self.config.patch)) + self.kinds[0],
                self.embed_text(text) + self.kinds[1],
                self.embed_reference(reference) + self.kinds[2],
            ),
            dim=1,
        )
        c = self.scalars(torch.cat((waves(t, 64), waves(strength, 64)), dim=-1)) + self.style(style)
        modulation = self.modulation(functional.silu(c)).reshape(-1, 6, self.config.width)
        for block in self.blocks:
            tokens = block(tokens, modulation, cos, sin)
        return self.paint(tokens[:, : h * w], seen, c, h, w)

    def paint(self, tokens: Tensor, seen: Tensor, c: Tensor, h: int, w: int) -> Tensor:
        """The picture from its tokens, (B, h * w, D), what the network saw, (B, 7, H, W), and the modulation (B, D)."""
        patches = self.unembed(rms(tokens, self.norm))
        half = self.config.patch // 2
        coarse = patches.reshape(-1, h, w, 12, half, half).permute(0, 3, 1, 4, 2, 5).reshape(-1, 12, h * half, w * half)
        y = torch.cat((coarse, functional.pixel_unshuffle(seen, 2).to(coarse.dtype)), dim=1)
        film = self.film(functional.silu(c)).reshape(-1, 4, 32, 1, 1).unbind(1)
        for layer, scale, shift in zip(self.head[:-1], film[:2], film[2:], strict=True):
            y = functional.silu(layer(y) * (1 + scale) + shift)
        return functional.pixel_shuffle(self.head[-1](y), 2).float() + seen[:, 3:6]

    def compile_blocks(self) -> None:
        """Compile the blocks, once for all of them and for every shape that comes.

        All blocks share one graph with free sizes. In the whole network free sizes would have to be followed through
        the pixels' arithmetic too, which takes torch.compile many minutes, and fixed ones a graph for every shape.
        """
        for block in self.blocks:
            block.compile(dynamic=True)
