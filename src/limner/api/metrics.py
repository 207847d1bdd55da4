"""What Prometheus is told: requests as they are answered, and what others count, read when it is asked for.

docs/operations.md lists every name. Labels are of small closed sets; no tenant is one, since there may be thousands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from limner import counters, references
from limner.api import body
from limner.errors import StorageFailed
from limner.service import Service
from limner.storage import jobs

DATABASE_SECONDS = 0.5
"""Longest time that the metrics wait for the database; what it would have told is left out then."""


class Metrics:
    """The requests of one app, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations; else each series comes twice
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "limner_requests", "Requests by route and status_code.", ("route", "code"), registry=self.registry
        )
        self.seconds = Histogram(
            "limner_request_seconds",
            "Time from the first byte of a request to the last of its reply.",
            ("route",),
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320),
            registry=self.registry,
        )

    async def text(self, service: Service) -> bytes:
        """All of it in Prometheus' text format 0.0.4."""
        backlog = None
        with suppress(StorageFailed, TimeoutError):
            async with asyncio.timeout(DATABASE_SECONDS):
                backlog = await service.database.run(jobs.backlog, writing=False)
        return generate_latest(_All(self.registry, service, backlog))


@dataclass(frozen=True, slots=True)
class _All(Collector):
    """One answer: what the registry holds, and what is read now."""

    registry: CollectorRegistry
    service: Service
    backlog: int | None  # pictures; None: the database was not asked in time

    def collect(self) -> Iterator[Metric]:
        yield from self.registry.collect()
        yield from self._engine()
        yield from self._counted()
        yield GaugeMetricFamily("limner_ready", "Whether calls are taken.", int(self.service.ready))
        yield GaugeMetricFamily("limner_body_bytes", "Bytes of request bodies in memory.", body.held.total)
        if self.backlog is not None:
            yield GaugeMetricFamily(
                "limner_backlog_pictures", "Pictures of jobs that wait in the database for a process.", self.backlog
            )

    def _engine(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("limner_queue_waiting", "Pictures waiting in the engine.", labels=("model",))
        running = GaugeMetricFamily("limner_queue_running", "Pictures being painted.", labels=("model",))
        evaluations = CounterMetricFamily("limner_evaluations", "Evaluations of the network.", labels=("model",))
        seconds = CounterMetricFamily("limner_evaluation_seconds", "Time spent on them.", labels=("model",))
        loaded = GaugeMetricFamily("limner_model_loaded", "Whether the model is in memory.", labels=("model",))
        for name, activity in self.service.backend.activity.items():
            waiting.add_metric((name,), activity.waiting)
            running.add_metric((name,), activity.running)
            evaluations.add_metric((name,), activity.evaluations)
            seconds.add_metric((name,), activity.seconds)
        for name, state in self.service.backend.states.items():
            loaded.add_metric((name,), int(state == "loaded"))
        yield from (waiting, running, evaluations, seconds, loaded)

    def _counted(self) -> Iterator[Metric]:
        refused = CounterMetricFamily("limner_references_refused", "References refused.", labels=("reason",))
        for reason, count in references.refusals.items():
            refused.add_metric((reason,), count)
        yield refused
        for timing in counters.TIMINGS:
            summary = SummaryMetricFamily(timing.name, timing.meaning, labels=(timing.label,))
            seconds = timing.seconds.values()
            for labels, times in timing.done.values().items():
                summary.add_metric(labels, int(times), seconds.get(labels, 0.0))
            yield summary
        for counted in (*counters.COUNTS, *(timing.failed for timing in counters.TIMINGS)):
            kind = GaugeMetricFamily if isinstance(counted, counters.Level) else CounterMetricFamily
            family = kind(counted.name, counted.meaning, labels=counted.labels)
            for labels, value in counted.values().items():
                family.add_metric(labels, value)
            yield family
