"""What is not wanted any more goes: expired jobs with their blobs, deletions that broke off, blobs without a row, rows
that are old."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from sqlalchemy import ColumnElement, Table, delete, func, select

from limner.storage import jobs
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from limner.storage.schema import audit, deliveries

BATCH = 500

ORPHAN_SECONDS = 3600.0
"""A blob without a row is left for so long, lest the clocks of a store and of a machine differ."""

DELIVERY_SECONDS = 7 * 24 * 3600.0
"""How long a webhook's row is kept that was delivered or given up, where its job is kept for longer."""

AUDIT_SECONDS = 90 * 24 * 3600.0
"""How long it is kept what the policy refused."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many went."""

    jobs: int
    orphans: int  # blobs without a row
    deliveries: int
    audit: int


def sweep(database: Database, blobs: Blobs, now: float, *, orphans: bool = True, dry_run: bool = False) -> Swept:
    """Delete what is over at `now`, Unix seconds; blocks. May run in several processes at once.

    A job goes in three steps, its state, its blobs and its rows, so that one that broke off is finished by the next.
    `orphans` looks at every blob of the store, of which one database alone must know. With `dry_run` all is counted and
    nothing deleted.

    Raises:
        StorageFailed: the database or the store cannot be reached; what was deleted until then stays so.
    """
    told = deliveries.c
    return Swept(
        jobs=_jobs(database, blobs, now, dry_run),
        orphans=_orphans(database, blobs, now, dry_run) if orphans else 0,
        deliveries=_rows(database, deliveries, dry_run, told.next_at.is_(None), told.created < now - DELIVERY_SECONDS),
        audit=_rows(database, audit, dry_run, audit.c.at < now - AUDIT_SECONDS),
    )


def _jobs(database: Database, blobs: Blobs, now: float, dry_run: bool) -> int:
    if dry_run:
        with database.transaction(writing=False) as connection:
            return jobs.over(connection, now)
    gone: set[str] = set()
    while True:
        with database.transaction() as connection:
            batch = jobs.expired(connection, now, BATCH)
        if batch.keys() <= gone:  # none, or none but those that another process is removing, too
            return len(gone)
        blobs.delete([name for names in batch.values() for name in names])
        with database.transaction() as connection:
            jobs.forget(connection, list(batch))
        gone |= batch.keys()


def _orphans(database: Database, blobs: Blobs, now: float, dry_run: bool) -> int:
    count = 0
    found = blobs.names(older_than=now - ORPHAN_SECONDS)
    while names := list(islice(found, BATCH)):
        with database.transaction(writing=False) as connection:
            strays = set(names) - jobs.known_blobs(connection, names)
        if not dry_run:
            blobs.delete(sorted(strays))
        count += len(strays)
    return count


def _rows(database: Database, table: Table, dry_run: bool, *old: ColumnElement[bool]) -> int:
    with database.transaction(writing=not dry_run) as connection:
        if dry_run:
            return connection.scalar(select(func.count()).select_from(table).where(*old)) or 0
        return connection.execute(delete(table).where(*old)).rowcount
