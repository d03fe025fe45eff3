"""The decision about a document whose call failed together with the slot. No database: facts in, decision out."""

from dataclasses import replace

import pytest

from dagster_offload.ledger.work.suspects import (
    DOCUMENTS_IN_A_ROW_TO_OPEN,
    MOST_TO_RUN_ALONE_AT_ONCE,
    SECONDS_BETWEEN_SUSPICIONS,
    SUSPECT_PAUSE_SECONDS,
    SUSPICIONS_TO_QUARANTINE,
    SUSPICIONS_WHERE_CALLS_DROP,
    Decision,
    Facts,
    Verdict,
    decide,
)

# The first failure of a document that ran with others, while others wait; the trial after it was refused.
FIRST = Facts(
    is_slot_answering=False,
    ran_alone=False,
    failed_at_once=1,
    failed_in_a_row=1,
    times_failed=1,
    suspicions=0,
    is_new_evidence=True,
    others_answered=False,
    others_wait=True,
    drops_calls=False,
)
ALONE = replace(FIRST, ran_alone=True, times_failed=2, others_answered=True)
LAST = replace(ALONE, suspicions=SUSPICIONS_TO_QUARANTINE - 1)


@pytest.mark.rule("suspect-1")
def test_a_first_failure_of_a_slot_that_became_unavailable_makes_no_suspect_and_the_document_runs_alone_later() -> None:
    assert decide(FIRST) == Decision(Verdict.UNDECIDED, runs_alone=True, pause_seconds=None)


def test_a_failure_while_the_slot_answers_makes_a_suspect_that_runs_after_the_others() -> None:
    assert decide(replace(FIRST, is_slot_answering=True)) == Decision(
        Verdict.SUSPECT, pause_seconds=SUSPECT_PAUSE_SECONDS
    )


@pytest.mark.rule("suspect-2")
@pytest.mark.parametrize("is_slot_answering", [True, False])
def test_a_failure_alone_makes_a_suspect_whatever_the_trials_result(is_slot_answering: bool) -> None:
    assert decide(replace(ALONE, is_slot_answering=is_slot_answering)).verdict is Verdict.SUSPECT


@pytest.mark.parametrize("changes", [{"others_wait": False}, {"is_new_evidence": False}])
def test_a_suspect_waits_longer_if_its_next_failure_would_be_no_new_evidence(changes: dict[str, bool]) -> None:
    assert decide(replace(ALONE, **changes)).pause_seconds == SECONDS_BETWEEN_SUSPICIONS


def test_the_third_suspicion_quarantines() -> None:
    assert decide(LAST).verdict is Verdict.POISON


def test_a_failure_that_is_no_new_evidence_does_not_quarantine() -> None:
    assert decide(replace(LAST, is_new_evidence=False)).verdict is Verdict.SUSPECT


@pytest.mark.rule("suspect-2")
def test_a_slot_that_answers_neither_documents_nor_trials_quarantines_none() -> None:
    assert decide(replace(LAST, others_answered=False)).verdict is Verdict.SUSPECT
    assert decide(replace(LAST, others_answered=False, is_slot_answering=True)).verdict is Verdict.POISON


@pytest.mark.rule("suspect-2")
def test_a_slot_that_drops_calls_by_itself_needs_more_suspicions() -> None:
    assert decide(replace(LAST, drops_calls=True)).verdict is Verdict.SUSPECT
    last = replace(LAST, drops_calls=True, suspicions=SUSPICIONS_WHERE_CALLS_DROP - 1)
    assert decide(last).verdict is Verdict.POISON


@pytest.mark.parametrize("facts", [FIRST, ALONE, LAST])
def test_several_documents_that_fail_at_once_run_alone_and_none_is_a_suspect(facts: Facts) -> None:
    assert decide(replace(facts, failed_at_once=2)) == Decision(Verdict.UNDECIDED, runs_alone=True)


@pytest.mark.rule("suspect-3")
def test_many_documents_that_fail_at_once_are_first_retried_together() -> None:
    many = replace(FIRST, failed_at_once=MOST_TO_RUN_ALONE_AT_ONCE + 1)
    assert not decide(many).runs_alone
    assert decide(replace(many, times_failed=2)).runs_alone


@pytest.mark.rule("suspect-7")
@pytest.mark.parametrize("facts", [FIRST, ALONE, LAST])
def test_a_slot_that_fails_documents_in_a_row_is_at_fault(facts: Facts) -> None:
    assert decide(replace(facts, failed_in_a_row=DOCUMENTS_IN_A_ROW_TO_OPEN)).verdict is Verdict.SLOT
