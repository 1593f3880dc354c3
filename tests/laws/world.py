"""One lake and one table, and the runs that take uploads through.

Everything is real but the model (see champion.py) and Dagster: what its assets do in their order
is done here by `World.run`, and what its sensors note is noted here by `World.look`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import UploadError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, inbox, of_upload, records_name
from mm_assets.manifest.join import build_manifest
from mm_assets.manifest.split import split_records
from mm_assets.predictions.merge import merge_predictions
from mm_assets.predictions.predict import predict_records
from mm_assets.predictions.withdraw import withdraw
from mm_assets.registry.pins import (
    Generations,
    generations,
    pin_of_backfill,
    pinned_champions,
)
from mm_assets.registry.store import ModelStore
from mm_assets.tables.duckdb.store import DuckDBStore
from mm_assets.tables.dynamodb.store import DynamoDBStore
from mm_assets.tables.merge_rule import ORDER
from mm_assets.tables.store import MergeResult, Store
from mm_assets.uploads import ledger
from mm_assets.uploads.find import find_uploads, read_source
from mm_assets.uploads.received import read_parquet
from mm_assets.uploads.take_in import take_in
from mm_assets.uploads.withdrawals import WITHDRAWN, withdrawn_uploads
from tests.laws.champion import ENGINE, save
from tests.laws.process import Process, WatchedLake, WatchedStore
from tests.laws.reference import Wording, expected_table, meant, n_images, refused
from tests.laws.uploads import RECORDS, Upload
from tests.make import dataset as pets
from tests.make import drop_folder, drop_zip
from tests.tables.faults import Wire

START = 1_790_000_000  # the first upload arrives; the others a second apart
FATES = ("used", "duplicate", "superseded", "orphaned", "withdrawn")
# What the YAML says in turn: the last ones take `3` for a missing value, and one wants a value.
WORDINGS = (
    Wording(), Wording(0.9), Wording(0.6, ("", "3")), Wording(0.6, ("", "3"), required=True),
)  # fmt: skip
JOINED = (MANIFEST, *(records_name(modality) for modality in Modality))


@dataclass
class Delivery:
    """What somebody put into the inbox, when, and under which name."""

    moment: int
    name: str
    upload: Upload
    was_overwritten: bool = False
    # Whether a receipt must be there, cannot be, or may be; decided when it is overwritten.
    is_received: bool | None = True


@dataclass
class Run:
    """What one run did, filled in as it goes."""

    upload: str
    spec: DatasetSpec
    pin: Generations = field(default_factory=dict)
    joined: dict[str, Any] = field(default_factory=dict)
    offered: list[dict[str, Any]] = field(default_factory=list)
    result: MergeResult | None = None


class World:
    """One lake and one table; the runs in it, and what is known about the uploads."""

    def __init__(self, dataset: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mm-laws-", dir=_fast_disk()))
        self.settings = Settings(root=self.folder, lake=str(self.folder / "lake"))
        self.lake = Lake(self.settings)
        self.dataset = dataset
        self.models = ModelStore(self.lake, dataset)
        self.store: Store
        self.deliveries: dict[str, Delivery] = {}  # by the upload's key, once it was seen
        self.unseen: list[Delivery] = []
        self.begun: set[str] = set()
        self.n_begun = 0
        self.finished: set[str] = set()
        self.runs: list[Run] = []  # that joined: they can be replayed
        self.numbers: dict[tuple[Modality, str], int] = {}  # of models, by version
        self.backfills: dict[str, Generations] = {}
        self.wire: Wire | None = None
        self._orders: dict[str, tuple[Any, ...]] = {}

    def close(self) -> None:
        """Safe to repeat."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- people -------------------------------------------------------------------------------

    def deliver(self, moment: int, name: str, upload: Upload) -> None:
        """Somebody sends an upload; what lay in the inbox under its name is overwritten."""
        for other in [*self.deliveries.values(), *self.unseen]:
            if other.name == name and not other.was_overwritten:
                self._overwrite(other)
        place = f"{inbox(self.dataset)}{name}"
        if upload.kind == "zip":
            drop_zip(self.lake, name, upload.files, self.dataset)
        else:
            for item in [*self.lake.list(f"{place}/")]:
                self.lake.delete(item.key)
            drop_folder(self.lake, name, upload.files, self.dataset)
        path = self.settings.lake_folder / place
        decides = path / "upload.json" if upload.kind == "folder" else path
        os.utime(decides, (START + moment, START + moment))
        self.unseen.append(Delivery(moment, name, upload))

    def _overwrite(self, delivery: Delivery) -> None:
        delivery.was_overwritten = True
        key = next((k for k, one in self.deliveries.items() if one is delivery), None)
        if key is None:
            self.unseen.remove(delivery)
            return
        receipt = self.lake.read_json(of_upload(self.dataset, key, "raw_uploads"))
        if receipt is not None and not receipt["refused"]:
            delivery.is_received = True
        else:
            delivery.is_received = None if key in self.begun else False

    def promote(self, modality: Modality, number: int) -> None:
        """Train model `number` and promote it; a number that was there before is a roll-back."""
        known = [v for (m, v), n in self.numbers.items() if (m, n) == (modality, number)]
        version = known[0] if known else self._save(modality, number)
        self.models.promote(modality, version, "because")

    def promote_both(self, number: int = 1) -> None:
        for modality in Modality:
            self.promote(modality, number)

    def _save(self, modality: Modality, number: int) -> str:
        version = save(self.models, wording(self.dataset), modality, number)
        self.numbers[modality, version] = number
        return version

    # -- sensors ------------------------------------------------------------------------------

    def look(self) -> None:
        """What a tick of the uploads sensor notes."""
        for source in find_uploads(self.lake, self.dataset, self.deliveries.keys()).finished:
            if source.upload in self.deliveries:
                continue
            [delivery] = [one for one in self.unseen if one.name == source.name]
            self.unseen.remove(delivery)
            self.deliveries[source.upload] = delivery
            ledger.note(self.lake, source)
        assert not self.unseen, self.unseen

    def pending(self) -> list[str]:
        return ledger.pending_uploads(self.lake, self.dataset)

    # -- runs ---------------------------------------------------------------------------------

    def begin(
        self,
        run: Run,
        *,
        receives: bool = True,
        backfill: str = "",
        replay: Run | None = None,
    ) -> Process:
        """A run of one upload, not begun yet: of the job `upload`, or of `predict`.

        backfill: pinned once for all runs of the backfill of this name; else `run.pin`, if it is
        given. replay: publish and predict what that earlier run found, instead of looking again.
        """
        self.begun.add(run.upload)
        self.n_begun += 1
        number = f"run-{self.n_begun}"

        def work(process: Process) -> None:
            lake = WatchedLake(self.settings, process, self.lake)
            store: Any = WatchedStore(self.store, process)
            models = ModelStore(lake, self.dataset)
            if receives and replay is None:
                process.call("receive")
                source = read_source(lake, self.dataset, run.upload)
                take_in(lake, run.spec, source, run_id=number, progress=_silent)
            if replay is None:
                process.call("join")
                build_manifest(lake, store, run.spec, run.upload, run_id=number)
                for modality in Modality:
                    split_records(lake, run.spec, run.upload, modality)
                run.joined = {name: self.document(run.upload, name) for name in JOINED}
                self.runs.append(run)
            else:
                run.joined = replay.joined
                for name in JOINED:
                    pointer = of_upload(self.dataset, run.upload, name)
                    lake.write_json(pointer, run.joined[name])
            process.call("predict")
            if backfill:
                run.pin = pin_of_backfill(lake, models, backfill)
            elif not run.pin:
                run.pin = generations(models)
            try:
                for modality in Modality:
                    self._predict(lake, models, run, modality, number)
                    process.call(f"predicted {modality}")
            except UploadError as error:
                if error.code != "wording_changed":
                    raise
                return  # the run fails, and whoever asked for it asks again
            result, _ = merge_predictions(lake, store, run.spec, run.upload)
            run.result = result
            process.call("settle")
            ledger.settle(lake, self.dataset, run.upload)
            self.finished.add(run.upload)
            self._check(run, backfill)

        return Process(work)

    def withdraw(self, upload: str) -> Process:
        """A person takes an upload back; not begun yet."""

        def work(process: Process) -> None:
            lake = WatchedLake(self.settings, process, self.lake)
            store: Any = WatchedStore(self.store, process)
            withdraw(lake, store, wording(self.dataset), upload, "because")

        return Process(work)

    def _predict(
        self, lake: Lake, models: ModelStore, run: Run, modality: Modality, number: str
    ) -> None:
        document = predict_records(
            lake, models, run.spec, run.upload, modality,
            champions=pinned_champions(models, run.pin),
            run_id=number, progress=_silent,
        )  # fmt: skip
        assert (document["model_generation"] or 0) == run.pin[modality]
        name = f"predictions_{modality}.parquet"
        run.offered += read_parquet(self.lake, document, name).to_pylist()

    def go_on(self, process: Process, *until: Any) -> None:
        """Let a run go on; its requests to DynamoDB count for it."""
        if self.wire is not None:
            self.wire.rule = lambda operation, request: process.request()
        process.go_on(*until)
        if self.wire is not None:
            self.wire.rule = lambda operation, request: None

    def handle(self, upload: str, spec: DatasetSpec | None = None, **how: Any) -> Run:
        """Take one upload through, to the end."""
        run = Run(upload, spec or wording(self.dataset))
        self.go_on(self.begin(run, **how))
        return run

    def document(self, upload: str, name: str) -> dict[str, Any]:
        found = self.lake.read_json(of_upload(self.dataset, upload, name))
        assert found is not None, (upload, name)
        return found

    # -- what must hold -----------------------------------------------------------------------

    def _check(self, run: Run, backfill: str) -> None:
        """What a run said is in the table, or something greater is; its pin was kept."""
        assert self.backfills.setdefault(backfill, run.pin) == run.pin or not backfill
        there = self.orders()
        for one in run.offered:
            order = tuple(one[name] for name in ORDER)
            assert self.is_void(one["record_id"], order) or there[one["record_id"]] >= order, one
            assert one["model_generation"] == run.pin[Modality(one["modality"])]

    def is_void(self, record: str, order: tuple[Any, ...]) -> bool:
        """Whether an answer may be gone: withdrawn, or its row was refused, by whatever wording."""
        said = dict(zip(ORDER, order, strict=True))
        withdrawn = withdrawn_uploads(self.lake, self.dataset)
        by, _, image_upload = said["image_order"].rpartition("+")
        return (
            (by and self.may_be_unclear(record))
            or not withdrawn.isdisjoint((said["upload"], image_upload, by))
            or any(
                key >= said["upload"] and record in refused(one.upload, wording)
                for key, one in self.deliveries.items()
                for wording in WORDINGS
            )
        )

    def may_be_unclear(self, record: str) -> bool:
        """Whether the rows of a record name what several images may be called, some time."""
        cells = {row.names for one in self.deliveries.values() for row in one.upload.rows
                 if row.record == record}  # fmt: skip
        return any(
            len({photo.name for one in self.deliveries.values() for photo in
                 meant(cell, one.upload)}) > 1
            for cell in cells
        )  # fmt: skip

    def orders(self) -> dict[str, tuple[Any, ...]]:
        """Each record's place in the order, read past the store."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Any]]:
        """Each record's ORDER by name."""
        return [dict(zip(ORDER, order, strict=True)) for order in self.orders().values()]

    def check_it_never_regresses(self) -> None:
        now = self.orders()
        for record, order in self._orders.items():
            assert self.is_void(record, order) or now[record] >= order, record
        self._orders = now

    def contributes(self, upload: str) -> bool:
        """Whether what was sent counts: it was received before somebody overwrote it."""
        delivery = self.deliveries[upload]
        receipt = self.document(upload, "raw_uploads")
        code = (receipt["refused"] or {"code": ""})["code"]
        assert code in ("", "upload_superseded", WITHDRAWN), receipt["refused"]
        assert code == WITHDRAWN or delivery.is_received in (None, not code), (upload, delivery)
        return not code

    def check_nothing_is_lost(self) -> None:
        """Law 1, for every upload: rows, files and images in = what became of them."""
        for upload, delivery in self.deliveries.items():
            receipt = self.lake.read_json(of_upload(self.dataset, upload, "raw_uploads"))
            if receipt is None:
                assert upload in self.pending()
                continue
            counts = receipt["counts"]
            sent = delivery.upload if self.contributes(upload) else Upload("zip")
            assert counts["files"] == len(sent.files)
            assert counts["files"] == counts["images"] + counts["tables"] + counts["quarantined"]
            assert counts["rows"] == len(sent.rows) + len(sent.labels)
            manifest = self.lake.read_json(of_upload(self.dataset, upload, MANIFEST))
            if manifest is None:
                assert upload in self.pending()
                continue
            made = manifest["counts"]
            assert made["rows"] == counts["rows"]
            kept = made["records"] + made["labels_joined"] + made.get("withdrawn", 0)
            assert made["rows"] == kept + made["rejected"]
            fates = [made.get(f"images_{fate}", 0) for fate in FATES]
            assert n_images(sent) == sum(fates)
            assert made["in_manifest"] == made["with_image"] + made["without_image"]
            assert upload in self.finished or upload in self.pending()

    # -- the table ----------------------------------------------------------------------------

    def table(self) -> dict[str, dict[str, Any]]:
        """The table as anybody reads it."""
        found = self.store.read(self.dataset).to_pylist()
        assert len({row["record_id"] for row in found}) == len(found)
        return {row.pop("record_id"): row for row in found}

    def expected(self, spec: DatasetSpec) -> dict[str, dict[str, Any]]:
        """The table as the reference has it."""
        gone = withdrawn_uploads(self.lake, self.dataset)
        sent = {
            key: d.upload
            for key, d in self.deliveries.items()
            if self.contributes(key) and key not in gone
        }
        champions = {}
        for modality in Modality:
            champion = self.models.champion(modality)
            assert champion is not None
            champions[str(modality)] = (self.numbers[modality, champion.version], champion.version)
        own = Wording(spec.review_threshold, spec.missing_values, spec.columns["age"].required)
        return expected_table(sent, champions, own)

    def check_the_table(self, spec: DatasetSpec) -> None:
        """The table is the reference, exactly, and every champion's answer is its newest."""
        expected, found = self.expected(spec), self.table()
        assert found.keys() == expected.keys()
        for record, row in found.items():
            row["image_sha256"] = row.pop("input_hash").partition("-")[2]
            row["probabilities"] = json.loads(row["probabilities"])
            assert row.pop("run_id").startswith("run-")
            assert row.pop("predicted_at")
            assert row == expected[record], record

    def predict_all(self, spec: DatasetSpec, order: Callable[[list[str]], None]) -> list[Run]:
        """Everything that is under way is taken through; everything is predicted once more."""
        self.look()
        for upload in self.pending():
            self.handle(upload, spec)
        assert not self.pending()
        uploads = sorted(self.finished)
        order(uploads)
        return [self.handle(upload, spec, receives=False) for upload in uploads]


class DuckDBWorld(World):
    """A lake and a DuckDB file of its own."""

    def __init__(self, dataset: str) -> None:
        super().__init__(dataset)
        path = self.folder / "p.duckdb"
        self.store = DuckDBStore(path)
        # Opening a file takes DuckDB 25 ms, unless it is open in the same process.
        self.kept = duckdb.connect(str(path))
        self.store.counts(self.dataset)

    def close(self) -> None:
        self.kept.close()
        super().close()

    def orders(self) -> dict[str, tuple[Any, ...]]:
        with self.kept.cursor() as db:
            rows = db.execute(f"SELECT record_id, {', '.join(ORDER)} FROM predictions").fetchall()
        return {row[0]: row[1:] for row in rows}


class DynamoDBWorld(World):
    """A lake of its own, and a dataset of its own in a DynamoDB table."""

    def __init__(self, client: Any, table: str, dataset: str, wire: Wire) -> None:
        super().__init__(dataset)
        self.wire = wire
        self.client, self.table_name = client, table
        self.store = DynamoDBStore(client, table, patience=20.0)

    def orders(self) -> dict[str, tuple[Any, ...]]:
        from mm_assets.tables.dynamodb import items

        keys = [items.key_of(items.partition(self.dataset, r), items.PREDICTION) for r in RECORDS]
        asked = {self.table_name: {"Keys": keys, "ConsistentRead": True}}
        found = self.client.batch_get_item(RequestItems=asked)["Responses"][self.table_name]
        plain = [items.prediction_of(item) for item in found if "order_key" in item]
        return {one["record_id"]: tuple(one[name] for name in ORDER) for one in plain}


def wording(
    dataset: str, threshold: float = 0.6, missing: Iterable[str] = ("",), required: bool = False
) -> DatasetSpec:
    """The YAML, of which three values can change."""
    engine = {"engine": ENGINE}
    return pets(
        dataset=dataset, columns={"age": {"kind": "number", "required": required}},
        image_name="{id}-{n}", image_column="photo",
        model_with_image=engine, model_without_image=engine,
        review_threshold=threshold, missing_values=tuple(missing),
    )  # fmt: skip


def _silent(_: str) -> None:
    pass


def _fast_disk() -> str | None:
    """Memory, where there is some: thousands of small files, none of which is kept."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
