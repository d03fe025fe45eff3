"""The pipeline file of a home: `up` writes its options into it, or links it to a file elsewhere."""

import os
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.service.home_file import keep_in_home, refuse_second_file
from dagster_offload.settings import load_settings, read_settings

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
    file = home / "offload.yaml"
    edit(file, TEXT)
    return file


@pytest.fixture
def said() -> list[str]:
    return []


def edit(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o600)


def test_options_on_a_home_without_a_file_are_written_to_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    typed = {
        "OFFLOAD_LIBRARY": str(tmp_path / "library"),
        "OFFLOAD_DEEP_URL": "http://x:1",
        "OFFLOAD_DEEP_MODEL": "qwen: 'a'",
    }
    for name, value in (typed | {"OFFLOAD_DEEP_API_KEY": "s3cret", "OFFLOAD_MAX_FILE_SIZE": "2MiB"}).items():
        monkeypatch.setenv(name, value)
    edit(Path(".env"), "OFFLOAD_CLASSES=tax, letter\n")
    before = load_settings()
    loaded = keep_in_home(read_settings(), typed, said.append)
    file = home / "offload.yaml"
    assert str(file) in said[0]
    assert file.stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in file.read_text()
    assert loaded.settings == before
    Path(".env").unlink()
    assert load_settings() == before, "the file alone has the same settings; the key comes from its variable"
    assert set(typed) & set(os.environ) == set(), "an edit of the file is not overridden"


def test_a_file_that_was_written_while_up_started_is_not_overwritten(
    home: Path, tmp_path: Path, said: list[str]
) -> None:
    loaded = read_settings(library=tmp_path / "library")
    edit(home / "offload.yaml", TEXT)
    with pytest.raises(SettingsError, match=r"offload\.yaml was written while `up` started: start `up` again"):
        keep_in_home(loaded, {"OFFLOAD_LIBRARY": str(tmp_path / "library")}, said.append)
    assert (home / "offload.yaml").read_text() == TEXT


def test_without_options_no_file_is_written(home: Path, tmp_path: Path, said: list[str]) -> None:
    loaded = read_settings(library=tmp_path / "library")
    assert keep_in_home(loaded, {"OFFLOAD_HOME": str(home)}, said.append) is loaded
    assert (list(home.iterdir()), said) == ([], [])


def test_options_that_equal_the_file_are_dropped_without_a_line(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    (file.parent / "library").mkdir()
    typed = {
        "OFFLOAD_LIBRARY": str(file.parent / "library"),
        "OFFLOAD_DEEP_URL": "http://macbook.local:8890",
        "OFFLOAD_DEEP_MODEL": "other",
    }
    for name, value in typed.items():
        monkeypatch.setenv(name, value)
    before = load_settings()
    loaded = keep_in_home(read_settings(), typed, said.append)
    assert [line.partition(". ")[0] for line in said] == ["For this start only: OFFLOAD_DEEP_MODEL=other"]
    assert loaded.settings == before
    assert set(typed) & set(os.environ) == {"OFFLOAD_DEEP_MODEL"}, "an edit of the file is not overridden"


def test_the_first_start_can_be_repeated_without_a_line(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    typed = {"OFFLOAD_LIBRARY": "library", "OFFLOAD_DEEP_URL": "http://x:1", "OFFLOAD_DEEP_MODEL": "m"}
    for _ in range(2):
        for name, value in typed.items():
            monkeypatch.setenv(name, value)
        loaded = keep_in_home(read_settings(), typed, said.append)
        assert loaded.settings.library == tmp_path / "library"
    assert len(said) == 1, "only the line about the new file"


def test_an_option_that_completes_the_file_is_for_this_start_only(
    file: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    edit(file, "slots: {deep: {url: 'http://macbook.local:8890'}}\n")
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "m")
    loaded = keep_in_home(read_settings(), {"OFFLOAD_DEEP_MODEL": "m"}, said.append)
    assert [line.partition(". ")[0] for line in said] == ["For this start only: OFFLOAD_DEEP_MODEL=m"]
    assert loaded.settings.slots_section.deep.model == "m"


def test_a_file_elsewhere_is_linked_and_options_beside_a_file_are_not_stored(
    home: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    edit(Path("offload.yaml"), TEXT)
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "o'ther")
    keep_in_home(read_settings(), {"OFFLOAD_DEEP_MODEL": "o'ther"}, said.append)
    assert (home / "offload.yaml").samefile("offload.yaml")
    assert "config set OFFLOAD_DEEP_MODEL 'o'\"'\"'ther'" in said[1]
    assert Path("offload.yaml").read_text() == TEXT
    keep_in_home(read_settings(), {}, said.append)
    assert len(said) == 2


def test_a_second_file_for_the_same_home_is_refused(file: Path) -> None:
    edit(Path("offload.yaml"), TEXT)
    with pytest.raises(SettingsError, match=r"is the pipeline file of this home, and .* is another one"):
        refuse_second_file(read_settings())
