"""What the service counts beside its work: plain numbers of this process, for whoever shows them (`limner.api.health`).

They begin at 0 when the process starts and know nothing of Prometheus. Labels take values from small closed
sets: never a tenant, an address or anything else that a caller chooses.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Count:
    """A number that grows, for each combination of its labels' values. Safe to share between threads.

    Args:
        name: as Prometheus writes it, without `_total`.
        meaning: one sentence.
        labels: their names.
    """

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        self.name, self.meaning, self.labels = name, meaning, labels
        self._values: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._lock = threading.Lock()
        if not labels:
            self._values[()] = 0.0

    def add(self, *values: str, amount: float = 1.0) -> None:
        """Add to the number of these labels' values. Raises ValueError where they are more or fewer than the labels."""
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {values}")
        with self._lock:
            self._values[values] += amount

    def values(self) -> dict[tuple[str, ...], float]:
        with self._lock:
            return dict(self._values)


class Level(Count):
    """A number that also falls, by adding less than 0."""


class Timing:
    """How often something was done, in how many seconds together, and how often it failed, by one label."""

    def __init__(self, name: str, what: str, label: str) -> None:
        self.done = Count(f"{name}_seconds_count", f"{what}.", label)
        self.seconds = Count(f"{name}_seconds_sum", f"Time spent on: {what[:1].lower()}{what[1:]}.", label)
        self.failed = Count(f"{name}_failures", f"{what} that failed.", label)
        self.name, self.meaning, self.label = f"{name}_seconds", f"{what}, and the time spent on them.", label

    @contextmanager
    def of(self, value: str) -> Iterator[None]:
        """Count and time what is done within, whether it fails or not; who knows what a failure is counts it."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.done.add(value)
            self.seconds.add(value, amount=time.perf_counter() - began)


JOBS = Count(
    "limner_jobs", "Jobs that this process was done with: done, failed, cancelled or lost.", "model", "outcome"
)
TAKEN_OVER = Count("limner_jobs_taken_over", "Jobs of dead processes that this process gave free to be run again.")
PICTURES = Count("limner_pictures", "Pictures painted and kept.", "model")
PICTURE_BYTES = Count("limner_picture_bytes", "Bytes of their files.", "model")
CACHE_HITS = Count("limner_result_cache_hits", "Jobs answered from an earlier one with the same result.")
REPLAYS = Count("limner_idempotent_replays", "Calls answered by the job of their Idempotency-Key.")
POLICY_REFUSALS = Count("limner_policy_refusals", "What the policy refused: a prompt, reference or picture.", "stage")
WEBHOOKS = Count("limner_webhooks", "Attempts to deliver a webhook: delivered, failed or given_up.", "result")
CONNECTIONS = Level("limner_connections", "Open connections of clients.")
CONNECTIONS_CUT = Count("limner_connections_cut", "Connections cut for being slow, malformed or too many.", "phase")
DATABASE = Timing("limner_database", "Transactions (read or write)", "kind")
STORE = Timing("limner_store", "Operations of the store (put, get, delete, list, sign)", "operation")

COUNTS = (
    JOBS, TAKEN_OVER, PICTURES, PICTURE_BYTES, CACHE_HITS, REPLAYS, POLICY_REFUSALS, WEBHOOKS, CONNECTIONS,
    CONNECTIONS_CUT,
)  # fmt: skip
TIMINGS = (DATABASE, STORE)
