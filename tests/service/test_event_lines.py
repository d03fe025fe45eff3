"""The lines of `up`: one per event, and what is left at the end."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import BreakerState, SlotRow, State
from dagster_offload.ledger.core.workers import Worker, reclaim_dead
from dagster_offload.ledger.reports import news
from dagster_offload.ledger.reports.news import News, ScanEnd, WorkerNews
from dagster_offload.ledger.reports.status import ProblemGroup
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import documents
from dagster_offload.service.event_lines import EventLines, lines, owes_end, printing, progress, what_is_left
from dagster_offload.slot.config import DEEP, PRIMARY
from dagster_offload.slot.rest import Pause
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.ledger import AWAKE, HOLD, SLOT, Bench
from tests.support.said_lines import Lines

ASLEEP = replace(
    AWAKE,
    breaker=BreakerState.OPEN,
    reason="upstream_cold",
    reason_since=datetime(2026, 1, 1, 14, 2, tzinfo=UTC).astimezone(),
)
BROKEN = ProblemGroup("extract", State.FAILED, "broken_pdf", "broken_pdf: no pages", False, 1, ["a [b].pdf"])


def at(slot: SlotRow, left: int = 0) -> News:
    return News(slots={DEEP: slot}, left=left)


def test_a_slot_that_sleeps_and_wakes_is_told_once_each() -> None:
    asleep, awake = at(ASLEEP, 3), at(replace(AWAKE, epoch=2), 3)
    (line,) = lines(at(AWAKE, 3), asleep)
    assert line.startswith("deep: unavailable, upstream_cold since ")
    assert "3 documents wait, and none is lost" in line
    assert "1 document waits, and none is lost" in lines(at(AWAKE, 1), at(ASLEEP, 1))[0]
    assert lines(at(AWAKE), at(ASLEEP))[0].endswith("; no document waits")
    assert lines(asleep, asleep) == []
    assert lines(asleep, awake) == ["deep: the slot is back; 3 documents left"]
    assert lines(awake, awake) == []


def test_a_pause_is_reported_once_and_so_is_its_end() -> None:
    since = datetime(2026, 1, 1, 14, 2, tzinfo=UTC)
    paused = replace(at(AWAKE, 3), pauses={DEEP: Pause(since), "primary": Pause(since)})  # no primary is configured
    assert lines(at(AWAKE, 3), paused) == ["deep: paused"]
    assert lines(paused, paused) == []
    assert what_is_left(paused) == "Left: 3 documents (paused)"
    longer = replace(paused, pauses={DEEP: Pause(since, since)})
    assert lines(paused, longer) == [f"deep: paused until {since.astimezone():%a %d %b %H:%M}"]
    assert lines(longer, at(AWAKE, 3)) == ["deep: no longer paused; 3 documents left"]


def test_a_slot_that_slept_between_two_looks_is_reported() -> None:
    assert lines(at(AWAKE), at(replace(AWAKE, epoch=2))) == ["deep: the slot was away for a moment, and is back"]


def test_a_misconfigured_slot_is_told_with_the_next_step() -> None:
    (line,) = lines(at(ASLEEP), at(replace(ASLEEP, breaker=BreakerState.MISCONFIGURED, reason="HTTP 401")))
    assert "misconfigured, HTTP 401 since" in line
    assert "dagster-offload doctor" in line


def test_a_held_stage_is_told_once_with_the_next_step() -> None:
    before, now = at(AWAKE, 12), replace(at(AWAKE, 12), holds=[HOLD])
    (line,) = lines(before, now)
    assert line.startswith("deep: the stage payment is held: 5 documents in a row ended in answer_does_not_fit, since ")
    assert "12 documents are left in this stage; correct the stage" in line
    assert lines(now, replace(now, holds=[replace(HOLD, left=13)])) == []
    assert "the stage payment is held" in what_is_left(now)


def test_a_scan_is_told_only_if_it_found_something() -> None:
    assert lines(News(), News(scans=[ScanEnd(27, 3, 1, 0, 0), ScanEnd(27, 0, 0, 0, 0)])) == [
        "scan: 3 new, 1 changed, 27 documents in all"
    ]


def test_the_line_of_a_scan_counts_the_names_that_cannot_be_documents() -> None:
    assert lines(News(), News(scans=[ScanEnd(27, 3, 0, 0, 0, unusable_names=2)])) == [
        "scan: 3 new, 27 documents in all; 2 names cannot be documents"
    ]


def test_the_end_of_all_work_is_reported_when_an_idle_worker_ends_too() -> None:
    drain, scan = WorkerNews("drain", ["classify"], done=3), WorkerNews("scan", ["extract"])
    drained = News(ended=[drain], alive=[scan], documents=3)
    assert lines(News(left=3), drained) == ["drain: 3 done"]
    assert owes_end(News(left=3), drained, False)
    quiet = News(ended=[scan], documents=3)
    assert lines(drained, quiet, is_end_owed=True) == ["all done: 3 documents"]
    assert not owes_end(drained, quiet, True)
    assert lines(drained, News(ended=[scan], left=1), is_end_owed=True) == []


def test_the_start_and_the_end_of_a_drain_are_reported() -> None:
    drain = WorkerNews("drain", ["classify", "summarize"])
    assert lines(News(), News(started=[drain], alive=[drain], left=14)) == ["drain: started, 14 documents left"]
    assert progress(News(alive=[replace(drain, done=5)], left=1000)) == [
        "drain: 5 done so far; 1,000 or more documents left"
    ]
    ended = News(ended=[replace(drain, done=12, failed=1)], failed=[BROKEN], need_you=1, documents=14)
    assert lines(News(left=14), ended) == [
        "drain: 12 done, 1 failed",
        "failed: a [b].pdf, extract: broken_pdf: no pages",
        "all done: 14 documents, 1 of them needs you (dagster-offload status)",
    ]


def test_documents_that_failed_for_one_reason_are_one_line() -> None:
    some = replace(BROKEN, count=5, first=["a [b].pdf", "c.pdf", "d.pdf"], has_others=True)
    assert lines(News(left=5), News(failed=[some, replace(BROKEN, stage="classify")], left=1)) == [
        "failed: 5 documents (a [b].pdf, c.pdf, d.pdf and 2 more), extract: broken_pdf: no pages; others differ",
        "failed: a [b].pdf, classify: broken_pdf: no pages",
    ]
    many = [replace(some, code=str(number)) for number in range(5)]
    assert lines(News(left=5), News(failed=many, left=1))[3:] == [
        "failed: 10 more; `dagster-offload status` lists them"
    ]


def test_documents_that_another_slot_works_at_do_not_wait() -> None:
    spare = replace(AWAKE, name="spare")
    before = News(slots={DEEP: AWAKE, "spare": spare}, left=3)
    (line,) = lines(before, replace(before, slots={DEEP: ASLEEP, "spare": spare}))
    assert line.endswith("; 3 documents left, and none is lost")
    assert what_is_left(replace(before, slots={DEEP: ASLEEP, "spare": spare})).startswith(
        "Left: 3 documents (deep: unavailable, upstream_cold since "
    )
    paused = replace(before, pauses={"spare": Pause(datetime(2026, 1, 1, tzinfo=UTC))})
    (line,) = lines(paused, replace(paused, slots={DEEP: ASLEEP, "spare": spare}))
    assert line.endswith("; 3 documents wait, and none is lost")
    of_runs = {PRIMARY: replace(AWAKE, name=PRIMARY)}  # no drain works there
    (line,) = lines(replace(before, slots={DEEP: AWAKE, **of_runs}), replace(before, slots={DEEP: ASLEEP, **of_runs}))
    assert line.endswith("; 3 documents wait, and none is lost")


def test_documents_that_were_answered_in_some_of_their_stages_are_among_those_that_are_left() -> None:
    drain = WorkerNews("drain", ["classify"], answered_in_part=5)
    left = "7 documents left, 5 of them answered in part"
    assert lines(News(left=7), News(ended=[drain], left=7)) == [f"drain: 0 done; {left}"]
    assert progress(News(alive=[drain], left=7)) == [f"drain: 0 done so far; {left}"]
    assert progress(News(alive=[replace(drain, done=3, failed=1)])) == ["drain: 3 done, 1 failed so far"]


def test_what_was_left_when_a_drain_started_is_what_it_ended_and_what_is_left() -> None:
    ended = WorkerNews("drain", ["classify"], done=3, failed=1, number=7)
    alive = WorkerNews("drain", ["classify"], done=2, number=8)
    now = News(slots={DEEP: replace(AWAKE, epoch=2)}, started=[ended, alive], ended=[ended], alive=[alive], left=5)
    assert lines(at(ASLEEP, 11), now) == [
        "deep: the slot is back; 11 documents left",
        "drain: started, 11 documents left",
        "drain: started, 7 documents left",
        "drain: 3 done, 1 failed; 7 documents left",
    ]


def test_the_walk_of_a_scan_is_no_second_line() -> None:
    walk, text = WorkerNews("scan", []), WorkerNews("scan", ["extract"], done=3)
    assert lines(News(), News(ended=[walk, text], left=3)) == ["text: 3 done"]
    assert lines(News(), News(ended=[walk, text], left=5, texts_left=2)) == ["text: 3 done; 2 texts left"]


def test_documents_whose_text_is_still_to_be_made_are_not_left_by_a_drain() -> None:
    drain = WorkerNews("drain", ["classify"], done=5)
    assert lines(News(), News(ended=[drain], left=2, texts_left=2)) == ["drain: 5 done"]
    assert lines(News(), News(ended=[drain], left=3, texts_left=2)) == ["drain: 5 done; 1 document left"]


def test_what_is_left_names_the_slot_and_those_that_need_a_person() -> None:
    assert what_is_left(News(documents=27)) == "Left: nothing, 27 documents in all"
    left = what_is_left(replace(at(ASLEEP, 14), need_you=2))
    assert left.startswith("Left: 14 documents (unavailable, upstream_cold since ")
    assert left.endswith("; 2 documents need you: dagster-offload status")


def test_an_end_before_the_first_scan_does_not_count_documents() -> None:
    assert what_is_left(News()) == "Left: nothing; no document is known"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger(ledger_url) as ledger:
        ledger.run(slots.register, SLOT)
        yield ledger


def test_the_lines_of_a_scan_and_a_drain_come_from_the_notifications_of_the_ledger(ledger: Ledger) -> None:
    bench, lines = Bench(ledger), Lines()
    with Worker(ledger, "up") as up:
        bench.put("before.txt")
        event_lines = EventLines(ledger, up.id, lines, look_every=0.0)
        up.on_notify(event_lines.notified)
        with printing(event_lines):
            with Worker(ledger, "scan"):
                scan_id = ledger.run(documents.begin_scan)
                ledger.run(documents.end_scan, scan_id, found=1, added=1, changed=0, vanished=0, returned=0)
            lines.wait_for("scan: 1 new, 1 document in all")
            with Worker(ledger, "scan", ["extract"]) as extracting:
                bench.finish(extracting.id, bench.hold(extracting.id, ["extract"]))
            lines.wait_for("text: 1 done")
            with Worker(ledger, "drain") as drain:
                lines.wait_for("drain: started, 1 document left")
                bench.finish(drain.id, bench.hold(drain.id, ["classify"]))
            lines.wait_for("drain: 0 done; 1 document left, 1 of them answered in part")
        assert event_lines.left == "Left: 1 document"


def test_the_numbers_of_a_drain_with_copies_add_up_to_those_it_started_with(ledger: Ledger) -> None:
    bench = Bench(ledger)
    marks = ledger.run(news.begin, bench.worker("up"))
    for key in ("letter.txt", "copy of letter.txt", "broken.txt", "other.txt"):
        bench.put(key, "the same" if "letter" in key else key)
    with Worker(ledger, "scan", [EXTRACT]) as scan:
        while (claim := bench.take(scan.id, [EXTRACT])) is not None:
            for item in claim.items:
                bench.finish(scan.id, claim, item)
    texts, marks = ledger.run(news.read, marks)
    assert lines(News(), texts) == ["text: 4 done"], "a copy is counted, though it was not read"
    with Worker(ledger, "drain") as drain:
        answer(bench, drain.id, "letter.txt", CLASSIFY, SUMMARIZE)
        assert bench.hold(drain.id, keys=["copy of letter.txt"]).items == (), "no call is needed"
        assert (
            bench.fail(drain.id, bench.hold(drain.id, [CLASSIFY], keys=["broken.txt"]), is_final=True) is State.FAILED
        )
        answer(bench, drain.id, "broken.txt", SUMMARIZE)
        answer(bench, drain.id, "other.txt", CLASSIFY)
    drained, marks = ledger.run(news.read, marks)
    started, ended, failed = lines(texts, drained)
    assert started == "drain: started, 4 documents left"
    assert ended == "drain: 2 done, 1 failed; 1 document left, 1 of them answered in part"
    assert failed.startswith("failed: broken.txt, classify: ")
    with Worker(ledger, "drain") as drain:
        answer(bench, drain.id, "other.txt", SUMMARIZE)
    finished, _ = ledger.run(news.read, marks)
    assert lines(drained, finished) == [
        "drain: started, 1 document left",
        "drain: 1 done",
        "all done: 4 documents, 1 of them needs you (dagster-offload status)",
    ]


def test_failures_since_the_last_look_are_grouped_by_their_reason(ledger: Ledger) -> None:
    bench = Bench(ledger)
    marks = ledger.run(news.begin, bench.worker("up"))
    bench.extracted("a.txt", "b.txt", "c.txt", "d.txt")
    with Worker(ledger, "drain") as drain:
        for key in ("a.txt", "b.txt", "c.txt", "d.txt"):
            bench.fail(drain.id, bench.hold(drain.id, [CLASSIFY], keys=[key]), is_final=True)
    drained, marks = ledger.run(news.read, marks)
    (failed,) = [line for line in lines(News(), drained) if line.startswith("failed")]
    assert failed.startswith("failed: 4 documents (a.txt, b.txt, c.txt and 1 more), classify: ")
    assert ledger.run(news.read, marks)[0].failed == []


def test_a_document_that_two_drains_work_at_is_counted_at_the_one_that_ends_it(ledger: Ledger) -> None:
    bench = Bench(ledger)
    marks = ledger.run(news.begin, bench.worker("up"))
    bench.extracted("letter.txt")
    with Worker(ledger, "drain") as drain:
        answer(bench, drain.id, "letter.txt", CLASSIFY)
    with Worker(ledger, "drain") as drain:
        answer(bench, drain.id, "letter.txt", SUMMARIZE)
    both, _ = ledger.run(news.read, marks)
    assert [line for line in lines(News(), both) if line.startswith("drain")] == [
        "drain: started, 1 document left",
        "drain: started, 1 document left",
        "drain: 0 done; 1 document left, 1 of them answered in part",
        "drain: 1 done",
    ]


def test_a_document_that_a_drain_beside_this_one_has_ended_is_not_among_those_left(ledger: Ledger) -> None:
    bench = Bench(ledger)
    marks = ledger.run(news.begin, bench.worker("up"))
    bench.extracted("letter.txt", "other.txt")
    with Worker(ledger, "drain", [SUMMARIZE]) as beside:
        with Worker(ledger, "drain", [CLASSIFY]) as drain:
            before, marks = ledger.run(news.read, marks)
            answer(bench, drain.id, "letter.txt", CLASSIFY)
            answer(bench, beside.id, "letter.txt", SUMMARIZE)
        now, _ = ledger.run(news.read, marks)
    assert lines(before, now) == ["drain: 0 done; 1 document left"]


@pytest.mark.parametrize("kind", ["run", "drain", "scan"])
def test_the_documents_that_a_killed_worker_held_are_told_once_to_be_free_again(ledger: Ledger, kind: str) -> None:
    bench = Bench(ledger)
    bench.put("letter.txt")
    marks = ledger.run(news.begin, bench.worker("up"))
    dead = bench.worker(kind)
    before, marks = ledger.run(news.read, marks)
    bench.hold(dead, [EXTRACT])
    bench.die(dead)
    ledger.run(reclaim_dead, ledger.schema)
    now, marks = ledger.run(news.read, marks)
    name = "text" if kind == "scan" else kind
    assert lines(before, now)[0] == f"{name}: worker {dead} died; 1 document that it held is free again"
    again, _ = ledger.run(news.read, marks)
    assert lines(now, again) == []


def answer(bench: Bench, worker: int, key: str, *stages: str) -> None:
    """Answer these stages of a document."""
    for stage in stages:
        bench.finish(worker, bench.hold(worker, [stage], keys=[key]))
