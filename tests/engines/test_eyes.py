"""Eyes: the embedded backbone, and vectors that depend on nothing but the image."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mm_assets.contract.errors import ModelError
from mm_assets.engines.gradient_boosting import GradientBoostingEngine
from mm_assets.engines.shared import backbones, eyes
from mm_assets.engines.shared.eyes import Eyes
from mm_assets.engines.shared.one_thread_each import one_thread_each
from tests.engines.frames import imaged, imports, learn, records
from tests.make import draw_image, images_looked_at

QUICK = {"n_estimators": 10}


class Kept:
    """Vectors in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, np.ndarray] = {}
        self.writes: list[int] = []

    def read(self, backbone: str, images: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: self.kept[name] for name in images if name in self.kept}

    def write(self, backbone: str, vectors: Mapping[str, np.ndarray]) -> None:
        self.writes.append(len(vectors))
        self.kept.update({name: v.astype(np.float16) for name, v in vectors.items()})


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every image that reaches a network."""
    return images_looked_at(monkeypatch)


def test_who_only_asks_for_width_and_identity_does_not_wait_for_torch() -> None:
    module = "mm_assets.engines.shared.eyes as e; e.Eyes().width; e.Eyes().identity"
    assert imports(module, "torch", "timm") == []
    made = Eyes()
    assert made.width == 1280
    assert made.identity == "tf_efficientnet_lite0-579344248a93e230-1"


def test_the_embedded_backbone_sees_what_its_training_taught_it() -> None:
    """Without weights that fit, two crops of one photograph are no nearer than two photographs."""
    import io

    from PIL import Image
    from sklearn.datasets import load_sample_images

    crops = []
    for photograph in load_sample_images().images:
        for left in (0, 200):
            buffer = io.BytesIO()
            Image.fromarray(photograph[:400, left : left + 400]).save(buffer, "JPEG")
            crops.append(buffer.getvalue())
    vectors = Eyes().embed(crops)
    near = np.corrcoef(vectors)
    assert min(near[0, 1], near[2, 3]) > near[:2, 2:].max() + 0.2


def test_a_vector_is_the_same_alone_in_a_batch_in_any_number_of_threads_and_read_back() -> None:
    import torch

    images = [draw_image(n, side=20 + n) for n in range(7)]
    kept = Kept()
    together = Eyes(vectors=kept).embed([*images, images[0]])
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together[-1], together[0])
    for place in (0, 5):
        np.testing.assert_array_equal(Eyes().embed([images[place]])[0], together[place])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        np.testing.assert_array_equal(Eyes().embed(images[::-1]), together[-2::-1])
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(Eyes(vectors=kept).embed(images), together[:-1])
    assert torch.get_num_threads() == threads


def test_a_thread_that_runs_a_network_has_no_threads_of_its_own() -> None:
    import torch

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        asked = one_thread_each().map(lambda _: torch.get_num_threads(), range(9))
        assert set(asked) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_many_threads_at_once_see_what_one_sees_and_torch_keeps_its_number_of_threads() -> None:
    import torch

    threads = torch.get_num_threads()
    images = [draw_image(n) for n in range(6)]
    alone = Eyes().embed(images)
    shared = Eyes()
    with ThreadPoolExecutor(8) as pool:
        turns = [[*images[n % 6 :], *images[: n % 6]] for n in range(8)]
        seen = list(pool.map(shared.embed, turns))
        assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {threads}
    for n, vectors in enumerate(seen):
        np.testing.assert_array_equal(np.roll(vectors, n % 6, axis=0), alone)
    assert torch.get_num_threads() == threads


def test_only_distinct_images_that_nobody_knows_reach_the_network(looked: list[bytes]) -> None:
    kept = Kept()
    first, second = draw_image(1), draw_image(2)
    Eyes(vectors=kept).embed([first, first])
    assert looked == [first]
    one = Eyes(vectors=kept)
    one.embed([first, second, first])
    one.embed([second])
    assert looked == [first, second]
    assert set(kept.kept) == {hashlib.sha256(i).hexdigest() for i in (first, second)}


def test_a_vector_of_another_width_is_not_believed(looked: list[bytes]) -> None:
    kept, image = Kept(), draw_image(1)
    kept.kept[hashlib.sha256(image).hexdigest()] = np.zeros(3, dtype=np.float32)
    assert Eyes(vectors=kept).embed([image]).any()
    assert looked == [image]


def test_what_was_looked_at_before_a_stop_is_kept(
    monkeypatch: pytest.MonkeyPatch, looked: list[bytes]
) -> None:
    monkeypatch.setattr(eyes, "AT_A_TIME", 2)
    monkeypatch.setattr(eyes, "KEPT_AT_ONCE", 4)
    images, kept, said = [draw_image(n) for n in range(9)], Kept(), []

    def stop(words: str) -> None:
        said.append(words)
        if len(said) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Eyes(vectors=kept).embed(images, stop)
    assert said[-1] == "looked at 6 of 9 new images"
    assert kept.writes == [4, 2]
    Eyes(vectors=kept).embed(images)
    assert len(looked) == 9


@pytest.fixture
def tampered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Installed weights of which one byte differs."""
    weights = bytearray(backbones.embedded_weights())
    weights[len(weights) // 2] ^= 1
    file = tmp_path / backbones._EMBEDDED_PACKAGE / backbones._EMBEDDED_FILE
    file.parent.mkdir(parents=True)
    (tmp_path / backbones._EMBEDDED_PACKAGE / "__init__.py").write_text("")
    file.write_bytes(weights)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    eyes._network.cache_clear()
    yield file
    eyes._network.cache_clear()


def test_weights_that_were_tampered_with_are_refused_before_anything_reads_them(
    tampered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ModelError) as caught:
        Eyes().embed([draw_image(1)])
    assert caught.value.code == "backbone_differs"
    assert str(tampered) in caught.value.where


def test_a_network_that_the_weights_do_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "EMBEDDED_ARCHITECTURE", "tf_efficientnet_lite1")
    with pytest.raises(ModelError) as caught:
        backbones.read_embedded_backbone()
    assert caught.value.code == "backbone_incomplete"


# -- a model that sees through the embedded backbone ----------------------------------------------


COLUMNS = {"image": "image"}


def test_a_model_does_not_carry_the_embedded_backbone_and_needs_the_very_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    frame = imaged(records(40))
    here = tmp_path / "model"
    here.mkdir()
    made = GradientBoostingEngine(image_backbone="embedded", hyperparameters=QUICK)
    learn(made, here, frame, columns=COLUMNS)
    assert sum(path.stat().st_size for path in here.rglob("*")) < 200_000
    moved = shutil.move(here, tmp_path / "elsewhere")
    model = GradientBoostingEngine().load(moved)
    assert len(model.predict(frame[["image"]])) == 40
    request.getfixturevalue("tampered")
    with pytest.raises(ModelError) as caught:
        GradientBoostingEngine().load(moved)
    assert caught.value.code == "backbone_differs"
    monkeypatch.setattr(eyes, "PREPARED", 2)
    with pytest.raises(ModelError) as caught:
        GradientBoostingEngine().load(moved)
    assert "tf_efficientnet_lite0-579344248a93e230-1" in caught.value.what


def test_a_backbone_of_ones_own_is_looked_through_once_for_all_models(
    tmp_path: Path, looked: list[bytes]
) -> None:
    folder = backbones.build_image_backbone(tmp_path / "small")
    frame = imaged(records(30))
    kept = Kept()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = GradientBoostingEngine(
            image_backbone=str(folder), hyperparameters=QUICK, vectors=kept
        )
        learn(made, tmp_path / name, frame, columns=COLUMNS)
        assert len(looked) == len(set(looked)) == frame["image"].nunique()
