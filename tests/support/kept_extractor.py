"""An extractor's child that the tests of a run share, for tests whose subject is not extraction.

The start of a child, with its imports, takes longer than all else in the extraction of two short files.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from dagster_offload.engine.extraction import pool
from dagster_offload.extraction import self_test
from dagster_offload.extraction.extractor import Extractor


class KeptExtractor(Extractor):
    """An extractor that takes over the kept child, and keeps it at its end. A child that has died is replaced as usual."""

    kept: Extractor

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        if self.memory_limit_bytes == self.kept.memory_limit_bytes:
            self._child, self.kept._child = self.kept._child, None

    def close(self) -> None:
        """Give the child back. Closing a second time closes nothing."""
        if self.kept._child is None:
            self.kept._child, self._child = self._child, None
        super().close()


@pytest.fixture(scope="session")
def kept_child() -> Iterator[Extractor]:
    """An extractor that only holds the child. The main thread starts it, because a child dies with the thread that did."""
    with Extractor() as kept:
        KeptExtractor.kept = kept
        yield kept


@pytest.fixture
def kept_extractor(kept_child: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one lane with the kept child read what this process scans. It does the self-test, too."""
    kept_child._ready_child()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    for user in (pool, self_test):
        monkeypatch.setattr(user, "Extractor", KeptExtractor)
