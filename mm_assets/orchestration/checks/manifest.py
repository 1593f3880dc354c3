"""Checks on `manifest` and the records: nothing is lost, IDs are unique, images cover enough."""

import dagster as dg

from mm_assets.contract.dataset import Modality
from mm_assets.contract.ends import End, read_ended
from mm_assets.lake.layout import MANIFEST, records_name
from mm_assets.orchestration.checks.of_asset import ChecksOf
from mm_assets.orchestration.scope import LakeResource, Scope, check
from mm_assets.uploads.received import read_document, read_parquet, read_receipt
from mm_assets.uploads.without_row import nearly_in_words


def build_checks(scope: Scope) -> list[ChecksOf]:
    """The checks on `<dataset>/manifest` and `<dataset>/records_…`."""
    checks = ChecksOf(scope, "manifest")
    limits = scope.spec.limits

    @checks.check("Rows in = records + rejects, each with a code.", blocking=True)
    def no_row_is_lost(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        document = read_document(lake.lake(), scope.dataset, context.partition_key, MANIFEST)
        counts = document["counts"]
        rejects = read_parquet(lake.lake(), document, "rejects.parquet")
        kept = counts["records"] + counts["labels_joined"] + counts.get("withdrawn", 0)
        coded = not rejects["code"].null_count
        return check(
            coded and counts["rows"] == kept + rejects.num_rows,
            f"{counts['rows']} rows in = {counts['records']} records + "
            f"{counts['labels_joined']} labels joined to them + {rejects.num_rows} rejects"
            + (f" + {counts['withdrawn']} withdrawn" if "withdrawn" in counts else ""),
        )

    @checks.check("Images in = used + duplicate + superseded + orphaned.", blocking=True)
    def no_image_is_lost(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        receipt = read_receipt(lake.lake(), scope.dataset, context.partition_key)
        document = read_document(lake.lake(), scope.dataset, context.partition_key, MANIFEST)
        fates = read_parquet(lake.lake(), document, "images.parquet")
        counted = {
            fate: document["counts"].get(f"images_{fate}", 0)
            for fate in ("used", "duplicate", "superseded", "orphaned", "withdrawn")
        }
        came = len(fates["file"].unique())  # one file can be the image of several records
        whole = receipt["counts"]["images"] == came and fates.num_rows == sum(counted.values())
        words = " + ".join(f"{n} {fate}" for fate, n in counted.items())
        return check(whole, f"{receipt['counts']['images']} images in = {words}")

    @checks.check("Each record stands in one row.", blocking=True)
    def ids_are_unique(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        import pyarrow.compute as pc

        document = read_document(lake.lake(), scope.dataset, context.partition_key, MANIFEST)
        ids = read_parquet(lake.lake(), document, "manifest.parquet")["record_id"]
        distinct = pc.count_distinct(ids).as_py()
        return check(distinct == len(ids), f"{len(ids)} rows, {distinct} IDs")

    @checks.check("The columns are those of the YAML.", blocking=True)
    def schema_holds(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        from mm_assets.manifest.join import MANIFEST_COLUMNS

        document = read_document(lake.lake(), scope.dataset, context.partition_key, MANIFEST)
        table = read_parquet(lake.lake(), document, "manifest.parquet")
        kind = table.schema.field("features").type
        found = [kind.field(i).name for i in range(kind.num_fields)]
        measured = ["image_features"] if scope.spec.image_features else []
        several = ["images"] if scope.spec.all_images else []
        named = ["image_order"] if scope.spec.image_column is not None else []
        names = [*MANIFEST_COLUMNS, "features", *named, *several, *measured]
        return check(
            table.column_names == names and found == list(scope.spec.columns),
            f"features: {', '.join(found) or 'none'}",
        )

    @checks.check("A record, a label or an image of the upload is used.")
    def something_used(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        ended = read_ended(
            read_document(lake.lake(), scope.dataset, context.partition_key, MANIFEST)
        )
        todo = f". What to do: {ended.todo}" if ended.todo else ""
        return check(ended.end is not End.NOTHING, (ended.words or ended.end) + todo)

    @checks.check("The share of rows, and of files, that were refused.")
    def refused_share(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        from mm_assets.manifest.join import refused_shares

        upload = context.partition_key
        document = read_document(lake.lake(), scope.dataset, upload, MANIFEST)
        receipt = read_receipt(lake.lake(), scope.dataset, upload)
        ended = read_ended(document)
        shares = refused_shares(ended, receipt)
        limit = limits.maximum_refused_share
        said = ", ".join(f"{share:.1%} of the {what}" for what, share in shares.items())
        return check(
            max(shares.values()) <= limit,
            f"refused: {said}; the limit is {limit:.1%}{'; ' * bool(ended.words)}{ended.words}",
            metadata={f"share of {what}": share for what, share in shares.items()},
        )

    @checks.check("The share of records that have an image.")
    def image_coverage(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        document = read_document(lake.lake(), scope.dataset, context.partition_key, MANIFEST)
        counts = document["counts"]
        total = counts["in_manifest"]
        share = counts["with_image"] / total if total else 1.0
        return check(
            share >= limits.minimum_image_share and not document.get("nearly"),
            f"{counts['with_image']} of {total} records have an image ({share:.1%}); at least "
            f"{limits.minimum_image_share:.1%} are expected"
            + "; ".join(["", *nearly_in_words(document.get("nearly"))]),
            warn=True,
            metadata={"share": share},
        )

    of_records = (_split_is_complete(scope, modality) for modality in scope.spec.modalities)
    return [checks, *of_records]


def _split_is_complete(scope: Scope, modality: Modality) -> ChecksOf:
    checks = ChecksOf(scope, records_name(modality))

    @checks.check("Holds exactly the manifest's records of this modality.", blocking=True)
    def split_is_complete(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        import pyarrow.compute as pc

        name = records_name(modality)
        upload = context.partition_key
        manifest = read_document(lake.lake(), scope.dataset, upload, MANIFEST)
        document = read_document(lake.lake(), scope.dataset, upload, name)
        records = read_parquet(lake.lake(), document, f"{name}.parquet")
        with_image = records.num_rows - records["image_sha256"].null_count
        expected = manifest["counts"][modality.value]
        right = with_image == (records.num_rows if modality is Modality.WITH_IMAGE else 0)
        unique = pc.count_distinct(records["record_id"]).as_py() == records.num_rows
        return check(
            right and unique and records.num_rows == expected,
            f"{records.num_rows} records, {with_image} of them with an image; "
            f"the manifest has {expected}",
        )

    return checks
