"""The output of the demonstration."""

import pytest

from dagster_offload.demo.story import times


@pytest.mark.parametrize(("count", "text"), [(0, "0 times"), (1, "once"), (2, "2 times")])
def test_a_count_is_shown_as_text(count: int, text: str) -> None:
    assert times(count) == text
