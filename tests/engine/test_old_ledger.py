"""A ledger that an earlier version left with unfinished work is migrated and drained, and no work is repeated."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.slots import slots
from dagster_offload.simulator.server import Router
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import BUILT_IN, CLASSIFY, EXTRACT, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.support.engine import FILLER, Engine
from tests.support.stages import DRAIN_STAGES, STAGE_NAMES

LAST_OLD_STEP = 10  # the last one whose functions are in the numbered files


@pytest.fixture
def old(empty_url: str, router: Router, tmp_path: Path) -> Iterator[Engine]:
    """A ledger from the numbered steps alone, without the functions of `ledger/sql`."""
    with Ledger(empty_url) as ledger:
        engine = Engine(ledger, router, tmp_path)
        engine.sql("create schema offload")
        engine.sql("create table migrations (number integer primary key, name text not null)")
        engine.sql("alter table migrations add column applied_at timestamptz not null default now()")
        for step in sorted(resources.files("dagster_offload.ledger").joinpath("migrations").iterdir(), key=str):
            if step.name.endswith(".sql") and int(step.name[:4]) <= LAST_OLD_STEP:
                engine.sql(step.read_text(encoding="utf-8"))
                engine.sql("insert into migrations (number, name) values (%s, %s)", int(step.name[:4]), step.name)
        yield engine


def add_extracted(engine: Engine, key: str) -> None:
    """Add a document with its text and both LLM stages pending."""
    engine.sql(
        "with d as (insert into documents (key, digest, size, mtime_ns, ctime_ns, inode) "
        "  values (%s, 'bytes of ' || %s, 1, 1, 1, 1) returning *), "
        "r as (insert into results (stage, input_digest, recipe, outcome, text, value, output_digest, first_document) "
        "  select 'extract', digest, %s, 'ok', %s, '{}', 'text of ' || key, key from d returning *) "
        "insert into work_items (document_id, stage, state, input_digest, recipe, outcome, result_id) "
        "select document_id, 'extract', 'done', digest, recipe, 'ok', result_id from d, r union all "
        "select document_id, q.stage, 'pending', output_digest, null, null, null from d, r, "
        "  unnest(array['classify', 'summarize']) as q (stage)",
        key,
        key,
        recipes(engine.settings())[EXTRACT],
        f"{key}\n{FILLER}",
    )


def answer(engine: Engine, key: str, stage: str) -> None:
    engine.sql(
        "with i as (select i.* from work_items i join documents d using (document_id) where d.key = %s and i.stage = %s), "
        "r as (insert into results (stage, input_digest, recipe, outcome, value, output_digest, slot, first_document) "
        "  select stage, input_digest, %s, 'ok', '{\"category\": \"other\", \"summary\": \"old\"}', 'a record', 'deep', %s "
        "  from i returning *) "
        "update work_items w set state = 'done', outcome = 'ok', result_id = r.result_id, recipe = r.recipe "
        "from i, r where w.item_id = i.item_id",
        key,
        stage,
        recipes(engine.settings())[stage],
        key,
    )


def test_a_ledger_of_the_old_layout_is_migrated_and_drained_and_nothing_is_asked_twice(
    old: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(server_settled=0)  # the server is as old as this session
    deep = old.settings().slots.deep
    assert deep is not None
    for key in ("1 claimed", "2 deferred", "3 half done", "4 done", "5 pending"):
        add_extracted(old, key)
    for key, stage in (("3 half done", CLASSIFY), ("4 done", CLASSIFY), ("4 done", SUMMARIZE)):
        answer(old, key, stage)
    # A worker of the old version took the first document and died.
    [worker] = old.sql(
        "insert into workers (kind, host, boot_id, pid, heartbeat_at) "
        "values ('drain', 'here', 'now', 1, now() - interval '1 hour') returning worker_id"
    )
    [taken] = old.sql(
        "select key from take_documents(%s, '{classify,summarize}', '{}', null, 1, false, 'deep')", worker["worker_id"]
    )
    assert taken == {"key": "1 claimed"}
    old.sql(
        "update work_items i set state = 'deferred', deferrals = 3, deferred_slot = 'deep', deferred_epoch = 1, "
        "not_before = now() from documents d where d.document_id = i.document_id and d.key = '2 deferred' "
        "and i.stage <> 'extract'"
    )
    before = old.sql("select * from results order by result_id")

    migrate(old.ledger, BUILT_IN)
    old.ledger.run(slots.register, deep)
    old.drain()

    asked = sorted(old.asked())
    assert len(asked) == len(set(asked)) == 7
    assert {row["state"] for row in old.sql("select state from work_items")} == {"done"}
    assert old.sql("select * from results where result_id <= %s order by result_id", len(before)) == before
    assert old.sql("select count(*) as n from results where superseded_at is null") == [{"n": 5 * len(STAGE_NAMES)}]
    assert old.item("2 deferred", CLASSIFY)["deferrals"] == 3
    assert {old.counts(stage).done for stage in DRAIN_STAGES} == {5}


def test_a_slot_that_an_earlier_version_called_misconfigured_for_its_documents_is_tried_again(old: Engine) -> None:
    old.sql(
        "insert into slots (name, url, model, fingerprint, permits, permits_from_settings, breaker, reason, fault_code, "
        "  fault_items) values ('deep', 'http://slot:1', 'qwen', 'f', 1, 1, 'misconfigured', "
        "  'every_document_refused: no_json', 'http_400', '{7}')"
    )
    add_extracted(old, "1 pending")
    old.sql("update work_items set reason = 'every_document_refused: no_json' where stage = %s", CLASSIFY)
    migrate(old.ledger, BUILT_IN)
    row = old.slot()
    assert (row.breaker, row.is_retry_due) == (BreakerState.OPEN, True)
    assert old.item("1 pending", CLASSIFY)["reason"] == "the ledger was upgraded: this is tried again"
    assert old.drain().done == 1


def test_functions_that_no_code_calls_are_dropped(old: Engine) -> None:
    migrate(old.ledger, BUILT_IN)
    rows = old.sql("select proname from pg_proc where pronamespace = 'offload'::regnamespace")
    names = {row["proname"] for row in rows}
    assert not names & {"take_documents", "finish_group", "may_be_claimed"}
    assert {"take", "finish", "mark_done", "complete_by_reuse"} <= names
