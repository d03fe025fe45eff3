"""The pipeline file of a home: `up` writes its options into it, or links it to a file elsewhere."""

import os
import shlex
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.service.home_file import keep_in_home, refuse_second_file
from dagster_offload.settings import load_settings, read_settings
from dagster_offload.settings.loading import leaf_of
from dagster_offload.settings.writing import new_file, set_in_file, write_unset
from tests.service.conftest import TEXT
from tests.support.pipeline_file import written


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
    written("OFFLOAD_CLASSES=tax, letter\n", Path(".env"))
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
    written(TEXT, home / "offload.yaml")
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
    assert said == [
        "For this start only: OFFLOAD_DEEP_MODEL=other. Commands in other terminals do not use it. To keep it: "
        "dagster-offload config set OFFLOAD_DEEP_MODEL other"
    ]
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


def type_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The options of the first start, as `cli/options.py` sets them."""
    typed = {
        "OFFLOAD_DEEP_URL": "http://x:1",
        "OFFLOAD_DEEP_MODEL": "qwen: a",
        "OFFLOAD_LIBRARY": str(tmp_path / "library"),
    }
    for name, value in typed.items():
        monkeypatch.setenv(name, value)
    return typed


def only_for_this_start(said: list[str]) -> list[str]:
    return [line.partition(". ")[0] for line in said]


def test_options_that_the_file_leaves_open_are_written_into_it_and_its_comments_stay(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    file, text = home / "offload.yaml", new_file({}, home)  # as after `init`
    written(text, file)
    typed = type_options(monkeypatch, tmp_path)
    monkeypatch.setenv("OFFLOAD_MAX_FILE_SIZE", "2MiB")
    before = load_settings()
    loaded = keep_in_home(read_settings(), typed, said.append)
    assert said == [
        f"Now in {file}: slots.deep.url, slots.deep.model, library.path. Commands in other terminals use them, and so does a "
        "plain `up`."
    ]
    assert loaded.settings == before
    assert set(typed) & set(os.environ) == set(), "an edit of the file is not overridden"
    monkeypatch.delenv("OFFLOAD_MAX_FILE_SIZE")
    assert load_settings() == before.model_copy(update={"library_section": load_settings().library_section})
    assert load_settings().library == tmp_path / "library"
    changed = [
        (old, new) for old, new in zip(text.splitlines(), file.read_text().splitlines(), strict=True) if old != new
    ]
    assert [new.split(":")[0].strip() for _, new in changed] == ["path", "url", "model"]
    assert all(old.rpartition("  # ")[2] == new.rpartition("  # ")[2] for old, new in changed), "comments stay"


def test_an_option_that_completes_the_file_is_written_and_one_that_differs_is_for_this_start_only(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    written("library: {path: elsewhere}\nslots: {deep: {url: 'http://x:1'}}\n", file)
    typed = type_options(monkeypatch, tmp_path)
    loaded = keep_in_home(read_settings(), typed, said.append)
    assert only_for_this_start(said)[1:] == [f"For this start only: OFFLOAD_LIBRARY={tmp_path}/library"]
    assert said[0].startswith(f"Now in {file}: slots.deep.model. Commands in other terminals use it, and so does")
    assert loaded.settings.library == tmp_path / "library"
    assert file.read_text() == "library: {path: elsewhere}\nslots: {deep: {url: 'http://x:1', model: 'qwen: a'}}\n"
    assert set(typed) & set(os.environ) == {"OFFLOAD_LIBRARY"}


@pytest.mark.parametrize("model_from", ["environment", ".env"])
def test_options_that_are_right_only_with_a_variable_are_not_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], model_from: str
) -> None:
    text = "language: English\n"
    written(text, file)
    typed = type_options(monkeypatch, tmp_path)
    del typed["OFFLOAD_DEEP_MODEL"]
    if model_from == ".env":
        monkeypatch.delenv("OFFLOAD_DEEP_MODEL")
        written("OFFLOAD_DEEP_MODEL=m\n", Path(".env"))
    loaded = keep_in_home(read_settings(), typed, said.append)
    assert file.read_text() == text, "in a terminal without the variable, a file with the URL alone would be wrong"
    assert loaded.settings.slots.deep is not None
    assert only_for_this_start(said) == [
        f"For this start only: OFFLOAD_LIBRARY={tmp_path}/library",
        "For this start only: OFFLOAD_DEEP_URL=http://x:1",
    ]


def test_an_option_that_the_dotenv_file_overrides_later_is_for_this_start_only(
    file: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    written("OFFLOAD_UI_TOKEN=off\n", Path(".env"))
    monkeypatch.setenv("OFFLOAD_UI_TOKEN", "on")
    loaded = keep_in_home(read_settings(), {"OFFLOAD_UI_TOKEN": "on"}, said.append)
    assert (file.read_text(), loaded.settings.ui.token) == (TEXT, "on")
    assert only_for_this_start(said) == ["For this start only: OFFLOAD_UI_TOKEN=on"]


def test_a_file_that_its_owner_made_read_only_stays_as_it_is(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    written("language: English\n", file)
    file.chmod(0o400)
    typed = type_options(monkeypatch, tmp_path)
    keep_in_home(read_settings(), typed, said.append)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("language: English\n", 0o400)
    assert len(said) == 3


def test_a_file_of_root_stays_as_it_is(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written("language: English\n", file)
    typed = type_options(monkeypatch, tmp_path)
    loaded = read_settings()
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert write_unset(loaded, typed) == []
    assert file.read_text() == "language: English\n"


def test_an_edit_of_the_file_while_up_starts_is_kept_beside_the_options(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    written("language: English\n", file)
    typed = type_options(monkeypatch, tmp_path)
    loaded = read_settings()
    written("language: Korean\nslots: {deep: {model: m}}\n", file)
    keep_in_home(loaded, typed, said.append)
    assert file.read_text().startswith("language: Korean\n")
    assert "model: m" in file.read_text()


def test_the_commands_that_keep_options_work_in_the_printed_order(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    written("language: English\n", Path("offload.yaml"))
    typed = type_options(monkeypatch, tmp_path)
    wanted = load_settings()
    keep_in_home(read_settings(), typed, said.append)
    assert Path("offload.yaml").read_text() == "language: English\n", "a file elsewhere may belong to several homes"
    for name in typed:
        monkeypatch.delenv(name)
    commands = [shlex.split(line.partition("dagster-offload config set ")[2]) for line in said[1:]]
    assert [name for name, _ in commands] == ["OFFLOAD_DEEP_MODEL", "OFFLOAD_LIBRARY", "OFFLOAD_DEEP_URL"]
    for name, value in commands:
        set_in_file(home / "offload.yaml", leaf_of(name), value)
    assert load_settings() == wanted


def test_a_file_elsewhere_is_linked_and_options_beside_a_file_are_not_stored(
    home: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    written(TEXT, Path("offload.yaml"))
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "o'ther")
    keep_in_home(read_settings(), {"OFFLOAD_DEEP_MODEL": "o'ther"}, said.append)
    assert (home / "offload.yaml").samefile("offload.yaml")
    assert "config set OFFLOAD_DEEP_MODEL 'o'\"'\"'ther'" in said[1]
    assert Path("offload.yaml").read_text() == TEXT
    keep_in_home(read_settings(), {}, said.append)
    assert len(said) == 2


def test_a_second_file_for_the_same_home_is_refused(file: Path) -> None:
    written(TEXT, Path("offload.yaml"))
    with pytest.raises(SettingsError, match=r"is the pipeline file of this home, and .* is another one"):
        refuse_second_file(read_settings())
