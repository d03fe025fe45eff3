"""The pipeline of `up`: kept in the home, announced in the ledger, and changed by edits that are valid."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.errors import LedgerUnavailable, OtherPipeline, SettingsError
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.pipelines import AnnouncedPipeline, running_pipelines
from dagster_offload.ledger.work.documents import has_documents
from dagster_offload.service import pipeline
from dagster_offload.service.home import hold_up_lock
from dagster_offload.service.pipeline import (
    RunningPipeline,
    refuse_mistyped_library,
)
from dagster_offload.settings import load_settings, read_settings
from dagster_offload.settings.leaves import CONFIG_SNAPSHOT
from dagster_offload.stage_spec.relations import BUILT_IN_CLASSES
from tests.service.conftest import TEXT
from tests.support.pipeline_file import written


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger(ledger_url) as ledger:
        yield ledger


@pytest.fixture
def running(file: Path, ledger: Ledger, said: list[str]) -> Iterator[RunningPipeline]:
    with RunningPipeline(ledger, read_settings(), said.append) as running:
        yield running


def announced(ledger: Ledger) -> AnnouncedPipeline:
    (found,) = ledger.run(running_pipelines)
    return found


def classes() -> tuple[str, ...]:
    """The classes that a process started by `up` reads."""
    return load_settings().stages.classify.classes


@pytest.mark.rule("pipeline-4")
def test_a_valid_edit_is_taken_over(running: RunningPipeline, file: Path, ledger: Ledger, said: list[str]) -> None:
    written(TEXT + "stages: {classify: {classes: [tax]}}\n", file)
    assert classes() == BUILT_IN_CLASSES, "until `up` has checked the edit, its processes read the version before it"
    running.check()
    assert classes() == ("tax",)
    assert announced(ledger).pipeline.settings["stages.classify.classes"] == "tax"
    assert said == ["The edited settings are in force."]


@pytest.mark.rule("pipeline-4")
def test_an_edit_while_up_starts_is_taken_over_by_the_first_check(file: Path, ledger: Ledger, said: list[str]) -> None:
    loaded = read_settings()
    written(TEXT + "stages: {classify: {classes: [tax]}}\n", file)
    with RunningPipeline(ledger, loaded, said.append) as running:
        assert classes() == BUILT_IN_CLASSES, "what is announced and what the processes read are one version"
        running.check()
        assert classes() == ("tax",)
        assert announced(ledger).pipeline.settings["stages.classify.classes"] == "tax"
    written("a mistake", file)
    with RunningPipeline(ledger, loaded, said.append) as running:
        running.check()
        assert classes() == BUILT_IN_CLASSES
        assert announced(ledger).problem is not None


def test_a_file_that_is_saved_without_a_change_is_no_edit(
    running: RunningPipeline, file: Path, said: list[str]
) -> None:
    in_force = running.settings
    running.check()
    written(TEXT, file)
    running.check()
    assert (said, running.settings) == ([], in_force)


@pytest.mark.parametrize(
    "edited", ["celery: {broker: 'redis://:secret@127.0.0.1:6379/0'}", "library: {path: library, scan_interval: 5}"]
)
def test_an_edit_of_what_dagsters_definitions_depend_on_changes_them(
    running: RunningPipeline, file: Path, edited: str
) -> None:
    before = running.definitions
    running.check()
    assert running.definitions == before
    written(
        edited + "\n" + TEXT.partition("\n")[2] + ("" if "library" in edited else TEXT.partition("\n")[0] + "\n"), file
    )
    running.check()
    assert running.definitions != before


def test_an_up_that_slept_is_announced_again_although_postgres_was_away_meanwhile(
    running: RunningPipeline, ledger: Ledger, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_away(*_: object) -> None:
        raise LedgerUnavailable("Postgres does not answer")

    assert running._worker is not None
    running._worker.is_lost = True
    with monkeypatch.context() as away:
        away.setattr(pipeline, "announce", is_away)
        running.check()
    assert said == ["The settings in force cannot be announced to other commands: Postgres does not answer"]
    running.check()
    assert announced(ledger).problem is None


def test_after_an_edit_that_is_not_valid_the_version_before_it_stays_in_force(
    running: RunningPipeline, file: Path, ledger: Ledger, said: list[str]
) -> None:
    for text in (TEXT + "stages: {clasify: {}}\n", TEXT + "home: /elsewhere\nlanguage: [\n", "\0"):
        written(text, file)
        running.check()
        assert load_settings().slots.deep is not None
        assert announced(ledger).problem is not None
    assert "clasify" in said[0]
    file.unlink()
    running.check()
    assert "cannot be read" in str(announced(ledger).problem)
    written(TEXT, file)
    running.check()
    assert announced(ledger).problem is None


def schema_of(field: str) -> str:
    return f'{{"type": "object", "required": ["{field}"], "properties": {{"{field}": {{"type": "number"}}}}}}'


def fields() -> list[str]:
    """The fields of the stage `payment` that a process started by `up` reads."""
    return [field.name for field in load_settings().own_stages["payment"].answer]


def test_an_edit_of_a_schema_file_is_taken_over_and_a_broken_one_leaves_that_before_it_in_force(
    running: RunningPipeline, file: Path, ledger: Ledger, home: Path
) -> None:
    schema = home / "payment.json"
    schema.write_text(schema_of("amount"))
    written(TEXT + "stages: {payment: {prompt: 'What must be paid?', schema: payment.json}}\n", file)
    running.check()
    assert fields() == ["amount"]
    before = announced(ledger).pipeline.recipes["payment"]
    schema.write_text(schema_of("total"))
    assert fields() == ["amount"], "until `up` has checked the edit, its processes read the version before it"
    running.check()
    assert fields() == ["total"]
    assert announced(ledger).pipeline.recipes["payment"] != before
    schema.write_text("{")
    running.check()
    assert "payment.json is not JSON" in str(announced(ledger).problem)
    assert fields() == ["total"]
    schema.unlink()
    running.check()
    assert "payment.json cannot be read" in str(announced(ledger).problem)
    assert fields() == ["total"]


def test_a_schema_file_that_was_missing_is_taken_over_when_it_appears(
    running: RunningPipeline, file: Path, ledger: Ledger, home: Path, said: list[str]
) -> None:
    written(TEXT + "stages: {payment: {prompt: 'What must be paid?', schema: payment.json}}\n", file)
    running.check()
    running.check()
    assert len(said) == 1, "one message for one problem"
    assert "payment" not in load_settings().own_stages
    (home / "payment.json").write_text(schema_of("amount"))
    running.check()
    assert (fields(), announced(ledger).problem) == (["amount"], None)


def test_an_edit_that_names_a_key_which_up_does_not_have_is_not_in_force(
    running: RunningPipeline, file: Path, ledger: Ledger
) -> None:
    written('slots: {deep: {url: "http://laptop:1", model: qwen, api_key: "${TOWER_KEY}"}}\n', file)
    running.check()
    assert "slots.deep.api_key: the variable TOWER_KEY is not set" in str(announced(ledger).problem)
    deep = running.settings.slots.deep
    assert deep is not None
    deep.require_key()


def test_an_edit_cannot_move_a_running_up_to_another_ledger(
    running: RunningPipeline, file: Path, ledger: Ledger
) -> None:
    written(TEXT + "postgres_url: postgresql://elsewhere/db\n", file)
    running.check()
    assert announced(ledger).problem == "postgres_url changed: restart `up` to use another one"


def test_an_edit_of_the_ui_is_in_force_after_a_restart_and_named_until_then(
    running: RunningPipeline, file: Path, ledger: Ledger, said: list[str]
) -> None:
    written(TEXT + "stages: {classify: {classes: [tax]}}\nui: {token: on, path_prefix: /offload}\n", file)
    running.check()
    assert classes() == ("tax",)
    assert (running.settings.ui.token, running.settings.ui.path_prefix) == ("off", "")
    assert said == ["The edited settings are in force, except ui.token, ui.path_prefix: restart `up` to use it."]
    written(TEXT, file)
    running.check()
    assert said[1:] == ["The edited settings are in force."]


def test_an_edit_of_the_dotenv_file_is_taken_over(running: RunningPipeline, ledger: Ledger) -> None:
    written("OFFLOAD_CLASSES=tax\n", Path(".env"))
    running.check()
    assert announced(ledger).pipeline.settings["stages.classify.classes"] == "tax"


def test_the_copies_of_the_files_are_private_and_go_with_up(file: Path, ledger: Ledger, home: Path) -> None:
    (home / "payment.json").write_text(schema_of("amount"))
    written(TEXT + "stages: {payment: {prompt: 'What must be paid?', schema: payment.json}}\n", file)
    with RunningPipeline(ledger, read_settings(), print):
        copy = Path(os.environ[CONFIG_SNAPSHOT])
        copies = list(copy.parent.glob("running-offload*"))
        assert len(copies) == 2
        assert [each.stat().st_mode & 0o777 for each in copies] == [0o600, 0o600]
    assert list(copy.parent.glob("running-offload*")) == []
    assert CONFIG_SNAPSHOT not in os.environ
    assert ledger.run(running_pipelines) == []


def test_after_the_loss_of_its_worker_the_pipeline_is_announced_again(running: RunningPipeline, ledger: Ledger) -> None:
    with ledger.transaction() as cur:
        cur.execute("update workers set ended_at = clock_timestamp() where kind = 'up'")
    assert ledger.run(running_pipelines) == []
    assert running._worker is not None
    running._worker.is_lost = True  # its next heartbeat finds this out
    running.check()
    assert announced(ledger).pid == os.getpid()


def test_a_second_up_with_another_pipeline_is_refused(running: RunningPipeline, file: Path, ledger: Ledger) -> None:
    other = read_settings(classes="tax")
    with pytest.raises(OtherPipeline, match="classes is tax here"), RunningPipeline(ledger, other, print):
        pass


def test_the_end_of_an_up_leaves_the_copies_of_a_new_home_at_its_path(
    file: Path, ledger: Ledger, said: list[str]
) -> None:
    with hold_up_lock(file.parent) as lock:
        with RunningPipeline(ledger, read_settings(), said.append, has_home=lambda: lock.has_home):
            copy = Path(os.environ[CONFIG_SNAPSHOT])
            moved = file.parent.rename(file.parent.with_name("moved"))
            shutil.copytree(moved, file.parent)
        assert copy.exists()


@pytest.mark.rule("pipeline-5")
def test_a_missing_library_is_refused_only_while_the_ledger_has_no_document(
    home: Path, tmp_path: Path, ledger: Ledger
) -> None:
    with pytest.raises(SettingsError, match=f"librari does not exist: did you mean {tmp_path}/library"):
        refuse_mistyped_library(load_settings(library=tmp_path / "librari"), lambda: ledger.run(has_documents))
    with pytest.raises(
        SettingsError, match=r"set OFFLOAD_LIBRARY, or library\.path in the pipeline file, to an existing"
    ):
        refuse_mistyped_library(load_settings(library="/nowhere/at/all"), lambda: ledger.run(has_documents))
    with ledger.transaction() as cur:
        cur.execute("insert into documents (key, size, mtime_ns, ctime_ns, inode) values ('a.txt', 1, 1, 1, 1)")
    refuse_mistyped_library(load_settings(library=tmp_path / "librari"), lambda: ledger.run(has_documents))
