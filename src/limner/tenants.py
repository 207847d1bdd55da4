"""Who calls, and how much they may: keys to callers, and callers' limits held when a job is accepted.

Keys come from the settings (api_keys, without limits) and from the database (`limner keys`), side by side. Once either
has one, every call needs one. A key of the database is looked up at every call, so a revoked one stops at once.

A key's limits are exact: the transaction that accepts a job locks the key's row, counts and takes, so calls of one key
pass one at a time, whichever process they came to. Where limits_url names a Valkey, the pictures a minute are counted
there instead; while it cannot be reached, they are counted in the database again, from nothing: a key may then take up
to twice its rate in that one minute, and nobody is turned away for it.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Connection

from limner.config import Settings, is_loopback
from limner.errors import (
    Busy,
    InvalidKey,
    InvalidRequest,
    LimnerError,
    ModelNotAllowed,
    NotAuthenticated,
    QuotaUsed,
    SettingsInvalid,
)
from limner.models.registry import Registry
from limner.order import Order
from limner.storage import keys, usage
from limner.storage.database import Database
from limner.storage.keys import Key, Refusal
from limner.storage.rates import Rates

NONE_CAME = "No key came: send it in the header `Authorization: Bearer <key>`."
REVOKED = "The key in the Authorization header was revoked; ask the service's operator for another."
EXPIRED = "The key in the Authorization header has expired; ask the service's operator for another."
UNKNOWN = "The key in the Authorization header is not known here; check it for typing errors."

SPAN_DAYS = 366
"""Most days of one report."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request."""

    tenant: str = ""  # "" where no key is asked for; for a key of the settings the first 12 digits of its SHA-256
    key: Key | None = None  # where it is one of the database


ANYONE = Caller()


def keys_line(settings: Settings, connection: Connection) -> str:
    """Who may use the service, in a line for its operator."""
    now = time.time()
    counts = {
        "of the settings": len(settings.keys()),
        "of the database": sum(key.state(now) == "valid" for key in keys.every(connection)),
    }
    if not counts["of the settings"] and not keys.asked_for(connection):
        return "no key needed"
    valid = ", ".join(f"{count} {where}" for where, count in counts.items() if count)
    return f"each call must carry a key: {valid or 'none is valid, limner keys create makes one'}"


def refuse_open(settings: Settings, connection: Connection) -> None:
    """Raises SettingsInvalid where anyone on the network could use the service: no loopback address, and no key."""
    if not is_loopback(settings.host) and not settings.keys() and not keys.asked_for(connection):
        raise SettingsInvalid(
            f"Listening on {settings.host} without keys would let anyone on the network use this service. Make a key "
            f"with `limner keys create`, set LIMNER_API_KEYS or LIMNER_API_KEYS_FILE, or listen on 127.0.0.1."
        )


def span(first: str | None, last: str | None, now: float) -> tuple[str, str]:
    """The days of a report, 2026-11-23 each; absent ones: from the first of the month of `last`, to today (UTC).

    Raises:
        InvalidRequest: one is no day, they are in the wrong order, or more than SPAN_DAYS.
    """
    ends = date.fromisoformat(usage.day_of(now)) if last is None else _day(last, "to")
    begins = ends.replace(day=1) if first is None else _day(first, "from")
    if not 0 <= (ends - begins).days < SPAN_DAYS:
        raise InvalidRequest(f"From {begins} to {ends} is no span of 1 to {SPAN_DAYS} days.")
    return begins.isoformat(), ends.isoformat()


def _day(text: str, name: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise InvalidRequest(f"{name} is no day: write it as 2026-11-23.") from None


class Tenants:
    """Callers and their limits. Belongs to one event loop, but for `admit`, which a database thread calls.

    Raises:
        SettingsInvalid: limits_url cannot be used.
    """

    def __init__(self, settings: Settings, database: Database, models: Registry) -> None:
        self.settings = settings
        self.database = database
        self.models = models
        accepted = settings.keys()
        self._digests = tuple(_digest(key.get_secret_value()) for key in accepted)
        self._guarded = bool(self._digests) or not is_loopback(settings.host)  # never becomes False again
        self._rates = None if settings.limits_url is None else Rates(settings.limits_url.get_secret_value())

    async def caller(self, authorization: str | None) -> Caller:
        """Who sent this `Authorization` header.

        Raises:
            NotAuthenticated: a key is asked for, and no bearer came.
            InvalidKey: the bearer is unknown, revoked or expired.
            StorageFailed: the database cannot be read.
        """
        scheme, _, rest = (authorization or "").partition(" ")
        bearer = rest.strip() if scheme.lower() == "bearer" else ""
        came = _digest(bearer)
        matches = [hmac.compare_digest(came, digest) for digest in self._digests]  # all of them, whichever matches
        if bearer and any(matches):
            return Caller(came.hex()[:12])
        if keys.well_formed(bearer) or not self._guarded:
            now = time.time()
            key, asked_for = await self.database.run(
                lambda connection: (
                    keys.find(connection, bearer, now) if keys.well_formed(bearer) else None,
                    self._guarded or keys.asked_for(connection),
                ),
                writing=False,
            )
            self._guarded = self._guarded or asked_for
            if key is not None:
                return Caller(key.tenant, _usable(key, now))
        if not self._guarded:
            return ANYONE
        if not bearer:
            raise NotAuthenticated(NONE_CAME)
        raise InvalidKey(UNKNOWN)

    def may_use(self, caller: Caller, model: str) -> bool:
        """Whether the caller's key may name this model; an alias is the model that it stands for."""
        allowed = None if caller.key is None else caller.key.limits.models
        return allowed is None or self.models.names[model] in {self.models.names.get(name) for name in allowed}

    def check(self, caller: Caller, order: Order) -> None:
        """What the key can never be given, whatever it has taken so far.

        Raises:
            ModelNotAllowed: it may not use this model.
            InvalidRequest: the pictures are larger, or more at once, than it may ask for.
        """
        if caller.key is None:
            return
        limits = caller.key.limits
        if not self.may_use(caller, order.model):
            raise ModelNotAllowed(
                f"This key may not use the model {order.model}; it may use {', '.join(limits.models or ())}."
            )
        if limits.max_pixels is not None and order.width * order.height > limits.max_pixels:
            raise InvalidRequest(
                f"This key may ask for pictures of at most {limits.max_pixels} pixels; {order.width}×{order.height} "
                f"are {order.width * order.height}. Ask for a smaller one."
            )
        for most, span in ((limits.rate, "minute"), (limits.daily, "day")):
            if most is not None and order.n > most:
                raise InvalidRequest(f"This key may ask for {most} pictures a {span}, so never for {order.n} at once.")

    async def take(self, caller: Caller, order: Order) -> bool:
        """Count the order against the key's rate in Valkey; whether that was done, for `admit`.

        Nothing is taken for an order that another limit stands against.

        Raises:
            As `admit`.
        """
        key = caller.key
        if self._rates is None or key is None or key.limits.rate is None or self._rates.paused:
            return False
        now = time.time()
        refused = await self.database.run(
            lambda connection: keys.refusal(connection, key, order.n, now, rate=False), writing=False
        )
        if refused is None:
            wait = await self._rates.take(key.id, key.limits.rate, order.n)
            if wait is None:
                return False
            if not wait:
                return True
            refused = Refusal("rate", key.limits.rate, key.limits.rate, wait)
        raise _told(refused, order.n)

    def look(self, connection: Connection, caller: Caller, order: Order, now: float) -> None:
        """Whether the caller's limits stand against the order already; nothing is counted, which `admit` does.

        Raises:
            Busy, QuotaUsed: as `admit`.
        """
        if caller.key is None:
            return
        refused = keys.refusal(connection, caller.key, order.n, now)
        if refused is not None:
            raise _told(refused, order.n)

    def admit(self, connection: Connection, caller: Caller, order: Order, now: float, *, counted: bool = False) -> None:
        """Hold the caller's limits, and count the order against them: within the transaction that accepts its job.

        Args:
            now: Unix seconds, the job's `created`.
            counted: What `take` returned: the rate has been counted already.

        Raises:
            Busy: too many pictures this minute, or too many jobs at once; `retry_after` says when it is worth trying.
            QuotaUsed: the pictures of today are used up.
            InvalidKey: the key was revoked or has expired meanwhile.
        """
        if caller.key is None:
            return
        key = keys.get(connection, caller.key.id, lock=True)
        if key is None:
            raise InvalidKey(UNKNOWN)
        refused = keys.refusal(connection, _usable(key, now), order.n, now, rate=not counted)
        if refused is not None:
            raise _told(refused, order.n)
        keys.take(connection, key, self.models.lookup(order.model).name, order.n, now, rate=not counted)

    async def usage(self, caller: Caller, first: str, last: str) -> dict[str, Any]:
        """What the caller's tenant used from one UTC day to another, both included, and what its key has left today."""
        now = time.time()

        def read(connection: Connection) -> tuple[list[usage.Used], int]:
            today = 0 if caller.key is None else usage.charged(connection, caller.key.id, usage.day_of(now))
            return usage.between(connection, first, last, caller.tenant), today

        used, today = await self.database.run(read, writing=False)
        limits = keys.Limits() if caller.key is None else caller.key.limits
        return {
            "tenant": caller.tenant,
            "from": first,
            "to": last,
            "days": [{name: value for name, value in asdict(row).items() if name != "tenant"} for row in used],
            "limits": asdict(limits) | {"expires": None if caller.key is None else caller.key.expires},
            "today": {
                "charged": today,
                "left": None if limits.daily is None else max(0, limits.daily - today),
                "ends": usage.day_ends(now),
            },
        }

    async def close(self) -> None:
        """Let go of what counts rates. May be called twice."""
        if self._rates is not None:
            await self._rates.close()


def _told(refusal: Refusal, pictures: int) -> LimnerError:
    """The sentence for a limit that is reached."""
    most, taken, wait = refusal.most, refusal.taken, refusal.retry_after
    match refusal.limit:
        case "daily":
            return QuotaUsed(
                f"This key's quota is {most} pictures a day, of which {max(0, most - taken)} are left; {pictures} "
                f"were asked for. It begins anew at midnight UTC.",
                wait,
            )
        case "rate":
            return Busy(
                f"This key may ask for {most} pictures a minute. Wait {math.ceil(wait)} s, then try again.", wait
            )
        case "concurrent":
            return Busy(f"This key may have {most} jobs at once, and has {taken}. Wait until one has ended.", wait)


def _usable(key: Key, now: float) -> Key:
    """The key. Raises InvalidKey where it was revoked or has expired."""
    state = key.state(now)
    if state == "valid":
        return key
    raise InvalidKey(REVOKED if state == "revoked" else EXPIRED)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
