"""What the families of flow matching share: the samplers that fit them, and levels as their schedulers set them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limner.engine import levels
from limner.engine.core import SamplerName
from limner.errors import InvalidRequest, ModelUnusable

SAMPLERS: tuple[SamplerName, ...] = ("euler", "heun", "multistep", "dpm++2m")
UNKNOWN = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas", "stochastic_sampling")


def checked(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a flow's scheduler, once they hold nothing that `run` would leave out.

    Raises:
        ModelUnusable: they ask for another spacing, or for another kind of shift.
    """
    odd = [name for name in UNKNOWN if config.get(name)]
    if config.get("time_shift_type", "exponential") != "exponential":
        odd.append("time_shift_type")
    if odd:
        raise ModelUnusable(
            f"The scheduler's settings {', '.join(odd)} are not known here. "
            "Take them out of scheduler/scheduler_config.json if the model paints well without them."
        )
    return config


def even(steps: int) -> list[float]:
    """Noises that fall evenly from 1 in so many steps, without the 0 that they end in."""
    return [(steps - i) / steps for i in range(steps)]


def shift(config: Mapping[str, Any], tokens: int) -> float:
    """How strongly the scheduler bends the noises of a picture of so many tokens."""
    if config.get("use_dynamic_shifting"):
        return levels.dynamic_shift(tokens, config)
    return float(config.get("shift", 1.0))


def run(config: Mapping[str, Any], noises: Sequence[float], shift: float, sampler: SamplerName) -> levels.Levels:
    """Levels through these noises, bent by `shift`, stretched to `shift_terminal` where there is one, and then to 0.

    Raises:
        InvalidRequest: the sampler is one of diffusion models.
    """
    if sampler not in SAMPLERS:
        raise InvalidRequest(
            f"The sampler {sampler} is made for diffusion models; this one, of flow matching, takes "
            f"{', '.join(SAMPLERS)}. Choose one of these, or leave the sampler out."
        )
    bent = [levels.shifted(noise, shift) for noise in noises]
    terminal = config.get("shift_terminal")
    if terminal and bent[-1] < 1:
        stretch = (1 - terminal) / (1 - bent[-1])
        bent = [1 - (1 - noise) * stretch for noise in bent]
    return levels.flow([*bent, 0.0])
