"""Sizes as people read them."""

import pytest
from pydantic import ByteSize

from dagster_offload.library.too_large import DEFAULT_MAX_BYTES, too_large
from dagster_offload.settings.model import DEFAULT_MIN_FREE_BYTES
from dagster_offload.settings.writing import one_line
from dagster_offload.text.sizes import shown_size, shown_size_above


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1,023.9 KiB"),
        (512 * 2**20 - 1, "511.9 MiB"),
        (512 * 2**20, "512 MiB"),
        (2 * 2**30, "2 GiB"),
        (2**40, "1 TiB"),
        (2_500 * 2**40, "2,500 TiB"),
    ],
)
def test_a_size_is_shown_in_binary_units_and_never_larger_than_it_is(count: int, shown: str) -> None:
    assert shown_size(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1025, "1.1 KiB"),
        (2**20 - 1, "1 MiB"),
        (512 * 2**20, "512 MiB"),
        (512 * 2**20 + 1, "512.1 MiB"),
    ],
)
def test_a_size_above_a_limit_is_never_shown_smaller_than_it_is(count: int, shown: str) -> None:
    assert shown_size_above(count) == shown


@pytest.mark.parametrize("limit", [1000, DEFAULT_MAX_BYTES, 500_000_000])
def test_a_file_that_is_one_byte_too_large_does_not_look_as_large_as_the_limit(limit: int) -> None:
    assert shown_size_above(limit + 1) != shown_size(limit)
    assert f"the file has {shown_size_above(limit + 1)}, and the limit is {shown_size(limit)}" in too_large(
        limit + 1, limit
    )


@pytest.mark.parametrize("default", [DEFAULT_MAX_BYTES, DEFAULT_MIN_FREE_BYTES])
def test_a_default_size_is_shown_as_the_pipeline_file_writes_it(default: int) -> None:
    assert shown_size(default) == one_line(ByteSize(default))
