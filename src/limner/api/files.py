"""The pictures behind the links: public by unguessable name, in the format they have or, by `Accept`, in another; by
`side` smaller, for pages that show many."""

from __future__ import annotations

import asyncio
import time
from email.utils import format_datetime
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from limner import imaging
from limner.api import schema
from limner.api.models import NotThere
from limner.config import Settings
from limner.errors import InvalidRequest
from limner.service import Service
from limner.storage.blobs import NAME

SIDES: Final = (256, 512, 1024)
"""Pixels of the longer side that a smaller copy may be asked for in; few, so that caches hold them."""


def preferred(accept: str, stored: imaging.Format = "jpeg") -> imaging.Format:
    """The format that an `Accept` header asks for (RFC 9110, 12.5.1).

    The one that the picture is stored in wins a tie, and where none is acceptable.
    """
    weights: dict[str, float] = {}
    for entry in accept.lower().split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        try:
            weights[media] = float(weight)
        except ValueError:
            continue

    def weight_of(media: str) -> float:
        return next((weights[name] for name in (media, "image/*", "*/*") if name in weights), 0.0)

    best = stored
    for candidate, media in imaging.MEDIA_TYPES.items():
        if weight_of(media) > weight_of(imaging.MEDIA_TYPES[best]):
            best = candidate
    return best


def routes(settings: Settings) -> APIRouter:
    router = APIRouter(dependencies=[schema.TRUE_STATUS])
    picture = {"type": "string", "format": "binary"}
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "The picture.", "content": {m: {"schema": picture} for m in imaging.MEDIA_TYPES.values()}},
        304: {"description": "The picture that If-None-Match names."},
        **schema.error_responses(settings, 400, 404),
    }
    smaller = {
        "name": "side",
        "in": "query",
        "description": "A smaller copy: most pixels of its longer side.",
        "schema": {"type": "integer", "enum": [*SIDES]},
    }

    @router.api_route(
        "/files/{name}",
        methods=["GET"],
        response_class=Response,
        responses=responses,
        openapi_extra={"parameters": [smaller]},
    )
    @router.api_route("/files/{name}", methods=["HEAD"], include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        service: Service = request.app.state.service
        side = _side(request.query_params.get("side"))
        picture = await service.picture(name) if NAME.fullmatch(name) else None
        if picture is None:
            raise NotThere("There is no such picture; links end some time after their picture was painted.")
        kind = preferred(request.headers.get("accept", "*/*"), picture.format)
        same = kind == picture.format and side is None
        etag = picture.etag if same else f'{picture.etag[:-1]}-{kind}-{side or "whole"}"'
        headers = {
            "ETag": etag,
            "Last-Modified": format_datetime(picture.modified, usegmt=True),
            "Cache-Control": f"private, max-age={max(0, int(picture.expires - time.time()))}, immutable",
            "Vary": "Accept",
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f'inline; filename="{name.rpartition(".")[0]}.{kind}"',
        }
        if is_held(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        data = picture.data
        if not same:
            data = await asyncio.to_thread(imaging.transcode, data, kind, quality=settings.jpeg_quality, side=side)
        return Response(data, media_type=imaging.MEDIA_TYPES[kind], headers=headers)

    return router


def _side(text: str | None) -> int | None:
    """Raises InvalidRequest."""
    if text is None:
        return None
    if text not in map(str, SIDES):
        raise InvalidRequest(f"Parameter side must be one of {', '.join(map(str, SIDES))}; leave it out for the whole.")
    return int(text)


def is_held(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match header holds this tag or `*`, compared weakly (RFC 9110, 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return bool(tags & {etag, "*"})
