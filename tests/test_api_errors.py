"""Every error, wherever it comes from, has the one shape; keys, CORS and the small routes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from conftest import API, Server, wait_for
from limner.api.app import TRACE_HEADERS
from limner.backends.local import LocalBackend
from limner.engine.engine import Engine
from limner.engine.pool import Pool, Progress, Source
from limner.errors import ModelUnusable
from tiny_pipeline import TinyPipeline

Serve = Callable[..., Server]
JSON = {"Content-Type": "application/json"}
GOOD = {"model": "image-01", "prompt": "a fox", "response_format": "base64"}


def check_shape(reply: httpx2.Response, code: int | None = None) -> dict[str, Any]:
    """Assert the one shape of docs/http.md, and the code; return base_resp."""
    body = reply.json()
    assert reply.headers["content-type"] == "application/json"
    assert list(body) == ["id", "data", "metadata", "base_resp"]
    assert re.fullmatch("[0-9a-f]{32}", body["id"])
    assert {reply.headers[name] for name in TRACE_HEADERS} == {body["id"]}
    base: dict[str, Any] = body["base_resp"]
    assert list(base) == ["status_code", "status_msg"]
    assert type(base["status_code"]) is int
    if base["status_code"] != 0:
        assert body["data"] == {}
        assert body["metadata"] == {"success_count": "0", "failed_count": "0"}
        assert base["status_msg"].endswith(".")
        assert base["status_msg"][0].isupper() or base["status_msg"].startswith("subject_reference")
    if code is not None:
        assert base["status_code"] == code, base
    return base


BODIES: dict[str, tuple[bytes, dict[str, str], str]] = {
    "empty": (b"", JSON, "empty"),
    "blank": (b" \n", JSON, "empty"),
    "cut": (b'{"model": "image-01"', JSON, "JSON"),
    "not an object": (b"[1]", JSON, "object"),
    "not utf-8": (b'{"prompt": "\xff"}', JSON, "UTF-8"),
    "utf-16": (json.dumps(GOOD).encode("utf-16"), JSON, "UTF-8"),
    "nan": (b'{"n": NaN}', JSON, "NaN"),
    "infinity": (b'{"n": -Infinity}', JSON, "Infinity"),
    "too large a float": (b'{"n": 1e999}', JSON, "finite"),
    "too many digits": (b'{"n": ' + b"9" * 5000 + b"}", JSON, "digits"),
    "deep": (b"[" * 50_000, JSON, "deep"),
    "deep object": (b'{"a":' * 50_000, JSON, "deep"),
    "half a pair": (b'{"prompt": "\\ud800"}', JSON, "surrogate"),
    "text": (json.dumps(GOOD).encode(), {"Content-Type": "text/plain"}, "Content-Type"),
    "form": (b"model=image-01", {"Content-Type": "application/x-www-form-urlencoded"}, "Content-Type"),
    "compressed": (b"\x1f\x8b", {**JSON, "Content-Encoding": "gzip"}, "Content-Encoding"),
    "no boundary": (b"--x\r\n", {"Content-Type": "multipart/form-data"}, "boundary"),
    "many parts": (
        b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n' * 65 + b"--x--",
        {"Content-Type": "multipart/form-data; boundary=x"},
        "more than 64 parts",
    ),
    "no name": (b"--x\r\n\r\nhello\r\n--x--", {"Content-Type": "multipart/form-data; boundary=x"}, "name"),
    "bad field": (
        b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--x--',
        {"Content-Type": "multipart/form-data; boundary=x"},
        "UTF-8",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_read_is_a_2013_that_says_why(server: Server, name: str) -> None:
    content, headers, word = BODIES[name]
    reply = server.client.post(API, content=content, headers=headers)
    assert reply.status_code == 200
    assert word in check_shape(reply, 2013)["status_msg"]


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/x+json", None])
def test_json_is_read_under_each_of_its_names_and_with_a_byte_order_mark(server: Server, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    content = json.dumps(GOOD).encode("utf-8-sig")
    check_shape(server.client.post(API, content=content, headers=headers), 0)


REPLIES: dict[str, Callable[[Server], httpx2.Response]] = {
    "field": lambda s: s.paint(n=10),
    "prompt": lambda s: s.paint(prompt="\u0007"),
    "reference": lambda s: s.paint(subject_reference="/etc/passwd"),
    "engine": lambda s: s.paint(prompt="explode in decode"),
    "body": lambda s: s.client.post(API, content=b"{", headers=JSON),
    "method": lambda s: s.client.get(API),
    "no model": lambda s: s.client.get("/v1/models/gpt-4"),
    "no file": lambda s: s.client.get("/files/x.jpeg"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_every_error_has_the_one_shape(server: Server, name: str) -> None:
    assert check_shape(REPLIES[name](server))["status_code"] != 0


STATUSES = {
    "field": 400,
    "prompt": 400,
    "reference": 400,
    "engine": 500,
    "body": 400,
    "method": 405,
    "no model": 404,
    "no file": 404,
}


def test_every_error_has_its_true_status_where_the_operator_wants_it(serve: Serve) -> None:
    server = serve(http_status="real")
    assert {name: reply(server).status_code for name, reply in REPLIES.items()} == STATUSES
    for reply in REPLIES.values():
        check_shape(reply(server))
    assert server.client.post(API, content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415


def test_only_a_path_or_a_method_that_does_not_exist_has_another_status_than_200(server: Server) -> None:
    statuses = {name: reply(server).status_code for name, reply in REPLIES.items()}
    assert statuses == {**dict.fromkeys(REPLIES, 200), "method": 405, "no model": 404, "no file": 404}


@pytest.mark.parametrize("path", ["/v1", "/v1/images", "/v1/image_generation/x", "/files/", "/%00"])
def test_an_unknown_path_is_a_404_in_plain_text(server: Server, path: str) -> None:
    for reply in (server.client.get(path), server.client.post(path, json=GOOD)):
        assert (reply.status_code, reply.text) == (404, "404 page not found")
        assert reply.headers["content-type"].startswith("text/plain")
        assert len(reply.headers["trace-id"]) == 32


def test_a_method_that_is_not_answered_names_those_that_are(server: Server) -> None:
    assert server.client.get(API).headers["allow"] == "POST"


@pytest.mark.parametrize(("mode", "status"), [("ok", 200), ("real", 500)])
def test_a_fault_of_ours_is_a_1024_that_tells_nothing_of_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, mode: str, status: int
) -> None:
    server = serve(http_status=mode)

    async def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret of the machine")

    monkeypatch.setattr(server.service, "generate", fail)
    reply = server.paint()
    assert reply.status_code == status
    assert "secret" not in reply.text
    check_shape(reply, 1024)


def test_errors_follow_the_settings_of_the_shape(serve: Serve) -> None:
    body = serve(error_data="null", counts_as="integer").paint(n=10).json()
    assert body["data"] is None
    assert body["metadata"] == {"success_count": 0, "failed_count": 0}


@given(st.binary(max_size=60), st.sampled_from([*JSON.values(), "multipart/form-data; boundary=x", "x", "\u00e9/;="]))
def test_any_bytes_are_answered_in_the_one_shape(server: Server, content: bytes, kind: str) -> None:
    headers = {b"Content-Type": kind.encode("latin-1")}
    check_shape(server.client.post(API, content=content, headers=headers))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["data:,", "http://[", "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["model", "style", "aspect_ratio", "width", "height", "seed", "n", "subject_reference", "response_format"]


@given(st.dictionaries(st.sampled_from([*FIELDS, "prompt", "prompt_optimizer", "aigc_watermark"]), json_values))
def test_any_value_in_any_field_is_answered_in_the_one_shape(server: Server, fields: dict[str, Any]) -> None:
    content = json.dumps({**GOOD, "width": 512, "height": 512, **fields}).encode()
    reply = server.client.post(API, content=content, headers=JSON)
    assert reply.status_code == 200
    check_shape(reply)


# Keys


def test_with_keys_every_route_of_the_interface_asks_for_one(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# ours\nfrom-file # of the team\n\n")
    server = serve(api_keys="sk-api-one, sk-cp-two", api_keys_file=tmp_path / "keys")
    for key in ("sk-api-one", "sk-cp-two", "from-file"):
        check_shape(server.paint({"Authorization": f"Bearer {key}"}), 0)
        check_shape(server.paint({"Authorization": f"bearer  {key}"}), 0)
    for header in ({}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Basic sk-api-one"}):
        reply = server.paint(header)
        assert reply.status_code == 200
        assert "Authorization" in check_shape(reply, 1004)["status_msg"]
    for key in ("wrong", "sk-api-on", "sk-api-one2", "SK-API-ONE", "sk-api-one,sk-cp-two", "é", ""):
        header = {b"Authorization": f"Bearer x{key}".encode("latin-1")}
        check_shape(server.client.post(API, json=GOOD, headers=header), 2049)
    for path in ("/v1/models", "/v1/models/image-01", "/anthropic/v1/models", "/v1/token_plan/remains"):
        check_shape(server.client.get(path), 1004)
    for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert server.client.get(path).status_code == 200


def test_a_missing_or_wrong_key_is_a_401_where_the_operator_wants_true_statuses(serve: Serve) -> None:
    server = serve(api_keys="right", http_status="real")
    for header in ({}, {"Authorization": "Bearer wrong"}):
        reply = server.paint(header)
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")


def test_without_keys_any_authorization_will_do(server: Server) -> None:
    check_shape(server.paint({"Authorization": "Bearer whatever"}), 0)


def test_a_key_is_asked_for_before_the_body_is_read(serve: Serve) -> None:
    server = serve(api_keys="right", max_body_bytes=2**16)
    reply = server.client.post(API, content=b"{" * 2**22, headers=JSON)
    check_shape(reply, 1004)


def test_no_key_and_no_prompt_is_ever_logged(serve: Serve) -> None:
    with capture_logs() as logs:
        server = serve(api_keys="sk-api-secret")
        for key in ("sk-api-secret", "sk-api-wrong"):
            server.paint({"Authorization": f"Bearer {key}"}, prompt="a very private fox", size="1x1", n=10)
            server.paint({"Authorization": f"Bearer {key}"}, prompt="a very private fox", size="1x1")
            server.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
    assert any(line["event"] == "request" and line["code"] == "2049" for line in logs)
    assert any(line["event"] == "fields ignored" and line["fields"] == ["'size'"] for line in logs)
    assert "sk-api" not in str(logs)
    assert "private" not in str(logs)
    assert "sk-api-secret" not in repr(server.client.get("/metrics").text)


def test_every_line_of_a_call_carries_its_id(serve: Serve) -> None:
    server = serve()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        reply = server.paint(size="1x1")
        wait_for(lambda: any(line["event"] == "request" for line in logs))  # written after the answer is sent
    assert {line["event"] for line in logs} == {"fields ignored", "job", "request"}
    assert {line["id"] for line in logs} == {reply.json()["id"]}


# CORS


@pytest.mark.parametrize("path", [API, "/v1/models", "/nowhere", "/files/x.jpeg"])
def test_a_preflight_is_answered_200_with_a_small_success(server: Server, path: str) -> None:
    reply = server.client.options(path, headers={"Origin": "http://a.example", "Access-Control-Request-Method": "POST"})
    assert reply.status_code == 200
    check_shape(reply, 0)
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-allow-methods"] == "GET, POST, OPTIONS, PUT, DELETE"
    allowed = reply.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in ("authorization", "content-type", "trace-id", "request-id", "x-group-id"))


def test_every_reply_may_be_read_from_another_origin(server: Server) -> None:
    for reply in (server.paint(), server.paint(n=10), server.client.get("/nowhere"), server.client.get("/healthz")):
        assert reply.headers["access-control-allow-origin"] == "*"
        assert "Limner-Seeds" in reply.headers["access-control-expose-headers"]


def test_cors_can_name_one_origin_or_be_off(serve: Serve) -> None:
    one = serve(cors_origin="https://studio.example").client.options(API)
    assert one.headers["access-control-allow-origin"] == "https://studio.example"
    off = serve(cors_origin="none").client
    assert off.options(API).status_code == 405
    assert not any(name.startswith("access-control") for name in off.get("/healthz").headers)


# The small routes


def test_row_16_models_are_listed_as_openai_does(serve: Serve) -> None:
    server = serve(model_aliases={"gpt-image-1": "image-01"})
    listing = server.client.get("/v1/models").json()
    assert listing["object"] == "list"
    assert [model["id"] for model in listing["data"]] == ["image-01", "image-01-live", "gpt-image-1"]
    for model in listing["data"]:
        assert (model["object"], model["owned_by"], type(model["created"])) == ("model", "minimax", int)
        assert server.client.get(f"/v1/models/{model['id']}").json() == model
    check_shape(server.client.get("/v1/models/gpt-4"), 2013)
    other = server.client.get("/anthropic/v1/models").json()
    assert [model["id"] for model in other["data"]] == [model["id"] for model in listing["data"]]
    assert (other["first_id"], other["last_id"], other["has_more"]) == ("image-01", "gpt-image-1", False)


@pytest.mark.parametrize("path", ["/v1/token_plan/remains", "/account/query_balance"])
def test_account_routes_say_that_nothing_is_metered(server: Server, path: str) -> None:
    body = server.client.get(path).json()
    assert body.pop("base_resp") == {"status_code": 0, "status_msg": "success"}
    assert body.pop("model_remains", []) == []
    assert set(body.values()) <= {"0.00"}


def test_health_is_told_and_readiness_ends_with_the_service(serve: Serve) -> None:
    server = serve()
    assert server.client.get("/healthz").json() == {"status": "ok"}
    states = {"image-01": "loaded", "image-01-live": "loaded"}
    assert server.client.get("/readyz").json() == {"status": "ready", "models": states}
    server.service.runner.closed = True
    assert server.client.get("/healthz").status_code == 200
    reply = server.client.get("/readyz")
    assert (reply.status_code, reply.json()["status"]) == (503, "closed")
    for refused in (server.paint(), server.client.post("/v1/jobs", json=GOOD)):
        assert "shutting down" in check_shape(refused, 1024)["status_msg"]
        assert int(refused.headers["retry-after"]) >= 1
    server.service.runner.closed = False


def test_readiness_comes_with_the_models_of_the_start_and_tells_the_state_of_each(serve: Serve, tmp_path: Path) -> None:
    gate = threading.Semaphore(0)

    def slowly(progress: Progress) -> TinyPipeline:
        progress(0.4)
        gate.acquire()
        return TinyPipeline()

    def broken(progress: Progress) -> TinyPipeline:
        raise ModelUnusable("/home/ada/weights.safetensors is cut short.")

    sources = {"image-01": Source(slowly, from_start=True), "broken": Source(broken), "huge": Source(slowly, 10**12)}
    weights = tmp_path / "ada" / "weights.safetensors"
    backend = LocalBackend(Engine(Pool(sources, {"cpu": 10**9}), 9))
    server = serve(backend=backend, models={"broken": str(weights)})
    states = {"image-01": "loading 40%", "broken": "not loaded"}
    wait_for(lambda: server.client.get("/readyz").json()["models"].items() > states.items())
    reply = server.client.get("/readyz")
    assert (reply.status_code, reply.json()["status"]) == (503, "loading")
    assert reply.json()["models"]["huge"].startswith("failed: it takes 1000.00 GB of memory")
    gate.release()
    wait_for(lambda: server.client.get("/readyz").status_code == 200)
    assert server.paint().json()["base_resp"]["status_code"] == 0

    failed = server.paint(model="broken")
    assert "its operator mend it" in check_shape(failed, 1024)["status_msg"]
    told = server.client.get("/readyz")
    assert told.json()["models"]["broken"] == "failed: its weights cannot be used; the log says why"
    assert told.status_code == 200
    (job,) = server.client.get("/v1/jobs", params={"state": "failed"}).json()["jobs"]
    assert "weights.safetensors" not in failed.text + told.text + str(job)


def test_requests_are_counted_by_route_and_code(serve: Serve) -> None:
    one, other = serve(), serve()
    one.paint()
    one.paint(n=10)
    one.client.get("/nowhere")
    reply = one.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'limner_requests_total{code="0",route="image_generation"} 1.0',
        'limner_requests_total{code="2013",route="image_generation"} 1.0',
        'limner_requests_total{code="404",route="none"} 1.0',
        'limner_request_seconds_count{route="image_generation"} 2.0',
    ):
        assert line in reply.text
    assert 'route="image_generation"' not in other.client.get("/metrics").text
