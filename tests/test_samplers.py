from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.engine import samplers
from limner.engine.core import Level, SamplerName
from limner.engine.levels import flow, schedule
from limner.engine.samplers import SAMPLERS

NAMES: list[SamplerName] = sorted(SAMPLERS)
Denoiser = Callable[[Any, float], Any]


def run(name: SamplerName, x: Any, levels: tuple[Level, ...], denoiser: Denoiser, seed: int = 0) -> tuple[Any, int]:
    """Sample alone: the result and how many evaluations it took."""
    state, evaluations = samplers.begin(x, levels, seed), 0
    while not state.finished:
        state = SAMPLERS[name].advance(state, denoiser(state.seen, state.t))
        evaluations += 1
    return state.result, evaluations


class Gaussian:
    """The exact denoiser of data ~ N(mean, deviation^2), and where its path takes a noise: both in closed form."""

    mean, deviation = 0.7, 0.9

    def __call__(self, x: Any, t: float) -> Any:
        gain = self.deviation**2 * t / (t**2 * self.deviation**2 + (1 - t) ** 2)
        return self.mean + gain * (x - t * self.mean)

    def end(self, noise: Any) -> Any:
        return self.mean + self.deviation * noise


def test_the_noise_of_a_seed_is_pinned() -> None:
    expected = {
        0: [0.059911035, 0.015559634, -1.1644385, -0.13264713],
        2**64 - 1: [-1.7444787, -0.48715827, 1.5449836, -0.9327644],
    }
    for seed, values in expected.items():
        drawn = samplers.noise(seed, (2, 2))
        assert drawn.dtype == np.float32
        assert drawn.ravel().tolist() == np.array(values, np.float32).tolist()


def test_noise_is_standard_normal_and_independent_between_neighbouring_seeds() -> None:
    first, second = samplers.noise(7, (40_000,)), samplers.noise(8, (40_000,))
    assert abs(first.mean()) < 0.02
    assert abs(first.std() - 1) < 0.02
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert not np.array_equal(first, second)


@given(steps=st.integers(1, 200), shift=st.floats(0.05, 20))
def test_a_schedule_grows_from_exactly_0_to_exactly_1(steps: int, shift: float) -> None:
    levels = schedule(steps, shift)
    times = [level.t for level in levels]
    assert len(times) == steps + 1
    assert (times[0], times[-1]) == (0.0, 1.0)
    assert all(level.noise + level.signal == pytest.approx(1) for level in levels)
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


def test_a_shift_bends_the_noise_level_as_published() -> None:
    plain, bent = ([level.t for level in schedule(10, shift)] for shift in (1.0, 3.0))
    assert plain == pytest.approx([i / 10 for i in range(11)])
    for t, s in zip(plain, bent, strict=True):
        assert 1 - s == pytest.approx(3 * (1 - t) / (1 + 2 * (1 - t)))


@pytest.mark.parametrize(("steps", "shift"), [(0, 1.0), (4, 0.0), (4, -1.0), (4, float("nan"))])
def test_a_schedule_without_steps_or_with_a_shift_not_above_0_is_refused(steps: int, shift: float) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        schedule(steps, shift)


def test_training_times_lie_inside_0_and_1_with_the_median_of_the_logistic() -> None:
    times = samplers.logit_normal(samplers.noise(1, (10_001,)), mean=-0.8, deviation=0.8)
    assert times.dtype == np.float32
    assert 0 < times.min() < times.max() < 1
    assert np.median(times) == pytest.approx(1 / (1 + np.exp(0.8)), abs=0.01)


def test_noising_and_velocity_take_a_time_for_each_row() -> None:
    clean, noise = samplers.noise(1, (3, 2, 4)), samplers.noise(2, (3, 2, 4))
    t = np.array([0.0, 0.3, 1.0], np.float32)
    x = samplers.noised(clean, noise, t)
    assert x.dtype == np.float32
    assert np.array_equal(x[0], noise[0])
    assert np.array_equal(x[2], clean[2])
    for row in range(3):
        assert np.array_equal(x[row], samplers.noised(clean[row], noise[row], t[row]))
    flow = samplers.velocity(clean, x, t)
    assert flow.dtype == np.float32
    assert flow[:2] == pytest.approx((clean - noise)[:2], abs=1e-5)


def test_velocity_stays_finite_near_the_end() -> None:
    x, clean = np.zeros(2, np.float32), np.ones(2, np.float32)
    assert samplers.velocity(clean, x, 1.0, floor=0.05) == pytest.approx([20, 20])
    assert samplers.velocity(clean, x, 0.96, floor=0.05) == pytest.approx([20, 20])
    assert samplers.velocity(clean, x, 0.9, floor=0.05) == pytest.approx([10, 10])


def test_guidance_goes_from_unconditional_through_conditional_and_beyond() -> None:
    conditional, unconditional = np.full((3, 2), 3.0), np.full((3, 2), 1.0)
    assert samplers.guided(conditional, unconditional, np.array([0.0, 1.0, 2.0]))[:, 0].tolist() == [1, 3, 5]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_constant_prediction_is_reached_exactly(name: SamplerName, steps: int) -> None:
    clean = samplers.noise(5, (3, 4, 4))
    x, evaluations = run(name, samplers.noise(6, (3, 4, 4)), schedule(steps, 1.7), lambda *_: clean)
    assert x.dtype == np.float32
    assert np.array_equal(x, clean)
    assert evaluations == SAMPLERS[name].evaluations(schedule(steps))


def test_the_multistep_sampler_is_exact_for_a_prediction_linear_in_time() -> None:
    def denoiser(x: Any, t: float) -> Any:
        return 0.3 + 2.0 * t + 0 * x

    def solution(t: float, t0: float, x0: float) -> float:
        """Of dx/dt = (0.3 + 2 t - x) / (1 - t), by Runge and Kutta's method in small steps."""
        x, h = x0, (t - t0) / 2000
        for i in range(2000):
            u = t0 + i * h
            k1 = (denoiser(x, u) - x) / (1 - u)
            k2 = (denoiser(x + h / 2 * k1, u + h / 2) - (x + h / 2 * k1)) / (1 - u - h / 2)
            k3 = (denoiser(x + h / 2 * k2, u + h / 2) - (x + h / 2 * k2)) / (1 - u - h / 2)
            k4 = (denoiser(x + h * k3, u + h) - (x + h * k3)) / (1 - u - h)
            x += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return x

    times = (0.0, 0.2, 0.45, 0.8, 1.0)
    state = samplers.begin(np.array([1.5]), flow([1 - t for t in times]))
    for t, s in itertools.pairwise(times[:-1]):
        before = state
        state = samplers.multistep(state, denoiser(state.x, state.t))
        if before.step:  # the first has no past
            assert state.x[0] == pytest.approx(solution(s, t, before.x[0]), abs=1e-9)


def test_heuns_sampler_is_exact_for_a_slope_linear_in_the_noise() -> None:
    state = samplers.begin(np.array([1.5]), flow([1.0, 0.7, 0.2, 0.0]))
    while state.step < 2:
        noise = state.level.noise
        state = samplers.heun(state, state.x - noise * (0.3 + 2.0 * noise))
    assert state.x[0] == pytest.approx(1.5 - 0.3 * 0.8 - (1 - 0.2**2), abs=1e-12)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("multistep", 2), ("dpm++2m", 2)])
def test_the_order_of_convergence_is_as_stated(name: SamplerName, order: int) -> None:
    gaussian, noise = Gaussian(), samplers.noise(3, (64,)).astype(np.float64)
    errors = [
        np.abs(run(name, noise, schedule(steps), gaussian)[0] - gaussian.end(noise)).max() for steps in (64, 128, 256)
    ]
    measured = np.log2(np.array(errors[:-1]) / errors[1:])
    assert measured == pytest.approx(order, abs=0.25)


def test_the_second_order_samplers_beat_euler_at_equal_evaluations() -> None:
    gaussian, noise = Gaussian(), samplers.noise(3, (64,)).astype(np.float64)

    def error(name: SamplerName, steps: int) -> float:
        return float(np.abs(run(name, noise, schedule(steps), gaussian)[0] - gaussian.end(noise)).max())

    assert error("multistep", 8) < error("euler", 8) / 4
    assert error("heun", 8) < error("euler", 15)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 6), st.integers(0, 99)), min_size=2, max_size=5))
def test_requests_evaluated_together_at_their_own_times_come_out_as_alone(
    runs: list[tuple[SamplerName, int, int]],
) -> None:
    def denoiser(x: Any, t: Any) -> Any:
        t = np.asarray(t, np.float32).reshape(-1, 1)
        return x / (1 + abs(x)) + t

    states = [samplers.begin(samplers.noise(seed, (5,)), schedule(steps), seed) for _, steps, seed in runs]
    while unfinished := [i for i, state in enumerate(states) if not state.finished]:
        x = np.stack([states[i].x for i in unfinished])
        predictions = denoiser(x, [states[i].t for i in unfinished])
        for i, prediction in zip(unfinished, predictions, strict=True):
            states[i] = SAMPLERS[runs[i][0]].advance(states[i], prediction)
    for (name, steps, seed), state in zip(runs, states, strict=True):
        alone, _ = run(name, samplers.noise(seed, (5,)), schedule(steps), lambda x, t: denoiser(x[None], t)[0], seed)
        assert np.array_equal(state.x, alone)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "lcm"])  # which draws, for numpy alone
def test_torch_and_numpy_agree(name: SamplerName) -> None:
    gaussian, noise = Gaussian(), samplers.noise(3, (2, 3, 4))
    ours, _ = run(name, noise, schedule(6, 2.0), gaussian)
    theirs, _ = run(name, torch.from_numpy(noise), schedule(6, 2.0), gaussian)
    assert theirs.dtype == torch.float32
    assert theirs.numpy() == pytest.approx(ours, abs=1e-6)


def test_torch_and_numpy_agree_in_what_training_uses() -> None:
    clean, noise, draws = samplers.noise(1, (4, 2, 3)), samplers.noise(2, (4, 2, 3)), samplers.noise(3, (4,))

    def everything(clean: Any, noise: Any, draws: Any) -> list[Any]:
        t = samplers.logit_normal(draws)
        x = samplers.noised(clean, noise, t)
        flow = samplers.velocity(clean, x, t)
        return [t, x, flow, samplers.guided(x, flow, t), samplers.toward(x, clean, 1 - t, (1 - t) / 2)]

    ours = everything(clean, noise, draws)
    theirs = everything(*(torch.from_numpy(array) for array in (clean, noise, draws)))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == np.float32
        assert other.dtype == torch.float32
        assert other.numpy() == pytest.approx(mine, abs=1e-5)


def test_float64_settings_do_not_widen_float32_latents() -> None:
    x = samplers.noise(1, (3, 2))
    assert samplers.guided(x, x, np.float64(4.5)).dtype == np.float32
    assert samplers.toward(x, x, np.float64(0.9), np.float64(0.4)).dtype == np.float32
    assert {type(level.noise) for level in schedule(3, np.float64(3))} == {float}


def test_the_engine_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, limner.backends.local, limner.backends.base, limner.engine.samplers\n"
        "print(sorted({'torch', 'ray', 'openvino', 'fastapi'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
