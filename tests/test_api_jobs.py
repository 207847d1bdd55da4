"""Jobs over a real socket: accepted, listed, followed, cancelled, deleted, and seen by nobody else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import re
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from fastapi.routing import APIRoute
from PIL import Image
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from conftest import Server, serving, wait_for
from hostile_server import HostileServer, reply
from limner import job_document
from limner.api import sse
from limner.api.app import TRACE_HEADERS, create_app
from limner.api.jobs import ListQuery, cursor, position
from limner.config import Settings
from limner.errors import StorageFailed, TimedOut
from limner.service import Job, Preview
from limner.storage import audit, migrations
from limner.storage.database import Database
from limner.storage.jobs import VISIBLE
from servers import S3, Postgres
from test_api_errors import check_shape

Serve = Callable[..., Server]
SMALL = {"model": "image-01", "prompt": "a red fox", "width": 512, "height": 512}
NOBODYS = "0" * 32


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """The job of a reply, which is as its schema says."""
    jsonschema_rs.validate(job_document.SCHEMA, document, validate_formats=True)
    return document


def accept(server: Server, headers: dict[str, str] | None = None, /, **fields: Any) -> dict[str, Any]:
    reply = server.client.post("/v1/jobs", json=SMALL | fields, headers=headers)
    assert reply.status_code == 202, reply.text
    return checked(reply.json())


def look(server: Server, job: dict[str, Any]) -> dict[str, Any]:
    reply = server.client.get(f"/v1/jobs/{job['id']}")
    assert reply.status_code == 200, reply.text
    return checked(reply.json())


def ended(server: Server, job: dict[str, Any]) -> dict[str, Any]:
    wait_for(lambda: look(server, job)["state"] in ("done", "failed", "cancelled"))
    return look(server, job)


@pytest.fixture
def gate() -> threading.Semaphore:
    return threading.Semaphore(0)


# Accepting


def test_a_job_is_accepted_at_once_and_painted_in_its_time(serve: Serve, gate: threading.Semaphore) -> None:
    server = serve(gate=gate)
    reply = server.client.post("/v1/jobs", json=SMALL | {"n": 2, "seed": -1})
    job = checked(reply.json())
    assert reply.status_code == 202
    assert reply.headers["location"] == f"{server.url}/v1/jobs/{job['id']}"
    assert {reply.headers[name] for name in TRACE_HEADERS} == {job["id"]}
    assert (job["state"], job["started_at"], job["finished_at"], job["error"]) == ("queued", None, None, None)
    assert [(p["seed"], p["state"], p["url"]) for p in job["pictures"]] == [
        ("-1", "queued", None),
        ("0", "queued", None),
    ]
    gate.release(1000)
    done = ended(server, job)
    assert (done["state"], done["progress"]) == ("done", {"step": 8, "steps": 8})
    assert done["created_at"] <= done["started_at"] <= done["finished_at"] < done["expires_at"]
    assert done["cost"] > 0
    assert (done["scene"], done["notes"]) == ({"prompt": "a red fox"}, ["A note."])
    sync = server.paint(**SMALL, n=2, seed=-1).json()["data"]["image_base64"]
    for picture, text in zip(done["pictures"], sync, strict=True):
        data = server.client.get(picture["url"]).content
        assert data == base64.b64decode(text)
        assert (picture["bytes"], picture["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_call_that_waits_is_a_job_under_the_id_of_its_reply(server: Server) -> None:
    reply = server.paint(**SMALL, seed=5, response_format="url").json()
    job = look(server, reply)
    assert (job["state"], job["request"]["seed"]) == ("done", "5")
    assert [picture["url"] for picture in job["pictures"]] == reply["data"]["image_urls"]


def test_limners_own_route_answers_with_a_job_where_that_is_preferred(server: Server) -> None:
    body = {"prompt": "a red fox", "width": 512, "height": 512, "format": "png", "steps": 3, "seed": 1}
    for prefer in ("respond-async", "return=minimal, Respond-Async;x=1, wait=10"):
        reply = server.client.post("/v1/pictures", json=body, headers={"Prefer": prefer})
        assert (reply.status_code, reply.headers["preference-applied"]) == (202, "respond-async")
        assert reply.headers["location"].endswith(f"/v1/jobs/{reply.json()['id']}")
        job = ended(server, checked(reply.json()))
        with Image.open(io.BytesIO(server.client.get(job["pictures"][0]["url"]).content)) as image:
            assert (image.format, image.size) == ("PNG", (512, 512))
        assert (job["request"]["steps"], job["request"]["format"]) == (3, "png")
    assert server.client.post("/v1/pictures", json=body, headers={"Prefer": "wait=10"}).status_code == 200


def test_a_job_says_what_was_asked_for_and_no_bytes_or_paths_of_it(server: Server) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "png")
    picture = base64.b64encode(buffer.getvalue()).decode()
    webhook = "http://127.0.0.1:9/secret?token=1"
    text = json.dumps(
        accept(
            server, subject_reference=picture, webhook_url=webhook, seed="-7", prompt_optimizer="true", previews="true"
        )
    )
    request = json.loads(text)["request"]
    assert (request["references"], request["webhook_host"], request["seed"]) == (1, "127.0.0.1", "-7")
    assert (request["prompt_optimizer"], request["previews"]) == (True, True)
    assert picture[:40] not in text
    assert "secret" not in text
    live = accept(server, model="image-01-live", style={"style_type": "漫画", "style_weight": 0.5})
    assert live["request"]["style"] == {"style_type": "漫画", "style_weight": 0.5}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"n": 10}, "Field n must be less than or equal to 9; got 10."),
        ({"prompt": " "}, "Field prompt "),
        ({"webhook_url": "ftp://a.example/"}, "The webhook's URL leads to another scheme than http and https"),
        ({"webhook_url": "http://u:p@a.example/"}, "The webhook's URL holds a user name or password"),
        ({"subject_reference": "http://u:p@a.example/"}, "The reference's URL holds a user name or password"),
        ({"webhook_url": 7}, "Field webhook_url must be a valid string; got 7."),
        ({"previews": 7}, "Field previews must be a valid boolean; got 7."),
    ],
)
def test_what_is_wrong_is_told_under_a_true_status_and_makes_no_job(
    server: Server, fields: dict[str, Any], sentence: str
) -> None:

    def ids() -> list[str]:
        return [job["id"] for job in server.client.get("/v1/jobs").json()["jobs"]]

    before = ids()
    reply = server.client.post("/v1/jobs", json=SMALL | fields)
    assert reply.status_code == 400
    assert check_shape(reply, 2013)["status_msg"].startswith(sentence)
    assert ids() == before


def test_a_job_that_fails_says_why(server: Server) -> None:
    job = ended(server, accept(server, prompt="explode in decode", n=2))
    assert job["state"] == "failed"
    assert job["error"]["status_code"] == 1024
    assert job["error"]["status_msg"].endswith(".")
    assert [picture["state"] for picture in job["pictures"]] == ["failed", "failed"]
    assert all(picture["error"]["status_code"] == 1024 for picture in job["pictures"])
    refused = ended(server, accept(server, prompt="refuse"))
    assert refused["error"] == {"status_code": 2013, "status_msg": "This prompt cannot be painted. Use another."}


def test_a_full_backlog_is_a_429_that_says_when_to_come_again(serve: Serve, gate: threading.Semaphore) -> None:
    server = serve(gate=gate, queue_limit=1, backlog_limit=1)
    accept(server)
    accept(server)
    reply = server.client.post("/v1/jobs", json=SMALL)
    assert reply.status_code == 429
    assert check_shape(reply, 1002)
    assert int(reply.headers["retry-after"]) >= 1


@pytest.mark.parametrize("error", [TimedOut("It was late."), StorageFailed("It was away.")])
def test_every_error_that_is_worth_another_try_says_when(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    server = serve(http_status="real")

    async def fail(*_: object, **__: object) -> None:
        raise error

    for name in ("generate", "accept"):
        monkeypatch.setattr(server.service, name, fail)
    for answer in (server.paint(), server.client.post("/v1/jobs", json=SMALL)):
        assert answer.status_code in (500, 504)
        assert int(answer.headers["retry-after"]) >= 1
    assert "retry-after" not in server.paint(n=10).headers


# The queue, cancelling, deleting


def test_a_job_that_waits_says_how_many_pictures_come_before_it(serve: Serve, gate: threading.Semaphore) -> None:
    server = serve(gate=gate, queue_limit=2)
    first, second, third = accept(server, n=2), accept(server, n=2), accept(server)
    assert server.pipeline.entered.acquire(timeout=30)
    assert look(server, second)["queue_place"] == 2
    assert look(server, third)["queue_place"] == 4
    gate.release(10_000)
    for job in (first, second, third):
        assert ended(server, job)["queue_place"] is None


def test_a_job_is_cancelled_while_it_waits_and_while_it_is_painted(serve: Serve, gate: threading.Semaphore) -> None:
    server = serve(gate=gate, queue_limit=2)
    running, waiting = accept(server, n=2), accept(server, n=2)
    assert server.pipeline.entered.acquire(timeout=30)
    for job in (waiting, running):
        reply = server.client.post(f"/v1/jobs/{job['id']}/cancel")
        assert reply.status_code == 200
        assert checked(reply.json())["id"] == job["id"]
    gate.release(1000)
    for job in (waiting, running):
        now = ended(server, job)
        assert now["state"] == "cancelled"
        assert {picture["state"] for picture in now["pictures"]} == {"cancelled"}
    wait_for(lambda: server.engine.running + server.engine.waiting == 0)
    assert server.pipeline.decoded == []
    again = server.client.post(f"/v1/jobs/{running['id']}/cancel")
    assert (again.status_code, again.json()["version"]) == (200, look(server, running)["version"])


def test_cancelling_what_is_done_changes_nothing(server: Server) -> None:
    done = ended(server, accept(server))
    reply = server.client.post(f"/v1/jobs/{done['id']}/cancel")
    assert (reply.status_code, reply.json()) == (200, done)


def test_a_job_that_is_deleted_is_gone_with_its_pictures(server: Server) -> None:
    job = ended(server, accept(server))
    url = job["pictures"][0]["url"]
    assert server.client.get(url).status_code == 200
    reply = server.client.delete(f"/v1/jobs/{job['id']}")
    assert (reply.status_code, reply.content) == (204, b"")
    assert server.client.get(url).status_code == 404
    assert server.client.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert server.client.delete(f"/v1/jobs/{job['id']}").status_code == 404
    assert job["id"] not in server.client.get("/v1/jobs").text


def test_a_job_that_is_deleted_while_it_is_painted_stops_and_leaves_nothing(
    serve: Serve, gate: threading.Semaphore, tmp_path: Path
) -> None:
    server = serve(gate=gate)
    job = accept(server)
    assert server.pipeline.entered.acquire(timeout=30)
    assert server.client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert server.client.get(f"/v1/jobs/{job['id']}").status_code == 404
    gate.release(1000)
    wait_for(lambda: server.engine.running + server.engine.waiting == 0)
    assert [path for path in (tmp_path / "pictures").rglob("*") if path.is_file()] == []
    assert server.paint(**SMALL).json()["base_resp"]["status_code"] == 0


# Lists


def test_pages_hold_every_job_once_the_newest_first(serve: Serve) -> None:
    server = serve()
    made = [accept(server, seed=seed)["id"] for seed in range(7)]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    for size in (3, 3, 1):
        page = server.client.get("/v1/jobs", params=query).json()
        assert [list(page), len(page["jobs"])] == [["jobs", "next"], size]
        found += [checked(job)["id"] for job in page["jobs"]]
        accept(server)  # one that comes meanwhile moves no page
        query["cursor"] = page["next"]
    assert query["cursor"] is None
    assert found == made[::-1]


def test_a_list_is_narrowed_by_state_model_and_time(serve: Serve, gate: threading.Semaphore) -> None:
    server = serve(gate=gate)
    old = accept(server)
    wait_for(lambda: datetime.now(UTC) - datetime.fromisoformat(old["created_at"]) > timedelta(milliseconds=20))
    live = accept(server, model="image-01-live")
    server.client.post(f"/v1/jobs/{old['id']}/cancel")

    def ids(**query: str) -> list[str]:
        return [job["id"] for job in server.client.get("/v1/jobs", params=query).json()["jobs"]]

    assert ids() == [live["id"], old["id"]]
    assert ids(state="cancelled") == [old["id"]]
    assert ids(state="queued,running") == [live["id"]]
    assert ids(state="done") == []
    assert ids(model="image-01-live") == ids(model="image-01") == [live["id"], old["id"]]  # one model, two names
    between = (datetime.fromisoformat(old["created_at"]) + timedelta(milliseconds=10)).isoformat()
    assert ids(**{"from": between}) == [live["id"]]
    assert ids(to=between) == [old["id"]]
    assert ids(**{"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00.5-05:00"}) == [live["id"], old["id"]]
    gate.release(1000)


BAD_QUERIES = {
    "limit=0": "Field limit must be greater than or equal to 1",
    "limit=101": "Field limit must be less than or equal to 100",
    "limit=x": "Field limit must be a valid integer",
    "state=sleeping": "Field state.0 must be 'queued', 'running', 'done', 'failed' or 'cancelled'",
    "state=": "Field state.0 must be",
    "state=deleting": "Field state.0 must be",
    "model=gpt-4": "Field model must be one of image-01, image-01-live",
    "model=%00": "Field model must be one of",
    "from=yesterday": "Field from must be a time of RFC 3339",
    "from=2026-13-01T00:00:00Z": "Field from must be",
    "to=2026-11-23": "Field to must be a time of RFC 3339",
    "to=1790000000": "Field to must be a time of RFC 3339",
    "cursor=x": "Field cursor must be what `next` of the page before was",
    "cursor=%00": "Field cursor must be",
    "cursor=%E7%8B%90": "Field cursor must be",
    "cursor=" + base64.urlsafe_b64encode(b"1.5/../etc/passwd").decode(): "Field cursor must be",
    "offset=3": 'There is no field "offset" here; leave it out.',
    "limit=1&limit=2": "A query parameter came twice",
}


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_a_query_that_is_wrong_is_a_2013_that_says_why(server: Server, query: str) -> None:
    reply = server.client.get(f"/v1/jobs?{query}")
    assert reply.status_code == 400
    assert check_shape(reply, 2013)["status_msg"].startswith(BAD_QUERIES[query])


def test_every_parameter_of_a_list_has_a_bad_query() -> None:
    names = {field.alias or name for name, field in ListQuery.model_fields.items()}
    assert names <= {query.partition("=")[0] for query in BAD_QUERIES}


@pytest.mark.parametrize("created", [0.5, 1_790_000_000.0, 1_790_000_000.1234567, 1e11 / 3])
def test_a_cursor_says_exactly_where_a_page_ended(created: float) -> None:
    class At:
        id = "0123456789abcdef" * 2

    At.created = created  # type: ignore[attr-defined]  # the two fields of a Job that count here
    assert position(cursor(At)) == (created, At.id)  # type: ignore[arg-type]  # two fields of a Job
    assert re.fullmatch("[A-Za-z0-9_-]+", cursor(At))  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("path", ["", "/cancel", "/events"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_parameters_that_are_unknown_are_refused_everywhere(server: Server, method: str, path: str) -> None:
    url = f"/v1/jobs/{NOBODYS}{path}?verbose=1"
    reply = server.client.request(method, url)
    assert reply.status_code in (400, 405)
    assert server.client.post("/v1/jobs?wait=1", json=SMALL).status_code == 400


# Nobody else's


def calls(job: str) -> dict[tuple[str, str], Callable[[httpx2.Client], httpx2.Response]]:
    """A call of every route that shows or changes a job, by method and path."""
    return {
        ("GET", "/v1/jobs/{id}"): lambda c: c.get(f"/v1/jobs/{job}"),
        ("POST", "/v1/jobs/{id}/cancel"): lambda c: c.post(f"/v1/jobs/{job}/cancel"),
        ("DELETE", "/v1/jobs/{id}"): lambda c: c.delete(f"/v1/jobs/{job}"),
        ("GET", "/v1/jobs/{id}/events"): lambda c: c.get(f"/v1/jobs/{job}/events"),
    }


OF_NO_JOB = {
    ("GET", "/docs"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json"),
    ("GET", "/v1/models"), ("GET", "/v1/models/{name}"), ("GET", "/anthropic/v1/models"),
    ("GET", "/account/query_balance"), ("GET", "/v1/token_plan/remains"),
    ("POST", "/v1/scenes"), ("POST", "/v1/reference_preview"),
}  # fmt: skip
"""Routes that neither show nor change anything that a tenant asked for."""

SEEN_APART = {
    ("POST", "/v1/image_generation"): "its idempotency key, in test_api_idempotency",
    ("POST", "/v1/pictures"): "its idempotency key, in test_api_idempotency",
    ("POST", "/v1/jobs"): "its idempotency key, in test_api_idempotency",
    ("POST", "/v1/images/generations"): "its idempotency key, in test_api_openai",
    ("POST", "/v1/images/edits"): "its idempotency key, in test_api_openai",
    ("GET", "/v1/jobs"): "below",
    ("GET", "/v1/webhook_secret"): "below",
    ("GET", "/v1/usage"): "test_api_usage",
    ("GET", "/files/{name}"): "public by unguessable name",
}
"""Routes whose keeping tenants apart is tested in another way."""


def test_every_route_is_among_those_that_keep_tenants_apart() -> None:
    document = create_app(Settings()).openapi()
    routes = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert calls(NOBODYS).keys() | OF_NO_JOB | SEEN_APART.keys() >= routes
    assert routes >= calls(NOBODYS).keys() | SEEN_APART.keys()
    listed = {path for _, path in routes}
    aliases = {"/image_generation", "/v1/v1/image_generation"}
    for route in create_app(Settings()).routes:
        if isinstance(route, APIRoute):
            page = {"/docs", "/", "/favicon.ico", "/studio/{name:path}"}
            assert route.path in listed | page or route.path.rstrip("/") in aliases | {"/v1/image_generation"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("data"), api_keys="sk-anna,sk-ben") as running:
        yield running


ANNA, BEN = {"Authorization": "Bearer sk-anna"}, {"Authorization": "Bearer sk-ben"}


@contextmanager
def client_of(server: Server, headers: dict[str, str]) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers=headers, timeout=30, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("route", calls(NOBODYS))
def test_a_job_is_not_there_for_another_tenant_nor_for_nobody(shared: Server, route: tuple[str, str]) -> None:
    job = accept(shared, ANNA)
    with client_of(shared, ANNA) as anna:
        wait_for(lambda: anna.get(f"/v1/jobs/{job['id']}").json()["state"] == "done")
        with client_of(shared, BEN) as ben:
            theirs, nobodys = (calls(name)[route](ben) for name in (job["id"], NOBODYS))
        assert theirs.status_code == nobodys.status_code == 404
        told = [check_shape(answer, 2013)["status_msg"].replace(name, "") for answer, name in
                ((theirs, job["id"]), (nobodys, NOBODYS))]  # fmt: skip
        assert told[0] == told[1]
        with client_of(shared, {}) as stranger:
            strangers = calls(job["id"])[route](stranger)
        assert (strangers.status_code, check_shape(strangers)["status_code"]) == (401, 1004)
        assert checked(anna.get(f"/v1/jobs/{job['id']}").json())["state"] == "done"
        assert calls(job["id"])[route](anna).status_code in (200, 204)


def test_lists_and_secrets_are_the_tenants_own(shared: Server) -> None:
    mine = accept(shared, ANNA)["id"]
    with client_of(shared, ANNA) as anna, client_of(shared, BEN) as ben:
        assert mine in anna.get("/v1/jobs").text
        assert ben.get("/v1/jobs").json() == {"jobs": [], "next": None}
        newest = anna.get("/v1/jobs", params={"limit": 1}).json()
        if newest["next"]:
            assert ben.get("/v1/jobs", params={"cursor": newest["next"]}).json()["jobs"] == []
        secrets = {client.get("/v1/webhook_secret").json()["secret"] for client in (anna, ben)}
    assert len(secrets) == 2
    assert shared.client.get("/v1/webhook_secret").status_code == 401


def test_a_secret_that_cannot_be_read_is_told_without_the_servers_paths(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    (tmp_path / "webhook-secret").write_text("short\n")
    with capture_logs() as lines:
        reply = server.client.get("/v1/webhook_secret")
    assert (reply.status_code, check_shape(reply)["status_code"]) == (500, 1024)
    assert "webhook-secret" not in reply.text
    (line,) = (line for line in lines if line["event"] == "webhook secret not read")
    assert str(tmp_path / "webhook-secret") in line["reason"]


@pytest.mark.parametrize("name", [NOBODYS, "x", "0" * 31, "A" * 32, "%00", "%ff", "' OR 1=1 --", "a" * 5000])
def test_an_id_that_is_no_jobs_is_a_404_in_the_one_shape(server: Server, name: str) -> None:
    for call in calls(name).values():
        reply = call(server.client)
        assert reply.status_code == 404
        check_shape(reply, 2013)


# Events


@dataclass
class Told:
    """One server-sent event."""

    name: str
    id: str | None
    data: dict[str, Any]


@contextmanager
def following(
    server: Server, job: dict[str, Any], headers: dict[str, str] | None = None, **query: Any
) -> Iterator[tuple[httpx2.Response, Iterator[Told]]]:
    """A stream of a job's events, read as the HTML standard says, and held to the job's schema."""
    url = f"/v1/jobs/{job['id']}/events"
    with server.client.stream("GET", url, params=query, headers=headers) as reply:

        def read() -> Iterator[Told]:
            name, event_id, data = "message", None, ""
            for line in reply.iter_lines():
                field, _, value = line.partition(": ")
                match field:
                    case "event":
                        name = value
                    case "id":
                        event_id = value
                    case "data":
                        data += value
                    case "" if data and not line:
                        told = Told(name, event_id, json.loads(data))
                        if name != "preview":
                            checked(told.data)
                        yield told
                        name, event_id, data = "message", None, ""

        events = read()
        try:
            yield reply, events
        finally:
            events.close()  # type: ignore[attr-defined]  # a generator


def test_events_tell_of_every_step_up_to_the_end(serve: Serve, gate: threading.Semaphore) -> None:
    server = serve(gate=gate)
    job = accept(server, n=2)
    with following(server, job) as (reply, events):
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-store", "no")
        first = next(events)
        assert first.name in ("queued", "running")
        gate.release(1000)
        told = [first, *events]
    assert [event.name for event in told if event.name == "done"] == ["done"]
    assert told[-1].data == look(server, job)
    assert [event.name for event in told] == [event.data["state"] for event in told]
    steps = [event.data["progress"]["step"] for event in told]
    assert steps == sorted(steps)
    assert len({event.id for event in told}) == len(told)
    assert all(re.fullmatch(sse.ID, str(event.id)) for event in told)


def test_a_page_that_is_loaded_again_while_it_is_painted_goes_on_where_it_was(
    serve: Serve, gate: threading.Semaphore
) -> None:
    server = serve(gate=gate)
    job = accept(server)
    gate.release(2)  # of four evaluations
    with following(server, job) as (_, events):
        seen = next(event for event in events if event.data["progress"]["step"] == 2)
    for name in ("Last-Event-ID", "last_event_id"):
        attempt: dict[str, Any] = {name: seen.id} if name == "last_event_id" else {"headers": {name: seen.id}}
        with following(server, job, **attempt) as (_, events):
            gate.release(1)
            after = next(events)
            assert after.id != seen.id
            assert after.data["progress"]["step"] >= seen.data["progress"]["step"]
            seen = after
    gate.release(1000)
    with following(server, job, {"Last-Event-ID": str(seen.id)}) as (_, events):
        *_, last = events
    assert last.name == "done"
    assert server.pipeline.encoded == server.pipeline.decoded  # painted once


def test_who_saw_the_end_is_told_not_to_come_again(server: Server) -> None:
    job = ended(server, accept(server))
    with following(server, job) as (_, events):
        (last,) = events
    assert last.data == job
    for attempt in ({"headers": {"Last-Event-ID": last.id}}, {"params": {"last_event_id": last.id}}):
        reply = server.client.get(f"/v1/jobs/{job['id']}/events", **attempt)  # type: ignore[arg-type]  # headers or params
        assert (reply.status_code, reply.content) == (204, b"")
    with following(server, job, {"Last-Event-ID": "0" * 16}) as (_, events):
        assert [event.id for event in events] == [last.id]


@pytest.mark.parametrize("query", ["last_event_id=7", "last_event_id=%00", "previews=maybe", "since=1"])
def test_a_question_for_events_that_is_wrong_is_a_2013(server: Server, query: str) -> None:
    reply = server.client.get(f"/v1/jobs/{NOBODYS}/events?{query}")
    assert reply.status_code == 400
    check_shape(reply, 2013)
    assert server.client.get(f"/v1/jobs/{NOBODYS}/events", headers={"Last-Event-ID": "x"}).status_code == 400


def test_events_tell_of_the_place_in_the_queue(
    serve: Serve, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "PLACE_SECONDS", 0.02)
    server = serve(gate=gate, queue_limit=1)
    first, second, third = (accept(server) for _ in range(3))
    assert server.pipeline.entered.acquire(timeout=30)
    with following(server, third) as (_, events):
        assert next(events).data["queue_place"] == 2
        server.client.post(f"/v1/jobs/{second['id']}/cancel")
        assert next(events).data["queue_place"] == 1
        gate.release(1000)
        *_, last = events
    assert last.name == "done"
    assert ended(server, first)["state"] == "done"


def test_who_watches_a_cancelled_job_sees_its_end(serve: Serve, gate: threading.Semaphore) -> None:
    server = serve(gate=gate)
    job = accept(server)
    with following(server, job) as (_, events):
        next(events)
        server.client.post(f"/v1/jobs/{job['id']}/cancel")
        *_, last = events
    assert last.name == "cancelled"


def test_the_events_of_a_deleted_job_end(serve: Serve, gate: threading.Semaphore) -> None:
    server = serve(gate=gate)
    job = accept(server)
    with following(server, job) as (_, events):
        next(events)
        assert server.client.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert all(event.name != "done" for event in events)


def a_file(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "jpeg")
    return buffer.getvalue()


def test_previews_come_where_they_are_asked_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    job = accept(server)
    ended(server, job)
    previews = [Preview(0, 1, a_file("red")), Preview(1, 2, a_file("blue"))]

    async def follow(job_id: str, caller: Any) -> AsyncGenerator[Job | Preview, None]:
        for preview in previews:
            yield preview
        yield await server.service.job(job_id, caller)

    monkeypatch.setattr(server.service, "follow", follow)
    with following(server, job) as (_, events):
        assert [event.name for event in events] == ["done"]
    with following(server, job, previews="true") as (_, events):
        told = list(events)
    assert [(event.name, event.id is None) for event in told] == [("preview", True), ("preview", True), ("done", False)]
    for event, preview in zip(told, previews, strict=False):
        assert event.data == {
            "number": preview.number,
            "step": preview.step,
            "base64": base64.b64encode(preview.data).decode(),
        }


def test_a_comment_keeps_a_quiet_stream_alive_and_the_client_is_told_when_to_come_back(
    serve: Serve, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.02)
    server = serve(gate=gate)
    job = accept(server)
    with server.client.stream("GET", f"/v1/jobs/{job['id']}/events") as reply:
        lines = reply.iter_lines()
        assert next(lines) == "retry: 2000"
        assert [next(line for line in lines if line.startswith(":")) for _ in range(3)] == [":"] * 3
    gate.release(1000)


def test_a_client_that_leaves_its_stream_frees_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    job = accept(server)
    left = threading.Event()
    follow = server.service.follow

    async def watched(*arguments: Any) -> AsyncGenerator[Job | Preview, None]:
        try:
            async for change in follow(*arguments):
                yield change
            await asyncio.Event().wait()
        finally:
            left.set()

    monkeypatch.setattr(server.service, "follow", watched)
    with following(server, job) as (_, events):
        next(events)
        assert not left.is_set()
    assert left.wait(30)


def test_a_reader_that_takes_nothing_makes_nothing_pile_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    job = accept(server)
    ended(server, job)
    sent, left, pause = [0], threading.Event(), threading.Event()

    async def flood(*_: Any) -> AsyncGenerator[Job | Preview, None]:
        try:
            while True:
                sent[0] += 1
                yield Preview(0, sent[0], bytes(100_000))
        finally:
            left.set()

    monkeypatch.setattr(server.service, "follow", flood)
    with closing(socket.create_connection(("127.0.0.1", server.port))) as connection:
        path = f"/v1/jobs/{job['id']}/events?previews=true"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        before = -1
        while before != sent[0]:
            before = sent[0]
            pause.wait(0.3)
        assert 1 < sent[0] < 200  # megabytes in the sockets' buffers, none here
        assert not left.is_set()
    assert left.wait(30)


def test_a_service_that_stops_tells_the_job_to_who_waits_and_ends_streams_and_the_next_one_paints_it(
    serve: Serve, gate: threading.Semaphore
) -> None:
    server = serve(gate=gate, grace_seconds=0.05, queue_limit=2)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.paint, seed=5, **SMALL)
        assert server.pipeline.entered.acquire(timeout=30)
        waiting = accept(server, n=2)
        with following(server, waiting) as (_, events):
            next(events)
            loop = server.service.runner._loops[0].get_loop()  # of the server
            stopping = asyncio.run_coroutine_threadsafe(server.service.stop(), loop)
            told = check_shape(call.result(), 1024)["status_msg"]
            assert all(event.name == "queued" for event in events)
        gate.release(1000)
        stopping.result()
    found = re.search("[0-9a-f]{32}", told)
    assert found is not None
    after = serve()
    again = ended(after, {"id": found[0]})
    assert (again["state"], again["request"]["seed"]) == ("done", "5")
    data = after.client.get(again["pictures"][0]["url"]).content
    assert data == base64.b64decode(after.paint(seed=5, **SMALL).json()["data"]["image_base64"][0])
    assert ended(after, waiting)["state"] == "done"


def test_a_job_is_followed_and_cancelled_through_another_process_than_its_own(
    serve: Serve, gate: threading.Semaphore
) -> None:
    mine, other = serve(gate=gate), serve()
    painted, stopped = accept(mine), accept(mine)
    assert mine.pipeline.entered.acquire(timeout=30)
    with following(other, painted) as (_, events):
        assert next(events).name in ("queued", "running")
        assert other.client.post(f"/v1/jobs/{stopped['id']}/cancel").status_code == 200
        wait_for(lambda: look(other, stopped)["state"] == "cancelled")
        gate.release(1000)
        *_, last = events
    assert last.name == "done"
    assert other.client.get(last.data["pictures"][0]["url"]).status_code == 200
    assert other.pipeline.encoded == []


def test_jobs_are_the_same_on_postgresql_and_s3_with_links_that_the_store_signs(
    serve: Serve, postgres: Postgres, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = postgres.new_database()
    empty = Database(url)
    migrations.upgrade(empty)
    with empty.transaction() as connection:
        audit.add(connection, now=1.0, tenant="", job="", stage="prompt", rule="a", prompt="a\0b")
    empty.close()
    store = {"store_url": s3.store_url("jobs"), "store_options": s3.store_options(), "links": "store"}
    server = serve(database_url=url, **store)
    made = [accept(server, seed=seed)["id"] for seed in range(5)]
    done = ended(server, {"id": made[0]})
    data = httpx2.get(done["pictures"][0]["url"], trust_env=False).content
    assert not done["pictures"][0]["url"].startswith(server.url)
    assert hashlib.sha256(data).hexdigest() == done["pictures"][0]["sha256"]
    with following(server, done) as (_, events):
        (last,) = events
    reply = server.client.get(f"/v1/jobs/{made[0]}/events", headers={"Last-Event-ID": str(last.id)})
    assert reply.status_code == 204  # though the links are signed anew
    found, query = [], {"limit": 2}
    while query.get("cursor", "") is not None:
        page = server.client.get("/v1/jobs", params=query).json()
        found += [checked(job)["id"] for job in page["jobs"]]
        query["cursor"] = page["next"]
    assert found == made[::-1]
    assert server.client.delete(f"/v1/jobs/{made[0]}").status_code == 204
    assert httpx2.get(done["pictures"][0]["url"], trust_env=False).status_code == 404
    for name in ("a%00b", "%00", "x.jpeg%00"):
        assert server.client.get(f"/files/{name}").status_code == 404
        assert server.client.get(f"/v1/jobs/{name}").status_code == 404
    assert server.client.get("/v1/jobs?model=%00").status_code == 400
    for path in ("http://a\0.example/", "http://127.0.0.1:1/\0"):
        for field in ("subject_reference", "webhook_url"):
            assert check_shape(server.client.post("/v1/jobs", json=SMALL | {field: path}), 2013)
    odd = {"Idempotency-Key": "~" * 255}
    assert accept(server, odd, prompt="a\u0000 red fox, quite long enough", seed=1)["id"] != made[0]


# Webhooks


def test_the_end_of_a_job_is_told_where_it_asked_for_it_signed_for_its_tenant(serve: Serve) -> None:
    messages: list[tuple[dict[str, str], bytes]] = []
    came = threading.Event()

    def receive(_server: HostileServer, connection: socket.socket, seen: bytes) -> None:
        head, _, body = seen.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        original = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        messages.append(({name.lower(): value for name, value in original.items()}, body))
        connection.sendall(reply("204 No Content"))
        came.set()

    server = serve(api_keys="sk-anna", webhook_allow=("127.0.0.2/32",), public_url="https://pictures.example")
    with HostileServer(receive) as hook, client_of(server, ANNA) as anna:
        job = accept(server, ANNA, webhook_url=hook.url("/ended"))
        assert came.wait(30)
        answer = anna.get("/v1/webhook_secret")
        done = anna.get(f"/v1/jobs/{job['id']}").json()
    assert answer.headers["cache-control"] == "no-store"
    ((headers, body),) = messages
    event = Webhook(answer.json()["secret"]).verify(body, headers)
    assert event == {"type": "job.done", "timestamp": done["finished_at"], "data": done}
    assert done["pictures"][0]["url"].startswith("https://pictures.example/files/")


# The document


def test_every_field_of_a_job_is_described_on_the_page_on_http() -> None:
    page = (Path(__file__).parent.parent / "docs/http.md").read_text("utf-8")
    schema = job_document.SCHEMA["properties"]
    names = {*schema, *schema["progress"]["properties"], *schema["pictures"]["items"]["properties"]}
    assert {name for name in names | schema["request"]["properties"].keys() if f"`{name}`" not in page} == set()
    for state in VISIBLE:
        assert f"`{state}`" in page
