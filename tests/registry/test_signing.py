"""Signed promotions: what was changed, taken away, put elsewhere or brought back is refused."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import ModelError, SettingsError
from mm_assets.contract.settings import Settings
from mm_assets.lake.documents import packed, unpacked
from mm_assets.lake.lake import Lake
from mm_assets.registry.log import Champion
from mm_assets.registry.seen import SeenHere
from mm_assets.registry.signing import key_pair
from mm_assets.registry.store import ModelStore
from tests.registry.test_model_store import MANIFEST, write_files

MODALITY = Modality.WITHOUT_IMAGE
(KEY, PUBLIC), (OTHER, OTHER_PUBLIC) = key_pair(), key_pair()


class World:
    """A lake in a folder with three promotions, and machines that look at it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder, self.machines = settings, folder, 0
        self.models = []
        store = self.store(signing=KEY)
        files = write_files(folder / "engine", {"model": b"weights"})
        for number in range(4):
            manifest = {**MANIFEST, "training_fingerprint": str(number)}
            self.models.append(store.save(MODALITY, files, manifest).version)
        self.log = settings.lake_folder / store.log(MODALITY).prefix

    def store(self, signing: str = "", verify: str = "", machine: str = "") -> ModelStore:
        """The models as a machine sees them: a new one, or one that was there before."""
        self.machines += 1
        data = self.folder / (machine or f"machine{self.machines}")
        update = {"signing_key": SecretStr(signing), "verify_key": verify, "data": data}
        return ModelStore(Lake(self.settings.model_copy(update=update)), "pets")

    def promote(self, signing: str = KEY, numbers: range = range(3)) -> list[Champion]:
        store = self.store(signing)
        return [store.promote(MODALITY, self.models[n], f"reason {n}") for n in numbers]

    def path(self, generation: int) -> Path:
        return self.log / f"{generation:08d}.json"

    def write(self, champion: Champion) -> None:
        """As somebody would who may write there and has no key."""
        self.path(champion.generation).write_bytes(packed(champion.to_json()))


@pytest.fixture
def world(folder_settings: Settings, tmp_path: Path) -> World:
    return World(folder_settings, tmp_path)


def refused(code: str, action: Callable[[], Any]) -> str:
    with pytest.raises(ModelError) as caught:
        action()
    assert caught.value.code == code
    assert caught.value.todo
    return caught.value.what


def test_who_has_the_public_key_reads_what_was_signed(world: World) -> None:
    promoted = world.promote()
    for store in (world.store(KEY), world.store(verify=PUBLIC), world.store()):
        assert store.champions(MODALITY) == promoted
        assert store.champion(MODALITY) == store.promotion(MODALITY, 3) == promoted[-1]
    assert [one.previous for one in promoted] == [None, *world.models[:2]]


def test_without_a_key_nothing_is_signed_and_nothing_asked_for(world: World) -> None:
    [*_, last] = world.promote(signing="")
    assert (last.signature, last.before) == ("", "")
    said = unpacked(world.path(3).read_bytes())
    assert not {"before", "signature"} & set(said)
    assert world.store().champion(MODALITY) == last


def test_every_byte_of_the_log_counts_also_with_a_new_hash_of_the_document(world: World) -> None:
    world.promote()
    rng, store = random.Random(0), world.store(verify=PUBLIC)
    for generation in (1, 2, 3):
        path = world.path(generation)
        whole = path.read_bytes()
        for at in range(len(whole)):
            changed = bytearray(whole)
            changed[at] ^= 1 << rng.randrange(8)
            path.write_bytes(bytes(changed))
            refused("model_tampered", lambda: store.champions(MODALITY))
        said = unpacked(whole)
        for name, value in said.items():
            forged = {**said, name: value + 1 if isinstance(value, int) else f"{value}x"}
            for one in (forged, {k: v for k, v in said.items() if k != name}):
                path.write_bytes(packed(one))
                with pytest.raises(ModelError, match="model_tampered|promotion_unsigned"):
                    store.champions(MODALITY)
        path.write_bytes(whole)
    assert len(store.champions(MODALITY)) == 3


def test_another_key_is_refused_until_it_is_accepted_too(world: World) -> None:
    world.promote()
    other = world.store(verify=OTHER_PUBLIC)
    assert "no key" in refused("model_tampered", lambda: other.champion(MODALITY))
    world.store(OTHER, verify=PUBLIC).promote(MODALITY, world.models[3], "with the new key")
    refused("model_tampered", lambda: world.store(verify=PUBLIC).champion(MODALITY))
    assert len(world.store(verify=f"{OTHER_PUBLIC}, {PUBLIC}").champions(MODALITY)) == 4


def test_after_all_is_signed_anew_the_old_key_is_not_needed_any_more(world: World) -> None:
    before = world.promote()
    store = world.store(OTHER, verify=PUBLIC)
    assert [fault for _, fault in store.log(MODALITY).unsigned()] == ["another key signed it"] * 3
    assert len(store.log(MODALITY).sign()) == 3
    assert store.log(MODALITY).sign() == []
    found = world.store(verify=OTHER_PUBLIC).champions(MODALITY)
    assert [replace(one, signature="") for one in found] == [
        replace(one, signature="") for one in before
    ]


def test_unsigned_promotions_are_refused_until_somebody_signs_them(world: World) -> None:
    world.promote(signing="")
    for store in (world.store(verify=PUBLIC), world.store(KEY)):
        refused("promotion_unsigned", partial(store.champion, MODALITY))
        refused("promotion_unsigned", partial(store.promotion, MODALITY, 2))

    def promote() -> Champion:
        return world.store(KEY).promote(MODALITY, world.models[3], "on top")

    refused("promotion_unsigned", promote)
    assert len(world.store(KEY).log(MODALITY).sign()) == 3
    assert promote().generation == 4
    assert len(world.store(verify=PUBLIC).champions(MODALITY)) == 4
    assert len(world.store().champions(MODALITY)) == 4


def test_signing_that_was_cut_off_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.promote(signing="")
    store, written = world.store(KEY), []
    write = store.lake.write_json

    def dies(key: str, document: dict[str, Any]) -> Any:
        written.append(key)
        if len(written) == 2:
            raise KeyboardInterrupt
        return write(key, document)

    monkeypatch.setattr(store.lake, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        store.log(MODALITY).sign()
    monkeypatch.undo()
    refused("promotion_unsigned", lambda: world.store(verify=PUBLIC).champion(MODALITY))
    assert len(world.store(KEY).log(MODALITY).sign()) == 2
    assert len(world.store(verify=PUBLIC).champions(MODALITY)) == 3


def test_without_the_signing_key_nothing_is_promoted_onto_a_signed_log(world: World) -> None:
    world.promote()
    for store in (world.store(verify=PUBLIC), world.store()):
        promote = partial(store.promote, MODALITY, world.models[3], "no key")
        refused("signing_key_missing", promote)
        refused("signing_key_missing", partial(store.refuse_unable, MODALITY))
    refused("signing_key_missing", world.store(verify=PUBLIC).log(MODALITY).sign)
    assert len(world.store(KEY).champions(MODALITY)) == 3


def test_a_promotion_that_is_taken_away_is_missed(world: World) -> None:
    world.promote()
    world.path(2).unlink()
    store = world.store(verify=PUBLIC)
    for read in (store.champion, store.champions):
        refused("model_tampered", partial(read, MODALITY))
    refused("model_tampered", world.store(KEY).log(MODALITY).sign)


def test_promotions_in_another_order_dataset_or_modality_are_refused(world: World) -> None:
    world.promote()
    first, third = world.path(1).read_bytes(), world.path(3).read_bytes()
    world.path(1).write_bytes(third)
    world.path(3).write_bytes(first)
    refused("model_tampered", lambda: world.store(verify=PUBLIC).champion(MODALITY))
    one = Champion(**{**unpacked(third), "modality": MODALITY})
    world.path(1).write_bytes(first)
    world.write(replace(one, generation=3, version=world.models[0]))
    refused("model_tampered", lambda: world.store(verify=PUBLIC).champion(MODALITY))
    world.path(3).write_bytes(third)
    there = world.settings.lake_folder / "datasets/plants/models" / MODALITY / "champions"
    shutil.copytree(world.log, there)
    plants = ModelStore(world.store(verify=PUBLIC).lake, "plants")
    refused("model_tampered", lambda: plants.champion(MODALITY))


def test_a_log_of_an_earlier_day_is_refused_by_who_saw_a_later_one(world: World) -> None:
    world.promote()
    world.store(verify=PUBLIC, machine="old").champion(MODALITY)
    world.path(3).unlink()
    SeenHere._here.clear()  # another process
    again = world.store(verify=PUBLIC, machine="old")
    for read in (
        partial(again.champion, MODALITY), partial(again.champions, MODALITY),
        partial(again.promotion, MODALITY, 1),
    ):  # fmt: skip
        assert "has seen" in refused("model_tampered", read)
    # Nothing in the lake tells a machine that never saw it: this is what is promised, and no more.
    assert world.store(verify=PUBLIC).champion(MODALITY).generation == 2  # type: ignore[union-attr]
    world.store(KEY, machine="old").log(MODALITY).sign()
    assert again.champion(MODALITY).generation == 2  # type: ignore[union-attr]


def test_a_process_whose_disk_is_read_only_remembers_for_itself(world: World) -> None:
    world.promote()
    (world.folder / "shut").write_text("a file where the folder would be")
    world.store(verify=PUBLIC, machine="shut").champion(MODALITY)
    world.path(3).unlink()
    store = world.store(verify=PUBLIC, machine="shut")
    assert "has seen" in refused("model_tampered", lambda: store.champion(MODALITY))


def test_a_promotion_that_was_taken_back_does_not_come_again(world: World) -> None:
    world.promote()
    kept = world.path(3).read_bytes()
    world.path(3).unlink()
    world.promote(numbers=range(3, 4))
    world.path(4).write_bytes(kept.replace(b'"generation": 3', b'"generation": 4'))
    refused("model_tampered", lambda: world.store(verify=PUBLIC).champion(MODALITY))
    world.path(4).unlink()
    world.promote(numbers=range(1))
    fourth = world.path(3).read_bytes()
    world.path(3).write_bytes(kept)
    refused("model_tampered", lambda: world.store(verify=PUBLIC).champion(MODALITY))
    world.path(3).write_bytes(fourth)
    assert len(world.store(verify=PUBLIC).champions(MODALITY)) == 4


@pytest.mark.parametrize(  # named, because the keys are others in each process
    "text", ["", KEY, "mm-verify-key-AAAA", f"{PUBLIC}=", "x" + PUBLIC],
    ids=["none", "the private one", "short", "long", "begun otherwise"],
)  # fmt: skip
def test_what_is_no_key_is_said_without_saying_it(text: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("MM_SIGNING_KEY" if not text else "MM_VERIFY_KEY", text or PUBLIC)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()
    assert caught.value.code == "signing_key_invalid"
    assert text not in str(caught.value) or not text
    assert PUBLIC not in str(caught.value)


def test_a_key_may_come_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    monkeypatch.setenv("MM_SIGNING_KEY_FILE", str(file))
    settings = Settings.from_environment()
    assert key_pair(settings) == (KEY, PUBLIC)
    assert KEY not in repr(settings) + json.dumps(settings.model_dump(mode="json"))
    file.write_text("")
    with pytest.raises(SettingsError, match="signing_key_invalid"):
        Settings.from_environment()
    file.unlink()
    with pytest.raises(SettingsError, match="signing_key_invalid"):
        Settings.from_environment()
