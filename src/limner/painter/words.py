"""What words mean: features of a prompt's tokens, the meaning of a sentence, and the concept nearest to a word.

The network is all-MiniLM-L6-v2 with its weights in few bits: token embeddings in 4 or 3, looked up here, the layers in
int8, run by OpenVINO. Every text is evaluated by itself, without padding, so what comes out depends on that text alone.
"""

from __future__ import annotations

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from limner.painter.folder import read_folder
from limner.painter.packed import Packed
from limner.runtime.openvino import Network

DEFAULT = Path(__file__).parent / "weights" / "words"
FILES = ("encoder.onnx", "embeddings.npz", "vocabulary.txt", "terms.json", "vectors.npz")
MAKER = "limner.painter.training.build_words"
DIM = 384
EXPECTED = {"kind": "limner-words", "format": 2, "dim": DIM}  # of meta.json
MAX_TOKENS = 128  # of one text; what is beyond them has no effect
ACCEPT = 0.75  # from this cosine on, nine nearest concepts in ten would do, by training/evaluate_words.py
UNKNOWN = 0.60  # below it, most would not
REMEMBERED = 256  # texts whose features are kept
Float32 = npt.NDArray[np.float32]
Encode = Callable[[Mapping[str, Float32]], Float32]
"""Token embeddings under "embedded", (1, N, 384), to features of the same shape."""


class Embeddings:
    """The token embeddings: what every row has in common, and the rest packed, frequent tokens first and finer."""

    def __init__(self, mean: Float32, *tables: Packed) -> None:
        self._mean = mean
        self._tables = tables

    def rows(self, ids: Sequence[int]) -> Float32:
        """(N, 384) float32 of N tokens."""
        at, start = np.asarray(ids, np.int64), 0
        rows = np.empty((len(at), DIM), np.float32)
        for table in self._tables:
            inside = (at >= start) & (at < start + len(table))
            rows[inside] = table.rows(at[inside] - start)
            start += len(table)
        return rows + self._mean

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What to save."""
        tables = (table.arrays(str(k)) for k, table in enumerate(self._tables))
        return {"mean": self._mean, **{name: array for table in tables for name, array in table.items()}}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Embeddings:
        """What was saved."""
        names = {name.partition(".")[0] for name in arrays} - {"mean"}
        return cls(arrays["mean"], *(Packed.of(arrays, name) for name in sorted(names, key=int)))


class Words:
    """The text encoder. Made by `Words.load`; it may be called from several threads."""

    def __init__(
        self,
        meta: Mapping[str, Any],
        network: Encode,
        tokenizer: Tokenizer,
        embeddings: Embeddings,
        concepts: Sequence[str],
        vectors: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        self.meta = meta
        self._network = network
        self._tokenizer = tokenizer
        self._embeddings = embeddings
        self._concepts = concepts
        self._packed = Packed.of(vectors, "terms")
        self._mean: Float32 = vectors["mean"]
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, Float32] = OrderedDict()

    @classmethod
    def load(cls, folder: Path = DEFAULT, threads: int = 0, network: Encode | None = None) -> Words:
        """Read the encoder's folder and compile the network for so many CPU threads, 0 for all cores.

        Args:
            network: evaluates the encoder instead, on machines that have no OpenVINO.

        Raises:
            ModelUnusable: a file is missing, changed, or of another format than this program reads.
        """
        meta, contents = read_folder(folder, "The text encoder", EXPECTED, FILES, MAKER)
        _, embeddings, vocabulary, terms, vectors = contents
        return cls(
            meta,
            network or Network(folder / "encoder.onnx", threads=threads),
            tokenizer_of(vocabulary.decode().split("\n")),
            Embeddings.of(_arrays(embeddings)),
            list(json.loads(terms).values()),
            _arrays(vectors),
        )

    @cached_property
    def _vectors(self) -> Float32:
        """The bank's words as `named` says them, less their mean, (terms, 384); unpacked when first asked for."""
        return unit(self._packed.rows(slice(None)))

    def features(self, text: str) -> Float32:
        """Features of each token of a text, the opening and closing marks included: (N, 384), N from 2 to `MAX_TOKENS`.

        The array is shared with the cache and read-only.
        """
        with self._lock:
            known = self._remembered.pop(text, None)
            if known is None:
                ids = self._tokenizer.encode(text).ids
                ids = ids[: MAX_TOKENS - 1] + ids[-1:] if len(ids) > MAX_TOKENS else ids
                known = self._network({"embedded": self._embeddings.rows(ids)[None]})[0]
                known.setflags(write=False)
            self._remembered[text] = known
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
            return known

    def embedded(self, text: str) -> tuple[Float32, list[tuple[int, int]]]:
        """The token embeddings of a text before the network, (N, 384), and where each token begins and ends in it.

        However many tokens there are; the opening and closing marks are not among them.
        """
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return self._embeddings.rows(found.ids), found.offsets

    def spelt(self, text: str) -> list[str]:
        """The tokens that a text is read as, the opening and closing marks included, however many."""
        return list(self._tokenizer.encode(text).tokens)

    def tokens(self, text: str, length: int = 32) -> Float32:
        """The first `length` tokens' features, (length, 384), with rows of zeros where the text has no more tokens."""
        features = self.features(text)[:length]
        return np.concatenate([features, np.zeros((length - len(features), DIM), np.float32)])

    def sentence(self, texts: Sequence[str]) -> Float32:
        """The meaning of each text, (B, 384): the mean of its token features, made of length 1."""
        if not texts:
            return np.zeros((0, DIM), np.float32)
        return np.stack([unit(self.features(text).mean(0)) for text in texts])

    def named(self, words: Sequence[str]) -> Float32:
        """Words as names of things, (B, 384): each with an article before it, which keeps nouns nouns."""
        return self.sentence([f"a {word}" for word in words])

    def nearest(self, word: str, count: int = 5) -> list[tuple[str, float]]:
        """The concepts whose words mean most nearly the same, with the cosine of the best of their words, best first.

        Cosines are of vectors less the mean of all the bank's words, since what they have in common tells nothing. From
        `ACCEPT` on the first is nearly always what was meant, below `UNKNOWN` mostly not. Ask `Bank.find` first: it
        knows the words themselves.
        """
        cosines = self._vectors @ unit(self.named([word])[0] - self._mean)
        best: dict[str, float] = {}
        for at in np.argsort(-cosines, kind="stable"):
            best.setdefault(self._concepts[at], float(cosines[at]))
            if len(best) == count:
                break
        return list(best.items())


def tokenizer_of(vocabulary: Sequence[str]) -> Tokenizer:
    """BERT's tokenizer over these tokens, numbered in their order: lower case, no accents, a mark at either end.

    A word that cannot be put together from the tokens becomes [UNK]. Source: Devlin et al., 2018; Wu et al., 2016.
    """
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106  no password
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return tokenizer


def _arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    with np.load(io.BytesIO(content)) as saved:
        return dict(saved)


def unit(vectors: Float32) -> Float32:
    """Vectors along the last axis, made of length 1; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)
