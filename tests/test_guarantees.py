"""What the service promises of its pictures, its start and its end: `limner serve`, run as its users run it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

import limner
from conftest import wait_for
from limner.errors import ModelUnusable
from limner.evaluation.detector import Detector
from limner.evaluation.identity import Identity
from limner.painter.bank import Bank
from limner.painter.fullsize import FullSize
from limner.painter.matting import Matting
from limner.painter.planner.reader import Reader
from limner.painter.words import Words
from limner.pipelines.painter import PainterPipeline

LIMNER = str(Path(sys.executable).with_name("limner"))
PACKAGE = Path(limner.__file__).parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.upper().startswith("LIMNER_")}
API = "/v1/image_generation"
PATIENCE = 100.0  # seconds before a test gives up on a process; nothing is measured by it

FOX: dict[str, Any] = {"prompt": "a red fox and two blue birds on a snowy hill", "seed": 7, "aspect_ratio": "16:9"}
NEIGHBOURS: tuple[dict[str, Any], ...] = (
    {"prompt": "a blue boat at sea", "seed": 1, "width": 512, "height": 512},
    {"prompt": "three green apples on a table", "seed": 2, "aspect_ratio": "21:9"},
    {"prompt": "a girl in a library", "seed": 3, "aspect_ratio": "9:16", "subject_reference": ...},
    {"prompt": "an old man with a hat in the rain", "seed": -4, "width": 520, "height": 1048},
    {"prompt": "a rocket in the night sky", "seed": 5, "width": 2048, "height": 512},
    {"prompt": "a lighthouse by the sea", "seed": 6, "model": "image-01-live", "style": {"style_type": "水彩"}},
    {"prompt": "a cat", "seed": 7, "aspect_ratio": "16:9"},
    {"prompt": "a castle in the desert", "seed": 2**63 - 1, "aspect_ratio": "2:3", "aigc_watermark": True},
    {"prompt": "a whale", "seed": 9, "aspect_ratio": "3:5", "prompt_optimizer": True},
)


@dataclass(frozen=True, slots=True)
class Running:
    """A `limner serve` of its own process."""

    process: subprocess.Popen[str]
    banner: str
    port: int
    client: httpx2.Client
    log: Path

    def call(self, **fields: Any) -> httpx2.Response:
        if fields.get("subject_reference") is ...:
            fields["subject_reference"] = [{"type": "character", "image_file": girl()}]
        body = {"model": "image-01", "response_format": "base64", **fields}
        return self.client.post(API, json=body)

    def pictures(self, **fields: Any) -> list[bytes]:
        """The JPEGs of one call, which must succeed."""
        reply = self.call(**fields).json()
        assert reply["base_resp"] == {"status_code": 0, "status_msg": "success"}
        return [base64.b64decode(image) for image in reply["data"]["image_base64"]]

    def picture(self, **fields: Any) -> bytes:
        (only,) = self.pictures(**fields)
        return only

    def metric(self, name: str) -> float:
        """Of all models together."""
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        assert found
        return sum(map(float, found))

    def end(self, stop: signal.Signals) -> int:
        self.process.send_signal(stop)
        return self.process.wait(PATIENCE)


@contextmanager
def running(folder: Path, limit: int | None = None, **settings: str) -> Iterator[Running]:
    """Start a service whose data go into `folder`; with a `limit`, no file of its process may grow beyond that."""
    command = [LIMNER, "serve", "--port", "0"]
    if limit is not None:
        limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        command = [sys.executable, "-c", f"{limited} os.execv(sys.argv[1], sys.argv[1:])", *command]
    log = folder / "log.txt"
    variables = {"LIMNER_DATA_DIR": str(folder / "data"), **settings}
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=ENVIRONMENT | variables
        )
    try:
        assert process.stdout is not None
        banner = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", banner)
        assert found is not None, log.read_text()
        with httpx2.Client(base_url=found[0], trust_env=False, timeout=PATIENCE) as client:
            yield Running(process, banner, int(found[1]), client, log)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def alone(service: Running) -> list[bytes]:
    """The fox and the nine others, each painted while nothing else was."""
    return [service.picture(**fields) for fields in (FOX, *NEIGHBOURS)]


def girl() -> str:
    """A character on a plain ground, as a data URL."""
    image = Image.new("RGB", (200, 300), (250, 250, 250))
    image.paste((220, 170, 130), (70, 30, 130, 100))
    image.paste((200, 40, 60), (60, 100, 140, 280))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def together(*tasks: Callable[[], Any]) -> list[threading.Thread]:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    return threads


# The same request, the same bytes


def test_each_picture_has_the_size_that_was_asked_for_and_differs_from_the_others(alone: list[bytes]) -> None:
    wanted = [(1280, 720), (512, 512), (1344, 576), (720, 1280), (520, 1048), (2048, 512)]
    wanted += [(1024, 1024), (1280, 720), (832, 1248), (792, 1320)]
    sizes = []
    for data in alone:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            sizes.append(image.size)
    assert sizes == wanted
    assert len(set(alone)) == len(alone)


def test_the_same_request_twice_gives_the_same_bytes(service: Running, alone: list[bytes]) -> None:
    assert service.picture(**FOX) == alone[0]


def test_it_gives_the_same_bytes_while_nine_others_of_other_sizes_are_painted(
    service: Running, alone: list[bytes]
) -> None:
    painted: dict[int, bytes] = {}
    order: list[int] = []

    def paint(number: int, fields: dict[str, Any]) -> None:
        painted[number] = service.picture(**fields)
        order.append(number)

    begun = service.metric("limner_evaluations_total")
    others = together(*(lambda k=k, f=f: paint(k, f) for k, f in enumerate(NEIGHBOURS, 1)))  # type: ignore[misc]  # mypy infers no lambda with defaults
    wait_for(lambda: service.metric("limner_evaluations_total") > begun)
    paint(0, FOX)
    for thread in others:
        thread.join()
    assert order.index(0) > 0, "none of the others was painted before the fox, so they may not have been together"
    assert [painted[number] for number in range(10)] == alone


def test_it_gives_the_same_bytes_after_a_restart_and_on_one_thread(alone: list[bytes], tmp_path: Path) -> None:
    with running(tmp_path, LIMNER_THREADS="1") as restarted:
        again = [restarted.picture(**fields) for fields in (FOX, *NEIGHBOURS[:4])]
    assert again == alone[:5]


def test_the_command_line_paints_the_same_bytes_as_the_service(alone: list[bytes], tmp_path: Path) -> None:
    command = [LIMNER, "generate", FOX["prompt"], "--seed", "7", "--ratio", "16:9", "-o", "fox.jpg"]
    subprocess.run(command, check=True, cwd=tmp_path, env=ENVIRONMENT, capture_output=True)
    assert (tmp_path / "fox.jpg").read_bytes() == alone[0]


def test_picture_k_is_picture_0_of_the_seed_plus_k_also_where_seeds_wrap(service: Running) -> None:
    order = {"prompt": "a green frog in a hat", "width": 512, "height": 512}
    reply = service.call(**order, seed=2**63 - 2, n=4)
    seeds = [2**63 - 2, 2**63 - 1, -(2**63), -(2**63) + 1]
    assert reply.headers["Limner-Seeds"] == ",".join(map(str, seeds))
    pictures = [base64.b64decode(image) for image in reply.json()["data"]["image_base64"]]
    assert len(set(pictures)) == 4
    assert [service.picture(**order, seed=seed) for seed in seeds] == pictures
    around_zero = service.pictures(**order, seed=-1, n=2)
    assert around_zero == [service.picture(**order, seed=seed) for seed in (-1, 0)]


def test_a_link_and_base64_carry_the_same_bytes(service: Running, alone: list[bytes]) -> None:
    (link,) = service.call(**FOX, response_format="url").json()["data"]["image_urls"]
    got, head = service.client.get(link), service.client.head(link)
    assert got.content == alone[0]
    assert got.headers["Content-Type"] == "image/jpeg"
    assert got.headers["Content-Length"] == head.headers["Content-Length"] == str(len(alone[0]))
    assert got.headers["ETag"] == head.headers["ETag"]


# Start and end


def test_sigterm_ends_an_idle_service_with_0(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        assert service.client.get("/readyz").status_code == 200
        assert service.end(signal.SIGTERM) == 0
        assert "Traceback" not in service.log.read_text()


def test_sigterm_ends_a_busy_service_with_0_and_its_calls_with_an_answer(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        replies: list[httpx2.Response] = []

        def ask() -> None:
            replies.append(service.call(prompt="a city", width=2048, height=2048, n=9))

        asking = together(*[ask] * 6)
        wait_for(lambda: service.metric("limner_queue_running"))
        wait_for(lambda: service.metric("limner_queue_waiting") > 40)
        assert service.end(signal.SIGTERM) == 0
        for thread in asking:
            thread.join()
        assert len(replies) == len(asking)
        for reply in replies:
            answer = reply.json()
            if answer["base_resp"]["status_code"]:
                assert answer["base_resp"]["status_code"] == 1024
                assert "shutting down" in answer["base_resp"]["status_msg"]
            else:
                assert int(answer["metadata"]["success_count"]) + int(answer["metadata"]["failed_count"]) == 9
        assert any(reply.json()["base_resp"]["status_code"] for reply in replies)
        assert "Traceback" not in service.log.read_text()


def test_a_second_service_on_the_same_port_says_so_in_a_sentence(service: Running, tmp_path: Path) -> None:
    command = [LIMNER, "serve", "--port", str(service.port)]
    second = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path, timeout=PATIENCE)
    assert second.returncode == 1
    assert second.stdout == ""
    assert second.stderr == (
        f"limner: Port {service.port} of 127.0.0.1 cannot be listened on: Address already in use. Stop what uses it, "
        f"or choose another with --port (0 takes a free one).\n"
    )
    assert list(tmp_path.iterdir()) == []


# Disks


def test_a_full_disk_is_a_sentence_and_ends_nothing_else(tmp_path: Path) -> None:
    with running(tmp_path, limit=400_000) as service:
        reply = service.call(prompt="a busy market in comic style", width=2048, height=2048, seed=2).json()
        assert reply["base_resp"]["status_code"] == 1024
        assert "The picture could not be kept: the disk" in reply["base_resp"]["status_msg"]
        assert len(service.picture(prompt="a fox", width=512, height=512)) < 400_000
        assert service.client.get("/readyz").status_code == 200
        assert "Traceback" not in service.log.read_text()
    assert len([path for path in (tmp_path / "data" / "pictures").iterdir() if path.is_file()]) == 1


def test_a_data_folder_that_cannot_be_made_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, where a folder should be")
    variables = ENVIRONMENT | {"LIMNER_DATA_DIR": str(tmp_path / "data")}
    ended = subprocess.run([LIMNER, "serve", "--port", "0"], env=variables, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "data_dir" in ended.stderr
    assert "cannot be made" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_of_pictures_that_is_lost_while_serving_is_a_sentence(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        (tmp_path / "data" / "pictures").write_text("a file, where a folder should be")
        reply = service.call(prompt="a fox", response_format="url").json()
        assert reply["base_resp"]["status_code"] == 1024
        assert "The picture could not be kept" in reply["base_resp"]["status_msg"]
        assert str(tmp_path) not in reply["base_resp"]["status_msg"]
        assert "Traceback" not in service.log.read_text()


# The model's files

FOLDERS: dict[str, tuple[Path, Callable[[Path], object]]] = {
    "denoiser": (PACKAGE / "painter" / "weights" / "denoiser", PainterPipeline.load),
    "fullsize": (PACKAGE / "painter" / "weights" / "fullsize", FullSize.load),
    "matting": (PACKAGE / "painter" / "weights" / "matting", Matting),
    "planner": (PACKAGE / "painter" / "weights" / "planner", Reader.load),
    "words": (PACKAGE / "painter" / "weights" / "words", Words.load),
    "bank": (PACKAGE / "painter" / "bank", Bank.load),
    "detector": (PACKAGE / "evaluation" / "weights" / "detector", Detector.load),
    "identity": (PACKAGE / "evaluation" / "weights" / "identity", Identity.load),
}
MODEL_FILES = [
    (part, path.name)
    for part, (folder, _) in FOLDERS.items()
    for path in sorted(folder.iterdir())
    if path.suffix != ".md"  # the model card, which nobody reads but people
]

DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "one byte changed": lambda path: path.write_bytes(path.read_bytes()[:99] + b"\0" + path.read_bytes()[100:]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def test_every_part_of_the_model_has_files() -> None:
    assert len(MODEL_FILES) >= 20
    assert {"meta.json"} < {name for _, name in MODEL_FILES}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("part", "name"), MODEL_FILES)
def test_a_damaged_model_file_is_a_sentence_that_names_it(tmp_path: Path, part: str, name: str, damage: str) -> None:
    folder, load = FOLDERS[part]
    copy = tmp_path / part
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    data = (copy / name).read_bytes()
    (copy / name).unlink()
    (copy / name).write_bytes(data)
    DAMAGE[damage](copy / name)
    with pytest.raises(ModelUnusable) as refused:
        load(copy)
    assert name in refused.value.message
    assert "nstall Limner again" in refused.value.message


@pytest.mark.parametrize(
    "meta", [[], "text", None, {}, {"files": {}}, {"files": []}, {"files": {"x": 1}}, {"format": 99}]
)
@pytest.mark.parametrize("part", FOLDERS)
def test_a_meta_of_another_kind_is_refused(tmp_path: Path, part: str, meta: object) -> None:
    folder, load = FOLDERS[part]
    copy = tmp_path / part
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / "meta.json").unlink()
    (copy / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ModelUnusable):
        load(copy)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed Limner whose files may be damaged: links to the real ones."""
    site = tmp_path_factory.mktemp("site")
    ignored = shutil.ignore_patterns("__pycache__", "training", ".*")
    shutil.copytree(PACKAGE, site / "limner", copy_function=os.symlink, ignore=ignored)
    return site


@pytest.mark.parametrize(
    ("command", "file", "damage"),
    [
        (["serve", "--port", "0"], "painter/weights/denoiser/denoiser.onnx", "missing"),
        (["generate", "a fox"], "painter/weights/words/encoder.onnx", "cut short"),
        (["serve", "--port", "0"], "painter/bank/drawings.xz", "one byte changed"),
        (["generate", "a fox"], "painter/weights/denoiser/meta.json", "empty"),
        (["models", "check", "image-01"], "painter/bank/index.json", "missing"),
    ],
)
def test_a_damaged_model_ends_the_command_with_a_sentence_and_1(
    site: Path, tmp_path: Path, command: list[str], file: str, damage: str
) -> None:
    path = site / "limner" / file
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    try:
        DAMAGE[damage](path)
        script = "from limner.cli.app import app; app(prog_name='limner')"
        done = subprocess.run(
            [sys.executable, "-c", script, *command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=ENVIRONMENT | {"PYTHONPATH": str(site)},
            timeout=PATIENCE,
        )
    finally:
        path.unlink(missing_ok=True)
        path.symlink_to(PACKAGE / file)
    assert done.returncode == 1
    assert re.fullmatch(r"limner: [^\n]*\.\n", done.stderr), done.stderr
    assert path.name in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_weights_and_the_bank_stay_under_45_megabytes() -> None:
    files = [path for folder, _ in FOLDERS.values() for path in folder.iterdir()]
    assert 1e6 < sum(path.stat().st_size for path in files) < 45e6
