"""The client for plain code: carries out the flows of `operations` with calls that block."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx2

from limner.client import steps
from limner.client.calls import Channel, Target
from limner.client.images import Image, Source
from limner.client.operations import Operations
from limner.client.types import Day, Job, JobOptions, Model, Moment, Options, Progress, Result, States, Usage

T = TypeVar("T")


class Client:
    """Paints on a Limner server, and on any service that speaks MiniMax's image API.

    >>> with Client() as client:
    ...     result = client.generate("a red fox on a snowy hill", aspect_ratio="16:9", seed=7)
    ...     path = result.images[0].save("fox.jpg")
    >>> result.images
    [<Image 1280x720 jpeg, seed 7>]

    Threads may share one client: it holds connections, and nothing of a call. Closed, as after its `with` block, it
    still works, and pictures can still be read; each call makes a connection of its own then.

    Args:
        base_url: address of the service, with or without /v1. By default LIMNER_BASE_URL, then MINIMAX_API_HOST, then
            http://127.0.0.1:8000, where `limner serve` listens.
        api_key: a bearer key. By default LIMNER_API_KEY; where the address is MINIMAX_API_HOST, first MINIMAX_API_KEY;
            where it is MiniMax's own, MINIMAX_API_KEY alone. It is sent to the origin of the address and to no other,
            wherever links lead.
        timeout: seconds that one call may take, further tries and waits included. `progress` and `follow` take as long
            as the job does.
        connect_timeout: seconds to make a connection.
        retries: further tries of a call that found nobody, or too many others (after the seconds that Retry-After says,
            at most 60), or that failed by the service's fault. Nothing is painted twice.
        idempotent: whether the service knows a call that comes again by its Idempotency-Key, as Limner does. By default
            the client finds out before it sends a call again that may have been painted; where it is not so, such a
            call is not sent again.

    Raises:
        InvalidRequest: base_url or api_key cannot be used, a time is not above 0, retries are below 0.
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
        self._http = httpx2.Client(**steps.options())
        weakref.finalize(self, self._http.close)  # who drops it unclosed leaves no connection open

    def __repr__(self) -> str:
        return f"Client({self._operations.channel.target.root!r})"

    def generate(self, prompt: str, **options: Unpack[Options]) -> Result[Image]:
        """Paint, and wait for the pictures. `Options` says what can be asked for.

        >>> result = Client().generate("a paper boat", n=2, seed=1, style="papercut", width=768, height=512)
        >>> [image.seed for image in result.images]
        [1, 2]

        Who gives up early (by Ctrl-C, by cancelling its task, by `timeout`) leaves a Limner server to paint on, and the
        pictures count; `progress`, or `submit` with `result`, names the job that `cancel` stops.

        Raises:
            LimnerAPIError: by kind, such as InvalidRequest, PromptRefused, RateLimited; see `limner.client.errors`.
            TypeError: there is no such option.
        """
        return self._run(self._operations.generate(prompt, options))

    def progress(self, prompt: str, **options: Unpack[JobOptions]) -> Iterator[Progress[Image]]:
        """Paint, and tell how it comes along. The last item has the `result`. Limner servers alone.

        >>> for progress in Client().progress("a paper boat", seed=1):
        ...     if progress.result:
        ...         print(progress.state, progress.result.images)
        done [<Image 1024x1024 jpeg, seed 1>]

        A connection that is cut is made again, and nothing is missed. Who stops early leaves the job to go on:
        `cancel(progress.job.id)` stops it. Raises as `generate`, and JobCancelled.
        """
        return self._each(self._operations.progress(prompt, options))

    def submit(self, prompt: str, **options: Unpack[JobOptions]) -> Job:
        """Hand in a job, to be painted in its time. Raises as `generate`. Limner servers alone, as all with jobs.

        >>> client = Client()
        >>> job = client.submit("a paper boat", seed=1)
        >>> client.result(job.id).images
        [<Image 1024x1024 jpeg, seed 1>]
        """
        return self._run(self._operations.submit(prompt, options))

    def job(self, id: str) -> Job:  # noqa: A002 - its name in every reply
        """A job as it is now. Raises NotFound."""
        return self._run(self._operations.job(id))

    def jobs(
        self,
        *,
        state: States | None = None,
        model: str | None = None,
        from_: Moment | None = None,
        to: Moment | None = None,
    ) -> Iterator[Job]:
        """The caller's jobs, the newest first; pages are asked for as they are needed.

        Args:
            state: one or more of queued, running, done, failed, cancelled; by default all.
            model: a model's name, any of those that it has.
            from_, to: accepted at `from_` or later, and before `to`.
        """
        return self._each(self._operations.jobs(state, model, from_, to))

    def follow(self, id: str, *, previews: bool = False) -> Iterator[Progress[Image]]:  # noqa: A002 - as `job`
        """As `progress`, of a job that was handed in. Previews come where it was handed in with them."""
        return self._each(self._operations.follow(id, previews))

    def result(self, id: str) -> Result[Image]:  # noqa: A002 - as `job`
        """What a job painted, once it has ended. Raises as `generate`, and JobCancelled, NotFound."""
        return self._run(self._operations.result(id))

    def cancel(self, id: str) -> Job:  # noqa: A002 - as `job`
        """Stop a job; pictures that are done stay. One that has ended stays as it is. Raises NotFound."""
        return self._run(self._operations.cancel(id))

    def delete(self, id: str) -> None:  # noqa: A002 - as `job`
        """Remove a job with its pictures, whatever its state. Raises NotFound."""
        self._run(self._operations.delete(id))

    def models(self) -> list[Model]:
        """The models that calls may name, and what each can.

        >>> [model.id for model in Client().models()]
        ['image-01', 'image-01-live']
        """
        return self._run(self._operations.models())

    def usage(self, from_: Day | None = None, to: Day | None = None) -> Usage:
        """What the caller used, by day, from one day to another (UTC, both included; by default this month)."""
        return self._run(self._operations.usage(from_, to))

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _image(self, source: Source) -> Image:
        return Image(source, lambda kind: self._run(self._operations.file(source.url or "", kind)))

    def _run(self, flow: steps.Flow[T]) -> T:
        with self._hands() as hands:
            answer = None
            while not isinstance(step := steps.advance(flow, answer), steps.Done):
                answer = hands.do(step)
            return step.value

    def _each(self, flow: steps.Stream[T]) -> Iterator[T]:
        with self._hands() as hands:
            answer = None
            while not isinstance(step := steps.advance(flow, answer), steps.Done):
                if isinstance(step, steps.Emit):
                    yield step.item
                    answer = None
                else:
                    answer = hands.do(step)

    @contextmanager
    def _hands(self) -> Iterator[_Hands]:
        with ExitStack() as stack:
            http = stack.enter_context(httpx2.Client(**steps.options())) if self._http.is_closed else self._http
            yield _Hands(http, stack.enter_context(ExitStack()))


class _Hands:
    """Carries out the steps of one flow; `stream` holds the stream of events that is open."""

    def __init__(self, http: httpx2.Client, stream: ExitStack) -> None:
        self.http = http
        self.stream = stream
        self.chunks: Iterator[bytes] = iter(())

    def do(self, step: steps.Step) -> Any:
        """What a step is answered, an exception included."""
        try:
            match step:
                case steps.Listen():
                    self.stream.close()
                    response = self.stream.enter_context(self.http.stream(**step.arguments()))
                    self.chunks = response.iter_bytes()
                    reply = step.reply(response)
                    return reply if reply.streams else self._whole(reply)
                case steps.Send():
                    with self.http.stream(**step.arguments()) as response:
                        self.chunks = response.iter_bytes()
                        return self._whole(step.reply(response))
                case steps.Receive():
                    return next(self.chunks, b"")
                case steps.Wait():
                    return time.sleep(step.seconds)
                case steps.Load():
                    return steps.load(step.path)
        except steps.FAULTS as error:
            return steps.fault(step, error)

    def _whole(self, reply: steps.Reply) -> steps.Reply:
        for chunk in self.chunks:
            reply.feed(chunk)
        return reply
