"""A job as its caller sees it: one JSON document for replies, lists, events and webhooks, and the schema of it.

Pure. docs/http.md describes every field, and a test holds the three to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from limner.order import MOST_PICTURES, Order
from limner.storage.jobs import VISIBLE, Image, Job


def document(job: Job, link: Callable[[str], str], queue_place: int | None = None) -> dict[str, Any]:
    """The JSON of a job, as `SCHEMA` has it.

    Args:
        link: from a finished picture's name to where it can be had.
        queue_place: pictures that come before it, where it waits and that was counted.
    """
    return {
        "id": job.id,
        "state": job.state,
        "version": job.version,
        "model": job.model,
        "created_at": timestamp(job.created),
        "started_at": None if job.started is None else timestamp(job.started),
        "finished_at": None if job.finished is None else timestamp(job.finished),
        "expires_at": timestamp(job.expires),
        "queue_place": queue_place if job.state == "queued" else None,
        "progress": _progress(job),
        "pictures": [_picture(image, link) for image in job.images],
        "cost": job.cost,
        "scene": None if job.plan is None else dict(job.plan),
        "notes": list(job.notes),
        "error": _error(job.code, job.error),
        "request": _request(job),
    }


def timestamp(seconds: float) -> str:
    """Unix seconds in RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _progress(job: Job) -> dict[str, int | None]:
    known = [image.steps for image in job.images if image.steps is not None]
    # The pictures of a job have the same number of steps, but only those that were begun say it.
    total = sum(image.steps or known[0] for image in job.images) if known else None
    return {"step": sum(image.step for image in job.images), "steps": total}


def _picture(image: Image, link: Callable[[str], str]) -> dict[str, Any]:
    return {
        "state": image.state,
        "seed": str(image.seed),
        "width": image.width,
        "height": image.height,
        "step": image.step,
        "steps": image.steps,
        "url": link(image.blob) if image.state == "done" else None,
        "bytes": image.bytes,
        "sha256": image.sha256,
        "error": _error(image.code, image.error),
    }


def _error(code: int | None, sentence: str | None) -> dict[str, Any] | None:
    return None if code is None else {"status_code": code, "status_msg": sentence or ""}


_UNSAID = Order("", 0, 0).to_json()


def _request(job: Job) -> dict[str, Any]:
    """What was asked for, under the names that `POST /v1/pictures` has for it."""
    order = {**_UNSAID, **job.request}  # a row of an earlier version lacks what came later
    style = order["style"]
    if order["live_style"] is not None:
        style = {"style_type": order["live_style"], "style_weight": order["live_style_weight"]}
    return {
        "model": order["model"],
        "prompt": order["prompt"],
        "negative_prompt": order["negative_prompt"],
        "width": order["width"],
        "height": order["height"],
        "n": order["n"],
        "seed": None if order["seed"] is None else str(order["seed"]),
        "style": style,
        "prompt_optimizer": order["optimize_prompt"],
        "watermark": order["watermark"],
        "steps": order["steps"],
        "guidance": order["guidance"],
        "strength": order["strength"],
        "sampler": order["sampler"],
        "loras": dict(order["loras"]),
        "scene": order["scene"],
        "format": order["format"],
        "references": len(job.subjects) - order["mask"],
        "mask": order["mask"],
        "previews": order["previews"],
        # Paths and queries of such addresses are often what keeps strangers from using them.
        "webhook_host": None if job.webhook is None else urlsplit(job.webhook).hostname,
    }


def _object(fields: dict[str, Any], description: str | None = None) -> dict[str, Any]:
    """JSON schema of an object that has exactly these fields."""
    schema = {"type": "object", "required": [*fields], "properties": fields, "additionalProperties": False}
    return schema if description is None else {**schema, "description": description}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}], "description": schema["description"]}


def _of(kind: str, description: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": description, **more}


def _time(description: str) -> dict[str, Any]:
    return _of("string", f"{description}, RFC 3339 in UTC.", format="date-time")


_ERROR = _object(
    {
        "status_code": _of("integer", "As in the table of errors."),
        "status_msg": _of("string", "A sentence."),
    },
    "Why it failed.",
)
_STEP = _of("integer", "Steps finished.", minimum=0)
_STEPS = _or_null(_of("integer", "Steps in all; null before the first was begun.", minimum=1))
_SEED = _of("string", "Signed 64-bit: as `seed` with n 1 it gives this picture again.", pattern="^-?[0-9]+$")

SCHEMA: Final = _object(
    {
        "id": _of("string", "The job's, which is that of the call that made it.", pattern="^[0-9a-f]{32}$"),
        "state": _of("string", "Where it stands; the last three are final.", enum=[*VISIBLE]),
        "version": _of("integer", "Counts the changes of this document.", minimum=1),
        "model": _of("string", "The model that paints."),
        "created_at": _time("When it was accepted"),
        "started_at": _or_null(_time("When painting began")),
        "finished_at": _or_null(_time("When it ended")),
        "expires_at": _time("When it and its pictures are deleted"),
        "queue_place": _or_null(_of("integer", "Pictures that come before it, while it waits.", minimum=0)),
        "progress": _object({"step": _STEP, "steps": _STEPS}, "Of all its pictures together."),
        "pictures": _of(
            "array",
            "One for each that was asked for, in the order of their seeds.",
            minItems=1,
            items=_object(
                {
                    "state": _of("string", "As the job's.", enum=[*VISIBLE]),
                    "seed": _SEED,
                    "width": _of("integer", "Pixels."),
                    "height": _of("integer", "Pixels."),
                    "step": _STEP,
                    "steps": _STEPS,
                    "url": _or_null(_of("string", "Link to the file, once it is done.")),
                    "bytes": _or_null(_of("integer", "Size of the file.", minimum=1)),
                    "sha256": _or_null(_of("string", "Of the file, in hex.", pattern="^[0-9a-f]{64}$")),
                    "error": _or_null(_ERROR),
                }
            ),
        ),
        "cost": _of("number", "Evaluations of the network, times tokens.", minimum=0),
        "scene": _or_null(_of("object", "The first picture's scene, where the model plans one.")),
        "notes": _of("array", "What had no effect, or another than expected.", items={"type": "string"}),
        "error": _or_null(_ERROR),
        "request": _object(
            {
                "model": _of("string", "Its name in the request."),
                "prompt": _of("string", "What is painted; as a chat endpoint rewrote it, where one did."),
                "negative_prompt": _or_null(_of("string", "What to stay away from.")),
                "width": _of("integer", "Pixels."),
                "height": _of("integer", "Pixels."),
                "n": _of("integer", "How many pictures.", minimum=1, maximum=MOST_PICTURES),
                "seed": _or_null(_of("string", "As it was given; null where none was.")),
                "style": {
                    "anyOf": [{"type": ["string", "null"]}, {"type": "object"}],
                    "description": "A style's name, or style_type and style_weight of image-01-live.",
                },
                "prompt_optimizer": _of("boolean", "Whether the prompt is to be expanded."),
                "watermark": _of("boolean", "Whether a visible mark is drawn."),
                "steps": _or_null(_of("integer", "Evaluations; null is the model's own number.")),
                "guidance": _or_null(_of("number", "How hard to follow the words.")),
                "strength": _or_null(_of("number", "How far to leave the draft.")),
                "sampler": _or_null(_of("string", "How steps are taken.")),
                "loras": _of("object", "Weights of LoRAs by name.", additionalProperties={"type": "number"}),
                "scene": _or_null(_of("object", "The scene that came with the request.")),
                "format": _of("string", "Of the files.", enum=["jpeg", "png", "webp"]),
                "references": _of("integer", "How many references came with it.", minimum=0),
                "mask": _of("boolean", "Whether a mask came too, which says what of the first reference is repainted."),
                "previews": _of("boolean", "Whether its events show how its pictures come along."),
                "webhook_host": _or_null(_of("string", "The host that is told of its end.")),
            },
            "What was asked for.",
        ),
    },
    "A job.",
)
"""JSON schema of `document`."""
