"""`Idempotency-Key` over a real socket: a retry is answered with what the first call painted."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conftest import API, Server, wait_for
from limner.api.app import TRACE_HEADERS
from test_api_errors import check_shape

Serve = Callable[..., Server]
SMALL = {"model": "image-01", "prompt": "a red fox", "width": 512, "height": 512}
ROUTES = {
    API: SMALL | {"response_format": "base64"},
    "/v1/pictures": {"prompt": "a red fox", "width": 512, "height": 512, "response_format": "base64"},
    "/v1/jobs": SMALL,
}
"""Routes that take a key, with a body that each takes."""


def post(server: Server, path: str, key: str | None, **fields: Any) -> httpx2.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return server.client.post(path, json=ROUTES[path] | fields, headers=headers)


def painted(server: Server) -> int:
    return len(server.pipeline.decoded)


def id_of(reply: httpx2.Response) -> str:
    assert reply.status_code in (200, 202), reply.text
    assert reply.json().get("base_resp", {"status_code": 0})["status_code"] == 0, reply.text
    return str(reply.json()["id"])


@pytest.mark.parametrize("path", ROUTES)
def test_a_retry_is_answered_with_the_first_calls_pictures_and_id(serve: Serve, path: str) -> None:
    server = serve()
    first = post(server, path, "order-17")
    wait_for(lambda: painted(server) == 1)
    again = post(server, path, "order-17")
    assert id_of(again) == id_of(first)
    assert {again.headers[name] for name in TRACE_HEADERS} == {id_of(first)}
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert again.status_code == first.status_code
    if path != "/v1/jobs":  # a job has moved on meanwhile
        assert again.content == first.content
        assert again.headers.get("limner-seeds") == first.headers.get("limner-seeds")
    assert painted(server) == 1
    assert id_of(post(server, path, "order-18")) != id_of(first)
    assert id_of(post(server, path, None)) != id_of(first)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(("mode", "status"), [("ok", 200), ("real", 409)])
def test_the_same_key_with_another_body_is_a_2013(serve: Serve, path: str, mode: str, status: int) -> None:
    server = serve(http_status=mode)
    id_of(post(server, path, "order-17"))
    other = post(server, path, "order-17", seed=1)
    assert other.status_code == (status if path == API else 409)
    assert "another body" in check_shape(other, 2013)["status_msg"]
    assert "idempotent-replayed" not in other.headers


def test_a_key_of_one_route_is_another_request_on_the_others(serve: Serve) -> None:
    server = serve(http_status="real")
    id_of(post(server, API, "order-17"))
    assert post(server, "/v1/jobs", "order-17", response_format="base64").status_code == 409


@pytest.mark.parametrize(
    "other", ['{"b": [1, {"y": 2, "x": 1}], "a": "\\u72d0"}', ' { "a":"狐","b":[1,{"x":1,"y":2}]}\n']
)
def test_a_body_is_compared_by_what_it_says_not_how_it_is_written(serve: Serve, other: str) -> None:
    server = serve()
    bodies = (
        json.dumps(SMALL)[:-1] + ", " + text.strip()[1:] for text in ('{"a": "狐", "b": [1, {"x": 1, "y": 2}]}', other)
    )
    headers = {"Content-Type": "application/json", "Idempotency-Key": "order-17"}
    ids = {id_of(server.client.post("/v1/jobs", content=body.encode(), headers=headers)) for body in bodies}
    assert len(ids) == 1


def test_a_retry_that_comes_while_the_first_is_painted_waits_with_it(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(post, server, API, "order-17") for _ in range(5)]
        assert server.pipeline.entered.acquire(timeout=30)
        gate.release(1000)
        replies = [call.result() for call in calls]
    assert len({id_of(reply) for reply in replies}) == 1
    assert len({reply.content for reply in replies}) == 1
    assert sum("idempotent-replayed" in reply.headers for reply in replies) == 4
    assert painted(server) == 1


def leave(server: Server, key: str | None) -> None:
    """Ask for a picture and close the connection while it is painted."""
    body = json.dumps(ROUTES[API]).encode()
    head = f"POST {API} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += "" if key is None else f"Idempotency-Key: {key}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert server.pipeline.entered.acquire(timeout=30)
    wait_for(lambda: 'code="left",route="image_generation"} 1.0' in server.client.get("/metrics").text)


def test_a_client_that_leaves_with_a_key_finds_its_pictures_when_it_comes_back(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    leave(server, "order-17")
    gate.release(1000)
    reply = post(server, API, "order-17")
    assert len(reply.json()["data"]["image_base64"]) == 1
    assert reply.headers["idempotent-replayed"] == "true"
    assert painted(server) == 1


def test_a_client_that_leaves_without_a_key_cancels_its_job(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    leave(server, None)
    gate.release(1000)
    (job,) = server.client.get("/v1/jobs").json()["jobs"]
    wait_for(lambda: server.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled")


@pytest.mark.parametrize("prompt", ["explode in decode"])
def test_a_key_whose_call_failed_may_be_used_again(serve: Serve, prompt: str) -> None:
    server = serve()
    for _ in range(2):
        assert post(server, API, "order-17", prompt=prompt).json()["base_resp"]["status_code"] == 1024
    assert len(server.pipeline.encoded) == 2


def test_what_was_refused_before_it_was_a_job_holds_no_key(serve: Serve) -> None:
    server = serve()
    assert post(server, API, "order-17", n=10).json()["base_resp"]["status_code"] == 2013
    assert "idempotent-replayed" not in post(server, API, "order-17").headers


def test_a_pictures_links_are_those_of_the_address_that_the_retry_calls(serve: Serve) -> None:
    server = serve()
    first = post(server, API, "order-17", response_format="url").json()["data"]["image_urls"][0]
    body = json.dumps(ROUTES[API] | {"response_format": "url"})
    headers = {"Idempotency-Key": "order-17", "Host": f"localhost:{server.port}", "Content-Type": "application/json"}
    again = server.client.post(API, content=body, headers=headers).json()["data"]["image_urls"][0]
    assert again == first.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("order-17", '"order-17"', True),
        ('"a\\"b\\\\c"', 'a"b\\c', True),
        ("order-17", "ORDER-17", False),
        ("x" * 255, '"' + "x" * 255 + '"', True),
    ],
)
def test_a_key_may_be_quoted_as_the_draft_has_it_or_bare(serve: Serve, one: str, other: str, same: bool) -> None:
    server = serve()
    assert (id_of(post(server, "/v1/jobs", one)) == id_of(post(server, "/v1/jobs", other))) is same


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("key", ["", '""', "x" * 256, "two words", "tab\tkey", "caf\u00e9"])
def test_a_header_that_is_no_key_is_a_2013(server: Server, path: str, key: str) -> None:
    reply = server.client.post(path, json=ROUTES[path], headers={b"Idempotency-Key": key.encode("latin-1")})
    assert "Idempotency-Key" in check_shape(reply, 2013)["status_msg"]


def test_two_keys_are_none(server: Server) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    check_shape(server.client.post("/v1/jobs", json=SMALL, headers=headers), 2013)


@pytest.mark.parametrize("path", ROUTES)
def test_tenants_have_keys_of_their_own(serve: Serve, path: str) -> None:
    server = serve(api_keys="sk-anna,sk-ben")
    ids = set()
    for name in ("anna", "ben", "anna"):
        headers = {"Authorization": f"Bearer sk-{name}", "Idempotency-Key": "order-17"}
        ids.add(id_of(server.client.post(path, json=ROUTES[path], headers=headers)))
    assert len(ids) == 2


def test_a_job_that_was_waited_for_can_be_fetched_later_without_waiting(serve: Serve) -> None:
    server = serve()
    first = id_of(post(server, "/v1/pictures", "order-17"))
    headers = {"Idempotency-Key": "order-17", "Prefer": "respond-async"}
    again = server.client.post("/v1/pictures", json=ROUTES["/v1/pictures"], headers=headers)
    assert (again.status_code, id_of(again), again.json()["state"]) == (202, first, "done")


def test_a_key_outlives_a_restart(tmp_path: Path, serve: Serve) -> None:
    first = post(serve(), API, "order-17")
    again = post(serve(), API, "order-17")  # another process on the same folder, in effect
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"


def test_a_key_is_forgotten_after_its_time(serve: Serve) -> None:
    server = serve(idempotency_seconds=0.2)
    first = id_of(post(server, API, "order-17"))
    pause = threading.Event()
    while id_of(post(server, API, "order-17")) == first:
        pause.wait(0.05)


def test_pages_may_send_the_key_and_read_that_a_reply_is_a_retrys(server: Server) -> None:
    headers = server.client.options(API).headers
    for name in ("Idempotency-Key", "Prefer", "Last-Event-ID"):
        assert name in headers["access-control-allow-headers"]
    for name in ("Idempotent-Replayed", "Location", "Preference-Applied", "Retry-After"):
        assert name in headers["access-control-expose-headers"]
