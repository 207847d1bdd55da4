"""Hooks of `make docs`: pages that stand elsewhere in the repository, and the routes of the OpenAPI document.

MkDocs calls the functions that begin with `on_` (its page "Hooks").
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parent.parent

BORROWED: Final = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "LAB_LOG.md": "lab-log.md",
    "SECURITY.md": "security.md",
}
"""Pages of the repository's root, and their names in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, name in BORROWED.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, name, content=linked(text, "", name)))
    files.append(File.generated(config, "routes.md", content=routes_page(openapi_document())))
    icon = (ROOT / "src/limner/studio/icon.svg").read_text("utf-8")
    files.append(File.generated(config, "assets/icon.svg", content=icon))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs names them
    name = page.file.src_uri
    return markdown if name in {*BORROWED.values(), "routes.md"} else linked(markdown, "docs", name)


def linked(text: str, folder: str, page: str) -> str:
    """A page's Markdown, its links to files of the repository turned to pages of the site.

    A file that is no page of the site loses its link and keeps its words: the site is read without the repository.

    Args:
        folder: where the page stands in the repository, from its root.
        page: its name in the site.

    Raises:
        FileNotFoundError: a link leads to a file that is not there.
    """

    def turned(match: re.Match[str]) -> str:
        words, target = match["words"], match["target"]
        path, _, anchor = target.partition("#")
        if not path or re.match("[a-z]+:", target):
            return match[0]
        place = posixpath.normpath(posixpath.join(folder, path))
        name = BORROWED.get(place) or (place.removeprefix("docs/") if place.startswith("docs/") else None)
        if name is None:
            if not (ROOT / place).exists():
                raise FileNotFoundError(f"{page} links to {place}, which is not there.")
            return str(words)
        there = posixpath.relpath(name, posixpath.dirname(page) or ".")
        return f"{match['mark']}[{words}]({there}{'#' + anchor if anchor else ''})"

    return _outside_code(re.compile(r"(?P<mark>!?)\[(?P<words>[^\]]*)\]\((?P<target>[^)\s]+)\)"), turned, text)


def _outside_code(pattern: re.Pattern[str], turned: Any, text: str) -> str:
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if index % 2 else pattern.sub(turned, part) for index, part in enumerate(parts))


def openapi_document() -> dict[str, Any]:
    """What `GET /openapi.json` of a service with the default settings answers."""
    from limner.api.app import create_app
    from limner.config import Settings

    with tempfile.TemporaryDirectory() as folder:
        return create_app(Settings(data_dir=Path(folder))).openapi()


def routes_page(document: Mapping[str, Any]) -> str:
    """Markdown of an OpenAPI 3.1 document: a section for each route, with its parameters, body and answers."""
    lines = [
        "# Routes",
        "",
        "Every route, its fields and its answers, out of the service's own OpenAPI document (`/openapi.json`).",
        "[The HTTP interface](http.md) explains them.",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += ["", f"## {method.upper()} {path}", "", f"{operation['summary']}."]
            lines += ["", operation["description"]] if "description" in operation else []
            lines += _parameters(operation.get("parameters", ()))
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                fields = [*_fields(content["schema"], document, 1)]
                lines += ["", f"Body, `{kind}`:", *_table("field", fields)] if fields else ["", f"Body: `{kind}`."]
            for status, answer in operation["responses"].items():
                lines += _answer(status, answer, document)
    return "\n".join(lines) + "\n"


Row = tuple[str, str, str]
"""A name, what it takes, what it is."""


def _parameters(parameters: Any) -> list[str]:
    rows = [(f"`{one['name']}`", _kind(one["schema"]), one.get("description", "")) for one in parameters]
    return ["", *_table("parameter", rows)] if rows else []


def _answer(status: str, answer: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    lines = ["", f"**{status}**: {answer['description'].rstrip('.')}."]
    if int(status) < 300:  # the rest share one shape, which http.md describes
        for content in answer.get("content", {}).values():
            rows = [*_fields(content.get("schema", {}), document, 2)]
            lines += _table("field", rows) if rows else []
    return lines


def _table(head: str, rows: list[Row]) -> list[str]:
    cells = [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    return ["", f"| {head} | takes | |", "| --- | --- | --- |", *(f"| {row} |" for row in cells)]


def _fields(schema: Mapping[str, Any], document: Mapping[str, Any], depth: int, above: str = "") -> Iterator[Row]:
    """The fields of an object, and below it so many levels of those that they hold."""
    schema = _whole(schema, document)
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        field = _whole(field, document)
        words = field.get("description", "") + (" Required." if name in required and not above and depth == 1 else "")
        yield f"`{above}{name}`", _kind(field), words.strip()
        if depth > 1:
            inner = _whole(field.get("items", field), document)
            yield from _fields(inner, document, depth - 1, f"{above}{name}{'[]' if 'items' in field else ''}.")


def _whole(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema with its reference followed; of several, the first that is an object."""
    if "$ref" in schema:
        found: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    choices = [_whole(one, document) for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ()))]
    objects = [one for one in choices if "properties" in one]
    return {**objects[0], **schema} if objects else schema


def _kind(schema: Mapping[str, Any]) -> str:
    """What a value may be, in a few words."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join("null" if value is None else f"`{value}`" for value in schema["enum"])
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if choices:
        kinds = dict.fromkeys(_kind(one) for one in choices)
        return " or ".join(kind for kind in kinds if kind)
    kind = schema.get("type", "")
    name = " or ".join(kind) if isinstance(kind, list) else kind
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{name} {least} to {most}"
    return f"{name} of {_kind(schema['items'])}" if kind == "array" and _kind(schema.get("items", {})) else name
