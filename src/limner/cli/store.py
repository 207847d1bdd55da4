"""`limner db upgrade` and `limner gc`: an operator's hand on the database and the store."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from limner.cli.models import AsJson, Config, sentences

db = typer.Typer(no_args_is_help=True, add_completion=False, help="Look after the database (docs/operations.md).")


@db.callback()
def _db() -> None:
    pass  # so that `upgrade` stays a name of its own, though it is the only one


@db.command()
def upgrade(as_json: AsJson = False, config: Config = None) -> None:
    """Bring the database's tables up to date with this version of Limner; stop older services first."""
    with sentences():
        from limner.config import load
        from limner.storage import migrations
        from limner.storage.database import Database

        database = Database.at(load(config), seconds=None)  # a table may be large
        try:
            before = migrations.upgrade(database)
        finally:
            database.close()
        now = migrations.HEAD
        if as_json:
            typer.echo(json.dumps({"before": before, "now": now}))
        elif before is None:
            typer.echo(f"The database was empty; its tables are of version {now} now.")
        elif before == now:
            typer.echo(f"The database's tables are of version {now} already.")
        else:
            typer.echo(f"The database's tables were of version {before} and are of version {now} now.")


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, and delete nothing.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Delete expired jobs, pictures that no job knows, and old records; a running service does so by itself."""
    with sentences():
        from limner.config import load
        from limner.storage.blobs import Blobs
        from limner.storage.database import Database
        from limner.storage.sweep import sweep

        settings = load(config)
        database = Database.open(settings)
        try:
            swept = sweep(database, Blobs.open(settings), time.time(), dry_run=dry_run)
        finally:
            database.close()
        if as_json:
            typer.echo(json.dumps(asdict(swept) | {"dry_run": dry_run}))
            return
        done = "would be deleted" if dry_run else "deleted"
        typer.echo(f"Expired or half-deleted jobs, with their pictures: {swept.jobs} {done}.")
        typer.echo(f"Pictures and references without a job: {swept.orphans} {done}.")
        typer.echo(f"Webhook deliveries over a week old: {swept.deliveries} {done}.")
        typer.echo(f"Refusals by the policy over 90 days old: {swept.audit} {done}.")
