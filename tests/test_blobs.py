from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from limner.errors import StorageFailed
from limner.storage.blobs import NAME, Blobs, new_name


class Clock:
    """Seconds that a test adds to the real time, which files are stamped with."""

    ahead = 0.0

    def __call__(self) -> float:
        return datetime.now(UTC).timestamp() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blobs(tmp_path: Path, clock: Clock) -> Blobs:
    return Blobs(tmp_path / "pictures", 100.0, clock)


def test_what_is_put_comes_back_with_a_strong_tag_and_its_time(blobs: Blobs) -> None:
    name = new_name()
    blobs.put(name, b"picture")
    blob = blobs.get(name)
    assert blob is not None
    assert blob.data == b"picture"
    assert blob.etag.startswith('"')
    assert blob.etag.endswith('"')
    assert blob.modified.tzinfo is not None
    assert abs((datetime.now(UTC) - blob.modified).total_seconds()) < 60
    assert blobs.get(name) == blob


def test_it_comes_back_after_a_restart_with_the_same_tag(blobs: Blobs, tmp_path: Path) -> None:
    name = new_name()
    blobs.put(name, b"picture")
    assert Blobs(tmp_path / "pictures", 100.0).get(name) == blobs.get(name)


def test_names_cannot_be_guessed_and_fit_the_pattern() -> None:
    names = {new_name() for _ in range(1000)}
    assert len(names) == 1000
    assert all(NAME.fullmatch(name) for name in names)
    assert min(len(name.removesuffix(".jpeg")) for name in names) * 6 >= 128


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x.jpeg",
        "../" + "a" * 29 + ".jpeg",
        "a" * 32,
        "a" * 32 + ".jpeg\n",
        "a" * 31 + "/.jpeg",
        "a" * 32 + ".jpeg#1",
        "é" * 32 + ".jpeg",
        "%2e" * 10 + "aa.jpeg",
        "a" * 32 + ".jpeg\x00",
    ],
)
def test_no_other_name_becomes_a_path(blobs: Blobs, tmp_path: Path, name: str) -> None:
    blobs.put(new_name(), b"makes the folder")
    (tmp_path / "secret.jpeg").write_bytes(b"secret")
    assert blobs.get(name) is None
    with pytest.raises(ValueError, match="not a blob's name"):
        blobs.put(name, b"")
    assert len(list((tmp_path / "pictures").iterdir())) == 1


def test_a_name_that_was_never_put_is_missing_and_makes_no_folder(blobs: Blobs, tmp_path: Path) -> None:
    assert blobs.get(new_name()) is None
    assert blobs.sweep() == 0
    assert list(tmp_path.iterdir()) == []


def test_an_expired_picture_is_missing_before_it_is_swept(blobs: Blobs, clock: Clock, tmp_path: Path) -> None:
    name = new_name()
    blobs.put(name, b"picture")
    clock.ahead = 90.0
    assert blobs.get(name) is not None
    clock.ahead = 101.0
    assert blobs.get(name) is None
    assert (tmp_path / "pictures" / name).exists()


def test_a_sweep_deletes_what_has_expired_and_nothing_else(blobs: Blobs, clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    old, young = new_name(), new_name()
    blobs.put(old, b"old")
    blobs.put(young, b"young")
    leftover = folder / f"{new_name()}#1"  # what obstore leaves of a write that a crash cut short
    leftover.write_bytes(b"half")
    foreign = folder / "notes.txt"
    foreign.write_text("not ours")
    for path in (folder / old, leftover, foreign):
        os.utime(path, (1, 1))
    assert blobs.sweep() == 2
    assert {path.name for path in folder.iterdir()} == {young, "notes.txt"}
    clock.ahead = 101.0
    assert blobs.sweep() == 1
    assert {path.name for path in folder.iterdir()} == {"notes.txt"}


def test_the_sweeper_sweeps_by_itself_until_it_is_closed(tmp_path: Path) -> None:
    swept = threading.Event()

    class Watched(Blobs):
        def sweep(self) -> int:
            count = super().sweep()
            if count:
                swept.set()
            return count

    blobs = Watched(tmp_path / "pictures", 100.0)
    blobs.keep_swept(every=0.01)
    name = new_name()
    blobs.put(name, b"picture")
    os.utime(tmp_path / "pictures" / name, (1, 1))
    assert swept.wait(30)
    assert not (tmp_path / "pictures" / name).exists()
    blobs.close()
    blobs.close()
    assert "limner-sweeper" not in {thread.name for thread in threading.enumerate()}


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from limner.errors import StorageFailed
from limner.storage.blobs import Blobs, new_name
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
blobs = Blobs(Path({str(tmp_path)!r}), 100.0)
small, large = new_name(), new_name()
blobs.put(small, b"fits")
try:
    blobs.put(large, b"x" * 100_000)
except StorageFailed as error:
    assert "disk is full" in error.message and {str(tmp_path)!r} not in error.message
    assert blobs.get(large) is None and blobs.get(small).data == b"fits"
    print("refused", sorted(p.name for p in Path({str(tmp_path)!r}).iterdir()) == [small])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused True" in done.stdout


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailed, match="could not be kept"):
        Blobs(tmp_path / "file" / "pictures", 100.0).put(new_name(), b"picture")


def test_a_picture_that_cannot_be_read_is_a_sentence(blobs: Blobs, tmp_path: Path) -> None:
    name = new_name()
    blobs.put(new_name(), b"makes the folder")
    (tmp_path / "pictures" / name).symlink_to(name)  # a loop, which not even root can read
    with pytest.raises(StorageFailed, match="cannot be read"):
        blobs.get(name)


def test_many_threads_may_put_at_once(blobs: Blobs) -> None:
    names = [new_name() for _ in range(40)]
    threads = [threading.Thread(target=blobs.put, args=(name, name.encode())) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        blob = blobs.get(name)
        assert blob is not None
        assert blob.data == name.encode()
