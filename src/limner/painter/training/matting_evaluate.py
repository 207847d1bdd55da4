"""How well subjects are cut out, on composites whose subjects, grounds and artists were never trained on.

    python -m limner.painter.training.matting_evaluate --subjects runs/matting/subjects

Four ways are compared on the same pictures: the plain ground's colour alone, each of the two networks alone, and the
whole of `painter.cutout`, which takes the first where the ground is plain and one of the others elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from limner.engine.core import Float32, UInt8
from limner.painter.cutout import find, off_ground
from limner.painter.matting import WEIGHTS, Matting, refine
from limner.painter.training.matting_data import Pool, composite, overlap

FIRST = 10**12  # number of the first composite that judges
SIDE = 384  # pixels on a side of a composite that judges: finer than what the network sees
Way = Callable[[Image.Image], Float32]


def ways(matting: Matting) -> dict[str, Way]:
    """Each way to cut out, from a picture to its subject's alpha, (H, W) in [0, 1]; all ones where it gives up."""

    def ground(picture: Image.Image) -> Float32:
        found = off_ground(picture.convert("RGBA"))
        if found is None:
            return np.ones(picture.size[::-1], np.float32)
        return np.asarray(found.getchannel("A"), np.float32) / np.float32(255)

    def cut(picture: Image.Image) -> Float32:
        found = ground(picture)
        if found.min() < 1:
            return found
        coarse, how = find(picture, matting)
        return found if how == "card" else refine(coarse, picture)

    return {
        "plain ground": ground,
        "network": lambda picture: refine(matting.things(picture), picture),
        "people's": lambda picture: refine(matting.people(picture), picture),
        "cut out": cut,
    }


def evaluate(matting: Matting, pool: Pool, count: int) -> dict[str, tuple[list[float], list[float]]]:
    """Intersection over union and mean absolute error of each way on each of `count` composites."""
    scores: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways(matting)}
    for number in range(FIRST, FIRST + count):
        picture, alpha = composite(number, pool, SIDE)
        true = np.divide(alpha, 255, dtype=np.float32)
        for name, way in ways(matting).items():
            found = way(Image.fromarray(picture))
            scores[name][0].append(overlap(found > 0.5, true > 0.5))
            scores[name][1].append(float(np.abs(found - true).mean()))
    return scores


def sheet(matting: Matting, pool: Pool, path: Path) -> None:
    """Sixteen pictures that judge, each beside its cut-out on green."""
    rows: list[UInt8] = []
    for number in range(FIRST, FIRST + 16):
        picture, _ = composite(number, pool, SIDE)
        found = ways(matting)["cut out"](Image.fromarray(picture))[..., None]
        cut = picture * found + np.array([90, 200, 120]) * (1 - found)
        rows.append(np.concatenate((picture, cut.astype(np.uint8)), axis=1)[::2, ::2])
    lines = [np.concatenate(rows[k : k + 4], axis=1) for k in range(0, 16, 4)]
    Image.fromarray(np.concatenate(lines)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge the cut-outs on held-out composites.")
    parser.add_argument("--subjects", type=Path, required=True, help="what matting_subjects wrote")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--sheet", type=Path, help="also write a sheet of pictures and cut-outs there")
    args = parser.parse_args()
    matting, pool = Matting(args.weights), Pool.load(args.subjects, held=True)
    print(f"{'way':14}{'IoU':>8}{'median':>8}{'error':>8}")  # noqa: T201  this command's output
    for name, (shares, errors) in evaluate(matting, pool, args.count).items():
        print(f"{name:14}{np.mean(shares):8.3f}{np.median(shares):8.3f}{np.mean(errors):8.3f}")  # noqa: T201
    if args.sheet:
        sheet(matting, pool, args.sheet)


if __name__ == "__main__":
    main()
