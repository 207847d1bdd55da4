"""One way to paint from a command: a client of a service, of one that runs or of one that lives as long as the command.

The second kind is the whole service over real HTTP, in this process and on this event loop: what works here works
against `limner serve`.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from pydantic import SecretStr

from limner import imaging, logs
from limner.api.app import create_app
from limner.api.connections import server_config
from limner.client import AsyncClient
from limner.config import Settings, load
from limner.service import temporary_service

LEAVE_SECONDS = 2
"""How long calls that nobody waits for any more may take to end."""


@asynccontextmanager
async def open_client(
    server: str | None, api_key: str | None = None, config: Path | None = None, models: Sequence[str] = ()
) -> AsyncIterator[AsyncClient]:
    """A client of the service at `server`, or, where that is None, of a service of its own that keeps nothing.

    That one listens on a free loopback port under a key of one run, with the settings of `config` and the environment,
    and is gone, with its jobs and pictures, when the block ends. Where `models` holds one name, it has that model
    alone, which is loaded first; else it has all of them, and that of image-01 is loaded first. `limner.logs` is set to
    warnings, on standard error. `api_key` is for `server`.

    Raises:
        SettingsInvalid: the settings or the models file are wrong.
        InvalidRequest: there is no such model.
        ModelUnusable: the first model cannot be loaded.
    """
    if server is not None:
        async with AsyncClient(server, api_key) as client:
            yield client
        return
    key = secrets.token_urlsafe(32)
    settings = _temporary(load(config), key)
    logs.configure(settings)
    imaging.check_watermark(settings.watermark_text, settings.watermark_font)
    service = await asyncio.to_thread(temporary_service, settings, models[0] if len(models) == 1 else None)
    try:
        app = create_app(settings, service)
        options = server_config(app, settings, lifespan="off", timeout_graceful_shutdown=LEAVE_SECONDS)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with (
                app.router.lifespan_context(app),
                _listening(options, listener),
                AsyncClient(address, key) as client,
            ):
                yield client
    finally:
        await service.stop()  # also where the application never started


def _temporary(settings: Settings, key: str) -> Settings:
    """The settings of a service that nobody else reaches and that keeps nothing."""
    here = {"host": "127.0.0.1", "public_url": None, "tls_certificate": None, "tls_key": None, "links": "service"}
    who = {"api_keys": SecretStr(key), "api_keys_file": None, "limits_url": None}
    return settings.model_copy(update={**here, **who, "grace_seconds": 0.0, "log_level": "warning"})


@asynccontextmanager
async def _listening(config: uvicorn.Config, listener: socket.socket) -> AsyncIterator[None]:
    """Serve on `listener`, beside whatever else this event loop does."""

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they are the command's

    server = Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
