"""The proof at true size writes the published configurations, and tells what it found."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "true_size.py"


@pytest.fixture
def true_size(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("true_size")


def test_the_denoisers_have_as_many_weights_as_the_published_ones(true_size: Any) -> None:
    for model in true_size.MODELS.values():
        with torch.device("meta"):
            network = getattr(diffusers, model.kind)(**model.denoiser)
        assert sum(value.numel() for value in network.parameters()) == model.parameters, model.name


def test_weights_are_written_in_parts_and_read_as_they_were_drawn(
    true_size: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(true_size, "SHARD", 2**16)
    model = true_size.MODELS["sd-turbo"]
    written = [true_size.write_random(model, tmp_path / name, tiny=True) for name in ("one", "other")]
    assert len(list((tmp_path / "one").glob("*.safetensors"))) > 10
    one, other = (
        diffusers.UNet2DConditionModel.from_pretrained(tmp_path / name, torch_dtype=torch.bfloat16)
        for name in ("one", "other")
    )
    assert written[0] == sum(value.numel() for value in one.parameters())
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_layers_output_is_about_as_large_as_its_input(true_size: Any) -> None:
    weights = true_size.drawn(np.random.default_rng(1), (512, 3000)).float()
    output = torch.randn(64, 3000, generator=torch.Generator().manual_seed(1)) @ weights.T
    assert 0.5 < output.std() < 2
    assert abs(weights.mean()) < 1e-4


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *words, "--tiny", "--sides", "64"]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_model_that_keeps_to_its_budget_is_a_row_of_the_table(tmp_path: Path) -> None:
    done = run("flux", "--work", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "machine   " in done.stdout
    assert "| FLUX.1 schnell, int8 weights | 0.0" in done.stdout
    assert "| 14, kept |" in done.stdout
    assert not any(tmp_path.iterdir())


def test_a_model_that_misses_its_budget_fails_and_a_picture_that_takes_too_long_is_left_out(
    true_size: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"parameters": 865_910_724, "peak": 3.9, "load": 1.0, "evaluations": [40.0, 36.0], "decode": 2.0}
    monkeypatch.setattr(true_size, "apart", lambda *words: told)
    assert true_size.measure("sd-turbo", [512, 1024], tmp_path / "work", tiny=True)
    assert "| 4, kept |" in (said := capsys.readouterr().out)
    assert "| 1024×1024 | left out: an evaluation would take 144 s |" in said
    assert not true_size.measure("sd-turbo", [512], tmp_path / "work", tiny=True, budget=3.5)
    assert "| 3.5, MISSED |" in capsys.readouterr().out


def test_a_model_of_another_name_is_refused() -> None:
    done = run("flux2")
    assert done.returncode == 2
    assert "there is no flux2; there are sd-turbo, sdxl, flux" in done.stderr
