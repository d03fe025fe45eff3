"""Claims: which worker gets which document, what is due, and what a claim skips."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dagster_offload.ledger.core.rows import Claim, State
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims, documents, left
from dagster_offload.slot.config import DEEP, PRIMARY, SlotConfig
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.ledger import RECIPES, Bench, hold_stage
from tests.support.stages import DRAIN_STAGES


def stages_of(claim: Claim) -> list[str]:
    return [item.stage for item in claim.items]


def test_a_claim_holds_all_due_stages_of_one_document_in_declared_order(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    claim = bench.hold(bench.worker())
    assert claim.document == "a.txt"
    assert stages_of(claim) == [CLASSIFY, SUMMARIZE]
    assert claim.text == "text of a.txt"
    assert {item.recipe for item in claim.items} == {RECIPES[CLASSIFY], RECIPES[SUMMARIZE]}


def test_two_stages_of_one_document_never_go_to_two_workers(bench: Bench) -> None:
    bench.extracted("a.txt")
    first = bench.hold(bench.worker(), [CLASSIFY])
    assert bench.take(bench.worker(), [SUMMARIZE]) is None
    bench.ledger.run(claims.release, 1, first, "done with it")
    assert bench.take(bench.worker(), [SUMMARIZE]) is not None


@pytest.mark.rule("ledger-3")
def test_the_highest_priority_goes_first_then_the_oldest(bench: Bench) -> None:
    bench.extracted("old.txt", "new.txt", "urgent.txt")
    bench.sql(
        "update work_items i set priority = 5 from documents d where d.document_id = i.document_id and d.key = 'urgent.txt'"
    )
    worker = bench.worker()
    assert [bench.hold(worker).document for _ in range(3)] == ["urgent.txt", "old.txt", "new.txt"]


def long_text(key: str, kibibytes: int) -> str:
    return "".join(hashlib.sha256(f"{key}{number}".encode()).hexdigest() for number in range(16 * kibibytes))


@pytest.mark.rule("ledger-11")
def test_short_texts_go_before_long_ones_and_long_ones_in_the_order_of_their_length(bench: Bench) -> None:
    texts = {key: long_text(key, size) for key, size in {"1000": 1000, "100": 100, "200": 200, "64": 64}.items()}
    bench.extracted(*texts, "letter", texts=texts)
    worker = bench.worker()
    assert [bench.hold(worker).document for _ in range(5)] == ["64", "letter", "100", "200", "1000"]


@pytest.mark.rule("ledger-11")
def test_a_person_who_chooses_a_long_document_gets_it_at_once(bench: Bench) -> None:
    bench.extracted("book", "letter", texts={"book": long_text("book", 1000)})
    assert bench.hold(bench.worker("run"), keys=["book"]).document == "book"


@pytest.mark.rule("ledger-11")
def test_a_long_text_that_has_waited_for_a_day_goes_before_newer_short_ones(bench: Bench) -> None:
    bench.extracted("book", "letter", texts={"book": long_text("book", 1000)})
    bench.ledger.run(documents.end_scan, 1, found=2, added=2, changed=0, vanished=0, returned=0)
    assert bench.sql("select 1 from work_items where priority < 0")
    bench.sql("update work_items set changed_at = changed_at - interval '25 hours' where stage = 'extract'")
    bench.ledger.run(documents.end_scan, 1, found=2, added=2, changed=0, vanished=0, returned=0)
    worker = bench.worker()
    assert [bench.hold(worker).document for _ in range(2)] == ["book", "letter"]


def test_a_document_that_another_transaction_holds_is_skipped(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    with bench.ledger.transaction() as cur:
        [held] = claims.take(cur, worker, DRAIN_STAGES, RECIPES, count=1)
        assert held.document == "a.txt"
        other = bench.take(bench.worker())
        assert other is not None
        assert other.document == "b.txt"


@pytest.mark.rule("ledger-3")
def test_eight_concurrent_workers_claim_each_document_once(bench: Bench) -> None:
    keys = [f"{n:02}.txt" for n in range(24)]
    bench.extracted(*keys)
    start = threading.Barrier(8)

    def work(_number: int) -> list[tuple[str, int]]:
        worker, taken = bench.worker(), []
        start.wait()
        while (claim := bench.take(worker)) is not None:
            taken += [(claim.document, claim.token)]
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [pair for share in pool.map(work, range(8)) for pair in share]
    assert sorted(document for document, _ in taken) == keys
    assert len({token for _, token in taken}) == 24


def test_each_content_is_claimed_once_however_many_copies_there_are(bench: Bench) -> None:
    keys = [f"{n:02}.txt" for n in range(16)]
    bench.extracted(*keys, texts=dict.fromkeys(keys, "the same in all"))
    start = threading.Barrier(8)

    def take(_number: int) -> bool:
        worker = bench.worker()
        start.wait()
        claim = bench.take(worker)
        return claim is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_a_copy_of_a_claimed_document_is_skipped_stage_by_stage(bench: Bench) -> None:
    bench.extracted("a.txt", "copy.txt", texts={"a.txt": "same", "copy.txt": "same"})
    bench.hold(bench.worker(), [CLASSIFY])
    claim = bench.hold(bench.worker())
    assert (claim.document, stages_of(claim)) == ("copy.txt", [SUMMARIZE])


def test_a_claim_completes_items_that_have_a_result_and_holds_the_others(bench: Bench) -> None:
    worker = bench.worker()
    bench.extracted("a.txt", "copy.txt", texts={"a.txt": "same", "copy.txt": "same"})
    bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    bench.hold(worker, keys=["a.txt"])
    claim = bench.take(bench.worker(), keys=["copy.txt"])
    assert claim is not None
    assert claim.items == ()
    assert bench.state("copy.txt", CLASSIFY) == State.DONE
    assert bench.state("copy.txt", SUMMARIZE) == State.PENDING


def test_a_claim_is_limited_to_the_given_documents(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    assert bench.hold(bench.worker(), keys=["b.txt"]).document == "b.txt"
    assert bench.take(bench.worker(), keys=["c.txt"]) is None


def test_documents_that_must_run_alone_are_taken_only_with_alone(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    bench.sql("update work_items set must_run_alone = true where document_id = 1")
    assert bench.hold(bench.worker()).document == "b.txt"
    assert bench.take(bench.worker()) is None
    assert bench.hold(bench.worker(), alone=True).is_alone


@pytest.mark.parametrize("what", ["waits for another stage", "is in a stage that the slot holds"])
def test_a_document_that_cannot_run_now_keeps_no_other_from_running_alone(bench: Bench, what: str) -> None:
    bench.extracted("stuck.txt", "free.txt")
    bench.sql("update work_items set must_run_alone = true where stage <> 'extract'")
    bench.sql("update work_items set state = 'done' where stage = 'classify' and document_id = 2")
    bench.sql("insert into cuts (slot, epoch, item_id) select 'deep', 1, item_id from work_items where document_id = 2")
    if what == "waits for another stage":
        bench.sql("""update stages set condition = '{"classify": {"category": ["letter"]}}' where name = 'summarize'""")
        bench.sql("update work_items set not_before = now() + interval '1 hour' where stage = 'classify'")
    else:
        bench.sql("update work_items set state = 'done' where stage = 'summarize' and document_id = 1")
        hold_stage(bench.ledger, CLASSIFY, "no_json")
    assert bench.ledger.run(claims.is_any_free, [SUMMARIZE], DEEP), "the sensor launches a drain for it"
    assert bench.hold(bench.worker(), alone=True, slot=DEEP).document == "free.txt"


def test_a_reclaimed_worker_claims_nothing(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.die(worker)
    assert bench.take(worker) is None


def test_released_work_is_due_at_once_even_if_it_was_deferred_before(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker))
    bench.close_breaker()
    claim = bench.hold(worker)
    bench.ledger.run(claims.release, worker, claim, "stopped")
    assert bench.state("a.txt", CLASSIFY) == State.PENDING
    assert stages_of(bench.hold(worker)) == [CLASSIFY, SUMMARIZE]


def test_postponed_work_waits_its_time_and_costs_nothing(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker)
    bench.ledger.run(claims.postpone, worker, claim, "the file changed", 60.0)
    assert bench.take(worker) is None
    item = bench.item("a.txt", CLASSIFY)
    assert (item["attempts"], item["reason"]) == (0, "the file changed")
    assert item["waits"] == 60
    bench.make_due()
    assert bench.take(worker) is not None


def test_a_worker_that_slept_past_its_lease_postpones_no_work(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker)
    bench.die(worker)
    bench.ledger.run(claims.postpone, worker, claim, "the file changed", 60.0)
    assert bench.take(bench.worker()) is not None


def test_deferred_work_is_due_after_its_wait_or_once_the_slots_breaker_closes(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker))
    assert bench.ledger.run(claims.count_due, [CLASSIFY]) == 1  # b.txt, never claimed
    assert bench.ledger.run(left.count_waiting, [CLASSIFY]) == 1
    bench.close_breaker()
    assert bench.ledger.run(claims.count_due, [CLASSIFY]) == 2


@pytest.mark.rule("drain-9")
def test_a_document_that_is_deferred_in_one_stage_and_left_in_another_is_counted_once(bench: Bench) -> None:
    bench.extracted("deferred.txt", "due.txt", "failing.txt", "failing twice.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker, keys=["deferred.txt"]))
    bench.close_breaker()
    for key, stages in (("failing.txt", [CLASSIFY]), ("failing twice.txt", [CLASSIFY, SUMMARIZE])):
        for stage in stages:
            bench.fail(worker, bench.hold(worker, [stage], keys=[key]))
    bench.defer(worker, bench.hold(worker, keys=["deferred.txt"]), epoch=2)
    found = bench.ledger.run(left.count_left, DRAIN_STAGES)
    assert (found.due, found.deferred, found.left, found.in_back_off) == (3, 1, 3, 1)
    found = bench.ledger.run(left.count_left, [CLASSIFY])
    assert (found.due, found.deferred, found.left, found.in_back_off) == (1, 1, 3, 2)


def test_work_deferred_in_the_current_epoch_waits(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker))
    bench.close_breaker()
    bench.defer(worker, bench.hold(worker), epoch=2)
    assert bench.ledger.run(claims.count_due, [CLASSIFY]) == 0
    bench.make_due()
    assert bench.ledger.run(claims.count_due, [CLASSIFY]) == 1


def test_work_deferred_by_one_slot_is_due_at_another(bench: Bench) -> None:
    bench.ledger.run(slots.register, SlotConfig(PRIMARY, "http://small:1", "small"))
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker))
    assert bench.take(worker, [CLASSIFY], slot=DEEP) is None
    assert bench.ledger.run(claims.count_due, [CLASSIFY], slot=PRIMARY) == 1
    assert bench.take(worker, [CLASSIFY], slot=PRIMARY) is not None


def test_a_wait_is_never_longer_than_half_an_hour(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker), wait=6 * 3600)
    assert bench.item("a.txt", CLASSIFY)["waits"] == 1800


def test_a_claim_from_a_long_backlog_costs_no_more_than_from_a_short_one(bench: Bench) -> None:
    bench.sql(
        "insert into documents (key, digest, size, mtime_ns, ctime_ns, inode) "
        "select n || '.txt', md5(n::text), 1, 1, 1, 1 from generate_series(1, 20000) n"
    )
    bench.sql(
        "insert into work_items (document_id, stage, input_digest) "
        "select document_id, stage, md5(key) from documents, unnest(array['classify', 'summarize']) as stage"
    )
    bench.sql("analyze")
    worker = bench.worker()
    with bench.ledger.transaction() as cur:
        for _ in range(20):
            assert claims.take(cur, worker, DRAIN_STAGES, RECIPES, count=1, slot=DEEP)
        cur.execute(
            "select seq_tup_read + idx_tup_fetch as rows from pg_stat_xact_user_tables where relname = 'work_items'"
        )
        [read] = cur.fetchall()
    assert read["rows"] < 20 * 100, "rows read, of 40,000 that wait"


def test_counts_show_what_other_workers_hold(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    mine, other = bench.worker(), bench.worker()
    bench.hold(other)
    assert bench.ledger.run(left.count_claimed_elsewhere, DRAIN_STAGES, mine) == 1
    assert bench.ledger.run(left.count_claimed_elsewhere, DRAIN_STAGES, other) == 0


def test_unfinished_names_the_item_a_run_waits_for_or_its_upstream(bench: Bench) -> None:
    bench.extracted("a.txt")
    bench.put("new.txt")
    bench.hold(bench.worker(), [CLASSIFY])
    found = bench.ledger.run(left.unfinished, ["a.txt", "new.txt"], [EXTRACT, CLASSIFY])
    assert {(u.document, u.stage, u.state) for u in found} == {
        ("a.txt", CLASSIFY, State.CLAIMED),
        ("new.txt", EXTRACT, State.PENDING),
    }


def test_unfinished_gives_the_seconds_until_an_item_is_due(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker, [CLASSIFY]), wait=120)
    (found,) = bench.ledger.run(left.unfinished, ["a.txt"], [CLASSIFY])
    assert found.seconds_to_due is not None
    assert 110 < found.seconds_to_due <= 120
    assert found.reason == "upstream_cold"


def test_a_backlog_is_counted_up_to_a_thousand_and_shows_that(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.extracted("a", "b", "c")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker))
    assert str(bench.ledger.run(claims.backlog, DRAIN_STAGES)) == "3 documents due, 1 deferred"
    bench.sql(
        "update work_items set state = 'deferred', not_before = now() + interval '1 hour' where stage = 'summarize'"
    )
    monkeypatch.setattr(claims, "MOST_COUNTED", 2)
    assert str(bench.ledger.run(claims.backlog, DRAIN_STAGES)) == "2 or more documents due, 2 or more deferred"
