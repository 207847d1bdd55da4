"""A request's body as a JSON document: capped while it streams in, strict about what JSON is.

`multipart/form-data` is read too, because third-party scripts send it: text parts are fields, files are references.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
from email.message import Message
from email.parser import HeaderParser
from typing import Any, NoReturn

from fastapi import Request

from limner.config import Settings
from limner.errors import InvalidRequest, TimedOut

MAX_PARTS = 64
"""Most parts of a multipart body: each costs more memory than its bytes."""


class BodyTooLarge(InvalidRequest):
    """The body is over `max_body_bytes`."""

    status = 413


class UnsupportedBody(InvalidRequest):
    """The body is of a type or an encoding that is not read."""

    status = 415


async def read_document(request: Request, settings: Settings) -> Any:
    """Read a body of at most `max_body_bytes`, counted as they arrive, whatever Content-Length says.

    Raises:
        TimedOut: it did not arrive within `request_seconds`.
        BodyTooLarge: over the limit.
        UnsupportedBody: neither JSON nor multipart/form-data, or compressed.
        InvalidRequest: not UTF-8, not JSON, NaN or Infinity, nested too deeply, or half a surrogate pair.
        starlette.requests.ClientDisconnect: the client left before the end.
    """
    kind = Message()
    kind["Content-Type"] = request.headers.get("content-type", "application/json")
    media = kind.get_content_type()
    form = media == "multipart/form-data"
    if not form and media != "application/json" and not media.endswith("+json"):
        raise UnsupportedBody(f"The Content-Type must be application/json; got {media!a}.")
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise UnsupportedBody(f"The body must not be compressed; got Content-Encoding {encoding!a}.")
    try:
        async with asyncio.timeout(settings.request_seconds):
            body = await _read(request, settings.max_body_bytes)
    except TimeoutError:
        raise TimedOut("The body did not arrive in time; send it again.") from None
    return _form(body, kind.get_param("boundary")) if form else _json(body)


async def _read(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"The body must be at most {limit} bytes; more came.")
        chunks.append(chunk)
    return b"".join(chunks)


def _json(body: bytes) -> Any:
    if not body.strip():
        raise InvalidRequest("The body must be a JSON object; it is empty.")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body must be UTF-8; byte {error.start} is not.") from None
    try:
        document = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(document, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"The body must be JSON: {error.msg} at {where}.") from None
    except RecursionError:
        raise InvalidRequest("The body must be JSON of few levels; it is nested too deeply.") from None
    except UnicodeEncodeError:
        raise InvalidRequest("The body must be text; half a surrogate pair (\\ud800 to \\udfff) is none.") from None
    except ValueError:
        raise InvalidRequest("The body must be JSON; a number in it has too many digits.") from None
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"The body must be JSON; {name} is not a JSON number.")


def _finite(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise InvalidRequest("The body must be JSON of finite numbers; one in it is too large.")
    return value


def _form(body: bytes, boundary: object) -> dict[str, Any]:
    """The fields of a multipart/form-data body (RFC 7578): objects and arrays are read as JSON, and a part with a file
    name becomes a reference in base64."""
    if not isinstance(boundary, str) or not boundary:
        raise InvalidRequest("The multipart body names no boundary in its Content-Type.")
    document: dict[str, Any] = {}
    files: list[str] = []
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"), MAX_PARTS + 1)
    for number, part in enumerate(parts[1:]):
        if part.startswith(b"--"):
            break
        if number == MAX_PARTS:
            raise InvalidRequest(f"The multipart body has more than {MAX_PARTS} parts; send JSON instead.")
        head, separator, content = part.partition(b"\r\n\r\n")
        headers = HeaderParser().parsestr(head.decode("utf-8", "replace").lstrip("\r\n"))
        name = headers.get_param("name", header="content-disposition")
        if not separator or not isinstance(name, str):
            raise InvalidRequest("A part of the multipart body has no name; send JSON instead.")
        if headers.get_param("filename", header="content-disposition") is not None:
            files.append(base64.b64encode(content).decode())
        elif name in ("style", "subject_reference") and content.lstrip()[:1] in (b"{", b"["):
            document[name] = _json(content)
        elif content:  # a form sends the fields that were left empty, too
            try:
                document[name] = content.decode()
            except UnicodeDecodeError:
                raise InvalidRequest("The multipart body must be UTF-8 text and files; a field in it is not.") from None
    if files:
        named = document.get("subject_reference", [])
        document["subject_reference"] = [*(named if isinstance(named, list) else [named]), *files]
    return document
