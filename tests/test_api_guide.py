"""A program for MiniMax's API with only host and key changed (examples/guide.py), and the parts of the demo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from conftest import Server

ROOT = Path(__file__).resolve().parent.parent
Serve = Callable[..., Server]


def script(path: str) -> Any:
    spec = spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo() -> Any:
    return script("scripts/demo.py")


def test_the_guides_program_paints_both_requests(serve: Serve, tmp_path: Path, demo: Any) -> None:
    server = serve(api_keys="sk-api-mine")
    environment = {**os.environ, "MINIMAX_API_HOST": server.url, "MINIMAX_API_KEY": "sk-api-mine"}
    done = subprocess.run(
        [sys.executable, ROOT / "examples/guide.py"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["beach-0.jpeg", "library-0.jpeg"]
    for name in done.stdout.split():
        assert demo.jpeg_size((tmp_path / name).read_bytes()) == (1280, 720)


def test_a_reference_by_url_is_fetched_where_its_network_is_allowed(serve: Serve, demo: Any) -> None:
    guide = demo.guide
    with demo.served(demo.GIRL) as url:
        payload = guide.with_subject(guide.IMAGE_TO_IMAGE, url)
        images, seeds = guide.generate(serve(reference_allow="127.0.0.1/32").url, "any", payload)
        assert len(images) == len(seeds.split(",")) == 1
        with pytest.raises(RuntimeError, match="2013"):
            guide.generate(serve().url, "any", payload)


def test_the_guides_program_tells_a_wrong_key(serve: Serve, demo: Any) -> None:
    with pytest.raises(RuntimeError, match="2049"):
        demo.guide.generate(serve(api_keys="right").url, "wrong", demo.guide.TEXT_TO_IMAGE)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_the_demo_does_not_take_anything_else_for_a_jpeg(demo: Any, data: bytes) -> None:
    with pytest.raises(demo.DemoFailed):
        demo.jpeg_size(data)


def test_the_demo_ends_with_a_sentence_and_1_where_the_service_does_not_start(tmp_path: Path) -> None:
    # A Python whose neighbour `limner` stops at once stands for a broken installation.
    (tmp_path / "limner").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "limner").chmod(0o755)
    code = (
        f"import sys, runpy; sys.executable = {str(tmp_path / 'python')!r}; "
        f"runpy.run_path({str(ROOT / 'scripts/demo.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "exit code 3" in done.stderr
