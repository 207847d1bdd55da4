"""Train the full-size network, resumable to the exact step, and export it.

    python -m limner.painter.training.fullsize_train --data runs/fullsize/data --out runs/fullsize/a \
        --export src/limner/painter/weights/fullsize

The loss is the mean absolute error of pixels and of their differences to the right and below, at two sizes: edges count
twice, and nothing rewards texture that the paper does not have.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.engine.core import Float32
from limner.painter.denoiser import STYLES
from limner.painter.fullsize import CELL, DRAFT, SEEN
from limner.painter.training.fullsize_data import Crops
from limner.painter.training.fullsize_export import export
from limner.painter.training.fullsize_network import Network

KINDS = (0.3, 0.35, 0.35)  # shares of native pictures made small, painted small, and the denoiser's
STRONG = 0.35  # the strength above which the denoiser's own pictures are not used: the target is not in them
MOST_DRIFT = 40.0  # grey levels


@dataclass(frozen=True)
class Run:
    """A training run. Everything that its result depends on, beside the data and the code."""

    steps: int = 3000
    batch: int = 12
    side: int = 96  # pixels of what is seen of a crop, a multiple of 8
    rate: float = 3e-3
    warmup: int = 100
    decay_from: float = 0.4  # share of the steps after which the rate falls to zero, in a line
    ema: float = 0.99
    seed: int = 0
    start: str = ""  # checkpoint of another run, whose averaged weights this one begins with

    def learning_rate(self, step: int) -> float:
        rise = min(1.0, (step + 1) / self.warmup)
        fall = min(1.0, (self.steps - step) / max(1.0, self.steps * (1 - self.decay_from)))
        return self.rate * rise * fall


@dataclass(frozen=True)
class Batch:
    seen: Tensor  # (B, h, w, SEEN) in [0, 255]
    condition: Tensor  # (B, CONDITION)
    target: Tensor  # (B, h, w, DRAFT) in [0, 255]


def load_batch(run: Run, crops: Crops, step: int) -> Batch:
    """The batch of this step: a pure function of its arguments."""
    rng = np.random.Generator(np.random.Philox(key=run.seed + (step << 64)))
    rows = [_example(crops, int(i), run.side, rng) for i in rng.integers(len(crops.seen), size=run.batch)]
    return Batch(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))


def _example(crops: Crops, i: int, side: int, rng: np.random.Generator) -> tuple[Float32, Float32, Float32]:
    """Seen, condition and target of a part of one crop, of so many pixels a side."""
    given = crops.seen[i].astype(np.float32)
    told = crops.condition[i]
    strength = float(told[len(STYLES)])
    kind = int(rng.choice(3, p=KINDS)) if strength <= STRONG else int(rng.integers(2))
    target = crops.target[i].astype(np.float32)
    if kind:
        given[..., SEEN - 3 :] = crops.natives[i, kind - 1]
    if kind == 2:  # its tone is kept, and its strokes are not
        drift = np.clip(crops.drift[i], -MOST_DRIFT, MOST_DRIFT)
        target = np.clip(target + _enlarged(drift, target.shape[0]), 0, 255)
    if rng.random() < strength:
        given[..., : SEEN - 3] = crops.other[i][..., : SEEN - 3]
    given[..., SEEN - 3 :] = _worn(given[..., SEEN - 3 :], rng)
    cells = _as_cells(target)
    y, x = (4 * int(k) for k in rng.integers((cells.shape[0] - side // CELL) // 4 + 1, size=2))
    given, cells = (a[y : y + side // CELL, x : x + side // CELL] for a in (given, cells))
    if rng.random() < 0.5:
        return _mirrored(given), told, _mirrored(cells)
    return np.ascontiguousarray(given), told, np.ascontiguousarray(cells)


def _worn(native: Float32, rng: np.random.Generator) -> Float32:
    """A native picture blurred, spotted and tinted a little, as a lesser denoiser might paint it."""
    h, w, _ = native.shape
    if rng.random() < 0.5:
        soft = _enlarged(native.reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3)), h)
        native = native + np.float32(rng.random()) * (soft - native)
    if rng.random() < 0.5:
        spots = rng.standard_normal((h // 4, w // 4, 3), np.float32) * np.float32(rng.uniform(0, 5))
        native = native + _enlarged(spots, h) + rng.standard_normal(3, np.float32) * 2
    return np.clip(np.round(native), 0, 255).astype(np.float32)


def _enlarged(picture: Float32, side: int) -> Float32:
    """(h, w, C), bilinearly, to `side` rows and columns."""
    planes = torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
    large = functional.interpolate(planes, size=(side, side), mode="bilinear", align_corners=False)
    return np.asarray(large[0].permute(1, 2, 0).numpy(), np.float32)


def _as_cells(picture: Float32) -> Float32:
    h, w, c = picture.shape
    cells = picture.reshape(h // CELL, CELL, w // CELL, CELL * c).swapaxes(1, 2)
    return cells.reshape(h // CELL, w // CELL, -1)


def _mirrored(cells: Float32) -> Float32:
    """Left and right exchanged, of cells and in them: (h, w, DRAFT or SEEN)."""
    h, w, _ = cells.shape
    parts = [cells[..., :DRAFT].reshape(h, w, CELL, CELL, 3)[:, ::-1, :, ::-1].reshape(h, w, DRAFT)]
    if cells.shape[2] == SEEN:
        parts.append(cells[..., DRAFT : SEEN - 6].reshape(h, w, CELL, CELL)[:, ::-1, :, ::-1].reshape(h, w, -1))
        parts.append(cells[:, ::-1, SEEN - 6 :])
    return np.ascontiguousarray(np.concatenate(parts, axis=2))


def pixels(cells: Tensor) -> Tensor:
    """(B, h, w, DRAFT) to (B, 3, H, W)."""
    b, h, w, _ = cells.shape
    return cells.reshape(b, h, w, CELL, CELL, 3).permute(0, 5, 1, 3, 2, 4).reshape(b, 3, h * CELL, w * CELL)


def loss_of(network: nn.Module, batch: Batch) -> Tensor:
    """Mean absolute error of pixels and of differences between neighbours, at full and at half size, of [0, 1]."""
    error = pixels(network(batch.seen, batch.condition).float() - batch.target) / 255
    loss = error.abs().mean()
    for _ in range(2):
        loss = loss + (error[..., 1:] - error[..., :-1]).abs().mean()
        loss = loss + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        error = functional.avg_pool2d(error, 2)
    return loss


def train(run: Run, crops: Crops, out: Path, *, seconds: float = math.inf, every: int = 200) -> Network:
    """Train until the run's last step or for so many seconds; return the averaged network.

    Writes `out`/checkpoint.pt and log.jsonl; starts from the checkpoint if there is one.

    Raises:
        ValueError: the checkpoint in `out` belongs to a run with other settings.
    """
    torch.manual_seed(run.seed)
    out.mkdir(parents=True, exist_ok=True)
    network, average = Network().to(memory_format=torch.channels_last), Network()  # type: ignore[call-overload]
    if run.start:
        network.load_state_dict(torch.load(run.start, weights_only=True)["average"])
    average.load_state_dict(network.state_dict())
    opt = torch.optim.AdamW(network.parameters(), lr=run.rate, betas=(0.9, 0.95), weight_decay=1e-4)
    step, checkpoint = 0, out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["run"] != asdict(run):
            raise ValueError(f"{checkpoint} belongs to another run, {saved['run']}; give another --out.")
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        opt.load_state_dict(saved["optimizer"])
        step = saved["step"]
    began, recent = time.monotonic(), []
    while step < run.steps and time.monotonic() - began < seconds:
        for group in opt.param_groups:
            group["lr"] = run.learning_rate(step)
        batch = load_batch(run, crops, step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(run.ema, (1 + step) / (10 + step))
            for a, p in zip(average.parameters(), network.parameters(), strict=True):
                a.lerp_(p, 1 - keep)
        step += 1
        recent.append(loss.item())
        if step % 50 == 0 or step == run.steps:
            spent = time.monotonic() - began
            line = {"step": step, "loss": round(float(np.mean(recent)), 5), "seconds": round(spent)}
            recent = []
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)  # noqa: T201  # progress is this command's output
        if step % every == 0 or step == run.steps:
            _save(checkpoint, run, step, network, average, opt)
    _save(checkpoint, run, step, network, average, opt)
    return average


def _save(path: Path, run: Run, step: int, network: Network, average: Network, opt: torch.optim.Optimizer) -> None:
    state = {
        "run": asdict(run), "step": step, "network": network.state_dict(), "average": average.state_dict(),
        "optimizer": opt.state_dict(),
    }  # fmt: skip
    torch.save(state, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


def load_crops(folder: Path) -> Crops:
    """All crops of a folder.

    Raises:
        ValueError: it holds none.
    """
    loaded = [Crops.load(path) for path in sorted(folder.glob("*.npz"))]
    if not loaded:
        raise ValueError(f"{folder} holds no crops; make them with limner.painter.training.fullsize_data.")
    return Crops(*(np.concatenate([getattr(c, name) for c in loaded]) for name in Crops.__slots__))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the full-size network.")
    parser.add_argument("--data", type=Path, required=True, help="folder of crops")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--export", type=Path, help="folder for the network that ships")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long, to be resumed")
    for name, field in Run.__dataclass_fields__.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(field.default), default=field.default)
    args = parser.parse_args()
    run = Run(**{name: getattr(args, name) for name in Run.__dataclass_fields__})
    network = train(run, load_crops(args.data), args.out, seconds=args.seconds)
    if args.export:
        export(network, args.export, asdict(run))


if __name__ == "__main__":
    main()
