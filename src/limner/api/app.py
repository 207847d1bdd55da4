"""The HTTP face, wired: routes, the one error handler, the headers of every reply, start and stop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

import limner
from limner import tracing
from limner.api import (
    browsers,
    contract,
    files,
    health,
    jobs,
    minimax,
    models,
    openai,
    openai_errors,
    pictures,
    references,
    studio,
    usage,
)
from limner.api.body import held
from limner.api.metrics import Metrics
from limner.config import Settings
from limner.errors import Code, KeyReused, LimnerError, NoSuchJob, shown
from limner.models import entries
from limner.service import Service, build_service

log = structlog.get_logger(__name__)

TRACE_HEADERS: Final = (
    "Trace-Id",
    "Minimax-Request-Id",
    "X-Mm-Request-Id",
    "alb_request_id",
    "X-Session-Id",
    "X-Trace-ID",
    "x-request-id",
)
"""Headers that all carry the reply's `id`: clients differ in the one that they read."""

EXPOSED: Final = (
    "Limner-Seeds",
    "Retry-After",
    "Location",
    "Preference-Applied",
    "Idempotent-Replayed",
    "x-should-retry",
)
"""Further headers that pages of other sites may read."""

HTTP_STATUS: Final[dict[Code, int]] = {
    Code.UNKNOWN: 500,
    Code.TIMEOUT: 504,
    Code.RATE_LIMITED: 429,
    Code.NOT_AUTHENTICATED: 401,
    Code.QUOTA_USED: 402,
    Code.INTERNAL: 500,
    Code.PROMPT_REFUSED: 400,
    Code.PICTURE_REFUSED: 400,
    Code.ILLEGAL_CHARACTERS: 400,
    Code.INVALID_PARAMETERS: 400,
    Code.INVALID_KEY: 401,
    Code.MODEL_NOT_ALLOWED: 403,
}
"""Status of each error where `http_status` is `real` and the error names none of its own."""

OWN_STATUS: Final[dict[type[LimnerError], int]] = {KeyReused: 409, NoSuchJob: 404}
"""Status of errors that have another than their code's."""

RETRY_SECONDS: Final = 5
"""What Retry-After says of an error that is worth another try and names no time of its own."""

CLIENT_LEFT: Final = 499
"""Status of a reply that nobody hears; for the log."""


def create_app(settings: Settings, service: Service | None = None) -> FastAPI:
    """The application. Without a `service` it builds one when it starts; either way it closes it when it stops.

    Nothing is loaded before the start, so that importing and calling this is quick.

    Raises:
        SettingsInvalid: the models file is wrong, or spans are to be sent and cannot be.
    """
    metrics = Metrics()
    tracing.start(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service or await asyncio.to_thread(build_service, settings)
        try:
            await app.state.service.start()
            yield
        finally:
            await app.state.service.stop()
            await asyncio.to_thread(tracing.stop)

    app = FastAPI(
        title="Limner",
        version=limner.__version__,
        summary="Pictures from words, and from a character's picture, over MiniMax's image API.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    registry = entries.load(settings)
    for routes in (minimax.routes, openai.routes, pictures.routes, jobs.routes, models.routes, usage.routes):
        app.include_router(routes(settings, registry))
    app.include_router(references.routes(settings))
    app.include_router(files.routes(settings))
    app.include_router(health.router)
    if settings.studio:
        app.include_router(studio.routes(settings))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page, headers = await asyncio.to_thread(browsers.docs_page)
        return HTMLResponse(page, headers=headers)

    for kind in (LimnerError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, answer_error)
    app.add_middleware(Front, settings=settings, metrics=metrics)
    _without_validation_errors(app)
    return app


async def answer_error(request: Request, error: Exception) -> Response:
    """The one error handler: whatever went wrong, in the one shape of docs/http.md; on OpenAI's paths, in OpenAI's.

    Only a path that does not exist is answered in plain text, as the real service does.
    """
    settings: Settings = request.app.state.settings
    headers: dict[str, str] = {}
    in_openais_shape = openai_errors.speaks(request.scope["path"])
    own = getattr(request.state, "true_status", False) or in_openais_shape
    match error:
        case ClientDisconnect():
            return Response(status_code=CLIENT_LEFT)
        case HTTPException(status_code=404) if not in_openais_shape:
            return PlainTextResponse("404 page not found", 404)
        case HTTPException():
            status, code = error.status_code, Code.INVALID_PARAMETERS
            message = {
                404: "There is no such path; there are /v1/images/generations and /v1/images/edits.",
                405: f"{request.method} is not answered here; see the Allow header.",
            }.get(status, error.detail)
            headers |= error.headers or {}
        case LimnerError():
            code = error.code
            message = shown(error)
            status = getattr(error, "status", OWN_STATUS.get(type(error), HTTP_STATUS[code]))
            if settings.http_status == "ok" and not isinstance(error, models.NotThere) and not own:
                status = 200
            after = getattr(error, "retry_after", RETRY_SECONDS if error.retryable else None)
            if after is not None:
                headers["Retry-After"] = str(max(1, math.ceil(after)))
            if code in (Code.NOT_AUTHENTICATED, Code.INVALID_KEY) and status == 401:
                headers["WWW-Authenticate"] = "Bearer"
        case _:
            code, message = Code.INTERNAL, "The service failed; its log says why under this id. Try again."
            status = 500 if settings.http_status == "real" or own else 200
    request.state.code = int(code)
    if in_openais_shape:
        status = openai_errors.STATUSES.get(code, status)
        return JSONResponse(
            openai_errors.document(error, code, message), status, headers | openai_errors.headers(error)
        )
    return JSONResponse(contract.failure(request.state.trace, code, message, settings), status, headers)


class Front:
    """Wraps every reply: trace id, CORS, an answer to exceptions that nobody caught, the log line, the counters."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.cors = _cors(settings.cors_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        state: dict[str, Any] = scope.setdefault("state", {})
        trace = state["trace"] = uuid4().hex
        status = 0

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name in TRACE_HEADERS:
                    headers[name] = state["trace"]  # a route may have answered with an earlier call's job
                headers.update(self.cors)
                browsers.dress(headers)
            await send(message)

        with (
            bound_contextvars(id=trace),
            tracing.serving(scope["method"], trace, Headers(scope=scope).get("traceparent")) as span,
        ):
            try:
                if scope["method"] == "OPTIONS" and self.cors:
                    done = contract.failure(trace, Code.OK, "success", self.settings)
                    await JSONResponse(done)(scope, receive, send_dressed)
                else:
                    await self.app(scope, receive, send_dressed)
            except Exception as error:
                log.exception("request failed")
                if status:
                    raise
                response = await answer_error(Request(scope), error)
                await response(scope, receive, send_dressed)
            finally:
                held.give_back(scope)
                self._count(scope, state, status, time.perf_counter() - began, span)

    def _count(self, scope: Scope, state: dict[str, Any], status: int, seconds: float, span: tracing.Span) -> None:
        route = getattr(scope.get("endpoint"), "__name__", "none")
        code = "left" if status in (0, CLIENT_LEFT) else str(state.get("code", 0 if status < 400 else status))
        self.metrics.requests.labels(route, code).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        span.update_name(f"{span.name} {route}")
        for name, value in {"http.response.status_code": status, "limner.route": route, "limner.code": code}.items():
            span.set_attribute(name, value)
        log.info("request", route=route, status=status, code=code, seconds=round(seconds, 3))


def _cors(origin: str | None) -> dict[str, str]:
    if origin is None:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS, PUT, DELETE",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, Accept-Language, Cache-Control, Origin, "
        "User-Agent, X-Requested-With, Trace-Id, X-Trace-ID, request-id, X-Group-Id, group_id, MM-API-Source, "
        "Idempotency-Key, Prefer, Last-Event-ID, OpenAI-Organization, OpenAI-Project, X-Stainless-Lang, "
        "X-Stainless-Package-Version, X-Stainless-OS, X-Stainless-Arch, X-Stainless-Runtime, "
        "X-Stainless-Runtime-Version, X-Stainless-Retry-Count, X-Stainless-Timeout",
        "Access-Control-Expose-Headers": ", ".join((*TRACE_HEADERS, *EXPOSED)),
        "Access-Control-Max-Age": "86400",
    }


def _without_validation_errors(app: FastAPI) -> None:
    """Take FastAPI's own 422 out of the OpenAPI document: no route answers it."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                document.get("components", {}).get("schemas", {}).pop(name, None)
        return app.openapi_schema or document

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents for extending it
