"""The whole flow on real parts: S3, DuckDB, a Dagster instance, sensors, a real AutoGluon model.

One story is told once (it trains); the tests look at what it left behind at each point.
"""

from __future__ import annotations

import csv
import io
import random
import zipfile
from types import SimpleNamespace

import dagster as dg
import pytest
from PIL import Image, ImageDraw

from mm_assets.contract.dataset import Modality
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec
from mm_assets.engines.make import make_engine
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_upload
from mm_assets.orchestration.component import resources
from mm_assets.orchestration.history import held_open
from mm_assets.orchestration.run import Runner
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Query

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: shapes
  id_column: shape_id
  label_column: kind
  problem_type: binary
  classes: [round, square]
  columns: {weight: number, colour: category, note: text}
  image_name: "{id}"
  image_longest_side: 64
  minimum_training_records: 40
  review_threshold: 0.6
  model_with_image: {hyperparameters: {optim.max_epochs: 6}}
  model_without_image: {hyperparameters: {optim.max_epochs: 8}}
"""


def drawing(kind: str, rng: random.Random) -> bytes:
    image = Image.new("RGB", (64, 64), (rng.randrange(200, 255),) * 3)
    box = (rng.randrange(4, 14), rng.randrange(4, 14), rng.randrange(48, 60), rng.randrange(48, 60))
    draw = ImageDraw.Draw(image)
    draw.ellipse(box, fill=(200, 30, 30)) if kind == "round" else draw.rectangle(
        box, fill=(30, 30, 200)
    )
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def record(number: int, rng: random.Random) -> dict:
    kind = rng.choice(["round", "square"])
    heavy = kind == "round" and rng.random() < 0.8
    return {
        "shape_id": f"s{number:04d}",
        "weight": f"{rng.gauss(6 if heavy else 3, 0.5):.2f}",
        "colour": rng.choice(["red", "blue"]),
        "note": rng.choice(["a rolling thing", "it lies still"]) if rng.random() < 0.9 else "",
        "kind": kind,
    }


def table(records: list[dict], columns: list[str]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue().encode()


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return stream.getvalue()


ALL = ["shape_id", "weight", "colour", "note", "kind"]
UNLABELLED = ALL[:-1]


class Story:
    """Drives sensors and jobs as the daemon would, in this process."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        file = settings.defs_folder / "shapes" / "defs.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(YAML)
        self.settings, self.instance = settings, instance
        self.spec = load_spec(file)
        self.lake = Lake(settings)
        self.store = open_store(settings)
        self.models = ModelStore(self.lake, "shapes")
        self.runner = Runner(self.spec, instance, print)
        self.repository = self.runner.definitions.get_repository_def()
        self.cursors: dict[str, str] = {}
        self.seen: dict[str, SimpleNamespace] = {}

    def drop(self, name: str, files: dict[str, bytes]) -> None:
        self.lake.write(f"inbox/shapes/{name}.zip", archive(files))

    def tick(self, name: str):
        """One tick of a sensor; its requests are carried out as the daemon would."""
        sensor = self.repository.get_sensor_def(f"shapes_{name}")
        context = dg.build_sensor_context(
            self.instance,
            instance_ref=self.instance.get_ref(),
            cursor=self.cursors.get(name),
            repository_def=self.repository,
            resources=resources(),
        )
        with context:
            data = sensor.evaluate_tick(context)
        for request in data.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(
                request.partitions_def_name, request.partition_keys
            )
        if data.cursor:
            self.cursors[name] = data.cursor
        return data

    def requests(self, name: str) -> list[dg.RunRequest]:
        return list(self.tick(name).run_requests or [])

    def carry_out(self, name: str, job: str) -> list:
        """A tick, and every run that it requests."""
        return [self.runner.run(job, request.partition_key) for request in self.requests(name)]

    def table(self) -> dict[str, dict]:
        return {row["record_id"]: row for row in self.store.read("shapes").to_pylist()}

    def remember(self, moment: str, **more) -> None:
        self.seen[moment] = SimpleNamespace(table=self.table(), **more)


@pytest.fixture(scope="module")
def story(s3_endpoint, s3_client, tmp_path_factory):
    root = tmp_path_factory.mktemp("flow")
    s3_client.create_bucket(Bucket="flow")
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": s3_endpoint, "AWS_REGION": "us-east-1",
        "MM_LAKE": "s3://flow/lake", "MM_ROOT": str(root), "HF_HUB_OFFLINE": "1",
    }.items():  # fmt: skip
        patch.setenv(name, value)
    home = tmp_path_factory.mktemp("home")
    with dg.instance_for_test(temp_dir=str(home)) as instance, held_open(instance):
        told = Story(Settings.from_environment(), instance)
        tell(told)
        yield told
    patch.undo()


def tell(story: Story) -> None:
    rng = random.Random(0)
    labelled = [record(n, rng) for n in range(160)]
    unlabelled = [record(n, rng) for n in range(1000, 1030)]
    story.truth = {r["shape_id"]: r["kind"] for r in unlabelled}

    def images(records):
        return {f"images/{r['shape_id']}.png": drawing(r["kind"], rng) for r in records}

    # 1. Unlabelled records come before there is any model.
    first = {"shapes.csv": table(unlabelled, UNLABELLED), **images(unlabelled[:20])}
    first["images/s1020.png"] = first["images/s1000.png"][:60]
    story.drop("unlabelled", first)
    story.early = story.carry_out("uploads", "upload")
    first_upload = story.early[0].upload
    story.remember(
        "before any champion",
        training=story.tick("training").skip_message,
        document=story.lake.read_json(of_upload("shapes", first_upload, "predictions")),
    )

    # 2. Labelled records come; the sensor asks for a training; the promotion for predictions.
    story.drop("labelled", {"shapes.csv": table(labelled, ALL), **images(labelled[:140])})
    story.labelled = story.carry_out("uploads", "upload")
    story.training_requests = story.requests("training")
    story.trained = story.runner.run("train", None)
    story.repredicted = story.carry_out("repredict", "predict")
    story.remember("after training", repredict_again=story.requests("repredict"))

    # 3. Images that were missing come late.
    story.drop("late", images(unlabelled[20:25]))
    story.late = story.carry_out("uploads", "upload")
    story.remember("after late images")

    # 4. Labels come much later, in a table of their own.
    story.drop("labels", {"labels.csv": table(unlabelled[:10], ["shape_id", "kind"])})
    story.labels = story.carry_out("uploads", "upload")
    story.remember("after late labels")

    # 5. Everything once more, in another order, as a backfill would.
    partitions = story.instance.get_dynamic_partitions("shapes_uploads")
    story.backfilled = [story.runner.run("upload", key) for key in sorted(partitions, reverse=True)]
    story.remember("after a backfill of everything")
    story.monitored = story.runner.run("monitor", None)
    story.checked = list(story.runner.check())


def without_run(table: dict[str, dict]) -> dict[str, dict]:
    return {
        key: {name: value for name, value in row.items() if name not in ("run_id", "predicted_at")}
        for key, row in table.items()
    }


def test_an_upload_before_any_champion_waits_and_says_so(story):
    assert story.seen["before any champion"].table == {}
    [outcome] = story.early
    assert outcome.success
    assert not outcome.failed_checks
    document = story.seen["before any champion"].document
    assert document["counts"]["waiting"] == 30
    assert all("no champion yet" in reason for reason in document["reasons"])
    assert len(document["reasons"]) == 2


def test_a_training_is_requested_once_enough_labelled_records_came(story):
    assert "40 are needed" in story.seen["before any champion"].training
    assert [request.run_key for request in story.training_requests] == ["train-160"]


def test_both_models_pass_their_gates_and_are_promoted(story):
    assert story.trained.success, story.trained.problem
    for modality in Modality:
        champion = story.models.champion(modality)
        assert champion is not None
        assert champion.generation == 1
        manifest = story.models.manifest(modality, champion.version)
        assert manifest["metrics"]["accuracy"] > manifest["baseline"]["accuracy"]


def test_a_promotion_predicts_every_upload_again_and_only_once(story):
    assert len(story.repredicted) == 1  # the labelled upload holds nothing to predict
    assert all(outcome.is_good for outcome in story.repredicted)
    assert story.seen["after training"].repredict_again == []
    assert len(story.seen["after training"].table) == 30


def test_a_record_is_with_image_only_if_its_image_decodes(story):
    rows = story.seen["after training"].table
    with_image = {key for key, row in rows.items() if row["modality"] == "with_image"}
    assert with_image == {f"s{n}" for n in range(1000, 1020)}
    assert rows["s1020"]["modality"] == "without_image"


def test_labelled_records_are_not_predicted(story):
    assert not any(key < "s1000" for key in story.table())


def test_a_late_image_turns_the_prediction_into_one_with_image(story):
    before, after = story.seen["after training"].table, story.seen["after late images"].table
    late = {f"s{n}" for n in range(1020, 1025)}
    assert {key for key in after if after[key] != before[key]} == late
    assert {after[key]["modality"] for key in late} == {"with_image"}
    assert sum(row["modality"] == "with_image" for row in after.values()) == 25


def test_a_label_that_comes_later_stands_beside_the_prediction(story):
    rows = story.seen["after late labels"].table
    labelled = {key: row["label"] for key, row in rows.items() if row["label"] is not None}
    assert labelled == {f"s{n}": story.truth[f"s{n}"] for n in range(1000, 1010)}
    before = story.seen["after late images"].table
    for key, row in rows.items():
        assert {**row, "label": None} == {**before[key], "label": None}


def test_a_backfill_in_another_order_changes_nothing(story):
    assert all(outcome.success for outcome in story.backfilled)
    assert story.seen["after a backfill of everything"].table == (
        story.seen["after late labels"].table
    )


def test_the_table_has_one_row_a_record_with_the_columns_of_the_contract(story):
    row = story.table()["s1000"]
    assert list(row)[:14] == [
        "record_id", "prediction", "lower", "upper", "probabilities", "confidence", "needs_review",
        "doubts", "modality", "model_version", "upload", "input_hash", "run_id", "predicted_at",
    ]  # fmt: skip
    assert row["prediction"] in ("round", "square")
    unsure = row["confidence"] < story.spec.review.threshold
    assert row["needs_review"] == (unsure or row["doubts"] is not None)


def test_the_model_with_images_sees_what_the_table_does_not_tell(story):
    rows = story.table()
    seen = [key for key, row in rows.items() if row["modality"] == "with_image"]
    right = sum(rows[key]["prediction"] == story.truth[key] for key in seen)
    assert right / len(seen) >= 0.85


def test_a_stored_prediction_is_the_same_as_the_record_predicted_alone(story):
    from mm_assets.engines.frames import feature_frame
    from mm_assets.uploads.received import read_document, read_images, read_parquet

    upload = story.early[0].upload
    document = read_document(story.lake, "shapes", upload, "records_with_image")
    records = read_parquet(story.lake, document, "records_with_image.parquet").slice(3, 1)
    sha = records["image_sha256"][0].as_py()
    [images] = read_images(story.lake, "shapes", records["image_upload"][0].as_py(), {sha})
    champion = story.models.champion(Modality.WITH_IMAGE)
    folder = story.models.fetch(Modality.WITH_IMAGE, champion.version)
    alone = (
        make_engine(story.spec.model_with_image[0])
        .load(folder)
        .predict(feature_frame(records, story.spec, Modality.WITH_IMAGE, images))
    )
    stored = story.table()[records["record_id"][0].as_py()]
    assert alone.max(axis=1)[0] == pytest.approx(stored["confidence"], abs=1e-5)


def test_every_check_of_every_asset_ran_and_none_failed_with_error(story):
    uploads = len(story.instance.get_dynamic_partitions("shapes_uploads"))
    assert len(story.checked) == uploads + 1
    assert all(outcome.is_good for outcome in story.checked), story.checked


def test_monitoring_holds_images_and_the_live_accuracy(story):
    assert story.monitored.is_good, story.monitored
    event = story.instance.get_latest_materialization_event(dg.AssetKey(["shapes", "monitoring"]))
    metadata = event.asset_materialization.metadata
    assert metadata["confidence"].value.startswith("![confidence](data:image/png;base64,")
    assert metadata["live n"].value == 10


def test_training_shows_its_metrics_and_images_in_the_ui(story):
    key = dg.AssetKey(["shapes", "model_with_image"])
    event = story.instance.get_latest_materialization_event(key)
    metadata = event.asset_materialization.metadata
    assert metadata["promoted"].value is True
    assert "data:image/png;base64," in metadata["confusion matrix"].value
    assert 0 < metadata["held-out accuracy"].value <= 1


def test_queries_by_upload_review_and_id_agree_with_the_table(story):
    rows = story.table()
    upload = story.late[0].upload
    by_upload = story.store.read("shapes", Query(upload=upload))["record_id"].to_pylist()
    assert sorted(by_upload) == [f"s{n}" for n in range(1020, 1025)]
    review = story.store.read("shapes", Query(needs_review=True))["record_id"].to_pylist()
    assert set(review) == {key for key, row in rows.items() if row["needs_review"]}


def test_a_refused_archive_is_settled_with_its_reason_and_holds_nobody_back(story):
    before = without_run(story.table())
    story.lake.write("inbox/shapes/evil.zip", archive({"../evil.csv": b"x"}))
    [outcome] = story.carry_out("uploads", "upload")
    assert outcome.success
    assert any("archive_unsafe_name" in words for words in outcome.failed_checks)
    assert not outcome.is_good
    assert story.requests("uploads") == []
    assert without_run(story.table()) == before
