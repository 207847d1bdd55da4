"""Limner's own routes: `POST /v1/scenes` plans a picture, `POST /v1/pictures` paints one with every control there is.

Nothing is ignored here: a field that is not known is refused, errors have true statuses, and what of the prompt had no
effect is said. A scene that comes from the one can be changed and sent to the other.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limner.api import contract, idempotency, jobs, schema
from limner.api.auth import GUARD, Caller
from limner.api.body import read_document
from limner.api.contract import Boolean, Count, Seed, Side
from limner.api.minimax import link_base, unless_client_leaves
from limner.config import Settings
from limner.engine.core import RANGES, SamplerName
from limner.errors import InvalidRequest
from limner.imaging import Format
from limner.models.registry import Registry
from limner.order import Order, signed
from limner.service import Service

Asked = TypeVar("Asked", bound="SceneRequest")


class SceneRequest(BaseModel):
    """Body of `POST /v1/scenes`. A field that is null counts as absent; an unknown field is refused."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str | None = Field(None, description="The model; null is image-01.")
    prompt: str = Field(description="What to paint.")
    aspect_ratio: str | None = Field(None, description="Ratio of the sides, 1:1 where no size is given.")
    width: Side | None = Field(None, description="Pixels; together with height, instead of aspect_ratio.")
    height: Side | None = Field(None, description="Pixels; together with width.")
    seed: Seed | None = Field(None, description="Picture k is painted from seed + k; absent: random seeds.")
    style: str | None = Field(None, description="A style of the model's; absent: the prompt decides.")
    prompt_optimizer: Boolean = Field(False, description="Expand the prompt before planning.")
    references: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="Pictures of the characters or things to paint: URLs, data URLs or bare base64."
    )


def _range(name: str) -> Any:
    least, greatest = RANGES[name]
    return Field(ge=least, le=greatest)


class PictureRequest(SceneRequest):
    """Body of `POST /v1/pictures`: the fields of `POST /v1/scenes`, and how to paint."""

    n: Count = Field(1, description="How many pictures.")
    mask: str | None = Field(
        None,
        description="PNG or WebP of the first reference's size, as a reference is sent: where it is transparent, that "
        "picture is repainted; where it is opaque, it stays.",
    )
    steps: Annotated[int, _range("steps")] | None = Field(None, description="Evaluations of the denoiser.")
    guidance: Annotated[float, _range("guidance")] | None = Field(None, description="How hard to follow the words.")
    strength: Annotated[float, _range("strength")] | None = Field(None, description="How far to leave the draft.")
    sampler: SamplerName | None = Field(None, description="How steps are taken; absent: the model's own way.")
    negative_prompt: str | None = Field(None, description="What to stay away from; needs guidance above 1.")
    loras: dict[str, Annotated[float, Field(ge=-4, le=4)]] = Field(
        {}, description="Weights of LoRAs that the model's entry lists, by the names of their files without the ending."
    )
    scene: dict[str, Any] | None = Field(None, description="A scene to paint instead of planning one.")
    watermark: Boolean = Field(False, description="Draw a visible mark that says the picture is generated.")
    format: Format = Field("jpeg", description="Of the files.")
    response_format: Literal["url", "base64"] = Field("url", description="Links, or the files themselves in base64.")
    webhook_url: str | None = Field(None, description="http or https URL that is told when the job has ended.")
    previews: Boolean = Field(False, description="Show in the job's events how its pictures come along.")


def routes(settings: Settings, models: Registry) -> APIRouter:
    router = APIRouter(dependencies=[schema.TRUE_STATUS, *GUARD])
    errors = schema.error_responses(settings, *schema.STATUSES)
    painted = schema.described("The pictures.", _PAINTED)
    painted["headers"] = {idempotency.REPLAYED: schema.REPLAYED}

    @router.post(
        "/v1/scenes",
        summary="Plan a picture: the scene that a prompt would give",
        responses={200: schema.described("The scene.", _PLANNED), **errors},
        openapi_extra=schema.json_body(SceneRequest),
    )
    async def plan_scene(request: Request, caller: Caller) -> JSONResponse:
        service: Service = request.app.state.service
        order = _order(_checked(await read_document(request, settings), SceneRequest), settings, models)
        scene, notes = await unless_client_leaves(request.receive, service.plan(order, caller))
        request.state.code = 0
        return JSONResponse({"id": request.state.trace, "scene": scene, "notes": notes})

    @router.post(
        "/v1/pictures",
        summary="Paint pictures, with every control",
        responses={200: painted, 202: jobs.ACCEPTED, **errors, **schema.error_responses(settings, 409)},
        openapi_extra={**schema.json_body(PictureRequest), "parameters": [idempotency.PARAMETER, jobs.PREFER]},
    )
    async def paint_pictures(request: Request, caller: Caller) -> Response:
        service: Service = request.app.state.service
        document = await read_document(request, settings)
        asked = _checked(document, PictureRequest)
        order = _order(asked, settings, models)
        key = await asyncio.to_thread(idempotency.read, request, "pictures", document)
        if jobs.prefers_async(request):
            return await jobs.accept(request, order, caller, key, settings)
        work = service.generate(order, caller, job_id=request.state.trace, idempotency=key)
        outcome = await unless_client_leaves(request.receive, work)
        request.state.trace = outcome.job
        base = link_base(request, settings)
        pictures = [
            {"seed": str(signed(picture.seed)), "width": picture.width, "height": picture.height}
            | (
                {"url": service.link(picture.name, base)}
                if asked.response_format == "url"
                else {"base64": base64.b64encode(picture.data).decode()}
            )
            for picture in outcome.pictures
        ]
        request.state.code = 0
        reply = {
            "id": outcome.job,
            "pictures": pictures,
            "failed": outcome.failed,
            "scene": outcome.plan,
            "notes": outcome.notes,
        }
        return JSONResponse(reply, headers=idempotency.headers(outcome.replayed))

    return router


def _checked(document: object, kind: type[Asked]) -> Asked:
    """A body, checked. Raises InvalidRequest."""
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.")
    try:
        return kind.model_validate({name: value for name, value in document.items() if value is not None})
    except ValidationError as error:
        raise InvalidRequest(contract.sentences(error)) from None


def _order(asked: SceneRequest, settings: Settings, models: Registry) -> Order:
    """What the service is to do. Raises InvalidRequest where fields contradict each other."""
    size = contract.sides(asked.width, asked.height)
    if size is not None and asked.aspect_ratio is not None:
        raise InvalidRequest("Give aspect_ratio, or width and height, not both.")
    width, height = size or contract.size_of(asked.aspect_ratio or "1:1", extra=settings.extra_ratios)
    order = Order(
        prompt=asked.prompt,
        width=width,
        height=height,
        model=contract.model_of(asked.model, models),
        seed=asked.seed,
        style=asked.style,
        references=asked.references,
        optimize_prompt=asked.prompt_optimizer,
    )
    if not isinstance(asked, PictureRequest):
        return order
    return replace(
        order,
        n=asked.n,
        mask=asked.mask is not None,
        references=asked.references if asked.mask is None else (*asked.references, asked.mask),
        steps=asked.steps,
        guidance=asked.guidance,
        strength=asked.strength,
        sampler=asked.sampler,
        negative_prompt=asked.negative_prompt,
        loras=tuple(asked.loras.items()),
        scene=asked.scene,
        watermark=asked.watermark,
        format=asked.format,
        link=asked.response_format == "url",
        webhook=asked.webhook_url,
        previews=asked.previews,
    )


_NOTES = {"type": "array", "items": {"type": "string"}, "description": "What had no effect, or another than expected."}
_ID = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_PLANNED = {
    "type": "object",
    "required": ["id", "scene", "notes"],
    "properties": {"id": _ID, "scene": {"type": "object", "description": "Send it to /v1/pictures."}, "notes": _NOTES},
}
_PICTURE = {
    "type": "object",
    "required": ["seed", "width", "height"],
    "properties": {
        "url": {"type": "string", "description": "Link to the file."},
        "base64": {"type": "string", "description": "The file, in padded standard base64."},
        "seed": {"type": "string", "description": "Signed 64-bit: sent back with n 1, it gives this picture again."},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
    },
}
_PAINTED = {
    "type": "object",
    "required": ["id", "pictures", "failed", "scene", "notes"],
    "properties": {
        "id": _ID,
        "pictures": {"type": "array", "minItems": 1, "items": _PICTURE},
        "failed": {"type": "integer", "description": "Pictures that could not be painted in time."},
        "scene": {"type": ["object", "null"], "description": "The first picture's scene."},
        "notes": _NOTES,
    },
}
"""What the routes answer, as JSON schema."""
