"""Z-Image and its Turbo paint what diffusers paints, alone and in any batch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers

from limner.engine import samplers
from limner.engine.core import Request, SamplerName, UInt8
from limner.errors import InvalidRequest
from limner.evaluation.painting import paint
from limner.models.registry import Lora, Model
from limner.pipelines import flow
from limner.pipelines.parts import Parts
from limner.pipelines.z_image import ZImage
from parity import (
    Case,
    Folders,
    asked,
    eight_bit,
    flow_scheduler,
    lora_file,
    psnr,
    qwen3_config,
    qwen_tokenizer,
    seeded,
    strong,
    together,
)

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def transformer() -> Any:
    network = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 6, 6], axes_lens=[130, 64, 64],
    )  # fmt: skip
    for filling in (network.x_pad_token, network.cap_pad_token):
        torch.nn.init.normal_(filling)
    return strong(network, 2.0)


def autoencoder() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def write(path: Path, **noising: Any) -> None:
    diffusers.ZImagePipeline(
        transformer=seeded(transformer),
        vae=seeded(autoencoder),
        text_encoder=seeded(lambda: transformers.Qwen3Model(qwen3_config(3))).eval(),
        tokenizer=qwen_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**noising),
    ).save_pretrained(path)


turbo, plain = partial(write, shift=3.0), partial(write, shift=6.0)
dynamic = partial(write, use_dynamic_shifting=True)


def ours(folder: Path, request: Request, device: str = "cpu") -> UInt8:
    return paint(ZImage(Parts(folder, device=device), Model("tiny", str(folder))), request).pixels


def theirs(folder: Path, device: str, sampler: SamplerName, lora: Path | None = None, **fields: Any) -> UInt8:
    pipe = diffusers.ZImagePipeline.from_pretrained(folder).to(device)
    if lora is not None:
        pipe.load_lora_weights(lora, adapter_name="ink")
        pipe.set_adapters("ink", 0.7)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = flow_scheduler(sampler, pipe.scheduler.config)
    noise = samplers.noise(7, (4, fields["height"] // 2, fields["width"] // 2))
    latents = torch.from_numpy(noise)[None].to(device)
    return eight_bit(pipe(**fields, latents=latents, output_type="np").images)


def measure(sampler: SamplerName, guidance: float, negative: str | None, folder: Path, device: str) -> float:
    # 60×44 pixels are 165 tokens: the network fills them up, as it does the text.
    request = asked("a red fox", 60, 44, steps=4, guidance=guidance, negative_prompt=negative, sampler=sampler)
    expected = theirs(
        folder, device, sampler, prompt="a red fox", negative_prompt=negative, width=60, height=44,
        num_inference_steps=4, guidance_scale=guidance - 1,
    )  # fmt: skip
    return psnr(ours(folder, request, device), expected)


CASES: list[Case] = [
    *(Case("Z-Image-Turbo", s, turbo, partial(measure, s, 1.0, None)) for s in flow.SAMPLERS),
    *(Case("Z-Image", s, plain, partial(measure, s, 3.5, "a dog")) for s in flow.SAMPLERS),
    Case("Z-Image, dynamic shift", "euler", dynamic, partial(measure, "euler", 3.5, None)),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_picture_is_that_of_diffusers(case: Case, folders: Folders) -> None:
    assert case.measure(folders(case.make), "cpu") > 50


def test_prompt_negative_prompt_and_guidance_show_in_the_picture(folders: Folders) -> None:
    """Else parity would say little: networks of small random weights hardly heed what they are told."""
    pipeline = ZImage(Parts(folders(plain)), Model("tiny", ""))
    request = asked("a red fox", steps=4, guidance=3.0)
    first = paint(pipeline, request).pixels
    for told in ({"prompt": "a whale"}, {"negative_prompt": "a dog"}, {"guidance": 4.0}):
        assert psnr(first, paint(pipeline, replace(request, **told)).pixels) < 45


def test_a_picture_is_the_same_alone_and_among_others(folders: Folders) -> None:
    pipeline = ZImage(Parts(folders(plain)), Model("tiny", "", batch=4))
    requests = [
        replace(asked(prompt, 60, 44, seed=seed, steps=steps, guidance=guidance, negative_prompt=negative), id=prompt)
        for seed, (prompt, steps, guidance, negative) in enumerate(
            [
                ("a red fox", 4, 3.0, None),
                ("a dog", 3, 5.0, "blurred, and of a text that fills many more tokens than the prompt"),
                ("a whale", 2, 1.0, None),
                ("a tall house on a hill above the sea", 3, 2.0, "a dog"),
            ]
        )
    ]
    pictures, batches = together(pipeline, requests)
    assert batches <= 12  # 22 rows
    for request in requests:
        assert psnr(pictures[request.id], paint(pipeline, request).pixels) > 50


def test_any_size_is_painted_padded_and_cropped(folders: Folders) -> None:
    small = ours(folders(turbo), asked("a red fox", 52, 43, steps=2))
    whole = ours(folders(turbo), asked("a red fox", 52, 44, steps=2))
    assert small.shape == (43, 52, 3)
    np.testing.assert_array_equal(small, whole[:43])


def test_turbo_and_plain_are_told_apart(folders: Folders) -> None:
    quick, slow, other = (
        ZImage(Parts(folders(make)), Model("tiny", "")).encode(asked()) for make in (turbo, plain, dynamic)
    )
    assert (quick.steps, quick.guidance) == (8, 1.0)
    assert (slow.steps, slow.guidance) == (other.steps, other.guidance) == (50, 5.0)


def test_words_beyond_the_networks_positions_are_noted(folders: Folders) -> None:
    """The tiny network has 130 of them: four buckets of text, and one position for the picture."""
    pipeline = ZImage(Parts(folders(turbo)), Model("tiny", ""))
    assert not pipeline.encode(asked("a" * 60)).notes
    request = asked("a" * 200, steps=1)
    assert "Only the first 128 of" in pipeline.encode(request).notes[0]
    assert paint(pipeline, request).pixels.shape == (64, 64, 3)


def test_what_has_no_effect_is_refused_or_noted(folders: Folders) -> None:
    pipeline = ZImage(Parts(folders(turbo)), Model("tiny", ""))
    assert "no effect" in pipeline.encode(asked(negative_prompt="a dog")).notes[0]
    reference = np.zeros((64, 64, 4), np.uint8)
    for told, said in (
        ({"references": (reference,)}, "reference"),
        ({"style": "漫画"}, "has no style"),
        ({"scene": {}}, "has no scene"),
        ({"sampler": "lcm"}, "made for diffusion models"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            pipeline.encode(asked(**told))


def test_a_lora_changes_the_picture_as_in_diffusers(folders: Folders, tmp_path: Path) -> None:
    folder = folders(plain)
    file = lora_file(tmp_path / "ink.safetensors", Parts(folder).module("transformer"), "transformer")
    expected = theirs(
        folder, "cpu", "euler", file, prompt="a red fox", width=60, height=44, num_inference_steps=3,
        guidance_scale=2.5,
    )  # fmt: skip
    pipeline = ZImage(Parts(folder), Model("tiny", str(folder), loras=(Lora(str(file), 0.0),)))
    request = asked("a red fox", 60, 44, steps=3, guidance=3.5, sampler="euler")
    bare = paint(pipeline, request).pixels
    assert psnr(paint(pipeline, replace(request, loras=(("ink", 0.7),))).pixels, expected) > 50
    assert psnr(bare, expected) < 40
    assert (paint(pipeline, request).pixels == bare).all()
