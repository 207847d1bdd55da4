"""Which models there are: the TOML file, the pairs of the command line, names and who has them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.config import Settings
from limner.errors import InvalidRequest, SettingsInvalid
from limner.models import entries
from limner.models.families import FAMILIES
from limner.models.registry import LIVE_STYLES, PAINTER, STYLES, Lora, Model, Registry, Style, located

PATH = Path("/models/here/models.toml")

EVERYTHING = """
["my flux"]
weights = "black-forest-labs/FLUX.1-schnell"
base = "base"
aliases = ["gpt-image-1", "b"]
steps = 4
guidance = 1
sampler = "dpm++2m"
device = "cuda:1"
precision = "bf16"
quantize = "int8"
runtime = "torch"
batch = 2
adapter = "ip.safetensors"
reference_strength = 0.5
first_block = 0.1
loras = [{ path = "detail.safetensors", weight = 0.7 }, { path = "/else/light.safetensors" }]

["my flux".styles."漫画"]
phrase = "comic book art"

["my flux".styles.noir]
lora = { path = "noir.safetensors", weight = -1 }
"""


def refusal(text: str) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        entries.read(text, PATH)
    assert "\n" not in caught.value.message
    assert "pydantic" not in caught.value.message
    return caught.value.message


def model(name: str, weights: str = "/w", **more: Any) -> Model:
    return Model(name, weights, **more)


# The file


def test_every_field_can_be_written_and_relative_paths_are_the_files_own() -> None:
    (read,) = entries.read(EVERYTHING, PATH)
    assert read == Model(
        "my flux",
        "black-forest-labs/FLUX.1-schnell",
        base="/models/here/base",
        aliases=("gpt-image-1", "b"),
        steps=4,
        guidance=1.0,
        sampler="dpm++2m",
        device="cuda:1",
        precision="bf16",
        quantize="int8",
        runtime="torch",
        batch=2,
        adapter="/models/here/ip.safetensors",
        reference_strength=0.5,
        first_block=0.1,
        styles=(
            Style("comic", "comic book art"),
            Style("noir", lora=Lora("/models/here/noir.safetensors", -1.0)),
        ),
        loras=(Lora("/models/here/detail.safetensors", 0.7), Lora("/else/light.safetensors")),
    )
    missing = [field.name for field in fields(Model) if field.name not in EVERYTHING and field.name != "name"]
    assert missing == []


def test_what_is_left_out_is_the_familys_choice() -> None:
    assert entries.read('[a]\nweights = "/w"', PATH) == (Model("a", "/w"),)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("stpes = 1", "stpes is no key of [a] in /models/here/models.toml that Limner knows. Did you mean steps?"),
        ("name = 'b'", "name is no key of [a]"),
        ("steps = true", "steps of [a] in /models/here/models.toml cannot be used: input should be a valid integer"),
        ("steps = '4'", "valid integer"),
        ("steps = 4.5", "valid integer"),
        ("steps = 0", "greater than or equal to 1"),
        ("steps = 201", "less than or equal to 200"),
        ("steps = 2021-01-01", "valid integer"),
        ("guidance = 0.5", "greater than or equal to 1"),
        ("guidance = nan", "guidance of [a]"),
        ("guidance = inf", "guidance of [a]"),
        ("sampler = 'eulre'", "'euler', 'ddim'"),
        ("device = 'gpu'", "give auto, cpu, cuda, cuda:1 or mps"),
        ("precision = 'fp16'", "'auto', 'f32', 'bf16' or 'f16'"),
        ("quantize = 'int4'", "'int8' or 'fp8'"),
        ("batch = 0", "greater than or equal to 1"),
        ("reference_strength = 1.5", "less than or equal to 1"),
        ("base = ''", "at least 1 character"),
        ("aliases = 'b'", "aliases of [a] in /models/here/models.toml cannot be used: input should be a list"),
        ("aliases = ['']", "cannot be a model's name"),
        ("aliases = [1]", "aliases.1 of [a]"),
        ("loras = 3", "loras of [a]"),
        ("loras = ['x']", "loras.1 of [a] in /models/here/models.toml cannot be used: input should be a table"),
        ("loras = [{path = 'x'}, {path = 'y', wieght = 1}]", "[a] in /models/here/models.toml, loras 2"),
        ("loras = [{path = 'x'}, {path = 'y', weight = '1'}]", "loras.2.weight of [a]"),
        ("loras = [{path = 'x', weight = 5}]", "less than or equal to 4"),
        ("loras = [{weight = 1}]", "loras.1.path of [a]"),
        ("styles = 3", "styles of [a] in /models/here/models.toml must be tables"),
        ("styles.noir = 'dark'", "must be tables"),
        ("styles.noir = {}", "styles.noir of [a] in /models/here/models.toml is empty"),
        ("styles.noir.phrsae = 'dark'", "Did you mean phrase?"),
        ("styles.noir.lora.weight = 1", "styles.noir.lora.path of [a]"),
        ("styles.noir.lora.pth = 'x'", "[a] in /models/here/models.toml, styles.noir.lora that"),
        ("styles.noir.lora = 3", "styles.noir.lora of [a]"),
        ("styles.comic.phrase = 'x'\nstyles.'漫画'.phrase = 'y'", "comic twice"),
        ("weights = '/again'", "not valid TOML"),
    ],
)
def test_a_wrong_entry_is_told_by_file_table_and_key(lines: str, sentence: str) -> None:
    assert sentence in refusal(f"[a]\nweights = '/w'\n{lines}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("weights = '/w'", "stands outside any model"),
        ("[a]\nsteps = 4", "[a] in /models/here/models.toml has no weights"),
        ("[a]\nweights = 3", "weights of [a]"),
        ("[[a]]\nweights = '/w'", "stands outside any model"),
        ("[a", "not valid TOML"),
        ("a = " + "[" * 100_000, "not valid TOML"),
        ("['a=b']\nweights = '/w'", "cannot be a model's name"),
        ("['a/b']\nweights = '/w'", "cannot be a model's name"),
        ("[' a']\nweights = '/w'", "cannot be a model's name"),
        ("['']\nweights = '/w'", "cannot be a model's name"),
        (
            "[a]\nweights = '/w'\naliases = ['c']\n[b]\nweights = '/v'\naliases = ['c']",
            "[a] and [b] both claim the name c",
        ),
        ("[a]\nweights = '/w'\n[b]\nweights = '/v'\naliases = ['a']", "[a] and [b] both claim the name a"),
        ("[a]\nweights = '/w'\naliases = ['a']", "[a] and [a] both claim the name a"),
    ],
)
def test_a_wrong_file_is_told(text: str, sentence: str) -> None:
    assert sentence in refusal(text)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        entries.read_file(tmp_path / "none.toml")
    (tmp_path / "models.toml").symlink_to("none.toml")
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        entries.load(Settings(data_dir=tmp_path))
    (tmp_path / "latin.toml").write_bytes(b"# \xe8\n")
    with pytest.raises(SettingsInvalid, match="not UTF-8"):
        entries.read_file(tmp_path / "latin.toml")


def test_how_weights_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    for written, meant in {
        "painter": PAINTER,
        "./painter": str(tmp_path / "painter"),
        "sd-turbo": str(tmp_path / "sd-turbo"),
        "sd-turbo/": str(tmp_path / "sd-turbo"),
        "../sd.safetensors": str(tmp_path.parent / "sd.safetensors"),
        "weights/sd.safetensors": str(tmp_path / "weights" / "sd.safetensors"),
        "/m/sd": "/m/sd",
        "~/sd": "/home/me/sd",
        "~nobody-of-this-name/sd": str(tmp_path / "~nobody-of-this-name" / "sd"),
        "stabilityai/sd-turbo": "stabilityai/sd-turbo",
        "owner/name": str(tmp_path / "owner" / "name"),
        "./stabilityai/sd-turbo": str(tmp_path / "stabilityai" / "sd-turbo"),
        "a/b/c": str(tmp_path / "a" / "b" / "c"),
    }.items():
        assert located(written, tmp_path) == meant


def test_links_in_a_path_stay_links(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "link").symlink_to("to")
    assert located("link", tmp_path) == str(tmp_path / "link")


# Names


def test_without_any_model_the_two_known_names_are_the_painter() -> None:
    registry = Registry.of(())
    assert registry.models == (Model("image-01", PAINTER),)
    assert registry.names == {"image-01": "image-01", "image-01-live": "image-01"}
    assert registry.live == {"image-01-live"}
    assert registry.lookup("image-01-live").weights == PAINTER


def test_weights_of_image_01_are_those_of_image_01_live_too() -> None:
    registry = Registry.of([model("image-01")])
    assert registry.lookup("image-01-live") is registry.lookup("image-01")
    assert len(registry.models) == 1


def test_weights_of_image_01_live_alone_leave_image_01_the_painter() -> None:
    registry = Registry.of([model("image-01-live", aliases=("art",))])
    assert registry.lookup("image-01").weights == PAINTER
    assert registry.lookup("art").weights == "/w"
    assert registry.live == {"image-01-live", "art"}


def test_other_names_stand_beside_the_known_ones_which_come_first() -> None:
    registry = Registry.of(
        [model("big", aliases=("gpt-image-1",))], {"small": "/s"}, {"mine": "small", "art": "image-01-live"}
    )
    assert list(registry.names) == ["image-01", "image-01-live", "big", "gpt-image-1", "small", "mine", "art"]
    assert registry.lookup("gpt-image-1").name == "big"
    assert registry.lookup("mine").weights == "/s"
    assert registry.live == {"image-01-live", "art"}
    assert [model.name for model in registry.models] == ["big", "small", "image-01"]


def test_a_known_name_may_be_an_alias() -> None:
    registry = Registry.of([model("big", aliases=("image-01",))])
    assert registry.names == {"image-01": "big", "image-01-live": "big", "big": "big"}
    registry = Registry.of([model("big"), model("art")], {}, {"image-01": "big", "image-01-live": "art"})
    assert registry.names == {"image-01": "big", "image-01-live": "art", "big": "big", "art": "art"}
    assert registry.live == {"image-01-live"}
    assert Registry.of((), {}, {"image-01": "image-01-live"}) == Registry.of(())
    assert Registry.of((), {}, {"image-01-live": "image-01"}) == Registry.of(())


def test_a_pair_wins_over_the_files_entry_whole_and_over_its_aliases() -> None:
    registry = Registry.of(
        [model("image-01", steps=4), model("big", aliases=("fast",))], {"image-01": "/p", "fast": "/f"}
    )
    assert registry.lookup("image-01") == model("image-01", "/p")
    assert registry.lookup("fast") == model("fast", "/f")
    assert registry.lookup("big").aliases == ()


def test_the_painter_can_be_kept_under_another_name() -> None:
    registry = Registry.of([model("image-01")], {"drawn": "painter"})
    assert registry.lookup("drawn").weights == PAINTER


@pytest.mark.parametrize(
    ("models", "pairs", "aliases", "sentence"),
    [
        ([model("a"), model("b", aliases=("a",))], {}, {}, "Models a and b both claim the name a"),
        (
            [model("a")],
            {},
            {"a": "image-01"},
            "model_aliases gives the name a to image-01, but it is a name of model a",
        ),
        ([model("big")], {}, {"mine": "bgi"}, "which is no model. Did you mean big?"),
        ([], {}, {"mine": "image-02"}, "Did you mean image-01?"),
        ([], {"a/b": "/w"}, {}, "cannot be a model's name"),
        ([], {}, {"a,b": "image-01"}, "cannot be a model's name"),
    ],
)
def test_names_that_clash_or_lead_nowhere_are_refused(
    models: list[Model], pairs: dict[str, str], aliases: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        Registry.of(models, pairs, aliases)
    assert sentence in caught.value.message


def test_a_name_that_is_none_is_an_invalid_request_that_names_the_models() -> None:
    with pytest.raises(InvalidRequest, match=r"no model 'image-02'; there are image-01, image-01-live"):
        Registry.of(()).lookup("image-02")


def test_the_settings_say_where_the_file_is(tmp_path: Path) -> None:
    assert entries.load(Settings(data_dir=tmp_path)) == Registry.of(())
    (tmp_path / "models.toml").write_text('[image-01]\nweights = "sd"')
    registry = entries.load(Settings(data_dir=tmp_path, models={"big": "/b"}, model_aliases={"mine": "big"}))
    assert registry.lookup("image-01").weights == str(tmp_path / "sd")
    assert registry.lookup("mine").weights == "/b"
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        entries.load(Settings(data_dir=tmp_path, models_file=tmp_path / "none.toml"))


# Styles


def test_the_live_styles_are_phrases_until_an_entry_says_otherwise() -> None:
    plain = model("a")
    assert {style.name for style in STYLES} == set(LIVE_STYLES.values())
    for theirs, ours in LIVE_STYLES.items():
        style = plain.style(theirs)
        assert style is not None
        assert style is plain.style(ours)
        assert style.phrase
    assert plain.style("noir") is None
    own = replace(plain, styles=(Style("comic", "mine"), Style("noir", "dark")))
    assert own.style("漫画") == Style("comic", "mine")
    assert own.style("noir") == Style("noir", "dark")
    assert own.style_names == ("comic", "noir", "vivid", "medieval", "watercolor")


# Writing

FILE = """# Our models.

[image-01]  # the usual one
weights = "/m/sd"
[image-01.styles.comic]
phrase = "ink"

# Below: the large one.
["big one"]
weights = "/m/flux"
loras = [
  { path = "a.safetensors" },
]
# a last word
[other]
weights = "/m/o"
"""


def test_an_entry_is_appended_and_what_was_there_stays_as_it_was() -> None:
    text = entries.added(FILE, PATH, "my model", {"weights": "/m/x", "aliases": ["y"], "steps": 4, "guidance": 1.5})
    assert text.startswith(FILE.rstrip())
    added = entries.read(text, PATH)[-1]
    assert added == Model("my model", "/m/x", aliases=("y",), steps=4, guidance=1.5)
    assert entries.added("", PATH, "a", {"weights": "/w"}) == '[a]\nweights = "/w"\n'


@pytest.mark.parametrize(
    ("name", "table", "sentence"),
    [
        ("other", {"weights": "/w"}, "has a model other already. Take it out first: limner models remove other"),
        ("x", {"weights": "/w", "aliases": ["other"]}, "both claim the name other"),
        ("x", {"weights": "/w", "steps": 0}, "steps of [x]"),
        ("x=y", {"weights": "/w"}, "cannot be a model's name"),
        ("x", {"weights": os.fsdecode(b"/m/mod\xe8le")}, "not UTF-8"),
    ],
)
def test_an_entry_that_would_make_the_file_wrong_is_not_added(name: str, table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        entries.added(FILE, PATH, name, table)
    assert sentence in caught.value.message


def test_an_entry_is_removed_with_its_own_tables_alone() -> None:
    without = entries.removed(FILE, PATH, "image-01")
    assert without.startswith("# Our models.\n")
    assert '# Below: the large one.\n["big one"]' in without
    assert list(tomllib.loads(without)) == ["big one", "other"]
    without = entries.removed(without, PATH, "big one")
    assert "# a last word\n[other]" in without
    assert list(tomllib.loads(entries.removed(without, PATH, "other"))) == []


def test_an_entry_that_is_not_there_or_not_a_table_of_its_own_is_not_removed() -> None:
    with pytest.raises(SettingsInvalid, match=r"has no model big\. There are image-01, big one, other"):
        entries.removed(FILE, PATH, "big")
    for text in (
        'a.weights = "/w"\n',
        'a = { weights = "/w" }\n',
        '[b]\nweights = "/w"\nbase = """\n[a]\n"""\n[a]\nweights = "/v"\n',
    ):
        with pytest.raises(SettingsInvalid, match="Take it out by hand"):
            entries.removed(text, PATH, "a")


def test_the_file_is_replaced_in_one_step_and_keeps_its_permissions_and_its_link(tmp_path: Path) -> None:
    path = tmp_path / "data" / "models.toml"
    entries.write(path, "# one\n")
    path.chmod(0o600)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    entries.write(link, "# two\n")
    assert (path.read_text(), path.stat().st_mode & 0o777, link.is_symlink()) == ("# two\n", 0o600, True)
    assert [entry.name for entry in path.parent.iterdir()] == ["models.toml"]
    with pytest.raises(SettingsInvalid, match="cannot be written"):
        entries.write(path / "below", "")


# Noise

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6) | st.sampled_from(["a", "image-01", "my flux"])
numbers = st.integers(-5, 300) | st.floats() | st.booleans()
texts = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["euler", "cpu", "/w", "a/b", "painter"])
values = st.recursive(
    numbers | texts, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2)
)
keys = st.sampled_from([field.name for field in fields(Model)]) | names
tables = st.dictionaries(keys, values, max_size=4).map(lambda table: {"weights": "/w", **table})


@given(text=st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_is_entries_or_a_sentence(text: str) -> None:
    try:
        entries.read(text, PATH)
    except SettingsInvalid as error:
        told = error.message
    else:
        return
    assert told.startswith("The models file /models/here/models.toml is not valid TOML") or "models.toml" in told


@given(document=st.dictionaries(names, tables, max_size=3))
@settings(max_examples=300, deadline=None)
def test_any_table_is_an_entry_or_a_sentence(document: dict[str, Any]) -> None:
    text = "".join(
        f"[{json.dumps(name, ensure_ascii=False)}]\n"
        + "".join(f"{json.dumps(key, ensure_ascii=False)} = {toml(value)}\n" for key, value in table.items())
        for name, table in document.items()
    ).replace("\x7f", "\\u007f")
    try:
        models = entries.read(text, PATH)
    except SettingsInvalid:
        return
    assert [model.name for model in models] == list(document)
    for model in models:
        assert model.steps is None or 1 <= model.steps <= 200
        assert Registry.of([model]).lookup(model.name) is not None


def toml(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{toml(str(key))} = {toml(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case float():
            return repr(value)
    return json.dumps(value, ensure_ascii=False)


@given(
    given_names=st.lists(
        names.filter(lambda name: name.isprintable() and name == name.strip() and not set(name) & set("=,/\\")),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_what_was_added_can_be_removed_and_the_rest_is_as_before(given_names: list[str], data: st.DataObject) -> None:
    text = ""
    for name in given_names:
        text = entries.added(text, PATH, name, {"weights": f"/{name}", "aliases": [f"{name}'"]})
    gone = data.draw(st.sampled_from(given_names))
    before = entries.read(text, PATH)
    assert [model.name for model in before] == given_names
    assert entries.read(entries.removed(text, PATH, gone), PATH) == tuple(m for m in before if m.name != gone)


def test_the_models_need_nothing_that_is_slow_to_import(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom limner.models import entries, folder, families\nfolder\n"
        "slow = {'torch', 'diffusers', 'transformers', 'safetensors', 'gguf', 'openvino', 'skia', 'fastapi', 'PIL'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"


# The page


def test_the_page_of_models_shows_every_key_and_every_family(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text("utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    models = entries.read(example, PATH)
    assert [model.name for model in models] == ["image-01", "big"]
    written = {key for table in tomllib.loads(example).values() for key in table}
    assert written == {field.name for field in fields(Model)} - {"name"}
    assert models[1].style("漫画") == Style(
        "comic", "comic book art, bold ink lines", Lora("/models/here/comic.safetensors", 0.8)
    )
    methods = {"adapter": "by an adapter", "tokens": "as tokens", None: "none"}
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \| (.*) \| (yes|no) \|$", page, re.MULTILINE)
    told = {pipeline: (name, *can) for name, pipelines, *can in rows for pipeline in pipelines.split(", ")}
    assert told.pop("every other that paints from words") == ("any-diffusers", "none", "no")
    assert told == {pipeline: (family.name, methods[family.references], "yes") for pipeline, family in FAMILIES.items()}
