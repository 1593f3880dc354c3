"""A sensor's look into the inbox: one new upload, after many files that came before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.speed.line import OURS, Case, Goal, Line
from benchmarks.speed.s3 import BUCKET, serve_s3

SIZES = (1_000, 10_000)
DATASET = "pets"
NEW = "new.zip"


def _nothing(_: Path) -> None:
    pass


def _filled(objects: int) -> Case:
    def prepare(_: Path, folder: Path) -> Callable[[], int]:
        from mm_assets.contract.settings import Settings
        from mm_assets.lake.lake import Lake
        from mm_assets.lake.layout import inbox, received
        from mm_assets.uploads.find import find_uploads

        before = received(DATASET, "old", "20260101t000000-0000000000")
        _fill(folder, objects, f"lake/{before}", f"lake/{inbox(DATASET)}")
        lake = Lake(Settings(lake=f"s3://{BUCKET}/lake"))
        find_uploads(lake, DATASET)  # connects
        return lambda: len(find_uploads(lake, DATASET).finished)

    return prepare


def _listing(objects: int) -> Case:
    def prepare(_: Path, folder: Path) -> Callable[[], int]:
        import boto3

        _fill(folder, objects, "inbox/", "inbox/")
        pages = boto3.client("s3").get_paginator("list_objects_v2")

        def run() -> int:
            found = (
                item["Key"]
                for page in pages.paginate(Bucket=BUCKET, Prefix="inbox/")
                for item in page["Contents"]
            )
            return sum(key.endswith(NEW) for key in found)

        return run

    return prepare


def _fill(folder: Path, objects: int, before: str, inbox: str) -> None:
    """What came before, and one new zip. Ours is moved out of the inbox once it is received."""
    from concurrent.futures import ThreadPoolExecutor

    import boto3

    serve_s3(folder)
    client = boto3.client("s3")
    keys = [f"{before}{at}.jpg" for at in range(objects)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=b"x"), keys))
    client.put_object(Bucket=BUCKET, Key=f"{inbox}{NEW}", Body=b"PK")


LINES = tuple(
    Line(
        name=f"tick-{objects // 1000}k",
        words=f"One new upload is found in S3 after {objects:,} files that came before it",
        amount=1,
        unit="upload",
        make=_nothing,
        cases={OURS: _filled(objects), "listing all": _listing(objects)},
        goals=(Goal("wall", 0.5, "listing all"),) if objects > SIZES[0] else (),
        takes_long=objects > SIZES[0],
    )
    for objects in SIZES
)
