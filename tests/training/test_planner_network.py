"""The reader's network: shapes, gradients, half precision, export, and training that goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limner.errors import ModelUnusable
from limner.painter.bank import Bank
from limner.painter.planner.reader import LEXICAL, RELATIONS, ROLES, Reader, decode, rotary
from limner.painter.training import planner_train
from limner.painter.training.planner_captions import caption, nouns_of
from limner.painter.training.planner_export import export
from limner.painter.training.planner_network import TEXT_DIM, Config, Network
from limner.painter.training.planner_train import IGNORED, batch_of, collate, losses, read_captions, train, write_shard

# The exporter's own: its age, what it traces, and a slice that it does not fold.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore:Constant folding:UserWarning"
)
TINY = Config(depth=2, width=64, hidden=64, pointer=32)
BANK = Bank.load()


class Letters:
    """Embeddings without the text encoder: one row for the whole word, drawn from its letters."""

    def embedded(self, text: str) -> tuple[Any, list[tuple[int, int]]]:
        words, at = text.split(" "), 0
        rows, spans = [], []
        for word in words:
            rows.append(np.random.default_rng(list(word.encode())).standard_normal(TEXT_DIM).astype(np.float32))
            spans.append((at, at + len(word)))
            at += len(word) + 1
        return np.stack(rows), spans


def inputs(n: int = 9) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    cos, sin = map(torch.from_numpy, rotary(n))
    known = (torch.rand(2, n, LEXICAL) < 0.1).float()
    return {"features": torch.randn(2, n, TEXT_DIM), "lexical": known, "cos": cos, "sin": sin}


def network(config: Config = TINY) -> Network:
    torch.manual_seed(1)
    return Network(config)


def test_every_word_gets_roles_relations_and_two_pointers() -> None:
    found = network()(**inputs(9))
    assert found.shape == (2, 9, len(ROLES) + len(RELATIONS) + 2 * 10)


def test_a_loss_reaches_every_parameter() -> None:
    model = network()
    labels = torch.randint(0, 9, (2, 9, 4))
    losses(model(**inputs(9)), labels)[0].backward()  # type: ignore[no-untyped-call]  # torch's own
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_words_that_are_not_there_change_nothing() -> None:
    model = network().eval()
    full = inputs(9)
    cos, sin = map(torch.from_numpy, rotary(12))
    padded = {
        "features": torch.cat((full["features"], torch.zeros(2, 3, TEXT_DIM)), 1),
        "lexical": torch.cat((full["lexical"], torch.zeros(2, 3, LEXICAL)), 1),
        "cos": cos,
        "sin": sin,
        "hidden": torch.tensor([[0.0] * 9 + [-1e4] * 3] * 2),
    }
    alone, among = model(**full), model(**padded)[:, :9]
    labels = len(ROLES) + len(RELATIONS)
    torch.testing.assert_close(among[..., :labels], alone[..., :labels], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(among[..., labels : labels + 10], alone[..., labels : labels + 10], atol=1e-4, rtol=1e-4)


def test_half_precision_is_near() -> None:
    model = network().eval()
    with torch.no_grad():
        exact = model(**inputs())
        with torch.autocast("cpu", torch.bfloat16):
            half = model(**inputs()).float()
    assert (half - exact).norm() / exact.norm() < 0.05


def test_what_is_exported_reads_as_what_was_trained(tmp_path: Path) -> None:
    model = network().eval()
    export(model, tmp_path, {"step": 0})
    reader = Reader.load(tmp_path)
    with torch.no_grad():
        for n in (5, 17):
            one = {name: value[:1] if value.ndim == 3 else value for name, value in inputs(n).items()}
            exact = model(**one).numpy()
            found = reader._network({name: value.numpy() for name, value in one.items()})
            assert np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.01
            assert decode(found[0]).roles == decode(exact[0]).roles


def test_a_changed_network_is_refused(tmp_path: Path) -> None:
    export(network(), tmp_path, {"step": 0})
    file = tmp_path / "reader.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelUnusable, match=r"reader\.onnx that is not the one"):
        Reader.load(tmp_path)


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions")
    write_shard(folder / "captions-000.npz", 0, 120, BANK, Letters())
    return folder


def test_captions_come_back_as_they_were_written(captions: Path) -> None:
    examples, vectors = read_captions(captions)
    made = [m for m in (caption(seed, nouns_of(BANK)) for seed in range(120)) if m]
    assert len(examples) == len(made)
    for example, (_, tokens) in zip(examples[:40], made[:40], strict=True):
        assert [ROLES[k] for k in example.labels[:, 0]] == [t.role for t in tokens]
        for row, token in zip(example.labels, tokens, strict=True):
            if token.role == "relation" and token.relation:
                assert RELATIONS[row[1]] == token.relation
            if token.head is not None and row[2] > 0:
                assert tokens[row[2] - 1] is token.head
    row = Letters().embedded("dog")[0][0]
    assert np.abs(vectors - row).sum(1).min() < 1.0


def test_a_batch_is_the_same_for_its_step_and_joins_keep_their_pointers(captions: Path) -> None:
    examples, _ = read_captions(captions)
    examples.sort(key=len)
    first = [batch_of(examples, 300, step) for step in range(12)]
    again = [batch_of(examples, 300, step) for step in range(12)]
    assert [[len(e) for e in batch] for batch in first] == [[len(e) for e in batch] for batch in again]
    two = planner_train.joined(examples[-2:])
    shifted, own = two.labels[len(examples[-2]) :, 2], examples[-1].labels[:, 2]
    assert np.array_equal(shifted[own > 0], own[own > 0] + len(examples[-2]))
    assert np.array_equal(shifted[own <= 0], own[own <= 0])


def test_words_lose_what_the_tables_know_only_in_training(captions: Path) -> None:
    examples, vectors = read_captions(captions)
    kept = collate(examples[:20], vectors, None)["lexical"]
    lost = collate(examples[:20], vectors, np.random.default_rng(0))["lexical"]
    words = collate(examples[:20], vectors, None)["labels"][..., 0] != IGNORED
    gone = (kept.sum(-1) > 0) & (lost.sum(-1) == 0) & words
    assert 0.02 < gone.sum().item() / words.sum().item() < 0.12


def test_training_that_was_stopped_goes_on_to_the_same_weights(captions: Path, tmp_path: Path) -> None:
    train(captions, tmp_path / "whole", TINY, 5, 200, 1e-3, minutes=5)
    for _ in range(5):
        train(captions, tmp_path / "broken", TINY, 5, 200, 1e-3, minutes=0)  # stops after every step
    whole, broken = (torch.load(tmp_path / n / "checkpoint.pt", weights_only=True) for n in ("whole", "broken"))
    assert broken["step"] == whole["step"] == 5
    assert all(torch.equal(whole["network"][name], broken["network"][name]) for name in whole["network"])


def test_training_learns(captions: Path, tmp_path: Path) -> None:
    before = train(captions, tmp_path / "none", TINY, 1, 100, 0.0, 5)
    after = train(captions, tmp_path / "some", TINY, 10, 150, 2e-2, 5)
    assert after["held_out"][0] > before["held_out"][0] + 0.1
