"""What is taken back: withdrawn uploads and refused rows, at single moments, over both tables."""

from __future__ import annotations

import pytest

from mm_assets.contract.errors import UploadError
from mm_assets.contract.settings import Settings
from mm_assets.uploads import ledger
from mm_assets.uploads.received import read_parquet
from tests.laws.process import Until
from tests.laws.test_moments import check, deliver, slow
from tests.laws.uploads import Photo, Row, Upload
from tests.laws.world import World, wording
from tests.queues.subscriber import subscribed

OLD = Upload("zip", rows=(Row("a", "1"), Row("b", "2")))
NEW = Upload(
    "folder", rows=(Row("a", "3"), Row("c", "1")), labels=(("b", "dog"),),
    photos=(Photo("a", 1, 1), Photo("b", 1, 2)),
)  # fmt: skip
BROKEN = Upload("zip", rows=(Row("a", "x"), Row("b", "3")))


def withdraw(world: World, upload: str, until: Until = Until()) -> None:  # noqa: B008
    process = world.withdraw(upload)
    world.go_on(process, until)
    if not process.ended:
        process.kill()


def handle_pending(world: World) -> None:
    for upload in world.pending():
        world.handle(upload)


def state(world: World, upload: str) -> str:
    return ledger.state_of(world.lake, world.dataset, upload)[0]


@pytest.mark.parametrize("moment", ["unseen", "join", "predict", "merge", "settle", "through"])
def test_a_withdrawn_upload_ends_as_if_it_had_never_come(world: World, moment: str) -> None:
    old, new = deliver(world, OLD, NEW)
    world.handle(old)
    if moment == "through":
        world.handle(new)
        withdraw(world, new)
    elif moment == "unseen":
        withdraw(world, new)
    else:
        run = slow(world, new, moment)
        withdraw(world, new)
        world.go_on(run)
    # A run that had not joined yet sees it, and does all that there is to do.
    assert world.pending() == ([] if moment == "join" else [new])
    handle_pending(world)
    assert state(world, new) == "withdrawn"
    check(world)
    answers = world.table()
    assert {i: (one["upload"], one["label"]) for i, one in answers.items()} == {
        "a": (old, None), "b": (old, None),
    }  # fmt: skip
    assert all(one["modality"] == "without_image" for one in answers.values())


NAMES_IT = Upload("zip", rows=(Row("a", "1", names="x.png"),))
NAMED = Upload("folder", photos=(Photo("p/x", 1, 1),))
ALSO_CALLED_SO = Upload("zip", rows=(Row("b", "2"),), photos=(Photo("q/x", 1, 2),))


@pytest.mark.parametrize("moment", ["look_up", "merge", "through"])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["row", "image", "another of its name"])
def test_a_withdrawn_upload_takes_along_what_it_names_and_what_is_named(
    world: World, which: int, moment: str
) -> None:
    keys = deliver(world, NAMES_IT, NAMED, ALSO_CALLED_SO)
    gone = keys[which]
    for key in keys:
        if key != gone or moment == "through":
            world.handle(key)
    late = None if moment == "through" else slow(world, gone, moment)
    withdraw(world, gone)
    if late is not None:
        world.go_on(late)
    handle_pending(world)
    assert not world.pending()
    check(world)
    has_image = {i: one["modality"] == "with_image" for i, one in world.table().items()}
    assert has_image == [{"b": False}, {"a": True, "b": False}, {"a": True}][which]


def test_subscribers_are_told_once_of_each_answer_that_was_taken_back(
    world: World, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subscribed(s3_endpoint, monkeypatch) as reader:
        told = world.settings.model_copy(
            update={"results": Settings.from_environment().results, "results_send": "all"}
        )
        monkeypatch.setattr(world, "settings", told)
        old, new = deliver(world, OLD, Upload("zip", rows=(Row("a", "3"), Row("c", "1"))))
        for upload in (old, new):
            world.handle(upload)
        reader.read()
        withdraw(world, new)
        handle_pending(world)
        kinds = {one["record_id"]: one["kind"] for one in reader.read()}
        assert kinds.keys() == {"a", "c"}
        assert kinds["a"] in ("changed", "renewed")  # its older answer is back
        assert kinds["c"] == "withdrawn"
        assert reader.holds().keys() == world.table().keys() == {"a", "b"}
        for upload in (old, new):
            world.handle(upload)
        assert reader.read() == []


@pytest.mark.parametrize("calls", range(1, 6))
def test_a_withdrawal_that_was_cut_off_is_made_good(world: World, calls: int) -> None:
    old, new = deliver(world, OLD, NEW)
    for upload in (new, old):
        world.handle(upload)
    withdraw(world, new, Until(dies_after=calls))
    handle_pending(world)
    withdraw(world, new)
    handle_pending(world)
    check(world)
    assert {one["upload"] for one in world.table().values()} == {old}


@pytest.mark.parametrize("place", ["withdraw", "look_up", "predict", "merge", "settle"])
def test_the_run_that_takes_an_upload_back_may_die_anywhere(world: World, place: str) -> None:
    old, new = deliver(world, OLD, NEW)
    for upload in (old, new):
        world.handle(upload)
    withdraw(world, new)
    slow(world, new, place).kill()
    handle_pending(world)
    assert not world.pending()
    check(world)


def test_the_same_sent_again_after_a_withdrawal_counts(world: World) -> None:
    [key] = deliver(world, OLD)
    world.handle(key)
    withdraw(world, key)
    handle_pending(world)
    assert world.table() == {}
    world.deliver(9, "again.zip", OLD)
    world.look()
    handle_pending(world)
    check(world)
    assert set(world.table()) == {"a", "b"}


@pytest.mark.parametrize("newest_first", [False, True], ids=["in order", "newest first"])
def test_a_refused_row_takes_back_what_older_uploads_said(world: World, newest_first: bool) -> None:
    keys = deliver(world, OLD, BROKEN)
    for key in reversed(keys) if newest_first else keys:
        world.handle(key)
    assert set(world.table()) == {"b"}
    check(world)
    world.deliver(9, "good.zip", Upload("zip", rows=(Row("a", "2"),)))
    world.look()
    handle_pending(world)
    assert set(world.table()) == {"a", "b"}
    check(world)


def test_what_was_taken_back_is_kept_with_the_reason(world: World) -> None:
    old, broken = deliver(world, OLD, BROKEN)
    world.handle(old)
    before = world.table()["a"]
    world.handle(broken)
    merged = world.document(broken, "predictions")
    assert merged["counts"]["withdrawn"] == 1
    [gone] = read_parquet(world.lake, merged, "withdrawn.parquet").to_pylist()
    assert (gone["record_id"], gone["code"], gone["withdrawn_by"]) == (
        "a", "number_invalid", broken,
    )  # fmt: skip
    assert (gone["prediction"], gone["upload"]) == (before["prediction"], old)
    world.handle(broken)
    assert world.document(broken, "predictions")["counts"]["withdrawn"] == 1


def test_a_late_merge_never_brings_a_refused_record_back(world: World) -> None:
    old, broken = deliver(world, OLD, BROKEN)
    late = slow(world, old, "merge")
    world.handle(broken)
    world.go_on(late)
    assert set(world.table()) == {"b"}
    check(world)


def test_who_withdraws_a_refusal_gets_the_older_answer_back(world: World) -> None:
    old, broken = deliver(world, OLD, BROKEN)
    for key in (old, broken):
        world.handle(key)
    withdraw(world, broken)
    handle_pending(world)
    assert {i: one["upload"] for i, one in world.table().items()} == {"a": old, "b": old}
    check(world)


def test_a_corrected_yaml_takes_back_the_rows_that_it_refuses_and_gives_them_back(
    world: World,
) -> None:
    [key] = deliver(world, Upload("zip", rows=(Row("a", "3"), Row("b", "1"))))
    strict = wording(world.dataset, 0.6, ("", "3"), required=True)
    world.handle(key)
    late = slow(world, key, "merge")
    world.handle(key, strict, receives=False)
    assert set(world.table()) == {"b"}
    world.go_on(late)
    assert set(world.table()) == {"b"}
    world.check_the_table(strict)
    world.handle(key, receives=False)
    assert set(world.table()) == {"a", "b"}
    check(world)


def test_a_withdrawn_upload_that_was_set_aside_is_so_no_more(world: World) -> None:
    [key] = deliver(world, OLD)
    pending = ledger.read_pending(world.lake, world.dataset, key)
    assert pending is not None
    ledger.set_aside(world.lake, pending, "too often in vain", 5, "run")
    withdraw(world, key)
    assert world.pending() == [key]
    handle_pending(world)
    receipt = world.document(key, "raw_uploads")
    assert receipt["refused"]["code"] == "upload_withdrawn"
    assert (state(world, key), world.table()) == ("withdrawn", {})


def test_an_unknown_upload_cannot_be_withdrawn(world: World) -> None:
    with pytest.raises(UploadError, match="upload_unknown"):
        withdraw(world, "20260101-000000000-0000000000")
