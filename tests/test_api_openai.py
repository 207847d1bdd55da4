"""OpenAI's images API on the wire: every field, every sentence, and that its shape and MiniMax's never mix."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import image_edit_params, image_generate_params
from PIL import Image

from conftest import API, AnySizePipeline, Server, serving, wait_for
from hostile_server import HostileServer, sends
from hostile_server import reply as picture_reply
from json_endpoint import Endpoint, raw
from limner.api import contract, openai_contract, openai_errors, openai_replies, openai_sizes
from limner.api.openai_contract import EditRequest, GenerationRequest
from limner.backends.local import LocalBackend
from limner.config import Settings
from limner.engine.core import Encoded, Float32, Request, UInt8
from limner.engine.engine import Engine
from limner.errors import Code, LimnerError, PictureRefused, StorageFailed
from limner.models.registry import Model, Registry
from limner.pipelines import painter
from limner.storage import keys
from limner.storage.keys import Limits

Serve = Callable[..., Server]
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
PAGE = (Path(__file__).parent.parent / "docs/openai.md").read_text("utf-8")
FAR = 2.0e9
NAMES = {"gpt-image-1": "image-01", "dall-e-3": "image-01", "MiniMax-H3-Image": "image-01-live"}


class Showing(AnySizePipeline):
    """Shows the latent as it is, and takes none of the time for it that previews are rationed by."""

    def preview(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return np.full((24, 32, 3), 128, np.uint8)


class Fussy(AnySizePipeline):
    """Refuses pictures of odd seeds."""

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        if request.seed % 2:
            raise PictureRefused("The picture was refused.")
        return super().decode(request, encoded, x)


@contextmanager
def served(folder: Path, pipeline: AnySizePipeline, **options: Any) -> Iterator[Server]:
    with serving(folder, backend=LocalBackend(Engine({"image-01": pipeline}, 64)), **options) as running:
        yield running


@pytest.fixture(scope="module")
def showing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("showing"), Showing()) as running:
        yield running


@pytest.fixture(scope="module")
def fussy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("fussy"), Fussy()) as running:
        yield running


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Where OpenAI's names stand for models."""
    with serving(tmp_path_factory.mktemp("named"), model_aliases=NAMES) as running:
        yield running


@pytest.fixture(scope="module", params=["ok", "real"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Takes small bodies alone; with either http_status."""
    folder = tmp_path_factory.mktemp("small")
    with serving(folder, max_body_bytes=2**16, http_status=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Fetches pictures from this machine."""
    with serving(tmp_path_factory.mktemp("fetching"), reference_allow="127.0.0.0/8") as running:
        yield running


def ask(
    server: Server, path: str = GENERATIONS, headers: dict[str, str] | None = None, **fields: Any
) -> httpx2.Response:
    return server.client.post(path, json={"prompt": "a red fox", "size": "512x512", **fields}, headers=headers)


def painted(reply: httpx2.Response) -> list[Image.Image]:
    assert reply.status_code == 200, reply.text
    return [opened(base64.b64decode(entry["b64_json"])) for entry in reply.json()["data"]]


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def file(width: int = 640, height: int = 512, kind: str = "PNG", colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, kind)
    return buffer.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def refused(reply: httpx2.Response, status: int) -> dict[str, Any]:
    """Assert OpenAI's shape of an error under a true status, and return what it says."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["message"].endswith(".")
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-request-id"])
    return error


def made(server: Server) -> dict[str, Any]:
    """What the newest job asks for."""
    request: dict[str, Any] = server.client.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]["request"]
    return request


# What is answered


def test_a_reply_has_openais_fields_and_no_others(server: Server) -> None:
    reply = ask(server, n=2, seed=7)
    body = reply.json()
    assert list(body) == ["created", "data", "background", "output_format", "quality", "size", "usage", "notes"]
    assert [list(entry) for entry in body["data"]] == [["b64_json"]] * 2
    assert (body["background"], body["output_format"], body["quality"]) == ("opaque", "png", "medium")
    assert body["size"] == "512x512"
    assert [(picture.format, picture.size) for picture in painted(reply)] == [("PNG", (512, 512))] * 2
    assert reply.headers["limner-seeds"] == "7,8"
    assert type(body["created"]) is int


def test_tokens_are_counted_as_the_page_says(server: Server) -> None:
    words = "a red fox, ünder"
    usage = ask(server, EDITS, prompt=words, n=2, image=[data_url(file())] * 3, size="1000x512").json()["usage"]
    squares = 63 * 32
    text = -(-len(words.encode()) // 4)
    assert usage == {
        "input_tokens": text + 3 * squares,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 3 * squares},
        "output_tokens": 2 * squares,
        "total_tokens": text + 5 * squares,
    }


def test_the_seed_of_a_reply_gives_its_picture_again(server: Server) -> None:
    first = ask(server, n=2)
    seeds = first.headers["limner-seeds"].split(",")
    again = ask(server, seed=seeds[1])
    assert again.json()["data"][0] == first.json()["data"][1]


def test_the_same_picture_comes_from_every_route(server: Server) -> None:
    """One service stands behind them."""
    ours = painted(ask(server, seed=5))[0]
    theirs = server.client.post(
        "/v1/pictures",
        json={
            "prompt": "a red fox",
            "seed": 5,
            "width": 512,
            "height": 512,
            "response_format": "base64",
            "format": "png",
        },
    ).json()["pictures"][0]["base64"]
    assert ours.tobytes() == opened(base64.b64decode(theirs)).tobytes()


@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
@pytest.mark.parametrize("wrong", ["{}", "{}/", "/v1{}", "/v1{}/"])
def test_a_base_url_with_a_v1_too_few_or_too_many_and_a_slash_at_the_end_will_do(
    server: Server, path: str, wrong: str
) -> None:
    assert (
        len(
            painted(
                ask(server, wrong.format(path), image=data_url(file()))
                if "edits" in path
                else ask(server, wrong.format(path))
            )
        )
        == 1
    )
    bare = wrong.format(path).replace("/v1/v1", "")
    assert ask(server, bare, prompt=" ").status_code == 400


def test_ten_pictures_are_painted_here_and_nine_by_minimaxs_route(server: Server) -> None:
    assert len(painted(ask(server, n=10, output_format="webp"))) == 10
    assert made(server)["n"] == 10
    assert "n must be less than or equal to 10" in refused(ask(server, n=11), 400)["message"]
    assert "less than or equal to 9" in server.paint(n=10).json()["base_resp"]["status_msg"]
    assert ask(server, "/v1/pictures", n=10, size=None).json()["base_resp"]["status_code"] == 2013


SIZES = {
    "auto": (1024, 1024), "1024x1024": (1024, 1024), "1536x1024": (1536, 1024), "1024x1536": (1024, 1536),
    "1792x1024": (1792, 1024), "512x512": (512, 512), "1536X864": (1536, 864), "2048x2048": (2048, 2048),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_every_size_that_can_be_painted_is(server: Server, size: str) -> None:
    reply = ask(server, size=size, output_format="jpeg")
    assert painted(reply)[0].size == SIZES[size]
    assert reply.json()["size"] == "{}x{}".format(*SIZES[size])


SHAPES: list[tuple[dict[str, str], tuple[int, int]]] = [
    ({"aspect_ratio": "16:9"}, (1280, 720)),
    ({"aspect_ratio": "auto"}, (1024, 1024)),
    ({"aspect_ratio": "5:3", "area": "1K"}, (1320, 792)),
    ({"area": "1K"}, (1024, 1024)),
    ({"area": "2K"}, (2048, 2048)),
    ({"size": "auto", "aspect_ratio": "auto"}, (1024, 1024)),
    ({"size": "auto", "aspect_ratio": "9:16"}, (720, 1280)),
]


@pytest.mark.parametrize(("fields", "size"), SHAPES)
def test_ratio_and_area_are_read_as_h3s(server: Server, fields: dict[str, str], size: tuple[int, int]) -> None:
    reply = server.client.post(GENERATIONS, json={"prompt": "a fox", "output_format": "jpg", **fields})
    assert painted(reply)[0].size == size


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_files_are_of_the_format_that_was_asked_for(server: Server, name: str, kind: str) -> None:
    reply = ask(server, output_format=name)
    assert painted(reply)[0].format == kind
    assert reply.json()["output_format"] == kind.lower()
    link = ask(server, output_format=name, response_format="url").json()["data"][0]
    assert list(link) == ["url"]
    assert opened(server.client.get(link["url"], headers={"Accept": "*/*"}).content).format == kind


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_compression_is_the_quality_of_the_file(server: Server, kind: str) -> None:
    sizes = [
        len(ask(server, seed=3, output_format=kind, output_compression=most).json()["data"][0]["b64_json"])
        for most in (0, 1, 50, 100)
    ]
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3]


def test_a_png_takes_no_compression(server: Server) -> None:
    assert len(painted(ask(server, output_compression=100))) == 1  # as openai's clients send by themselves
    assert "for jpeg and webp" in refused(ask(server, output_compression=50), 400)["message"]


def test_base64_is_the_default_and_links_that_of_dall_es_names(named: Server) -> None:
    for model, kind in ((None, "b64_json"), ("image-01", "b64_json"), ("gpt-image-1", "b64_json"), ("dall-e-3", "url")):
        assert list(ask(named, model=model).json()["data"][0]) == [kind], model
    assert list(ask(named, model="dall-e-3", response_format="b64_json").json()["data"][0]) == ["b64_json"]


QUALITIES = {"auto": None, "medium": None, "standard": None, "low": 1, "high": 4, "hd": 4, "xhigh": 6, "max": 8}


@pytest.mark.parametrize("quality", QUALITIES)
def test_quality_sets_the_steps(server: Server, quality: str) -> None:
    reply = ask(server, quality=quality)
    assert made(server)["steps"] == QUALITIES[quality]
    assert reply.json()["quality"] == {"auto": "medium", "standard": "medium", "hd": "high"}.get(quality, quality)


def test_quality_multiplies_the_steps_of_the_model_and_is_refused_where_they_are_not_known() -> None:
    models = Registry.of([Model("fast", "/w/fast", steps=5), Model("any", "/w/any")])

    def steps(model: str, quality: str) -> int | None:
        document = {"prompt": "a fox", "model": model, "quality": quality}
        return openai_contract.read_call(document, Settings(), models).order.steps

    assert [steps("fast", quality) for quality in ("low", "medium", "high", "max")] == [3, None, 10, 20]
    assert steps("any", "standard") is None
    with pytest.raises(LimnerError, match="how many steps model any takes by itself is not known"):
        steps("any", "high")


def test_limners_own_fields_reach_the_job(server: Server) -> None:
    own = {"steps": 3, "guidance": 2.5, "strength": 0.5, "sampler": "euler", "negative_prompt": "rain"}
    assert ask(server, **own, watermark=True, prompt_optimizer=True, style="storybook").status_code == 200
    request = made(server)
    assert {name: request[name] for name in own} == own
    assert (request["watermark"], request["prompt_optimizer"], request["style"]) == (True, True, "storybook")


@pytest.mark.parametrize(("style", "ours"), [("vivid", None), ("natural", None), ("comic", "comic"), ("元气", "vivid")])
def test_dall_es_styles_have_no_effect_and_others_are_ours(server: Server, style: str, ours: str | None) -> None:
    assert ask(server, style=style).status_code == 200
    assert made(server)["style"] == ours


def test_fields_without_effect_change_no_byte(server: Server) -> None:
    plain = ask(server, seed=4)
    idle = {"moderation": "low", "user": "u-1", "safety_identifier": "s-1", "background": "opaque", "style": "vivid"}
    assert ask(server, seed=4, **idle).json()["data"] == plain.json()["data"]
    edit = ask(server, EDITS, seed=4, image=data_url(file()))
    assert (
        ask(server, EDITS, seed=4, image=data_url(file()), input_fidelity="high").json()["data"] == edit.json()["data"]
    )


def test_null_is_absent_and_numbers_and_booleans_may_be_texts(server: Server) -> None:
    nulls = dict.fromkeys(set(GenerationRequest.model_fields) - {"prompt", "size", "seed"})
    assert ask(server, seed=4, **nulls).json()["data"] == ask(server, seed=4).json()["data"]
    texts = {"n": "2", "seed": "4", "steps": "3", "guidance": "1.5", "stream": "false", "output_compression": "100"}
    assert len(painted(ask(server, **texts))) == 2


def test_what_open_webui_sends_is_answered(server: Server) -> None:
    """Read in its backend's routers/images.py: a version in the query, and forms with each field as text."""
    generation = {"model": "image-01", "prompt": "a fox", "n": 1, "size": "512x512", "response_format": "b64_json"}
    reply = server.client.post(f"{GENERATIONS}?api-version=2025-04-01", json=generation)
    assert (painted(reply)[0].format, painted(reply)[0].size) == ("PNG", (512, 512))
    fields = {"model": "image-01", "n": "1", "size": "512x512", "background": "auto", "response_format": "b64_json"}
    for names in (["image"], ["image[]", "image[]"]):
        assert painted(form(server, [(name, file()) for name in names], **fields))[0].size == (512, 512)


# The prompt


@pytest.mark.parametrize("asked", [{"prompt_optimizer": True}, {"disable_prompt_enhanced": False}])
def test_the_prompt_as_the_optimizer_rewrote_it_is_told(server: Server, asked: dict[str, bool]) -> None:
    (entry,) = ask(server, **asked).json()["data"]
    assert entry["revised_prompt"].startswith("a red fox, ")
    for same in ({"disable_prompt_enhanced": True}, {"prompt_optimizer": False}, {**asked, "prompt": "一只狐狸"}):
        (entry,) = ask(server, **same).json()["data"]
        assert "revised_prompt" not in entry


def test_what_a_chat_endpoint_made_of_the_prompt_is_told(serve: Serve) -> None:
    answer = {"choices": [{"message": {"content": "a red fox in deep snow"}}]}
    with closing(Endpoint(raw(200, json.dumps(answer).encode()))) as endpoint:
        server = serve(optimizer_url=endpoint.url)
        (entry,) = ask(server, prompt_optimizer=True).json()["data"]
    assert entry["revised_prompt"] == "a red fox in deep snow"


def test_pictures_that_are_painted_come_though_their_prompt_cannot_be_asked_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> str:
        raise StorageFailed("The database is away.")

    monkeypatch.setattr(server.service, "painted_prompt", away)
    reply = ask(server, prompt_optimizer=True)
    assert len(painted(reply)) == 1
    assert list(reply.json()["data"][0]) == ["b64_json"]


# Edits


def form(server: Server, files: list[tuple[str, bytes]], **fields: str) -> httpx2.Response:
    parts = [(name, (f"{number}.png", data, "image/png")) for number, (name, data) in enumerate(files)]
    return server.client.post(EDITS, data={"prompt": "a red fox", **fields}, files=parts)


def test_one_and_several_pictures_come_as_files_texts_and_objects(server: Server) -> None:
    red, blue = file(colour="red"), file(colour="blue")
    one = painted(form(server, [("image", red)], seed="3"))[0]
    both = painted(form(server, [("image[]", red), ("image[]", blue)], seed="3"))[0]
    assert made(server)["references"] == 2
    assert one.size == both.size == (640, 512)
    for name in ("image", "image[0]"):
        assert painted(form(server, [(name, red), (name.replace("0", "1"), blue)], seed="3"))[0] == both
    for fields in (
        {"image": data_url(red)},
        {"image": [base64.b64encode(red).decode()]},
        {"images": [{"image_url": data_url(red)}]},
        {"images": [{"image_url": {"url": data_url(red)}}]},
        {"images": [data_url(red)]},
    ):
        assert painted(ask(server, EDITS, seed=3, size="auto", **fields))[0] == one, fields
    assert made(server)["references"] == 1


LIKE = {
    (640, 512): (640, 512), (1536, 1024): (1536, 1024), (300, 200): (1256, 840), (2400, 1800): (1184, 888),
    (1001, 1001): (1024, 1024), (512, 2048): (512, 2048), (100, 400): (512, 2048),
}  # fmt: skip


@pytest.mark.parametrize("size", LIKE)
def test_auto_is_the_first_pictures_size_or_its_ratio_at_a_megapixel(server: Server, size: tuple[int, int]) -> None:
    reply = form(server, [("image[]", file(*size, kind="JPEG")), ("image[]", file(64, 64))], output_format="jpeg")
    assert painted(reply)[0].size == LIKE[size]
    width, height = openai_sizes.like(*size)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)


def test_auto_is_refused_for_a_picture_that_is_too_long(server: Server) -> None:
    error = refused(form(server, [("image", file(1000, 200))]), 400)
    assert (error["param"], "longer than 4:1" in error["message"]) == ("size", True)
    assert painted(form(server, [("image", file(1000, 200))], size="1024x512"))[0].size == (1024, 512)


def test_a_picture_behind_a_url_is_fetched_once(fetching: Server) -> None:
    with HostileServer(sends(picture_reply(body=file(600, 800)))) as host:
        reply = ask(fetching, EDITS, image=host.url(), size="auto")
        assert painted(reply)[0].size == (600, 800)
        assert len(host.requests) == 1


@pytest.mark.parametrize("far", [False, True])
def test_many_edits_at_once_take_their_size_from_their_pictures(fetching: Server, far: bool) -> None:
    """As many as the queue has places for: none is turned away because others are being looked at."""
    all_here = threading.Barrier(10)

    def together(_server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        all_here.wait(30)  # no picture is sent before all were asked for
        connection.sendall(picture_reply(body=file(600, 800)))

    with HostileServer(together) as host, ThreadPoolExecutor(10) as pool:
        image = host.url() if far else data_url(file(600, 800))
        replies = pool.map(lambda _: ask(fetching, EDITS, image=image, size="auto", output_format="jpeg"), range(10))
        assert [painted(reply)[0].size for reply in replies] == [(600, 800)] * 10


def test_one_tenants_slow_links_keep_no_other_from_editing(serve: Serve) -> None:
    server = serve(reference_allow="127.0.0.0/8", api_keys="first,second")
    enough = threading.Event()

    def slow(_server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        enough.wait(30)
        connection.sendall(picture_reply(body=file()))

    def edit(key: str, image: str) -> httpx2.Response:
        return ask(server, EDITS, {"Authorization": f"Bearer {key}"}, image=image, size="auto")

    with HostileServer(slow) as host, ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(edit, "first", host.url()) for _ in range(6)]
        wait_for(lambda: len(host.requests) == 6)
        assert painted(edit("second", data_url(file())))[0].size == (640, 512)
        assert not any(reply.done() for reply in waiting)
        enough.set()
        assert [reply.result().status_code for reply in waiting] == [200] * 6


def test_nothing_is_fetched_for_who_is_turned_away(serve: Serve) -> None:
    server = serve(reference_allow="127.0.0.0/8", gate=threading.Semaphore(0), queue_limit=1)
    with server.service.database.transaction() as connection:
        _, few = keys.create(connection, "acme", Limits(daily=1), FAR)
        _, low = keys.create(connection, "acme", Limits(max_pixels=512 * 512), FAR)
        _, free = keys.create(connection, "acme", Limits(), FAR)

    def edit(key: str, image: str, **headers: str) -> httpx2.Response:
        return ask(server, EDITS, {"Authorization": f"Bearer {key}", **headers}, image=image, size="auto")

    assert "at most 262144 pixels; 640×512" in refused(edit(low, data_url(file())), 400)["message"]
    with HostileServer(sends(picture_reply(body=file()))) as host, ThreadPoolExecutor(1) as pool:
        holding = pool.submit(edit, few, data_url(file()))
        assert server.pipeline.entered.acquire(timeout=30)
        for headers in ({}, {"Idempotency-Key": "k"}):
            assert refused(edit(free, host.url(), **headers), 429)["code"] == "rate_limit_exceeded"
        server.pipeline.gate.release(1000)
        assert holding.result().status_code == 200
        assert refused(edit(few, host.url()), 429)["code"] == "insufficient_quota"
        assert host.requests == []
        assert painted(edit(low, data_url(file(512, 512))))[0].size == (512, 512)


@pytest.mark.parametrize("stream", [False, True])
def test_the_retry_of_an_edit_needs_its_picture_no_more(fetching: Server, stream: bool) -> None:
    def once(server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        connection.sendall(picture_reply(body=file()) if len(server.requests) == 1 else picture_reply("410 Gone"))

    with HostileServer(once) as host:
        fields = {"image": host.url(), "size": "auto", "stream": stream}
        first, again = (ask(fetching, EDITS, {"Idempotency-Key": f"edit-{stream}"}, **fields) for _ in range(2))
        assert first.status_code == again.status_code == 200
        assert again.headers["idempotent-replayed"] == "true"
        assert len(host.requests) == 1
    told, same = (events(reply)[-1] if stream else reply.json() for reply in (first, again))
    assert told["size"] == same["size"] == "640x512"
    assert told.get("data", told.get("b64_json")) == same.get("data", same.get("b64_json"))
    assert told["usage"] == same["usage"]


def test_a_retry_while_the_first_call_still_fetches_is_the_same_job(fetching: Server) -> None:
    enough = threading.Event()

    def slow(_server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        enough.wait(30)
        connection.sendall(picture_reply(body=file()))

    with HostileServer(slow) as host, ThreadPoolExecutor(2) as pool:
        edit = {"image": host.url(), "size": "auto"}
        both = [pool.submit(ask, fetching, EDITS, {"Idempotency-Key": "both"}, **edit) for _ in range(2)]
        wait_for(lambda: len(host.requests) == 2)
        enough.set()
        first, second = (reply.result() for reply in both)
    assert first.json()["data"] == second.json()["data"]
    assert first.headers["x-request-id"] == second.headers["x-request-id"]


def test_a_text_may_come_as_a_file_and_an_empty_field_for_a_file_is_none(server: Server) -> None:
    """As `curl -F prompt=@words.txt` sends it, and browsers a field for a file that none was chosen in."""
    parts = {
        'name="prompt"; filename="words.txt"': b"a fox in the snow",
        'name="size"': b"512x512",
        'name="image"; filename="a.png"': file(),
        'name="mask"; filename=""': b"",
    }

    def post(path: str, parts: dict[str, bytes]) -> httpx2.Response:
        body = b"".join(
            f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
            for head, content in parts.items()
        )
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        return server.client.post(path, content=body + b"--b--\r\n", headers=headers)

    assert painted(post(EDITS, parts))[0].size == (512, 512)
    assert (made(server)["prompt"], made(server)["references"]) == ("a fox in the snow", 1)
    no_text = post(EDITS, parts | {'name="prompt"; filename="words.txt"': b"\xff\xfe"})
    assert "must be UTF-8 text and files" in refused(no_text, 400)["message"]
    empty = post(EDITS, parts | {'name="image"; filename="a.png"': b""})
    assert "Field image is required" in refused(empty, 400)["message"]
    plain = {'name="model"': b"image-01", 'name="prompt"': b"a fox", 'name="file"; filename=""': b""}
    assert post(API, plain).json()["base_resp"]["status_code"] == 0
    assert made(server)["references"] == 0


def test_private_networks_and_files_of_the_server_are_refused(server: Server) -> None:
    for source in ("http://127.0.0.1:1/x.png", "/etc/passwd", "file:///etc/passwd", "bm8="):
        error = refused(ask(server, EDITS, image=source, size="auto"), 400)
        assert (error["param"], error["code"]) == ("image", "invalid_image"), source
        assert refused(ask(server, EDITS, image=source), 400)["code"] == "invalid_image", source


def test_a_mask_is_the_last_reference(server: Server) -> None:
    """The tiny pipeline repaints nothing, and says so: the mask has come as one."""
    buffer = io.BytesIO()
    Image.new("RGBA", (640, 512), (0, 0, 0, 0)).save(buffer, "PNG")
    mask = buffer.getvalue()
    for reply in (
        form(server, [("image", file()), ("mask", mask)]),
        ask(server, EDITS, images=[{"image_url": data_url(file())}], mask={"image_url": data_url(mask)}, size="auto"),
    ):
        assert "mask" in refused(reply, 400)["message"]
    read = openai_contract.read_call(
        {"prompt": "a fox", "image": ["a", "b"], "mask": "m"}, Settings(), Registry.of([]), EditRequest
    )
    assert (read.order.references, read.order.mask, read.like_first) == (("a", "b", "m"), True, True)


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "mask of no picture": ({"mask": "bm8="}, "mask", "invalid_image"),
    "mask at a private address": ({"mask": "http://127.0.0.1:1/x.png"}, "mask", "invalid_image"),
    "mask for a model without": ({"mask": data_url(file())}, "mask", "invalid_value"),
    "second picture": ({"image": [data_url(file()), "bm8="]}, "image", "invalid_image"),
    "picture that is cut short": ({"image": data_url(file()[:-20]), "size": "auto"}, "image", "invalid_image"),
    "negative prompt": ({"negative_prompt": "x" * 2000}, "negative_prompt", "invalid_value"),
    "long style": ({"style": "x" * 300}, "style", "invalid_value"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_field_that_is_at_fault_is_named(server: Server, name: str) -> None:
    fields, param, code = WRONG[name]
    error = refused(ask(server, EDITS, **{"image": data_url(file()), **fields}), 400)
    assert (error["param"], error["code"]) == (param, code)


# Streaming


def events(reply: httpx2.Response) -> list[dict[str, Any]]:
    """The events of a stream, whose names are their types."""
    found = []
    for block in reply.text.split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            told = {name: value for name, _, value in lines}
            assert list(told) == ["event", "data"]
            data = json.loads(told["data"])
            assert data["type"] == told["event"]
            found.append(data)
    return found


COMMON = {"type", "b64_json", "created_at", "size", "quality", "background", "output_format"}


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_partial_images_come_before_the_picture(showing: Server, kind: str, output_format: str) -> None:
    edit = {"image": data_url(file())} if kind == "image_edit" else {}
    path = EDITS if edit else GENERATIONS
    reply = ask(showing, path, stream=True, partial_images=3, seed=4, output_format=output_format, steps=40, **edit)
    assert reply.headers["content-type"].startswith("text/event-stream")
    *partials, last = events(reply)
    plain = ask(showing, path, seed=4, output_format=output_format, steps=40, **edit).json()
    assert [event["type"] for event in partials] == [f"{kind}.partial_image"] * len(partials)
    assert [event["partial_image_index"] for event in partials] == list(range(len(partials)))
    assert 1 <= len(partials) <= 3
    for event in partials:
        assert set(event) == {*COMMON, "partial_image_index"}
        shown = opened(base64.b64decode(event["b64_json"]))
        assert (shown.format, shown.size) == (output_format.upper(), (32, 24))
    assert last["type"] == f"{kind}.completed"
    assert set(last) == {*COMMON, "usage", "notes"}
    assert last["notes"] == plain["notes"]
    assert last["b64_json"] == plain["data"][0]["b64_json"]
    assert last["usage"] == plain["usage"]
    assert {name: last[name] for name in ("size", "quality", "background", "output_format")} == {
        name: plain[name] for name in ("size", "quality", "background", "output_format")
    }


@pytest.mark.parametrize(
    ("wanted", "steps", "sent"),
    [(3, 4, [1, 2, 3]), (3, 40, [10, 20, 30]), (1, 2, [1]), (0, 9, []), (3, 2, [1]), (2, 1, [])],
)
def test_partial_images_stand_evenly_in_the_steps(wanted: int, steps: int, sent: list[int]) -> None:
    found: list[int] = []
    for step in range(1, steps):  # the last has no preview
        if openai_replies.due(len(found), wanted, step, steps):
            found.append(step)
    assert found == sent


def test_without_partial_images_a_stream_is_the_pictures_alone(server: Server) -> None:
    told = events(ask(server, stream=True, n=3, seed=1))
    assert [event["type"] for event in told] == ["image_generation.completed"] * 3
    assert [event["b64_json"] for event in told] == [
        entry["b64_json"] for entry in ask(server, n=3, seed=1).json()["data"]
    ]
    totals = [sum(event["usage"][name] for event in told) for name in ("input_tokens", "output_tokens", "total_tokens")]
    usage = ask(server, n=3, seed=1).json()["usage"]
    assert totals == [usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]]


def test_what_goes_wrong_before_the_stream_has_its_true_status(server: Server) -> None:
    assert refused(ask(server, stream=True, prompt=" "), 400)["param"] == "prompt"
    assert refused(ask(server, stream=True, size="1x1"), 400)["param"] == "size"


def test_what_goes_wrong_in_the_stream_is_an_event(fussy: Server) -> None:
    (alone,) = events(ask(fussy, stream=True, seed=1))
    *others, last = events(ask(fussy, stream=True, seed=2, n=2))
    assert alone == {
        "type": "error",
        "error": {
            "message": "The picture was refused.", "type": "image_generation_user_error", "param": None,
            "code": "moderation_blocked",
        },
    }  # fmt: skip
    assert [event["type"] for event in others] == ["image_generation.completed"]
    assert last == alone


def test_what_nobody_expects_in_the_stream_is_an_event(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("limner.api.openai_replies.completed", broken)
    (alone,) = events(ask(server, stream=True))
    assert (alone["type"], alone["error"]["type"]) == ("error", "server_error")
    assert "secret" not in alone["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_had_no_effect_is_told(server: Server, stream: bool) -> None:
    """The tiny pipeline has a note for every picture."""
    reply = ask(server, n=2, stream=stream)
    job = server.client.get(f"/v1/jobs/{reply.headers['x-request-id']}").json()
    assert job["notes"] == ["A note."]
    if stream:
        assert [event.get("notes") for event in events(reply)] == [job["notes"], None]
    else:
        assert reply.json()["notes"] == job["notes"]


@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
def test_a_stream_tells_its_job_and_its_seeds(server: Server, path: str) -> None:
    fields = {"n": 2, "size": "auto", "image": data_url(file(512, 512))} if path == EDITS else {"n": 2}
    reply = ask(server, path, stream=True, **fields)
    seeds = reply.headers["limner-seeds"].split(",")
    job = server.client.get(f"/v1/jobs/{reply.headers['x-request-id']}").json()
    assert [picture["seed"] for picture in job["pictures"]] == seeds
    alone = ask(server, path, seed=seeds[1], **fields | {"n": 1}).json()["data"][0]["b64_json"]
    assert [event["b64_json"] for event in events(reply)][1] == alone


def test_who_leaves_a_stream_cancels_it(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    body = json.dumps({"prompt": "a fox", "stream": True, "size": "512x512"}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"POST {GENERATIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert connection.recv(12) == b"HTTP/1.1 200"  # it streams before the first evaluation has ended
    wait_for(lambda: server.client.get("/v1/jobs").json()["jobs"][0]["state"] == "cancelled")


def test_who_leaves_a_call_cancels_it(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    body = json.dumps({"prompt": "a fox", "size": "512x512"}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"POST {GENERATIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert server.pipeline.entered.acquire(timeout=30)
    wait_for(lambda: server.client.get("/v1/jobs").json()["jobs"][0]["state"] == "cancelled")


# Idempotency


@pytest.mark.parametrize("stream", [False, True])
def test_a_retry_is_answered_with_the_first_calls_pictures(server: Server, stream: bool) -> None:
    key = {"Idempotency-Key": f"order-{stream}"}
    before = len(server.pipeline.decoded)
    first = ask(server, headers=key, stream=stream)
    again = ask(server, headers=key, stream=stream)
    assert len(server.pipeline.decoded) == before + 1
    if stream:
        assert events(first)[-1]["b64_json"] == events(again)[-1]["b64_json"]
    else:
        assert first.json()["data"] == again.json()["data"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    for name in ("x-request-id", "limner-seeds"):
        assert again.headers[name] == first.headers[name]
    error = refused(ask(server, headers=key, stream=stream, prompt="another"), 409)
    assert "another body" in error["message"]
    assert refused(ask(server, EDITS, key, stream=stream, image=data_url(file())), 409)


@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
def test_tenants_have_keys_of_their_own(serve: Serve, path: str) -> None:
    server = serve(api_keys="sk-anna,sk-ben")
    jobs = set()
    for name in ("anna", "ben", "anna"):
        headers = {"Authorization": f"Bearer sk-{name}", "Idempotency-Key": "order-17"}
        fields = {"image": data_url(file())} if path == EDITS else {}
        reply = ask(server, path, headers, **fields)
        assert reply.status_code == 200
        jobs.add(reply.headers["x-request-id"])
    assert len(jobs) == 2


# Errors


SENTENCES: list[tuple[str, dict[str, Any], str | None, str | None, str]] = [
    (GENERATIONS, {"prompt": None}, "prompt", "missing_required_parameter", "Field prompt is required."),
    (GENERATIONS, {"prompt": 7}, "prompt", "invalid_value", "Field prompt must be a valid string"),
    (GENERATIONS, {"prompt": "x" * 1501}, "prompt", "invalid_value", "at most 1500 characters"),
    (GENERATIONS, {"negative_prompt": "x" * 1501}, "negative_prompt", "invalid_value", "at most 1500 characters"),
    (GENERATIONS, {"prompt": "\u200b\u200b\u200bab"}, "prompt", "invalid_value", "invisible"),
    (GENERATIONS, {"n": 0}, "n", "invalid_value", "greater than or equal to 1"),
    (GENERATIONS, {"n": 1.5}, "n", "invalid_value", "Field n must be a valid integer"),
    (GENERATIONS, {"size": "256x256"}, "size", "invalid_value", "sides of 512 to 2048 pixels, multiples of 8"),
    (GENERATIONS, {"size": "1000x1001"}, "size", "invalid_value", "multiples of 8"),
    (GENERATIONS, {"size": "large"}, "size", "invalid_value", 'got "large"'),
    (GENERATIONS, {"aspect_ratio": "1:1"}, "size", "invalid_value", "not both"),
    (GENERATIONS, {"area": "1K"}, "size", "invalid_value", "not both"),
    (GENERATIONS, {"size": "auto", "aspect_ratio": "9:1"}, "aspect_ratio", "invalid_value", "from 1:4 to 4:1"),
    (GENERATIONS, {"size": "auto", "area": "4K"}, "area", "invalid_value", "must be 1K or 2K"),
    (GENERATIONS, {"size": "auto", "area": "2K", "aspect_ratio": "16:9"}, "area", "invalid_value", "2560x1440"),
    (GENERATIONS, {"size": "auto", "area": "8K"}, "area", "invalid_value", "'1K', '2K' or '4K'"),
    (GENERATIONS, {"quality": "best"}, "quality", "invalid_value", "'low'"),
    (GENERATIONS, {"quality": "high", "steps": 3}, "quality", "invalid_value", "not both"),
    (GENERATIONS, {"background": "transparent"}, "background", "invalid_value", "transparent pictures are not painted"),
    (GENERATIONS, {"output_format": "gif"}, "output_format", "invalid_value", "'png', 'jpeg', 'jpg' or 'webp'"),
    (GENERATIONS, {"output_format": "svg"}, "output_format", "invalid_value", "'png'"),
    (GENERATIONS, {"output_format": "jpeg", "output_compression": 101}, "output_compression", "invalid_value", "100"),
    (GENERATIONS, {"response_format": "base64"}, "response_format", "invalid_value", "'url' or 'b64_json'"),
    (GENERATIONS, {"partial_images": 1}, "partial_images", "invalid_value", "set stream to true"),
    (GENERATIONS, {"stream": True, "partial_images": 4}, "partial_images", "invalid_value", "less than or equal to 3"),
    (GENERATIONS, {"stream": True, "response_format": "url"}, "response_format", "invalid_value", "beside stream"),
    (GENERATIONS, {"stream": 1}, "stream", "invalid_value", "boolean"),
    (GENERATIONS, {"moderation": "none"}, "moderation", "invalid_value", "'auto' or 'low'"),
    (GENERATIONS, {"prompt_optimizer": True, "disable_prompt_enhanced": True}, "disable_prompt_enhanced",
     "invalid_value", "not both"),
    (GENERATIONS, {"seed": 2**63}, "seed", "invalid_value", "Field seed must be less than"),
    (GENERATIONS, {"steps": 201}, "steps", "invalid_value", "200"),
    (GENERATIONS, {"guidance": 0}, "guidance", "invalid_value", "greater than or equal to 1"),
    (GENERATIONS, {"strength": 2}, "strength", "invalid_value", "less than or equal to 1"),
    (GENERATIONS, {"sampler": "magic"}, "sampler", "invalid_value", "'euler'"),
    (GENERATIONS, {"watermark": "perhaps"}, "watermark", "invalid_value", "boolean"),
    (GENERATIONS, {"svg": {"model": "x"}}, "svg", "unknown_parameter", 'There is no field "svg" here'),
    (GENERATIONS, {"y" * 99: 1}, "y" * 80, "unknown_parameter", "There is no field"),
    (GENERATIONS, {"image": "x"}, "image", "unknown_parameter", "leave it out"),
    (EDITS, {}, "image", "missing_required_parameter", "the picture to edit, as a file, a URL or a data URL"),
    (EDITS, {"image": []}, "image", "missing_required_parameter", "Field image is required"),
    (EDITS, {"image": ["a"] * 5}, "image", "invalid_value", "holds 5 pictures; at most 4"),
    (EDITS, {"image": "a", "images": ["a"]}, "images", "invalid_value", "not both"),
    (EDITS, {"images": [{"file_id": "file-1"}]}, "images", "invalid_value", "no files are kept here"),
    (EDITS, {"images": [{"url": "x"}]}, "images", "invalid_value", '{"image_url": ...}'),
    (EDITS, {"image": [" "]}, "image", "invalid_value", "not empty"),
    (EDITS, {"image": 7}, "image", "invalid_value", "files, or URLs"),
    (EDITS, {"image": "a", "mask": ["a", "b"]}, "mask", "invalid_value", "Field mask must be one picture"),
    (EDITS, {"image": "a", "mask": {}}, "mask", "invalid_value", "Field mask must hold pictures"),
    (EDITS, {"image": "a", "input_fidelity": "some"}, "input_fidelity", "invalid_value", "'high' or 'low'"),
    (EDITS, {"image": "a", "markup": "b"}, "markup", "unknown_parameter", 'no field "markup"'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "fields", "param", "code", "sentence"), SENTENCES, ids=range(len(SENTENCES)))
def test_what_is_wrong_is_said(
    server: Server, path: str, fields: dict[str, Any], param: str | None, code: str | None, sentence: str
) -> None:
    error = refused(ask(server, path, **fields), 400)
    assert sentence in error["message"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")


@pytest.mark.parametrize("model", NAMES)
def test_an_unknown_model_is_openais_404_until_it_is_given_the_name(server: Server, model: str) -> None:
    error = refused(ask(server, model=model), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "model_aliases" in error["message"]


def test_a_model_has_the_names_that_model_aliases_gives_it(named: Server) -> None:
    assert [ask(named, model=name).status_code for name in NAMES] == [200, 200, 200]


BROKEN: dict[str, tuple[dict[str, Any], int, str]] = {
    "not json": ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "must be JSON"),
    "empty": ({"content": b"", "headers": {"Content-Type": "application/json"}}, 400, "is empty"),
    "an array": ({"json": []}, 400, "must be a JSON object"),
    "too large": ({"content": b" " * 2**17, "headers": {"Content-Type": "application/json"}}, 413, "at most 65536"),
    "text": ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "application/json"),
    "compressed": ({"json": {}, "headers": {"Content-Encoding": "gzip"}}, 415, "not be compressed"),
    "a stranger's name": ({"json": {"prompt": "a"}, "headers": {"Host": "evil.example"}}, 403, "public_url"),
    "a stranger's page": ({"json": {"prompt": "a"}, "headers": {"Origin": "http://evil.example"}}, 403, "pages"),
}


@pytest.mark.parametrize("path", [GENERATIONS, EDITS, "/images/generations", "/v1/v1/images/edits/"])
def test_every_error_of_these_paths_has_openais_shape_alone(small: Server, path: str) -> None:
    for name, (request, status, sentence) in BROKEN.items():
        assert sentence in refused(small.client.post(path, **request), status)["message"], name
    wrong = small.client.get(path)
    assert "GET is not answered here" in refused(wrong, 405)["message"]
    assert wrong.headers["allow"] == "POST"
    assert "/v1/images/edits" in refused(small.client.post("/v1/images/variations"), 404)["message"]


def test_minimaxs_and_limners_paths_have_their_own_shape_alone(server: Server) -> None:
    for path in (API, "/v1/pictures", "/v1/jobs", "/v1/scenes"):
        for request, _, _ in BROKEN.values():
            reply = server.client.post(path, **request)
            if "prompt" in str(request) and reply.status_code == 200 and path == API:
                continue
            assert "base_resp" in reply.json(), (path, request)
            assert "error" not in reply.json()
    for path in ("/v1/models/nothing", "/v1/jobs/nothing", "/files/nothing"):
        assert list(server.client.get(path).json()) == ["id", "data", "metadata", "base_resp"]


def test_a_fault_of_ours_tells_nothing_of_it(server: Server) -> None:
    for prompt in ("explode in evaluate", "explode in encode"):
        error = refused(ask(server, prompt=prompt), 500)
        assert (error["type"], error["param"], error["code"]) == ("server_error", None, None)
        assert "xplo" not in error["message"]


def test_an_exception_that_nobody_expects_has_the_shape(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("limner.api.openai_replies.success", broken)
    error = refused(ask(server), 500)
    assert (error["type"], "secret" in error["message"]) == ("server_error", False)


def test_keys_are_asked_for_in_openais_shape(serve: Serve) -> None:
    server = serve(api_keys="right")
    missing = refused(ask(server), 401)
    wrong = refused(ask(server, headers={"Authorization": "Bearer wrong"}), 401)
    assert (missing["code"], wrong["code"]) == (None, "invalid_api_key")
    assert ask(server, headers={"Authorization": "Bearer right"}).status_code == 200


def test_what_the_policy_refuses_is_moderation_blocked(serve: Serve, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[[rule]]\nname = 'r'\nterms = ['forbidden']\n")
    error = refused(ask(serve(policy_file=policy), prompt="something forbidden"), 400)
    assert (error["type"], error["code"], error["param"]) == (
        "image_generation_user_error", "moderation_blocked", "prompt"
    )  # fmt: skip


def test_a_picture_that_is_missing_has_an_entry_that_says_why_behind_the_others(fussy: Server) -> None:
    reply = ask(fussy, n=3, seed=1)
    body = reply.json()
    assert [list(entry) for entry in body["data"]] == [["b64_json"], ["error"], ["error"]]
    assert body["data"][1]["error"]["code"] == "moderation_blocked"
    assert reply.headers["limner-seeds"] == "2"
    assert body["usage"]["output_tokens"] == 1024
    first, again = (ask(fussy, n=3, seed=1, headers={"Idempotency-Key": "k"}).json()["data"] for _ in range(2))
    assert first == again
    assert refused(ask(fussy, seed=1), 400)["code"] == "moderation_blocked"


def test_limits_are_429_with_the_time_to_wait(serve: Serve) -> None:
    server = serve()
    with server.service.database.transaction() as connection:
        _, daily = keys.create(connection, "acme", Limits(daily=1), FAR)
        _, models = keys.create(connection, "acme", Limits(models=("another",)), FAR)
        _, rate = keys.create(connection, "acme", Limits(rate=1), FAR)

    def by(key: str, **fields: Any) -> httpx2.Response:
        return ask(server, headers={"Authorization": f"Bearer {key}"}, **fields)

    assert by(daily).status_code == by(rate).status_code == 200
    used = by(daily)
    assert (refused(used, 429)["code"], used.headers["x-should-retry"]) == ("insufficient_quota", "false")
    assert int(used.headers["retry-after"]) > 0
    fast = by(rate)
    assert (refused(fast, 429)["code"], "x-should-retry" in fast.headers) == ("rate_limit_exceeded", False)
    assert 0 < int(fast.headers["retry-after"]) <= 60
    assert refused(by(models), 403)["code"] == "model_not_found"


def test_what_is_not_ready_in_time_is_a_504(serve: Serve) -> None:
    server = serve(gate=threading.Semaphore(0), request_seconds=0.2)
    error = refused(ask(server), 504)
    assert (error["type"], error["code"]) == ("server_error", "timeout")


def test_every_code_has_a_type() -> None:
    assert set(openai_errors.KINDS) == set(Code) - {Code.OK}


# The page


def rows(heading: str) -> dict[str, str]:
    """The first column's names of the table under a heading of docs/openai.md, with the rest of their rows."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| (`.+?`) \| (.+) \|$", section, re.MULTILINE)
    return {name: rest for names, rest in table for name in re.findall("`([^`]+)`", names)}


def test_the_page_tells_of_every_field_and_of_no_other() -> None:
    assert set(rows("Fields")) == set(EditRequest.model_fields)


def test_the_page_tells_of_every_field_that_the_official_package_knows() -> None:
    theirs = {
        name
        for kind in (image_generate_params.ImageGenerateParamsBase, image_edit_params.ImageEditParamsBase)
        for name in kind.__annotations__
    } | {"stream"}
    assert theirs - set(EditRequest.model_fields) == set(rows("Fields that are refused"))


def test_the_page_says_which_fields_have_no_effect() -> None:
    idle = {name for name, rest in rows("Fields").items() if rest.startswith("accepted, no effect")}
    documented = {
        name for name, field in EditRequest.model_fields.items() if (field.description or "").startswith("No effect")
    }
    assert idle == documented == {"user", "safety_identifier", "moderation", "input_fidelity"}


def test_the_page_has_the_numbers_of_the_contract() -> None:
    for quality, effort in openai_contract.EFFORTS.items():
        assert re.search(rf"^\|[^|]*`{quality}`[^|]*\| {effort:g} × ", PAGE, re.MULTILINE), quality
    for code, (kind, name) in openai_errors.KINDS.items():
        assert re.search(
            rf"^\| {code:d} \| \d{{3}} \| `{kind}` \| {f'`{name}`' if name else 'null'}", PAGE, re.MULTILINE
        ), code
    assert f"{openai_replies.TOKEN_SIDE}×{openai_replies.TOKEN_SIDE}" in PAGE
    assert f"{openai_replies.TOKEN_BYTES} bytes" in PAGE
    assert f"{contract.SIDE_MIN} to {contract.SIDE_MAX}" in PAGE


def test_the_openapi_document_has_both_routes_with_their_bodies(server: Server) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    body = paths[GENERATIONS]["post"]["requestBody"]["content"]
    assert set(body["application/json"]["schema"]["properties"]) == set(GenerationRequest.model_fields)
    edits = paths[EDITS]["post"]["requestBody"]["content"]
    assert set(edits["application/json"]["schema"]["properties"]) == set(EditRequest.model_fields)
    assert edits["multipart/form-data"]["schema"]["properties"]["image"]["format"] == "binary"
    for path in (GENERATIONS, EDITS):
        for status, told in paths[path]["post"]["responses"].items():
            schema = told["content"]["application/json"]["schema"]
            assert ("error" in schema["properties"]) == (status != "200"), status
            assert told["description"]


def test_the_painters_steps_are_those_that_quality_counts_with(server: Server) -> None:
    ask(server, quality="max")
    assert made(server)["steps"] == 4 * painter.STEPS


LIMITS = Settings()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([*EditRequest.model_fields, "svg"]), JSON, max_size=8),
    st.sampled_from([GenerationRequest, EditRequest]),
)
def test_any_document_is_a_call_or_a_sentence(document: dict[str, Any], kind: type[GenerationRequest]) -> None:
    told: openai_contract.Call | openai_errors.Refused
    try:
        told = openai_contract.read_call(document | {"prompt": "a fox"}, LIMITS, Registry.of([]), kind)
    except openai_errors.Refused as refusal:
        told = refusal
    if isinstance(told, openai_errors.Refused):
        assert told.message.endswith(".")
        assert told.field is None or told.field in {*EditRequest.model_fields, "svg"}
    else:
        assert told.order.width % 8 == told.order.height % 8 == 0
        assert 512 <= told.order.width <= 2048
        assert 1 <= told.order.n <= 10
