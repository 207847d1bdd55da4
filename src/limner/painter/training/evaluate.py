"""How near the shipped denoiser comes to its targets, by style and number of steps, beside the draft itself.

    python -m limner.painter.training.evaluate --weights src/limner/painter/weights/denoiser

The scenes are of shards that no training run sees. Errors are mean absolute differences in grey levels of 255; the
draft's own error is what a denoiser that does nothing would have. Textures are drawn by chance in the target, so that a
faithful picture still differs from it by about the grain.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from limner.engine import samplers
from limner.engine.core import Float32
from limner.painter.bank import Bank
from limner.painter.denoiser import PATCH, STYLES, TEXT_TOKENS, hide, read_weights, rotary
from limner.painter.training.data import PAINTINGS, Shard, make
from limner.painter.words import Words
from limner.runtime.openvino import Network

HELD_OUT = 1_000_001  # numbers of shards from here on are for evaluation alone
STEPS = (1, 2, 4, 8)


def paint(network: Network, words: Words, shard: Shard, i: int, steps: int, strength: float) -> Float32:
    """Paint the shard's painting number i: (3, H, W) in [-1, 1]."""
    draft = shard.draft[i // PAINTINGS]
    rows, cols = (s // PATCH for s in draft.shape[:2])
    cos, sin = rotary(rows, cols, 0)
    known = {
        "draft": hide(draft, strength, np.random.default_rng(i))[None],
        "text": words.tokens(str(shard.caption[i]), TEXT_TOKENS)[None],
        "reference": np.zeros((1, 0, 4 * PATCH * PATCH), np.float32),
        "strength": np.array([strength], np.float32),
        "style": np.eye(len(STYLES), dtype=np.float32)[[shard.style[i]]],
        "cos": cos,
        "sin": sin,
    }
    state = samplers.begin(samplers.noise(i, (1, 3, rows * PATCH, cols * PATCH)), samplers.schedule(steps))
    while not state.finished:
        state = samplers.multistep(state, network({"x": state.x, "t": np.array([state.t], np.float32), **known}))
    return np.asarray(state.x[0])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the denoiser against its targets.")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--paintings", type=int, default=128)
    parser.add_argument("--strength", type=float, default=0.0)
    args = parser.parse_args()
    _, file = read_weights(args.weights)
    network, words = Network(file, precision="bf16"), Words.load()
    shard = make(HELD_OUT, Bank.load())
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[int, list[float]] = defaultdict(list)
    for i in range(min(args.paintings, len(shard.style))):
        target = shard.target[i].astype(np.float32)
        style = STYLES[shard.style[i]]
        errors[style]["draft"].append(float(np.abs(shard.draft[i // PAINTINGS] - target).mean()))
        for steps in STEPS:
            began = time.perf_counter()
            x = paint(network, words, shard, i, steps, args.strength)
            seconds[steps].append(time.perf_counter() - began)
            picture = (x.clip(-1, 1).transpose(1, 2, 0) + 1) * 127.5
            errors[style][str(steps)].append(float(np.abs(picture - target).mean()))
    columns = ["draft", *map(str, STEPS)]
    print("style".ljust(12), *(c.rjust(7) for c in columns))  # noqa: T201  # the table is this command's output
    for style in (*STYLES, "all"):
        rows = errors.values() if style == "all" else [errors[style]]
        cells = [np.concatenate([row[c] for row in rows]) for c in columns]
        if cells[0].size:
            print(style.ljust(12), *(f"{c.mean():7.2f}" for c in cells))  # noqa: T201
    print("ms a picture".ljust(20), *(f"{1000 * float(np.median(seconds[s])):7.0f}" for s in STEPS))  # noqa: T201


if __name__ == "__main__":
    main()
