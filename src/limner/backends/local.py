"""The backend that paints in this process: the bridge between the engine's thread and the callers' event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

from limner.engine.core import ENDINGS, Activity, Event, Request
from limner.engine.engine import Engine


class LocalBackend:
    """Starts the engine and owns it from then on. The contract is `base.Backend`'s."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        engine.start()

    @property
    def models(self) -> dict[str, str | None]:
        return self.engine.pool.fingerprints

    @property
    def states(self) -> dict[str, str]:
        return self.engine.pool.states

    @property
    def ready(self) -> bool:
        return self.engine.pool.ready

    def room(self, tenant: str = "") -> int:
        return self.engine.room(tenant)

    @property
    def activity(self) -> dict[str, Activity]:
        return self.engine.activity

    def submit(self, requests: Sequence[Request]) -> LocalStream:
        return LocalStream(self.engine, requests)

    def close(self) -> None:
        self.engine.close()


class LocalStream:
    """Submits when made; cancels what has not ended when closed, or when a task that waits on it is cancelled."""

    def __init__(self, engine: Engine, requests: Sequence[Request]) -> None:
        self._engine = engine
        self._open = {request.id for request in requests}
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        engine.submit(requests, self._hand_over)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._open:
            raise StopAsyncIteration
        try:
            event = await self._events.get()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if isinstance(event, ENDINGS):
            self._open.discard(event.id)
        return event

    async def aclose(self) -> None:
        for request_id in self._open:
            self._engine.cancel(request_id)
        self._open = set()

    def _hand_over(self, event: Event) -> None:
        """Called from the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self._engine.cancel(event.id)
