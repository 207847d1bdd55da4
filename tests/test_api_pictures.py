"""Limner's own routes, over a real socket: `POST /v1/scenes` and `POST /v1/pictures`."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from conftest import Server, serving
from limner.backends.local import LocalBackend
from limner.config import Settings
from limner.engine.engine import Engine
from limner.pipelines.painter import PainterPipeline
from limner.service import Order, Service
from limner.storage.blobs import Blobs
from limner.storage.database import Database

SMALL = {"width": 512, "height": 512}


def pictures(server: Server, **fields: Any) -> httpx2.Response:
    return server.client.post("/v1/pictures", json={"prompt": "a red fox", "response_format": "base64"} | fields)


def refused(reply: httpx2.Response) -> str:
    """The sentence of a call that was refused, under its true status."""
    assert reply.status_code == 400, reply.text
    assert reply.json()["base_resp"]["status_code"] == 2013
    return str(reply.json()["base_resp"]["status_msg"])


def test_pictures_come_with_seed_size_scene_and_notes(server: Server) -> None:
    body = pictures(server, n=2, seed=-1, aspect_ratio="16:9").json()
    assert set(body) == {"id", "pictures", "failed", "scene", "notes"}
    assert [(p["seed"], p["width"], p["height"]) for p in body["pictures"]] == [("-1", 1280, 720), ("0", 1280, 720)]
    assert body["failed"] == 0
    assert body["scene"] == {"prompt": "a red fox"}
    assert body["notes"] == ["A note."]


def test_the_seed_of_a_reply_gives_its_picture_again(server: Server) -> None:
    first = pictures(server, **SMALL).json()["pictures"][0]
    again = pictures(server, **SMALL, seed=first["seed"]).json()["pictures"][0]
    assert again == first


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_picture_is_of_the_format_that_was_asked_for(server: Server, kind: str) -> None:
    (picture,) = pictures(server, **SMALL, format=kind).json()["pictures"]
    with Image.open(io.BytesIO(base64.b64decode(picture["base64"], validate=True))) as image:
        assert (image.format, image.size) == (kind.upper(), (512, 512))


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_link_leads_to_the_picture_in_the_format_that_was_asked_for(server: Server, kind: str) -> None:
    (picture,) = pictures(server, **SMALL, seed=3, response_format="url", format=kind).json()["pictures"]
    (inline,) = pictures(server, **SMALL, seed=3, format=kind).json()["pictures"]
    reply = httpx2.get(picture["url"], trust_env=False)
    assert picture["url"].endswith(f".{kind}")
    assert reply.headers["content-type"] == f"image/{kind}"
    assert reply.content == base64.b64decode(inline["base64"])


def test_steps_change_the_picture(server: Server) -> None:
    few, many = (pictures(server, **SMALL, seed=3, steps=steps).json()["pictures"][0] for steps in (1, 9))
    assert few["base64"] != many["base64"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"negativ_prompt": "a cat"}, 'There is no field "negativ_prompt" here; leave it out.'),
        ({"negative_prompt": "a " * 1000}, "Field negative_prompt must be at most 1500 characters; got 2000."),
        ({"sampler": "plms"}, "Field sampler must "),
        ({"loras": {"ink": 5}}, "Field loras.ink must be less than or equal to 4; got 5."),
        ({"loras": {"ink": "heavy"}}, "Field loras.ink must be a valid number; got "),
        ({"prompt": None}, "Field prompt is required."),
        ({"steps": 0}, "Field steps must be greater than or equal to 1; got 0."),
        ({"strength": 1.5}, "Field strength must be less than or equal to 1; got 1.5."),
        ({"guidance": 0.5}, "Field guidance must be greater than or equal to 1; got 0.5."),
        ({"width": 512}, "Fields width and height must be set together; got width without height."),
        ({"aspect_ratio": "1:1", **SMALL}, "Give aspect_ratio, or width and height, not both."),
        ({"model": "image-02"}, "Field model must be one of image-01, image-01-live; got "),
    ],
)
def test_what_is_wrong_is_said_under_a_true_status(server: Server, fields: dict[str, Any], sentence: str) -> None:
    assert refused(pictures(server, **fields)).startswith(sentence)


def test_a_body_that_is_no_object_is_refused(server: Server) -> None:
    assert refused(server.client.post("/v1/scenes", json=["a red fox"])) == "The body must be a JSON object."


def test_a_key_is_asked_for_where_keys_are_set(serve: Callable[..., Server]) -> None:
    reply = pictures(serve(api_keys="sk-pictures"))
    assert (reply.status_code, reply.json()["base_resp"]["status_code"]) == (401, 1004)


def test_a_scene_is_planned_without_painting_it(tmp_path: Path) -> None:
    gate = threading.Semaphore(0)  # no evaluation ends before it is opened
    with serving(tmp_path, gate) as server:
        body = server.client.post("/v1/scenes", json={"prompt": "two cats"}).json()
        assert (body["scene"], body["notes"]) == ({"prompt": "two cats"}, ["A note."])
        gate.release(10_000)
        assert server.paint(width=512, height=512).json()["base_resp"]["status_code"] == 0
        assert len(server.pipeline.decoded) == 1
        assert (server.engine.waiting, server.engine.running) == (0, 0)


def test_what_cannot_be_planned_says_why(server: Server) -> None:
    reply = server.client.post("/v1/scenes", json={"prompt": "refuse"})
    assert refused(reply) == "This prompt cannot be painted. Use another."


def test_a_planned_scene_paints_the_picture_that_its_prompt_paints(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    painter = PainterPipeline.load()
    backend = LocalBackend(Engine({"image-01": painter}, 9))
    service = Service(settings, backend, Database.in_memory(), Blobs.in_memory())
    order = Order("two red balloons above a frobnicator", 512, 512, seed=5)

    async def both() -> tuple[Any, Any, tuple[str, ...]]:
        await service.start()
        try:
            scene, notes = await service.plan(order)
            planned = await service.generate(replace(order, scene=scene))
            return planned.pictures[0].data, (await service.generate(order)).pictures[0].data, notes
        finally:
            await service.stop()

    planned, painted, notes = asyncio.run(both())
    assert planned == painted
    assert any("frobnicator" in note for note in notes)
