"""The AutoGluon engine, on a real model trained once a session: small, but with every kind."""

import io
import os
import pickle
import random
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFile

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import ModelError
from mm_assets.engines.autogluon import presets
from mm_assets.engines.autogluon.engine import AutoGluonEngine
from mm_assets.engines.autogluon.predictor import image_input
from mm_assets.engines.autogluon.presets import build_text_backbone
from mm_assets.engines.protocol import Task
from mm_assets.engines.shared import backbones, guards
from mm_assets.engines.shared.eyes import Eyes, rounded
from mm_assets.engines.shared.weights import weights_for
from mm_assets.lake.lake import Lake
from mm_assets.predictions.ask import load as load_once
from mm_assets.reading.images import ImageRefused, normalise
from mm_assets.registry.store import REQUIRED, ModelStore
from tests.engines import frames
from tests.engines.frames import imaged, imports, learn, refused
from tests.engines.test_weights import rare_task
from tests.engines.threads import assert_same_for_threads
from tests.make import dataset, plain_image

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: no test may ask the hub

COLUMNS = {**frames.COLUMNS, "image": "image"}
QUICK = {"optim.max_epochs": 2, "model.timm_image.image_size": 32}


def records(count: int, seed: int = 0) -> pd.DataFrame:
    return imaged(frames.records(count, seed))


def train(folder, frame=None, *, columns=COLUMNS, problem_type="binary", said=None, **engine):
    frame = records(80) if frame is None else frame
    made = AutoGluonEngine(**{"hyperparameters": QUICK, **engine})
    return learn(made, folder, frame, said, columns=columns, problem_type=problem_type)


def only(*names: str) -> dict[str, str]:
    return {name: COLUMNS[name] for name in names}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Threads cost such small models more than they give, the more so on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder the model was moved to after training, and what it predicted before.

    Its image network began with the embedded weights.
    """
    folder = tmp_path_factory.mktemp("trained") / "here"
    folder.mkdir()
    said: list[str] = []
    train(folder, said=said)
    before = AutoGluonEngine().load(folder).predict(features())
    moved = folder.parent / "elsewhere"
    shutil.move(folder, moved)
    return moved, before, said


@pytest.fixture(scope="session")
def model(trained):
    return AutoGluonEngine().load(trained[0])


def features(count: int = 20) -> pd.DataFrame:
    return records(count, seed=1)[[*COLUMNS]]


def code_of(action) -> str:
    return refused(action).code


def test_importing_the_engine_imports_nothing_heavy():
    heavy = ("torch", "autogluon", "lightning", "transformers", "timm", "tokenizers")
    assert imports("mm_assets.engines.autogluon.engine", *heavy) == []


def test_a_moved_model_predicts_the_same_bit_for_bit(trained, model):
    pd.testing.assert_frame_equal(model.predict(features()), trained[1], check_exact=True)


def test_no_file_of_the_model_names_a_place_of_the_machine_that_trained_it(trained):
    for path in trained[0].rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"mm-backbones-" not in content, path
            assert str(trained[0].parent).encode() not in content, path


def test_an_image_network_can_begin_with_the_embedded_weights(tmp_path):
    """What AutoGluon builds of them sees what the eyes see, before anything is trained."""
    import torch
    from autogluon.multimodal.models.timm_image import TimmAutoModelForImagePrediction

    asked = presets.from_scratch({"image"}, [], tmp_path, {}, seed=0, is_warm=True)
    built = TimmAutoModelForImagePrediction("timm_image", asked[presets.IMAGE_NAME]).eval()
    first = next(iter(package_weights().values()))
    assert torch.equal(built.model.conv_stem.weight, first)
    assert built.image_size == 224
    assert np.allclose(built.image_mean, 127 / 255)
    assert np.allclose(built.image_std, 128 / 255)
    image = plain_image("red")
    shown = (backbones.pixels(image, (224, 224)) - built.image_mean) / built.image_std
    with torch.inference_mode():
        found = built.model(torch.tensor(shown.transpose(2, 0, 1)[None], dtype=torch.float32))
    np.testing.assert_allclose(rounded(found.numpy()), Eyes().embed([image]), rtol=1e-2, atol=1e-3)


def test_a_network_that_began_with_them_is_trained_and_asked_with_their_normalisation(model):
    (learner,) = [m.learner for m in model._members if image_input(m.learner)]
    ((size, mean, deviation),) = image_input(learner)
    assert size == 32
    assert np.allclose([mean, deviation], [[127 / 255] * 3, [128 / 255] * 3])
    learnt = learner._model.model.conv_stem.weight.numpy(force=True)
    first = next(iter(package_weights().values())).numpy()
    assert not np.array_equal(learnt, first)
    np.testing.assert_allclose(learnt, first, atol=0.05)  # a few steps away from its beginning


def package_weights():
    """The tensors as the package ships them, under its own names."""
    import torch

    return torch.load(io.BytesIO(backbones.embedded_weights()), weights_only=True)


def test_training_says_how_each_epoch_went(trained):
    said = trained[2]
    assert said[0] == "training on 64 records, 64 of them with an image; tuning on 16"
    assert said[1].startswith("table: epoch 1/2, validation log loss ")
    assert said[2].startswith("table: epoch 2/2, ")
    assert said[3].startswith("image: epoch 1/2, ")
    assert re.fullmatch(r"trained in \d+ s on (the processor|NVIDIA .+)", said[-1])


def test_probabilities_have_the_class_names_and_add_up_to_one(model):
    frame = features()
    predicted = model.predict(frame)
    assert list(predicted.columns) == model.classes == ["k0", "k1"]
    assert predicted.index.equals(frame.index)
    assert (predicted.dtypes == np.float64).all()
    np.testing.assert_allclose(predicted.sum(axis=1), 1)


def test_neighbours_do_not_matter(model):
    frame = features(70)
    together = model.predict(frame)
    backwards = model.predict(frame.iloc[::-1]).loc[frame.index]
    alone = pd.concat([model.predict(frame.iloc[[n]]) for n in range(0, 70, 3)])
    np.testing.assert_allclose(backwards, together, atol=1e-5)
    np.testing.assert_allclose(alone, together.loc[alone.index], atol=1e-5)


def test_the_network_gets_and_says_what_it_does_when_autogluon_asks_it(model):
    import torch

    frame = features(8)
    frame["price"] = [np.nan, 1e30, -1e30, 0.0, *frame["price"].iloc[4:]]
    frame["brand"] = [None, "never seen", "", *frame["brand"].iloc[3:]]
    frame["title"] = [None, "", "words " * 300, *frame["title"].iloc[3:]]
    prepared = guards.prepared_frame(frame, model.columns, model._ranges)
    for member in model._members:
        for some in (prepared, prepared.iloc[[1]]):
            batch = some[member._columns].reset_index(drop=True)
            learner, processors = member.learner, member._batches._processors
            asked = {"df_preprocessor": learner._df_preprocessor, "data_processors": processors}
            theirs = learner.process_batch(data=batch, **asked)
            ours = member._batches.batch(batch)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
            said = learner.realtime_predict(data=batch, **asked, num_gpus=0, precision=32)
            expected = torch.log_softmax(said[0]["logits"].double(), dim=1)
            np.testing.assert_allclose(member.outputs(some), expected, rtol=0, atol=1e-9)


def test_many_threads_get_the_answers_that_one_gets(model):
    assert_same_for_threads(model, features(12), within=1e-5)


def test_the_number_of_processors_does_not_matter(model, monkeypatch):
    """With more threads the last digits of a larger network's answer would be others."""
    import torch

    alone, threads = model.predict(features(71)), []
    for member in model._members:
        real = member._logits

        def noted(batch, real=real):
            threads.append(torch.get_num_threads())
            return real(batch)

        monkeypatch.setattr(member, "_logits", noted)
    try:
        torch.set_num_threads(3)
        assert model.predict(features(71)).equals(alone)
    finally:
        torch.set_num_threads(1)
    assert threads == [1] * 2 * len(model._members)


def test_strange_neighbours_do_not_matter_either(model):
    """Such as make AutoGluon pad texts, scale numbers or guess a column's type anew."""
    plain = features(6)
    strange = features(6).set_axis([f"s{n}" for n in range(6)])
    strange["price"] = [np.nan, 1e300, -1e300, 0.0, 1.0, 2.0]
    strange["brand"] = [None, "never seen", "7", "8", "", "b"]
    strange["title"] = ["long " * 3000, None, "", "1", "2", "9999"]
    strange["image"] = [plain_image((9, 9, 9), side, side) for side in (13, 16, 33, 64, 200, 301)]
    alone = model.predict(plain)
    among = model.predict(pd.concat([strange, plain])).loc[plain.index]
    np.testing.assert_allclose(among, alone, atol=1e-5)


def test_no_records_give_no_predictions(model):
    predicted = model.predict(features().iloc[:0])
    assert list(predicted.columns) == ["k0", "k1"]
    assert predicted.empty


def test_the_order_of_columns_does_not_matter(model):
    frame = features()
    swapped = frame[frame.columns[::-1]]
    pd.testing.assert_frame_equal(model.predict(swapped), model.predict(frame))


def test_the_callers_frame_is_not_changed(model):
    frame = features()
    before = frame.copy(deep=True)
    model.predict(frame)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.drop(columns="brand"),
        lambda frame: frame.assign(colour="red"),
        lambda frame: frame.assign(label="red"),
        lambda frame: frame.rename(columns={"brand": "maker"}),
        lambda frame: pd.concat([frame, frame[["brand"]]], axis=1),
    ],
    ids=["missing", "extra", "label", "renamed", "twice"],
)
def test_other_columns_than_in_training_are_refused(model, change):
    assert code_of(lambda: model.predict(change(features()))) == "model_columns_differ"


@pytest.mark.parametrize("number", [np.inf, -np.inf])
def test_infinite_numbers_are_refused(model, number):
    assert code_of(lambda: model.predict(features().assign(price=number))) == "number_not_finite"


@pytest.mark.parametrize("absent", [None, b"", np.nan, "path.jpg"])
def test_a_record_without_an_image_is_refused(model, absent):
    frame = features()
    frame.iat[2, frame.columns.get_loc("image")] = absent
    assert code_of(lambda: model.predict(frame)) == "image_missing"


def test_missing_unseen_and_huge_values_still_get_a_probability(model):
    frame = features(4)
    frame["price"] = [np.nan, 1e300, -1e300, 15.0]
    frame["brand"] = [None, "never seen", "brand 1", ""]
    frame["title"] = [None, "", "words nobody wrote", "red " * 5000]
    assert np.isfinite(model.predict(frame).to_numpy()).all()


def test_half_a_jpeg_is_still_noticed_after_autogluon_is_imported(model):
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # as an import of AutoGluon by somebody else leaves it
    stream = io.BytesIO()
    Image.effect_noise((200, 200), 90).convert("RGB").save(stream, "JPEG")
    whole = stream.getvalue()
    with pytest.raises(ImageRefused, match="cut short"):
        normalise(whole[: len(whole) // 2], longest_side=64, maximum_pixels=10**6)
    assert normalise(whole, longest_side=64, maximum_pixels=10**6).width == 200
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


class Marking:
    """What its pickle holds makes a file as soon as it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture
def stored(trained, folder_settings):
    """The trained model in a model store, promoted; and what loads it there for a prediction."""
    models = ModelStore(Lake(folder_settings), "things")
    table = {column: kind for column, kind in COLUMNS.items() if kind != "image"}
    spec = dataset(dataset="things", columns=table)
    manifest = dict.fromkeys(REQUIRED) | {
        "engine": {"engine": "autogluon"},
        "columns": COLUMNS,
        "training_fingerprint": "abc",
    }
    model = models.save("with_image", trained[0], manifest)
    champion = models.promote("with_image", model.version, "good")
    return models, model, lambda: load_once(models, spec, Modality.WITH_IMAGE, champion)


def pickles_of(folder):
    return sorted(folder.rglob("*.pkl"))


def test_one_changed_byte_in_any_file_of_a_stored_model_is_refused(stored, monkeypatch):
    """In the lake, and in the copy that was verified before; the engine is not even asked."""
    models, model, load = stored
    monkeypatch.setattr(AutoGluonEngine, "load", lambda *_: pytest.fail("it was loaded"))
    files = model.manifest["files"]
    assert len(files) > 10
    in_lake = f"datasets/things/models/with_image/{model.version}/files/"
    for name, facts in files.items():
        whole = models.lake.read(in_lake + name)
        assert facts["bytes"] == len(whole) > 0
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        models.lake.write(in_lake + name, bytes(changed))
        assert code_of(load) == "model_tampered", name
        assert list(models.cache.rglob(name)) == []
        models.lake.write(in_lake + name, whole)
    local = models.fetch("with_image", model.version)
    for name in files:
        whole = (local / name).read_bytes()
        changed = bytearray(whole)
        changed[-1] ^= 0x80
        (local / name).chmod(0o600)
        (local / name).write_bytes(changed)
        assert code_of(load) == "model_tampered", name
        (local / name).write_bytes(whole)


def test_no_pickle_that_somebody_put_into_a_stored_model_is_ever_loaded(trained, stored, tmp_path):
    models, model, load = stored
    mark = tmp_path / "mark"
    evil = pickle.dumps(Marking(mark))
    in_lake = f"datasets/things/models/with_image/{model.version}/files/"
    pickles = [path.relative_to(trained[0]).as_posix() for path in pickles_of(trained[0])]
    assert len(pickles) >= 4
    for name in pickles:
        whole = models.lake.read(in_lake + name)
        padded = evil + bytes(max(0, len(whole) - len(evil)))
        models.lake.write(in_lake + name, padded)
        assert code_of(load) == "model_tampered", name
        models.lake.write(in_lake + name, whole)
    local = models.fetch("with_image", model.version)
    for name in pickles:
        (local / name).chmod(0o600)
        (local / name).write_bytes(evil)
    assert code_of(load) == "model_tampered"
    assert not mark.exists()
    # So that this test can fail: the same files, loaded without being verified, leave the mark.
    assert code_of(lambda: AutoGluonEngine().load(local)) == "model_unreadable"
    assert mark.exists()


def test_a_damaged_model_is_refused_with_its_place(trained, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(trained[0], damaged)
    (damaged / "table" / "model.ckpt").write_bytes(b"nothing")
    assert code_of(lambda: AutoGluonEngine().load(damaged)) == "model_unreadable"


def test_regression_is_quiet_repeatable_and_leaves_random_numbers_alone(tmp_path, capfd):
    frame = records(80).assign(label=lambda f: f["price"].fillna(5) * 1000 + 5)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    np.random.seed(3)
    random.seed(3)
    expected = np.random.RandomState(3).rand(), random.Random(3).random()
    capfd.readouterr()
    predicted = [
        AutoGluonEngine()
        .load(train(folder, frame, columns=only("price", "brand"), problem_type="regression"))
        .predict(frame[["price", "brand"]])
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert capfd.readouterr() == ("", "")
    assert (np.random.rand(), random.random()) == expected
    assert list(predicted[0].columns) == ["value"]
    pd.testing.assert_frame_equal(predicted[0], predicted[1], check_exact=True)
    assert predicted[0]["value"].between(-15_000, 30_000).all()


@pytest.mark.parametrize("column", ["title", "image"])
def test_one_kind_of_column_is_enough(tmp_path, column):
    train(tmp_path, columns=only(column))
    predicted = AutoGluonEngine().load(tmp_path).predict(features()[[column]])
    assert predicted.shape == (20, 2)


def test_columns_that_never_vary_are_taken_but_not_used(tmp_path):
    frame = records(80).assign(brand="brand 1")
    train(tmp_path, frame, columns=only("price", "brand"))
    asked = features()[["price", "brand"]]
    model = AutoGluonEngine().load(tmp_path)
    pd.testing.assert_frame_equal(model.predict(asked), model.predict(asked.assign(brand="other")))


def test_a_class_that_only_the_tuning_part_knows_is_learnt_all_the_same(tmp_path):
    frame = records(80)
    frame.iloc[-1, frame.columns.get_loc("label")] = "k2"
    train(tmp_path, frame, columns=only("price"), problem_type="multiclass")
    assert AutoGluonEngine().load(tmp_path).classes == ["k0", "k1", "k2"]


def test_pretrained_backbones_come_from_local_folders_and_are_not_needed_afterwards(tmp_path):
    image = backbones.build_image_backbone(tmp_path / "image")
    text = build_text_backbone(tmp_path / "text", ["red shoe", "blue hat"], width=8)
    (tmp_path / "model").mkdir()
    train(
        tmp_path / "model",
        columns=only("title", "image"),
        preset="pretrained",
        image_backbone=str(image),
        text_backbone=str(text),
        hyperparameters={**QUICK, "optim.max_epochs": 1, "model.timm_image.train_transforms": []}
        | {"model.timm_image.train_transforms": ["resize_to_square"]},
    )
    shutil.rmtree(image)
    shutil.rmtree(text)
    predicted = AutoGluonEngine().load(tmp_path / "model").predict(features()[["title", "image"]])
    assert np.isfinite(predicted.to_numpy()).all()


@pytest.mark.parametrize("column", ["title", "image"])
def test_a_backbone_that_the_hub_does_not_give_is_named_with_what_to_do(tmp_path, column):
    with pytest.raises(ModelError, match=r"preset embedded") as caught:
        train(tmp_path, columns=only(column), preset="pretrained")
    assert caught.value.code == "backbone_unreachable"
    assert (
        "_backbone: google/electra-small-discriminator" in caught.value.where or column == "image"
    )


@pytest.mark.parametrize("preset", ["pretrained", "high", "best"])
def test_every_preset_names_an_image_backbone_that_timm_has_and_takes_another(preset):
    import timm

    engine = AutoGluonEngine(preset=preset)
    assert timm.is_model_pretrained(engine.image_backbone)
    assert engine.text_backbone.count("/") == 1
    own = AutoGluonEngine(preset=preset, image_backbone="./mine")
    assert (own.image_backbone, own.text_backbone) == ("./mine", engine.text_backbone)


def test_the_embedded_weights_need_no_hub_with_any_preset(tmp_path):
    assert AutoGluonEngine(image_backbone="embedded").preset == "embedded"
    asked = presets.pretrained({"image"}, "embedded", "", tmp_path, {})
    assert backbones.image_architecture(asked[presets.IMAGE_NAME]) == "tf_efficientnet_lite0"


def test_half_a_backbone_folder_is_refused(tmp_path):
    backbones.build_image_backbone(tmp_path / "image")
    (tmp_path / "image" / "pytorch_model.bin").unlink()
    engine = {"preset": "pretrained", "image_backbone": str(tmp_path / "image")}
    code = code_of(lambda: train(tmp_path / "model", columns=only("image"), **engine))
    assert code == "backbone_incomplete"


@pytest.mark.parametrize(
    ("change", "columns", "code"),
    [
        ({"label": "k0"}, only("price"), "classes_differ"),
        ({"label": None}, only("price"), "label_missing"),
        ({"price": 1.0}, only("price"), "nothing_to_learn_from"),
        ({"price": np.inf}, only("price"), "number_not_finite"),
        ({"image": None}, only("image"), "records_missing"),
    ],
)
def test_records_that_nothing_can_be_learnt_from_are_refused(tmp_path, change, columns, code):
    assert code_of(lambda: train(tmp_path, records(80).assign(**change), columns=columns)) == code


@pytest.mark.parametrize(
    ("engine", "code"),
    [
        ({"preset": "wonderful"}, "preset_unknown"),
        ({"image_backbone": "resnet18"}, "backbone_not_used"),
        ({"preset": "from_scratch", "image_backbone": "embedded"}, "backbone_not_used"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(engine, code):
    assert code_of(lambda: AutoGluonEngine(**engine)) == code


def test_records_without_an_image_teach_the_table_part_only(tmp_path):
    """Half of the rows have no image; one class is never seen in an image and is left out."""
    rows = [
        {
            "size": float(n % 7),
            "image": plain_image((200 * (n % 2), 90, 90), 24, 24) if n % 4 < 2 else None,
            "kind": f"k{n % 2}",
        }
        for n in range(80)
    ]
    rows += [{"size": 50.0, "image": None, "kind": "never seen"} for _ in range(10)]
    frame = pd.DataFrame(rows)
    frame["image"] = frame["image"].astype(object).where(frame["image"].notna(), None)
    engine = AutoGluonEngine(hyperparameters={"optim.max_epochs": 1})
    said: list[str] = []
    columns = {"size": "number", "image": "image"}
    parts = frame.iloc[:70].reset_index(drop=True), frame.iloc[70:].reset_index(drop=True)
    engine.train(Task(*parts, columns, "kind", "binary"), tmp_path, said.append)
    assert said[0].startswith("training on 70 records, 36 of them with an image")
    predictor = engine.load(tmp_path)
    assert predictor.classes == ["k0", "k1"]
    with pytest.raises(ModelError, match="no image"):
        predictor.predict(frame[["size", "image"]].iloc[2:3])


def test_records_of_a_class_that_weighs_more_are_repeated_and_confidence_stays_honest(tmp_path):
    task, later = rare_task(800, 0.1)
    weights = weights_for("balanced", [*task.training["label"], *task.tuning["label"]])
    said: list[str] = []
    AutoGluonEngine().train(replace(task, class_weights=weights), tmp_path, said.append)
    assert int(said[0].split()[2]) > 1.6 * len(task.training)
    probability = AutoGluonEngine().load(tmp_path).predict(later[["size"]])["rare"]
    share = (later["label"] == "rare").mean()
    assert probability.mean() == pytest.approx(share, abs=0.05)  # with the weights it were 0.4
