"""The links: what they give, to whom, for how long."""

from __future__ import annotations

import base64
import io
import re
import threading
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from conftest import Server, wait_for
from limner import imaging
from limner.api.files import preferred

Serve = Callable[..., Server]


def link(server: Server, **fields: Any) -> str:
    reply = server.paint(**{"response_format": "url", "seed": 3, "aspect_ratio": "16:9", **fields})
    (url,) = reply.json()["data"]["image_urls"]
    return str(url)


def test_row_10_a_link_ends_in_jpeg_and_gives_a_jpeg_with_its_exact_length(server: Server) -> None:
    url = link(server)
    assert re.fullmatch(rf"http://127\.0\.0\.1:{server.port}/files/[A-Za-z0-9_-]{{32}}\.jpeg", url)
    reply = server.client.get(url)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/jpeg"
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.headers["x-content-type-options"] == "nosniff"
    with Image.open(io.BytesIO(reply.content)) as image:
        assert (image.format, image.size) == ("JPEG", (1280, 720))


def test_row_10_the_file_is_the_picture_that_base64_would_have_given(server: Server) -> None:
    (text,) = server.paint(seed=3, aspect_ratio="16:9").json()["data"]["image_base64"]
    assert server.client.get(link(server)).content == base64.b64decode(text)


@pytest.mark.parametrize("accept", ["*/*", "image/png", "image/webp"])
def test_row_10_head_has_the_headers_of_get_and_no_body(server: Server, accept: str) -> None:
    url = link(server)
    got = server.client.get(url, headers={"Accept": accept})
    head = server.client.head(url, headers={"Accept": accept})
    assert head.content == b""
    for name in ("content-length", "content-type", "etag", "last-modified", "vary", "content-disposition"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(("accept", "kind"), [("image/png", "PNG"), ("image/webp", "WEBP"), ("image/jpeg", "JPEG")])
def test_row_10_a_file_comes_as_png_or_webp_to_who_accepts_only_that(server: Server, accept: str, kind: str) -> None:
    reply = server.client.get(link(server), headers={"Accept": accept})
    assert reply.headers["content-type"] == accept
    assert reply.headers["vary"] == "Accept"
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert f".{kind.lower()}" in reply.headers["content-disposition"]
    with Image.open(io.BytesIO(reply.content)) as image:
        assert (image.format, image.size) == (kind, (1280, 720))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "jpeg"),
        ("*/*", "jpeg"),
        ("image/*", "jpeg"),
        ("text/html", "jpeg"),
        ("image/png", "png"),
        ("IMAGE/PNG", "png"),
        ("image/png, image/jpeg", "jpeg"),
        ("image/png, image/jpeg;q=0.9", "png"),
        ("image/png;q=0.5, image/webp", "webp"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "jpeg"),
        ("image/jpeg;q=0, */*", "png"),
        ("image/png;q=much", "jpeg"),
        (";;,,=", "jpeg"),
    ],
)
def test_accept_is_read_as_http_defines_it(accept: str, kind: str) -> None:
    assert preferred(accept) == kind


@pytest.mark.parametrize("stored", get_args(imaging.Format))
def test_a_picture_stays_in_its_own_format_where_others_are_no_better(stored: imaging.Format) -> None:
    for accept in ("", "*/*", "image/*", "text/html", "image/png, image/webp, image/jpeg"):
        assert preferred(accept, stored) == stored
    assert preferred("image/webp", stored) == "webp"


@pytest.mark.parametrize(("side", "size"), [(256, (256, 144)), (512, (512, 288)), (1024, (1024, 576))])
def test_a_smaller_copy_has_at_most_the_side_that_was_asked_for(
    server: Server, side: int, size: tuple[int, int]
) -> None:
    url = link(server)
    whole = server.client.get(url)
    for accept, kind in (("*/*", "JPEG"), ("image/webp", "WEBP")):
        reply = server.client.get(url, params={"side": side}, headers={"Accept": accept})
        assert reply.status_code == 200
        assert reply.headers["etag"] != whole.headers["etag"]
        with Image.open(io.BytesIO(reply.content)) as image:
            assert (image.format, image.size) == (kind, size)
            assert b"trainedAlgorithmicMedia" in image.info["xmp"]


def test_a_picture_that_is_smaller_than_the_copy_keeps_its_size(server: Server) -> None:
    reply = server.client.get(link(server, aspect_ratio=None, width=512, height=768), params={"side": 1024})
    with Image.open(io.BytesIO(reply.content)) as image:
        assert image.size == (512, 768)


@pytest.mark.parametrize("side", ["0", "300", "-256", "256.0", "", "big", "9" * 5000])
def test_another_side_is_refused_with_those_that_there_are(server: Server, side: str) -> None:
    reply = server.client.get(link(server), params={"side": side})
    assert reply.status_code == 400
    assert "256, 512, 1024" in reply.json()["base_resp"]["status_msg"]


def test_a_file_that_is_known_already_is_not_sent_again(server: Server) -> None:
    url = link(server)
    tags = {
        accept: server.client.get(url, headers={"Accept": accept}).headers["etag"] for accept in ("*/*", "image/png")
    }
    assert len(set(tags.values())) == 2
    for accept, tag in tags.items():
        for held in (tag, f'"other", W/{tag}', "*"):
            reply = server.client.get(url, headers={"Accept": accept, "If-None-Match": held})
            assert (reply.status_code, reply.content) == (304, b"")
            assert reply.headers["etag"] == tag
    reply = server.client.get(url, headers={"Accept": "image/png", "If-None-Match": tags["*/*"]})
    assert reply.status_code == 200


def test_a_file_may_be_cached_for_as_long_as_its_link_lives(server: Server) -> None:
    reply = server.client.get(link(server))
    age = re.fullmatch(r"private, max-age=(\d+), immutable", reply.headers["cache-control"])
    assert age is not None
    assert 0 < int(age[1]) <= 24 * 3600
    assert parsedate_to_datetime(reply.headers["last-modified"]).tzinfo is not None


def test_row_9_a_link_needs_no_key_and_heeds_none(serve: Serve) -> None:
    server = serve(api_keys="sk-api-right")
    reply = server.paint({"Authorization": "Bearer sk-api-right"}, response_format="url")
    (url,) = reply.json()["data"]["image_urls"]
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer sk-api-right"}):
        assert server.client.get(url, headers=headers).status_code == 200


def test_a_link_is_gone_when_its_time_is_over_and_the_sweep_takes_it_from_disk(serve: Serve, tmp_path: Path) -> None:
    server = serve(link_seconds=0.5)
    url = link(server)
    pause = threading.Event()
    while server.client.get(url).status_code == 200:
        pause.wait(0.01)
    reply = server.client.get(url)
    assert reply.status_code == 404
    assert reply.json()["base_resp"]["status_code"] == 2013
    wait_for(lambda: not [path for path in (tmp_path / "pictures").rglob("*") if path.is_file()])


@pytest.mark.parametrize(
    "name", ["A" * 32 + ".jpeg", "x.jpeg", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a%00b.jpeg", "%ff%fe", "x" * 5000]
)
def test_a_name_that_is_no_picture_is_a_404(server: Server, name: str) -> None:
    assert server.client.get(f"/files/{name}").status_code == 404
