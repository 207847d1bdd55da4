"""The wire contract, field by field and row by row (docs/http.md). No server: documents in, documents out."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.api import contract
from limner.api.contract import Call, read_call, size_of
from limner.config import Settings
from limner.errors import InvalidRequest
from limner.models import entries
from limner.service import Outcome, Picture

DEFAULTS = Settings()
DATA_URL = "data:image/jpeg;base64," + base64.b64encode(b"picture").decode()


def call(settings: Settings = DEFAULTS, /, **fields: Any) -> Call:
    document = {"model": "image-01", "prompt": "a red fox", **fields}
    return read_call(
        {name: value for name, value in document.items() if value is not ...}, settings, entries.load(settings)
    )


def refusal(settings: Settings = DEFAULTS, /, **fields: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        call(settings, **fields)
    return caught.value.message


def test_the_least_call_has_the_documented_defaults() -> None:
    order = call().order
    assert (order.model, order.width, order.height, order.n, order.seed) == ("image-01", 1024, 1024, 1, None)
    assert (order.optimize_prompt, order.watermark, order.references, order.live_style) == (False, False, (), None)
    assert call().response_format == "url"
    assert order.link
    assert not call(response_format="base64").order.link


@pytest.mark.parametrize("field", [name for name in contract.ImageRequest.model_fields if name != "prompt"])
def test_null_means_absent(field: str) -> None:
    assert call(**{field: None}).order == call().order


@pytest.mark.parametrize("field", ["model", "prompt"])
def test_a_required_field_that_is_missing_is_named(field: str) -> None:
    assert f"Field {field} is required" in refusal(**{field: ...})


def test_a_null_prompt_is_missing() -> None:
    assert "Field prompt is required" in refusal(prompt=None)


@pytest.mark.parametrize("name", ["image-02", "image-pro", "minimax-image-01", "IMAGE-01", "", 7, True, [], {}])
def test_an_unknown_model_is_refused_with_the_known_ones(name: Any) -> None:
    sentence = refusal(model=name)
    assert "image-01, image-01-live" in sentence


def test_further_names_of_a_model_have_the_rules_of_what_they_stand_for() -> None:
    settings = Settings(model_aliases={"mine": "image-01-live", "other": "image-01"}, models={"big": "/models/flux"})
    style = {"style_type": "漫画"}
    assert call(settings, model="mine", style=style).order.live_style == "漫画"
    for name in ("other", "big"):
        told = call(settings, model=name, style=style, width=512, height=512)
        assert (told.order.model, told.order.live_style, told.order.width) == (name, None, 512)
    assert "image-01, image-01-live, big, mine, other" in refusal(settings, model="none")


@pytest.mark.parametrize("prompt", [1, 1.5, True, [], {}, ["a fox"]])
def test_a_prompt_is_a_string(prompt: Any) -> None:
    assert "Field prompt must be a valid string" in refusal(prompt=prompt)


@pytest.mark.parametrize(("ratio", "size"), contract.SIZES.items())
def test_each_documented_ratio_has_its_exact_size(ratio: str, size: tuple[int, int]) -> None:
    order = call(aspect_ratio=ratio).order
    assert (order.width, order.height) == size


def test_the_table_of_sizes_is_the_published_one() -> None:
    assert contract.SIZES == {
        "1:1": (1024, 1024),
        "16:9": (1280, 720),
        "4:3": (1152, 864),
        "3:2": (1248, 832),
        "2:3": (832, 1248),
        "3:4": (864, 1152),
        "9:16": (720, 1280),
        "21:9": (1344, 576),
    }


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        ("9:21", (672, 1568)),
        ("3:5", (792, 1320)),
        ("5:3", (1320, 792)),
        ("1:4", (512, 2048)),
        ("4:1", (2048, 512)),
        ("32:18", (1280, 720)),
        ("2:2", (1024, 1024)),
    ],
)
def test_other_ratios_have_about_a_megapixel(ratio: str, size: tuple[int, int]) -> None:
    assert size_of(ratio, extra=True) == size


@given(st.integers(1, 9999), st.integers(1, 9999))
def test_every_ratio_from_one_fourth_to_four_has_a_lawful_size(a: int, b: int) -> None:
    if not b <= 4 * a <= 16 * b:
        with pytest.raises(InvalidRequest):
            size_of(f"{a}:{b}", extra=True)
        return
    for side in size_of(f"{a}:{b}", extra=True):
        assert 512 <= side <= 2048
        assert side % 8 == 0


@pytest.mark.parametrize("ratio", ["9:21", "3:5", "32:18", "auto", "", "16x9", "16:9 ", "1:5", "0:1", "1:0", "-1:1"])
def test_without_extra_ratios_only_the_eight_are_accepted(ratio: str) -> None:
    sentence = refusal(Settings(extra_ratios=False), aspect_ratio=ratio)
    assert "1:1, 16:9, 4:3, 3:2, 2:3, 3:4, 9:16, 21:9" in sentence
    assert "another" not in sentence


@pytest.mark.parametrize("ratio", ["auto", "", "16x9", "1:5", "5:1", "0:1", "1:0", "-1:1", "1.5:1", "1:99999", 1, True])
def test_what_is_no_ratio_is_refused_with_what_is(ratio: Any) -> None:
    assert "Field aspect_ratio must be" in refusal(aspect_ratio=ratio)


@pytest.mark.parametrize("side", [512, 520, 1080, 2048])
def test_width_and_height_are_taken_exactly(side: int) -> None:
    order = call(width=side, height=1920).order
    assert (order.width, order.height) == (side, 1920)


@pytest.mark.parametrize("side", [511, 504, 0, -512, 2049, 2056, 513, 1020.5, "wide", "512.0", True, [], {}, 10**30])
@pytest.mark.parametrize("field", ["width", "height"])
def test_a_side_out_of_range_is_refused(field: str, side: Any) -> None:
    assert f"Field {field} must" in refusal(**{"width": 1024, "height": 1024, field: side})


@pytest.mark.parametrize(("given_", "missing"), [("width", "height"), ("height", "width")])
def test_one_side_alone_is_refused(given_: str, missing: str) -> None:
    assert f"got {given_} without {missing}" in refusal(**{given_: 1024})


@pytest.mark.parametrize("value", ["png", "b64_json", "", "URL", 1, True, []])
def test_response_format_is_url_or_base64(value: Any) -> None:
    assert "Field response_format must be 'url' or 'base64'" in refusal(response_format=value)


@pytest.mark.parametrize("seed", [0, 1, -1, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("form", [int, str, "{:+d}".format])
def test_any_int64_is_a_seed(seed: int, form: Any) -> None:
    assert call(seed=form(seed)).order.seed == seed


@pytest.mark.parametrize(
    "seed", [2**63, -(2**63) - 1, 10**40, 1.5, "1.5", "seven", "", "１", "1e3", True, False, [], {}]
)
def test_what_is_no_int64_is_no_seed(seed: Any) -> None:
    assert "Field seed must" in refusal(seed=seed)


@pytest.mark.parametrize("n", range(1, 10))
def test_one_to_nine_pictures(n: int) -> None:
    assert call(n=n).order.n == call(n=str(n)).order.n == call(n=float(n)).order.n == n


@pytest.mark.parametrize("n", [0, -1, 10, 1.5, "ten", True, [], {}])
def test_another_number_of_pictures_is_refused(n: Any) -> None:
    assert "Field n must" in refusal(n=n)


@pytest.mark.parametrize("field", ["prompt_optimizer", "aigc_watermark"])
@pytest.mark.parametrize("value", ["yes", "", 1, 0, 1.0, [], {}])
def test_a_switch_is_true_or_false(field: str, value: Any) -> None:
    assert f"Field {field} must be a valid boolean" in refusal(**{field: value})


def test_the_watermark_and_the_optimizer_are_asked_for() -> None:
    order = call(prompt_optimizer=True, aigc_watermark=True).order
    assert order.optimize_prompt
    assert order.watermark


@pytest.mark.parametrize("kind", ["漫画", "元气", "中世纪", "水彩"])
def test_each_live_style_is_taken_with_its_default_weight(kind: str) -> None:
    order = call(model="image-01-live", style={"style_type": kind}).order
    assert (order.live_style, order.live_style_weight) == (kind, 0.8)


@pytest.mark.parametrize(("weight", "taken"), [(1, 1.0), (0.01, 0.01), ("0.5", 0.5), (None, 0.8)])
def test_a_style_has_a_weight(weight: Any, taken: float) -> None:
    style = {"style_type": "漫画", "style_weight": weight}
    assert call(model="image-01-live", style=style).order.live_style_weight == taken


@pytest.mark.parametrize(
    "style",
    [
        {},
        {"style_type": "oil"},
        {"style_type": None},
        {"style_type": "漫画", "style_weight": 0},
        {"style_type": "漫画", "style_weight": 1.01},
        {"style_type": "漫画", "style_weight": -1},
        {"style_type": "漫画", "style_weight": "much"},
        {"style_type": "漫画", "style_weight": True},
        {"style_type": "漫画", "style_weight": 10**400},
        "漫画",
        [],
        1,
    ],
)
def test_a_style_that_is_none_is_refused_on_image_01_live(style: Any) -> None:
    assert "Field style" in refusal(model="image-01-live", style=style)


@pytest.mark.parametrize("style", [{"style_type": "漫画"}, {"style_type": "oil"}, "anything"])
def test_a_style_has_no_effect_on_image_01(style: Any) -> None:
    told = call(style=style)
    assert told.order.live_style is None
    assert told.ignored == ("style",)


@pytest.mark.parametrize(
    "extra", ["size", "num_images", "negative_prompt", "weight", "steps", "scene", "tenant", "stream", "format"]
)
def test_an_unknown_field_is_ignored_and_named_for_the_log(extra: str) -> None:
    told = call(**{extra: "1536x1024"})
    assert told.order == call().order
    assert told.ignored == (extra,)


def test_only_a_job_has_a_webhook() -> None:
    document = {"model": "image-01", "prompt": "a red fox", "webhook_url": "https://a.example/"}
    assert call(**document).order.webhook is None
    assert call(**document).ignored == ("webhook_url",)
    job = read_call(document, DEFAULTS, entries.load(DEFAULTS), contract.JobRequest)
    assert (job.order.webhook, job.ignored) == ("https://a.example/", ())
    with pytest.raises(InvalidRequest, match="Field webhook_url must be a valid string; got 7"):
        read_call(document | {"webhook_url": 7}, DEFAULTS, entries.load(DEFAULTS), contract.JobRequest)


@pytest.mark.parametrize("document", [None, True, 1, "text", [], [{"model": "image-01"}]])
def test_a_body_that_is_no_object_is_refused(document: Any) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        read_call(document, DEFAULTS, entries.load(DEFAULTS))


def test_every_wrong_field_is_told_at_once() -> None:
    sentence = refusal(n=10, seed="x", response_format="png")
    assert all(f"Field {name} must" in sentence for name in ("n", "seed", "response_format"))


def test_a_refusal_never_repeats_a_long_value() -> None:
    assert len(refusal(seed="secret" * 1000)) < 200
    assert len(refusal(seed=10**4000)) < 200


# Section 5 of the contract: what satisfies clients that disagree. Rows of HTTP alone are in test_api_rows.py.

PICTURES = (Picture(b"one", 7, 512, 512, "a.jpeg"), Picture(b"two", 2**64 - 1, 512, 512, "b.jpeg"))


def reply(settings: Settings = DEFAULTS, failed: int = 1, **fields: Any) -> dict[str, Any]:
    return contract.success(call(settings, **fields), Outcome("0" * 32, PICTURES, failed), ["x", "y"], settings)


def test_row_1_counts_are_strings_unless_the_operator_wants_integers() -> None:
    assert reply()["metadata"] == {"success_count": "2", "failed_count": "1"}
    assert reply(Settings(counts_as="integer"))["metadata"] == {"success_count": 2, "failed_count": 1}


def test_row_3_base_resp_is_there_on_success_with_an_integer_0() -> None:
    assert json.dumps(reply()["base_resp"]) == '{"status_code": 0, "status_msg": "success"}'


def test_row_4_metadata_are_there_on_errors() -> None:
    assert contract.failure("0" * 32, 2013, "no", DEFAULTS)["metadata"] == {"success_count": "0", "failed_count": "0"}


def test_row_5_data_is_an_empty_object_on_errors_unless_the_operator_wants_null() -> None:
    assert contract.failure("0" * 32, 2013, "no", DEFAULTS)["data"] == {}
    assert contract.failure("0" * 32, 2013, "no", Settings(error_data="null"))["data"] is None


@pytest.mark.parametrize(
    ("form", "key", "other"), [("url", "image_urls", "image_base64"), ("base64", "image_base64", "image_urls")]
)
def test_row_6_only_the_list_that_was_asked_for_is_there(form: str, key: str, other: str) -> None:
    data = reply(response_format=form)["data"]
    assert data[key] == ["x", "y"]
    assert other not in data


def test_row_7_copies_of_the_counts_are_where_mmx_looks_for_them() -> None:
    data = reply()["data"]
    assert (data["task_id"], data["success_count"], data["failed_count"]) == ("0" * 32, "2", "1")
    assert reply(Settings(counts_in_data=False))["data"] == {"image_urls": ["x", "y"]}


def test_row_12_prompt_optimizer_is_off_by_default_and_accepted_either_way() -> None:
    assert not call().order.optimize_prompt
    assert call(prompt_optimizer=True).order.optimize_prompt
    assert not call(prompt_optimizer=False).order.optimize_prompt


@pytest.mark.parametrize(
    "value",
    [
        DATA_URL,
        [DATA_URL],
        {"type": "character", "image_file": DATA_URL},
        [{"type": "character", "image_file": DATA_URL}],
        [{"type": "character", "image_url": DATA_URL, "weight": 0.5}],
        {"image_file": DATA_URL},
    ],
)
def test_row_13_a_reference_comes_in_any_shape(value: Any) -> None:
    assert call(subject_reference=value).order.references == (DATA_URL,)


def test_row_13_several_references_are_all_kept() -> None:
    many = [{"type": "character", "image_file": DATA_URL}, "https://example.com/a.png"]
    assert call(subject_reference=many).order.references == (DATA_URL, "https://example.com/a.png")


@pytest.mark.parametrize("value", [7, True, "", [7], [None], {}, {"type": "style", "image_file": DATA_URL}])
def test_row_13_what_is_no_reference_is_refused(value: Any) -> None:
    assert "subject_reference" in refusal(subject_reference=value)


@pytest.mark.parametrize("truth", [True, "true", "True", " TRUE "])
@pytest.mark.parametrize("five", [5, "5", " 5 ", 5.0])
def test_row_17_scalars_may_be_loose(truth: Any, five: Any) -> None:
    order = call(n=five, seed=five, prompt_optimizer=truth, aigc_watermark=truth).order
    assert (order.n, order.seed, order.optimize_prompt, order.watermark) == (5, 5, True, True)


def test_row_17_a_null_model_is_image_01() -> None:
    assert call(model=None).order.model == "image-01"


@pytest.mark.parametrize(("width", "height"), [(1024, 1024), (256, 256), (256, None), ("wide", -1)])
def test_row_18_the_ratio_wins_over_width_and_height(width: Any, height: Any) -> None:
    told = call(aspect_ratio="16:9", width=width, height=height)
    assert (told.order.width, told.order.height) == (1280, 720)
    assert told.ignored == ("height", "width")


def test_row_19_image_01_live_drops_width_and_height() -> None:
    told = call(model="image-01-live", width=2048, height=512)
    assert (told.order.width, told.order.height) == (1024, 1024)
    assert told.ignored == ("height", "width")


@pytest.mark.parametrize("ratio", ["21:9", "42:18", "7:3"])
def test_row_19_image_01_live_refuses_21_to_9(ratio: str) -> None:
    assert "21:9" in refusal(model="image-01-live", aspect_ratio=ratio)
    assert call(model="image-01", aspect_ratio=ratio).order.width == 1344


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(contract.ImageRequest.model_fields)), json_values))
def test_any_json_in_any_field_is_an_order_or_a_sentence(fields: dict[str, Any]) -> None:
    try:
        order = call(**fields).order
    except InvalidRequest as error:
        sentence = error.message
    else:
        sentence = ""
        assert 512 <= order.width <= 2048
        assert 512 <= order.height <= 2048
        assert 1 <= order.n <= 9
    assert sentence == "" or sentence.startswith(("Field", "subject_reference"))
