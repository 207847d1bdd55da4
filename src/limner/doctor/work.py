"""What the service works with: models, memory, policy, signatures, other services; and values that go together."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from importlib.util import find_spec
from urllib.parse import urlsplit

from limner import tracing
from limner.config import Settings, changed
from limner.doctor.access import ending
from limner.doctor.finding import SECONDS, Said, ok, warning, wrong
from limner.errors import InvalidRequest, ModelUnusable, SettingsInvalid
from limner.models import entries, folder
from limner.models.registry import PAINTER
from limner.provenance import Signer
from limner.safety import Policy, file


def of_settings(settings: Settings) -> Iterator[Said]:
    names = ", ".join(changed(settings))
    yield ok(f"The settings can be used; set are {names}." if names else "All settings are at their defaults.")


def of_provenance(settings: Settings) -> Iterator[Said]:
    try:
        signer = Signer.load(settings)
    except SettingsInvalid as error:
        yield wrong(error.message)
        return
    if signer is None:
        yield ok("Pictures carry no signed content credentials (c2pa_certificate).")
    else:
        yield ending(signer.expires, time.time(), "c2pa_certificate", "Pictures are not signed after it: renew it.")


def of_policy(settings: Settings) -> Iterator[Said]:
    try:
        Policy.load(settings)
        moderation = None if settings.policy_file is None else file.read(settings.policy_file).moderation
    except SettingsInvalid as error:
        yield wrong(error.message)
        return
    if settings.policy_file is None:
        yield ok("There is no policy file: nothing is refused but prompts of invisible characters.")
    else:
        yield ok(f"The policy {settings.policy_file} can be used.")
    if moderation is not None:
        yield from reachable(
            moderation.url, "The policy's moderation endpoint", f"on_failure is `{moderation.on_failure}`"
        )


def of_models(settings: Settings) -> Iterator[Said]:
    try:
        registry = entries.load(settings)
    except SettingsInvalid as error:
        yield wrong(error.message)
        return
    budget = None if settings.memory_gb is None else settings.memory_gb * 1e9
    for model in registry.models:
        if model.weights == PAINTER:
            yield ok(f"{model.name} is the built-in painter.")
            continue
        try:
            found = folder.inspect_model(model)
        except (ModelUnusable, InvalidRequest) as error:
            yield wrong(f"{model.name}: {error.message}")
            continue
        if found.problems:
            yield wrong(f"{model.name}: {' '.join(found.problems)}")
        elif find_spec("torch") is None:
            yield wrong(
                f"{model.name}: weights of one's own need torch, which is missing: pip install 'limner[torch]'."
            )
        elif budget is not None and found.bytes > budget:
            yield warning(
                f"{model.name} has files of {found.bytes / 1e9:.1f} GB, and memory_gb allows {budget / 1e9:g}: it may "
                "not fit. Raise it, or have the weights quantized."
            )
        else:
            yield ok(f"{model.name} is {found.family.name} of {found.bytes / 1e9:.1f} GB and can be painted with.")


def of_memory(settings: Settings) -> Iterator[Said]:
    cores = os.cpu_count() or 1
    if settings.threads > cores:
        yield warning(f"threads is {settings.threads}, but this machine has {cores} cores: set 0, which takes all.")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if settings.memory_gb is not None and settings.memory_gb * 1e9 > total:
        yield warning(
            f"memory_gb is {settings.memory_gb:g}, but this machine has {total / 1e9:.0f} GB of main memory: models "
            "that run on the CPU would not fit. Lower it, unless all run on a GPU."
        )
    elif settings.threads <= cores:
        yield ok(f"{cores} cores and {total / 1e9:.0f} GB of main memory.")


def of_endpoints(settings: Settings) -> Iterator[Said]:
    if settings.optimizer_url is not None:
        yield from reachable(settings.optimizer_url, "optimizer_url", "the plain prompt is used")
    if settings.tracing_url is not None:
        try:
            tracing.start(settings)
        except SettingsInvalid as error:
            yield wrong(error.message)
        else:
            tracing.stop()
            yield from reachable(settings.tracing_url, "tracing_url", "spans are lost")
    if settings.optimizer_url is None and settings.tracing_url is None:
        yield ok("Neither a chat endpoint nor a collector of spans is set.")


def reachable(url: str, what: str, otherwise: str) -> Iterator[Said]:
    """Whether somebody takes connections at the host and port of `url`."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), SECONDS):
            yield ok(f"{what} takes connections.")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        yield warning(f"{what} cannot be reached ({reason}): until it can, {otherwise}. Check the address.")


def of_times(settings: Settings) -> Iterator[Said]:
    """Values that are each allowed, but not well together."""
    day = 86400.0
    said = {
        "request_seconds is not longer than lease_seconds: a call is over before the job of a process that died goes "
        "on.": settings.request_seconds <= settings.lease_seconds,
        "lease_seconds is under 2: a process that is held up by a slow disk is taken for dead, and its work done "
        "again.": settings.lease_seconds < 2,
        "storage_seconds is not shorter than request_seconds: where the store is away, calls time out before they are "
        "told so.": settings.storage_seconds >= settings.request_seconds,
        "link_seconds is under a minute: pictures are gone before slow clients have fetched them.": (
            settings.link_seconds < 60
        ),
        f"idempotency_seconds ({settings.idempotency_seconds / day:g} days) is longer than link_seconds "
        f"({settings.link_seconds / day:g} days): a late retry is painted anew, as its job is no longer kept.": (
            settings.idempotency_seconds > settings.link_seconds
        ),
        f"queue_limit is {settings.queue_limit}: calls for more pictures are refused, and a call may ask for 9.": (
            settings.queue_limit < 9
        ),
        "max_body_bytes is smaller than a reference of reference_max_bytes in base64: such a request is refused.": (
            settings.max_body_bytes < settings.reference_max_bytes * 4 / 3
        ),
    }
    contradictions = [sentence for sentence, holds in said.items() if holds]
    yield from map(warning, contradictions)
    if not contradictions:
        yield ok("Times and sizes fit together.")
