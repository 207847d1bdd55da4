from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limner.painter.bank import Bank
from limner.painter.training import normalise
from limner.painter.training.build_bank import NOTICE, Icon, IconSet, choose, drawing_rows, own_icon, pack
from limner.painter.training.lexicon import (
    CONCEPTS,
    FOREIGN,
    BuildFailed,
    Concept,
    foreign_words,
    read_concepts,
    read_foreign,
)  # fmt: skip
from limner.painter.training.sources import notice

SQUARE = '<path fill="#f00" d="M4 4h24v24H4z"/>'


def icons(folder: Path, key: str, names: dict[str, str]) -> IconSet:
    (folder / key).mkdir()
    data = {"width": 32, "icons": {name: {"body": SQUARE} for name in names}}
    (folder / key / "icons.json").write_text(json.dumps(data))
    (folder / key / "chars.json").write_text(json.dumps({point: name for name, point in names.items()}))
    return IconSet(key, folder / key)


def concept(name: str, mark: str = "") -> Concept:
    return Concept(name, mark, (name,), "food", "any", "tiny", "front")


def test_the_builder_fails_on_missing_names_and_lists_them_all(tmp_path: Path) -> None:
    first, second = icons(tmp_path, "one", {"pear": "1f350"}), icons(tmp_path, "two", {"the-pear": "1f350"})
    with pytest.raises(BuildFailed, match="No drawing of this name: aple, pech, plum"):
        choose([concept("pear"), concept("aple"), concept("pech", "-"), concept("plum", "*")], first, second)


def test_the_second_set_is_found_by_code_point_and_marks_choose(tmp_path: Path) -> None:
    first, second = icons(tmp_path, "one", {"pear": "1f350"}), icons(tmp_path, "two", {"the-pear": "1f350"})
    sources = {
        mark: [icon.source for _, icon in choose([concept("pear", mark)], first, second)] for mark in ("", "~", "+")
    }
    assert sources == {"": ["one", "two"], "~": ["two", "one"], "+": ["one"]}


def test_a_concept_whose_drawings_are_all_unusable_fails_the_build() -> None:
    with pytest.raises(BuildFailed, match=r"No usable drawing left of: pear\. .*element <filter>"):
        drawing_rows([(concept("pear"), Icon("one", "pear", "<filter/>", 32))])


def test_an_unusable_main_drawing_is_replaced_by_the_next_one() -> None:
    rows, dropped = drawing_rows(
        [(concept("pear"), Icon("one", "pear", "<filter/>", 32)), (concept("pear"), Icon("two", "pear", SQUARE, 32))]
    )
    assert [(row["name"], row["source"]) for row in rows] == [("pear", "two")]
    assert len(dropped) == 1


def test_what_is_measured_of_a_drawing() -> None:
    (row,), _ = drawing_rows([(concept("pear"), Icon("one", "pear", SQUARE, 32))])
    assert row["box"] == [4, 4, 24, 24]
    assert row["colours"] == ["red"]
    assert row["body"] == {"#ff0000": 1.0}


def test_the_same_drawings_pack_to_the_same_bytes() -> None:
    rows, _ = drawing_rows([(concept("pear"), Icon("one", "pear", SQUARE, 32))])
    assert pack(rows) == pack(rows)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pear", "before the first section"),
        ("[food any tiny]\npear", "a section is"),
        ("[food any wee front]\npear", "a section is"),
        ("[food any tiny front]\npear\npear", "comes twice"),
        ("[food any tiny front]\npear = fruit\nplum = fruit", "'fruit' names pear and plum"),
        ("[food any tiny front]\nPear!", "cannot be read"),
    ],
)
def test_a_faulty_list_of_concepts_is_refused(text: str, fault: str) -> None:
    with pytest.raises(BuildFailed, match=fault):
        read_concepts(text)


def test_the_committed_bank_is_the_one_that_the_lists_describe() -> None:
    bank, concepts = Bank.load(), read_concepts(CONCEPTS.read_text())
    assert bank.names == tuple(entry.name for entry in concepts)
    for entry in concepts:
        drawing = bank[entry.name]
        assert (drawing.label, drawing.group, drawing.surface) == (entry.words[0], entry.group, entry.surface)
    everyday = read_foreign(FOREIGN.read_text(), set(bank.names))
    assert everyday["de"].items() <= bank.foreign("de").items()


def test_a_faulty_line_of_foreign_words_is_refused() -> None:
    with pytest.raises(BuildFailed, match="is not a concept"):
        read_foreign("gryphon = a; b; c; d; e", {"dog"})
    with pytest.raises(BuildFailed, match=r"'a' \(zh\) names two concepts"):
        read_foreign("dog = a; b; c; d; e\ncat = a; x; y; z; w", {"dog", "cat"})


def test_keywords_of_another_language_count_only_as_the_head_of_a_label() -> None:
    entries = [("manzana roja", ["manzana", "roja", "fruta"], concept("red-apple"))]
    assert foreign_words(entries, "es") == {"manzana roja": "red-apple", "manzana": "red-apple"}


def test_notice_is_the_one_that_the_sources_give() -> None:
    assert NOTICE.read_text() == notice()
    for holder in ("Microsoft Corporation", "Google LLC", "Miles Johnson", "all-MiniLM-L6-v2"):
        assert holder in notice()


@pytest.mark.parametrize(
    ("value", "plain"),
    [("#f00", ("#ff0000", 1.0)), ("#F008", ("#ff0000", 136 / 255)), ("#11223380", ("#112233", 128 / 255)),
     ("silver", ("#c0c0c0", 1.0)), ("rgba(1, 2, 3, .5)", ("#010203", 0.5)), ("none", ("none", 1.0))],
)  # fmt: skip
def test_colours_become_six_digits_and_an_opacity(value: str, plain: tuple[str, float]) -> None:
    assert normalise.plain_colour(value) == plain


def test_an_unknown_colour_or_element_is_refused() -> None:
    with pytest.raises(normalise.CannotNormalise, match="currentColor"):
        normalise.plain_colour("currentColor")
    with pytest.raises(normalise.CannotNormalise, match="element <image>"):
        normalise.normalise("<image/>", "x", 32)


def test_paths_are_rounded_and_arc_flags_kept() -> None:
    assert normalise.shorter_path("m1.23456.5001l-.004-2a1 1 0 01.5.5z") == "m1.23 .5l0-2a1 1 0 0 1 .5 .5z"


def test_uses_and_inherited_gradients_are_written_out() -> None:
    body = (
        '<defs><path id="a" d="M0 0h32v32H0z"/><use href="#a" id="b"/>'
        '<linearGradient id="g"><stop stop-color="#f00"/></linearGradient>'
        '<linearGradient id="h" href="#g" x1="0"/></defs><clipPath id="c"><use href="#b"/></clipPath>'
        '<g clip-path="url(#c)"><circle cx="16" cy="16" r="9" fill="url(#h)"/></g>'
    )
    plain = normalise.normalise(body, "pear", 32)
    assert "use" not in plain
    assert "href" not in plain
    assert plain.count("<stop") == 1
    assert normalise.disagreement(plain, body, 32) < 0.5


def test_what_lies_outside_the_view_box_is_clipped() -> None:
    plain = normalise.normalise('<path fill="#f00" d="M-20-20h72v72h-72z"/>', "pear", 32)
    assert normalise.by_skia(plain, (-32, -32, 96, 96), 96)[:28, :, 3].max() == 0


def test_a_drawing_of_our_own_has_a_square_root(tmp_path: Path) -> None:
    (tmp_path / "wide.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 20"></svg>')
    with pytest.raises(BuildFailed, match="no plain square root"):
        own_icon("wide", tmp_path)
    assert own_icon("none", tmp_path) is None
    table = own_icon("table")
    assert table is not None
    assert np.any(normalise.by_resvg(table.svg, (0, 0, table.side, table.side), 32))
