"""What the OpenAPI document says of requests and replies, under the settings in force."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Depends, Request
from pydantic import BaseModel

from limner.api.contract import SIZES, ImageRequest
from limner.config import Settings
from limner.models.registry import Registry

STATUSES: Final = {
    400: "A field is wrong, or the prompt was refused.",
    401: "No key came, or it is not known.",
    402: "The key's daily quota is used up; Retry-After says when the next day begins.",
    403: "The key may not use this model; or, without keys, a page of another site asks for what is not its own.",
    409: "The Idempotency-Key came before with another body.",
    413: "The body is too large.",
    415: "The body is of a type that is not read.",
    429: "The queue is full, or the key asks for more than it may; Retry-After says when to come again.",
    500: "The service failed.",
    504: "The pictures were not ready in time.",
}
"""True statuses of errors, sent where `http_status` is `real`."""

RETRYABLE: Final = frozenset({402, 429, 500, 504})
"""Those that may come with Retry-After."""

SEEDS: Final = {
    "description": "Seed of each returned picture, signed 64-bit, separated by commas: sent back as `seed` with n 1, "
    "it gives that picture again.",
    "schema": {"type": "string"},
}

REPLAYED: Final = {
    "description": "`true` where this is the answer to an earlier call with the same Idempotency-Key.",
    "schema": {"const": "true"},
}

BASE_RESP: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["status_code", "status_msg"],
    "properties": {
        "status_code": {"type": "integer", "description": "0 is success; docs/http.md lists the others."},
        "status_msg": {"type": "string"},
    },
}


async def _true_status(request: Request) -> None:
    request.state.true_status = True


TRUE_STATUS: Final = Depends(_true_status)
"""Dependency of Limner's own routes: their errors have true statuses whatever `http_status` says."""


def request(settings: Settings, models: Registry, kind: type[ImageRequest] = ImageRequest) -> dict[str, Any]:
    """JSON schema of `kind` in its documented forms, with this service's models, ratios and limits."""
    schema = kind.model_json_schema()
    fields = schema["properties"]
    fields["style"]["anyOf"][0] = schema.pop("$defs")["Style"]
    fields["model"] = fields["model"] | {"enum": [*models.names, None], "type": ["string", "null"]}
    fields["prompt"]["minLength"] = 1
    if settings.long_prompts == "refuse":
        fields["prompt"]["maxLength"] = settings.max_prompt_chars
    sizes = ", ".join(f"{ratio} {width}×{height}" for ratio, (width, height) in SIZES.items())
    fields["aspect_ratio"]["description"] += f" {sizes}."
    if settings.extra_ratios:
        fields["aspect_ratio"]["examples"] = [*SIZES, "9:21", "3:5", "5:3"]
    else:
        fields["aspect_ratio"]["enum"] = list(SIZES)
    picture = {"type": "string", "description": "URL, data URL or bare base64 of a JPEG, PNG or WebP."}
    item = {
        "type": "object",
        "required": ["image_file"],
        "properties": {"type": {"const": "character"}, "image_file": picture},
    }
    fields["subject_reference"] = {
        "description": fields["subject_reference"]["description"],
        "anyOf": [{"type": "array", "items": {"anyOf": [item, picture]}}, item, picture, {"type": "null"}],
    }
    return schema


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a body that `kind` checks."""
    return body(kind.model_json_schema())


def body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def error(settings: Settings) -> dict[str, Any]:
    """JSON schema of the one error shape."""
    data = {"type": "object", "maxProperties": 0} if settings.error_data == "object" else {"type": "null"}
    return _envelope(settings, data)


def reply(settings: Settings) -> dict[str, Any]:
    """JSON schema of what `POST /v1/image_generation` answers with status 200."""
    count = _count(settings)
    extra = {"task_id": {"type": "string"}, "success_count": count, "failed_count": count}
    forms = [
        {
            "type": "object",
            "required": [key, *(extra if settings.counts_in_data else ())],
            "properties": {key: {"type": "array", "minItems": 1, "items": item}}
            | (extra if settings.counts_in_data else {}),
            "additionalProperties": False,
        }
        for key, item in (
            ("image_urls", {"type": "string", "description": "Link to a JPEG."}),
            ("image_base64", {"type": "string", "description": "A JPEG in padded standard base64."}),
        )
    ]
    painted = _envelope(settings, {"oneOf": forms})
    return {"anyOf": [painted, error(settings)]} if settings.http_status == "ok" else painted


def error_responses(settings: Settings, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` of a route: the one error shape under each of these statuses."""
    told: dict[int | str, dict[str, Any]] = {
        status: described(STATUSES.get(status, "There is no such thing."), error(settings)) for status in statuses
    }
    for status in RETRYABLE & told.keys():
        told[status]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}}
    return told


def described(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _count(settings: Settings) -> dict[str, Any]:
    return {"type": "string", "pattern": "^[0-9]+$"} if settings.counts_as == "string" else {"type": "integer"}


def _envelope(settings: Settings, data: dict[str, Any]) -> dict[str, Any]:
    counts = {"success_count": _count(settings), "failed_count": _count(settings)}
    return {
        "type": "object",
        "required": ["id", "data", "metadata", "base_resp"],
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "data": data,
            "metadata": {"type": "object", "required": list(counts), "properties": counts},
            "base_resp": BASE_RESP,
        },
        "additionalProperties": False,
    }
