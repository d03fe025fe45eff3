"""Commands that take the ledger as it is: they leave that of another version, and the stages of one, alone."""

import json
import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from dagster_offload.ledger.core import migrate, stages
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import begin, complete, current_step, make_steps
from dagster_offload.ledger.core.opening import open_ledger, open_ledger_as_it_is
from dagster_offload.ledger.core.workers import UP, Worker
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from dagster_offload.stages.graph import BUILT_IN
from dagster_offload.testing import ChangeTiming
from tests.support.cli import Call
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import held_port

OLD_STEP = 30
AS_IT_IS = (
    ("status",),
    ("status", "--json"),
    ("explain", "letter.txt"),
    ("records",),
    ("correct", "--list"),
    ("psql", "--", "-c", "select 1"),
    ("slot", "show"),
    ("sink", "list"),
    ("notify", "list"),
)


@pytest.fixture
def old_ledger(empty_url: str) -> str:
    """The address of a ledger of an older version; OFFLOAD_POSTGRES_URL names it."""
    with Ledger(empty_url) as ledger, ledger.transaction() as cur:
        cur.execute(f"create schema {ledger.schema}".encode())
        make_steps(cur, up_to=OLD_STEP)
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    return empty_url


def step_of(url: str) -> int | None:
    with Ledger(url) as ledger, ledger.transaction() as cur:
        return current_step(cur, ledger.schema)


@pytest.mark.rule("ledger-13")
@pytest.mark.parametrize("command", AS_IT_IS, ids=" ".join)
def test_a_command_that_takes_the_ledger_as_it_is_names_the_command_that_brings_an_older_ledger_up_to_date(
    call: Call, old_ledger: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    result = call(*command)
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert f"an older dagster_offload wrote this ledger (schema step {OLD_STEP}; this version has " in message
    assert "Nothing was changed: start `dagster-offload up` with this version" in message
    assert step_of(old_ledger) == OLD_STEP
    assert not (tmp_path / "home" / "backups").exists()


@pytest.mark.rule("hosts-5")
def test_status_of_a_newer_version_names_the_running_up_of_the_older_one(call: Call, old_ledger: str) -> None:
    with Ledger(old_ledger) as ledger, Worker(ledger, UP):
        result = call("status")
    assert result.exit_code == 2
    assert "the `up` of an older version works with it" in " ".join(result.stderr.split())
    assert step_of(old_ledger) == OLD_STEP


@pytest.mark.rule("ledger-13")
def test_doctor_makes_no_call_beside_an_older_ledger_and_leaves_it_alone(
    call: Call, old_ledger: str, router: Router
) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    result = call("doctor")
    assert result.exit_code == 2
    assert router.completions() == []
    assert "not used, so no call was made: an older dagster_offload wrote this ledger" in " ".join(
        result.stdout.split()
    )
    assert step_of(old_ledger) == OLD_STEP


@pytest.mark.rule("ledger-13")
@pytest.mark.parametrize("command", AS_IT_IS, ids=" ".join)
def test_a_command_that_takes_the_ledger_as_it_is_makes_no_ledger(
    call: Call, empty_url: str, command: tuple[str, ...]
) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    result = call(*command)
    assert result.exit_code == 2
    assert "there is no ledger in this Postgres" in result.stderr
    assert step_of(empty_url) is None


@pytest.mark.rule("ledger-13")
def test_a_command_that_takes_the_ledger_as_it_is_leaves_its_stages_alone(
    call: Call, scanned: Path, tmp_path: Path
) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(json.dumps({"stages": {"sender": {"prompt": "Who?", "answer": {"name": "string"}}}}))
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger:
        before = ledger.run(stages.graph)
        for command in AS_IT_IS:
            if command[0] == "psql":  # it would replace this process
                continue
            assert call(*command, "--config", str(file)).exit_code == 0, command
        assert ledger.run(stages.graph) == before


def test_status_reads_a_ledger_whose_functions_are_of_another_version(call: Call, scanned: Path) -> None:
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        cur.execute("update applied_sql set digest = 'of another version'")
    assert call("status").exit_code == 0
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        assert cur.execute("select digest from applied_sql").fetchone() == {"digest": "of another version"}
        cur.execute("drop function corrected_fields cascade")
    result = call("records")
    assert result.exit_code == 2
    assert "the functions and views of this ledger are those of another version" in " ".join(result.stderr.split())


def test_doctor_makes_no_call_beside_a_ledger_with_functions_of_another_version(
    call: Call, scanned: Path, router: Router
) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        cur.execute("update applied_sql set digest = 'of another version'")
        cur.execute("drop function not_held cascade")
    result = call("doctor")
    assert result.exit_code == 2
    assert router.completions() == []
    assert "not used, so no call was made: the functions and views of this ledger are those of" in " ".join(
        result.stdout.split()
    )


@pytest.mark.rule("ledger-13")
def test_doctor_makes_no_call_and_blames_the_postgres_of_the_ledger_if_it_is_down(
    call: Call, router: Router, change_timing: ChangeTiming
) -> None:
    change_timing(ledger_patience=0.1)
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    with held_port() as port:
        os.environ["OFFLOAD_POSTGRES_URL"] = f"postgresql://127.0.0.1:{port}/offload"
        result = call("doctor", "--json")
    printed = json.loads(result.stdout)
    assert (result.exit_code, printed["ok"]) == (75, False)
    assert [check["name"] for check in printed["checks"] if not check["ok"]] == ["ledger"]
    assert router.completions() == []


def test_the_ledger_of_a_component_is_named_and_no_second_one_is_suggested(call: Call, empty_url: str) -> None:
    with open_ledger(load_settings(postgres_url=empty_url), "offload_papers"):
        pass
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    result = call("status")
    assert result.exit_code == 2
    assert "components of Dagster projects: offload_papers." in result.stderr
    assert "`select * from offload_papers.records`" in result.stderr
    assert "dagster-offload up" not in result.stderr


@pytest.mark.rule("ledger-13")
def test_doctor_tests_the_slot_beside_a_postgres_without_a_ledger(call: Call, empty_url: str, router: Router) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    result = call("doctor")
    assert result.exit_code == 0
    assert "not used: there is no ledger in this Postgres" in " ".join(result.stdout.split())


@pytest.mark.rule("ledger-13")
def test_a_ledger_that_another_process_is_creating_is_waited_for(call: Call, empty_url: str) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    waits = "select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
    with Ledger(empty_url) as ledger, ThreadPoolExecutor(1) as thread:
        with ledger.transaction() as cur, ledger.connect() as other:
            begin(cur, ledger.schema)  # as an `up` that starts does
            opened = thread.submit(_open_as_it_is)
            while not (opened.done() or other.execute(waits).rowcount):
                wait([opened], timeout=0.01)
            make_steps(cur)
            complete(cur, BUILT_IN)
        opened.result(PATIENCE_SECONDS)


def _open_as_it_is() -> None:
    with open_ledger_as_it_is(load_settings()):
        pass


def test_a_ledger_that_another_process_is_creating_for_long_is_named(
    call: Call, empty_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(migrate, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(migrate, "LONGEST_MIGRATION_SECONDS", 0.01)
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    with Ledger(empty_url) as ledger, ledger.transaction() as cur:
        begin(cur, ledger.schema)
        result = call("status")
    assert result.exit_code == 75
    assert "waiting for it, for a minute at most" in caplog.text
    assert "another process is preparing this ledger" in " ".join(result.stderr.split())
