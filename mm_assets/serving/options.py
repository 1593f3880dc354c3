"""How a service is asked to run: the options of `mm serve`, as each of its processes reads them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Options:
    """datasets: of the project; none and no models: all that have a champion. models: folders of
    `mm models export`, each a dataset more. refresh_seconds: how often promotions are looked for.
    most_records: in one request. most_bytes: of a body as it comes, and after unpacking.
    most_upload_bytes: of a file that a browser sends in parts.
    most_waiting: records that may wait in a dataset's lane. seconds: for one request.
    memory_bytes: what models of all datasets may take; None: no limit. allow_urls, allow_buckets:
    where images may be fetched from. private_hosts: hosts that are allowed, too, and may be in an
    internal network. keys: file of API keys; None: none are asked for. open: something else guards
    an address that is not this machine's own. record: keep answered records as uploads.
    log_format: of what is written to stderr; auto: text on a terminal, else JSON.
    """

    datasets: tuple[str, ...] = ()
    models: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    preload: bool = True
    refresh_seconds: float = 5.0
    most_records: int = 1_000
    most_bytes: int = 32 << 20
    most_upload_bytes: int = 5 << 30
    most_waiting: int = 512
    seconds: float = 30.0
    memory_bytes: int | None = None
    allow_urls: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()
    allow_buckets: tuple[str, ...] = ()
    keys: Path | None = None
    open: bool = False
    record: bool = False
    log_format: Literal["auto", "json", "text"] = "auto"

    def as_document(self) -> dict[str, Any]:
        """Plain JSON, for another process."""
        document = asdict(self)
        document["models"] = [str(folder) for folder in self.models]
        document["keys"] = str(self.keys) if self.keys else None
        return document

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Options:
        known = {one.name for one in fields(cls)}
        told = {name: value for name, value in document.items() if name in known}
        for name in ("datasets", "allow_urls", "private_hosts", "allow_buckets"):
            told[name] = tuple(told.get(name, ()))
        told["models"] = tuple(Path(folder) for folder in told.get("models", ()))
        told["keys"] = Path(told["keys"]) if told.get("keys") else None
        return cls(**told)
