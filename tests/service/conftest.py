"""A home beside its library, and its pipeline file."""

from pathlib import Path

import pytest

from tests.support.pipeline_file import written

TEXT = "library: {path: library}\nslots: {deep: {url: 'http://macbook.local:8890', model: qwen-macbook}}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (tmp_path / "library").mkdir()
    monkeypatch.setenv("OFFLOAD_HOME", str(home))
    return home


@pytest.fixture
def file(home: Path) -> Path:
    return written(TEXT, home / "offload.yaml")


@pytest.fixture
def said() -> list[str]:
    return []
