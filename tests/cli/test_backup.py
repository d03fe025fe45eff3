"""`backup`, `restore` and `move`: what they print, what they refuse, and what stays private."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import pytest

from dagster_offload.ledger.archive import outcomes
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.postgres import shown_url
from dagster_offload.postgres.external import normalised
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from tests.support.cli import Call, scan_and_extract
from tests.support.database import database_url, new_database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "offload.backup"


@pytest.fixture(autouse=True)
def disk(file: Path) -> None:
    file.parent.mkdir()


@pytest.fixture
def second_url(postgres_url: str) -> Iterator[str]:
    """Another empty database."""
    with new_database(postgres_url, "template0") as name:
        yield database_url(postgres_url, name)


def test_backup_prints_one_line_or_one_object(call: Call, scanned: Path, file: Path) -> None:
    result = call("backup", str(file))
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert result.stdout.startswith(f"{file}: 2 documents (with those that are gone), 2 results, ")
    found = json.loads(call("backup", str(file.with_name("second")), "--json").stdout)
    assert (found["documents"], found["results"], found["with_dagster"]) == (2, 2, False)
    assert found["bytes"] == file.with_name("second").stat().st_size


def test_backup_refuses_with_one_line_and_exit_code_2(call: Call, scanned: Path, file: Path) -> None:
    for target in (file.parent / "missing" / "a", scanned / "a.backup", file.parent):
        result = call("backup", str(target), "--json")
        assert result.exit_code == 2
        assert json.loads(result.stdout)["error"]
    assert list(file.parent.iterdir()) == []


@pytest.mark.slow
def test_a_ledger_with_dagsters_storages_is_restored_into_another_database(
    call: Call, scanned: Path, file: Path, empty_url: str
) -> None:
    from dagster_offload.defs.instance import create_tables, open_instance
    from dagster_offload.defs.names import RAN_ON_TAG
    from dagster_offload.defs.runs import RanOn

    @dg.job
    def job() -> None:
        """A run that was in progress."""

    create_tables(os.environ["OFFLOAD_POSTGRES_URL"])
    with open_instance(load_settings()) as instance:
        instance.add_dynamic_partitions("documents", ["letter.txt"])
        started = instance.create_run_for_job(
            job, tags={RAN_ON_TAG: str(RanOn("another host", "its boot"))}, status=dg.DagsterRunStatus.STARTED
        )
    assert call("backup", "--with-dagster", str(file)).exit_code == 0

    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    result = call("restore", str(file))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "restored 2 documents (with those that are gone), 2 results, with Dagster's storages (as of "
    )
    assert f"copy your offload.yaml to {os.environ['OFFLOAD_HOME']} before you start `up`" in " ".join(
        result.stdout.split()
    )
    with open_instance(load_settings()) as instance:
        assert instance.get_dynamic_partitions("documents") == ["letter.txt"]
        run = instance.get_run_by_id(started.run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.FAILURE, "no process of the new ledger works on it"
        instance.add_dynamic_partitions("documents", ["minutes.md"])  # its sequences continue
    assert json.loads(call("status", "--json").stdout)["stages"]["extract"]["done"] == 2

    again = call("restore", str(file))
    assert again.exit_code == 2
    assert "--replace" in again.stderr
    assert call("restore", "--replace", str(file), "--json").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--with-dagster"]])
def test_a_restore_without_the_pipeline_file_keeps_the_stages_of_the_backup(
    call: Call,
    with_ledger: str,
    library: Path,
    file: Path,
    empty_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: list[str],
) -> None:
    copied = tmp_path / "offload.yaml"
    copied.write_text('stages: {payment: {prompt: Who is paid?, answer: {payee: "string?"}}}\n')
    monkeypatch.setenv("OFFLOAD_CONFIG", str(copied))
    scan_and_extract()
    assert call("correct", "letter.txt", "--set", "payment.payee=Anna").exit_code == 0
    assert call("backup", *option, str(file)).exit_code == 0
    monkeypatch.delenv("OFFLOAD_CONFIG")
    monkeypatch.setenv("OFFLOAD_POSTGRES_URL", empty_url)
    restored = call("restore", str(file))
    assert restored.exit_code == 0, restored.output
    monkeypatch.setenv("OFFLOAD_CONFIG", str(copied))
    assert json.loads(call("records", "letter.txt", "--json").stdout)["payment"] == {"payee": "Anna"}


def test_restore_refuses_other_files(call: Call, with_ledger: str, file: Path) -> None:
    file.write_text("Dear landlord")
    result = call("restore", str(file))
    assert result.exit_code == 2
    assert "not a backup" in result.stderr
    assert call("restore", str(file.with_name("missing"))).exit_code == 2


@pytest.mark.slow
def test_move_names_the_setting_and_the_old_copy_is_refused(
    call: Call, scanned: Path, empty_url: str, router: Router
) -> None:
    old = os.environ["OFFLOAD_POSTGRES_URL"]
    moved = call("move", "--to", empty_url)
    assert moved.exit_code == 0, moved.output
    assert f"set OFFLOAD_POSTGRES_URL to {shown_url(empty_url)}" in moved.stdout

    refused = call("status")
    assert refused.exit_code == 2
    assert shown_url(empty_url) in refused.stderr
    assert call("drain").exit_code == 2
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    assert json.loads(call("status", "--json").stdout)["stages"]["extract"]["done"] == 2

    os.environ["OFFLOAD_POSTGRES_URL"] = old
    assert call("move", "--undo").exit_code == 0
    assert call("status").exit_code == 0
    assert call("move", "--undo").exit_code == 2


@pytest.mark.slow
def test_a_password_is_read_from_standard_input_and_shown_nowhere(
    call: Call, scanned: Path, empty_url: str, second_url: str
) -> None:
    url = empty_url.replace("postgresql://offload@", "postgresql://offload:hunter2@", 1)
    assert "hunter2" in url
    refused = call("move", "--to", url)
    assert refused.exit_code == 2
    assert "--to -" in refused.stderr
    moved = call("move", "--to", "-", "--json", input=f"{url}\n")
    assert moved.exit_code == 0, moved.output
    assert "hunter2" not in refused.output + moved.output + call("status").output
    with open_ledger(load_settings(postgres_url=empty_url)) as ledger, ledger.transaction() as cur:
        assert cur.execute("select ledger_id from identity where moved_to is not null").fetchall() == []


@pytest.mark.parametrize("arguments", [[], ["--to", "embedded", "--undo"], ["--to", "mysql://host/db"]])
def test_move_refuses_wrong_usage(call: Call, with_ledger: str, arguments: list[str]) -> None:
    assert call("move", *arguments).exit_code == 2


def test_the_embedded_ledger_is_not_moved_to_the_embedded_postgres(call: Call) -> None:
    result = call("move", "--to", "embedded")
    assert result.exit_code == 2
    assert "OFFLOAD_POSTGRES_URL is not set" in result.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:hunter2@db.local:5433/offload", "postgresql://ada@db.local:5433/offload"),
        ("postgres://ada@[::1]/offload?sslmode=require", "postgresql://ada@[::1]/offload"),
        ("postgresql://ada@/offload?host=/run/pg&port=6000", "postgresql://ada@/offload?host=/run/pg&port=6000"),
    ],
)
def test_an_address_is_shown_as_a_person_writes_it(url: str, shown: str) -> None:
    assert shown_url(normalised(url)) == shown
    assert urlsplit(shown).password is None


def test_a_failed_backup_is_in_status_and_doctor(call: Call, with_ledger: str, router: Router) -> None:
    with open_ledger(load_settings()) as ledger:
        ledger.run(outcomes.record_success, "box:/mnt/disk", "offload-20261128T120000Z.backup", 7)
        ledger.run(outcomes.record_failure, "box:/mnt/disk", "No space left on device")
    said = "the backup into box:/mnt/disk failed: No space left on device (the last good one is of 20"
    assert said in call("status").stdout
    [shown] = json.loads(call("status", "--json").stdout)["backups"]
    assert (shown["error"], shown["bytes"]) == ("No space left on device", 7)
    assert any(said in str(check["advice"]) for check in json.loads(call("doctor", "--json").stdout)["checks"])
