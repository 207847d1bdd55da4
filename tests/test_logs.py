"""Log lines: each of a call carries its id, none a secret, and nothing that a caller sends can forge one."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from PIL import Image

from conftest import API, Server, wait_for
from limner import logs, tracing
from limner.config import Settings

KEY = "sk-whispered-0123456789"
PROMPT = "a purple narwhal that reads at dusk"
TOKEN = "hush-hush-token"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def written(**options: Any) -> Iterator[Callable[[], str]]:
    """What is logged within, by these settings; what was configured before comes back."""
    root, ours = logging.getLogger(), logging.getLogger("limner")
    before = root.handlers, root.level, ours.level, structlog.get_config()
    logs.configure(Settings(**options))
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    handler.setStream(stream)
    try:
        yield stream.getvalue
    finally:
        root.handlers, level, our_level, config = before
        root.setLevel(level)
        ours.setLevel(our_level)
        structlog.configure(**config)


def reference() -> str:
    """A small picture in base64."""
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((96, 96)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@contextmanager
def receiving() -> Iterator[tuple[str, list[bytes]]]:
    """A webhook's receiver on loopback, and what came to it."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def exercise(server: Server, hook: str) -> dict[str, httpx2.Response]:
    """Everything that a caller may do right and wrong, with secrets in all places that may hold one."""
    keyed = {"Authorization": f"Bearer {KEY}"}
    told = {
        "painted": server.paint(keyed, prompt=PROMPT, response_format="url", seed=1),
        "referred": server.paint(
            keyed, prompt=PROMPT, subject_reference=[{"type": "character", "image_file": reference()}]
        ),
        "retried": server.paint(keyed | {"Idempotency-Key": TOKEN}, prompt=PROMPT),
        "followed": server.paint(keyed | {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, prompt=PROMPT),
        "refused": server.paint(keyed, prompt=f"{PROMPT} forbidden"),
        "exploded": server.paint(keyed, prompt=f"{PROMPT} explode in evaluate"),
        "shouted": server.paint(keyed, prompt=PROMPT * 100),
        "broken": server.client.post(API, content=f'{{"prompt": "{PROMPT}", oops'.encode(), headers=keyed),
        "unknown": server.paint(keyed, prompt=PROMPT, model="x\nforged line\x1b[2J"),
        "local": server.paint(
            keyed, subject_reference=[{"type": "character", "image_file": f"http://10.0.0.1/{TOKEN}.png"}]
        ),
        "stranger": server.paint({"Authorization": f"Bearer {TOKEN}"}, prompt=PROMPT),
        "job": server.client.post(
            "/v1/jobs", headers=keyed,
            json={"model": "image-01", "prompt": PROMPT, "webhook_url": f"{hook}/{TOKEN}?token={TOKEN}"},
        ),
    }  # fmt: skip
    link = told["painted"].json()["data"]["image_urls"][0]
    assert server.client.get(link, headers=keyed).status_code == 200
    server.client.get(f"/files/{TOKEN}.jpeg")
    server.client.get(f"/{TOKEN}%0aforged line?key={KEY}")
    return told


@pytest.mark.parametrize("kind", ["json", "text"])
def test_no_line_holds_a_secret_and_each_of_a_call_its_id(
    kind: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[[rule]]\nname = 'r'\nterms = ['forbidden']\n[audit]\nprompts = true\n")
    with written(log_level="debug", log_format=kind) as lines, receiving() as (hook, bodies):
        server = serve(
            api_keys=KEY, policy_file=policy, log_level="debug", webhook_allow=("127.0.0.0/8",),
            tracing_url=f"{hook}/v1/traces", parameters_in_metadata=True, result_cache=True,
        )  # fmt: skip
        told = exercise(server, hook)
        codes = {name: answer.json()["base_resp"]["status_code"] for name, answer in told.items() if name != "job"}
        assert codes == {
            "painted": 0, "referred": 0, "retried": 0, "followed": 0, "refused": 1026, "exploded": 1024,
            "shouted": 2013, "broken": 2013, "unknown": 2013, "local": 2013, "stranger": 2049,
        }  # fmt: skip
        assert told["job"].status_code == 202, told["job"].text
        wait_for(lambda: any(b"job" in body for body in bodies))
        wait_for(lambda: "webhook" in lines())
        tracing.stop()  # while the receiver is there
        text = lines()
    picture = told["painted"].json()["data"]["image_urls"][0].rsplit("/", 1)[1].partition(".")[0]
    for secret in (KEY, "narwhal", TOKEN, picture, reference()[:60], reference()[-60:], "10.0.0.1"):
        assert secret not in text, [line for line in text.splitlines() if secret in line]
    assert not any(line.startswith("forged") for line in text.splitlines())
    assert "\x1b" not in text
    if kind == "json":
        found = [json.loads(line) for line in text.split("\n") if line]
        of = {name: [line for line in found if line.get("id") == answer.json()["id"]] for name, answer in told.items()}
        for name in ("painted", "referred", "retried", "exploded"):
            assert {"job", "request"} <= {line["event"] for line in of[name]}, name
        assert {"job", "webhook"} <= {line["event"] for line in of["job"]}  # which ended after the call
        assert {line["trace_id"] for line in of["followed"]} == {TRACE}
        assert not any("trace_id" in line for line in of["painted"])
        failed = told["exploded"].json()["id"]
        (line,) = [line for line in found if line["event"] == "a request failed"]  # by the engine, in its own thread
        assert line["request"].startswith(failed)
        assert line["exception"]


FORGED = "well\n2026-01-01T00:00:00Z [info     ] forged\x1b[2J\r\x85\u2028\u202e"


@pytest.mark.parametrize("kind", ["json", "text"])
def test_control_characters_neither_end_a_line_nor_reach_the_terminal(kind: str) -> None:
    with written(log_format=kind) as lines:
        log = structlog.get_logger("limner.test")
        log.info(FORGED, reason=FORGED, number=3, listed=[FORGED])
        logging.getLogger("another").warning("said: %s", FORGED)
        text = lines()
    assert len(text.splitlines()) == 2
    assert not set("\x1b\r\x85\u2028\u202e") & set(text)
    assert text.count("forged") == 4
    if kind == "json":
        first = json.loads(text.splitlines()[0])
        assert (first["event"], first["reason"], first["listed"]) == (FORGED, FORGED, [FORGED])


def test_the_lines_of_a_traceback_are_indented() -> None:
    with written(log_format="text") as lines:
        try:
            raise ValueError(FORGED)
        except ValueError:
            structlog.get_logger("limner.test").exception("it failed")
        text = lines()
    first, *rest = text.splitlines()
    assert "it failed" in first
    assert len(rest) > 3
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in text


def test_text_that_is_no_control_character_stays_as_it_is() -> None:
    for kind in ("json", "text"):
        with written(log_format=kind) as lines:
            structlog.get_logger("limner.test").info("水彩 – ok", path="C:\\x")
            assert "水彩 – ok" in lines()


def test_other_packages_are_heard_from_warnings_up_alone() -> None:
    with written(log_level="debug") as lines:
        logging.getLogger("httpcore2.connection").debug("connect https://signed/?key=hush")
        logging.getLogger("sqlalchemy.engine").info("INSERT prompt")
        logging.getLogger("another").warning("mind this")
        structlog.get_logger("limner.test").debug("our own")
        text = lines()
    assert "hush" not in text
    assert "INSERT" not in text
    assert "mind this" in text
    assert "our own" in text
    with written(log_level="error") as lines:
        logging.getLogger("another").warning("mind this")
        structlog.get_logger("limner.test").warning("our own")
        assert lines() == ""
