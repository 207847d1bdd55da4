"""Any other text-to-image pipeline of diffusers, called whole for each request, a step at a time.

The families beside this file take their networks apart, so that requests share evaluations. Here diffusers' own loop
runs, in a thread that stands still between the steps, so that the engine can still interleave requests and cancel them.
The engine's latent is empty, and its sampler moves nothing: a request's state is its thread's.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import nn

from limner.engine import levels
from limner.engine.core import Batch, Encoded, Float32, Key, Request, UInt8
from limner.errors import InvalidRequest, ModelUnusable
from limner.models.registry import Model
from limner.pipelines.latents import check, chosen, padded
from limner.pipelines.parts import Parts

MULTIPLE = 64
"""Pixels along a side: every published family's own multiple divides it."""

GUIDANCE = ("guidance_scale", "true_cfg_scale", "cfg_scale")
"""What pipelines call guidance; the first of them that one has."""

OTHERWISE = {
    "strength", "mask_image", "control_image", "controlnet_conditioning_scale", "adapter_conditioning_scale",
    "image_guidance_scale", "video", "video_length", "num_frames",
}  # fmt: skip
"""Arguments of pipelines that do not paint from words, though they may look so."""

NOTE = "Painted by diffusers' own {}: one request at a time, and with as much of the prompt as it reads."


class AnyDiffusers:
    """One pipeline, whose networks all requests share; all else of it, each has for itself.

    Raises:
        ModelUnusable: it is no pipeline of diffusers, not one from text to pictures of a given size, or one that
            exchanges parts of its networks while it paints, which the other requests would see.
    """

    name = "any-diffusers"
    max_batch = 1

    def __init__(self, parts: Parts, model: Model) -> None:
        self._model = model
        self.fingerprint = parts.fingerprint
        self._kind = str(parts.index.get("_class_name"))
        kind: Any = getattr(diffusers, self._kind, None)
        if not (inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)):
            raise ModelUnusable(
                f"{parts.folder} is made for {self._kind}, which is no pipeline of the diffusers that is installed. "
                "Install one that has it, or choose another model."
            )
        if model.loras:
            raise ModelUnusable(
                f"{model.name} lists LoRAs, which diffusers' {self._kind} is not given here. Leave them out."
            )
        self._takes = inspect.signature(kind.__call__).parameters
        needed = {name for name, parameter in self._takes.items() if parameter.default is parameter.empty}
        paints = {"prompt", "width", "height"} <= self._takes.keys() and needed <= {"self", "prompt", "kwargs"}
        if not paints or OTHERWISE & self._takes.keys():
            raise ModelUnusable(f"diffusers' {self._kind} does not paint from a prompt and a size alone.")
        if "attn_processor" in inspect.getsource(kind.__call__):
            raise ModelUnusable(
                f"diffusers' {self._kind} exchanges parts of its networks while it paints, and requests that take "
                "turns would disturb each other. Name the plain pipeline of these weights in its model_index.json."
            )
        networks = {part: parts.module(part) for part in parts.index if _is_network(parts.index[part])}
        load: Any = kind.from_pretrained
        try:
            loaded = load(parts.folder, dtype=parts.dtype, local_files_only=True, use_safetensors=True, **networks)
        except Exception as error:  # a damaged folder makes it raise anything
            raise ModelUnusable(f"diffusers cannot load {self._kind} from {parts.folder}: {error}") from error
        self._pipeline = loaded.to(parts.device)
        self._pipeline.set_progress_bar_config(disable=True)
        self._order = max(scheduler.order for scheduler in _schedulers(loaded))

    def encode(self, request: Request) -> Encoded:
        """Prepare the pipeline's call; it begins at the first step. Raises InvalidRequest for what it does not take."""
        check(request, self._model.name, references=False)
        if request.loras:
            raise InvalidRequest(f"{self._model.name} takes no LoRA of a request. Leave it out.")
        given: dict[str, Any] = {"prompt": request.prompt, "output_type": "pil"}
        given["width"], given["height"] = padded(request.width, request.height, MULTIPLE)
        guidance = next((name for name in GUIDANCE if name in self._takes), GUIDANCE[0])
        asked = {
            "num_inference_steps": chosen(request.steps, self._model.steps, None),
            guidance: chosen(request.guidance, self._model.guidance, None),
            "negative_prompt": request.negative_prompt,
            "scheduler": chosen(request.sampler, self._model.sampler, None),  # never taken: it is the folder's
        }
        for name, value in asked.items():
            if value is not None:
                if name not in self._takes:
                    said = "sampler" if name == "scheduler" else name
                    raise InvalidRequest(f"diffusers' {self._kind} takes no {said} for a request. Leave it out.")
                given[name] = value
        if "use_resolution_binning" in self._takes:
            given["use_resolution_binning"] = False  # which would paint another size, and stretch it
        steps = given.get("num_inference_steps", self._steps())
        return Encoded(
            key=Key(request.model, (0,), 0),
            levels=levels.schedule(steps),
            guidance=1.0,
            cost=given["width"] * given["height"] / MULTIPLE,
            conditioning=Stepwise(functools.partial(_painted, self._own(), given, request.seed)),
            sampler="euler",
            notes=(NOTE.format(self._kind),),
        )

    def evaluate(self, batch: Batch) -> Float32:
        """Let each call go on by a step. Nothing is predicted here: (B, 0)."""
        for call in batch.conditioning:
            for _ in range(self._order):
                call.advance()
        return batch.x

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        """What the call gives, once it has come to its end, its middle kept."""
        call: Stepwise = encoded.conditioning
        while call.result is None:
            call.advance()
        height, width = call.result.shape[:2]
        if height < request.height or width < request.width:
            raise InvalidRequest(f"This model paints at most {width}×{height} pixels. Ask for no more.")
        top, left = (height - request.height) // 2, (width - request.width) // 2
        return call.result[top : top + request.height, left : left + request.width]

    def _steps(self) -> int:
        """The pipeline's own number of steps, or what is usual where it has none."""
        default = self._takes["num_inference_steps"].default if "num_inference_steps" in self._takes else None
        return default if isinstance(default, int) else 50

    def _own(self) -> Any:
        """The pipeline, with everything but its networks and tokenizers copied."""
        parts = self._pipeline.components.values()
        return copy.deepcopy(self._pipeline, {id(part): part for part in parts if not isinstance(part, SchedulerMixin)})


def _painted(pipeline: Any, given: dict[str, Any], seed: int, pause: Callable[[], None]) -> UInt8:
    """Call the pipeline, pausing after each step of its schedulers: (H, W, 3)."""
    for scheduler in _schedulers(pipeline):
        scheduler.step = _pausing(scheduler.step, pause)
    output = pipeline(**given, generator=torch.Generator("cpu").manual_seed(seed))
    return np.asarray(output.images[0].convert("RGB"))


def _schedulers(pipeline: Any) -> list[Any]:
    return [part for part in pipeline.components.values() if isinstance(part, SchedulerMixin)]


def _is_network(named: Any) -> bool:
    """Whether what an index names, [library, class], is a network of diffusers or transformers."""
    library, name = named if isinstance(named, list) else ("", "")
    kind = getattr({"diffusers": diffusers, "transformers": transformers}.get(library or ""), name or "", None)
    return inspect.isclass(kind) and issubclass(kind, nn.Module)


def _pausing(step: Callable[..., Any], pause: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(step)  # pipelines look at its signature
    def paused(*args: Any, **kwargs: Any) -> Any:
        stepped = step(*args, **kwargs)
        pause()
        return stepped

    return paused


class Stepwise:
    """A call that runs in a thread of its own and stands still wherever it pauses, until it is told to go on.

    When the last reference to this object goes, by a cancel for one, the thread ends from within its pause.

    Attributes:
        result: What the call returned; None before.
    """

    def __init__(self, call: Callable[[Callable[[], None]], UInt8]) -> None:
        self.result: UInt8 | None = None
        self._go: SimpleQueue[bool] = SimpleQueue()  # True: go on; False: end
        self._came: SimpleQueue[UInt8 | BaseException | None] = SimpleQueue()  # None: a pause
        # The thread must not hold this object, or it would never go; a daemon, since one that waits cannot be joined.
        self._thread = threading.Thread(
            target=_run, args=(call, self._go, self._came), name="limner-diffusers", daemon=True
        )
        weakref.finalize(self, self._go.put, False)

    def advance(self) -> None:
        """Go on to the next pause, or to the end; after that, nothing happens. Raises what the call raises."""
        if self.result is not None:
            return
        if not self._thread.ident:
            self._thread.start()
        self._go.put(True)
        match self._came.get():
            case BaseException() as error:
                self._came.put(error)  # for whoever asks again
                raise error
            case result:
                self.result = result


class _Ended(BaseException):
    """Thrown into a call that nobody waits for; no Exception, so that no handler of the call's keeps it."""


def _run(
    call: Callable[[Callable[[], None]], UInt8],
    go: SimpleQueue[bool],
    came: SimpleQueue[UInt8 | BaseException | None],
) -> None:
    def pause() -> None:
        came.put(None)
        wait()

    def wait() -> None:
        if not go.get():
            raise _Ended

    try:
        wait()
        came.put(call(pause))
    except _Ended:
        pass
    except BaseException as error:
        came.put(error)
