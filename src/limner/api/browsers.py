"""What browsers are told of every reply, and what pages of other sites may not do with a service that has no keys.

Such a service listens on loopback alone, but every browser of the machine reaches it for any page that is open there.
MiniMax's own routes stay open to pages, as cors_origin says: a page can have pictures painted that it asks for itself.
Two things are refused. A name that is not known to be this machine's (DNS rebinding, which makes a page of another site
one of ours); and, to pages of other sites, every other route that a key would guard: jobs, usage, secrets.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from limner.config import Settings, is_loopback
from limner.errors import NotAuthenticated

OF_EVERY_REPLY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Where a route has not set its own."""

OPEN: Final = (
    "/v1/image_generation", "/image_generation", "/v1/v1/image_generation", "/v1/models", "/anthropic/v1/models",
    "/v1/token_plan/remains", "/account/query_balance",
)  # fmt: skip
"""MiniMax's routes, and all below them: pages may use them as they use MiniMax's."""


class PageRefused(NotAuthenticated):
    """Without keys, a page of another site asked for what is not its own."""

    status = 403


def dress(headers: MutableHeaders) -> None:
    """Add the headers that a reply lacks. Pictures may be shown on any page, all else is for ours alone."""
    for name, value in OF_EVERY_REPLY.items():
        headers.setdefault(name, value)
    picture = headers.get("content-type", "").startswith("image/")
    headers.setdefault("Cross-Origin-Resource-Policy", "cross-origin" if picture else "same-origin")


def check_page(headers: Headers, path: str, settings: Settings) -> None:
    """Refuse a call to a service without keys that comes by a strange name, or from a strange page to what is not OPEN.

    A numeric address is no strange name: nobody can point one elsewhere. Programs that send no Host are let through,
    as no browser does that; so are those that send no Origin.

    Raises PageRefused.
    """
    ours = None if settings.public_url is None else urlsplit(settings.public_url).hostname
    host = headers.get("host", "")
    name = _name("//" + host)
    if host and not (_is_address(name) or _is_local(name) or (name and name == ours)):
        raise PageRefused(
            "Without keys the service answers only as localhost, by its address or as its public_url: "
            "set public_url to the name that you call it by, or make a key with `limner keys create`."
        )
    origin = headers.get("origin")
    if origin is None or any(path == part or path.startswith(part + "/") for part in OPEN):
        return
    page = _name(origin)
    same = urlsplit(origin).netloc.lower() == host.lower() if page else False
    if not (same or _is_local(page) or (page and page == ours) or origin == settings.cors_origin):
        raise PageRefused(
            "Without keys, this route is not for pages of other sites: "
            "make a key with `limner keys create`, or set cors_origin to the page's origin."
        )


def _name(url: str) -> str:
    """The host in a URL, in lower case and without brackets or port; empty where there is none that can be read."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(name: str) -> bool:
    """Names that no name server of a stranger's is asked for: RFC 6761, and a container's name for its host."""
    return is_loopback(name) or name.endswith(".localhost") or name == "host.docker.internal"


@cache
def docs_page() -> tuple[str, dict[str, str]]:
    """The page at /docs, and its headers: its own script and style may run, by their hashes, and nothing else."""
    page = Path(__file__).with_name("docs.html").read_text("utf-8")
    hashes = {
        tag: " ".join(f"'sha256-{_sha256(text)}'" for text in re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL))
        for tag in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
