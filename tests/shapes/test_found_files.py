"""Files as other programs leave them: `mm init`, then an upload, and every row and image counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mm_assets as mm
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.train import train_model
from mm_assets.training.training_set import build_training_set
from mm_assets.uploads.find import find_uploads
from mm_assets.uploads.send import send
from tests.make import processed, received, rows_of, zipped
from tests.shapes import found_files
from tests.shapes.found_files import Files, N, write
from tests.uploads.archives.made import sevened, tarred

# What becomes of each: what the YAML says, and how many records have an image.
SAID: dict[str, tuple[Callable[[], Files], dict[str, Any], int]] = {
    "imagefolder with metadata.csv": (
        found_files.imagefolder_csv,
        {"id_column": "file_name", "image_name": "{file}", "kinds": {"age": "number"}},
        N,
    ),
    "imagefolder with metadata.jsonl": (
        found_files.imagefolder_jsonl,
        {"id_column": "file_name.name", "image_name": "{file}", "kinds": {"caption": "text"}},
        N,
    ),
    "imagefolder of classes": (
        found_files.imagefolder_classes,
        {"records": "images", "image_name": "{label}/{id}", "kinds": {}},
        N,
    ),
    "Parquet with images inside": (
        found_files.parquet_inside,
        {"id_column": "image.path", "image_column": "image", "kinds": {}},
        N,
    ),
    "Kaggle's table of paths": (
        found_files.kaggle_paths,
        {"id_column": "filepath.name", "label_column": "target", "image_column": "filepath"},
        N,
    ),
    "HEIC photos": (
        found_files.heic_photos,
        {"id_column": "id", "image_name": "*_{id}", "kinds": {"size": "number"}},
        20,
    ),
    "scans of several pages": (
        found_files.scans,
        {"id_column": "form_id", "image_name": "{id}", "kinds": {"fields": "category"}},
        20,
    ),
    "a labelling tool's JSON Lines": (
        found_files.labelling_tool,
        {"id_column": "id", "image_column": "image", "kinds": {"width": "category"}},
        N,
    ),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MM_ROOT", str(tmp_path / "project"))
    for name in ("MM_LAKE", "MM_TABLE", "MM_DATA", "AWS_ENDPOINT_URL", "MM_DATASETS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def taken_in(ds: mm.Dataset, path: Path) -> tuple[dict[str, Any], Lake]:
    """Send it; returns the document of its manifest. Nothing may be quarantined."""
    settings = mm.Settings.from_environment()
    lake, store = Lake(settings), open_store(settings)
    send(lake, path, "things")
    (upload,) = find_uploads(lake, "things").finished
    document = processed(lake, store, ds.spec, upload.name)
    assert received(lake, ds.spec, upload.name)["quarantined_by_code"] == {}
    return document, lake


@pytest.mark.parametrize("name", SAID)
def test_what_was_found_is_drafted_sent_and_used(project: Path, name: str) -> None:
    files, said, with_image = SAID[name]
    ds = mm.draft(str(write(project / "things", files())), name="things", say=lambda _: None)
    assert {key: getattr(ds.spec, key) for key in said} == said
    document, lake = taken_in(ds, project / "things")
    counts = document["counts"]
    assert (counts["records"], counts["labelled"]) == (N, N)
    learnt = build_training_set(lake, open_store(lake.settings), ds.spec, run_id="run")
    assert (learnt["labelled"], learnt["counts"]["with_image"]) == (N, with_image)
    assert (counts["with_image"], counts["images_used"]) == (with_image, with_image)
    assert (counts["rejected"], counts["images_orphaned"]) == (0, 0)
    assert len({row["label"] for row in rows_of(lake, document, "manifest.parquet")}) == 2


def test_a_model_is_trained_on_the_pages_of_a_scanner(project: Path) -> None:
    ds = mm.draft(str(write(project / "things", found_files.scans())), name="things",
                  say=lambda _: None)  # fmt: skip
    lake = taken_in(ds, project / "things")[1]
    attributes = ds.spec.model_dump(exclude_unset=True) | {
        "minimum_training_records": 10, "image_features": ["brightness"],
        "model_with_image": {"engine": "gradient_boosting"},
    }  # fmt: skip
    spec = DatasetSpec.model_validate(attributes)
    build_training_set(lake, open_store(lake.settings), spec, run_id="run")
    models = ModelStore(lake, "things")
    train_model(lake, models, spec, Modality.WITH_IMAGE, run_id="run", progress=lambda _: None)
    (version,) = models.versions(Modality.WITH_IMAGE)
    assert sum(models.manifest(Modality.WITH_IMAGE, version)["training_counts"].values()) == 20


@pytest.mark.parametrize("pack", [zipped, tarred, sevened])
def test_packed_they_are_the_same(project: Path, pack: Callable[[Files], bytes]) -> None:
    path = project / "things.archive"
    path.write_bytes(pack(found_files.parquet_inside()))
    ds = mm.draft(str(path), name="things", say=lambda _: None)
    assert taken_in(ds, path)[0]["counts"]["with_image"] == N
