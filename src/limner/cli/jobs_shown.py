"""Jobs in words: many as a table, one as lines. What came from callers cannot steer the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from limner.cli.legible import one_line

if TYPE_CHECKING:
    from limner.client import Job

SHOWN_DIGITS = 8
"""Of a job's id, in tables and in the names of files."""

COLOURS = {"queued": "cyan", "running": "yellow", "done": "green", "failed": "red", "cancelled": "dim"}


ELSEWHERE = frozenset({"prompt", "model", "width", "height", "n", "scene"})
"""What of a job's request stands in lines of its own, or is too long."""


def table(found: Sequence[Job]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    shown = Table(
        Column("id", no_wrap=True),
        "state",
        Column("age", justify="right", no_wrap=True),
        Column("pictures", no_wrap=True),
        Column("steps", justify="right", no_wrap=True),
        Column("model", no_wrap=True),
        Column("prompt", no_wrap=True, overflow="ellipsis", ratio=1),
        box=None,
        pad_edge=False,
        expand=sys.stdout.isatty(),
    )
    for job in found:
        steps = "" if job.steps is None else f"{job.step}/{job.steps}"
        state = Text(job.state, COLOURS[job.state])
        name, model, prompt = (Text(one_line(told)) for told in (short(job.id), job.model, job.prompt))
        shown.add_row(name, state, _age(job.created_at), _size(job), steps, model, prompt)
    Console(width=None if sys.stdout.isatty() else _wide()).print(shown)


def describe(job: Job) -> None:
    """A job in lines of name and value."""
    from rich.console import Console
    from rich.text import Text

    ended = f", {_span(job)}" if job.finished_at is not None else ""
    asked = {
        name: value
        for name, value in job.request.items()
        if name not in ELSEWHERE and value not in (None, {}, []) and value is not False
    }
    error = None if job.error is None else job.error.message
    rows = {
        "job": job.id,
        "state": f"{job.state}{f', {job.queue_place} before it' if job.queue_place is not None else ''}",
        "asked": f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S}, {_age(job.created_at)} ago{ended}",
        "model": job.model,
        "prompt": job.prompt,
        "with": ", ".join(f"{name} {value}" for name, value in asked.items() if (name, value) != ("references", 0)),
        "notes": " ".join(job.notes),
        "error": error,
        "kept": f"until {job.expires_at.astimezone():%Y-%m-%d %H:%M}",
    }
    console = Console(width=None if sys.stdout.isatty() else _wide(), highlight=False, soft_wrap=True)
    for name, value in rows.items():
        if value:
            line = Text(f"{name:8}", "bold")
            style = COLOURS[job.state] if name == "state" else "not bold"
            console.print(line.append(Text(one_line(value), style)))
    for picture in job.pictures:
        told = picture.url or (picture.error.message if picture.error else picture.state)
        typer.echo(one_line(f"picture {picture.width}×{picture.height}  seed {picture.seed}  {told}"))


def short(job_id: str) -> str:
    return job_id[:SHOWN_DIGITS]


def _size(job: Job) -> str:
    first = job.pictures[0]
    return f"{len(job.pictures)} × {first.width}×{first.height}"


def _age(moment: datetime) -> str:
    """How long ago, in one unit."""
    seconds = max(0, round((datetime.now(UTC) - moment).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _span(job: Job) -> str:
    """How long a job that has ended waited and took."""
    if job.started_at is None or job.finished_at is None:
        return "never begun"
    waited, took = job.started_at - job.created_at, job.finished_at - job.started_at
    return f"waited {waited.total_seconds():.1f} s, took {took.total_seconds():.1f} s"


def _wide() -> int:
    """Columns of a table that goes into a file or another program."""
    return int(os.environ.get("COLUMNS", "200"))
