from __future__ import annotations

import io
import json
import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import structlog
from PIL import Image
from typer.testing import CliRunner, Result

from command_line import ENVIRONMENT, Recorder, no_settings, paint_with, process
from limner.cli.app import app
from limner.config import load
from limner.engine.core import Encoded, Request
from limner.logs import configure


class OddFails(Recorder):
    """Fails at odd seeds where the prompt asks for it."""

    def encode(self, request: Request) -> Encoded:
        encoded = super().encode(request)
        if "odd fails" in request.prompt and request.seed % 2:
            raise ArithmeticError
        return encoded


@pytest.fixture(autouse=True)
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Recorder]:
    """Every command paints with this pipeline, in an empty folder, with no settings but the defaults."""
    no_settings(monkeypatch, tmp_path)
    recorder = OddFails()
    paint_with(recorder, monkeypatch)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield recorder
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def limner(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def plain(text: str) -> str:
    """Without the boxes and line breaks that a terminal's width puts into a message."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", text)


# Start


def test_help_needs_nothing_that_is_slow_to_import() -> None:
    script = (
        "import sys, runpy\nsys.argv = ['limner', '--help']\n"
        "try:\n    from limner.cli.app import app; app()\nexcept SystemExit: pass\n"
        "slow = {'openvino', 'numpy', 'fastapi', 'pydantic', 'PIL', 'skia', 'uvicorn', 'structlog', 'httpx2'}\n"
        "print('slow:', sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert "generate" in done.stdout
    assert "slow: []" in done.stdout


def test_the_installed_command_says_what_it_can_do() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("limner"), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    for name in ("serve", "generate", "models"):
        assert name in done.stdout


# generate


def test_generate_writes_the_picture_and_prints_path_size_seed_and_seconds(tmp_path: Path) -> None:
    result = limner("generate", "a red fox", "-o", "fox.jpg", "--ratio", "21:9", "--seed", "7")
    assert result.exit_code == 0, result.output
    assert result.stdout == "fox.jpg  1344×576  seed 7\n"
    assert re.search(r"\d\.\d s", result.stderr)
    with Image.open(tmp_path / "fox.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (1344, 576))
    assert [path.name for path in tmp_path.iterdir()] == ["fox.jpg"]


def test_the_same_command_gives_the_same_file_and_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "fox.jpg"
    files = []
    for _ in range(2):
        assert limner("generate", "a red fox", "-o", str(path), "--seed", "7").exit_code == 0
        files.append(path.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.png", "PNG"), ("a.webp", "WEBP")]
)
def test_the_extension_decides_the_format(tmp_path: Path, name: str, kind: str) -> None:
    assert limner("generate", "a red fox", "-o", name).exit_code == 0
    with Image.open(tmp_path / name) as image:
        assert image.format == kind


def test_several_pictures_are_numbered_and_seeded_in_their_order(tmp_path: Path) -> None:
    sides = ("--width", "512", "--height", "544")
    result = limner("generate", "a red fox", "-o", "fox.jpg", "-n", "3", "--seed", "5", *sides)
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        [f"fox-{k}.jpg", "512×544", "seed", str(4 + k)] for k in (1, 2, 3)
    ]
    limner("generate", "a red fox", "-o", "alone.jpg", "--seed", "6", *sides)
    assert (tmp_path / "alone.jpg").read_bytes() == (tmp_path / "fox-2.jpg").read_bytes()


def test_json_tells_everything_in_one_object() -> None:
    result = limner("generate", "a red fox", "-n", "2", "--seed", "-1", "--json", "--plan")
    report = json.loads(result.stdout)
    assert [picture["seed"] for picture in report["pictures"]] == [2**64 - 1, 0]
    assert [picture["path"] for picture in report["pictures"]] == ["limner-1.jpg", "limner-2.jpg"]
    assert report["failed"] == 0
    assert report["seconds"] >= 0
    assert report["notes"] == ["A note."]
    assert report["plan"] == {"prompt": "a red fox"}


def test_the_plan_stands_alone_on_standard_output_and_can_be_painted(tmp_path: Path, pipeline: Recorder) -> None:
    result = limner("generate", "a red fox", "--plan")
    (tmp_path / "scene.json").write_text(result.stdout)
    assert json.loads(result.stdout) == {"prompt": "a red fox"}
    assert "limner.jpg" in result.stderr
    assert limner("generate", "a red fox", "--scene", "scene.json").exit_code == 0
    assert pipeline.requests[-1].scene == {"prompt": "a red fox"}


def test_the_options_reach_the_engine(pipeline: Recorder) -> None:
    result = limner(
        *("generate", "a whale", "--steps", "2", "--strength", "0.5", "--guidance", "2", "--style", "comic"),
        *("--optimize", "--watermark"),
    )
    assert result.exit_code == 0, result.output
    (request,) = pipeline.requests
    assert (request.steps, request.strength, request.guidance, request.style) == (2, 0.5, 2.0, "comic")
    assert request.prompt.startswith("a whale, under water")


@pytest.mark.parametrize("style", ["水彩", "watercolor"])
def test_styles_of_image_01_live_go_by_either_name(pipeline: Recorder, style: str) -> None:
    assert limner("generate", "a fox", "--model", "image-01-live", "--style", style).exit_code == 0
    (request,) = pipeline.requests
    assert (request.model, request.style, request.style_weight) == ("image-01", "watercolor", 0.8)


def test_a_reference_may_be_a_file_since_it_is_the_callers_own(tmp_path: Path, pipeline: Recorder) -> None:
    Image.new("RGB", (9, 5), (1, 2, 3)).save(tmp_path / "me.png")
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "you.png")
    result = limner("generate", "a hero", "--reference", "me.png", "--reference", str(tmp_path / "you.png"))
    assert result.exit_code == 0, result.output
    me, you = pipeline.requests[0].references
    assert me.shape == (5, 9, 4)
    assert tuple(me[0, 0]) == (1, 2, 3, 255)
    assert you.shape == (4, 4, 4)


def test_a_mark_is_drawn_where_asked_for(tmp_path: Path) -> None:
    limner("generate", "a fox", "--seed", "1", "-o", "plain.png")
    limner("generate", "a fox", "--seed", "1", "-o", "marked.png", "--watermark")
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "marked.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "fox.gif"], "must end in one of .jpg, .jpeg, .png, .webp"),
        (["-o", "nowhere/fox.jpg"], "The folder nowhere is not there"),
        (["--ratio", "16x9"], "aspect_ratio must be one of"),
        (["--width", "512"], "go together"),
        (["--width", "512", "--height", "513"], "multiples of 8"),
        (["--width", "504", "--height", "512"], "512 to 2048"),
        (["--ratio", "1:1", "--width", "512", "--height", "512"], "not both"),
        (["--model", "image-02"], "The models are image-01, image-01-live"),
        (["--model", "image-01-live", "--style", "clay"], "漫画"),
        (["--model", "mine="], "mine= is not NAME=WEIGHTS"),
        (["--model", "a/b=/w"], "cannot be a model's name"),
        (["--sampler", "eulre"], "The samplers are euler, ddim"),
        (["--lora", "light=bright"], "NAME=WEIGHT with a weight of -4 to 4"),
        (["--lora", "light=5"], "NAME=WEIGHT with a weight of -4 to 4"),
        (["-n", "10"], "less than or equal to 9"),
        (["--seed", str(2**64)], "less than or equal to 18446744073709551615"),
        (["--steps", "0"], "steps is 0"),
        (["--reference", "none.png"], "none.png cannot be read"),
        (["--reference", "text.txt"], "send a JPEG, PNG or WebP"),
        (["--scene", "none.json"], "none.json cannot be read"),
        (["--scene", "text.txt"], "not JSON"),
        (["--scene", "list.json"], "one JSON object"),
        (["--config", "none.toml"], "none.toml cannot be read"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_do(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "text.txt").write_text("just words")
    (tmp_path / "list.json").write_text("[]")
    before = set(tmp_path.iterdir())
    result = limner("generate", "a fox", *arguments)
    assert result.exit_code == 2
    assert message in plain(result.stderr)
    assert "Traceback" not in result.output
    assert set(tmp_path.iterdir()) == before


def test_a_blank_prompt_is_wrong_usage() -> None:
    result = limner("generate", " ")
    assert result.exit_code == 2
    assert result.stderr == "limner: Field prompt is required and must hold words: say what to paint.\n"


def test_a_setting_that_is_unknown_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_JPG_QUALITY", "3")
    result = limner("generate", "a fox")
    assert result.exit_code == 2
    assert "LIMNER_JPEG_QUALITY" in result.stderr


def test_a_failure_exits_with_1_and_a_sentence() -> None:
    result = limner("generate", "explode in evaluate")
    assert result.exit_code == 1
    assert "limner: The model image-01 failed" in result.stderr


def test_what_could_be_painted_is_written_though_the_rest_failed(tmp_path: Path) -> None:
    result = limner("generate", "odd fails", "-n", "2", "--seed", "4")
    assert result.exit_code == 1
    assert (tmp_path / "limner-1.jpg").exists()
    assert "1 of 2 pictures could not be painted" in result.stderr


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "fox.jpg").mkdir()
    result = limner("generate", "a fox", "-o", "fox.jpg")
    assert result.exit_code == 1
    assert "fox.jpg could not be written: Is a directory." in result.stderr


def test_ctrl_c_stops_painting_without_a_traceback_or_a_file(tmp_path: Path) -> None:
    slow = """
evaluate = pipeline.evaluate
def slowly(batch):
    print("painting", flush=True)
    time.sleep(0.02)
    return evaluate(batch)
pipeline.evaluate = slowly
"""
    running = process(slow, "generate", "a fox", "-o", "fox.jpg", "--steps", "200", "-n", "9")
    assert running.stdout is not None
    assert running.stdout.readline() == "painting\n"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors == "limner: stopped.\n"
    assert list(tmp_path.iterdir()) == []


# serve


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_serve_says_where_it_is_answers_and_stops_cleanly(tmp_path: Path, stop: signal.Signals, code: int) -> None:
    running = process("", "serve", "--port", "0", LIMNER_DATA_DIR=str(tmp_path / "data"), LIMNER_QUEUE_LIMIT="5")
    assert running.stdout is not None
    banner = [running.stdout.readline() for _ in range(4)]
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+", banner[0])
        assert address is not None
        assert "no key needed" in banner[1]
        assert str(tmp_path / "data") in banner[2]
        assert banner[3] == "  queue_limit = 5\n"
        order = {"model": "image-01", "prompt": "a whispered fox", "response_format": "url"}
        with httpx2.Client(base_url=address[0], trust_env=False, timeout=30) as client:
            reply = client.post("/v1/image_generation", json=order).json()
            assert reply["base_resp"]["status_code"] == 0
            picture = client.get(reply["data"]["image_urls"][0])
        with Image.open(io.BytesIO(picture.content)) as image:
            assert image.size == (1024, 1024)
    finally:
        running.send_signal(stop)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == code
    assert "Traceback" not in errors
    assert "whispered" not in errors
    assert reply["data"]["image_urls"][0].rpartition("/")[2] not in errors
    assert " job " in errors


def test_serve_never_shows_a_key() -> None:
    running = process("", "serve", "--port", "0", LIMNER_API_KEYS="sk-hush-1,sk-hush-2", LIMNER_LOG_FORMAT="json")
    assert running.stdout is not None
    banner = [running.stdout.readline() for _ in range(2)]
    address = re.search(r"http://127\.0\.0\.1:\d+", banner[0])
    assert address is not None
    order = {"model": "image-01", "prompt": "a fox", "response_format": "base64"}
    with httpx2.Client(base_url=address[0], trust_env=False, timeout=30) as client:
        for key, status in (("sk-hush-1", 0), ("sk-hush-3", 2049)):
            reply = client.post("/v1/image_generation", json=order, headers={"Authorization": f"Bearer {key}"})
            assert reply.json()["base_resp"]["status_code"] == status
    running.send_signal(signal.SIGTERM)
    rest, errors = running.communicate(timeout=60)
    assert "a key: 2 of the settings" in banner[1]
    assert "hush" not in "".join(banner) + rest + errors
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [line["result"] for line in lines if line["event"] == "job"] == ["painted"]


def test_another_address_without_keys_is_refused_with_a_sentence() -> None:
    result = limner("serve", "--host", "0.0.0.0", "--port", "0")
    assert result.exit_code == 2
    assert "without keys" in result.stderr


def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = limner("serve", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "Address already in use" in result.stderr
    assert "--port" in result.stderr


def test_a_model_that_cannot_be_loaded_is_a_sentence() -> None:
    body = """
from limner.errors import ModelUnusable
def broken(*_):
    raise ModelUnusable("The model file x is missing. Install Limner again.")
limner.service.load_pipelines = broken
from limner.cli.app import app
app(prog_name="limner")
"""
    running = process(body, "serve", "--port", "0")
    rest, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert errors == "limner: The model file x is missing. Install Limner again.\n"
    assert rest == ""


# Logs


def test_logs_carry_what_is_bound_and_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("json", "text"):
        configure(load(log_format=kind))
        log = structlog.get_logger("test")
        with structlog.contextvars.bound_contextvars(id="trace-1"):
            try:
                secret = "whispered"
                raise ArithmeticError(len(secret))
            except ArithmeticError:
                log.exception("it failed")
        logging.getLogger("other").warning("from the standard library")
        log.debug("below the level")
        logging.getLogger("httpx2").info("HTTP Request: GET http://signed/?key=hush")
        errors = capsys.readouterr().err
        assert "trace-1" in errors
        assert "ArithmeticError" in errors
        assert "from the standard library" in errors
        assert "below the level" not in errors
        assert "hush" not in errors
        if kind == "json":
            first, second = map(json.loads, errors.splitlines())
            assert (first["id"], first["level"]) == ("trace-1", "error")
            assert second["event"] == "from the standard library"
            assert "locals" not in str(first["exception"])
