"""Train the matting network on composites, from the network for people or from an earlier run.

    python -m limner.painter.training.matting_train --subjects runs/matting/subjects --out runs/matting/a

A step's composites and its learning rate follow from the step's number, so a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from PIL import Image
from torch import Tensor

from limner.painter.training.matting import Matting, loss_of
from limner.painter.training.matting_data import SIDE, Pool, batch
from limner.painter.training.matting_export import widen
from limner.painter.training.matting_people import people

SMALL = 128


@dataclass(frozen=True, slots=True)
class Run:
    """What decides the weights that come out."""

    steps: int = 600
    batch: int = 16
    rate: float = 1e-3
    warmup: int = 20
    ema: float = 0.99
    seed: int = 0
    small: float = 0.7  # share of the steps, from the first on, that see composites of SMALL pixels a side

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to nothing."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))


def train(
    run: Run,
    start: onnx.ModelProto,
    pool: Pool,
    out: Path,
    *,
    seconds: float = math.inf,
    stop_at: int | None = None,
    every: int = 100,
) -> Matting:
    """Train from `start` until the run's last step, or for so many seconds, or up to `stop_at`.

    Returns the averaged network.

    Writes `out`/checkpoint.pt, log.jsonl and sheet.png; starts from the checkpoint if there is one.

    Raises:
        ValueError: the checkpoint in `out` belongs to a run with other settings.
    """
    torch.manual_seed(run.seed)
    # One thread learns and one composes: on two busy cores that is three times as fast as two that wait for each other.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    out.mkdir(parents=True, exist_ok=True)
    network, average = Matting(start), Matting(start)
    optimizer = torch.optim.AdamW(network.parameters(), lr=run.rate, weight_decay=0.02)
    step, checkpoint = 0, out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if saved["run"] != asdict(run):
            raise ValueError(f"{checkpoint} belongs to another run, {saved['run']}. Give another --out.")
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]

    def load(number: int) -> tuple[Tensor, Tensor]:
        first = run.seed * 10**9 + number * run.batch
        pictures, alphas = batch(
            range(first, first + run.batch), pool, SMALL if number < run.small * run.steps else SIDE
        )
        return torch.from_numpy(pictures), torch.from_numpy(alphas)

    began, since, recent = time.monotonic(), step, []
    last = run.steps if stop_at is None else min(stop_at, run.steps)
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(load, step)
        while step < last and time.monotonic() - began < seconds:
            pictures, alphas = following.result()
            following = ahead.submit(load, step + 1)
            optimizer.param_groups[0]["lr"] = run.learning_rate(step)
            loss = loss_of(network(pictures.contiguous(memory_format=torch.channels_last)), alphas)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                keep = min(run.ema, (1 + step) / (10 + step))
                for own, mean in zip(network.parameters(), average.parameters(), strict=True):
                    mean.lerp_(own, 1 - keep)
            step += 1
            recent.append(loss.item())
            if step % 25 == 0:
                spent = time.monotonic() - began
                rate = round((step - since) * run.batch / spent, 1)
                line = {"step": step, "loss": round(float(np.mean(recent)), 4), "images_per_second": rate}
                recent = []
                with (out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line | {"seconds": round(spent)}) + "\n")
            if step % every == 0:
                _save(checkpoint, run, step, network, average, optimizer)
                sheet(average, pool, out / "sheet.png")
        following.cancel()
    sheet(average, pool, out / "sheet.png")
    _save(checkpoint, run, step, network, average, optimizer)
    return average


def _save(
    path: Path, run: Run, step: int, network: Matting, average: Matting, optimizer: torch.optim.Optimizer
) -> None:
    state = {
        "run": asdict(run), "step": step, "network": network.state_dict(), "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    torch.save(state, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


@torch.no_grad()
def sheet(network: Matting, pool: Pool, path: Path) -> None:
    """Composites that were never trained on, what the network finds in them, and the truth, side by side."""
    pictures, alphas = batch(range(10**15, 10**15 + 24), pool)
    found = torch.sigmoid(network(torch.from_numpy(pictures))).numpy()
    rows = np.concatenate((pictures, found.repeat(3, 1), alphas.repeat(3, 1)), axis=3).transpose(0, 2, 3, 1)
    lines = rows.reshape(8, 3, *rows.shape[1:]).transpose(0, 2, 1, 3, 4)
    whole = lines.reshape(8 * rows.shape[1], 3 * rows.shape[2], 3)
    Image.fromarray((whole * 255).astype(np.uint8)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the matting network.")
    parser.add_argument("--subjects", type=Path, required=True, help="what matting_subjects wrote")
    parser.add_argument("--packages", type=Path, default=Path("runs/packages"), help="npm packages, fetched if absent")
    parser.add_argument("--start", type=Path, help="a things.onnx to go on from, else the network for people")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and sheet")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long, to be resumed")
    for name, field in Run.__dataclass_fields__.items():
        parser.add_argument(f"--{name}", type=type(field.default), default=field.default)
    args = parser.parse_args()
    run = Run(**{name: getattr(args, name) for name in Run.__dataclass_fields__})
    start = widen(args.start) if args.start else people(args.packages)
    train(run, start, Pool.load(args.subjects, held=False), args.out, seconds=args.seconds)


if __name__ == "__main__":
    main()
