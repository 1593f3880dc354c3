"""What every table store does, DuckDB and DynamoDB alike: the index, the merge rule, reading."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.contract.errors import StoreError
from mm_assets.predictions.predict import empty_predictions
from mm_assets.tables.store import COLUMNS, MergeResult, Published, Query, Store
from tests.tables.offers import (
    greatest,
    images,
    known,
    offer,
    offered,
    refusals,
    rows,
    some_offer,
    told,
)

NOT_NAMED = {"named_files": None, "image_unclear": None}

# -- the index ------------------------------------------------------------------------------------


def test_what_is_published_is_found(store: Store) -> None:
    store.publish("pets", "u1", rows(a=None, b="cat"), images(a="sha-a", z="sha-z"))
    assert known(store, "a", "b", "z", "none") == {
        "a": {"unlabelled_upload": "u1", "labelled_upload": None, "label": None,
              "label_upload": None, "image_upload": "u1", "image_sha256": "sha-a",
              "image_file": "sha-a.png", "image_order": "u1", **NOT_NAMED},
        "b": {"unlabelled_upload": None, "labelled_upload": "u1", "label": "cat",
              "label_upload": "u1", "image_upload": None, "image_sha256": None,
              "image_file": None, "image_order": None, **NOT_NAMED},
        "z": {"unlabelled_upload": None, "labelled_upload": None, "label": None,
              "label_upload": None, "image_upload": "u1", "image_sha256": "sha-z",
              "image_file": "sha-z.png", "image_order": "u1", **NOT_NAMED},
        "none": dict.fromkeys(
            ["unlabelled_upload", "labelled_upload", "label", "label_upload", "image_upload",
             "image_sha256", "image_file", "image_order", *NOT_NAMED]),
    }  # fmt: skip


def test_the_newest_of_each_is_found_whatever_the_order_of_publishing(store: Store) -> None:
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
              "image_file": "3.png", "image_order": "u3", **NOT_NAMED},
    }  # fmt: skip
    assert store.count_labelled("pets") == 1


def test_publishing_again_changes_nothing(store: Store) -> None:
    for _ in range(3):
        store.publish("pets", "u1", rows(a="cat", b=None), images(a="1"))
    assert set(known(store, "a", "b")) == {"a", "b"}
    assert known(store, "a")["a"]["image_sha256"] == "1"
    assert store.count_labelled("pets") == 1


def test_publishing_replaces_what_the_upload_published_before(store: Store) -> None:
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


def test_datasets_do_not_see_each_other(store: Store) -> None:
    store.publish("other", "u1", rows(a="cat"), images(a="1"))
    store.merge("other", offered(offer("a")))
    assert known(store, "a")["a"]["label"] is None
    assert store.count_labelled("pets") == 0
    assert store.read("pets").num_rows == 0
    assert store.counts("pets")["records"] == 0
    store.publish("pets", "u1", rows(), images())
    store.merge("pets", offered(offer("a", content_hash="9")))
    assert store.read("other")["prediction"].to_pylist() == [offer("a")["prediction"]]


def test_without_ids_all_labelled_records_are_found_and_no_others(store: Store) -> None:
    store.publish("pets", "u1", rows(a="cat", b=None), images(c="1"))
    store.publish("pets", "u2", told([("b", True, "dog"), ("d", True, "cat")]), images())
    assert list(known(store)) == ["a", "b", "d"]
    assert store.count_labelled("pets") == 3


def test_an_id_asked_for_twice_is_answered_once(store: Store) -> None:
    store.publish("pets", "u1", rows(a="cat"), images())
    found = store.look_up("pets", pa.array(["a", "a", "A", ""]))
    assert found["record_id"].to_pylist() == ["", "A", "a"]


@pytest.mark.parametrize("withdrawn", [(), ("u1",), ("u2",), ("u3",)])
def test_what_one_published_is_known_without_being_asked_for(
    store: Store, withdrawn: tuple[str, ...]
) -> None:
    parts = {
        "u1": Published("u1", rows(a="cat", b=None, c="cow"), images(a="1", d="1")),
        "u2": Published(
            "u2", told([("a", False, None), ("b", True, "dog"), ("c", False, "cat"),
                        ("e", False, "cow"), ("g", True, "cow")]),
            images(b="2", d="2"), refusals(("f", "value_missing")),
        ),
        "u3": Published("u3", rows(b="cow"), images(b="3"), refusals(("e", "no"), ("g", "no"))),
    }  # fmt: skip
    for upload, one in parts.items():
        store.publish("pets", upload, one.rows, one.images, one.refused)
    store.withdraw("pets", withdrawn)
    every = pa.array(["f", "b", "a", "c", "d", "e", "g", "none"])
    asked = store.look_up("pets", every).to_pylist()
    assert [one["record_id"] for one in asked] == ["a", "b", "c", "d", "e", "f", "g", "none"]
    others = {"u1": ["none", "f", "e", "g"], "u2": ["none", "f"], "u3": every.to_pylist()}
    for upload, one in parts.items():
        found = store.look_up("pets", pa.array(others[upload]), one)
        assert found.to_pylist() == asked, upload


# -- the merge rule -------------------------------------------------------------------------------


def test_an_image_beats_no_image_even_of_a_newer_row_and_model(store: Store) -> None:
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
    store: Store, better: dict[str, Any]
) -> None:
    store.merge("pets", offered(offer(model_generation=1)))
    assert store.merge("pets", offered(offer(**better))) == MergeResult(0, 1, 0)
    assert store.merge("pets", offered(offer(model_generation=1))) == MergeResult(0, 0, 1)
    assert store.read("pets")["prediction"].to_pylist() == [offer(**better)["prediction"]]


def test_the_best_of_one_offer_is_kept_wherever_it_stands(store: Store) -> None:
    several = [offer("a", content_hash=h) for h in "2731"] + [offer("b")]
    assert store.merge("pets", offered(*several)) == MergeResult(2, 0, 3)
    assert store.read("pets", Query(record_ids=["a"]))["prediction"].to_pylist() == [
        offer("a", content_hash="7")["prediction"]
    ]


def test_what_is_unchanged_is_counted_and_not_written(store: Store) -> None:
    first = [offer(i, run_id="first") for i in "abc"]
    assert store.merge("pets", offered(*first)) == MergeResult(3, 0, 0)
    before = store.read("pets")
    again = [{**offer(i), "run_id": "second", "predicted_at": "2027"} for i in "abc"]
    assert store.merge("pets", offered(*again)) == MergeResult(0, 0, 3)
    assert store.read("pets").equals(before)
    more = [*again[:2], offer("c", model_generation=2), offer("d")]
    assert store.merge("pets", offered(*more)) == MergeResult(1, 1, 2)


def test_an_empty_offer_changes_nothing(store: Store) -> None:
    assert store.merge("pets", empty_predictions()) == MergeResult(0, 0, 0)


def test_a_merge_that_fails_leaves_all_as_it_was(store: Store) -> None:
    store.merge("pets", offered(offer("a")))
    broken = offered(offer("a", upload="u9"), {**offer("b"), "prediction": None})
    with pytest.raises(StoreError) as caught:
        store.merge("pets", broken)
    assert caught.value.code == "table_refused"
    assert store.read("pets")["record_id"].to_pylist() == ["a"]
    assert store.read("pets")["upload"].to_pylist() == ["u1"]
    assert store.merge("pets", offered(offer("b"))).inserted == 1


@examples(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(some_offer, min_size=1, max_size=12), st.data())
def test_any_order_repetition_and_partition_ends_in_the_same_table(
    store: Store, offers: list[dict[str, Any]], data: st.DataObject
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
def filled(store: Store) -> Store:
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
    filled: Store, query: Query, ids: str
) -> None:
    assert filled.read("pets", query)["record_id"].to_pylist() == list(ids)


def test_the_answer_has_the_columns_that_people_see_and_the_label_beside(
    filled: Store,
) -> None:
    table = filled.read("pets")
    assert table.column_names == [*COLUMNS, "image_upload", "label"]
    labels = dict(zip(table["record_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert labels == {"a": None, "b": "dog", "c": None, "d": None}
    image_uploads = table.filter(table["image_upload"].is_valid())
    assert image_uploads["record_id"].to_pylist() == ["c"]


@pytest.mark.parametrize(
    "query", [Query(), Query(record_ids=["a", "b"]), Query(upload="u2"), Query(limit=2),
              Query(changed_since="2026-01-02")],
)  # fmt: skip
@pytest.mark.parametrize("columns", [("upload", "label"), ("image_upload", "lower"), ("doubts",)])
def test_chosen_columns_are_those_of_the_whole_answer(
    filled: Store, query: Query, columns: tuple[str, ...]
) -> None:
    whole = filled.read("pets", query)
    chosen = filled.read("pets", replace(query, columns=columns))
    assert chosen.equals(whole.select(list(columns)))


def test_without_an_order_it_is_the_same_answer(filled: Store) -> None:
    read = filled.read("pets", Query(columns=("record_id", "upload"), in_order=False))
    whole = filled.read("pets").select(["record_id", "upload"])
    assert read.sort_by("record_id").equals(whole.sort_by("record_id"))


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (Query(upload=""), "bda"),  # whose image is from nowhere
        (Query(changed_since=""), "bcda"),
        (Query(changed_since="2026-01-02", limit=2), "bd"),
        (Query(needs_review=True, limit=2), "bc"),
        (Query(needs_review=False, limit=1), "a"),
        (Query(needs_review=True, changed_since="2026-01-03", limit=9), "d"),
        (Query(upload="u1", needs_review=False), "a"),
        (Query(record_ids=["a", "b", "c"], needs_review=True, limit=1), "b"),
        (Query(record_ids=["a", "b", "c"], changed_since="2026-01-02"), "ba"),
        (Query(record_ids=["x" * 3000, "b"]), "b"),
    ],
)
def test_conditions_go_together(filled: Store, query: Query, ids: str) -> None:
    assert filled.read("pets", query)["record_id"].to_pylist() == list(ids)


def test_of_many_equally_confident_the_first_by_id_are_read(store: Store) -> None:
    ids = [f"{n:03d}" for n in range(120)]
    store.merge("pets", offered(*(offer(i, confidence=0.5) for i in reversed(ids))))
    store.merge("pets", offered(offer("zz", confidence=0.4), offer("a", confidence=0.6)))
    for review in (None, True):
        query = Query(needs_review=review, limit=7)
        assert store.read("pets", query)["record_id"].to_pylist() == ["zz", *ids[:6]]


def test_confidence_reads_back_as_the_same_number(store: Store) -> None:
    numbers = [0.0, 1.0, 0.1 + 0.2, 1e-5, 1 / 3, 0.9999999999999999, 1e-130]
    store.merge("pets", offered(*(offer(str(n), confidence=n) for n in numbers)))
    assert store.read("pets")["confidence"].to_pylist() == sorted(numbers)


@pytest.mark.parametrize(
    "record_id", ["x" * 1024, "ü" * 512, "a|b#c", "row|u1", "#upload#u1", "😀"]
)
def test_any_id_of_up_to_1024_bytes_is_stored_and_found(store: Store, record_id: str) -> None:
    dataset = "d" * 40  # as long as a dataset's name may be
    store.publish(dataset, "u1", rows(**{record_id: "cat"}), images(**{record_id: "1"}))
    store.merge(dataset, offered(offer(record_id), offer("other")))
    assert store.look_up(dataset, pa.array([record_id]))["label"].to_pylist() == ["cat"]
    assert store.look_up(dataset, None)["record_id"].to_pylist() == [record_id]
    answer = store.read(dataset, Query(record_ids=[record_id]))
    assert answer.select(["record_id", "label"]).to_pylist() == [
        {"record_id": record_id, "label": "cat"}
    ]


def test_thousands_of_records_are_taken_at_once(store: Store) -> None:
    ids = [f"r{n}" for n in range(3000)]
    labelled = dict.fromkeys(ids[:1200], "cat")
    store.publish("pets", "u1", rows(**labelled), images(r1="1"))
    every = [offer(i, confidence=n / 3000) for n, i in enumerate(ids)]
    assert store.merge("pets", offered(*every)) == MergeResult(3000, 0, 0)
    assert store.merge("pets", offered(*every)) == MergeResult(0, 0, 3000)
    found = store.read("pets")
    assert found["record_id"].to_pylist() == ids
    assert found["label"].to_pylist() == ["cat"] * 1200 + [None] * 1800
    assert store.counts("pets")["records"] == 3000
    assert store.count_labelled("pets") == 1200
    assert store.look_up("pets", pa.array(ids[1100:1300]))["label"].null_count == 100


def test_the_counts_are_those_of_the_table(filled: Store) -> None:
    assert filled.counts("pets") == {
        "records": 4, "needs_review": 3, "with_image": 1, "without_image": 3,
    }  # fmt: skip


def test_what_is_done_while_it_is_held_is_whole_and_stays(store: Store) -> None:
    with store.held(), store.held():
        store.publish("pets", "u1", rows(a=None), images())
        assert store.merge("pets", offered(offer("a"))) == MergeResult(1, 0, 0)
        with pytest.raises(StoreError):
            store.merge("pets", offered(offer("c"), {**offer("b"), "prediction": None}))
        assert store.read("pets")["record_id"].to_pylist() == ["a"]
    assert store.read("pets")["record_id"].to_pylist() == ["a"]
