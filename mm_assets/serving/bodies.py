"""Request bodies within limits, packed or not, and strict JSON."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

from mm_assets.serving.reading import Doubled, Spelled

PACKED = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
_MOST_DIGITS = 400  # of a number; no float has as many before its point
_LARGER = "Send fewer records, smaller images, or an upload (`mm upload`)."


class BodyRefused(Exception):  # noqa: N818  not a fault of ours, it speaks of the body
    """A body that is not taken. status: of HTTP."""

    def __init__(self, status: int, code: str, what: str, todo: str = "") -> None:
        self.status, self.code, self.what, self.todo = status, code, what, todo
        super().__init__(status, code, what, todo)


async def read_body(
    stream: AsyncIterator[bytes], encoding: str, most_bytes: int, most_unpacked: int
) -> bytes:
    """The whole body, unpacked. Never holds more than the two limits.

    stream: its parts as they come. encoding: of `Content-Encoding`. Raises BodyRefused.
    """
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", *PACKED):
        raise BodyRefused(
            415, "content_encoding", f"Content-Encoding {encoding[:40]!r} is not understood",
            f"Use {', '.join(PACKED)}, once, or none.",
        )  # fmt: skip
    body = bytearray()
    async for part in stream:
        body += part
        if len(body) > most_bytes:
            what = f"the body has more than {most_bytes:,} bytes"
            raise BodyRefused(413, "body_too_large", what, _LARGER)
    if encoding not in PACKED:
        return bytes(body)
    # In a thread, because of some megabytes it takes long enough to hold others up.
    return await asyncio.to_thread(_unpacked, bytes(body), PACKED[encoding], most_unpacked)


def _unpacked(body: bytes, codec: str, most: int) -> bytes:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(body), codec) as unpacking:
            found: bytes = unpacking.read(most + 1)
    except (OSError, pa.ArrowException) as error:
        raise BodyRefused(
            400, "body_damaged", f"the body is no whole {codec}: {error}",
            "Pack it again, or send it as it is.",
        ) from None  # fmt: skip
    if len(found) > most:
        what = f"unpacked the body has more than {most:,} bytes"
        raise BodyRefused(413, "body_too_large", what, _LARGER)
    return found


def parse_json(data: bytes) -> Any:
    """JSON in UTF-8, read as rows of JSON Lines are in an upload. Raises BodyRefused.

    An object with a key twice is a `Doubled`. NaN is None; Infinity, and a number beyond what
    numbers can be, is its text; a number that Python would write otherwise is a `Spelled`.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_json(f"byte {error.start} is not UTF-8") from None
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number,
            parse_float=_fraction, parse_int=_whole,
        )  # fmt: skip
    except RecursionError:
        raise _no_json("it is nested too deeply") from None
    except ValueError as error:
        raise _no_json(str(error).split(";")[0][:200]) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Doubled(found)


def _fraction(text: str) -> float | str:
    """A number; one beyond what numbers can be is its text, as it is in a table of an upload."""
    found = float(text)
    if math.isinf(found):
        return text
    return found if repr(found) == text else Spelled(text)


def _whole(text: str) -> int | str:
    return int(text) if len(text) < _MOST_DIGITS else text


def _no_number(name: str) -> str | None:
    """What JSON itself does not have, but libraries write: as in a table of an upload."""
    return None if name == "NaN" else name


def _no_json(why: str) -> BodyRefused:
    return BodyRefused(400, "body_not_json", f"the body is no JSON: {why}", "Send JSON in UTF-8.")
