"""Who has which job, and what its worker writes to it: claimed, moved on, ended, handed back.

Functions of a Connection, as those of `jobs`. What a worker writes names its token (`Lease`): where somebody else has
claimed the job since, nothing is written and the function returns False (fencing, as in Kleppmann's "How to do
distributed locking", 2016).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    select,
    union_all,
    update,
)

from limner.storage import usage
from limner.storage.jobs import DELETING, FREE, IS_OPEN, OPEN, UNFINISHED, Job, load, settle
from limner.storage.schema import images, insert, jobs, subjects, workers


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a job, until somebody else claims it."""

    job: str
    token: int


def arrived(connection: Connection, lease: Lease) -> bool:
    """The references that came with it are in the store: kept, and the job goes from `arriving` to `queued`.

    From here on it is accepted. Its owner keeps it.
    """
    if not _write(connection, lease, ("arriving",), state="queued"):
        return False
    connection.execute(update(subjects).where(subjects.c.job == lease.job, subjects.c.url.is_(None)).values(kept=True))
    return True


def claim(
    connection: Connection, worker: str, *, pictures: int, retried: bool, now: float, without: Collection[str] = ()
) -> list[Job]:
    """Take ownerless queued jobs, to run up to so many pictures: owner = worker, token + 1.

    Fair by tenant: the one with the fewest pictures claimed now goes first, within a tenant the oldest job. Jobs that
    were tried before (attempts >= 1) may be what their process died of: at most one is taken, and only where `retried`,
    the one tried least first. Two claimers at once never get the same job, and neither waits for the other.

    The first job with more pictures than are left ends it, so that smaller ones do not overtake it for ever; but a
    worker that has none at all goes round one that is too large for it even so. Ownerless jobs that are to be cancelled
    are, here. Those of `without` are left to others.
    """
    unwanted = select(jobs.c.id).where(*FREE, jobs.c.cancelling).with_for_update(skip_locked=True)
    for job_id in connection.scalars(unwanted).all():
        settle(connection, job_id, "cancelled", now)
    mine: list[str] = []
    for before in (True, False) if retried else (False,):
        for job_id, count in _next(connection, without, again=before, most=1 if before else pictures):
            if count <= pictures:
                pictures -= count
                mine.append(job_id)
            elif mine or owned(connection, worker):
                pictures = 0
                break
    if not mine:
        return []
    taken = {"owner": worker, "token": jobs.c.token + 1, "version": jobs.c.version + 1}
    connection.execute(update(jobs).where(jobs.c.id.in_(mine)).values(taken))
    claimed = {job.id: job for job in load(connection, jobs.c.id.in_(mine))}
    return [claimed[job_id] for job_id in mine]


def release(connection: Connection, dead: Sequence[str], now: float) -> int:
    """The unfinished jobs of these dead workers are nobody's from now on; how many there were.

    Token + 1, attempts + 1, state queued; running images are queued again, done ones stay. A job with `cancelling` set
    becomes cancelled, one that was still arriving goes to `deleting`. The workers' rows go.
    """
    released = _disown(connection, jobs.c.owner.in_(dead), tries=1)
    unwanted = select(jobs.c.id).where(jobs.c.id.in_(released), jobs.c.cancelling)
    for job_id in connection.scalars(unwanted).all():
        settle(connection, job_id, "cancelled", now)
    connection.execute(delete(workers).where(workers.c.id.in_(dead)))
    return len(released)


def hand_back(connection: Connection, worker: str, only: Sequence[str] | None = None, *, tries: int = 0) -> list[str]:
    """This worker stops: its unfinished jobs, or `only` these, are nobody's from now on; the ids of those to run again.

    As `release`, but attempts grow by `tries`: by default it was no fault of theirs. The worker's row goes too, unless
    `only` is given.
    """
    own = jobs.c.owner == worker
    if only is not None:
        return _disown(connection, own & jobs.c.id.in_(only), tries=tries)
    handed = _disown(connection, own, tries=tries)
    connection.execute(delete(workers).where(workers.c.id == worker))
    return handed


def keep_subject(connection: Connection, lease: Lease, number: int) -> bool:
    """A fetched reference is in the store now."""
    if not _write(connection, lease, UNFINISHED):
        return False
    connection.execute(
        update(subjects).where(subjects.c.job == lease.job, subjects.c.number == number).values(kept=True)
    )
    return True


def progress(
    connection: Connection,
    lease: Lease,
    now: float,
    *,
    steps: Mapping[int, tuple[int, int]] | None = None,
    notes: Sequence[str] = (),
    plan: Mapping[str, Any] | None = None,
    prompt: str | None = None,
) -> bool:
    """The job is running, since now if it was not before; one version more.

    `steps`: finished and in all, by the number of an image, which is running then. `notes` are added to those that
    stand there already, none twice; a plan takes the place of the one before. `prompt`: what a chat endpoint made of
    the prompt, kept in request["prompt"] with request["optimize_prompt"] = False, so that a second run paints the same
    words.
    """
    values = _told(connection, lease.job, notes, plan)
    if prompt is not None:
        request = connection.scalar(select(jobs.c.request).where(jobs.c.id == lease.job)) or {}
        values["request"] = {**request, "prompt": prompt, "optimize_prompt": False}
    if not _write(connection, lease, OPEN, state="running", started=func.coalesce(jobs.c.started, now), **values):
        return False
    if steps:
        connection.execute(
            _image(lease, bindparam("of")).values(state="running", step=bindparam("done"), steps=bindparam("all")),
            [{"of": number, "done": done, "all": whole} for number, (done, whole) in steps.items()],
        )
    return True


def finish_image(
    connection: Connection,
    lease: Lease,
    number: int,
    *,
    data_bytes: int,
    sha256: str,
    seconds: Mapping[str, float],
    cost: float,
    steps: int | None = None,
) -> bool:
    """Its blob is in the store: done. Where it already was (the same bytes, painted twice), it costs nothing more."""
    open_image = exists().where(images.c.job == lease.job, images.c.number == number, images.c.state.in_(OPEN))
    if not _write(connection, lease, OPEN, cost=jobs.c.cost + case((open_image, cost), else_=0.0)):
        return False
    connection.execute(
        _image(lease, number).values(
            state="done",
            step=steps or images.c.step,
            steps=steps or images.c.steps,
            bytes=data_bytes,
            sha256=sha256,
            seconds=dict(seconds),
        )
    )
    return True


def fail_image(connection: Connection, lease: Lease, number: int, *, code: int, error: str) -> bool:
    """It cannot be painted or kept. One that is done stays done."""
    if not _write(connection, lease, OPEN):
        return False
    connection.execute(_image(lease, number).values(state="failed", code=code, error=error))
    return True


def end(
    connection: Connection,
    lease: Lease,
    state: Literal["done", "failed", "cancelled"],
    now: float,
    *,
    started: float | None = None,
    notes: Sequence[str] = (),
    plan: Mapping[str, Any] | None = None,
    code: int | None = None,
    error: str | None = None,
    forget_key: bool = False,
) -> bool:
    """End the job, from whatever unfinished state, and count it in `usage` of the day.

    Images that are unfinished become cancelled where the job is, else failed with code and error. What it is kept for
    counts from now on: `expires` moves by the time that it took. Its webhook's delivery is written with it (id "msg_" +
    the job's id; an empty body, which the webhook module fills from the job). `forget_key`: the idempotency key is let
    go, so that a retry runs anew.
    """
    held = select(jobs.c.id).where(*_held(lease, UNFINISHED)).with_for_update()
    if connection.scalar(held) is None:
        return False
    values = _told(connection, lease.job, notes, plan) | {"started": func.coalesce(jobs.c.started, started)}
    if forget_key:
        values["idempotency_key"] = None
    settle(connection, lease.job, state, now, code=code, error=error, **values)
    return True


def cancelling(connection: Connection, worker: str) -> list[str]:
    """Ids of this worker's jobs that are to be cancelled."""
    where = (jobs.c.owner == worker, jobs.c.state.in_(UNFINISHED), jobs.c.cancelling)
    return list(connection.scalars(select(jobs.c.id).where(*where)))


def owned(connection: Connection, worker: str) -> dict[str, int]:
    """Ids and tokens of the unfinished jobs that this worker has, as the database sees it."""
    where = (jobs.c.owner == worker, jobs.c.state.in_(UNFINISHED))
    return {row.id: row.token for row in connection.execute(select(jobs.c.id, jobs.c.token).where(*where))}


def beat(connection: Connection, worker: str, host: str, now: float) -> None:
    """A sign of life: the worker's row is made or its beat counted up."""
    row = insert(connection, workers).values(id=worker, beat=1, host=host[:255], started=now)
    connection.execute(row.on_conflict_do_update(index_elements=["id"], set_={"beat": workers.c.beat + 1}))


def beats(connection: Connection) -> dict[str, int]:
    """Every worker's beat. A worker that owns jobs (those are unfinished) and has no row has beat -1."""
    without = (
        select(jobs.c.owner, literal(-1))
        .where(jobs.c.owner.is_not(None), jobs.c.owner.not_in(select(workers.c.id)))
        .distinct()
    )
    rows = connection.execute(union_all(select(workers.c.id, workers.c.beat), without))
    return {row.id: row.beat for row in rows}


def _held(lease: Lease, states: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    return jobs.c.id == lease.job, jobs.c.token == lease.token, jobs.c.state.in_(states)


def _write(connection: Connection, lease: Lease, states: Sequence[str], **values: Any) -> bool:
    """Change the job under its lease, one version more; it stays locked until the transaction ends."""
    changed = update(jobs).where(*_held(lease, states)).values(version=jobs.c.version + 1, **values)
    return connection.execute(changed).rowcount == 1


def _image(lease: Lease, number: Any) -> Any:
    """An UPDATE of an unfinished image."""
    return update(images).where(images.c.job == lease.job, images.c.number == number, IS_OPEN)


def _told(connection: Connection, job_id: str, notes: Sequence[str], plan: Mapping[str, Any] | None) -> dict[str, Any]:
    """Columns for more notes and a plan. A job's owner alone writes notes, so that they are read without a lock."""
    values: dict[str, Any] = {} if plan is None else {"plan": dict(plan)}
    if notes:
        before = connection.scalar(select(jobs.c.notes).where(jobs.c.id == job_id)) or []
        values["notes"] = list(dict.fromkeys((*before, *notes)))
    return values


def _next(connection: Connection, without: Collection[str], *, again: bool, most: int) -> list[tuple[str, int]]:
    """Ids and pictures of ownerless jobs in the order in which they are dealt, `most` of them, locked."""
    passed = list(without)
    while ids := connection.scalars(_line(again, passed).limit(max(most, 0))).all():
        free = select(jobs.c.id, jobs.c.pictures).where(jobs.c.id.in_(ids), *FREE)
        rows = {row.id: row.pictures for row in connection.execute(free.with_for_update(skip_locked=True))}
        if rows:
            return [(job_id, rows[job_id]) for job_id in ids if job_id in rows]
        passed += ids  # another claimer is just taking them: look behind them
    return []


def _line(again: bool, passed: Sequence[str]) -> Select[str]:
    """Ids of ownerless jobs in the order in which they are dealt."""
    whose = func.coalesce(jobs.c.tenant, literal_column("''"))  # else SQLite walks the index of all jobs by tenant
    taken = (
        select(whose.label("tenant"), func.sum(jobs.c.pictures).label("pictures"))
        .where(jobs.c.owner.is_not(None))
        .group_by(whose)
        .subquery()
    )
    upto = func.sum(jobs.c.pictures).over(partition_by=jobs.c.tenant, order_by=(jobs.c.created, jobs.c.id))
    columns = (jobs.c[name] for name in ("id", "tenant", "created", "attempts"))
    waiting = (
        select(*columns, (upto - jobs.c.pictures).label("older"))
        .where(*FREE, jobs.c.attempts > 0 if again else jobs.c.attempts == 0, jobs.c.id.not_in(passed))
        .subquery()
    )
    # What its tenant would have, were all of its older jobs claimed.
    share = waiting.c.older + func.coalesce(taken.c.pictures, 0)
    return (
        select(waiting.c.id)
        .outerjoin(taken, taken.c.tenant == waiting.c.tenant)
        .order_by(*((waiting.c.attempts,) if again else ()), share, waiting.c.created, waiting.c.id)
    )


def _disown(connection: Connection, whose: ColumnElement[bool], *, tries: int) -> list[str]:
    """Take unfinished jobs from their owner; the ids of those to run again, now locked.

    Rows that another transaction holds are left, for two that wait for each other would both fail: whoever looks next
    finds them.
    """
    held = select(jobs).where(whose, jobs.c.state.in_(UNFINISHED)).with_for_update(skip_locked=True)
    rows = connection.execute(held).all()
    again = [row.id for row in rows if row.state != "arriving"]
    free = {"state": "queued", "owner": None, "token": jobs.c.token + 1, "version": jobs.c.version + 1}
    connection.execute(update(jobs).where(jobs.c.id.in_(again)).values(**free, attempts=jobs.c.attempts + tries))
    connection.execute(
        update(images).where(images.c.job.in_(again), images.c.state == "running").values(state="queued", step=0)
    )
    for row in rows:
        if row.state == "arriving":  # nobody was told of it
            connection.execute(update(jobs).where(jobs.c.id == row.id).values(DELETING))
            usage.give_back(connection, row.tenant, row.key, row.model, row.created, row.pictures)
    return again
