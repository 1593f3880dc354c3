"""Checks on the predictions: none is lost, an image beats none, few need review."""

from typing import Any

import dagster as dg

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, predictions_name, records_name
from mm_assets.orchestration.checks.of_asset import ChecksOf
from mm_assets.orchestration.scope import LakeResource, Scope, check
from mm_assets.tables.store import Query
from mm_assets.uploads.received import read_document, read_parquet, read_receipt

FEWEST_UNLIKE = 5  # records; fewer fail no check, they are in review


def build_checks(scope: Scope) -> list[ChecksOf]:
    """The checks on `<dataset>/predictions_…` and `<dataset>/predictions`."""
    checks = ChecksOf(scope, "predictions")

    def to_predict(lake: LakeResource, upload: str) -> dict[str, bool]:
        """The IDs of the upload's records to predict, and whether each has an image."""
        document = read_document(lake.lake(), scope.dataset, upload, MANIFEST)
        rows = read_parquet(lake.lake(), document, "manifest.parquet")
        columns = ("record_id", "purpose", "image_sha256")
        return {
            record_id: sha is not None
            for record_id, purpose, sha in zip(
                *(rows[name].to_pylist() for name in columns), strict=True
            )
            if purpose == "predict"
        }

    @checks.check("Every record of the upload has one row in the table, or a stated reason.")
    def no_record_is_lost(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        upload = context.partition_key
        expected = to_predict(lake, upload)
        document = read_document(lake.lake(), scope.dataset, upload, "predictions")
        found = lake.table().read(scope.dataset, Query(record_ids=list(expected)))
        absent = len(expected) - found.num_rows
        reasons = "; ".join(document["reasons"])
        counts = document["counts"]
        waiting = counts["waiting"] if reasons else 0
        void = counts.get("void", 0)  # a newer upload took back what they were made from
        explained = absent <= waiting + void
        words = f"; {absent} wait: {reasons}" if absent and reasons else ""
        if absent and void:
            words += f"; of up to {void} the row or image was taken back meanwhile"
        return check(explained, f"{len(expected)} records, {found.num_rows} rows{words}")

    @checks.check(
        "No record with an image is answered by the model without images.",
        wanted=len(scope.spec.modalities) > 1,
    )
    def image_beats_no_image(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        upload = context.partition_key
        predicted = read_document(
            lake.lake(), scope.dataset, upload, predictions_name(Modality.WITH_IMAGE)
        )
        if predicted["counts"]["waiting"]:
            return check(True, predicted["reason"])
        with_image = [key for key, has_image in to_predict(lake, upload).items() if has_image]
        found = lake.table().read(scope.dataset, Query(record_ids=with_image))
        wrong = [m for m in found["modality"].to_pylist() if m != Modality.WITH_IMAGE]
        return check(not wrong, f"{len(with_image)} records with an image, {len(wrong)} wrong")

    @checks.check("The share of the upload's predictions in review.")
    def low_confidence_share(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        found = lake.table().read(scope.dataset, Query(upload=context.partition_key))
        low = sum(found["needs_review"].to_pylist())
        share = low / max(1, found.num_rows)
        limit = scope.spec.limits.maximum_low_confidence_share
        return check(
            share <= limit,
            f"{low} of {found.num_rows} predictions need review ({share:.1%}); "
            f"the limit is {limit:.1%}",
            warn=True,
            metadata={"share": share},
        )

    @checks.check("The upload's records are like those that its models learnt from.")
    def like_training(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        names = [predictions_name(modality) for modality in scope.spec.modalities]
        upload = context.partition_key
        documents = [read_document(lake.lake(), scope.dataset, upload, name) for name in names]
        return unlike_or_not(documents, scope.spec.limits.maximum_unlike_share)

    @checks.check(
        "No more of the upload's files, rows and predictions failed than the YAML tolerates.",
        wanted=scope.spec.tolerated_failure_share is not None,
    )
    def failures_are_tolerated(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        failed, items = failed_items(lake.lake(), scope.spec, context.partition_key)
        share, limit = len(failed) / max(1, items), scope.spec.tolerated_failure_share or 0.0
        named = "; ".join(failed[:20]) + (" …" if len(failed) > 20 else "")
        return check(
            share <= limit,
            f"{len(failed)} of {items} items failed ({share:.1%}), tolerated are {limit:.1%}"
            f"{': ' + named if named else ''}",
            metadata={"share": share, "failed": len(failed)},
        )

    of_offers = (_offers_are_complete(scope, modality) for modality in scope.spec.modalities)
    return [checks, *of_offers]


def unlike_or_not(documents: list[dict[str, Any]], limit: float) -> dg.AssetCheckResult:
    """A warning of records that are unlike training; an error where most are, and not just a few.

    documents: of the predictions of one upload.
    """
    from mm_assets.predictions.unlike import in_words, share_of

    unlike, records = share_of(documents)
    share = unlike / max(1, records)
    said = "; ".join(in_words(documents))
    too_many = share > limit and unlike >= FEWEST_UNLIKE
    if too_many:
        said = (
            f"{unlike:,} of {records:,} records ({share:.1%}) are unlike all that the model learnt "
            f"from; the limit is {limit:.1%}. {said}"
        )
    return check(
        not said,
        said or "every record is like those of training",
        warn=not too_many,
        metadata={"share": share, "unlike": unlike},
    )


def failed_items(lake: Lake, spec: DatasetSpec, upload: str) -> tuple[list[str], int]:
    """What failed in an upload, in words, and how many items it has: files and rows.

    An item fails when its file is quarantined, its row is rejected, or its prediction fails.
    """
    import pyarrow.compute as pc

    receipt = read_receipt(lake, spec.dataset, upload)
    files = read_parquet(lake, receipt, "files.parquet")
    files = files.filter(pc.invert(pc.equal(files["kind"], "system")))
    bad = files.filter(pc.is_valid(files["code"]))
    said = [f"{one['file']}: {one['code']}" for one in bad.to_pylist()]
    manifest = read_document(lake, spec.dataset, upload, MANIFEST)
    for one in read_parquet(lake, manifest, "rejects.parquet").to_pylist():
        line = f" line {one['line']}" if one["line"] else ""
        said.append(f"{one['file']}{line}: {one['code']}")
    for modality in spec.modalities:
        document = read_document(lake, spec.dataset, upload, predictions_name(modality))
        failed = read_parquet(lake, document, "failed.parquet")
        said += [f"{one['record_id']}: {one['reason']}" for one in failed.to_pylist()]
    rows = 0 if spec.records == "images" else receipt["counts"]["rows"]
    return said, files.num_rows + rows


def _offers_are_complete(scope: Scope, modality: Modality) -> ChecksOf:
    checks = ChecksOf(scope, predictions_name(modality))

    @checks.check(
        "Every record to predict got one finite prediction, or waits with a reason.", blocking=True
    )
    def offers_are_complete(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        upload = context.partition_key
        name = predictions_name(modality)
        document = read_document(lake.lake(), scope.dataset, upload, name)
        records = read_document(lake.lake(), scope.dataset, upload, records_name(modality))
        offered = read_parquet(lake.lake(), document, f"{name}.parquet")
        ids = offered["record_id"].to_pylist()
        confident = all(0 <= c <= 1 for c in offered["confidence"].to_pylist())
        waiting = document["counts"]["waiting"]
        standing_in = document["counts"]["standing_in"]
        whole = len(ids) + waiting == records["counts"]["to_predict"] + standing_in
        once = len(set(ids)) == len(ids)
        explained = not waiting or bool(document["reason"])
        return check(
            whole and confident and once and explained,
            f"{len(ids)} predicted, {waiting} wait. {document['reason']}".strip(),
        )

    return checks
