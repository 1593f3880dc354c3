"""/docs and /openapi.json: what they show runs."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serving.protocols.served import LIGHT, ask, ask_json

ROOT = Path(__file__).parents[3]
SERVED_AT = "http://127.0.0.1:8080"  # in docs/serving.md
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    return ask_json(f"{url}/openapi.json")


@pytest.fixture(scope="module")
def page(url: str) -> str:
    return ask(f"{url}/docs")[1].decode()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> Path:
    """A folder with the files that the lines name."""
    folder = tmp_path_factory.mktemp("asking")
    body = document["paths"]["/invocations"]["post"]["requestBody"]["content"]
    table = body["text/csv"]["examples"]["pets"]["value"]
    (folder / "table.csv").write_text(table)
    (folder / "rows.csv").write_text(table.partition("\n")[2] * 2)  # without a header
    (folder / "photo.jpg").write_bytes(LIGHT)
    return folder


def run(line: str, folder: Path) -> str:
    """What a line of curl prints; a status that is no success fails."""
    asked = shlex.split(line.replace("\\\n", " "))
    assert asked[0] == "curl"
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", *asked[1:]], cwd=folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def examples(document: dict[str, Any]) -> list[tuple[str, str, str, Any]]:
    """Path, media type, dataset and body of each example."""
    return [
        (path, kind, name, one["value"])
        for path, operations in document["paths"].items()
        if "post" in operations
        for kind, told in operations["post"].get("requestBody", {}).get("content", {}).items()
        for name, one in told.get("examples", {}).items()
    ]


def test_each_example_is_answered_for_each_dataset(url: str, document: dict[str, Any]) -> None:
    found = examples(document)
    paths = {path for path, *_ in found}
    assert paths == {
        "/v1/datasets/{dataset}/predictions", "/invocations", "/endpoints/{endpoint}/invocations",
        "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer",
    }  # fmt: skip
    for path, kind, name, value in found:
        (version,) = ask_json(f"{url}/v2/models/{name}")["versions"]
        there = path.format(dataset=name, model=name, endpoint=name, version=version)
        body = value if isinstance(value, str) else json.dumps(value)
        code, said, _ = ask(
            url + there, body, Content_Type=kind,
            X_Amzn_SageMaker_Custom_Attributes=f"dataset={name}",
        )  # fmt: skip
        assert code == 200, (there, said)
        told = json.loads(said)
        if "predictions" in told:
            schema = document["components"]["schemas"]["Answer"]
            assert [*told["predictions"][0]] == schema["required"]
            assert told["predictions"][0]["doubts"] is None  # nothing in it is unheard of


def test_the_schema_of_a_record_names_each_column(document: dict[str, Any]) -> None:
    record = document["components"]["schemas"]["pets-record"]
    assert record["required"] == ["species", "age_months", "weight_kg", "colour", "description"]
    assert [*record["properties"]] == ["pet_id", *record["required"], "image"]
    asked = document["paths"]["/v1/datasets/{dataset}"]["get"]["parameters"]
    assert asked[0]["schema"]["enum"] == ["houses", "pets"]


def test_all_references_lead_somewhere(document: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    found = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    assert found - known == set()
    assert "#/components/schemas/Problem" in found


@needs_curl
def test_each_line_of_the_page_runs(page: str, url: str, files: Path) -> None:
    lines = [html.unescape(line) for line in re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)]
    assert len(lines) == 5 + 4  # those of houses have no image
    for line in lines:
        if "/houses/" in line and "@table.csv" in line:
            continue  # the file holds pets
        assert url in line
        assert '"predict' in run(line, files)


def test_the_page_loads_nothing_and_runs_nothing(page: str, url: str) -> None:
    assert not re.search(r"<script|src=|@import|url\(", page)
    assert set(re.findall(r'href="([^"]+)"', page)) == {"openapi.json", "ready"}
    headers = ask(f"{url}/docs")[2]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "Pets &amp; their &lt;b&gt;images&lt;/b&gt;" in page  # the dataset's own words
    told = ask(f"{url}/docs", Host='x"><script>')[1].decode()
    assert "<script" not in told


def pieces(language: str) -> list[str]:
    """What stands in that language in the parts of docs/serving.md on protocols."""
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    text = text[text.index("## SageMaker") : text.index("## In Python")]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def lines_of_docs() -> list[str]:
    """Each command with curl."""
    parts = [part for one in pieces("bash") for part in re.split(r"\n(?=\S)", one.strip())]
    return [line for line in parts if line.startswith("curl")]


@needs_curl
@pytest.mark.parametrize("line", lines_of_docs())
def test_each_line_of_the_docs_runs(line: str, url: str, files: Path) -> None:
    line = line.replace(SERVED_AT, url)
    if "/invocations" in line and "dataset=" not in line:
        line += " -H 'X-Amzn-SageMaker-Custom-Attributes: dataset=pets'"  # there are two here
    assert run(line, files).strip()


@pytest.mark.parametrize("piece", pieces("python"))
def test_each_piece_of_python_in_the_docs_runs(piece: str, url: str, files: Path) -> None:
    asked = piece.replace(SERVED_AT, url)
    asked = asked.replace(SERVED_AT.removeprefix("http://"), url.removeprefix("http://"))
    assert asked != piece
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=files, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'yes'" in done.stdout
