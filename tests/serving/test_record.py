"""Answered records are kept as uploads: all of them, once, and what is lost is counted."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mm_assets as mm
from mm_assets.contract.errors import LakeError, UsageError
from mm_assets.reading.images import NormalisedImage
from mm_assets.serving.options import Options
from mm_assets.serving.reading import Reader
from mm_assets.serving.record import TABLE, Limits, Recorder
from mm_assets.serving.server import check
from tests.make import dataset
from tests.serving.conftest import World
from tests.serving.test_native import client_of, png

SPEC = dataset(image_name="{id}-{n}")
READER = Reader(SPEC)
WHITE = png(np.full((8, 8, 3), 255, "uint8")) or b""
GREY = png(np.full((8, 8, 3), 99, "uint8")) or b""


class Inbox:
    """What came, by name: the rows of the table and the other files. `closed`: nothing is taken."""

    def __init__(self) -> None:
        self.came: dict[str, tuple[list[dict[str, Any]], dict[str, bytes]]] = {}
        self.closed = False

    def __call__(self, dataset: str, path: Path, name: str) -> None:
        if self.closed:
            raise LakeError(code="lake_unreachable", what="no lake")
        with zipfile.ZipFile(path) as packed:
            files = {one: packed.read(one) for one in packed.namelist()}
        rows = [json.loads(line) for line in files.pop(TABLE, b"").splitlines()]
        assert name not in self.came
        self.came[name] = (rows, files)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for rows, _ in self.came.values() for row in rows]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def recorder(tmp_path: Path, inbox: Inbox) -> Iterator[Callable[..., Recorder]]:
    """Starts recorders over one folder."""
    started: list[Recorder] = []

    def start(**limits: Any) -> Recorder:
        made = Recorder(tmp_path / "recorded", inbox, Limits(**limits))
        made.start()
        started.append(made)
        return made

    yield start
    for one in started:
        one.close()


def keep(recorder: Recorder, *records: dict[str, Any], images: Any = (), spec: Any = SPEC) -> None:
    reader = Reader(spec)
    sent = [*images, *[None] * (len(records) - len(images))]
    reads = [reader.record(record, n, sent[n]) for n, record in enumerate(records)]
    answers = [{"prediction": None if read.features is None else "yes"} for read in reads]
    recorder.keep(spec, reads, {n: one for n, one in enumerate(sent) if one}, answers)


def until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_records_and_images_are_one_upload_at_the_end(
    recorder: Callable[..., Recorder], inbox: Inbox
) -> None:
    made = recorder()
    keep(made, {"id": "a", "age": 3, "colour": "red"}, images=[WHITE])
    keep(made, {"id": "b", "age": None, "colour": "blé"}, {"id": "c", "age": 1.5, "colour": None})
    made.close()
    (((rows, files)),) = inbox.came.values()
    assert rows == [
        {"id": "a", "age": 3.0, "colour": "red"},
        {"id": "b", "age": None, "colour": "blé"},
        {"id": "c", "age": 1.5, "colour": None},
    ]
    assert files == {"a-1.png": WHITE}
    assert made.counts == {"kept": 3, "sent": 3, "uploads": 1}


@pytest.mark.parametrize(
    "how",
    [{}, {"decimal": ","}, {"encoding": "cp1252"}, {"missing_values": ["?", "-1"]}],
    ids=str,
)
def test_an_upload_is_read_as_the_request_was(
    recorder: Callable[..., Recorder], inbox: Inbox, how: dict[str, Any]
) -> None:
    spec = dataset(image_name="{id}-{n}", **how)
    reader, made = Reader(spec), recorder()
    values = [
        (1.234, "1.234"), (1234.567, "a,b"), (1e-7, "💐"), (-0.0, 'say "x"\nno'), (None, None),
        (-1, "-1"), ("1,5", "true"), (12345678, " x "), (0.1, "00"),
    ]  # fmt: skip
    records = [
        {"id": str(n), "age": age, "colour": colour} for n, (age, colour) in enumerate(values)
    ]
    keep(made, *records, spec=spec)
    made.close()
    told = "".join(json.dumps(row) + "\n" for row in inbox.rows).encode()
    again = {read.record_id: read for read in reader.table(told, TABLE)}
    read = {one.record_id: one for one in map(reader.record, records) if one.features is not None}
    assert len(read) >= 8
    assert {name: one.features for name, one in again.items()} == {
        name: one.features for name, one in read.items()
    }


def test_what_was_refused_the_label_and_other_columns_are_not_kept(
    recorder: Callable[..., Recorder], inbox: Inbox
) -> None:
    made = recorder()
    keep(
        made,
        {"id": "a", "age": 3, "colour": "red", SPEC.label_column: "yes", "password": "x"},
        {"id": "b", "age": "three", "colour": "red"},
        {"id": "c", "age": 3, "colour": "red"},
        images=[None, WHITE, b"no image"],
    )
    made.close()
    ((rows, files),) = inbox.came.values()
    assert rows == [{"id": one, "age": 3.0, "colour": "red"} for one in ("a", "c")]
    assert files == {}


def test_of_a_record_that_is_asked_again_the_last_counts(
    recorder: Callable[..., Recorder], inbox: Inbox
) -> None:
    made = recorder()
    keep(made, {"id": "a", "age": 1, "colour": "red"}, images=[WHITE])
    keep(made, {"id": "b", "age": 1, "colour": "red"})
    keep(made, {"id": "a", "age": 2, "colour": "red"}, images=[GREY])
    made.close()
    ((rows, files),) = inbox.came.values()
    assert [(row["id"], row["age"]) for row in rows] == [("b", 1.0), ("a", 2.0)]
    assert files == {"a-1.png": GREY}


def test_records_without_an_id_get_one_that_no_other_has(
    recorder: Callable[..., Recorder], inbox: Inbox
) -> None:
    made = recorder()
    for _ in range(2):
        keep(made, *[{"age": 1, "colour": "red"}] * 3, {"id": "1", "age": 1, "colour": "red"})
    made.close()
    ids = [row["id"] for row in inbox.rows]
    assert len(set(ids)) == len(ids) == 7
    assert sum(one.startswith("served-") for one in ids) == 6


def test_an_image_of_the_lake_goes_along_as_it_was_normalised(
    recorder: Callable[..., Recorder], inbox: Inbox
) -> None:
    made = recorder()
    image = READER.image(WHITE)
    assert isinstance(image, NormalisedImage)
    keep(made, {"id": "a", "age": 1, "colour": "red"}, images=[image])
    made.close()
    ((_, files),) = inbox.came.values()
    assert files == {"a-1.png": image.data}


def test_images_alone_and_a_column_of_names_are_kept_as_such_datasets_have_them(
    recorder: Callable[..., Recorder], inbox: Inbox
) -> None:
    alone = dataset(columns={}, records="images", image_name="{label}/*", dataset="alone")
    named = dataset(image_column="photo", dataset="named")
    made = recorder()
    keep(made, {}, {}, images=[WHITE, WHITE], spec=alone)
    keep(made, {"id": "a", "age": 1, "colour": "red"}, images=[GREY], spec=named)
    keep(made, {"id": "b", "age": 1, "colour": "red"}, spec=named)
    made.close()
    (first, second) = inbox.came.values()
    assert list(first[1].values()) == [WHITE]
    assert first[0] == []
    ((photo, data),) = second[1].items()
    assert data == GREY
    assert [row["photo"] for row in second[0]] == [photo, None]


def test_an_upload_is_sent_after_so_many_records_or_so_long(
    recorder: Callable[..., Recorder], inbox: Inbox
) -> None:
    made = recorder(records=2)
    for one in "abcd":
        keep(made, {"id": one, "age": 1, "colour": "red"})
    until(lambda: len(inbox.came) == 2)
    patient = recorder(seconds=0.2)
    keep(patient, {"id": "e", "age": 1, "colour": "red"})
    until(lambda: len(inbox.came) == 3)
    assert [row["id"] for row in inbox.rows] == list("abcde")


def test_while_the_lake_is_away_records_wait_and_then_go_each_once(
    recorder: Callable[..., Recorder], inbox: Inbox, tmp_path: Path
) -> None:
    inbox.closed = True
    first = recorder(records=1)
    for one in "abc":
        keep(first, {"id": one, "age": 1, "colour": "red"})
    first.close()
    assert inbox.came == {}
    inbox.closed = False
    recorder().close()
    assert [row["id"] for row in inbox.rows] == list("abc")
    assert list((tmp_path / "recorded").rglob("*")) == []


def test_two_services_leave_each_others_records_alone(
    recorder: Callable[..., Recorder], inbox: Inbox
) -> None:
    first, second = recorder(), recorder()
    keep(first, {"id": "a", "age": 1, "colour": "red"})
    until(lambda: first.counts["kept"] == 1)
    second.close()
    assert inbox.came == {}
    first.close()
    assert [row["id"] for row in inbox.rows] == ["a"]


def test_after_a_crash_the_next_service_sends_what_was_written(
    recorder: Callable[..., Recorder], inbox: Inbox, tmp_path: Path
) -> None:
    code = f"""
        import os, time
        from pathlib import Path
        from mm_assets.serving.record import Recorder
        from tests.serving.test_record import WHITE, keep
        recorder = Recorder(Path({str(tmp_path / "recorded")!r}), lambda *_: None)
        recorder.start()
        keep(recorder, {{"id": "a", "age": 1, "colour": "red"}}, images=[WHITE])
        keep(recorder, {{"id": "b", "age": 1, "colour": "red"}})
        while recorder.counts["kept"] < 2:
            time.sleep(0.01)
        os._exit(9)
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=120)
    assert died.returncode == 9
    (rows,) = (tmp_path / "recorded").rglob("rows")
    with rows.open("ab") as file:  # as if it had died in the middle of a line
        file.write(b'\n{"id": "c", "row": {"id": "c", "ag')
    recorder().close()
    assert [row["id"] for row in inbox.rows] == ["a", "b"]
    assert [files for _, files in inbox.came.values()] == [{"a-1.png": WHITE}]


def test_a_crash_between_sending_and_forgetting_sends_the_same_upload_again(
    recorder: Callable[..., Recorder], tmp_path: Path, inbox: Inbox
) -> None:
    """Under the same name and with the same bytes, so the inbox knows it."""
    names: list[tuple[str, bytes]] = []

    def dies(_dataset: str, path: Path, name: str) -> None:
        names.append((name, path.read_bytes()))
        raise OSError("gone")

    first = Recorder(tmp_path / "recorded", dies)
    first.start()
    keep(first, {"id": "a", "age": 1, "colour": "red"}, images=[WHITE])
    first.close()
    second = Recorder(tmp_path / "recorded", dies)
    second.start()
    second.close()
    assert len(names) >= 2
    assert len(set(names)) == 1


def test_what_does_not_fit_is_dropped_counted_and_said(
    recorder: Callable[..., Recorder], inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    made = recorder(kept_bytes=5_000)
    for n in range(50):
        keep(made, {"id": str(n), "age": 1, "colour": "red"})
    made.close()
    assert made.counts["dropped"] > 0
    assert made.counts["dropped"] + made.counts["sent"] == 50
    assert len(inbox.rows) == made.counts["sent"]
    assert "are not kept: too much waits to be sent" in caplog.text
    assert caplog.text.count("are not kept") == 1  # once a minute


def test_an_id_that_no_file_name_can_hold_costs_its_record_alone(
    recorder: Callable[..., Recorder], inbox: Inbox
) -> None:
    made = recorder()
    odd = dataset(image_name="pet{id}")
    keep(made, {"id": ".", "age": 1, "colour": "red"}, images=[WHITE], spec=odd)
    keep(made, {"id": "a", "age": 1, "colour": "red"}, images=[WHITE], spec=odd)
    made.close()
    assert [row["id"] for row in inbox.rows][-1] == "a"


def test_exported_models_have_no_inbox() -> None:
    with pytest.raises(UsageError, match="belong to none"):
        check(Options(record=True, models=(Path("model"),)))


def test_what_a_service_said_is_what_the_table_says_later(
    own_copy: Path, trained_pets: World
) -> None:
    ds = mm.open("pets_like")
    world = World(own_copy, ds, trained_pets.known, trained_pets.new, trained_pets.images)
    records = [world.record(place) for place in range(12)]
    told = [
        {**record, "image": {"base64": base64.b64encode(data).decode()} if data else None}
        for record in records
        for data in [png(world.images[record["pet"]])]
    ]
    with client_of(world, record=True) as client:
        said = client.post("/v1/datasets/pets_like/predictions", json={"records": told}).json()
        table = world.new.iloc[20:24].reset_index().to_csv(index=False)
        rows = client.post(
            "/v1/datasets/pets_like/predictions",
            content=table,
            headers={"content-type": "text/csv"},
        ).json()["predictions"]
    ds.sync(quiet=True)
    newest = ds.uploads()[0]
    assert newest["name"].startswith("served-")
    assert newest["state"] == "done"
    kept = {row["record_id"]: row for row in ds.predictions().to_dict("records")}
    for answer in [*said["predictions"], *rows]:
        row = kept[answer["record_id"]]
        for name in ("prediction", "modality", "model_version", "needs_review", "doubts"):
            assert row[name] == answer[name], name
        assert row["confidence"] == pytest.approx(answer["confidence"], abs=1e-5)
    assert {answer["modality"] for answer in said["predictions"]} == {"with_image", "without_image"}
