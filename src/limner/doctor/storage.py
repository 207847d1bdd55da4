"""Where things are kept: the disk, the database, the store of pictures, and what counts rates."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
from sqlalchemy import make_url, text
from sqlalchemy.exc import ArgumentError

from limner.config import Settings
from limner.doctor.finding import SECONDS, Said, ok, warning, wrong
from limner.errors import SettingsInvalid, StorageFailed
from limner.storage import migrations
from limner.storage.blobs import LONGEST_LINK, Blobs, new_name
from limner.storage.database import Database
from limner.storage.rates import Rates

LITTLE_DISK, NO_DISK = 2 * 10**9, 200 * 10**6
"""Free bytes from which the disk is a warning, and wrong."""

CLOCK_OFF, CLOCK_WRONG = 2.0, 60.0
"""Seconds between our clock and the database's from which it is a warning, and wrong."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre",
     "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)  # fmt: skip
"""Where SQLite's shared memory does not work across machines, or its locks are not to be trusted."""


def of_data_dir(settings: Settings) -> Iterator[Said]:
    path = settings.data_dir
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".probe-{secrets.token_hex(8)}"
        with probe.open("wb") as file:
            file.write(b"probe")
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        yield wrong(f"data_dir {path} cannot be written: {error.strerror}. Name a folder that can, or mend its rights.")
        return
    if os.name == "posix" and path.stat().st_mode & 0o077:
        yield warning(f"Other users of this machine can look into data_dir {path}: chmod 700 it.")
    free = shutil.disk_usage(path).free
    left = f"{free / 1e9:.1f} GB are free on the disk of data_dir {path}"
    if free < NO_DISK:
        yield wrong(f"Only {left}: make room, or shorten link_seconds.")
    elif free < LITTLE_DISK:
        yield warning(f"Only {left}: make room, or shorten link_seconds.")
    else:
        yield ok(f"{path} can be written; {left}.")


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The kind of file system that `path` lies on, by the table of mounts; None where the system has none."""
    try:
        lines = [line.split(" ") for line in mounts.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return None
    whole = path.resolve()
    places = [(Path(line[1].replace("\\040", " ")), line[2]) for line in lines if len(line) > 2]
    holding = [(place, kind) for place, kind in places if whole.is_relative_to(place)]
    return max(holding, key=lambda one: len(one[0].parts))[1] if holding else None


def shared(settings: Settings) -> bool:
    """Whether other machines may work on the same database."""
    return settings.database_url is not None and settings.database_url.get_secret_value().startswith("postgres")


def sqlite_file(settings: Settings) -> Path | None:
    """Where the SQLite file is or will be; None for another database."""
    if settings.database_url is None:
        return settings.data_dir / "limner.sqlite"
    try:
        url = make_url(settings.database_url.get_secret_value())
    except (ArgumentError, ValueError):
        return None
    return (
        Path(url.database)
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
        else None
    )


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Database | None]:
    """The database as it is, None where its file is yet to be made. Raises SettingsInvalid."""
    path = sqlite_file(settings)
    if path is not None and not path.exists():
        yield None
        return
    database = Database.at(settings)
    try:
        yield database
    finally:
        database.close()


def of_database(settings: Settings) -> Iterator[Said]:
    path = sqlite_file(settings)
    if path is not None and (kind := file_system(path.parent)) in NETWORK_FILE_SYSTEMS:
        yield wrong(
            f"The SQLite file {path} lies on a network file system ({kind}), where it can be damaged. Put data_dir on "
            "a local disk, or use PostgreSQL (database_url)."
        )
    try:
        with opened(settings) as database:
            if database is None:
                yield ok(f"SQLite, {path}: made when the service starts.")
                return
            if database.memory:
                yield warning("The database is in memory: jobs are lost when the service stops. Set database_url.")
                return
            what = "SQLite" if database.sqlite else "PostgreSQL"
            if not migrations.behind(database):
                yield ok(f"{what} answers, and its tables are of this version ({migrations.HEAD}).")
            elif database.sqlite:
                yield ok(f"{what}: its tables are brought to version {migrations.HEAD} when the service starts.")
            else:
                yield wrong(
                    f"{what} answers, but its tables are not of version {migrations.HEAD}: run `limner db upgrade`."
                )
            yield from _clock(database)
    except SettingsInvalid as error:
        yield wrong(error.message)
    except StorageFailed:
        yield wrong(
            "The database cannot be reached, or refuses us: check database_url, the network, and its log; the line "
            "`database failed` on standard error names the reason."
        )


def _clock(database: Database) -> Iterator[Said]:
    if database.sqlite:
        return
    with database.transaction(writing=False) as connection:
        off = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))) - time.time()
    yield clock(off)


def clock(off: float) -> Said:
    """What to say of a database whose clock is so many seconds ahead of ours."""
    if abs(off) < CLOCK_OFF:
        return ok("This machine's clock and the database's agree.")
    sentence = (
        f"This machine's clock and the database's are {abs(off):.0f} s apart: rates, quotas, keys and links go by it. "
        "Let both take their time by NTP."
    )
    return ("wrong" if abs(off) >= CLOCK_WRONG else "warning"), sentence


def of_store(settings: Settings) -> Iterator[Said]:
    try:
        blobs = Blobs.open(settings.model_copy(update={"storage_seconds": min(2 * SECONDS, settings.storage_seconds)}))
        name, data = new_name(), secrets.token_bytes(64)
        blobs.put(name, data)
        try:
            kept = blobs.get(name)
            if kept is None or kept.data != data:
                yield wrong(f"{blobs}: what was written cannot be read again. Check the bucket's rights and rules.")
                return
            if settings.links == "store":
                yield _store_link(blobs.link(name, 60.0), data)
        finally:
            blobs.delete([name])
        yield ok(f"{blobs} takes, gives and deletes pictures.")
        if blobs.folder is not None and shared(settings):
            yield warning(
                f"Pictures are kept in {blobs}, which other machines on the same database cannot see: set store_url to "
                "a cloud, unless there is only this machine or the folder is shared."
            )
    except SettingsInvalid as error:
        yield wrong(error.message)
    except StorageFailed:
        yield wrong(
            "The store of pictures cannot be written, read and deleted from: check store_url, the rights of its "
            "credentials and the network; the line on standard error names the reason."
        )
    if settings.links == "store" and settings.link_seconds > LONGEST_LINK.total_seconds():
        yield warning("link_seconds is over seven days, and links that the store signs end after seven.")


def _store_link(link: str | None, data: bytes) -> Said:
    if link is None:
        return wrong("links is `store`, but a folder signs no links: set store_url to a cloud, or links to `service`.")
    try:
        answer = httpx2.get(link, timeout=SECONDS, trust_env=False)
    except httpx2.HTTPError:
        return warning(
            "The store's signed links cannot be fetched from here: see that clients reach its endpoint, or set links "
            "to `service`."
        )
    if answer.status_code != 200 or answer.content != data:
        return wrong(
            f"The store answered its own signed link with status {answer.status_code}: set links to `service`."
        )
    return ok("Links that the store signed can be fetched.")


def of_limits(settings: Settings) -> Iterator[Said]:
    if settings.limits_url is None:
        yield ok("Images a minute are counted in the database.")
        return
    try:
        yield asyncio.run(_limits(settings.limits_url.get_secret_value()))
    except SettingsInvalid as error:
        yield wrong(error.message)


async def _limits(url: str) -> Said:
    rates = Rates(url)
    try:
        if await rates.take(f"doctor-{secrets.token_hex(8)}", 10, 1) == 0.0:
            return ok("Valkey answers and counts.")
        return wrong(
            "limits_url leads to no Valkey or Redis that answers: check the address, its password and the network. "
            "Until then the database counts."
        )
    finally:
        await rates.close()
