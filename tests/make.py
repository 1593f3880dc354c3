"""What tests make: images, zips, folders and datasets, dropped into a lake as people would."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MARKER, inbox
from mm_assets.manifest.join import build_manifest
from mm_assets.tables.store import Store
from mm_assets.uploads.find import Source, find_uploads
from mm_assets.uploads.receive import receive
from mm_assets.uploads.received import read_parquet

PARTS = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: parts
  id_column: part
  label_column: state
  problem_type: binary
  columns: {weight: number}
  image_name: null
"""


def write_parts(settings: Settings) -> Path:
    """The YAML of a small dataset without images, in the project; its file."""
    file = settings.defs_folder / "parts" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(PARTS)
    return file


def dataset(**changes: Any) -> DatasetSpec:
    """A small dataset of pets; keyword arguments replace its keys."""
    keys = {
        "dataset": "pets",
        "id_column": "id",
        "label_column": "label",
        "problem_type": "binary",
        "classes": ["cat", "dog"],
        "columns": {"age": "number", "colour": "category"},
        "image_longest_side": 16,
    }
    return DatasetSpec.model_validate({**keys, **changes})


@lru_cache(maxsize=256)
def draw_image(seed: int = 0, kind: str = "PNG", side: int = 24) -> bytes:
    """An image drawn from a number; another number, another image."""
    colour = (seed * 53 % 256, seed * 101 % 256, seed * 197 % 256)
    image = Image.new("RGB", (side, side), colour)
    image.putpixel((seed % side, seed // side % side), (255, 255, 255))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def plain_image(
    colour: tuple[int, int, int], width: int = 40, height: int = 30, kind: str = "PNG"
) -> bytes:
    """An image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, kind)
    return buffer.getvalue()


def table(header: str, *rows: str) -> bytes:
    """A CSV file from its lines."""
    return ("\n".join([header, *rows]) + "\n").encode()


def csv_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> bytes:
    """A CSV file from its fields, quoted where it is needed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([list(header), *map(list, rows)])
    return text.getvalue().encode()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip, the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def drop_zip(lake: Lake, name: str, files: Mapping[str, bytes], dataset: str = "pets") -> None:
    lake.write(f"{inbox(dataset)}{name}", zipped(files))


def announcement(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The upload.json of these files."""
    return {
        "files": [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ]
    }


def drop_folder(lake: Lake, name: str, files: Mapping[str, bytes], dataset: str = "pets") -> None:
    """A folder, its marker last."""
    for file, data in files.items():
        lake.write(f"{inbox(dataset)}{name}/{file}", data)
    marker = json.dumps(announcement(files)).encode()
    lake.write(f"{inbox(dataset)}{name}/{MARKER}", marker)


def found(lake: Lake, name: str, dataset: str = "pets") -> Source:
    """The finished upload of this name; the newest, if it came more than once."""
    finished = find_uploads(lake, dataset).finished
    return max((s for s in finished if s.name == name), key=lambda source: source.upload)


def received(lake: Lake, spec: DatasetSpec, name: str) -> dict[str, Any]:
    """Receive the upload of this name; returns its receipt."""
    source = found(lake, name, spec.dataset)
    return receive(lake, spec, source, run_id="run", progress=lambda _: None)


def processed(lake: Lake, store: Store, spec: DatasetSpec, name: str) -> dict[str, Any]:
    """Receive the upload of this name and build its manifest; returns the manifest's document."""
    upload = received(lake, spec, name)["upload"]
    return build_manifest(lake, store, spec, upload, run_id="run")


def rows_of(lake: Lake, document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A published Parquet file as dictionaries."""
    return read_parquet(lake, dict(document), name).to_pylist()


def images_looked_at(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """From now on, every image that reaches a backbone's network."""
    from mm_assets.engines.shared import eyes

    seen: list[bytes] = []
    real = eyes.look_at

    def counted(images: Sequence[bytes], backbone: str, identity: str) -> np.ndarray:
        seen.extend(images)
        return real(images, backbone, identity)

    monkeypatch.setattr(eyes, "look_at", counted)
    return seen
