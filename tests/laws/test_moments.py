"""Law 2, at single moments: what the machine meets at random, here once for certain.

Each test runs over DuckDB and over DynamoDB.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from mm_assets.contract.dataset import Modality
from tests.laws.process import Process, Until
from tests.laws.reference import own_photos
from tests.laws.uploads import Photo, Row, Upload
from tests.laws.world import Run, World, wording

A_ROW = Upload("zip", rows=(Row("a", "1"),))
ITS_IMAGE = Upload("folder", photos=(Photo("a", 1, 1),))


# The same by name alone: the row says a path, the image's own name says no ID.
NAMES_IT = Upload("zip", rows=(Row("a", "1", names="x.png"),))
NAMED = Upload("folder", photos=(Photo("p/x", 1, 1),))
ALSO_CALLED_SO = Upload("folder", photos=(Photo("q/x", 1, 2),))
PAIRS = {
    "by id, row first": (A_ROW, ITS_IMAGE), "by id, image first": (ITS_IMAGE, A_ROW),
    "by name, row first": (NAMES_IT, NAMED), "by name, image first": (NAMED, NAMES_IT),
}  # fmt: skip


class _Waiting:
    """The store, but between publishing and looking up it waits for the other run."""

    def __init__(self, store: Any, both_published: Barrier) -> None:
        self.store, self.both_published = store, both_published

    def publish(self, *arguments: Any) -> Any:
        found = self.store.publish(*arguments)
        self.both_published.wait()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def deliver(world: World, *sent: Upload) -> list[str]:
    """Send them, a second apart; returns their keys."""
    for number, upload in enumerate(sent):
        world.deliver(number, f"u{number}.{upload.kind}", upload)
    world.look()
    return sorted(world.deliveries)


def slow(world: World, upload: str, until: str) -> Process:
    """A run that stands still before its next call of `until`."""
    process = world.begin(Run(upload, wording(world.dataset)))
    world.go_on(process, Until(name=until))
    assert not process.ended
    return process


def check(world: World) -> None:
    world.check_nothing_is_lost()
    world.check_the_table(wording(world.dataset))


def handle_together(world: World, *uploads: str) -> None:
    """Runs at the same moment, in threads: all have published before any looks."""
    real = world.store
    world.store = _Waiting(real, Barrier(len(uploads), timeout=60))  # type: ignore[assignment]
    runs = [world.begin(Run(upload, wording(world.dataset))) for upload in uploads]
    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(Process.go_on, runs))
    world.store = real


@pytest.mark.parametrize("sent", PAIRS.values(), ids=PAIRS)
def test_an_image_and_its_row_that_come_at_the_same_moment_meet(
    world: World, sent: tuple[Upload, Upload]
) -> None:
    handle_together(world, *deliver(world, *sent))
    assert world.table()["a"]["modality"] == "with_image"
    check(world)


@pytest.mark.parametrize("which", range(3))
def test_of_three_that_come_at_the_same_moment_and_are_not_clear_none_is_guessed(
    world: World, which: int
) -> None:
    keys = deliver(world, NAMES_IT, NAMED, ALSO_CALLED_SO)
    late = slow(world, keys[which], "merge")
    handle_together(world, *(key for key in keys if key != keys[which]))
    world.go_on(late)
    assert world.table()["a"]["modality"] == "without_image"
    check(world)


def test_as_long_as_no_champion_sees_images_the_other_one_answers_in_any_order(
    make_worlds: Callable[[], list[World]],
) -> None:
    answers = []
    for sent in ([A_ROW, ITS_IMAGE], [ITS_IMAGE, A_ROW]):
        for world in make_worlds():
            world.promote(Modality.WITHOUT_IMAGE, 1)
            for upload in deliver(world, *sent):
                world.handle(upload)
            row = world.table()["a"]
            assert row["modality"] == "without_image"
            merged = [world.document(key, "predictions") for key in sorted(world.deliveries)]
            assert all(document["counts"]["waiting"] == 0 for document in merged)
            answers.append((row["prediction"], row["confidence"], row["input_hash"]))
            world.promote(Modality.WITH_IMAGE, 1)
            world.predict_all(wording(world.dataset), lambda uploads: None)
            assert world.table()["a"]["modality"] == "with_image"
            check(world)
    assert len(answers) == 4
    assert len(set(answers)) == 1


def test_two_runs_of_one_upload_at_the_same_moment_end_as_one(world: World) -> None:
    for kind in ("zip", "folder"):
        both = Upload(kind, rows=(Row("a", "1"), Row("b", "2")), photos=(Photo("b", 1, 1),))
        key = deliver(world, both)[-1]
        handle_together(world, key, key)
        check(world)


@pytest.mark.parametrize("place", ["receive", "join", "look_up", "predict", "merge", "settle"])
def test_a_crash_between_any_two_steps_is_made_good_by_a_second_run(
    world: World, place: str
) -> None:
    first, second = deliver(
        world,
        Upload("zip", rows=(Row("a", "1"), Row("b", "2")), photos=(Photo("b", 1, 2),)),
        Upload("folder", rows=(Row("b", "3"),), photos=(Photo("a", 1, 1),)),
    )
    process = world.begin(Run(first, wording(world.dataset)))
    world.go_on(process, Until(name=place))
    process.kill()
    world.handle(second)
    world.handle(first)
    check(world)
    assert {i: row["modality"] for i, row in world.table().items()} == {
        "a": "with_image", "b": "with_image",
    }  # fmt: skip


def test_a_prediction_that_no_longer_holds_never_comes_back(world: World) -> None:
    """An image came between the join and the prediction of a run that was slow."""
    row, image = deliver(world, A_ROW, ITS_IMAGE)
    late = slow(world, row, "predict")
    world.handle(image)
    before = world.table()
    world.go_on(late)
    assert world.table() == before
    assert before["a"]["modality"] == "with_image"


@pytest.mark.parametrize("place", ["predicted with_image", "predicted without_image"])
def test_what_a_run_predicts_is_merged_even_if_a_slower_one_predicts_in_between(
    world: World, place: str
) -> None:
    """The slower one still has the old champions; both are runs of the same upload."""
    both = Upload("zip", rows=(Row("a", "1"), Row("b", "2")), photos=(Photo("b", 1, 1),))
    [key] = deliver(world, both)
    world.handle(key)
    slower = slow(world, key, "predicted with_image")
    world.promote_both(2)
    newer = slow(world, key, place)
    world.go_on(slower)
    world.go_on(newer)
    check(world)


@pytest.mark.parametrize("modality", Modality)
def test_a_promotion_between_the_two_predictions_of_a_run_does_not_mix_them(
    world: World, modality: Modality
) -> None:
    both = Upload("zip", rows=(Row("a", "1"), Row("b", "2")), photos=(Photo("b", 1, 1),))
    [key] = deliver(world, both)
    run = slow(world, key, "predicted with_image")
    world.promote(modality, 2)
    world.go_on(run)
    assert {row["model_generation"] for row in world.rows()} == {1}
    world.handle(key, receives=False)
    check(world)


def test_the_images_of_the_tests_are_what_they_are_said_to_be() -> None:
    from io import BytesIO

    from PIL import Image

    Image.open(BytesIO(Photo("a", 1, 1).data)).load()
    assert Photo("a", 1, 1).data != Photo("a", 1, 2).data
    assert not own_photos(Upload("zip", photos=(Photo("a", 1, 1, decodes=False),)))


def test_what_another_wording_read_is_not_offered_as_this_one(world: World) -> None:
    [key] = deliver(world, Upload("zip", rows=(Row("a", "3"),)))
    first = Run(key, wording(world.dataset))
    second = Run(key, wording(world.dataset, 0.6, ("", "3")))
    slow_one = world.begin(first)
    world.go_on(slow_one, Until(name="predict"))
    faster_one = world.begin(second)
    world.go_on(faster_one, Until(name="predict"))
    world.go_on(slow_one)
    assert slow_one.ended
    assert first.result is None
    assert world.table() == {}
    world.go_on(faster_one)
    assert second.result is not None
    assert world.table()["a"]["prediction"]
