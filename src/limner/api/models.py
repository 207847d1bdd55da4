"""Which models there are, and what the account routes of other services can honestly be told here."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from limner.api import schema
from limner.api.auth import GUARD
from limner.config import Settings
from limner.errors import InvalidRequest
from limner.models.registry import IMAGE, LIVE, PAINTER, Registry

CREATED: Final = 1_739_577_600
"""When image-01 appeared, 2025-02-15: the lists ask for a date."""


class NotThere(InvalidRequest):
    """What the path names does not exist; answered 404 under every setting."""

    status = 404


def routes(settings: Settings, models: Registry) -> APIRouter:
    router = APIRouter(dependencies=GUARD)
    errors = schema.error_responses(settings, *((401,) if settings.http_status == "real" else ()))
    names = models.names

    def entry(name: str) -> dict[str, Any]:
        known = name in (IMAGE, LIVE) or models.lookup(name).weights == PAINTER
        return {"id": name, "object": "model", "created": CREATED, "owned_by": "minimax" if known else "limner"}

    model = {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
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

    @router.get("/v1/models", responses=answers("Every model name that requests may give.", listing))
    async def list_models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [entry(name) for name in names]})

    @router.get("/v1/models/{name}", responses=answers("One model.", model, 404))
    async def show_model(name: str) -> JSONResponse:
        if name not in names:
            raise NotThere(f"There is no such model; there are {', '.join(names)}.")
        return JSONResponse(entry(name))

    anthropic = {"type": "object", "required": ["data", "has_more", "first_id", "last_id"]}

    @router.get("/anthropic/v1/models", responses=answers("The same list in Anthropic's shape.", anthropic))
    async def list_models_anthropic() -> JSONResponse:
        listed = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2025-02-15T00:00:00Z"} for name in names
        ]
        ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]}
        return JSONResponse({"data": listed, "has_more": False, **ends})

    accepted = {"type": "object", "required": ["base_resp"], "properties": {"base_resp": schema.BASE_RESP}}
    ok = {"base_resp": {"status_code": 0, "status_msg": "success"}}

    @router.get("/v1/token_plan/remains", responses=answers("No model has a quota.", accepted))
    async def token_plan_remains() -> JSONResponse:
        return JSONResponse({"model_remains": [], **ok})

    amounts = ("available_amount", "cash_balance", "voucher_balance", "credit_balance", "owed_amount")

    @router.get("/account/query_balance", responses=answers("Nothing is billed: every amount is 0.", accepted))
    async def query_balance() -> JSONResponse:
        return JSONResponse(dict.fromkeys(amounts, "0.00") | ok)

    return router
