"""Previews: small pictures of what comes along, which change nothing of what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from limner.engine import samplers
from limner.engine.core import (
    PREVIEW_SIDE,
    Activity,
    Batch,
    Done,
    Encoded,
    Event,
    Failed,
    Float32,
    Request,
    Stepped,
    UInt8,
)
from limner.engine.engine import Engine
from limner.models.registry import Model
from limner.pipelines.base import Pipeline, Previewing, pooled
from limner.pipelines.latents import preview
from limner.pipelines.painter import PainterPipeline
from limner.pipelines.parts import Conversion, Parts
from limner.pipelines.stable_diffusion import StableDiffusion
from limner.pipelines.stable_diffusion_xl import StableDiffusionXL
from parity import asked, stable_diffusion_folder, stable_diffusion_xl_folder
from tiny_pipeline import Panic, TinyPipeline

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


class Showing(TinyPipeline):
    """Shows the latent as it is, and then spoils what it was given."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error = error
        self.shown: list[str] = []

    def preview(self, request: Request, encoded: Encoded, x: Float32) -> UInt8 | None:
        self.shown.append(request.id)
        if self.error is not None:
            raise self.error
        picture = np.clip(x * 127.5 + 127.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        x[...] = np.nan
        return picture


def events(pipeline: Pipeline, *requests: Request) -> list[Event]:
    """Everything that an engine tells of these requests, painted together."""
    engine, told = Engine({"image-01": pipeline}, 10), list[Event]()
    engine.submit(requests, told.append)
    for _ in range(1000):
        if not (engine.waiting or engine.running):
            return told
        engine.step()
    raise AssertionError("not done in 1000 steps")


def request(name: str, **fields: Any) -> Request:
    return Request(name, fields.pop("prompt", "a red fox"), 1, 64, 96, **fields)


def pixels(told: list[Event], name: str) -> bytes:
    (done,) = [event for event in told if isinstance(event, Done) and event.id == name]
    return done.pixels.tobytes()


def previews(told: list[Event], name: str) -> list[UInt8 | None]:
    return [event.preview for event in told if isinstance(event, Stepped) and event.id == name]


@pytest.mark.parametrize("prompt", ["a red fox", "heun", "euler"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_previews_change_no_bytes_of_any_picture(prompt: str, guidance: float) -> None:
    """Though the pipeline overwrites what it was shown, and for neighbours that asked for none alike."""
    fields = {"prompt": prompt, "guidance": guidance, "steps": 4}
    with_them = events(Showing(), request("a", previews=True, **fields), request("b", **fields))
    without = events(TinyPipeline(), request("a", **fields), request("b", **fields))
    assert pixels(with_them, "a") == pixels(without, "a") == pixels(with_them, "b") == pixels(without, "b")
    shown = previews(with_them, "a")
    assert [None if picture is None else picture.shape for picture in shown] == [(3, 2, 3)] * 3 + [None]
    assert previews(with_them, "b") == [None] * 4


def test_a_pipeline_without_previews_is_not_asked_for_one() -> None:
    assert not isinstance(TinyPipeline(), Previewing)
    assert previews(events(TinyPipeline(), request("a", previews=True)), "a") == [None] * 4


@pytest.mark.parametrize("error", [ValueError("no"), Panic(), MemoryError()])
def test_a_preview_that_fails_is_logged_once_and_the_picture_goes_on(error: BaseException) -> None:
    pipeline = Showing(error)
    with capture_logs() as lines:
        told = events(pipeline, request("a", previews=True))
    assert not any(isinstance(event, Failed) for event in told)
    assert pixels(told, "a") == pixels(events(TinyPipeline(), request("a")), "a")
    assert pipeline.shown == ["a"]
    assert [line["event"] for line in lines] == ["a preview failed; the picture goes on without"]


def test_previews_take_no_more_than_their_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes two seconds, and an evaluation one: after the first, ten evaluations pay for the next."""
    now = 0.0

    class Slow(Showing):
        def evaluate(self, batch: Batch) -> Float32:
            nonlocal now
            now += 1.0
            return super().evaluate(batch)

        def preview(self, request: Request, encoded: Encoded, x: Float32) -> UInt8 | None:
            nonlocal now
            now += 2.0
            return super().preview(request, encoded, x)

    monkeypatch.setattr("limner.engine.engine.perf_counter", lambda: now)
    told = events(Slow(), request("a", previews=True, steps=40))
    shown = [step for step, picture in enumerate(previews(told, "a"), start=1) if picture is not None]
    assert shown == [1, 10, 30]


def test_the_engine_counts_by_model() -> None:
    pipeline = TinyPipeline(max_batch=1)
    engine = Engine({"image-01": pipeline, "other": pipeline}, 10)
    engine.submit([request("a", steps=2), request("b", steps=2), request("c", model="other", steps=3)], lambda _: None)
    assert engine.activity == {"image-01": Activity(2, 0), "other": Activity(1, 0)}
    engine.step()
    assert sum(one.running for one in engine.activity.values()) == 1
    for _ in range(50):
        engine.step()
    done = engine.activity
    assert [(name, one.waiting, one.running, one.evaluations) for name, one in done.items()] == [
        ("image-01", 0, 0, 4), ("other", 0, 0, 3),
    ]  # fmt: skip
    assert all(one.seconds > 0 for one in done.values())
    assert engine.evaluations == 7
    assert engine.evaluation_seconds == pytest.approx(sum(one.seconds for one in done.values()))


@pytest.mark.parametrize(
    ("height", "width", "most", "shape"), [(64, 64, 32, (32, 32)), (65, 33, 32, (21, 11)), (8, 8, 32, (8, 8))]
)
def test_pooling_averages_whole_squares_alone(height: int, width: int, most: int, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(1).standard_normal((4, height, width), np.float32)
    small = pooled(x, most)
    side = height // shape[0]
    assert small.shape == (4, *shape)
    assert small[2, 1, 3] == pytest.approx(x[2, side : 2 * side, 3 * side : 4 * side].mean(), abs=1e-6)


def test_what_is_shown_of_a_latent_has_the_pictures_own_ratio_and_no_padding() -> None:
    seen: list[tuple[int, ...]] = []

    def decoded(x: Float32) -> torch.Tensor:
        seen.append(x.shape)
        return torch.zeros(3, 8 * x.shape[1], 8 * x.shape[2])

    wide = Request("a", "", 0, 1304, 640)  # padded to 1344 x 640
    assert preview(decoded, np.zeros((4, 80, 168), np.float32), wide, 8).shape == (13 * 8, 1304 // 6, 3)
    assert seen == [(4, 13, 28)]


@pytest.fixture(scope="module")
def painter() -> PainterPipeline:
    return PainterPipeline.load()


@pytest.mark.parametrize("size", [(1024, 1024), (512, 512), (2048, 512), (520, 1000)])
def test_the_painter_shows_the_picture_that_it_paints(painter: PainterPipeline, size: tuple[int, int]) -> None:
    wanted = Request("a", "a red fox on a snowy hill", 3, *size)
    encoded = painter.encode(wanted)
    batch = samplers.batch(
        encoded.key, [wanted],
        [samplers.begin(samplers.noise(3, encoded.key.shape), encoded.levels, 3)], [encoded.conditioning],
    )  # fmt: skip
    clean = np.array(painter.evaluate(batch)[0])
    small, whole = painter.preview(wanted, encoded, clean.copy()), painter.decode(wanted, encoded, clean)
    assert small.dtype == np.uint8
    assert 64 < max(small.shape[:2]) <= PREVIEW_SIDE
    rows = (np.arange(small.shape[0]) + 0.5) / small.shape[0] * whole.shape[0]
    columns = (np.arange(small.shape[1]) + 0.5) / small.shape[1] * whole.shape[1]
    sampled = whole[rows.astype(int)][:, columns.astype(int)]
    assert np.corrcoef(sampled.ravel(), small.ravel())[0, 1] > 0.9


FAMILIES: list[tuple[Callable[[Path], None], Any, bool]] = [
    (stable_diffusion_folder, StableDiffusion, False),
    (partial(stable_diffusion_folder, tiny_vae=True), StableDiffusion, True),
    (stable_diffusion_xl_folder, StableDiffusionXL, False),
]


@pytest.mark.parametrize(("make", "kind", "converted"), FAMILIES, ids=["sd", "sd, tiny decoder, converted", "sdxl"])
def test_a_family_with_a_latent_shows_it_and_decodes_the_same_afterwards(
    make: Callable[[Path], None], kind: Any, converted: bool, tmp_path: Path
) -> None:
    make(tmp_path / "model")
    conversion = Conversion(tmp_path / "cache", "f32") if converted else None
    family = kind(Parts(tmp_path / "model", conversion=conversion), Model("tiny", str(tmp_path / "model")))
    assert isinstance(family, Previewing)
    wanted = asked(width=320, height=256, steps=2, guidance=1.0)
    encoded = family.encode(wanted)
    clean = samplers.noise(5, encoded.key.shape)
    before = family.decode(wanted, encoded, clean.copy())
    small = family.preview(wanted, encoded, clean.copy())
    assert family.decode(wanted, encoded, clean.copy()).tobytes() == before.tobytes()
    assert small.dtype == np.uint8
    assert small.shape == (128, 160, 3)
