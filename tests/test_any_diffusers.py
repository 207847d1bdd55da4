"""A pipeline of diffusers that no family here knows paints just what it paints by itself, a step at a time."""

from __future__ import annotations

import gc
import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from limner.engine.core import ENDINGS, Cancelled, Done, Event, Failed, Request, Stepped, UInt8
from limner.engine.engine import Engine
from limner.errors import InvalidRequest, ModelUnusable
from limner.evaluation.painting import paint
from limner.models.registry import Model
from limner.pipelines.any_diffusers import AnyDiffusers, Stepwise
from limner.pipelines.parts import Parts
from parity import (
    Case,
    Folders,
    asked,
    flow_vae,
    psnr,
    seeded,
    stable_diffusion_folder,
    strong,
    t5_encoder,
    t5_tokenizer,
)

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def consistency(path: Path) -> None:
    """A model whose scheduler draws noise at every step, that takes no negative prompt."""
    stable_diffusion_folder(path / "parts", guidance_embedded=True)
    parts = diffusers.StableDiffusionPipeline.from_pretrained(path / "parts", safety_checker=None)
    scheduler = diffusers.LCMScheduler.from_config(parts.scheduler.config)
    diffusers.LatentConsistencyModelPipeline(
        vae=parts.vae, text_encoder=parts.text_encoder, tokenizer=parts.tokenizer, unet=parts.unet,
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(path)  # fmt: skip


def aura(path: Path) -> None:
    diffusers.AuraFlowPipeline(
        tokenizer=t5_tokenizer(path / "letters"), text_encoder=t5_encoder(), vae=flow_vae(),
        transformer=seeded(
            lambda: strong(
                diffusers.AuraFlowTransformer2DModel(
                    sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_mmdit_layers=1,
                    num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
                    joint_attention_dim=32, pos_embed_max_size=256,
                )
            )
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(path)  # fmt: skip


def pixart(scheduler: Any, path: Path) -> None:
    """A model that would paint sizes of its own, and has another way to call back."""
    diffusers.PixArtSigmaPipeline(
        tokenizer=t5_tokenizer(path / "letters"), text_encoder=t5_encoder(), vae=flow_vae(),
        transformer=seeded(
            lambda: strong(
                diffusers.PixArtTransformer2DModel(
                    num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
                    cross_attention_dim=16, sample_size=8, patch_size=2, caption_channels=32,
                    use_additional_conditions=False,
                )
            )
        ),
        scheduler=scheduler(),
    ).save_pretrained(path)  # fmt: skip


solver = partial(pixart, diffusers.DPMSolverMultistepScheduler)  # remembers the step before
heun = partial(pixart, diffusers.HeunDiscreteScheduler)  # evaluates twice a step


def theirs(folder: Path, device: str, **fields: Any) -> UInt8:
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder).to(device)
    pipe.set_progress_bar_config(disable=True)
    if isinstance(pipe, diffusers.PixArtSigmaPipeline):
        fields["use_resolution_binning"] = False
    return np.asarray(pipe(**fields, generator=torch.Generator().manual_seed(7)).images[0])


def measure(folder: Path, device: str) -> float:
    expected = theirs(folder, device, prompt="a red fox", width=128, height=64, num_inference_steps=4, guidance_scale=3)
    request = asked("a red fox", 128, 64, steps=4, guidance=3.0)
    return psnr(paint(AnyDiffusers(Parts(folder, device=device), Model("tiny", "")), request).pixels, expected)


CASES: list[Case] = [
    Case("any other: AuraFlow", "its own, Euler", aura, measure),
    Case("any other: PixArt-Sigma", "its own, DPM-Solver++", solver, measure),
    Case("any other: PixArt-Sigma", "its own, Heun", heun, measure),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pipeline(folders: Folders) -> AnyDiffusers:
    return AnyDiffusers(Parts(folders(consistency)), Model("tiny", ""))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever a test does, its calls' threads end."""
    yield
    gc.collect()  # pytest.raises keeps frames
    until = monotonic() + 20
    while any(thread.name == "limner-diffusers" for thread in threading.enumerate()):
        assert monotonic() < until, "a thread still waits for its next step"
        sleep(0.01)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_bytes_are_those_of_the_pipeline(case: Case, folders: Folders) -> None:
    assert case.measure(folders(case.make), "cpu") == math.inf


def test_a_scheduler_that_draws_noise_on_the_way_draws_what_it_draws_there(folders: Folders) -> None:
    assert measure(folders(consistency), "cpu") == math.inf


class Desk:
    """An engine that is driven by hand, and what it tells."""

    def __init__(self, pipeline: AnyDiffusers) -> None:
        self.engine = Engine({"image-01": pipeline}, limit=8)
        self.told: dict[str, list[Event]] = {}

    def submit(self, *requests: Request) -> None:
        for request in requests:
            self.engine.submit([request], lambda event: self.told.setdefault(event.id, []).append(event))

    def ended(self, name: str) -> bool:
        return any(isinstance(event, ENDINGS) for event in self.told.get(name, []))

    def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.engine.step()


def three() -> list[Request]:
    return [
        replace(asked(prompt, 64, 64, seed=seed, steps=steps, guidance=2.0), id=prompt, tenant=prompt)
        for seed, (prompt, steps) in enumerate([("a red fox", 4), ("a dog", 3), ("a whale", 2)])
    ]


def test_requests_are_interleaved_step_by_step_and_paint_what_they_paint_alone(pipeline: AnyDiffusers) -> None:
    desk, requests = Desk(pipeline), three()
    desk.submit(*requests)
    desk.until(lambda: all(desk.ended(request.id) for request in requests))
    for request in requests:
        told = desk.told[request.id]
        assert [event.step for event in told if isinstance(event, Stepped)] == list(range(1, (request.steps or 0) + 1))
        assert isinstance(told[-1], Done)
        np.testing.assert_array_equal(told[-1].pixels, paint(pipeline, request).pixels)
    assert desk.engine.batches == 4 + 3 + 2


def test_another_seed_is_another_picture(pipeline: AnyDiffusers) -> None:
    one, other = (paint(pipeline, asked(steps=1, seed=seed)).pixels for seed in (7, 2**64 - 1))
    assert not np.array_equal(one, other)


def test_a_cancelled_request_ends_between_steps_and_the_others_go_on(pipeline: AnyDiffusers) -> None:
    desk, requests = Desk(pipeline), three()
    desk.submit(*requests)
    desk.until(lambda: any(isinstance(event, Stepped) for event in desk.told.get("a red fox", [])))
    desk.engine.cancel("a red fox")
    desk.until(lambda: all(desk.ended(request.id) for request in requests))
    assert isinstance(desk.told["a red fox"][-1], Cancelled)
    assert isinstance(desk.told["a dog"][-1], Done)


def test_closing_the_engine_ends_what_is_under_way(pipeline: AnyDiffusers) -> None:
    desk = Desk(pipeline)
    desk.submit(*three())
    for _ in range(5):
        desk.engine.step()
    desk.engine.close()
    assert all(isinstance(told[-1], Failed) for told in desk.told.values())


def test_a_call_that_raises_fails_its_request_alone(pipeline: AnyDiffusers) -> None:
    desk, requests = Desk(pipeline), three()
    desk.submit(replace(asked(steps=60), id="too many"), *requests)  # its scheduler knows 50
    desk.until(lambda: all(desk.ended(name) for name in ("too many", "a red fox")))
    assert isinstance(desk.told["too many"][-1], Failed)
    assert isinstance(desk.told["a red fox"][-1], Done)
    desk.engine.close()


def test_it_says_that_diffusers_paints_and_takes_the_pipelines_own_steps(pipeline: AnyDiffusers) -> None:
    encoded = pipeline.encode(asked())
    assert "diffusers' own LatentConsistencyModelPipeline: one request at a time" in encoded.notes[0]
    assert encoded.steps == 4


def test_any_size_is_painted_padded_and_cropped(pipeline: AnyDiffusers) -> None:
    small, whole = (paint(pipeline, asked(width=w, height=h, steps=1)).pixels for w, h in ((56, 44), (64, 64)))
    np.testing.assert_array_equal(small, whole[10:54, 4:60])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"negative_prompt": "a dog"}, "takes no negative_prompt"),
        ({"sampler": "heun"}, "takes no sampler"),
        ({"style": "漫画"}, "has no style"),
        ({"references": (np.zeros((64, 64, 4), np.uint8),)}, "reference"),
        ({"loras": (("ink", 1.0),)}, "LoRA"),
    ],
)
def test_what_the_pipeline_does_not_take_is_refused(fields: dict[str, Any], said: str, pipeline: AnyDiffusers) -> None:
    with pytest.raises(InvalidRequest, match=said):
        pipeline.encode(asked(**fields))


def test_a_call_that_is_dropped_before_its_first_step_never_begins() -> None:
    begun: list[int] = []

    def call(pause: Callable[[], None]) -> UInt8:
        begun.append(1)
        return np.zeros((1, 1, 3), np.uint8)

    Stepwise(call)
    assert not begun


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("PaintEverythingPipeline", "no pipeline of the diffusers"),
        ("UNet2DConditionModel", "no pipeline of the diffusers"),
        ("StableDiffusionInpaintPipeline", "a prompt and a size alone"),
        ("ShapEPipeline", "a prompt and a size alone"),
        ("StableDiffusionControlNetPipeline", "a prompt and a size alone"),
        ("StableDiffusionPAGPipeline", "exchanges parts of its networks"),
        ("LatentConsistencyModelPipeline", "diffusers cannot load"),
    ],
)
def test_a_folder_that_it_cannot_paint_with_is_refused(kind: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(ModelUnusable, match=said):
        AnyDiffusers(Parts(tmp_path), Model("tiny", ""))


def test_pickled_weights_are_not_loaded(folders: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(folders(consistency), tmp_path / "pickled")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelUnusable, match="cannot be read as a part"):
        AnyDiffusers(Parts(folder), Model("tiny", ""))
