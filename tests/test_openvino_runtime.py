"""Networks on the CPU: the same bits for the same input, whatever came before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as op

from limner.errors import ModelUnusable
from limner.painter.denoiser import HEAD_DIM, PATCH, STYLES, TEXT_DIM, TEXT_TOKENS, rotary
from limner.pipelines.painter import WEIGHTS
from limner.runtime.openvino import Network

DENOISER = WEIGHTS / "denoiser.onnx"


def inputs(rows: int, cols: int, references: int = 0, seed: int = 0) -> dict[str, Any]:
    """Noise in every input of the denoiser."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32)

    cos, sin = rotary(rows, cols, references)
    assert cos.shape[1] == HEAD_DIM // 2
    return {
        "x": normal(1, 3, rows * PATCH, cols * PATCH),
        "t": np.array([0.4], np.float32),
        "draft": normal(1, 4, rows * PATCH, cols * PATCH),
        "text": normal(1, TEXT_TOKENS, TEXT_DIM),
        "reference": normal(1, references * 36, 4 * PATCH * PATCH),
        "strength": np.array([0.3], np.float32),
        "style": np.eye(len(STYLES), dtype=np.float32)[[2]],
        "cos": cos,
        "sin": sin,
    }


@pytest.fixture(scope="module", params=["bf16", "f32"])
def network(request: pytest.FixtureRequest) -> Network:
    return Network(DENOISER, precision=request.param)


def test_the_same_input_gives_the_same_bits_also_after_other_shapes(network: Network) -> None:
    first = network(inputs(8, 8))
    assert first.shape == (1, 3, 128, 128)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(network(inputs(8, 8)), first)
    for rows, cols, references in ((6, 11, 0), (8, 8, 1), (8, 8, 2), (10, 7, 1)):
        other = network(inputs(rows, cols, references))
        assert other.shape == (1, 3, rows * PATCH, cols * PATCH)
    np.testing.assert_array_equal(network(inputs(8, 8)), first)


def test_a_result_is_not_overwritten_by_the_next_call(network: Network) -> None:
    first = network(inputs(6, 6))
    kept = first.copy()
    network(inputs(6, 6, seed=1))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("precision", ["bf16", "f32"])
def test_the_number_of_threads_does_not_change_a_bit(precision: Any) -> None:
    one, two, all_cores = (Network(DENOISER, precision=precision, threads=n) for n in (1, 2, 0))
    for given in (inputs(8, 8), inputs(12, 21, 1)):
        expected = one(given)
        np.testing.assert_array_equal(two(given), expected)
        np.testing.assert_array_equal(all_cores(given), expected)


def test_a_network_compiled_again_gives_the_same_bits(network: Network) -> None:
    again = Network(DENOISER, precision=network.precision)
    np.testing.assert_array_equal(again(inputs(8, 9, 1)), network(inputs(8, 9, 1)))


def test_bf16_is_near_f32() -> None:
    given = inputs(8, 8, 1)
    exact, short = (Network(DENOISER, precision=p)(given) for p in ("f32", "bf16"))
    update = exact - given["draft"][:, :3]  # what the network itself adds
    assert np.abs(short - exact).mean() < 0.02 * max(np.abs(update).mean(), np.abs(exact).mean())


def test_a_model_made_of_operations_runs_on_any_size() -> None:
    x = op.parameter(openvino.PartialShape([-1, 2]), np.float32, name="x")
    network = Network(openvino.Model([op.multiply(x, op.constant(np.float32(3)))], [x], "tripled"))
    for rows in (1, 5, 3):
        given = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        np.testing.assert_array_equal(network({"x": given}), 3 * given)


def test_an_input_of_a_wrong_shape_is_an_error_and_the_network_lives_on() -> None:
    network = Network(DENOISER)
    before = network(inputs(6, 6))
    with pytest.raises(RuntimeError):
        network(inputs(6, 6) | {"style": np.zeros((1, 99), np.float32)})
    np.testing.assert_array_equal(network(inputs(6, 6)), before)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"absent.onnx cannot be read as a network. Install Limner again"):
        Network(tmp_path / "absent.onnx")


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_broken_file_is_a_sentence(tmp_path: Path, share: float) -> None:
    data = DENOISER.read_bytes()
    (tmp_path / "broken.onnx").write_bytes(data[: int(len(data) * share)] or b"no network")
    with pytest.raises(ModelUnusable, match=r"broken.onnx cannot be read as a network"):
        Network(tmp_path / "broken.onnx")
