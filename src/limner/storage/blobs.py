"""Finished pictures under unguessable names, for as long as their links live."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from limner.errors import StorageFailed

log = structlog.get_logger(__name__)

NAME = re.compile(r"[A-Za-z0-9_-]{32}\.jpeg")
"""What a blob's name looks like: 192 random bits in URL-safe base64. Nothing else ever becomes a path."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored picture."""

    data: bytes
    etag: str  # quoted, as the ETag header carries it (RFC 9110, 8.8.3)
    modified: datetime  # when it was written, UTC


def new_name() -> str:
    """A fresh name that nobody can guess."""
    return f"{secrets.token_urlsafe(24)}.jpeg"


class Blobs:
    """A folder of pictures that vanish `lifetime` seconds after they were written. Safe to share between threads.

    The folder is made with the first picture. `clock` tells the time in seconds since the epoch, as the file system
    does.
    """

    def __init__(self, folder: Path, lifetime: float, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.lifetime = lifetime
        self._clock = clock
        self._stop = threading.Event()
        self._sweeper: threading.Thread | None = None

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, whole and on disk, or not at all.

        Raises:
            StorageFailed: the disk is full or the folder cannot be written.
            ValueError: `name` is not one of `new_name`.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"not a blob's name: {name!r}")
        try:
            # obstore writes beside the target and renames, but leaves flushing to the system. A power cut could then
            # leave an empty file under a link that was handed out, so both file and folder are flushed here.
            obstore.put(self._store(create=True), name, data, use_multipart=False)
            if os.name == "posix":  # elsewhere a folder, or what is open for reading alone, cannot be flushed
                _flush(self.folder / name)
                _flush(self.folder)
        except (OSError, BaseError) as error:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)
            log.error("picture not kept", folder=str(self.folder), reason=str(error).partition("\n")[0])
            raise StorageFailed(
                "The picture was painted but could not be kept: the service's disk is full or cannot be written. Ask "
                "for base64 instead of a link, or have the operator look at data_dir."
            ) from None

    def get(self, name: str) -> Blob | None:
        """The picture of this name, or None where there is none, it has expired, or `name` is not a blob's name.

        Raises:
            StorageFailed: it is there and cannot be read.
        """
        if not NAME.fullmatch(name) or not self.folder.is_dir():
            return None
        try:
            result = obstore.get(self._store(), name)
            meta = result.meta
            if self._expired(meta["last_modified"]):
                return None
            return Blob(bytes(result.bytes()), meta["e_tag"] or f'"{name}"', meta["last_modified"])
        except FileNotFoundError:
            return None
        except (OSError, BaseError) as error:
            log.error("picture not read", folder=str(self.folder), reason=str(error).partition("\n")[0])
            raise StorageFailed("The picture is stored but cannot be read now. Try again later.") from None

    def sweep(self) -> int:
        """Delete what has expired from disk, leftovers of writes that a crash cut short too; how many files went."""
        if not self.folder.is_dir():
            return 0
        swept = 0
        # A listing of obstore hides its half-written files (name#1), so the folder itself is read.
        with os.scandir(self.folder) as entries:
            for entry in entries:
                ours = NAME.fullmatch(entry.name.partition("#")[0])
                with contextlib.suppress(FileNotFoundError):  # someone else swept it
                    if ours and self._expired(datetime.fromtimestamp(entry.stat().st_mtime, UTC)):
                        Path(entry.path).unlink()
                        swept += 1
        return swept

    def keep_swept(self, every: float) -> None:
        """Sweep now and every so many seconds in a thread of its own, until `close`."""

        def run() -> None:
            while True:
                try:
                    swept = self.sweep()
                except OSError as error:
                    log.error("sweep failed", folder=str(self.folder), reason=error.strerror)
                else:
                    log.debug("swept", pictures=swept)
                if self._stop.wait(every):
                    return

        self._sweeper = threading.Thread(target=run, name="limner-sweeper", daemon=True)
        self._sweeper.start()

    def close(self) -> None:
        """Stop sweeping. May be called twice."""
        self._stop.set()
        if self._sweeper is not None:
            self._sweeper.join()

    def _expired(self, written: datetime) -> bool:
        return self._clock() >= written.timestamp() + self.lifetime

    def _store(self, *, create: bool = False) -> LocalStore:
        return LocalStore(self.folder, mkdir=create)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
