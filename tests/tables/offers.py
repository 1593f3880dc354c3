"""Rows, images and offered predictions, made in a line."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from mm_assets.predictions.offer import empty_predictions
from mm_assets.tables.merge_rule import ORDER
from mm_assets.tables.store import Store

ROWS = pa.schema([("record_id", pa.string()), ("labels_only", pa.bool_()), ("label", pa.string())])
IMAGES = pa.schema([(n, pa.string()) for n in ("record_id", "image_sha256", "image_file")])


def rows(**labels: str | None) -> pa.Table:
    """Rows with features, by ID with their label."""
    return told([(record_id, False, label) for record_id, label in labels.items()])


def told(values: list[tuple[str, bool, str | None]]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(ROWS.names, value, strict=True)) for value in values], schema=ROWS
    )


def images(**shas: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{"record_id": i, "image_sha256": s, "image_file": f"{s}.png"} for i, s in shas.items()],
        schema=IMAGES,
    )


def refusals(*values: tuple[str, str]) -> pa.Table:
    """Records whose row was refused, and the code."""
    ids, codes = zip(*values, strict=True) if values else ((), ())
    return pa.table({"record_id": pa.array(ids, pa.string()), "code": pa.array(codes, pa.string())})


def offer(record_id: str = "a", **changes: Any) -> dict[str, Any]:
    """One offered prediction; what does not decide is filled in from what does."""
    decided = {
        "modality_rank": 0, "upload": "u1", "image_upload": "", "model_generation": 1,
        "spec_generation": 1, "content_hash": "0",
    }  # fmt: skip
    decided.update({k: v for k, v in changes.items() if k in decided})
    decided["image_order"] = changes.get("image_order", decided["image_upload"])
    text = json.dumps(decided, sort_keys=True)
    return {
        "record_id": record_id,
        "prediction": f"cat {text}",
        "lower": None,
        "upper": None,
        "probabilities": None,
        "confidence": 0.5,
        "needs_review": True,
        "doubts": None,
        "modality": "with_image" if decided["modality_rank"] else "without_image",
        "model_version": f"v{decided['model_generation']}",
        "input_hash": text,
        "run_id": "run",
        "predicted_at": "2026-01-01T00:00:00.000000+00:00",
        "reasons": None,
        **decided,
        **changes,
    }


def offered(*offers: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(offers), schema=empty_predictions().schema)


def known(store: Store, *ids: str) -> dict[str, dict[str, Any]]:
    wanted = pa.array(list(ids), pa.string()) if ids else None
    return {row.pop("record_id"): row for row in store.look_up("pets", wanted).to_pylist()}


some_offer = st.builds(
    offer,
    st.sampled_from("abc"),
    modality_rank=st.integers(0, 1),
    upload=st.sampled_from(["u1", "u2", "u10"]),
    image_upload=st.sampled_from(["", "u1", "u2"]),
    model_generation=st.sampled_from([1, 2, 10]),
    spec_generation=st.sampled_from([1, 2]),
    content_hash=st.sampled_from(["0", "9", "a"]),
)


def greatest(offers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The merge rule as a plain dictionary says it."""
    kept: dict[str, dict[str, Any]] = {}
    for one in offers:
        other = kept.get(one["record_id"])
        if other is None or [one[n] for n in ORDER] > [other[n] for n in ORDER]:
            kept[one["record_id"]] = one
    return kept
