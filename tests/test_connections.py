"""Connections that dawdle, and how many there may be, on a real server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hostile_server import client_tls, server_tls
from limner import counters
from limner.api import body as bodies
from limner.api import connections
from small_server import BIG, GOOD, drip, everything, failure, listening, post


def cut(phase: str) -> float:
    """How many connections this process has cut in this phase so far."""
    return counters.CONNECTIONS_CUT.values().get((phase,), 0)


# Connections that dawdle


def test_a_silent_connection_is_closed() -> None:
    with listening() as server, server.open() as client:
        assert everything(client) == b""
        assert server.connected() == 0


def test_a_connection_that_fell_silent_after_a_request_is_closed() -> None:
    with listening() as server, server.open() as client:
        client.sendall(GOOD)
        assert everything(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("first", [b"", GOOD])
def test_a_head_that_drips_is_cut_with_a_sentence(first: bytes) -> None:
    with listening() as server, server.open() as client:
        client.sendall(first)
        if first:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        dripping = threading.Thread(target=drip, args=(client,))
        dripping.start()
        assert "did not arrive in time" in failure(everything(client), 408, 1001)
        dripping.join()


def test_a_head_that_is_slow_but_whole_in_time_is_answered() -> None:
    with listening(header_seconds=3.0) as server, server.open() as client:
        for byte in GOOD:
            client.sendall(bytes([byte]))
            time.sleep(0.002)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_request_that_takes_the_service_long_is_not_cut() -> None:
    gate = threading.Event()
    with listening(gate, header_seconds=0.1) as server, server.open() as client:
        client.sendall(GOOD)
        time.sleep(0.5)
        gate.set()
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_drips_is_cut_with_a_sentence() -> None:
    with listening() as server, server.open() as client:
        client.sendall(post(b"", length=1000))
        dripping = threading.Thread(target=drip, args=(client,))
        dripping.start()
        reply = everything(client)
        assert b'"code":1001' in reply
        assert b"did not arrive in time" in reply
        dripping.join()
        assert bodies.held.total == 0


def test_a_body_that_comes_steadily_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BYTES_A_SECOND", 20)
    with listening() as server, server.open() as client:
        client.sendall(post(b"", "Connection: close", length=60))
        for _ in range(6):
            time.sleep(0.2)
            client.sendall(b" " * 9 + b"1")
        assert b"must be JSON" in everything(client)  # it was read to its end: six numbers are no document


def test_no_body_may_take_longer_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BYTES_A_SECOND", 1)
    with listening(request_seconds=0.6) as server, server.open() as client:
        client.sendall(post(b" " * 1000, length=2000))
        dripping = threading.Thread(target=drip, args=(client,))
        dripping.start()
        assert b'"code":1001' in everything(client)
        dripping.join()


def test_a_body_that_nobody_reads_is_not_taken_for_ever() -> None:
    with listening() as server, server.open() as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        dripping = threading.Thread(target=drip, args=(client,))
        dripping.start()
        assert everything(client).startswith(b"HTTP/1.1 404 ")
        dripping.join()


def test_a_body_that_nobody_reads_is_not_taken_beyond_the_largest_body() -> None:
    with listening(max_body_bytes=2**16, header_seconds=2.0) as server, server.open() as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n")
        sent = 0
        try:
            while sent < 10**10:
                sent += client.send(bytes(2**16))
        except ConnectionError:
            pass
        assert sent < 10**8  # what the machine's own buffers hold, and no more


def test_the_answer_is_read_after_a_long_body_that_nobody_read() -> None:
    with listening(header_seconds=5.0) as server, server.open() as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % BIG)
        client.sendall(bytes(BIG))
        assert client.recv(65536).startswith(b"HTTP/1.1 404 ")
        client.sendall(GOOD)  # and the connection goes on
        assert b"HTTP/1.1 200 " in client.recv(65536)


@pytest.mark.parametrize("close", ["close", "keep-alive"])
def test_a_reply_that_nobody_reads_is_dropped(close: str) -> None:
    with listening() as server, server.open() as client:
        client.sendall(f"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: {close}\r\n\r\n".encode())
        while server.connected() == 0:
            time.sleep(0.01)
        while server.connected():
            time.sleep(0.01)
        assert len(everything(client)) < BIG
        assert cut("writing") > 0


def test_a_reply_that_is_read_slowly_but_steadily_arrives_whole() -> None:
    with listening() as server, server.open() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        client.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        length = 0
        while chunk := client.recv(2**16):
            length += len(chunk)
            time.sleep(0.01)
        assert length > BIG


# Too many connections


def test_connections_over_the_limit_are_told_so_and_those_under_it_served() -> None:
    with listening(max_connections=3, header_seconds=5.0) as server:
        held = [server.open() for _ in range(3)]
        while server.connected() < 3:
            time.sleep(0.01)
        before = cut("connections")
        for data in (b"", GOOD, post(b"x" * 100_000)):
            assert "try again" in failure(server.ask(data), 503, 1002)
        assert cut("connections") == before + 3
        for client in held:
            client.sendall(GOOD)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        held.pop().close()
        while server.connected() == 3:
            time.sleep(0.01)
        with server.open() as client:
            client.sendall(GOOD)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        for client in held:
            client.close()


def test_a_flood_of_connections_is_answered_up_to_a_number_and_then_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REFUSED_AT_ONCE", 4)
    with listening(max_connections=1, header_seconds=5.0) as server, server.open():
        while server.connected() < 1:
            time.sleep(0.01)
        flood = [server.open() for _ in range(12)]
        replies = [everything(client) for client in flood]
        for client in flood:
            client.close()
    assert [bool(reply) for reply in replies] == [True] * 4 + [False] * 8


def test_the_service_stops_while_connections_dawdle() -> None:
    with listening(header_seconds=0.3) as server:
        silent, slow, deaf = server.open(), server.open(), server.open()
        slow.sendall(b"GET /")
        deaf.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while server.connected() < 3:
            time.sleep(0.01)
    for client in (silent, slow, deaf):
        everything(client)
        client.close()


# TLS


def test_over_tls_a_silent_handshake_is_closed_and_counts_as_a_connection(tmp_path: Path) -> None:
    server_tls(tmp_path, [])
    chain = tmp_path / "pictures.test.pem"
    with listening(tls_certificate=chain, tls_key=chain, max_connections=2, header_seconds=1.0) as server:
        with (
            server.open() as silent,
            server.open() as client,
            client_tls().wrap_socket(client, server_hostname="pictures.test") as secure,
        ):
            assert server.connected() == 2
            with server.open() as third:
                assert everything(third) == b""
            secure.sendall(GOOD)
            assert secure.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert everything(silent) == b""
        with server.open() as plain:
            plain.sendall(GOOD)
            assert b"HTTP" not in everything(plain)


def test_over_tls_a_reply_that_nobody_reads_is_dropped(tmp_path: Path) -> None:
    server_tls(tmp_path, [])
    chain = tmp_path / "pictures.test.pem"
    with listening(tls_certificate=chain, tls_key=chain) as server, server.open() as client:
        secure = client_tls().wrap_socket(client, server_hostname="pictures.test")
        secure.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while server.connected():
            time.sleep(0.01)
        assert cut("writing") > 0
        secure.close()


# What is no HTTP


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "HTTP"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "HTTP"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "HTTP"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "HTTP"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400, "HTTP"),
        (b"GET /" + b"a" * 20_000, 431, "16384 bytes"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 4000, 431, "16384 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_http_is_answered_in_the_one_shape(data: bytes, status: int, word: str) -> None:
    with listening() as server:
        assert word in failure(server.ask(data), status, 2013)


def test_a_body_in_dust_is_refused_and_one_in_chunks_is_read() -> None:
    head = b"POST /read HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with listening(header_seconds=5.0) as server:
        assert "HTTP" in failure(server.ask(head + b"1\r\n \r\n" * 200_000), 400, 2013)
        whole = b'"' + b"x" * 600_000 + b'"'
        chunks = b"".join(b"258\r\n" + whole[at : at + 600] + b"\r\n" for at in range(0, 600_000, 600))
        assert b'{"kind":"str"}' in server.ask(head + chunks + b"2\r\n" + whole[-2:] + b"\r\n0\r\n\r\n")
        assert b'{"kind":"list"}' in server.ask(head + b"1\r\n[\r\n" + b"1\r\n \r\n" * 900 + b"1\r\n]\r\n0\r\n\r\n")


def test_no_reply_names_the_server_and_no_upgrade_is_taken() -> None:
    with listening() as server:
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n"
        reply = server.ask(GOOD[:-2] + upgrade)
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert b"\nserver:" not in reply.lower()


def test_open_connections_are_counted_until_they_are_gone() -> None:
    before = counters.CONNECTIONS.values()[()]
    with listening() as server:
        with server.open() as one, server.open() as other:
            for client in (one, other):
                client.sendall(GOOD)
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert counters.CONNECTIONS.values()[()] == before + 2
        while server.connected():
            time.sleep(0.01)
        assert counters.CONNECTIONS.values()[()] == before


def test_the_limit_of_open_files_is_raised_or_the_number_of_connections_lowered_to_it() -> None:
    code = """if True:
        import resource, sys
        from limner.api.connections import SPARE_FILES, server_config
        from limner.config import Settings
        for hard in (SPARE_FILES + 90, SPARE_FILES + 40):
            resource.setrlimit(resource.RLIMIT_NOFILE, (SPARE_FILES, hard))
            config = server_config(lambda: None, Settings(max_connections=80))
            print(config.http.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "80 80"
    assert done.stdout.splitlines()[-1] == "40 40"
