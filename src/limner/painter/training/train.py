"""Train the denoiser: resumable to the exact step, on two CPU cores or one GPU alike.

    python -m limner.painter.training.train --data runs/data --out runs/depth8 --depth 8 --steps 60000

What a step does follows from its number alone (the batch, the crop, the noise), and a checkpoint holds the rest, so a
run that was killed and started again ends in the same weights. The first part of a run sees crops, which cost a
quarter of a whole picture and teach light, ink and texture as well; the last part may see whole pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from limner.engine import samplers
from limner.painter.denoiser import PATCH, STYLES, hide, reference_patches, rotary
from limner.painter.training import export
from limner.painter.training.data import PAINTINGS, SCENES, Shard
from limner.painter.training.network import Config, Network

CROP = 8  # tokens on a side of a crop
HIDDEN = 0.25  # share of the examples whose draft is hidden to some degree
FIRST = 0.25  # share of the examples at t = 0, where each picture begins and a picture of few steps spends most


@dataclass(frozen=True)
class Run:
    """A training run. Everything that its result depends on, beside the data and the code."""

    depth: int = 6
    steps: int = 7000
    batch: int = 24  # crops in a step; whole pictures in a step are a quarter of it
    whole_from: float = 1.0  # share of the steps after which pictures are whole; 1: never (LAB_LOG: compiling it)
    decay_from: float = 0.7  # share of the steps after which the rate falls to zero, in a line
    warmup: int = 200
    rate: float = 1.5e-3
    ema: float = 0.999
    seed: int = 0
    start: str = ""  # checkpoint or exported .onnx, whose weights are taken where names and shapes agree

    def learning_rate(self, step: int) -> float:
        rise = min(1.0, (step + 1) / self.warmup)
        fall = min(1.0, (self.steps - step) / max(1.0, self.steps * (1 - self.decay_from)))
        return self.rate * rise * fall


@dataclass(frozen=True)
class Batch:
    """What the network takes, and `clean`, what it should give."""

    clean: Tensor  # (B, 3, H, W) in [-1, 1]
    draft: Tensor  # (B, 4, H, W)
    text: Tensor  # (B, TEXT_TOKENS, TEXT_DIM)
    reference: Tensor  # (B, R, 4 * PATCH * PATCH)
    strength: Tensor  # (B,)
    style: Tensor  # (B, len(STYLES))
    cos: Tensor
    sin: Tensor
    t: Tensor  # (B,)
    noise: Tensor  # like clean

    def to(self, device: str) -> Batch:
        return Batch(**{k: getattr(self, k).to(device, non_blocking=True) for k in self.__dataclass_fields__})


def load_batch(run: Run, shards: list[Shard], step: int) -> Batch:
    """The batch of this step: a pure function of its arguments.

    Raises:
        ValueError: a shard has no token features.
    """
    rng = np.random.Generator(np.random.Philox(key=run.seed + (step << 64)))  # a key each: counters next door overlap
    shard = shards[int(rng.integers(len(shards)))]
    whole = step >= run.whole_from * run.steps
    size = max(1, run.batch // 4) if whole else run.batch
    picks = rng.choice(SCENES * PAINTINGS, size, replace=size > SCENES * PAINTINGS)
    rows, cols = (s // PATCH for s in shard.target.shape[1:3])
    height, width = (rows, cols) if whole else (CROP, CROP)
    top, left = int(rng.integers(rows - height + 1)), int(rng.integers(cols - width + 1))
    view = np.s_[top * PATCH : (top + height) * PATCH, left * PATCH : (left + width) * PATCH]
    references = int(rng.random() < 0.5)
    cos, sin = _tables(rows, cols, top, left, height, width, references)

    if shard.text is None:
        raise ValueError("A shard has no text; run limner.painter.training.data again.")
    clean, draft, reference, strengths, text, style = [], [], [], [], [], []
    for i in picks:
        scene = int(i) // PAINTINGS
        strength = float(rng.random() ** 1.5) if rng.random() < HIDDEN else 0.0
        seen = hide(shard.draft[scene][view], strength, rng)
        if references and rng.random() < 0.5:
            _cover(seen, shard.box[scene] - np.array([top, left, top, left], np.float32))
        mirrored = rng.random() < 0.5
        target = shard.target[i][view].astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
        sprite = shard.sprite[scene]
        if mirrored:
            seen, target, sprite = seen[..., ::-1], target[..., ::-1], sprite[:, ::-1]
        clean.append(target)
        draft.append(seen)
        reference.append(reference_patches(sprite) if references else np.zeros((0, 4 * PATCH * PATCH), np.float32))
        strengths.append(strength)
        text.append(shard.text[i] if rng.random() > 0.1 else np.zeros_like(shard.text[i]))
        style.append(np.eye(len(STYLES))[shard.style[i]] * (rng.random() > 0.1))
    t = samplers.logit_normal(rng.standard_normal(size)) * (rng.random(size) >= FIRST)

    def tensor(x: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.stack(x) if isinstance(x, list) else x).astype(np.float32))

    return Batch(
        clean=tensor(clean), draft=tensor(draft), text=tensor(text), reference=tensor(reference),
        strength=tensor(np.array(strengths)), style=tensor(style), cos=tensor(cos), sin=tensor(sin), t=tensor(t),
        noise=tensor(rng.standard_normal((size, 3, height * PATCH, width * PATCH), np.float32)),
    )  # fmt: skip


def _tables(rows: int, cols: int, top: int, left: int, height: int, width: int, references: int) -> tuple[Any, Any]:
    """Rotary tables of a crop: its cells keep the places that they have in the whole picture."""
    whole = rotary(rows, cols, references)
    inside = (np.arange(rows * cols).reshape(rows, cols)[top : top + height, left : left + width]).ravel()
    keep = np.concatenate((inside, np.arange(rows * cols, len(whole[0]))))
    return whole[0][keep], whole[1][keep]


def _cover(draft: Any, box: Any) -> None:
    """Hide the draft's patches in a box of tokens, so that what stood there can be had from the reference alone."""
    y0, x0, y1, x1 = (int(v) for v in np.round(np.clip(box, 0, 64)))
    draft[:, y0 * PATCH : y1 * PATCH, x0 * PATCH : x1 * PATCH] = 0


def loss_of(network: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of the velocity that follows from the predicted clean picture."""
    x = samplers.noised(batch.clean, batch.noise, batch.t)
    y = network(x, batch.t, batch.draft, batch.text, batch.reference, batch.strength, batch.style, batch.cos, batch.sin)
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


def train(run: Run, data: Path, out: Path, *, device: str, compiled: bool, seconds: float, every: int) -> Network:
    """Train until the run's last step or for so many seconds, whichever comes first; return the averaged network.

    Writes `out`/checkpoint.pt, log.jsonl and sheet-<step>.png; starts from the checkpoint if there is one.

    Raises:
        ValueError: the checkpoint in `out` belongs to a run with other settings, or `data` lacks shards or their text.
    """
    torch.manual_seed(run.seed)
    out.mkdir(parents=True, exist_ok=True)
    shards = [Shard.load(p) for p in sorted(data.glob("[0-9]*")) if p.suffix != ".partial"]
    if not shards:
        raise ValueError(f"{data} holds no shards; make them with limner.painter.training.data.")
    network = Network(Config(depth=run.depth, styles=len(STYLES))).to(device)
    average = Network(network.config).to(device)
    average.load_state_dict(network.state_dict())
    opts = optimizers(network, run.rate)
    step, checkpoint = 0, out / "checkpoint.pt"
    if run.start and not checkpoint.exists():
        _take(_weights(Path(run.start)), network)
        average.load_state_dict(network.state_dict())
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["run"] != asdict(run):
            raise ValueError(
                f"{checkpoint} belongs to another run, {saved['run']}; give another --out or the same settings."
            )
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        for opt, state in zip(opts, saved["optimizers"], strict=True):
            opt.load_state_dict(state)
        step = saved["step"]
    forward: Any = torch.compile(network) if compiled else network

    began, recent, images = time.monotonic(), [], 0
    ahead = ThreadPoolExecutor(1)
    following = ahead.submit(load_batch, run, shards, step)
    while step < run.steps and time.monotonic() - began < seconds:
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = run.learning_rate(step)
        batch = following.result().to(device)
        following = ahead.submit(load_batch, run, shards, step + 1)
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(forward, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(run.ema, (1 + step) / (10 + step))
            for a, p in zip(average.parameters(), network.parameters(), strict=True):
                a.lerp_(p, 1 - keep)
        step += 1
        images += len(batch.t)
        recent.append(loss.item())
        if step % 50 == 0 or step == run.steps:
            spent = time.monotonic() - began
            line = {
                "step": step,
                "loss": round(float(np.mean(recent)), 4),
                "images_per_second": round(images / spent, 1),
                "seconds": round(spent),
            }
            recent = []
            with (out / "log.jsonl").open("a") as f:
                f.write(json.dumps(line) + "\n")
            print(line, flush=True)  # noqa: T201  # progress is this command's output
        if step % every == 0 or step == run.steps:
            _save(checkpoint, run, step, network, average, opts)
            sheet(average, shards, out / f"sheet-{step:06d}.png", device)
    ahead.shutdown()
    _save(checkpoint, run, step, network, average, opts)
    return average


def _save(
    path: Path, run: Run, step: int, network: Network, average: Network, opts: list[torch.optim.Optimizer]
) -> None:
    state = {
        "run": asdict(run), "step": step, "network": network.state_dict(), "average": average.state_dict(),
        "optimizers": [o.state_dict() for o in opts],
    }  # fmt: skip
    torch.save(state, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


def _weights(path: Path) -> dict[str, Tensor]:
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
def sheet(network: Network, shards: list[Shard], path: Path, device: str, steps: int = 8) -> None:
    """Paint eight drafts and write rows of draft, picture at strengths 0, 0.3, 0.6 and 1, and target."""
    shard = next((s for s in shards if s.target.shape[1] == s.target.shape[2]), shards[0])
    if shard.text is None:
        raise ValueError("A shard has no text; run limner.painter.training.data again.")
    rows, cols = (s // PATCH for s in shard.target.shape[1:3])
    cos, sin = (torch.from_numpy(a).to(device) for a in rotary(rows, cols, 0))
    lines = []
    for i in range(0, 24, 3):
        i += (i // 3) % PAINTINGS
        line = [shard.draft[i // PAINTINGS]]
        for strength in (0.0, 0.3, 0.6, 1.0):
            draft = torch.from_numpy(hide(shard.draft[i // PAINTINGS], strength, np.random.default_rng(i)))[None].to(
                device
            )
            text = torch.from_numpy(shard.text[i].astype(np.float32))[None].to(device)
            style = torch.eye(len(STYLES))[int(shard.style[i])][None].to(device)
            none = torch.zeros(1, 0, 4 * PATCH * PATCH, device=device)
            state = samplers.begin(
                torch.from_numpy(samplers.noise(i, (1, 3, rows * PATCH, cols * PATCH))).to(device),
                samplers.schedule(steps),
            )
            while not state.finished:
                t, s = (torch.tensor([v], dtype=torch.float32, device=device) for v in (state.t, strength))
                with torch.autocast(device, torch.bfloat16):
                    y = network(state.x, t, draft, text, none, s, style, cos, sin)
                state = samplers.euler(state, y)
            line.append(((state.x[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy())
        lines.append(np.concatenate([*line, shard.target[i]], axis=1))
    Image.fromarray(np.concatenate(lines)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the painter's denoiser.")
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and sheets")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long, to be resumed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--every", type=int, default=1000, help="steps between checkpoints and sheets")
    for name, field in Run.__dataclass_fields__.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(field.default), default=field.default)
    args = parser.parse_args()
    run = Run(**{name: getattr(args, name) for name in Run.__dataclass_fields__})
    train(run, args.data, args.out, device=args.device, compiled=args.compile, seconds=args.seconds, every=args.every)


if __name__ == "__main__":
    main()
