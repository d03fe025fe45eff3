"""Several workers, a scan, a person and a clock act in any order, checked against a small model of the contract's table.

The model knows a document's content, the state, holder and due time of each of its items, and which answers were paid
for. After every step the ledger must agree with the model and keep its invariants.
"""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    rule,
    run_state_machine_as_test,
)

from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.slots import holds
from dagster_offload.ledger.work import finish
from dagster_offload.stages.graph import EXTRACT, Outcome
from dagster_offload.testing import ChangeTiming
from tests.support.ledger import Bench, sha
from tests.support.ledger_answers import (
    DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS_HERE,
    DOCUMENTS_TO_HOLD_HERE,
    AnswerEvents,
)
from tests.support.ledger_model import EVENTS, SLOTS, OneConnection


class LedgerMachine(AnswerEvents):
    """All events in any order, and what must hold after each."""

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        # Hypothesis draws the first of a list more often than the others: it should be an event that advances the story.
        by_weight = sorted(EVENTS, key=lambda event: -event.weight)
        possible = [event.name for event in by_weight if event.may_happen(self) for _ in range(event.weight)]
        getattr(self, data.draw(st.sampled_from(possible)))(data)

    # Invariants

    @invariant()
    def the_ledger_agrees_with_the_model(self) -> None:
        self.rows = {name: self.slot_row(name) for name in SLOTS}
        rows = self.bench.sql(
            "select d.key, i.stage, i.state, i.worker_id, i.token, i.attempts, i.recipe from work_items i "
            "join documents d using (document_id)"
        )
        found = {(row["key"], row["stage"]): (row["state"], row["worker_id"], row["token"]) for row in rows}
        assert found == {
            (key, stage): (item.state, item.holder, item.token if item.holder else None)
            for key, document in self.documents.items()
            for stage, item in document.items.items()
        }
        for row in rows:
            item = self.documents[row["key"]].items[row["stage"]]
            if row["state"] == "done":
                assert row["recipe"] == item.recipe
            elif row["state"] != "gone":
                assert row["attempts"] == item.attempts
        kept = {
            (row["stage"], row["input_digest"], row["recipe"])
            for row in self.bench.sql("select stage, input_digest, recipe from results")
        }
        assert kept == {(stage, self.input_digest(stage, content), recipe) for stage, content, recipe in self.paid}

    def input_digest(self, stage: str, content: str) -> str:
        return sha(content) if stage == EXTRACT else finish.output_digest(Outcome.OK, f"text of {content}")

    @invariant()
    def states_add_up_to_the_documents_whose_upstream_is_done(self) -> None:
        """Being done once is enough: during a redo of its text, a document keeps the results of the earlier text."""
        (row,) = self.bench.sql(
            "select (select count(*) from documents where is_present) as present, "
            "count(*) filter (where stage = 'extract') as extract, "
            "count(*) filter (where stage = 'extract' and (state = 'done' or exists (select 1 from work_items later "
            "  where later.document_id = i.document_id and later.stage <> 'extract'))) as extracted, "
            "count(*) filter (where stage = 'classify') as classify, "
            "count(*) filter (where stage = 'summarize') as summarize from work_items i where state <> 'gone'"
        )
        assert row["extract"] == row["present"]
        assert row["classify"] == row["summarize"] == row["extracted"]

    @invariant()
    def permits_never_exceed_n_and_no_document_shares_with_an_exclusive_one(self) -> None:
        for row in self.bench.sql(
            "select slot, count(*) as n, bool_or(is_exclusive) as is_shut from permits group by 1"
        ):
            assert row["n"] <= (1 if row["is_shut"] else SLOTS[row["slot"]].concurrency)

    @invariant()
    def no_promise_is_broken(self) -> None:
        queries = " union all ".join(
            f"(select '{promise}' as broken {query} limit 1)" for promise, query in BROKEN.items()
        )
        assert self.bench.sql(queries) == []


# Each query finds rows only if the invariant is broken.
BROKEN = {
    "exactly one current result per key": "from results group by stage, input_digest, recipe "
    "having count(*) filter (where superseded_at is null) <> 1",
    "a done item has the result of its own input": "from work_items i left join results r on r.result_id = i.result_id "
    "and r.stage = i.stage and r.input_digest = i.input_digest where i.state = 'done' and r.result_id is null",
    "the kept counts are those of a recount": "from (select stage, state, recipe, outcome, n from item_counts union all "
    "select stage, state, recipe, outcome, -1 from work_items) c group by stage, state, recipe, outcome having sum(n) <> 0",
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


@pytest.mark.slow
@pytest.mark.rule("ledger-1")
def test_no_order_of_events_breaks_the_contracts_table(
    ledger_url: str, change_timing: ChangeTiming, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_timing(server_settled=0)  # the server started with this session
    # The clock of a story jumps by more than two minutes. Without a jump a worker lives, however slow the machine is.
    change_timing(stale_heartbeat=120, lease=120)
    for number in ("DOCUMENTS_TO_HOLD", "DOCUMENTS_TO_HOLD_AN_ANSWERED_STAGE"):
        monkeypatch.setattr(holds, number, DOCUMENTS_TO_HOLD_HERE)
    monkeypatch.setattr(holds, "DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS", DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS_HERE)
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
                # Shrinking a story takes minutes, too long for a test: add Phase.shrink when one fails.
                phases=(Phase.generate,),
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
            ),
        )


def test_the_models_states_are_states_of_the_ledger() -> None:
    assert {"pending", "claimed", "deferred", "done", "failed", "gone"} < set(State)
