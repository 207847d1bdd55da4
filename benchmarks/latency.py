"""How long one warm 1024×1024 picture takes, end to end through HTTP, and where the time goes.

    python benchmarks/latency.py [--quick] [--environment PATH]

A server in this process paints with the real painter, whose parts are timed where they are called; the parts are also
run directly, by turns with the requests, so that both see the same machine. Then, in processes of their own: the time
of `limner --help` and the time until `limner serve` is ready. With --environment, also the size of a virtual
environment on disk.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx2
import uvicorn
from PIL import Image

from limner import imaging, logs
from limner.api.app import create_app
from limner.backends.local import LocalBackend
from limner.config import Settings
from limner.engine.core import Batch, Encoded, Float32, Request, UInt8
from limner.engine.engine import Engine
from limner.pipelines.base import Pipeline, denoised
from limner.pipelines.painter import PainterPipeline
from limner.service import Service
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from machine import machine, plain_environment

T = TypeVar("T")
LIMNER = str(Path(sys.executable).with_name("limner"))
PROMPT = "a red fox and two blue birds on a snowy hill"
SIDE = 1024
LIMITS = {"end to end": 2.0, "--help": 0.5, "ready": 3.0, "environment": 450.0, "share": 0.9}
"""What is promised: seconds, MiB on disk, and the least share of network, upscaling and JPEG."""


class Watch:
    """Adds up seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, call: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds[name] += time.perf_counter() - began


class Timed:
    """A pipeline whose calls are timed."""

    name = PainterPipeline.name
    max_batch = PainterPipeline.max_batch

    def __init__(self, inner: PainterPipeline, watch: Watch) -> None:
        self.inner = inner
        self.watch = watch
        self.fingerprint = inner.fingerprint

    def encode(self, request: Request) -> Encoded:
        return self.watch.timed("plan and draft", lambda: self.inner.encode(request))

    def evaluate(self, batch: Batch) -> Float32:
        return self.watch.timed("network", lambda: self.inner.evaluate(batch))

    def decode(self, request: Request, encoded: Encoded, x: Float32) -> UInt8:
        return self.watch.timed("upscaling", lambda: self.inner.decode(request, encoded, x))


PARTS = ("network", "upscaling", "JPEG")
REST = ("plan and draft", "everything else")


def direct(painter: PainterPipeline, seed: int) -> dict[str, float]:
    """Seconds of each part of one picture, called one after the other with no service around them."""
    watch = Watch()
    timed = Timed(painter, watch)
    request = Request("direct", PROMPT, seed, SIDE, SIDE)
    encoded = timed.encode(request)
    pixels = timed.decode(request, encoded, denoised(timed, request, encoded))
    watch.timed("JPEG", lambda: imaging.encode(pixels))
    return dict(watch.seconds)


@contextmanager
def server(pipeline: Pipeline, folder: Path) -> Iterator[tuple[httpx2.Client, Service]]:
    """A server in this process that paints with this pipeline, and a client of it."""
    settings = Settings(data_dir=folder, log_level="warning")
    logs.configure(settings)
    engine = Engine({"image-01": pipeline}, settings.queue_limit)
    service = Service(settings, LocalBackend(engine), Database.open(settings), Blobs.open(settings))
    running = uvicorn.Server(uvicorn.Config(create_app(settings, service), log_config=None, lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            base = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx2.Client(base_url=base, timeout=300, trust_env=False) as client:
                while not running.started:
                    time.sleep(0.01)
                yield client, service
        finally:
            running.should_exit = True
            thread.join()


def ask(client: httpx2.Client, seed: int) -> float:
    """Seconds of one picture, which is then checked to be what was asked for."""
    body = {"model": "image-01", "prompt": PROMPT, "seed": seed, "response_format": "base64"}
    began = time.perf_counter()
    reply = client.post("/v1/image_generation", json=body)
    seconds = time.perf_counter() - began
    if reply.json()["base_resp"]["status_code"] != 0:
        raise RuntimeError(reply.json()["base_resp"]["status_msg"])
    with Image.open(io.BytesIO(base64.b64decode(reply.json()["data"]["image_base64"][0]))) as image:
        if image.format != "JPEG" or image.size != (SIDE, SIDE):
            raise RuntimeError(f"{image.format} of {image.size} came")
    return seconds


def pictures(rounds: int) -> bool:
    """Time `rounds` warm pictures both ways and print the table; whether the promises are kept."""
    watch = Watch()
    painter = PainterPipeline.load()
    encode = imaging.encode
    imaging.encode = lambda *args, **options: watch.timed("JPEG", lambda: encode(*args, **options))
    served: list[dict[str, float]] = []
    alone: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, server(Timed(painter, watch), Path(folder)) as (client, _):
        for seed in range(2):  # warms up
            ask(client, seed)
            direct(painter, seed)
        for seed in range(rounds):
            watch.seconds.clear()
            whole = ask(client, seed)
            parts = dict(watch.seconds)
            served.append(parts | {"end to end": whole, "everything else": whole - sum(parts.values())})
            alone.append(direct(painter, seed))

    def median(rows: list[dict[str, float]], name: str) -> float:
        return statistics.median(row.get(name, 0.0) for row in rows)

    whole = median(served, "end to end")
    print(f"One warm {SIDE}×{SIDE} picture, base64, median of {rounds}")
    print(f"{'':18} {'served':>9} {'share':>7} {'direct':>9} {'served/direct':>14}")
    for name in (*PARTS, *REST):
        mine, theirs = median(served, name), median(alone, name)
        ratio = f"{mine / theirs:14.2f}" if theirs else f"{'':14}"
        print(f"{name:18} {mine * 1e3:6.0f} ms {mine / whole:7.1%} {theirs * 1e3:6.0f} ms {ratio}")
    sums = [sum(row.values()) for row in alone]
    print(
        f"{'end to end':18} {whole * 1e3:6.0f} ms {1:7.1%} {statistics.median(sums) * 1e3:6.0f} ms "
        f"{whole / statistics.median(sums):14.2f}"
    )
    times = sorted(row["end to end"] for row in served)
    print(f"fastest {times[0] * 1e3:.0f} ms, slowest {times[-1] * 1e3:.0f} ms")
    share = statistics.median(sum(row[name] for name in PARTS) / row["end to end"] for row in served)
    return judged("one picture end to end", whole, LIMITS["end to end"], "s") & judged(
        "share that is not network, upscaling or JPEG", 100 * (1 - share), 100 * (1 - LIMITS["share"]), "%"
    )


def judged(what: str, found: float, limit: float, unit: str) -> bool:
    kept = found < limit
    print(f"{'kept' if kept else 'MISSED'}: {what} {found:.2f} {unit}, promised under {limit:g} {unit}")
    return kept


def help_seconds(rounds: int) -> float:
    seconds = []
    for _ in range(rounds + 1):  # the first fills the disk cache
        began = time.perf_counter()
        subprocess.run([LIMNER, "--help"], check=True, capture_output=True, env=plain_environment())
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def ready_seconds(rounds: int) -> float:
    """From the start of the process until /readyz answers 200."""
    seconds = []
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            environment = plain_environment() | {"LIMNER_DATA_DIR": folder, "LIMNER_LOG_LEVEL": "warning"}
            began = time.perf_counter()
            process = subprocess.Popen(
                [LIMNER, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment
            )
            try:
                assert process.stdout is not None
                found = re.search(r"http://\S+", process.stdout.readline())
                assert found is not None, "the service did not start"
                while True:
                    try:
                        if httpx2.get(f"{found[0]}/readyz", trust_env=False).status_code == 200:
                            break
                    except httpx2.TransportError:
                        time.sleep(0.005)
                seconds.append(time.perf_counter() - began)
            finally:
                process.terminate()
                process.communicate()
    return statistics.median(seconds[1:])


def mebibytes(folder: Path) -> float:
    """What a folder occupies on disk, in units of 2**20 bytes as `du -sm` counts; hard links are counted once."""
    files = {(s.st_dev, s.st_ino): s.st_blocks * 512 for s in (path.lstat() for path in folder.rglob("*"))}
    return sum(files.values()) / 2**20


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="5 pictures and 2 starts instead of 30 and 7")
    options.add_argument("--environment", type=Path, help="a virtual environment to weigh")
    given = options.parse_args()
    print(machine(), end="\n\n")
    starts = 2 if given.quick else 7
    kept = [
        pictures(5 if given.quick else 30),
        judged("limner --help", help_seconds(starts), LIMITS["--help"], "s"),
        judged("the service is ready", ready_seconds(starts), LIMITS["ready"], "s"),
    ]
    if given.environment:
        size = mebibytes(given.environment)
        kept.append(judged(f"size of {given.environment.name}", size, LIMITS["environment"], "MiB"))
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
