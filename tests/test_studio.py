"""The studio's files as they are served: what, to whom, under which policy, and how large."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Server, serving
from limner.api import studio
from servers import S3

Serve = Callable[..., Server]

FILES = sorted(studio.files())
LARGEST = 100_000
"""Bytes of all files together, as they are sent to a browser."""


def test_every_file_of_the_studio_is_one_that_is_served() -> None:
    there = {path.relative_to(studio.FOLDER).as_posix() for path in studio.FOLDER.rglob("*") if path.is_file()}
    assert there == set(FILES)
    assert {studio.PAGE, studio.ICON, "main.js", "words.js"} <= there


def test_the_page_is_at_the_root_and_needs_no_key(serve: Serve) -> None:
    server = serve(api_keys="sk-api-right")
    page = server.client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.content == (studio.FOLDER / "index.html").read_bytes()
    assert "sk-api-right" not in page.text


@pytest.mark.parametrize("name", FILES)
def test_a_file_comes_with_its_type_and_is_not_sent_twice(server: Server, name: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    got = server.client.get(f"/studio/{name}", headers=plain)
    assert got.status_code == 200
    assert got.content == (studio.FOLDER / name).read_bytes()
    assert got.headers["content-type"] == studio.TYPES[Path(name).suffix]
    assert got.headers["cache-control"] == "no-cache"
    head = server.client.head(f"/studio/{name}", headers=plain)
    assert head.content == b""
    for key in ("etag", "content-length", "content-type", "vary"):
        assert head.headers[key] == got.headers[key]
    for held in (got.headers["etag"], f'W/{got.headers["etag"]}, "other"'):
        again = server.client.get(f"/studio/{name}", headers=plain | {"If-None-Match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", got.headers["etag"])
    assert server.client.get(f"/studio/{name}", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", FILES)
def test_a_file_comes_packed_to_who_takes_that(server: Server, name: str) -> None:
    with server.client.stream("GET", f"/studio/{name}", headers={"Accept-Encoding": "gzip, br"}) as reply:
        packed = b"".join(reply.iter_raw())
    assert gzip.decompress(packed) == (studio.FOLDER / name).read_bytes()
    assert int(reply.headers["content-length"]) == len(packed)
    assert (reply.headers["content-encoding"], reply.headers["vary"]) == ("gzip", "Accept-Encoding")
    plain = server.client.head(f"/studio/{name}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.headers["etag"] != reply.headers["etag"]
    for accepted, status in (("gzip", 304), ("identity", 200)):
        headers = {"Accept-Encoding": accepted, "If-None-Match": reply.headers["etag"]}
        assert server.client.get(f"/studio/{name}", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("GZIP;q=1.0", True),
        ("br, gzip ; q=0.5, *", True),
        ("gzip;q=0.001", True),
        ("", False),
        ("*", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("br, deflate", False),
        ("xgzip, gzipx", False),
    ],
)
def test_accept_encoding_is_read_as_http_defines_it(accepted: str, packed: bool) -> None:
    assert studio.takes_gzip(accepted) == packed


@pytest.mark.parametrize(
    "name", ["", "%2e%2e", "%2e%2e/service.py", "..%2fservice.py", "words", "/etc/passwd", "x%00.js", "%ff", "x.js"]
)
def test_another_name_is_no_file(server: Server, name: str) -> None:
    reply = server.client.get(f"/studio/{name}")
    assert (reply.status_code, reply.text) == (404, "404 page not found")


def test_the_page_lets_nothing_in_but_itself(server: Server) -> None:
    headers = server.client.get("/").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' blob: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_pictures_behind_another_address_may_be_shown(serve: Serve) -> None:
    policy = serve(public_url="https://pictures.example.org/limner").client.get("/").headers["content-security-policy"]
    assert "img-src 'self' https://pictures.example.org blob: data:;" in policy
    assert "connect-src 'self' https://pictures.example.org;" in policy
    assert "script-src 'self';" in policy


def test_pictures_that_the_store_hands_out_may_be_shown(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    with serving(tmp_path, store_url=s3.store_url("studio"), store_options=s3.store_options(), links="store") as server:
        link = server.paint(response_format="url").json()["data"]["image_urls"][0]
        origin = re.match("https?://[^/]+", link)
        assert origin is not None
        assert origin[0] != server.url
        assert f"img-src 'self' {origin[0]} blob:" in server.client.get("/").headers["content-security-policy"]


def test_the_icon_is_where_browsers_look_for_it(server: Server) -> None:
    for path in ("/favicon.ico", "/studio/icon.svg"):
        reply = server.client.get(path)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "image/svg+xml")


def test_an_operator_can_do_without_it(serve: Serve) -> None:
    server = serve(studio=False)
    for path in ("/", "/studio/main.js", "/favicon.ico"):
        assert (server.client.get(path).status_code, server.client.get(path).text) == (404, "404 page not found")
    assert server.paint().json()["base_resp"]["status_code"] == 0


def test_all_files_together_are_small() -> None:
    assert sum(len(file.packed) for file in studio.files().values()) < LARGEST


def texts() -> Iterator[tuple[str, str]]:
    for name in FILES:
        yield name, (studio.FOLDER / name).read_text("utf-8")


def test_nothing_of_it_is_inline_or_from_elsewhere() -> None:
    allowed = {"http://www.w3.org/2000/svg"}
    for name, text in texts():
        assert set(re.findall(r"https?://[\w.-]+[\w./-]*", text)) <= allowed | LINKS_SHOWN.get(name, set()), name
        if name.endswith(".html"):
            assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", text, re.IGNORECASE)
        if name.endswith(".js"):
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


LINKS_SHOWN: dict[str, set[str]] = {}
"""Addresses that the reader may see, as examples, by file."""


def test_every_module_that_is_imported_is_there_and_every_one_there_is_used() -> None:
    imported = {"main.js"}
    for name, text in texts():
        if name.endswith(".js"):
            for path in re.findall(r"""(?:from|import)\s*\(?["'](\.[^"']+)["']""", text):
                target = (studio.FOLDER / name).parent.joinpath(path).resolve()
                imported.add(target.relative_to(studio.FOLDER.resolve()).as_posix())
    assert imported == {name for name in FILES if name.endswith(".js")}
