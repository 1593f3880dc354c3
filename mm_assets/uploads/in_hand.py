"""Records and images that a Python process holds, as the files of an upload.

A frame becomes a CSV, exactly as text; images become files whose names yield their IDs. What
belongs here: making files. What does not: judging them, which the receiving code does.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import numbers
import re
import zipfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import WHOLE_NAME, DatasetSpec
from mm_assets.contract.errors import UploadError, UsageError
from mm_assets.contract.ids import fault_of, normalised
from mm_assets.reading.images.formats import HEAD, SUFFIX, format_of

if TYPE_CHECKING:
    import pandas as pd

TABLE = "records.csv"
_ENTRY_DATE = (1980, 1, 1, 0, 0, 0)  # the same records are the same bytes
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class InHand:
    """Records and images as files. `ids` and `lines` say which row of the table is which record.

    table: CSV in the dataset's encoding, or None. ids: of each row, as text. lines: the physical
    line on which each row begins. images: name and bytes, made when they are asked for.
    """

    table: bytes | None
    ids: Sequence[str]
    lines: Sequence[int]
    images: Iterable[tuple[str, bytes]]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Every file of the upload: name and bytes, one at a time."""
        if self.table is not None:
            yield TABLE, self.table
        yield from self.images


def in_hand(
    spec: DatasetSpec,
    frame: pd.DataFrame | None,
    images: Any = None,
    *,
    labels: bool,
    own_ids: bool = False,
) -> InHand:
    """The files of an upload, from a frame and images.

    frame: the ID (a column or the index) and the dataset's columns; others are left out; None
    where there are only images. images: the name of a column of `frame`; a sequence as long as
    `frame`; a mapping from ID to image or images; or a folder. An image is bytes, a path, a PIL
    image or an array ([height, width] or [height, width, 3 or 4], uint8 or uint16); None is none.
    labels: take the label column along. own_ids: count the rows where the frame has no ID.
    Raises UsageError, UploadError.
    """
    if frame is None:
        return InHand(None, (), (), _images_alone(spec, images))
    given = _with_id(spec, frame, own_ids=own_ids)
    ids = [_text(value, as_name=True) for value in given[spec.id_column]]
    named = _image_column(given, images)
    label_of: dict[str, str] = {}
    if labels and spec.label_column in given.columns:
        said = (_text(value, as_name=True) for value in given[spec.label_column])
        label_of = dict(zip(ids, said, strict=True))
    if spec.records == "images":  # the labels are in the files' names
        return InHand(None, ids, (), _images(spec, ids, named, label_of))
    if spec.image_column is not None and named is not None and not isinstance(named, str | Path):
        given, images = _with_names(spec, given, ids, named)
    else:
        images = _images(spec, ids, named, {})
    table, lines = _table(spec, given, with_label=bool(label_of))
    return InHand(table, ids, lines, images)


def _with_names(
    spec: DatasetSpec, frame: pd.DataFrame, ids: Sequence[str], images: Any
) -> tuple[pd.DataFrame, Iterator[tuple[str, bytes]]]:
    """The frame with names of files in its image column, and files of these names."""
    per_row = [images.get(i) for i in ids] if isinstance(images, Mapping) else list(images)
    most = None if spec.image_separator is not None or spec.all_images else 1
    several = [
        [one for one in (v if isinstance(v, list | tuple) else [v]) if not _is_none(one)][:most]
        for v in per_row
    ]
    names = [
        [f"{row:07d}-{n}.png" for n in range(1, len(own) + 1)] for row, own in enumerate(several, 1)
    ]
    cells = [cell_of(spec, own) for own in names]
    files = (
        (name, _bytes(one, record_id))
        for record_id, own, mine in zip(ids, names, several, strict=True)
        for name, one in zip(own, mine, strict=True)
    )
    assert spec.image_column is not None  # noqa: S101  or nobody would ask
    told = frame.copy(deep=False)
    told[spec.image_column] = cells
    return told, files


def cell_of(spec: DatasetSpec, names: Sequence[str]) -> str | None:
    """What stands in the image column for these files. Raises UploadError without a separator."""
    if len(names) > 1 and spec.image_separator is None:
        raise UploadError(
            code="image_name",
            what=f"nothing separates the names of {len(names)} images in one cell",
            where="image_separator, in the dataset's YAML",
            todo="Write one, such as `image_separator: ;`.",
        )
    return (spec.image_separator or "").join(names) or None


def written_down(
    frame: pd.DataFrame, id_column: str, images: Any, folder: Path
) -> tuple[Path, Path | None]:
    """A frame of any columns as a CSV, and its images as files named by ID, to draft a YAML from.

    Returns the table and the folder of the images (None without). Raises UsageError, UploadError.
    """
    named = _image_column(frame, images)
    if isinstance(images, str) and images in frame.columns:
        frame = frame.drop(columns=[images])
    if id_column not in frame.columns:
        raise UsageError(
            code="arguments",
            what=f"the frame has no column '{id_column}'; it has "
            f"{', '.join(map(str, frame.columns))}",
        )
    numeric = {name for name in frame.columns if name != id_column and _is_measured(frame[name])}
    table = folder / TABLE
    table.write_text(_csv(frame, numeric, "")[0], encoding="utf-8", newline="")
    if named is None or isinstance(named, str | Path):
        return table, None if named is None else Path(named)
    ids = [_text(value, as_name=True) for value in frame[id_column]]
    (folder / "images").mkdir()
    for record_id, number, data in _each(ids, named):
        if fault_of(record_id) is None:  # else its row is refused as well
            (folder / "images" / f"{record_id}-{number}{_suffix(data)}").write_bytes(data)
    return table, folder / "images"


def _is_measured(column: pd.Series) -> bool:
    """Whether floats of this column are more than whole numbers beside gaps."""
    return bool(column.dtype.kind == "f" and (column.dropna() % 1 != 0).any())


def write_zip(path: Path, files: Iterable[tuple[str, bytes]]) -> str:
    """Write the files into a zip, one at a time; returns a hash of what is in it (10 digits)."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name, _ENTRY_DATE), data)
            digest.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogatepass"))
            digest.update(data)
    return digest.hexdigest()[:10]


# -- the table ------------------------------------------------------------------------------------


def _with_id(spec: DatasetSpec, frame: pd.DataFrame, *, own_ids: bool) -> pd.DataFrame:
    if not frame.columns.is_unique:
        doubled = sorted({str(c) for c in frame.columns[frame.columns.duplicated()]})
        raise UsageError(
            code="arguments", what=f"the frame has a column twice: {', '.join(doubled)}"
        )
    if spec.id_column in frame.columns:
        return frame
    if frame.index.name == spec.id_column:
        return frame.reset_index()
    if own_ids:
        return frame.assign(**{spec.id_column: range(1, len(frame) + 1)})
    raise UsageError(
        code="arguments",
        what=f"the frame has no column '{spec.id_column}', which holds the ID; it has "
        f"{', '.join(map(str, frame.columns))}",
        todo="Name the ID column so, or make it the index.",
    )


def _table(
    spec: DatasetSpec, frame: pd.DataFrame, *, with_label: bool
) -> tuple[bytes, Sequence[int]]:
    wanted = [spec.id_column, *spec.columns, *([spec.label_column] if with_label else [])]
    wanted += spec.split_columns.values()
    wanted += [spec.image_column] if spec.image_column is not None else []
    columns = [name for name in dict.fromkeys(wanted) if name in frame.columns]
    numeric = {name for name, kind in spec.kinds.items() if kind == "number"}
    if spec.is_regression:
        numeric.add(spec.label_column)
    missing = "" if "" in spec.missing_values else next(iter(spec.missing_values), "")
    text, lines = _csv(frame[columns], numeric, missing, spec.decimal or ".")
    try:
        return text.encode(spec.written_encoding), lines
    except UnicodeEncodeError as error:
        letter = error.object[error.start : error.end][:1]
        raise UploadError(
            code="table_encoding",
            what=f"the character {letter!r} does not exist in {spec.written_encoding}",
            where="the frame",
            todo="Take `encoding` out of the dataset's YAML (UTF-8 has every character).",
        ) from None


def _csv(
    frame: pd.DataFrame, numeric: Container[str], missing: str, decimal: str = "."
) -> tuple[str, list[int]]:
    """The frame as CSV, and the physical line on which each row begins."""
    texts = [
        [
            _text(value, as_name=name not in numeric, missing=missing, decimal=decimal)
            for value in frame[name]
        ]
        for name in frame.columns
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(frame.columns)
    lines, line = [], 2
    for row in zip(*texts, strict=True):
        lines.append(line)
        writer.writerow(row)
        line += 1 + sum(len(_LINE_BREAK.findall(cell)) for cell in row)
    return text.getvalue(), lines


def _text(value: Any, *, as_name: bool, missing: str = "", decimal: str = ".") -> str:
    """A cell as text, so that reading it gives the value again.

    as_name: an ID, a category or a label: pandas writes 1 as 1.0 where the column has a gap, and
    that is still the name 1.
    """
    if isinstance(value, str):
        return value
    if _is_none(value):
        return missing
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        number = float(value)
        if math.isnan(number):
            return missing
        if as_name and number.is_integer() and abs(number) < 2**53:
            return str(int(number))
        return repr(number) if as_name else repr(number).replace(".", decimal)
    return str(value)


def _pandas() -> Any:
    import pandas as pd

    return pd


# -- the images -----------------------------------------------------------------------------------


def _image_column(frame: pd.DataFrame, images: Any) -> Any:
    if isinstance(images, str) and images in frame.columns:
        return list(frame[images])
    if images is None or isinstance(images, str | Path | Mapping):
        return images
    found = list(images)
    if len(found) != len(frame):
        raise UsageError(
            code="arguments",
            what=f"there are {len(found)} images for {len(frame)} rows",
            todo="Give one image (or None) for each row, or a mapping from ID to image.",
        )
    return found


def _images(
    spec: DatasetSpec, ids: Sequence[str], images: Any, label_of: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    if images is None:
        return
    if isinstance(images, str | Path):
        yield from _of_folder(Path(images))
        return
    for record_id, number, data in _each(ids, images):
        yield image_file_name(spec, record_id, number, label_of.get(record_id, ""), data), data


def _each(ids: Sequence[str], images: Any) -> Iterator[tuple[str, int, bytes]]:
    """ID, number among the record's own (from 1) and bytes of each image."""
    pairs = images.items() if isinstance(images, Mapping) else zip(ids, images, strict=True)
    for key, value in pairs:
        record_id = _text(key, as_name=True)
        several = value if isinstance(value, list | tuple) else [value]
        for number, one in enumerate((one for one in several if not _is_none(one)), 1):
            yield record_id, number, _bytes(one, record_id)


def _images_alone(spec: DatasetSpec, images: Any) -> Iterator[tuple[str, bytes]]:
    if isinstance(images, str | Path):
        return _of_folder(Path(images))
    if images is None:
        raise UsageError(code="arguments", what="neither records nor images were given")
    if not isinstance(images, Mapping):
        images = dict(enumerate(images, 1))
    return _images(spec, (), images, {})


def _of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        raise UploadError(
            code="upload_missing",
            what="there is no such folder, and no column of this name",
            where=str(folder),
            todo="Give the folder of the images, or the name of the frame's column that has them.",
        )
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def _is_none(value: Any) -> bool:
    is_missing = value is None or value is _pandas().NA or value is _pandas().NaT
    return bool(is_missing or (isinstance(value, float) and math.isnan(value)))


def _bytes(image: Any, record_id: str) -> bytes:
    """An image as the bytes of a file; what is a file already is taken as it is."""
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise UploadError(
                code="upload_unreadable",
                what=error.strerror or str(error),
                where=f"{image}, the image of {record_id}",
                todo="Check the path; a relative one counts from the working directory.",
            ) from None
    from PIL import Image

    try:
        made = image if isinstance(image, Image.Image) else Image.fromarray(image)
        buffer = io.BytesIO()
        made.save(buffer, "PNG")
    except (TypeError, ValueError, KeyError, AttributeError, OSError) as error:
        raise UploadError(
            code="image_type",
            what=f"{type(image).__name__} is no image: {error}",
            where=f"the image of {record_id}",
            todo="Give bytes, a path, a PIL image, or an array of uint8 or uint16: [height, width] "
            "or [height, width, 3 or 4].",
        ) from None
    return buffer.getvalue()


def image_file_name(spec: DatasetSpec, record_id: str, number: int, label: str, data: bytes) -> str:
    """A name from which `image_name` reads this ID again. Raises UploadError where none does."""
    shape = spec.image_name or "{id}"
    parts = {"{id}": record_id, "{n}": str(number), "{label}": label, "*": "x"}
    stem = shape
    for part, text in parts.items():
        stem = stem.replace(part, text)
    has_id = "{id}" in shape or shape == WHOLE_NAME
    if not has_id:  # the ID is made of the bytes
        stem = stem.replace("x", hashlib.sha256(data).hexdigest()[:16], 1)
    name = record_id if shape == WHOLE_NAME else stem.lstrip("/") + _suffix(data)
    if spec.all_images and has_id and "{n}" not in shape:
        if "/" not in shape or label:
            name = f"{number:06d}/{name}"  # folders tell them apart, and put them in order
        elif number > 1:  # the folder would be the label
            raise UploadError(
                code="image_name",
                what=f"no file name of the form '{shape}' can hold several images of a record "
                "without a label",
                where="image_name, in the dataset's YAML",
                todo="Put `{n}` into it, for example `{label}/{id}-{n}`.",
            )
    read = spec.named_image(name, hashlib.sha256(data).hexdigest())
    if spec.image_name and has_id and (read is None or _other(read.record_id, record_id)):
        raise UploadError(
            code="image_name",
            what=f"no file name of the form '{shape}' can hold the ID {record_id!r}",
            where="image_name, in the dataset's YAML",
            todo="Choose a form that can, such as `{id}`, or other IDs.",
        )
    return name


def _suffix(data: bytes) -> str:
    return SUFFIX.get(format_of(data[:HEAD]) or "", ".png")


def _other(one: str, another: str) -> bool:
    return normalised(one) != normalised(another)
