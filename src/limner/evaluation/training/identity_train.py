"""Train and export the identity network.

    python -m limner.evaluation.training.identity_train --sprites runs/identity.npz --out runs/identity --steps 3000

It learns to find, for a look at something painted, the right one among references; half of the wrong ones are of its
own family and differ in a trait or two (supervised contrast by InfoNCE, van den Oord et al. 2018, arXiv:1807.03748).
What a step does follows from its number, and a checkpoint holds the rest, so a run may be killed and started again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional

from limner.evaluation import identity
from limner.evaluation.training.identity_network import IdentityNetwork
from limner.evaluation.training.identity_sprites import Sprites
from limner.evaluation.training.identity_views import painted_look, reference_look
from limner.painter.folder import described
from limner.painter.training.export import halve

TEMPERATURE = 0.07
HELD_OUT = 10  # every so manieth family is for validation


@dataclass(frozen=True)
class Run:
    """A training run: everything that its result depends on, beside data and code."""

    steps: int = 3000
    batch: int = 128
    rate: float = 2e-3
    warmup: int = 100
    seed: int = 0
    start: str = ""  # checkpoint of another run, whose weights are taken

    def learning_rate(self, step: int) -> float:
        rise = min(1.0, (step + 1) / self.warmup)
        return self.rate * rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))


def pairs(run: Run, data: Sprites, step: int, held: bool = False) -> tuple[Tensor, Tensor]:
    """Looks at the sprites of this step as references and as painted, both (B, 3, SIDE, SIDE) in [-1, 1].

    Half of them are of whole families. A pure function of its arguments.
    """
    rng = np.random.Generator(np.random.Philox(key=run.seed + (step << 64)))
    (pool,) = np.nonzero((data.family % HELD_OUT == 0) == held)
    chosen = set(rng.choice(pool, min(run.batch // 2, len(pool)), replace=False).tolist())
    while len(chosen) < min(run.batch, len(pool)):
        family = data.family[rng.choice(pool)]
        chosen |= set(np.flatnonzero(data.family == family).tolist())
    rows = sorted(chosen)[: run.batch] if held else rng.permutation(sorted(chosen))[: run.batch]
    draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
    sprites = torch.from_numpy(data.sprite[rows]).permute(0, 3, 1, 2) / 255
    backs = data.scenery[rng.choice(len(data.scenery), len(rows))]
    scenery = torch.from_numpy(backs).permute(0, 3, 1, 2) / 255
    return 2 * reference_look(sprites, draw) - 1, 2 * painted_look(sprites, scenery, draw) - 1


def contrast(references: Tensor, painted: Tensor) -> Tensor:
    """How badly each finds its partner among all of the other kind; both (B, FEATURES), of length 1."""
    likeness = painted @ references.T / TEMPERATURE
    own = torch.arange(len(painted))
    loss: Tensor = functional.cross_entropy(likeness, own) + functional.cross_entropy(likeness.T, own)
    return loss / 2


def train(run: Run, data: Sprites, out: Path, seconds: float = math.inf, every: int = 100) -> IdentityNetwork:
    """Train until the last step or for so many seconds; writes `out`/checkpoint.pt and log.jsonl.

    Raises:
        ValueError: the checkpoint in `out` is of a run with other settings.
    """
    torch.manual_seed(run.seed)
    out.mkdir(parents=True, exist_ok=True)
    network = IdentityNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), run.rate, weight_decay=0.02)
    step, checkpoint = 0, out / "checkpoint.pt"
    if run.start and not checkpoint.exists():
        network.load_state_dict(torch.load(run.start, weights_only=True)["network"])
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["run"] != asdict(run):
            raise ValueError(f"{checkpoint} belongs to another run, {saved['run']}.")
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    began, losses = time.monotonic(), []
    while step < run.steps and time.monotonic() - began < seconds:
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate(step)
        references, painted = pairs(run, data, step)
        network.train()
        with torch.autocast("cpu", torch.bfloat16):
            # Channels last is a quarter faster on a CPU.
            both = network(torch.cat((references, painted)).contiguous(memory_format=torch.channels_last))
        loss = contrast(*both.float().chunk(2))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        step += 1
        losses.append(loss.item())
        if step % every == 0 or step == run.steps:
            line = {"step": step, "loss": round(float(np.mean(losses)), 4), "held_out_first": first(network, run, data),
                    "seconds": round(time.monotonic() - began)}  # fmt: skip
            losses = []
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            _save(checkpoint, run, step, network, optimizer)
    _save(checkpoint, run, step, network, optimizer)
    return network


def _save(path: Path, run: Run, step: int, network: IdentityNetwork, optimizer: torch.optim.Optimizer) -> None:
    state = {"run": asdict(run), "step": step, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


@torch.no_grad()
def first(network: IdentityNetwork, run: Run, data: Sprites) -> float:
    """The share of held-out looks that find their own reference first in batches of families."""
    network.eval()
    right = []
    for k in range(4):
        references, painted = pairs(run, data, k, held=True)
        right.append((network(painted) @ network(references).T).argmax(1) == torch.arange(len(painted)))
    return round(float(torch.cat(right).float().mean()), 4)


def export(network: IdentityNetwork, out: Path, about: dict[str, Any]) -> None:
    """Write `out`/identity.onnx, its matrices in float16, and meta.json. `about` is what it says of the training."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / identity.FILE
    look = torch.zeros(2, 3, identity.SIDE, identity.SIDE)
    torch.onnx.export(
        network.eval().float(), (look,), str(path), input_names=["x"], output_names=["features"],
        dynamic_axes={"x": {0: "batch"}, "features": {0: "batch"}}, opset_version=18, dynamo=False,
    )  # fmt: skip
    model = onnx.load(str(path))
    halve(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    meta = {
        "format": identity.FORMAT, "kind": identity.KIND, "side": identity.SIDE, "features": identity.FEATURES,
        "parameters": sum(p.numel() for p in network.parameters()),
        "files": {path.name: described(path.read_bytes())}, "training": about,
    }  # fmt: skip
    (out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the identity network and export it.")
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--weights", type=Path, help="folder to export to")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long, to be resumed")
    parser.add_argument("--steps", type=int, default=Run.steps)
    parser.add_argument("--start", default=Run.start, help="checkpoint of another run to take the weights of")
    args = parser.parse_args()
    run, data = Run(steps=args.steps, start=args.start), Sprites.load(args.sprites)
    network = train(run, data, args.out, args.seconds)
    if args.weights is not None:
        lines = (args.out / "log.jsonl").read_text().splitlines()
        export(network, args.weights, {**asdict(run), **json.loads(lines[-1])})


if __name__ == "__main__":
    main()
