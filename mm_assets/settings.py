"""The environment, read once and validated: the only place that looks at MM_* and AWS_*.

A relative path counts from the project root: `MM_ROOT`, or the nearest folder from the working
directory upwards that holds `workspace.yaml`, or else the working directory.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mm_assets.errors import SettingsError


def find_root(start: Path | None = None) -> Path:
    """The nearest folder upwards from `start` that holds `workspace.yaml`, or `start` itself."""
    start = (start or Path.cwd()).resolve()
    return next((p for p in (start, *start.parents) if (p / "workspace.yaml").exists()), start)


class Settings(BaseSettings):
    """Where bytes, answers and datasets live."""

    model_config = SettingsConfigDict(env_prefix="MM_", extra="ignore", frozen=False)

    root: Path = Field(default_factory=find_root, description="What relative paths count from.")
    data: Path = Field(Path("data"), description="The folder for all local state.")
    lake: str = Field("", description="A folder or s3://bucket/prefix. Default: <data>/lake.")
    table: str = Field(
        "",
        description="duckdb:///relative/path or duckdb:////absolute/path. "
        "Default: <data>/predictions.duckdb.",
    )
    defs: Path = Field(Path("dagster_project/defs"), description="The datasets' YAML files.")
    aws_endpoint_url: str | None = Field(None, validation_alias="AWS_ENDPOINT_URL")
    aws_region: str | None = Field(None, validation_alias="AWS_REGION")
    aws_default_region: str | None = Field(None, validation_alias="AWS_DEFAULT_REGION")
    dagster_home: Path | None = Field(None, validation_alias="DAGSTER_HOME")

    @model_validator(mode="after")
    def _fill_in(self) -> Settings:
        self.lake = self.lake or str(self.data_folder / "lake")
        self.table = self.table or f"duckdb:///{self.data_folder / 'predictions.duckdb'}"
        return self

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment. Raises SettingsError with the variable that is wrong."""
        try:
            settings = cls()
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(
                code="settings_invalid",
                what=first["msg"],
                where=".".join(str(part) for part in first["loc"]),
                todo="Correct this environment variable.",
            ) from None
        if not settings.is_s3 and "://" in settings.lake:
            raise SettingsError(
                code="lake_unknown",
                what=f"MM_LAKE is '{settings.lake}', which is neither a folder nor s3://",
                where="MM_LAKE",
                todo="Write a folder, for example data/lake, or s3://bucket/prefix.",
            )
        settings.table_path  # noqa: B018  validates MM_TABLE
        return settings

    @property
    def is_s3(self) -> bool:
        return self.lake.startswith("s3://")

    @property
    def lake_folder(self) -> Path:
        return self.root / Path(self.lake).expanduser()

    @property
    def bucket_and_prefix(self) -> tuple[str, str]:
        bucket, _, prefix = self.lake.removeprefix("s3://").partition("/")
        return bucket, prefix.strip("/")

    @property
    def region(self) -> str:
        return self.aws_region or self.aws_default_region or "us-east-1"

    @cached_property
    def table_path(self) -> Path:
        """The DuckDB file. Raises SettingsError for a scheme that is not `duckdb:///`."""
        if not self.table.startswith("duckdb:///") or self.table == "duckdb:///":
            raise SettingsError(
                code="table_unknown",
                what=f"MM_TABLE is '{self.table}', which is no DuckDB file",
                where="MM_TABLE",
                todo="Write duckdb:///data/predictions.duckdb (relative to the project) "
                "or duckdb:////absolute/path.duckdb.",
            )
        return self.root / Path(self.table.removeprefix("duckdb:///"))

    @property
    def defs_folder(self) -> Path:
        return self.root / self.defs

    @property
    def data_folder(self) -> Path:
        return self.root / self.data

    @property
    def home(self) -> Path:
        """The folder of Dagster's instance."""
        return self.dagster_home or self.data_folder / "dagster"

    @property
    def model_cache(self) -> Path:
        """Verified local copies of models."""
        return self.data_folder / "cache" / "models"

    @property
    def monitoring_folder(self) -> Path:
        """The monitoring pictures as files, a folder for each dataset."""
        return self.data_folder / "monitoring"
