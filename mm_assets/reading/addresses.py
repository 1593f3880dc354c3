"""Which addresses may be fetched from: hosts that were allowed, and never a machine inside.

A URL that a stranger wrote is a way to make this machine ask others for him. So a host must be
named beforehand (`AllowList`), and the address that its name stands for must be public: no name
leads to this machine, its network or its cloud's credentials. What belongs here: judging. What
does not: connections, which fetch.py makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

from mm_assets.contract.errors import UsageError
from mm_assets.contract.visible import visible

Address = IPv4Address | IPv6Address
LONGEST_URL = 8_192  # characters
DEFAULT_PORTS = {"http": 80, "https": 443}
REMEDIES: dict[str, str] = {
    "url_invalid": "Write http:// or https://, a host and a path; no user name or password.",
    "url_not_allowed": "Ask whoever runs this to allow the host (`--allow-url HOST`).",
    "url_address": "Name a host with public addresses; or have it allowed to be internal "
    "(`--private-host HOST`).",
    "url_redirect": "Give the address at which the image itself is.",
    "url_failed": "Check the address: it has to answer 200 with the bytes of the image.",
    "url_too_large": "Give the address of a smaller image, or upload it.",
    "url_timeout": "Try again later, or upload the image.",
}


class FetchRefused(Exception):  # noqa: N818  not a fault of ours, it speaks of the address
    """Nothing is fetched from this address. `code` is one of REMEDIES, or of who fetches more.

    passing: another try may find it, as where nothing answers.
    """

    def __init__(self, code: str, reason: str, *, passing: bool = False) -> None:
        self.code = code
        self.reason = visible(reason)
        self.passing = passing
        super().__init__(code, reason)

    def __str__(self) -> str:
        return f"[{self.code}] {self.reason}"


@dataclass(frozen=True)
class Target:
    """Where one request goes. host: in lower case, ASCII, without brackets; path: with query."""

    url: str
    scheme: str
    host: str
    port: int
    path: bytes

    @property
    def host_header(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True)
class Entry:
    """One entry of an allow list. host: without the `*.` that `below` stands for.

    port: None for 80 and 443.
    """

    host: str
    below: bool
    port: int | None

    def fits(self, host: str, port: int) -> bool:
        named = host.endswith(f".{self.host}") if self.below else host == self.host
        ports = DEFAULT_PORTS.values() if self.port is None else (self.port,)
        return named and port in ports

    @classmethod
    def of(cls, text: str) -> Entry:
        """From `host`, `*.example.org` (all below it, not itself), each with or without `:port`.

        Raises UsageError.
        """
        below = text.startswith("*.")
        try:
            url = _parsed(f"host://{text[2:] if below else text}")
        except ValueError:
            url = None
        if (
            url is None
            or url.userinfo
            or url.raw_path != b"/"
            or url.fragment
            or "/" in text
            or url.port == 0
            or not (host := _host_of(url))
        ):
            raise UsageError(
                code="arguments",
                what=f"{text!r} is no host",
                todo="Write a host without https://: example.org, *.example.org, "
                "example.org:8443 or [2001:db8::1].",
            )
        return cls(host, below, url.port)


class Kind(StrEnum):
    """What an address belongs to. never: to what no image comes from, whoever allows it."""

    PUBLIC = "public"
    INTERNAL = "internal"
    NEVER = "never"


@dataclass(frozen=True)
class AllowList:
    """The hosts that may be fetched from; of these `internal` may be in this machine's network."""

    hosts: tuple[Entry, ...] = ()
    internal: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, hosts: Iterable[str], internal: Iterable[str] = ()) -> AllowList:
        """From entries as people write them. Raises UsageError."""
        return cls(tuple(map(Entry.of, hosts)), tuple(map(Entry.of, internal)))

    def target(self, text: str) -> Target:
        """The URL, if its host is allowed. Raises FetchRefused (url_invalid, url_not_allowed)."""
        if len(text) > LONGEST_URL:
            raise FetchRefused("url_invalid", f"the URL has more than {LONGEST_URL:,} characters")
        try:
            url = _parsed(text)
        except ValueError as error:
            raise FetchRefused("url_invalid", f"this is no URL: {error}") from None
        if url.scheme not in DEFAULT_PORTS:
            raise FetchRefused("url_invalid", "the URL begins with neither http:// nor https://")
        if url.userinfo:
            raise FetchRefused("url_invalid", "the URL holds a user name or password")
        if not (host := _host_of(url)):
            raise FetchRefused("url_invalid", "the URL names no host")
        port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
        if not any(entry.fits(host, port) for entry in self.hosts):
            raise FetchRefused("url_not_allowed", f"{host}:{port} is not among the allowed hosts")
        return Target(str(url), url.scheme, host, port, url.raw_path)

    def check_address(self, host: str, port: int, address: Address) -> None:
        """Raises FetchRefused (url_address) unless this host may be at this address."""
        kind = kind_of(address)
        if kind is Kind.INTERNAL and any(entry.fits(host, port) for entry in self.internal):
            return
        if kind is not Kind.PUBLIC:  # which one is nobody's business
            raise FetchRefused("url_address", f"{host} is at an address that is not public")


def kind_of(address: Address) -> Kind:
    """Whether an address is public. What only stands for an IPv4 address is judged as that."""
    if isinstance(address, IPv4Address):
        return _kind_in(address, _NEVER_4, _INTERNAL_4, Kind.PUBLIC)
    if address.scope_id is not None:
        return Kind.NEVER
    if address.ipv4_mapped is not None:
        return kind_of(address.ipv4_mapped)
    if address in _NAT64:
        return kind_of(IPv4Address(int(address) & 0xFFFF_FFFF))
    rest = Kind.PUBLIC if address in _GLOBAL_6 else Kind.NEVER
    return _kind_in(address, _NEVER_6, _INTERNAL_6, rest)


def _kind_in(address: Any, never: Iterable[Any], internal: Iterable[Any], rest: Kind) -> Kind:
    if any(address in network for network in never):
        return Kind.NEVER
    return Kind.INTERNAL if any(address in network for network in internal) else rest


def _networks(*texts: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, texts))


# Where clouds tell a machine its credentials. Most are link-local; these look like others.
_METADATA = ("168.63.129.16", "100.100.100.200", "fd00:ec2::/32", "fd20:ce::/32")
_NEVER_4 = _networks(
    *_METADATA[:2],
    "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24",
    "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
_INTERNAL_4 = _networks(
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"
)
_GLOBAL_6 = IPv6Network("2000::/3")  # all that was ever given to anybody
_NAT64 = IPv6Network("64:ff9b::/96")  # how IPv4 addresses look where there is only IPv6
# Below 2001::/23 are Teredo, ORCHID and the like; 2002::/16 holds IPv4 addresses (6to4).
_NEVER_6 = _networks(*_METADATA[2:], "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
_INTERNAL_6 = _networks("::1/128", "fc00::/7")


def _parsed(text: str) -> Any:
    """An httpx.URL. Raises ValueError for what is none."""
    import httpx

    try:
        return httpx.URL(text)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(str(error)) from None
    except UnicodeError:
        raise ValueError("it holds half a character") from None


def _host_of(url: Any) -> str:
    """The host in one spelling; "" for what is none."""
    host = str(url.raw_host.decode("ascii", "replace")).lower().removesuffix(".")
    if ":" in host:
        try:
            return str(IPv6Address(host)) if "%" not in host else ""
        except ValueError:
            return ""
    is_name = all(part and _LETTERS.issuperset(part) for part in host.split("."))
    return host if is_name else ""


_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
