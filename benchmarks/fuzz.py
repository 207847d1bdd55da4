"""Fuzz the reference decoder: mutated JPEG, PNG and WebP files, in a child that may neither die, hang nor swell.

    .venv/bin/python benchmarks/fuzz.py --minutes 10
    .venv/bin/python benchmarks/fuzz.py --cases 300 --seed 1     # the same cases every time

The files of tests/corpus are mutated, by bytes and by the parts of each format; what reaches a line of the decoder or
of Pillow's Python that nothing before it reached is mutated in turn (and kept with `--keep`). A case is good where the
decoder returns a picture as it promises or refuses the file in a sentence. A finding is any other exception, a death of
the process, more than MOST_SECONDS, or more than MOST_MEMORY beside what the process had; its file is written to
`--findings`, and the exit code is 1.

Pillow's C is not instrumented here: mutations reach it by chance alone, and its libraries are fuzzed elsewhere.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import TraceFunction

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
MAX_PIXELS = 4_000_000
"""reference_max_pixels of the run: memory is bounded in proportion to it, and small bombs are found sooner."""
MOST_MEMORY = 80 * 2**20
"""Five such pictures at four bytes a pixel: WebP comes near to it, and nothing else."""
MOST_SECONDS = 10.0
"""A case takes some milliseconds; this is beyond what a busy machine explains."""
LARGEST = 2**17  # bytes of a mutated file


@dataclass
class Run:
    """What a run has done."""

    cases: int = 0
    seconds: float = 0.0
    results: Counter[str] = field(default_factory=Counter)
    findings: dict[str, bytes] = field(default_factory=dict)  # what happened → the first file that did it
    kept: list[bytes] = field(default_factory=list)  # what reached a new line
    lines: int = 0
    largest: int = 0  # bytes of memory beyond what the child began with


# Mutations

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """`data` with some of its bytes or parts changed, or joined with `other`; at most LARGEST bytes."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not body:
            break
        at = rng.randrange(len(body))
        length = rng.choice((1, 2, 4, 16, 256))
        match rng.randrange(9):
            case 0:
                body[at] ^= 1 << rng.randrange(8)
            case 1:
                body[at] = rng.randrange(256)
            case 2:
                number = rng.choice(_NUMBERS)
                form = rng.choice((">I", "<I", ">H", "<H", "B"))
                packed = struct.pack(form, number & (256 ** struct.calcsize(form) - 1))
                body[at : at + len(packed)] = packed
            case 3:
                del body[at : at + length]
            case 4:
                body[at:at] = body[at : at + length] * rng.choice((1, 2, 64))
            case 5:
                body[at:at] = rng.randbytes(length)
            case 6:
                start = rng.randrange(len(other)) if other else 0
                body[at : at + length] = other[start : start + length]
            case 7:
                del body[at:]
            case 8:
                body = bytearray(_parts_changed(bytes(body), other, rng))
    return _mended(bytes(body[:LARGEST])) if rng.random() < 0.9 else bytes(body[:LARGEST])


def _parts_changed(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Chunks or segments dropped, doubled, moved, or taken from the other file."""
    parts, foreign = list(_parts(data)), list(_parts(other))
    if len(parts) < 3:
        return data
    at = rng.randrange(1, len(parts))
    match rng.randrange(4):
        case 0:
            del parts[at]
        case 1:
            parts[at:at] = [parts[at]] * rng.choice((1, 3, 40))
        case 2:
            parts.insert(rng.randrange(1, len(parts)), parts.pop(at))
        case 3 if len(foreign) > 1:
            parts.insert(at, rng.choice(foreign[1:]))
    return b"".join(parts)


def _parts(data: bytes) -> Iterator[bytes]:
    """The file in pieces: its signature, then chunks (PNG, WebP) or segments (JPEG); together they are the file."""
    position = {b"\x89PNG": 8, b"RIFF": 12}.get(data[:4], 2 if data[:2] == b"\xff\xd8" else len(data))
    yield data[:position]
    while position < len(data):
        if data[:2] == b"\xff\xd8":
            size = _segment(data, position)
        elif data[:4] == b"RIFF":
            size = 8 + (int.from_bytes(data[position + 4 : position + 8], "little") + 1) // 2 * 2
        else:
            size = 12 + int.from_bytes(data[position : position + 4])
        yield data[position : position + size]
        position += size


def _segment(data: bytes, at: int) -> int:
    if data[at + 1 : at + 2] == b"\xda":  # the scan lasts until the next marker
        end = at + 2
        while (end := data.find(b"\xff", end)) >= 0 and data[end + 1 : end + 2] in (b"\x00", b"\xff"):
            end += 2
        return len(data) if end < 0 else end - at
    return 2 + int.from_bytes(data[at + 2 : at + 4])


def _mended(data: bytes) -> bytes:
    """With the checksums of a PNG and the size of a WebP made right: else each mutation would end there."""
    if data[:4] == b"RIFF":
        return data[:4] + struct.pack("<I", len(data) - 8 & 0xFFFFFFFF) + data[8:]
    if data[:4] != b"\x89PNG":
        return data
    signature, *chunks = _parts(data)
    return signature + b"".join(
        chunk if len(chunk) < 12 else chunk[:-4] + struct.pack(">I", zlib.crc32(chunk[4:-4])) for chunk in chunks
    )


# The child


def _child(pipe: Connection) -> None:
    """Decode what comes: answer with what came of it, the new lines that it reached, and the memory that it took."""
    import faulthandler
    import warnings

    import numpy as np
    import PIL

    from limner import decode
    from limner.config import Settings
    from limner.errors import ReferenceRefused

    faulthandler.enable(file=sys.stderr)
    warnings.simplefilter("ignore")  # Pillow's remarks on broken files
    settings = Settings(reference_max_pixels=MAX_PIXELS)
    roots = (decode.__file__, str(Path(PIL.__file__).parent))
    seen: set[tuple[CodeType, int]] = set()
    new = 0

    def trace(frame: FrameType, event: str, _: object) -> TraceFunction | None:
        nonlocal new
        code = frame.f_code
        if not code.co_filename.startswith(roots):
            return None
        if event == "line" and (place := (code, frame.f_lineno)) not in seen:
            seen.add(place)
            new += 1
        return trace

    while True:
        data = pipe.recv_bytes()
        new = 0
        before = _memory()
        sys.settrace(trace)
        try:
            pixels = decode.decode(data, settings)
            good = (
                pixels.dtype == np.uint8 and pixels.shape[2:] == (4,) and 1 <= max(pixels.shape[:2]) <= decode.LONG_SIDE
            )
            result = "decoded" if good else f"finding: a picture of {pixels.dtype} {pixels.shape}"
        except ReferenceRefused as refusal:
            good = refusal.message.endswith(".") and len(refusal.message) < 200
            result = f"refused: {refusal.reason}" if good else f"finding: {refusal.message}"
        except BaseException as error:
            result = f"finding: {type(error).__name__}: {error}"
        finally:
            sys.settrace(None)
        pipe.send((result, new, _memory() - before))


def _memory() -> int:
    """The most memory since the last call, bytes; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text("ascii")
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Child:
    """The process that decodes; a new one where the last died or was killed."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_child, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._warm = False

    def decode(self, data: bytes) -> tuple[str, int, int]:
        """What came of it, how many new lines it reached, and the memory that it took."""
        try:
            self._pipe.send_bytes(data)
            # A new process imports before it decodes.
            if self._pipe.poll(MOST_SECONDS + 60 * (not self._warm)):
                self._warm = True
                result: tuple[str, int, int] = self._pipe.recv()
                return result
            what = f"finding: over {MOST_SECONDS:g} s"
        except (EOFError, OSError):
            self._process.join()
            what = f"finding: the process died with {self._process.exitcode}"
        self.close()
        self._start()
        return what, 0, 0

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def fuzz(seed: int, more: Callable[[Run], bool], corpus: Path = CORPUS) -> Run:
    """Decode the corpus, then mutants of it while `more` says so. The same seed gives the same cases."""
    rng = random.Random(seed)
    run = Run()
    pool = [path.read_bytes() for path in sorted(corpus.iterdir())]
    child = Child()
    began = time.monotonic()
    given = iter(list(pool))
    try:
        while (data := next(given, None)) is not None or more(run):
            mutant = data is None
            if data is None:
                data = mutated(rng.choice(pool), rng.choice(pool), rng)
            result, new, memory = child.decode(data)
            if memory > MOST_MEMORY:
                result = f"finding: {memory >> 20} MiB of memory"
            run.cases += 1
            run.lines += new
            run.largest = max(run.largest, memory)
            run.results[result.partition("finding")[0] or "finding"] += 1
            run.seconds = time.monotonic() - began
            if result.startswith("finding"):
                run.findings.setdefault(result, data)
            elif new and mutant:
                pool.append(data)
                run.kept.append(data)
    finally:
        child.close()
    return run


def _write(folder: Path, files: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for data in files:
        (folder / f"{zlib.crc32(data):08x}").write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", type=int, help="stop after so many, whatever the time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that reached a new line")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()

    def more(run: Run) -> bool:
        return bool(run.cases < options.cases if options.cases else run.seconds < 60 * options.minutes)

    run = fuzz(options.seed, more)
    print(f"{run.cases} cases in {run.seconds:.0f} s from {len(list(CORPUS.iterdir()))} files, seed {options.seed}")
    print(f"{run.lines} lines of the decoder and of Pillow's Python reached, {len(run.kept)} mutants reached a new one")
    print(f"most memory of one case: {run.largest / 2**20:.0f} MiB")
    for result, count in run.results.most_common():
        print(f"{count:8d} {result}")
    if options.keep:
        _write(options.keep, run.kept)
    if run.findings:
        _write(options.findings, list(run.findings.values()))
    for what in run.findings:
        print(what)
    print("MISSED" if run.findings else "kept: no crash, no hang, no more memory than promised")
    return 1 if run.findings else 0


if __name__ == "__main__":
    sys.exit(main())
