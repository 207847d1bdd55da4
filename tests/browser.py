"""A real browser for tests: the system's chromium, driven by Playwright, with an eye on what goes wrong in a page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING: Final = "There is no chromium here, and the studio is tested in one: apt-get install chromium"

WAIT: Final = 30_000
"""Milliseconds that the page may take for what it is asked: machines under load are slow, not broken."""

OFFLINE: Final = re.compile(r"net::ERR_|Failed to load resource: net")
REFUSED: Final = re.compile(r"the server responded with a status of 4\d\d")


def chromium() -> str | None:
    """Where the browser is; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """The browser, without a window. Skips the tests that need it where there is none, with the command that brings it.

    Playwright's event loop counts as running in this thread until the end of this.
    """
    path = chromium()
    if path is None:
        pytest.skip(MISSING)
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@dataclass(slots=True)
class Visitor:
    """Somebody at a page of the studio, who minds everything that goes wrong in it."""

    page: Page
    url: str
    allowed: list[re.Pattern[str]] = field(default_factory=list)  # what may be complained of
    complaints: list[str] = field(default_factory=list)
    strayed: list[str] = field(default_factory=list)  # addresses elsewhere that the page asked for

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self._mind(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(f"thrown: {error}"))
        self.page.on("request", lambda request: self._watch(request))

    def _mind(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def _watch(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "blob:", "data:")):
            self.strayed.append(request.url)

    def open(self) -> None:
        self.page.goto(f"{self.url}/")
        expect(self.paint_button).to_be_visible()

    def check(self) -> None:
        """Nothing was complained of but what may be, and nothing was asked for elsewhere."""
        minded = [text for text in self.complaints if not any(known.search(text) for known in self.allowed)]
        assert not minded, minded
        assert not self.strayed, self.strayed

    def check_accessible(self, state: str, *rules: str) -> None:
        """No rule of axe, or none of these, is broken by what is shown now."""
        self.page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => {})))")
        only = {"runOnly": list(rules)} if rules else {}
        found = Axe().run(self.page, options={"resultTypes": ["violations"], **only}).response
        broken = [
            f"{rule['id']}: {rule['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]
        assert not broken, f"{state}: {broken}"

    # The parts of the page, by what a screen reader says of them

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_role("textbox", name="Prompt", exact=True)

    @property
    def paint_button(self) -> Locator:
        return self.page.locator("#compose").get_by_role("button", name=re.compile("^(Paint|画|开始)"))

    @property
    def painting(self) -> Locator:
        return self.page.get_by_role("region", name="Being painted")

    @property
    def gallery(self) -> Locator:
        return self.page.get_by_role("region", name="Pictures")

    @property
    def prints(self) -> Locator:
        return self.gallery.get_by_role("list").get_by_role("button")

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def paint(self, prompt: str) -> None:
        self.prompt.fill(prompt)
        self.paint_button.click()

    def painted(self) -> None:
        """The job at the top has ended well, and its picture is really shown."""
        expect(self.painting.get_by_text("Painted", exact=True).first).to_be_visible()
        expect(self.painting.get_by_role("img").first).to_be_visible()
        expect(self.painting.locator(".slot:not([data-state=shown])")).to_have_count(0)


@contextmanager
def visiting(browser: Browser, url: str, *allowed: re.Pattern[str], **options: Any) -> Iterator[Visitor]:
    """A visitor with a browser profile of its own, empty; what went wrong in the page fails the test at its end."""
    context: BrowserContext = browser.new_context(**{"locale": "en-GB", "reduced_motion": "reduce", **options})
    context.set_default_timeout(WAIT)
    try:
        visitor = Visitor(context.new_page(), url, list(allowed))
        yield visitor
        visitor.check()
    finally:
        context.close()
