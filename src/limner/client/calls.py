"""One call: to which service, with which key and who is shown it; and how often it is sent: which failures are worth
another try, when, and why nothing is painted twice."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2

from limner.client import replies
from limner.client.errors import (
    ConnectionFailed,
    InvalidRequest,
    LimnerAPIError,
    NotFound,
    RateLimited,
    ServiceFailed,
    TimedOut,
)
from limner.client.steps import Broken, Flow, Reply, Send, Unreached, Wait, late

LONGEST_WAIT: Final = 60.0
"""Where Retry-After asks for more seconds, the error is told instead; a stream that was cut is looked for as long."""

LONGEST_TIMEOUT: Final = 1e9
"""Seconds; sockets wait no longer."""

FIRST_WAIT: Final = 0.5
"""Seconds before the second try; each further one waits twice as long, less up to a half by chance."""

TRANSIENT: Final = (1001, 1024, 1033)
"""Codes of failures that another try may not meet."""

DEFAULT_URL: Final = "http://127.0.0.1:8000"

MINIMAX_HOSTS: Final = ("minimax.io", "minimaxi.com", "minimax.chat", "minimaxi.chat")
"""Domains of MiniMax's service."""

SendT = TypeVar("SendT", bound=Send)


@dataclass(frozen=True, slots=True)
class Target:
    """A service, and the key for it."""

    root: str  # before /v1, without a slash at its end
    key: str | None = field(repr=False)

    @classmethod
    def of(cls, base_url: str | None, api_key: str | None, environ: Mapping[str, str]) -> Target:
        """From a client's arguments and the environment, as `Client` says. Raises InvalidRequest."""
        host = environ.get("MINIMAX_API_HOST") or ""
        root = _root(base_url or environ.get("LIMNER_BASE_URL") or host or DEFAULT_URL)
        if api_key is None:
            names = _key_names(urlsplit(root).hostname or "", stated=root == _bare(host))
            api_key = next(filter(None, map(environ.get, names)), None)
        key = (api_key or "").strip() or None
        if key is not None and not (key.isascii() and key.isprintable()):
            raise InvalidRequest("The API key holds characters that no key has: copy it again.")
        return cls(root, key)

    def url(self, path: str) -> str:
        return self.root + path

    def headers(self, url: str) -> dict[str, str]:
        """What a request carries of the key: nothing, where it goes to another origin."""
        return {"Authorization": f"Bearer {self.key}"} if self.key and origin(url) == origin(self.root) else {}

    def unreached(self, url: str, reason: str) -> ConnectionFailed:
        """Nobody answers at a URL; how to change that."""
        if origin(url) != origin(self.root):
            return ConnectionFailed(
                f"Nobody answers at {urlsplit(url).netloc}, where the picture's link leads ({reason}). "
                "A Limner server's links start with its setting public_url."
            )
        if _is_loopback(urlsplit(self.root).hostname or ""):
            advice = "Start a server with `limner serve`, or give base_url (or LIMNER_BASE_URL) the address of one."
        else:
            advice = "Check base_url (or LIMNER_BASE_URL), and that the server runs; `limner serve` starts one here."
        return ConnectionFailed(f"Nobody answers at {self.root} ({reason}). {advice}")


@dataclass(frozen=True, slots=True)
class Call:
    """A request as an operation sees it."""

    method: str
    url: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True  # may be sent again after the server may have had it
    file: bool = False  # the reply is a picture's file, not JSON


@dataclass(slots=True)
class Channel:
    """Makes calls; the fields are as `Client` describes them.

    `idempotent` is remembered once it was found out. Threads may share it: at worst two find out.
    """

    target: Target
    timeout: float
    connect_timeout: float
    retries: int
    idempotent: bool | None

    def __post_init__(self) -> None:
        """Raises InvalidRequest."""
        for name in ("timeout", "connect_timeout"):
            if not 0 < getattr(self, name) < LONGEST_TIMEOUT:
                raise InvalidRequest(f"{name} is to be a number of seconds above 0; got {getattr(self, name)!r}.")
        if self.retries < 0:
            raise InvalidRequest(f"retries is to be 0 or more; got {self.retries!r}.")

    def deadline(self) -> float:
        """Of time.monotonic(), for a call that begins now."""
        return time.monotonic() + self.timeout

    def call(self, call: Call, deadline: float | None = None) -> Flow[Reply]:
        """The reply to a call that succeeded.

        Raises:
            LimnerAPIError: what the last reply says, by kind; ConnectionFailed, TimedOut where there was none.
        """
        deadline = self.deadline() if deadline is None else deadline
        failed: LimnerAPIError = late()
        doubtful = False  # whether the server may have had it
        for attempt in range(self.retries + 1):
            safe = not doubtful or call.repeatable or (yield from self._knows_keys(deadline))
            if safe is False:
                break
            try:
                if safe:
                    reply: Reply = yield self.step(call, deadline, Send)
                    error = replies.error(reply, call.url, file=call.file)
                    if error is None or (doubtful and call.method == "DELETE" and isinstance(error, NotFound)):
                        return reply
                    failed, doubtful = error, doubtful or not isinstance(error, RateLimited)
            except Unreached as gone:
                failed = self.target.unreached(call.url, str(gone))
            except Broken as broken:
                failed, doubtful = ConnectionFailed(f"The connection broke ({broken})."), True
            wait = pause(failed, attempt)
            if wait is None or attempt == self.retries or time.monotonic() + wait >= deadline:
                break
            yield Wait(wait)
        raise failed

    def step(self, call: Call, deadline: float, kind: type[SendT]) -> SendT:
        """A call as a step, which carries the key only where it belongs."""
        headers = {"Accept": "application/json"} | self.target.headers(call.url) | dict(call.headers)
        body = None
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(call.body).encode()
        return kind(call.method, call.url, headers, body, deadline, self.connect_timeout)

    def _knows_keys(self, deadline: float) -> Flow[bool | None]:
        """Whether the server recognises a call by its Idempotency-Key: whether it has jobs, as Limner's have.

        None where that cannot be found out now.
        """
        if self.idempotent is None:
            asking = Call("GET", self.target.url("/v1/jobs?limit=1"))
            try:
                reply: Reply = yield self.step(asking, deadline, Send)
            except (Unreached, Broken, LimnerAPIError):
                return None
            if reply.status == 429 or reply.status >= 500:
                return None
            try:
                has = replies.error(reply, asking.url, file=False) is None
                self.idempotent = has and replies.read(reply, lambda found: isinstance(found["jobs"], list))
            except ServiceFailed:
                self.idempotent = False
        return self.idempotent


def pause(error: LimnerAPIError, attempt: int) -> float | None:
    """Seconds before the next try, where this was the `attempt`-th from 0; None where there is no sense in one."""
    status = error.status or 0
    failed = error.code in TRANSIENT or (error.code is None and status >= 500)
    if not (
        isinstance(error, RateLimited | ConnectionFailed) or (failed and isinstance(error, ServiceFailed | TimedOut))
    ):
        return None
    chance = 1 - random.random() / 2  # noqa: S311 - so that clients do not come back all at once
    wait = FIRST_WAIT * 2.0 ** min(attempt, 4) * chance if error.retry_after is None else error.retry_after
    return wait if wait <= LONGEST_WAIT else None


def _key_names(host: str, *, stated: bool) -> tuple[str, ...]:
    """Where in the environment the key for a service stands; `stated`: its address is MINIMAX_API_HOST."""
    if host.endswith(tuple(f".{domain}" for domain in MINIMAX_HOSTS)) or host in MINIMAX_HOSTS:
        return ("MINIMAX_API_KEY",)
    return ("MINIMAX_API_KEY", "LIMNER_API_KEY") if stated else ("LIMNER_API_KEY",)


def _bare(url: str) -> str:
    return url.strip().rstrip("/").removesuffix("/v1").rstrip("/")


def _root(url: str) -> str:
    root = _bare(url)
    parts = _parts(root)
    if parts is None or parts.query or parts.fragment:
        raise InvalidRequest(f"base_url is to be the address of a service, such as {DEFAULT_URL}; got {url[:200]!r}.")
    if parts.username or parts.password:
        raise InvalidRequest("base_url must not hold a name and password; give the key as api_key.")
    return root


def led(url: str, to: str) -> str:
    """Where a link, or a redirect, leads that was found at a URL. Raises ServiceFailed where that is no address."""
    try:
        found = urljoin(url, to)
    except ValueError:
        found = ""
    if _parts(found) is None:
        raise ServiceFailed(f"The picture's link leads to {to[:200]!r}, which is no http or https address.")
    return found


def _parts(url: str) -> SplitResult | None:
    """The parts of an http or https URL; None where it is none, or a connection could not even be tried."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError where it is none
        # httpx2 reads more strictly, and so does whoever looks the name up.
        httpx2.URL(url).raw_host.decode("ascii").encode("idna")
    except (ValueError, httpx2.InvalidURL):
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def origin(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port of a URL (RFC 6454, 4); None where it cannot be read."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
