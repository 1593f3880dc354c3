"""A changed byte in any file of the lake that decides something is refused or healed, never used.

The lake is that of a whole flow: uploads, trainings, promotions, predictions, a withdrawal. What
people sent (`inbox/`, `received/`) is theirs; it is verified when it is received.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import mm_assets as mm
from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import LakeError, MMError, ModelError
from mm_assets.lake.documents import BLOCK, NAME, hashes_of, packed, unpacked
from mm_assets.lake.lake import Lake
from mm_assets.predictions.outbox import finish, note
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.uploads import vectors
from tests.kill.project import DATASET, Project, make_waves, run_quietly

HERE = f"datasets/{DATASET}/"
# What a file's path is made of besides: the time, a hash, a number.
NAMED = re.compile(r"\d{8}-\d{6,9}-[0-9a-f]{10}|[0-9a-f]{16,}|\d{8}(?=\.json)")
FLIPS = 12  # bytes of each file, at random


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    before = dict(os.environ)
    labelled, second, _ = make_waves(0)
    made = Project(tmp_path_factory.mktemp("lake") / "project")
    run_quietly(made, [[*labelled, second[2], second[0]]])
    mm.open(DATASET).withdraw("rows0.zip", "sent by mistake")
    mm.open(DATASET).sync(quiet=True)
    yield made
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def lake(project: Project) -> Lake:
    return Lake(project.enter())


def flipped(data: bytes, at: int, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def documents(lake: Lake) -> dict[str, dict[str, Any]]:
    """Every document that can be read, by its key."""
    keys = [item.key for item in lake.list(HERE) if item.key.endswith(".json")]
    return {key: unpacked(lake.read(key)) for key in keys if "/models/" not in key}


def use(lake: Lake, key: str, named: dict[str, tuple[dict[str, Any], str]], cache: Path) -> Any:
    """What the flow sees of a file: always by one of these ways. None: it is made again."""
    if "/models/" in key and "/files/" not in key and "/champions/" not in key:
        models, modality = ModelStore(lake, DATASET, cache=cache), key.split("/")[3]
        return models.manifest(modality, models.champion(modality).version)  # type: ignore[union-attr]
    if "/champions/" in key:
        return ModelStore(lake, DATASET, cache=cache).champions(Modality(key.split("/")[3]))
    if "/models/" in key:
        models, modality = ModelStore(lake, DATASET, cache=cache), key.split("/")[3]
        folder = models.fetch(modality, key.split("/")[4])
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if "/embeddings/" in key:
        vectors._files.clear()
        found = vectors.LakeVectors(lake, DATASET)._fetched(key, f"{lake.url}/{key}")
        return found and {name: found.vectors[at].tolist() for name, at in found.places.items()}
    if key.endswith(".json"):
        return lake.read_json(key)
    document, name = named[key]
    with suppress(LakeError), lake.open_published(document, name) as file:
        return file.read()  # in parts it has to end in the same way
    return lake.read_published(document, name)


def test_a_changed_byte_of_any_kind_of_file_is_refused_or_healed(
    project: Project, lake: Lake, tmp_path: Path
) -> None:
    rng = random.Random(0)
    named = {
        file["key"]: (document, name)
        for document in documents(lake).values()
        for name, file in document.get("files", {}).items()
        if isinstance(file, dict)
    }
    kinds: dict[str, int] = {}
    refused: set[str] = set()
    for item in [*lake.list(HERE)]:
        key, path = item.key, project.root / "lake" / item.key
        kind = NAMED.sub("*", key.removeprefix(HERE))
        is_named = key.endswith(".json") or "/models/" in key or "/embeddings/" in key
        if not is_named and key not in named:
            continue  # of an earlier run: no document names it any more
        whole, right = path.read_bytes(), use(lake, key, named, tmp_path / "right")
        assert right is not None
        for number in range(FLIPS):
            at = {0: 0, 1: len(whole) - 1}.get(number, rng.randrange(len(whole)))
            path.write_bytes(flipped(whole, at, rng))
            used = "refused"
            try:
                used = use(lake, key, named, tmp_path / "changed")
            except MMError as error:
                refused.add(error.code)
            finally:
                path.write_bytes(whole)
            assert used in ("refused", None), f"{key} with another byte {at} is used"
            kinds[kind] = kinds.get(kind, 0) + 1
        assert use(lake, key, named, tmp_path / "right") == right
    assert refused == {"lake_damaged", "model_tampered"}
    assert len(kinds) > 25, kinds
    for part in ("champions/*.json", "model.json", "embeddings", "raw_uploads.json", "image_homes",
                 "withdrawn/*.json", "training_set", "specs", "source.json"):  # fmt: skip
        assert any(part in kind for kind in kinds), part


def test_every_byte_of_a_document_counts() -> None:
    rng = random.Random(0)
    for document in ({"a": [1, 2.5, None], "b": {"é": "ü"}}, {}):
        whole = packed(document)
        assert unpacked(whole) == document
        assert json.loads(whole).keys() - document.keys() == {NAME}
        for at in range(len(whole)):
            with pytest.raises(ValueError, match="."):
                unpacked(flipped(whole, at, rng))
    assert unpacked(b'{"a": 1}') == {"a": 1}  # of an earlier version, or of a person


def test_a_file_that_is_read_in_parts_is_verified_block_by_block(
    folder_settings: Any, tmp_path: Path
) -> None:
    lake, path = Lake(folder_settings), tmp_path / "big"
    path.write_bytes(random.Random(1).randbytes(3 * BLOCK + 77))
    document = lake.publish("d/u/doc.json", {"big.bin": path}, {})
    assert document["files"]["big.bin"]["blocks"] == hashes_of(path)
    stored = folder_settings.lake_folder / document["files"]["big.bin"]["key"]
    stored.write_bytes(flipped(path.read_bytes(), 2 * BLOCK + 5, random.Random(2)))
    with lake.open_published(document, "big.bin") as file:
        for start, length in (
            (0, 10),
            (BLOCK - 5, 10),
            (3 * BLOCK + 70, 7),
            (5, 2 * BLOCK - BLOCK // 4),
        ):
            file.seek(start)
            assert file.read(length) == path.read_bytes()[start : start + length]
        file.seek(2 * BLOCK)
        with pytest.raises(LakeError, match="lake_damaged"):
            file.read(1)


def test_what_is_damaged_of_an_upload_is_healed_by_taking_it_through_again(
    project: Project, lake: Lake
) -> None:
    before = project.end_state()
    pets = mm.open(DATASET)
    upload = next(one["upload"] for one in pets.uploads() if one["name"] == "again0.zip")
    folder = f"{HERE}uploads/{upload}/"
    rng = random.Random(3)
    for item in lake.list(folder):
        if item.key.endswith(("/source.json", "/inbox.json")):
            continue  # where it came in: without these nobody knows what it was
        path = project.root / "lake" / item.key
        path.write_bytes(flipped(path.read_bytes(), rng.randrange(item.size), rng))
    pets.retry(upload)
    pets.sync(quiet=True)
    after = project.end_state()
    assert after["rows"] == before["rows"]
    assert after["receipts"] == before["receipts"]


def test_a_changed_promotion_lets_no_model_answer(project: Project, lake: Lake) -> None:
    entry = project.root / "lake" / HERE / "models" / "without_image" / "champions"
    [path] = entry.glob("*.json")
    whole = path.read_bytes()
    document = unpacked(whole)
    path.write_bytes(whole.replace(document["version"].encode(), b"20260101-000000-0000000000"))
    try:
        with pytest.raises(ModelError, match="model_tampered"):
            ModelStore(lake, DATASET).champion(Modality.WITHOUT_IMAGE)
    finally:
        path.write_bytes(whole)


def test_a_changed_note_of_what_is_to_be_told_is_said_and_holds_nothing_back(
    project: Project, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake.settings, "results", "sqs://localhost/1/nobody")
    store = open_store(lake.settings)
    ids = store.read(DATASET)["record_id"]
    noted = note(lake, store, DATASET, ids, "upload", "run")
    assert noted
    [path] = (project.root / "lake" / HERE / "outbox").glob("*.parquet")
    path.write_bytes(flipped(path.read_bytes(), 40, random.Random(4)))
    told = finish(lake, store, DATASET, lambda _: True)
    assert (told.sent, told.left) == (0, 1)
    assert "lake_damaged" in told.reason
    path.unlink()
