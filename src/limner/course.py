"""A job that is being painted in this process: from its row to its pictures in the store.

Every write names the job's token. Where that is no longer the row's, somebody else has the job, and nothing more is
done here.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import structlog
from sqlalchemy import Connection

from limner import counters, decode, imaging, masks, prompts, references, tracing
from limner.backends.base import Backend, Stream
from limner.config import Settings
from limner.engine.core import SEEDS, Cancelled, Done, Event, Failed, Request, Started, Stepped, UInt8
from limner.errors import (
    Busy,
    Closing,
    EngineFailed,
    JobCancelled,
    LimnerError,
    PolicyRefused,
    StorageFailed,
    StorageRefused,
    shown,
    told,
)
from limner.fetch import fetch
from limner.models.registry import Registry
from limner.order import Order, parameters_of, requests_of
from limner.provenance import Signer
from limner.safety import Policy, Stage
from limner.storage import audit, jobs, leases
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from limner.storage.jobs import Image, Job, State, Subject
from limner.storage.leases import Lease

log = structlog.get_logger(__name__)

PROGRESS_SECONDS = 1.0
"""How often a job's progress is written down, for other processes to see."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture."""

    data: bytes  # a file of the order's format
    seed: int  # in [0, 2**64): with the same order and this seed, picture 0 is this picture
    width: int
    height: int
    name: str = field(compare=False)  # in the blob store; unguessable


@dataclass(frozen=True, slots=True)
class Preview:
    """How a picture looks so far."""

    number: int
    step: int
    data: bytes  # a small JPEG


Write = Callable[[Connection], bool]
"""A change of a job's row; False where somebody else has the job."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What jobs are painted with."""

    settings: Settings
    backend: Backend
    database: Database
    blobs: Blobs
    models: Registry
    policy: Policy
    signer: Signer | None

    async def inspect(self, check: Awaitable[None], stage: Stage, *, tenant: str, job: str, prompt: str) -> None:
        """Await a check of the policy; what it refuses is counted and recorded for the operator.

        Raises:
            PromptRefused, PictureRefused: it is refused.
        """
        try:
            await check
        except PolicyRefused as refusal:
            counters.POLICY_REFUSALS.add(stage)
            row = partial(
                audit.add,
                now=time.time(),
                tenant=tenant,
                job=job,
                stage=stage,
                rule=refusal.rule or "",
                prompt=prompt if self.policy.audits else None,
            )
            with suppress(StorageFailed):  # it is refused all the same
                await self.database.run(row)
            raise


class Lost(Exception):
    """Somebody else has the job: nothing more may be written."""


@dataclass(eq=False)
class Course:
    """A job that is being painted here: how far its pictures have come, by their numbers.

    Attributes:
        watch: told every event of the backend.
        earlier: a job with the same pictures, to take them from.
        lost: somebody else has the job, or will have: this process has left it.
        outcome: done, failed, cancelled; lost until its end is written.
    """

    shop: Workshop
    job: Job
    order: Order
    watch: Callable[[Event], None] | None = None
    earlier: Job | None = None
    pictures: dict[int, Picture] = field(default_factory=dict)
    failures: dict[int, LimnerError] = field(default_factory=dict)
    error: LimnerError | None = None  # of the job as a whole
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)  # finished, of how many
    costs: dict[int, float] = field(default_factory=dict)
    previews: dict[int, Preview] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)  # a set that keeps its order
    plan: dict[str, Any] | None = None
    began: float | None = None  # when the first picture was, Unix seconds
    submitted: bool = False
    lost: bool = False
    outcome: str = "lost"
    stop: LimnerError | None = None  # why it is to stop before it is done
    leaving: bool = False  # this process ends: a write that fails is not tried again
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)  # replaced at every change
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _unwritten: Write | None = None  # what the last picture's row is to say
    _unlinked: int | None = None  # number of the picture whose row does not say done yet: its link leads nowhere

    def __post_init__(self) -> None:
        self.notes |= dict.fromkeys(self.job.notes)

    @property
    def open(self) -> list[int]:
        """Numbers of the pictures that no earlier run of the job has finished or failed."""
        return [image.number for image in self.job.images if image.state in ("queued", "running")]

    @property
    def whole(self) -> bool:
        """Whether all of the job's pictures are painted in this run."""
        return len(self.open) == len(self.job.images)

    @property
    def lease(self) -> Lease:
        return Lease(self.job.id, self.job.token)

    @property
    def failure(self) -> LimnerError | None:
        """Why there is no picture, or not all."""
        return self.stop or self.error or next((self.failures[number] for number in sorted(self.failures)), None)

    def changed(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()

    def halt(self, why: LimnerError) -> None:
        """Stop painting; what is ready stays. `Closing` leaves the job as its row says it is, for another process."""
        self.stop = self.stop or why
        self.leaving = self.leaving or isinstance(why, Closing)
        self._stopping.set()

    def snapshot(self, row: Job | None = None) -> Job:
        """The job as it is now, which its row (by default that which it began with) may not say yet."""
        row = row or self.job
        state: State = "running" if self.steps and row.state == "queued" else row.state
        images = tuple(map(self._image, row.images))
        return replace(
            row,
            state=state,
            images=images,
            started=row.started or self.began,
            notes=tuple(self.notes),
            plan=self.plan or row.plan,
        )

    def _image(self, image: Image) -> Image:
        number = image.number
        if number in self.pictures and number != self._unlinked:
            image = replace(image, state="done", bytes=len(self.pictures[number].data))
        elif number in self.failures:
            failure = self.failures[number]
            image = replace(image, state="failed", code=int(failure.code), error=shown(failure))
        elif number in self.steps:
            image = replace(image, state="running")
        step, steps = self.steps.get(number, (image.step, image.steps))
        return replace(image, step=step, steps=steps)

    async def run(self) -> None:
        """Paint the job, to its end, or until it is halted or lost."""
        began = time.monotonic()
        working = asyncio.create_task(self._work())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            working.cancel()
            with suppress(asyncio.CancelledError):
                await self._settled(working)
            self.lost = isinstance(self.stop or self.error, Closing)
            if not self.lost:
                await self._ended()
        except Lost:
            self.lost = True
            log.warning("job lost to another process")
            await self._tidied()
        finally:
            self._log(time.monotonic() - began)

    async def _tidied(self) -> None:
        """Delete what was stored here for a job that was deleted meanwhile."""
        names = [picture.name for picture in self.pictures.values()]
        with suppress(StorageFailed):  # the sweep will
            known = await self.shop.database.run(partial(jobs.known_blobs, names=names), writing=False)
            await self.shop.blobs.run(self.shop.blobs.delete, sorted(set(names) - known))

    async def _settled(self, working: asyncio.Task[None]) -> None:
        """Wait for the work; what it raises is the job's error."""
        try:
            await working
        except Lost:
            raise
        except Exception as error:
            self.error = told(error)

    async def _paint(self) -> None:
        """Paint what is open."""
        if self.job.attempts >= self.shop.settings.job_attempts:
            raise EngineFailed(
                f"The service stopped {self.job.attempts} times while this job was being painted, so it is not tried "
                "again. Ask for something else; the operator finds the job's id in the service's log."
            )
        requests = await self._requests()
        numbers = {request.id: number for request, number in zip(requests, self.open, strict=True)}
        written = time.monotonic()
        async with aclosing(await self._submit(requests)) as events:
            submitted = time.monotonic()
            async for event in events:
                number = numbers[event.id]
                await self._catch_up()
                match event:
                    case Started(notes=notes, plan=plan, steps=steps, cost=cost):
                        tracing.record("queue", time.monotonic() - submitted, {"limner.picture": number})
                        self.began = self.began or time.time()
                        self.notes |= dict.fromkeys(notes)
                        self.plan = plan if number == 0 else self.plan
                        self.steps[number] = (0, steps)
                        self.costs[number] = cost
                    case Stepped(step=step, steps=steps, preview=preview):
                        self.steps[number] = (step, steps)
                        if preview is not None:
                            data = await asyncio.to_thread(imaging.encode, preview, quality=80)
                            self.previews[number] = Preview(number, step, data)
                    case Done(pixels=pixels, seconds=seconds):
                        decoding, which = seconds.get("decode", 0.0), {"limner.picture": number}
                        tracing.record("evaluate", seconds.get("evaluate", 0.0), which, ended=time.time() - decoding)
                        tracing.record("decode", decoding, which)
                        await self._finish(number, pixels, seconds)
                    case Failed(error=Closing() as error):
                        raise error
                    case Failed(error=error):
                        self._fail(number, told(error))
                    case Cancelled():
                        self._fail(number, EngineFailed("The picture was cancelled before it was painted."))
                if self.watch is not None:
                    self.watch(event)
                self.changed()
                if time.monotonic() - written > PROGRESS_SECONDS:
                    written = time.monotonic()
                    await self._progress()

    async def _work(self) -> None:
        """Paint, or copy where the same was painted before and is still there."""
        earlier = self.earlier
        files = [] if earlier is None else await self.shop.blobs.run(self._files, earlier)
        if earlier is None or None in files:
            await self._paint()
            return
        counters.CACHE_HITS.add()
        self.notes |= dict.fromkeys(earlier.notes)
        self.plan = None if earlier.plan is None else dict(earlier.plan)
        for image, data in zip(self.job.images, files, strict=True):
            await self._catch_up()
            await self._keep(image, data or b"", {})

    def _files(self, job: Job) -> list[bytes | None]:
        """A job's pictures from the store; runs in a thread."""
        blobs = [self.shop.blobs.get(image.blob) for image in job.images]
        return [None if blob is None else blob.data for blob in blobs]

    async def _submit(self, requests: list[Request]) -> Stream:
        """Give the requests to the backend, as soon as it has room: the job is accepted already."""
        pause = 0.02
        while True:
            try:
                stream = self.shop.backend.submit(requests)
            except Busy:
                await asyncio.sleep(pause)
                pause = min(1.0, 2 * pause)
            else:
                self.submitted = True
                return stream

    async def _requests(self) -> list[Request]:
        """One engine request for each open picture, the references read and the prompt expanded."""
        order, prompt = self.order, None
        try:
            with tracing.span("references", {"limner.references": len(self.job.subjects)}):
                async with asyncio.TaskGroup() as group:
                    reading = [group.create_task(self._subject(subject)) for subject in self.job.subjects]
                    if order.optimize_prompt:
                        expanding = group.create_task(prompts.optimize(order.prompt, self.shop.settings))
        except ExceptionGroup as failed:
            lost = next((error for error in failed.exceptions if isinstance(error, Lost)), None)
            raise lost or failed.exceptions[0] from None
        if order.optimize_prompt:
            prompt = expanding.result()
            await self._inspect(self.shop.policy.check_prompt(prompt), "prompt")
            if self.shop.settings.optimizer_url is not None:  # another run would be answered otherwise
                await self._write(partial(leases.progress, lease=self.lease, now=time.time(), prompt=prompt))
        asked = self.job.images
        return requests_of(
            replace(order, prompt=prompt or order.prompt),
            self.shop.models,
            ids=[f"{self.job.id}-{self.job.token}-{number}" for number in self.open],
            seeds=[asked[number].seed % SEEDS for number in self.open],
            subjects=tuple(task.result() for task in reading),
            tenant=self.job.tenant,
            notes=self.notes,
        )

    async def _subject(self, subject: Subject) -> UInt8:
        """One reference's pixels; what is fetched is kept first, so that a second run sees the same."""

        async def kept(url: str, settings: Settings) -> bytes:
            data = await fetch(url, settings)
            await self.shop.blobs.run(self.shop.blobs.put, subject.blob, data)
            await self._write(partial(leases.keep_subject, lease=self.lease, number=subject.number))
            return data

        source: str | bytes
        if subject.kept:
            blob = await self.shop.blobs.run(self.shop.blobs.get, subject.blob)
            if blob is None:
                raise StorageFailed("The job's reference is no longer in the store. Send the request again.")
            source = blob.data
        else:
            source = subject.url or ""  # what came with the request was kept before it was accepted
        repainted = self.order.mask and subject.number in (0, len(self.job.subjects) - 1)  # the picture, and its mask
        long_side = masks.LONG_SIDE if repainted else decode.LONG_SIDE
        with references.as_mask(self.order.mask and subject.number == len(self.job.subjects) - 1):
            pixels = await references.read(source, self.shop.settings, kept, long_side)
        await self._inspect(self.shop.policy.check_reference(pixels), "reference")
        return pixels

    async def _inspect(self, check: Awaitable[None], stage: Stage) -> None:
        await self.shop.inspect(check, stage, tenant=self.job.tenant, job=self.job.id, prompt=self.order.prompt)

    async def _finish(self, number: int, pixels: UInt8, seconds: Mapping[str, float]) -> None:
        """Check, encode and store one picture."""
        try:
            await self._inspect(self.shop.policy.check_picture(pixels), "picture")
            with tracing.span("encode", {"limner.picture": number}):
                data = await asyncio.to_thread(self._encode, number, pixels)
            await self._keep(self.job.images[number], data, seconds)
            counters.PICTURES.add(self.job.model)
            counters.PICTURE_BYTES.add(self.job.model, amount=len(data))
        except Exception as error:
            self._fail(number, told(error))

    async def _keep(self, image: Image, data: bytes, seconds: Mapping[str, float]) -> None:
        """Store one picture's file. Raises StorageFailed."""
        with tracing.span("store", {"limner.picture": image.number, "limner.bytes": len(data)}):
            await self.shop.blobs.run(self.shop.blobs.put, image.blob, data)
        self.pictures[image.number] = Picture(data, image.seed % SEEDS, image.width, image.height, image.blob)
        self._unlinked = image.number
        self._unwritten = partial(
            leases.finish_image,
            lease=self.lease,
            number=image.number,
            data_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            seconds={name: round(value, 4) for name, value in seconds.items()},
            cost=self.costs.get(image.number, 0.0),
            steps=self.steps.get(image.number, (0, None))[1],
        )

    def _encode(self, number: int, pixels: UInt8) -> bytes:
        """The picture's file; runs in a thread."""
        order, settings = self.order, self.shop.settings
        model = self.shop.models.lookup(order.model)
        fingerprint = self.shop.backend.models.get(model.name)
        parameters = None
        if settings.parameters_in_metadata:
            _, steps = self.steps.get(number, (0, order.steps))
            seed = self.job.images[number].seed % SEEDS
            parameters = parameters_of(replace(order, steps=steps), seed, model.name, fingerprint)
        data = imaging.encode(
            pixels,
            order.format,
            quality=order.quality or settings.jpeg_quality,
            watermark=settings.watermark_text if order.watermark else None,
            font=settings.watermark_font,
            parameters=parameters,
        )
        if self.shop.signer is None:
            return data
        return self.shop.signer.sign(
            data,
            order.format,
            model=model.name,
            fingerprint=fingerprint,
            references=len(self.job.subjects) - order.mask,
            parameters=parameters,
        )

    def _fail(self, number: int, error: LimnerError) -> None:
        self.failures[number] = error
        self._unwritten = partial(
            leases.fail_image, lease=self.lease, number=number, code=int(error.code), error=shown(error)
        )

    async def _catch_up(self) -> None:
        """Write what the last picture's row is to say. The very last one's is written with the job's end."""
        if self._unwritten is not None:
            await self._write(self._unwritten)
            self._unwritten = self._unlinked = None

    async def _ended(self) -> None:
        """Write the job's end; where the database refuses what it is to say, for good, say no more than that."""
        try:
            await self._end()
        except StorageRefused as error:
            self.error = error
            self.pictures.clear()
            self._unwritten, self.notes, self.plan = None, {}, None
            await self._end()

    async def _end(self) -> None:
        """Write the job's end, together with its last picture."""
        failure, last = self.failure, self._unwritten
        painted = len(self.pictures) + sum(image.state == "done" for image in self.job.images)
        state: Literal["done", "failed", "cancelled"] = "done" if painted else "failed"
        if isinstance(self.stop, JobCancelled):
            state = "cancelled"
        end = partial(
            leases.end,
            lease=self.lease,
            state=state,
            now=time.time(),
            started=self.began,
            notes=tuple(self.notes),
            plan=self.plan,
            code=None if failure is None else int(failure.code),
            error=None if failure is None else shown(failure),
            forget_key=state == "failed" and failure is not None and failure.retryable,
        )
        await self._write(lambda connection: (last is None or last(connection)) and end(connection))
        self.outcome = state

    async def _progress(self) -> None:
        """Write down how far the job is; where the database is away, the next time will do."""
        work = partial(
            leases.progress,
            lease=self.lease,
            now=time.time(),
            steps=dict(self.steps),
            notes=tuple(self.notes),
            plan=self.plan,
        )
        with suppress(StorageFailed):
            if not await self.shop.database.run(work):
                raise Lost

    async def _write(self, work: Write) -> None:
        """Write with the job's token, again and again while the database is away. Raises Lost."""
        pause = 0.05
        while True:
            try:
                if not await self.shop.database.run(work):
                    raise Lost
                return
            except StorageFailed:
                if self.leaving:
                    raise Lost from None  # taken over once this process is seen to be gone
            await asyncio.sleep(pause)
            pause = min(2.0, 2 * pause)

    def _log(self, seconds: float) -> None:
        order = self.order
        log.info(
            "job",
            result="lost" if self.lost else "painted" if self.pictures else type(self.failure).__name__,
            model=order.model,
            width=order.width,
            height=order.height,
            n=order.n,
            painted=len(self.pictures),
            references=len(self.job.subjects),
            prompt_chars=len(order.prompt),
            optimized=order.optimize_prompt,
            notes=len(self.notes),  # their number alone: they quote the prompt
            attempts=self.job.attempts,
            seconds=round(seconds, 3),
        )
