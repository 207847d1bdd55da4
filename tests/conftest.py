"""A real server on a free loopback port, around the tiny pipeline."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import hypothesis
import pytest
import structlog
import uvicorn

from limner.api.app import create_app
from limner.api.connections import server_config
from limner.backends.base import Backend
from limner.backends.local import LocalBackend
from limner.config import Settings
from limner.engine.core import Encoded, Float32, Request, UInt8
from limner.engine.engine import Engine
from limner.service import Service
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from servers import S3, Postgres, Valkey, running_postgres, running_s3, running_valkey
from tiny_pipeline import SQUARE, TinyPipeline

# A loaded machine is no reason to fail, and a run that failed must fail again.
hypothesis.settings.register_profile(
    "limner", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("limner")

# Rich tracebacks print every local variable: seconds a line, and prompts in the output.
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])

API = "/v1/image_generation"


class AnySizePipeline(TinyPipeline):
    """Paints sizes that are no multiple of a square, too: the last squares are cut."""

    def encode(self, request: Request) -> Encoded:
        whole = {side: -(-getattr(request, side) // SQUARE) * SQUARE for side in ("width", "height")}
        return super().encode(replace(request, **whole))

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return super().decode(request, encoded, x)[: request.height, : request.width]


@dataclass(frozen=True, slots=True)
class Server:
    """A running service. `client` speaks to it; relative paths will do."""

    settings: Settings
    pipeline: TinyPipeline
    service: Service
    port: int
    client: httpx2.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def engine(self) -> Engine:
        assert isinstance(self.service.backend, LocalBackend)
        return self.service.backend.engine

    def paint(self, headers: dict[str, str] | None = None, /, **fields: Any) -> httpx2.Response:
        """Ask for a picture with the guide's fields, and these over them. A field of `...` is left out."""
        body = {"model": "image-01", "prompt": "a red fox", "response_format": "base64", **fields}
        return self.client.post(
            API, json={name: value for name, value in body.items() if value is not ...}, headers=headers
        )


@contextmanager
def serving(
    folder: Path, gate: threading.Semaphore | None = None, backend: Backend | None = None, at: int = 0, **options: Any
) -> Iterator[Server]:
    """A server with these settings, on a backend of one's own or on the tiny pipeline, which waits for the gate before
    each evaluation where there is one; at a port of one's own or at a free one."""
    settings = Settings(data_dir=folder, **options)
    pipeline = AnySizePipeline(gate=gate)
    engine = Engine({"image-01": pipeline, "image-01-live": pipeline}, settings.queue_limit)
    service = Service(settings, backend or LocalBackend(engine), Database.open(settings), Blobs.open(settings))
    config = server_config(create_app(settings, service), settings, lifespan="on")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", at)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), name="test-server")
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.005)
        port = listener.getsockname()[1]
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
                yield Server(settings, pipeline, service, port, client)
        finally:
            if gate is not None:
                gate.release(10_000)
            server.should_exit = True
            thread.join()


def wait_for(true: Callable[[], Any]) -> None:
    """Return once `true()`; a test that never gets there is ended by its timeout."""
    while not true():
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a test, or a command that it runs in this process, does to logging ends with it: its streams are closed."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configured)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL."""
    with running_postgres() as running:
        yield running


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """A real Valkey."""
    with running_valkey() as running:
        yield running


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A real server of S3."""
    with running_s3() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the default settings, shared by the tests of a module."""
    with serving(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server with settings of the test's own, stopped when the test ends."""
    with ExitStack() as stack:

        def start(**options: Any) -> Server:
            return stack.enter_context(serving(tmp_path, **options))

        yield start
