"""Kill the service at random moments under load, and see that nothing was lost, done twice or changed.

    python benchmarks/faults.py --kills 100 --stores sqlite|postgresql --seed 1

Clients send jobs to a `limner serve` of its own process: some wait for their pictures, some are answered 202, some send
references, most with an Idempotency-Key that they retry with. SIGKILL ends the process again and again, while it starts
up, too, and it is started again. In the end what was answered 202, and every call that was retried, must
be done once, with the bytes that an undisturbed process painted; the database and the store must hold each other's
things and nothing else. Ctrl-C ends the killing early. Needs the extra `test`: `postgresql` is a real PostgreSQL and a
real S3.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
from sqlalchemy import func, select

from latency import LIMNER
from limner.config import Settings
from limner.storage import jobs, migrations
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from limner.storage.schema import deliveries, images, usage
from limner.storage.schema import jobs as job_rows
from machine import machine, plain_environment

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from servers import free_ports, running_postgres, running_s3  # found by the line above

Stores = Literal["sqlite", "postgresql"]
Hashes = dict[str, list[str]]
"""SHA-256 of each picture, by prompt."""

GIRL = (Path(__file__).parent.parent / "examples" / "girl.png").read_bytes()
REFERENCE = [{"type": "character", "image_file": f"data:image/png;base64,{base64.b64encode(GIRL).decode()}"}]
ASKS: tuple[dict[str, Any], ...] = (
    {"prompt": "a red fox on a snowy hill", "n": 1},
    {"prompt": "two blue birds above a boat at sea", "n": 2},
    {"prompt": "three green apples on a table", "n": 1, "width": 512, "height": 768},
    {"prompt": "a rocket in the night sky", "n": 3},
    {"prompt": "a girl beside the tall window of a library", "n": 1, "subject_reference": REFERENCE},
)
"""Few and different prompts, so that each picture's bytes are known from its job's row."""

READY_SECONDS = 60.0
END_SECONDS = 240.0  # for everything to be done after the last kill
WINDOW = 4.0  # a kill comes at most so many seconds after the process answers
STARTING = 0.15  # share of kills that come before it does


def body_of(ask: dict[str, Any]) -> dict[str, Any]:
    return {"model": "image-01", "width": 512, "height": 512, "seed": 7, **ask}


@dataclass
class Process:
    """A `limner serve` that is ended and started again at one port."""

    options: dict[str, str]  # settings, as variables
    log: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    ready_seconds: list[float] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [LIMNER, "serve", "--port", str(self.port)],
                env=plain_environment() | self.options,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this program alone
            )

    def wait(self) -> None:
        """Until it answers. Raises RuntimeError where it ends instead."""
        assert self._process is not None
        began = time.monotonic()
        while time.monotonic() < began + READY_SECONDS and self._process.poll() is None:
            try:
                if httpx2.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5, trust_env=False).status_code == 200:
                    self.ready_seconds.append(time.monotonic() - began)
                    return
            except httpx2.HTTPError:
                time.sleep(0.05)
        raise RuntimeError(f"limner serve did not start:\n{self.log.read_text()[-3000:]}")

    def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(60)


@dataclass
class Load:
    """Clients that ask until they are stopped, and what they were told."""

    url: str
    expected: Hashes
    seed: int
    stopping: threading.Event = field(default_factory=threading.Event)
    patience: float = math.inf  # monotonic time after which a call is taken for lost
    accepted: dict[str, str] = field(default_factory=dict)  # prompts by the ids of jobs that were answered 202
    answered: int = 0  # calls that waited and got their pictures, retries included
    retries: int = 0
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, waits: bool, number: int) -> None:
        chance = random.Random(f"{self.seed} {waits} {number}")
        with httpx2.Client(base_url=self.url, timeout=90, trust_env=False) as client:
            while not self.stopping.is_set():
                ask = chance.choice(ASKS)
                try:
                    if waits:
                        self._call(client, ask)
                    else:
                        self._post(client, ask, keyed=chance.random() < 0.7)
                except Exception as error:  # else the thread would end and nobody see it
                    self._tell(f"a client failed: {error!r}")
                    return

    def _call(self, client: httpx2.Client, ask: dict[str, Any]) -> None:
        """Ask, and again with the same key until there are pictures."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        for attempt in itertools.count():
            if time.monotonic() > self.patience:
                self._tell("a call was not answered with pictures long after the last kill")
                return
            try:
                body = body_of(ask) | {"response_format": "base64"}
                reply = client.post("/v1/image_generation", json=body, headers=headers).json()
            except (httpx2.HTTPError, json.JSONDecodeError):
                time.sleep(0.1)
                continue
            code = reply["base_resp"]["status_code"]
            if code == 0:
                found = [hashlib.sha256(base64.b64decode(data)).hexdigest() for data in reply["data"]["image_base64"]]
                self._check(ask["prompt"], found, "answered")
                with self._lock:
                    self.answered += 1
                    self.retries += attempt > 0
                return
            if code not in (1001, 1002, 1024):
                self._tell(f"a retried call was answered {reply['base_resp']}")
                return
            time.sleep(0.2)

    def _post(self, client: httpx2.Client, ask: dict[str, Any], keyed: bool) -> None:
        """Have a job accepted, and look at it until it has ended; its pictures, too."""
        headers = {"Idempotency-Key": uuid.uuid4().hex} if keyed else {}
        job_id = None
        while job_id is None and time.monotonic() < self.patience:
            try:
                reply = client.post("/v1/jobs", json=body_of(ask), headers=headers)
            except httpx2.HTTPError:
                time.sleep(0.1)
                if not keyed:  # nobody can say whether it was accepted
                    return
                continue
            if reply.status_code == 202:
                job_id = reply.json()["id"]
                with self._lock:
                    self.accepted[job_id] = ask["prompt"]
            else:
                time.sleep(0.2)
        while not self.stopping.is_set():  # then whoever checks the end looks at it
            try:
                job = client.get(f"/v1/jobs/{job_id}").json()
                if job["state"] in ("done", "failed", "cancelled"):
                    found = [client.get(picture["url"]).content for picture in job["pictures"] if picture["url"]]
                    self._check(ask["prompt"], [hashlib.sha256(data).hexdigest() for data in found], "served")
                    return
            except (httpx2.HTTPError, json.JSONDecodeError, KeyError):
                pass
            time.sleep(0.15)

    def _check(self, prompt: str, found: list[str], how: str) -> None:
        if found != self.expected[prompt]:
            self._tell(f"pictures of {prompt!r} were {how} with other bytes, or not all")

    def _tell(self, problem: str) -> None:
        with self._lock:
            self.wrong.append(problem)


@dataclass
class Report:
    """What came of a run. Empty `problems` are a good end."""

    figures: dict[str, str | int | float]
    problems: list[str]

    def __str__(self) -> str:
        lines = [f"| {name} | {value} |" for name, value in self.figures.items()]
        return "\n".join(
            ["| what | figure |", "| --- | --- |", *lines, *(f"PROBLEM: {text}" for text in self.problems)]
        )


def undisturbed(folder: Path) -> Hashes:
    """Every ask's pictures, painted by a process that nobody kills."""
    process = Process({"LIMNER_DATA_DIR": str(folder / "undisturbed")}, folder / "undisturbed.log")
    process.start()
    try:
        process.wait()
        found: Hashes = {}
        for ask in ASKS:
            body = body_of(ask) | {"response_format": "base64"}
            url = f"http://127.0.0.1:{process.port}/v1/image_generation"
            reply = httpx2.post(url, json=body, timeout=120, trust_env=False).json()
            found[ask["prompt"]] = [
                hashlib.sha256(base64.b64decode(data)).hexdigest() for data in reply["data"]["image_base64"]
            ]
            assert len(found[ask["prompt"]]) == ask["n"], reply
        return found
    finally:
        process.end(signal.SIGTERM)


@contextmanager
def places(stores: Stores, folder: Path) -> Iterator[dict[str, str]]:
    """Settings, as variables, of an empty database and an empty store."""
    data = {"LIMNER_DATA_DIR": str(folder / "data")}
    if stores == "sqlite":
        yield data
        return
    with running_postgres() as postgres, running_s3() as s3:
        url = postgres.new_database()
        database = Database(url)
        migrations.upgrade(database)
        database.close()
        os.environ.update(s3.environment)
        options = ",".join(f"{name}={value}" for name, value in s3.store_options().items())
        yield data | {
            "LIMNER_DATABASE_URL": url,
            "LIMNER_STORE_URL": s3.store_url("faults"),
            "LIMNER_STORE_OPTIONS": options,
        }


def run(
    kills: int, stores: Stores, seed: int, folder: Path, expected: Hashes, clients: int = 3, window: float = WINDOW
) -> Report:
    """Kill `kills` times under the load of `clients` that wait and as many that do not, and look at what is left."""
    chance = random.Random(seed)
    began = time.monotonic()
    with places(stores, folder) as options:
        # A killed process is no fault of the job's, and it is missed after a second.
        process = Process(options | {"LIMNER_LEASE_SECONDS": "1", "LIMNER_JOB_ATTEMPTS": "10000"}, folder / "serve.log")
        load = Load(f"http://127.0.0.1:{process.port}", expected, seed)
        threads = [
            threading.Thread(target=load.run, args=(waits, number), daemon=True)
            for waits in (True, False)
            for number in range(clients)
        ]
        try:
            process.start()
            for thread in threads:
                thread.start()
            done = starting = 0
            with suppress(KeyboardInterrupt):
                while done < kills:
                    early = bool(process.ready_seconds) and chance.random() < STARTING
                    if early:
                        time.sleep(chance.uniform(0, statistics.median(process.ready_seconds)))
                    else:
                        process.wait()
                        time.sleep(chance.uniform(0, window))
                    process.end(signal.SIGKILL)
                    process.start()
                    done, starting = done + 1, starting + early
            process.wait()
            load.patience = time.monotonic() + END_SECONDS
            load.stopping.set()
            for thread in threads:
                thread.join(2 * END_SECONDS)
            _until_ended(load)
            code = process.end(signal.SIGTERM)
        finally:
            process.end(signal.SIGKILL)
        given = {name.removeprefix("LIMNER_").lower(): value for name, value in options.items()}
        report = inspect(Settings(**given), load)
    report.figures = {
        "stores": stores,
        "kills": done,
        "of them while it started": starting,
        "median seconds from start to ready": round(statistics.median(process.ready_seconds), 2),
        **report.figures,
        "seconds in all": round(time.monotonic() - began),
    }
    if code != 0:
        report.problems.append(f"SIGTERM ended the process with {code}")
    return report


def _until_ended(load: Load) -> None:
    """Until no job waits or runs any more."""
    deadline = time.monotonic() + END_SECONDS
    with httpx2.Client(base_url=load.url, timeout=30, trust_env=False) as client:
        while time.monotonic() < deadline:
            if not client.get("/v1/jobs", params={"state": "queued,running", "limit": "1"}).json()["jobs"]:
                return
            time.sleep(0.2)
    load.wrong.append("jobs still waited or ran long after the last kill")


def inspect(settings: Settings, load: Load) -> Report:
    """What the database and the store hold, now that nobody works on them."""
    database, blobs = Database.open(settings), Blobs.open(settings)
    problems = list(load.wrong)
    try:
        with database.transaction(writing=False) as connection:
            rows = connection.execute(select(job_rows)).all()
            pictures = connection.execute(select(images).order_by(images.c.job, images.c.number)).all()
            used = connection.execute(
                select(*(func.coalesce(func.sum(usage.c[name]), 0) for name in ("jobs", "images", "bytes", "cost")))
            ).one()
            told = connection.scalar(select(func.count()).select_from(deliveries))
        names = list(blobs.names(older_than=time.time() + 3600))
        with database.transaction(writing=False) as connection:
            known = jobs.known_blobs(connection, names)
        by_id = {row.id: row for row in rows}
        prompts = {row.id: row.request["prompt"] for row in rows}
        lost = [job for job in load.accepted if job not in by_id or by_id[job].state != "done"]
        unfinished = [row.id for row in rows if row.state != "done" and row.id not in lost]
        other, missing = [], []
        for picture in pictures:
            blob = blobs.get(picture.blob) if picture.state == "done" else None
            if blob is None:
                missing.append(picture.blob)
            else:
                found = hashlib.sha256(blob.data).hexdigest()
                if {found} != {picture.sha256, load.expected[prompts[picture.job]][picture.number]}:
                    other.append(picture.blob)
    finally:
        database.close()
    twice = (used[0] - len(rows)) + (used[1] - len(pictures))
    left_over = [] if blobs.folder is None else [path for path in blobs.folder.iterdir() if "#" in path.name]
    for what, found_wrong in {
        "accepted jobs lost": lost,
        "other jobs not done": unfinished,
        "pictures with other bytes": other,
        "pictures done without a blob": missing,
        "blobs without a row": sorted(set(names) - known),
    }.items():
        if found_wrong:
            problems.append(f"{what}: {found_wrong[:5]}")
    if twice or used[2] != sum(picture.bytes or 0 for picture in pictures):
        problems.append(f"usage counts {used[0]} jobs and {used[1]} pictures, {used[2]} bytes")
    if abs(used[3] - sum(row.cost for row in rows)) > 1e-6 * (1 + used[3]):
        problems.append(f"usage counts a cost of {used[3]}, and the jobs one of {sum(row.cost for row in rows)}")
    figures: dict[str, str | int | float] = {
        "jobs in all": len(rows),
        "jobs that were answered 202": len(load.accepted),
        "calls that waited and were answered": load.answered,
        "of them after retries": load.retries,
        "jobs that a killed process had": sum(row.attempts > 0 for row in rows),
        "most processes that one job took": 1 + max((row.attempts for row in rows), default=0),
        "pictures compared": len(pictures) - len(missing),
        "accepted jobs lost": len(lost),
        "jobs or pictures done twice in effect": twice,
        "pictures with other bytes": len(other),
        "pictures done without a blob": len(missing),
        "blobs without a row": len(set(names) - known),
        "half-written files left (never served, swept)": len(left_over),
        "webhooks due": int(told or 0),
        "problems": len(problems),
    }
    return Report(figures, problems)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the service at random moments under load.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--stores", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for what is written, the service's log among it")
    asked = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="limner-faults-") as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = run(asked.kills, asked.stores, asked.seed, folder, undisturbed(folder))
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
