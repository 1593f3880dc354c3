"""Three real uploads of product photos, where they are at hand: two directories up, in `shared`.

The YAML is the one of the project; only the training is cut short.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from mm_assets.contract.dataset import Modality
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.history import held_open
from mm_assets.orchestration.run import Runner
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Query
from mm_assets.uploads.send import send

ROOT = Path(__file__).parents[1]
UPLOADS = ROOT.parent / "shared" / "data" / "fashion"
QUICK = {"members": ["linear", "trees"]}  # networks on images are trained by other tests

pytestmark = pytest.mark.skipif(not UPLOADS.is_dir(), reason="the real uploads are not here")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    root = tmp_path_factory.mktemp("fashion")
    patch = pytest.MonkeyPatch()
    for name in ("MM_LAKE", "MM_TABLE", "MM_DATA", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    patch.setenv("MM_ROOT", str(root))
    shutil.copytree(ROOT / "dagster_project" / "defs", root / "dagster_project" / "defs")
    settings = Settings.from_environment()
    spec = load_spec(settings.defs_folder / "fashion" / "defs.yaml")
    quick = {
        f"model_{modality}": tuple(
            one.model_copy(update={"hyperparameters": QUICK}) for one in spec.candidates(modality)
        )
        for modality in Modality
    }
    home = tmp_path_factory.mktemp("home")
    with dg.instance_for_test(temp_dir=str(home)) as instance, held_open(instance):
        runner = Runner(spec.model_copy(update=quick), instance, print)
        store, lake = open_store(settings), Lake(settings)
        told = SimpleNamespace(outcomes=[], counts={}, store=store, spec=spec)

        def upload(name: str) -> None:
            send(lake, UPLOADS / f"{name}.zip", "fashion")
            told.outcomes += list(runner.sync())

        upload("labelled")
        told.outcomes += list(runner.train())
        told.models = ModelStore(lake, "fashion")
        upload("unlabelled")
        told.counts["unlabelled"] = of_last_upload(runner, store)
        upload("late-images")
        told.counts["late-images"] = store.counts("fashion")
        told.last = told.outcomes[-2].upload
        yield told
    patch.undo()


def of_last_upload(runner: Runner, store) -> dict[str, int]:
    upload = max(runner.instance.get_dynamic_partitions("fashion_uploads"))
    modalities = store.read("fashion", Query(upload=upload))["modality"].to_pylist()
    return {modality: modalities.count(modality) for modality in set(modalities)}


def test_every_run_and_every_check_is_good(story):
    assert [outcome for outcome in story.outcomes if not outcome.is_good] == []


def test_of_300_unlabelled_products_180_are_seen_with_their_image(story):
    assert story.counts["unlabelled"] == {"with_image": 180, "without_image": 120}


def test_the_late_images_turn_the_other_120_into_predictions_with_image(story):
    counts = story.counts["late-images"]
    # One row of the labelled upload has no season: it is predicted too, and it has an image.
    assert counts["with_image"] == 300 + 1
    assert counts["without_image"] == 0
    late = story.store.read("fashion", Query(upload=story.last))
    assert set(late["modality"].to_pylist()) == {"with_image"}
    assert late.num_rows == 120


def test_the_one_labelled_row_without_a_season_is_predicted_and_not_trained_on(story):
    [row] = story.store.read("fashion", Query(record_ids=["5398"])).to_pylist()
    assert row["prediction"] in story.spec.classes
    assert row["label"] is None


def test_both_models_beat_the_majority_class_even_after_a_short_training(story):
    for modality in Modality:
        champion = story.models.champion(modality)
        manifest = story.models.manifest(modality, champion.version)
        assert manifest["metrics"]["accuracy"] > manifest["baseline"]["accuracy"]
