"""What Dagster's pages say of the columns of an asset: names, kinds, meanings. No logic.

For people: what models see stands in Parquet in the structs `features` and `image_features`, and
here under its own name; columns that only the pipeline needs (hashes, generations) are left out.
"""

from __future__ import annotations

import dagster as dg

from mm_assets.contract.dataset import DatasetSpec

_RECORD = (
    ("row_upload", "string", "The upload that the row came with."),
    ("row_file", "string", "The file that the row stood in."),
    ("row_line", "int", "Its line in that file."),
)
_SPLIT = ("split", "string", "What the record is for: training, tuning or holdout.")
_IMAGE = (("image_file", "string", "The file of the record's newest image; empty without one."),)
_ANSWER = (
    ("lower", "float", "Where the truth of a number lies: from here …"),
    ("upper", "float", "… to here."),
    ("probabilities", "map", "Of every class; empty for numbers."),
    ("confidence", "float", "How likely the prediction is right, from 0 to 1."),
    ("needs_review", "bool", "Whether a person should look."),
    ("doubts", "string", "What the model never saw, in words."),
    ("modality", "string", "Which model answered: with_image or without_image."),
    ("model_version", "string", "The version of that model."),
    ("reasons", "string", "What else is to be said of the answer."),
)


def column_schema(spec: DatasetSpec, asset: str) -> dg.TableSchema | None:
    """The columns of one asset's records; None for an asset that holds no table."""
    own = dg.TableColumn(
        "record_id",
        "string",
        f"The ID, `{spec.id_column}` in tables.",
        constraints=dg.TableColumnConstraints(nullable=False, unique=True),
    )
    if asset == "manifest" or asset.startswith("records_") or asset == "training_set":
        label = dg.TableColumn(
            "label", spec.problem_type, f"The label, `{spec.label_column}` in tables."
        )
        more = [*_RECORD, *(_IMAGE if spec.has_images else ())]
        if asset == "training_set":
            more = [_RECORD[0], _SPLIT]
        return dg.TableSchema(
            [own, label, *_features(spec), *(dg.TableColumn(*one) for one in more)]
        )
    if asset.startswith("predictions"):
        said = dg.TableColumn(
            "prediction", spec.problem_type, f"What the model says `{spec.label_column}` is."
        )
        answer = [one for one in _ANSWER if spec.is_regression or one[0] not in ("lower", "upper")]
        return dg.TableSchema([own, said, *(dg.TableColumn(*one) for one in answer)])
    return None


def _features(spec: DatasetSpec) -> list[dg.TableColumn]:
    """What models see: the columns of the YAML, with what it says of them."""
    found = [
        dg.TableColumn(
            name,
            column.kind.value,
            column.description or None,
            constraints=dg.TableColumnConstraints(nullable=not column.required),
        )
        for name, column in spec.columns.items()
    ]
    return found + [
        dg.TableColumn(one.column, "number", "Measured of the image.")
        for one in spec.image_features
    ]
