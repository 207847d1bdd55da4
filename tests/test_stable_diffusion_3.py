"""Stable Diffusion 3 paints what diffusers paints, with all of its text encoders or some, alone and in any batch."""

from __future__ import annotations

import json
import shutil
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
from limner.errors import InvalidRequest, ModelUnusable
from limner.evaluation.painting import paint
from limner.models.registry import Lora, Model
from limner.pipelines import families
from limner.pipelines.parts import Conversion, Parts
from limner.pipelines.stable_diffusion_3 import StableDiffusion3, usual
from parity import (
    Case,
    Folders,
    asked,
    clip_text_config,
    clip_tokenizer,
    eight_bit,
    flow_scheduler,
    flow_vae,
    lora_file,
    psnr,
    seeded,
    strong,
    t5_encoder,
    t5_tokenizer,
    together,
)

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def folder_of(path: Path, *, t5: bool = True, dual: tuple[int, ...] = (), qk_norm: str | None = None) -> None:
    """A tiny model in diffusers' layout: 3 Medium's, or 3.5's with layers of dual attention and norms."""
    clips = [
        strong(
            seeded(
                lambda seed=seed: transformers.CLIPTextModelWithProjection(clip_text_config(projection_dim=32)), seed
            )
        ).eval()
        for seed in (0, 1)
    ]
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=strong(
            seeded(
                lambda: diffusers.SD3Transformer2DModel(
                    sample_size=32, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
                    num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=72,
                    pooled_projection_dim=64, pos_embed_max_size=24, dual_attention_layers=dual, qk_norm=qk_norm,
                )
            ),
            gain=2.0,
        ),
        vae=flow_vae(),
        text_encoder=clips[0],
        text_encoder_2=clips[1],
        text_encoder_3=t5_encoder(72) if t5 else None,
        tokenizer=clip_tokenizer(path / "letters"),
        tokenizer_2=clip_tokenizer(path / "letters"),
        tokenizer_3=t5_tokenizer(path / "letters of T5") if t5 else None,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    pipe.save_pretrained(path)


medium3 = folder_of
medium35 = partial(folder_of, dual=(0,), qk_norm="rms_norm")
without_t5 = partial(folder_of, t5=False)


def theirs(
    folder: Path,
    device: str,
    sampler: SamplerName,
    width: int = 96,
    height: int = 64,
    lora: Path | None = None,
    **fields: Any,
) -> UInt8:
    absent = {name: None for name in ("text_encoder_3", "tokenizer_3") if not (folder / name).exists()}
    pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(folder, **absent).to(device)
    pipe.scheduler = flow_scheduler(sampler, pipe.scheduler.config)
    if lora is not None:
        pipe.load_lora_weights(lora.parent, weight_name=lora.name)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.from_numpy(samplers.noise(7, (4, height // 8, width // 8)))[None].to(device)
    return eight_bit(pipe(width=width, height=height, latents=noise, output_type="np", **fields).images)


def family(folder: Path, device: str = "cpu", **fields: Any) -> StableDiffusion3:
    return StableDiffusion3(Parts(folder, device=device), Model("tiny", str(folder), **fields))


def painted(sampler: SamplerName, guidance: float, folder: Path, device: str) -> float:
    expected = theirs(
        folder, device, sampler, prompt="a red fox", negative_prompt="a dog", num_inference_steps=5,
        guidance_scale=guidance,
    )  # fmt: skip
    request = asked("a red fox", 96, 64, negative_prompt="a dog", sampler=sampler, steps=5, guidance=guidance)
    return psnr(paint(family(folder, device), request).pixels, expected)


SAMPLERS: tuple[SamplerName, ...] = ("euler", "heun", "multistep", "dpm++2m")
CASES = [
    *(Case("Stable Diffusion 3", s, medium3, partial(painted, s, 4.0)) for s in SAMPLERS),
    *(Case("Stable Diffusion 3.5", s, medium35, partial(painted, s, 4.0)) for s in SAMPLERS),
    Case("Stable Diffusion 3.5, unguided", "euler", medium35, partial(painted, "euler", 1.0)),
    Case("Stable Diffusion 3 without T5", "euler", without_t5, partial(painted, "euler", 4.0)),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_picture_is_that_of_diffusers(case: Case, folders: Folders) -> None:
    assert case.measure(folders(case.make), "cpu") > 50


@pytest.mark.parametrize("missing", [("",), ("_2",), ("", "_2"), ("_3",)], ids=str)
def test_zeros_stand_for_an_absent_encoder(folders: Folders, tmp_path: Path, missing: tuple[str, ...]) -> None:
    """They are told apart by where what the transformer is told differs: nowhere but in their own places."""
    whole, less = family(folders(medium3)), family(without(folders(medium3), tmp_path / "less", missing))
    expected = {name: value.clone() for name, value in whole.encode(asked()).conditioning.items()}
    columns = {"": slice(0, 32), "_2": slice(32, 64)}
    for end in missing:
        if end == "_3":
            expected["encoder_hidden_states"][77:] = 0
        else:
            expected["encoder_hidden_states"][:77, columns[end]] = 0
            expected["pooled_projections"][columns[end]] = 0
    told = less.encode(asked()).conditioning
    assert all(torch.equal(told[name], expected[name]) for name in expected)


def test_a_model_without_any_text_encoder_is_refused(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="has no text encoder"):
        family(without(folders(medium3), tmp_path / "none", ("", "_2", "_3")))


def without(folder: Path, copy: Path, missing: tuple[str, ...]) -> Path:
    """A copy of the model that lacks these text encoders."""
    shutil.copytree(folder, copy)
    index = json.loads((copy / "model_index.json").read_text())
    for part in (f"{kind}{end}" for end in missing for kind in ("text_encoder", "tokenizer")):
        index[part] = [None, None]
        shutil.rmtree(copy / part)
    (copy / "model_index.json").write_text(json.dumps(index))
    return copy


def test_a_long_prompt_is_read_whole_with_t5_and_without(folders: Folders) -> None:
    """Cost is the tokens of one evaluation; a letter is a token here, and 16 are the picture's."""
    with_it, without_it = family(folders(medium3)), family(folders(without_t5))
    long = "fox " * 75
    costs = [pipeline.encode(asked(prompt)).cost for pipeline in (with_it, without_it) for prompt in ("fox", long)]
    assert costs == [16 + 77 + 256, 16 + 77 + 512, 16 + 77 + 256, 16 + 3 * 77 + 256]
    for pipeline in (with_it, without_it):
        ends = [paint(pipeline, asked(long + word, steps=2)).pixels for word in ("red", "blue")]
        assert psnr(*ends) < 50
        guided = pipeline.encode(asked("fox", negative_prompt=long))
        texts = [told["encoder_hidden_states"] for told in (guided.conditioning, guided.unconditional)]
        assert len(texts[0]) == len(texts[1])
        assert paint(pipeline, asked("fox", negative_prompt=long, steps=1)).notes == ()


def test_rows_of_other_steps_guidance_and_sampler_share_evaluations(folders: Folders) -> None:
    pipeline = family(folders(medium35), batch=4)
    requests = apart([
        asked(steps=4),
        asked("a dog", seed=8, steps=2, guidance=2.0),
        asked("a cat", seed=9, steps=3, guidance=1.0, sampler="heun"),
    ])  # fmt: skip
    alone = {request.id: together(pipeline, [request]) for request in requests}
    pictures, calls = together(pipeline, requests)
    assert calls < sum(count for _, count in alone.values())
    assert min(psnr(pictures[name], alone[name][0][name]) for name in pictures) > 50


def test_batches_of_one_are_exact_in_any_company(folders: Folders) -> None:
    pipeline = family(folders(medium3))
    requests = apart([asked(steps=3), asked("a dog", seed=8, steps=2)])
    pictures, _ = together(pipeline, requests)
    assert all((pictures[request.id] == paint(pipeline, request).pixels).all() for request in requests)


def apart(requests: list[Request]) -> list[Request]:
    """The same with names of their own."""
    return [replace(request, id=str(number)) for number, request in enumerate(requests)]


def test_a_size_that_no_patch_divides_is_the_middle_of_a_larger_picture(folders: Folders) -> None:
    expected = theirs(
        folders(medium3), "cpu", "euler", 112, 80, prompt="a red fox", num_inference_steps=3, guidance_scale=4.0
    )
    painted = paint(family(folders(medium3)), asked("a red fox", 104, 72, steps=3, guidance=4.0)).pixels
    assert psnr(painted, expected[4:-4, 4:-4]) > 50


@pytest.mark.parametrize(
    ("config", "weights", "expected"),
    [
        ({"qk_norm": None, "dual_attention_layers": []}, "stable-diffusion-3-medium", (28, 7.0)),
        ({"qk_norm": "rms_norm", "dual_attention_layers": [0, 1]}, "stable-diffusion-3.5-medium", (40, 4.5)),
        ({"qk_norm": "rms_norm", "dual_attention_layers": []}, "stable-diffusion-3.5-large", (28, 3.5)),
        ({"qk_norm": "rms_norm", "dual_attention_layers": []}, "stable-diffusion-3.5-large-turbo", (4, 1.0)),
    ],
)
def test_a_model_is_painted_with_as_it_was_published(
    config: dict[str, Any], weights: str, expected: tuple[int, float]
) -> None:
    assert usual(config, weights) == expected


def test_the_entry_goes_before_the_family_and_the_request_before_both(folders: Folders) -> None:
    pipeline = family(folders(medium3), steps=9, guidance=2.0, sampler="heun")
    entry, asked_for = pipeline.encode(asked()), pipeline.encode(asked(steps=3, guidance=5.0, sampler="multistep"))
    assert (entry.steps, entry.guidance, entry.sampler) == (9, 2.0, "heun")
    assert (asked_for.steps, asked_for.guidance, asked_for.sampler) == (3, 5.0, "multistep")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"references": (np.zeros((8, 8, 4), np.uint8),)}, "Stable Diffusion 3 takes no references.*FLUX.1 Kontext"),
        ({"sampler": "lcm"}, "made for diffusion models"),
        ({"scene": {}}, "has no scene"),
    ],
)
def test_what_it_cannot_do_is_refused(folders: Folders, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        family(folders(medium3)).encode(asked(**fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": "fox " * 200}, "has 801 tokens, and this model reads the first 512"),
        ({"negative_prompt": "fog", "guidance": 1.0}, "negative prompt has no effect without guidance"),
    ],
)
def test_what_has_no_effect_is_said(folders: Folders, fields: dict[str, Any], said: str) -> None:
    (note,) = family(folders(medium3)).encode(asked(**fields)).notes
    assert said in note


def test_openvino_paints_the_same_at_any_size(folders: Folders, tmp_path: Path) -> None:
    """With the network converted at another size."""
    folder = folders(medium35)
    converted = Parts(folder, conversion=Conversion(tmp_path, "f32", threads=1))
    pipeline = StableDiffusion3(converted, Model("tiny", str(folder)))
    for width, height in ((64, 64), (112, 80)):
        request = asked(steps=2, width=width, height=height)
        assert psnr(paint(pipeline, request).pixels, paint(family(folder), request).pixels) > 50


def test_a_lora_changes_the_picture_as_in_diffusers(folders: Folders, tmp_path: Path) -> None:
    folder = folders(medium35)
    transformer = diffusers.DiffusionPipeline.from_pretrained(folder).transformer
    file = lora_file(tmp_path / "ink.safetensors", transformer, "transformer")
    request = asked("a red fox", steps=3, guidance=4.0)
    expected = theirs(
        folder, "cpu", "euler", 64, 64, lora=file, prompt="a red fox", num_inference_steps=3, guidance_scale=4.0,
        joint_attention_kwargs={"scale": 0.7},
    )  # fmt: skip
    pipeline = family(folder, loras=(Lora(str(file), 0.0),))
    plain = paint(pipeline, request).pixels
    assert psnr(paint(pipeline, replace(request, loras=(("ink", 0.7),))).pixels, expected) > 50
    assert psnr(plain, expected) < 40
    assert (paint(pipeline, request).pixels == plain).all()


def test_a_cache_that_it_lacks_is_refused(folders: Folders, tmp_path: Path) -> None:
    model = Model("big", str(folders(medium3)), first_block=0.1)
    with pytest.raises(ModelUnusable, match="big sets first_block, which FLUX"):
        families.load(model, tmp_path)
