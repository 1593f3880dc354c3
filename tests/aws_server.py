"""Servers that speak S3, SQS and DynamoDB, each a process of its own, and what lies on them.

    python -m tests.aws_server        moto on a free port, which it prints

moto looks and writes in two steps, where S3 carries out a conditional write or delete in one. So
its writes take turns here, and a copy looks at the ETag that it names.
"""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tests.tables.dynamo_server import dynalite, find_dynalite, moto

REGION, ACCOUNT = "us-east-1", "123456789012"
KEY, SECRET = "testing", "testing"
# Metadata of an object: seconds since 1970, when it counts as having come.
ARRIVED = "arrived"
_MOMENT = threading.local()
REPOSITORY = Path(__file__).parents[1]


# -- moto -----------------------------------------------------------------------------------------


def in_turn(application: Any) -> Any:
    """moto's application, its writes one after the other and its copies on their condition."""
    turn = threading.Lock()

    def asked(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] not in ("PUT", "POST", "DELETE"):
            return application(environ, start_response)
        if length := int(environ.get("CONTENT_LENGTH") or 0):
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        with turn:
            if _copies_another(environ, application):
                start_response("412 Precondition Failed", [("Content-Type", "application/xml")])
                return [b"<Error><Code>PreconditionFailed</Code></Error>"]
            _MOMENT.arrived = environ.get(f"HTTP_X_AMZ_META_{ARRIVED.upper()}")
            try:
                return application(environ, start_response)
            finally:
                _MOMENT.arrived = None

    return asked


def _copies_another(environ: dict[str, Any], application: Any) -> bool:
    """Whether a copy names an ETag that its source does not have; moto does not look."""
    wanted = environ.get("HTTP_X_AMZ_COPY_SOURCE_IF_MATCH")
    if wanted is None:
        return False
    source = "/" + unquote(environ["HTTP_X_AMZ_COPY_SOURCE"]).lstrip("/")
    told: dict[str, str] = {}

    def note(_status: str, headers: Any, _error: Any = None) -> Any:
        told.update({name.lower(): value for name, value in headers})
        return lambda _data: None

    same = {n: v for n, v in environ.items() if not n.startswith("HTTP_X_AMZ_COPY_SOURCE")}
    look = {
        **same, "REQUEST_METHOD": "HEAD", "QUERY_STRING": "", "CONTENT_LENGTH": "0",
        "RAW_URI": quote(source), "REQUEST_URI": quote(source), "wsgi.input": io.BytesIO(),
        "PATH_INFO": source.encode().decode("latin-1"),  # as WSGI wants bytes to be written
    }  # fmt: skip
    b"".join(application(look, note))
    return "etag" in told and told["etag"].strip('"') != wanted.strip('"')


@contextmanager
def moto_here() -> Iterator[str]:
    """moto in this process, so that a test can look into its memory; yields its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    web: Any = server._server
    web.app = in_turn(web.app)
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def main() -> None:
    """moto until stdin is closed; an object may say itself when it came."""
    import moto.s3.models as models

    now = models.utcnow

    def when() -> datetime:
        if arrived := getattr(_MOMENT, "arrived", None):
            return datetime.fromtimestamp(float(arrived), UTC).replace(tzinfo=None)
        return now()

    models.utcnow = when
    with moto_here() as address:
        print(address, flush=True)
        sys.stdin.read()


# -- processes ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Servers:
    """Where they are: one that speaks S3 and SQS, one that speaks DynamoDB."""

    aws: str
    dynamodb: str

    @property
    def environment(self) -> dict[str, str]:
        """How boto3 and obstore find them."""
        return {
            "AWS_ENDPOINT_URL_S3": self.aws, "AWS_ENDPOINT_URL_SQS": self.aws,
            "AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb, "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def client(self, service: str) -> Any:
        import boto3

        address = self.dynamodb if service == "dynamodb" else self.aws
        return boto3.client(
            service, endpoint_url=address, region_name=REGION,
            aws_access_key_id=KEY, aws_secret_access_key=SECRET,
        )  # fmt: skip

    def make(self, name: str) -> dict[str, str]:
        """What the templates make: a bucket that tells a queue of its inbox, a queue of results
        and a table; returns the settings that name them."""
        from mm_assets.tables.dynamodb.requests import Requests
        from mm_assets.tables.dynamodb.table import create

        s3, queues = self.client("s3"), self.client("sqs")
        s3.create_bucket(Bucket=name)
        urls = [queues.create_queue(QueueName=f"{name}-{q}")["QueueUrl"] for q in ("in", "out")]
        told = {"QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}-in",
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix",
                                                    "Value": "lake/inbox/"}]}}}  # fmt: skip
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"QueueConfigurations": [told]}
        )
        create(Requests(self.client("dynamodb"), name, 20.0), lambda _: None)
        return {
            "MM_LAKE": f"s3://{name}/lake", "MM_TABLE": f"dynamodb://{name}",
            "MM_EVENTS": f"sqs://{urls[0]}", "MM_RESULTS": f"sqs://{urls[1]}",
        }  # fmt: skip

    def waiting(self, setting: str) -> int:
        """Messages of a queue that nobody has deleted."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client("sqs").get_queue_attributes(
            QueueUrl=setting.removeprefix("sqs://"), AttributeNames=names
        )
        return sum(map(int, answer["Attributes"].values()))

    def put(self, bucket: str, key: str, data: bytes, arrived: float) -> None:
        """An object of the lake that came at this moment."""
        self.client("s3").put_object(
            Bucket=bucket, Key=f"lake/{key}", Body=data, Metadata={ARRIVED: json.dumps(arrived)}
        )


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Both, until the end. Without dynalite moto speaks DynamoDB, too, in this process."""
    folder, _ = find_dynalite()
    command = [sys.executable, "-W", "ignore", "-m", "tests.aws_server"]
    with (
        dynalite(folder) if folder else moto() as dynamodb,
        subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http"), "moto did not start"
        try:
            yield Servers(address, dynamodb)
        finally:
            process.kill()


if __name__ == "__main__":
    main()
