"""FLUX.1 paints what diffusers paints, with references and without, alone and in any batch."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.engine import samplers
from limner.engine.core import Request, SamplerName, UInt8
from limner.errors import InvalidRequest, ModelUnusable
from limner.evaluation.painting import paint
from limner.models.registry import Lora, Model
from limner.pipelines import families
from limner.pipelines.flux import SIZES, Flux, beside, bucket, places
from limner.pipelines.latents import packed
from limner.pipelines.parts import Conversion, Parts
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

kontext_module = "diffusers.pipelines.flux.pipeline_flux_kontext"
PIPELINES = {"schnell": diffusers.FluxPipeline, "dev": diffusers.FluxPipeline, "Kontext": diffusers.FluxKontextPipeline}


def folder_of(kind: str, path: Path, blocks: int = 1) -> None:
    """A tiny model of this kind, in diffusers' layout."""
    pipe = PIPELINES[kind](
        transformer=strong(
            seeded(
                lambda: diffusers.FluxTransformer2DModel(
                    in_channels=16, num_layers=1, num_single_layers=blocks, attention_head_dim=16,
                    num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
                    axes_dims_rope=(4, 4, 8), guidance_embeds=kind != "schnell",
                )
            )
        ),
        vae=flow_vae(),
        text_encoder=seeded(lambda: transformers.CLIPTextModel(clip_text_config())).eval(),
        text_encoder_2=t5_encoder(),
        tokenizer=clip_tokenizer(path / "letters"),
        tokenizer_2=t5_tokenizer(path / "letters of T5"),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            **({"shift": 1.0} if kind == "schnell" else {"shift": 3.0, "use_dynamic_shifting": True})
        ),
    )  # fmt: skip
    pipe.save_pretrained(path)


schnell, dev, kontext = (partial(folder_of, kind) for kind in PIPELINES)
deep = partial(folder_of, "dev", blocks=3)


def theirs(
    folder: Path,
    device: str,
    sampler: SamplerName,
    width: int = 64,
    height: int = 64,
    lora: Path | None = None,
    first_block: float = 0.0,
    **fields: Any,
) -> UInt8:
    kind = diffusers.DiffusionPipeline.load_config(folder)["_class_name"]
    pipe = getattr(diffusers, kind).from_pretrained(folder).to(device)
    pipe.scheduler = flow_scheduler(sampler, pipe.scheduler.config)
    if lora is not None:
        pipe.load_lora_weights(lora.parent, weight_name=lora.name)
    if first_block:
        pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=first_block))
    pipe.set_progress_bar_config(disable=True)
    noise = torch.from_numpy(samplers.noise(7, (height // 16, width // 16, 16))).reshape(1, -1, 16)
    if kind == "FluxKontextPipeline":
        fields["max_area"] = width * height
    return eight_bit(pipe(width=width, height=height, latents=noise, output_type="np", **fields).images)


def family(folder: Path, device: str = "cpu", **fields: Any) -> Flux:
    return Flux(Parts(folder, device=device), Model("tiny", str(folder), **fields))


def ours(folder: Path, request: Request, device: str = "cpu") -> UInt8:
    return paint(family(folder, device), request).pixels


def words(sampler: SamplerName, guidance: float, negative: str | None, length: int, folder: Path, device: str) -> float:
    """Of a picture from words alone."""
    learned = negative is None
    expected = theirs(
        folder, device, sampler, 96, 64, prompt="a red fox", negative_prompt=negative, num_inference_steps=5,
        guidance_scale=guidance if learned else 1.0, true_cfg_scale=1.0 if learned else guidance,
        max_sequence_length=length,
    )  # fmt: skip
    request = asked("a red fox", 96, 64, negative_prompt=negative, sampler=sampler, steps=5, guidance=guidance)
    return psnr(ours(folder, request, device), expected)


def picture(width: int, height: int, seed: int = 1) -> UInt8:
    """A reference: patches of colour, all of it opaque."""
    small = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height)).convert("RGBA"))


SMALL = tuple((width // 64 * 16, height // 64 * 16) for width, height in SIZES)
"""Sizes of references that a test has time for."""


def small_references() -> ExitStack:
    patched = ExitStack()
    for name in ("limner.pipelines.flux.SIZES", f"{kontext_module}.PREFERRED_KONTEXT_RESOLUTIONS"):
        patched.enter_context(patch(name, SMALL))
    return patched


def edited(sampler: SamplerName, references: int, folder: Path, device: str) -> float:
    """Of a picture with so many references, all of the same shape: to diffusers, one picture of all of them."""
    given = [picture(300, 200, seed) for seed in range(references)]
    width, height = 304, 208
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae").to(device)
    shown = [Image.fromarray(one).convert("RGB").resize((width, height), Image.Resampling.LANCZOS) for one in given]
    pixels = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) / 127.5 - 1 for one in shown])
    with torch.inference_mode():
        latents = (vae.encode(pixels.to(device)).latent_dist.mode() - 0.12) * 0.36
    image = Image.fromarray(given[0]).convert("RGB") if references == 1 else torch.cat([*latents], dim=1)[None]
    request = asked("a red fox", sampler=sampler, steps=4, guidance=3.0, references=tuple(given))
    with small_references():
        expected = theirs(
            folder, device, sampler, prompt="a red fox", image=image, num_inference_steps=4, guidance_scale=3.0
        )
        return psnr(ours(folder, request, device), expected)


SAMPLERS: tuple[SamplerName, ...] = ("euler", "heun", "multistep", "dpm++2m")
CASES = [
    *(Case("FLUX.1 schnell", s, schnell, partial(words, s, 1.0, None, 256)) for s in SAMPLERS),
    *(Case("FLUX.1 dev", s, dev, partial(words, s, 4.0, None, 512)) for s in SAMPLERS),
    *(Case("FLUX.1 dev, negative prompt", s, dev, partial(words, s, 4.0, "a dog", 512)) for s in SAMPLERS),
    *(Case("FLUX.1 Kontext", s, kontext, partial(edited, s, 1)) for s in SAMPLERS),
    Case("FLUX.1 Kontext, two references", "euler", kontext, partial(edited, "euler", 2)),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_picture_is_that_of_diffusers(case: Case, folders: Folders) -> None:
    assert case.measure(folders(case.make), "cpu") > 50


def apart(requests: list[Request]) -> list[Request]:
    """The same with names of their own."""
    return [replace(request, id=str(number)) for number, request in enumerate(requests)]


def shared(pipeline: Flux, requests: list[Request]) -> None:
    """Assert that these share evaluations, and that each is painted as if it were alone."""
    alone = {request.id: together(pipeline, [request]) for request in requests}
    pictures, calls = together(pipeline, requests)
    assert calls < sum(count for _, count in alone.values())
    assert min(psnr(pictures[name], alone[name][0][name]) for name in pictures) > 50


def test_rows_of_other_steps_guidance_and_sampler_share_evaluations(folders: Folders) -> None:
    requests = apart([
        asked(steps=4),
        asked("a dog", seed=8, steps=2, guidance=6.0),
        asked("a cat", seed=9, steps=3, negative_prompt="fog", sampler="heun"),
    ])  # fmt: skip
    shared(family(folders(dev), batch=4), requests)


def test_references_of_one_shape_share_evaluations_and_others_do_not(folders: Folders) -> None:
    wide, tall = picture(300, 200), picture(200, 300)
    with small_references():
        pipeline = family(folders(kontext), batch=4)
        requests = apart([asked(steps=2, references=(wide,)), asked("a dog", steps=3, references=(picture(150, 100),))])
        shared(pipeline, requests)
        as_many_tokens = [pipeline.encode(asked(references=(reference,))) for reference in (wide, tall)]
    assert as_many_tokens[0].cost == as_many_tokens[1].cost
    assert as_many_tokens[0].key != as_many_tokens[1].key


def test_sizes_share_no_evaluation_though_of_as_many_tokens(folders: Folders) -> None:
    pipeline = family(folders(dev), batch=4)
    wide, tall = (pipeline.encode(asked(width=w, height=h)) for w, h in ((96, 64), (64, 96)))
    assert wide.cost == tall.cost
    assert wide.key != tall.key


def test_batches_of_one_are_exact_in_any_company(folders: Folders) -> None:
    pipeline = family(folders(dev))
    requests = apart([asked(steps=3), asked("a dog", seed=8, steps=2, negative_prompt="fog")])
    pictures, _ = together(pipeline, requests)
    assert all((pictures[request.id] == paint(pipeline, request).pixels).all() for request in requests)


def test_a_size_that_no_token_divides_is_the_middle_of_a_larger_picture(folders: Folders) -> None:
    expected = theirs(folders(dev), "cpu", "euler", 112, 80, prompt="a red fox", num_inference_steps=3)
    painted = ours(folders(dev), asked("a red fox", 104, 72, steps=3))
    assert psnr(painted, expected[4:-4, 4:-4]) > 50


def test_a_model_is_painted_with_as_it_was_published(folders: Folders) -> None:
    runs = [family(folders(make)).encode(asked()) for make in (schnell, dev, kontext)]
    assert [run.steps for run in runs] == [4, 28, 28]
    assert [run.guidance for run in runs] == [1, 1, 1]  # one evaluation a step
    assert [run.conditioning.get("guidance") for run in runs] == [None, 3.5, 2.5]


def test_the_entry_goes_before_the_family_and_the_request_before_both(folders: Folders) -> None:
    pipeline = family(folders(dev), steps=9, guidance=2.0, sampler="heun")
    entry, asked_for = pipeline.encode(asked()), pipeline.encode(asked(steps=3, guidance=5.0, sampler="multistep"))
    assert (entry.steps, entry.conditioning["guidance"], entry.sampler) == (9, 2.0, "heun")
    assert (asked_for.steps, asked_for.conditioning["guidance"], asked_for.sampler) == (3, 5.0, "multistep")


def test_a_prompt_is_padded_as_in_training_and_longer_ones_are_read_whole(folders: Folders) -> None:
    """Cost is the tokens of one evaluation; a letter is a token here, and 16 are the picture's."""
    short, long = "fox", "fox " * 75
    few, many = family(folders(schnell)), family(folders(dev))
    costs = [pipeline.encode(asked(prompt)).cost for pipeline in (few, many) for prompt in (short, long)]
    assert costs == [16 + 256, 16 + 512, 16 + 512, 16 + 512]
    ends = [ours(folders(schnell), asked(long + word)) for word in ("red", "blue")]
    assert psnr(*ends) < 50
    guided = few.encode(asked(short, guidance=2.0, negative_prompt=long))
    assert len(guided.conditioning["encoder_hidden_states"]) == len(guided.unconditional["encoder_hidden_states"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": "fox " * 200}, "has 801 tokens, and this model reads the first 512"),
        ({"prompt": "狐狸"}, "characters that this model's text encoder does not know"),
        ({"negative_prompt": "fog", "guidance": 1.0}, "negative prompt has no effect without guidance"),
    ],
)
def test_what_has_no_effect_is_said(folders: Folders, fields: dict[str, Any], said: str) -> None:
    (note,) = family(folders(dev)).encode(asked(**fields)).notes
    assert said in note


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"references": (picture(30, 20),)}, "FLUX.1 dev takes no references.*FLUX.1 Kontext"),
        ({"sampler": "ddim"}, "made for diffusion models"),
        ({"strength": 0.5}, "has no strength"),
    ],
)
def test_what_it_cannot_do_is_refused(folders: Folders, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        family(folders(dev)).encode(asked(**fields))


def test_a_reference_has_the_sizes_that_kontext_was_trained_with() -> None:
    assert sorted(SIZES) == sorted(diffusers.pipelines.flux.pipeline_flux_kontext.PREFERRED_KONTEXT_RESOLUTIONS)


def test_a_reference_is_scaled_as_diffusers_scales_it(folders: Folders) -> None:
    folder, given = folders(kontext), picture(500, 330)
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    scaled = diffusers.image_processor.VaeImageProcessor(vae_scale_factor=16).resize(
        Image.fromarray(given).convert("RGB"), 208, 304
    )
    pixels = torch.from_numpy(np.array(scaled)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode(), small_references():
        expected = packed((vae.encode(pixels).latent_dist.mode()[0] - 0.12) * 0.36)
        tokens = family(folder).encode(asked(references=(given,))).conditioning["references"]
    assert torch.allclose(tokens, expected.flatten(0, 1), atol=1e-5)


def test_a_transparent_reference_lies_on_white(folders: Folders) -> None:
    clear, white = np.zeros((20, 30, 4), np.uint8), np.full((20, 30, 4), 255, np.uint8)
    with small_references():
        pipeline = family(folders(kontext))
        shown = [pipeline.encode(asked(references=(one,))).conditioning["references"] for one in (clear, white)]
    assert torch.equal(*shown)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=5))
def test_references_lie_beside_each_other_and_none_over_another(shapes: list[tuple[int, int]]) -> None:
    layout = beside(shapes)
    assert [grid[:2] for grid in layout] == shapes
    cells = [tuple(place) for grid in layout for place in places(*grid).tolist()]
    assert len(cells) == len(set(cells)) == sum(rows * columns for rows, columns in shapes)
    assert all(index == 1 for index, _, _ in cells)  # 0 is the picture


@given(*[st.lists(st.tuples(st.integers(1, 128), st.integers(1, 128)), max_size=3)] * 2)
def test_layouts_are_told_apart_by_one_number(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    assert (bucket(512, beside(one)) == bucket(512, beside(other))) == (one == other)
    assert bucket(512, beside(one)) != bucket(256, beside(one))


def test_openvino_paints_the_same_at_any_size(folders: Folders, tmp_path: Path) -> None:
    """With the network converted at another size, and without references."""
    folder = folders(kontext)
    converted = Parts(folder, conversion=Conversion(tmp_path, "f32", threads=1))
    pipeline = Flux(converted, Model("tiny", str(folder)))
    requests = [
        asked(steps=2, width=w, height=h, references=given)
        for w, h, given in ((64, 64, ()), (112, 80, (picture(200, 300),)))
    ]
    with small_references():
        assert min(psnr(paint(pipeline, request).pixels, ours(folder, request)) for request in requests) > 50


def test_a_lora_changes_the_picture_as_in_diffusers(folders: Folders, tmp_path: Path) -> None:
    folder = folders(dev)
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


CACHED = {"steps": 8, "guidance": 2.0, "negative_prompt": "fog"}
"""A run in which a threshold of 0.8 leaves out 4 evaluations of 16: tiny networks turn quickly."""


def test_first_block_caching_paints_what_diffusers_paints_with_it(folders: Folders) -> None:
    expected = theirs(
        folders(deep), "cpu", "euler", first_block=0.8, prompt="a red fox", negative_prompt="fog",
        num_inference_steps=8, guidance_scale=1.0, true_cfg_scale=2.0,
    )  # fmt: skip
    request = asked("a red fox", **CACHED)
    painted = paint(family(folders(deep), first_block=0.8), request).pixels
    assert psnr(painted, expected) > 50
    assert psnr(painted, ours(folders(deep), request)) < 50  # it did skip some


def test_a_threshold_that_no_change_is_below_alters_nothing(folders: Folders) -> None:
    request = asked("a red fox", **CACHED)
    painted = paint(family(folders(deep), first_block=1e-9), request).pixels
    assert (painted == ours(folders(deep), request)).all()


def test_what_is_remembered_of_a_request_reaches_no_other(folders: Folders) -> None:
    pipeline = family(folders(deep), first_block=0.8, batch=4)
    requests = apart([asked("a red fox", **CACHED), asked("a dog", seed=8, steps=5), asked("a red fox", **CACHED)])
    alone = {request.id: paint(pipeline, request).pixels for request in requests}
    pictures, calls = together(pipeline, requests)
    assert calls < 16 + 5 + 16
    assert all((pictures[name] == alone[name]).all() for name in alone)
    assert (alone["0"] == alone["2"]).all()


def test_an_entry_with_the_cache_is_loaded_and_run_by_torch(folders: Folders, tmp_path: Path) -> None:
    request = asked("a red fox", **CACHED)
    entry = Model("big", str(folders(deep)), first_block=0.8, precision="f32")
    assert (
        paint(families.load(entry, tmp_path), request).pixels
        == paint(family(folders(deep), first_block=0.8), request).pixels
    ).all()
    with pytest.raises(ModelUnusable, match="without fp8 weights and first_block"):
        families.load(replace(entry, runtime="openvino"), tmp_path)
