"""The client for asyncio: carries out the flows of `operations` without blocking."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx2

from limner.client import steps
from limner.client.calls import Channel, Target
from limner.client.images import AsyncImage, Source
from limner.client.operations import Operations
from limner.client.types import Day, Job, JobOptions, Model, Moment, Options, Progress, Result, States, Usage

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments and methods, awaited; those that iterate are for `async for`.

    >>> import asyncio
    >>> async def main() -> None:
    ...     async with AsyncClient() as client:
    ...         result = await client.generate("a red fox on a snowy hill", aspect_ratio="16:9", seed=7)
    ...         await result.images[0].save("fox.jpg")
    ...         print(result.images)
    >>> asyncio.run(main())
    [<AsyncImage 1280x720 jpeg, seed 7>]

    It belongs to one event loop; any number of its tasks may share it.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 600.0,
        connect_timeout: float = 5.0,
        retries: int = 2,
        idempotent: bool | None = None,
    ) -> None:
        target = Target.of(base_url, api_key, os.environ)
        self._operations = Operations(Channel(target, timeout, connect_timeout, retries, idempotent), self._image)
        self._http = httpx2.AsyncClient(**steps.options())

    def __repr__(self) -> str:
        return f"AsyncClient({self._operations.channel.target.root!r})"

    async def generate(self, prompt: str, **options: Unpack[Options]) -> Result[AsyncImage]:
        """As `Client.generate`."""
        return await self._run(self._operations.generate(prompt, options))

    def progress(self, prompt: str, **options: Unpack[JobOptions]) -> AsyncIterator[Progress[AsyncImage]]:
        """As `Client.progress`, for `async for`."""
        return self._each(self._operations.progress(prompt, options))

    async def submit(self, prompt: str, **options: Unpack[JobOptions]) -> Job:
        """As `Client.submit`."""
        return await self._run(self._operations.submit(prompt, options))

    async def job(self, id: str) -> Job:  # noqa: A002 - its name in every reply
        """As `Client.job`."""
        return await self._run(self._operations.job(id))

    def jobs(
        self,
        *,
        state: States | None = None,
        model: str | None = None,
        from_: Moment | None = None,
        to: Moment | None = None,
    ) -> AsyncIterator[Job]:
        """As `Client.jobs`, for `async for`."""
        return self._each(self._operations.jobs(state, model, from_, to))

    def follow(self, id: str, *, previews: bool = False) -> AsyncIterator[Progress[AsyncImage]]:  # noqa: A002 - as `job`
        """As `Client.follow`, for `async for`."""
        return self._each(self._operations.follow(id, previews))

    async def result(self, id: str) -> Result[AsyncImage]:  # noqa: A002 - as `job`
        """As `Client.result`."""
        return await self._run(self._operations.result(id))

    async def cancel(self, id: str) -> Job:  # noqa: A002 - as `job`
        """As `Client.cancel`."""
        return await self._run(self._operations.cancel(id))

    async def delete(self, id: str) -> None:  # noqa: A002 - as `job`
        """As `Client.delete`."""
        await self._run(self._operations.delete(id))

    async def models(self) -> list[Model]:
        """As `Client.models`."""
        return await self._run(self._operations.models())

    async def usage(self, from_: Day | None = None, to: Day | None = None) -> Usage:
        """As `Client.usage`."""
        return await self._run(self._operations.usage(from_, to))

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def _image(self, source: Source) -> AsyncImage:
        return AsyncImage(source, lambda kind: self._run(self._operations.file(source.url or "", kind)))

    async def _run(self, flow: steps.Flow[T]) -> T:
        async with self._hands() as hands:
            answer = None
            while not isinstance(step := steps.advance(flow, answer), steps.Done):
                answer = await hands.do(step)
            return step.value

    async def _each(self, flow: steps.Stream[T]) -> AsyncIterator[T]:
        async with self._hands() as hands:
            answer = None
            while not isinstance(step := steps.advance(flow, answer), steps.Done):
                if isinstance(step, steps.Emit):
                    yield step.item
                    answer = None
                else:
                    answer = await hands.do(step)

    @asynccontextmanager
    async def _hands(self) -> AsyncIterator[_Hands]:
        async with AsyncExitStack() as stack:
            http = self._http
            if http.is_closed:
                http = await stack.enter_async_context(httpx2.AsyncClient(**steps.options()))
            yield _Hands(http, await stack.enter_async_context(AsyncExitStack()))


class _Hands:
    """Carries out the steps of one flow; `stream` holds the stream of events that is open."""

    def __init__(self, http: httpx2.AsyncClient, stream: AsyncExitStack) -> None:
        self.http = http
        self.stream = stream
        self.chunks: AsyncIterator[bytes] = _nothing()

    async def do(self, step: steps.Step) -> Any:
        """What a step is answered, an exception included."""
        try:
            match step:
                case steps.Listen():
                    await self.stream.aclose()
                    response = await self.stream.enter_async_context(self.http.stream(**step.arguments()))
                    self.chunks = response.aiter_bytes()
                    reply = step.reply(response)
                    return reply if reply.streams else await self._whole(reply)
                case steps.Send():
                    async with self.http.stream(**step.arguments()) as response:
                        self.chunks = response.aiter_bytes()
                        return await self._whole(step.reply(response))
                case steps.Receive():
                    return await anext(self.chunks, b"")
                case steps.Wait():
                    return await asyncio.sleep(step.seconds)
                case steps.Load():
                    return await asyncio.to_thread(steps.load, step.path)
        except steps.FAULTS as error:
            return steps.fault(step, error)

    async def _whole(self, reply: steps.Reply) -> steps.Reply:
        async for chunk in self.chunks:
            reply.feed(chunk)
        return reply


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
