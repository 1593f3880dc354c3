"""A zip from the inbox into the lake."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.line import OURS, Goal, Line
from benchmarks.speed.s3 import BUCKET, serve_s3

SMALL = 1_000  # and a table
LARGE, LARGE_BYTES = 150, 4_000_000
DATASET = "pets"
SPEC: dict[str, Any] = {
    "dataset": DATASET, "id_column": "id", "label_column": "label", "problem_type": "binary",
    "classes": ["cat", "dog"], "columns": {"age": "number"}, "image_longest_side": 64,
}  # fmt: skip


def _images(count: int, size: int) -> list[bytes]:
    """Images of 64 pixels, all different; larger ones carry a comment that fills them up."""
    import io

    import numpy as np
    from PIL import Image

    random = np.random.default_rng(7)
    found = []
    for _ in range(count):
        image, into = Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)), io.BytesIO()
        image.save(into, "PNG")
        data = into.getvalue()
        if size:  # a chunk of text that no decoder looks at, before the end mark
            import zlib

            body = b"tEXt" + b"note\0" + random.integers(33, 126, size, np.uint8).tobytes()
            chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
            data = data[:-12] + chunk + data[-12:]
        found.append(data)
    return found


def _zip(file: Path, images: list[bytes]) -> None:
    rows = "\n".join(f"P{at},cat,{at % 20}" for at in range(len(images)))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("pets.csv", f"id,label,age\n{rows}\n")
        for at, data in enumerate(images):
            archive.writestr(f"images/P{at}.png", data)


def make_small(data: Path) -> None:
    _zip(data / "pets.zip", _images(SMALL, 0))


def make_large(data: Path) -> None:
    _zip(data / "pets.zip", _images(LARGE, LARGE_BYTES))


def ours(data: Path, folder: Path) -> Callable[[], int]:
    """Receive it: files verified and hashed, images normalised and packed, a receipt.

    As in a process that stays: one of another dataset came before, so that all is imported.
    """
    import boto3

    from mm_assets.contract.dataset import DatasetSpec
    from mm_assets.contract.settings import Settings
    from mm_assets.lake.lake import Lake
    from mm_assets.lake.layout import inbox
    from mm_assets.uploads.find import find_uploads
    from mm_assets.uploads.receive import receive

    serve_s3(folder)
    spec = DatasetSpec.model_validate(SPEC)
    lake = Lake(Settings(lake=f"s3://{BUCKET}/lake"))

    def take(spec: DatasetSpec) -> int:
        (source,) = find_uploads(lake, spec.dataset).finished
        receipt = receive(lake, spec, source, run_id="speed", progress=lambda _: None)
        return int(receipt["counts"]["files"])

    def send(file: Path, dataset: str) -> None:
        key = f"lake/{inbox(dataset)}pets.zip"
        boto3.client("s3").upload_file(str(file), BUCKET, key)

    before = spec.model_copy(update={"dataset": "before"})
    _zip(folder / "one.zip", _images(1, 0))
    send(folder / "one.zip", before.dataset)
    take(before)
    send(data / "pets.zip", spec.dataset)
    return lambda: take(spec)


def one_put_a_file(data: Path, folder: Path) -> Callable[[], int]:
    """As it is usually written: the whole zip in memory, one put a file; nothing is looked at."""
    import io

    import boto3

    serve_s3(folder)
    client = boto3.client("s3")
    client.upload_file(str(data / "pets.zip"), BUCKET, "inbox/pets.zip")

    def run() -> int:
        body = client.get_object(Bucket=BUCKET, Key="inbox/pets.zip")["Body"].read()
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            names = archive.namelist()
            for name in names:
                client.put_object(Bucket=BUCKET, Key=f"raw/{name}", Body=archive.read(name))
        return len(names)

    return run


LINES = (
    Line(
        name="zip-small",
        words=f"A zip of {SMALL + 1:,} small files from S3 into the lake on S3",
        amount=SMALL + 1,
        unit="files",
        make=make_small,
        cases={OURS: ours, "zipfile and boto3": one_put_a_file},
        goals=(Goal("wall", 0.2, "zipfile and boto3"),),
    ),
    Line(
        name="zip-large",
        words=f"A zip of {LARGE * LARGE_BYTES / 1e6:.0f} MB from S3 into the lake on S3",
        amount=LARGE + 1,
        unit="files",
        make=make_large,
        cases={OURS: ours, "zipfile and boto3": one_put_a_file},
        goals=(Goal("peak", 0.5, "zipfile and boto3"),),
        takes_long=True,
    ),
)
