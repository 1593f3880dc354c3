"""The folder that people review from: tasks for Label Studio, a sheet, and the images."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import UploadError
from mm_assets.display.side_by_side import side_by_side
from mm_assets.lake.lake import Lake
from mm_assets.manifest import image_sets
from mm_assets.review.features import features_of
from mm_assets.review.label_studio import labelling_config, task
from mm_assets.review.order import Order
from mm_assets.review.queue import Item, review_classes
from mm_assets.review.sheet import own_name, write_sheet
from mm_assets.review.useful import ordered_queue
from mm_assets.tables.store import Store

IMAGES = "images"
AT_ONCE = 500  # records whose images are in memory
# Where a Label Studio that serves local files finds `images/` of the folder.
IMAGE_PREFIX = "/data/local-files/?d=images/"
NO_IMAGE = "none.png"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `lost` images are known but not in the lake any more."""

    records: int
    images: int
    lost: int


def export_review(
    lake: Lake,
    store: Store,
    spec: DatasetSpec,
    folder: Path,
    *,
    limit: int | None = None,
    order: Order = Order.DOUBTFUL,
    image_prefix: str = IMAGE_PREFIX,
) -> Exported:
    """Write tasks.json, tasks.csv, labelling.xml and images/ for the records to review.

    Raises UploadError if the folder holds an earlier export: somebody may have filled it in.
    """
    _refuse_earlier(folder)
    classes = review_classes(lake, spec)
    items = ordered_queue(lake, store, spec, order, limit)
    features = features_of(lake, spec, items)
    with _writing(folder):
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)
        images = _write_images(lake, spec, items, folder / IMAGES)
        tasks, rows = [], []
        for item in items:
            image, values = images.get(item.record_id), features.get(item.record_id, {})
            url = image_prefix + (image or NO_IMAGE) if spec.has_images else None
            tasks.append(task(spec, item, values, url))
            rows.append(_sheet_row(spec, item, values, image))
        config = labelling_config(spec, classes)
        (folder / "labelling.xml").write_text(config, encoding="utf-8")
        text = json.dumps(tasks, indent=1, ensure_ascii=False)
        (folder / "tasks.json").write_text(text, encoding="utf-8")
        write_sheet(folder / "tasks.csv", spec, rows)
    with_image = sum(item.image_sha256 is not None for item in items)
    return Exported(len(items), len(images), with_image - len(images))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in words that the folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise UploadError(
            code="export_unwritable",
            what=error.strerror or str(error),
            where=error.filename or str(folder),
            todo="Choose a folder that you may write to, on a disk with free space.",
        ) from None


def _refuse_earlier(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        what = "this is a file and no folder"
    elif earlier := [n for n in ("tasks.csv", "tasks.json") if (folder / n).exists()]:
        what = f"the folder holds {earlier[0]} of an earlier export"
    else:
        return
    raise UploadError(
        code="export_exists",
        what=what,
        where=str(folder),
        todo="Choose another folder, or move what is there away.",
    )


def _sheet_row(
    spec: DatasetSpec, item: Item, values: Mapping[str, Any], image: str | None
) -> dict[str, Any]:
    own = {
        "record_id": item.record_id,
        "prediction": item.prediction,
        "lower": item.lower,
        "upper": item.upper,
        "confidence": item.confidence,
        "why": item.why,
        "reasons": item.reasons,
        "image": image and f"{IMAGES}/{image}",
    }
    return {**{own_name(spec, name): value for name, value in own.items()}, **values}


def _write_images(
    lake: Lake, spec: DatasetSpec, items: Sequence[Item], folder: Path
) -> dict[str, str]:
    """Write the images, some at a time; returns each record's file name.

    Several images of a record are one file, side by side. A record whose image is lost has none.
    Those without one share the image NO_IMAGE.
    """
    names: dict[str, str] = {}
    for record_id, data in images_of(lake, spec, items):
        names[record_id] = image_name(record_id, data)
        (folder / names[record_id]).write_bytes(data)
    if spec.has_images and len(names) < len(items):
        (folder / NO_IMAGE).write_bytes(no_image())
    return names


def images_of(lake: Lake, spec: DatasetSpec, items: Sequence[Item]) -> Iterator[tuple[str, bytes]]:
    """Records and their images, each record's as one picture, some at a time. One that is lost is
    left out."""
    having = [item for item in items if item.image_upload and item.image_sha256]
    for start in range(0, len(having), AT_ONCE):
        some = having[start : start + AT_ONCE]
        places = {one.record_id: (one.image_upload or "", one.image_sha256 or "") for one in some}
        for record_id, images in image_sets.images_of(lake, spec, places).items():
            yield record_id, side_by_side(images)


def image_name(record_id: str, data: bytes) -> str:
    """A file name that is safe anywhere and the record's own: readable letters and a hash."""
    letters = re.sub(r"[^A-Za-z0-9_-]+", "-", record_id).strip("-")[:40]
    digest = hashlib.sha256(record_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    suffix = "png" if data.startswith(b"\x89PNG") else "jpg"
    return f"{letters}-{digest}.{suffix}" if letters else f"{digest}.{suffix}"


def no_image() -> bytes:
    """What Label Studio shows for a record without an image, instead of an error."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (320, 120), "#EEEEEE")
    words = "no image"
    ImageDraw.Draw(image).text((160, 60), words, fill="#555555", anchor="mm", font_size=24)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
