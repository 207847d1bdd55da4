"""The training set: (draft, caption, reference, style) and the picture to paint from them, in shards on disk.

    python -m limner.painter.training.data --out runs/data --shards 200 --processes 2

Shard number k is a function of k and of the code alone. A shard is a folder of .npy files that are read in place.
Captions are kept as words; their token features, which take the text encoder, are added once it is there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
from dataclasses import dataclass
from functools import partial
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
from limner.painter.training.scenes import random_scene, random_style, with_style

SCENES = 32  # of one shard
PAINTINGS = 4  # of one scene, each in a style of its own
# Width and height of finished pictures; squares and wide ones are asked for most.
SIZES = (
    ((1024, 1024),) * 4
    + ((1280, 720),) * 3
    + ((1152, 864), (1248, 832), (864, 1152), (832, 1248), (720, 1280), (1344, 576))
)


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


def write(number: int, out: Path) -> int:
    """Make shard `number` in `out`, unless it is there; returns `number`."""
    cv2.setNumThreads(1)
    folder = out / f"{number:05d}"
    if not folder.exists():
        make(number, Bank.load()).save(folder)
    return number


def describe(folder: Path) -> None:
    """Add the token features of a shard's captions."""
    from limner.painter.words import Words

    words = Words.load()
    for shard in sorted(folder.glob("[0-9]*")):
        if not (shard / "text.npy").exists() and (shard / "caption.npy").exists():
            captions = np.load(shard / "caption.npy")
            features = np.stack([words.tokens(str(c))[:TEXT_TOKENS] for c in captions]).astype(np.float16)
            whole = shard / "text.partial"
            with whole.open("wb") as file:
                np.save(file, features)
            whole.rename(shard / "text.npy")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw and paint the training set.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for done in pool.imap_unordered(partial(write, out=args.out), range(args.shards)):
            print(f"shard {done}", flush=True)  # noqa: T201  # progress is this command's output
    describe(args.out)


if __name__ == "__main__":
    main()
