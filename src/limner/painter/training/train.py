"""Train the denoiser: resumable to the exact step, on two CPU cores or one GPU alike.

    python -m limner.painter.training.train --data runs/data --out runs/depth8 --depth 8 --steps 60000

What a step does follows from its number alone (the batch, the crop, the noise), and a checkpoint holds the rest, so a
run that was killed and started again ends in the same weights. The first part of a run sees crops, which cost a
quarter of a whole picture and teach light, ink and texture as well; the last part sees whole pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from limner.engine import levels, samplers
from limner.painter.denoiser import PATCH, REFERENCE_TOKENS, STYLES, hide, rotary
from limner.painter.training import export
from limner.painter.training.batches import Batch, Pictures, load_batch, load_pictures
from limner.painter.training.data import PAINTINGS
from limner.painter.training.network import Config, Network

LOGGED = 50  # steps between lines of the log
STRENGTHS = (0.0, 0.3, 0.6, 1.0)  # of a sheet's columns

Objective = Callable[[nn.Module, Batch], Tensor]
"""The loss of a network on a batch, a scalar."""


@dataclass(frozen=True)
class Run:
    """A training run. Everything that its result depends on, beside the data and the code."""

    depth: int = 6
    steps: int = 7000
    batch: int = 24  # crops in a step; whole pictures in a step have as many tokens
    whole_from: float = 0.7  # share of the steps after which pictures are whole; 1: never
    decay_from: float = 0.7  # share of the steps after which the rate falls to zero, in a line
    warmup: int = 200
    rate: float = 1.5e-3
    ema: float = 0.999
    seed: int = 0
    start: str = ""  # checkpoint or exported .onnx, whose weights are taken where names and shapes agree
    first: int = 0  # the step to begin at: where the run was whose weights `start` names, if it is to go on
    objective: str = ""  # what is learnt, if not the data's own paintings: `distill` says it here

    def learning_rate(self, step: int) -> float:
        rise = min(1.0, (step - self.first + 1) / self.warmup)
        fall = min(1.0, (self.steps - step) / max(1.0, self.steps * (1 - self.decay_from)))
        return self.rate * rise * fall

    def whole(self, step: int) -> bool:
        """Whether this step sees whole pictures."""
        return step >= self.whole_from * self.steps


@dataclass(frozen=True)
class Limits:
    """How a run is carried out; its result does not depend on it, but for the device's and the compiler's rounding."""

    device: str = "cpu"
    compiled: bool = True
    seconds: float = math.inf  # stop after so long, to be resumed
    save_seconds: float = 150  # between checkpoints
    sheet_steps: int = 1000  # steps between sheets
    peak_tflops: float = 0.0  # what the device could do at most, in 10^12 operations a second; 0: not known


def loss_of(network: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of the velocity that follows from the predicted clean picture."""
    x = samplers.noised(batch.clean, batch.noise, batch.t)
    y = network(x, batch.t, **batch.known)
    wanted, given = (samplers.velocity(clean, x, batch.t) for clean in (batch.clean, y))
    loss: Tensor = (wanted - given).square().mean()
    return loss


def optimizers(network: Network, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else."""
    matrices = [p for p in network.blocks.parameters() if p.ndim == 2 and min(p.shape) > 6]
    chosen = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(run: Run, data: Path, out: Path, limits: Limits, objective: Objective = loss_of) -> Network:
    """Train until the run's last step or its time is over, whichever comes first; return the averaged network.

    Writes `out`/checkpoint.pt, log.jsonl and sheet-<step>.png; starts from the checkpoint if there is one.

    Raises:
        ValueError: the checkpoint in `out` belongs to a run with other settings, or `data` lacks shards or their text.
    """
    began = time.monotonic()
    torch.manual_seed(run.seed)
    torch.set_float32_matmul_precision("high")
    out.mkdir(parents=True, exist_ok=True)
    device, checkpoint = limits.device, out / "checkpoint.pt"
    shards = load_pictures(data, device)
    network = Network(Config(depth=run.depth, styles=len(STYLES))).to(device)
    if run.start and not checkpoint.exists():
        _take(read(Path(run.start)), network)
    average = Network(network.config).to(device)
    average.load_state_dict(network.state_dict())
    opts = optimizers(network, run.rate)
    step = _resume(checkpoint, run, network, average, opts, device) if checkpoint.exists() else run.first
    if limits.compiled:
        network.compile_blocks()

    pace, saved = _Pace(run, network.config, limits), time.monotonic()
    ahead = ThreadPoolExecutor(1)
    following = ahead.submit(load_batch, run, shards, step)
    while step < run.steps and time.monotonic() - began < limits.seconds:
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = run.learning_rate(step)
        batch = following.result()
        if step + 1 < run.steps:
            following = ahead.submit(load_batch, run, shards, step + 1)
        with torch.autocast(device, torch.bfloat16):
            loss = objective(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(run.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)
        step += 1
        pace.count(batch, loss.detach())
        if step % LOGGED == 0 or step == run.steps:
            pace.write(step, out / "log.jsonl")
        if time.monotonic() - saved > limits.save_seconds:
            _save(checkpoint, run, step, network, average, opts)
            saved = time.monotonic()
        if step % limits.sheet_steps == 0 or step == run.steps:
            sheet(average, shards, out / f"sheet-{step:06d}.png", device)
    ahead.shutdown()
    pace.write(step, out / "log.jsonl")
    _save(checkpoint, run, step, network, average, opts)
    return average


class _Pace:
    """What the log says of a run's way: loss, speed, time left."""

    def __init__(self, run: Run, config: Config, limits: Limits) -> None:
        self._run, self._config, self._peak = run, config, limits.peak_tflops
        self._began = time.monotonic()
        self._restart()

    def _restart(self) -> None:
        self._since, self._steps, self._images, self._operations = time.monotonic(), 0, 0, 0.0
        self._losses: list[Tensor] = []  # read when a line is due: reading makes a GPU wait

    def count(self, batch: Batch, loss: Tensor) -> None:
        rows, cols = (s // PATCH for s in batch.clean.shape[2:])
        references = batch.reference.shape[1] // REFERENCE_TOKENS
        self._steps += 1
        self._images += len(batch.t)
        self._operations += 3 * len(batch.t) * self._config.operations(rows * cols, references)
        self._losses.append(loss)

    def write(self, step: int, log: Path) -> None:
        """Add a line, after this step, about the steps since the line before, if there were any; print it too."""
        if not self._steps:
            return
        loss = float(torch.stack(self._losses).mean())  # waits for the device, so that the times below are whole
        spent = time.monotonic() - self._since
        tflops = self._operations / spent / 1e12
        line = {
            "step": step,
            "loss": round(loss, 4),
            "whole": self._run.whole(step - 1),
            "images_per_second": round(self._images / spent, 1),
            "tflops": round(tflops, 3),
            "seconds": round(time.monotonic() - self._began),
            "seconds_left": round(spent / self._steps * (self._run.steps - step)),
        }
        if self._peak:
            line["share_of_peak"] = round(tflops / self._peak, 3)
        with log.open("a") as f:
            f.write(json.dumps(line) + "\n")
        print(line, flush=True)  # noqa: T201  # progress is this command's output
        self._restart()


def _resume(
    path: Path, run: Run, network: Network, average: Network, opts: list[torch.optim.Optimizer], device: str
) -> int:
    """Take up a checkpoint; returns the steps done."""
    saved = torch.load(path, map_location=device, weights_only=True)
    if saved["run"] != asdict(run):
        raise ValueError(f"{path} belongs to another run, {saved['run']}; give another --out or the same settings.")
    network.load_state_dict(saved["network"])
    average.load_state_dict(saved["average"])
    for opt, state in zip(opts, saved["optimizers"], strict=True):
        opt.load_state_dict(state)
    return int(saved["step"])


def _save(
    path: Path, run: Run, step: int, network: Network, average: Network, opts: list[torch.optim.Optimizer]
) -> None:
    state = {
        "run": asdict(run), "step": step, "network": network.state_dict(), "average": average.state_dict(),
        "optimizers": [o.state_dict() for o in opts],
    }  # fmt: skip
    torch.save(state, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


def read(path: Path) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint, or those of an exported .onnx, by the names of the network's parameters."""
    if path.suffix == ".onnx":
        return export.weights(path)
    average: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["average"]
    return average


def _take(weights: dict[str, Tensor], network: Network) -> None:
    """Copy the weights that the network has too, in the same shape; the others stay as they were initialised."""
    own = network.state_dict()
    network.load_state_dict(
        {k: weights[k] if k in weights and weights[k].shape == v.shape else v for k, v in own.items()}
    )


@torch.no_grad()
def sheet(network: Network, shards: list[Pictures], path: Path, device: str, steps: int = 4) -> None:
    """Paint eight drafts and write rows of draft, picture at strengths 0, 0.3, 0.6 and 1, and target."""
    shard = next((s for s in shards if s.grid[0] == s.grid[1]), shards[0])
    rows, cols = shard.grid
    h, w = rows * PATCH, cols * PATCH
    picks = [i + (i // 3) % PAINTINGS for i in range(0, 24, 3)]
    drafts = [shard.draft[i // PAINTINGS].reshape(h, w, 3).cpu().numpy() for i in picks]
    columns = [drafts]
    known: dict[str, Any] = {
        "text": shard.text[picks].float(),
        "reference": torch.zeros(len(picks), 0, 4 * PATCH * PATCH),
        "style": torch.eye(len(STYLES))[shard.style[picks].tolist()],
    } | dict(zip(("cos", "sin"), map(torch.from_numpy, rotary(rows, cols, 0)), strict=True))
    for strength in STRENGTHS:
        hidden = [hide(draft, strength, np.random.default_rng(i)) for i, draft in zip(picks, drafts, strict=True)]
        known |= {"draft": torch.from_numpy(np.stack(hidden)), "strength": torch.full((len(picks),), strength)}
        given = {name: value.to(device) for name, value in known.items()}
        noise = np.stack([samplers.noise(i, (3, h, w)) for i in picks])
        state = samplers.begin(torch.from_numpy(noise).to(device), levels.schedule(steps))
        while not state.finished:
            with torch.autocast(device, torch.bfloat16):
                y = network(state.x, torch.full((len(picks),), state.t, device=device), **given)
            state = samplers.euler(state, y)
        columns.append(
            list(((state.x.permute(0, 2, 3, 1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy())
        )
    columns.append([shard.target[i].reshape(h, w, 3).cpu().numpy() for i in picks])
    Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in zip(*columns, strict=True)])).save(path)


def add_options(parser: argparse.ArgumentParser, kind: Any) -> None:
    """An option for each field of a dataclass, with its default."""
    for name, field in kind.__dataclass_fields__.items():
        kinds = argparse.BooleanOptionalAction if isinstance(field.default, bool) else None
        more: dict[str, Any] = {"action": kinds} if kinds else {"type": type(field.default)}
        parser.add_argument(f"--{name.replace('_', '-')}", default=field.default, **more)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the painter's denoiser.")
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and sheets")
    add_options(parser, Run)
    add_options(parser, Limits)
    parser.set_defaults(device="cuda" if torch.cuda.is_available() else "cpu")
    args = vars(parser.parse_args())
    run = Run(**{name: args[name] for name in Run.__dataclass_fields__})
    limits = Limits(**{name: args[name] for name in Limits.__dataclass_fields__})
    train(run, args["data"], args["out"], limits)


if __name__ == "__main__":
    main()
