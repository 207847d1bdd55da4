"""One database, SQLite or PostgreSQL, behind transactions that are whole or nothing.

SQLite runs in WAL mode, flushed at every commit, one writer of this process at a time. Work is done in a few threads of
the database's own, so that one that hangs stops neither the event loop nor the threads that finish pictures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
    ResourceClosedError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import StaticPool

from limner import counters
from limner.config import Settings
from limner.errors import SettingsInvalid, StorageFailed, StorageRefused
from limner.storage import migrations
from limner.storage.schema import metadata

log = structlog.get_logger(__name__)
T = TypeVar("T")

THREADS = 4

BUSY_SECONDS = 10.0
"""How long a write waits for other processes' writes to the same SQLite file."""

STATEMENT_SECONDS = 15.0
"""How long PostgreSQL may take for a statement, the wait for other transactions' locks included."""

REFUSED = "The service could not record this, by a fault of its own; its log says more."

AWAY = "The service's database cannot be reached or written now. Try again in a little while."
WRONG = "database_url is no address of a database: write postgresql://user:password@host/name or sqlite:////path/file."


class Database:
    """Transactions on one database. Safe to share between threads; `close` it when done.

    Args:
        url: `postgresql://user:password@host/name`, with options of libpq after a `?`; `sqlite:////path/file`; or
            `sqlite://`, a database in memory that is gone when it is closed.
        seconds: How long PostgreSQL may take for a statement; None: any time.

    Raises:
        SettingsInvalid: the address is none, its driver is not installed, or its file cannot be made.
    """

    def __init__(self, url: str | URL, seconds: float | None = STATEMENT_SECONDS) -> None:
        try:
            address = make_url(url)
        except (ArgumentError, ValueError):
            raise SettingsInvalid(WRONG) from None
        self.sqlite = address.drivername == "sqlite"
        if not self.sqlite and address.drivername not in ("postgresql", "postgresql+psycopg", "postgres"):
            raise SettingsInvalid(WRONG)
        if self.sqlite and address.query:
            raise SettingsInvalid(WRONG)
        self.memory = self.sqlite and address.database in (None, "", ":memory:")
        self.engine = self._sqlite(address) if self.sqlite else _postgresql(address, seconds)
        event.listen(self.engine, "begin", _begin)
        # One writer at a time within the process; SQLite's own lock, which is polled, is for other processes.
        self._turn: contextlib.AbstractContextManager[Any] = (
            threading.RLock() if self.sqlite else contextlib.nullcontext()
        )
        self._threads = ThreadPoolExecutor(THREADS, "limner-database")
        self._idle = threading.Condition()  # guards the two below
        self._active = 0  # transactions under way
        self._closed = False

    @classmethod
    def at(cls, settings: Settings, seconds: float | None = STATEMENT_SECONDS) -> Database:
        """The database of `settings`, its tables as they are.

        Raises:
            SettingsInvalid: the address is wrong, or data_dir cannot be made.
        """
        if settings.database_url is not None:
            return cls(settings.database_url.get_secret_value(), seconds)
        try:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsInvalid(
                f"data_dir {settings.data_dir} cannot be made: {error.strerror}. Name a folder that can be written."
            ) from None
        return cls(URL.create("sqlite", database=str((settings.data_dir / "limner.sqlite").resolve())), seconds)

    @classmethod
    def open(cls, settings: Settings) -> Database:
        """The database of `settings`, its tables up to date.

        Raises:
            SettingsInvalid: the address is wrong, or its tables are not of this version and are not ours to change
                (PostgreSQL's are changed by `limner db upgrade` alone).
            StorageFailed: it cannot be reached.
        """
        database = cls.at(settings)
        try:
            migrations.ensure(database)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def in_memory(cls) -> Database:
        """An empty one that is gone when it is closed."""
        database = cls("sqlite://")
        metadata.create_all(database.engine)
        return database

    @contextmanager
    def transaction(self, *, writing: bool = True) -> Iterator[Connection]:
        """Commit what is done within, or, where it raises, undo all of it. Without `writing` it can only read.

        Not to be nested. Where the database goes away in the very commit, nobody can say whether it was done.

        Raises:
            StorageFailed: the database cannot be reached or written, or the disk is full.
            sqlalchemy.exc.IntegrityError: passed on, for the caller knows what it means, such as a key that another
                transaction has taken.
            StorageRefused: what is to be written is refused, and trying again does not mend it.
        """
        kind = "write" if writing else "read"
        try:
            with (
                self._under_way(),
                counters.DATABASE.of(kind),
                self._turn if writing or self.memory else contextlib.nullcontext(),
                self.engine.connect().execution_options(limner_writing=writing) as connection,
                connection.begin(),
            ):
                yield connection
        except IntegrityError:
            raise
        except (DataError, NotSupportedError, ProgrammingError) as error:
            # By its SQLSTATE alone: even the first line can quote a value.
            log.error("database refused", kind=type(error).__name__, state=getattr(error.orig, "sqlstate", None))
            raise StorageRefused(REFUSED) from None
        except (DBAPIError, PoolTimeout, ResourceClosedError) as error:
            # The first line alone: further ones hold the statement, and values of rows.
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            log.error("database failed", reason=reason, kind=type(error).__name__)
            counters.DATABASE.failed.add(kind)
            raise StorageFailed(AWAY) from None

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        with self._idle:
            if self._closed:
                raise StorageFailed(AWAY)
            self._active += 1
        try:
            yield
        finally:
            with self._idle:
                self._active -= 1
                self._idle.notify_all()

    async def run(self, work: Callable[[Connection], T], *, writing: bool = True) -> T:
        """What `work` returns, called with a connection in one transaction in a thread; `transaction` has the rest.

        A task that is cancelled meanwhile waits for it all the same, and is then cancelled: a thread cannot be stopped.
        """

        def within() -> T:
            with self.transaction(writing=writing) as connection:
                return work(connection)

        if self._closed:
            raise StorageFailed(AWAY)
        working = asyncio.get_running_loop().run_in_executor(self._threads, within)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait((working,))
            raise

    def close(self) -> None:
        """Wait for what is under way and let go of every connection; what comes later fails. May be called twice."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._active)
        self._threads.shutdown()
        self.engine.dispose()

    def _sqlite(self, address: URL) -> Engine:
        options: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS, "check_same_thread": False}}
        if self.memory:
            options["poolclass"] = StaticPool
        else:
            _make_file(Path(str(address.database)))
        engine = create_engine(address, hide_parameters=True, **options)
        event.listen(engine, "connect", _configure)
        return engine


def _make_file(path: Path) -> None:
    """Make the file for its owner alone, since it holds prompts; SQLite gives its further files the same mode.

    Raises:
        SettingsInvalid: it cannot be made or written.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    except OSError as error:
        raise SettingsInvalid(
            f"The database {path} cannot be written: {error.strerror}. Look at data_dir and database_url."
        ) from None


def _postgresql(address: URL, seconds: float | None) -> Engine:
    try:
        from limner.storage import postgresql
    except ImportError:
        raise SettingsInvalid(
            "database_url names PostgreSQL, whose driver is not installed: pip install 'limner[postgresql]'."
        ) from None
    engine = create_engine(
        address.set(drivername="postgresql+psycopg"),
        connect_args=postgresql.options(address.query, seconds),
        hide_parameters=True,
        pool_pre_ping=True,  # connections that broke while they were idle are replaced
        pool_size=THREADS,
        max_overflow=THREADS,
    )
    event.listen(engine, "do_connect", lambda _dialect, _record, _, named: postgresql.connect(seconds, **named))
    return engine


def _configure(connection: Any, _record: Any) -> None:
    """A new connection to SQLite."""
    connection.isolation_level = None  # transactions are begun by _begin, not by the driver
    # The first one changes the file's mode to WAL. SQLite does not wait for another process that is at it, too.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = FULL")  # an accepted job survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get("limner_writing", True)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA query_only = {int(not writing)}")
        # The lock to write is taken at the beginning: later it can fail because of what was read before.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
    else:
        driver: Any = connection.connection.dbapi_connection
        driver.read_only = not writing  # sent with the BEGIN of the first statement
