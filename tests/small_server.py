"""A real server with the limits of `connections`, around an app that needs no model."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limner.api import body as bodies
from limner.api import connections
from limner.api.body import read_document
from limner.config import Settings
from limner.errors import LimnerError

BIG = 8 * 2**20
GOOD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def small_app(settings: Settings, gate: threading.Event | None = None) -> Starlette:
    """A body's document or its error, an empty reply, and one of BIG bytes."""

    async def read(request: Request) -> Response:
        try:
            return JSONResponse({"kind": type(await read_document(request, settings)).__name__})
        except LimnerError as error:
            return JSONResponse({"code": error.code, "message": error.message})
        finally:
            bodies.held.give_back(request.scope)

    async def nothing(_: Request) -> Response:
        while gate is not None and not gate.is_set():
            await asyncio.sleep(0.01)
        return Response()

    async def big(_: Request) -> Response:
        return Response(bytes(BIG))

    return Starlette(routes=[Route("/read", read, methods=["POST"]), Route("/", nothing), Route("/big", big)])


class Listening:
    """A running server; `open` makes a connection to it."""

    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self.server, self.port = server, port

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, data: bytes) -> bytes:
        """All that comes back on a connection of its own until the server closes it."""
        with self.open() as client:
            client.sendall(data)
            return everything(client)

    def connected(self) -> int:
        return len(self.server.server_state.connections)


@contextmanager
def listening(gate: threading.Event | None = None, **options: Any) -> Iterator[Listening]:
    settings = Settings(**{"header_seconds": 0.4, **options})
    server = uvicorn.Server(connections.server_config(small_app(settings, gate), settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            yield Listening(server, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def everything(client: socket.socket) -> bytes:
    """What comes until the end of the connection, however it ends."""
    data = b""
    try:
        while chunk := client.recv(65536):
            data += chunk
    except ConnectionError:
        pass
    return data


def failure(reply: bytes, status: int, code: int) -> str:
    """Assert the one error shape under this status on a connection that ends with it; return its sentence."""
    head, _, content = reply.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0].startswith(f"http/1.1 {status} ")
    assert "connection: close" in lines
    assert f"content-length: {len(content)}" in lines
    document = json.loads(content)
    assert document["base_resp"]["status_code"] == code
    assert f"trace-id: {document['id']}" in lines
    message: str = document["base_resp"]["status_msg"]
    assert message.endswith(".")
    return message


def post(body: bytes, *more: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = ["POST /read HTTP/1.1", "Host: localhost", f"Content-Length: {size}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


def drip(client: socket.socket, every: float = 0.05) -> None:
    """One byte now and then until the other side has had enough, or a minute is over."""
    try:
        for _ in range(round(60 / every)):
            client.sendall(b"x")
            time.sleep(every)
    except OSError:
        pass
