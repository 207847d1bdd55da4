"""Training the detector on shards of windows. Started again with the same command, it goes on from its checkpoint.

python -m limner.evaluation.training.detector_train --data runs/windows --out runs/detector
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.evaluation.classes import COLOURS, NAMES
from limner.evaluation.training.detector_network import Network
from limner.evaluation.training.windows import NOTHING, SEED


@dataclass(frozen=True)
class Run:
    """What a run is; written into its checkpoint and into meta.json."""

    steps: int = 3000
    batch: int = 256
    rate: float = 3e-3
    warmup: int = 100
    ema: float = 0.995
    seed: int = SEED
    start: str = ""  # a checkpoint whose averaged weights this run begins with


Target = dict[str, Tensor]
"""`label`, `colour` (B,) int64, NOTHING where nothing is asked; `size` (B, 2)."""

PARTS = {"there": 1.0, "size": 0.5, "class": 1.0, "colour": 0.5}
"""The parts of the loss and their weights."""


def losses(said: Tensor, target: Target) -> dict[str, Tensor]:
    """The parts of the loss, each a mean over the windows that it is asked of.

    Args:
        said: (B, CHANNELS), what the network says.
        target: of the same windows.
    """
    label, colour = target["label"], target["colour"]
    there = label != NOTHING
    asked = there.sum().clamp(min=1)
    classes, colours = said[:, 3 : 4 + len(NAMES)], said[:, -len(COLOURS) :]
    return {
        "there": functional.binary_cross_entropy_with_logits(said[:, 0], there.float()),
        "size": ((said[:, 1:3] - target["size"]).abs().sum(1) * there).sum() / asked,
        "class": functional.cross_entropy(
            classes, label, ignore_index=NOTHING, reduction="sum", label_smoothing=0.02
        ) / asked,
        "colour": functional.cross_entropy(colours, colour, ignore_index=NOTHING, reduction="sum")
        / (colour != NOTHING).sum().clamp(min=1),
    }  # fmt: skip


def rate_at(step: int, run: Run) -> float:
    """The learning rate of a step: up in a line, level, and down in a line over the last half."""
    return run.rate * min((step + 1) / run.warmup, 1.0, max(2 * (run.steps - step) / run.steps, 0.01))


class Trainer:
    """A run as far as it has come."""

    def __init__(self, run: Run, out: Path) -> None:
        """Begin a run, or take up the one whose checkpoint is in `out`.

        Raises:
            ValueError: the checkpoint there is of another run.
        """
        self.run, self.path, self.step = run, out / "checkpoint.pt", 0
        torch.manual_seed(run.seed)
        self.network = Network()
        if run.start:
            begun = torch.load(run.start, map_location="cpu", weights_only=True)
            self.network.load_state_dict(begun["average"])
        self.average = {k: v.clone() for k, v in self.network.state_dict().items()}
        large = [p for p in self.network.parameters() if p.ndim > 1]
        small = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": large, "weight_decay": 0.03}, {"params": small, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=run.rate, betas=(0.9, 0.98))
        if self.path.exists():
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            if saved["run"] != asdict(run):
                raise ValueError(f"{self.path} is of another run: {saved['run']}.")
            self.network.load_state_dict(saved["network"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.average, self.step = saved["average"], saved["step"]

    def advance(self, features: Tensor, target: Target) -> dict[str, float]:
        """One step on (B, FEATURES, 8, 8); returns the parts of its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, self.run)
        self.network.train()
        parts = losses(self.network.head(features)[:, :, 0, 0], target)
        whole = torch.stack([PARTS[name] * part for name, part in parts.items()]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        whole.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        kept = min(self.run.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - kept)
            else:
                self.average[name].copy_(value)
        return {name: float(part.detach()) for name, part in parts.items()}

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        parts = {
            "run": asdict(self.run), "step": self.step, "network": self.network.state_dict(),
            "average": self.average, "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        whole = self.path.with_suffix(".new")
        torch.save(parts, whole)
        whole.replace(self.path)


class Data:
    """All windows of a folder of shards, in memory: 2.7 KB each."""

    def __init__(self, folder: Path) -> None:
        """Read the shards.

        Raises:
            ValueError: there are none.
        """
        shards = [dict(np.load(path)) for path in sorted(folder.glob("[0-9]*[0-9].npz"))]
        if not shards:
            raise ValueError(f"{folder} has no shards. Make some with `python -m {__package__}.windows`.")
        self._arrays = {name: torch.from_numpy(np.concatenate([shard[name] for shard in shards])) for name in shards[0]}

    def __len__(self) -> int:
        return len(self._arrays["label"])

    def batch(self, run: Run, step: int) -> tuple[Tensor, Target]:
        """The features and targets of a step: drawn by its number alone."""
        rng = np.random.Generator(np.random.Philox(key=[run.seed, step]))
        chosen = torch.from_numpy(rng.integers(len(self), size=run.batch))
        features = self._arrays["features"][chosen].float()
        return features, {name: self._arrays[name][chosen] for name in ("label", "colour", "size")}


def _run(args: argparse.Namespace) -> Run:
    return Run(args.steps, args.batch, args.rate, seed=args.seed, start=args.start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the evaluation's detector.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Run.steps)
    parser.add_argument("--batch", type=int, default=Run.batch)
    parser.add_argument("--rate", type=float, default=Run.rate)
    parser.add_argument("--start", default=Run.start, help="A checkpoint to begin with.")
    parser.add_argument("--seed", type=int, default=Run.seed, help="Of the order of windows.")
    parser.add_argument("--minutes", type=float, default=1e9, help="Stop after so long, to go on later.")
    args = parser.parse_args()
    data, trainer = Data(args.data), Trainer(_run(args), args.out)
    began, first = time.monotonic(), trainer.step
    sums: dict[str, float] = {}
    while trainer.step < trainer.run.steps and time.monotonic() - began < 60 * args.minutes:
        for name, value in trainer.advance(*data.batch(trainer.run, trainer.step)).items():
            sums[name] = sums.get(name, 0.0) + value
        if trainer.step % 100 == 0 or trainer.step == trainer.run.steps:
            speed = (trainer.step - first) / (time.monotonic() - began)
            line = {"step": trainer.step, "steps/s": round(speed, 2), **{k: round(v / 100, 4) for k, v in sums.items()}}
            print(json.dumps(line), flush=True)  # noqa: T201  the log of a long run
            trainer.save()
            sums = {}
    trainer.save()


if __name__ == "__main__":
    main()
