"""The check of the images of an upload, over a real upload in a real lake."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import dagster as dg
import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import inbox
from mm_assets.orchestration.checks.uploads import build_checks
from mm_assets.orchestration.scope import LakeResource, Scope
from mm_assets.uploads.find import find_uploads
from mm_assets.uploads.receive import receive
from tests.make import plain_image


def make_scope(**limited: Any) -> Scope:
    return Scope(
        DatasetSpec.model_validate(
            {"dataset": "pets", "id_column": "id", "label_column": "kind", "limits": limited,
             "problem_type": "binary", "columns": {"age": "number"}}
        )
    )  # fmt: skip


def received(settings: Settings, scope: Scope, images: dict[str, bytes]) -> str:
    lake = Lake(settings)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("table.csv", "id,age,kind\np0,1,\n")
        for file, data in images.items():
            archive.writestr(file, data)
    lake.write(f"{inbox('pets')}a.zip", buffer.getvalue())
    source = find_uploads(lake, "pets").finished[0]
    receive(lake, scope.spec, source, run_id="run", progress=lambda _: None)
    return source.upload


def checked(scope: Scope, upload: str) -> dg.AssetCheckResult:
    [checks] = build_checks(scope)
    _, look = checks.looks["image_features_fit"]
    return look(dg.build_op_context(partition_key=upload), lake=LakeResource())


def test_without_ranges_in_the_yaml_there_is_no_such_check() -> None:
    assert not any("image_features_fit" in checks.looks for checks in build_checks(make_scope()))


def test_dark_and_small_images_are_counted_and_named(folder_settings: Settings) -> None:
    normal = {"brightness": {"minimum": 40, "maximum": 200}, "width": {"minimum": 30}}
    scope = make_scope(image_features=normal, maximum_unfit_image_share=0.5)
    shades = {f"p{i}.png": plain_image((100 + i,) * 3, 40, 20) for i in range(4)}
    upload = received(
        folder_settings,
        scope,
        {
            **shades,
            "dark.png": plain_image((5,) * 3, 40, 20),
            "tiny.png": plain_image((9,) * 3, 20, 20),
        },
    )
    result = checked(scope, upload)
    assert result.passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert result.description == (
        "2 of 6 images are outside what is normal (33.3%); the limit is 50.0%: 2 by brightness, "
        "1 by width; dark.png: brightness 5; tiny.png: brightness 9, width 20"
    )
    assert result.metadata["share"].value == pytest.approx(1 / 3)
    strict = make_scope(image_features=normal, maximum_unfit_image_share=0.3)
    assert not checked(strict, upload).passed


def test_an_upload_without_images_passes(folder_settings: Settings) -> None:
    scope = make_scope(image_features={"width": {"minimum": 30}}, maximum_unfit_image_share=0)
    assert checked(scope, received(folder_settings, scope, {})).passed
