"""What MM_TABLE and the endpoints may say, and which folder is the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_assets.contract.errors import SettingsError
from mm_assets.contract.settings import Settings, find_root


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


def dataset(defs: Path) -> Path:
    """A folder with the YAML of a dataset below `defs`."""
    (defs / "parts").mkdir(parents=True)
    (defs / "parts" / "defs.yaml").touch()
    return defs / "parts"


def test_a_folder_with_a_dataset_is_a_project_also_from_within(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    inside = dataset(root / "defs")
    (root / "data" / "lake").mkdir(parents=True)
    for start in (root, inside, inside.parent, root / "data" / "lake"):
        assert find_root(start) == root
    assert Settings(root=root).defs_folder == root / "defs"


def test_a_folder_named_defs_without_a_dataset_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "defs").mkdir()
    (tmp_path / "sub").mkdir()
    assert find_root(tmp_path / "sub") == tmp_path.resolve() / "sub"


def test_a_checkout_is_found_from_within_its_package_too(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    (root / "workspace.yaml").touch()
    inside = dataset(root / "dagster_project" / "defs")
    for start in (root, root / "dagster_project", inside):
        assert find_root(start) == root
    assert Settings(root=root).defs_folder == root / "dagster_project" / "defs"


def test_the_nearest_project_counts(tmp_path: Path) -> None:
    """As with a folder of one's own inside some repository that has a workspace.yaml."""
    (tmp_path / "workspace.yaml").touch()
    dataset(tmp_path / "mine" / "defs")
    (tmp_path / "mine" / "uploads").mkdir()
    assert find_root(tmp_path / "mine" / "uploads") == tmp_path.resolve() / "mine"


def test_mm_defs_names_the_folder_of_the_datasets_wherever_it_is(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder_settings.root / "dagster_project").mkdir()
    monkeypatch.setenv("MM_DEFS", "yamls")
    assert Settings.from_environment().defs_folder == folder_settings.root / "yamls"
    monkeypatch.setenv("MM_DEFS", str(tmp_path / "elsewhere"))
    assert Settings.from_environment().defs_folder == tmp_path / "elsewhere"
