"""Tables as they come: each in the lists beside this, sent as people would, has its end.

None of them is special-cased in the code: for each kind of `shared/cases` others were made here.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.ends import End
from mm_assets.contract.errors import REFUSALS
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.before import judge_rows
from mm_assets.tables.open import open_store
from mm_assets.uploads.check import check
from tests.cases.case import SPEC, Case
from tests.cases.text_cases import TEXT_CASES
from tests.cases.typed_cases import TYPED_CASES
from tests.cases.value_cases import VALUE_CASES
from tests.make import dataset, draw_image, drop_folder, drop_zip, processed, received, rows_of

CASES = [*TEXT_CASES, *VALUE_CASES, *TYPED_CASES]
SHARED = [f"a{number:02d}" for number in range(1, 19) if number != 14]


def spec_of(case: Case) -> Any:
    return SPEC.model_copy(update=dict(case.spec))


def values_of(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record["features"][name] for name in ("age", "colour", "notes"))


def test_each_kind_has_one_like_the_shared_one_and_two_more() -> None:
    counted = Counter(case.kind for case in CASES)
    assert {kind: counted[kind] for kind in SHARED if counted[kind] < 3} == {}
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_table_ends_as_a_person_would_want(folder_settings: Settings, case: Case) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    drop_zip(lake, "u.zip", {f"sent/{case.file}": case.data, "K1.png": draw_image(1)})
    document = processed(lake, store, spec_of(case), "u.zip")
    receipt = received(lake, spec_of(case), "u.zip")
    assert receipt["refused"] is None
    files = {file["file"]: file for file in rows_of(lake, receipt, "files.parquet")}
    told = files[f"sent/{case.file}"]
    assert (told["code"] or "") == case.refused, told["reason"]
    records = rows_of(lake, document, "manifest.parquet")
    rejects = rows_of(lake, document, "rejects.parquet")
    said = " ".join([told["reason"] or "", *(reject["reason"] for reject in rejects)])
    assert [word for word in case.words if word not in said] == [], said
    if case.refused:
        assert records == rejects == []
        return
    assert {record["record_id"]: values_of(record) for record in records} == case.records
    assert {reject["line"]: reject["code"] for reject in rejects} == case.rejects
    assert all(reject["todo"] == REFUSALS[reject["code"]] for reject in rejects)
    (table,) = receipt["tables"]
    assert {key: table["read_as"].get(key) for key in case.read_as} == case.read_as
    assert table["blank_rows"] == case.blank_rows
    if case.numbers:
        assert document["numbers"][table["file"]]["age"]["decimal"] == case.numbers
    with_image = [record["record_id"] for record in records if record["image_file"]]
    assert with_image == [record for record in case.records if record == "K1"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_left_out_is_told_before_it_is_sent(tmp_path: Path, case: Case) -> None:
    (tmp_path / case.file).write_bytes(case.data)
    report = check(tmp_path, spec_of(case), judge_rows=judge_rows)
    left_out = case.refused or case.rejects
    end = End.NOTHING if not case.records else End.IN_PART if left_out else End.USED
    if case.refused:
        end = End.NOTHING
    assert report.ended.end is end, report.ended
    codes = {case.refused} if case.refused else {*case.rejects.values()}
    assert {problem.code for problem in report.problems} == codes


@pytest.mark.parametrize("drop", [drop_zip, drop_folder])
@pytest.mark.parametrize(
    "end", [".csv.gz", ".xlsx", ".xls", ".ods", ".parquet", ".feather", ".json"]
)
def test_a_table_of_each_format_meets_its_images_in_a_zip_and_in_a_folder(
    folder_settings: Settings, drop: Any, end: str
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    case = next(one for one in CASES if one.file == f"t{end}" and not one.refused)
    images = {f"pics/{name}.png": draw_image(at) for at, name in enumerate(case.records)}
    drop(lake, "u.zip", {f"a table{end}": case.data, **images})
    document = processed(lake, store, SPEC, "u.zip")
    found = rows_of(lake, document, "manifest.parquet")
    assert {one["record_id"]: values_of(one) for one in found} == case.records
    assert {one["image_file"] for one in found} == images.keys()


def test_categories_that_pandas_made_floats_are_the_same_and_are_kept_as_written(
    folder_settings: Settings,
) -> None:
    """What a model makes of them is in tests/training; here nothing is lost or changed."""
    lake, store = Lake(folder_settings), open_store(folder_settings)
    spec = dataset(columns={"grade": "category", "height": "number"}, classes=["0", "1"])
    rows = b"id,grade,height,label\na,,164.9,1.0\nb,1.0,173.7,0.0\nc,3,1.5,1\n"
    drop_zip(lake, "u.zip", {"t.csv": rows})
    document = processed(lake, store, spec, "u.zip")
    records = rows_of(lake, document, "manifest.parquet")
    assert [(one["features"]["grade"], one["label"]) for one in records] == [
        (None, "1"), ("1.0", "0"), ("3", "1"),
    ]  # fmt: skip
