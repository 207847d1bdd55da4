"""What a file of weights says of itself, read strictly and without its tensors: safetensors and GGUF.

Both formats are a header that lists tensors (name, kind, shape, place) and the tensors' bytes behind it. The readers
stop at the header, so that a file of 24 GB is checked in milliseconds, and believe nothing: each count, length and
place is held against the file's true size before it is used.

Formats: safetensors (https://github.com/huggingface/safetensors, "Format"), GGUF 2 and 3
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

from limner.errors import ModelUnusable

HEADER_MAX = 100 * 10**6
"""Longest header, bytes: the limit of the library of safetensors."""

TENSORS_MAX = 200_000
"""Most tensors of one file, a hundred times what the largest model here has."""

AXES_MAX = 16
ELEMENTS_MAX = 2**48
"""Most elements of one tensor: a thousand times the whole of the largest model."""

AGAIN = "Copy or download it again, whole."

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of one element of each kind that a safetensors file may hold."""

GGML = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""GGUF's kinds of tensors by number: name, elements of a block, bytes of a block."""

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF's kinds of metadata values that have one length, as `struct` writes them; 8 is text, 9 an array."""

TEXT, ARRAY = 8, 9

Container = Literal["safetensors", "gguf"]


@dataclass(frozen=True, slots=True)
class Tensor:
    kind: str  # as the file's format names it: F16, Q4_K
    shape: tuple[int, ...]  # outermost axis first, in both formats
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """One file of weights."""

    container: Container
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]  # safetensors: text to text; GGUF: its short values alone, arrays left out

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def kinds(self) -> Counter[str]:
        """Bytes held in each kind of tensor."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors.values():
            counts[tensor.kind] += tensor.bytes
        return counts


def shown(path: Path | str) -> str:
    """A path for a sentence; bytes of its name that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read(path: Path) -> Header:
    """The header of a safetensors or GGUF file, told apart by content, never by name.

    Raises:
        ModelUnusable: the file cannot be read, is of another kind (a pickle is told by its first bytes), ends before
            its last tensor, or its header contradicts itself.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(8)
            file.seek(0)
            if first[:4] == b"GGUF":
                return _gguf(file, size, path)
            foreign = _foreign(first)
            if foreign:
                raise ModelUnusable(f"{shown(path)} {foreign}")
            return _safetensors(file, size, path)
    except OSError as error:
        raise ModelUnusable(
            f"{shown(path)} cannot be read: {error.strerror}. Check that it is there and readable."
        ) from None


def _foreign(first: bytes) -> str | None:
    """What a file is instead, by its first eight bytes; None where they can be the length of a header."""
    if first[4:] == b"\0\0\0\0":
        return None
    if first[:4] == b"PK\x03\x04" or (first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return (
            "is a pickle or zip archive, whatever its name says. Pickles can run code and are never loaded: convert "
            "it to safetensors, or download the safetensors version."
        )
    if first.startswith(b"version "):
        return "is a pointer of Git LFS, not the file itself. Fetch the file with `git lfs pull`."
    if first[:1] in (b"<", b"{"):
        return f"is a text file (a web page or JSON), not weights. {AGAIN}"
    return None


def _safetensors(file: BufferedReader, size: int, path: Path) -> Header:
    def refuse(what: str) -> ModelUnusable:
        return ModelUnusable(f"{shown(path)} is no intact safetensors file: {what}. {AGAIN}")

    if size < 10:
        raise refuse(f"it has only {size} bytes")
    (length,) = struct.unpack("<Q", file.read(8))
    if length > HEADER_MAX:
        raise refuse(f"its header would be {length} bytes long, more than the {HEADER_MAX} that are allowed")
    if length > size - 8:
        raise refuse(f"its header of {length} bytes does not fit into the file's {size} bytes")
    try:
        document = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise refuse(f"its header is not JSON ({reason})") from None
    if not isinstance(document, dict):
        raise refuse("its header is not a JSON object")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise refuse("its __metadata__ is not a table of texts")
    if len(document) > TENSORS_MAX:
        raise refuse(f"it lists {len(document)} tensors, more than the {TENSORS_MAX} that are allowed")
    tensors, spans = {}, []
    for name, entry in document.items():
        tensor, span = _entry(entry)
        if tensor is None or span is None:
            raise refuse(f"its tensor {name[:80]!r} is described wrongly")
        tensors[name] = tensor
        spans.append(span)
    place, data = 0, size - 8 - length
    for start, end in sorted(spans):
        if start != place:
            raise refuse(f"its tensors overlap or leave a gap at byte {min(start, place)} of the data")
        place = end
    if place > data:
        raise refuse(f"it ends early, {place - data} bytes before the end of its last tensor")
    if place < data:
        raise refuse(f"{data - place} bytes behind its last tensor belong to nothing")
    return Header("safetensors", tensors, metadata)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands in it twice")
    return table


def _entry(entry: object) -> tuple[Tensor | None, tuple[int, int] | None]:
    """One entry of a safetensors header and its span in the data, bytes; None where it contradicts itself."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        return None, None
    kind, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in BITS or not _sizes(shape) or not _sizes(span) or len(span) != 2:
        return None, None
    elements = _elements(shape)
    if elements is None or span[1] - span[0] != (bytes_ := elements * BITS[kind] // 8) or elements * BITS[kind] % 8:
        return None, None
    return Tensor(kind, tuple(shape), bytes_), (span[0], span[1])


def _sizes(value: object) -> bool:
    """Whether a JSON value is a short list of counts."""
    return (
        isinstance(value, list)
        and len(value) <= AXES_MAX
        and all(type(number) is int and 0 <= number < 2**63 for number in value)
    )


def _elements(shape: list[int] | tuple[int, ...]) -> int | None:
    """Product of the sides, None where it is absurd, or would be but for a side of 0."""
    product = 1
    for side in shape:
        product *= max(side, 1)
        if product > ELEMENTS_MAX:
            return None
    return 0 if 0 in shape else product


class _Reader:
    """Little-endian values from a file, none of them past its end."""

    def __init__(self, file: BufferedReader, size: int) -> None:
        self.file, self.size = file, size

    def take(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise EOFError
        if self.file.tell() > HEADER_MAX:
            raise ValueError(f"its header is longer than the {HEADER_MAX} bytes that are allowed")
        return self.file.read(count)

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self, most: int) -> str:
        length = self.number("Q")
        if length > most:
            raise ValueError(f"a text of {length} bytes where at most {most} are allowed")
        return self.take(length).decode("utf-8")

    def value(self, kind: int, depth: int = 0) -> Any:
        """One metadata value; of an array only that it fits."""
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == TEXT:
            return self.text(2**24)
        if kind != ARRAY or depth > 2:
            raise ValueError(f"a metadata value of the unknown kind {kind}")
        inner, count = self.number("I"), self.number("Q")
        if inner in SCALARS:
            skip = count * struct.calcsize(f"<{SCALARS[inner]}")
            if skip > self.size - self.file.tell():
                raise EOFError
            self.file.seek(skip, os.SEEK_CUR)
        else:
            if count > self.size - self.file.tell():  # each takes a byte at least
                raise EOFError
            for _ in range(count):
                self.value(inner, depth + 1)
        return None


def _gguf(file: BufferedReader, size: int, path: Path) -> Header:
    def refuse(what: str) -> ModelUnusable:
        return ModelUnusable(f"{shown(path)} is no intact GGUF file: {what}. {AGAIN}")

    reader = _Reader(file, size)
    try:
        reader.take(4)
        version = reader.number("I")
        if version not in (2, 3):
            raise ModelUnusable(
                f"{shown(path)} is a GGUF file of version {version}; versions 2 and 3 can be read. Convert it "
                "again with a current tool (big-endian files cannot be read at all)."
            )
        count, pairs = reader.number("Q"), reader.number("Q")
        if count > TENSORS_MAX or pairs > TENSORS_MAX:
            raise refuse(f"it lists {count} tensors and {pairs} settings, more than the {TENSORS_MAX} allowed")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            name = reader.text(2**16)
            value = reader.value(reader.number("I"))
            if name in metadata:
                raise ValueError(f"the setting {name[:80]!r} stands in it twice")
            metadata[name] = value
        places = list(_placed(reader, count))
    except EOFError:
        raise refuse("it ends within its header") from None
    except ValueError as error:  # UnicodeDecodeError too
        raise refuse(str(error)[:200]) from None
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 2**20:
        raise refuse(f"its general.alignment is {str(alignment)[:40]}")
    start = -(-file.tell() // alignment) * alignment
    for name, tensor, place in places:
        if place % alignment:
            raise refuse(f"its tensor {name[:80]!r} is not aligned to {alignment} bytes")
        if start + place + tensor.bytes > size:
            raise refuse(f"it ends early, before the end of its tensor {name[:80]!r}")
    tensors = {name: tensor for name, tensor, _ in places}
    if len(tensors) != len(places):
        raise refuse("a tensor's name stands in it twice")
    return Header("gguf", tensors, {name: value for name, value in metadata.items() if value is not None})


def _placed(reader: _Reader, count: int) -> Iterator[tuple[str, Tensor, int]]:
    """Each tensor of a GGUF file with its place behind the header, bytes."""
    for _ in range(count):
        name = reader.text(2**16)
        axes = reader.number("I")
        if axes > AXES_MAX:
            raise ValueError(f"its tensor {name[:80]!r} has {axes} axes")
        shape = tuple(reader.number("Q") for _ in range(axes))[::-1]  # GGUF writes the innermost first
        number, place = reader.number("I"), reader.number("Q")
        elements = _elements(shape)
        if elements is None or number not in GGML:
            raise ValueError(f"its tensor {name[:80]!r} has an absurd shape or the unknown kind {number}")
        kind, block, bytes_ = GGML[number]
        if elements % block:
            raise ValueError(f"its tensor {name[:80]!r} does not divide into blocks of {block}")
        yield name, Tensor(kind, shape, elements // block * bytes_), place
