"""The MCP server by the protocol's own SDK: in this process, as a subprocess over standard input, and over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
import uvicorn
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from typer.testing import CliRunner

from conftest import Server, serving, wait_for
from json_endpoint import Endpoint, raw
from limner.api.connections import server_config
from limner.cli.app import app
from limner.cli.mcp import clients
from limner.client import AsyncClient
from limner.config import Settings
from limner.errors import InvalidRequest, LimnerError, SettingsInvalid
from limner.mcp import files as mcp_files
from limner.mcp import http as mcp_http
from limner.mcp import server as mcp_server
from limner.mcp import tools as mcp_tools
from limner.mcp.server import SHOWN_BYTES, Handing, create_server

Serve = Callable[..., Server]
ROOT = Path(__file__).parent.parent
LIMNER = str(Path(sys.executable).with_name("limner"))
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LIMNER_", "MINIMAX_"))}
SMALL = {"prompt": "a red fox", "width": 512, "height": 512, "seed": 7}
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
MODES = ["legacy", "auto"]
"""The protocol with a handshake, and without one."""

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(ENVIRONMENT):
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that wants a key."""
    with serving(tmp_path_factory.mktemp("keyed"), api_keys="first,second") as running:
        yield running


@pytest.fixture(scope="module")
def web() -> Iterator[httpx2.Client]:
    """For requests that are none of the SDK's."""
    with httpx2.Client(trust_env=False) as client:
        yield client


def here(server: Server | str, handing: Handing | None = None, mode: str = "auto") -> Client:
    """A client of an MCP server in this process, which paints at `server`."""
    url = server if isinstance(server, str) else server.url
    return Client(create_server(lambda: clients(url, None), handing or Handing()), mode=mode)


def words(result: types.CallToolResult) -> str:
    """The text of an answer, whose structured content the SDK has checked against the tool's schema."""
    first = result.content[0]
    assert isinstance(first, types.TextContent)
    return first.text


def pictures(result: types.CallToolResult) -> list[Image.Image]:
    blocks = [block for block in result.content if isinstance(block, types.ImageContent)]
    assert {block.mime_type for block in blocks} <= {"image/jpeg"}
    images = [Image.open(io.BytesIO(base64.b64decode(block.data))) for block in blocks]
    assert {image.format for image in images} <= {"JPEG"}
    return images


def answer(result: types.CallToolResult) -> dict[str, Any]:
    assert not result.is_error, words(result)
    assert result.structured_content is not None
    return dict(result.structured_content)


def painted_file(kind: str, size: tuple[int, int] = (64, 64)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "green").save(out, kind)
    return out.getvalue()


# What the tools are


def documented() -> dict[str, set[str]]:
    """Tools and their parameters, from the table of docs/mcp.md."""
    table: dict[str, set[str]] = {"list_models": set()}
    for line in (ROOT / "docs/mcp.md").read_text("utf-8").splitlines():
        row = re.fullmatch(r"\| `(\w+)` \| ((?:`\w+_image`(?:, )?)+) \| .* \|", line)
        for tool in re.findall(r"`(\w+)`", row[2]) if row else ():
            table.setdefault(tool, set()).add(row[1] if row else "")
    return table


async def test_the_tools_and_their_parameters_are_those_of_the_documentation(server: Server) -> None:
    async with here(server, Handing(base=Path("x"))) as client:
        listed = {tool.name: set(tool.input_schema["properties"]) for tool in (await client.list_tools()).tools}
    assert listed == documented()


def test_defaults_and_enumerations_of_the_schemas_are_told_in_the_documentation() -> None:
    text = (ROOT / "docs/mcp.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", text, re.MULTILINE))
    for name, schema in mcp_tools.PARAMETERS.items():
        if "default" in schema:
            assert json.dumps(schema["default"]) in rows[name], name
    told = {field for schema in (mcp_tools.PAINTED, mcp_tools.LISTED) for field in schema["properties"]}
    told |= set(mcp_tools.PAINTED["properties"]["pictures"]["items"]["properties"])
    told |= set(mcp_tools.LISTED["properties"]["models"]["items"]["properties"])
    assert {field for field in told if f"`{field}`" not in text} == set()
    assert {name for name in mcp_tools.NAMES if f"`{name}`" not in text} == set()


async def test_each_tool_says_what_it_does_to_the_world(server: Server) -> None:
    async with here(server) as client:
        hints = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
    assert all(hints.values())
    assert {name for name, hint in hints.items() if hint and hint.read_only_hint} == {"list_models"}
    assert {name for name, hint in hints.items() if hint and hint.open_world_hint} == {"image_to_image"}
    assert not any(hint.destructive_hint for hint in hints.values() if hint)


def test_the_parameters_of_the_official_server_are_all_there() -> None:
    official = {"model", "prompt", "aspect_ratio", "n", "prompt_optimizer", "output_directory"}
    assert official <= set(mcp_tools.offered(files=True)[0].input_schema["properties"])


# Painting, in this process, at a live service


@pytest.mark.parametrize("mode", MODES)
async def test_pictures_come_in_the_answer_with_what_repeats_them(server: Server, mode: str) -> None:
    async with here(server, mode=mode) as client:
        result = await client.call_tool("text_to_image", {**SMALL, "n": 2, "height": 768})
        told = answer(result)
        assert [image.size for image in pictures(result)] == [(512, 768)] * 2
        assert [picture["seed"] for picture in told["pictures"]] == ["7", "8"]
        assert [(picture["width"], picture["height"]) for picture in told["pictures"]] == [(512, 768)] * 2
        assert told["failed"] == 0
        assert told["notes"] == ["A note."]
        assert "seed 8" in words(result)
        assert "A note." in words(result)
        job = server.client.get(f"/v1/jobs/{told['id']}").json()
        assert job["request"]["prompt_optimizer"] is True
        assert httpx2.get(told["pictures"][0]["url"]).headers["content-type"] == "image/jpeg"
        again = await client.call_tool("text_to_image", {**SMALL, "seed": "8", "height": 768})
        assert again.content[1] == result.content[2]


async def test_the_names_of_the_other_official_server_are_understood(server: Server, tmp_path: Path) -> None:
    async with here(server, Handing(base=tmp_path)) as client:
        given = {"prompt": "a hen", "aspectRatio": "16:9", "promptOptimizer": False, "outputDirectory": "hens"}
        told = answer(await client.call_tool("text_to_image", given))
    assert (told["pictures"][0]["width"], told["pictures"][0]["height"]) == (1280, 720)
    assert Path(told["pictures"][0]["path"]).parent == tmp_path / "hens"
    job = server.client.get(f"/v1/jobs/{told['id']}").json()
    assert job["request"]["prompt_optimizer"] is False


async def test_a_reference_is_a_file_a_data_url_or_several(server: Server, tmp_path: Path) -> None:
    (tmp_path / "my girl.png").write_bytes(painted_file("PNG"))
    data_url = f"data:image/png;base64,{base64.b64encode(painted_file('PNG')).decode()}"
    ways: list[Any] = ["my girl.png", str(tmp_path / "my girl.png"), (tmp_path / "my girl.png").as_uri(), data_url]
    async with here(server, Handing(base=tmp_path)) as client:
        for way in [*ways, [data_url, "my girl.png"]]:
            told = answer(await client.call_tool("image_to_image", {**SMALL, "subject_reference": way}))
            job = server.client.get(f"/v1/jobs/{told['id']}").json()
            assert job["request"]["references"] == (2 if isinstance(way, list) else 1)


async def test_files_are_written_below_the_base_path_and_told(server: Server, tmp_path: Path) -> None:
    async with here(server, Handing("local", tmp_path)) as client:
        result = await client.call_tool("text_to_image", {**SMALL, "n": 2, "prompt": "../狐狸 in a:box"})
        (first, second) = answer(result)["pictures"]
        assert pictures(result) == []
        assert [block.uri for block in result.content if isinstance(block, types.ResourceLink)] == [
            Path(first["path"]).as_uri(),
            Path(second["path"]).as_uri(),
        ]
        assert re.fullmatch(r"image_狐狸_in_a_box_[0-9a-f]{8}_1\.jpg", Path(first["path"]).name)
        assert Path(first["path"]).read_bytes() == httpx2.get(first["url"]).content
        assert set(tmp_path.iterdir()) == {Path(first["path"]), Path(second["path"])}


async def test_links_lead_to_the_service(server: Server) -> None:
    async with here(server, Handing("url")) as client:
        result = await client.call_tool("text_to_image", SMALL)
    (link,) = [block for block in result.content if isinstance(block, types.ResourceLink)]
    assert link.uri == answer(result)["pictures"][0]["url"]
    assert httpx2.get(link.uri).status_code == 200


async def test_a_service_that_ends_with_this_process_keeps_no_pictures_that_were_handed_out(server: Server) -> None:
    async with here(server, Handing(kept=False)) as client:
        told = answer(await client.call_tool("text_to_image", SMALL))
    assert "url" not in told["pictures"][0]
    assert server.client.get(f"/v1/jobs/{told['id']}").status_code == 404


async def test_the_models_are_listed(server: Server) -> None:
    async with here(server) as client:
        result = await client.call_tool("list_models")
    told = answer(result)
    assert [model["name"] for model in told["models"]] == ["image-01", "image-01-live"]
    assert json.loads(words(result)) == told


def test_pictures_that_are_too_large_for_clients_are_shown_smaller() -> None:
    noise = Image.effect_noise((1024, 1024), 100).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "JPEG", quality=95)
    assert out.tell() > SHOWN_BYTES
    shown = mcp_files.shown(out.getvalue(), "jpeg", SHOWN_BYTES // 9)
    assert len(shown) <= SHOWN_BYTES // 9
    assert Image.open(io.BytesIO(shown)).size == (256, 256)
    assert mcp_files.shown(shown, "jpeg", SHOWN_BYTES) is shown
    png = painted_file("PNG")
    assert Image.open(io.BytesIO(mcp_files.shown(png, "png", SHOWN_BYTES))).format == "JPEG"
    with pytest.raises(LimnerError, match="its file is damaged"):
        mcp_files.shown(png[:60], "png", SHOWN_BYTES)


# Progress and cancelling


@pytest.mark.parametrize("mode", MODES)
async def test_progress_is_told_at_every_step_and_always_grows(server: Server, mode: str) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async with here(server, mode=mode) as client:
        await client.call_tool("text_to_image", {**SMALL, "n": 2}, progress_callback=hear)
    values = [progress for progress, _, _ in heard]
    assert values == sorted(set(values))
    assert values[0] == 0
    assert heard[0][2] == "starting"
    assert heard[-1] == (8, 8, "painting, step 8 of 8")  # two pictures of four steps


async def test_a_call_that_waits_is_told_how_many_pictures_come_before_it(serve: Serve) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate, queue_limit=2)
    heard: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))
        if message is not None and message.startswith("waiting"):
            gate.release(10_000)

    assert server.client.post("/v1/jobs", json={"model": "image-01", "prompt": "a hen", "n": 2}).status_code == 202
    await anyio.to_thread.run_sync(server.pipeline.entered.acquire)
    async with here(server) as client:
        answer(await client.call_tool("text_to_image", SMALL, progress_callback=hear))
    assert heard[1] == (0.5, "waiting, 2 pictures before it")
    values = [progress for progress, _ in heard]
    assert values == sorted(set(values))
    assert values[-1] == 4


@contextmanager
def over_http(
    url: str | None, address: str = "127.0.0.1", names: tuple[str, ...] = (), handing: Handing | None = None
) -> Iterator[str]:
    """An MCP server that answers over HTTP as if it listened on `address`; yields where it is."""
    served = create_server(lambda: clients(url, None), handing or Handing())
    config = server_config(mcp_http.application(served, address, names, url), Settings(), lifespan="on")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def fixed_http(server: Server) -> Iterator[str]:
    """An MCP server over HTTP, for several tests."""
    with over_http(server.url, names=("pictures.lan",)) as url:
        yield url


@asynccontextmanager
async def calling(url: str, mode: str = "auto", **headers: str) -> AsyncIterator[Client]:
    """The SDK's client of an MCP server over HTTP."""
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", ["memory", "http"])
def test_a_call_that_is_given_up_cancels_its_job(serve: Serve, transport: str, mode: str) -> None:
    gate = threading.Semaphore(0)
    server = serve(gate=gate)

    async def give_up(connection: Any) -> None:
        async with connection as client, anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "text_to_image", SMALL)
            await anyio.to_thread.run_sync(server.pipeline.entered.acquire)
            group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(wait_for, lambda: jobs("cancelled"))

    def jobs(state: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = server.client.get("/v1/jobs", params={"state": state}).json()["jobs"]
        return found

    if transport == "memory":
        anyio.run(give_up, here(server, mode=mode))
    else:
        with over_http(server.url) as url:
            anyio.run(give_up, calling(url, mode))
    assert len(jobs("cancelled")) == 1
    assert jobs("running,queued,done") == []


def test_the_end_of_the_connection_cancels_what_is_being_painted(serve: Serve) -> None:
    server = serve(gate=threading.Semaphore(0))
    with subprocess.Popen(
        [LIMNER, "mcp"],
        env=ENVIRONMENT | {"LIMNER_BASE_URL": server.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        for message in (
            {"id": 1, "method": "initialize", "params": HELLO},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": {"name": "text_to_image", "arguments": SMALL}},
        ):
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()
        server.pipeline.entered.acquire()
        process.stdin.close()
        assert process.wait(60) == 0
    wait_for(lambda: server.client.get("/v1/jobs?state=cancelled").json()["jobs"])


async def test_a_call_can_be_given_up_while_the_service_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_server, "CANCEL_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with here(url) as client, anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "text_to_image", SMALL)
            connection, _ = await anyio.to_thread.run_sync(silent.accept)
            with connection:
                await anyio.to_thread.run_sync(connection.recv, 1)
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(client_left, connection)


def client_left(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


async def test_a_job_that_is_accepted_after_its_call_was_given_up_is_cancelled(serve: Serve) -> None:
    server = serve(gate=threading.Semaphore(0), reference_allow="127.0.0.1/32")
    picture = painted_file("PNG")
    with socket.create_server(("127.0.0.1", 0)) as slow:
        given = {**SMALL, "subject_reference": f"http://127.0.0.1:{slow.getsockname()[1]}/"}
        async with here(server) as client, anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "image_to_image", given)
            connection, _ = await anyio.to_thread.run_sync(slow.accept)
            with connection, anyio.CancelScope(shield=True):
                group.cancel_scope.cancel()
                await anyio.sleep(0)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
                await anyio.to_thread.run_sync(connection.sendall, head + picture)
    assert [job["state"] for job in server.client.get("/v1/jobs").json()["jobs"]] == ["cancelled"]


async def test_a_job_that_failed_by_itself_is_not_cancelled(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def cancel(self: AsyncClient, job: str) -> None:
        asked.append(job)

    monkeypatch.setattr(AsyncClient, "cancel", cancel)
    async with here(server) as client:
        assert (await client.call_tool("text_to_image", {**SMALL, "prompt": "explode in encode"})).is_error
    assert asked == []


# What goes wrong


@pytest.mark.parametrize(
    ("tool", "given", "sentence"),
    [
        ("text_to_image", {**SMALL, "width": 511}, "Field width must be"),
        ("text_to_image", {**SMALL, "n": 10}, "Field n must be less than or equal to 9"),
        ("text_to_image", {**SMALL, "n": "many"}, "Field n"),
        ("text_to_image", {**SMALL, "aspect_ratio": "1:1"}, "not both"),
        ("text_to_image", {"prompt": "a fox", "aspect_ratio": "7:1"}, "aspect_ratio"),
        ("text_to_image", {"prompt": "a fox", "width": 512}, "width and height"),
        ("text_to_image", {**SMALL, "model": "image-09"}, "model"),
        ("text_to_image", {**SMALL, "seed": "seven"}, "seed must be an integer"),
        ("text_to_image", {**SMALL, "prompt": " "}, "Field prompt is required"),
        ("text_to_image", {**SMALL, "prompt": 7}, "prompt must be text"),
        ("text_to_image", {"prompt": None}, "text_to_image needs the parameter prompt"),
        ("text_to_image", {**SMALL, "colour": "red"}, "text_to_image has no parameter colour; it takes prompt, model"),
        ("text_to_image", {**SMALL, "subjectReference": "x"}, "has no parameter subject_reference"),
        ("image_to_image", SMALL, "image_to_image needs the parameter subject_reference"),
        ("image_to_image", {**SMALL, "subject_reference": {"a": 1}}, "subject_reference must be text"),
        ("image_to_image", {**SMALL, "subject_reference": ["gone.png"] * 17}, "takes at most 16 pictures"),
        ("image_to_image", {**SMALL, "subject_reference": "data:image/png;base64,AAAA"}, "reference"),
        ("image_to_image", {**SMALL, "subject_reference": "http://127.0.0.1:1/x.png"}, "reference"),
        ("text_to_image", {**SMALL, "output_directory": "../elsewhere"}, "output_directory must be below"),
        ("text_to_image", {**SMALL, "output_directory": 3}, "output_directory must be text"),
        ("text_to_image", {**SMALL, "prompt": "please refuse"}, "This prompt cannot be painted. Use another."),
        ("text_to_image", {**SMALL, "prompt": "explode in encode"}, "failed while reading the request"),
        ("list_models", {"all": True}, "list_models has no parameter all; it takes none."),
    ],
)
async def test_what_is_wrong_is_told_in_one_sentence(
    server: Server, tmp_path: Path, tool: str, given: dict[str, Any], sentence: str
) -> None:
    async with here(server, Handing(base=tmp_path)) as client:
        result = await client.call_tool(tool, given)
    assert result.is_error
    assert sentence in words(result)
    assert words(result).endswith(".")
    assert "Traceback" not in words(result)
    assert result.structured_content is None
    assert list(tmp_path.iterdir()) == []


async def test_a_tool_that_is_not_there_is_an_error_of_the_protocol(server: Server) -> None:
    async with here(server) as client:
        with pytest.raises(MCPError, match="There is no such tool; there are text_to_image") as caught:
            await client.call_tool("paint")
        assert caught.value.error.code == types.INVALID_PARAMS


@contextmanager
def minimax(*links: str) -> Iterator[str]:
    """A service like MiniMax's own, which has no jobs, and whose pictures are at these links; yields where it is."""
    painted = {"id": "../1f", "data": {"image_urls": links}, "base_resp": {"status_code": 0, "status_msg": "success"}}

    def reply(handler: BaseHTTPRequestHandler) -> None:
        known = handler.path == "/v1/image_generation"
        raw(200 if known else 404, json.dumps(painted).encode() if known else b"404 page not found")(handler)

    endpoint = Endpoint(reply)
    try:
        yield endpoint.url
    finally:
        endpoint.close()


def a_link(server: Server, **fields: Any) -> str:
    body = {"model": "image-01", "prompt": "a red fox", "width": 512, "height": 512, **fields}
    link: str = server.client.post("/v1/pictures", json=body).json()["pictures"][0]["url"]
    return link


async def test_minimax_s_own_service_paints_too(server: Server) -> None:
    with minimax(link := a_link(server)) as url:
        async with here(url) as client:
            result = await client.call_tool("text_to_image", {"prompt": "a red fox", "aspect_ratio": "1:1"})
            assert answer(result)["pictures"] == [{"url": link}]
            assert len(pictures(result)) == 1
            result = await client.call_tool("text_to_image", {"prompt": "a red fox", "style": "flat"})
            assert result.is_error


async def test_a_file_is_named_and_told_of_by_the_format_that_it_has(server: Server, tmp_path: Path) -> None:
    with minimax(a_link(server, format="png")) as url:
        async with here(url, Handing("local", tmp_path)) as client:
            result = await client.call_tool("text_to_image", {"prompt": "a red fox"})
    (link,) = [block for block in result.content if isinstance(block, types.ResourceLink)]
    assert link.mime_type == "image/png"
    assert [path.name for path in tmp_path.iterdir()] == ["image_a_red_fox_1f_1.png"]


async def test_a_picture_that_cannot_be_had_does_not_take_the_others_with_it(server: Server) -> None:
    gone, link = f"{server.url}/files/gone.jpg", a_link(server)
    with minimax(gone, link) as url:
        async with here(url) as client:
            result = await client.call_tool("text_to_image", {"prompt": "a red fox", "n": 2})
    assert answer(result)["pictures"] == [{"url": gone}, {"url": link}]
    assert len(pictures(result)) == 1
    (note,) = answer(result)["notes"]
    assert note.startswith("Picture 1: ")
    assert note in words(result)


async def test_where_no_picture_can_be_handed_out_the_job_and_its_links_are_told(server: Server) -> None:
    gone = f"{server.url}/files/gone.jpg"
    with minimax(gone) as url:
        async with here(url) as client:
            result = await client.call_tool("text_to_image", {"prompt": "a red fox"})
    assert result.is_error
    assert gone in words(result)
    assert "Job ../1f is painted" in words(result)


async def test_a_picture_that_is_not_written_stays_at_its_link(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setattr(mcp_files, "name", lambda *_: "taken")
    async with here(server, Handing("local", tmp_path, kept=False)) as client:
        result = await client.call_tool("text_to_image", SMALL)
    assert result.is_error
    assert "could not be written" in words(result)
    assert "seed 7" in words(result)
    (link,) = re.findall(r"http://\S+", words(result))
    assert httpx2.get(link).status_code == 200


async def test_pictures_that_nobody_can_come_for_go_also_where_the_server_fails(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(mcp_files, "shown", fail)
    before = server.client.get("/v1/jobs").json()["jobs"]
    async with here(server, Handing(kept=False)) as client:
        assert "what it wrote to its log" in words(await client.call_tool("text_to_image", SMALL))
    assert server.client.get("/v1/jobs").json()["jobs"] == before


async def test_a_service_that_is_not_there_is_told() -> None:
    async with here("http://127.0.0.1:9") as client, anyio.create_task_group() as group:  # both at once: each waits

        async def call(tool: str, given: dict[str, Any]) -> None:
            result = await client.call_tool(tool, given)
            assert result.is_error
            assert "http://127.0.0.1:9" in words(result)

        group.start_soon(call, "list_models", {})
        group.start_soon(call, "text_to_image", SMALL)


async def test_a_fault_of_this_server_s_own_is_in_its_log_and_not_in_the_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[Any]:
        @asynccontextmanager
        async def client_of(key: str | None) -> AsyncIterator[AsyncClient]:
            raise ZeroDivisionError("a secret")
            yield

        yield client_of

    async with Client(create_server(broken, Handing())) as client:
        result = await client.call_tool("text_to_image", SMALL)
    assert result.is_error
    assert words(result) == "The MCP server failed; what it wrote to its log says why. Try again."
    assert "ZeroDivisionError" in capsys.readouterr().out  # of the tests' logger


async def test_the_service_is_opened_by_the_first_call_and_tried_again_where_it_failed() -> None:
    tries: list[str] = []
    async with Client(create_server(lambda: clients(None, Path("no such file.toml")), Handing())) as client:
        assert len((await client.list_tools()).tools) == 3
        for _ in range(2):
            result = await client.call_tool("list_models")
            assert result.is_error
            tries.append(words(result))
    assert len(tries) == 2
    assert "no such file.toml" in tries[0]


# Files


def test_no_picture_is_written_outside_the_base_path(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (tmp_path / "outside").mkdir()
    assert mcp_files.folder(base, None) == base.resolve()
    assert mcp_files.folder(base, "a/b/../c") == base.resolve() / "a/c"
    assert mcp_files.folder(base, str(base / "d")) == base.resolve() / "d"
    (base / "link").symlink_to(tmp_path / "outside")
    for way in ("..", "../outside", "/", "~", "link", "link/x", str(tmp_path / "outside")):
        with pytest.raises(InvalidRequest, match="must be below"):
            mcp_files.folder(base, way)
    for way in ("a\0b", "~nobody-of-this-name/x"):
        with pytest.raises(InvalidRequest, match="must be the path of a folder"):
            mcp_files.folder(base, way)
    (base / "file").write_text("")
    with pytest.raises(LimnerError, match="cannot be made"):
        mcp_files.folder(base, "file/x")
    assert list((tmp_path / "outside").iterdir()) == []


def test_no_file_is_written_over(tmp_path: Path) -> None:
    path = mcp_files.write(tmp_path / "a.jpg", b"one")
    with pytest.raises(LimnerError, match="could not be written"):
        mcp_files.write(path, b"two")
    assert path.read_bytes() == b"one"


def test_a_file_s_name_holds_nothing_that_leads_elsewhere() -> None:
    assert mcp_files.name("a fox", "0123456789", 1, "jpeg") == "image_a_fox_01234567_1.jpg"
    assert mcp_files.name("../a", "../../x", 1, "jpeg") == "image_a_x_1.jpg"  # a foreign service's job
    assert mcp_files.name("界" * 500, "0123456789", 2, "png") == f"image_{'界' * 30}_01234567_2.png"


async def test_only_pictures_are_read_out(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_text("-----BEGIN PRIVATE KEY-----")
    (tmp_path / "picture.gif").write_bytes(painted_file("GIF"))
    with (tmp_path / "huge.png").open("wb") as file:
        file.write(painted_file("PNG"))
        file.truncate(10_000_001)
    os.mkfifo(tmp_path / "pipe")
    gone = ("pipe", ".", "gone.png", "a\0b", "~nobody-of-this-name/x.png")
    async with here(server, Handing(base=tmp_path)) as client:
        for way, sentence in (
            ("secret.png", "is no JPEG, PNG or WebP"),
            ("picture.gif", "is no JPEG, PNG or WebP"),
            ("huge.png", "at most 10 MB"),
            ("x" * 5000, "cannot be read"),
            *((name, "There is no file") for name in gone),
        ):
            result = await client.call_tool("image_to_image", {**SMALL, "subject_reference": way})
            assert result.is_error
            assert sentence in words(result)


async def test_no_file_is_read_or_written_for_callers_over_http(fixed_http: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(painted_file("PNG"))
    async with calling(fixed_http) as client:
        tools = {tool.name: tool.input_schema["properties"] for tool in (await client.list_tools()).tools}
        assert "output_directory" not in tools["text_to_image"]
        assert "file" not in tools["image_to_image"]["subject_reference"]["description"]
        result = await client.call_tool("text_to_image", {**SMALL, "output_directory": str(tmp_path)})
        assert "has no parameter output_directory" in words(result)
        result = await client.call_tool("image_to_image", {**SMALL, "subject_reference": str(tmp_path / "a.png")})
        assert "files of this machine are not read" in words(result)


# Over HTTP


@pytest.mark.parametrize("mode", MODES)
async def test_pictures_and_progress_come_over_http(fixed_http: str, mode: str) -> None:
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async with calling(fixed_http, mode) as client:
        result = await client.call_tool("text_to_image", SMALL, progress_callback=hear)
        assert [image.size for image in pictures(result)] == [(512, 512)]
    assert heard == sorted(set(heard))
    assert heard[-1] == 4


@pytest.mark.parametrize("mode", MODES)
async def test_the_caller_s_key_is_the_one_that_counts(
    keyed: Server, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("LIMNER_API_KEY", "first")
    with over_http(keyed.url) as url:
        for key, right in (("second", True), ("third", False)):
            async with calling(url, mode, Authorization=f"Bearer {key}") as client:
                result = await client.call_tool("text_to_image", SMALL)
                assert result.is_error is not right
                assert right or "key" in words(result)
        async with calling(url, mode) as client:
            answer(await client.call_tool("text_to_image", SMALL))  # this machine's own


async def test_on_another_address_than_loopback_each_call_brings_a_key(
    keyed: Server, web: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMNER_API_KEY", "first")
    key: dict[str, str | bytes] = {"Authorization": "Bearer first"}
    refused: tuple[tuple[dict[str, str | bytes], str], ...] = (
        ({}, "Send a key"),
        ({"Authorization": "Basic first"}, "Send a key"),
        ({"Authorization": "Bearer"}, "Send a key"),
        ({"Authorization": "Bearer other"}, "key"),
        ({"Authorization": "Bearer schlüssel".encode()}, "key"),
    )
    with over_http(keyed.url, "192.0.2.7", ("mcp.example",)) as url:
        async with calling(url, Authorization="Bearer first", Host="mcp.example") as client:
            answer(await client.call_tool("text_to_image", SMALL))
        for given, sentence in refused:
            reply = web.post(url, json={}, headers={"Host": "mcp.example", **given})
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"] == "Bearer"
            assert sentence in reply.json()["error_description"]
        assert web.post(url, json={}, headers=key).status_code == 421  # by another name
    with over_http("http://127.0.0.1:9", "192.0.2.7") as url:
        reply = web.post(url, json={}, headers=key)
        assert reply.status_code == 503
        assert "http://127.0.0.1:9" in reply.json()["error_description"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "pictures.lan:8001"}, 200),
        ({}, 200),
    ],
)
@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
def test_pages_of_other_sites_are_kept_out(
    web: httpx2.Client, fixed_http: str, headers: dict[str, str], status: int, version: str
) -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
    hello = {**HELLO, "protocolVersion": version}
    method, params = ("initialize", hello) if version < "2026" else ("tools/list", {"_meta": meta})
    sent = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": version, "Mcp-Method": method}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    reply = web.post(fixed_http, json=message, headers={**sent, **headers})
    assert reply.status_code == status, reply.text


def test_a_session_belongs_to_the_key_that_began_it(web: httpx2.Client, fixed_http: str) -> None:
    headers = {"Accept": "application/json, text/event-stream", "Authorization": "Bearer mine"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
    begun = web.post(fixed_http, json=message, headers=headers)
    session = {"Mcp-Session-Id": begun.headers["mcp-session-id"]}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    statuses = [
        web.post(fixed_http, json=ping, headers={**headers, **session, **key}).status_code
        for key in ({}, {"Authorization": "Bearer theirs"}, {"Authorization": ""})
    ]
    assert statuses == [200, 404, 404]


async def test_it_does_not_open_a_service_to_strangers(keyed: Server, server: Server) -> None:
    await mcp_http.check_open("127.0.0.1", (), None)
    await mcp_http.check_open("192.0.2.7", (), keyed.url)
    await mcp_http.check_open("0.0.0.0", ("mcp.example",), keyed.url)
    for address, url, sentence in (
        ("192.0.2.7", None, "name it by --server"),
        ("0.0.0.0", keyed.url, "--allow-host"),
        ("192.0.2.7", server.url, "wants no keys"),
    ):
        with pytest.raises(SettingsInvalid, match=sentence):
            await mcp_http.check_open(address, (), url)
    with pytest.raises(LimnerError, match="could not be asked about keys"):
        await mcp_http.check_open("192.0.2.7", (), "http://127.0.0.1:9")


# The command


def stdio(*arguments: str, **environment: str) -> StdioServerParameters:
    return StdioServerParameters(command=LIMNER, args=["mcp", *arguments], env=environment)


@asynccontextmanager
async def talking(parameters: StdioServerParameters, log: Path, mode: str, strays: list[Any]) -> AsyncIterator[Client]:
    """The SDK's client of the command; lines of its standard output that are none of the protocol's go to `strays`."""

    async def hear(message: Any) -> None:
        if isinstance(message, Exception):
            strays.append(message)

    with log.open("w") as errors:
        async with Client(stdio_client(parameters, errlog=errors), mode=mode, message_handler=hear) as client:
            yield client


async def test_a_configuration_of_the_official_server_moves_over(keyed: Server, tmp_path: Path) -> None:
    parameters = stdio(
        MINIMAX_API_HOST=keyed.url,
        MINIMAX_API_KEY="second",
        MINIMAX_MCP_BASE_PATH=str(tmp_path / "pictures"),
        MINIMAX_API_RESOURCE_MODE="local",
    )
    strays: list[Any] = []
    async with talking(parameters, tmp_path / "log", "legacy", strays) as client:
        given = {"model": "image-01", "prompt": "a red fox", "aspect_ratio": "1:1", "n": 1}
        given |= {"prompt_optimizer": True, "output_directory": "foxes"}
        told = answer(await client.call_tool("text_to_image", given))
        assert Path(told["pictures"][0]["path"]).parent == tmp_path / "pictures/foxes"
        with Image.open(told["pictures"][0]["path"]) as image:
            assert image.size == (1024, 1024)
    assert strays == []
    assert (tmp_path / "log").read_text() == ""


NOISE = """
import os, sys, warnings

class Noisy:
    def find_spec(self, name, path=None, target=None):
        if name == "openvino":
            print("noise of Python's")
            os.write(1, b"noise of native code\\n")
            warnings.warn("noise of warnings")

sys.meta_path.insert(0, Noisy())
"""


async def test_without_a_service_it_paints_itself_and_nothing_but_the_protocol_is_on_standard_output(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOISE)
    strays: list[Any] = []
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    parameters = stdio("--base-path", str(tmp_path), PYTHONPATH=str(tmp_path), PYTHONWARNINGS="always")
    async with talking(parameters, tmp_path / "log", "auto", strays) as client:
        given = {**SMALL, "prompt_optimizer": False, "output_directory": "out"}
        result = await client.call_tool("text_to_image", given, progress_callback=hear)
        told = answer(result)
        assert pictures(result)[0].size == (512, 512)
        assert set(told["pictures"][0]) == {"seed", "width", "height", "path"}
        file = Path(told["pictures"][0]["path"]).read_bytes()
        assert base64.b64encode(file).decode() == result.content[1].data  # type: ignore[union-attr]  # checked
    assert strays == []
    assert heard == sorted(set(heard))
    assert {"noise of Python's", "noise of native code"} <= set((tmp_path / "log").read_text().splitlines())
    assert "noise of warnings" in (tmp_path / "log").read_text()


async def test_the_command_listens_on_loopback_and_says_where(server: Server) -> None:
    with subprocess.Popen(
        [LIMNER, "mcp", "--transport", "streamable-http", "--port", "0"],
        env=ENVIRONMENT | {"LIMNER_BASE_URL": server.url, "MINIMAX_MCP_BASE_PATH": "pictures"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.fullmatch(r"Limner's MCP server at (http://127\.0\.0\.1:\d+/mcp)\n", line)
            assert found, line
            async with calling(found[1]) as client:
                result = await client.call_tool("text_to_image", SMALL)
                assert pictures(result)[0].size == (512, 512)
        finally:
            process.terminate()
        out, errors = process.communicate()
    assert (process.returncode, out, errors) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--transport", "streamable-http", "--results", "local"], 2, "Over HTTP no files are written"),
        (["--transport", "streamable-http", "--host", "0.0.0.0", "--port", "0"], 2, "name it by --server"),
        (["--transport", "streamable-http", "--host", "no such host"], 1, "cannot be listened on"),
        (["--server", "ftp://x"], 2, "ftp://x"),
        (["--config", "gone.toml"], 2, "gone.toml"),
        (["--results", "video"], 2, "video"),
        (["--host", "127.0.0.1"], 2, "--host has no effect over stdio"),
        (["--port", "8001"], 2, "--port has no effect over stdio"),
        (["--allow-host", "x"], 2, "--allow-host has no effect over stdio"),
        (["--transport", "streamable-http", "--base-path", "."], 2, "--base-path has no effect over streamable-http"),
    ],
)
def test_what_is_wrong_with_its_options_is_told_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["mcp", *arguments])
    assert done.exit_code == code, done.output
    assert sentence in " ".join(re.findall(r"[^\s│]+", done.stderr))
    assert done.stdout == ""


def test_without_the_sdk_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    done = CliRunner().invoke(app, ["mcp"])
    assert done.exit_code == 1
    assert done.stderr.endswith("pip install 'limner[mcp]'.\n")
