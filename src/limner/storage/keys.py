"""Keys of tenants in the database: made, found, rotated, revoked, and what each may take.

A key is `lk-` and 49 letters and digits: 43 that are 256 random bits, and 6 that are the CRC-32 of the 43, so that a
scanner for secrets finds one by its form (`lk-[0-9A-Za-z]{49}`) and is seldom wrong. Only its SHA-256 is stored. That
is no password hash, and need not be: nobody can search 256 random bits. A row is never deleted, so that a service which
once asked for keys always does.

Functions of a Connection, to be put together in one transaction. Times are Unix seconds.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sqlalchemy import Connection, RowMapping, delete, exists, func, or_, select, update

from limner.storage import usage
from limner.storage.jobs import UNFINISHED
from limner.storage.schema import jobs, keys, takes

PREFIX: Final = "lk-"
FORM: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{49}}")
TENANT: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._@-]{0,63}")
"""What a tenant may be called."""

MINUTE: Final = 60.0
SHOWN: Final = 10
"""How many letters of a key lists show: 42 random bits of 256."""

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may take; None: as much as there is."""

    rate: int | None = None  # pictures a minute, in every window of 60 s
    concurrent: int | None = None  # jobs at once, waiting or running
    daily: int | None = None  # pictures a UTC day
    models: tuple[str, ...] | None = None  # names
    max_pixels: int | None = None  # width x height of one picture
    retention: float | None = None  # seconds that its jobs are kept; None: as the settings say


@dataclass(frozen=True, slots=True)
class Key:
    """A row of `keys`, without its digests."""

    id: str
    tenant: str
    shown: str  # its first letters
    note: str
    created: float
    expires: float | None
    revoked: float | None
    old_until: float | None  # the key before the rotation works until then
    limits: Limits

    def state(self, now: float) -> Literal["valid", "revoked", "expired"]:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "valid"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What of a key's limits stands against a request, and when it is worth trying again, in seconds from now."""

    limit: Literal["rate", "concurrent", "daily"]
    most: int
    taken: int
    retry_after: float


def new_secret() -> str:
    """A fresh key."""
    body = _base62(secrets.randbits(256), 43)
    return PREFIX + body + _checksum(body)


def well_formed(secret: str) -> bool:
    """Whether `secret` has the form and the checksum of a key of ours."""
    return FORM.fullmatch(secret) is not None and _checksum(secret[len(PREFIX) : -6]) == secret[-6:]


def digest(secret: str) -> str:
    """What is stored of a key: its SHA-256, hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create(
    connection: Connection, tenant: str, limits: Limits, now: float, *, expires: float | None = None, note: str = ""
) -> tuple[Key, str]:
    """A new key of a tenant, and its secret, which nothing tells again.

    Raises:
        ValueError: the tenant's name is none.
    """
    if not TENANT.fullmatch(tenant):
        raise ValueError(f"not a tenant's name: {tenant!r}")
    secret = new_secret()
    row: dict[str, Any] = {
        "id": f"key_{secrets.token_hex(8)}",
        "tenant": tenant,
        "digest": digest(secret),
        "shown": secret[:SHOWN],
        "note": note,
        "created": now,
        "expires": expires,
        "rate": limits.rate,
        "concurrent": limits.concurrent,
        "daily": limits.daily,
        "models": None if limits.models is None else list(limits.models),
        "max_pixels": limits.max_pixels,
        "retention": limits.retention,
    }
    connection.execute(keys.insert().values(row))
    (found,) = connection.execute(select(keys).where(keys.c.id == row["id"])).mappings()
    return _key(found), secret


def find(connection: Connection, secret: str, now: float) -> Key | None:
    """The key of this secret, revoked and expired ones too; None where there is none, or it was rotated and is over.

    The index compares digests, not secrets: how long it takes tells nobody anything of a secret.
    """
    came = digest(secret)
    old = (keys.c.old_digest == came) & (keys.c.old_until > now)
    row = connection.execute(select(keys).where(or_(keys.c.digest == came, old))).mappings().first()
    return None if row is None else _key(row)


def get(connection: Connection, key_id: str, *, lock: bool = False) -> Key | None:
    """A key by its id. With `lock` nobody else locks it until the transaction has ended."""
    wanted = select(keys).where(keys.c.id == key_id)
    row = connection.execute(wanted.with_for_update() if lock else wanted).mappings().first()
    return None if row is None else _key(row)


def every(connection: Connection, tenant: str | None = None) -> list[Key]:
    """All keys, or those of one tenant, oldest first."""
    wanted = select(keys).order_by(keys.c.created, keys.c.id)
    rows = connection.execute(wanted if tenant is None else wanted.where(keys.c.tenant == tenant)).mappings()
    return [_key(row) for row in rows]


def asked_for(connection: Connection) -> bool:
    """Whether a key has ever been made, so that callers need one."""
    return bool(connection.scalar(select(exists(select(keys.c.id)))))


def revoke(connection: Connection, key_id: str, now: float) -> Key | None:
    """The key works no more, nor does the one before its rotation. None where there is no such key."""
    connection.execute(
        update(keys)
        .where(keys.c.id == key_id)
        .values(revoked=func.coalesce(keys.c.revoked, now), old_digest=None, old_until=None)
    )
    return get(connection, key_id)


def rotate(connection: Connection, key_id: str, now: float, keep: float) -> tuple[Key, str] | None:
    """A new secret for the same key; the one until now goes on to work for `keep` seconds.

    The one before that, if it still worked, stops at once. None where there is no such key.
    """
    key = get(connection, key_id, lock=True)
    if key is None:
        return None
    secret, until = new_secret(), now + keep if keep > 0 else None
    connection.execute(
        update(keys)
        .where(keys.c.id == key_id)
        .values(
            old_digest=None if until is None else keys.c.digest,
            old_until=until,
            digest=digest(secret),
            shown=secret[:SHOWN],
        )
    )
    return replace(key, shown=secret[:SHOWN], old_until=until), secret


def refusal(connection: Connection, key: Key, pictures: int, now: float, *, rate: bool = True) -> Refusal | None:
    """What stands against `pictures` more of this key's, the longest wait first; None where nothing does.

    Exact where the key is locked. `rate` False: its rate is counted elsewhere.
    """
    limits = key.limits
    if limits.daily is not None:
        used = usage.charged(connection, key.id, usage.day_of(now))
        if used + pictures > limits.daily:
            return Refusal("daily", limits.daily, used, usage.day_ends(now) - now)
    if limits.rate is not None and rate:
        recent = _recent(connection, key.id, now)
        taken = left = sum(count for _, count in recent)
        wait = 0.0
        for at, count in recent:  # until so many have left the window that there is room
            if left + pictures <= limits.rate:
                break
            left, wait = left - count, at + MINUTE - now
        if wait > 0:
            return Refusal("rate", limits.rate, taken, wait)
    if limits.concurrent is not None:
        unfinished = (jobs.c.tenant == key.tenant, jobs.c.key == key.id, jobs.c.state.in_(UNFINISHED))
        running = connection.scalar(select(func.count()).select_from(jobs).where(*unfinished)) or 0
        if running >= limits.concurrent:
            return Refusal("concurrent", limits.concurrent, running, 1.0)
    return None


def take(connection: Connection, key: Key, model: str, pictures: int, now: float, *, rate: bool = True) -> None:
    """Count `pictures` against the key's rate and its quota of today."""
    usage.add(connection, usage.day_of(now), key.tenant, key.id, model, charged=pictures)
    if key.limits.rate is None or not rate:
        return
    here = takes.c.key == key.id
    connection.execute(delete(takes).where(here, or_(takes.c.at <= now - MINUTE, takes.c.at > now + MINUTE)))
    more = update(takes).where(here, takes.c.at == now).values(pictures=takes.c.pictures + pictures)
    if not connection.execute(more).rowcount:
        connection.execute(takes.insert().values(key=key.id, at=now, pictures=pictures))


def _recent(connection: Connection, key_id: str, now: float) -> list[tuple[float, int]]:
    """When and how many it took in the last minute, oldest first.

    What lies further ahead than a minute was taken before the clock was set back, and counts no more: it would lock the
    key out for as long as the clock was wrong.
    """
    window = (takes.c.key == key_id, takes.c.at > now - MINUTE, takes.c.at <= now + MINUTE)
    found = connection.execute(select(takes.c.at, takes.c.pictures).where(*window).order_by(takes.c.at))
    return [(float(at), int(pictures)) for at, pictures in found]


def _key(row: RowMapping) -> Key:
    models = row["models"]
    limits = Limits(
        row["rate"],
        row["concurrent"],
        row["daily"],
        None if models is None else tuple(models),
        row["max_pixels"],
        row["retention"],
    )
    plain = {name: row[name] for name in ("id", "tenant", "shown", "note", "created", "expires", "revoked")}
    return Key(**plain, old_until=row["old_until"], limits=limits)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
