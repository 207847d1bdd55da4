"""The fetch of a reference and the delivery of a webhook, against real servers that try to lead them astray."""

from __future__ import annotations

import asyncio
import functools
import gzip
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from hostile_server import Handler, HostileServer, client_tls, drips, pours, redirects, reply, sends, server_tls
from limner.config import Settings
from limner.errors import Reason, ReferenceRefused, WebhookRefused
from limner.fetch import MAX_REDIRECTS, Answer, Resolver, check_webhook, fetch, permitted, post, system_addresses

OUTSIDE = "127.0.0.2"  # stands for the internet: the settings below allow it
INSIDE = "127.0.0.1"  # stands for the network behind the service
BODY = b"the bytes of a picture"


def settings(**changes: object) -> Settings:
    return Settings.model_validate({"reference_allow": ("127.0.0.2/32",), "reference_seconds": 20.0, **changes})


def get(url: str, resolve: Resolver = system_addresses, **changes: object) -> bytes:
    return asyncio.run(fetch(url, settings(**changes), resolve=resolve))


def refusal(url: str, resolve: Resolver = system_addresses, **changes: object) -> ReferenceRefused:
    with pytest.raises(ReferenceRefused) as caught:
        get(url, resolve, **changes)
    message = caught.value.message
    assert message.endswith(".")
    assert "127." not in message
    assert "::" not in message
    return caught.value


def reason(url: str, resolve: Resolver = system_addresses, **changes: object) -> Reason:
    return refusal(url, resolve, **changes).reason


def answers(*turns: Iterable[str]) -> tuple[Callable[[str], Awaitable[Iterable[str]]], list[str]]:
    """A name server that gives each of `turns` once, the last for ever; and the names that it was asked for."""
    asked: list[str] = []

    async def resolve(host: str) -> Iterable[str]:
        asked.append(host)
        return turns[min(len(asked), len(turns)) - 1]

    return resolve, asked


# What is sent


def test_the_body_comes_back_whole() -> None:
    body = bytes(range(256)) * 4000
    with HostileServer(sends(reply(body=body))) as server:
        assert get(server.url()) == body


def test_a_chunked_body_comes_back_whole() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nthe\r\n5\r\n rest\r\n0\r\n\r\n"
    with HostileServer(sends(data)) as server:
        assert get(server.url()) == b"the rest"


def test_the_server_sees_the_name_and_the_path_and_nothing_of_ours() -> None:
    resolve, _ = answers([OUTSIDE])
    with HostileServer(sends(reply(body=BODY))) as server:
        get(server.url("/a%20b/c.png?q=1&r=%2F#part", host="pictures.test"), resolve)
        head = server.requests[0].decode().lower().split("\r\n")
    assert head[0] == "get /a%20b/c.png?q=1&r=%2f http/1.1"
    assert f"host: pictures.test:{server.port}" in head
    assert "accept-encoding: identity" in head
    assert not any(line.startswith(("cookie", "authorization", "referer", "proxy")) for line in head)


def test_cookies_of_a_redirect_are_not_sent_on() -> None:
    with (
        HostileServer(sends(reply(body=BODY))) as last,
        HostileServer(redirects(last.url(), set_cookie="id=7")) as first,
    ):
        assert get(first.url()) == BODY
        assert b"cookie" not in last.requests[0].lower()


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with HostileServer(sends(reply(body=b"from the proxy"))) as proxy, HostileServer(sends(reply(body=BODY))) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(""))
        assert get(server.url()) == BODY
        assert proxy.connections == 0


# Which addresses

FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "100.100.100.200",
    "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "::10.0.0.1",
    "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1",
    "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1",
    "2606:4700::1%lo",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.1", "168.63.129.17", "172.15.255.255", "172.32.0.0", "192.0.1.1", "192.167.255.255", "198.17.255.255",
    "198.20.0.0", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_name_with_a_forbidden_address_is_refused_before_any_connection(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", connect)
    resolve, _ = answers([address])
    assert reason("http://pictures.test/", resolve) == "address"


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert permitted(address)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.0.0/16"),
        ("::ffff:10.1.2.3", "10.1.0.0/16"),
        ("64:ff9b::10.1.2.3", "10.1.0.0/16"),
        ("fd00::7", "fd00::/8"),
        ("::1", "::1/128"),
    ],
)
def test_the_allow_list_opens_a_network_and_no_other(address: str, network: str) -> None:
    assert permitted(address, [ip_network(network)])
    assert not permitted(address, [ip_network("192.168.0.0/16"), ip_network("fe80::/10")])


def test_one_forbidden_address_among_good_ones_refuses_the_name() -> None:
    with HostileServer(sends(reply(body=BODY))) as server:
        resolve, _ = answers([OUTSIDE, INSIDE])
        assert reason(server.url(host="pictures.test"), resolve) == "address"
        assert server.connections == 0


def test_an_unknown_name_reads_like_a_forbidden_one() -> None:
    async def nobody(host: str) -> Iterable[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    inside, _ = answers(["10.0.0.1"])
    empty, _ = answers([])
    unknown = refusal("http://db.internal/", nobody)
    assert unknown.reason == "unknown host"
    assert unknown.message == refusal("http://db.internal/", inside).message
    assert unknown.message == refusal("http://db.internal/", empty).message


SPELLINGS = [
    "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.0.0.1.", "2130706433", "0x7f000001", "0x7f.1", "127.1",
    "127.0.1", "0177.0.0.1", "017700000001", "127.0.0.01", "0", "0.0.0.0", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1%25lo]", "127%2e0%2e0%2e1",
    "１２７.０.０.１", "127。0。0。1", "ⓛocalhost", "169.254.169.254", "x" * 64 + ".test", "a..test", "%00",
]  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_an_inside_address_is_reached(host: str) -> None:
    with HostileServer(sends(reply(body=b"secret")), host=INSIDE) as server:
        assert reason(server.url(host=host)) in ("address", "unknown host", "url")
        assert server.connections == 0


@pytest.mark.parametrize("host", ["2130706434", "0x7f.2", "127.2", "0x7f000002", "127.0.0.2."])
def test_odd_spellings_are_read_as_the_system_reads_them(host: str) -> None:
    with HostileServer(sends(reply(body=BODY))) as server:
        try:
            found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        except OSError:
            found = []
        if found == [OUTSIDE]:
            assert get(server.url(host=host)) == BODY
        else:
            assert reason(server.url(host=host)) in ("address", "unknown host")


def test_an_international_name_is_looked_up_in_its_ascii_form() -> None:
    resolve, asked = answers([OUTSIDE])
    with HostileServer(sends(reply(body=BODY))) as server:
        assert get(server.url(host="bücher.test"), resolve) == BODY
    assert asked == ["xn--bcher-kva.test"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://user:secret@pictures.test/", "credentials"),
        ("http://user@pictures.test/", "credentials"),
        ("http://good.test\\@127.0.0.1/", "credentials"),
        ("ftp://pictures.test/a.png", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("http:///a.png", "url"),
        ("http:a.png", "url"),
        ("http://pictures.test:0/", "url"),
        ("http://pictures.test:99999/", "url"),
        ("http://pictures.test:x/", "url"),
        ("http://[::1/", "url"),
        ("http://pictures.test/\ud800", "url"),
        ("http://\ud800.test/", "url"),
        ("http://pictures.test/\r\nX: y", "url"),
        ("http://pictures.test/" + "a" * 70000, "url"),
    ],
)
def test_urls_that_are_not_plain_are_refused_before_a_look_up(url: str, expected: Reason) -> None:
    resolve, asked = answers([OUTSIDE])
    assert reason(url, resolve) == expected
    assert asked == []


# Rebinding


def test_a_name_that_turns_to_loopback_after_the_check_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[object] = []
    real = socket.getaddrinfo

    def getaddrinfo(*arguments: Any, **more: Any) -> Any:
        looked_up.append(arguments[0])
        return real(*arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolve, asked = answers([OUTSIDE], [INSIDE])
    with HostileServer(sends(reply(body=BODY))) as server:
        secret = HostileServer(sends(reply(body=b"secret")), host=INSIDE)
        with secret:
            assert get(server.url(host="rebind.test"), resolve) == BODY
            assert secret.connections == 0
    assert asked == ["rebind.test"]
    assert looked_up == []


def test_a_name_that_turns_to_loopback_for_its_own_redirect_is_refused() -> None:
    resolve, asked = answers([OUTSIDE], [INSIDE])
    with HostileServer(redirects("/again")) as server:
        assert reason(server.url(host="rebind.test"), resolve) == "address"
        assert server.connections == 1
    assert asked == ["rebind.test", "rebind.test"]


def test_the_next_address_is_tried_when_the_first_takes_no_connection() -> None:
    resolve, _ = answers(["127.0.0.3", OUTSIDE])
    with HostileServer(sends(reply(body=BODY))) as server:
        url = server.url(host="pictures.test")
        assert get(url, resolve, reference_allow=("127.0.0.2/31",)) == BODY


def test_a_host_that_takes_no_connection_is_named_so() -> None:
    with HostileServer(sends(b"")) as server:
        url = server.url()
    assert reason(url) == "unreachable"


# Redirects


def test_redirects_up_to_the_limit_are_followed_also_relative_ones() -> None:
    def hop(server: HostileServer, connection: socket.socket, head: bytes) -> None:
        number = int(head.split(b" ")[1].strip(b"/"))
        done = number == MAX_REDIRECTS
        connection.sendall(reply(body=BODY) if done else reply("307 Temporary Redirect", location=f"../{number + 1}"))

    with HostileServer(hop) as server:
        assert get(server.url("/0")) == BODY
        assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_loop_ends_after_the_limit(status: str) -> None:
    with HostileServer(redirects("/picture.png", status)) as server:
        assert reason(server.url()) == "redirects"
        assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]", "2130706433"])
def test_a_redirect_to_loopback_is_refused(host: str) -> None:
    with HostileServer(sends(reply(body=b"secret")), host=INSIDE) as secret:
        with HostileServer(redirects(secret.url(host=host))) as server:
            assert reason(server.url()) == "address"
            assert server.connections == 1
        assert secret.connections == 0


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("file:///etc/passwd", "scheme"),
        ("ftp://pictures.test/a.png", "scheme"),
        ("data:image/png;base64,AAAA", "scheme"),
        ("gopher://127.0.0.1:70/_x", "scheme"),
        ("//user:secret@127.0.0.2/", "credentials"),
        ("http://[", "url"),
        ("http://169.254.169.254/latest/meta-data/", "address"),
    ],
)
def test_a_redirect_is_checked_like_the_first_url(location: str, expected: Reason) -> None:
    with HostileServer(redirects(location)) as server:
        assert reason(server.url()) == expected


# Size and time


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_an_endless_body_is_cut_at_the_limit(start: bytes) -> None:
    block = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    with HostileServer(pours(start, block)) as server:
        error = refusal(server.url(), reference_max_bytes=1_000_000)
    assert error.reason == "bytes"
    assert "1 MB" in error.message


def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    with HostileServer(sends(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000)) as server:
        assert len(get(server.url(), reference_max_bytes=1000)) == 1000
        assert reason(server.url(), reference_max_bytes=999) == "bytes"


def test_a_body_shorter_than_its_content_length_is_refused() -> None:
    with HostileServer(sends(reply(body=BODY, content_length="1000"))) as server:
        assert reason(server.url()) == "unreachable"


def test_a_body_longer_than_its_content_length_ends_there() -> None:
    with HostileServer(sends(reply(body=BODY, content_length="9"))) as server:
        assert get(server.url()) == BODY[:9]


@pytest.mark.parametrize("length", ["-1", "ten", "1, 2", "²", "9" * 30])
def test_a_content_length_that_is_none_or_monstrous_is_refused(length: str) -> None:
    with HostileServer(sends(reply(body=BODY, content_length=length))) as server:
        assert reason(server.url()) in ("unreachable", "bytes")


@pytest.mark.parametrize(
    ("start", "byte"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_slow_drip_dies_at_the_time_limit(start: bytes, byte: bytes) -> None:
    with HostileServer(drips(start, byte)) as server:
        error = refusal(server.url(), reference_seconds=0.3)
    assert error.reason == "time"
    assert "0.3 s" in error.message


def test_redirects_share_one_time_limit() -> None:
    def hop(server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        server.closing.wait(0.2)
        connection.sendall(reply("302 Found", location="/next"))

    with HostileServer(hop) as server:
        assert reason(server.url(), reference_seconds=0.5) == "time"
        assert len(server.requests) <= MAX_REDIRECTS


def test_a_slow_name_server_dies_at_the_time_limit() -> None:
    async def slow(host: str) -> Iterable[str]:
        await asyncio.sleep(60)
        return [OUTSIDE]

    assert reason("http://pictures.test/", slow, reference_seconds=0.2) == "time"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("patience", [0.2, 20.0])
def test_a_silent_server_is_left_at_the_time_limit_or_with_the_caller(scheme: str, patience: float) -> None:
    def silent(_server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        while connection.recv(65536):
            pass

    async def attempt(server: HostileServer) -> BaseException:
        task = asyncio.create_task(fetch(server.url(scheme=scheme), settings(reference_seconds=patience)))
        if patience > 1:
            assert await asyncio.to_thread(server.began.wait, 20)
            task.cancel()
        with pytest.raises((ReferenceRefused, asyncio.CancelledError)) as caught:
            await task
        assert await asyncio.to_thread(server.ended.wait, 20)
        return caught.value

    with HostileServer(silent) as server:
        left = asyncio.run(attempt(server))
    assert isinstance(left, asyncio.CancelledError if patience > 1 else ReferenceRefused)


# Strange answers


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "500 Oops", "204 No Content", "206 Partial"])
def test_another_status_than_200_is_named(status: str) -> None:
    with HostileServer(sends(reply(status, BODY if status[0] != "2" else b""))) as server:
        error = refusal(server.url())
    assert error.reason == "status"
    assert f"status {status[:3]}" in error.message


def test_a_redirect_without_a_location_is_a_status() -> None:
    with HostileServer(sends(reply("302 Found"))) as server:
        assert reason(server.url()) == "status"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "GZIP"])
def test_a_compressed_body_is_refused_undecoded(encoding: str) -> None:
    with HostileServer(sends(reply(body=gzip.compress(bytes(10**7)), content_encoding=encoding))) as server:
        assert reason(server.url()) == "encoding"


def test_a_body_that_calls_itself_identity_is_taken() -> None:
    with HostileServer(sends(reply(body=BODY, content_encoding="identity"))) as server:
        assert get(server.url()) == BODY


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 100, b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/9.9 abc\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50000],
)  # fmt: skip
def test_what_is_no_http_is_refused(data: bytes) -> None:
    with HostileServer(sends(data)) as server:
        assert reason(server.url()) == "unreachable"


# TLS


def test_tls_asks_for_and_checks_the_name_though_the_address_is_dialled(tmp_path: Path) -> None:
    seen: list[str | None] = []
    resolve, _ = answers([OUTSIDE])
    secure = functools.partial(fetch, settings=settings(), resolve=resolve, tls=client_tls())
    with HostileServer(sends(reply(body=BODY)), tls=server_tls(tmp_path, seen)) as server:
        assert asyncio.run(secure(server.url(host="pictures.test", scheme="https"))) == BODY
        assert asyncio.run(secure(server.url(host="pictures.test.", scheme="https"))) == BODY
        with pytest.raises(ReferenceRefused) as caught:
            asyncio.run(secure(server.url(host="other.test", scheme="https")))
        assert len(server.requests) == 2
    assert caught.value.reason == "unreachable"
    assert seen == ["pictures.test", "pictures.test", "other.test"]


def test_a_certificate_that_the_system_does_not_trust_is_refused(tmp_path: Path) -> None:
    resolve, _ = answers([OUTSIDE])
    with HostileServer(sends(reply(body=BODY)), tls=server_tls(tmp_path, [])) as server:
        assert reason(server.url(host="pictures.test", scheme="https"), resolve) == "unreachable"
        assert server.requests == []


# Webhooks: the same guard, another errand

HEADERS = {"Content-Type": "application/json", "webhook-id": "msg_1"}


def deliver(url: str, body: bytes = b"{}", resolve: Resolver = system_addresses, **more: Any) -> int:
    return post_to(url, body, resolve, **more).status


def post_to(url: str, body: bytes = b"{}", resolve: Resolver = system_addresses, **more: Any) -> Answer:
    options = {"seconds": 20.0, "allow": ("127.0.0.2/32",), **more}
    return asyncio.run(post(url, body, HEADERS, resolve=resolve, **options))


def undelivered(url: str, resolve: Resolver = system_addresses, **more: Any) -> WebhookRefused:
    with pytest.raises(WebhookRefused) as caught:
        deliver(url, resolve=resolve, **more)
    message = caught.value.message
    assert message.startswith("The webhook's")
    assert message.endswith(".")
    assert "127." not in message
    return caught.value


def takes(status: str = "200 OK", bodies: list[bytes] | None = None, **headers: str) -> Handler:
    """Reads the whole body, into `bodies`, and answers with `status`; who closes before that breaks the connection."""

    def handler(_server: HostileServer, connection: socket.socket, seen: bytes) -> None:
        head, _, body = seen.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length and (chunk := connection.recv(65536)):
            body += chunk
        if bodies is not None:
            bodies.append(body)
        connection.sendall(reply(status, b"thanks", **headers))

    return handler


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "302 Found", "410 Gone", "500 Oops"])
def test_a_post_returns_the_status_whatever_it_is(status: str) -> None:
    bodies: list[bytes] = []
    with HostileServer(takes(status, bodies)) as server:
        assert deliver(server.url("/hook?a=1"), bytes(range(256)) * 4000) == int(status[:3])
        head = server.requests[0].partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
    assert bodies == [bytes(range(256)) * 4000]
    assert head[0] == "post /hook?a=1 http/1.1"
    assert f"host: 127.0.0.2:{server.port}" in head
    assert "webhook-id: msg_1" in head
    assert not any(line.startswith(("cookie", "authorization", "referer", "proxy")) for line in head)


def test_a_post_says_when_the_host_wants_the_next_one() -> None:
    with HostileServer(takes("429 Later", **{"Retry-After": "120"})) as server:
        assert post_to(server.url()) == Answer(429, "120")
    with HostileServer(takes("503 Later")) as server:
        assert post_to(server.url()) == Answer(503, None)


@pytest.mark.parametrize("status", ["301 Moved", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_post_follows_no_redirect(status: str) -> None:
    with HostileServer(takes()) as last, HostileServer(takes(status, location=last.url())) as first:
        assert deliver(first.url()) == int(status[:3])
        assert last.connections == 0


def test_a_post_needs_no_more_of_the_answer_than_its_head() -> None:
    with HostileServer(pours(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", b"x" * 65536)) as server:
        assert deliver(server.url()) == 200
        assert server.ended.wait(20)


def test_a_post_hears_an_answer_that_comes_before_its_body_is_taken() -> None:
    def refuses(_server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        connection.sendall(reply("413 Too Large"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with HostileServer(refuses) as server:
        assert deliver(server.url(), bytes(10**6)) == 413


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_an_inside_address_is_posted_to(host: str) -> None:
    with HostileServer(takes(), host=INSIDE) as server:
        assert undelivered(server.url(host=host)).reason in ("address", "unknown host", "url")
        assert server.connections == 0


def test_a_name_is_posted_to_at_the_address_that_was_checked() -> None:
    resolve, asked = answers([OUTSIDE], [INSIDE])
    with HostileServer(takes()) as server:
        assert deliver(server.url(host="hooks.test"), resolve=resolve) == 200
        assert f"host: hooks.test:{server.port}".encode() in server.requests[0].lower()
        assert undelivered(server.url(host="hooks.test"), resolve).reason == "address"
        assert server.connections == 1
    assert asked == ["hooks.test", "hooks.test"]


def test_the_networks_of_references_are_not_those_of_webhooks() -> None:
    with HostileServer(takes()) as server:
        error = undelivered(server.url(), allow=())
        assert server.connections == 0
    assert error.reason == "address"
    assert "webhook_allow" in error.message


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://user:secret@hooks.test/", "credentials"),
        ("ftp://hooks.test/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("/hook", "scheme"),
        ("http:///hook", "url"),
        ("http://hooks.test:0/", "url"),
        ("http://hooks.test/\r\nX: y", "url"),
    ],
)
def test_a_webhooks_url_is_checked_by_its_form_alone_and_again_when_it_is_posted_to(url: str, expected: Reason) -> None:
    resolve, asked = answers([OUTSIDE])
    with pytest.raises(WebhookRefused) as caught:
        check_webhook(url)
    assert caught.value.reason == expected
    assert undelivered(url, resolve).message == caught.value.message
    assert asked == []


def test_a_webhooks_url_of_good_form_passes_without_a_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    check_webhook("https://hooks.test/limner?tenant=1")


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_a_slow_answer_to_a_post_dies_at_the_time_limit(start: bytes) -> None:
    with HostileServer(drips(start)) as server:
        error = undelivered(server.url(), seconds=0.3)
    assert error.reason == "time"
    assert "0.3 s" in error.message


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50000])
def test_what_answers_a_post_with_no_http_is_unreachable(data: bytes) -> None:
    with HostileServer(sends(data)) as server:
        assert undelivered(server.url()).reason == "unreachable"


def test_a_post_over_tls_checks_the_certificate_for_the_name(tmp_path: Path) -> None:
    resolve, _ = answers([OUTSIDE])
    with HostileServer(takes(), tls=server_tls(tmp_path, [])) as server:
        assert deliver(server.url(host="pictures.test", scheme="https"), resolve=resolve, tls=client_tls()) == 200
        for url, tls in (("other.test", client_tls()), ("pictures.test", None)):
            error = undelivered(server.url(host=url, scheme="https"), resolve, tls=tls)
            assert error.reason == "unreachable"
            assert "certificate" in error.message
        assert len(server.requests) == 1
