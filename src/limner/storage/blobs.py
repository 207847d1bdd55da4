"""Pictures and references as blobs under unguessable names: in a folder, in S3, GCS or Azure, or in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from limner import counters
from limner.config import Settings
from limner.errors import StorageFailed
from limner.storage.stores import bucket_missing, open_store, reason

if TYPE_CHECKING:
    from obstore.store import ObjectStore

log = structlog.get_logger(__name__)
T = TypeVar("T")

THREADS = 8

TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "reference": "application/octet-stream"}
"""Kinds of blobs, which names end in, with the media type that a cloud serves them as."""

NAME = re.compile(rf"[A-Za-z0-9_-]{{32}}\.({'|'.join(TYPES)})")
"""What a blob's name looks like: 192 random bits in URL-safe base64 and a kind. Nothing else ever becomes a path."""

LONGEST_LINK = timedelta(days=7)
"""How long a signed address can be valid at most (the limit of AWS Signature Version 4)."""

_LEFTOVER = re.compile(rf"{NAME.pattern}#\d+")  # obstore's listings of a folder hide such names
_LEFTOVER_SECONDS = 3600.0  # no write takes that long


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored picture or reference."""

    data: bytes
    etag: str  # of the data alone, quoted, as the ETag header carries it (RFC 9110, 8.8.3)
    modified: datetime  # when it was last written, UTC


def new_name(kind: str = "jpeg") -> str:
    """A fresh name that nobody can guess, for a blob of this kind (a key of `TYPES`)."""
    if kind not in TYPES:
        raise ValueError(f"not a kind of blob: {kind!r}")
    return f"{secrets.token_urlsafe(24)}.{kind}"


class Blobs:
    """The blobs in one place. Safe to share between threads and processes.

    Args:
        store: a folder, made with the first blob and for its owner alone; or an object store of obstore's.
    """

    def __init__(self, store: Path | ObjectStore) -> None:
        self.folder = store if isinstance(store, Path) else None
        self._remote = None if isinstance(store, Path) else store
        self._threads = ThreadPoolExecutor(THREADS, "limner-store")

    @classmethod
    def open(cls, settings: Settings) -> Blobs:
        """The blobs of `store_url`, else of `data_dir`. A cloud is asked once whether it lets us in.

        Raises:
            SettingsInvalid: the URL or an option cannot be used, the bucket is missing, or the credentials are
                missing or refused, or nobody answers within `storage_seconds`.
        """
        if settings.store_url is None:
            return cls(settings.data_dir / "pictures")
        return cls(open_store(settings.store_url, settings.store_options, settings.storage_seconds))

    @classmethod
    def in_memory(cls) -> Blobs:
        """Blobs that are gone with the process."""
        return cls(MemoryStore())

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` returns, called in a thread of the store's own: one that hangs holds up nothing else.

        A task that is cancelled meanwhile waits for it all the same, as a thread cannot be stopped; it is then
        cancelled.
        """
        working = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait((working,))
            raise

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, whole and durable, in place of what was there.

        Where it fails, the one or the other is there, whole.

        Raises:
            StorageFailed: the disk is full or cannot be written, or the store did not take it within
                `storage_seconds`.
            ValueError: `name` is not one of `new_name`.
        """
        kind = _kind(name)
        with _told(
            self,
            "put",
            "blob not kept",
            "The picture could not be kept: the disk or the store that pictures go to is full, cannot be reached or "
            "refuses it. Try again later; the service's log says what is wrong.",
        ):
            if self.folder is not None:
                _write(self.folder, name, data)
            else:
                attributes = {"Content-Type": TYPES[kind]}
                obstore.put(self._store(), name, data, attributes=attributes, use_multipart=False)

    def get(self, name: str) -> Blob | None:
        """The blob of this name, or None where there is none or `name` is not a blob's name.

        Raises:
            StorageFailed: it is there and cannot be read, or the store does not answer.
        """
        if not NAME.fullmatch(name):
            return None
        with _told(self, "get", "blob not read", "The picture is stored but cannot be read now. Try again later."):
            if self._empty():
                return None
            try:
                found = obstore.get(self._store(), name)
                data = bytes(found.bytes())
            except FileNotFoundError as error:
                if bucket_missing(error):
                    raise
                return None
        # Of the data, so that a picture that was painted again after a crash keeps its tag, in every store.
        return Blob(data, f'"{hashlib.sha256(data).hexdigest()[:32]}"', found.meta["last_modified"])

    def delete(self, names: Sequence[str]) -> None:
        """Delete these blobs for good; those that are not there are passed over.

        Raises:
            StorageFailed: some are perhaps still there.
            ValueError: a name is not one of `new_name`; nothing was deleted.
        """
        for name in names:
            _kind(name)
        with _told(self, "delete", "blobs not deleted", "The pictures could not be deleted now. Try again later."):
            if not names or self._empty():
                return
            try:
                obstore.delete(self._store(), list(names))
            except FileNotFoundError:  # a folder, GCS and Azure stop there
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        obstore.delete(self._store(), name)
            if self.folder is not None:
                _flush(self.folder)

    def link(self, name: str, seconds: float) -> str | None:
        """An address to GET the blob from, signed for so many seconds, at most 7 days; None for a folder or memory.

        Raises:
            StorageFailed: the store's credentials cannot sign.
            ValueError: `name` is not one of `new_name`.
        """
        _kind(name)
        if not isinstance(self._remote, S3Store | GCSStore | AzureStore):
            return None
        with _told(
            self, "sign", "link not signed", "The picture is kept, but no link to it could be made. Try again later."
        ):
            expires = min(timedelta(seconds=max(1.0, seconds)), LONGEST_LINK)
            return obstore.sign(self._remote, "GET", name, expires)

    def names(self, older_than: float) -> Iterator[str]:
        """Every blob's name that was last written before that Unix time, in no order.

        On the way, what writes cut short left in a folder is removed once it is an hour old.

        Raises:
            StorageFailed: the place cannot be listed.
        """
        with _told(self, "list", "blobs not listed", "The stored pictures cannot be listed now. Try again later."):
            if self._empty():
                return
            if self.folder is not None:
                _sweep(self.folder)
            before = datetime.fromtimestamp(older_than, UTC)
            for batch in obstore.list(self._store()):
                for blob in batch:
                    if NAME.fullmatch(blob["path"]) and blob["last_modified"] < before:
                        yield blob["path"]

    def _empty(self) -> bool:
        return self.folder is not None and not self.folder.is_dir()

    def _store(self) -> ObjectStore:
        return self._remote or LocalStore(self.folder)

    def __str__(self) -> str:
        return str(self.folder or self._remote)


def _kind(name: str) -> str:
    if not (match := NAME.fullmatch(name)):
        raise ValueError(f"not a blob's name: {name!r}")
    return match[1]


@contextlib.contextmanager
def _told(blobs: Blobs, operation: str, event: str, sentence: str) -> Iterator[None]:
    """Count and time an operation; log what the store says against it, and raise StorageFailed with the sentence."""
    try:
        with counters.STORE.of(operation):
            yield
    except (OSError, BaseError) as error:
        counters.STORE.failed.add(operation)
        log.error(event, store=str(blobs), reason=reason(error))
        raise StorageFailed(sentence) from None


# A folder


def _write(folder: Path, name: str, data: bytes) -> None:
    """Write beside the target, flush, rename, flush the folder: after a power cut the name is whole or not there.

    obstore writes beside and renames, too, but does not flush before it renames.
    """
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _flush(folder.parent)
    beside = folder / f"{name}#{secrets.randbelow(10**12)}"
    try:
        with open(beside, "xb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    _flush(folder)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _flush(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be flushed
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _LEFTOVER.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):  # its write has ended, or someone else swept it
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - _LEFTOVER_SECONDS:
                        Path(entry.path).unlink()
