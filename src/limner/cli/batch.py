"""`limner batch` paints the lines of a CSV or JSONL file into a folder, and goes on where it was stopped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from limner.cli.jobs import Key, answers
from limner.cli.legible import one_line
from limner.cli.models import Config
from limner.cli.painting import AtOnce, Order, Server, Where, make_folder, paint, tell_failures
from limner.cli.serve import ending

if TYPE_CHECKING:
    from limner.cli.batch_lines import Line
    from limner.cli.batch_manifest import Manifest

MOST_TOLD: Final = 50
"""Wrong lines that are told one by one."""


def batch(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .csv or .jsonl file; - reads JSONL from standard input.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the pictures.")],
    at_once: AtOnce = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, list what would be painted.")] = False,
    server: Server = None,
    key: Key = None,
    config: Config = None,
) -> None:
    """Paint every line of a file into a folder; the same command again goes on where it was stopped."""
    with ending(), answers():
        from limner.cli.batch_manifest import MANIFEST, Manifest, keep_strangers

        where = Where(server, key, config)
        lines = _checked(file, where)
        if dry_run and not (output / MANIFEST).exists():
            keep_strangers(output, lines)
            _plan(lines, lines, output)
            return
        make_folder(output)
        with Manifest(output) as manifest:
            left = [line for line in lines if not manifest.done(line)]
            manifest.check(left)
            if dry_run:
                _plan(lines, left, output)
                return
            manifest.tidy(lines)
            manifest.begin(left)
            failures: dict[str, str] = {}
            orders = _orders(left, manifest, failures)
            try:
                if orders:
                    asyncio.run(paint(orders, where, at_once, len(lines) - len(left)))
            except KeyboardInterrupt:
                done = sum(manifest.done(line) for line in lines)
                typer.echo(
                    f"limner: stopped; {done} of {len(lines)} lines are done. The same command goes on.", err=True
                )
                raise typer.Exit(130) from None
        there = f", {len(lines) - len(left)} of them before" if len(left) < len(lines) else ""
        typer.echo(f"{len(lines) - len(failures)} of {len(lines)} lines are done in {output}{there}.")
        if failures:
            tell_failures(failures)
            raise typer.Exit(1)


def _checked(file: Path, where: Where) -> list[Line]:
    """The lines of a file, all of which can be painted. Raises InvalidRequest after telling each wrong one."""
    from limner.cli import batch_lines
    from limner.errors import InvalidRequest

    kind, piped = file.suffix.lower(), str(file) == "-"
    if not piped and kind not in (".csv", ".jsonl"):
        raise typer.BadParameter(f"{file} must end in .csv or .jsonl.", param_hint="FILE")
    try:
        data = sys.stdin.buffer.read() if piped else file.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}.", param_hint="FILE") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRequest(f"{file}:{line}: This is not UTF-8; save the file as UTF-8.") from None
    lines, wrong = batch_lines.read(text, kind, where.known(file.parent))
    for number, sentence in wrong[:MOST_TOLD]:
        typer.echo(one_line(f"{file}:{number}: {sentence}"), err=True)
    if wrong:
        more = f" {len(wrong) - MOST_TOLD} more are not shown." if len(wrong) > MOST_TOLD else ""
        lines_are = "1 line is" if len(wrong) == 1 else f"{len(wrong)} lines are"
        raise InvalidRequest(f"{lines_are} wrong, so nothing was painted.{more}")
    if not lines:
        raise InvalidRequest(f"{file} has no line to paint.")
    return lines


def _orders(left: Sequence[Line], manifest: Manifest, failures: dict[str, str]) -> list[Order]:
    """What is left, as orders."""

    def fail(line: Line, sentence: str) -> None:
        failures[f"line {line.number}, {line.files[0]}"] = sentence
        manifest.append([{"line": line.digest, "error": sentence}])

    return [
        Order(
            line.files[0],
            {"seed": manifest.seeds.get(line.digest), **line.fields},
            partial(manifest.keep, line),
            partial(fail, line),
        )
        for line in left
    ]


def _plan(lines: Sequence[Line], left: Sequence[Line], output: Path) -> None:
    """Say what a run would do."""
    for line in left:
        typer.echo(f"{line.number:>6}  {', '.join(line.files)}")
    pictures = sum(len(line.files) for line in left)
    done = f"; {len(lines) - len(left)} are done" if len(left) < len(lines) else ""
    typer.echo(
        f"{len(left)} of {len(lines)} lines would be painted into {output}, {pictures} pictures{done}.", err=True
    )
