"""LoRA: low-rank additions to a network's weights (Hu et al. 2021, arXiv:2106.09685), several at once.

A layer with weight W gives (W + sum of w_i * up_i @ down_i) x. The sum is computed beside the layer, by hooks that are
there for the length of one evaluation, and W is never written: another request's LoRAs leave no trace, and quantized
or offloaded weights take them too. Merging them into W instead would cost a pass over the weights whenever the engine
turns to another request: half an evaluation, against a few percent of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from torch import Tensor, add, nn

from limner.engine.core import Request
from limner.errors import EngineFailed, InvalidRequest, ModelUnusable
from limner.models.registry import Lora, Model
from limner.pipelines import lora_file
from limner.pipelines.lora_file import Term, Terms
from limner.pipelines.parts import Network, Parts, Wrap
from limner.runtime.torch import altered

log = structlog.get_logger(__name__)

Chosen = tuple[tuple[str, float], ...]
"""Names of LoRAs and their weights, in the order of the names, none of weight 0."""

LEAST, MOST = -4.0, 4.0
"""Range of a LoRA's weight."""

Sum = list[tuple[Term, float, Path]]
"""What is added to one layer: terms, their weights and the files they are of."""

Sums = Mapping[str, Sum]
"""What is added to one part, by layer."""


class Loras:
    """The LoRAs of a model's entry, named by their files without the ending.

    All are read at once and tried on, so that what is wrong with them is told before anybody paints; where networks are
    converted beforehand, whether one fits is seen when it is first painted with.

    Raises:
        ModelUnusable: a listed file cannot be read or is not for this model, or two have one name.
    """

    def __init__(self, parts: Parts, model: Model) -> None:
        self._parts = parts
        self._usual = {_name(lora): lora.weight for lora in model.loras}
        listed = (*model.loras, *(style.lora for style in model.styles if style.lora))
        self._paths = {_name(lora): Path(lora.path) for lora in listed}
        for lora in listed:
            if self._paths[_name(lora)] != Path(lora.path):
                raise ModelUnusable(f"{model.name} lists two LoRAs named {_name(lora)}. Rename one of the files.")
        self._terms: dict[str, Terms] = {name: lora_file.read(path, parts) for name, path in self._paths.items()}
        self._converted: set[str] = set()  # parts whose converted networks hold the usual LoRAs
        self._now = self.usual
        if parts.conversion is None:
            for part, sums in self._sums(tuple((name, 1.0) for name in self._paths)).items():
                _removed(self._hook(parts.module(part), sums, part))

    @property
    def usual(self) -> Chosen:
        """What the entry adds to every picture."""
        return tuple((name, weight) for name, weight in sorted(self._usual.items()) if weight)

    @property
    def fingerprint(self) -> str:
        """A checksum of every listed file; empty where there is none."""
        return self._checksum(tuple((name, 1.0) for name in sorted(self._paths)))

    def _checksum(self, chosen: Chosen) -> str:
        digest = hashlib.sha256()
        for name, weight in chosen:
            with self._paths[name].open("rb") as file:
                digest.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()} {weight!r}".encode())
        return digest.hexdigest()[:16] if chosen else ""

    def chosen(self, request: Request) -> Chosen:
        """What the entry adds to every picture, and what the request says of that and of other listed LoRAs.

        Raises:
            InvalidRequest: a name is not listed or stands there twice, or a weight is out of its range.
        """
        asked = dict(request.loras)
        if len(asked) < len(request.loras):
            raise InvalidRequest("A LoRA is named twice. Name each once, with one weight.")
        for name, weight in asked.items():
            if name not in self._paths:
                known = ", ".join(sorted(self._paths)) or "none"
                raise InvalidRequest(f"There is no LoRA {name!r} for {request.model}; there are: {known}.")
            if not LEAST <= weight <= MOST:
                raise InvalidRequest(f"The weight of the LoRA {name} is {weight}; it must be {LEAST} to {MOST}.")
        weights = self._usual | asked
        return tuple((name, weights[name]) for name in sorted(weights) if weights[name])

    def network(
        self,
        part: str,
        example: Callable[[], dict[str, Tensor]] | None = None,
        wrap: Wrap | None = None,
        calibrate: Callable[[Network], None] | None = None,
    ) -> Network:
        """`parts.network`, with the LoRAs that are applied when it is called.

        Where networks are converted beforehand, this one is converted with the usual LoRAs in it; for others, torch
        runs it, which then loads it too.
        """
        if self._parts.conversion is None or example is None or not self._paths:
            return self._parts.network(part, example, wrap=wrap, calibrate=calibrate)

        def hooked(module: nn.Module) -> nn.Module:
            self._hook(module, self._sums(self.usual).get(part, {}), part)
            return wrap.around(module) if wrap else module

        adds = (wrap.adds if wrap else "") + self._checksum(self.usual)
        fast = self._parts.network(part, example, wrap=Wrap(hooked, adds), calibrate=calibrate)
        plain = cache(lambda: self._parts.network(part, wrap=wrap))
        self._converted.add(part)

        def run(**inputs: Tensor) -> Tensor:
            return (fast if self._now == self.usual else plain())(**inputs)

        return run

    @contextmanager
    def applied(self, chosen: Chosen) -> Iterator[None]:
        """Add these to the networks of the parts while the block runs.

        Raises:
            EngineFailed: one of them does not fit after all.
        """
        with ExitStack() as after:
            after.callback(setattr, self, "_now", self._now)
            self._now = chosen
            for part, sums in self._sums(chosen).items():
                if part in self._converted and chosen == self.usual:
                    continue
                network = self._parts.module(part)
                after.enter_context(altered(network))
                try:
                    after.callback(_removed, self._hook(network, sums, part))
                except ModelUnusable as error:  # its sentence is for the operator
                    log.error("a LoRA cannot be painted with", reason=error.message)
                    raise EngineFailed(
                        "A LoRA of this picture is not for this model; the service's log says which. Leave it out."
                    ) from None
            yield

    def _sums(self, chosen: Chosen) -> Mapping[str, Sums]:
        sums: dict[str, dict[str, Sum]] = {}
        for name, weight in chosen:
            path = self._paths[name]
            for part, layers in self._terms[name].items():
                for layer, term in layers.items():
                    sums.setdefault(part, {}).setdefault(layer, []).append((term, weight, path))
        return sums

    def _hook(self, network: nn.Module, sums: Sums, part: str) -> list[Any]:
        """Have each layer of the network add its sum; returns what takes the hooks off again."""
        layers = dict(network.named_modules())
        found: list[tuple[nn.Module, Sum]] = []
        for name, terms in sums.items():
            # CLIP's layers were inside a text_model when most files were made.
            layer = layers.get(name, layers.get(name.removeprefix("text_model.")))
            for term, _, path in terms:
                if layer is None:
                    raise lora_file.other(path, self._parts, f"this has no layer {name} in its {part}")
                if not term.fits(layer):
                    raise lora_file.other(path, self._parts, f"{name} of {part} is of another shape")
                if term is terms[-1][0]:
                    found.append((layer, terms))
        return [layer.register_forward_hook(_adding(terms)) for layer, terms in found]


def _adding(terms: Sum) -> Any:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        for term, weight, _ in terms:
            output = add(output, term.of(layer, inputs[0]).to(output.dtype), alpha=weight)
        return output

    return hook


def _removed(hooks: list[Any]) -> None:
    for hook in hooks:
        hook.remove()


def _name(lora: Lora) -> str:
    return Path(lora.path).stem
