"""Distilling: a step of the student goes where two of its teacher's go, and one evaluation gives what two gave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.engine import levels, samplers
from limner.painter.denoiser import PATCH, STYLES, TEXT_DIM, TEXT_TOKENS, rotary
from limner.painter.training import train as training
from limner.painter.training.batches import Batch
from limner.painter.training.data import PAINTINGS, Shard
from limner.painter.training.distill import Stages, depth_of, distill, guided_by, halved, two_steps
from limner.painter.training.network import Config, Network
from limner.painter.training.train import Limits


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The networks are too small for two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batch(size: int = 3, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    cos, sin = (torch.from_numpy(table)[None, None].expand(size, -1, -1, -1) for table in rotary(2, 2, 0))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    return Batch(
        clean=normal(size, 3, 32, 32).clamp(-1, 1), draft=normal(size, 4, 32, 32), text=normal(size, 24, TEXT_DIM),
        reference=torch.zeros(size, 0, 4 * PATCH * PATCH), strength=torch.rand(size, generator=g),
        style=torch.eye(len(STYLES))[:size], cos=cos, sin=sin, t=torch.rand(size, generator=g) * 0.99,
        noise=normal(size, 3, 32, 32),
    )  # fmt: skip


class Curved(torch.nn.Module):
    """A denoiser whose path is not straight, of two conditions."""

    def forward(self, x: Tensor, t: Tensor, *, text: Tensor, style: Tensor, draft: Tensor, **_: Tensor) -> Tensor:
        at = t[:, None, None, None]
        conditions = text.mean((1, 2)) + style.sum(1)
        return torch.tanh(x * (1 - at)) + draft[:, :3] * at**2 + conditions[:, None, None, None]


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_clean_picture_to_learn_leads_one_step_to_where_two_end(steps: int) -> None:
    given, teacher = batch(), Curved()
    t = (given.t * steps).floor() / steps
    x = samplers.noised(given.clean, given.noise, t)
    wanted = two_steps(teacher, given, x, t, steps)
    for k in range(len(t)):
        noises = (1 - float(t[k]), 1 - float(t[k]) - 0.5 / steps, max(0.0, 1 - float(t[k]) - 1 / steps))
        state = samplers.begin(x[k : k + 1], levels.flow(noises))
        known = {name: value[k : k + 1] for name, value in given.known.items()}
        while not state.finished:
            state = samplers.euler(state, teacher(state.x, torch.tensor([state.t]), **known))
        reached = samplers.toward(x[k : k + 1], wanted[k : k + 1], noises[0], noises[2])
        torch.testing.assert_close(reached, state.x, atol=1e-4, rtol=1e-4)


def test_a_student_that_does_as_its_teacher_has_no_loss_where_the_path_is_straight() -> None:
    class Straight(Curved):
        def forward(self, x: Tensor, t: Tensor, *, text: Tensor, style: Tensor, draft: Tensor, **_: Tensor) -> Tensor:
            return draft[:, :3]

    assert halved(Straight(), 4)(Straight(), batch()).item() == pytest.approx(0, abs=1e-9)
    assert halved(Curved(), 4)(Curved(), batch()).item() > 1e-4


def test_what_guidance_gives_is_learnt_with_all_conditions_taken_away() -> None:
    given = batch()

    class Student(Curved):
        def forward(self, x: Tensor, t: Tensor, **known: Tensor) -> Tensor:
            full = super().forward(x, t, **known)
            bare = super().forward(x, t, **known | {n: torch.zeros_like(known[n]) for n in ("text", "style")})
            return samplers.guided(full, bare, 2.5)

    assert guided_by(Curved(), 2.5)(Student(), given).item() == pytest.approx(0, abs=1e-9)
    assert guided_by(Curved(), 2.5)(Curved(), given).item() > 1e-2


def test_the_depth_of_a_network_is_told_by_its_weights() -> None:
    assert [depth_of(Network(Config(depth=depth)).state_dict()) for depth in (2, 3)] == [2, 3]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of one shard, and a teacher's checkpoint whose paths are not straight."""
    folder = tmp_path_factory.mktemp("distill")
    rng = np.random.default_rng(0)
    Shard(
        draft=rng.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8),
        target=rng.integers(0, 256, (2 * PAINTINGS, 128, 128, 3), dtype=np.uint8),
        style=np.arange(2 * PAINTINGS).astype(np.uint8),
        caption=np.array(["a cat"] * 2 * PAINTINGS),
        sprite=np.zeros((2, 96, 96, 4), np.uint8),
        box=np.zeros((2, 4), np.float32),
        text=rng.standard_normal((2 * PAINTINGS, TEXT_TOKENS, TEXT_DIM)).astype(np.float16),
    ).save(folder / "data" / "00000")
    torch.manual_seed(0)
    network = Network(Config(depth=2, styles=len(STYLES)))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn(weight.shape))
    torch.save({"average": network.state_dict()}, folder / "teacher.pt")
    return folder / "data", folder / "teacher.pt"


STAGES = Stages(guidance=2.0, guidance_steps=3, most=4, fewest=2, halving_steps=3, batch=2, rate=1e-3)


def go(places: tuple[Path, Path], out: Path, stages: Stages = STAGES, seconds: float = 600) -> Path:
    data, teacher = places
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "sheet", lambda *_: None)
        return distill(stages, teacher, data, out, Limits(compiled=False, seconds=seconds))


def saved(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def test_stages_follow_each_other_and_go_on_where_they_were_stopped(places: tuple[Path, Path], tmp_path: Path) -> None:
    last = go(places, tmp_path / "one")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["guidance", "steps-2", "steps-4"]
    assert last == tmp_path / "one" / "steps-2" / "checkpoint.pt"
    assert saved(last)["run"]["start"] == str(tmp_path / "one" / "steps-4" / "checkpoint.pt")
    assert "steps-2" in saved(last)["run"]["objective"]
    assert go(places, tmp_path / "two", seconds=0) == tmp_path / "two" / "guidance" / "checkpoint.pt"
    again = saved(go(places, tmp_path / "two"))["average"]
    for name, weight in saved(last)["average"].items():
        torch.testing.assert_close(again[name], weight, rtol=0, atol=0)


def test_other_stages_in_the_same_folder_are_refused(places: tuple[Path, Path], tmp_path: Path) -> None:
    go(places, tmp_path)
    with pytest.raises(ValueError, match="belongs to another run"):
        go(places, tmp_path, replace(STAGES, guidance=3.0))


def test_steps_that_cannot_be_halved_are_refused(places: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 steps cannot be halved"):
        go(places, tmp_path, replace(STAGES, most=6, fewest=2))


def test_a_student_comes_nearer_to_its_teachers_many_steps(places: tuple[Path, Path], tmp_path: Path) -> None:
    data, teacher = places
    stages = replace(STAGES, guidance=1.0, most=1, fewest=1, halving_steps=30, whole_from=1.0, rate=2e-3)
    student = saved(go(places, tmp_path, stages))["average"]
    networks = []
    for weights in (saved(teacher)["average"], student):
        network = Network(Config(depth=2, styles=len(STYLES)))
        network.load_state_dict(weights)
        networks.append(network)
    objective = halved(networks[0], 1)
    given = training.load_batch(training.Run(batch=8, whole_from=1.0, seed=77), training.load_pictures(data, "cpu"), 0)
    with torch.no_grad():
        before, after = (objective(network, given).item() for network in networks)
    assert after < 0.8 * before
