"""Captions for the planner's network: what they are made of, and that the labels are the words'."""

from __future__ import annotations

from collections import Counter

from limner.painter.bank import Bank, singular_phrase
from limner.painter.planner.reader import RELATIONS, ROLES
from limner.painter.planner.words import VOCABULARY, tokens
from limner.painter.training.planner_captions import caption, nouns_of
from limner.painter.training.planner_phrases import plural, vocabulary

NOUNS = nouns_of(Bank.load())
MADE = [made for made in (caption(seed, NOUNS) for seed in range(1500)) if made]


def test_nearly_every_seed_gives_a_caption_and_the_same_one_again() -> None:
    assert len(MADE) > 1400
    assert caption(5, NOUNS)[0] == MADE[5][0]  # type: ignore[index]  # one was made
    assert len({text for text, _ in MADE}) == len(MADE)


def test_the_labels_are_of_the_texts_own_words() -> None:
    for text, words in MADE:
        assert tokens(text) == [word.text for word in words]
        ids = {id(word) for word in words}
        for word in words:
            assert word.head is None or id(word.head) in ids
            assert word.other is None or id(word.other) in ids


def test_every_role_and_every_relation_is_met() -> None:
    roles = Counter(word.role for _, words in MADE for word in words)
    relations = Counter(word.relation for _, words in MADE for word in words if word.role == "relation")
    assert all(roles[role] > 20 for role in ROLES)
    assert all(relations[relation] > 5 for relation in RELATIONS)


def test_what_belongs_to_something_belongs_to_the_right_kind() -> None:
    for _, words in MADE:
        for word in words:
            if word.role == "garment" and word.head is not None:
                assert word.head.role in ("person", "again"), word.text
            if word.role == "again":
                assert word.head is not None
                assert word.head.role in ("thing", "person", "again")
            if word.role == "colour":
                assert word.head is not None
                assert word.head.role in ("thing", "person", "garment", "again", "place")


def test_words_beyond_the_bank_are_met_too() -> None:
    said = {word.text for _, words in MADE for word in words}
    beyond = {word for noun in vocabulary()["thing"] for word in noun.split()} - set(VOCABULARY)
    assert len(said & beyond) > 150


def test_plurals_find_their_way_back() -> None:
    for noun in ("dog", "box", "cherry", "bus", "birthday cake"):
        many = plural(noun)
        assert many is not None
        assert singular_phrase(many) == noun
