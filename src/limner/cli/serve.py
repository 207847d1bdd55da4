"""`limner serve` runs the service; `limner open` shows its page, and runs the service where none answers."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limner.cli.models import Config, sentences

if TYPE_CHECKING:
    import socket

    import uvicorn

    from limner.config import Settings
    from limner.models.registry import Registry
    from limner.service import Service

ANSWER_SECONDS = 5
"""How long answers may take to reach their callers after `grace_seconds`."""

LOOK_SECONDS = 2
"""How long a service may take to say that it is one."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.  [default: 8000]")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHTS",
            help="Weights of a model: image-01=/models/sd-turbo. Several may be given; each wins over the models file.",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Run the service until Ctrl-C or SIGTERM."""
    _run(config, model or (), host=host, port=port)


def open_studio(
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="LIMNER_BASE_URL",
            help="One that runs.  [default: this machine's, or a new one]",
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open nothing.")] = False,
    config: Config = None,
) -> None:
    """Open the studio in the browser; where no service answers, run one until Ctrl-C."""
    with sentences():
        import webbrowser

        from limner.config import load
        from limner.errors import LimnerError, SettingsInvalid

        def show(address: str) -> None:
            typer.echo(f"The studio is at {address}/")
            if not no_browser and not webbrowser.open(f"{address}/"):
                typer.echo("No browser could be opened; open that address in one.", err=True)

        if server is not None:
            address = server.rstrip("/").removesuffix("/v1").rstrip("/")
            if _who(address) != "limner":
                raise LimnerError(f"No Limner answers at {address}. Start one there with `limner serve`.")
            show(address)
            return
        settings = load(config)
        if not settings.studio:
            raise SettingsInvalid("The setting studio is off, so there is no page to open; turn it on.")
        address = _address(settings, settings.port)
        who = _who(address) if settings.port else "nobody"
        if who == "limner":
            show(address)
            return
        if who == "other":
            typer.echo(f"Something else answers at {address}; a free port is taken instead.", err=True)
    _run(config, (), port=0 if who == "other" else None, started=show)


def _run(
    config: Path | None,
    models: Iterable[str],
    *,
    host: str | None = None,
    port: int | None = None,
    started: Callable[[str], None] | None = None,
) -> None:
    """Serve until a signal ends it; `started` is told the address, in a thread of its own, once it answers there."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ending(), sentences():
        from limner import logs
        from limner.api.app import create_app
        from limner.api.connections import server_config
        from limner.config import load
        from limner.models import entries
        from limner.service import build_service
        from limner.tenants import keys_line

        settings = with_models(load(config, host=host, port=port), models)
        registry = entries.load(settings)
        logs.configure(settings)
        with listen(settings) as listener:
            port = listener.getsockname()[1]
            service = build_service(settings)
            with service.database.transaction(writing=False) as connection:
                who = keys_line(settings, connection)
            typer.echo(_banner(settings, registry, who, port))
            grace = math.ceil(settings.grace_seconds) + ANSWER_SECONDS
            options = server_config(create_app(settings, service), settings, timeout_graceful_shutdown=grace)
            server = _server(options, service, started and partial(started, _address(settings, port)))
            # uvicorn raises the signal again once it has stopped: then this ends nothing that still runs.
            signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
            server.run(sockets=[listener])


def _who(address: str) -> str:
    """Who answers at an address: `limner`, `other` or `nobody`."""
    import httpx2

    try:
        reply = httpx2.get(f"{address}/readyz", timeout=LOOK_SECONDS, trust_env=False)
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.InvalidURL, httpx2.UnsupportedProtocol):
        return "nobody"
    except httpx2.HTTPError:
        return "other"
    try:
        document = reply.json()
    except ValueError:
        return "other"
    return "limner" if isinstance(document, dict) and {"status", "models"} <= document.keys() else "other"


def _address(settings: Settings, port: int) -> str:
    """Where a browser of this machine reaches a service with these settings."""
    host = settings.host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it listens is the operator's word
    return f"{'https' if settings.tls_key else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def ending() -> Iterator[None]:
    """Leave at once where a model is still being loaded: nothing can stop its thread, and the interpreter's own end
    would abort the native code that it is in."""
    try:
        yield
    except (SystemExit, typer.Exit) as end:
        _leave_if_loading(end.code if isinstance(end, SystemExit) else end.exit_code)
        raise
    _leave_if_loading(0)


def _leave_if_loading(code: object) -> None:
    if "limner.engine.loading" in sys.modules:  # else nothing ever was
        from limner.engine import loading

        if loading.busy():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)


def _server(config: uvicorn.Config, service: Service, started: Callable[[], None] | None) -> uvicorn.Server:
    """A server that stops the service first, so that every call is answered before its connection is closed."""
    import asyncio
    import threading

    import uvicorn

    class Graceful(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if started is not None and self.started:  # a browser in the terminal returns only when it is left
                threading.Thread(target=started, daemon=True).start()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            stopping = asyncio.create_task(service.stop())
            await super().shutdown(sockets)
            await stopping

    return Graceful(config)


def listen(settings: Settings) -> socket.socket:
    """A listening socket, so that a port of 0 is known before the first request. Raises LimnerError."""
    import socket

    from limner.errors import LimnerError

    host = settings.host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise LimnerError(f"The address {host} cannot be listened on: {error.strerror}.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise LimnerError(
            f"Port {settings.port} of {host} cannot be listened on: {error.strerror}. Stop what uses it, or choose "
            f"another with --port (0 takes a free one)."
        ) from None
    return listener


def with_models(settings: Settings, pairs: Iterable[str]) -> Settings:
    """The settings with models of the command line over those of `models`. Raises typer.BadParameter."""
    given = {}
    for pair in pairs:
        name, _, weights = pair.partition("=")
        if not name.strip() or not weights.strip():
            raise typer.BadParameter(
                f"{pair} is not NAME=WEIGHTS, such as image-01=/models/sd-turbo.", param_hint="--model"
            )
        if name.strip() in given:
            raise typer.BadParameter(f"{name.strip()} is given twice.", param_hint="--model")
        given[name.strip()] = weights.strip()
    return settings.model_copy(update={"models": settings.models | given})


def _banner(settings: Settings, registry: Registry, who: str, port: int) -> str:
    """Where the service is, who may use it, what it paints with, and which settings are not the defaults."""
    from limner import __version__
    from limner.config import changed
    from limner.models.registry import PAINTER

    scheme = "https" if settings.tls_key else "http"
    host = f"[{settings.host}]" if ":" in settings.host.strip("[]") else settings.host
    shown = {"host", "port", "data_dir", "api_keys", "api_keys_file", "models"}
    others = [f"  {name} = {value}" for name, value in changed(settings).items() if name not in shown]
    painted = [
        f"  model     {', '.join(name for name, of in registry.names.items() if of == model.name)}: {model.weights}"
        for model in registry.models
        if model.weights != PAINTER or len(registry.models) > 1
    ]
    paint = "open it in a browser to paint; " if settings.studio else ""
    lines = [
        f"Limner {__version__} at {scheme}://{host}:{port} ({paint}docs at /docs)",
        f"  keys      {who}",
        f"  data      {settings.data_dir.resolve()}",
        *painted,
        *(others or ["  settings  all at their defaults (docs/settings.md)"]),
    ]
    return "\n".join(lines)
