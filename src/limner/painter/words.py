"""What words mean: features of a prompt's tokens, the meaning of a sentence, and the concept nearest to a word.

The network is all-MiniLM-L6-v2 with a smaller vocabulary and int8 weights, run by OpenVINO. Every text is evaluated by
itself, without padding, so what comes out depends on that text alone.
"""

from __future__ import annotations

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from limner.painter.folder import read_folder
from limner.runtime.openvino import Network

DEFAULT = Path(__file__).parent / "weights" / "words"
FILES = ("encoder.onnx", "tokenizer.json", "terms.json", "vectors.npy")
MAKER = "limner.painter.training.build_words"
DIM = 384
EXPECTED = {"kind": "limner-words", "format": 1, "dim": DIM}  # of meta.json
MAX_TOKENS = 128  # of one text; what is beyond them has no effect
ACCEPT = 0.80  # from this cosine on, the nearest concept is nearly always the one that was meant
UNKNOWN = 0.75  # below it, mostly a wrong one
REMEMBERED = 256  # texts whose features are kept
Float32 = npt.NDArray[np.float32]


class Words:
    """The text encoder. Made by `Words.load`; it may be called from several threads."""

    def __init__(
        self, meta: Mapping[str, Any], network: Network, tokenizer: Tokenizer, concepts: Sequence[str], vectors: Float32
    ) -> None:
        self.meta = meta
        self._network = network
        self._tokenizer = tokenizer
        self._concepts = concepts
        self._vectors = vectors
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, Float32] = OrderedDict()

    @classmethod
    def load(cls, folder: Path = DEFAULT, threads: int = 0) -> Words:
        """Read the encoder's folder and compile the network for so many CPU threads, 0 for all cores.

        Raises:
            ModelUnusable: a file is missing, changed, or of another format than this program reads.
        """
        meta, contents = read_folder(folder, "The text encoder", EXPECTED, FILES, MAKER)
        _, tokenizer, terms, vectors = contents
        return cls(
            meta,
            Network(folder / "encoder.onnx", threads=threads),
            Tokenizer.from_str(tokenizer.decode()),
            list(json.loads(terms).values()),
            unit(np.load(io.BytesIO(vectors)).astype(np.float32)),
        )

    def features(self, text: str) -> Float32:
        """Features of each token of a text, the opening and closing marks included: (N, 384), N from 2 to `MAX_TOKENS`.

        The array is shared with the cache and read-only.
        """
        with self._lock:
            known = self._remembered.pop(text, None)
            if known is None:
                ids = self._tokenizer.encode(text).ids
                ids = ids[: MAX_TOKENS - 1] + ids[-1:] if len(ids) > MAX_TOKENS else ids
                known = self._network({"ids": np.array([ids], np.int64)})[0]
                known.setflags(write=False)
            self._remembered[text] = known
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
            return known

    def tokens(self, text: str, length: int = 32) -> Float32:
        """The first `length` tokens' features, (length, 384), with rows of zeros where the text has no more tokens."""
        features = self.features(text)[:length]
        return np.concatenate([features, np.zeros((length - len(features), DIM), np.float32)])

    def sentence(self, texts: Sequence[str]) -> Float32:
        """The meaning of each text, (B, 384): the mean of its token features, made of length 1."""
        if not texts:
            return np.zeros((0, DIM), np.float32)
        return np.stack([unit(self.features(text).mean(0)) for text in texts])

    def nearest(self, word: str, count: int = 5) -> list[tuple[str, float]]:
        """The concepts whose words mean most nearly the same, with the cosine of the best of their words, best first.

        From `ACCEPT` on the first is nearly always what was meant, below `UNKNOWN` mostly not. Ask `Bank.find`
        first: it knows the words themselves.
        """
        cosines = self._vectors @ self.sentence([word])[0]
        best: dict[str, float] = {}
        for at in np.argsort(-cosines, kind="stable"):
            best.setdefault(self._concepts[at], float(cosines[at]))
            if len(best) == count:
                break
        return list(best.items())


def unit(vectors: Float32) -> Float32:
    """Vectors along the last axis, made of length 1; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)
