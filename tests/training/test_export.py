"""The denoiser as it ships: what OpenVINO makes of the exported file is what torch computes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from limner.errors import ModelUnusable
from limner.painter.denoiser import (
    FILE,
    FORMAT,
    KIND,
    PATCH,
    REFERENCE_TOKENS,
    STYLES,
    TEXT_DIM,
    TEXT_TOKENS,
    read_weights,
    rotary,
)
from limner.painter.training.export import export, weights
from limner.painter.training.network import Config, Network
from limner.runtime.openvino import Network as Compiled

# torch's older exporter is asked for by name, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


def inputs(rows: int, cols: int, references: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32)

    cos, sin = rotary(rows, cols, references)
    return {
        "x": normal(1, 3, rows * PATCH, cols * PATCH),
        "t": np.array([0.6], np.float32),
        "draft": normal(1, 4, rows * PATCH, cols * PATCH),
        "text": normal(1, TEXT_TOKENS, TEXT_DIM),
        "reference": normal(1, references * REFERENCE_TOKENS, 4 * PATCH * PATCH),
        "strength": np.array([0.2], np.float32),
        "style": np.eye(len(STYLES), dtype=np.float32)[[4]],
        "cos": cos,
        "sin": sin,
    }


@pytest.fixture(scope="module")
def network() -> Network:
    """With no zeros left, and with weights that float16 holds exactly."""
    torch.manual_seed(0)
    network = Network(Config(depth=2, styles=len(STYLES)))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.03 * torch.randn(weight.shape)).copy_(weight.half().float())
    return network


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights")
    export(network, out, {"step": 12, "seed": 0})
    return out


def by_torch(network: Network, given: dict[str, Any]) -> Any:
    with torch.no_grad():
        return network(**{name: torch.from_numpy(value) for name, value in given.items()}).numpy()


@pytest.mark.parametrize(("rows", "cols", "references"), [(12, 16, 1), (4, 4, 0), (6, 11, 2), (16, 8, 0)])
def test_openvino_computes_what_torch_does_at_any_size(
    network: Network, folder: Path, rows: int, cols: int, references: int
) -> None:
    given = inputs(rows, cols, references)
    exact = by_torch(network, given)
    assert np.abs(exact - given["draft"][:, :3]).max() > 0.05, "the network does nothing"
    np.testing.assert_allclose(Compiled(folder / FILE, precision="f32")(given), exact, atol=1e-3, rtol=0)


def test_bfloat16_differs_by_little(network: Network, folder: Path) -> None:
    given = inputs(8, 8, 1)
    exact = by_torch(network, given)
    error = np.abs(Compiled(folder / FILE, precision="bf16")(given) - exact)
    assert error.mean() < 2 / 255
    assert error.mean() < 0.1 * np.abs(exact - given["draft"][:, :3]).mean()


def test_the_meta_data_tell_what_it_is_and_check_out(network: Network, folder: Path) -> None:
    meta, path = read_weights(folder)
    assert (meta["kind"], meta["format"]) == (KIND, FORMAT)
    data = path.read_bytes()
    assert meta["files"] == {FILE: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    assert meta["parameters"] == sum(p.numel() for p in network.parameters())
    assert (meta["depth"], meta["width"], meta["patch"]) == (2, 64, PATCH)
    assert meta["styles"] == list(STYLES)
    assert meta["training"] == {"step": 12, "seed": 0}
    assert (folder / "meta.json").read_text() == json.dumps(meta, indent=2) + "\n"


def test_large_weights_are_stored_as_float16(network: Network, folder: Path) -> None:
    model = onnx.load(str(folder / FILE))
    large = [weight for weight in model.graph.initializer if np.prod(weight.dims) > 4096]
    assert large
    assert {weight.data_type for weight in large} == {onnx.TensorProto.FLOAT16}
    parameters = sum(p.numel() for p in network.parameters())
    assert (folder / FILE).stat().st_size < 2.3 * parameters


def test_the_same_network_gives_the_same_file(network: Network, folder: Path, tmp_path: Path) -> None:
    export(network, tmp_path, {"step": 12, "seed": 0})
    for name in (FILE, "meta.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_an_export_cut_short_is_not_taken_for_a_model(network: Network, folder: Path, tmp_path: Path) -> None:
    """meta.json is written last, so an older one beside a newer network does not fit it."""
    export(network, tmp_path, {})
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-100])
    with pytest.raises(ModelUnusable, match=r"is not the one of its meta\.json"):
        read_weights(tmp_path)


def test_the_weights_of_the_exported_file_are_the_networks_own(network: Network, tmp_path: Path) -> None:
    export(network, tmp_path, {})
    stored = weights(tmp_path / FILE)
    own = network.state_dict()
    assert stored.keys() == own.keys()
    for name, weight in own.items():
        torch.testing.assert_close(stored[name], weight, rtol=1e-3, atol=1e-6)


def test_in_int8_the_file_is_a_quarter_and_the_picture_nearly_the_same(network: Network, tmp_path: Path) -> None:
    export(network, tmp_path, {}, int8=True)
    parameters = sum(p.numel() for p in network.parameters())
    assert (tmp_path / FILE).stat().st_size < 1.3 * parameters
    given = inputs(8, 8, 1)
    exact = by_torch(network, given)
    error = np.abs(Compiled(read_weights(tmp_path)[1], precision="f32")(given) - exact).mean()
    assert error < 0.05 * np.abs(exact - given["draft"][:, :3]).mean()
    stored, own = weights(tmp_path / FILE), network.state_dict()
    assert stored.keys() == own.keys()
    for name, weight in own.items():
        rows = (-1, 1) if weight.ndim < 2 else (len(weight), -1)
        worst = (stored[name] - weight).reshape(rows).abs().amax(1)
        assert (worst <= weight.reshape(rows).abs().amax(1) / 250).all(), name
