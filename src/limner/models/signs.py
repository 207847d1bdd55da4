"""What the names of a file's tensors tell about it: which network, of which family, or that it is none to paint with.

A single file carries no name of its kind, but networks name their layers in ways of their own. Two spellings of each
are known: the one of its first publication, which single files and GGUF have, and diffusers'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from limner.models.headers import Header

Role = Literal["denoiser", "autoencoder", "text", "other"]
"""What a network is for; other: a denoiser that paints no picture from words alone."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A kind of network, known by tensors that no other has.

    Where `width` is given, the last of `tensors` has that many input channels too.
    """

    tensors: tuple[str, ...]  # all there, behind whatever prefix `PREFIXES` says
    about: str
    pipelines: tuple[str, ...] = ()  # diffusers' classes that it can be the denoiser of, the likeliest first
    role: Role = "denoiser"
    width: int | None = None


PREFIXES: Final = ("model.diffusion_model.", "diffusion_model.", "model.", "")
"""What single files write before the names of a network's tensors."""

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "denoiser": PREFIXES[:2],
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": (
        "cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l.", "text_encoders.qwen25_7b.",
    ),
    "text_encoder_2": ("conditioner.embedders.1.", "text_encoders.clip_g."),
    "text_encoder_3": ("text_encoders.t5xxl.",),
}  # fmt: skip
"""What a checkpoint of several parts writes before the names of each part's tensors."""

_UNET, _UNET_DIFFUSERS = "time_embed.0.weight", "time_embedding.linear_1.weight"
_FIRST, _FIRST_DIFFUSERS = "input_blocks.0.0.weight", "conv_in.weight"
_CROSS = "transformer_blocks.0.attn2.to_k.weight"  # its width is the text encoder's
_LOW, _LOW_DIFFUSERS = f"input_blocks.1.1.{_CROSS}", f"down_blocks.0.attentions.0.{_CROSS}"
_HIGH, _HIGH_DIFFUSERS = f"input_blocks.4.1.{_CROSS}", f"down_blocks.1.attentions.0.{_CROSS}"
_DOUBLE, _SINGLE = "double_blocks.0.img_attn.norm.key_norm.scale", "single_transformer_blocks.0.proj_mlp.weight"
_XL, _SD = ("StableDiffusionXLPipeline",), ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")
_SD3, _Z = ("StableDiffusion3Pipeline",), ("ZImagePipeline",)
_FLUX, _FLUX2 = ("FluxPipeline", "FluxKontextPipeline"), ("Flux2Pipeline", "Flux2KleinPipeline")
_QWEN = ("QwenImagePipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline")

SIGNS: Final = (
    Sign(("distilled_guidance_layer.in_proj.bias",), "Chroma", ("ChromaPipeline",)),
    Sign(("single_stream_modulation.lin.weight",), "FLUX.2", _FLUX2),
    Sign(("single_stream_modulation.linear.weight",), "FLUX.2", _FLUX2),
    Sign((_DOUBLE, "img_in.weight"), "FLUX.1 Fill, which paints into a given picture", role="other", width=384),
    Sign((_SINGLE, "x_embedder.weight"), "FLUX.1 Fill, which paints into a given picture", role="other", width=384),
    Sign((_DOUBLE, "img_in.weight"), "FLUX.1 Depth or Canny, which follow a given picture", role="other", width=128),
    Sign(
        (_SINGLE, "x_embedder.weight"), "FLUX.1 Depth or Canny, which follow a given picture", role="other", width=128
    ),
    Sign((_DOUBLE, "img_in.weight"), "FLUX.1", _FLUX),
    Sign((_SINGLE, "x_embedder.weight"), "FLUX.1", _FLUX),
    Sign(("joint_blocks.0.context_block.adaLN_modulation.1.bias",), "Stable Diffusion 3", _SD3),
    Sign(("pos_embed.proj.weight", "transformer_blocks.0.attn.add_q_proj.weight"), "Stable Diffusion 3", _SD3),
    Sign(("transformer_blocks.0.img_mod.1.weight", "txt_norm.weight"), "Qwen-Image", _QWEN),
    Sign(("layers.0.adaLN_modulation.0.weight", "noise_refiner.0.attention_norm1.weight"), "Z-Image", _Z),
    Sign((_UNET, _FIRST), "Stable Diffusion for inpainting", role="other", width=9),
    Sign((_UNET_DIFFUSERS, _FIRST_DIFFUSERS), "Stable Diffusion for inpainting", role="other", width=9),
    Sign((_UNET, _FIRST), "Stable Diffusion that edits a picture (InstructPix2Pix)", role="other", width=8),
    Sign((_UNET, _HIGH), "the Stable Diffusion XL refiner, which paints no picture alone", role="other", width=1280),
    Sign((_UNET, _HIGH), "Stable Diffusion XL", _XL, width=2048),
    Sign((_UNET, _LOW), "Stable Diffusion 1", _SD, width=768),
    Sign((_UNET, _LOW), "Stable Diffusion 2", _SD, width=1024),
    Sign((_UNET_DIFFUSERS, _HIGH_DIFFUSERS), "Stable Diffusion XL", _XL, width=2048),
    Sign((_UNET_DIFFUSERS, _LOW_DIFFUSERS), "Stable Diffusion 1", _SD, width=768),
    Sign((_UNET_DIFFUSERS, _LOW_DIFFUSERS), "Stable Diffusion 2", _SD, width=1024),
    Sign((_UNET, _FIRST), "Stable Diffusion of a size of its own", _SD + _XL, width=4),
    Sign((_UNET_DIFFUSERS, _FIRST_DIFFUSERS), "Stable Diffusion of a size of its own", _SD + _XL, width=4),
    Sign(("decoder.conv_in.weight", "decoder.conv_out.weight"), "an autoencoder (VAE)", role="autoencoder"),
    Sign(("decoder.layers.0.weight", "encoder.layers.0.weight"), "a Tiny AutoEncoder", role="autoencoder"),
    Sign(("text_model.embeddings.token_embedding.weight",), "a text encoder (CLIP)", role="text"),
    Sign(("embeddings.token_embedding.weight",), "a text encoder (CLIP)", role="text"),
    Sign(("encoder.block.0.layer.0.SelfAttention.q.weight",), "a text encoder (T5)", role="text"),
    Sign(("enc.blk.0.attn_q.weight",), "a text encoder (T5)", role="text"),
    Sign(("embed_tokens.weight",), "a language model", role="text"),
    Sign(("token_embd.weight",), "a language model", role="text"),
)
"""Every kind that is known, the more particular first."""

EXTRAS: Final = {
    ".lora_A.": "a LoRA: list it under `loras` of a model, or in one of its `styles`",
    ".lora_down.": "a LoRA: list it under `loras` of a model, or in one of its `styles`",
    ".lora.down.": "a LoRA: list it under `loras` of a model, or in one of its `styles`",
    "lora_unet_": "a LoRA: list it under `loras` of a model, or in one of its `styles`",
    "image_proj.": "an IP-Adapter: name it as the `adapter` of a model",
    "control_model.": "a ControlNet, which Limner has no use for",
    "controlnet_cond_embedding.": "a ControlNet, which Limner has no use for",
}
"""Additions to a model, by a part of their tensors' names."""


def extra(header: Header) -> str | None:
    """What addition to a model a file is, and where it belongs; None where it is none."""
    return next((about for part, about in EXTRAS.items() if any(part in name for name in header.tensors)), None)


def sign_of(header: Header) -> Sign | None:
    """The first sign that a file shows; None where it shows none."""
    return next((sign for sign in SIGNS if _shows(header, sign)), None)


def _shows(header: Header, sign: Sign) -> bool:
    for prefix in PREFIXES:
        tensors = [header.tensors.get(prefix + name) for name in sign.tensors]
        if all(tensors):
            last = tensors[-1]
            return sign.width is None or (last is not None and last.shape[1:2] == (sign.width,))
    return False


def parts_in(header: Header) -> dict[str, list[str]]:
    """The names of a single file's tensors by the part they belong to; a file of one network is all denoiser."""
    found: dict[str, list[str]] = {}
    for name in header.tensors:
        part = next((part for part, prefixes in PARTS.items() if name.startswith(prefixes)), None)
        if part is not None:
            found.setdefault(part, []).append(name)
    return found if "denoiser" in found and len(found) > 1 else {"denoiser": list(header.tensors)}
