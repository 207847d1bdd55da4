"""From a model's entry to its pipeline: what the weights are, where they run, and the family's class over them."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog
import torch

from limner.errors import LimnerError, ModelUnusable
from limner.models import folder
from limner.models.found import Found
from limner.models.registry import Model
from limner.pipelines.base import Pipeline
from limner.pipelines.parts import Conversion, Parts
from limner.runtime.torch import Precision, capacity, device_of, precision_of, sparing

log = structlog.get_logger(__name__)

ADAPTER = "ip_adapter"
"""A folder in a model's own that is its adapter, where the entry names none."""

CONVERTING = 8
"""Bytes of memory for each weight while a network is converted: in float32, and twice in 16 bits."""


def load(model: Model, cache: Path, threads: int = 0, progress: Callable[[float], None] = lambda _: None) -> Pipeline:
    """Load a model of real weights; `progress` is told how much of it is there, 0 to 1.

    Args:
        cache: folder of converted networks and checksums.
        threads: of the CPU; 0 takes all cores.

    Raises:
        ModelUnusable: the weights are missing, damaged or of a kind that cannot be painted with.
    """
    if threads:
        torch.set_num_threads(threads)
    found = folder.check_model(model)
    if model.first_block and found.family.kind != "Flux":
        raise ModelUnusable(f"{model.name} sets first_block, which FLUX.1 alone has. Take it out of the model's entry.")
    device = device_of(model.device)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what a model that was evicted left there
    sizes = {part.name: part.bytes for part in found.parts}
    there: set[str] = set()

    def loaded(part: str) -> None:
        there.add(part)
        progress(sum(sizes.get(part, 0) for part in there) / max(1, sum(sizes.values())))

    base, file = folder.places(found)
    if model.adapter is None and found.family.references == "adapter" and (base / ADAPTER).is_dir():
        model = replace(model, adapter=str(base / ADAPTER))
    weights = folder.fingerprint(found, cache)
    precision = precision_of(model.precision, device)
    conversion = _conversion(model, found, device, precision, cache, threads)
    # The entry's defaults and the arithmetic decide a picture beside the weights; names do not, and what an adapter and
    # LoRAs add, the family knows.
    unnamed = replace(model, name="", aliases=(), weights="", base=None, adapter=None, loras=(), styles=())
    entry = repr((unnamed, device.type, precision, conversion and conversion.arithmetic))
    parts = Parts(
        base,
        file=file,
        held={part.name for part in found.parts if file in part.files},
        device=str(device),
        precision=precision,
        conversion=conversion,
        # A first block's cache has a memory of its own for each request, which would be compiled for anew.
        compiling=cache if device.type == "cuda" and not model.first_block else None,
        quantize=model.quantize,
        checksum=weights,
        fingerprint=hashlib.sha256(f"{weights} {entry}".encode()).hexdigest()[:16],
        variants={part.name: part.variant for part in found.parts},
        loaded=loaded,
    )
    family = getattr(importlib.import_module(found.family.module), found.family.kind)
    try:
        pipeline: Pipeline = family(parts, model)
    except (LimnerError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # settings that no check knew to be wrong make it raise anything
        log.exception("a model could not be built", model=model.name)
        raise ModelUnusable(
            f"{base} cannot be painted with as a model of {found.family.name}: {type(error).__name__}, {error}. "
            "Copy the model's folder again, whole."
        ) from error
    for method in ("encode", "evaluate", "decode"):
        setattr(pipeline, method, sparing()(getattr(pipeline, method)))
    progress(1.0)
    return pipeline


def _conversion(
    model: Model, found: Found, device: torch.device, precision: Precision, cache: Path, threads: int
) -> Conversion | None:
    """How the networks are converted, or None where torch runs them.

    Raises:
        ModelUnusable: the entry asks for OpenVINO where it cannot serve.
    """
    by_torch = device.type != "cpu" or bool(model.first_block) or model.quantize == "fp8"
    if model.runtime == "openvino" and by_torch:
        raise ModelUnusable(
            f"The model {model.name} asks for the runtime openvino, which runs on the CPU, without fp8 weights "
            f"and first_block. Set its runtime to auto, or its device to cpu and leave these out."
        )
    if by_torch or model.runtime == "torch":
        return None
    needed = CONVERTING * max(part.parameters for part in found.parts if part.name in (found.family.denoiser, "vae"))
    if model.runtime == "auto" and needed > capacity(device):
        return None
    if model.quantize == "int8":
        return Conversion(cache, "int8", threads)
    return Conversion(cache, "f32" if precision == "f32" else "bf16", threads)
