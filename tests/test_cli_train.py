"""`limner train`: help at once, arguments passed on, a sentence where the train extra is missing."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from limner.cli.app import app
from limner.cli.train import COMMANDS

LIMNER = str(Path(sys.executable).with_name("limner"))


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LIMNER, "train", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        check=False,
    )


def test_the_list_names_every_command_and_imports_no_training(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1", COLUMNS="200")
    assert done.returncode == 0
    for name, (_, _, about) in COMMANDS.items():
        assert re.search(rf"\b{name}\b.*{re.escape(about)}", done.stdout), name
    assert "limner.cli.train" in done.stderr
    assert not re.search(r"\| +(torch|numpy|cv2|limner\.painter)", done.stderr)


def test_arguments_and_their_help_are_the_modules_own(tmp_path: Path) -> None:
    done = run("evaluate-words", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: limner train evaluate-words [-h]")
    assert "--list" in done.stdout
    assert run("preview", "--scenes", "many", cwd=tmp_path).returncode == 2


def test_arguments_are_passed_on_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    class Module:
        @staticmethod
        def main() -> None:
            seen.append(list(sys.argv))

    monkeypatch.setattr("limner.cli.train.importlib.import_module", lambda name: Module)
    monkeypatch.setattr(sys, "argv", ["limner"])
    done = CliRunner().invoke(app, ["train", "data", "--out", "a b", "-x3", "--shards=4", "--help"])
    assert done.exit_code == 0
    assert seen == [["limner train data", "--out", "a b", "-x3", "--shards=4", "--help"]]


def test_a_missing_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("limner.cli.train.importlib.import_module", missing)
    monkeypatch.setattr(sys, "argv", ["limner"])
    done = CliRunner().invoke(app, ["train", "denoiser"])
    assert done.exit_code == 1
    assert done.stderr == ("limner: Training needs the train extra: pip install 'limner[train]' (torch is missing).\n")
    assert "train" in importlib.metadata.metadata("limner").get_all("Provides-Extra")


def test_ctrl_c_is_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("limner.cli.train.importlib.import_module", stopped)
    monkeypatch.setattr(sys, "argv", ["limner"])
    done = CliRunner().invoke(app, ["train", "denoiser"])
    assert (done.exit_code, done.stderr) == (130, "limner: stopped.\n")


def test_an_unknown_command_is_refused() -> None:
    assert CliRunner().invoke(app, ["train", "everything"]).exit_code == 2
