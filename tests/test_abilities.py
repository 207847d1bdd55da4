"""What is said of a model before it is loaded, against what it does once it is; and how the list of models says it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import test_flux
import test_flux2
import test_qwen_image
import test_stable_diffusion_3
import test_z_image
from conftest import Server
from limner.engine.core import Encoded, Request
from limner.errors import InvalidRequest
from limner.models.abilities import ALL_SAMPLERS, ANY, FAMILIES, THE_PAINTER, Abilities, abilities
from limner.models.folder import inspect
from limner.models.registry import PAINTER, Model
from limner.painter.planner import MOST_REFERENCES
from limner.pipelines.base import Pipeline, Previewing, denoised
from limner.pipelines.painter import STEPS, PainterPipeline
from limner.pipelines.parts import Parts
from parity import stable_diffusion_folder, stable_diffusion_xl_folder

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

Serve = Callable[..., Server]
WRITERS: dict[str, Callable[[Path], None]] = {
    "stable-diffusion": stable_diffusion_folder,
    "stable-diffusion turbo": lambda path: stable_diffusion_folder(path, timestep_spacing="trailing"),
    "stable-diffusion-xl": stable_diffusion_xl_folder,
    "stable-diffusion-3": test_stable_diffusion_3.folder_of,
    "stable-diffusion-3 large": lambda path: test_stable_diffusion_3.folder_of(path, qk_norm="rms_norm"),
    "flux schnell": test_flux.schnell,
    "flux dev": test_flux.dev,
    "flux Kontext": test_flux.kontext,
    "flux-2 dev": test_flux2.dev,
    "flux-2 klein": test_flux2.klein,
    "flux-2 base": test_flux2.base,
    "qwen-image": test_qwen_image.plain,
    "qwen-image edit": lambda path: test_qwen_image.folder_of("QwenImageEditPipeline", path),
    "z-image turbo": test_z_image.turbo,
    "z-image": test_z_image.plain,
}


def picture(side: int = 64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    y, x = np.mgrid[0:side, 0:side].astype(np.uint8)
    return np.stack([3 * x, 3 * y, x + y, np.full_like(x, 255)], -1)


def loaded(folder: Path, model: Model) -> Pipeline:
    family = inspect(folder).family
    pipeline: Pipeline = getattr(import_module(family.module), family.kind)(Parts(folder, device="cpu"), model)
    return pipeline


def encoded(pipeline: Pipeline, **fields: Any) -> Encoded | None:
    """What a request becomes; None where it is refused."""
    try:
        return pipeline.encode(Request("a", "a fox", 7, 64, 64, **fields))
    except InvalidRequest:
        return None


def latent(pipeline: Pipeline, **fields: Any) -> bytes:
    request = Request("a", "a fox", 7, 64, 64, **fields)
    return denoised(pipeline, request, pipeline.encode(request)).tobytes()


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_said_of_weights_is_what_their_pipeline_does(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    WRITERS[name](folder)
    model = Model("tiny", str(folder))
    said, pipeline = abilities(model), loaded(folder, model)
    assert said.steps is not None

    plain = latent(pipeline, steps=2)
    default = encoded(pipeline)
    assert default is not None
    assert len(default.levels) - 1 == said.steps
    if said.guidance is None:
        assert encoded(pipeline, guidance=4.0) is None
    else:
        assert latent(pipeline, steps=2, guidance=said.guidance) == plain
        assert latent(pipeline, steps=2, guidance=said.guidance + 3) != plain

    assert {sampler for sampler in ALL_SAMPLERS if encoded(pipeline, sampler=sampler)} == set(said.samplers)
    guided: dict[str, Any] = {} if said.guidance is None else {"guidance": 3.0}
    led = encoded(pipeline, negative_prompt="rain", **guided)
    assert said.negative_prompt == (led is not None and not any("no effect" in note for note in led.notes))
    assert said.references in (0, 1, ANY)
    for count in (1, 2):
        taken = encoded(pipeline, references=(picture(),) * count)
        assert (taken is not None) == (count <= said.references), count
    masked = encoded(pipeline, references=(picture(),), mask=np.full((64, 64), 255, np.uint8))
    assert said.mask == (masked is not None and masked.held is not None)
    assert said.previews == isinstance(pipeline, Previewing)
    assert said.strength == (encoded(pipeline, strength=0.5) is not None)
    assert said.scene == (encoded(pipeline, scene={}) is not None)


def test_every_family_is_described_and_tried() -> None:
    assert {name.split()[0] for name in WRITERS} == set(FAMILIES)


def test_what_is_said_of_the_painter_is_what_it_does() -> None:
    assert abilities(Model("image-01", PAINTER)) == THE_PAINTER
    assert (THE_PAINTER.references, THE_PAINTER.steps) == (MOST_REFERENCES, STEPS)
    assert issubclass(PainterPipeline, Previewing)
    pipeline = PainterPipeline.load()
    default = pipeline.encode(Request("a", "a fox", 7, 512, 512))
    assert (len(default.levels) - 1, default.guidance, default.held) == (THE_PAINTER.steps, THE_PAINTER.guidance, None)
    for sampler in THE_PAINTER.samplers:
        request = Request("a", "a fox", 7, 512, 512, sampler=sampler)
        assert np.isfinite(denoised(pipeline, request, pipeline.encode(request))).all()
    for style in THE_PAINTER.styles:
        pipeline.encode(Request("a", "a fox", 7, 512, 512, style=style))
    with pytest.raises(InvalidRequest):
        pipeline.encode(Request("a", "a fox", 7, 512, 512, negative_prompt="rain"))
    hidden = {"references": (picture(512),), "mask": np.full((512, 512), 255, np.uint8)}
    assert THE_PAINTER.mask == (pipeline.encode(Request("a", "a fox", 7, 512, 512, **hidden)).held is not None)


def test_the_entry_goes_before_the_family_and_stands_alone_where_weights_are_missing(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    entry = Model("tiny", str(folder), steps=9, guidance=2.0)
    assert abilities(entry) == Abilities(steps=9, styles=entry.style_names)
    stable_diffusion_folder(folder)
    said = abilities(entry)  # what was missing is looked for again
    assert (said.steps, said.guidance, said.mask) == (9, 2.0, True)
    assert abilities(Model("tiny", str(folder), adapter="x.safetensors")).references == ANY


@pytest.mark.parametrize("damage", ["{", "[]", '{"shift": "much"}'])
def test_settings_that_cannot_be_read_are_as_good_as_none(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    test_z_image.turbo(folder)
    (folder / "scheduler" / "scheduler_config.json").write_text(damage)
    assert abilities(Model("tiny", str(folder))).steps is None


def test_the_list_of_models_says_what_each_can(serve: Serve, tmp_path: Path) -> None:
    server = serve(models={"own": str(tmp_path / "missing")}, reference_max_count=3, max_prompt_chars=700)
    listed = {model["id"]: model["limner"] for model in server.client.get("/v1/models").json()["data"]}
    assert listed.keys() == {"image-01", "image-01-live", "own"}
    for name, said in listed.items():
        assert server.client.get(f"/v1/models/{name}").json()["limner"] == said
        assert (said["prompt_chars"], said["reference_bytes"]) == (700, 10**7)
    painter = listed["image-01"]
    assert (painter["references"], painter["steps"], painter["scene"], painter["live_styles"]) == (3, 2, True, [])
    assert "storybook" in painter["styles"]
    assert listed["image-01-live"]["live_styles"] == ["漫画", "元气", "中世纪", "水彩"]
    own = listed["own"]
    assert (own["references"], own["steps"], own["guidance"], own["samplers"]) == (0, None, None, [])
    assert own["styles"] == ["comic", "vivid", "medieval", "watercolor"]
