"""The queue goes to a running Label Studio, and what people answer there comes back as labels.

Over a small server that answers as Label Studio does, and with MM_NIGHTLY=1 over Label Studio
itself, in an environment of its own.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from mm_assets.cli.review import app as review
from mm_assets.contract.errors import MMError
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import COMPONENT
from mm_assets.review.answers import Judged
from mm_assets.review.label_studio import NONE_SHOWN
from mm_assets.review.label_studio_api import KEY, LabelStudio
from mm_assets.review.label_studio_work import Pushed, pull_review, push_review
from mm_assets.review.one_by_one import standing
from mm_assets.review.queue import review_queue
from mm_assets.training.training_set import build_training_set
from mm_assets.uploads.received import read_parquet
from mm_assets.uploads.send import Sent
from tests.make import table
from tests.review.conftest import IMAGED, RECORDS, World
from tests.review.studios import ADA, Real, Refuses, Small, Studio, chose, real, small, typed

NIGHTLY = os.environ.get("MM_NIGHTLY") == "1"
GRACE = "grace@example.org"
TO_REVIEW = [name for name, sure in RECORDS.items() if sure < 0.6]


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    with real(tmp_path_factory.mktemp("label-studio")) as studio:
        yield studio


@pytest.fixture
def one() -> Iterator[Small]:
    with small() as studio:
        yield studio


KINDS = [
    "one",
    pytest.param(
        "label_studio",
        marks=[
            pytest.mark.skipif(not NIGHTLY, reason="installs Label Studio: MM_NIGHTLY=1"),
            pytest.mark.timeout(1200),
        ],
    ),
]


@pytest.fixture(params=KINDS)
def studio(request: pytest.FixtureRequest) -> Studio:
    """A Label Studio in which nothing is."""
    found: Studio = request.getfixturevalue(request.param)
    if isinstance(found, Real):
        found.emptied()
    return found


def push(world: World, studio: Studio, **more: int) -> Pushed:
    with LabelStudio(studio.url, studio.key) as asked:
        return push_review(world.lake, world.store, world.spec, asked, **more)


def pull(world: World, studio: Studio, **more: int) -> tuple[Judged, Sent | None]:
    with LabelStudio(studio.url, studio.key) as asked:
        return pull_review(world.lake, world.store, world.spec, asked, **more)


def tasks(studio: Studio, project: int) -> dict[str, dict]:
    """The tasks as they are there, by record."""
    with LabelStudio(studio.url, studio.key) as asked:
        found = [asked.task(one["id"]) for one in asked.tasks(project)]
    assert len({one["data"]["record_id"] for one in found}) == len(found)
    return {one["data"]["record_id"]: one for one in found}


def numbered(studio: Studio, project: int) -> dict[str, int]:
    return {record_id: one["id"] for record_id, one in tasks(studio, project).items()}


def training_labels(world: World) -> dict[str, str]:
    document = build_training_set(world.lake, world.store, world.spec, run_id="run")
    rows = read_parquet(world.lake, document, "training_set.parquet").to_pylist()
    return {row["record_id"]: row["label"] for row in rows}


def given(world: World) -> list[tuple[str, str, str]]:
    """Who answered what, of all that was sent."""
    return sorted(
        (one.record_id, one.label, one.who)
        for one in standing(world.lake, world.spec.dataset).given()
    )


# -- there ----------------------------------------------------------------------------------------


def test_each_record_of_the_queue_becomes_one_task_however_often_it_is_pushed(
    world: World, studio: Studio
) -> None:
    first = push(world, studio, limit=3)
    assert (first.created, first.changed, first.there) == (3, 0, 0)
    rest = push(world, studio)
    assert (rest.created, rest.changed, rest.there) == (5, 0, 3)
    assert rest.project == first.project
    again = push(world, studio)
    assert (again.created, again.changed, again.there, again.done) == (0, 0, 8, 0)
    assert again.url == f"{studio.url}/projects/{first.project}/data"
    assert list(tasks(studio, first.project)) == TO_REVIEW


def test_a_task_shows_the_record_its_image_and_what_the_model_says(
    world: World, studio: Studio
) -> None:
    pushed = push(world, studio)
    found = tasks(studio, pushed.project)
    data = found["plain"]["data"]
    assert data["columns"]["note"] == "=HYPERLINK(1)"
    assert data["features"] == {"age": 0.0, "note": "=HYPERLINK(1)"}
    assert (data["prediction"], data["why"]) == ("cat", "low confidence")
    [said] = found["plain"]["predictions"]
    assert (said["score"], said["result"]) == (0.51, chose("cat"))
    for name, one in found.items():
        head, _, image = one["data"]["image"].partition(",")
        assert (f"{head}," == NONE_SHOWN) is (name not in IMAGED)
        Image.open(io.BytesIO(base64.b64decode(image))).load()
    with LabelStudio(studio.url, studio.key) as asked:
        # It shows the predictions of this one version; the model's own name is among the values.
        assert asked.project(pushed.project)["model_version"] == said["model_version"]
    assert found["plain"]["meta"]["model_version"] == "v1"


def test_a_task_that_nobody_began_says_what_is_known_now_and_others_are_left_alone(
    world: World, studio: Studio
) -> None:
    pushed = push(world, studio)
    ids = numbered(studio, pushed.project)
    studio.person(ADA).answer(ids["a-b"], chose("dog"))
    for name in ("plain", "a-b"):
        world.doubt(name, "unseen_category (note): 'owl'")
    world.deliver("labels.zip", {"l.csv": table("id,label", "A b,dog")})
    again = push(world, studio)
    assert (again.created, again.changed, again.there, again.done) == (0, 1, 6, 1)
    found = tasks(studio, pushed.project)
    assert found["plain"]["data"]["why"] == "unseen_category (note): 'owl'"
    assert [one["score"] for one in found["plain"]["predictions"]] == [0.99]
    assert found["a-b"]["data"]["why"] == "low confidence"
    assert push(world, studio).changed == 0


def test_a_lost_image_holds_nobody_back(world: World, studio: Studio) -> None:
    world.lake.delete(f"datasets/pets/uploads/{world.upload}/raw_uploads.json")
    pushed = push(world, studio)
    assert (pushed.created, pushed.lost) == (8, 4)


def test_a_project_of_ones_own_is_used_if_its_interface_fits(world: World, studio: Studio) -> None:
    with LabelStudio(studio.url, studio.key) as asked:
        empty = asked.create_project(title="animals", label_config="<View></View>")["id"]
        own = '<View><Text name="record" value="$record_id"/>{}</View>'
        choices = '<Choices name="label" toName="record">{}</Choices>'
        good = choices.format('<Choice value="dog"/><Choice value="C" alias="cat"/>')
        fits = asked.create_project(title="fitting", label_config=own.format(good))["id"]
        poor = choices.format('<Choice value="dog"/>')
        lacks = asked.create_project(title="without cats", label_config=own.format(poor))["id"]
    assert push(world, studio, project=empty).created == 8
    assert push(world, studio, project=fits).project == fits
    assert "label_studio_interface" in words(lambda: push(world, studio, project=lacks))
    assert "does not offer cat" in words(lambda: push(world, studio, project=lacks))
    studio.person(ADA).answer(numbered(studio, fits)["plain"], chose("dog"))
    assert pull(world, studio, project=fits)[0].labels == {"plain": "dog"}


# -- and back -------------------------------------------------------------------------------------


def test_answers_come_back_once_with_who_and_when_in_whatever_order(
    world: World, studio: Studio
) -> None:
    ids = numbered(studio, push(world, studio).project)
    ada, grace = studio.person(ADA), studio.person(GRACE)
    grace.answer(ids["a b"], chose("dog"))
    ada.answer(ids["plain"], chose("dog"))
    first, sent = pull(world, studio)
    assert first.labels == {"plain": "dog", "a b": "dog"}
    again, nothing = pull(world, studio)
    assert (again.labels, nothing, again.is_all_known) == ({}, None, True)
    ada.answer(ids["=1+2"], chose("cat"))
    more, second = pull(world, studio)
    assert more.labels == {"=1+2": "cat"}  # and not those that wait to be taken in
    for upload in (second, sent):
        world.take_in(upload.name)
    assert pull(world, studio)[0].left_out == {"known already": 3}
    assert training_labels(world) == {"plain": "dog", "a b": "dog", "=1+2": "cat"}
    assert given(world) == [("=1+2", "cat", ADA), ("a b", "dog", GRACE), ("plain", "dog", ADA)]
    told = list(standing(world.lake, "pets").given())
    assert {(one.prediction, one.model_version) for one in told} == {("cat", "v1")}
    assert all(one.at.endswith("+00:00") for one in told)
    waits = {item.record_id for item in review_queue(world.store, world.spec)}
    assert waits == {*TO_REVIEW} - {"plain", "a b", "=1+2"}
    assert push(world, studio).done == 0


def test_who_skips_or_cannot_tell_gives_no_label(world: World, studio: Studio) -> None:
    ids = numbered(studio, push(world, studio).project)
    ada = studio.person(ADA)
    ada.answer(ids["plain"], [], was_cancelled=True)
    ada.answer(ids["A b"], chose("can't tell", "unsure"))
    ada.answer(ids["a-b"], [])
    # The model's label was chosen already, and whoever can't tell need not take it away.
    ada.answer(ids["a b"], [*chose("cat"), *chose("can't tell", "unsure")])
    judged, sent = pull(world, studio)
    assert (judged.labels, sent, judged.refused) == ({}, None, [])
    assert judged.left_out == {"skipped": 1, "can't tell": 2, "not answered": 1}
    assert given(world) == []
    assert push(world, studio).created == 0  # their tasks are still there


def test_who_changes_their_mind_and_changes_it_back_is_heard_each_time(
    world: World, studio: Studio
) -> None:
    ids = numbered(studio, push(world, studio).project)
    ada = studio.person(ADA)
    annotation = ada.answer(ids["plain"], chose("dog"))
    for label in ("dog", "cat", "dog"):
        ada.change(annotation, chose(label))
        judged, sent = pull(world, studio)
        assert judged.labels == {"plain": label}
        world.take_in(sent.name)
        assert training_labels(world) == {"plain": label}
    ada.answer(ids["plain"], chose("cat"))  # beside the first one; the later counts
    assert pull(world, studio)[0].labels == {"plain": "cat"}


def test_two_who_disagree_are_named_until_they_agree(world: World, studio: Studio) -> None:
    ids = numbered(studio, push(world, studio).project)
    ada, grace = studio.person(ADA), studio.person(GRACE)
    ada.answer(ids["plain"], chose("dog"))
    annotation = grace.answer(ids["plain"], chose("cat"))
    ada.answer(ids["007"], chose("dog"))
    judged, sent = pull(world, studio)
    assert judged.labels == {"007": "dog"}
    world.take_in(sent.name)
    [refused] = judged.refused
    assert (refused.code, refused.record_id) == ("answers_disagree", "plain")
    assert ADA in refused.reason
    assert GRACE in refused.reason
    grace.change(annotation, chose("dog"))
    assert pull(world, studio)[0].labels == {"plain": "dog"}
    assert given(world) == [("007", "dog", ADA), ("plain", "dog", ADA), ("plain", "dog", GRACE)]


def test_numbers_go_there_and_back(numbers: World, studio: Studio) -> None:
    ids = numbered(studio, push(numbers, studio).project)
    found = tasks(studio, push(numbers, studio).project)["plain"]
    assert found["predictions"][0]["result"] == typed(1.5)
    assert "image" not in found["data"]
    for name, number in (("plain", 2.5), ("007", -3), ("a b", 0)):
        studio.person(ADA).answer(ids[name], typed(number))
    judged, _ = pull(numbers, studio)
    assert {n: float(label) for n, label in judged.labels.items()} == {
        "plain": 2.5, "007": -3.0, "a b": 0.0,
    }  # fmt: skip


def test_a_personal_access_token_opens_as_well(world: World, studio: Studio) -> None:
    with LabelStudio(studio.url, studio.access_token) as asked:
        assert push_review(world.lake, world.store, world.spec, asked).created == 8


# -- what goes wrong ------------------------------------------------------------------------------


def projects(url: str, key: str) -> list[dict]:
    with LabelStudio(url, key) as asked:
        return list(asked.projects())


def words(work) -> str:
    with pytest.raises(MMError) as raised:
        work()
    assert raised.value.todo
    return str(raised.value)


def test_a_key_that_is_wrong_and_a_project_that_is_gone_are_said_in_words(
    world: World, studio: Studio
) -> None:
    for key in ("f" * 40, "eyJh.wrong.token"):
        said = words(lambda key=key: projects(studio.url, key))
        assert "label_studio_key" in said
        assert key not in said
    assert "label_studio_no_key" in words(lambda: LabelStudio(studio.url, ""))
    assert "label_studio_no_project" in words(lambda: pull(world, studio))
    assert "label_studio_no_project" in words(lambda: push(world, studio, project=99_999))
    first = push(world, studio).project
    studio.emptied() if isinstance(studio, Real) else studio.remove_projects()
    assert "label_studio_no_project" in words(lambda: pull(world, studio, project=first))
    assert push(world, studio).created == 8  # into a new one


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://nowhere.invalid"])
def test_one_that_does_not_answer_is_said_in_words(address: str, no_pauses: list[float]) -> None:
    assert "label_studio_unreachable" in words(lambda: LabelStudio(address, "k"))
    assert len(no_pauses) == 4


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://[::1"])
def test_what_is_no_address_is_said_in_words(address: str) -> None:
    assert "label_studio_unknown" in words(lambda: LabelStudio(address, "k"))


def test_what_is_no_label_studio_or_an_old_one_is_said_in_words(one: Small) -> None:
    for release, code in (("", "label_studio_unknown"), ("1.4.1", "label_studio_old")):
        one.release = release
        assert code in words(lambda: LabelStudio(one.url, one.key))
    one.release = "2.0.0rc1"
    LabelStudio(one.url, one.key).__exit__(None, None, None)
    one.faults = [(".*/api/version", Refuses(302, "", Location="https://elsewhere/api/version"))]
    assert "https://elsewhere" in words(lambda: LabelStudio(one.url, one.key))


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long we would have waited."""
    pauses: list[float] = []
    monkeypatch.setattr("mm_assets.review.label_studio_api.time.sleep", pauses.append)
    return pauses


def test_a_limit_of_rate_is_waited_for(world: World, one: Small, no_pauses: list[float]) -> None:
    busy = Refuses(429, "Request was throttled.", Retry_After="7")
    one.faults = [("GET /api/projects", busy), ("POST /api/projects/.*/import", busy),
                  ("POST /api/projects/.*/import", Refuses(503, "down"))]  # fmt: skip
    assert push(world, one).created == 8
    assert no_pauses == [7.0, 7.0, 2.0]
    one.faults = [("GET /api/tasks", Refuses(429, "throttled", Retry_After="86400"))] * 5
    assert "5 tries" in words(lambda: push(world, one))
    assert max(no_pauses) == 60.0


def test_a_push_that_dies_in_the_middle_is_completed_by_the_next(
    world: World, one: Small, no_pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_assets.review.label_studio_work.AT_ONCE", 3)
    left = iter([None, Refuses(500, "it was all done, but who knows")])

    def dies() -> None:
        if fault := next(left, None):
            raise fault

    one.after_import = dies
    assert "label_studio_unreachable" in words(lambda: push(world, one))
    assert no_pauses == []  # a second try could make a second task
    pushed = push(world, one)
    assert (pushed.created, pushed.there) == (2, 6)
    assert list(tasks(one, pushed.project)) == TO_REVIEW


def test_an_access_token_that_runs_out_is_renewed(world: World, one: Small) -> None:
    with LabelStudio(one.url, one.access_token) as asked:
        one.forget_access()
        assert push_review(world.lake, world.store, world.spec, asked).created == 8
    assert one.asked.count("POST /api/token/refresh") == 2


def test_a_version_before_personal_access_tokens_says_so(one: Small) -> None:
    one.release = "1.13.1"
    one.faults = [("POST /api/token/refresh", Refuses(404, "Not found."))]
    said = words(lambda: LabelStudio(one.url, one.access_token))
    assert "label_studio_key" in said
    assert "1.13.1 knows no personal access tokens" in said


def test_what_it_refuses_is_quoted(world: World, one: Small) -> None:
    one.faults = [("POST /api/projects/.*/import", Refuses(400, "'image' key is expected"))]
    said = words(lambda: push(world, one))
    assert "label_studio_refused" in said
    assert "'image' key is expected" in said


def test_a_task_that_came_another_way_is_found_by_its_data(world: World, one: Small) -> None:
    pushed = push(world, one)
    for task in one._tasks.values():
        task["meta"] = {}
    assert push(world, one).created == 0
    one.person(ADA).answer(numbered(one, pushed.project)["plain"], chose("dog"))
    assert pull(world, one)[0].labels == {"plain": "dog"}


# -- as a person does it --------------------------------------------------------------------------


def test_the_commands_say_what_they_did_and_never_the_key(
    world: World, one: Small, monkeypatch: pytest.MonkeyPatch, folder_settings: Settings
) -> None:
    keys = world.spec.model_dump(mode="json", exclude_unset=True)
    file: Path = folder_settings.defs_folder / "pets" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"type": COMPONENT, "attributes": keys}))

    def run(*arguments: str, code: int = 0, out: str = "output") -> str:
        found = CliRunner().invoke(review, [*arguments, "--label-studio", one.url])
        assert found.exit_code == code, (found.output, found.exception)
        assert one.key not in found.output
        assert "Traceback" not in found.output
        return getattr(found, out)

    assert "label_studio_no_key" in run("push", code=1)
    monkeypatch.setenv(KEY, f" {one.key}\n")
    assert "label_studio_no_project" in run("pull", code=1)
    assert "8 new tasks, 0 changed, 0 there already" in run("push")
    assert "Nobody answered yet." in run("pull")
    number = numbered(one, 1)["plain"]
    one.person(ADA).answer(number, chose("dog"))
    assert "1 label sent to" in run("pull")
    assert "known already" in run("pull")
    one.person(GRACE).answer(number, chose("cat"))
    one.person(GRACE).answer(numbered(one, 1)["007"], chose("dog"))
    said = run("pull", code=3)
    assert "answers_disagree" in said
    assert json.loads(run("push", "--format", "json", out="stdout"))[0]["created"] == 0
