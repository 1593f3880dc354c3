"""A training of which nothing, or only a part, came is told from one that made every model."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import mm_assets as mm
from mm_assets.cli.main import app
from mm_assets.contract.settings import Settings
from tests.make import draw_image, table, zipped

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: pets
  id_column: id
  label_column: kind
  problem_type: binary
  columns: {{age: number}}
  image_longest_side: 16
  minimum_training_records: 20
  model_with_image: {{engine: "{engine}"}}
  model_without_image: {{engine: "{engine}"}}
"""
MEAN = "tests.kill.engine:NearestMean"


def write_yaml(settings: Settings, engine: str) -> None:
    file = settings.defs_folder / "pets" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML.format(engine=engine))


def trained(settings: Settings, engine: str, kinds: str, images: int, *more: str):
    """`mm train`, with more arguments, on 60 labelled records of which so many have an image."""
    write_yaml(settings, engine)
    names = kinds.split()
    rows = [f"r{n:02},{n % len(names)},{names[n % len(names)]}" for n in range(60)]
    files = {f"r{n:02}.png": draw_image(n) for n in range(images)}
    path = settings.root / "labelled.zip"
    path.write_bytes(zipped({"t.csv": table("id,age,kind", *rows), **files}))
    for command in (("upload", str(path)), ("sync",)):
        assert CliRunner().invoke(app, command).exit_code == 0
    result = CliRunner().invoke(app, ["train", *more])
    assert "Traceback" not in result.stderr
    return result


def test_three_classes_in_a_binary_problem_train_nothing(folder_settings: Settings) -> None:
    pytest.importorskip("xgboost")
    done = trained(folder_settings, "gradient_boosting", "cat dog owl", 0)
    assert done.exit_code == 2, done.stderr
    assert "✗ pets: train: nothing used: no model was trained: " in done.stderr
    assert "without_image classes_differ" in done.stderr
    assert "✓" not in done.stderr
    assert done.stderr.count("classes_differ: ") == 1
    assert "a binary problem has two classes, and the labels are cat (" in done.stderr
    assert "is the label of record '" in done.stderr


def test_one_model_of_two_is_used_in_part_with_the_reason_for_the_other(
    folder_settings: Settings,
) -> None:
    done = trained(folder_settings, MEAN, "cat dog", 3)
    assert done.exit_code == 3, done.stderr
    assert "! pets: train: used in part: 1 of 2 models not trained: with_image" in done.stderr
    assert "too_few_records: 3 labelled records (" in done.stderr
    assert "{'training'" not in done.stderr
    assert "✓ without_image: champion" in done.stderr


def test_a_dataset_to_which_no_image_ever_came_is_trained_and_the_other_model_is_named(
    folder_settings: Settings,
) -> None:
    done = trained(folder_settings, MEAN, "cat dog", 0)
    assert done.exit_code == 0, done.stderr
    assert "✓ pets: train: used: model_without_image trained; not yet: with_image no_images" in (
        done.stderr
    )
    assert "none of the 60 labelled records has an image" in done.stderr


def test_minutes_reach_every_engine_and_are_shared_by_the_two_models(
    folder_settings: Settings,
) -> None:
    done = trained(folder_settings, MEAN, "cat dog", 60, "--minutes", "3")
    assert done.exit_code == 0, done.stderr
    assert limits() == {"with_image": 120, "without_image": 60}
    mm.open().train(minutes=0.5, quiet=True)
    assert limits() == {"with_image": 20, "without_image": 10}


def test_what_a_training_warns_of_is_said_in_python_as_on_the_command_line(
    folder_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    done = trained(folder_settings, MEAN, "cat cat cat dog cat dog dog dog", 0)
    said = [line for line in done.stderr.splitlines() if "promise_reached: " in line]
    assert [line.split(":")[:3] for line in said] == [["! pets", " train", " promise_reached"]]
    outcomes = mm.open().train()
    assert said[0].replace("! pets: ", "! ") in capsys.readouterr().err.splitlines()
    assert any(words.startswith("promise_reached: ") for words in outcomes[0].warnings)
    mm.open().train(quiet=True)
    assert capsys.readouterr().err == ""


def limits() -> dict[str, float]:
    """The seconds that the newest model of each modality had."""
    ds, found = mm.open(), {}
    for row in reversed(ds.models()):
        options = ds.model(row["version"])["engine_options"]
        found[row["modality"]] = round(options["time_limit_seconds"], 6)
    return found


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_minutes_that_are_none_are_refused(folder_settings: Settings, minutes: str) -> None:
    write_yaml(folder_settings, MEAN)
    done = CliRunner().invoke(app, ["train", "--minutes", minutes])
    assert done.exit_code == 2, done.stderr
    assert "minutes must be above 0" in done.stderr
