"""Which models the caller may use."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, fields
from typing import Any, Final, get_args

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from limner import tenants
from limner.api import schema
from limner.api.auth import GUARD, Caller
from limner.config import Settings
from limner.engine.core import SamplerName
from limner.errors import InvalidRequest, ModelNotAllowed
from limner.models.abilities import Abilities, abilities
from limner.models.registry import IMAGE, LIVE, LIVE_STYLES, PAINTER, Registry
from limner.service import Service

CREATED: Final = 1_739_577_600
"""When image-01 appeared, 2025-02-15: the lists ask for a date."""


class NotThere(InvalidRequest):
    """What the path names does not exist; answered 404 under every setting."""

    status = 404


def routes(settings: Settings, models: Registry) -> APIRouter:
    router = APIRouter(dependencies=GUARD)
    errors = schema.error_responses(settings, *((401, 500) if settings.http_status == "real" else ()))
    names = models.names

    def entry(name: str) -> dict[str, Any]:
        known = name in (IMAGE, LIVE) or models.lookup(name).weights == PAINTER
        told = {"id": name, "object": "model", "created": CREATED, "owned_by": "minimax" if known else "limner"}
        return told | {"limner": ability(name)}

    def ability(name: str) -> dict[str, Any]:
        can = abilities(models.lookup(name))
        return asdict(can) | {
            "references": min(can.references, settings.reference_max_count),
            "live_styles": list(LIVE_STYLES) if name in models.live else [],
            "prompt_chars": settings.max_prompt_chars,
            "reference_bytes": settings.reference_max_bytes,
        }

    def entries(names: list[str]) -> list[dict[str, Any]]:
        return [entry(name) for name in names]

    model = {
        "type": "object",
        "required": ["id", "object", "created", "owned_by", "limner"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
            "limner": _ABILITY,
        },
    }
    listing = {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": model}},
    }

    def answers(description: str, document: dict[str, Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
        found = {"anyOf": [document, schema.error(settings)]} if settings.http_status == "ok" else document
        return {200: schema.described(description, found), **errors, **schema.error_responses(settings, *statuses)}

    def allowed(request: Request, caller: tenants.Caller) -> list[str]:
        service: Service = request.app.state.service
        return [name for name in names if service.tenants.may_use(caller, name)]

    @router.get("/v1/models", responses=answers("Every model name that the caller's requests may give.", listing))
    async def list_models(request: Request, caller: Caller) -> JSONResponse:
        return JSONResponse({"object": "list", "data": await asyncio.to_thread(entries, allowed(request, caller))})

    @router.get("/v1/models/{name}", responses=answers("One model.", model, 403, 404))
    async def show_model(request: Request, caller: Caller, name: str) -> JSONResponse:
        usable = allowed(request, caller)
        if name not in names:
            raise NotThere(f"There is no such model; there are {', '.join(usable)}.")
        if name not in usable:
            raise ModelNotAllowed(f"This key may not use the model {name}; it may use {', '.join(usable)}.")
        return JSONResponse(await asyncio.to_thread(entry, name))

    anthropic = {"type": "object", "required": ["data", "has_more", "first_id", "last_id"]}

    @router.get("/anthropic/v1/models", responses=answers("The same list in Anthropic's shape.", anthropic))
    async def list_models_anthropic(request: Request, caller: Caller) -> JSONResponse:
        listed = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2025-02-15T00:00:00Z"}
            for name in allowed(request, caller)
        ]
        ids = [model["id"] for model in listed]  # none where the key's models are gone
        ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
        return JSONResponse({"data": listed, "has_more": False, **ends})

    return router


_ABILITY: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What `POST /v1/pictures` takes for this model.",
    "required": [*(field.name for field in fields(Abilities)), "live_styles", "prompt_chars", "reference_bytes"],
    "additionalProperties": False,
    "properties": {
        "references": {"type": "integer", "minimum": 0, "description": "Most of them; 0 is none."},
        "mask": {"type": "boolean", "description": "Whether a part of a picture can be repainted."},
        "steps": {"type": ["integer", "null"], "description": "By default; null: not known before it is loaded."},
        "guidance": {"type": ["number", "null"], "description": "By default; null: it has none, or not known yet."},
        "strength": {"type": "boolean"},
        "samplers": {"type": "array", "items": {"enum": list(get_args(SamplerName))}},
        "negative_prompt": {"type": "boolean"},
        "styles": {"type": "array", "items": {"type": "string"}},
        "live_styles": {"type": "array", "items": {"enum": list(LIVE_STYLES)}, "description": "`style_type`s."},
        "scene": {"type": "boolean", "description": "Whether it plans a scene, and paints one that it is given."},
        "free_size": {"type": "boolean", "description": "Whether `width` and `height` may be any that are allowed."},
        "previews": {"type": "boolean", "description": "Whether it shows how pictures come along."},
        "prompt_chars": {"type": "integer", "description": "Longest prompt, code points."},
        "reference_bytes": {"type": "integer", "description": "Largest reference, decoded."},
    },
}
