"""From the registry to what the engine loads: how, whether at the start, and how much memory each model takes where.

Sizes are of the weights as they are computed with, from their headers; nothing is read whole before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from limner.config import Settings
from limner.engine.pool import Pool, Progress, Source
from limner.errors import ModelUnusable
from limner.models import folder
from limner.models.registry import IMAGE, PAINTER, Model, Registry
from limner.pipelines.base import Pipeline

log = structlog.get_logger(__name__)

PAINTER_BYTES: Final = 200_000_000
"""By how much the process grows when the painter is loaded (196 MB, measured)."""

SHARE: Final = 0.8
"""Of the memory that is free at the start: what weights may take. The rest is for what is computed with them."""

BYTES: Final = {"f32": 4, "bf16": 2, "f16": 2, "int8": 1, "fp8": 1}


def pool(settings: Settings, models: Registry, only: str | None = None) -> Pool:
    """The pool of all models of the registry, or of the one named `only`.

    That one, or of all that of image-01, is loaded before anybody asks: the painter here, another by the engine, but
    its weights are checked here.

    Raises:
        InvalidRequest: there is no such model.
        ModelUnusable: what is to be loaded first is missing, corrupt or of a kind that cannot be painted with.
    """
    first = models.lookup(only or IMAGE)
    sources: dict[str, Source] = {}
    budget: dict[str, int] = {}
    for model in (first,) if only else models.models:
        if model.weights == PAINTER:
            sources[model.name] = Source(lambda _: _painter(settings), PAINTER_BYTES)
            budget.setdefault("cpu", _budget(settings, "cpu", _main_memory))
            continue
        try:
            device, size = _needs(model, settings, budget)
        except ModelUnusable as error:
            if model is first:
                raise
            log.warning("a model cannot be used", model=model.name, reason=error.message)
            device, size = "cpu", 0  # its requests are told why, and once it is mended it is loaded
        sources[model.name] = Source(_loader(model, settings), size, device, from_start=model is first)
    made = Pool(sources, budget)
    if first.weights == PAINTER:
        made.loaded(first.name, _painter(settings))
    return made


def _painter(settings: Settings) -> Pipeline:
    from limner.pipelines.painter import PainterPipeline  # late: it brings OpenVINO and Skia

    return PainterPipeline.load(threads=settings.threads)


def _loader(model: Model, settings: Settings) -> Callable[[Progress], Pipeline]:
    def load(progress: Progress) -> Pipeline:
        _torch()
        from limner.pipelines import families

        return families.load(model, settings.cache_dir(), settings.threads, progress)

    return load


def _needs(model: Model, settings: Settings, budget: dict[str, int]) -> tuple[str, int]:
    """The device of a model and the bytes that its weights take there; adds the device's budget where it is new."""
    found = folder.check_model(model)
    _torch()
    from limner.runtime.torch import device_of, precision_of, room

    device = device_of(model.device)
    place = f"cuda:{device.index or 0}" if device.type == "cuda" else str(device)
    budget.setdefault(place, _budget(settings, place, _main_memory if device.type == "cpu" else lambda: room(device)))
    usual = BYTES[precision_of(model.precision, device)]
    size = 0
    for part in found.parts:
        if part.precision.startswith("q"):  # GGUF's blocks stay as they are
            size += part.bytes
        elif part.name == found.family.denoiser and model.quantize is not None:
            size += part.parameters * BYTES[model.quantize]
        else:
            size += part.parameters * usual
    if device.type == "cuda" and settings.memory_gb is None:
        size = min(size, budget[place])  # what does not fit stays in main memory (runtime.torch.placed)
    return place, size


def _budget(settings: Settings, device: str, free: Callable[[], int]) -> int:
    """Bytes that all weights on a device may take together."""
    if settings.memory_gb is not None:
        return int(settings.memory_gb * 1e9)
    budget = int(SHARE * free())
    log.debug("memory for models", device=device, gigabytes=round(budget / 1e9, 1))
    return budget


def _main_memory() -> int:
    """Free bytes, those among them that hold copies of files."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 2**63 - 1  # a system that does not say: no bound but its own


def _torch() -> None:
    """Raises ModelUnusable where what real weights need is not installed."""
    try:
        import limner.runtime.torch  # noqa: F401 -- to see whether it can be
    except ImportError as error:
        raise ModelUnusable(
            f"Weights of one's own need the package {error.name}, which is not installed: pip install 'limner[torch]'."
        ) from None
