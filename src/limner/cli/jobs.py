"""`limner jobs` lists, shows, follows, cancels, deletes and saves the jobs of a service that runs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limner.cli.jobs_shown import describe, short, table
from limner.cli.legible import cut, one_line
from limner.cli.models import AsJson, sentences
from limner.cli.painting import make_folder, write_file

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from limner.client import Client, Job

jobs = typer.Typer(
    no_args_is_help=False,
    add_completion=False,
    help="List, show, watch, cancel, delete and save the jobs of a service that runs; alone it lists them.",
)

HERE = "http://127.0.0.1:8000"
SOUGHT = 1000
"""Among how many of the newest jobs one is found by the first digits of its id."""

STATES = ("queued", "running", "done", "failed", "cancelled")

Server = Annotated[
    str,
    typer.Option(metavar="URL", envvar="LIMNER_BASE_URL", show_envvar=True, help="The service."),
]
Key = Annotated[
    str | None,
    typer.Option(metavar="KEY", envvar="LIMNER_API_KEY", help="Its key, where it asks for one."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="As the list shows it: the first digits will do.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="As the list shows them: the first digits will do.")]
Show = Annotated[
    bool | None,
    typer.Option("--show/--no-show", help="Show the picture in the terminal.  [default: where it can]"),
]


@contextmanager
def answers() -> Iterator[None]:
    """As `sentences`, with the client's errors: what was asked wrongly exits with 2."""
    from limner.client import InvalidRequest, LimnerAPIError

    with sentences():
        try:
            yield
        except LimnerAPIError as error:
            typer.echo(one_line(f"limner: {error.message}"), err=True)
            raise typer.Exit(2 if isinstance(error, InvalidRequest) else 1) from None


State = Annotated[str | None, typer.Option(help=f"One or more of {', '.join(STATES)}, with commas.")]
Limit = Annotated[int, typer.Option(min=1, help="Most jobs.")]


@jobs.callback(invoke_without_command=True)
def _alone(
    context: typer.Context,
    state: State = None,
    limit: Limit = 20,
    as_json: AsJson = False,
    server: Server = HERE,
    key: Key = None,
) -> None:
    if context.invoked_subcommand is None:
        list_jobs(state, limit, as_json, server, key)


@jobs.command(name="list")
def list_jobs(
    state: State = None,
    limit: Limit = 20,
    as_json: AsJson = False,
    server: Server = HERE,
    key: Key = None,
) -> None:
    """List the jobs, the newest first."""
    with answers(), _client(server, key) as client:
        states: Any = None if state is None else [part.strip() for part in state.split(",")]
        if states is not None and not set(states) <= set(STATES):
            raise typer.BadParameter(f"The states are {', '.join(STATES)}.", param_hint="--state")
        found = list(islice(client.jobs(state=states), limit))
        if as_json:
            _print_json([job.document for job in found])
        elif found:
            table(found)
        else:
            typer.echo("There are no jobs." if state is None else f"No job is {' or '.join(states)}.", err=True)


@jobs.command()
def show(
    job_id: Id,
    as_json: AsJson = False,
    picture: Show = None,
    server: Server = HERE,
    key: Key = None,
) -> None:
    """Show one job: what was asked for, how it stands, its pictures."""
    with answers(), _client(server, key) as client:
        job = client.job(_whole(client, job_id))
        if as_json:
            _print_json(job.document)
            return
        describe(job)
        if job.state == "done" and (picture or (picture is None and sys.stdout.isatty())):
            from limner.cli import terminal

            terminal.show([image.data for image in client.result(job.id).images], picture)


@jobs.command()
def cancel(job_ids: Ids, server: Server = HERE, key: Key = None) -> None:
    """Stop jobs; pictures that are done stay."""
    with answers(), _client(server, key) as client:
        for job_id in [_whole(client, given) for given in job_ids]:
            before = client.job(job_id)
            job = client.cancel(job_id)
            said = f"was {before.state} already" if before.ended else f"is {job.state}"
            typer.echo(one_line(f"{short(job_id)} {said}."))


@jobs.command()
def delete(job_ids: Ids, server: Server = HERE, key: Key = None) -> None:
    """Delete jobs with their pictures, for good."""
    with answers(), _client(server, key) as client:
        for job_id in [_whole(client, given) for given in job_ids]:
            client.delete(job_id)
            typer.echo(one_line(f"{short(job_id)} is deleted."))


@jobs.command()
def save(
    job_id: Id,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the files.")] = Path(),
    server: Server = HERE,
    key: Key = None,
) -> None:
    """Save a job's pictures as files, named after the prompt and the seed; waits for one that has not ended."""
    with answers(), _client(server, key) as client:
        from limner.cli.batch_lines import slug

        job = client.job(_whole(client, job_id))
        images = client.result(job.id).images
        make_folder(output)
        for image in images:
            ending = "jpg" if image.format == "jpeg" else image.format
            path = output / f"{slug(job.prompt)}-{short(job.id)}-{image.seed}.{ending}"
            write_file(path, image.data)
            typer.echo(f"{path}  {image.width}×{image.height}  seed {image.seed}")


@jobs.command()
def watch(
    job_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The first digits will do.  [default: all that are under way]")
    ] = None,
    server: Server = HERE,
    key: Key = None,
) -> None:
    """Follow jobs until they have ended, with a bar for each; exits with 1 where one failed or was cancelled."""
    with answers():
        with _client(server, key) as client:
            if job_id is None:
                found = list(islice(client.jobs(state=["running", "queued"]), SOUGHT))[::-1]
            else:
                found = [client.job(_whole(client, job_id))]
        if not found:
            typer.echo("No job is under way.", err=True)
            return
        if not all(asyncio.run(_watch(found, server, key))):
            raise typer.Exit(1)


async def _watch(found: Sequence[Job], server: str, key: str | None) -> list[bool]:
    """Follow jobs; whether each was done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from limner.client import AsyncClient

    state = TextColumn("{task.fields[state]}", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), state)
    console = Console()
    live = Progress(*columns, console=console, disable=not console.is_terminal)
    async with AsyncClient(server, key) as client:
        with live as bars:
            return await asyncio.gather(*(_follow(client, job, bars, console.is_terminal) for job in found))


async def _follow(client: Any, job: Job, bars: Bars, shown: bool) -> bool:
    from limner.client import LimnerAPIError

    label = f"{one_line(short(job.id))}  {cut(job.prompt, 32):32}"
    bar: TaskID = bars.add_task(label, total=job.steps, completed=job.step, state=job.state)
    state, said = job.state, ""
    try:
        async for progress in client.follow(job.id):
            state = progress.state
            place = progress.queue_place
            waiting = f"{place} before it" if state == "queued" and place is not None else state
            bars.update(bar, total=progress.steps, completed=progress.step, state=waiting)
    except LimnerAPIError as error:
        ended = await client.job(job.id)
        state, said = ended.state, "" if ended.state == "cancelled" else one_line(error.message)
    bars.update(bar, state=said or state)
    if not shown:
        typer.echo(f"{label}  {said or state}")
    return state == "done"


@contextmanager
def _client(server: str, key: str | None) -> Iterator[Client]:
    from limner.client import Client

    with Client(server, key) as client:
        yield client


def _whole(client: Client, given: str) -> str:
    """A job's id by its first digits. Raises InvalidRequest where there are none or several."""
    from limner.errors import InvalidRequest

    if len(given) == 32:
        return given
    found = [job.id for job in islice(client.jobs(), SOUGHT) if job.id.startswith(given.lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidRequest(f"No job's id begins with {given[:40]!a}; limner jobs lists them.")
    raise InvalidRequest(f"{len(found)} jobs' ids begin with {given[:40]!a}; give more digits.")


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
