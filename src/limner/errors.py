"""Everything that can go wrong and be told to a caller, with its number in the MiniMax error table.

An error's message is a sentence for the caller: what was wrong and what to do. It never holds a key, a prompt,
an address inside the network or a traceback. This module knows nothing of HTTP: `limner.api` turns a code into a
status.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal


class Code(IntEnum):
    """`base_resp.status_code` of the wire contract (docs/http.md)."""

    OK = 0
    UNKNOWN = 1000
    TIMEOUT = 1001
    RATE_LIMITED = 1002
    NOT_AUTHENTICATED = 1004
    INTERNAL = 1024
    PROMPT_REFUSED = 1026
    PICTURE_REFUSED = 1027
    ILLEGAL_CHARACTERS = 1042
    INVALID_PARAMETERS = 2013
    INVALID_KEY = 2049


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
    """A field of the request is missing, malformed or out of range."""

    code = Code.INVALID_PARAMETERS


Reason = Literal[
    "address", "blank", "bytes", "count", "credentials", "damaged", "encoding", "form", "path", "pixels", "redirects",
    "scheme", "status", "time", "type", "unknown host", "unreachable", "url",
]  # fmt: skip
"""Why a reference was refused, for the metrics: a small closed set."""


class ReferenceRefused(InvalidRequest):
    """A reference picture could not be had safely: wrong type, too large, not reachable, not allowed."""

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
    """The bounded queue is full. `retry_after` says in how many seconds it is worth trying again."""

    code = Code.RATE_LIMITED
    retryable = True

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TimedOut(LimnerError):
    """The pictures were not ready within the time that one request may take."""

    code = Code.TIMEOUT
    retryable = True


class EngineFailed(LimnerError):
    """The engine could not paint this request; the service itself goes on."""

    code = Code.INTERNAL
    retryable = True


class OutOfMemory(EngineFailed):
    """There was not enough memory for this request; it was given back, and the service itself goes on."""

    def __init__(
        self, message: str = "There is not enough memory for this picture. Ask for a smaller one, or for fewer at once."
    ) -> None:
        super().__init__(message)


class ModelUnusable(LimnerError):
    """A model's files are missing, corrupt or of another kind than their meta.json says."""

    code = Code.INTERNAL


class SettingsInvalid(LimnerError):
    """The operator's settings contradict each other or would be unsafe."""


class StorageFailed(LimnerError):
    """A picture could not be kept: the disk is full, or its folder cannot be written."""

    code = Code.INTERNAL
    retryable = True


def light(error: LimnerError) -> LimnerError:
    """The same error without its traceback, which would keep the arrays of what failed in memory until it is told."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
