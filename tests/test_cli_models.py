"""`limner models` and the models that `limner generate` and `limner serve` are given."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner, Result

from command_line import Recorder
from limner.cli.app import app
from limner.config import Settings
from limner.models import entries
from limner.pipelines.base import Pipeline
from parity import stable_diffusion_folder

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FILE = Path("limner-data") / "models.toml"


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion, as diffusers saves it."""
    path = tmp_path_factory.mktemp("models") / "sd"
    stable_diffusion_folder(path)
    for file in path.rglob("*"):
        os.utime(file, (1e9, 1e9))  # old enough for their checksums to be remembered
    return path


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("LIMNER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)


def models(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["models", *arguments])
    assert result.exit_code == code, result.output
    return result


def plain(text: str) -> str:
    return re.sub(r"[\s│╭╮╰╯─]+", " ", text)


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_without_any_model_the_painter_is_listed(arguments: list[str]) -> None:
    assert "image-01 image-01-live painter painter" in plain(models(*arguments).stdout)
    (row,) = json.loads(models(*arguments, "--json").stdout)
    assert row.pop("bytes") > 10**7
    assert row == {
        "model": "image-01", "aliases": ["image-01-live"], "weights": "painter", "family": "painter", "usable": True,
        "problems": [],
    }  # fmt: skip


def test_a_model_is_added_listed_checked_and_removed(sd: Path) -> None:
    said = models("add", "image-01", str(sd), "--steps", "4", "--guidance", "1.5", "--alias", "gpt-image-1").stdout
    assert "stable-diffusion" in said
    assert FILE.read_text() == (f'[image-01]\nweights = "{sd}"\naliases = ["gpt-image-1"]\nsteps = 4\nguidance = 1.5\n')
    assert f"image-01 image-01-live, gpt-image-1 stable-diffusion {sd}" in plain(models().stdout)
    (row,) = json.loads(models("--json").stdout)
    assert (row["usable"], row["family"], row["bytes"] > 10**5) == (True, "stable-diffusion", True)
    assert "ok" in models("check", "gpt-image-1").stdout
    assert "Its weights were not touched" in models("remove", "image-01").stdout
    assert FILE.read_text() == ""
    assert sd.is_dir()
    assert json.loads(models("--json").stdout)[0]["family"] == "painter"


def test_every_option_of_add_is_written(sd: Path) -> None:
    shutil.copy(sd / "unet" / "diffusion_pytorch_model.safetensors", "unet.safetensors")
    safetensors.numpy.save_file({"image_proj.proj.weight": np.zeros(3)}, "ip.safetensors")
    models(
        "add", "mine", "unet.safetensors", "--base", str(sd), "--sampler", "euler", "--device", "cpu", "--precision",
        "f32", "--quantize", "int8", "--runtime", "torch", "--batch", "2", "--adapter", "ip.safetensors",
        "--reference-strength", "0.5", "--first-block", "0.1",
    )  # fmt: skip
    (model,) = entries.read_file(FILE)
    assert model.weights == str(Path("unet.safetensors").absolute())
    assert (model.base, model.sampler, model.device, model.precision) == (str(sd), "euler", "cpu", "f32")
    assert (model.quantize, model.runtime, model.batch, model.reference_strength) == ("int8", "torch", 2, 0.5)
    assert model.first_block == 0.1
    assert model.adapter == str(Path("ip.safetensors").absolute())


def test_add_keeps_what_stands_in_the_file_and_a_path_is_relative_to_where_it_is_typed(
    sd: Path, tmp_path: Path
) -> None:
    FILE.parent.mkdir()
    FILE.write_text("# ours\n[old]\nweights = 'painter'\n")
    shutil.copytree(sd, tmp_path / "near")
    document = json.loads(models("add", "new", "near", "--json").stdout)
    assert document["model"] == "new"
    assert FILE.read_text() == f"# ours\n[old]\nweights = 'painter'\n\n[new]\nweights = \"{tmp_path / 'near'}\"\n"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["add", "x", "nowhere"], 1, "nowhere is not there"),
        (["add", "x", "owner/name"], 1, "hf download owner/name"),
        (["add", "x", "SD", "--steps", "999"], 2, "steps of [x] in limner-data/models.toml cannot be used"),
        (["add", "x", "SD", "--device", "gpu"], 2, "give auto, cpu"),
        (["add", "a/b", "SD"], 2, "cannot be a model's name"),
        (["remove", "x"], 2, "has no model x"),
        (["check", "nowhere"], 1, "nowhere is not there"),
        (["--config", "none.toml"], 2, "none.toml cannot be read"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_leaves_no_file(
    sd: Path, arguments: list[str], code: int, sentence: str
) -> None:
    result = models(*(str(sd) if argument == "SD" else argument for argument in arguments), code=code)
    assert sentence in result.stderr
    assert not FILE.exists()


def test_a_name_can_be_added_once(sd: Path) -> None:
    models("add", "x", str(sd))
    assert "Take it out first: limner models remove x" in models("add", "x", str(sd), code=2).stderr


def test_a_file_that_is_wrong_is_not_added_to_but_the_wrong_entry_can_be_removed(sd: Path) -> None:
    FILE.parent.mkdir()
    FILE.write_text("[x]\nwieghts = 'y'\n")
    for arguments in (["list"], ["add", "y", str(sd)], ["check", "x"]):
        assert "Did you mean weights?" in models(*arguments, code=2).stderr
    assert FILE.read_text() == "[x]\nwieghts = 'y'\n"
    models("remove", "x")  # the way out
    models("list")


def test_check_says_what_weights_are_part_by_part(sd: Path) -> None:
    said = plain(models("check", str(sd)).stdout)
    assert "family stable-diffusion" in said
    assert "unet UNet2DConditionModel" in said
    assert said.endswith("ok ")
    document = json.loads(models("check", str(sd), "--json", "--checksum").stdout)
    parts = {part["part"]: part for part in document["parts"]}
    assert (parts["unet"]["precision"], parts["scheduler"]["precision"]) == ("f32", None)
    assert document["problems"] == []
    assert len(document["sha256"]) == 64
    assert (Path("limner-data") / "networks" / "checksums.json").exists()


def test_check_says_what_is_missing_and_exits_with_1(sd: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(sd, tmp_path / "broken"))
    shutil.rmtree(broken / "vae")
    (broken / "unet" / "config.json").unlink()
    said = models("check", str(broken), code=1).stdout
    assert "problem: " in said
    assert "lacks the folder of its vae" in said
    assert said.rstrip().endswith("unusable")
    assert len(json.loads(models("check", str(broken), "--json", code=1).stdout)["problems"]) == 2
    FILE.parent.mkdir()
    FILE.write_text(f'[broken]\nweights = "{broken}"\n[gone]\nweights = "gone"\n')
    listed = models().stdout
    assert plain(listed).count("unusable") == 2
    assert "gone: " in listed
    assert [row["usable"] for row in json.loads(models("--json").stdout)] == [False, False, True]


def test_check_loads_the_painter_and_tells_its_fingerprint() -> None:
    document = json.loads(models("check", "image-01", "--json").stdout)
    assert re.fullmatch(r"[0-9a-f]{16}", document["fingerprint"])
    assert Path(document["drawings"]).is_file()


def test_help_names_the_commands() -> None:
    said = plain(models("--help").stdout)
    for name in ("list", "add", "check", "remove"):
        assert name in said


def test_weights_and_options_of_the_command_line_reach_the_engine(sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painter, loaded = Recorder(), []

    def load_pipelines(settings: Settings, first: str) -> dict[str, Pipeline]:
        loaded.append((settings.models, first))
        return {"mine": painter}

    monkeypatch.setattr("limner.service.load_pipelines", load_pipelines)
    monkeypatch.setenv("LIMNER_MODELS", "other=painter")
    options = ("--sampler", "heun", "--negative", "rain", "--lora", "light=0.5", "--lora", "ink", "--seed", "3")
    result = CliRunner().invoke(app, ["generate", "a red fox", "--model", f"mine={sd}", *options])
    assert result.exit_code == 0, result.output
    assert loaded == [({"other": "painter", "mine": str(sd)}, "mine")]
    (request,) = painter.requests
    assert (request.model, request.sampler, request.negative_prompt) == ("mine", "heun", "rain")
    assert request.loras == (("light", 0.5), ("ink", 1.0))


def test_generate_refuses_weights_that_are_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["generate", "a red fox", "--model", "mine=nowhere"])
    assert result.exit_code == 1
    assert f"{tmp_path / 'nowhere'} is not there" in result.stderr
    assert not (tmp_path / "limner.jpg").exists()


def test_serve_refuses_a_model_twice_and_a_file_that_is_wrong_before_it_listens(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["serve", "--port", "0", "--model", "a=/x", "--model", "a=/y"])
    assert result.exit_code == 2
    assert "a is given twice" in plain(result.stderr)
    (tmp_path / "m.toml").write_text("[a]\n")
    (tmp_path / "limner.toml").write_text('models_file = "m.toml"')
    result = CliRunner().invoke(app, ["serve", "--port", "0", "--config", "limner.toml"])
    assert result.exit_code == 2
    assert "[a] in m.toml has no weights" in result.stderr
