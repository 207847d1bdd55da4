"""The nouns of the engine: what is asked for, what is computed together, what is told back.

One `Request` is one picture. A call for n pictures is n requests with seeds s, s+1, ..., so that picture k of seed s
is picture 0 of seed s+k. The engine's unit of work is one evaluation of the denoiser for one request.

Legend, used everywhere: B batch, N tokens, C channels, H×W pixels. `t` is in [0, 1]: 1 is clean, 0 is noise, as in the
flow-matching papers. Pixels are float32 in [-1, 1] inside and uint8 outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

SEEDS = 2**64
"""Seeds wrap at this number: a signed 64-bit seed and its two's complement are the same seed."""

RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, SEEDS - 1),
    "steps": (1, 200),
    "guidance": (1.0, 30.0),
    "strength": (0.0, 1.0),
}
"""Least and greatest value of these fields of a `Request`; None, where a field allows it, is the pipeline's default."""

SamplerName = Literal["euler", "heun", "multistep"]
"""A key of `samplers.SAMPLERS`."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One picture to paint. Compared by identity; `id` is unique within a process."""

    id: str
    prompt: str
    seed: int  # in [0, SEEDS)
    width: int  # pixels of the finished picture
    height: int
    model: str = "image-01"
    tenant: str = ""
    steps: int | None = None  # None: the pipeline's own default
    guidance: float | None = None  # 1 means no guidance; None: the pipeline's own default
    strength: float | None = None  # in [0, 1]: how far the picture may leave the draft; None: the default
    style: str | None = None  # a name of the pipeline's styles, or None to let the prompt decide
    style_weight: float = 1.0  # in (0, 1]: how strongly `style` shows
    references: tuple[UInt8, ...] = ()  # each (H, W, 4), straight alpha
    scene: dict[str, Any] | None = None  # a scene to paint instead of planning one from the prompt


@dataclass(frozen=True, slots=True)
class Key:
    """What requests must have in common to share one evaluation."""

    model: str
    shape: tuple[int, ...]  # of one latent, without the batch axis
    tokens: int  # bucket of the conditioning's length


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What a pipeline knows about a request before the first evaluation.

    `conditioning` and `unconditional` are opaque to the engine and come back in `Batch.conditioning`.
    `cost` is the price of one evaluation in arbitrary units that are comparable between requests (tokens, say).
    """

    key: Key
    steps: int
    guidance: float
    cost: float
    conditioning: Any
    unconditional: Any = None  # needed only where guidance != 1
    sampler: SamplerName = "multistep"
    shift: float = 1.0  # above 0; more than 1 spends more of the steps in noise (samplers.schedule)
    plan: dict[str, Any] | None = None  # the scene that is being painted, as JSON
    detail: Any = None  # what decode needs: the draft, say
    notes: tuple[str, ...] = ()  # sentences about words that had no effect, and the like


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One evaluation of the denoiser for B requests that share a key."""

    key: Key
    requests: tuple[Request, ...]  # B of them; with guidance a request may stand here twice
    x: Float32  # (B, *key.shape)
    t: Float32  # (B,)
    conditioning: tuple[Any, ...]  # B of them


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the request with this id. Exactly one of Done, Failed, Cancelled ends it."""

    id: str


@dataclass(frozen=True, slots=True)
class Queued(Event):
    ahead: int  # requests that were already in the engine


@dataclass(frozen=True, slots=True)
class Started(Event):
    steps: int
    notes: tuple[str, ...] = ()
    plan: dict[str, Any] | None = None  # the scene that is being painted, as JSON


@dataclass(frozen=True, slots=True)
class Stepped(Event):
    step: int  # steps finished, 1 to steps
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Done(Event):
    pixels: UInt8  # (height, width, 3), exactly as asked for
    seconds: dict[str, float] = field(default_factory=dict)  # spent in encode, evaluate, decode


@dataclass(frozen=True, slots=True)
class Failed(Event):
    error: Exception


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    pass


ENDINGS = (Done, Failed, Cancelled)
