"""Is it alive, is it ready, what has it done: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from limner import references
from limner.backends.local import LocalBackend
from limner.service import Picture, Service


class Metrics:
    """The counters of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self.pictures = Counter("limner_pictures", "Pictures returned.", registry=self.registry)
        self.bytes = Counter("limner_picture_bytes", "Bytes of the pictures returned.", registry=self.registry)

    def painted(self, pictures: Sequence[Picture]) -> None:
        """Count pictures that are being returned."""
        self.pictures.inc(len(pictures))
        self.bytes.inc(sum(len(picture.data) for picture in pictures))

    def watch(self, service: Service) -> None:
        """Read the queue and the references from `service` whenever the metrics are asked for."""
        self.registry.register(_Live(service))


class _Live(Collector):
    """What others count, read when it is asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        backend = self._service.backend
        if isinstance(backend, LocalBackend):
            engine = backend.engine
            yield GaugeMetricFamily("limner_queue_waiting", "Pictures waiting.", engine.waiting)
            yield GaugeMetricFamily("limner_queue_running", "Pictures being painted.", engine.running)
            yield CounterMetricFamily("limner_evaluations", "Evaluations of the network.", engine.evaluations)
            yield CounterMetricFamily("limner_evaluation_seconds", "Time spent on them.", engine.evaluation_seconds)
        refused = CounterMetricFamily("limner_references_refused", "References refused.", labels=("reason",))
        for reason, count in references.refusals.items():
            refused.add_metric((reason,), count)
        yield refused


router = APIRouter()


@router.get("/healthz")
async def healthz() -> JSONResponse:
    """The process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """The models of the start have been loaded and calls are taken: 200, else 503; with the state of every model."""
    service: Service = request.app.state.service
    status = "closed" if service.closed else "ready" if service.ready else "loading"
    return JSONResponse({"status": status, "models": dict(service.backend.states)}, 200 if status == "ready" else 503)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Counters for Prometheus."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
