"""Jobs in the database, on SQLite and on PostgreSQL: none is lost, none has two owners, whatever is interrupted."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select
from sqlalchemy.exc import IntegrityError

from limner.config import Settings
from limner.errors import StorageFailed
from limner.storage import audit, jobs, leases, schema, sweep, usage
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from limner.storage.jobs import Image, Job
from limner.storage.leases import Lease
from limner.storage.schema import deliveries, images, subjects, workers
from stores import KINDS, Stores, a_job, a_subject, blob_name, empty_stores, opened

NOW = 100.0


@pytest.fixture(params=KINDS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    with empty_stores(request.param, tmp_path, request) as found:
        yield found


def add(database: Database, *new: Job) -> None:
    with database.transaction() as connection:
        for job in new:
            jobs.add(connection, job)


def get(database: Database, job: Job) -> Job:
    with database.transaction(writing=False) as connection:
        found = jobs.get(connection, job.id)
    assert found is not None
    return found


def do(database: Database, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    with database.transaction() as connection:
        return function(connection, *args, **named)


def claim(database: Database, worker: str = "w", pictures: int = 100, retried: bool = True) -> list[Job]:
    found: list[Job] = do(database, leases.claim, worker, pictures=pictures, retried=retried, now=NOW)
    return found


def lease_of(job: Job) -> Lease:
    return Lease(job.id, job.token)


def finish(connection: Connection, lease: Lease, number: int = 0, **fields: Any) -> bool:
    whole: dict[str, Any] = {"data_bytes": 1000, "sha256": "ab" * 32, "seconds": {"encode": 0.5}, "cost": 20.0}
    return leases.finish_image(connection, lease, number, **whole | fields)


def ended(database: Database, job: Job, now: float = NOW) -> Job:
    """Run a job of the database to its end, all pictures done."""
    (mine,) = claim(database, "runs it")
    with database.transaction() as connection:
        for image in mine.images:
            assert finish(connection, lease_of(mine), image.number)
        assert leases.end(connection, lease_of(mine), "done", now)
    return get(database, job)


# A job's fields, and its way


def test_a_job_comes_back_as_it_was_added(stores: Stores) -> None:
    database, _ = stores
    job = a_job(
        pictures=2,
        tenant="ä" * 64,
        key="k" * 32,
        request={"prompt": "füchsin \0 🦊", "seed": 2**63, "loras": [["a", 0.5]]},
        notes=("one", "two"),
        idempotency_key="i" * 255,
        body_digest="d" * 64,
        webhook="https://example.com/",
        subjects=(a_subject(1), a_subject(1, 1, "https://example.com/a.png")),
        images=(
            Image(0, "queued", -(2**63), blob_name("a"), 512, 2048),
            Image(1, "queued", 2**63 - 1, blob_name("b", "png"), 2048, 512),
        ),
    )
    add(database, job)
    assert get(database, job) == job


def test_the_whole_way_of_a_job_and_its_versions_only_grow(stores: Stores) -> None:
    database, _ = stores
    job = a_job(1, pictures=3, request={"prompt": "fox", "optimize_prompt": True, "n": 3}, expires=1101.0)
    add(database, job)
    versions = [get(database, job).version]
    (mine,) = claim(database, "w")
    assert (mine.owner, mine.token, mine.state, mine.attempts) == ("w", 1, "queued", 0)
    lease = lease_of(mine)
    steps: list[tuple[Callable[..., bool], Sequence[Any], dict[str, Any]]] = [
        (leases.progress, (50.0,), {"prompt": "a fox, oil"}),
        (leases.progress, (60.0,), {"steps": {0: (1, 4), 1: (1, 4)}, "notes": ["a", "b"], "plan": {"sky": "blue"}}),
        (finish, (0,), {"steps": 4, "cost": 20.0}),
        (finish, (0,), {"steps": 4, "cost": 20.0}),  # painted again after a crash: counted once
        (leases.fail_image, (1,), {"code": 1024, "error": "It failed."}),
        (leases.fail_image, (0,), {"code": 1024, "error": "Too late."}),
        (leases.end, ("done", 70.0), {"notes": ["b", "c"], "code": 1001, "error": "Late."}),
    ]
    for function, args, named in steps:
        assert do(database, function, lease, *args, **named) is True
        versions.append(get(database, job).version)
    assert all(before < after for before, after in pairwise(versions))
    done = get(database, job)
    assert (done.state, done.started, done.finished, done.owner, done.cost) == ("done", 50.0, 70.0, None, 20.0)
    assert (done.code, done.error) == (None, None)
    assert done.expires == 1101.0 + 69.0  # kept as long as ever, from its end on
    assert done.request == {"prompt": "a fox, oil", "optimize_prompt": False, "n": 3}
    assert (done.notes, done.plan) == (("a", "b", "c"), {"sky": "blue"})
    assert [(i.state, i.step, i.steps, i.code) for i in done.images] == [
        ("done", 4, 4, None),
        ("failed", 1, 4, 1024),
        ("failed", 0, None, 1001),
    ]
    assert (done.images[0].bytes, done.images[0].sha256, done.images[0].seconds) == (1000, "ab" * 32, {"encode": 0.5})
    assert not do(database, leases.end, lease, "failed", 80.0)
    assert get(database, job) == done


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_unfinished_pictures_share_the_end_of_their_job(stores: Stores, state: str) -> None:
    database, _ = stores
    add(database, a_job(1, pictures=2))
    (mine,) = claim(database)
    do(database, finish, lease_of(mine), 0)
    do(database, leases.end, lease_of(mine), state, NOW, code=1024, error="It failed.")
    job = get(database, mine)
    assert (job.state, job.code, job.error) == (state, 1024, "It failed.")
    assert [image.state for image in job.images] == ["done", state]
    assert job.images[1].code == (1024 if state == "failed" else None)


def test_references_that_came_with_the_request_are_kept_once_it_arrived(stores: Stores) -> None:
    database, _ = stores
    job = a_job(1, state="arriving", owner="w", subjects=(a_subject(1), a_subject(1, 1, "https://example.com/a.png")))
    add(database, job)
    with database.transaction() as connection:
        assert jobs.get(connection, job.id) is None
        assert jobs.page(connection, "", limit=9, states=["arriving", "queued"]) == []
        assert jobs.ask_cancel(connection, job.id, "", NOW) is None
        assert leases.claim(connection, "w", pictures=9, retried=True, now=NOW) == []
        assert not leases.progress(connection, Lease(job.id, 0), NOW)
        assert leases.arrived(connection, Lease(job.id, 0))
        assert not leases.arrived(connection, Lease(job.id, 0))
    found = get(database, job)
    assert (found.state, found.owner) == ("queued", "w")
    assert [subject.kept for subject in found.subjects] == [True, False]
    do(database, leases.keep_subject, Lease(job.id, 0), 1)
    assert [subject.kept for subject in get(database, job).subjects] == [True, True]


# Fencing


WRITES: dict[str, Callable[[Connection, Lease], bool]] = {
    "arrived": leases.arrived,
    "keep_subject": lambda c, lease: leases.keep_subject(c, lease, 0),
    "progress": lambda c, lease: leases.progress(
        c, lease, NOW, steps={0: (9, 9)}, notes=["x"], plan={"x": 1}, prompt="x"
    ),
    "finish_image": finish,
    "fail_image": lambda c, lease: leases.fail_image(c, lease, 0, code=1, error="x"),
    "end": lambda c, lease: leases.end(c, lease, "done", NOW, notes=["x"], forget_key=True),
}


def of(database: Database, job: Job) -> tuple[Any, ...]:
    """Everything that the database holds of a job, and of usage and webhooks."""
    with database.transaction(writing=False) as connection:
        found = jobs.load(connection, jobs.jobs.c.id == job.id)
        return found, usage.between(connection, "0000", "9999"), connection.execute(select(deliveries)).all()


@pytest.mark.parametrize("lost_by", ["claim", "end", "delete", "release", "hand back", "cancel"])
def test_who_has_lost_a_job_writes_nothing(stores: Stores, lost_by: str) -> None:
    database, _ = stores
    job = a_job(1, webhook="https://example.com/", idempotency_key="i", subjects=(a_subject(1, 0, "https://x/"),))
    add(database, job)
    (mine,) = claim(database, "w")
    match lost_by:
        case "claim":
            do(database, leases.release, ["w"], NOW)
            claim(database, "another")
        case "end":
            do(database, leases.end, lease_of(mine), "failed", NOW)
        case "delete":
            do(database, jobs.start_deleting, job.id, "", NOW)
        case "release":
            do(database, leases.release, ["w"], NOW)
        case "hand back":
            do(database, leases.hand_back, "w")
        case "cancel":
            do(database, leases.hand_back, "w", [job.id])
            do(database, jobs.ask_cancel, job.id, "", NOW)
    before = of(database, job)
    for name, write in WRITES.items():
        assert do(database, write, lease_of(mine)) is False, name
        assert of(database, job) == before, name


def test_an_older_token_of_the_same_worker_writes_nothing(stores: Stores) -> None:
    database, _ = stores
    job = a_job(1)
    add(database, job)
    (first,) = claim(database, "w")
    do(database, leases.release, ["w"], NOW)
    (second,) = claim(database, "w")
    assert second.token > first.token
    before = of(database, job)
    assert [do(database, write, lease_of(first)) for write in WRITES.values()] == [False] * len(WRITES)
    assert of(database, job) == before
    assert do(database, finish, lease_of(second))


# Claims


def test_tenants_take_turns_by_the_pictures_that_they_have(stores: Stores) -> None:
    database, _ = stores
    greedy = [a_job(number, "greedy", pictures=2) for number in range(1, 6)]
    modest = [a_job(number, "modest") for number in (10, 11)]
    new = [a_job(20, "new", pictures=3), a_job(21, "new")]
    add(database, *greedy, *modest, *new)
    order = [int(job.id, 16) for job in claim(database, pictures=100)]
    assert order == [1, 10, 20, 11, 2, 21, 3, 4, 5]


def test_what_a_tenant_has_anywhere_counts_against_it(stores: Stores) -> None:
    database, _ = stores
    add(database, *(a_job(number, "greedy", pictures=2) for number in range(1, 4)), a_job(9, "modest", pictures=2))
    assert [int(job.id, 16) for job in claim(database, "one", pictures=2)] == [1]
    assert [int(job.id, 16) for job in claim(database, "two", pictures=4)] == [9, 2]


def test_the_first_job_that_does_not_fit_waits_for_room_and_is_not_overtaken(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1), a_job(2, "large", pictures=9), a_job(3), a_job(4))
    assert [int(job.id, 16) for job in claim(database, pictures=4)] == [1]
    assert claim(database, pictures=8) == []
    (small,) = jobs_of(database, "w")
    do(database, leases.end, Lease(small, 1), "done", NOW)
    assert [int(job.id, 16) for job in claim(database, pictures=4)] == [3, 4]  # too large even for an empty worker
    assert [int(job.id, 16) for job in claim(database, "larger", pictures=9)] == [2]


def jobs_of(database: Database, worker: str) -> dict[str, int]:
    with database.transaction(writing=False) as connection:
        return leases.owned(connection, worker)


def test_jobs_of_a_process_that_died_are_tried_one_at_a_time_the_least_tried_first(stores: Stores) -> None:
    database, _ = stores
    add(database, *(a_job(number) for number in range(1, 5)))
    for _ in range(2):
        claim(database, "dies")
        assert do(database, leases.release, ["dies"], NOW) >= 1
    add(database, a_job(9))
    tried = {int(job.id, 16): job.attempts for job in all_jobs(database)}
    assert tried == {1: 2, 2: 1, 3: 1, 4: 1, 9: 0}
    assert [int(job.id, 16) for job in claim(database, retried=False)] == [9]
    assert [int(job.id, 16) for job in claim(database, retried=True)] == [2]
    assert [int(job.id, 16) for job in claim(database, retried=True)] == [3]


def all_jobs(database: Database, tenant: str = "") -> list[Job]:
    with database.transaction(writing=False) as connection:
        return jobs.page(connection, tenant, limit=1000)


def test_what_is_done_stays_done_when_a_job_changes_hands(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1, pictures=3))
    (mine,) = claim(database, "dies")
    do(database, leases.progress, lease_of(mine), 50.0, steps={0: (3, 4), 1: (2, 4)})
    do(database, finish, lease_of(mine), 0, steps=4)
    do(database, leases.release, ["dies"], NOW)
    found = get(database, mine)
    assert (found.state, found.owner, found.attempts, found.started) == ("queued", None, 1, 50.0)
    assert [(image.state, image.step) for image in found.images] == [("done", 4), ("queued", 0), ("queued", 0)]
    (again,) = claim(database, "w")
    assert again == replace(found, owner="w", token=found.token + 1, version=found.version + 1)


def test_the_end_of_a_process_settles_its_cancelled_and_arriving_jobs(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1), a_job(2, state="arriving", owner="w", key="k" * 32), a_job(3, state="arriving", owner="x"))
    (mine,) = claim(database, "w")
    asked = do(database, jobs.ask_cancel, mine.id, "", NOW)
    assert (asked.state, asked.cancelling, asked.version) == ("queued", True, mine.version + 1)
    assert do(database, jobs.ask_cancel, mine.id, "", NOW) == asked
    with database.transaction(writing=False) as connection:
        assert leases.cancelling(connection, "w") == [mine.id]
        assert leases.cancelling(connection, "x") == []
    do(database, leases.release, ["w"], NOW)
    assert get(database, mine).state == "cancelled"
    assert list(do(database, jobs.expired, NOW, 10)) == [a_job(2).id]
    with database.transaction() as connection:  # the quota of one that was never accepted is given back
        assert [(used.jobs, used.charged) for used in usage.between(connection, "0000", "9999")] == [(1, -1)]
        assert leases.arrived(connection, Lease(a_job(3).id, 0))


def test_a_job_that_was_handed_back_while_it_was_to_be_cancelled_is_cancelled_by_the_next(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1), a_job(2))
    claim(database, "w")
    do(database, jobs.ask_cancel, a_job(1).id, "", NOW)
    assert sorted(do(database, leases.hand_back, "w")) == [a_job(1).id, a_job(2).id]
    assert [(job.attempts, job.owner) for job in all_jobs(database)] == [(0, None), (0, None)]
    assert [job.id for job in claim(database, "next")] == [a_job(2).id]
    assert get(database, a_job(1)).state == "cancelled"


def test_one_job_can_be_handed_back_alone(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1), a_job(2))
    do(database, leases.beat, "w", "host", NOW)
    claim(database, "w")
    assert do(database, leases.hand_back, "w", [a_job(2).id, "of somebody else"]) == [a_job(2).id]
    assert list(jobs_of(database, "w")) == [a_job(1).id]
    with database.transaction(writing=False) as connection:
        assert leases.beats(connection) == {"w": 1}


def test_a_waiting_job_is_cancelled_at_once_and_an_ended_one_stays_as_it_is(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1), a_job(2, tenant="other"))
    job = do(database, jobs.ask_cancel, a_job(1).id, "", NOW)
    assert (job.state, job.finished, [image.state for image in job.images]) == ("cancelled", NOW, ["cancelled"])
    assert do(database, jobs.ask_cancel, a_job(1).id, "", NOW + 1) == job
    assert do(database, jobs.ask_cancel, a_job(2).id, "", NOW) is None
    assert do(database, jobs.ask_cancel, "unknown", "", NOW) is None


def test_many_claimers_at_once_never_get_the_same_job_and_leave_none(stores: Stores) -> None:
    database, _ = stores
    count = 60
    add(database, *(a_job(number, f"t{number % 7}", pictures=1 + number % 3) for number in range(1, count + 1)))
    claimed: dict[str, list[str]] = {f"w{number}": [] for number in range(4)}
    failures: list[BaseException] = []

    def run(worker: str) -> None:
        try:
            while found := claim(database, worker, pictures=4):
                claimed[worker] += [job.id for job in found]
                for job in found[:-1]:
                    with database.transaction() as connection:
                        assert finish(connection, lease_of(job))
                        assert leases.end(connection, lease_of(job), "done", NOW)
                assert do(database, leases.end, lease_of(found[-1]), "done", NOW)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in claimed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claimed["last"] = [job.id for job in claim(database, "last", pictures=1000)]  # skipped while it was locked
    assert failures == []
    everything = [job_id for ids in claimed.values() for job_id in ids]
    assert sorted(everything) == sorted(a_job(number).id for number in range(1, count + 1))


def test_neither_claimer_waits_for_the_other(stores: Stores) -> None:
    database, _ = stores
    add(database, *(a_job(number) for number in range(1, 4)))
    if database.sqlite:
        assert len(claim(database, "one", pictures=1)) == 1  # one writer at a time
        return
    with database.transaction() as first:
        one = leases.claim(first, "one", pictures=1, retried=True, now=NOW)
        two = claim(database, "two", pictures=1)  # in another transaction, while the first is open
        three = claim(database, "three", pictures=9)
        released = do(database, leases.release, ["one"], NOW)
    assert [[job.id for job in found] for found in (one, two, three)] == [[a_job(number).id] for number in (1, 2, 3)]
    assert released == 0
    assert jobs_of(database, "one").keys() == {a_job(1).id}


# Signs of life


def test_beats_count_up_and_owners_without_a_row_are_seen(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1, owner="gone"), a_job(2))
    for beat in (1, 2, 3):
        do(database, leases.beat, "w", "h" * 300, NOW)
        with database.transaction(writing=False) as connection:
            assert leases.beats(connection) == {"w": beat, "gone": -1}
    assert do(database, leases.release, ["w", "gone"], NOW) == 1
    with database.transaction(writing=False) as connection:
        assert leases.beats(connection) == {}
    do(database, leases.beat, "w", "host", NOW)  # it was not dead after all
    do(database, leases.hand_back, "w")
    with database.transaction(writing=False) as connection:
        assert leases.beats(connection) == {}


# Idempotency keys and results


def test_an_idempotency_key_is_a_tenants_own_and_is_let_go_when_it_is_old(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(50, idempotency_key="key"), a_job(51, "other", idempotency_key="key"))
    add(database, a_job(52, state="arriving", owner="w", idempotency_key="new"))

    def by(key: str, since: float, tenant: str = "") -> str | None:
        job = do(database, jobs.by_idempotency_key, tenant, key, since)
        return None if job is None else job.id

    assert by("key", 50.0) == a_job(50).id
    assert by("key", 50.0, "other") == a_job(51).id
    assert by("new", 0.0) == a_job(52).id  # a second call waits for one whose references are still being kept
    assert by("unknown", 0.0) is None
    assert by("key", 51.0) is None
    add(database, a_job(60, idempotency_key="key"))
    assert by("key", 50.0) == a_job(60).id
    assert get(database, a_job(50)).idempotency_key is None


@pytest.mark.parametrize("how", ["delete", "expire", "fail"])
def test_a_key_is_free_again_once_its_job_is_gone(stores: Stores, how: str) -> None:
    database, _ = stores
    add(database, a_job(1, idempotency_key="key"))
    if how == "delete":
        do(database, jobs.start_deleting, a_job(1).id, "", NOW)
    elif how == "expire":
        ended(database, a_job(1))
        do(database, jobs.expired, NOW + 2000, 10)
    else:
        (mine,) = claim(database)
        do(database, leases.end, lease_of(mine), "failed", NOW, forget_key=True)
    add(database, a_job(2, idempotency_key="key"))
    assert do(database, jobs.by_idempotency_key, "", "key", 0.0).id == a_job(2).id


def test_of_many_calls_with_one_key_at_once_one_makes_a_job(stores: Stores) -> None:
    database, _ = stores
    callers = 8
    made: list[str] = []
    found: list[str] = []
    failures: list[BaseException] = []
    start = threading.Barrier(callers)

    def accept(connection: Connection, number: int) -> tuple[list[str], str]:
        earlier = jobs.by_idempotency_key(connection, "", "key", 0.0)
        if earlier is None:
            jobs.add(connection, a_job(number, idempotency_key="key"))
            return made, a_job(number).id
        return found, earlier.id

    def call(number: int) -> None:
        try:
            start.wait()
            try:
                into, job_id = do(database, accept, number)
            except IntegrityError:  # another was faster
                into, job_id = do(database, accept, number)
            into.append(job_id)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(1, callers + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(made) == 1
    assert found == made * (callers - 1)
    assert len(all_jobs(database)) == 1


def test_the_result_cache_gives_whole_results_of_the_same_tenant_alone(stores: Stores) -> None:
    database, _ = stores

    def by(digest: str, now: float = NOW, tenant: str = "") -> str | None:
        with database.transaction(writing=False) as connection:
            job = jobs.by_result(connection, tenant, digest, now)
        return None if job is None else job.id

    add(database, a_job(1, pictures=2, result_digest="d"))
    (mine,) = claim(database)
    assert by("d") is None
    do(database, finish, lease_of(mine), 0)
    do(database, leases.fail_image, lease_of(mine), 1, code=1024, error="x")
    do(database, leases.end, lease_of(mine), "done", NOW)
    assert by("d") is None  # in part
    for number in (2, 3):
        add(database, a_job(number, result_digest="d"))
        ended(database, a_job(number))
    assert by("d") == a_job(3).id
    assert (by("d", tenant="other"), by("e"), by("d", now=2000.0)) == (None, None, None)


def test_a_picture_is_found_by_its_blob_until_it_expires_or_is_deleted(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1, pictures=2))
    (mine,) = claim(database)
    first, second = (image.blob for image in mine.images)

    def by(blob: str, now: float = NOW) -> tuple[str, int] | None:
        with database.transaction(writing=False) as connection:
            found = jobs.by_blob(connection, blob, now)
        return None if found is None else (found[0].id, found[1].number)

    assert by(second) is None
    do(database, finish, lease_of(mine), 1)
    assert by(second) == (mine.id, 1)
    assert (by(first), by("unknown")) == (None, None)
    expires = get(database, mine).expires
    assert (by(second, expires - 0.01), by(second, expires)) == ((mine.id, 1), None)
    do(database, jobs.start_deleting, mine.id, "", NOW)
    assert by(second) is None


# Lists


def test_pages_hold_every_job_once_while_others_are_added_and_the_clock_steps_back(stores: Stores) -> None:
    database, _ = stores
    add(database, *(a_job(number, created=number // 3) for number in range(10, 31)), a_job(99, "other"))
    seen: list[str] = []
    before = None
    for newer in range(100, 200):
        with database.transaction(writing=False) as connection:
            page = jobs.page(connection, "", limit=4, before=before)
        if not page:
            break
        seen += [job.id for job in page]
        before = (page[-1].created, page[-1].id)
        add(database, a_job(newer))
    wanted = [(number // 3, a_job(number).id) for number in range(10, 31)]
    assert seen == [job_id for _, job_id in sorted(wanted, reverse=True)]


def test_a_list_is_of_one_tenant_and_can_be_narrowed(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1), a_job(2, model="mine"), a_job(3, "other"), a_job(4), a_job(5, state="deleting"))
    claim(database, "w", pictures=1)  # job 3, of the same share as job 1, is younger: this is job 1
    do(database, leases.progress, Lease(a_job(1).id, 1), NOW)

    def found(**filters: Any) -> list[int]:
        with database.transaction(writing=False) as connection:
            return [int(job.id, 16) for job in jobs.page(connection, "", limit=9, **filters)]

    assert found() == [4, 2, 1]
    assert found(states=["running", "done"]) == [1]
    assert found(states=["deleting"]) == []
    assert found(model="mine") == [2]
    assert found(created_from=2.0, created_to=4.0) == [2]
    with database.transaction(writing=False) as connection:
        assert jobs.get(connection, a_job(3).id, "") is None
        assert jobs.get(connection, a_job(3).id, "other") is not None
        assert jobs.get(connection, a_job(5).id) is None


def test_the_queue_is_counted_in_pictures(stores: Stores) -> None:
    database, _ = stores
    add(database, *(a_job(number, pictures=number) for number in (1, 2, 3, 4)))
    with database.transaction(writing=False) as connection:
        assert jobs.backlog(connection) == 10
        assert [jobs.ahead(connection, a_job(number)) for number in (1, 2, 4)] == [0, 1, 6]
    claim(database, pictures=3)
    with database.transaction(writing=False) as connection:
        assert jobs.backlog(connection) == 7
        assert jobs.ahead(connection, a_job(4)) == 6  # those that are painted now, too


@pytest.mark.parametrize("limit", [3, 40])
def test_a_page_takes_the_same_few_statements_whatever_its_size(stores: Stores, limit: int) -> None:
    database, _ = stores
    add(database, *(a_job(number, subjects=(a_subject(number),)) for number in range(1, 41)))
    statements: list[str] = []

    def count(*event_args: Any) -> None:
        statements.append(event_args[2])

    with database.transaction(writing=False) as connection:
        event.listen(connection, "before_cursor_execute", count)
        assert len(jobs.page(connection, "", limit=limit)) == limit
    assert len([statement for statement in statements if statement.startswith("SELECT")]) == 3


def test_no_statement_reads_every_job_that_there_is(tmp_path: Path) -> None:
    """By SQLite's own account of how it finds the rows; the ownerless and the owned ones have indexes of theirs."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    with opened(Database.open(Settings(data_dir=tmp_path))) as database:
        add(database, *(a_job(number, owner="gone" if number % 2 else None) for number in range(1, 9)))
        event.listen(database.engine, "before_cursor_execute", note)
        with database.transaction() as connection:
            job = leases.claim(connection, "w", pictures=9, retried=True, now=NOW)[0]
            leases.progress(connection, lease_of(job), NOW, steps={0: (1, 2)}, notes=["x"])
            finish(connection, lease_of(job))
            leases.end(connection, lease_of(job), "done", NOW)
            jobs.get(connection, job.id, "")
            jobs.by_idempotency_key(connection, "", "key", NOW)
            jobs.by_blob(connection, job.images[0].blob, NOW)
            jobs.by_result(connection, "", "digest", NOW)
            jobs.page(connection, "", limit=9, before=(NOW, ""), states=["done"], model="m", created_from=1.0)
            jobs.ahead(connection, job)
            jobs.backlog(connection)
            jobs.ask_cancel(connection, a_job(2).id, "", NOW)
            leases.cancelling(connection, "w")
            leases.owned(connection, "w")
            leases.beats(connection)
            leases.hand_back(connection, "w")
            leases.release(connection, ["gone"], NOW)
            jobs.start_deleting(connection, job.id, "", NOW)
            jobs.forget(connection, list(jobs.expired(connection, 1e9, 9)))
            jobs.known_blobs(connection, ["a", "b"])
        event.remove(database.engine, "before_cursor_execute", note)
        with database.transaction() as connection:
            plans = {
                statement: [
                    row[-1]
                    for row in connection.exec_driver_sql(
                        f"EXPLAIN QUERY PLAN {statement}", parameters[0] if isinstance(parameters, list) else parameters
                    )
                ]
                for statement, parameters in asked
                if statement.startswith(("SELECT", "UPDATE", "DELETE"))
            }
    own = ("ix_jobs_waiting", "ix_jobs_owner", "ix_jobs_deleting")
    scans = {
        (statement, step)
        for statement, steps in plans.items()
        for step in steps
        if re.match("SCAN (jobs|images|subjects|deliveries|usage)", step) and not step.endswith(own)
    }
    assert scans == set()
    assert len(plans) > 20
    assert any("COVERING INDEX ix_jobs_waiting" in step for steps in plans.values() for step in steps)


# Usage and webhooks


def test_usage_is_the_sum_of_what_ended(stores: Stores) -> None:
    database, _ = stores
    day = 86_400.0
    for number, (tenant, model, painted) in enumerate(
        [("a", "m", 3), ("a", "m", 1), ("a", "n", 2), ("b", "m", 0)], start=1
    ):
        add(database, a_job(number, tenant, pictures=3, model=model, key="k" * 32))
        (mine,) = claim(database)
        for image in range(painted):
            do(database, finish, lease_of(mine), image, cost=10.0, data_bytes=7)
        do(database, leases.end, lease_of(mine), "done", number * day, code=1024, error="x")
    with database.transaction(writing=False) as connection:
        found = usage.between(connection, "0000", "9999")
    assert [(*used[:6], used[7]) for used in map(astuple, found) if used[3]] == [
        ("1970-01-02", "a", "m", 1, 3, 0, 30.0),
        ("1970-01-03", "a", "m", 1, 1, 2, 10.0),
        ("1970-01-04", "a", "n", 1, 2, 1, 20.0),
        ("1970-01-05", "b", "m", 1, 0, 3, 0.0),
    ]
    assert sum(used.bytes for used in found) == 7 * 6
    # what failed by the service's own fault is given back to the quota, on the day of the accept
    assert [(used.day, used.model, used.charged) for used in found if used.charged] == [
        ("1970-01-01", "m", -2),
        ("1970-01-01", "n", -1),
        ("1970-01-01", "m", -3),
    ]


def test_deleting_a_job_that_is_running_counts_what_was_painted(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1, pictures=2))
    (mine,) = claim(database)
    do(database, finish, lease_of(mine), 0)
    do(database, jobs.forget, [mine.id])  # which is not being deleted
    assert get(database, mine).state == "queued"
    do(database, jobs.start_deleting, mine.id, "", NOW)
    do(database, jobs.forget, [mine.id])
    with database.transaction(writing=False) as connection:
        assert jobs.known_blobs(connection, [mine.images[0].blob]) == set()
        (used,) = usage.between(connection, "0000", "9999")
    assert (used.jobs, used.images, used.cost, used.bytes) == (1, 1, 20.0, 1000)


def test_the_webhook_is_due_in_the_transaction_that_ends_the_job(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1, "t", webhook="https://example.com/hook"), a_job(2, "t"))
    for mine in claim(database):
        with suppress(RuntimeError), database.transaction() as connection:
            leases.end(connection, lease_of(mine), "done", NOW)
            raise RuntimeError("before the commit")
        assert do(database, select_all, deliveries) == []
    for mine in all_jobs(database, "t"):
        do(database, leases.end, lease_of(mine), "cancelled", NOW)
    ((delivery),) = do(database, select_all, deliveries)
    assert (delivery.id, delivery.tenant, delivery.job, delivery.url, delivery.next_at) == (
        f"msg_{a_job(1).id}",
        "t",
        a_job(1).id,
        "https://example.com/hook",
        NOW,
    )


def select_all(connection: Connection, table: Any) -> list[Any]:
    return list(connection.execute(select(table)).all())


# Deleting


def kept(blobs: Blobs) -> set[str]:
    return set(blobs.names(older_than=2e10))


def painted(stores: Stores, number: int, **fields: Any) -> Job:
    """A job that has ended, its pictures and its reference in the store."""
    database, blobs = stores
    add(database, a_job(number, pictures=2, subjects=(a_subject(number),), **fields))
    job = ended(database, a_job(number))
    for name in names_of(job):
        blobs.put(name, b"data")
    return job


def names_of(job: Job) -> set[str]:
    return {part.blob for part in (*job.images, *job.subjects)}


def test_deleting_is_finished_by_the_next_sweep_wherever_it_broke_off(stores: Stores) -> None:
    database, blobs = stores
    done = [painted(stores, number) for number in range(1, 5)]
    untouched, marked, half, bare = done
    for job in (marked, half, bare):
        assert set(do(database, jobs.start_deleting, job.id, "", NOW)) == names_of(job)
        assert do(database, jobs.start_deleting, job.id, "", NOW) is None
    blobs.delete([half.images[0].blob])
    blobs.delete(sorted(names_of(bare)))
    assert sweep.sweep(database, blobs, NOW, dry_run=True).jobs == 3
    assert kept(blobs) == names_of(untouched) | names_of(marked) | (names_of(half) - {half.images[0].blob})
    assert sweep.sweep(database, blobs, NOW) == sweep.Swept(jobs=3, orphans=0, deliveries=0, audit=0)
    assert kept(blobs) == names_of(untouched)
    assert [job.id for job in all_jobs(database)] == [untouched.id]
    with database.transaction(writing=False) as connection:
        assert connection.scalar(select(func.count()).select_from(images)) == 2
        assert connection.scalar(select(func.count()).select_from(subjects)) == 1
    assert sweep.sweep(database, blobs, NOW) == sweep.Swept(0, 0, 0, 0)


def test_a_sweep_deletes_what_has_expired_and_nothing_that_is_unfinished(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, blobs = stores
    monkeypatch.setattr(sweep, "BATCH", 2)
    old = [painted(stores, number) for number in range(1, 6)]
    young = painted(stores, 7, expires=5000.0)
    add(database, a_job(8))
    assert sweep.sweep(database, blobs, 1200.0, dry_run=True).jobs == 5
    assert sweep.sweep(database, blobs, 1200.0).jobs == 5
    assert kept(blobs) == names_of(young)
    assert [int(job.id, 16) for job in all_jobs(database)] == [8, 7]
    assert len(old) == 5


def test_rows_stay_while_the_store_refuses_to_delete(stores: Stores) -> None:
    database, blobs = stores
    job = painted(stores, 1)

    class Refusing(Blobs):
        def delete(self, names: Sequence[str]) -> None:
            raise StorageFailed("The store is away.")

    refusing = Refusing(blobs.folder or blobs._store())
    with pytest.raises(StorageFailed):
        sweep.sweep(database, refusing, 5000.0)
    with database.transaction(writing=False) as connection:
        assert jobs.known_blobs(connection, sorted(names_of(job))) == names_of(job)
        assert jobs.get(connection, job.id) is None  # but nobody sees it any more
    assert sweep.sweep(database, blobs, 5000.0).jobs == 1
    assert kept(blobs) == set()


def test_blobs_without_a_row_go_once_they_are_an_hour_old(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    database, blobs = stores
    monkeypatch.setattr(sweep, "BATCH", 2)
    now = time.time()
    job = painted(stores, 1, expires=now + 1e6)
    strays = [blob_name(f"stray{number}") for number in range(3)]
    for name in strays:
        blobs.put(name, b"stray")
    assert sweep.sweep(database, blobs, now).orphans == 0
    later = now + sweep.ORPHAN_SECONDS + 60
    assert sweep.sweep(database, blobs, later, orphans=False).orphans == 0
    assert sweep.sweep(database, blobs, later, dry_run=True).orphans == 3
    assert kept(blobs) == names_of(job) | set(strays)
    assert sweep.sweep(database, blobs, later).orphans == 3
    assert kept(blobs) == names_of(job)


def test_old_deliveries_go_and_those_that_are_due_stay(stores: Stores) -> None:
    database, blobs = stores
    for number in (1, 2):
        add(database, a_job(number, webhook="https://example.com/", expires=1e9))
        ended(database, a_job(number))
    with database.transaction() as connection:
        connection.execute(deliveries.update().where(deliveries.c.job == a_job(1).id).values(next_at=None))
    later = NOW + sweep.DELIVERY_SECONDS
    assert sweep.sweep(database, blobs, later).deliveries == 0
    assert sweep.sweep(database, blobs, later + 1, dry_run=True).deliveries == 1
    assert sweep.sweep(database, blobs, later + 1).deliveries == 1
    assert [row.job for row in do(database, select_all, deliveries)] == [a_job(2).id]


def test_a_job_that_goes_takes_along_what_was_to_be_told_of_it(stores: Stores) -> None:
    database, blobs = stores
    for number in (1, 2, 3):
        painted(stores, number, webhook="https://example.com/?token=1", expires=(5.0, 1e9, 1e9)[number - 1])
    with database.transaction() as connection:  # all of them have been tried in vain
        connection.execute(deliveries.update().values(body='{"prompt": "a secret fox"}', attempts=3))
    do(database, jobs.start_deleting, a_job(2).id, "", NOW)
    do(database, jobs.forget, [a_job(2).id, a_job(3).id])
    assert {row.job for row in do(database, select_all, deliveries)} == {a_job(1).id, a_job(3).id}
    sweep.sweep(database, blobs, 5000.0)  # the first one has expired
    assert [row.job for row in do(database, select_all, deliveries)] == [a_job(3).id]


def test_what_the_policy_refused_is_kept_for_ninety_days(stores: Stores) -> None:
    database, blobs = stores
    for at in (NOW, NOW + 1):
        do(database, audit.add, now=at, tenant="", job="0" * 32, stage="prompt", rule=f"rule of {at}", prompt="a fox")
    later = NOW + 90 * 24 * 3600
    assert sweep.sweep(database, blobs, later).audit == 0
    assert sweep.sweep(database, blobs, later + 0.5, dry_run=True).audit == 1
    assert sweep.sweep(database, blobs, later + 0.5).audit == 1
    assert [row.rule for row in do(database, select_all, schema.audit)] == [f"rule of {NOW + 1}"]


def test_two_sweeps_at_once_delete_everything_and_neither_fails(stores: Stores) -> None:
    database, blobs = stores
    for number in range(1, 9):
        painted(stores, number, webhook="https://example.com/")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            sweep.sweep(database, blobs, 5000.0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (kept(blobs), all_jobs(database)) == (set(), [])


def test_claims_and_lists_go_on_when_the_clock_steps_back(stores: Stores) -> None:
    database, _ = stores
    add(database, a_job(1000))
    (mine,) = do(database, leases.claim, "w", pictures=9, retried=True, now=2000.0)
    assert do(database, leases.progress, lease_of(mine), 2001.0)
    assert do(database, leases.progress, lease_of(mine), 10.0)
    assert do(database, leases.end, lease_of(mine), "done", 20.0)
    job = get(database, mine)
    assert (job.started, job.finished, job.expires) == (2001.0, 20.0, 2000.0)
    add(database, a_job(15))
    assert [int(job.id, 16) for job in all_jobs(database)] == [1000, 15]
    assert [int(job.id, 16) for job in claim(database)] == [15]
    with database.transaction(writing=False) as connection:
        assert connection.scalar(select(func.count()).select_from(workers)) == 0
