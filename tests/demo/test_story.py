"""What the demonstration says."""

import pytest

from dagster_offload.demo.story import times


@pytest.mark.parametrize(("count", "words"), [(0, "0 times"), (1, "once"), (2, "2 times")])
def test_how_often_in_words(count: int, words: str) -> None:
    assert times(count) == words
