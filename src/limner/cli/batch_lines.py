"""The lines of a batch, read from CSV or JSONL and checked as a whole before anything is painted.

A line is known by a digest of what decides its pictures, so lines may be inserted, moved and taken out between runs.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image
from pydantic import ValidationError

from limner.api import contract
from limner.api.pictures import PictureRequest
from limner.client.images import SUFFIXES, Format
from limner.client.types import Abilities, Options
from limner.errors import InvalidRequest

FIELDS: Final = frozenset(Options.__annotations__) - {"idempotency_key"} | {"prompt", "name", "reference"}
"""What a line may say: what `limner.client` takes, a name for the file, and `reference` for a single one."""

NUMBERS: Final = {"steps": int, "guidance": float, "strength": float}
OBJECTS: Final = frozenset({"scene", "loras"})
"""Fields that CSV, which knows text alone, writes as numbers and as JSON; the others are read from text anyway."""

SEPARATOR: Final = "|"
"""Between the references of a CSV line."""

LONGEST_NAME: Final = 200
"""Bytes of a name in UTF-8. File systems take 255, and a number, an ending and what `limner.client.images.write` adds
while it writes come on top."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a batch, checked."""

    number: int  # in the file, from 1; of a CSV record its last
    fields: Mapping[str, Any]  # as `limner.client` takes them; references are URLs and paths
    digest: str  # of what decides its pictures, and of which one it is among equal lines
    files: tuple[str, ...]  # names of its pictures


@dataclass(frozen=True, slots=True)
class Known:
    """What lines are checked against.

    Attributes:
        folder: where the paths of references begin.
        models: by the names that lines may give, with what they can where that is known.
        longest: most code points of a prompt; None where only the service knows.
    """

    folder: Path
    models: Mapping[str, Abilities | None]
    longest: int | None = None


def read(text: str, kind: str, known: Known) -> tuple[list[Line], list[tuple[int, str]]]:
    """The lines of a `.csv` or `.jsonl` file, and what is wrong: number of the line and sentence, in their order."""
    lines: list[Line] = []
    wrong: list[tuple[int, str]] = []
    taken: dict[str, int] = {}
    same: Counter[str] = Counter()
    for number, row in (_csv if kind == ".csv" else _jsonl)(text):
        try:
            if isinstance(row, InvalidRequest):
                raise row
            line = _line(number, row, known, same)
            for file in line.files:
                other = taken.setdefault(file.casefold(), number)
                if other != number:
                    raise InvalidRequest(f"Field name: {file} is the file of line {other} already.")
            lines.append(line)
        except InvalidRequest as error:
            wrong.append((number, error.message))
    return lines, wrong


def _jsonl(text: str) -> Iterator[tuple[int, dict[str, Any] | InvalidRequest]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = InvalidRequest("This is not JSON; each line is one object, on one line.")
        if not isinstance(row, dict | InvalidRequest):
            row = InvalidRequest(f"A line is a JSON object; got {contract.shown(row)}.")
        yield number, row


def _csv(text: str) -> Iterator[tuple[int, dict[str, Any] | InvalidRequest]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, InvalidRequest(f"This is not CSV: {error}.")
            return
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if complaint := _of_header(header):
                yield reader.line_num, InvalidRequest(complaint)
                return
        elif len(cells) > len(header):
            yield reader.line_num, InvalidRequest(f"There are {len(cells)} cells under {len(header)} names.")
        else:
            pairs = zip(header, cells, strict=False)
            yield reader.line_num, {name: _of_text(name, cell.strip()) for name, cell in pairs if cell.strip()}


def _of_header(names: list[str]) -> str | None:
    """What is wrong with the first line of a CSV file."""
    for name in names:
        if name not in FIELDS:
            return _no_field(name)
        if names.count(name) > 1:
            return f"Field {name} is named twice."
    return None if "prompt" in names else "Field prompt is required; the first line of a CSV file names the fields."


def _no_field(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), FIELDS, 1)
    known = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(FIELDS))}."
    return f"There is no field {contract.shown(name)}; {known}"


def _of_text(name: str, text: str) -> Any:
    """A cell as the value that it stands for; text that stands for none as it is, to be refused."""
    if name == "references":
        return [part.strip() for part in text.split(SEPARATOR) if part.strip()]
    try:
        return json.loads(text) if name in OBJECTS else NUMBERS.get(name, str)(text)
    except (ValueError, RecursionError):
        return text


def _line(number: int, row: Mapping[str, Any], known: Known, same: Counter[str]) -> Line:
    """Raises InvalidRequest with every sentence about one line."""
    given = {name: value for name, value in row.items() if value is not None}
    if unknown := [name for name in given if name not in FIELDS]:
        raise InvalidRequest(" ".join(map(_no_field, unknown)))
    name = given.pop("name", None)
    sources = _sources(given)
    asked = check(given, known, len(sources))
    fields = asked.model_dump(include=set(given))
    references = [_reference("reference", source, known.folder) for source in sources]
    if name is not None and (kind := _named_format(name, fields.get("format"))) is not None:
        fields["format"] = kind
    decisive = fields | {"name": name, "references": [digest for _, digest in references]}
    if asked.mask is not None:
        fields["mask"], decisive["mask"] = _reference("mask", asked.mask, known.folder)
    digest = _digest(decisive)
    same[digest] += 1
    if same[digest] > 1:
        digest = _digest([digest, same[digest]])
    stem = f"{slug(asked.prompt)}-{digest[:8]}" if name is None else name
    if references:
        fields["references"] = [source for source, _ in references]
    return Line(number, fields, digest, _files(stem, asked.n, fields.get("format", "jpeg")))


def _sources(given: dict[str, Any]) -> list[str]:
    """The references of a line, taken out of it."""
    if "reference" in given and "references" in given:
        raise InvalidRequest("Give field reference, for one, or references, for several, not both.")
    field = "references" if "references" in given else "reference"
    found = given.pop(field, [])
    sources = [found] if isinstance(found, str) else found
    if not isinstance(sources, list) or not all(isinstance(source, str) and source for source in sources):
        raise InvalidRequest(f"Field {field} must be a path or a URL, or several; got {contract.shown(found)}.")
    return sources


def check(fields: Mapping[str, Any], known: Known, references: int = 0) -> PictureRequest:
    """What a request asks for, references aside: each field, what they say together, and what the model can.

    Raises:
        InvalidRequest: with sentences that name the fields.
    """
    try:
        asked = PictureRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(contract.sentences(error)) from None
    if not asked.prompt.strip():
        raise InvalidRequest("Field prompt must hold words: say what to paint.")
    if known.longest is not None and len(asked.prompt) > known.longest:
        raise InvalidRequest(f"Field prompt must have at most {known.longest} characters; got {len(asked.prompt)}.")
    if contract.sides(asked.width, asked.height) is not None and asked.aspect_ratio is not None:
        raise InvalidRequest("Give field aspect_ratio, or width and height, not both.")
    if asked.mask is not None and not references:
        raise InvalidRequest("Field mask needs the picture that is to be repainted as the first of references.")
    contract.size_of(asked.aspect_ratio or "1:1", extra=True)
    model = asked.model or "image-01"
    if model not in known.models:
        raise InvalidRequest(f"Field model must be one of {', '.join(known.models)}; got {contract.shown(model)}.")
    can = known.models[model]
    if can is None or not can.samplers:  # weights that cannot be read: the service says what is wrong with them
        return asked
    for field, value, choices in (
        ("style", asked.style, (*can.styles, *can.live_styles)),
        ("sampler", asked.sampler, can.samplers),
    ):
        if value is not None and value not in choices:
            allowed = f"must be one of {', '.join(choices)}" if choices else f"is not for model {model}"
            raise InvalidRequest(f"Field {field} {allowed}; got {contract.shown(value)}.")
    if references > can.references:
        raise InvalidRequest(f"Field references: model {model} takes at most {can.references}; got {references}.")
    for field in ("negative_prompt", "mask"):
        if getattr(asked, field) and not getattr(can, field):
            raise InvalidRequest(f"Field {field} is not for model {model}; leave it out.")
    return asked


def _reference(field: str, source: str, folder: Path) -> tuple[str | Path, str]:
    """What `limner.client` takes for a picture of a line, and what stands for it in a digest. Raises InvalidRequest."""
    if source.lower().startswith(("http://", "https://", "data:")):
        return source, source
    path = folder / source
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")):
            pass
    except (OSError, ValueError) as error:  # Pillow's own error is an OSError without a number
        reason = getattr(error, "strerror", None) or "it is no JPEG, PNG or WebP"
        raise InvalidRequest(f"Field {field}: {source} cannot be read: {reason}.") from None
    return path, hashlib.sha256(data).hexdigest()


def _named_format(name: object, told: Format | None) -> Format | None:
    """The format that a line's name asks for; None where it has no such ending. Raises InvalidRequest."""
    if not isinstance(name, str) or not re.fullmatch(r"[^\s./\\][^/\\]*", name) or not name.isprintable():
        raise InvalidRequest(f"Field name must be a file's name, without a folder; got {contract.shown(name)}.")
    if (size := len(name.encode())) > LONGEST_NAME:
        raise InvalidRequest(f"Field name must have at most {LONGEST_NAME} bytes in UTF-8; got {size}.")
    ending = SUFFIXES.get(Path(name).suffix.lower())
    if ending and told and ending != told:
        raise InvalidRequest(f"Field name ends in {Path(name).suffix}, and field format says {told}.")
    return ending


def _files(name: str, n: int, kind: Format) -> tuple[str, ...]:
    path = Path(name)
    usual = ".jpg" if kind == "jpeg" else f".{kind}"
    stem, ending = (path.stem, path.suffix) if path.suffix.lower() in SUFFIXES else (name, usual)
    return (f"{stem}{ending}",) if n == 1 else tuple(f"{stem}-{k}{ending}" for k in range(1, n + 1))


def slug(prompt: str) -> str:
    """A few words of a prompt as the beginning of a file's name."""
    return re.sub(r"[\W_]+", "-", prompt.casefold())[:40].strip("-") or "picture"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
