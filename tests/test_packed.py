from __future__ import annotations

import io

import numpy as np
import pytest

from limner.painter.packed import GROUP, Packed

NORMAL = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)


@pytest.mark.parametrize(("bits", "error"), [(2, 0.40), (3, 0.19), (4, 0.10), (5, 0.05), (8, 0.006)])
def test_more_bits_bring_the_matrix_back_more_exactly(bits: int, error: float) -> None:
    packed = Packed.pack(NORMAL, bits)
    back = packed.rows(slice(None))
    assert back.dtype == np.float32
    assert np.linalg.norm(back - NORMAL) < error * np.linalg.norm(NORMAL)
    assert packed.bits == bits
    assert packed.codes.shape == (50, 384 * bits // 8)


def test_a_group_of_large_values_takes_no_precision_from_the_others() -> None:
    matrix = NORMAL.copy()
    matrix[:, :GROUP] *= 20
    back = Packed.pack(matrix, 4).rows(slice(None))
    assert np.linalg.norm((back - matrix)[:, GROUP:]) < 0.13 * np.linalg.norm(matrix[:, GROUP:])


def test_rows_are_unpacked_singly_in_any_order() -> None:
    packed = Packed.pack(NORMAL, 3)
    whole = packed.rows(slice(None))
    np.testing.assert_array_equal(packed.rows(np.array([7, 3, 7])), whole[[7, 3, 7]])
    assert packed.rows(np.array([], np.int64)).shape == (0, 384)
    assert len(packed) == 50


def test_a_saved_matrix_is_the_same_when_read() -> None:
    packed, file = Packed.pack(NORMAL, 4), io.BytesIO()
    np.savez(file, allow_pickle=False, **packed.arrays("a"), **Packed.pack(NORMAL[:2], 2).arrays("b"))
    file.seek(0)
    with np.load(file) as saved:
        np.testing.assert_array_equal(Packed.of(saved, "a").rows(slice(None)), packed.rows(slice(None)))
        assert Packed.of(saved, "b").bits == 2
        with pytest.raises(KeyError):
            Packed.of(saved, "c")


def test_rows_of_zeros_and_of_tiny_values_stay_small() -> None:
    back = Packed.pack(np.zeros((3, 64), np.float32), 4).rows(slice(None))
    assert np.abs(back).max() < 1e-3


def test_columns_that_are_no_whole_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="groups of 32"):
        Packed.pack(np.zeros((64, 33), np.float32), 4)
