"""The arithmetic of flow matching: prior, noising, time, guidance and the samplers, for training and inference alike.

Everything here but `noise` uses operators and broadcasting alone, so an `Array` is a numpy array or a torch tensor and
this module imports neither's mathematics. A latent at time t is `x_t = t * clean + (1 - t) * noise`: t = 1 is clean.

The networks predict the clean latent D(x, t). The path then obeys dx/dt = (D - x) / (1 - t), and since
d/du [x / (1 - u)] = D / (1 - u)^2, a step from t to s with D linear in time, D(u) = D + (u - t) * slope, is exactly

    x_s = r * x_t + (1 - r) * D + ((s - t) + (1 - s) * ln r) * slope,    r = (1 - s) / (1 - t).

The three samplers are this one formula and differ in where the slope comes from. It is an exponential integrator
(Hochbruck and Ostermann, "Exponential integrators", 2010; the idea of DPM-Solver++, Lu et al. 2022, arXiv:2211.01095),
in t and not in log-SNR, so that nothing is singular at pure noise. The last step of each takes slope 0 and thus ends on
a prediction of the network, never on an extrapolation of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from limner.engine.core import Float32, SamplerName

Array: TypeAlias = Any  # a numpy array or a torch tensor; results are of the kind that came in
Times: TypeAlias = Any  # a float, or an Array of shape (B,) with one time for each row


def noise(seed: int, shape: tuple[int, ...]) -> Float32:
    """Draw the prior of one picture: standard normal float32 of this shape.

    The seed, in [0, 2**64), is the key of the counter-based Philox generator, so that neighbouring seeds give
    independent streams (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). Drawn on the CPU whatever
    device evaluates the network.
    """
    return np.random.Generator(np.random.Philox(key=seed)).standard_normal(shape, dtype=np.float32)


def schedule(steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """The times of a run: `steps` + 1 strictly growing floats, from exactly 0 to exactly 1.

    The noise level 1 - t is evenly spaced, then bent by `shift`: 1 leaves it, more than 1 spends more steps in noise,
    as large pictures need (Esser et al. 2024, arXiv:2403.03206, equation 23).

    Raises:
        ValueError: `steps` is below 1 or `shift` is not above 0.
    """
    if steps < 1 or not shift > 0:
        raise ValueError(f"a schedule needs at least one step and a shift above 0, not {steps} and {shift}")
    levels = ((steps - i) / steps for i in range(steps + 1))
    return tuple(float((1 - level) / (1 + (shift - 1) * level)) for level in levels)


def logit_normal(normal: Array, mean: float = -0.8, deviation: float = 0.8) -> Array:
    """Times to train at, in (0, 1), from standard normal draws of any shape.

    The defaults favour noisy times (Li and He, "Back to Basics: Let Denoising Generative Models Denoise", 2025).
    """
    return 1 / (1 + math.e ** (-(mean + deviation * normal)))


def noised(clean: Array, noise: Array, t: Times) -> Array:
    """The latent at time t, of the shape of `clean`: (B, ...) with t of shape (B,), or any shape with a float."""
    t = _per_row(t, clean)
    return t * clean + (1 - t) * noise


def velocity(clean: Array, x: Array, t: Times, floor: float = 0.05) -> Array:
    """dx/dt at `x` if its clean latent is `clean`; for `noised` latents it is clean - noise.

    1 - t is held above `floor`, so that a loss on it stays finite as t nears 1.
    """
    remaining = 1 - _per_row(t, x)
    held = (remaining + floor + abs(remaining - floor)) / 2  # the greater of the two, by operators alone
    return (clean - x) / held


def guided(conditional: Array, unconditional: Array, guidance: Times) -> Array:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598): 1 gives `conditional`, more goes beyond it."""
    return unconditional + _per_row(guidance, conditional) * (conditional - unconditional)


def toward(x: Array, clean: Array, t: Times, s: Times) -> Array:
    """Go from x at t to time s, t < s <= 1, on the straight line to `clean`, which is reached at s = 1."""
    t, s = _per_row(t, x), _per_row(s, x)
    kept = (1 - s) / (1 - t)
    return kept * x + (1 - kept) * clean


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where one request stands: the network is to be evaluated at (x, t) next; at t = 1, x is the result.

    Made by `begin`, moved on by a `Sampler`, one evaluation at a time. It carries the sampler's memory, so requests can
    be interleaved and batched in any way.
    """

    times: tuple[float, ...]
    x: Array
    t: float
    step: int = 0  # steps finished
    history: tuple[Array, ...] = ()

    @property
    def finished(self) -> bool:
        return self.step == len(self.times) - 1


def begin(x: Array, times: tuple[float, ...]) -> State:
    """The state before the first evaluation: `x` is noise, `times` come from `schedule`."""
    return State(times, x, times[0])


def euler(state: State, prediction: Array) -> State:
    """First order: the slope is taken for 0. One evaluation a step."""
    s = state.times[state.step + 1]
    return replace(state, x=toward(state.x, prediction, state.t, s), t=s, step=state.step + 1)


def heun(state: State, prediction: Array) -> State:
    """Second order: the slope comes from a trial step. Two evaluations a step, one for the last."""
    t, s = state.times[state.step : state.step + 2]
    if state.history:
        x, first = state.history
        moved = toward(x, first, t, s) + _ramp(t, s) / (s - t) * (prediction - first)
        return replace(state, x=moved, step=state.step + 1, history=())
    after = euler(state, prediction)
    return after if after.finished else replace(after, step=state.step, history=(state.x, prediction))


def multistep(state: State, prediction: Array) -> State:
    """Second order: the slope comes from the previous step's prediction. One evaluation a step.

    An exponential Adams-Bashforth method; the first step, which has no past, is Euler's.
    """
    after = euler(state, prediction)
    if state.history and not after.finished:
        (previous,) = state.history
        slope = (prediction - previous) * (1 / (state.t - state.times[state.step - 1]))
        after = replace(after, x=after.x + _ramp(state.t, after.t) * slope)
    return replace(after, history=(prediction,))


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way to integrate: `advance(state, prediction at (state.x, state.t))` is the next state."""

    advance: Callable[[State, Array], State]
    evaluations: Callable[[int], int]  # of the network, for this many steps


SAMPLERS: dict[SamplerName, Sampler] = {
    "euler": Sampler(euler, lambda steps: steps),
    "heun": Sampler(heun, lambda steps: 2 * steps - 1),
    "multistep": Sampler(multistep, lambda steps: steps),
}


def _ramp(t: float, s: float) -> float:
    """The weight of the slope in a step from t to s < 1."""
    return (s - t) + (1 - s) * math.log((1 - s) / (1 - t))


def _per_row(values: Times, like: Array) -> Any:
    """Shape (B,) values so that they broadcast against (B, ...); floats pass."""
    if isinstance(values, (int, float)):
        return float(values)  # numpy's float64 is a float that would widen float32
    return values.reshape((*values.shape, *(1,) * (like.ndim - values.ndim)))
