"""How well the detector does on composites that no training saw, over thresholds.

python -m limner.evaluation.training.detector_score --sprites runs/sprites.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from limner.evaluation.classes import COLOURS, NAMES
from limner.evaluation.detector import WEIGHTS, Detection, Detector, apart
from limner.evaluation.training.composites import OTHER, Composer, Composite
from limner.evaluation.training.sprites import Sprites
from limner.evaluation.training.windows import SEED, empty_places

HELD_OUT = 10**9
"""Numbers of pictures from here on are for scoring alone."""
NEAR = 0.06
"""A detection is of a thing where their centres are no farther apart, as a fraction of the picture."""
THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)


@dataclass(frozen=True, slots=True)
class Score:
    """Of all things of our classes that are at least half seen."""

    precision: float
    recall: float
    exact: float  # share of (picture, class) whose things were counted exactly
    colour: float  # share of found recoloured things whose colour was named

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def score(pairs: Sequence[tuple[Composite, Sequence[Detection]]], least: float) -> Score:
    """Hold detections of at least this score against what was composed; hardly seen things count for nothing."""
    right = wrong = missed = exact = asked = named = coloured = 0
    for composite, found in pairs:
        for label in set(composite.labels.tolist()) - {OTHER}:
            here = apart(found, NAMES[label], least)
            things = [k for k in range(len(composite.labels)) if composite.labels[k] == label]
            clear = [k for k in things if composite.seen[k] >= 0.5]
            taken: set[int] = set()
            for one in here:
                near = [
                    k for k in things if k not in taken and np.hypot(*(composite.boxes[k, :2] - (one.x, one.y))) < NEAR
                ]
                if not near:
                    wrong += 1
                    continue
                k = min(near, key=lambda k: float(np.hypot(*(composite.boxes[k, :2] - (one.x, one.y)))))
                taken.add(k)
                right += k in clear
                if composite.colours[k] >= 0:
                    coloured += 1
                    named += COLOURS[composite.colours[k]] == one.colour
            missed += len(set(clear) - taken)
            if len(clear) == len(things):
                asked += 1
                exact += len(here) == len(things)
        absent = {one.concept for one in found} - {NAMES[k] for k in composite.labels if k != OTHER}
        wrong += sum(len(apart(found, concept, least)) for concept in absent)
    return Score(
        right / max(right + wrong, 1), right / max(right + missed, 1), exact / max(asked, 1), named / max(coloured, 1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Score the detector on held-out composites.")
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--count", type=int, default=600)
    args = parser.parse_args()
    detector = Detector.load(args.weights)
    composer = Composer(Sprites.load(args.sprites), empty_places(48, SEED + 1))
    pairs = []
    for k in range(args.count):
        composite = composer(np.random.Generator(np.random.Philox(key=[SEED, HELD_OUT + k])))
        pairs.append((composite, detector(composite.pixels)))
    print("threshold  precision  recall     F1  exact  colour")  # noqa: T201  the table is this command's output
    for least in THRESHOLDS:
        s = score(pairs, least)
        print(f"{least:9.2f}  {s.precision:9.3f}  {s.recall:6.3f}  {s.f1:5.3f}  {s.exact:5.3f}  {s.colour:6.3f}")  # noqa: T201


if __name__ == "__main__":
    main()
