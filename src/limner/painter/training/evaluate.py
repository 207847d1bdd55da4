"""How near the denoiser comes to its targets, and how like them it looks, by number of steps and guidance.

    python -m limner.painter.training.evaluate --weights src/limner/painter/weights/denoiser
    python -m limner.painter.training.evaluate --weights runs/few/steps-2/checkpoint.pt \\
        --against runs/depth6/checkpoint.pt --many 32 --guidance 1.5

The scenes are of shards that no training run sees. Textures are drawn by chance in the target, so no one number says
how good a picture is. There are four:

- error: mean absolute difference from the target in grey levels of 255. It favours the blurry mean of all pictures.
- detail: the mean gradient's size, as a share of the target's. 1 is as crisp; less is blurred, more is noisy.
- look: mean |log ratio| of the spread of filter responses in picture and target, in three scales and three channels
  (texture statistics in the manner of Heeger and Bergen, 1995). 0 where grain, strokes and contrasts are as strong.
- milliseconds for one picture, all its evaluations together.

The draft's own row is what a denoiser that does nothing would have.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner.engine import levels, samplers
from limner.engine.core import Float32
from limner.painter.bank import Bank
from limner.painter.denoiser import PATCH, STYLES, TEXT_TOKENS, hide, read_weights, rotary
from limner.painter.training.data import PAINTINGS, Shard, make, words
from limner.painter.training.network import Config, Network

HELD_OUT = 1_000_001  # numbers of shards from here on are for evaluation alone
STEPS = (1, 2, 4, 8)
GREY = np.array([[0.3, 0.59, 0.11], [0.5, -0.4, -0.1], [-0.15, -0.35, 0.5]], np.float32)  # luma and two of colour

Denoise = Callable[[Mapping[str, Any]], Float32]
"""Evaluates the denoiser on named arrays; returns the clean picture, (1, 3, H, W)."""


@dataclass(frozen=True)
class Setting:
    """One way of painting."""

    name: str
    denoise: Denoise
    steps: int
    guidance: float = 1.0  # above 1, each step takes two evaluations


def paint(setting: Setting, text: Float32, shard: Shard, i: int, strength: float) -> Float32:
    """Paint the shard's painting number i: (3, H, W) in [-1, 1].

    Args:
        text: features of its caption's tokens, (TEXT_TOKENS, TEXT_DIM).
    """
    draft = shard.draft[i // PAINTINGS]
    rows, cols = (s // PATCH for s in draft.shape[:2])
    cos, sin = rotary(rows, cols, 0)
    known = {
        "draft": hide(draft, strength, np.random.default_rng(i))[None],
        "text": text[None],
        "reference": np.zeros((1, 0, 4 * PATCH * PATCH), np.float32),
        "strength": np.array([strength], np.float32),
        "style": np.eye(len(STYLES), dtype=np.float32)[[shard.style[i]]],
        "cos": cos,
        "sin": sin,
    }
    unknown = known | {name: np.zeros_like(known[name]) for name in ("text", "style")}
    state = samplers.begin(samplers.noise(i, (1, 3, rows * PATCH, cols * PATCH)), levels.schedule(setting.steps))
    while not state.finished:
        now = {"x": state.x, "t": np.array([state.t], np.float32)}
        y = setting.denoise({**now, **known})
        if setting.guidance != 1:
            y = samplers.guided(y, setting.denoise({**now, **unknown}), setting.guidance)
        state = samplers.multistep(state, y)
    return np.asarray(state.x[0])


def measures(picture: Float32, target: Float32) -> tuple[float, float, float]:
    """Error, detail and look (see the module) of a picture, (H, W, 3) in [0, 255] as its target."""
    error = float(np.abs(picture - target).mean())
    ours, theirs = (np.array([abs(d).mean() for d in _slopes(x)]).sum() for x in (picture, target))
    spreads = [np.log(_spreads(x) + 0.5) for x in (picture, target)]  # half a grey level is no texture
    return error, float(ours / theirs), float(np.abs(spreads[0] - spreads[1]).mean())


def _slopes(x: Float32) -> tuple[Float32, Float32]:
    return x[:, 1:] - x[:, :-1], x[1:] - x[:-1]


def _spreads(x: Float32) -> Float32:
    """Standard deviations of both slopes and of the Laplacian in three scales, and of the colours: (30,)."""
    x = x @ GREY.T
    found = [x.std((0, 1))]
    for _ in range(3):
        across, down = _slopes(x)
        laplacian = 4 * x[1:-1, 1:-1] - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:]
        found += [f.std((0, 1)) for f in (across, down, laplacian)]
        h, w = (s // 2 for s in x.shape[:2])
        x = x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3).mean((1, 3))
    return np.concatenate(found)


def in_torch(network: Network, device: str) -> Denoise:
    """A network in torch as the function that OpenVINO's is, in bf16."""
    network = network.eval().to(device)

    @torch.inference_mode()
    def denoise(inputs: Mapping[str, Any]) -> Float32:
        given = {name: torch.from_numpy(value).to(device) for name, value in inputs.items()}
        with torch.autocast(device, torch.bfloat16):
            y: Float32 = network(**given).float().cpu().numpy()
        return y

    return denoise


def load(path: Path, device: str) -> Denoise:
    """The denoiser of an exported folder, run by OpenVINO, or of a checkpoint, run by torch."""
    if path.suffix == ".pt":
        saved = torch.load(path, map_location="cpu", weights_only=True)
        network = Network(Config(depth=saved["run"]["depth"], styles=len(STYLES)))
        network.load_state_dict(saved["average"])
        return in_torch(network, device)
    from limner.runtime.openvino import Network as Compiled  # not installed where GPUs train

    return Compiled(read_weights(path)[1], precision="bf16")


@dataclass(frozen=True)
class Row:
    """A setting's means over all paintings; error also by style."""

    name: str
    error: float
    detail: float
    look: float
    milliseconds: float
    by_style: Mapping[str, float]


def evaluate(settings: Sequence[Setting], shard: Shard, count: int, strength: float = 0.0) -> list[Row]:
    """Rows for the draft and for each setting, over the first `count` of the shard's paintings."""
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    styles = [STYLES[s] for s in shard.style[:count]]
    for i in range(len(styles)):
        target = shard.target[i].astype(np.float32)
        found["draft"].append(measures(shard.draft[i // PAINTINGS].astype(np.float32), target))
        text = words().tokens(str(shard.caption[i]), TEXT_TOKENS)
        for setting in settings:
            began = time.perf_counter()
            x = paint(setting, text, shard, i, strength)
            seconds[setting.name].append(time.perf_counter() - began)
            found[setting.name].append(
                measures(np.asarray((x.clip(-1, 1).transpose(1, 2, 0) + 1) * 127.5, np.float32), target)
            )
    rows = []
    for name, values in found.items():
        error, detail, look = (float(v) for v in np.mean(values, axis=0))
        by_style = {
            s: float(np.mean([v[0] for v, of in zip(values, styles, strict=True) if of == s])) for s in set(styles)
        }
        rows.append(Row(name, error, detail, look, 1000 * float(np.median(seconds[name] or [0])), by_style))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as text: the four numbers of each, then the error by style."""
    width = max(len(row.name) for row in rows) + 2
    lines = ["".ljust(width) + "   error  detail    look      ms"]
    lines += [f"{r.name:{width}}{r.error:8.2f}{r.detail:8.2f}{r.look:8.3f}{r.milliseconds:8.0f}" for r in rows]
    lines += ["", "error by style".ljust(width) + "".join(f"{name[:9]:>10}" for name in STYLES)]
    for r in rows:
        cells = (f"{r.by_style[s]:10.2f}" if s in r.by_style else " " * 10 for s in STYLES)
        lines.append(f"{r.name:{width}}" + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the denoiser against its targets.")
    parser.add_argument("--weights", type=Path, required=True, help="exported folder, or checkpoint.pt (run by torch)")
    parser.add_argument("--against", type=Path, help="another: what was to be distilled")
    parser.add_argument("--many", type=int, default=0, help="paint in so many steps too, with --against if it is there")
    parser.add_argument("--guidance", type=float, default=1.0, help="and again with this guidance")
    parser.add_argument("--paintings", type=int, default=128)
    parser.add_argument("--strength", type=float, default=0.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of checkpoints")
    args = parser.parse_args()
    denoise = load(args.weights, args.device)
    settings = [Setting(f"{steps} steps", denoise, steps) for steps in STEPS]
    other, kind = denoise, ""
    if args.against:
        other, kind = load(args.against, args.device), ", undistilled"
        settings += [Setting(f"{steps} steps{kind}", other, steps) for steps in STEPS]
    for guidance in sorted({1.0, args.guidance}) if args.many else ():
        more = "" if guidance == 1 else f", guidance {guidance:g}"
        settings.append(Setting(f"{args.many} steps{kind}{more}", other, args.many, guidance))
    shard = make(HELD_OUT, Bank.load())
    print(table(evaluate(settings, shard, args.paintings, args.strength)))  # noqa: T201  # this command's output


if __name__ == "__main__":
    main()
