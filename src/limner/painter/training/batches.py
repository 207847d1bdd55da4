"""Batches for training the denoiser, cut and hidden on the device that trains.

The shards lie there as they are, in uint8: on a GPU in its memory, on a CPU mapped from disk. What a batch holds
follows from the step's number alone: every choice is drawn by numpy from a generator of that step, and the noise by the
device's own generator, seeded from it. So a run can go on at any step, and a batch costs the device little.

Nothing is mirrored: light without a sun in the picture comes from the upper left, and captions speak of left and right.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from limner.engine import samplers
from limner.painter.denoiser import (
    PATCH,
    REFERENCE_SIDE,
    REFERENCE_TOKENS,
    STYLES,
    blurred,
    covered,
    kept,
    rotary,
)
from limner.painter.training.data import PAINTINGS, Shard

CROP = 8  # tokens on a side of a crop
SPREAD = 8  # shards that a batch is drawn from, at most
HIDDEN = 0.25  # share of the examples whose draft is hidden to some degree
FIRST = 0.25  # share of the examples at t = 0, where each picture begins and a picture of few steps spends most
EMPTY = 0.1  # share of the examples without the prompt's features, and share without a style


class Drawing(Protocol):
    """What of a run's settings its batches depend on."""

    @property
    def batch(self) -> int: ...  # crops in a step
    @property
    def seed(self) -> int: ...
    def whole(self, step: int) -> bool:
        """Whether this step sees whole pictures."""


@dataclass(frozen=True)
class Batch:
    """What the network takes, and `clean`, what it should give."""

    clean: Tensor  # (B, 3, H, W) in [-1, 1]
    draft: Tensor  # (B, 4, H, W)
    text: Tensor  # (B, TEXT_TOKENS, TEXT_DIM)
    reference: Tensor  # (B, R, 4 * PATCH * PATCH)
    strength: Tensor  # (B,)
    style: Tensor  # (B, len(STYLES))
    cos: Tensor  # (B, 1, N, HEAD_DIM / 2): each crop keeps the positions that it has in the whole picture
    sin: Tensor
    t: Tensor  # (B,)
    noise: Tensor  # like clean

    @property
    def known(self) -> dict[str, Tensor]:
        """What the network is given beside x and t, by its parameters' names."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("clean", "t", "noise")}


@dataclass(frozen=True)
class Pictures:
    """One shard on the device."""

    draft: Tensor  # (SCENES, rows, PATCH, cols, PATCH * 3) uint8
    target: Tensor  # (SCENES * PAINTINGS, rows, PATCH, cols, PATCH * 3) uint8
    sprite: Tensor  # (SCENES, side, PATCH, side, PATCH, 4) uint8
    text: Tensor  # (SCENES * PAINTINGS, TEXT_TOKENS, TEXT_DIM) float16
    style: Any  # (SCENES * PAINTINGS,), in numpy, as is
    box: Any  # (SCENES, 4)
    caption: Any  # (SCENES * PAINTINGS,)

    @property
    def grid(self) -> tuple[int, int]:
        return self.draft.shape[1], self.draft.shape[3]

    @classmethod
    def load(cls, folder: Path, device: str) -> Pictures:
        """The shard of that folder.

        Raises:
            ValueError: it has no token features.
        """
        shard = Shard.load(folder)
        if shard.text is None:
            raise ValueError(f"{folder} has no text; run limner.painter.training.data again.")
        rows, cols = (s // PATCH for s in shard.draft.shape[1:3])
        side = REFERENCE_SIDE

        def here(array: Any, *shape: int) -> Tensor:
            with warnings.catch_warnings():
                # The file is mapped for reading, and nothing here writes.
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                tensor = torch.from_numpy(array)
            return tensor.reshape(shape).to(device)

        return cls(
            here(shard.draft, -1, rows, PATCH, cols, PATCH * 3),
            here(shard.target, -1, rows, PATCH, cols, PATCH * 3),
            here(shard.sprite, -1, side, PATCH, side, PATCH, 4),
            here(shard.text, *shard.text.shape),
            np.asarray(shard.style), np.asarray(shard.box), np.asarray(shard.caption),
        )  # fmt: skip


def load_pictures(folder: Path, device: str) -> list[Pictures]:
    """All shards of a folder, in the order of their numbers.

    Raises:
        ValueError: there are none, or one has no token features.
    """
    shards = [Pictures.load(p, device) for p in sorted(folder.glob("[0-9]*")) if p.suffix != ".partial"]
    if not shards:
        raise ValueError(f"{folder} holds no shards; make them with limner.painter.training.data.")
    return shards


def load_batch(run: Drawing, shards: list[Pictures], step: int) -> Batch:
    """The batch of this step, all of one grid: a pure function of its arguments, on the shards' device."""
    rng = np.random.Generator(np.random.Philox(key=run.seed + (step << 64)))  # a key each: counters next door overlap
    grid = shards[int(rng.integers(len(shards)))].grid
    fitting = [shard for shard in shards if shard.grid == grid]
    rows, cols = grid
    whole = run.whole(step)
    height, width = grid if whole else (CROP, CROP)
    size = max(1, run.batch * CROP * CROP // (height * width)) if whole else run.batch
    chosen = [fitting[k] for k in rng.choice(len(fitting), min(SPREAD, len(fitting), size), replace=False)]
    counts = [len(part) for part in np.array_split(np.arange(size), len(chosen))]
    picks = [rng.choice(len(s.style), n, replace=n > len(s.style)) for s, n in zip(chosen, counts, strict=True)]
    scenes = [pick // PAINTINGS for pick in picks]

    top, left = rng.integers(rows - height + 1, size=size), rng.integers(cols - width + 1, size=size)
    ys, xs = top[:, None] + np.arange(height), left[:, None] + np.arange(width)  # (B, height), (B, width)
    strength = np.where(rng.random(size) < HIDDEN, rng.random(size) ** 1.5, 0).astype(np.float32)
    referenced = bool(rng.random() < 0.5)
    visible = kept(strength, height, width, rng)
    if referenced:  # what a reference shows is hidden half the time, so that it can be had from the reference alone
        box = np.concatenate([s.box[scene] for s, scene in zip(chosen, scenes, strict=True)]).round()
        box[rng.random(size) < 0.5] = 0
        inside = [(box[:, k, None] <= at) & (at < box[:, k + 2, None]) for k, at in enumerate((ys, xs))]
        visible &= ~(inside[0][:, :, None] & inside[1][:, None, :])
    described = rng.random(size) >= EMPTY
    style = np.concatenate([s.style[pick] for s, pick in zip(chosen, picks, strict=True)])
    styled = np.eye(len(STYLES))[style] * (rng.random(size) >= EMPTY)[:, None]
    t = samplers.logit_normal(rng.standard_normal(size)) * (rng.random(size) >= FIRST)
    cells = np.concatenate(
        (
            (ys[:, :, None] * cols + xs[:, None, :]).reshape(size, -1),
            np.tile(np.arange(rows * cols, len(_table(grid, referenced, "cpu")[0])), (size, 1)),
        ),
        axis=1,
    )

    device = chosen[0].draft.device

    def there(array: Any, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype, non_blocking=True)

    windows = list(zip(*(torch.split(there(a, torch.long), counts) for a in (ys, xs)), strict=True))
    seen, clean, sprites, text = [], [], [], []
    for shard, pick, scene, window in zip(chosen, picks, scenes, windows, strict=True):
        p, s = there(pick, torch.long), there(scene, torch.long)
        clean.append(_cut(shard.target, p, *window))
        seen.append(_cut(shard.draft, s, *window))
        text.append(shard.text[p].float())
        if referenced:
            sprites.append(shard.sprite[s].permute(0, 1, 3, 5, 2, 4).reshape(len(s), REFERENCE_TOKENS, -1) / 255)
    drafts = torch.cat(seen)
    hidden = np.flatnonzero(strength)
    if len(hidden):
        at = there(hidden, torch.long)
        pixels = [torch.arange(n * PATCH, device=device, dtype=torch.float32) for n in (height, width)]
        drafts[at] = blurred(drafts[at], there(strength[hidden]), *pixels)
    ones = torch.ones_like(drafts[:, :1])
    cos, sin = (table[there(cells, torch.long)][:, None] for table in _table(grid, referenced, str(device)))
    source = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    return Batch(
        clean=torch.cat(clean),
        draft=covered(torch.cat((drafts, ones), dim=1), there(visible)),
        text=torch.cat(text) * there(described)[:, None, None],
        reference=torch.cat(sprites) if referenced else torch.zeros(size, 0, 4 * PATCH * PATCH, device=device),
        strength=there(strength), style=there(styled), cos=cos, sin=sin, t=there(t),
        noise=torch.randn((size, 3, height * PATCH, width * PATCH), generator=source, device=device),
    )  # fmt: skip


def _cut(pictures: Tensor, which: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """Windows of tokens, rows `ys` (B, h) and columns `xs` (B, w) of pictures `which` (B,): (B, 3, H, W) in [-1, 1]."""
    size, height, width = len(which), ys.shape[1], xs.shape[1]
    # Indices on both sides of a whole axis put it last: (B, h, w, PATCH, PATCH * 3).
    part = pictures[which[:, None, None], ys[:, :, None], :, xs[:, None, :]]
    part = part.reshape(size, height, width, PATCH, PATCH, 3).permute(0, 5, 1, 3, 2, 4)
    return part.reshape(size, 3, height * PATCH, width * PATCH) / 127.5 - 1


@cache
def _table(grid: tuple[int, int], referenced: bool, device: str) -> tuple[Tensor, Tensor]:
    """The rotary tables of all tokens of a whole picture, on the device."""
    cos, sin = rotary(*grid, int(referenced))
    return torch.from_numpy(cos).to(device), torch.from_numpy(sin).to(device)
