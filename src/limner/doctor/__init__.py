"""`limner doctor`: one function for each part of the set-up, which says what is so and what to change.

A check takes the settings and yields findings. It changes nothing but for a probe that it takes away again, and shows
no secret. What only a running service can know is in its metrics (docs/operations.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from limner.config import Settings
from limner.doctor import access, storage, work
from limner.doctor.finding import Finding, Said, Verdict
from limner.errors import LimnerError

__all__ = ["CHECKS", "Finding", "Verdict", "as_json", "examine", "unreadable"]

CHECKS: dict[str, Callable[[Settings], Iterator[Said]]] = {
    "settings": work.of_settings,
    "data_dir": storage.of_data_dir,
    "database": storage.of_database,
    "store": storage.of_store,
    "limits": storage.of_limits,
    "keys": access.of_keys,
    "address": access.of_address,
    "connections": access.of_files,
    "webhooks": access.of_webhooks,
    "models": work.of_models,
    "memory": work.of_memory,
    "policy": work.of_policy,
    "provenance": work.of_provenance,
    "endpoints": work.of_endpoints,
    "times": work.of_times,
}
"""By the word that their findings are listed under."""


def examine(settings: Settings) -> list[Finding]:
    """Every finding of every check, in the table's order; a check that breaks down itself is a finding, too."""
    found = []
    for name, check in CHECKS.items():
        try:
            found += [Finding(name, verdict, sentence) for verdict, sentence in check(settings)]
        except Exception as error:
            found.append(Finding(name, "wrong", f"This check broke down with {type(error).__name__}; report it."))
    return found


def as_json(found: list[Finding]) -> dict[str, Any]:
    """The findings as `limner doctor --json` prints them."""
    return {
        "ok": not any(finding.verdict == "wrong" for finding in found),
        "findings": [
            {"check": finding.check, "verdict": finding.verdict, "sentence": finding.sentence} for finding in found
        ],
    }


def unreadable(error: LimnerError) -> list[Finding]:
    """What is found where the settings cannot even be read."""
    return [Finding("settings", "wrong", error.message)]
