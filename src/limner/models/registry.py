"""Which models there are: names, the weights behind them, and how each is painted with by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from limner.engine.core import SamplerName

Precision = Literal["auto", "f32", "bf16", "f16"]
Runtime = Literal["auto", "torch", "openvino"]


@dataclass(frozen=True, slots=True)
class Model:
    """One model, as the operator describes it. None is the family's own choice."""

    name: str
    weights: str  # a folder in diffusers' layout, a .safetensors or .gguf file, or a hub's name
    base: str | None = None  # folder or hub's name of what a single file lacks: text encoders, tokenizers, settings
    aliases: tuple[str, ...] = ()
    steps: int | None = None
    guidance: float | None = None
    sampler: SamplerName | None = None
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    precision: Precision = "auto"  # of the arithmetic
    quantize: Literal["int8", "fp8"] | None = None  # of the denoiser's weights
    runtime: Runtime = "auto"
    batch: int | None = None  # most evaluations together; 1 is exact
    adapter: str | None = None  # IP-Adapter's weights, for families that take references by one
    reference_strength: float = 0.6  # 0 to 1, of an adapter
