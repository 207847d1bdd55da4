"""What the service does under load.

    python benchmarks/load.py [--quick]

1. Sixteen clients send 200 calls of mixed sizes, numbers, references and modes to a `limner serve` of its own process.
   Every answer must be right (whole JPEGs of exactly the asked size, as many as asked for) or 1002; the memory of the
   service must stay flat.
2. Short calls beside a long one: a picture of 200 steps is begun, then short ones are asked for, one after the other.
   Each must be answered before the long one has ended, with few of its steps in between.
3. A call for nine large pictures, then one for a small one: the small one must not wait for all nine.
"""

from __future__ import annotations

import argparse
import base64
import io
import queue
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from latency import LIMNER, server
from limner.api.contract import SIZES
from limner.models.registry import LIVE_STYLES
from limner.pipelines.painter import PainterPipeline
from machine import machine, plain_environment

API = "/v1/image_generation"
CLIENTS = 16
ROUNDS = 5
GROWTH = 0.10
"""How much more memory the service may hold after the last round than after the second, when all was seen once."""

GIRL = (Path(__file__).parent.parent / "examples" / "girl.png").read_bytes()
DATA_URL = f"data:image/png;base64,{base64.b64encode(GIRL).decode()}"
PROMPTS = (
    "a red fox on a snowy hill",
    "two blue birds above a boat at sea",
    "a man in a white t-shirt on a sunny beach",
    "a girl beside the tall window of a library",
    "three green apples on a table",
    "a rocket in the night sky, watercolor",
    "an old castle in the desert at sunset",
)


@dataclass(slots=True)
class Answers:
    """What came back."""

    codes: Counter[int] = field(default_factory=Counter)
    pictures: int = 0
    seconds: list[float] = field(default_factory=list)  # of the calls that were painted
    wrong: list[str] = field(default_factory=list)


def calls(count: int, reference_url: str) -> Iterator[tuple[dict[str, Any], tuple[int, int]]]:
    """Bodies and the size that each must get, the same ones every time."""
    chance = random.Random(1)
    for _ in range(count):
        body: dict[str, Any] = {
            "model": "image-01",
            "prompt": chance.choice(PROMPTS),
            "n": chance.choice((1, 1, 1, 1, 1, 1, 2, 3, 4, 9)),
            "response_format": chance.choice(("url", "base64")),
            "prompt_optimizer": chance.random() < 0.3,
            "aigc_watermark": chance.random() < 0.2,
        }
        if chance.random() < 0.6:
            ratio = chance.choice(list(SIZES))
            body["aspect_ratio"], size = ratio, SIZES[ratio]
            if ratio != "21:9" and chance.random() < 0.2:
                style = {"style_type": chance.choice(list(LIVE_STYLES)), "style_weight": chance.choice((0.3, 0.8, 1))}
                body |= {"model": "image-01-live", "style": style}
        else:
            size = (8 * chance.randint(64, 256), 8 * chance.randint(64, 256))
            body |= {"width": size[0], "height": size[1]}
        references = chance.choice(((), (), (DATA_URL,), (reference_url,), (DATA_URL, reference_url)))
        if references:
            body["subject_reference"] = [{"type": "character", "image_file": source} for source in references]
        if chance.random() < 0.5:
            body["seed"] = chance.randint(-(2**63), 2**63 - 1)
        yield body, size


def send(client: httpx2.Client, body: dict[str, Any], size: tuple[int, int], answers: Answers) -> None:
    """One call; what is wrong about its answer is noted."""
    began = time.perf_counter()
    reply = client.post(API, json=body)
    seconds = time.perf_counter() - began
    answer = reply.json()
    code = answer["base_resp"]["status_code"]
    answers.codes[code] += 1
    if code == 1002:
        if "Retry-After" not in reply.headers:
            answers.wrong.append("1002 without Retry-After")
        return
    if code != 0:
        answers.wrong.append(f"{code}: {answer['base_resp']['status_msg']}")
        return
    answers.seconds.append(seconds)
    if body["response_format"] == "base64":
        images = [base64.b64decode(image, validate=True) for image in answer["data"]["image_base64"]]
    else:
        got = [client.get(link) for link in answer["data"]["image_urls"]]
        images = [image.content for image in got if image.status_code == 200]
    if len(images) != body["n"]:
        answers.wrong.append(f"{len(images)} pictures for n={body['n']}")
    for data in images:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if image.format != "JPEG" or image.size != size:
                answers.wrong.append(f"{image.format} of {image.size} for {size}")
    answers.pictures += len(images)


@contextmanager
def service() -> Iterator[tuple[str, int]]:
    """Address and process id of a `limner serve` of its own."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"LIMNER_DATA_DIR": folder, "LIMNER_REFERENCE_ALLOW": "127.0.0.1/32", "LIMNER_LOG_LEVEL": "warning"}
        process = subprocess.Popen(
            [LIMNER, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, env=plain_environment() | settings
        )
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None, "the service did not start"
            yield found[0], process.pid
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def reference() -> Iterator[str]:
    """URL of a picture of a girl, served by this process."""

    class Girl(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(GIRL)))
            self.end_headers()
            self.wfile.write(GIRL)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Girl) as girl:
        threading.Thread(target=girl.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{girl.server_address[1]}/girl.png"
        girl.shutdown()


def resident(process: int) -> float:
    """Memory of a process, MB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def crowd(count: int) -> bool:
    """Part 1; whether it went as promised.

    The calls come in five rounds, so that memory can be compared at equal work: none, at the end of each round.
    """
    answers, drained, most = Answers(), [], [0.0]
    with service() as (address, process), reference() as url:
        todo: queue.SimpleQueue[tuple[dict[str, Any], tuple[int, int]]] = queue.SimpleQueue()

        def client() -> None:
            with httpx2.Client(base_url=address, timeout=600, trust_env=False) as http:
                while True:
                    try:
                        body, size = todo.get_nowait()
                    except queue.Empty:
                        return
                    try:
                        send(http, body, size, answers)
                    except Exception as error:
                        answers.wrong.append(f"{type(error).__name__}: {error}")

        began = time.perf_counter()
        idle = resident(process)
        every = list(calls(count, url))
        for number in range(ROUNDS):
            for call in every[number::ROUNDS]:
                todo.put(call)
            threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                most[0] = max(most[0], resident(process))
                time.sleep(0.1)
            drained.append(resident(process))
        seconds = time.perf_counter() - began
    print(f"1. {count} calls from {CLIENTS} clients in {seconds:.0f} s, {answers.pictures} pictures")
    print(f"   answers    {', '.join(f'{number} × {code}' for code, number in sorted(answers.codes.items()))}")
    if answers.seconds:
        print(
            f"   a call     shortest {min(answers.seconds):.2f} s, median {statistics.median(answers.seconds):.2f} s, "
            f"longest {max(answers.seconds):.2f} s"
        )
    rounds = ", ".join(f"{mb:.0f}" for mb in drained)
    print(
        f"   memory, MB {idle:.0f} at the start, {most[0]:.0f} at most; with nothing to do, after each round: {rounds}"
    )
    growth = drained[-1] / drained[1] - 1
    right = sum(answers.codes.values()) == count and not answers.wrong
    for line, number in Counter(answers.wrong).most_common(5):
        print(f"   WRONG      {number} × {line}")
    print(f"   {'kept' if right else 'MISSED'}: every call was answered correctly or with 1002")
    flat = growth < GROWTH
    print(f"   {'kept' if flat else 'MISSED'}: memory flat, last round over second {growth:+.1%}, limit {GROWTH:.0%}")
    return right and flat


def beside_a_long_one(painter: PainterPipeline, shorts: int) -> bool:
    """Part 2; whether each short call ended before the long one."""
    steps, painted = 200, [0]
    with tempfile.TemporaryDirectory() as folder, server(painter, Path(folder)) as (client, here):

        def ask_long() -> None:
            body = {"prompt": "an old castle in the desert", "width": 2048, "height": 2048, "seed": 1, "steps": steps}
            painted[0] = len(client.post("/v1/pictures", json=body).json().get("pictures", ()))

        def at() -> int:
            jobs = [course.snapshot() for course in list(here.runner.courses.values())]
            return max((image.step for job in jobs for image in job.images if image.steps == steps), default=0)

        long = threading.Thread(target=ask_long)
        long.start()
        while at() < 2:
            time.sleep(0.005)
        rows = []
        for seed in range(shorts):
            answers, before, began = Answers(), at(), time.perf_counter()
            body = {"prompt": PROMPTS[0], "model": "image-01", "width": 512, "height": 512, "n": 1, "seed": seed}
            send(client, body | {"response_format": "base64"}, (512, 512), answers)
            rows.append((before, at(), time.perf_counter() - began, not answers.wrong and long.is_alive()))
        still = at()
        long.join()
    print(
        f"2. {shorts} calls of the usual steps beside one of {steps} at 2048×2048, which was at step {still} after them"
    )
    for number, (before, after, seconds, _) in enumerate(rows, 1):
        print(f"   short {number}: asked at the long one's step {before}, answered at {after}, {seconds:.2f} s")
    kept = all(row[3] for row in rows) and painted == [1]
    print(f"   {'kept' if kept else 'MISSED'}: each was answered before the long one ended")
    return kept


def behind_nine(painter: PainterPipeline) -> bool:
    """Part 3; whether one small picture came before nine large ones that were asked for first."""
    ended: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, server(painter, Path(folder)) as (client, _):

        def ask(name: str, side: int, n: int) -> None:
            body = {"prompt": PROMPTS[4], "model": "image-01", "width": side, "height": side, "n": n, "seed": 1}
            answers, began = Answers(), time.perf_counter()
            send(client, body | {"response_format": "base64"}, (side, side), answers)
            if not answers.wrong:
                ended[name] = time.perf_counter() - began

        ask("warm", 512, 1)
        nine = threading.Thread(target=ask, args=("nine", 2048, 9))
        nine.start()
        while not client.get("/metrics").text.count("limner_queue_running 1"):
            time.sleep(0.005)
        ask("one", 512, 1)
        first = nine.is_alive()
        nine.join()
    kept = first and len(ended) == 3
    print(
        f"3. nine of 2048×2048 took {ended.get('nine', 0):.2f} s, one of 512×512 that was asked for after them "
        f"{ended.get('one', 0):.2f} s (alone {ended.get('warm', 0):.2f} s)"
    )
    print(f"   {'kept' if kept else 'MISSED'}: the small one did not wait for all nine")
    return kept


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="40 calls instead of 200, 4 short ones instead of 12")
    given = options.parse_args()
    print(machine(), end="\n\n")
    kept = [crowd(40 if given.quick else 200)]
    painter = PainterPipeline.load()
    kept += [beside_a_long_one(painter, 4 if given.quick else 12), behind_nine(painter)]
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
