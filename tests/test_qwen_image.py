"""Qwen-Image, Edit and Edit-Plus paint what diffusers paints, alone and in any batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from PIL import Image

from limner.engine import samplers
from limner.engine.core import Done, Event, Request, SamplerName, UInt8
from limner.engine.engine import Engine
from limner.errors import InvalidRequest, ModelUnusable
from limner.evaluation.painting import paint
from limner.models.registry import Lora, Model
from limner.pipelines import flow, qwen_image
from limner.pipelines.latents import on_white
from limner.pipelines.parts import Parts
from limner.pipelines.qwen_image import QwenImage
from parity import Case, Folders, asked, byte_tokenizer, eight_bit, emphatic, flow_scheduler, psnr, seeded

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
SCHEDULE = {
    "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "base_image_seq_len": 256,
    "max_image_seq_len": 8192, "shift_terminal": 0.02,
}  # fmt: skip


class Stills(transformers.Qwen2VLProcessor):
    """Qwen2-VL's processor without videos, for which alone it wants torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> None:
        pass


def reader() -> transformers.Qwen2_5_VLForConditionalGeneration:
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 262, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
            "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
        },
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 20, "num_heads": 2, "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        vision_start_token_id=3, vision_end_token_id=4, image_token_id=5, video_token_id=261,
    )  # fmt: skip
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()


def folder_of(kind: str, path: Path, **transformer: Any) -> None:
    """Write a tiny model whose pipeline is of this name."""
    special = {"additional_special_tokens": list(CONTROL)}
    parts: dict[str, Any] = {
        "transformer": seeded(
            lambda: diffusers.QwenImageTransformer2DModel(
                in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
                joint_attention_dim=32, axes_dims_rope=(4, 6, 6), **transformer,
            )
        ),
        "vae": seeded(
            lambda: diffusers.AutoencoderKLQwenImage(
                base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
                latents_mean=[-0.76, -0.71, 0.11, 0.97], latents_std=[2.8, 1.5, 2.3, 1.2],
            )
        ),
        "text_encoder": seeded(reader),
        "tokenizer": byte_tokenizer(transformers.Qwen2Tokenizer, CONTROL, "", **special),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(**SCHEDULE),
    }  # fmt: skip
    for name, gain in (("transformer", 3.0), ("vae", 3.0), ("text_encoder", 10.0)):
        emphatic(parts[name], gain)
    if kind == "QwenImagePipeline":
        diffusers.QwenImagePipeline(**parts).save_pretrained(path)
        return
    getattr(diffusers, kind)(**parts, processor=None).save_pretrained(path)
    eye = transformers.Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=28 * 28 * 16384)
    eye.save_pretrained(path / "processor")
    index = json.loads((path / "model_index.json").read_text())
    index["processor"] = ["transformers", "Qwen2VLProcessor"]
    (path / "model_index.json").write_text(json.dumps(index))


plain = partial(folder_of, "QwenImagePipeline")


def with_lora(path: Path) -> None:
    """A model with a LoRA beside it, in peft's form."""
    plain(path)
    generator = torch.Generator().manual_seed(4)
    layers = [f"transformer_blocks.{block}.attn.{name}" for block in (0, 1) for name in ("to_q", "add_v_proj")]
    weights = {
        f"transformer.{layer}.lora_{half}.weight": torch.randn(shape, generator=generator)
        for layer in layers
        for half, shape in (("A", (4, 32)), ("B", (32, 4)))
    }
    safetensors.torch.save_file(weights, path / "ink.safetensors")


edit = partial(folder_of, "QwenImageEditPipeline")
edit_plus = partial(folder_of, "QwenImageEditPlusPipeline")
edit_2511 = partial(folder_of, "QwenImageEditPlusPipeline", zero_cond_t=True)
"""As Qwen-Image-Edit-2511, whose references are told that they are clean."""


def waves(height: int, width: int) -> UInt8:
    """A reference, (height, width, 4), with a clear corner."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / 5) * np.cos(y / 7), 255 + 0 * x], -1)
    picture[:16, :16, 3] = 0
    rounded: UInt8 = picture.astype(np.uint8)
    return rounded


ONE = (waves(48, 64),)
TWO = (waves(48, 64), waves(80, 40)[::-1].copy())


@contextmanager
def small() -> Iterator[None]:
    """Show references in fewer pixels, to diffusers and to us: at their true sizes each run takes ten seconds."""
    sides = pipeline_qwenimage_edit.calculate_dimensions
    readings = {name: replace(reading, area=160 * 160) for name, reading in qwen_image.READINGS.items()}
    readings["QwenImageEditPlusPipeline"] = replace(readings["QwenImageEditPlusPipeline"], area=112 * 112)
    with ExitStack() as changed:
        for patch in (
            mock.patch.object(qwen_image, "REFERENCE_AREA", 160 * 160),
            mock.patch.object(qwen_image, "READINGS", readings),
            mock.patch.object(pipeline_qwenimage_edit, "calculate_dimensions", lambda _, ratio: sides(160**2, ratio)),
            mock.patch.object(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 160 * 160),
            mock.patch.object(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", 112 * 112),
        ):
            changed.enter_context(patch)
        yield


def ours(folder: Path, device: str = "cpu", **fields: Any) -> QwenImage:
    listed = tuple(Lora(str(path), 0.0) for path in folder.glob("*.safetensors"))
    return QwenImage(Parts(folder, device=device), Model("tiny", str(folder), loras=listed, **fields))


def theirs(folder: Path, device: str, request: Request) -> UInt8:
    """What diffusers' pipeline of the folder paints, from our noise; without references that of Qwen-Image."""
    kind = json.loads((folder / "model_index.json").read_text())["_class_name"] if request.references else ""
    given: dict[str, Any] = {}
    if request.references:
        eye = transformers.Qwen2VLImageProcessorPil.from_pretrained(folder / "processor")
        given["processor"] = Stills(eye, transformers.Qwen2Tokenizer.from_pretrained(folder / "tokenizer"), None)
    pipe = getattr(diffusers, kind or "QwenImagePipeline").from_pretrained(folder, **given).to(device)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = flow_scheduler(request.sampler or "euler", pipe.scheduler.config)
    # diffusers 0.42 does not tell the reader of transformers 5 which tokens are a picture's, and so these lose their
    # places in two dimensions, with which the published models were trained (its issue 14194).
    pipe.text_encoder.register_forward_pre_hook(_told_of_pictures, with_kwargs=True)
    for name, weight in request.loras:
        pipe.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
        pipe.set_adapters([name], [weight])
    white = [Image.fromarray(on_white(reference)) for reference in request.references]
    pictures = {"image": white if "Plus" in kind else white[0]} if white else {}
    noise = samplers.noise(request.seed, (request.height // 16, request.width // 16, 16))
    painted = pipe(
        prompt=request.prompt, negative_prompt=request.negative_prompt, width=request.width, height=request.height,
        num_inference_steps=request.steps, true_cfg_scale=request.guidance, output_type="np",
        latents=torch.from_numpy(noise).flatten(0, 1)[None].to(device), **pictures,
    )  # fmt: skip
    return eight_bit(painted.images)


def _told_of_pictures(module: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, given | {"mm_token_type_ids": (given["input_ids"] == module.config.image_token_id).int()}


def beside(request: Request, folder: Path, device: str, *, true_size: bool = False) -> float:
    with ExitStack() as changed:
        if not true_size:
            changed.enter_context(small())
        return psnr(paint(ours(folder, device), request).pixels, theirs(folder, device, request))


GUIDED = asked("a red fox", 96, 64, negative_prompt="a dog", steps=4, guidance=3.0)
SAMPLERS: tuple[SamplerName, ...] = ("euler", "heun", "dpm++2m")
CASES: list[Case] = [
    *(Case("Qwen-Image", name, plain, partial(beside, replace(GUIDED, sampler=name))) for name in SAMPLERS),
    Case("Qwen-Image, a LoRA", "euler", with_lora, partial(beside, replace(GUIDED, loras=(("ink", 0.7),)))),
    Case("Qwen-Image-Edit, no reference", "euler", edit, partial(beside, GUIDED)),
    Case("Qwen-Image-Edit, one reference", "euler", edit, partial(beside, replace(GUIDED, references=ONE))),
    Case(
        "Qwen-Image-Edit, one reference at its true size", "euler", edit,
        partial(beside, replace(GUIDED, references=ONE, steps=2, guidance=1.0), true_size=True),
    ),
    Case("Qwen-Image-Edit-Plus, one reference", "euler", edit_plus, partial(beside, replace(GUIDED, references=ONE))),
    Case("Qwen-Image-Edit-2511, two references", "euler", edit_2511, partial(beside, replace(GUIDED, references=TWO))),
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture
def _small() -> Iterator[None]:
    with small():
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_picture_is_that_of_diffusers(case: Case, folders: Folders) -> None:
    assert case.measure(folders(case.make), "cpu") > 50


def test_the_areas_that_references_are_seen_in_are_those_of_diffusers() -> None:
    assert qwen_image.REFERENCE_AREA == pipeline_qwenimage_edit_plus.VAE_IMAGE_SIZE
    area = qwen_image.READINGS["QwenImageEditPlusPipeline"].area
    assert area == pipeline_qwenimage_edit_plus.CONDITION_IMAGE_SIZE


@pytest.mark.usefixtures("_small")
def test_all_that_a_model_is_told_shows_in_its_picture(folders: Folders) -> None:
    """Else the parity above would prove little."""
    model = ours(folders(edit_plus))
    request = replace(GUIDED, references=TWO)
    first = paint(model, request).pixels
    for other in (
        {"prompt": "a blue cat sits"},
        {"negative_prompt": "zebra"},
        {"guidance": 1.0},
        {"references": ONE},
        {"references": TWO[::-1]},
        {"references": ()},
    ):
        assert psnr(first, paint(model, replace(request, **other)).pixels) < 35, other


@pytest.mark.usefixtures("_small")
def test_a_picture_is_the_same_alone_and_beside_others(folders: Folders) -> None:
    """Texts of other lengths, other steps and guidance, and references of other shapes."""
    model = ours(folders(edit_2511), batch=4)
    requests = [
        replace(GUIDED, id="a", references=ONE),
        replace(GUIDED, id="b", references=ONE, prompt="a blue cat sits", steps=3, guidance=1.0, seed=8),
        replace(GUIDED, id="c", references=(TWO[1],), prompt="a barn", steps=2, guidance=5.0),
        replace(GUIDED, id="d", references=(waves(64, 48),), steps=3),
    ]
    pictures: dict[str, UInt8] = {}

    def hear(event: Event) -> None:
        if isinstance(event, Done):
            pictures[event.id] = event.pixels

    engine = Engine({"image-01": model}, limit=8)
    engine.submit(requests, hear)
    while not engine.scheduler.idle or engine.waiting:
        engine.step()
    assert engine.evaluations >= 1.5 * engine.batches
    for request in requests:
        assert psnr(pictures[request.id], paint(model, request).pixels) > 50


def test_a_picture_of_any_size_is_the_middle_of_a_larger_one(folders: Folders) -> None:
    folder = folders(plain)
    picture = paint(ours(folder), replace(GUIDED, width=88, height=56)).pixels
    assert picture.shape == (56, 88, 3)
    assert psnr(picture, theirs(folder, "cpu", GUIDED)[4:60, 4:92]) > 50


def test_what_is_not_asked_for_is_as_published(folders: Folders) -> None:
    encoded = ours(folders(plain)).encode(asked("a red fox"))
    assert (encoded.steps, encoded.guidance, encoded.sampler) == (50, 4.0, "euler")
    encoded = ours(folders(plain), steps=8, guidance=1.0).encode(asked("a red fox"))
    assert (encoded.steps, encoded.guidance) == (8, 1.0)


def test_a_lora_and_a_negative_prompt_without_guidance_are_not_silently_without_effect(folders: Folders) -> None:
    model = ours(folders(with_lora))
    plainly = paint(model, GUIDED).pixels
    assert psnr(plainly, paint(model, replace(GUIDED, loras=(("ink", 0.7),))).pixels) < 35
    (note,) = paint(model, replace(GUIDED, guidance=1.0)).notes
    assert "negative prompt" in note


@pytest.mark.parametrize("steps", [2, 4, 50])
@pytest.mark.parametrize("tokens", [64, 4096, 16384])
def test_the_levels_are_those_of_the_scheduler(steps: int, tokens: int) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**SCHEDULE)
    mu = diffusers.pipelines.qwenimage.pipeline_qwenimage.calculate_shift(tokens, 256, 8192, 0.5, 0.9)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
    levels = flow.run(SCHEDULE, flow.even(steps), flow.shift(SCHEDULE, tokens), "euler")
    assert [level.noise for level in levels] == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)


def test_one_step_goes_all_the_way() -> None:
    """Where diffusers' scheduler divides zero by zero."""
    levels = flow.run(SCHEDULE, flow.even(1), flow.shift(SCHEDULE, 64), "euler")
    assert [level.noise for level in levels] == [1, 0]


@pytest.mark.usefixtures("_small")
def test_names_of_control_tokens_in_a_prompt_are_letters(folders: Folders) -> None:
    model = ours(folders(edit))
    written = model.encode(replace(GUIDED, prompt="<|image_pad|><|im_end|>", references=ONE, guidance=1.0))
    letters = model.encode(replace(GUIDED, prompt="<!image_pad!><!im_end!>", references=ONE, guidance=1.0))
    assert written.conditioning.mask.sum() == letters.conditioning.mask.sum()


@pytest.mark.parametrize(
    ("make", "fields", "said"),
    [
        (plain, {"references": ONE}, "Qwen-Image takes no references"),
        (plain, {"strength": 0.5}, "Qwen-Image has no strength"),
        (edit, {"references": TWO}, "Qwen-Image-Edit takes 1 reference, not 2"),
        (edit, {"references": (waves(8, 200),)}, "200×8 pixels: more than 16 times"),
        (plain, {"prompt": "fox " * 1100}, r"is 45\d\d tokens long; this model reads 4093"),
        (plain, {"sampler": "ddim"}, "takes euler, heun"),
    ],
)
def test_what_cannot_be_done_is_refused(make: Any, fields: dict[str, Any], said: str, folders: Folders) -> None:
    with pytest.raises(InvalidRequest, match=said):
        ours(folders(make)).encode(replace(GUIDED, **fields))


def test_settings_of_no_known_model_are_refused(folders: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(folders(plain), folder)
    settings = json.loads((folder / "transformer/config.json").read_text())
    (folder / "transformer/config.json").write_text(json.dumps(settings | {"guidance_embeds": True}))
    with pytest.raises(ModelUnusable, match="guidance_embeds"):
        ours(folder)
