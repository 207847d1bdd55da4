"""A job's life as server-sent events (HTML Living Standard, 9.2): whole snapshots, so that nothing needs replaying.

An event's id is a digest of its snapshot. Who comes back with the id of what it saw last is sent nothing until the job
looks different; who saw its end is told by 204 not to come again, as the standard has it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from limner import job_document
from limner.api.minimax import unless_client_leaves
from limner.errors import LimnerError
from limner.service import Job, Preview, Service
from limner.tenants import Caller

HEARTBEAT_SECONDS: Final = 15.0
"""A comment is sent when nothing else was for so long, so that proxies keep the connection."""

PLACE_SECONDS: Final = 2.0
"""How often the place in the queue of a job that waits is looked at."""

RETRY_MILLISECONDS: Final = 2000

ID: Final = "[0-9a-f]{16}"
"""What an event's id looks like."""


def id_of(job: Job, queue_place: int | None) -> str:
    """The id of the event that tells of this snapshot. Links are left out: some are signed anew each time."""
    text = json.dumps(job_document.document(job, lambda name: name, queue_place), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


async def place_of(job: Job, service: Service) -> int | None:
    """Pictures that come before a job that waits; None for others."""
    return await service.queue_place(job) if job.state == "queued" else None


async def events(
    service: Service, job_id: str, caller: Caller, link: Callable[[str], str], *, last: str | None, previews: bool
) -> AsyncGenerator[bytes, None]:
    """The stream's bytes, event by event, up to the snapshot that has ended; at most one waits to be taken.

    It ends early where the job is deleted, the database away or the service shutting down.

    Args:
        link: from a finished picture's name to where it can be had.
        last: id of the event that the reader saw last.
    """
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    job: Job | None = None
    coming: asyncio.Task[Job | Preview] | None = None
    spoke = time.monotonic()
    async with aclosing(service.follow(job_id, caller)) as changes:
        try:
            while True:
                coming = coming or asyncio.create_task(_next(changes))
                waits = job is not None and job.state == "queued"
                silent = HEARTBEAT_SECONDS - (time.monotonic() - spoke)
                await asyncio.wait((coming,), timeout=max(0.0, min(silent, PLACE_SECONDS) if waits else silent))
                if coming.done():
                    change, coming = coming.result(), None
                    if isinstance(change, Preview):
                        if previews:
                            spoke = time.monotonic()
                            yield event("preview", _preview(change))
                        continue
                    job = change
                if job is not None:
                    place = await place_of(job, service)
                    if (now := id_of(job, place)) != last:
                        last, spoke = now, time.monotonic()
                        yield event(job.state, job_document.document(job, link, place), now)
                        continue
                if time.monotonic() - spoke >= HEARTBEAT_SECONDS:
                    spoke = time.monotonic()
                    yield b":\n\n"
        except (StopAsyncIteration, LimnerError):
            return
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)


async def _next(changes: AsyncGenerator[Job | Preview, None]) -> Job | Preview:
    return await anext(changes)


def _preview(preview: Preview) -> dict[str, Any]:
    return {"number": preview.number, "step": preview.step, "base64": base64.b64encode(preview.data).decode()}


def event(name: str, data: Mapping[str, Any], event_id: str | None = None) -> bytes:
    """One event; JSON has no line breaks, so its data is one line."""
    head = f"event: {name}\n" + (f"id: {event_id}\n" if event_id else "")
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


class EventStream(Response):
    """Sends a stream until it ends or its client leaves; then all that it held is let go of.

    Nothing is asked of the stream before the last event was taken; `limner.api.connections` cuts off who takes none.
    """

    media_type = "text/event-stream"

    def __init__(self, stream: AsyncGenerator[bytes, None], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})
        self._stream = stream
        del self.headers["content-length"]

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(ClientDisconnect):
            await unless_client_leaves(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._stream) as stream:
            async for chunk in stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
