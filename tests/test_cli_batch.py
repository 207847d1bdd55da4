"""`limner batch` and `limner compare`: files of lines and sheets, in this process and on a service that runs."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from command_line import Recorder, no_settings, paint_with, process
from conftest import Server, wait_for
from limner.cli import batch_lines, painting
from limner.cli.app import app
from limner.cli.batch_lines import Known
from limner.cli.batch_manifest import MANIFEST, Manifest
from limner.cli.local import open_client
from limner.client import Abilities, Job, LimnerAPIError, Progress, ServiceFailed
from limner.engine.core import Encoded, Float32, Request, UInt8
from limner.errors import LimnerError
from tiny_pipeline import Explosion, TinyPipeline

SMALL = {"width": 512, "height": 512}

# The command in a process of its own, on a pipeline that takes its time.
SLOWLY = """
evaluate = pipeline.evaluate
def slowly(batch):
    time.sleep({seconds})
    return evaluate(batch)
pipeline.evaluate = slowly
"""


@pytest.fixture(autouse=True)
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Recorder]:
    """Every command paints with this pipeline, in an empty folder, with no settings but the defaults."""
    no_settings(monkeypatch, tmp_path)
    recorder = Recorder()
    paint_with(recorder, monkeypatch)
    return recorder


def limner(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def slow_process(*arguments: str, seconds: float) -> subprocess.Popen[str]:
    """Whose every evaluation takes so long."""
    return process(SLOWLY.format(seconds=seconds), *arguments)


def jsonl(name: str, *lines: dict[str, Any]) -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return path


def pictures(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != MANIFEST}


def records(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / MANIFEST).read_text("utf-8").splitlines()]


# Reading


KNOWN = Known(Path(), {"image-01": Abilities(samplers=("euler",), styles=("comic",), references=1), "other": None}, 100)


def read(text: str, kind: str = ".jsonl", known: Known = KNOWN) -> list[tuple[int, str]]:
    return batch_lines.read(text, kind, known)[1]


def test_a_csv_file_and_a_jsonl_file_can_say_the_same(tmp_path: Path) -> None:
    rows = [
        {"prompt": 'a "red" fox, sitting', "seed": 7, "n": 2, "name": "fox", "steps": 3, "guidance": 1.5},
        {"prompt": "狐狸\non a hill", "watermark": True, "width": 512, "height": 544, "loras": {"light": 0.5}},
    ]
    text = (
        "prompt,seed,n,name,steps,guidance,watermark,width,height,loras\r\n"
        '"a ""red"" fox, sitting",7,2,fox,3,1.5,,,,\r\n'
        ",,,,,,,,,\r\n"
        '"狐狸\non a hill",,,,,,true,512,544,"{""light"": 0.5}"\r\n'
    )
    known = replace(KNOWN, models={"image-01": None})
    of_csv, wrong = batch_lines.read(text, ".csv", known)
    of_jsonl, also_wrong = batch_lines.read("\n".join(map(json.dumps, rows)), ".jsonl", known)
    assert wrong == also_wrong == []
    assert [replace(line, number=0) for line in of_csv] == [replace(line, number=0) for line in of_jsonl]
    assert [line.number for line in of_csv] == [2, 5]
    assert of_csv[0].files == ("fox-1.jpg", "fox-2.jpg")
    assert of_csv[1].fields == rows[1]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("nope", "This is not JSON; each line is one object, on one line."),
        ("[1]", "A line is a JSON object; got an array."),
        ("[" * 100_000, "This is not JSON; each line is one object, on one line."),
        ('{"n": 2}', "Field prompt is required."),
        ('{"prompt": " "}', "Field prompt must hold words: say what to paint."),
        (json.dumps({"prompt": "x" * 101}), "Field prompt must have at most 100 characters; got 101."),
        ('{"prompt": "x", "steps": 0}', "Field steps must be greater than or equal to 1; got 0."),
        ('{"prompt": "x", "n": 10}', "Field n must be less than or equal to 9; got 10."),
        ('{"prompt": "x", "stlye": "comic"}', 'There is no field "stlye"; did you mean style?'),
        ('{"prompt": "x", "zzzzz": 1}', 'There is no field "zzzzz"; there are aspect_ratio, '),
        ('{"prompt": "x", "webhook_url": "http://x"}', 'There is no field "webhook_url"; there are '),
        ('{"prompt": "x", "style": "oil"}', 'Field style must be one of comic; got "oil".'),
        ('{"prompt": "x", "sampler": "heun"}', 'Field sampler must be one of euler; got "heun".'),
        ('{"prompt": "x", "negative_prompt": "y"}', "Field negative_prompt is not for model image-01; leave it out."),
        ('{"prompt": "x", "model": "mine"}', 'Field model must be one of image-01, other; got "mine".'),
        ('{"prompt": "x", "aspect_ratio": "16x9"}', "Field aspect_ratio must be one of 1:1, "),
        ('{"prompt": "x", "width": 512}', "Fields width and height must be set together; got width without height."),
        ('{"prompt": "x", "width": 512, "height": 512, "aspect_ratio": "1:1"}', "Give field aspect_ratio, or width "),
        ('{"prompt": "x", "reference": "none.png"}', "Field reference: none.png cannot be read: No such file"),
        ('{"prompt": "x", "reference": "text.txt"}', "Field reference: text.txt cannot be read: it is no JPEG, PNG"),
        ('{"prompt": "x", "references": [1]}', "Field references must be a path or a URL, or several; got an array."),
        ('{"prompt": "x", "reference": "a", "references": ["b"]}', "Give field reference, for one, or references, "),
        ('{"prompt": "x", "references": ["http://a", "http://b"]}', "Field references: model image-01 takes at most 1"),
        ('{"prompt": "x", "mask": "http://a"}', "Field mask needs the picture that is to be repainted as the first"),
        ('{"prompt": "x", "mask": "http://a", "reference": "http://b"}', "Field mask is not for model image-01"),
        ('{"prompt": "x", "name": "a/b"}', 'Field name must be a file\'s name, without a folder; got "a/b".'),
        ('{"prompt": "x", "name": "../b"}', "Field name must be a file's name, without a folder; "),
        ('{"prompt": "x", "name": ".b"}', "Field name must be a file's name, without a folder; "),
        (json.dumps({"prompt": "x", "name": "b" * 201}), "Field name must have at most 200 bytes in UTF-8; got 201."),
        (json.dumps({"prompt": "x", "name": "山" * 67}), "Field name must have at most 200 bytes in UTF-8; got 201."),
        ('{"prompt": "x", "name": "a.png", "format": "webp"}', "Field name ends in .png, and field format says webp."),
    ],
)
def test_a_wrong_line_is_told_with_its_number_and_field(tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "text.txt").write_text("just words")
    ((number, told),) = read(f'{{"prompt": "a fox"}}\n\n{line}\n')
    assert number == 3
    assert told.startswith(sentence)
    assert told.endswith((".", "?"))


@pytest.mark.parametrize(
    ("text", "number", "sentence"),
    [
        ("prompt,prmpt\nx,y\n", 1, 'There is no field "prmpt"; did you mean prompt?'),
        ("seed\n7\n", 1, "Field prompt is required; the first line of a CSV file names the fields."),
        ("prompt,seed,seed\n", 1, "Field seed is named twice."),
        ("prompt\nx\na,b\n", 3, "There are 2 cells under 1 names."),
        ('prompt\nx\n"a\nb\n', 4, "This is not CSV: unexpected end of data."),
        ("prompt,steps\nx,many\n", 2, 'Field steps must be a valid integer; got "many".'),
        ("prompt,scene\nx,{\n", 2, 'Field scene must be a valid dictionary; got "{".'),
    ],
)
def test_a_wrong_csv_file_is_told_with_the_line(text: str, number: int, sentence: str) -> None:
    assert read(text, ".csv") == [(number, sentence)]


def test_names_that_would_be_one_file_are_wrong() -> None:
    lines = [{"prompt": "x", "name": "fox", "n": 2}, {"prompt": "y", "name": "FOX-2.jpg"}]
    wrong = read("\n".join(map(json.dumps, lines)))
    assert wrong == [(2, "Field name: FOX-2.jpg is the file of line 1 already.")]


def test_equal_lines_are_pictures_of_their_own_and_order_decides_nothing() -> None:
    rows = [{"prompt": "a fox"}, {"prompt": "a boat"}, {"prompt": "a fox"}]
    lines, _ = batch_lines.read("\n".join(map(json.dumps, rows)), ".jsonl", KNOWN)
    back, _ = batch_lines.read("\n".join(map(json.dumps, rows[::-1])), ".jsonl", KNOWN)
    assert len({line.digest for line in lines}) == 3
    assert {line.digest for line in lines} == {line.digest for line in back}
    assert all(re.fullmatch(r"a-(fox|boat)-[0-9a-f]{8}\.jpg", line.files[0]) for line in lines)


def test_another_picture_behind_a_path_is_another_line(tmp_path: Path) -> None:
    digests = []
    for colour in ("red", "blue"):
        Image.new("RGB", (8, 8), colour).save(tmp_path / "me.png")
        (line,), _ = batch_lines.read(
            '{"prompt": "a hero", "reference": "me.png"}', ".jsonl", replace(KNOWN, folder=tmp_path)
        )
        digests.append(line.digest)
    assert line.fields["references"] == [tmp_path / "me.png"]
    assert digests[0] != digests[1]


# Painting


def test_a_batch_is_painted_and_done_is_done(pipeline: Recorder) -> None:
    Path("lines.csv").write_text(
        "\ufeffprompt,seed,n,name,width,height\na red fox,7,,fox,512,512\na boat,,2,boat.png,512,512\n", "utf-8"
    )
    first = limner("batch", "lines.csv", "-o", "out/deep")
    assert first.exit_code == 0, first.output
    assert first.stdout == "2 of 2 lines are done in out/deep.\n"
    painted = pictures("out/deep")
    assert sorted(painted) == ["boat-1.png", "boat-2.png", "fox.jpg"]
    assert Image.open(io.BytesIO(painted["boat-2.png"])).format == "PNG"
    assert len(pipeline.requests) == 3
    again = limner("batch", "lines.csv", "-o", "out/deep")
    assert (again.exit_code, again.stdout) == (0, "2 of 2 lines are done in out/deep, 2 of them before.\n")
    assert len(pipeline.requests) == 3
    alone = limner("generate", "a red fox", "--seed", "7", "--width", "512", "--height", "512", "-o", "fox.jpg")
    assert alone.exit_code == 0
    assert Path("fox.jpg").read_bytes() == painted["fox.jpg"]


def test_what_is_missing_damaged_or_changed_is_painted_again_and_nothing_else(pipeline: Recorder) -> None:
    rows = [{"prompt": f"{word} fox", "name": word, **SMALL} for word in ("red", "grey", "white")]
    file = jsonl("lines.jsonl", *rows)
    assert limner("batch", str(file), "-o", "out").exit_code == 0
    before = pictures("out")
    Path("out/red.jpg").unlink()
    Path("out/grey.jpg").write_bytes(before["grey.jpg"][:-1])
    done = len(pipeline.requests)
    assert limner("batch", str(file), "-o", "out").exit_code == 0
    assert {request.prompt for request in pipeline.requests[done:]} == {"red fox", "grey fox"}
    assert pictures("out") == before  # with the seeds that were drawn for them
    done = len(pipeline.requests)
    rows[2]["prompt"] = "arctic fox"
    jsonl("lines.jsonl", {"prompt": "a boat", "name": "boat", **SMALL}, *rows)
    assert limner("batch", str(file), "-o", "out").exit_code == 0
    assert {request.prompt for request in pipeline.requests[done:]} == {"a boat", "arctic fox"}
    assert pictures("out")["white.jpg"] != before["white.jpg"]


def test_a_seed_that_is_drawn_is_written_down_before_painting(pipeline: Recorder) -> None:
    file = jsonl("lines.jsonl", {"prompt": "explode in encode", **SMALL}, {"prompt": "a fox", "seed": 3, **SMALL})
    assert limner("batch", str(file), "-o", "out").exit_code == 1
    first, *others = records("out")
    assert set(first) == {"line", "names", "seed"}
    assert {request.seed for request in pipeline.requests} == {int(first["seed"]), 3}
    assert [set(record) for record in others if record["line"] == first["line"]] == [{"line", "error"}]
    assert {"line", "names"} in map(set, others)  # of the line that has a seed of its own


def test_failed_lines_are_told_the_others_are_painted_and_they_are_tried_again(pipeline: Recorder) -> None:
    file = jsonl(
        "lines.jsonl",
        {"prompt": "refuse this", "name": "one", **SMALL},
        {"prompt": "a fox", "name": "two", **SMALL},
        {"prompt": "explode in decode", "name": "three", "n": 2, **SMALL},
    )
    result = limner("batch", str(file), "-o", "out")
    assert result.exit_code == 1
    assert result.stdout == "1 of 3 lines are done in out.\n"
    assert sorted(pictures("out")) == ["two.jpg"]
    assert re.search(r"line 1, one\.jpg +This prompt cannot be painted\. Use another\.", result.stderr)
    assert re.search(r"line 3, three-1\.jpg +The model image-01 failed", result.stderr)
    done = len(pipeline.requests)
    assert limner("batch", str(file), "-o", "out").exit_code == 1
    assert {request.prompt for request in pipeline.requests[done:]} == {"refuse this", "explode in decode"}


def test_the_longest_name_is_one_that_can_be_written(pipeline: Recorder) -> None:
    file = jsonl("lines.jsonl", {"prompt": "a fox", "name": "山" * 66 + "xy", "format": "webp", "n": 2, **SMALL})
    result = limner("batch", str(file), "-o", "out")
    assert (result.exit_code, len(pictures("out"))) == (0, 2), result.output


@pytest.mark.parametrize("painted_before", [False, True])
def test_a_file_that_is_no_batchs_is_not_replaced(painted_before: bool, pipeline: Recorder) -> None:
    """Nor by a dry run's word, and nothing else is painted either."""
    fox, boat = ({"prompt": f"a {name}", "name": name, "seed": 5, **SMALL} for name in ("fox", "boat"))
    Path("out").mkdir()
    if painted_before:
        assert limner("batch", str(jsonl("lines.jsonl", fox)), "-o", "out").exit_code == 0
    Path("out/boat.jpg").write_bytes(b"somebody's own")
    before, done = pictures("out"), len(pipeline.requests)
    file = jsonl("lines.jsonl", {**fox, "prompt": "another fox"}, boat)
    for more in (["--dry-run"], []):
        result = limner("batch", str(file), "-o", "out", *more)
        assert result.exit_code == 2
        assert "out/boat.jpg would be replaced, and no batch in that folder wrote it; move it away" in result.stderr
    assert (pictures("out"), len(pipeline.requests)) == (before, done)
    Path("out/boat.jpg").unlink()
    assert limner("batch", str(file), "-o", "out").exit_code == 0
    assert sorted(pictures("out")) == ["boat.jpg", "fox.jpg"]


def test_what_was_written_and_not_yet_recorded_is_the_batchs_own(pipeline: Recorder) -> None:
    """As where a power cut came between a picture and its line in the manifest."""
    file = jsonl("lines.jsonl", {"prompt": "a fox", "name": "fox", "seed": 5, **SMALL})
    assert limner("batch", str(file), "-o", "out").exit_code == 0
    begun, *_ = (Path("out") / MANIFEST).read_text("utf-8").splitlines(keepends=True)
    (Path("out") / MANIFEST).write_text(begun)
    assert limner("batch", str(file), "-o", "out").exit_code == 0
    assert len(pipeline.requests) == 2


def test_what_a_line_says_cannot_steer_the_terminal() -> None:
    file = jsonl("lines.jsonl", {"prompt": "a fox", "reference": "\x1b]0;owned\x07.png"})
    result = limner("batch", str(file), "-o", "out")
    assert result.exit_code == 2
    assert "Field reference: \ufffd]0;owned\ufffd.png cannot be read" in result.stderr
    assert "\x1b" not in result.output


def test_nothing_is_painted_of_a_file_with_a_wrong_line(pipeline: Recorder) -> None:
    file = jsonl("lines.jsonl", {"prompt": "a fox"}, {"prompt": "a fox", "n": 0}, {"prompt": ""})
    result = limner("batch", str(file), "-o", "out")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "lines.jsonl:2: Field n must be greater than or equal to 1; got 0.",
        "lines.jsonl:3: Field prompt must hold words: say what to paint.",
        "limner: 2 lines are wrong, so nothing was painted.",
    ]
    assert not pipeline.requests
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["lines.txt", "-o", "out"], "lines.txt must end in .csv or .jsonl"),
        (["none.csv", "-o", "out"], "none.csv cannot be read"),
        (["empty.csv", "-o", "out"], "empty.csv has no line to paint"),
        (["latin.csv", "-o", "out"], "latin.csv:2: This is not UTF-8"),
        (["good.jsonl"], "Missing option"),
        (["good.jsonl", "-o", "good.jsonl"], "The folder good.jsonl cannot be made"),
    ],
)
def test_what_cannot_be_read_or_written_is_a_sentence(arguments: list[str], sentence: str) -> None:
    Path("lines.txt").write_text("prompt\n")
    Path("empty.csv").write_text("prompt\n\n")
    Path("latin.csv").write_bytes(b"prompt\ncaf\xe9\n")
    jsonl("good.jsonl", {"prompt": "a fox"})
    result = limner("batch", *arguments)
    assert result.exit_code in (1, 2)
    assert sentence in re.sub(r"[\s│╭╮╰╯─]+", " ", result.stderr)
    assert "Traceback" not in result.output


def test_a_dry_run_says_what_is_left_and_paints_nothing(pipeline: Recorder) -> None:
    file = jsonl("lines.jsonl", {"prompt": "a fox", "name": "fox", **SMALL}, {"prompt": "a boat", "name": "b", "n": 2})
    result = limner("batch", str(file), "-o", "out", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "     1  fox.jpg\n     2  b-1.jpg, b-2.jpg\n")
    assert result.stderr == "2 of 2 lines would be painted into out, 3 pictures.\n"
    assert not Path("out").exists()
    jsonl("lines.jsonl", {"prompt": "a fox", "name": "fox", **SMALL})
    assert limner("batch", str(file), "-o", "out").exit_code == 0
    result = limner("batch", str(file), "-o", "out", "--dry-run")
    assert (result.stdout, result.stderr) == ("", "0 of 1 lines would be painted into out, 0 pictures; 1 are done.\n")
    assert len(pipeline.requests) == 1


def test_lines_can_be_piped_and_references_are_beside_the_file(tmp_path: Path, pipeline: Recorder) -> None:
    piped = limner("batch", "-", "-o", "out", stdin=json.dumps({"prompt": "a fox", **SMALL}))
    assert piped.exit_code == 0, piped.output
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (9, 5), (1, 2, 3)).save("sub/me.png")
    Image.new("RGB", (4, 4), (9, 9, 9)).save("sub/you.png")
    Path("sub/lines.csv").write_text("prompt,references\na hero,me.png | you.png\n")
    result = limner("batch", "sub/lines.csv", "-o", "out")
    assert result.exit_code == 0, result.output
    assert [picture.shape for picture in pipeline.requests[-1].references] == [(5, 9, 4), (4, 4, 4)]


# What may happen meanwhile


def kill_batch(file: Path, folder: str, end: signal.Signals) -> tuple[int, str]:
    """Begin a slow batch, and end it once some of its pictures are there."""
    running = slow_process("batch", str(file), "-o", folder, seconds=0.05)
    manifest = Path(folder) / MANIFEST
    wait_for(lambda: running.poll() is not None or (manifest.exists() and b'"files"' in manifest.read_bytes()))
    running.send_signal(end)
    _, errors = running.communicate(timeout=60)
    return running.returncode, errors


def test_a_batch_that_was_killed_goes_on_to_the_bytes_of_an_unbroken_one(pipeline: Recorder) -> None:
    rows = [{"prompt": f"fox number {k}", "name": f"fox{k}", **SMALL} for k in range(8)]
    file = jsonl("lines.jsonl", *rows)
    code, _ = kill_batch(file, "broken", signal.SIGKILL)
    assert code == -signal.SIGKILL
    with Path("broken", MANIFEST).open("ab") as manifest:
        manifest.write(b'{"line": "half of wh')
    Path("broken/.fox7.jpg.01234567").write_bytes(b"half of a picture")
    finished = [name for record in records_of_whole_lines("broken") for name in record]
    assert 1 <= len(finished) < 8
    assert limner("batch", str(file), "-o", "broken").exit_code == 0
    assert len(pipeline.requests) == 8 - len(finished)
    Path("unbroken").mkdir()
    seeds = [line for line in Path("broken", MANIFEST).read_text().splitlines() if '"names"' in line]
    assert len(seeds) == 8
    Path("unbroken", MANIFEST).write_text("".join(f"{line}\n" for line in seeds))
    assert limner("batch", str(file), "-o", "unbroken").exit_code == 0
    assert sorted(pictures("unbroken")) == [f"fox{k}.jpg" for k in range(8)]
    assert pictures("broken") == pictures("unbroken")


def records_of_whole_lines(folder: str) -> list[list[str]]:
    """Files of the lines that a manifest says are done."""
    found = []
    for text in (Path(folder) / MANIFEST).read_text("utf-8").splitlines():
        try:
            found.append([file["file"] for file in json.loads(text).get("files", [])])
        except ValueError:
            assert text.startswith('{"line": "half')
    return [files for files in found if files]


def test_ctrl_c_ends_a_batch_with_a_sentence_and_it_goes_on() -> None:
    file = jsonl("lines.jsonl", *({"prompt": f"fox number {k}", **SMALL} for k in range(8)))
    code, errors = kill_batch(file, "out", signal.SIGINT)
    assert code == 130
    assert re.fullmatch(r"limner: stopped; \d of 8 lines are done\. The same command goes on\.\n", errors)
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]
    result = limner("batch", str(file), "-o", "out")
    assert (result.exit_code, len(pictures("out"))) == (0, 8)


def test_two_batches_do_not_write_to_one_folder(tmp_path: Path) -> None:
    file = jsonl("lines.jsonl", {"prompt": "a fox", **SMALL})
    with Manifest(tmp_path):
        result = limner("batch", str(file), "-o", str(tmp_path))
    assert result.exit_code == 1
    assert "Another batch is writing to" in result.stderr
    with Manifest(tmp_path), pytest.raises(LimnerError, match="Another batch"):
        Manifest(tmp_path)


# On a service that runs


def test_a_service_paints_the_lines_and_keeps_the_jobs(serve: Callable[..., Server], pipeline: Recorder) -> None:
    server = serve(api_keys="sk-batch")
    file = jsonl("lines.jsonl", *({"prompt": f"fox number {k}", "seed": k, **SMALL} for k in range(3)))
    refused = limner("batch", str(file), "-o", "out", "--server", server.url)
    assert refused.exit_code == 1
    assert "No key came" in refused.stderr
    result = limner("batch", str(file), "-o", "out", "--server", server.url, "--key", "sk-batch", "--jobs", "3")
    assert result.exit_code == 0, result.output
    assert not pipeline.requests
    listed = server.client.get("/v1/jobs", headers={"Authorization": "Bearer sk-batch"}).json()["jobs"]
    assert {job["request"]["seed"] for job in listed} == {"0", "1", "2"}
    assert limner("batch", str(file), "-o", "here").exit_code == 0
    assert pictures("out") == pictures("here")


def test_a_service_that_has_no_room_is_waited_for(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limner.client.calls.LONGEST_WAIT", 0.1)  # the service says 10
    monkeypatch.setattr("limner.cli.painting.LONGEST_WAIT", 0.1)
    gate = threading.Semaphore(0)
    server = serve(gate=gate, backlog_limit=1, queue_limit=1)
    file = jsonl("lines.jsonl", *({"prompt": f"fox number {k}", **SMALL} for k in range(4)))

    def open_gate_once_one_was_refused() -> None:
        wait_for(lambda: re.search(r'limner_requests_total\{code="1002"', server.client.get("/metrics").text))
        gate.release(1000)

    opener = threading.Thread(target=open_gate_once_one_was_refused)
    opener.start()
    result = limner("batch", str(file), "-o", "out", "--server", server.url, "--jobs", "4")
    opener.join()
    assert result.exit_code == 0, result.output
    assert len(pictures("out")) == 4


def test_a_service_that_is_not_there_is_a_sentence_that_says_how_to_start_one() -> None:
    file = jsonl("lines.jsonl", {"prompt": "a fox"})
    result = limner("batch", str(file), "-o", "out", "--server", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "limner serve" in result.stderr
    assert "Traceback" not in result.output


def test_a_service_that_goes_away_ends_the_batch_and_what_was_painted_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.client.calls.LONGEST_WAIT", 1.0)  # for a stream that was cut
    file = jsonl("lines.jsonl", *({"prompt": f"fox number {k}", "name": f"fox{k}", **SMALL} for k in range(30)))
    running = slow_process("serve", "--port", "0", seconds=0.05)
    assert running.stdout is not None
    address = re.search(r"http://127\.0\.0\.1:\d+", running.stdout.readline())
    assert address is not None
    manifest = Path("out") / MANIFEST

    def kill() -> None:
        wait_for(lambda: manifest.exists() and b'"files"' in manifest.read_bytes())
        running.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    result = limner("batch", str(file), "-o", "out", "--server", address[0])
    killer.join()
    running.communicate(timeout=60)
    assert result.exit_code == 1
    assert "limner serve" in result.stderr
    assert "Traceback" not in result.output
    with Manifest(Path("out")) as kept:
        lines, _ = batch_lines.read(file.read_text(), ".jsonl", KNOWN)
        done = [line.files[0] for line in lines if kept.done(line)]
    assert 1 <= len(done) < 30
    assert sorted(pictures("out")) == sorted(done)


def test_ctrl_c_cancels_the_jobs_that_a_service_has_not_painted(serve: Callable[..., Server]) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    file = jsonl("lines.jsonl", *({"prompt": f"fox number {k}", **SMALL} for k in range(4)))
    running = slow_process("batch", str(file), "-o", "out", "--server", server.url, seconds=0)
    assert server.pipeline.entered.acquire(timeout=60)

    def jobs(state: str) -> int:
        return len(server.client.get("/v1/jobs", params={"state": state}).json()["jobs"])

    wait_for(lambda: jobs("queued,running") == 2)
    running.send_signal(signal.SIGINT)
    while running.poll() is None:  # the engine sees what was cancelled between two evaluations
        gate.release()
        time.sleep(0.05)
    _, errors = running.communicate(timeout=60)
    assert errors == "limner: stopped; 0 of 4 lines are done. The same command goes on.\n"
    assert running.returncode == 130
    assert (jobs("cancelled"), jobs("queued,running,done,failed")) == (2, 0)


@pytest.mark.parametrize("fails", ["encode", "one picture"])
def test_the_service_of_a_command_keeps_nothing_of_an_order_that_failed(
    fails: str, pipeline: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(request: Request, encoded: Encoded, x: Float32) -> UInt8:
        if request.seed % 2:
            raise Explosion
        return TinyPipeline.decode(pipeline, request, encoded, x)

    monkeypatch.setattr(pipeline, "decode", decode)
    prompt = "explode in encode" if fails == "encode" else "a fox"

    async def left() -> list[Job]:
        async with open_client(None, models=["image-01"]) as client:
            with pytest.raises(LimnerAPIError):
                await painting._painted(
                    client, {"prompt": prompt, "n": 2, "seed": 4, **SMALL}, lambda _: None, forget=True
                )
            return [job async for job in client.jobs()]

    assert asyncio.run(left()) == []


def test_an_order_that_ends_by_an_error_does_not_leave_its_job_painting(serve: Callable[..., Server]) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    ended = threading.Event()

    def crawl() -> None:  # the engine sees what was cancelled between two evaluations
        while not ended.wait(0.05):
            gate.release()

    crawler = threading.Thread(target=crawl)

    def broken(progress: Progress[Any]) -> None:
        if not crawler.is_alive():
            crawler.start()
        raise ServiceFailed("The stream of events broke.")

    async def left() -> list[Job]:
        async with open_client(server.url) as client:
            with pytest.raises(ServiceFailed, match="broke"):
                await painting._painted(client, {"prompt": "a fox", "steps": 100, **SMALL}, broken, forget=False)
            return [job async for job in client.jobs()]

    try:
        (job,) = asyncio.run(left())
    finally:
        ended.set()
        crawler.join()
    assert job.state == "cancelled"


# compare


def test_compare_makes_a_sheet_of_prompts_by_seeds_and_keeps_the_pictures(tmp_path: Path) -> None:
    result = limner(
        *("compare", "a red fox", "a boat", "--seeds", "0-1,7", "-o", "grid.png", "--files", "single"),
        *("--ratio", "21:9", "--side", "320"),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == "grid.png  2 × 3 pictures\n"
    singles = pictures("single")
    assert sorted(singles) == sorted(f"{name}-{seed}.png" for name in ("a-red-fox", "a-boat") for seed in (0, 1, 7))
    sheet = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB")).astype(int)
    assert sheet.shape[1] > 3 * 320
    for name in ("a-red-fox", "a-boat"):
        whole = Image.open(io.BytesIO(singles[f"{name}-7.png"])).convert("RGB")
        assert whole.size == (1344, 576)
    limner("generate", "a red fox", "--seed", "1", "--ratio", "21:9", "-o", "alone.png")
    assert Path("alone.png").read_bytes() == singles["a-red-fox-1.png"]


def test_compare_has_a_row_for_each_style(pipeline: Recorder) -> None:
    result = limner("compare", "a fox", "--style", "comic,flat", "--seeds", "4", "-o", "grid.jpg", "--steps", "2")
    assert result.exit_code == 0, result.output
    assert {(request.style, request.seed, request.steps) for request in pipeline.requests} == {
        ("comic", 4, 2),
        ("flat", 4, 2),
    }


def test_prompts_that_differ_in_signs_alone_have_files_of_their_own() -> None:
    prompts = ["a 3", "a", "a!"]
    result = limner("compare", *prompts, "--seeds", "0", "--steps", "1", "-o", "grid.jpg", "--files", "single")
    assert result.exit_code == 0, result.output
    assert len(pictures("single")) == len(prompts)


def test_a_cell_that_failed_is_told_and_the_sheet_is_made_all_the_same() -> None:
    result = limner("compare", "a fox", "refuse it", "--seeds", "0", "-o", "grid.png")
    assert result.exit_code == 1
    assert Path("grid.png").exists()
    assert re.search(r"refuse-it-0 +This prompt cannot be painted", result.stderr)
    assert limner("compare", "refuse it", "--seeds", "0", "-o", "none.png").exit_code == 1
    assert not Path("none.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seeds", "a"], "'a' is no seed and no range such as 0-5"),
        (["--seeds", "5-3"], "5-3 is no range of seeds"),
        (["--seeds", f"0-{2**63}"], "is no range of seeds"),
        (["--seeds", "0-100"], "There are more than 100 seeds"),
        (["-o", "grid.gif"], "grid.gif"),
        (["--style", "oil"], "Field style must be one of"),
        (["--ratio", "1x1"], "Field aspect_ratio must be one of"),
        (["--steps", "0"], "Field steps must be greater"),
        (["--model", "mine"], "Field model must be one of"),
        (["--seeds", "0-31", "-o", "grid.webp"], "a webp has at most 16383 a side; end its name in .png, or lower"),
        (["--seeds", "0-99", "--side", "1024", "-o", "a.jpg"], "a jpeg has at most 65500 a side; end its name in .png"),
        (["b", "--seeds", "0-99", "--side", "1024"], "at most 178000000 in all can be read again; ask for fewer"),
    ],
)
def test_compare_says_what_is_wrong_before_it_paints(arguments: list[str], sentence: str, pipeline: Recorder) -> None:
    result = limner("compare", "a fox", *arguments)
    assert result.exit_code == 2
    assert sentence in re.sub(r"[\s│╭╮╰╯─]+", " ", result.stderr)
    assert not pipeline.requests
