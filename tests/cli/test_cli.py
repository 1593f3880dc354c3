"""`mm` as a person and as cron use it: what is printed where, and with which exit code."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from mm_assets.cli.main import app
from mm_assets.contract.spec_file import load_spec
from mm_assets.display import console
from mm_assets.predictions.predict import empty_predictions
from mm_assets.tables.open import open_store
from mm_assets.uploads import ledger
from tests.make import drop_zip, found
from tests.tables.offers import offer

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: parts
  id_column: part
  label_column: state
  problem_type: binary
  columns: {weight: number, maker: category}
"""

# For what is slow and the same over S3.
in_a_folder = pytest.mark.parametrize("settings", ["folder"], indirect=True)


@pytest.fixture
def project(settings) -> Path:
    """A project with one dataset, over a folder and over S3."""
    file = settings.defs_folder / "parts" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML)
    return settings.root


@pytest.fixture
def run():
    def invoke(*arguments: str, code: int = 0):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return invoke


def delivery(folder: Path, *, bad: bool = True) -> Path:
    (folder / "images").mkdir(parents=True)
    rows = [["part", "weight", "maker"], ["a1", "1.5", "acme"], ["a2", "2.5", "acme"]]
    if bad:
        rows.append(["a3", "1,5", "acme"])
    with (folder / "parts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    Image.new("RGB", (20, 20), "red").save(folder / "images" / "a1.png")
    if bad:
        (folder / "images" / "a2.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
        (folder / "notes.bin").write_bytes(bytes(range(256)))
    return folder


def test_an_upload_is_checked_sent_synced_and_accounted_for(project, run, tmp_path):
    folder = delivery(tmp_path / "first delivery")
    sent = run("upload", folder, "--format", "json", code=3)
    report = json.loads(sent.stdout)
    assert report["check"]["counts"]["images"] == 1
    assert (
        "used in part: 1 of 3 rows and 2 of 4 files left out: file_type 1 (notes.bin), "
        "image_unreadable 1 (images/a2.jpg), number_invalid 1 (parts.csv:4)"
    ) in sent.stderr
    assert "Write a finite number" in sent.stderr

    synced = run("sync", "--format", "json", code=1)
    assert "check failed: refused_share" in synced.stderr
    upload, monitor = json.loads(synced.stdout)
    assert (upload["job"], monitor["job"], monitor["end"]) == ("upload", "monitor", "used")
    assert upload["end"] == "failed"
    assert upload["words"].startswith("used in part: 1 of 3 rows and 2 of 4 files")
    assert run("sync").stderr.strip().endswith("No new uploads.")

    receipt = json.loads(run("receipt", "first_delivery", "--format", "json").stdout)
    fates = {file["file"]: (file["fate"], file["code"]) for file in receipt["files"]}
    assert fates == {
        "parts.csv": ("used", None),
        "images/a1.png": ("used", None),
        "images/a2.jpg": ("quarantined", "image_unreadable"),
        "notes.bin": ("quarantined", "file_type"),
    }
    [reject] = receipt["rejects"]
    assert (reject["code"], reject["file"], reject["line"]) == ("number_invalid", "parts.csv", 4)
    assert reject["todo"]


def test_predictions_are_an_empty_list_before_any_champion(project, run):
    assert json.loads(run("predictions", "--format", "json").stdout) == []
    assert "No predictions yet: there is no model. `mm train`" in run("predictions").stderr
    assert "'yesterday' is no time" in run("predictions", "--since", "yesterday", code=2).stderr
    assert "upload_unknown" in run("predictions", "--upload", "never", code=2).stderr


@in_a_folder
def test_interval_and_doubts_are_shown_where_there_are_any_and_always_in_files(
    project, run, settings, monkeypatch
):
    monkeypatch.setattr(console.out(), "_width", 160)  # COLUMNS counts when it is made

    def put(**said):
        row = offer("a1", confidence=0.1, **said)
        table = pa.Table.from_pylist([row], schema=empty_predictions().schema)
        open_store(settings).merge("parts", table)

    put(prediction="good")
    assert "needs_review" in run("predictions").stdout
    assert not {"lower", "upper", "doubts"} & set(run("predictions").stdout.split())
    [row] = json.loads(run("predictions", "--format", "json").stdout)
    assert (row["lower"], row["upper"], row["doubts"]) == (None, None, None)
    header, _ = run("predictions", "--format", "csv").stdout.splitlines()
    assert header.startswith("record_id,prediction,lower,upper,probabilities,confidence,")
    put(prediction="5", lower=4.25, upper=123456.7, doubts="far_number (weight)", content_hash="1")
    shown = run("predictions").stdout
    assert all(word in shown for word in ("lower", "4.250", "123457", "doubts", "far_number"))
    assert "far_number (weight)" in run("predictions", "--format", "csv").stdout
    assert "none is like that" in run("predictions", "--id", "a2").stderr
    listed = json.loads(run("review", "list", "--format", "json").stdout)
    assert [row["why"] for row in listed] == ["far_number (weight)"]


def test_the_same_folder_sent_twice_is_sent_once(project, run, tmp_path):
    folder = delivery(tmp_path / "d", bad=False)
    run("upload", folder)
    assert "was there already" in run("upload", folder).stderr


@in_a_folder
def test_several_are_sent_as_uploads_of_their_own_and_the_worst_end_counts(
    project, run, tmp_path, lake
):
    one, two = (delivery(tmp_path / name, bad=False) for name in ("one", "two"))
    (two / "parts.csv").write_text("part,weight,maker\nb1,2.5,acme\n")
    sent = run("upload", one, tmp_path / "gone.zip", two, "--format", "json", code=2)
    assert "upload_missing" in sent.stderr
    assert {item.key.split("/")[2] for item in lake.list("inbox/parts/")} == {"one", "two"}
    decoder, text, ends = json.JSONDecoder(), sent.stdout.strip(), []
    while text:  # one object for each that was sent, as jq reads them
        document, used = decoder.raw_decode(text)
        ends.append(document["check"]["end"])
        text = text[used:].lstrip()
    assert ends == ["used", "used"]
    assert "one upload" in run("upload", one, two, "--name", "both", code=2).stderr
    pieces = run("upload", one / "parts.csv", one / "images" / "a1.png", code=2)
    assert "give the folder" in pieces.stderr
    assert not list(lake.list("inbox/parts/parts"))


def test_strict_upload_sends_nothing_if_something_would_be_refused(project, run, tmp_path):
    run("upload", delivery(tmp_path / "d"), "--strict", code=2)
    assert "No new uploads" in run("sync").stderr


@in_a_folder
def test_a_refused_archive_is_nothing_used_and_sync_says_why(project, run, settings, lake):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../evil.csv", "part,weight,maker\n")
    lake.write("inbox/parts/evil.zip", stream.getvalue())
    result = run("sync", code=2)
    assert "✗ parts: upload" in result.stderr
    assert "nothing used: [archive_unsafe_name]" in result.stderr
    assert "Rename the file" in result.stderr
    assert "runs failed" not in result.stderr
    assert "No new uploads" in run("sync").stderr


def test_an_unfinished_folder_is_named_with_its_reason(project, run, lake):
    lake.write("inbox/parts/half/parts.csv", b"part,weight,maker\n")
    assert "half is not finished: no upload.json yet" in run("sync").stderr


def test_an_unknown_upload_and_dataset_are_answered_in_words(project, run):
    assert "known uploads" in run("receipt", "nonsense", code=2).stderr
    assert "Write --dataset with one of: parts" in run("sync", "-d", "cars", code=1).stderr
    assert "upload_missing" in run("upload", "/no/such/folder", code=2).stderr


@in_a_folder
def test_too_few_records_to_train_are_no_failure_but_nothing_was_trained(project, run, tmp_path):
    run("upload", delivery(tmp_path / "d", bad=False))
    run("sync")
    result = run("train", "--format", "json", code=2)
    assert "✗ parts: train: nothing used: no model was trained" in result.stderr
    assert "Send records with a value in 'state'" in result.stderr
    assert "runs failed" not in result.stderr
    assert json.loads(result.stdout)[0]["end"] == "nothing used"


def test_doctor_finds_a_good_project_good(project, run):
    findings = json.loads(run("doctor", "--format", "json").stdout)
    assert all(finding["good"] for finding in findings)


@in_a_folder
def test_doctor_names_a_lake_that_cannot_be_reached(project, run, monkeypatch):
    monkeypatch.setenv("MM_LAKE", "s3://no-such-bucket-here/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    findings = json.loads(run("doctor", "--format", "json", code=1).stdout)
    [lake] = [finding for finding in findings if finding["what"] == "lake"]
    assert not lake["good"]
    assert lake["todo"]


@in_a_folder
def test_a_mistake_in_the_yaml_is_answered_with_its_line(project, run, settings):
    file = settings.defs_folder / "parts" / "defs.yaml"
    file.write_text(YAML.replace("number", "numbr"))
    result = run("sync", code=1)
    assert f"{file}:8" in result.stderr
    assert "'number', 'category' or 'text'" in result.stderr


def test_init_drafts_a_yaml_that_loads(folder_settings, run, tmp_path):
    table = tmp_path / "cars.csv"
    rows = [["vin", "km", "fuel", "sold"]]
    rows += [[f"v{n}", str(n * 37.5), "petrol" if n % 3 else "diesel", "yes" if n % 2 else "no"]
             for n in range(60)]  # fmt: skip
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    run("init", table, "--id", "vin", "--label", "sold", "--dataset", "cars")
    spec = load_spec(folder_settings.defs_folder / "cars" / "defs.yaml")
    assert spec.kinds == {"km": "number", "fuel": "category"}
    assert "has a YAML already" in (
        run("init", table, "--id", "vin", "--label", "sold", "--dataset", "cars", code=1).stderr
    )


def noted(lake, name: str) -> str:
    """An upload that the sensor has seen."""
    drop_zip(lake, name, {"t.csv": b"part,weight,maker\na,1,b\n"}, "parts")
    source = found(lake, name, "parts")
    ledger.note(lake, source)
    return source.upload


def test_uploads_are_listed_newest_first_with_where_they_stand(project, run, lake):
    assert json.loads(run("uploads", "--format", "json").stdout) == []
    uploads = sorted(noted(lake, name) for name in ("a.zip", "b.zip", "c.zip"))
    rows = json.loads(run("uploads", "--format", "json").stdout)
    assert [row["upload"] for row in rows] == uploads[::-1]
    assert {row["state"] for row in rows} == {"pending"}
    assert {row["name"] for row in rows} == {"a.zip", "b.zip", "c.zip"}
    lines = run("uploads", "--format", "csv", "--limit", "1").stdout.splitlines()
    assert lines[0] == "upload,name,arrived,state,words"
    assert len(lines) == 2
    assert "--limit N shows more" in run("uploads", "--limit", "3").stderr


@in_a_folder
def test_an_upload_is_withdrawn_in_words_whatever_state_it_is_in(project, run, lake):
    through = noted(lake, "through.zip")
    run("sync")
    pending = noted(lake, "pending.zip")
    unknown = run("uploads", "withdraw", "never", code=2).stderr
    assert "not known" in unknown
    assert (
        "reason_invalid" in run("uploads", "withdraw", "through", "--reason", "a\nb", code=2).stderr
    )
    said = run("uploads", "withdraw", "through", "--reason", "the wrong export").stderr
    assert "the wrong export" in said
    assert "mm sync" in said
    again = run("uploads", "withdraw", through, "--format", "json")
    assert json.loads(again.stdout)["is_new"] is False
    run("uploads", "withdraw", pending)
    run("sync")
    rows = json.loads(run("uploads", "--format", "json").stdout)
    assert [(row["upload"], row["state"]) for row in rows] == [
        (pending, "withdrawn"), (through, "withdrawn"),
    ]  # fmt: skip
    assert "the wrong export" in rows[1]["words"]
    assert not any("yet to come" in row["words"] for row in rows)
    receipt = json.loads(run("receipt", through, "--format", "json").stdout)
    assert {file["fate"] for file in receipt["files"]} == {"withdrawn"}
    assert "nothing used: it was withdrawn" in run("receipt", through).stderr
    assert run("sync").exit_code == 0
    assert "what was sent last is withdrawn" in run("predictions").stderr


@in_a_folder
def test_a_retry_takes_one_upload_through_again_and_says_what_comes_next(project, run, lake):
    upload = noted(lake, "first.zip")
    run("sync")
    said = run("retry", "first", "--format", "json")
    assert "mm sync" in said.stderr
    assert json.loads(said.stdout) == [{"upload": upload}]
    assert json.loads(run("uploads", "--format", "json").stdout)[0]["state"] == "pending"
    synced = json.loads(run("sync", "--format", "json").stdout)
    assert [one["upload"] for one in synced if one["job"] == "upload"] == [upload]


def test_retrying_all_brings_back_what_was_set_aside_or_forgotten(project, run, lake):
    assert "Nothing was set aside" in run("retry", "--all").stderr
    aside, forgotten = noted(lake, "aside.zip"), noted(lake, "forgotten.zip")
    pending = ledger.read_pending(lake, "parts", aside)
    ledger.set_aside(lake, pending, "it broke", 5, "run")
    # As when Dagster's instance was lost after it was through.
    ledger.settle(lake, "parts", forgotten)
    states = {row["upload"]: row["state"]
              for row in json.loads(run("uploads", "--format", "json").stdout)}  # fmt: skip
    assert states == {aside: "set aside", forgotten: "unknown"}
    again = json.loads(run("retry", "--all", "--format", "json").stdout)
    assert {row["upload"] for row in again} == {aside, forgotten}
    assert "Nothing was set aside" in run("retry", "--all").stderr


def test_a_retry_names_one_upload_or_all_of_them(project, run):
    run("retry", code=2)
    run("retry", "x", "--all", code=2)
    assert "not known" in run("retry", "x", code=2).stderr


def test_doctor_says_whether_uploads_can_be_moved_out_of_the_inbox(project, run):
    findings = json.loads(run("doctor", "--format", "json").stdout)
    [moving] = [finding for finding in findings if finding["what"] == "moving"]
    assert moving["good"]
    assert "inbox" in moving["found"]


def test_doctor_looks_at_the_queue_of_events(s3_settings, run, monkeypatch):
    import boto3

    endpoint = s3_settings.aws_endpoint_url
    sqs = boto3.client("sqs", endpoint_url=endpoint, region_name="us-east-1")

    def finding(code: int = 1) -> dict:
        found = json.loads(run("doctor", "--format", "json", code=code).stdout)
        return next(one for one in found if one["what"] == "events")

    queue = sqs.create_queue(QueueName="doctor")["QueueUrl"]
    monkeypatch.setenv("MM_EVENTS", f"sqs://{queue}")
    assert "would circle until they expire" in finding()["todo"]
    dead = sqs.create_queue(QueueName="doctor-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
    policy = {"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 5}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": json.dumps(policy)})
    assert finding()["good"]
    assert "120 s; after 5 times" in finding()["found"]
    for url in (queue, dead):
        sqs.delete_queue(QueueUrl=url)
    assert "queue_unreachable" in finding()["found"]


def test_doctor_looks_at_the_queues_of_work_and_results(s3_settings, run, monkeypatch):
    import boto3

    sqs = boto3.client("sqs", endpoint_url=s3_settings.aws_endpoint_url, region_name="us-east-1")
    queue = sqs.create_queue(QueueName="doctor-both")["QueueUrl"]

    def found() -> dict[str, dict]:
        told = json.loads(run("doctor", "--format", "json", code=1).stdout)
        return {one["what"]: one for one in told}

    for name in ("MM_WORK", "MM_RESULTS"):
        monkeypatch.setenv(name, f"sqs://{queue}")
    assert "no redrive policy" in found()["work"]["found"]
    assert found()["results"]["good"]
    assert "told of: changed" in found()["results"]["found"]
    sqs.delete_queue(QueueUrl=queue)
    assert "queue_unreachable" in found()["results"]["found"]
