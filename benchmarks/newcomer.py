"""A newcomer's path, timed: from a fresh clone to the first picture in the page, in seconds and clicks.

    python benchmarks/newcomer.py [--source PATH]

The repository is cloned into a new folder, installed there as `make serve` does it, and served; a browser then opens
the page, clicks an example, clicks Paint, and waits until the picture is really shown. Clicks are counted by the
browser, not by hand. What pip downloads comes from wherever pip is set up to look; its cache is as it is found, and the
table says whether it was used.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from machine import machine, plain_environment
from studio import browsing

ROOT = Path(__file__).resolve().parent.parent
COUNT = "addEventListener('pointerdown', () => (window.clicks = (window.clicks ?? 0) + 1), true)"
READY = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def served(command: list[str], folder: Path) -> tuple[subprocess.Popen[str], str]:
    """The process of `make serve` and the address that it tells."""
    process = subprocess.Popen(command, cwd=folder, env=plain_environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if address := re.search(r"http://127\.0\.0\.1:\d+", line):
            return process, address[0]
    sys.exit(f"{' '.join(command)} ended without telling an address")


def paint(page: Page, address: str) -> tuple[float, float, float, int]:
    """Seconds until the page could be used, until an example was painted, the browser's first paint, and the clicks."""
    page.add_init_script(COUNT)
    began = time.perf_counter()
    page.goto(f"{address}/", wait_until="commit")
    example = page.locator(".example").first
    expect(example).to_be_visible()
    usable = time.perf_counter()
    example.click()
    page.locator("#paint").click()
    expect(page.locator("#painting .slot[data-state=shown]")).to_have_count(1, timeout=120_000)
    shown = time.perf_counter()
    return usable - began, shown - usable, page.evaluate(READY) / 1000, page.evaluate("window.clicks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=str(ROOT), help="What is cloned: a folder or an address.  [default: this]")
    source = parser.parse_args().source
    said, parts = machine(), {}

    def timed(name: str, began: float) -> None:
        parts[name] = time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        clone = Path(folder) / "limner"
        began = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", source, str(clone)], check=True)
        timed("git clone", began)
        began = time.perf_counter()
        subprocess.run(["make", "--silent", ".venv/.core"], cwd=clone, env=plain_environment(), check=True)
        timed("install (the first part of `make serve`)", began)
        began = time.perf_counter()
        process, address = served(["make", "--silent", "serve", "ARGS=--port 0"], clone)
        timed("start (`make serve` until it tells its address)", began)
        try:
            usable, painted, first, clicks = paint(browser.new_page(), address)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    parts["page (until it can be used)"] = usable
    parts["picture (from the first click until it is shown)"] = painted
    print(f"{said}\ncores {os.cpu_count()}\n\n| part | seconds |\n| --- | --- |")
    for name, seconds in (*parts.items(), ("all", sum(parts.values()))):
        print(f"| {name} | {seconds:.1f} |")
    print(f"\nClicks: {clicks}. The browser's own first paint: {first:.2f} s after the address was entered.")


if __name__ == "__main__":
    main()
