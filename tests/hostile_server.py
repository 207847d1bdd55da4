"""Real HTTP servers that misbehave as told, on a loopback address and a free port.

A handler gets the connection and the request's head, and writes what it likes; `requests` keeps the heads. 127.0.0.2
stands for a public address where a test's settings allow it, 127.0.0.1 for the inside of the network.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

Handler = Callable[["HostileServer", socket.socket, bytes], None]


class HostileServer:
    """`with HostileServer(handler) as server:` listens meanwhile.

    `connections` counts those without a request too; `began` and `ended` are set when the first begins and ends.
    """

    def __init__(self, handler: Handler, host: str = "127.0.0.2", tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.began, self.ended, self.closing = threading.Event(), threading.Event(), threading.Event()
        outer = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer.connections += 1
                connection = self.request
                outer.began.set()
                try:
                    if tls is not None:
                        connection = tls.wrap_socket(connection, server_side=True)
                    with connection:
                        head = b""
                        while b"\r\n\r\n" not in head and (chunk := connection.recv(65536)):
                            head += chunk
                        if head:
                            outer.requests.append(head)
                            handler(outer, connection, head)
                except OSError:
                    pass  # the client left, which is what it should do
                outer.ended.set()

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self._server = Server((host, 0), Connection)
        self.port: int = self._server.server_address[1]
        self.host = f"[{host}]" if ":" in host else host
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def url(self, path: str = "/picture.png", host: str | None = None, scheme: str = "http") -> str:
        return f"{scheme}://{host or self.host}:{self.port}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def reply(status: str = "200 OK", body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP reply; header names are written with underscores. A given content_length may lie."""
    headers = {"content_length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def sends(data: bytes) -> Handler:
    """Sends these bytes whatever is asked, and closes."""

    def handler(_server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        connection.sendall(data)

    return handler


def redirects(location: str, status: str = "302 Found", **headers: str) -> Handler:
    return sends(reply(status, b"", location=location, **headers))


def drips(start: bytes, byte: bytes = b"x", every: float = 0.02) -> Handler:
    """Sends `start`, then one byte now and then, for ever; a reader with a timeout per read never notices."""

    def handler(server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        connection.sendall(start)
        while not server.closing.wait(every):
            connection.sendall(byte)

    return handler


def pours(start: bytes, block: bytes) -> Handler:
    """Sends `start`, then `block` as fast as it is taken, for ever."""

    def handler(server: HostileServer, connection: socket.socket, _head: bytes) -> None:
        connection.sendall(start)
        while not server.closing.is_set():
            connection.sendall(block)

    return handler


def server_tls(folder: Path, seen: list[str | None]) -> ssl.SSLContext:
    """The TLS side of a server called pictures.test; `seen` gets the name that each client asks for (SNI)."""
    chain = folder / "pictures.test.pem"
    chain.write_text(CERTIFICATE + KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    return context


def client_tls() -> ssl.SSLContext:
    """Trusts pictures.test and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=CERTIFICATE)
    return context


# Made for these tests and good for nothing else: self-signed, DNS:pictures.test, until 2126.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBsTCCAVegAwIBAgIUYwQTkgD2yv5/yBjbunCm2plgw1gwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNcGljdHVyZXMudGVzdDAgFw0yNjExMjIxNjMzMTFaGA8yMTI2
MTAyOTE2MzMxMVowGDEWMBQGA1UEAwwNcGljdHVyZXMudGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABK24i+c7B9wnk75XAMoQFrNPpNMuiKMdBLkckSgBJsdY
NehXvkRsu2tmSXmHGlPHL+85fpSAvnwinZbHQ8C2cp+jfTB7MB0GA1UdDgQWBBSi
62mO/bwUPhCUpq5RqLKaPqT5QjAfBgNVHSMEGDAWgBSi62mO/bwUPhCUpq5RqLKa
PqT5QjAYBgNVHREEETAPgg1waWN0dXJlcy50ZXN0MA8GA1UdEwEB/wQFMAMBAf8w
DgYDVR0PAQH/BAQDAgKEMAoGCCqGSM49BAMCA0gAMEUCIFT6992ZeTAWXAnBirFj
nVINXUfepcchcT4S94HehsuqAiEA4L4tfTtH5M6j0Eg1Vg5td46IFNOdyEgN/uPo
VhFm1JE=
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgiGoslXVyjiye4DQn
GAdmL8S7W+JLWDfOrMjoZ2SPOz+hRANCAAStuIvnOwfcJ5O+VwDKEBazT6TTLoij
HQS5HJEoASbHWDXoV75EbLtrZkl5hxpTxy/vOX6UgL58Ip2Wx0PAtnKf
-----END PRIVATE KEY-----
"""
