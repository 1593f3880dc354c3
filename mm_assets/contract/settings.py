"""The environment, read once and validated: the only place that looks at MM_* and AWS_*.

A relative path counts from the project root: `MM_ROOT`, or the nearest folder from the working
directory upwards that is a project (see `find_root`), or else the working directory.
"""

from __future__ import annotations

import base64
import os
import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mm_assets.contract.errors import SettingsError

QUEUE_FORM = (
    "Write sqs:// and the queue's URL without https://, for example "
    "sqs://sqs.eu-central-1.amazonaws.com/123456789012/mm-uploads"
)
# How keys begin, so that nobody takes one for the other; what follows is 32 bytes in base64.
SIGNING_KEY, VERIFY_KEY = "mm-signing-key-", "mm-verify-key-"
PACKAGE = "dagster_project"  # in a checkout, the folder that holds defs/


def find_root(start: Path | None = None) -> Path:
    """The nearest folder upwards from `start` that is a project, or `start` itself.

    A project holds `workspace.yaml` (a checkout does), or a dataset as `defs/<dataset>/defs.yaml`.
    """
    start = (start or Path.cwd()).resolve()
    return next((folder for folder in (start, *start.parents) if _is_project(folder)), start)


def _queue_url(setting: str) -> str:
    """The URL in a setting that names a queue; '' if it names none."""
    url = setting.removeprefix("sqs://")
    if setting == url or re.sub("^https?://", "", url).count("/") < 2:
        return ""
    return url if url.startswith(("http://", "https://")) else f"https://{url}"


def _is_project(folder: Path) -> bool:
    if (folder / "workspace.yaml").exists():
        return True
    return folder.name != PACKAGE and any(folder.glob("defs/*/defs.yaml"))


class Settings(BaseSettings):
    """Where bytes, answers and datasets live."""

    model_config = SettingsConfigDict(env_prefix="MM_", extra="ignore", frozen=False)

    root: Path = Field(default_factory=find_root, description="What relative paths count from.")
    data: Path = Field(Path("data"), description="The folder for all local state.")
    lake: str = Field("", description="A folder or s3://bucket/prefix. Default: <data>/lake.")
    table: str = Field(
        "",
        description="duckdb:///relative/path, duckdb:////absolute/path or dynamodb://table-name. "
        "Default: <data>/predictions.duckdb.",
    )
    events: str = Field(
        "",
        description="sqs://host/account/queue: S3 event notifications tell what is new. "
        "Default: the inbox is listed.",
    )
    work: str = Field(
        "",
        description="sqs://host/account/queue: messages that name an upload or hold records. It "
        "may be the queue of MM_EVENTS.",
    )
    results: str = Field(
        "",
        description="sqs://host/account/queue, sns://topic-arn or events://bus: told of changed "
        "predictions. Default: nobody is told.",
    )
    results_send: Literal["all", "changed", "review"] = Field(
        "changed",
        description="Which predictions are sent: all that the table took, those whose answer "
        "changed, or those in review.",
    )
    defs: Path | None = Field(
        None,
        description="The folder with the datasets' YAML files. Default: dagster_project/defs in a "
        "checkout, defs anywhere else.",
    )
    aws_endpoint_url: str | None = Field(
        None,
        validation_alias=AliasChoices("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        description="Where S3 is, if not at AWS.",
    )
    dynamodb_endpoint_url: str | None = Field(
        None,
        validation_alias=AliasChoices("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"),
        description="Where DynamoDB is, if not at AWS (only to say it; boto3 reads it itself).",
    )
    aws_region: str | None = Field(None, validation_alias="AWS_REGION")
    aws_default_region: str | None = Field(None, validation_alias="AWS_DEFAULT_REGION")
    compute: Literal["local", "ray"] = Field(
        "local",
        description="Where images are decoded and looked at, and records predicted: in the run's "
        "own process, or on the workers of a Ray cluster.",
    )
    ray_address: str = Field(
        "",
        validation_alias="RAY_ADDRESS",
        description="host:port or ray://host:port of the cluster. Default: one is started here.",
    )
    serve_url: str = Field(
        "",
        description="Where people reach `mm serve`, for example https://mm.example.org: Dagster's "
        "pages link there. Default: they don't.",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        validation_alias="MLFLOW_TRACKING_URI",
        description="Where MLflow keeps what is known of trainings. Default: it is not told.",
    )
    label_studio_api_key: SecretStr = Field(
        SecretStr(""),
        validation_alias="LABEL_STUDIO_API_KEY",
        description="Whose name `mm review push` and `pull` use: a token of Label Studio.",
    )
    datasets: str = Field(
        "", description="Only these datasets, by name and separated by commas. Default: all."
    )
    allow_buckets: str = Field(
        "",
        description="Buckets that the images of an `image_column` may be read from, by name and "
        "separated by commas. Default: none.",
    )
    private_hosts: str = Field(
        "",
        description="Of the hosts in `allow_urls` those that may be in an internal network, "
        "separated by commas. Default: none.",
    )
    signing_key: SecretStr = Field(
        SecretStr(""),
        description="What promotions are signed with: `mm models new-key` makes one.",
    )
    signing_key_file: Path | None = Field(
        None, description="A file that holds MM_SIGNING_KEY, as Docker and Kubernetes mount it."
    )
    verify_key: str = Field(
        "",
        description="Whose promotions are accepted besides those of MM_SIGNING_KEY: public keys, "
        "separated by commas. With neither, promotions need no signature.",
    )
    dagster_home: Path | None = Field(None, validation_alias="DAGSTER_HOME")

    @model_validator(mode="after")
    def _fill_in(self) -> Settings:
        self.lake = self.lake or str(self.data / "lake")
        self.table = self.table or f"duckdb:///{self.data / 'predictions.duckdb'}"
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
        settings.validate_table()
        if settings.events:
            settings.queue_url  # noqa: B018  validates MM_EVENTS
        if settings.work:
            settings.work_url  # noqa: B018
        if settings.results:
            settings.results_target  # noqa: B018
        settings.signing_seed, settings.verify_keys  # noqa: B018
        return settings

    def serves(self, dataset: str) -> bool:
        """Whether this dataset is one of those that MM_DATASETS names, or all are."""
        return not self.datasets or dataset in self.datasets.replace(" ", "").split(",")

    @property
    def buckets_allowed(self) -> tuple[str, ...]:
        return _listed(self.allow_buckets)

    @property
    def hosts_inside(self) -> tuple[str, ...]:
        return _listed(self.private_hosts)

    @property
    def label_studio_key(self) -> str:
        return self.label_studio_api_key.get_secret_value().strip()

    def without_secrets(self) -> Settings:
        """For another machine: as they are, but for every secret and for files that hold one."""
        secrets = {name: SecretStr("") for name, value in self if isinstance(value, SecretStr)}
        return self.model_copy(update={**secrets, "signing_key_file": None})

    @property
    def signing_seed(self) -> bytes | None:
        """What the signing key is made of; None without one. Raises SettingsError."""
        text = self.signing_key.get_secret_value().strip()
        if not text and self.signing_key_file:
            try:
                text = (self.root / self.signing_key_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise _no_key("MM_SIGNING_KEY_FILE", f"it cannot be read: {error}") from None
            if not text:
                raise _no_key("MM_SIGNING_KEY_FILE", "the file is empty")
        return _key(text, SIGNING_KEY, "MM_SIGNING_KEY") if text else None

    @property
    def verify_keys(self) -> tuple[bytes, ...]:
        """The public keys whose signatures are accepted. Raises SettingsError."""
        return tuple(_key(one, VERIFY_KEY, "MM_VERIFY_KEY") for one in _listed(self.verify_key))

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

    @property
    def is_dynamodb(self) -> bool:
        return self.table.startswith("dynamodb://")

    def validate_table(self) -> None:
        """Raises SettingsError unless MM_TABLE names a DuckDB file or a DynamoDB table."""
        if self.is_dynamodb:
            self.dynamodb_table  # noqa: B018
        else:
            self.table_path  # noqa: B018

    @cached_property
    def table_path(self) -> Path:
        """The DuckDB file. Raises SettingsError for a table that is none."""
        if not self.table.startswith("duckdb:///") or self.table == "duckdb:///":
            raise SettingsError(
                code="table_unknown",
                what=f"MM_TABLE is '{self.table}', which is no DuckDB file",
                where="MM_TABLE",
                todo="Write duckdb:///data/predictions.duckdb (relative to the project), "
                "duckdb:////absolute/path.duckdb, or dynamodb://table-name.",
            )
        return self.root / Path(self.table.removeprefix("duckdb:///"))

    @cached_property
    def dynamodb_table(self) -> str:
        """The DynamoDB table's name. Raises SettingsError for a name that DynamoDB forbids."""
        name = self.table.removeprefix("dynamodb://")
        if not self.is_dynamodb or not re.fullmatch(r"[a-zA-Z0-9_.-]{3,255}", name):
            raise SettingsError(
                code="table_unknown",
                what=f"MM_TABLE is '{self.table}', which is no name for a DynamoDB table",
                where="MM_TABLE",
                todo="Write dynamodb:// and 3 to 255 of the characters a-z, A-Z, 0-9, '_', '.' "
                "and '-', for example dynamodb://mm-predictions.",
            )
        return name

    @property
    def queue_url(self) -> str:
        """The queue's URL. Raises SettingsError for what is no queue, or a lake without events."""
        url = _queue_url(self.events)
        if not url or not self.is_s3:
            raise SettingsError(
                code="events_unknown",
                what=f"MM_EVENTS is '{self.events}', with the lake {self.lake}",
                where="MM_EVENTS",
                todo=f"{QUEUE_FORM}; MM_LAKE must be s3://….",
            )
        return url

    @property
    def work_url(self) -> str:
        """The URL of the queue of work messages. Raises SettingsError for what is no queue."""
        if url := _queue_url(self.work):
            return url
        raise SettingsError(
            code="work_unknown",
            what=f"MM_WORK is '{self.work}', which is no queue",
            where="MM_WORK",
            todo=f"{QUEUE_FORM}.",
        )

    @property
    def reads_one_queue(self) -> bool:
        """Whether S3 events and work messages come through the same queue."""
        return bool(self.events and self.work) and self.queue_url == self.work_url

    @property
    def results_target(self) -> tuple[Literal["sqs", "sns", "events"], str]:
        """Who is told of changed predictions: kind, and the queue's URL, the topic's ARN or the
        bus. Raises SettingsError for what is none of them."""
        kind, _, name = self.results.partition("://")
        if kind == "sqs" and (url := _queue_url(self.results)):
            return "sqs", url
        if kind == "sns" and re.fullmatch(r"arn:[\w-]+:sns:[\w-]+:\d*:[\w.-]+", name):
            return "sns", name
        if kind == "events" and re.fullmatch(r"(arn:[\w:-]+/)?[\w./-]+", name):
            return "events", name
        raise SettingsError(
            code="results_unknown",
            what=f"MM_RESULTS is '{self.results}', which is no queue, topic or bus",
            where="MM_RESULTS",
            todo=f"{QUEUE_FORM}; or sns://arn:aws:sns:eu-central-1:123456789012:mm-results, or "
            "events:// and the name of an EventBridge bus.",
        )

    @property
    def defs_folder(self) -> Path:
        default = f"{PACKAGE}/defs" if (self.root / PACKAGE).is_dir() else "defs"
        return self.root / (self.defs or default)

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

    @property
    def own_places(self) -> frozenset[Path]:
        """Folders and files that the project keeps for itself: whoever sends the project's whole
        folder does not mean these."""
        own = [self.defs_folder, self.home, self.monitoring_folder]
        own += [self.data_folder / name for name in ("cache", "serving", "promotions-seen")]
        own += [] if self.is_s3 else [self.lake_folder]
        own += [] if self.is_dynamodb else [self.table_path]
        return frozenset(place.absolute() for place in own)


def present_settings() -> Settings:
    """As `Settings.from_environment`, but checked again only when the environment changes: what is
    done for one upload asks 40 times. Not to be changed."""
    return read_once(frozenset(os.environ.items()), Path.cwd())


@lru_cache(maxsize=4)
def read_once(_environment: frozenset[tuple[str, str]], _here: Path) -> Settings:
    """Settings by what they were read from."""
    return Settings.from_environment()


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _key(text: str, kind: str, where: str) -> bytes:
    try:
        raw = base64.b64decode(text.removeprefix(kind).encode(), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if not text.startswith(kind) or len(raw) != 32:
        raise _no_key(where, f"it is no key that begins with {kind}")
    return raw


def _no_key(where: str, what: str) -> SettingsError:
    """The key itself is never said: it may be the secret one in the wrong place."""
    return SettingsError(
        code="signing_key_invalid",
        what=what,
        where=where,
        todo="`mm models new-key` prints a new pair, `mm models new-key --public` what belongs "
        "into MM_VERIFY_KEY.",
    )
