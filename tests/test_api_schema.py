"""The OpenAPI document against the running service, and the page that shows it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from conftest import API, Server, serving
from limner.api import contract
from limner.api.app import create_app
from limner.api.pictures import PictureRequest
from limner.config import Settings
from limner.errors import Code, ModelUnusable

KEY = "sk-api-schema"
OPENAIS = ("/v1/images/generations", "/v1/images/edits")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Keys, true statuses, integer counts, null data: the shape with every deviation reversed."""
    options: dict[str, Any] = {"http_status": "real", "counts_as": "integer", "error_data": "null"}
    options |= {"counts_in_data": False, "extra_ratios": False, "model_aliases": {"mine": "image-01-live"}}
    with serving(tmp_path_factory.mktemp("data"), api_keys=KEY, **options) as running:
        yield running


def probe(server: Server, checks: list[schemathesis.CheckFunction], mode: GenerationMode, **headers: str) -> None:
    """Send each operation requests that keep to the document, or break it, and hold the replies against it.

    Only a body or a query can break it: the other operations take nothing, or any text in their path.
    """
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [result.ok() for result in document.get_all_operations()]
    paths = {API, "/v1/models/{name}", "/files/{name}", "/metrics", "/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/events"}
    assert {operation.path for operation in operations} > paths | {*OPENAIS}
    breakable = [document[path]["POST"] for path in (API, "/v1/pictures", "/v1/scenes", "/v1/jobs", *OPENAIS)]
    breakable += [document["/v1/jobs"]["GET"], document["/v1/jobs/{id}/events"]["GET"]]
    for operation in operations if mode is GenerationMode.POSITIVE else breakable:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=60 if operation.path == API else 10)
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=checks, headers=headers)

        ask()


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_reply_is_as_documented(server: Server, mode: GenerationMode) -> None:
    probe(server, CHECKS, mode)


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_reply_is_as_documented_with_keys_and_true_statuses(honest: Server, mode: GenerationMode) -> None:
    probe(honest, [*CHECKS, ignored_auth], mode, Authorization=f"Bearer {KEY}")


def test_the_document_describes_every_field_with_its_limits(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    schema = document["paths"][API]["post"]["requestBody"]["content"]["application/json"]["schema"]
    fields = schema["properties"]
    assert schema["required"] == ["model", "prompt"]
    assert set(fields) == {
        "model",
        "prompt",
        "style",
        "aspect_ratio",
        "width",
        "height",
        "response_format",
        "seed",
        "n",
        "prompt_optimizer",
        "aigc_watermark",
        "subject_reference",
    }
    assert (fields["n"]["minimum"], fields["n"]["maximum"], fields["n"]["default"]) == (1, 9, 1)
    side = fields["width"]["anyOf"][0]
    assert (side["minimum"], side["maximum"], side["multipleOf"]) == (512, 2048, 8)
    assert fields["prompt"]["maxLength"] == 1500
    assert "422" not in str(document["paths"])
    assert all(field.get("description") for field in fields.values())


def test_the_docs_page_needs_nothing_from_elsewhere(server: Server) -> None:
    page = server.client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r"""(?:src|href)\s*=\s*["']?(?!openapi\.json|data:)([^"'\s>]+)""", page.text) == []
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "default-src 'none'" in page.text


def test_the_app_starts_without_a_service_given_and_imports_no_network_runtime() -> None:
    code = (
        "import sys; from limner.api.app import create_app; from limner.config import Settings; "
        "create_app(Settings()); print(sorted({'openvino', 'torch', 'ray', 'skia'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_service_that_cannot_be_built_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: Settings) -> None:
        raise ModelUnusable("The weights are missing.")

    monkeypatch.setattr("limner.api.app.build_service", build)
    app = create_app(Settings())

    async def start() -> None:
        async with app.router.lifespan_context(app):
            raise AssertionError("it started")

    with pytest.raises(ModelUnusable):
        asyncio.run(start())


def test_the_docs_can_be_had_by_any_client(server: Server) -> None:
    assert httpx2.get(f"{server.url}/openapi.json").json()["info"]["title"] == "Limner"


def test_the_page_on_http_names_every_route_field_code_and_setting_of_the_wire(server: Server) -> None:
    page = (Path(__file__).parent.parent / "docs/http.md").read_text("utf-8")
    document = server.client.get("/openapi.json").json()
    for path in document["paths"]:
        assert path in page, path
    for field in contract.JobRequest.model_fields | PictureRequest.model_fields:
        assert f"`{field}`" in page, field
    for code in Code:
        assert f"| {code:d} |" in page, code
    for ratio, (width, height) in contract.SIZES.items():
        assert f"`{ratio}` {width}×{height}" in page, ratio
    fields = list(Settings.model_fields)
    for setting in fields[fields.index("http_status") : fields.index("request_seconds") + 1]:
        assert f"`{setting}" in page, setting
