"""What is timed and pictured in a browser: a service with the built-in painter, and the system's chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from machine import plain_environment

LIMNER = str(Path(sys.executable).with_name("limner"))
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def serving(data_dir: Path, limner: str = LIMNER) -> Iterator[str]:
    """The address of `limner serve` on a free port, with default settings, once it answers."""
    environment = plain_environment() | {"LIMNER_DATA_DIR": str(data_dir), "LIMNER_LOG_LEVEL": "error"}
    process = subprocess.Popen([limner, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        banner = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", banner)
        if address is None:
            sys.exit(f"limner serve did not start: {banner}")
        yield address[0]
    finally:
        process.terminate()
        process.communicate(timeout=60)


@contextmanager
def browsing() -> Iterator[Browser]:
    """The browser, without a window."""
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        sys.exit("There is no chromium here, and this needs one: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()
