"""Trains the planner's reader on captions without end.

    python -m limner.painter.training.planner_train --data runs/planner --captions 60000 --steps 6000 --out runs/planner

Writes the captions (resumable, in shards), then trains (resumable, from checkpoint.pt).
`limner.painter.training.planner_export` writes what ships.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from limner.painter.bank import Bank
from limner.painter.planner.chunks import Lexicon, tag
from limner.painter.planner.reader import (
    LEXICAL,
    RELATIONS,
    ROLES,
    Float32,
    TextEncoder,
    lexical,
    rotary,
    word_features,
)
from limner.painter.training.planner_captions import caption, nouns_of
from limner.painter.training.planner_network import Config, Network
from limner.painter.words import Words

SHARD = 2000  # captions
IGNORED = -100
FORGOTTEN = 0.06  # of the words lose what the tables know of them, as words outside the tables have nothing
JOINED = 0.25  # of the batches are of several captions, one after another
POINTING = tuple(r for r in ROLES if r not in ("none", "place", "time", "weather", "style"))
WARM = 50  # steps


@dataclass
class Example:
    """A caption as arrays over its N words."""

    words: npt.NDArray[np.int32]  # rows of the table of word features
    known: npt.NDArray[np.uint8]  # (N, LEXICAL) in bits
    labels: npt.NDArray[np.int16]  # (N, 4): role, relation, head and other, both 0 for none; IGNORED where not learned

    def __len__(self) -> int:
        return len(self.words)


def write_shard(path: Path, first: int, count: int, bank: Bank, encoder: TextEncoder) -> None:
    """Captions number `first` and on, as one file."""
    lexicon, nouns = Lexicon(bank), nouns_of(bank)
    vectors: dict[str, Float32] = {}
    numbers: dict[str, int] = {}
    words, known, labels, lengths = [], [], [], []
    for seed in range(first, first + count):
        made = caption(seed, nouns)
        if made is None:
            continue
        _, found = made
        parts = [t.text for t in found]
        at = {id(token): number for number, token in enumerate(found)}
        for part in set(parts) - vectors.keys():
            vectors[part] = word_features(part, encoder)[0]
            numbers[part] = len(numbers)
        words.append(np.array([numbers[part] for part in parts], np.int32))
        known.append(np.packbits(lexical(tag(parts, lexicon), len(parts)).astype(bool), axis=1))
        rows = []
        for token in found:
            related = token.role == "relation" and token.relation is not None
            head = at.get(id(token.head), -1) + 1 if token.head is not None else 0
            other = at.get(id(token.other), -1) + 1 if token.other is not None else 0
            rows.append(
                (
                    ROLES.index(token.role),
                    RELATIONS.index(token.relation) if related and token.relation else IGNORED,
                    head if token.role in POINTING else IGNORED,
                    other if related else IGNORED,
                )
            )
        labels.append(np.array(rows, np.int16))
        lengths.append(len(parts))
    np.savez(
        path, words=np.concatenate(words), known=np.concatenate(known), labels=np.concatenate(labels),
        lengths=np.array(lengths), vectors=np.stack([vectors[w] for w in numbers]).astype(np.float16),
    )  # fmt: skip


def write_captions(folder: Path, count: int, bank: Bank, encoder: TextEncoder) -> None:
    """All shards that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(-(-count // SHARD)):
        path = folder / f"captions-{number:03}.npz"
        if not path.exists():
            part = path.with_suffix(".part.npz")
            write_shard(part, number * SHARD, min(SHARD, count - number * SHARD), bank, encoder)
            part.rename(path)
            print(f"{path.name} written", flush=True)  # noqa: T201  # progress is this command\'s output


def read_captions(folder: Path) -> tuple[list[Example], Float32]:
    """All examples of a folder, and the features of their words."""
    examples: list[Example] = []
    tables: list[Float32] = []
    start = 0
    for path in sorted(folder.glob("captions-[0-9][0-9][0-9].npz")):
        with np.load(path) as saved:
            ends = np.cumsum(saved["lengths"])[:-1]
            parts = (np.split(saved[name], ends) for name in ("words", "known", "labels"))
            examples += [Example(w + start, k, t) for w, k, t in zip(*parts, strict=True)]
            tables.append(saved["vectors"].astype(np.float32))
            start += len(tables[-1])
    return examples, np.concatenate(tables)


def joined(parts: Sequence[Example]) -> Example:
    """Several examples, one after another."""
    labels, start = [], 0
    for part in parts:
        moved = part.labels.copy()
        ends = moved[:, 2:]
        ends[ends > 0] += start
        labels.append(moved)
        start += len(part)
    return Example(
        np.concatenate([p.words for p in parts]), np.concatenate([p.known for p in parts]), np.concatenate(labels)
    )


def batch_of(examples: Sequence[Example], words: int, step: int) -> list[Example]:
    """The batch of a step, about so many words, of examples of like length; the same for the same step.

    Args:
        examples: in the order of their lengths.
        words: of the whole batch.
        step: decides which.
    """
    rng = np.random.default_rng((2, step))
    if rng.random() < JOINED:
        picked: list[Example] = []
        while sum(map(len, picked)) < words:
            parts = rng.integers(len(examples), size=int(rng.integers(2, 7)))
            picked.append(joined([examples[k] for k in parts]))
        return picked
    start = int(rng.integers(len(examples)))
    count = max(1, words // len(examples[start]))
    first = max(0, min(start, len(examples) - count))
    return list(examples[first : first + count])


def collate(batch: Sequence[Example], vectors: Float32, rng: np.random.Generator | None) -> dict[str, Tensor]:
    """Inputs of the network and labels, (B, N, 4); with `rng`, some words lose what the tables know of them."""
    n = max(map(len, batch))
    features = np.zeros((len(batch), n, vectors.shape[1]), np.float32)
    known = np.zeros((len(batch), n, LEXICAL), np.float32)
    labels = np.full((len(batch), n, 4), IGNORED, np.int64)
    hidden = np.full((len(batch), n), -1e4, np.float32)
    for row, example in enumerate(batch):
        size = len(example)
        features[row, :size] = vectors[example.words]
        known[row, :size] = np.unpackbits(example.known, axis=1, count=LEXICAL)
        labels[row, :size] = example.labels
        hidden[row, :size] = 0
        if rng is not None:
            known[row, :size][rng.random(size) < FORGOTTEN] = 0
    cos, sin = rotary(n)
    arrays = {"features": features, "lexical": known, "cos": cos, "sin": sin, "hidden": hidden, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def losses(found: Tensor, labels: Tensor) -> tuple[Tensor, list[float]]:
    """The sum of the four mean cross entropies, and the shares of right answers: roles, relations, heads, others."""
    n = labels.shape[1]
    parts = torch.split(found, [len(ROLES), len(RELATIONS), n + 1, n + 1], dim=-1)
    total = torch.zeros(())
    right = []
    for number, logits in enumerate(parts):
        wanted = labels[..., number]
        kept = wanted != IGNORED
        if kept.any():
            total = total + functional.cross_entropy(logits[kept].float(), wanted[kept])
            right.append((logits[kept].argmax(-1) == wanted[kept]).float().mean().item())
        else:
            right.append(float("nan"))
    return total, right


def _is_matrix(name: str) -> bool:
    """Whether a parameter is a matrix of a block, which Muon is for."""
    return name.startswith("blocks.") and name.endswith((".qkv.weight", ".out.weight", ".up.weight", ".down.weight"))


def score(network: Network, examples: Sequence[Example], vectors: Float32) -> list[float]:
    """Shares of right answers on held-out captions: roles, relations, heads, others."""
    network.eval()
    rows = []
    with torch.no_grad():
        for start in range(0, len(examples), 32):
            inputs = collate(examples[start : start + 32], vectors, None)
            labels = inputs.pop("labels")
            rows.append(losses(network(**inputs), labels)[1])
    network.train()
    return [float(value) for value in np.nanmean(np.array(rows), axis=0)]


def train(
    folder: Path, out: Path, config: Config, steps: int, words: int, rate: float, minutes: float
) -> dict[str, Any]:
    """Train until `steps`, or until the time is over; goes on from `out`/checkpoint.pt where there is one.

    A run that was stopped and goes on gives the same weights as one that was not.

    Args:
        folder: of captions.
        out: of the checkpoint.
        config: of the network.
        steps: of the whole run.
        words: of a batch.
        rate: the highest learning rate.
        minutes: after these the run stops, to be gone on with.

    Returns:
        The step reached, and the shares of right answers on held-out captions.

    Raises:
        FileNotFoundError: the folder has no captions.
    """
    examples, vectors = read_captions(folder)
    held, kept = examples[: len(examples) // 50], sorted(examples[len(examples) // 50 :], key=len)
    torch.manual_seed(0)
    network = Network(config)
    network.train()
    inner = [p for name, p in network.named_parameters() if _is_matrix(name)]
    outer = [p for name, p in network.named_parameters() if not _is_matrix(name)]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(inner, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    start = 0
    out.mkdir(parents=True, exist_ok=True)
    path = out / "checkpoint.pt"
    if path.exists():
        saved = torch.load(path, weights_only=True)
        network.load_state_dict(saved["network"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        start = saved["step"]
    began, report = time.time(), {}
    run = {"captions": len(examples), "steps": steps, "words": words, "rate": rate}
    for step in range(start, steps):
        scale = min(1.0, (step + 1) / WARM) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        groups = (group for optimiser in optimisers for group in optimiser.param_groups)
        for group, full in zip(groups, rates, strict=True):
            group["lr"] = float(full * scale)
        inputs = collate(batch_of(kept, words, step), vectors, np.random.default_rng((1, step)))
        labels = inputs.pop("labels")
        with torch.autocast("cpu", torch.bfloat16):
            loss, right = losses(network(**inputs), labels)
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        over = time.time() - began > 60 * minutes
        if step % 50 == 0:
            shares = [round(share, 3) for share in right]
            print(f"step {step} loss {loss.item():.3f} right {shares}", flush=True)  # noqa: T201  # progress
        if over or step % 500 == 499 or step == steps - 1:
            report = {"step": step + 1, "held_out": [round(v, 4) for v in score(network, held, vectors)]}
            print(json.dumps(report), flush=True)  # noqa: T201  # progress
            part = path.with_suffix(".part")
            states = [optimiser.state_dict() for optimiser in optimisers]
            torch.save(
                {
                    "network": network.state_dict(),
                    "optimisers": states,
                    "config": config.as_dict(),
                    "run": run,
                    **report,
                },
                part,
            )
            part.rename(path)
        if over:
            break
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description="Train or export the planner's reader.")
    parser.add_argument("--data", type=Path, required=True, help="folder of captions")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--captions", type=int, default=60_000)
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--words", type=int, default=2_000, help="words of a batch")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--depth", type=int, default=3)
    args = parser.parse_args()
    write_captions(args.data, args.captions, Bank.load(), Words.load())
    train(args.data, args.out, Config(depth=args.depth), args.steps, args.words, args.rate, args.minutes)


if __name__ == "__main__":
    main()
