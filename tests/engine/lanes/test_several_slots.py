"""Several slots for one stage: one drain works at all of them, and none answers a stage that does not name it."""

import asyncio
import time

import pytest

from dagster_offload.engine.lanes.lanes import Lanes
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.engine.trying import try_stage
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.slots import rests
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.support.several_slots import BOTH, KEYS, Several


@pytest.mark.rule("slot-17")
def test_one_drain_works_at_all_slots_at_the_same_time(several: Several) -> None:
    several.engine.texts(*KEYS)
    for router in (several.deep, several.studio):
        router.set(hold=True)
    drain = several.engine.beside(several.engine.drain)
    several.deep.wait(open=1)
    several.studio.wait(open=1)
    for router in (several.deep, several.studio):
        router.set(hold=False)
    summary = drain.result()
    assert (summary.done, summary.failed, summary.deferred, summary.left) == (8, 0, 0, 0)
    assert sum(several.answers().values()) == 16
    assert several.asked_twice() == []
    assert {slot for slot, _ in several.answers()} == {"deep", "studio"}


@pytest.mark.rule("slot-17")
def test_each_slot_has_its_own_concurrency(several: Several) -> None:
    several.stages(concurrency=3)
    several.engine.texts(*KEYS)
    for router in (several.deep, several.studio):
        router.set(hold=True)
    drain = several.engine.beside(several.engine.drain, deep_concurrency=2)
    several.deep.wait(open=2)
    several.studio.wait(open=3)
    for router in (several.deep, several.studio):
        router.set(hold=False)
    assert drain.result().done == 8
    assert (several.deep.log()["max_open"], several.studio.log()["max_open"]) == (2, 3)
    assert several.engine.sql("select 1 from permits") == []


def test_a_slot_that_searched_long_and_found_nothing_waits_longer_before_it_searches_again(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = list[tuple[float, float]]()
    work = Lanes.work

    async def search_long(lanes: Lanes) -> None:
        if lanes.slot.name == "deep":
            return await work(lanes)
        began = time.monotonic()
        await asyncio.sleep(0.1)
        looks.append((began, time.monotonic()))
        if len(looks) == 2:
            several.deep.set(hold=False)
        return None

    monkeypatch.setattr(Lanes, "work", search_long)
    several.engine.texts(*KEYS)
    several.deep.set(hold=True)
    assert several.engine.drain().done == 8
    assert looks[1][0] - looks[0][1] > 0.9, "ten times as long as the search"


@pytest.mark.rule("slot-16")
def test_a_slot_answers_only_the_stages_that_name_it(several: Several) -> None:
    several.stages(classify=BOTH, summarize=["studio"])
    several.engine.texts(*KEYS)
    assert several.engine.drain().done == 8, "each document once, though two slots may have worked on it"
    assert several.engine.counts(SUMMARIZE).done == 8
    answers = several.answers()
    assert (answers["studio", SUMMARIZE], ("deep", SUMMARIZE) in answers) == (8, False)
    assert {entry["stage"] for entry in several.deep.completions()} <= {CLASSIFY}


@pytest.mark.rule("slot-16")
def test_a_stage_whose_slot_is_away_waits_and_no_other_slot_answers_it(several: Several) -> None:
    several.stages(classify=BOTH, summarize="deep")
    several.deep.set(mode="cold")
    several.engine.texts(*KEYS)
    summary = several.engine.drain()
    assert (summary.done, summary.left + summary.deferred, summary.is_slot_unavailable) == (0, 8, True)
    assert "deep is unavailable: upstream_cold" in str(summary.reason)
    assert summary.answered_in_part == 8
    assert several.answers() == {("studio", CLASSIFY): 8}
    several.deep.set(mode="awake")
    several.engine.retry_now()
    assert several.engine.drain().left == 0
    assert several.answers() == {("studio", CLASSIFY): 8, ("deep", SUMMARIZE): 8}
    assert several.asked_twice() == []


@pytest.mark.rule("slot-17")
def test_a_slot_that_leaves_hands_its_documents_to_another(several: Several) -> None:
    several.engine.texts(*KEYS)
    several.studio.set(hold=True)
    several.deep.set(hold=True)
    drain = several.engine.beside(several.engine.drain)
    several.studio.wait(open=1)
    several.deep.wait(open=1)
    several.studio.set(mode="cold", hold=False)  # the open call is refused
    several.studio.wait(refusals=1)
    several.deep.set(hold=False)
    summary = drain.result()
    assert (summary.done, summary.failed, summary.deferred, summary.left) == (8, 0, 0, 0)
    assert summary.reason is None, "nothing is left, so the slot that left stopped nothing"
    assert several.answers() == {("deep", CLASSIFY): 8, ("deep", SUMMARIZE): 8}
    assert several.breaker("studio") is BreakerState.OPEN
    assert several.engine.sql("select 1 from work_items where attempts > 0") == []


@pytest.mark.rule("slot-17")
def test_the_last_document_of_a_slot_that_leaves_is_taken_by_one_that_had_nothing_left(several: Several) -> None:
    several.engine.texts("00.txt", "01.txt")
    for router in (several.deep, several.studio):
        router.set(hold=True)
    drain = several.engine.beside(several.engine.drain)
    several.studio.wait(open=1)
    several.deep.wait(open=1)
    several.deep.set(hold=False)
    several.deep.wait(answers=2)  # both stages of the other document
    several.studio.set(mode="cold", hold=False)
    summary = drain.result()
    assert (summary.done, summary.left, summary.deferred) == (2, 0, 0)
    assert {slot for slot, _ in several.answers()} == {"deep"}


@pytest.mark.rule("slot-17")
def test_a_slot_that_is_back_during_a_drain_is_used_again(several: Several) -> None:
    several.studio.set(mode="cold")
    several.deep.set(hold=True)
    several.engine.texts(*KEYS)
    drain = several.engine.beside(several.engine.drain)
    several.deep.wait(open=1)
    several.engine.wait_until("select 1 from slots where name = 'studio' and was_red_since_opening")
    several.studio.set(mode="awake")
    several.studio.wait(answers=15)  # a trial, and both stages of all documents but the one that deep holds
    several.deep.set(hold=False)
    assert drain.result().left == 0
    assert several.answers()["studio", SUMMARIZE] == 7
    assert several.asked_twice() == []


@pytest.mark.rule("slot-17")
def test_a_trial_that_hangs_at_one_slot_keeps_no_new_work_of_another_waiting(several: Several) -> None:
    several.deep.set(mode="cold")
    several.studio.set(hold=True)
    several.engine.texts(*KEYS)
    drain = several.engine.beside(several.engine.drain)
    several.deep.wait(refusals=1)
    several.studio.set(hold=False)
    drain.result()
    assert several.breaker("deep") is BreakerState.OPEN

    for router in (several.deep, several.studio):
        router.set(mode="awake", hold=True)
    several.engine.texts(
        *(f"before {key}" for key in KEYS)
    )  # more than studio claims at once: deep is tried for the rest
    drain = several.engine.beside(several.engine.drain)
    several.deep.wait(open=1)  # the trial
    several.studio.set(hold=False)
    several.engine.wait_until(
        "select 1 where 16 = (select count(*) from work_items where stage = 'summarize' and state = 'done') "
        "and not exists (select from permits where slot = 'studio')"
    )
    several.engine.texts("new.txt")
    several.engine.wait_until(
        "select 1 where 17 = (select count(*) from work_items where stage = 'summarize' and state = 'done')"
    )
    assert several.deep.log()["open"] == 1, "the trial still hangs"
    several.deep.set(hold=False)
    summary = drain.result()
    assert (summary.done, summary.left, summary.deferred) == (9, 0, 0)
    assert several.asked_twice() == []


@pytest.mark.rule("slot-16")
def test_a_server_that_answers_as_another_model_over_night_gives_no_result(several: Several) -> None:
    several.engine.texts(*KEYS[:4])
    assert several.engine.drain().done == 4
    before = several.answers()
    several.studio.set(model="another/small-7B")
    several.deep.set(hold=True)
    several.engine.texts(*KEYS[4:])
    drain = several.engine.beside(several.engine.drain)
    several.engine.wait_until("select 1 from slots where name = 'studio' and starts_with(reason, 'wrong_model')")
    several.deep.set(hold=False)
    summary = drain.result()
    assert (summary.failed, summary.left, summary.deferred) == (0, 0, 0)
    after = several.answers()
    assert sum(after.values()) == 16
    for stage in (CLASSIFY, SUMMARIZE):
        assert after.get(("studio", stage)) == before.get(("studio", stage))
    assert several.engine.sql("select 1 from work_items where attempts > 0") == []
    assert several.engine.sql("select 1 from results where served_model like 'another/%'") == []


@pytest.mark.rule("drain-9")
def test_the_limit_counts_documents_over_all_slots(several: Several) -> None:
    several.stages(concurrency=3)
    several.engine.texts(*KEYS)
    assert several.engine.drain(limit=3, deep_concurrency=3).done == 3
    assert sum(several.answers().values()) == 6


@pytest.mark.rule("slot-17")
def test_a_slot_that_rests_is_sent_nothing_and_the_others_work(several: Several) -> None:
    several.engine.texts(*KEYS)
    several.engine.ledger.run(rests.pause, "studio", None)
    summary = several.engine.drain()
    assert (summary.done, summary.left, summary.is_slot_unavailable) == (8, 0, False)
    assert several.studio.completions() == []


@pytest.mark.rule("slot-16")
def test_a_run_over_chosen_documents_uses_the_slots_that_may_answer(several: Several) -> None:
    several.stages(classify=["studio"], summarize=BOTH)
    several.engine.texts(*KEYS)
    summary = several.engine.run(*KEYS)
    assert (summary.done, summary.wait_seconds) == (8, None)
    assert several.answers()["studio", CLASSIFY] == 8
    assert CLASSIFY not in {entry["stage"] for entry in several.deep.completions()}


@pytest.mark.rule("slot-16")
def test_a_run_waits_for_the_slot_that_its_stage_names(several: Several) -> None:
    several.stages(classify=["studio"], summarize=BOTH)
    several.studio.set(mode="cold")
    several.engine.texts("00.txt")
    summary = several.engine.run("00.txt")
    assert (summary.is_deferral, summary.slot) == (True, "studio")
    assert "studio is unavailable: upstream_cold" in str(summary.wait_reason)


@pytest.mark.rule("slot-16")
def test_a_stage_is_tried_at_a_slot_that_may_answer_it(several: Several) -> None:
    several.stages(classify=["studio"], summarize=BOTH)
    settings = several.engine.settings()
    (tried,) = try_stage(settings, several.engine.ledger, llm_stages(settings)[CLASSIFY], [("a", "an invoice")])
    assert tried.value is not None
    assert several.deep.completions() == []


class TestSensor:
    """The sensor looks at all slots side by side."""

    @pytest.mark.rule("drain-2")
    def test_one_available_slot_is_enough_and_the_others_are_not_waited_for(
        self, several: Several, change_timing: ChangeTiming
    ) -> None:
        change_timing(probe_limit=3600.0)  # a probe without an answer would last to the end of the test
        several.deep.set(health="hang")
        several.engine.texts(*KEYS)
        decision = decide_drain(several.engine.settings(), several.engine.ledger)
        assert (decision.launch, decision.message) == (True, "studio: 8 documents due, 0 deferred")

    @pytest.mark.rule("drain-2")
    def test_a_slot_without_work_is_not_probed_and_launches_nothing(self, several: Several) -> None:
        several.stages(classify=["deep"], summarize=["deep", "studio"])
        several.deep.set(mode="cold")
        several.engine.extracted("00.txt")
        several.engine.sql("delete from work_items where stage = 'summarize'")
        decision = decide_drain(several.engine.settings(), several.engine.ledger)
        assert not decision.launch
        assert "deep: the deep slot's health probe reports upstream_cold" in decision.message
        assert "studio: nothing is due" in decision.message
        assert several.studio.log()["requests"] == []

    @pytest.mark.rule("drain-2")
    def test_a_document_that_one_slot_deferred_launches_a_drain_at_another(self, several: Several) -> None:
        several.stages(concurrency=1)
        several.deep.set(mode="cold")
        several.engine.ledger.run(rests.pause, "studio", None)
        several.engine.texts("00.txt")
        assert several.engine.drain().deferred == 1
        several.engine.ledger.run(rests.resume, "studio")
        decision = decide_drain(several.engine.settings(), several.engine.ledger)
        assert (decision.launch, decision.message) == (True, "studio: 1 document due, 0 deferred")


@pytest.mark.rule("slot-17")
def test_a_limit_that_is_reached_at_one_slot_does_not_wait_for_another(several: Several) -> None:
    several.studio.set(mode="cold")
    several.engine.texts(*KEYS)
    summary = several.engine.drain(limit=2)
    assert summary.done + summary.deferred >= 1
    assert (summary.is_slot_unavailable, summary.reason) == (False, None)
