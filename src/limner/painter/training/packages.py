"""Packages of npm and Debian, fetched by the registry's own client, unpacked, and checked against what was pinned."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

from limner.painter.training.lexicon import BuildFailed
from limner.painter.training.sources import Source


def fetch(source: Source, folder: Path) -> Path:
    """The folder of an unpacked npm package, fetched first if need be, its pinned files checked.

    Raises:
        BuildFailed: it cannot be fetched, or a pinned file has another checksum.
    """
    archive = folder / f"{source.package.removeprefix('@').replace('/', '-')}-{source.version}.tgz"
    download(["npm", "pack", f"{source.package}@{source.version}"], archive)
    unpacked = folder / archive.stem
    if not unpacked.exists():
        with tarfile.open(archive) as package:
            package.extractall(unpacked, filter="data")
    check(source, unpacked / "package")
    return unpacked / "package"


def fetch_debian(source: Source, folder: Path) -> Path:
    """The folder of an unpacked Debian package, as `fetch` for npm's; needs Debian's apt-get, or the .deb in place."""
    (name,) = source.files
    archive = folder / name
    download(["apt-get", "download", f"{source.package}={source.version}"], archive)
    check(source, folder)
    unpacked = folder / f"{source.package}-deb"
    if not unpacked.exists():
        content = archive.read_bytes()
        at = 8  # an "ar" archive: a magic of 8 bytes, then members with headers of 60, each padded to an even length
        while at < len(content):
            title, size = content[at : at + 16].split(b"/")[0].strip(), int(content[at + 48 : at + 58])
            if title.startswith(b"data.tar"):
                with tarfile.open(fileobj=io.BytesIO(content[at + 60 : at + 60 + size])) as package:
                    package.extractall(unpacked, filter="data")
            at += 60 + size + size % 2
    return unpacked


def download(command: list[str], archive: Path) -> None:
    """Run a registry's own client in the archive's folder, unless the archive is there already."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.exists():
        return
    try:
        subprocess.run(command, check=True, capture_output=True, cwd=archive.parent)  # noqa: S603  fixed arguments
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildFailed(f"`{' '.join(command)}` failed; is it installed and its registry reachable?") from error


def check(source: Source, folder: Path) -> None:
    for name, checksum in source.files.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != checksum:
            raise BuildFailed(f"{source.package} {source.version}: {name} is not the file that was pinned.")
