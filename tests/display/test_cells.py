"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.display.cells import plain_number, written_out


@pytest.mark.parametrize(
    ("value", "expected"),
    [(58_262.4, "58,262"), (0.91234, "0.9123"), (1_356_000.0, "1,356,000"), (-12.5, "-12.5")],
)
def test_a_figure_has_four_digits_or_whole_thousands(value: float, expected: str) -> None:
    assert written_out(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1_356_000.0, "1356000"), (1_356_789.4, "1356790"), (0.1234567, "0.123457"),
     (-2e7, "-20000000"), (1e300, "1e+300"), (3.0, "3")],
)  # fmt: skip
def test_a_predicted_number_is_no_power_of_ten(value: float, expected: str) -> None:
    assert plain_number(value, 6) == expected


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_predicted_number_is_as_exact_as_its_digits(value: float) -> None:
    assert float(plain_number(value, 6)) == float(f"{value:.6g}")
