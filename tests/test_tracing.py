"""Spans arrive at a real OTLP receiver on loopback, say what they should, and cost nothing where they are off."""

from __future__ import annotations

import asyncio
import builtins
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from conftest import Server, wait_for
from limner import counters, tracing
from limner.config import Settings
from limner.errors import InvalidRequest, SettingsInvalid

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OWN = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass
class Receiver:
    """What came to an OTLP/HTTP endpoint."""

    url: str
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def all(self) -> list[Span]:
        """Once no more come: after `tracing.stop`."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def spans(self) -> dict[str, Span]:
        return by_name(self.all)


def by_name(found: list[Span]) -> dict[str, Span]:
    assert len({span.name for span in found}) == len(found)
    return {span.name: span for span in found}


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            spans = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if spans:
                receiver.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if spans else 204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}/v1/traces")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that spans are sent to until the test ends."""
    with receiving() as running:
        tracing.start(Settings(tracing_url=running.url))
        try:
            yield running
        finally:
            tracing.stop()


def attributes(span: Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}


def test_spans_nest_and_carry_their_attributes(receiver: Receiver) -> None:
    with tracing.span("outer", {"limner.model": "image-01"}, trace=OWN) as outer, tracing.span("inner") as inner:
        inner.set_attribute("limner.pictures", 3)
        outer.update_name("renamed")
    tracing.stop()
    spans = receiver.spans
    assert spans.keys() == {"renamed", "inner"}
    assert {span.trace_id.hex() for span in spans.values()} == {OWN}
    assert spans["inner"].parent_span_id == spans["renamed"].span_id
    assert spans["renamed"].parent_span_id == b""
    assert attributes(spans["renamed"]) == {"limner.model": "image-01"}
    assert attributes(spans["inner"]) == {"limner.pictures": 3}
    (resource,) = receiver.requests[0].resource_spans
    about = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert about["service.name"] == "limner"


def test_a_callers_trace_goes_on_and_one_that_is_malformed_does_not(receiver: Receiver) -> None:
    seen = []
    for name, header in (("good", TRACEPARENT), ("bad", "00-zz-b7ad6b7169203331-01"), ("none", None)):
        with tracing.span(name, kind="server", trace=OWN, traceparent=header):
            seen.append(tracing.trace_id())
    assert tracing.trace_id() is None
    tracing.stop()
    assert seen == [TRACE, OWN, OWN]
    assert receiver.spans["good"].trace_id.hex() == TRACE
    assert receiver.spans["good"].parent_span_id.hex() == "b7ad6b7169203331"
    assert receiver.spans["good"].kind == Span.SPAN_KIND_SERVER


def test_a_caller_who_does_not_sample_is_not_sampled(receiver: Receiver) -> None:
    with tracing.span("quiet", traceparent=TRACEPARENT[:-2] + "00"), tracing.span("below"):
        pass
    tracing.stop()
    assert receiver.requests == []


def test_what_is_raised_marks_the_span_by_its_class_alone(receiver: Receiver) -> None:
    with pytest.raises(InvalidRequest), tracing.span("failing"):
        raise InvalidRequest("the prompt of a caller")
    tracing.stop()
    span = receiver.spans["failing"]
    assert (span.status.code, span.status.message) == (2, "InvalidRequest")
    assert b"the prompt of a caller" not in receiver.requests[0].SerializeToString()


def test_what_is_over_is_recorded_with_its_times(receiver: Receiver) -> None:
    before = time.time()
    with tracing.span("job", trace=OWN):
        tracing.record("evaluate", 2.5, {"limner.picture": 1}, ended=before - 10)
        tracing.record("queue", -1.0)
    tracing.stop()
    spans = receiver.spans
    assert spans["evaluate"].parent_span_id == spans["job"].span_id
    assert spans["evaluate"].end_time_unix_nano == int((before - 10) * 1e9)
    assert spans["evaluate"].end_time_unix_nano - spans["evaluate"].start_time_unix_nano == 2_500_000_000
    assert spans["queue"].start_time_unix_nano == spans["queue"].end_time_unix_nano


def test_tasks_begun_within_a_span_are_part_of_it_and_others_are_not(receiver: Receiver) -> None:
    async def work(name: str) -> None:
        with tracing.span(name, trace=OWN):
            await asyncio.sleep(0)

    async def main() -> None:
        other = asyncio.create_task(work("other"))
        with tracing.span("call", traceparent=TRACEPARENT):
            task = asyncio.create_task(work("job"))
        await asyncio.gather(task, other)

    asyncio.run(main())
    tracing.stop()
    assert receiver.spans["job"].parent_span_id == receiver.spans["call"].span_id
    assert receiver.spans["other"].trace_id.hex() == OWN


def test_a_collector_that_is_away_delays_the_end_by_no_more_than_its_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "EXPORT_SECONDS", 0.2)
    with receiving() as gone:
        pass
    tracing.start(Settings(tracing_url=gone.url))
    with tracing.span("lost"):
        pass
    tracing.stop()  # returns, and raises nothing
    assert tracing.trace_id() is None


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return plain(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingsInvalid, match=r"pip install 'limner\[tracing\]'"):
        tracing.start(Settings(tracing_url="http://127.0.0.1:9/v1/traces"))


def test_where_it_is_off_nothing_is_imported_and_nothing_happens() -> None:
    program = (
        "import sys\n"
        "from limner import tracing\n"
        "from limner.config import Settings\n"
        "tracing.start(Settings())\n"
        "with tracing.span('a', {'b': 1}, trace='0' * 32, traceparent='x') as span:\n"
        "    span.set_attribute('c', 2)\n"
        "    span.update_name('d')\n"
        "    tracing.record('e', 1.0)\n"
        "assert tracing.trace_id() is None\n"
        "tracing.stop()\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# A service's spans

PROMPT = "a purple narwhal"
STEPS = ("references", "queue", "evaluate", "decode", "encode", "store")


def test_a_call_and_its_job_are_one_trace_of_the_replys_id(serve: Callable[..., Server]) -> None:
    with receiving() as receiver:
        server = serve(tracing_url=receiver.url, api_keys="sk-whispered", webhook_allow=("127.0.0.0/8",))
        keyed = {"Authorization": "Bearer sk-whispered"}
        before = counters.WEBHOOKS.values().get(("delivered",), 0)
        painted = server.paint(keyed, prompt=PROMPT, response_format="url").json()
        followed = server.paint(keyed | {"traceparent": TRACEPARENT}, prompt=PROMPT).json()
        refused = server.paint(keyed, prompt="").json()
        hook = f"{receiver.url.removesuffix('/v1/traces')}/hush"
        body = {"model": "image-01", "prompt": PROMPT, "webhook_url": hook}
        job = server.client.post("/v1/jobs", json=body, headers=keyed).json()["id"]
        wait_for(lambda: counters.WEBHOOKS.values().get(("delivered",), 0) > before)
        tracing.stop()
    of = {
        trace: by_name([span for span in receiver.all if span.trace_id.hex() == trace])
        for trace in (painted["id"], TRACE, refused["id"], job)
    }
    spans = of[painted["id"]]
    assert spans.keys() == {"POST image_generation", "check", "accept", "job", *STEPS}
    call = spans["POST image_generation"]
    assert call.parent_span_id == b""
    assert call.kind == Span.SPAN_KIND_SERVER
    assert attributes(call) == {
        "http.request.method": "POST", "http.response.status_code": 200, "limner.route": "image_generation",
        "limner.code": "0",
    }  # fmt: skip
    assert {spans[name].parent_span_id for name in ("check", "accept", "job")} == {call.span_id}
    assert {spans[name].parent_span_id for name in STEPS} == {spans["job"].span_id}
    assert attributes(spans["job"]) == {
        "limner.job": painted["id"], "limner.model": "image-01", "limner.attempts": 0, "limner.outcome": "done",
    }  # fmt: skip
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in spans.values())
    assert of[TRACE].keys() == spans.keys()
    assert attributes(of[TRACE]["job"])["limner.job"] == followed["id"]
    assert of[refused["id"]].keys() == {"POST image_generation", "check"}
    assert attributes(of[refused["id"]]["POST image_generation"])["limner.code"] == "2013"
    assert of[job].keys() == {"POST accept_job", "check", "accept", "job", "webhook", *STEPS}
    assert of[job]["webhook"].kind == Span.SPAN_KIND_CLIENT
    sent = b"".join(request.SerializeToString() for request in receiver.requests)
    name = painted["data"]["image_urls"][0].rsplit("/", 1)[1].encode()
    for secret in (b"narwhal", b"sk-whispered", b"hush", name):
        assert secret not in sent
