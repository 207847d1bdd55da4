"""The trained reader that ships: what it reads, that it is honest, and that its evaluation can fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import ModelUnusable
from limner.painter.bank import Bank
from limner.painter.planner import ParsingPlanner
from limner.painter.planner.chunks import Lexicon, is_list, tag
from limner.painter.planner.merge import filled
from limner.painter.planner.reader import LEXICAL, LONGEST, Reader, lexical, word_features
from limner.painter.planner.reading import Mention, Reading
from limner.painter.planner.words import VOCABULARY, plain, spans, tokens
from limner.painter.scene import Person, Reference, Scene, Thing
from limner.painter.training.planner_evaluate import Case, cases, judge
from limner.painter.words import Words

BANK = Bank.load()
WORDS = Words.load()
READER = Reader.load()
PLANNER = ParsingPlanner(BANK, WORDS, READER)
LEXICON = Lexicon(BANK)


def chunks(prompt: str) -> list[object]:
    return list(tag(tokens(prompt), LEXICON))


def test_the_guides_own_prompts_are_read() -> None:
    scene = PLANNER.plan(
        "A man in a white t-shirt, full-body, standing front view, outdoors, with the Venice Beach sign in the "
        "background, Los Angeles. Fashion photography in 90s documentary style, film grain, photorealistic.",
        1,
        1.0,
    ).scene
    man = next(i for i in scene.items if isinstance(i, Person))
    assert (scene.place, man.build, man.top, man.top_colour, man.pose) == (
        "beach", "masculine", "t-shirt", "white", "standing",
    )  # fmt: skip
    scene = PLANNER.plan("A girl looking into the distance from a library window", 1, 1.0).scene
    assert scene.place == "library"
    assert [type(i) for i in scene.items] == [Person]


def test_every_word_of_a_prompt_has_features_and_all_that_the_tables_know() -> None:
    simple = plain("A crimson zorble, near the palm tree")
    parts = tag(tokens(simple), LEXICON)
    features = word_features(simple, WORDS)
    known = lexical(parts, len(features))
    assert features.shape == (len(tokens(simple)), 384)
    assert known.shape == (len(features), LEXICAL)
    assert (np.abs(features).sum(1) > 0).all()
    assert (known.sum(1) > 0).all()
    assert [simple[a:b] for a, b in spans(simple)] == tokens(simple)


def test_a_prompt_is_parsed_the_same_every_time_and_up_to_its_longest() -> None:
    simple = plain("a red fox and two dogs on a hill. " * 60)
    parts = tag(tokens(simple), LEXICON)
    parse = READER.parse(simple, parts, WORDS)
    assert len(parse.roles) == len(parse.heads) == len(parse.others) == LONGEST
    assert all(-1 <= head < LONGEST for head in (*parse.heads, *parse.others))
    assert parse == READER.parse(simple, parts, WORDS)
    assert READER.parse("", [], WORDS).roles == ()


def test_keywords_and_prose_are_told_apart() -> None:
    assert is_list(tag(tokens("fox, snow, night, watercolor"), LEXICON))
    assert not is_list(tag(tokens("a fox in the snow at night, painted in watercolor"), LEXICON))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(st.sampled_from([*VOCABULARY, *BANK.words, ",", ".", "and", "a", "zorb"]), max_size=40).map(" ".join),
    ),
    st.integers(0, 3),
)
def test_any_text_gives_a_valid_scene(prompt: str, references: int) -> None:
    found = PLANNER.plan(prompt, 3, 1.0, references=(0.6,) * references)
    assert Scene.model_validate_json(found.scene.model_dump_json()) == found.scene
    assert sorted(i.index for i in found.scene.items if isinstance(i, Reference)) == list(range(references))
    assert all(i.concept in BANK for i in found.scene.items if isinstance(i, Thing))


def test_nine_seeds_of_free_prose_give_nine_scenes_that_all_fit() -> None:
    prompt = "Far away on a hill, an old woman in a purple coat is waving to two dogs while the sun sets"
    scenes = [PLANNER.plan(prompt, seed, 1.0).scene for seed in range(9)]
    assert len({s.model_dump_json() for s in scenes}) == 9
    for scene in scenes:
        people = [i for i in scene.items if isinstance(i, Person)]
        assert [(p.age, p.top, p.top_colour, p.pose) for p in people] == [("elder", "coat", "purple", "waving")]
        assert sum(isinstance(i, Thing) and BANK[i.concept].concept == "dog" for i in scene.items) == 2
        assert scene.time == "sunset"


@pytest.mark.parametrize("prompt", ["a zorbly fox with striped wibbles", "fox, flumph, snow, gruntle"])
def test_words_that_nothing_knows_are_said_to_have_had_no_effect(prompt: str) -> None:
    strange = {"zorbly", "wibbles", "flumph", "gruntle"} & set(tokens(prompt))
    found = PLANNER.plan(prompt, 1, 1.0)
    assert strange <= {part for word in found.unused for part in tokens(word)}


def test_another_language_is_the_grammars() -> None:
    prompt = "dos globos rojos sobre una casa"
    assert PLANNER.read(prompt) == PLANNER.read(prompt, "grammar")


def test_two_readings_fill_each_other_up_and_contradict_nothing() -> None:
    first = Reading([Mention("cat", "thing", "cat", facts={"colour": "red"}), Mention("sofa", "thing", "sofa")])
    second = Reading(
        [Mention("sofa", "thing", "sofa"), Mention("cat", "thing", "cat", facts={"colour": "blue", "size": "tiny"})],
        {"time": "night"},
        unused=["old"],
    )
    second.mentions[1].relation, second.mentions[1].other = "on", 0
    first.unused += ["old", "tiny"]
    whole = filled(first, second)
    assert whole.mentions[0].facts == {"colour": "red", "size": "tiny"}
    assert (whole.mentions[0].relation, whole.mentions[0].other) == ("on", 1)
    assert (whole.setting, whole.unused) == ({"time": "night"}, ["old"])


def test_a_network_that_is_missing_is_refused_with_a_sentence(tmp_path: object) -> None:
    from pathlib import Path

    with pytest.raises(ModelUnusable, match=r"The planner has no readable meta\.json"):
        Reader.load(Path(str(tmp_path)))


def share(by: str, prompts: list[Case]) -> float:
    verdicts = [v.right for case in prompts for v in judge(case, PLANNER.read(case.prompt, by), BANK)]  # type: ignore[arg-type]  # one of By
    return sum(verdicts) / len(verdicts)


def test_on_prompts_written_by_hand_both_together_are_better_than_either() -> None:
    prompts = cases()
    assert len(prompts) >= 200
    both, grammar, network = (share(by, prompts) for by in ("both", "grammar", "network"))
    assert both > 0.93
    assert both > grammar
    assert both > network


def test_the_evaluation_fails_where_readings_are_of_other_prompts() -> None:
    prompts = [case for case in cases() if case.kind == "simple"]
    moved = [Case(c.kind, other.prompt, c.facts) for c, other in zip(prompts, prompts[1:] + prompts[:1], strict=True)]
    assert share("both", moved) < 0.35


@pytest.mark.parametrize("prompt", ["a chef cooking pasta in a kitchen", "a chef in a kitchen"])
def test_nobody_whom_the_grammar_finds_is_overlooked(prompt: str) -> None:
    assert "chef" in [mention.noun for mention in PLANNER.read(prompt).mentions]


def test_an_unknown_word_that_seems_to_be_a_person_is_told() -> None:
    reading = PLANNER.read("two red balloons above a frobnicator")
    assert [mention.noun for mention in reading.mentions] == ["balloons", "frobnicator"]
    assert reading.notes == ['The word "frobnicator" is not known: a person stands in.']


@pytest.mark.parametrize(
    ("prompt", "counts"),
    [
        ("duck", {"duck": 1}),
        ("brown umbrella", {"umbrella": 1}),
        ("a camera with a pizza", {"camera": 1, "pizza": 1}),
        ("both a yellow chair and a white camel", {"chair": 1, "camel": 1}),
        ("a pair of jeans next to a panda", {"jeans": 1, "panda": 1}),
        ("exactly three pairs of scissors", {"scissors": 3}),
        ("an owl under a bunch of grapes", {"owl": 1, "grapes": 1}),
        ("penguins (2)", {"penguin": 2}),
        ("toilets, 4 of them", {"toilet": 4}),
        ("not one but two pizzas", {"pizza": 2}),
        ("three wine glasses", {"wine-glass": 3}),
    ],
)
def test_everyday_turns_of_phrase_show_as_many_as_they_say(prompt: str, counts: dict[str, int]) -> None:
    items = PLANNER.plan(prompt, 3, 1.0).scene.items
    shown = [BANK[item.concept].concept for item in items if isinstance(item, Thing)]
    assert {concept: shown.count(concept) for concept in shown} == counts


@pytest.mark.parametrize(
    ("prompt", "plainer"),
    [
        ("A watermelon with a zebra on its right", "a zebra to the right of a watermelon"),
        ("a handbag, and to its left a parrot", "a parrot to the left of a handbag"),
        ("at the top a teapot, at the bottom a guitar", "a teapot above a guitar"),
        ("at the bottom a pair of jeans, at the top a guitar", "a guitar above one jeans"),
        ("right: a chair, left: a snail", "a chair to the right of a snail"),
        ("on the right, a balloon; on the left, a frog", "a balloon to the right of a frog"),
    ],
)
def test_sides_told_in_another_order_are_put_in_order(prompt: str, plainer: str) -> None:
    assert plain(prompt) == plainer
