"""Connections to PostgreSQL that end in bounded time whatever becomes of the server. Imported where one is needed."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping
from typing import Any

import psycopg

SPARE_SECONDS = 5.0
"""How much later than the server itself should have broken off a statement the connection is given up."""


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up where the server, though it is reachable, does not answer: a stopped process, a hanging disk."""

    seconds = math.inf

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, waiting: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The same generator of what is waited for, which is told every moment whether that has come."""
        deadline = time.monotonic() + self.seconds
        try:
            wanted = next(waiting)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.close()
                    raise psycopg.OperationalError("the server does not answer")
                wanted = waiting.send(ready)
        except StopIteration as end:
            return end.value


def options(given: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    """What psycopg is to connect with besides `given`, the options of the address, which win.

    `seconds`: how long a statement may take, a wait for a lock included; None: any time.
    """
    own: dict[str, Any] = {"application_name": "limner", "connect_timeout": 5}
    # A machine or a network that has gone away is noticed within about 20 seconds.
    own |= {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3}
    own["tcp_user_timeout"] = 15_000  # milliseconds
    if seconds is not None:
        limit = int(seconds * 1000)
        own["options"] = f"-c statement_timeout={limit} -c idle_in_transaction_session_timeout={4 * limit}"
    return {name: value for name, value in own.items() if name not in given}


def connect(seconds: float | None, **arguments: Any) -> BoundedConnection:
    """A connection, given up where the server does not answer in time. Raises psycopg.Error."""
    connection = BoundedConnection.connect(**arguments)
    if seconds is not None:
        connection.seconds = seconds + SPARE_SECONDS
    return connection
