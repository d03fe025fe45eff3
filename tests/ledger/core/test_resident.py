"""A ledger that a process keeps open: opened once, used by several threads, migrated again from time to time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core import opening, stages
from dagster_offload.ledger.core.opening import ResidentLedger, open_ledger
from dagster_offload.ledger.core.pipelines import announce
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.pipeline import pipeline_of
from tests.support.connections import counting_ledger_connections


@pytest.fixture
def settings(tmp_path: Path, ledger_url: str) -> Settings:
    return load_settings(home=tmp_path, postgres_url=ledger_url)


@pytest.fixture
def resident() -> Iterator[ResidentLedger]:
    ledger = ResidentLedger()
    yield ledger
    ledger.close()


def test_it_is_opened_once_for_all_threads(resident: ResidentLedger, settings: Settings) -> None:
    with ThreadPoolExecutor(4) as threads:
        ledgers = list(threads.map(lambda _: resident.get(settings), range(8)))
    assert len({id(ledger) for ledger in ledgers}) == 1


def test_work_on_it_opens_no_connection(resident: ResidentLedger, settings: Settings) -> None:
    resident.get(settings).run(slots.list_slots)
    with counting_ledger_connections() as opened:
        for _ in range(10):
            assert resident.get(settings).run(slots.list_slots) == []
    assert opened == []


def test_another_database_in_the_settings_opens_another_ledger(
    resident: ResidentLedger, settings: Settings, empty_url: str
) -> None:
    first = resident.get(settings)
    other = resident.get(load_settings(home=settings.home, postgres_url=empty_url))
    assert other.conninfo != first.conninfo
    assert other.run(slots.list_slots) == []  # it is migrated


@pytest.mark.parametrize("typed", ["postgresql:", "postgresql://me:pass", "postgresql://me:a@b@host/x", ""])
def test_a_half_typed_address_in_the_env_file_leaves_the_ledger_where_it_is(
    ledger_url: str, tmp_path: Path, typed: str
) -> None:
    env = Path(".env")
    env.write_text(f"OFFLOAD_POSTGRES_URL={ledger_url}\n")
    with open_ledger(load_settings(home=tmp_path)) as ledger:
        before = ledger.conninfo
        env.write_text(f"OFFLOAD_POSTGRES_URL={typed}\n")
        ledger.revive()
        assert ledger.conninfo == before
        assert ledger.run(slots.list_slots) == []


@pytest.mark.rule("pipeline-6")
def test_stages_are_applied_when_the_running_up_has_announced_them(
    resident: ResidentLedger, settings: Settings, tmp_path: Path
) -> None:
    def stages_and_views() -> tuple[bool, int]:
        found = ledger.run(lambda cur: cur.execute("select from pg_views where viewname = 'record_payment'").rowcount)
        return "payment" in ledger.run(stages.graph).names, found

    def with_payment(when: str) -> Settings:
        file = tmp_path / "offload.yaml"
        file.write_text(
            f"stages: {{payment: {{prompt: What is due?, answer: {{amount: number}}, when: {{classify: {{category: {when}}}}}}}}}"
        )
        return load_settings(home=tmp_path, postgres_url=settings.postgres_url, config=file)

    ledger = resident.get(settings)
    edited = with_payment("[invoice]")
    with Worker(ledger, "up") as up:
        ledger.run(announce, up.id, pipeline_of(settings), None)
        resident.get(edited)
        assert stages_and_views() == (False, 0), "another terminal's file does not change the stages of `up`"
        ledger.run(announce, up.id, pipeline_of(edited), None)
        resident.get(edited)
        assert stages_and_views() == (True, 1)
        before = ledger.run(stages.graph)
        with open_ledger(with_payment("[letter]")):
            assert ledger.run(stages.graph) == before, "nor their conditions, which are in no recipe"
        with open_ledger(settings):
            assert stages_and_views() == (True, 1)
    with open_ledger(settings):
        assert stages_and_views() == (False, 0), "no `up` is running"


def test_a_connection_that_postgres_closed_is_replaced(resident: ResidentLedger, settings: Settings) -> None:
    ledger = resident.get(settings)
    ledger.run(slots.list_slots)
    with psycopg.connect(ledger.conninfo, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert resident.get(settings).run(slots.list_slots) == []


def test_a_ledger_that_a_newer_version_migrated_meanwhile_is_refused(
    resident: ResidentLedger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = resident.get(settings)
    with ledger.transaction() as cur:
        cur.execute("insert into migrations (number, name) values (9999, 'of a newer version')")
    monkeypatch.setattr(opening, "MIGRATE_AGAIN_SECONDS", 0.0)
    with pytest.raises(LedgerUnavailable, match="upgrade dagster_offload"):
        resident.get(settings)
