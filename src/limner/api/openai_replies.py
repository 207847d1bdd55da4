"""What OpenAI's images API answers, as plain data: an `Outcome` to a reply, previews and pictures to events."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any, Final

from limner import imaging
from limner.api import openai_errors
from limner.api.openai_contract import Call
from limner.order import Order

TOKEN_SIDE: Final = 16
"""A token of a picture is a square of so many pixels a side."""

TOKEN_BYTES: Final = 4
"""A token of words is so many bytes of UTF-8."""


def usage(order: Order, pictures: int, *, with_input: bool = True) -> dict[str, Any]:
    """Tokens of a reply, as docs/openai.md defines them: nothing is billed by them.

    A picture has one for each square of TOKEN_SIDE pixels, those that came with the request as if they were as large
    as those painted; words have one for TOKEN_BYTES bytes of UTF-8 that were sent.
    """
    squares = math.ceil(order.width / TOKEN_SIDE) * math.ceil(order.height / TOKEN_SIDE)
    words = math.ceil(len(f"{order.prompt}{order.negative_prompt or ''}".encode()) / TOKEN_BYTES)
    text, image = (words, squares * len(order.references)) if with_input else (0, 0)
    made = squares * pictures
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": made,
        "total_tokens": text + image + made,
    }


def looks(call: Call) -> dict[str, str]:
    """What replies and events say of how the pictures were painted."""
    return {
        "background": "opaque",
        "output_format": call.order.format,
        "quality": call.quality,
        "size": call.size,
    }


def success(
    call: Call, entries: Sequence[dict[str, Any]], errors: Sequence[dict[str, Any]], notes: Sequence[str], created: int
) -> dict[str, Any]:
    """The reply to a call that painted `entries`; those that it did not paint follow as `errors`."""
    return {
        "created": created,
        "data": [*entries, *({"error": error} for error in errors)],
        **looks(call),
        "usage": usage(call.order, len(entries)),
        **_notes(notes),
    }


def partial(call: Call, data: bytes, index: int, created: int) -> dict[str, Any]:
    """The event that carries how a picture looks so far."""
    return {
        "type": f"{_event(call)}.partial_image",
        "b64_json": base64.b64encode(data).decode(),
        "partial_image_index": index,
        "created_at": created,
        **looks(call),
    }


def completed(call: Call, data: bytes, notes: Sequence[str], created: int, *, first: bool) -> dict[str, Any]:
    """The event that carries a finished picture; of several the first tells the input's tokens and the notes."""
    return {
        "type": f"{_event(call)}.completed",
        "b64_json": base64.b64encode(data).decode(),
        "created_at": created,
        **looks(call),
        "usage": usage(call.order, 1, with_input=first),
        **(_notes(notes) if first else {}),
    }


def _notes(notes: Sequence[str]) -> dict[str, list[str]]:
    """Limner's own: what had no effect, and why; there where there is something to say."""
    return {"notes": list(notes)} if notes else {}


def _event(call: Call) -> str:
    return "image_edit" if call.edits else "image_generation"


def due(sent: int, wanted: int, step: int, steps: int) -> bool:
    """Whether the preview of this step is to be sent, where `sent` of `wanted` were: they stand evenly in the steps."""
    return sent < wanted and step * (wanted + 1) >= steps * (sent + 1)


_ENTRY: Final = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "description": "Link to the file."},
        "b64_json": {"type": "string", "description": "The file, in padded standard base64."},
        "revised_prompt": {"type": "string", "description": "The prompt as the optimizer rewrote it."},
        "error": openai_errors.SCHEMA["properties"]["error"]
        | {"description": "Why a picture is missing; such entries come last."},
    },
    "additionalProperties": False,
}
_TOKENS: Final = {"type": "integer", "minimum": 0}
SCHEMA: Final = {
    "type": "object",
    "required": ["created", "data", "background", "output_format", "quality", "size", "usage"],
    "properties": {
        "created": {"type": "integer", "description": "Unix seconds."},
        "data": {"type": "array", "minItems": 1, "items": _ENTRY},
        "background": {"const": "opaque"},
        "output_format": {"enum": list(imaging.MEDIA_TYPES)},
        "quality": {"enum": ["low", "medium", "high", "xhigh", "max"]},
        "size": {"type": "string", "pattern": "^[0-9]+x[0-9]+$"},
        "usage": {
            "type": "object",
            "properties": {
                "input_tokens": _TOKENS,
                "input_tokens_details": {
                    "type": "object",
                    "properties": {"text_tokens": _TOKENS, "image_tokens": _TOKENS},
                },
                "output_tokens": _TOKENS,
                "total_tokens": _TOKENS,
            },
        },
        "notes": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string"},
            "description": "Limner's own: what had no effect, and why.",
        },
    },
    "additionalProperties": False,
}
"""A reply, as JSON schema."""
