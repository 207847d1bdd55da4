"""A database and a place for blobs, of both kinds, for tests that are to pass on each.

@pytest.fixture(params=KINDS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    with empty_stores(request.param, tmp_path, request) as found:
        yield found
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from limner.config import Settings
from limner.storage import migrations
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from limner.storage.jobs import Image, Job, Subject
from limner.storage.schema import metadata

KINDS = ("sqlite+folder", "postgresql+s3")

Stores = tuple[Database, Blobs]

_TABLES = ", ".join(table.name for table in metadata.sorted_tables)
_filled: dict[str, str] = {}  # a database with tables, by its server's address


def settings_of(kind: str, folder: Path, request: pytest.FixtureRequest, **options: Any) -> Settings:
    """Settings whose database is empty and up to date, and whose store is empty, too."""
    if kind == "sqlite+folder":
        return Settings(data_dir=folder, **options)
    postgres, s3 = request.getfixturevalue("postgres"), request.getfixturevalue("s3")
    environment = request.getfixturevalue("monkeypatch")
    for name, value in s3.environment.items():
        environment.setenv(name, value)
    if (url := _filled.get(postgres.url())) is None:
        url = _filled[postgres.url()] = postgres.new_database()
        with opened(Database(url)) as database:
            migrations.upgrade(database)
    else:  # faster than a new one
        with opened(Database(url)) as database, database.transaction() as connection:
            connection.execute(text(f"TRUNCATE {_TABLES} RESTART IDENTITY"))
    return Settings(
        data_dir=folder,
        database_url=url,
        store_url=s3.store_url(secrets.token_hex(8)),
        store_options=s3.store_options(),
        **options,
    )


@contextmanager
def opened(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.close()


@contextmanager
def empty_stores(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Stores]:
    """An empty database and an empty store of this kind."""
    settings = settings_of(kind, folder, request)
    with opened(Database.open(settings)) as database:
        yield database, Blobs.open(settings)


def a_job(number: int = 1, tenant: str = "", pictures: int = 1, **fields: Any) -> Job:
    """A job as it is accepted, created at second `number` and kept for 1000 seconds."""
    name = f"{number:032x}"
    job: dict[str, Any] = {
        "id": name, "tenant": tenant, "key": None, "state": "queued", "version": 1, "request": {"prompt": "a red fox"},
        "model": "image-01", "pictures": pictures, "created": float(number), "started": None, "finished": None,
        "expires": number + 1000.0, "cost": 0.0, "notes": (), "plan": None, "code": None, "error": None, "owner": None,
        "token": 0, "attempts": 0, "cancelling": False, "idempotency_key": None, "body_digest": None,
        "result_digest": None, "webhook": None, "subjects": (),
        "images": tuple(Image(k, "queued", k, blob_name(f"{number}-{k}"), 512, 512) for k in range(pictures)),
    }  # fmt: skip
    return Job(**job | fields)


def blob_name(of: str, kind: str = "jpeg") -> str:
    return f"{of:_<32}.{kind}"


def a_subject(job: int, number: int = 0, url: str | None = None) -> Subject:
    return Subject(number, blob_name(f"{job}-s{number}", "reference"), url, kept=False)
