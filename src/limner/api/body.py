"""A request's body as a JSON document: capped while it streams in, weighed before it is parsed, strict about JSON.

A small body can stand for a large memory: two bytes of `{}` become a dict of 64. So the levels and the values of a
body are counted in its bytes, and only then is it parsed; large bodies one at a time, in a thread. What all bodies hold
together is bounded, too.

`multipart/form-data` is read as well, because third-party scripts and OpenAI's libraries send it: text parts are
fields, files are pictures.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from email.parser import HeaderParser
from functools import partial
from itertools import accumulate
from typing import Any, Final, NamedTuple, NoReturn

from fastapi import Request
from starlette.types import Scope

from limner.config import Settings
from limner.errors import Busy, InvalidRequest, TimedOut

MAX_PARTS = 64
"""Most parts of a multipart body: each costs more memory than its bytes."""

MAX_PART_HEAD = 2048
"""Longest head of a part, bytes; a longer one may be a bomb of header lines."""

MAX_TYPE = 256
"""Longest Content-Type, characters; the time to read one grows with the square of its length."""

BYTES_A_SECOND = 1000
"""A body may take `header_seconds`, and a second more for so many bytes of it that have come."""

LARGE_BODIES = 4
"""So many bodies of `max_body_bytes` may be held in memory at once, by all requests together."""

PICTURES: Final = ("image", "images", "mask")
"""Fields of OpenAI's forms that hold pictures."""

_IN_THREAD = 2**16  # bytes; below that the hop to a thread costs more than the parsing
_LONG_STRING = 2**20  # bytes; only base64 is as long
# One thread: a body of 64 MiB with one emoji in it takes five times its size while it is parsed.
_PARSING = ThreadPoolExecutor(1, "limner-json")


class BodyTooLarge(InvalidRequest):
    """The body is over `max_body_bytes`."""

    status = 413


class UnsupportedBody(InvalidRequest):
    """The body is of a type or an encoding that is not read."""

    status = 415


class _Held:
    """How many bytes of bodies the process holds: those that have come of each request, until it is answered."""

    def __init__(self) -> None:
        self.total = 0

    def take(self, scope: Scope, size: int, limit: int) -> None:
        """Count `size` bytes more for the request of `scope`. Raises Busy where all would hold more than `limit`."""
        if self.total + size > limit:
            raise Busy("The service holds as many bytes of other requests as it may; try again in a moment.")
        self.total += size
        state = scope.setdefault("state", {})
        state["held"] = state.get("held", 0) + size

    def give_back(self, scope: Scope) -> None:
        self.total -= scope.get("state", {}).pop("held", 0)


held = _Held()
"""Who answers a request calls `held.give_back(scope)` at its end, or earlier, once its document is of no more use."""


class Part(NamedTuple):
    """One part of a multipart/form-data body."""

    name: str
    file: bool  # whether it has a file name
    content: bytes


def reference_form(parts: Iterator[Part], *, settings: Settings) -> dict[str, Any]:
    """The document of a form for MiniMax's routes: objects and arrays are read as JSON, and whatever its name is, a
    file becomes a reference in base64."""
    document: dict[str, Any] = {}
    files: list[str] = []
    for name, file, content in parts:
        if file:
            files.append(base64.b64encode(content).decode())
        elif name in ("style", "subject_reference") and content.lstrip()[:1] in (b"{", b"["):
            document[name] = parse(content, settings)
        elif content:  # a form sends the fields that were left empty, too
            document[name] = _text(content)
    if files:
        named = document.get("subject_reference", [])
        document["subject_reference"] = [*(named if isinstance(named, list) else [named]), *files]
    return document


def named_form(parts: Iterator[Part]) -> dict[str, Any]:
    """The document of a form for OpenAI's routes: each field under its name, a picture's file as base64, others as
    text; what is named `image[]` or `image[0]`, or comes more than once, is an array."""
    document: dict[str, Any] = {}
    for name, file, content in parts:
        if not (file or content):
            continue
        field = re.sub(r"\[[0-9]{0,2}\]$", "", name)
        value = base64.b64encode(content).decode() if file and field in PICTURES else _text(content)
        if field in document or field != name:
            before = document.get(field, [])
            document[field] = [*(before if isinstance(before, list) else [before]), value]
        else:
            document[field] = value
    return document


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The multipart body must be UTF-8 text and files; a field in it is not.") from None


async def read_document(
    request: Request, settings: Settings, form: Callable[[Iterator[Part]], Any] | None = None
) -> Any:
    """Read a body of at most `max_body_bytes`, counted as they arrive, whatever Content-Length says.

    Its bytes count as held until `held.give_back`. `form` makes a document of a multipart body's parts, by default
    `reference_form`.

    Raises:
        TimedOut: it did not arrive within `request_seconds`, or came more slowly than BYTES_A_SECOND.
        BodyTooLarge: over the limit.
        Busy: the bodies of other requests take all the memory that bodies may take.
        UnsupportedBody: neither JSON nor multipart/form-data, or compressed.
        InvalidRequest: not UTF-8, not JSON, NaN or Infinity, nested too deeply, of too many values, or half a
            surrogate pair.
        starlette.requests.ClientDisconnect: the client left before the end.
    """
    declared = request.headers.get("content-type", "application/json")
    if len(declared) > MAX_TYPE:
        raise UnsupportedBody(f"The Content-Type must be application/json; got one of {len(declared)} characters.")
    kind = Message()
    kind["Content-Type"] = declared
    media = kind.get_content_type()
    multipart = media == "multipart/form-data"
    if not multipart and media != "application/json" and not media.endswith("+json"):
        raise UnsupportedBody(f"The Content-Type must be application/json; got {media!a}.")
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise UnsupportedBody(f"The body must not be compressed; got Content-Encoding {encoding!a}.")
    try:
        body = await _read(request, settings)
    except TimeoutError:
        raise TimedOut("The body did not arrive in time; send it again.") from None
    boundary = kind.get_param("boundary")
    form = form or partial(reference_form, settings=settings)

    def read() -> Any:
        return form(_parts(body, boundary)) if multipart else parse(body, settings)

    if len(body) < _IN_THREAD:
        return read()
    return await asyncio.get_running_loop().run_in_executor(_PARSING, read)


async def _read(request: Request, settings: Settings) -> bytes:
    chunks: list[bytes] = []
    size = 0
    clock = asyncio.get_running_loop().time
    began = clock()
    last = began + settings.request_seconds
    async with asyncio.timeout_at(min(last, began + settings.header_seconds)) as limit:
        async for chunk in request.stream():
            size += len(chunk)
            if size > settings.max_body_bytes:
                raise BodyTooLarge(f"The body must be at most {settings.max_body_bytes} bytes; more came.")
            held.take(request.scope, len(chunk), LARGE_BODIES * settings.max_body_bytes)
            chunks.append(chunk)
            limit.reschedule(min(last, began + settings.header_seconds + size / BYTES_A_SECOND))
    return b"".join(chunks)


def parse(body: bytes, settings: Settings) -> Any:
    """The document in the bytes of a JSON text (RFC 8259) of at most `max_json_depth` levels and `max_json_values`
    values. Raises InvalidRequest."""
    if not body or body.isspace():
        raise InvalidRequest("The body must be a JSON object; it is empty.")
    weigh(body, settings.max_json_values, settings.max_json_depth)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body must be UTF-8; byte {error.start} is not.") from None
    try:
        document = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\" in text and ("\\ud" in text or "\\uD" in text):
            json.dumps(document, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"The body must be JSON: {error.msg} at {where}.") from None
    except RecursionError:
        raise _too_deep(settings.max_json_depth) from None
    except UnicodeEncodeError:
        raise InvalidRequest("The body must be text; half a surrogate pair (\\ud800 to \\udfff) is none.") from None
    except ValueError:
        raise InvalidRequest("The body must be JSON; a number in it has too many digits.") from None
    return document


_BRACKETS = b"[]{}"
_NO_BRACKET = bytes(set(range(256)) - set(_BRACKETS))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def weigh(body: bytes, values: int, depth: int) -> None:
    """Refuse a JSON text of more values or levels by its bytes alone, in time and memory linear in them.

    Values are counted as commas and opening brackets outside strings, which are at least as many as there are. Of a
    text that is no JSON the part is counted right that a parser reads before it finds out. Raises InvalidRequest.
    """
    # Escapes go first: what is left of a backslash and its like, quotes can only begin and end strings.
    escapes = b"\\" in body
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if escapes else body
    pieces = plain.split(b'"', 4 * values + 2)
    if len(pieces) > 4 * values + 2:  # as many keys as values
        raise _too_many(values)
    for string in pieces[1::2]:
        if len(string) > _LONG_STRING and (not string.isascii() or (escapes and b"\\u" in string)):
            raise InvalidRequest(
                f"The body holds a text of more than {_LONG_STRING} bytes that is not plain ASCII: only base64 may be "
                "as long."
            )
    outside = b"".join(pieces[::2])
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") >= values:
        raise _too_many(values)
    brackets = outside.translate(None, _NO_BRACKET)[: 2 * values + 1]  # after so many, one has closed that none opened
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > depth:
        raise _too_deep(depth)


def _too_many(values: int) -> InvalidRequest:
    return InvalidRequest(f"The body must be JSON of at most {values} values; it holds more.")


def _too_deep(depth: int) -> InvalidRequest:
    return InvalidRequest(f"The body must be JSON of at most {depth} levels; it is nested too deeply.")


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"The body must be JSON; {name} is not a JSON number.")


def _finite(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise InvalidRequest("The body must be JSON of finite numbers; one in it is too large.")
    return value


def _parts(body: bytes, boundary: object) -> Iterator[Part]:
    """The parts of a multipart/form-data body (RFC 7578). Raises InvalidRequest."""
    if not isinstance(boundary, str) or not boundary:
        raise InvalidRequest("The multipart body names no boundary in its Content-Type.")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"), MAX_PARTS + 1)
    for number, part in enumerate(parts[1:]):
        if part.startswith(b"--"):
            break
        if number == MAX_PARTS:
            raise InvalidRequest(f"The multipart body has more than {MAX_PARTS} parts; send JSON instead.")
        head, separator, content = part.partition(b"\r\n\r\n")
        if len(head) > MAX_PART_HEAD:
            raise InvalidRequest(
                f"The head of a part of the multipart body has more than {MAX_PART_HEAD} bytes; send JSON instead."
            )
        headers = HeaderParser().parsestr(head.decode("utf-8", "replace").lstrip("\r\n"))
        name = headers.get_param("name", header="content-disposition")
        if not separator or not isinstance(name, str):
            raise InvalidRequest("A part of the multipart body has no name; send JSON instead.")
        file = headers.get_param("filename", header="content-disposition")
        if file != "" or content:  # else a browser's field for a file that none was chosen in
            yield Part(name, file is not None, content)
