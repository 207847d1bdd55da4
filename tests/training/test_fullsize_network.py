"""The full-size network in torch: shapes, gradients, what a pixel depends on, and that the exported one is the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from limner.errors import ModelUnusable
from limner.painter import fullsize
from limner.painter.denoiser import STYLES, one_hot
from limner.painter.fullsize import CELL, CONDITION, DRAFT, MULTIPLE, OVERLAP, SEEN, FullSize
from limner.painter.training.fullsize_export import export
from limner.painter.training.fullsize_network import Network

# torch's older exporter is asked for by name, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    network = Network().eval()
    with torch.no_grad():
        for parameter in network.last.parameters():
            parameter.normal_(std=0.05)  # as far from the draft as a trained one
    return network


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fullsize")
    export(network, out, {"steps": 0})
    return out


def given(h: int, w: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    seen = torch.from_numpy(rng.integers(0, 256, (batch, h, w, SEEN)).astype(np.float32))
    return seen, torch.from_numpy(rng.random((batch, CONDITION), np.float32))


def test_cells_in_cells_out(network: Network) -> None:
    with torch.no_grad():
        assert network(*given(16, 24, 2)).shape == (2, 16, 24, DRAFT)


def test_every_parameter_has_a_gradient() -> None:
    torch.manual_seed(1)
    network = Network()
    nn.init.normal_(network.last.weight)  # it begins with zeros, behind which nothing has a gradient
    network(*given(32, 32)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_pixel_depends_on_less_around_it_than_tiles_overlap(network: Network) -> None:
    margin, middle = OVERLAP // CELL, 64
    seen, told = given(2 * middle, 2 * middle)
    for at in range(middle, middle + MULTIPLE // CELL):  # its place among the coarsest cells matters
        seen.grad = None
        network(seen.requires_grad_(), told)[0, at, at].sum().backward()
        assert seen.grad is not None
        rows, cols = np.nonzero(seen.grad[0].abs().amax(-1).numpy())
        assert max(np.abs(rows - at).max(), np.abs(cols - at).max()) < margin


def test_style_and_strength_matter(network: Network) -> None:
    seen, _ = given(16, 16)
    with torch.no_grad():
        made = [network(seen, torch.eye(CONDITION)[[k]]) for k in range(CONDITION)]
    assert all((made[0] - other).abs().max() > 0.1 for other in made[1:])


def test_the_exported_network_is_the_same_within_half_precision(network: Network, folder: Path) -> None:
    rng = np.random.default_rng(2)
    guide = rng.integers(0, 256, (96, 128, 3), np.uint8)
    native = (rng.random((3, 48, 64), np.float32) * 2 - 1) * np.float32(0.9)
    paper = fullsize.texture("comic", 128, 96, 1)
    made = FullSize.load(folder)(native, guide, one_hot("comic"), 0.3, paper)
    seen = torch.from_numpy(fullsize.seen(native, guide, paper).astype(np.float32))[None]
    with torch.no_grad():
        cells = network(seen, torch.from_numpy(fullsize.condition(one_hot("comic"), 0.3, 128, 96)))[0]
    wanted = fullsize.pixels((cells.clamp(0, 255) + 0.5).numpy().astype(np.uint8))
    error = np.abs(made.astype(int) - wanted)
    assert np.abs(wanted.astype(int) - guide).mean() > 2, "it does something"
    assert error.max() <= 4
    assert error.mean() < 0.5


def test_the_export_is_small_and_says_what_it_is(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["styles"] == list(STYLES)
    assert meta["training"] == {"steps": 0}
    assert (folder / fullsize.FILE).stat().st_size < 300_000


def test_an_export_with_other_styles_is_refused(folder: Path, tmp_path: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps(meta | {"styles": ["flat"]}))
    with pytest.raises(ModelUnusable, match="styles"):
        FullSize.load(tmp_path)
