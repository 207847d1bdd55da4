"""The client at work: every case is driven through `Client` and through `AsyncClient`, against a real server."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import limner.client
from client_side import (
    SMALL,
    Make,
    Relay,
    Site,
    a_reply,
    answered,
    clients,
    opened,
    picture,
)
from conftest import Server
from limner.api.pictures import PictureRequest
from limner.client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    Image,
    InvalidRequest,
    JobCancelled,
    JobOptions,
    NotFound,
    Options,
    ServiceFailed,
    TimedOut,
    calls,
    orders,
    sse,
)
from limner.client.calls import Target
from limner.client.images import Source, sniff
from limner.client.operations import Operations

Serve = Callable[..., Server]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes clients of one kind."""
    with clients(request.param) as start:
        yield start


@pytest.fixture
def gate() -> threading.Semaphore:
    return threading.Semaphore(0)


# Painting


def test_pictures_are_those_of_the_route_and_say_their_seeds(server: Server, make: Make) -> None:
    client = make(server.url)
    result = client.generate("a red fox", n=2, seed=-1, **SMALL)
    reply = server.paint(n=2, seed=-1, **SMALL).json()
    assert [base64.b64decode(text) for text in reply["data"]["image_base64"]] == [client.read(i) for i in result.images]
    assert [(i.seed, i.width, i.height, i.format) for i in result.images] == [
        (-1, 512, 512, "jpeg"),
        (0, 512, 512, "jpeg"),
    ]
    assert (result.failed, result.notes, result.scene) == (0, (), None)
    assert client.job(result.id).request["seed"] == "-1"


def test_limners_own_options_reach_it(server: Server, make: Make) -> None:
    client = make(server.url)
    result = client.generate("a red fox", steps=3, format="png", seed=4, sampler="euler", guidance=2, **SMALL)
    (image,) = result.images
    assert (image.format, image.width, image.height, image.seed) == ("png", 512, 512, 4)
    assert opened(client.read(image)) == ("PNG", (512, 512))
    assert (result.scene, result.notes) == ({"prompt": "a red fox"}, ("A note.",))
    asked = client.job(result.id).request
    assert (asked["steps"], asked["sampler"], asked["guidance"]) == (3, "euler", 2.0)


def test_references_come_from_files_bytes_and_urls(server: Server, make: Make, tmp_path: Path) -> None:
    file = tmp_path / "girl.png"
    file.write_bytes(picture("PNG", (64, 64)))
    data_url = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    client = make(server.url)
    for options, count in (
        ({"references": [file, file.read_bytes(), data_url]}, 3),
        ({"references": file, "steps": 1}, 1),
        ({"references": data_url}, 1),
    ):
        result = client.generate("a girl", **options, **SMALL)
        assert client.job(result.id).request["references"] == count


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        (
            "girl.png",
            "Reference 1 is neither an http or https URL nor a data URL: 'girl.png'. A file is given as pathlib",
        ),
        (b"no picture", "Reference 1 is no JPEG, PNG or WebP."),
        (bytes(10_000_001), "Reference 1 has 10.0 MB; at most 10 MB are taken."),
        (Path("missing.png"), "The file missing.png cannot be read: No such file"),
        (Path("large.png"), "The file large.png has 12.0 MB; at most 10 MB are taken."),
        (Path("text.png"), "The file text.png is no JPEG, PNG or WebP."),
        (Path("pipe"), "pipe is no file; a reference is a JPEG, PNG or WebP."),
        (Path(), ". is no file"),
        (7, "Reference 1 is to be a URL, a pathlib.Path or bytes."),
    ],
    ids=["text", "bytes", "large bytes", "missing", "large", "text file", "pipe", "folder", "number"],
)
def test_a_reference_that_will_not_do_is_said_before_anything_is_sent(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reference: Any, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no picture")
    os.mkfifo("pipe")
    with Path("large.png").open("wb") as large:
        large.truncate(12_000_000)
    with pytest.raises(InvalidRequest) as refused:
        make("http://127.0.0.1:9").generate("a girl", references=[reference])
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("options", "waits", "own", "fields"),
    [
        ({"seed": 3, "n": None}, True, False, {"response_format": "url", "seed": 3}),
        ({"watermark": True}, True, False, {"response_format": "url", "aigc_watermark": True}),
        ({"style": "漫画"}, True, False, {"response_format": "url", "style": {"style_type": "漫画"}}),
        ({"style": {"style_type": "水彩", "style_weight": 1}}, False, False,
         {"response_format": "url", "style": {"style_type": "水彩", "style_weight": 1}}),
        ({"references": "https://a.test/b.png"}, True, False,
         {"response_format": "url", "subject_reference": [{"type": "character", "image_file": "https://a.test/b.png"}]}),
        ({"style": "comic", "watermark": False}, True, True, {"style": "comic", "watermark": False}),
        ({"steps": 3, "references": ["data:,x"]}, True, True, {"steps": 3, "references": ["data:,x"]}),
        ({"references": "data:,x", "mask": "data:,y"}, True, True, {"references": ["data:,x"], "mask": "data:,y"}),
        ({"previews": True, "webhook_url": "https://a.test"}, False, True,
         {"previews": True, "webhook_url": "https://a.test"}),
    ],
)  # fmt: skip
def test_the_route_is_the_one_that_more_services_have_unless_an_option_needs_limners(
    options: Any, waits: bool, own: bool, fields: dict[str, Any]
) -> None:
    (order,) = answered(orders.order("a fox", options, waits=waits))
    assert (order.own, order.body) == (own, {"model": "image-01", "prompt": "a fox", **fields})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"aspect_ratio": "1:1", **SMALL}, "Give aspect_ratio, or width and height, not both."),
        ({"width": 512}, "Give width and height together."),
        ({"style": "漫画", "steps": 3}, "The styles of image-01-live do not go with steps: name another style"),
        ({"idempotency_key": "two words"}, "idempotency_key is to be 1 to 255 visible ASCII characters."),
        (
            {"references": "data:,a", "mask": ["data:,a", "data:,b"]},
            "Give one mask, for the first of references; got 2",
        ),
        ({"references": "data:,a", "mask": []}, "Give one mask, for the first of references; got 0"),
        ({"references": 7}, "The reference is to be a URL, a pathlib.Path or bytes."),
    ],
)
def test_options_that_contradict_each_other_are_refused_here(options: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        Client("http://127.0.0.1:9").generate("a fox", **options)


def test_an_unknown_option_is_an_error_that_names_the_nearest(make: Make) -> None:
    with pytest.raises(TypeError, match=r"There is no option 'sed'\. Did you mean 'seed'\?"):
        make("http://127.0.0.1:9").generate("a fox", sed=7)


def test_every_field_of_the_route_is_an_option_and_every_option_is_described() -> None:
    others = {"prompt", "response_format"}  # how the reply comes is the client's own affair
    assert set(PictureRequest.model_fields) - others <= set(JobOptions.__annotations__)
    for kind in (Options, JobOptions):
        named = re.findall(r"^    ([a-z_, ]+): ", inspect.getdoc(kind) or "", re.MULTILINE)
        described = {name for names in named for name in names.split(", ")}
        assert described == {*kind.__annotations__} - (set() if kind is Options else {*Options.__annotations__})


# Pictures


def test_a_picture_is_saved_in_the_format_of_its_name(server: Server, make: Make, tmp_path: Path) -> None:
    client = make(server.url)
    (image,) = client.generate("a red fox", seed=1, **SMALL).images
    for name, form in {"a.jpg": "JPEG", "b.JPEG": "JPEG", "c.png": "PNG", "d.webp": "WEBP"}.items():
        path = client.save(image, tmp_path / name)
        assert (path, opened(path)) == (tmp_path / name, (form, (512, 512)))
    assert client.save(image, str(tmp_path / "a.jpg")).read_bytes() == client.read(image) == client.read(image, "jpeg")
    assert {path.name for path in tmp_path.iterdir()} >= {"a.jpg", "b.JPEG", "c.png", "d.webp"}
    with pytest.raises(InvalidRequest, match=r"saved as .jpg, .jpeg, .png, .webp; 'fox.gif' ends in none"):
        client.save(image, "fox.gif")


def test_a_file_is_written_whole_or_not_at_all(server: Server, make: Make, tmp_path: Path) -> None:
    client = make(server.url)
    (image,) = client.generate("a red fox", seed=1, **SMALL).images
    folder = tmp_path / "out"
    (folder / "taken.jpg").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        client.save(image, folder / "taken.jpg")
    assert [path.name for path in folder.iterdir()] == ["taken.jpg"]


def test_a_picture_is_fetched_once_and_also_after_the_client_was_closed(server: Server, make: Make) -> None:
    client = make(server.url)
    result = client.generate("a red fox", n=2, **SMALL)
    first = client.read(result.images[0])
    client.close()
    assert client.read(result.images[0]) is first
    assert opened(client.read(result.images[1])) == ("JPEG", (512, 512))
    client.delete(result.id)
    assert client.read(result.images[0]) is first
    with pytest.raises(NotFound, match="no such picture"):
        client.read(result.images[0], "png")


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
def test_notebooks_are_shown_a_picture_in_its_own_format(server: Server, form: Any) -> None:
    with Client(server.url) as client:
        result = client.generate("a red fox", n=2, format=form, seed=1, **SMALL)
    image = result.images[1]
    assert image._repr_jpeg_() == (image.data if form == "jpeg" else None)
    assert image._repr_png_() == (image.data if form == "png" else None)
    bundle = image._repr_mimebundle_()
    assert set(bundle) == ({"image/webp", "text/html"} if form == "webp" else set())
    encoded = base64.b64encode(image.data).decode()
    assert f'src="data:image/{form};base64,{encoded}"' in (result._repr_html_() or "")
    assert repr(image) == f"<Image 512x512 {form}, seed 2>"
    assert repr(result) == f"Result('{result.id}', images=[<Image 512x512 {form}, seed 1>, {image!r}])"


def test_notebooks_are_shown_nothing_that_cannot_be_had() -> None:
    def gone(_kind: object) -> bytes:
        raise NotFound("gone")

    image = Image(Source("http://127.0.0.1:9/files/a.jpeg"), gone)
    assert (image._repr_jpeg_(), image._repr_png_(), image._repr_mimebundle_()) == (None, None, {})
    assert limner.client.Result("a", [image])._repr_html_() is None
    assert repr(image) == "<Image jpeg>"


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("JPEG", "RGB", {}), ("JPEG", "L", {"progressive": True}), ("JPEG", "RGB", {"exif": b"Exif\0\0" + bytes(500)}),
        ("PNG", "RGBA", {}), ("WEBP", "RGB", {}), ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"exact": True}),
    ],
)  # fmt: skip
def test_format_and_size_are_read_from_the_file(form: str, mode: str, options: dict[str, Any]) -> None:
    data = picture(form, (640, 361), mode, **options)
    assert sniff(data) == (form.lower(), 640, 361)
    assert sniff(data[:12]) is None


def test_fill_bytes_before_a_jpegs_markers_are_passed_over() -> None:
    data = picture("JPEG", (640, 361))
    frame = data.index(b"\xff\xc0")
    for fill in (b"\xff", b"\xff" * 40):
        filled = data[:frame] + fill + data[frame:]
        assert opened(filled) == ("JPEG", (640, 361))
        assert sniff(filled) == ("jpeg", 640, 361)
    assert sniff(data[:frame] + b"\0" + data[frame:]) is None


@given(st.binary(max_size=64), st.sampled_from([b"", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"\x89PNG\r\n\x1a\n"]))
def test_any_bytes_can_be_looked_at(data: bytes, start: bytes) -> None:
    found = sniff(start + data)
    assert found is None or found[0] in ("jpeg", "png", "webp")


# Jobs


def test_progress_is_told_up_to_the_result(serve: Serve, make: Make, gate: threading.Semaphore) -> None:
    server = serve(gate=gate)
    client = make(server.url)
    told = []
    for progress in client.progress("a red fox", n=2, seed=3, previews=True, **SMALL):
        told.append(progress)
        gate.release(2)
    assert [p.result is None for p in told] == [True] * (len(told) - 1) + [False]
    assert (told[-1].state, told[-1].step, told[-1].steps) == ("done", 8, 8)
    assert sorted(p.step for p in told) == [p.step for p in told]
    assert len({p.step for p in told}) > 3
    result = told[-1].result
    assert [image.seed for image in result.images] == [3, 4]
    assert opened(client.read(result.images[1])) == ("JPEG", (512, 512))
    assert client.job(result.id).request["previews"] is True
    assert repr(told[-1]) == "<Progress done 8/8>"


def test_a_queued_job_tells_its_place(serve: Serve, make: Make, gate: threading.Semaphore) -> None:
    server = serve(gate=gate)
    client = make(server.url)
    jobs = [client.submit("a red fox", n=9, **SMALL) for _ in range(2)]
    place = next(iter(client.follow(jobs[1].id)))
    assert (place.state, place.step, place.job.id) == ("queued", 0, jobs[1].id)
    assert place.queue_place is not None


def test_previews_are_kept_by_number(make: Make, server: Server) -> None:
    with Client(server.url) as plain:
        done = plain.job(plain.generate("a red fox", n=2, **SMALL).id).document
    running = {**done, "state": "running"}
    frames = [{"number": 0, "step": 1}, {"number": 1, "step": 1}, {"number": 0, "step": 2}]
    shown = [frame | {"base64": base64.b64encode(b"%d" % frame["step"]).decode()} for frame in frames]
    events = [("running", running), *(("preview", frame) for frame in shown), ("done", done)]
    stream = ":\n\n" + "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    with Site(lambda *_: (200, {"Content-Type": "text/event-stream; charset=utf-8"}, stream.encode())) as site:
        told = list(make(site.url).follow(done["id"], previews=True))
        assert site.seen[0][1] == f"/v1/jobs/{done['id']}/events?previews=true"
    assert [dict(p.previews) for p in told] == [{}, {0: b"1"}, {0: b"1", 1: b"1"}, *[{0: b"2", 1: b"1"}] * 2]
    assert len(told[-1].result.images) == 2


def stream_of(*events: tuple[str, str, str]) -> tuple[int, dict[str, str], bytes]:
    """An answer of events, each a name, an id and data."""
    text = "".join(f"event: {name}\nid: {number}\ndata: {data}\n\n" for name, number, data in events)
    return 200, {"Content-Type": "text/event-stream"}, text.encode()


@pytest.mark.parametrize(
    "event",
    [
        ("done", "not json"),
        ("done", "{}"),
        ("done", "[]"),
        ("preview", "{}"),
        ("preview", '{"number": 0, "base64": "?"}'),
    ],
)
def test_an_event_of_another_form_is_an_error_of_the_service(make: Make, event: tuple[str, str]) -> None:
    with Site(lambda *_: stream_of((event[0], "", event[1]))) as site:
        with pytest.raises(ServiceFailed, match="not of the form that it should have"):
            list(make(site.url).follow("0" * 32))
        assert len(site.seen) == 1


def test_events_of_unknown_names_and_ids_that_no_header_holds_are_passed_over(make: Make, server: Server) -> None:
    with Client(server.url) as plain:
        done = plain.job(plain.generate("a red fox", **SMALL).id).document
    running = json.dumps({**done, "state": "running"})
    streams = [
        stream_of(("running", "7", running), ("news", "ü", "{}"), ("running", "ü\x01", running)),
        stream_of(("news", "", "not json"), ("done", "9", json.dumps(done))),
    ]
    with Site(lambda *_: streams.pop(0)) as site:
        told = list(make(site.url).follow(done["id"]))
        assert [headers["Last-Event-ID"] for _, _, headers, _ in site.seen] == [None, "7"]
    assert [progress.state for progress in told] == ["running", "running", "done"]


def test_a_stream_that_never_tells_of_the_job_is_not_asked_for_ever(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.02)
    with Site(lambda *_: stream_of(("news", "", "{}"))) as site:
        with pytest.raises(ConnectionFailed, match="The stream of the job's events was cut"):
            list(make(site.url).follow("0" * 32))
        assert len(site.seen) == 3


def test_an_event_without_an_end_is_not_kept_for_ever(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_CHARS", 100_000)
    for line in ("x" * 300_000, "data: xxxx\n" * 30_000):
        with (
            Site(lambda *_, line=line: (200, {"Content-Type": "text/event-stream"}, line.encode())) as site,
            pytest.raises(ServiceFailed, match="more than 100000 characters"),
        ):
            list(make(site.url).follow("0" * 32))


@pytest.mark.parametrize("away", [0, 2])
def test_a_stream_that_is_cut_is_taken_up_where_it_was(
    serve: Serve, make: Make, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch, away: int
) -> None:
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.02)
    server = serve(gate=gate)
    with Relay(server.port) as relay:
        client = make(relay.url)
        job = client.submit("a red fox", seed=1, **SMALL)
        told = []
        for progress in client.follow(job.id):
            if not told:
                relay.away = away
                relay.cut()
                gate.release(1000)
            told.append(progress)
        assert told[-1].result.images[0].seed == 1
        streams = [k for k, head in enumerate(relay.heads) if "/events" in head]
        assert len(streams) == 2
        assert relay.header(streams[0], "last-event-id") is None
        assert relay.header(streams[1], "last-event-id") is not None
    assert len({(p.state, p.step, p.queue_place) for p in told}) == len(told)


def test_who_stops_early_leaves_the_job_to_go_on_until_it_is_cancelled(
    serve: Serve, make: Make, gate: threading.Semaphore
) -> None:
    server = serve(gate=gate)
    client = make(server.url)
    with closing(client.progress("a red fox", **SMALL)) as following:
        job = next(following).job
    assert client.job(job.id).state in ("queued", "running")
    asked = client.cancel(job.id)
    assert asked.id == job.id
    gate.release(100)
    with pytest.raises(JobCancelled, match=f"Job {job.id} was cancelled") as cancelled:
        client.result(job.id)
    assert cancelled.value.id == job.id
    with pytest.raises(JobCancelled):
        list(client.follow(job.id))
    assert client.job(job.id).state == "cancelled"
    assert client.cancel(job.id).state == "cancelled"


def test_a_call_that_is_given_up_is_painted_on_where_a_job_can_be_cancelled(
    serve: Serve, gate: threading.Semaphore
) -> None:
    server = serve(gate=gate)

    async def main() -> None:
        async with AsyncClient(server.url) as client:
            call = asyncio.create_task(client.generate("a red fox", **SMALL))
            while not (jobs := [job async for job in client.jobs()]):
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            owl = await client.submit("a grey owl", **SMALL)
            await client.cancel(owl.id)
            gate.release(1000)
            assert len((await client.result(jobs[0].id)).images) == 1
            with pytest.raises(JobCancelled):
                await client.result(owl.id)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_result_is_waited_for_no_longer_than_the_timeout(serve: Serve, make: Make, gate: threading.Semaphore) -> None:
    server = serve(gate=gate)
    job = make(server.url).submit("a red fox", **SMALL)
    with pytest.raises(TimedOut, match="within the client's timeout"):
        make(server.url, timeout=0.1).result(job.id)
    gate.release(100)
    assert len(make(server.url).result(job.id).images) == 1


def test_a_job_that_failed_raises_what_the_call_would(server: Server, make: Make) -> None:
    client = make(server.url, retries=0)
    job = client.submit("refuse this", **SMALL)
    for attempt in (lambda: client.result(job.id), lambda: client.generate("refuse this", **SMALL)):
        with pytest.raises(InvalidRequest, match="This prompt cannot be painted") as failed:
            attempt()
        assert failed.value.code == 2013
    job = client.job(job.id)
    assert (job.state, job.ended, type(job.error), type(job.pictures[0].error)) == (
        "failed", True, InvalidRequest, InvalidRequest,
    )  # fmt: skip
    assert client.result(client.submit("a fox", **SMALL).id).failed == 0


def test_jobs_are_looked_for_by_state_model_and_time(server: Server, make: Make) -> None:
    client = make(server.url)
    before = datetime.now(UTC) - timedelta(seconds=1)
    result = client.generate("a red fox", n=2, seed=-5, **SMALL)
    job = client.job(result.id)
    assert (job.state, job.prompt, job.model, job.step, job.steps) == ("done", "a red fox", "image-01", 8, 8)
    assert before < job.created_at <= job.started_at <= job.finished_at < job.expires_at
    assert [(p.seed, p.state, p.width) for p in job.pictures] == [(-5, "done", 512), (-4, "done", 512)]
    assert job.pictures[0].bytes == len(client.read(result.images[0]))
    tomorrow = datetime.now() + timedelta(1)  # noqa: DTZ005 - a naive time is local time
    assert next(client.jobs(state=["done", "failed"], model="image-01", from_=before, to=tomorrow)) == job
    assert job.id not in [j.id for j in client.jobs(state="cancelled")]
    assert list(client.jobs(to="2020-01-01T00:00:00Z")) == []
    client.delete(job.id)
    for gone in (client.job, client.delete, client.cancel, client.result):
        with pytest.raises(NotFound) as missing:
            gone(job.id)
        assert (missing.value.code, missing.value.status) == (2013, 404)


def test_the_styles_of_the_live_model_reach_jobs_too(server: Server, make: Make) -> None:
    client = make(server.url)
    job = client.submit("a red fox", model="image-01-live", style={"style_type": "水彩", "style_weight": 0.5})
    assert job.request["style"] == {"style_type": "水彩", "style_weight": 0.5}
    (image,) = client.generate("a red fox", model="image-01-live", style="漫画").images
    assert opened(client.read(image)) == ("JPEG", (1024, 1024))


def test_every_page_of_jobs_is_asked_for_as_it_is_needed(server: Server) -> None:
    with Client(server.url) as client:
        document = client.job(client.generate("a red fox", **SMALL).id).document
    flow = Operations(calls.Channel(Target("http://a.test", None), 60, 5, 0, None), lambda source: source).jobs(
        "done", None, None, None
    )
    page = [
        a_reply({"jobs": [document] * 2, "next": "more"}),
        None,
        None,
        a_reply({"jobs": [document], "next": None}),
        None,
    ]
    first, one, two, second, three, end = answered(flow, *page)
    assert (first.url, second.url) == (
        "http://a.test/v1/jobs?state=done&limit=50", "http://a.test/v1/jobs?state=done&limit=50&cursor=more",
    )  # fmt: skip
    assert one.item.id == two.item.id == three.item.id == document["id"]
    assert end is None


def test_models_say_what_they_can(server: Server, make: Make) -> None:
    models = make(server.url).models()
    assert [model.id for model in models] == ["image-01", "image-01-live"]
    listed = server.client.get("/v1/models").json()["data"]
    for model, entry in zip(models, listed, strict=True):
        assert model.abilities is not None
        assert {name: list(v) if isinstance(v, tuple) else v for name, v in _fields(model.abilities).items()} == entry[
            "limner"
        ]


def test_usage_is_told_by_day(server: Server, make: Make) -> None:
    client = make(server.url)
    client.generate("a red fox", n=2, **SMALL)
    usage = client.usage()
    assert usage.days[-1].images >= 2
    assert usage.days[-1].day == usage.last
    assert (usage.left_today, usage.limits["daily"]) == (None, None)
    assert client.usage(date(2026, 1, 1), "2026-01-31").days == ()
    with pytest.raises(InvalidRequest):
        client.usage("yesterday")


# Shared, typed, light


def test_threads_share_one_client(server: Server) -> None:
    with Client(server.url) as client, ThreadPoolExecutor(8) as pool:

        def paint(seed: int) -> tuple[int | None, bytes]:
            (image,) = client.generate("a red fox", seed=seed, **SMALL).images
            return image.seed, image.data

        together = list(pool.map(paint, range(8)))
        assert together == [paint(seed) for seed in range(8)]
        (image,) = client.generate("a red fox", seed=99, **SMALL).images
        assert len({id(data) for data in pool.map(lambda _: image.data, range(8))}) == 1


def test_tasks_share_one_client(server: Server) -> None:
    async def main() -> None:
        async with AsyncClient(server.url) as client:
            results = await asyncio.gather(*(client.generate("a red fox", seed=k, **SMALL) for k in range(8)))
            assert [result.images[0].seed for result in results] == [*range(8)]
            image = results[0].images[0]
            assert len({id(data) for data in await asyncio.gather(*(image.read() for _ in range(4)))}) == 1

    asyncio.run(main())


def test_certificates_are_read_once_a_process() -> None:
    # In a process of its own, because this one has read them.
    script = """
import ssl
from limner.client import AsyncClient, Client
read = []
load = ssl.SSLContext.load_verify_locations
ssl.SSLContext.load_verify_locations = lambda *args: read.append(args) or load(*args)
print(len(read))
for _ in range(3):
    Client("https://127.0.0.1:9").close()
    AsyncClient("http://127.0.0.1:9")
print(len(read))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]


def test_importing_it_loads_httpx2_and_nothing_else() -> None:
    script = "import sys, limner.client; print(*{n.partition('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    bare = subprocess.run(
        [sys.executable, "-c", script.replace("limner.client", "httpx2")], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) - set(bare.stdout.split()) - sys.stdlib_module_names == {"limner"}
    script = "import sys, limner.client; print(*(n for n in sys.modules if n.startswith('limner')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {name for name in done.stdout.split() if not name.startswith("limner.client")} == {"limner"}


USERS_FILE = """
import asyncio
from pathlib import Path
from limner.client import AsyncClient, AsyncImage, Client, Image, Progress, Result

with Client("http://127.0.0.1:8000", timeout=60) as client:
    result: Result[Image] = client.generate("a fox", n=2, references=[Path("girl.png"), b"", "https://a.test/b.png"])
    data: bytes = result.images[0].data
    saved: Path = result.images[0].save("fox.jpg")
    for progress in client.progress("a fox", seed=7, previews=True):
        last: Progress[Image] = progress
    ids: list[str] = [job.id for job in client.jobs(state="done")]

async def main() -> None:
    async with AsyncClient() as client:
        result = await client.generate("a fox", style="comic")
        image: AsyncImage = result.images[0]
        data: bytes = await image.read("png")
        async for progress in client.follow("0"):
            print(progress.step, progress.previews[0])
"""
WRONG = {
    'Client().generate("a fox", sed=7)': "Unexpected keyword argument",
    'Client().generate("a fox", n="two")': "has incompatible type",
    'Client().generate("a fox", webhook_url="https://a.test")': "Unexpected keyword argument",
    'Client().jobs(state="finished")': "has incompatible type",
    'Client().generate("a fox", format="gif")': "has incompatible type",
}


def test_a_users_program_is_type_checked(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USERS_FILE)
    (tmp_path / "wrong.py").write_text("from limner.client import Client\n" + "\n".join(WRONG))
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        str(tmp_path),
        "user.py",
        "wrong.py",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(found) == len(WRONG), done.stdout
    for number, (line, message) in enumerate(zip(found, WRONG.values(), strict=True), 2):
        assert line.startswith(f"wrong.py:{number}: ")
        assert message in line


def _fields(thing: Any) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in thing.__dataclass_fields__}
