"""`limner compare` paints prompts with several seeds each and puts them on one labelled sheet."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from limner.cli.jobs import Key, Show, answers
from limner.cli.models import Config
from limner.cli.painting import AtOnce, Order, Painted, Server, Where, make_folder, paint, tell_failures, write_file
from limner.cli.serve import ending

if TYPE_CHECKING:
    from limner.imaging import Format

MOST_SEEDS: Final = 100

LONGEST_SIDE: Final = {"webp": 16_383, "jpeg": 65_500}
"""Most pixels of a side that a format (WebP) or its encoder (libjpeg) can write; a PNG's are not the limit."""

MOST_PIXELS: Final = 178_000_000
"""Of a sheet: what Pillow still opens, which takes larger pictures for attacks."""

Cell = tuple[int, int]
"""Row and column, from 0."""


def compare(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to paint: a row for each.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The sheet, a .jpg, .png or .webp.")
    ] = Path("compare.png"),
    seeds: Annotated[str, typer.Option(metavar="0,1,2|0-5", help="A column for each.")] = "0-3",
    style: Annotated[str | None, typer.Option(metavar="A,B", help="Styles: each prompt has a row for each.")] = None,
    model: Annotated[str, typer.Option(help="The model.")] = "image-01",
    ratio: Annotated[str | None, typer.Option(help="Ratio of the sides, such as 16:9.  [default: 1:1]")] = None,
    steps: Annotated[int | None, typer.Option(help="Evaluations of the network.")] = None,
    strength: Annotated[float | None, typer.Option(help="0 to 1: how far to leave the draft.")] = None,
    guidance: Annotated[float | None, typer.Option(help="1 and more: how hard to follow the words.")] = None,
    sampler: Annotated[str | None, typer.Option(help="euler, heun, dpm++2m, multistep, ddim or lcm.")] = None,
    negative: Annotated[str | None, typer.Option(help="What to stay away from; not of the painter.")] = None,
    side: Annotated[int, typer.Option(min=64, max=2048, help="Longer side of a picture on the sheet, pixels.")] = 512,
    files: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the pictures themselves, too.")] = None,
    show: Show = None,
    at_once: AtOnce = 2,
    server: Server = None,
    key: Key = None,
    config: Config = None,
) -> None:
    """Paint prompts with several seeds each, and put them on one labelled sheet."""
    with ending(), answers():
        from limner.cli import batch_lines
        from limner.client.images import format_of

        kind = format_of(output)
        columns = _seeds(seeds)
        styles = [None] if style is None else [name.strip() for name in style.split(",") if name.strip()]
        asked = {
            "model": model, "aspect_ratio": ratio, "steps": steps, "strength": strength, "guidance": guidance,
            "sampler": sampler, "negative_prompt": negative,
        }  # fmt: skip
        given = {name: value for name, value in asked.items() if value is not None}
        rows = [
            {**given, "prompt": prompt} | ({} if name is None else {"style": name})
            for prompt in prompts
            for name in styles
        ]
        where = Where(server, key, config)
        known = where.known(Path())
        for row in rows:
            batch_lines.check(row, known)
        _check_sheet(rows, columns, ratio or "1:1", side, kind)
        if files is not None:
            make_folder(files)
        cells: dict[Cell, bytes] = {}
        failures: dict[str, str] = {}
        asyncio.run(paint(_orders(rows, columns, cells, failures, files), where, at_once))
        if cells:
            sheet = _sheet(rows, columns, cells, side, kind)
            write_file(output, sheet)
            if show or (show is None and sys.stdout.isatty()):
                from limner.cli import terminal

                terminal.show([sheet], show)
            typer.echo(f"{output}  {len(rows)} × {len(columns)} pictures")
        if failures:
            tell_failures(failures)
            raise typer.Exit(1)


def _orders(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[int],
    cells: dict[Cell, bytes],
    failures: dict[str, str],
    files: Path | None,
) -> list[Order]:
    """An order for each cell, which goes into `cells`, and into `files`, once it is painted."""
    from limner.cli.batch_lines import slug

    def keep(cell: Cell, name: str, pictures: Painted) -> None:
        ((_, data),) = pictures
        cells[cell] = data
        if files is not None:
            write_file(files / f"{name}.png", data)

    orders, names = [], set[str]()
    for row, fields in enumerate(rows):
        first = "-".join(filter(None, (slug(fields["prompt"]), fields.get("style"))))
        further = (f"{first}-{number}" for number in count(row + 1))  # for prompts that differ in later words
        name = next(name for name in chain([first], further) if name not in names)
        names.add(name)
        for column, seed in enumerate(columns):
            label = f"{name}-{seed}"
            painted = partial(keep, (row, column), label)
            fail = partial(failures.__setitem__, label)
            orders.append(Order(label, {**fields, "seed": seed, "format": "png"}, painted, fail))
    return orders


def _seeds(text: str) -> list[int]:
    """The seeds of `0,1,2` and `0-5`, mixed as you like, each once."""
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,19})(?:-(\d{1,19}))?\s*", part)
        if found is None:
            raise typer.BadParameter(f"{part!r} is no seed and no range such as 0-5.", param_hint="--seeds")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < 2**63:
            raise typer.BadParameter(f"{part} is no range of seeds from 0 to 2**63 - 1.", param_hint="--seeds")
        seeds += range(first, min(last, first + MOST_SEEDS) + 1)
    seeds = list(dict.fromkeys(seeds))
    if len(seeds) > MOST_SEEDS:
        raise typer.BadParameter(f"There are more than {MOST_SEEDS} seeds.", param_hint="--seeds")
    return seeds


def _check_sheet(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[int], ratio: str, side: int, kind: Format
) -> None:
    """Raises InvalidRequest where the sheet would be too large to write or to read."""
    from limner.api.contract import size_of
    from limner.cli import sheet
    from limner.errors import InvalidRequest

    width, height = sheet.layout(*size_of(ratio, extra=True), len(rows), _heads(columns), side).size
    most = LONGEST_SIDE.get(kind, MOST_PIXELS)
    if max(width, height) > most or width * height > MOST_PIXELS:
        fits = width * height <= MOST_PIXELS
        advice = "end its name in .png" if fits else "ask for fewer prompts or seeds"
        why = f"a {kind} has at most {most} a side" if fits else f"at most {MOST_PIXELS} in all can be read again"
        raise InvalidRequest(f"The sheet would have {width}×{height} pixels, and {why}; {advice}, or lower --side.")


def _sheet(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[int], cells: Mapping[Cell, bytes], side: int, kind: Format
) -> bytes:
    """The file of the contact sheet."""
    import numpy as np
    from PIL import Image

    from limner import imaging
    from limner.cli import sheet

    pictures = {cell: np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.uint8) for cell, data in cells.items()}
    drawn = sheet.labelled(
        [[pictures.get((row, column)) for column in range(len(columns))] for row in range(len(rows))],
        [" · ".join(filter(None, (row["prompt"], row.get("style")))) for row in rows],
        _heads(columns),
        side,
    )
    return imaging.encode(drawn, kind)


def _heads(columns: Sequence[int]) -> list[str]:
    return [f"seed {seed}" for seed in columns]
