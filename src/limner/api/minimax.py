"""`POST /v1/image_generation`: one call, from its body to its reply."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from limner.api import contract, idempotency, schema
from limner.api.auth import GUARD, Caller
from limner.api.body import read_document
from limner.config import Settings
from limner.models.registry import Registry
from limner.order import signed
from limner.service import Service

log = structlog.get_logger(__name__)
T = TypeVar("T")

PATHS: Final = ("/v1/image_generation", "/image_generation", "/v1/v1/image_generation")
"""The route and where it is looked for by clients whose base URL has a /v1 too few or too many."""


def routes(settings: Settings, models: Registry) -> APIRouter:
    router = APIRouter(dependencies=GUARD)
    painted = schema.described("The pictures.", schema.reply(settings))
    painted["headers"] = {"Limner-Seeds": schema.SEEDS, idempotency.REPLAYED: schema.REPLAYED}
    statuses = schema.STATUSES if settings.http_status == "real" else ()

    @router.post(
        PATHS[0],
        summary="Paint pictures from a prompt and, if given, from pictures of a character",
        responses={200: painted, **schema.error_responses(settings, *statuses)},
        openapi_extra={**schema.body(schema.request(settings, models)), "parameters": [idempotency.PARAMETER]},
    )
    async def image_generation(request: Request, caller: Caller) -> Response:
        service: Service = request.app.state.service
        body = await read_document(request, settings)
        call = contract.read_call(body, settings, models)
        key = await asyncio.to_thread(idempotency.read, request, "image_generation", body)
        log_ignored(call)
        work = service.generate(call.order, caller, job_id=request.state.trace, idempotency=key)
        outcome = await unless_client_leaves(request.receive, work)
        request.state.trace = outcome.job
        if call.response_format == "url":
            base = link_base(request, settings)
            images = [service.link(picture.name, base) for picture in outcome.pictures]
        else:
            images = [base64.b64encode(picture.data).decode() for picture in outcome.pictures]
        request.state.code = 0
        return JSONResponse(
            contract.success(call, outcome, images, settings),
            headers={"Limner-Seeds": ",".join(str(signed(picture.seed)) for picture in outcome.pictures)}
            | idempotency.headers(outcome.replayed),
        )

    for alias in (*PATHS[1:], *(f"{path}/" for path in PATHS)):
        router.add_api_route(alias, image_generation, methods=["POST"], include_in_schema=False)
    return router


def log_ignored(call: contract.Call) -> None:
    """Name the fields of a call that have no effect in the log."""
    if call.ignored:
        log.info("fields ignored", fields=[ascii(name[:80]) for name in call.ignored[:20]])


async def unless_client_leaves(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled as soon as the client has closed its connection.

    `receive` must have given the whole body already: the next message can only be that the client left.

    Raises:
        ClientDisconnect: the client left first.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def link_base(request: Request, settings: Settings) -> str:
    """What links start with: the public URL, or the address that the client called.

    The mmx client turns `http://` into `https://` before it downloads, but only in lower case.
    """
    base = settings.public_url or f"{request.url.scheme}://{_host(request)}{request.scope.get('root_path', '')}"
    mmx = request.headers.get("user-agent", "").startswith("mmx-cli/")
    if mmx and settings.mmx_http_links and base.startswith("http://"):
        return "HTTP" + base[4:]
    return base


def _host(request: Request) -> str:
    if host := request.headers.get("host"):
        return host
    address, port = request.scope["server"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
