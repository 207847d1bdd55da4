"""The client that commands paint by, and the service that lives as long as it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from conftest import AnySizePipeline, Server
from limner.cli.local import open_client
from limner.client import ConnectionFailed
from limner.errors import InvalidRequest, SettingsInvalid
from limner.models import registry


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str | None]:
    """Which model each service was to load: one, or None for all. They paint with the tiny pipeline."""
    for name in list(os.environ):
        if name.startswith("LIMNER_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    asked: list[str | None] = []

    def pipelines(_: object, only: str | None = None) -> dict[str, AnySizePipeline]:
        asked.append(only)
        if only not in (None, registry.IMAGE):
            raise InvalidRequest("There is no such model.")
        return dict.fromkeys((registry.IMAGE, registry.LIVE), AnySizePipeline())

    monkeypatch.setattr("limner.service.load_pipelines", pipelines)
    return asked


def test_a_service_of_its_own_paints_asks_for_its_key_keeps_nothing_and_is_gone_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[str | None]
) -> None:
    monkeypatch.setenv("LIMNER_API_KEYS", "sk-operator")
    monkeypatch.setenv("LIMNER_PUBLIC_URL", "https://pictures.example.com")
    monkeypatch.setenv("LIMNER_LINKS", "service")

    async def paint() -> str:
        async with open_client(None) as client:
            result = await client.generate("a red fox", seed=7, width=512, height=512)
            (image,) = result.images
            assert len(await image.read()) > 1000
            assert image.url is not None
            address = image.url.partition("/files/")[0]
            assert address.startswith("http://127.0.0.1:")
            for headers in ({}, {"Authorization": "Bearer sk-operator"}):
                async with httpx2.AsyncClient(trust_env=False) as stranger:
                    refused = await stranger.get(f"{address}/v1/jobs", headers=headers)
                assert refused.status_code == 401
        return address

    address = asyncio.run(paint())
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address, trust_env=False)
    assert list(tmp_path.iterdir()) == []
    assert loaded == [None]


def test_one_model_is_loaded_alone(loaded: list[str | None]) -> None:
    async def names(*models: str) -> None:
        async with open_client(None, models=models) as client:
            await client.models()

    asyncio.run(names("image-01"))
    asyncio.run(names("image-01", "image-01-live"))
    assert loaded == ["image-01", None]
    with pytest.raises(InvalidRequest):
        asyncio.run(names("mine"))


def test_an_error_inside_leaves_no_service_behind() -> None:
    async def fail(addresses: list[str]) -> None:
        async with open_client(None) as client:
            job = await client.submit("a red fox", width=512, height=512)
            addresses.append((await client.result(job.id)).images[0].url or "")
            raise ArithmeticError

    addresses: list[str] = []
    with pytest.raises(ArithmeticError):
        asyncio.run(fail(addresses))
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(addresses[0], trust_env=False)


@pytest.mark.parametrize(
    ("text", "sentence"), [("prot = 1", "prot"), ('watermark_text = "\u72d0"', "letters that the built-in font cannot")]
)
def test_settings_that_are_wrong_are_told_before_anything_starts(
    tmp_path: Path, text: str, sentence: str, loaded: list[str | None]
) -> None:
    config = tmp_path / "limner.toml"
    config.write_text(text, "utf-8")

    async def start() -> None:
        async with open_client(None, config=config):
            pass

    with pytest.raises(SettingsInvalid, match=sentence):
        asyncio.run(start())
    assert loaded == []


def test_a_service_that_runs_is_used_where_one_is_named(serve: Callable[..., Server], loaded: list[str | None]) -> None:
    server = serve(api_keys="sk-there")

    async def count(address: str) -> int:
        async with open_client(address, "sk-there") as client:
            await client.submit("a red fox", width=512, height=512)
            return len([job async for job in client.jobs()])

    assert asyncio.run(count(server.url)) == 1
    assert loaded == []
    with pytest.raises(ConnectionFailed, match="limner serve"):
        asyncio.run(count("http://127.0.0.1:9"))
