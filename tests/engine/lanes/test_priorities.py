"""Slots of different priorities: a reserve works only while the better slots for a stage are unavailable."""

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from dagster_offload.engine.lanes.lanes import Lanes
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.engine.trying import try_stage
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import permits, rests
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.support.patience import PATIENCE_SECONDS
from tests.support.several_slots import BOTH, KEYS, Several


@pytest.fixture
def reserve(several: Several) -> Several:
    """`studio` is the reserve of `deep` in both stages."""
    several.stages(deep_priority=1)
    return several


@pytest.fixture
def expect_held_back(monkeypatch: pytest.MonkeyPatch) -> Callable[[], threading.Event]:
    """Returns an event that is set once `studio` has begun to read after this call, and has read that it takes no stage."""
    expected, look = list[threading.Event](), Lanes.look

    async def look_and_note(lanes: Lanes) -> bool:
        began_after = list(expected)
        takes_work = await look(lanes)
        if lanes.slot.name == "studio" and not takes_work:
            for event in began_after:
                event.set()
        return takes_work

    def expect() -> threading.Event:
        expected.append(threading.Event())
        return expected[-1]

    monkeypatch.setattr(Lanes, "look", look_and_note)
    return expect


@pytest.mark.rule("slot-19")
def test_a_reserve_is_not_used_while_the_better_slot_is_available_though_it_is_busy(reserve: Several) -> None:
    reserve.engine.texts(*KEYS)
    summary = reserve.engine.drain()
    assert (summary.done, summary.left, summary.reason) == (8, 0, None)
    assert reserve.answers() == {("deep", CLASSIFY): 8, ("deep", SUMMARIZE): 8}
    assert reserve.studio.completions() == []


@pytest.mark.rule("slot-19")
def test_the_priority_of_a_further_slot_makes_deep_the_reserve(several: Several) -> None:
    several.stages(priority=1)
    several.engine.texts(*KEYS)
    assert several.engine.drain().done == 8
    assert several.answers() == {("studio", CLASSIFY): 8, ("studio", SUMMARIZE): 8}
    assert several.deep.completions() == []


@pytest.mark.rule("slot-19")
def test_a_reserve_takes_over_when_the_better_slot_turns_out_to_be_asleep(reserve: Several) -> None:
    reserve.deep.set(mode="cold")  # the breaker is closed: only the first call shows it
    reserve.engine.texts(*KEYS)
    summary = reserve.engine.drain()
    assert (summary.done, summary.failed, summary.left, summary.deferred) == (8, 0, 0, 0)
    assert reserve.answers() == {("studio", CLASSIFY): 8, ("studio", SUMMARIZE): 8}
    assert reserve.engine.sql("select 1 from work_items where attempts > 0") == []


@pytest.mark.rule("slot-19")
def test_the_work_goes_back_to_the_better_slot_after_the_document_that_the_reserve_has_begun(
    reserve: Several, expect_held_back: Callable[[], threading.Event]
) -> None:
    reserve.deep.set(mode="cold")
    reserve.studio.set(hold=True)
    reserve.engine.texts(*KEYS)
    drain = reserve.engine.beside(reserve.engine.drain)
    reserve.studio.wait(open=1)
    reserve.engine.wait_until("select 1 from slots where name = 'deep' and was_red_since_opening")
    held_back = expect_held_back()  # it was held back until deep had refused a call, and an old look may still go on
    reserve.deep.set(mode="awake", latency=0.2)
    assert held_back.wait(PATIENCE_SECONDS)
    reserve.studio.set(hold=False)
    summary = drain.result()
    assert (summary.done, summary.left, summary.deferred) == (8, 0, 0)
    assert reserve.answers() == {
        ("studio", CLASSIFY): 1,
        ("studio", SUMMARIZE): 1,
        ("deep", CLASSIFY): 7,
        ("deep", SUMMARIZE): 7,
    }
    assert reserve.asked_twice() == []


@pytest.mark.rule("slot-19")
def test_a_reserve_answers_the_stages_that_the_better_slot_may_not(several: Several) -> None:
    several.stages(classify=BOTH, summarize=["studio"], deep_priority=1)
    several.engine.texts(*KEYS)
    assert several.engine.drain().left == 0
    assert several.answers() == {("deep", CLASSIFY): 8, ("studio", SUMMARIZE): 8}


@pytest.mark.rule("slot-19")
def test_a_reserve_works_while_the_better_slot_rests(reserve: Several) -> None:
    reserve.engine.texts(*KEYS)
    reserve.engine.ledger.run(rests.pause, "deep", None)
    assert reserve.engine.drain().done == 8
    assert reserve.answers() == {("studio", CLASSIFY): 8, ("studio", SUMMARIZE): 8}


@pytest.mark.rule("slot-19")
def test_a_reserve_takes_over_from_a_slot_that_is_paused_before_it_gets_a_permit(reserve: Several) -> None:
    reserve.engine.texts(*KEYS)
    with Worker(reserve.engine.ledger, "run") as person:
        assert reserve.engine.ledger.run(permits.acquire, "deep", person.id, is_person=True)
        drain = reserve.engine.beside(reserve.engine.drain)
        reserve.engine.wait_until("select 1 from permit_waiters where slot = 'deep'")
        assert reserve.studio.completions() == [], "deep is available, and has no room"
        reserve.engine.ledger.run(rests.pause, "deep", None)
        assert drain.result().done == 8
    assert {slot for slot, _ in reserve.answers()} == {"studio"}


@pytest.mark.rule("slot-19")
def test_a_run_over_chosen_documents_leaves_the_reserve_alone(reserve: Several) -> None:
    reserve.engine.texts(*KEYS)
    assert reserve.engine.run(*KEYS).done == 8
    assert reserve.studio.completions() == []


@pytest.mark.rule("slot-19")
def test_a_stage_is_tried_at_the_slot_of_the_highest_priority(several: Several) -> None:
    several.stages(priority=1)
    settings = several.engine.settings()
    (tried,) = try_stage(settings, several.engine.ledger, llm_stages(settings)[CLASSIFY], [("a", "an invoice")])
    assert tried.value is not None
    assert several.deep.completions() == []


class TestSensor:
    """The sensor neither probes a reserve nor launches a drain for it while the better slot is available."""

    @pytest.mark.rule("slot-19")
    def test_work_that_the_better_slot_failed_alone_launches_nothing_at_the_reserve(self, reserve: Several) -> None:
        reserve.engine.texts("00.txt")
        reserve.engine.drain("summarize")
        reserve.engine.sql(
            "update work_items set state = 'deferred', deferred_slot = 'deep', "
            "not_before = clock_timestamp() + interval '1 hour', "
            "deferred_epoch = (select epoch from slots where name = 'deep') where stage = 'classify'"
        )
        decision = decide_drain(reserve.engine.settings(), reserve.engine.ledger)
        assert not decision.launch
        assert "studio: in reserve while deep is available; 1 document due, 0 deferred" in decision.message
        assert reserve.studio.log()["requests"] == []
        reserve.deep.set(mode="cold")  # a drain would send it no call, and so not find out
        assert not decide_drain(reserve.engine.settings(), reserve.engine.ledger).launch

    @pytest.mark.rule("slot-19")
    def test_a_better_slot_whose_probe_is_red_launches_a_drain_at_the_reserve(self, reserve: Several) -> None:
        reserve.deep.set(mode="cold")
        reserve.engine.texts(*KEYS)
        decision = decide_drain(reserve.engine.settings(), reserve.engine.ledger)
        assert (decision.launch, decision.message) == (True, "studio: 8 documents due, 0 deferred")
        assert len([entry for entry in reserve.deep.log()["requests"] if entry["path"] == "/health"]) == 1
        assert reserve.engine.drain().done == 8

    @pytest.mark.rule("slot-19")
    def test_a_better_slot_with_an_open_breaker_launches_a_drain_at_the_reserve(self, reserve: Several) -> None:
        reserve.deep.set(mode="cold")
        reserve.studio.set(mode="cold")
        reserve.engine.texts(*KEYS)
        reserve.engine.drain()
        assert {reserve.breaker("deep"), reserve.breaker("studio")} == {BreakerState.OPEN}
        reserve.studio.set(mode="awake")
        reserve.engine.retry_now()
        decision = decide_drain(reserve.engine.settings(), reserve.engine.ledger)
        assert decision.launch
        assert decision.message.startswith("studio: ")


def program(name: str) -> str:
    """The path of a program, which is not in the same folder on all systems."""
    path = shutil.which(name)
    assert path is not None
    return path


class TestWakes:
    """A machine of a lower priority sleeps on while the better one may still answer."""

    @pytest.fixture
    def asleep(
        self, several: Several, change_timing: ChangeTiming, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Several]:
        """Both machines are off and can be woken. `deep` is preferred. A tick waits for the end of a wake."""
        change_timing(wake_shown=240.0)
        # Shortly after midnight, the wakes of some minutes ago would be those of yesterday.
        monkeypatch.setattr(rests, "beginning_of_day", lambda now: now - timedelta(days=1))
        several.stages(deep_priority=1, wake={"command": [program("true")]})
        several.engine.options["deep_wake_command"] = program("true")
        several.engine.texts(*KEYS)
        several.deep.stop()
        several.studio.stop()
        yield several
        several.deep.start()
        several.studio.start()

    def woken(self, several: Several) -> list[str]:
        """The slots that were woken so far, after one more tick."""
        decide_drain(several.engine.settings(), several.engine.ledger)
        return [row["slot"] for row in several.engine.sql("select slot from wakes order by slot")]

    def pass_minutes(self, several: Several, minutes: int) -> None:
        for table, column in (("wakes", "at"), ("availability", "since")):
            several.engine.sql(
                f"update {table} set {column} = {column} - interval '{minutes} minutes'"  # noqa: S608 - our own names
            )

    @pytest.mark.rule("wake-4")
    def test_the_next_machine_is_woken_only_after_the_wake_time_of_the_better_one(self, asleep: Several) -> None:
        said = decide_drain(asleep.engine.settings(), asleep.engine.ledger).message
        assert "it is woken only if deep does not answer" in said
        self.pass_minutes(asleep, 9)
        assert self.woken(asleep) == ["deep"]
        self.pass_minutes(asleep, 1)
        assert self.woken(asleep) == ["deep", "deep", "studio"]

    @pytest.mark.rule("wake-4")
    def test_the_next_machine_is_woken_if_the_wake_of_the_better_one_fails(self, asleep: Several) -> None:
        asleep.engine.options["deep_wake_command"] = program("false")
        assert self.woken(asleep) == ["deep", "studio"]

    @pytest.mark.rule("wake-4")
    def test_a_machine_is_woken_for_work_that_the_better_one_may_not_do(self, asleep: Several) -> None:
        asleep.stages(summarize=["studio"], deep_priority=1, wake={"command": [program("true")]})
        assert self.woken(asleep) == ["deep", "studio"]

    @pytest.mark.rule("wake-4")
    def test_machines_of_the_same_priority_are_woken_together(self, asleep: Several) -> None:
        asleep.stages(wake={"command": [program("true")]})
        assert self.woken(asleep) == ["deep", "studio"]

    @pytest.mark.rule("wake-4")
    def test_a_better_machine_that_was_woken_and_has_answered_since_is_not_waited_for(self, asleep: Several) -> None:
        """It is not woken again before its pause is over, so the work would wait for nothing."""
        assert self.woken(asleep) == ["deep"]
        asleep.deep.start()
        decide_drain(asleep.engine.settings(), asleep.engine.ledger)
        asleep.deep.stop()
        assert self.woken(asleep) == ["deep", "studio"]
