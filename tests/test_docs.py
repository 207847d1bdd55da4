"""The documentation's site: it is built without a warning, needs nothing from elsewhere, and its examples run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from conftest import Server

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ADDRESS = "http://127.0.0.1:8000"
"""Where the examples expect the service."""

RUN_ELSEWHERE = {"client.md"}
"""Pages whose examples another test runs: tests/test_client_docs.py."""

FETCHING = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "srcset", "video": "src"}
"""Elements that make a browser fetch, by the attribute that says what."""


class Page(HTMLParser):
    """The addresses that a page makes a browser fetch, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag in FETCHING and named.get("rel") not in ("canonical", "next", "prev", "license"):
            self.fetched.append(named.get(FETCHING[tag]) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does; mkdocs.yml makes every warning an error."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_of_docs_is_in_the_site_and_its_menu(site: Path) -> None:
    menu = {
        name
        for section in yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
        for names in section.values()
        for name in names
    }
    assert {page.name for page in DOCS.glob("*.md")} <= menu
    assert {name.removesuffix(".md") + ".html" for name in menu} <= {page.name for page in site.glob("*.html")}


def test_nothing_in_the_site_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        for address in Page(page.read_text("utf-8")).fetched:
            assert not urlsplit(address).netloc, f"{page.name} fetches {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text("utf-8")), sheet.name


def test_the_search_knows_settings_routes_and_the_client_without_a_server(site: Path) -> None:
    script = (site / "search" / "search_index.js").read_text("utf-8")
    index = json.loads(script.removeprefix("var __index ="))
    found = {(entry["location"].partition("#")[0], entry["title"]) for entry in index["docs"]}
    text = " ".join(entry["text"] for entry in index["docs"])
    assert ("routes.html", "POST /v1/image_generation") in found
    assert "LIMNER_QUEUE_LIMIT" in text
    assert "aspect_ratio" in " ".join(entry["text"] for entry in index["docs"] if "python.html" in entry["location"])


def test_the_page_of_routes_has_every_route_of_the_openapi_document(site: Path, server: Server) -> None:
    page = (site / "routes.html").read_text("utf-8")
    for path, operations in server.client.get("/openapi.json").json()["paths"].items():
        for method in operations:
            assert f">{method.upper()} {path}<" in page


def examples() -> list[tuple[str, str, str]]:
    """Page, language and text of every example that is to run: blocks of `sh` and `python`. Others are only read,
    those of `py` because they need packages that are not installed for tests."""
    return [
        (page.name, block[1], block[2])
        for page in sorted(DOCS.glob("*.md"))
        if page.name not in RUN_ELSEWHERE
        for block in re.finditer(r"^```(sh|python)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize(
    ("page", "language", "text"),
    examples(),
    ids=[f"{page}-{number}" for number, (page, _, _) in enumerate(examples())],
)
def test_an_example_runs(page: str, language: str, text: str, server: Server, tmp_path: Path) -> None:
    text = text.replace(ADDRESS, server.url)
    command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "error"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, f"{page}: {ran.stdout}{ran.stderr}"
    if ran.stdout.startswith("{"):
        reply = json.loads(ran.stdout)
        assert reply.get("base_resp", {}).get("status_code", 0) == 0, reply
        assert not reply.get("error"), reply


def test_every_page_that_teaches_the_interface_has_an_example_that_runs() -> None:
    assert {"quickstart.md", "minimax.md", "http.md", "openai.md"} <= {page for page, _, _ in examples()}
