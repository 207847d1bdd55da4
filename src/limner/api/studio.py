"""The studio, the page at `/`: files of this package, read once at the start, so that no name ever becomes a path.

The page needs no key, as it holds nothing; it asks for one and calls the public interface as every other program does.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from limner.api.files import is_held
from limner.config import Settings
from limner.errors import StorageFailed
from limner.service import Service

FOLDER: Final = Path(__file__).parents[1] / "studio"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE: Final = "index.html"
ICON: Final = "icon.svg"

HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": ", ".join(
        f"{feature}=()"
        for feature in ("browsing-topics", "camera", "display-capture", "geolocation", "microphone", "payment", "usb")
    ),
}


@dataclass(frozen=True, slots=True)
class File:
    """One file of the studio."""

    data: bytes
    packed: bytes  # by gzip (RFC 1952)
    media_type: str
    etag: str  # quoted, as the ETag header carries it (RFC 9110, 8.8.3); packed it has a tag of its own


def files(folder: Path = FOLDER) -> dict[str, File]:
    """All files of the studio by their paths in it, such as words/compose.js. Others than `TYPES` are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in TYPES:
            data = path.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            packed = gzip.compress(data, 9, mtime=0)
            found[path.relative_to(folder).as_posix()] = File(data, packed, TYPES[path.suffix], etag)
    return found


def policy(elsewhere: tuple[str, ...]) -> str:
    """The page's Content-Security-Policy: its own files, this interface, and pictures from `elsewhere`, origins."""
    pictures = " ".join(("'self'", *elsewhere))
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src {pictures}; "
        f"img-src {pictures} blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110, 12.5.3); * alone is taken for a no."""
    return bool(re.search(r"(^|,)\s*gzip\s*(;\s*q=(0?\.\d*[1-9]|1)[\d.]*\s*)?(,|$)", accept_encoding.lower()))


def routes(settings: Settings) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    known = files()
    public = () if settings.public_url is None else (_origin(settings.public_url),)
    store: str | None = None

    async def elsewhere(service: Service) -> tuple[str, ...]:
        """Where links may lead besides this address. Credentials that sign may have to be fetched: in its time."""
        nonlocal store
        if settings.links == "store" and store is None:
            try:
                store = await service.store_origin() or ""
            except StorageFailed:  # logged; looked at again with the next page
                return public
        return (*public, store) if store else public

    def answer(request: Request, file: File, headers: dict[str, str]) -> Response:
        data, etag, headers = file.data, file.etag, HEADERS | headers
        if takes_gzip(request.headers.get("accept-encoding", "")):
            data, etag = file.packed, f'{etag[:-1]}-gzip"'
            headers["Content-Encoding"] = "gzip"
        headers["ETag"] = etag
        if is_held(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=file.media_type, headers=headers)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def studio(request: Request) -> Response:
        service: Service = request.app.state.service
        csp = policy(tuple(dict.fromkeys(await elsewhere(service))))
        return answer(request, known[PAGE], {"Content-Security-Policy": csp})

    @router.api_route("/favicon.ico", methods=["GET", "HEAD"])
    async def icon(request: Request) -> Response:
        return answer(request, known[ICON], {})

    @router.api_route("/studio/{name:path}", methods=["GET", "HEAD"])
    async def studio_file(request: Request, name: str) -> Response:
        if name not in known:
            raise HTTPException(404)
        return answer(request, known[name], {})

    return router


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
