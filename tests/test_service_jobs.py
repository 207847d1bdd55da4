"""Jobs as the service keeps them: recorded, taken over, followed, cancelled, answered again. Services are real ones on
one database, as processes of a cluster are."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pictures
from sqlalchemy import select, update

from limner import references
from limner.backends.local import LocalBackend
from limner.config import Settings
from limner.engine.core import Encoded, Request
from limner.engine.engine import Engine
from limner.errors import Busy, Closing, EngineFailed, InvalidRequest, JobCancelled, KeyReused, NoSuchJob, StorageFailed
from limner.order import Order
from limner.service import Idempotency, Job, Preview, Service
from limner.storage import migrations, schema
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from limner.tenants import ANYONE, Caller
from servers import Postgres
from stores import KINDS, settings_of
from tiny_pipeline import TinyPipeline

FOX = Order("a red fox", 512, 512, seed=7)
BEAT = 0.4
"""lease_seconds of these services: a process that gives no sign for so long is taken for dead."""


class Previewer(TinyPipeline):
    """Shows how its pictures come along; "a NUL" in a prompt is refused with one."""

    def encode(self, request: Request) -> Encoded:
        if "a NUL" in request.prompt:
            raise InvalidRequest("There is a \0 in it.")
        return super().encode(request)

    def preview(self, request: Request, encoded: Any, x: Any) -> Any:
        return self.decode(replace(request, prompt="x"), encoded, x)[:64, :64]


class Cluster:
    """Services on one database and one store, started and stopped, or left as a killed process leaves its jobs."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self.settings, self.stack = settings, stack

    async def service(self, gate: threading.Semaphore | None = None, **options: Any) -> Service:
        settings = self.settings.model_copy(update=options)
        pipeline = Previewer(gate=gate)
        engine = Engine({"image-01": pipeline, "image-01-live": pipeline}, settings.queue_limit)
        service = Service(settings, LocalBackend(engine), Database.open(settings), Blobs.open(settings))
        await service.start()

        async def end() -> None:
            if gate is not None:
                gate.release(10_000)
            await service.stop()

        self.stack.push_async_callback(end)
        return service

    @staticmethod
    async def kill(service: Service) -> None:
        """Stop all its work at once, as SIGKILL does: nothing is handed back or written any more."""
        runner = service.runner
        doomed = [*runner._loops, *runner._tasks]
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        runner.closed = True


Test = Callable[[Cluster], Awaitable[None]]


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Runs a test with a cluster of its own, on both kinds of storage."""
    settings = settings_of(request.param, tmp_path, request, lease_seconds=BEAT, grace_seconds=0)

    def runner(test: Test) -> None:
        async def whole() -> None:
            async with AsyncExitStack() as stack:
                await test(Cluster(settings, stack))

        asyncio.run(whole())

    return runner


def pipeline_of(service: Service) -> Previewer:
    assert isinstance(service.backend, LocalBackend)
    pipeline = service.backend.engine.pool.pipeline("image-01")
    assert isinstance(pipeline, Previewer)
    return pipeline


async def evaluating(service: Service) -> None:
    """Wait until an evaluation has begun."""
    await asyncio.to_thread(pipeline_of(service).entered.acquire)


async def ended(service: Service, job_id: str, caller: Caller = ANYONE) -> Job:
    """The job once it has ended, whoever paints it."""
    async for news in service.follow(job_id, caller):
        if isinstance(news, Job) and news.ended:
            return news
    raise AssertionError("the job did not end")


def pictures(service: Service, job: Job) -> list[bytes]:
    found = [service.blobs.get(image.blob) for image in job.images if image.state == "done"]
    return [blob.data for blob in found if blob is not None]


def png(colour: tuple[int, int, int]) -> str:
    buffer = io.BytesIO()
    Pictures.new("RGB", (40, 40), colour).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


# A process that dies


def test_a_job_of_a_killed_process_is_painted_by_another_with_the_same_bytes(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        first = await cluster.service(threading.Semaphore(1))
        undisturbed = await cluster.service()
        order = replace(FOX, n=3, steps=2, references=(png((9, 8, 7)),))
        expected = await undisturbed.generate(order)
        await undisturbed.stop()
        job = await first.accept(order)
        await evaluating(first)
        await cluster.kill(first)
        heir = await cluster.service()
        done = await ended(heir, job.id)
        assert (done.state, done.attempts) == ("done", 1)
        assert pictures(heir, done) == [picture.data for picture in expected.pictures]
        assert (await heir.wait(job.id)).pictures == expected.pictures

    run(test)


def test_a_process_that_was_taken_for_dead_changes_nothing_any_more(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        gate = threading.Semaphore(0)
        sleeper = await cluster.service(gate)
        job = await sleeper.accept(FOX)
        await evaluating(sleeper)
        for loop in sleeper.runner._loops:  # it gives no signs of life, but goes on painting
            loop.cancel()
        heir = await cluster.service()
        done = await ended(heir, job.id)
        before = await heir.job(job.id)
        gate.release(1000)
        course = sleeper.runner.courses.get(job.id)
        if course is not None:
            await course.finished.wait()
        assert await heir.job(job.id) == before
        assert (before.state, before.token) == ("done", done.token)
        assert (await sleeper.wait(job.id)).job == job.id  # it waits for the other's result

    run(test)


def test_a_job_that_kills_its_process_again_and_again_fails_and_leaves_the_others_alone(
    run: Callable[[Test], None],
) -> None:
    async def test(cluster: Cluster) -> None:
        victim = await cluster.service(threading.Semaphore(0))
        deadly, harmless = await victim.accept(FOX), await victim.accept(replace(FOX, seed=8))
        await cluster.kill(victim)
        with victim.database.transaction() as connection:  # as if it had done so often
            change = update(schema.jobs).where(schema.jobs.c.id == deadly.id).values(attempts=4)
            connection.execute(change)
        heir = await cluster.service()
        assert (await ended(heir, harmless.id)).state == "done"
        failed = await ended(heir, deadly.id)
        assert (failed.state, failed.code) == ("failed", 1024)
        assert "stopped 5 times" in (failed.error or "")
        with pytest.raises(EngineFailed):
            await heir.wait(deadly.id)

    run(test)


def test_a_job_that_was_recorded_and_never_begun_is_painted(run: Callable[[Test], None]) -> None:
    """A call that breaks off between its transaction and its first event."""

    async def test(cluster: Cluster) -> None:
        service = await cluster.service()
        job = await service.accept(FOX)
        await service.wait(job.id)
        with service.database.transaction() as connection:
            lost = {"state": "queued", "owner": service.runner.worker, "finished": None}
            connection.execute(update(schema.jobs).where(schema.jobs.c.id == job.id).values(lost))
            connection.execute(update(schema.images).where(schema.images.c.job == job.id).values(state="queued"))
        assert (await ended(service, job.id)).state == "done"

    run(test)


# A process that stops


def test_stopping_hands_back_what_is_not_painted_and_says_so(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        gate = threading.Semaphore(0)
        service = await cluster.service(gate)
        waiting = asyncio.create_task(service.generate(FOX))
        while not service.runner.courses:
            await asyncio.sleep(0.01)
        (job_id,) = service.runner.courses
        stopping = asyncio.create_task(service.stop())
        with pytest.raises(Closing, match=f"Job {job_id} goes on"):
            await waiting
        with pytest.raises(Closing):
            await service.accept(FOX)
        gate.release(1000)
        await stopping
        heir = await cluster.service()
        began = time.monotonic()
        assert (await ended(heir, job_id)).attempts == 0  # no fault of the job's
        assert time.monotonic() - began < 60

    run(test)


def test_stopping_gives_what_runs_its_time(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        gate = threading.Semaphore(0)
        service = await cluster.service(gate, grace_seconds=60)
        waiting = asyncio.create_task(service.generate(FOX))
        while not service.runner.courses:
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0.05)
        gate.release(1000)
        assert len((await waiting).pictures) == 1
        await stopping

    run(test)


def test_a_call_that_is_being_accepted_as_the_process_stops_is_refused_or_painted_later(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(cluster: Cluster) -> None:
        service = await cluster.service()
        reading, read = asyncio.Event(), references.unpacked

        async def slowly(source: str, settings: Settings) -> bytes:
            await reading.wait()
            return await read(source, settings)

        monkeypatch.setattr(references, "unpacked", slowly)
        accepting = asyncio.create_task(service.accept(replace(FOX, references=(png((1, 2, 3)),))))
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0.05)
        reading.set()
        with pytest.raises(Closing):
            await accepting
        await stopping

    run(test)


def test_it_stops_also_where_a_job_that_was_cancelled_cannot_be_ended(tmp_path: Path, postgres: Postgres) -> None:
    async def test() -> None:
        async with AsyncExitStack() as stack:
            url = postgres.new_database()
            database = Database(url)
            migrations.upgrade(database)
            database.close()
            settings = Settings(data_dir=tmp_path, database_url=url, lease_seconds=BEAT, grace_seconds=0)
            gate = threading.Semaphore(0)
            service = await Cluster(settings, stack).service(gate)
            leaving = asyncio.create_task(service.generate(FOX))
            await evaluating(service)
            postgres.daemon.stop()
            try:
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
                gate.release(1000)
                await asyncio.sleep(0.3)
                await service.stop()
            finally:
                postgres.daemon.start()

    asyncio.run(test())


# Waiting in line


def test_jobs_beyond_the_queue_wait_in_the_database_and_calls_that_wait_are_turned_away(
    run: Callable[[Test], None],
) -> None:
    async def test(cluster: Cluster) -> None:
        gate = threading.Semaphore(0)
        service = await cluster.service(gate, queue_limit=2, backlog_limit=3)
        taken = [await service.accept(replace(FOX, seed=seed)) for seed in range(5)]
        assert [job.owner is None for job in taken] == [False, False, True, True, True]
        assert [await service.queue_place(job) for job in taken] == [0, 1, 2, 3, 4]
        with pytest.raises(Busy, match="Too many jobs"):
            await service.accept(FOX)
        with pytest.raises(Busy, match="Every place"):
            await service.generate(FOX)
        gate.release(1000)
        assert {(await ended(service, job.id)).state for job in taken} == {"done"}

    run(test)


# Idempotency and the cache


def test_a_retry_has_the_first_calls_result_and_waits_for_it(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        gate = threading.Semaphore(0)
        service, other = await cluster.service(gate), await cluster.service()
        unseeded = replace(FOX, seed=None)
        key = Idempotency("once", "digest")
        calls = [asyncio.create_task(service.generate(unseeded, idempotency=key)) for _ in range(3)]
        while not service.runner.courses:
            await asyncio.sleep(0.01)
        calls.append(asyncio.create_task(other.generate(unseeded, idempotency=key)))
        await asyncio.sleep(0.1)
        gate.release(1000)
        outcomes = await asyncio.gather(*calls)
        assert len({outcome.job for outcome in outcomes}) == 1
        assert len({outcome.pictures[0].data for outcome in outcomes}) == 1
        assert sorted(outcome.replayed for outcome in outcomes) == [False, True, True, True]
        with pytest.raises(KeyReused):
            await other.generate(unseeded, idempotency=Idempotency("once", "another"))
        assert (await service.generate(FOX, Caller("another tenant"), idempotency=key)).replayed is False

    run(test)


def test_a_retry_that_comes_while_the_first_calls_references_are_kept_has_its_job(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        service = await cluster.service()
        keeping, keep = threading.Event(), service.blobs.put

        def slowly(name: str, data: bytes) -> None:
            keeping.wait(20)
            keep(name, data)

        service.blobs.put = slowly  # type: ignore[method-assign]  # a store that takes its time
        order, key = replace(FOX, references=(png((1, 2, 3)),)), Idempotency("once", "digest")
        calls = [asyncio.create_task(service.accept(order, idempotency=key)) for _ in range(2)]
        await asyncio.sleep(0.3)
        assert not any(call.done() for call in calls)
        keeping.set()
        first, second = await asyncio.gather(*calls)
        assert first.id == second.id
        assert (await ended(service, first.id)).state == "done"

    run(test)


def test_who_leaves_with_a_key_finds_the_result_later(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        gate = threading.Semaphore(0)
        service = await cluster.service(gate)
        key = Idempotency("once", "digest")
        leaving = asyncio.create_task(service.generate(FOX, idempotency=key))
        while not service.runner.courses:
            await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        gate.release(1000)
        assert (await service.generate(FOX, idempotency=key)).replayed

    run(test)


def test_a_failure_that_is_worth_another_try_lets_go_of_its_key_and_another_does_not(
    run: Callable[[Test], None],
) -> None:
    async def test(cluster: Cluster) -> None:
        service = await cluster.service()
        for prompt, error, again in (("explode in evaluate", EngineFailed, False), ("refuse", InvalidRequest, True)):
            key = Idempotency(prompt, "digest")
            for _ in range(2):
                with pytest.raises(error):
                    await service.generate(replace(FOX, prompt=prompt), idempotency=key)
            found = [job for job in await service.list_jobs() if job.request["prompt"] == prompt]
            assert (len(found) == 1) is again

    run(test)


def test_the_cache_answers_the_same_request_of_the_same_tenant_with_copies(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        service = await cluster.service(result_cache=True)
        pipeline = pipeline_of(service)
        order = replace(FOX, n=2, references=(png((1, 2, 3)),))
        first = await service.generate(order)
        again = await service.generate(replace(order, link=True))
        assert again.pictures == first.pictures
        assert (again.job != first.job, again.notes, again.plan) == (True, first.notes, first.plan)
        assert len(pipeline.decoded) == 2
        await service.delete(first.job)
        job = await service.job(again.job)
        assert pictures(service, job) == [picture.data for picture in first.pictures]
        for other in (replace(order, seed=9), replace(order, references=(png((3, 2, 1)),)), replace(order, seed=None)):
            decoded = len(pipeline.decoded)
            await service.generate(other)
            assert len(pipeline.decoded) == decoded + 2
        await service.generate(order, Caller("another"))
        assert len(pipeline.decoded) == 10

    run(test)


# Looking, cancelling, deleting


def test_a_job_is_followed_to_its_end_with_previews_and_from_another_process(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        service, other = await cluster.service(), await cluster.service()
        job = await service.accept(replace(FOX, steps=4, previews=True))
        here = [news async for news in service.follow(job.id)]
        there = [news async for news in other.follow(job.id)]
        snapshots = [news for news in here if isinstance(news, Job)]
        assert snapshots[-1].state == there[-1].state == "done"  # type: ignore[union-attr]  # the last is a job
        assert [job.version for job in snapshots] == sorted(job.version for job in snapshots)
        assert all(isinstance(news, Job) for news in there)
        previews = [news for news in here if isinstance(news, Preview)]
        assert all(preview.data.startswith(b"\xff\xd8") for preview in previews)
        assert snapshots[-1].images[0].step == snapshots[-1].images[0].steps == 4

    run(test)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_running_job_is_cancelled_from_any_process(run: Callable[[Test], None], elsewhere: bool) -> None:
    async def test(cluster: Cluster) -> None:
        gate = threading.Semaphore(0)
        service, other = await cluster.service(gate), await cluster.service()
        job = await service.accept(replace(FOX, n=2))
        await evaluating(service)
        await (other if elsewhere else service).cancel(job.id)
        done = await ended(other, job.id)
        assert (done.state, {image.state for image in done.images}) == ("cancelled", {"cancelled"})
        with pytest.raises(JobCancelled):
            await other.wait(job.id)
        gate.release(1000)
        assert (await service.cancel(job.id)).state == "cancelled"

    run(test)


def test_a_waiting_job_is_cancelled_at_once(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        service = await cluster.service(threading.Semaphore(0), queue_limit=1)
        await service.accept(FOX)
        waiting = await service.accept(FOX)
        assert (await service.cancel(waiting.id)).state == "cancelled"

    run(test)


@pytest.mark.parametrize("running", [False, True])
def test_a_deleted_job_leaves_nothing(run: Callable[[Test], None], running: bool) -> None:
    async def test(cluster: Cluster) -> None:
        gate = threading.Semaphore(0 if running else 1000)
        service = await cluster.service(gate)
        job = await service.accept(replace(FOX, references=(png((1, 1, 1)),)))
        if running:
            await evaluating(service)
        else:
            await service.wait(job.id)
        await service.delete(job.id)
        gate.release(1000)
        assert list(service.blobs.names(time.time() + 60)) == []
        with pytest.raises(NoSuchJob):
            await service.job(job.id)
        with service.database.transaction() as connection:
            for table in (schema.jobs, schema.images, schema.subjects):
                assert connection.execute(select(table)).all() == []

    run(test)


def test_a_picture_that_is_stored_as_its_job_is_deleted_is_deleted_too(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        service = await cluster.service()
        putting, finishing, put = threading.Event(), threading.Event(), service.blobs.put

        def slowly(name: str, data: bytes) -> None:
            putting.set()
            finishing.wait(20)
            put(name, data)

        service.blobs.put = slowly  # type: ignore[method-assign]  # a store that takes its time
        job = await service.accept(FOX)
        await asyncio.to_thread(putting.wait)
        deleting = asyncio.create_task(service.delete(job.id))
        await asyncio.sleep(0.1)
        finishing.set()
        await deleting
        assert list(service.blobs.names(time.time() + 60)) == []

    run(test)


def test_what_a_database_cannot_hold_of_an_error_does_not_keep_the_job_from_its_end(
    run: Callable[[Test], None],
) -> None:
    async def test(cluster: Cluster) -> None:
        service = await cluster.service()
        job = await ended(service, (await service.accept(replace(FOX, prompt="a NUL"))).id)
        assert (job.state, job.error) == ("failed", "There is a \ufffd in it.")

    run(test)


def test_a_job_of_a_later_version_is_left_to_it_and_holds_up_no_other(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        victim = await cluster.service(threading.Semaphore(0), queue_limit=1)
        jobs = [await victim.accept(replace(FOX, seed=seed)) for seed in range(3)]
        await cluster.kill(victim)
        with victim.database.transaction() as connection:
            later = {**jobs[0].request, "hologram": True}
            connection.execute(update(schema.jobs).where(schema.jobs.c.id == jobs[0].id).values(request=later))
        service = await cluster.service()
        for job in jobs[1:]:
            assert (await ended(service, job.id)).state == "done"
        while not service.runner._unreadable:
            await asyncio.sleep(0.01)
        left = await service.job(jobs[0].id)
        while left.owner is not None:
            left = await service.job(jobs[0].id)
        assert (left.state, left.attempts) == ("queued", 1)
        assert len(await service.list_jobs()) == 3

    run(test)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scene": {"a": "x" * 70_000}}, "scene"),
        ({"loras": tuple((f"l{number}", 1.0) for number in range(17))}, "loras"),
        ({"style": "x" * 201}, "style"),
    ],
)
def test_fields_that_a_row_keeps_are_bounded(run: Callable[[Test], None], change: dict[str, Any], field: str) -> None:
    async def test(cluster: Cluster) -> None:
        service = await cluster.service()
        with pytest.raises(InvalidRequest, match=f"Field {field} must be at most"):
            await service.accept(replace(FOX, **change))

    run(test)


def test_jobs_are_their_tenants_alone(run: Callable[[Test], None]) -> None:
    async def test(cluster: Cluster) -> None:
        service = await cluster.service()
        mine, stranger = Caller("mine"), Caller("stranger")
        outcome = await service.generate(FOX, mine)
        assert [job.id for job in await service.list_jobs(mine)] == [outcome.job]
        assert await service.list_jobs(stranger) == []
        for attempt in (service.job, service.cancel, service.delete):
            with pytest.raises(NoSuchJob):
                await attempt(outcome.job, stranger)
        with pytest.raises(NoSuchJob):
            await anext(service.follow(outcome.job, stranger))
        assert (await service.job(outcome.job, mine)).state == "done"

    run(test)


# Storage that fails for a time


def test_a_job_survives_a_database_that_is_away(tmp_path: Path, postgres: Postgres) -> None:
    async def test() -> None:
        async with AsyncExitStack() as stack:
            url = postgres.new_database()
            database = Database(url)
            migrations.upgrade(database)
            database.close()
            gate = threading.Semaphore(0)
            settings = Settings(data_dir=tmp_path, database_url=url, lease_seconds=BEAT, grace_seconds=0)
            cluster = Cluster(settings, stack)
            service = await cluster.service(gate)
            waiting = asyncio.create_task(service.generate(replace(FOX, n=2)))
            await evaluating(service)
            postgres.daemon.stop()
            gate.release(1000)
            with pytest.raises(StorageFailed):
                await service.accept(FOX)
            await asyncio.sleep(3 * BEAT)
            postgres.daemon.start()
            outcome = await waiting
            assert len(outcome.pictures) == 2
            assert (await service.job(outcome.job)).state == "done"

    asyncio.run(test())
