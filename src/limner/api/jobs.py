"""Jobs: accepted at once, looked at, followed, cancelled, deleted. Limner's own routes, so errors have true statuses.

A caller sees the jobs of its tenant alone; another's are not there for it.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import structlog
from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from limner import job_document, webhooks
from limner.api import contract, idempotency, schema, sse
from limner.api.auth import GUARD, Caller
from limner.api.body import read_document
from limner.api.minimax import link_base, log_ignored
from limner.config import Settings
from limner.errors import InvalidRequest, NoSuchJob, SettingsInvalid, StorageFailed
from limner.models.registry import Registry
from limner.service import Idempotency, Job, Order, Service
from limner.storage.jobs import Visible

log = structlog.get_logger(__name__)

JobId = Annotated[str, Path(alias="id", description="The job's id.")]
Query = TypeVar("Query", bound=BaseModel)

PREFER: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async` (RFC 7240): answer 202 with the job at once.",
    "schema": {"type": "string"},
}
"""What the OpenAPI document says of the header on routes that otherwise wait."""

_LOCATION: Final = {"description": "The job's address.", "schema": {"type": "string"}}
ACCEPTED: Final[dict[str, Any]] = {
    **schema.described("The job, as it was accepted.", job_document.SCHEMA),
    "headers": {"Location": _LOCATION, idempotency.REPLAYED: schema.REPLAYED},
}
"""OpenAPI's description of a 202."""


def _states(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _time(value: object) -> object:
    """Unix seconds of an RFC 3339 time."""
    if isinstance(value, str) and re.fullmatch(r"[0-9-]{10}T[0-9:]{8}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})", value):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(value).timestamp()
    raise PydanticCustomError("time", "be a time of RFC 3339 such as 2026-11-23T12:00:00Z, with %2B in place of +")


Time = Annotated[float, BeforeValidator(_time), Field(json_schema_extra={"type": "string", "format": "date-time"})]
_States = Annotated[tuple[Visible, ...], BeforeValidator(_states)]


class NoQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ListQuery(NoQuery):
    """Query of `GET /v1/jobs`."""

    state: _States = Field((), description="One or more of queued, running, done, failed, cancelled, with commas.")
    model: str | None = Field(None, description="A model's name, any of those it has.")
    from_: Time | None = Field(None, alias="from", description="Accepted at this time or later.")
    to: Time | None = Field(None, description="Accepted before this time.")
    limit: int = Field(20, ge=1, le=100, description="Jobs on a page.")
    cursor: str | None = Field(None, description="`next` of the page before.")


class EventsQuery(NoQuery):
    """Query of `GET /v1/jobs/{id}/events`."""

    previews: bool = Field(False, description="Send previews of the pictures, too.")
    last_event_id: str | None = Field(None, description="As the header Last-Event-ID, for those who cannot send it.")


def routes(settings: Settings, models: Registry) -> APIRouter:
    router = APIRouter(dependencies=[schema.TRUE_STATUS, *GUARD])
    errors = schema.error_responses(settings, 400, 401, 403, 500)
    one = {
        200: schema.described("The job.", job_document.SCHEMA),
        **errors,
        **schema.error_responses(settings, 404),
    }

    @router.post(
        "/v1/jobs",
        status_code=202,
        summary="Accept a request as a job, to be painted in its time",
        responses={202: ACCEPTED, **schema.error_responses(settings, *schema.STATUSES)},
        openapi_extra={
            **schema.body(schema.request(settings, models, contract.JobRequest)),
            "parameters": [idempotency.PARAMETER],
        },
    )
    async def accept_job(request: Request, caller: Caller) -> JSONResponse:
        _query(request, NoQuery)
        body = await read_document(request, settings)
        call = contract.read_call(body, settings, models, contract.JobRequest)
        key = await asyncio.to_thread(idempotency.read, request, "jobs", body)
        log_ignored(call)
        return await accept(request, call.order, caller, key, settings)

    @router.get(
        "/v1/jobs",
        summary="The caller's jobs, the newest first",
        responses={200: schema.described("One page.", _PAGE), **errors},
        openapi_extra=_parameters(ListQuery),
    )
    async def list_jobs(request: Request, caller: Caller) -> JSONResponse:
        query = _query(request, ListQuery)
        model = None if query.model is None else models.lookup(contract.model_of(query.model, models)).name
        found = await _service(request).list_jobs(
            caller,
            limit=query.limit + 1,
            before=None if query.cursor is None else position(query.cursor),
            states=query.state,
            model=model,
            created_from=query.from_,
            created_to=query.to,
        )
        page, more = found[: query.limit], len(found) > query.limit
        link = _link(request, settings)
        request.state.code = 0
        return JSONResponse(
            {
                "jobs": [job_document.document(job, link) for job in page],
                "next": cursor(page[-1]) if more else None,
            }
        )

    @router.get("/v1/jobs/{id}", summary="One job", responses=one)
    async def show_job(request: Request, job_id: JobId, caller: Caller) -> JSONResponse:
        _query(request, NoQuery)
        return await _shown(request, await _service(request).job(_known(job_id), caller), settings)

    @router.post(
        "/v1/jobs/{id}/cancel",
        summary="Stop a job; what is painted of it stays",
        description="A job that has ended stays as it is. One that another process paints ends a moment later.",
        responses=one,
    )
    async def cancel_job(request: Request, job_id: JobId, caller: Caller) -> JSONResponse:
        _query(request, NoQuery)
        return await _shown(request, await _service(request).cancel(_known(job_id), caller), settings)

    @router.delete(
        "/v1/jobs/{id}",
        status_code=204,
        response_class=Response,
        summary="Remove a job and its pictures",
        responses={204: {"description": "It is gone."}, **errors, **schema.error_responses(settings, 404)},
    )
    async def delete_job(request: Request, job_id: JobId, caller: Caller) -> Response:
        _query(request, NoQuery)
        await _service(request).delete(_known(job_id), caller)
        request.state.code = 0
        return Response(status_code=204)

    @router.get(
        "/v1/jobs/{id}/events",
        response_class=Response,
        summary="A job's changes as server-sent events",
        responses={
            200: {"description": "Snapshots.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            204: {"description": "The job has ended, and its end is what Last-Event-ID names."},
            **errors,
            **schema.error_responses(settings, 404),
        },
        openapi_extra=_parameters(EventsQuery, _LAST_EVENT_ID),
    )
    async def job_events(request: Request, job_id: JobId, caller: Caller) -> Response:
        query = _query(request, EventsQuery)
        last = request.headers.get("last-event-id") or query.last_event_id or None
        if last is not None and not re.fullmatch(sse.ID, last):
            raise InvalidRequest("Last-Event-ID must be the id of one of the job's events.")
        service = _service(request)
        job = await service.job(_known(job_id), caller)
        request.state.code = 0
        if job.ended and last == sse.id_of(job, None):
            return Response(status_code=204)
        link = _link(request, settings)
        return sse.EventStream(sse.events(service, job.id, caller, link, last=last, previews=query.previews))

    secret = {
        "type": "object",
        "required": ["secret"],
        "properties": {"secret": {"type": "string", "pattern": "^whsec_"}},
        "additionalProperties": False,
    }

    @router.get(
        "/v1/webhook_secret",
        summary="What the caller checks its webhooks' signatures with",
        responses={200: schema.described("The secret of the caller's tenant.", secret), **errors},
    )
    async def webhook_secret(request: Request, caller: Caller) -> JSONResponse:
        _query(request, NoQuery)
        try:
            told = {"secret": await asyncio.to_thread(webhooks.secret, settings, caller.tenant)}
        except SettingsInvalid as error:
            log.error("webhook secret not read", reason=error.message)
            raise StorageFailed("The secret cannot be told now; the service's log says why.") from None
        request.state.code = 0
        return JSONResponse(told, headers={"Cache-Control": "no-store"})

    return router


async def accept(
    request: Request, order: Order, caller: Caller, key: Idempotency | None, settings: Settings
) -> JSONResponse:
    """The 202 of an order that is a job from now on; raises as `Service.accept` does."""
    job = await _service(request).accept(order, caller, job_id=request.state.trace, idempotency=key)
    headers = {"Location": f"{link_base(request, settings)}/v1/jobs/{job.id}"}
    headers |= idempotency.headers(job.id != request.state.trace)
    if prefers_async(request):
        headers["Preference-Applied"] = "respond-async"
    request.state.trace = job.id
    return await _shown(request, job, settings, 202, headers)


def prefers_async(request: Request) -> bool:
    """Whether the client wants no reply that it has to wait for (RFC 7240, 4.1)."""
    preferences = ",".join(request.headers.getlist("prefer")).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)


def cursor(job: Job) -> str:
    """Where a page ended, for the next one to begin after it."""
    return base64.urlsafe_b64encode(f"{job.created!r}/{job.id}".encode()).decode().rstrip("=")


def position(cursor: str) -> tuple[float, str]:
    """When the last job of a page was accepted, Unix seconds, and its id. Raises InvalidRequest."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode("ascii")
    except ValueError:
        text = ""
    match = re.fullmatch(r"([0-9]{1,12}\.[0-9]{1,12})/([0-9a-f]{32})", text)
    if match is None:
        raise InvalidRequest("Field cursor must be what `next` of the page before was; leave it out for the first.")
    return float(match[1]), match[2]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _known(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{32}", text):
        raise NoSuchJob("There is no such job: an id is 32 digits and letters from a to f.")
    return text


def _link(request: Request, settings: Settings) -> Callable[[str], str]:
    service, base = _service(request), link_base(request, settings)
    return lambda name: service.link(name, base)


async def _shown(
    request: Request, job: Job, settings: Settings, status: int = 200, headers: dict[str, str] | None = None
) -> JSONResponse:
    place = await sse.place_of(job, _service(request))
    request.state.code = 0
    return JSONResponse(job_document.document(job, _link(request, settings), place), status, headers)


def _query(request: Request, kind: type[Query]) -> Query:
    """The query, checked. Raises InvalidRequest where a parameter is unknown, wrong or there twice."""
    pairs = request.query_params.multi_items()
    if len(dict(pairs)) < len(pairs):
        raise InvalidRequest("A query parameter came twice; give each once.")
    try:
        return kind.model_validate(dict(pairs))
    except ValidationError as error:
        raise InvalidRequest(contract.sentences(error)) from None


def _parameters(kind: type[BaseModel], *others: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's description of a query that `kind` checks."""
    fields = kind.model_json_schema()["properties"]
    named = [
        {"name": name, "in": "query", "description": field.pop("description"), "schema": field}
        for name, field in fields.items()
    ]
    return {"parameters": [*named, *others]}


_LAST_EVENT_ID: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "Id of the event that was seen last: nothing is sent until the job looks different.",
    "schema": {"type": "string", "pattern": f"^{sse.ID}$"},
}
_PAGE: Final = {
    "type": "object",
    "required": ["jobs", "next"],
    "properties": {
        "jobs": {"type": "array", "items": job_document.SCHEMA},
        "next": {"type": ["string", "null"], "description": "`cursor` of the next page; null on the last one."},
    },
    "additionalProperties": False,
}
