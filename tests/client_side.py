"""Both kinds of client with one way to call them, and the servers that they are tested against."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import PIL.Image

from limner.client import AsyncClient, Client, steps

SMALL: dict[str, Any] = {"width": 512, "height": 512}


class Both:
    """Either kind of client, with one way to call it: an `AsyncClient` runs on a loop of its own."""

    def __init__(self, kind: str, *args: Any, **options: Any) -> None:
        self.loop = asyncio.Runner() if kind == "async" else None
        self.client: Any = (AsyncClient if self.loop else Client)(*args, **options)

    def _now(self, found: Any) -> Any:
        if self.loop is None:
            return found
        if inspect.isawaitable(found):
            return self.loop.run(_awaited(found))
        return self._each(found) if isinstance(found, AsyncIterator) else found

    def _each(self, items: Any) -> Iterator[Any]:
        assert self.loop is not None
        try:
            while True:
                try:
                    yield self.loop.run(_awaited(anext(items)))
                except StopAsyncIteration:
                    return
        finally:
            self.loop.run(items.aclose())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **options: self._now(getattr(self.client, name)(*args, **options))

    def read(self, image: Any, *args: Any) -> bytes:
        data: bytes = self._now(image.read(*args))
        return data

    def save(self, image: Any, path: Any) -> Path:
        saved: Path = self._now(image.save(path))
        return saved

    def end(self) -> None:
        self._now(self.client.close())
        if self.loop is not None:
            self.loop.close()


async def _awaited(found: Any) -> Any:
    return await found


@contextmanager
def clients(kind: str) -> Iterator[Callable[..., Both]]:
    """Makes clients of one kind, closed at the end."""
    made: list[Both] = []

    def start(*args: Any, **options: Any) -> Both:
        made.append(Both(kind, *args, **options))
        return made[-1]

    yield start
    for client in made:
        client.end()


class Relay:
    """Passes connections on to a server, notes the requests, and cuts: all that is open, or the next reply after
    `replies` bytes of it."""

    def __init__(self, port: int) -> None:
        self.heads: list[str] = []
        self.replies: int | None = None
        self.away = 0  # so many connections are not passed on
        self._open: list[socket.socket] = []
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def cut(self) -> None:
        """Cut every connection."""
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with ThreadPoolExecutor() as pool, suppress(OSError):
            while True:
                pool.submit(self._pass, self._listener.accept()[0])

    def _pass(self, client: socket.socket) -> None:
        """One request and its reply; the connection ends with it."""
        if self.away:
            self.away -= 1
            client.close()
            return
        with client, socket.create_connection(("127.0.0.1", self._port)) as server, suppress(OSError):
            self._open += (client, server)
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(65536)
            head, _, body = request.partition(b"\r\n\r\n")
            self.heads.append(head.decode())
            length = int(self.header(len(self.heads) - 1, "content-length") or 0)
            while len(body) < length:
                body += client.recv(65536)
            server.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + b"\r\n\r\n" + body)
            left = self.replies
            while (left is None or left > 0) and (chunk := server.recv(65536)):
                client.sendall(chunk if left is None else chunk[:left])
                left = None if left is None else left - len(chunk)
            if left is not None:
                self.replies = None

    def header(self, request: int, name: str) -> str | None:
        lines = dict(line.lower().split(": ", 1) for line in self.heads[request].split("\r\n")[1:])
        return lines.get(name)


Make = Callable[..., Both]
Answer = Callable[[BaseHTTPRequestHandler, Any], tuple[int, dict[str, str], bytes]]


class Site:
    """A server of the test's own; `seen` has the method, path, headers and JSON of each request."""

    def __init__(self, answer: Answer) -> None:
        self.seen: list[tuple[str, str, Mapping[str, str], Any]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers["Content-Length"] or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                site.seen.append((self.command, self.path, self.headers, body))
                status, headers, data = answer(self, body)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def as_json(document: Any, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json", **headers}, json.dumps(document).encode()


def picture(form: str = "JPEG", size: tuple[int, int] = (48, 32), mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.new(mode, size, "red").save(file, form, **options)
    return file.getvalue()


def opened(data: bytes | Path) -> tuple[str | None, tuple[int, int]]:
    with PIL.Image.open(data if isinstance(data, Path) else io.BytesIO(data)) as image:
        return image.format, image.size


def answered(flow: Generator[Any, Any, Any], *answers: Any) -> list[Any]:
    """Run a flow by hand: the steps that it asked for, and at the end what it returned."""
    asked: list[Any] = []
    for answer in (None, *answers):
        step = steps.advance(flow, answer)
        asked.append(step.value if isinstance(step, steps.Done) else step)
    return asked


def a_reply(document: Any, status: int = 200, **headers: str) -> steps.Reply:
    return steps.Reply(status, httpx2.Headers(headers), float("inf"), bytearray(json.dumps(document).encode()))
