"""The tables' versions: `versions/` holds one Alembic migration each, in a line; `limner_version` says where we are.

Alembic is imported only where something must be changed, since it takes about 0.1 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, inspect, text

from limner.errors import SettingsInvalid
from limner.storage.schema import metadata

if TYPE_CHECKING:
    from limner.storage.database import Database

log = structlog.get_logger(__name__)

FOLDER = Path(__file__).parent
TABLE = "limner_version"
HEAD = max(path.stem for path in (FOLDER / "versions").glob("v[0-9]*.py"))[1:5]
"""The version that this code works with, such as 0001: the number of the last file."""

_LOCK = 0x6C696D6E  # of PostgreSQL's advisory ones; any number, always the same


def ensure(database: Database) -> None:
    """See to it that the tables are of this version: those of SQLite, which is ours, are changed where they are not.

    Raises:
        SettingsInvalid: PostgreSQL's are older, which `limner db upgrade` is for; or they are newer than this version.
        StorageFailed: the database cannot be reached or written.
    """
    if not behind(database):
        return
    if not database.sqlite:
        raise SettingsInvalid(
            f"The database's tables are not yet of version {HEAD}, which this Limner works with. Run `limner db "
            f"upgrade`; nothing older should be running on it then."
        )
    upgrade(database)


def behind(database: Database) -> bool:
    """Whether `upgrade` has something to do, as it has with an empty database.

    Raises:
        SettingsInvalid: the tables are of a later version than this one, or not Limner's.
        StorageFailed: the database cannot be reached.
    """
    with database.transaction(writing=False) as connection:
        return _check(connection) != HEAD


def upgrade(database: Database) -> str | None:
    """Bring the tables up to date, in one transaction; the version that they had before, None where there were none.

    Two processes may call it at once: the second waits and finds nothing to do.

    Raises:
        SettingsInvalid, StorageFailed: as `behind`.
    """
    with database.transaction() as connection:
        if not database.sqlite:  # which has locked everything already
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = _check(connection)
        if before != HEAD:
            _migrate(connection)
            if before is not None:
                log.info("database upgraded", before=before, now=HEAD)
    return before


def _check(connection: Connection) -> str | None:
    """The version of the tables, None where there are none."""
    tables = set(inspect(connection).get_table_names())
    if TABLE not in tables:
        if strangers := sorted(tables & set(metadata.tables)):
            raise SettingsInvalid(
                f"The database holds a table `{strangers[0]}` of another program. Give Limner a database of its own in "
                f"database_url."
            )
        return None
    version = connection.scalar(text(f"SELECT version_num FROM {TABLE}"))  # noqa: S608  # a constant
    if version is not None and version > HEAD:
        raise SettingsInvalid(
            f"The database's tables are of version {version}, and this Limner knows {HEAD} at most: a later one wrote "
            f"them. Install that one, or name another database in database_url."
        )
    return None if version is None else str(version)


def _migrate(connection: Connection) -> None:
    """Run the migrations that are missing, within the connection's transaction."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(FOLDER))
    environment = EnvironmentContext(
        Config(),
        scripts,
        fn=lambda revision, _: scripts._upgrade_revs("head", revision),  # as Alembic's documentation has it
        destination_rev="head",
    )
    with environment:
        environment.configure(connection=connection, target_metadata=metadata, version_table=TABLE)
        environment.run_migrations()
