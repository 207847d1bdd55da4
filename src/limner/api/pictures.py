"""Limner's own routes: `POST /v1/scenes` plans a picture, `POST /v1/pictures` paints one with every control there is.

Nothing is ignored here: a field that is not known is refused, errors have true statuses, and what of the prompt had no
effect is said. A scene that comes from the one can be changed and sent to the other.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limner.api import contract, schema
from limner.api.auth import GUARD, Tenant
from limner.api.body import read_document
from limner.api.contract import Boolean, Count, Seed, Side
from limner.api.health import Metrics
from limner.api.minimax import link_base, signed, unless_client_leaves
from limner.config import Settings
from limner.engine.core import RANGES, SamplerName
from limner.errors import InvalidRequest
from limner.imaging import Format
from limner.models.registry import Registry
from limner.service import Order, Service

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
    format: Format = Field("jpeg", description="Of the base64; links are to JPEGs.")
    response_format: Literal["url", "base64"] = Field("url", description="Links, or the files themselves in base64.")


def routes(settings: Settings, models: Registry) -> APIRouter:
    router = APIRouter(dependencies=[Depends(_true_status), *GUARD])
    errors = schema.error_responses(settings, *schema.STATUSES)

    @router.post(
        "/v1/scenes",
        summary="Plan a picture: the scene that a prompt would give",
        responses={200: schema.described("The scene.", _PLANNED), **errors},
        openapi_extra=schema.json_body(SceneRequest),
    )
    async def plan_scene(request: Request, tenant: Tenant) -> JSONResponse:
        service: Service = request.app.state.service
        order = _order(await _read(request, SceneRequest, settings), settings, models, tenant)
        scene, notes = await unless_client_leaves(request.receive, service.plan(order))
        request.state.code = 0
        return JSONResponse({"id": request.state.trace, "scene": scene, "notes": notes})

    @router.post(
        "/v1/pictures",
        summary="Paint pictures, with every control",
        responses={200: schema.described("The pictures.", _PAINTED), **errors},
        openapi_extra=schema.json_body(PictureRequest),
    )
    async def paint_pictures(request: Request, tenant: Tenant) -> JSONResponse:
        service: Service = request.app.state.service
        asked = await _read(request, PictureRequest, settings)
        order = _order(asked, settings, models, tenant)
        outcome = await unless_client_leaves(request.receive, service.generate(order))
        base = link_base(request, settings)
        pictures = [
            {"seed": str(signed(picture.seed)), "width": picture.width, "height": picture.height}
            | (
                {"url": f"{base}/files/{picture.name}"}
                if picture.name
                else {"base64": base64.b64encode(picture.data).decode()}
            )
            for picture in outcome.pictures
        ]
        metrics: Metrics = request.app.state.metrics
        metrics.painted(outcome.pictures)
        request.state.code = 0
        return JSONResponse(
            {
                "id": request.state.trace,
                "pictures": pictures,
                "failed": outcome.failed,
                "scene": outcome.plan,
                "notes": outcome.notes,
            }
        )

    return router


async def _true_status(request: Request) -> None:
    request.state.true_status = True


async def _read(request: Request, kind: type[Asked], settings: Settings) -> Asked:
    """The body, checked. Raises InvalidRequest and what `read_document` raises."""
    document = await read_document(request, settings)
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.")
    try:
        return kind.model_validate({name: value for name, value in document.items() if value is not None})
    except ValidationError as error:
        raise InvalidRequest(contract.sentences(error)) from None


def _order(asked: SceneRequest, settings: Settings, models: Registry, tenant: str) -> Order:
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
        tenant=tenant,
    )
    if not isinstance(asked, PictureRequest):
        return order
    if asked.response_format == "url" and asked.format != "jpeg":
        raise InvalidRequest("Links are to JPEGs: for another format set response_format to base64.")
    return replace(
        order,
        n=asked.n,
        steps=asked.steps,
        guidance=asked.guidance,
        strength=asked.strength,
        sampler=asked.sampler,
        negative_prompt=asked.negative_prompt,
        loras=tuple(asked.loras.items()),
        scene=asked.scene,
        watermark=asked.watermark,
        format=asked.format,
        store=asked.response_format == "url",
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
        "url": {"type": "string", "description": "Link to a JPEG."},
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
