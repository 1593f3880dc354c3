"""What every request to AWS needs of IAM: written down by the server that it reaches.

The server sees what libraries really send (obstore is not botocore). Who asked stands in the
request's signature: each role signs with an access key of its own name.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

ACCOUNT = "123456789012"
REGION = "us-east-1"
# The bucket and the queues are encrypted with it.
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/mm-key"
DECRYPT, ENCRYPT = "kms:Decrypt", "kms:GenerateDataKey"
# Made by a setup that is no role of the template.
NOBODY = "testing"
SIGNED_BY = re.compile(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/")


@dataclass(frozen=True, slots=True, order=True)
class Need:
    """An action on a resource, as IAM names both."""

    action: str
    resource: str


KEYS_FOR = {"s3:GetObject": DECRYPT, "s3:PutObject": ENCRYPT, "sqs:ReceiveMessage": DECRYPT}


@dataclass
class Recorded:
    """role -> what it needed; and how many requests of each operation it made."""

    needs: dict[str, set[Need]] = field(default_factory=dict)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, role: str, operation: str, needs: list[Need]) -> None:
        """What is encrypted with a key of ours needs that key, too."""
        keys = {KEYS_FOR[need.action] for need in needs if need.action in KEYS_FOR}
        if operation == "s3:Multipart":  # S3 reads the parts to put them together
            keys.add(DECRYPT)
        self.needs.setdefault(role, set()).update(needs, (Need(key, KEY) for key in keys))
        self.requests[role, operation] += 1


# -- what a request needs -------------------------------------------------------------------------

Told = tuple[str, list[Need]]


def of_s3(method: str, path: str, query: dict[str, list[str]], headers: dict[str, str]) -> Told:
    """An S3 request by its method, path (`/bucket/key`) and query. Raises for an unknown one."""
    bucket, _, key = path.lstrip("/").partition("/")
    of_bucket, of_object = f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{key}"
    if not key:
        if method == "GET" and query.get("list-type") == ["2"]:
            return "s3:ListObjectsV2", [Need("s3:ListBucket", of_bucket)]
        raise AssertionError(f"a request of a bucket that nobody thought of: {method} {query}")
    read, write = Need("s3:GetObject", of_object), Need("s3:PutObject", of_object)
    copied = headers.get("x-amz-copy-source")
    if copied is not None:
        source = unquote(copied).lstrip("/").partition("?")[0]
        needs = [write, Need("s3:GetObject", f"arn:aws:s3:::{source}")]
        return "s3:CopyObject", needs
    if method in ("GET", "HEAD") and not query.keys() - {"x-id"}:
        return f"s3:{method.capitalize()}Object", [read]
    if method == "PUT" and "tagging" not in query and "acl" not in query:
        # A write on a condition (If-Match) also looks at what is there.
        looks = [read] if "if-match" in headers else []
        return "s3:PutObject" if "uploadId" not in query else "s3:UploadPart", [write, *looks]
    if method == "POST" and ("uploads" in query or "uploadId" in query):
        return "s3:Multipart", [write]
    if method == "DELETE" and "uploadId" in query:
        return "s3:AbortMultipartUpload", [Need("s3:AbortMultipartUpload", of_object)]
    if method == "DELETE" and not query.keys() - {"x-id"}:
        looks = [read] if "if-match" in headers else []
        return "s3:DeleteObject", [Need("s3:DeleteObject", of_object), *looks]
    raise AssertionError(f"an S3 request that nobody thought of: {method} {path} {query}")


def of_dynamodb(operation: str, body: dict[str, Any]) -> Told:
    """A DynamoDB request: its operation is the action, its resource the table or an index."""
    tables = [body["TableName"]] if "TableName" in body else [*body["RequestItems"]]
    arns = [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}" for table in tables]
    if index := body.get("IndexName"):
        arns = [f"{arn}/index/{index}" for arn in arns]
    return f"dynamodb:{operation}", [Need(f"dynamodb:{operation}", arn) for arn in arns]


def of_sqs(operation: str, body: dict[str, Any]) -> Told:
    """An SQS request; a batch needs the action of one."""
    queue = body["QueueUrl"].rpartition("/")[2]
    action = f"sqs:{operation.removesuffix('Batch')}"
    return f"sqs:{operation}", [Need(action, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}")]


def of_ecs(operation: str, body: dict[str, Any]) -> Told:
    """An ECS request of the run launcher."""
    place = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
    cluster = str(body.get("cluster", "")).rpartition("/")[2]
    name = f"ecs:{operation}"
    if operation == "DescribeTaskDefinition":  # AWS knows no resource for this one
        return name, [Need(name, "*")]
    if operation == "RunTask":
        arn = str(body["taskDefinition"])
        if ":" not in arn:  # by its name alone: the newest, which the tests have one of
            arn = f"{place}:task-definition/{arn}:1"
        tags = [Need("ecs:TagResource", f"{place}:task/{cluster}/*")] if body.get("tags") else []
        return name, [Need(name, arn), *tags]
    if operation in ("DescribeTasks", "StopTask"):
        tasks = body.get("tasks") or [body["task"]]
        return name, [Need(name, str(task)) for task in tasks]
    raise AssertionError(f"an ECS request that nobody thought of: {operation}")


def of_logs(operation: str, body: dict[str, Any]) -> Told:
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{body['logGroupName']}"
    stream = f"{group}:log-stream:{body['logStreamName']}"
    return f"logs:{operation}", [Need(f"logs:{operation}", stream)]


BY_TARGET: dict[str, Callable[[str, dict[str, Any]], Told]] = {
    "dynamodb": of_dynamodb, "sqs": of_sqs, "ecs": of_ecs, "logs": of_logs,
}  # fmt: skip


def needed(environ: dict[str, Any], body: bytes) -> tuple[str, Told]:
    """Who asks, and what the request needs. Raises AssertionError for a request that is unknown."""
    signature = SIGNED_BY.search(environ.get("HTTP_AUTHORIZATION", ""))
    assert signature, f"a request without a signature: {environ['PATH_INFO']}"
    role, service = signature.groups()
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if service == "s3":
        headers = {
            name.removeprefix("HTTP_").lower().replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        path = environ["PATH_INFO"].encode("latin-1").decode()
        return role, of_s3(environ["REQUEST_METHOD"], path, query, headers)
    operation = environ["HTTP_X_AMZ_TARGET"].rpartition(".")[2]
    return role, BY_TARGET[service](operation, json.loads(body))


# -- the server -----------------------------------------------------------------------------------


@contextmanager
def recording_server() -> Iterator[tuple[str, Recorded]]:
    """A server that speaks S3, SQS, DynamoDB and ECS (moto); its address, and what it was asked."""
    import logging
    import threading

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    recorded = Recorded()
    web: Any = server._server
    application, turn = web.app, threading.Lock()

    def recording(environ: dict[str, Any], start_response: Any) -> Any:
        with turn:
            if length := int(environ.get("CONTENT_LENGTH") or 0):
                body = environ["wsgi.input"].read(length)
                environ["wsgi.input"] = io.BytesIO(body)
            else:
                body = b""
            if f"Credential={NOBODY}/" not in environ.get("HTTP_AUTHORIZATION", ""):
                role, (operation, needs) = needed(environ, body)
                recorded.note(role, operation, needs)
            return application(environ, start_response)

    web.app = recording
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}", recorded
    server.stop()
