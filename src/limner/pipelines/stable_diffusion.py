"""Stable Diffusion 1, 2, Turbo and LCM: CLIP's text, a convolutional denoiser of noise or velocity.

Rombach et al. 2022, arXiv:2112.10752; Turbo: Sauer et al. 2023, arXiv:2311.17042; LCM: Luo et al. 2023,
arXiv:2310.04378. What SDXL shares with it are functions here.

A model's own settings say how it is painted with by default (`usual`):

    the scheduler's class is LCM's, or the denoiser embeds guidance   lcm, 4 steps; guidance 8 if embedded, else none
    a number of steps in the weights' name, as Lightning has it       euler, that many steps, trailing, no guidance
    trailing spacing, as Turbo has it, and noise that is not all      euler, 4 steps, no guidance
    else                                                              dpm++2m, 25 steps, the family's guidance
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.engine import levels, samplers
from limner.engine.core import Batch, Encoded, Float32, Held, Key, Request, SamplerName, UInt8
from limner.errors import InvalidRequest, ModelUnusable
from limner.models.registry import Model
from limner.pipelines import clip
from limner.pipelines.base import rehearse
from limner.pipelines.ip_adapter import Adapter
from limner.pipelines.latents import (
    Conditioning,
    check,
    chosen,
    further,
    held,
    padded,
    preview,
    stacked,
    to_array,
    to_pixels,
    to_tensor,
    unguided,
)
from limner.pipelines.lora import Chosen, Loras
from limner.pipelines.parts import Network, Parts, Wrap
from limner.runtime.torch import tiling

PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v_prediction", "sample": "clean"}
"""What the scheduler's settings call a network's output, and what we do."""


class StableDiffusion:
    """Stable Diffusion 1 and 2, with an IP-Adapter where the model's entry names one."""

    name = "stable-diffusion"

    def __init__(self, parts: Parts, model: Model) -> None:
        self._runs = Runs(parts, model, "Stable Diffusion", guidance=7.5)
        self.max_batch, self.fingerprint = parts.max_batch(model), self._runs.fingerprint
        self._tokenizer, self._text = parts.tokenizer(), parts.module("text_encoder")
        self._skipped = parts.index.get("clip_skip") or 0
        text = parts.config("unet")["cross_attention_dim"]
        self._decoded = decoder(parts)
        self._denoiser = self._runs.denoiser(
            lambda: {"encoder_hidden_states": torch.zeros(1, 77, text)}, self._rehearse
        )

    @torch.inference_mode()
    def encode(self, request: Request) -> Encoded:
        """Read the prompts and the references. Raises InvalidRequest for what this family cannot do."""
        run = self._runs.of(request)
        read = clip.windows(self._tokenizer, run.prompts)
        with self._runs.loras.applied(run.loras):
            return run.encoded([{"encoder_hidden_states": self._states(tokens)} for tokens in read])

    @torch.inference_mode()
    def evaluate(self, batch: Batch) -> Float32:
        """The clean latents, (B, 4, H/8, W/8)."""
        return self._runs.evaluated(self._denoiser, batch)

    @torch.inference_mode()
    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return to_pixels(self._decoded(x), request.width, request.height)

    @torch.inference_mode()
    def preview(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return preview(self._decoded, x, request, self._runs.cell)

    def _rehearse(self, denoiser: Network) -> None:
        self._denoiser = denoiser
        rehearse(self, 64 * self._runs.cell)

    def _states(self, tokens: Tensor) -> Tensor:
        """The text encoder's states, (K * 77, C), of K windows: the last, or with clip_skip those of a layer before."""
        output = self._text(tokens.to(self._text.device), output_hidden_states=bool(self._skipped))
        if not self._skipped:
            return clip.joined(output[0])
        states = output.hidden_states[-(self._skipped + 1)]
        return clip.joined(getattr(self._text, "text_model", self._text).final_layer_norm(states))


@dataclass(frozen=True, slots=True)
class Usual:
    """How a model is painted with where nobody says otherwise."""

    sampler: SamplerName
    steps: int
    guidance: float


def usual(noising: Mapping[str, Any], unet: Mapping[str, Any], weights: str, guidance: float) -> Usual:
    """The defaults that the settings of scheduler and denoiser and the weights' name say; see above for the rules."""
    if noising.get("_class_name") == "LCMScheduler" or unet.get("time_cond_proj_dim"):
        return Usual("lcm", 4, 8.0 if unet.get("time_cond_proj_dim") else 1.0)
    if steps := named_steps(weights):
        return Usual("euler", steps, 1.0)
    if noising.get("timestep_spacing") == "trailing" and not noising.get("rescale_betas_zero_snr"):
        return Usual("euler", 4, 1.0)
    return Usual("dpm++2m", 25, guidance)


def named_steps(weights: str) -> int | None:
    """The number of steps that the weights' name says they are for: 8 of sdxl_lightning_8step_unet.safetensors."""
    found = re.search(r"(?<!\d)([1248])[-_ ]?steps?(?![a-z])", Path(weights).name.lower())
    return int(found[1]) if found else None


class Runs:
    """The denoising of Stable Diffusion and SDXL alike: levels, sizes, guidance and references of one model."""

    def __init__(self, parts: Parts, model: Model, family: str, guidance: float) -> None:
        self._parts, self._model, self._family = parts, model, family
        self._unet = parts.config("unet")
        self._noising = parts.config("scheduler")
        if named_steps(model.weights):
            self._noising |= {"timestep_spacing": "trailing"}
        kind = self._noising.get("prediction_type", "epsilon")
        if kind not in PREDICTIONS:
            raise ModelUnusable(f"{parts.folder} predicts {kind!r}, which is not known; {', '.join(PREDICTIONS)} are.")
        self._prediction: Any = PREDICTIONS[kind]
        self._usual = usual(self._noising, self._unet, model.weights, guidance)
        self.cell = 2 ** (len(parts.config("vae")["block_out_channels"]) - 1)  # pixels along a side of a latent's cell
        self._multiple = self.cell * 2 ** (len(self._unet["block_out_channels"]) - 1)
        self._adapter = Adapter(Path(model.adapter), parts, model.reference_strength) if model.adapter else None
        self.loras = Loras(parts, model)
        self._encoded = encoder(parts)
        beside = self._adapter.fingerprint if self._adapter else ""
        whole = f"{parts.fingerprint} {beside} {self.loras.fingerprint}"
        self.fingerprint = hashlib.sha256(whole.encode()).hexdigest()[:16]

    def denoiser(self, text: Callable[[], dict[str, Tensor]], calibrate: Callable[[Network], None]) -> Network:
        """The denoiser. `text` makes what it is told of a typical prompt, with a batch axis."""

        def example() -> dict[str, Tensor]:
            told = {name: value[None] for name, value in self._beside(Request("", "", 0, 512, 512), 1.0)[0].items()}
            latent = torch.zeros(1, self._unet["in_channels"], 64, 64)
            return {"sample": latent, "timestep": torch.tensor([999.0])} | text() | told

        def wrap(unet: nn.Module) -> nn.Module:
            return ByName(self._adapter.attach(unet) if self._adapter else unet)

        adds = Wrap(wrap, self._adapter.fingerprint if self._adapter else "")
        return self.loras.network("unet", example, wrap=adds, calibrate=calibrate)

    def of(self, request: Request) -> Run:
        """What of a request is not its prompt's business. Raises InvalidRequest for what cannot be done."""
        check(request, self._family, references=self._adapter is not None)
        sampler = chosen(request.sampler, self._model.sampler, self._usual.sampler)
        steps = chosen(request.steps, self._model.steps, self._usual.steps)
        try:
            run = levels.diffusion(self._noising, steps, sampler)
        except ValueError as error:
            raise InvalidRequest(f"This run cannot be made: {error}.") from None
        width, height = padded(request.width, request.height, self._multiple)
        guidance = chosen(request.guidance, self._model.guidance, self._usual.guidance)
        return Run(
            request=request,
            width=width,
            height=height,
            shape=(self._unet["in_channels"], height // self.cell, width // self.cell),
            levels=run,
            sampler=sampler,
            spread=levels.spread(run, self._noising, sampler),
            guidance=1.0 if self._unet.get("time_cond_proj_dim") else guidance,
            beside=self._beside(request, guidance),
            loras=self.loras.chosen(request),
            held=held(request, width, height, self._encoded),
        )

    def evaluated(self, denoiser: Network, batch: Batch) -> Float32:
        """The clean latents of a batch."""
        device = self._parts.device
        with self.loras.applied(batch.key.loras):
            output = denoiser(
                sample=to_tensor(batch.x, device), timestep=to_tensor(batch.t, device), **stacked(batch.conditioning)
            )
        clean: Float32 = samplers.clean_from(self._prediction, to_array(output), batch)
        return clean

    def _beside(self, request: Request, guidance: float) -> tuple[Conditioning, Conditioning]:
        """What the denoiser is told beside the text: with guidance's prompt, and without."""
        width = self._unet.get("time_cond_proj_dim")
        embedded = {"timestep_cond": embedded_guidance(guidance, width)} if width else {}
        shown = self._adapter.conditioning(further(request)) if self._adapter else ({}, {})
        return embedded | dict(shown[0]), embedded | dict(shown[1])


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One request's way, but for the text."""

    request: Request
    width: int  # padded, pixels
    height: int
    shape: tuple[int, int, int]  # of the latent
    levels: levels.Levels
    sampler: SamplerName
    spread: float
    guidance: float  # by two predictions; 1 also where the denoiser embeds it
    beside: tuple[Conditioning, Conditioning]
    loras: Chosen
    held: Held | None

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts to be read: the request's, and with guidance what it leads away from."""
        return (self.request.prompt, self.request.negative_prompt or "")[: 1 if self.guidance == 1 else 2]

    def encoded(self, told: list[Conditioning]) -> Encoded:
        """The whole, with what the denoiser is told of each of `prompts`."""
        rows = [dict(text) | dict(beside) for text, beside in zip(told, self.beside, strict=False)]
        tokens = sum(len(rows[0][name]) for name in ("encoder_hidden_states", "image_tokens") if name in rows[0])
        notes = unguided(self.request, self.guidance)
        if notes and "timestep_cond" in self.beside[0]:
            notes = ("The negative prompt has no effect: this model guides itself, away from no words.",)
        return Encoded(
            key=Key(self.request.model, self.shape, tokens, self.loras),
            levels=self.levels,
            guidance=self.guidance,
            cost=float(self.shape[1] * self.shape[2]),
            conditioning=rows[0],
            unconditional=rows[1] if len(rows) > 1 else None,
            sampler=self.sampler,
            spread=self.spread,
            notes=notes,
            held=self.held,
        )


class ByName(nn.Module):
    """The denoiser, taking each of its inputs as a tensor with a name."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, return_dict: bool = False, **more: Tensor
    ) -> tuple[Tensor]:
        """The arguments of diffusers' network, with text_embeds, time_ids, image_tokens and strength among them."""
        added = {name: more.pop(name) for name in ("text_embeds", "time_ids") if name in more}
        seen = {name: more.pop(name) for name in ("image_tokens", "strength") if name in more}
        output: tuple[Tensor] = self.unet(
            sample, timestep, encoder_hidden_states, added_cond_kwargs=added or None,
            cross_attention_kwargs=seen or None, return_dict=False, **more,
        )  # fmt: skip
        return output


def embedded_guidance(guidance: float, width: int) -> Tensor:
    """Guidance as a denoiser that embeds it takes it, (width,): sines and cosines, as times are (Luo et al. 2023)."""
    half = width // 2
    rates = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = (guidance - 1) * 1000 * rates
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()]), (0, width % 2))


def decoder(parts: Parts) -> Callable[[Float32], Tensor]:
    """What makes a picture, (3, H, W) in [-1, 1], of a clean latent, (C, h, w): an AutoencoderKL or AutoencoderTiny."""
    config = parts.config("vae")
    name = "x" if parts.index["vae"][1] == "AutoencoderTiny" else "z"
    if parts.dtype == torch.float16 and config.get("force_upcast"):  # SDXL's activations leave float16's range
        vae = parts.module("vae").float()

        def network(**given: Tensor) -> Tensor:
            picture: Tensor = vae.decode(**given, return_dict=False)[0]
            return picture
    else:
        network = parts.network(
            "vae", lambda: {name: torch.zeros(1, config.get("latent_channels", 4), 64, 64)}, "decode"
        )
    scale, shift = _normal(parts)

    def decoded(x: Float32) -> Tensor:
        return network(**{name: to_tensor(x[None], parts.device) / scale + shift})[0]

    return decoded


def encoder(parts: Parts) -> Callable[[Tensor], Tensor]:
    """What makes a clean latent, (C, h, w), of a picture, (3, H, W) in [-1, 1]: `decoder`'s other half.

    Its weights are loaded when it is first called, where the decoder has been converted and few will ask for it.
    """
    scale, shift = _normal(parts)
    precise = parts.dtype == torch.float16 and parts.config("vae").get("force_upcast")  # as for the decoder

    def encoded(picture: Tensor) -> Tensor:
        vae = parts.module("vae").float() if precise else parts.module("vae")
        tiling(vae, picture.shape[1] * picture.shape[2], parts.device)
        latent: Tensor = (latent_of(vae, picture) - shift) * scale
        return latent

    return encoded


def latent_of(vae: Any, picture: Tensor) -> Tensor:
    """What an autoencoder makes of a picture, (3, ..., H, W) in [-1, 1]: its distribution's mode, (C, ..., h, w)."""
    found = vae.encode(picture[None].to(vae.device, vae.dtype), return_dict=False)[0]
    latent: Tensor = (found if isinstance(found, Tensor) else found.mode())[
        0
    ].float()  # AutoencoderTiny knows it at once
    return latent


def _normal(parts: Parts) -> tuple[Any, Any]:
    """Scale and shift of what the denoiser sees of an autoencoder's latent: (latent - shift) * scale."""
    config = parts.config("vae")
    scale, shift = config.get("scaling_factor", 1.0), config.get("shift_factor") or 0.0
    mean, deviation = (config.get(f"latents_{name}") for name in ("mean", "std"))
    if mean is not None and deviation is not None:
        scale = scale / torch.tensor(deviation, device=parts.device).view(-1, 1, 1)
        shift = torch.tensor(mean, device=parts.device).view(-1, 1, 1)
    return scale, shift
