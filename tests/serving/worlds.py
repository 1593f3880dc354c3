"""Projects with champions of every engine, and what the batch says of a record."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import yaml

import mm_assets as mm
from mm_assets.contract.errors import REFUSALS
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import COMPONENT
from mm_assets.predictions.at_once import predict_at_once
from mm_assets.registry.store import ModelStore
from mm_assets.serving.app import make_app
from mm_assets.serving.options import Options
from mm_assets.serving.sources import sources
from mm_assets.tables.answer import COLUMNS, as_answer
from tests.make import draw_image, plain_image

Record = dict[str, Any]
Answer = dict[str, Any]
Asked = tuple[Record, bytes | None]
RULES = {
    "rules": [{"when": "age < 5", "then": "yes"}, {"when": "colour = 'blue'", "then": "no"}],
    "otherwise": "yes",
}
LOGISTIC = {"steps": ["sklearn.preprocessing.StandardScaler",
                      "sklearn.linear_model.LogisticRegression"]}  # fmt: skip
RIDGE = {"steps": ["sklearn.linear_model.Ridge"]}
ENGINES: dict[str, Any] = {
    "gradient_boosting": {"engine": "gradient_boosting"},
    "automatic": {"engine": "automatic",
                  "hyperparameters": {"members": ["linear", "trees", "linear with image"],
                                      "folds": 3}},
    "sklearn": {"engine": "sklearn", "hyperparameters": LOGISTIC},
    "rules": {"engine": "rules", "hyperparameters": RULES},
    "autogluon": {"engine": "autogluon", "hyperparameters": {"optim.max_epochs": 1}},
    "number_gradient_boosting": {"engine": "gradient_boosting"},
    "number_automatic": {"engine": "automatic",
                         "hyperparameters": {"members": ["linear", "trees"], "folds": 3}},
    "number_sklearn": {"engine": "sklearn", "hyperparameters": RIDGE},
}  # fmt: skip


def pets(count: int, seed: int = 0) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """Light pets are adopted if the image shows it; without an image the age tells."""
    chance = np.random.default_rng(seed)
    light = chance.integers(0, 2, count)
    frame = pd.DataFrame(
        {
            "pet": [f"P{seed}{i:03d}" for i in range(count)],
            "age": np.where(light, chance.uniform(0, 6, count), chance.uniform(4, 12, count)),
            "colour": chance.choice(["red", "blue"], count),
            "note": chance.choice(["loud", "quiet and small", "shy"], count),
            "adopted": np.where(light, "yes", "no"),
            "price": 100 * light + chance.uniform(0, 30, count),
        }
    )
    images = {
        name: plain_image((int(40 + 160 * is_light),) * 3)
        for name, is_light, there in zip(frame["pet"], light, chance.random(count), strict=True)
        if there > 0.3
    }
    return frame, images


def write_dataset(root: Path, kind: str) -> mm.Dataset:
    """A dataset of pets whose engine is ENGINES[kind], in the project at `root`."""
    is_number = kind.startswith("number_")
    attributes = {
        "dataset": kind,
        "id_column": "pet",
        "label_column": "price" if is_number else "adopted",
        "problem_type": "regression" if is_number else "binary",
        **({} if is_number else {"classes": ["yes", "no"]}),
        "columns": {"age": "number", "colour": {"kind": "category", "required": True},
                    "note": "text"},
        "missing_values": ["", "NA"],
        "image_longest_side": 32,
        "image_maximum_megapixels": 1,
        "image_features": ["brightness"],
        "model_with_image": ENGINES[kind],
        "model_without_image": ENGINES[kind],
        "minimum_training_records": 20,
    }  # fmt: skip
    folder = root / "dagster_project" / "defs" / kind
    folder.mkdir(parents=True)
    text = yaml.safe_dump({"type": COMPONENT, "attributes": attributes}, sort_keys=False)
    (folder / "defs.yaml").write_text(text)
    return mm.open(kind)


def trained(root: Path, kind: str) -> mm.Dataset:
    """The same with champions of both modalities; the environment names `root`."""
    ds = write_dataset(root, kind)
    frame, images = pets(160)
    ds.upload(frame, images, quiet=True)
    ds.sync(quiet=True)
    ds.train(quiet=True)
    missing = [row["modality"] for row in ds.champions() if row["version"] is None]
    assert missing == [], f"{kind}: no champion for {missing}"
    return ds


# -- what the batch says --------------------------------------------------------------------------


def batch_answer(ds: mm.Dataset, record: Record, image: bytes | None = None) -> Answer:
    """What becomes of an upload with this record alone, as the keys of an answer.

    record: as JSON has it, its label is not sent along; an image is named by its ID.
    """
    spec = ds.spec
    told = {name: value for name, value in record.items() if name != spec.label_column}
    files = [("record.jsonl", json.dumps(told).encode() + b"\n")]
    if image is not None:
        files.append((f"{record[spec.id_column]}.png", image))
    found = predict_at_once(ModelStore(ds.lake, ds.name), spec, files)
    answer: Answer = dict.fromkeys(COLUMNS)
    for row in found.predictions.to_pylist():
        answer |= as_answer(spec, row)
    for refused in [*found.rejects, *found.failed]:
        answer |= {name: refused[name] for name in ("code", "reason", "todo")}
        answer["record_id"] = refused["record_id"]
    for file in found.files:
        if file["code"]:
            code = file["code"]
            answer |= {"code": code, "reason": file["reason"], "todo": REFUSALS.get(code, "")}
            if answer["record_id"] is None:  # nothing was read of it
                answer["record_id"] = record[spec.id_column]
    return answer


def differences(served: Answer, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Where two answers differ: probabilities by more than 1e-5, all else at all."""
    return {
        name: (served[name], batch[name])
        for name in COLUMNS
        if not _same(served[name], batch[name], exact=name not in ("probabilities", "confidence"))
    }


def _same(one: Any, other: Any, *, exact: bool) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(
            _same(one[name], other[name], exact=exact) for name in one
        )
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= (1e-9 * abs(other) if exact else 1e-5)
    return bool(one == other)


# -- the law ---------------------------------------------------------------------------------------


def asked(*, all_faults: bool = True) -> list[Asked]:
    """Usual records, and those of which something is wrong or was never seen; or few of these."""
    frame, images = pets(10, seed=1)
    usual = frame.drop(columns=["adopted", "price"]).to_dict("records")
    found: list[Asked] = [(record, images.get(record["pet"])) for record in usual]
    own = {"age": 3, "colour": "red", "note": "shy"}
    image = plain_image((200, 200, 200))
    odd: list[Record] = [
        {"pet": 7, **own},
        {"pet": "é", **own, "note": None},
        {"pet": "whole number", **own, "age": 4},
        {"pet": "text number", **own, "age": "4.25"},
        {"pet": "comma", **own, "age": "4,25"},
        {"pet": "missing", **own, "age": None, "note": "NA"},
        {"pet": "far", **own, "age": 1e6},
        {"pet": "unseen", **own, "colour": "plaid"},
        {"pet": "spelt otherwise", **own, "colour": " RED"},
        {"pet": "truth", **own, "colour": True},
        {"pet": "another case", "Age": 3, "colour": "red", "note": "x", "more": [1, 2]},
        {"pet": "labelled", **own, "adopted": "yes", "price": 3},
        # refused
        {"pet": "no number", **own, "age": "old"},
        {"pet": "ambiguous", **own, "age": "1,234"},
        {"pet": "required", **own, "colour": "NA"},
        {"pet": "nested", **own, "note": {"a": 1}},
        {"pet": "nul", **own, "note": "a\0b"},
        {"pet": "no note", "age": 3, "colour": "red"},
        {"pet": "a/b", **own},
        {"pet": " ", **own},
        {"pet": "x" * 1100, **own},
    ]
    if not all_faults:
        return [*found[:6], *((one, image) for one in odd[5:8]), (odd[12], None), (odd[5], b"no")]
    found += [(record, None) for record in odd]
    found += [(record, image) for record in odd if "/" not in str(record["pet"])][:-2]
    found += [({"pet": f"image {n}", **own}, data) for n, data in enumerate(refused_images())]
    return found


def refused_images() -> list[bytes]:
    whole = draw_image(3, "JPEG", 200)
    return [
        b"no image", b"id,age\n1,2\n", b"{}", whole[: len(whole) // 2], whole[:20],
        b"\x89PNG\r\n\x1a\n" + bytes(40), plain_image((9, 9, 9), 1500, 900), b"GIF89a" + bytes(30),
    ]  # fmt: skip


def as_json(one: Asked) -> Record:
    record, image = one
    return record if image is None else {**record, "image": base64.b64encode(image).decode()}


def check(some: list[Asked], served: list[Answer], ds: mm.Dataset) -> None:
    """Each answer is what an upload with that record alone would lead to."""
    assert len(some) == len(served)
    wrong = {}
    for place, (one, answer) in enumerate(zip(some, served, strict=True)):
        found = differences(answer, batch(ds, one))
        if "code" not in found and answer["code"] in ("id_too_long", "id_unsafe", "id_blank"):
            found.pop("record_id", None)  # a table of refusals does not keep such an ID
        if found:
            wrong[place, str(one[0])[:120], one[1] and one[1][:12]] = found
    assert not wrong, "\n".join(f"{place}: {found}" for place, found in wrong.items())


_said: dict[tuple[str, str, bytes | None], Answer] = {}


def batch(ds: mm.Dataset, one: Asked) -> Answer:
    """`batch_answer`, asked for once."""
    key = (ds.name, json.dumps(one[0]), one[1])
    if key not in _said:
        _said[key] = batch_answer(ds, *one)
    return _said[key]


# -- over HTTP, in this process -------------------------------------------------------------------


@asynccontextmanager
async def serving(*names: str, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service for these datasets of the project that the environment names."""
    options = Options(datasets=names, **{"refresh_seconds": 3600, **changes})
    settings = Settings.from_environment()
    specs = {name: mm.open(name).spec for name in names}
    app = make_app(options, sources(options, settings, specs), settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            client.app = app  # type: ignore[attr-defined]
            yield client


def answers_of(response: httpx.Response) -> list[Answer]:
    """The answers in a response; a problem's refusals, in the keys of answers."""
    document = response.json()
    if response.status_code == 200:
        answers: list[Answer] = document["predictions"]
        return answers
    assert response.status_code == 422, response.text
    return [{**dict.fromkeys(COLUMNS), **error} for error in document["errors"]]


async def ask(
    client: httpx.AsyncClient, dataset: str, records: Sequence[Record] | Record
) -> list[Answer]:
    """Answers for records whose key `image` may hold base64."""
    path = f"/v1/datasets/{dataset}/predictions"
    body = records if isinstance(records, dict) else {"records": list(records)}
    return answers_of(await client.post(path, json=body))
