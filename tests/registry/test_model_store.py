"""The model store: whole or not at all, verified to the last byte, one champion at a time.

Every test runs over a folder and over a server that speaks S3.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.errors import LakeError, ModelError
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import sha256_of
from mm_assets.registry.store import ModelStore, StoredModel

MODALITY = "without_image"
FILES = {"model.ckpt": b"weights" * 1000, "deep/er/config.yaml": b"a: 1\n", "empty": b""}
MANIFEST: dict[str, Any] = {
    "engine": "autogluon",
    "problem_type": "binary",
    "classes": ["no", "yes"],
    "columns": {"age": "number"},
    "metrics": {"accuracy": 0.9},
    "baseline": {"accuracy": 0.5},
    "n": 40,
    "training_fingerprint": "abc",
    "training_counts": {"train": 100, "tune": 20, "test": 40},
    "spec_fingerprint": "0123456789ab",
}


@pytest.fixture
def store(lake: Lake) -> ModelStore:
    return ModelStore(lake, "pets")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "engine", FILES)


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def save(store: ModelStore, folder: Path, fingerprint: str = "abc") -> StoredModel:
    return store.save(MODALITY, folder, {**MANIFEST, "training_fingerprint": fingerprint})


def key(model: StoredModel, name: str) -> str:
    return f"datasets/pets/models/{MODALITY}/{model.version}/{name}"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refused(
    code: str, action: Callable[..., object], *given: object, **named: object
) -> ModelError:
    with pytest.raises(ModelError) as caught:
        action(*given, **named)
    assert caught.value.code == code
    assert caught.value.what
    assert caught.value.where
    assert caught.value.todo
    return caught.value


# -- what goes in comes out -----------------------------------------------------------------------


def test_a_fetched_model_is_the_saved_one_read_only(store: ModelStore, folder: Path) -> None:
    model = save(store, folder)
    local = store.fetch(MODALITY, model.version, manifest_sha256=model.manifest_sha256)
    assert contents(local) == FILES
    for path in local.rglob("*"):
        assert path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o444
    assert local == store.lake.settings.root / f"data/cache/models/pets/{MODALITY}/{model.version}"
    assert store.fetch(MODALITY, model.version) == local
    assert [path.name for path in local.parent.iterdir()] == [model.version]


def test_weights_larger_than_one_part_of_an_s3_upload_come_back_whole(
    store: ModelStore, folder: Path
) -> None:
    weights = os.urandom(1 << 20) * 12
    (folder / "model.ckpt").write_bytes(weights)
    model = save(store, folder)
    assert (store.fetch(MODALITY, model.version) / "model.ckpt").read_bytes() == weights


def test_the_manifest_says_where_the_model_comes_from(store: ModelStore, folder: Path) -> None:
    model = save(store, folder)
    manifest = store.manifest(MODALITY, model.version)
    assert manifest == model.manifest
    assert manifest.items() >= MANIFEST.items()
    assert (manifest["dataset"], manifest["modality"]) == ("pets", MODALITY)
    assert manifest["version"] == model.version
    assert (manifest["calibration"], manifest["run_id"]) == (None, None)
    assert {"python", "autogluon", "torch"} <= manifest["libraries"].keys()
    assert manifest["files"]["model.ckpt"] == {
        "sha256": sha256_of(folder / "model.ckpt"),
        "bytes": 7000,
    }


def test_versions_are_short_sorted_by_time_and_tell_models_apart(
    store: ModelStore, folder: Path
) -> None:
    first, second = save(store, folder), save(store, folder, "other")
    assert first.version[:15] <= second.version[:15]
    assert first.version[16:] != second.version[16:]
    assert len(first.version) == 26


def test_the_same_model_in_the_same_second_is_not_written_over(
    store: ModelStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = "20261121-101500-0123456789"
    monkeypatch.setattr("mm_assets.registry.store._version_of", lambda *_: version)
    save(store, folder)
    refused("model_exists", save, store, folder)


def test_models_of_other_datasets_and_modalities_keep_to_themselves(
    store: ModelStore, folder: Path
) -> None:
    model = save(store, folder)
    store.promote(MODALITY, model.version, "good")
    other = ModelStore(store.lake, "plants")
    assert store.champion("with_image") is None
    assert other.champion(MODALITY) is None
    refused("model_unknown", store.manifest, "with_image", model.version)
    refused("model_unknown", other.fetch, MODALITY, model.version)


@pytest.mark.parametrize("version", ["", "../../x", "champions", "20261121-101500-xxxxxxxxxx"])
def test_what_is_no_version_is_unknown(store: ModelStore, version: str) -> None:
    refused("model_unknown", store.fetch, MODALITY, version)


def test_a_half_saved_model_is_invisible(
    store: ModelStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions: list[str] = []

    def cut_off(name: str, _: object) -> bool:
        versions.append(name.split("/")[-2])
        raise LakeError(code="lake_unreachable", what="the network is gone")

    monkeypatch.setattr(store.lake, "create_json", cut_off)
    with pytest.raises(LakeError):
        save(store, folder)
    monkeypatch.undo()
    assert len(list(store.lake.list(f"datasets/pets/models/{MODALITY}/{versions[0]}/"))) == 3
    for action in (store.manifest, store.fetch):
        refused("model_unknown", action, MODALITY, versions[0])
    refused("model_unknown", store.promote, MODALITY, versions[0], "no")
    assert store.champion(MODALITY) is None


# -- what must not go in --------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["file", "folder", "nowhere"])
def test_a_link_is_not_stored(store: ModelStore, folder: Path, target: str) -> None:
    targets = {"file": folder / "empty", "folder": folder.parent, "nowhere": Path("/nowhere")}
    (folder / "deep" / "link").symlink_to(targets[target])
    assert "deep/link" in refused("model_file_unsafe", save, store, folder).what
    assert list(store.lake.list("datasets/")) == []


def test_a_pipe_is_not_stored(store: ModelStore, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    refused("model_file_unsafe", save, store, folder)


@pytest.mark.parametrize("name", ["new\nline", "back\\slash", "ümlaut", "temporary#1", "EMPTY"])
def test_a_name_that_is_not_the_same_everywhere_is_not_stored(
    store: ModelStore, folder: Path, name: str
) -> None:
    (folder / name).write_bytes(b"x")
    refused("model_file_unsafe", save, store, folder)


def test_a_model_without_files_is_not_stored(store: ModelStore, tmp_path: Path) -> None:
    refused("model_file_unsafe", save, store, tmp_path / "nothing")


@pytest.mark.parametrize(
    "manifest",
    [{}, {**MANIFEST, "n": float("nan")}, {**MANIFEST, "more": Path("x")},
     {name: value for name, value in MANIFEST.items() if name != "columns"}],
)  # fmt: skip
def test_a_manifest_with_gaps_is_not_stored(
    store: ModelStore, folder: Path, manifest: dict[str, Any]
) -> None:
    refused("manifest_invalid", store.save, MODALITY, folder, manifest)


# -- tampering ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.ckpt", "deep/er/config.yaml"])
@pytest.mark.parametrize("position", [0, -1])
def test_one_changed_byte_in_the_lake_is_noticed(
    store: ModelStore, folder: Path, name: str, position: int
) -> None:
    model = save(store, folder)
    data = bytearray(FILES[name])
    data[position] ^= 1
    store.lake.write(key(model, f"files/{name}"), bytes(data))
    error = refused("model_tampered", store.fetch, MODALITY, model.version)
    assert error.where.endswith(f"/files/{name}")
    assert list(store.cache.rglob("*.ckpt")) == []


@pytest.mark.parametrize("name", sorted(FILES))
def test_one_changed_byte_in_the_cache_is_noticed(
    store: ModelStore, folder: Path, name: str
) -> None:
    model = save(store, folder)
    path = store.fetch(MODALITY, model.version) / name
    path.chmod(0o644)
    path.write_bytes(FILES[name][:-1] + b"?")
    error = refused("model_tampered", store.fetch, MODALITY, model.version)
    assert error.where == str(path)


def test_a_longer_a_missing_and_an_added_file_in_the_lake_are_noticed(
    store: ModelStore, folder: Path
) -> None:
    model = save(store, folder)
    store.lake.write(key(model, "files/model.ckpt"), FILES["model.ckpt"] + b"x")
    assert "7001 bytes" in refused("model_tampered", store.fetch, MODALITY, model.version).what
    store.lake.delete(key(model, "files/model.ckpt"))
    assert "missing" in refused("model_tampered", store.fetch, MODALITY, model.version).what
    store.lake.write(key(model, "files/model.ckpt"), FILES["model.ckpt"])
    store.lake.write(key(model, "files/deep/extra.pkl"), b"x")
    assert "belong" in refused("model_tampered", store.fetch, MODALITY, model.version).what
    store.lake.delete(key(model, "files/deep/extra.pkl"))
    assert contents(store.fetch(MODALITY, model.version)) == FILES


def test_a_missing_file_an_added_file_and_a_link_in_the_cache_are_noticed(
    store: ModelStore, folder: Path
) -> None:
    model = save(store, folder)
    local = store.fetch(MODALITY, model.version)
    (local / "extra.pkl").write_bytes(b"x")
    refused("model_tampered", store.fetch, MODALITY, model.version)
    (local / "extra.pkl").unlink()
    (local / "model.ckpt").rename(folder.parent / "same.ckpt")
    refused("model_tampered", store.fetch, MODALITY, model.version)
    (local / "model.ckpt").symlink_to(folder.parent / "same.ckpt")
    refused("model_tampered", store.fetch, MODALITY, model.version)
    local.rename(folder.parent / "elsewhere")
    local.symlink_to(folder.parent / "elsewhere")
    refused("model_tampered", store.fetch, MODALITY, model.version)


def test_a_manifest_that_no_longer_fits_the_promotion_is_noticed(
    store: ModelStore, folder: Path
) -> None:
    """Whoever may write to the lake may change a file and the manifest to match, not the log."""
    model = save(store, folder)
    store.promote(MODALITY, model.version, "good", manifest_sha256=model.manifest_sha256)
    evil = write_files(folder.parent / "evil", {"model.ckpt": b"evil"})
    facts = {"sha256": sha256_of(evil / "model.ckpt"), "bytes": 4}
    files = {**model.manifest["files"], "model.ckpt": facts}
    store.lake.write(key(model, "files/model.ckpt"), b"evil")
    store.lake.write_json(key(model, "model.json"), {**model.manifest, "files": files})
    champion = store.champion(MODALITY)
    assert champion is not None
    for signed in (champion.manifest_sha256, None):
        error = refused(
            "model_tampered", store.fetch, MODALITY, model.version, manifest_sha256=signed
        )
        assert "signed" in error.what
    signed = model.manifest_sha256
    promote = partial(store.promote, manifest_sha256=signed)
    refused("model_tampered", promote, MODALITY, model.version, "again")
    refused("model_tampered", store.manifest, MODALITY, model.version, manifest_sha256=signed)


@pytest.mark.parametrize(
    "name", ["../../../evil", "/etc/evil", "a/../../b", "a//b", "./a", "", "a\\b", "model.ckpt/x"]
)
def test_a_manifest_that_names_an_unsafe_path_writes_nothing(
    store: ModelStore, folder: Path, name: str
) -> None:
    model = save(store, folder)
    files = {**model.manifest["files"], name: {"sha256": "0" * 64, "bytes": 1}}
    store.lake.write_json(key(model, "model.json"), {**model.manifest, "files": files})
    refused("model_tampered", store.fetch, MODALITY, model.version)
    assert not store.cache.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"version": "20261121-101500-0123456789"}, {"dataset": "plants"},
        {"modality": "with_image"}, {"files": None}, {"files": {}}, {"files": ["a"]},
        {"files": {"a": {"sha256": "x", "bytes": 1}}}, {"files": {"a": {"sha256": "0" * 64}}},
        {"files": {"a": {"sha256": "0" * 64, "bytes": "1"}}},
    ],
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_refused(
    store: ModelStore, folder: Path, change: dict[str, Any]
) -> None:
    model = save(store, folder)
    store.lake.write_json(key(model, "model.json"), {**model.manifest, **change})
    for action in (store.fetch, store.manifest):
        refused("model_tampered", action, MODALITY, model.version)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"7"])
def test_a_manifest_or_promotion_that_is_no_document_is_refused(
    store: ModelStore, folder: Path, data: bytes
) -> None:
    model = save(store, folder)
    store.promote(MODALITY, model.version, "good")
    store.lake.write(key(model, "model.json"), data)
    refused("model_tampered", store.manifest, MODALITY, model.version)
    store.lake.write(f"datasets/pets/models/{MODALITY}/champions/00000001.json", data)
    refused("model_tampered", store.champion, MODALITY)


# -- promotion ------------------------------------------------------------------------------------


def test_the_newest_promotion_is_the_champion_and_the_log_keeps_all(
    store: ModelStore, folder: Path
) -> None:
    assert store.champion(MODALITY) is None
    first, second = save(store, folder), save(store, folder, "other")
    store.promote(MODALITY, first.version, "the first")
    champion = store.promote(MODALITY, second.version, "better")
    assert champion == store.champion(MODALITY)
    assert (champion.generation, champion.previous) == (2, first.version)
    assert champion.manifest_sha256 == second.manifest_sha256
    back = store.promote(MODALITY, first.version, "roll back")
    assert (back.generation, back.version) == (3, first.version)
    assert [c.reason for c in store.champions(MODALITY)] == ["the first", "better", "roll back"]


def test_promoting_the_champion_again_changes_nothing(store: ModelStore, folder: Path) -> None:
    model = save(store, folder)
    once = store.promote(MODALITY, model.version, "good")
    assert store.promote(MODALITY, model.version, "again") == once
    assert store.champions(MODALITY) == [once]


def test_promotions_at_the_same_moment_get_different_generations(
    store: ModelStore, folder: Path
) -> None:
    versions = [save(store, folder, str(number)).version for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        promoted = list(pool.map(lambda v: store.promote(MODALITY, v, "race"), versions))
    assert sorted(champion.generation for champion in promoted) == [1, 2, 3, 4, 5, 6]
    log = store.champions(MODALITY)
    assert {champion.version for champion in log} == set(versions)
    assert [champion.previous for champion in log] == [None, *[c.version for c in log[:-1]]]


def test_an_endless_race_for_promotion_ends_with_an_error(
    store: ModelStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(store, folder)
    monkeypatch.setattr(store.lake, "create_json", lambda *_: False)
    refused("promotion_contested", store.promote, MODALITY, model.version, "never")


def test_what_else_lies_among_the_promotions_is_not_a_champion(
    store: ModelStore, folder: Path
) -> None:
    model = save(store, folder)
    champion = store.promote(MODALITY, model.version, "good")
    for name in ("99999999.json.bak", "notes.txt", "9.json", "00000002/00000003.json"):
        store.lake.write(f"datasets/pets/models/{MODALITY}/champions/{name}", b"{}")
    assert store.champion(MODALITY) == champion


def test_a_promotion_moved_to_another_number_is_refused(store: ModelStore, folder: Path) -> None:
    model = save(store, folder)
    store.promote(MODALITY, model.version, "good")
    prefix = f"datasets/pets/models/{MODALITY}/champions/"
    entry = json.loads(store.lake.read(f"{prefix}00000001.json"))
    store.lake.write_json(f"{prefix}00000009.json", entry)
    refused("model_tampered", store.champion, MODALITY)


# -- several at once ------------------------------------------------------------------------------


FETCH = """
import sys, time
from pathlib import Path
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.contract.settings import Settings

version, mine, go = sys.argv[1:]
settings = Settings.from_environment()
client = None
if settings.is_s3:
    import boto3
    client = boto3.client("s3", "us-east-1", endpoint_url=settings.aws_endpoint_url)
store = ModelStore(Lake(settings, client), "pets")
store.champion("without_image")  # everything is imported and connected
Path(mine).touch()
while not Path(go).exists():
    time.sleep(0.001)
print((store.fetch("without_image", version) / "deep/er/config.yaml").read_text())
"""


def test_two_processes_may_fetch_the_same_model_at_once(
    store: ModelStore, folder: Path, tmp_path: Path
) -> None:
    model = save(store, folder)
    ready, go = [tmp_path / "ready-1", tmp_path / "ready-2"], tmp_path / "go"
    command = [sys.executable, "-c", FETCH, model.version]
    processes = [
        subprocess.Popen([*command, mine, go], stdout=subprocess.PIPE, text=True) for mine in ready
    ]
    while not all(mine.exists() for mine in ready) and all(p.poll() is None for p in processes):
        time.sleep(0.01)
    go.touch()
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, output.strip()) == (0, "a: 1")
    assert [path.name for path in store.cache.glob("*/*/*")] == [model.version]


def test_a_download_that_another_process_overtakes_uses_the_other_copy(
    store: ModelStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(store, folder)
    overtaken: list[str] = []
    rename = os.rename

    def overtake(source: Path, target: Path) -> None:
        if not overtaken:
            overtaken.append(str(source))
            store.fetch(MODALITY, model.version)
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtake)
    local = store.fetch(MODALITY, model.version)
    assert overtaken
    assert contents(local) == FILES
    assert list(local.parent.iterdir()) == [local]


def test_many_threads_may_fetch_the_same_model_at_once(store: ModelStore, folder: Path) -> None:
    model = save(store, folder)
    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(lambda _: store.fetch(MODALITY, model.version), range(12)))
    assert len(folders) == 1
    assert [path.name for path in store.cache.glob("*/*/*")] == [model.version]


def test_what_a_killed_download_left_behind_goes_away_a_day_later(
    store: ModelStore, folder: Path
) -> None:
    model = save(store, folder)
    parent = store.cache / "pets" / MODALITY
    old, new = parent / ".fetch-old", parent / ".fetch-new"
    write_files(old, FILES)
    write_files(new, FILES)
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    store.fetch(MODALITY, model.version)
    assert not old.exists()
    assert new.exists()
