"""Windows to learn from: crops of composites at the detector's own levels, and what is in each.

    python -m limner.evaluation.training.windows --sprites runs/sprites.npz --out runs/windows --shards 32

A shard is the windows of PICTURES composites as features in float16; shards that are there already are left alone.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from limner.engine.core import Float32, UInt8
from limner.evaluation.detector import BORDER, LEVELS, THING, WINDOW
from limner.evaluation.training.composites import SIZE, Composer, Composite
from limner.evaluation.training.detector_network import Features
from limner.evaluation.training.sprites import Sprites
from limner.painter import draft
from limner.painter.bank import Bank
from limner.painter.scene import Scene
from limner.painter.training.scenes import PLACES, TIMES, WEATHERS

SEED = 7_100_000
"""Far from every seed of the painter's training and of the evaluation."""
PICTURES = 256
NOTHING = -1
"""The label of a window that no thing fills, and the colour of one whose colour is not known."""
SEEN = 0.45
"""A thing of which less is seen is neither asked for nor called nothing."""

Int64 = npt.NDArray[np.int64]
Reals = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """N windows, and what fills them."""

    crops: UInt8  # (N, WINDOW, WINDOW, 3)
    label: Int64  # (N,), NOTHING where nothing fills the window
    colour: Int64  # (N,), NOTHING where none is known
    size: Float32  # (N, 2), logarithms of width and height in units of THING


def sample(composite: Composite, rng: np.random.Generator) -> Windows:
    """Two windows about each thing of a composite, and as many again about nothing, half of them near misses."""
    levels = [_level(composite.pixels, side) for side in LEVELS]
    crops: list[UInt8] = []
    facts: list[tuple[int, int, float, float]] = []
    longest = composite.boxes[:, 2:].max(1) if len(composite.boxes) else np.zeros(0)
    for k, (x, y, width, height) in enumerate(composite.boxes):
        if composite.seen[k] < SEEN:
            continue
        for _ in range(2):
            level = _fitting(float(longest[k]) * rng.uniform(0.9, 1.11))
            side = LEVELS[level]
            at = np.array([x, y]) * side + rng.uniform(-5, 5, 2)
            crops.append(_crop(levels[level], at))
            facts.append(
                (int(composite.labels[k]), int(composite.colours[k]), width * side / THING, height * side / THING)
            )
    for miss in range(2 * len(composite.boxes) + 2):
        level, side = 0, 0
        for _ in range(8):
            if miss % 2 and len(longest):
                k = int(rng.integers(len(longest)))
                level = int(np.clip(_fitting(float(longest[k])) + rng.integers(-3, 4), 0, len(LEVELS) - 1))
                side = LEVELS[level]
                at = composite.boxes[k, :2] * side + rng.normal(0, 18, 2)
            else:
                level = int(rng.integers(len(LEVELS)))
                side = LEVELS[level]
                at = rng.uniform(0, side, 2)
            if not _filled(composite, longest, at, side):
                crops.append(_crop(levels[level], at))
                facts.append((NOTHING, NOTHING, 1.0, 1.0))
                break
    label, colour = (np.array([fact[k] for fact in facts], np.int64) for k in (0, 1))
    size = np.log(np.maximum(np.array([fact[2:] for fact in facts], np.float32).reshape(-1, 2), 0.05))
    return Windows(np.stack(crops), label, colour, size)


def _fitting(longest: float) -> int:
    """The level at which a thing, its longer side a fraction of the picture, best fills a window."""
    return int(np.argmin([abs(np.log(longest * side / THING)) for side in LEVELS]))


def _filled(composite: Composite, longest: Reals, at: Reals, side: int) -> bool:
    """Whether a thing is so nearly in the middle of a window, and of its size, that it is unfair to call it nothing."""
    if not len(longest):
        return False
    off = np.abs(composite.boxes[:, :2] * side - at).max(1)
    ratio = np.abs(np.log(np.maximum(longest * side / THING, 1e-3)))
    return bool(np.any((off < 11) & (ratio < np.log(1.5))))


def _level(pixels: UInt8, side: int) -> UInt8:
    way = cv2.INTER_AREA if side < SIZE else cv2.INTER_LINEAR
    small = cv2.resize(pixels, (side, side), interpolation=way)
    return np.asarray(cv2.copyMakeBorder(small, WINDOW, WINDOW, WINDOW, WINDOW, cv2.BORDER_REPLICATE), np.uint8)


def _crop(level: UInt8, at: Reals) -> UInt8:
    """The window about a place in a level; no more than BORDER of it is off the picture, as in use."""
    side = level.shape[0] - 2 * WINDOW
    least, most = WINDOW // 2 - BORDER, side - WINDOW // 2 + BORDER
    x, y = (round(min(max(float(v), least), most)) + WINDOW // 2 for v in at)
    return level[y : y + WINDOW, x : x + WINDOW]


def empty_places(count: int, seed: int = SEED) -> UInt8:
    """Places of the painter with nothing in them, (count, SIZE, SIZE, 3)."""
    rng, bank = random.Random(seed), Bank.load()  # noqa: S311  scenery, no secret
    scenes = (
        Scene(
            place=PLACES[k % len(PLACES)],
            time=rng.choice(TIMES),
            weather=rng.choice(WEATHERS),
            variant=rng.randrange(2**32),
        )
        for k in range(count)
    )
    return np.stack([draft.compose(scene, 1.0, bank).draw(SIZE, SIZE) for scene in scenes])


def make(composer: Composer, number: int, pictures: int = PICTURES) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a shard; the same number gives the same windows."""
    features, parts = Features(), []
    found: list[npt.NDArray[np.float16]] = []
    for k in range(pictures):
        rng = np.random.Generator(np.random.Philox(key=[SEED, number * PICTURES + k]))
        windows = sample(composer(rng), rng)
        parts.append(windows)
        with torch.no_grad():
            seen = features(torch.from_numpy(windows.crops).permute(0, 3, 1, 2).float())
        found.append(seen.half().numpy())
    return {
        "features": np.concatenate(found),
        "label": np.concatenate([part.label for part in parts]),
        "colour": np.concatenate([part.colour for part in parts]),
        "size": np.concatenate([part.size for part in parts]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Make shards of windows for the detector to learn from.")
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--places", type=int, default=160, help="Empty places among the grounds.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    composer = Composer(Sprites.load(args.sprites), empty_places(args.places))
    for number in range(args.first, args.first + args.shards):
        path = args.out / f"{number:04d}.npz"
        if not path.exists():
            arrays = make(composer, number)
            whole = path.with_suffix(".new.npz")
            np.savez(whole, allow_pickle=False, **arrays)
            whole.replace(path)
            print(path.name, len(arrays["label"]), flush=True)  # noqa: T201  progress of a long job


if __name__ == "__main__":
    main()
