"""The `Idempotency-Key` header: a retry that carries it is answered with what the first call painted.

After draft-ietf-httpapi-idempotency-key-header-07, whose value is a quoted string (RFC 9651, 3.3.3); most clients send
it bare, so both are read, and are the same key. Another body under the same key is 409, and a retry that comes while
the first call is painted waits with it, where the draft would refuse it.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from fastapi import Request

from limner.errors import InvalidRequest
from limner.service import Idempotency

PARAMETER: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "1 to 255 visible ASCII characters, quoted or not: a retry with the same key and body is answered "
    "with the first call's pictures.",
    "schema": {"type": "string", "pattern": "^[!#-~]{1,255}$"},
}
"""What the OpenAPI document says of it."""

REPLAYED: Final = "Idempotent-Replayed"
"""Header of a reply that tells of an earlier call's job, as Stripe's API has it; its value is `true`."""


def read(request: Request, kind: str, document: object) -> Idempotency | None:
    """The key of a call, None where it has none, with a digest of what was asked for.

    Args:
        kind: the route's: a key that came to one route is refused by the others.
        document: the body, as `json.loads` gives it.

    Raises:
        InvalidRequest: the header came twice, or is not such a key.
    """
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    bare = values[0].strip()
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        bare = re.sub(r'\\(["\\])', r"\1", bare[1:-1])
    if len(values) > 1 or not re.fullmatch("[!-~]{1,255}", bare):
        raise InvalidRequest("The Idempotency-Key must be one header of 1 to 255 visible ASCII characters.")
    canonical = json.dumps([kind, document], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Idempotency(bare, hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest())


def headers(replayed: bool) -> dict[str, str]:
    """What a reply says of its being the answer to an earlier call."""
    return {REPLAYED: "true"} if replayed else {}
