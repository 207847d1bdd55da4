"""`limner serve` with real weights, tiny ones of the test's own: several models in the memory of one."""

from __future__ import annotations

import base64
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import httpx2
import pytest
import transformers

from conftest import API, wait_for
from limner.backends import sources
from limner.config import Settings
from limner.engine.core import ENDINGS, Done, Event, Request
from limner.engine.engine import Engine
from limner.engine.pool import Pool
from limner.errors import ModelUnusable
from limner.models import entries, folder
from parity import clip_text_config, clip_tokenizer, seeded
from test_ip_adapter import save_adapter

ROOT = Path(__file__).parent.parent
LIMNER = str(Path(sys.executable).with_name("limner"))
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.upper().startswith("LIMNER_")}
PATIENCE = 200.0  # seconds before a test gives up on a process; nothing is measured by it


def stable_diffusion(path: Path, seed: int) -> None:
    """Stable Diffusion's shape with cells of 8 pixels and next to no channels, for pictures of true size."""
    pipe = diffusers.StableDiffusionPipeline(
        unet=seeded(
            lambda: diffusers.UNet2DConditionModel(
                block_out_channels=(8, 8), layers_per_block=1, sample_size=64, in_channels=4, out_channels=4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=4,
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32, attention_head_dim=4,
            ), seed,
        ),
        vae=seeded(
            lambda: diffusers.AutoencoderKL(
                block_out_channels=(4,) * 4, norm_num_groups=2, in_channels=3, out_channels=3, latent_channels=4,
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            ), seed,
        ),
        text_encoder=seeded(lambda: transformers.CLIPTextModel(clip_text_config()), seed).eval(),
        tokenizer=clip_tokenizer(path / "letters"),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders a and b, and c, which is cut short."""
    path = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate("ab"):
        stable_diffusion(path / name, seed)
    shutil.copytree(path / "a", path / "c")
    tensors = path / "c" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1000])
    folders = {"image-01": "a", "other": "b"}
    (path / "models.toml").write_text(
        "\n".join(
            f'[{name}]\nweights = "{path / kept}"\nruntime = "torch"\nprecision = "f32"\nsteps = 1\nguidance = 1.0'
            for name, kept in folders.items()
        )
    )
    return path


ENDLESS = """
import limner.pipelines.families
load = limner.pipelines.families.load
def again_and_again(*model):
    while True:
        load(*model)
limner.pipelines.families.load = again_and_again
from limner.cli.app import app
app(prog_name="limner")
"""
"""The command line, where a model is being loaded for as long as one likes."""


@contextmanager
def serving(
    weights: Path, cwd: Path, *options: str, program: tuple[str, ...] = (LIMNER,)
) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """A `limner serve` of its own process, one that says where it is; both of its streams are files in `cwd`."""
    environment = ENVIRONMENT | {"LIMNER_MODELS_FILE": str(weights / "models.toml"), "OMP_NUM_THREADS": "1"}
    with (cwd / "out").open("w+") as out, (cwd / "log").open("w") as log:
        command = [*program, "serve", "--port", "0", *options]
        running = subprocess.Popen(command, stdout=out, stderr=log, text=True, cwd=cwd, env=environment)
        try:
            address = re.compile(r"http://127\.0\.0\.1:\d+")
            wait_for(lambda: address.search((cwd / "out").read_text()) or running.poll() is not None)
            found = address.search((cwd / "out").read_text())
            assert found is not None, (cwd / "log").read_text()
            with httpx2.Client(base_url=found[0], timeout=PATIENCE, trust_env=False) as client:
                yield running, client
        finally:
            running.kill()
            running.wait()


def paint(client: httpx2.Client, model: str, **fields: Any) -> httpx2.Response:
    body = {"model": model, "prompt": "a red fox", "seed": 7, "steps": 2, "width": 512, "height": 512, "guidance": 3}
    return client.post("/v1/pictures", json=body | {"response_format": "base64", "format": "png"} | fields)


@pytest.mark.timeout(600)
def test_models_take_turns_in_memory_that_holds_one_and_a_broken_one_harms_nobody(
    weights: Path, tmp_path: Path
) -> None:
    one = 4 * folder.check(str(weights / "a")).parameters  # bytes in f32
    (tmp_path / "settings.toml").write_text(f"memory_gb = {1.5 * one / 1e9:.9f}\n")
    options = ("--config", "settings.toml", "--model", f"broken={weights / 'c'}")
    with serving(weights, tmp_path, *options) as (running, client):
        ready = client.get("/readyz")
        assert ready.json()["models"].keys() == {"image-01", "other", "broken"}
        pictures: dict[str, list[str]] = {"image-01": [], "other": []}
        for _ in range(2):
            for model, painted in pictures.items():
                reply = paint(client, model)
                assert reply.status_code == 200, reply.text
                painted.append(reply.json()["pictures"][0]["base64"])
                states = client.get("/readyz").json()["models"]
                assert [name for name, state in states.items() if state == "loaded"] == [model]
            refused = paint(client, "broken")
            assert refused.json()["base_resp"]["status_code"] == 1024
            told = refused.json()["base_resp"]["status_msg"]
            assert "limner models check" in told
            assert str(weights) not in told
            assert "safetensors" not in told
        assert client.get("/readyz").status_code == 200
        states = client.get("/readyz").json()["models"]
        assert states["broken"] == "failed: its weights cannot be used; the log says why"
        (first, first_again), (second, second_again) = pictures.values()
        assert first == first_again
        assert second == second_again
        assert first != second
        live = client.post(API, json={
            "model": "image-01-live", "prompt": "a red fox", "style": {"style_type": "漫画"}, "aspect_ratio": "1:1",
        }).json()  # fmt: skip
        assert live["base_resp"]["status_code"] == 0
        assert live["data"]["image_urls"]
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [
            "image-01", "image-01-live", "other", "broken",
        ]  # fmt: skip
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.timeout(600)
def test_the_service_answers_and_stops_while_a_model_is_loading(weights: Path, tmp_path: Path) -> None:
    with serving(weights, tmp_path, program=(sys.executable, "-c", ENDLESS)) as (running, client):
        wait_for(lambda: client.get("/readyz").json()["models"]["image-01"] == "loading 100%")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "loading")
        assert ready.json()["models"]["other"] == "not loaded"
        assert client.get("/healthz").status_code == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.timeout(600)
def test_a_service_whose_first_model_is_broken_does_not_start_and_says_why(weights: Path, tmp_path: Path) -> None:
    command = [LIMNER, "serve", "--port", "0", "--model", f"image-01={weights / 'c'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr.startswith("limner: ")
    assert "diffusion_pytorch_model.safetensors" in done.stderr
    assert done.stdout == ""


def test_an_evicted_model_leaves_no_network_in_memory(weights: Path, tmp_path: Path) -> None:
    one = 4 * folder.check(str(weights / "a")).parameters
    engine = Engine(pool(tmp_path, models_file=weights / "models.toml", memory_gb=1.5 * one / 1e9), 9)
    events: list[Event] = []
    for model in ("image-01", "other", "image-01"):
        events.clear()
        engine.submit([Request("x", "a red fox", 7, 64, 64, model=model)], events.append)
        wait_for(lambda: engine.step() or isinstance(events[-1], ENDINGS))
        assert isinstance(events[-1], Done)
        gc.collect()
        assert sum(type(item) is diffusers.UNet2DConditionModel for item in gc.get_objects()) == 1


# What the registry asks the engine to load


def pool(path: Path, only: str | None = None, **options: Any) -> Pool:
    settings = Settings(data_dir=path, **options)
    return sources.pool(settings, entries.load(settings), only)


def test_the_painter_is_loaded_at_once_and_others_when_they_are_needed(weights: Path, tmp_path: Path) -> None:
    made = pool(tmp_path, models={"big": str(weights / "a")})
    assert made.states == {"image-01": "loaded", "big": "not loaded"}
    assert made.ready
    others = {"image-01": str(weights / "a"), "image-01-live": "painter"}
    later = pool(tmp_path, models=others)
    assert later.states == {"image-01": "not loaded", "image-01-live": "not loaded"}
    assert not later.ready
    (load,) = [news.load for news in (later.turn(), later.turn()) if news.load]
    assert load.name == "image-01"
    assert pool(tmp_path, "image-01-live", models=others).states == {"image-01-live": "loaded"}


@pytest.mark.parametrize(
    ("table", "of_unet", "of_others"),
    [
        ('precision = "f32"', 4, 4),
        ('precision = "bf16"', 2, 2),
        ('precision = "f32"\nquantize = "int8"', 1, 4),
    ],
)
def test_a_model_is_as_large_as_the_weights_that_are_computed_with(
    weights: Path, tmp_path: Path, table: str, of_unet: int, of_others: int
) -> None:
    (tmp_path / "models.toml").write_text(f'[big]\nweights = "{weights / "a"}"\n{table}')
    parts = {part.name: part.parameters for part in folder.check(str(weights / "a")).parts}
    size = of_unet * parts["unet"] + of_others * (sum(parts.values()) - parts["unet"])
    pool(tmp_path, "big", memory_gb=(size + 0.5) / 1e9).check("big")
    with pytest.raises(ModelUnusable, match="raise memory_gb"):
        pool(tmp_path, "big", memory_gb=(size - 0.5) / 1e9).check("big")


def test_without_a_setting_models_may_take_most_of_the_free_memory(weights: Path, tmp_path: Path) -> None:
    budget = pool(tmp_path, "big", models={"big": str(weights / "a")}).budget["cpu"]
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**20 < budget < 0.8 * total


def test_weights_without_what_they_need_installed_are_refused_with_what_to_install(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "limner.runtime.torch", None)
    with pytest.raises(ModelUnusable, match=r"pip install 'limner\[torch\]'"):
        pool(tmp_path, "big", models={"big": str(weights / "a")})


def test_a_broken_model_beside_a_good_one_stops_the_start_only_where_it_is_the_first(
    weights: Path, tmp_path: Path
) -> None:
    models = {"image-01": str(weights / "a"), "broken": str(weights / "c")}
    assert pool(tmp_path, models=models).states["broken"] == "not loaded"
    for first in ({"only": "broken", "models": models}, {"models": {"image-01": str(weights / "c")}}):
        with pytest.raises(ModelUnusable, match=r"diffusion_pytorch_model\.safetensors"):
            pool(tmp_path, **first)


def test_the_guides_two_requests_are_painted_with_all_defaults_and_a_restart_converts_nothing(
    weights: Path, tmp_path: Path
) -> None:
    own = tmp_path / "turbo"
    shutil.copytree(weights / "a", own)
    save_adapter(own, "base")
    (own / "adapters" / "base").rename(own / "ip_adapter")
    (tmp_path / "models.toml").write_text("")
    girl = base64.b64encode((ROOT / "examples" / "girl.png").read_bytes()).decode()
    asked: list[dict[str, Any]] = [
        {"prompt": "A man in a white t-shirt stands on a sunny beach", "width": 512, "height": 512, "seed": 7},
        {
            "prompt": "A girl looking into the distance from a library window", "width": 512, "height": 512, "seed": 7,
            "subject_reference": [{"type": "character", "image_file": f"data:image/png;base64,{girl}"}],
        },
    ]  # fmt: skip
    painted = []
    for start in range(2):
        with serving(tmp_path, tmp_path, "--model", f"image-01={own}") as (_, client):
            wait_for(lambda client=client: client.get("/readyz").json()["status"] == "ready")
            replies = [
                client.post(API, json={"model": "image-01", "response_format": "base64", **fields}).json()
                for fields in asked
            ]
        assert [reply["base_resp"]["status_code"] for reply in replies] == [0, 0], replies
        painted.append([reply["data"]["image_base64"] for reply in replies])
        assert ("network converted" in (tmp_path / "log").read_text()) == (start == 0)
    assert painted[0] == painted[1]
    assert painted[0][0] != painted[0][1]
