"""An evaluation's result to look at: tables, a JSON record, and sheets of pictures with captions and verdicts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from limner.engine.core import UInt8
from limner.evaluation.evaluate import SMALL, Judged, Result, Round
from limner.evaluation.prompts import Task
from limner.evaluation.score import Share

SHEET = 64
"""Pictures on a sheet, eight in a row."""
CAPTION = 40
"""Pixels below a picture for its words."""


def share_of(score: Share, ceiling: Share) -> float:
    """The score as a share of what the detector can tell; 0 where it can tell nothing."""
    return score.value / ceiling.value if ceiling.right else 0.0


def mean_share(round_: Round, ceiling: Mapping[Task, Share]) -> float:
    """The mean of the tasks' shares of the ceiling."""
    values = [share_of(score, ceiling[task]) for task, score in round_.shares().items()]
    return sum(values) / len(values)


def tables(result: Result) -> list[Table]:
    """One table a strength."""
    made = []
    for round_ in result.rounds:
        strength = "the default strength" if round_.strength is None else f"strength {round_.strength:g}"
        table = Table(title=f"GenEval's tasks at {strength}", box=None, title_justify="left", padding=(0, 2, 0, 0))
        table.add_column("task")
        for name in ("pictures", "score", "95% interval", "ceiling", "chance", "of ceiling"):
            table.add_column(name, justify="right")
        scores = round_.shares()
        for task, share in scores.items():
            table.add_row(
                task.replace("-", " "), str(share.asked), f"{share.value:.3f}", _interval(share),
                f"{result.ceiling[task].value:.3f}", f"{_value(result.chance.get(task))}",
                f"{share_of(share, result.ceiling[task]):.3f}",
            )  # fmt: skip
        mean = sum(share.value for share in scores.values()) / len(scores)
        top = sum(result.ceiling[task].value for task in scores) / len(scores)
        whole = f"{mean_share(round_, result.ceiling):.3f}"
        table.add_row("mean", str(len(round_.judged)), f"{mean:.3f}", "", f"{top:.3f}", "", whole, style="bold")
        if round_.variety is not None:
            table.caption = (
                f"over seeds: pictures differ by {round_.variety.pictures:.3f} of full range, "
                f"{round_.variety.layouts:.0%} of pairs have another layout"
            )
            table.caption_justify = "left"
        made.append(table)
    return made


def reference_table(strength: float | None, rows: Mapping[str, tuple[Share, Share]]) -> Table:
    """The reference task's figures, each a score and its ceiling."""
    where = "the default strength" if strength is None else f"strength {strength:g}"
    table = Table(title=f"The reference task at {where}", box=None, title_justify="left", padding=(0, 2, 0, 0))
    table.add_column("figure")
    for name in ("asked", "score", "95% interval", "ceiling", "of ceiling"):
        table.add_column(name, justify="right")
    for name, (share, ceiling) in rows.items():
        table.add_row(
            name, str(share.asked), f"{share.value:.3f}", _interval(share), f"{ceiling.value:.3f}",
            f"{share_of(share, ceiling):.3f}",
        )  # fmt: skip
    return table


def record(result: Result) -> dict[str, Any]:
    """The result as JSON, with the verdict on every picture."""
    return {
        "seconds": round(result.seconds, 1),
        "ceiling": _shares(result.ceiling),
        "chance": _shares(result.chance),
        "truth": [_judged(one) for one in result.truth],
        "rounds": [
            {
                "strength": round_.strength,
                "scores": _shares(round_.shares()),
                "of_ceiling": {task: share_of(s, result.ceiling[task]) for task, s in round_.shares().items()},
                "mean": mean_share(round_, result.ceiling),
                "variety": None
                if round_.variety is None
                else {"pictures": round_.variety.pictures, "layouts": round_.variety.layouts},
                "pictures": [_judged(one) for one in round_.judged],
            }
            for round_ in result.rounds
        ],
    }


def sheet(judged: Sequence[Judged], columns: int = 8) -> UInt8:
    """Up to SHEET pictures, spread evenly over what was judged, each in a green or red frame over its prompt.

    Returns (H, W, 3).
    """
    count = min(SHEET, len(judged))
    shown = [judged[k * len(judged) // count] for k in range(count)]
    rows = -(-count // columns)
    cell = SMALL + 8, SMALL + 8 + CAPTION
    page = Image.new("RGB", (columns * cell[0], rows * cell[1]), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(9)
    for k, one in enumerate(shown):
        x, y = k % columns * cell[0], k // columns * cell[1]
        frame = "#2e9e4f" if one.verdict.right else "#d03b3b"
        draw.rectangle((x + 1, y + 1, x + SMALL + 6, y + SMALL + 6), fill=frame)
        page.paste(Image.fromarray(one.small), (x + 4, y + 4))
        lines = [(line, "#222222") for line in textwrap.wrap(one.prompt.prompt, 36)[:2]]
        lines += [(line, frame) for line in textwrap.wrap(one.verdict.why, 36)[:1]]
        for row, (line, colour) in enumerate(lines):
            draw.text((x + 4, y + SMALL + 9 + 11 * row), line, fill=colour, font=font)
    return np.asarray(page)


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{low:.3f} to {high:.3f}"


def _value(share: Share | None) -> str:
    return "" if share is None else f"{share.value:.3f}"


def _shares(shares: Mapping[Task, Share]) -> dict[str, Any]:
    return {
        task: {"right": s.right, "asked": s.asked, "value": s.value, "interval": list(s.interval)}
        for task, s in shares.items()
    }


def _judged(one: Judged) -> dict[str, Any]:
    return {
        "task": one.prompt.task, "prompt": one.prompt.prompt, "seed": one.seed, "right": one.verdict.right,
        "why": one.verdict.why, "notes": list(one.notes), "seconds": round(one.seconds, 3),
    }  # fmt: skip
