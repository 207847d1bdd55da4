"""The command line in tests: on the tiny pipeline, in this process or in one of its own, with no settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from limner.engine.core import Encoded, Request
from tiny_pipeline import TinyPipeline

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}

SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import limner.service
from tiny_pipeline import TinyPipeline
pipeline = TinyPipeline()
{body}
limner.service.load_pipelines = lambda *_: {{"image-01": pipeline, "image-01-live": pipeline}}
from limner.cli.app import app
app(prog_name="limner")
"""


class Recorder(TinyPipeline):
    """Keeps the requests that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def encode(self, request: Request) -> Encoded:
        self.requests.append(request)
        return super().encode(request)


def no_settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Commands run in this folder, with nothing set in the environment."""
    for name in list(os.environ):
        if name.startswith("LIMNER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)


def paint_with(pipeline: TinyPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process paint with this pipeline."""
    monkeypatch.setattr("limner.service.load_pipelines", lambda *_: {"image-01": pipeline, "image-01-live": pipeline})


def process(body: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The command line in a process of its own; `body` may change its `pipeline`."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parent), body=body), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | environment,
    )
