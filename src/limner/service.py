"""A job's whole life: checked, recorded, painted (`runner`), waited for or followed, cancelled, deleted."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog

from limner import imaging, prompts, references
from limner.backends.base import Backend
from limner.config import Settings
from limner.course import Course, Picture, Preview, Workshop
from limner.decode import LONG_SIDE
from limner.engine.core import SEEDS, Event, Failed, Started, UInt8
from limner.engine.pool import Pool
from limner.errors import (
    Busy,
    Closing,
    EngineFailed,
    InvalidRequest,
    JobCancelled,
    LimnerError,
    NoSuchJob,
    StorageFailed,
    TimedOut,
    of_code,
    told,
)
from limner.intake import Idempotency, Intake, SizeLike, seeds_of
from limner.models import entries
from limner.models.registry import PAINTER
from limner.order import Order, requests_of
from limner.provenance import Signer
from limner.runner import Runner
from limner.safety import Policy
from limner.storage import jobs
from limner.storage.blobs import Blobs, new_name
from limner.storage.database import Database
from limner.storage.jobs import Image, Job
from limner.tenants import ANYONE, Caller, Tenants, refuse_open

__all__ = [
    "Idempotency",
    "Image",
    "Job",
    "Order",
    "Outcome",
    "Picture",
    "Preview",
    "Service",
    "SizeLike",
    "StoredPicture",
]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
"""How often a job that another process paints is looked at, for those who follow it here."""


WAIT_SECONDS = 0.1
"""How often it is looked at for a call that waits for it."""

LOOKED_AT_ONCE = 4
"""Most references of one tenant that are looked at for themselves at once; each may be fetched from afar."""

UNPAINTED = "Nothing was painted. Try again."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order. `pictures` keep the order of their seeds; failed ones are left out and counted."""

    job: str
    pictures: tuple[Picture, ...]
    failed: int
    notes: tuple[str, ...] = ()  # sentences about what had no effect, and why
    plan: dict[str, Any] | None = None  # the first picture's scene
    replayed: bool = False  # this is the answer to an earlier call with the same Idempotency-Key
    errors: tuple[LimnerError, ...] = ()  # why each of the others is missing, in the order of their seeds


@dataclass(frozen=True, slots=True)
class StoredPicture:
    data: bytes
    format: imaging.Format
    etag: str  # quoted, as the ETag header carries it (RFC 9110, 8.8.3)
    modified: datetime  # UTC
    expires: float  # Unix seconds


class Service:
    """Accepts orders as jobs and answers for them. Belongs to one event loop: `start` it there, and `stop` it.

    Attributes:
        models: that an order may name.
        closed: whether it is stopping; no orders are taken then.
    """

    def __init__(self, settings: Settings, backend: Backend, database: Database, blobs: Blobs) -> None:
        self.settings = settings
        self.backend = backend
        self.database = database
        self.blobs = blobs
        self.models = entries.load(settings)
        self.policy = Policy.load(settings)
        self.tenants = Tenants(settings, database, self.models)
        shop = Workshop(settings, backend, database, blobs, self.models, self.policy, Signer.load(settings))
        self.runner = Runner(shop)
        self.intake = Intake(shop, self.tenants, self.runner)
        self._looking: Counter[str] = Counter()  # references that are looked at for themselves, by tenant
        self._end: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        return self.runner.closed

    @property
    def ready(self) -> bool:
        """Whether orders are taken and the models of the start have been loaded."""
        return not self.closed and self.backend.ready

    async def start(self) -> None:
        """Begin to paint, with what an earlier process left. Raises StorageFailed."""
        await self.runner.start()

    async def stop(self) -> None:
        """Take no more orders, give what runs `grace_seconds`, hand back the rest, close.

        May be called again, also meanwhile: every call returns once all is closed.
        """
        if self._end is None:
            self._end = asyncio.create_task(self._close())
        await asyncio.shield(self._end)

    async def _close(self) -> None:
        await self.runner.stop()
        await asyncio.to_thread(self.backend.close)
        await self.tenants.close()
        await asyncio.to_thread(self.database.close)

    async def generate(
        self,
        order: Order,
        caller: Caller = ANYONE,
        *,
        job_id: str | None = None,
        idempotency: Idempotency | None = None,
        watch: Callable[[Event], None] | None = None,
        accepted: Callable[[Job, bool], None] | None = None,
        size_like: SizeLike | None = None,
    ) -> Outcome:
        """Paint the pictures of `order` and wait for them: as many as are ready within request_seconds.

        Picture k has seed (seed + k) mod 2**64; the same order with the same seed has the same bytes (unless a chat
        endpoint rewrites the prompt). Who leaves early, or waited long enough, cancels what is not painted yet, unless
        the call has an idempotency key: a retry with it waits on.

        Args:
            watch: is told every event of the backend.
            accepted: is told the job once it is recorded, and whether it is a new one.
            size_like: makes the size of the first reference that of the pictures; the order's own is then the least
                that can come of it.

        Raises:
            InvalidRequest, IllegalCharacters, PromptRefused, KeyReused: the order cannot be filled as it is.
            Busy, QuotaUsed, ModelNotAllowed: the caller may not ask for it, or not now.
            StorageFailed: it could not be recorded.
            TimedOut: not one picture was ready in time.
            LimnerError: every picture failed; the first one's error.
        """
        # On its own, so that a client that leaves leaves no job behind that nobody paints.
        accepting = asyncio.create_task(
            self.intake.accept(order, caller, job_id, idempotency, waits=True, watch=watch, size_like=size_like)
        )
        try:
            job, fresh = await asyncio.shield(accepting)
            if accepted is not None:
                accepted(job, fresh)
            try:
                async with asyncio.timeout(self.settings.request_seconds) as limit:
                    return replace(await self.wait(job.id), replayed=not fresh)
            except TimeoutError:
                if not limit.expired():
                    raise
        except asyncio.CancelledError:
            if idempotency is None:
                accepting.add_done_callback(self._abandon)
            raise
        seconds = self.settings.request_seconds
        if idempotency is not None:
            raise TimedOut(
                f"The pictures were not ready within {seconds:g} seconds. Job {job.id} goes on: send the same request "
                "with the same Idempotency-Key again, or look at it with GET /v1/jobs."
            )
        if (course := self.runner.courses.get(job.id)) is not None:
            course.halt(
                TimedOut(f"No picture was ready within {seconds:g} seconds. Try again, with fewer or smaller pictures.")
            )
        try:
            async with asyncio.timeout(self.settings.storage_seconds):
                return await self.wait(job.id)
        except TimeoutError:  # its end cannot be written now
            raise TimedOut(
                f"The service's database is away. Job {job.id} goes on: look at it with GET /v1/jobs."
            ) from None

    async def accept(
        self,
        order: Order,
        caller: Caller = ANYONE,
        *,
        job_id: str | None = None,
        idempotency: Idempotency | None = None,
    ) -> Job:
        """Record `order` as a job, which is painted in its time whatever happens to this process.

        With an idempotency key that came before, it is the first call's job. Raises as `generate` does before it waits.
        """
        accepting = asyncio.create_task(self.intake.accept(order, caller, job_id, idempotency, waits=False))
        job, _ = await asyncio.shield(accepting)
        return job

    async def wait(self, job_id: str) -> Outcome:
        """What comes of a job, once it has ended, whoever paints it.

        Raises:
            JobCancelled, NoSuchJob: it was cancelled, or deleted.
            Closing: this process stops before that.
            LimnerError: no picture could be painted; the first one's error.
        """
        course = self.runner.courses.get(job_id)
        if course is not None:
            await course.finished.wait()
            if course.whole and (not course.lost or (self.closed and course.pictures)):
                return _outcome(course)  # of a job that is handed back, what was ready
        while True:
            job = await self.database.run(partial(jobs.get, job_id=job_id), writing=False)
            if job is None:
                raise NoSuchJob("The job was deleted before it had ended.")
            if job.ended:
                return await self.blobs.run(self._stored_outcome, job)
            if self.closed:
                raise Closing(
                    f"The service is shutting down. Job {job_id} goes on once it is back: look at it with GET /v1/jobs."
                )
            await asyncio.sleep(WAIT_SECONDS)

    async def plan(self, order: Order, caller: Caller = ANYONE) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The scene of `order`'s first picture, and sentences about what had no effect; nothing is painted or recorded.

        Raises:
            As `generate`; InvalidRequest where the model plans no scenes.
        """
        no_scene = f"Model {order.model} paints from the words and plans no scene."
        if self.models.lookup(order.model).weights != PAINTER:
            raise InvalidRequest(no_scene)  # before it is loaded in vain
        order, notes = await self.intake.check(order, caller)
        try:
            async with asyncio.timeout(self.settings.request_seconds):
                subjects = [await references.read(source, self.settings) for source in order.references]
                if order.optimize_prompt:
                    order = replace(order, prompt=await prompts.optimize(order.prompt, self.settings))
                told_notes = dict.fromkeys(notes)
                request, *_ = requests_of(
                    order,
                    self.models,
                    ids=[secrets.token_hex(16)],
                    seeds=[seeds_of(order)[0]],
                    subjects=tuple(subjects),
                    tenant=caller.tenant,
                    notes=told_notes,
                )
                async with aclosing(self.backend.submit([request])) as events:
                    async for event in events:
                        match event:
                            case Started(plan=None):
                                raise InvalidRequest(no_scene)
                            case Started(plan=dict(scene), notes=more):
                                return scene, (*told_notes, *more)
                            case Failed(error=error):
                                raise told(error)
        except TimeoutError:
            raise TimedOut("The scene was not planned in time. Try again.") from None
        raise EngineFailed("The scene could not be planned. Try again.")

    async def reference(self, source: str, caller: Caller = ANYONE, *, long_side: int = LONG_SIDE) -> UInt8:
        """What a job would see of a reference, (H, W, 4) uint8 with straight alpha, read and checked as for one.

        Raises:
            ReferenceRefused, PictureRefused: a job with it would be refused.
            Busy: as many of the caller's are being looked at as may be at once.
        """
        if self._looking[caller.tenant] >= LOOKED_AT_ONCE:
            raise Busy("Too many references are being looked at. Wait a little, then try again.")
        self._looking[caller.tenant] += 1
        try:
            pixels = await references.read(source, self.settings, long_side=long_side)
            check = self.policy.check_reference(pixels)
            await self.intake.shop.inspect(check, "reference", tenant=caller.tenant, job="", prompt="")
            return pixels
        finally:
            self._looking -= Counter({caller.tenant: 1})  # forgets who has none left

    # Jobs that are there

    async def painted_prompt(self, job_id: str, caller: Caller = ANYONE) -> str:
        """The words that a job is painted from: its prompt, as the optimizer rewrote it. Raises NoSuchJob."""
        request = (await self.job(job_id, caller)).request
        prompt: str = request["prompt"]  # as a chat endpoint rewrote it, which is asked for no other then
        return prompts.expand_within(prompt, self.settings) if request["optimize_prompt"] else prompt

    async def job(self, job_id: str, caller: Caller = ANYONE) -> Job:
        """A job of this caller's as it is now. Raises NoSuchJob."""
        job = await self.database.run(partial(jobs.get, job_id=job_id, tenant=caller.tenant), writing=False)
        if job is None:
            raise _no_such_job(job_id)
        course = self.runner.courses.get(job_id)
        return job if course is None or job.ended else course.snapshot(job)

    async def list_jobs(
        self,
        caller: Caller = ANYONE,
        *,
        limit: int = 20,
        before: tuple[float, str] | None = None,
        states: Sequence[str] = (),
        model: str | None = None,
        created_from: float | None = None,
        created_to: float | None = None,
    ) -> list[Job]:
        """This caller's jobs, the newest first; `before` is (created, id) of the last one of the page before."""
        find = partial(
            jobs.page,
            tenant=caller.tenant,
            limit=limit,
            before=before,
            states=states,
            model=model,
            created_from=created_from,
            created_to=created_to,
        )
        return await self.database.run(find, writing=False)

    async def queue_place(self, job: Job) -> int:
        """Pictures of earlier jobs that are not painted yet."""
        return await self.database.run(partial(jobs.ahead, job=job), writing=False)

    async def cancel(self, job_id: str, caller: Caller = ANYONE) -> Job:
        """Stop a job; what is painted of it stays. One that has ended stays as it is. Raises NoSuchJob."""
        ask = partial(jobs.ask_cancel, job_id=job_id, tenant=caller.tenant, now=time.time())
        job = await self.database.run(ask)
        if job is None:
            raise _no_such_job(job_id)
        if (course := self.runner.courses.get(job_id)) is not None:
            await self._halted(course)
            return await self.job(job_id, caller)
        return job

    async def delete(self, job_id: str, caller: Caller = ANYONE) -> None:
        """Remove a job, its pictures and its references, whatever its state. Raises NoSuchJob, StorageFailed."""
        start = partial(jobs.start_deleting, job_id=job_id, tenant=caller.tenant, now=time.time())
        blobs = await self.database.run(start)
        if blobs is None:
            raise _no_such_job(job_id)
        if (course := self.runner.courses.get(job_id)) is not None:
            await self._halted(course)
        await self.blobs.run(self.blobs.delete, blobs)
        await self.database.run(partial(jobs.forget, job_ids=[job_id]))

    async def _halted(self, course: Course) -> None:
        course.halt(JobCancelled())
        try:
            async with asyncio.timeout(self.settings.storage_seconds):
                await course.finished.wait()
        except TimeoutError:  # its row says that it is to end, and it will
            raise StorageFailed(
                "The job stops, but the service's database or store is away, so that this cannot be recorded yet. Look "
                "again in a little while."
            ) from None

    async def follow(self, job_id: str, caller: Caller = ANYONE) -> AsyncGenerator[Job | Preview, None]:
        """The job now and after every change, to its end; between, where it asked for them, previews.

        Who is slow misses what came between and sees the newest. Raises NoSuchJob where there is none, or no more.
        """
        seen: dict[int, Preview] = {}
        version = 0
        while True:
            course = self.runner.courses.get(job_id)
            if course is not None and course.job.tenant == caller.tenant:
                while not course.finished.is_set():
                    news = course.news
                    yield course.snapshot()
                    for number, preview in list(course.previews.items()):
                        if seen.get(number) is not preview:
                            seen[number] = preview
                            yield preview
                    await news.wait()
            job = await self.job(job_id, caller)
            if job.version != version:
                version = job.version
                yield job
            if job.ended:
                return
            if self.closed:
                raise Closing
            await asyncio.sleep(LOOK_SECONDS)

    async def picture(self, name: str) -> StoredPicture | None:
        """The finished picture of this name, unless its job has expired or was deleted. Raises StorageFailed."""
        found = await self.database.run(partial(jobs.by_blob, blob=name, now=time.time()), writing=False)
        blob = await self.blobs.run(self.blobs.get, name) if found is not None else None
        if found is None or blob is None:
            return None
        job, _ = found
        kind = next(kind for kind in imaging.MEDIA_TYPES if name.endswith(f".{kind}"))
        return StoredPicture(blob.data, kind, blob.etag, blob.modified, job.expires)

    def link(self, name: str, base: str) -> str:
        """Where a picture can be had: of this service at `base`, or signed by the store where `links` says so."""
        signed_link = None
        if self.settings.links == "store":
            signed_link = self.blobs.link(name, self.settings.link_seconds)
        return signed_link or f"{base}/files/{name}"

    async def store_origin(self) -> str | None:
        """Scheme and host of the links that the store signs; None where it signs none. Raises StorageFailed."""
        signed_link = await self.blobs.run(self.blobs.link, new_name(), self.settings.link_seconds)
        parts = urlsplit(signed_link or "")
        return f"{parts.scheme}://{parts.netloc}" if signed_link else None

    def _abandon(self, accepting: asyncio.Task[tuple[Job, bool]]) -> None:
        """The caller who waited for a job has left."""
        if accepting.cancelled() or accepting.exception() is not None:
            return
        job, fresh = accepting.result()
        if fresh and (course := self.runner.courses.get(job.id)) is not None:
            course.halt(JobCancelled("The caller left before the pictures were painted."))

    def _stored_outcome(self, job: Job) -> Outcome:
        """The outcome of a job that has ended, its pictures read from the store; runs in a thread."""
        if job.state == "cancelled":
            raise JobCancelled
        pictures, errors = [], []
        for image in job.images:
            blob = self.blobs.get(image.blob) if image.state == "done" else None
            if blob is not None:
                pictures.append(Picture(blob.data, image.seed % SEEDS, image.width, image.height, image.blob))
            else:
                errors.append(of_code(image.code or job.code or 0, image.error or job.error or "It is gone."))
        if not pictures:
            raise of_code(job.code or 0, job.error or "The job's pictures are no longer there.")
        return Outcome(
            job.id,
            tuple(pictures),
            job.pictures - len(pictures),
            job.notes,
            None if job.plan is None else dict(job.plan),
            errors=tuple(errors),
        )


def _outcome(course: Course) -> Outcome:
    """What was painted here, or the first error where nothing was."""
    if course.pictures and not isinstance(course.stop, JobCancelled):
        pictures = tuple(picture for _, picture in sorted(course.pictures.items()))
        missing = [image.number for image in course.job.images if image.number not in course.pictures]
        unknown = course.failure or EngineFailed(UNPAINTED)
        errors = tuple(course.failures.get(number, unknown) for number in missing)
        return Outcome(course.job.id, pictures, len(missing), tuple(course.notes), course.plan, errors=errors)
    raise course.failure or EngineFailed(UNPAINTED)


def _no_such_job(job_id: str) -> NoSuchJob:
    return NoSuchJob(f"There is no job {job_id[:40]!a} of yours; it may have expired or been deleted.")


def load_pipelines(settings: Settings, only: str | None = None) -> Pool:
    """Every model of the registry, or the one named `only`; that one or image-01's is loaded before anybody asks.

    Raises:
        SettingsInvalid: the models file is wrong.
        ModelUnusable: what is to be loaded first is missing, corrupt or of another kind than it should be.
    """
    from limner.backends import sources

    return sources.pool(settings, entries.load(settings), only)


def load_backend(settings: Settings, only: str | None = None) -> Backend:
    """The models in an engine of this process. Raises as `load_pipelines` does."""
    from limner.backends.local import LocalBackend
    from limner.engine.engine import Engine

    return LocalBackend(Engine(load_pipelines(settings, only), settings.queue_limit))


def build_service(settings: Settings) -> Service:
    """The whole service as `limner serve` runs it.

    Raises:
        SettingsInvalid: a setting cannot be used: the watermark, the database, the store, the policy, a certificate.
        ModelUnusable: a model cannot be loaded.
        StorageFailed: the database or the store cannot be reached.
    """
    imaging.check_watermark(settings.watermark_text, settings.watermark_font)
    with ExitStack() as built:
        backend = load_backend(settings)
        built.callback(backend.close)
        database = Database.open(settings)
        built.callback(database.close)
        with database.transaction(writing=False) as connection:
            refuse_open(settings, connection)
        service = Service(settings, backend, database, Blobs.open(settings))
        built.pop_all()
    return service


def temporary_service(settings: Settings, model: str | None) -> Service:
    """A service of one model, or of all, that keeps nothing, for the command line."""
    return Service(settings, load_backend(settings, model), Database.in_memory(), Blobs.in_memory())
