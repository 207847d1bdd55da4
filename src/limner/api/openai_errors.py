"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}` under true statuses.

The types and codes are those that OpenAI's libraries and their users tell errors apart by
(platform.openai.com/docs/guides/error-codes); the sentences are ours.
"""

from __future__ import annotations

from typing import Any, Final

from limner.errors import Code, InvalidRequest, LimnerError, ReferenceRefused, shown

PREFIXES: Final = ("/v1/images/", "/images/", "/v1/v1/images/")
"""The paths that speak this shape begin so: clients' base URLs have a /v1 too few or too many."""

STATUSES: Final[dict[Code, int]] = {Code.QUOTA_USED: 429}
"""Statuses that OpenAI's API has otherwise than docs/http.md."""

KINDS: Final[dict[Code, tuple[str, str | None]]] = {
    Code.UNKNOWN: ("server_error", None),
    Code.TIMEOUT: ("server_error", "timeout"),
    Code.RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
    Code.NOT_AUTHENTICATED: ("invalid_request_error", None),
    Code.QUOTA_USED: ("insufficient_quota", "insufficient_quota"),
    Code.INTERNAL: ("server_error", None),
    Code.PROMPT_REFUSED: ("image_generation_user_error", "moderation_blocked"),
    Code.PICTURE_REFUSED: ("image_generation_user_error", "moderation_blocked"),
    Code.ILLEGAL_CHARACTERS: ("invalid_request_error", "invalid_value"),
    Code.INVALID_PARAMETERS: ("invalid_request_error", None),
    Code.INVALID_KEY: ("invalid_request_error", "invalid_api_key"),
    Code.MODEL_NOT_ALLOWED: ("invalid_request_error", "model_not_found"),
}
"""`type` and `code` of each error that names none of its own."""

PARAMS: Final[dict[Code, str]] = {
    Code.PROMPT_REFUSED: "prompt",
    Code.ILLEGAL_CHARACTERS: "prompt",
    Code.MODEL_NOT_ALLOWED: "model",
}
"""The field that an error is about, where its code says so."""

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": sorted({kind for kind, _ in KINDS.values()})},
                "param": {"type": ["string", "null"], "description": "The field that is wrong."},
                "code": {"type": ["string", "null"]},
            },
            "additionalProperties": False,
        }
    },
    "additionalProperties": False,
}


NAMES: Final = {"references": "image"}
"""Fields of an order that have another name here."""


class Refused(InvalidRequest):
    """A field will not do. `error_code` is what OpenAI calls the mistake."""

    def __init__(self, message: str, field: str | None, error_code: str = "invalid_value", status: int = 400) -> None:
        super().__init__(message, field)
        self.error_code = error_code
        self.status = status


def speaks(path: str) -> bool:
    """Whether a path's errors have this shape."""
    return path.startswith(PREFIXES)


def document(error: Exception, code: Code, message: str) -> dict[str, Any]:
    """The body of a reply that tells of `error`."""
    kind, name = KINDS[code]
    param = PARAMS.get(code)
    match error:
        case Refused():
            param, name = error.field, error.error_code
        case InvalidRequest(field=str(field)):
            param = NAMES.get(field, field)
            name = "invalid_image" if isinstance(error, ReferenceRefused) else "invalid_value"
    return {"error": {"message": message, "type": kind, "param": param, "code": name}}


def told(error: LimnerError) -> dict[str, Any]:
    """What the body says of an error, for the entries of a reply and for events."""
    body: dict[str, Any] = document(error, error.code, shown(error))["error"]
    return body


def headers(error: Exception) -> dict[str, str]:
    """OpenAI's libraries try 409, 429 and 5xx again unless this header says that it is of no use."""
    return {"x-should-retry": "false"} if isinstance(error, LimnerError) and not error.retryable else {}
