"""What a connection may cost before and after a request: how many there are, and how long each may dawdle.

uvicorn bounds none of it: a client that sends half a head, reads nothing of its reply, or opens connections and stays
silent holds them for ever (slowloris). Here every connection has a clock, and a phase that says what it is waiting for:

| phase | waiting for | allowed |
| --- | --- | --- |
| handshake | TLS | `header_seconds` |
| idle | the first byte of a request | `header_seconds` |
| head | the rest of its head | `header_seconds` |
| answering | the service; or the body, which `limner.api.body` times | |
| draining | the end of a body that nobody reads | `header_seconds`, and more as it comes, up to `max_body_bytes` |
| writing | the client to take its reply | `header_seconds`, and more as it is taken |

No address is limited to a share of the connections: behind a proxy all clients have one.
"""

from __future__ import annotations

import asyncio
import json
import math
import resource
from http import HTTPStatus
from typing import Any, ClassVar, Final
from uuid import uuid4

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import create_ssl_context
from uvicorn.protocols.http.h11_impl import H11Protocol

from limner import counters
from limner.api import contract
from limner.api.app import TRACE_HEADERS
from limner.api.body import BYTES_A_SECOND
from limner.config import Settings
from limner.errors import Code

log = structlog.get_logger(__name__)

MAX_HEAD: Final = 16384
"""Longest request line and headers together, bytes."""

READING_BYTES_A_SECOND: Final = 16384
"""A reply may take `header_seconds` to be taken, and a second more for so many bytes of it that have been."""

MAX_SMALL_CHUNKS: Final = 1000
"""Most chunks of a body (RFC 9112, 7.1) that are shorter than SMALL_CHUNK on average: each costs as much as 64 KiB."""

SMALL_CHUNK: Final = 256

REFUSED_AT_ONCE: Final = 64
"""So many connections over `max_connections` are answered at the same time; further ones are closed unanswered."""

SPARE_FILES: Final = 256
"""Files and connections of our own: the database, the store, references."""


def server_config(app: ASGIApp, settings: Settings, **options: Any) -> uvicorn.Config:
    """How uvicorn serves `app` within the limits of `settings`, over TLS where a certificate is set.

    `options` are further ones of uvicorn's. Raises the process's soft limit of open files where the hard one lets it.
    """
    limit = _room_for(settings.max_connections)
    if limit < settings.max_connections:
        log.warning("fewer connections", max_connections=limit, reason="the limit of open files (ulimit -n)")
    tls = None
    if settings.tls_certificate is not None:
        defaults = uvicorn.Config(app)
        tls = create_ssl_context(
            settings.tls_certificate, settings.tls_key, None, defaults.ssl_version, defaults.ssl_cert_reqs,
            None, defaults.ssl_ciphers,
        )  # fmt: skip

    class Bounded(Connection):
        limits = settings
        max_connections = limit
        context = tls
        refused: ClassVar[set[Connection]] = set()

    return uvicorn.Config(
        app,
        http=Bounded,
        ws="none",
        log_config=None,
        log_level="error",  # its warnings are of strangers' malformed requests, which are counted
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_keep_alive=math.ceil(settings.header_seconds),
        **options,
    )


def _room_for(connections: int) -> int:
    """How many of these connections the process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - SPARE_FILES))


class _Http(h11.Connection):
    """Refuses a body in dust, and remembers what was wrong."""

    error: h11.RemoteProtocolError | None = None
    _chunks = _bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._chunks = self._bytes = 0
            elif isinstance(event, h11.Data):
                self._chunks += event.chunk_end
                self._bytes += len(event.data)
                if self._chunks > MAX_SMALL_CHUNKS and self._bytes < self._chunks * SMALL_CHUNK:
                    raise h11.RemoteProtocolError("too many small chunks")
        except h11.RemoteProtocolError as error:
            self.error = error
            raise
        return event


class Connection(H11Protocol):
    """One connection of a client. Subclasses set the limits; `server_config` makes one."""

    limits: Settings
    max_connections: int
    context: Any = None  # ssl.SSLContext of a service that speaks HTTPS

    refused: ClassVar[set[Connection]]  # those over the limit that are still being told so

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = _Http(h11.SERVER, MAX_HEAD)
        self._raw: asyncio.Transport | None = None
        self._securing: asyncio.Task[None] | None = None
        self._early = b""
        self._some_of_head = False
        self._received = self._received_when_answered = 0
        self._clock: asyncio.TimerHandle | None = None
        self._waiting: tuple[Any, ...] = ()
        self._since = self._moved_before = 0.0

    # From accept to the first byte

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's does
        self._raw = transport
        if len(self.connections) >= self.max_connections:
            self._turn_away(transport)
            return
        self.connections.add(self)
        counters.CONNECTIONS.add()
        self._tick()
        if self.context is None:
            super().connection_made(transport)
        else:
            # Here and not by the event loop, so that unfinished handshakes count as connections.
            self._securing = self.loop.create_task(self._secure(transport))

    async def _secure(self, transport: asyncio.Transport) -> None:
        try:
            secure = await self.loop.start_tls(
                transport, self, self.context, server_side=True, ssl_handshake_timeout=self.limits.header_seconds
            )
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError
            secure = None
        if secure is None:  # closed, here or there, before it was made
            self._gone()
            transport.abort()
            return
        super().connection_made(secure)
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def _turn_away(self, transport: asyncio.Transport) -> None:
        counters.CONNECTIONS_CUT.add("connections")
        if self.context is not None or len(self.refused) >= REFUSED_AT_ONCE:
            transport.abort()
            return
        self.refused.add(self)
        transport.write(
            self._answer(
                503, Code.RATE_LIMITED, "There are as many connections as there may be; try again in a moment."
            )
        )
        transport.write_eof()  # what the client sends is still read, or it might lose the answer
        self._clock = self.loop.call_later(min(1.0, self.limits.header_seconds), transport.abort)

    def data_received(self, data: bytes) -> None:
        if self in self.refused:
            return
        if self.transport is None:
            self._early += data  # decrypted before `start_tls` has returned; at most a few records
            return
        self._received += len(data)
        super().data_received(data)
        self._some_of_head = self.conn.their_state is h11.IDLE
        phase, drained = self._phase()
        if phase == "draining" and drained > self.limits.max_body_bytes:
            self._cut(phase)

    def on_response_complete(self) -> None:
        self._received_when_answered = self._received
        super().on_response_complete()

    # The clock

    def _phase(self) -> tuple[str, float]:
        """What the connection waits for, and how many bytes have moved that way."""
        if self.transport is None:
            return "handshake", 0
        if self.flow.write_paused or self.transport.is_closing():
            return "writing", -self.transport.get_write_buffer_size()
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self.conn.their_state is h11.IDLE:
            return ("head" if self._some_of_head else "idle"), 0
        if answered and self.conn.their_state is h11.SEND_BODY:
            return "draining", self._received - self._received_when_answered
        return "answering", 0

    def _tick(self) -> None:
        seconds = self.limits.header_seconds
        self._clock = self.loop.call_later(seconds / 8, self._tick)
        phase, moved = self._phase()
        now = self.loop.time()
        waiting = (phase, self.cycle)  # of another request it is another wait
        if waiting != self._waiting:
            self._waiting, self._since, self._moved_before = waiting, now, moved
        if phase == "answering":
            return
        rate = READING_BYTES_A_SECOND if phase == "writing" else BYTES_A_SECOND
        if now - self._since > seconds + (moved - self._moved_before) / rate:
            self._cut(phase)

    def _cut(self, phase: str) -> None:
        counters.CONNECTIONS_CUT.add(phase)
        log.debug("connection cut", phase=phase)
        if phase == "head":
            self._refuse(408, Code.TIMEOUT, "The head of the request did not arrive in time; send it again.")
        elif phase == "idle":
            self.timeout_keep_alive_handler()
        elif self._raw is not None:
            self._raw.abort()

    def _gone(self) -> None:
        if self in self.connections:
            self.connections.discard(self)
            counters.CONNECTIONS.add(amount=-1)
        self.refused.discard(self)
        if self._clock is not None:
            self._clock.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
        if self.transport is not None:
            super().connection_lost(exc)

    def shutdown(self) -> None:
        if self.transport is None:
            if self._raw is not None:
                self._raw.abort()
        elif not self.transport.is_closing():
            super().shutdown()

    # Answers without a request

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own sentence
        """uvicorn calls it where what came is no HTTP."""
        counters.CONNECTIONS_CUT.add("http")
        error = self.conn.error if isinstance(self.conn, _Http) else None
        status = error.error_status_hint if error else 400
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            text = f"The head of the request must be at most {MAX_HEAD} bytes; it has more."
        else:
            status, text = 400, "What came is no HTTP/1.1 request that can be read."
        self._refuse(status, Code.INVALID_PARAMETERS, text)

    def _refuse(self, status: int, code: Code, message: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True  # the service is not to answer as well
            self.cycle.message_event.set()
        self.transport.write(self._answer(status, code, message))
        self.transport.close()

    def _answer(self, status: int, code: Code, message: str) -> bytes:
        """A whole reply in the one error shape, after which the connection is closed."""
        trace = uuid4().hex
        body = json.dumps(contract.failure(trace, code, message, self.limits)).encode()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **({"Retry-After": "1"} if status == 503 else {}),
            **dict.fromkeys(TRACE_HEADERS, trace),
        }
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {headers[name]}" for name in headers)]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
