"""Folders as people have them: of Hugging Face, Kaggle, scanners, phones and labelling tools."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.make import csv_table, draw_image
from tests.reading.heic_files import PLAIN, TURNED

Files = Mapping[str, bytes]
N = 60


def label(n: int) -> str:
    return "dog" if n % 3 else "cat"


def lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@lru_cache
def _photos(folder: str = "", count: int = N) -> dict[str, bytes]:
    return {f"{folder}{n:04d}.jpg": draw_image(n, "JPEG") for n in range(count)}


def imagefolder_csv() -> Files:
    """Hugging Face's `imagefolder`: metadata.csv with file_name beside the images."""
    rows = [[f"{n:04d}.jpg", str(20 + n / 2), label(n)] for n in range(N)]
    return {"metadata.csv": csv_table(["file_name", "age", "label"], rows), **_photos()}


def imagefolder_jsonl() -> Files:
    """The same with metadata.jsonl and the images in a folder of the split."""
    rows = [
        {"file_name": f"train/{n:04d}.jpg", "caption": f"a {label(n)} number {n} in a garden",
         "label": label(n)}
        for n in range(N)
    ]  # fmt: skip
    return {"metadata.jsonl": lines(rows), **_photos("train/")}


def imagefolder_classes() -> Files:
    """The same without metadata: a folder for each class."""
    return {f"train/{label(n)}/{n:04d}.jpg": draw_image(n, "JPEG") for n in range(N)}


def parquet_inside() -> Files:
    """What `Dataset.to_parquet` writes: an image column, a label, no ID."""
    images = [{"bytes": draw_image(n, "JPEG"), "path": f"{n:04d}.jpg"} for n in range(N)]
    table = pa.table({"image": images, "label": [n % 3 and 1 for n in range(N)]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=20)
    return {"data/train-00000-of-00001.parquet": buffer.getvalue()}


def kaggle_paths() -> Files:
    """A CSV with absolute paths of somebody's machine; the index that pandas left in front."""
    rows = [
        [str(n), f"C:\\Users\\ada\\data\\images\\{n:04d}.JPG", str(100 + 7 * n % 31), label(n)]
        for n in range(N)
    ]
    header = ["", "filepath", "weight", "target"]
    return {"train.csv": csv_table(header, rows), **_photos("images/")}


def heic_photos() -> Files:
    """Photos of a phone, and a table that somebody typed."""
    rows = [[f"{n:04d}", str(n % 7 * 1.5), label(n)] for n in range(N)]
    photos = {f"IMG_{n:04d}.HEIC": (TURNED if n % 2 else PLAIN) + bytes(n) for n in range(20)}
    return {"visits.csv": csv_table(["id", "size", "label"], rows), **photos}


def scans() -> Files:
    """Multi-page TIFFs of a scanner, named by their IDs."""
    files = {}
    for n in range(20):
        buffer = io.BytesIO()
        pages = [Image.new("RGB", (24, 24), (n * 12, 40 * page, 90)) for page in range(3)]
        pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
        files[f"scans/F{n:03d}.tif"] = buffer.getvalue()
    rows = [[f"F{n:03d}", str(1 + n % 9), label(n)] for n in range(N)]
    return {"forms.csv": csv_table(["form_id", "fields", "label"], rows), **files}


def labelling_tool() -> Files:
    """JSON Lines as Prodigy writes them: nested spans, a path, a hash, the answer."""
    rows = [
        {"_input_hash": 17 * n, "id": n, "image": f"images/{n:04d}.jpg", "label": label(n),
         "answer": "accept", "spans": [{"points": [[0, 1], [2, 3]]}], "width": 24 + n % 5}
        for n in range(N)
    ]  # fmt: skip
    return {"annotations.jsonl": lines(rows), **_photos("images/")}
