"""Bodies that are bombs: weighed before they are parsed, and bounded together."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limner.api import body as bodies
from limner.api import contract
from limner.api.body import parse, weigh
from limner.config import Settings
from limner.errors import InvalidRequest, LimnerError
from limner.models import entries
from small_server import everything, listening, post

DEFAULTS = Settings()
MODELS = entries.load(DEFAULTS)

# Bodies that are bombs

BOMBS = {
    "numbers": (b'{"a":[' + b"0," * 200_000 + b"0]}", "100000 values"),
    "objects": (b"[" + b"{}," * 200_000 + b"{}]", "100000 values"),
    "strings": (b'["' + b'","' * 500_000 + b'"]', "100000 values"),
    "keys": (b"{" + b",".join(b'"%x":0' % number for number in range(200_000)) + b"}", "100000 values"),
    "deep": (b"[" * 33 + b"]" * 33, "32 levels"),
    "deep objects": (b'{"a":' * 33 + b"1" + b"}" * 33, "32 levels"),
    "deep behind an escaped quote": (rb'["\\\"", ' + b"[" * 40 + b"]" * 41, "32 levels"),
    "deep behind a backslash": (rb'["\\", ' + b"[" * 40 + b"]" * 41, "32 levels"),
    "deep and never closed": (b"[" * 90_000, "32 levels"),
    "wide": (b'["' + b"a" * 2**20 + "\N{FOX FACE}".encode() + b'"]', "plain ASCII"),
    "wide by an escape": (b'["' + b"a" * 2**20 + rb"\ud83e\udd8a" + b'"]', "plain ASCII"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_parsed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body, word = BOMBS[name]
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(InvalidRequest, match=word):
        parse(body, Settings())


INNOCENT = [
    b'{"a": "[[[[,,,,{{{{", "b": "\\\\", "c": "\\"[[[[,,,,"}',
    b'["' + b"," * 300_000 + b'"]',
    b'["' + b"[" * 300_000 + b'"]',
    b'["' + rb"\"" * 300_000 + b'"]',
    b'["' + rb"\/" * 2**20 + b'"]',
    b"[" * 32 + b"]" * 32,
    b"[" + b"0," * 99_998 + b"0]",
]


@pytest.mark.parametrize("body", INNOCENT, ids=range(len(INNOCENT)))
def test_what_stands_in_strings_weighs_nothing(body: bytes) -> None:
    assert parse(body, Settings()) == json.loads(body)


def size_of(document: Any) -> tuple[int, int]:
    """How many values there are in a document, itself among them, and how many levels of containers."""
    if not isinstance(document, list | dict):
        return 1, 0
    inner = [size_of(value) for value in (document.values() if isinstance(document, dict) else document)]
    return 1 + sum(values for values, _ in inner), 1 + max((depth for _, depth in inner), default=0)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('"\\[]{},:a\N{FOX FACE}\u00e9\x00')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.sampled_from('"\\[,a')), inner, max_size=4),
    max_leaves=12,
)


@given(documents, st.booleans(), st.sampled_from([None, 0, 2]))
def test_levels_are_counted_exactly_and_values_never_too_few(
    document: Any, ascii_only: bool, indent: int | None
) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    values, depth = size_of(document)
    weigh(body, 2 * values + 1, depth)
    if depth:
        with pytest.raises(InvalidRequest, match="levels"):
            weigh(body, 2 * values + 1, depth - 1)
    if values > 1:
        with pytest.raises(InvalidRequest, match="values"):
            weigh(body, values - 1, depth)


@given(st.text(st.sampled_from('"\\[]{},:a0 \n'), max_size=60).map(str.encode))
@example(rb'["\", [[[[')
@example(rb'\"[[[["')
@example(b'"' * 41)
def test_whatever_passes_the_scale_is_no_heavier_than_it_said(body: bytes) -> None:
    try:
        expected = json.loads(body)
    except ValueError:
        with pytest.raises(InvalidRequest):
            parse(body, Settings())
        return
    assert parse(body, Settings()) == expected
    try:
        weigh(body, 5, 2)
    except InvalidRequest:
        return
    values, depth = size_of(expected)
    assert values <= 5
    assert depth <= 2


@given(st.dictionaries(st.sampled_from([*contract.ImageRequest.model_fields, "size"]), documents))
def test_the_contract_takes_or_refuses_any_document(document: dict[str, Any]) -> None:
    with contextlib.suppress(LimnerError):  # anything else is a fault of ours
        contract.read_call(parse(json.dumps(document).encode(), DEFAULTS), DEFAULTS, MODELS)


def test_a_bomb_takes_little_more_memory_than_its_bytes() -> None:
    code = """if True:
        from limner.api.body import parse
        from limner.config import Settings
        from limner.errors import InvalidRequest
        def peak():
            return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
        size = 2**25
        bombs = [b"[" + b"{}," * (size // 3) + b"{}]", b'["' + b"a" * size + b'\\xf0\\x9f\\xa6\\x8a"]', b"[" * size]
        before = peak()
        for bomb in bombs:
            try:
                parse(bomb, Settings())
            except InvalidRequest:
                print((peak() - before) * 1024 / size)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [float(line) < 2.5 for line in done.stdout.split()] == [True] * 3, done.stdout


def test_a_content_type_is_read_only_up_to_a_length() -> None:
    with listening() as server:
        reply = server.ask(
            post(b"{}", 'Content-Type: multipart/form-data; boundary="' + ";" * 9000, "Connection: close")
        )
        assert b"one of 9031 characters" in reply


def test_a_part_with_a_head_that_is_a_bomb_is_refused() -> None:
    with listening() as server:
        part = b"--x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n\r\n1\r\n--x--"
        reply = server.ask(post(part, "Content-Type: multipart/form-data; boundary=x", "Connection: close"))
        assert b"more than 2048 bytes" in reply
        assert bodies.held.total == 0


def test_all_bodies_together_may_hold_so_many_bytes() -> None:
    large = bodies.LARGE_BODIES
    with listening(max_body_bytes=2**16, header_seconds=20.0) as server, ExitStack() as stack:
        waiting = [stack.enter_context(server.open()) for _ in range(large)]
        for client in waiting:
            client.sendall(post(b" " * 65_000, "Connection: close", length=65_500))
        while bodies.held.total < large * 65_000:
            time.sleep(0.01)
        assert bodies.held.total <= large * 2**16
        further = post(b'"' + b"x" * 6000 + b'"', "Connection: close")
        reply = server.ask(further)
        assert b'"code":1002' in reply
        assert b"as many bytes" in reply
        waiting[0].sendall(b" " * 498 + b"{}")
        assert b'"kind":"dict"' in everything(waiting[0])
        assert b'"kind":"str"' in server.ask(further)
    assert bodies.held.total == 0
