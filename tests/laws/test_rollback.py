"""A bad champion is taken back: in any order of what happens then, the older model answers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest

from mm_assets.api.models import promote, rollback
from mm_assets.contract.dataset import Modality
from tests.laws.uploads import Photo, Row, Upload
from tests.laws.world import Run, World, wording

FIRST = Upload("zip", rows=(Row("a", "1"), Row("b", "2")), photos=(Photo("b", 1, 1),))
LATER = Upload("folder", rows=(Row("c", "3"), Row("a", "4")), photos=(Photo("a", 1, 2),))
GOOD, BAD = 1, 2


@pytest.mark.parametrize(
    "order", list(permutations(["rollback", "upload", "late run"])), ids=" then ".join
)
def test_the_table_is_what_the_older_model_says(
    make_worlds: Callable[[], list[World]], order: tuple[str, ...]
) -> None:
    for world in make_worlds():
        spec = wording(world.dataset)
        world.promote_both(GOOD)
        world.deliver(0, "first.zip", FIRST)
        world.look()
        [first] = world.pending()
        world.handle(first)
        good = world.table()
        world.promote_both(BAD)
        bad = world.handle(first, receives=False)
        assert world.table() != good

        def take_back(world: World = world) -> None:
            for modality in Modality:
                rollback(world.lake, wording(world.dataset), modality, "it was bad")

        def send(world: World = world) -> None:
            world.deliver(1, "later", LATER)
            world.look()
            [later] = world.pending()
            world.handle(later)

        def end_late(world: World = world, bad: Run = bad) -> None:
            """A run that the bad champions began, and that ends only now."""
            late = Run(bad.upload, bad.spec, dict(bad.pin))
            world.go_on(world.begin(late, replay=bad))

        steps = {"rollback": take_back, "upload": send, "late run": end_late}
        for step in order:
            steps[step]()
            world.check_it_never_regresses()
        world.predict_all(spec, lambda uploads: uploads.reverse())
        world.check_the_table(spec)
        assert {row["reasons"].split(",")[0] for row in world.table().values()} == {"model 1"}
        end_late()
        world.check_the_table(spec)


def test_a_model_that_was_taken_back_can_answer_again(world: World) -> None:
    spec = wording(world.dataset)
    world.deliver(0, "first.zip", FIRST)
    world.look()
    [first] = world.pending()
    world.handle(first)
    for number in (2, 3):
        world.promote_both(number)
    taken_back = world.models.champion(Modality.WITHOUT_IMAGE)
    assert taken_back is not None
    for _ in range(2):
        rollback(world.lake, spec, Modality.WITHOUT_IMAGE)
        world.handle(first, receives=False)
        world.check_the_table(spec)
    promote(world.lake, spec, taken_back.version, "it was good", Modality.WITHOUT_IMAGE)
    world.handle(first, receives=False)
    world.check_the_table(spec)
    assert world.table()["a"]["reasons"].startswith("model 3,")
