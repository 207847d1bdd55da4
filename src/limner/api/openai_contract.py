"""OpenAI's images API as plain data: a request's fields to an `Order`. `openai_replies` says what is answered.

No HTTP, no clock, and of the disk only what `abilities` reads of a model. docs/openai.md is the same contract in words.
It is read as OpenAI's reference has it (platform.openai.com/docs/api-reference/images), with the fields of MiniMax's H3
image API, which has its shape, and those of Limner's own. A field that is not known is refused; null means absent;
numbers and booleans may be strings, as multipart/form-data has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limner.api import openai_sizes
from limner.api.contract import LOOSE_INTEGER, LOOSE_NUMBER, SIDE_MIN, Boolean, Seed, sentences, shown
from limner.api.openai_errors import Refused
from limner.config import Settings
from limner.engine.core import RANGES, SamplerName
from limner.imaging import Format
from limner.models.abilities import abilities
from limner.models.registry import IMAGE, Model, Registry, style_name
from limner.order import MOST_PICTURES, Order

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
EFFORTS: Final[dict[Quality, float]] = {
    "auto": 1, "low": 0.5, "medium": 1, "high": 2, "xhigh": 3, "max": 4, "standard": 1, "hd": 2,
}  # fmt: skip
"""What a quality multiplies a model's own number of steps by."""

TOLD: Final[dict[Quality, Quality]] = {"auto": "medium", "standard": "medium", "hd": "high"}
"""Qualities that a reply tells by another name: it has OpenAI's newer names alone."""

FORMATS: Final[dict[str, Format]] = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "webp": "webp"}
"""The file that each `output_format` names."""

PARTIAL_MOST: Final = 3
NAME_LONGEST: Final = 80
"""The most that is told of the name of a field that is not known."""

DALL_E_STYLES: Final = ("vivid", "natural")
"""Styles of dall-e-3, one of which its clients always send; they are no style of ours."""


def _range(name: str) -> Any:
    least, greatest = RANGES[name]
    return Field(ge=least, le=greatest)


class GenerationRequest(BaseModel):
    """Body of `POST /v1/images/generations`. A field that is null counts as absent; an unknown field is refused."""

    model_config = ConfigDict(strict=True, extra="forbid")

    prompt: str = Field(description="What to paint.")
    model: str | None = Field(None, description="A model's name or one of its further names; absent: image-01.")
    n: Annotated[int, Field(ge=1, le=MOST_PICTURES), LOOSE_INTEGER] = Field(1, description="How many pictures.")
    size: str = Field("auto", description="auto, or WxH: pixels, sides of 512 to 2048, multiples of 8.")
    aspect_ratio: str | None = Field(None, description="Instead of size: a ratio of the sides such as 16:9, or auto.")
    area: Literal["1K", "2K", "4K"] | None = Field(
        None, description="Instead of size: 1K is about a megapixel, 2K about four; 4K is refused."
    )
    quality: Quality = Field("auto", description="How many steps: low half of the model's own, high twice.")
    background: Literal["auto", "opaque", "transparent"] = Field("auto", description="transparent is refused.")
    output_format: Literal["png", "jpeg", "jpg", "webp"] = Field("png", description="Of the files.")
    output_compression: Annotated[int, Field(ge=0, le=100), LOOSE_INTEGER] | None = Field(
        None, description="Quality of JPEG and WebP, 100 is the best; absent: the service's own."
    )
    response_format: Literal["url", "b64_json"] | None = Field(
        None, description="Links, or the files in base64; absent: b64_json, of models named dall-e-... url."
    )
    stream: Boolean = Field(False, description="Answer with server-sent events.")
    partial_images: Annotated[int, Field(ge=0, le=PARTIAL_MOST), LOOSE_INTEGER] = Field(
        0, description="With stream: how many previews of each picture at most."
    )
    style: str | None = Field(None, description="A style of the model's; vivid and natural have no effect.")
    moderation: Literal["auto", "low"] = Field("auto", description="No effect: the operator's policy holds.")
    user: str | None = Field(None, description="No effect.")
    safety_identifier: str | None = Field(None, description="No effect.")
    disable_prompt_enhanced: Boolean | None = Field(None, description="false is prompt_optimizer true.")
    prompt_optimizer: Boolean | None = Field(None, description="Expand the prompt before painting; absent: false.")
    seed: Seed | None = Field(None, description="Picture k is painted from seed + k; absent: random seeds.")
    steps: Annotated[int, _range("steps"), LOOSE_INTEGER] | None = Field(
        None, description="Evaluations of the denoiser, instead of quality."
    )
    guidance: Annotated[float, _range("guidance"), LOOSE_NUMBER] | None = Field(
        None, description="How hard to follow the words."
    )
    strength: Annotated[float, _range("strength"), LOOSE_NUMBER] | None = Field(
        None, description="How far to leave the draft."
    )
    sampler: SamplerName | None = Field(None, description="How steps are taken; absent: the model's own way.")
    negative_prompt: str | None = Field(None, description="What to stay away from; needs guidance above 1.")
    watermark: Boolean = Field(False, description="Draw a visible mark that says the picture is generated.")


class EditRequest(GenerationRequest):
    """Body of `POST /v1/images/edits`: the fields of generations, and the pictures to work from."""

    image: Any = Field(None, description="The picture to edit, or several.")
    images: Any = Field(None, description="The pictures to edit, as objects with an image_url; instead of image.")
    mask: Any = Field(None, description="A picture of the first one's size, transparent where that is repainted.")
    input_fidelity: Literal["high", "low"] | None = Field(None, description="No effect.")


@dataclass(frozen=True, slots=True)
class Call:
    """One call, checked. The order's size is the least there is where `like_first` says that the first picture decides
    it."""

    order: Order
    quality: Quality  # as the reply tells it
    links: bool
    stream: bool
    partial_images: int = 0
    like_first: bool = False
    edits: bool = False

    @property
    def size(self) -> str:
        return f"{self.order.width}x{self.order.height}"

    def of_size(self, width: int, height: int) -> Call:
        """The call, once its size is known."""
        return replace(self, order=replace(self.order, width=width, height=height))


def read_call(
    document: object,
    settings: Settings,
    models: Registry,
    kind: type[GenerationRequest] = GenerationRequest,
) -> Call:
    """Check a document against the contract. The prompt's length and letters are the service's to check.

    Args:
        document: what the body held, as `json.loads` gives it.
        models: that a call may name.
        kind: the fields that there are.

    Raises:
        Refused: a sentence for every field that is wrong: its name, what is allowed and what came.
    """
    if not isinstance(document, dict):
        raise Refused(f"The body must be a JSON object; got {shown(document)}.", None)
    try:
        asked = kind.model_validate({name: value for name, value in document.items() if value is not None})
    except ValidationError as error:
        raise _refused(error) from None
    model = asked.model or IMAGE
    if model not in models.names:
        raise Refused(
            f"There is no model {shown(model)}; there are {', '.join(models.names)}. The operator can give one of them "
            "this name: model_aliases.",
            "model",
            "model_not_found",
            404,
        )
    pictures, mask = _pictures(asked, settings) if isinstance(asked, EditRequest) else ((), None)
    links = (asked.response_format or ("url" if model.startswith("dall-e-") and not asked.stream else "")) == "url"
    _check(asked, links)
    width, height = openai_sizes.size_of(asked.size, asked.aspect_ratio, asked.area, extra=settings.extra_ratios)
    like_first = bool(pictures) and asked.size == "auto" and asked.aspect_ratio in (None, "auto") and not asked.area
    compression = asked.output_compression if asked.output_format != "png" else None
    order = Order(
        prompt=asked.prompt,
        width=SIDE_MIN if like_first else width,
        height=SIDE_MIN if like_first else height,
        model=model,
        n=asked.n,
        seed=asked.seed,
        references=(*pictures, *((mask,) if mask is not None else ())),
        mask=mask is not None,
        optimize_prompt=bool(asked.prompt_optimizer) or asked.disable_prompt_enhanced is False,
        watermark=asked.watermark,
        link=links,
        style=None if asked.style in (None, *DALL_E_STYLES) else style_name(asked.style),
        steps=_steps(asked, models.lookup(model)),
        guidance=asked.guidance,
        strength=asked.strength,
        sampler=asked.sampler,
        negative_prompt=asked.negative_prompt,
        format=FORMATS[asked.output_format],
        quality=None if compression is None else max(1, compression),
        previews=asked.stream and asked.partial_images > 0,
    )
    return Call(
        order,
        quality=TOLD.get(asked.quality, asked.quality),
        links=links,
        stream=asked.stream,
        partial_images=asked.partial_images,
        like_first=like_first,
        edits=bool(pictures),
    )


def _refused(error: ValidationError) -> Refused:
    first = error.errors(include_url=False)[0]
    codes = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}
    return Refused(sentences(error), str(first["loc"][0])[:NAME_LONGEST], codes.get(first["type"], "invalid_value"))


def _check(asked: GenerationRequest, links: bool) -> None:
    """Refuse what cannot be done, and fields that contradict each other."""
    if asked.background == "transparent":
        raise Refused("Field background must be auto or opaque: transparent pictures are not painted.", "background")
    if asked.output_format == "png" and asked.output_compression not in (None, 100):
        raise Refused(
            "Field output_compression is for jpeg and webp: a png loses nothing. Leave it out, or set output_format.",
            "output_compression",
        )
    if asked.stream and links:
        raise Refused("Field response_format must not be url beside stream: events carry b64_json.", "response_format")
    if asked.partial_images and not asked.stream:
        raise Refused("Field partial_images is for stream: set stream to true, or leave it out.", "partial_images")
    if asked.steps is not None and EFFORTS[asked.quality] != 1:
        raise Refused("Give quality or steps, not both: quality sets the steps.", "quality")
    if asked.prompt_optimizer is not None and asked.disable_prompt_enhanced is not None:
        raise Refused("Give prompt_optimizer or disable_prompt_enhanced, not both.", "disable_prompt_enhanced")


def _steps(asked: GenerationRequest, model: Model) -> int | None:
    """The steps that the request asks for, by number or by quality; None is the model's own."""
    effort = EFFORTS[asked.quality]
    if asked.steps is not None or effort == 1:
        return asked.steps
    usual = abilities(model).steps
    if usual is None:
        raise Refused(
            "Field quality must be auto, medium or standard here: how many steps model "
            f"{model.name} takes by itself is not known. Set steps instead.",
            "quality",
        )
    least, greatest = (int(bound) for bound in RANGES["steps"])
    return min(greatest, max(least, math.ceil(usual * effort)))


def _pictures(asked: EditRequest, settings: Settings) -> tuple[tuple[str, ...], str | None]:
    """The pictures to edit and the mask: each a URL, a data URL or base64."""
    if asked.image is not None and asked.images is not None:
        raise Refused("Give image or images, not both.", "images")
    name = "images" if asked.image is None else "image"
    given = getattr(asked, name)
    sources = [_source(item, name) for item in (given if isinstance(given, list) else [given])] if given else []
    if not sources:
        raise Refused("Field image is required: the picture to edit, as a file, a URL or a data URL.", "image",
                      "missing_required_parameter")  # fmt: skip
    if len(sources) > settings.reference_max_count:
        raise Refused(f"Field {name} holds {len(sources)} pictures; at most {settings.reference_max_count} can be "
                      "used.", name)  # fmt: skip
    if isinstance(asked.mask, list) and len(asked.mask) != 1:
        raise Refused("Field mask must be one picture.", "mask")
    mask = asked.mask[0] if isinstance(asked.mask, list) else asked.mask
    return tuple(sources), None if mask is None else _source(mask, "mask")


def _source(item: object, field: str) -> str:
    if isinstance(item, dict) and item.get("file_id") is not None:
        raise Refused(f"Field {field} must not name a file_id: no files are kept here. Send the picture.", field)
    if isinstance(item, dict):
        item = item.get("image_url")
    if isinstance(item, dict):
        item = item.get("url")
    if not isinstance(item, str) or not item.strip():
        raise Refused(
            f"Field {field} must hold pictures that are not empty: files, or URLs and data URLs as texts or as "
            '{"image_url": ...}.',
            field,
        )
    return item
