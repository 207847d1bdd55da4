"""Who calls: the bearer of the Authorization header, named by `limner.tenants`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from limner import tenants
from limner.api.browsers import check_page
from limner.service import Service


async def _caller(request: Request) -> tenants.Caller:
    """Raises NotAuthenticated, InvalidKey, StorageFailed."""
    service: Service = request.app.state.service
    caller = await service.tenants.caller(request.headers.get("authorization"))
    if caller == tenants.ANYONE:
        check_page(request.headers, request.url.path, request.app.state.settings)
    return caller


_bearer = HTTPBearer(auto_error=False, description="Any of the operator's keys; not needed where none is set.")

Caller = Annotated[tenants.Caller, Depends(_caller)]
"""Whoever sent the request; a route that declares it is guarded."""

GUARD = [Depends(_bearer), Depends(_caller)]
"""Dependencies that guard a router and say so in its documentation."""
