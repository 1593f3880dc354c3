"""What may be fetched from: a corpus of tricks, and laws over all URLs and addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mm_assets.contract.errors import UsageError
from mm_assets.reading.addresses import (
    REMEDIES,
    AllowList,
    Entry,
    FetchRefused,
    Kind,
    Target,
    kind_of,
)

ALLOWED = AllowList.of(
    ["images.example.org", "*.cdn.example", "odd.example:8443", "bücher.example"]
)
INSIDE = (
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "100.64.0.1", "100.127.255.255", "::1", "fc00::1", "fdff::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
)  # fmt: skip
NEVER = (
    # Credentials of clouds, however they are written.
    "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
    "168.63.129.16", "100.100.100.200", "192.0.0.192", "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254",
    # Nobody's, everybody's and the next cable's.
    "0.0.0.0", "0.1.2.3", "::", "255.255.255.255", "224.0.0.1", "239.1.1.1", "ff02::1", "ff0e::1",
    "240.0.0.1", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "169.254.0.1",
    "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1", "3fff::1", "100::1",
    # Others that hold IPv4 addresses.
    "2002:7f00:1::", "2002:c0a8:101::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::127.0.0.1",
    "64:ff9b:1::7f00:1", "::ffff:0:127.0.0.1", "4000::1", "5f00::1",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255",
    "100.128.0.1", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8",
    "64:ff9b::808:808",
)  # fmt: skip


@pytest.mark.parametrize(
    ("address", "kind"),
    [(a, Kind.INTERNAL) for a in INSIDE]
    + [(a, Kind.NEVER) for a in NEVER]
    + [(a, Kind.PUBLIC) for a in PUBLIC],
)
def test_an_address_is_public_inside_or_nobodys(address: str, kind: Kind) -> None:
    assert kind_of(ip_address(address)) is kind


@given(st.ip_addresses())
@example(IPv6Address("::ffff:127.0.0.1"))
@example(IPv4Address("192.88.99.1"))
def test_no_address_is_public_that_the_standard_library_calls_otherwise(
    address: IPv4Address | IPv6Address,
) -> None:
    if kind_of(address) is not Kind.PUBLIC:
        return
    if isinstance(address, IPv6Address):  # what only stands for an IPv4 address
        low = IPv4Address(int(address) & 0xFFFF_FFFF)
        stands_for = address.ipv4_mapped or (low if address.exploded.startswith("0064:") else None)
        address = stands_for or address
    assert address.is_global
    kinds = ("multicast", "reserved", "link_local", "loopback", "private", "unspecified")
    assert [kind for kind in kinds if getattr(address, f"is_{kind}")] == []


@given(st.ip_addresses(v=4))
def test_an_address_in_the_coat_of_another_kind_is_no_more_public(address: IPv4Address) -> None:
    number = int(address)
    for coat in (0xFFFF << 32, 0x64FF9B << 96):
        assert kind_of(IPv6Address(coat | number)) is kind_of(address)
    for coat in (0, 0x2002 << 112 | number << 80, 0x20010000 << 96 | (number ^ 0xFFFF_FFFF)):
        assert kind_of(IPv6Address(coat | (number if not coat else 0))) is not Kind.PUBLIC


@pytest.mark.parametrize("host", ["intern.example", "images.example.org"])
def test_an_internal_host_is_named_as_such_and_never_the_metadata(host: str) -> None:
    allowed = AllowList.of(["intern.example", "images.example.org"], ["intern.example:80"])
    for text in (*INSIDE, *NEVER):
        may = host == "intern.example" and text in INSIDE
        if may:
            allowed.check_address(host, 80, ip_address(text))
            continue
        with pytest.raises(FetchRefused, match="url_address") as caught:
            allowed.check_address(host, 80, ip_address(text))
        assert text not in caught.value.reason  # what is where inside is not told
    with pytest.raises(FetchRefused):
        allowed.check_address(host, 443, ip_address("127.0.0.1"))


FITTING = (
    ("http://images.example.org", "images.example.org", 80),
    ("https://images.example.org/a.png?x=1&y=%20#part", "images.example.org", 443),
    ("HTTPS://IMAGES.Example.ORG:443/", "images.example.org", 443),
    ("https://images.example.org./a", "images.example.org", 443),
    ("https://images.example.org:80/a", "images.example.org", 80),
    ("https://a.cdn.example/ä ö.png", "a.cdn.example", 443),
    ("https://a.b.cdn.example/", "a.b.cdn.example", 443),
    ("https://odd.example:8443/", "odd.example", 8443),
    ("https://bücher.example/", "xn--bcher-kva.example", 443),
    ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443),
)


@pytest.mark.parametrize(("url", "host", "port"), FITTING)
def test_an_allowed_host_is_told_in_any_spelling(url: str, host: str, port: int) -> None:
    target = ALLOWED.target(url)
    assert (target.host, target.port) == (host, port)
    assert target.path.startswith(b"/")


NOT_ALLOWED = (
    "https://example.org/", "https://cdn.example/", "https://evilcdn.example/",
    "https://images.example.org.evil.example/", "https://images.example.orgevil/",
    "https://images.example.org:22/", "https://odd.example/", "https://a.odd.example:8443/",
    "http://127.0.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.1/",
    "http://127.1/", "http://0/", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
    "http://localhost/", "http://169.254.169.254/latest/meta-data/", "http://metadata/",
    "https://bucher.example/", "https://images-example.org/",
    "https://images.example.org:0/", "http://images.example.org:99999999/",
)  # fmt: skip
INVALID = (
    "", "x", "//images.example.org/", "images.example.org", "ftp://images.example.org/",
    "file:///etc/passwd", "gopher://images.example.org/", "data:image/png;base64,", "http://",
    "http:///a", "http:images.example.org", "http://user@images.example.org/",
    "http://user:word@images.example.org/", "http://images.example.org@evil.example/",
    "http://evil.example\\@images.example.org/", "http://%69mages.example.org/",
    "http://images.example.org%00.evil.example/", "http://images.example.org\r\nHost: evil/",
    "http://images.example.org\t/", "http://images example.org/", "http://[::1/",
    "http://[fe80::1%25eth0]/", "http://images.example.org:80:80/", "http://images..example.org/",
    "http://①②⑦.⓪.⓪.①/", "http://0177.0.0.1/", "https://.cdn.example/", "http://\ud800/", "unix:///run/x",
    "https://images.example.org/" + "a" * 9_000, "http://*/", "http://*.cdn.example/",
)  # fmt: skip


@pytest.mark.parametrize(
    ("url", "code"),
    [(url, "url_not_allowed") for url in NOT_ALLOWED] + [(url, "url_invalid") for url in INVALID],
)
def test_other_urls_are_refused_with_a_remedy(url: str, code: str) -> None:
    with pytest.raises(FetchRefused) as caught:
        ALLOWED.target(url)
    assert caught.value.code == code
    assert REMEDIES[code].endswith(".")


def judged(url: str) -> Target | FetchRefused:
    try:
        return ALLOWED.target(url)
    except FetchRefused as error:
        return error


pieces = st.lists(
    st.one_of(
        st.sampled_from(
            ["http://", "https://", "images.example.org", ".cdn.example", "@", ":", "/", "\\", "?",
             "#", "%2e", "%00", "[", "]", "::1", "127.0.0.1", ":80", ":8443", "\t", "\r\n", "..",
             "．", "｡", "\u200b", "evil.example", "xn--", "\ud800", "*", "//"]
        ),
        st.text(max_size=3),
    ),
    max_size=8,
).map("".join)  # fmt: skip


@given(pieces)
@example("http://images.example.org\\@evil.example/")
@example("http://evil.example#@images.example.org/")
def test_whatever_is_written_the_request_goes_to_an_allowed_host_or_nowhere(url: str) -> None:
    target = judged(url)
    if isinstance(target, FetchRefused):
        assert target.code in ("url_invalid", "url_not_allowed")
        assert "\n" not in str(target)
        return
    assert any(entry.fits(target.host, target.port) for entry in ALLOWED.hosts)
    assert set(target.host) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.:")
    assert not set(target.path) & set(b" \r\n\t\0")
    assert ALLOWED.target(target.url) == target  # read again, it is the same


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.", "https://example.org", "example.org/", "example.org/a", "u@example.org",
     "example.org:0", "example.org:x", "a b", "*.*.example", "..", "example.org?x", "::1", "a#b"],
)  # fmt: skip
def test_what_is_no_host_is_no_entry(text: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        Entry.of(text)


def test_without_a_list_nothing_is_allowed() -> None:
    with pytest.raises(FetchRefused, match="url_not_allowed"):
        AllowList().target("https://example.org/")
