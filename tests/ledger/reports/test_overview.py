"""The numbers of the asset `deep_slot`, from generated calls."""

from datetime import UTC, datetime

import pytest

from dagster_offload.ledger.reports.overview import last_hour, last_hours
from dagster_offload.slot.config import DEEP
from tests.support.ledger import Bench


def called(bench: Bench, tokens_in: int, tokens_cached: int | None, seconds: float, minutes_ago: float) -> None:
    bench.sql(
        "insert into calls (item_id, document_id, stage, slot, epoch, asked_model, tokens_in, tokens_out, tokens_cached, "
        "  seconds, outcome, model_evidence, ended_at) "
        "values (1, 1, 'classify', 'deep', 1, 'qwen', %s, 100, %s, %s, 'ok', 'absent', "
        "  clock_timestamp() - make_interval(secs => %s))",
        tokens_in,
        tokens_cached,
        seconds,
        60 * minutes_ago,
    )


def test_the_share_of_the_prompts_that_came_from_the_cache_is_a_fraction(bench: Bench) -> None:
    called(bench, 1000, 900, 5, minutes_ago=20)
    called(bench, 1000, 0, 5, minutes_ago=10)
    called(bench, 1000, None, 5, minutes_ago=5)  # a server that does not report it
    called(bench, 1000, 1000, 5, minutes_ago=90)
    found = bench.ledger.run(last_hour, DEEP)
    assert found.calls == 3
    assert found.cached_share == pytest.approx(0.45)


def test_the_speed_is_that_while_calls_were_open(bench: Bench) -> None:
    called(bench, 900, None, 10, minutes_ago=20)
    called(bench, 900, None, 10, minutes_ago=19.5)  # 20 s without a call lie between them
    assert bench.ledger.run(last_hour, DEEP).tokens_per_second == pytest.approx(100, rel=0.01)


def test_calls_without_an_answer_are_counted_and_an_unusable_answer_is_one(bench: Bench) -> None:
    called(bench, 900, None, 10, minutes_ago=20)
    called(bench, 900, None, 10, minutes_ago=10)
    called(bench, 900, None, 10, minutes_ago=5)
    bench.sql("update calls set tokens_in = null, tokens_out = null")  # a server that counts none
    bench.sql("update calls set outcome = 'no_json' where call_id = (select min(call_id) from calls)")
    bench.sql(
        "update calls set outcome = 'cut', model_evidence = null where call_id = (select max(call_id) from calls)"
    )
    found = bench.ledger.run(last_hour, DEEP)
    assert (found.calls, found.unanswered, found.concurrency) == (3, 1, 2)
    assert bench.ledger.run(last_hour, "studio").concurrency is None, "the ledger does not have this slot"


def test_the_last_hours_begin_with_the_first_use_of_the_slot(bench: Bench) -> None:
    now = datetime(2026, 11, 29, 14, 20, tzinfo=UTC)
    assert [use.calls for use in bench.ledger.run(last_hours, DEEP, 24, now).values()] == [0]
    for hour, minute in ((11, 5), (13, 20), (13, 59)):
        called(bench, 900, None, 10, minutes_ago=0)
        ended_at = now.replace(hour=hour, minute=minute)
        bench.sql("update calls set ended_at = %s where call_id = (select max(call_id) from calls)", ended_at)
    found = bench.ledger.run(last_hours, DEEP, 24, now)
    assert {f"{hour:%H:%M}": use.calls for hour, use in found.items()} == {
        "14:00": 0,
        "13:00": 2,
        "12:00": 0,
        "11:00": 1,
    }
    assert next(iter(found)) == now.replace(minute=0)
    assert len(bench.ledger.run(last_hours, DEEP, 2, now)) == 2


def test_without_a_call_nothing_is_known(bench: Bench) -> None:
    found = bench.ledger.run(last_hour, DEEP)
    assert (found.calls, found.tokens_per_second, found.cached_share) == (0, None, None)
