"""`limner keys` makes, lists, rotates and revokes tenants' keys; `limner usage` says what tenants used."""

from __future__ import annotations

import csv
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from limner.cli.models import AsJson, Config, sentences

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from limner.config import Settings
    from limner.storage.keys import Key

keys = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Make, list, rotate and revoke tenants' keys; a running service follows at once.",
)

UNITS: dict[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
WIDE = 200
"""Columns of a table that goes into a file or another program."""

AT_LEAST_ONE = {"min": 1, "max": 10**9}


@keys.command()
def create(
    tenant: Annotated[str, typer.Argument(help="Whose key: up to 64 letters, digits and . _ @ -.")],
    rate: Annotated[int | None, typer.Option(**AT_LEAST_ONE, help="Pictures a minute.  [default: no limit]")] = None,
    concurrent: Annotated[
        int | None, typer.Option(**AT_LEAST_ONE, help="Jobs at once, waiting or running.  [default: no limit]")
    ] = None,
    daily: Annotated[int | None, typer.Option(**AT_LEAST_ONE, help="Pictures a UTC day.  [default: no limit]")] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model it may use; several may be given.  [default: all]")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Largest picture, counted in pixels.")
    ] = None,
    retention: Annotated[
        str | None, typer.Option(metavar="7d", help="How long its jobs are kept.  [default: link_seconds]")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="2027-01-01|30d", help="When it stops to work.  [default: never]")
    ] = None,
    note: Annotated[str, typer.Option(help="For the list, up to 200 characters.")] = "",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Make a key and print it, this once; the service stores its SHA-256 alone."""
    with sentences():
        from limner.config import load
        from limner.models import entries
        from limner.storage import keys as table

        now, settings = time.time(), load(config)
        if not table.TENANT.fullmatch(tenant):
            raise typer.BadParameter("A tenant's name is 1 to 64 letters, digits and . _ @ -, a letter or digit first.")
        known = entries.load(settings).names
        if model and not known.keys() >= set(model):
            raise typer.BadParameter(f"The models are {', '.join(known)}.", param_hint="--model")
        if len(note) > 200 or not note.isprintable():
            raise typer.BadParameter("A note has at most 200 printable characters.", param_hint="--note")
        limits = table.Limits(
            rate=rate,
            concurrent=concurrent,
            daily=daily,
            models=tuple(dict.fromkeys(model)) if model else None,
            max_pixels=None if max_size is None else _pixels(max_size),
            retention=None if retention is None else _seconds(retention, "--retention"),
        )
        ends = None if expires is None else _moment(expires, now)
        with _transaction(settings) as connection:
            made = table.create(connection, tenant, limits, now, expires=ends, note=note)
        _tell(settings, *made, as_json)


@keys.command(name="list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """List the keys by their first letters, with their limits and state."""
    with sentences():
        from rich.console import Console
        from rich.table import Column, Table

        from limner.config import load
        from limner.storage import keys as table

        now = time.time()
        with _transaction(load(config), writing=False) as connection:
            found = table.every(connection, tenant)
        if as_json:
            _print_json([asdict(key) | {"state": key.state(now)} for key in found])
            return
        shown = Table(Column("id", no_wrap=True), "tenant", "key", "state", "made", "limits", "note", box=None)
        for key in found:
            shown.add_row(
                key.id, key.tenant, f"{key.shown}…", _state(key, now), _date(key.created), _limits(key), key.note
            )
        Console(width=None if sys.stdout.isatty() else WIDE).print(shown)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `limner keys list` shows it.")],
    config: Config = None,
) -> None:
    """End a key, at once and for good."""
    with sentences():
        from limner.config import load
        from limner.storage import keys as table

        with _transaction(load(config)) as connection:
            key = table.revoke(connection, key_id, time.time())
        if key is None:
            raise _no_such_key(key_id)
        typer.echo(f"{key.id} of {key.tenant} works no more.")


@keys.command()
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `limner keys list` shows it.")],
    keep: Annotated[
        str, typer.Option(metavar="24h", help="How long the key until now goes on to work beside it; 0 ends it now.")
    ] = "24h",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Give a key a new secret, and print it, this once; limits, jobs and usage stay."""
    with sentences():
        from limner.config import load
        from limner.errors import InvalidRequest
        from limner.storage import keys as table

        now, settings = time.time(), load(config)
        kept = 0.0 if keep == "0" else _seconds(keep, "--keep")
        with _transaction(settings) as connection:
            rotated = table.rotate(connection, key_id, now, kept)
            if rotated is None:
                raise _no_such_key(key_id)
            if (state := rotated[0].state(now)) != "valid":
                raise InvalidRequest(f"{key_id} is {state}; make a new key with limner keys create.")
        _tell(settings, *rotated, as_json)


def usage(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day, UTC.  [default: of this month]")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day, UTC.  [default: today]")] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values instead of text.")] = False,
    config: Config = None,
) -> None:
    """Say what tenants used, by day and model."""
    with sentences():
        from rich.console import Console
        from rich.table import Column, Table

        from limner import tenants
        from limner.config import load
        from limner.storage import usage as table

        if as_json and as_csv:
            raise typer.BadParameter("Give --json or --csv, not both.", param_hint="--csv")
        days = tenants.span(first, last, time.time())
        with _transaction(load(config), writing=False) as connection:
            rows = table.between(connection, *days, tenant)
        names = [field.name for field in fields(table.Used)]
        if as_json:
            _print_json([asdict(row) for row in rows])
        elif as_csv:
            written = csv.DictWriter(sys.stdout, names, lineterminator="\n")
            written.writeheader()
            written.writerows(asdict(row) for row in rows)
        else:
            shown = Table(*names[:3], *(Column(name, justify="right") for name in names[3:]), box=None)
            for row in rows:
                cells = asdict(row).values()
                shown.add_row(*(f"{cell:.0f}" if isinstance(cell, float) else str(cell) for cell in cells))
            Console(width=None if sys.stdout.isatty() else WIDE).print(shown)


@contextmanager
def _transaction(settings: Settings, *, writing: bool = True) -> Iterator[Connection]:
    """One transaction on the settings' database. Raises SettingsInvalid, StorageFailed."""
    from limner import logs
    from limner.storage.database import Database

    logs.configure(settings.model_copy(update={"log_level": "error"}))
    database = Database.open(settings)
    try:
        with database.transaction(writing=writing) as connection:
            yield connection
    finally:
        database.close()


def _tell(settings: Settings, key: Key, secret: str, as_json: bool) -> None:
    """Print a key and the secret of its tenant's webhooks: the only place that shows them."""
    from limner import webhooks

    told = {"id": key.id, "tenant": key.tenant, "key": secret, "webhook_secret": webhooks.secret(settings, key.tenant)}
    if as_json:
        _print_json(told)
        return
    typer.echo(f"key      {told['key']}")
    typer.echo(f"webhooks {told['webhook_secret']}")
    typer.echo(
        f"This is {key.id} of {key.tenant}. Keep the key now: it is not shown again. With the second secret the tenant "
        f"checks the signatures of webhooks.",
        err=True,
    )


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def _state(key: Key, now: float) -> str:
    state = key.state(now)
    if state == "valid" and key.expires is not None:
        return f"until {_date(key.expires)}"
    if state == "valid" and key.old_until is not None and key.old_until > now:
        return f"valid, the one before until {_date(key.old_until)}"
    return state


def _limits(key: Key) -> str:
    limits = key.limits
    shown = {
        "{}/min": limits.rate,
        "{} at once": limits.concurrent,
        "{}/day": limits.daily,
        "{}": None if limits.models is None else " ".join(limits.models),
        "{} px": limits.max_pixels,
        "kept {}": None if limits.retention is None else _span(limits.retention),
    }
    return ", ".join(text.format(value) for text, value in shown.items() if value is not None) or "none"


def _date(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


def _span(seconds: float) -> str:
    """A length of time as the options take it."""
    unit = max((unit for unit in UNITS if seconds % UNITS[unit] == 0), key=UNITS.__getitem__)
    return f"{seconds / UNITS[unit]:.0f}{unit}"


def _seconds(text: str, option: str) -> float:
    """A length of time such as 90s, 30m, 24h or 7d."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None or not int(found[1]):
        raise typer.BadParameter(f"{text} is no length of time; write it as 90s, 30m, 24h or 7d.", param_hint=option)
    return float(int(found[1]) * UNITS[found[2]])


def _moment(text: str, now: float) -> float:
    """A day (its beginning, UTC) or a length of time from now, as Unix seconds."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        moment = now + _seconds(text, "--expires")
    if moment <= now:
        raise typer.BadParameter(f"{text} is over already.", param_hint="--expires")
    return moment


def _pixels(text: str) -> int:
    found = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if found is None or not int(found[1]) * int(found[2]):
        raise typer.BadParameter(f"{text} is no size; write it as 1024x1024.", param_hint="--max-size")
    return int(found[1]) * int(found[2])


def _no_such_key(key_id: str) -> Exception:
    from limner.errors import InvalidRequest

    return InvalidRequest(f"There is no key {key_id[:40]!a}; limner keys list shows them.")
