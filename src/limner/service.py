"""A call's whole life: check, read the references, paint, finish the picture, store it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

LiveStyle = Literal["漫画", "元气", "中世纪", "水彩"]


@dataclass(frozen=True, slots=True)
class Order:
    """What one call asks for, already of the right shape (the api checked types and ranges)."""

    prompt: str
    width: int  # pixels, 512 to 2048, a multiple of 8
    height: int
    model: Literal["image-01", "image-01-live"] = "image-01"
    n: int = 1  # 1 to 9
    seed: int | None = None  # int64 or uint64, taken modulo 2**64; None: every picture gets a random one
    live_style: LiveStyle | None = None
    live_style_weight: float = 0.8  # in (0, 1]
    references: tuple[str, ...] = ()  # URLs, data URLs or bare base64
    optimize_prompt: bool = False
    watermark: bool = False
    store: bool = False  # keep the picture for link_seconds and name it
    tenant: str = ""
    # Limner's own, which MiniMax's route does not carry:
    style: str | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    scene: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture."""

    data: bytes  # a JPEG file
    seed: int  # in [0, 2**64): with the same order and this seed, picture 0 is this picture
    width: int
    height: int
    name: str | None = None  # in the blob store, when the order said `store`; unguessable, ends in .jpeg


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order. `pictures` keep the order of their seeds; failed ones are left out and counted."""

    pictures: tuple[Picture, ...]
    failed: int
    notes: tuple[str, ...] = ()  # sentences about what had no effect, and why
    plan: dict[str, Any] | None = None  # the first picture's scene
