"""FLUX.2 dev, klein and klein base paint what diffusers paints, with references too, alone and in any batch."""

from __future__ import annotations

from collections.abc import Sequence
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
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from limner.engine import samplers
from limner.engine.core import Request, SamplerName, UInt8
from limner.errors import InvalidRequest
from limner.evaluation.painting import paint
from limner.models.registry import Lora, Model
from limner.pipelines import flow
from limner.pipelines.flux2 import Flux2, shift
from limner.pipelines.latents import on_white
from limner.pipelines.parts import Parts
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

MISTRAL = """{{ bos_token }}{% for m in messages %}{% set text = m.content[0].text %}{% if m.role == 'system' %}\
[SYSTEM_PROMPT]{{ text }}[/SYSTEM_PROMPT]{% else %}[INST]{{ text }}[/INST]{% endif %}{% endfor %}"""


def mistral_tokenizer() -> Any:
    """A token for every byte, padded at the left, with Mistral's own ones."""
    own = ["<unk>", "<s>", "</s>", "<pad>", "[IMG]", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    tokens = [*own, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        additional_special_tokens=own[4:], padding_side="left", model_max_length=4096, chat_template=MISTRAL,
    )  # fmt: skip


def mistral() -> Any:
    sides = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 8}
    return transformers.Mistral3ForConditionalGeneration(
        transformers.Mistral3Config(
            text_config=transformers.MistralConfig(
                vocab_size=300, num_hidden_layers=30, num_key_value_heads=1, bos_token_id=1, eos_token_id=2,
                pad_token_id=3, **sides,
            ),
            vision_config=transformers.PixtralVisionConfig(num_hidden_layers=1, image_size=28, patch_size=14, **sides),
        )
    ).eval()  # fmt: skip


def autoencoder() -> Any:
    vae = diffusers.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=64,
    )  # fmt: skip
    torch.nn.init.normal_(vae.bn.running_mean, std=0.3)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    return vae


def write(kind: str, path: Path) -> None:
    """A tiny model of FLUX.2: dev, klein or klein base."""
    dev = kind == "dev"
    parts = {
        "transformer": seeded(
            lambda: strong(
                diffusers.Flux2Transformer2DModel(
                    in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
                    joint_attention_dim=48, timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4),
                    guidance_embeds=dev,
                ),
                2.5,
            )
        ),
        "vae": seeded(autoencoder),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
    }  # fmt: skip
    if dev:
        pipe = diffusers.Flux2Pipeline(text_encoder=seeded(mistral), tokenizer=mistral_tokenizer(), **parts)
    else:
        text = seeded(lambda: transformers.Qwen3ForCausalLM(qwen3_config(27))).eval()
        pipe = diffusers.Flux2KleinPipeline(
            text_encoder=text, tokenizer=qwen_tokenizer(), is_distilled=kind == "klein", **parts
        )
    pipe.save_pretrained(path)


dev, klein, base = (partial(write, kind) for kind in ("dev", "klein", "klein base"))


def girl(height: int = 70, width: int = 100) -> UInt8:
    """A reference, (height, width, 4), with a clear corner and a side that no token fits."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = np.stack([2.5 * x, 255 - 3 * y, 128 + 60 * np.sin(x / 5) * np.cos(y / 7), np.full_like(x, 255)], -1)
    picture[:16, :16, 3] = 0
    return picture.astype(np.uint8)


def ours(folder: Path, request: Request, device: str = "cpu") -> UInt8:
    return paint(Flux2(Parts(folder, device=device), Model("tiny", str(folder))), request).pixels


def theirs(
    folder: Path,
    device: str,
    sampler: SamplerName,
    references: Sequence[UInt8] = (),
    negative: str = "",
    lora: Path | None = None,
    **fields: Any,
) -> UInt8:
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder).to(device)
    if lora is not None:
        pipe.load_lora_weights(lora, adapter_name="ink")
        pipe.set_adapters("ink", 0.7)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = flow_scheduler(sampler, pipe.scheduler.config)
    if negative:
        fields["negative_prompt_embeds"] = pipe.encode_prompt(negative)[0]
    noise = samplers.noise(7, (fields["height"] // 4, fields["width"] // 4, 16))
    latents = torch.from_numpy(noise).permute(2, 0, 1)[None].to(device)
    pictures = [Image.fromarray(on_white(reference)) for reference in references]
    return eight_bit(pipe(**fields, image=pictures or None, latents=latents, output_type="np").images)


def measure(
    sampler: SamplerName, guidance: float, negative: str, references: Sequence[UInt8], folder: Path, device: str
) -> float:
    told: dict[str, Any] = {"negative_prompt": negative} if negative else {}
    request = asked(
        "a red fox", 64, 48, steps=4, guidance=guidance, sampler=sampler, references=tuple(references), **told
    )
    expected = theirs(
        folder, device, sampler, references, negative, prompt="a red fox", width=64, height=48,
        num_inference_steps=4, guidance_scale=guidance,
    )  # fmt: skip
    return psnr(ours(folder, request, device), expected)


ONE, TWO = (girl(),), (girl(), girl(64, 80))
CASES: list[Case] = [
    *(Case("FLUX.2 dev", s, dev, partial(measure, s, 3.0, "", ())) for s in flow.SAMPLERS),
    *(Case("FLUX.2 klein", s, klein, partial(measure, s, 1.0, "", ())) for s in flow.SAMPLERS),
    *(Case("FLUX.2 klein base", s, base, partial(measure, s, 3.0, "a dog", ())) for s in flow.SAMPLERS),
    Case("FLUX.2 dev, one reference", "euler", dev, partial(measure, "euler", 3.0, "", ONE)),
    Case("FLUX.2 dev, two references", "euler", dev, partial(measure, "euler", 3.0, "", TWO)),
    Case("FLUX.2 klein, two references", "euler", klein, partial(measure, "euler", 1.0, "", TWO)),
    Case("FLUX.2 klein base, two references", "euler", base, partial(measure, "euler", 3.0, "", TWO)),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_picture_is_that_of_diffusers(case: Case, folders: Folders) -> None:
    assert case.measure(folders(case.make), "cpu") > 50


def test_prompt_guidance_and_references_show_in_the_picture(folders: Folders) -> None:
    """Else parity would say little: networks of small random weights hardly heed what they are told."""
    pipeline = Flux2(Parts(folders(dev)), Model("tiny", ""))
    plain = asked("a red fox", 64, 48, steps=4, guidance=3.0, references=TWO)
    others = [
        replace(plain, prompt="a blue whale, seen from above"), replace(plain, guidance=4.0),
        replace(plain, references=ONE), replace(plain, references=TWO[::-1]),
    ]  # fmt: skip
    first = paint(pipeline, plain).pixels
    for other in others:
        assert psnr(first, paint(pipeline, other).pixels) < 45


@pytest.mark.parametrize("make", [dev, base])
def test_a_picture_is_the_same_alone_and_among_others(make: Any, folders: Folders) -> None:
    pipeline = Flux2(Parts(folders(make)), Model("tiny", "", batch=4))
    requests = [
        replace(asked(prompt, 64, 48, seed=seed, steps=steps, guidance=guidance, references=references), id=str(seed))
        for seed, (prompt, steps, guidance, references) in enumerate(
            [
                ("a red fox", 4, 3.0, ()), ("a dog", 3, 5.0, ()), ("a whale", 2, 1.0, ()),
                ("a red fox", 3, 2.0, ONE), ("a dog", 2, 4.0, ONE),
                ("turned", 3, 3.0, (girl(100, 70),)),  # as many tokens as ONE, of another shape
            ]
        )
    ]  # fmt: skip
    pictures, batches = together(pipeline, requests)
    assert batches <= 16 if make is base else batches <= 10  # 31 and 17 rows
    for request in requests:
        assert psnr(pictures[request.id], paint(pipeline, request).pixels) > 50


def test_any_size_is_painted_padded_and_cropped(folders: Folders) -> None:
    small = ours(folders(klein), asked("a red fox", 52, 43, steps=2))
    whole = ours(folders(klein), asked("a red fox", 52, 44, steps=2))
    assert small.shape == (43, 52, 3)
    np.testing.assert_array_equal(small, whole[:43])


def test_a_prompt_of_more_than_512_tokens_is_read_whole(folders: Folders) -> None:
    pipeline = Flux2(Parts(folders(base)), Model("tiny", ""))
    long = "a fox " * 200
    one, other = (pipeline.encode(asked(long + end, steps=2, guidance=3.0)) for end in ("one", "two"))
    assert one.key.tokens > 1200
    assert one.conditioning["encoder_hidden_states"].shape == one.unconditional["encoder_hidden_states"].shape
    assert not torch.equal(one.conditioning["encoder_hidden_states"], other.conditioning["encoder_hidden_states"])


def test_a_large_reference_is_made_smaller_as_diffusers_does(folders: Folders) -> None:
    with patch("limner.pipelines.flux2.MOST", 4096):
        given = Flux2(Parts(folders(dev)), Model("tiny", "")).encode(asked(references=ONE)).conditioning["references"]
    made = Flux2ImageProcessor._resize_to_target_area(Image.fromarray(on_white(girl())), 4096)
    assert len(given) == (made.width // 4) * (made.height // 4)


@pytest.mark.parametrize(
    ("make", "fields", "said"),
    [
        (dev, {"negative_prompt": "a dog"}, "negative prompt has no effect"),
        (klein, {"negative_prompt": "a dog"}, "negative prompt has no effect"),
        (klein, {"guidance": 2.0}, "distilled to paint without guidance"),
        (klein, {"sampler": "lcm"}, "made for diffusion models"),
        (klein, {"strength": 0.5}, "has no strength"),
        (klein, {"references": (girl(63, 200),)}, "at least 64 pixels"),
    ],
)
def test_what_it_cannot_do_is_refused_with_a_sentence(
    make: Any, fields: dict[str, Any], said: str, folders: Folders
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Flux2(Parts(folders(make)), Model("tiny", "")).encode(asked(**fields))


def test_a_negative_prompt_without_guidance_is_noted(folders: Folders) -> None:
    pipeline = Flux2(Parts(folders(base)), Model("tiny", ""))
    assert "no effect" in pipeline.encode(asked(guidance=1.0, negative_prompt="a dog")).notes[0]
    assert not pipeline.encode(asked(guidance=2.0, negative_prompt="a dog")).notes


def test_levels_of_published_sizes_are_those_of_diffusers() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    for tokens, steps in ((1024, 4), (4096, 28), (4300, 50), (8192, 28)):
        mu = compute_empirical_mu(tokens, steps)
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
        run = flow.run(scheduler.config, flow.even(steps), shift(tokens, steps), "euler")
        np.testing.assert_allclose([level.noise for level in run], scheduler.sigmas, atol=1e-6)


def test_a_lora_changes_the_picture_as_in_diffusers(folders: Folders, tmp_path: Path) -> None:
    folder = folders(dev)
    file = lora_file(tmp_path / "ink.safetensors", Parts(folder).module("transformer"), "transformer")
    expected = theirs(
        folder, "cpu", "euler", lora=file, prompt="a red fox", width=64, height=48, num_inference_steps=3,
        guidance_scale=3.0,
    )  # fmt: skip
    pipeline = Flux2(Parts(folder), Model("tiny", str(folder), loras=(Lora(str(file), 0.0),)))
    request = asked("a red fox", 64, 48, steps=3, guidance=3.0, sampler="euler")
    bare = paint(pipeline, request).pixels
    assert psnr(paint(pipeline, replace(request, loras=(("ink", 0.7),))).pixels, expected) > 50
    assert psnr(bare, expected) < 40
    assert (paint(pipeline, request).pixels == bare).all()
