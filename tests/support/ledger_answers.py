"""Events of the state machine: answers and faults, trials and permits, and a person's requests."""

from itertools import takewhile

from hypothesis import strategies as st

from dagster_offload.ledger.core.rows import BreakerState, ClaimedItem, NewResult
from dagster_offload.ledger.slots import breaker, holds, permits, slots
from dagster_offload.ledger.slots.breaker import TrialEnd, TrialTurn
from dagster_offload.ledger.work import claims, deferrals, finish, redo, suspects
from dagster_offload.ledger.work.finish import Finish
from dagster_offload.stages.graph import EXTRACT, Outcome
from tests.support.ledger import HALF_AN_HOUR, RECIPES, SLOT, call, text_result
from tests.support.ledger_claims import ClaimEvents
from tests.support.ledger_model import BACKOFFS_SECONDS, KEYS, SLOTS, FaultsInARow, Held, ModelItem, happens
from tests.support.stages import DRAIN_STAGES, STAGE_NAMES

# A story has three documents.
DOCUMENTS_TO_HOLD_HERE = 2
DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS_HERE = 3
CODES = ("empty_answer", "no_json", "answer_does_not_fit")


class AnswerEvents(ClaimEvents):
    """What becomes of a claim, what the slots do, and what a person asks for."""

    @happens(7, lambda self: self.held)
    def an_answer_comes(self, data: st.DataObject) -> None:
        """In time, or for a file that has changed since."""
        self.answer(data.draw(st.sampled_from(self.held)))

    @happens(5, lambda self: self.late)
    def a_late_answer_comes(self, data: st.DataObject) -> None:
        """From a reclaimed worker, mostly while another worker holds the document."""
        taken_over = [held for held in self.late if self.is_taken_over(held)]
        self.answer(data.draw(st.sampled_from([*taken_over, *self.late])))

    def is_taken_over(self, held: Held) -> bool:
        item = self.documents[held.claim.document].items.get(held.left[0].stage)
        return item is not None and item.state == "claimed"

    def answer(self, held: Held) -> None:
        item = held.left.pop(0)
        was_held = self.is_held(held, item)
        result = text_result(f"text of {held.content}") if item.stage == EXTRACT else self.record(held)
        finishes = [Finish(held.claim, item, result)]
        assert self.run(finish.finish, held.worker, finishes, self.recipes, None) == [was_held]
        self.paid.add((item.stage, held.content, item.recipe))
        if item.stage != EXTRACT:
            place = (held.slot, item.stage)
            self.failed_before_an_answer.setdefault(place, set()).update(self.failed.get(item.stage, ()))
            if not self.is_held_at(*place):
                self.faults_in_a_row.pop(place, None)
        if was_held:
            self.complete(self.documents[held.claim.document], item.stage, item.recipe)
        self.forget_if_empty(held)

    def record(self, held: Held) -> NewResult:
        value = {"category": "other", "summary": "words"}
        digest = finish.output_digest(Outcome.OK, value)
        return NewResult(Outcome.OK, digest, value=value, calls=(call(held.epoch, slot=held.slot),))

    @happens(5, lambda self: any(held.left[0].stage != EXTRACT for held in self.held + self.late))
    def a_call_fails(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from([h for h in self.held + self.late if h.left[0].stage != EXTRACT]))
        self.fail(held, data.draw(st.sampled_from(["slot", "cut", *CODES])))

    @happens(4, lambda self: self.workers and self.slots_in(BreakerState.CLOSED))
    def a_stage_fits_no_document(self, data: st.DataObject) -> None:
        """Document after document fails, in one way or each in another. Otherwise few stories would have a held stage."""
        slot = data.draw(st.sampled_from(self.slots_in(BreakerState.CLOSED)))
        stages = (data.draw(st.sampled_from(DRAIN_STAGES)),)
        codes = data.draw(st.sampled_from([CODES[:1] * len(KEYS), CODES]))
        for code in codes:
            if self.claimable(stages, slot):
                before = {id(held) for held in self.held}
                self.claim(data, stages, slot)
                for held in [held for held in self.held if id(held) not in before]:
                    self.fail(held, code)

    def fail(self, held: Held, how: str) -> None:
        item = held.left[0]
        was_held = self.is_held(held, item)
        model = self.documents[held.claim.document].items.get(item.stage)
        model = model if was_held else None
        if how in CODES:
            self.fails_by_document(held, item, model, how)
        else:
            getattr(self, f"fails_by_{how}")(held, item, model)
        self.release(held)

    def fails_by_slot(self, held: Held, item: ClaimedItem, model: ModelItem | None) -> None:
        fault = call(held.epoch, "slot", held.slot)
        self.run(deferrals.open_and_defer, held.worker, held.claim, item, fault, "upstream_cold", None, HALF_AN_HOUR)
        if model is not None:
            model.state, model.holder = "deferred", None
            model.due_at, model.deferred_by = self.clock + HALF_AN_HOUR, (held.slot, held.epoch)

    def fails_by_document(self, held: Held, item: ClaimedItem, model: ModelItem | None, code: str) -> None:
        fault = call(held.epoch, code, held.slot)
        self.failed.setdefault(item.stage, set()).add((item.item_id, code))
        self.run(deferrals.fail, held.worker, held.claim, item, code, "why", fault, is_final=False)
        if model is not None:
            model.attempts += 1
            model.state, model.holder = "failed" if model.attempts == 3 else "pending", None
            model.due_at = self.clock + BACKOFFS_SECONDS[model.attempts - 1] if model.attempts < 3 else 0.0
            self.another_fault_in_a_row(held.slot, item, code)

    def another_fault_in_a_row(self, slot: str, item: ClaimedItem, code: str) -> None:
        row = self.faults_in_a_row.get((slot, item.stage))
        if row is None or not (row.is_held or row.recipe == item.recipe):
            row = self.faults_in_a_row[slot, item.stage] = FaultsInARow(item.recipe, [])
        row.faults.append((item.item_id, code))
        equal = list(takewhile(lambda fault: fault[1] == code, reversed(row.faults)))
        row.is_held = (
            row.is_held
            or self.documents_that_count(slot, item.stage, equal) >= DOCUMENTS_TO_HOLD_HERE
            or self.documents_that_count(slot, item.stage, row.faults) >= DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS_HERE
        )
        assert holds.by_slot(self.run(holds.list_holds)) == self.held_stages()
        if row.is_held:
            self.attempts_are_given_back()

    def documents_that_count(self, slot: str, stage: str, faults: list[tuple[int, str]]) -> int:
        """Without those that failed in one of these ways before the stage's last answer."""
        codes = {code for _, code in faults}
        before = {item for item, code in self.failed_before_an_answer.get((slot, stage), set()) if code in codes}
        return len({item for item, _ in faults} - before)

    def held_stages(self) -> dict[str, set[str]]:
        by_slot: dict[str, set[str]] = {}
        for (slot, stage), row in self.faults_in_a_row.items():
            if row.is_held:
                by_slot.setdefault(slot, set()).add(stage)
        return by_slot

    def fails_by_cut(self, held: Held, item: ClaimedItem, model: ModelItem | None) -> None:
        self.run(suspects.note_cut, held.slot, held.epoch, item, "cut")
        self.run(suspects.suspect, held.worker, held.claim, item, call(held.epoch, "cut", held.slot), "cut")
        # Suspects and their waits have their own tests.
        self.bench.sql("delete from cuts")
        self.bench.sql(
            "update work_items set not_before = null where document_id = %s and state in ('pending', 'deferred', 'claimed')",
            held.claim.document_id,
        )
        for other in self.documents[held.claim.document].items.values():
            if other.state in ("pending", "deferred"):
                other.due_at = 0.0
        if model is not None:
            model.state, model.holder, model.due_at = "deferred", None, 0.0

    def attempts_are_given_back(self) -> None:
        for row in self.bench.sql(
            "select d.key, i.stage, i.attempts, i.state, i.reason from work_items i join documents d using (document_id)"
        ):
            model = self.documents[row["key"]].items[row["stage"]]
            assert row["attempts"] <= model.attempts
            if row["attempts"] < model.attempts and model.state in ("pending", "failed"):
                model.state, model.due_at = "pending", 0.0
            model.attempts = row["attempts"]

    @happens(1, lambda self: self.held)
    def a_claim_is_given_back(self, data: st.DataObject) -> None:
        self.release(data.draw(st.sampled_from(self.held)))

    def release(self, held: Held) -> None:
        still = [item for item in held.left if self.is_held(held, item)]
        self.run(claims.release, held.worker, held.claim, "given back")
        for item in still:
            model = self.documents[held.claim.document].items[item.stage]
            model.state, model.holder = "pending", None
        held.left = []
        self.forget_if_empty(held)

    def forget_if_empty(self, held: Held) -> None:
        if not held.left:
            self.held = [other for other in self.held if other is not held]
            self.late = [other for other in self.late if other is not held]

    @happens(3, lambda self: self.workers and self.slots_in(BreakerState.OPEN))
    def a_trial_ends(self, data: st.DataObject) -> None:
        """Mostly answered."""
        slot = data.draw(st.sampled_from(self.slots_in(BreakerState.OPEN)))
        worker, epoch = data.draw(st.sampled_from(self.workers)), self.rows[slot].epoch
        self.bench.sql("update slots set retry_at = clock_timestamp() where breaker = 'open'")
        assert self.bench.begin_trial(worker, epoch, slot) is TrialTurn.YOURS
        is_answered = data.draw(st.sampled_from([True, True, True, False]))
        self.run(breaker.end_trial, slot, worker, epoch, TrialEnd(is_answered, "warming"), SLOT.url)
        assert self.slot_row(slot).epoch == epoch + is_answered

    @happens(2, lambda self: self.workers)
    def a_worker_wants_a_permit(self, data: st.DataObject) -> None:
        self.run(
            permits.acquire,
            data.draw(st.sampled_from(sorted(SLOTS))),
            data.draw(st.sampled_from(self.workers)),
            is_person=data.draw(st.booleans()),
            is_exclusive=data.draw(st.sampled_from([False, False, False, True])),
        )

    @happens(1, lambda self: self.workers)
    def a_worker_returns_its_permits(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        self.bench.sql("delete from permits where worker_id = %s", worker)
        self.bench.sql("delete from permit_waiters where worker_id = %s", worker)

    # A person

    @happens(2, lambda self: self.held_stages())
    def a_person_wants_a_held_stage_to_be_tried_again(self, data: st.DataObject) -> None:
        """Those that failed wait for the others of the stage, if there are any. How long has its own test."""
        slot = data.draw(st.sampled_from(sorted(self.held_stages())))
        failed = self.bench.sql(
            "select unnest(items) as item from stage_faults where slot = %s and held_since is not null", slot
        )
        self.run(slots.try_again, slot, "requested by command")
        for row in self.bench.sql(
            "update work_items i set not_before = null from documents d where d.document_id = i.document_id "
            "and i.state = 'pending' and i.item_id = any(%s) returning d.key, i.stage",
            [row["item"] for row in failed],
        ):
            self.documents[row["key"]].items[row["stage"]].due_at = 0.0
        self.faults_in_a_row = {place: row for place, row in self.faults_in_a_row.items() if place[0] != slot}
        assert holds.by_slot(self.run(holds.list_holds)) == self.held_stages()

    @happens(2, lambda self: self.in_state("failed", "quarantined"))
    def a_person_retries(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(KEYS))
        retried = self.run(redo.retry, STAGE_NAMES, documents=[key])
        expected = (
            {stage for stage, item in self.documents[key].items.items() if item.state in ("failed", "quarantined")}
            if key in self.documents
            else set()
        )
        assert {stage for _, stage in retried} == expected
        for stage in expected:
            self.documents[key].items[stage] = ModelItem(is_redo=self.documents[key].items[stage].is_redo)

    def in_state(self, *states: str) -> bool:
        return any(item.state in states for document in self.documents.values() for item in document.items.values())

    @happens(1, lambda self: self.in_state("done"))
    def a_person_has_it_done_again(self, data: st.DataObject) -> None:
        key, stage = data.draw(st.sampled_from(KEYS)), data.draw(st.sampled_from(STAGE_NAMES))
        redone = self.bench.redo([stage], [key])
        document = self.documents.get(key)
        is_done = document is not None and stage in document.items and document.items[stage].state == "done"
        assert bool(redone) is is_done
        if is_done and document is not None:
            document.items[stage] = ModelItem(is_redo=True)

    @happens(1)
    def a_prompt_or_the_model_changes(self, data: st.DataObject) -> None:
        """The recipe may also change back."""
        stage = data.draw(st.sampled_from(STAGE_NAMES))
        self.recipes[stage] = data.draw(st.sampled_from([RECIPES[stage], "another"]))

    @happens(1, lambda self: self.recipes != RECIPES and self.in_state("done"))
    def a_person_has_the_outdated_done_again(self, data: st.DataObject) -> None:
        outdated = [
            (document, stage)
            for document in self.documents.values()
            for stage, item in document.items.items()
            if item.state == "done" and item.recipe != self.recipes[stage]
        ]
        estimates = self.run(redo.estimate, redo.Redo(self.recipes, only_outdated=True))
        assert sum(estimate.documents for estimate in estimates) == len(outdated)
        assert self.run(redo.redo, redo.Redo(self.recipes, only_outdated=True)) == len(outdated)
        for document, stage in outdated:
            document.items[stage] = ModelItem()
