"""What one call asks for: as the api gives it, as the JSON that a job's row keeps, and as requests for the engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from limner import __version__, masks
from limner.config import Settings
from limner.engine.core import SEEDS, Request, SamplerName, UInt8
from limner.errors import InvalidRequest
from limner.imaging import Format
from limner.models.registry import IMAGE, LIVE, LIVE_STYLES, PAINTER, LiveStyle, Model, Registry

MOST_PICTURES: Final = 10
"""Most pictures of one call."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one call asks for; the api checked types and ranges."""

    prompt: str
    width: int  # pixels, 512 to 2048, a multiple of 8
    height: int
    model: str = IMAGE  # a name of the registry
    n: int = 1  # 1 to MOST_PICTURES
    seed: int | None = None  # int64 or uint64, taken modulo 2**64; None: every picture gets a random one
    live_style: LiveStyle | None = None
    live_style_weight: float = 0.8  # in (0, 1]
    references: tuple[str, ...] = ()  # URLs, data URLs or bare base64
    mask: bool = False  # the last reference is a mask (`masks`), and the first the picture that is repainted by it
    optimize_prompt: bool = False
    watermark: bool = False
    link: bool = False  # the answer is links, not bytes; decides nothing of the picture
    # Limner's own, which MiniMax's route does not carry:
    style: str | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    sampler: SamplerName | None = None
    negative_prompt: str | None = None
    loras: tuple[tuple[str, float], ...] = ()  # names and weights, -4 to 4
    scene: dict[str, Any] | None = None
    format: Format = "jpeg"
    quality: int | None = None  # 1 to 100, of a JPEG or WebP file; None: the operator's jpeg_quality
    webhook: str | None = None  # address that is told when the job has ended
    previews: bool = False  # show how the pictures come along, where the model can

    def to_json(self) -> dict[str, Any]:
        """All but the references, which a job keeps on their own."""
        return asdict(replace(self, references=()))

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Order:
        """The order of a row, of an earlier version too; raises TypeError where a later one wrote other fields."""
        loras = tuple((name, weight) for name, weight in fields.get("loras", ()))
        return cls(**{**fields, "loras": loras, "references": ()})


def signed(seed: int) -> int:
    """A seed in [0, 2**64) as the int64 that clients can send back and databases hold."""
    return seed - SEEDS if seed >= SEEDS // 2 else seed


def requests_of(
    order: Order,
    models: Registry,
    *,
    ids: Sequence[str],
    seeds: Sequence[int],
    subjects: tuple[UInt8, ...] = (),
    tenant: str = "",
    notes: dict[str, None] | None = None,
) -> list[Request]:
    """One engine request for each of `seeds`, in [0, 2**64); what has no effect is told in `notes`.

    Raises:
        InvalidRequest: the model has no such style, or the mask does not fit.
    """
    told: dict[str, None] = {} if notes is None else notes
    model = models.lookup(order.model)
    prompt, loras, style, weight = order.prompt, order.loras, order.style, 1.0
    if order.live_style is not None:
        if order.model in models.live:
            style, weight = LIVE_STYLES[order.live_style], order.live_style_weight
        else:
            told[f"A style_type is for {LIVE} alone and had no effect."] = None
    if style is not None and model.weights != PAINTER:
        prompt, loras, idle = _styled(model, style, weight, prompt, loras)
        style, weight = None, 1.0
        told |= dict.fromkeys(idle)
    mask = None
    if order.mask:
        *others, hidden = subjects
        picture, mask = masks.fitted(others[0], hidden, order.width, order.height)
        subjects = (picture, *others[1:])
    return [
        Request(
            id=request_id,
            prompt=prompt,
            seed=seed,
            width=order.width,
            height=order.height,
            model=model.name,
            tenant=tenant,
            steps=order.steps,
            guidance=order.guidance,
            strength=order.strength,
            sampler=order.sampler,
            negative_prompt=order.negative_prompt,
            style=style,
            style_weight=weight,
            loras=loras,
            references=subjects,
            mask=mask,
            scene=order.scene,
            previews=order.previews,
        )
        for request_id, seed in zip(ids, seeds, strict=True)
    ]


def _styled(
    model: Model, name: str, weight: float, prompt: str, loras: tuple[tuple[str, float], ...]
) -> tuple[str, tuple[tuple[str, float], ...], tuple[str, ...]]:
    """The prompt and the LoRAs with a style of a model that is not the painter, and what of it had no effect.

    Raises:
        InvalidRequest: the model has no such style.
    """
    style = model.style(name)
    if style is None:
        known = ", ".join(model.style_names)
        raise InvalidRequest(f"Model {model.name} has no style {name[:80]!r}; it has {known}.", "style")
    if style.phrase:
        prompt = f"{prompt}, {style.phrase}"
    if style.lora is None:
        note = f"The style {name} of model {model.name} is words behind the prompt: its weight had no effect."
        return prompt, loras, (note,) if weight != 1 else ()
    named = Path(style.lora.path).stem
    if named not in dict(loras):  # what the order says of it itself wins
        loras = (*loras, (named, style.lora.weight * weight))
    return prompt, loras, ()


def result_digest(order: Order, references: Sequence[bytes], fingerprint: str, policy: str, settings: Settings) -> str:
    """What decides the bytes of an order's pictures, as a digest: equal ones give equal files.

    `fingerprint` is of the weights, `policy` of what is refused.
    """
    decisive = order.to_json() | {
        "link": None,
        "webhook": None,
        "previews": None,
        "references": [hashlib.sha256(data).hexdigest() for data in references],
        "fingerprint": fingerprint,
        "policy": policy,
        "version": __version__,
        "quality": order.quality or settings.jpeg_quality,
        "mark": [settings.watermark_text, str(settings.watermark_font)] if order.watermark else None,
        "parameters": settings.parameters_in_metadata,
        "signed": settings.c2pa_certificate is not None,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def parameters_of(order: Order, seed: int, model: str, fingerprint: str | None) -> dict[str, str | int | float]:
    """How a picture was made, for its metadata."""
    asked = {
        "prompt": order.prompt,
        "negative_prompt": order.negative_prompt,
        "seed": seed,
        "model": model,
        "fingerprint": fingerprint,
        "steps": order.steps,
        "guidance": order.guidance,
        "strength": order.strength,
        "sampler": order.sampler,
        "style": order.style or order.live_style,
    }
    return {name: value for name, value in asked.items() if value is not None}
