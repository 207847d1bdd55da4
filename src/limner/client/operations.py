"""What the client does, without doing it: every operation is a generator that yields `steps` and is sent the answers.

Nothing here waits, reads or connects; `sync.Client` and `aio.AsyncClient` carry the steps out. So an operation is
written once, and is tested by answering it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import UTC
from typing import Any, Final, Generic, get_args
from urllib.parse import quote, urlencode
from uuid import uuid4

from limner.client import calls, orders, replies, sse
from limner.client.calls import Call, Channel
from limner.client.errors import ConnectionFailed, InvalidRequest, JobCancelled, LimnerAPIError, ServiceFailed
from limner.client.images import Format, Source
from limner.client.orders import Order
from limner.client.steps import Broken, Emit, Flow, Listen, Receive, Reply, Step, Stream, Unreached, Wait, late, quietly
from limner.client.types import (
    Day,
    Job,
    JobOptions,
    Model,
    Moment,
    Options,
    PictureT,
    Progress,
    Result,
    State,
    States,
    Usage,
)

STATES: Final = get_args(State)
"""Names of the events that tell of the whole job."""


class Operations(Generic[PictureT]):
    """The operations on one service. `picture` makes the caller's kind of picture."""

    def __init__(self, channel: Channel, picture: Callable[[Source], PictureT]) -> None:
        self.channel = channel
        self.picture = picture

    # Painting

    def generate(self, prompt: str, options: Options) -> Flow[Result[PictureT]]:
        deadline = self.channel.deadline()
        order = yield from orders.order(prompt, options, waits=True)
        reply = yield from self.channel.call(self._painting(order), deadline)
        outcome = replies.outcome(order, reply)
        return Result(
            outcome.id, [self.picture(s) for s in outcome.sources], outcome.failed, outcome.notes, outcome.scene
        )

    def submit(self, prompt: str, options: JobOptions) -> Flow[Job]:
        deadline = self.channel.deadline()
        order = yield from orders.order(prompt, options, waits=False)
        return replies.read((yield from self.channel.call(self._painting(order), deadline)), replies.job_of)

    def progress(self, prompt: str, options: JobOptions) -> Stream[Progress[PictureT]]:
        job = yield from self.submit(prompt, options)
        yield from self._watch(job.id, previews=bool(options.get("previews")))

    def file(self, url: str, kind: Format | None) -> Flow[bytes]:
        """A picture's file, in a format of one's own if the server can. Links may lead on a few times."""
        deadline = self.channel.deadline()
        headers = {
            "Accept": "image/*" if kind is None else f"image/{kind}, image/*;q=0.1",
            "Accept-Encoding": "identity",  # pictures are small already, and a small file cannot become a huge one
        }
        url = calls.led(f"{self.channel.target.root}/", url)
        for _ in range(5):
            reply = yield from self.channel.call(Call("GET", url, headers=headers, file=True), deadline)
            if not 300 <= reply.status < 400:
                return bytes(reply.body)
            url = calls.led(url, reply.headers.get("location", ""))
        raise ServiceFailed("The picture's link leads from one address to the next without an end.")

    # Jobs

    def job(self, id: str) -> Flow[Job]:  # noqa: A002
        return replies.read((yield from self.channel.call(Call("GET", self._job(id)))), replies.job_of)

    def cancel(self, id: str) -> Flow[Job]:  # noqa: A002
        return replies.read((yield from self.channel.call(Call("POST", self._job(id) + "/cancel"))), replies.job_of)

    def delete(self, id: str) -> Flow[None]:  # noqa: A002
        yield from self.channel.call(Call("DELETE", self._job(id)))

    def jobs(self, state: States | None, model: str | None, from_: Moment | None, to: Moment | None) -> Stream[Job]:
        asked = {
            "state": state if state is None or isinstance(state, str) else ",".join(state),
            "model": model,
            "from": None if from_ is None else _moment(from_),
            "to": None if to is None else _moment(to),
            "limit": "50",
        }
        cursor: str | None = None
        while True:
            call = Call("GET", self._url("/v1/jobs", **asked, cursor=cursor))
            page, cursor = replies.read((yield from self.channel.call(call)), replies.page_of)
            for job in page:
                yield Emit(job)
            if cursor is None:
                return

    def follow(self, id: str, previews: bool) -> Stream[Progress[PictureT]]:  # noqa: A002
        yield from self._watch(id, previews=previews)

    def result(self, id: str) -> Flow[Result[PictureT]]:  # noqa: A002
        return (yield from quietly(self._watch(id, previews=False, deadline=self.channel.deadline())))

    # What the service is

    def models(self) -> Flow[list[Model]]:
        reply = yield from self.channel.call(Call("GET", self._url("/v1/models")))
        return replies.read(reply, replies.models_of)

    def usage(self, from_: Day | None, to: Day | None) -> Flow[Usage]:
        days = {"from": None if from_ is None else str(from_), "to": None if to is None else str(to)}
        reply = yield from self.channel.call(Call("GET", self._url("/v1/usage", **days)))
        return replies.read(reply, replies.usage_of)

    def _painting(self, order: Order) -> Call:
        key = uuid4().hex if order.key is None else order.key
        if not (key.isascii() and key.isprintable() and 0 < len(key) < 256) or " " in key:
            raise InvalidRequest("idempotency_key is to be 1 to 255 visible ASCII characters.")
        headers = {"Idempotency-Key": key}
        if order.own:
            path = "/v1/pictures"
            headers |= {} if order.waits else {"Prefer": "respond-async"}
        else:
            path = "/v1/image_generation" if order.waits else "/v1/jobs"
        # Every service has /v1/image_generation, and not every one knows the key.
        return Call("POST", self._url(path), order.body, headers, repeatable=order.own or not order.waits)

    # A job's events

    def _watch(
        self, job_id: str, *, previews: bool, deadline: float = float("inf")
    ) -> Generator[Step | Emit[Progress[PictureT]], Any, Result[PictureT]]:
        """Follow a job to its end, over cut connections, and tell of it.

        Raises:
            JobCancelled, LimnerAPIError: it was cancelled; no picture could be painted.
            ConnectionFailed: the server was away for longer than it is waited for.
            TimedOut: the deadline passed.
        """
        call = Call(
            "GET",
            self._job(job_id) + "/events" + ("?previews=true" if previews else ""),
            headers={"Accept": "text/event-stream"},
        )
        shown: dict[int, bytes] = {}
        job: Job | None = None
        attempt, lost = 0, float("inf")
        while True:
            error: LimnerAPIError = ConnectionFailed("The stream of the job's events was cut.", id=job_id)
            try:
                reply: Reply = yield self.channel.step(call, min(deadline, self.channel.deadline()), Listen)
                error = replies.error(reply, call.url, file=False) or error
                parser = sse.Parser()
                while reply.streams and (chunk := (yield Receive())):
                    for event in parser.feed(chunk):
                        if event.id.isprintable() and event.id.isascii() and event.id:
                            call = replace(call, headers={**call.headers, "Last-Event-ID": event.id})
                        if event.name == "preview":
                            number, preview = replies.read_text(event.data, replies.preview_of)
                            shown[number] = preview
                        elif event.name in STATES:
                            job = replies.read_text(event.data, replies.job_of)
                        else:
                            continue
                        result = self._outcome(job) if job is not None and job.ended else None
                        if job is not None:
                            yield Emit(Progress(job, dict(shown), result))
                        if result is not None:
                            return result
                    if job is not None:  # else any server that says something could be asked for ever
                        attempt, lost = 0, float("inf")
                    if time.monotonic() > deadline:
                        raise late()
            except Unreached as gone:
                error = self.channel.target.unreached(call.url, str(gone))
            except Broken as broken:
                error = ConnectionFailed(f"The connection broke ({broken}).", id=job_id)
            if time.monotonic() > deadline:
                raise late()
            now = time.monotonic()
            lost = min(lost, now)
            pause = calls.pause(error, attempt)
            # Who never had it gives up as other calls do; who had it waits for a server that starts again.
            patience = min(calls.LONGEST_WAIT, self.channel.timeout)
            if pause is None or (attempt >= self.channel.retries if job is None else now + pause > lost + patience):
                raise error
            attempt += 1
            yield Wait(pause)

    def _outcome(self, job: Job) -> Result[PictureT]:
        """What came of a job that has ended. Raises what it failed with, JobCancelled."""
        if job.state == "cancelled":
            raise JobCancelled(f"Job {job.id} was cancelled.", id=job.id)
        if job.state == "failed":
            raise job.error or ServiceFailed(f"Job {job.id} failed, and its server did not say why.", id=job.id)
        form = job.request.get("format", "jpeg")
        done = [picture for picture in job.pictures if picture.state == "done"]
        images = [self.picture(Source(p.url, p.seed, p.width, p.height, form)) for p in done]
        return Result(job.id, images, len(job.pictures) - len(done), job.notes, job.scene)

    def _job(self, job_id: str) -> str:
        return self._url(f"/v1/jobs/{quote(job_id, safe='')}")

    def _url(self, path: str, **query: str | None) -> str:
        given = {name: value for name, value in query.items() if value is not None}
        return self.channel.target.url(path) + (f"?{urlencode(given)}" if given else "")


def _moment(moment: Moment) -> str:
    """RFC 3339, UTC."""
    return moment if isinstance(moment, str) else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
