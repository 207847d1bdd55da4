"""Callers and their limits, on SQLite and on a real PostgreSQL, with a real Valkey."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from limner import tenants
from limner.config import Settings
from limner.errors import (
    Busy,
    InvalidKey,
    InvalidRequest,
    LimnerError,
    ModelNotAllowed,
    NotAuthenticated,
    QuotaUsed,
    SettingsInvalid,
)
from limner.models.registry import Model, Registry
from limner.order import Order
from limner.storage import jobs, keys, leases, usage
from limner.storage.database import Database
from limner.storage.keys import Key, Limits
from limner.storage.schema import keys as key_rows
from limner.storage.schema import metadata
from limner.storage.schema import takes as take_rows
from limner.tenants import ANYONE, Caller, Tenants
from servers import Postgres, Valkey
from stores import a_job

T = TypeVar("T")
NOON = 1_795_435_200.0  # 2026-11-23 12:00 UTC
DAY = 86_400.0
REGISTRY = Registry.of([Model("big", "/weights", aliases=("large",))], aliases={"gpt-image-1": "image-01"})


@pytest.fixture(scope="module")
def on_postgres(postgres: Postgres) -> Iterator[str]:
    address = postgres.new_database()
    with closing(Database(address)) as opened:
        metadata.create_all(opened.engine)
    yield address
    postgres.drop(address)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'limner.sqlite'}"
    return str(request.getfixturevalue("on_postgres"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """An empty one."""
    with closing(Database(url)) as opened:
        if opened.sqlite:
            metadata.create_all(opened.engine)
        with opened.transaction() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        yield opened


@pytest.fixture
def memory() -> Iterator[Database]:
    with closing(Database.in_memory()) as opened:
        yield opened


def of(database: Database, **settings: Any) -> Tenants:
    return Tenants(Settings(**settings), database, REGISTRY)


def new(database: Database, tenant: str = "acme", /, **limits: Any) -> tuple[Key, str]:
    with database.transaction() as connection:
        return keys.create(connection, tenant, Limits(**limits), time.time())


def calls(tenants: Tenants, secret: str | None) -> Caller:
    return asyncio.run(tenants.caller(None if secret is None else f"Bearer {secret}"))


def order(n: int = 1, **fields: Any) -> Order:
    return Order(**{"prompt": "a red fox", "width": 512, "height": 512, "n": n, **fields})


def admit(database: Database, tenants: Tenants, caller: Caller, n: int = 1, now: float = NOON, **more: Any) -> None:
    with database.transaction() as connection:
        tenants.admit(connection, caller, order(n), now, **more)


def refused(kind: type[T], work: Callable[[], object]) -> T:
    with pytest.raises(LimnerError) as raised:
        work()
    assert type(raised.value) is kind
    return raised.value


def job(job_id: str, key: Key, n: int = 1, now: float = NOON) -> jobs.Job:
    images = tuple(jobs.Image(number, "queued", number, f"{job_id}-{number}.jpeg", 512, 512) for number in range(n))
    made = {"id": job_id, "key": key.id, "request": order(n).to_json(), "created": now, "expires": now + DAY}
    return a_job(0, key.tenant, n, owner="worker", token=1, images=images, **made)


# The key itself


def test_a_key_has_a_form_that_a_scanner_for_secrets_finds_and_a_checksum() -> None:
    secrets = {keys.new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert re.findall(r"\blk-[0-9A-Za-z]{49}\b", f'key = "{secret}",') == [secret]
        assert keys.well_formed(secret)
    secret = secrets.pop()
    for place in range(3, len(secret)):
        other = "a" if secret[place] != "a" else "b"
        assert not keys.well_formed(secret[:place] + other + secret[place + 1 :])
    for wrong in ("", "lk-", secret[:-1], secret + "0", secret.upper(), f" {secret}", secret.replace("lk-", "sk-")):
        assert not keys.well_formed(wrong)


def test_every_bit_of_256_can_be_in_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (0, 2**256 - 1):
        monkeypatch.setattr("limner.storage.keys.secrets.randbits", lambda bits, number=number: number)
        assert keys.well_formed(keys.new_secret())


def test_the_database_holds_a_keys_digest_and_nothing_that_it_could_be_made_from(database: Database) -> None:
    key, secret = new(database)
    with database.transaction() as connection:
        rotated = keys.rotate(connection, key.id, NOON, DAY)
        assert rotated is not None
        stored = str(connection.execute(select(key_rows)).mappings().all())
        shown = repr([key, rotated[0], *keys.every(connection)])
    assert keys.digest(secret) in stored
    assert keys.digest(rotated[1]) in stored
    for text in (secret, rotated[1]):
        assert text[:10] not in text[10:]
        assert text[10:20] not in stored + shown
        assert text[-10:] not in stored + shown


def test_a_tenant_without_a_name_gets_no_key(memory: Database) -> None:
    for name in ("", "-", "a b", "é", "a" * 65, "a/b", "a\n"):
        with pytest.raises(ValueError, match="not a tenant"):
            new(memory, name)
    for name in ("a", "acme-2", "shop@example.com", "a" * 64):
        assert new(memory, name)[0].tenant == name


# Who calls


def test_without_any_key_everybody_on_loopback_is_the_same_caller(memory: Database) -> None:
    here = of(memory)
    for header in (None, "", "Bearer", "Bearer whatever", f"Bearer {keys.new_secret()}", "Basic eA=="):
        assert asyncio.run(here.caller(header)) == ANYONE


def test_from_the_first_key_on_a_key_is_asked_for_also_by_a_service_that_runs(database: Database) -> None:
    here = of(database)
    assert calls(here, None) == ANYONE
    key, secret = new(database)
    assert calls(here, secret) == Caller("acme", key)
    assert asyncio.run(here.caller(f"bearer   {secret} ")) == Caller("acme", key)
    for header in (None, "", "Bearer", "Bearer ", f"Basic {secret}", secret):
        assert refused(NotAuthenticated, lambda header=header: asyncio.run(here.caller(header))).message == (
            tenants.NONE_CAME
        )
    for wrong in ("x", "é\udcff", keys.new_secret(), secret[:-1], secret + "x", secret.lower()):
        assert refused(InvalidKey, lambda wrong=wrong: calls(here, wrong)).message == tenants.UNKNOWN


def test_a_revoked_key_stops_at_once_and_the_service_stays_closed(database: Database) -> None:
    here = of(database)
    key, secret = new(database)
    assert calls(here, secret).tenant == "acme"
    with database.transaction() as connection:
        gone = keys.revoke(connection, key.id, 5.0)
        assert gone is not None
        assert (gone.state(NOON), gone.revoked) == ("revoked", 5.0)
        again = keys.revoke(connection, key.id, 6.0)
        assert again is not None
        assert again.revoked == 5.0
        assert keys.revoke(connection, "key_0", 6.0) is None
    assert refused(InvalidKey, lambda: calls(here, secret)).message == tenants.REVOKED
    assert refused(InvalidKey, lambda: admit(database, here, Caller("acme", key))).message == tenants.REVOKED
    for service in (here, of(database)):
        refused(NotAuthenticated, lambda service=service: calls(service, None))


def test_a_key_works_until_it_expires(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.transaction() as connection:
        key, secret = keys.create(connection, "acme", Limits(), NOON, expires=NOON + 10, note="a note")
    here, now = of(database), [NOON + 9.9]
    monkeypatch.setattr("limner.tenants.time.time", lambda: now[0])
    assert calls(here, secret) == Caller("acme", key)
    now[0] = NOON + 10
    assert refused(InvalidKey, lambda: calls(here, secret)).message == tenants.EXPIRED
    late = refused(InvalidKey, lambda: admit(database, here, Caller("acme", key), now=NOON + 10))
    assert late.message == tenants.EXPIRED


def test_a_rotated_key_works_beside_the_new_one_for_as_long_as_said(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, first = new(database, rate=3)
    here, now = of(database), [NOON]
    monkeypatch.setattr("limner.tenants.time.time", lambda: now[0])

    def rotate(keep: float) -> str:
        with database.transaction() as connection:
            rotated = keys.rotate(connection, key.id, now[0], keep)
            assert rotated is not None
            assert rotated[0] == keys.get(connection, key.id)
            assert (rotated[0].id, rotated[0].limits, rotated[1][:10]) == (key.id, key.limits, rotated[0].shown)
            return rotated[1]

    def known(secret: str) -> bool:
        with suppress(InvalidKey):
            return calls(here, secret).key is not None
        return False

    second = rotate(60)
    assert [known(secret) for secret in (first, second)] == [True, True]
    now[0] += 60
    assert [known(secret) for secret in (first, second)] == [False, True]
    third = rotate(60)
    fourth = rotate(60)
    assert [known(secret) for secret in (second, third, fourth)] == [False, True, True]
    fifth = rotate(0)
    assert [known(secret) for secret in (third, fourth, fifth)] == [False, False, True]
    sixth = rotate(60)
    with database.transaction() as connection:
        keys.revoke(connection, key.id, now[0])
    assert [known(secret) for secret in (fifth, sixth)] == [False, False]
    with database.transaction() as connection:
        assert keys.rotate(connection, "key_0", NOON, 60) is None


def test_keys_of_the_settings_work_beside_those_of_the_database(memory: Database) -> None:
    here = of(memory, api_keys="sk-one,lk-two")
    refused(NotAuthenticated, lambda: calls(here, None))
    _, secret = new(memory)
    callers = {calls(here, text) for text in ("sk-one", "lk-two", secret)}
    assert {len(caller.tenant) for caller in callers} == {12, 4}
    assert sum(caller.key is None for caller in callers) == 2
    refused(InvalidKey, lambda: calls(here, "sk-on"))


def test_every_key_of_the_settings_is_compared_whichever_matches(
    memory: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, compared = of(memory, api_keys="a,b,c"), list[bytes]()
    plain = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return plain(one, other)

    monkeypatch.setattr("limner.tenants.hmac.compare_digest", spy)
    assert len({calls(here, key).tenant for key in "abc"}) == 3
    assert len(compared) == 9
    refused(InvalidKey, lambda: calls(here, "d"))
    assert len(compared) == 12


def test_another_address_than_loopback_is_served_with_a_key_alone(database: Database) -> None:
    settings = Settings(host="0.0.0.0")
    with database.transaction() as connection:
        with pytest.raises(SettingsInvalid, match=r"without keys would let anyone.*limner keys create"):
            tenants.refuse_open(settings, connection)
        tenants.refuse_open(Settings(), connection)
        tenants.refuse_open(Settings(host="0.0.0.0", api_keys="x"), connection)
    here = of(database, host="0.0.0.0")
    refused(NotAuthenticated, lambda: calls(here, None))  # also where nobody had asked refuse_open
    refused(InvalidKey, lambda: calls(here, "whatever"))
    _, secret = new(database)
    with database.transaction() as connection:
        tenants.refuse_open(settings, connection)
    assert calls(here, secret).tenant == "acme"


def test_the_operator_is_told_who_may_use_the_service(memory: Database) -> None:
    with memory.transaction() as connection:
        assert tenants.keys_line(Settings(), connection) == "no key needed"
        key, _ = keys.create(connection, "acme", Limits(), NOON)
        other, _ = keys.create(connection, "acme", Limits(), NOON)
        keys.revoke(connection, key.id, NOON)
        line = tenants.keys_line(Settings(api_keys="a,b,c"), connection)
        assert line == "each call must carry a key: 3 of the settings, 1 of the database"
        keys.revoke(connection, other.id, NOON)
        assert "none is valid, limner keys create makes one" in tenants.keys_line(Settings(), connection)


def test_no_key_is_ever_logged_or_shown(memory: Database) -> None:
    here = of(memory, api_keys="sk-api-settings")
    key, secret = new(memory, daily=1)
    shown = [repr(here), repr(key), repr(Caller("acme", key)), str(vars(here))]
    with capture_logs() as logs:
        for text in (secret, "sk-api-settings", keys.new_secret(), "sk-api-wrong"):
            try:
                caller = calls(here, text)
                shown.append(repr(caller))
                admit(memory, here, caller)
                admit(memory, here, caller)
            except LimnerError as error:
                shown += [repr(error), str(error), error.message]
            assert text[:8] not in "".join(shown).replace(key.shown, "")
    assert secret[10:] not in str(logs)
    assert "sk-api" not in str(logs) + "".join(shown)


# What a key can never be given


def test_models_are_allowed_by_any_of_their_names_and_others_are_not(memory: Database) -> None:
    here = of(memory)
    caller = Caller("acme", new(memory, models=("image-01", "gone"))[0])
    for name in ("image-01", "image-01-live", "gpt-image-1"):  # these weights, by other names
        here.check(caller, order(model=name))
    for name in ("big", "large"):
        assert (
            "it may use image-01, gone."
            in refused(ModelNotAllowed, lambda name=name: here.check(caller, order(model=name))).message
        )
        here.check(Caller("acme", new(memory, models=("large",))[0]), order(model=name))
        here.check(Caller("acme", new(memory)[0]), order(model=name))
        here.check(ANYONE, order(model=name))


def test_a_picture_larger_than_the_keys_limit_is_refused_with_the_limit(memory: Database) -> None:
    here, caller = of(memory), Caller("acme", new(memory, max_pixels=1024 * 1024)[0])
    for width, height in ((1024, 1024), (2048, 512)):
        here.check(caller, order(width=width, height=height))
    error = refused(InvalidRequest, lambda: here.check(caller, order(width=1032, height=1024)))
    assert "at most 1048576 pixels; 1032×1024 are 1056768" in error.message


@pytest.mark.parametrize(("limit", "span"), [("rate", "minute"), ("daily", "day")])
def test_more_pictures_at_once_than_a_whole_minute_or_day_has_are_never_possible(
    memory: Database, limit: str, span: str
) -> None:
    here, caller = of(memory), Caller("acme", new(memory, **{limit: 4})[0])
    here.check(caller, order(4))
    error = refused(InvalidRequest, lambda: here.check(caller, order(5)))
    assert f"4 pictures a {span}, so never for 5 at once" in error.message


# What a key has left


def test_the_rate_holds_in_every_window_and_says_when_there_is_room_again(database: Database) -> None:
    here, key = of(database), new(database, rate=5)[0]
    caller, taken = Caller("acme", key), list[tuple[float, int]]()
    for at, n in ((0.0, 2), (10.0, 1), (10.0, 1), (20.0, 1)):
        admit(database, here, caller, n, NOON + at)
        taken.append((at, n))
    for at, n, wait in ((30.0, 1, 30.0), (30.0, 2, 30.0), (30.0, 3, 40.0), (30.0, 4, 40.0), (30.0, 5, 50.0)):
        error = refused(Busy, lambda n=n, at=at: admit(database, here, caller, n, NOON + at))
        assert error.retry_after == pytest.approx(wait)
        assert f"5 pictures a minute. Wait {wait:.0f} s" in error.message
    refused(Busy, lambda: admit(database, here, caller, 1, NOON + 59.9))
    for at, n in ((60.0, 2), (70.0, 2), (80.0, 1)):
        refused(Busy, lambda n=n, at=at: admit(database, here, caller, n + 1, NOON + at))
        admit(database, here, caller, n, NOON + at)
    with database.transaction() as connection:
        kept = connection.execute(select(take_rows.c.at)).scalars().all()
    assert min(kept) > NOON + 80 - 60  # older ones are forgotten
    admit(database, here, Caller("other", new(database, "other", rate=5)[0]), 5, NOON + 80)


def test_a_clock_that_is_set_back_locks_no_key_out(database: Database) -> None:
    here, caller = of(database), Caller("acme", new(database, rate=2)[0])
    admit(database, here, caller, 2, NOON)
    admit(database, here, caller, 2, NOON - 3600)
    error = refused(Busy, lambda: admit(database, here, caller, 1, NOON - 3590))
    assert error.retry_after == pytest.approx(50)
    early = refused(Busy, lambda: admit(database, here, caller, 1, NOON - 3605))  # another process' clock is behind
    assert early.retry_after == pytest.approx(65)


def test_jobs_at_once_are_those_that_have_not_ended(database: Database) -> None:
    here, key = of(database), new(database, concurrent=2)[0]
    other = new(database, "acme", concurrent=2)[0]  # the same tenant's
    caller = Caller("acme", key)
    for name in ("a", "b"):
        admit(database, here, caller)
        with database.transaction() as connection:
            jobs.add(connection, job(name * 32, key))
    assert "2 jobs at once, and has 2" in refused(Busy, lambda: admit(database, here, caller)).message
    admit(database, here, Caller("acme", other))
    with database.transaction() as connection:
        assert leases.end(connection, leases.Lease("a" * 32, 1), "failed", NOON, code=1024, error="x")
    admit(database, here, caller)


def test_the_daily_quota_counts_pictures_asked_for_and_begins_anew_at_midnight(database: Database) -> None:
    here, caller = of(database), Caller("acme", new(database, daily=10)[0])
    admit(database, here, caller, 7)
    error = refused(QuotaUsed, lambda: admit(database, here, caller, 4, NOON + 3600))
    assert error.retry_after == pytest.approx(11 * 3600)
    assert "10 pictures a day, of which 3 are left; 4 were asked for" in error.message
    admit(database, here, caller, 3, NOON + 3600)
    refused(QuotaUsed, lambda: admit(database, here, caller, 1, NOON + 43_199.9))
    admit(database, here, caller, 10, NOON + 43_200)


def test_what_a_limit_refuses_counts_against_none(database: Database) -> None:
    here, caller = of(database), Caller("acme", new(database, daily=5, rate=3)[0])
    admit(database, here, caller, 3)
    for _ in range(3):
        refused(Busy, lambda: admit(database, here, caller, 1, NOON + 1))
    admit(database, here, caller, 2, NOON + 60)
    assert asyncio.run(here.usage(caller, "2026-11-23", "2026-11-23"))["today"]["charged"] in (0, 5)
    with database.transaction() as connection:
        assert usage.charged(connection, caller.key.id if caller.key else "", "2026-11-23") == 5


def test_the_quota_is_given_back_for_what_failed_by_the_services_fault_alone(database: Database) -> None:
    here, key = of(database), new(database, daily=8)[0]
    caller = Caller("acme", key)
    admit(database, here, caller, 8)
    codes = {0: 1024, 1: 1001, 2: 1000, 3: 1027, 4: 2013}
    with database.transaction() as connection:
        jobs.add(connection, job("a" * 32, key, 8))
        lease = leases.Lease("a" * 32, 1)
        for number, code in codes.items():
            assert leases.fail_image(connection, lease, number, code=code, error="x")
        assert leases.end(connection, lease, "cancelled", NOON + DAY)  # it ends on the day after
        assert usage.charged(connection, key.id, "2026-11-23") == 8 - 3
        assert usage.charged(connection, key.id, "2026-11-24") == 0
    refused(QuotaUsed, lambda: admit(database, here, caller, 4))
    admit(database, here, caller, 3)


@pytest.mark.parametrize("limit", ["rate", "daily"])
def test_deleting_jobs_gives_nothing_back(database: Database, limit: str) -> None:
    here, key = of(database), new(database, **{limit: 3})[0]
    caller = Caller("acme", key)
    for name in "abc":
        admit(database, here, caller)
        with database.transaction() as connection:
            jobs.add(connection, job(name * 32, key))
        with database.transaction() as connection:
            assert jobs.start_deleting(connection, name * 32, "acme", NOON) is not None
            jobs.forget(connection, [name * 32])
    refused(Busy if limit == "rate" else QuotaUsed, lambda: admit(database, here, caller))


def test_callers_without_a_key_of_the_database_have_no_limits_and_leave_no_trace(database: Database) -> None:
    here = of(database, api_keys="sk-x")
    for caller in (ANYONE, calls(here, "sk-x")):
        here.check(caller, order(9, width=2048, height=2048))
        for _ in range(20):
            admit(database, here, caller, 9)
    with database.transaction() as connection:
        assert usage.between(connection, "2026-01-01", "2026-12-31") == []


# Many at once


def accepted(database: Database, caller: Caller, times: int, now: Callable[[], float]) -> int:
    """How many of so many calls of a thread are accepted, each with its job."""
    here, count = of(database), 0
    for _ in range(times):
        with suppress(Busy, QuotaUsed), database.transaction() as connection:
            here.admit(connection, caller, order(), now())
            count += 1
    return count


@pytest.mark.parametrize("limit", ["rate", "daily"])
def test_threads_together_never_pass_a_limit_and_reach_it_exactly(database: Database, limit: str) -> None:
    caller = Caller("acme", new(database, **{limit: 17})[0])
    lock, ticks = threading.Lock(), [0]

    def now() -> float:
        with lock:
            ticks[0] += 1
            return NOON + ticks[0] / 1000

    with ThreadPoolExecutor(12) as threads:
        counts = list(threads.map(lambda _: accepted(database, caller, 4, now), range(12)))
    assert sum(counts) == 17


def test_threads_together_never_have_more_jobs_at_once_than_they_may(database: Database) -> None:
    key = new(database, concurrent=5)[0]
    here, caller = of(database), Caller("acme", key)

    def accept(number: int) -> bool:
        with suppress(Busy), database.transaction() as connection:
            here.admit(connection, caller, order(), NOON)
            jobs.add(connection, job(f"{number:032x}", key))
            return True
        return False

    with ThreadPoolExecutor(12) as threads:
        assert sum(threads.map(accept, range(40))) == 5


RACER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from limner.config import Settings
from limner.errors import Busy, QuotaUsed
from limner.models.registry import Registry
from limner.order import Order
from limner.storage import keys
from limner.storage.database import Database
from limner.tenants import Caller, Tenants
url, *key_ids = sys.argv[1:]
database = Database(url)
tenants = Tenants(Settings(), database, Registry.of([]))
with database.transaction(writing=False) as connection:
    callers = [Caller("acme", keys.get(connection, key_id)) for key_id in key_ids]
def race(caller):
    count = 0
    for _ in range(20):
        try:
            with database.transaction() as connection:
                tenants.admit(connection, caller, Order("x", 512, 512), time.time())
            count += 1
        except (Busy, QuotaUsed):
            pass
    return count
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(8) as threads:
    print(*threads.map(race, callers * 4), flush=True)
database.close()
"""


def test_two_processes_together_never_pass_a_limit_and_reach_it_exactly(url: str, database: Database) -> None:
    limited = [new(database, rate=71)[0], new(database, daily=93)[0]]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, url, *(key.id for key in limited)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:  # both have begun by now, and go at once
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    counts = [[int(count) for count in racer.communicate(timeout=60)[0].split()] for racer in racers]
    assert [len(each) for each in counts] == [8, 8]
    assert [sum(sum(each[limit::2]) for each in counts) for limit in (0, 1)] == [71, 93]


# Rates in Valkey


def together(valkey_server: Valkey, work: Callable[[Tenants, Tenants], Awaitable[None]], database: Database) -> None:
    """Run `work` with two services that count in one Valkey."""

    async def main() -> None:
        services = [of(database, limits_url=valkey_server.url) for _ in range(2)]
        try:
            await work(*services)
        finally:
            for service in services:
                await service.close()

    asyncio.run(main())


def test_valkey_counts_the_rate_of_all_processes(valkey_server: Valkey, memory: Database) -> None:
    caller = Caller("acme", new(memory, rate=10)[0])

    async def work(one: Tenants, two: Tenants) -> None:
        results = await asyncio.gather(
            *(service.take(caller, order()) for _ in range(10) for service in (one, two)), return_exceptions=True
        )
        assert results.count(True) == 10
        busy = [error for error in results if isinstance(error, Busy)]
        assert len(busy) == 10
        assert all(0 < error.retry_after <= 60 for error in busy)
        assert await one.take(Caller("acme", new(memory)[0]), order()) is False  # a key without a rate
        assert await one.take(ANYONE, order()) is False

    together(valkey_server, work, memory)
    with memory.transaction() as connection:
        assert connection.execute(select(take_rows)).all() == []


def test_what_valkey_has_counted_is_not_counted_again(valkey_server: Valkey, memory: Database) -> None:
    caller = Caller("acme", new(memory, rate=4, daily=100)[0])

    async def work(one: Tenants, two: Tenants) -> None:
        now = time.time()
        for service in (one, two):
            counted = await service.take(caller, order(2))
            admit(memory, service, caller, 2, now, counted=counted)
        with pytest.raises(Busy):
            await one.take(caller, order())
        assert (await one.usage(caller, *tenants.span(None, None, now)))["today"]["charged"] == 4

    together(valkey_server, work, memory)


def test_nothing_is_taken_in_valkey_where_another_limit_stands_against_it(
    valkey_server: Valkey, memory: Database
) -> None:
    key = new(memory, rate=2, concurrent=1)[0]
    caller = Caller("acme", key)
    with memory.transaction() as connection:
        jobs.add(connection, job("a" * 32, key))

    async def work(one: Tenants, _: Tenants) -> None:
        for _ in range(5):
            with pytest.raises(Busy, match="jobs at once"):
                await one.take(caller, order())
        with memory.transaction() as connection:
            leases.end(connection, leases.Lease("a" * 32, 1), "done", NOON)
        assert await one.take(caller, order(2))

    together(valkey_server, work, memory)


def test_while_valkey_is_away_the_database_counts(
    valkey_server: Valkey, memory: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller("acme", new(memory, rate=2)[0])
    clock = [1000.0]
    monkeypatch.setattr("limner.storage.rates.time.monotonic", lambda: clock[0])

    async def work(one: Tenants, _: Tenants) -> None:
        assert await one.take(caller, order(2))
        valkey_server.daemon.stop()
        try:
            with capture_logs() as logs:
                for _ in range(3):
                    assert await one.take(caller, order()) is False
            assert [line["event"] for line in logs] == ["limits_url cannot be reached; the database counts meanwhile"]
            for _ in range(2):
                admit(memory, one, caller, counted=False)
            refused(Busy, lambda: admit(memory, one, caller, counted=False))
        finally:
            valkey_server.daemon.start()
        assert await one.take(caller, order()) is False  # it is not asked yet
        clock[0] += 5
        assert await one.take(caller, order(2))  # it kept nothing over its restart

    together(valkey_server, work, memory)


@pytest.mark.parametrize("address", ["http://127.0.0.1", "valkey", "valkey://", "memory://x", "valkey://host:port"])
def test_an_address_that_is_no_valkeys_is_refused_with_a_sentence(memory: Database, address: str) -> None:
    with pytest.raises(SettingsInvalid, match="limits_url"):
        of(memory, limits_url=address)


def test_missing_packages_of_valkey_are_named(memory: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "limits", None)
    with pytest.raises(SettingsInvalid, match=r"pip install 'limner\[valkey\]'"):
        of(memory, limits_url="valkey://127.0.0.1:1")


# Usage


def test_usage_is_added_up_by_day_tenant_and_model_over_all_keys(database: Database) -> None:
    with database.transaction() as connection:
        for key in ("", "key_1"):
            for day in ("2026-11-22", "2026-11-23"):
                usage.add(connection, day, "acme", key, "image-01", jobs=1, images=3, cost=2.5, data_bytes=2**40)
                usage.add(connection, day, "acme", key, "image-01", jobs=1, failed=1, charged=4)
        usage.add(connection, "2026-11-23", "other", "", "big", jobs=1)
    with database.transaction(writing=False) as connection:
        mine = usage.between(connection, "2026-11-23", "2026-11-30", "acme")
        assert mine == [usage.Used("2026-11-23", "acme", "image-01", 4, 6, 2, 8, 5.0, 2**41)]
        days = [(row.day, row.tenant) for row in usage.between(connection, "2026-11-01", "2026-11-30")]
        assert days == [("2026-11-22", "acme"), ("2026-11-23", "acme"), ("2026-11-23", "other")]


def test_processes_that_add_to_one_row_lose_nothing(database: Database) -> None:
    def add(_: int) -> None:
        with database.transaction() as connection:
            usage.add(connection, "2026-11-23", "acme", "", "image-01", images=1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(64)))
    with database.transaction(writing=False) as connection:
        assert usage.between(connection, "2026-11-23", "2026-11-23")[0].images == 64


@pytest.mark.parametrize(
    ("first", "last", "span"),
    [
        (None, None, ("2026-11-01", "2026-11-23")),
        ("2026-11-05", None, ("2026-11-05", "2026-11-23")),
        (None, "2026-10-09", ("2026-10-01", "2026-10-09")),
        ("2026-11-23", "2026-11-23", ("2026-11-23", "2026-11-23")),
        ("2025-11-23", "2026-11-23", ("2025-11-23", "2026-11-23")),
    ],
)
def test_a_report_is_of_this_month_unless_it_says_otherwise(
    first: str | None, last: str | None, span: tuple[str, str]
) -> None:
    assert tenants.span(first, last, NOON) == span


@pytest.mark.parametrize(
    ("first", "last"),
    [("2026-11-24", None), ("2025-11-22", None), ("x", None), (None, "2026-02-30"), ("20261101", None), ("", None)],
)
def test_a_span_that_cannot_be_reported_is_told(first: str | None, last: str | None) -> None:
    with pytest.raises(InvalidRequest, match=r"no day: write it as|no span of 1 to 366 days"):
        tenants.span(first, last, NOON)


def test_a_caller_sees_its_tenants_usage_and_its_own_keys_quota(memory: Database) -> None:
    here, now = of(memory), time.time()
    caller = Caller("acme", new(memory, daily=9, rate=5, models=("image-01",))[0])
    admit(memory, here, caller, 4, now)
    admit(memory, here, Caller("acme", new(memory)[0]), 2, now)
    admit(memory, here, Caller("other", new(memory, "other")[0]), 1, now)
    shown = asyncio.run(here.usage(caller, *tenants.span(None, None, now)))
    assert json.loads(json.dumps(shown)) == {
        "tenant": "acme",
        "from": usage.day_of(now)[:8] + "01",
        "to": usage.day_of(now),
        "days": [
            {
                "day": usage.day_of(now),
                "model": "image-01",
                "jobs": 0,
                "images": 0,
                "failed": 0,
                "charged": 6,
                "cost": 0.0,
                "bytes": 0,
            }
        ],
        "limits": {
            "rate": 5,
            "concurrent": None,
            "daily": 9,
            "models": ["image-01"],
            "max_pixels": None,
            "retention": None,
            "expires": None,
        },
        "today": {"charged": 4, "left": 5, "ends": usage.day_ends(now)},
    }
    anyone = asyncio.run(here.usage(ANYONE, *tenants.span(None, None, now)))
    assert (anyone["days"], anyone["today"]["left"], set(anyone["limits"].values())) == ([], None, {None})


def test_a_limit_that_was_lowered_meanwhile_holds_in_the_transaction(memory: Database) -> None:
    key, _ = new(memory, daily=9)
    with memory.transaction() as connection:
        connection.execute(key_rows.update().values(daily=2))
    stale = Caller("acme", replace(key))
    admit(memory, of(memory), stale, 2)
    refused(QuotaUsed, lambda: admit(memory, of(memory), stale))
