"""The split doesn't leak: what is the same thing stands on one side of every split and fold."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import MMError
from mm_assets.contract.settings import Settings
from mm_assets.engines.automatic.records import folds_of
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import TRAINING_SET, of_dataset, of_upload
from mm_assets.reading.likeness import likeness_of
from mm_assets.tables.open import open_store
from mm_assets.training.near_images import near_pairs
from mm_assets.training.records import read_records
from mm_assets.training.splits import split_of
from mm_assets.training.times import read_times
from mm_assets.training.training_set import build_training_set
from mm_assets.uploads.received import read_parquet, read_receipt
from tests.make import dataset, drop_zip, found, processed, rows_of, table

Files = Mapping[str, bytes]


def photo(seed: int, side: int = 96) -> Image.Image:
    """Blobs of light and colour, as photographs have; another number, another image."""
    grid = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def copies(image: Image.Image) -> dict[str, bytes]:
    width, height = image.size
    cut = round(0.02 * width)
    return {
        "re-encoded": saved(image, "JPEG", quality=75),
        "half the size": saved(image.resize((width // 2, height // 2))),
        "larger": saved(image.resize((width * 3 // 2, height * 3 // 2))),
        "brighter": saved(ImageEnhance.Brightness(image).enhance(1.05)),
        "darker": saved(ImageEnhance.Brightness(image).enhance(0.9)),
        "cropped": saved(image.crop((cut, cut, width - cut, height - cut))),
    }


def lake_of(settings: Settings, folder: Path, name: str) -> Lake:
    return Lake(
        settings.model_copy(
            update={"lake": str(folder / name), "table": f"duckdb:///{folder / name}.duckdb"}
        )
    )


def training_set(lake: Lake, spec: DatasetSpec, *uploads: Files) -> dict[str, Any]:
    """Take the uploads in, one after the other, and build the training set; its document."""
    store = open_store(lake.settings)
    for number, files in enumerate(uploads):
        drop_zip(lake, f"{number}.zip", files)
        processed(lake, store, spec, f"{number}.zip")
    return build_training_set(lake, store, spec, run_id="run")


def sides(lake: Lake, document: Mapping[str, Any]) -> dict[str, str]:
    return {r["record_id"]: r["split"] for r in rows_of(lake, document, "training_set.parquet")}


def labelled(rows: Iterable[str], header: str = "id,age,colour,label") -> Files:
    return {"t.csv": table(header, *rows)}


@pytest.fixture
def lake(folder_settings: Settings) -> Lake:
    return Lake(folder_settings)


TWO_NUMBERS = {"age": "number", "weight": "number"}


def row(name: str, seed: int) -> str:
    age, weight = np.random.default_rng(seed).random(2)
    return f"{name},{age:.5f},{weight:.5f},{'cat' if seed % 2 else 'dog'}"


NUMBERS = "id,age,weight,label"


# -- equal rows -----------------------------------------------------------------------------------


def test_equal_rows_under_different_ids_stand_on_one_side(lake: Lake) -> None:
    spec = dataset(columns=TWO_NUMBERS)
    rows = [row(f"r{i}", i) for i in range(120)] + [row(f"copy{i}", i) for i in range(120)]
    document = training_set(lake, spec, labelled(rows, NUMBERS))
    stands = sides(lake, document)
    assert all(stands[f"r{i}"] == stands[f"copy{i}"] for i in range(120))
    assert document["split"]["groups"] == 120
    own = {name: split_of(name, spec.holdout_share) for name in stands}
    assert document["split"]["moved"] == sum(own[name] != stands[name] for name in own) > 0
    assert "240 records stay together in 120 groups" in document["split"]["words"]


def test_a_record_alone_stands_where_its_id_says(lake: Lake) -> None:
    spec = dataset(columns=TWO_NUMBERS)
    document = training_set(lake, spec, labelled([row(f"r{i}", i) for i in range(150)], NUMBERS))
    assert sides(lake, document) == {f"r{i}": split_of(f"r{i}", 0.2) for i in range(150)}
    assert document["split"]["words"] == ""


def test_rows_that_are_equal_by_chance_are_no_duplicates_and_that_is_told(lake: Lake) -> None:
    rows = [f"r{i},{i % 7},{'red' if i % 2 else 'blue'},{'cat' if i % 3 else 'dog'}"
            for i in range(140)]  # fmt: skip
    document = training_set(lake, dataset(), labelled(rows))
    assert document["split"]["grouped"] == 0
    assert document["split"]["ignored"]["equal_rows_by_chance"] == 140
    assert "equal by chance" in document["split"]["words"]
    assert sides(lake, document) == {f"r{i}": split_of(f"r{i}", 0.2) for i in range(140)}


def test_a_long_text_is_enough_and_a_short_one_is_not(lake: Lake) -> None:
    spec = dataset(columns={"said": "text"})
    words = [
        "fine",
        "bad",
        *(f"It came late and number {i} was broken and smelt of it" for i in range(40)),
    ]
    rows = [f"{who}{i},{words[i % 42]},cat" for who in ("a", "b") for i in range(42)]
    document = training_set(lake, spec, labelled(rows, "id,said,label"))
    assert document["split"]["grouped"] == 80
    stands = sides(lake, document)
    assert all(stands[f"a{i}"] == stands[f"b{i}"] for i in range(2, 42))


# -- images ---------------------------------------------------------------------------------------


def test_copies_of_an_image_are_near_and_other_images_are_not() -> None:
    images = [photo(seed) for seed in range(40)]
    likenesses = [likeness_of(saved(image)) for image in images]
    assert not len(near_pairs(likenesses))
    for image, own in itertools.product(images[:10], [likenesses]):
        for how, data in copies(image).items():
            again = likeness_of(saved(Image.open(io.BytesIO(data)).convert("RGB")))
            pairs = near_pairs([*own, again]) if again not in own else [(0, 40)]
            assert len(pairs) == 1, how


def test_a_copied_image_under_another_id_never_lies_on_the_other_side(lake: Lake) -> None:
    spec = dataset(columns={"age": "number"}, image_longest_side=64)
    first: dict[str, bytes] = {}
    second: dict[str, bytes] = {}
    hows = list(copies(photo(0)))
    for i in range(60):
        first[f"p{i}.png"] = saved(photo(i))
        second[f"q{i}.jpg"] = copies(photo(i))[hows[i % len(hows)]]
    rows = {who: labelled([f"{who}{i},{i % 5},{'cat' if i % 2 else 'dog'}" for i in range(60)],
                          "id,age,label") for who in "pq"}  # fmt: skip
    document = training_set(lake, spec, {**first, **rows["p"]}, {**second, **rows["q"]})
    stands = sides(lake, document)
    assert all(stands[f"p{i}"] == stands[f"q{i}"] for i in range(60))
    assert document["split"]["by"]["near_images"] == 120
    assert document["split"]["largest"] == 2
    data = read_records(lake, spec, Modality.WITH_IMAGE)
    groups = [name for part in ("training", "tuning") for name in data.groups[part]]
    ids = [name for part in ("training", "tuning") for name in data.ids[part]]
    codes = np.unique(groups, return_inverse=True)[1]
    truth = np.array([int(one[1:]) % 2 for one in ids])
    for known, asked in folds_of(truth, True, 5, 0, codes):  # noqa: FBT003
        assert not {ids[k][1:] for k in known} & {ids[k][1:] for k in asked}


def test_an_upload_that_was_received_before_there_were_likenesses_gets_them(lake: Lake) -> None:
    spec = dataset(columns={"age": "number"}, image_longest_side=64)
    files = {f"{who}{i}.png": saved(photo(i)) for who in "pq" for i in range(30)}
    files |= labelled([f"{who}{i},{i},{'cat' if i % 2 else 'dog'}" for who in "pq"
                       for i in range(30)], "id,age,label")  # fmt: skip
    now = training_set(lake, spec, files)
    upload = found_upload(lake)
    receipt = read_receipt(lake, "pets", upload)
    old = read_parquet(lake, receipt, "images.parquet").drop_columns(["likeness"])
    path = Path(lake.settings.root) / "images.parquet"
    pq.write_table(old, path)
    named = {"images.parquet": path}
    for name in receipt["files"]:
        if name != "images.parquet":
            named[name] = path.parent / name
            lake.fetch_published(receipt, name, named[name])
    lake.publish(of_upload("pets", upload, "raw_uploads"), named, receipt)
    lake.delete(of_dataset("pets", TRAINING_SET))  # which has them, too
    before = build_training_set(lake, open_store(lake.settings), spec, run_id="run")
    assert sides(lake, before) == sides(lake, now)
    assert before["split"]["by"]["near_images"] == 60
    assert lake.read_json(of_upload("pets", upload, "likenesses")) is not None


def found_upload(lake: Lake) -> str:
    return found(lake, "0.zip").upload


def test_one_image_for_all_that_have_none_is_no_evidence_and_that_is_told(lake: Lake) -> None:
    spec = dataset(columns=TWO_NUMBERS, image_longest_side=64)
    files = {f"r{i}.png": saved(photo(999 if i < 30 else i)) for i in range(100)}
    document = training_set(
        lake, spec, {**files, **labelled([row(f"r{i}", i) for i in range(100)], NUMBERS)}
    )
    assert document["split"]["grouped"] == 0
    assert document["split"]["ignored"]["images_shared_by_many"] == 30
    assert "30 records share an image" in document["split"]["words"]


# -- law 2 ----------------------------------------------------------------------------------------


def test_any_order_of_uploads_makes_the_same_split(
    folder_settings: Settings, tmp_path: Path
) -> None:
    spec = dataset(columns=TWO_NUMBERS, group_column="owner", image_longest_side=64)
    header = "id,age,weight,owner,label"

    def rows(who: str) -> Files:
        made = [row(f"{who}{i}", i).split(",") for i in range(40)]
        return labelled(
            [",".join([*m[:3], f"o{i % 13}" if i % 3 else "", m[3]]) for i, m in enumerate(made)],
            header,
        )

    uploads = [
        {**rows(who), **{f"{who}{i}.png": saved(photo(i % 17)) for i in range(0, 40, step)}}
        for who, step in (("a", 2), ("b", 3), ("c", 5))
    ]
    seen = []
    for number, order in enumerate(itertools.permutations(uploads)):
        own = lake_of(folder_settings, tmp_path, f"lake{number}")
        document = training_set(own, spec, *order)
        rows_ = rows_of(own, document, "training_set.parquet")
        seen.append([(r["record_id"], r["group"], r["split"]) for r in rows_])
    assert all(one == seen[0] for one in seen)


# -- group_column and time_column -----------------------------------------------------------------


def test_a_group_stays_together_and_on_its_side_when_others_come(lake: Lake) -> None:
    spec = dataset(columns={"age": "number"}, group_column="owner")
    header = "id,age,owner,label"
    first = [f"r{i},{i % 9},o{i % 40},{'cat' if i % 2 else 'dog'}" for i in range(120)]
    stands = sides(lake, training_set(lake, spec, labelled(first, header)))
    for owner in range(40):
        assert len({stands[f"r{i}"] for i in range(owner, 120, 40)}) == 1
    assert set(stands.values()) == {"training", "tuning", "holdout"}
    drop_zip(lake, "more.zip", labelled([f"n{i},{i % 9},o{i},cat" for i in range(40)], header))
    processed(lake, open_store(lake.settings), spec, "more.zip")
    document = build_training_set(lake, open_store(lake.settings), spec, run_id="run")
    later = sides(lake, document)
    assert {name: later[name] for name in stands} == stands
    assert all(later[f"n{i}"] == stands[f"r{i}"] for i in range(40))
    assert "`owner` (160)" in document["split"]["words"]


def test_a_record_without_a_group_is_a_group_of_its_own(lake: Lake) -> None:
    spec = dataset(columns={"age": "number"}, group_column="owner")
    rows = [f"r{i},{i % 9},{'o1' if i < 20 else ['', 'NA', '-'][i % 3]},cat" for i in range(90)]
    document = training_set(lake, spec, labelled(rows, "id,age,owner,label"))
    stands = sides(lake, document)
    assert len({stands[f"r{i}"] for i in range(20)}) == 1
    assert all(stands[f"r{i}"] == split_of(f"r{i}", 0.2) for i in range(20, 90))
    assert "70 records have no `owner`" in document["split"]["words"]


def test_the_newest_are_held_out_and_what_is_like_one_of_them_with_them(lake: Lake) -> None:
    spec = dataset(columns=TWO_NUMBERS, time_column="day", holdout_share=0.25)
    made = [row(f"r{i}", i).split(",") for i in range(100)]
    made[3][1:3] = made[99][1:3]  # an old record with the row of the newest
    days = [f"{1 + i % 28}/{1 + i // 28}/2026" if i >= 10 else "" for i in range(100)]
    rows = [",".join([*m[:3], day, m[3]]) for m, day in zip(made, days, strict=True)]
    document = training_set(lake, spec, labelled(rows, "id,age,weight,day,label"))
    held = {name for name, side in sides(lake, document).items() if side == "holdout"}
    assert held == {"r3"} | {f"r{i}" for i in range(76, 100)}
    assert "the newest by `day` are held out" in document["split"]["words"]
    assert document["split"]["without_time"] == 10


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (["2026-01-31", "2026-01-31T10:00:00+02:00", "2026-02-01 00:00"], [0, 1, 2]),
        (["31/01/2026", "1/2/2026"], [0, 1]),
        (["1/31/2026", "1/2/2026 10:00"], [1, 0]),
        (["1.2.2026", "3.1.2026"], [1, 0]),
        (["3 March 2026", "Jan 5, 2026"], [1, 0]),
        (["2.5", "1e3", "-1"], [2, 0, 1]),
    ],
)
def test_times_are_read_strictly(texts: list[str], order: list[int]) -> None:
    assert np.argsort(read_times(texts, "day", "here").values).tolist() == order


@pytest.mark.parametrize(
    ("texts", "code"),
    [(["01/02/2026", "03/04/2026"], "time_ambiguous"), (["soon", "2026-01-01"], "time_unreadable")],
)
def test_times_that_could_be_others_are_refused(texts: list[str], code: str) -> None:
    with pytest.raises(MMError) as caught:
        read_times(texts, "day", "here")
    assert caught.value.code == code
    assert texts[0] in caught.value.what


def test_a_few_unreadable_times_are_told_and_never_held_out(lake: Lake) -> None:
    spec = dataset(columns={"age": "number"}, time_column="day")
    rows = [f"r{i},{i % 9},{'soon' if i == 7 else 2000 + i},cat" for i in range(60)]
    document = training_set(lake, spec, labelled(rows, "id,age,day,label"))
    assert "1 times could not be read [time_unreadable]: 'soon'" in document["split"]["words"]
    assert sides(lake, document)["r7"] != "holdout"


def test_one_group_alone_is_refused_in_words(lake: Lake) -> None:
    spec = dataset(columns={"age": "number"}, group_column="owner")
    rows = [f"r{i},{i % 9},o1,{'cat' if i % 2 else 'dog'}" for i in range(90)]
    training_set(lake, spec, labelled(rows, "id,age,owner,label"))
    with pytest.raises(MMError) as caught:
        read_records(lake, spec, Modality.WITHOUT_IMAGE)
    assert caught.value.code == "too_few_groups"
    assert "90 labelled records are 1 groups by `owner`" in caught.value.what


def test_a_labelled_table_without_the_named_column_is_refused_and_one_to_predict_is_not(
    lake: Lake,
) -> None:
    spec = dataset(columns={"age": "number"}, group_column="owner")
    store = open_store(lake.settings)
    drop_zip(lake, "a.zip", labelled([f"r{i},{i},cat" for i in range(5)], "id,age,label"))
    document = processed(lake, store, spec, "a.zip")
    assert "owner" in str(document["left_out"])
    drop_zip(lake, "b.zip", labelled([f"s{i},{i}" for i in range(5)], "id,age"))
    assert processed(lake, store, spec, "b.zip")["counts"]["to_predict"] == 5


def test_a_table_of_labels_alone_needs_no_such_column(lake: Lake) -> None:
    spec = dataset(columns={"age": "number"}, group_column="owner")
    rows = labelled([f"r{i},{i},o{i % 4}" for i in range(8)], "id,age,owner")
    labels = labelled([f"r{i},cat" for i in range(8)], "id,label")
    document = training_set(lake, spec, rows, labels)
    groups = {r["group"] for r in rows_of(lake, document, "training_set.parquet")}
    assert groups == {f"owner=o{i}" for i in range(4)}


@pytest.mark.parametrize(
    "keys",
    [
        {"group_column": "id"},
        {"time_column": "label"},
        {"group_column": "x", "time_column": "x"},
        {"group_column": "x", "records": "images", "columns": {}},
    ],
)
def test_mistakes_in_the_yaml_speak(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="_column"):
        dataset(**keys)


# -- folds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("of_classes", "many"), itertools.product([True, False], [60, 3000]))
def test_folds_keep_groups_whole_and_ask_about_every_record(of_classes: bool, many: int) -> None:  # noqa: FBT001
    rng = np.random.default_rng(0)
    size = 10 * many
    groups = rng.integers(0, many, size)
    truth = (rng.random(size) < 0.1).astype(int) if of_classes else rng.random(size)
    asked_about = []
    for known, asked in folds_of(truth, of_classes, 5, 0, groups):
        assert not set(groups[known]) & set(groups[asked])
        assert 0.15 < len(asked) / size < 0.25
        if of_classes:
            assert 0.05 < truth[asked].mean() < 0.15
        asked_about += asked.tolist()
    assert sorted(asked_about) == list(range(size))


def test_folds_without_repeated_groups_are_those_of_single_records() -> None:
    truth = np.arange(100) % 2
    alone = folds_of(truth, True, 5, 0)  # noqa: FBT003
    named = folds_of(truth, True, 5, 0, np.arange(100))  # noqa: FBT003
    assert all((a[0] == b[0]).all() for a, b in zip(alone, named, strict=True))


def test_a_class_of_one_group_is_in_all_that_is_learnt_from() -> None:
    truth = np.array([0, 1] * 20 + [2] * 5)
    groups = np.array([*range(40), *[77] * 5])
    for known, asked in folds_of(truth, True, 5, 0, groups):  # noqa: FBT003
        assert 2 in truth[known]
        assert 2 not in truth[asked]


# -- what it is for -------------------------------------------------------------------------------


def test_an_engine_that_makes_folds_is_not_fooled_by_copies(tmp_path: Path) -> None:
    """Labels that nothing explains: an honest log loss is that of a coin, 0.69."""
    from mm_assets.engines.automatic.engine import AutomaticEngine
    from mm_assets.engines.protocol import Task

    rng = np.random.default_rng(1)
    once = pd.DataFrame(rng.random((100, 3)), columns=list("abc"))
    once["label"] = rng.choice(["cat", "dog"], 100)
    frame = pd.concat([once] * 4, ignore_index=True)
    losses = {}
    for names in (None, [f"r{i % 100}" for i in range(400)]):
        engine = AutomaticEngine(hyperparameters={"members": ["trees"]}, time_limit=20, seed=0)
        columns = dict.fromkeys("abc", "number")
        task = Task(frame[:300], frame[300:], columns, "label", "binary", groups=names)
        folder = tmp_path / str(names is None)
        folder.mkdir()
        engine.train(task, folder, lambda _: None)
        said = engine.out_of_fold
        truth = said.to_numpy()[np.arange(400), (frame["label"] == "dog").astype(int)]
        losses[names is None] = float(-np.log(np.maximum(truth, 1e-9)).mean())
    assert losses[True] < 0.4
    assert losses[False] > 0.6


def test_copies_no_longer_make_a_model_look_better_than_it_is(lake: Lake) -> None:
    """Labels that nothing explains: only who remembers the copy of a record can know its label."""
    from sklearn.neighbors import KNeighborsClassifier

    spec = dataset(columns=TWO_NUMBERS)
    rng = np.random.default_rng(0)
    labels = rng.choice(["cat", "dog"], 400)
    rows = [",".join([*row(f"{who}{i}", i).split(",")[:3], labels[i]])
            for who in "abc" for i in range(400)]  # fmt: skip
    document = training_set(lake, spec, labelled(rows, NUMBERS))
    records = rows_of(lake, document, "training_set.parquet")
    features = np.array([[r["features"]["age"], r["features"]["weight"]] for r in records])
    truth = np.array([r["label"] for r in records])

    def accuracy(held: Iterable[bool]) -> float:
        out = np.array(list(held))
        model = KNeighborsClassifier(1).fit(features[~out], truth[~out])
        return float(model.score(features[out], truth[out]))

    leaking = accuracy(split_of(r["record_id"], 0.2) == "holdout" for r in records)
    honest = accuracy(r["split"] == "holdout" for r in records)
    assert leaking > 0.9
    assert abs(honest - 0.5) < 0.12
