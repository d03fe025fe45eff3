"""Migrations: each numbered file is applied once, by one process at a time; a newer ledger is refused."""

from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import begin, make_steps, migrate
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.work import corrections
from dagster_offload.stages.graph import BUILT_IN, StageGraph, StageNode


def steps(ledger: Ledger) -> list[int]:
    with ledger.transaction() as cur:
        return [row["number"] for row in cur.execute("select number from migrations order by number")]


def test_a_first_migration_applies_every_numbered_file_once(empty_url: str) -> None:
    shipped = sorted(
        int(entry.name[:4])
        for entry in resources.files("dagster_offload.ledger").joinpath("migrations").iterdir()
        if entry.name.endswith(".sql")
    )
    with Ledger(empty_url) as ledger:
        migrate(ledger, BUILT_IN)
        migrate(ledger, BUILT_IN)
        assert steps(ledger) == shipped
        assert len(set(shipped)) == len(shipped)


def test_several_processes_at_once_migrate_once(empty_url: str) -> None:
    def migrate_by_a_door_of_its_own(_number: int) -> None:
        with Ledger(empty_url) as ledger:
            migrate(ledger, BUILT_IN)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate_by_a_door_of_its_own, range(4)))
    with Ledger(empty_url) as ledger:
        assert steps(ledger)[:1] == [1]


def test_ledgers_live_side_by_side_in_schemas_of_one_database(empty_url: str) -> None:
    with Ledger(empty_url, "one") as one, Ledger(empty_url, "two") as two:
        migrate(one, BUILT_IN)
        migrate(two, BUILT_IN)
        with one.transaction() as cur:
            cur.execute("insert into unusable_names (name, reason) values ('x', 'why')")
        assert one.run(status.unusable_names) == {"x": "why"}
        assert two.run(status.unusable_names) == {}
        assert one.channel != two.channel


def test_a_ledger_of_a_newer_version_is_refused_with_the_next_step(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        with ledger.transaction() as cur:
            cur.execute("insert into migrations (number, name) values (9999, 'from the future')")
        with pytest.raises(LedgerUnavailable, match="upgrade"):
            migrate(ledger, BUILT_IN)


@pytest.mark.parametrize("schema", ["", "Offload", "a-b", "a.b", "a; drop table x", "ü"])
def test_a_schema_name_that_is_not_plain_is_refused(empty_url: str, schema: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        Ledger(empty_url, schema)


def test_tables_are_found_only_through_the_schema(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger, ledger.transaction() as cur:
        cur.execute("select current_setting('search_path') as path, current_setting('timezone') as zone")
        assert cur.fetchone() == {"path": "offload", "zone": "UTC"}


def test_functions_are_applied_again_only_when_they_differ(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:

        def installed() -> object:
            with ledger.transaction() as cur:
                cur.execute(
                    "select xmin::text as written from pg_proc where oid = 'note_success(text[], text[], text[])'::regprocedure"
                )
                return cur.fetchone()

        def say_that(digest: str) -> None:
            with ledger.transaction() as cur:
                cur.execute("update applied_sql set digest = %s", [digest])

        first = installed()
        migrate(ledger, BUILT_IN)
        assert installed() == first, "another process of the same version waits for no lock"
        say_that("what an earlier version left")
        migrate(ledger, BUILT_IN)
        second = installed()
        assert second != first
        migrate(ledger, BUILT_IN)
        assert installed() == second


def test_corrections_that_wait_for_a_review_still_do_after_the_step_that_moves_them(empty_url: str) -> None:
    with Ledger(empty_url) as ledger:
        with ledger.transaction() as cur:
            begin(cur, ledger.schema)
            make_steps(cur, up_to=42)
            cur.execute(
                "insert into documents (key, digest, size, mtime_ns, ctime_ns, inode) "
                "values ('changed.txt', 'new', 1, 1, 1, 1), ('same.txt', 'old', 1, 1, 1, 2)"
            )
            cur.execute(
                "insert into corrections (digest, stage, field, value, document_id) "
                "select 'old', 'classify', field, '1', document_id from documents, "
                "(values ('changed.txt', 'category'), ('same.txt', 'language')) as f (key, field) where f.key = documents.key"
            )
        migrate(ledger, BUILT_IN)
        found = ledger.run(corrections.list_corrections)
        waiting = [(each.document, each.field, each.is_for_review) for each in found]
    assert ("changed.txt", "category", True) in waiting
    assert [document for document, _, is_for_review in waiting if is_for_review] == ["changed.txt"]


def test_the_ledger_stores_the_given_stages_in_declared_order(ledger_url: str) -> None:
    chain = StageGraph((StageNode("read", None), StageNode("translate", "read"), StageNode("answer", "translate")))
    with Ledger(ledger_url) as ledger:
        assert ledger.run(stages.graph) == BUILT_IN
        migrate(ledger, chain)
        assert ledger.run(stages.graph) == chain
        assert list(ledger.run(status.stage_counts, {})) == ["read", "translate", "answer"]
