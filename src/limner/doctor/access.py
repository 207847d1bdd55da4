"""Who reaches the service, and how: keys, addresses, certificates, connections, webhooks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from limner import tenants
from limner.config import Settings, is_loopback
from limner.doctor.finding import EXPIRES_SOON, Said, ok, warning, wrong
from limner.doctor.storage import opened, shared
from limner.errors import SettingsInvalid, StorageFailed
from limner.storage import keys, migrations


def of_keys(settings: Settings) -> Iterator[Said]:
    try:
        with opened(settings) as database:
            listed: list[keys.Key] = []
            if database is None or migrations.behind(database):
                if not is_loopback(settings.host) and not settings.keys():
                    yield wrong(
                        f"Listening on {settings.host} without keys would let anyone on the network use this service, "
                        "which does not start like this: make one with `limner keys create`, or set api_keys."
                    )
                    return
            else:
                with database.transaction(writing=False) as connection:
                    tenants.refuse_open(settings, connection)
                    listed = keys.every(connection)
    except SettingsInvalid as error:
        yield wrong(error.message)
        return
    except StorageFailed:
        return  # told by the check of the database
    valid = [key for key in listed if key.state(time.time()) == "valid"]
    soon = [key for key in valid if key.expires is not None and key.expires < time.time() + EXPIRES_SOON]
    if soon:
        yield warning(f"{len(soon)} of the database's keys end within 21 days: `limner keys list` names them.")
    given = settings.keys()
    short = sum(len(key.get_secret_value()) < 20 for key in given)
    if short and not is_loopback(settings.host):
        yield warning(f"{short} of api_keys have fewer than 20 characters and could be guessed: use longer ones.")
    if not settings.keys() and not listed:
        yield ok(f"No key is asked for; {settings.host} is reached from this machine alone.")
    else:
        yield ok(f"A key is asked for: {len(settings.keys())} of the settings, {len(valid)} of the database.")


def of_address(settings: Settings) -> Iterator[Said]:
    """What clients reach, and whether it is in clear text."""
    tls, public = settings.tls_certificate is not None, urlsplit(settings.public_url or "")
    if tls and public.scheme == "http":
        yield wrong("public_url begins with http://, but the service speaks HTTPS: links to pictures would not work.")
    elif public.scheme == "https" or tls:
        yield ok(
            "Clients are served over HTTPS." if tls else "Clients are told https:// links, as a proxy serves them."
        )
    elif is_loopback(settings.host):
        yield ok("Plain HTTP, from this machine alone; a proxy in front wants public_url.")
    else:
        yield warning(
            "Keys and prompts cross the network in clear text: set tls_certificate and tls_key, or put a proxy with "
            "TLS in front, listen on 127.0.0.1 or a private address, and set public_url to https://."
        )
    if tls and settings.tls_certificate is not None:
        yield certificate(settings.tls_certificate, time.time())


def certificate(path: Path, now: float) -> Said:
    """What to say of the end of the first certificate in a PEM file, at `now`, Unix seconds."""
    try:
        from cryptography import x509
    except ImportError:
        return warning("When tls_certificate ends was not looked at: pip install 'limner[provenance]' to have it so.")
    try:
        ends = x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc
    except (OSError, ValueError) as error:
        return wrong(f"tls_certificate {path} cannot be read: {error}.")
    return ending(ends.timestamp(), now, "tls_certificate", "Renew it; the service reads it when it starts.")


def ending(ends: float, now: float, what: str, remedy: str) -> Said:
    """What to say of something that ends at `ends`."""
    day = datetime.fromtimestamp(ends, UTC).date()
    if ends <= now:
        return wrong(f"{what} has ended on {day}. {remedy}")
    if ends < now + EXPIRES_SOON:
        return warning(f"{what} ends on {day}. {remedy}")
    return ok(f"{what} is good until {day}.")


def of_files(settings: Settings) -> Iterator[Said]:
    """The system's limit of open files, which connections count against."""
    try:
        import resource
    except ImportError:  # a system without such limits
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + 256
    if hard != resource.RLIM_INFINITY and hard < wanted:
        yield warning(
            f"This system lets a process open {hard} files, fewer than max_connections needs ({wanted}): raise "
            "`ulimit -n`, or lower max_connections."
        )
    else:
        yield ok(f"{settings.max_connections} connections can be open.")


def of_webhooks(settings: Settings) -> Iterator[Said]:
    if settings.webhook_secret is not None:
        if len(settings.webhook_secret.get_secret_value()) < 24:
            yield wrong("webhook_secret has fewer than 24 characters and could be guessed: use a longer one.")
        else:
            yield ok("Webhooks are signed with secrets of webhook_secret.")
    elif shared(settings):
        yield warning(
            "webhook_secret is not set: each machine makes a secret of its own in data_dir, and receivers refuse what "
            "another one signed. Set the same one on all, unless there is only this."
        )
    else:
        yield ok("Webhooks are signed with the secret in data_dir.")
