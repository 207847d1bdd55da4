"""The MCP server over HTTP (Streamable HTTP): who may call it, and under which names.

Pages of other sites are kept out by the names in Host and Origin (DNS rebinding). On loopback a call needs no key, and
is painted under this process's own; everywhere else each call must bring one, which is passed on to the service, so
that its tenant, its limits and its models are those that the service knows it by.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from mcp.server import Server
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings

from limner.client import AsyncClient, AuthenticationError, InvalidRequest, LimnerAPIError
from limner.config import is_loopback
from limner.errors import LimnerError, SettingsInvalid

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - to be recognised, not to be listened on

BODY_BYTES: Final = 16 * 2**20
"""Largest body of a call: a reference of 10 MB in base64, and some."""

KNOWN_SECONDS: Final = 60
"""How long a key that the service knew is let in without asking it."""

NO_KEY: Final = "Send a key of the Limner service, as Authorization: Bearer <key>."

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
"""An application of ASGI 3."""


async def check_open(address: str, names: Sequence[str], server: str | None) -> None:
    """Whether it is safe to listen on `address` for calls that go to `server`, this process where that is None.

    Raises:
        SettingsInvalid: strangers could paint, or callers' names for it are not known.
        LimnerError: the service cannot be asked.
    """
    if is_loopback(address):
        return
    if server is None:
        raise SettingsInvalid(
            "On another address than loopback each caller needs a key of a Limner service: start one with keys, and "
            "name it by --server."
        )
    if address in ANY and not names:
        raise SettingsInvalid(f"On {address} say by --allow-host under which names it is called.")
    try:
        async with AsyncClient(server, secrets.token_urlsafe(), retries=0) as stranger:
            await stranger.models()
    except AuthenticationError:
        return
    except LimnerAPIError as error:
        raise LimnerError(f"The service at {server} could not be asked about keys: {error.message}") from None
    raise SettingsInvalid(
        f"The service at {server} wants no keys, so everybody who reaches {address} could paint there. Make a key with "
        f"`limner keys create`, or listen on 127.0.0.1."
    )


def application(served: Server[Any], address: str, names: Sequence[str], server: str | None) -> App:
    """The application that answers at /mcp on `address`, called by loopback's names or by `names`. `server` knows the
    keys, where calls need one."""
    here = is_loopback(address)
    own = [f"[{address}]" if ":" in address else address] if address not in ANY else []
    hosts = [*(LOOPBACK if here else own), *names]
    origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
    security = TransportSecuritySettings(
        allowed_hosts=[*hosts, *(f"{host}:*" for host in hosts)],
        allowed_origins=[*origins, *(f"{origin}:*" for origin in origins)],
    )
    app = served.streamable_http_app(transport_security=security, max_request_body_size=BODY_BYTES)
    refusal = _keys_of(server)

    async def keyed(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            key = _key(dict(scope["headers"]).get(b"authorization", b""))
            if key is not None:  # a session belongs to the key that began it
                scope["user"] = AuthenticatedUser(AccessToken(token=key, client_id=_hash(key), scopes=[]))
            if not here and (refused := await refusal(key)) is not None:
                await _refuse(send, *refused)
                return
        await app(scope, receive, send)

    return keyed


def _keys_of(server: str | None) -> Callable[[str | None], Awaitable[tuple[int, str] | None]]:
    """A function that says with which status and sentence a key is refused; None where it is a good one.

    A key that the service knew is not asked about again for KNOWN_SECONDS: every call asks the service anyway.
    """
    known: dict[str, float] = {}

    async def refusal(key: str | None) -> tuple[int, str] | None:
        if key is None:
            return 401, NO_KEY
        now = time.monotonic()
        if known.get(_hash(key), 0.0) > now:
            return None
        try:
            async with AsyncClient(server, key, retries=0) as client:
                await client.models()
        except (AuthenticationError, InvalidRequest) as error:  # the latter where no key is written so
            return 401, error.message
        except LimnerAPIError as error:
            return 503, error.message
        for old in [name for name, until in known.items() if until <= now]:
            del known[old]
        known[_hash(key)] = now + KNOWN_SECONDS
        return None

    return refusal


def _key(header: bytes) -> str | None:
    scheme, _, key = header.decode("latin-1").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": "invalid_token" if status == 401 else "unavailable", "error_description": sentence})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
