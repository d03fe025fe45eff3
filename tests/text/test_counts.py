"""Counts in sentences."""

import pytest

from dagster_offload.text.counts import rounded


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (7, "7"), (999, "999"), (1_234, "1,230"), (17_306_504, "17,300,000"), (1999.6, "2,000")],
)
def test_an_estimate_has_three_digits(count: float, shown: str) -> None:
    assert rounded(count) == shown
