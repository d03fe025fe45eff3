"""The record of a long document from the answers to its parts."""

import json
from typing import Any

import pytest

from dagster_offload.stage_spec.fields import read_answer
from dagster_offload.stage_spec.stage import StageSpec
from dagster_offload.stages.answers.doubts import DROPPED_FIELDS, VALUE_DROPPED
from dagster_offload.stages.own import TOO_MANY_ENTRIES, VALUE_MISSING, combined, own_stage

FIELDS = read_answer(
    {"payee": "string", "note": "string?", "due": "date", "items": {"type": ["string"], "max_items": 3}}
)
EMPTY: dict[str, Any] = {"payee": None, "note": None, "due": None, "items": []}


def test_joined_lists_and_first_values_make_the_record() -> None:
    answers = [EMPTY | {"items": ["a"]}, EMPTY | {"payee": "Kim", "items": ["b"]}, EMPTY | {"payee": "Lee"}]
    assert combined(FIELDS, answers) == {"payee": "Kim", "note": None, "due": None, "items": ["a", "b"]}


def test_a_required_value_that_no_part_gives_makes_the_record_doubtful() -> None:
    assert combined(FIELDS, [EMPTY, EMPTY])["doubtful"] == [VALUE_MISSING]


@pytest.mark.rule("stage-7")
def test_a_value_that_was_dropped_in_a_part_and_that_no_other_part_gives_keeps_its_mark() -> None:
    answers = [EMPTY | {"payee": "Kim"}, EMPTY | {"doubtful": [VALUE_DROPPED]}]
    assert combined(FIELDS, answers)["doubtful"] == [VALUE_DROPPED]
    given: dict[str, Any] = {"payee": "Kim", "note": "Paid.", "due": "2025-03-04", "items": []}
    assert "doubtful" not in combined(FIELDS, [given, *answers])


@pytest.mark.rule("stage-7")
def test_another_field_that_is_null_is_not_taken_for_the_one_that_was_dropped() -> None:
    dropped = EMPTY | {"doubtful": [VALUE_DROPPED], DROPPED_FIELDS: ["due"]}
    assert combined(FIELDS, [dropped, EMPTY | {"payee": "Kim"}])["doubtful"] == [VALUE_DROPPED]
    record = combined(FIELDS, [dropped, EMPTY | {"payee": "Kim", "due": "2025-03-04"}])
    assert record == {"payee": "Kim", "note": None, "due": "2025-03-04", "items": []}


def test_the_question_that_merges_answers_shows_values_and_no_marks() -> None:
    whole = own_stage("payment", StageSpec(prompt="Who pays?", answer=FIELDS, long_documents="whole")).whole
    assert whole is not None
    marked = EMPTY | {"doubtful": [VALUE_DROPPED], DROPPED_FIELDS: ["due"], "quotes": {}, "unsupported": []}
    assert json.loads(whole.note(marked)) == EMPTY


def test_a_joined_list_is_cut_at_its_limit_and_the_record_is_doubtful() -> None:
    places = [{"text": letter, "start": 0, "end": 1} for letter in "ab"]
    answers = [
        EMPTY | {"payee": "Kim", "items": ["a", "b"], "quotes": {"items": places}, "unsupported": []} for _ in range(2)
    ]
    record = combined(FIELDS, answers)
    assert record["items"] == ["a", "b", "a"]
    assert len(record["quotes"]["items"]) == 3
    assert record["doubtful"] == [TOO_MANY_ENTRIES]


def test_a_value_that_was_dropped_in_every_part_for_its_quote_keeps_its_mark() -> None:
    answers = [EMPTY | {"quotes": {}, "unsupported": ["payee"]}, EMPTY | {"quotes": {}, "unsupported": []}]
    assert combined(FIELDS, answers)["unsupported"] == ["payee"]
