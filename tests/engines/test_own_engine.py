"""An engine of one's own, named in YAML by its Python path."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mm_assets.contract.errors import ModelError
from mm_assets.engines.make import make_engine
from tests.kill.engine import NearestMean
from tests.make import dataset


def test_the_class_that_the_yaml_names_is_made_with_its_options() -> None:
    chosen = {"engine": "tests.kill.engine:NearestMean", "seed": 3}
    engine = make_engine(dataset(model_with_image=chosen).model_with_image[0])
    assert type(engine).__name__ == NearestMean.__name__
    assert type(engine).__module__ == "tests.kill.engine"


@pytest.mark.parametrize("path", ["no.such.module:Engine", "tests.kill.engine:NoSuchClass"])
def test_an_engine_that_cannot_be_imported_is_said_in_words(path: str) -> None:
    spec = dataset(model_without_image={"engine": path})
    with pytest.raises(ModelError) as caught:
        make_engine(spec.model_without_image[0])
    assert caught.value.code == "engine_missing"
    assert path in caught.value.what


@pytest.mark.parametrize("name", ["catboost", "a b:C", "module:", ":Class", "os.system('x'):C"])
def test_a_name_that_is_no_path_is_refused_with_what_to_write(name: str) -> None:
    with pytest.raises(ValidationError, match=r"package\.module:ClassName"):
        dataset(model_with_image={"engine": name})
