"""Servers in bad weather: a share of all requests to S3, SQS and DynamoDB goes wrong, by a seed.

What becomes of a request is decided by the seed, by what it asks and how often that was asked, so
that threads change little of it. Each is right when it is tried again often enough.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.aws_server import Servers
from tests.faults import Fault, FaultyProxy, Forward, Request, Response, answer, lose_answer, reset
from tests.kill.project import Project

SLOW = 0.3  # seconds that a slow answer takes longer
TARGET = re.compile(r"(DynamoDB_\d+|AmazonSQS)\.(\w+)")
# Of each service how it says that it is asked too much, and that it has trouble of its own.
THROTTLED = {
    "s3": (503, "SlowDown"),
    "DynamoDB": (400, "ProvisionedThroughputExceededException"),
    "AmazonSQS": (400, "ThrottlingException"),
}
BROKEN = {"s3": "InternalError", "DynamoDB": "InternalServerError", "AmazonSQS": "InternalFailure"}


def service_of(request: Request) -> tuple[str, str]:
    """The service, and the operation: the method on S3."""
    found = TARGET.match(request.header("X-Amz-Target"))
    return (found[1].partition("_")[0], found[2]) if found else ("s3", request.method)


def refusal(service: str, status: int, code: str) -> Fault:
    """An error as the service words it."""
    if service == "s3":
        return answer(status, f"<Error><Code>{code}</Code></Error>".encode())
    body = json.dumps({"__type": f"com.amazonaws.{service}#{code}", "message": "made up"})
    return answer(status, body.encode(), [("Content-Type", "application/x-amz-json-1.0")])


def throttled(request: Request, forward: Forward) -> Response | None:
    service, _ = service_of(request)
    return refusal(service, *THROTTLED[service])(request, forward)


def broken(request: Request, forward: Forward) -> Response | None:
    service, _ = service_of(request)
    return refusal(service, 500, BROKEN[service])(request, forward)


def broken_after(request: Request, forward: Forward) -> Response | None:
    """The write took effect, and the server says that it has trouble."""
    forward(request)
    return broken(request, forward)


def slow(request: Request, forward: Forward) -> Response | None:
    time.sleep(SLOW)
    return forward(request)


def cut(request: Request, forward: Forward) -> Response | None:
    """Half of the body, then the connection is reset."""
    response = forward(request)
    response.cut_after = len(response.body) // 2
    return response


FAULTS: dict[str, Fault] = {
    "throttled": throttled, "broken": broken, "slow": slow, "reset": reset(),
    "answer lost": lose_answer(), "broken after it took effect": broken_after, "cut": cut,
}  # fmt: skip


@dataclass
class Storm:
    """What goes wrong, and what went wrong: (service, operation, fault) -> how often."""

    seed: int
    share: float
    met: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def handle(self, request: Request, forward: Callable[[Request], Response]) -> Response | None:
        service, operation = service_of(request)
        what = f"{service} {operation} {request.path}"
        self.asked[what] += 1
        rng = random.Random(f"{self.seed} {what} {self.asked[what]}")
        if rng.random() >= self.share:
            return forward(request)
        name = rng.choice([*FAULTS])
        self.met[service, operation, name] += 1
        return FAULTS[name](request, forward)

    def count(self, fault: str = "", service: str = "", operation: str = "") -> int:
        return sum(
            number
            for (s, o, f), number in self.met.items()
            if fault in ("", f) and service in ("", s) and operation in ("", o)
        )


class _Proxy(FaultyProxy):
    def __init__(self, upstream: str, storm: Storm) -> None:
        super().__init__(upstream)
        self.storm = storm

    def handle(self, request: Request, forward: Forward) -> Response | None:
        return self.storm.handle(request, forward)


@contextmanager
def storm_before(project: Project, seed: int, share: float) -> Iterator[Storm]:
    """From now on the project reaches its servers through a storm; whoever drops uploads, or
    looks from outside, does not."""
    assert project.servers
    calm, storm = project.servers, Storm(seed, share)
    with _Proxy(calm.aws, storm) as aws, _Proxy(calm.dynamodb, storm) as dynamodb:
        queues = {
            name: value.replace(calm.aws, aws.url)
            for name, value in project.place.items()
            if value.startswith("sqs://")
        }
        before = project.more
        through = Servers(aws.url, dynamodb.url).environment
        project.more = {**before, **through, **queues}
        try:
            yield storm
        finally:
            project.more = before
