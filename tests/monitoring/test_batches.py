"""What people's answers did: the model before them beside the one that learnt from them."""

from __future__ import annotations

from mm_assets.monitoring.batches import batches
from mm_assets.review.one_by_one import Given, now
from tests.monitoring.test_promises import World, world

__all__ = ["world"]


def answered(world: World, name: str, n: int, who: str) -> list[Given]:
    """So many of the records that came as `name`, as a person who knows the truth sees them."""
    rows = {row["record_id"]: row for row in world.store.read(world.spec.dataset).to_pylist()}
    at = now().isoformat(timespec="milliseconds")
    return [
        Given(i, world.truth[i][1], who, at, rows[i]["prediction"], rows[i]["model_version"])
        for i in (f"{name}{place}" for place in range(n))
    ]


def test_a_batch_stands_beside_the_models_before_and_after_it(world: World) -> None:
    world.deliver("a", 120, 1, lambda _: 0.5)
    older, given = world.version, answered(world, "a", 40, "Ana")
    right = sum(one.label == one.prediction for one in given)
    given += [Given("a99", "", "Ben", given[0].at, "cat", older)]  # can't tell
    world.label("answers", [one.record_id for one in given[:40]])
    world.monitored()
    [batch] = batches(world.lake, world.spec, given)
    assert (batch.answers, batch.right, batch.people) == (40, right, ("Ana",))
    assert (batch.after, batch.learnt) == (None, None)
    assert batch.before.live == f"{right / 40:.1%} of 40 right"

    newer = world.train()
    world.deliver("a", 120, 1, lambda _: None)  # predicted again, by the newer model
    world.deliver("b", 100, 2, lambda _: None)
    later = answered(world, "b", 3, "Ben")
    world.label("others", [f"b{place}" for place in range(100)])
    document, _ = world.monitored()
    assert {one["version"]: one["n"] for one in document["by_model"]} == {older: 40, newer: 100}
    last, first = batches(world.lake, world.spec, [*later, *given])
    assert (last.answers, last.before.version, last.after) == (3, newer, None)
    assert first.after is not None
    assert (first.before.version, first.after.version) == (older, newer)
    assert first.learnt == 40
    assert first.before.live == batch.before.live  # as it was seen before it was replaced
    assert first.after.live.endswith("of 100 right")
    assert "outside review are right, promised were 95.0%" in first.after.kept
    assert "95.0% is promised" in first.after.promise
    assert first.reason == "gate"


def test_what_was_not_measured_is_not_told(world: World) -> None:
    world.deliver("a", 20, 1, lambda _: None)
    [batch] = batches(world.lake, world.spec, answered(world, "a", 5, "Ana"))
    assert (batch.before.live, batch.before.kept, batch.before.held_out) == ("", "", "")
    assert batch.as_row()["live_before"] is None
