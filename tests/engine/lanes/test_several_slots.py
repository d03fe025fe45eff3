"""Several slots for one stage: one drain works at all of them, and none answers a stage that does not name it."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from dagster_offload import timing
from dagster_offload.drain import SUPERSEDED
from dagster_offload.engine.lanes.lanes import Lanes
from dagster_offload.engine.slot.wake import decide_drain
from dagster_offload.engine.trying import try_stage
from dagster_offload.errors import OtherPipeline
from dagster_offload.ledger.core.pipelines import announce
from dagster_offload.ledger.core.rows import BreakerState, State
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import rests, slots
from dagster_offload.simulator.server import Router
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.pipeline import pipeline_of
from dagster_offload.testing import ChangeTiming
from tests.support.engine import Engine

KEYS = [f"{n:02}.txt" for n in range(8)]
BOTH = ["deep", "studio"]
MODEL = "^simulated/"


@dataclass
class Several:
    """An engine with the slot `deep` and a further slot, `studio`."""

    engine: Engine
    studio: Router

    @property
    def deep(self) -> Router:
        return self.engine.router

    def stages(self, classify: Any = BOTH, summarize: Any = BOTH, **studio: Any) -> None:
        """Write the pipeline file: which slots may answer which stage."""
        further = {"url": self.studio.url, "model": "qwen-studio", "expected_model": MODEL, "read_timeout": 120.0}
        sections = {
            "slots": {"deep": {"expected_model": MODEL}, "studio": further | studio},
            "stages": {CLASSIFY: {"slots": classify}, SUMMARIZE: {"slots": summarize}},
        }
        file = self.engine.library.parent / "offload.yaml"
        file.write_text(json.dumps(sections), encoding="utf-8")  # JSON is YAML
        self.engine.options["config"] = file

    def answers(self) -> dict[tuple[str, str], int]:
        """How many results each slot gave for each stage."""
        rows = self.engine.sql(
            "select slot, stage, count(*) as n from results where slot is not null and superseded_at is null "
            "group by 1, 2"
        )
        return {(row["slot"], row["stage"]): row["n"] for row in rows}

    def breaker(self, name: str) -> BreakerState:
        row = self.engine.ledger.run(slots.get, name)
        assert row is not None
        return row.breaker

    def asked_twice(self) -> list[tuple[str, str]]:
        """What was answered more than once, at any slot."""
        answered = [
            (entry["document"], entry["stage"])
            for router in (self.deep, self.studio)
            for entry in router.completions()
            if entry["document"] and entry["outcome"] == "answered"
        ]
        return [each for each in set(answered) if answered.count(each) > 1]


@pytest.fixture
def several(engine: Engine, change_timing: ChangeTiming) -> Iterator[Several]:
    change_timing(recheck=0.1)
    engine.options["deep_read_timeout"] = 120.0  # calls are held while the other slot works
    with ExitStack() as stack:
        studio = stack.enter_context(Router())
        stack.callback(lambda: studio.set(hold=False))
        found = Several(engine, studio)
        found.stages()
        yield found


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
    several.studio.wait(
        timeout=100, answers=15
    )  # a trial, and both stages of all documents but the one that deep holds
    several.deep.set(hold=False)
    assert drain.result().left == 0
    assert several.answers()["studio", SUMMARIZE] == 7
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


@pytest.mark.rule("pipeline-4")
def test_a_drain_ends_when_a_slot_is_removed_from_the_list_of_a_stage(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, notified = threading.Event(), Lanes._notified

    def notify(lanes: Lanes, message: str) -> None:
        notified(lanes, message)
        if lanes.is_superseded:
            heard.set()

    monkeypatch.setattr(Lanes, "_notified", notify)
    several.engine.texts(*KEYS)
    with Worker(several.engine.ledger, "up") as worker:
        before = pipeline_of(several.engine.settings())
        several.engine.ledger.run(announce, worker.id, before, None)
        for router in (several.deep, several.studio):
            router.set(hold=True)
        drain = several.engine.beside(several.engine.drain)
        several.deep.wait(open=1)
        several.studio.wait(open=1)
        several.stages(classify=["deep"])
        edited = pipeline_of(several.engine.settings())
        assert edited.recipes == before.recipes, "otherwise the recipes alone would end the drain"
        several.engine.ledger.run(announce, worker.id, edited, None)
        assert heard.wait(60)
        for router in (several.deep, several.studio):
            router.set(hold=False)
        assert drain.result().reason == SUPERSEDED
        assert sum(several.answers().values()) == 2, "the open calls are answered, and no other is sent"
        assert several.engine.drain().done == 8
        assert several.answers()["studio", CLASSIFY] == 1


@pytest.mark.rule("pipeline-1")
def test_a_drain_with_other_slots_for_a_stage_than_the_running_up_refuses(several: Several) -> None:
    with Worker(several.engine.ledger, "up") as worker:
        several.engine.ledger.run(announce, worker.id, pipeline_of(several.engine.settings()), None)
        several.stages(classify=["deep"])
        with timing.use(take_over=0), pytest.raises(OtherPipeline) as refused:
            several.engine.drain()
        assert "classify: stages.classify.slots is deep here and deep, studio there." in str(refused.value)
        assert "summarize" not in str(refused.value)


class TestADocumentThatEverySlotFails:
    """Each slot tries it alone once; then it waits for its time, as it does at a single slot."""

    def attempts(self, several: Several) -> int:
        """Let the next document of each of a few drains run. Returns how many calls of `bad.txt` all slots have seen."""
        for _ in range(6):
            several.engine.retry_now()
            several.engine.drain("classify", limit=1)
        return sum(
            entry["outcome"] == "cut" for router in (several.deep, several.studio) for entry in router.completions()
        )

    @pytest.mark.rule("suspect-9")
    def test_it_is_tried_alone_once_at_each_and_quarantined_after_three_suspicions(self, several: Several) -> None:
        several.engine.extracted("bad.txt", texts={"bad.txt": "POISON in here"})
        for router in (several.deep, several.studio):
            router.set(cut_documents=["POISON"], cut="mid_body")
        assert self.attempts(several) <= 3, "one with others, and one alone at each slot"
        item = several.engine.item("bad.txt", CLASSIFY)
        assert (item["state"], item["must_run_alone"]) == (State.DEFERRED, True)
        for _ in range(4):
            several.engine.sql("update cuts set at = at - interval '11 minutes'")
            several.engine.make_due()
            self.attempts(several)
        assert several.engine.item("bad.txt", CLASSIFY)["state"] == State.QUARANTINED
        assert self.attempts(several) <= 3 + 2 * 3

    @pytest.mark.rule("suspect-9")
    def test_a_document_that_one_slot_fails_alone_is_answered_by_the_other(self, several: Several) -> None:
        several.engine.extracted("bad.txt", texts={"bad.txt": "POISON in here"})
        several.deep.set(cut_documents=["POISON"], cut="mid_body")
        several.engine.ledger.run(rests.pause, "studio", None)
        assert self.attempts(several) == 1
        several.engine.make_due()
        assert self.attempts(several) == 2, "alone"
        several.engine.ledger.run(rests.resume, "studio")
        several.engine.drain("classify")
        assert several.answers() == {("studio", CLASSIFY): 1}

    @pytest.mark.rule("suspect-9")
    def test_a_slot_that_refused_it_alone_takes_it_again_when_it_is_back(self, several: Several) -> None:
        several.engine.texts("00.txt")
        several.engine.sql("update work_items set must_run_alone = true where stage = 'classify'")
        for router in (several.deep, several.studio):
            router.set(mode="cold", health="green")
        several.engine.drain("classify", limit=1)
        several.engine.drain("classify", limit=1)
        refusals = [len(router.completions()) for router in (several.deep, several.studio)]
        several.engine.drain("classify", limit=1)
        assert [len(router.completions()) for router in (several.deep, several.studio)] == refusals
        several.deep.set(mode="awake")
        several.engine.retry_now()
        assert several.engine.drain("classify").done == 1
        assert several.answers() == {("deep", CLASSIFY): 1}


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
