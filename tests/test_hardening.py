"""Pages of other sites, headers, names that lie, the log, and the licences of what is installed."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import structlog
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import Server
from limner import logs
from limner.api import browsers
from limner.config import Settings

# Pages of other sites

STRANGE = [
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "a b",
    "[::1",
    "limner",
]
KNOWN = ["127.0.0.1", "127.0.0.1:1", "localhost", "LocalHost:3000", "localhost.", "a.localhost", "[::1]:8000",
         "192.168.1.7:8000", "host.docker.internal:8000"]  # fmt: skip


def test_without_keys_a_name_that_may_be_a_strangers_is_refused(server: Server) -> None:
    for host in KNOWN:
        assert server.client.get("/v1/models", headers={"Host": host}).json()["object"] == "list", host
    for host in STRANGE:
        for reply in (server.client.get("/v1/models", headers={"Host": host}), server.paint({"Host": host})):
            assert reply.json()["base_resp"]["status_code"] == 1004, host
            assert "public_url" in reply.json()["base_resp"]["status_msg"]


def test_the_public_url_is_a_known_name(serve: Any) -> None:
    server = serve(public_url="https://pictures.example/limner")
    assert server.client.get("/v1/models", headers={"Host": "pictures.example"}).json()["object"] == "list"
    assert "base_resp" in server.client.get("/v1/models", headers={"Host": "example"}).json()


def test_with_keys_any_name_will_do(serve: Any) -> None:
    server = serve(api_keys="right")
    headers = {"Host": "evil.example", "Origin": "https://evil.example", "Authorization": "Bearer right"}
    assert server.client.get("/v1/models", headers=headers).json()["object"] == "list"
    assert server.client.get("/v1/jobs", headers=headers).status_code == 200


def test_without_keys_only_minimaxs_routes_are_for_pages_of_other_sites(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    guarded = {path for path, methods in document["paths"].items() for what in methods.values() if "security" in what}
    assert guarded > {"/v1/jobs", "/v1/pictures", "/v1/usage", "/v1/webhook_secret", *browsers.OPEN[3:]}
    for path in guarded:
        method = "GET" if "get" in document["paths"][path] else "POST"
        reply = server.client.request(method, path, headers={"Origin": "https://evil.example"})
        assert (reply.status_code == 403) == (not path.startswith(browsers.OPEN)), path
    for path in ("/v1/jobs", f"/v1/jobs/{'0' * 32}", "/v1/usage", "/v1/webhook_secret"):
        for origin in ("https://evil.example", "null", "http://203.0.113.5", "http://localhost.evil.example", "x"):
            reply = server.client.get(path, headers={"Origin": origin})
            assert reply.json()["base_resp"]["status_code"] == 1004, (path, origin)
            assert "pages of other sites" in reply.json()["base_resp"]["status_msg"]
        for origin in ("http://localhost:3000", "http://127.0.0.1:9", server.url):
            assert server.client.get(path, headers={"Origin": origin}).status_code in (200, 404), (path, origin)
        assert server.client.get(path).status_code in (200, 404)
    assert (
        server.paint({"Origin": "https://page.example"}).json()["base_resp"]["status_code"] == 0
    )  # as the contract has


def test_an_origin_that_the_operator_names_may_see_jobs(serve: Any) -> None:
    server = serve(cors_origin="https://studio.example")
    assert server.client.get("/v1/jobs", headers={"Origin": "https://studio.example"}).status_code == 200
    assert server.client.get("/v1/jobs", headers={"Origin": "https://other.example"}).status_code == 403


# Headers


def test_every_reply_says_what_browsers_may_do_with_it(server: Server) -> None:
    link = server.paint(response_format="url").json()["data"]["image_urls"][0]
    api = [server.paint(), server.paint(n=10), server.client.get("/v1/models"), server.client.get("/nowhere"),
           server.client.get("/openapi.json"), server.client.get("/healthz")]  # fmt: skip
    page, picture = server.client.get("/docs"), server.client.get(link)
    for reply in (*api, page, picture):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert len(reply.headers.get_list("x-content-type-options")) == 1
    for reply in api:
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert picture.headers["cross-origin-resource-policy"] == "cross-origin"
    assert picture.headers["cache-control"].startswith("private, max-age=")


def test_the_docs_page_runs_its_own_script_and_style_alone(server: Server) -> None:
    page = server.client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert (
        len(re.findall(r"'sha256-[A-Za-z0-9+/]{43}='", policy)) == len(re.findall("<(?:script|style)", page.text)) == 2
    )
    assert not re.search(r"<[^>]+\s(on\w+|style)\s*=", page.text)  # no hash would cover these


# What callers write never becomes a path, a header or a line of the log

NASTY = [
    "%2e%2e", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "/etc/passwd", "a\\..\\b", "x%00.jpeg",
    "%0d%0aX:%20y", "A" * 32 + ".jpeg%0d%0aX-Evil:%20y", "A" * 32 + ".jpeg/../x", "A" * 4000,
]  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_no_name_in_a_path_becomes_a_path_or_a_header(server: Server, name: str) -> None:
    for route in ("/files/", "/v1/models/", "/v1/jobs/"):
        for method in ("GET", "DELETE"):
            reply = server.client.request(method, route + name)
            assert reply.status_code in (400, 404, 405), (route, reply.text)
            assert "x-evil" not in reply.headers
            assert "root:" not in reply.text


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_of_the_log_is_one_line_whatever_a_caller_wrote(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    before, handlers, level = structlog.get_config(), logging.getLogger().handlers, logging.getLogger().level
    try:
        logs.configure(Settings(log_format=form))
        structlog.get_logger("limner").info("request", field="a\n2026 [info] forged\r\x1b[31m", other="x\u2028y")
        logging.getLogger("another.package").warning("a %s", "b\n2026 [info] forged")
    finally:
        structlog.configure(**before)
        logging.getLogger().handlers = handlers
        logging.getLogger().setLevel(level)
    lines = written.getvalue().splitlines()
    assert len(lines) == 2, lines
    assert "\x1b[31m" not in written.getvalue()


# What is installed

COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)


def licence(package: str) -> str:
    """What a distribution says of its licence: the expression, the field and the classifiers."""
    about = metadata.metadata(package)
    fields = [about.get("License-Expression"), (about.get("License") or "")[:200]]
    return "; ".join(
        [*(field for field in fields if field), *(c for c in about.get_all("Classifier") or () if "Licen" in c)]
    )


def required(package: str, extra: str = "") -> set[str]:
    """The distributions that an install of `package[extra]` brings on this machine, those of its own among them."""
    found: set[str] = set()
    waiting = [(package, extra)]
    while waiting:
        name, wanted = waiting.pop()
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": wanted}):
                key = canonicalize_name(need.name)
                if key not in found:
                    found.add(key)
                    waiting += [(key, part) for part in ("", *need.extras)]
    return found


def test_nothing_that_is_installed_to_run_has_a_licence_that_binds_its_users() -> None:
    declared = metadata.metadata("limner").get_all("Provides-Extra") or []
    for extra in ("", *(name for name in declared if name not in ("test", "train"))):
        for name in required("limner", extra):
            try:
                said = licence(name)
            except metadata.PackageNotFoundError:
                continue
            assert said, f"{name} names no licence"
            lesser = re.sub(r"(?i)lesser general public|LGPL", "lesser", said)
            assert not COPYLEFT.search(lesser), f"{name}: {said}"
            assert "lesser" not in lesser or name.startswith("psycopg"), f"{name}: {said}"


FLAW = {"id": "PYSEC-1", "fix_versions": ["2"]}


@pytest.mark.parametrize(
    ("answer", "code", "word"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "0 advisories against 1"),
        (
            json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": [FLAW]}]}),
            1,
            "a 1: PYSEC-1; mended in 2",
        ),
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', 2, "1 of 1 versions could not be looked up"),
        ('{"dependencies": []}', 2, "0 versions"),
        ("", 2, "No version was looked up"),
    ],
)
def test_an_audit_passes_only_where_every_version_was_looked_up(
    answer: str, code: int, word: str, tmp_path: Path
) -> None:
    (tmp_path / "pip_audit.py").write_text(f"print({answer!r})")
    script = Path(__file__).parents[1] / "scripts" / "audit.py"
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)}
    )
    assert done.returncode == code, done.stderr
    assert word in done.stdout


def test_the_threat_model_names_files_that_are_there() -> None:
    root = Path(__file__).parents[1]
    named = set(re.findall(r"[\w/]+\.(?:py|md)|(?<=[ ,])[a-z]+/(?=[ ,:|])", (root / "SECURITY.md").read_text("utf-8")))
    assert {"api/connections.py", "test_fetch.py", "safety/", "corpus/"} <= named
    places = (root / "src/limner", root / "tests", root)
    assert {name for name in named if not any((place / name).exists() for place in places)} == set()
