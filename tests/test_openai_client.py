"""OpenAI's own Python package, as it is installed, against a running service."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse
from PIL import Image

from conftest import AnySizePipeline, Server, serving, wait_for
from limner.backends.local import LocalBackend
from limner.engine.core import Encoded, Float32, Held, Request, UInt8
from limner.engine.engine import Engine

Serve = Callable[..., Server]


class Showing(AnySizePipeline):
    """Shows a grey picture as the preview of every step."""

    def preview(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return np.full((24, 32, 3), 128, np.uint8)


class Repainting(AnySizePipeline):
    """Holds nothing of the picture, but says that it could, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Request] = []

    def encode(self, request: Request) -> Encoded:
        self.asked.append(request)
        encoded = super().encode(request)
        nothing = np.zeros(encoded.key.shape, np.float32)
        return replace(encoded, held=Held(nothing, nothing[:1]))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    backend = LocalBackend(Engine({"image-01": Showing(), "image-01-live": Showing()}, 64))
    names = {"gpt-image-1": "image-01", "dall-e-2": "image-01"}
    with serving(tmp_path_factory.mktemp("data"), backend=backend, model_aliases=names) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with to(server) as opened:
        yield opened


def to(server: Server, key: str = "any", **options: Any) -> OpenAI:
    """A client with an HTTP client of its own, so that no proxy of the machine is asked."""
    http = httpx2.Client(trust_env=False, verify=False, timeout=30)  # to read the certificates takes 50 ms
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, http_client=http, **{"max_retries": 0} | options)


def file(width: int = 640, height: int = 512, colour: Any = "red", mode: str = "RGB") -> io.BytesIO:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, "PNG")
    buffer.seek(0)
    buffer.name = "picture.png"
    return buffer


def first(reply: ImagesResponse) -> Image.Image:
    assert reply.data
    assert reply.data[0].b64_json
    return Image.open(io.BytesIO(base64.b64decode(reply.data[0].b64_json)))


def test_pictures_are_generated(client: OpenAI) -> None:
    reply = client.images.generate(
        model="gpt-image-1", prompt="a red fox", n=2, size="1536x1024", quality="low", background="opaque",
        output_format="webp", output_compression=80, moderation="low", user="u-1", extra_body={"seed": 7},
    )  # fmt: skip
    assert len(reply.data or ()) == 2
    assert (first(reply).format, first(reply).size) == ("WEBP", (1536, 1024))
    assert (reply.size, reply.quality, reply.output_format, reply.background) == ("1536x1024", "low", "webp", "opaque")
    assert reply.usage is not None
    assert (reply.usage.output_tokens, reply.usage.input_tokens_details.image_tokens) == (2 * 6144, 0)
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens


def test_the_id_and_the_seeds_can_be_read(server: Server, client: OpenAI) -> None:
    raw = client.images.with_raw_response.generate(prompt="a red fox", size="512x512", extra_body={"seed": 41})
    assert raw.headers["limner-seeds"] == "41"
    assert raw.request_id is not None
    assert server.client.get(f"/v1/jobs/{raw.request_id}").json()["state"] == "done"
    plain = client.images.generate(prompt="a red fox", size="512x512", extra_body={"seed": 41})
    assert plain._request_id
    assert plain.model_extra == {"notes": ["A note."]}  # Limner's own, which the package keeps
    assert plain.data == raw.parse().data


def test_links_are_for_those_that_ask_and_for_dall_es_names(server: Server, client: OpenAI) -> None:
    """As LangChain's DallEAPIWrapper asks, which reads links alone."""
    asked = client.images.generate(prompt="a red fox", response_format="url", size="512x512")
    dall_e = client.images.generate(prompt="a red fox", n=1, size="1024x1024", model="dall-e-2", quality="standard")
    for reply in (asked, dall_e):
        assert reply.data
        assert reply.data[0].url
        assert server.client.get(reply.data[0].url).headers["content-type"] == "image/png"


def test_pictures_are_edited(server: Server, client: OpenAI) -> None:
    one = client.images.edit(image=file(), prompt="a red fox", extra_body={"seed": 3})
    several = client.images.edit(
        image=[file(), file(colour="blue")], prompt="a red fox", n=2, input_fidelity="high", size="512x512",
        quality="auto", extra_body={"seed": 3},
    )  # fmt: skip
    assert first(one).size == (640, 512)
    assert len(several.data or ()) == 2
    assert several.usage is not None
    assert several.usage.input_tokens_details.image_tokens == 2 * 1024
    newest = server.client.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]
    assert newest["request"]["references"] == 2


def test_a_mask_reaches_a_model_that_says_it_cannot(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="mask"):
        client.images.edit(image=file(), mask=file(mode="RGBA", colour=(0, 0, 0, 0)), prompt="a red fox")


def test_a_picture_is_repainted_where_its_mask_is_transparent(tmp_path: Path) -> None:
    """At its own size, which auto keeps: a large one at the largest that can be painted."""
    pipeline = Repainting()
    mask = Image.new("RGBA", (1000, 1500), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 500, 1500))
    hidden = io.BytesIO()
    mask.save(hidden, "PNG")
    with (
        serving(tmp_path, backend=LocalBackend(Engine({"image-01": pipeline}, 64))) as server,
        to(server) as client,
    ):
        reply = client.images.edit(
            image=[file(1000, 1500, "green"), file(64, 64)], mask=("mask.png", hidden.getvalue()), prompt="a red fox"
        )
        with pytest.raises(openai.BadRequestError, match="must be of one size") as caught:
            client.images.edit(image=file(900, 1500), mask=("mask.png", hidden.getvalue()), prompt="a red fox")
        assert (caught.value.param, caught.value.code) == ("mask", "invalid_value")
        with pytest.raises(openai.BadRequestError, match="no transparent pixel"):
            client.images.edit(image=file(), mask=file(), prompt="a red fox")
    assert first(reply).size == (1000, 1504)
    (asked,) = pipeline.asked
    assert asked.mask is not None
    assert asked.mask.shape == (1504, 1000)
    assert (asked.mask[700, 100], asked.mask[700, 900]) == (255, 0)
    assert [picture.shape for picture in asked.references] == [(1504, 1000, 4), (64, 64, 4)]


def test_a_stream_is_partial_images_and_the_picture(client: OpenAI) -> None:
    with client.images.generate(
        prompt="a red fox", stream=True, partial_images=2, size="512x512", extra_body={"seed": 5, "steps": 30}
    ) as stream:
        *partials, last = stream
    assert 1 <= len(partials) <= 2
    for index, event in enumerate(partials):
        assert isinstance(event, ImageGenPartialImageEvent)
        assert event.partial_image_index == index
        assert Image.open(io.BytesIO(base64.b64decode(event.b64_json))).format == "PNG"
    assert isinstance(last, ImageGenCompletedEvent)
    plain = client.images.generate(prompt="a red fox", size="512x512", extra_body={"seed": 5, "steps": 30})
    assert [last.b64_json] == [picture.b64_json for picture in plain.data or ()]
    assert last.usage.output_tokens == 1024


def test_edits_stream_too(client: OpenAI) -> None:
    told = list(client.images.edit(image=file(), prompt="a red fox", stream=True, partial_images=1))
    assert [event.type for event in told][-1] == "image_edit.completed"
    assert {event.type for event in told[:-1]} <= {"image_edit.partial_image"}


def test_the_asynchronous_client_does_the_same(server: Server, client: OpenAI) -> None:
    async def ask() -> tuple[list[ImagesResponse], list[str]]:
        http = httpx2.AsyncClient(trust_env=False, verify=False, timeout=30)
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", http_client=http, max_retries=0) as other:
            replies = await asyncio.gather(
                *(
                    other.images.generate(prompt="a red fox", size="512x512", extra_body={"seed": seed})
                    for seed in range(3)
                ),
                other.images.edit(prompt="a red fox", image=file(), extra_body={"seed": 1}),
            )
            stream = await other.images.generate(prompt="a red fox", stream=True, size="512x512")
            told = [event.type async for event in stream]
            with pytest.raises(openai.NotFoundError):
                await other.images.generate(prompt="a red fox", model="gpt-image-9")
        return list(replies), told

    replies, told = asyncio.run(ask())
    for seed, reply in enumerate(replies[:3]):
        again = client.images.generate(prompt="a red fox", size="512x512", extra_body={"seed": seed})
        assert reply.data == again.data
    assert first(replies[3]).size == (640, 512)
    assert told == ["image_generation.completed"]


def test_models_can_be_listed(client: OpenAI) -> None:
    assert {"image-01", "gpt-image-1"} <= {model.id for model in client.models.list()}


def test_the_pages_example_runs(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parent.parent / "docs/openai.md").read_text("utf-8")
    example = page.partition("```python\n")[2].partition("```")[0]
    assert "http://127.0.0.1:8000/v1" in example
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    exec(example.replace("http://127.0.0.1:8000", server.url), {})
    assert Image.open(io.BytesIO((tmp_path / "fox.png").read_bytes())).size == (1536, 1024)


# Errors


def test_a_wrong_key_is_an_authentication_error(serve: Serve) -> None:
    server = serve(api_keys="right")
    with to(server, "wrong") as wrong, pytest.raises(openai.AuthenticationError, match="401") as caught:
        wrong.images.generate(prompt="a red fox")
    assert caught.value.code == "invalid_api_key"
    with to(server, "right") as right:
        assert first(right.images.generate(prompt="a red fox", size="512x512")).size == (512, 512)


def test_an_unknown_model_is_a_not_found_error(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="There is no model") as caught:
        client.images.generate(prompt="a red fox", model="dall-e-3")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id


def test_a_wrong_field_is_a_bad_request_error_that_names_it(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Field size must be auto or WxH") as caught:
        client.images.generate(prompt="a red fox", size="256x256")
    assert (caught.value.param, caught.value.type) == ("size", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="Field background must be auto or opaque"):
        client.images.generate(prompt="a red fox", background="transparent", stream=True)


def test_variations_are_not_found(client: OpenAI) -> None:
    with (
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.NotFoundError, match="/v1/images/edits"),
    ):
        client.images.create_variation(image=file())


def test_what_the_policy_refuses_is_a_bad_request_error(serve: Serve, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[[rule]]\nname = 'r'\nterms = ['forbidden']\n")
    with to(serve(policy_file=policy)) as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a forbidden fox")
    assert caught.value.code == "moderation_blocked"


def test_a_fault_in_a_stream_is_an_api_error(client: OpenAI) -> None:
    stream = client.images.generate(prompt="a red fox, explode in decode", stream=True, size="512x512")
    with pytest.raises(openai.APIError, match="finishing the picture") as caught:
        list(stream)
    assert caught.value.type == "server_error"


def test_a_full_queue_is_a_rate_limit_error_that_is_tried_again(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate, queue_limit=1)
    with to(server) as client, to(server, max_retries=8) as patient:
        holding = threading.Thread(target=lambda: client.images.generate(prompt="a fox", size="512x512"))
        holding.start()
        assert server.pipeline.entered.acquire(timeout=30)
        with pytest.raises(openai.RateLimitError, match="Every place in the queue is taken") as caught:
            client.images.generate(prompt="a red fox", size="512x512")
        assert caught.value.code == "rate_limit_exceeded"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        refusals = 'limner_requests_total{code="1002",route="images_generations"} 2.0'

        def let_go() -> None:
            wait_for(lambda: refusals in server.client.get("/metrics").text)
            gate.release(1000)

        letting_go = threading.Thread(target=let_go)
        letting_go.start()
        raw = patient.images.with_raw_response.generate(prompt="a red fox", size="512x512")
        letting_go.join()
        holding.join()
    assert raw.retries_taken >= 1
    assert len(raw.parse().data or ()) == 1


def test_what_is_of_no_use_is_not_tried_again(serve: Serve) -> None:
    """A retry would be told again that the key came with another body; the package would try a 409 twice more."""
    server = serve()
    with to(server, max_retries=5) as client:
        key = {"Idempotency-Key": "order-1"}
        client.images.generate(prompt="a red fox", size="512x512", extra_headers=key)
        with pytest.raises(openai.ConflictError, match="another body") as caught:
            client.images.generate(prompt="a blue fox", size="512x512", extra_headers=key)
        assert caught.value.response.headers["x-should-retry"] == "false"
    assert 'code="2013",route="images_generations"} 1.0' in server.client.get("/metrics").text


def test_a_retry_with_an_idempotency_key_is_the_same_job(client: OpenAI) -> None:
    key = {"Idempotency-Key": "order-2"}
    one = client.images.generate(prompt="a red fox", size="512x512", extra_headers=key)
    two = client.images.generate(prompt="a red fox", size="512x512", extra_headers=key)
    assert (one._request_id, one.data) == (two._request_id, two.data)


def test_closing_a_stream_cancels_the_job(serve: Serve) -> None:
    server = serve(gate=threading.Semaphore(0))
    with to(server) as client:
        stream = client.images.generate(prompt="a red fox", size="512x512", stream=True)
        stream.close()
    wait_for(lambda: server.client.get("/v1/jobs").json()["jobs"][0]["state"] == "cancelled")


def test_giving_up_cancels_the_job(serve: Serve) -> None:
    server = serve(gate=threading.Semaphore(0))
    with to(server, timeout=0.5) as client, pytest.raises(openai.APITimeoutError):
        client.images.generate(prompt="a red fox", size="512x512")
    wait_for(lambda: server.client.get("/v1/jobs").json()["jobs"][0]["state"] == "cancelled")
