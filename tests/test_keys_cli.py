"""`limner keys` and `limner usage`, as an operator types them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from limner import webhooks
from limner.cli.keys import keys, usage
from limner.config import Settings
from limner.errors import InvalidKey
from limner.models.registry import Registry
from limner.storage import keys as key_rows
from limner.storage import migrations
from limner.storage import usage as usage_rows
from limner.storage.database import Database
from limner.storage.keys import Limits
from limner.tenants import Caller, Tenants
from servers import Postgres

app = typer.Typer(pretty_exceptions_enable=False)
app.add_typer(keys, name="keys")
app.command()(usage)

Limner = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "limner.toml"
    file.write_text(f'data_dir = "{tmp_path / "data"}"\n')
    return file


@pytest.fixture
def limner(config: Path) -> Limner:
    def run(*words: str) -> Result:
        return CliRunner(env={"TERMINAL_WIDTH": "200"}).invoke(app, [*words, "--config", str(config)])

    return run


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refusal(result: Result) -> str:
    assert result.exit_code == 2
    assert result.stdout == ""
    return " ".join(result.stderr.replace("│", " ").split())


def caller(config: Path, secret: str) -> Caller:
    """Who a service with the same settings takes the bearer for."""
    folder = config.parent / "data"
    with closing(Database.open(Settings(data_dir=folder))) as database:
        return asyncio.run(Tenants(Settings(), database, Registry.of([])).caller(f"Bearer {secret}"))


def test_a_key_is_printed_once_and_works_with_all_that_was_said(limner: Limner, config: Path) -> None:
    before = time.time()
    made = told(
        limner(
            "keys", "create", "acme", "--rate", "10", "--concurrent", "2", "--daily", "100", "--model", "image-01",
            "--model", "image-01-live", "--model", "image-01", "--max-size", "1024x768", "--retention", "7d",
            "--expires", "30d", "--note", "the shop", "--json",
        )
    )  # fmt: skip
    key = caller(config, made["key"]).key
    assert key is not None
    assert (key.id, key.tenant, key.note) == (made["id"], "acme", "the shop")
    assert key.limits == Limits(10, 2, 100, ("image-01", "image-01-live"), 1024 * 768, 7 * 86_400.0)
    assert key.expires is not None
    assert before + 30 * 86_400 <= key.expires <= time.time() + 30 * 86_400
    assert made["webhook_secret"] == webhooks.secret(Settings(data_dir=config.parent / "data"), "acme")
    for words in (("keys", "list"), ("keys", "list", "--json"), ("usage",), ("keys", "revoke", key.id)):
        result = limner(*words)
        assert made["key"][10:] not in result.output
        assert made["webhook_secret"] not in result.output
    stored = b"".join(file.read_bytes() for file in (config.parent / "data").iterdir())
    assert made["key"][:10].encode() in stored
    assert made["key"][10:].encode() not in stored


def test_the_key_stands_alone_on_its_line_and_advice_on_standard_error(limner: Limner, config: Path) -> None:
    result = limner("keys", "create", "acme")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["key", "webhooks"]
    assert caller(config, lines[0].split()[1]).tenant == "acme"
    assert "not shown again" in result.stderr
    assert "lk-" not in result.stderr


def test_a_key_can_end_on_a_day(limner: Limner, config: Path) -> None:
    key = caller(config, told(limner("keys", "create", "acme", "--expires", "2999-01-01", "--json"))["key"]).key
    assert key is not None
    assert key.expires == 32_472_144_000.0
    assert key.limits == Limits()


def test_keys_are_listed_oldest_first_with_state_and_limits(limner: Limner) -> None:
    first = told(limner("keys", "create", "acme", "--rate", "3", "--retention", "36h", "--max-size", "10x10", "--json"))
    second = told(limner("keys", "create", "other", "--expires", "2999-01-01", "--json"))
    third = told(limner("keys", "create", "acme", "--json"))
    limner("keys", "revoke", third["id"])
    limner("keys", "rotate", first["id"])
    listed = told(limner("keys", "list", "--json"))
    assert [(key["id"], key["state"]) for key in listed] == [
        (first["id"], "valid"),
        (second["id"], "valid"),
        (third["id"], "revoked"),
    ]
    assert listed[0]["limits"]["rate"] == 3
    assert not {"digest", "old_digest", "key"} & listed[0].keys()
    assert [key["id"] for key in told(limner("keys", "list", "--tenant", "other", "--json"))] == [second["id"]]
    table = limner("keys", "list").stdout
    for text in (first["id"], "3/min, 100 px, kept 36h", "until 2999-01-01", "revoked", "the one before until", "none"):
        assert text in table


def test_a_revoked_key_stops_and_stays_in_the_list(limner: Limner, config: Path) -> None:
    made = told(limner("keys", "create", "acme", "--json"))
    assert limner("keys", "revoke", made["id"]).stdout == f"{made['id']} of acme works no more.\n"
    with pytest.raises(InvalidKey, match="revoked"):
        caller(config, made["key"])
    assert "is revoked; make a new key" in refusal(limner("keys", "rotate", made["id"]))
    assert told(limner("keys", "list", "--json"))[0]["shown"] == made["key"][:10]


@pytest.mark.parametrize(("keep", "works"), [((), True), (("--keep", "90s"), True), (("--keep", "0"), False)])
def test_a_rotated_key_has_a_new_secret_and_the_old_one_works_for_a_while(
    limner: Limner, config: Path, keep: tuple[str, ...], works: bool
) -> None:
    made = told(limner("keys", "create", "acme", "--rate", "3", "--json"))
    rotated = told(limner("keys", "rotate", made["id"], *keep, "--json"))
    assert (rotated["id"], rotated["tenant"], rotated["webhook_secret"]) == (
        made["id"],
        "acme",
        made["webhook_secret"],
    )
    key = caller(config, rotated["key"]).key
    assert key is not None
    assert key.limits.rate == 3
    if works:
        assert caller(config, made["key"]).key == key
    else:
        with pytest.raises(InvalidKey):
            caller(config, made["key"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("create", "a b"), "1 to 64 letters"),
        (("create", ""), "1 to 64 letters"),
        (("create", "acme", "--rate", "0"), "--rate"),
        (("create", "acme", "--daily", "many"), "--daily"),
        (("create", "acme", "--model", "image-02"), "The models are image-01, image-01-live."),
        (("create", "acme", "--max-size", "1024"), "1024 is no size; write it as 1024x1024."),
        (("create", "acme", "--max-size", "0x1024"), "is no size"),
        (("create", "acme", "--retention", "7"), "7 is no length of time; write it as 90s, 30m, 24h or 7d."),
        (("create", "acme", "--retention", "0d"), "is no length of time"),
        (("create", "acme", "--expires", "2020-01-01"), "2020-01-01 is over already."),
        (("create", "acme", "--expires", "soon"), "soon is no length of time"),
        (("create", "acme", "--note", "a\nb"), "200 printable characters"),
        (("create", "acme", "--note", "a" * 201), "200 printable characters"),
        (("revoke", "key_0"), "There is no key 'key_0'; limner keys list shows them."),
        (("rotate", "key_0"), "There is no key 'key_0'"),
        (("rotate", "key_0", "--keep", "long"), "long is no length of time"),
    ],
)
def test_what_cannot_be_is_told_and_makes_no_key(limner: Limner, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(limner("keys", *words))
    assert told(limner("keys", "list", "--json")) == []


def test_a_key_can_be_made_for_a_service_that_will_not_start_without_one(limner: Limner, config: Path) -> None:
    config.write_text(config.read_text() + 'host = "0.0.0.0"\n')
    assert told(limner("keys", "create", "acme", "--json"))["tenant"] == "acme"


def test_usage_is_printed_for_people_and_for_programs(limner: Limner, config: Path) -> None:
    settings = Settings(data_dir=config.parent / "data")
    with closing(Database.open(settings)) as database, database.transaction() as connection:
        for day in ("2026-10-31", "2026-11-01", "2026-11-30"):
            for tenant in ("acme", "other"):
                amounts = {"jobs": 1, "images": 2, "failed": 1, "cost": 3.0, "data_bytes": 40, "charged": 3}
                usage_rows.add(connection, day, tenant, "", "image-01", **amounts)
    november = ("usage", "--from", "2026-11-01", "--to", "2026-11-30")
    rows = told(limner(*november, "--json"))
    assert [(row["day"], row["tenant"]) for row in rows] == [
        (day, tenant) for day in ("2026-11-01", "2026-11-30") for tenant in ("acme", "other")
    ]
    assert rows[0] == {
        "day": "2026-11-01",
        "tenant": "acme",
        "model": "image-01",
        "jobs": 1,
        "images": 2,
        "failed": 1,
        "charged": 3,
        "cost": 3.0,
        "bytes": 40,
    }
    assert [row["tenant"] for row in told(limner(*november, "--tenant", "other", "--json"))] == ["other", "other"]
    written = list(csv.DictReader(io.StringIO(limner(*november, "--csv").stdout)))
    assert written == [{name: str(value) for name, value in row.items()} for row in rows]
    table = limner(*november).stdout.splitlines()
    assert table[0].split() == [*rows[0]]
    assert table[1].split() == ["2026-11-01", "acme", "image-01", "1", "2", "1", "3", "3", "40"]
    assert "not both" in refusal(limner("usage", "--json", "--csv"))
    assert "from is no day" in refusal(limner("usage", "--from", "yesterday"))


def test_a_postgresql_that_was_not_set_up_is_told_and_one_that_was_is_used(
    limner: Limner, config: Path, postgres: Postgres
) -> None:
    url = postgres.new_database()
    config.write_text(config.read_text() + f'database_url = "{url}"\n')
    assert "limner db upgrade" in refusal(limner("keys", "create", "acme"))
    with closing(Database(url)) as database:
        migrations.upgrade(database)
    made = told(limner("keys", "create", "acme", "--json"))
    with closing(Database(url)) as database, database.transaction() as connection:
        found = key_rows.find(connection, made["key"], time.time())
        assert found is not None
        assert found.id == made["id"]
    postgres.drop(url)


def test_no_key_is_printed_where_it_could_not_be_stored(
    limner: Limner, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limner("keys", "list")
    folder = config.parent / "data"
    blocker = Database.open(Settings(data_dir=folder))
    monkeypatch.setattr("limner.storage.database.BUSY_SECONDS", 0.1)
    with closing(blocker), blocker.transaction():  # somebody else writes, and does not end
        result = limner("keys", "create", "acme")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "database" in result.stderr
