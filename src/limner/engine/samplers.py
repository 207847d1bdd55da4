"""The arithmetic of denoising: prior, noising, time, guidance and the samplers, for training and inference alike.

Everything here but `noise` uses operators and broadcasting alone, so an `Array` is a numpy array or a torch tensor and
this module imports neither's mathematics. For training, a latent at time t is `x_t = t * clean + (1 - t) * noise`:
t = 1 is clean.

The networks predict the clean latent D at a `Level`. In its coordinates (core.Level), of flow matching and of diffusion
alike, the path obeys dx/dn = (x - D) / n, where n is the noise. Since d/du [x / u] = -D / u^2, a step from n to m is
exactly, with r = m / n,

    x_m = r * x_n + (1 - r) * D                               where D stays as it is,
    x_m = r * x_n + (1 - r) * D + ((m - n) - m * ln r) * k    where D(u) = D + (u - n) * k is linear in the noise.

The samplers are the first formula and differ in the D that they put into it, which may come from several predictions.
These are exponential integrators (Hochbruck and Ostermann, "Exponential integrators", 2010). The last step of each
takes the network's prediction as it is, and thus never ends on an extrapolation of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from limner.engine.core import Batch, Float32, GuidanceName, Held, Key, Level, PredictionName, Request, SamplerName

Array: TypeAlias = Any  # a numpy array or a torch tensor; results are of the kind that came in
Times: TypeAlias = Any  # a float, or an Array of shape (B,) with one time for each row


def noise(seed: int, shape: tuple[int, ...], draw: int = 0) -> Float32:
    """Draw standard normal float32 of this shape: the prior of one picture, and with `draw` what a sampler adds later.

    The seed, in [0, 2**64), is the key of the counter-based Philox generator, so that neighbouring seeds give
    independent streams (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), and `draw`, in
    [0, 2**64), the highest word of its counter. Drawn on the CPU whatever device evaluates the network.
    """
    generator = np.random.Generator(np.random.Philox(key=seed, counter=draw << 192))
    return generator.standard_normal(shape, dtype=np.float32)


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


def guided_keeping_norm(conditional: Array, unconditional: Array, guidance: float, x: Array, noise: float) -> Array:
    """Guidance of the velocity, each of whose tokens keeps the length that it has without (Qwen-Image, 2025).

    Takes and returns predictions of the clean latent at `x`, a state with this much noise; tokens lie along the last
    axis, shape (..., N, C).
    """
    along = (x - conditional) / noise
    beyond = guided(along, (x - unconditional) / noise, guidance)
    lengths = [(direction * direction).sum(-1) ** 0.5 for direction in (along, beyond)]
    kept = lengths[0] / (lengths[1] + 1e-12)
    return x - noise * beyond * kept.reshape((*kept.shape, 1))


def clean_from(kind: PredictionName, output: Array, batch: Batch) -> Array:
    """The clean latents, (B, ...), that a network's output of this kind means at the batch's x.

    `epsilon` is the noise in x; `v_prediction` is signal * eps - noise * clean, where the squares of signal and noise
    add up to 1 (Salimans and Ho 2022, arXiv:2202.00512); `flow_prediction` is eps - clean, where they do themselves.
    """
    x = batch.x
    signal, noise = _per_row(batch.signal, x), _per_row(batch.noise, x)
    match kind:
        case "clean":
            return output
        case "epsilon":
            return (x - noise * output) / signal
        case "v_prediction":
            return signal * x - noise * output
        case "flow_prediction":
            return x - noise * output


def toward(x: Array, clean: Array, noise: Times, less: Times) -> Array:
    """Go from x with so much noise to less of it, on the straight line to `clean`, which is reached at 0.

    Each is a float or one for each row.
    """
    kept = _per_row(less, x) / _per_row(noise, x)
    return kept * x + (1 - kept) * clean


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where one request stands: the network is to be evaluated at `level` next; when finished, `result` is the picture.

    Made by `begin`, moved on by a `Sampler`, one evaluation at a time. It carries the sampler's memory, so requests can
    be interleaved and batched in any way.
    """

    levels: tuple[Level, ...]
    x: Array  # in the coordinates of `level`
    level: Level
    step: int = 0  # steps finished
    history: tuple[Array, ...] = ()
    seed: int = 0  # of what the sampler draws on the way

    @property
    def t(self) -> float:
        return self.level.t

    @property
    def seen(self) -> Array:
        """What the network is shown."""
        return self.x if self.level.scale == 1 else self.level.scale * self.x

    @property
    def finished(self) -> bool:
        return self.step == len(self.levels) - 1

    @property
    def result(self) -> Array:
        """The clean latent, once finished."""
        return self.seen


def begin(x: Array, levels: tuple[Level, ...], seed: int = 0, held: Held | None = None) -> State:
    """The state before the first evaluation: `x` is noise, in the coordinates of the first of the `levels`.

    What is known shows in it as much as that level lets it.
    """
    if held is not None:
        x = x + levels[0].signal * held.share * held.clean
    return State(levels, x, levels[0], seed=seed)


def combined(kind: GuidanceName, conditional: Array, unconditional: Array, guidance: float, state: State) -> Array:
    """The prediction at `state` that guidance of this kind makes of two."""
    match kind:
        case "plain":
            return guided(conditional, unconditional, guidance)
        case "norm-kept":
            return guided_keeping_norm(conditional, unconditional, guidance, state.x, state.level.noise)


def holding(prediction: Array, held: Held | None) -> Array:
    """The prediction with what is known in its place.

    Every sampler goes toward what it is told, so that a part which is always told the same is reached exactly: its
    path is the noising of the known picture by the request's own noise, and the free part is painted beside it.
    """
    return prediction if held is None else held.share * held.clean + (1 - held.share) * prediction


def batch(key: Key, requests: Sequence[Request], states: Sequence[State], conditioning: Sequence[Any]) -> Batch:
    """One evaluation for these rows, of numpy states."""
    levels = [state.level for state in states]
    return Batch(
        key=key,
        requests=tuple(requests),
        x=np.stack([state.seen for state in states]),
        t=np.array([level.t for level in levels], np.float32),
        signal=np.array([level.scale * level.signal for level in levels], np.float32),
        noise=np.array([level.scale * level.noise for level in levels], np.float32),
        conditioning=tuple(conditioning),
    )


def euler(state: State, prediction: Array) -> State:
    """First order: D stays as it is. One evaluation a step.

    With diffusion levels this is DDIM without noise (Song et al. 2020, arXiv:2010.02502); what is called Euler and what
    is called DDIM there differ in their levels alone.
    """
    after = state.levels[state.step + 1]
    x = toward(state.x, prediction, state.level.noise, after.noise)
    return replace(state, x=x, level=after, step=state.step + 1)


def heun(state: State, prediction: Array) -> State:
    """Second order: the mean of the slopes dx/dn before and after a trial step. Two evaluations a step.

    One for the last step, whose end has no slope. Karras et al. 2022, arXiv:2206.00364, algorithm 1 without its noise.
    """
    before, after = state.levels[state.step : state.step + 2]
    if state.history:
        x, slope = state.history
        there = (state.x - prediction) * (1 / after.noise)
        moved = x + (after.noise - before.noise) / 2 * (slope + there)
        return replace(state, x=moved, step=state.step + 1, history=())
    trial = euler(state, prediction)
    if after.noise == 0:
        return trial
    slope = (state.x - prediction) * (1 / before.noise)
    return replace(trial, step=state.step, history=(state.x, slope))


def multistep(state: State, prediction: Array) -> State:
    """Second order: D is linear in the noise, through the previous step's prediction. One evaluation a step.

    An exponential Adams-Bashforth method; the first step, which has no past, is Euler's.
    """
    after = euler(state, prediction)
    if state.history and not after.finished:
        (previous,) = state.history
        n, m = state.level.noise, after.level.noise
        slope = (prediction - previous) * (1 / (n - state.levels[state.step - 1].noise))
        after = replace(after, x=after.x + ((m - n) - m * math.log(m / n)) * slope)
    return replace(after, history=(prediction,))


def dpm_2m(state: State, prediction: Array) -> State:
    """Second order: D halfway through the step, linear in ln(signal / noise). One evaluation a step.

    DPM-Solver++(2M), Lu et al. 2022, arXiv:2211.01095.
    """
    clean = prediction
    if state.history and state.step + 1 < len(state.levels) - 1:
        (previous,) = state.history
        past, now, then = (_log_snr(level) for level in state.levels[state.step - 1 : state.step + 2])
        clean = prediction + (then - now) / (2 * (now - past)) * (prediction - previous)
    return replace(euler(state, clean), history=(prediction,))


def lcm(state: State, prediction: Array) -> State:
    """Consistency sampling: jump to the prediction and add fresh noise. One evaluation a step; numpy states alone.

    Luo et al. 2023, arXiv:2310.04378; the share of x in their consistency function is below 1e-5 at every level that
    is evaluated, and left out.
    """
    after = euler(state, prediction)
    if after.finished:
        return after
    fresh = noise(state.seed, state.x.shape, draw=after.step)
    return replace(after, x=after.level.signal * prediction + after.level.noise * fresh)


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way to integrate: `advance(state, prediction at state.level)` is the next state."""

    advance: Callable[[State, Array], State]
    evaluations: Callable[[tuple[Level, ...]], int]  # of the network, for a run through these levels


def _one_a_step(levels: tuple[Level, ...]) -> int:
    return len(levels) - 1


SAMPLERS: dict[SamplerName, Sampler] = {
    "euler": Sampler(euler, _one_a_step),
    "ddim": Sampler(euler, _one_a_step),
    "heun": Sampler(heun, lambda levels: 2 * (len(levels) - 1) - (levels[-1].noise == 0)),
    "dpm++2m": Sampler(dpm_2m, _one_a_step),
    "multistep": Sampler(multistep, _one_a_step),
    "lcm": Sampler(lcm, _one_a_step),
}


def _log_snr(level: Level) -> float:
    return math.log(level.signal / level.noise) if level.signal else -math.inf


def _per_row(values: Times, like: Array) -> Any:
    """Shape (B,) values so that they broadcast against (B, ...); floats pass."""
    if isinstance(values, (int, float)):
        return float(values)  # numpy's float64 is a float that would widen float32
    return values.reshape((*values.shape, *(1,) * (like.ndim - values.ndim)))
