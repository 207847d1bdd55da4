"""The evaluation's arithmetic: prompts, verdicts, shares and variety. No network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from limner.evaluation import prompts, score, truth, writing
from limner.evaluation.classes import BY_CONCEPT, CLASSES, COLOURS, NAMES
from limner.evaluation.detector import CHANNELS, Detection, apart, read
from limner.evaluation.evaluate import chosen, shares
from limner.evaluation.judge import Verdict, judge, sides
from limner.evaluation.prompts import Prompt, Task, Wanted
from limner.evaluation.score import Share, layouts_differ, variety
from limner.painter.bank import Bank
from limner.painter.scene import Scene, Thing


def found(
    concept: str, x: float = 0.5, y: float = 0.5, colour: str = "red", sure: float = 0.9, size: float = 0.2
) -> Detection:
    classes, colours = np.zeros(len(NAMES), np.float32), np.zeros(len(COLOURS), np.float32)
    classes[NAMES.index(concept)] = 1.0
    colours[COLOURS.index(colour)] = 1.0  # type: ignore[arg-type]  # the tests' own words
    return Detection(x, y, size, size, sure, classes, colours)


def asking(task: Task, *include: Wanted) -> Prompt:
    return Prompt(task, "whatever", include)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load()


@pytest.fixture(scope="module")
def listed() -> list[Prompt]:
    return prompts.read()


def test_the_list_has_as_many_prompts_a_task_as_geneval_has(listed: list[Prompt]) -> None:
    assert Counter(prompt.task for prompt in listed) == writing.SIZES
    assert len({prompt.prompt for prompt in listed}) == len(listed) == 553


def test_the_file_is_what_the_writer_writes(listed: list[Prompt]) -> None:
    assert prompts.FILE.read_text("utf-8") == writing.text(listed) == writing.text(writing.write())


def test_every_class_is_drawn_by_the_bank_and_asked_for(listed: list[Prompt], bank: Bank) -> None:
    assert len(CLASSES) == len(BY_CONCEPT) == 80
    assert [one.concept for one in CLASSES if one.concept not in bank] == []
    assert {w.concept for p in listed if p.task == "one-object" for w in p.include} == set(NAMES)


def test_every_prompt_names_what_it_includes(listed: list[Prompt]) -> None:
    for prompt in listed:
        for wanted in prompt.include:
            one = BY_CONCEPT[wanted.concept]
            assert one.noun in prompt.prompt or one.plural in prompt.prompt, prompt


def test_colours_and_relations_are_asked_for_evenly(listed: list[Prompt]) -> None:
    colours = Counter(w.colour for p in listed if p.task == "colours" for w in p.include)
    assert set(colours) == set(writing.ASKED)
    assert max(colours.values()) - min(colours.values()) <= 1
    relations = Counter(w.position[0] for p in listed for w in p.include if w.position)
    assert set(relations.values()) == {25}


def test_a_line_that_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    for bad in (
        '{"task": "juggling", "prompt": "a cat", "include": [{"concept": "cat", "count": 1}]}',
        '{"task": "one-object", "prompt": "a gryphon", "include": [{"concept": "gryphon", "count": 1}]}',
        '{"task": "one-object", "prompt": "nothing", "include": []}',
        '{"task": "position", "prompt": "a cat", "include": [{"concept": "cat", "count": 1, "position": ["left", 1]}]}',
    ):
        path.write_text(bad + "\n")
        with pytest.raises(ValueError, match="Line 1"):
            prompts.read(path)


def test_what_is_there_is_right_and_what_is_missing_is_not() -> None:
    prompt = asking("two-objects", Wanted("cat"), Wanted("bus"))
    assert judge(prompt, [found("cat"), found("bus", 0.2), found("key", 0.8)]).right
    assert judge(prompt, [found("cat"), found("key")]) == Verdict(False, "0 bus, not 1")
    assert not judge(prompt, [found("cat"), found("bus", sure=0.05)]).right
    assert not judge(prompt, []).right


def test_counting_is_exact_and_the_other_tasks_ask_for_enough() -> None:
    three = [found("cat", x) for x in (0.2, 0.5, 0.8)]
    assert judge(asking("counting", Wanted("cat", 3)), three).right
    assert judge(asking("counting", Wanted("cat", 2)), three) == Verdict(False, "3 cat, not 2")
    assert not judge(asking("counting", Wanted("cat", 4)), three).right
    assert judge(asking("one-object", Wanted("cat")), three).right


def test_a_colour_must_be_the_things_own() -> None:
    prompt = asking("colour-attribution", Wanted("cat", 1, "red"), Wanted("bus", 1, "blue"))
    assert judge(prompt, [found("cat", 0.2), found("bus", 0.8, colour="blue")]).right
    swapped = [found("cat", 0.2, colour="blue"), found("bus", 0.8)]
    assert judge(prompt, swapped) == Verdict(False, "cat is blue, not red")


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (0.1, 0.5, {"left"}), (0.9, 0.5, {"right"}), (0.5, 0.1, {"above"}), (0.5, 0.9, {"below"}),
        (0.1, 0.1, {"left", "above"}), (0.52, 0.5, set()),
    ],
)  # fmt: skip
def test_sides_follow_the_way_between_centres(x: float, y: float, told: set[str]) -> None:
    assert sides(found("cat", x, y), found("bus")) == told


def test_a_thing_on_the_wrong_side_is_wrong() -> None:
    prompt = asking("position", Wanted("cat", position=("left", 1)), Wanted("bus"))
    assert judge(prompt, [found("cat", 0.2), found("bus", 0.8)]).right
    assert judge(prompt, [found("cat", 0.8), found("bus", 0.2)]) == Verdict(False, "cat is not left of bus")


def test_one_detection_is_not_two_things() -> None:
    both = found("cat")
    both.classes[NAMES.index("dog")] = 0.4
    assert not judge(asking("two-objects", Wanted("cat"), Wanted("dog")), [both]).right


def test_wilsons_interval_is_the_published_one() -> None:
    low, high = Share(81, 263).interval  # Newcombe (1998), table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert Share(0, 20).interval[0] == 0.0
    assert Share(20, 20).interval[1] == 1.0
    assert Share(0, 0).interval == (0.0, 1.0)


def test_shares_are_by_task() -> None:
    one, count = asking("one-object", Wanted("cat")), asking("counting", Wanted("cat", 2))
    told = shares([(count, Verdict(True)), (one, Verdict(True)), (one, Verdict(False))])
    assert told == {"one-object": Share(1, 2), "counting": Share(1, 1)}


def test_a_limit_takes_the_first_of_each_task_and_keeps_their_numbers(listed: list[Prompt]) -> None:
    few = chosen(listed, ("counting", "colours"), 2)
    assert [prompt.task for _, prompt in few] == ["counting", "counting", "colours", "colours"]
    assert all(listed[number] is prompt for number, prompt in few)


def test_variety_is_none_among_equal_pictures_and_whole_between_black_and_white() -> None:
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    plan = Scene(items=(Thing(concept="cat"),)).model_dump(mode="json")
    other = Scene(items=(Thing(concept="cat", x=0.8),)).model_dump(mode="json")
    assert variety([[(black, plan), (black, plan)]]) == score.Variety(0.0, 0.0)
    assert variety([[(black, plan), (white, other)]]) == score.Variety(1.0, 1.0)
    with pytest.raises(ValueError, match="two pictures"):
        variety([[(black, plan)]])


def test_layouts_differ_by_place_number_and_where_things_stand() -> None:
    base = Scene(items=(Thing(concept="cat"),))
    same = base.model_copy(update={"variant": 5})
    others = (
        base.model_copy(update={"place": "beach"}),
        base.model_copy(update={"items": (*base.items, Thing(concept="dog"))}),
        base.model_copy(update={"items": (Thing(concept="cat", flip=True),)}),
    )
    plain = base.model_dump(mode="json")
    assert not layouts_differ(plain, same.model_dump(mode="json"))
    assert all(layouts_differ(plain, other.model_dump(mode="json")) for other in others)


def test_a_true_scene_shows_what_is_asked_for_and_nothing_else(listed: list[Prompt], bank: Bank) -> None:
    for number, prompt in enumerate(listed[::7]):
        scene = truth.scene(prompt, number, bank)
        things = [item for item in scene.items if isinstance(item, Thing)]
        shown = Counter((thing.concept, thing.colour) for thing in things)
        assert shown == Counter({(w.concept, w.colour): w.count for w in prompt.include})
        for wanted in prompt.include:
            if wanted.position:
                relation, other = wanted.position
                one = next(t for t in things if t.concept == wanted.concept)
                two = next(t for t in things if t.concept == prompt.include[other].concept)
                signs = {"left": two.x - one.x, "right": one.x - two.x, "above": two.y - one.y, "below": one.y - two.y}
                assert signs[relation] > 0.2


def maps(rows: int = 5, cols: int = 6) -> np.ndarray:
    told = np.zeros((CHANNELS, rows, cols), np.float32)
    told[0] = -8
    return told


def test_a_peak_in_the_maps_is_a_detection_of_its_class_colour_and_size() -> None:
    told = maps()
    told[0, 2, 3] = 3
    told[1:3, 2, 3] = np.log([1.0, 0.5])
    told[3 + NAMES.index("owl"), 2, 3] = 9
    told[4 + len(NAMES) + COLOURS.index("blue"), 2, 3] = 9
    (one,) = read(told, 96)
    assert (one.concept, one.colour) == ("owl", "blue")
    assert one.score("owl") == pytest.approx(one.centre, abs=0.03)
    assert one.score("cat") < 0.01
    assert (one.width, one.height) == pytest.approx((0.5, 0.25))
    assert (one.x, one.y) == pytest.approx(((3 * 8 + 32 - 24) / 96, (2 * 8 + 32 - 24) / 96))


def test_a_thing_that_is_told_of_twice_is_kept_once() -> None:
    twice = [found("cat", 0.5, sure=0.6), found("cat", 0.52, sure=0.9), found("cat", 0.8, sure=0.5)]
    assert [one.centre for one in apart(twice, "cat", 0.3)] == [0.9, 0.5]
    assert [one.centre for one in apart(twice, "cat", 0.7)] == [0.9]
    assert apart(twice, "dog", 0.3) == []


def test_a_thing_hides_no_thing_of_another_class() -> None:
    both = [found("cat", sure=0.6), found("bus", sure=0.9)]
    assert judge(asking("two-objects", Wanted("cat"), Wanted("bus")), both).right
