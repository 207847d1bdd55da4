"""From what a caller asks for to the request that says so: which route, and its body."""

from __future__ import annotations

import base64
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from limner.client.errors import InvalidRequest
from limner.client.images import sniff
from limner.client.steps import MAX_REFERENCE_BYTES, Flow, Load, too_large
from limner.client.types import JobOptions, Options, Reference

OWN: Final = ("steps", "guidance", "strength", "sampler", "negative_prompt", "scene", "loras", "mask", "format")
"""Options that MiniMax's route has no field for."""

SHARED: Final = ("aspect_ratio", "width", "height", "n", "seed", "prompt_optimizer", "webhook_url", "previews")
"""Options that have the same name and form on both routes."""

LIVE_STYLES: Final = ("漫画", "元气", "中世纪", "水彩")
"""Styles of image-01-live, which MiniMax's route alone takes."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be painted. `own`: as `POST /v1/pictures` takes it; else as `POST /v1/image_generation` does."""

    body: dict[str, Any]
    own: bool
    waits: bool  # for the pictures; else a job is handed in
    key: str | None  # the caller's own Idempotency-Key


def order(prompt: str, options: Options | JobOptions, *, waits: bool) -> Flow[Order]:
    """Read an order; the files of its references are loaded.

    Raises:
        TypeError: there is no such option.
        InvalidRequest: options contradict each other, or a reference will not do.
    """
    known = Options if waits else JobOptions
    if unknown := next((name for name in options if name not in known.__annotations__), None):
        near = difflib.get_close_matches(unknown, known.__annotations__, n=1, cutoff=0.0)[0]
        raise TypeError(f"There is no option {unknown!r}. Did you mean {near!r}?")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    sized = "width" in given or "height" in given
    if sized and "aspect_ratio" in given:
        raise InvalidRequest("Give aspect_ratio, or width and height, not both.")
    if ("width" in given) != ("height" in given):
        raise InvalidRequest("Give width and height together.")
    references = yield from _references("Reference", given.pop("references", ()))
    if "mask" in given:
        masks = yield from _references("Mask", given["mask"])
        if len(masks) != 1:
            raise InvalidRequest(f"Give one mask, for the first of references; got {len(masks)}.")
        (given["mask"],) = masks
    style, live = _style(given.pop("style", None))
    own = [name for name in OWN if name in given] + (["style"] if style is not None else [])
    if live is not None and own:
        raise InvalidRequest(
            f"The styles of image-01-live do not go with {own[0]}: name another style, or leave {own[0]} out."
        )
    key, watermark = given.pop("idempotency_key", None), given.pop("watermark", None)
    body = {"model": given.get("model", "image-01"), "prompt": prompt}
    body |= {name: given[name] for name in SHARED if name in given}
    # What can go over either route goes over MiniMax's where it is waited for, because more services have that one,
    # and over Limner's as a job, because it says more.
    if own or (not waits and live is None):
        more: dict[str, Any] = {name: given[name] for name in OWN if name in given}
        more |= {"style": style, "references": references or None, "watermark": watermark}
        body |= {name: value for name, value in more.items() if value is not None}
        return Order(body, own=True, waits=waits, key=key)
    subjects = [{"type": "character", "image_file": reference} for reference in references]
    more = {"style": live, "subject_reference": subjects or None, "aigc_watermark": watermark}
    body |= {"response_format": "url"} | {name: value for name, value in more.items() if value is not None}
    return Order(body, own=False, waits=waits, key=key)


def _style(style: str | Mapping[str, Any] | None) -> tuple[str | None, dict[str, Any] | None]:
    """A style by name for Limner's route, or one of image-01-live for MiniMax's."""
    if isinstance(style, Mapping):
        return None, dict(style)
    return (None, {"style_type": style}) if style in LIVE_STYLES else (style, None)


def _references(name: str, given: Reference | Sequence[Reference]) -> Flow[list[str]]:
    several = given if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]
    found = []
    for number, reference in enumerate(several, 1):
        what = f"{name} {number}" if several is given else f"The {name.lower()}"
        match reference:
            case str() if reference.lower().startswith(("http://", "https://", "data:")):
                found.append(reference)
            case str():
                raise InvalidRequest(
                    f"{what} is neither an http or https URL nor a data URL: {reference[:80]!r}. "
                    "A file is given as pathlib.Path(...), a picture's bytes as bytes."
                )
            case bytes():
                found.append(_data_url(reference, what))
            case os.PathLike():
                path = os.fspath(reference)
                found.append(_data_url((yield Load(path)), f"The file {path}"))
            case _:
                raise InvalidRequest(f"{what} is to be a URL, a pathlib.Path or bytes.")
    return found


def _data_url(data: bytes, what: str) -> str:
    if len(data) > MAX_REFERENCE_BYTES:
        raise too_large(what, len(data))
    seen = sniff(data)
    if seen is None:
        raise InvalidRequest(f"{what} is no JPEG, PNG or WebP.")
    return f"data:image/{seen[0]};base64,{base64.b64encode(data).decode()}"
