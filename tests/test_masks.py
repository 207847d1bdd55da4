"""A mask from the request to the finished picture: what is refused and how, what is kept, what stays as it was."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from conftest import AnySizePipeline, Server, serving, wait_for
from limner import masks
from limner.backends.local import LocalBackend
from limner.config import Settings
from limner.engine.core import Encoded, Held, Request, UInt8
from limner.engine.engine import Engine
from limner.errors import InvalidRequest
from limner.order import Order, result_digest
from limner.pipelines.repaint import coarse
from limner.service import Service
from limner.storage.blobs import Blobs
from limner.storage.database import Database
from test_service_jobs import Cluster
from tiny_pipeline import SQUARE


class Repainter(AnySizePipeline):
    """Repaints by squares: each shows the mean of what is held there."""

    def encode(self, request: Request) -> Encoded:
        encoded = super().encode(request)
        if request.mask is None:
            return encoded
        _, rows, columns = encoded.key.shape
        picture = request.references[0][..., :3].astype(np.float32) / 127.5 - 1
        squares = picture.reshape(rows, SQUARE, columns, SQUARE, 3).mean((1, 3)).transpose(2, 0, 1)
        return replace(encoded, held=Held(squares, 1 - coarse(request.mask, rows, columns)))


def waves(width: int = 512, height: int = 512) -> UInt8:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack([127 + 120 * np.sin(x / 19), 127 + 120 * np.cos(y / 17), 255 * x / width], -1).astype(np.uint8)


def hole(width: int = 512, height: int = 512) -> UInt8:
    """A mask's pixels, transparent in the lower right quarter."""
    mask = np.full((height, width, 4), 255, np.uint8)
    mask[height // 2 :, width // 2 :, 3] = 0
    return mask


def sent(pixels: UInt8) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


PICTURE, MASK = sent(waves()), sent(hole())
KEPT = hole()[..., 3] == 255
ORDER = Order("a red fox", 512, 512, seed=7, format="png", references=(PICTURE, MASK), mask=True)


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose image-01 repaints, whose image-01-live does not though it is thought to, and one that is known not
    to."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "other").mkdir()
    (folder / "other" / "model_index.json").write_text(json.dumps({"_class_name": "PixArtAlphaPipeline"}))
    pipelines = {"image-01": Repainter(), "image-01-live": AnySizePipeline(), "other": AnySizePipeline()}
    models = {"image-01-live": "painter", "other": str(folder / "other")}
    with serving(folder, backend=LocalBackend(Engine(pipelines, 16)), models=models) as server:
        yield server


def ask(server: Server, headers: dict[str, str] | None = None, /, **fields: Any) -> httpx2.Response:
    given = {"prompt": "a red fox", "width": 512, "height": 512, "seed": 7, "format": "png"}
    given |= {"response_format": "base64", "references": [PICTURE], "mask": MASK}
    return server.client.post("/v1/pictures", json={**given, **fields}, headers=headers)


def pixels(data: bytes) -> UInt8:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def painted(reply: httpx2.Response) -> list[bytes]:
    assert reply.status_code == 200, reply.text
    return [base64.b64decode(one["base64"]) for one in reply.json()["pictures"]]


def test_a_picture_is_repainted_where_the_mask_is_transparent_and_is_itself_elsewhere(painting: Server) -> None:
    (data,) = painted(ask(painting))
    np.testing.assert_array_equal(pixels(data)[KEPT], waves()[KEPT])
    assert abs(pixels(data)[~KEPT].astype(int) - waves()[~KEPT]).mean() > 10
    assert painted(ask(painting)) == [data]
    assert painted(ask(painting, prompt="a blue whale")) != [data]
    assert painted(ask(painting, mask=sent(hole()[::-1].copy()))) != [data]


def test_picture_k_of_seed_s_is_picture_0_of_seed_s_plus_k_with_a_mask_too(painting: Server) -> None:
    together = painted(ask(painting, n=3))
    assert together == [painted(ask(painting, seed=7 + k))[0] for k in range(3)]


def test_a_job_says_that_it_had_a_mask_and_does_not_count_it_as_a_reference(painting: Server) -> None:
    for fields, references, mask in (({}, 1, True), ({"mask": None}, 1, False)):
        job_id = ask(painting, **fields).json()["id"]
        request = painting.client.get(f"/v1/jobs/{job_id}").json()["request"]
        assert (request["references"], request["mask"]) == (references, mask)


def test_a_picture_of_another_size_and_the_same_shape_is_fitted_with_its_mask(painting: Server) -> None:
    picture, mask = waves(1024, 1024), hole(1024, 1024)
    (data,) = painted(ask(painting, references=[sent(picture)], mask=sent(mask)))
    smaller = np.asarray(Image.fromarray(picture).resize((512, 512), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(pixels(data)[KEPT][:1000], smaller[KEPT][:1000])


def test_pictures_are_repainted_at_the_largest_size_without_being_made_smaller(painting: Server) -> None:
    picture, mask = waves(2048, 1536), hole(2048, 1536)
    (data,) = painted(ask(painting, width=2048, height=1536, references=[sent(picture)], mask=sent(mask)))
    kept = mask[..., 3] == 255
    np.testing.assert_array_equal(pixels(data)[kept], picture[kept])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"references": []}, "A mask needs the picture that it is a mask of."),
        ({"mask": PICTURE}, "The mask has no transparent pixel"),
        ({"mask": sent(hole(256, 512))}, "The mask is 256×512 pixels and the picture 512×512"),
        ({"width": 1024}, "The picture to repaint is 512×512 pixels, and 1024×512 were asked for"),
        ({"mask": base64.b64encode(b"%PDF-1.7").decode()}, "The reference is a PDF"),
        ({"mask": "/etc/passwd"}, "never a file of the server"),
        ({"model": "image-01-live"}, "Model image-01-live repaints no part of a picture."),
        ({"model": "other"}, "Model other repaints no part of a picture. Leave the mask out, or ask image-01"),
    ],
    ids=["no picture", "opaque", "another size", "another shape", "no picture file", "path", "unknown", "known"],
)
def test_what_cannot_be_repainted_is_refused_with_a_sentence(
    painting: Server, fields: dict[str, Any], said: str
) -> None:
    reply = ask(painting, **fields)
    assert reply.status_code == 400
    assert said in reply.json()["base_resp"]["status_msg"]


def test_a_model_that_is_known_not_to_repaint_is_refused_before_there_is_a_job(painting: Server) -> None:
    reply = ask(painting, {"Prefer": "respond-async"}, model="other")
    assert reply.status_code == 400
    assert painting.client.get("/v1/jobs", params={"model": "other"}).json()["jobs"] == []


def test_a_mask_is_no_reference_where_these_are_counted(tmp_path: Path) -> None:
    with serving(tmp_path, backend=LocalBackend(Engine({"image-01": Repainter()}, 4)), reference_max_count=1) as server:
        assert ask(server).status_code == 200
        reply = ask(server, references=[PICTURE, PICTURE])
        assert reply.status_code == 400
        assert "at most 1 can be used" in reply.json()["base_resp"]["status_msg"]


# What is kept of it


def test_an_order_of_an_earlier_version_has_no_mask() -> None:
    row = Order("x", 512, 512).to_json()
    assert row.pop("mask") is False
    assert Order.from_json(row).mask is False
    assert Order.from_json(ORDER.to_json()).mask is True


def test_the_mask_decides_the_bytes_of_an_order() -> None:
    settings = Settings(data_dir=Path())
    digests = {
        result_digest(order, files, "weights", "policy", settings)
        for order in (ORDER, replace(ORDER, mask=False))
        for files in ((b"picture", b"mask"), (b"picture", b"another"))
    }
    assert len(digests) == 4


@pytest.mark.parametrize(("quality", "same"), [(None, True), (92, True), (95, False), (5, False)])
def test_the_quality_decides_the_bytes_of_an_order_whoever_says_it(quality: int | None, same: bool) -> None:
    settings = Settings(data_dir=Path(), jpeg_quality=92)
    order = Order("a red fox", 512, 512, seed=7)
    plain, own = (
        result_digest(each, (), "weights", "policy", settings) for each in (order, replace(order, quality=quality))
    )
    assert (plain == own) is same


def test_a_job_of_a_killed_process_is_repainted_by_another_with_the_same_bytes(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, lease_seconds=0.4, grace_seconds=0)

    def service(gate: threading.Semaphore | None = None) -> Service:
        engine = Engine({"image-01": Repainter(gate=gate)}, 4)
        return Service(settings, LocalBackend(engine), Database.open(settings), Blobs.open(settings))

    async def whole() -> tuple[bytes, bytes]:
        gate = threading.Semaphore(0)
        first, second = service(gate), service()
        await first.start()
        job = await first.accept(ORDER)
        await asyncio.to_thread(wait_for, lambda: first.runner.courses)
        await Cluster.kill(first)
        await second.start()
        (resumed,) = (await second.wait(job.id)).pictures
        assert (await second.job(job.id)).attempts == 1
        (again,) = (await second.generate(ORDER)).pictures
        gate.release(10_000)
        await first.stop()
        await second.stop()
        return resumed.data, again.data

    resumed, again = asyncio.run(whole())
    assert resumed == again
    np.testing.assert_array_equal(pixels(resumed)[KEPT], waves()[KEPT])


# Picture and mask at the size that is painted


def rgba(picture: UInt8) -> UInt8:
    return np.dstack((picture, np.full(picture.shape[:2], 255, np.uint8)))


def test_what_is_transparent_in_the_picture_is_laid_on_white() -> None:
    clear = rgba(waves())
    clear[:100, :, 3] = 0
    picture, mask = masks.fitted(clear, hole(), 512, 512)
    assert (picture[:100] == 255).all()
    np.testing.assert_array_equal(picture[100:, :, :3], waves()[100:])
    np.testing.assert_array_equal(mask, 255 - hole()[..., 3])


def test_a_rounded_size_cuts_a_little_of_a_side() -> None:
    picture, mask = masks.fitted(rgba(waves(1000, 750)), hole(1000, 750), 1000, 752)
    assert (picture.shape, mask.shape) == ((752, 1000, 4), (752, 1000))
    with pytest.raises(InvalidRequest, match="Ask for 1000×752, or cut the picture"):
        masks.fitted(rgba(waves(1000, 750)), hole(1000, 750), 1000, 1000)


@pytest.mark.parametrize("size", [(512, 512), (640, 480), (3000, 2000), (100, 150), (2048, 515), (517, 2040), (1, 1)])
def test_the_size_that_is_proposed_is_one_that_is_taken(size: tuple[int, int]) -> None:
    proposed = masks.size_like(*size)
    assert proposed is not None
    assert all(512 <= side <= 2048 and side % 8 == 0 for side in proposed)
    width, height = size
    masks.fitted(np.zeros((height, width, 4), np.uint8), np.zeros((height, width, 4), np.uint8), *proposed)


def test_a_picture_that_is_too_long_has_no_such_size() -> None:
    assert masks.size_like(2048, 400) is None
    assert masks.size_like(512, 512) == (512, 512)
    assert masks.size_like(700, 525) == (704, 528)
    with pytest.raises(InvalidRequest, match="Cut the picture and its mask"):
        masks.fitted(np.zeros((400, 2048, 4), np.uint8), np.zeros((400, 2048, 4), np.uint8), 2048, 512)
