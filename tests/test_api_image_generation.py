"""`POST /v1/image_generation` over a real socket: what a client that follows MiniMax's guide sees."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pytest
from PIL import Image

from conftest import API, Server, wait_for
from limner.api.app import TRACE_HEADERS
from limner.api.contract import SIZES
from limner.api.minimax import PATHS
from limner.errors import StorageFailed

Serve = Callable[..., Server]


def pictures(reply: httpx2.Response) -> list[bytes]:
    assert reply.json()["base_resp"] == {"status_code": 0, "status_msg": "success"}, reply.text
    return [base64.b64decode(text, validate=True) for text in reply.json()["data"]["image_base64"]]


def seeds(reply: httpx2.Response) -> list[int]:
    return [int(seed) for seed in reply.headers["limner-seeds"].split(",")]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 48, 3), 200, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize(("ratio", "size"), SIZES.items())
def test_a_picture_is_a_jpeg_of_exactly_the_size_of_its_ratio(
    server: Server, ratio: str, size: tuple[int, int]
) -> None:
    (data,) = pictures(server.paint(aspect_ratio=ratio))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", size)


@pytest.mark.parametrize("size", [(512, 2048), (1080, 1920), (520, 776)])
def test_a_picture_is_exactly_as_wide_and_high_as_asked_for(server: Server, size: tuple[int, int]) -> None:
    (data,) = pictures(server.paint(width=size[0], height=size[1]))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == size


def test_the_reply_has_the_shape_of_the_contract(server: Server) -> None:
    reply = server.paint(n=2, seed=5)
    body = reply.json()
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert re.fullmatch("[0-9a-f]{32}", body["id"])
    assert list(body) == ["id", "data", "metadata", "base_resp"]
    assert body["metadata"] == {"success_count": "2", "failed_count": "0"}
    assert len(body["data"]["image_base64"]) == 2


def test_the_same_seed_gives_the_same_bytes_and_picture_k_is_picture_0_of_seed_plus_k(server: Server) -> None:
    three = pictures(server.paint(n=3, seed=41))
    assert pictures(server.paint(n=3, seed=41)) == three
    assert len(set(three)) == 3
    assert pictures(server.paint(n=1, seed=43)) == three[2:]


def test_the_seeds_come_back_and_give_an_unseeded_picture_again(server: Server) -> None:
    first = server.paint(n=2)
    assert len(set(seeds(first))) == 2
    for seed, data in zip(seeds(first), pictures(first), strict=True):
        assert -(2**63) <= seed < 2**63
        assert pictures(server.paint(seed=seed)) == [data]


def test_seeds_wrap_at_the_end_of_int64(server: Server) -> None:
    assert seeds(server.paint(n=2, seed=2**63 - 1)) == [2**63 - 1, -(2**63)]
    assert seeds(server.paint(n=2, seed=-1)) == [-1, 0]


def test_every_trace_header_is_the_id_of_the_body(server: Server) -> None:
    one, other = server.paint(), server.paint()
    assert one.json()["id"] != other.json()["id"]
    for reply in (one, other, server.paint(n=10)):
        assert {reply.headers[name] for name in TRACE_HEADERS} == {reply.json()["id"]}


def test_a_reference_is_painted_with(server: Server) -> None:
    picture = base64.b64encode(png()).decode()
    for form in (picture, f"data:image/jpeg;base64,{picture}", [{"type": "character", "image_file": picture}]):
        assert len(pictures(server.paint(subject_reference=form))) == 1


@pytest.mark.parametrize("reference", ["/etc/passwd", "file:///etc/passwd", "C:\\me.png", "http://127.0.0.1:1/a.png"])
def test_a_reference_that_is_not_safe_is_refused_and_counted(server: Server, reference: str) -> None:
    before = server.client.get("/metrics").text
    body = server.paint(subject_reference=reference).json()
    assert body["base_resp"]["status_code"] == 2013
    assert server.client.get("/metrics").text != before
    assert "limner_references_refused_total{reason=" in server.client.get("/metrics").text


@pytest.mark.parametrize("prompt", ["explode in encode", "explode in evaluate", "nan", "ragged"])
def test_an_engine_that_fails_is_a_1024_and_the_service_goes_on(server: Server, prompt: str) -> None:
    assert server.paint(prompt=prompt).json()["base_resp"]["status_code"] == 1024
    assert len(pictures(server.paint())) == 1


def test_a_prompt_that_cannot_be_seen_is_a_1042(server: Server) -> None:
    assert server.paint(prompt="a\u0007\u0007\u0007 fox").json()["base_resp"]["status_code"] == 1042


@pytest.mark.parametrize("prompt", ["", "   ", "a" * 1501, "狐" * 1501])
def test_a_blank_or_long_prompt_is_a_2013(server: Server, prompt: str) -> None:
    base = server.paint(prompt=prompt).json()["base_resp"]
    assert base["status_code"] == 2013
    assert "Field prompt" in base["status_msg"]


def test_the_limit_counts_code_points_not_bytes(server: Server) -> None:
    assert len(pictures(server.paint(prompt="狐" * 1500))) == 1


def test_a_longer_prompt_may_be_cut_instead(serve: Serve) -> None:
    server = serve(long_prompts="cut", max_prompt_chars=20)
    assert pictures(server.paint(prompt="a" * 25, seed=1)) == pictures(server.paint(prompt="a" * 20, seed=1))


def test_a_multipart_body_is_read_as_the_same_request(server: Server) -> None:
    fields = {"model": "image-01", "prompt": "a red fox", "seed": "7", "response_format": "base64", "style": ""}
    reply = server.client.post(API, data=fields, files={"image_file": ("me.png", png(), "image/png")})
    assert seeds(reply) == [7]
    assert pictures(reply) == pictures(server.paint(seed=7, subject_reference=base64.b64encode(png()).decode()))


def test_a_multipart_body_may_carry_objects_as_json(server: Server) -> None:
    style = ("style", (None, '{"style_type": "漫画"}'))
    fields = [(name, (None, value)) for name, value in {"model": "image-01-live", "prompt": "[a] fox"}.items()]
    reply = server.client.post(API, files=[*fields, style, ("response_format", (None, "base64"))])
    assert len(pictures(reply)) == 1


# Section 5 of the contract, the rows that only HTTP shows. The others are in test_contract.py.


def test_row_2_errors_are_answered_200_or_on_request_with_the_true_status_and_the_same_body(serve: Serve) -> None:
    ok, real = serve(), serve(http_status="real")
    for fields in ({"n": 10}, {"prompt": "\u0007"}, {"prompt": "nan"}):
        plain, honest = ok.paint(**fields), real.paint(**fields)
        assert plain.status_code == 200
        assert honest.status_code in (400, 500)
        assert {**plain.json(), "id": 0} == {**honest.json(), "id": 0}


@pytest.mark.parametrize(
    ("agent", "scheme"),
    [("mmx-cli/1.0.25", "HTTP://"), ("mmx-cli/0.0.0-dev", "HTTP://"), ("curl/8 mmx-cli/1", "http://")],
)
def test_row_8_links_for_mmx_are_written_so_that_it_does_not_make_them_https(
    server: Server, agent: str, scheme: str
) -> None:
    (link,) = server.paint({"User-Agent": agent}, response_format="url").json()["data"]["image_urls"]
    assert link.startswith(f"{scheme}127.0.0.1:{server.port}/files/")
    assert server.client.get(link).status_code == 200


def test_row_8_that_can_be_switched_off_and_does_nothing_to_https(serve: Serve) -> None:
    for options, start in (
        ({"mmx_http_links": False}, "http://127.0.0.1"),
        ({"public_url": "https://pictures.example/base"}, "https://pictures.example/base/files/"),
        ({"public_url": "http://pictures.example"}, "HTTP://pictures.example/files/"),
    ):
        reply = serve(**options).paint({"User-Agent": "mmx-cli/1"}, response_format="url")
        assert reply.json()["data"]["image_urls"][0].startswith(start)


def test_row_8_links_start_with_the_address_that_the_client_called(server: Server) -> None:
    reply = server.paint({"Host": f"localhost:{server.port}"}, response_format=...)
    assert reply.json()["data"]["image_urls"][0].startswith(f"http://localhost:{server.port}/files/")


def test_row_11_base64_is_standard_padded_and_on_one_line(server: Server) -> None:
    (text,) = server.paint().json()["data"]["image_base64"]
    assert re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text)
    assert len(text) % 4 == 0
    assert base64.b64decode(text, validate=True).startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", PATHS)
def test_row_14_the_route_is_found_under_a_wrong_base_url(server: Server, path: str, slash: str) -> None:
    reply = server.client.post(path + slash, json={"model": "image-01", "prompt": "x", "response_format": "base64"})
    assert len(pictures(reply)) == 1


def test_row_15_a_full_queue_is_answered_at_once_with_1002(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate, queue_limit=2)
    with ThreadPoolExecutor(1) as pool:
        painting = pool.submit(server.paint, n=2)
        assert server.pipeline.entered.acquire(timeout=30)
        busy = server.paint()
        assert busy.json()["base_resp"]["status_code"] == 1002
        assert int(busy.headers["retry-after"]) >= 1
        assert "limner_queue_running" in server.client.get("/metrics").text
        gate.release(1000)
        assert len(pictures(painting.result())) == 2


def test_row_15_pictures_that_are_never_ready_are_a_1001(serve: Serve) -> None:
    server = serve(gate=threading.Semaphore(0), request_seconds=0.2)
    assert server.paint().json()["base_resp"]["status_code"] == 1001


def test_row_15_the_pictures_that_are_there_are_returned_and_the_others_counted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    put, calls = server.service.blobs.put, iter(range(9))

    def full_at_the_second(name: str, data: bytes) -> None:
        if next(calls) == 1:
            raise StorageFailed("The disk is full.")
        put(name, data)

    monkeypatch.setattr(server.service.blobs, "put", full_at_the_second)
    reply = server.paint(n=3, seed=10, response_format="url")
    assert reply.json()["base_resp"]["status_code"] == 0
    assert reply.json()["metadata"] == {"success_count": "2", "failed_count": "1"}
    links = reply.json()["data"]["image_urls"]
    monkeypatch.undo()
    assert len(links) == len(seeds(reply)) == 2
    assert set(seeds(reply)) < {10, 11, 12}
    for link, seed in zip(links, seeds(reply), strict=True):
        assert [server.client.get(link).content] == pictures(server.paint(seed=seed))


def test_row_20_a_reference_of_16_megabytes_of_base64_is_read(server: Server) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2200, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "png", compress_level=0)
    data = buffer.getvalue()
    assert 9_000_000 < len(data) < 10_000_000
    assert len(pictures(server.paint(subject_reference=base64.b64encode(data).decode()))) == 1


def test_row_20_a_larger_body_is_a_2013_however_it_is_sent(serve: Serve) -> None:
    server = serve(max_body_bytes=2**16, http_status="real")
    body = json.dumps({"model": "image-01", "prompt": "x" * 2**24}).encode()
    chunked = (body[start : start + 2**16] for start in range(0, len(body), 2**16))
    for content in (body, chunked):
        reply = server.client.post(API, content=content, headers={"Content-Type": "application/json"})
        assert reply.status_code == 413
        assert reply.json()["base_resp"]["status_code"] == 2013
        assert str(2**16) in reply.json()["base_resp"]["status_msg"]


def test_a_body_may_be_as_large_as_the_limit(serve: Serve) -> None:
    server = serve(max_body_bytes=2**16)
    body = json.dumps({"model": "image-01", "prompt": "x", "response_format": "base64", "pad": ""}).encode()
    full = body.replace(b'"pad": ""', b'"pad": "' + b"p" * (2**16 - len(body)) + b'"')
    assert len(full) == 2**16
    assert len(pictures(server.client.post(API, content=full, headers={"Content-Type": "application/json"}))) == 1


def raw_request(server: Server, body: bytes, length: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = f"POST {API} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
    return connection


def test_a_client_that_leaves_cancels_its_work(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate, queue_limit=1)
    body = json.dumps({"model": "image-01", "prompt": "a red fox"}).encode()
    connection = raw_request(server, body, len(body))
    assert server.pipeline.entered.acquire(timeout=30)
    connection.close()
    wait_for(lambda: 'limner_requests_total{code="left",route="image_generation"} 1.0' in metrics(server))
    wait_for(lambda: server.client.get("/v1/jobs").json()["jobs"][0]["state"] == "cancelled")
    gate.release()  # one evaluation of four: the engine then sees that nobody waits for the rest
    wait_for(lambda: server.engine.running + server.engine.waiting == 0)
    assert len(server.pipeline.batches) == 1
    assert server.pipeline.decoded == []
    gate.release(1000)
    assert len(pictures(server.paint())) == 1  # the only place in the queue is free again


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(serve: Serve) -> None:
    server = serve()
    raw_request(server, b'{"model": "image-01", ', 1000).close()
    wait_for(lambda: 'limner_requests_total{code="left",route="image_generation"} 1.0' in metrics(server))
    assert server.pipeline.encoded == []
    assert len(pictures(server.paint())) == 1


def test_a_body_that_never_ends_is_a_1001(serve: Serve) -> None:
    server = serve(request_seconds=0.2)
    with raw_request(server, b"{", 1000) as connection:
        reply = connection.recv(65536)
        while b"base_resp" not in reply:
            reply += connection.recv(65536)
    assert b'"status_code":1001' in reply


def metrics(server: Server) -> str:
    return server.client.get("/metrics").text
