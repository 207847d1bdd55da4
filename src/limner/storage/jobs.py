"""Jobs in the database: accepted, looked up, listed, cancelled, deleted.

Functions of a Connection, to be put together in one transaction; none reads a clock but by its argument `now`, Unix
seconds. What the worker that has a job writes to it stands in `leases`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from limner.storage import usage
from limner.storage.schema import deliveries, images, jobs, subjects

Visible = Literal["queued", "running", "done", "failed", "cancelled"]
"""States that a caller sees."""

State = Literal["arriving", Visible, "deleting"]
VISIBLE: Final = get_args(Visible)
UNFINISHED = ("arriving", "queued", "running")
ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Image:
    number: int
    state: Visible
    seed: int  # signed 64-bit
    blob: str
    width: int
    height: int
    step: int = 0
    steps: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    seconds: Mapping[str, float] | None = None
    code: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    number: int
    blob: str
    url: str | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs` with its images and subjects, by their numbers."""

    id: str
    tenant: str
    key: str | None
    state: State
    version: int
    request: Mapping[str, Any]  # Order.to_json
    model: str
    pictures: int
    created: float
    started: float | None
    finished: float | None
    expires: float
    cost: float
    notes: tuple[str, ...]
    plan: Mapping[str, Any] | None
    code: int | None
    error: str | None
    owner: str | None
    token: int
    attempts: int
    cancelling: bool
    idempotency_key: str | None
    body_digest: str | None
    result_digest: str | None
    webhook: str | None
    images: tuple[Image, ...]
    subjects: tuple[Subject, ...]

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def add(connection: Connection, job: Job) -> None:
    """Insert a new job with its images and subjects.

    Raises:
        sqlalchemy.exc.IntegrityError: its id or its idempotency key is taken. Callers look by `by_idempotency_key`
            first, in the same transaction; on PostgreSQL another transaction may still have been faster.
    """
    fields = {name: getattr(job, name) for name in _JOB} | {"request": dict(job.request), "notes": list(job.notes)}
    connection.execute(insert(jobs).values(fields))
    connection.execute(insert(images), [{"job": job.id, **asdict(image)} for image in job.images])
    if job.subjects:
        connection.execute(insert(subjects), [{"job": job.id, **asdict(subject)} for subject in job.subjects])


def get(connection: Connection, job_id: str, tenant: str | None = None) -> Job | None:
    """The job, or None where there is none, it is being deleted, still arriving, or another tenant's (None: any)."""
    whose = () if tenant is None else (jobs.c.tenant == tenant,)
    return _first(load(connection, jobs.c.id == job_id, jobs.c.state.in_(VISIBLE), *whose))


def by_idempotency_key(connection: Connection, tenant: str, key: str, since: float) -> Job | None:
    """The job that came with this key at or after `since`, arriving ones too. An older one lets go of the key here."""
    job = _first(load(connection, jobs.c.tenant == tenant, jobs.c.idempotency_key == key))
    if job is None or job.created >= since:
        return job
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(idempotency_key=None))
    return None


def by_blob(connection: Connection, blob: str, now: float) -> tuple[Job, Image] | None:
    """The finished picture of this name, unless it has expired or is being deleted."""
    of = select(images.c.job).where(images.c.blob == blob, images.c.state == "done").scalar_subquery()
    job = _first(load(connection, jobs.c.id == of, jobs.c.state.in_(VISIBLE), jobs.c.expires > now))
    return None if job is None else (job, next(image for image in job.images if image.blob == blob))


def by_result(connection: Connection, tenant: str, digest: str, now: float) -> Job | None:
    """A wholly done job (every picture) of this tenant with this result digest that has not expired, the newest."""
    partial = exists().where(images.c.job == jobs.c.id, images.c.state != "done")
    where = (
        jobs.c.result_digest == digest,
        jobs.c.tenant == tenant,
        jobs.c.state == "done",
        jobs.c.expires > now,
        ~partial,
    )
    return _first(load(connection, *where, limit=1))


def page(
    connection: Connection,
    tenant: str,
    *,
    limit: int,
    before: tuple[float, str] | None = None,
    states: Sequence[str] = (),
    model: str | None = None,
    created_from: float | None = None,
    created_to: float | None = None,
) -> list[Job]:
    """Newest first; `before` is (created, id) of the last one of the page before; created_from <= created < created_to.

    Three statements whatever the limit.
    """
    where = [jobs.c.tenant == tenant, jobs.c.state.in_([state for state in VISIBLE if state in (states or VISIBLE)])]
    if before is not None:
        where.append(tuple_(jobs.c.created, jobs.c.id) < tuple_(*before))
    if model is not None:
        where.append(jobs.c.model == model)
    if created_from is not None:
        where.append(jobs.c.created >= created_from)
    if created_to is not None:
        where.append(jobs.c.created < created_to)
    return load(connection, *where, limit=limit)


def ahead(connection: Connection, job: Job) -> int:
    """Pictures of other jobs, unfinished, that were created before this one."""
    earlier = tuple_(jobs.c.created, jobs.c.id) < tuple_(job.created, job.id)
    return _pictures(connection, *FREE, earlier) + _pictures(connection, jobs.c.owner.is_not(None), earlier)


def backlog(connection: Connection) -> int:
    """Pictures of jobs that wait without an owner."""
    return _pictures(connection, *FREE)


def ask_cancel(connection: Connection, job_id: str, tenant: str, now: float) -> Job | None:
    """A caller wants it cancelled: at once where nobody has it, else its owner is to see `cancelling`.

    The job as it is after that; None where there is none of this tenant. One that has ended stays as it is.
    """
    row = connection.execute(
        select(jobs.c.state, jobs.c.owner, jobs.c.cancelling)
        .where(jobs.c.id == job_id, jobs.c.tenant == tenant, jobs.c.state.in_(VISIBLE))
        .with_for_update()
    ).first()
    if row is None:
        return None
    if row.state in UNFINISHED:
        if row.owner is None:
            settle(connection, job_id, "cancelled", now)
        elif not row.cancelling:
            marked = {"cancelling": True, "version": jobs.c.version + 1}
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(marked))
    return get(connection, job_id)


def start_deleting(connection: Connection, job_id: str, tenant: str | None, now: float) -> list[str] | None:
    """Nobody sees or runs it from now on (state deleting, token + 1); one that had not ended is counted in `usage`.

    The names of all its blobs; None where there is no such job, or another tenant's. None as the tenant: anybody's, and
    one that is still arriving, too.
    """
    which = [jobs.c.id == job_id, jobs.c.state.in_(VISIBLE if tenant is not None else (*VISIBLE, "arriving"))]
    if tenant is not None:
        which.append(jobs.c.tenant == tenant)
    state = connection.scalar(select(jobs.c.state).where(*which).with_for_update())
    if state is None:
        return None
    if state in OPEN:
        _count(connection, job_id, now)
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(DELETING))
    return _blobs(connection, [job_id])[job_id]


def expired(connection: Connection, now: float, limit: int) -> dict[str, list[str]]:
    """Ended jobs whose time is over, and all that are `deleting` already: their ids and blobs, `limit` of them at most.

    They are deleting from now on.
    """
    due = select(jobs.c.id).where(*_over(now)).order_by(jobs.c.expires).limit(limit).with_for_update(skip_locked=True)
    connection.execute(update(jobs).where(jobs.c.id.in_(connection.scalars(due).all())).values(DELETING))
    deleting = select(jobs.c.id).where(_IS_DELETING).order_by(jobs.c.created).limit(limit)
    return _blobs(connection, connection.scalars(deleting).all())


def over(connection: Connection, now: float) -> int:
    """How many jobs `expired` has to give."""
    gone = or_(_IS_DELETING, and_(*_over(now)))
    return connection.scalar(select(func.count()).select_from(jobs).where(gone)) or 0


def forget(connection: Connection, job_ids: Sequence[str]) -> None:
    """Remove the rows of jobs that are `deleting` and whose blobs are gone; nobody is told of them any more."""
    # Those that another sweeper is removing are left to it, for two that wait for each other would both fail.
    mine = select(jobs.c.id).where(jobs.c.id.in_(job_ids), jobs.c.state == "deleting").with_for_update(skip_locked=True)
    gone = connection.scalars(mine).all()
    told = deliveries.c
    # Locked in the order in which `webhooks.claim` does it, so that here, too, no two wait for each other.
    messages = select(told.id).where(told.job.in_(gone)).order_by(told.attempts, told.next_at).with_for_update()
    connection.execute(delete(deliveries).where(told.id.in_(connection.scalars(messages).all())))
    connection.execute(delete(jobs).where(jobs.c.id.in_(gone)))


def known_blobs(connection: Connection, names: Sequence[str]) -> set[str]:
    """Those of these names that stand in a row; at most some thousands at once."""
    pictures = select(images.c.blob).where(images.c.blob.in_(names))
    return set(connection.scalars(union_all(pictures, select(subjects.c.blob).where(subjects.c.blob.in_(names)))))


OPEN = ("queued", "running")
IS_OPEN = or_(images.c.state == "queued", images.c.state == "running")  # IN cannot stand in a statement for many rows
# As the indexes of these rows say it, which are not used for a parameter:
FREE = (jobs.c.state == literal("queued", literal_execute=True), jobs.c.owner.is_(None))
_IS_DELETING = jobs.c.state == literal("deleting", literal_execute=True)
_JOB = tuple(column.name for column in jobs.c)
_IMAGE = tuple(column.name for column in images.c if column.name != "job")
_SUBJECT = tuple(column.name for column in subjects.c if column.name != "job")
DELETING: dict[str, Any] = {
    "state": "deleting",
    "owner": None,
    "token": jobs.c.token + 1,
    "version": jobs.c.version + 1,
    "idempotency_key": None,
}


def load(connection: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[Job]:
    """Whole jobs, newest first, in three statements."""
    found = select(jobs).where(*where).order_by(jobs.c.created.desc(), jobs.c.id.desc()).limit(limit)
    rows = connection.execute(found).mappings().all()
    ids = [row["id"] for row in rows]
    pictures: dict[str, list[Image]] = {job_id: [] for job_id in ids}
    references: dict[str, list[Subject]] = {job_id: [] for job_id in ids}
    if ids:
        for row in connection.execute(select(images).where(images.c.job.in_(ids)).order_by(images.c.number)).mappings():
            pictures[row["job"]].append(Image(**{name: row[name] for name in _IMAGE}))
        parts = select(subjects).where(subjects.c.job.in_(ids)).order_by(subjects.c.number)
        for row in connection.execute(parts).mappings():
            references[row["job"]].append(Subject(**{name: row[name] for name in _SUBJECT}))
    return [
        Job(
            **{**row, "notes": tuple(row["notes"])},
            images=tuple(pictures[row["id"]]),
            subjects=tuple(references[row["id"]]),
        )
        for row in rows
    ]


def _first(found: list[Job]) -> Job | None:
    return found[0] if found else None


def _pictures(connection: Connection, *where: ColumnElement[bool]) -> int:
    return int(connection.scalar(select(func.coalesce(func.sum(jobs.c.pictures), 0)).where(*where)) or 0)


def _over(now: float) -> tuple[ColumnElement[bool], ...]:
    return jobs.c.state.in_(ENDED), jobs.c.expires <= now


def settle(
    connection: Connection,
    job_id: str,
    state: Literal["done", "failed", "cancelled"],
    now: float,
    *,
    code: int | None = None,
    error: str | None = None,
    **values: Any,
) -> None:
    """End a job that is unfinished and locked by this transaction."""
    left = {"state": "cancelled"} if state == "cancelled" else {"state": "failed", "code": code, "error": error}
    connection.execute(update(images).where(images.c.job == job_id, images.c.state.in_(OPEN)).values(left))
    spent = case((jobs.c.created < now, now - jobs.c.created), else_=0.0)
    row = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=state,
            finished=now,
            owner=None,
            token=jobs.c.token + 1,
            version=jobs.c.version + 1,
            cancelling=False,
            expires=jobs.c.expires + spent,
            code=None if state == "done" else code,
            error=None if state == "done" else error,
            **values,
        )
        .returning(jobs.c.tenant, jobs.c.webhook)
    ).one()
    _count(connection, job_id, now)
    if row.webhook is not None:
        connection.execute(
            insert(deliveries).values(
                id=f"msg_{job_id}", tenant=row.tenant, job=job_id, url=row.webhook, body="", created=now, next_at=now
            )
        )


def _count(connection: Connection, job_id: str, now: float) -> None:
    """Add a job to `usage` of the day, and give back to the quota what failed by the service's own fault."""

    def sum_of(amount: ColumnElement[Any]) -> ColumnElement[int]:
        return func.coalesce(func.sum(amount), 0)

    failed = images.c.state == "failed"
    job = connection.execute(
        select(
            *(jobs.c[name] for name in ("tenant", "key", "model", "cost", "created")),
            sum_of(case((images.c.state == "done", 1), else_=0)).label("painted"),
            sum_of(case((failed, 1), else_=0)).label("failed"),
            sum_of(case((failed & images.c.code.in_(usage.SERVICE_FAULTS), 1), else_=0)).label("given_back"),
            sum_of(images.c.bytes).label("bytes"),
        )
        .join(images, images.c.job == jobs.c.id)
        .where(jobs.c.id == job_id)
        .group_by(jobs.c.id)
    ).one()
    usage.add(
        connection,
        usage.day_of(now),
        job.tenant,
        job.key or "",
        job.model,
        jobs=1,
        images=int(job.painted),
        failed=int(job.failed),
        cost=job.cost,
        data_bytes=int(job.bytes),
    )
    usage.give_back(connection, job.tenant, job.key, job.model, job.created, int(job.given_back))


def _blobs(connection: Connection, job_ids: Iterable[str]) -> dict[str, list[str]]:
    """The blobs of pictures and references, by job."""
    found: dict[str, list[str]] = {job_id: [] for job_id in job_ids}
    for table in (images, subjects):
        for job_id, blob in connection.execute(select(table.c.job, table.c.blob).where(table.c.job.in_(found))):
            found[job_id].append(blob)
    return found
