"""`POST /v1/images/generations` and `POST /v1/images/edits`, as OpenAI has them: a call, from body to reply."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from limner import imaging
from limner.api import (
    body,
    idempotency,
    openai_contract,
    openai_errors,
    openai_replies,
    openai_sizes,
    schema,
)
from limner.api.auth import GUARD, Caller
from limner.api.minimax import link_base, unless_client_leaves
from limner.api.openai_contract import Call, EditRequest, GenerationRequest
from limner.api.openai_errors import PREFIXES
from limner.api.sse import HEARTBEAT_SECONDS, EventStream, event
from limner.config import Settings
from limner.engine.core import Event, Stepped, UInt8
from limner.errors import LimnerError, told
from limner.models.registry import Registry
from limner.order import signed
from limner.service import Idempotency, Job, Outcome, Service, SizeLike

KINDS: Final[dict[str, type[GenerationRequest]]] = {"generations": GenerationRequest, "edits": EditRequest}
"""The routes, below each of PREFIXES, and what their bodies hold."""


def routes(settings: Settings, models: Registry) -> APIRouter:
    router = APIRouter(dependencies=GUARD)

    async def answer(request: Request, caller: Caller, name: str) -> Response:
        service: Service = request.app.state.service
        document = await body.read_document(request, settings, body.named_form)
        call = await asyncio.to_thread(openai_contract.read_call, document, settings, models, KINDS[name])
        key = await asyncio.to_thread(idempotency.read, request, f"images/{name}", document)
        if call.stream:
            accepted: Accepted = asyncio.get_running_loop().create_future()
            events = _events(service, call, caller, request.state.trace, key, accepted)
            await unless_client_leaves(request.receive, _begun(events))
            body.held.give_back(request.scope)
            job, fresh = await accepted
            request.state.trace, request.state.code = job.id, 0
            return EventStream(events, _headers([image.seed for image in job.images], replayed=not fresh))
        work = service.generate(
            call.order, caller, job_id=request.state.trace, idempotency=key, size_like=_size_like(call)
        )
        outcome = await unless_client_leaves(request.receive, work)
        request.state.trace = outcome.job
        call = call.of_size(outcome.pictures[0].width, outcome.pictures[0].height)
        base = link_base(request, settings)
        revised = await _revised(service, call, outcome.job, caller)
        entries = [
            (
                {"url": service.link(picture.name, base)}
                if call.links
                else {"b64_json": base64.b64encode(picture.data).decode()}
            )
            | revised
            for picture in outcome.pictures
        ]
        errors = [openai_errors.told(error) for error in outcome.errors]
        request.state.code = 0
        return JSONResponse(
            openai_replies.success(call, entries, errors, outcome.notes, int(time.time())),
            headers=_headers([signed(picture.seed) for picture in outcome.pictures], replayed=outcome.replayed),
        )

    @router.post(
        f"{PREFIXES[0]}generations",
        summary="Paint pictures from a prompt, in OpenAI's shape",
        responses=_responses(settings),
        openapi_extra={**schema.body(_fields(GenerationRequest, models)), "parameters": [idempotency.PARAMETER]},
    )
    async def images_generations(request: Request, caller: Caller) -> Response:
        return await answer(request, caller, "generations")

    @router.post(
        f"{PREFIXES[0]}edits",
        summary="Paint pictures from a prompt and pictures, in OpenAI's shape",
        responses=_responses(settings),
        openapi_extra={**_edits_body(models), "parameters": [idempotency.PARAMETER]},
    )
    async def images_edits(request: Request, caller: Caller) -> Response:
        return await answer(request, caller, "edits")

    for name, endpoint in (("generations", images_generations), ("edits", images_edits)):
        paths = [f"{prefix}{name}" for prefix in PREFIXES]
        for alias in (*paths[1:], *(f"{path}/" for path in paths)):
            router.add_api_route(alias, endpoint, methods=["POST"], include_in_schema=False)
    return router


def _headers(seeds: list[int], *, replayed: bool) -> dict[str, str]:
    return {"Limner-Seeds": ",".join(map(str, seeds))} | idempotency.headers(replayed)


def _size_like(call: Call) -> SizeLike | None:
    """How the first picture decides the size, where it does."""
    if not call.like_first:
        return None
    return openai_sizes.like_repainted if call.order.mask else openai_sizes.like


async def _revised(service: Service, call: Call, job_id: str, caller: Caller) -> dict[str, str]:
    """The prompt that was painted, where the optimizer made another of it. Without the database it goes untold: the
    pictures are there."""
    if call.order.optimize_prompt:
        with suppress(LimnerError):
            painted = await service.painted_prompt(job_id, caller)
            return {"revised_prompt": painted} if painted != call.order.prompt else {}
    return {}


Accepted = asyncio.Future[tuple[Job, bool]]
"""A call's job once it is recorded, and whether it is a new one."""


async def _begun(events: AsyncGenerator[bytes, None]) -> None:
    await anext(events)


async def _events(
    service: Service, call: Call, caller: Caller, job_id: str, key: Idempotency | None, accepted: Accepted
) -> AsyncGenerator[bytes, None]:
    """The events of a call, each one chunk: partial images, then the pictures once all are painted.

    The first chunk is empty: it comes once the call is being painted and `accepted` is set, and before it errors are
    raised. Later ones are events, which end the stream. To close the stream cancels the job, unless it has an
    idempotency key.
    """
    news: asyncio.Queue[tuple[int, UInt8] | None] = asyncio.Queue()
    begun = asyncio.Event()
    sent: dict[str, int] = {}  # previews, by the id of their picture's request

    def watch(happened: Event) -> None:
        begun.set()
        if isinstance(happened, Stepped) and happened.preview is not None:
            index = sent.get(happened.id, 0)
            if openai_replies.due(index, call.partial_images, happened.step, happened.steps):
                sent[happened.id] = index + 1
                news.put_nowait((index, happened.preview))

    def ended(_: asyncio.Task[Any]) -> None:
        begun.set()
        news.put_nowait(None)

    work = service.generate(
        call.order,
        caller,
        job_id=job_id,
        idempotency=key,
        watch=watch,
        accepted=lambda job, fresh: accepted.set_result((job, fresh)),
        size_like=_size_like(call),
    )
    painting = asyncio.create_task(work, name=f"images {job_id}")
    painting.add_done_callback(ended)
    try:
        await begun.wait()
        if painting.done():
            painting.result()
        job, _ = await accepted
        call = call.of_size(job.images[0].width, job.images[0].height)
        yield b""
        try:
            async with aclosing(_told(call, painting, news)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exception as error:  # the status is sent: what goes wrong from here on is an event, too
            yield _error(told(error))
    finally:
        painting.cancel()
        await asyncio.gather(painting, return_exceptions=True)


async def _told(
    call: Call, painting: asyncio.Task[Outcome], news: asyncio.Queue[tuple[int, UInt8] | None]
) -> AsyncGenerator[bytes, None]:
    """The events of a call that is being painted. `news`: previews with their indices, then None."""
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                new = await news.get()
        except TimeoutError:
            yield b":\n\n"
            continue
        if new is None:
            break
        index, preview = new
        data = await asyncio.to_thread(imaging.encode, preview, call.order.format)
        yield _named(openai_replies.partial(call, data, index, int(time.time())))
    outcome = painting.result()
    for number, picture in enumerate(outcome.pictures):
        yield _named(openai_replies.completed(call, picture.data, outcome.notes, int(time.time()), first=number == 0))
    for failure in outcome.errors:
        yield _error(failure)


def _error(error: LimnerError) -> bytes:
    return _named({"type": "error", "error": openai_errors.told(error)})


def _named(data: dict[str, Any]) -> bytes:
    """An event that is named as its type."""
    return event(data["type"], data)


# The OpenAPI document


def _fields(kind: type[GenerationRequest], models: Registry) -> dict[str, Any]:
    """JSON schema of a JSON body, with this service's models."""
    fields = kind.model_json_schema()
    properties = fields["properties"]
    properties["prompt"]["minLength"] = 1
    properties["model"] = {**properties["model"], "anyOf": [{"enum": list(models.names)}, {"type": "null"}]}
    properties["size"] |= {"pattern": "^(auto|[0-9]{3,4}x[0-9]{3,4})$", "examples": ["auto", "1024x1024", "1536x1024"]}
    return fields


def _edits_body(models: Registry) -> dict[str, Any]:
    """What OpenAPI says of the body of edits, which comes as a form or as JSON."""
    source = {"type": "string", "description": "URL, data URL or base64 of a JPEG, PNG or WebP."}
    item = {"type": "object", "required": ["image_url"], "properties": {"image_url": source}}
    one = {"anyOf": [source, item]}
    as_json = _fields(EditRequest, models)
    as_json["properties"] |= {
        "image": {"anyOf": [{"type": "array", "minItems": 1, "items": source}, source]},
        "images": {"type": "array", "minItems": 1, "items": one},
        "mask": one,
    }
    file = {"type": "string", "format": "binary"}
    as_form = _fields(EditRequest, models)
    as_form["properties"] |= {"image": file, "image[]": {"type": "array", "items": file}, "mask": file}
    as_form["properties"].pop("images")
    as_form["required"] = ["prompt", "image"]
    content = {"multipart/form-data": {"schema": as_form}, "application/json": {"schema": as_json}}
    return {"requestBody": {"required": True, "content": content}}


def _responses(settings: Settings) -> dict[int | str, dict[str, Any]]:
    told = schema.error_responses(settings, *(schema.STATUSES.keys() - {402}), 404)
    for status in told:
        told[status]["content"]["application/json"]["schema"] = openai_errors.SCHEMA
    told[404]["description"] = "There is no such model."
    painted = schema.described("The pictures; or, with `stream`, server-sent events.", openai_replies.SCHEMA)
    painted["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    painted["headers"] = {"Limner-Seeds": schema.SEEDS, idempotency.REPLAYED: schema.REPLAYED}
    return {200: painted, **told}
