"""The full-size network's training set: crops of finished pictures, and what the network will have to paint them from.

    python -m limner.painter.training.fullsize_data --out runs/fullsize/data --scenes 250 --processes 2

Scene k's crops are a function of k, of the code and of the denoiser's weights. They are one .npz file.

A finished picture is the procedural one of `styles.py` at its full size. The native picture is it made small, or the
same style painted small by other chance, or what the denoiser painted: all three are kept, and training draws one of
them, so that the network is at ease with denoisers better and worse than today's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from limner.engine import levels, samplers
from limner.engine.core import Float32, UInt8
from limner.painter import draft as drafts
from limner.painter import places
from limner.painter.bank import Bank
from limner.painter.denoiser import PATCH, STYLES, TEXT_DIM, TEXT_TOKENS, grid, hide, one_hot, read_weights, rotary
from limner.painter.fullsize import BLOCKS, CELL, SEEN, condition, seen, texture
from limner.painter.scene import Scene, Style
from limner.painter.training import styles
from limner.painter.training.scenes import random_scene
from limner.runtime.openvino import Network

DENOISER = Path(places.__file__).parent.parent / "weights" / "denoiser"
HELD_OUT = 1_000_001  # scenes from here on are for evaluation alone
SIDE = 160  # pixels of a crop
PAINTINGS = 4  # of one scene, each in a style of its own
CROPS = 6  # of one painting
DRIFT = 8.0  # deviation of the blur, native pixels, of what a denoiser's picture keeps of its own tone
STRONG = 0.25  # share of the scenes with a strength above 0
PAINTED: tuple[Style, ...] = tuple(s for s in STYLES if s not in BLOCKS)
SIZES = (
    ((1024, 1024),) * 4
    + ((1280, 720),) * 2
    + ((1344, 576), (832, 1248), (512, 512), (640, 640), (768, 768), (1536, 1536), (1728, 1152), (2048, 2048))
)


@dataclass(frozen=True, slots=True)
class Painting:
    """A scene painted in one style, whole."""

    style: Style
    strength: float
    draft: UInt8  # (H, W, 3), as the denoiser was given it before hiding
    other: UInt8  # (H, W, 3), the draft with things at other places, for a picture that left it
    paper: UInt8  # (H, W)
    target: UInt8  # (H, W, 3)
    natives: tuple[Float32, Float32, Float32]  # (3, h, w) each: made small, painted small, the denoiser's


@dataclass(frozen=True, slots=True)
class Crops:
    """N crops. `natives` and `drift` go with each other."""

    seen: UInt8  # (N, SIDE / 2, SIDE / 2, SEEN), its native picture being the first of three
    natives: UInt8  # (N, 2, SIDE / 2, SIDE / 2, 3), the other two
    other: UInt8  # (N, SIDE / 2, SIDE / 2, SEEN), seen with things at other places
    target: UInt8  # (N, SIDE, SIDE, 3)
    drift: Float32  # (N, SIDE / 8, SIDE / 8, 3) in grey levels: the denoiser's tone less the target's
    condition: Float32  # (N, CONDITION)

    @classmethod
    def load(cls, path: Path) -> Crops:
        with np.load(path) as file:
            return cls(**{field.name: file[field.name] for field in fields(cls)})


def paintings(
    number: int,
    bank: Bank,
    count: int = PAINTINGS,
    size: tuple[int, int] | None = None,
    strength: float | None = None,
) -> list[Painting]:
    """Scene `number` painted in so many styles, all different; size and strength are drawn by chance if not given."""
    rng = random.Random(number)  # noqa: S311 - no secrets
    noise = np.random.Generator(np.random.Philox(number))
    width, height = size or rng.choice(SIZES)
    rows, cols = grid(width, height)
    w, h, aspect = cols * PATCH, rows * PATCH, width / height
    scene, _ = random_scene(rng, aspect, bank)
    sun = places.draw(scene.place, scene.time, scene.weather, aspect, scene.variant, scene.backdrop).sun
    drafted = drafts.compose(scene, aspect, bank)
    large, small = (styles.parts(drafted.layers(*at), sun) for at in ((width, height), (w, h)))
    if strength is None:
        strength = rng.random() if rng.random() < STRONG else 0.0
    other = drafts.compose(_moved(scene, rng), aspect, bank).draw(width, height)
    made = []
    for style in rng.sample(PAINTED, count):
        seed = rng.randrange(2**63)
        target = styles.paint(style, large, noise, seed)
        natives = (
            _native(np.asarray(Image.fromarray(target).resize((w, h), Image.Resampling.BOX))),
            _native(styles.paint(style, small, noise)),
            _denoised(drafted.draw(w, h), style, strength, rng),
        )
        paper = texture(style, width, height, seed)
        made.append(Painting(style, strength, drafted.draw(width, height), other, paper, target, natives))
    return made


def crops(number: int, bank: Bank) -> Crops:
    """The crops of scene `number`."""
    rng = random.Random(number)  # noqa: S311 - no secrets
    taken: dict[str, list[Float32 | UInt8]] = {field.name: [] for field in fields(Crops)}
    for painting in paintings(number, bank):
        height, width = painting.target.shape[:2]
        cells = [seen(native, painting.draft, painting.paper) for native in painting.natives]
        other = seen(painting.natives[0], painting.other, painting.paper)
        apart = (painting.natives[2] - painting.natives[0]).transpose(1, 2, 0) * np.float32(127.5)
        drift = cv2.resize(
            cv2.GaussianBlur(apart, (0, 0), DRIFT), (width // 8, height // 8), interpolation=cv2.INTER_LINEAR
        )
        told = condition(one_hot(painting.style), painting.strength, width, height)[0]
        busy = cv2.resize(cv2.absdiff(painting.target, cv2.blur(painting.target, (9, 9))), (width // 8, height // 8))
        for k in range(CROPS):
            corners = [
                (rng.randrange((height - SIDE) // 8 + 1), rng.randrange((width - SIDE) // 8 + 1))
                for _ in range(1 + min(1, k % 3))  # two of three crops are the busier of two
            ]
            y, x = max(corners, key=lambda at: float(busy[at[0] : at[0] + SIDE // 8, at[1] : at[1] + SIDE // 8].mean()))
            in_cells = np.s_[y * 4 : y * 4 + SIDE // CELL, x * 4 : x * 4 + SIDE // CELL]
            taken["seen"].append(cells[0][in_cells])
            taken["natives"].append(np.stack([c[in_cells][..., SEEN - 3 :] for c in cells[1:]]))
            taken["other"].append(other[in_cells])
            taken["target"].append(painting.target[y * 8 : y * 8 + SIDE, x * 8 : x * 8 + SIDE])
            taken["drift"].append(drift[y : y + SIDE // 8, x : x + SIDE // 8].astype(np.float32))
            taken["condition"].append(told)
    return Crops(**{name: np.stack(values) for name, values in taken.items()})  # type: ignore[arg-type]  # as named


def write(number: int, out: Path) -> int:
    """Make the crops of scene `number` in `out`, unless they are there; returns `number`."""
    cv2.setNumThreads(1)
    path = out / f"{number:07d}.npz"
    if not path.exists():
        made = crops(number, Bank.load())
        whole = path.with_suffix(".partial")
        with whole.open("wb") as file:
            np.savez(file, **{field.name: getattr(made, field.name) for field in fields(made)})
        whole.rename(path)
    return number


def _native(picture: UInt8) -> Float32:
    return picture.astype(np.float32).transpose(2, 0, 1) / np.float32(127.5) - 1


def _moved(scene: Scene, rng: random.Random) -> Scene:
    """The scene with its things at other places."""
    items = tuple(i.model_copy(update={"x": rng.uniform(0.1, 0.9), "flip": rng.random() < 0.5}) for i in scene.items)
    return scene.model_copy(update={"items": items, "variant": rng.randrange(2**32)})


@cache
def _denoiser() -> Network:
    return Network(read_weights(DENOISER)[1], precision="bf16", threads=1)


def _denoised(draft: UInt8, style: Style, strength: float, rng: random.Random) -> Float32:
    """What the shipped denoiser paints of the draft in one to four steps: (3, h, w) in [-1, 1]."""
    network = _denoiser()
    h, w = draft.shape[:2]
    cos, sin = rotary(h // PATCH, w // PATCH, 0)
    known = {
        "draft": hide(draft, strength, np.random.default_rng(rng.randrange(2**32)))[None],
        "text": np.zeros((1, TEXT_TOKENS, TEXT_DIM), np.float32),  # to which it was trained, too
        "reference": np.zeros((1, 0, 4 * PATCH * PATCH), np.float32),
        "strength": np.array([strength], np.float32),
        "style": one_hot(style),
        "cos": cos,
        "sin": sin,
    }
    noise = samplers.noise(rng.randrange(2**63), (1, 3, h, w))
    state = samplers.begin(noise, levels.schedule(rng.choice((1, 2, 2, 3, 4))))
    while not state.finished:
        state = samplers.multistep(state, network({"x": state.x, "t": np.array([state.t], np.float32), **known}))
    return np.asarray(state.x[0]).clip(-1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Paint the full-size network's training set.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=250)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for done in pool.imap_unordered(partial(write, out=args.out), range(args.scenes)):
            print(f"scene {done}", flush=True)  # noqa: T201  # progress is this command's output


if __name__ == "__main__":
    main()
