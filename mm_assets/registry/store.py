"""The model store: trained models in the lake, and which of them is the champion.

    datasets/<dataset>/models/<modality>/<version>/files/<path>       as the engine wrote them
    datasets/<dataset>/models/<modality>/<version>/model.json         the manifest, written last
    datasets/<dataset>/models/<modality>/champions/<generation>.json  the promotion log

A model without its manifest does not exist. The manifest names every file with size and sha256, a
promotion names the manifest's sha256 and is itself signed where there are keys (signing.py), and
`fetch` hands out a local copy only after all of them fit, because engines unpickle what they load.
Nothing is unpickled here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import LakeError, ModelError
from mm_assets.lake.documents import unpacked
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import sha256_of, utc_now
from mm_assets.registry.files import (
    DIFFERS,
    check_files,
    difference,
    files_below,
    tampered,
    verify,
)
from mm_assets.registry.log import VERSION, Champion, PromotionLog
from mm_assets.registry.signing import Keys
from mm_assets.registry.versions import installed, refuse_other_version

__all__ = ["Champion", "ModelStore", "StoredModel"]
FORMAT = 1
MANIFEST = "model.json"
# What the trainer says about a model; the store adds the rest (see `ModelStore.save`).
REQUIRED = (
    "engine", "problem_type", "classes", "columns", "metrics", "baseline", "n",
    "training_fingerprint", "training_counts", "spec_fingerprint",
)  # fmt: skip
THREADS = 8
PROMOTION_ATTEMPTS = 10
STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class StoredModel:
    """A model as it was stored. Hand `manifest_sha256` on to `promote` and `fetch`."""

    modality: Modality
    version: str
    manifest: dict[str, Any]
    manifest_sha256: str


class ModelStore:
    """The models of one dataset. `cache` holds verified local copies.

    is_export: it holds copies of some promotions, not the log that they are from.
    """

    def __init__(
        self, lake: Lake, dataset: str, cache: Path | None = None, *, is_export: bool = False
    ) -> None:
        self.lake = lake
        self.dataset = dataset
        self.cache = cache or lake.settings.model_cache
        self.keys = Keys(lake.settings)
        self._is_export = is_export

    def save(self, modality: str, folder: Path, manifest: dict[str, Any]) -> StoredModel:
        """Store every file below `folder`, then the manifest.

        `manifest` holds the keys in REQUIRED and may hold more, such as `calibration` and
        `run_id`; the store adds version, dataset, modality, libraries, created_at and files.
        Raises ModelError for an incomplete manifest, links, and names that are not portable.
        """
        modality = Modality(modality)
        _check_manifest(manifest)
        paths = files_below(folder)
        files = {
            n: {"sha256": sha256_of(p), "bytes": p.stat().st_size} for n, p in sorted(paths.items())
        }
        check_files(files)
        moment = datetime.now(UTC)
        version = _version_of(moment, files, manifest)
        document = {
            "calibration": None,
            "run_id": None,
            **manifest,
            "format": FORMAT,
            "version": version,
            "dataset": self.dataset,
            "modality": modality.value,
            "libraries": installed(),
            "created_at": moment.isoformat(timespec="microseconds"),
            "files": files,
        }
        key = self._key(modality, version)
        _in_parallel(lambda name: self.lake.write(f"{key}/files/{name}", paths[name]), paths)
        if not self.lake.create_json(f"{key}/{MANIFEST}", document):
            raise ModelError(
                code="model_exists",
                what=f"the same model {version} was stored a moment ago",
                where=self._where(key),
                todo="Use that one, or run the training again.",
            )
        stored = StoredModel(modality, version, *self._read(modality, version))
        if stored.manifest != json.loads(json.dumps(document)):
            tampered("the manifest is not the one just written", self._where(key))
        return stored

    def champion(self, modality: str) -> Champion | None:
        """The promoted model, or None where there is none yet."""
        return self.log(modality).newest()

    def promotion(self, modality: str, generation: int) -> Champion:
        """One entry of the promotion log. Raises ModelError if there is none of this number."""
        return self.log(modality).entry(generation)

    def champions(self, modality: str) -> list[Champion]:
        """All promotions, oldest first."""
        return self.log(modality).entries()

    def promote(
        self, modality: str, version: str, reason: str, *,
        manifest_sha256: str | None = None, by: str = "",
    ) -> Champion:  # fmt: skip
        """Make a stored model the champion; an older version again is a roll-back.

        To promote the champion itself changes nothing. `manifest_sha256`, as `save` returned it,
        makes sure that the manifest is still the one that was stored.
        """
        modality = Modality(modality)
        _, signed = self._read(modality, version, manifest_sha256)
        for _ in range(PROMOTION_ATTEMPTS):
            log = self.log(modality)
            current = log.newest(whole=True)
            if current and (current.version, current.manifest_sha256) == (version, signed):
                return current
            self._refuse_without_key(log, current)
            champion = Champion(
                modality=modality,
                generation=current.generation + 1 if current else 1,
                version=version,
                manifest_sha256=signed,
                reason=reason,
                promoted_at=utc_now(),
                previous=current.version if current else None,
                by=by,
            )
            if written := log.append(champion, current):
                return written
        raise ModelError(
            code="promotion_contested",
            what=f"{PROMOTION_ATTEMPTS} other promotions came first",
            where=self._where(log.prefix),
            todo="Let one process promote models of this dataset at a time, and try again.",
        )

    def refuse_unable(self, modality: str) -> None:
        """Raises ModelError where `promote` would, whatever the model: before a long training."""
        log = self.log(modality)
        self._refuse_without_key(log, log.newest(whole=True))

    def _refuse_without_key(self, log: PromotionLog, current: Champion | None) -> None:
        is_signed = bool(current and current.signature)
        self.keys.refuse_to_promote(self._where(log.prefix), is_signed=is_signed)

    def log(self, modality: str) -> PromotionLog:
        """The promotion log, as it is listed now."""
        return PromotionLog(
            self.lake, self.dataset, Modality(modality), self.keys, is_export=self._is_export
        )

    def manifest(
        self, modality: str, version: str, *, manifest_sha256: str | None = None
    ) -> dict[str, Any]:
        """What is known about a stored model; verified if `manifest_sha256` is given."""
        return self._read(Modality(modality), version, manifest_sha256)[0]

    def versions(self, modality: str) -> list[str]:
        """Every stored model, newest first; one whose storing was cut off is not among them."""
        base = f"{self._models(Modality(modality))}/"
        names = [name for name in self.lake.names(base) if VERSION.fullmatch(name)]
        there = (name for name in names if self.lake.stat(f"{base}{name}/{MANIFEST}"))
        return sorted(there, reverse=True)

    def stored(
        self, modality: str, version: str, *, manifest_sha256: str | None = None
    ) -> StoredModel:
        """What `save` returned. Without `manifest_sha256` the newest promotion's is asked for."""
        modality = Modality(modality)
        signed = manifest_sha256 or self._signed(modality, version)
        return StoredModel(modality, version, *self._read(modality, version, signed))

    def copy_to(self, other: ModelStore, champion: Champion) -> None:
        """Put this model, verified, into another store of the same dataset, as its champion."""
        signed, key = champion.manifest_sha256, self._key(champion.modality, champion.version)
        folder = self.fetch(champion.modality, champion.version, manifest_sha256=signed)
        for name, path in files_below(folder).items():
            other.lake.write(f"{key}/files/{name}", path)
        other.lake.write(f"{key}/{MANIFEST}", self.lake.read(f"{key}/{MANIFEST}"))
        other.stored(champion.modality, champion.version, manifest_sha256=signed)
        entry = other.log(champion.modality).key(champion.generation)
        other.lake.write_json(entry, champion.to_json())

    def fetch(self, modality: str, version: str, *, manifest_sha256: str | None = None) -> Path:
        """A local, read-only copy of the model's files, each verified just now.

        `manifest_sha256` is what the promotion (or `save`) signed for; without it, the newest
        promotion of this version is asked. Raises ModelError(model_tampered) at any difference,
        in the lake or in the cache, and ModelError(model_other_version) where the libraries here
        are not known to read it. Several processes may fetch the same model at once.
        """
        modality = Modality(modality)
        signed = manifest_sha256 or self._signed(modality, version)
        manifest = self._read(modality, version, signed)[0]
        refuse_other_version(manifest, self._where(self._key(modality, version)))
        files = manifest["files"]
        local = self.cache / self.dataset / modality.value / version
        if not local.exists():
            self._download(f"{self._key(modality, version)}/files/", files, local)
        verify(local, files)
        return local

    def _download(self, prefix: str, files: dict[str, Any], local: Path) -> None:
        """Into a temporary folder beside `local`, then there in one step, unless it is there."""
        stored = {item.key[len(prefix) :]: item.size for item in self.lake.list(prefix)}
        announced = {name: facts["bytes"] for name, facts in files.items()}
        for name in sorted(stored.keys() | announced.keys()):
            if stored.get(name) != announced.get(name):
                what = difference(stored.get(name), announced.get(name))
                tampered(what, self._where(prefix + name))
        local.parent.mkdir(parents=True, exist_ok=True)
        _sweep(local.parent)
        temporary = Path(tempfile.mkdtemp(prefix=".fetch-", dir=local.parent))

        def fetch_one(name: str) -> None:
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.lake.fetch(prefix + name, path) != files[name]["sha256"]:
                tampered(DIFFERS, self._where(prefix + name))
            path.chmod(0o444)

        try:
            _in_parallel(fetch_one, files)
            temporary.chmod(0o755)
            temporary.rename(local)
        except OSError:
            if not local.is_dir():  # else another process was faster; its copy is verified next
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _read(
        self, modality: Modality, version: str, signed: str | None = None
    ) -> tuple[dict[str, Any], str]:
        """The manifest and its sha256, which has to be `signed` if that is given."""
        key = f"{self._key(modality, version)}/{MANIFEST}"
        try:
            raw = self.lake.read(key)
        except LakeError as error:
            if error.code != "lake_not_found":
                raise
            raise ModelError(
                code="model_unknown",
                what=f"there is no model {version}",
                where=self._where(key),
                todo="Train a model; if a training was cut off, run it again.",
            ) from None
        actual = hashlib.sha256(raw).hexdigest()
        if signed not in (None, actual):
            tampered("the manifest is not the one that was signed for", self._where(key))
        try:
            manifest = unpacked(raw)
            said = tuple(manifest[name] for name in ("dataset", "modality", "version"))
            if said != (self.dataset, modality.value, version):
                raise ValueError(f"it is the manifest of {'/'.join(map(str, said))}")
            check_files(manifest["files"])
        except (ModelError, ValueError, TypeError, KeyError, AttributeError) as error:
            why = error.what if isinstance(error, ModelError) else str(error)
            tampered(f"the manifest cannot be used: {why}", self._where(key))
        return manifest, actual

    def _signed(self, modality: Modality, version: str) -> str | None:
        """The manifest's sha256 that the newest promotion of this version signed for."""
        signed = [c.manifest_sha256 for c in self.champions(modality) if c.version == version]
        return signed[-1] if signed else None

    def _models(self, modality: Modality) -> str:
        return f"datasets/{self.dataset}/models/{modality.value}"

    def _key(self, modality: Modality, version: str) -> str:
        if not VERSION.fullmatch(version):
            raise ModelError(
                code="model_unknown",
                what=f"{version!r} is not the version of a model",
                where=f"{self.dataset}/{modality.value}",
                todo="Write a version as the manifest has it: 20261121-101500-0123456789.",
            )
        return f"{self._models(modality)}/{version}"

    def _where(self, key: str) -> str:
        return f"{self.lake.url}/{key}"


def _sweep(folder: Path) -> None:
    """Remove what downloads that were killed left behind, a day later."""
    for path in folder.glob(".fetch-*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _in_parallel(work: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, names))


def _check_manifest(manifest: dict[str, Any]) -> None:
    missing = [name for name in REQUIRED if name not in manifest]
    what = f"the manifest lacks {', '.join(missing)}" if missing else ""
    try:
        json.dumps(manifest, allow_nan=False)
    except (TypeError, ValueError) as error:
        what = f"the manifest is not plain JSON: {error}"
    if what:
        raise ModelError(
            code="manifest_invalid",
            what=what,
            where="ModelStore.save",
            todo="This is a fault of the training step: report it.",
        )


def _version_of(moment: datetime, files: dict[str, Any], manifest: dict[str, Any]) -> str:
    said = json.dumps(manifest, sort_keys=True)
    hashes = "\n".join([*sorted(facts["sha256"] for facts in files.values()), said])
    return f"{moment:%Y%m%d-%H%M%S}-{hashlib.sha256(hashes.encode()).hexdigest()[:10]}"
