"""Speed and end of a backlog, from generated calls, and the notes if the history is too short."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from dagster_offload.ledger.core import stages
from dagster_offload.ledger.reports import long_documents
from dagster_offload.ledger.reports.estimate import Estimate, estimate, expected_end
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.catalog import Splitting
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE, StageGraph, StageNode
from dagster_offload.text.tokens import estimated_tokens
from tests.support.ledger import Bench

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def looked(bench: Bench) -> Estimate:
    return bench.ledger.run(estimate, DEEP)


def looked_with_parts(bench: Bench) -> Estimate:
    return bench.ledger.run(lambda cur: estimate(cur, DEEP, splitting=Splitting((SUMMARIZE,), 1_000)))


def drained(bench: Bench, documents: int, beside: int = 1, hours_ago: float = 0.0) -> None:
    """Answered calls: 10 s to classify, 30 s to summarize, `beside` documents in flight, that ended so long ago.

    All times are those of one moment: on a busy machine the rows of the statement are milliseconds apart.
    """
    bench.sql(
        "insert into calls (item_id, document_id, stage, slot, epoch, asked_model, tokens_in, tokens_out, tokens_cached, "
        "  seconds, outcome, ended_at) "
        "select %s + 2 * n + s, n, case s when 0 then 'classify' else 'summarize' end, 'deep', 1, 'qwen', 1000, 50, s * 900, "
        "  case s when 0 then 10 else 30 end, 'ok', now() - make_interval(secs => %s) "
        "  - make_interval(secs => (%s - n / %s) * 40 - case s when 0 then 10 else 40 end) "
        "from generate_series(0, %s) as n, generate_series(0, 1) as s",
        int(hours_ago * 1000),
        hours_ago * 3600,
        documents // beside,
        beside,
        documents - 1,
    )


def backlog(bench: Bench, documents: int) -> None:
    bench.extracted(*(f"{n}.txt" for n in range(documents)))


def test_without_calls_the_note_says_that_the_speed_is_not_known(bench: Bench) -> None:
    backlog(bench, 2)
    assert looked(bench) == Estimate(note="speed not known: the slot answered no call in the last two weeks")


@pytest.mark.parametrize("beside", [1, 4])
def test_speed_and_time_left_use_the_slots_time_not_a_calls(bench: Bench, beside: int) -> None:
    drained(bench, 40, beside)
    backlog(bench, 9)
    found = looked(bench)
    assert found.documents_per_hour == pytest.approx(90 * beside, rel=0.05)
    assert found.tokens_per_second == pytest.approx((1000 + 50 + 100 + 50) / 40 * beside, rel=0.05)
    assert found.slot_hours_left == pytest.approx(0.1 / beside, rel=0.05)


def test_pauses_do_not_count_as_use_of_the_slot(bench: Bench) -> None:
    for hours_ago in (1, 20, 60):
        drained(bench, 20, hours_ago=hours_ago)
    assert looked(bench).documents_per_hour == pytest.approx(90, rel=0.05)


def test_a_slot_that_often_sleeps_for_less_than_a_minute_is_not_taken_for_a_slow_one(bench: Bench) -> None:
    drained(bench, 20)
    before = looked(bench).documents_per_hour
    bench.sql("update calls set ended_at = ended_at - make_interval(secs => 30 * (1000 - item_id))")
    assert looked(bench).documents_per_hour == pytest.approx(before)


def test_a_short_call_inside_a_long_one_takes_no_time_of_its_own(bench: Bench) -> None:
    drained(bench, 20)
    before = looked(bench).tokens_per_second
    bench.sql(
        "insert into calls (item_id, document_id, stage, slot, epoch, asked_model, tokens_in, tokens_out, seconds, outcome, "
        "  ended_at) select item_id + 1000, document_id, stage, slot, epoch, asked_model, 0, 0, 1, outcome, "
        "  ended_at - interval '5 s' from calls"
    )
    assert looked(bench).tokens_per_second == pytest.approx(before)


@pytest.mark.parametrize("asked", [0, 10])
def test_a_stage_with_a_condition_counts_for_the_documents_that_it_is_asked_about(bench: Bench, asked: int) -> None:
    drained(bench, 20)
    condition = {CLASSIFY: {"category": ["invoice"]}}
    graph = (StageNode("extract", None), StageNode(CLASSIFY, "extract"), StageNode(SUMMARIZE, "extract", condition))
    bench.ledger.run(stages.replace, StageGraph(graph))
    bench.sql("delete from calls where stage = %s and item_id >= %s", SUMMARIZE, 2 * asked)
    assert looked(bench).documents_per_hour == pytest.approx(3600 / (10 + 30 * asked / 20), rel=0.05)


def test_documents_without_extracted_text_count_in_the_backlog(bench: Bench) -> None:
    drained(bench, 40)
    for n in range(9):
        bench.put(f"{n}.txt")
    assert looked(bench).slot_hours_left == pytest.approx(0.1, rel=0.05)


def test_documents_without_extracted_text_count_in_every_stage_of_a_chain(bench: Bench) -> None:
    drained(bench, 40)
    chain = (StageNode("extract", None), StageNode(CLASSIFY, "extract"), StageNode(SUMMARIZE, CLASSIFY))
    bench.ledger.run(stages.replace, StageGraph(chain))
    for n in range(9):
        bench.put(f"{n}.txt")
    assert looked(bench).slot_hours_left == pytest.approx(0.1, rel=0.05)


def made_of_words(seed: int) -> str:
    """About 400 KB of prose that does not shrink to a tenth when Postgres stores it."""
    chance = random.Random(seed)
    return " ".join("".join(chance.choices("abcdefghij", k=6)) for _ in range(57_000))


def test_a_long_document_that_no_stage_has_begun_counts_with_its_parts(bench: Bench) -> None:
    drained(bench, 40)  # no part was read yet: one counts like a call about a document, on average 20 s
    text = "".join(f"{n:06} words " for n in range(25_000))
    bench.extracted("book.txt", texts={"book.txt": text})
    seconds = 10 + estimated_tokens(text) / 1_000 * 4 / 3 * 20
    assert looked_with_parts(bench).slot_hours_left == pytest.approx(seconds / 3600, rel=0.1)


def test_long_documents_whose_texts_are_not_read_count_by_their_size(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained(bench, 40)
    bench.extracted(*(f"{n}.txt" for n in range(4)), texts={f"{n}.txt": made_of_words(n) for n in range(4)})
    read = looked_with_parts(bench).slot_hours_left
    monkeypatch.setattr(long_documents, "MOST_READ", 1)
    assert looked_with_parts(bench).slot_hours_left == pytest.approx(read, rel=0.35)


def test_one_stage_left_counts_as_that_stage(bench: Bench) -> None:
    drained(bench, 40)
    backlog(bench, 9)
    bench.sql("update work_items set state = 'failed' where stage = %s", SUMMARIZE)
    assert looked(bench).slot_hours_left == pytest.approx(9 * 10 / 3600, rel=0.05)
    bench.sql("update work_items set state = 'failed' where stage = %s", CLASSIFY)
    assert looked(bench).slot_hours_left == 0


def test_what_waits_for_a_held_stage_is_no_work_that_will_be_done(bench: Bench) -> None:
    drained(bench, 40)
    backlog(bench, 9)
    found = bench.ledger.run(estimate, DEEP, held_everywhere={CLASSIFY})
    assert found.slot_hours_left == pytest.approx(9 * 30 / 3600, rel=0.05)
    assert found.held_hours == pytest.approx(9 * 10 / 3600, rel=0.05)


def test_a_stage_that_needs_the_answers_of_a_held_stage_waits_with_it(bench: Bench) -> None:
    drained(bench, 40)
    reads_class = StageNode("summarize", "extract", {CLASSIFY: {"category": ["letter"]}})
    bench.ledger.run(
        stages.replace, StageGraph((StageNode("extract", None), StageNode(CLASSIFY, "extract"), reads_class))
    )
    for n in range(9):
        bench.put(f"{n}.txt")
    found = bench.ledger.run(estimate, DEEP, held_everywhere={CLASSIFY})
    assert (found.slot_hours_left, found.done_at, found.note) == (0, None, None)
    assert found.held_hours == pytest.approx(9 * 40 / 3600, rel=0.05)


def test_a_begun_long_document_counts_by_its_parts_and_does_not_slow_the_estimate_of_others(bench: Bench) -> None:
    drained(bench, 40)
    backlog(bench, 9)
    before = looked(bench)
    (book,) = bench.sql(
        "update work_items set parts_done = 100, parts_total = 400 where stage = %s and document_id = "
        "(select document_id from documents where key = '8.txt') returning item_id, document_id",
        SUMMARIZE,
    )
    bench.sql(
        "insert into calls (item_id, document_id, stage, slot, epoch, asked_model, tokens_in, tokens_out, seconds, outcome, "
        "  part, ended_at) select %s, %s, 'summarize', 'deep', 1, 'qwen', 1000, 50, 36, 'ok', 'part ' || n || ' of 400', "
        "  clock_timestamp() - make_interval(hours => 2) + make_interval(secs => 36 * n) from generate_series(1, 100) as n",
        book["item_id"],
        book["document_id"],
    )
    found = looked(bench)
    assert found.documents_per_hour == pytest.approx(before.documents_per_hour, rel=0.05)
    assert before.slot_hours_left is not None
    parts_hours = (300 + 400 / 3) * 36 / 3600
    assert found.slot_hours_left == pytest.approx(before.slot_hours_left - 30 / 3600 + parts_hours, rel=0.05)


def test_a_few_days_of_use_give_no_end_time(bench: Bench) -> None:
    drained(bench, 40, hours_ago=50)
    drained(bench, 40, hours_ago=1)
    backlog(bench, 9)
    found = looked(bench)
    assert found.done_at is None
    assert found.note is not None
    assert "too few to know its usual hours" in found.note


def test_four_weeks_of_the_same_hours_give_an_end_time(bench: Bench) -> None:
    for days_ago in range(1, 28):
        drained(bench, 40, hours_ago=24 * days_ago)
    backlog(bench, 90)
    found = looked(bench)
    assert found.slot_hours_left == pytest.approx(1.0, rel=0.05)
    assert found.done_at is not None
    assert timedelta(0) < found.done_at - datetime.now(UTC) < timedelta(hours=49)


def usual(days: range, *hours: int) -> list[datetime]:
    return [MONDAY - timedelta(days=day) + timedelta(hours=hour) for day in days for hour in hours]


def test_only_the_usual_hours_count() -> None:
    evenings = usual(range(1, 29), 20, 21)
    noon = MONDAY + timedelta(hours=12)
    since = min(evenings)
    end, note = expected_end(noon, 3.0, since, evenings)
    assert note is None
    assert end is not None
    assert MONDAY + timedelta(hours=44) < end < MONDAY + timedelta(hours=46)


def test_an_hour_used_every_other_week_counts_half() -> None:
    every_week, every_other = usual(range(7, 29, 7), 20), usual(range(14, 29, 14), 20)
    since = MONDAY - timedelta(days=28)
    often, _ = expected_end(MONDAY, 1.0, since, every_week)
    seldom, _ = expected_end(MONDAY, 1.0, since, every_other)
    assert often is not None
    assert seldom is not None
    assert seldom - often >= timedelta(days=7)


def test_a_backlog_of_years_has_a_note_instead_of_an_end_time() -> None:
    end, note = expected_end(MONDAY, 1e6, MONDAY - timedelta(days=28), usual(range(1, 29), 20))
    assert end is None
    assert note == "not within half a year at the slot's usual hours"
