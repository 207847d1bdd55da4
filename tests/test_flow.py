"""Levels of flow matching as diffusers' scheduler makes them of the same settings."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import numpy as np
import pytest

from limner.engine.core import SamplerName
from limner.errors import InvalidRequest, ModelUnusable
from limner.pipelines import flow


@pytest.mark.parametrize("steps", [1, 2, 7, 28])
@pytest.mark.parametrize("tokens", [1024, 4096, 16384])
@pytest.mark.parametrize(
    "config",
    [
        {"shift": 1.0},
        {"shift": 3.0},
        {"shift": 3.0, "use_dynamic_shifting": True},
        {"use_dynamic_shifting": True, "max_shift": 0.9, "max_image_seq_len": 8192, "shift_terminal": 0.02},
    ],
)
def test_levels_are_those_of_diffusers(config: dict[str, Any], tokens: int, steps: int) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**config)
    settings = flow.checked(scheduler.config)
    shift = flow.shift(settings, tokens)
    if steps == 1:  # whose only noise is 1, which diffusers cannot stretch: it divides by 0
        scheduler.register_to_config(shift_terminal=None)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=math.log(shift))
    levels = flow.run(settings, flow.even(steps), shift, "euler")
    assert [level.noise for level in levels] == pytest.approx(scheduler.sigmas.tolist(), abs=2e-6)
    assert levels[0].signal == 0
    assert levels[-1].noise == 0


@pytest.mark.parametrize("sampler", ["ddim", "lcm"])
def test_samplers_of_diffusion_are_refused(sampler: SamplerName) -> None:
    with pytest.raises(InvalidRequest, match=r"takes euler, heun, multistep, dpm\+\+2m"):
        flow.run({}, flow.even(4), 1.0, sampler)


@pytest.mark.parametrize("setting", [{"use_karras_sigmas": True}, {"time_shift_type": "linear"}])
def test_settings_that_would_have_no_effect_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ModelUnusable, match=next(iter(setting))):
        flow.checked(setting)
