"""Who calls: bearer keys, compared in constant time and held only as their digests."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from limner.config import Settings
from limner.errors import InvalidKey, NotAuthenticated


@dataclass(frozen=True, slots=True)
class Keys:
    """SHA-256 digests of the accepted keys: no log and no traceback can show a key. Empty: no key is asked for."""

    digests: tuple[bytes, ...]

    @classmethod
    def load(cls, settings: Settings) -> Keys:
        keys = settings.keys()
        return cls(tuple(_digest(key.get_secret_value().encode()) for key in keys))

    def tenant(self, authorization: str | None) -> str:
        """Name the caller by an `Authorization` header: "" where no key is asked for, else the start of its digest.

        Raises:
            NotAuthenticated: no bearer came.
            InvalidKey: the bearer is none of ours.
        """
        if not self.digests:
            return ""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise NotAuthenticated("No key came: send it in the header `Authorization: Bearer <key>`.")
        came = _digest(key.strip().encode())
        matches = [hmac.compare_digest(came, digest) for digest in self.digests]  # all of them, whichever matches
        if not any(matches):
            raise InvalidKey("The key in the Authorization header is not known here; check it for typing errors.")
        return came.hex()[:12]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


async def _tenant(request: Request) -> str:
    keys: Keys = request.app.state.keys
    return keys.tenant(request.headers.get("authorization"))


_bearer = HTTPBearer(auto_error=False, description="Any of the operator's keys; not needed where none is set.")

Tenant = Annotated[str, Depends(_tenant)]
"""The caller's name; a route that declares it is guarded."""

GUARD = [Depends(_bearer), Depends(_tenant)]
"""Dependencies that guard a router and say so in its documentation."""
