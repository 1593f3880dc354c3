"""The laws, over the whole flow: uploads of any kind, in any order, at any moment.

Everything is real but the model: what a champion says is a plain function of what it sees, so
that the table can be compared with one that a dictionary works out from the uploads alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.dataset import Modality
from mm_assets.lake import Lake
from mm_assets.layout import of_upload
from mm_assets.manifest.join import build_manifest, records_name, split_records
from mm_assets.predictions.predict import (
    RANK,
    empty_predictions,
    merge_predictions,
    predictions_name,
)
from mm_assets.settings import Settings
from mm_assets.store.base import COLUMNS
from mm_assets.store.duckdb import DuckDBStore
from mm_assets.uploads.find import Source, find_uploads
from mm_assets.uploads.receive import receive
from mm_assets.uploads.received import read_parquet, read_receipt
from tests.make import csv_table, drop_folder, drop_zip, picture
from tests.make import dataset as pets

SPEC = pets(columns={"age": "number"}, image_name="{id}-{n}")
NIGHTLY = os.environ.get("MM_NIGHTLY") == "1"
START = 1_790_000_000  # the first upload arrives; the others a second apart


# -- what people send -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    record: str
    age: str
    label: str = ""


@dataclass(frozen=True)
class Photo:
    record: str
    number: int
    seed: int
    decodes: bool = True

    @property
    def name(self) -> str:
        return f"{self.record}-{self.number}.png"

    @property
    def data(self) -> bytes:
        whole = picture(self.seed)
        return whole if self.decodes else whole[:-20]


@dataclass(frozen=True)
class Upload:
    """One delivery: a table with rows, one with labels only, and pictures."""

    kind: str
    rows: tuple[Row, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    photos: tuple[Photo, ...] = ()

    @property
    def files(self) -> dict[str, bytes]:
        files = {photo.name: photo.data for photo in self.photos}
        if self.rows:
            cells = [(r.record, r.age, r.label) for r in self.rows]
            files["rows.csv"] = csv_table(["id", "age", "label"], cells)
        if self.labels:
            files["labels.csv"] = csv_table(["id", "label"], self.labels)
        return files


IDS = st.sampled_from(["a", "b", "c"])
LABEL = st.sampled_from(["cat", "dog"])
AGE = st.sampled_from(["1", "2", "3", "x"])
MOSTLY = st.sampled_from([True, True, True, False])
rows = st.builds(Row, IDS, AGE, st.just("") | LABEL | st.just(""))
photos = st.builds(Photo, IDS, st.integers(1, 2), st.integers(0, 3), MOSTLY)
uploads = st.builds(
    Upload,
    st.sampled_from(["zip", "folder"]),
    st.lists(rows, max_size=4).map(tuple),
    st.lists(st.tuples(IDS, LABEL), max_size=2).map(tuple),
    st.lists(photos, max_size=3, unique_by=lambda photo: photo.name).map(tuple),
).filter(lambda upload: upload.files)


# -- the reference: the table as a function of the set of uploads ---------------------------------


def is_good(row: Row) -> bool:
    return row.age != "x"


def own_rows(upload: Upload) -> dict[str, Row]:
    """The row of each record that one upload uses, with a label from its labels-only table."""
    brought: dict[str, str] = {}
    for record, label in upload.labels:
        brought.setdefault(record, label)
    used: dict[str, Row] = {}
    for row in filter(is_good, upload.rows):
        label = row.label or brought.get(row.record, "")
        used.setdefault(row.record, Row(row.record, row.age, label))
    return used


def own_labels(upload: Upload) -> dict[str, str]:
    labels = {record: row.label for record, row in own_rows(upload).items() if row.label}
    for record, label in upload.labels:
        if record not in own_rows(upload):
            labels.setdefault(record, label)
    return labels


def own_photos(upload: Upload) -> dict[str, Photo]:
    best: dict[str, Photo] = {}
    for photo in sorted(upload.photos, key=lambda photo: photo.number):
        if photo.decodes:
            best.setdefault(photo.record, photo)
    return best


def expected_table(sent: dict[str, Upload], generation: int) -> dict[str, dict[str, Any]]:
    """One row for each record with an unlabelled row: its newest row, its newest image."""
    table = {}
    by_time = sorted(sent.items())
    for record in "abc":
        rows = [(key, own_rows(u)[record]) for key, u in by_time if record in own_rows(u)]
        unlabelled = [(key, row) for key, row in rows if not row.label]
        if not unlabelled:
            continue
        key, row = unlabelled[-1]
        images = [(k, own_photos(u)[record]) for k, u in by_time if record in own_photos(u)]
        labels = [own_labels(u)[record] for _, u in by_time if record in own_labels(u)]
        image_key, image = images[-1] if images else (None, None)
        table[record] = {
            "upload": key,
            "age": float(row.age),
            "image_upload": image_key,
            "image_sha256": hashlib.sha256(image.data).hexdigest() if image else None,
            "modality": "with_image" if image else "without_image",
            "model_version": f"v{generation}",
            "label": labels[-1] if labels else None,
        }
    return table


# -- the flow -------------------------------------------------------------------------------------


def said_of(input_hash: str, modality: Modality, generation: int) -> tuple[str, float]:
    """What the stand-in for a champion says: a plain function of what it sees."""
    digest = hashlib.sha256(f"{input_hash}{modality}{generation}".encode()).digest()
    return ("cat" if digest[0] % 2 else "dog"), digest[1] / 255


@dataclass
class World:
    """One lake and one table, with the champions of one generation."""

    lake: Lake
    store: DuckDBStore
    sources: dict[str, Source]
    generation: int = 1
    finished: list[str] = field(default_factory=list)
    runs: int = 0

    def receive(self, upload: str) -> None:
        source = self.sources[upload]
        receive(self.lake, SPEC, source, run_id=f"run-{self.runs}", progress=lambda _: None)

    def join(self, upload: str, store: Any = None) -> None:
        """Publish, look up, build the manifest and split it."""
        build_manifest(self.lake, store or self.store, SPEC, upload, run_id=f"run-{self.runs}")
        for modality in Modality:
            split_records(self.lake, SPEC, upload, modality)

    def predict(self, upload: str) -> None:
        """What `predict_records` does, with the stand-in for the model; then the real merge."""
        self.runs += 1
        for modality in Modality:
            self._offer(upload, modality)
        merge_predictions(self.lake, self.store, SPEC, upload)
        self.finished.append(upload)

    def _offer(self, upload: str, modality: Modality) -> None:
        name = records_name(modality)
        document = self.lake.read_json(of_upload("pets", upload, name))
        assert document is not None
        records = read_parquet(self.lake, document, f"{name}.parquet").to_pylist()
        offers = []
        for record in records:
            if record["purpose"] != "predict":
                continue
            prediction, confidence = said_of(record["input_hash"], modality, self.generation)
            offers.append({
                "record_id": record["record_id"], "prediction": prediction,
                "probabilities": json.dumps(record["features"]), "confidence": confidence,
                "needs_review": confidence < 0.6, "modality": modality.value,
                "model_version": f"v{self.generation}", "upload": record["row_upload"],
                "input_hash": record["input_hash"], "run_id": f"run-{self.runs}",
                "predicted_at": f"moment {self.runs}", "modality_rank": RANK[modality],
                "image_upload": record["image_upload"] or "",
                "model_generation": self.generation, "spec_generation": 1,
                "content_hash": prediction,
            })  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "offered.parquet")
            pq.write_table(pa.Table.from_pylist(offers, schema=empty_predictions().schema), path)
            name = predictions_name(modality)
            document = {"counts": {"waiting": 0}, "reason": ""}
            self.lake.publish(of_upload("pets", upload, name), {f"{name}.parquet": path}, document)

    def handle(self, upload: str) -> None:
        self.receive(upload)
        self.join(upload)
        self.predict(upload)

    def handle_together(self, one: str, other: str) -> None:
        """Two runs at the same time: both have published before either looks for the other's."""
        both_published = Barrier(2, timeout=60)
        with ThreadPoolExecutor(2) as pool:
            runs = [
                pool.submit(self._handle_side_by_side, upload, both_published)
                for upload in (one, other)
            ]
            for run in runs:
                run.result()
        for upload in (one, other):
            self.predict(upload)

    def _handle_side_by_side(self, upload: str, both_published: Barrier) -> None:
        self.receive(upload)
        self.join(upload, _Waiting(self.store, both_published))

    def promote(self) -> None:
        """A new champion, and every upload that is finished predicted again."""
        self.generation += 1
        for upload in sorted(set(self.finished)):
            self.predict(upload)

    def table(self) -> dict[str, dict[str, Any]]:
        """The table without what tells one run from another."""
        found = self.store.read("pets").to_pylist()
        assert len({row["record_id"] for row in found}) == len(found)
        of_a_run = ("run_id", "predicted_at")
        return {
            row.pop("record_id"): {k: v for k, v in row.items() if k not in of_a_run}
            for row in found
        }


class _Waiting:
    """The store, but between publishing and looking up it waits for the other run."""

    def __init__(self, store: DuckDBStore, both_published: Barrier) -> None:
        self.store, self.both_published = store, both_published

    def publish(self, *arguments: Any) -> None:
        self.store.publish(*arguments)
        self.both_published.wait()

    def look_up(self, *arguments: Any) -> Any:
        return self.store.look_up(*arguments)


@contextmanager
def world(sent: list[Upload]) -> Iterator[World]:
    """A fresh lake into which these uploads came, a second apart, and an empty table."""
    folder = Path(tempfile.mkdtemp())
    try:
        settings = Settings(root=folder, lake=str(folder / "lake"))
        lake = Lake(settings)
        for number, upload in enumerate(sent):
            drop = drop_zip if upload.kind == "zip" else drop_folder
            drop(lake, f"u{number}.{upload.kind}", upload.files)
            path = settings.lake_folder / f"inbox/pets/u{number}.{upload.kind}"
            decides = path / "upload.json" if upload.kind == "folder" else path
            os.utime(decides, (START + number, START + number))
        found = find_uploads(lake, "pets").finished
        store = DuckDBStore(folder / "p.duckdb")
        yield World(lake, store, {source.upload: source for source in found})
    finally:
        shutil.rmtree(folder)


def check_nothing_is_lost(one: World) -> None:
    """Law 1, for every upload: rows, files and pictures in = what became of them."""
    for upload in one.sources:
        receipt = read_receipt(one.lake, "pets", upload)
        counts = receipt["counts"]
        assert counts["files"] == counts["images"] + counts["tables"] + counts["quarantined"]
        manifest = one.lake.read_json(of_upload("pets", upload, "manifest"))
        assert manifest is not None
        made = manifest["counts"]
        assert made["rows"] == made["records"] + made["labels_joined"] + made["rejected"]
        fates = [made[f"images_{f}"] for f in ("used", "duplicate", "superseded", "orphaned")]
        assert counts["images"] == sum(fates)
        assert made["in_manifest"] == made["with_image"] + made["without_image"]


# -- the laws -------------------------------------------------------------------------------------


def plan_of(data: st.DataObject, keys: list[str]) -> list[tuple[str, ...]]:
    """Steps in which every upload is handled at least once, and models are promoted once."""
    order = data.draw(st.permutations(keys))
    order += data.draw(st.lists(st.sampled_from(keys), max_size=1))
    steps: list[tuple[str, ...]] = []
    while order:
        both = len(order) > 1 and order[0] != order[1] and data.draw(st.booleans())
        taken, order = order[: 1 + both], order[1 + both :]
        steps.append(tuple(taken))
    steps.insert(data.draw(st.integers(0, len(steps))), ())
    return steps


def carry_out(one: World, steps: list[tuple[str, ...]]) -> None:
    for step in steps:
        if not step:
            one.promote()
        elif len(step) == 1:
            one.handle(step[0])
        else:
            one.handle_together(*step)


@examples(
    max_examples=400 if NIGHTLY else 8,
    derandomize=not NIGHTLY,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(uploads, min_size=1, max_size=4), st.data())
def test_the_table_is_a_function_of_the_uploads_and_the_champions(
    sent: list[Upload], data: st.DataObject
) -> None:
    tables = []
    for _ in range(2):
        with world(sent) as one:
            keys = sorted(one.sources)
            assert len(keys) == len(sent)
            carry_out(one, plan_of(data, keys))
            tables.append(one.table())
            check_nothing_is_lost(one)
    assert tables[0] == tables[1]
    expected = expected_table(dict(zip(keys, sent, strict=True)), generation=2)
    assert tables[0].keys() == expected.keys()
    for record, row in expected.items():
        got = tables[0][record]
        assert json.loads(got["probabilities"]) == {"age": row["age"]}
        image = row["image_sha256"] or ""
        assert got["input_hash"].partition("-")[2] == image
        for name in ("upload", "image_upload", "modality", "model_version", "label"):
            assert got[name] == row[name], (record, name)
        said, confidence = said_of(got["input_hash"], Modality(row["modality"]), 2)
        assert (got["prediction"], got["confidence"]) == (said, confidence)
        assert set(got) == {*COLUMNS, "image_upload", "label"} - {
            "record_id", "run_id", "predicted_at",
        }  # fmt: skip


def test_an_image_and_its_row_that_come_at_the_same_moment_meet() -> None:
    row, image = Upload("zip", rows=(Row("a", "1"),)), Upload("folder", photos=(Photo("a", 1, 1),))
    for sent in ([row, image], [image, row]):
        with world(sent) as one:
            one.handle_together(*sorted(one.sources))
            assert one.table()["a"]["modality"] == "with_image"
            check_nothing_is_lost(one)


def test_a_crash_between_any_two_steps_is_made_good_by_a_second_run() -> None:
    sent = [
        Upload("zip", rows=(Row("a", "1"), Row("b", "2")), photos=(Photo("b", 1, 2),)),
        Upload("folder", rows=(Row("b", "3"),), photos=(Photo("a", 1, 1),)),
    ]
    tables = []
    for crash_after in range(4):
        with world(sent) as one:
            first, second = sorted(one.sources)
            for step in (one.receive, one.join, one.predict)[:crash_after]:
                step(first)
            one.handle(second)
            one.handle(first)
            tables.append(one.table())
            check_nothing_is_lost(one)
    assert all(table == tables[0] for table in tables)
    assert {i: row["modality"] for i, row in tables[0].items()} == {
        "a": "with_image", "b": "with_image",
    }  # fmt: skip


def test_a_prediction_that_no_longer_holds_never_comes_back() -> None:
    """An image came between the join and the prediction of a run that was slow."""
    sent = [Upload("zip", rows=(Row("a", "1"),)), Upload("zip", photos=(Photo("a", 1, 1),))]
    with world(sent) as one:
        rows_key, image_key = sorted(one.sources)
        one.receive(rows_key)
        one.join(rows_key)
        one.handle(image_key)
        before = one.table()
        one.predict(rows_key)
        assert one.table() == before
        assert before["a"]["modality"] == "with_image"


def test_the_pictures_of_the_tests_are_what_they_are_said_to_be() -> None:
    from PIL import Image

    Image.open(io.BytesIO(Photo("a", 1, 1).data)).load()
    assert Photo("a", 1, 1).data != Photo("a", 1, 2).data
    assert not own_photos(Upload("zip", photos=(Photo("a", 1, 1, decodes=False),)))
