"""Random scenes are valid, sensible and said in good English."""

from __future__ import annotations

import random
import re
from typing import get_args

import pytest

from limner.painter.bank import Bank
from limner.painter.composition import Wish
from limner.painter.denoiser import STYLES
from limner.painter.places import draw
from limner.painter.scene import Person, Place, Scene, Thing, Time, Weather
from limner.painter.training import captions
from limner.painter.training.captions import STYLE_WORDS, article, caption, names, person, plural, several, with_style
from limner.painter.training.scenes import random_person, random_scene, random_style

BANK = Bank.load()
LABELS = [BANK[name].label for name in BANK.names]


class Always(random.Random):
    """Chance that says everything, in the first of the words for it."""

    def random(self) -> float:
        return 0.2

    def choice(self, options):  # type: ignore[no-untyped-def, override]  # the base class's is generic
        return options[0]


def said(*wishes: Wish, **scene: object) -> str:
    return caption(wishes, Scene.model_validate({"items": ()} | scene), BANK, Always())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("octopus", "an octopus"),
        ("red fox", "a red fox"),
        ("orange hoodie", "an orange hoodie"),
        ("unicorn", "a unicorn"),
        ("hourglass", "an hourglass"),
        ("ukulele", "a ukulele"),
        ("umbrella", "an umbrella"),
        ("uninteresting egg", "an uninteresting egg"),
        ("u-turn arrow", "a u-turn arrow"),
        ("usb stick", "a usb stick"),
        ("euro banknote", "a euro banknote"),
        ("e-mail sign", "an e-mail sign"),
    ],
)
def test_articles_follow_the_sound(words: str, expected: str) -> None:
    assert article(words) == expected


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("cat", "cats"),
        ("bus", "buses"),
        ("cherry", "cherries"),
        ("toy", "toys"),
        ("potato", "potatoes"),
        ("sheep", "sheep"),
        ("snowman", "snowmen"),
        ("cup of coffee", "cups of coffee"),
        ("leaf in the wind", "leaves in the wind"),
        ("pair of dice", "pairs of dice"),
        ("tooth", "teeth"),
        ("glasses", None),
        ("grapes", None),
        ("bread", None),
        ("sheet music", None),
        ("santa claus", None),
        ("sun", None),
    ],
)
def test_plurals_are_made_where_there_are_any(noun: str, expected: str | None) -> None:
    assert plural(noun) == expected


@pytest.mark.parametrize("noun", ["cactus", "princess", "rhinoceros", "hourglass", "nest with eggs", "bus", "compass"])
def test_an_s_at_the_end_is_no_plural_by_itself(noun: str) -> None:
    assert not several(noun)


def test_no_label_of_the_bank_gets_a_double_plural() -> None:
    many = [plural(label) for label in LABELS]
    assert sum(word is not None for word in many) > 0.8 * len(LABELS)
    assert [word for word in many if word and re.search("sss|[^aeiou]ys$|ies?es$", word)] == []


def test_colours_and_sizes_stand_with_their_own_noun() -> None:
    bed, cats = (
        Wish(Thing(concept="bed", colour="orange"), size="large"),
        Wish(Thing(concept="cat"), 2, "small", "on", 0),
    )
    assert said(bed, cats) == "two small cats on a large orange bed"
    assert said(bed, cats, Wish(Thing(concept="red-apple"))) == (
        "a large orange bed and an apple, with two small cats on the bed"
    )


def test_what_was_moved_away_is_not_said_to_be_where_it_was_wished() -> None:
    wishes = [Wish(Thing(concept="bed")), Wish(Thing(concept="cat"), 1, "small", "on", 0)]
    assert caption(wishes, Scene(), BANK, Always(), placed=False) == "a bed and a cat"


def test_people_wear_what_they_wear() -> None:
    someone = Person(
        age="elder", build="masculine", hair="curly", hair_colour="white", top="armor", top_colour="silver",
        bottom="skirt", bottom_colour="orange", hat="wizard", hat_colour="purple", glasses="round", beard="full",
        pose="waving", expression="angry",
    )  # fmt: skip
    worn = "in silver armor and an orange skirt with a purple wizard hat, round glasses, curly white hair and a beard"
    assert person(someone, Always()) == (f"an angry old man waving {worn}", "man")
    robed = someone.model_copy(update={"top": "robe", "hat": None, "glasses": None, "beard": None, "hair": "bald"})
    assert person(robed, Always())[0] == "an angry bald old man waving in a silver robe"


def test_place_hour_and_weather_are_said_in_their_own_prepositions() -> None:
    fox = Wish(Thing(concept="fox"))
    assert said(fox, place="beach", time="sunset", weather="rain") == "a fox on the beach at sunset in the rain"
    assert said(fox, place="underwater", weather="rain") == "a fox underwater"
    assert said(fox, place="library", time="night", weather="snow") == "a fox in a library at night, snow outside"
    assert said(fox, place="plain", backdrop="orange") == "a fox on a plain orange background"


def test_random_captions_have_no_slip_of_grammar() -> None:
    rng, slips = random.Random(5), []
    wrong = re.compile(r"\b(a|an) (a|an|the)\b|\ba (?!eu)[aeio]|\ban [^aeiouhx]|  |sss|,,| ,|^ |\bthe the\b|None")
    for _ in range(200):
        _, text = random_scene(rng, 1.0, BANK)
        if wrong.search(text) or text != text.strip():
            slips.append(text)
    assert slips == []


def test_every_number_word_is_of_the_items_shown() -> None:
    rng = random.Random(6)
    for _ in range(200):
        scene, text = random_scene(rng, 1.0, BANK)
        counts = [captions.NUMBERS.index(word) for word in text.split() if word in captions.NUMBERS[2:6]]
        assert sum(counts) <= len(scene.items) + 2, text  # a label may count what is in one drawing: "two hearts"


def test_random_scenes_are_valid_varied_and_named_in_their_captions() -> None:
    rng = random.Random(0)
    scenes = [random_scene(rng, 1.5, BANK) for _ in range(150)]
    assert len({scene.place for scene, _ in scenes}) > 10
    for scene, text in scenes:
        assert Scene.model_validate(scene.model_dump()) == scene
        assert scene.items
        for concept in {item.concept for item in scene.items if isinstance(item, Thing)}:
            known = names(BANK)[concept]
            assert any(word in text or (plural(word) or word) in text for word in known), (concept, text)
        if any(isinstance(item, Person) for item in scene.items):
            assert re.search("man|girl|boy|grand", text)
        if scene.place != "plain":
            assert any(words in text for words in captions.PLACES[scene.place])


def test_the_generator_spans_places_hours_weathers_people_and_styles() -> None:
    rng = random.Random(1)
    places, times, weathers = (get_args(kind) for kind in (Place, Time, Weather))
    assert (len(places), len(times), len(weathers)) == (16, 5, 4)
    assert len(STYLES) >= 8
    scenes = [random_scene(rng, 1.0, BANK)[0] for _ in range(300)]
    for name, values in (("place", places), ("time", times), ("weather", weathers)):
        assert {getattr(scene, name) for scene in scenes} == set(values)
    people = [random_person(rng) for _ in range(400)]
    varied = [name for name in Person.model_fields if len({getattr(someone, name) for someone in people}) > 1]
    assert len(varied) >= 12
    drawn = {draw(p, t, w, 1.0, 7, None).svg for p in places for t in times for w in weathers}
    assert len(drawn) == 16 * 5 * 4


def test_random_people_take_every_value_of_the_schema() -> None:
    rng = random.Random(0)
    people = [random_person(rng) for _ in range(400)]
    assert len({person.pose for person in people}) == 8
    assert len({person.top for person in people}) == 10
    hats = [person.hat for person in people if person.hat]
    assert len(set(hats)) == 9
    assert 0.2 < len(hats) / len(people) < 0.5
    bearded = [someone for someone in people if someone.beard]
    assert {someone.beard for someone in bearded} == {"stubble", "full", "moustache"}
    assert sum(someone.build == "masculine" and someone.age != "child" for someone in bearded) > 0.8 * len(bearded)


def test_styles_are_all_practised_the_default_most() -> None:
    rng = random.Random(0)
    chosen = [random_style(rng) for _ in range(600)]
    assert set(chosen) == set(STYLES)
    assert max(STYLES, key=chosen.count) == STYLES[0]
    assert set(STYLE_WORDS) == set(STYLES)
    for style in STYLES[1:]:
        text = with_style("a cat", style, rng)
        assert "a cat" in text
        assert any(words in text for words in STYLE_WORDS[style])
    assert {with_style("a cat", "vivid", rng) for _ in range(60)} > {"vivid picture of a cat", "a cat, vibrant"}
