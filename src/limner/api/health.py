"""Is it alive, is it ready, what has it done: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from limner.api.metrics import Metrics
from limner.service import Service

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
    counted: Metrics = request.app.state.metrics
    return Response(await counted.text(request.app.state.service), media_type=CONTENT_TYPE_PLAIN_0_0_4)
