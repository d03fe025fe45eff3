"""Many lanes finish and claim in one transaction."""

import asyncio
from contextlib import ExitStack

import psycopg

from dagster_offload.engine.lanes.commits import GroupCommit
from dagster_offload.errors import SlotForgotten
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.rows import Claim, NewResult
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims, groups
from dagster_offload.ledger.work.finish import Finish
from dagster_offload.ledger.work.groups import Taken, Want
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.ledger import RECIPES, Bench, record_result
from tests.support.stages import DRAIN_STAGES
from tests.support.statements import counted

WANT = Want(DEEP, DRAIN_STAGES)


def commit(bench: Bench, worker: int, *finishes: Finish, wants: int = 0) -> tuple[list[bool], list[Taken | None]]:
    return bench.ledger.run(groups.commit, worker, finishes, [WANT] * wants, RECIPES, "run-1")


def claimed(bench: Bench, worker: int, count: int) -> list[Claim]:
    _, taken = commit(bench, worker, wants=count)
    return [entry[1] for entry in taken if entry is not None and entry[1] is not None]


def answers(claim: Claim) -> list[Finish]:
    return [Finish(claim, item, record_result(f"{item.stage} of {claim.document}")) for item in claim.items]


def test_each_result_of_a_group_is_current_queued_and_recorded_once(bench: Bench) -> None:
    bench.extracted("a", "b", "c")
    bench.sql("delete from outbox")
    worker = bench.worker()
    claims = claimed(bench, worker, 3)
    held, _ = commit(bench, worker, *(finish for claim in claims for finish in answers(claim)))
    assert held == [True] * 6
    assert {bench.state(key, stage) for key in "abc" for stage in DRAIN_STAGES} == {"done"}
    current = bench.sql(
        "select stage, first_document, value from results where slot is not null and superseded_at is null"
    )
    assert len(current) == 6
    assert all(row["value"]["summary"] == f"{row['stage']} of {row['first_document']}" for row in current)
    assert bench.sql("select count(*) as n from calls where outcome = 'ok'")[0]["n"] == 6
    events = bench.sql("select o.run_id, o.reused_from from outbox o join results using (result_id)")
    assert events == [{"run_id": "run-1", "reused_from": None}] * 6
    moved = bench.sql("select count(*) as n from transitions where from_state = 'claimed' and stage <> 'extract'")
    assert moved[0]["n"] == 6


def test_a_lost_claim_does_not_affect_the_others_of_its_group(bench: Bench) -> None:
    bench.extracted("lost", "held")
    dead, worker = bench.worker(), bench.worker()
    [lost] = claimed(bench, dead, 1)
    bench.die(dead)
    late = answers(lost)[0]
    [again, held] = claimed(bench, worker, 2)
    was_held, _ = commit(bench, worker, late, *answers(held))
    assert was_held == [False, True, True]
    assert bench.state("lost", CLASSIFY) == "claimed"
    kept = bench.sql("select value from results where first_document = 'lost' and stage = 'classify'")
    assert [row["value"]["summary"] for row in kept] == ["classify of lost"]
    assert commit(bench, worker, *answers(again))[0] == [True, True]
    current = "select count(*) as n from results where first_document = 'lost' and stage = 'classify' and superseded_at is null"
    assert bench.sql(current)[0]["n"] == 1


def test_a_redo_in_a_group_replaces_the_current_result(bench: Bench) -> None:
    bench.extracted("a", "b")
    worker = bench.worker()
    for claim in claimed(bench, worker, 2):
        commit(bench, worker, *answers(claim))
    bench.sql("update work_items set state = 'pending', is_redo = true where stage = 'summarize'")
    new = [Finish(claim, claim.items[0], record_result(f"new {claim.document}")) for claim in claimed(bench, worker, 2)]
    assert commit(bench, worker, *new)[0] == [True, True]
    rows = bench.sql(
        "select value, superseded_at is null as is_current from results where stage = 'summarize' order by result_id"
    )
    assert [(row["value"]["summary"], row["is_current"]) for row in rows] == [
        ("summarize of a", False),
        ("summarize of b", False),
        ("new a", True),
        ("new b", True),
    ]


def test_lanes_that_claim_together_get_one_document_each_in_order(bench: Bench) -> None:
    bench.extracted(*"abcd")
    bench.sql(
        "update work_items i set priority = 1 from documents d where d.document_id = i.document_id and d.key = 'd'"
    )
    first, second = bench.worker(), bench.worker()
    taken = claimed(bench, first, 3)
    assert [claim.document for claim in taken] == ["d", "a", "b"]
    assert [[item.stage for item in claim.items] for claim in taken] == [[CLASSIFY, SUMMARIZE]] * 3
    assert [claim.text for claim in taken] == ["text of d", "text of a", "text of b"]
    assert len({claim.token for claim in taken}) == 3
    assert [claim.document for claim in claimed(bench, second, 3)] == ["c"]


def test_copies_are_not_given_to_two_lanes_of_one_group(bench: Bench) -> None:
    bench.extracted("a", "copy", texts={"a": "the same", "copy": "the same"})
    worker = bench.worker()
    [first] = claimed(bench, worker, 2)
    commit(bench, worker, *answers(first))
    assert [claim.items for claim in claimed(bench, worker, 1)] == [()]  # done without a call
    assert bench.item("copy", SUMMARIZE)["state"] == "done"


def test_finishes_come_before_claims_in_one_transaction(bench: Bench) -> None:
    bench.extracted("a", "copy", texts={"a": "the same", "copy": "the same"})
    worker = bench.worker()
    [first] = claimed(bench, worker, 1)
    _, [taken] = commit(bench, worker, *answers(first), wants=1)
    assert taken is not None
    _, second = taken
    assert second is not None
    assert (second.document, second.items) == ("copy", ())


def test_finishes_are_stored_even_if_the_slot_of_a_claim_in_the_group_was_forgotten(bench: Bench) -> None:
    bench.extracted("a", "b")
    worker = bench.worker()
    [first] = claimed(bench, worker, 1)
    bench.ledger.run(slots.forget, DEEP)
    held, taken = commit(bench, worker, *answers(first), wants=1)
    assert (held, taken) == ([True, True], [None])
    assert {bench.state("a", stage) for stage in DRAIN_STAGES} == {"done"}


async def test_a_lane_gets_an_error_that_its_slot_was_forgotten_after_its_answer_is_stored(bench: Bench) -> None:
    bench.extracted("a", "b")
    with Worker(bench.ledger, "drain", DRAIN_STAGES) as worker:
        commits = GroupCommit(AsyncLedger(bench.ledger), worker, RECIPES)
        _, claim = await commits.take(WANT)
        assert claim is not None
        bench.ledger.run(slots.forget, DEEP)
        ends = await asyncio.gather(commits.finish(answers(claim)[0]), commits.take(WANT), return_exceptions=True)
    assert ends[0] is True
    assert isinstance(ends[1], SlotForgotten)
    assert "slot deep was forgotten" in str(ends[1])
    assert bench.state("a", CLASSIFY) == "done"


def test_a_group_takes_no_more_statements_than_one_document(bench: Bench) -> None:
    bench.extracted(*(f"{number:02}" for number in range(22)))
    worker = bench.worker()
    [one] = claimed(bench, worker, 1)
    twenty = claimed(bench, worker, 20)
    with counted() as for_one:
        commit(bench, worker, answers(one)[0], wants=1)
    with counted() as for_twenty:
        commit(bench, worker, *(answers(claim)[0] for claim in twenty))
    assert len(for_twenty) < len(for_one) <= 16


async def test_a_row_that_postgres_rejects_fails_only_its_own_lane(bench: Bench) -> None:
    bench.extracted("bad", "good")
    with Worker(bench.ledger, "drain", DRAIN_STAGES) as worker:
        commits = GroupCommit(AsyncLedger(bench.ledger), worker, RECIPES)
        (_, bad), (_, good) = await asyncio.gather(commits.take(WANT), commits.take(WANT))
        assert bad is not None
        assert good is not None
        refused = NewResult(
            record_result("x").outcome, "digest", value={"summary": "\0"}, calls=record_result("x").calls
        )
        ends = await asyncio.gather(
            commits.finish(Finish(bad, bad.items[0], refused)),
            commits.finish(answers(good)[0]),
            return_exceptions=True,
        )
    assert isinstance(ends[0], psycopg.DataError)
    assert ends[1] is True


async def test_answers_of_one_moment_share_a_transaction(bench: Bench) -> None:
    keys = [f"{number:02}" for number in range(8)]
    bench.extracted(*keys)
    with Worker(bench.ledger, "drain", DRAIN_STAGES) as worker:
        commits = GroupCommit(AsyncLedger(bench.ledger), worker, RECIPES)
        taken = await asyncio.gather(*(commits.take(WANT) for _ in keys))
        claims = [claim for _, claim in taken if claim is not None]
        assert all(await asyncio.gather(*(commits.finish(answers(claim)[0]) for claim in claims)))
    by_transaction = "select count(*) as n, count(distinct xmin::text) as groups from results where stage = 'classify'"
    assert bench.sql(by_transaction) == [{"n": 8, "groups": 1}]


async def test_a_deferred_document_can_be_claimed_by_another_lane_before_the_first_continues(bench: Bench) -> None:
    bench.extracted("refused")
    followed: list[str] = []
    with Worker(bench.ledger, "drain", DRAIN_STAGES) as worker, ExitStack() as first_lane, ExitStack() as second_lane:
        commits = GroupCommit(AsyncLedger(bench.ledger), worker, RECIPES)
        _, first = await commits.take(WANT)
        assert first is not None
        first_lane.enter_context(commits.followed_by(first, lambda: followed.append("first")))
        bench.ledger.run(claims.release, worker.id, first, "refused")
        _, second = await commits.take(WANT)
        assert second is not None
        assert second.items[-1].item_id == first.items[-1].item_id
        second_lane.enter_context(commits.followed_by(second, lambda: followed.append("second")))
        first_lane.close()
        for finish in answers(second):
            assert followed == []
            assert await commits.finish(finish)
    assert followed == ["second"]
