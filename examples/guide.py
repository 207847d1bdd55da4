"""A program written for MiniMax's image API, in the way of its guide: only the host and the key come from outside.

MINIMAX_API_HOST=http://127.0.0.1:8000 MINIMAX_API_KEY=any python examples/guide.py
"""

# ruff: noqa: S310, T201 - the address is the user's own, and a script speaks on its standard output

from __future__ import annotations

import base64
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

TEXT_TO_IMAGE = {
    "model": "image-01",
    "prompt": "A man in a white t-shirt stands on a sunny beach, palm trees and the sea behind him, full body",
    "aspect_ratio": "16:9",
    "response_format": "base64",
}
IMAGE_TO_IMAGE = {
    "model": "image-01",
    "prompt": "A girl beside the tall window of a library, shelves of books around her, daylight",
    "aspect_ratio": "16:9",
    "response_format": "base64",
}


def generate(host: str, key: str, payload: dict[str, Any]) -> tuple[list[bytes], str]:
    """Send one call; the JPEGs, and the seeds they were painted from."""
    request = urllib.request.Request(
        f"{host}/v1/image_generation",
        json.dumps(payload).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        reply = json.load(response)
        seeds = response.headers.get("Limner-Seeds", "")
    if reply["base_resp"]["status_code"] != 0:
        raise RuntimeError(f"{reply['base_resp']['status_code']}: {reply['base_resp']['status_msg']}")
    return [base64.b64decode(image) for image in reply["data"]["image_base64"]], seeds


def with_subject(payload: dict[str, Any], image_file: str) -> dict[str, Any]:
    """The payload with a picture of its character: a URL or a data URL."""
    return payload | {"subject_reference": [{"type": "character", "image_file": image_file}]}


def data_url(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


if __name__ == "__main__":
    host = os.environ.get("MINIMAX_API_HOST", "https://api.minimax.io")
    key = os.environ["MINIMAX_API_KEY"]
    girl = data_url(Path(__file__).with_name("girl.png"))
    for name, payload in (("beach", TEXT_TO_IMAGE), ("library", with_subject(IMAGE_TO_IMAGE, girl))):
        images, _ = generate(host, key, payload)
        for number, image in enumerate(images):
            path = Path(f"{name}-{number}.jpeg")
            path.write_bytes(image)
            print(path)
