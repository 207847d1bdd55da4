from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from limner.painter.bank import Bank
from limner.painter.training import build_words
from limner.painter.training.build_words import DIM, FINE, Encoder, Float, Quantised
from limner.painter.training.evaluate_words import LOOKUPS, Found, look_up, table, wanted
from limner.painter.words import DEFAULT, Words, tokenizer_of
from limner.runtime.openvino import Network

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


@pytest.fixture(autouse=True)
def two_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_words, "LAYERS", 2)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Random weights under the names of the published network's."""
    draw = torch.Generator().manual_seed(1)
    made = {"embeddings.position_embeddings.weight": 0.1 * torch.randn(512, DIM, generator=draw)}
    made["embeddings.token_type_embeddings.weight"] = 0.1 * torch.randn(2, DIM, generator=draw)

    def norm(name: str) -> None:
        made[f"{name}.LayerNorm.weight"], made[f"{name}.LayerNorm.bias"] = torch.ones(DIM), torch.zeros(DIM)

    def linear(name: str, out: int, into: int) -> None:
        made[f"{name}.weight"] = torch.randn(out, into, generator=draw) / into**0.5
        made[f"{name}.bias"] = 0.1 * torch.randn(out, generator=draw)

    norm("embeddings")
    for layer in (f"encoder.layer.{index}" for index in range(2)):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", DIM, DIM)
        linear(f"{layer}.intermediate.dense", 4 * DIM, DIM)
        linear(f"{layer}.output.dense", DIM, 4 * DIM)
        norm(f"{layer}.attention.output")
        norm(f"{layer}.output")
    return made


def test_the_exported_network_computes_what_the_torch_one_does(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    quantised = Encoder(weights, Quantised).eval()
    build_words.export(quantised, tmp_path / "encoder.onnx")
    network = Network(tmp_path / "encoder.onnx")
    for length in (2, 9, 128):
        embedded = np.random.default_rng(length).standard_normal((1, length, DIM)).astype(np.float32)
        with torch.inference_mode():
            expected = quantised(torch.from_numpy(embedded)).numpy()
            exact = Encoder(weights, Float).eval()(torch.from_numpy(embedded)).numpy()
        features = network({"embedded": embedded})
        assert features.shape == embedded.shape
        # OpenVINO rounds what goes into a matrix in int8 to int8 as well.
        assert np.linalg.norm(features - expected) < 0.03 * np.linalg.norm(expected)
        assert 0 < np.linalg.norm(features - exact) < 0.05 * np.linalg.norm(exact)


def test_every_position_and_token_reaches_the_features(weights: dict[str, torch.Tensor]) -> None:
    embedded = torch.randn(1, 5, DIM, generator=torch.Generator().manual_seed(2), requires_grad=True)
    Encoder(weights, Float)(embedded)[0, 0].square().sum().backward()
    assert embedded.grad is not None
    assert embedded.grad.abs().sum(2).min() > 0


def test_a_row_in_eight_bits_is_off_by_half_a_step_at_most() -> None:
    matrix = torch.randn(7, 384, generator=torch.Generator().manual_seed(3))
    error = (Quantised(matrix)() - matrix).abs().amax(1)
    assert (error <= matrix.abs().amax(1) / 127 / 2 + 1e-6).all()


@pytest.mark.parametrize("token", ["fox", "##ing", "é", "##ß", "1984", "“", "£5", "[CLS]", "[", "°c"])
def test_tokens_of_latin_script_digits_and_signs_stay(token: str) -> None:
    assert build_words.readable(token)


@pytest.mark.parametrize("token", ["[unused7]", "[MASK]", "[PAD]", "狐", "##ов", "##ος", "ا"])
def test_unused_tokens_and_other_scripts_go(token: str) -> None:
    assert not build_words.readable(token)


def test_the_words_of_prompts_come_first_and_so_have_finer_embeddings() -> None:
    vocabulary = {
        token: index for index, token in enumerate(["[UNK]", "[CLS]", "[SEP]", "the", "ко", "adorable", "##s", "of"])
    }
    tokens = build_words.ordered(vocabulary, tokenizer_of(list(vocabulary)))
    assert tokens == ["[UNK]", "[CLS]", "[SEP]", "adorable", "##s", "the", "of"]
    shipped = (DEFAULT / "vocabulary.txt").read_text().split("\n")
    assert shipped.index("adorable") < FINE < shipped.index("otter")


def test_packed_embeddings_come_back_the_first_ones_finer() -> None:
    rows = np.random.default_rng(4).standard_normal((FINE + 50, DIM)).astype(np.float32) + 1
    ids = [FINE + 3, 0, FINE - 1, FINE, 0]
    embeddings = build_words.packed(rows)
    back = embeddings.rows(ids)
    errors = np.linalg.norm(back - rows[ids], axis=1) / np.linalg.norm(rows[ids], axis=1)
    assert (errors < 0.16).all()
    assert errors[[1, 2]].max() < errors[[0, 3]].min()
    np.testing.assert_array_equal(type(embeddings).of(embeddings.arrays()).rows(ids), back)


def test_new_terms_leave_the_encoder_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in DEFAULT.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    class Few:
        def __init__(self) -> None:
            self.words = {"fox": "fox", "vixen": "fox", "house": "house", "teapot": "teapot"}
            self.meta = {"version": "few"}

        @classmethod
        def load(cls) -> Few:
            return cls()

    monkeypatch.setattr(build_words, "Bank", Few)
    before = Words.load()
    after = build_words.renew_terms(tmp_path)
    assert after.meta["likeness"] == before.meta["likeness"]
    assert after.meta["bank"] == "few"
    np.testing.assert_array_equal(after.features("a red fox"), before.features("a red fox"))
    assert after.nearest("coffee pot", 9)[0][0] == "teapot"
    assert {name for name, _ in after.nearest("coffee pot", 9)} == {"fox", "house", "teapot"}


def test_lookups_are_words_that_the_bank_lacks_and_their_drawings_are_its_own() -> None:
    bank = Bank.load()
    asked = wanted(bank, LOOKUPS.read_text().splitlines())
    assert len(asked) > 150
    assert all(bank.find(word) is None for word in asked)
    assert sum(bool(right) for right in asked.values()) > 100
    assert all(name in bank for right in asked.values() for name in right)
    assert asked["happiness"] == frozenset()


def test_the_table_counts_what_is_right_from_each_threshold_on() -> None:
    found = [
        Found("puppy", frozenset({"dog"}), "dog", 0.9),
        Found("bullfrog", frozenset({"frog"}), "ox", 0.8),
        Found("hope", frozenset(), "well", 0.5),
    ]
    lines = table(found, (0.4, 0.8, 0.95)).splitlines()
    assert lines[0] == "3 words, 2 with a drawing"
    assert [line.split() for line in lines[2:]] == [
        ["0.400", "3", "0.33", "0.50"],
        ["0.800", "2", "0.50", "0.50"],
        ["0.950", "0", "-", "0.00"],
    ]


def test_looking_up_gives_the_surest_first() -> None:
    class Known:
        def nearest(self, word: str, count: int = 5) -> list[tuple[str, float]]:
            return [(word, len(word) / 10)][:count]

    found = look_up(Known(), {"fox": frozenset({"fox"}), "hyena": frozenset()})
    assert [(each.word, each.right) for each in found] == [("hyena", False), ("fox", True)]
