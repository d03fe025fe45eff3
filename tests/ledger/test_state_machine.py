"""Several workers, a scanner and a person do what they may in any order, against a small model of the contract's table.

The model knows a document's content, the state of each of its items, who holds it, and which answers were paid for.
After every step the ledger must agree with it, and keep the promises that hold always.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, ParamSpec

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dagster_offload.ledger import (
    Connection,
    Cursor,
    Ledger,
    breaker,
    claims,
    deferrals,
    documents,
    requests,
    results,
    slots,
    suspects,
)
from dagster_offload.ledger.breaker import TrialEnd, TrialTurn
from dagster_offload.ledger.records import BreakerState, Claim, ClaimedItem, Outcome, State
from dagster_offload.slots import DEEP
from dagster_offload.stages import CLASSIFY, DRAIN_STAGES, EXTRACT, STAGE_NAMES, SUMMARIZE
from tests.ledger.conftest import SLOT, Bench, call, record_result, sha, text_result

P = ParamSpec("P")

KEYS = ("a.txt", "b.txt", "c.txt")
CONTENTS = ("one", "two")
PLACES = 3  # workers at a time
PERMITS = SLOT.concurrency


@dataclass
class ModelItem:
    state: str = "pending"
    attempts: int = 0
    holder: int | None = None  # worker
    token: int | None = None  # of its claim


@dataclass
class ModelDocument:
    content: str
    is_present: bool = True
    items: dict[str, ModelItem] = field(default_factory=dict)


@dataclass
class Held:
    """A claim a worker believes to hold, perhaps in vain, and which of its items it has not answered yet."""

    worker: int
    claim: Claim
    content: str
    epoch: int
    left: list[ClaimedItem]


@dataclass(frozen=True)
class Event:
    name: str
    weight: int
    may_happen: Callable[["LedgerMachine"], object]


EVENTS: list[Event] = []


def happens(
    weight: int, when: Callable[["LedgerMachine"], object] = lambda _machine: True
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """An event, how often it is chosen and when it can be.

    One rule chooses among all: hypothesis's own choice of rules leaves most stories without any answer.
    """

    def register(method: Callable[P, None]) -> Callable[P, None]:
        EVENTS.append(Event(method.__name__, weight, when))
        return method

    return register


class OneConnection(Ledger):
    """A ledger without a pool: thousands of steps in seconds."""

    @cached_property
    def connection(self) -> Connection:
        return self.connect()

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            yield cursor

    def close(self) -> None:
        self.connection.close()
        super().close()


class LedgerMachine(RuleBasedStateMachine):
    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        tables = (
            "documents, work_items, results, workers, slots, permits, permit_waiters, cuts, calls, transitions, outbox"
        )
        self.bench.sql(f"truncate {tables} restart identity cascade")
        self.row = self.bench.ledger.run(slots.register, SLOT)
        self.documents: dict[str, ModelDocument] = {}
        self.paid: set[tuple[str, str]] = set()  # (stage, content)
        self.workers: list[int] = []
        self.held: list[Held] = []
        self.late: list[Held] = []  # claims of workers that died: their answers may still come

    @initialize(first=st.sampled_from(CONTENTS), second=st.sampled_from(CONTENTS))
    def a_library_with_some_texts(self, first: str, second: str) -> None:
        """Two workers and two documents of which one is extracted, so that the stories begin in the middle."""
        self.workers = [self.bench.worker(), self.bench.worker()]
        for key, content in zip(KEYS, (first, second), strict=False):
            self.write(key, content)
        worker = self.workers[0]
        claim = self.bench.hold(worker, [EXTRACT])
        self.bench.finish(worker, claim, result=text_result(f"text of {first}"))
        self.paid.add((EXTRACT, first))
        self.complete(self.documents[claim.document], EXTRACT)

    # The model

    def complete(self, document: ModelDocument, stage: str) -> None:
        item = document.items[stage]
        item.state, item.holder = "done", None
        if stage == EXTRACT:
            for later in DRAIN_STAGES:
                if later not in document.items:
                    document.items[later] = ModelItem()
                    if (later, document.content) in self.paid:
                        self.complete(document, later)

    def start(self, document: ModelDocument) -> None:
        document.items = {EXTRACT: ModelItem()}
        if (EXTRACT, document.content) in self.paid:
            self.complete(document, EXTRACT)

    def is_held(self, held: Held, item: ClaimedItem) -> bool:
        document = self.documents[held.claim.document]
        current = document.items.get(item.stage)
        return current is not None and current.state == "claimed" and current.token == held.claim.token

    def give_back(self, worker: int) -> None:
        for document in self.documents.values():
            for item in document.items.values():
                if item.holder == worker:
                    item.state, item.holder = "pending", None

    # The library

    @happens(2)
    def a_file_is_new_edited_or_back(self, data: st.DataObject) -> None:
        self.write(data.draw(st.sampled_from(KEYS)), data.draw(st.sampled_from(CONTENTS)))

    def write(self, key: str, content: str) -> None:
        self.bench.put(key, content)
        document = self.documents.get(key)
        if document is not None and document.is_present and document.content == content:
            return
        self.documents[key] = ModelDocument(content)
        self.start(self.documents[key])

    @happens(1, lambda self: self.present())
    def a_file_is_gone(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.present()))
        self.bench.ledger.run(documents.mark_gone, [key])
        self.documents[key].is_present = False
        for item in self.documents[key].items.values():
            item.state, item.holder = "gone", None

    def present(self) -> list[str]:
        return [key for key, document in self.documents.items() if document.is_present]

    # Workers

    @happens(2, lambda self: len(self.workers) < PLACES)
    def a_worker_comes(self, data: st.DataObject) -> None:
        self.workers.append(self.bench.worker())

    @happens(1, lambda self: self.workers)
    def a_worker_dies(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        self.bench.die(worker)
        self.bench.sql("update work_items set must_run_alone = false, lone_deaths = 0")
        self.give_back(worker)
        self.workers.remove(worker)
        self.late += [held for held in self.held if held.worker == worker]
        self.held = [held for held in self.held if held.worker != worker]

    @happens(3, lambda self: self.workers and self.claimable((EXTRACT,)))
    def a_worker_takes_a_file(self, data: st.DataObject) -> None:
        self.claim(data, (EXTRACT,))

    @happens(5, lambda self: self.workers and self.row.breaker is BreakerState.CLOSED)
    def a_worker_takes_questions(self, data: st.DataObject) -> None:
        self.claim(data, data.draw(st.sampled_from([DRAIN_STAGES, DRAIN_STAGES, (CLASSIFY,), (SUMMARIZE,)])))

    def claim(self, data: st.DataObject, stages: tuple[str, ...]) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        self.bench.make_due()
        self.bench.sql("update work_items set must_run_alone = false")
        before = {
            key: {stage for stage, item in document.items.items() if item.state in ("pending", "deferred")}
            for key, document in self.documents.items()
        }
        claim = self.bench.take(worker, stages)
        if claim is None:
            assert not self.claimable(stages), "there was work to claim"
            return
        document = self.documents[claim.document]
        taken = before[claim.document] & set(stages)
        assert all(item.state != "claimed" for item in document.items.values()), "two workers at one document"
        got = [item.stage for item in claim.items]
        assert got == sorted(got, key=STAGE_NAMES.index)
        assert set(got) <= taken
        for stage in taken:
            if stage in got:
                document.items[stage] = ModelItem("claimed", document.items[stage].attempts, worker, claim.token)
            elif not self.is_input_in_hand(stage, document.content):
                assert (stage, document.content) in self.paid, "completed without a result"
                self.complete(document, stage)
        if claim.items:
            self.held.append(Held(worker, claim, document.content, self.row.epoch, list(claim.items)))

    def is_input_in_hand(self, stage: str, content: str) -> bool:
        return any(
            document.content == content and stage in document.items and document.items[stage].state == "claimed"
            for document in self.documents.values()
        )

    def claimable(self, stages: tuple[str, ...]) -> bool:
        return any(
            stage in document.items
            and document.items[stage].state in ("pending", "deferred")
            and all(item.state != "claimed" for item in document.items.values())
            and not self.is_input_in_hand(stage, document.content)
            for document in self.documents.values()
            if document.is_present
            for stage in stages
        )

    @happens(6, lambda self: self.held)
    def an_answer_comes(self, data: st.DataObject) -> None:
        """In time, or for a file that is another by now."""
        self.answer(data.draw(st.sampled_from(self.held)))

    @happens(3, lambda self: self.late)
    def a_late_answer_comes(self, data: st.DataObject) -> None:
        """From a worker that was given up."""
        self.answer(data.draw(st.sampled_from(self.late)))

    def answer(self, held: Held) -> None:
        item = held.left.pop(0)
        was_held = self.is_held(held, item)
        result = text_result(f"text of {held.content}") if item.stage == EXTRACT else record_result("words", held.epoch)
        assert self.bench.finish(held.worker, held.claim, item, result) is was_held
        self.paid.add((item.stage, held.content))
        if was_held:
            self.complete(self.documents[held.claim.document], item.stage)
        self.forget_if_empty(held)

    @happens(3, lambda self: any(held.left[0].stage != EXTRACT for held in self.held + self.late if held.left))
    def a_call_fails(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from([h for h in self.held + self.late if h.left[0].stage != EXTRACT]))
        how = data.draw(st.sampled_from(["slot", "document", "cut"]))
        item = held.left[0]
        was_held = self.is_held(held, item)
        run, fault = self.bench.ledger.run, call(held.epoch, how)
        model = self.documents[held.claim.document].items.get(item.stage)
        if how == "slot":
            run(deferrals.open_and_defer, held.worker, held.claim, item, fault, "upstream_cold", None, 1800.0)
            state = "deferred"
        elif how == "document":
            run(deferrals.fail, held.worker, held.claim, item, "empty_answer", "why", fault, is_final=False)
            state = "failed" if model is not None and model.attempts == 2 else "pending"
        else:
            run(suspects.note_cut, DEEP, held.epoch, item, "cut")
            run(suspects.suspect, held.worker, held.claim, item, fault, "cut")
            self.bench.sql("delete from cuts")  # quarantine has tests of its own
            state = "deferred"
        if was_held and model is not None:
            model.state, model.holder = state, None
            model.attempts += how == "document"
        if how == "document" and self.bench.slot().breaker is BreakerState.MISCONFIGURED:
            self.attempts_are_given_back()
        self.release(held)

    def attempts_are_given_back(self) -> None:
        for row in self.bench.sql(
            "select d.key, i.stage, i.attempts, i.state from work_items i join documents d using (document_id)"
        ):
            model = self.documents[row["key"]].items[row["stage"]]
            assert row["attempts"] <= model.attempts
            if row["attempts"] < model.attempts and model.state == "failed":
                model.state = "pending"
            model.attempts = row["attempts"]

    @happens(1, lambda self: self.held)
    def a_claim_is_given_back(self, data: st.DataObject) -> None:
        self.release(data.draw(st.sampled_from(self.held)))

    def release(self, held: Held) -> None:
        still = [item for item in held.left if self.is_held(held, item)]
        self.bench.ledger.run(claims.release, held.worker, held.claim, "given back")
        for item in still:
            model = self.documents[held.claim.document].items[item.stage]
            model.state, model.holder = "pending", None
        held.left = []
        self.forget_if_empty(held)

    def forget_if_empty(self, held: Held) -> None:
        if not held.left:
            self.held = [other for other in self.held if other is not held]
            self.late = [other for other in self.late if other is not held]

    # The slot

    @happens(3, lambda self: self.row.breaker is not BreakerState.CLOSED)
    def the_breaker_closes(self, data: st.DataObject) -> None:
        if self.row.breaker is BreakerState.MISCONFIGURED:
            self.bench.ledger.run(slots.try_again, DEEP, "the settings changed")
        self.bench.close_breaker()
        assert self.bench.slot().epoch == self.row.epoch + 1

    @happens(1, lambda self: self.workers and self.row.breaker is not BreakerState.CLOSED)
    def a_trial_is_refused(self, data: st.DataObject) -> None:
        row = self.row
        worker = data.draw(st.sampled_from(self.workers))
        self.bench.sql("update slots set retry_at = clock_timestamp() where breaker = 'open'")
        turn = self.bench.ledger.run(breaker.begin_trial, DEEP, worker, row.epoch)
        assert (turn is TrialTurn.YOURS) is (row.breaker is BreakerState.OPEN)
        if turn is TrialTurn.YOURS:
            self.bench.ledger.run(breaker.end_trial, DEEP, worker, row.epoch, TrialEnd(False, "warming"))

    @happens(3, lambda self: self.workers)
    def a_worker_wants_a_permit(self, data: st.DataObject) -> None:
        self.bench.acquire(
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

    @happens(2, lambda self: self.in_state("failed", "quarantined"))
    def a_person_retries(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(KEYS))
        retried = self.bench.ledger.run(requests.retry, STAGE_NAMES, documents=[key])
        expected = (
            {stage for stage, item in self.documents[key].items.items() if item.state in ("failed", "quarantined")}
            if key in self.documents
            else set()
        )
        assert {stage for _, stage in retried} == expected
        for stage in expected:
            self.documents[key].items[stage] = ModelItem()

    def in_state(self, *states: str) -> bool:
        return any(item.state in states for document in self.documents.values() for item in document.items.values())

    @happens(1, lambda self: self.in_state("done"))
    def a_person_has_it_done_again(self, data: st.DataObject) -> None:
        key, stage = data.draw(st.sampled_from(KEYS)), data.draw(st.sampled_from(DRAIN_STAGES))
        redone = self.bench.ledger.run(requests.redo, [stage], [key])
        document = self.documents.get(key)
        is_done = document is not None and stage in document.items and document.items[stage].state == "done"
        assert bool(redone) is is_done
        if is_done and document is not None:
            document.items[stage] = ModelItem()
            # An answer that is already there is no answer to a redo.
            self.bench.sql("update work_items set is_redo = false where state = 'pending' and is_redo")

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        possible = [event.name for event in EVENTS if event.may_happen(self) for _ in range(event.weight)]
        getattr(self, data.draw(st.sampled_from(possible)))(data)

    # What holds always

    @invariant()
    def the_ledger_agrees_with_the_model(self) -> None:
        self.row = self.bench.slot()
        rows = self.bench.sql(
            "select d.key, i.stage, i.state, i.worker_id, i.token, i.attempts from work_items i "
            "join documents d using (document_id)"
        )
        found = {(row["key"], row["stage"]): (row["state"], row["worker_id"], row["token"]) for row in rows}
        assert found == {
            (key, stage): (item.state, item.holder, item.token if item.holder else None)
            for key, document in self.documents.items()
            for stage, item in document.items.items()
        }
        for row in rows:
            if row["state"] not in {"done", "gone"}:
                assert row["attempts"] == self.documents[row["key"]].items[row["stage"]].attempts
        kept = {
            (row["stage"], row["input_digest"]) for row in self.bench.sql("select stage, input_digest from results")
        }
        assert kept == {(stage, self.input_digest(stage, content)) for stage, content in self.paid}

    def input_digest(self, stage: str, content: str) -> str:
        return sha(content) if stage == EXTRACT else results.output_digest(Outcome.OK, f"text of {content}")

    @invariant()
    def states_add_up_to_the_documents_whose_upstream_is_done(self) -> None:
        (row,) = self.bench.sql(
            "select (select count(*) from documents where is_present) as present, "
            "count(*) filter (where stage = 'extract') as extract, "
            "count(*) filter (where stage = 'extract' and state = 'done') as extracted, "
            "count(*) filter (where stage = 'classify') as classify, "
            "count(*) filter (where stage = 'summarize') as summarize from work_items where state <> 'gone'"
        )
        assert row["extract"] == row["present"]
        assert row["classify"] == row["summarize"] == row["extracted"]

    @invariant()
    def permits_never_exceed_n_and_nobody_shares_with_an_exclusive_one(self) -> None:
        (row,) = self.bench.sql("select count(*) as n, coalesce(bool_or(is_exclusive), false) as is_shut from permits")
        assert row["n"] <= (1 if row["is_shut"] else PERMITS)

    @invariant()
    def no_promise_is_broken(self) -> None:
        queries = " union all ".join(
            f"(select '{promise}' as broken {query} limit 1)" for promise, query in BROKEN.items()
        )
        assert self.bench.sql(queries) == []


# Each finds rows only where the promise is broken.
BROKEN = {
    "exactly one current result per key": "from results group by stage, input_digest, recipe "
    "having count(*) filter (where superseded_at is null) <> 1",
    "a done item has the result of its own input": "from work_items i left join results r on r.result_id = i.result_id "
    "and r.stage = i.stage and r.input_digest = i.input_digest where i.state = 'done' and r.result_id is null",
    "a done item has an event": "from work_items i where i.state = 'done' and not exists (select 1 from outbox o "
    "where o.document_id = i.document_id and o.stage = i.stage and o.result_id = i.result_id)",
    "one worker per document": "from work_items where state = 'claimed' group by document_id "
    "having count(distinct worker_id) > 1",
    "one worker per input": "from work_items where state = 'claimed' group by stage, input_digest having count(*) > 1",
    "the ended hold no claim": "from work_items join workers using (worker_id) where ended_at is not null",
    "the ended hold no permit": "from permits join workers using (worker_id) where ended_at is not null",
    "the ended stand in no line": "from permit_waiters join workers using (worker_id) where ended_at is not null",
    "the last transition led here": "from work_items i join lateral (select to_state from transitions t "
    "where t.document_id = i.document_id and t.stage = i.stage order by transition_id desc limit 1) t on true "
    "where t.to_state <> i.state",
}


def test_no_order_of_events_breaks_the_contracts_table(ledger_url: str) -> None:
    with OneConnection(ledger_url) as ledger:
        LedgerMachine.bench = Bench(ledger)
        run_state_machine_as_test(
            LedgerMachine,
            settings=settings(
                max_examples=40,
                stateful_step_count=50,
                deadline=None,
                database=None,
                print_blob=True,
                # Shrinking a story takes minutes, more than a test may: add Phase.shrink where one fails.
                phases=(Phase.generate,),
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
            ),
        )


def test_states_of_the_model_are_the_ledgers() -> None:
    assert {"pending", "claimed", "deferred", "done", "failed", "gone"} < set(State)
