"""What can go wrong, by meaning: one exception a kind, told from the code of a reply or from its HTTP status."""

from __future__ import annotations

from typing import Final


class LimnerAPIError(Exception):
    """A call that failed, with a sentence that says what was wrong and what to do.

    Attributes:
        code: `base_resp.status_code` of the reply (docs/http.md, Errors); None where the reply had none.
        status: HTTP status of the reply; None where there was no reply.
        message: the sentence.
        id: of the call or the job, by which the server's log has it; None where it is not known.
        retry_after: seconds after which another try is worth it; None where the server did not say.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        status: int | None = None,
        id: str | None = None,  # noqa: A002 - the field's name in every reply
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.id = id
        self.retry_after = retry_after


class AuthenticationError(LimnerAPIError):
    """The key is missing or wrong, or may not do this."""


class RateLimited(LimnerAPIError):
    """Too much at once: `retry_after` says when to come again."""


class QuotaUsed(LimnerAPIError):
    """What the key may use is used up."""


class PromptRefused(LimnerAPIError):
    """The service's policy refused the prompt, a reference or what was painted."""


class InvalidRequest(LimnerAPIError):
    """A field is wrong, or a file of the caller's will not do. Nothing was painted; another try changes nothing."""


class NotFound(LimnerAPIError):
    """No such job, picture or route."""


class ServiceFailed(LimnerAPIError):
    """The service, or something between here and there, failed."""


class TimedOut(LimnerAPIError):
    """No answer in time: the server's time was up, or the client's `timeout`."""


class ConnectionFailed(LimnerAPIError):
    """Nobody answers at the address, or the connection broke."""


class JobCancelled(LimnerAPIError):
    """The job was cancelled, by `cancel` or on the server. Pictures that were done before stay with the job."""


OF_CODE: Final[dict[int, type[LimnerAPIError]]] = {
    1000: ServiceFailed,
    1001: TimedOut,
    1002: RateLimited,
    1004: AuthenticationError,
    1008: QuotaUsed,
    1024: ServiceFailed,
    1026: PromptRefused,
    1027: PromptRefused,
    1028: QuotaUsed,
    1030: QuotaUsed,
    1033: ServiceFailed,
    1039: RateLimited,
    1041: RateLimited,
    1042: InvalidRequest,
    2013: InvalidRequest,
    2045: RateLimited,
    2049: AuthenticationError,
    2056: QuotaUsed,
    2061: AuthenticationError,
}
"""By `base_resp.status_code`: the service's own codes, and those that only MiniMax's has."""

OF_STATUS: Final[dict[int, type[LimnerAPIError]]] = {
    401: AuthenticationError,
    402: QuotaUsed,
    403: AuthenticationError,
    404: NotFound,
    408: TimedOut,
    429: RateLimited,
    504: TimedOut,
}
"""By HTTP status, for replies without a code; the rest of 4xx is InvalidRequest, all else ServiceFailed."""


def kind_of(code: int | None, status: int | None) -> type[LimnerAPIError]:
    """The exception for a code, and where that is none or unknown, for a status."""
    if status == 404 and code == 2013:
        return NotFound
    if code in OF_CODE:
        return OF_CODE[code]
    if status is None or status == 200:
        return ServiceFailed if code is None or code < 2000 else InvalidRequest
    return OF_STATUS.get(status, InvalidRequest if 400 <= status < 500 else ServiceFailed)
