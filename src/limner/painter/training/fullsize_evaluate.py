"""How near each way to full size comes to the finished picture, by style, on held-out scenes at 1024×1024.

    python -m limner.painter.training.fullsize_evaluate --scenes 12 [--native denoised] [--sheet runs/sheet.png]

Compared are bicubic interpolation of the native picture, the guided filter and the network. The native picture is the
finished one made small, which asks what a way does with a perfect denoiser, or the shipped denoiser's own, which also
counts against every way what that denoiser paints otherwise. PSNR in dB and SSIM (Wang et al., 2004) of grey: more is
better. Edges: mean absolute error of the differences between neighbouring pixels, grey levels: less is better.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from limner.engine.core import UInt8
from limner.painter.bank import Bank
from limner.painter.denoiser import one_hot
from limner.painter.fullsize import WEIGHTS, FullSize, widen
from limner.painter.training.fullsize_data import HELD_OUT, PAINTED, Painting, paintings

NATIVES = ("small", "painted", "denoised")
MEASURES = ("PSNR", "SSIM", "edges")
SIZE = (1024, 1024)


def psnr(picture: UInt8, target: UInt8) -> float:
    """Peak signal to noise ratio in dB, of two (H, W, 3) uint8; infinite for equal pictures."""
    return float(cv2.PSNR(picture, target)) if (picture != target).any() else float("inf")


def ssim(picture: UInt8, target: UInt8) -> float:
    """Structural similarity of grey, in [-1, 1], of two (H, W, 3) uint8."""
    x, y = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (picture, target))
    mx, my, xx, yy, xy = (cv2.GaussianBlur(p, (11, 11), 1.5) for p in (x, y, x * x, y * y, x * y))
    luminance = (2 * mx * my + 6.5025) / (mx * mx + my * my + 6.5025)
    structure = (2 * (xy - mx * my) + 58.5225) / (xx - mx * mx + yy - my * my + 58.5225)
    return float((luminance * structure).mean())


def edge_error(picture: UInt8, target: UInt8) -> float:
    """Mean absolute error of the differences between neighbours, grey levels."""
    error = picture.astype(np.float32) - target
    return float(np.abs(np.diff(error, axis=0)).mean() + np.abs(np.diff(error, axis=1)).mean()) / 2


def bicubic(painting: Painting, native: int) -> UInt8:
    """The native picture interpolated."""
    small = ((painting.natives[native].clip(-1, 1) + 1) * 127.5 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    size = painting.draft.shape[1::-1]
    return np.asarray(Image.fromarray(np.ascontiguousarray(small)).resize(size, Image.Resampling.BICUBIC))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the full-size network against interpolation and filter.")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--native", choices=NATIVES, default="small")
    parser.add_argument("--sheet", type=Path, help="a picture of crops: native, filter, network, finished")
    args = parser.parse_args()
    network, k = FullSize.load(args.weights), NATIVES.index(args.native)
    ways: dict[str, Callable[[Painting], UInt8]] = {
        "bicubic": lambda p: bicubic(p, k),
        "filter": lambda p: widen(p.natives[k], p.draft),
        "network": lambda p: network(p.natives[k], p.draft, one_hot(p.style), p.strength, p.paper),
    }
    scores: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    lines: list[UInt8] = []
    bank = Bank.load()
    for scene in range(args.scenes):
        for painting in paintings(HELD_OUT + scene, bank, len(PAINTED), SIZE, strength=0.0):
            made = {}
            for name, way in ways.items():
                began = time.perf_counter()
                made[name] = picture = way(painting)
                seconds[name].append(time.perf_counter() - began)
                measured = (f(picture, painting.target) for f in (psnr, ssim, edge_error))
                scores[painting.style, name].append((next(measured), next(measured), next(measured)))
            if len(lines) < len(PAINTED):
                lines.append(np.concatenate([p[400:720, 300:620] for p in (*made.values(), painting.target)], axis=1))
    print("style".ljust(11), *(f"{name + ' ' + m:>14}" for m in MEASURES for name in ways))  # noqa: T201  # the table
    for style in (*PAINTED, "all"):
        rows = {n: np.concatenate([v for (s, w), v in scores.items() if w == n and style in (s, "all")]) for n in ways}
        cells = (f"{rows[name][:, m].mean():14.{(2, 4, 2)[m]}f}" for m in range(3) for name in ways)
        print(style.ljust(11), *cells)  # noqa: T201
    print("ms".ljust(11), *(f"{1000 * float(np.median(seconds[name])):14.0f}" for name in ways))  # noqa: T201
    if args.sheet:
        Image.fromarray(np.concatenate(lines)).save(args.sheet)


if __name__ == "__main__":
    main()
