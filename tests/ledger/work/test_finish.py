"""Results: a fenced finish, one current result per key, its effects on later stages, and reuse."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dagster_offload.ledger.core.rows import CallRecord, NewResult, State
from dagster_offload.ledger.work import documents
from dagster_offload.ledger.work import finish as results
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE, Outcome
from tests.support.ledger import RECIPES, SLOT, Bench, call, record_result, text_result


def current(bench: Bench, stage: str) -> list[dict[str, object]]:
    return bench.sql("select * from results where stage = %s and superseded_at is null order by result_id", stage)


@pytest.mark.rule("ledger-4")
def test_a_finish_writes_result_state_downstream_items_call_and_event_together(bench: Bench) -> None:
    bench.put("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker, [EXTRACT])
    assert bench.finish(worker, claim)
    item = bench.item("a.txt", EXTRACT)
    assert (item["state"], item["outcome"], item["worker_id"], item["token"]) == ("done", "ok", None, None)
    assert bench.state("a.txt", CLASSIFY) == bench.state("a.txt", SUMMARIZE) == State.PENDING
    assert bench.finish(worker, bench.hold(worker))
    (made,) = current(bench, CLASSIFY)
    assert (made["served_model"], made["slot"], made["first_document"]) == ("Qwen3.6-27B", "deep", "a.txt")
    assert [row["outcome"] for row in bench.sql("select outcome from calls")] == ["ok"]
    assert [row["stage"] for row in bench.sql("select stage from outbox order by event_id")] == [EXTRACT, CLASSIFY]


def test_a_finish_that_cannot_be_committed_changes_nothing(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker)

    def finish_then_break() -> None:
        with bench.ledger.transaction() as cur:
            results.finish(cur, worker, [results.Finish(claim, claim.items[0], record_result("lost"))], RECIPES, None)
            raise RuntimeError("the process died before the commit")

    with pytest.raises(RuntimeError):
        finish_then_break()
    assert bench.state("a.txt", CLASSIFY) == State.CLAIMED
    assert current(bench, CLASSIFY) == []
    assert bench.sql("select 1 from calls") == []


@pytest.mark.rule("ledger-4")
@pytest.mark.parametrize("how", ["reclaimed", "reclaimed and claimed again", "edited", "gone"])
def test_a_late_answer_is_stored_and_does_not_change_the_state(bench: Bench, how: str) -> None:
    bench.extracted("a.txt")
    late = bench.worker()
    claim = bench.hold(late, [CLASSIFY])
    if how.startswith("reclaimed"):
        bench.die(late)
    if how == "reclaimed and claimed again":
        bench.hold(bench.worker(), [CLASSIFY])
    if how == "edited":
        bench.put("a.txt", "other bytes")
    if how == "gone":
        bench.ledger.run(documents.mark_gone, ["a.txt"])
    before = bench.sql("select state, token, worker_id from work_items order by item_id")
    assert not bench.finish(late, claim)
    assert bench.sql("select state, token, worker_id from work_items order by item_id") == before
    (kept,) = current(bench, CLASSIFY)
    assert kept["input_digest"] == claim.items[0].input_digest
    assert [row["outcome"] for row in bench.sql("select outcome from calls")] == ["ok"]


def test_a_stored_late_answer_is_reused_for_the_same_input(bench: Bench) -> None:
    bench.extracted("a.txt")
    late = bench.worker()
    claim = bench.hold(late, [CLASSIFY])
    bench.die(late)
    bench.finish(late, claim)
    again = bench.hold(bench.worker(), [CLASSIFY])
    assert again.items == ()
    assert bench.state("a.txt", CLASSIFY) == State.DONE


def test_two_answers_for_one_key_leave_one_current_result(bench: Bench) -> None:
    bench.extracted("a.txt")
    first, second = bench.worker(), bench.worker()
    late = bench.hold(first, [CLASSIFY])
    bench.die(first)
    claim = bench.hold(second, [CLASSIFY])
    assert bench.finish(second, claim, result=record_result("the holder's"))
    assert not bench.finish(first, late, result=record_result("the late one"))
    (kept,) = current(bench, CLASSIFY)
    assert kept["value"] == {"category": "other", "summary": "the holder's"}
    assert len(bench.sql("select 1 from results where stage = 'classify'")) == 2


def test_answers_for_one_key_at_the_same_instant_leave_one_current_result(bench: Bench) -> None:
    bench.extracted("a.txt")
    claims = []
    for number in range(6):
        worker = bench.worker()
        claims.append((worker, bench.hold(worker, [CLASSIFY], alone=number >= 2)))
        bench.die(worker)
        bench.sql("update work_items set lone_deaths = 0")
    start = threading.Barrier(6)

    def finish(number: int) -> None:
        worker, claim = claims[number]
        start.wait()
        bench.finish(worker, claim, result=record_result(f"answer {number}"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(finish, range(6)))
    assert len(current(bench, CLASSIFY)) == 1
    assert len(bench.sql("select 1 from results where stage = 'classify'")) == 6


@pytest.mark.rule("ledger-5")
def test_a_copy_and_a_renamed_file_reuse_all_results_and_name_their_source(bench: Bench) -> None:
    bench.put("a.txt", "bytes")
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [EXTRACT]))
    claim = bench.hold(worker)
    for item in claim.items:
        bench.finish(worker, claim, item)
    bench.put("renamed.txt", "bytes")
    assert bench.take(worker, [EXTRACT, CLASSIFY, SUMMARIZE]) is None
    for stage in (EXTRACT, CLASSIFY, SUMMARIZE):
        assert bench.state("renamed.txt", stage) == State.DONE
    events = bench.sql(
        "select stage, reused_from from outbox o join documents d using (document_id) where d.key = 'renamed.txt'"
    )
    assert {row["stage"]: row["reused_from"] for row in events} == dict.fromkeys(
        [EXTRACT, CLASSIFY, SUMMARIZE], "a.txt"
    )
    assert len(bench.sql("select 1 from calls")) == 2


@pytest.mark.parametrize("outcome", [Outcome.EMPTY, Outcome.NO_TEXT, Outcome.NEEDS_OCR])
def test_outcomes_without_text_are_done_in_all_stages_without_a_call(bench: Bench, outcome: Outcome) -> None:
    bench.extracted("scan.pdf", "other.pdf", outcome=outcome, texts={"scan.pdf": "", "other.pdf": ""})
    for stage in (EXTRACT, CLASSIFY, SUMMARIZE):
        item = bench.item("scan.pdf", stage)
        assert (item["state"], item["outcome"]) == (State.DONE, outcome)
    assert bench.take(bench.worker()) is None
    assert bench.sql("select 1 from calls") == []
    assert len(bench.sql("select 1 from outbox")) == 6
    assert len(current(bench, CLASSIFY)) == 1


def test_an_empty_file_and_a_scan_without_text_do_not_share_a_result(bench: Bench) -> None:
    bench.extracted("empty.txt", outcome=Outcome.EMPTY, texts={"empty.txt": ""})
    bench.extracted("scan.pdf", outcome=Outcome.NEEDS_OCR, texts={"scan.pdf": ""})
    assert bench.item("empty.txt", CLASSIFY)["outcome"] == Outcome.EMPTY
    assert bench.item("scan.pdf", CLASSIFY)["outcome"] == Outcome.NEEDS_OCR


def test_a_redo_replaces_the_current_result_and_keeps_the_old_one(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]), result=record_result("first"))
    bench.redo([CLASSIFY], ["a.txt"])
    claim = bench.hold(worker, [CLASSIFY])
    assert [item.stage for item in claim.items] == [CLASSIFY]
    bench.finish(worker, claim, result=record_result("second"))
    (kept,) = current(bench, CLASSIFY)
    assert kept["value"] == {"category": "other", "summary": "second"}
    assert bench.item("a.txt", CLASSIFY)["result_id"] == kept["result_id"]
    assert len(bench.sql("select 1 from results where stage = 'classify'")) == 2


def test_a_repeated_extraction_with_the_same_text_keeps_the_later_stages(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    bench.redo([EXTRACT], ["a.txt"])
    bench.finish(worker, bench.hold(worker, [EXTRACT]), result=text_result("text of a.txt"))
    assert bench.state("a.txt", CLASSIFY) == State.DONE
    assert bench.state("a.txt", SUMMARIZE) == State.PENDING


def test_a_repeated_extraction_with_another_text_restarts_the_later_stages(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker, holder = bench.worker(), bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    claim = bench.hold(holder, [SUMMARIZE])
    bench.die(holder)
    bench.redo([EXTRACT], ["a.txt"])
    bench.finish(worker, bench.hold(worker, [EXTRACT]), result=text_result("a better text"))
    assert bench.state("a.txt", CLASSIFY) == bench.state("a.txt", SUMMARIZE) == State.PENDING
    assert not bench.finish(holder, claim)
    assert bench.hold(worker).text == "a better text"


def test_every_completion_is_a_row_with_its_item_slot_epoch_models_and_tokens(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker)
    record = CallRecord("deep", SLOT.url, 1, "qwen", 2.5, "ok", "Qwen3.6", "reported", 100, 20, 80)
    bench.finish(worker, claim, result=NewResult(Outcome.OK, "digest", value={}, calls=(record,)))
    (row,) = bench.sql("select * from calls")
    assert (row["item_id"], row["document_id"], row["stage"]) == (claim.items[0].item_id, claim.document_id, CLASSIFY)
    assert (row["asked_model"], row["served_model"], row["model_evidence"]) == ("qwen", "Qwen3.6", "reported")
    assert (row["tokens_in"], row["tokens_out"], row["tokens_cached"], row["seconds"]) == (100, 20, 80, 2.5)


def test_a_trial_is_a_call_without_an_item(bench: Bench) -> None:
    bench.ledger.run(results.record_call, bench.worker(), None, None, call())
    assert bench.sql("select item_id, outcome from calls") == [{"item_id": None, "outcome": "ok"}]


def test_what_a_finish_starts_is_looked_up_by_key_although_the_plan_was_made_for_empty_tables(bench: Bench) -> None:
    read = "select coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::int as n from pg_stat_xact_user_tables where relname = %s"
    with bench.ledger.transaction() as cur:  # the planner never sees how many rows these are
        cur.execute(
            "with d as (insert into documents (key, digest, size, mtime_ns, ctime_ns, inode, digested_at) "
            "  select n::text, n::text, 1, 1, 1, n, now() from generate_series(1, 1000) n returning document_id, digest), "
            "r as (insert into results (stage, input_digest, recipe, outcome, text, output_digest, first_document) "
            "  select 'extract', digest, 'x1', 'ok', digest, digest, digest from d returning result_id, input_digest) "
            "insert into work_items (document_id, stage, state, outcome, input_digest, recipe, result_id) "
            "select document_id, 'extract', 'done', 'ok', digest, 'x1', result_id from d join r on r.input_digest = d.digest"
        )
        before = cur.execute(read, ["work_items"]).fetchone()["n"]  # type: ignore[index]
        cur.execute(
            "select start_items(array[max(document_id)], '{classify,summarize}', null, '{}') from documents "
            "where key = '1000'"
        )
        rows = cur.execute(read, ["work_items"]).fetchone()["n"] - before  # type: ignore[index]
    assert bench.state("1000", CLASSIFY) == State.PENDING
    assert rows < 100


def test_a_finish_looks_its_items_up_by_id_although_the_table_is_small(bench: Bench) -> None:
    """Of a small table the planner would rather read everything, and the plan is kept while the table grows."""
    bench.extracted("a.txt")
    bench.sql(
        "with d as (insert into documents (key, digest, size, mtime_ns, ctime_ns, inode, digested_at) "
        "  select n::text, n::text, 1, 1, 1, n, now() from generate_series(1, 1000) n returning document_id, digest) "
        "insert into work_items (document_id, stage, state, input_digest) "
        "select document_id, 'extract', 'gone', digest from d"
    )
    bench.sql("analyze work_items")
    worker = bench.worker()
    finish = results.Finish(claim := bench.hold(worker), claim.items[0], record_result("words"))
    read = "select idx_tup_fetch + seq_tup_read as n from pg_stat_xact_user_tables where relname = 'work_items'"
    with bench.ledger.transaction() as cur:
        assert results.finish(cur, worker, [finish], RECIPES, None) == [True]
        assert cur.execute(read).fetchone()["n"] < 100  # type: ignore[index]
