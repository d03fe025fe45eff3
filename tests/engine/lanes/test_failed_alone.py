"""Several slots: a document that a slot fails although it runs alone."""

import pytest

from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.slots import rests
from dagster_offload.stages.graph import CLASSIFY
from tests.support.several_slots import Several


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
