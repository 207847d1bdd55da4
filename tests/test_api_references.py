"""`POST /v1/reference_preview`: what is shown of a reference, and what is refused."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from PIL import Image

from conftest import Server, wait_for
from limner.service import LOOKED_AT_ONCE

Serve = Callable[..., Server]
ROUTE = "/v1/reference_preview"


def picture(size: tuple[int, int] = (800, 600), color: Any = (200, 40, 30), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGBA" if len(color) == 4 else "RGB", size, color).save(file, kind)
    return file.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Elsewhere(BaseHTTPRequestHandler):
    """Gives one picture, once it may."""

    gate = threading.Event()
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.path == "/slow":
            self.gate.wait(60)
        data = picture()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    Elsewhere.gate.clear()
    Elsewhere.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Elsewhere.gate.set()
        server.shutdown()
        thread.join()


def shown(reply: httpx2.Response) -> tuple[str, tuple[int, int], str]:
    assert reply.status_code == 200, reply.text
    assert reply.headers["cache-control"] == "no-store"
    with Image.open(io.BytesIO(reply.content)) as image:
        assert reply.headers["content-type"] == f"image/{str(image.format).lower()}"
        return str(image.format), image.size, image.mode


@pytest.mark.parametrize("form", ["{}", "data:image/jpeg;base64,{}"])
def test_a_reference_is_shown_as_the_service_sees_it(server: Server, form: str) -> None:
    reply = server.client.post(ROUTE, json={"image_file": form.format(text(picture((2000, 1000))))})
    assert shown(reply) == ("JPEG", (512, 256), "RGB")
    with Image.open(io.BytesIO(reply.content)) as image:
        assert all(abs(a - b) < 6 for a, b in zip(image.getpixel((256, 128)), (200, 40, 30), strict=True))


def test_one_that_is_transparent_stays_so_and_a_small_one_is_not_made_larger(server: Server) -> None:
    data = picture((60, 40), (0, 0, 255, 100))
    assert shown(server.client.post(ROUTE, json={"image_file": text(data)})) == ("PNG", (60, 40), "RGBA")


def test_one_behind_a_url_is_fetched_where_the_operator_allows_it(serve: Serve, elsewhere: str) -> None:
    server = serve(reference_allow=("127.0.0.0/8",))
    assert shown(server.client.post(ROUTE, json={"image_file": f"{elsewhere}/a.png"}))[1] == (512, 384)


def test_a_private_address_is_not_asked(server: Server, elsewhere: str) -> None:
    reply = server.client.post(ROUTE, json={"image_file": f"{elsewhere}/a.png"})
    assert (reply.status_code, reply.json()["base_resp"]["status_code"]) == (400, 2013)
    assert Elsewhere.asked == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "image_file"),
        ({"image_file": ""}, "image_file"),
        ({"image_file": 7}, "image_file"),
        ({"image_file": "aGVsbG8=", "more": 1}, "more"),
        ([], "object"),
        ({"image_file": "aGVsbG8="}, "JPEG"),
        ({"image_file": "/etc/passwd"}, "file path"),
        ({"image_file": "file:///etc/passwd"}, "scheme"),
        ({"image_file": "http://169.254.169.254/latest/meta-data"}, "address"),
    ],
)
def test_what_is_no_reference_is_refused_with_a_sentence(server: Server, body: Any, said: str) -> None:
    reply = server.client.post(ROUTE, json=body)
    assert (reply.status_code, reply.json()["base_resp"]["status_code"]) == (400, 2013)
    assert said in reply.json()["base_resp"]["status_msg"]


def test_one_that_is_too_large_is_refused(serve: Serve) -> None:
    server = serve(reference_max_bytes=2000, reference_max_pixels=10_000, max_body_bytes=2**16)
    many_pixels = picture((101, 100))
    assert len(many_pixels) < 2000
    for data in (b"\xff\xd8\xff" + bytes(3000), many_pixels):
        reply = server.client.post(ROUTE, json={"image_file": text(data)})
        assert (reply.status_code, reply.json()["base_resp"]["status_code"]) == (400, 2013)
    assert server.client.post(ROUTE, json={"image_file": "A" * 2**17}).status_code == 413


def test_it_is_for_those_with_a_key(serve: Serve) -> None:
    server = serve(api_keys="sk-api-right")
    body = {"image_file": text(picture())}
    assert server.client.post(ROUTE, json=body).status_code == 401
    assert server.client.post(ROUTE, json=body, headers={"Authorization": "Bearer sk-api-right"}).status_code == 200


def test_only_so_many_of_one_tenant_are_looked_at_at_once(serve: Serve, elsewhere: str) -> None:
    server = serve(reference_allow=("127.0.0.0/8",), reference_seconds=60.0, api_keys="sk-many,sk-other")
    body = {"image_file": f"{elsewhere}/slow"}
    many, other = ({"Authorization": f"Bearer {key}"} for key in ("sk-many", "sk-other"))
    replies: list[int] = []

    def ask() -> None:
        reply = httpx2.post(f"{server.url}{ROUTE}", json=body, headers=many, timeout=60, trust_env=False)
        replies.append(reply.status_code)

    threads = [threading.Thread(target=ask) for _ in range(LOOKED_AT_ONCE)]
    for thread in threads:
        thread.start()
    wait_for(lambda: Elsewhere.asked == LOOKED_AT_ONCE)
    refused = server.client.post(ROUTE, json=body, headers=many)
    assert (refused.status_code, refused.json()["base_resp"]["status_code"]) == (429, 1002)
    assert int(refused.headers["retry-after"]) > 0
    assert server.client.post(ROUTE, json={"image_file": text(picture())}, headers=other).status_code == 200
    Elsewhere.gate.set()
    for thread in threads:
        thread.join()
    assert replies == [200] * LOOKED_AT_ONCE
    assert server.client.post(ROUTE, json=body, headers=many).status_code == 200
