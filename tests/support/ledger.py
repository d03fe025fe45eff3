"""Short names for the steps that tests run on a ledger."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Any

from dagster_offload.ledger.core import workers
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.rows import BreakerState, CallRecord, Claim, ClaimedItem, NewResult, SlotRow, State
from dagster_offload.ledger.slots import breaker, permits, slots
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.ledger.work import claims, deferrals, documents, redo
from dagster_offload.ledger.work import finish as results
from dagster_offload.library.files import FileStat
from dagster_offload.slot.config import DEEP, SlotConfig
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE, Outcome
from tests.support.stages import DRAIN_STAGES

RECIPES = {EXTRACT: "x1", CLASSIFY: "c1", SUMMARIZE: "s1"}
SLOT = SlotConfig(name=DEEP, url="http://slot:1", model="qwen", concurrency=2)
AWAKE = SlotRow(
    name=DEEP,
    url="http://slot:1",
    model="qwen",
    permits=1,
    breaker=BreakerState.CLOSED,
    epoch=1,
    reason=None,
    reason_since=None,
    retry_at=None,
    refusal_wait_seconds=None,
    was_red_since_opening=False,
    is_retry_due=False,
    is_trial_running=False,
)
HOLD = Hold(DEEP, "payment", "answer_does_not_fit", 5, "a.txt", 12, datetime(2026, 11, 25, 5, 2, tzinfo=UTC))
LOOKED_AT = datetime(2026, 1, 1, tzinfo=UTC)
HALF_AN_HOUR = 1800.0


def sha(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def call(epoch: int = 1, outcome: str = "ok", slot: str = DEEP) -> CallRecord:
    return CallRecord(
        slot=slot,
        url=SLOT.url,
        epoch=epoch,
        asked_model="qwen",
        seconds=1.5,
        outcome=outcome,
        served_model="Qwen3.6-27B",
    )


def text_result(text: str, outcome: Outcome = Outcome.OK) -> NewResult:
    return NewResult(outcome, results.output_digest(outcome, text), text=text, value={"type": "text/plain"})


def record_result(words: str, epoch: int = 1) -> NewResult:
    value = {"category": "other", "summary": words}
    return NewResult(Outcome.OK, results.output_digest(Outcome.OK, value), value=value, calls=(call(epoch),))


class Bench:
    """A ledger under test. Its workers are rows without a heartbeat, so tests decide when they die."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def sql(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        with self.ledger.transaction() as cur:
            cur.execute(query.encode(), parameters or None)
            return cur.fetchall() if cur.description else []

    def begun(self, work: Callable[[Cursor], Any]) -> Future[Any]:
        """Start `work` in a transaction of another thread. Returns when it has ended or waits for a lock."""
        thread = ThreadPoolExecutor(1)
        begun = thread.submit(self._in_a_transaction, work)
        thread.shutdown(wait=False)
        waits = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        while not (begun.done() or self.sql(waits)):
            wait([begun], timeout=0.01)
        return begun

    def _in_a_transaction(self, work: Callable[[Cursor], Any]) -> Any:
        with self.ledger.transaction() as cur:
            return work(cur)

    def worker(self, kind: str = "drain") -> int:
        return self.ledger.run(workers._register, kind, DRAIN_STAGES, None)

    def put(self, key: str, content: str = "", *, unreadable: str | None = None) -> None:
        """Store a new or changed file with the bytes `content`, as a scan does."""
        digest = None if unreadable else sha(content or key)
        stat = FileStat(key, key, len(content), 1, 1, 1, "/library")
        self.ledger.run(documents.store, stat, digest, unreadable, RECIPES, LOOKED_AT)

    def take(
        self, worker: int, stages: Sequence[str] = DRAIN_STAGES, keys: Sequence[str] | None = None, **options: Any
    ) -> Claim | None:
        taken = self.ledger.run(claims.take, worker, stages, RECIPES, keys, count=1, **options)
        return taken[0] if taken else None

    def redo(self, stages: Sequence[str], keys: Sequence[str], recipes: Mapping[str, str] = RECIPES) -> int:
        """Redo these done documents, as a person does."""
        ids = [
            row["document_id"] for row in self.sql("select document_id from documents where key = any(%s)", list(keys))
        ]
        return self.ledger.run(redo.redo, redo.Redo({stage: recipes.get(stage, "") for stage in stages}, ids))

    def hold(self, worker: int, stages: Sequence[str] = DRAIN_STAGES, **options: Any) -> Claim:
        """Claim a document; fails if there is none."""
        claim = self.take(worker, stages, **options)
        assert claim is not None
        return claim

    def finish(
        self, worker: int, claim: Claim, item: ClaimedItem | None = None, result: NewResult | None = None
    ) -> bool:
        item = item or claim.items[0]
        result = result or (text_result(f"text of {claim.document}") if item.stage == EXTRACT else record_result("ok"))
        [was_held] = self.ledger.run(results.finish, worker, [results.Finish(claim, item, result)], RECIPES, None)
        return was_held

    def extracted(self, *keys: str, outcome: Outcome = Outcome.OK, texts: Mapping[str, str] | None = None) -> None:
        """Add documents whose extraction is done, with different texts unless `texts` gives them."""
        worker = self.worker("scan")
        for key in keys:
            self.put(key)
            claim = self.hold(worker, [EXTRACT], keys=[key])
            self.finish(worker, claim, result=text_result((texts or {}).get(key, f"text of {key}"), outcome))

    def defer(self, worker: int, claim: Claim, wait: float = HALF_AN_HOUR, epoch: int = 1) -> None:
        fault = call(epoch, "HTTPStatusError")
        self.ledger.run(deferrals.open_and_defer, worker, claim, claim.items[0], fault, "upstream_cold", None, wait)
        self.ledger.run(claims.release, worker, claim, "the document was deferred")

    def fail(
        self, worker: int, claim: Claim, code: str = "empty_answer", *, is_final: bool = False, slot: str = DEEP
    ) -> State:
        fault = call(self.slot(slot).epoch, code, slot)
        state = self.ledger.run(
            deferrals.fail, worker, claim, claim.items[0], code, "in words", fault, is_final=is_final
        )
        self.ledger.run(claims.release, worker, claim, "the document failed")
        return state

    def slot(self, name: str = DEEP) -> SlotRow:
        row = self.ledger.run(slots.get, name)
        assert row is not None
        return row

    def begin_trial(self, worker: int, epoch: int, slot: str = DEEP) -> breaker.TrialTurn:
        """Begin a trial of a worker with the settings that are registered."""
        return self.ledger.run(breaker.begin_trial, slot, worker, epoch, self.slot(slot).fingerprint)

    def close_breaker(self) -> None:
        """Run a due trial that is answered."""
        worker, epoch = self.worker("sensor"), self.slot().epoch
        self.sql("update slots set retry_at = clock_timestamp()")
        assert self.begin_trial(worker, epoch) is breaker.TrialTurn.YOURS
        self.ledger.run(breaker.end_trial, DEEP, worker, epoch, breaker.TrialEnd(True, "answered"), SLOT.url)

    def acquire(self, worker: int, *, is_person: bool = False, is_exclusive: bool = False) -> bool:
        return self.ledger.run(permits.acquire, DEEP, worker, is_person=is_person, is_exclusive=is_exclusive) == 1

    def item(self, key: str, stage: str) -> dict[str, Any]:
        """A work item as a row; `waits` is the number of seconds from its last change until its own time is reached."""
        (row,) = self.sql(
            "select i.*, round(extract(epoch from not_before - changed_at))::integer as waits "
            "from work_items i join documents d using (document_id) where d.key = %s and i.stage = %s",
            key,
            stage,
        )
        return row

    def state(self, key: str, stage: str) -> str:
        return str(self.item(key, stage)["state"])

    def make_due(self) -> None:
        """End the waits of all work items."""
        self.sql("update work_items set not_before = clock_timestamp() where not_before is not null")

    def die(self, worker: int) -> None:
        """Treat the worker as dead because its lease is over."""
        self.ledger.run(_take_back, worker)


def hold_stage(ledger: Ledger, stage: str, code: str, recipe: str = "") -> None:
    """Make the deep slot hold the stage, as if all documents that wait for it had failed there."""
    with ledger.transaction() as cur:
        cur.execute(
            "insert into stage_faults (slot, stage, code, recipe, items, codes, held_since) "
            "select %(slot)s, stage, %(code)s, %(recipe)s, array_agg(item_id), array_agg(%(code)s::text), clock_timestamp() "
            "from work_items where stage = %(stage)s and state in ('pending', 'deferred') group by stage",
            {"slot": DEEP, "code": code, "recipe": recipe, "stage": stage},
        )


def _take_back(cur: Cursor, worker: int) -> None:
    cur.execute("select 1 from workers where worker_id = %s and ended_at is null for update", [worker])
    if cur.fetchone() is not None:
        workers._reclaim(cur, worker, innocent_end=None)
