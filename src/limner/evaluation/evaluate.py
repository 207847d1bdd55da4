"""The evaluation: paint every prompt, judge every picture, and hold the shares against what the judge can tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from limner.engine.core import Request, UInt8
from limner.errors import LimnerError
from limner.evaluation import score, truth
from limner.evaluation.detector import Detector
from limner.evaluation.judge import Verdict, judge
from limner.evaluation.painting import Painted, paint
from limner.evaluation.prompts import TASKS, Prompt, Task
from limner.evaluation.score import Share, Variety
from limner.painter.bank import Bank
from limner.pipelines.base import Pipeline

SIDE = 512
"""Width and height of the pictures."""
SMALL = 160
"""Side of the pictures that are kept, for the sheet and for variety."""
SEED = 5_530_000
"""Of the first prompt's first picture; the next prompt's is one more. No training draws with seeds from here on."""
ROUND = 10_000
"""From one seed of a prompt to its next."""

Watch = Callable[[str, int, int], None]
"""Told what is being done, how many pictures of it are done, and of how many."""


def _silent(what: str, done: int, of: int) -> None:
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One picture and what became of it."""

    number: int  # of the prompt, in the list
    prompt: Prompt
    seed: int
    verdict: Verdict
    seconds: float  # to paint it
    small: UInt8  # (SMALL, SMALL, 3)
    plan: dict[str, Any] | None = None  # the scene, as JSON
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """All pictures at one strength."""

    strength: float | None  # None: the pipeline's own default
    judged: tuple[Judged, ...]
    variety: Variety | None  # None where each prompt was painted once

    def shares(self) -> dict[Task, Share]:
        return shares((one.prompt, one.verdict) for one in self.judged)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What an evaluation found."""

    ceiling: dict[Task, Share]  # of true renderings, which a perfect painter would give
    chance: dict[Task, Share]  # of the same, each held against another prompt of its task
    truth: tuple[Judged, ...]
    rounds: tuple[Round, ...]
    seconds: float = field(default=0.0)


def chosen(prompts: Sequence[Prompt], tasks: Iterable[Task], limit: int | None) -> list[tuple[int, Prompt]]:
    """The prompts of these tasks with their numbers, the first `limit` of each."""
    kept: list[tuple[int, Prompt]] = []
    for task in tasks:
        kept += [(number, prompt) for number, prompt in enumerate(prompts) if prompt.task == task][:limit]
    return kept


def evaluate(
    pipeline: Pipeline,
    detector: Detector,
    bank: Bank,
    prompts: Sequence[tuple[int, Prompt]],
    strengths: Sequence[float | None] = (None,),
    seeds: int = 1,
    watch: Watch = _silent,
) -> Result:
    """Judge true renderings of the prompts, then paint and judge each prompt with each seed at each strength.

    Args:
        prompts: as `chosen` gives them; a prompt's seeds follow from its number, whatever others there are.
    """
    began = time.perf_counter()
    ceiling, chance, true = _ceiling(detector, bank, prompts, watch)
    rounds = []
    for strength in strengths:
        what = "painting" if strength is None else f"painting at strength {strength:g}"
        judged: list[Judged] = []
        for number, prompt in prompts:
            for k in range(seeds):
                watch(what, len(judged), len(prompts) * seeds)
                judged.append(_one(pipeline, detector, number, prompt, SEED + number + k * ROUND, strength))
        by_prompt: dict[int, list[tuple[UInt8, dict[str, Any] | None]]] = {}
        for one in judged:
            by_prompt.setdefault(one.number, []).append((one.small, one.plan))
        varied = score.variety(list(by_prompt.values())) if seeds > 1 and judged else None
        rounds.append(Round(strength, tuple(judged), varied))
    return Result(ceiling, chance, tuple(true), tuple(rounds), time.perf_counter() - began)


def shares(verdicts: Iterable[tuple[Prompt, Verdict]]) -> dict[Task, Share]:
    """The share that is right, of each task that was asked, in the order of TASKS."""
    counts: dict[Task, list[bool]] = {}
    for prompt, verdict in verdicts:
        counts.setdefault(prompt.task, []).append(verdict.right)
    return {task: Share(sum(counts[task]), len(counts[task])) for task in TASKS if task in counts}


def _ceiling(
    detector: Detector, bank: Bank, prompts: Sequence[tuple[int, Prompt]], watch: Watch
) -> tuple[dict[Task, Share], dict[Task, Share], list[Judged]]:
    found, true = [], []
    for done, (number, prompt) in enumerate(prompts):
        watch("judging true renderings", done, len(prompts))
        picture = truth.drawn(prompt, SEED + number, bank)
        found.append(detector(picture))
        true.append(Judged(number, prompt, SEED + number, judge(prompt, found[-1]), 0.0, _small(picture)))
    others = _others([prompt for _, prompt in prompts])
    wrong = [(prompts[k][1], judge(prompts[other][1], found[k])) for k, other in others]
    return shares((one.prompt, one.verdict) for one in true), shares(wrong), true


def _others(prompts: Sequence[Prompt]) -> list[tuple[int, int]]:
    """Each prompt's place in the list, with that of the next of its task that asks for something else."""
    pairs = []
    for k, prompt in enumerate(prompts):
        after = [*range(k + 1, len(prompts)), *range(k)]
        other = next(
            (j for j in after if prompts[j].task == prompt.task and prompts[j].include != prompt.include), None
        )
        if other is not None:
            pairs.append((k, other))
    return pairs


def _one(
    pipeline: Pipeline, detector: Detector, number: int, prompt: Prompt, seed: int, strength: float | None
) -> Judged:
    request = Request(f"{number}-{seed}", prompt.prompt, seed, SIDE, SIDE, strength=strength)
    began = time.perf_counter()
    try:
        painted = paint(pipeline, request)
    except LimnerError as error:  # a prompt that cannot be painted is a wrong picture, and the evaluation goes on
        painted = Painted(np.zeros((SIDE, SIDE, 3), np.uint8), None, ())
        verdict = Verdict(False, f"not painted: {error}")
    else:
        verdict = judge(prompt, detector(painted.pixels))
    seconds = time.perf_counter() - began
    return Judged(number, prompt, seed, verdict, seconds, _small(painted.pixels), painted.plan, painted.notes)


def _small(pixels: UInt8) -> UInt8:
    return np.asarray(Image.fromarray(pixels).resize((SMALL, SMALL), Image.Resampling.BOX))
