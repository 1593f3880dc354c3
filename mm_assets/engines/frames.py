"""From records to the frame that an engine sees: the same for training and for prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import IMAGE, DatasetSpec, Modality

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def feature_frame(
    records: pa.Table, spec: DatasetSpec, modality: Modality, images: Mapping[str, bytes]
) -> pd.DataFrame:
    """One row a record: the spec's columns in order, then what is known of the image.

    records: `features` (struct), `image_features` (struct, if the spec names some) and
    `image_sha256` (null: no image, which only training may have), or `images` (all of a record's,
    in their order) where the spec asks for all; images: that sha256 to normalised bytes. With
    images, the image features follow the columns, and `image` (bytes, or a tuple of them) is last.
    Numbers are float64 with NaN for missing; categories and texts are str with None.
    """
    import pandas as pd
    import pyarrow.compute as pc

    columns: dict[str, object] = {}
    features = records["features"].combine_chunks()
    for name, kind in spec.kinds.items():
        values = features.field(name)
        if kind == "number":
            columns[name] = values.to_numpy(zero_copy_only=False).astype("float64")
        else:
            columns[name] = pd.Series(values.to_pylist(), dtype=object)
    if modality is Modality.WITH_IMAGE:
        for feature in spec.image_features:
            numbers = pc.struct_field(records["image_features"].combine_chunks(), feature.column)
            columns[feature.column] = numbers.to_numpy(zero_copy_only=False).astype("float64")
        cells: list[Any]
        if spec.all_images:
            sets = records["images"].to_pylist()
            cells = [tuple(images[sha] for sha in shas) if shas else None for shas in sets]
        else:
            named = records["image_sha256"].to_pylist()
            cells = [None if sha is None else images[sha] for sha in named]
        columns[IMAGE] = pd.Series(cells, dtype=object)
    return pd.DataFrame(columns, index=pd.RangeIndex(records.num_rows))
