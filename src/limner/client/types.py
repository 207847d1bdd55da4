"""What goes in and what comes out: the options of a call, and jobs, progress, models and usage as plain data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Generic, Literal, TypedDict, TypeVar

from limner.client.errors import LimnerAPIError
from limner.client.images import Format, Picture

State = Literal["queued", "running", "done", "failed", "cancelled"]
Reference = str | bytes | os.PathLike[str]
"""A picture to go by: an http(s) URL or a data URL as a string, the bytes of a JPEG, PNG or WebP, or a path (not as a
string: `Path("girl.png")`)."""

PictureT = TypeVar("PictureT", bound=Picture)
"""`Image` where a `Client` made it, `AsyncImage` where an `AsyncClient` did."""


class Options(TypedDict, total=False):
    """What `generate` takes beside the prompt. What is left out, or None, is left to the server.

    Attributes:
        model: a name of `models()`; "image-01" by default.
        aspect_ratio: "1:1" (the default), "16:9", "4:3", "3:2", "2:3", "3:4", "9:16", "21:9"; on Limner servers any
            from 1:4 to 4:1.
        width, height: pixels, 512 to 2048, multiples of 8, both together and instead of aspect_ratio.
        n: how many pictures, 1 to 9; 1 by default.
        seed: int64; picture k is painted from seed + k. By default every picture gets a random one.
        references: a picture to go by, or several; files and bytes of at most 10 MB each.
        style: of image-01-live "漫画", "元气", "中世纪", "水彩", or {"style_type": ..., "style_weight": 0 to 1};
            otherwise (*) the name of a style that the model has, such as "storybook" or "watercolor".
        prompt_optimizer: expand the prompt first.
        watermark: draw a visible mark that says the picture is generated.
        steps: (*) evaluations of the denoiser, 1 to 200.
        guidance: (*) how hard to follow the words, 1 to 30.
        strength: (*) how far to leave the draft, 0 to 1.
        sampler: (*) "euler", "ddim", "heun", "dpm++2m", "multistep" or "lcm".
        negative_prompt: (*) what to stay away from.
        scene: (*) a scene to paint instead of planning one, as `Result.scene` has it.
        loras: (*) weights, -4 to 4, by the names of the model's LoRAs.
        mask: (*) where the first of `references` is repainted: where the mask is transparent. Given as a reference is.
        format: (*) of the files: "jpeg" (the default), "png" or "webp".
        idempotency_key: 1 to 255 visible ASCII characters under which this call is painted once, however often it is
            made; a fresh one by default.

    (*) Limner's own: with one of these the call goes to `POST /v1/pictures`, which only a Limner server has. Without,
    it goes to `POST /v1/image_generation`, which MiniMax's service has, too.
    """

    model: str | None
    aspect_ratio: str | None
    width: int | None
    height: int | None
    n: int | None
    seed: int | None
    references: Reference | Sequence[Reference] | None
    style: str | Mapping[str, Any] | None
    prompt_optimizer: bool | None
    watermark: bool | None
    steps: int | None
    guidance: float | None
    strength: float | None
    sampler: str | None
    negative_prompt: str | None
    scene: Mapping[str, Any] | None
    loras: Mapping[str, float] | None
    mask: Reference | None
    format: Format | None
    idempotency_key: str | None


class JobOptions(Options, total=False):
    """What `submit` and `progress` take: all of `Options`, and how the job is told of.

    Attributes:
        webhook_url: http or https URL that is told when the job has ended (docs/http.md, Webhooks).
        previews: let the job's events show how its pictures come along, where the model can.
    """

    webhook_url: str | None
    previews: bool | None


@dataclass(frozen=True, slots=True)
class Result(Generic[PictureT]):
    """What was painted.

    Attributes:
        id: of the call, which on a Limner server is the job's.
        images: the pictures, in the order of their seeds; at least one.
        failed: how many more were asked for and could not be painted.
        notes: sentences about what had no effect, or another than expected.
        scene: the first picture's, where the model plans one: change it and send it as `scene`.
    """

    id: str
    images: list[PictureT]
    failed: int = 0
    notes: tuple[str, ...] = ()
    scene: dict[str, Any] | None = None

    def __repr__(self) -> str:
        failed = f", failed={self.failed}" if self.failed else ""
        return f"Result({self.id!r}, images={self.images!r}{failed})"

    def _repr_html_(self) -> str | None:
        """The pictures side by side, where all are at hand; notebooks call it."""
        tags = [image._html(height=256 if len(self.images) > 1 else 512) for image in self.images]
        return None if None in tags else "".join(tag or "" for tag in tags)


@dataclass(frozen=True, slots=True)
class JobPicture:
    """One picture of a job."""

    state: State
    seed: int  # signed 64-bit: with n=1 it gives this picture again
    width: int  # pixels
    height: int
    step: int  # steps finished
    steps: int | None  # in all; None before the first was begun
    url: str | None  # once it is done
    bytes: int | None  # size of the file
    sha256: str | None  # of the file, hex
    error: LimnerAPIError | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was when the server was asked (docs/http.md, Jobs). Times are in UTC.

    Attributes:
        queue_place: how many pictures come before it while it is queued; None otherwise and in lists.
        step, steps: of all its pictures together; steps is None until it is known.
        cost: evaluations of the network, times tokens.
        request: what was asked for, by the names of `POST /v1/pictures`.
        document: the whole JSON, as it came.
    """

    id: str
    state: State
    model: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime
    queue_place: int | None
    step: int
    steps: int | None
    pictures: tuple[JobPicture, ...]
    cost: float
    scene: dict[str, Any] | None
    notes: tuple[str, ...]
    error: LimnerAPIError | None
    request: dict[str, Any]
    document: dict[str, Any] = field(compare=False)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state}>"

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    @property
    def prompt(self) -> str:
        """What was asked for, in words."""
        return str(self.request.get("prompt", ""))


@dataclass(frozen=True, slots=True)
class Progress(Generic[PictureT]):
    """How a job comes along.

    Attributes:
        job: the whole of it, as it is now; `job.id` is what `cancel` wants.
        previews: the latest preview of each picture so far, by its number from 0: small JPEGs.
        result: what was painted, on the last item; None before.
    """

    job: Job
    previews: Mapping[int, bytes] = field(default_factory=dict)
    result: Result[PictureT] | None = None

    def __repr__(self) -> str:
        step = f" {self.step}/{self.steps}" if self.steps else ""
        return f"<Progress {self.state}{step}>"

    @property
    def state(self) -> State:
        return self.job.state

    @property
    def queue_place(self) -> int | None:
        """How many pictures come before it, while it is queued."""
        return self.job.queue_place

    @property
    def step(self) -> int:
        """Steps finished, of all the job's pictures together."""
        return self.job.step

    @property
    def steps(self) -> int | None:
        """Steps in all; None until it is known."""
        return self.job.steps


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model of a Limner server can (`limner` in `GET /v1/models`)."""

    references: int = 0  # most in one call; 0: none
    mask: bool = False
    steps: int | None = None  # by default; None: it has no steps to choose
    guidance: float | None = None  # by default; None: it has none
    strength: bool = False
    samplers: tuple[str, ...] = ()
    negative_prompt: bool = False
    styles: tuple[str, ...] = ()
    live_styles: tuple[str, ...] = ()  # of image-01-live
    scene: bool = False  # takes a scene, and tells the one it planned
    free_size: bool = False  # takes width and height
    previews: bool = False
    prompt_chars: int | None = None  # of the longest prompt, code points
    reference_bytes: int | None = None  # of the largest file of a reference


@dataclass(frozen=True, slots=True)
class Model:
    """A model that calls may name. `abilities` is None where the server does not tell."""

    id: str
    owned_by: str = ""
    abilities: Abilities | None = None


@dataclass(frozen=True, slots=True)
class UsageDay:
    """What was used on one day of one model, by all keys of the caller's tenant."""

    day: date  # UTC
    model: str
    jobs: int  # that ended on this day
    images: int  # painted
    failed: int
    charged: int  # asked for on this day, and not given back: counts to quotas
    cost: float  # evaluations of the network times tokens
    bytes: int  # of the painted files


@dataclass(frozen=True, slots=True)
class Usage:
    """What the caller used, and what its key may use.

    Attributes:
        limits: of the key, by name (docs/http.md, `GET /v1/usage`); None: without limit.
        charged_today: pictures that count to today's quota.
        left_today: pictures that today's quota has left; None: no quota.
    """

    tenant: str
    first: date
    last: date
    days: tuple[UsageDay, ...]
    limits: dict[str, Any]
    charged_today: int
    left_today: int | None


Moment = datetime | str
"""A time: a datetime (a naive one is local time), or RFC 3339 text."""

Day = date | str
"""A day in UTC: a date, or text such as "2026-11-23"."""

States = State | Iterable[State]
