"""Telling a caller's address that its job has ended: signed after Standard Webhooks, tried until it is taken.

Ending a job writes a row of `deliveries` in the same transaction, so that a process that dies takes no message with it;
while its job is kept, a row goes out at least once, by whichever process claims it first, or is given up. Sources: the
specification of standardwebhooks.com (headers, signature, secret, schedule); RFC 9110, 10.2.3 (Retry-After).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection, select, update
from structlog.contextvars import bound_contextvars

from limner import counters, fetch, job_document, tracing
from limner.config import Settings
from limner.errors import SettingsInvalid, StorageFailed, WebhookRefused
from limner.storage import jobs
from limner.storage.database import Database
from limner.storage.schema import deliveries

log = structlog.get_logger(__name__)

DELAYS: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
"""Seconds from each failed try to the next, a fifth more or less; after the last there are no more."""

SEND_SECONDS: Final = 15.0
CLAIM_SECONDS: Final = 60.0
"""A claimed row that nobody has settled by then, because its process died, is due again."""

LOOK_SECONDS: Final = 5.0
"""How often rows are looked for that came due by themselves, or were left by another process."""

AT_ONCE, AT_ONCE_OF_TENANT = 16, 4
NEVER: Final = frozenset({"url", "scheme", "credentials"})
"""Reasons of `fetch.post` that no later try would change."""


def secret(settings: Settings, tenant: str) -> str:
    """What a tenant checks its webhooks' signatures with: `whsec_` and 32 bytes in base64, always the same.

    Derived from the service's own secret, which is made in `data_dir` when it is first needed and not set.

    Raises:
        SettingsInvalid: the file of the service's secret cannot be read or made.
    """
    return f"whsec_{base64.b64encode(hmac.digest(_master(settings), tenant.encode(), 'sha256')).decode()}"


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature` of a message: `v1,` and the HMAC-SHA256 of its id, Unix seconds and body, in base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


def _master(settings: Settings) -> bytes:
    if settings.webhook_secret is not None:
        return settings.webhook_secret.get_secret_value().encode()
    path = settings.data_dir / "webhook-secret"
    try:
        if not path.exists():
            _make_secret(path)
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsInvalid(
            f"The secret of webhooks, {path}, cannot be read or made: {reason}. Mend it, or set webhook_secret."
        ) from None
    if len(text) < 24:
        raise SettingsInvalid(f"The secret of webhooks, {path}, is shorter than 24 letters. Delete it: one is made.")
    return text.encode()


def _make_secret(path: Path) -> None:
    """Write the file whole under another name, then rename it; where another process was first, that one's stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_urlsafe(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try at one row. `attempt`, 1 for the first, is its fencing token: each claim counts it up."""

    id: str
    tenant: str
    job: str
    url: str
    body: str  # "" where the job is being deleted, or cannot be read
    attempt: int


class Deliverer:
    """Sends what is due, from one event loop.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, settings: Settings, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._awake = asyncio.Event()
        self._sending: Counter[str] = Counter()  # by tenant

    def wake(self) -> None:
        """A job with a webhook has ended: look now. To be called on the event loop."""
        self._awake.set()

    async def run(self) -> None:
        """Send until cancelled. What was under way then is sent again later, by whoever comes first."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._awake.clear()
                while claimed := await self._claimed():  # the first ones may all be of a tenant that has no room
                    for delivery in claimed:
                        self._sending[delivery.tenant] += 1
                        group.create_task(self._deliver(delivery))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._awake.wait()

    async def _claimed(self) -> list[Delivery]:
        room = AT_ONCE - self._sending.total()
        now = self._clock()
        if room < 1:
            return []
        try:
            if not await self._database.run(lambda connection: _any_due(connection, now), writing=False):
                return []
            return await self._database.run(
                lambda connection: claim(connection, now, room, self._sending, self._settings.public_url or "")
            )
        except StorageFailed:  # the database logged it, and is asked again after a while
            return []
        except Exception:
            log.exception("webhooks not looked for")
            return []

    async def _deliver(self, delivery: Delivery) -> None:
        about: dict[str, str | int] = {"limner.job": delivery.job, "limner.tries": delivery.attempt}
        with (
            bound_contextvars(id=delivery.job),
            tracing.span("webhook", about, kind="client", trace=delivery.job),
        ):
            try:
                if delivery.body:
                    status, reason, next_at = await self._tried(delivery)
                else:
                    status, reason, next_at = None, "Its job was deleted first, or cannot be told of.", None
                settled = await self._database.run(
                    lambda connection: settle(connection, delivery, status, reason, next_at)
                )
                retried = next_at is not None or not settled
                result = "delivered" if reason is None else "failed" if retried else "given_up"
                counters.WEBHOOKS.add(result)
                tell = log.warning if result == "given_up" else log.info
                tell("webhook", result=result, tries=delivery.attempt, status=status, reason=reason)
            except StorageFailed:  # not settled: sent once more when the claim is over
                log.warning("webhook not settled")
            except Exception:
                log.exception("webhook failed")
            finally:
                self._sending[delivery.tenant] -= 1
                self._awake.set()

    async def _tried(self, delivery: Delivery) -> tuple[int | None, str | None, float | None]:
        """`_send`; a fault of ours is tried again as often as one of the receiver's."""
        try:
            return await self._send(delivery)
        except Exception:
            log.exception("webhook failed")
            retry = _delay(delivery.attempt, 0)
            return None, "It could not be sent.", None if retry is None else self._clock() + retry

    async def _send(self, delivery: Delivery) -> tuple[int | None, str | None, float | None]:
        """Try once: the status that came, or why none did; and when to try again, None for never."""
        body = delivery.body.encode()
        sent = int(self._clock())
        key = await asyncio.to_thread(secret, self._settings, delivery.tenant)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(sent),
            "webhook-signature": signature(key, delivery.id, sent, body),
        }
        allow = self._settings.webhook_allow
        try:
            answer = await fetch.post(delivery.url, body, headers, seconds=SEND_SECONDS, allow=allow)
        except WebhookRefused as error:
            retry = None if error.reason in NEVER else _delay(delivery.attempt, 0)
            return None, error.message, None if retry is None else self._clock() + retry
        if 200 <= answer.status < 300:
            return answer.status, None, None
        reason = f"Answered with status {answer.status}."
        now = self._clock()
        retry = None if answer.status == 410 else _delay(delivery.attempt, retry_after(answer.retry_after, now))
        return answer.status, reason, None if retry is None else now + retry


def _delay(attempt: int, at_least: float) -> float | None:
    """Seconds until the next try after this one; None: that was the last."""
    if attempt > len(DELAYS):
        return None
    jitter = 0.8 + secrets.randbelow(401) / 1000
    return max(DELAYS[attempt - 1] * jitter, min(at_least, max(DELAYS)))


def retry_after(value: str | None, now: float) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date; 0 where it asks for nothing readable."""
    if value is None:
        return 0.0
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _any_due(connection: Connection, now: float) -> bool:
    return connection.execute(select(deliveries.c.id).where(deliveries.c.next_at <= now).limit(1)).first() is not None


def claim(connection: Connection, now: float, most: int, sending: Counter[str], base: str) -> list[Delivery]:
    """Take up to `most` due rows, those tried least first, for CLAIM_SECONDS. Safe against other claimers at once.

    A row that is claimed for the first time gets its body, from the job as it ended; it never changes after that.

    Args:
        sending: how many are under way by tenant; none has more than AT_ONCE_OF_TENANT.
        base: what links to pictures start with.
    """
    mine = Counter(sending)
    columns = deliveries.c
    busy: Collection[str] = [tenant for tenant, count in mine.items() if count >= AT_ONCE_OF_TENANT]
    due = (
        select(deliveries)
        .where(columns.next_at <= now, columns.tenant.not_in(busy))
        .order_by(columns.attempts, columns.next_at)
        .limit(most)
    )
    taken = []
    for row in connection.execute(due).all():
        if mine[row.tenant] >= AT_ONCE_OF_TENANT:
            continue
        try:
            body = row.body or _body(connection, row.job, base)
        except (KeyError, TypeError, ValueError):  # of a job that this version cannot read
            log.exception("webhook without a document", job=row.job)
            body = ""
        changed = connection.execute(
            update(deliveries)
            .where(columns.id == row.id, columns.attempts == row.attempts, columns.next_at <= now)
            .values(attempts=row.attempts + 1, next_at=now + CLAIM_SECONDS, body=body)
        )
        if changed.rowcount:
            mine[row.tenant] += 1
            taken.append(Delivery(row.id, row.tenant, row.job, row.url, body, row.attempts + 1))
    return taken


def _body(connection: Connection, job_id: str, base: str) -> str:
    job = jobs.get(connection, job_id)
    if job is None:
        return ""
    event = {
        "type": f"job.{job.state}",
        "timestamp": job_document.timestamp(job.finished or job.created),
        "data": job_document.document(job, lambda name: f"{base}/files/{name}"),
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def settle(
    connection: Connection,
    delivery: Delivery,
    status: int | None,
    reason: str | None,
    next_at: float | None,
) -> bool:
    """Write what came of a try, unless somebody else has claimed the row since, or its job is gone.

    A row that is not tried again keeps neither what was to be said nor to whom.
    """
    columns = deliveries.c
    blank = {"body": "", "url": ""} if next_at is None else {}
    changed = connection.execute(
        update(deliveries)
        .where(columns.id == delivery.id, columns.attempts == delivery.attempt)
        .values(status=status, reason=reason and reason[:200], next_at=next_at, **blank)
    )
    return changed.rowcount == 1
