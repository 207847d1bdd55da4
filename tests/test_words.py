from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from limner.errors import ModelUnusable
from limner.painter.bank import Bank
from limner.painter.words import ACCEPT, DEFAULT, DIM, FILES, MAX_TOKENS, UNKNOWN, Words

TEXTS = ["a red fox on a snowy hill", "x", "", "ein Hund, 一只猫 и кот 🎈", "word " * 400]


@pytest.fixture(scope="module")
def words() -> Words:
    return Words.load()


def test_tokens_have_features_and_the_rest_are_zeros(words: Words) -> None:
    tokens = words.tokens("a red fox")
    assert tokens.shape == (32, DIM)
    assert tokens.dtype == np.float32
    assert np.abs(tokens[:5]).sum(1).min() > 1  # the opening mark, three words, the closing mark
    assert not tokens[5:].any()
    assert words.tokens("a red fox", length=3).shape == (3, DIM)
    np.testing.assert_array_equal(words.tokens("a red fox", length=3), tokens[:3])


def test_any_text_has_finite_features_and_a_long_one_is_cut(words: Words) -> None:
    for text in TEXTS:
        features = words.features(text)
        assert 2 <= len(features) <= MAX_TOKENS
        assert np.isfinite(features).all()
    assert len(words.features(TEXTS[-1])) == MAX_TOKENS


def test_sentences_are_unit_vectors_and_mean_what_they_should(words: Words) -> None:
    happy, very, dog, day = words.sentence(
        ["That is a happy person", "That is a very happy person", "That is a happy dog", "Today is a sunny day"]
    )
    assert np.linalg.norm(happy) == pytest.approx(1, abs=1e-5)
    # The original model's own figures for these sentences.
    assert happy @ very == pytest.approx(0.943, abs=0.02)
    assert happy @ dog == pytest.approx(0.695, abs=0.02)
    assert happy @ day == pytest.approx(0.257, abs=0.02)
    assert words.sentence([]).shape == (0, DIM)


def test_the_shipped_encoder_was_measured_to_be_like_the_original(words: Words) -> None:
    for name, count in (("captions", 200), ("prose", 300)):
        likeness = words.meta["likeness"][name]
        assert likeness["texts"] == likeness["same_tokens"] == count
        assert likeness["mean_cosine"] >= 0.985
        assert likeness["least_cosine"] >= 0.96
    assert sum(entry["bytes"] for entry in words.meta["files"].values()) <= 17 * 2**20


def test_every_english_word_is_read_whole_or_in_pieces_and_none_is_lost(words: Words) -> None:
    assert words.spelt("A Sousaphone, naïve!") == ["[CLS]", "a", "sousa", "##phone", ",", "naive", "!", "[SEP]"]
    assert words.spelt("[SEP] [MASK]").count("[SEP]") == 1  # what a prompt says is never a mark
    assert "[UNK]" not in words.spelt("xylophone’s “zyzzyva” – £5 … qwrtzk é ß")
    assert words.spelt("狐")[1:-1] == ["[UNK]"]  # other scripts are the lexicon's matter


@pytest.mark.parametrize(
    ("word", "concept"),
    [
        ("violinist", "violin"),
        ("rock climber", "person-climbing"),
        ("newborn", "baby"),
        ("little puppy", "dog"),
        ("tree frog", "frog"),
    ],
)
def test_a_word_that_the_bank_lacks_finds_the_nearest_concept(words: Words, word: str, concept: str) -> None:
    assert Bank.load().find(word) is None
    found = words.nearest(word)
    assert found[0][0] == concept
    assert found[0][1] >= ACCEPT
    assert [cosine for _, cosine in found] == sorted((cosine for _, cosine in found), reverse=True)
    assert len({name for name, _ in found}) == len(found) == 5


@pytest.mark.parametrize("word", ["happiness", "quickly", "beautiful", "justice", "philosophy"])
def test_a_word_that_names_nothing_of_the_bank_stays_unknown(words: Words, word: str) -> None:
    assert words.nearest(word, 1)[0][1] < UNKNOWN


def test_the_vectors_are_those_of_the_bank_that_ships(words: Words) -> None:
    terms = json.loads((DEFAULT / "terms.json").read_text())
    assert terms == Bank.load().words
    for term in list(terms)[::97]:
        assert words.nearest(term, 1)[0] == (terms[term], pytest.approx(1, abs=0.01)), term


def test_a_text_means_the_same_whatever_came_before_and_beside_it(words: Words) -> None:
    fresh = Words.load()
    alone = {text: fresh.features(text).copy() for text in reversed(TEXTS)}
    with ThreadPoolExecutor(4) as pool:
        for text, features in zip(TEXTS * 8, pool.map(words.features, TEXTS * 8), strict=True):
            np.testing.assert_array_equal(features, alone[text])
    np.testing.assert_array_equal(words.sentence(TEXTS)[1:2], words.sentence(TEXTS[1:2]))


def test_another_process_gives_the_same_bytes(words: Words) -> None:
    script = (
        "import hashlib; from limner.painter.words import Words; w = Words.load(); w.features('something else first');"
        "print(hashlib.sha256(w.tokens('a red fox on a snowy hill').tobytes()).hexdigest())"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert told == hashlib.sha256(words.tokens("a red fox on a snowy hill").tobytes()).hexdigest()


def test_remembered_features_cannot_be_changed(words: Words) -> None:
    with pytest.raises(ValueError, match="read-only"):
        words.features("a red fox")[0, 0] = 1
    words.tokens("a red fox")[0, 0] = 1  # a copy
    assert words.features("a red fox")[0, 0] != 1


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(DEFAULT, tmp_path / "words"))
    (folder / name).unlink()
    with pytest.raises(ModelUnusable, match=f"The text encoder lacks its file {name}.*build_words"):
        Words.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(DEFAULT, tmp_path / "words"))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelUnusable, match=f"file {name} that is not the one of its meta.json"):
        Words.load(folder)


@pytest.mark.parametrize("change", [{"format": 99}, {"kind": "limner-denoiser"}, {"dim": 768}])
def test_an_encoder_of_another_kind_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    folder = Path(shutil.copytree(DEFAULT, tmp_path / "words"))
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | change))
    with pytest.raises(ModelUnusable, match="this program reads"):
        Words.load(folder)


def test_an_encoder_without_a_meta_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"no readable meta\.json"):
        Words.load(tmp_path)
