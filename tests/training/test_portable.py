"""What travels of a run: small weights that training and export read, in parts that come together again."""

from __future__ import annotations

import importlib.util
import json
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from limner.painter.denoiser import STYLES
from limner.painter.training.network import Config, Network
from limner.painter.training.portable import shrink
from limner.painter.training.train import Run, read

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_run.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = Network(Config(depth=2, styles=len(STYLES))).state_dict()
    other = {name: weight.clone() for name, weight in state.items()}
    torch.save({"run": asdict(Run(depth=2)), "step": 7, "network": other, "average": state, "optimizers": []},
               tmp_path / "checkpoint.pt")  # fmt: skip
    return tmp_path / "checkpoint.pt"


def test_a_shrunk_checkpoint_has_half_the_bytes_of_the_weights_and_can_be_gone_on_from(
    checkpoint: Path, tmp_path: Path
) -> None:
    shrink(checkpoint, tmp_path / "weights.pt")
    exact, small = read(checkpoint), read(tmp_path / "weights.pt")
    assert small.keys() == exact.keys()
    for name, weight in exact.items():
        torch.testing.assert_close(small[name].float(), weight, rtol=1e-3, atol=1e-6)
    assert (tmp_path / "weights.pt").stat().st_size < 0.26 * checkpoint.stat().st_size
    state = json.loads((tmp_path / "weights.json").read_text())
    assert state == {"step": 7, "run": asdict(Run(depth=2))}


def test_parts_are_small_enough_and_come_together_again(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert script.PART < 16 * 2**20
    assert script.PARTS * script.PART > 50e6, "a denoiser of 25 million weights comes back"
    monkeypatch.setattr(script, "PART", 1000)
    data = bytes(range(256)) * 14
    (tmp_path / "weights.pt").write_bytes(data)
    out = tmp_path / "out"
    out.mkdir()
    script.split(tmp_path / "weights.pt", out)
    assert sorted(path.stat().st_size for path in out.iterdir()) == [584, 1000, 1000, 1000]
    script.join(Namespace(parts=out, to=tmp_path / "joined"))
    assert (tmp_path / "joined" / "weights.pt").read_bytes() == data


def test_weights_too_large_to_come_back_and_parts_that_are_missing_have_a_sentence(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "PART", 10)
    (tmp_path / "weights.pt").write_bytes(bytes(41))
    with pytest.raises(SystemExit, match="at most"):
        script.split(tmp_path / "weights.pt", tmp_path)
    with pytest.raises(SystemExit, match=r"holds no weights\.pt\.0"):
        script.join_parts(tmp_path / "none", tmp_path / "x")


def test_a_slice_does_each_stage_goes_on_from_what_was_carried_and_leaves_at_most_eight_files(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages' own work is replaced by its traces; what is asked of them, and what comes back, is real."""
    asked: list[list[str]] = []

    def traces(command: list[str], **_: Any) -> Namespace:
        module = command[command.index("-m") + 1].rpartition(".")[2]
        words = command[command.index("-m") + 2 :]
        asked.append([module, *words])
        if module == "data":
            shard = tmp_path / "data" / f"{sum(words[0] == 'data' for words in asked):05d}"
            shard.mkdir(parents=True)
            (shard / "text.npy").touch()
        if module == "train":
            out = Path(words[words.index("--out") + 1])
            out.mkdir(exist_ok=True)
            (out / "log.jsonl").write_text("{}\n")
            for step in (10, 20):
                (out / f"sheet-{step:06d}.png").write_bytes(bytes([step]))
        if module == "portable":
            out = Path(words[words.index("--out") + 1])
            out.write_bytes(bytes(55_000_000))
            out.with_suffix(".json").write_text('{"step": 20, "run": {}}')
        return Namespace(stdout="a table", returncode=0)

    monkeypatch.setattr(script, "install", lambda *_: {})
    monkeypatch.setattr(script.subprocess, "run", traces)
    monkeypatch.setattr(
        script.subprocess, "Popen", lambda command, **_: (traces(command), Namespace(wait=lambda: 0))[1]
    )
    monkeypatch.setattr(sys, "argv", ["gpu_run.py", "run", "--pack", str(tmp_path / "pack"), "--work", str(tmp_path),
                                      "--out", str(tmp_path / "out"), "--shards", "3", "--device", "cpu",
                                      "--steps", "20"])  # fmt: skip
    (tmp_path / "pack").mkdir()
    script.main()
    assert [words[0] for words in asked] == ["data", "data", "train", "portable", "evaluate"]
    train = asked[2]
    assert "--start" not in train
    seconds = [float(words[words.index("--seconds") + 1]) for words in asked[:3]]
    assert seconds[0] == 240
    assert 300 < seconds[1] < seconds[2] < 570, "the rest is drawn beside training, and ends before it"
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["log.jsonl", "sheet.png", "state.json", "table.txt", *(f"weights.pt.{k}" for k in range(4))]
    assert (tmp_path / "out" / "sheet.png").read_bytes() == bytes([20])

    (tmp_path / "pack" / "state.json").write_text('{"step": 12}')
    asked[:] = asked[:2]
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-2], "--steps", "99"])
    script.main()
    assert [words[0] for words in asked] == ["data", "data", "data", "train", "portable"], "a table is for the end"
    train = asked[3]
    assert train[train.index("--start") + 1] == str(tmp_path / "pack" / "start.pt")
    assert train[train.index("--first") + 1] == "12"
    asked.clear()
    script.main()
    assert [words[0] for words in asked] == ["train", "portable"], "all is drawn"
