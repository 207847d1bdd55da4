"""Keys, limits and usage over HTTP, on a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from structlog.testing import capture_logs

from conftest import API, Server, wait_for
from limner.storage import keys, usage
from limner.storage.keys import Key, Limits

Serve = Callable[..., Server]


def make(server: Server, tenant: str = "acme", /, **limits: Any) -> tuple[Key, dict[str, str]]:
    """A key, and the header that carries it."""
    with server.service.database.transaction() as connection:
        key, secret = keys.create(connection, tenant, Limits(**limits), time.time())
    return key, {"Authorization": f"Bearer {secret}"}


def code(reply: httpx2.Response) -> int:
    return int(reply.json()["base_resp"]["status_code"])


def sentence(reply: httpx2.Response) -> str:
    return str(reply.json()["base_resp"]["status_msg"])


def shown(server: Server, header: dict[str, str], **span: str) -> Any:
    reply = server.client.get("/v1/usage", headers=header, params=span)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_first_key_closes_a_running_service_and_its_revocation_leaves_it_closed(serve: Serve) -> None:
    server = serve()
    assert code(server.paint()) == 0
    key, header = make(server)
    assert code(server.paint()) == 1004
    assert code(server.paint(header)) == 0
    assert code(server.paint({"Authorization": f"Bearer {keys.new_secret()}"})) == 2049
    with server.service.database.transaction() as connection:
        keys.revoke(connection, key.id, time.time())
    assert (code(server.paint(header)), code(server.paint())) == (2049, 1004)


GUARDED = (
    ("POST", API), ("POST", "/v1/scenes"), ("POST", "/v1/pictures"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/" + "0" * 32), ("DELETE", "/v1/jobs/" + "0" * 32), ("POST", f"/v1/jobs/{'0' * 32}/cancel"),
    ("GET", f"/v1/jobs/{'0' * 32}/events"), ("GET", "/v1/models"), ("GET", "/v1/models/image-01"),
    ("GET", "/anthropic/v1/models"), ("GET", "/v1/usage"), ("GET", "/v1/token_plan/remains"),
    ("GET", "/account/query_balance"), ("GET", "/v1/webhook_secret"), ("POST", "/v1/reference_preview"),
)  # fmt: skip

GUARDED_OPENAI = ("/v1/images/generations", "/v1/images/edits")
"""Routes whose errors have OpenAI's shape."""


def test_every_route_but_files_and_the_operators_own_asks_for_a_key(serve: Serve) -> None:
    server = serve()
    make(server)
    for method, path in GUARDED:
        reply = server.client.request(method, path, json={} if method == "POST" else None)
        assert code(reply) == 1004, (method, path)
    for path in GUARDED_OPENAI:
        reply = server.client.post(path, json={})
        assert (reply.status_code, [*reply.json()]) == (401, ["error"]), path
    open_to_all = {"/openapi.json", "/docs", "/healthz", "/readyz", "/metrics", "/files/{name}"}
    documented = server.client.get("/openapi.json").json()["paths"]
    listed = {path.replace("0" * 32, "{id}") for _, path in GUARDED} | {"/v1/models/{name}", *GUARDED_OPENAI}
    unknown = {path for path in documented if path.replace("{job_id}", "{id}") not in listed | open_to_all}
    assert unknown == set()


def test_the_rate_is_told_with_the_time_to_wait(serve: Serve) -> None:
    server = serve(http_status="real")
    _, header = make(server, rate=2)
    assert [server.paint(header).status_code for _ in range(2)] == [200, 200]
    reply = server.paint(header)
    assert (reply.status_code, code(reply)) == (429, 1002)
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert "2 pictures a minute" in sentence(reply)
    other = make(server, "other", rate=2)[1]
    assert code(server.paint(other)) == 0


def test_the_quota_is_told_with_the_time_of_midnight(serve: Serve) -> None:
    server = serve(http_status="real")
    _, header = make(server, daily=3)
    assert code(server.paint(header, n=2)) == 0
    reply = server.paint(header, n=2)
    assert (reply.status_code, code(reply)) == (402, 1008)
    left = usage.day_ends(time.time()) - time.time()
    assert abs(int(reply.headers["retry-after"]) - left) < 60
    assert "3 pictures a day, of which 1 are left" in sentence(reply)
    assert code(server.paint(header)) == 0


def test_jobs_at_once_are_limited_until_one_has_ended(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    _, header = make(server, concurrent=1)
    first = threading.Thread(target=server.paint, args=(header,))
    first.start()
    wait_for(server.pipeline.entered.acquire)
    reply = server.paint(header)
    assert code(reply) == 1002
    assert "1 jobs at once" in sentence(reply)
    gate.release(10_000)
    first.join()
    assert code(server.paint(header)) == 0


def test_a_model_outside_the_key_is_2061_and_not_listed(serve: Serve) -> None:
    server = serve(http_status="real", models={"image-01-live": "/nowhere"})
    _, header = make(server, models=("image-01",))
    reply = server.paint(header, model="image-01-live")
    assert (reply.status_code, code(reply)) == (403, 2061)
    assert "it may use image-01." in sentence(reply)
    assert code(server.paint(header)) == 0
    listed = server.client.get("/v1/models", headers=header).json()["data"]
    assert [model["id"] for model in listed] == ["image-01"]
    listed = server.client.get("/anthropic/v1/models", headers=header).json()
    assert (listed["first_id"], listed["last_id"], len(listed["data"])) == ("image-01", "image-01", 1)
    assert code(server.client.get("/v1/models/image-01-live", headers=header)) == 2061
    unknown = server.client.get("/v1/models/image-02", headers=header)
    assert (unknown.status_code, code(unknown)) == (404, 2013)
    assert "image-01-live" not in sentence(unknown)
    nothing = make(server, models=("gone",))[1]
    assert server.client.get("/anthropic/v1/models", headers=nothing).json()["first_id"] is None


def test_a_size_above_the_keys_is_2013_with_the_limit(serve: Serve) -> None:
    server = serve()
    _, header = make(server, max_pixels=512 * 512)
    assert code(server.paint(header, width=512, height=512)) == 0
    reply = server.paint(header)
    assert code(reply) == 2013
    assert "at most 262144 pixels; 1024×1024" in sentence(reply)


def test_usage_adds_up_what_was_painted_and_tells_limits_and_what_is_left(serve: Serve) -> None:
    server = serve()
    _, header = make(server, daily=10, rate=9, retention=60.0)
    _, second = make(server)
    make(server, "other")
    for headers, n in ((header, 2), (header, 1), (second, 1)):
        assert code(server.paint(headers, n=n, width=512, height=512)) == 0
    answer = shown(server, header)
    today = usage.day_of(time.time())
    assert (answer["tenant"], answer["from"], answer["to"]) == ("acme", today[:8] + "01", today)
    (day,) = answer["days"]
    assert day["cost"] > 0
    assert day["bytes"] > 1000
    assert {name: day[name] for name in ("day", "model", "jobs", "images", "failed", "charged")} == {
        "day": today,
        "model": "image-01",
        "jobs": 3,
        "images": 4,
        "failed": 0,
        "charged": 4,
    }
    assert answer["today"] == {"charged": 3, "left": 7, "ends": usage.day_ends(time.time())}
    assert (answer["limits"]["daily"], answer["limits"]["rate"], answer["limits"]["retention"]) == (10, 9, 60.0)
    assert shown(server, second)["days"] == answer["days"]  # the tenant's, whichever key asks
    assert shown(server, make(server, "third")[1])["days"] == []
    assert shown(server, header, **{"from": "2026-01-01", "to": "2026-01-31"})["days"] == []


def test_usage_without_keys_is_that_of_everybody(server: Server) -> None:
    assert code(server.paint(width=512, height=512)) == 0
    answer = shown(server, {})
    assert (answer["tenant"], answer["today"]["left"]) == ("", None)
    assert answer["days"][-1]["images"] >= 1


def test_a_span_that_is_none_is_a_400_with_a_sentence(server: Server) -> None:
    for span in ({"from": "x"}, {"to": "2026-13-01"}, {"from": "2026-11-02", "to": "2026-11-01"}):
        reply = server.client.get("/v1/usage", params=span)
        assert (reply.status_code, code(reply)) == (400, 2013)


def test_pictures_that_fail_by_the_services_fault_are_given_back_to_the_quota(serve: Serve) -> None:
    server = serve()
    _, header = make(server, daily=2)
    assert code(server.paint(header, prompt="explode in decode", n=2)) == 1024
    answer = shown(server, header)
    assert (answer["today"]["left"], answer["days"][0]["failed"], answer["days"][0]["images"]) == (2, 2, 0)
    assert code(server.paint(header, n=2)) == 0
    assert code(server.paint(header)) == 1008


def test_deleting_its_jobs_gives_a_tenant_no_quota_back(serve: Serve) -> None:
    server = serve()
    _, header = make(server, daily=2)
    for _ in range(2):
        reply = server.paint(header)
        job = server.client.delete(f"/v1/jobs/{reply.json()['id']}", headers=header)
        assert job.status_code in (200, 204)
        assert server.client.get(f"/v1/jobs/{reply.json()['id']}", headers=header).status_code == 404
    assert code(server.paint(header)) == 1008
    assert shown(server, header)["today"]["left"] == 0


def test_jobs_of_a_key_are_kept_for_as_long_as_it_says(serve: Serve) -> None:
    server = serve()
    _, header = make(server, retention=7200.0)
    before = time.time()
    reply = server.paint(header)
    with server.service.database.transaction(writing=False) as connection:
        expires = connection.exec_driver_sql("SELECT expires FROM jobs").scalar_one()
    assert code(reply) == 0
    assert before + 7200 <= expires <= time.time() + 7200 + 1


def test_mmx_reads_the_quota_of_the_key(serve: Serve) -> None:
    server = serve()
    _, header = make(server, daily=4)
    _, unlimited = make(server)
    assert code(server.paint(header)) == 0
    plan = server.client.get("/v1/token_plan/remains", headers=header).json()
    assert plan["base_resp"]["status_code"] == 0
    assert [entry["model_name"] for entry in plan["model_remains"]] == ["image-01", "image-01-live"]
    entry = plan["model_remains"][0]
    assert entry["current_interval_total_count"] == 4
    assert entry["current_interval_usage_count"] == 3  # what is left, as mmx takes it
    assert entry["current_interval_remaining_percent"] == 75
    assert entry["end_time"] == 1000 * usage.day_ends(time.time())
    assert entry["end_time"] - entry["start_time"] == 86_400_000
    assert 0 < entry["remains_time"] <= 86_400_000
    assert server.client.get("/v1/token_plan/remains", headers=unlimited).json()["model_remains"] == []


def test_no_key_of_the_database_is_ever_logged_or_answered(serve: Serve, tmp_path: Path) -> None:
    with capture_logs() as logs:
        server = serve()
        key, header = make(server, rate=1, models=("image-01",))
        secret = header["Authorization"].removeprefix("Bearer ")
        answers = [server.paint(header, prompt="a private fox") for _ in range(2)]
        answers += [server.paint(header, model="image-01-live")]
        answers += [server.client.get(path, headers=header) for path in ("/v1/usage", "/v1/models", "/metrics")]
        with server.service.database.transaction() as connection:
            keys.revoke(connection, key.id, time.time())
        answers += [server.paint(header), server.paint({"Authorization": f"Bearer {secret[:-1]}"})]
    text = str(logs) + "".join(f"{answer.headers}{answer.text}" for answer in answers)
    assert secret[3:20] not in text
    assert keys.digest(secret) not in text
    assert "private" not in str(logs)
