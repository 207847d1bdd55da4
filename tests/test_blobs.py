"""The same blobs in a folder, in memory and in a real S3, and what becomes of them when something fails."""

from __future__ import annotations

import json
import math
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import obstore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from obstore.store import AzureStore, GCSStore
from structlog.testing import capture_logs

from limner.config import Settings
from limner.errors import SettingsInvalid, StorageFailed
from limner.storage.blobs import NAME, Blobs, new_name
from servers import S3, FaultyProxy, faulty, free_ports

NO_NAMES = [
    "",
    "x.jpeg",
    "../" + "a" * 29 + ".jpeg",
    "/" + "a" * 31 + ".jpeg",
    "/etc/passwd",
    "a" * 32,
    "a" * 32 + ".jpeg\n",
    "a" * 31 + "/.jpeg",
    "a" * 31 + "\\.jpeg",
    "a" * 32 + ".jpeg#1",
    "a" * 32 + ".gif",
    "a" * 32 + ".jpeg.png",
    "a" * 32 + ".JPEG",
    "a" * 33 + ".jpeg",
    "é" * 32 + ".jpeg",
    "％" * 32 + ".png",
    "%2e" * 10 + "aa.jpeg",
    "a" * 32 + ".jpeg\x00",
    "\x00" * 32 + ".jpeg",
]

PEM = Encoding.PEM
LATER = 1e11  # Unix time, longer ahead than any test runs


@pytest.fixture
def credentials(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["folder", "memory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    match request.param:
        case "folder":
            return Blobs.open(Settings(data_dir=tmp_path))
        case "memory":
            return Blobs.in_memory()
        case _:
            return request.getfixturevalue("bucket")()


@pytest.fixture
def bucket(s3: S3, credentials: None, tmp_path: Path) -> Callable[..., Blobs]:
    """Opens blobs under a prefix of the test's own, at the server or at a proxy before it."""

    def open_bucket(proxy: FaultyProxy | None = None, **options: float) -> Blobs:
        return Blobs.open(
            Settings(
                data_dir=tmp_path,
                store_url=s3.store_url(tmp_path.name),
                store_options=s3.store_options(proxy and proxy.endpoint),
                **options,
            )
        )

    return open_bucket


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultyProxy]:
    with faulty(s3.port) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


# In every place


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


def test_an_empty_blob_and_one_of_megabytes_come_back(blobs: Blobs) -> None:
    for data in (b"", os.urandom(12_000_000)):
        name = new_name("png")
        blobs.put(name, data)
        blob = blobs.get(name)
        assert blob is not None
        assert blob.data == data


def test_the_same_bytes_written_again_keep_the_tag_and_others_change_it(blobs: Blobs) -> None:
    name, twin = new_name(), new_name()
    tags = []
    for data in (b"picture", b"picture", b"another"):
        blobs.put(name, data)
        blob = blobs.get(name)
        assert blob is not None
        assert blob.data == data
        tags.append(blob.etag)
    assert tags[0] == tags[1] != tags[2]
    blobs.put(twin, b"picture")
    blob = blobs.get(twin)
    assert blob is not None
    assert blob.etag == tags[0]


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_other_name_becomes_a_path(blobs: Blobs, tmp_path: Path, name: str) -> None:
    kept = new_name()
    blobs.put(kept, b"kept")
    (tmp_path / "secret.jpeg").write_bytes(b"secret")
    before = sorted(tmp_path.rglob("*"))
    assert blobs.get(name) is None
    for call in (lambda: blobs.put(name, b""), lambda: blobs.delete([kept, name]), lambda: blobs.link(name, 60)):
        with pytest.raises(ValueError, match="not a blob's name"):
            call()
    assert list(blobs.names(LATER)) == [kept]
    assert sorted(tmp_path.rglob("*")) == before


def test_names_cannot_be_guessed_and_say_their_kind() -> None:
    names = {new_name() for _ in range(1000)}
    assert len(names) == 1000
    assert all(NAME.fullmatch(name) for name in names)
    assert min(len(name.removesuffix(".jpeg")) for name in names) * 6 >= 192
    for kind in ("png", "webp", "reference"):
        assert NAME.fullmatch(new_name(kind))
        assert new_name(kind).endswith(f".{kind}")
    with pytest.raises(ValueError, match="not a kind"):
        new_name("gif")


def test_what_was_never_put_is_missing_and_makes_nothing(blobs: Blobs, tmp_path: Path) -> None:
    assert blobs.get(new_name()) is None
    blobs.delete([new_name()])
    blobs.delete([])
    assert list(blobs.names(LATER)) == []
    assert list(tmp_path.iterdir()) == []


def test_the_named_are_deleted_whether_or_not_they_are_there(blobs: Blobs) -> None:
    gone, kept = [new_name("reference") for _ in range(40)], new_name()
    for name in (*gone, kept):
        blobs.put(name, b"picture")
    blobs.delete([new_name(), *gone[:20], new_name(), *gone[20:]])
    assert [blobs.get(name) for name in gone] == [None] * 40
    assert list(blobs.names(LATER)) == [kept]
    blobs.delete(gone)


def test_names_are_told_by_age(blobs: Blobs) -> None:
    names = {new_name(), new_name("webp")}
    for name in names:
        blobs.put(name, b"picture")
    assert set(blobs.names(time.time() + 60)) == names
    assert set(blobs.names(time.time() - 60)) == set()


def test_many_threads_may_put_at_once(blobs: Blobs) -> None:
    names = [new_name() for _ in range(40)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda name: blobs.put(name, name.encode()), names))
        found = list(threads.map(blobs.get, names))
    assert [blob and blob.data for blob in found] == [name.encode() for name in names]


def test_threads_that_write_one_name_leave_one_of_their_versions(blobs: Blobs) -> None:
    name, versions = new_name(), [bytes([number]) * 300_000 for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda data: blobs.put(name, data), versions):
            blob = blobs.get(name)
            assert blob is not None
            assert blob.data in versions
    assert list(blobs.names(LATER)) == [name]


# A folder


def test_a_folder_is_for_its_owner_alone(folder: Path) -> None:
    name = new_name()
    Blobs(folder).put(name, b"picture")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_folder_is_found_again_after_a_restart(folder: Path) -> None:
    name = new_name()
    Blobs(folder).put(name, b"picture")
    assert Blobs(folder).get(name) == Blobs(folder).get(name) is not None


def test_a_folder_may_be_named_by_a_url(tmp_path: Path) -> None:
    place = tmp_path / "über all" / "50% #1"
    name = new_name()
    Blobs.open(Settings(data_dir=tmp_path, store_url=place.as_uri())).put(name, b"picture")
    assert (place / name).read_bytes() == b"picture"


def test_listing_a_folder_leaves_what_is_not_ours_and_sweeps_old_leftovers(folder: Path) -> None:
    blobs = Blobs(folder)
    name = new_name()
    blobs.put(name, b"picture")
    old, young, foreign = folder / f"{new_name()}#17", folder / f"{new_name()}#3", folder / "notes.txt#1"
    deep = folder / "album" / new_name()
    deep.parent.mkdir()
    for path in (old, young, foreign, deep):
        path.write_bytes(b"half")
        os.utime(path, None if path == young else (1, 1))
    assert list(blobs.names(LATER)) == [name]
    assert {path.name for path in folder.iterdir()} == {name, young.name, "notes.txt#1", "album"}
    assert deep.exists()


def test_a_process_killed_at_any_moment_of_a_write_leaves_the_old_bytes_or_the_new(folder: Path) -> None:
    # Each child is killed at another of the system calls that Python tells of; the last ones in the middle of the
    # bytes, by the limit on a file's size.
    script = f"""
import os, resource, signal, sys
from pathlib import Path
from limner.storage.blobs import Blobs, new_name

folder, old, new = Path({str(folder)!r}), b"old" * 9, b"new" * 99_999
blobs = Blobs(folder)

def killed(name, moment, limit):
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    calls = iter(range(moment))
    def hook(event, arguments):
        if event.partition(".")[0] in ("open", "os") and event != "os.kill" and next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    sys.addaudithook(hook)
    blobs.put(name, new)
    os._exit(0)

def there(name):
    path = folder / name
    return path.read_bytes() if path.exists() else None

for first in (True, False):
    for moment in range(100):
        name = new_name()
        if not first:
            blobs.put(name, old)
        by = killed(name, moment, resource.RLIM_INFINITY)
        assert there(name) in (None if first else old, new), (first, moment)
        if by == 0:
            assert there(name) == new
            break
        assert by == signal.SIGKILL
    print("moments", moment)
    for limit in (1, 8192, 200_000):
        name = new_name()
        if not first:
            blobs.put(name, old)
        assert killed(name, 100, limit) == signal.SIGXFSZ
        assert there(name) == (None if first else old)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    moments = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert min(moments) >= 3  # the file beside opened, renamed, the folder opened
    leftovers = [path for path in folder.iterdir() if "#" in path.name]
    assert len(leftovers) >= 8
    assert any(0 < path.stat().st_size < 3 * 99_999 for path in leftovers)
    blobs = Blobs(folder)
    assert not any("#" in name for name in blobs.names(LATER))
    assert all(path.exists() for path in leftovers)  # they may still be being written
    for path in leftovers:
        os.utime(path, (1, 1))
    whole = set(blobs.names(LATER))
    assert {path.name for path in folder.iterdir()} == whole
    assert {(folder / name).read_bytes() for name in whole} == {b"old" * 9, b"new" * 99_999}


def test_bytes_are_on_disk_before_they_get_their_name_and_the_name_before_put_returns(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, flushed = new_name(), []
    flush = os.fsync

    def watched(descriptor: int) -> None:
        flush(descriptor)
        files = [path for path in folder.iterdir() if path.is_file()]
        flushed.append([("named" if path.name == name else "beside", path.stat().st_size) for path in files])

    monkeypatch.setattr(os, "fsync", watched)
    Blobs(folder).put(name, b"picture")
    assert flushed == [[], [("beside", 7)], [("named", 7)]]  # the folder's own name, the bytes, the blob's name


def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from limner.errors import StorageFailed
from limner.storage.blobs import Blobs, new_name
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
folder = Path({str(tmp_path)!r})
blobs = Blobs(folder)
small, large = new_name(), new_name()
blobs.put(small, b"fits")
for name in (large, small):
    try:
        blobs.put(name, b"x" * 100_000)
    except StorageFailed as error:
        assert "is full" in error.message and str(folder) not in error.message and error.retryable
        assert blobs.get(large) is None and blobs.get(small).data == b"fits"
        print("refused", sorted(path.name for path in folder.iterdir()) == [small])
blobs.put(large, b"fits now")
print("kept", blobs.get(large).data)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused True") == 2
    assert "File too large" in done.stdout + done.stderr  # the log says why
    assert "kept b'fits now'" in done.stdout


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "pictures", tmp_path / ("x" * 300)):
        with pytest.raises(StorageFailed, match="could not be kept"):
            Blobs(folder).put(new_name(), b"picture")
    blobs = Blobs(tmp_path / ("x" * 300))  # of which the system does not even say that it is not there
    with pytest.raises(StorageFailed, match="cannot be read"):
        blobs.get(new_name())
    with pytest.raises(StorageFailed, match="could not be deleted"):
        blobs.delete([new_name()])
    with pytest.raises(StorageFailed, match="cannot be listed"):
        list(blobs.names(LATER))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_that_vanished_is_empty_and_comes_back_with_the_next_blob(folder: Path) -> None:
    blobs = Blobs(folder)
    name = new_name()
    blobs.put(name, b"picture")
    shutil.rmtree(folder)
    assert blobs.get(name) is None
    assert list(blobs.names(LATER)) == []
    blobs.delete([name])
    assert not folder.exists()
    blobs.put(name, b"picture")
    assert blobs.get(name) is not None


def test_a_blob_that_cannot_be_read_or_deleted_is_a_sentence(folder: Path) -> None:
    blobs = Blobs(folder)
    loop, taken = new_name(), new_name()
    blobs.put(new_name(), b"makes the folder")
    (folder / loop).symlink_to(loop)  # which not even root can read
    (folder / taken / "inside").mkdir(parents=True)
    with pytest.raises(StorageFailed, match="cannot be read"):
        blobs.get(loop)
    with pytest.raises(StorageFailed, match="could not be deleted"):
        blobs.delete([taken])


# S3


def test_a_bucket_is_found_again_under_its_prefix(s3: S3, bucket: Callable[..., Blobs], tmp_path: Path) -> None:
    name = new_name()
    bucket().put(name, b"picture")
    assert bucket().get(name) == bucket().get(name) is not None
    behind = s3.store(tmp_path.name)
    obstore.put(behind, "notes.txt", b"not ours")
    obstore.put(behind, f"album/{new_name()}", b"not ours")
    assert list(bucket().names(LATER)) == [name]
    found = obstore.get(behind, name)
    assert bytes(found.bytes()) == b"picture"
    assert found.attributes["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("written", "prefix"),
    [
        ("präfix/ü", "präfix/ü"),
        ("pr%C3%A4fix/%C3%BC", "präfix/ü"),
        ("a b/", "a b"),
        ("50%25", "50%"),
        ("[a-z]+.*", "[a-z]+.*"),
    ],
)
def test_a_prefix_is_taken_as_it_is_written(s3: S3, credentials: None, written: str, prefix: str) -> None:
    name = new_name()
    url = f"s3://{s3.bucket}/{written}"
    blobs = Blobs.open(Settings(store_url=url, store_options=s3.store_options()))
    blobs.put(name, b"picture")
    assert bytes(obstore.get(s3.store(prefix), name).bytes()) == b"picture"
    assert name in set(blobs.names(LATER))
    link = blobs.link(name, 60)
    assert link is not None
    assert httpx2.get(link, trust_env=False).content == b"picture"


def test_more_blobs_than_one_listing_holds_are_all_told_and_all_deleted(bucket: Callable[..., Blobs]) -> None:
    blobs = bucket()
    names = {new_name() for _ in range(1010)}  # S3 lists and deletes a thousand at a time
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: blobs.put(name, b""), names))
    assert set(blobs.names(LATER)) == names
    blobs.delete(sorted(names))
    assert set(blobs.names(LATER)) == set()


def test_answers_of_500_are_waited_out(bucket: Callable[..., Blobs], proxy: FaultyProxy) -> None:
    blobs = bucket(proxy, storage_seconds=16.0)
    name = new_name()
    calls: list[Callable[[], object]] = [
        lambda: blobs.put(name, b"picture"),
        lambda: blobs.get(name),
        lambda: list(blobs.names(LATER)),
        lambda: blobs.delete([name]),
    ]
    for call in calls:
        proxy.failing = 3
        proxy.requests.clear()
        call()
        assert len(proxy.requests) == 4
    assert blobs.get(name) is None


def test_a_download_cut_short_is_never_served_by_half(bucket: Callable[..., Blobs], proxy: FaultyProxy) -> None:
    blobs, hasty, name, data = bucket(proxy), bucket(proxy, storage_seconds=0.5), new_name(), os.urandom(300_000)
    blobs.put(name, data)
    proxy.cut_answers = 1
    blob = blobs.get(name)
    assert blob is not None
    assert blob.data == data
    proxy.cut_answers = 1000
    with pytest.raises(StorageFailed, match="cannot be read now"):
        hasty.get(name)


def test_an_upload_cut_short_leaves_what_was_there(s3: S3, bucket: Callable[..., Blobs], proxy: FaultyProxy) -> None:
    blobs, new, old = bucket(proxy, storage_seconds=0.5), new_name(), new_name()
    blobs.put(old, b"old")
    proxy.cut_requests = True
    for name in (new, old):
        with pytest.raises(StorageFailed, match="could not be kept"):
            blobs.put(name, b"new" * 10_000)
    assert bucket().get(new) is None
    kept = bucket().get(old)
    assert kept is not None
    assert kept.data == b"old"


# A plain store of obstore's would try for minutes: the tests' own time limit is what these would run into.
@pytest.mark.parametrize("fault", ["failing", "silent", "gone"])
def test_a_store_that_is_away_is_a_sentence_in_time(
    s3: S3, bucket: Callable[..., Blobs], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(s3.port) as proxy:
        blobs = bucket(proxy, storage_seconds=0.6)
        name = new_name()
        blobs.put(name, b"picture")
        proxy.failing = math.inf if fault == "failing" else 0
        proxy.silent = fault == "silent"
        if fault == "gone":
            proxy.server_close()
        with capture_logs() as logs:
            with pytest.raises(StorageFailed, match="could not be kept") as failed:
                blobs.put(new_name(), b"picture")
            with pytest.raises(StorageFailed, match="cannot be read"):
                blobs.get(name)
            with pytest.raises(StorageFailed, match="could not be deleted"):
                blobs.delete([name])
            with pytest.raises(StorageFailed, match="cannot be listed"):
                list(blobs.names(LATER))
    assert failed.value.retryable
    said = {"failing": "500 Internal Server Error", "silent": "Timeout", "gone": "Connection refused"}[fault]
    assert [line["reason"] for line in logs] == [said] * 4
    assert not any(secret in str(logs) for secret in (s3.secret_key, s3.access_key, "Signature", "X-Amz"))
    found = bucket().get(name)
    assert found is not None
    assert found.data == b"picture"


def test_a_bucket_that_vanished_is_no_missing_picture(s3: S3) -> None:
    gone = S3(s3.daemon, s3.port, "vanished", s3.access_key, s3.secret_key)
    blobs = Blobs(gone.store("prefix"))
    with pytest.raises(StorageFailed, match="cannot be read"):
        blobs.get(new_name())
    with pytest.raises(StorageFailed, match="could not be kept"):
        blobs.put(new_name(), b"picture")


# Links


def test_a_folder_and_memory_have_no_links(folder: Path) -> None:
    for blobs in (Blobs(folder), Blobs.in_memory()):
        name = new_name()
        blobs.put(name, b"picture")
        assert blobs.link(name, 60) is None


def test_anyone_can_get_the_picture_by_its_link_and_do_nothing_else(bucket: Callable[..., Blobs]) -> None:
    blobs, name, other = bucket(), new_name("webp"), new_name()
    blobs.put(name, b"picture")
    blobs.put(other, b"another")
    link = blobs.link(name, 60)
    assert link is not None
    with httpx2.Client(trust_env=False) as client:
        answer = client.get(link)
        assert answer.status_code == 200
        assert answer.content == b"picture"
        assert answer.headers["content-type"] == "image/webp"
        signature = parse_qs(urlsplit(link).query)["X-Amz-Signature"][0]
        wrong = signature[:-1] + ("0" if signature[-1] != "0" else "1")
        refused = [
            client.get(link.replace(signature, wrong)),
            client.get(link.replace(name, other)),
            client.get(link.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")),
            client.get(link.partition("?")[0]),
            client.put(link, content=b"mine"),
            client.delete(link),
        ]
    assert [answer.status_code for answer in refused] == [403] * 6
    kept = blobs.get(name)
    assert kept is not None
    assert kept.data == b"picture"


def test_a_link_ends_with_its_time(bucket: Callable[..., Blobs]) -> None:
    blobs, name = bucket(), new_name()
    blobs.put(name, b"picture")
    link = blobs.link(name, 0.1)  # a second, the shortest there is
    assert link is not None
    with httpx2.Client(trust_env=False) as client:
        while client.get(link).status_code == 200:  # without end where links have none
            time.sleep(0.1)
        assert client.get(link).status_code == 403


def test_no_link_is_signed_for_more_than_a_week(bucket: Callable[..., Blobs]) -> None:
    link = bucket().link(new_name(), 1e9)
    assert link is not None
    assert parse_qs(urlsplit(link).query)["X-Amz-Expires"] == [str(7 * 24 * 3600)]


def test_gcs_and_azure_sign_links_by_themselves() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    account = {
        "type": "service_account", "client_email": "test@example.com", "private_key": key.decode(),
        "private_key_id": "1", "token_uri": "http://127.0.0.1:9/token",
    }  # fmt: skip
    name = new_name()
    google = Blobs(GCSStore("bucket", prefix="here", service_account_key=json.dumps(account))).link(name, 1e9)
    assert google is not None
    assert google.startswith(f"https://storage.googleapis.com/bucket/here/{name}?")
    assert parse_qs(urlsplit(google).query)["X-Goog-Expires"] == [str(7 * 24 * 3600)]
    azure = Blobs(AzureStore("box", prefix="here", account_name="me", account_key="aGVsbG8=")).link(name, 60)
    assert azure is not None
    assert azure.startswith(f"https://me.blob.core.windows.net/box/here/{name}?")
    query = parse_qs(urlsplit(azure).query)
    assert query["sp"] == ["r"]
    begins, ends = (datetime.fromisoformat(query[name][0]) for name in ("st", "se"))
    assert ends - begins == timedelta(seconds=60)


# Settings

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        ("ftp://bucket", {}, "no store that Limner knows"),
        ("pictures", {}, "no store that Limner knows"),
        ("http://127.0.0.1:9000/bucket", {}, "no store that Limner knows"),
        ("memory:///", {}, "no store that Limner knows"),
        (f"{SECRET}://bucket", {}, "no store that Limner knows"),
        ("s3://[", {}, "no store that Limner knows"),
        ("s3://", {}, "names no bucket"),
        ("s3:///prefix", {}, "names no bucket"),
        ("az://", {}, "names no container"),
        ("gs://büro", {}, "names no bucket"),
        ("s3://bucket:9000", {}, "names no bucket"),
        (f"s3://key:{SECRET}@bucket", {}, "holds a user name"),
        (f"s3://bucket?secret_access_key={SECRET}", {}, "holds a user name, a query"),
        (f"s3://bucket#{SECRET}", {}, "a fragment"),
        ("file://pictures", {}, "three slashes"),
        ("file://host/pictures", {}, "three slashes"),
        ("file:///pictures%00", {}, "three slashes"),
        ("file:///pictures", {"endpoint": "http://127.0.0.1:9"}, "no meaning for a folder"),
        ("s3://bucket/../up", {}, "cannot be used"),
        ("s3://bucket/a//b", {}, "cannot be used"),
        ("s3://bucket", {"reigon": SECRET}, "names reigon, which a store of s3://bucket does not have"),
        ("gs://bucket", {"region": SECRET}, "names region, which a store of gs://bucket does not have"),
        ("s3://bucket", {"virtual_hosted_style_request": SECRET}, "as boolean"),
        ("s3://bucket", {"endpoint": SECRET}, "endpoint is no address"),
        ("s3://bucket", {"aws_endpoint_url_s3": f"nonsense {SECRET}"}, "aws_endpoint_url_s3 is no address"),
        ("s3://bucket", {"endpoint": f"https://key:{SECRET}@host"}, "holds a secret, endpoint"),
        ("s3://bucket", {"proxy_url": f"http://key:{SECRET}@host"}, "holds a secret, proxy_url"),
        ("s3://bucket", {"secret_access_key": SECRET}, "AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket", {"AWS_SESSION_TOKEN": SECRET}, "holds a secret, AWS_SESSION_TOKEN"),
        ("gs://bucket", {"service_account_key": SECRET}, "GOOGLE_SERVICE_ACCOUNT"),
        ("az://box", {"account_key": SECRET}, "AZURE_STORAGE_ACCOUNT_KEY"),
        ("az://box", {"sas_token": SECRET}, "holds a secret, sas_token"),
        ("az://box", {}, "no credentials for az://box"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_a_sentence_without_the_secret(
    url: str, options: dict[str, str], sentence: str, credentials: None
) -> None:
    with capture_logs() as logs, pytest.raises(SettingsInvalid, match=sentence) as refused:
        Blobs.open(Settings(store_url=url, store_options=options, storage_seconds=0.1))
    assert SECRET not in str(refused.value) + str(logs)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def open_s3(s3: S3, **changed: str) -> Blobs:
    url = changed.pop("url", s3.store_url())
    return Blobs.open(Settings(store_url=url, store_options=s3.store_options() | changed, storage_seconds=0.5))


def test_a_bucket_that_is_not_there_is_a_sentence(s3: S3, credentials: None) -> None:
    with pytest.raises(SettingsInvalid, match=r"The bucket s3://elsewhere is not there\."):
        open_s3(s3, url="s3://elsewhere/prefix")


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_refused_credentials_are_a_sentence_without_them(
    s3: S3, credentials: None, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, SECRET)
    with capture_logs() as logs, pytest.raises(SettingsInvalid, match=r"are refused \(403 Forbidden, \w+\)") as refused:
        open_s3(s3)
    told = str(refused.value) + str(logs)
    assert not any(secret in told for secret in (SECRET, s3.secret_key, s3.access_key))


def test_missing_credentials_are_a_sentence(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"  # not the address that a cloud's machines ask
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", nowhere)
    for name in s3.environment:
        monkeypatch.delenv(name, raising=False)
    sentence = "no credentials for s3://pictures. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    with pytest.raises(SettingsInvalid, match=sentence):
        open_s3(s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")
    with pytest.raises(SettingsInvalid, match=sentence):
        open_s3(s3)


def test_a_store_that_cannot_be_reached_at_the_start_is_a_sentence(s3: S3, credentials: None) -> None:
    with pytest.raises(SettingsInvalid, match=r"s3://pictures cannot be used: Connection refused\."):
        open_s3(s3, endpoint=f"http://127.0.0.1:{free_ports(1)[0]}")


def test_a_store_with_a_certificate_of_ones_own_is_trusted_by_ssl_cert_file(
    s3: S3, bucket: Callable[..., Blobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, chain = certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    with faulty(s3.port, tls) as proxy:
        with pytest.raises(SettingsInvalid, match=r"cannot be used: InvalidCertificate, UnknownIssuer\."):
            bucket(proxy, storage_seconds=0.3)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        blobs, name = bucket(proxy), new_name()
        blobs.put(name, b"picture")
    assert bucket().get(name) is not None


def certificates(folder: Path) -> tuple[Path, Path]:
    """An authority's certificate, and one that it gave 127.0.0.1 with its key, as PEM files."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("authority", "store")]
    now = datetime.now(UTC)
    paths = folder / "authority.pem", folder / "chain.pem"
    for key, name, path in zip(keys, names, paths, strict=True):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=name is names[0], path_length=None), critical=True)
            .sign(keys[0], hashes.SHA256())
        )
        path.write_bytes(certificate.public_bytes(PEM) + key.private_bytes(PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


NOTHING = b"""<EnumerationResults ContainerName="box"><Blobs/><NextMarker/></EnumerationResults>"""
NO_CONTAINER = b"<?xml version='1.0'?><Error><Code>ContainerNotFound</Code></Error>"
NO_BUCKET = b"<?xml version='1.0'?><Error><Code>NoSuchBucket</Code></Error>"


@pytest.mark.parametrize(
    ("url", "status", "body", "sentence"),
    [
        ("az://box/here", 200, NOTHING, None),
        ("az://box/here", 404, NO_CONTAINER, "The container az://box is not there"),
        ("az://box/here", 403, b"", r"for az://box are refused \(403 Forbidden\)\. Look at AZURE_STORAGE"),
        ("gs://box/here", 200, b"<ListBucketResult/>", None),
        ("gs://box/here", 404, NO_BUCKET, "The bucket gs://box is not there"),
        ("gs://box/here", 401, b"", r"for gs://box are refused \(401 Unauthorized\)\. Look at GOOGLE_SERVICE"),
    ],
)  # fmt: skip
def test_azure_and_gcs_are_asked_at_the_start(
    url: str, status: int, body: bytes, sentence: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "aGVsbG8=")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        options = {"endpoint": f"{address}/me"} if url.startswith("az") else {"base_url": address}
        settings = Settings(store_url=url, store_options=options, storage_seconds=2.0)
        try:
            if sentence is None:
                Blobs.open(settings)
            else:
                with pytest.raises(SettingsInvalid, match=sentence):
                    Blobs.open(settings)
        finally:
            server.shutdown()
            thread.join()
    assert len(asked) == 1
    assert "/box?" in asked[0]
    assert "prefix=here%2F" in asked[0]


def test_the_address_may_stand_in_the_environment(
    s3: S3, credentials: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(store_url=s3.store_url(tmp_path.name), storage_seconds=0.5)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(SettingsInvalid, match="AWS_ENDPOINT_URL is no address"):
        Blobs.open(settings)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    name = new_name()
    Blobs.open(settings).put(name, b"picture")
    assert bytes(obstore.get(s3.store(tmp_path.name), name).bytes()) == b"picture"


def test_a_store_that_comes_back_is_used_again(s3: S3, bucket: Callable[..., Blobs]) -> None:
    blobs, name = bucket(storage_seconds=20.0), new_name()
    s3.daemon.stop()
    back = threading.Timer(0.3, s3.daemon.start)
    back.start()
    blobs.put(name, b"picture")
    back.join()
    blob = blobs.get(name)
    assert blob is not None
    assert blob.data == b"picture"
