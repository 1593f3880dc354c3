"""The table store in one DuckDB file: the index, the merge rule, and many who want to write."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.errors import StoreError
from mm_assets.predictions.predict import empty_predictions
from mm_assets.settings import Settings
from mm_assets.store.base import COLUMNS, ORDER, MergeResult, Query, open_store
from mm_assets.store.duckdb import DuckDBStore

ROWS = pa.schema([("record_id", pa.string()), ("labels_only", pa.bool_()), ("label", pa.string())])
IMAGES = pa.schema([(n, pa.string()) for n in ("record_id", "image_sha256", "image_file")])


@pytest.fixture
def store(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(tmp_path / "predictions.duckdb")


def rows(**labels: str | None) -> pa.Table:
    """Rows with features, by ID with their label."""
    return told([(record_id, False, label) for record_id, label in labels.items()])


def told(values: list[tuple[str, bool, str | None]]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(ROWS.names, value, strict=True)) for value in values], schema=ROWS
    )


def images(**shas: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{"record_id": i, "image_sha256": s, "image_file": f"{s}.png"} for i, s in shas.items()],
        schema=IMAGES,
    )


def offer(record_id: str = "a", **changes: Any) -> dict[str, Any]:
    """One offered prediction; what does not decide is filled in from what does."""
    decided = {
        "modality_rank": 0, "upload": "u1", "image_upload": "", "model_generation": 1,
        "spec_generation": 1, "content_hash": "0",
    }  # fmt: skip
    decided.update({k: v for k, v in changes.items() if k in decided})
    text = json.dumps(decided, sort_keys=True)
    return {
        "record_id": record_id,
        "prediction": f"cat {text}",
        "probabilities": None,
        "confidence": 0.5,
        "needs_review": True,
        "modality": "with_image" if decided["modality_rank"] else "without_image",
        "model_version": f"v{decided['model_generation']}",
        "input_hash": text,
        "run_id": "run",
        "predicted_at": "2026-01-01T00:00:00.000000+00:00",
        **decided,
        **changes,
    }


def offered(*offers: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(offers), schema=empty_predictions().schema)


def known(store: DuckDBStore, *ids: str) -> dict[str, dict[str, Any]]:
    wanted = pa.array(list(ids), pa.string()) if ids else None
    return {row.pop("record_id"): row for row in store.look_up("pets", wanted).to_pylist()}


# -- the index ------------------------------------------------------------------------------------


def test_what_is_published_is_found(store: DuckDBStore) -> None:
    store.publish("pets", "u1", rows(a=None, b="cat"), images(a="sha-a", z="sha-z"))
    assert known(store, "a", "b", "z", "none") == {
        "a": {"unlabelled_upload": "u1", "labelled_upload": None, "label": None,
              "label_upload": None, "image_upload": "u1", "image_sha256": "sha-a",
              "image_file": "sha-a.png"},
        "b": {"unlabelled_upload": None, "labelled_upload": "u1", "label": "cat",
              "label_upload": "u1", "image_upload": None, "image_sha256": None,
              "image_file": None},
        "z": {"unlabelled_upload": None, "labelled_upload": None, "label": None,
              "label_upload": None, "image_upload": "u1", "image_sha256": "sha-z",
              "image_file": "sha-z.png"},
        "none": dict.fromkeys(
            ["unlabelled_upload", "labelled_upload", "label", "label_upload", "image_upload",
             "image_sha256", "image_file"]),
    }  # fmt: skip


def test_the_newest_of_each_is_found_whatever_the_order_of_publishing(store: DuckDBStore) -> None:
    parts = [
        ("u1", rows(a=None), images(a="1")),
        ("u2", rows(a="cat"), images()),
        ("u3", told([("a", True, "dog")]), images(a="3")),
        ("u4", rows(a=None), images()),
        ("u5", told([("a", True, "cow")]), images()),
    ]
    for upload, row, image in (*parts[::-1], *parts[::2]):
        store.publish("pets", upload, row, image)
    assert known(store, "a") == {
        "a": {"unlabelled_upload": "u4", "labelled_upload": "u2", "label": "cow",
              "label_upload": "u5", "image_upload": "u3", "image_sha256": "3",
              "image_file": "3.png"},
    }  # fmt: skip
    assert store.count_labelled("pets") == 1


def test_publishing_again_changes_nothing(store: DuckDBStore) -> None:
    for _ in range(3):
        store.publish("pets", "u1", rows(a="cat", b=None), images(a="1"))
    assert set(known(store, "a", "b")) == {"a", "b"}
    with duckdb.connect(str(store.path)) as db:
        assert db.execute("SELECT count(*) FROM record_index").fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM image_index").fetchone() == (1,)


def test_publishing_replaces_what_the_upload_published_before(store: DuckDBStore) -> None:
    store.publish("pets", "u0", rows(a="cow"), images(b="0"))
    store.publish("pets", "u1", rows(a="cat", b="cat"), images(a="1", b="1"))
    store.publish("pets", "u1", rows(b="dog", c=None), images(a="2"))
    found = known(store, "a", "b", "c")
    assert (found["a"]["label"], found["a"]["image_sha256"]) == ("cow", "2")
    assert (found["b"]["label"], found["b"]["image_upload"]) == ("dog", "u0")
    assert found["c"]["unlabelled_upload"] == "u1"
    store.publish("pets", "u1", rows(), images())
    assert known(store, "c")["c"]["unlabelled_upload"] is None
    assert known(store, "a")["a"]["image_sha256"] is None


def test_datasets_do_not_see_each_other(store: DuckDBStore) -> None:
    store.publish("other", "u1", rows(a="cat"), images(a="1"))
    store.merge("other", offered(offer("a")))
    assert known(store, "a")["a"]["label"] is None
    assert store.count_labelled("pets") == 0
    assert store.read("pets").num_rows == 0
    assert store.counts("pets")["records"] == 0
    store.publish("pets", "u1", rows(), images())
    store.merge("pets", offered(offer("a", content_hash="9")))
    assert store.read("other")["prediction"].to_pylist() == [offer("a")["prediction"]]


def test_without_ids_all_labelled_records_are_found_and_no_others(store: DuckDBStore) -> None:
    store.publish("pets", "u1", rows(a="cat", b=None), images(c="1"))
    store.publish("pets", "u2", told([("b", True, "dog"), ("d", True, "cat")]), images())
    assert list(known(store)) == ["a", "b", "d"]
    assert store.count_labelled("pets") == 3


def test_an_id_asked_for_twice_is_answered_once(store: DuckDBStore) -> None:
    store.publish("pets", "u1", rows(a="cat"), images())
    found = store.look_up("pets", pa.array(["a", "a", "A", ""]))
    assert found["record_id"].to_pylist() == ["", "A", "a"]


# -- the merge rule -------------------------------------------------------------------------------


def test_an_image_beats_no_image_even_of_a_newer_row_and_model(store: DuckDBStore) -> None:
    store.merge("pets", offered(offer(modality_rank=1)))
    worse = offer(modality_rank=0, upload="u9", model_generation=9, content_hash="f")
    assert store.merge("pets", offered(worse)) == MergeResult(0, 0, 1)
    assert store.read("pets")["modality"].to_pylist() == ["with_image"]


@pytest.mark.parametrize(
    "better",
    [{"modality_rank": 1}, {"upload": "u2"}, {"image_upload": "u0"}, {"model_generation": 2},
     {"model_generation": 10}, {"spec_generation": 2}, {"content_hash": "1"}],
)  # fmt: skip
def test_each_part_of_the_order_decides_when_those_before_are_equal(
    store: DuckDBStore, better: dict[str, Any]
) -> None:
    store.merge("pets", offered(offer(model_generation=1)))
    assert store.merge("pets", offered(offer(**better))) == MergeResult(0, 1, 0)
    assert store.merge("pets", offered(offer(model_generation=1))) == MergeResult(0, 0, 1)
    assert store.read("pets")["prediction"].to_pylist() == [offer(**better)["prediction"]]


def test_the_best_of_one_offer_is_kept_wherever_it_stands(store: DuckDBStore) -> None:
    several = [offer("a", content_hash=h) for h in "2731"] + [offer("b")]
    assert store.merge("pets", offered(*several)) == MergeResult(2, 0, 3)
    assert store.read("pets", Query(record_ids=["a"]))["prediction"].to_pylist() == [
        offer("a", content_hash="7")["prediction"]
    ]


def test_what_is_unchanged_is_counted_and_not_written(store: DuckDBStore) -> None:
    first = [offer(i, run_id="first") for i in "abc"]
    assert store.merge("pets", offered(*first)) == MergeResult(3, 0, 0)
    before = store.read("pets")
    again = [{**offer(i), "run_id": "second", "predicted_at": "2027"} for i in "abc"]
    assert store.merge("pets", offered(*again)) == MergeResult(0, 0, 3)
    assert store.read("pets").equals(before)
    more = [*again[:2], offer("c", model_generation=2), offer("d")]
    assert store.merge("pets", offered(*more)) == MergeResult(1, 1, 2)


def test_an_empty_offer_changes_nothing(store: DuckDBStore) -> None:
    assert store.merge("pets", empty_predictions()) == MergeResult(0, 0, 0)


def test_a_merge_that_fails_leaves_all_as_it_was(store: DuckDBStore) -> None:
    store.merge("pets", offered(offer("a")))
    broken = offered(offer("a", upload="u9"), {**offer("b"), "prediction": None})
    with pytest.raises(duckdb.ConstraintException):
        store.merge("pets", broken)
    assert store.read("pets")["record_id"].to_pylist() == ["a"]
    assert store.read("pets")["upload"].to_pylist() == ["u1"]
    assert store.merge("pets", offered(offer("b"))).inserted == 1


some_offer = st.builds(
    offer,
    st.sampled_from("abc"),
    modality_rank=st.integers(0, 1),
    upload=st.sampled_from(["u1", "u2", "u10"]),
    image_upload=st.sampled_from(["", "u1", "u2"]),
    model_generation=st.sampled_from([1, 2, 10]),
    spec_generation=st.sampled_from([1, 2]),
    content_hash=st.sampled_from(["0", "9", "a"]),
)


def greatest(offers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The merge rule as a plain dictionary says it."""
    kept: dict[str, dict[str, Any]] = {}
    for one in offers:
        other = kept.get(one["record_id"])
        if other is None or [one[n] for n in ORDER] > [other[n] for n in ORDER]:
            kept[one["record_id"]] = one
    return kept


@examples(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(some_offer, min_size=1, max_size=12), st.data())
def test_any_order_repetition_and_partition_ends_in_the_same_table(
    store: DuckDBStore, offers: list[dict[str, Any]], data: st.DataObject
) -> None:
    dataset = uuid.uuid4().hex  # an empty table, without making a file each time
    repeated = offers + data.draw(st.lists(st.sampled_from(offers), max_size=6))
    order = data.draw(st.permutations(repeated))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order)), max_size=3)))
    counted = [0, 0, 0]
    for start, stop in zip([0, *cuts], [*cuts, len(order)], strict=True):
        result = store.merge(dataset, offered(*order[start:stop]))
        counted = [
            n + more
            for n, more in zip(
                counted, (result.inserted, result.updated, result.unchanged), strict=True
            )
        ]
    expected = greatest(offers)
    found = {row["record_id"]: row for row in store.read(dataset).to_pylist()}
    assert {i: {n: row[n] for n in COLUMNS} for i, row in found.items()} == {
        i: {n: row[n] for n in COLUMNS} for i, row in expected.items()
    }
    assert counted[0] == len(expected)
    assert sum(counted) == len(order)


# -- reading --------------------------------------------------------------------------------------


@pytest.fixture
def filled(store: DuckDBStore) -> DuckDBStore:
    store.publish("pets", "u2", rows(b="cat"), images())
    store.publish("pets", "u3", told([("b", True, "dog")]), images())
    store.merge("pets", offered(
        offer("a", confidence=0.9, needs_review=False, predicted_at="2026-01-03"),
        offer("b", confidence=0.2, upload="u2", predicted_at="2026-01-02"),
        offer("c", confidence=0.5, modality_rank=1, image_upload="u2", predicted_at="2026-01-01"),
        offer("d", confidence=0.5, upload="u4", predicted_at="2026-01-04"),
    ))  # fmt: skip
    return store


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (Query(), "bcda"),
        (Query(record_ids=["a", "d", "none", "a"]), "da"),
        (Query(record_ids=[]), ""),
        (Query(upload="u1"), "ca"),
        (Query(upload="u2"), "bc"),  # the upload of the row, or of the image
        (Query(needs_review=True), "bcd"),
        (Query(needs_review=False), "a"),
        (Query(changed_since="2026-01-03"), "da"),
        (Query(limit=2), "bc"),
        (Query(limit=0), ""),
        (Query(upload="u2", needs_review=True, changed_since="2026-01-02", limit=5), "b"),
        (Query(record_ids=["c"], upload="u4"), ""),
        (Query(upload="' OR 1=1 --"), ""),
    ],
)
def test_every_condition_narrows_the_answer_least_confident_first(
    filled: DuckDBStore, query: Query, ids: str
) -> None:
    assert filled.read("pets", query)["record_id"].to_pylist() == list(ids)


def test_the_answer_has_the_columns_that_people_see_and_the_label_beside(
    filled: DuckDBStore,
) -> None:
    table = filled.read("pets")
    assert table.column_names == [*COLUMNS, "image_upload", "label"]
    labels = dict(zip(table["record_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert labels == {"a": None, "b": "dog", "c": None, "d": None}
    image_uploads = table.filter(table["image_upload"].is_valid())
    assert image_uploads["record_id"].to_pylist() == ["c"]


def test_the_counts_are_those_of_the_table(filled: DuckDBStore) -> None:
    assert filled.counts("pets") == {
        "records": 4, "needs_review": 3, "with_image": 1, "without_image": 3,
    }  # fmt: skip


# -- many who want to write -----------------------------------------------------------------------

HOLD = """
import duckdb, sys
held = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open until a line is written to it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.stdin.close()


def test_who_finds_the_file_held_waits_for_it(store: DuckDBStore) -> None:
    store.merge("pets", offered(offer("a")))
    with held_elsewhere(store.path) as process:
        threading.Timer(1.0, lambda: process.stdin and process.stdin.close()).start()
        started = time.monotonic()
        assert store.merge("pets", offered(offer("b"))) == MergeResult(1, 0, 0)
        assert 0.5 < time.monotonic() - started < 20


def test_who_waits_too_long_is_told_that_the_table_is_busy(store: DuckDBStore) -> None:
    store.merge("pets", offered(offer("a")))
    store.patience = 0.3
    with held_elsewhere(store.path):
        with pytest.raises(StoreError) as caught:
            store.read("pets")
        assert caught.value.code == "table_busy"
        assert str(store.path) in caught.value.where
        assert "Close other programs" in caught.value.todo
    assert store.read("pets").num_rows == 1


MERGE = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from mm_assets.store.duckdb import DuckDBStore
store = DuckDBStore(Path(sys.argv[1]))
for file in sys.argv[2:]:
    store.merge("pets", pq.read_table(file))
"""


def test_two_processes_that_merge_at_the_same_time_both_succeed(
    store: DuckDBStore, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    offers: list[dict[str, Any]] = []
    files: list[list[str]] = [[], []]
    for process in range(2):
        for part in range(4):
            some = [
                offer(f"{part}-{i}", upload=f"u{process}", content_hash=f"{process}{i}")
                for i in range(20)
            ]
            offers += some
            path = tmp_path / f"{process}-{part}.parquet"
            pq.write_table(offered(*some), path)
            files[process].append(str(path))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", MERGE, str(store.path), *names], stderr=subprocess.PIPE
        )
        for names in files
    ]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    found = {row["record_id"]: row["prediction"] for row in store.read("pets").to_pylist()}
    assert found == {i: row["prediction"] for i, row in greatest(offers).items()}


def test_threads_of_one_process_take_turns(store: DuckDBStore) -> None:
    def work(number: int) -> None:
        store.publish("pets", f"u{number}", rows(**{f"r{number}": "cat"}), images())
        store.merge("pets", offered(offer("shared", upload=f"u{number}"), offer(f"own{number}")))
        store.read("pets")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    assert store.count_labelled("pets") == 12
    assert store.counts("pets")["records"] == 13
    assert store.read("pets", Query(record_ids=["shared"]))["upload"].to_pylist() == ["u9"]


# -- the file -------------------------------------------------------------------------------------


def test_a_file_that_is_no_table_is_an_error_in_words_and_at_once(tmp_path: Path) -> None:
    path = tmp_path / "block" / "predictions.duckdb"  # "lock" in its name is not a lock
    path.parent.mkdir()
    path.write_bytes(b"this is no DuckDB file" * 1000)
    started = time.monotonic()
    with pytest.raises(StoreError) as caught:
        DuckDBStore(path).read("pets")
    assert caught.value.code == "table_unreachable"
    assert str(path) in caught.value.where
    assert time.monotonic() - started < 5


def test_a_folder_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        DuckDBStore(tmp_path / "no" / "p.duckdb").read("pets")
    assert caught.value.code == "table_unreachable"


def test_the_file_and_its_folder_are_made_on_first_use(folder_settings: Settings) -> None:
    store = open_store(Settings(root=folder_settings.root, table="duckdb:///deep/er/p.duckdb"))
    assert store.counts("pets")["records"] == 0
    assert (folder_settings.root / "deep/er/p.duckdb").exists()


def test_a_folder_that_cannot_be_made_is_said_to_be_the_fault(folder_settings: Settings) -> None:
    (folder_settings.root / "file").write_text("in the way")
    with pytest.raises(StoreError) as caught:
        open_store(Settings(root=folder_settings.root, table="duckdb:///file/p.duckdb"))
    assert caught.value.code == "table_unreachable"
    assert "MM_TABLE" in caught.value.todo


def test_what_was_merged_is_there_after_opening_again(store: DuckDBStore) -> None:
    store.merge("pets", offered(offer("a")))
    assert DuckDBStore(store.path).read("pets").num_rows == 1
