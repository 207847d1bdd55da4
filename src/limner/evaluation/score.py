"""Numbers from verdicts: shares with their intervals, and how unlike the pictures of several seeds are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from limner.engine.core import UInt8

Z = 1.959964
"""Of a normal distribution, 95% lies within so many deviations."""
MOVED = 0.04
"""Two layouts differ where something stands so far off, as a fraction of the picture."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many right of so many."""

    right: int
    asked: int

    @property
    def value(self) -> float:
        """In [0, 1]; nothing asked is nothing right."""
        return self.right / self.asked if self.asked else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true share lies with 95% confidence (Wilson, 1927)."""
        if not self.asked:
            return 0.0, 1.0
        n, p = self.asked, self.value
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Variety:
    """How unlike the pictures of one prompt are, over all pairs of its seeds and all prompts."""

    pictures: float  # mean absolute difference at 64×64, in [0, 1]
    layouts: float  # share of pairs whose scenes differ


def variety(prompts: Sequence[Sequence[tuple[UInt8, dict[str, Any] | None]]]) -> Variety:
    """Compare the pictures and plans of each prompt's seeds, pair by pair.

    Raises:
        ValueError: no prompt has two pictures.
    """
    apart, differ = [], []
    for seeds in prompts:
        small = [
            (np.asarray(Image.fromarray(p).resize((64, 64), Image.Resampling.BOX), np.float32), s) for p, s in seeds
        ]
        for (one, plan), (other, second) in combinations(small, 2):
            apart.append(float(np.abs(one - other).mean()) / 255)
            differ.append(layouts_differ(plan, second))
    if not apart:
        raise ValueError("Variety needs a prompt with at least two pictures.")
    return Variety(float(np.mean(apart)), float(np.mean(differ)))


def layouts_differ(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether two scenes, as JSON, are of other places or have their things elsewhere; plans that are none do not."""
    if one is None or other is None or "items" not in one or "items" not in other:
        return False
    if any(one[key] != other[key] for key in ("place", "backdrop", "time", "weather")):
        return True
    if len(one["items"]) != len(other["items"]):
        return True
    return any(
        any(abs(a[key] - b[key]) > MOVED for key in ("x", "y", "height")) or a["flip"] != b["flip"]
        for a, b in zip(one["items"], other["items"], strict=True)
    )
