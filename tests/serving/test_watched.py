"""Around every request: its ID, its line in the log, its figures, an answer whatever happens."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from mm_assets.serving import logs, traces
from mm_assets.serving.app import make_app
from mm_assets.serving.options import Options
from mm_assets.serving.predictor import Predictor
from tests.serving.conftest import World

PREDICTIONS = "/v1/datasets/pets_like/predictions"
SECRET = "the secret of P201"


def app_of(world: World, **options: Any) -> FastAPI:
    predictor = Predictor(world.ds._models, world.ds.spec)
    app = make_app(Options(**options), {world.ds.name: lambda: predictor}, world.ds.settings)

    @app.get("/broken/{name}")
    async def broken(name: str) -> None:
        try:
            raise KeyError(name)
        except KeyError as error:
            raise ValueError(f"could not convert {SECRET}") from error

    return app


@pytest.fixture
def client(trained_pets: World) -> Iterator[TestClient]:
    with TestClient(app_of(trained_pets), base_url="http://127.0.0.1:8080") as made:
        while made.get("/ready").status_code != 200:
            time.sleep(0.02)
        yield made


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """What is written to stderr as JSON, since it was looked at last."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.OURS}
    logs.configure("json")
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
    for name, one in levels.items():
        logging.getLogger(name).setLevel(one)


def figures(client: TestClient) -> dict[tuple[str, ...], float]:
    """Each figure by its name and the values of its labels, in the order of the labels' names."""
    text = client.get("/metrics").text
    return {
        (
            sample.name.removeprefix("mm_serve_"),
            *(v for _, v in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# -- request IDs ----------------------------------------------------------------------------------


def test_a_request_keeps_its_id_and_gets_one_if_it_has_none(client: TestClient) -> None:
    assert client.get("/live", headers={"X-Request-ID": "a-b.c:1"}).headers["x-request-id"] == (
        "a-b.c:1"
    )
    first, second = (client.get("/live").headers["x-request-id"] for _ in range(2))
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second


@pytest.mark.parametrize("said", ["", "x" * 65, "two words", 'a"b', "a\x1b[31m", "é"])
def test_an_id_that_could_do_harm_is_not_taken_over(client: TestClient, said: str) -> None:
    answer = client.get("/live", headers={"X-Request-ID": said.encode("latin-1")})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_problem_says_which_request_it_was(client: TestClient) -> None:
    for path in ("/nowhere", "/v1/datasets/none", "/broken/x"):
        answer = client.get(path, headers={"X-Request-ID": "mine"})
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == "mine"


# -- the log --------------------------------------------------------------------------------------


def test_a_request_is_a_line_that_holds_nothing_of_its_record(
    client: TestClient, log: Any, pets_like: World
) -> None:
    record = {**pets_like.record(), "pet": "SECRET-ID", "note": SECRET}
    refused = {"pet": "SECRET-2", "colour": SECRET}
    log()
    answer = client.post(PREDICTIONS, json=[record, refused])
    assert answer.status_code == 200
    (line,) = log()
    told = {name: line[name] for name in ("method", "path", "dataset", "status", "records")}
    assert told == {
        "method": "POST", "path": "/v1/datasets/{dataset}/predictions", "dataset": "pets_like",
        "status": 200, "records": 2,
    }  # fmt: skip
    assert line["refused"] == 1
    assert line["duration_ms"] > 0
    assert line["models"] == [answer.json()["predictions"][0]["model_version"]]
    assert line["request_id"] == answer.headers["x-request-id"]
    text = json.dumps(line)
    assert "SECRET" not in text
    assert SECRET not in text


def test_neither_addresses_nor_unknown_names_come_into_the_log(
    client: TestClient, log: Any, pets_like: World
) -> None:
    log()
    record = {**pets_like.record(), "image": {"url": f"https://example.test/{SECRET}"}}
    client.post(PREDICTIONS, json=record)
    client.post(f"/v1/datasets/{SECRET}/predictions?key={SECRET}", json=record)
    client.get(f"/{SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
    lines = log()
    assert [line["status"] for line in lines] == [200, 404, 404]
    assert "secret" not in json.dumps(lines)


def test_what_nobody_expected_is_answered_and_its_place_is_logged(
    client: TestClient, log: Any
) -> None:
    log()
    answer = client.get(f"/broken/{SECRET}")
    assert answer.status_code == 500
    assert answer.json()["code"] == "unexpected"
    assert answer.json()["request_id"] in answer.json()["todo"]
    failed, line = log()
    assert failed["error"] == "KeyError > ValueError"
    assert any("in broken: raise ValueError" in place for place in failed["traceback"])
    assert failed["request_id"] == line["request_id"] == answer.headers["x-request-id"]
    assert line["status"] == 500
    for told in (answer.text, json.dumps(failed["error"]), json.dumps(line)):
        assert SECRET not in told
        assert "Traceback" not in told
    assert SECRET not in json.dumps(failed)


def test_looks_of_machines_are_not_logged(client: TestClient, log: Any) -> None:
    log()
    for path in ("/live", "/ready", "/metrics", "/ping"):
        client.get(path)
    assert log() == []


def test_on_a_terminal_a_request_is_a_short_line(
    client: TestClient, log: Any, capsys: pytest.CaptureFixture[str], pets_like: World
) -> None:
    logs.configure("text")
    client.post(PREDICTIONS, json=pets_like.record(), headers={"X-Request-ID": "mine"})
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"\d\d:\d\d:\d\d 200 POST /v1/\S+ \(pets_like\) 1 record [\d.]+ ms mine", line)


# -- figures --------------------------------------------------------------------------------------


def test_the_figures_tell_what_was_asked_and_answered(client: TestClient, pets_like: World) -> None:
    records = [pets_like.record(place) for place in range(3)]
    answers = client.post(PREDICTIONS, json=records).json()["predictions"]
    client.post(PREDICTIONS, json={"pet": "alone"})
    client.post("/v1/datasets/unknown/predictions", json=records)
    found = figures(client)
    assert found["requests_total", "native", "200"] == 1
    assert found["requests_total", "native", "422"] == 1
    assert found["requests_total", "native", "404"] == 1
    assert found["requests_total", "health", "200"] >= 1  # the look at /ready
    assert found["problems_total", "dataset_not_served", "native"] == 1
    assert found["refusals_total", "table_columns", "pets_like"] == 1
    review = sum(answer["needs_review"] for answer in answers)
    assert found.get(("records_total", "pets_like", "review"), 0) == review
    assert found.get(("records_total", "pets_like", "sure"), 0) == 3 - review
    assert found["records_total", "pets_like", "refused"] == 1
    assert found["batch_records_sum", "pets_like"] == 4
    assert found["confidence_count", "pets_like"] == 3
    mean = sum(answer["confidence"] for answer in answers)
    assert found["confidence_sum", "pets_like"] == pytest.approx(mean)
    for stage in ("read", "wait", "answer", "whole"):
        assert found["request_seconds_count", "pets_like", stage] == 2
    parts = sum(found["request_seconds_sum", "pets_like", s] for s in ("read", "wait", "answer"))
    assert 0 < parts <= found["request_seconds_sum", "pets_like", "whole"]
    version = answers[0]["model_version"]
    assert found["model_in_use", "pets_like", "without_image", version] == 1
    assert found["records_waiting", "pets_like"] == 0
    assert found["dataset_ready", "pets_like"] == 1
    assert found[("memory_bytes",)] > 1e6


def test_promotions_that_are_taken_up_are_counted(trained_pets: World) -> None:
    class Promoted(Predictor):
        looks = 0

        def refresh(self) -> bool:
            super().refresh()
            self.looks += 1
            return self.looks == 2  # the first is that of the start

    made = Promoted(trained_pets.ds._models, trained_pets.ds.spec)
    app = make_app(
        Options(refresh_seconds=0.05), {"pets_like": lambda: made}, trained_pets.ds.settings
    )
    with TestClient(app, base_url="http://127.0.0.1:8080") as client:
        end = time.monotonic() + 20
        while made.looks < 4 and time.monotonic() < end:
            time.sleep(0.02)
        assert figures(client)["promotions_total", "pets_like"] == 1


def test_nothing_that_a_client_chooses_becomes_a_label(
    client: TestClient, pets_like: World
) -> None:
    before = figures(client).keys()
    for number in range(20):
        client.post(f"/v1/datasets/d{number}/predictions", json={"pet": f"P{number}"})
        client.get(f"/path-{number}")
        client.request(f"METHOD{number}", "/v1/datasets")
        client.post(PREDICTIONS, json={**pets_like.record(), "pet": f"P{number}"})
    new = figures(client).keys() - before
    assert len({name for name, *_ in new}) < 30
    assert not any(re.search(r"\d", label) for _, *labels in new for label in labels
                   if not re.fullmatch(r"[\d.]+|\+Inf|inference_v2|\d{8}-.*", label))  # fmt: skip


def test_what_stands_around_a_request_costs_little(trained_pets: World) -> None:
    """Measured as 0.08 ms on a machine that did nothing else; a tenfold rise is a mistake."""
    import asyncio

    from mm_assets.serving.metrics import Metrics
    from mm_assets.serving.service import Service
    from mm_assets.serving.watched import Watched

    service = Service(Options(), {})
    metrics = Metrics(service)

    async def answer(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(app: Any) -> float:
        whole = asyncio.Event()
        messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            for message in messages:
                return message
            await whole.wait()
            return {"type": "http.disconnect"}

        async def send(_message: Any) -> None: ...

        began = time.process_time()
        await app({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)
        return time.process_time() - began

    async def median(app: Any) -> float:
        return sorted([await ask(app) for _ in range(300)])[150]

    async def cost() -> float:
        watched = Watched(answer, service=service, ended=[metrics.request])
        return await median(watched) - await median(answer)

    assert asyncio.run(cost()) < 0.0008


# -- OpenTelemetry --------------------------------------------------------------------------------

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_request_is_a_part_of_the_callers_trace(
    trained_pets: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    with TestClient(app_of(trained_pets), base_url="http://127.0.0.1:8080") as client:
        record = {**trained_pets.record(), "note": SECRET}
        assert client.post(PREDICTIONS, json=record, headers={"traceparent": PARENT}).is_success
        sys.stdout.flush()
    written = capfd.readouterr().out
    spans = _json_documents(written)
    assert {span["name"] for span in spans} == {
        "POST /v1/datasets/{dataset}/predictions", "read", "wait", "answer"
    }  # fmt: skip
    (server,) = (span for span in spans if span["kind"].endswith("SERVER"))
    assert server["parent_id"] == "0x00f067aa0ba902b7"
    assert server["attributes"]["mm.dataset"] == "pets_like"
    assert server["attributes"]["mm.records"] == 1
    for span in spans:
        assert span["context"]["trace_id"] == "0x4bf92f3577b34da6a3ce929d0e0e4736"
        assert server["start_time"] <= span["start_time"] <= span["end_time"] <= server["end_time"]
        if span is not server:
            assert span["parent_id"] == server["context"]["span_id"]
    assert SECRET not in written


def test_a_missing_exporter_is_said_and_everything_else_goes_on(
    trained_pets: World, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setattr(traces.importlib.metadata, "entry_points", lambda **_: ())
    log()
    with TestClient(app_of(trained_pets), base_url="http://127.0.0.1:8080") as client:
        assert client.get("/live").status_code == 200
    told = [line["message"] for line in log() if "OpenTelemetry" in line["message"]]
    assert len(told) == 1
    assert "opentelemetry-exporter-otlp-proto-http" in told[0]


def test_without_its_variables_there_is_no_opentelemetry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (traces.EXPORTER, *traces.ENDPOINTS):
        monkeypatch.delenv(name, raising=False)
    assert traces.traces_asked_for() is None
    monkeypatch.setenv(traces.EXPORTER, "console")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert traces.traces_asked_for() is None


def _json_documents(text: str) -> list[dict[str, Any]]:
    """The JSON objects that stand one after another in a text."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while (at := text.find("{", at)) >= 0:
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found
