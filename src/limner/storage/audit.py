"""What the policy refused: rows for the operator, with the prompt's text only where the policy asks for it."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from limner.storage.schema import audit


def add(
    connection: Connection, *, now: float, tenant: str, job: str, stage: str, rule: str, prompt: str | None = None
) -> None:
    """Record a refusal. `stage` is prompt, reference or picture; `rule` names what refused it; `now`: Unix seconds."""
    connection.execute(insert(audit).values(at=now, tenant=tenant, job=job, stage=stage, rule=rule, prompt=prompt))
