"""What flows and drivers say to each other: the steps that a flow asks for, and what a driver answers.

Everything about HTTP that is the same whether or not it blocks is here; `sync` and `aio` add the calls alone.
"""

from __future__ import annotations

import functools
import os
import ssl
import stat
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, TypeVar

import httpx2

import limner
from limner.client.errors import InvalidRequest, LimnerAPIError, ServiceFailed, TimedOut

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

MAX_REPLY_BYTES: Final = 64_000_000
"""Longest body that is taken, once it is unpacked; pictures of 2048 x 2048 have at most some 13 MB."""

MAX_REFERENCE_BYTES: Final = 10_000_000
"""Largest file of a reference: what MiniMax's service takes, and a Limner server unless its operator says otherwise."""

SILENCE_SECONDS: Final = 45.0
"""How long a stream of events may be silent: servers send a comment every 15 seconds."""

# What a flow asks for


@dataclass(frozen=True, slots=True)
class Send:
    """One request; answered with the whole Reply."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    deadline: float  # of time.monotonic(); looked at whenever some of the body has come, and when nothing does
    connect: float  # seconds to make a connection

    def arguments(self) -> dict[str, Any]:
        """For httpx2's `stream`. Raises TimedOut where there is no time left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise late()
        timeout = httpx2.Timeout(left, connect=min(self.connect, left))
        return {
            "method": self.method,
            "url": self.url,
            "headers": dict(self.headers),
            "content": self.body,
            "timeout": timeout,
        }

    def reply(self, response: httpx2.Response) -> Reply:
        return Reply(response.status_code, response.headers, self.deadline)


@dataclass(frozen=True, slots=True)
class Listen(Send):
    """One request for a stream of events, whose reply is answered before its body has come; the body, if it is such a
    stream, comes by Receive. An earlier stream ends."""

    def arguments(self) -> dict[str, Any]:
        told = Send.arguments(self)
        read = min(SILENCE_SECONDS, told["timeout"].read)
        return told | {"timeout": httpx2.Timeout(read, connect=told["timeout"].connect)}


@dataclass(frozen=True, slots=True)
class Receive:
    """More of the stream; answered with bytes, none at its end."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Time to pass; answered with None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """A file of the caller's; answered with its bytes, by `load`."""

    path: str


@dataclass(frozen=True, slots=True)
class Emit(Generic[T]):
    """An item for the caller, who is given it before the flow goes on; answered with None."""

    item: T


Step = Send | Receive | Wait | Load
Flow = Generator[Step, Any, R]
"""An operation: it yields steps, is sent their answers, and returns what the caller asked for."""

Stream = Generator[Step | Emit[T], Any, None]
"""The same, with items for the caller on the way."""


# What a driver answers


@dataclass(slots=True)
class Reply:
    status: int
    headers: httpx2.Headers
    deadline: float
    body: bytearray = field(default_factory=bytearray)

    @property
    def streams(self) -> bool:
        """Whether events follow."""
        return self.status == 200 and self.headers.get("content-type", "").startswith("text/event-stream")

    def feed(self, chunk: bytes) -> None:
        """Take more of the body. Raises TimedOut; ServiceFailed where it grows too large."""
        if time.monotonic() > self.deadline:
            raise late()
        if len(self.body) + len(chunk) > MAX_REPLY_BYTES:
            raise ServiceFailed(
                f"The reply has more than {MAX_REPLY_BYTES / 1e6:.0f} MB, which no picture has. "
                "Is base_url that of an image service?",
                status=self.status,
            )
        self.body += chunk

    @property
    def retry_after(self) -> float | None:
        """Seconds (RFC 9110, 10.2.3); None where the header is absent or strange."""
        text = self.headers.get("retry-after", "").strip()
        if text.isdecimal() and len(text) < 10:
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            return None


class Unreached(Exception):
    """There was no connection: nothing was sent."""


class Broken(Exception):
    """The connection broke after it was made: the server may have done what it was asked."""


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    value: R


def advance(flow: Generator[S, Any, R], answer: Any) -> S | Done[R]:
    """The next step of a flow that is told an answer, or thrown it where it is an exception; Done at its end."""
    try:
        return flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
    except StopIteration as end:
        return Done(end.value)


def quietly(flow: Generator[Step | Emit[T], Any, R]) -> Flow[R]:
    """The same flow without the items on its way."""
    answer: Any = None
    while not isinstance(step := advance(flow, answer), Done):
        answer = None
        if not isinstance(step, Emit):
            try:
                answer = yield step
            except Exception as error:
                answer = error
    return step.value


def fault(step: Step, error: httpx2.HTTPError | httpx2.InvalidURL | LimnerAPIError) -> Exception:
    """What a flow is thrown for a step that failed."""
    match error:
        case LimnerAPIError():
            return error
        case httpx2.ConnectTimeout():
            return Unreached("no connection in time")
        case httpx2.ConnectError() | httpx2.ProxyError():
            return Unreached(str(error))
        case httpx2.TimeoutException() if type(step) is Send:
            return late()
        case httpx2.InvalidURL():  # the addresses themselves were looked at before; a name in one may be too long
            return InvalidRequest(f"This cannot be asked for: {error}")
        case _:
            return Broken(str(error) or type(error).__name__)


FAULTS: Final = (httpx2.HTTPError, httpx2.InvalidURL, LimnerAPIError)
"""What `fault` takes."""


def late() -> TimedOut:
    return TimedOut(
        "There was no answer within the client's timeout. What was asked for may still be painted: "
        "see jobs(), or give Client a longer timeout."
    )


def load(path: str) -> bytes:
    """A file of the caller's. Raises InvalidRequest where it cannot be read or is too large."""
    try:
        found = os.stat(path)  # noqa: PTH116 - one call, before it is opened
        if not stat.S_ISREG(found.st_mode):  # a pipe may have nothing to read for ever, a device more than there is
            raise InvalidRequest(f"{path} is no file; a reference is a JPEG, PNG or WebP.")
        if found.st_size > MAX_REFERENCE_BYTES:
            raise too_large(f"The file {path}", found.st_size)
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(MAX_REFERENCE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(f"The file {path} cannot be read: {reason}.") from None


def too_large(what: str, size: int) -> InvalidRequest:
    return InvalidRequest(
        f"{what} has {size / 1e6:.1f} MB; at most {MAX_REFERENCE_BYTES / 1e6:.0f} MB are taken. Make it smaller."
    )


def options() -> dict[str, Any]:
    """Of every httpx2 client."""
    return {
        "headers": {"User-Agent": f"limner-python/{limner.__version__}"},
        # Proxies of the environment are used, but never on the way to this machine itself.
        "mounts": dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://*.localhost", "all://[::1]")),
        "verify": _certificates(),
    }


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Who is trusted. Reading it takes longer than a call, so it is read once a process, when it is first needed."""
    return httpx2.create_ssl_context()
