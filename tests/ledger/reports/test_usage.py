"""Tokens of a worker's calls, and whether documents were read once."""

import pytest

from dagster_offload.ledger.reports import usage
from dagster_offload.ledger.reports.usage import TokenUse, warning_of
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.ledger import Bench


def call(
    bench: Bench, worker: int, document: int, stage: str | None, cached: int | None, tokens_in: int = 2000
) -> None:
    bench.sql(
        "insert into calls (item_id, document_id, stage, worker_id, slot, epoch, asked_model, tokens_in, tokens_out, "
        "tokens_cached, seconds, outcome) values (%s, %s, %s, %s, 'deep', 1, 'qwen', %s, 10, %s, 1, 'ok')",
        None if stage is None else document,
        document,
        stage,
        worker,
        tokens_in,
        cached,
    )


def both_stages(bench: Bench, worker: int, document: int, cached: int | None, tokens_in: int = 2000) -> None:
    call(bench, worker, document, CLASSIFY, None if cached is None else 100, tokens_in)
    call(bench, worker, document, SUMMARIZE, cached, tokens_in)


def reuse(bench: Bench, worker: int) -> float | None:
    return bench.ledger.run(usage.second_stage_reuse, worker, "deep")


def test_tokens_are_summed_over_one_workers_calls_without_trials(bench: Bench) -> None:
    drain = bench.worker()
    both_stages(bench, bench.worker(), 9, 1900)
    both_stages(bench, drain, 1, 1900)
    call(bench, drain, 1, None, 0)
    assert bench.ledger.run(usage.of_worker, drain) == TokenUse(calls=2, read=2000, cached=2000, written=20)
    assert bench.ledger.run(usage.of_last_drain) == TokenUse(calls=2, read=2000, cached=2000, written=20)


def test_answers_of_a_server_that_counts_no_tokens_are_counted_apart(bench: Bench) -> None:
    drain = bench.worker()
    both_stages(bench, drain, 1, None)
    bench.sql(
        "update calls set tokens_in = null, tokens_out = null, outcome = 'no_json', model_evidence = 'absent' "
        "where stage = 'classify'"
    )
    call(bench, drain, 2, CLASSIFY, None)
    bench.sql("update calls set outcome = 'http_503', tokens_in = null, tokens_out = null where document_id = 2")
    assert bench.ledger.run(usage.of_worker, drain) == TokenUse(calls=3, read=2000, written=10, not_counted=1)


def test_a_server_that_reports_no_cache_differs_from_one_that_reuses_nothing(bench: Bench) -> None:
    silent, forgetful = bench.worker(), bench.worker()
    both_stages(bench, silent, 1, None)
    both_stages(bench, forgetful, 2, 0)
    assert bench.ledger.run(usage.of_worker, silent).cached is None
    assert bench.ledger.run(usage.of_worker, forgetful).cached == 100
    assert (reuse(bench, silent), reuse(bench, forgetful)) == (None, 0.0)


def test_reuse_is_measured_only_over_later_stages(bench: Bench) -> None:
    drain = bench.worker()
    for document in range(4):
        both_stages(bench, drain, document, 1800)
    assert reuse(bench, drain) == pytest.approx(0.9)


def test_short_prompts_parts_and_repeated_calls_do_not_count_for_reuse(bench: Bench) -> None:
    drain = bench.worker()
    both_stages(bench, drain, 1, 300, tokens_in=700)
    both_stages(bench, drain, 2, 0)
    call(bench, drain, 2, SUMMARIZE, 0)
    assert reuse(bench, drain) is None


@pytest.mark.parametrize(
    ("found", "is_warned"), [(None, False), (0.5, False), (0.97, False), (0.49, True), (0.0, True)]
)
def test_only_a_server_that_reports_little_reuse_gives_a_warning(found: float | None, is_warned: bool) -> None:
    warning = warning_of(found, "deep", "offload")
    assert (warning is not None) == is_warned
    if warning is not None:
        assert "slot set deep --prompt-cache-size" in warning
        assert "\n" not in warning


def test_without_a_drain_there_is_no_token_use(bench: Bench) -> None:
    assert bench.ledger.run(usage.of_last_drain) is None
