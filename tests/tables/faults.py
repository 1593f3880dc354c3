"""What happens between a client and DynamoDB: counted, cut off, throttled, done in part.

It sits where botocore hands a request to the network. What is not made to fail is a real request
to a real server; a lost reply is a request that was carried out.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

WRITES = ("PutItem", "DeleteItem", "UpdateItem", "BatchWriteItem")
Rule = Callable[[str, AWSPreparedRequest], AWSResponse | None]


class Crash(BaseException):
    """The process is gone: nothing catches this."""


class Wire:
    """Every request that goes over it, by operation; and what is done to them."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.session = URLLib3Session(max_pool_connections=40)
        self.lock = threading.Lock()
        self.rule: Rule = lambda operation, request: None

    @property
    def writes(self) -> int:
        return sum(self.seen[name] for name in WRITES)

    @property
    def requests(self) -> int:
        return sum(self.seen.values())

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        operation = _text(request.headers["X-Amz-Target"]).rpartition(".")[2]
        with self.lock:
            self.seen[operation] += 1
        return self.rule(operation, request)

    # -- faults: each is a rule -----------------------------------------------------------------

    def crash_after(self, requests: int) -> None:
        """So many requests get through; then the process is gone."""
        self.seen.clear()

        def rule(operation: str, request: AWSPreparedRequest) -> None:
            with self.lock:
                if self.requests > requests:
                    raise Crash

        self.rule = rule

    def every(self, number: int, rule: Rule, *operations: str) -> None:
        """Apply a fault to every so-manieth request of these operations."""
        count = Counter[str]()

        def sometimes(operation: str, request: AWSPreparedRequest) -> AWSResponse | None:
            if operation not in operations:
                return None
            with self.lock:
                count[operation] += 1
                now = count[operation] % number == 0
            return rule(operation, request) if now else None

        self.rule = sometimes

    def lose_the_reply(self, operation: str, request: AWSPreparedRequest) -> None:
        answer = self.session.send(request)
        assert answer.status_code == 200 or b"ConditionalCheckFailed" in answer.content
        raise ConnectionClosedError(endpoint_url=request.url)

    def reset(self, operation: str, request: AWSPreparedRequest) -> None:
        raise ConnectionClosedError(endpoint_url=request.url)

    def do_a_part(self, operation: str, request: AWSPreparedRequest) -> AWSResponse:
        """Half of a batch is carried out, the rest comes back as unprocessed."""
        body = json.loads(_text(request.body))
        [(table, asked)] = body["RequestItems"].items()
        entries = asked if isinstance(asked, list) else asked["Keys"]
        middle = (len(entries) + 1) // 2
        done, left = entries[:middle], entries[middle:]
        part = done if isinstance(asked, list) else {**asked, "Keys": done}
        answer = json.loads(self._send(request, {**body, "RequestItems": {table: part}}))
        kind = "UnprocessedItems" if isinstance(asked, list) else "UnprocessedKeys"
        if left:
            answer[kind] = {table: left if isinstance(asked, list) else {**asked, "Keys": left}}
        return _answer(request, 200, answer)

    def _send(self, request: AWSPreparedRequest, body: dict[str, Any]) -> bytes:
        data = json.dumps(body).encode()
        headers = {**request.headers, "Content-Length": str(len(data))}
        changed = AWSPreparedRequest("POST", request.url, headers, data, False)
        answer = self.session.send(changed)
        assert answer.status_code == 200, answer.content
        return answer.content


def refuse(code: str, status: int = 400, message: str = "so it is") -> Rule:
    """The server answers with this error and does nothing."""

    def rule(operation: str, request: AWSPreparedRequest) -> AWSResponse:
        kind = f"com.amazonaws.dynamodb.v20120810#{code}"
        return _answer(request, status, {"__type": kind, "message": message})

    return rule


def leave_all(operation: str, request: AWSPreparedRequest) -> AWSResponse:
    """The server takes a batch of writes and does nothing of it."""
    asked = json.loads(_text(request.body))["RequestItems"]
    return _answer(request, 200, {"UnprocessedItems": asked})


@contextmanager
def watched(client: Any) -> Iterator[Wire]:
    """All requests of this client go over a wire."""
    wire = Wire()
    client.meta.events.register_first("before-send.dynamodb", wire)
    try:
        yield wire
    finally:
        client.meta.events.unregister("before-send.dynamodb", wire)


def _answer(request: AWSPreparedRequest, status: int, body: dict[str, Any]) -> AWSResponse:
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    answer = AWSResponse(request.url, status, headers, None)
    answer._content = json.dumps(body).encode()
    return answer


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value
