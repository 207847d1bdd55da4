"""Webhooks: signed after Standard Webhooks, as its own package verifies them; tried until they are taken."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

import stores
from conftest import wait_for
from hostile_server import HostileServer, reply
from limner.config import Settings
from limner.errors import SettingsInvalid, StorageFailed
from limner.order import Order
from limner.storage import jobs, leases, migrations
from limner.storage.blobs import new_name
from limner.storage.database import Database
from limner.storage.jobs import Image, Job
from limner.storage.schema import deliveries
from limner.webhooks import (
    AT_ONCE_OF_TENANT,
    CLAIM_SECONDS,
    DELAYS,
    Deliverer,
    claim,
    retry_after,
    secret,
    settle,
    signature,
)
from servers import Postgres

NOW = 1_790_000_000.0


class Receiver:
    """Answers the requests that come with these heads of HTTP, one after the other, then with 200; keeps what came."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.came = threading.Semaphore(0)

    def __call__(self, _server: HostileServer, connection: socket.socket, seen: bytes) -> None:
        head, _, body = seen.partition(b"\r\n\r\n")
        lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
        headers = {name.lower(): value for name, _, value in lines}
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        self.messages.append((headers, body))
        if answer := self._answers.pop(0) if self._answers else reply():
            connection.sendall(answer)
        connection.close()
        self.came.release()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, webhook_allow=("127.0.0.2/32",), public_url="https://pictures.example")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    options: dict[str, Any] = {}
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        options["database_url"] = server.new_database()
        empty = Database(options["database_url"])
        migrations.upgrade(empty)
        empty.close()
    opened = Database.open(Settings(data_dir=tmp_path, **options))
    yield opened
    opened.close()


def a_job(number: int = 0, tenant: str = "anna", url: str | None = None) -> Job:
    order = Order("a red fox", 512, 512, seed=7, webhook=url)
    times = {"created": NOW, "expires": NOW + 3600}
    return stores.a_job(
        number, tenant, request=order.to_json(), owner="w", token=1, webhook=url, images=(_image(),), **times
    )


def _image() -> Image:
    return Image(0, "queued", 7, new_name(), 512, 512)


def end(database: Database, job: Job, state: str = "done") -> None:
    """Record a job with a webhook and end it, as the runner does."""
    with database.transaction() as connection:
        jobs.add(connection, job)
        lease = leases.Lease(job.id, job.token)
        if state == "done":
            took = {"data_bytes": 9, "sha256": "0" * 64, "seconds": {"evaluate": 0.5}, "cost": 4.0, "steps": 4}
            assert leases.finish_image(connection, lease, 0, **took)
        why = {} if state == "done" else {"code": 1024, "error": "It broke."}
        assert leases.end(connection, lease, state, NOW + 1, **why)  # type: ignore[arg-type]  # one of the three


def row(database: Database) -> Any:
    with database.transaction() as connection:
        return connection.execute(select(deliveries)).one()


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def delivering(settings: Settings, database: Database, clock: Callable[[], float] = time.time) -> Iterator[None]:
    """A deliverer that runs meanwhile, and looks again every few milliseconds."""
    stop = threading.Event()

    async def run() -> None:
        deliverer = Deliverer(settings, database, clock)
        running = asyncio.create_task(deliverer.run())
        while not stop.is_set() and not running.done():
            deliverer.wake()
            await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(asyncio.run, run())
        try:
            yield
        finally:
            stop.set()
        ran.result()


def deliver(settings: Settings, database: Database, until: Callable[[], bool]) -> None:
    with delivering(settings, database):
        wait_for(until)


def settled(database: Database) -> Callable[[], bool]:
    return lambda: row(database).next_at is None


# Secrets and signatures


def test_each_tenant_has_a_secret_of_its_own_that_stays_the_same(settings: Settings) -> None:
    secrets = {tenant: secret(settings, tenant) for tenant in ("", "anna", "ben")}
    assert len(set(secrets.values())) == 3
    assert secrets == {tenant: secret(settings, tenant) for tenant in ("", "anna", "ben")}
    for text in secrets.values():
        assert text.startswith("whsec_")
        assert len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) == 32


def test_the_master_secret_is_made_once_for_its_owner_alone(settings: Settings) -> None:
    first = secret(settings, "anna")
    path = settings.data_dir / "webhook-secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in settings.data_dir.iterdir()] == ["webhook-secret"]
    path.unlink()
    assert secret(settings, "anna") != first


def test_processes_that_make_the_master_secret_at_once_agree_on_one(settings: Settings) -> None:
    start = threading.Barrier(8)

    def ask(_: int) -> str:
        start.wait()
        return secret(settings, "anna")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert len(list(settings.data_dir.iterdir())) == 1


def test_a_secret_of_the_settings_is_used_and_nothing_is_written(tmp_path: Path) -> None:
    one, other = (Settings(data_dir=tmp_path / "none", webhook_secret=letter * 24) for letter in "ab")
    assert secret(one, "anna") != secret(other, "anna")
    assert not (tmp_path / "none").exists()


def test_a_short_secret_is_refused_wherever_it_stands(settings: Settings) -> None:
    (settings.data_dir / "webhook-secret").write_text("short\n")
    with pytest.raises(SettingsInvalid, match="shorter than 24"):
        secret(settings, "anna")
    with pytest.raises(ValueError, match="24"):
        Settings(webhook_secret="short")


def test_a_secret_that_cannot_be_kept_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalid, match="webhook-secret, cannot be read or made"):
        secret(Settings(data_dir=tmp_path / "file"), "anna")


def test_a_signature_is_that_of_the_packages_own(settings: Settings) -> None:
    text, now = secret(settings, "anna"), int(time.time())
    body = '{"name": "狐"}'.encode()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature(text, "msg_1", now, body),
    }
    assert Webhook(text).verify(body, headers) == {"name": "狐"}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(settings, "ben")).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(text).verify(body + b" ", headers)


# Deliveries


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_the_end_of_a_job_is_told_signed_with_the_jobs_document(
    settings: Settings, database: Database, state: str
) -> None:
    receiver = Receiver()
    with HostileServer(receiver) as server:
        job = a_job(url=server.url("/hook?token=1"))
        end(database, job, state)
        deliver(settings, database, settled(database))
    ((headers, body),) = receiver.messages
    event = Webhook(secret(settings, "anna")).verify(body, headers)
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == f"msg_{job.id}"
    assert list(event) == ["type", "timestamp", "data"]
    assert event["type"] == f"job.{state}"
    assert event["timestamp"] == event["data"]["finished_at"] == "2026-09-21T14:13:21.000Z"
    assert event["data"]["id"] == job.id
    name = job.images[0].blob
    assert event["data"]["pictures"][0]["url"] == (
        f"https://pictures.example/files/{name}" if state == "done" else None
    )
    assert event["data"]["request"]["webhook_host"] == "127.0.0.2"
    assert b"token" not in body
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(settings, "ben")).verify(body, headers)
    assert (row(database).status, row(database).reason, row(database).attempts) == (200, None, 1)


def test_links_are_relative_where_the_services_address_is_not_set(database: Database, tmp_path: Path) -> None:
    receiver = Receiver()
    with HostileServer(receiver) as server:
        job = a_job(url=server.url())
        end(database, job)
        deliver(Settings(data_dir=tmp_path, webhook_allow=("127.0.0.2/32",)), database, settled(database))
    event = json.loads(receiver.messages[0][1])
    assert event["data"]["pictures"][0]["url"] == f"/files/{job.images[0].blob}"


def tried(database: Database, tries: int, clock: Clock) -> Callable[[], bool]:
    """Whether so many tries have been made, and what came of the last is written down."""
    return lambda: row(database).attempts == tries and row(database).next_at != clock.now + CLAIM_SECONDS


def test_what_is_not_taken_is_sent_again_later_with_the_same_id_and_body(
    settings: Settings, database: Database
) -> None:
    receiver = Receiver(reply("500 Oops"), b"", reply("302 Found", location="http://127.0.0.2:1/"))
    clock = Clock(NOW + 1)
    with HostileServer(receiver) as server:
        end(database, a_job(url=server.url()))
        with delivering(settings, database, clock):
            for tries, delay in enumerate(DELAYS[:3], start=1):
                wait_for(tried(database, tries, clock))
                assert 0.8 * delay <= row(database).next_at - clock.now <= 1.2 * delay
                clock.now = row(database).next_at - 0.001
                assert len(receiver.messages) == tries
                clock.now += 0.001
            wait_for(settled(database))
    assert (row(database).attempts, row(database).status) == (4, 200)
    assert len({body for _, body in receiver.messages}) == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.messages}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.messages}) == 4


def test_after_the_last_delay_it_is_given_up_with_a_log_line_that_names_no_address(
    settings: Settings, database: Database
) -> None:
    receiver = Receiver(*[reply("500 Oops")] * 99)
    clock = Clock(NOW + 1)
    with HostileServer(receiver) as server, capture_logs() as lines:
        end(database, a_job(url=server.url("/secret")))
        with delivering(settings, database, clock):
            for tries in range(1, len(DELAYS) + 1):
                wait_for(tried(database, tries, clock))
                clock.now = row(database).next_at
            wait_for(settled(database))
    assert len(receiver.messages) == len(DELAYS) + 1
    assert row(database).reason == "Answered with status 500."
    assert [line["result"] for line in lines if line["event"] == "webhook"] == ["failed"] * len(DELAYS) + ["given_up"]
    assert "secret" not in str(lines)


def test_a_host_that_says_gone_is_not_asked_again(settings: Settings, database: Database) -> None:
    receiver = Receiver(reply("410 Gone"))
    with HostileServer(receiver) as server:
        end(database, a_job(url=server.url()))
        deliver(settings, database, settled(database))
    assert (row(database).status, row(database).attempts) == (410, 1)


@pytest.mark.parametrize(
    ("asked", "waits"), [("1000", 1000), ("999999999", max(DELAYS)), ("soon", 0), (formatdate(NOW + 2001), 2000)]
)
def test_a_host_may_ask_for_more_time_up_to_a_bound(
    settings: Settings, tmp_path: Path, asked: str, waits: float
) -> None:
    database, clock = Database.open(Settings(data_dir=tmp_path / "one")), Clock(NOW + 1)
    with HostileServer(Receiver(reply("429 Later", retry_after=asked))) as server:
        end(database, a_job(url=server.url()))
        with delivering(settings, database, clock):
            wait_for(tried(database, 1, clock))
    assert row(database).next_at - clock.now == pytest.approx(max(waits, DELAYS[0]), rel=0.2)
    database.close()


@given(st.text() | st.from_regex(r"\w{3}, [0-9]{2} \w{3} [0-9]{4} [0-9:]{8} [-+]?\w{3,4}") | st.integers().map(str))
def test_whatever_a_host_asks_for_is_read_as_some_time(value: str) -> None:
    assert retry_after(value, NOW) >= 0


def test_an_address_inside_is_not_reached_and_told_as_any_that_does_not_answer(
    settings: Settings, database: Database
) -> None:
    clock = Clock(NOW + 1)
    with HostileServer(Receiver(), host="127.0.0.1") as server:
        end(database, a_job(url=server.url()))
        with delivering(settings, database, clock):
            wait_for(tried(database, 1, clock))
        assert server.connections == 0
    assert row(database).status is None
    assert row(database).reason.startswith("The webhook's host has no address that may be reached from here")
    assert row(database).next_at is not None


def test_a_url_that_never_will_do_is_given_up_at_once(settings: Settings, database: Database) -> None:
    end(database, a_job(url="ftp://hooks.example/"))
    deliver(settings, database, settled(database))
    assert (row(database).attempts, row(database).status) == (1, None)


def test_a_job_that_is_deleted_before_anything_was_sent_is_not_told(settings: Settings, database: Database) -> None:
    job = a_job(url="http://127.0.0.2:1/")
    end(database, job)
    with database.transaction() as connection:
        jobs.start_deleting(connection, job.id, job.tenant, NOW)
    deliver(settings, database, settled(database))
    assert row(database).reason == "Its job was deleted first, or cannot be told of."


def test_a_job_that_goes_while_it_is_told_is_told_no_more(settings: Settings, database: Database) -> None:
    job = a_job(url="http://127.0.0.2:1/")
    end(database, job)
    with database.transaction() as connection:
        (under_way,) = claim(connection, NOW + 1, 9, Counter(), "")
        jobs.start_deleting(connection, job.id, job.tenant, NOW)
        jobs.forget(connection, [job.id])
    with database.transaction() as connection:
        assert not settle(connection, under_way, None, "Nobody answered.", NOW + 9)
        assert connection.execute(select(deliveries)).all() == []


@pytest.mark.parametrize("answer", [reply(), reply("410 Gone")])
def test_what_is_settled_keeps_neither_the_document_nor_the_address(
    settings: Settings, database: Database, answer: bytes
) -> None:
    receiver = Receiver(reply("500 Oops"), answer)
    clock = Clock(NOW + 1)
    with HostileServer(receiver) as server:
        end(database, a_job(url=server.url("/secret")))
        with delivering(settings, database, clock):
            wait_for(tried(database, 1, clock))
            assert "a red fox" in row(database).body  # it is to be sent once more
            assert row(database).url.endswith("/secret")
            clock.now = row(database).next_at
            wait_for(settled(database))
    assert len(receiver.messages) == 2
    assert (row(database).body, row(database).url) == ("", "")


def test_a_process_that_dies_while_it_sends_leaves_it_to_the_next(settings: Settings, database: Database) -> None:
    receiver, clock = Receiver(), Clock(NOW + 1)
    with HostileServer(receiver) as server:
        end(database, a_job(url=server.url()))
        with database.transaction() as connection:
            (dead,) = claim(connection, clock.now, 9, Counter(), "")
        with delivering(settings, database, clock):
            clock.now += CLAIM_SECONDS - 1
            threading.Event().wait(0.1)
            assert receiver.messages == []
            clock.now += 1
            wait_for(settled(database))
    assert len(receiver.messages) == 1
    with database.transaction() as connection:
        assert not settle(connection, dead, None, "It was dead.", clock.now)  # fenced out
    assert (row(database).attempts, row(database).status, row(database).next_at) == (2, 200, None)


def test_two_processes_do_not_send_the_same_at_once(settings: Settings, database: Database) -> None:
    for number in range(20):
        end(database, a_job(number, tenant=f"tenant {number % 7}", url="http://127.0.0.2:1/"))
    start = threading.Barrier(2)

    def take(_: int) -> list[str]:
        start.wait()
        with database.transaction() as connection:
            return [delivery.id for delivery in claim(connection, NOW + 2, 20, Counter(), "")]

    with ThreadPoolExecutor(2) as pool:
        taken = [name for names in pool.map(take, range(2)) for name in names]
    assert len(taken) == len(set(taken)) == 20


def test_a_tenant_whose_hosts_hang_leaves_room_for_others(settings: Settings, database: Database) -> None:
    for number in range(30):
        end(database, a_job(number, tenant="greedy", url="http://127.0.0.2:1/"))
    end(database, a_job(99, tenant="anna", url="http://127.0.0.2:1/"))
    with database.transaction() as connection:
        first = claim(connection, NOW + 2, 16, Counter(), "")
        second = claim(connection, NOW + 2, 12, Counter(greedy=AT_ONCE_OF_TENANT), "")
    assert [delivery.tenant for delivery in first] == ["greedy"] * AT_ONCE_OF_TENANT
    assert [delivery.tenant for delivery in second] == ["anna"]


def test_a_message_goes_out_while_another_tenants_hosts_hang(settings: Settings, database: Database) -> None:
    release, receiver = threading.Event(), Receiver()

    def hang(_server: HostileServer, connection: socket.socket, _seen: bytes) -> None:
        release.wait(30)
        connection.sendall(reply())

    with HostileServer(hang) as slow, HostileServer(receiver) as server:
        for number in range(30):
            end(database, a_job(number, tenant="greedy", url=slow.url()))
        end(database, a_job(99, tenant="anna", url=server.url()))
        with delivering(settings, database):
            assert receiver.came.acquire(timeout=30)
            assert not release.is_set()
            release.set()


def test_those_that_were_tried_least_go_first(database: Database) -> None:
    with database.transaction() as connection:
        for number, (attempts, due) in enumerate([(3, NOW - 9), (0, NOW), (1, NOW - 5), (0, NOW - 1), (0, NOW + 1)]):
            fields = {"id": f"msg_{number}", "tenant": "anna", "job": "0" * 32, "url": "http://a/", "body": "{}"}
            connection.execute(insert(deliveries).values(**fields, created=NOW, attempts=attempts, next_at=due))
        taken = claim(connection, NOW, 3, Counter(), "")
    assert [delivery.id for delivery in taken] == ["msg_3", "msg_1", "msg_2"]


def test_a_database_that_is_away_for_a_while_stops_no_deliverer(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(Settings(data_dir=tmp_path / "one"))
    run, calls = database.run, iter(range(10**9))

    async def away_at_first(work: Any, **options: Any) -> Any:
        if (call := next(calls)) < 3 or call == 6:
            raise StorageFailed("It is away.")
        return await run(work, **options)

    monkeypatch.setattr(database, "run", away_at_first)
    receiver = Receiver()
    with HostileServer(receiver) as server:
        end(database, a_job(url=server.url()))
        deliver(settings, database, lambda: len(receiver.messages) == 1)
    database.close()
