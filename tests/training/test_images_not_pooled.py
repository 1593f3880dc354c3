"""With `images: all`, an engine that takes one image of a record is refused in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mm_assets.contract.dataset import Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.errors import ModelError
from mm_assets.engines.make import CLASSES, make_engine
from mm_assets.training.decide import refuse_one_image
from tests.make import dataset

ALL = dataset(image_name="{id}-{n}", images="all")


def test_an_engine_of_ones_own_says_that_it_takes_several() -> None:
    one: Any = SimpleNamespace()
    with pytest.raises(ModelError) as caught:
        refuse_one_image(ALL, Modality.WITH_IMAGE, one)
    assert caught.value.code == "images_not_pooled"
    refuse_one_image(ALL, Modality.WITHOUT_IMAGE, one)
    refuse_one_image(dataset(image_name="{id}-{n}"), Modality.WITH_IMAGE, one)
    several: Any = SimpleNamespace(pools_images=True)
    refuse_one_image(ALL, Modality.WITH_IMAGE, several)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"autogluon"}))
def test_of_ours_all_but_autogluon_do(name: str) -> None:
    refuse_one_image(ALL, Modality.WITH_IMAGE, make_engine(EngineSpec(engine=name)))
