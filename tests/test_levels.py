"""Our levels and samplers against diffusers' schedulers, with a denoiser in closed form in place of a network."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from limner.engine import levels, samplers
from limner.engine.core import Key, Level, PredictionName, SamplerName

# diffusers 0.42 hands tensors to numpy in a way that numpy 2.4 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SCHEDULERS: dict[SamplerName, type[Any]] = {
    "euler": diffusers.EulerDiscreteScheduler,
    "ddim": diffusers.DDIMScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler,
    "lcm": diffusers.LCMScheduler,
}
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CONFIGS: dict[str, dict[str, Any]] = {
    "as Stable Diffusion 1": STABLE_DIFFUSION | {"steps_offset": 1, "timestep_spacing": "leading"},
    "as its Turbo": STABLE_DIFFUSION | {"timestep_spacing": "trailing"},
    "evenly spaced": STABLE_DIFFUSION | {"timestep_spacing": "linspace"},
    "as published in 2020": {"timestep_spacing": "leading"},
}


def network(x: Any, t: float) -> Any:
    """Something that depends on both, smooth, and of about the size of noise."""
    return 0.8 * x + 0.2 * np.float32(np.sin(t / 300)) * x**2 / (1 + x**2)


def ours(levels: tuple[Level, ...], sampler: SamplerName, kind: PredictionName, x: Any, seed: int = 5) -> Any:
    state = samplers.begin(x, levels, seed)
    key = Key("test", x.shape, 1)
    while not state.finished:
        batch = samplers.batch(key, [], [state], [])
        clean = samplers.clean_from(kind, network(batch.x, state.t), batch)[0]
        state = samplers.SAMPLERS[sampler].advance(state, clean)
    return state.result


def theirs(scheduler: Any, x: Any, steps: int) -> Any:
    scheduler.set_timesteps(steps)
    latent = torch.from_numpy(x) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(latent, t)
        latent = scheduler.step(torch.from_numpy(network(seen.numpy(), float(t))), t, latent, return_dict=False)[0]
    return latent.numpy()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("sampler", "name"),
    # The DDIM of diffusers steps by a fixed number of timesteps, whatever the spacing: evenly spaced, its steps do not
    # meet, and ours do.
    [(sampler, name) for sampler in SCHEDULERS for name in CONFIGS if (sampler, name) != ("ddim", "evenly spaced")],
)
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_a_run_ends_where_that_of_diffusers_ends(
    sampler: SamplerName, name: str, kind: PredictionName, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIGS[name]
    seed, shape = 5, (4, 8, 8)
    draws = iter(range(1, steps))
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_lcm.randn_tensor",
        lambda *_, **__: torch.from_numpy(samplers.noise(seed, shape, draw=next(draws))),
    )
    scheduler = SCHEDULERS[sampler](**config, prediction_type=kind, **_plain(sampler))
    steps_levels = levels.diffusion(dict(scheduler.config), steps, sampler)
    noise = samplers.noise(seed, shape)
    spread = levels.spread(steps_levels, dict(scheduler.config), sampler)
    result = ours(steps_levels, sampler, kind, spread * noise, seed)
    expected = theirs(scheduler, noise, steps)
    assert np.abs(result - expected).max() < 2e-4 * np.abs(expected).max()


def _plain(sampler: SamplerName) -> dict[str, Any]:
    """Without the clipping that diffusers adds to these by default, for pixels."""
    return {"clip_sample": False} if sampler in ("ddim", "lcm") else {}


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm++2m"])
def test_levels_spaced_as_karras_proposed_are_those_of_diffusers(sampler: SamplerName) -> None:
    scheduler = SCHEDULERS[sampler](**STABLE_DIFFUSION, use_karras_sigmas=True)
    noise = samplers.noise(5, (4, 8, 8))
    config = dict(scheduler.config)
    chosen = levels.diffusion(config, 12, sampler)
    result = ours(chosen, sampler, "epsilon", levels.spread(chosen, config, sampler) * noise)
    expected = theirs(scheduler, noise, 12)
    assert np.abs(result - expected).max() < 2e-4 * np.abs(expected).max()


def test_a_schedule_of_noise_that_ends_in_noise_alone_is_that_of_diffusers() -> None:
    scheduler = diffusers.DDIMScheduler(
        **STABLE_DIFFUSION, rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False,
        prediction_type="v_prediction",
    )  # fmt: skip
    noise = samplers.noise(5, (4, 8, 8))
    chosen = levels.diffusion(dict(scheduler.config), 10, "ddim")
    result = ours(chosen, "ddim", "v_prediction", levels.spread(chosen, dict(scheduler.config), "ddim") * noise)
    assert result == pytest.approx(theirs(scheduler, noise, 10), abs=2e-3)


@pytest.mark.parametrize(("sampler", "kind"), [("euler", "FlowMatchEuler"), ("heun", "FlowMatchHeun")])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_ends_where_that_of_diffusers_ends(sampler: SamplerName, kind: str, shift: float) -> None:
    scheduler = getattr(diffusers, f"{kind}DiscreteScheduler")(shift=shift)
    noise = samplers.noise(5, (4, 8, 8))
    scheduler.set_timesteps(6)
    latent = torch.from_numpy(noise)
    for t in scheduler.timesteps:
        output = torch.from_numpy(network(latent.numpy(), 1 - float(t) / 1000))
        latent = scheduler.step(output, t, latent, return_dict=False)[0]
    noises = dict.fromkeys(float(sigma) for sigma in scheduler.sigmas)  # Heun's are listed twice
    result = ours(levels.flow([*noises]), sampler, "flow_prediction", noise)
    assert result == pytest.approx(latent.numpy(), abs=2e-4)


def test_the_shift_of_a_large_picture_is_that_of_flux() -> None:
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    config: dict[str, Any] = {"base_shift": 0.5, "max_shift": 1.15}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **config)
    for tokens in (256, 1024, 4096):
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 4, 4), mu=calculate_shift(tokens))
        bent = [levels.shifted(noise, levels.dynamic_shift(tokens, config)) for noise in (1, 0.75, 0.5, 0.25, 0)]
        assert bent == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("config", "steps", "sampler", "said"),
    [
        ({}, 0, "euler", "takes 1 to 1000 steps, not 0"),
        ({}, 1001, "euler", "takes 1 to 1000 steps, not 1001"),
        ({}, 51, "lcm", "at most 50 steps here, not 51"),
        ({"beta_schedule": "bent"}, 4, "euler", "noise schedule 'bent'"),
        ({"timestep_spacing": "odd"}, 4, "ddim", "timestep spacing 'odd'"),
    ],
)
def test_settings_that_are_not_known_are_refused(
    config: dict[str, Any], steps: int, sampler: SamplerName, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        levels.diffusion(config, steps, sampler)
