"""A promotion log that was cut short, on a machine that never saw it whole: the table tells."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.errors import StoreError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.registry.seen import Seen
from mm_assets.registry.store import ModelStore
from mm_assets.tables.dynamodb.promotions import NewestPromotion
from mm_assets.tables.dynamodb.requests import Requests
from tests.registry.test_signing import KEY, MODALITY, PUBLIC, World, refused


@pytest.fixture
def world(dynamodb_settings: Settings, tmp_path: Path) -> World:
    return World(dynamodb_settings, tmp_path)


@pytest.fixture
def told(dynamodb_client: Any, dynamodb_table: str) -> NewestPromotion:
    return NewestPromotion(Requests(dynamodb_client, dynamodb_table, 20.0), "pets", MODALITY)


def newest_of(store: ModelStore) -> int:
    found = store.champion(MODALITY)
    assert found
    return found.generation


def test_a_log_that_was_cut_short_is_refused_by_a_machine_that_begins_empty(world: World) -> None:
    world.promote()
    world.path(3).unlink()
    for new in (world.store(verify=PUBLIC), world.store(KEY)):
        for read in (
            partial(new.champion, MODALITY), partial(new.champions, MODALITY),
            partial(new.promotion, MODALITY, 1),
            partial(new.promote, MODALITY, world.models[3], "on top"),
        ):  # fmt: skip
            assert "the table has seen" in refused("model_tampered", read)
    for generation in (1, 2):
        world.path(generation).unlink()
    refused("model_tampered", partial(world.store(verify=PUBLIC).champion, MODALITY))


def test_another_promotion_in_the_place_of_the_newest_is_refused(world: World) -> None:
    """Both were signed: one was taken back on purpose, and is put there again."""
    world.promote()
    kept = world.path(3).read_bytes()
    world.path(3).unlink()
    world.store(KEY).log(MODALITY).sign()
    world.promote(numbers=range(3, 4))
    world.path(3).write_bytes(kept)
    new = world.store(verify=PUBLIC)
    assert "the table has seen" in refused("model_tampered", partial(new.champion, MODALITY))


def test_what_somebody_signs_as_it_stands_is_accepted_everywhere(world: World) -> None:
    world.promote()
    world.path(3).unlink()
    world.store(KEY).log(MODALITY).sign()
    assert newest_of(world.store(verify=PUBLIC)) == 2


def test_who_cannot_sign_writes_nothing_and_who_can_makes_up_for_a_death(
    world: World, told: NewestPromotion
) -> None:
    world.promote()
    newest = told.newest()
    assert newest
    told.requests.call("delete_item", Key={k: told._item(*newest)[k] for k in ("pk", "sk")})
    assert newest_of(world.store(verify=PUBLIC)) == 3
    assert told.newest() is None
    assert newest_of(world.store(KEY)) == 3  # as one that died before it could tell
    assert told.newest() == newest


def test_what_the_table_knows_only_goes_up(told: NewestPromotion) -> None:
    for generation, digest in ((2, "b"), (1, "a"), (2, "other"), (3, "c")):
        told.note(generation, digest)
    assert told.newest() == (3, "c")
    told.note(2, "b")
    assert told.newest() == (3, "c")
    told.replace(1, "a")
    assert told.newest() == (1, "a")


@pytest.mark.parametrize("machine", ["old", ""])
def test_a_promotion_that_comes_while_the_log_is_looked_at_is_no_fault(
    world: World, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    world.promote(numbers=range(2))
    reader = world.store(KEY, machine=machine)
    whole = reader.lake.list

    def listed_before_one_comes(prefix: str) -> Iterator[Any]:
        found = [*whole(prefix)]
        if len(found) == 2:
            world.store(KEY, machine=machine).promote(MODALITY, world.models[2], "just now")
        return iter(found)

    monkeypatch.setattr(reader.lake, "list", listed_before_one_comes)
    assert newest_of(reader) == 2
    assert newest_of(reader) == 3


def test_the_table_is_asked_only_where_there_are_keys_and_it_is_in_dynamodb(world: World) -> None:
    world.promote(numbers=range(1))
    world.settings.__dict__.pop("dynamodb_table", None)
    world.settings.table = "dynamodb://no-such-table"
    with pytest.raises(StoreError, match="table_missing"):
        world.store(verify=PUBLIC).champion(MODALITY)
    assert newest_of(world.store()) == 1
    in_a_file = world.settings.model_copy(update={"table": "duckdb:///predictions.duckdb"})
    assert Seen(Lake(in_a_file), "pets", MODALITY, tells=True).newest == {}
