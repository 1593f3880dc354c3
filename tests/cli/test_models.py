"""`mm models` as a person uses it who wants the model of yesterday back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import mm_assets as mm
from mm_assets.cli.main import app
from mm_assets.contract.settings import Settings

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: parts
  id_column: part
  label_column: state
  problem_type: binary
  columns: {weight: number}
  image_name: null
  model_without_image: %s
"""
BOOSTING = "{engine: gradient_boosting, hyperparameters: {n_estimators: 20}}"
NEAREST = "{engine: 'tests.kill.engine:NearestMean'}"
Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, words.split())
        assert result.exit_code == code, (words, result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return invoke


@pytest.fixture
def wording(folder_settings: Settings) -> Callable[[str], None]:
    """Writes the YAML with these engines."""
    file = folder_settings.defs_folder / "parts" / "defs.yaml"
    file.parent.mkdir(parents=True)

    def write(engines: str) -> None:
        file.write_text(YAML % engines)

    return write


def deliver(folder: Path) -> Path:
    folder.mkdir()
    rows = [f"a{n},{n % 20},{'bad' if n % 20 > 9 else 'good'}" for n in range(150)]
    (folder / "known.csv").write_text("\n".join(["part,weight,state", *rows]))
    new = [f"b{n},{n / 2}" for n in range(30)]
    (folder / "new.csv").write_text("\n".join(["part,weight", *new]))
    return folder


def table(run: Run) -> list[dict[str, Any]]:
    rows = json.loads(run("predictions --format json").stdout)
    kept = ("record_id", "prediction", "probabilities", "confidence", "model_version")
    return sorted(({name: row[name] for name in kept} for row in rows), key=str)


def listed(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("models list --format json").stdout)
    return rows


def test_the_model_of_yesterday_answers_again(
    wording: Callable[[str], None], run: Run, tmp_path: Path
) -> None:
    wording(BOOSTING)
    assert "No models yet" in run("models list").stderr
    assert "no_champion" in run("models show", code=1).stderr
    run(f"upload {deliver(tmp_path / 'delivery')}")
    run("sync")
    run("train")
    good = table(run)
    assert "nothing_to_roll_back" in run("models rollback", code=1).stderr

    wording(NEAREST)  # the champion does not fit this YAML, so whatever learns something is better
    run("train")
    bad = table(run)
    second, first = (row["version"] for row in listed(run))
    assert {row["model_version"] for row in bad} == {second}
    assert bad != good

    # What does not fit the YAML any more is refused, and nothing has changed.
    assert "another engine" in run("models rollback", code=1).stderr
    assert [row["problem"] for row in listed(run)] == ["", "was trained by another engine"]
    assert [row["champion"] for row in listed(run)] == [True, False]
    assert table(run) == bad

    wording(f"[{NEAREST}, {BOOSTING}]")
    told = run("models rollback --reason stubborn --format json")
    [champion] = json.loads(told.stdout)
    assert champion["version"] == first
    assert champion["reason"] == f"Rolled back from {second}: stubborn"
    assert table(run) == good
    assert "nothing_to_roll_back" in run("models rollback", code=1).stderr

    run(f"models promote {second} --reason compared --no-predict")
    assert table(run) == good
    run(f"models promote {second} --reason compared")
    assert table(run) == bad
    assert [row["generation"] for row in listed(run)] == [4, 3]
    about = json.loads(run(f"models show {second} --format json").stdout)
    assert [one["reason"] for one in about["promotions"]][1:] == ["compared"]
    assert second in run("models show").stdout

    run(f"models promote {first}", code=2)  # without a reason
    run("models promote 1999 --reason why", code=1)
    exported = tmp_path / "exported"
    assert f"without_image: {second}" in run(f"models export --to {exported}").stderr
    assert (exported / "MLmodel").is_file()
    run(f"models export --to {exported}", code=2)  # it is there already


def test_a_champion_that_is_too_sure_is_recalibrated_by_later_labels(
    wording: Callable[[str], None], run: Run, tmp_path: Path
) -> None:
    """It learnt from clean records; of those that follow every fourth is otherwise."""
    wording(BOOSTING)
    run(f"upload {deliver(tmp_path / 'delivery')}")
    run("sync")
    run("train")
    later = tmp_path / "later"
    later.mkdir()
    (later / "new.csv").write_text(
        "\n".join(["part,weight", *(f"c{n},{n % 20}" for n in range(400))])
    )
    run(f"upload {later}")
    run("sync")
    before = json.loads(run("models show --format json").stdout)
    assert "recalibration_too_few" in run("models recalibrate", code=1).stderr
    draw = np.random.default_rng(0)
    truth = [(n % 20 > 9) ^ (draw.random() < 0.25) for n in range(400)]
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "labels.csv").write_text(
        "\n".join(["part,state", *(f"c{n},{['good', 'bad'][bad]}" for n, bad in enumerate(truth))])
    )
    run(f"upload {labels}")
    assert "promise_holds" in run("sync").stderr
    assert "BROKEN" in str(mm.open("parts").about())
    told = run("models recalibrate").stderr
    assert f"Recalibrated from {before['version']}: log loss" in told
    assert "of the rest" in told
    after = json.loads(run("models show --format json").stdout)
    assert (after["generation"], after["recalibrated_from"]) == (2, before["version"])
    rows = {row["record_id"]: row for row in table(run)}
    assert {row["model_version"] for row in rows.values()} == {after["version"]}
    sure = np.mean([rows[f"c{n}"]["confidence"] for n in range(400)])
    assert sure == pytest.approx(0.75, abs=0.06)
    run("models rollback")
    assert {row["model_version"] for row in table(run)} == {before["version"]}


def test_a_target_that_cannot_be_promised_is_said_with_what_could_be(
    wording: Callable[[str], None], run: Run, tmp_path: Path, folder_settings: Settings
) -> None:
    wording(f"{BOOSTING}\n  review: {{target_accuracy: 0.999, largest_share: 0.1}}")
    run(f"upload {deliver(tmp_path / 'delivery')}")
    run("sync")
    told = run("train").stderr
    assert "! parts: train: promise_reached: confidence below" in told
    assert "99.9% CANNOT be promised with at most 10% of the records in review" in told
    assert "lower `target_accuracy`, or send more labelled records" in told
    assert "in review, and how much of the rest is right: 0%: " in told

    shown = run("models show").stdout
    assert "asked for" in shown
    assert "accuracy by share in review" in shown
    promise = json.loads(run("models show --format json").stdout)["promise"]
    assert promise["target"] == 0.999
    assert promise["curve"][0]["share"] == 0
    ui = metadata_of_model(folder_settings)
    assert ui["promise"] == promise["words"]
    assert ui["target CANNOT be promised"] == promise["remedy"]
    figures = {row.data["figure"]: row.data for row in ui["promise in figures"]}
    assert figures["asked for"]["expected"] == "99.9%"
    assert len(ui["accuracy by share in review"]) == len(promise["curve"])

    # Another wish holds at once, and then there is nothing to warn of.
    wording(f"{BOOSTING}\n  review: {{threshold: 0.7}}")
    promise = json.loads(run("models show --format json").stdout)["promise"]
    assert (promise["limit"], promise["target"], promise["remedy"]) == (0.7, None, "")
    assert "promise_reached" not in run("checks").stderr


def metadata_of_model(settings: Settings) -> dict[str, Any]:
    """What the UI shows of the model: tables as their rows."""
    import dagster as dg

    from mm_assets.orchestration.run import open_instance

    with open_instance(settings) as instance:
        key = dg.AssetKey(["parts", "model_without_image"])
        event = instance.get_latest_materialization_event(key)
    shown = event.asset_materialization.metadata
    return {name: getattr(one, "records", one.value) for name, one in shown.items()}


def test_an_interrupted_rollback_says_how_to_go_on_and_not_to_roll_back_once_more(
    wording: Callable[[str], None], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mm_assets.contract.spec_file import load_specs
    from mm_assets.lake.lake import Lake
    from mm_assets.orchestration.run import Runner
    from mm_assets.registry.store import ModelStore
    from tests.laws.champion import ENGINE, save

    wording(f"{{engine: '{ENGINE}'}}")
    settings = Settings.from_environment()
    [spec] = load_specs(settings.defs_folder).values()
    models = ModelStore(Lake(settings), "parts")
    versions = [save(models, spec, spec.modalities[0], number) for number in (1, 2)]
    for version in versions:
        models.promote("without_image", version, "because")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "predict_all", interrupt)
    told = run("models rollback", code=130).stderr
    assert "same command" not in told
    assert f"mm models promote {versions[0]} --modality without_image" in told


def test_a_key_is_made_and_what_was_promoted_before_is_shown_and_signed(
    run: Run, wording: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wording(NEAREST)
    run(f"upload {deliver(tmp_path / 'delivery')}")
    run("sync")
    run("train")
    keys = dict(line.split("=", 1) for line in run("models new-key").stdout.split())
    monkeypatch.setenv("MM_VERIFY_KEY", keys["MM_VERIFY_KEY"])
    assert "promotion_unsigned" in run("models show", code=1).stderr
    assert "signing_key_missing" in run("models sign --yes", code=1).stderr
    monkeypatch.setenv("MM_SIGNING_KEY", keys["MM_SIGNING_KEY"])
    assert keys["MM_VERIFY_KEY"] in run("models new-key --public").stdout
    asked = CliRunner().invoke(app, ["models", "sign"], input="n\n")
    assert "nothing is signed" in asked.stderr
    run("models show", code=1)
    assert "1 of 1 promotions signed now" in run("models sign --yes").stderr
    monkeypatch.delenv("MM_SIGNING_KEY")
    run("models show")
    run("sync")
