"""The painter with the weights of the package: from a request to pixels."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner import pipelines
from limner.engine import levels, samplers
from limner.engine.core import SEEDS, Request, UInt8
from limner.errors import InvalidRequest, ModelUnusable, ReferenceRefused
from limner.evaluation.painting import finish
from limner.painter.bank import Bank
from limner.painter.denoiser import STYLES
from limner.pipelines.painter import STEPS, WEIGHTS, PainterPipeline
from limner.runtime.openvino import Network

SCENE: dict[str, Any] = {
    "place": "plain",
    "backdrop": "white",
    "items": [{"kind": "reference", "index": 0, "x": 0.3, "y": 0.8, "height": 0.5}],
}
BLUE = (30, 60, 220)


@pytest.fixture(scope="module")
def painter() -> PainterPipeline:
    return PainterPipeline.load(WEIGHTS)


def asked(prompt: str = "a red fox on a snowy hill", width: int = 512, height: int = 512, **fields: Any) -> Request:
    return Request("test", prompt, fields.pop("seed", 7), width, height, **fields)


def paint(painter: PainterPipeline, request: Request) -> UInt8:
    return finish(painter, request, painter.encode(request))


def character(colour: tuple[int, int, int] = BLUE) -> UInt8:
    """A blue figure on nothing."""
    picture = np.zeros((200, 160, 4), np.uint8)
    picture[20:180, 40:120] = (*colour, 255)
    return picture


@pytest.mark.parametrize(("width", "height"), [(1024, 1024), (1344, 576), (512, 2048), (520, 1000)])
def test_a_picture_has_exactly_the_size_that_was_asked_for(painter: PainterPipeline, width: int, height: int) -> None:
    picture = paint(painter, asked(width=width, height=height, steps=1))
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10


def test_the_same_request_has_the_same_bytes_alone_and_after_others(painter: PainterPipeline) -> None:
    request = asked(strength=0.4, style="watercolor")
    first = paint(painter, request)
    for other in (
        asked("two cats", 640, 512, seed=1),
        asked("a house at night", 512, 768, references=(character(),), steps=2),
        asked("a dog", 512, 512, guidance=3.0, steps=1),
    ):
        paint(painter, other)
    np.testing.assert_array_equal(paint(painter, request), first)


def test_the_same_request_has_the_same_bytes_among_interleaved_neighbours(painter: PainterPipeline) -> None:
    requests = [asked(seed=seed, width=512 + 128 * seed, strength=0.5) for seed in range(3)]
    alone = [paint(painter, request) for request in requests]
    encoded = [painter.encode(request) for request in requests]
    states = [
        samplers.begin(samplers.noise(request.seed, e.key.shape), e.levels)
        for request, e in zip(requests, encoded, strict=True)
    ]
    for _ in range(STEPS):
        for k in (2, 0, 1):
            batch = samplers.batch(encoded[k].key, [requests[k]], [states[k]], [encoded[k].conditioning])
            states[k] = samplers.SAMPLERS[encoded[k].sampler].advance(states[k], painter.evaluate(batch)[0])
    for request, e, state, expected in zip(requests, encoded, states, alone, strict=True):
        np.testing.assert_array_equal(painter.decode(request, e, state.x), expected)


def test_a_second_painter_paints_the_same_bytes_whatever_its_threads(painter: PainterPipeline) -> None:
    other = PainterPipeline.load(WEIGHTS, threads=1)
    assert other.fingerprint == painter.fingerprint
    np.testing.assert_array_equal(paint(other, asked()), paint(painter, asked()))


def test_rows_of_one_batch_are_what_each_is_alone(painter: PainterPipeline) -> None:
    """Which is why the k-th of n is the first of its own seed."""
    request = asked()
    encoded = painter.encode(request)
    states = [
        samplers.begin(samplers.noise(seed, encoded.key.shape), levels.flow([noise, 0]))
        for seed, noise in ((1, 0.8), (2, 0.3))
    ]
    known = encoded.conditioning
    together = painter.evaluate(samplers.batch(encoded.key, [request] * 2, states, [known] * 2))
    for k in range(2):
        one = painter.evaluate(samplers.batch(encoded.key, [request], states[k : k + 1], [known]))
        np.testing.assert_array_equal(together[k], one[0])


def test_seeds_make_different_pictures_over_their_whole_range(painter: PainterPipeline) -> None:
    pictures = [paint(painter, asked(seed=seed, steps=1)) for seed in (0, 1, SEEDS - 1)]
    assert (pictures[0] != pictures[1]).mean() > 0.1
    assert (pictures[0] != pictures[2]).mean() > 0.1


def test_an_encoded_request_says_what_it_will_cost(painter: PainterPipeline) -> None:
    encoded = painter.encode(asked(width=1280, height=720))
    assert encoded.key.shape == (3, 192, 336)
    assert encoded.steps == STEPS
    assert encoded.guidance == 1
    with_reference = painter.encode(asked(width=1280, height=720, references=(character(),)))
    assert with_reference.cost > encoded.cost
    assert with_reference.key != encoded.key
    assert painter.encode(asked(steps=9, guidance=2.5)).steps == 9
    assert encoded.plan is not None
    assert [item["kind"] for item in encoded.plan["items"]] == ["thing"]


def test_a_scene_goes_in_and_that_scene_is_painted(painter: PainterPipeline) -> None:
    scene = {"place": "plain", "backdrop": "white", "items": [{"kind": "person", "top_colour": "red", "x": 0.5}]}
    encoded = painter.encode(asked("words that do not matter here", scene=scene))
    assert encoded.plan is not None
    assert encoded.plan["items"][0]["top_colour"] == "red"
    planned = painter.encode(asked("a boy on the beach"))
    again = painter.encode(asked("a boy on the beach", scene=planned.plan))
    assert again.plan == planned.plan
    np.testing.assert_array_equal(again.conditioning["draft"], planned.conditioning["draft"])


@pytest.mark.parametrize(
    ("scene", "sentence"),
    [
        ({"place": "moon"}, "The scene is not valid at place: Input should be 'beach'"),
        ({"version": 2}, "not valid at version"),
        ({"items": [{"kind": "thing", "concept": "cat", "x": 9}]}, r"not valid at items\.0\.thing\.x"),
        ({"colour": "red"}, "not valid at colour: Extra inputs are not permitted"),
        ({"items": [{"kind": "thing", "concept": "glass-unicorn"}]}, "The bank has no drawing 'glass-unicorn'"),
        ({"items": [{"kind": "reference", "index": 1}]}, "shows reference 1, but 1 came; they count from 0"),
    ],
)
def test_a_scene_that_cannot_be_painted_is_refused(
    painter: PainterPipeline, scene: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        painter.encode(asked(scene=scene, references=(character(),)))


def test_a_reference_appears_at_its_place_in_its_colour(painter: PainterPipeline) -> None:
    picture = paint(painter, asked(scene=SCENE, references=(character(),))).astype(int)
    # Its box is 256 pixels tall and 128 wide, around (0.3, 0.55).
    inside, outside = picture[220:340, 120:186], picture[220:340, 320:480]
    assert (inside[..., 2] - inside[..., 0]).mean() > 80
    assert np.abs(outside[..., 2] - outside[..., 0]).mean() < 40


def test_several_references_are_all_shown(painter: PainterPipeline) -> None:
    colours = {"blue": BLUE, "red": (220, 30, 40)}
    references = tuple(character(colour) for colour in colours.values())
    encoded = painter.encode(asked("a girl and a boy in the park", references=references))
    assert encoded.plan is not None
    shown = [item["index"] for item in encoded.plan["items"] if item["kind"] == "reference"]
    assert sorted(shown) == [0, 1]
    assert encoded.conditioning["reference"].shape[1] == 2 * 36
    scene = SCENE | {"items": [SCENE["items"][0], SCENE["items"][0] | {"index": 1, "x": 0.7}]}
    picture = paint(painter, asked(scene=scene, references=references)).astype(int)
    left, right = picture[220:340, 120:186], picture[220:340, 326:390]
    assert (left[..., 2] - left[..., 0]).mean() > 80
    assert (right[..., 0] - right[..., 2]).mean() > 80


def test_pictures_of_one_call_share_the_cutting_out_and_another_call_does_not(
    painter: PainterPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []
    real = pipelines.painter.cut_out
    monkeypatch.setattr(pipelines.painter, "cut_out", lambda picture, m: (cut.append(id(picture)), real(picture, m))[1])
    blue, red = (character(),), (character((220, 30, 30)),)
    first, second = (painter.encode(asked(scene=SCENE, seed=seed, references=blue)) for seed in (1, 2))
    other = painter.encode(asked(scene=SCENE, seed=1, references=red))
    assert cut == [id(blue[0]), id(red[0])]
    patches = [encoded.conditioning["reference"] for encoded in (first, second, other)]
    assert np.array_equal(patches[0], patches[1])
    assert not np.array_equal(patches[0], patches[2])


def test_a_reference_that_the_scene_has_no_place_for_is_told(painter: PainterPipeline) -> None:
    encoded = painter.encode(asked(scene={"place": "beach"}, references=(character(),)))
    assert encoded.notes == ("The scene has no place for reference 0, which is not shown.",)


def test_words_without_effect_are_told(painter: PainterPipeline) -> None:
    notes = painter.encode(asked("a red fox beside a qwzrtplk")).notes
    assert any("qwzrtplk" in note for note in notes)


def test_an_empty_reference_and_too_many_are_refused(painter: PainterPipeline) -> None:
    with pytest.raises(ReferenceRefused, match="wholly transparent"):
        painter.encode(asked(references=(np.zeros((20, 20, 4), np.uint8),)))
    with pytest.raises(InvalidRequest, match="up to 8 references, not 9"):
        painter.encode(asked(references=(character(),) * 9))


@pytest.mark.parametrize("style", STYLES[1:])
def test_every_style_changes_the_picture(painter: PainterPipeline, style: str) -> None:
    plain, styled = (paint(painter, asked(style=s, steps=2)).astype(int) for s in (STYLES[0], style))
    assert np.abs(plain - styled).mean() > 1.0


def test_a_style_is_applied_to_a_scene_too(painter: PainterPipeline) -> None:
    encoded = painter.encode(asked(scene={"place": "beach", "style": "clay"}, style="comic"))
    assert encoded.plan is not None
    assert encoded.plan["style"] == "comic"
    kept = painter.encode(asked(scene={"place": "beach", "style": "clay"}))
    assert kept.plan is not None
    assert kept.plan["style"] == "clay"


def test_style_weight_is_how_strongly_a_style_shows(painter: PainterPipeline) -> None:
    plain = paint(painter, asked(style=STYLES[0])).astype(int)
    by_weight = [paint(painter, asked(style="medieval", style_weight=w)) for w in (0.2, 0.6, 1.0)]
    distances = [np.abs(picture - plain).mean() for picture in by_weight]
    assert distances == sorted(distances)
    assert distances[0] < 0.8 * distances[2]


@pytest.mark.parametrize(
    ("field", "sentence"),
    [({"negative_prompt": "a dog"}, "takes no negative prompt"), ({"loras": (("ink", 1.0),)}, "takes no LoRA")],
)
def test_what_the_painter_cannot_do_is_refused(painter: PainterPipeline, field: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        painter.encode(asked(**field))


def test_an_unknown_style_is_refused_with_the_names_of_all(painter: PainterPipeline) -> None:
    with pytest.raises(InvalidRequest, match=r"There is no style 'cubist'. Choose one of storybook, flat, .*papercut"):
        painter.encode(asked(style="cubist"))


def test_pixel_art_has_crisp_blocks_at_full_size(painter: PainterPipeline) -> None:
    picture = paint(painter, asked(style="pixel", width=1024, height=1024))
    assert np.ptp(picture.reshape(128, 8, 128, 8, 3), axis=(1, 3)).max() == 0
    assert picture.std() > 10


def test_guidance_paints_another_picture_that_still_shows_the_scene(painter: PainterPipeline) -> None:
    plain, guided = (paint(painter, asked(guidance=g, steps=2)).astype(int) for g in (1.0, 2.0))
    difference = np.abs(plain - guided).mean()
    assert 0 < difference < 30


def test_strength_is_how_far_the_picture_leaves_the_draft(painter: PainterPipeline) -> None:
    distances = []
    for strength in (0.0, 0.5, 1.0):
        encoded = painter.encode(asked(strength=strength))
        picture = finish(painter, asked(strength=strength), encoded)
        drafted = encoded.detail.draft.draw(512, 512)
        distances.append(np.abs(picture.astype(int) - drafted).mean())
    assert distances[0] < distances[1] < distances[2]
    assert distances[0] < 20


def test_the_fingerprint_is_that_of_the_weights(painter: PainterPipeline, tmp_path: Path) -> None:
    assert len(painter.fingerprint) == 16
    int(painter.fingerprint, 16)
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "denoiser"))
    assert PainterPipeline.load(folder).fingerprint == painter.fingerprint
    meta = folder / "meta.json"
    meta.write_text(meta.read_text().replace('"training": {', '"training": {"note": "another run", '))
    assert PainterPipeline.load(folder).fingerprint != painter.fingerprint


@pytest.mark.parametrize("name", ["meta.json", "denoiser.onnx"])
def test_a_painter_with_a_missing_or_cut_file_does_not_load(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "denoiser"))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnusable, match=name):
        PainterPipeline.load(folder)
    (folder / name).unlink()
    with pytest.raises(ModelUnusable, match=f"{name} in {folder}"):
        PainterPipeline.load(folder)


def test_the_number_of_threads_reaches_every_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Counted(Network):
        def __init__(self, source: Path, **options: Any) -> None:
            asked.append(options.get("threads"))
            super().__init__(source, **options)

    monkeypatch.setattr("limner.painter.words.Network", Counted)
    monkeypatch.setattr("limner.pipelines.painter.Network", Counted)
    monkeypatch.setattr("limner.painter.fullsize.Network", Counted)
    PainterPipeline.load(threads=1)
    assert asked == [1, 1, 1]


def test_what_waits_for_its_turn_is_small(painter: PainterPipeline) -> None:
    """The full-size draft is not drawn before decode: 64 requests may wait."""
    encoded = painter.encode(asked(width=2048, height=2048))
    assert not any(isinstance(getattr(encoded.detail, name), np.ndarray) for name in encoded.detail.__slots__)
    assert sum(value.nbytes for value in encoded.conditioning.values()) < 2e6


def test_a_reference_is_not_changed_by_being_painted(painter: PainterPipeline) -> None:
    reference = character()
    kept = reference.copy()
    painter.encode(asked(references=(reference,)))
    np.testing.assert_array_equal(reference, kept)


def test_every_drawing_of_the_bank_can_be_asked_for_in_a_scene(painter: PainterPipeline) -> None:
    for concept in Bank.load().names[::150]:
        encoded = painter.encode(asked(scene={"items": [{"kind": "thing", "concept": concept}]}))
        assert encoded.plan is not None
        assert encoded.plan["items"][0]["concept"] == concept


def test_running_needs_nothing_of_training() -> None:
    """A fresh process that imports all that `limner serve` does has no torch and no other tool of training."""
    code = (
        "import sys, limner.cli, limner.pipelines.painter, limner.api.app\n"
        "tools = {'torch', 'cv2', 'resvg_py', 'onnx', 'onnxscript', 'safetensors'}\n"
        "print(sorted(tools & set(sys.modules)), 'openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(" ")[0].strip() == "[]"


def test_requests_are_compared_by_what_they_ask_not_by_their_id(painter: PainterPipeline) -> None:
    request = asked(steps=1)
    again = replace(request, id="another", tenant="someone else")
    np.testing.assert_array_equal(paint(painter, request), paint(painter, again))
