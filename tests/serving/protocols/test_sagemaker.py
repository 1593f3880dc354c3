"""SageMaker's container contract, asked by boto3 and by hand."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from mm_assets.contract.errors import ModelError
from mm_assets.serving.app import make_app
from mm_assets.serving.options import Options
from mm_assets.tables.answer import COLUMNS
from tests.serving.protocols.served import RECORD, Project, ask, ask_json, status

PET = "dataset=pets"
LINE = "dog,12,8.5,black,calm"
NAMES = ",".join(RECORD)


@pytest.fixture(scope="module")
def runtime(url: str) -> Any:
    """The client of AWS's SDK, sent to our address."""
    import boto3

    return boto3.client(
        "sagemaker-runtime", endpoint_url=url, region_name="us-east-1",
        aws_access_key_id="any", aws_secret_access_key="any",
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(served_project: Project) -> dict[str, Any]:
    """What the record is answered in a process."""
    return served_project.predictor("pets").predict(RECORD)[0]


def invoked(url: str, body: bytes | str, kind: str, accept: str = "", **headers: str) -> Any:
    told = {"X_Amzn_SageMaker_Custom_Attributes": PET, **headers}
    accepts = {"Accept": accept} if accept else {}
    return ask(f"{url}/invocations", body, Content_Type=kind, **accepts, **told)


def answers(url: str, body: bytes | str, kind: str) -> list[dict[str, Any]]:
    code, said, _ = invoked(url, body, kind)
    assert code == 200, said
    return json.loads(said)["predictions"]


def problem(url: str, body: bytes | str, kind: str, accept: str = "") -> tuple[int, str]:
    code, said, headers = invoked(url, body, kind, accept)
    assert headers["content-type"] == "application/problem+json"
    return code, json.loads(said)["code"]


def rows(said: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(said.decode())))


def test_ping_is_answered_once_every_dataset_can_answer(url: str) -> None:
    assert status(f"{url}/ping") == 200


def test_ping_says_why_nothing_can_be_answered(served_project: Project) -> None:
    from fastapi.testclient import TestClient

    def broken() -> Any:
        raise ModelError(code="model_tampered", what="a file differs", todo="Train it again.")

    app = make_app(Options(), {"pets": broken}, served_project.settings)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        while "loading" in (answer := client.get("/ping")).text:
            time.sleep(0.01)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "pets: [model_tampered] a file differs. Train it again."


def test_boto3_is_answered_as_a_process_that_holds_the_model(
    runtime: Any, expected: dict[str, Any]
) -> None:
    answer = runtime.invoke_endpoint(
        EndpointName="pets", ContentType="application/json", Body=json.dumps({"records": [RECORD]})
    )
    assert answer["ContentType"] == "application/json"
    assert json.loads(answer["Body"].read()) == {"dataset": "pets", "predictions": [expected]}


def test_boto3_sends_csv_and_is_answered_in_csv(runtime: Any, expected: dict[str, Any]) -> None:
    answer = runtime.invoke_endpoint(
        EndpointName="any", ContentType="text/csv", Accept="text/csv", CustomAttributes=PET,
        Body=f"{NAMES}\n{LINE}\n",
    )  # fmt: skip
    header, row = rows(answer["Body"].read())
    assert header == [*COLUMNS]
    told = dict(zip(header, row, strict=True))
    assert json.loads(told["probabilities"]) == expected["probabilities"]
    assert (told["prediction"], told["needs_review"], told["lower"]) == ("yes", "false", "")


def test_boto3_sends_parquet(runtime: Any, expected: dict[str, Any]) -> None:
    answer = runtime.invoke_endpoint(
        EndpointName="pets", ContentType="application/x-parquet",
        Body=pd.DataFrame([RECORD, RECORD]).to_parquet(),
    )  # fmt: skip
    found = json.loads(answer["Body"].read())["predictions"]
    assert found == [expected, {**expected, "record_id": "2"}]


def test_boto3_raises_model_error_with_our_problem_inside(runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        runtime.invoke_endpoint(
            EndpointName="pets", ContentType="application/json", Body='{"species": "dog"}'
        )
    told = caught.value.response
    assert told["OriginalStatusCode"] == 422
    assert json.loads(told["OriginalMessage"])["code"] == "table_columns"


@pytest.mark.parametrize(
    "document",
    [
        RECORD,
        [RECORD],
        {"instances": [RECORD]},
        {"dataframe_records": [RECORD]},
        {"columns": list(RECORD), "data": [list(RECORD.values())]},
        {"dataframe_split": {"columns": list(RECORD), "data": [list(RECORD.values())]}},
    ],
)
def test_records_come_in_each_wrapping_that_clients_use(
    url: str, expected: dict[str, Any], document: Any
) -> None:
    assert answers(url, json.dumps(document), "application/json") == [expected]


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [[1, 2]]},
        {"columns": ["a", "a"], "data": [[1, 2]]},
        {"columns": ["a", "b"], "data": [[1]]},
        {"columns": [1, 2], "data": [[1, 2]]},
        "text",
        [[]],
    ],
)
def test_what_holds_no_records_is_refused_whole(url: str, document: Any) -> None:
    assert problem(url, json.dumps(document), "application/json") == (422, "records_expected")


def test_each_line_of_json_lines_is_answered_by_a_line(url: str, expected: dict[str, Any]) -> None:
    good = json.dumps(RECORD)
    body = f"\ufeff{good}\n\nbroken\n[1]\n{json.dumps({'species': 'dog'})}\n{good}"
    code, said, headers = invoked(url, body, "application/jsonlines")
    found = [json.loads(line) for line in said.splitlines()]
    assert (code, headers["content-type"]) == (200, "application/jsonlines")
    assert [one["code"] for one in found] == [None, "row_json", "row_json", "table_columns", None]
    assert [one["record_id"] for one in found] == ["1", "2", "3", "4", "5"]
    assert found[0] == expected


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/csv", f"{LINE}\n{LINE}\n"),
        ("text/csv; header=absent", f"{LINE}\n{LINE}\n"),
        ("text/csv", f"{NAMES}\n{LINE}\n{LINE}\n"),
        ("text/csv; header=present", f"{NAMES}\n{LINE}\n{LINE}\n"),
        ("text/csv", f"\ufeff{LINE}\n{LINE}\n"),
    ],
)
def test_rows_without_ids_are_numbered_with_a_header_or_without(
    url: str, expected: dict[str, Any], kind: str, body: str
) -> None:
    assert answers(url, body, kind) == [expected, {**expected, "record_id": "2"}]


def test_a_row_with_one_cell_more_than_columns_begins_with_its_id(url: str) -> None:
    found = answers(url, f"P7,{LINE}\nP8,{LINE}\n", "text/csv")
    assert [one["record_id"] for one in found] == ["P7", "P8"]


def test_a_row_that_is_refused_keeps_its_place_and_its_number(url: str) -> None:
    found = answers(url, f"{LINE}\ndog,12\n\n{LINE}\n", "text/csv; header=absent")
    assert [(one["record_id"], one["code"]) for one in found] == [
        ("1", None), ("2", "row_width"), ("3", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("text/csv", "dog,12,8.5\n", "csv_width"),
        ("text/csv; header=absent", f"x,P1,{LINE}\n", "csv_width"),
        ("text/csv", "Art,Alter,Gewicht,Farbe,Text\n" + LINE, "csv_header"),  # records, or names?
        ("text/csv", "dog,,,black,calm\n", "csv_header"),
        ("text/csv; header=present", f"{LINE}\n", "table_columns"),
        ("text/csv", "species,colour\ndog,black\n", "table_columns"),
        ("text/csv; header=absent", b"dog,12,8.5,\xff\xfe,calm\n", "table_encoding"),
    ],
)
def test_a_csv_that_could_be_read_in_two_ways_is_refused(
    url: str, kind: str, body: bytes | str, code: str
) -> None:
    assert problem(url, body, kind) == (422, code)


def test_a_csv_without_a_header_is_answered_without_one(url: str) -> None:
    (row,) = rows(invoked(url, f"{LINE}\n", "text/csv", "text/csv")[1])
    assert len(row) == len(COLUMNS)
    (header, _) = rows(invoked(url, f"{NAMES}\n{LINE}\n", "text/csv", "text/csv")[1])
    assert header == [*COLUMNS]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/jsonlines", "application/jsonlines"),
        ("text/csv;q=0.5, application/jsonlines;q=0.9", "application/jsonlines"),
        ("image/png, text/*;q=0.1", "text/csv"),
    ],
)
def test_the_answer_has_the_form_that_is_accepted(url: str, accept: str, kind: str) -> None:
    headers = invoked(url, json.dumps(RECORD), "application/json", accept)[2]
    assert headers["content-type"].partition(";")[0] == kind


def test_a_form_that_there_is_not_is_refused_and_so_is_one_that_nobody_reads(url: str) -> None:
    assert problem(url, json.dumps(RECORD), "application/json", "image/png")[0] == 406
    assert problem(url, "<pet/>", "application/xml")[0] == 415


@pytest.mark.parametrize(
    ("headers", "dataset"),
    [
        ({"X_Amzn_SageMaker_Custom_Attributes": "trace=1, dataset=houses"}, "houses"),
        ({"X_Amzn_SageMaker_Target_Model": "houses.tar.gz"}, "houses"),
        ({"X_Amzn_SageMaker_Target_Model": "/pets"}, "pets"),
    ],
)
def test_headers_name_the_dataset(url: str, headers: dict[str, str], dataset: str) -> None:
    record = {"rooms": 3, "town": "north"} if dataset == "houses" else RECORD
    assert ask_json(f"{url}/invocations", record, **headers)["dataset"] == dataset


def test_among_several_datasets_one_has_to_be_named(url: str) -> None:
    for path in ("invocations", "endpoints/any/invocations"):
        told = ask_json(f"{url}/{path}", RECORD)
        assert "dataset_needed" in json.dumps(told)
        assert "houses, pets" in json.dumps(told)
    unknown = ask_json(f"{url}/invocations", RECORD, X_Amzn_SageMaker_Custom_Attributes="dataset=x")
    assert unknown["code"] == "dataset_not_served"


def test_a_price_has_its_interval(url: str) -> None:
    (row,) = rows(
        ask(
            f"{url}/endpoints/houses/invocations", "3,north\n",
            Content_Type="text/csv", Accept="text/csv",
        )[1]
    )  # fmt: skip
    told = dict(zip(COLUMNS, row, strict=True))
    assert float(told["lower"]) < float(told["prediction"]) < float(told["upper"])


def test_batch_transform_is_told_to_send_what_is_taken(url: str) -> None:
    told = ask_json(f"{url}/execution-parameters")
    assert told["BatchStrategy"] == "SINGLE_RECORD"
    assert 1 <= told["MaxPayloadInMB"] <= 100


@pytest.fixture(autouse=True, scope="module")
def _no_settings_of_aws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
        yield
