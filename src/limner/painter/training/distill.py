"""Few steps: distil guidance away, then halve the steps, again and again.

    python -m limner.painter.training.distill --teacher runs/depth6/checkpoint.pt --data runs/data --out runs/few

Two kinds of stage, each a run of `train` with another objective, resumable as any, in a folder of its own under --out:

- `guidance`: one evaluation of the student learns what two of the teacher give together, with the prompt and the style
  and without them (Meng et al., "On distillation of guided diffusion models", 2023; here for one guidance, so that the
  network stays as it is).
- `steps-N`: one step of the student learns where two of its teacher's end, from 2N steps to N (Salimans and Ho,
  "Progressive distillation for fast sampling of diffusion models", 2022). The teacher is the stage before.

Each student starts from its teacher's weights. The network predicts the clean picture, so what a stage learns is the
clean picture that leads a step of the Euler sampler to the right place.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from limner.engine import samplers
from limner.painter.denoiser import STYLES
from limner.painter.training.batches import Batch
from limner.painter.training.network import Config, Network
from limner.painter.training.train import Limits, Objective, Run, add_options, read, train


def guided_by(teacher: nn.Module, guidance: float) -> Objective:
    """The objective of the stage that distils guidance: the error of the velocity, at the batch's own times."""

    def objective(student: nn.Module, batch: Batch) -> Tensor:
        x = samplers.noised(batch.clean, batch.noise, batch.t)
        known = batch.known
        unknown = known | {name: torch.zeros_like(known[name]) for name in ("text", "style")}
        with torch.no_grad():
            wanted = samplers.guided(teacher(x, batch.t, **known), teacher(x, batch.t, **unknown), guidance)
        return _error(student(x, batch.t, **known), wanted, x, batch.t)

    return objective


def halved(teacher: nn.Module, steps: int) -> Objective:
    """The objective of a student that paints in so many steps, of a teacher that paints in twice as many."""

    def objective(student: nn.Module, batch: Batch) -> Tensor:
        t = (batch.t * steps).floor() / steps  # the student's own times; noisy ones are practised most
        x = samplers.noised(batch.clean, batch.noise, t)
        with torch.no_grad():
            wanted = two_steps(teacher, batch, x, t, steps)
        return _error(student(x, t, **batch.known), wanted, x, t)

    return objective


def two_steps(teacher: nn.Module, batch: Batch, x: Tensor, t: Tensor, steps: int) -> Tensor:
    """The clean picture that leads one step of 1/steps from x at t to where two of half the length end."""
    middle, end = t + 0.5 / steps, t + 1 / steps
    known = batch.known
    halfway = samplers.toward(x, teacher(x, t, **known), 1 - t, 1 - middle)
    # The last of all steps ends at 1, give or take a rounding, where a step's line is at its clean picture itself.
    reached = samplers.toward(halfway, teacher(halfway, middle, **known), 1 - middle, 1 - end.clamp(max=1))
    kept = ((1 - end) / (1 - t)).clamp(min=0)[:, None, None, None]
    clean: Tensor = (reached - kept * x) / (1 - kept)
    return clean


def _error(given: Tensor, wanted: Tensor, x: Tensor, t: Tensor) -> Tensor:
    velocities = [samplers.velocity(clean, x, t) for clean in (given, wanted)]
    loss: Tensor = (velocities[0] - velocities[1]).square().mean()
    return loss


@dataclass(frozen=True)
class Stages:
    """What is distilled, and how long."""

    guidance: float = 1.5  # 1: this stage is left out
    guidance_steps: int = 400  # of training
    most: int = 8  # steps of painting of the first student of fewer steps
    fewest: int = 2  # of the last one
    halving_steps: int = 400  # of training, for each halving
    batch: int = 24
    rate: float = 3e-4
    whole_from: float = 0.5
    seed: int = 1000  # not the teacher's, whose batches these would be


def distill(stages: Stages, teacher: Path, data: Path, out: Path, limits: Limits) -> Path:
    """Run what is not done yet of all stages, until the time is over; returns the last checkpoint.

    Raises:
        ValueError: as `train`, or the numbers of steps are not powers of two of each other.
    """
    depth = depth_of(read(teacher))
    plan: list[tuple[str, int]] = [("guidance", stages.guidance_steps)] if stages.guidance != 1 else []
    steps = stages.most
    while steps >= stages.fewest:
        plan.append((f"steps-{steps}", stages.halving_steps))
        if steps % 2 and steps > stages.fewest:
            raise ValueError(f"{steps} steps cannot be halved.")
        steps //= 2
    for name, length in plan:
        fixed = Network(Config(depth=depth, styles=len(STYLES)))
        fixed.load_state_dict(read(teacher))
        fixed = fixed.to(limits.device).eval().requires_grad_(requires_grad=False)
        if limits.compiled:
            fixed.compile_blocks()
        kind, _, count = name.partition("-")
        objective = halved(fixed, int(count)) if kind == "steps" else guided_by(fixed, stages.guidance)
        run = Run(
            depth=depth, steps=length, batch=stages.batch, whole_from=stages.whole_from, warmup=min(50, length),
            rate=stages.rate, ema=0.99, seed=stages.seed, start=str(teacher),
            objective=f"{name} of {asdict(stages)}",
        )  # fmt: skip
        print(name, flush=True)  # noqa: T201  # progress is this command's output
        train(run, data, out / name, limits, objective)
        teacher = out / name / "checkpoint.pt"
        if torch.load(teacher, weights_only=True, map_location="cpu")["step"] < length:
            break
    return teacher


def depth_of(weights: dict[str, Tensor]) -> int:
    """The dial of a network, told by its weights."""
    return len({name.split(".")[1] for name in weights if name.startswith("blocks.")})


def main() -> None:
    parser = argparse.ArgumentParser(description="Distil guidance and steps.")
    parser.add_argument("--teacher", type=Path, required=True, help="checkpoint.pt or denoiser.onnx")
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--out", type=Path, required=True, help="folder for the stages' folders")
    add_options(parser, Stages)
    add_options(parser, Limits)
    parser.set_defaults(device="cuda" if torch.cuda.is_available() else "cpu")
    args = vars(parser.parse_args())
    stages = Stages(**{name: args[name] for name in Stages.__dataclass_fields__})
    limits = Limits(**{name: args[name] for name in Limits.__dataclass_fields__})
    print(distill(stages, args["teacher"], args["data"], args["out"], limits))  # noqa: T201


if __name__ == "__main__":
    main()
