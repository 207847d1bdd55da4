"""IP-Adapter: pictures as a second text, for the networks of Stable Diffusion and SDXL.

Ye et al. 2023, arXiv:2308.06721. The features of a reference become a few tokens in the place of words, which every
cross-attention of the denoiser attends to a second time, with keys and values of its own; what that finds is added,
times the strength. The weights are read in the published layout: `image_proj.*` makes the tokens, `ip_adapter.*` holds
the keys and values, by the number of the attention. Kinds, told apart by the names of their weights:

    base       four tokens of the picture's embedding (ip-adapter_sd15, _sdxl)
    plus       a resampler of its patches (ip-adapter-plus, -plus-face)
    full       every patch (ip-adapter-full-face)
    face       tokens of a face's identity, by the face embedder insightface, with LoRAs (ip-adapter-faceid)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from limner.engine.core import UInt8
from limner.errors import ModelUnusable
from limner.pipelines import faces
from limner.pipelines.latents import Conditioning, on_white
from limner.pipelines.parts import Parts

Kind = Literal["base", "plus", "full", "face"]
Weights = Mapping[str, Tensor]


class Adapter:
    """An adapter's weights, and the image encoder beside them.

    Args:
        path: a .safetensors file with a folder `image_encoder` beside it, or the folder that holds both. A face adapter
            needs no image encoder.
        strength: 0 to 1, of every reference.

    Raises:
        ModelUnusable: they are missing, damaged, or not of an adapter; or a face adapter's embedder is not installed.
    """

    def __init__(self, path: Path, parts: Parts, strength: float) -> None:
        self._path = _file(path)
        tensors = _read(self._path)
        place = {"device": parts.device, "dtype": parts.dtype}
        self._projection = _below("image_proj.", tensors, place)
        self._attention = _below("ip_adapter.", tensors, place)
        self._kind = _kind(self._projection, self._path)
        self._strength = strength
        self._device = parts.device
        self._encoder: Any = None
        folder = self._path.parent / "image_encoder"
        digest = hashlib.sha256(f"{strength}".encode())
        for file in (self._path, *sorted(folder.glob("*") if self._kind != "face" else ())):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        self.fingerprint = digest.hexdigest()[:16]
        if self._kind == "face":
            faces.reader()
        else:
            self._encoder = _image_encoder(folder, place)
            self._check_encoder(folder)
            size = self._encoder.config.image_size
            self._processor = transformers.CLIPImageProcessorPil(size=size, crop_size=size)

    def attach(self, unet: nn.Module) -> nn.Module:
        """Give the network's attentions the adapter's weights; a call now takes `image_tokens` and `strength` too.

        Raises:
            ModelUnusable: the adapter was made for another network.
        """
        network: Any = unet
        processors = {}
        for index, name in enumerate(network.attn_processors):
            attention = network.get_submodule(name.removesuffix(".processor"))
            own = _below(f"{index}.", self._attention)
            crossing = attention.is_cross_attention
            shape = tuple(attention.to_k.weight.shape)
            if crossing and tuple(own.get("to_k_ip.weight", torch.empty(0)).shape) != shape:
                raise ModelUnusable(
                    f"{self._path} is an IP-Adapter of another kind of network. Take the one for this model: "
                    "Stable Diffusion 1, 2 and XL have one each."
                )
            processors[name] = Attending(own)
        network.set_attn_processor(processors)
        return unet

    @torch.inference_mode()
    def conditioning(self, references: Sequence[UInt8]) -> tuple[Conditioning, Conditioning]:
        """What the denoiser is told of the references, (H, W, 4) each: with guidance's prompt and without.

        Without references it is told of none, and paints as it does without the adapter.

        Raises:
            InvalidRequest: no face is in a reference, for a face adapter.
        """
        features = [self._features(reference) for reference in references]
        shown = [self._tokens(picture) for picture, _ in features]
        hidden = [self._tokens(nothing) for _, nothing in features]
        if not references:
            # As many as of one reference, to share batches with such requests; and OpenVINO 2026.4 goes wrong where the
            # first call of a network has a single key to attend to.
            width = next(value.shape[1] for name, value in self._attention.items() if name.endswith("to_k_ip.weight"))
            shown = hidden = [torch.zeros(self._count(), width, device=self._device)]
        strength = torch.tensor(self._strength if references else 0.0, device=self._device)
        rows = [{"image_tokens": torch.cat(tokens), "strength": strength} for tokens in (shown, hidden)]
        return rows[0], rows[1]

    def _features(self, reference: UInt8) -> tuple[Tensor, Tensor]:
        """Of a reference, and of none: what guidance leads away from."""
        weight = next(iter(self._projection.values()))
        if self._kind == "face":
            face = torch.from_numpy(faces.identity(on_white(reference))).to(weight)
            return face, torch.zeros_like(face)
        pixels = self._processor(on_white(reference), return_tensors="pt").pixel_values.to(weight)
        if self._kind == "base":
            picture = self._encoder(pixels).image_embeds[0]
            return picture, torch.zeros_like(picture)
        read = self._encoder(pixels, output_hidden_states=True).hidden_states[-2][0]
        blank = self._encoder(torch.zeros_like(pixels), output_hidden_states=True).hidden_states[-2][0]
        return read, blank

    def _tokens(self, features: Tensor) -> Tensor:
        """Tokens, (N, C), of one picture's features."""
        return PROJECTIONS[self._kind](features, self._projection)

    def _count(self) -> int:
        """Tokens of one reference."""
        match self._kind:
            case "plus":
                return self._projection["latents"].shape[1]
            case "full":
                config = self._encoder.config
                return int((config.image_size // config.patch_size) ** 2 + 1)
            case "base":
                last = self._projection["proj.weight"]
            case "face":
                last = self._projection["proj.2.weight"]
        return last.shape[0] // self._projection["norm.weight"].shape[0]

    def _check_encoder(self, folder: Path) -> None:
        config, weights = self._encoder.config, self._projection
        given = config.projection_dim if self._kind == "base" else config.hidden_size
        taken = {"base": "proj.weight", "plus": "proj_in.weight", "full": "proj.0.weight"}[self._kind]
        if weights[taken].shape[1] != given:
            raise ModelUnusable(
                f"{self._path} takes features of {weights[taken].shape[1]} numbers, and {folder} gives {given}. "
                "Put the image encoder that the adapter was made with beside it."
            )


class Attending(nn.Module):
    """An attention of the denoiser, as diffusers calls it, that attends to references too.

    `weights` holds to_k_ip.weight and to_v_ip.weight where there is a text, and the LoRAs of face adapters,
    to_q_lora.down.weight and the like, which are in force where the strength is above 0.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._names = {name: name.replace(".", "_") for name in weights}
        for name, value in weights.items():
            self.register_buffer(self._names[name], value, persistent=False)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        image_tokens: Tensor | None = None,
        strength: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, N, C); text (B, T, D); image tokens (B, M, D); strength (B,). Returns (B, N, C)."""
        if image_tokens is None or strength is None:
            raise TypeError("a network with an adapter is called with image_tokens and strength")
        strength = strength.view(-1, 1, 1)

        def through(name: str, layer: Any, x: Tensor) -> Tensor:
            result: Tensor = layer(x)
            if f"{name}_lora.down.weight" not in self._names:
                return result
            low = functional.linear(x, self._weight(f"{name}_lora.down.weight"))
            return result + (strength > 0) * functional.linear(low, self._weight(f"{name}_lora.up.weight"))

        def heads(x: Tensor) -> Tensor:
            return x.view(*x.shape[:2], attn.heads, -1).transpose(1, 2)

        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = heads(through("to_q", attn.to_q, hidden_states))
        key, value = heads(through("to_k", attn.to_k, text)), heads(through("to_v", attn.to_v, text))
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        found = found.transpose(1, 2).flatten(2)
        if encoder_hidden_states is not None:
            key = heads(functional.linear(image_tokens, self._weight("to_k_ip.weight")))
            value = heads(functional.linear(image_tokens, self._weight("to_v_ip.weight")))
            seen = functional.scaled_dot_product_attention(query, key, value)
            found = found + strength * seen.transpose(1, 2).flatten(2)
        return through("to_out", attn.to_out[0], found)

    def _weight(self, name: str) -> Tensor:
        return self.get_buffer(self._names[name])


def _base(features: Tensor, weights: Weights) -> Tensor:
    return _normed(_linear(features, weights, "proj").view(-1, weights["norm.weight"].shape[0]), weights, "norm")


def _full(features: Tensor, weights: Weights) -> Tensor:
    inner = functional.gelu(_linear(features, weights, "proj.0"))
    return _normed(_linear(inner, weights, "proj.2"), weights, "proj.3")


def _face(features: Tensor, weights: Weights) -> Tensor:
    tokens = _linear(functional.gelu(_linear(features, weights, "proj.0")), weights, "proj.2")
    return _normed(tokens.view(-1, weights["norm.weight"].shape[0]), weights, "norm")


def _plus(features: Tensor, weights: Weights) -> Tensor:
    """A perceiver (Jaegle et al. 2021, arXiv:2103.03206): learned tokens that attend to the patches and themselves."""
    patches, tokens = _linear(features, weights, "proj_in"), weights["latents"][0]
    layer = 0
    while f"layers.{layer}.0.to_q.weight" in weights:
        own = _below(f"layers.{layer}.", weights)
        queries = _normed(tokens, own, "0.norm2")
        context = torch.cat([_normed(patches, own, "0.norm1"), queries])
        query = _linear(queries, own, "0.to_q")
        key, value = _linear(context, own, "0.to_kv").chunk(2, dim=-1)
        query, key, value = (x.view(len(x), -1, 64).transpose(0, 1) for x in (query, key, value))
        found = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + _linear(found.transpose(0, 1).flatten(1), own, "0.to_out")
        inner = functional.gelu(_linear(_normed(tokens, own, "1.0"), own, "1.1"))
        tokens = tokens + _linear(inner, own, "1.3")
        layer += 1
    return _normed(_linear(tokens, weights, "proj_out"), weights, "norm_out")


PROJECTIONS: dict[Kind, Callable[[Tensor, Weights], Tensor]] = {
    "base": _base, "plus": _plus, "full": _full, "face": _face,
}  # fmt: skip


def _kind(projection: Weights, path: Path) -> Kind:
    if "proj.weight" in projection:
        return "base"
    if "latents" in projection:
        return "plus"
    if "proj.3.weight" in projection:
        return "full"
    if "norm.weight" in projection and "perceiver_resampler.proj_in.weight" not in projection:
        return "face"
    raise ModelUnusable(
        f"{path} is no IP-Adapter of a kind that Limner knows: base, plus, plus-face, full-face and FaceID, but not "
        "FaceID Plus. Name a file of one of these."
    )


def _linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _normed(x: Tensor, weights: Weights, name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def _below(prefix: str, tensors: Weights, place: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value.to(**place) if place else value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _file(path: Path) -> Path:
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise ModelUnusable(f"{path} holds {len(found)} files .safetensors. Name the file of the adapter itself.")
        return found[0]
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelUnusable(f"{path} is no file .safetensors. Name the adapter's, or a folder that holds it.")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelUnusable(f"{path} is damaged or not of safetensors ({error}). Copy it again.") from None


def _image_encoder(folder: Path, place: Mapping[str, Any]) -> Any:
    try:
        encoder = transformers.CLIPVisionModelWithProjection.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelUnusable(
            f"The adapter's image encoder cannot be read from {folder} ({reason}). Put the folder image_encoder that "
            "it was published with beside the adapter's file."
        ) from None
    return encoder.to(**place).eval().requires_grad_(False)
