"""The matting network, its training, and what OpenVINO makes of the exported file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from limner.errors import ModelUnusable
from limner.painter import matting as runtime
from limner.painter.bank import Bank
from limner.painter.draft import sprite
from limner.painter.scene import Person, Thing
from limner.painter.training.matting import Matting, loss_of
from limner.painter.training.matting_data import Pool, batch, composite, overlap, scenes
from limner.painter.training.matting_evaluate import evaluate
from limner.painter.training.matting_export import export, halve, widen
from limner.painter.training.matting_train import Run, train

TINY = Run(steps=4, batch=2, warmup=2, small=0.5)


@pytest.fixture(scope="module")
def pool() -> Pool:
    bank = Bank.load()
    items = [Person(top_colour="red"), Thing(concept="red-apple"), Thing(concept=bank.names[5]), Person(hat="crown")]
    drawn = np.stack([sprite(item, 192, bank) for item in items])
    alpha = drawn[..., 3:].astype(float)
    colours = np.minimum(drawn[..., :3] * 255 / np.maximum(alpha, 1), 255)
    return Pool(np.concatenate((colours, alpha), axis=3).astype(np.uint8), scenes(2, False, bank))


@pytest.fixture(scope="module")
def plain() -> onnx.ModelProto:
    """The network for people, whose layers and first weights the trained one has."""
    return widen(runtime.WEIGHTS / runtime.PEOPLE)


@pytest.fixture
def network(plain: onnx.ModelProto) -> Matting:
    return Matting(plain)


def pictures(count: int, side: int) -> torch.Tensor:
    """Smooth ones: on noise the network finds nothing, and would prove little."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(("height", "width"), [(192, 192), (32, 32), (256, 128), (96, 320)])
def test_there_is_one_logit_for_each_pixel(network: Matting, height: int, width: int) -> None:
    assert network(torch.rand(2, 3, height, width)).shape == (2, 1, height, width)


def test_the_loss_reaches_every_parameter(network: Matting) -> None:
    loss_of(network(pictures(2, 64)), torch.rand(2, 1, 64, 64)).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_the_loss_is_least_for_the_truth() -> None:
    alpha = torch.zeros(1, 1, 32, 32)
    alpha[..., 8:24, 8:24] = 1
    right, shifted, wrong = (20 * (a - 0.5) for a in (alpha, alpha.roll(4, 3), 1 - alpha))
    assert loss_of(right, alpha) < 0.01 < loss_of(shifted, alpha) < loss_of(wrong, alpha)


def test_half_precision_changes_alpha_by_little(network: Matting, pool: Pool) -> None:
    picture = torch.from_numpy(batch(range(4), pool, 128)[0])
    whole = torch.sigmoid(network(picture))
    with torch.autocast("cpu", torch.bfloat16):
        half = torch.sigmoid(network(picture).float())
    assert whole.max() > 0.9
    assert whole.min() < 0.1
    assert (whole - half).abs().mean() < 0.06  # too much for rims: it runs in float32


@pytest.mark.parametrize(("width", "height"), [(192, 192), (256, 128)])
def test_what_is_exported_is_what_was_trained(
    network: Matting, plain: onnx.ModelProto, tmp_path: Path, width: int, height: int
) -> None:
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_((weight * 1.02).half().float())  # what float16 holds exactly
    export(network, plain, tmp_path, {"step": 1})
    loaded = runtime.Matting(tmp_path)
    picture = Image.fromarray((pictures(1, 256)[0].permute(1, 2, 0) * 255).byte().numpy()).resize((width, height))
    pixels = torch.from_numpy(np.asarray(picture, np.float32)).permute(2, 0, 1)[None] / 255
    wanted = torch.sigmoid(network(pixels))[0, 0].detach().numpy()
    found = loaded.things(picture)
    assert wanted.max() - wanted.min() > 0.1
    assert np.abs(found - wanted).max() < 2e-3
    assert loaded.meta["parameters"] == sum(p.numel() for p in network.parameters())


def test_widening_undoes_halving(plain: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(halve(plain))
    again = widen(tmp_path / "a.onnx")
    assert again.SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)
    assert len(halve(again)) < 0.6 * len(again.SerializeToString())


def test_the_same_network_is_the_same_file(network: Matting, plain: onnx.ModelProto, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(network, plain, tmp_path / name, {"step": 1})
    assert (tmp_path / "a" / "meta.json").read_bytes() == (tmp_path / "b" / "meta.json").read_bytes()


@pytest.mark.parametrize("harm", ["a byte changed", "a file gone", "another format"])
def test_a_harmed_folder_is_refused_with_a_sentence(
    network: Matting, plain: onnx.ModelProto, tmp_path: Path, harm: str
) -> None:
    export(network, plain, tmp_path, {"step": 1})
    things, meta = tmp_path / runtime.THINGS, tmp_path / "meta.json"
    if harm == "a byte changed":
        things.write_bytes(things.read_bytes()[:-1] + b"?")
    elif harm == "a file gone":
        things.unlink()
    else:
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": 99}))
    with pytest.raises(ModelUnusable, match=r"The matting .*matting_export"):
        runtime.Matting(tmp_path)


def test_a_composite_is_its_number(pool: Pool) -> None:
    for number in range(8):
        one, again, other = (composite(n, pool, 96) for n in (number, number, number + 100))
        np.testing.assert_array_equal(one[0], again[0])
        np.testing.assert_array_equal(one[1], again[1])
        assert (one[0] != other[0]).mean() > 0.5


def test_composites_show_a_subject_and_a_ground(pool: Pool) -> None:
    pictures, alphas = batch(range(40), pool, 96)
    assert pictures.shape == (40, 3, 96, 96)
    assert alphas.shape == (40, 1, 96, 96)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    shares = (alphas > 0.5).mean((1, 2, 3))
    assert ((shares > 0.01) & (shares < 0.95)).mean() > 0.9
    assert 0.1 < shares.mean() < 0.5
    # Alpha follows the picture: across its edges the picture changes more than elsewhere.
    steps = np.abs(np.diff(pictures, axis=3)).mean(1)
    edges = np.abs(np.diff(alphas[:, 0], axis=2)) > 0.5
    assert steps[edges].mean() > 1.5 * steps[~edges].mean()


def test_a_killed_run_ends_as_an_unbroken_one(pool: Pool, plain: onnx.ModelProto, tmp_path: Path) -> None:
    whole = train(TINY, plain, pool, tmp_path / "whole")
    train(TINY, plain, pool, tmp_path / "parts", seconds=0)  # makes no step, but leaves a checkpoint
    saved = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 0
    stopped = train(TINY, plain, pool, tmp_path / "parts", stop_at=2)
    assert any((a != b).any() for a, b in zip(whole.parameters(), stopped.parameters(), strict=True))
    resumed = train(TINY, plain, pool, tmp_path / "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_checkpoint_of_other_settings_is_refused(pool: Pool, plain: onnx.ModelProto, tmp_path: Path) -> None:
    train(replace(TINY, steps=1), plain, pool, tmp_path)
    with pytest.raises(ValueError, match="belongs to another run"):
        train(TINY, plain, pool, tmp_path)


def test_the_evaluation_tells_a_right_cut_out_from_a_wrong_one(pool: Pool) -> None:
    class Told(runtime.Matting):
        """Finds nothing but what it is told to."""

        answer = 1.0

        def things(self, picture: Image.Image) -> np.ndarray:
            return np.full(picture.size[::-1], self.answer, np.float32)

    everything = evaluate(Told(), pool, 4)["network"]
    assert 0 < np.mean(everything[0]) < 0.6
    shares = [float((composite(10**12 + k, pool, 384)[1] > 127).mean()) for k in range(4)]
    np.testing.assert_allclose(everything[0], shares, atol=1e-3)
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    assert overlap(mask, mask) == 1
    assert overlap(mask, ~mask) == 0
