"""An order becomes a job: checked, recorded with all it needs to be painted at any time, begun where there is room."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from limner import counters, prompts, references, tracing
from limner.course import Workshop
from limner.engine.core import SEEDS, Event
from limner.errors import Busy, Closing, InvalidRequest, KeyReused, LimnerError, ReferenceRefused, StorageFailed
from limner.fetch import check_webhook
from limner.models.abilities import abilities, readable
from limner.order import Order, result_digest, signed
from limner.runner import Runner
from limner.storage import jobs, leases, usage
from limner.storage.blobs import new_name
from limner.storage.jobs import Image, Job, Subject
from limner.storage.leases import Lease
from limner.tenants import Caller, Tenants

ARRIVING_SECONDS = 0.1
"""How often a retry looks whether the first call with its Idempotency-Key has been accepted."""

SCENE_LONGEST = 2**16
NAME_LONGEST = 200
LORAS_MOST = 16

FULL = "Every place in the queue is taken. Wait a little, then try again."


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A key that makes a retry return the first call's result, and the digest of the body that came with it."""

    key: str  # 1 to 255 visible ASCII characters
    body_digest: str


SizeLike = Callable[[int, int], tuple[int, int]]
"""From the width and the height of an order's first reference, upright, to those of the pictures. May raise
InvalidRequest."""


class Intake:
    """Where orders come in."""

    def __init__(self, shop: Workshop, tenants: Tenants, runner: Runner) -> None:
        self.shop = shop
        self.tenants = tenants
        self.runner = runner
        self._coming = 0  # pictures of calls that are being recorded

    async def check(self, order: Order, caller: Caller, job_id: str = "") -> tuple[Order, tuple[str, ...]]:
        """The order with its words checked and, where settings say so, cut; and notes of what was cut."""
        settings, notes = self.shop.settings, []
        words = prompts.check(order.prompt, settings)
        if len(words) < len(order.prompt):
            notes.append(f"The prompt was cut at {len(words)} characters.")
        negative = order.negative_prompt if order.negative_prompt and order.negative_prompt.strip() else None
        if negative is not None:
            whole, negative = negative, prompts.check(negative, settings, "negative_prompt")
            if len(negative) < len(whole):
                notes.append(f"The negative prompt was cut at {len(negative)} characters.")
        shown = len(order.references) - order.mask
        if order.mask and not shown:
            raise InvalidRequest(
                "A mask needs the picture that it is a mask of. Send that as the first reference.", "mask"
            )
        if order.mask:
            await asyncio.to_thread(self._check_mask, order.model)
        if shown > settings.reference_max_count:
            raise ReferenceRefused(
                f"Field subject_reference holds {shown} references; at most "
                f"{settings.reference_max_count} can be used.",
                "count",
            )
        if order.n > settings.queue_limit:
            raise InvalidRequest(
                f"{order.n} pictures were asked for at once, but at most {settings.queue_limit} fit. Ask for fewer."
            )
        if len(json.dumps(order.scene)) > SCENE_LONGEST:
            raise InvalidRequest(
                f"Field scene must be at most {SCENE_LONGEST} characters of JSON; shorten it.", "scene"
            )
        if len(order.loras) > LORAS_MOST or any(len(name) > NAME_LONGEST for name, _ in order.loras):
            raise InvalidRequest(
                f"Field loras must be at most {LORAS_MOST} names of {NAME_LONGEST} characters.", "loras"
            )
        if order.style is not None and len(order.style) > NAME_LONGEST:
            raise InvalidRequest(f"Field style must be at most {NAME_LONGEST} characters.", "style")
        if order.webhook is not None:
            check_webhook(order.webhook)
        self.tenants.check(caller, order)
        for text in (words, "\n".join(_texts(order.scene))):
            check = self.shop.policy.check_prompt(text)
            await self.shop.inspect(check, "prompt", tenant=caller.tenant, job=job_id, prompt=text)
        return replace(order, prompt=words, negative_prompt=negative), tuple(notes)

    def _check_mask(self, name: str) -> None:
        """Raises InvalidRequest where a model repaints nothing, as far as that can be told without loading it."""
        models = self.shop.models
        model = models.lookup(name)
        if abilities(model).mask or not readable(model):
            return
        able = ", ".join(other.name for other in models.models if abilities(other).mask)
        other = f"Leave the mask out, or ask {able}." if able else "No model here does: leave the mask out."
        raise InvalidRequest(f"Model {name} repaints no part of a picture. {other}", "mask")

    async def accept(
        self,
        order: Order,
        caller: Caller,
        job_id: str | None,
        idempotency: Idempotency | None,
        *,
        waits: bool,
        watch: Callable[[Event], None] | None = None,
        size_like: SizeLike | None = None,
    ) -> tuple[Job, bool]:
        """The job of this order, and whether it is a new one. Where there is room it is begun at once.

        With `size_like` the first reference decides the order's size, once nothing else stands against it.
        """
        if self.runner.closed:
            raise Closing
        job_id = job_id or secrets.token_hex(16)
        with tracing.span("check"):
            order, notes = await self.check(order, caller, job_id)
        here = self.runner.room(caller.tenant) - self._coming >= order.n
        if waits and not here and idempotency is None:
            raise Busy(FULL)  # told before references are unpacked for a call that would be turned away
        coming = order.n if here else 0
        self._coming += coming  # from here on, since other calls come while this one waits for what follows
        self.runner.expected.add(job_id)
        try:
            files = await self._unpacked(order)
            retry = await self._came_before(caller, idempotency, sure=size_like is not None)
            sized = size_like is None
            if size_like is not None and not retry:
                if waits and not here:
                    raise Busy(FULL)
                order, files = await self._sized(order, files, caller, size_like)
                sized = True
            counted = not retry and await self.tenants.take(caller, order)
            job = self._job(job_id, order, caller, idempotency, files, notes, here=here)
            # A retry without a size is answered by the first call's job, and turned away if that lets go of its key.
            record = partial(
                self._record,
                job=job,
                caller=caller,
                order=order,
                counted=counted,
                may_wait=sized and not waits,
                here=sized and here,
            )
            if self.runner.closed:
                raise Closing
            with tracing.span("accept", {"limner.model": job.model, "limner.pictures": order.n}):
                recorded, earlier = await self._recorded(record)
                until = time.monotonic() + self.shop.settings.storage_seconds
                while earlier is recorded and recorded.state == "arriving":
                    # The first call's references are still being kept. It is accepted then, or lets go of the key.
                    if time.monotonic() > until:
                        raise Busy("The first request with this Idempotency-Key is still being read. Wait a little.")
                    await asyncio.sleep(ARRIVING_SECONDS)
                    recorded, earlier = await self._recorded(record)
            if earlier is recorded:
                counters.REPLAYS.add()
                return recorded, False
            if job.state == "arriving":
                job = await self._arrive(job, [file for file in files if file is not None])
            if here and not self.runner.ended:
                self.runner.run(job, replace(order, references=()), watch, earlier)  # those are kept by now
                return job, True
            if job.owner is not None:
                await self.shop.database.run(partial(leases.hand_back, worker=self.runner.worker, only=[job.id]))
            self.runner.wake()
            return job, True
        finally:
            self._coming -= coming
            self.runner.expected.discard(job_id)

    async def _came_before(self, caller: Caller, idempotency: Idempotency | None, *, sure: bool) -> bool:
        """Whether this is a retry, as far as that has to be known before it is recorded.

        It has to where `sure` says so, and where rates are counted outside the database.
        """
        if idempotency is None or not (sure or self.shop.settings.limits_url is not None):
            return False
        since = time.time() - self.shop.settings.idempotency_seconds
        find = partial(jobs.by_idempotency_key, tenant=caller.tenant, key=idempotency.key, since=since)
        return await self.shop.database.run(find) is not None

    async def _unpacked(self, order: Order) -> list[bytes | None]:
        """The references that came with the request; None for one that is to be fetched. Raises ReferenceRefused."""
        files: list[bytes | None] = []
        for number, source in enumerate(order.references, 1):
            with references.as_mask(order.mask and number == len(order.references)):
                if references.is_url(source):
                    references.check_url(source)
                    files.append(None)
                else:
                    files.append(await references.unpacked(source, self.shop.settings))
        return files

    async def _sized(
        self, order: Order, files: Sequence[bytes | None], caller: Caller, size_like: SizeLike
    ) -> tuple[Order, list[bytes | None]]:
        """The order in the size that its first reference decides, which is fetched here where it is a URL.

        Raises:
            Busy, QuotaUsed: a limit of the caller's stands against it, so that nothing was fetched.
            ReferenceRefused, InvalidRequest: the picture, or its size, cannot be used.
        """
        settings = self.shop.settings
        look = partial(self.tenants.look, caller=caller, order=order, now=time.time())
        await self.shop.database.run(look, writing=False)
        first, *others = files
        if first is None:
            first = await references.fetched(order.references[0], settings)
        width, height = size_like(*await references.size_of(first, settings))
        order = replace(order, width=width, height=height)
        self.tenants.check(caller, order)
        return order, [first, *others]

    def _job(
        self,
        job_id: str,
        order: Order,
        caller: Caller,
        idempotency: Idempotency | None,
        files: Sequence[bytes | None],
        notes: tuple[str, ...],
        *,
        here: bool,
    ) -> Job:
        """The job's first row: its seeds are drawn, and its pictures have their names."""
        now = time.time()
        brought = any(file is not None for file in files)
        own_retention = None if caller.key is None else caller.key.limits.retention
        return Job(
            id=job_id,
            tenant=caller.tenant,
            key=None if caller.key is None else caller.key.id,
            state="arriving" if brought else "queued",
            version=1,
            request=order.to_json(),
            model=self.shop.models.lookup(order.model).name,
            pictures=order.n,
            created=now,
            started=None,
            finished=None,
            expires=now + (own_retention or self.shop.settings.link_seconds),
            cost=0.0,
            notes=notes,
            plan=None,
            code=None,
            error=None,
            owner=self.runner.worker if here or brought else None,
            token=1,
            attempts=0,
            cancelling=False,
            idempotency_key=None if idempotency is None else idempotency.key,
            body_digest=None if idempotency is None else idempotency.body_digest,
            result_digest=self._digest(order, files),
            webhook=order.webhook,
            images=tuple(
                Image(number, "queued", signed(seed), new_name(order.format), order.width, order.height)
                for number, seed in enumerate(seeds_of(order))
            ),
            subjects=tuple(
                Subject(number, new_name("reference"), None if file is not None else source, kept=False)
                for number, (source, file) in enumerate(zip(order.references, files, strict=True))
            ),
        )

    async def _recorded(self, record: Callable[[Connection], tuple[Job, Job | None]]) -> tuple[Job, Job | None]:
        try:
            return await self.shop.database.run(record)
        except IntegrityError:  # another process recorded a call with the same idempotency key meanwhile
            return await self.shop.database.run(record)

    def _record(
        self,
        connection: Connection,
        job: Job,
        caller: Caller,
        order: Order,
        *,
        counted: bool,
        here: bool,
        may_wait: bool,
    ) -> tuple[Job, Job | None]:
        """Record the job; with it comes an earlier one whose pictures are the same, if the cache has it.

        Where its idempotency key came before, nothing is recorded, and both are that call's job.
        """
        now = job.created
        if job.idempotency_key is not None:
            since = now - self.shop.settings.idempotency_seconds
            first = jobs.by_idempotency_key(connection, job.tenant, job.idempotency_key, since)
            if first is not None:
                if first.body_digest != job.body_digest:
                    raise KeyReused(
                        "This Idempotency-Key came before with another body. Use a new key for a new request."
                    )
                return first, first
        if not here and not may_wait:
            raise Busy(FULL)
        self.tenants.admit(connection, caller, order, now, counted=counted)
        if job.owner is None and jobs.backlog(connection) + job.pictures > self.shop.settings.backlog_limit:
            raise Busy("Too many jobs are waiting. Wait a little, then try again.", retry_after=10.0)
        earlier = None
        if job.result_digest is not None:
            earlier = jobs.by_result(connection, job.tenant, job.result_digest, now)
        jobs.add(connection, job)
        return job, earlier

    async def _arrive(self, job: Job, files: Sequence[bytes]) -> Job:
        """Keep the references that came with the request; only then is the job accepted."""
        brought = [subject for subject in job.subjects if subject.url is None]
        try:
            for subject, data in zip(brought, files, strict=True):
                await self.shop.blobs.run(self.shop.blobs.put, subject.blob, data)
            if not await self.shop.database.run(partial(leases.arrived, lease=Lease(job.id, job.token))):
                raise StorageFailed("The request could not be kept. Send it again.")
        except LimnerError:
            with suppress(LimnerError):
                await self._forget(job)
            raise
        subjects = tuple(replace(subject, kept=subject.url is None) for subject in job.subjects)
        return replace(job, state="queued", version=job.version + 1, subjects=subjects)

    def _digest(self, order: Order, files: Sequence[bytes | None]) -> str | None:
        """For the result cache; None where it is off, or where something else than the request decides the picture."""
        fingerprint = self.shop.backend.models.get(self.shop.models.lookup(order.model).name)
        fetched = len(files) < len(order.references) or None in files
        rewritten = order.optimize_prompt and self.shop.settings.optimizer_url is not None
        if not self.shop.settings.result_cache or order.seed is None or fetched or rewritten or fingerprint is None:
            return None
        kept = [file for file in files if file is not None]
        return result_digest(order, kept, fingerprint, self.shop.policy.fingerprint, self.shop.settings)

    async def _forget(self, job: Job) -> None:
        """Undo the recording of a job that was not accepted."""

        def undo(connection: Connection) -> list[str] | None:
            blobs = jobs.start_deleting(connection, job.id, None, time.time())
            if blobs is not None:  # else another process found it left, and gave back what it was charged
                usage.give_back(connection, job.tenant, job.key, job.model, job.created, job.pictures)
            return blobs

        blobs = await self.shop.database.run(undo)
        await self.shop.blobs.run(self.shop.blobs.delete, blobs or ())
        await self.shop.database.run(partial(jobs.forget, job_ids=[job.id]))


def seeds_of(order: Order) -> list[int]:
    if order.seed is None:
        return [secrets.randbits(64) for _ in range(order.n)]
    return [(order.seed + k) % SEEDS for k in range(order.n)]


def _texts(value: object) -> list[str]:
    """Every text inside a JSON value."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inside for text in _texts(item)]
