"""An empty library for each test."""

from pathlib import Path

import pytest


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "library"
    path.mkdir()
    return path
