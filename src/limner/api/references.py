"""`POST /v1/reference_preview`: what the service sees of a reference, before anything is painted with it.

So a page whose policy shows no pictures of other sites can show one that its reader gave by URL; and whoever wrote the
request learns at once that a reference is refused, and why.
"""

from __future__ import annotations

import asyncio
import io
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limner.api import contract, schema
from limner.api.auth import GUARD, Caller
from limner.api.body import read_document
from limner.api.minimax import unless_client_leaves
from limner.config import Settings
from limner.engine.core import UInt8
from limner.errors import InvalidRequest
from limner.service import Service

LONG_SIDE: Final = 512
"""Most pixels along a side of what is shown."""

QUALITY: Final = 85


class ReferenceRequest(BaseModel):
    """Body of `POST /v1/reference_preview`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    image_file: str = Field(min_length=1, description="URL, data URL or bare base64 of a JPEG, PNG or WebP.")


def routes(settings: Settings) -> APIRouter:
    router = APIRouter(dependencies=[schema.TRUE_STATUS, *GUARD])
    picture = {"schema": {"type": "string", "format": "binary"}}
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "The picture, made small.", "content": {"image/jpeg": picture, "image/png": picture}},
        **schema.error_responses(settings, 400, 401, 403, 413, 415, 429, 500, 504),
    }

    @router.post(
        "/v1/reference_preview",
        response_class=Response,
        summary="What the service sees of a reference",
        responses=responses,
        openapi_extra=schema.json_body(ReferenceRequest),
    )
    async def preview_reference(request: Request, caller: Caller) -> Response:
        service: Service = request.app.state.service
        document = await read_document(request, settings)
        if not isinstance(document, dict):
            raise InvalidRequest("The body must be a JSON object.")
        try:
            asked = ReferenceRequest.model_validate(document)
        except ValidationError as error:
            raise InvalidRequest(contract.sentences(error)) from None
        looking = service.reference(asked.image_file, caller, long_side=LONG_SIDE)
        pixels = await unless_client_leaves(request.receive, looking)
        data, media = await asyncio.to_thread(_file, pixels)
        request.state.code = 0
        return Response(data, media_type=media)

    return router


def _file(pixels: UInt8) -> tuple[bytes, str]:
    """A file of (H, W, 4) pixels, and its media type: PNG where some are transparent, else JPEG."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    if (pixels[..., 3] < 255).any():
        image.save(file, "PNG")
        return file.getvalue(), "image/png"
    image.convert("RGB").save(file, "JPEG", quality=QUALITY)
    return file.getvalue(), "image/jpeg"
