"""Requests to DynamoDB: made once, retried for a bounded time, and failing in words.

botocore's standard mode retries a request twice within moments. What is still throttled, left
unprocessed or cut off after that is tried again here, with random exponential waits, for at most
`patience` seconds. What no waiting can mend (credentials, permissions, a table that is not there)
is said at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

from mm_assets.contract.errors import StoreError
from mm_assets.contract.settings import Settings
from mm_assets.tables.dynamodb.items import Item

THREADS = 16
WRITES = 25  # items in one BatchWriteItem, DynamoDB's limit
READS = 100  # keys in one BatchGetItem, DynamoDB's limit

THROTTLED = {
    "ProvisionedThroughputExceededException", "ThrottlingException", "ThrottledException",
    "RequestLimitExceeded", "TooManyRequestsException", "LimitExceededException",
    "TransactionInProgressException",
}  # fmt: skip
TRANSIENT = {
    "InternalServerError", "InternalFailure", "ServiceUnavailable", "RequestTimeout",
    "RequestTimeoutException", "500", "502", "503", "504",
}  # fmt: skip
CREDENTIALS = {
    "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId",
    "InvalidSignatureException", "MissingAuthenticationToken", "IncompleteSignature",
    "MissingAuthenticationTokenException", "SignatureDoesNotMatch", "AuthFailure",
}  # fmt: skip
DENIED = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "NotAuthorized"}

T = TypeVar("T")
R = TypeVar("R")


class ConditionFailedError(Exception):
    """A conditional write found something else; the caller decides what that means."""


class _UnprocessedError(Exception):
    """DynamoDB took a part of a batch only: it is too busy for the rest."""


class Requests:
    """Requests to one table. Safe to use from many threads."""

    def __init__(self, client: Any, table: str, patience: float) -> None:
        self.client = client
        self.table = table
        self.patience = patience

    @property
    def where(self) -> str:
        return f"DynamoDB table {self.table}, {self.client.meta.endpoint_url}"

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One request to the table. Raises StoreError, and ConditionFailedError."""
        return self._patiently(
            lambda: getattr(self.client, operation)(TableName=self.table, **parameters)
        )

    def query(
        self,
        key: tuple[str, str],
        sort: tuple[str, str, dict[str, Any]] | None = None,
        *,
        index: str | None = None,
        attributes: Iterable[str] | None = None,
        page: int | None = None,
    ) -> Iterator[Item]:
        """Every item of one partition, in the order of the sort key, page by page.

        key: the partition key's attribute and value. sort: attribute, '>=' or 'begins_with', and
        value. Of the table itself the answer is strongly consistent; an index may lag by a moment.
        """
        parameters: dict[str, Any] = {
            "KeyConditionExpression": "#p = :p",
            "ExpressionAttributeNames": {"#p": key[0]},
            "ExpressionAttributeValues": {":p": {"S": key[1]}},
        }
        if sort is not None:
            name, comparison, value = sort
            words = "begins_with(#s, :s)" if comparison == "begins_with" else f"#s {comparison} :s"
            parameters["KeyConditionExpression"] += f" AND {words}"
            parameters["ExpressionAttributeNames"]["#s"] = name
            parameters["ExpressionAttributeValues"][":s"] = value
        if attributes is not None:
            parameters |= _projection(attributes, parameters["ExpressionAttributeNames"])
        parameters |= {"IndexName": index} if index else {"ConsistentRead": True}
        parameters |= {"Limit": page} if page else {}
        while True:
            answer = self.call("query", **parameters)
            yield from answer["Items"]
            if not answer.get("LastEvaluatedKey"):
                return
            parameters["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def get_many(self, keys: list[Item], attributes: Iterable[str]) -> list[Item]:
        """The items (of up to READS keys) that are there, strongly consistent, in any order."""
        found: list[Item] = []
        names: dict[str, str] = {}
        asked = {"ConsistentRead": True, **_projection(attributes, names)}
        pending = keys

        def get() -> None:
            nonlocal pending
            request = {**asked, "Keys": pending, "ExpressionAttributeNames": names}
            answer = self.client.batch_get_item(RequestItems={self.table: request})
            found.extend(answer["Responses"].get(self.table, []))
            pending = answer.get("UnprocessedKeys", {}).get(self.table, {}).get("Keys", [])
            if pending:
                raise _UnprocessedError

        self._patiently(get)
        return found

    def write_many(self, requests: list[dict[str, Any]]) -> None:
        """Up to WRITES unconditional puts and deletes, each of another key."""
        pending = requests

        def write() -> None:
            nonlocal pending
            answer = self.client.batch_write_item(RequestItems={self.table: pending})
            pending = answer.get("UnprocessedItems", {}).get(self.table, [])
            if pending:
                raise _UnprocessedError

        self._patiently(write)

    def write_all(self, requests: Iterable[dict[str, Any]]) -> None:
        """Any number of puts and deletes, many at a time; returns when all are acknowledged."""
        for _ in self.each(self.write_many, batches(requests, WRITES)):
            pass

    def each(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """`work` of each item, in their order, up to THREADS at the same moment.

        The first failure ends it: what has not begun by then is never begun.
        """
        remaining = iter(items)
        first = list(islice(remaining, 2))
        if len(first) < 2:
            yield from map(work, first)
            return
        pool = ThreadPoolExecutor(THREADS)
        try:
            for some in batches(chain(first, remaining), THREADS * 16):
                yield from pool.map(work, some)
        finally:
            pool.shutdown(cancel_futures=True)

    def _patiently(self, request: Callable[[], R]) -> R:
        from botocore.exceptions import BotoCoreError, ClientError
        from tenacity import Retrying, retry_if_exception, stop_after_delay
        from tenacity import wait_random_exponential as jitter

        try:
            return Retrying(
                stop=stop_after_delay(self.patience),
                wait=jitter(multiplier=0.05, max=5.0),
                retry=retry_if_exception(self._may_pass),
                reraise=True,
            )(request)
        except (BotoCoreError, ClientError, _UnprocessedError) as error:
            if isinstance(error, ClientError) and _code(error) == "ConditionalCheckFailedException":
                raise ConditionFailedError from None
            raise self._in_words(error) from error

    # -- what went wrong ----------------------------------------------------------------------

    def _may_pass(self, error: BaseException) -> bool:
        """Whether waiting may mend it."""
        from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError
        from botocore.exceptions import SSLError as CertificateError

        if isinstance(error, ClientError):
            return _is_throttled(error) or _is_transient(error)
        if isinstance(error, EndpointConnectionError) and self._region_is_unknown():
            return False
        if isinstance(error, CertificateError):
            return False
        return isinstance(error, HTTPClientError | _UnprocessedError)

    def _region_is_unknown(self) -> bool:
        """A region that boto3 has never heard of, at AWS itself."""
        from botocore.session import get_session

        if ".amazonaws.com" not in self.client.meta.endpoint_url:
            return False
        session = get_session()
        known = (
            session.get_available_regions("dynamodb", partition)
            for partition in session.get_available_partitions()
        )
        return not any(self.client.meta.region_name in regions for regions in known)

    def _in_words(self, error: Exception) -> StoreError:
        from botocore.exceptions import ClientError, EndpointConnectionError

        if isinstance(error, ClientError):
            return self._refusal_in_words(error)
        if isinstance(error, _UnprocessedError):
            return self._busy("it left a part of a batch undone")
        code, todo = "table_unreachable", "Check AWS_ENDPOINT_URL_DYNAMODB and the network."
        if isinstance(error, EndpointConnectionError) and self._region_is_unknown():
            code = "table_region"
            todo = f"AWS_REGION is '{self.client.meta.region_name}', which boto3 does not know."
        elif _concerns_credentials(error):
            code = "table_credentials"
            todo = "Set AWS credentials in any way that boto3 understands."
        return StoreError(code=code, what=_first_line(error), where=self.where, todo=todo)

    def _refusal_in_words(self, error: Any) -> StoreError:
        code, message = _code(error), error.response.get("Error", {}).get("Message", "")
        what = f"{code}: {message}" if message else code
        if _is_throttled(error):
            return self._busy(what)
        if _is_transient(error):
            known, todo = "table_unreachable", "DynamoDB has trouble of its own; try again later."
        elif code in CREDENTIALS:
            known = "table_credentials"
            todo = "Renew the AWS credentials; check the clock of this machine."
        elif code in DENIED:
            known = "table_denied"
            todo = (
                "Allow this role dynamodb:Query, GetItem, BatchGetItem, PutItem, DeleteItem, "
                "BatchWriteItem and DescribeTable on the table and on its index/*."
            )
        elif code == "ResourceNotFoundException":
            known, what = "table_missing", "the table is not there"
            todo = "Run `mm table --create`. Is AWS_REGION right?"
        elif "index" in message.lower() and code == "ValidationException":
            known, todo = "table_incomplete", "Run `mm table --create`; it adds missing indexes."
        else:
            known, todo = "table_refused", "`mm table` shows the state of the table."
        return StoreError(code=known, what=what, where=self.where, todo=todo)

    def _busy(self, what: str) -> StoreError:
        return StoreError(
            code="table_busy",
            what=f"the table was too busy for {self.patience:.0f} s ({what})",
            where=self.where,
            todo="Try again; nothing is lost. If it stays so, look for throttling of the table.",
        )


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, up to `size` at a time."""
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some


# -- the client -----------------------------------------------------------------------------------

_clients: dict[tuple[int, str], Any] = {}
_making = threading.Lock()


def client_for(settings: Settings) -> Any:
    """The boto3 client of these settings: one a process, because making one takes up to a second.

    boto3 finds AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL and the credentials by itself.
    """
    key = (os.getpid(), settings.model_dump_json())  # sockets are not for a forked child
    with _making:
        if key not in _clients:
            _clients[key] = _make_client(settings)
        return _clients[key]


def _make_client(settings: Settings) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=2 * THREADS,
        connect_timeout=3,
        read_timeout=10,
    )
    try:
        return boto3.client("dynamodb", region_name=settings.region, config=config)
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise StoreError(
            code="table_credentials" if _concerns_credentials(error) else "table_unreachable",
            what=_first_line(error),
            where=settings.table,
            todo="Check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL_DYNAMODB.",
        ) from None


def _projection(attributes: Iterable[str], names: dict[str, str]) -> dict[str, Any]:
    """The parameter that asks for these attributes only; adds their placeholders to `names`."""
    wanted = {f"#a{number}": name for number, name in enumerate(attributes)}
    names |= wanted
    return {"ProjectionExpression": ", ".join(wanted)}


def _code(error: Any) -> str:
    return error.response.get("Error", {}).get("Code", "Unknown")


def _is_throttled(error: Any) -> bool:
    return _code(error) in THROTTLED


def _is_transient(error: Any) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return _code(error) in TRANSIENT or status >= 500


def _concerns_credentials(error: Exception) -> bool:
    from botocore import exceptions as known

    return isinstance(
        error,
        known.NoCredentialsError | known.PartialCredentialsError | known.CredentialRetrievalError
        | known.ProfileNotFound | known.TokenRetrievalError | known.SSOError,
    )  # fmt: skip


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0]
