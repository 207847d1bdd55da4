from __future__ import annotations

import asyncio
import base64
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from PIL import Image

from limner.backends.local import LocalBackend
from limner.config import Settings
from limner.engine.core import ENDINGS, Encoded, Event, Request, Started, Stepped
from limner.engine.engine import Engine
from limner.errors import (
    Busy,
    Closing,
    EngineFailed,
    IllegalCharacters,
    InvalidRequest,
    LimnerError,
    ReferenceRefused,
    SettingsInvalid,
    StorageFailed,
    TimedOut,
)
from limner.models.registry import LIVE_STYLES
from limner.order import Order
from limner.prompts import expand
from limner.service import Outcome, Service, build_service
from limner.storage.blobs import NAME, Blobs
from limner.storage.database import Database
from limner.tenants import Caller
from tiny_pipeline import TinyPipeline

FOX = Order("a red fox", 512, 512, seed=7)


class Recorder(TinyPipeline):
    """Remembers the requests; a prompt with "odd fails" fails where the seed is odd."""

    def __init__(self, gate: threading.Semaphore | None = None) -> None:
        super().__init__(gate=gate)
        self.requests: list[Request] = []

    def encode(self, request: Request) -> Encoded:
        self.requests.append(request)
        if "odd fails" in request.prompt and request.seed % 2:
            raise InvalidRequest(f"Seed {request.seed} is odd.")
        return super().encode(request)


Make = Callable[..., tuple[Service, Recorder]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Builds services of the tiny pipeline, closed when the test ends."""
    services: list[tuple[Service, threading.Semaphore | None]] = []

    def build(
        gate: threading.Semaphore | None = None, names: Sequence[str] = ("image-01", "image-01-live"), **options: Any
    ) -> tuple[Service, Recorder]:
        settings = Settings(data_dir=tmp_path, **options)
        pipeline = Recorder(gate)
        engine = Engine(dict.fromkeys(names, pipeline), settings.queue_limit)
        service = Service(settings, LocalBackend(engine), Database.open(settings), Blobs.open(settings))
        services.append((service, gate))
        return service, pipeline

    yield build
    for service, gate in services:
        if gate is not None:
            gate.release(10_000)
        asyncio.run(service.stop())


def fill(service: Service, order: Order) -> Outcome:
    return asyncio.run(service.generate(order))


def png(colour: tuple[int, int, int], side: int = 40) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


# Seeds and bytes


def test_an_order_becomes_pictures_of_its_size_seeds_and_number(make: Make) -> None:
    service, _ = make()
    outcome = fill(service, replace(FOX, width=1344, height=576, n=3))
    assert [picture.seed for picture in outcome.pictures] == [7, 8, 9]
    assert outcome.failed == 0
    for picture in outcome.pictures:
        with Image.open(io.BytesIO(picture.data)) as image:
            assert image.format == "JPEG"
            assert image.size == (picture.width, picture.height) == (1344, 576)
        assert NAME.fullmatch(picture.name)


def test_the_same_order_gives_the_same_bytes_also_from_another_service(make: Make) -> None:
    first = fill(make()[0], FOX)
    again = fill(make()[0], FOX)
    assert first.pictures == again.pictures
    assert fill(make()[0], replace(FOX, seed=8)).pictures[0].data != first.pictures[0].data


def test_picture_k_of_seed_s_is_picture_0_of_seed_s_plus_k(make: Make) -> None:
    service, _ = make()
    together = fill(service, replace(FOX, n=4)).pictures
    for k in range(4):
        assert fill(service, replace(FOX, seed=7 + k)).pictures == (together[k],)


def test_seeds_wrap_and_a_negative_one_is_its_twos_complement(make: Make) -> None:
    service, _ = make()
    wrapped = fill(service, replace(FOX, seed=2**64 - 1, n=2)).pictures
    assert [picture.seed for picture in wrapped] == [2**64 - 1, 0]
    assert fill(service, replace(FOX, seed=-1, n=2)).pictures == wrapped
    assert fill(service, replace(FOX, seed=-(2**63))).pictures[0].seed == 2**63


def test_an_unseeded_picture_can_be_had_again_by_its_seed(make: Make) -> None:
    service, _ = make()
    pictures = fill(service, replace(FOX, seed=None, n=9)).pictures
    seeds = {picture.seed for picture in pictures}
    assert len(seeds) == 9
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert fill(service, replace(FOX, seed=pictures[5].seed)).pictures == (pictures[5],)


def test_the_format_and_the_mark_are_the_orders(make: Make) -> None:
    service, _ = make(watermark_text="by a machine")
    plain = fill(service, replace(FOX, format="png")).pictures[0].data
    marked = fill(service, replace(FOX, format="png", watermark=True)).pictures[0].data
    assert plain.startswith(b"\x89PNG")
    with Image.open(io.BytesIO(plain)) as one, Image.open(io.BytesIO(marked)) as other:
        rows, columns, _ = np.nonzero(np.asarray(one) != np.asarray(other))
    assert rows.min() > 450
    assert columns.min() > 256


# What the engine is asked for


def test_the_fields_of_an_order_reach_the_engine(make: Make) -> None:
    service, pipeline = make()
    scene = {"place": "beach"}
    order = replace(FOX, steps=3, guidance=2.0, strength=0.4, style="comic", scene=scene)
    order = replace(order, sampler="heun", negative_prompt="a dog", loras=(("ink", 0.5),))
    asyncio.run(service.generate(order, Caller("t")))
    (request,) = pipeline.requests
    assert (request.sampler, request.negative_prompt, request.loras) == ("heun", "a dog", (("ink", 0.5),))
    assert (request.steps, request.guidance, request.strength, request.style) == (3, 2.0, 0.4, "comic")
    assert (request.scene, request.tenant, request.model, request.style_weight) == (scene, "t", "image-01", 1.0)


@pytest.mark.parametrize(("live", "style"), LIVE_STYLES.items())
def test_a_style_of_image_01_live_is_a_style_of_the_painter_with_its_weight(make: Make, live: Any, style: str) -> None:
    service, pipeline = make()
    fill(service, replace(FOX, model="image-01-live", live_style=live, live_style_weight=0.3))
    (request,) = pipeline.requests
    assert (request.model, request.style, request.style_weight) == ("image-01", style, 0.3)


def test_a_live_style_on_image_01_has_no_effect_and_the_notes_say_so(make: Make) -> None:
    service, pipeline = make()
    outcome = fill(service, replace(FOX, live_style="漫画"))
    assert pipeline.requests[0].style is None
    assert any("image-01-live" in note for note in outcome.notes)


STYLED = """
[big]
weights = "/models/big"
[big.styles."漫画"]
phrase = "ink drawing"
lora = { path = "/loras/ink.safetensors", weight = 0.5 }
[big.styles.fog]
lora = { path = "/loras/fog.safetensors" }
"""


@pytest.fixture
def styled(make: Make, tmp_path: Path) -> tuple[Service, Recorder]:
    """A service of which image-01 and big have weights of their own, and big has styles."""
    (tmp_path / "styled.toml").write_text(STYLED, "utf-8")
    return make(names=("image-01", "big"), models_file=tmp_path / "styled.toml", models={"image-01": "/models/other"})


def test_a_live_style_on_weights_of_ones_own_is_words_behind_the_prompt(styled: tuple[Service, Recorder]) -> None:
    service, pipeline = styled
    outcome = fill(service, replace(FOX, model="image-01-live", live_style="水彩", live_style_weight=0.3))
    (request,) = pipeline.requests
    assert (request.model, request.style, request.style_weight, request.loras) == ("image-01", None, 1.0, ())
    assert request.prompt.startswith("a red fox, watercolor painting")
    assert "The style watercolor of model image-01 is words behind the prompt: its weight had no effect." in (
        outcome.notes
    )


def test_a_style_of_a_models_entry_adds_its_words_and_its_lora(styled: tuple[Service, Recorder]) -> None:
    service, pipeline = styled
    fill(service, replace(FOX, model="big", style="comic"))
    fill(service, replace(FOX, model="big", style="fog", loras=(("grain", 0.2),)))
    fill(service, replace(FOX, model="big", style="fog", loras=(("fog", 0.1),)))
    assert [(request.prompt, request.loras, request.style) for request in pipeline.requests] == [
        ("a red fox, ink drawing", (("ink", 0.5),), None),
        ("a red fox", (("grain", 0.2), ("fog", 1.0)), None),
        ("a red fox", (("fog", 0.1),), None),
    ]


def test_the_weight_of_a_live_style_scales_its_lora(make: Make, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(STYLED.replace("[big", "[image-01-live"), "utf-8")
    service, pipeline = make()
    outcome = fill(service, replace(FOX, model="image-01-live", live_style="漫画", live_style_weight=0.4))
    assert pipeline.requests[0].loras == (("ink", 0.2),)
    assert outcome.notes == ("A note.",)


def test_a_style_that_a_model_does_not_have_is_refused_with_those_it_has(styled: tuple[Service, Recorder]) -> None:
    with pytest.raises(InvalidRequest, match="Model big has no style 'clay'; it has comic, fog, vivid, medieval, wat"):
        fill(styled[0], replace(FOX, model="big", style="clay"))


def test_a_model_that_is_not_there_is_refused(make: Make) -> None:
    with pytest.raises(InvalidRequest, match="There is no model 'big'; there are image-01, image-01-live"):
        fill(make()[0], replace(FOX, model="big"))


def test_the_prompt_is_expanded_only_where_the_order_says_so(make: Make) -> None:
    service, pipeline = make()
    fill(service, FOX)
    fill(service, replace(FOX, optimize_prompt=True))
    assert [request.prompt for request in pipeline.requests] == ["a red fox", expand("a red fox")]


def test_a_cut_prompt_is_noted(make: Make) -> None:
    service, pipeline = make(max_prompt_chars=5, long_prompts="cut")
    outcome = fill(service, FOX)
    assert pipeline.requests[0].prompt == "a red"
    assert "The prompt was cut at 5 characters." in outcome.notes


def test_notes_come_once_and_the_plan_is_the_first_pictures(make: Make) -> None:
    service, _ = make()
    outcome = fill(service, replace(FOX, n=3))
    assert outcome.notes == ("A note.",)
    assert outcome.plan == {"prompt": "a red fox"}


def test_references_are_read_and_all_of_them_are_given_to_every_picture(make: Make) -> None:
    service, pipeline = make()
    fill(service, replace(FOX, n=2, references=(png((255, 0, 0)), png((0, 0, 255)))))
    for request in pipeline.requests:
        red, blue = request.references
        assert red.shape == (40, 40, 4)
        assert tuple(red[0, 0]) == (255, 0, 0, 255)
        assert tuple(blue[0, 0]) == (0, 0, 255, 255)


# Orders that cannot be filled


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"prompt": " "}, InvalidRequest),
        ({"prompt": "\u200b" * 9}, IllegalCharacters),
        ({"prompt": "x" * 1501}, InvalidRequest),
        ({"prompt": "refuse this"}, InvalidRequest),
        ({"references": ("/etc/passwd",)}, ReferenceRefused),
        ({"references": (png((1, 2, 3)), "data:image/png;base64,AAAA")}, ReferenceRefused),
        ({"references": (png((1, 2, 3)),) * 5}, ReferenceRefused),
        ({"prompt": "explode in evaluate"}, EngineFailed),
        ({"prompt": "explode in decode"}, EngineFailed),
        ({"guidance": 0.5}, InvalidRequest),
    ],
)
def test_an_order_that_cannot_be_filled_raises_its_error_and_leaves_the_service_working(
    make: Make, change: dict[str, Any], error: type[LimnerError]
) -> None:
    service, _ = make()
    with pytest.raises(error) as caught:
        fill(service, replace(FOX, **change))
    assert caught.value.message.endswith((".", "..."))
    assert len(fill(service, FOX).pictures) == 1


def test_pictures_that_fail_are_counted_and_the_others_come(make: Make) -> None:
    service, _ = make()
    outcome = fill(service, replace(FOX, prompt="odd fails", n=5, seed=10))
    assert [picture.seed for picture in outcome.pictures] == [10, 12, 14]
    assert outcome.failed == 2


def test_when_every_picture_fails_the_error_of_the_first_is_raised(make: Make) -> None:
    service, _ = make()
    with pytest.raises(InvalidRequest, match="Seed 11 is odd"):
        fill(service, replace(FOX, prompt="odd fails", seed=11))
    both = replace(FOX, prompt="odd fails, explode in evaluate", seed=11, n=2)
    with pytest.raises(InvalidRequest, match="Seed 11 is odd"):
        fill(service, both)
    with pytest.raises(EngineFailed):
        fill(service, replace(both, seed=12))


def test_more_pictures_than_there_is_room_for_are_refused_whole(make: Make) -> None:
    gate = threading.Semaphore(0)
    service, pipeline = make(gate, queue_limit=3)

    async def run() -> None:
        first = asyncio.create_task(service.generate(replace(FOX, n=2)))
        await asyncio.to_thread(pipeline.entered.acquire)
        with pytest.raises(Busy):
            await service.generate(replace(FOX, n=2))
        gate.release(1000)
        assert len((await first).pictures) == 2
        assert len((await service.generate(replace(FOX, n=3))).pictures) == 3

    asyncio.run(run())


def test_a_full_queue_is_told_before_a_reference_is_read(make: Make) -> None:
    gate = threading.Semaphore(0)
    service, pipeline = make(gate, queue_limit=2)

    async def run() -> None:
        first = asyncio.create_task(service.generate(replace(FOX, n=2)))
        await asyncio.to_thread(pipeline.entered.acquire)
        unreadable = replace(FOX, references=("data:image/png;base64,AAAA",))
        with pytest.raises(Busy):
            await service.generate(unreadable)
        gate.release(1000)
        await first
        with pytest.raises(ReferenceRefused):
            await service.generate(unreadable)

    asyncio.run(run())


def test_pictures_that_are_ready_in_time_come_and_the_late_ones_are_counted(make: Make) -> None:
    gate = threading.Semaphore(2)  # evaluations: one a picture, the third waits
    service, pipeline = make(gate, request_seconds=2.0)
    pipeline.max_batch = 1
    outcome = fill(service, replace(FOX, n=3, steps=1))
    assert len(outcome.pictures) == 2
    assert outcome.failed == 1
    gate.release(1000)
    assert fill(service, FOX).failed == 0


def test_when_no_picture_is_ready_in_time_the_call_times_out(make: Make) -> None:
    service, _ = make(threading.Semaphore(0), request_seconds=0.1)
    with pytest.raises(TimedOut, match=r"0\.1 seconds"):
        fill(service, FOX)


def test_a_client_that_leaves_cancels_its_pictures(make: Make) -> None:
    gate = threading.Semaphore(0)
    service, pipeline = make(gate, queue_limit=9)

    async def run() -> None:
        leaving = asyncio.create_task(service.generate(replace(FOX, n=9, prompt="leaver")))
        await asyncio.to_thread(pipeline.entered.acquire)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        while service.runner.courses:
            await asyncio.sleep(0.01)
        gate.release(1000)
        while True:  # the places come free as the engine hears of it
            try:
                outcome = await service.generate(replace(FOX, n=9))
            except Busy:
                await asyncio.sleep(0.01)
            else:
                break
        assert len(outcome.pictures) == 9

    asyncio.run(run())
    leavers = [request for request in pipeline.requests if request.prompt == "leaver"]
    assert not {request.id for request in leavers} & set(pipeline.decoded)


def test_events_are_watched_as_they_come(make: Make) -> None:
    service, _ = make()
    events: list[Event] = []
    asyncio.run(service.generate(replace(FOX, n=2, steps=3), watch=events.append))
    assert sum(isinstance(event, Started) for event in events) == 2
    assert sum(isinstance(event, Stepped) for event in events) == 6
    assert sum(isinstance(event, ENDINGS) for event in events) == 2


# Stored pictures


def test_a_picture_has_an_unguessable_name_and_is_kept_under_it(make: Make) -> None:
    service, _ = make()
    outcome = fill(service, replace(FOX, n=2))
    names = [picture.name for picture in outcome.pictures]
    assert len(set(names)) == 2
    for picture in outcome.pictures:
        assert NAME.fullmatch(picture.name)
        stored = asyncio.run(service.picture(picture.name))
        assert stored is not None
        assert (stored.data, stored.format) == (picture.data, "jpeg")


def test_a_picture_that_cannot_be_kept_is_an_error_of_storage(make: Make, tmp_path: Path) -> None:
    service, _ = make()
    in_the_way = tmp_path / "pictures"
    in_the_way.write_text("in the way of the folder")
    with pytest.raises(StorageFailed):
        fill(service, FOX)
    in_the_way.unlink()
    assert len(fill(service, FOX).pictures) == 1


# The log, the end, and the whole


def test_each_job_is_one_line_of_the_log_without_words_or_pictures(make: Make) -> None:
    service, _ = make()
    order = replace(FOX, prompt="a whispered fox", references=(png((1, 2, 3)),))
    with structlog.testing.capture_logs() as lines:
        outcome = asyncio.run(service.generate(order, Caller("tenant-9")))
        with pytest.raises(InvalidRequest):
            fill(service, replace(order, prompt="whispered refuse"))
    painted, refused = [line for line in lines if line["event"] == "job"]
    assert (painted["result"], painted["n"], painted["painted"], painted["references"]) == ("painted", 1, 1, 1)
    assert (refused["result"], refused["painted"]) == ("InvalidRequest", 0)
    text = str(lines)
    for secret in ("whispered", "base64", "tenant-9", outcome.pictures[0].name):
        assert secret not in text


def test_a_closed_service_is_not_ready_and_takes_no_orders(make: Make) -> None:
    service, _ = make()
    assert service.ready
    asyncio.run(service.stop())
    asyncio.run(service.stop())
    assert not service.ready
    with pytest.raises(Closing):
        fill(service, FOX)


def test_the_built_service_paints_and_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Recorder()
    monkeypatch.setattr("limner.service.load_pipelines", lambda *_: {"image-01": pipeline})
    folder = tmp_path / "pictures"
    folder.mkdir()
    old = folder / f"{'a' * 32}.jpeg"
    old.write_bytes(b"old")
    os.utime(old, (1, 1))
    service = build_service(Settings(data_dir=tmp_path))

    async def run() -> Outcome:
        await service.start()
        try:
            outcome = await service.generate(FOX)
            while old.exists():
                await asyncio.sleep(0.01)
            return outcome
        finally:
            await service.stop()

    (picture,) = asyncio.run(run()).pictures
    assert {path.name for path in folder.iterdir()} == {picture.name}


def test_a_data_folder_that_it_makes_is_closed_to_other_users(tmp_path: Path) -> None:
    """Whoever could list it would know the names of pictures, which are all that guards them."""
    asyncio.run(build_service(Settings(data_dir=tmp_path / "data")).stop())
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_a_mark_that_cannot_be_drawn_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="watermark_text"):
        build_service(Settings(data_dir=tmp_path, watermark_text="生成"))
