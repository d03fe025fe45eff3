"""Extractors that a test can block."""

from collections.abc import Iterator

import pytest

from dagster_offload.engine.extraction import pool
from tests.support.extraction import BlockingExtractor


@pytest.fixture
def blocking(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockingExtractor]:
    blocking = BlockingExtractor()
    monkeypatch.setattr(pool, "Extractor", blocking.extractor)
    yield blocking
    blocking.is_open.set()
