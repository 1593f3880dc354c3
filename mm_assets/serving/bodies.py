"""Request bodies within limits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any


class BodyRefused(Exception):  # noqa: N818
    """A body that is not taken."""

    def __init__(self, status: int, code: str, what: str, todo: str = "") -> None:
        self.status, self.code, self.what, self.todo = status, code, what, todo
        super().__init__(status, code, what, todo)


async def read_body(
    stream: AsyncIterator[bytes], encoding: str, most_bytes: int, most_unpacked: int
) -> bytes:
    """The whole body. Raises BodyRefused."""
    body = bytearray()
    async for chunk in stream:
        body += chunk
        if len(body) > min(most_bytes, most_unpacked):
            raise BodyRefused(413, "body_too_large", f"more than {most_bytes:,} bytes")
    if encoding.lower() not in ("", "identity"):
        raise BodyRefused(415, "content_encoding", f"{encoding} is not understood")
    return bytes(body)


def parse_json(data: bytes) -> Any:
    """Raises BodyRefused."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BodyRefused(400, "json", f"the body is no JSON: {error}") from None
