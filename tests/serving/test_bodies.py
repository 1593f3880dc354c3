"""Request bodies: within limits, packed or not, whatever is in them."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mm_assets.serving.bodies import BodyRefused, parse_json, read_body
from mm_assets.serving.reading import Doubled, Reader
from tests.make import dataset

MOST = 10_000


def body(data: bytes, encoding: str = "", most: int = MOST) -> bytes:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    return asyncio.run(read_body(parts(), encoding, most, most))


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


PACK = {"": bytes, "identity": bytes, "gzip": gzip.compress, " GZIP": gzip.compress, "zstd": zstd}


@pytest.mark.parametrize("encoding", PACK)
def test_a_body_comes_out_as_it_was(encoding: str) -> None:
    data = b"record " * 1000
    assert body(PACK[encoding](data), encoding) == data
    assert body(PACK[encoding](b""), encoding) == b""


def test_several_packed_parts_are_one_body() -> None:
    assert body(gzip.compress(b"a") + gzip.compress(b"b"), "gzip") == b"ab"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_refused_before_it_is_held(encoding: str) -> None:
    with pytest.raises(BodyRefused) as caught:
        body(PACK[encoding](bytes(50_000_000)), encoding, most=60_000)
    assert (caught.value.status, caught.value.code) == (413, "body_too_large")


def test_a_body_that_never_ends_is_cut_off() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield bytes(1000)

    with pytest.raises(BodyRefused, match="more than 10,000 bytes"):
        asyncio.run(read_body(endless(), "", MOST, MOST))
    assert taken <= MOST + 1000


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("harm", ["cut", "junk behind", "no such thing"])
def test_damage_is_said(encoding: str, harm: str) -> None:
    whole = PACK[encoding](b"record " * 100)
    harmed = {"cut": whole[:-3], "junk behind": whole + b"junk!", "no such thing": b"record " * 9}
    with pytest.raises(BodyRefused) as caught:
        body(harmed[harm], encoding)
    assert (caught.value.status, caught.value.code) == (400, "body_damaged")


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "deflate", "x" * 500])
def test_other_encodings_are_refused_in_words(encoding: str) -> None:
    with pytest.raises(BodyRefused) as caught:
        body(b"x", encoding)
    assert (caught.value.status, caught.value.code) == (415, "content_encoding")
    assert len(caught.value.what) < 100


NOT_JSON = [
    b"", b"{", b"\xff", b'{"a": -NaN}', b'{"a": nan}', b"[" * 100_000, b'{"a": 1} {"b": 2}',
    b'{"a": 01}', b'{"a": 1e}', "\ufeff".encode("utf-16"), b'{"a": \x00}', b"'a'",
]  # fmt: skip


@pytest.mark.parametrize("data", NOT_JSON, ids=range(len(NOT_JSON)))
def test_what_is_no_json_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(BodyRefused) as caught:
        parse_json(data)
    assert (caught.value.status, caught.value.code) == (400, "body_not_json")
    assert 10 < len(caught.value.what) < 250


def test_an_object_with_a_key_twice_is_marked_and_its_neighbours_are_not() -> None:
    twice, once = parse_json(b'\xef\xbb\xbf[{"a": 1, "a": 2}, {"a": 1}]')
    assert isinstance(twice, Doubled)
    assert not isinstance(once, Doubled)


NUMBERS = [
    "0", "-0", "1", "1.10", "1.0", "-0.0", "1e5", "1E5", "0.1e1", "1e22", "1e-7", "1.0e-7", "NaN",
    "1e999", "-1e999", "Infinity", "-Infinity", "9" * 30, "9" * 400, "9" * 5000, "9007199254740993",
    "123456789012345678.5", "12345678901234567.0", "null", "true", "1e308",
]  # fmt: skip
number = st.sampled_from(NUMBERS) | st.from_regex(
    r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?", fullmatch=True
)
READER = Reader(dataset())


@settings(max_examples=25)
@given(number | st.just('"a"'), number, number)
@example('"a"', "NaN", "NaN")
@example("1.10", "9" * 5000, "9" * 5000)
@example("123456789012345678.5", "1e999", "1e999")
def test_a_number_is_read_as_it_is_in_an_upload(record_id: str, age: str, colour: str) -> None:
    if record_id in ("null", "NaN"):  # in an upload such a row is no record at all
        return
    body = f'{{"id": {record_id}, "age": {age}, "colour": {colour}}}'.encode()
    (batch,) = READER.table(body + b"\n", "record.jsonl")
    served = READER.record(parse_json(body))
    assert served.features == batch.features
    assert (served.fault and served.fault.code) == (batch.fault and batch.fault.code)
    if batch.record_id:
        assert served.record_id == batch.record_id


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(plain)
def test_json_is_what_json_is(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        parse_json(data)
    except BodyRefused as error:
        assert error.what  # noqa: PT017
    for encoding in ("gzip", "zstd"):
        try:
            body(data, encoding)
        except BodyRefused as error:
            assert error.code == "body_damaged"  # noqa: PT017
