"""`limner evaluate`: how well the painter follows prompts, measured as the field measures it (docs/evaluation.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from limner.engine.core import UInt8
    from limner.evaluation.evaluate import Result
    from limner.pipelines.painter import PainterPipeline

REFERENCE = "reference"
"""The task that is none of GenEval's: a character that the prompt's author brings along."""


def evaluate(
    strengths: Annotated[
        str | None, typer.Option(metavar="LIST", help="Strengths to paint at, such as 0,0.3,0.6,1.  [default: its own]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Pictures of each prompt; 2 or more tell variety.")] = 1,
    tasks: Annotated[
        str | None, typer.Option(metavar="LIST", help="Only these, such as counting,position,reference.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts of each task.")] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write sheets of pictures with verdicts.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole record.")] = None,
) -> None:
    """Measure how well the painter shows what prompts ask for."""
    import json
    import time

    from rich.console import Console

    from limner.errors import LimnerError

    names, levels = _tasks(tasks), _strengths(strengths)
    for path in (sheet, json_file):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"{path.parent} is no folder.")
    console, record, began = Console(), dict[str, object](), time.perf_counter()
    try:
        from limner.evaluation import report
        from limner.pipelines.painter import PainterPipeline

        pipeline = PainterPipeline.load()
        record["fingerprint"] = pipeline.fingerprint
        if names != [REFERENCE]:
            result = _geneval(pipeline, names, levels, seeds, limit)
            for table in report.tables(result):
                console.print(table, "")
            record |= report.record(result)
            if sheet is not None:
                _sheets(result, sheet)
        if REFERENCE in names:
            record[REFERENCE] = [_reference(pipeline, level, limit, sheet, console) for level in levels]
    except LimnerError as error:
        typer.echo(f"limner: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("limner: stopped.", err=True)
        raise typer.Exit(130) from None
    console.print(f"{time.perf_counter() - began:.0f} s, weights {pipeline.fingerprint}")
    if json_file is not None:
        json_file.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _tasks(text: str | None) -> list[str]:
    from limner.evaluation.prompts import TASKS

    known = [*TASKS, REFERENCE]
    names = known if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"There is no task {name!r}. Choose from {', '.join(known)}.", param_hint="--tasks"
            )
    return [name for name in known if name in names]


def _strengths(text: str | None) -> list[float | None]:
    if text is None:
        return [None]
    levels: list[float | None] = []
    for part in text.split(","):
        try:
            level = float(part)
        except ValueError:
            level = -1.0
        if not 0 <= level <= 1:
            raise typer.BadParameter(f"{part!r} is no strength: those are from 0 to 1.", param_hint="--strengths")
        levels.append(level)
    return levels


def _geneval(
    pipeline: PainterPipeline, names: list[str], levels: list[float | None], seeds: int, limit: int | None
) -> Result:
    """Paint and judge, with a bar on standard error where that is a terminal."""
    from limner.evaluation import evaluate as evaluation
    from limner.evaluation import prompts
    from limner.evaluation.detector import Detector
    from limner.painter.bank import Bank

    detector, bank = Detector.load(), Bank.load()
    asked = evaluation.chosen(prompts.read(), [task for task in prompts.TASKS if task in names], limit)
    with _bar() as watch:
        return evaluation.evaluate(pipeline, detector, bank, asked, levels, seeds, watch)


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A function to call with what is done, how much of it, and of how much."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("loading", total=None)
        now = ""

        def watch(what: str, done: int, of: int) -> None:
            nonlocal now
            if what != now:
                progress.reset(bar, description=what)
                now = what
            progress.update(bar, completed=done, total=of)

        yield watch


def _sheets(result: Result, path: Path) -> None:
    """A sheet of each strength, and one of the true renderings beside it."""
    from limner.evaluation import report

    pages = {"-truth": result.truth}
    for round_ in result.rounds:
        pages["" if len(result.rounds) == 1 else f"-{round_.strength:g}"] = round_.judged
    for suffix, judged in pages.items():
        _save(report.sheet(judged), path.with_stem(path.stem + suffix))


def _reference(
    pipeline: PainterPipeline, level: float | None, limit: int | None, sheet: Path | None, console: Console
) -> dict[str, object]:
    """The reference task at one strength: prints its table, writes its sheet, returns its part of the record."""
    from limner.evaluation import references, report

    with _bar() as watch:
        result = references.evaluate(
            pipeline,
            100 if limit is None else min(limit, 100),
            20 if limit is None else min(limit, 20),
            strength=level,
            progress=partial(watch, "painting references"),
        )
    rows = {
        "attributes kept": (result.kept, result.kept_ceiling),
        "right identity first of 100": (result.first, result.first_ceiling),
        "right thing first of all": (result.things_first, result.things_first_ceiling),
    }
    console.print(report.reference_table(level, rows), "")
    if sheet is not None:
        suffix = "-reference" if level is None else f"-reference-{level:g}"
        _save(references.sheet(result.cases), sheet.with_stem(sheet.stem + suffix))
    record: dict[str, object] = {"strength": level, "cut_out": result.cut}
    return record | {name: {"score": asdict(score), "ceiling": asdict(top)} for name, (score, top) in rows.items()}


def _save(pixels: UInt8, path: Path) -> None:
    from PIL import Image

    from limner.errors import LimnerError

    try:
        Image.fromarray(pixels).save(path)
    except (OSError, ValueError) as error:
        raise LimnerError(f"{path} cannot be written: {error}.") from error
