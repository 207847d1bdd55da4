"""What a batch has done so far: a file that is only ever appended to, so that whatever ends a run loses nothing."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final, Self

from limner.cli.batch_lines import Line
from limner.client.images import write
from limner.errors import InvalidRequest, LimnerError, StorageFailed

MANIFEST: Final = "batch.jsonl"

UNFINISHED: Final = re.compile(r"\.(.+)\.[0-9a-f]{8}")
"""Names of files that `limner.client.images.write` had not finished."""


class Manifest:
    """What is known of the lines of a batch in DIR/batch.jsonl: one JSON object a line, only ever appended.

    `{"line": digest, "names": [file]}` before it is painted, with `"seed": "7"` where the line has none of its own;
    then `{"line": digest, "files": [{"file", "seed", "sha256"}]}` or `{"line": digest, "error": sentence}`. Each is on
    the disk before `append` returns. What a process that was killed left half-written is passed over. One process at a
    time has it.

    Raises:
        LimnerError: another process has it.
        StorageFailed: it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seeds: dict[str, int] = {}
        self._files: dict[str, dict[str, str]] = {}
        self._names: set[str] = set()
        self._lock = threading.Lock()
        try:
            self._file = (folder / MANIFEST).open("a+b")
        except OSError as error:
            raise StorageFailed(f"{folder / MANIFEST} cannot be written: {error.strerror}.") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise LimnerError(f"Another batch is writing to {folder}; wait for it, or name another folder.") from None
        self._file.seek(0)
        for text in self._file:
            self._take(text)
        if self._file.tell() and not text.endswith(b"\n"):
            self._file.write(b"\n")

    def _take(self, text: bytes) -> None:
        try:
            record = json.loads(text)
            self._names |= set(map(str.casefold, record.get("names", [])))
            if "seed" in record:
                self.seeds[record["line"]] = int(record["seed"])
            elif "files" in record:
                self._files[record["line"]] = {file["file"]: file["sha256"] for file in record["files"]}
        except (ValueError, LookupError, TypeError, AttributeError):
            pass  # half of a line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def check(self, lines: Iterable[Line]) -> None:
        """Raises InvalidRequest where a picture of these lines would replace a file that is no batch's of here."""
        keep_strangers(self.folder, lines, self._names)

    def begin(self, lines: Iterable[Line]) -> None:
        """Write down the names of these lines' pictures, and draw the seeds of those that have none.

        Raises StorageFailed.
        """
        records: list[Mapping[str, Any]] = []
        for line in lines:
            drawn = "seed" not in line.fields and line.digest not in self.seeds
            if drawn or not self._names.issuperset(map(str.casefold, line.files)):
                seed = {"seed": str(secrets.randbits(63))} if drawn else {}
                records.append({"line": line.digest, "names": line.files, **seed})
        if records:
            self.append(records)

    def tidy(self, lines: Sequence[Line]) -> None:
        """Remove what a run that was killed had begun to write of these lines' pictures."""
        files = {file for line in lines for file in line.files}
        for path in self.folder.iterdir():
            if (found := UNFINISHED.fullmatch(path.name)) and found[1] in files:
                path.unlink(missing_ok=True)

    def done(self, line: Line) -> bool:
        """Whether all of a line's pictures are there, with the bytes that were painted."""
        return self._files.get(line.digest, {}).keys() == set(line.files) and all(
            _sha256(self.folder / file) == digest for file, digest in self._files[line.digest].items()
        )

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Any thread may call it. Raises StorageFailed."""
        texts = [json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records]
        with self._lock:
            try:
                self._file.write(b"".join(texts))
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise StorageFailed(f"{self.folder / MANIFEST} cannot be written: {error.strerror}.") from None
            for text in texts:
                self._take(text)

    def keep(self, line: Line, pictures: Iterable[tuple[int, bytes]]) -> None:
        """Write a line's pictures, seed and file each, and then that they are there. Raises StorageFailed."""
        files = []
        for name, (seed, data) in zip(line.files, pictures, strict=True):
            try:
                _sync(write(self.folder / name, data))
            except OSError as error:
                raise StorageFailed(f"{self.folder / name} could not be written: {error.strerror}.") from None
            files.append({"file": name, "seed": str(seed), "sha256": hashlib.sha256(data).hexdigest()})
        _sync(self.folder)
        self.append([{"line": line.digest, "files": files}])


def keep_strangers(folder: Path, lines: Iterable[Line], ours: Set[str] = frozenset()) -> None:
    """Raises InvalidRequest where a picture of these lines is in the folder and not among `ours`, casefolded."""
    found = [name for line in lines for name in line.files if os.path.lexists(folder / name)]
    if strangers := [name for name in found if name.casefold() not in ours]:
        others = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise InvalidRequest(
            f"{folder / strangers[0]}{others} would be replaced, and no batch in that folder wrote it; move it away, "
            "give the line another name, or name another folder."
        )


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
