"""From a reply to what it says: the error that it is, the pictures of a call, jobs, models, usage."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from limner.client.errors import LimnerAPIError, NotFound, PromptRefused, ServiceFailed, kind_of
from limner.client.images import Source
from limner.client.orders import Order
from limner.client.steps import Reply
from limner.client.types import Abilities, Job, JobPicture, Model, Usage, UsageDay

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call painted, before it is the caller's kind of pictures."""

    id: str
    sources: list[Source]
    failed: int
    notes: tuple[str, ...] = ()
    scene: dict[str, Any] | None = None


def read(reply: Reply, form: Callable[[dict[str, Any]], T]) -> T:
    """What a reply's JSON stands for. Raises ServiceFailed where it is not of the form that `form` reads."""
    return read_text(reply.body, form, reply.status)


def read_text(text: str | bytes | bytearray, form: Callable[[dict[str, Any]], T], status: int | None = None) -> T:
    """What JSON stands for. Raises ServiceFailed where it is not of the form that `form` reads."""
    try:
        return form(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise ServiceFailed(
            "The reply is not of the form that it should have. Is base_url that of an image service?", status=status
        ) from None


def error(reply: Reply, url: str, *, file: bool) -> LimnerAPIError | None:
    """What a reply says went wrong: in its JSON under any status, or by its status alone; None where nothing did.

    Args:
        url: that was asked.
        file: a file was asked for, not JSON; redirects to it are none of an error.
    """
    if file and reply.status < 400:
        return None
    if reply.status == 204 or reply.streams:
        return None
    found = _json(reply)
    base = found.get("base_resp") if found else None
    code = _integer(base.get("status_code")) if isinstance(base, dict) else None
    if reply.status < 300 and found is not None and not code:
        return None
    kind = kind_of(code, reply.status)
    if file and reply.status in (403, 404, 410):  # stores say 403 of a link that has ended
        kind = NotFound
    return kind(
        _sentence(found, reply, url, code),
        code=code,
        status=reply.status,
        id=_text((found or {}).get("id")) or reply.headers.get("trace-id"),
        retry_after=reply.retry_after,
    )


def _sentence(found: dict[str, Any] | None, reply: Reply, url: str, code: int | None) -> str:
    where = f"{urlsplit(url).netloc}{urlsplit(url).path}"
    if found is not None:
        told = [found.get("base_resp"), found.get("error"), found]
        for part in told:
            for name in ("status_msg", "message", "detail", "error"):
                if isinstance(part, dict) and (text := _text(part.get(name))):
                    return text
        return f"{where} answered {f'error {code}' if code else f'status {reply.status}'} and did not say why."
    if 300 <= reply.status < 400:
        return f"{where} leads on to {reply.headers.get('location', 'nowhere')}: give base_url the address it leads to."
    if reply.status == 404:
        return (
            f"There is no {urlsplit(url).path} at {urlsplit(url).netloc}. Is base_url right, and a Limner server's? "
            "With other services, only generate() works, without Limner's own options."
        )
    text = re.sub(r"<[^>]*>|\s+", " ", reply.body[:2000].decode("utf-8", "replace"))
    words = " ".join(text.split())[:120]
    kind = reply.headers.get("content-type", "no type").partition(";")[0]
    said = f', which begins "{words}"' if words else ""
    return f"{where} answered status {reply.status} with {kind} instead of JSON{said}. Is a proxy in between?"


def outcome(order: Order, reply: Reply) -> Outcome:
    """What a call painted. Raises ServiceFailed, PromptRefused where that is nothing."""
    told = read(reply, lambda found: _own(order, found) if order.own else _classic(found, reply))
    if not told.sources:
        kind = PromptRefused if told.failed else ServiceFailed
        left = f": {told.failed} were left out" if told.failed else ""
        raise kind(f"The service answered without a picture{left}. Try other words.", status=reply.status, id=told.id)
    return told


def _own(order: Order, found: dict[str, Any]) -> Outcome:
    form = order.body.get("format", "jpeg")
    sources = [
        Source(picture["url"], int(picture["seed"]), picture["width"], picture["height"], form)
        for picture in found["pictures"]
    ]
    return Outcome(found["id"], sources, found["failed"], tuple(found["notes"]), found["scene"])


def _classic(found: dict[str, Any], reply: Reply) -> Outcome:
    data = found.get("data") or {}
    links: list[Any] = [*(data.get("image_urls") or ())]
    files = [base64.b64decode(text) for text in data.get("image_base64") or ()]
    seeds = [_integer(text) for text in reply.headers.get("limner-seeds", "").split(",")]
    known = iter(seeds if len(seeds) == len(links) + len(files) else [None] * (len(links) + len(files)))
    sources = [Source(str(link), next(known)) for link in links]
    sources += [Source(None, next(known), data=file) for file in files]
    failed = _integer((found.get("metadata") or {}).get("failed_count")) or 0
    return Outcome(_text(found.get("id")) or "", sources, failed)


# Jobs, models and usage, from their JSON


def job_of(document: Mapping[str, Any]) -> Job:
    """A job from its JSON; fields that are not known are in `document` alone."""
    return Job(
        id=document["id"],
        state=document["state"],
        model=document["model"],
        created_at=_time(document["created_at"]),
        started_at=_maybe_time(document.get("started_at")),
        finished_at=_maybe_time(document.get("finished_at")),
        expires_at=_time(document["expires_at"]),
        queue_place=document.get("queue_place"),
        step=document["progress"]["step"],
        steps=document["progress"]["steps"],
        pictures=tuple(_picture_of(picture, document["id"]) for picture in document["pictures"]),
        cost=document.get("cost", 0.0),
        scene=document.get("scene"),
        notes=tuple(document.get("notes") or ()),
        error=_error_of(document.get("error"), document["id"]),
        request=dict(document.get("request") or {}),
        document=dict(document),
    )


def _picture_of(picture: Mapping[str, Any], job_id: str) -> JobPicture:
    return JobPicture(
        state=picture["state"],
        seed=int(picture["seed"]),
        width=picture["width"],
        height=picture["height"],
        step=picture["step"],
        steps=picture["steps"],
        url=picture["url"],
        bytes=picture["bytes"],
        sha256=picture["sha256"],
        error=_error_of(picture["error"], job_id),
    )


def _error_of(error: Mapping[str, Any] | None, job_id: str) -> LimnerAPIError | None:
    if error is None:
        return None
    code = int(error["status_code"])
    return kind_of(code, None)(error["status_msg"], code=code, id=job_id)


def preview_of(document: Mapping[str, Any]) -> tuple[int, bytes]:
    """The number of a picture, from 0, and a small JPEG of it."""
    return int(document["number"]), base64.b64decode(document["base64"], validate=True)


def page_of(document: Mapping[str, Any]) -> tuple[list[Job], str | None]:
    """One page of `GET /v1/jobs`, and where the next one begins; None after the last."""
    return [job_of(job) for job in document["jobs"]], document["next"]


def models_of(document: Mapping[str, Any]) -> list[Model]:
    """The list of `GET /v1/models`."""
    return [_model_of(entry) for entry in document["data"]]


def _model_of(entry: Mapping[str, Any]) -> Model:
    told = entry.get("limner")
    if isinstance(told, Mapping):
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in told.items()
            if name in Abilities.__dataclass_fields__
        }
        return Model(entry["id"], entry.get("owned_by", ""), Abilities(**known))
    return Model(entry["id"], entry.get("owned_by", ""))


def usage_of(document: Mapping[str, Any]) -> Usage:
    """The JSON of `GET /v1/usage`."""
    rows = tuple(
        UsageDay(
            day=date.fromisoformat(row["day"]),
            model=row["model"],
            jobs=row["jobs"],
            images=row["images"],
            failed=row["failed"],
            charged=row["charged"],
            cost=row["cost"],
            bytes=row["bytes"],
        )
        for row in document["days"]
    )
    return Usage(
        tenant=document["tenant"],
        first=date.fromisoformat(document["from"]),
        last=date.fromisoformat(document["to"]),
        days=rows,
        limits=dict(document["limits"]),
        charged_today=document["today"]["charged"],
        left_today=document["today"]["left"],
    )


# Values


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _maybe_time(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


def _json(reply: Reply) -> dict[str, Any] | None:
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _integer(value: object) -> int | None:
    """The services' counts and codes are numbers or decimal strings."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,20}\s*", value):
        return int(value)
    return value if isinstance(value, int) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
