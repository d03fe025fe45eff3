"""Lists in sentences."""

import pytest

from dagster_offload.text.lists import listed


@pytest.mark.parametrize(
    ("words", "sentence"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_a_list_has_commas_and_one_conjunction(words: list[str], sentence: str) -> None:
    assert listed(words) == sentence


def test_a_choice_has_another_conjunction() -> None:
    assert listed(["a", "b", "c"], "or") == "a, b or c"
