"""The families of models that Limner paints with, by the class that a model's `model_index.json` names.

Plain data: nothing here imports what it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

References = Literal["tokens", "adapter"]
"""How reference pictures are read: as tokens beside the picture's own, or by an IP-Adapter that the entry names."""


@dataclass(frozen=True, slots=True)
class Family:
    """What stands behind one of diffusers' pipeline classes."""

    name: str
    module: str  # of limner.pipelines
    kind: str  # the class in it, called with (Parts, Model)
    about: str
    denoiser: str = "transformer"  # the part that a single file replaces
    references: References | None = None
    side: int = 1024  # pixels of the square that it was trained on
    steps: int | None = None  # usual; a distilled model of the family takes fewer
    guidance: float | None = None  # usual; 1 is none, as distilled models take


_FLUX = ("flux", "limner.pipelines.flux", "Flux")
_FLUX2 = ("flux-2", "limner.pipelines.flux2", "Flux2")
_QWEN = ("qwen-image", "limner.pipelines.qwen_image", "QwenImage")

FAMILIES: Final[dict[str, Family]] = {
    "StableDiffusionPipeline": Family(
        "stable-diffusion", "limner.pipelines.stable_diffusion", "StableDiffusion",
        "Stable Diffusion 1, 2 and Turbo: a convolutional denoiser with CLIP's text", "unet", "adapter", 512, 25, 7.5,
    ),
    "LatentConsistencyModelPipeline": Family(
        "stable-diffusion", "limner.pipelines.stable_diffusion", "StableDiffusion",
        "a latent consistency model: Stable Diffusion 1 in a few steps", "unet", "adapter", 512, 4, 8.0,
    ),
    "StableDiffusionXLPipeline": Family(
        "stable-diffusion-xl", "limner.pipelines.stable_diffusion_xl", "StableDiffusionXL",
        "Stable Diffusion XL, Turbo and Lightning: two CLIPs, a larger denoiser", "unet", "adapter", 1024, 25, 5.0,
    ),
    "StableDiffusion3Pipeline": Family(
        "stable-diffusion-3", "limner.pipelines.stable_diffusion_3", "StableDiffusion3",
        "Stable Diffusion 3 and 3.5: a transformer with flow matching, two CLIPs and T5", steps=28, guidance=7.0,
    ),
    "FluxPipeline": Family(
        *_FLUX, "FLUX.1 schnell and dev: a transformer with flow matching, CLIP and T5", steps=28, guidance=3.5,
    ),
    "FluxKontextPipeline": Family(
        *_FLUX, "FLUX.1 Kontext: FLUX.1 that edits the picture it is given", references="tokens", steps=28,
        guidance=2.5,
    ),
    "Flux2Pipeline": Family(
        *_FLUX2, "FLUX.2 dev: a transformer with flow matching that reads words with Mistral", references="tokens",
        steps=28, guidance=4.0,
    ),
    "Flux2KleinPipeline": Family(
        *_FLUX2, "FLUX.2 klein: a small FLUX.2 that reads words with Qwen3", references="tokens", steps=4, guidance=1.0,
    ),
    "QwenImagePipeline": Family(
        *_QWEN, "Qwen-Image: a transformer with flow matching that writes text well", side=1328, steps=50, guidance=4.0,
    ),
    "QwenImageEditPipeline": Family(
        *_QWEN, "Qwen-Image-Edit: Qwen-Image that edits the picture it is given", references="tokens", steps=50,
        guidance=4.0,
    ),
    "QwenImageEditPlusPipeline": Family(
        *_QWEN, "Qwen-Image-Edit 2509 and later: edits several pictures together", references="tokens", steps=50,
        guidance=4.0,
    ),
    "ZImagePipeline": Family(
        "z-image", "limner.pipelines.z_image", "ZImage",
        "Z-Image and Turbo: one stream of words and picture, read with Qwen3", steps=50, guidance=5.0,
    ),
}  # fmt: skip


def family_of(pipeline: str) -> Family:
    """The family of one of diffusers' pipeline classes; any-diffusers where there is none of our own."""
    return FAMILIES.get(pipeline) or Family(
        "any-diffusers",
        "limner.pipelines.any_diffusers",
        "AnyDiffusers",
        f"{pipeline}, painted by diffusers' own pipeline: one request at a time, with its own steps alone",
    )
