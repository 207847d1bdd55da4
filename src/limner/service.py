"""A call's whole life: check, read the references, paint, finish the picture, store it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from limner import imaging, prompts, references
from limner.backends.base import Backend
from limner.config import Settings
from limner.engine.core import SEEDS, Cancelled, Done, Event, Failed, Request, SamplerName, Started, UInt8
from limner.engine.pool import Pool
from limner.errors import Busy, EngineFailed, InvalidRequest, LimnerError, ReferenceRefused, SettingsInvalid, TimedOut
from limner.models import entries
from limner.models.registry import IMAGE, LIVE, LIVE_STYLES, PAINTER, LiveStyle, Model
from limner.storage.blobs import Blobs, new_name

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """What one call asks for, already of the right shape (the api checked types and ranges)."""

    prompt: str
    width: int  # pixels, 512 to 2048, a multiple of 8
    height: int
    model: str = IMAGE  # a name of the registry
    n: int = 1  # 1 to 9
    seed: int | None = None  # int64 or uint64, taken modulo 2**64; None: every picture gets a random one
    live_style: LiveStyle | None = None
    live_style_weight: float = 0.8  # in (0, 1]
    references: tuple[str, ...] = ()  # URLs, data URLs or bare base64
    optimize_prompt: bool = False
    watermark: bool = False
    store: bool = False  # keep the picture, a JPEG, for link_seconds and name it
    tenant: str = ""
    # Limner's own, which MiniMax's route does not carry:
    style: str | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    sampler: SamplerName | None = None
    negative_prompt: str | None = None
    loras: tuple[tuple[str, float], ...] = ()  # names and weights, -4 to 4
    scene: dict[str, Any] | None = None
    format: imaging.Format = "jpeg"

    def __post_init__(self) -> None:
        if self.store and self.format != "jpeg":
            raise ValueError("pictures are stored as JPEG; other formats are made of it when they are asked for")


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture."""

    data: bytes  # a file of the order's format
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


class _Course:
    """How far the pictures of one order have come, by their number."""

    def __init__(self) -> None:
        self.pictures: dict[int, Picture] = {}
        self.failures: dict[int, LimnerError] = {}
        self.plans: dict[int, dict[str, Any]] = {}
        self.notes: dict[str, None] = {}  # a set that keeps its order

    def outcome(self, n: int, seconds: float) -> Outcome:
        """What is ready, or the first error where nothing is."""
        if self.pictures:
            first = min(self.pictures)
            pictures = tuple(picture for _, picture in sorted(self.pictures.items()))
            return Outcome(pictures, n - len(pictures), tuple(self.notes), self.plans.get(first))
        if self.failures:
            raise self.failures[min(self.failures)]
        raise TimedOut(f"No picture was ready within {seconds:g} seconds. Try again, with fewer or smaller pictures.")


class Service:
    """Fills orders. Belongs to one event loop; `close` it when done.

    Attributes:
        blobs: the stored pictures.
        models: that an order may name.
        closed: whether `close` was called; no orders are taken then.
    """

    def __init__(self, settings: Settings, backend: Backend, blobs: Blobs) -> None:
        self.settings = settings
        self.backend = backend
        self.blobs = blobs
        self.models = entries.load(settings)
        self.closed = False

    @property
    def ready(self) -> bool:
        """Whether orders are taken and the models of the start have been loaded."""
        return not self.closed and self.backend.ready

    async def generate(self, order: Order, watch: Callable[[Event], None] | None = None) -> Outcome:
        """Paint the pictures of `order`: as many as are ready within request_seconds.

        Picture k has seed (seed + k) mod 2**64; the same order with the same seed has the same bytes (unless a chat
        endpoint rewrites the prompt). `watch` is told every event of the backend. When the task that awaits this is
        cancelled, what is not painted yet is cancelled too.

        Raises:
            InvalidRequest, IllegalCharacters, ReferenceRefused: the order cannot be filled as it is.
            Busy: the queue has no room for all n pictures.
            TimedOut: not one picture was ready in time.
            LimnerError: every picture failed; the first one's error.
        """
        began = time.monotonic()
        course = _Course()
        result = "cancelled"
        try:
            try:
                async with asyncio.timeout(self.settings.request_seconds) as limit:
                    await self._paint(order, course, watch)
            except TimeoutError:
                if not limit.expired():
                    raise
            outcome = course.outcome(order.n, self.settings.request_seconds)
            result = "painted"
            return outcome
        except LimnerError as error:
            result = type(error).__name__
            raise
        except Exception:
            result = "crashed"
            raise
        finally:
            log.info(
                "order",
                result=result,
                model=order.model,
                width=order.width,
                height=order.height,
                n=order.n,
                painted=len(course.pictures),
                references=len(order.references),
                prompt_chars=len(order.prompt),
                optimized=order.optimize_prompt,
                stored=order.store,
                notes=len(course.notes),  # their number alone: they quote the prompt
                seconds=round(time.monotonic() - began, 3),
            )

    async def plan(self, order: Order) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The scene of `order`'s first picture, and sentences about what had no effect; nothing is painted.

        Raises:
            As `generate`; InvalidRequest where the model plans no scenes.
        """
        course = _Course()
        no_scene = f"Model {order.model} paints from the words and plans no scene."
        if self.models.lookup(order.model).weights != PAINTER:
            raise InvalidRequest(no_scene)  # before it is loaded in vain
        try:
            async with asyncio.timeout(self.settings.request_seconds):
                request, *_ = await self._requests(order, course)
                async with aclosing(self.backend.submit([request])) as events:
                    async for event in events:
                        match event:
                            case Started(plan=None):
                                raise InvalidRequest(no_scene)
                            case Started(plan=dict(scene), notes=notes):
                                return scene, (*course.notes, *notes)
                            case Failed(error=error):
                                raise _told(error)
        except TimeoutError:
            raise TimedOut("The scene was not planned in time. Try again.") from None
        raise EngineFailed("The scene could not be planned. Try again.")

    def close(self) -> None:
        """Take no more orders and stop the backend and the sweeper; blocks until they have. May be called twice."""
        self.closed = True
        self.backend.close()
        self.blobs.close()

    async def _paint(self, order: Order, course: _Course, watch: Callable[[Event], None] | None) -> None:
        requests = await self._requests(order, course)
        numbers = {request.id: number for number, request in enumerate(requests)}
        async with aclosing(self.backend.submit(requests)) as events:
            async for event in events:
                number = numbers[event.id]
                match event:
                    case Started(notes=notes, plan=plan):
                        course.notes |= dict.fromkeys(notes)
                        if plan is not None:
                            course.plans[number] = plan
                    case Done(pixels=pixels):
                        try:
                            course.pictures[number] = await asyncio.to_thread(
                                self._finish, pixels, requests[number].seed, order
                            )
                        except Exception as error:
                            course.failures[number] = _told(error)
                    case Failed(error=error):
                        course.failures[number] = _told(error)
                    case Cancelled():
                        course.failures[number] = EngineFailed("The picture was cancelled before it was painted.")
                if watch is not None:
                    watch(event)

    async def _requests(self, order: Order, course: _Course) -> list[Request]:
        """One engine request a picture, the prompt checked and the references read."""
        prompt = prompts.check(order.prompt, self.settings)
        if len(prompt) < len(order.prompt):
            course.notes[f"The prompt was cut at {len(prompt)} characters."] = None
        negative = None
        if order.negative_prompt and order.negative_prompt.strip():
            negative = prompts.check(order.negative_prompt, self.settings, "negative_prompt")
            if len(negative) < len(order.negative_prompt):
                course.notes[f"The negative prompt was cut at {len(negative)} characters."] = None
        if not self.backend.room:
            # Told before references are fetched and decoded for a call that would be turned away.
            raise Busy("Every place in the queue is taken. Wait a little, then try again.")
        model = self.models.lookup(order.model)
        subjects, prompt = await self._prepared(order, prompt)
        style, weight = order.style, 1.0
        if order.live_style is not None:
            if order.model in self.models.live:
                style, weight = LIVE_STYLES[order.live_style], order.live_style_weight
            else:
                course.notes[f"A style_type is for {LIVE} alone and had no effect."] = None
        loras = order.loras
        if style is not None and model.weights != PAINTER:
            prompt, loras, note = _styled(model, style, weight, prompt, loras)
            style, weight = None, 1.0
            course.notes |= dict.fromkeys(note)
        seeds = (
            [secrets.randbits(64) for _ in range(order.n)]
            if order.seed is None
            else [(order.seed + k) % SEEDS for k in range(order.n)]
        )
        call = secrets.token_hex(8)
        return [
            Request(
                id=f"{call}-{k}",
                prompt=prompt,
                seed=seed,
                width=order.width,
                height=order.height,
                model=model.name,
                tenant=order.tenant,
                steps=order.steps,
                guidance=order.guidance,
                strength=order.strength,
                sampler=order.sampler,
                negative_prompt=negative,
                style=style,
                style_weight=weight,
                loras=loras,
                references=subjects,
                scene=order.scene,
            )
            for k, seed in enumerate(seeds)
        ]

    async def _prepared(self, order: Order, prompt: str) -> tuple[tuple[UInt8, ...], str]:
        """The references, read side by side, and the prompt, expanded meanwhile if the order says so."""
        most = self.settings.reference_max_count
        if len(order.references) > most:
            raise ReferenceRefused(
                f"Field subject_reference holds {len(order.references)} references; at most {most} can be used.",
                "count",
            )
        expanding = None
        try:
            async with asyncio.TaskGroup() as group:
                reading = [group.create_task(references.read(source, self.settings)) for source in order.references]
                if order.optimize_prompt:
                    expanding = group.create_task(prompts.optimize(prompt, self.settings))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return tuple(task.result() for task in reading), prompt if expanding is None else expanding.result()

    def _finish(self, pixels: UInt8, seed: int, order: Order) -> Picture:
        """Encode and store one picture; runs in a thread. Raises StorageFailed."""
        data = imaging.encode(
            pixels,
            order.format,
            quality=self.settings.jpeg_quality,
            watermark=self.settings.watermark_text if order.watermark else None,
            font=self.settings.watermark_font,
        )
        name = None
        if order.store:
            name = new_name()
            self.blobs.put(name, data)
        return Picture(data, seed, order.width, order.height, name)


def _told(error: Exception) -> LimnerError:
    """An error that a caller may see."""
    if isinstance(error, LimnerError):
        return error
    log.error("a picture failed", exc_info=error)
    return EngineFailed("The picture could not be painted. Try again; if it fails again, see the service's log.")


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
        raise InvalidRequest(f"Model {model.name} has no style {name[:80]!r}; it has {known}.")
    if style.phrase:
        prompt = f"{prompt}, {style.phrase}"
    if style.lora is None:
        note = f"The style {name} of model {model.name} is words behind the prompt: its weight had no effect."
        return prompt, loras, (note,) if weight != 1 else ()
    named = Path(style.lora.path).stem
    if named not in dict(loras):  # what the order says of it itself wins
        loras = (*loras, (named, style.lora.weight * weight))
    return prompt, loras, ()


def load_pipelines(settings: Settings, only: str | None = None) -> Pool:
    """Every model of the registry, or the one named `only`; that one or image-01's is loaded before anybody asks.

    Raises:
        SettingsInvalid: the models file is wrong.
        ModelUnusable: what is to be loaded first is missing, corrupt or of another kind than it should be.
    """
    from limner.backends import sources

    return sources.pool(settings, entries.load(settings), only)


def load_backend(settings: Settings, only: str | None = None) -> Backend:
    """The models in an engine of this process. Raises as `load_pipelines` does."""
    from limner.backends.local import LocalBackend
    from limner.engine.engine import Engine

    return LocalBackend(Engine(load_pipelines(settings, only), settings.queue_limit))


def build_service(settings: Settings) -> Service:
    """The whole service as `limner serve` runs it, sweeping expired pictures from disk until it is closed.

    Raises:
        SettingsInvalid: the watermark cannot be drawn, or data_dir cannot hold anything.
        ModelUnusable: a model cannot be loaded.
    """
    imaging.check_watermark(settings.watermark_text, settings.watermark_font)
    backend = load_backend(settings)
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # a listing would tell the pictures' names
    except OSError as error:
        backend.close()
        raise SettingsInvalid(
            f"data_dir {settings.data_dir} cannot be made: {error.strerror}. Name a folder that can be written."
        ) from None
    blobs = Blobs(settings.data_dir / "pictures", settings.link_seconds)
    service = Service(settings, backend, blobs)
    blobs.keep_swept(every=min(300.0, settings.link_seconds / 10))
    return service
