"""`make demo`: start the service on a free port, send it the guide's requests, keep the pictures under demo/.

Needs the standard library and an installed Limner. Exits 1 where anything fails.
"""

# ruff: noqa: S310, S603, T201 - loopback addresses, our own command, and a script speaks on its standard output

from __future__ import annotations

import os
import re
import secrets
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))
import guide  # noqa: E402 - found in the folder that the line above adds

GIRL = ROOT / "examples" / "girl.png"
READY_SECONDS = 60.0


class DemoFailed(Exception):
    """Ends the demo with a sentence."""


@contextmanager
def service(key: str) -> Iterator[str]:
    """The address of `limner serve`, running with this key and the default settings, its data in a folder that goes."""
    with tempfile.TemporaryDirectory(prefix="limner-demo-") as data_dir:
        plain = {name: value for name, value in os.environ.items() if not name.upper().startswith("LIMNER_")}
        settings = {
            "LIMNER_DATA_DIR": data_dir,
            "LIMNER_API_KEYS": key,
            "LIMNER_LOG_LEVEL": "warning",
            "LIMNER_REFERENCE_ALLOW": "127.0.0.1/32",  # the reference is served by this script
        }
        command = [str(Path(sys.executable).with_name("limner")), "serve", "--host", "127.0.0.1", "--port", "0"]
        process = subprocess.Popen(command, env=plain | settings, stdout=subprocess.PIPE, text=True)
        watchdog = threading.Timer(READY_SECONDS, process.kill)
        watchdog.start()
        try:
            address = address_of(process)
            wait_until_ready(address, process)
            watchdog.cancel()
            yield address
        finally:
            watchdog.cancel()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def address_of(process: subprocess.Popen[str]) -> str:
    """The address that the service prints when it starts; what it prints afterwards is read and dropped."""
    output = process.stdout
    if output is None:
        raise DemoFailed("The service's output is not connected.")
    for line in output:
        if found := re.search(r"https?://\S+", line):
            threading.Thread(target=output.read, daemon=True).start()
            return found[0]
    raise DemoFailed(f"The service did not start: it ended with exit code {process.wait()}.")


def wait_until_ready(address: str, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise DemoFailed(f"The service was not ready within {READY_SECONDS:g} seconds, or stopped.")


@contextmanager
def served(path: Path) -> Iterator[str]:
    """The URL of one file, served by this process."""
    data = path.read_bytes()

    class OneFile(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
            """Say nothing: the table is what the demo prints."""

    with ThreadingHTTPServer(("127.0.0.1", 0), OneFile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/{path.name}"
        finally:
            server.shutdown()


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the frame header of a JPEG (ITU-T T.81, B.2.2).

    Raises:
        DemoFailed: not a whole JPEG.
    """
    if not (data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")):
        raise DemoFailed("What came back is not a whole JPEG.")
    at = 2
    while at + 9 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker in (0xFFC0, 0xFFC1, 0xFFC2):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + length
    raise DemoFailed("What came back is a JPEG without a frame.")


def main() -> None:
    key = f"sk-api-{secrets.token_urlsafe(16)}"
    folder = ROOT / "demo"
    began = time.perf_counter()
    with service(key) as address, served(GIRL) as url:
        folder.mkdir(exist_ok=True)
        print(f"The service was ready at {address} after {time.perf_counter() - began:.1f} s.\n")
        calls = {
            "text-to-image.jpeg": guide.TEXT_TO_IMAGE,
            "image-to-image-by-url.jpeg": guide.with_subject(guide.IMAGE_TO_IMAGE, url),
            "image-to-image-by-data-url.jpeg": guide.with_subject(guide.IMAGE_TO_IMAGE, guide.data_url(GIRL)),
        }
        print(f"{'file':38} {'pixels':>11} {'seconds':>8}  seed")
        for name, payload in calls.items():
            began = time.perf_counter()
            images, seeds = guide.generate(address, key, payload)
            seconds = time.perf_counter() - began
            if len(images) != 1:
                raise DemoFailed(f"One picture was asked for and {len(images)} came.")
            width, height = jpeg_size(images[0])
            if (width, height) != (1280, 720):
                raise DemoFailed(f"A picture of 1280×720 was asked for and one of {width}×{height} came.")
            path = folder / name
            path.write_bytes(images[0])
            print(f"{path.relative_to(ROOT)!s:38} {f'{width}×{height}':>11} {seconds:8.2f}  {seeds}")


if __name__ == "__main__":
    try:
        main()
    except (DemoFailed, RuntimeError, OSError) as error:
        sys.exit(f"demo: {error}")
