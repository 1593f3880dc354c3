"""What goes wrong with a whole request, as RFC 9457 describes problems over HTTP."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from mm_assets.serving.notes import note

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818  it is an answer
    """A request that gets no answer but this. code: a word for programs; todo: for people."""

    def __init__(
        self,
        status: int,
        code: str,
        what: str,
        todo: str = "",
        *,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        self.status, self.code, self.what, self.todo = status, code, what, todo
        self.headers = headers or {}
        self.more = more
        note().problem = code
        super().__init__(status, code, what, todo)

    def as_document(self) -> dict[str, Any]:
        document = {
            "type": f"urn:mm-assets:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.what,
        }
        if self.todo:
            document["todo"] = self.todo
        if request_id := note().request_id:
            document["request_id"] = request_id
        return {**document, **self.more}

    def response(self) -> Response:
        body = json.dumps(self.as_document(), ensure_ascii=False).encode("utf-8", "replace")
        return Response(body, self.status, self.headers, MEDIA_TYPE)
