"""Extractors with their child processes."""

from collections.abc import Iterator

import pytest

from dagster_offload.extraction.extractor import Extractor


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    """One for the tests of a file, which do not harm its child."""
    with Extractor() as shared:
        yield shared


@pytest.fixture
def own_extractor() -> Iterator[Extractor]:
    """One for a test that harms its child."""
    with Extractor() as own:
        yield own
