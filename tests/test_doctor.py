"""`limner doctor`: each part of a set-up is found good where it is, and wrong with a sentence where it is not."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from typer.testing import CliRunner

from limner import doctor
from limner.cli.doctor import doctor as command
from limner.config import Settings
from limner.doctor import access, storage, work
from limner.doctor.finding import Said
from limner.errors import SettingsInvalid
from limner.storage import keys, migrations
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from parity import stable_diffusion_folder
from servers import S3, Postgres, Valkey


def verdicts(said: Iterator[Said]) -> list[str]:
    return [verdict for verdict, _ in said]


def settings(folder: Path, **fields: Any) -> Settings:
    return Settings(data_dir=folder / "data", **fields)


def secret(text: str) -> SecretStr:
    return SecretStr(text)


def test_a_fresh_set_up_is_fine_and_is_left_as_it_was(tmp_path: Path) -> None:
    found = doctor.examine(settings(tmp_path))
    assert {finding.verdict for finding in found} == {"ok"}
    assert {finding.check for finding in found} == set(doctor.CHECKS)
    assert doctor.as_json(found)["ok"] is True
    assert [path.name for path in (tmp_path / "data").rglob("*")] in ([], ["pictures"])


def test_a_check_that_breaks_down_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_: Settings) -> Iterator[Said]:
        raise ZeroDivisionError

    monkeypatch.setattr(doctor, "CHECKS", {"broken": broken})
    (finding,) = doctor.examine(settings(tmp_path))
    assert (finding.verdict, finding.check) == ("wrong", "broken")
    assert "ZeroDivisionError" in finding.sentence


# The disk


def test_a_data_dir_that_is_a_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert verdicts(storage.of_data_dir(settings(tmp_path))) == ["wrong"]


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
def test_a_data_dir_that_others_can_look_into_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    assert verdicts(storage.of_data_dir(settings(tmp_path))) == ["warning", "ok"]


@pytest.mark.parametrize(("free", "verdict"), [(10**8, "wrong"), (10**9, "warning"), (10**11, "ok")])
def test_a_disk_that_fills_up_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, verdict: str) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, free))
    assert verdicts(storage.of_data_dir(settings(tmp_path))) == [verdict]


# The database


def test_a_database_of_an_earlier_version_is_upgraded_at_the_start_if_it_is_sqlite(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    Database.open(chosen).close()
    (before,) = storage.of_database(chosen)
    assert before[0] == "ok"
    assert migrations.HEAD in before[1]
    Database(f"sqlite:///{tmp_path}/empty.sqlite").close()
    (tmp_path / "empty.sqlite").touch()
    (empty,) = storage.of_database(settings(tmp_path, database_url=f"sqlite:///{tmp_path}/empty.sqlite"))
    assert empty[0] == "ok"
    assert "when the service starts" in empty[1]


def test_sqlite_on_a_network_file_system_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path}/with\\040space nfs4 rw 0 0\nnone {tmp_path} tmpfs rw\n"
    )
    (tmp_path / "with space" / "data").mkdir(parents=True)
    assert storage.file_system(tmp_path / "with space" / "data", mounts) == "nfs4"
    assert storage.file_system(tmp_path / "within", mounts) == "tmpfs"
    assert storage.file_system(Path("/"), mounts) == "ext4"
    assert storage.file_system(tmp_path, tmp_path / "missing") is None
    monkeypatch.setattr(storage, "file_system", lambda _: "nfs4")
    assert verdicts(storage.of_database(settings(tmp_path))) == ["wrong", "ok"]


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite:////dev/null/x.sqlite", "nonsense"])
def test_a_database_that_cannot_be_used_is_wrong(tmp_path: Path, url: str) -> None:
    (tmp_path / "x").write_text("no database at all, but text\n" * 100)
    url = url.replace("/dev/null/x.sqlite", f"{tmp_path}/x")
    said = list(storage.of_database(settings(tmp_path, database_url=url)))
    assert [verdict for verdict, _ in said] == ["wrong"]


def test_postgresql_is_reached_upgraded_and_on_time(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    chosen = settings(tmp_path, database_url=url)
    empty, on_time = storage.of_database(chosen)
    assert empty[0] == "wrong"
    assert "limner db upgrade" in empty[1]
    assert on_time[0] == "ok"
    database = Database(url)
    migrations.upgrade(database)
    database.close()
    assert verdicts(storage.of_database(chosen)) == ["ok", "ok"]
    assert verdicts(storage.of_store(chosen)) == ["ok", "warning"]  # a folder that other machines do not see
    assert verdicts(access.of_webhooks(chosen)) == ["warning"]


def test_a_postgresql_that_is_away_is_wrong_and_its_password_is_not_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"postgresql://me:hush-hush@127.0.0.1:{port}/limner"
    (said,) = storage.of_database(settings(tmp_path, database_url=url))
    assert said[0] == "wrong"
    assert "hush" not in said[1]


@pytest.mark.parametrize(("off", "verdict"), [(0.5, "ok"), (-5.0, "warning"), (3600.0, "wrong")])
def test_clocks_that_are_apart_are_told(off: float, verdict: str) -> None:
    assert storage.clock(off)[0] == verdict


# The store


def test_a_folder_that_cannot_be_written_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert verdicts(storage.of_store(settings(tmp_path, store_url=f"file://{tmp_path}/file/below"))) == ["wrong"]
    assert verdicts(storage.of_store(settings(tmp_path, store_url="ftp://host"))) == ["wrong"]


def test_a_store_that_gives_other_bytes_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Blobs, "get", lambda *_: None)
    assert verdicts(storage.of_store(settings(tmp_path))) == ["wrong"]


def test_links_of_a_folder_are_wrong(tmp_path: Path) -> None:
    assert verdicts(storage.of_store(settings(tmp_path, links="store"))) == ["wrong", "ok"]


def test_s3_is_probed_and_its_signed_links_are_fetched(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    fields: dict[str, Any] = {"store_options": s3.store_options(), "links": "store"}
    chosen = settings(tmp_path, store_url=s3.store_url("doctor"), **fields)
    assert verdicts(storage.of_store(chosen)) == ["ok", "ok"]
    assert list(Blobs.open(chosen).names(0)) == []
    long = settings(tmp_path, store_url=s3.store_url("doctor"), link_seconds=10 * 86400.0, **fields)
    assert verdicts(storage.of_store(long)) == ["ok", "ok", "warning"]
    monkeypatch.setattr(Blobs, "link", lambda *_: f"{s3.store_options()['endpoint']}/pictures/doctor/unsigned")
    assert verdicts(storage.of_store(chosen)) == ["wrong", "ok"]
    monkeypatch.setattr(Blobs, "link", lambda *_: "http://127.0.0.1:9/")
    assert verdicts(storage.of_store(chosen)) == ["warning", "ok"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert verdicts(storage.of_store(chosen)) == ["wrong"]


def test_valkey_is_asked(valkey_server: Valkey, tmp_path: Path) -> None:
    assert verdicts(storage.of_limits(settings(tmp_path, limits_url=valkey_server.url))) == ["ok"]
    assert verdicts(storage.of_limits(settings(tmp_path, limits_url="valkey://127.0.0.1:9"))) == ["wrong"]
    assert verdicts(storage.of_limits(settings(tmp_path, limits_url="http://127.0.0.1:9"))) == ["wrong"]


# Who reaches it


def test_keys_are_asked_for_where_others_can_reach_the_service(tmp_path: Path) -> None:
    assert verdicts(access.of_keys(settings(tmp_path))) == ["ok"]
    assert verdicts(access.of_keys(settings(tmp_path, host="0.0.0.0", api_keys="k" * 40))) == ["ok"]
    assert verdicts(access.of_keys(settings(tmp_path, host="0.0.0.0", api_keys="short"))) == ["warning", "ok"]
    open_to_all = settings(tmp_path).model_copy(update={"host": "0.0.0.0"})
    assert verdicts(access.of_keys(open_to_all)) == ["wrong"]
    database = Database.open(settings(tmp_path))
    assert verdicts(access.of_keys(open_to_all)) == ["wrong"]
    with database.transaction() as connection:
        now = time.time()
        keys.create(connection, "team", keys.Limits(), now, expires=now + 86400)
    database.close()
    assert verdicts(access.of_keys(open_to_all)) == ["warning", "ok"]


def pem(path: Path, days: float) -> Path:
    """A self-made certificate that ends in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=100)).not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.with_suffix(".key").write_bytes(key.private_bytes(*plain))
    return path


@pytest.mark.parametrize(("days", "verdict"), [(300, "ok"), (5, "warning"), (-1, "wrong")])
def test_a_certificate_is_looked_at_for_its_end(tmp_path: Path, days: float, verdict: str) -> None:
    path = pem(tmp_path / "c.pem", days)
    chosen = settings(tmp_path, tls_certificate=path, tls_key=path.with_suffix(".key"))
    assert verdicts(access.of_address(chosen)) == ["ok", verdict]


@pytest.mark.parametrize(
    ("host", "public_url", "tls", "verdict"),
    [
        ("127.0.0.1", None, False, "ok"),
        ("0.0.0.0", None, False, "warning"),
        ("0.0.0.0", "https://pictures.example.com", False, "ok"),
        ("0.0.0.0", "http://pictures.example.com", False, "warning"),
        ("0.0.0.0", None, True, "ok"),
        ("0.0.0.0", "http://pictures.example.com", True, "wrong"),
    ],
)
def test_an_address_in_clear_text_or_that_contradicts_itself_is_told(
    tmp_path: Path, host: str, public_url: str | None, tls: bool, verdict: str
) -> None:
    path = pem(tmp_path / "c.pem", 300)
    with_tls = {"tls_certificate": path, "tls_key": path.with_suffix(".key")} if tls else {}
    chosen = settings(tmp_path, host=host, public_url=public_url, api_keys="k" * 40, **with_tls)
    assert next(access.of_address(chosen))[0] == verdict


def test_more_connections_than_files_can_be_open_is_a_warning(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert verdicts(access.of_files(settings(tmp_path))) == ["ok"]
    if hard != resource.RLIM_INFINITY:
        assert verdicts(access.of_files(settings(tmp_path, max_connections=hard))) == ["warning"]


def test_a_secret_of_webhooks_that_could_be_guessed_is_wrong(tmp_path: Path) -> None:
    assert verdicts(access.of_webhooks(settings(tmp_path))) == ["ok"]
    assert verdicts(access.of_webhooks(settings(tmp_path, webhook_secret="s" * 30))) == ["ok"]
    short = settings(tmp_path).model_copy(update={"webhook_secret": secret("short")})
    assert verdicts(access.of_webhooks(short)) == ["wrong"]


# What it works with


def test_models_that_cannot_be_painted_with_are_wrong(tmp_path: Path) -> None:
    assert verdicts(work.of_models(settings(tmp_path))) == ["ok"]
    (tmp_path / "not-a-model").mkdir()
    broken = settings(tmp_path, models={"mine": str(tmp_path / "not-a-model")})
    assert sorted(verdicts(work.of_models(broken))) == ["ok", "wrong"]
    (tmp_path / "models.toml").write_text("[oops")
    assert verdicts(work.of_models(settings(tmp_path, models_file=tmp_path / "models.toml"))) == ["wrong"]


def test_a_model_is_weighed_and_needs_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stable_diffusion_folder(tmp_path / "model")
    models = {"mine": str(tmp_path / "model")}
    assert verdicts(work.of_models(settings(tmp_path, models=models))) == ["ok", "ok"]
    small = settings(tmp_path, models=models, memory_gb=1e-6)
    assert sorted(verdicts(work.of_models(small))) == ["ok", "warning"]
    monkeypatch.setattr(work, "find_spec", lambda _: None)
    assert sorted(verdicts(work.of_models(settings(tmp_path, models=models)))) == ["ok", "wrong"]


def test_more_memory_or_threads_than_there_are_is_a_warning(tmp_path: Path) -> None:
    assert verdicts(work.of_memory(settings(tmp_path))) == ["ok"]
    assert verdicts(work.of_memory(settings(tmp_path, memory_gb=1e6))) == ["warning"]
    assert verdicts(work.of_memory(settings(tmp_path, threads=10_000))) == ["warning"]


def test_a_policy_that_cannot_be_read_is_wrong(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[[rule]]\nname = 'r'\nterms = ['forbidden']\n")
    assert verdicts(work.of_policy(settings(tmp_path, policy_file=policy))) == ["ok"]
    policy.write_text("[moderation]\nurl = 'http://127.0.0.1:9/v1'\n")
    assert verdicts(work.of_policy(settings(tmp_path, policy_file=policy))) == ["ok", "warning"]
    policy.write_text("[[rule]]\nunknown = 1\n")
    assert verdicts(work.of_policy(settings(tmp_path, policy_file=policy))) == ["wrong"]


def test_a_signer_that_cannot_sign_is_wrong(tmp_path: Path) -> None:
    path = pem(tmp_path / "c.pem", 300)  # no certificate that may sign content credentials
    chosen = settings(tmp_path, c2pa_certificate=path, c2pa_key=path.with_suffix(".key"))
    assert verdicts(work.of_provenance(chosen)) == ["wrong"]
    assert verdicts(work.of_provenance(settings(tmp_path))) == ["ok"]


def test_other_services_are_knocked_at(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        there = settings(
            tmp_path, optimizer_url=f"http://127.0.0.1:{port}/v1", tracing_url=f"http://127.0.0.1:{port}/t"
        )
        assert verdicts(work.of_endpoints(there)) == ["ok", "ok"]
    assert verdicts(work.of_endpoints(there)) == ["warning", "warning"]


def test_tracing_without_its_packages_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(_: Settings) -> None:
        raise SettingsInvalid("install it")

    monkeypatch.setattr(work.tracing, "start", missing)
    assert list(work.of_endpoints(settings(tmp_path, tracing_url="http://127.0.0.1:9/t"))) == [("wrong", "install it")]


@pytest.mark.parametrize(
    "fields",
    [
        {"request_seconds": 5.0},
        {"lease_seconds": 1.0},
        {"storage_seconds": 400.0},
        {"link_seconds": 30.0, "idempotency_seconds": 30.0},
        {"link_seconds": 3600.0},
        {"queue_limit": 4},
        {"max_body_bytes": 2**20},
    ],
)
def test_values_that_do_not_go_together_are_a_warning(tmp_path: Path, fields: dict[str, Any]) -> None:
    said = verdicts(work.of_times(settings(tmp_path, **fields)))
    assert said
    assert set(said) == {"warning"}


def test_values_that_go_together_are_fine(tmp_path: Path) -> None:
    assert verdicts(work.of_times(settings(tmp_path))) == ["ok"]


# The command


@pytest.fixture
def cli() -> Iterator[Any]:
    """Runs the command with variables and arguments; the logging of before is put back."""
    import typer

    app = typer.Typer(add_completion=False)
    app.command()(command)
    root = logging.getLogger()
    before = root.handlers, root.level
    yield lambda arguments, **variables: CliRunner().invoke(app, arguments, env=variables)
    root.handlers, root.level = before


def test_the_command_prints_a_line_a_finding_and_exits_by_what_it_found(cli: Any, tmp_path: Path) -> None:
    fine = cli([], LIMNER_DATA_DIR=str(tmp_path / "data"))
    assert fine.exit_code == 0, fine.output
    assert all(line.startswith("ok  ") for line in fine.stdout.splitlines())
    (tmp_path / "file").write_text("")
    bad = cli(["--json"], LIMNER_DATA_DIR=str(tmp_path / "file"), LIMNER_API_KEYS="whispered-key")
    assert bad.exit_code == 1
    report = json.loads(bad.stdout)
    assert report["ok"] is False
    assert {finding["check"] for finding in report["findings"] if finding["verdict"] == "wrong"} >= {"data_dir"}
    assert "whispered" not in bad.output


def test_settings_that_cannot_be_read_are_the_one_finding(cli: Any) -> None:
    bad = cli([], LIMNER_PORT="many")
    assert bad.exit_code == 1
    assert bad.stdout.startswith("wrong    settings     LIMNER_PORT cannot be used")
