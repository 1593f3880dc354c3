"""What nobody should send: images, JSON, values, addresses, tables, forms."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tests.cases.text_cases import TEXT_CASES
from tests.cases.typed_cases import TYPED_CASES
from tests.cases.value_cases import MISSING, NUMBERS, VALUE_CASES
from tests.make import draw_image
from tests.reading.test_images import photo, png, saved

SHARED = Path(__file__).parents[3] / "shared" / "cases"
PATHS = ("/v1/datasets/pets/predictions", "/invocations", "/v2/models/pets/infer")
TABLE_TYPES = (
    "text/csv", "application/x-ndjson", "application/jsonlines", "application/vnd.apache.parquet",
    "application/octet-stream", "text/tab-separated-values",
)  # fmt: skip


class Request(NamedTuple):
    """What is posted. what: in words, for whoever reads a failure."""

    what: str
    path: str
    body: bytes
    headers: dict[str, str]


def images() -> Iterator[tuple[str, bytes]]:
    """Damaged, cut, huge, of other kinds, of no kind."""
    jpeg, webp = saved(photo()), saved(photo(), "WEBP", lossless=True)
    progressive = saved(photo(), progressive=True)
    scans = progressive.rindex(b"\xff\xda")
    at = jpeg.index(b"\xff\xc0") + 5
    yield "nothing", b""
    yield "text", b"id,age\n1,2\n"
    yield "a web page", b"<html>" * 50
    yield "a huge PNG", png(13_000, 13_000, 8, 2, b"")
    yield "a thin PNG", png(2**31 - 1, 1, 1, 0, b"")
    yield "a huge JPEG", jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :]
    yield (
        "a JPEG of 900 megapixels",
        jpeg[:at] + struct.pack(">HH", 30_000, 30_000) + jpeg[at + 4 :],
    )
    yield "a huge WebP", webp[:21] + struct.pack("<I", 0x0FFF_FFFF) + webp[25:]
    yield "endless scans", progressive[:-2] + progressive[scans:-2] * 5000 + b"\xff\xd9"
    for kind in ("GIF", "TIFF", "BMP", "ICO", "PPM", "AVIF", "JPEG2000"):
        yield kind, saved(photo(64, 64), kind)
    for head in (b"8BPS\0\1", b"<svg xmlns='x'>", b"MM\0*", b"\0\0\0\x18ftypheic\0\0\0\0",
                 bytes(128) + b"DICM", b"\xff\x0a", b"RIFF....WAVE", b"%PDF-1.4", b"PK\x03\x04",
                 b"PAR1", b"\x1f\x8b\x08", b"\x7fELF", b"MZ", b"\x80\x04\x95."):  # fmt: skip
        yield f"begins with {head[:8]!r}", head + bytes(64)
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    yield "moving", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    chance = random.Random(7)
    for kind, whole in (("JPEG", jpeg), ("PNG", saved(photo(), "PNG")), ("WEBP", webp)):
        for share in (0.02, 0.3, 0.9):
            yield f"a cut {kind}", whole[: int(len(whole) * share)]
        for _ in range(6):
            broken = bytearray(whole)
            for _ in range(chance.randint(1, 8)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            yield f"a damaged {kind}", bytes(broken)
    yield "much behind it", jpeg + bytes(1 << 20)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small tables and archives that hold much."""
    much = b"pet_id,age\n" + b"a,1\n" * (3 << 20)
    yield "gzip", gzip.compress(much, 1)
    yield "bzip2", bz2.compress(much[: 1 << 20])
    yield "xz", lzma.compress(much)
    yield "gzip in gzip", gzip.compress(gzip.compress(b"0" * (20 << 20)))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("xl/workbook.xml", "<a>" * 10_000_000)
        opened.writestr("[Content_Types].xml", "<a/>")
    yield "a workbook", archive.getvalue()
    yield "one long line", b"pet_id,age\na," + b"9" * (5 << 20)
    yield "many columns", b"pet_id,age," + b",".join(b"c%d" % n for n in range(20_000)) + b"\n"
    yield "an open quote", b'pet_id,age\n"a,1\n' + b"b,2\n" * 1000
    yield "NULs", b"pet_id,age\n" + bytes(1000)


def documents() -> Iterator[tuple[str, bytes]]:
    """Bodies that are no JSON, or not what is expected."""
    own = {"pet_id": "a", "age": 1}
    for text in (
        "", " ", "null", "true", "0", '"x"', "[]", "{}", "[[]]", "[null]", "[1]", "{", "[", "}",
        "]", "NaN", "[NaN]", '{"records": null}', '{"records": {}}', '{"records": []}', "nul",
        "{'a': 1}",
        '{"records": [[]]}', '{"a": 1} {"b": 2}', '{"a": 01}', '{"a": 1e999999}', '{"a": -}',
        '{"pet_id": "\\ud800", "age": 1}', '{"pet_id": "a", "age": 1, "\\ud800": 2}',
        '{"pet_id": "\\u0000", "age": 1}', '{"pet_id": "a", "age": 1, "age": 2}',
        '{"pet_id": "a", "age": NaN}', '{"pet_id": "a", "age": Infinity}',
        '{"pet_id": "a", "age": ' + "9" * 5000 + "}", '{"pet_id": "a", "age": 1e400}',
        '{"pet_id": "a", "age": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "[" * 200_000, '{"a":' * 100_000, '{"pet_id": "' + "x" * 500_000 + '", "age": 1}',
        '{"inputs": null}', '{"inputs": [{}]}', '{"instances": [1]}',
        '{"inputs": [{"name": "age", "shape": [-1], "datatype": "FP64", "data": []}]}',
        '{"inputs": [{"name": "age", "shape": [1e9], "datatype": "FP64", "data": [1]}]}',
        '{"inputs": [{"name": "age", "shape": [99999999999], "datatype": "FP64", "data": [1]}]}',
        '{"inputs": [{"name": "age", "shape": [1], "datatype": "XX", "data": [1]}]}',
        '{"inputs": [{"name": "age", "shape": [1], "datatype": "BYTES", "data": [{}]}]}',
        '{"id": [], "inputs": [{"name": 1, "shape": "x", "datatype": 1, "data": null}]}',
    ):  # fmt: skip
        yield text[:60], text.encode()
    whole = json.dumps(own).encode()
    yield "a mark", b"\xef\xbb\xbf" + whole
    yield "UTF-16", json.dumps(own).encode("utf-16")
    yield "no UTF-8", b'{"pet_id": "\xff\xfe", "age": 1}'
    yield "many keys", json.dumps({**own, **{f"k{n}": n for n in range(20_000)}}).encode()
    yield "many records", json.dumps([own] * 1_001).encode()
    yield "long values", json.dumps({**own, **{f"k{n}": "x" * 40_000 for n in range(100)}}).encode()


def records() -> Iterator[tuple[str, bytes]]:
    """JSON as it is expected, with odd values, addresses and names in it."""
    own = {"pet_id": "a", "age": 1}
    for value in values():
        yield f"value {str(value)[:30]!r}", json.dumps({**own, "age": value}).encode()
        yield f"ID {str(value)[:30]!r}", json.dumps({**own, "pet_id": value}).encode()
        yield f"image {str(value)[:30]!r}", json.dumps({**own, "image": value}).encode()
    for address in addresses():
        for key in ("url", "s3", "name"):
            yield f"image at {address[:60]}", json.dumps({**own, "image": {key: address}}).encode()
    for name in (
        "__proto__",
        "$ref",
        "",
        " ",
        "\0",
        "_file",
        "_line",
        "AGE",
        "Pet_ID",
        "\u202e",
        "c0",
    ):
        yield f"key {name!r}", json.dumps({**own, name: 1}).encode()


def values() -> Iterator[Any]:
    yield from (
        [],
        {},
        [1],
        {"a": 1},
        True,
        False,
        None,
        -0.0,
        5e-324,
        1.8e308,
        2**53,
        2**64,
        10**30,
    )
    yield from (
        "'; DROP TABLE x; --",
        "${jndi:ldap://x}",
        "{{7*7}}",
        "../../etc/passwd",
        "%s%n",
        "\0",
    )
    yield from (
        "a" * 200_000,
        "\u202e\u0000\ufeff",
        "\ud83d",
        "￾",
        "1" * 400,
        "NaN",
        "=1+1",
        "x\x1b[2J",
    )
    for some in MISSING:
        yield from some
    for written in NUMBERS.values():
        yield from (number for number, _ in written)


def addresses() -> Iterator[str]:
    yield from (
        "http://127.0.0.1:8080/", "http://localhost/x.png", "http://169.254.169.254/latest/meta-data",
        "http://[::1]/", "http://0/", "http://0x7f.1/", "http://2130706433/", "http://127.1/",
        "http://[::ffff:127.0.0.1]/", "http://metadata.google.internal/", "https://user:pw@host/",
        "file:///etc/passwd", "ftp://x/y", "gopher://127.0.0.1:25/_HELO", "javascript:alert(1)",
        "data:image/png;base64,AAAA", "data:,", "s3://", "s3:///key", "s3://bucket", "s3://b/../../x",
        "s3://other-bucket/key", "http://", "http:///x", "http://\u202e/", "http://a\r\nHost: b/",
        "//x/y", "../../etc/passwd", "/etc/passwd", "datasets/pets/models", "\0", "x" * 70_000, "",
        "%", "http://[", "http://a:99999/", "http://xn--/", "HTTP://EXAMPLE.COM", "\\\\host\\share",
    )  # fmt: skip


def tables() -> Iterator[tuple[str, bytes]]:
    for case in [*TEXT_CASES, *VALUE_CASES, *TYPED_CASES]:
        yield case.name, case.data
    if SHARED.is_dir():
        for path in sorted(SHARED.rglob("*")):
            if path.is_file() and path.stat().st_size < 1 << 20:
                yield str(path.relative_to(SHARED)), path.read_bytes()
    yield from bombs()


def forms() -> Iterator[tuple[str, bytes, str]]:
    """Multipart bodies, and the media type of each."""
    kind = "multipart/form-data; boundary=b"

    def part(head: str, data: bytes) -> bytes:
        return b"--b\r\n" + head.encode("utf-8", "surrogatepass") + b"\r\n\r\n" + data + b"\r\n"

    def file(name: str, data: bytes) -> bytes:
        return part(f'Content-Disposition: form-data; name="f"; filename="{name}"', data)

    records = part('Content-Disposition: form-data; name="records"', b'{"pet_id": "a", "age": 1}')
    end = b"--b--\r\n"
    yield "nothing", b"", kind
    yield "no boundary", records + end, "multipart/form-data"
    yield "another boundary", records + end, "multipart/form-data; boundary=c"
    yield "an odd boundary", records + end, 'multipart/form-data; boundary="b\x01"'
    yield "cut short", records[:-9], kind
    yield "no end", records, kind
    yield "no disposition", part("X: y", b"z") + end, kind
    yield "no name", part("Content-Disposition: form-data", b"z") + end, kind
    yield "another field", part('Content-Disposition: form-data; name="x"', b"z") + end, kind
    yield (
        "records that are none",
        part('Content-Disposition: form-data; name="records"', b"{") + end,
        kind,
    )
    yield "many parts", b"".join(file(f"{n}.png", b"x") for n in range(3000)) + end, kind
    yield "many headers", part("\r\n".join(f"X-{n}: y" for n in range(5000)), b"z") + end, kind
    for name in (
        "../../x.png",
        "/etc/passwd",
        "a\\b.png",
        "",
        ".",
        "a/b/c.png",
        "\u202egnp.exe",
        "a" * 5000,
    ):
        yield f"a file {name[:20]!r}", records + file(name, draw_image(1)) + end, kind
    for what, data in images():
        yield f"the image: {what}", records + file("a.png", data) + end, kind


def requests() -> Iterator[Request]:
    """All of it, by every way in."""
    as_json = {"content-type": "application/json"}
    for path in PATHS:
        for what, body in documents():
            yield Request(what, path, body, as_json)
    for what, body in records():
        yield Request(what, PATHS[0], body, as_json)
    for what, data in images():
        text = base64.b64encode(data).decode()
        body = json.dumps({"pet_id": "a", "age": 1, "image": {"base64": text}}).encode()
        for path in PATHS[:2]:
            yield Request(f"base64: {what}", path, body, as_json)
            yield Request(f"raw: {what}", path, data, {"content-type": "image/png"})
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}
        age = {"name": "age", "shape": [1], "datatype": "FP64", "data": [1]}
        yield Request(
            f"V2: {what}", PATHS[2], json.dumps({"inputs": [age, tensor]}).encode(), as_json
        )
    for number, (what, data) in enumerate(tables()):
        own = TABLE_TYPES[number % len(TABLE_TYPES)]
        for kind in {own, "application/octet-stream"}:
            yield Request(f"{kind}: {what}", PATHS[0], data, {"content-type": kind})
        yield Request(f"{own}: {what}", PATHS[1], data, {"content-type": own})
    for what, body, kind in forms():
        yield Request(f"form: {what}", PATHS[0], body, {"content-type": kind})
    whole = b'{"pet_id": "a", "age": 1}'
    for kind in (
        "",
        "application/xml",
        "text/plain",
        "a" * 5000,
        "application/json; charset=x",
        ";",
    ):
        yield Request(f"as {kind[:20]!r}", PATHS[0], whole, {"content-type": kind})
    bomb = gzip.compress(b" " * (200 << 20), 1)
    for coding in ("gzip", "zstd", "br", "deflate", "gzip, gzip", "x" * 100, "identity"):
        headers = {**as_json, "content-encoding": coding}
        for what, data in (("it is not", whole), ("cut", gzip.compress(whole)[:-5]),
                           ("a bomb", bomb)):  # fmt: skip
            yield Request(f"{coding}: {what}", PATHS[0], data, headers)
    for length in (-1, 10**12):
        headers = {**as_json, "inference-header-content-length": str(length)}
        yield Request(f"binary V2, {length}", PATHS[2], whole, headers)
