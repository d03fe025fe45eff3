"""Events of the state machine: files, the clock, workers and their claims."""

from hypothesis import strategies as st

from dagster_offload.ledger.core import workers
from dagster_offload.ledger.core.rows import BreakerState, Claim
from dagster_offload.ledger.slots import permits
from dagster_offload.ledger.work import claims, documents
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.ledger_model import (
    CONTENTS,
    JUMPS_SECONDS,
    KEYS,
    MOST_WORKERS,
    Held,
    LedgerModel,
    ModelItem,
    happens,
)
from tests.support.stages import DRAIN_STAGES, STAGE_NAMES


class ClaimEvents(LedgerModel):
    """A library that changes, workers that come and die, and what they claim."""

    # The library

    @happens(2)
    def a_file_is_new_edited_or_back(self, data: st.DataObject) -> None:
        self.write(data.draw(st.sampled_from(KEYS)), data.draw(st.sampled_from(CONTENTS)))

    @happens(1, lambda self: self.present())
    def a_file_is_gone(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.present()))
        self.run(documents.mark_gone, [key])
        self.documents[key].is_present = False
        for item in self.documents[key].items.values():
            item.state, item.holder = "gone", None

    def present(self) -> list[str]:
        return [key for key, document in self.documents.items() if document.is_present]

    # The clock

    @happens(2)
    def the_clock_jumps(self, data: st.DataObject) -> None:
        """A laptop slept: waits are over, and workers without a new heartbeat are reclaimed."""
        seconds = data.draw(st.sampled_from(JUMPS_SECONDS))
        self.clock += seconds
        self.bench.sql("update work_items set not_before = not_before - make_interval(secs => %s)", seconds)
        self.bench.sql(
            "update workers set heartbeat_at = heartbeat_at - make_interval(secs => %s) where ended_at is null", seconds
        )
        self.silent = set(self.workers)

    @happens(3, lambda self: self.silent)
    def a_heart_beats_again(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.silent)))
        self.bench.sql(workers._BEAT, worker)
        self.silent.remove(worker)

    @happens(2, lambda self: self.silent)
    def somebody_reclaims(self, data: st.DataObject) -> None:
        assert set(self.run(workers.reclaim_dead, self.bench.ledger.schema)) == self.silent
        for worker in sorted(self.silent):
            self.give_up(worker)

    # Workers

    @happens(2, lambda self: len(self.workers) < MOST_WORKERS)
    def a_worker_comes(self, data: st.DataObject) -> None:
        self.workers.append(self.bench.worker())

    @happens(2, lambda self: self.held)
    def a_worker_dies(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([*(held.worker for held in self.held), *self.workers]))
        self.bench.die(worker)
        self.give_up(worker)

    def give_up(self, worker: int) -> None:
        self.bench.sql("update work_items set must_run_alone = false, lone_deaths = 0")  # this has its own tests
        self.give_back(worker)
        self.workers.remove(worker)
        self.silent.discard(worker)
        self.given_up.append(worker)
        self.late += [held for held in self.held if held.worker == worker]
        self.held = [held for held in self.held if held.worker != worker]

    @happens(1, lambda self: self.given_up)
    def a_worker_that_was_given_up_asks_for_more(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.given_up))
        assert self.run(claims.take, worker, STAGE_NAMES, self.recipes, count=1) == []
        assert not self.run(permits.acquire, DEEP, worker, is_person=True)
        self.bench.sql(workers._BEAT, worker)

    @happens(3, lambda self: self.workers and self.claimable((EXTRACT,), None))
    def a_worker_takes_a_file(self, data: st.DataObject) -> None:
        self.claim(data, (EXTRACT,), None)

    @happens(1, lambda self: self.workers and self.slots_in(BreakerState.CLOSED))
    def a_worker_asks_for_questions(self, data: st.DataObject) -> None:
        """The claim may be empty."""
        self.a_worker_takes_questions(data)

    @happens(
        6,
        lambda self: (
            self.workers and any(self.claimable(DRAIN_STAGES, slot) for slot in self.slots_in(BreakerState.CLOSED))
        ),
    )
    def a_worker_takes_questions(self, data: st.DataObject) -> None:
        stages = data.draw(st.sampled_from([DRAIN_STAGES, DRAIN_STAGES, (CLASSIFY,), (SUMMARIZE,)]))
        self.claim(data, stages, data.draw(st.sampled_from(self.slots_in(BreakerState.CLOSED))))

    def claim(self, data: st.DataObject, stages: tuple[str, ...], slot: str | None) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        self.bench.sql("update work_items set must_run_alone = false")
        due = {
            key: {
                stage
                for stage, item in document.items.items()
                if stage in stages and self.is_due(item, slot) and not self.is_held_at(slot, stage)
            }
            for key, document in self.documents.items()
        }
        could_be = self.claimable(stages, slot)
        count = data.draw(st.sampled_from([1, 1, 2, 3]))
        taken = self.run(claims.take, worker, stages, self.recipes, count=count, slot=slot)
        assert taken or not could_be, "there was work to claim"
        assert len(taken) <= count
        assert len({claim.document for claim in taken}) == len(taken)
        for claim in taken:
            self.is_claimed(claim, worker, due[claim.document], slot)
        assert len(taken) == count or not self.claimable(stages, slot), "there was more work to claim"

    def is_claimed(self, claim: Claim, worker: int, due: set[str], slot: str | None) -> None:
        document = self.documents[claim.document]
        assert all(item.state != "claimed" for item in document.items.values()), "two workers at one document"
        got = [item.stage for item in claim.items]
        assert got == sorted(got, key=STAGE_NAMES.index)
        assert set(got) <= due, "not due, or not requested"
        for stage in due:
            before = document.items[stage]
            if stage in got:
                document.items[stage] = ModelItem(
                    "claimed", before.attempts, worker, claim.token, is_redo=before.is_redo
                )
            elif not self.is_input_in_hand(stage, document.content):
                assert self.is_paid(stage, document.content), "completed without a result"
                assert not before.is_redo, "an existing answer must not complete a redo"
                self.complete(document, stage, self.recipes[stage])
        if claim.items:
            epoch = self.rows[slot].epoch if slot else 0
            self.held.append(Held(worker, claim, document.content, slot or DEEP, epoch, list(claim.items)))

    def is_input_in_hand(self, stage: str, content: str) -> bool:
        return any(
            document.content == content and stage in document.items and document.items[stage].state == "claimed"
            for document in self.documents.values()
        )

    def claimable(self, stages: tuple[str, ...], slot: str | None) -> bool:
        return any(
            stage in document.items
            and self.is_due(document.items[stage], slot)
            and not self.is_held_at(slot, stage)
            and all(item.state != "claimed" for item in document.items.values())
            and not self.is_input_in_hand(stage, document.content)
            for document in self.documents.values()
            if document.is_present
            for stage in stages
        )
