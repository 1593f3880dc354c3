"""A dataset in Python: from a frame to answers, and the same answers as a run gives."""

from __future__ import annotations

import io
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mm_assets as mm
from tests.api.conftest import World

SAME = [
    "prediction", "lower", "upper", "confidence", "needs_review", "doubts", "modality",
    "model_version", "reasons",
]  # fmt: skip


def test_a_frame_becomes_a_dataset_with_two_champions(world: World):
    champions = world.ds.champions()
    assert [one["modality"] for one in champions] == ["with_image", "without_image"]
    assert all(one["version"] and one["score"] > 0.6 for one in champions)
    assert world.ds.spec.id_column == "pet"
    assert set(world.ds.spec.columns) == {"age", "colour", "note"}
    assert mm.open() is not world.ds
    assert mm.open(world.ds.file).name == mm.open("pets").name == mm.open().name == "pets"


@pytest.fixture(scope="module")
def batch(trained: World, project) -> pd.DataFrame:
    """What a run says of the new records, by ID."""
    new, images = trained.new, {name: trained.images[name] for name in trained.new.index}
    trained.ds.upload(new, images, name="new", quiet=True)
    trained.ds.sync(quiet=True)
    return trained.ds.predictions().set_index("record_id")


def test_records_in_hand_get_the_answers_of_a_run(world: World, batch: pd.DataFrame):
    answers = world.ds.predict(world.new, {n: world.images[n] for n in world.new.index})
    assert list(answers.index) == list(world.new.index)
    assert answers["code"].isna().all()
    assert set(answers["modality"]) == {"with_image", "without_image"}
    expected = batch.loc[answers["record_id"]]
    pd.testing.assert_frame_equal(
        answers[SAME].reset_index(drop=True), expected[SAME].reset_index(drop=True)
    )
    assert answers["probabilities"].tolist() == expected["probabilities"].tolist()


def test_a_record_alone_gets_the_answer_that_it_gets_among_others(
    world: World, batch: pd.DataFrame
):
    for name in world.new.index[:4]:
        alone = world.ds.predict(world.new.loc[[name]], [world.images[name]], quiet=True)
        assert alone[SAME].iloc[0].equals(batch.loc[name, SAME].rename(alone.index[0]))


def test_every_kind_of_image_is_the_same_image(world: World, tmp_path):
    name = next(n for n in world.new.index if world.images[n] is not None)
    array = world.images[name]
    picture = Image.fromarray(array)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    (tmp_path / "any name.bin").write_bytes(buffer.getvalue())
    row = world.new.loc[[name]]
    told = [
        world.ds.predict(row, images, quiet=True)
        for images in (
            [array], [picture], [buffer.getvalue()], [tmp_path / "any name.bin"],
            {name: str(tmp_path / "any name.bin")}, {name: [None, array]}, (array,),
        )
    ]  # fmt: skip
    told.append(world.ds.predict(row.assign(photo=[buffer.getvalue()]), "photo", quiet=True))
    assert {one["modality"].iloc[0] for one in told} == {"with_image"}
    assert len({one["confidence"].iloc[0] for one in told}) == 1


def test_what_a_run_refuses_is_refused_in_hand_with_the_same_code(world: World, capfd):
    rows = world.new.iloc[:6].reset_index().astype({"age": object})
    rows.loc[0, "age"] = "old"
    rows.loc[1, "pet"] = None
    rows.loc[3, "pet"] = rows.loc[2, "pet"]
    images = [None, None, None, None, b"no image", Image.new("RGB", (9, 9))]
    answers = world.ds.predict(rows, images)
    assert answers["code"].tolist() == [
        "number_invalid", "id_blank", None, "duplicate_id", "image_unreadable", None,
    ]  # fmt: skip
    assert answers["prediction"].isna().tolist() == [True, True, False, True, False, False]
    assert answers["modality"].tolist()[4:] == ["without_image", "with_image"]
    assert all(answers["todo"][answers["code"].notna()].str.len() > 0)
    assert "Traceback" not in capfd.readouterr().err


def test_a_frame_without_ids_is_counted(world: World):
    answers = world.ds.predict(world.new.reset_index(drop=True).iloc[:3], quiet=True)
    assert answers["record_id"].tolist() == ["1", "2", "3"]
    assert answers["prediction"].notna().all()


def test_a_label_column_changes_nothing(world: World):
    with_label = world.known.iloc[:3]
    plain = world.ds.predict(with_label.drop(columns="adopted"), quiet=True)
    pd.testing.assert_frame_equal(world.ds.predict(with_label, quiet=True), plain)


def test_a_frame_without_a_needed_column_is_refused_in_words(world: World):
    with pytest.raises(mm.UploadError, match=r"table_columns.*columns missing: age"):
        world.ds.predict(world.new.drop(columns="age"), quiet=True)


def test_predictions_are_narrowed(world: World, batch: pd.DataFrame):
    table = world.ds.predictions.arrow(modality="with_image")
    assert table.num_rows == (batch["modality"] == "with_image").sum()
    some = world.ds.predictions(ids=[batch.index[0]])
    assert some["record_id"].tolist() == [batch.index[0]]
    assert isinstance(some["probabilities"][0], dict)
    review = world.ds.predictions(review=True)
    assert len(review) == batch["needs_review"].sum()
    assert len(world.ds.predictions(modality="without_image", limit=2)) == 2
    with pytest.raises(mm.UsageError, match="with_image, without_image"):
        world.ds.predictions(modality="image")
    assert world.ds.predictions(ids=str(batch.index[0]))["record_id"].tolist() == [batch.index[0]]
    with pytest.raises(mm.UsageError, match="0 or more"):
        world.ds.predictions(limit=-1)


def test_predictions_are_narrowed_by_an_upload_s_name_and_by_a_time_of_any_zone(
    world: World, batch: pd.DataFrame
):
    every = world.ds.predictions()
    [name] = [one["name"] for one in world.ds.uploads() if one["upload"] == every["upload"][0]]
    by_name, by_key = (
        world.ds.predictions(upload=one)["record_id"].tolist() for one in (name, every["upload"][0])
    )
    assert by_name == by_key != []
    with pytest.raises(mm.UploadError, match="upload_unknown"):
        world.ds.predictions(upload="never")
    last = datetime.fromisoformat(every["predicted_at"].max())
    for zone in (UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-9))):
        since = last.astimezone(zone).isoformat()
        assert set(world.ds.predictions(since=since)["predicted_at"]) == {last.isoformat()}
        after = (last + timedelta(seconds=1)).astimezone(zone).isoformat()
        assert world.ds.predictions(since=after).empty
    with pytest.raises(mm.UsageError, match="is no time"):
        world.ds.predictions(since="yesterday")


def test_uploads_and_receipts_print_well(world: World, batch: pd.DataFrame):
    uploads = world.ds.uploads()
    assert {one["state"] for one in uploads} == {"done"}
    receipt = world.ds.receipt("new")
    assert receipt["counts"]["predictions"] == len(batch)
    assert "<table" in receipt._repr_html_()
    assert "predictions" in repr(receipt)
    assert len(uploads.pandas()) == len(uploads)


def test_the_review_queue_shows_images_and_hides_markup(world: World, batch: pd.DataFrame):
    queue = world.ds.review()
    assert len(queue) == batch["needs_review"].sum()
    html = world.ds._repr_html_()
    assert "age (number)" in html
    shown = mm.Rows([{"a": "<b>\x1b[31m"}], ["a"], "<i>", {0: b"\x89PNG"})._repr_html_()
    assert "&lt;b&gt;\\x1b[31m" in shown
    assert "<i>" not in shown
    assert 'src="data:image/png;base64,' in shown


def test_the_same_frame_sent_twice_is_there_already(world: World):
    new = world.new.iloc[:2]
    first = world.ds.upload(new, quiet=True)
    again = world.ds.upload(new, quiet=True)
    assert not first.sent.already_there
    assert again.sent.already_there
    assert first.name == again.name
    world.ds.sync(quiet=True)


def test_a_strict_upload_with_a_fault_is_not_sent(world: World):
    bad = world.new.iloc[:2]
    with pytest.raises(mm.UploadError, match="upload_not_sent"):
        world.ds.upload(bad, [b"no image", None], strict=True, quiet=True)


def test_an_upload_of_which_nothing_is_used_is_no_failed_run_and_is_said(world: World, capfd):
    world.ds.lake.write("inbox/pets/bad.zip", b"PK\3\4 no zip at all")
    outcomes = world.ds.sync()
    assert [one.job for one in outcomes] == ["upload", "monitor"]
    assert [one.end for one in outcomes] == [mm.End.NOTHING, mm.End.USED]
    assert outcomes.end is mm.End.NOTHING
    assert "nothing used: [archive_unreadable]" in capfd.readouterr().err
    assert "<table" in outcomes._repr_html_()
    assert json.loads(json.dumps(world.ds.uploads(), default=str))[0]["state"] == "refused"


def test_a_run_that_fails_is_an_error_that_holds_all_outcomes(world: World):
    # One row of four is more than the YAML lets pass.
    bad = world.new.iloc[:4].astype({"age": object})
    bad.iloc[0, bad.columns.get_loc("age")] = "old"
    sent = world.ds.upload(bad, name="one-of-four", quiet=True)
    assert sent.end is mm.End.IN_PART
    assert "number_invalid 1 (records.csv:2)" in sent.words
    with pytest.raises(mm.RunFailed) as caught:
        world.ds.sync(quiet=True)
    error = pickle.loads(pickle.dumps(caught.value))
    assert [one.job for one in error.outcomes] == ["upload", "monitor"]
    assert len(error.outcomes.failed) == 1
    assert error.outcomes.end is mm.End.FAILED
    assert "run_failed" in str(error)
    assert "refused_share" in str(error)
    assert "<table" in error.outcomes._repr_html_()


def test_a_frame_of_which_nothing_would_be_used_is_not_sent_unless_anyway(world: World, capfd):
    bad = world.new.iloc[:4].astype({"age": object})
    bad["age"] = "1.5 kg"
    with pytest.raises(mm.UploadError, match="nothing_used") as caught:
        world.ds.upload(bad)
    assert "number_invalid 4 (records.csv:2, records.csv:" in caught.value.what
    assert "anyway" in caught.value.todo
    sent = world.ds.upload(bad, name="kilograms", anyway=True)
    assert sent.end is mm.End.NOTHING
    assert capfd.readouterr().err.count("number_invalid 4") == 1
    assert world.ds.sync(quiet=True).end is mm.End.NOTHING
    assert world.ds.uploads()[0]["state"] == "empty"
    receipt = world.ds.receipt("kilograms")
    assert receipt["end"] == "nothing used"
    [line] = receipt.left_out()
    assert (line["why"], line["number"]) == ("number_invalid", 4)
    assert repr(receipt).startswith("nothing used: 4 of 4 rows")


def test_what_does_not_fit_together_is_said(world: World):
    with pytest.raises(mm.UsageError, match="3 images for 2 rows"):
        world.ds.predict(world.new.iloc[:2], [None] * 3, quiet=True)
    with pytest.raises(mm.UploadError, match="no such folder"):
        world.ds.predict(world.new.iloc[:2], "not there", quiet=True)
    with pytest.raises(mm.UploadError, match="image of P200"):
        world.ds.predict(world.new.loc[["P200"]], [np.zeros((2, 2), "complex")], quiet=True)
    with pytest.raises(mm.SpecError, match="one of: pets"):
        mm.open("cats")
    with pytest.raises(mm.SpecError, match="has a YAML already"):
        mm.draft(world.known, label="adopted", name="pets", say=lambda _: None)
    with pytest.raises(mm.UsageError, match="name="):
        mm.draft(world.known, label="adopted")


def test_a_withdrawal_names_no_model_that_is_older_than_the_upload(world: World):
    ds = world.ds
    record, label = world.known.index[0], world.known["adopted"].iloc[0]
    other = pd.DataFrame({"pet": [record], "adopted": ["no" if label == "yes" else "yes"]})
    ds.upload(other, name="slip", quiet=True)
    ds.sync(quiet=True)
    done = ds.withdraw("slip")
    assert (done.records, done.learnt_by) == (1, ())
    ds.sync(quiet=True)


def test_a_champion_is_taken_back_and_leaves_in_python(world: World, batch, tmp_path):
    rows = world.ds.models()
    champion = next(row for row in rows if row["champion"])
    assert (
        world.ds.model(champion["version"])["metrics"]
        == world.ds.model(modality=champion["modality"])["metrics"]
    )
    with pytest.raises(mm.ModelError, match="nothing_to_roll_back"):
        world.ds.rollback(quiet=True)
    before = world.ds.champions()
    again = world.ds.promote(champion["version"], "to be sure", quiet=True)
    # What answers already is not promoted again; everything is predicted again.
    assert (again.version, again.generation) == (champion["version"], champion["generation"])
    assert before.pictures.keys() == {"with_image", "without_image"}
    assert "<img" in before._repr_html_()
    written = world.ds.export_model(tmp_path / "left", format="folder")
    assert set(written.champions) == {"with_image", "without_image"}
    new = world.new.iloc[:5]
    told = mm.load_exported(tmp_path / "left").predict(new)
    assert told["confidence"].tolist() == world.ds.predict(new, quiet=True)["confidence"].tolist()
    with pytest.raises(mm.UsageError, match="no modality"):
        world.ds.model(modality="image")
