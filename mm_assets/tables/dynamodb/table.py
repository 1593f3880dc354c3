"""What the DynamoDB table must be like: look at it, create it, mend it.

A table of ours is billed on demand, has its indexes, point-in-time recovery and deletion
protection. Servers for development know neither of the last two; that is said, and no fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from mm_assets.contract.errors import StoreError
from mm_assets.contract.facts import Fact
from mm_assets.tables.dynamodb.items import INDEXES, Index, key_of
from mm_assets.tables.dynamodb.requests import ConditionFailedError, Requests

CREATE = "Run `mm table --create`."
PATIENCE = 1800.0  # seconds; an index of a table with data takes its time
KEYS = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
UNKNOWN_HERE = "this server does not know it"


# -- looking at it --------------------------------------------------------------------------------


def look_at(requests: Requests) -> Iterator[Fact]:
    """What the table is, a fact at a time, most important first. Raises StoreError."""
    try:
        table = requests.call("describe_table")["Table"]
    except StoreError as error:
        if error.code != "table_missing":
            raise
        yield Fact("exists", False, f"no: [{error.code}] {error.what}", CREATE)
        return
    status = table["TableStatus"]
    yield Fact("exists", True, f"yes, {status.lower()}")
    if table["KeySchema"] != KEYS:
        yield Fact("keys", False, _keys_in_words(table), "Choose another name in MM_TABLE.")
        return
    yield from (_look_at_index(table, index) for index in INDEXES)
    yield _look_at_billing(table)
    yield _look_at_protection(table)
    yield _look_at_recovery(requests)
    if status == "ACTIVE":
        yield _look_at_writing(requests)
    count, size = table.get("ItemCount", 0), table.get("TableSizeBytes", 0)
    yield Fact("size", True, f"{count:,} items, {size / 1e6:,.1f} MB (AWS counts every 6 hours)")


def _keys_in_words(table: dict[str, Any]) -> str:
    keys = ", ".join(key["AttributeName"] for key in table["KeySchema"])
    return f"the table is another one: its keys are {keys}, not pk, sk"


def _look_at_index(table: dict[str, Any], index: Index) -> Fact:
    what = f"index {index.name}"
    found = _indexes_of(table).get(index.name)
    if found is None:
        return Fact(what, False, "missing", CREATE)
    if found["KeySchema"] != _index_parameters(index)["KeySchema"]:
        return Fact(what, False, "has other keys", f"Delete the index, then: {CREATE}")
    status = found.get("IndexStatus", "ACTIVE")
    if status != "ACTIVE":
        return Fact(what, False, status.lower(), "Wait until it is active.")
    return Fact(what, True, "active")


def _look_at_billing(table: dict[str, Any]) -> Fact:
    if table.get("BillingModeSummary", {}).get("BillingMode") == "PAY_PER_REQUEST":
        return Fact("billing", True, "on demand")
    todo = "Switch the table to on-demand billing, or watch it for throttling."
    return Fact("billing", True, "provisioned", todo)


def _look_at_protection(table: dict[str, Any]) -> Fact:
    what = "deletion protection"
    if "DeletionProtectionEnabled" not in table:
        return Fact(what, True, UNKNOWN_HERE)
    on = bool(table["DeletionProtectionEnabled"])
    return Fact(what, on, "on" if on else "off", "" if on else CREATE)


def _look_at_recovery(requests: Requests) -> Fact:
    what = "point-in-time recovery"
    try:
        status = _recovery(requests)
    except StoreError as error:
        if error.code != "table_denied":
            raise
        return Fact(what, True, "may not be seen by this role", "Allow DescribeContinuousBackups.")
    if status is None:
        return Fact(what, True, UNKNOWN_HERE)
    on = status == "ENABLED"
    return Fact(what, on, "on" if on else "off", "" if on else CREATE)


def _look_at_writing(requests: Requests) -> Fact:
    """Whether this role may write: a write whose condition cannot hold writes nothing."""
    item = key_of("#doctor", "#doctor")
    try:
        requests.call("put_item", Item=item, ConditionExpression="attribute_exists(pk)")
    except ConditionFailedError:
        return Fact("writing", True, "allowed")
    except StoreError as error:
        return Fact("writing", False, f"[{error.code}] {error.what}", error.todo)
    return Fact("writing", False, "a condition was ignored", "Use a server that knows conditions.")


def _indexes_of(table: dict[str, Any]) -> dict[str, Any]:
    return {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", [])}


def _recovery(requests: Requests) -> str | None:
    """ENABLED or DISABLED; None where the server does not know of it."""
    try:
        found = requests.call("describe_continuous_backups")["ContinuousBackupsDescription"]
    except StoreError as error:
        if _is_unknown(error):
            return None
        raise
    return found.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")


def _is_unknown(error: StoreError) -> bool:
    return "UnknownOperation" in error.what


# -- creating and mending -------------------------------------------------------------------------


def create(requests: Requests, say: Callable[[str], None]) -> None:
    """Create the table, or add what it lacks. Raises StoreError; safe to repeat."""
    table = _wait(requests, say, missing_is_fine=True)
    if table is None:
        say(f"creating {requests.table}")
        _create_table(requests)
        table = _wait(requests, say)
    assert table is not None  # noqa: S101  it was just created
    if table["KeySchema"] != KEYS:
        raise StoreError(
            code="table_differs",
            what=_keys_in_words(table),
            where=requests.where,
            todo="Choose another name in MM_TABLE.",
        )
    for index in INDEXES:
        if index.name not in _indexes_of(table):
            say(f"adding the index {index.name}")
            requests.call(
                "update_table",
                AttributeDefinitions=_attributes((index,)),
                GlobalSecondaryIndexUpdates=[{"Create": _index_parameters(index)}],
            )
            _wait(requests, say)
    if table.get("DeletionProtectionEnabled") is False:
        say("turning on deletion protection")
        requests.call("update_table", DeletionProtectionEnabled=True)
        _wait(requests, say)
    if _recovery(requests) == "DISABLED":
        say("turning on point-in-time recovery")
        _turn_on_recovery(requests)


def _create_table(requests: Requests) -> None:
    try:
        requests.call(
            "create_table",
            KeySchema=KEYS,
            AttributeDefinitions=_attributes(INDEXES),
            GlobalSecondaryIndexes=[_index_parameters(index) for index in INDEXES],
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=True,
        )
    except StoreError as error:
        if "ResourceInUse" not in error.what:  # somebody else creates it at the same moment
            raise


def _turn_on_recovery(requests: Requests) -> None:
    """Soon after its creation a table is not ready for this yet."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

    not_yet = retry_if_exception(lambda error: "ContinuousBackupsUnavailable" in str(error))
    wanted = {"PointInTimeRecoveryEnabled": True}
    Retrying(stop=stop_after_delay(300), wait=wait_fixed(5), retry=not_yet, reraise=True)(
        lambda: requests.call("update_continuous_backups", PointInTimeRecoverySpecification=wanted)
    )


def _wait(
    requests: Requests, say: Callable[[str], None], *, missing_is_fine: bool = False
) -> dict[str, Any] | None:
    """Until the table and all its indexes are active; returns its description."""
    start, pause, told = time.monotonic(), 0.1, False
    while True:
        try:
            table = requests.call("describe_table")["Table"]
        except StoreError as error:
            if error.code != "table_missing":
                raise
            if missing_is_fine:
                return None
        else:
            states = [i.get("IndexStatus", "ACTIVE") for i in _indexes_of(table).values()]
            if {table["TableStatus"], *states} == {"ACTIVE"}:
                return table
        waited = time.monotonic() - start
        if waited > PATIENCE:
            raise StoreError(
                code="table_busy",
                what=f"the table or an index of it was not ready after {waited / 60:.0f} minutes",
                where=requests.where,
                todo="Nothing is lost. Look at it with `mm table`, then `mm table --create` again.",
            )
        if waited > 5 and not told:
            say("waiting until the table and its indexes are active …")
            told = True
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def _index_parameters(index: Index) -> dict[str, Any]:
    keys = [{"AttributeName": index.hash_key, "KeyType": "HASH"}]
    if index.range_key:
        keys.append({"AttributeName": index.range_key, "KeyType": "RANGE"})
    projection: dict[str, Any] = {"ProjectionType": "ALL"}
    if index.carries:
        projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(index.carries)}
    return {"IndexName": index.name, "KeySchema": keys, "Projection": projection}


def _attributes(indexes: tuple[Index, ...]) -> list[dict[str, str]]:
    """The types of every attribute that is part of a key."""
    types = {"pk": "S", "sk": "S"}
    for index in indexes:
        types[index.hash_key] = "S"
        if index.range_key:
            types[index.range_key] = index.range_type
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]
