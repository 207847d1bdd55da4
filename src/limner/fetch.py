"""Requests to a stranger's URL, without letting the stranger reach into our network (SSRF).

`fetch` gets a reference, `post` delivers a webhook; both go through one `_Guard`.

The guard stands where the connection is made. Each hop's host is resolved once, every address that the name has is
checked, and the connection goes to one of the checked addresses by number, so that a name which changes its mind
afterwards (DNS rebinding) changes nothing. The name itself goes only into the Host header, SNI and the check of the
certificate. A name with one forbidden address among good ones is refused whole: no honest public host has one.

Forbidden is all that IANA's special-purpose registries (RFC 6890 and its updates) do not call globally reachable.
IPv4-mapped and NAT64 addresses count as the IPv4 address inside them; 6to4, Teredo and IPv4-compatible ones are
refused whatever they hold. `reference_allow` and `webhook_allow` name networks that are reached all the same.

No sentence here names an address, and an unknown name reads the same as a forbidden one, so that replies do not map
the network behind the service.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpcore2
import httpx2

from limner.config import Settings
from limner.errors import InvalidRequest, Reason, ReferenceRefused, WebhookRefused

Network = IPv4Network | IPv6Network
Resolver = Callable[[str], Awaitable[Iterable[str]]]
"""From a host, as it stands in the URL, to its numeric addresses, best first; OSError where it has none."""

MAX_REDIRECTS = 3
MAX_ADDRESSES = 4
"""So many of a host's addresses are tried, each for its part of the time, before it counts as unreachable."""

_HOST = re.compile(rb"[0-9a-z_.-]+|[0-9a-f:.]+")  # ASCII by now; no escapes, brackets or zones
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_GLOBAL_IPV6 = IPv6Network("2000::/3")  # the one block that IANA hands out as global unicast
_FORBIDDEN: tuple[Network, ...] = tuple(
    ip_network(name)
    for name in (
        "0.0.0.0/8",  # "this network", RFC 791
        "10.0.0.0/8",  # private, RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # public by its number, yet Azure's host agent to every machine inside
        "169.254.0.0/16",  # link-local, the clouds' metadata services among it
        "172.16.0.0/12",  # private, RFC 1918
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",  # private, RFC 1918
        "198.18.0.0/15",  # benchmarking, RFC 2544
        "198.51.100.0/24",  # documentation, RFC 5737
        "203.0.113.0/24",  # documentation, RFC 5737
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast among it
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4, RFC 3056
        "3fff::/20",  # documentation, RFC 9637
    )
)
_NETWORK = httpcore2.AnyIOBackend()
# getaddrinfo cannot be cancelled: slow name servers may hold these threads, and no others, past the time limit.
_RESOLVING = ThreadPoolExecutor(8, "limner-resolve")


async def system_addresses(host: str) -> tuple[str, ...]:
    """Every address the operating system has for `host`, in its order, each once.

    Odd spellings (`2130706433`, `0x7f.1`, `127.1`, `localhost.`) come out as the system reads them. OSError: none.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(_RESOLVING, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except ValueError as error:  # a label too long for DNS, a null character
        raise OSError(str(error)) from error
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


async def fetch(
    url: str, settings: Settings, *, resolve: Resolver = system_addresses, tls: ssl.SSLContext | None = None
) -> bytes:
    """The body behind an http or https URL, at most `reference_max_bytes` long, had within `reference_seconds`.

    Up to MAX_REDIRECTS redirects are followed, each checked like the first URL. Proxies of the environment, cookies
    and credentials are not used. `tls` replaces the system's trust store.

    Raises ReferenceRefused.
    """
    guard = _Guard(
        "reference", ReferenceRefused, "reference_allow", settings.reference_allow, settings.reference_seconds,
        resolve, tls,
    )  # fmt: skip
    try:
        async with asyncio.timeout(settings.reference_seconds):
            target = guard.url(url)
            for _ in range(MAX_REDIRECTS + 1):
                async with guard.connection(target) as connection:
                    answer = await _get(target, connection, settings.reference_max_bytes)
                if isinstance(answer, bytes):
                    return answer
                target = guard.url(answer, target)
    except TimeoutError:
        raise ReferenceRefused(
            f"The reference did not arrive within {settings.reference_seconds:g} s: "
            "use a faster host, or send the picture as a data URL.",
            "time",
        ) from None
    raise ReferenceRefused(
        f"The reference's URL redirects more than {MAX_REDIRECTS} times: give the picture's own URL.", "redirects"
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What `post` was answered."""

    status: int
    retry_after: str | None = None  # the header, as it came


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    seconds: float,
    allow: tuple[str, ...] = (),
    resolve: Resolver = system_addresses,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send `body` to an http or https URL, and return how it was answered within `seconds`.

    A redirect is a status like any other and is not followed: a signature is meant for one host. The answer's body is
    not read. `headers` are ASCII, Content-Type among them; those of the connection itself are set here. `allow` names
    networks (CIDR) in private ranges that are reached all the same. `tls` replaces the system's trust store.

    Raises WebhookRefused: its `reason` is `url`, `scheme` or `credentials` (the URL will never do), `address` or
    `unknown host` (it leads nowhere that is allowed, now), `unreachable` or `time` (worth trying again).
    """
    guard = _Guard("webhook", WebhookRefused, "webhook_allow", allow, seconds, resolve, tls)
    try:
        async with asyncio.timeout(seconds):
            target = guard.url(url)
            ours = [("Host", target.netloc.decode("ascii")), ("User-Agent", "limner"), ("Connection", "close")]
            sent = [*ours, ("Content-Length", str(len(body))), *headers.items()]
            async with (
                guard.connection(target) as connection,
                connection.stream("POST", _target(target), headers=sent, content=body) as response,
            ):
                return Answer(response.status, httpx2.Headers(response.headers).get("retry-after"))
    except TimeoutError:
        raise WebhookRefused(
            f"The webhook's host did not answer within {seconds:g} s: answer at once, and do the work afterwards.",
            "time",
        ) from None


def check_reference(url: str) -> None:
    """As `check_webhook`, of a reference's URL. Raises ReferenceRefused, of the same reasons."""
    _Guard("reference", ReferenceRefused, "reference_allow", (), 1.0).url(url)


def check_webhook(url: str) -> None:
    """Look at the form of a webhook's URL alone, before anything is resolved or sent.

    Raises WebhookRefused, of reason `url`, `scheme` or `credentials`.
    """
    _Guard("webhook", WebhookRefused, "webhook_allow", (), 1.0).url(url)


def permitted(address: str, allow: Iterable[Network] = ()) -> bool:
    """Whether a stranger may send us to this numeric address."""
    parsed: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id is not None:
            return False
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        elif parsed in _NAT64:
            parsed = IPv4Address(int(parsed) & 0xFFFFFFFF)
    if any(parsed in network for network in allow):
        return True
    if isinstance(parsed, IPv6Address) and parsed not in _GLOBAL_IPV6:
        return False
    return not any(parsed in network for network in _FORBIDDEN)


@dataclass(frozen=True, slots=True)
class _Guard:
    """The way out for one purpose: which URLs will do, which addresses, and the connection itself.

    `noun` and `setting` stand in the sentences of the errors, which `refused` makes.
    """

    noun: str
    refused: Callable[[str, Reason], InvalidRequest]
    setting: str
    allow: tuple[str, ...]
    seconds: float
    resolve: Resolver = system_addresses
    tls: ssl.SSLContext | None = None

    def url(self, text: str, base: httpx2.URL | None = None) -> httpx2.URL:
        """The URL of one hop, in a form that is safe to send; `base` is the one whose redirect it is."""
        try:
            url = httpx2.URL(text) if base is None else base.join(text)
            port = url.port
        except (httpx2.InvalidURL, ValueError):
            raise self.refused(f"The {self.noun}'s URL is malformed: check it in a browser.", "url") from None
        if url.scheme not in ("http", "https"):
            raise self.refused(
                f"The {self.noun}'s URL leads to another scheme than http and https: only these are followed.", "scheme"
            )
        if not _HOST.fullmatch(url.raw_host) or (port is not None and not 1 <= port <= 65535):
            raise self.refused(
                f"The {self.noun}'s URL has no host, or a port that is none: check it in a browser.", "url"
            )
        if url.userinfo:
            raise self.refused(
                f"The {self.noun}'s URL holds a user name or password: give one that needs none.", "credentials"
            )
        return url

    @asynccontextmanager
    async def connection(self, url: httpx2.URL) -> AsyncIterator[httpcore2.AsyncHTTP11Connection]:
        """A connection for one request, to the first checked address that takes one.

        Made here by number: no pool that could lend one whose certificate was checked for another name, and no cookie
        jar, netrc, proxy or decoding. What goes wrong on it while it is used is told as `refused`, too.
        """
        name = url.raw_host.decode("ascii")
        addresses = await self._addresses(name)
        for address in addresses:
            try:
                plain = await _NETWORK.connect_tcp(
                    address, url.port or (443 if url.scheme == "https" else 80), self.seconds / len(addresses)
                )
                break
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        else:
            raise self.refused(
                f"The {self.noun}'s host takes no connection: check the URL, or try again later.", "unreachable"
            )
        try:
            secure = url.scheme == "https"
            stream = await plain.start_tls(self.tls or _system_trust(), name.rstrip(".")) if secure else plain
            yield httpcore2.AsyncHTTP11Connection(origin=_target(url).origin, stream=stream)
        except httpcore2.ConnectError:
            raise self.refused(
                f"The {self.noun}'s host has no certificate that can be trusted: check the URL.", "unreachable"
            ) from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError):
            raise self.refused(
                f"The {self.noun}'s host broke off before all had come and gone: try again later.", "unreachable"
            ) from None
        finally:
            await plain.aclose()  # also where the handshake was cancelled, which leaves the socket open

    async def _addresses(self, host: str) -> list[str]:
        nowhere = (
            f"The {self.noun}'s host has no address that may be reached from here: "
            f"use a host on the public internet, or ask the operator to name its network in {self.setting}."
        )
        try:
            addresses = list(await self.resolve(host))
        except OSError:
            raise self.refused(nowhere, "unknown host") from None
        if not addresses:
            raise self.refused(nowhere, "unknown host")
        allow = [ip_network(name) for name in self.allow]
        if not all(permitted(address, allow) for address in addresses):
            raise self.refused(nowhere, "address")
        return addresses[:MAX_ADDRESSES]


def _target(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


async def _get(url: httpx2.URL, connection: httpcore2.AsyncHTTP11Connection, limit: int) -> bytes | str:
    """The body, at most `limit` bytes; or, as a str, the location that it redirects to."""
    headers = [
        (b"Host", url.netloc),
        (b"User-Agent", b"limner"),
        (b"Accept", b"image/jpeg, image/png, image/webp"),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
    ]
    async with connection.stream("GET", _target(url), headers=headers) as response:
        told = httpx2.Headers(response.headers)
        if response.status in _REDIRECTS and "location" in told:
            return told["location"]
        if response.status != 200:
            raise ReferenceRefused(
                f"The reference's host answered with status {response.status}, not the picture.", "status"
            )
        if told.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise ReferenceRefused(
                "The reference's host sent it compressed though asked not to: use another host.", "encoding"
            )
        if int(told.get("content-length", 0)) > limit:  # the parser has refused what is no number
            raise too_large(limit)
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > limit:
                raise too_large(limit)
        return bytes(body)


def too_large(limit: int) -> ReferenceRefused:
    """The refusal of a file of more than `limit` bytes."""
    return ReferenceRefused(f"The reference is larger than {limit / 1e6:g} MB: send a smaller file.", "bytes")


@cache
def _system_trust() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=True)  # SSL_CERT_FILE is the operator's word, unlike a proxy
