"""The jobs of this process: begun, claimed where nobody has them, handed back when it stops.

A lease knows no clock: each process counts up its own row of `workers`, and whoever sees that count stand still for
`lease_seconds` of its own monotonic time takes the process for dead, as Amazon's DynamoDB Lock Client does. What a
runner writes names its token, so that one that was taken for dead and is not can change nothing any more.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from secrets import token_hex

import structlog
from sqlalchemy import Connection
from structlog.contextvars import bound_contextvars

from limner import counters, tracing
from limner.course import Course, Workshop
from limner.engine.core import Event
from limner.errors import Closing, JobCancelled, StorageFailed
from limner.order import MOST_PICTURES, Order
from limner.storage import leases, sweep
from limner.storage.jobs import Job
from limner.webhooks import Deliverer

log = structlog.get_logger(__name__)

CLAIM_SECONDS = 1.0
"""How often a process looks for jobs that wait."""

ORPHANS_SECONDS = 3600.0
"""How often the whole store is looked at for blobs without a row."""


class Runner:
    """The courses of this process. Belongs to one event loop: `start` it there, and `stop` it.

    Attributes:
        worker: this process's name in the database.
        courses: what is being painted here, by the job's id.
        expected: ids of jobs that are being accepted here and are begun, or given free, in a moment.
        closed: whether `stop` was called; nothing new is begun then.
        ended: whether all was handed back; nothing is painted any more.
    """

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.settings = shop.settings
        self.database = shop.database
        self.worker = token_hex(16)
        self.courses: dict[str, Course] = {}
        self.expected: set[str] = set()
        self.closed = False
        self.ended = False
        self._tasks: set[asyncio.Task[None]] = set()  # of the courses
        self._loops: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._look_at_blobs = 0.0  # when it is next worth it, monotonic
        self._deliverer = Deliverer(self.settings, self.database)
        self._seen: dict[str, tuple[int, float]] = {}  # other workers' beats, and when they were first seen (monotonic)
        self._unreadable: set[str] = set()  # jobs of later versions
        self._strays: set[str] = set()  # jobs that are ours in the database and not here

    async def start(self) -> None:
        """Show that this process lives, and begin to look for jobs."""
        await self.database.run(partial(leases.beat, worker=self.worker, host=socket.gethostname(), now=time.time()))
        self._loops = [
            asyncio.create_task(self._regularly(work, seconds), name=f"limner-{work.__name__.strip('_')}")
            for work, seconds in (
                (self._beat, self.settings.lease_seconds / 3),
                (self._look, 0.0),
                (self._sweep, min(300.0, self.settings.link_seconds / 10)),
                (self._deliverer.run, 1.0),
            )
        ]

    async def stop(self) -> None:
        """Begin nothing new, give what runs `grace_seconds`, hand the rest back."""
        self.closed = True
        until = time.monotonic() + self.settings.grace_seconds
        while self.expected and time.monotonic() < until:
            await asyncio.sleep(0.01)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, until - time.monotonic()))
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self.ended = True
        for course in self.courses.values():
            course.halt(Closing())
        if self._tasks:
            await asyncio.wait(self._tasks)
        with suppress(StorageFailed):  # else they are taken over once this process is seen to be gone
            await self.database.run(partial(leases.hand_back, worker=self.worker))

    def room(self, tenant: str) -> int:
        """Pictures that could be begun now for this tenant."""
        coming = sum(course.job.pictures for course in self.courses.values() if not course.submitted)
        return self.shop.backend.room(tenant) - coming

    def run(
        self, job: Job, order: Order, watch: Callable[[Event], None] | None = None, earlier: Job | None = None
    ) -> Course:
        """Begin a job that this process has the lease of. `earlier`: one with the same pictures, to take them from."""
        course = self.courses[job.id] = Course(self.shop, job, order, watch, earlier)
        task = asyncio.create_task(self._run(course), name=f"limner-job-{job.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return course

    def wake(self) -> None:
        """Look for jobs now: one may wait that did not a moment ago."""
        self._wake.set()

    async def _run(self, course: Course) -> None:
        job = course.job
        about: tracing.Attributes = {"limner.job": job.id, "limner.model": job.model, "limner.attempts": job.attempts}
        with bound_contextvars(id=job.id), tracing.span("job", about, trace=job.id) as span:
            try:
                await course.run()
            except Exception:
                course.lost = True  # what its row says, or comes to say, is true
                log.exception("a job's course failed")
            finally:
                counters.JOBS.add(job.model, course.outcome)
                span.set_attribute("limner.outcome", course.outcome)
                if self.courses.get(course.job.id) is course:  # else this very process has claimed the job again
                    del self.courses[course.job.id]
                course.finished.set()
                course.changed()
                self.wake()
                if course.job.webhook is not None:
                    self._deliverer.wake()

    async def _regularly(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            try:
                await work()
            except StorageFailed:
                pass  # logged where it happened; the next turn tries again
            except Exception:
                log.exception("upkeep failed", work=getattr(work, "__name__", ""))
            await asyncio.sleep(seconds)

    async def _look(self) -> None:
        """Claim what waits, once a while and whenever it may pay."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLAIM_SECONDS):
                await self._wake.wait()
        self._wake.clear()
        if not self.closed:
            await self._claim()

    async def _beat(self) -> None:
        """Give a sign of life, take the jobs of those who give none, and see which of ours are wanted no more."""
        known = dict(self.courses)

        def look(connection: Connection) -> tuple[dict[str, int], list[str], dict[str, int]]:
            leases.beat(connection, self.worker, socket.gethostname(), time.time())
            return (
                leases.beats(connection),
                leases.cancelling(connection, self.worker),
                leases.owned(connection, self.worker),
            )

        beats, cancelling, owned = await self.database.run(look)
        now = time.monotonic()
        before, self._seen = self._seen, {}
        for worker, beat in beats.items():
            counted, since = before.get(worker, (None, now))
            self._seen[worker] = (beat, since if counted == beat else now)
        dead = [
            worker
            for worker, (_, since) in self._seen.items()
            if worker != self.worker and now - since >= self.settings.lease_seconds
        ]
        if dead:
            count = await self.database.run(partial(leases.release, dead=dead, now=time.time()))
            counters.TAKEN_OVER.add(amount=count)
            log.warning("jobs of dead processes taken over", processes=len(dead), jobs=count)
            self.wake()
        for job_id in cancelling:
            if job_id in self.courses:
                self.courses[job_id].halt(JobCancelled())
        for job_id, course in known.items():
            open_here = self.courses.get(job_id) is course and course.outcome == "lost"
            if open_here and owned.get(job_id) != course.job.token:
                course.halt(Closing())
        strays = owned.keys() - known.keys() - self.courses.keys() - self.expected
        if forgotten := list(strays & self._strays):  # a call broke off before it began them, or a fault of ours did
            await self.database.run(partial(leases.hand_back, worker=self.worker, only=forgotten, tries=1))
            self.wake()
        self._strays = set(strays)

    async def _claim(self) -> None:
        """Begin jobs that wait in the database, but leave half of the queue to callers who wait for their answer."""
        running = sum(course.job.pictures for course in self.courses.values())
        free = self.settings.queue_limit // 2 - running
        if not running:
            free = max(free, MOST_PICTURES)  # the engine says whether they can fit at all
        if free <= 0:
            return
        claimed = await self.database.run(
            partial(
                leases.claim,
                worker=self.worker,
                pictures=free,
                retried=not any(course.job.attempts for course in self.courses.values()),
                now=time.time(),
                without=self._unreadable,
            )
        )
        for job in claimed:
            try:
                order = Order.from_json(job.request)
            except TypeError:
                log.exception("a job's request is of a later version, and is left to that", job=job.id)
                self._unreadable.add(job.id)
            else:
                self.run(job, order)
        if left := self._unreadable & {job.id for job in claimed}:
            await self.database.run(partial(leases.hand_back, worker=self.worker, only=list(left)))

    async def _sweep(self) -> None:
        """Delete what is over; now and then look at every blob, too."""
        orphans = time.monotonic() >= self._look_at_blobs
        await asyncio.to_thread(sweep.sweep, self.database, self.shop.blobs, time.time(), orphans=orphans)
        if orphans:
            self._look_at_blobs = time.monotonic() + ORPHANS_SECONDS
