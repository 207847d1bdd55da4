"""A moderation endpoint, asked as OpenAI's API specifies (POST /moderations)."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from typing import Any

import httpx2
from PIL import Image

from limner.engine.core import UInt8
from limner.safety.file import ModerationTable

MAX_REPLY_BYTES = 256 * 1024
"""The most of a reply that is read."""

LONGEST_SIDE = 768
"""Pixels of the longer side of the pictures that are sent."""


class NoAnswer(Exception):
    """The endpoint gave no answer that can be read; says why, without quoting anything."""


class Moderation:
    """Asks an endpoint about texts and pictures.

    Attributes:
        checks: the stages that it is asked at.
        fails_open: whether what it gives no answer to is allowed.
    """

    def __init__(self, table: ModerationTable) -> None:
        self.checks = frozenset(table.checks)
        self.fails_open = table.on_failure == "allow"
        self._table = table
        key = os.environ.get(table.key_variable, "").strip() if table.key_variable else ""
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def text(self, text: str) -> str | None:
        """The category that refuses `text`; None where none does. Raises NoAnswer."""
        return await self._ask(text.encode("utf-8", "replace").decode())  # half a surrogate pair cannot be sent

    async def picture(self, pixels: UInt8) -> str | None:
        """The category that refuses a picture (H, W, 3); None where none does. Raises NoAnswer."""
        url = await asyncio.to_thread(_data_url, pixels)
        return await self._ask([{"type": "image_url", "image_url": {"url": url}}])

    async def _ask(self, question: object) -> str | None:
        table = self._table
        asked = {"input": question} if table.model is None else {"model": table.model, "input": question}
        try:
            async with asyncio.timeout(table.seconds):
                return self._verdict(await self._post(asked))
        except TimeoutError:
            raise NoAnswer(f"no answer within {table.seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise NoAnswer(type(error).__name__) from None

    async def _post(self, asked: dict[str, Any]) -> Any:
        body = bytearray()
        async with (
            httpx2.AsyncClient(timeout=self._table.seconds) as client,
            client.stream("POST", f"{self._table.url}/moderations", json=asked, headers=self._headers) as response,
        ):
            if response.status_code != 200:
                raise NoAnswer(f"status {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_REPLY_BYTES:
                    raise NoAnswer(f"reply of over {MAX_REPLY_BYTES} bytes")
        try:
            return json.loads(bytes(body))
        except (ValueError, RecursionError):
            raise NoAnswer("reply is no JSON") from None

    def _verdict(self, reply: Any) -> str | None:
        try:
            (result,) = reply["results"]
            if self._table.thresholds:
                scores = {category: float(result["category_scores"][category]) for category in self._table.thresholds}
                # Written so that a score that is no number refuses.
                over = [name for name, least in self._table.thresholds.items() if not scores[name] < least]
                return over[0] if over else None
            if not isinstance(result["flagged"], bool):
                raise TypeError
            named = [category for category, refused in result.get("categories", {}).items() if refused is True]
            return None if not result["flagged"] else str(named[0]) if named else "flagged"
        except (ValueError, LookupError, TypeError, AttributeError):
            raise NoAnswer("reply is no moderation") from None


def _data_url(pixels: UInt8) -> str:
    """A picture (H, W, 3) as a JPEG in a data URL, small enough to send."""
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
