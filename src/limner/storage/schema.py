"""The tables, for SQLite and PostgreSQL alike. `migrations/` makes and changes them; a test holds both to each other.

Times are Unix seconds. Seeds are signed 64-bit, as the wire has them. Every table but `workers` names its tenant; "" is
the caller of a service without keys.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeDecorator


class Legible(TypeDecorator[str]):
    """Text that may hold what callers wrote. PostgreSQL's text has no NUL, which JSON can bring in."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else value.replace("\0", "\N{REPLACEMENT CHARACTER}")


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _index(name: str, *columns: str, of: str) -> Index:
    """An index of some rows alone."""
    return Index(name, *columns, sqlite_where=text(of), postgresql_where=text(of))


jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),  # the trace id of the call that made it, hex
    Column("tenant", String(64), nullable=False),
    Column("key", String(32)),  # id of the key that it came with, where that is a row of `keys`
    Column("state", String(12), nullable=False),  # arriving, queued, running, done, failed, cancelled, deleting
    Column("version", Integer, nullable=False, default=1),  # counts every change that a caller can see
    Column("request", JSON(none_as_null=True), nullable=False),  # an Order, its references left out
    Column("model", String(200), nullable=False),
    Column("pictures", Integer, nullable=False),  # how many were asked for
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("expires", Double, nullable=False),
    Column("cost", Double, nullable=False, default=0.0),  # evaluations x tokens, of all its pictures so far
    Column("notes", JSON(none_as_null=True), nullable=False, default=list),
    Column("plan", JSON(none_as_null=True)),  # the first picture's scene
    Column("code", Integer),  # of the error, where it failed
    Column("error", Legible),
    Column("owner", String(32)),  # the worker that has it
    Column("token", Integer, nullable=False, default=0),  # counts its claims; writes with an older one are fenced out
    Column("attempts", Integer, nullable=False, default=0),  # how often a process died that had it
    Column("cancelling", Boolean, nullable=False, default=False),  # a caller wants it cancelled
    Column("idempotency_key", String(255)),
    Column("body_digest", String(64)),  # of the body that came with that key
    Column("result_digest", String(64), index=True),  # of what decides the bytes, for the result cache
    Column("webhook", Legible),
    UniqueConstraint("tenant", "idempotency_key"),
    Index(None, "tenant", "created", "id"),  # lists, rates, quotas
    _index(  # whatever a claim asks of it, so that the rows themselves are not read
        "ix_jobs_waiting",
        *("tenant", "created", "id", "pictures", "attempts", "cancelling", "state", "owner"),
        of="state = 'queued' AND owner IS NULL",
    ),
    _index("ix_jobs_deleting", "created", of="state = 'deleting'"),
    _index("ix_jobs_owner", "owner", of="owner IS NOT NULL"),  # those that have one are unfinished
    Index(None, "expires"),
)

images = Table(
    "images",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # 0 to n-1
    Column("state", String(12), nullable=False),  # queued, running, done, failed, cancelled
    Column("seed", BigInteger, nullable=False),
    Column("blob", String(48), nullable=False, unique=True),  # its name in the store; there once it is done
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("step", Integer, nullable=False, default=0),  # steps finished
    Column("steps", Integer),
    Column("bytes", Integer),
    Column("sha256", String(64)),
    Column("seconds", JSON(none_as_null=True)),  # spent in encode, evaluate, decode
    Column("code", Integer),
    Column("error", Legible),
)

subjects = Table(  # the references of a job
    "subjects",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("blob", String(48), nullable=False, unique=True),
    Column("url", Legible),  # where it is fetched from; None: its bytes came with the request
    Column("kept", Boolean, nullable=False, default=False),  # whether its bytes are in the store
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("beat", BigInteger, nullable=False, default=0),
    Column("host", String(255), nullable=False),
    Column("started", Double, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False, index=True),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the key, hex
    Column("shown", String(24), nullable=False),  # its first letters, for lists
    Column("old_digest", String(64), unique=True),  # of the key before a rotation
    Column("old_until", Double),
    Column("note", String(200), nullable=False, default=""),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("revoked", Double),
    Column("rate", Integer),  # images a minute
    Column("concurrent", Integer),  # jobs at once, waiting or running
    Column("daily", Integer),  # images a day, UTC
    Column("models", JSON(none_as_null=True)),  # names; None: all
    Column("max_pixels", Integer),  # width x height of one picture
    Column("retention", Double),  # seconds that its jobs are kept
)

usage = Table(
    "usage",
    metadata,
    Column("day", String(10), primary_key=True),  # 2026-11-23, UTC, of when the job ended
    Column("tenant", String(64), primary_key=True),
    Column("key", String(32), primary_key=True),  # "" where there is no row of keys
    Column("model", String(200), primary_key=True),
    Column("jobs", Integer, nullable=False, default=0),
    Column("images", Integer, nullable=False, default=0),  # painted
    Column("failed", Integer, nullable=False, default=0),
    Column("cost", Double, nullable=False, default=0.0),
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("charged", Integer, nullable=False, default=0),  # to the key's daily quota, on the day of its accept
)

takes = Table(  # what a key's rate has taken in the last minute; deleting a job gives nothing back
    "takes",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("at", Double, primary_key=True),
    Column("pictures", Integer, nullable=False),
)

deliveries = Table(  # webhooks that are to be sent
    "deliveries",
    metadata,
    Column("id", String(40), primary_key=True),  # msg_...
    Column("tenant", String(64), nullable=False),
    Column("job", String(32), nullable=False, index=True),
    Column("url", Legible, nullable=False),
    Column("body", Legible, nullable=False),
    Column("created", Double, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", Double, index=True),  # None: delivered, or given up
    Column("status", Integer),  # of the last attempt; None: no answer
    Column("reason", String(200)),
)

audit = Table(  # what the policy refused
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False, index=True),
    Column("tenant", String(64), nullable=False),
    Column("job", String(32), nullable=False),
    Column("stage", String(12), nullable=False),  # prompt, reference, picture
    Column("rule", String(100), nullable=False),
    Column("prompt", Legible),  # only where the policy asks for it
)


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of this database's own kind, which knows ON CONFLICT."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
