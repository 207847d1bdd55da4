"""What the client makes of errors, when it tries again, where it goes, and to whom it shows the key."""

from __future__ import annotations

import base64
import gzip
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_side import (
    SMALL,
    Answer,
    Make,
    Relay,
    Site,
    a_reply,
    answered,
    as_json,
    clients,
    opened,
    picture,
)
from conftest import Server
from hostile_server import HostileServer, drips
from limner.client import (
    AuthenticationError,
    Client,
    ConnectionFailed,
    Image,
    InvalidRequest,
    LimnerAPIError,
    NotFound,
    PromptRefused,
    QuotaUsed,
    RateLimited,
    ServiceFailed,
    TimedOut,
    calls,
    errors,
    sse,
    steps,
)
from limner.client.calls import Target
from limner.errors import Code

Serve = Callable[..., Server]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes clients of one kind."""
    with clients(request.param) as start:
        yield start


# Errors


@pytest.mark.parametrize("http_status", ["ok", "real"])
def test_errors_have_their_kind_under_either_status(serve: Serve, make: Make, http_status: str) -> None:
    server = serve(http_status=http_status, api_keys="a-secret-key-of-a-test")
    for key, code in ((None, 1004), ("wrong", 2049)):
        with pytest.raises(AuthenticationError) as denied:
            make(server.url, key).generate("a fox")
        assert (denied.value.code, denied.value.status) == (code, 401 if http_status == "real" else 200)
        assert denied.value.id
    client = make(f"{server.url}/v1/", "a-secret-key-of-a-test", retries=0)
    assert client.generate("a fox", **SMALL).images
    with pytest.raises(InvalidRequest, match="Field n must be"):
        client.generate("a fox", n=99)
    with pytest.raises(ServiceFailed) as failed:
        client.generate("explode in encode", **SMALL)
    assert (failed.value.code, failed.value.retry_after) == (1024, 5)


def test_every_code_of_the_service_has_a_kind() -> None:
    assert {int(code) for code in Code} - set(errors.OF_CODE) == {0}
    told = {code: errors.kind_of(code, 200) for code in (1002, 1004, 1008, 1026, 2013, 2049, 1024, 1001, 9999, 1500)}
    assert told == {
        1002: RateLimited, 1004: AuthenticationError, 1008: QuotaUsed, 1026: PromptRefused, 2013: InvalidRequest,
        2049: AuthenticationError, 1024: ServiceFailed, 1001: TimedOut, 9999: InvalidRequest, 1500: ServiceFailed,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        ((502, {"Content-Type": "text/html"}, b"<html><h1>Bad  Gateway</h1>nginx"), ServiceFailed,
         'answered status 502 with text/html instead of JSON, which begins "Bad Gateway nginx". Is a proxy in betw'),
        ((200, {"Content-Type": "text/html"}, b"<title>Log in</title>"), ServiceFailed, 'which begins "Log in"'),
        ((200, {}, b""), ServiceFailed, "answered status 200 with no type instead of JSON. Is a proxy"),
        ((404, {"Content-Type": "text/plain"}, b"404 page not found"), NotFound, "There is no /v1/image_g"),
        ((301, {"Location": "https://a.test/"}, b""), ServiceFailed, "leads on to https://a.test/: give"),
        ((413, {}, b"too large"), InvalidRequest, "status 413"),
        ((504, {}, b"late"), TimedOut, "status 504"),
        (as_json({"error": {"message": "You are out of credit."}}, 402), QuotaUsed, "You are out of credit."),
        (as_json({"error": "no"}, 403), AuthenticationError, "no"),
        (as_json({"detail": "slow down"}, 429, **{"Retry-After": "99"}), RateLimited, "slow down"),
        (as_json({}, 500), ServiceFailed, "status 500 and did not say why"),
        (as_json({"base_resp": {"status_code": "1026", "status_msg": "sensitive"}}), PromptRefused, "sensitive"),
        (as_json({"base_resp": {"status_code": 2056, "status_msg": ""}}), QuotaUsed, "error 2056 and did not say why"),
        (as_json({"data": None, "base_resp": {"status_code": 2013, "status_msg": "wrong"}}), InvalidRequest, "wrong"),
        (as_json({"data": {}, "metadata": {"failed_count": "3"}, "base_resp": {"status_code": 0}}), PromptRefused,
         "without a picture: 3 were left out"),
        (as_json({"data": None, "base_resp": {"status_code": 0}}), ServiceFailed, "without a picture. Try"),
        (as_json({"data": "?"}), ServiceFailed, "not of the form"),
    ],
)  # fmt: skip
def test_whatever_is_answered_is_one_kind_of_error_with_a_sentence(
    make: Make, reply: Any, kind: type[LimnerAPIError], sentence: str
) -> None:
    with Site(lambda *_: reply) as site, pytest.raises(kind) as told:
        make(site.url, retries=0).generate("a fox")
    assert type(told.value) is kind
    assert sentence in str(told.value)
    assert told.value.status == reply[0]
    assert told.value.retry_after == (99 if reply[0] == 429 else None)


def test_a_server_that_is_not_there_is_said_with_how_to_start_one(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for call in (
        lambda c: c.generate("a fox"),
        lambda c: list(c.follow("0" * 32)),
        lambda c: list(c.progress("a fox")),
    ):
        with pytest.raises(ConnectionFailed, match=f"Nobody answers at {url} .*Start a server with `limner serve`"):
            call(make(url, retries=0))


def test_a_call_ends_in_time_however_slowly_it_is_answered(make: Make) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with (
        HostileServer(drips(start), "127.0.0.1") as server,
        pytest.raises(TimedOut, match="within the client's timeout"),
    ):
        make(server.url(""), timeout=0.5, retries=5).generate("a fox")
    assert len(server.requests) == 1
    with HostileServer(lambda server, *_: server.closing.wait(60) and None, "127.0.0.1") as server:
        with pytest.raises(TimedOut, match="within the client's timeout"):
            make(server.url(""), timeout=0.5, retries=5).generate("a fox")
        assert len(server.requests) == 1


# Further tries


def test_a_reply_that_was_cut_is_asked_for_again_and_nothing_is_painted_twice(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.02)
    before = len(list(make(server.url).jobs()))
    for options in ({}, {"steps": 2}):  # over either route
        with Relay(server.port) as relay:
            relay.replies = 10  # of the first reply
            client = make(relay.url)
            result = client.generate("a red fox", **SMALL, **options)
            posts = [k for k, head in enumerate(relay.heads) if head.startswith("POST")]
            assert len(posts) == 2
            assert len({relay.header(k, "idempotency-key") for k in posts}) == 1
            assert opened(client.read(result.images[0])) == ("JPEG", (512, 512))
    jobs = list(make(server.url).jobs())
    assert len(jobs) - before == 2
    assert jobs[0].id == result.id


def foreign(*failures: tuple[int, dict[str, str], bytes]) -> Answer:
    """A service without jobs or keys for calls, which fails so at first and then paints."""
    left = list(failures)

    def answer(request: BaseHTTPRequestHandler, _body: Any) -> tuple[int, dict[str, str], bytes]:
        if request.path != "/v1/image_generation":
            return 404, {}, b"404 page not found"
        if left:
            return left.pop(0)
        return as_json({"data": {"image_urls": ["http://127.0.0.1:9/a.jpeg"]}, "base_resp": {"status_code": 0}})

    return answer


FAILED = as_json({"base_resp": {"status_code": 1024, "status_msg": "internal"}}, **{"Retry-After": "0"})
FULL = as_json({"base_resp": {"status_code": 1033, "status_msg": "The model's disk is full."}}, **{"Retry-After": "0"})
BUSY = as_json({"base_resp": {"status_code": 1002, "status_msg": "slow down"}}, **{"Retry-After": "0"})


def test_what_a_service_may_have_painted_is_not_asked_for_again_unless_it_knows_the_call(
    make: Make,
) -> None:
    with Site(foreign(FAILED)) as site, pytest.raises(ServiceFailed, match="internal"):
        make(site.url).generate("a fox")
    assert [(method, path) for method, path, _, _ in site.seen] == [
        ("POST", "/v1/image_generation"),
        ("GET", "/v1/jobs?limit=1"),
    ]
    with Site(foreign(FAILED)) as site, pytest.raises(ServiceFailed, match="internal"):
        make(site.url, idempotent=False).generate("a fox")
    assert len(site.seen) == 1
    with Site(foreign(FAILED, FAILED)) as site:
        assert make(site.url, idempotent=True).generate("a fox").images
    assert [method for method, _, _, _ in site.seen] == ["POST"] * 3
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in site.seen}) == 1


@pytest.mark.parametrize(
    "probe", [(503, {}, b"<p>no"), as_json({}, 429), (500, {"Content-Length": "9"}, b""), (504, {}, b"late")]
)
def test_where_it_cannot_be_found_out_the_calls_own_error_is_told(make: Make, probe: Any) -> None:
    def answer(request: BaseHTTPRequestHandler, _body: Any) -> tuple[int, dict[str, str], bytes]:
        return FULL if request.path == "/v1/image_generation" else probe

    with Site(answer) as site, pytest.raises(ServiceFailed, match="The model's disk is full"):
        make(site.url).generate("a fox")
    assert [method for method, _, _, _ in site.seen] == ["POST", "GET", "GET"]


@pytest.mark.parametrize("probe", [(204, {}, b""), (200, {"Content-Type": "text/event-stream"}, b":"), as_json({})])
def test_a_service_whose_jobs_are_of_another_form_knows_no_keys(make: Make, probe: Any) -> None:
    def answer(request: BaseHTTPRequestHandler, _body: Any) -> tuple[int, dict[str, str], bytes]:
        return FULL if request.path == "/v1/image_generation" else probe

    with Site(answer) as site, pytest.raises(ServiceFailed, match="The model's disk is full"):
        make(site.url).generate("a fox")
    assert [method for method, _, _, _ in site.seen] == ["POST", "GET"]


def test_what_was_refused_for_the_rate_is_asked_for_again_of_any_service(make: Make) -> None:
    with Site(foreign(BUSY, BUSY)) as site:
        assert make(site.url).generate("a fox").images
    assert [method for method, _, _, _ in site.seen] == ["POST"] * 3
    with Site(foreign(BUSY, BUSY, BUSY)) as site, pytest.raises(RateLimited, match="slow down") as told:
        make(site.url).generate("a fox")
    assert told.value.retry_after == 0


def _error(code: int, **headers: str) -> steps.Reply:
    return a_reply({"base_resp": {"status_code": code, "status_msg": "a sentence"}}, **headers)


def tries(*answers: Any, retries: int = 2, method: str = "GET") -> list[Any]:
    """What a call asks for where these are the answers: requests, seconds to wait; then its reply or its error."""
    caller = calls.Channel(Target("http://a.test", None), 600, 5, retries, None)
    flow = caller.call(calls.Call(method, "http://a.test/v1/x"))
    told: list[Any] = []
    try:
        for answer in (None, *answers):
            step = steps.advance(flow, answer)
            told.append(step.seconds if isinstance(step, steps.Wait) else type(getattr(step, "value", step)))
    except LimnerAPIError as error:
        told.append(type(error))
    return told


def test_waits_grow_with_chance_in_them_or_are_the_servers() -> None:
    for failure in (steps.Unreached("no"), steps.Broken("cut"), _error(1024), _error(1001), a_reply({}, 503)):
        first, second = (told for told in tries(failure, None, failure, None, failure) if isinstance(told, float))
        assert 0.25 <= first <= 0.5 <= second <= 1
    assert tries(_error(1002, **{"retry-after": "7"}), None, a_reply({})) == [steps.Send, 7.0, steps.Send, steps.Reply]
    assert tries(_error(1024, **{"retry-after": "5"}), None, a_reply({})) == [steps.Send, 5.0, steps.Send, steps.Reply]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (_error(1002, **{"retry-after": "61"}), RateLimited),
        (_error(1008, **{"retry-after": "5"}), QuotaUsed),
        (_error(2013), InvalidRequest),
        (_error(1026), PromptRefused),
        (_error(1000), ServiceFailed),
        (a_reply({}, 401), AuthenticationError),
        (a_reply({}, 404), NotFound),
    ],
)
def test_what_no_further_try_mends_is_told_at_once(reply: steps.Reply, kind: type[LimnerAPIError]) -> None:
    assert tries(reply) == [steps.Send, kind]


def test_a_call_gives_up_after_its_tries_and_within_its_time() -> None:
    gone = steps.Unreached("refused")
    told = tries(gone, None, gone, None, gone)
    assert [kind for kind in told if isinstance(kind, type)] == [steps.Send, steps.Send, steps.Send, ConnectionFailed]
    assert tries(gone, retries=0) == [steps.Send, ConnectionFailed]
    hasty = calls.Channel(Target("http://a.test", None), 3, 5, 2, None)
    with pytest.raises(RateLimited):
        answered(hasty.call(calls.Call("GET", "http://a.test")), _error(1002, **{"retry-after": "4"}))


def test_a_job_that_is_gone_at_the_second_try_was_deleted_by_the_first() -> None:
    missing = a_reply({}, 404)
    assert tries(steps.Broken("cut"), None, missing, method="DELETE") == [
        steps.Send,
        pytest.approx(0.4, abs=0.2),
        steps.Send,
        steps.Reply,
    ]
    assert tries(missing, method="DELETE") == [steps.Send, NotFound]


def test_retry_after_is_seconds_or_a_date() -> None:
    def told(text: str) -> float | None:
        return a_reply({}, **{"retry-after": text}).retry_after

    assert (told("7"), told("x"), told(""), told("-1")) == (7, None, None, None)
    assert told("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert (told("Fri, 31 Dec 2060 23:59:59 GMT") or 0) > 1e8


# Where to, and who sees the key


def test_addresses_and_keys_come_from_arguments_then_from_the_environment() -> None:
    limner_pair = {"LIMNER_BASE_URL": "http://gpu:8000/", "LIMNER_API_KEY": "ours"}
    theirs = {"MINIMAX_API_HOST": "https://proxy.test", "MINIMAX_API_KEY": "theirs"}
    cases: list[tuple[str | None, str | None, dict[str, str], str, str | None]] = [
        (None, None, {}, "http://127.0.0.1:8000", None),
        (None, None, limner_pair | theirs, "http://gpu:8000", "ours"),
        (None, None, theirs, "https://proxy.test", "theirs"),
        (None, None, {"MINIMAX_API_KEY": "theirs"}, "http://127.0.0.1:8000", None),
        ("https://api.minimax.io/v1", None, limner_pair | theirs, "https://api.minimax.io", "theirs"),
        ("https://api.minimax.io.evil.test", None, theirs, "https://api.minimax.io.evil.test", None),
        ("http://other:1/v1/", None, limner_pair | theirs, "http://other:1", "ours"),
        ("https://a.test/limner/v1/", " mine\n", limner_pair, "https://a.test/limner", "mine"),
        ("https://a.test", "", limner_pair, "https://a.test", None),
        (None, None, limner_pair | {"MINIMAX_API_HOST": "http://gpu:8000"}, "http://gpu:8000", "ours"),
        (None, None, {"MINIMAX_API_HOST": "http://gpu:8000/v1", "LIMNER_API_KEY": "ours"}, "http://gpu:8000", "ours"),
        ("https://proxy.test", None, limner_pair | theirs, "https://proxy.test", "theirs"),
        ("https://api.minimax.io", None, limner_pair, "https://api.minimax.io", None),
        ("http://ok:1", "mine", {"MINIMAX_API_HOST": "api.minimax.io"}, "http://ok:1", "mine"),
        ("http://ok:1", None, limner_pair | {"MINIMAX_API_HOST": "api.minimax.io"}, "http://ok:1", "ours"),
    ]
    for base_url, api_key, environ, root, key in cases:
        target = Target.of(base_url, api_key, environ)
        assert (target.root, target.key) == (root, key), (base_url, environ)
        assert key is None or key not in repr(target)


@pytest.mark.parametrize(
    "base_url",
    ["127.0.0.1:8000", "localhost", "ftp://a.test", "http://", "http://a:x", "http://a?b=c", "http://a:70000",
     "http://a..b", "http://[a", "http://a\x01b", "http://ä..", "http://" + 64 * "a"],
)  # fmt: skip
def test_what_is_no_address_is_refused(base_url: str) -> None:
    with pytest.raises(InvalidRequest, match="base_url is to be the address of a service"):
        Client(base_url)


def test_times_and_tries_that_make_no_sense_are_refused() -> None:
    for options in ({"timeout": 0}, {"timeout": float("inf")}, {"timeout": float("nan")}, {"connect_timeout": -1}):
        with pytest.raises(InvalidRequest, match=r"timeout is to be a number of seconds above 0; got"):
            Client("http://127.0.0.1:9", **options)
    with pytest.raises(InvalidRequest, match=r"retries is to be 0 or more; got -1\."):
        Client("http://127.0.0.1:9", retries=-1)


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="The API key holds characters that no key has"):
        Client("http://127.0.0.1:9", "schlüssel")
    with pytest.raises(InvalidRequest, match="must not hold a name and password"):
        Client("http://a:b@127.0.0.1:9")


def test_the_real_services_replies_are_read_and_its_links_never_see_the_key(make: Make, tmp_path: Path) -> None:
    # As captured: counts as strings, presigned plain-http links of another origin, no seeds, JPEG whatever is asked.
    with ExitStack() as stack:

        def store_answers(request: BaseHTTPRequestHandler, _body: Any) -> tuple[int, dict[str, str], bytes]:
            if "moved" in request.path:
                return 302, {"Location": "/2026/a_aigc.jpeg?Signature=x"}, b""
            if "expired" in request.path:
                return 403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>"
            return 200, {"Content-Type": "image/jpeg"}, picture("JPEG", (1280, 720))

        store = stack.enter_context(Site(store_answers))
        links = [f"{store.url}/{name}_aigc.jpeg?Expires=1&Signature=x" for name in ("2026/a", "moved", "expired")]

        def answer(_request: BaseHTTPRequestHandler, _body: Any) -> tuple[int, dict[str, str], bytes]:
            return as_json(
                {
                    "id": "0" * 32,
                    "data": {"image_urls": links},
                    "metadata": {"failed_count": "1", "success_count": "3"},
                    "base_resp": {"status_code": 0, "status_msg": "success"},
                }
            )

        api = stack.enter_context(Site(answer))
        client = make(f"{api.url}/v1", "the-key")
        result = client.generate("a man on a beach", aspect_ratio="16:9", n=4)
        assert (result.id, result.failed, len(result.images)) == ("0" * 32, 1, 3)
        assert [(i.seed, i.width, i.format) for i in result.images] == [(None, None, "jpeg")] * 3
        assert opened(client.save(result.images[0], tmp_path / "a.jpg")) == ("JPEG", (1280, 720))
        assert result.images[0].width == 1280
        assert client.read(result.images[1]) == client.read(result.images[0])
        with pytest.raises(NotFound, match="status 403"):
            client.read(result.images[2])
        with pytest.raises(InvalidRequest, match=r"sends this picture as jpeg alone, not as png: save it as \.jpeg"):
            client.save(result.images[0], tmp_path / "a.png")
        (method, path, headers, body), *_ = api.seen
        assert (method, path, headers["Authorization"]) == ("POST", "/v1/image_generation", "Bearer the-key")
        assert body == {
            "model": "image-01", "prompt": "a man on a beach", "aspect_ratio": "16:9", "n": 4, "response_format": "url",
        }  # fmt: skip
        assert len(store.seen) > 3
        assert all("Authorization" not in headers and "Cookie" not in headers for _, _, headers, _ in store.seen)
        with pytest.raises(ServiceFailed):
            client.submit("a man on a beach")


@pytest.mark.parametrize("counts", [{"failed_count": "1"}, {"failed_count": 1}])
@pytest.mark.parametrize("data", ["image_urls", "image_base64"])
def test_counts_are_strings_or_numbers_and_pictures_links_or_files(
    make: Make, counts: dict[str, Any], data: str
) -> None:
    listed = ["http://127.0.0.1:9/a"] if data == "image_urls" else [base64.b64encode(picture("PNG")).decode()]
    reply = as_json({"data": {data: listed}, "metadata": counts, "base_resp": {"status_code": 0}})
    with Site(lambda *_: reply) as site:
        client = make(site.url)
        result = client.generate("a fox")
    assert result.failed == 1
    if data == "image_base64":
        assert (client.read(result.images[0]), result.images[0].format) == (picture("PNG"), "png")


def test_the_key_goes_to_the_origin_of_the_address_alone() -> None:
    target = Target("https://a.test/limner", "key")
    ours = ("https://a.test/files/x.jpeg", "https://A.test:443/", "HTTPS://a.test")
    others = (
        "http://a.test/",
        "https://a.test:444/",
        "https://b.a.test/",
        "https://a.test.evil/",
        "https://a.test:x/",
        "https://b.test/@a.test",
    )
    assert [bool(target.headers(url)) for url in (*ours, *others)] == [True] * 3 + [False] * 6


def test_a_link_that_leads_in_circles_or_nowhere_is_an_error(make: Make) -> None:
    where = {"to": "/again"}
    with Site(
        lambda request, _: (
            (302, {"Location": where["to"]}, b"")
            if request.command == "GET"
            else as_json({"data": {"image_urls": ["/files/a.jpeg"]}, "base_resp": {"status_code": 0}})
        )
    ) as site:
        client = make(site.url, "key", retries=0)
        (image,) = client.generate("a fox").images
        with pytest.raises(ServiceFailed, match="without an end"):
            client.read(image)
        assert len(site.seen) == 6
        where["to"] = "http://127.0.0.1:9/a.jpeg"
        with pytest.raises(ConnectionFailed, match=r"Nobody answers at 127\.0\.0\.1:9, where the picture's link leads"):
            client.read(image)
        for to in ("file:///etc/passwd", "http://[zz/", "http://127.0.0.1:99999/", "http://a..b/", "http://a\x01b/"):
            where["to"] = to
            with pytest.raises(ServiceFailed, match="which is no http or https address"):
                client.read(image)
        if isinstance(image, Image):
            assert image._repr_jpeg_() is None


def test_what_is_too_long_to_be_asked_for_is_refused(make: Make) -> None:
    with pytest.raises(InvalidRequest, match="This cannot be asked for: "):
        make("http://127.0.0.1:9").job("x" * 70_000)


def test_a_reply_is_taken_up_to_a_size_however_small_it_is_packed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MAX_REPLY_BYTES", 1_000_000)
    packed = 200, {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}, gzip.compress(bytes(3_000_000))
    links = as_json({"data": {"image_urls": ["/a"]}, "base_resp": {"status_code": 0}})
    with Site(lambda request, _: packed if request.path == "/a" else links) as site:
        client = make(site.url)
        (image,) = client.generate("a fox").images
        with pytest.raises(ServiceFailed, match="more than 1 MB, which no picture has"):
            client.read(image)
        assert [headers["Accept-Encoding"] for _, _, headers, _ in site.seen][1:] == ["identity"]


def test_what_is_no_picture_is_an_error(make: Make) -> None:
    reply = as_json({"data": {"image_urls": ["/v1/a"]}, "base_resp": {"status_code": 0}})
    with Site(lambda *_: reply) as site:
        client = make(site.url)
        with pytest.raises(ServiceFailed, match="no JPEG, PNG or WebP"):
            client.read(client.generate("a fox").images[0])


def test_proxies_of_the_environment_are_not_asked_for_this_machine(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(lambda *_: as_json({"data": {"image_urls": ["/a"]}, "base_resp": {"status_code": 0}})) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert make(server.url).generate("a fox", **SMALL).id
        assert make(server.url.replace("127.0.0.1", "localhost")).generate("a fox", **SMALL).id
        assert proxy.seen == []
        assert make("http://pictures.test").generate("a fox").images
        assert proxy.seen[0][1] == "http://pictures.test/v1/image_generation"


# Events


@given(st.lists(st.integers(1, 40), max_size=30), st.sampled_from(["\n", "\r\n", "\r"]))
def test_events_are_the_same_however_they_are_cut(sizes: list[int], end: str) -> None:
    lines = [
        ":", "retry: 2000", "", "event: queued", "id: 7", 'data: {"a": "ü"}', "", "data:x", "data: y", "", "event: x",
        "", "id: 8", "data", "", "data: unfinished",
    ]  # fmt: skip
    stream = ("\ufeff" + end.join(lines)).encode()
    parser, events, at = sse.Parser(), [], 0
    for size in (*sizes, len(stream)):
        events += parser.feed(stream[at : at + size])
        at += size
    assert events == [
        sse.Event("queued", '{"a": "ü"}', "7"),
        sse.Event("message", "x\ny", "7"),
        sse.Event("message", "", "8"),
    ]
