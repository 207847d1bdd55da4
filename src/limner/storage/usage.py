"""What tenants have used, by UTC day, key and model: `GET /v1/usage`, `limner usage` and daily quotas read it.

The rows outlive the jobs: deleting a job changes none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, func, select

from limner.errors import Code
from limner.storage.schema import insert, usage

DAY: Final = 86_400.0
"""Seconds of a UTC day, as Unix time counts them."""

SERVICE_FAULTS: Final = frozenset({int(Code.UNKNOWN), int(Code.TIMEOUT), int(Code.INTERNAL)})
"""Codes of failures that are the service's own: such a picture is given back to the quota."""


@dataclass(frozen=True, slots=True)
class Used:
    """What one tenant has used of one model on one day, with all its keys."""

    day: str  # 2026-11-23, UTC
    tenant: str
    model: str  # its own name, whatever alias requests gave
    jobs: int  # that ended on this day
    images: int  # painted
    failed: int
    charged: int  # pictures accepted on this day that count against quotas
    cost: float  # evaluations x tokens
    bytes: int  # of the painted files


def day_of(now: float) -> str:
    """The UTC day of a Unix time."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")


def day_ends(now: float) -> float:
    """When the UTC day of `now` is over, Unix seconds."""
    return (now // DAY + 1) * DAY


def add(
    connection: Connection,
    day: str,
    tenant: str,
    key: str,
    model: str,
    *,
    jobs: int = 0,
    images: int = 0,
    failed: int = 0,
    cost: float = 0.0,
    data_bytes: int = 0,
    charged: int = 0,
) -> None:
    """Add to one row, which is made where it is not there yet. `key`: the id of a row of `keys`, or ""."""
    amounts = {
        "jobs": jobs, "images": images, "failed": failed, "cost": cost, "bytes": data_bytes, "charged": charged,
    }  # fmt: skip
    row = insert(connection, usage).values(day=day, tenant=tenant, key=key, model=model, **amounts)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=list(usage.primary_key),
            set_={name: usage.c[name] + amount for name, amount in amounts.items()},
        )
    )


def give_back(connection: Connection, tenant: str, key: str | None, model: str, created: float, pictures: int) -> None:
    """Give pictures back to the quota of the day that their job was `created` on; nothing where it had no key."""
    if key is not None and pictures:
        add(connection, day_of(created), tenant, key, model, charged=-pictures)


def charged(connection: Connection, key: str, day: str) -> int:
    """Pictures that count against the key's quota of this day."""
    found = connection.scalar(select(func.sum(usage.c.charged)).where(usage.c.day == day, usage.c.key == key))
    return int(found or 0)


def between(connection: Connection, first: str, last: str, tenant: str | None = None) -> list[Used]:
    """What a tenant, or for None each of them, used from the first day to the last, by day, tenant and model."""
    by = (usage.c.day, usage.c.tenant, usage.c.model)
    amounts = ("jobs", "images", "failed", "charged", "cost", "bytes")  # in the order of `Used`
    found = select(*by, *(func.sum(usage.c[name]) for name in amounts)).group_by(*by).order_by(*by)
    found = found.where(usage.c.day.between(first, last))
    if tenant is not None:
        found = found.where(usage.c.tenant == tenant)
    return [
        Used(day, of, model, int(jobs), int(images), int(failed), int(charges), float(cost), int(size))
        for day, of, model, jobs, images, failed, charges, cost, size in connection.execute(found)
    ]
