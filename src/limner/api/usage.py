"""`GET /v1/usage`, and what the account routes of other services can honestly be told here."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from limner import tenants
from limner.api import schema
from limner.api.auth import GUARD, Caller
from limner.config import Settings
from limner.models.registry import Registry
from limner.service import Service


def routes(settings: Settings, models: Registry) -> APIRouter:
    router = APIRouter()

    @router.get(
        "/v1/usage",
        dependencies=[schema.TRUE_STATUS, *GUARD],
        summary="What the caller used, day by day, and what its key has left today",
        responses={200: schema.described("The usage.", _USAGE), **schema.error_responses(settings, 400, 401, 500)},
    )
    async def show_usage(
        request: Request,
        caller: Caller,
        first: Annotated[str | None, Query(alias="from", description="First day, UTC; absent: of this month.")] = None,
        last: Annotated[str | None, Query(alias="to", description="Last day, UTC; absent: today.")] = None,
    ) -> JSONResponse:
        service: Service = request.app.state.service
        span = tenants.span(first, last, time.time())
        request.state.code = 0
        return JSONResponse({"id": request.state.trace} | await service.tenants.usage(caller, *span))

    accepted = {"type": "object", "required": ["base_resp"], "properties": {"base_resp": schema.BASE_RESP}}
    ok = {"base_resp": {"status_code": 0, "status_msg": "success"}}
    refused = (401, 500) if settings.http_status == "real" else ()

    def answers(description: str) -> dict[int | str, dict[str, Any]]:
        return {200: schema.described(description, accepted), **schema.error_responses(settings, *refused)}

    remains_told = answers("What the key's daily quota has left, if it has one.")

    @router.get("/v1/token_plan/remains", dependencies=GUARD, responses=remains_told)
    async def token_plan_remains(request: Request, caller: Caller) -> JSONResponse:
        service: Service = request.app.state.service
        daily = None if caller.key is None else caller.key.limits.daily
        if daily is None:
            return JSONResponse({"model_remains": [], **ok})
        now = time.time()
        today = (await service.tenants.usage(caller, *tenants.span(None, None, now)))["today"]
        ends, left = 1000 * int(today["ends"]), today["left"]
        day = {"start_time": ends - 86_400_000, "end_time": ends, "remains_time": ends - int(1000 * now)}
        # mmx-cli reads usage_count as what is left where remaining_percent agrees, and no weekly limit from status 3.
        remains = {
            **day,
            "current_interval_total_count": daily,
            "current_interval_usage_count": left,
            "current_interval_remaining_percent": 100 * left / daily,
            "current_interval_status": 1,
            **{f"weekly_{name}": value for name, value in day.items()},
            "current_weekly_total_count": 0,
            "current_weekly_usage_count": 0,
            "current_weekly_remaining_percent": 100,
            "current_weekly_status": 3,
        }
        names = [name for name in models.names if service.tenants.may_use(caller, name)]
        return JSONResponse({"model_remains": [{"model_name": name, **remains} for name in names], **ok})

    amounts = ("available_amount", "cash_balance", "voucher_balance", "credit_balance", "owed_amount")

    nothing_billed = answers("Nothing is billed: every amount is 0.")

    @router.get("/account/query_balance", dependencies=GUARD, responses=nothing_billed)
    async def query_balance() -> JSONResponse:
        return JSONResponse(dict.fromkeys(amounts, "0.00") | ok)

    return router


def _maybe(kind: str, description: str) -> dict[str, Any]:
    return {"type": [kind, "null"], "description": description}


_DAY = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"}
_ROW = {
    "type": "object",
    "required": ["day", "model", "jobs", "images", "failed", "charged", "cost", "bytes"],
    "properties": {
        "day": _DAY,
        "model": {"type": "string"},
        "jobs": {"type": "integer", "description": "That ended on this day."},
        "images": {"type": "integer", "description": "Painted."},
        "failed": {"type": "integer"},
        "charged": {"type": "integer", "description": "Asked for on this day, and not given back: counts to quotas."},
        "cost": {"type": "number", "description": "Evaluations of the network times tokens."},
        "bytes": {"type": "integer", "description": "Of the painted files."},
    },
}
_USAGE = {
    "type": "object",
    "required": ["id", "tenant", "from", "to", "days", "limits", "today"],
    "properties": {
        "id": {"type": "string"},
        "tenant": {"type": "string"},
        "from": _DAY,
        "to": _DAY,
        "days": {"type": "array", "items": _ROW, "description": "Of all the tenant's keys, by day and model."},
        "limits": {
            "type": "object",
            "description": "Of this key; null: none.",
            "properties": {
                "rate": _maybe("integer", "Pictures a minute."),
                "concurrent": _maybe("integer", "Jobs at once."),
                "daily": _maybe("integer", "Pictures a UTC day."),
                "models": _maybe("array", "Names."),
                "max_pixels": _maybe("integer", "Width times height of one picture."),
                "retention": _maybe("number", "Seconds that jobs are kept."),
                "expires": _maybe("number", "When the key stops to work, Unix seconds."),
            },
        },
        "today": {
            "type": "object",
            "description": "The key's daily quota.",
            "properties": {
                "charged": {"type": "integer"},
                "left": _maybe("integer", "Pictures; null: no quota."),
                "ends": {"type": "number", "description": "When the day ends, Unix seconds."},
            },
        },
    },
}
