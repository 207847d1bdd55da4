"""Pictures of the studio as it looks with the built-in painter's own pictures, on three widths and in two schemes.

    python scripts/screenshots.py FOLDER [--readme]

Every seed is fixed, so the pictures in it are the same each time. With --readme the two of the README are written anew,
too: docs/pictures/studio.webp, wide and light, and docs/pictures/studio-phone.webp, a phone's, dark.
"""

# ruff: noqa: T201 - a script speaks on its standard output

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

import httpx2
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
from studio import browsing, serving  # noqa: E402 - found in the folder that the line above adds

WIDTHS = {390: 844, 820: 1180, 1440: 900}
SCHEMES = ("light", "dark")
PICTURES = (
    ("a girl and a dog in a park in autumn", "16:9", 0),
    ("a boy flying a kite over a farm, comic", "1:1", 1),
    ("a knight and a dragon in front of a castle, medieval", "4:3", 2),
    ("a robot and two astronauts in the city at night, pixel art", "1:1", 0),
    ("portrait of a woman with curly red hair and round glasses, 3d render", "3:4", 1),
    ("a cat sleeping on a sofa, watercolor", "4:3", 3),
    ("an owl reading a book in the forest at dusk", "3:4", 3),
    ("a man in a white t-shirt stands on a sunny beach", "16:9", 2),
)
"""Prompt, ratio and seed, the oldest first."""

SHOWN = ("a red fox on a snowy hill", "3:2", 7)
"""What is painted in the page itself."""

ON_A_PHONE = ("a lighthouse by the sea at night, papercut", "1:1", 7)
"""The same for the README's phone."""

LARGEST = 250_000
"""Bytes of a picture of the README."""


def fill(address: str) -> None:
    """Paint what hangs in the gallery."""
    with httpx2.Client(base_url=address, timeout=120, trust_env=False) as client:
        for prompt, ratio, seed in PICTURES:
            asked = {"prompt": prompt, "aspect_ratio": ratio, "seed": seed}
            client.post("/v1/pictures", json=asked).raise_for_status()


def paint(page: Page, prompt: str, ratio: str, seed: int) -> None:
    """Paint one more in the page, as a reader would."""
    page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
    page.get_by_role("radio", name=ratio).check(force=True)
    page.get_by_role("textbox", name="Seed").fill(str(seed))
    page.locator("#paint").click()
    settled(page)


def settled(page: Page) -> None:
    """Every picture on the page has come, also those that are waited with until they are in sight."""
    expect(page.locator("#painting .slot:not([data-state=shown])")).to_have_count(0, timeout=60_000)
    page.locator("img[src]").evaluate_all(
        """all => Promise.all(all.map((one) => {
            one.loading = "eager";
            return one.decode().catch(() => {});
        }))"""
    )
    page.wait_for_timeout(300)


def windowed(browser: Browser, width: int, scheme: str) -> BrowserContext:
    """A new profile with a window of this width; below 600 pixels it is a phone's."""
    phone = {"is_mobile": True, "has_touch": True, "device_scale_factor": 2} if width < 600 else {}
    size = {"width": width, "height": WIDTHS[width]}
    return browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce", locale="en-GB", **phone)


def shoot(browser: Browser, address: str, folder: Path, width: int, scheme: str, *, first: bool) -> None:
    """The page at rest, after painting, and its dialogs, at one width and in one scheme."""
    context = windowed(browser, width, scheme)
    page = context.new_page()

    def keep(name: str, *, whole: bool = False) -> None:
        settled(page)
        page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=whole)

    page.goto(f"{address}/")
    expect(page.locator("#gallery img").first).to_be_visible()
    keep("open")
    if first:
        paint(page, *SHOWN)
    else:
        page.locator("#gallery img").first.wait_for()
    page.evaluate("scrollTo(0, 0)")
    keep("painted")
    keep("whole", whole=True)
    page.locator("#compose summary").click()
    keep("controls", whole=True)
    page.locator("#gallery .print").nth(1).click()
    page.get_by_role("dialog").get_by_role("img").first.wait_for()
    keep("viewer")
    page.keyboard.press("Escape")
    page.locator("#gallery").get_by_role("button", name="Compare").click()
    for number in (1, 3):
        page.locator("#gallery .print").nth(number).click()
    page.get_by_role("dialog").get_by_role("img").first.wait_for()
    keep("compare")
    page.keyboard.press("Escape")
    for name in ("Usage", "Key"):
        page.get_by_role("button", name=name).click()
        keep(name.lower())
        page.keyboard.press("Escape")
    page.get_by_role("button", name="Code").click()
    keep("code")
    context.close()


def for_readme(browser: Browser, address: str) -> None:
    """The two of the README, small enough for it."""
    for name, width, scheme in (("studio", 1440, "light"), ("studio-phone", 390, "dark")):
        context = windowed(browser, width, scheme)
        page = context.new_page()
        page.goto(f"{address}/")
        expect(page.locator("#gallery img").first).to_be_visible()
        paint(page, *(SHOWN if width > 600 else ON_A_PHONE))
        if width > 600:
            page.evaluate("scrollTo(0, 0)")
            page.evaluate("document.querySelectorAll('#compose, #compose *').forEach((one) => one.scrollTo(0, 0))")
        settled(page)
        file = io.BytesIO()
        with Image.open(io.BytesIO(page.screenshot())) as image:
            image.convert("RGB").save(file, "WEBP", quality=82, method=6)
        assert len(file.getvalue()) < LARGEST, len(file.getvalue())  # noqa: S101 - a script's own promise
        path = ROOT / "docs" / "pictures" / f"{name}.webp"
        path.write_bytes(file.getvalue())
        print(f"{path.relative_to(ROOT)}: {len(file.getvalue()):,} bytes")
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--readme", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, serving(Path(data) / "data") as address, browsing() as browser:
        fill(address)
        if asked.readme:
            for_readme(browser, address)
        first = not asked.readme
        for width in WIDTHS:
            for scheme in SCHEMES:
                shoot(browser, address, asked.folder, width, scheme, first=first)
                first = False
    print(f"{len(list(asked.folder.glob('*.png')))} pictures in {asked.folder}")


if __name__ == "__main__":
    main()
