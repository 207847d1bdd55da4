"""SIGKILL at random moments under load: the fault run of benchmarks/faults.py, shortened."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from limner.config import Settings
from limner.storage import jobs, leases
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from limner.storage.leases import Lease
from stores import a_job

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def faults() -> Iterator[ModuleType]:
    sys.path.append(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("benchmark_faults", BENCHMARKS / "faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def expected(faults: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    found: dict[str, list[str]] = faults.undisturbed(tmp_path_factory.mktemp("undisturbed"))
    return found


@pytest.mark.parametrize(("stores", "kills"), [("sqlite", 3), ("postgresql", 2)])
def test_a_killed_service_loses_nothing_and_does_nothing_twice(
    faults: ModuleType, expected: dict[str, list[str]], tmp_path: Path, stores: str, kills: int
) -> None:
    report = faults.run(kills, stores, 1, tmp_path, expected, clients=1, window=1.5)
    assert report.problems == [], f"{report}\n{(tmp_path / 'serve.log').read_text()[-3000:]}"
    assert report.figures["kills"] == kills
    assert report.figures["pictures compared"] >= 1


# The inspection can fail


def a_run(faults: ModuleType, folder: Path) -> tuple[Settings, Any]:
    """A database and a store with one job that was answered 202 and is done as it should be."""
    settings = Settings(data_dir=folder)
    job = a_job(1)
    load = faults.Load("", {"a red fox": [hashlib.sha256(b"picture").hexdigest()]}, 1)
    load.accepted[job.id] = "a red fox"
    database, blobs = Database.open(settings), Blobs.open(settings)
    with database.transaction() as connection:
        jobs.add(connection, job)
        (mine,) = leases.claim(connection, "w", pictures=1, retried=False, now=2.0)
        lease = Lease(mine.id, mine.token)
        blobs.put(job.images[0].blob, b"picture")
        sha256 = hashlib.sha256(b"picture").hexdigest()
        leases.finish_image(connection, lease, 0, data_bytes=7, sha256=sha256, seconds={}, cost=1.0)
        leases.end(connection, lease, "done", time.time())
    database.close()
    return settings, load


def test_the_inspection_finds_nothing_where_all_is_well(faults: ModuleType, tmp_path: Path) -> None:
    assert faults.inspect(*a_run(faults, tmp_path)).problems == []


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("UPDATE jobs SET state = 'queued'", "accepted jobs lost"),
        ("DELETE FROM jobs", "accepted jobs lost"),
        ("UPDATE images SET state = 'failed'", "pictures done without a blob"),
        ("UPDATE images SET sha256 = 'other'", "pictures with other bytes"),
        ("UPDATE images SET blob = 'other'", "blobs without a row"),
        ("UPDATE usage SET jobs = 2", "usage counts 2 jobs"),
        ("UPDATE usage SET cost = 2", "usage counts a cost of 2.0"),
    ],
)
def test_the_inspection_finds_what_is_wrong(faults: ModuleType, tmp_path: Path, fault: str, told: str) -> None:
    settings, load = a_run(faults, tmp_path)
    database = Database.open(settings)
    with database.transaction() as connection:
        connection.exec_driver_sql(fault)
    database.close()
    assert any(problem.startswith(told) for problem in faults.inspect(settings, load).problems)


def test_the_inspection_compares_bytes_with_the_undisturbed_ones(faults: ModuleType, tmp_path: Path) -> None:
    settings, load = a_run(faults, tmp_path)
    load.expected["a red fox"] = ["of other bytes"]
    assert any(problem.startswith("pictures with other bytes") for problem in faults.inspect(settings, load).problems)
