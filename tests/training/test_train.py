"""Training: a run is a function of its settings and its data, however often it was interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limner.painter.denoiser import PATCH, STYLES, TEXT_DIM, TEXT_TOKENS
from limner.painter.training import train as training
from limner.painter.training.batches import Batch, Pictures, load_batch, load_pictures
from limner.painter.training.data import PAINTINGS, SCENES, Shard
from limner.painter.training.network import Network
from limner.painter.training.train import Limits, Run, loss_of, train

RUN = Run(depth=2, steps=10, batch=4, warmup=2, rate=1e-3, ema=0.9)


def shard(rows: int, cols: int, seed: int, text: bool = True) -> Shard:
    rng = np.random.default_rng(seed)
    h, w, count = rows * PATCH, cols * PATCH, SCENES * PAINTINGS

    def pixels(*shape: int) -> Any:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    corner = rng.uniform(0, 4, (SCENES, 2))
    return Shard(
        draft=pixels(SCENES, h, w, 3),
        target=pixels(count, h, w, 3),
        style=rng.integers(0, len(STYLES), count).astype(np.uint8),
        caption=np.array(["a cat"] * count),
        sprite=pixels(SCENES, 96, 96, 4),
        box=np.concatenate((corner, corner + 3), axis=1).astype(np.float32),
        text=rng.standard_normal((count, TEXT_TOKENS, TEXT_DIM)).astype(np.float16) if text else None,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    shard(8, 8, 0).save(folder / "00000")
    shard(8, 9, 1).save(folder / "00001")
    (folder / "00002.partial").mkdir()  # what a killed writer left
    return folder


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The networks are too small for two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def go(
    data: Path, out: Path, run: Run = RUN, save_seconds: float = 0, seconds: float = 600, sheets: bool = False
) -> Network:
    """Train here and now. Sheets, which take longer than the run, are painted only where a test looks at them."""
    limits = Limits(compiled=False, seconds=seconds, save_seconds=save_seconds, peak_tflops=0.2)
    with pytest.MonkeyPatch.context() as patch:
        if not sheets:
            patch.setattr(training, "sheet", lambda *_: None)
        return train(run, data, out, limits)


def checkpoint(out: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)
    return saved


def assert_equal(one: Any, other: Any) -> None:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    go(data, out)
    return out


class Killed(BaseException):
    """The process ends here."""


def killed(data: Path, out: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until the batch of step `at` would be needed."""

    def load(run: Run, shards: list[Pictures], step: int) -> Batch:
        if step == at:
            raise Killed
        return load_batch(run, shards, step)

    with monkeypatch.context() as patch:
        patch.setattr(training, "load_batch", load)
        with pytest.raises(Killed):
            go(data, out)


@pytest.mark.parametrize("steps", [(2,), (6,), (5, 9)])
def test_a_run_killed_anywhere_and_started_again_ends_in_the_same_weights(
    data: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...]
) -> None:
    for at in steps:
        killed(data, tmp_path, at, monkeypatch)
    go(data, tmp_path)
    assert_equal(checkpoint(tmp_path), checkpoint(unbroken))


def test_a_process_that_is_killed_outright_goes_on_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    """SIGKILL, wherever it strikes: no handler runs, nothing is flushed."""
    run, out = replace(RUN, steps=30, batch=2), tmp_path / "killed"
    program = (
        "import sys, torch; from pathlib import Path; from limner.painter.training import train as t\n"
        "from limner.painter.training.train import Limits, Run; torch.set_num_threads(1); t.sheet = lambda *_: None\n"
        f"t.train({run!r}, Path(sys.argv[1]), Path(sys.argv[2]), Limits(compiled=False, save_seconds=0))"
    )
    for steps in (3, 12):
        process = subprocess.Popen([sys.executable, "-c", program, str(data), str(out)], stdout=subprocess.DEVNULL)
        while not ((out / "checkpoint.pt").exists() and checkpoint(out)["step"] >= steps):
            assert process.poll() is None, "the run ended by itself"
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert 12 <= checkpoint(out)["step"] < 30
    go(data, out, run)
    go(data, tmp_path / "unbroken", run)
    assert_equal(checkpoint(out), checkpoint(tmp_path / "unbroken"))


def test_a_run_in_slices_of_time_ends_in_the_same_weights(data: Path, unbroken: Path, tmp_path: Path) -> None:
    go(data, tmp_path, seconds=0)
    assert checkpoint(tmp_path)["step"] == 0
    go(data, tmp_path, save_seconds=60)
    assert_equal(checkpoint(tmp_path), checkpoint(unbroken))


def test_a_finished_run_is_left_as_it_is(data: Path, unbroken: Path) -> None:
    before = checkpoint(unbroken)
    average = go(data, unbroken)
    assert_equal(checkpoint(unbroken), before)
    assert_equal(dict(average.state_dict()), before["average"])


def test_a_run_may_start_from_the_weights_of_another(data: Path, unbroken: Path, tmp_path: Path) -> None:
    run = replace(RUN, seed=3, start=str(unbroken / "checkpoint.pt"))
    started = go(data, tmp_path / "whole", run, seconds=0)
    assert_equal(dict(started.state_dict()), checkpoint(unbroken)["average"])
    trained = go(data, tmp_path / "whole", run)
    unbroken_too = go(data, tmp_path / "other", run)
    assert_equal(dict(trained.state_dict()), dict(unbroken_too.state_dict()))


def test_training_lowers_the_loss_and_writes_its_log(data: Path, tmp_path: Path) -> None:
    shards = load_pictures(data, "cpu")
    trained = go(data, tmp_path, replace(RUN, steps=20, rate=3e-3, ema=0.3))
    torch.manual_seed(RUN.seed)
    untrained = Network(trained.config)
    with torch.no_grad():
        losses = [[loss_of(n, load_batch(RUN, shards, step)).item() for step in range(4)] for n in (untrained, trained)]
    assert np.mean(losses[1]) < np.mean(losses[0])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20]
    assert lines[0]["whole"]
    assert lines[0]["seconds_left"] == 0
    assert lines[0]["images_per_second"] > 0
    assert 0 < lines[0]["share_of_peak"] < 1


def test_a_sheet_shows_draft_four_strengths_and_target(data: Path, tmp_path: Path) -> None:
    go(data, tmp_path, replace(RUN, steps=1), sheets=True)
    (path,) = tmp_path.glob("sheet-*.png")
    assert path.name == "sheet-000001.png"
    with Image.open(path) as sheet:
        assert sheet.size == (6 * 8 * PATCH, 8 * 8 * PATCH)


@pytest.mark.parametrize("field", [field.name for field in fields(Run)])
def test_a_checkpoint_of_another_run_is_refused(data: Path, unbroken: Path, field: str) -> None:
    other = {"depth": 4, "first": 3, "start": str(unbroken / "checkpoint.pt"), "objective": "8 steps"}.get(
        field, getattr(RUN, field) * 2
    )
    changed = replace(RUN, **{field: other or 1})
    with pytest.raises(ValueError, match=r"belongs to another run.*; give another --out or the same settings"):
        go(data, unbroken, changed)


def test_without_shards_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no shards; make them with limner.painter.training.data"):
        go(tmp_path, tmp_path / "out")


def test_a_shard_without_text_is_refused(tmp_path: Path) -> None:
    shard(8, 8, 0, text=False).save(tmp_path / "data" / "00000")
    with pytest.raises(ValueError, match=r"no text; run limner.painter.training.data again"):
        go(tmp_path / "data", tmp_path / "out")


def test_the_rate_warms_up_holds_and_falls_to_nothing() -> None:
    run = Run(steps=1000, warmup=100, decay_from=0.5, rate=2.0)
    rates = [run.learning_rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[99:500] == [2.0] * 401
    assert rates[750] == pytest.approx(1.0)
    assert 0 < rates[999] < 0.01
    again = [replace(run, first=600).learning_rate(step) for step in range(600, 1000)]
    assert again[0] == pytest.approx(rates[600] / 100)
    assert again[100:] == rates[700:]
