"""The ledger knows no stage by name: it works with any graph of stages."""

from collections.abc import Iterator

import pytest

from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.core.rows import Claim, NewResult
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims, documents, finish, left
from dagster_offload.ledger.work.finish import Finish
from dagster_offload.library.files import FileStat
from dagster_offload.stages.graph import Outcome, StageGraph, StageNode
from tests.support.ledger import LOOKED_AT, SLOT, Bench, call, sha, text_result

# Two stages read the text, in the order of their declaration, and one reads the record of another.
CHAIN = StageGraph(
    (
        StageNode("read", None),
        StageNode("translate", "read"),
        StageNode("audit", "read"),
        StageNode("payment", "translate"),
    )
)
NAMES = CHAIN.names
RECIPES = {name: f"{name} 1" for name in NAMES}


@pytest.fixture
def bench(empty_url: str) -> Iterator[Bench]:
    with Ledger(empty_url) as ledger:
        migrate(ledger, CHAIN)
        ledger.run(slots.register, SLOT)
        yield Bench(ledger)


def put(bench: Bench, key: str) -> None:
    stat = FileStat(key, key, len(key), 1, 1, 1, "/library")
    bench.ledger.run(documents.store, stat, sha(key), None, RECIPES, LOOKED_AT)


def take(bench: Bench, worker: int) -> Claim:
    [claim] = bench.ledger.run(claims.take, worker, NAMES, RECIPES, count=1)
    return claim


def answer(bench: Bench, worker: int, claim: Claim, outcome: Outcome = Outcome.OK) -> None:
    finishes = []
    for item in claim.items:
        value = {"of": item.stage, "input": item.input_digest}
        record = NewResult(Outcome.OK, finish.output_digest(Outcome.OK, value), value=value, calls=(call(),))
        finishes.append(Finish(claim, item, text_result(claim.document, outcome) if item.stage == "read" else record))
    assert all(bench.ledger.run(finish.finish, worker, finishes, RECIPES, None))


def stages_of(claim: Claim) -> list[str]:
    return [item.stage for item in claim.items]


def test_each_stage_becomes_due_when_its_upstream_is_done_and_reads_its_output(bench: Bench) -> None:
    put(bench, "a.txt")
    worker = bench.worker()
    claim = take(bench, worker)
    assert (stages_of(claim), claim.items[0].input_digest) == (["read"], sha("a.txt"))
    answer(bench, worker, claim)
    claim = take(bench, worker)
    assert (stages_of(claim), claim.text) == (["translate", "audit"], "a.txt")
    answer(bench, worker, claim)
    claim = take(bench, worker)
    assert stages_of(claim) == ["payment"]
    [translated] = bench.sql("select output_digest from results where stage = 'translate'")
    assert claim.items[0].input_digest == translated["output_digest"]
    answer(bench, worker, claim)
    assert {bench.state("a.txt", name) for name in NAMES} == {"done"}


def test_a_document_without_text_is_done_in_all_stages_without_a_call(bench: Bench) -> None:
    put(bench, "empty.txt")
    worker = bench.worker()
    answer(bench, worker, take(bench, worker), Outcome.EMPTY)
    assert [bench.item("empty.txt", name)["outcome"] for name in NAMES] == ["empty"] * 4
    assert bench.sql("select stage from outbox order by event_id") == [{"stage": name} for name in NAMES]
    assert bench.sql("select 1 from calls") == []


def test_a_copy_reuses_the_answers_of_all_stages(bench: Bench) -> None:
    put(bench, "a.txt")
    worker = bench.worker()
    for _ in range(3):
        answer(bench, worker, take(bench, worker))
    stat = FileStat("copy.txt", "copy.txt", 5, 1, 1, 1, "/library")
    bench.ledger.run(documents.store, stat, sha("a.txt"), None, RECIPES, LOOKED_AT)
    assert {bench.state("copy.txt", name) for name in NAMES} == {"done"}


def test_an_item_that_does_not_exist_yet_is_reported_as_its_upstreams(bench: Bench) -> None:
    put(bench, "a.txt")
    worker = bench.worker()
    answer(bench, worker, take(bench, worker))
    found = bench.ledger.run(left.unfinished, ["a.txt"], ["payment"])
    assert [(entry.document, entry.stage) for entry in found] == [("a.txt", "translate")]


def test_a_document_that_is_finished_while_a_stage_is_added_gets_its_item(bench: Bench) -> None:
    put(bench, "a.txt")
    worker = bench.worker()
    claim = take(bench, worker)
    with bench.ledger.transaction() as cur:
        text = Finish(claim, claim.items[0], text_result("a.txt"))
        finish.finish(cur, worker, [text], RECIPES, None)
        adding = bench.begun(lambda other: stages.replace(other, StageGraph((*CHAIN, StageNode("date", "read")))))
        if adding.done():
            bench.ledger.run(stages.fill, RECIPES)
    adding.result()
    while bench.ledger.run(stages.fill, RECIPES):
        pass
    assert bench.state("a.txt", "date") == "pending"
