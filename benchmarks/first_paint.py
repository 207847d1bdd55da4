"""How much crosses the wire until the studio's page is first painted, and how long that takes, on loopback.

    python benchmarks/first_paint.py [--runs N]

Each run is a new browser profile, so that nothing is cached. Bytes are heads and bodies as they arrived: those that had
come when the page was first painted, and all until it was quiet. The time is the browser's own first-contentful-paint
(W3C Paint Timing), counted from the start of the navigation. Exits 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser

from machine import machine
from studio import browsing, serving

MOST_BYTES, MOST_MILLISECONDS = 100_000, 300.0
"""What is promised of the first paint."""


@dataclass(frozen=True, slots=True)
class Run:
    painted: float  # milliseconds
    before: int  # bytes that had come by then
    whole: int  # bytes until the page was quiet
    unpacked: int  # bytes of the same bodies, as they are without gzip
    requests: int


def measured(browser: Browser, address: str) -> Run:
    """One visit with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    wire = context.new_cdp_session(page)
    wire.send("Network.enable")
    began: list[float] = []
    wire.on("Network.requestWillBeSent", lambda event: began.append(event["timestamp"]))
    sizes: list[tuple[float, int]] = []  # when each reply was whole, seconds of the browser's clock, and its bytes
    wire.on("Network.loadingFinished", lambda event: sizes.append((event["timestamp"], event["encodedDataLength"])))
    page.goto(f"{address}/", wait_until="networkidle")
    painted, unpacked = page.evaluate(
        """() => [
            performance.getEntriesByName("first-contentful-paint")[0].startTime,
            [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
                .reduce((sum, entry) => sum + entry.decodedBodySize, 0),
        ]"""
    )
    context.close()
    until = began[0] + painted / 1000
    before = sum(size for at, size in sizes if at <= until)
    return Run(painted, int(before), int(sum(size for _, size in sizes)), int(unpacked), len(sizes))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    said = machine()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "data") as address, browsing() as browser:
        measured(browser, address)  # the first one starts the browser's own processes
        found = [measured(browser, address) for _ in range(runs)]
    times = sorted(run.painted for run in found)
    middle = statistics.median(times)
    print(f"{said}\n{runs} runs, each with an empty cache; medians\n")
    print("| | |")
    print("| --- | --- |")
    print(f"| first contentful paint | {middle:.0f} ms (least {times[0]:.0f}, most {times[-1]:.0f}) |")
    for name, part in (
        ("bytes that had come by then", "before"),
        ("bytes until the page was quiet", "whole"),
        ("the same without gzip, bodies alone", "unpacked"),
        ("requests", "requests"),
    ):
        print(f"| {name} | {statistics.median(getattr(run, part) for run in found):,.0f} |")
    missed = middle >= MOST_MILLISECONDS or max(run.whole for run in found) >= MOST_BYTES
    if missed:
        print(f"missed: below {MOST_BYTES:,} bytes and {MOST_MILLISECONDS:.0f} ms was promised", file=sys.stderr)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
