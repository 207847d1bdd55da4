"""The committed detector on drawn scenes, and the evaluation around it: right pictures pass, wrong ones do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from limner.cli.app import app
from limner.engine.core import Done, Encoded, Request, UInt8
from limner.engine.engine import Engine
from limner.errors import InvalidRequest, ModelUnusable
from limner.evaluation import evaluate as evaluation
from limner.evaluation import prompts, report, truth
from limner.evaluation.detector import FILE, WEIGHTS, Detection, Detector
from limner.evaluation.judge import judge
from limner.evaluation.painting import paint
from limner.evaluation.prompts import TASKS, Prompt
from limner.evaluation.score import Share
from limner.painter.bank import Bank
from tiny_pipeline import TinyPipeline

PER_TASK = 6


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load()


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load()


@pytest.fixture(scope="module")
def few() -> list[tuple[int, Prompt]]:
    """Some of each task, spread over the list."""
    listed = prompts.read()
    every = [evaluation.chosen(listed, [task], None) for task in TASKS]
    return [numbered for task in every for numbered in task[3 :: len(task) // PER_TASK][:PER_TASK]]


@pytest.fixture(scope="module")
def seen(detector: Detector, bank: Bank, few: Sequence[tuple[int, Prompt]]) -> list[list[Detection]]:
    """What the detector finds on the true rendering of each."""
    return [detector(truth.drawn(prompt, number, bank)) for number, prompt in few]


def test_true_pictures_pass_and_shuffled_ones_fail(
    few: Sequence[tuple[int, Prompt]], seen: Sequence[Sequence[Detection]]
) -> None:
    right = [judge(prompt, found).right for (_, prompt), found in zip(few, seen, strict=True)]
    assert sum(right) >= 0.7 * len(few)
    for shift in (1, 2):  # another prompt of the same task, and across the tasks' borders
        wrong = [judge(few[(k + shift) % len(few)][1], found).right for k, found in enumerate(seen)]
        assert sum(wrong) <= 0.12 * len(few)


def test_an_empty_place_and_noise_show_nothing_that_is_asked_for(
    detector: Detector, few: Sequence[tuple[int, Prompt]]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for picture in (np.full((256, 256, 3), 210, np.uint8), noise):
        found = detector(picture)
        assert not any(judge(prompt, found).right for _, prompt in few)


def test_the_detector_sees_the_same_twice_and_at_any_size(detector: Detector, bank: Bank) -> None:
    prompt = Prompt("one-object", "an owl", (prompts.Wanted("owl"),))
    picture = truth.drawn(prompt, 1, bank)
    once, again = detector(picture), detector(picture)
    assert [one.centre for one in once] == [one.centre for one in again]
    half = np.asarray(Image.fromarray(picture).resize((333, 333), Image.Resampling.LANCZOS))
    assert judge(prompt, once).right
    assert judge(prompt, detector(half)).right


def test_a_changed_weight_is_refused(tmp_path: Path) -> None:
    for name in ("meta.json", FILE):
        (tmp_path / name).write_bytes((WEIGHTS / name).read_bytes())
    Detector.load(tmp_path)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ModelUnusable, match=FILE):
        Detector.load(tmp_path)


def test_the_detector_is_small_and_its_card_says_what_it_is() -> None:
    assert (WEIGHTS / FILE).stat().st_size <= 3_000_000
    card = (WEIGHTS / "MODEL_CARD.md").read_text("utf-8")
    for package in ("twemoji", "noto-v1", "emojione", "fxemoji", "fluent-emoji"):
        assert package in card


class Odd(TinyPipeline):
    """Refuses prompts that speak of a cat."""

    def encode(self, request: Request) -> Encoded:
        if "cat" in request.prompt:
            raise InvalidRequest("No cats.")
        return super().encode(request)


class Blind(Detector):
    """Finds nothing, without a network."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, pixels: UInt8) -> list[Detection]:
        self.asked += 1
        return []


def test_a_prompt_that_cannot_be_painted_is_a_wrong_picture_and_the_rest_goes_on(
    bank: Bank, few: Sequence[tuple[int, Prompt]]
) -> None:
    cat = Prompt("one-object", "a cat", (prompts.Wanted("cat"),))
    dog = Prompt("one-object", "a dog", (prompts.Wanted("dog"),))
    told: list[tuple[str, int, int]] = []
    result = evaluation.evaluate(
        Odd(), Blind(), bank, [(0, cat), (1, dog)], [0.0, 1.0], 2, lambda *news: told.append(news)
    )
    for round_ in result.rounds:
        assert [one.verdict.why for one in round_.judged] == ["not painted: No cats."] * 2 + ["0 dog, not 1"] * 2
        assert len({one.seed for one in round_.judged}) == 4
        assert round_.variety is not None
    assert [round_.strength for round_ in result.rounds] == [0.0, 1.0]
    assert result.ceiling == {"one-object": Share(0, 2)}
    assert {what for what, _, _ in told} == {
        "judging true renderings", "painting at strength 0", "painting at strength 1",
    }  # fmt: skip
    assert report.record(result)["rounds"][1]["mean"] == 0.0
    assert report.sheet(result.rounds[0].judged).shape[2] == 3


@pytest.mark.parametrize("prompt", ["a fox with heun", "a fox with euler", "a fox with multistep"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_picture_is_the_one_that_the_engine_paints(prompt: str, guidance: float) -> None:
    request = Request("a", prompt, 7, 256, 192, steps=3, guidance=guidance)
    done: list[UInt8] = []
    engine = Engine({"image-01": TinyPipeline()}, 4)
    engine.submit([request], lambda event: done.append(event.pixels) if isinstance(event, Done) else None)
    for _ in range(40):
        engine.step()
    (pixels,) = done
    assert np.array_equal(paint(TinyPipeline(), request).pixels, pixels)


def test_the_command_prints_the_table_and_writes_record_and_sheets(tmp_path: Path) -> None:
    arguments = ["evaluate", "--tasks", "counting", "--limit", "2", "--strengths", "0,0.5"]
    files = ["--sheet", str(tmp_path / "s.png"), "--json", str(tmp_path / "r.json")]
    done = CliRunner().invoke(app, arguments + files)
    assert done.exit_code == 0, done.output
    assert done.output.count("counting") == 2
    assert "strength 0.5" in done.output
    assert "ceiling" in done.output
    record = json.loads((tmp_path / "r.json").read_text())
    assert [len(round_["pictures"]) for round_ in record["rounds"]] == [2, 2]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["s-0.5.png", "s-0.png", "s-truth.png"]


@pytest.mark.parametrize(
    "wrong", [["--tasks", "juggling"], ["--strengths", "2"], ["--strengths", "some"], ["--json", "no/such/folder/x"]]
)
def test_wrong_usage_is_told_before_anything_is_loaded(wrong: list[str]) -> None:
    assert CliRunner().invoke(app, ["evaluate", *wrong]).exit_code == 2
