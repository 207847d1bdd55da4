from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from json_endpoint import Endpoint, Reply, raw
from limner.config import Settings
from limner.errors import IllegalCharacters, InvalidRequest
from limner.painter.bank import Bank
from limner.painter.planner import ParsingPlanner
from limner.prompts import MAX_REPLY_BYTES, check, expand, optimize

PLAIN = Settings()
PLANNER = ParsingPlanner(Bank.load())


# What may be painted


@pytest.mark.parametrize("prompt", ["", " ", "\n\t\u3000"])
def test_a_blank_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(InvalidRequest, match="must hold words"):
        check(prompt, PLAIN)


def test_half_a_surrogate_pair_is_refused_wherever_it_stands() -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        check("a long prompt about a red fox\ud83e", PLAIN)


def test_a_prompt_is_counted_in_code_points_and_one_too_many_is_refused() -> None:
    longest = "🦊" * 1500
    assert check(longest, PLAIN) == longest
    with pytest.raises(InvalidRequest, match="at most 1500 characters; got 1501"):
        check(longest + "!", PLAIN)


def test_a_long_prompt_is_cut_where_the_operator_says_so() -> None:
    settings = Settings(max_prompt_chars=7, long_prompts="cut")
    with structlog.testing.capture_logs() as lines:
        assert check("fox" * 10, settings) == "foxfoxf"
        assert check("foxfoxf", settings) == "foxfoxf"
    assert lines == [{"event": "prompt cut", "characters": 30, "limit": 7, "log_level": "info"}]


@pytest.mark.parametrize(
    "filler",
    list("\u200b\u202e\x00\x1b\ufeff\u00ad\ue000\U000f0000\u3164\u2800\u2063\uffff\U0003fffd\U000e0041"),
)
def test_over_a_tenth_of_invisible_characters_is_refused_and_a_tenth_is_not(filler: str) -> None:
    tenth = "a red fox" + filler
    assert check(tenth, PLAIN) == tenth
    with pytest.raises(IllegalCharacters, match="tenth"):
        check("a red fo" + filler, PLAIN)


@pytest.mark.parametrize(
    "prompt",
    [
        "👨‍👩‍👧‍👦",  # three joiners among four people
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",  # a flag written with tags
        "❤️‍🔥",
        "می‌خواهم",  # Persian, with a non-joiner
        "क्‍ष",
        "a fox\r\nand\ta hen\n",
        "一只红色的狐狸",
    ],
)
def test_characters_that_shape_emoji_and_words_are_not_invisible(prompt: str) -> None:
    assert check(prompt, PLAIN) == prompt


def test_what_is_cut_off_does_not_count_as_invisible() -> None:
    settings = Settings(max_prompt_chars=10, long_prompts="cut")
    assert check("a red fox!" + "\u200b" * 90, settings) == "a red fox!"
    with pytest.raises(IllegalCharacters):
        check("a red fo\u200b\u200b" + "a hen" * 50, settings)


def test_joiners_alone_are_invisible() -> None:
    with pytest.raises(IllegalCharacters):
        check("\u200d" * 20, PLAIN)


# The built-in expansion


def test_the_expansion_is_the_same_every_time_and_keeps_the_words_first() -> None:
    prompt = "A red fox with 3 balls"
    assert expand(prompt) == expand(prompt)
    assert expand(prompt).startswith(prompt)
    assert len(expand(prompt)) > len(prompt)


@pytest.mark.parametrize(
    ("prompt", "said", "unsaid"),
    [
        ("a red fox", "forest", None),
        ("a whale", "under water", None),
        ("two rabbits on the moon", None, "forest"),
        ("a fox in the city", None, "forest"),
        ("a fox at night", None, "light"),
        ("a hedgehog at dawn", None, "light"),
        ("a red car in the rain", None, "light"),
        ("a dog, plain background", None, "park"),
        ("a close-up of a rose", None, "view"),
        ("a lamp", None, "light"),
        ("a cat on a sofa", "living room", "park"),
        ("a knight riding a horse", "mountains", "farm"),
        ("a man in a white t-shirt", "park", None),
        ("a man in a boat", None, "park"),
    ],
)
def test_the_expansion_adds_what_is_open_and_contradicts_nothing(
    prompt: str, said: str | None, unsaid: str | None
) -> None:
    added = expand(prompt).removeprefix(prompt)
    assert said is None or said in added
    assert unsaid is None or unsaid not in added


NEVER_ADDED = re.compile(
    r"\b(red|orange|yellow|green|teal|blue|navy|purple|pink|brown|black|gr[ae]y|white|gold|golden|silver|beige"
    r"|one|two|three|four|five|six|seven|eight|nine|ten|pair|many|several|dozen|\d+"
    r"|watercolou?r|comic|flat|storybook|pixel|clay|papercut|photo|realistic|anime|medieval|vivid)\b"
)
WORDS = re.findall(r"\S+", "a the red fox dog whale at night dawn two books . , ! rocket snow close-up girl")


@given(st.text(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_whatever_the_prompt_it_stays_first_and_no_colour_count_or_style_is_added(prompt: str) -> None:
    expanded = expand(prompt)
    assert expanded == expand(prompt)
    if expanded != prompt:
        kept = prompt.rstrip().rstrip(",;:")
        assert expanded.startswith(kept)
        assert not NEVER_ADDED.search(expanded[len(kept) :].lower())


@pytest.mark.parametrize("prompt", ["一只狐狸", "лиса в лесу", "un renard la nuit", "ein Fuchs bei Nacht", "🦊", "123"])
def test_a_prompt_that_is_not_english_comes_back_as_it_is(prompt: str) -> None:
    assert expand(prompt) == prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "a red fox",
        "a cat on a sofa",
        "two crimson balloons above a house",
        "a dragon",
        "a girl reading a book",
        "apples",
        "a knight riding a horse",
        "a chef with a pizza",
        "a robot",
        "three penguins",
        "a sailboat",
        "a wizard and an owl",
    ],
)
def test_all_that_is_added_has_an_effect_and_nothing_new_is_drawn(prompt: str) -> None:
    plain, expanded = PLANNER.plan(prompt, 1, 1.0), PLANNER.plan(expand(prompt), 1, 1.0)
    assert expanded.unused == plain.unused
    assert len(expanded.scene.items) == len(plain.scene.items)
    assert len({PLANNER.plan(expand(prompt), seed, 1.0).scene.time for seed in range(8)}) == 1


def test_a_sentence_is_followed_by_a_sentence() -> None:
    assert expand("A fox runs.").startswith("A fox runs. In a quiet forest, ")
    assert expand("A fox runs.").endswith(".")


def test_the_expansion_does_not_pass_the_longest_prompt() -> None:
    settings = Settings(max_prompt_chars=12)
    assert asyncio.run(optimize("a red fox", settings)) == "a red fox"
    assert asyncio.run(optimize("a red fox", PLAIN)) == expand("a red fox")


# A chat endpoint


class Chat(Endpoint):
    def settings(self, **more: Any) -> Settings:
        return Settings(optimizer_url=self.url, **more)


def says(content: object) -> Reply:
    return raw(200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode())


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = Chat(says("a fox, richly lit"))
    yield server
    server.close()


def test_the_endpoint_is_asked_as_openai_specifies_and_its_words_are_used(chat: Chat) -> None:
    chat.reply = says("  a fox, richly lit\n")
    settings = chat.settings(optimizer_model="small", optimizer_key="sk-chat")
    assert asyncio.run(optimize("a fox", settings)) == "a fox, richly lit"
    path, headers, question = chat.calls[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sk-chat"
    assert question["model"] == "small"
    assert question["messages"][-1] == {"role": "user", "content": "a fox"}
    assert question["messages"][0]["role"] == "system"


def test_without_a_key_none_is_sent(chat: Chat) -> None:
    asyncio.run(optimize("a fox", chat.settings()))
    assert "Authorization" not in chat.calls[0][1]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (raw(500, b"a fox of secrets"), "status 500"),
        (raw(302, b""), "status 302"),
        (raw(200, b"no json"), "no chat completion"),
        (raw(200, b'{"choices": []}'), "no chat completion"),
        (raw(200, b"[[]]"), "no chat completion"),
        (raw(200, b"[" * 20_000), "no chat completion"),
        (raw(200, b'{"choices": [{"message": {"content": "\xff"}}]}'), "no chat completion"),
        (says(None), "no text"),
        (says(["a fox"]), "no text"),
        (says("fox" * 501), "more than a prompt may have"),
        (says(""), "invalid_parameters"),
        (says("\u200b" * 30), "illegal_characters"),
        (raw(200, b" " * (MAX_REPLY_BYTES + 1)), "bytes"),
    ],
)
def test_a_bad_answer_leaves_the_plain_prompt_and_a_line_in_the_log(chat: Chat, reply: Reply, reason: str) -> None:
    chat.reply = reply
    with structlog.testing.capture_logs() as lines:
        assert asyncio.run(optimize("a fox of secrets", chat.settings())) == "a fox of secrets"
    (line,) = lines
    assert line["log_level"] == "warning"
    assert reason in line["reason"]
    assert "secrets" not in str(line)
    assert len(chat.calls) == 1


def test_a_slow_endpoint_leaves_the_plain_prompt(chat: Chat) -> None:
    chat.reply = lambda _: [chat.release.wait(60), None][1]
    with structlog.testing.capture_logs() as lines:
        assert asyncio.run(optimize("a fox", chat.settings(optimizer_seconds=0.2))) == "a fox"
    assert "0.2 s" in lines[0]["reason"]


def test_an_endpoint_that_drips_is_given_up_after_the_same_time(chat: Chat) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not chat.release.wait(0.02):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    chat.reply = drip
    assert asyncio.run(optimize("a fox", chat.settings(optimizer_seconds=0.3))) == "a fox"


def test_an_endpoint_that_is_not_there_leaves_the_plain_prompt(chat: Chat) -> None:
    settings = chat.settings()
    chat.close()
    with structlog.testing.capture_logs() as lines:
        assert asyncio.run(optimize("a fox", settings)) == "a fox"
    assert lines[0]["reason"] == "ConnectError"
