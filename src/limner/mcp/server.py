"""The MCP server: pictures as tools of chat programs and agents (docs/mcp.md), by the protocol's own SDK.

It stands on `limner.client` alone: whatever service the client speaks to does the checking and the painting, and its
sentences are what the caller reads. One call is one job, followed for its progress and cancelled with the call.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import anyio
import structlog
from mcp.server import Server, ServerRequestContext
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    ImageContent,
    ListToolsResult,
    PaginatedRequestParams,
    ResourceLink,
    TextContent,
)

import limner
from limner.client import (
    AsyncClient,
    AsyncImage,
    ConnectionFailed,
    Job,
    LimnerAPIError,
    NotFound,
    Progress,
    RateLimited,
    Result,
    TimedOut,
)
from limner.errors import InvalidRequest, LimnerError
from limner.mcp import files
from limner.mcp.tools import REFERENCES, arguments_of, offered

log = structlog.get_logger(__name__)

Results = Literal["image", "local", "url"]
"""How pictures are handed out: in the answer itself, as files of the user's machine, or as links."""

SHOWN_BYTES: Final = 600_000
"""Most bytes of all pictures in one answer together. Clients drop answers of over 1 MB; base64 makes 4 of 3."""

CANCEL_SECONDS: Final = 5
"""How long a call that was given up may take to cancel its job, or to delete it."""

LOST: Final = (ConnectionFailed, RateLimited, TimedOut)
"""Failures to follow a job after which it may be painted still; all others are its end, or there is no such job."""


@dataclass(frozen=True, slots=True)
class Handing:
    """How pictures reach the caller."""

    results: Results = "image"
    base: Path | None = None  # no file is written outside, and relative references begin there; None: no files at all
    kept: bool = True  # the service outlives this process, and its links with it


Clients = Callable[[str | None], AbstractAsyncContextManager[AsyncClient]]
"""A client of the service: under the key of the caller, or, where that is None, under this process's own."""

Report = Callable[[float, float | None, str], Awaitable[None]]
"""Told of progress: so much, of how much where that is known, and in words."""


def create_server(opened: Callable[[], AbstractAsyncContextManager[Clients]], handing: Handing) -> Server[Clients]:
    """The server, for any transport. `opened` is entered when it starts and left when it stops."""
    tools = {tool.name: tool for tool in offered(files=handing.base is not None)}

    @asynccontextmanager
    async def lifespan(_: Server[Clients]) -> AsyncIterator[Clients]:
        async with opened() as clients:
            yield clients

    async def list_tools(
        _context: ServerRequestContext[Clients], _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=list(tools.values()))

    async def call_tool(context: ServerRequestContext[Clients], params: CallToolRequestParams) -> CallToolResult:
        tool = tools.get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"There is no such tool; there are {', '.join(tools)}.")
        try:
            given = arguments_of(tool, params.arguments or {})
            await context.session.report_progress(0, None, "starting")  # the service may have to load its model first
            async with context.lifespan_context(_bearer(context)) as client:
                if tool.name == "list_models":
                    return await _list_models(client)
                return await _paint(client, given, context.session.report_progress, handing)
        except (LimnerError, LimnerAPIError) as error:
            return _failure(error.message)
        except Exception:
            log.exception("tool failed", tool=tool.name)
            return _failure("The MCP server failed; what it wrote to its log says why. Try again.")

    return Server(
        "limner",
        version=limner.__version__,
        title="Limner",
        instructions="Paints pictures from words, and of a character or thing that a picture shows.",
        lifespan=lifespan,
        get_tool_input_schema=lambda name: tools[name].input_schema if name in tools else None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _bearer(context: ServerRequestContext[Clients]) -> str | None:
    """The key that came with the call over HTTP."""
    user = None if context.request is None else context.request.scope.get("user")
    return user.access_token.token if isinstance(user, AuthenticatedUser) else None


def _failure(sentence: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=sentence)], is_error=True)


async def _list_models(client: AsyncClient) -> CallToolResult:
    models: list[dict[str, Any]] = []
    for model in await client.models():
        can = model.abilities
        abilities = can and {
            "references": can.references,
            "styles": [*can.styles, *can.live_styles],
            "free_size": can.free_size,
        }
        models.append({"name": model.id, **(abilities or {})})
    document = {"models": models}
    return CallToolResult(
        content=[TextContent(text=json.dumps(document, ensure_ascii=False))], structured_content=document
    )


async def _paint(client: AsyncClient, given: dict[str, Any], report: Report, handing: Handing) -> CallToolResult:
    """Paint what a call asks for. Raises LimnerError, LimnerAPIError."""
    directory = given.pop("output_directory", None)
    place = None
    if handing.base is not None and (handing.results == "local" or directory is not None):
        place = await asyncio.to_thread(files.folder, handing.base, _text("output_directory", directory))
    sources = given.pop("subject_reference", None)
    if sources is not None:
        listed = sources if isinstance(sources, list) else [sources]
        if len(listed) > REFERENCES:
            raise InvalidRequest(f"subject_reference takes at most {REFERENCES} pictures.")
        texts = [_text("subject_reference", source) or "" for source in listed]
        given["references"] = [await asyncio.to_thread(files.reference, text, handing.base) for text in texts]
    if isinstance(given.get("seed"), str):
        given["seed"] = _seed(given["seed"])
    prompt = _text("prompt", given.pop("prompt")) or ""
    result = await _result(client, prompt, {"prompt_optimizer": True, **given}, report)
    return await _handed_out(client, prompt, result, handing, place)


def _text(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text.")
    return value


def _seed(text: str) -> int:
    if re.fullmatch(r"-?[0-9]{1,20}", text) is None:
        raise InvalidRequest("seed must be an integer, or its digits as text.")
    return int(text)


async def _result(client: AsyncClient, prompt: str, options: Any, report: Report) -> Result[AsyncImage]:
    """What was painted, its progress reported. Who gives the call up cancels its job."""
    try:
        job = await _submitted(client, prompt, options)
    except NotFound:  # MiniMax's own service has no jobs
        return await client.generate(prompt, **options)
    told = 0.0  # each report must be of more than the one before it, also while nothing is painted yet: 1/2, 3/4, ...
    following = client.follow(job.id)
    try:
        while True:
            progress = await anext(following)
            done = progress.step or (1 + told) / 2
            if done > told:
                told = done
                await report(done, progress.steps, _words(progress))
            if progress.result is not None:
                return progress.result
    except BaseException as error:
        if isinstance(error, LOST) or not isinstance(error, LimnerAPIError):
            with anyio.move_on_after(CANCEL_SECONDS, shield=True), suppress(LimnerAPIError):
                await client.cancel(job.id)
        raise


async def _submitted(client: AsyncClient, prompt: str, options: Any) -> Job:
    """A job that was accepted. One that is accepted after the call was given up is cancelled."""
    submitting = asyncio.create_task(client.submit(prompt, **options))
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        with anyio.move_on_after(CANCEL_SECONDS, shield=True), suppress(LimnerAPIError):
            await client.cancel((await submitting).id)
        raise


def _words(progress: Progress[AsyncImage]) -> str:
    if progress.state == "queued":
        before = progress.queue_place
        return f"waiting, {before} {'picture' if before == 1 else 'pictures'} before it" if before else "waiting"
    return "reading the prompt" if progress.steps is None else f"painting, step {progress.step} of {progress.steps}"


async def _handed_out(
    client: AsyncClient, prompt: str, result: Result[AsyncImage], handing: Handing, place: Path | None
) -> CallToolResult:
    """The answer of a call: words, the pictures in the way that was chosen, and the same as data.

    A picture that cannot be handed out so is told of with its link, and why among the notes.

    Raises LimnerError where that is so with all of them.
    """
    blocks: list[ContentBlock] = []
    pictures: list[dict[str, Any]] = []
    problems: list[str] = []
    linked = handing.kept or handing.results == "url"
    wanted = linked
    try:
        for number, image in enumerate(result.images, 1):
            name = f"picture {number}" + (f", seed {image.seed}" if image.seed is not None else "")
            seed = None if image.seed is None else str(image.seed)
            told = {"seed": seed, "width": image.width, "height": image.height, "url": image.url if linked else None}
            try:
                if handing.results == "url" and image.url is not None:
                    blocks.append(ResourceLink(name=name, uri=image.url, mime_type=f"image/{image.format}"))
                if handing.results == "image" or place is not None:
                    data = await image.read()
                    if handing.results == "image":
                        most = SHOWN_BYTES // len(result.images)
                        jpeg = await asyncio.to_thread(files.shown, data, image.format, most)
                        blocks.append(ImageContent(data=base64.b64encode(jpeg).decode(), mime_type="image/jpeg"))
                    if place is not None:
                        file = files.name(prompt, result.id, number, image.format)
                        path = await asyncio.to_thread(files.write, place / file, data)
                        told["path"] = str(path)
                        kind, size = f"image/{image.format}", len(data)
                        blocks.append(ResourceLink(name=name, uri=path.as_uri(), mime_type=kind, size=size))
            except (LimnerError, LimnerAPIError) as error:
                problems.append(f"Picture {number}: {error.message}")
                told["url"] = image.url
            pictures.append({field: value for field, value in told.items() if value is not None})
        wanted = linked or bool(problems)
    finally:
        if not wanted:  # nobody can come for it any more, and it takes memory of this process
            with anyio.move_on_after(CANCEL_SECONDS, shield=True), suppress(LimnerAPIError):
                await client.delete(result.id)
    lines = [
        f"{number}. " + ", ".join(f"{name} {value}" for name, value in picture.items())
        for number, picture in enumerate(pictures, 1)
    ]
    if problems and not blocks:
        raise LimnerError(
            "\n".join((*lines, *problems, f"Job {result.id} is painted, but none of its pictures could be handed out."))
        )
    notes = [*result.notes, *problems]
    if result.failed:
        lines.append(f"{result.failed} more could not be painted.")
    return CallToolResult(
        content=[TextContent(text="\n".join((*lines, *notes))), *blocks],
        structured_content={"id": result.id, "pictures": pictures, "failed": result.failed, "notes": notes},
    )
