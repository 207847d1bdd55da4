"""Training: a run is a function of its settings and its data, however often it was interrupted."""

from __future__ import annotations

import json
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
from limner.painter.training.data import PAINTINGS, SCENES, Shard
from limner.painter.training.network import Network
from limner.painter.training.train import Batch, Run, load_batch, loss_of, train

RUN = Run(depth=2, steps=10, batch=4, whole_from=0.7, warmup=2, rate=1e-3, ema=0.9)


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


def go(data: Path, out: Path, run: Run = RUN, every: int = 4, seconds: float = 600, sheets: bool = False) -> Network:
    """Train here and now. Sheets, which take longer than the run, are painted only where a test looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        if not sheets:
            patch.setattr(training, "sheet", lambda *_: None)
        return train(run, data, out, device="cpu", compiled=False, seconds=seconds, every=every)


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

    def load(run: Run, shards: list[Shard], step: int) -> Batch:
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


def test_a_run_in_slices_of_time_ends_in_the_same_weights(data: Path, unbroken: Path, tmp_path: Path) -> None:
    go(data, tmp_path, seconds=0)
    assert checkpoint(tmp_path)["step"] == 0
    go(data, tmp_path, every=3)
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
    shards = [Shard.load(data / "00000"), Shard.load(data / "00001")]
    trained = go(data, tmp_path, replace(RUN, steps=40, rate=3e-3, ema=0.5), every=100)
    torch.manual_seed(RUN.seed)
    untrained = Network(trained.config)
    with torch.no_grad():
        losses = [[loss_of(n, load_batch(RUN, shards, step)).item() for step in range(4)] for n in (untrained, trained)]
    assert np.mean(losses[1]) < np.mean(losses[0])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [40]
    assert {"loss", "images_per_second", "seconds"} <= lines[0].keys()


def test_a_sheet_shows_draft_four_strengths_and_target(data: Path, tmp_path: Path) -> None:
    go(data, tmp_path, replace(RUN, steps=1), sheets=True)
    (path,) = tmp_path.glob("sheet-*.png")
    assert path.name == "sheet-000001.png"
    with Image.open(path) as sheet:
        assert sheet.size == (6 * 8 * PATCH, 8 * 8 * PATCH)


@pytest.mark.parametrize("field", [field.name for field in fields(Run)])
def test_a_checkpoint_of_another_run_is_refused(data: Path, unbroken: Path, field: str) -> None:
    other = {"depth": 4, "start": str(unbroken / "checkpoint.pt")}.get(field, getattr(RUN, field) * 2)
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


def test_a_batch_is_a_function_of_its_step(data: Path) -> None:
    shards = [Shard.load(data / "00000"), Shard.load(data / "00001")]
    for step in (0, 1, 8):
        one = load_batch(RUN, shards, step)
        load_batch(RUN, shards, step + 5)
        other = load_batch(RUN, shards, step)
        for field in fields(Batch):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name
    assert not torch.equal(load_batch(RUN, shards, 0).noise, load_batch(RUN, shards, 1).noise)
    assert not torch.equal(load_batch(RUN, shards, 0).noise, load_batch(replace(RUN, seed=1), shards, 0).noise)


def test_batches_are_crops_first_and_whole_pictures_last(data: Path) -> None:
    shards = [Shard.load(data / "00001")]
    first, last = load_batch(RUN, shards, 0), load_batch(RUN, shards, RUN.steps - 1)
    assert first.clean.shape == (4, 3, 8 * PATCH, 8 * PATCH)
    assert last.clean.shape == (1, 3, 8 * PATCH, 9 * PATCH)
    for batch in (first, last):
        size, _, height, width = batch.clean.shape
        assert batch.draft.shape == (size, 4, height, width)
        assert batch.noise.shape == batch.clean.shape
        assert batch.text.shape == (size, TEXT_TOKENS, TEXT_DIM)
        tokens = height * width // PATCH**2 + TEXT_TOKENS + batch.reference.shape[1]
        assert len(batch.cos) == len(batch.sin) == tokens
        assert -1 <= batch.clean.min() < batch.clean.max() <= 1
        assert ((batch.t >= 0) & (batch.t < 1)).all()
        assert set(batch.draft[:, 3].unique().tolist()) <= {0.0, 1.0}
        hidden = batch.draft[:, 3:] == 0
        assert (batch.draft[:, :3][hidden.expand(-1, 3, -1, -1)] == 0).all()


def test_conditions_are_left_out_now_and_then(data: Path) -> None:
    """Else neither guidance nor a prompt without a style would be known."""
    shards = [Shard.load(data / "00000")]
    batches = [load_batch(replace(RUN, batch=64, steps=1000), shards, step) for step in range(12)]
    no_text = np.mean([(b.text == 0).all(dim=(1, 2)).float().mean().item() for b in batches])
    no_style = np.mean([(b.style == 0).all(dim=1).float().mean().item() for b in batches])
    referenced = np.mean([b.reference.shape[1] > 0 for b in batches])
    hidden = np.mean([(b.strength > 0).float().mean().item() for b in batches])
    assert 0.05 < no_text < 0.2
    assert 0.05 < no_style < 0.2
    assert 0.1 < referenced < 0.9
    assert 0.15 < hidden < 0.6


def test_the_rate_warms_up_holds_and_falls_to_nothing() -> None:
    run = Run(steps=1000, warmup=100, decay_from=0.5, rate=2.0)
    rates = [run.learning_rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[99:500] == [2.0] * 401
    assert rates[750] == pytest.approx(1.0)
    assert 0 < rates[999] < 0.01
