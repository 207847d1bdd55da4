"""The reader: a small network that says what every word of a prompt is, and what it belongs to.

It is a transformer over the text encoder's token embeddings and over what the planner's tables know of each word. For
every word it gives a role, the word that it belongs to (the thing that a colour paints, the person who wears a garment,
who stands in a relation), the word at a relation's other end, and which relation it is. The pointers are biaffine, as
in "Deep Biaffine Attention for Neural Dependency Parsing" (Dozat and Manning, 2017). Which drawing a noun means and
which colour a word is are not its business: the tables say so, exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from limner.painter.folder import read_folder
from limner.painter.planner.chunks import OPENERS, Chunk
from limner.painter.planner.words import STOPS, Kind, spans
from limner.runtime.openvino import Network

Float32 = npt.NDArray[np.float32]
Role = Literal[
    "none", "thing", "person", "again", "count", "colour", "trait", "garment", "pose", "relation", "place", "time",
    "weather", "style", "denied", "part", "side",
]  # fmt: skip
Relation = Literal[
    "on", "under", "above", "below", "left", "right", "behind", "front", "beside", "inside", "holding", "riding",
    "around", "between", "wear",
]  # fmt: skip
ROLES: tuple[Role, ...] = get_args(Role)
RELATIONS: tuple[Relation, ...] = get_args(Relation)
DEFAULT = Path(__file__).parent.parent / "weights" / "planner"
FILE = "reader.onnx"
MAKER = "limner.painter.training.planner_export"
HEAD_DIM = 32  # of attention; half of it are angles of the rotary positions
SHORT = 3  # chunks of a prompt that is hardly more than a name
SURE = 0.9  # a probability that is enough to overrule the grammar
LONGEST = 480  # words of a prompt that are read; 1500 letters are about 300
KINDS: tuple[Kind, ...] = get_args(Kind)
FACTS = (
    "colour", "size", "age", "build", "skin", "hair", "hair_colour", "beard", "glasses", "hat", "top", "bottom", "pose",
    "expression", "relation", "side", "air", "place", "time", "weather", "style", "frame", "hint", "length", "count",
    "pointed", "paints", "concept",
)  # fmt: skip
TIES = (
    "on", "under", "below", "above", "left", "right", "behind", "front", "beside", "around", "between", "inside",
    "holds", "holding", "riding", "with",
)  # fmt: skip
LEXICAL = len(KINDS) + len(FACTS) + len(TIES) + 8
EXPECTED = {
    "kind": "limner-planner", "format": 1, "roles": list(ROLES), "relations": list(RELATIONS), "lexical": LEXICAL,
}  # fmt: skip


Call = Callable[[Mapping[str, npt.NDArray[Any]]], npt.NDArray[Any]]  # a network: named inputs to its output


class TextEncoder(Protocol):
    """What the reader asks of `limner.painter.words.Words`."""

    def embedded(self, text: str) -> tuple[Float32, list[tuple[int, int]]]: ...


@dataclass(frozen=True)
class Parse:
    """What the network says of N words."""

    roles: tuple[Role, ...]
    heads: tuple[int, ...]  # the word that each belongs to; -1 for none
    others: tuple[int, ...]  # the word at the other end of a relation; -1 for none
    relations: tuple[Relation, ...]
    sure: tuple[float, ...]  # the probability of each role


class Reader:
    """The network, loaded."""

    def __init__(self, network: Call, meta: Mapping[str, Any]) -> None:
        self.meta = meta
        self._network = network
        self._lock = threading.Lock()

    @classmethod
    def load(cls, folder: Path = DEFAULT, threads: int = 0) -> Reader:
        """Read the network's folder and compile it for so many CPU threads, 0 for all cores.

        Raises:
            ModelUnusable: a file is missing, changed, or of another format than this program reads.
        """
        meta, _ = read_folder(folder, "The planner", EXPECTED, (FILE,), MAKER)
        return cls(Network(folder / FILE, threads=threads), meta)

    def parse(self, simple: str, chunks: Sequence[Chunk], encoder: TextEncoder) -> Parse:
        """Read a text that is plain, at most its first `LONGEST` words.

        Args:
            simple: as `words.plain` gives it.
            chunks: what the tables know of it, not settled.
            encoder: gives the embeddings of its tokens.
        """
        features = word_features(simple, encoder)[:LONGEST]
        n = len(features)
        if not n:
            return Parse((), (), (), (), ())
        cos, sin = rotary(n)
        known = lexical(chunks, n)
        with self._lock:
            found = self._network({"features": features[None], "lexical": known[None], "cos": cos, "sin": sin})[0]
        return decode(found)


def decode(found: Float32) -> Parse:
    """The likeliest parse. `found` is (N, roles + relations + 2 * (N + 1)): logits, those of "no word" first."""
    n = len(found)
    roles, relations, heads, others = np.split(found, np.cumsum([len(ROLES), len(RELATIONS), n + 1]), axis=1)
    shifted = np.exp(roles - roles.max(1, keepdims=True))
    likely = shifted.max(1) / shifted.sum(1)
    return Parse(
        tuple(ROLES[k] for k in roles.argmax(1)),
        tuple(int(k) - 1 for k in heads.argmax(1)),
        tuple(int(k) - 1 for k in others.argmax(1)),
        tuple(RELATIONS[k] for k in relations.argmax(1)),
        tuple(map(float, likely)),
    )


def named(chunks: Sequence[Chunk], parse: Parse) -> dict[int, bool]:
    """Of which chunks the network is sure that they name something, or that they do not, by their number."""
    told: dict[int, bool] = {}
    for number, chunk in enumerate(chunks):
        words = range(chunk.at, min(chunk.at + chunk.size, len(parse.roles)))
        if not words:
            break
        roles = {parse.roles[w] for w in words}
        if min(parse.sure[w] for w in words) > SURE:
            if roles & {"thing", "person"}:
                told[number] = True
            elif _is_named(chunks, number):
                pass
            elif roles <= {"none", "colour", "trait", "pose", "part", "count"}:
                told[number] = False
    return told


def _is_named(chunks: Sequence[Chunk], number: int) -> bool:
    """Whether a chunk stands where only a noun can: "a chef cooking", "a red ball.", "duck"."""
    chunk, before = chunks[number], chunks[number - 1] if number else None
    after = chunks[number + 1] if number + 1 < len(chunks) else None
    if chunk.concept is None and chunk.kind != "person":
        return False
    closed = after is None or after.kind not in ("noun", "person", "unknown", "adjective") or after.text.endswith("ing")
    if before is None or before.kind in ("comma", "stop"):
        return closed and len(chunks) <= SHORT
    return closed and before.kind in OPENERS


def word_features(simple: str, encoder: TextEncoder) -> Float32:
    """The mean of the token embeddings of each of the planner's words: (N, 384); zeros where there are none."""
    words = spans(simple)
    starts, ends = (np.array([span[k] for span in words], np.int64) for k in (0, 1))
    total = np.zeros((len(words), 384), np.float32)
    if not words:
        return total
    rows, pieces = encoder.embedded(simple)
    begin = np.array([piece[0] for piece in pieces], np.int64)
    word = np.searchsorted(starts, begin, side="right") - 1
    kept = (word >= 0) & (begin < ends[word])
    np.add.at(total, word[kept], rows[kept])
    seen = np.bincount(word[kept], minlength=len(words)).astype(np.float32)
    return np.asarray(total / np.maximum(seen, 1)[:, None], np.float32)


def lexical(chunks: Sequence[Chunk], n: int) -> Float32:
    """What the tables know of the first `n` words: (n, LEXICAL) of zeros and ones."""
    table = np.zeros((n, LEXICAL), np.float32)
    facts, ties, marks = len(KINDS), len(KINDS) + len(FACTS), len(KINDS) + len(FACTS) + len(TIES)
    for chunk in chunks:
        if chunk.at >= n:
            break
        row = np.zeros(LEXICAL, np.float32)
        row[KINDS.index(chunk.kind)] = 1
        for fact in chunk.word.facts:
            if fact in FACTS:
                row[facts + FACTS.index(fact)] = 1
        if (tie := chunk.says("relation")) in TIES:
            row[ties + TIES.index(tie)] = 1
        row[marks] = chunk.concept is not None
        row[marks + 1] = chunk.plural
        row[marks + 2] = chunk.text in STOPS
        row[marks + 3] = chunk.text[:1].isdigit()
        row[marks + 4] = chunk.text.endswith("ing")
        row[marks + 5] = chunk.text.endswith(("ed", "ly"))
        table[chunk.at : chunk.at + chunk.size] = row
        table[chunk.at, marks + 6] = 1  # where it begins
        table[min(chunk.at + chunk.size, n) - 1, marks + 7] = 1  # and ends
    return table


def rotary(n: int) -> tuple[Float32, Float32]:
    """Cosines and sines of the rotary positions of n words, (n, HEAD_DIM / 2) each (Su et al., 2021)."""
    rates = 1000.0 ** -(np.arange(HEAD_DIM // 2) / (HEAD_DIM // 2))
    angles = np.arange(n)[:, None] * rates
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
