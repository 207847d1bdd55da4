"""Any order of accepts, claims, writes, cancels, deletions and dying processes: each job ends once, with one owner."""

from __future__ import annotations

from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from limner.storage import jobs, leases, migrations, usage
from limner.storage.database import Database
from limner.storage.jobs import Job
from limner.storage.leases import Lease
from limner.storage.schema import metadata
from servers import Postgres
from stores import a_job, opened

WORKERS = ("a", "b", "c")
TENANTS = ("x", "y")


@dataclass
class Worker:
    """What a process believes: the jobs that it has and has not ended. One that hangs goes on believing it."""

    leases: dict[str, Lease] = field(default_factory=dict)


class Machine(RuleBasedStateMachine):
    database: Database

    @initialize()
    def empty(self) -> None:
        with self.database.transaction() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        self.now = 0.0
        self.accepted: dict[str, Job] = {}
        self.ends: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.workers = {worker: Worker() for worker in WORKERS}
        self.versions: dict[str, int] = {}
        self.look()

    def later(self) -> float:
        self.now += 1
        return self.now

    @rule(tenant=st.sampled_from(TENANTS), pictures=st.integers(1, 3), owner=st.sampled_from((None, *WORKERS)))
    def accept(self, tenant: str, pictures: int, owner: str | None) -> None:
        number = len(self.accepted) + 1
        job = a_job(number, tenant, pictures, created=self.later(), owner=owner)
        with self.database.transaction() as connection:
            jobs.add(connection, job)
        self.accepted[job.id] = job
        if owner is not None:
            self.workers[owner].leases[job.id] = Lease(job.id, 0)

    @rule(worker=st.sampled_from(WORKERS), room=st.integers(1, 6), retried=st.booleans())
    def claim(self, worker: str, room: int, retried: bool) -> None:
        before = self.seen
        with self.database.transaction() as connection:
            found = leases.claim(connection, worker, pictures=room, retried=retried, now=self.later())
        assert sum(job.pictures for job in found) <= room
        assert sum(job.attempts > 0 for job in found) <= (1 if retried else 0)
        for job in found:
            assert job.id not in self.deleted
            assert (before[job.id].state, before[job.id].owner) == ("queued", None)
            self.workers[worker].leases[job.id] = Lease(job.id, job.token)
        self.note_ends(before)

    @rule(worker=st.sampled_from(WORKERS), pick=st.integers(0), number=st.integers(0, 2), well=st.booleans())
    def write(self, worker: str, pick: int, number: int, well: bool) -> None:
        if (lease := self.pick(worker, pick)) is None:
            return
        with self.database.transaction() as connection:
            assert leases.progress(connection, lease, self.later(), steps={number: (1, 2)}) == self.valid(worker, lease)
            if well:
                wrote = leases.finish_image(
                    connection, lease, number, data_bytes=10, sha256="", seconds={}, cost=1.0, steps=2
                )
            else:
                wrote = leases.fail_image(connection, lease, number, code=1024, error="x")
        assert wrote == self.valid(worker, lease)

    @rule(worker=st.sampled_from(WORKERS), pick=st.integers(0), state=st.sampled_from(["done", "failed", "cancelled"]))
    def end(self, worker: str, pick: int, state: str) -> None:
        if (lease := self.pick(worker, pick)) is None:
            return
        valid = self.valid(worker, lease)
        with self.database.transaction() as connection:
            ended = leases.end(connection, lease, state, self.later(), code=1024, error="x")  # type: ignore[arg-type]  # one of three
        assert ended == valid
        del self.workers[worker].leases[lease.job]
        if ended:
            self.ends[lease.job] = self.ends.get(lease.job, 0) + 1

    @rule(worker=st.sampled_from(WORKERS), hangs=st.booleans())
    def die(self, worker: str, hangs: bool) -> None:
        """The others take it for dead; where it only hangs, it goes on to write."""
        before = self.seen
        with self.database.transaction() as connection:
            leases.release(connection, [worker], self.later())
        self.note_ends(before)
        if not hangs:
            self.workers[worker] = Worker()

    @rule(worker=st.sampled_from(WORKERS))
    def stop(self, worker: str) -> None:
        with self.database.transaction() as connection:
            handed = leases.hand_back(connection, worker)
        assert set(handed) <= self.workers[worker].leases.keys()
        self.workers[worker] = Worker()

    @precondition(lambda self: self.accepted)
    @rule(pick=st.integers(0), tenant=st.sampled_from(TENANTS))
    def cancel(self, pick: int, tenant: str) -> None:
        job = list(self.accepted.values())[pick % len(self.accepted)]
        before = self.seen
        with self.database.transaction() as connection:
            found = jobs.ask_cancel(connection, job.id, tenant, self.later())
        assert (found is None) == (tenant != job.tenant or job.id in self.deleted)
        self.note_ends(before)

    @precondition(lambda self: self.accepted)
    @rule(pick=st.integers(0), tenant=st.sampled_from(TENANTS))
    def delete(self, pick: int, tenant: str) -> None:
        job = list(self.accepted.values())[pick % len(self.accepted)]
        ended = job.id in self.ends
        with self.database.transaction() as connection:
            blobs = jobs.start_deleting(connection, job.id, tenant, self.later())
        assert (blobs is None) == (tenant != job.tenant or job.id in self.deleted)
        if blobs is not None:
            self.deleted.add(job.id)
            if not ended:
                self.ends[job.id] = self.ends.get(job.id, 0) + 1

    @rule()
    def sweep(self) -> None:
        with self.database.transaction() as connection:
            gone = jobs.expired(connection, 0.0, 100)
            jobs.forget(connection, list(gone))
        assert gone.keys() <= self.deleted

    @invariant()
    def each_job_has_ended_at_most_once_and_has_at_most_one_owner(self) -> None:
        if not hasattr(self, "accepted"):
            return
        assert all(count == 1 for count in self.ends.values())
        found = self.look()
        assert found.keys() == self.accepted.keys() - self.deleted
        for job in found.values():
            assert job.ended == (job.id in self.ends), (job.state, job.id)
            assert (job.owner is None) or not job.ended
            assert job.version >= self.versions.get(job.id, 0)
            self.versions[job.id] = job.version
            holders = [
                worker
                for worker in WORKERS
                if (lease := self.workers[worker].leases.get(job.id)) and self.valid(worker, lease)
            ]
            assert holders == ([] if job.owner is None else [job.owner])
            if job.ended:
                assert {image.state for image in job.images} <= {"done", "failed", "cancelled"}
        with self.database.transaction(writing=False) as connection:
            used = usage.between(connection, "0000", "9999")
            assert sum(row.jobs for row in used) == len(self.ends)
            assert set(leases.beats(connection)) == {job.owner for job in found.values() if job.owner is not None}

    def teardown(self) -> None:
        """Whatever happened, what is left can be run to its end."""
        if not hasattr(self, "accepted"):
            return
        with self.database.transaction() as connection:
            leases.release(connection, WORKERS, self.later())
        self.note_ends(self.seen)
        for _ in range(2 * len(self.accepted) + 2):
            with self.database.transaction() as connection:
                for job in leases.claim(connection, "last", pictures=9, retried=True, now=self.later()):
                    assert leases.end(connection, Lease(job.id, job.token), "done", self.later())
                    self.ends[job.id] = self.ends.get(job.id, 0) + 1
        assert self.ends == dict.fromkeys(self.accepted, 1)

    def look(self) -> dict[str, Job]:
        """Every job that callers can see; kept for the next rule as what was before it."""
        with self.database.transaction(writing=False) as connection:
            found = [job for tenant in TENANTS for job in jobs.page(connection, tenant, limit=1000)]
        self.seen = {job.id: job for job in found}
        return self.seen

    def note_ends(self, before: dict[str, Job]) -> None:
        """Count the jobs that were cancelled on the way."""
        for job in self.look().values():
            if job.state == "cancelled" and not before[job.id].ended:
                self.ends[job.id] = self.ends.get(job.id, 0) + 1

    def pick(self, worker: str, pick: int) -> Lease | None:
        leases = list(self.workers[worker].leases.values())
        return leases[pick % len(leases)] if leases else None

    def valid(self, worker: str, lease: Lease) -> bool:
        job = self.seen.get(lease.job)
        return job is not None and (job.owner, job.token) == (worker, lease.token)


@pytest.mark.parametrize(("kind", "examples"), [("sqlite", 15), ("postgresql", 5)])
def test_every_accepted_job_ends_exactly_once(kind: str, examples: int, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        database = Database.in_memory()
    else:
        server: Postgres = request.getfixturevalue("postgres")
        database = Database(server.new_database())
        migrations.upgrade(database)
    with opened(database):
        machine = type("OnOne", (Machine,), {"database": database})
        run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25))
