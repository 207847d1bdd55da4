"""SDXL, its Turbo and Lightning: two texts of CLIP, and sizes that the denoiser is told of.

Podell et al. 2023, arXiv:2307.01952; Turbo: Sauer et al. 2023, arXiv:2311.17042; Lightning: Lin et al. 2024,
arXiv:2402.13929. Defaults as in stable_diffusion.py, which it shares the denoising with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limner.engine.core import Batch, Encoded, Float32, Request, UInt8
from limner.models.registry import Model
from limner.pipelines import clip
from limner.pipelines.base import rehearse
from limner.pipelines.latents import Conditioning, preview, to_pixels
from limner.pipelines.parts import Network, Parts
from limner.pipelines.stable_diffusion import Runs, decoder


class StableDiffusionXL:
    """SDXL's base model and what is made of it, with an IP-Adapter where the model's entry names one."""

    name = "stable-diffusion-xl"

    def __init__(self, parts: Parts, model: Model) -> None:
        self._runs = Runs(parts, model, "SDXL", guidance=5.0)
        self.max_batch, self.fingerprint = parts.max_batch(model), self._runs.fingerprint
        self._tokenizers = [parts.tokenizer(name) for name in ("tokenizer", "tokenizer_2")]
        self._texts = [parts.module(name) for name in ("text_encoder", "text_encoder_2")]
        self._zeros = parts.index.get("force_zeros_for_empty_prompt", True)
        self._device = parts.device
        text, pooled = parts.config("unet")["cross_attention_dim"], parts.config("text_encoder_2")["projection_dim"]
        self._denoiser = self._runs.denoiser(
            lambda: {
                "encoder_hidden_states": torch.zeros(1, 77, text),
                "text_embeds": torch.zeros(1, pooled),
                "time_ids": torch.zeros(1, 6, dtype=torch.int64),
            },
            self._rehearse,
        )
        self._decoded = decoder(parts)

    @torch.inference_mode()
    def encode(self, request: Request) -> Encoded:
        """Read the prompts and the references. Raises InvalidRequest for what this family cannot do."""
        run = self._runs.of(request)
        windows = [clip.windows(tokenizer, run.prompts) for tokenizer in self._tokenizers]
        with self._runs.loras.applied(run.loras):
            told = [self._told(tokens) for tokens in zip(*windows, strict=True)]
        if len(told) == 2 and request.negative_prompt is None and self._zeros:
            told[1] = {name: torch.zeros_like(value) for name, value in told[0].items()}
        # The size of a picture, the corner that is seen of it, and the size that is painted.
        sizes = torch.tensor([run.height, run.width, 0, 0, run.height, run.width], device=self._device)
        return run.encoded([{**text, "time_ids": sizes} for text in told])

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

    def _told(self, windows: tuple[Tensor, ...]) -> Conditioning:
        """Both encoders' states before their last layer, side by side, and the second's reading of the first window."""
        outputs = [
            encoder(tokens.to(self._device), output_hidden_states=True)
            for encoder, tokens in zip(self._texts, windows, strict=True)
        ]
        states = torch.cat([clip.joined(output.hidden_states[-2]) for output in outputs], dim=-1)
        return {"encoder_hidden_states": states, "text_embeds": outputs[1][0][0]}
