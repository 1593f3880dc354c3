"""Checks on `raw_uploads`: accepted, no file lost, few unreadable, images as they should be."""

import dagster as dg

from mm_assets.orchestration.checks.of_asset import ChecksOf
from mm_assets.orchestration.scope import LakeResource, Scope, check
from mm_assets.uploads.received import read_parquet, read_receipt
from mm_assets.uploads.withdrawals import WITHDRAWN


def build_checks(scope: Scope) -> list[ChecksOf]:
    """The checks on `<dataset>/raw_uploads`."""
    checks = ChecksOf(scope, "raw_uploads")

    @checks.check("The upload as a whole was not refused.")
    def upload_accepted(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        refused = read_receipt(lake.lake(), scope.dataset, context.partition_key)["refused"]
        if not refused or refused["code"] == WITHDRAWN:
            return check(True, refused["what"] if refused else "accepted")
        return check(False, "[{code}] {what}. What to do: {todo}".format(**refused))

    @checks.check("Files in = received + quarantined, each with a code.", blocking=True)
    def no_file_is_lost(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        receipt = read_receipt(lake.lake(), scope.dataset, context.partition_key)
        counts = receipt["counts"]
        files = read_parquet(lake.lake(), receipt, "files.parquet")
        packed = lake.lake().open(receipt["files"]["images.parquet"]["key"])
        import pyarrow.parquet as pq

        with packed as handle:
            # One file can be the image of several records.
            images = len(pq.read_table(handle, columns=["file"])["file"].unique())
        good = files.num_rows - counts["quarantined"]
        refused = files["code"].is_valid().to_pylist().count(True)
        whole = (
            files.num_rows == counts["files"]
            and refused == counts["quarantined"]
            and good == counts["images"] + counts["tables"]
            and images == counts["images"]
        )
        return check(
            whole,
            f"{files.num_rows} files in = {images} images + {counts['tables']} tables + "
            f"{refused} quarantined",
        )

    @checks.check("The share of images that could not be read.")
    def unreadable_share(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        from mm_assets.uploads.images_inside import NOT_NAMED

        receipt = read_receipt(lake.lake(), scope.dataset, context.partition_key)
        by_code = receipt["quarantined_by_code"]
        unread = (code for code in by_code if code.startswith("image_") and code != NOT_NAMED)
        bad = sum(by_code[code] for code in unread)
        share = bad / max(1, bad + receipt["counts"]["images"])
        limit = scope.spec.limits.maximum_unreadable_share
        return check(
            share <= limit,
            f"{bad} images refused ({share:.1%}); the limit is {limit:.1%}",
            warn=True,
            metadata={"share": share},
        )

    if scope.spec.limits.image_features:
        _image_features_fit(checks)
    return [checks]


def _image_features_fit(checks: ChecksOf) -> None:
    scope, limits = checks.scope, checks.scope.spec.limits

    @checks.check("The share of images that are too dark, blurred, small and so on.")
    def image_features_fit(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> dg.AssetCheckResult:
        import pyarrow.parquet as pq

        from mm_assets.reading.image_features import unfit_images

        receipt = read_receipt(lake.lake(), scope.dataset, context.partition_key)
        with lake.lake().open_published(receipt, "images.parquet") as handle:
            images = pq.read_table(handle, columns=["file", "features"])
        if "features" not in images.column_names:
            return check(True, "received before images were measured; materialise it again")
        found = unfit_images(images, limits.image_features)
        words = [f"{n} by {feature}" for feature, n in found.by_feature.items() if n]
        more = "; ".join([", ".join(words), *found.examples]) if found.unfit else ""
        return check(
            found.share <= limits.maximum_unfit_image_share,
            f"{found.unfit} of {found.images} images are outside what is normal "
            f"({found.share:.1%}); the limit is {limits.maximum_unfit_image_share:.1%}"
            f"{': ' + more if more else ''}",
            warn=True,
            metadata={"share": found.share, **found.by_feature},
        )
