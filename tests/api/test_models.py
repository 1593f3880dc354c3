"""Stored models by hand: which are there, another one instead, and the one before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mm_assets.api.models import describe_model, list_models, promote, rollback
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError, UsageError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import Champion, ModelStore
from tests.laws.champion import ENGINE, FILE, save
from tests.laws.world import wording

WITH, WITHOUT = Modality.WITH_IMAGE, Modality.WITHOUT_IMAGE


class Broken:
    """An engine that cannot load what it wrote."""

    def __init__(self, **_: Any) -> None:
        pass

    def load(self, folder: Path) -> Any:
        return (folder / "weights.pickle").read_bytes()


class Shelf:
    """The models of a dataset; `add` trains one, in a moment."""

    def __init__(self, lake: Lake, spec: DatasetSpec) -> None:
        self.lake, self.spec = lake, spec
        self.models = ModelStore(lake, spec.dataset)
        self.number = 0

    def add(self, modality: Modality = WITHOUT, *, champion: bool = True) -> str:
        self.number += 1
        version = save(self.models, self.spec, modality, self.number)
        if champion:
            self.models.promote(modality, version, f"gate {self.number}")
        return version

    def present(self, modality: Modality = WITHOUT) -> str:
        champion = self.models.champion(modality)
        assert champion is not None
        return champion.version

    def log(self, modality: Modality = WITHOUT) -> list[Champion]:
        return self.models.champions(modality)

    def back(self, modality: Modality | None = None, **how: Any) -> Champion:
        return rollback(self.lake, self.spec, modality, **how)

    def key(self, version: str, name: str) -> str:
        return f"datasets/{self.spec.dataset}/models/{WITHOUT}/{version}/{name}"


@pytest.fixture
def shelf(lake: Lake) -> Shelf:
    return Shelf(lake, wording("pets"))


@pytest.fixture
def folder_shelf(folder_settings: Settings) -> Shelf:
    return Shelf(Lake(folder_settings), wording("pets"))


# -- what is there --------------------------------------------------------------------------------


def test_every_model_is_listed_newest_first_with_its_promotion(shelf: Shelf) -> None:
    first = shelf.add()
    second = shelf.add(champion=False)
    image = shelf.add(WITH)
    rows = list_models(shelf.lake, shelf.spec)
    assert [(row["modality"], row["version"]) for row in rows] == [
        ("with_image", image), ("without_image", second), ("without_image", first),
    ]  # fmt: skip
    newest, champion = rows[1], rows[2]
    assert (champion["champion"], champion["generation"], champion["reason"]) == (True, 1, "gate 1")
    assert (newest["champion"], newest["generation"], newest["reason"]) == (False, None, None)
    assert champion["engine"] == ENGINE
    assert champion["problem"] == newest["problem"] == ""


def test_a_training_that_was_cut_off_is_no_model(shelf: Shelf) -> None:
    version = shelf.add()
    shelf.lake.write(shelf.key("20200101-000000-0123456789", f"files/{FILE}"), b"1")
    assert [row["version"] for row in list_models(shelf.lake, shelf.spec)] == [version]


def test_a_damaged_manifest_and_another_wording_are_named_and_hide_no_other(shelf: Shelf) -> None:
    damaged, good = shelf.add(), shelf.add()
    shelf.lake.write(shelf.key(damaged, "model.json"), b"{}")
    rows = {row["version"]: row for row in list_models(shelf.lake, shelf.spec)}
    assert "signed for" in rows[damaged]["problem"]
    assert rows[good]["problem"] == ""
    other = wording("pets").model_copy(update={"columns": {}})
    other = DatasetSpec.model_validate(other.model_dump() | {"columns": {"weight": "number"}})
    rows = {row["version"]: row for row in list_models(shelf.lake, other)}
    assert rows[good]["problem"] == "was trained on other columns"


def test_a_model_is_described_by_the_beginning_of_its_version(shelf: Shelf) -> None:
    version = shelf.add()
    shelf.models.promote(WITHOUT, shelf.add(), "later")
    shelf.models.promote(WITHOUT, version, "back")
    about = describe_model(shelf.lake, shelf.spec, version[:-1])
    assert about["version"] == version == describe_model(shelf.lake, shelf.spec)["version"]
    assert about["champion"] is True
    assert [(one["generation"], one["reason"]) for one in about["promotions"]] == [
        (1, "gate 1"), (3, "back"),
    ]  # fmt: skip
    assert about["columns"] == {"age": "number"}
    assert [(one["name"], one["bytes"]) for one in about["files"]] == [(FILE, 1)]
    assert about["manifest_sha256"] == shelf.log()[-1].manifest_sha256


def test_a_version_that_fits_several_models_or_none_is_answered_in_words(shelf: Shelf) -> None:
    shelf.add(WITH)
    shelf.add(WITHOUT)
    with pytest.raises(UsageError, match="fits several models"):
        describe_model(shelf.lake, shelf.spec, "2")
    with pytest.raises(UsageError, match="several champions"):
        describe_model(shelf.lake, shelf.spec)
    assert describe_model(shelf.lake, shelf.spec, "2", WITH)["modality"] == "with_image"
    assert code_of(lambda: promote(shelf.lake, shelf.spec, "1999", "why")) == "model_unknown"
    assert code_of(lambda: promote(shelf.lake, shelf.spec, "", "why")) == "model_unknown"


# -- promote --------------------------------------------------------------------------------------


def test_a_promotion_by_hand_keeps_its_reason_and_is_a_newer_generation(shelf: Shelf) -> None:
    old = shelf.add(champion=False)
    shelf.add()
    champion = promote(shelf.lake, shelf.spec, old, "it knows cats")
    assert (champion.version, champion.generation) == (old, 2)
    assert shelf.log()[-1].reason == "it knows cats"
    assert shelf.present() == old


def test_the_champion_itself_stays_what_it_is(shelf: Shelf) -> None:
    version = shelf.add()
    assert promote(shelf.lake, shelf.spec, version, "again").generation == 1
    assert len(shelf.log()) == 1


def test_a_promotion_without_a_reason_is_refused(shelf: Shelf) -> None:
    shelf.add()
    other = shelf.add(champion=False)
    with pytest.raises(UsageError, match="reason"):
        promote(shelf.lake, shelf.spec, other, "  ")
    assert len(shelf.log()) == 1


def test_a_model_is_refused_before_it_is_promoted_if_it_cannot_answer(folder_shelf: Shelf) -> None:
    shelf = folder_shelf
    old, present = shelf.add(), shelf.add()
    spec = shelf.spec.model_dump()
    for change, words in [
        ({"columns": {"weight": "number"}}, "other columns"),
        ({"model_without_image": {"engine": "gradient_boosting"}}, "another engine"),
        ({"problem_type": "multiclass"}, "another problem_type"),
    ]:
        other = DatasetSpec.model_validate(spec | change)
        with pytest.raises(ModelError, match=words) as caught:
            promote(shelf.lake, other, old, "why")
        assert caught.value.code == "model_other_wording"
        with pytest.raises(ModelError, match=words):
            rollback(shelf.lake, other)
    assert shelf.present() == present
    assert len(shelf.log()) == 2


def test_a_damaged_file_in_the_lake_is_found_although_a_good_copy_is_here(shelf: Shelf) -> None:
    old, present = shelf.add(), shelf.add()
    shelf.models.fetch(WITHOUT, old)
    shelf.lake.write(shelf.key(old, f"files/{FILE}"), b"9")
    assert code_of(lambda: promote(shelf.lake, shelf.spec, old, "why")) == "model_tampered"
    assert code_of(lambda: rollback(shelf.lake, shelf.spec)) == "model_tampered"
    assert shelf.present() == present


def test_a_manifest_other_than_the_one_once_signed_for_is_refused(shelf: Shelf) -> None:
    old, present = shelf.add(), shelf.add()
    key = shelf.key(old, "model.json")
    shelf.lake.write(key, shelf.lake.read(key).replace(b'"n": 1', b'"n": 2'))
    assert code_of(lambda: promote(shelf.lake, shelf.spec, old, "why")) == "model_tampered"
    assert shelf.present() == present


def test_a_model_of_another_library_version_is_refused(
    folder_shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = DatasetSpec.model_validate(
        folder_shelf.spec.model_dump() | {"model_without_image": {"engine": "sklearn"}}
    )
    with monkeypatch.context() as before:
        before.setattr("mm_assets.registry.store.installed", lambda: {"scikit-learn": "0.1.0"})
        old = stored(folder_shelf, spec, "sklearn")
    assert code_of(lambda: promote(folder_shelf.lake, spec, old, "why")) == "model_other_version"
    assert folder_shelf.log() == []
    [row] = [row for row in list_models(folder_shelf.lake, spec) if row["version"] == old]
    assert "scikit-learn 0.1.0" in row["problem"]


def test_a_model_that_cannot_be_loaded_is_refused(folder_shelf: Shelf) -> None:
    engine = f"{__name__}:Broken"
    spec = DatasetSpec.model_validate(
        folder_shelf.spec.model_dump() | {"model_without_image": {"engine": engine}}
    )
    version = stored(folder_shelf, spec, engine)
    with pytest.raises(ModelError, match=r"weights\.pickle") as caught:
        promote(folder_shelf.lake, spec, version, "why")
    assert caught.value.code == "model_not_loadable"
    assert folder_shelf.log() == []


# -- rollback -------------------------------------------------------------------------------------


def test_rolling_back_twice_goes_two_models_back_and_no_further(shelf: Shelf) -> None:
    a, b, c = (shelf.add() for _ in range(3))
    back = shelf.back(reason="too many dogs")
    assert (back.version, back.generation) == (b, 4)
    assert back.reason == f"Rolled back from {c}: too many dogs"
    assert shelf.back().version == a
    assert shelf.log()[-1].reason == f"Rolled back from {b}"
    with pytest.raises(ModelError, match="no earlier champion") as caught:
        shelf.back()
    assert caught.value.code == "nothing_to_roll_back"
    assert [one.version for one in shelf.log()] == [a, b, c, b, a]


def test_what_was_taken_back_does_not_come_again_after_the_next_training(shelf: Shelf) -> None:
    _, b, c = (shelf.add() for _ in range(3))
    shelf.back()
    shelf.add()
    assert shelf.back().version == b
    assert promote(shelf.lake, shelf.spec, c, "it was good after all").generation == 7
    assert shelf.back().version == b


def test_a_rollback_can_name_an_earlier_champion(shelf: Shelf) -> None:
    a, _, c = (shelf.add() for _ in range(3))
    never = shelf.add(champion=False)
    assert shelf.back(to=a).version == a
    for version, words in [(a, "is the champion already"), (never, "was never the champion")]:
        with pytest.raises(ModelError, match=words):
            shelf.back(to=version)
    assert shelf.back(to=c).version == c  # also forwards: it was one


def test_the_modality_may_be_left_out_where_only_one_can_be_rolled_back(shelf: Shelf) -> None:
    shelf.add(WITH)
    a, b = shelf.add(), shelf.add()
    assert shelf.back().version == a
    assert len(shelf.log(WITH)) == 1
    shelf.models.promote(WITHOUT, b, "again")
    shelf.add(WITH)
    with pytest.raises(UsageError, match="name one: with_image"):
        shelf.back()
    assert shelf.back(WITH).modality is WITH
    assert shelf.present() == b


def test_before_any_champion_there_is_nothing_to_roll_back(shelf: Shelf) -> None:
    assert code_of(lambda: rollback(shelf.lake, shelf.spec)) == "nothing_to_roll_back"


# -- MLflow ---------------------------------------------------------------------------------------


def test_mlflow_is_told_of_a_rollback_and_one_that_is_down_stops_nothing(
    folder_shelf: Shelf, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    from tests.registry.test_tracking import track

    shelf, said = folder_shelf, list[str]()
    a, b, c = (shelf.add() for _ in range(3))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    files = tmp_path / "model"
    files.mkdir()
    (files / "MLmodel").write_text("x")
    for version in (a, b):  # of c it was not told
        track(uri, files, version=version, modality="without_image")
    shelf.lake.settings.mlflow_tracking_uri = uri
    client = MlflowClient(tracking_uri=uri)

    def champion_there() -> str:
        alias = client.get_model_version_by_alias("pets-without_image", "champion")
        return str(alias.tags["mm.version"])

    for expected in (b, a):
        shelf.back(say=said.append)
        assert champion_there() == expected
    promote(shelf.lake, shelf.spec, c, "why", say=said.append)
    assert champion_there() == c
    assert said == [
        f"MLflow: pets-without_image@champion is {version} now." for version in (b, a, c)
    ]
    shelf.lake.settings.mlflow_tracking_uri = "http://127.0.0.1:9"
    assert shelf.back(say=said.append).version == a
    assert "tracking_failed" in said[-1]


def code_of(do: Callable[[], Any]) -> str:
    with pytest.raises(ModelError) as caught:
        do()
    return caught.value.code


def stored(shelf: Shelf, spec: DatasetSpec, engine: str) -> str:
    """A model of an engine, of one file that it never wrote."""
    folder = shelf.lake.settings.root / "as-trained"
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    manifest = {
        "engine": {"engine": engine}, "problem_type": "binary", "classes": ["cat", "dog"],
        "columns": spec.features(WITHOUT), "metrics": {}, "baseline": {}, "n": 1,
        "training_fingerprint": "0", "training_counts": {}, "spec_fingerprint": "0",
    }  # fmt: skip
    return shelf.models.save(WITHOUT, folder, manifest).version
