"""What only DynamoDB has: many writers, batches done in part, lost replies, crashes in between."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ConnectTimeoutError, NoCredentialsError

from mm_assets.contract.errors import StoreError
from mm_assets.contract.settings import Settings
from mm_assets.tables.dynamodb.items import shard
from mm_assets.tables.dynamodb.requests import client_for
from mm_assets.tables.dynamodb.store import DynamoDBStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import MergeResult, Query
from tests.tables.faults import Crash, Wire, leave_all, refuse, watched
from tests.tables.offers import greatest, images, known, offer, offered, rows, told


@pytest.fixture
def store(dynamodb_store: DynamoDBStore) -> DynamoDBStore:
    return dynamodb_store


@pytest.fixture
def wire(dynamodb_client: Any) -> Iterator[Wire]:
    with watched(dynamodb_client) as wire:
        yield wire


def contents(store: DynamoDBStore, dataset: str = "pets") -> dict[Any, Any]:
    """Every row, image and prediction of a dataset: not the lists of uploads, which hold random
    names, and not what is noted of rows that are gone."""
    scan = store.requests.client.get_paginator("scan")
    return {
        (item["pk"]["S"], item["sk"]["S"]): item
        for page in scan.paginate(TableName=store.requests.table, ConsistentRead=True)
        for item in page["Items"]
        if item["pk"]["S"].startswith(f"{dataset}|")
        and (item["sk"]["S"] != "prediction" or "order_key" in item)
        and not item["sk"]["S"].startswith("refusal|")
    }


def list_items(store: DynamoDBStore, upload: str = "u1") -> list[str]:
    return [i["sk"]["S"] for i in store.requests.query(("pk", f"pets#upload#{upload}"))]


def predictions(store: DynamoDBStore) -> dict[str, str]:
    found = store.read("pets")
    return dict(zip(found["record_id"].to_pylist(), found["prediction"].to_pylist(), strict=True))


# -- what is unchanged costs no write -------------------------------------------------------------


def test_a_repeated_merge_writes_nothing(store: DynamoDBStore, wire: Wire) -> None:
    every = [offer(f"r{n}") for n in range(250)]
    store.merge("pets", offered(*every))
    wire.seen.clear()
    assert store.merge("pets", offered(*every)) == MergeResult(0, 0, 250)
    assert wire.seen == {"BatchGetItem": 3, "Query": 1}  # one asks which uploads are withdrawn
    store.merge("pets", offered(*every, offer("r0", upload="u2"), offer("new")))
    assert wire.seen["PutItem"] == 2 + 2  # that they may change, and that it is over


def test_a_repeated_publish_writes_nothing(store: DynamoDBStore, wire: Wire) -> None:
    for _ in range(2):
        wire.seen.clear()
        store.publish("pets", "u1", rows(a="cat", b=None), images(a="1"))
    assert wire.writes == 0
    store.publish("pets", "empty", rows(), images())
    assert wire.writes == 0


def test_a_changed_publish_writes_what_changed_and_the_list(
    store: DynamoDBStore, wire: Wire
) -> None:
    many = {f"r{n}": "cat" for n in range(500)}
    store.publish("pets", "u1", rows(**many), images())
    before = contents(store)
    wire.seen.clear()
    store.publish("pets", "u1", rows(**{**many, "r7": "dog"}), images())
    assert wire.seen["BatchWriteItem"] <= 4  # two chunks of the list, the entry, old chunks
    # The list's head, before and after; that a label may change, and that it is over.
    assert wire.seen["PutItem"] == 2 + 2
    changed = {key for key, item in contents(store).items() if before.get(key) != item}
    assert changed == {("pets|r7", "row|u1")}


def test_old_lists_are_not_kept(store: DynamoDBStore) -> None:
    for label in ("cat", "dog", "cow"):
        store.publish("pets", "u1", rows(a=label, **{label: None}), images())
        assert len(list_items(store)) == 2  # the head and one chunk


def test_a_long_list_is_kept_in_chunks_that_fit(store: DynamoDBStore) -> None:
    many = {f"{n:04d}{'x' * 1000}": "cat" for n in range(450)}
    store.publish("pets", "u1", rows(**many), images())
    assert len(list_items(store)) == 4
    store.publish("pets", "u1", rows(**dict(list(many.items())[:3])), images())
    assert len(contents(store)) == 3


# -- many at the same moment ----------------------------------------------------------------------


def test_threads_that_merge_the_same_records_end_in_the_greatest(store: DynamoDBStore) -> None:
    offers = [
        [offer(f"r{n}", upload=f"u{(n * 7 + t * 3) % 10}", content_hash=f"{t}") for n in range(40)]
        for t in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda some: store.merge("pets", offered(*some)), offers))
    every = [one for some in offers for one in some]
    assert predictions(store) == {i: o["prediction"] for i, o in greatest(every).items()}
    assert sum(r.inserted + r.updated + r.unchanged for r in results) == len(every)
    assert sum(r.inserted for r in results) >= 40


MERGE = """
import sys
import pyarrow.parquet as pq
from mm_assets.contract.settings import Settings
from mm_assets.tables.open import open_store
store = open_store(Settings.from_environment())
for file in sys.argv[1:]:
    store.merge("pets", pq.read_table(file))
"""


def test_processes_that_merge_the_same_records_end_in_the_greatest(
    dynamodb_settings: Settings, tmp_path: Path
) -> None:
    offers: list[dict[str, Any]] = []
    files: list[list[str]] = [[], []]
    for process in range(2):
        for part in range(2):
            some = [
                offer(f"r{n}", upload=f"u{(n + process) % 3}", content_hash=f"{process}{part}")
                for n in range(60)
            ]
            offers += some
            path = tmp_path / f"{process}-{part}.parquet"
            pq.write_table(offered(*some), path)
            files[process].append(str(path))
    running = [
        subprocess.Popen([sys.executable, "-c", MERGE, *names], stderr=subprocess.PIPE)
        for names in files
    ]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    found = open_store(dynamodb_settings).read("pets").to_pylist()
    expected = {i: one["prediction"] for i, one in greatest(offers).items()}
    assert {row["record_id"]: row["prediction"] for row in found} == expected


def test_two_runs_of_one_upload_that_publish_the_same_at_the_same_moment(
    store: DynamoDBStore,
) -> None:
    many = {f"r{n}": "cat" for n in range(60)}
    for _ in range(5):
        upload = uuid.uuid4().hex
        together = threading.Barrier(3)

        def run(upload: str = upload, together: threading.Barrier = together) -> None:
            together.wait()
            store.publish("pets", upload, rows(**many), images(r1="1"))
            found = store.look_up("pets", pa.array(["r1", "r59"]))
            assert found["label_upload"].to_pylist() == [upload] * 2

        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(run) for _ in range(3)]:
                done.result()
        own = [key for key in contents(store) if key[1].endswith(upload)]
        assert len(own) == 61
        assert len(list_items(store, upload)) == 2
        store.publish("pets", upload, rows(), images())


def test_two_runs_of_one_upload_that_publish_other_things_end_in_one_of_them(
    store: DynamoDBStore,
) -> None:
    parts = [
        (rows(**{f"r{n}": "cat" for n in range(50)}), images(x="1")),
        (rows(**{f"r{n}": "dog" for n in range(25, 80)}), images(y="2")),
    ]
    alone = []
    for part in parts:
        store.publish("pets", "u1", *part)
        alone.append(contents(store))
    for _ in range(5):
        together = threading.Barrier(2)

        def run(part: Any, together: threading.Barrier = together) -> None:
            together.wait()
            store.publish("pets", "u1", *part)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, parts))
        assert contents(store) in alone


def test_a_run_that_wrote_late_and_died_is_cleaned_up_by_the_next(
    store: DynamoDBStore, wire: Wire
) -> None:
    """One run stops before its last entries; another publishes; the first writes them and dies."""
    cut = threading.Event()
    go_on = threading.Event()

    def stop_here(operation: str, request: Any) -> None:
        if threading.current_thread().name.startswith("first") and b"late" in request.body:
            if operation == "BatchWriteItem" and b'"labels_only"' in request.body:
                cut.set()
                go_on.wait(30)
            elif operation == "PutItem" and go_on.is_set():
                raise Crash

    first = threading.Thread(
        name="first", target=lambda: _crashing(store.publish, rows(late="cat"))
    )
    wire.rule = stop_here
    first.start()
    assert cut.wait(30)
    store.publish("pets", "u1", rows(b="dog"), images())
    wire.rule = lambda operation, request: _die_if_first()
    go_on.set()
    first.join()
    wire.rule = lambda operation, request: None
    assert ("pets|late", "row|u1") in contents(store)  # as it is known to be
    store.publish("pets", "u1", rows(b="dog"), images())
    assert set(contents(store)) == {("pets|b", "row|u1")}


def _crashing(publish: Any, own: pa.Table) -> None:
    with pytest.raises(Crash):
        publish("pets", "u1", own, images())


def _die_if_first() -> None:
    if threading.current_thread().name.startswith("first"):
        raise Crash


# -- a crash between any two requests -------------------------------------------------------------


def test_a_publish_that_crashed_anywhere_is_made_good_by_repeating_it(
    store: DynamoDBStore, wire: Wire
) -> None:
    old = rows(**{f"r{n}": "cat" for n in range(30)}), images(r1="1", gone="2")
    new = rows(**{f"r{n}": "dog" for n in range(20, 60)}), images(r1="3", r40="4")
    store.publish("pets", "u1", *old)
    store.publish("pets", "u1", *new)
    expected = contents(store)
    for crash_at in range(40):
        store.publish("pets", "u1", *old)
        wire.crash_after(crash_at)
        try:
            store.publish("pets", "u1", *new)
            done = True
        except Crash:
            done = False
        wire.rule = lambda operation, request: None
        if crash_at % 2:  # another run, which publishes something else, comes between
            store.publish("pets", "u1", rows(other="cow"), images())
        store.publish("pets", "u1", *new)
        assert contents(store) == expected, crash_at
        wire.seen.clear()
        store.publish("pets", "u1", *new)
        assert contents(store) == expected
        assert wire.writes == 0
        store.publish("pets", "u1", *old)
        assert len(list_items(store)) == 2, crash_at  # no old lists are left behind
        if done:
            break
    assert crash_at > 5


def test_a_first_publish_that_crashed_leaves_nothing_that_a_smaller_one_does_not_remove(
    store: DynamoDBStore, wire: Wire
) -> None:
    for crash_at in range(40):
        upload = f"u{crash_at}"
        wire.crash_after(crash_at)
        try:
            store.publish("pets", upload, rows(**{f"r{n}": "cat" for n in range(60)}), images())
            done = True
        except Crash:
            done = False
        wire.rule = lambda operation, request: None
        store.publish("pets", upload, rows(a=None), images())
        assert [k[0] for k in contents(store) if k[1] == f"row|{upload}"] == ["pets|a"], crash_at
        if done:
            break
    assert crash_at > 4


def test_a_merge_that_crashed_anywhere_is_made_good_by_repeating_it(
    store: DynamoDBStore, wire: Wire
) -> None:
    before = [offer(f"r{n}", upload=f"u{n % 3}") for n in range(8)]
    after = [offer(f"r{n}", upload="u1", content_hash="9") for n in range(12)]
    expected = {i: o["prediction"] for i, o in greatest(before + after).items()}
    for crash_at in range(60):
        one = DynamoDBStore(store.requests.client, store.requests.table)
        dataset = f"d{crash_at}"
        one.merge(dataset, offered(*before))
        wire.crash_after(crash_at)
        try:
            one.merge(dataset, offered(*after))
            done = True
        except Crash:
            done = False
        wire.rule = lambda operation, request: None
        one.merge(dataset, offered(*after))
        found = {key[0].partition("|")[2]: item["prediction"]["S"]
                 for key, item in contents(one, dataset).items()}  # fmt: skip
        assert found == expected
        if done:
            break
    assert crash_at > 8


# -- what servers and networks do -----------------------------------------------------------------


def fill(store: DynamoDBStore) -> None:
    many = {f"r{n}": "cat" for n in range(40)}
    store.publish("pets", "u1", rows(**many), images(**many))
    store.publish("pets", "u1", told([(i, True, "dog") for i in many]), images(r1="1"))
    result = store.merge("pets", offered(*(offer(i) for i in many)))
    assert result == MergeResult(40, 0, 0)
    better = [offer(i, upload="u2", image_upload="u1", modality_rank=1) for i in many]
    assert store.merge("pets", offered(*better)) == MergeResult(0, 40, 0)
    assert store.merge("pets", offered(*better)) == MergeResult(0, 0, 40)


EVERYTHING = ("PutItem", "BatchWriteItem", "BatchGetItem", "Query", "GetItem")
RULES = {
    "throttled": lambda wire: wire.every(
        3, refuse("ProvisionedThroughputExceededException"), *EVERYTHING
    ),
    "throttled on demand": lambda wire: wire.every(3, refuse("ThrottlingException"), *EVERYTHING),
    "troubled": lambda wire: wire.every(3, refuse("InternalServerError", 500), *EVERYTHING),
    "done in part": lambda wire: wire.every(1, wire.do_a_part, "BatchWriteItem", "BatchGetItem"),
    "cut off before": lambda wire: wire.every(3, wire.reset, *EVERYTHING),
    "cut off after": lambda wire: wire.every(4, wire.lose_the_reply, *EVERYTHING),
}


@pytest.mark.parametrize("fault", RULES)
def test_what_passes_is_waited_for_and_counted_once(
    store: DynamoDBStore, wire: Wire, fault: str
) -> None:
    fill(store)
    expected = contents(store)
    wire.seen.clear()
    other = DynamoDBStore(store.requests.client, store.requests.table, patience=60.0)
    for item in expected:
        key = {"pk": {"S": item[0]}, "sk": {"S": item[1]}}
        store.requests.client.delete_item(TableName=store.requests.table, Key=key)
    _forget_lists(store)
    RULES[fault](wire)
    fill(other)
    assert contents(store) == expected
    assert known(other, "r1")["r1"]["label"] == "dog"
    assert other.counts("pets")["with_image"] == 40


def _forget_lists(store: DynamoDBStore) -> None:
    for name in list_items(store):
        key = {"pk": {"S": "pets#upload#u1"}, "sk": {"S": name}}
        store.requests.client.delete_item(TableName=store.requests.table, Key=key)


def test_a_lost_reply_of_a_write_that_somebody_then_beat_is_not_counted(
    store: DynamoDBStore, wire: Wire
) -> None:
    greater = offered(offer("a", upload="u9", run_id="other"))

    def beaten(operation: str, request: Any) -> None:
        wire.rule = lambda operation, request: None
        wire.session.send(request)
        other = DynamoDBStore(store.requests.client, store.requests.table)
        other.merge("pets", greater)
        wire.reset(operation, request)

    wire.every(1, beaten, "PutItem")
    assert store.merge("pets", offered(offer("a"))) == MergeResult(0, 0, 1)
    assert store.read("pets")["upload"].to_pylist() == ["u9"]


@pytest.mark.parametrize(
    ("code", "status", "ours", "todo"),
    [
        ("ProvisionedThroughputExceededException", 400, "table_busy", "Try again"),
        ("ThrottlingException", 400, "table_busy", "Try again"),
        ("InternalServerError", 500, "table_unreachable", "try again later"),
    ],
)
def test_what_does_not_pass_ends_in_words_after_a_bounded_time(
    store: DynamoDBStore, wire: Wire, code: str, status: int, ours: str, todo: str
) -> None:
    store.requests.patience = 0.2
    wire.rule = refuse(code, status)
    for work in (
        lambda: store.merge("pets", offered(offer("a"))),
        lambda: store.read("pets"),
        lambda: store.publish("pets", "u1", rows(a="cat"), images()),
    ):
        with pytest.raises(StoreError) as caught:
            work()
        assert caught.value.code == ours
        assert todo in caught.value.todo
        assert store.requests.table in caught.value.where


def test_a_batch_that_is_never_taken_whole_ends_in_words(store: DynamoDBStore, wire: Wire) -> None:
    store.requests.patience = 0.5
    wire.every(1, leave_all, "BatchWriteItem")
    with pytest.raises(StoreError) as caught:
        store.publish("pets", "u1", rows(a="cat", b="dog"), images())
    assert caught.value.code == "table_busy"


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("ExpiredTokenException", "table_credentials"),
        ("UnrecognizedClientException", "table_credentials"),
        ("AccessDeniedException", "table_denied"),
        ("ResourceNotFoundException", "table_missing"),
        ("ValidationException", "table_refused"),
    ],
)
def test_what_no_waiting_mends_is_said_at_once(
    store: DynamoDBStore, wire: Wire, code: str, ours: str
) -> None:
    wire.rule = refuse(code)
    for work in (lambda: store.read("pets"), lambda: store.merge("pets", offered(offer("a")))):
        wire.seen.clear()
        with pytest.raises(StoreError) as caught:
            work()
        assert caught.value.code == ours
        assert caught.value.todo
        assert wire.requests <= 16


def test_missing_credentials_and_no_network_are_told_apart(
    store: DynamoDBStore, wire: Wire
) -> None:
    store.requests.patience = 0.2

    def missing(operation: str, request: Any) -> None:
        raise NoCredentialsError

    def silent(operation: str, request: Any) -> None:
        raise ConnectTimeoutError(endpoint_url=request.url)

    for rule, code in ((missing, "table_credentials"), (silent, "table_unreachable")):
        wire.rule = rule
        with pytest.raises(StoreError) as caught:
            store.read("pets", Query(record_ids=["a"]))
        assert caught.value.code == code


def test_a_table_that_is_not_there_is_said_with_what_to_do(dynamodb_client: Any) -> None:
    with pytest.raises(StoreError) as caught:
        DynamoDBStore(dynamodb_client, "not-there").read("pets")
    assert caught.value.code == "table_missing"
    assert "mm table --create" in caught.value.todo


def test_answers_of_more_than_a_page_are_whole(store: DynamoDBStore, wire: Wire) -> None:
    """A page holds a megabyte; what is long here is long in one partition."""
    for n in range(7):
        store.publish("pets", f"u{n}", rows(a=str(n) * 200_000), images(a=str(n)))
    together = sorted(i for i in map(str, range(200)) if shard(i) == 3)[:7]
    long = [offer(i, probabilities=str(n) * 250_000) for n, i in enumerate(together)]
    assert store.merge("pets", offered(*long)) == MergeResult(7, 0, 0)
    wire.seen.clear()
    assert known(store, "a")["a"]["label"] == "6" * 200_000
    assert wire.seen["Query"] > 1
    assert store.count_labelled("pets") == 1
    wire.seen.clear()
    assert store.read("pets")["probabilities"].to_pylist() == [o["probabilities"] for o in long]
    assert wire.seen["Query"] > 16
    assert store.read("pets", Query(limit=6))["record_id"].to_pylist() == together[:6]


# -- opening --------------------------------------------------------------------------------------


def test_the_store_of_the_settings_uses_one_client_for_each_process(
    dynamodb_settings: Settings,
) -> None:
    store = open_store(dynamodb_settings)
    store.merge("pets", offered(offer("a")))
    assert open_store(dynamodb_settings, 1.0).read("pets").num_rows == 1
    assert client_for(dynamodb_settings) is client_for(Settings.from_environment())


def test_an_endpoint_that_is_no_url_is_said(
    dynamodb_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "no-url")
    with pytest.raises(StoreError) as caught:
        open_store(Settings.from_environment())
    assert caught.value.code == "table_unreachable"


def test_a_region_that_nobody_knows_is_said_at_once(
    dynamodb_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_DYNAMODB")
    monkeypatch.setenv("AWS_REGION", "mars-1")
    store = open_store(Settings.from_environment())
    from botocore.exceptions import EndpointConnectionError

    with watched(store.requests.client) as wire:

        def nobody(operation: str, request: Any) -> None:
            raise EndpointConnectionError(endpoint_url=request.url)

        wire.rule = nobody
        with pytest.raises(StoreError) as caught:
            store.read("pets", Query(record_ids=["a"]))
    assert caught.value.code == "table_region"
    assert "mars-1" in caught.value.todo


@pytest.mark.skipif(os.environ.get("MM_NIGHTLY") != "1", reason="takes minutes")
def test_a_large_upload_is_published_and_merged(store: DynamoDBStore) -> None:
    many = [f"r{n}" for n in range(30_000)]
    store.publish("pets", "u1", rows(**dict.fromkeys(many, "cat")), images())
    assert store.merge("pets", offered(*map(offer, many))) == MergeResult(30_000, 0, 0)
    assert store.count_labelled("pets") == store.counts("pets")["records"] == 30_000


def test_the_server_of_these_tests_outlives_a_client_that_dies(
    dynamodb_endpoint: str, dynamodb_client: Any
) -> None:
    host, port = dynamodb_endpoint.removeprefix("http://").split(":")
    for linger in (struct.pack("ii", 1, 0), None):  # with a reset of the connection, and without
        with socket.create_connection((host, int(port))) as cut:
            cut.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf of it")
            time.sleep(0.2)
            if linger:
                cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        time.sleep(0.2)
        assert "TableNames" in dynamodb_client.list_tables()
