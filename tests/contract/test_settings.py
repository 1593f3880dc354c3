"""What MM_TABLE and the endpoints may say."""

from __future__ import annotations

import pytest

from mm_assets.contract.errors import SettingsError
from mm_assets.contract.settings import Settings


@pytest.mark.parametrize("name", ["abc", "mm-predictions", "A.b_c-9", "x" * 255])
def test_a_dynamodb_table_is_named_by_its_name(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("MM_TABLE", f"dynamodb://{name}")
    settings = Settings.from_environment()
    assert settings.is_dynamodb
    assert settings.dynamodb_table == name


@pytest.mark.parametrize(
    "table",
    ["dynamodb://", "dynamodb://ab", "dynamodb:///abc", "dynamodb://a/b", "dynamodb://a b c",
     "dynamodb://" + "x" * 256, "dynamodb://täble", "duckdb:///", "duckdb://abc", "abc.duckdb",
     "postgres://abc", "dynamodb://abc\n"],
)  # fmt: skip
def test_any_other_table_is_refused_with_what_to_write(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setenv("MM_TABLE", table)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()
    assert caught.value.code == "table_unknown"
    assert "dynamodb://" in caught.value.todo


def test_without_a_word_the_table_is_a_duckdb_file(folder_settings: Settings) -> None:
    assert not folder_settings.is_dynamodb
    assert folder_settings.table_path == folder_settings.root / "data/predictions.duckdb"
    with pytest.raises(SettingsError):
        folder_settings.dynamodb_table  # noqa: B018


def test_each_service_has_its_endpoint_and_one_may_stand_for_both(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://both")
    settings = Settings.from_environment()
    assert settings.aws_endpoint_url == settings.dynamodb_endpoint_url == "http://both"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://dynamodb")
    settings = Settings.from_environment()
    assert settings.aws_endpoint_url == "http://s3"
    assert settings.dynamodb_endpoint_url == "http://dynamodb"
