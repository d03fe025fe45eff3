"""A library beside the ledger."""

from pathlib import Path

import pytest

from tests.support.ledger import Bench
from tests.support.scanned_library import Library


@pytest.fixture
def library(bench: Bench, tmp_path: Path) -> Library:
    return Library(bench, tmp_path / "library")
