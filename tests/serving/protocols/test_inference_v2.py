"""The Open Inference Protocol, asked by Triton's client, by KServe's and by hand."""

from __future__ import annotations

import base64
import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.serving.problems import Problem
from mm_assets.serving.tensors import DATATYPES, Output, Tensor, split_body, tensors_of
from mm_assets.tables.answer import COLUMNS
from tests.serving.protocols.served import DARK, LIGHT, RECORD, Project, ask, ask_json, status

triton = pytest.importorskip("tritonclient.http")
NUMBERS = ("age_months", "weight_kg")


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    yield client
    client.close()


def tensor(name: str, values: Any, *, binary: bool = True, datatype: str = "") -> Any:
    kind = datatype or ("FP64" if name in NUMBERS else "BYTES")
    array = np.array(values, dtype=object if kind == "BYTES" else triton_type(kind))
    found = triton.InferInput(name, list(array.shape), kind)
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def triton_type(name: str) -> Any:
    from tritonclient.utils import triton_to_np_dtype

    return triton_to_np_dtype(name)


def inputs(*records: dict[str, Any], **more: Any) -> list[Any]:
    return [tensor(name, [one[name] for one in records], **more) for name in records[0]]


def request(**changes: Any) -> dict[str, Any]:
    """The record as JSON; keyword arguments replace tensors by name, None leaves one out."""
    tensors = {
        name: {
            "name": name, "shape": [1], "datatype": "FP64" if name in NUMBERS else "BYTES",
            "data": [value],
        }
        for name, value in RECORD.items()
    }  # fmt: skip
    tensors |= {name: {**tensors.get(name, {"name": name}), **own} for name, own in changes.items()
                if own is not None}  # fmt: skip
    return {"inputs": [one for name, one in tensors.items() if changes.get(name, one) is not None]}


def infer(url: str, document: Any, model: str = "pets") -> dict[str, Any]:
    """The values of each output by its name."""
    told = ask_json(f"{url}/v2/models/{model}/infer", document)
    assert "outputs" in told, told
    return {one["name"]: one["data"] for one in told["outputs"]}


def refusal(url: str, document: Any) -> str:
    code, said, _ = ask(f"{url}/v2/models/pets/infer", json.dumps(document))
    assert code in (400, 422)
    return json.loads(said)["error"]


# -- Triton's client ------------------------------------------------------------------------------


def test_triton_finds_the_server_and_its_models(client: Any, served_project: Project) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pets")
    assert not client.is_model_ready("cows")
    assert client.get_server_metadata()["name"] == "mm-assets"
    index = {one["name"]: one["state"] for one in client.get_model_repository_index()}
    assert index == {"pets": "READY", "houses": "READY"}
    told = client.get_model_metadata("pets")
    assert [(one["name"], one["datatype"]) for one in told["inputs"]] == [
        ("pet_id", "BYTES"), ("species", "BYTES"), ("age_months", "FP64"), ("weight_kg", "FP64"),
        ("colour", "BYTES"), ("description", "BYTES"), ("image", "BYTES"),
    ]  # fmt: skip
    (version,) = told["versions"]
    champions = served_project.predictor("pets").champions
    assert version.split(".") == [champions.version(m) for m in ("with_image", "without_image")]
    assert client.is_model_ready("pets", version)
    assert not client.is_model_ready("pets", "1")


@pytest.mark.parametrize("binary", [True, False])
def test_triton_is_answered_as_a_process_that_holds_the_model(
    client: Any, served_project: Project, binary: bool
) -> None:
    records = [RECORD, {**RECORD, "species": "cat", "age_months": 80, "description": "größer"}]
    expected = served_project.predictor("pets").predict(records)
    asked = ("prediction", "probabilities", "confidence", "needs_review", "model_version")
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in asked]
    found = client.infer("pets", inputs(*records, binary=binary), outputs=outputs, request_id="q7")
    assert found.get_response()["id"] == "q7"
    assert [one["name"] for one in found.get_response()["outputs"]] == list(asked)
    assert texts(found, "prediction") == [one["prediction"] for one in expected]
    assert texts(found, "model_version") == [one["model_version"] for one in expected]
    assert found.as_numpy("confidence").tolist() == [one["confidence"] for one in expected]
    assert found.as_numpy("needs_review").tolist() == [one["needs_review"] for one in expected]
    classes = json.loads(found.get_output("probabilities")["parameters"]["classes"])
    assert [
        dict(zip(classes, row, strict=True)) for row in found.as_numpy("probabilities").tolist()
    ] == [one["probabilities"] for one in expected]


def texts(found: Any, name: str) -> list[str]:
    """Text of JSON is text, text of bytes is bytes."""
    values = found.as_numpy(name).tolist()
    return [value if isinstance(value, str) else value.decode() for value in values]


def test_triton_sends_images_as_they_are(client: Any, served_project: Project) -> None:
    records = [{**RECORD, "pet_id": "a"}, {**RECORD, "pet_id": "b"}, {**RECORD, "pet_id": "c"}]
    tensors = [*inputs(*records), tensor("image", [LIGHT, b"", base64.b64encode(DARK)])]
    found = client.infer("pets", tensors)
    expected = served_project.predictor("pets").predict(records, [LIGHT, None, DARK])
    assert texts(found, "modality") == ["with_image", "without_image", "with_image"]
    assert texts(found, "record_id") == ["a", "b", "c"]
    assert found.as_numpy("confidence").tolist() == [one["confidence"] for one in expected]
    assert {one["name"] for one in found.get_response()["outputs"]} == {*COLUMNS} - {
        "lower", "upper",
    }  # fmt: skip


def test_an_image_that_is_none_is_left_out_and_says_so(client: Any) -> None:
    found = client.infer("pets", [*inputs(RECORD), tensor("image", [LIGHT[:60]])])
    assert texts(found, "modality") == ["without_image"]
    assert texts(found, "code") == ["image_unreadable"]


def test_a_column_that_has_no_tensor_is_refused_in_the_words_of_an_upload(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException, match="columns missing: description"):
        client.infer("pets", inputs(RECORD)[:-1])


def test_nan_is_a_missing_value_and_a_refused_record_needs_review(
    client: Any, served_project: Project
) -> None:
    records = [{**RECORD, "age_months": math.nan}, {**RECORD, "age_months": math.inf}, RECORD]
    found = client.infer("pets", inputs(*records))
    missing = served_project.predictor("pets").predict({**RECORD, "age_months": None})[0]
    assert texts(found, "doubts")[0] == missing["doubts"] != ""
    assert texts(found, "code") == ["", "number_invalid", ""]
    assert texts(found, "prediction")[1] == ""
    assert np.isnan(found.as_numpy("confidence")).tolist() == [False, True, False]
    assert np.isnan(found.as_numpy("probabilities")).tolist() == [[False] * 2, [True] * 2] + [
        [False] * 2
    ]
    assert found.as_numpy("needs_review")[1]


def test_a_number_is_predicted_as_a_number_with_its_interval(client: Any) -> None:
    rooms = tensor("rooms", [[3], [4]], datatype="INT16")
    found = client.infer("houses", [rooms, tensor("town", [["north"], ["south"]])])
    low, told, high = (found.as_numpy(name) for name in ("lower", "prediction", "upper"))
    assert (low < told).all()
    assert (told < high).all()
    assert found.get_output("probabilities") is None


# -- by hand --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("FP32", 12.0), ("INT8", 12), ("UINT64", 12), ("BYTES", "12"), ("FP64", 12)],
)
def test_numbers_come_in_each_datatype(url: str, datatype: str, value: Any) -> None:
    usual = infer(url, request())
    assert infer(url, request(age_months={"datatype": datatype, "data": [value]})) == usual
    nested = {"datatype": datatype, "shape": [1, 1], "data": [[value]]}
    assert infer(url, request(age_months=nested)) == usual


def test_bytes_may_be_base64_if_they_say_so(url: str) -> None:
    packed = {
        "data": [base64.b64encode(b"calm").decode()],
        "parameters": {"content_type": "base64"},
    }
    assert infer(url, request(description=packed)) == infer(url, request())


def test_the_version_of_the_path_has_to_be_the_one_that_answers(url: str) -> None:
    (version,) = ask_json(f"{url}/v2/models/pets")["versions"]
    for path in ("", "/ready"):
        assert status(f"{url}/v2/models/pets/versions/{version}{path}") == 200
        assert status(f"{url}/v2/models/pets/versions/1{path}") == 404
    told = ask_json(f"{url}/v2/models/pets/versions/{version}/infer", request())
    assert (told["model_name"], told["model_version"]) == ("pets", version)
    refused = ask_json(f"{url}/v2/models/pets/versions/1/infer", request())
    assert refused["error"].startswith("[version_unknown]")


def test_a_model_that_is_not_served_is_not_found(url: str) -> None:
    for path in ("", "/ready", "/versions/1"):
        code, said, _ = ask(f"{url}/v2/models/cows{path}")
        assert code == 404
        assert "no dataset 'cows' is served" in json.loads(said)["error"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "an object with `inputs`"),
        ({}, "a list of tensors"),
        ({"inputs": []}, "a list of tensors"),
        ({"inputs": [1]}, "an object with a name"),
        (request(age_months={"datatype": "FP80"}), "the datatype is 'FP80'"),
        (request(age_months={"shape": [2]}), "1 values, and the shape says 2"),
        (request(age_months={"shape": [1, 2]}), "the shape is"),
        (request(age_months={"shape": [True]}), "the shape is"),
        (request(age_months={"shape": None}), "the shape is null"),
        (request(age_months={"shape": [2], "data": [1, 2]}), "not equally long"),
        (request(age_months={"data": ["12"]}), 'age_months: "12" is no FP64'),
        (request(age_months={"data": [[[12]]]}), "is no FP64"),
        (request(age_months={"data": None}), "`data` has to be a list"),
        (request(age_months={"datatype": "INT8", "data": [128]}), "128 is no INT8"),
        (request(age_months={"datatype": "UINT8", "data": [-1]}), "-1 is no UINT8"),
        (request(age_months={"datatype": "INT8", "data": [True]}), "true is no INT8"),
        (request(age_months={"parameters": {"binary_data_size": 8}}), "does not fit the body"),
        (request(age_months={"parameters": []}) | {"outputs": 1}, "`outputs` has to be a list"),
        (request(image={"datatype": "FP32", "shape": [1], "data": [1]}), "and not BYTES"),
        (request() | {"outputs": [{"name": "logits"}]}, "there is no output 'logits'"),
        (request() | {"outputs": [{"name": "lower"}]}, "there is no output 'lower'"),
        ({"inputs": [*request()["inputs"], request()["inputs"][0]]}, "two tensors"),
    ],
)
def test_a_request_that_is_none_is_refused_with_what_is_wrong(
    url: str, document: Any, words: str
) -> None:
    assert words in refusal(url, document)


@pytest.mark.parametrize(
    ("length", "words"),
    [("x", "no number"), ("-1", "no number"), ("9" * 12, "is to have"), ("²", "no number")],
)
def test_a_length_of_json_that_does_not_fit_is_refused(length: str, words: str) -> None:
    with pytest.raises(Problem) as caught:
        split_body(b"{}", length)
    assert words in caught.value.what


# -- tensors --------------------------------------------------------------------------------------

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BYTES": st.text(max_size=20) | st.binary(max_size=20),
    "BOOL": st.booleans(),
    "FP64": st.floats(allow_nan=False),
    "INT16": st.integers(-(2**15), 2**15 - 1),
    "UINT64": st.integers(0, 2**64 - 1),
}


@given(st.sampled_from(sorted(_VALUES)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(_VALUES[kind], max_size=5))
))  # fmt: skip
def test_values_survive_the_way_there_and_back_as_bytes(told: tuple[str, list[Any]]) -> None:
    kind, values = told
    if kind == "BYTES":
        packed = [value.encode() if isinstance(value, str) else value for value in values]
        raw = b"".join(struct.pack("<I", len(one)) + one for one in packed)
        head = {"name": "a", "datatype": kind, "shape": [len(values)],
                "parameters": {"binary_data_size": len(raw)}}  # fmt: skip
        (found,) = tensors_of([head], memoryview(raw))
        back = [one.encode() if isinstance(one, str) else one for one in found.values]
        assert back == packed
    else:
        head, raw = Output("a", kind, (len(values),), values).written(binary=True)
        (found,) = tensors_of([head], memoryview(raw))
        assert found.values == values


def tensors_or_not(inputs: Any, raw: bytes) -> list[Tensor]:
    """None of them where the request is refused; whatever else is raised is raised."""
    try:
        return tensors_of(inputs, memoryview(raw))
    except Problem:
        return []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        | st.sampled_from(DATATYPES),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["name", "datatype", "shape", "data", "parameters", "inputs"])
            | st.just("binary_data_size"), inner, max_size=5,
        ),
        max_leaves=20,
    ),
    st.binary(max_size=40),
)  # fmt: skip
def test_whatever_comes_is_tensors_or_a_problem(inputs: Any, raw: bytes) -> None:
    found = tensors_or_not(inputs, raw)
    assert all(len(one.values) == len(found[0].values) for one in found)


@given(st.sampled_from(DATATYPES), st.binary(max_size=60), st.integers(0, 20))
def test_whatever_bytes_come_are_values_or_a_problem(kind: str, raw: bytes, count: int) -> None:
    head = {"name": "a", "datatype": kind, "shape": [count],
            "parameters": {"binary_data_size": len(raw)}}  # fmt: skip
    for found in tensors_or_not([head], raw):
        assert len(found.values) == count


# -- KServe's client ------------------------------------------------------------------------------

KSERVE = """
import asyncio, sys
import numpy as np
from kserve import InferInput, InferRequest, InferenceRESTClient, RESTConfig

async def main(url, image):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url) and await client.is_server_ready(url)
    assert await client.is_model_ready(url, "pets")
    record = {"species": "dog", "colour": "black", "description": "calm"}
    for binary in (True, False):
        inputs = []
        for name, value in record.items():
            one = InferInput(name, [1], "BYTES")
            one.set_data_from_numpy(np.array([value], dtype=object), binary_data=binary)
            inputs.append(one)
        for name, value in (("age_months", 12.0), ("weight_kg", 8.5)):
            one = InferInput(name, [1], "FP64")
            one.set_data_from_numpy(np.array([value]), binary_data=binary)
            inputs.append(one)
        picture = InferInput("image", [1], "BYTES")
        with open(image, "rb") as file:
            content = file.read()
        picture.set_data_from_numpy(np.array([content], dtype=object), binary_data=True)
        inputs.append(picture)
        answer = await client.infer(url, InferRequest("pets", inputs), model_name="pets")
        told = {one.name: one.as_numpy().tolist() for one in answer.outputs}
        modality, prediction = told["modality"][0], told["prediction"][0]
        as_text = lambda one: one if isinstance(one, str) else one.decode()
        print(as_text(modality), as_text(prediction), told["confidence"][0])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(os.environ.get("MM_NIGHTLY") != "1", reason="installs kserve, which takes long")
def test_kserve_is_answered_as_a_process_that_holds_the_model(
    url: str, served_project: Project, tmp_path: Path
) -> None:
    """In an environment of its own: kserve wants another psutil than we have."""
    image, script = tmp_path / "light.png", tmp_path / "ask.py"
    image.write_bytes(LIGHT)
    script.write_text(KSERVE)
    uv = [sys.executable, "-m", "uv"]
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([*uv, "venv", "-q", tmp_path / "venv"], check=True)
    subprocess.run([*uv, "pip", "install", "-q", "--python", python, "kserve"], check=True)
    done = subprocess.run(
        [python, script, url, image], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    expected = served_project.predictor("pets").predict(RECORD, LIGHT)[0]
    line = f"with_image {expected['prediction']} {expected['confidence']}"
    assert done.stdout.splitlines() == [line, line], done.stderr
