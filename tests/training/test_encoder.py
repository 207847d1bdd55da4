"""The text encoder in torch computes what OpenVINO does from the same file."""

from __future__ import annotations

import numpy as np
import pytest

from limner.painter.training.encoder import words_in_torch
from limner.painter.words import Words


@pytest.mark.parametrize(
    "text", ["", "a red fox", "two crimson balloons above a house, watercolor, in the city at dusk"]
)
def test_features_are_those_of_the_painters_own_encoder(text: str) -> None:
    exact, mine = Words.load(threads=1).features(text), words_in_torch().features(text)
    assert mine.shape == exact.shape
    # OpenVINO rounds activations to int8 too; torch does not.
    assert np.abs(mine - exact).mean() < 0.08 * np.abs(exact).mean()
