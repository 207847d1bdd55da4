"""Pictures a minute, counted in Valkey or Redis for all processes: where the setting limits_url names one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from limner.errors import SettingsInvalid

log = structlog.get_logger(__name__)

SECONDS = 1.0
"""Longest wait for an answer."""

PAUSE = 5.0
"""For how long nobody is asked after it could not be reached, seconds."""


class Rates:
    """Pictures a minute of each key, counted in Valkey or Redis by the moving window of `limits`."""

    def __init__(self, url: str) -> None:
        scheme, colon, rest = url.partition("://")
        protocol = {"valkey": "valkey", "valkeys": "valkeys", "redis": "valkey", "rediss": "valkeys"}.get(scheme)
        if protocol is None or not colon or not rest:
            raise SettingsInvalid("limits_url must begin with valkey://, valkeys://, redis:// or rediss:// and a host.")
        try:
            from limits import RateLimitItemPerMinute
            from limits.aio.storage import RedisStorage
            from limits.aio.strategies import MovingWindowRateLimiter
            from limits.errors import StorageError
            from valkey.asyncio import ConnectionPool

            address = f"{protocol}://{rest}"
            self._pool = ConnectionPool.from_url(address, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
            options: dict[str, Any] = {"connection_pool": self._pool}
            storage = RedisStorage(f"async+{address}", wrap_exceptions=True, key_prefix="limner", **options)
        except ImportError:
            raise SettingsInvalid(
                "limits_url is set, but the packages that speak to Valkey are missing: pip install 'limner[valkey]'."
            ) from None
        except ValueError:
            raise SettingsInvalid("limits_url is no address: write valkey://host:6379.") from None
        self._limiter = MovingWindowRateLimiter(storage)
        self._minute = RateLimitItemPerMinute
        self._errors = (StorageError, TimeoutError)
        self._asked_again = 0.0

    @property
    def paused(self) -> bool:
        """Whether it could not be reached a moment ago."""
        return time.monotonic() < self._asked_again

    async def take(self, key: str, most: int, pictures: int) -> float | None:
        """0 where they were counted; else how long to wait, seconds, at the least; None where nobody answers."""
        per_minute = self._minute(most)
        try:
            async with asyncio.timeout(SECONDS):
                if await self._limiter.hit(per_minute, key, cost=pictures):
                    return 0.0
                oldest_ends = (await self._limiter.get_window_stats(per_minute, key)).reset_time
        except self._errors as error:
            log.warning("limits_url cannot be reached; the database counts meanwhile", kind=type(error).__name__)
            self._asked_again = time.monotonic() + PAUSE
            return None
        return max(0.1, oldest_ends - time.time())

    async def close(self) -> None:
        """Let go of the connections."""
        await self._pool.disconnect()
