"""Everything that can go wrong and be told to a caller, with its number in the MiniMax error table.

An error's message is a sentence for the caller: what was wrong and what to do. It never holds a key, a prompt,
an address inside the network or a traceback. This module knows nothing of HTTP: `limner.api` turns a code into a
status.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import structlog

log = structlog.get_logger(__name__)


class Code(IntEnum):
    """`base_resp.status_code` of the wire contract (docs/http.md)."""

    OK = 0
    UNKNOWN = 1000
    TIMEOUT = 1001
    RATE_LIMITED = 1002
    NOT_AUTHENTICATED = 1004
    QUOTA_USED = 1008
    INTERNAL = 1024
    PROMPT_REFUSED = 1026
    PICTURE_REFUSED = 1027
    ILLEGAL_CHARACTERS = 1042
    INVALID_PARAMETERS = 2013
    INVALID_KEY = 2049
    MODEL_NOT_ALLOWED = 2061


class LimnerError(Exception):
    """A failure with a sentence for the caller.

    Subclasses set `code` and `retryable`; an instance adds the message.
    """

    code: Code = Code.UNKNOWN
    retryable: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(LimnerError):
    """A field of the request is missing, malformed or out of range. `field` is its name in an `Order`, where known."""

    code = Code.INVALID_PARAMETERS

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


Reason = Literal[
    "address", "blank", "bytes", "count", "credentials", "damaged", "encoding", "form", "path", "pixels", "redirects",
    "scheme", "status", "time", "type", "unknown host", "unreachable", "url",
]  # fmt: skip
"""Why a reference or a webhook's URL was refused, for the metrics: a small closed set."""


class ReferenceRefused(InvalidRequest):
    """A reference picture could not be had safely: wrong type, too large, not reachable, not allowed."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message, "references")
        self.reason: Reason = reason
        self.counted = False  # among the refusals of the metrics


class WebhookRefused(InvalidRequest):
    """A webhook's URL will not do, or nothing could be delivered to it."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class IllegalCharacters(LimnerError):
    """More than a tenth of the prompt is invisible or control characters."""

    code = Code.ILLEGAL_CHARACTERS


class NotAuthenticated(LimnerError):
    """No bearer key came with the request."""

    code = Code.NOT_AUTHENTICATED


class InvalidKey(LimnerError):
    """A bearer key came, but it is none of ours."""

    code = Code.INVALID_KEY


class Busy(LimnerError):
    """There is no room now: in the queue, among the jobs that wait, in memory, or within what the key may have at once.

    `retry_after` says in how many seconds it is worth trying again.
    """

    code = Code.RATE_LIMITED
    retryable = True

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaUsed(LimnerError):
    """The key's daily quota of pictures is used up. `retry_after`: seconds until the next day begins (UTC)."""

    code = Code.QUOTA_USED

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ModelNotAllowed(LimnerError):
    """The key may not use this model."""

    code = Code.MODEL_NOT_ALLOWED


class PolicyRefused(LimnerError):
    """The operator's policy refuses something. `rule` names why for the audit, and is not for the caller."""

    def __init__(self, message: str, rule: str | None = None) -> None:
        super().__init__(message)
        self.rule = rule


class PromptRefused(PolicyRefused):
    """The operator's policy refuses the prompt or a reference."""

    code = Code.PROMPT_REFUSED


class PictureRefused(PolicyRefused):
    """The operator's policy refuses what was painted."""

    code = Code.PICTURE_REFUSED


class KeyReused(InvalidRequest):
    """An Idempotency-Key came again with another body."""


class NoSuchJob(InvalidRequest):
    """There is no job of this id, or it is another tenant's."""


class TimedOut(LimnerError):
    """The pictures were not ready within the time that one request may take."""

    code = Code.TIMEOUT
    retryable = True


class EngineFailed(LimnerError):
    """The engine could not paint this request; the service itself goes on."""

    code = Code.INTERNAL
    retryable = True


class Closing(EngineFailed):
    """This process stops before the work is done; another one, or this one after its restart, goes on with it."""

    def __init__(self, message: str = "The service is shutting down. Send the request again once it is back.") -> None:
        super().__init__(message)


class JobCancelled(LimnerError):
    """A caller cancelled the job."""

    def __init__(self, message: str = "The job was cancelled.") -> None:
        super().__init__(message)


class OutOfMemory(EngineFailed):
    """There was not enough memory for this request; it was given back, and the service itself goes on."""

    def __init__(
        self, message: str = "There is not enough memory for this picture. Ask for a smaller one, or for fewer at once."
    ) -> None:
        super().__init__(message)


class ModelUnusable(LimnerError):
    """A model's files are missing, corrupt or of another kind than their meta.json says."""

    code = Code.INTERNAL


class StorageRefused(LimnerError):
    """The database does not take what was to be written, and never will: a fault of ours."""

    code = Code.INTERNAL


UNUSABLE = (
    "This model cannot be loaded; the service's log says why. Choose another model, or have its operator mend it: "
    "`limner models check` says what is wrong."
)


class SettingsInvalid(LimnerError):
    """The operator's settings contradict each other or would be unsafe."""


class StorageFailed(LimnerError):
    """The database, or the place of the pictures, is full, cannot be reached, or cannot be read or written."""

    code = Code.INTERNAL
    retryable = True


def of_code(code: int, message: str) -> LimnerError:
    """The error that a job's row tells of."""
    kinds = (
        InvalidRequest, IllegalCharacters, PromptRefused, PictureRefused, ModelNotAllowed, TimedOut, EngineFailed,
    )  # fmt: skip
    return next((kind for kind in kinds if kind.code == code), LimnerError)(message)


def told(error: Exception) -> LimnerError:
    """An error that a caller may see; what is none is logged, and its place taken by one that is."""
    if isinstance(error, LimnerError):
        return error
    log.error("a picture failed", exc_info=error)
    return EngineFailed("The picture could not be painted. Try again; if it fails again, see the service's log.")


def shown(error: LimnerError) -> str:
    """The sentence that a caller sees: what is wrong with weights names the operator's files, which are his affair."""
    return UNUSABLE if isinstance(error, ModelUnusable) else error.message


def light(error: LimnerError) -> LimnerError:
    """The same error without its traceback, which would keep the arrays of what failed in memory until it is told."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
