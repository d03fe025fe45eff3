"""`least_tokens` is never above the count of a real vocabulary, and high enough to show that half of a text is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_offload.text.tokens import estimated_tokens, least_tokens, least_tokens_at_most

# Texts, and the lowest token count of the vocabularies o200k, cl100k and Qwen for each, measured once.
MEASURED = {
    "English": (
        "The tenant shall pay the rent on the first day of every month to the landlord. " * 600,
        10_201,
    ),
    "Korean": ("임차인은 매월 첫째 날에 임대인에게 차임을 지급하여야 한다. " * 600, 12_601),
    "numbers": ("Hall 12.75 13.10 Stores 3.25 4.00 " * 1_500, 27_001),
    "one word": ("the " * 5_000, 5_001),
    "single letters": ("a b c d e f " * 1_000, 6_001),
    "dashes": ("-" * 20_000, 312),
    "blanks": (" " * 20_000, 157),
}


@pytest.mark.parametrize("name", MEASURED)
def test_no_real_vocabulary_counts_fewer_than_least_tokens(name: str) -> None:
    text, fewest = MEASURED[name]
    assert least_tokens(text) <= fewest


@pytest.mark.parametrize("name", ["English", "Korean", "one word", "single letters"])
def test_half_of_a_text_is_recognised_as_incomplete(name: str) -> None:
    text, fewest = MEASURED[name]
    assert fewest / 2 < 0.8 * least_tokens(text)


def test_the_high_estimate_is_at_least_least_tokens() -> None:
    for text in ("", "a", "한국어", "12 34", "éàü"):
        assert least_tokens(text) <= estimated_tokens(text)


@given(st.text(st.sampled_from("abcdefgh XYZ 0123 é한국日ก.-\n"), max_size=200) | st.text(max_size=50))
def test_the_fast_upper_bound_is_never_below_least_tokens(text: str) -> None:
    assert least_tokens(text) <= least_tokens_at_most(text)


@pytest.mark.parametrize("name", ["English", "numbers", "one word", "single letters"])
def test_the_fast_upper_bound_is_enough_for_a_complete_text_in_ascii(name: str) -> None:
    text, fewest = MEASURED[name]
    assert fewest >= 0.8 * least_tokens_at_most(text)
