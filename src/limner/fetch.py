"""A file from a stranger's URL, without letting the stranger reach into our network (SSRF).

The guard stands where the connection is made. Each hop's host is resolved once, every address that the name has is
checked, and the connection goes to one of the checked addresses by number, so that a name which changes its mind
afterwards (DNS rebinding) changes nothing. The name itself goes only into the Host header, SNI and the check of the
certificate. A name with one forbidden address among good ones is refused whole: no honest public host has one.

Forbidden is all that IANA's special-purpose registries (RFC 6890 and its updates) do not call globally reachable.
IPv4-mapped and NAT64 addresses count as the IPv4 address inside them; 6to4, Teredo and IPv4-compatible ones are
refused whatever they hold. `Settings.reference_allow` names networks that are reached all the same.

No sentence here names an address, and an unknown name reads the same as a forbidden one, so that replies do not map
the network behind the service.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpcore2
import httpx2

from limner.config import Settings
from limner.errors import ReferenceRefused

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
_NO_ADDRESS = (
    "The reference's host has no address that references may be fetched from: "
    "use a host on the public internet, or ask the operator to name its network in reference_allow."
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
    allow = [ip_network(name) for name in settings.reference_allow]
    try:
        async with asyncio.timeout(settings.reference_seconds):
            target = _checked_url(url)
            for _ in range(MAX_REDIRECTS + 1):
                addresses = await _checked_addresses(target.raw_host.decode("ascii"), allow, resolve)
                answer = await _get(target, addresses, settings, tls or _system_trust())
                if isinstance(answer, bytes):
                    return answer
                target = answer
    except TimeoutError:
        raise ReferenceRefused(
            f"The reference did not arrive within {settings.reference_seconds:g} s: "
            "use a faster host, or send the picture as a data URL.",
            "time",
        ) from None
    raise ReferenceRefused(
        f"The reference's URL redirects more than {MAX_REDIRECTS} times: give the picture's own URL.", "redirects"
    )


def permitted(address: str, allow: Iterable[Network] = ()) -> bool:
    """Whether a reference may be fetched from this numeric address."""
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


def _checked_url(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """The URL of one hop, in a form that is safe to send; `base` is the one whose redirect it is."""
    try:
        url = httpx2.URL(text) if base is None else base.join(text)
        port = url.port
    except (httpx2.InvalidURL, ValueError):
        raise ReferenceRefused("The reference's URL is malformed: check it in a browser.", "url") from None
    if url.scheme not in ("http", "https"):
        raise ReferenceRefused(
            "The reference's URL leads to another scheme than http and https: only these are fetched.", "scheme"
        )
    if not _HOST.fullmatch(url.raw_host) or (port is not None and not 1 <= port <= 65535):
        raise ReferenceRefused("The reference's URL has no host, or a port that is none: check it in a browser.", "url")
    if url.userinfo:
        raise ReferenceRefused(
            "The reference's URL holds a user name or password: give one that needs none.", "credentials"
        )
    return url


async def _checked_addresses(host: str, allow: list[Network], resolve: Resolver) -> list[str]:
    try:
        addresses = list(await resolve(host))
    except OSError:
        raise ReferenceRefused(_NO_ADDRESS, "unknown host") from None
    if not addresses:
        raise ReferenceRefused(_NO_ADDRESS, "unknown host")
    if not all(permitted(address, allow) for address in addresses):
        raise ReferenceRefused(_NO_ADDRESS, "address")
    return addresses[:MAX_ADDRESSES]


async def _get(url: httpx2.URL, addresses: list[str], settings: Settings, tls: ssl.SSLContext) -> bytes | httpx2.URL:
    """The body, or where it redirects to, from the first address that takes the connection.

    One connection for one request, made here by number: no pool that could lend one whose certificate was checked
    for another name, and no cookie jar, netrc, proxy or decoding.
    """
    name = url.raw_host.decode("ascii")
    seconds = settings.reference_seconds / len(addresses)
    for address in addresses:
        try:
            plain = await _NETWORK.connect_tcp(address, url.port or (443 if url.scheme == "https" else 80), seconds)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
            continue
        try:
            stream = await plain.start_tls(tls, name.rstrip(".")) if url.scheme == "https" else plain
            return await _ask(url, stream, settings.reference_max_bytes)
        except httpcore2.ConnectError:
            raise ReferenceRefused(
                "The reference's host has no certificate that can be trusted: check the URL.", "unreachable"
            ) from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError):
            raise ReferenceRefused(
                "The reference's host broke off before the whole file had come: try again later.", "unreachable"
            ) from None
        finally:
            await plain.aclose()  # also where the handshake was cancelled, which leaves the socket open
    raise ReferenceRefused(
        "The reference's host takes no connection: check the URL, or try again later.", "unreachable"
    )


async def _ask(url: httpx2.URL, stream: httpcore2.AsyncNetworkStream, limit: int) -> bytes | httpx2.URL:
    target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    headers = [
        (b"Host", url.netloc),
        (b"User-Agent", b"limner"),
        (b"Accept", b"image/jpeg, image/png, image/webp"),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
    ]
    connection = httpcore2.AsyncHTTP11Connection(origin=target.origin, stream=stream)
    async with connection.stream("GET", target, headers=headers) as response:
        told = httpx2.Headers(response.headers)
        if response.status in _REDIRECTS and "location" in told:
            return _checked_url(told["location"], url)
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
