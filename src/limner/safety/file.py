"""The policy file: TOML, read strictly, every mistake told as a sentence with the file, the table and the key."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from limner.errors import SettingsInvalid

OPEN_NSFW = "open_nsfw"
"""The classifier that the extra `safety` brings."""

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^\S(.*\S)?$")]
Sizes = Annotated[list[Annotated[int, Field(ge=8, le=2048)]], Field(min_length=2, max_length=2)]
Channels = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=3, max_length=3)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TextTable(_Table):
    """How texts are read."""

    digits: bool = Field(True, description="Read digits and signs as the letters that they stand for: `bl00d`, `sh!t`.")
    marks: bool = Field(
        True,
        description="Read letters with marks as those without: `blöød`. With false only marks that are no language's "
        "come off; then Turkish `göre` is not English `gore`.",
    )


class RuleTable(_Table):
    """What one category of words is."""

    name: Name = Field(description="The category, for the audit and the log; callers do not see it.")
    terms: list[str] = Field(
        [], description="Words and phrases; a star at either end stands for any letters: `mutilat*`."
    )
    patterns: list[str] = Field(
        [], description="Regular expressions of RE2, in any case; they need the extra `safety`."
    )
    allow: list[str] = Field([], description="Words and phrases that this rule takes out of a text before it reads it.")

    @model_validator(mode="after")
    def _looks_for_something(self) -> RuleTable:
        if not self.terms and not self.patterns:
            raise ValueError("it has neither terms nor patterns, so it would refuse nothing")
        return self


class ClassifierTable(_Table):
    """A network that scores pictures."""

    weights: str = Field(
        min_length=1,
        description=f"`{OPEN_NSFW}`, which the extra `safety` brings, or an ONNX file; relative to the file's folder.",
    )
    thresholds: dict[str, Score] = Field(
        min_length=1, description="A picture is refused whose score reaches this, 0 to 1, by label."
    )
    checks: list[Literal["reference", "picture"]] = Field(
        ["reference", "picture"], min_length=1, description="What it looks at."
    )
    name: Name | None = Field(None, description="What the audit calls it; by default the name of the weights.")
    labels: list[Name] | None = Field(None, description="Names of the network's outputs, in their order.")
    input: str = Field("input", min_length=1, description="Name of the network's input.")
    size: Sizes = Field([224, 224], description="Width and height of the network's input, pixels.")
    resize: Sizes | None = Field(
        None, description="Width and height that a picture is brought to before its middle of `size` is cut out; "
        "by default `size`.",
    )  # fmt: skip
    layout: Literal["nchw", "nhwc"] = Field("nchw", description="Order of the input's axes.")
    channels: Literal["rgb", "bgr"] = Field("rgb", description="Order of the colours.")
    mean: Channels = Field([0.0, 0.0, 0.0], description="Taken off each channel, in their order, of 0 to 255.")
    scale: Channels = Field([255.0, 255.0, 255.0], description="Then each channel is divided by this.")
    output: Literal["probabilities", "softmax", "sigmoid"] = Field(
        "probabilities", description="What makes probabilities of the network's output, if it needs anything."
    )

    @field_validator("scale")
    @classmethod
    def _no_zero(cls, value: list[float]) -> list[float]:
        if 0 in value:
            raise ValueError("a channel cannot be divided by 0")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ClassifierTable:
        if self.weights == OPEN_NSFW:
            own = sorted(self.model_fields_set - {"weights", "thresholds", "checks", "name"})
            if own:
                raise ValueError(f"{own[0]} is for networks of your own; {OPEN_NSFW} has it already")
        elif self.labels is None:
            raise ValueError("it needs labels, one for each output of the network")
        known = ["nsfw"] if self.weights == OPEN_NSFW else self.labels or []
        for label in self.thresholds:
            if label not in known:
                raise ValueError(f"thresholds has {label}, which is no label of it; there are {', '.join(known)}")
        if self.resize is not None and any(whole < part for whole, part in zip(self.resize, self.size, strict=True)):
            raise ValueError("resize is smaller than size, which is cut out of it")
        return self


class ModerationTable(_Table):
    """An endpoint that is asked."""

    url: str = Field(description="Base URL of an OpenAI-compatible API, such as `http://localhost:9000/v1`.")
    model: str | None = Field(None, min_length=1, description="Model to ask for; by default the endpoint's own.")
    key_variable: str | None = Field(
        None, min_length=1, description="Name of the environment variable that holds the bearer key."
    )
    checks: list[Literal["prompt", "reference", "picture"]] = Field(
        ["prompt"], min_length=1, description="What is sent: pictures only to a model that takes them."
    )
    thresholds: dict[str, Score] = Field(
        {},
        description="Refuse where a category's score reaches this, 0 to 1; without any, where the reply is flagged.",
    )
    seconds: float = Field(
        5.0, gt=0, le=60, allow_inf_nan=False, description="Longest time to wait for an answer, seconds."
    )
    on_failure: Literal["refuse", "allow"] = Field(
        "refuse", description="What happens where the endpoint gives no answer that can be read."
    )

    @field_validator("url")
    @classmethod
    def _base(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("give an http:// or https:// address without query or fragment")
        if parts.username or parts.password:
            raise ValueError("an address with a user name or a password would end up in logs; use key_variable")
        return value.rstrip("/")

    @field_validator("key_variable")
    @classmethod
    def _there(cls, value: str | None) -> str | None:
        if value is not None and not os.environ.get(value, "").strip():
            raise ValueError(f"the environment has no variable {value}")
        return value


class AuditTable(_Table):
    """What is written down about a refusal."""

    prompts: bool = Field(False, description="Keep the refused prompt's text with the row.")


class PolicyFile(_Table):
    """A whole file: its tables, by name."""

    text: TextTable = TextTable()
    rule: list[RuleTable] = []
    classifier: list[ClassifierTable] = []
    moderation: ModerationTable | None = None
    audit: AuditTable = AuditTable()


def read(path: Path) -> PolicyFile:
    """The policy in the TOML file `path`.

    Raises:
        SettingsInvalid: it cannot be read, is not TOML, has an unknown or wrong key, or checks nothing.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsInvalid(f"The policy file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(f"The policy file {path} is not UTF-8 text. Save it as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise SettingsInvalid(f"The policy file {path} is not valid TOML: {str(error)[:200]}.") from None
    try:
        policy = PolicyFile.model_validate(tables)
    except ValidationError as error:
        raise SettingsInvalid(_sentence(error, tables, path)) from None
    if not policy.rule and not policy.classifier and policy.moderation is None:
        raise SettingsInvalid(
            f"The policy file {path} checks nothing: it has no [[rule]], [[classifier]] or [moderation]. Write one, or "
            "leave policy_file out."
        )
    return policy


def table_name(kind: str, number: int, name: str | None = None) -> str:
    """A table of a list as sentences call it."""
    return f"[[{kind}]] {number + 1}{f' ({name})' if name else ''}"


def _sentence(error: ValidationError, tables: dict[str, Any], path: Path) -> str:
    """The first mistake, with the table and the key it is in."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = list(first["loc"])
    known: type[BaseModel] = PolicyFile
    where = str(path)
    if len(place) > 1:
        kind = str(place.pop(0))
        if isinstance(number := place[0], int):
            del place[0]
            given = tables[kind][number]
            name = given.get("name") if isinstance(given, dict) else None
            where = f"{table_name(kind, number, name if isinstance(name, str) else None)} in {path}"
        else:
            where = f"[{kind}] in {path}"
        annotation = PolicyFile.model_fields[kind].annotation
        known = next(each for each in (annotation, *get_args(annotation)) if isinstance(each, type(BaseModel)))
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
    if first["type"] == "extra_forbidden":
        names = list(known.model_fields)
        nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
        return f"{key} is no key of {where} that Limner knows. Did you mean {nearest}? There are {', '.join(names)}."
    message = first["msg"].removeprefix("Value error, ").partition(" or instance of")[0]
    message = message.replace("a valid dictionary", "a table")
    return f"{f'{key} of ' if key else ''}{where} cannot be used: {message[:1].lower()}{message[1:]}."
