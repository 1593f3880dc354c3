"""The lists by which tests are marked and shared out name what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.side_by_side import LEFT_OUT, SLOW, group, left_out

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("place", [*SLOW, *LEFT_OUT])
def test_what_is_listed_exists(place: str) -> None:
    file, _, test = place.partition("::")
    assert (ROOT / file).exists()
    assert not test or f"def {test}" in (ROOT / file).read_text()


def test_what_is_left_out_is_so_by_its_parameters_or_whole() -> None:
    alone = "tests/serving/test_equality.py::test_a_record_alone"
    assert left_out(f"{alone}[rules]")
    assert not left_out(f"{alone}[gradient_boosting]")
    assert left_out("tests/shapes/test_blur.py::test_any")
    assert not left_out("tests/shapes/test_cancer.py::test_any")


def test_a_file_stays_in_one_process_and_all_that_train_autogluon_in_the_same() -> None:
    assert group("tests/cli/test_cli.py::test_a[s3]") == group("tests/cli/test_cli.py::test_b")
    assert group("tests/cli/test_cli.py::test_a") != group("tests/laws/test_moments.py::test_a")
    assert group("tests/test_flow.py::a") == group("tests/engines/test_autogluon.py::b")


@pytest.mark.parametrize("settings", ["folder", "s3"], indirect=True)
def test_only_who_asks_a_server_is_marked_so(settings, request: pytest.FixtureRequest) -> None:
    assert settings.is_s3 == (request.node.get_closest_marker("server") is not None)
