"""The nouns of the engine: what is asked for, what is computed together, what is told back.

One `Request` is one picture. A call for n pictures is n requests with seeds s, s+1, ..., so that picture k of seed s
is picture 0 of seed s+k. The engine's unit of work is one evaluation of the denoiser for one request.

Legend, used everywhere: B batch, N tokens, C channels, H×W pixels. In flow matching `t` is in [0, 1]: 1 is clean, 0 is
noise, as in its papers; diffusion models count timesteps the other way, from 0 to 999. Pixels are float32 in [-1, 1]
inside and uint8 outside.
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

SamplerName = Literal["euler", "ddim", "heun", "dpm++2m", "multistep", "lcm"]
"""A key of `samplers.SAMPLERS`."""

PredictionName = Literal["clean", "epsilon", "v_prediction", "flow_prediction"]
"""What a network's output means (`samplers.clean_from`); the last three as diffusers calls them."""

PREVIEW_SIDE = 256
"""Longest side of a preview, pixels."""

GuidanceName = Literal["plain", "norm-kept"]
"""How two predictions become one (`samplers.combined`)."""


@dataclass(frozen=True, slots=True)
class Level:
    """One noise level of a run (`levels` makes them).

    The sampler's latent there is `x = signal * clean + noise * eps` with eps standard normal, in coordinates in which
    dx/dnoise = (x - clean) / noise: signal is 1 - noise (flow matching) or 1 (diffusion). The network is shown
    `scale * x`.
    """

    t: float  # what the network is told: 1 - noise for flow matching, a timestep of the training for diffusion
    noise: float  # 0 and more
    signal: float  # 0 to 1
    scale: float = 1.0


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
    sampler: SamplerName | None = None  # None: the pipeline's own default
    negative_prompt: str | None = None  # what guidance leads away from; None: the empty prompt
    strength: float | None = None  # in [0, 1]: how far the picture may leave the draft; None: the default
    style: str | None = None  # a name of the pipeline's styles, or None to let the prompt decide
    style_weight: float = 1.0  # in (0, 1]: how strongly `style` shows
    references: tuple[UInt8, ...] = ()  # each (H, W, 4), straight alpha
    scene: dict[str, Any] | None = None  # a scene to paint instead of planning one from the prompt
    mask: UInt8 | None = None  # (height, width): 255 repaints the first reference, which is as large, and 0 keeps it
    loras: tuple[tuple[str, float], ...] = ()  # names of the model's LoRAs, and weights in [-4, 4]
    previews: bool = False  # show how it comes along, where the pipeline can; changes nothing of the picture


@dataclass(frozen=True, slots=True)
class Key:
    """What requests must have in common to share one evaluation."""

    model: str
    shape: tuple[int, ...]  # of one latent, without the batch axis
    tokens: int  # bucket of the conditioning's length
    loras: tuple[tuple[str, float], ...] = ()  # added to the weights for this evaluation


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What of a picture is known before it is painted: where `share` is 1, its clean latent is `clean`."""

    clean: Float32  # of `Key.shape`
    share: Float32  # 0 where it is painted freely to 1 where it is held; broadcasts against `clean`


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What a pipeline knows about a request before the first evaluation.

    `conditioning` and `unconditional` are opaque to the engine and come back in `Batch.conditioning`.
    `cost` is the price of one evaluation in arbitrary units that are comparable between requests (tokens, say), and
    `finish` that of decoding in the same unit, where it is large beside an evaluation.
    """

    key: Key
    levels: tuple[Level, ...]  # one more than steps
    guidance: float
    cost: float
    conditioning: Any
    unconditional: Any = None  # needed only where guidance != 1
    sampler: SamplerName = "multistep"
    guiding: GuidanceName = "plain"
    spread: float = 1.0  # what the initial noise is multiplied by
    plan: dict[str, Any] | None = None  # the scene that is being painted, as JSON
    detail: Any = None  # what decode needs: the draft, say
    notes: tuple[str, ...] = ()  # sentences about words that had no effect, and the like
    finish: float = 0.0
    held: Held | None = None  # where the request has a mask, the picture that it repaints a part of

    @property
    def steps(self) -> int:
        return len(self.levels) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One evaluation of the denoiser for B requests that share a key: x = signal * clean + noise * eps, row by row."""

    key: Key
    requests: tuple[Request, ...]  # B of them; with guidance a request may stand here twice
    x: Float32  # (B, *key.shape), as the network is shown it
    t: Float32  # (B,), what the network is told
    signal: Float32  # (B,)
    noise: Float32  # (B,)
    conditioning: tuple[Any, ...]  # B of them


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the request with this id. Exactly one of Done, Failed, Cancelled ends it."""

    id: str


@dataclass(frozen=True, slots=True)
class Queued(Event):
    ahead: int  # requests that were already in the engine


@dataclass(frozen=True, slots=True)
class Loading(Event):
    """The model is not in memory yet: the request waits until it is."""

    done: float  # 0 to 1, of the loading; 0 also before it begins


@dataclass(frozen=True, slots=True)
class Started(Event):
    steps: int
    notes: tuple[str, ...] = ()
    plan: dict[str, Any] | None = None  # the scene that is being painted, as JSON
    cost: float = 0.0  # of the whole picture: rows of an evaluation × evaluations × `Encoded.cost`


@dataclass(frozen=True, slots=True)
class Stepped(Event):
    step: int  # steps finished, 1 to steps
    steps: int
    preview: UInt8 | None = field(default=None, compare=False)  # (h, w, 3) up to PREVIEW_SIDE; none of the last step


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


@dataclass(frozen=True, slots=True)
class Activity:
    """What an engine has in hand of one model, and what it has done since it began."""

    waiting: int = 0  # requests accepted and not yet begun
    running: int = 0  # requests being painted
    evaluations: int = 0  # rows evaluated
    seconds: float = 0.0  # spent on them
