"""Images inside a table: a column of bytes, of `{bytes, path}` as Hugging Face's `datasets` writes
them, or of lists of either, of which the first counts, or all where that is wanted.

Such a column is told by what its values are, never by its name alone. Beside its own cell, which
holds the path of an image that is not inside, a row gets two more that can be its ID: `NAME.path`,
where the file has one, and `NAME.sha256`, of the image's bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mm_assets.reading.image_column import LISTED
from mm_assets.reading.images.formats import HEAD, SUFFIXES, is_image
from mm_assets.reading.table import TableRefused, Wanted

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 256  # of a block: few images may stand for far more bytes than the file has
VALUES_TRIED = 32
ROWS_TRIED = 1024  # until so many values are found
RATIO = 200  # bytes of images to bytes of the file; as of archives
RATIO_FROM = 64 << 20
PATH, SHA256 = ".path", ".sha256"


@dataclass
class ImagesInside:
    """The column of a table that holds its images. at: its place in the file; kind: its type.

    columns: all that hold images, this one first. limit: bytes that its images may come to.
    takes_all: of a list all images are read.
    """

    name: str
    at: int
    kind: Any
    columns: list[str]
    limit: int
    takes_all: bool = False
    _seen: int = 0

    @property
    def names(self) -> list[str]:
        """What the column is in the header: itself, and what else is known of each image."""
        paths = [self.name + PATH] if _has_path(self.kind) else []
        return [self.name, *paths, self.name + SHA256]

    @property
    def facts(self) -> dict[str, Any]:
        """What is to be told of it: `images_in`, and whether there would have been more."""
        facts: dict[str, Any] = {"images_in": self.name}
        if len(self.columns) > 1:
            facts["image_columns"] = self.columns
        if _is_list(self.kind):
            facts["image_lists_whole" if self.takes_all else "image_lists"] = self.name
        return facts

    def read(self, array: pa.Array) -> tuple[pa.Array, list[pa.Array]]:
        """The images as bytes [rows], and a text for each of `names`. Raises TableRefused.

        With `takes_all`, the images of a row in a list are lists, and so are the paths of those
        without bytes (LISTED between them); the other texts are of the first.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        data, path = parts(array)
        read = _all_of_each(array) if self.takes_all and _is_list(self.kind) else data
        self._seen += read.nbytes
        if self._seen > self.limit:
            reason = f"the images in column '{self.name}' are more than {self.limit:,} bytes"
            raise TableRefused("table_too_large", f"{reason}, far more than the file")
        hashes = pa.array([_sha256(one) for one in data], pa.string())
        if read is data:
            named = pc.if_else(pc.is_null(data), path, pa.scalar(None, pa.string()))
        else:
            named = _paths_of_each(array)
        return read, [named, *([path] if _has_path(self.kind) else []), hashes]


def find_images(
    names: Sequence[str], types: Sequence[Any], wanted: Wanted, size: int, first: _FirstRows
) -> ImagesInside | None:
    """The column of images that is wanted: the one that `wanted` names, or else the one there is.

    Of several that nobody chose it is the one called `image`, else the first; the facts tell of
    them. first: gives the first rows of columns, by their places. size: of the file, in bytes.
    """
    if not wanted.images:
        return None
    places = [
        at for at, kind in enumerate(types) if _may_hold(kind) and names.count(names[at]) == 1
    ]
    if not places:
        return None
    named = [at for at in places if names[at] == wanted.image_column]
    if not named and wanted.image_column in names:
        return None  # it names files
    found = named or [at for at in places if _are_images(first([at]))]
    found.sort(key=lambda at: names[at].casefold() not in ("image", "img"))
    if not found:
        return None
    limit = max(RATIO_FROM, RATIO * size)
    at = found[0]
    columns = [names[one] for one in found]
    return ImagesInside(names[at], at, _plain(types[at]), columns, limit, wanted.all_images)


def about_image(name: str) -> tuple[str, ...]:
    """The columns of a header that say something of one column of images."""
    return (name, name + PATH, name + SHA256)


_FirstRows = Callable[[list[int]], Iterator["pa.Array"]]


class _Parts(NamedTuple):
    """Of each row: the bytes of its image (large_binary), and its path (string); null for none."""

    data: pa.Array
    path: pa.Array


def parts(array: pa.Array) -> _Parts:
    """What a column of images holds."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    array = _bare(array)
    if _is_list(array.type):
        array = _bare(_first_of_each(array))
    if not t.is_struct(array.type):
        return _Parts(array.cast(pa.large_binary()), pa.nulls(len(array), pa.string()))
    data = pc.struct_field(array, "bytes").cast(pa.large_binary())
    if not _has_path(array.type):
        return _Parts(data, pa.nulls(len(array), pa.string()))
    return _Parts(data, _bare(pc.struct_field(array, "path")).cast(pa.string()))


def _first_of_each(array: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    offsets = array.offsets.slice(0, len(array))
    some = pc.fill_null(pc.greater(pc.list_value_length(array), 0), False)
    return array.values.take(pc.if_else(some, offsets, pa.scalar(None, offsets.type)))


def _all_of_each(array: pa.Array) -> pa.Array:
    """[rows] lists of large_binary; of none an empty one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    array = _bare(array)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pa.LargeListArray.from_arrays(offsets, parts(pc.list_flatten(array)).data)


def _paths_of_each(array: pa.Array) -> pa.Array:
    """The paths of the images of each row that have no bytes, in one text; null for none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = _bare(array)
    rows = pc.list_parent_indices(array)
    data, path = parts(pc.list_flatten(array))
    alone = pc.and_(pc.is_null(data), pc.is_valid(path))
    found: list[str | None] = [None] * len(array)
    named = (column.filter(alone).to_pylist() for column in (rows, path))
    for row, one in zip(*named, strict=True):
        found[row] = one if found[row] is None else f"{found[row]}{LISTED}{one}"
    return pa.array(found, pa.string())


def _are_images(first: Iterator[pa.Array]) -> bool:
    """Whether at least half of the first values are images, or name one."""
    tried = images = rows = 0
    for array in first:
        data, path = parts(array)
        for one, name in zip(data, path.to_pylist(), strict=True):
            if one.is_valid or name:
                tried += 1
                head = memoryview(one.as_buffer())[:HEAD].tobytes() if one.is_valid else b""
                named = not one.is_valid and name.lower().endswith(SUFFIXES)
                images += named or is_image(head)
        rows += len(array)
        if tried >= VALUES_TRIED or rows >= ROWS_TRIED:
            break
    return images * 2 >= tried > 0


def _sha256(one: Any) -> str | None:
    return hashlib.sha256(one.as_buffer()).hexdigest() if one.is_valid else None


# -- types ----------------------------------------------------------------------------------------


def _may_hold(kind: Any) -> bool:
    kind = _plain(kind)
    return _holds_bytes(_plain(kind.value_type) if _is_list(kind) else kind)


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as t

    if t.is_struct(kind):
        fields = {kind.field(at).name: kind.field(at).type for at in range(kind.num_fields)}
        return (
            "bytes" in fields and fields.keys() <= {"bytes", "path"} and _is_binary(fields["bytes"])
        )
    return _is_binary(kind)


def _has_path(kind: Any) -> bool:
    import pyarrow.types as t

    kind = _plain(kind.value_type) if _is_list(kind) else kind
    if not t.is_struct(kind) or kind.get_field_index("path") < 0:
        return False
    path = _plain(kind.field("path").type)
    return t.is_string(path) or t.is_large_string(path) or t.is_null(path)


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as t

    return t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind)


def _is_list(kind: Any) -> bool:
    import pyarrow.types as t

    return t.is_list(kind) or t.is_large_list(kind)


def _plain(kind: Any) -> Any:
    """The type below a dictionary or an extension."""
    while hasattr(kind, "storage_type") or hasattr(kind, "index_type"):
        kind = kind.storage_type if hasattr(kind, "storage_type") else kind.value_type
    return kind


def _bare(array: Any) -> pa.Array:
    while _plain(array.type) is not array.type:
        array = array.storage if hasattr(array, "storage") else array.dictionary_decode()
    return array
