"""Durations as people write them."""

from datetime import timedelta

import pytest

from dagster_offload.text.durations import read_duration


@pytest.mark.parametrize(
    ("written", "length"),
    [
        ("30m", timedelta(minutes=30)),
        (" 12 h ", timedelta(hours=12)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(weeks=1)),
        ("0m", timedelta(0)),
        ("100000m", timedelta(minutes=100_000)),
        ("36525d", timedelta(days=36_525)),
    ],
)
def test_a_number_and_a_unit_are_a_duration(written: str, length: timedelta) -> None:
    assert read_duration(written) == length


@pytest.mark.parametrize(
    "written", ["", "30", "m", "1.5h", "-1h", "1h30m", "2y", "36526d", "99999999w", "999999999m", "९h", "1d\nx"]
)
def test_any_other_text_is_none(written: str) -> None:
    assert read_duration(written) is None
