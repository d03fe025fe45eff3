"""A small model of the contract's table, beside the ledger that a state machine compares with it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, ParamSpec, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
)

from dagster_offload.ledger.core.database import Connection, Cursor, Ledger
from dagster_offload.ledger.core.rows import BreakerState, Claim, ClaimedItem, SlotRow
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import documents
from dagster_offload.library.files import FileStat
from dagster_offload.slot.config import SlotConfig
from dagster_offload.stages.graph import EXTRACT
from tests.support.ledger import LOOKED_AT, RECIPES, SLOT, Bench, sha, text_result
from tests.support.stages import DRAIN_STAGES

P = ParamSpec("P")
T = TypeVar("T")

KEYS = ("a.txt", "b.txt", "c.txt")
CONTENTS = ("one", "two")
MOST_WORKERS = 3  # workers at a time
OTHER_SLOT = SlotConfig(name="primary", url="http://other:1", model="small", concurrency=1)
SLOTS = {slot.name: slot for slot in (SLOT, OTHER_SLOT)}
# No sum of these jumps is less than a minute below a back-off (60, 600 s) or a deferral (1800 s). A story takes seconds.
JUMPS_SECONDS = (130.0, 800.0, 2000.0)
BACKOFFS_SECONDS = (60.0, 600.0)


@dataclass
class ModelItem:
    state: str = "pending"
    attempts: int = 0
    holder: int | None = None  # worker
    token: int | None = None  # of its claim
    due_at: float = 0.0  # seconds of the model's clock
    deferred_by: tuple[str, int] | None = None  # slot and epoch
    recipe: str | None = None  # of its result
    is_redo: bool = False


@dataclass
class ModelDocument:
    content: str
    is_present: bool = True
    items: dict[str, ModelItem] = field(default_factory=dict)


@dataclass
class Held:
    """A claim that a worker believes it holds (it may be lost), and the items of it that are not answered yet."""

    worker: int
    claim: Claim
    content: str
    slot: str
    epoch: int
    left: list[ClaimedItem]


@dataclass
class FaultsInARow:
    """Faults of one stage at one slot, with no success of the stage between them."""

    recipe: str
    faults: list[tuple[int, str]]  # item and code
    is_held: bool = False  # the slot takes no document of the stage


@dataclass(frozen=True)
class Event:
    name: str
    weight: int
    may_happen: Callable[[Any], object]


EVENTS: list[Event] = []


def happens(
    weight: int, when: Callable[[Any], object] = lambda _machine: True
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register an event, with its weight and the condition for it.

    A single rule chooses among all events: hypothesis's own choice of rules leaves most stories without any answer.
    """

    def register(method: Callable[P, None]) -> Callable[P, None]:
        EVENTS.append(Event(method.__name__, weight, when))
        return method

    return register


class OneConnection(Ledger):
    """A ledger without a pool: it runs thousands of steps in seconds."""

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


class LedgerModel(RuleBasedStateMachine):
    """The model and the ledger, with what events do to both."""

    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        tables = (
            "documents, work_items, results, workers, slots, permits, permit_waiters, cuts, calls, transitions, outbox"
        )
        self.bench.sql(f"truncate {tables} restart identity cascade")
        self.rows = {name: self.run(slots.register, slot) for name, slot in SLOTS.items()}
        self.documents: dict[str, ModelDocument] = {}
        self.recipes = dict(RECIPES)
        self.paid: set[tuple[str, str, str]] = set()  # (stage, content, recipe)
        self.faults_in_a_row: dict[tuple[str, str], FaultsInARow] = {}  # by slot and stage
        # The document faults (item and code): at any time by stage, and before the last answer there by slot and stage.
        self.failed: dict[str, set[tuple[int, str]]] = {}
        self.failed_before_an_answer: dict[tuple[str, str], set[tuple[int, str]]] = {}
        self.clock = 0.0
        self.workers: list[int] = []
        self.silent: set[int] = set()  # workers without a heartbeat since the clock jumped
        self.given_up: list[int] = []
        self.held: list[Held] = []
        self.late: list[Held] = []  # claims of reclaimed workers: their answers may still come

    @initialize(first=st.sampled_from(CONTENTS), second=st.sampled_from(CONTENTS))
    def a_library_with_some_texts(self, first: str, second: str) -> None:
        """Two workers and two documents, one of them extracted, so that stories start in the middle."""
        self.workers = [self.bench.worker(), self.bench.worker()]
        for key, content in zip(KEYS, (first, second), strict=False):
            self.write(key, content)
        claim = self.bench.hold(self.workers[0], [EXTRACT])
        self.bench.finish(self.workers[0], claim, result=text_result(f"text of {first}"))
        self.paid.add((EXTRACT, first, RECIPES[EXTRACT]))
        self.complete(self.documents[claim.document], EXTRACT, RECIPES[EXTRACT])

    def run(self, step: Callable[..., T], *arguments: object, **options: object) -> T:
        return self.bench.ledger.run(step, *arguments, **options)

    # The model

    def complete(self, document: ModelDocument, stage: str, recipe: str) -> None:
        attempts = document.items[stage].attempts
        document.items[stage] = ModelItem("done", attempts, recipe=recipe)
        if stage == EXTRACT:
            for later in DRAIN_STAGES:
                if later not in document.items:
                    document.items[later] = ModelItem()
                    if self.is_paid(later, document.content):
                        self.complete(document, later, self.recipes[later])

    def is_paid(self, stage: str, content: str) -> bool:
        return (stage, content, self.recipes[stage]) in self.paid

    def start(self, document: ModelDocument) -> None:
        document.items = {EXTRACT: ModelItem()}
        if self.is_paid(EXTRACT, document.content):
            self.complete(document, EXTRACT, self.recipes[EXTRACT])

    def is_held(self, held: Held, item: ClaimedItem) -> bool:
        document = self.documents[held.claim.document]
        current = document.items.get(item.stage)
        return current is not None and current.state == "claimed" and current.token == held.claim.token

    def give_back(self, worker: int) -> None:
        for document in self.documents.values():
            for item in document.items.values():
                if item.holder == worker:
                    item.state, item.holder = "pending", None

    def is_held_at(self, slot: str | None, stage: str) -> bool:
        row = None if slot is None else self.faults_in_a_row.get((slot, stage))
        return row is not None and row.is_held

    def is_due(self, item: ModelItem, slot: str | None) -> bool:
        if item.state not in ("pending", "deferred"):
            return False
        if item.due_at <= self.clock:
            return True
        if item.state == "pending" or item.deferred_by is None:
            return False
        deferred_by, epoch = item.deferred_by
        return (slot is not None and deferred_by != slot) or self.rows[deferred_by].epoch > epoch

    def write(self, key: str, content: str) -> None:
        stat = FileStat(key, key, len(content), 1, 1, 1, "/library")
        self.run(documents.store, stat, sha(content), None, self.recipes, LOOKED_AT)
        document = self.documents.get(key)
        if document is not None and document.is_present and document.content == content:
            return
        self.documents[key] = ModelDocument(content)
        self.start(self.documents[key])

    def slot_row(self, name: str) -> SlotRow:
        row = self.run(slots.get, name)
        assert row is not None
        return row

    def slots_in(self, *states: BreakerState) -> list[str]:
        return [name for name, row in self.rows.items() if row.breaker in states]
