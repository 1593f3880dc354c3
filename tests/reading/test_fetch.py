"""Bytes by URL, from real servers on this machine: limits, redirects, and whose address it is."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mm_assets.reading.addresses import AllowList, FetchRefused
from mm_assets.reading.fetch import Fetcher

IMAGE = b"\x89PNG" + bytes(range(256)) * 40
LIMIT = 100_000
SECONDS = 4.0


class Pages(BaseHTTPRequestHandler):
    """A host of images, some of which are traps. What it was asked lies in `server.asked`."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers), self.client_address[1]))
        path, _, rest = self.path.lstrip("/").partition("/")
        if path == "to":  # a redirect: /to/<status>/<where>
            status, _, where = rest.partition("/")
            self._say(int(status), b"", Location=where)
        elif path == "hops":
            left = int(rest)
            self._say(200, IMAGE) if not left else self._say(302, b"", Location=f"/hops/{left - 1}")
        elif path == "status":
            self._say(int(rest), b"no")
        elif path == "packed":
            self._say(200, IMAGE, **{"Content-Encoding": rest})
        elif path == "size":
            self._say(200, b"x" * int(rest))
        elif path == "endless":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            except OSError:
                self.close_connection = True
        else:
            self._say(200, self.server.content)

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving_at(
    address: str, port: int = 0, content: bytes = IMAGE, tls: Any = None
) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer((address, port), Pages)
    server.daemon_threads = True
    server.asked, server.content = [], content
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    server.port = server.server_address[1]
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def host() -> Iterator[Any]:
    with serving_at("127.0.0.1") as server:
        yield server


def says(*parts: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    """A server that answers with these bytes, whatever it is asked."""

    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)

    return answer


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Starts a server that speaks byte by byte; gives its port."""
    listening: list[socket.socket] = []

    def start(answer: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listening.append(listener)

        def run() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65_536)
                        answer(connection)
                    except OSError:
                        continue

        threading.Thread(target=run, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listening:
        listener.close()


def fetched(url: str, *more: str, internal: bool = True, **how: Any) -> bytes:
    """What is fetched from the URL, its host (and `more`) allowed."""
    hosts = [url.split("/")[2], *more]
    allowed = AllowList.of(hosts, hosts if internal else ())
    how = {"most_bytes": LIMIT, "seconds": SECONDS, **how}

    async def run() -> bytes:
        async with Fetcher(allowed, **how) as fetcher:
            return await fetcher.get(url)

    return asyncio.run(run())


def refusal(url: str, *more: str, **how: Any) -> FetchRefused:
    with pytest.raises(FetchRefused) as caught:
        fetched(url, *more, **how)
    return caught.value


# -- an image --


def test_an_image_comes_as_the_host_has_it(host: Any) -> None:
    assert fetched(f"http://127.0.0.1:{host.port}/a%20b/ä.png?size=1&x=%2F#part") == IMAGE
    ((path, headers, _),) = host.asked
    assert path == "/a%20b/%C3%A4.png?size=1&x=%2F"
    assert headers["Host"] == f"127.0.0.1:{host.port}"
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Cookie", "Authorization", "Referer"} & headers.keys()


def test_a_connection_is_used_again(host: Any) -> None:
    allowed = AllowList.of([f"127.0.0.1:{host.port}"], [f"127.0.0.1:{host.port}"])

    async def run() -> list[bytes]:
        async with Fetcher(allowed) as fetcher:
            return [await fetcher.get(f"http://127.0.0.1:{host.port}/{n}") for n in range(3)]

    assert asyncio.run(run()) == [IMAGE] * 3
    assert len({port for _, _, port in host.asked}) == 1


def test_more_than_may_go_at_once_wait_and_all_come(host: Any) -> None:
    allowed = AllowList.of([f"127.0.0.1:{host.port}"], [f"127.0.0.1:{host.port}"])

    async def run() -> list[bytes]:
        async with Fetcher(allowed) as fetcher:
            urls = [f"http://127.0.0.1:{host.port}/{n}" for n in range(60)]
            return await asyncio.gather(*map(fetcher.get, urls))

    assert asyncio.run(run()) == [IMAGE] * 60


def test_proxies_of_the_environment_are_not_asked(host: Any, monkeypatch: Any) -> None:
    with serving_at("127.0.0.1", content=b"proxy") as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert fetched(f"http://127.0.0.1:{host.port}/") == IMAGE
        assert proxy.asked == []


# -- whose address it is --


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "0177.0.1", "[::1]"]
)
def test_this_machine_is_not_asked_under_any_name(host: Any, name: str) -> None:
    error = refusal(f"http://{name}:{host.port}/", internal=False)
    assert error.code == "url_address"
    assert host.asked == []


@pytest.mark.parametrize("name", ["0.0.0.0", "0", "[::]", "169.254.169.254", "[fd00:ec2::254]"])
def test_not_even_an_internal_host_is_nobodys_or_the_metadata(host: Any, name: str) -> None:
    assert refusal(f"http://{name}:{host.port}/").code == "url_address"
    assert host.asked == []


def test_one_internal_address_among_public_ones_refuses_the_name(host: Any) -> None:
    def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["1.1.1.1", "127.0.0.1"]

    url = f"http://images.example.org:{host.port}/"
    assert refusal(url, internal=False, resolve=resolve).code == "url_address"


def test_the_connection_goes_to_the_address_that_was_judged(host: Any) -> None:
    """A name that points elsewhere at the second look gains nothing: there is none."""
    looked: list[str] = []

    def resolve(name: str, _port: int) -> Sequence[str]:
        looked.append(name)
        return ["127.0.0.1"] if len(looked) == 1 else ["127.0.0.2"]

    with serving_at("127.0.0.2", host.port, b"another") as other:
        url = f"http://images.example.org:{host.port}/"
        assert fetched(url, resolve=resolve) == IMAGE
        assert looked == ["images.example.org"]
        assert host.asked[0][1]["Host"] == f"images.example.org:{host.port}"
        assert other.asked == []


def test_where_one_address_is_silent_the_next_is_tried(host: Any) -> None:
    url = f"http://images.example.org:{host.port}/"
    assert fetched(url, resolve=lambda *_: ["127.0.0.3", "127.0.0.1"]) == IMAGE


def test_a_name_that_nobody_has_is_said() -> None:
    error = refusal("http://no-such-host.invalid/")
    assert error.code == "url_failed"
    assert "no-such-host.invalid" in error.reason


def test_a_look_that_hangs_is_given_up_in_time(host: Any) -> None:
    def resolve(_host: str, _port: int) -> Sequence[str]:
        time.sleep(1.0)
        return ["127.0.0.1"]

    began = time.monotonic()
    url = f"http://images.example.org:{host.port}/"
    assert refusal(url, resolve=resolve, seconds=0.3).code == "url_timeout"
    assert time.monotonic() - began < 0.9
    assert host.asked == []


# -- redirects --


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(host: Any, status: int) -> None:
    at = f"http://127.0.0.1:{host.port}"
    assert fetched(f"{at}/to/{status}//elsewhere") == IMAGE
    assert fetched(f"{at}/to/{status}/{at}/elsewhere") == IMAGE


def test_only_three_are(host: Any) -> None:
    at = f"http://127.0.0.1:{host.port}"
    assert fetched(f"{at}/hops/3") == IMAGE
    error = refusal(f"{at}/hops/4")
    assert (error.code, error.reason) == ("url_redirect", "more than 3 redirects")


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("http://169.254.169.254/latest/meta-data/", "url_not_allowed"),
        ("//169.254.169.254/latest/", "url_not_allowed"),
        ("http://localhost:{port}/", "url_not_allowed"),
        ("http://127.0.0.1:{other}/", "url_not_allowed"),
        ("http://user@127.0.0.1:{port}/", "url_invalid"),
        ("file:///etc/passwd", "url_invalid"),
        ("http://[::1", "url_redirect"),
        ("", "url_redirect"),
    ],
)
def test_a_redirect_is_judged_as_the_first_address_was(host: Any, where: str, code: str) -> None:
    with serving_at("127.0.0.1") as other:
        where = where.format(port=host.port, other=other.port)
        assert refusal(f"http://127.0.0.1:{host.port}/to/302/{where}").code == code
        assert other.asked == []
    assert len(host.asked) == 1


def test_an_allowed_host_may_not_lead_to_one_that_is_internal_only_by_its_address(
    host: Any,
) -> None:
    """The second host is allowed, too, but its address is not public and it is not private."""
    first, second = f"127.0.0.1:{host.port}", f"localhost:{host.port}"
    allowed = AllowList.of([first, second], [first])

    async def run() -> bytes:
        async with Fetcher(allowed) as fetcher:
            return await fetcher.get(f"http://{first}/to/302/http://{second}/")

    with pytest.raises(FetchRefused, match="url_address"):
        asyncio.run(run())


# -- limits --


def test_size_is_limited_by_what_is_said_and_by_what_comes(host: Any, raw: Any) -> None:
    at = f"http://127.0.0.1:{host.port}"
    assert len(fetched(f"{at}/size/{LIMIT}")) == LIMIT
    assert refusal(f"{at}/size/{LIMIT + 1}").code == "url_too_large"
    assert refusal(f"{at}/endless").code == "url_too_large"
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
    lies = raw(says(head + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", IMAGE))
    assert refusal(f"http://127.0.0.1:{lies}/").code in ("url_too_large", "url_failed")
    no_length = raw(says(head + b"\r\n" + b"x" * (LIMIT + 1)))
    assert refusal(f"http://127.0.0.1:{no_length}/").code == "url_too_large"
    more = raw(says(head + b"Content-Length: 4\r\n\r\n" + IMAGE))
    assert fetched(f"http://127.0.0.1:{more}/") == IMAGE[:4]  # what was announced


def test_time_is_limited_in_total(raw: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    silent = raw(lambda _: time.sleep(5))
    drips = raw(says(head, *[b"x"] * 1000, pause=0.05))
    head_drips = raw(says(*[bytes([letter]) for letter in head], pause=0.05))
    for port in (silent, drips, head_drips):
        began = time.monotonic()
        assert refusal(f"http://127.0.0.1:{port}/", seconds=0.5).code == "url_timeout"
        assert time.monotonic() - began < 2


BROKEN = {
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "nothing": b"",
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nxyz",
    "cut in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nxyz",
    "a chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxyz",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nxyzw",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nxyzw",
    "a long head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "control characters": b"HTTP/1.1 200 OK\r\nX\0: y\r\n\r\nxyz",
    "a redirect in bad bytes": b"HTTP/1.1 302 X\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_an_answer_that_is_none_is_a_refusal(raw: Any, answer: bytes) -> None:
    assert refusal(f"http://127.0.0.1:{raw(says(answer))}/").code in ("url_failed", "url_redirect")


@pytest.mark.parametrize("path", ["status/404", "status/500", "status/204", "packed/gzip"])
def test_only_plain_bytes_with_status_200_count(host: Any, path: str) -> None:
    error = refusal(f"http://127.0.0.1:{host.port}/{path}")
    assert error.code == "url_failed"


def test_a_closed_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert refusal(f"http://127.0.0.1:{port}/").code == "url_failed"


# -- TLS --


def certificate(folder: Path, name: str) -> tuple[Any, ssl.SSLContext]:
    """What a server of this name shows, and a client that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = folder / "host.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


def test_the_certificate_is_that_of_the_name_though_the_address_was_looked_up_before(
    tmp_path: Path,
) -> None:
    tls, trusting = certificate(tmp_path, "images.example.org")
    names: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    with serving_at("127.0.0.1", tls=tls) as server:
        how: dict[str, Any] = {"resolve": lambda *_: ["127.0.0.1"], "ssl_context": trusting}
        assert fetched(f"https://images.example.org:{server.port}/", **how) == IMAGE
        assert names == ["images.example.org"]
        error = refusal(f"https://other.example.org:{server.port}/", **how)
        assert error.code == "url_failed"
        assert "certificate" in error.reason
        del how["ssl_context"]  # by default the usual authorities, which don't know this one
        assert refusal(f"https://images.example.org:{server.port}/", **how).code == "url_failed"


def test_a_redirect_never_leaves_https(tmp_path: Path, host: Any) -> None:
    tls, trusting = certificate(tmp_path, "images.example.org")
    with serving_at("127.0.0.1", tls=tls) as server:
        plain = f"127.0.0.1:{host.port}"
        url = f"https://images.example.org:{server.port}/to/302/http://{plain}/"
        error = refusal(url, plain, resolve=lambda *_: ["127.0.0.1"], ssl_context=trusting)
        assert (error.code, host.asked) == ("url_redirect", [])


def test_the_addresses_of_the_tests_are_internal() -> None:
    """Else the tests above would prove nothing."""
    assert all(ip_address(one).is_loopback for one in ("127.0.0.1", "127.0.0.2", "::1"))
