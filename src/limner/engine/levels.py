"""The noise levels of a run, for flow matching and for diffusion. Plain arithmetic, from settings to `Level`s.

Settings of diffusion models are read as their folders carry them (`scheduler/scheduler_config.json` of diffusers'
layout), since a checkpoint paints well with the levels that it was trained and tuned for alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.engine.core import Level, SamplerName

Levels = tuple[Level, ...]
Numbers = npt.NDArray[Any]


def flow(noises: Sequence[float]) -> Levels:
    """Levels of flow matching for falling noises in [0, 1]: x = (1 - noise) * clean + noise * eps, t = 1 - noise."""
    return tuple(Level(t=1.0 - float(noise), noise=float(noise), signal=1.0 - float(noise)) for noise in noises)


def schedule(steps: int, shift: float = 1.0) -> Levels:
    """Flow levels whose noise falls evenly from exactly 1 to exactly 0 in so many steps, then bent by `shifted`.

    Raises:
        ValueError: `steps` is below 1 or `shift` is not above 0.
    """
    if steps < 1 or not shift > 0:
        raise ValueError(f"a schedule needs at least one step and a shift above 0, not {steps} and {shift}")
    return flow([shifted((steps - i) / steps, shift) for i in range(steps + 1)])


def shifted(noise: float, shift: float) -> float:
    """A flow's noise, bent: 1 leaves it, more than 1 spends more steps in noise, as large pictures need.

    Esser et al. 2024, arXiv:2403.03206, equation 23. A shift of e^mu is what FLUX calls mu.
    """
    return float(1 - (1 - noise) / (1 + (shift - 1) * noise))  # exactly 1 at 1


def dynamic_shift(tokens: int, config: Mapping[str, Any]) -> float:
    """The shift for a latent of so many tokens: e^mu, where mu is linear in the tokens (FLUX, Qwen-Image).

    `config` is the scheduler's: base_shift at base_image_seq_len and max_shift at max_image_seq_len.
    """
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return math.exp(base + (most - base) * (tokens - low) / (high - low))


def diffusion(config: Mapping[str, Any], steps: int, sampler: SamplerName) -> Levels:
    """Levels of a discrete diffusion model, in coordinates of growing variance: x = clean + noise * eps.

    Args:
        config: of the scheduler: num_train_timesteps, beta_start, beta_end, beta_schedule or trained_betas,
            rescale_betas_zero_snr, timestep_spacing, steps_offset, set_alpha_to_one, use_karras_sigmas,
            original_inference_steps; others have no effect.
        steps: at least 1 and at most the timesteps of the training.
        sampler: samplers were published with spacings of their own.

    Raises:
        ValueError: a setting or the number of steps is not one that this knows.
    """
    shares = _signal_shares(config)
    if not 1 <= steps <= len(shares):
        raise ValueError(f"a run takes 1 to {len(shares)} steps, not {steps}")
    noises = ((1 - shares) / shares) ** 0.5
    times = _timesteps(config, steps, sampler, len(shares))
    chosen = np.interp(times, np.arange(len(shares)), noises)
    if config.get("use_karras_sigmas") and sampler not in ("ddim", "lcm"):
        low, high = (noises[0], noises[-1]) if sampler == "dpm++2m" else (chosen[-1], chosen[0])
        chosen = _karras(low, high, steps)
        times = np.interp(np.log(chosen), np.log(noises), np.arange(len(shares)))
        if sampler == "dpm++2m":
            times = times.round()
    last = noises[0] if sampler == "ddim" and not config.get("set_alpha_to_one", True) else 0.0
    return tuple(
        Level(t=float(time), noise=float(noise), signal=1.0, scale=1 / math.hypot(1.0, noise))
        for time, noise in zip((*times, 0.0), (*chosen, last), strict=True)
    )


def spread(levels: Levels, config: Mapping[str, Any], sampler: SamplerName) -> float:
    """What the initial noise of a diffusion run is multiplied by, so that the latent is as large as in training.

    Where the levels begin at the noisiest timestep, the latent is taken for noise alone; where they begin below it,
    for noise of the whole latent's variance.
    """
    first = levels[0]
    whole = sampler in ("ddim", "lcm", "dpm++2m") or config.get("timestep_spacing", "linspace") == "leading"
    return 1 / first.scale if whole else first.noise


def _signal_shares(config: Mapping[str, Any]) -> Numbers:
    """The share of the signal in the variance at each timestep of the training, falling, each above 0."""
    count = int(config.get("num_train_timesteps", 1000))
    start, end = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        betas = np.array(config["trained_betas"], np.float64)
    elif kind == "linear":
        betas = np.linspace(start, end, count)
    elif kind == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, count) ** 2
    elif kind == "squaredcos_cap_v2":
        bars = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = np.minimum(1 - bars[1:] / bars[:-1], 0.999)
    else:
        raise ValueError(f"the noise schedule {kind!r} is not known; linear, scaled_linear and squaredcos_cap_v2 are")
    shares = np.cumprod(1 - betas)
    if config.get("rescale_betas_zero_snr"):
        signals = shares**0.5
        signals = (signals - signals[-1]) * signals[0] / (signals[0] - signals[-1])
        shares = signals**2
        shares[-1] = 2.0**-24  # in place of 0, whose noise would be infinite
    return shares


def _timesteps(config: Mapping[str, Any], steps: int, sampler: SamplerName, count: int) -> Numbers:
    """Falling timesteps of the training, fractions among them, one a step."""
    if sampler == "lcm":
        coarse = int(config.get("original_inference_steps", 50))
        known = np.arange(1, coarse + 1) * (count // coarse) - 1
        if steps > coarse:
            raise ValueError(f"the sampler lcm takes at most {coarse} steps here, not {steps}")
        picks = np.floor(np.linspace(0, coarse, steps, endpoint=False)).astype(int)
        return np.array(known[::-1][picks], np.float64)
    default = "leading" if sampler == "ddim" else "linspace"
    spacing, offset = config.get("timestep_spacing", default), int(config.get("steps_offset", 0))
    inner = sampler == "dpm++2m"  # its first spacings count one step more, and leave out the last timestep
    if spacing == "trailing":
        falling: Numbers = np.arange(count, 0, -count / steps)[:steps]
        return falling.round() - 1
    if spacing == "leading":
        whole = steps + inner
        return (np.arange(whole) * (count // whole)).round()[::-1][:steps].astype(np.float64) + offset
    if spacing == "linspace":
        even = np.linspace(0, count - 1, steps + inner)[::-1][:steps]
        return even if sampler in ("euler", "heun", "multistep") else even.round()
    raise ValueError(f"the timestep spacing {spacing!r} is not known; leading, trailing and linspace are")


def _karras(low: float, high: float, steps: int) -> Numbers:
    """Noises from high to low, evenly spaced in their seventh root (Karras et al. 2022, equation 5)."""
    ramp = np.linspace(0, 1, steps)
    roots: Numbers = high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))
    return roots**7
