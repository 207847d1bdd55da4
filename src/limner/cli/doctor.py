"""`limner doctor`: looks at the whole set-up and says what to change."""

from __future__ import annotations

import json

import typer

from limner.cli.models import AsJson, Config


def doctor(as_json: AsJson = False, config: Config = None) -> None:
    """Look at the set-up: settings, disk, database, store, keys, models; exits 1 where something is wrong."""
    from limner import doctor as checks
    from limner import logs
    from limner.config import Settings, load
    from limner.errors import SettingsInvalid

    try:
        settings = load(config)
    except SettingsInvalid as error:
        logs.configure(Settings.model_construct())
        found = checks.unreadable(error)
    else:
        logs.configure(settings.model_copy(update={"log_level": "warning"}))
        found = checks.examine(settings)
    report = checks.as_json(found)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        for finding in found:
            typer.echo(f"{finding.verdict:8} {finding.check:12} {finding.sentence}")
    if not report["ok"]:
        raise typer.Exit(1)
