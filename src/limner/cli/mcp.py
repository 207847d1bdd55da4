"""`limner mcp`: the MCP server, over standard input and output or over HTTP (docs/mcp.md)."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limner.cli.models import Config, sentences
from limner.cli.serve import ending, listen

if TYPE_CHECKING:
    import socket

    from mcp.server import Server

    from limner.client import AsyncClient
    from limner.config import Settings
    from limner.mcp.server import Clients

LEAVE_SECONDS = 3
"""How long streams may take to end when the server stops."""


class Transport(StrEnum):
    stdio = "stdio"
    streamable_http = "streamable-http"


class Results(StrEnum):
    image = "image"
    local = "local"
    url = "url"


ELSEWHERE = {Transport.stdio: ("host", "port", "allow_host"), Transport.streamable_http: ("base_path",)}
"""Options that have no effect over a transport."""


def mcp(
    context: typer.Context,
    transport: Annotated[Transport, typer.Option(help="How programs speak to it.")] = Transport.stdio,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar=["LIMNER_BASE_URL", "MINIMAX_API_HOST"],
            help="The service that paints, with the key in LIMNER_API_KEY; for that of MINIMAX_API_HOST the one in "
            "MINIMAX_API_KEY will do.  [default: this process]",
        ),
    ] = None,
    results: Annotated[
        Results,
        typer.Option(
            envvar=["MINIMAX_API_RESOURCE_MODE", "MINIMAX_RESOURCE_MODE"],
            help="Hand pictures out in the answer, as files below the base path, or as links.",
        ),
    ] = Results.image,
    base_path: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            envvar="MINIMAX_MCP_BASE_PATH",
            help="No file is written outside of it; not over HTTP, where none is written at all.",
        ),
    ] = Path("~/Desktop"),
    host: Annotated[str, typer.Option(help="Address to listen on, over HTTP.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port, over HTTP; 0 takes a free one.")] = 8001,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name that callers over HTTP use; several may be given."),
    ] = None,
    config: Config = None,
) -> None:
    """Paint for chat programs and agents: a server of the Model Context Protocol."""
    with ending(), sentences():
        from limner.errors import InvalidRequest, LimnerError, SettingsInvalid

        for name in ELSEWHERE[transport]:
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":  # what the environment says is for others, too
                raise InvalidRequest(f"--{name.replace('_', '-')} has no effect over {transport}: leave it out.")
        if find_spec("mcp") is None:
            raise LimnerError("limner mcp needs the SDK of the Model Context Protocol: pip install 'limner[mcp]'.")
        from limner import logs
        from limner.client import AsyncClient, LimnerAPIError
        from limner.config import load
        from limner.mcp.server import Handing, create_server

        settings = load(config, host=host, port=port)
        logs.configure(settings.model_copy(update={"log_level": "warning"}))
        try:
            if server is not None:
                AsyncClient(server)
        except LimnerAPIError as error:
            raise SettingsInvalid(error.message) from None
        local = transport == Transport.stdio
        handing = Handing(results.value, base_path if local else None, kept=server is not None)
        served = create_server(lambda: clients(server, config), handing)
        if local:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # else Ctrl-C waits for the thread that reads standard input
            asyncio.run(_stdio(served))
        elif results == Results.local:
            raise SettingsInvalid("Over HTTP no files are written: choose --results image or url.")
        else:
            with listen(settings) as listener:
                asyncio.run(_http(served, server, settings, listener, allow_host or []))


async def _stdio(served: Server[Clients]) -> None:
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (read, write):
        await served.run(read, write, served.create_initialization_options())


async def _http(
    served: Server[Clients], server: str | None, settings: Settings, listener: socket.socket, names: list[str]
) -> None:
    """Raises SettingsInvalid where strangers could paint."""
    import uvicorn

    from limner.api.connections import server_config
    from limner.mcp.http import application, check_open

    address, port = listener.getsockname()[:2]
    await check_open(address, names, server)
    app = application(served, address, names, server)
    config = server_config(app, settings, lifespan="on", timeout_graceful_shutdown=LEAVE_SECONDS)
    scheme = "https" if settings.tls_key else "http"
    typer.echo(
        f"Limner's MCP server at {scheme}://{f'[{address}]' if ':' in address else address}:{port}/mcp", err=True
    )
    # uvicorn raises the signal again once it has stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    await uvicorn.Server(config).serve([listener])


@asynccontextmanager
async def clients(server: str | None, config: Path | None) -> AsyncIterator[Clients]:
    """Clients of the service at `server`, or of one of this process, which starts with the first call that needs it.

    A caller's key is for a `server`; the service of this process has none to know it by.
    """
    from limner.client import AsyncClient

    async with _lazily(lambda: _opened(server, config)) as own:

        @asynccontextmanager
        async def client_of(key: str | None) -> AsyncIterator[AsyncClient]:
            if key is None or server is None:
                yield await own()
                return
            async with AsyncClient(server, key) as client:
                yield client

        yield client_of


@asynccontextmanager
async def _opened(server: str | None, config: Path | None) -> AsyncIterator[AsyncClient]:
    from limner.client import AsyncClient

    if server is not None:
        async with AsyncClient(server) as client:
            yield client
        return

    def imported() -> Callable[..., AbstractAsyncContextManager[AsyncClient]]:
        from limner.cli.local import open_client

        return open_client

    opening = await asyncio.to_thread(imported)  # a second or two, in which other calls are answered
    async with opening(None, config=config) as client:
        yield client


@asynccontextmanager
async def _lazily(
    opened: Callable[[], AbstractAsyncContextManager[AsyncClient]],
) -> AsyncIterator[Callable[[], Awaitable[AsyncClient]]]:
    """Whatever `opened` gives, entered when it is first asked for and left at the end, both in one task.

    Where it could not be opened, whoever asked is told why, and the next one tries again.
    """
    holder: asyncio.Task[None] | None = None
    ready: asyncio.Future[AsyncClient]
    over = asyncio.Event()

    async def hold(ready: asyncio.Future[AsyncClient]) -> None:
        try:
            async with opened() as client:
                ready.set_result(client)
                await over.wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def get() -> AsyncClient:
        nonlocal holder, ready
        if holder is None or holder.done():
            ready = asyncio.get_running_loop().create_future()
            holder = asyncio.create_task(hold(ready))
        return await asyncio.shield(ready)

    try:
        yield get
    finally:
        over.set()
        if holder is not None:
            if not ready.done():
                holder.cancel()
            await asyncio.wait([holder])
