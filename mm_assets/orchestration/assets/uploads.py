"""The asset `raw_uploads`."""

from typing import Any

import dagster as dg

from mm_assets.orchestration.scope import (
    LakeResource,
    Log,
    Scope,
    numbers,
    picture,
    shown_end,
    shown_left_out,
    shown_table,
    told,
)
from mm_assets.uploads.find import read_source
from mm_assets.uploads.read_as import firsts_in_words, in_words
from mm_assets.uploads.received import end_so_far, read_parquet, read_sample_images

SAMPLE = 12


def build_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """`<dataset>/raw_uploads`, one partition an upload."""

    @dg.asset(
        **scope.options(
            "raw_uploads",
            partitioned=True,
            kinds={"s3", "parquet"},
            description="Verified files of one upload: normalised images packed in Parquet, rows "
            "exactly as text, and a receipt of every file and its fate.",
        ),
    )
    def raw_uploads(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        from mm_assets.display.pictures import contact_sheet
        from mm_assets.uploads.take_in import take_in

        source = read_source(lake.lake(), scope.dataset, context.partition_key)
        receipt, stays = take_in(
            lake.lake(), scope.spec, source, run_id=context.run_id, progress=Log(context).info
        )
        metadata: dict[str, Any] = {"upload": source.name}
        if source.message:
            metadata["message"] = source.message
        ended = end_so_far(lake.lake(), receipt)
        metadata |= shown_end(ended)
        if receipt["refused"]:
            metadata["refused"] = "[{code}] {what}. {todo}".format(**receipt["refused"])
        if stays:
            Log(context).warning(stays)
            metadata["in the inbox"] = stays
        for table in receipt["tables"]:
            metadata[f"table {table['file']}"] = in_words(table)
        files = read_parquet(lake.lake(), receipt, "files.parquet")
        if firsts := firsts_in_words(files.select(["file", "frames"]).to_pylist()):
            metadata["first of several"] = firsts[0]
        quarantined = files.filter(files["code"].is_valid())
        if quarantined.num_rows:
            metadata["quarantined files"] = shown_table(quarantined, ["file", "code", "reason"])
        sample = contact_sheet(read_sample_images(lake.lake(), receipt, SAMPLE))
        if sample is not None:
            metadata["sample"] = picture(sample, "some of the images")
        metadata |= {"kind": source.kind, **numbers(receipt["counts"]), **shown_left_out(ended)}
        return dg.MaterializeResult(metadata=told(metadata))

    return [raw_uploads]
