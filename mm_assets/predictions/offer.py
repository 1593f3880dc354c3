"""What a champion says of some records, as rows of the predictions table: one path for all.

Uploads (predict.py), records in hand (at_once.py) and the service (serving/predictor.py) all come
by here, so that a record's answer cannot differ between them.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.display.cells import plain_number
from mm_assets.doubt.unlike import in_a_cell
from mm_assets.lake.local import utc_now
from mm_assets.predictions.ask import Answers, Loaded, is_missing_here, load
from mm_assets.registry.loading import other_wording
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.registry.versions import other_version
from mm_assets.tables.merge_rule import ORDER
from mm_assets.tables.store import BESIDE, COLUMNS
from mm_assets.training.decision import DIGITS

if TYPE_CHECKING:
    import pyarrow as pa

RANK = {Modality.WITHOUT_IMAGE: 0, Modality.WITH_IMAGE: 1}


def why_not(
    models: ModelStore, spec: DatasetSpec, modality: Modality, champion: Champion | None
) -> str:
    """Why records of this modality have to wait, or ''."""
    if not spec.features(modality):
        return f"{modality}: the dataset has no columns to predict from without an image"
    if champion is None:
        return f"{modality}: no champion yet; send labelled records and run `mm train`"
    manifest = models.manifest(modality, champion.version, manifest_sha256=champion.manifest_sha256)
    if fault := other_wording(manifest, spec, modality):
        return f"{modality}: the champion {fault}; run `mm train`"
    if fault := other_version(manifest):
        return f"{modality}: the champion {fault}; run `mm train`"
    return ""


def loaded_or_why(
    models: ModelStore, spec: DatasetSpec, modality: Modality, champion: Champion
) -> tuple[str, Loaded | None]:
    """The champion in memory; or why its records have to wait, for something is missing here.

    Raises ModelError for whatever else is wrong with it.
    """
    try:
        return "", load(models, spec, modality, champion)
    except ModelError as error:
        if not is_missing_here(error):
            raise
        what = f"the champion can't be loaded on this machine: [{error.code}] {error.what}"
        return f"{modality}: {what}; {error.todo} Then run `mm retry`.", None


def offered(
    generation: int,
    batch: pa.Table,
    answers: Answers,
    loaded: Loaded,
    modality: Modality,
    champion: Champion,
    run_id: str,
) -> pa.Table:
    """The batch's predictions with COLUMNS and ORDER. loaded: what answered."""
    import pyarrow as pa
    import pyarrow.compute as pc

    n, predicted = batch.num_rows, answers.predicted
    sure = loaded.calibration.sure(predicted, answers.chosen)
    asked = loaded.promise.to_review(sure.confidence, sure.width)
    doubts = [in_a_cell(own) for own in answers.doubts]
    if answers.chosen is None:
        said = [plain_number(value, DIGITS) for value in predicted["value"]]
        probabilities: list[str | None] = [None] * n
    else:
        rounded = predicted.round(DIGITS)
        said = list(predicted.columns[answers.chosen])
        names = list(rounded.columns)
        probabilities = [
            json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
            for row in rounded.to_numpy().tolist()
        ]
    hashes = batch["input_hash"].to_pylist()
    content = [
        hashlib.sha256(f"{h}\x1f{s}\x1f{p}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        for h, s, p in zip(hashes, said, probabilities, strict=True)
    ]
    columns: dict[str, Any] = {
        "record_id": batch["record_id"],
        "prediction": pa.array(said, pa.string()),
        "lower": _ends(sure.lower, n),
        "upper": _ends(sure.upper, n),
        "probabilities": pa.array(probabilities, pa.string()),
        "confidence": pa.array(sure.confidence, pa.float64()),
        "needs_review": pa.array(
            [bool(one) or said is not None for one, said in zip(asked, doubts, strict=True)],
            pa.bool_(),
        ),
        "doubts": pa.array(doubts, pa.string()),
        "modality": pa.array([modality.value] * n, pa.string()),
        "model_version": pa.array([champion.version] * n, pa.string()),
        "upload": batch["row_upload"],
        "input_hash": batch["input_hash"],
        "run_id": pa.array([run_id] * n, pa.string()),
        "predicted_at": pa.array([utc_now()] * n, pa.string()),
        "reasons": pa.array(answers.reasons, pa.string()),
        "modality_rank": pa.array([RANK[modality]] * n, pa.int32()),
        "image_order": pc.fill_null(
            batch["image_order" if "image_order" in batch.column_names else "image_upload"], ""
        ),
        "model_generation": pa.array([champion.generation] * n, pa.int32()),
        "spec_generation": pa.array([generation] * n, pa.int32()),
        "content_hash": pa.array(content, pa.string()),
        "image_upload": pc.fill_null(batch["image_upload"], ""),
    }
    return pa.table(columns)


def _ends(values: Any, n: int) -> pa.Array:
    """An end of each interval, with the digits that tell something; null where there is none."""
    import pyarrow as pa

    if values is None:
        return pa.nulls(n, pa.float64())
    return pa.array([float(f"{value:.{DIGITS}g}") for value in values], pa.float64())


def empty_predictions() -> pa.Table:
    """No predictions, with the columns and types of offered ones."""
    import pyarrow as pa

    types = {
        "lower": pa.float64(), "upper": pa.float64(),
        "confidence": pa.float64(), "needs_review": pa.bool_(),
        "modality_rank": pa.int32(), "model_generation": pa.int32(), "spec_generation": pa.int32(),
    }  # fmt: skip
    names = [*COLUMNS, *(name for name in ORDER if name not in COLUMNS), *BESIDE]
    return pa.schema([(name, types.get(name, pa.string())) for name in names]).empty_table()
