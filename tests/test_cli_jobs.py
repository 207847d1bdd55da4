"""`limner jobs` and `limner open` against services that run, and the page that describes the command line."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import httpx2
import pytest
import structlog
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from command_line import ENVIRONMENT, no_settings, process
from conftest import Server, wait_for
from limner.cli import batch_lines
from limner.cli.app import app


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_settings(monkeypatch, tmp_path)
    # The servers run in this process, and would write into what the commands print.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def limner(server: Server, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"LIMNER_BASE_URL": server.url})


def submit(server: Server, **fields: Any) -> str:
    body = {"prompt": "a red fox", "width": 512, "height": 512, **fields}
    reply = server.client.post("/v1/pictures", json=body, headers={"Prefer": "respond-async"})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def finished(server: Server, job_id: str) -> None:
    wait_for(lambda: server.client.get(f"/v1/jobs/{job_id}").json()["finished_at"])


# The list


def test_jobs_are_listed_the_newest_first(server: Server) -> None:
    empty = limner(server, "jobs")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "There are no jobs.\n")
    jobs = [submit(server, prompt="a red fox\non a hill", n=2), submit(server, prompt="refuse it")]
    for job in jobs:
        finished(server, job)
    result = limner(server, "jobs")
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["id", "state", "age", "pictures", "steps", "model", "prompt"]
    assert [row.split()[:2] for row in rows] == [[jobs[1][:8], "failed"], [jobs[0][:8], "done"]]
    assert re.search(r"\d+ s  2 × 512×512 +8/8  image-01  a red fox on a hill$", rows[1].rstrip())
    newest = limner(server, "jobs", "list", "--limit", "1").stdout.splitlines()[1:]
    assert [row.split()[0] for row in newest] == [jobs[1][:8]]
    filtered = json.loads(limner(server, "jobs", "--state", "done,running", "--json").stdout)
    assert [job["id"] for job in filtered] == jobs[:1]
    none = limner(server, "jobs", "--state", "queued,running")
    assert (none.stdout, none.stderr) == ("", "No job is queued or running.\n")
    wrong = limner(server, "jobs", "--state", "lost")
    assert wrong.exit_code == 2
    assert "The states are queued, running, done, failed, cancelled." in re.sub(r"[\s│]+", " ", wrong.stderr)


def test_a_job_is_shown_by_its_first_digits(server: Server) -> None:
    job = submit(server, prompt="a blue \x1b[31mboat", seed=5, steps=2)
    finished(server, job)
    result = limner(server, "jobs", "show", job[:10])
    assert result.exit_code == 0, result.output
    rows = dict(re.findall(r"^(\w+) +(.*)$", result.stdout, re.MULTILINE))
    assert rows["job"] == job
    assert rows["state"] == "done"
    assert rows["prompt"] == "a blue \ufffd[31mboat"
    assert rows["with"] == "seed 5, steps 2, format jpeg"
    assert rows["notes"] == "A note."
    assert re.fullmatch(rf"512×512  seed 5  {server.url}/files/\S+\.jpeg", rows["picture"])
    assert json.loads(limner(server, "jobs", "show", job, "--json").stdout)["id"] == job


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("zz", "limner: No job's id begins with 'zz'; limner jobs lists them.\n"),
        ("", "jobs' ids begin with ''; give more digits.\n"),
        ("0" * 32, "There is no job"),
    ],
)
def test_an_id_that_is_none_or_several_is_a_sentence(server: Server, given: str, sentence: str) -> None:
    for _ in range(2):
        submit(server)
    for command in ("show", "cancel", "delete", "save", "watch"):
        result = limner(server, "jobs", command, given)
        assert result.exit_code in (1, 2)
        assert sentence in result.stderr
        assert "Traceback" not in result.output


def test_a_job_that_failed_says_why(server: Server) -> None:
    job = submit(server, prompt="refuse it")
    finished(server, job)
    rows = limner(server, "jobs", "show", job).stdout
    assert re.search(r"^state +failed$", rows, re.MULTILINE)
    assert re.search(r"^error +This prompt cannot be painted\. Use another\.$", rows, re.MULTILINE)


HOSTILE = "\x1b]0;owned\x07\u202eeil\r\n[red]x"


@pytest.fixture
def hostile(server: Server) -> Iterator[str]:
    """Address of a service whose one job, failed, and whose every error would steer a terminal."""
    job_id = submit(server, prompt="refuse it")
    finished(server, job_id)
    told = json.loads(json.dumps(server.client.get(f"/v1/jobs/{job_id}").json()))
    told |= {
        "id": "\x1b[2J" + job_id[4:],
        "model": HOSTILE,
        "notes": [HOSTILE],
        "error": {"status_code": 1000, "status_msg": HOSTILE},
    }
    told["request"] |= {"prompt": HOSTILE, "style": HOSTILE}
    told["pictures"][0] |= {"state": "failed", "url": None, "error": {"status_code": 1000, "status_msg": HOSTILE}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"/v1/jobs": {"jobs": [told], "next": None}, f"/v1/jobs/{'0' * 32}": told}
            reply = known.get(self.path.partition("?")[0])
            body = json.dumps(reply or {"base_resp": {"status_code": 2013, "status_msg": HOSTILE}}).encode()
            self.send_response(200 if reply else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["show", "0" * 32], ["show", "1" * 32], ["watch", "0" * 32], ["cancel", "0" * 32]],
    ids=["list", "show", "an error", "watch", "cancel"],
)
def test_what_a_service_says_cannot_steer_the_terminal(hostile: str, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["jobs", *arguments, "--server", hostile])
    assert "Traceback" not in result.output
    assert "]0;owned\ufffd\ufffdeil  [red]x" in result.output
    assert all(line.isprintable() for line in result.output.splitlines())


# What is done to them


def test_jobs_are_cancelled_and_deleted(serve: Callable[..., Server]) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    job = submit(server, n=9, steps=200)
    assert server.pipeline.entered.acquire(timeout=30)
    cancelling = threading.Thread(target=wait_for, args=(lambda: _release(gate, server, job),))
    cancelling.start()
    first = limner(server, "jobs", "cancel", job[:8])
    cancelling.join()
    assert (first.exit_code, first.stdout) == (0, f"{job[:8]} is cancelled.\n")
    again = limner(server, "jobs", "cancel", job)
    assert (again.exit_code, again.stdout) == (0, f"{job[:8]} was cancelled already.\n")
    others = [submit(server), submit(server)]
    gate.release(1000)
    deleted = limner(server, "jobs", "delete", *others, job)
    assert deleted.stdout == "".join(f"{each[:8]} is deleted.\n" for each in (*others, job))
    assert server.client.get("/v1/jobs").json()["jobs"] == []


def _release(gate: threading.Semaphore, server: Server, job: str) -> bool:
    """Let the engine look up from its evaluation, so that it sees what was cancelled."""
    gate.release()
    return bool(server.client.get(f"/v1/jobs/{job}").json()["finished_at"])


def test_a_jobs_pictures_are_saved_with_their_bytes(server: Server) -> None:
    job = submit(server, prompt="A Red Fox!", seed=7, n=2, format="png")
    result = limner(server, "jobs", "save", job[:12], "-o", "deep/folder")  # which waits for it
    assert result.exit_code == 0, result.output
    files = [Path(f"deep/folder/a-red-fox-{job[:8]}-{seed}.png") for seed in (7, 8)]
    assert result.stdout == "".join(f"{file}  512×512  seed {7 + k}\n" for k, file in enumerate(files))
    pictures = server.client.get(f"/v1/jobs/{job}").json()["pictures"]
    assert [file.read_bytes() for file in files] == [server.client.get(each["url"]).content for each in pictures]
    Path("file").write_text("")
    refused = limner(server, "jobs", "save", job, "-o", "file")
    assert (refused.exit_code, refused.stderr) == (1, "limner: The folder file cannot be made: File exists.\n")


def test_watch_follows_one_or_all_to_the_end(serve: Callable[..., Server]) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)
    nothing = limner(server, "jobs", "watch")
    assert (nothing.exit_code, nothing.stderr) == (0, "No job is under way.\n")
    jobs = [submit(server, prompt="a fox"), submit(server, prompt="explode in decode")]
    gate.release(1000)
    every = limner(server, "jobs", "watch", jobs[0])
    assert (every.exit_code, every.stdout.split()) == (0, [jobs[0][:8], "a", "fox", "done"])
    failed = limner(server, "jobs", "watch", jobs[1])
    assert failed.exit_code == 1
    assert re.match(rf"{jobs[1][:8]}  explode in decode +The model image-01 failed", failed.stdout)


# Where there is no service


@pytest.mark.parametrize("command", [["jobs"], ["jobs", "watch"], ["jobs", "save", "0" * 32]])
def test_a_service_that_is_not_there_is_a_sentence_that_says_how_to_start_one(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--server", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "limner serve" in result.stderr
    assert "127.0.0.1:9" in result.stderr
    assert "Traceback" not in result.output


def test_the_key_comes_from_the_option_or_the_environment(serve: Callable[..., Server]) -> None:
    server = serve(api_keys="sk-jobs")
    refused = limner(server, "jobs")
    assert refused.exit_code == 1
    assert "No key came" in refused.stderr
    assert limner(server, "jobs", "--key", "sk-jobs").exit_code == 0
    environment = {"LIMNER_BASE_URL": f"{server.url}/v1", "LIMNER_API_KEY": "sk-jobs"}
    assert CliRunner().invoke(app, ["jobs"], env=environment).exit_code == 0
    wrong = limner(server, "jobs", "--key", "sk-none")
    assert (wrong.exit_code, "sk-none" in wrong.output) == (1, False)


# open


@pytest.fixture
def browser(tmp_path: Path) -> Callable[[], str]:
    """A browser that writes down what it is asked to open."""
    program, seen = tmp_path / "browser", tmp_path / "seen"
    program.write_text(f'#!/bin/sh\necho "$1" >> {seen}\n')
    program.chmod(0o755)

    def address() -> str:
        wait_for(lambda: seen.exists() and seen.read_text().endswith("\n"))
        return seen.read_text().strip()

    return address


def test_open_shows_a_service_that_runs(server: Server, browser: Callable[[], str], tmp_path: Path) -> None:
    script = "from limner.cli.app import app; app(prog_name='limner')"
    command = [sys.executable, "-c", script, "open", "--server", f"{server.url}/v1/"]
    environment = ENVIRONMENT | {"BROWSER": f"{tmp_path / 'browser'} %s"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == f"The studio is at {server.url}/\n"
    assert browser() == f"{server.url}/"
    (tmp_path / "seen").unlink()
    quiet = limner(server, "open", "--no-browser")
    assert (quiet.exit_code, quiet.stdout) == (0, f"The studio is at {server.url}/\n")
    assert not (tmp_path / "seen").exists()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("taken", [False, True])
def test_open_runs_a_service_where_none_answers(taken: bool, browser: Callable[[], str], tmp_path: Path) -> None:
    other = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=other.serve_forever).start()
    port = other.server_port if taken else free_port()
    running = process(
        "",
        "open",
        BROWSER=f"{tmp_path / 'browser'} %s",
        LIMNER_PORT=str(port),
        LIMNER_DATA_DIR=str(tmp_path / "data"),
    )
    try:
        address = browser()
        assert (address == f"http://127.0.0.1:{port}/") is not taken
        with httpx2.Client(base_url=address, trust_env=False, timeout=30) as client:
            assert client.get("/readyz").json()["status"] == "ready"
            assert "<title>" in client.get("/").text
            picture = client.post("/v1/pictures", json={"prompt": "a fox", "response_format": "url"}).json()
            data = client.get(picture["pictures"][0]["url"]).content
        assert Image.open(io.BytesIO(data)).size == (1024, 1024)
    finally:
        other.shutdown()
        other.server_close()
        running.send_signal(signal.SIGINT)
        out, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert f"The studio is at {address}" in out
    assert ("Something else answers" in errors) is taken
    assert "Traceback" not in errors


def test_open_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = CliRunner().invoke(app, ["open", "--server", "http://127.0.0.1:9"])
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert gone.stderr == "limner: No Limner answers at http://127.0.0.1:9. Start one there with `limner serve`.\n"
    monkeypatch.setenv("LIMNER_STUDIO", "false")
    off = CliRunner().invoke(app, ["open"])
    assert off.exit_code == 2
    assert "The setting studio is off" in off.stderr


# docs/cli.md

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
SHARED = {"--config", "--help"}
"""Options that the page explains once."""


def commands(command: click.Command, path: str = "limner") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its whole name."""
    children = getattr(command, "commands", {})
    if not children or any(option(parameter) for parameter in command.params):
        yield path, command
    for name, child in children.items():
        yield from commands(child, f"{path} {name}")


def option(parameter: click.Parameter) -> str | None:
    """What the page calls an option; None for arguments and for those that it explains once."""
    names = [*parameter.opts, *parameter.secondary_opts]
    return None if SHARED & set(names) or not names[0].startswith("-") else ", ".join(f"`{name}`" for name in names)


def rows(command: click.Command) -> list[str]:
    """The rows of a command's table on the page."""
    found = []
    for parameter in command.params:
        if (name := option(parameter)) is not None:
            told = " ".join(str(getattr(parameter, "help", "")).split()).replace("|", "\\|")
            told, _, default = told.partition(" [default: ")
            value = parameter.default
            if not default and not isinstance(value, bool | None):
                default = f"{getattr(value, 'value', value)}]"
            found.append(f"| {name} | {told} | {default.rstrip(']')} |".replace("|  |", "| |"))
    return found


def sections() -> dict[str, str]:
    """The page's sections by their headings."""
    parts = re.split(r"^#{2,3} `(limner[^`]*)`\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_every_command_and_option_and_no_other() -> None:
    found = sections()
    wanted = {path: rows(command) for path, command in commands(typer.main.get_command(app))}
    training = {path for path in wanted if path.startswith("limner train ")}
    assert set(found) == {path for path in wanted if path not in training} | {"limner train"}
    for path in training:
        assert f"`{path.removeprefix('limner train ')}`" in found["limner train"], path
    for path, lines in wanted.items():
        if path not in training:
            told = [line for line in found[path].splitlines() if line.startswith("| `-")]
            assert told == lines, path


def test_the_page_has_every_field_of_a_batch() -> None:
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", sections()["limner batch"], re.MULTILINE)
        for name in row.split(", ")
    }
    assert {name.strip("`") for name in named if not name.startswith("`-")} == batch_lines.FIELDS


def test_every_example_of_the_page_is_a_command_with_options_that_it_has() -> None:
    known = dict(commands(typer.main.get_command(app)))
    shown = [
        line.split(" #")[0].split(" > ")[0]
        for block in re.findall(r"```(?:ba)?sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("limner ")
    ]
    assert len(shown) > 30
    for line in shown:
        words = line.split()
        path = max((p for p in known if (" ".join(words) + " ").startswith(p + " ")), key=len, default=None)
        assert path is not None, line
        names = {name for parameter in known[path].params for name in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= names | {"--help"}, line
