"""Request bodies within limits, packed or not, and strict JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from mm_assets.serving.reading import Doubled

PACKED = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
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
    return (
        _unpacked(bytes(body), PACKED[encoding], most_unpacked)
        if encoding in PACKED
        else bytes(body)
    )


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
    """JSON in UTF-8. An object with a key twice is a `Doubled`. Raises BodyRefused."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_json(f"byte {error.start} is not UTF-8") from None
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise _no_json("it is nested too deeply") from None
    except ValueError as error:  # also of a number with thousands of digits
        raise _no_json(str(error).split(";")[0][:200]) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Doubled(found)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON: send null where there is no value")


def _no_json(why: str) -> BodyRefused:
    return BodyRefused(400, "body_not_json", f"the body is no JSON: {why}", "Send JSON in UTF-8.")
