"""The law of serving: an answer over HTTP is the row that the batch would write."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mm_assets as mm
from tests.serving.worlds import (
    ENGINES,
    Answer,
    Asked,
    answers_of,
    as_json,
    ask,
    asked,
    check,
    differences,
    pets,
    serving,
    trained,
)

KINDS = [kind for kind in ENGINES if kind != "autogluon"]
_trained: dict[str, mm.Dataset] = {}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("served")
        patch.setenv("MM_ROOT", str(folder))
        yield folder
    _trained.clear()


@pytest.fixture(params=KINDS)
def ds(request: pytest.FixtureRequest, root: Path) -> mm.Dataset:
    kind = request.param
    if kind not in _trained:
        _trained[kind] = trained(root, kind)
    return _trained[kind]


def asked_of(ds: mm.Dataset) -> list[Asked]:
    """One engine is asked for every fault; how a record is read hangs on no engine."""
    return asked(all_faults=ds.name == "gradient_boosting")


def test_a_record_alone_is_answered_as_an_upload_with_it_would_be(ds: mm.Dataset) -> None:
    async def alone() -> list[Answer]:
        async with serving(ds.name) as client:
            return [(await ask(client, ds.name, as_json(one)))[0] for one in asked_of(ds)]

    check(asked_of(ds), asyncio.run(alone()), ds)


def test_neighbours_in_a_request_make_no_difference(ds: mm.Dataset) -> None:
    async def together() -> list[Answer]:
        async with serving(ds.name) as client:
            return await ask(client, ds.name, [as_json(one) for one in asked_of(ds)])

    check(asked_of(ds), asyncio.run(together()), ds)


def test_requests_at_the_same_moment_make_no_difference(ds: mm.Dataset) -> None:
    batches: list[int] = []

    async def at_once() -> list[Answer]:
        async with serving(ds.name) as client:
            client.app.state.service.on_batch = lambda _d, n, _w, _s: batches.append(n)  # type: ignore[attr-defined]
            asks = [ask(client, ds.name, as_json(one)) for one in asked_of(ds)]
            return [one for some in await asyncio.gather(*asks) for one in some]

    check(asked_of(ds), asyncio.run(at_once()), ds)
    assert max(batches) > 1, "no requests were answered together"


def test_a_multipart_request_is_answered_as_an_upload_of_its_files(ds: mm.Dataset) -> None:
    some = [one for one in asked_of(ds) if "/" not in str(one[0]["pet"]) and one[1] is not None]

    async def forms() -> list[Answer]:
        async with serving(ds.name) as client:
            responses = [
                await client.post(
                    f"/v1/datasets/{ds.name}/predictions",
                    files=[
                        ("records", (None, json.dumps(record))),
                        ("file", (f"{record['pet']}.png", image)),
                    ],
                )  # fmt: skip
                for record, image in some[:6]
            ]
            return [answers_of(response)[0] for response in responses]

    check(some[:6], asyncio.run(forms()), ds)


# -- tables ---------------------------------------------------------------------------------------


def table() -> pd.DataFrame:
    frame = pets(20, seed=2)[0].drop(columns=["adopted", "price"])
    frame["age"] = frame["age"].astype(object)
    frame.loc[3, "age"] = "old"
    frame.loc[4, "age"] = None
    frame.loc[5, "colour"] = None
    frame.loc[6, "colour"] = "plaid"
    frame.loc[8, "pet"] = frame.loc[7, "pet"]
    return frame


def body(frame: pd.DataFrame, kind: str) -> bytes:
    if kind == "text/csv":
        return frame.to_csv(index=False).encode()
    if kind == "application/x-ndjson":
        return frame.to_json(orient="records", lines=True, double_precision=15).encode()
    buffer = io.BytesIO()
    frame.astype({"age": str}).replace({"age": {"None": None}}).to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", ["text/csv", "application/x-ndjson", "application/vnd.apache.parquet"]
)
def test_a_table_is_answered_as_predict_answers_it(ds: mm.Dataset, kind: str) -> None:
    frame = table()
    expected = ds.predict(frame, quiet=True).to_dict("records")

    async def posted() -> list[Answer]:
        async with serving(ds.name) as client:
            response = await client.post(
                f"/v1/datasets/{ds.name}/predictions",
                content=body(frame, kind),
                headers={"Content-Type": kind},
            )
            return answers_of(response)

    served = asyncio.run(posted())
    assert len(served) == len(expected)
    wrong = {}
    for place, (answer, row) in enumerate(zip(served, expected, strict=True)):
        told = {name: None if _is_nan(value) else value for name, value in row.items()}
        if told["code"] in ("duplicate_id", "duplicate_row"):  # says where, by its kind of file
            told["reason"] = answer["reason"]
        if found := differences(answer, told):
            wrong[place] = found
    assert not wrong, "\n".join(f"{place}: {found}" for place, found in wrong.items())
    assert sum(answer["code"] is not None for answer in served) == 3


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


# -- the whole flow -------------------------------------------------------------------------------


def test_an_upload_leads_to_the_same_rows_in_the_predictions_table(ds: mm.Dataset) -> None:
    frame, images = pets(25, seed=3)
    frame = frame.drop(columns=["adopted", "price"])
    ds.upload(frame, images, quiet=True)
    ds.sync(quiet=True)
    rows = {row["record_id"]: row for row in ds.predictions().to_dict("records")}

    async def served() -> list[Answer]:
        async with serving(ds.name) as client:
            return await ask(client, ds.name, [
                as_json((record, images.get(record["pet"]))) for record in frame.to_dict("records")
            ])  # fmt: skip

    answers = asyncio.run(served())
    assert {answer["modality"] for answer in answers} == {"with_image", "without_image"}
    wrong = {}
    for answer in answers:
        row = {name: None if _is_nan(v) else v for name, v in rows[answer["record_id"]].items()}
        said = row["probabilities"]
        told = {
            **dict.fromkeys(answer), **{name: row[name] for name in answer if name in row},
            "probabilities": json.loads(said) if isinstance(said, str) else said,
        }  # fmt: skip
        if ds.spec.is_regression:
            told["prediction"] = float(told["prediction"])
        if found := differences(answer, told):
            wrong[answer["record_id"]] = found
    assert not wrong, "\n".join(f"{place}: {found}" for place, found in wrong.items())
