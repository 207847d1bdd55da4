"""MiniMax's `POST /v1/image_generation` as plain data: a JSON document to an `Order`, an `Outcome` to a JSON document.

Pure: no HTTP, no clock, no disk. docs/http.md is the same contract in words. Where known clients send other forms than
the documented ones they are read here: null means absent, numbers and booleans may come as strings, a reference may be
a bare string, an object or an array.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from limner import references
from limner.config import Settings
from limner.errors import Code, InvalidRequest
from limner.models.registry import IMAGE, LIVE, LiveStyle, Registry
from limner.service import Order, Outcome

ResponseFormat = Literal["url", "base64"]

SIZES: Final[dict[str, tuple[int, int]]] = {
    "1:1": (1024, 1024),
    "16:9": (1280, 720),
    "4:3": (1152, 864),
    "3:2": (1248, 832),
    "2:3": (832, 1248),
    "3:4": (864, 1152),
    "9:16": (720, 1280),
    "21:9": (1344, 576),
}
"""Documented ratio to (width, height), pixels."""

SIDE_MIN, SIDE_MAX, SIDE_STEP = 512, 2048, 8
"""Range and grain of `width` and `height`, pixels."""

MOST_PICTURES: Final = 9
"""Most pictures of one call of MiniMax's route and of Limner's own."""


def _integer(value: object) -> object:
    """The integer that a decimal string or a whole float stands for; anything else unchanged, to be refused."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,25}\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _number(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,25}(\.[0-9]{1,25})?\s*", value):
        return float(value)
    return value


def _boolean(value: object) -> object:
    return {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value


LOOSE_INTEGER: Final = BeforeValidator(_integer)
LOOSE_NUMBER: Final = BeforeValidator(_number)

Boolean = Annotated[bool, BeforeValidator(_boolean)]
Side = Annotated[int, Field(ge=SIDE_MIN, le=SIDE_MAX, multiple_of=SIDE_STEP), LOOSE_INTEGER]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1, json_schema_extra={"format": "int64"}), LOOSE_INTEGER]
Count = Annotated[int, Field(ge=1, le=MOST_PICTURES), LOOSE_INTEGER]
Weight = Annotated[float, Field(gt=0, le=1), LOOSE_NUMBER]


class Style(BaseModel):
    """The look of an image-01-live picture."""

    model_config = ConfigDict(strict=True, extra="ignore")

    style_type: LiveStyle = Field(description="漫画 comic, 元气 energetic, 中世纪 medieval, 水彩 watercolour.")
    style_weight: Weight = Field(0.8, description="How strong the style is.")


class ImageRequest(BaseModel):
    """Body of `POST /v1/image_generation`.

    A field that is null counts as absent; numbers and booleans may also be strings; unknown fields are ignored.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    model: str = Field(description="The model, or one of the operator's further names for it; null is image-01.")
    prompt: str = Field(description="What to paint. At most 1500 code points unless the operator set another limit.")
    style: Style | None = Field(
        None, description="For image-01-live alone: style_type 漫画, 元气, 中世纪 or 水彩; style_weight."
    )
    aspect_ratio: str = Field("1:1", description="Ratio of the sides; wins over width and height. 21:9: image-01 only.")
    width: Side | None = Field(None, description="Pixels; together with height; image-01 only.")
    height: Side | None = Field(None, description="Pixels; together with width; image-01 only.")
    response_format: ResponseFormat = Field("url", description="Links, or the JPEGs themselves in base64.")
    seed: Seed | None = Field(None, description="Picture k is painted from seed + k; absent: random seeds.")
    n: Count = Field(1, description="How many pictures.")
    prompt_optimizer: Boolean = Field(False, description="Expand the prompt before painting.")
    aigc_watermark: Boolean = Field(False, description="Draw a visible mark that says the picture is generated.")
    subject_reference: Any = Field(None, description="Pictures of the character to paint.")


class JobRequest(ImageRequest):
    """Body of `POST /v1/jobs`: that of `POST /v1/image_generation`, and how the job is followed."""

    webhook_url: str | None = Field(None, description="http or https URL that is told when the job has ended.")
    previews: Boolean = Field(False, description="Show in the job's events how its pictures come along.")


@dataclass(frozen=True, slots=True)
class Call:
    """One call, checked. `ignored` names the fields that have no effect, for the log."""

    order: Order
    response_format: ResponseFormat
    ignored: tuple[str, ...] = ()


def size_of(ratio: str, *, extra: bool) -> tuple[int, int]:
    """(width, height) in pixels for an aspect ratio such as `16:9`.

    The eight documented ratios have the documented sizes. With `extra`, any other a:b from 1:4 to 4:1 has sides of
    sqrt(2**20·a/b) and sqrt(2**20·b/a), about one megapixel, each rounded to the nearest multiple of 8; a ratio that
    reduces to a documented one (32:18) has that one's size.

    Raises:
        InvalidRequest: not a ratio, or not an accepted one.
    """
    if ratio in SIZES:
        return SIZES[ratio]
    allowed = ", ".join(SIZES) + (" or another a:b from 1:4 to 4:1" if extra else "")
    match = re.fullmatch(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})", ratio) if extra else None
    if match is None:
        raise InvalidRequest(f"Field aspect_ratio must be one of {allowed}; got {shown(ratio)}.")
    a, b = int(match[1]), int(match[2])
    if not b <= 4 * a <= 16 * b:
        raise InvalidRequest(f"Field aspect_ratio must be one of {allowed}; got {ratio}.")
    for documented, size in SIZES.items():
        c, d = map(int, documented.split(":"))
        if a * d == b * c:
            return size
    return _side(a / b), _side(b / a)


def _side(ratio: float) -> int:
    return SIDE_STEP * round(math.sqrt(2**20 * ratio) / SIDE_STEP)


def read_call(document: object, settings: Settings, models: Registry, kind: type[ImageRequest] = ImageRequest) -> Call:
    """Check a JSON document against the contract. The prompt's length and letters are the service's to check.

    Args:
        document: what the body held, as `json.loads` gives it.
        models: that a call may name.
        kind: the fields that there are.

    Raises:
        InvalidRequest: a sentence for every field that is wrong: its name, what is allowed and what came.
    """
    if not isinstance(document, dict):
        raise InvalidRequest(f"The body must be a JSON object; got {shown(document)}.")
    if "model" not in document:
        raise InvalidRequest(f"Field model is required: {' or '.join(models.names)}.")
    model = model_of(document["model"], models)
    live = model in models.live
    idle = set(document) - set(kind.model_fields)
    if live or document.get("aspect_ratio") is not None:
        idle |= {"width", "height"} & document.keys()
    if not live:
        idle |= {"style"} & document.keys()
    fields = {key: _without_nulls(value) for key, value in document.items() if value is not None and key not in idle}
    try:
        request = kind.model_validate({**fields, "model": model})
    except ValidationError as error:
        raise InvalidRequest(sentences(error)) from None
    width, height = _size(request, live, settings)
    job = request if isinstance(request, JobRequest) else None
    order = Order(
        prompt=request.prompt,
        width=width,
        height=height,
        model=model,
        n=request.n,
        seed=request.seed,
        live_style=request.style.style_type if request.style else None,
        live_style_weight=request.style.style_weight if request.style else 0.8,
        references=references.sources(request.subject_reference),
        optimize_prompt=request.prompt_optimizer,
        watermark=request.aigc_watermark,
        link=request.response_format == "url" or job is not None,
        webhook=None if job is None else job.webhook_url,
        previews=job is not None and job.previews,
    )
    return Call(order, request.response_format, tuple(sorted(idle)))


def model_of(value: object, models: Registry) -> str:
    """The name of a model; None is image-01. Raises InvalidRequest where there is no such model."""
    if value is None:
        return IMAGE
    if not isinstance(value, str) or value not in models.names:
        raise InvalidRequest(f"Field model must be one of {', '.join(models.names)}; got {shown(value)}.")
    return value


def _without_nulls(value: Any) -> Any:
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def _size(request: ImageRequest, live: bool, settings: Settings) -> tuple[int, int]:
    size = sides(request.width, request.height) or size_of(request.aspect_ratio, extra=settings.extra_ratios)
    if live and size == SIZES["21:9"]:
        raise InvalidRequest(f"Field aspect_ratio must not be 21:9 on {LIVE}; only {IMAGE} paints it.")
    return size


def sides(width: int | None, height: int | None) -> tuple[int, int] | None:
    """(width, height) where both are given, None where neither is. Raises InvalidRequest where one is."""
    if width is not None and height is not None:
        return width, height
    if width is None and height is None:
        return None
    came, missing = ("height", "width") if width is None else ("width", "height")
    raise InvalidRequest(f"Fields width and height must be set together; got {came} without {missing}.")


def sentences(error: ValidationError) -> str:
    """A sentence for each field that Pydantic found wrong."""
    return " ".join(_sentence(dict(detail)) for detail in error.errors(include_url=False))


def _sentence(detail: dict[str, Any]) -> str:
    """A Pydantic error as a sentence: the field, what is allowed, what came (never a prompt, never a picture)."""
    field = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return f"Field {field} is required."
    if detail["type"] == "extra_forbidden":
        return f"There is no field {shown(field)} here; leave it out."
    message = str(detail["msg"]).removeprefix("Input ").removeprefix("should ")
    return f"Field {field} must {message}; got {shown(detail['input'])}."


def shown(value: object) -> str:
    """A short, printable name for a JSON value."""
    match value:
        case None | bool():
            return json.dumps(value)
        case int() | float():
            return str(value) if len(str(value)) <= 40 else "a number too long to show"
        case str():
            return json.dumps(value if len(value) <= 40 else value[:40] + "…")
        case list():
            return "an array"
        case _:
            return "an object"


def success(call: Call, outcome: Outcome, images: list[str], settings: Settings) -> dict[str, Any]:
    """The reply to a call that painted something: `images` are links or base64, as the call asked."""
    counts = _counts(len(outcome.pictures), outcome.failed, settings)
    data: dict[str, Any] = {"image_urls" if call.response_format == "url" else "image_base64": images}
    if settings.counts_in_data:
        data |= {"task_id": outcome.job, **counts}
    return _envelope(outcome.job, data, counts, Code.OK, "success")


def failure(trace: str, code: int, message: str, settings: Settings) -> dict[str, Any]:
    """The reply to any call that failed: the one error shape."""
    data: dict[str, Any] | None = {} if settings.error_data == "object" else None
    return _envelope(trace, data, _counts(0, 0, settings), code, message)


def _counts(succeeded: int, failed: int, settings: Settings) -> dict[str, str | int]:
    kind: type[str] | type[int] = str if settings.counts_as == "string" else int
    return {"success_count": kind(succeeded), "failed_count": kind(failed)}


def _envelope(trace: str, data: object, counts: dict[str, str | int], code: int, message: str) -> dict[str, Any]:
    base = {"status_code": int(code), "status_msg": message}
    return {"id": trace, "data": data, "metadata": counts, "base_resp": base}
