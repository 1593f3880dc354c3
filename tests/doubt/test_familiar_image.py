"""Images unlike all of training: noise, flat colours, drawings; seldom an ordinary one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mm_assets.contract.errors import ModelError
from mm_assets.doubt import familiar_image
from mm_assets.doubt.familiar import Familiar
from mm_assets.engines.shared.spellings import Spellings
from tests.make import draw_image, images_looked_at, plain_image

COLUMNS = {"size": "number", "image": "image"}
NOBODY = Spellings({})


def digits(start: int, stop: int) -> list[bytes]:
    """Handwritten digits as small images."""
    images = []
    for pixels in load_digits().images[start:stop]:
        buffer = io.BytesIO()
        grey = Image.fromarray((pixels * 255 / 16).astype(np.uint8))
        grey.resize((32, 32), Image.Resampling.BICUBIC).convert("RGB").save(buffer, "PNG")
        images.append(buffer.getvalue())
    return images


def noise(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def records(images: list[Any]) -> pd.DataFrame:
    column = pd.Series(images, dtype=object)
    return pd.DataFrame({"size": np.arange(len(images)) % 7.0, "image": column})


def learnt(images: list[bytes], **keys: Any) -> Familiar:
    return Familiar.learn(records(images), COLUMNS, NOBODY, **{"seconds": 600.0, **keys})


@pytest.fixture(scope="module")
def known() -> Familiar:
    return learnt(digits(0, 100))


def foreign(known: Familiar, images: list[Any]) -> list[bool]:
    return [
        any(one.code == "foreign_image" for one in own) for own in known.doubts(records(images))
    ]


def test_noise_flat_colours_and_drawings_are_foreign_among_digits(known: Familiar) -> None:
    strange = [
        noise(0),
        noise(1),
        plain_image((200, 30, 30)),
        plain_image((0, 0, 0)),
        draw_image(3),
    ]
    assert foreign(known, strange) == [True] * 5
    [doubt] = known.doubts(records([noise(2)]))[0]
    assert str(doubt).startswith("foreign_image (image): unlike all 100 images of training that ")


def test_few_ordinary_images_are_foreign(known: Familiar) -> None:
    assert np.mean(foreign(known, digits(100, 200))) <= 0.03


def test_an_image_is_foreign_or_not_whatever_its_neighbours(known: Familiar) -> None:
    asked = [*digits(100, 110), noise(3), None, plain_image((9, 200, 9))]
    together = known.doubts(records(asked))
    for place, image in enumerate(asked):
        row = records([image]).assign(size=float(place % 7))
        assert known.doubts(row)[0] == together[place]
    assert [bool(own) for own in together[10:]] == [True, False, True]


def test_the_order_of_training_makes_no_difference(known: Familiar) -> None:
    again = learnt(digits(0, 100)[::-1])
    assert again.images is not None
    assert known.images is not None
    assert np.array_equal(again.images.points, known.images.points)
    assert again.images.limit == known.images.limit


def test_the_same_image_many_times_does_not_make_others_foreign() -> None:
    copies, groups = [], []
    for number, image in enumerate(digits(0, 60)):
        for quality in (93, 95):  # other bytes, the same image to the eye
            buffer = io.BytesIO()
            Image.open(io.BytesIO(image)).save(buffer, "JPEG", quality=quality)
            copies.append(buffer.getvalue())
            groups.append(f"group {number}")
    together, apart = learnt(copies, groups=groups), learnt(copies)
    assert np.mean(foreign(together, digits(100, 150))) <= 0.05
    assert np.mean(foreign(apart, digits(100, 150))) > 0.5  # so the groups are what helps
    assert foreign(together, [noise(0)]) == [True]


def test_a_model_keeps_its_images_and_reads_them_again(known: Familiar, tmp_path: Path) -> None:
    kept = json.loads(json.dumps(known.keep(tmp_path), allow_nan=False))
    assert [path.name for path in tmp_path.iterdir()] == ["familiar.npz"]
    again = Familiar.of_manifest({"familiar": kept}, NOBODY, tmp_path)
    assert again is not None
    asked = records([*digits(100, 110), noise(3)])
    assert again.doubts(asked) == known.doubts(asked)


def test_what_was_kept_is_refused_if_it_is_something_else(known: Familiar, tmp_path: Path) -> None:
    kept = {"familiar": known.keep(tmp_path)}
    other = {**kept["familiar"], "images": {**kept["familiar"]["images"], "eyes": "others"}}
    for manifest, code in ((kept, "familiar_invalid"), ({"familiar": other}, "backbone_differs")):
        np.savez(tmp_path / "familiar.npz", points=np.array([{"not": "numbers"}], dtype=object))
        with pytest.raises(ModelError) as caught:
            Familiar.of_manifest(manifest, NOBODY, tmp_path)
        assert caught.value.code == code
    (tmp_path / "familiar.npz").unlink()
    with pytest.raises(ModelError) as caught:
        Familiar.of_manifest(kept, NOBODY, tmp_path)
    assert caught.value.code == "familiar_invalid"


@pytest.mark.parametrize(
    ("images", "seconds", "words"),
    [(100, 0.0, "0 images could be looked at in 0 seconds"), (12, 60.0, "12 images could be")],
)
def test_where_images_cannot_be_looked_at_no_image_is_foreign_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, images: int, seconds: float, words: str
) -> None:
    looked = images_looked_at(monkeypatch)
    known = learnt(digits(200, 200 + images), seconds=seconds)
    [said] = known.words
    assert words in said
    assert said.startswith("no image is foreign to this model")
    assert foreign(known, [noise(0)]) == [False]
    assert len(looked) == (images if seconds else 0)


def test_only_so_many_images_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar_image, "MOST", 40)
    known = learnt(digits(0, 100))
    assert known.images is not None
    assert known.images.points.shape[0] == 40
    assert known.images.points.dtype == np.float16
    assert foreign(known, [noise(0)]) == [True]


def test_an_image_without_a_row_is_empty_and_its_own_numbers_do_not_count() -> None:
    columns = {"size": "number", "weight": "number", "image_brightness": "number"}
    frame = pd.DataFrame(
        {"size": np.arange(60.0), "weight": np.arange(60.0), "image_brightness": np.arange(60.0)}
    )
    known = Familiar.learn(frame, columns, NOBODY)
    asked = pd.DataFrame({"size": [np.nan], "weight": [np.nan], "image_brightness": [30.0]})
    assert [str(one) for one in known.doubts(asked)[0]] == [
        "empty_record: 2 of 2 values are missing"
    ]
