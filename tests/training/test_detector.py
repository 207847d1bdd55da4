"""The evaluation's detector: what it learns from, its network, its training and its export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.engine.core import UInt8
from limner.evaluation.classes import COLOURS, NAMES
from limner.evaluation.detector import CHANNELS, Detector
from limner.evaluation.training.composites import OTHER, SIZE, Composer, Composite
from limner.evaluation.training.detector_export import export
from limner.evaluation.training.detector_network import FEATURES, Network
from limner.evaluation.training.detector_score import score
from limner.evaluation.training.detector_train import Data, Run, Target, Trainer, losses, rate_at
from limner.evaluation.training.recolouring import ANCHORS, main_part, recolour
from limner.evaluation.training.sprites import SETS, SIDE, Sprites
from limner.evaluation.training.windows import NOTHING, WINDOW, make, sample
from limner.painter.training.sources import DRAWINGS
from limner.runtime.openvino import Network as Compiled


def disc(colour: tuple[int, int, int]) -> UInt8:
    """A disc with a dark eye."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    sprite = np.zeros((SIDE, SIDE, 4), np.uint8)
    sprite[np.hypot(x, y) < SIDE / 2 - 1] = (*colour, 255)
    sprite[np.hypot(x - 20, y + 20) < 9] = (20, 20, 24, 255)
    return sprite


@pytest.fixture(scope="module")
def sprites() -> Sprites:
    """One disc a class, each of another grey or red, and two of no class."""
    pixels = [disc((90 + k, 30, 60)) for k in range(len(NAMES))] + [disc((10, 200, 30)), disc((30, 40, 200))]
    return Sprites(np.stack(pixels), np.array([*range(len(NAMES)), -1, -1]), ("own",) * len(pixels))


@pytest.fixture(scope="module")
def composer(sprites: Sprites) -> Composer:
    return Composer(sprites, np.full((1, SIZE, SIZE, 3), 200, np.uint8))


def composite(composer: Composer, seed: int) -> Composite:
    return composer(np.random.Generator(np.random.Philox(key=seed)))


def batch(size: int = 6, seed: int = 0) -> tuple[Tensor, Target]:
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(NOTHING, OTHER + 1, (size,), generator=g)
    label[:3] = torch.tensor([4, OTHER, NOTHING])
    colour = torch.where(label >= 0, torch.randint(0, len(COLOURS), (size,), generator=g), NOTHING)
    target = {"label": label, "colour": colour, "size": torch.randn(size, 2, generator=g) * 0.1}
    return torch.rand(size, FEATURES, 8, 8, generator=g), target


def test_no_set_that_the_painter_draws_with_is_learned_from() -> None:
    assert {source.package for source in SETS.values()}.isdisjoint(source.package for source in DRAWINGS.values())
    assert {source.licence for source in SETS.values()} <= {"MIT", "Apache-2.0", "CC-BY-4.0"}


@pytest.mark.parametrize("colour", range(len(COLOURS)), ids=COLOURS)
def test_recolouring_gives_the_colour_that_was_named_and_keeps_the_eye(colour: int) -> None:
    sprite = disc((210, 120, 60))
    part = main_part(sprite)
    assert part is not None
    moved = recolour(sprite, part, colour, np.random.Generator(np.random.Philox(key=colour)))
    body = moved[SIDE // 2, SIDE // 2, :3].astype(float)
    nearest = min(
        COLOURS, key=lambda name: min(float(np.abs(body - np.array(anchor)).sum()) for anchor in ANCHORS[name])
    )
    assert nearest == COLOURS[colour]
    assert np.abs(moved[SIDE // 2 - 20, SIDE // 2 + 20, :3].astype(int) - (20, 20, 24)).max() < 12
    assert np.array_equal(moved[..., 3], sprite[..., 3])


def test_a_thing_of_many_colours_has_no_main_part() -> None:
    sprite = disc((210, 120, 60))
    for k, colour in enumerate(((230, 30, 30), (30, 200, 40), (40, 60, 220))):
        sprite[k * SIDE // 3 : (k + 1) * SIDE // 3, :, :3] = colour
    assert main_part(sprite) is None


def test_a_composite_tells_where_everything_is(composer: Composer) -> None:
    for seed in range(12):
        one = composite(composer, seed)
        again = composite(composer, seed)
        assert np.array_equal(one.pixels, again.pixels)
        assert np.array_equal(one.boxes, again.boxes)
        assert one.pixels.shape == (SIZE, SIZE, 3)
        assert len(one.boxes) == len(one.labels) == len(one.colours) == len(one.seen) > 0
        assert one.labels.min() >= 0
        assert one.labels.max() <= OTHER
        assert one.colours.max() < len(COLOURS)
        assert (one.colours[one.labels == OTHER] == -1).all()
        assert (one.boxes[:, 2:] > 0.03).all()
        assert (one.seen >= 0).all()
        assert (one.seen <= 1.2).all()


def test_a_picture_leaves_the_places_as_they_were(composer: Composer) -> None:
    for seed in range(8):
        composite(composer, seed)
    assert composer._places is not None
    assert (composer._places == 200).all()


def test_windows_show_things_in_the_middle_and_call_the_rest_nothing(composer: Composer) -> None:
    one = composite(composer, 4)
    windows = sample(one, np.random.Generator(np.random.Philox(key=1)))
    shown = one.seen >= 0.45
    assert windows.crops.shape[1:] == (WINDOW, WINDOW, 3)
    assert sorted(windows.label[windows.label != NOTHING]) == sorted([*one.labels[shown]] * 2)
    assert (windows.label == NOTHING).sum() >= len(one.labels)
    assert (np.abs(windows.size[windows.label != NOTHING].max(1)) < 0.3).all()  # the longer side fills the window


def test_a_shard_is_the_same_each_time(composer: Composer) -> None:
    one, again = make(composer, 3, 2), make(composer, 3, 2)
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert one["features"].shape[1:] == (FEATURES, 8, 8)
    assert not np.array_equal(one["features"][:4], make(composer, 4, 2)["features"][:4])


def test_features_see_outlines_whatever_the_paint() -> None:
    features = Network().features
    red, blue, square = disc((200, 30, 40)), disc((40, 60, 210)), np.zeros((SIDE, SIDE, 4), np.uint8)
    square[10:-10, 10:-10] = (200, 30, 40, 255)

    def seen(sprite: UInt8) -> Tensor:
        crop = torch.full((1, 3, WINDOW, WINDOW), 240.0)
        small = torch.from_numpy(sprite[::4, ::4]).permute(2, 0, 1).float()
        alpha = small[3:] / 255
        crop[0, :, 12:52, 12:52] = small[:3] * alpha + 240 * (1 - alpha)
        return features(crop)[:, :9].flatten()

    def alike(one: UInt8, other: UInt8) -> float:
        return float(torch.cosine_similarity(seen(one), seen(other), 0))

    assert alike(red, blue) > 0.95 > 0.9 > alike(red, square)


def test_the_network_gives_a_map_of_windows() -> None:
    network = Network().eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, CHANNELS, 1, 1)
        assert network(torch.zeros(1, 3, 120, 96)).shape == (1, CHANNELS, 8, 5)


def test_a_window_is_judged_alike_alone_and_in_a_picture() -> None:
    torch.manual_seed(0)
    network = Network().eval()
    picture = torch.rand(1, 3, 96, 96) * 255
    with torch.no_grad():
        whole = network.features(picture)
        assert torch.allclose(
            network.head(whole)[0, :, 2, 1], network.head(whole[:, :, 2:10, 1:9])[0, :, 0, 0], atol=1e-4
        )


def test_every_parameter_has_a_gradient() -> None:
    network = Network()
    features, target = batch(8)
    sum(losses(network.head(features)[:, :, 0, 0], target).values()).backward()  # type: ignore[union-attr]  # sum of tensors, typed as of ints
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_windows_of_nothing_teach_no_class_no_size_and_no_colour() -> None:
    features, target = batch(4)
    target = {
        "label": torch.full((4,), NOTHING), "colour": torch.full((4,), NOTHING), "size": torch.ones(4, 2),
    }  # fmt: skip
    said = Network().head(features)[:, :, 0, 0]
    parts = losses(said, target)
    assert parts["there"] > 0
    assert all(float(parts[name].detach()) == 0 for name in ("size", "class", "colour"))


def test_half_precision_costs_little() -> None:
    torch.manual_seed(0)
    network = Network().eval()
    features, _ = batch(16)
    with torch.no_grad():
        exact = network.head(features)
        with torch.autocast("cpu", torch.bfloat16):
            half = network.head(features).float()
    assert float((exact - half).norm() / exact.norm()) < 0.05


def test_training_learns_a_batch_by_heart(tmp_path: Path) -> None:
    trainer = Trainer(Run(steps=60, batch=12, warmup=2), tmp_path)
    features, target = batch(12)
    first = trainer.advance(features, target)
    for _ in range(15):
        last = trainer.advance(features, target)
    assert last["class"] < 0.7 * first["class"]
    assert last["there"] < 0.7 * first["there"]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, composer: Composer) -> None:
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "0000.npz", **make(composer, 0, 6))
    data, run = Data(tmp_path / "data"), Run(steps=6, batch=8, warmup=2)

    def train(out: Path, until: int) -> Trainer:
        trainer = Trainer(run, out)
        while trainer.step < until:
            trainer.advance(*data.batch(run, trainer.step))
        trainer.save()
        return trainer

    whole = train(tmp_path / "whole", 6)
    train(tmp_path / "parts", 3)
    parts = train(tmp_path / "parts", 6)
    assert all(torch.equal(whole.average[name], parts.average[name]) for name in whole.average)
    with pytest.raises(ValueError, match="another run"):
        Trainer(Run(steps=7), tmp_path / "parts")


def test_the_rate_rises_stays_and_falls() -> None:
    run = Run(steps=1000, rate=1.0, warmup=10)
    rates = [rate_at(step, run) for step in range(1000)]
    assert rates[0] == 0.1
    assert rates[9:500] == [1.0] * 491
    assert rates[750] == pytest.approx(0.5)
    assert rates[-1] <= 0.01


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Constant folding")  # the exporter's own
def test_an_exported_detector_sees_what_the_trained_one_sees(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    export(network, tmp_path, {"steps": 0})
    picture = torch.rand(1, 3, 128, 88) * 255
    with torch.no_grad():
        expected = network.eval()(picture).numpy()
    told = Compiled(tmp_path / "detector.onnx")({"pixels": picture.numpy()})
    assert told.shape == expected.shape
    assert float(np.abs(told - expected).max() / np.abs(expected).max()) < 0.01  # the kernels are stored in float16
    assert (tmp_path / "detector.onnx").stat().st_size < 3_000_000
    Detector.load(tmp_path)


def test_scores_count_what_is_found_missed_and_made_up(composer: Composer) -> None:
    one = composite(composer, 2)
    empty = score([(one, [])], 0.3)
    assert (empty.recall, empty.f1) == (0.0, 0.0)
