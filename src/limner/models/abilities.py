"""What a model can do and how it is painted with by default, as its settings on disk say; no weights are read.

The pipelines decide; this says the same beforehand, for those who show controls. tests/test_abilities.py holds the two
against each other for every family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

from limner.engine.core import SamplerName
from limner.errors import ModelUnusable
from limner.models.folder import inspect
from limner.models.found import read_json
from limner.models.registry import PAINTER, Model
from limner.painter.scene import Style

ALL_SAMPLERS: Final[tuple[SamplerName, ...]] = get_args(SamplerName)
FLOW_SAMPLERS: Final[tuple[SamplerName, ...]] = ("euler", "heun", "multistep", "dpm++2m")
"""Those of `pipelines.flow`."""

ADAPTER: Final = "ip_adapter"
"""The folder of a model that holds its IP-Adapter, where its entry names none."""

ANY: Final = 1000
"""More references than any service takes: the family sets no bound."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What `POST /v1/pictures` takes for a model."""

    references: int = 0  # most of them; 0: none
    mask: bool = False  # whether a part of a picture can be repainted
    steps: int | None = None  # by default; None: not known before it is loaded
    guidance: float | None = None  # by default; None: it has none, or it is not known before it is loaded
    strength: bool = False
    samplers: tuple[SamplerName, ...] = ()
    negative_prompt: bool = False
    styles: tuple[str, ...] = ()
    scene: bool = False
    free_size: bool = True  # width and height, any multiples of 8 from 512 to 2048
    previews: bool = False


THE_PAINTER: Final = Abilities(
    references=8,
    mask=True,
    steps=2,
    guidance=1.0,
    strength=True,
    samplers=ALL_SAMPLERS,
    styles=get_args(Style),
    scene=True,
    previews=True,
)


def abilities(model: Model) -> Abilities:
    """What a model can do. Where its weights are missing or cannot be read: what its entry alone says.

    Reads some small files the first time.
    """
    try:
        known = _of_weights(model.weights, model.base, model.adapter is not None)
    except ModelUnusable:
        known = Abilities()
    if model.weights == PAINTER:
        return known
    guidance = known.guidance if model.guidance is None or known.guidance is None else model.guidance
    return replace(known, steps=model.steps or known.steps, guidance=guidance, styles=model.style_names)


def readable(model: Model) -> bool:
    """Whether what a model can do is known here: its weights are the painter's, or can be read on this machine."""
    try:
        return model.weights == PAINTER or bool(inspect(model.weights, model.base))
    except ModelUnusable:
        return False


@cache  # but for what it raises: weights that are missing may be there later
def _of_weights(weights: str, base: str | None, adapter: bool) -> Abilities:
    if weights == PAINTER:
        return THE_PAINTER
    found = inspect(weights, base)
    describe = FAMILIES.get(found.family.name)
    if describe is None or found.folder is None:
        return Abilities()
    try:
        known = describe(_Settings(found.folder, found.family.name, found.pipeline or "", weights))
    except (OSError, TypeError, ValueError):
        raise ModelUnusable("A settings file cannot be read. Copy the model's folder again, whole.") from None
    adapter = adapter or (found.folder / ADAPTER).is_dir()
    return replace(known, references=ANY) if adapter and found.family.references == "adapter" else known


@dataclass(frozen=True, slots=True)
class _Settings:
    """The small files of a model in diffusers' layout."""

    folder: Path
    family: str
    pipeline: str  # diffusers' class
    weights: str  # as the entry names them

    @property
    def index(self) -> Mapping[str, Any]:
        return read_json(self.folder / "model_index.json")

    def of(self, part: str) -> Mapping[str, Any]:
        kind = "scheduler_config.json" if part == "scheduler" else "config.json"
        return read_json(self.folder / part / kind)


def _stable_diffusion(model: _Settings) -> Abilities:
    noising, unet = model.of("scheduler"), model.of("unet")
    can = Abilities(mask=True, samplers=ALL_SAMPLERS, negative_prompt=True, previews=True)
    if unet.get("time_cond_proj_dim"):
        return replace(can, steps=4, guidance=8.0, negative_prompt=False)
    if noising.get("_class_name") == "LCMScheduler":
        return replace(can, steps=4, guidance=1.0)
    if named := re.search(r"(?<!\d)([1248])[-_ ]?steps?(?![a-z])", Path(model.weights).name.lower()):
        return replace(can, steps=int(named[1]), guidance=1.0)
    if noising.get("timestep_spacing") == "trailing" and not noising.get("rescale_betas_zero_snr"):
        return replace(can, steps=4, guidance=1.0)
    return replace(can, steps=25, guidance=5.0 if model.family == "stable-diffusion-xl" else 7.5)


_FLOW: Final = Abilities(mask=True, samplers=FLOW_SAMPLERS, negative_prompt=True)


def _stable_diffusion_3(model: _Settings) -> Abilities:
    transformer = model.of("transformer")
    steps, guidance = 28, 3.5 if transformer.get("qk_norm") else 7.0
    if transformer.get("dual_attention_layers"):
        steps, guidance = 40, 4.5
    if "turbo" in Path(model.weights).name.lower():
        steps, guidance = 4, 1.0
    return replace(_FLOW, steps=steps, guidance=guidance, previews=True)


def _flux(model: _Settings) -> Abilities:
    edits = model.pipeline == "FluxKontextPipeline"
    guided = bool(model.of("transformer").get("guidance_embeds"))
    usual = 2.5 if edits else 3.5 if guided else 1.0
    return replace(_FLOW, steps=28 if guided else 4, guidance=usual, references=ANY if edits else 0)


def _flux_2(model: _Settings) -> Abilities:
    can = replace(_FLOW, references=ANY)
    if model.index.get("is_distilled"):
        return replace(can, steps=4, negative_prompt=False)
    embedded = bool(model.of("transformer").get("guidance_embeds"))
    return replace(can, steps=28 if embedded else 50, guidance=4.0, negative_prompt=not embedded)


def _qwen_image(model: _Settings) -> Abilities:
    most = {"QwenImageEditPipeline": 1, "QwenImageEditPlusPipeline": ANY}.get(model.pipeline, 0)
    return replace(_FLOW, steps=50, guidance=4.0, references=most)


def _z_image(model: _Settings) -> Abilities:
    noising = model.of("scheduler")
    turbo = not noising.get("use_dynamic_shifting") and float(noising.get("shift", 1.0)) <= 3.0
    return replace(_FLOW, steps=8 if turbo else 50, guidance=1.0 if turbo else 5.0, previews=True)


FAMILIES: Final[dict[str, Callable[[_Settings], Abilities]]] = {
    "stable-diffusion": _stable_diffusion,
    "stable-diffusion-xl": _stable_diffusion,
    "stable-diffusion-3": _stable_diffusion_3,
    "flux": _flux,
    "flux-2": _flux_2,
    "qwen-image": _qwen_image,
    "z-image": _z_image,
}
"""By the family's name. What diffusers' own pipelines take is known only once they are loaded."""
