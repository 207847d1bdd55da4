"""The identity network: its shapes, its training, and what ships of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.errors import ModelUnusable
from limner.evaluation.identity import FEATURES, FILE, SIDE, Identity
from limner.evaluation.training import identity_characters, identity_sprites, identity_train
from limner.evaluation.training.identity_network import IdentityNetwork
from limner.evaluation.training.identity_sprites import Sprites
from limner.evaluation.training.identity_train import Run, contrast, export, pairs, train
from limner.evaluation.training.identity_views import painted_look, reference_look
from limner.painter.bank import Bank

# torch's older exporter is asked for by name, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine threads wait for one another at every layer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


ROOT = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40">'


@pytest.fixture(scope="module")
def sprites() -> Sprites:
    def face(hair: str, shirt: str) -> str:
        head, body = '<circle cx="20" cy="14" r="10"', '<rect x="6" y="24" width="28" height="16"'
        return f'{ROOT}{head} fill="{hair}"/>{body} fill="{shirt}"/></svg>'

    colours = ("#ff0000", "#00ff00", "#0000ff", "#ffff00", "#000000")
    families = [[face(a, b) for b in colours[:3]] for a in colours]
    return identity_sprites.make(families, Bank.load(), people=2, things=6, scenery=2)


@pytest.fixture(scope="module")
def network() -> IdentityNetwork:
    """With running means that are not those of a start, and with weights that float16 holds exactly."""
    torch.manual_seed(0)
    network = IdentityNetwork()
    network(torch.randn(16, 3, SIDE, SIDE))
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(p.half().float())
    return network.eval()


def looks(count: int) -> torch.Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_features_are_points_on_a_sphere(network: IdentityNetwork) -> None:
    features = network(looks(3))
    assert features.shape == (3, FEATURES)
    assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-5)


def test_every_parameter_has_a_gradient() -> None:
    network = IdentityNetwork()
    contrast(network(looks(6)), network(looks(6).flip(3))).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_half_precision_is_near(network: IdentityNetwork) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        half = network(looks(4)).float()
    assert ((half - network(looks(4))).norm(dim=1) < 0.05).all()


def test_what_is_exported_computes_what_torch_computes(network: IdentityNetwork, tmp_path: Path) -> None:
    export(network, tmp_path, {"steps": 1})
    pixels = ((looks(5).permute(0, 2, 3, 1).numpy() + 1) * 127.5).round().astype(np.uint8)
    given = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
    read = Identity.load(tmp_path, threads=1).features(list(pixels))
    assert np.abs(read - network(given).detach().numpy()).max() < 1e-3


def test_a_changed_file_is_refused(network: IdentityNetwork, tmp_path: Path) -> None:
    export(network, tmp_path, {})
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes() + b" ")
    with pytest.raises(ModelUnusable, match="identity network has a file"):
        Identity.load(tmp_path)


def test_contrast_is_least_where_each_finds_its_own() -> None:
    eye = torch.eye(4)
    assert contrast(eye, eye) < 1e-3
    assert contrast(eye, eye.roll(1, 0)) > 5


def test_families_follow_one_another_and_are_framed(sprites: Sprites) -> None:
    assert (np.diff(sprites.family) >= 0).all()
    assert sprites.family[-1] == 5 + 2 + 6 - 1
    assert (sprites.family == 0).sum() == 3
    visible = sprites.sprite[..., 3] > 128
    assert visible.any(axis=(1, 2)).all()
    assert not visible[:, [0, -1]].any()
    assert not visible[:, :, [0, -1]].any()


def test_saved_sprites_are_read_back(sprites: Sprites, tmp_path: Path) -> None:
    sprites.save(tmp_path / "sprites.npz")
    read = Sprites.load(tmp_path / "sprites.npz")
    assert all(np.array_equal(getattr(read, name), getattr(sprites, name)) for name in ("sprite", "family", "scenery"))


def test_looks_are_of_the_sprite_and_painted_ones_differ_each_time(sprites: Sprites) -> None:
    sprite = torch.from_numpy(sprites.sprite[:1]).permute(0, 3, 1, 2).float() / 255
    back = torch.from_numpy(sprites.scenery[:1]).permute(0, 3, 1, 2).float() / 255
    rng = torch.Generator().manual_seed(3)
    reference = reference_look(sprite, rng)
    painted = [painted_look(sprite, back, rng) for _ in range(2)]
    assert reference.shape == painted[0].shape == (1, 3, SIDE, SIDE)
    assert all(float(look.min()) >= 0 and float(look.max()) <= 1 for look in (reference, *painted))
    assert reference[0, 0, SIDE // 3, SIDE // 2] > 0.9  # the first family is red above
    assert reference[0, 1, SIDE // 3, SIDE // 2] < 0.1
    assert (painted[0] - painted[1]).abs().mean() > 0.02


def test_a_step_s_pairs_follow_from_its_number_and_never_show_the_held_out(sprites: Sprites) -> None:
    run = Run(batch=8)
    assert all(torch.equal(a, b) for a, b in zip(pairs(run, sprites, 4), pairs(run, sprites, 4), strict=True))
    assert not torch.equal(pairs(run, sprites, 4)[0], pairs(run, sprites, 5)[0])
    dark = Sprites(sprites.sprite.copy(), sprites.family, sprites.scenery)
    dark.sprite[sprites.family % identity_train.HELD_OUT == 0] = 0
    assert torch.equal(pairs(run, sprites, 4)[0], pairs(run, dark, 4)[0])


def test_a_broken_run_ends_in_the_weights_of_an_unbroken_one(sprites: Sprites, tmp_path: Path) -> None:
    run = Run(steps=2, batch=6, warmup=1)
    whole = train(run, sprites, tmp_path / "whole", every=9)
    train(run, sprites, tmp_path / "broken", seconds=0.0)
    checkpoint = torch.load(tmp_path / "broken" / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 0
    stopped = tmp_path / "stopped"
    monotonic = iter([0.0, 0.0, *[9.0] * 9])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity_train.time, "monotonic", lambda: next(monotonic))
        train(run, sprites, stopped, seconds=5.0, every=9)
    assert 0 < torch.load(stopped / "checkpoint.pt", weights_only=True)["step"] < 2
    broken = train(run, sprites, stopped, every=9)
    for (name, one), other in zip(whole.state_dict().items(), broken.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_a_checkpoint_of_another_run_is_refused(sprites: Sprites, tmp_path: Path) -> None:
    train(Run(steps=1, batch=4), sprites, tmp_path, seconds=0.0)
    with pytest.raises(ValueError, match="belongs to another run"):
        train(Run(steps=2, batch=4), sprites, tmp_path)


def test_training_learns_to_tell_sprites_apart(sprites: Sprites, tmp_path: Path) -> None:
    run = Run(steps=6, batch=12, warmup=2)
    references, painted = pairs(run, sprites, 1000)

    def loss(network: IdentityNetwork) -> float:
        network.train()
        with torch.no_grad():
            return float(contrast(network(references), network(painted)))

    torch.manual_seed(run.seed)
    assert loss(train(run, sprites, tmp_path)) < loss(IdentityNetwork()) - 0.1


class TestPackingCharacters:
    def row(self, **changes: object) -> dict[str, object]:
        svg = f'{ROOT}<circle cx="20" cy="20" r="18" fill="{{hair}}"/></svg>'
        with_hat = svg.replace("</svg>", '<rect width="40" height="12" fill="#ff00ff"/></svg>')
        row = {"name": "a", "word": "person", "colours": {"hair": "blue"}, "svg": svg, "others": {"hat": [with_hat]}}
        return {**row, **changes}

    def test_traits_that_cannot_be_seen_to_change_are_not_asked_for(self, tmp_path: Path) -> None:
        rows = [self.row(), self.row(name="b", others={"hat": [str(self.row()["svg"])]})]
        identity_characters.pack(rows, tmp_path)
        assert [row["traits"] for row in rows] == [["hat", "hair colour"], ["hair colour"]]

    def test_an_open_colour_without_a_name_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"leaves colours open that have no name: \['hair'\]"):
            identity_characters.pack([self.row(colours={})], tmp_path)

    def test_a_drawing_that_skia_draws_otherwise_is_refused(self, tmp_path: Path) -> None:
        square = '<rect width="40" height="40" fill="#ff'
        blended = f'{ROOT}{square}0000"/>{square}ff00" style="mix-blend-mode:difference"/></svg>'
        with pytest.raises(ValueError, match="unlike resvg"):
            identity_characters.pack([self.row(svg=blended, colours={}, others={})], tmp_path)

    def test_a_script_that_fails_is_told_with_its_words(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(identity_characters.shutil, "which", lambda _: None)
        with pytest.raises(RuntimeError, match="not on this machine"):
            identity_characters.by_node(tmp_path / "any.mjs", tmp_path)
