from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import limner
from limner.painter.bank import Bank
from limner.painter.training import normalise
from limner.painter.training.build_bank import NOTICE, choose, drawing_rows, pack
from limner.painter.training.icons import Clipart, Icon, IconSet, own_icon
from limner.painter.training.lexicon import (
    CONCEPTS,
    FOREIGN,
    BuildFailed,
    Concept,
    foreign_words,
    read_concepts,
    read_foreign,
)  # fmt: skip
from limner.painter.training.packages import check, fetch_debian
from limner.painter.training.sources import CHARACTERS, ICONS, PHOTOGRAPHS, Source, notice

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


DISC = '<path fill="#fabc3d" d="M24 47.998c13.255 0 24-10.745 24-24"/>'


def of_set(name: str, origin: str, tints: tuple[str, ...] = ()) -> Concept:
    return Concept(name, "", (name,), "food", "any", "tiny", "front", origin, tints)


def test_a_concept_may_take_its_drawing_from_another_set(tmp_path: Path) -> None:
    first, second = icons(tmp_path, "one", {}), icons(tmp_path, "two", {})
    flat = icons(tmp_path, "flat", {"tower": ""})
    (tmp_path / "food").mkdir()
    (tmp_path / "food" / "pear.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{SQUARE}</svg>'
    )
    others: dict[str, IconSet | Clipart] = {"flat": flat, "clipart": Clipart(tmp_path)}
    concepts = [of_set("dam", "flat:tower"), of_set("pear", "clipart:food/pear")]
    assert [(entry.name, icon.source) for entry, icon in choose(concepts, first, second, others)] == [
        ("dam", "flat"),
        ("pear", "clipart"),
    ]
    with pytest.raises(BuildFailed, match="No drawing of this name: fig, plum"):
        choose([of_set("fig", "flat:fig"), of_set("plum", "clipart:food/plum")], first, second, others)


def test_the_disc_that_an_icon_lies_on_is_taken_off_and_must_be_there(tmp_path: Path) -> None:
    first, second = icons(tmp_path, "one", {}), icons(tmp_path, "two", {})
    (tmp_path / "kameleon").mkdir()
    bodies = {"kit": f'<g fill="none">{DISC}{SQUARE}</g>', "bare": f'<g fill="none">{SQUARE}</g>'}
    data = {"width": 48, "icons": {name: {"body": body} for name, body in bodies.items()}}
    (tmp_path / "kameleon" / "icons.json").write_text(json.dumps(data))
    others: dict[str, IconSet | Clipart] = {"kameleon": IconSet("kameleon", tmp_path / "kameleon")}
    ((_, icon),) = choose([of_set("kit", "kameleon:kit")], first, second, others)
    assert icon.svg == f'<g fill="none">{SQUARE}</g>'
    with pytest.raises(BuildFailed, match="kameleon:bare lies on no disc"):
        choose([of_set("bare", "kameleon:bare")], first, second, others)


def test_a_line_of_the_list_may_name_a_set_its_icon_and_colours() -> None:
    (axe, dam) = read_concepts(
        "[tool any small front]\nbattle-axe @game:axe[silver,brown] = battle axe, war axe\ndam @flat:dam"
    )
    assert (axe.origin, axe.tints, axe.words) == ("game:axe", ("silver", "brown"), ("battle axe", "war axe"))
    assert (dam.origin, dam.tints, dam.words) == ("flat:dam", (), ("dam",))


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


def test_notice_credits_every_source_of_attribution_with_its_licence() -> None:
    text = notice()
    for source in (*ICONS.values(), *CHARACTERS, PHOTOGRAPHS):
        assert source.title in text
        assert source.copyright in text
    assert "https://creativecommons.org/licenses/by/4.0/" in text
    assert "https://creativecommons.org/licenses/by/3.0/" in text


def test_notice_credits_every_set_of_the_reference_task() -> None:
    for source in json.loads((Path(limner.__file__).parent / "evaluation/characters/meta.json").read_text())["sources"]:
        assert source["work"] in notice()
        assert source["by"] in notice()


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    source = Source("T", "t", "1", "npm", "MIT", "C", "H", "U", files={"icons.json": "0" * 64})
    (tmp_path / "icons.json").write_text("{}")
    with pytest.raises(BuildFailed, match=r"t 1: icons\.json is not the file that was pinned"):
        check(source, tmp_path)


def test_a_debian_package_is_unpacked_by_its_format(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as package:
        entry = tarfile.TarInfo("usr/share/pear.svg")
        entry.size = 3
        package.addfile(entry, io.BytesIO(b"abc"))

    def member(name: str, content: bytes) -> bytes:
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        return header + content + b"\n" * (len(content) % 2)

    archive = b"!<arch>\n" + member("debian-binary", b"2.0") + member("data.tar.xz", inner.getvalue())
    (tmp_path / "pear_1_all.deb").write_bytes(archive)
    source = Source(
        "T", "pear", "1", "Debian", "CC-PDDC", "C", "H", "U",
        files={"pear_1_all.deb": hashlib.sha256(archive).hexdigest()},
    )  # fmt: skip
    assert (fetch_debian(source, tmp_path) / "usr/share/pear.svg").read_text() == "abc"
