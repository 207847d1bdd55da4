"""The training set: (draft, caption, reference, style) and the picture to paint from them, in shards on disk.

    python -m limner.painter.training.data --out runs/data --shards 200 --processes 2

Shard number k is a function of k and of the code alone. A shard is a folder of .npy files that are read in place.
Captions are kept as words beside their token features.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import multiprocessing
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from limner.engine.core import Float32, UInt8
from limner.painter import draft as drafts
from limner.painter import places
from limner.painter.bank import Bank
from limner.painter.denoiser import PATCH, REFERENCE_SIDE, STYLES, TEXT_TOKENS, grid
from limner.painter.training import styles
from limner.painter.training.captions import with_style
from limner.painter.training.scenes import random_scene, random_style
from limner.painter.words import Words

SCENES = 32  # of one shard
PAINTINGS = 4  # of one scene, each in a style of its own
# Width and height of finished pictures. Few, so that each grid of tokens has shards enough to make batches of.
SIZES = ((1024, 1024),) * 5 + ((1280, 720),) * 4 + ((720, 1280),) * 3 + ((1344, 576),)


@dataclass(frozen=True, slots=True)
class Shard:
    """SCENES scenes painted PAINTINGS times; painting i is of scene i // PAINTINGS."""

    draft: UInt8  # (SCENES, H, W, 3)
    target: UInt8  # (SCENES * PAINTINGS, H, W, 3)
    style: UInt8  # (SCENES * PAINTINGS,), index into STYLES
    caption: npt.NDArray[np.str_]  # (SCENES * PAINTINGS,)
    sprite: UInt8  # (SCENES, 96, 96, 4), one item of the scene alone, premultiplied
    box: Float32  # (SCENES, 4), where that item is: top, left, bottom, right in tokens
    text: npt.NDArray[np.float16] | None = None  # (SCENES * PAINTINGS, TEXT_TOKENS, TEXT_DIM)

    def save(self, folder: Path) -> None:
        """Write the shard to `folder`, which must not exist; what a killed writer leaves is never taken for one."""
        whole = folder.with_suffix(".partial")
        whole.mkdir(parents=True, exist_ok=True)
        for name in self.__slots__:
            if getattr(self, name) is not None:
                np.save(whole / f"{name}.npy", getattr(self, name))
        whole.rename(folder)

    @classmethod
    def load(cls, folder: Path) -> Shard:
        """The shard of that folder, its arrays mapped from disk."""
        return cls(**{path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))})


def make(number: int, bank: Bank) -> Shard:
    """Draw and paint shard `number`."""
    rng = random.Random(number)  # noqa: S311 - no secrets
    noise = np.random.Generator(np.random.Philox(number))
    width, height = SIZES[number % len(SIZES)]
    rows, cols = grid(width, height)
    h, w, aspect = rows * PATCH, cols * PATCH, width / height
    drafted: list[UInt8] = []
    targets: list[UInt8] = []
    chosen: list[int] = []
    captions: list[str] = []
    sprites: list[UInt8] = []
    boxes: list[Float32] = []
    while len(drafted) < SCENES:
        scene, text = random_scene(rng, aspect, bank)
        backdrop = places.draw(scene.place, scene.time, scene.weather, aspect, scene.variant, scene.backdrop)
        lit = styles.parts(drafts.compose(scene, aspect, bank).layers(w, h), backdrop.sun)
        drafted.append(np.asarray(lit.colour * 255 + 0.5, np.uint8))
        for _ in range(PAINTINGS):
            style = random_style(rng)
            targets.append(styles.paint(style, lit, noise))
            chosen.append(STYLES.index(style))
            captions.append("" if rng.random() < 0.1 else with_style(text, style, rng))
        item = rng.choice(scene.items)
        sprites.append(drafts.sprite(item, REFERENCE_SIDE * PATCH, bank))
        half = item.height * drafts.ratio(item, bank) / aspect / 2
        box = np.array([item.y - item.height, item.x - half, item.y, item.x + half]) * [rows, cols, rows, cols]
        boxes.append(box.astype(np.float32))
    return Shard(
        np.stack(drafted),
        np.stack(targets),
        np.array(chosen, np.uint8),
        np.array(captions),
        np.stack(sprites),
        np.stack(boxes),
    )


def write(number: int, out: Path, deadline: float = math.inf) -> int:
    """Make shard `number` in `out` with its token features, unless it is there or the time is over.

    Args:
        deadline: by time.time().

    Returns:
        `number`.
    """
    if time.time() < deadline:
        cv2.setNumThreads(1)
        folder = out / f"{number:05d}"
        if not folder.exists():
            make(number, Bank.load()).save(folder)
        describe(folder, lambda text, length: words().tokens(text, length))
    return number


@cache
def words() -> Words:
    """The text encoder, for one thread; in torch where OpenVINO is not installed."""
    if importlib.util.find_spec("openvino"):
        return Words.load(threads=1)
    import torch

    from limner.painter.training.encoder import words_in_torch

    torch.set_num_threads(1)
    return words_in_torch()


def describe(shard: Path, tokens: Callable[[str, int], Float32]) -> None:
    """Add the token features of a shard's captions, unless they are there.

    Args:
        tokens: the first so many token features of a text, as `Words.tokens` gives them.
    """
    if (shard / "text.npy").exists() or not (shard / "caption.npy").exists():
        return
    features = np.stack([tokens(str(c), TEXT_TOKENS) for c in np.load(shard / "caption.npy")]).astype(np.float16)
    whole = shard / "text.partial"
    with whole.open("wb") as file:
        np.save(file, features)
    whole.rename(shard / "text.npy")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw and paint the training set.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no shard after so long; go on another time"
    )
    args = parser.parse_args()
    job = partial(write, out=args.out, deadline=time.time() + args.seconds)
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for done in pool.imap_unordered(job, range(args.shards)):
            print(f"shard {done}", flush=True)  # noqa: T201  # progress is this command's output


if __name__ == "__main__":
    main()
