"""What `limner batch` and `limner compare` share: many orders, painted some at a time, with bars on a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from limner.cli.legible import one_line

if TYPE_CHECKING:
    from rich.progress import TaskID

    from limner.cli.batch_lines import Known
    from limner.client import AsyncClient, Job, LimnerAPIError, Progress

Server = Annotated[str | None, typer.Option(metavar="URL", help="A service that runs.  [default: this process paints]")]
AtOnce = Annotated[int, typer.Option("--jobs", min=1, max=64, help="How many are painted at once.")]

BUSY_TRIES: Final = 1000
"""How often an order is sent that the service has no room for."""

LONGEST_WAIT: Final = 60.0
"""Seconds between two such tries, whatever the service says."""

CANCEL_SECONDS: Final = 5
"""How long it may take to cancel a job that is wanted no more."""

LABEL: Final = 32
"""Columns of a label beside its bar."""

FATAL: Final = frozenset({1004, 1008, 2049})
"""Codes of errors that every other order would meet, too (docs/http.md): no key, a wrong one, its quota used up."""

Painted = list[tuple[int, bytes]]
"""Seeds and files of one order's pictures."""

Tell = Callable[["Progress[Any]"], None]
"""Moves an order's bar."""


@dataclass(frozen=True, slots=True)
class Where:
    """Who paints: a service that runs, or, where `server` is None, this process with the settings of `config`."""

    server: str | None
    key: str | None
    config: Path | None

    def known(self, folder: Path) -> Known:
        """What requests are checked against; nothing is loaded for it. Raises LimnerError, LimnerAPIError."""
        from limner.cli.batch_lines import Known
        from limner.client import Abilities, Client

        if self.server is not None:
            with Client(self.server, self.key) as client:
                return Known(folder, {model.id: model.abilities for model in client.models()})
        from limner.config import load
        from limner.models import entries
        from limner.models.abilities import abilities
        from limner.models.registry import LIVE_STYLES

        settings = load(self.config)
        registry = entries.load(settings)
        can: dict[str, Abilities | None] = {}
        for name in registry.names:
            told = Abilities(**asdict(abilities(registry.lookup(name))))
            live = tuple(LIVE_STYLES) if name in registry.live else ()
            most = min(told.references, settings.reference_max_count)
            can[name] = replace(told, live_styles=live, references=most)
        return Known(folder, can, settings.max_prompt_chars if settings.long_prompts == "refuse" else None)


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to paint."""

    label: str
    fields: Mapping[str, Any]  # as `limner.client` takes them
    keep: Callable[[Painted], None]  # called in a thread; what it raises ends everything
    fail: Callable[[str], None]  # told why it could not be painted


async def paint(orders: Sequence[Order], where: Where, at_once: int, there: int = 0) -> None:
    """Paint every order, `at_once` together. Those that fail are told so, and the others go on.

    `there` orders, which are none of these, were done before and count in the bar.

    Raises:
        LimnerError: the service cannot be started, or what was painted cannot be kept.
        LimnerAPIError: the service is gone, or would refuse every other order.
    """
    from limner.cli.local import open_client
    from limner.client import LimnerAPIError

    models = {str(order.fields.get("model") or "image-01") for order in orders}
    fatal: list[LimnerAPIError] = []
    waiting = iter(orders)
    with _bars(len(orders) + there, there) as (begin, finish):

        async def work(client: AsyncClient) -> None:
            for order in waiting:
                told = begin(order.label)
                try:
                    pictures = await _painted(client, order.fields, told, forget=where.server is None)
                    await asyncio.to_thread(order.keep, pictures)
                except LimnerAPIError as error:
                    if _is_fatal(error):
                        fatal.append(error)
                    else:
                        await asyncio.to_thread(order.fail, error.message)
                finally:
                    finish(told)
                if fatal:
                    return

        async with open_client(where.server, where.key, where.config, sorted(models)) as client:
            workers = [asyncio.create_task(work(client)) for _ in range(min(at_once, len(orders)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
    if fatal:
        raise fatal[0]


def _is_fatal(error: LimnerAPIError) -> bool:
    from limner.client import ConnectionFailed

    return isinstance(error, ConnectionFailed) or error.code in FATAL


async def _painted(client: AsyncClient, fields: Mapping[str, Any], tell: Tell, *, forget: bool) -> Painted:
    """One order's pictures, all of them; waits as long as the service has no room. Raises LimnerAPIError."""
    from limner.client import ServiceFailed

    job = await _submitted(client, fields)
    progress = None
    try:
        async for progress in client.follow(job.id):
            tell(progress)
        if progress is None or progress.result is None:
            raise ServiceFailed("The service ended the job without a result; see its log.")
        if progress.result.failed:
            reasons = {picture.error.message for picture in progress.job.pictures if picture.error is not None}
            raise ServiceFailed(f"{progress.result.failed} pictures failed: {' '.join(sorted(reasons))}")
        return [(int(image.seed or 0), await image.read()) for image in progress.result.images]
    finally:
        if forget:  # the service of this process has it in memory
            await _within(client.delete(job.id))
        elif progress is None or progress.result is None:  # it may be under way
            await _within(client.cancel(job.id))


async def _within(call: Coroutine[Any, Any, object]) -> None:
    """A call for a job that is wanted no more, as far as it goes."""
    with suppress(Exception):
        await asyncio.wait_for(call, CANCEL_SECONDS)


async def _submitted(client: AsyncClient, fields: Mapping[str, Any]) -> Job:
    """The job of an order, once there is room for it. Raises LimnerAPIError."""
    from limner.client import RateLimited

    for _ in range(BUSY_TRIES):
        sending = asyncio.create_task(client.submit(**fields))
        try:
            return await asyncio.shield(sending)
        except RateLimited as error:
            busy = error
            await asyncio.sleep(min(error.retry_after or 1.0, LONGEST_WAIT))
        except asyncio.CancelledError:  # the service may have taken it already
            await _within(_cancelled(client, sending))
            raise
    raise busy


async def _cancelled(client: AsyncClient, sending: asyncio.Task[Job]) -> None:
    await client.cancel((await sending).id)


@contextmanager
def _bars(total: int, there: int) -> Iterator[tuple[Callable[[str], Tell], Callable[[Tell], None]]]:
    """A bar for all orders and one for each that is being painted, on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Live

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Live(*columns, console=console, transient=True, disable=not console.is_terminal) as live:
        whole = live.add_task(f"{'all':{LABEL}}", total=total, completed=there)
        rows: dict[Tell, TaskID] = {}

        def begin(label: str) -> Tell:
            row = live.add_task(f"{label[:LABEL]:{LABEL}}", total=None)

            def tell(progress: Progress[Any]) -> None:
                live.update(row, total=progress.steps, completed=progress.step)

            rows[tell] = row
            return tell

        def finish(tell: Tell) -> None:
            live.remove_task(rows.pop(tell))
            live.advance(whole)

        yield begin, finish


def make_folder(path: Path) -> None:
    """Raises StorageFailed."""
    from limner.errors import StorageFailed

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(f"The folder {path} cannot be made: {error.strerror}.") from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises StorageFailed."""
    from limner.client.images import write
    from limner.errors import StorageFailed

    try:
        write(path, data)
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {error.strerror}.") from None


def tell_failures(failures: Mapping[str, str]) -> None:
    """A table on standard error of what could not be painted."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console(stderr=True)
    shown = Table(Column("not painted", no_wrap=True), Column("why", overflow="fold"), box=None, pad_edge=False)
    for label, sentence in failures.items():
        shown.add_row(Text(one_line(label)), Text(one_line(sentence)))
    console.print(shown, soft_wrap=not console.is_terminal)
