"""The database itself: transactions whole or nothing, faults told in a sentence, tables up to date by migrations."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

import limner
from limner.cli import store as cli_store
from limner.config import Settings
from limner.errors import SettingsInvalid, StorageFailed, StorageRefused
from limner.storage import database as database_module
from limner.storage import jobs, leases, migrations, postgresql
from limner.storage.database import Database
from limner.storage.schema import metadata
from servers import Postgres
from stores import a_job, opened

SQLITE, POSTGRESQL = "sqlite", "postgresql"


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database."""
    if request.param == SQLITE:
        yield f"sqlite:///{tmp_path / 'limner.sqlite'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    fresh = server.new_database()
    yield fresh
    server.drop(fresh)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """One with tables."""
    with opened(Database(url)) as found:
        migrations.upgrade(found)
        yield found


def beat(database: Database, worker: str = "w") -> None:
    with database.transaction() as connection:
        leases.beat(connection, worker, "host", 1.0)


def beats(database: Database) -> dict[str, int]:
    with database.transaction(writing=False) as connection:
        return leases.beats(connection)


# Transactions


def test_a_transaction_is_whole_or_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        jobs.add(connection, a_job(pictures=1 // 0))
    beat(database)
    with pytest.raises(RuntimeError, match="midway"), database.transaction() as connection:
        _beat_and_raise(connection)
    assert beats(database) == {"w": 1}


def _beat_and_raise(connection: Any) -> None:
    leases.beat(connection, "w", "host", 1.0)
    raise RuntimeError("midway")


def test_a_reader_cannot_write_and_the_next_writer_can(database: Database) -> None:
    for _ in range(3):
        with pytest.raises(StorageFailed), database.transaction(writing=False) as connection:
            leases.beat(connection, "reader", "host", 1.0)
        beat(database)
    assert beats(database) == {"w": 3}


def test_a_reader_reads_while_another_writes_and_sees_nothing_unfinished(database: Database) -> None:
    beat(database)
    with database.transaction() as connection:
        leases.beat(connection, "w", "host", 1.0)
        assert beats(database) == {"w": 1}
    assert beats(database) == {"w": 2}


def test_writers_of_many_threads_all_get_their_turn(database: Database) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(10):
                beat(database)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, beats(database)) == ([], {"w": 60})


def test_a_key_that_is_taken_is_told_apart_from_a_fault(database: Database) -> None:
    with database.transaction() as connection:
        jobs.add(connection, a_job(1))
    with pytest.raises(IntegrityError) as error, database.transaction() as connection:
        jobs.add(connection, a_job(1, request={"prompt": "a secret fox"}))
    assert "fox" not in str(error.value)
    beat(database)


def test_work_runs_in_a_thread_and_whoever_leaves_waits_for_its_end(database: Database) -> None:
    begun, go = threading.Event(), threading.Event()

    def work(connection: Any) -> str:
        begun.set()
        assert go.wait(30)
        leases.beat(connection, "w", "host", 1.0)
        return threading.current_thread().name

    async def main() -> str:
        leaving = asyncio.create_task(database.run(work))
        await asyncio.to_thread(begun.wait, 30)
        leaving.cancel()
        await asyncio.sleep(0.05)
        assert not leaving.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await asyncio.to_thread(beats, database) == {"w": 1}
        return await database.run(work)

    assert asyncio.run(main()).startswith("limner-database")
    assert beats(database) == {"w": 2}


def test_a_database_in_memory_holds_for_every_thread_until_it_is_closed() -> None:
    database = Database.in_memory()
    thread = threading.Thread(target=beat, args=(database,))
    thread.start()
    thread.join()
    assert beats(database) == {"w": 1}
    with pytest.raises(StorageFailed), database.transaction(writing=False) as connection:
        leases.beat(connection, "w", "host", 1.0)
    database.close()
    database.close()


# Addresses and files


@pytest.mark.parametrize(
    "wrong",
    ["mysql://u:hunter2@h/n", "no address", "sqlite:///x?mode=ro", "postgresql://u:hunter2@h:port/n", "sqlite+x:///y"],
)
def test_an_address_that_is_none_is_told_without_its_password(wrong: str) -> None:
    with pytest.raises(SettingsInvalid, match="write postgresql://user:password@host/name") as error:
        Database(wrong)
    assert "hunter2" not in error.value.message


def test_a_missing_driver_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("limner.storage.postgresql")
    monkeypatch.setitem(sys.modules, "limner.storage.postgresql", None)
    with pytest.raises(SettingsInvalid, match=r"pip install 'limner\[postgresql\]'"):
        Database("postgresql://h/n")


def test_a_folder_that_cannot_hold_the_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalid, match=r"data_dir .* cannot be made"):
        Database.open(Settings(data_dir=tmp_path / "file" / "data"))
    with pytest.raises(SettingsInvalid, match="cannot be written: No such file or directory"):
        Database(f"sqlite:///{tmp_path / 'missing' / 'limner.sqlite'}")


@pytest.mark.skipif(os.name != "posix", reason="files have no such modes")
def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(Database.open(Settings(data_dir=tmp_path / "data"))) as database:
            beat(database)
            with database.transaction(writing=False):
                modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("limner.sqlite", "limner.sqlite-wal", "limner.sqlite-shm"), 0o600)


def test_sqlite_flushes_every_commit_and_keeps_foreign_keys(tmp_path: Path) -> None:
    with opened(Database.open(Settings(data_dir=tmp_path))) as database, database.transaction() as connection:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


# Faults


def test_a_lock_of_another_process_is_waited_for_and_then_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 1.5)
    with opened(Database.open(Settings(data_dir=tmp_path))) as database:
        other = sqlite3.connect(tmp_path / "limner.sqlite", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFailed):
            beat(database)
        assert beats(database) == {}  # a reader is not held up
        releasing = threading.Timer(0.1, other.execute, ["COMMIT"])
        releasing.start()
        beat(database)
        releasing.join()
        other.close()
        assert beats(database) == {"w": 1}


FILLS_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from limner.config import Settings
from limner.errors import StorageFailed
from limner.storage import jobs
from limner.storage.database import Database
sys.path.insert(0, sys.argv[2])
from stores import a_job

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
database = Database.open(Settings(data_dir=Path(sys.argv[1])))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
added = 0
try:
    while True:
        with database.transaction() as connection:
            jobs.add(connection, a_job(added + 1, request={"prompt": "x" * 20_000}))
        added += 1
except StorageFailed as error:
    print(error.message)
with database.transaction(writing=False) as connection:
    assert len(jobs.page(connection, "", limit=1000)) == added
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
with database.transaction() as connection:
    jobs.add(connection, a_job(added + 1))
print(added)
"""


def test_a_full_disk_loses_nothing_that_was_committed_and_work_goes_on_once_there_is_room(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    *_, message, added = done.stdout.splitlines()
    assert message == database_module.AWAY
    assert 5 < int(added) < 200
    with opened(Database.open(Settings(data_dir=tmp_path))) as database, database.transaction() as connection:
        assert len(jobs.page(connection, "", limit=1000)) == int(added) + 1
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


@pytest.fixture
def away(postgres: Postgres) -> Iterator[Database]:
    """A database whose server can be stopped."""
    url = postgres.new_database()
    with opened(Database(url)) as database:
        migrations.upgrade(database)
        yield database
    postgres.drop(url)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_connections_recover_when_postgresql_has_been_away(
    postgres: Postgres, away: Database, how: signal.Signals
) -> None:
    beat(away)

    def midway() -> None:
        with away.transaction() as connection:
            leases.beat(connection, "midway", "host", 1.0)
            postgres.daemon.stop(how)
            leases.beat(connection, "midway", "host", 1.0)

    with pytest.raises(StorageFailed):
        midway()
    try:
        for _ in range(2):
            with pytest.raises(StorageFailed) as error:
                beat(away)
            assert error.value.retryable
            assert "postgres" not in error.value.message
    finally:
        postgres.daemon.start()
    beat(away)
    assert beats(away) == {"w": 2}


def test_a_statement_that_waits_too_long_for_a_lock_is_given_up(postgres: Postgres, away: Database) -> None:
    beat(away)
    url = away.engine.url.render_as_string(hide_password=False)
    with opened(Database(url, seconds=0.7)) as impatient, away.transaction() as connection:
        leases.beat(connection, "w", "host", 1.0)
        with pytest.raises(StorageFailed):
            beat(impatient)
        assert beats(impatient) == {"w": 1}
    assert beats(away) == {"w": 2}


def test_a_server_that_hangs_holds_no_thread_for_ever(
    postgres: Postgres, away: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "SPARE_SECONDS", 0.3)
    with opened(Database(away.engine.url, seconds=1.2)) as impatient:
        with impatient.transaction() as connection:
            backend = connection.scalar(text("SELECT pg_backend_pid()"))
            leases.beat(connection, "w", "host", 1.0)
        os.kill(backend, signal.SIGSTOP)  # its socket stays, and its system acknowledges what comes
        try:
            beat(impatient)  # the ping notices, and another connection is taken
        finally:
            os.kill(backend, signal.SIGCONT)
        assert beats(impatient) == {"w": 2}

        def midway() -> None:
            with impatient.transaction() as connection:
                backend = connection.scalar(text("SELECT pg_backend_pid()"))
                os.kill(backend, signal.SIGSTOP)
                try:
                    leases.beat(connection, "w", "host", 1.0)
                finally:
                    os.kill(backend, signal.SIGCONT)

        with pytest.raises(StorageFailed):
            midway()
        beat(impatient)
        assert beats(impatient) == {"w": 3}


def test_a_server_that_is_not_there_is_told_at_the_start_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = Settings(database_url=f"postgresql://somebody:hunter2@127.0.0.1:{port}/limner")
    with structlog.testing.capture_logs() as logs, pytest.raises(StorageFailed) as error:
        Database.open(settings)
    assert "hunter2" not in error.value.message + json.dumps(logs)
    assert logs[0]["event"] == "database failed"
    assert "refused" in logs[0]["reason"]


def test_what_is_logged_of_a_failure_holds_no_statement_and_no_prompt(database: Database) -> None:
    job = a_job(1, request={"prompt": "a secret fox"}, model=None)
    with structlog.testing.capture_logs() as logs, pytest.raises(IntegrityError), database.transaction() as connection:
        jobs.add(connection, job)
    assert logs == []
    # A table that is missing; and, on PostgreSQL, a value whose error quotes it in its first line.
    wrong = ["SELECT 'a secret fox' FROM nowhere"] + ([] if database.sqlite else ["SELECT 'a secret fox'::integer"])
    for statement in wrong:
        with (
            structlog.testing.capture_logs() as logs,
            pytest.raises(StorageFailed if database.sqlite else StorageRefused) as error,
            database.transaction() as connection,
        ):
            connection.execute(text(statement))
        assert len(logs) == 1
        assert "secret" not in json.dumps(logs) + "".join(traceback.format_exception(error.value))


# Migrations


def differences(database: Database) -> list[Any]:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    options = {"compare_type": True, "compare_server_default": True, "version_table": migrations.TABLE}
    with database.transaction(writing=False) as connection:
        found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return found


def test_the_migrations_make_the_tables_of_the_schema(url: str) -> None:
    with opened(Database(url)) as database:
        assert migrations.behind(database)
        assert migrations.upgrade(database) is None
        assert differences(database) == []
        assert not migrations.behind(database)
        assert migrations.upgrade(database) == migrations.HEAD
        beat(database)


def test_the_comparison_sees_what_is_missing(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE workers DROP COLUMN host"))
        connection.execute(text("DROP INDEX ix_jobs_expires"))
    assert len(differences(database)) == 2


def test_tables_of_a_later_version_are_refused(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("UPDATE limner_version SET version_num = '9999'"))
    for look in (migrations.ensure, migrations.behind, migrations.upgrade):
        with pytest.raises(SettingsInvalid, match="version 9999, and this Limner knows"):
            look(database)


def test_tables_of_another_program_are_left_alone(url: str) -> None:
    with opened(Database(url)) as database:
        with database.transaction() as connection:
            connection.execute(text("CREATE TABLE jobs (id INTEGER)"))
        with pytest.raises(SettingsInvalid, match="a table `jobs` of another program"):
            migrations.ensure(database)
        with database.transaction() as connection:
            assert inspect(connection).get_table_names() == ["jobs"]


def test_a_migration_that_fails_midway_leaves_nothing_behind(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(Database(url)) as database:

        def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "CREATE TABLE usage" in statement:
                raise RuntimeError("the process ends here")

        event.listen(database.engine, "before_cursor_execute", fail)
        with pytest.raises(RuntimeError):
            migrations.upgrade(database)
        event.remove(database.engine, "before_cursor_execute", fail)
        with database.transaction() as connection:
            assert inspect(connection).get_table_names() == []
        migrations.upgrade(database)
        assert differences(database) == []


def test_a_service_makes_its_own_sqlite_but_does_not_touch_a_postgresql_that_is_behind(
    tmp_path: Path, postgres: Postgres
) -> None:
    with opened(Database.open(Settings(data_dir=tmp_path))) as database:
        assert differences(database) == []
    url = postgres.new_database()
    with pytest.raises(SettingsInvalid, match="Run `limner db upgrade`"):
        Database.open(Settings(database_url=url))
    with opened(Database(url)) as database, database.transaction() as connection:
        assert inspect(connection).get_table_names() == []
    postgres.drop(url)


STARTS = """
import sys
from limner.config import load
from limner.storage import leases, migrations
from limner.storage.database import Database

url = sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
database = Database(url)
migrations.upgrade(database)
with database.transaction() as connection:
    leases.beat(connection, sys.argv[2], "host", 1.0)
"""


def test_processes_that_start_at_once_upgrade_once(url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTS, url, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    with opened(Database(url)) as database:
        assert differences(database) == []
        assert beats(database) == {str(number): 1 for number in range(2)}


def test_alembic_is_imported_only_where_something_is_to_be_upgraded(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from limner.config import Settings\n"
        "from limner.storage.database import Database\n"
        "Database.open(Settings(data_dir=Path(sys.argv[1]))).close(); print('alembic' in sys.modules)"
    )
    found = [
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [output.split()[-1] for output in found] == ["True", "False"]


def test_the_versions_stand_in_a_line(tmp_path: Path) -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(limner.__file__).parent / "storage" / "migrations"))
    line = list(scripts.walk_revisions())
    assert scripts.get_heads() == [migrations.HEAD]
    assert [script.revision for script in reversed(line)] == [f"{number:04d}" for number in range(1, len(line) + 1)]
    assert all(Path(script.path).name.startswith(f"v{script.revision}_") for script in line)


# Commands


def invoke(app: Any, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def test_the_command_upgrades_and_says_from_where(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.new_database()
    monkeypatch.setenv("LIMNER_DATABASE_URL", url)
    head = migrations.HEAD
    code, said = invoke(cli_store.db, "upgrade")
    assert (code, said.splitlines()[-1]) == (0, f"The database was empty; its tables are of version {head} now.")
    assert invoke(cli_store.db, "upgrade") == (0, f"The database's tables are of version {head} already.\n")
    assert json.loads(invoke(cli_store.db, "upgrade", "--json")[1]) == {"before": head, "now": head}
    Database.open(Settings(database_url=url)).close()
    with opened(Database(url)) as database, database.transaction() as connection:
        connection.execute(text("UPDATE limner_version SET version_num = '9999'"))
    assert invoke(cli_store.db, "upgrade")[0] == 2
    postgres.drop(url)


def test_gc_says_what_would_go_and_then_what_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    app = typer.Typer()
    app.command()(cli_store.gc)
    monkeypatch.setenv("LIMNER_DATA_DIR", str(tmp_path))
    with opened(Database.open(Settings(data_dir=tmp_path))) as database, database.transaction() as connection:
        jobs.add(connection, a_job(1, state="done"))
        jobs.add(connection, a_job(2))
    code, said = invoke(app, "--dry-run")
    assert (code, said.splitlines()) == (
        0,
        [
            "Expired or half-deleted jobs, with their pictures: 1 would be deleted.",
            "Pictures and references without a job: 0 would be deleted.",
            "Webhook deliveries over a week old: 0 would be deleted.",
            "Refusals by the policy over 90 days old: 0 would be deleted.",
        ],
    )
    none = {"jobs": 0, "orphans": 0, "deliveries": 0, "audit": 0, "dry_run": False}
    assert json.loads(invoke(app, "--json")[1]) == none | {"jobs": 1}
    assert json.loads(invoke(app, "--json")[1]) == none
    with opened(Database.open(Settings(data_dir=tmp_path))) as database, database.transaction() as connection:
        assert [job.id for job in jobs.page(connection, "", limit=9)] == [a_job(2).id]
