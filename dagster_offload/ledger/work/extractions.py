"""Extractions in groups: many documents claimed and finished in one transaction, in a handful of statements however many.

Claims are those of `claims.take`, fences and outcomes those of `results.finish`. What is out of the ordinary (a claim
that was lost, a result that stands already, a text that is very long) is finished by `results.finish` itself, in
the same transaction; items that were there before a text was are `results.create_downstream`'s.

The statements are planned each time they are run: plans that were kept while the tables were empty read all of them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import Claim, ClaimedItem
from dagster_offload.ledger.core.workers import lock_alive
from dagster_offload.ledger.work.finish import complete_by_reuse, create_downstream, finish, lock_keys
from dagster_offload.ledger.work.groups import Finish
from dagster_offload.stages.graph import EXTRACT, UPSTREAM, Outcome

# Characters; a statement holds the texts of a whole group, and Postgres takes no more than 1 GB.
LONG_TEXT = 1_000_000

_DOWNSTREAM = tuple(stage for stage, upstream in UPSTREAM.items() if upstream == EXTRACT)


def take(
    cur: Cursor,
    worker_id: int,
    recipes: Mapping[str, str],
    documents: Sequence[str] | None = None,
    *,
    count: int,
    alone: bool = False,
    run_id: str | None = None,
) -> list[Claim]:
    """Claim up to `count` documents whose extraction is due; [] where there is none. None is claimed that is not returned.

    A claim without items is done already: the same bytes were extracted before.
    """
    if not lock_alive(cur, worker_id):
        return []
    parameters = {
        "documents": None if documents is None else list(documents),
        "alone": alone,
        "count": count,
        "worker": worker_id,
        "recipe": recipes[EXTRACT],
    }
    while locked := _lock_documents(cur, parameters):
        # Two documents with the same bytes must not be claimed at the same instant: both would be extracted.
        firsts = {row["input_digest"]: row["item_id"] for row in reversed(locked) if row["is_ours"]}
        items = {*firsts.values(), *(row["item_id"] for row in locked if row["is_answered"])}
        taken = _claim_items(cur, parameters | {"items": sorted(items)})
        if taken:
            return [
                _as_claim(cur, row, taken[row["item_id"]], recipes, alone, run_id)
                for row in locked
                if row["item_id"] in taken
            ]
        # Somebody took them between look and lock.
    return []


_MAY_BE_CLAIMED = """
    i.stage = 'extract' and i.state = 'pending' and i.must_run_alone = %(alone)s and i.input_digest is not null
    and (i.not_before is null or i.not_before <= clock_timestamp())
    and not exists (select from work_items o where o.document_id = i.document_id and o.state = 'claimed')
    and not exists (select from work_items o
        where o.state = 'claimed' and o.stage = 'extract' and o.input_digest = i.input_digest)
"""


def _lock_documents(cur: Cursor, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Documents with an extraction to claim, locked with its input, in the order of their turn."""
    scope = "and i.document_id = any(array(select document_id from documents where key = any(%(documents)s)))"
    cur.execute(
        f"""
        with locked as materialized (
            select i.item_id, i.document_id, d.key, i.input_digest, i.is_redo
            from work_items i join documents d using (document_id)
            where {_MAY_BE_CLAIMED} and d.is_present {"" if parameters["documents"] is None else scope}
            order by i.priority desc, i.document_id limit %(count)s for update of d skip locked
        )
        select item_id, document_id, key, input_digest,
            pg_try_advisory_xact_lock(hashtext('input extract'), hashtext(input_digest)) as is_ours,
            not is_redo and exists (select from results r where r.stage = 'extract' and r.recipe = %(recipe)s
                and r.input_digest = locked.input_digest and r.superseded_at is null) as is_answered
        from locked
        """,
        parameters,
        prepare=False,
    )
    return cur.fetchall()


def _claim_items(cur: Cursor, parameters: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Claim the items as they are now, under the locks; by item."""
    cur.execute(
        f"""
        with due as (
            select i.item_id from work_items i
            where i.item_id = any(%(items)s::bigint[]) and {_MAY_BE_CLAIMED} order by i.item_id for update
        ), taken as (
            update work_items w set state = 'claimed', worker_id = %(worker)s, token = nextval('claim_tokens'),
                recipe = %(recipe)s, claimed_at = clock_timestamp(), claimed_alone = %(alone)s, not_before = null,
                changed_at = clock_timestamp()
            from due where w.item_id = any(%(items)s::bigint[]) and w.item_id = due.item_id
            returning w.item_id, w.document_id, w.token, w.input_digest, w.attempts, w.deferrals, w.is_redo
        ), found as (
            select *, not is_redo and exists (select from results r where r.stage = 'extract'
                and r.recipe = %(recipe)s and r.input_digest = taken.input_digest and r.superseded_at is null)
                as is_answered from taken
        ), recorded as (
            insert into transitions (document_id, stage, from_state, to_state, worker_id)
            select document_id, 'extract', 'pending', 'claimed', %(worker)s from found where not is_answered
        )
        select * from found
        """,
        parameters,
        prepare=False,
    )
    return {row["item_id"]: row for row in cur.fetchall()}


def _as_claim(
    cur: Cursor,
    locked: Mapping[str, Any],
    taken: Mapping[str, Any],
    recipes: Mapping[str, str],
    alone: bool,
    run_id: str | None,
) -> Claim:
    is_done = taken["is_answered"] and complete_by_reuse(cur, taken["item_id"], recipes, run_id)
    item = ClaimedItem(
        item_id=taken["item_id"],
        stage=EXTRACT,
        input_digest=taken["input_digest"],
        recipe=recipes[EXTRACT],
        attempts=taken["attempts"],
        deferrals=taken["deferrals"],
    )
    return Claim(
        token=taken["token"],
        document_id=taken["document_id"],
        document=locked["key"],
        is_alone=alone,
        text=None,
        items=() if is_done else (item,),
    )


def finish_all(
    cur: Cursor, worker_id: int, finishes: Sequence[Finish], recipes: Mapping[str, str], run_id: str | None
) -> list[bool]:
    """Record the texts and all that follows from them; for each, whether its claim still held the work item."""
    if not finishes:
        return []
    by_key = {entry.key: entry for entry in finishes if len(entry.result.text or "") <= LONG_TEXT}
    held = _lock_held(cur, list(by_key.values()))
    lock_keys(cur, [entry.key for entry in finishes])
    ordinary = [entry for entry in by_key.values() if entry.item.item_id in held]
    done = _write(cur, worker_id, ordinary, run_id) if ordinary else set()
    if done:
        _create_downstream(cur, [entry for entry in ordinary if entry.item.item_id in done], recipes, run_id)
    return [
        (entry.item.item_id in done and by_key.get(entry.key) is entry)
        or finish(cur, worker_id, entry.claim, entry.item, entry.result, recipes, run_id)
        for entry in finishes
    ]


def _lock_held(cur: Cursor, finishes: Sequence[Finish]) -> set[int]:
    """The items still held by these claims for the same input and recipe; locked."""
    cur.execute(
        "select w.item_id from work_items w "
        "join unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]) as f(item_id, token, input_digest, recipe) "
        "  using (item_id) where w.item_id = any(%s) and w.state = 'claimed' and w.token = f.token "
        "  and w.input_digest = f.input_digest and w.recipe = f.recipe "
        "order by w.item_id for update of w",
        [
            ids := [entry.item.item_id for entry in finishes],
            [entry.claim.token for entry in finishes],
            [entry.item.input_digest for entry in finishes],
            [entry.item.recipe for entry in finishes],
            ids,
        ],
        prepare=False,
    )
    return {row["item_id"] for row in cur.fetchall()}


def _write(cur: Cursor, worker_id: int, finishes: Sequence[Finish], run_id: str | None) -> set[int]:
    """Result, state, transition and event of each; returns the items done: those whose key had no result yet."""
    cur.execute(
        """
        with f as materialized (
            select * from json_to_recordset(%(rows)s::json) as f (item_id bigint, document text, input_digest text,
                recipe text, outcome text, text text, value jsonb, output_digest text, seconds double precision)
        ), stored as (
            insert into results
                (stage, input_digest, recipe, outcome, text, value, output_digest, seconds, first_document)
            select 'extract', input_digest, recipe, outcome, text, value, output_digest, seconds, document from f
            on conflict (stage, input_digest, recipe) where superseded_at is null do nothing
            returning result_id, input_digest, recipe
        ), done as (
            update work_items w set state = 'done', outcome = f.outcome, result_id = stored.result_id, reason = null,
                not_before = null, worker_id = null, token = null, claimed_at = null, must_run_alone = false,
                is_redo = false, changed_at = clock_timestamp()
            from f join stored using (input_digest, recipe)
            where w.item_id = any(%(items)s::bigint[]) and w.item_id = f.item_id
            returning w.item_id, w.document_id, w.result_id, w.attempts, w.deferrals
        ), moved as (
            insert into transitions (document_id, stage, from_state, to_state, worker_id)
            select document_id, 'extract', 'claimed', 'done', %(worker)s from done order by item_id
        ), queued as (
            insert into outbox (result_id, document_id, stage, run_id, attempts, deferrals)
            select result_id, document_id, 'extract', %(run)s, attempts, deferrals from done order by item_id
        )
        select item_id from done
        """,
        {
            "items": [entry.item.item_id for entry in finishes],
            "rows": json.dumps([_as_row(entry) for entry in finishes], ensure_ascii=False),
            "worker": worker_id,
            "run": run_id,
        },
        prepare=False,
    )
    return {row["item_id"] for row in cur.fetchall()}


def _as_row(entry: Finish) -> dict[str, Any]:
    return {
        "item_id": entry.item.item_id,
        "document": entry.claim.document,
        "input_digest": entry.item.input_digest,
        "recipe": entry.item.recipe,
        "outcome": entry.result.outcome,
        "text": entry.result.text,
        "value": entry.result.value,
        "output_digest": entry.result.output_digest,
        "seconds": entry.result.seconds,
    }


def _create_downstream(cur: Cursor, done: Sequence[Finish], recipes: Mapping[str, str], run_id: str | None) -> None:
    """The items that these extractions make possible: pending, or done at once where no call is needed."""
    cur.execute(
        """
        with created as (
            insert into work_items (document_id, stage, input_digest, priority)
            select document_id, stage, f.output_digest, d.priority
            from unnest(%(documents)s::bigint[], %(outputs)s::text[]) as f (document_id, output_digest)
            join documents d using (document_id) cross join unnest(%(stages)s::text[]) as stage
            where document_id = any(%(documents)s::bigint[]) order by document_id, stage
            on conflict (document_id, stage) do nothing
            returning item_id, document_id, stage
        ), announced as (
            insert into transitions (document_id, stage, to_state, reason)
            select document_id, stage, 'pending', 'extract is done' from created order by item_id
        )
        select document_id, array_agg(item_id) as items from created group by document_id
        """,
        {
            "documents": [entry.claim.document_id for entry in done],
            "outputs": [entry.result.output_digest for entry in done],
            "stages": list(_DOWNSTREAM),
        },
        prepare=False,
    )
    created: dict[int, list[int]] = {row["document_id"]: row["items"] for row in cur.fetchall()}
    for entry in done:
        if len(created.get(entry.claim.document_id, ())) < len(_DOWNSTREAM):
            create_downstream(cur, entry.claim.document_id, recipes, run_id)
    items = [item for of_document in created.values() for item in of_document]
    if items:
        _store_without_call(cur, [entry for entry in done if entry.result.outcome is not Outcome.OK], recipes)
        _complete_by_reuse(cur, items, recipes, run_id)


def _store_without_call(cur: Cursor, done: Sequence[Finish], recipes: Mapping[str, str]) -> None:
    """What there is to say of documents without a text, stage by stage."""
    if done:
        cur.execute(
            "insert into results (stage, input_digest, recipe, outcome, output_digest, first_document) "
            "select stage, f.output_digest, recipe, f.outcome, f.output_digest, f.document "
            "from unnest(%s::text[], %s::text[], %s::text[]) as f (output_digest, outcome, document) "
            "cross join unnest(%s::text[], %s::text[]) as of_stage (stage, recipe) order by f.output_digest, stage "
            "on conflict (stage, input_digest, recipe) where superseded_at is null do nothing",
            [
                [entry.result.output_digest for entry in done],
                [entry.result.outcome for entry in done],
                [entry.claim.document for entry in done],
                list(_DOWNSTREAM),
                [recipes[stage] for stage in _DOWNSTREAM],
            ],
            prepare=False,
        )


def _complete_by_reuse(cur: Cursor, items: Sequence[int], recipes: Mapping[str, str], run_id: str | None) -> None:
    """`results.complete_by_reuse` for pending items of later stages: done at once where their question is answered."""
    cur.execute(
        """
        with answered as materialized (
            select w.item_id, found.*, nullif(found.first_document, d.key) as reused_from
            from work_items w join documents d using (document_id)
            join unnest(%(stages)s::text[], %(recipes)s::text[]) as now (stage, recipe) using (stage)
            cross join lateral (
                select r.result_id, r.outcome, r.recipe, r.first_document from results r
                where r.stage = w.stage and r.input_digest = w.input_digest and r.recipe = now.recipe
                    and r.superseded_at is null limit 1
            ) found
            where w.item_id = any(%(items)s::bigint[])
        ), done as (
            update work_items w set state = 'done', outcome = a.outcome, result_id = a.result_id, recipe = a.recipe,
                changed_at = clock_timestamp()
            from answered a where w.item_id = any(%(items)s::bigint[]) and w.item_id = a.item_id
            returning w.item_id, w.document_id, w.stage, w.attempts, w.deferrals, w.result_id, a.reused_from
        ), moved as (
            insert into transitions (document_id, stage, from_state, to_state, reason)
            select document_id, stage, 'pending', 'done', 'reused from ' || reused_from from done order by item_id
        )
        insert into outbox (result_id, document_id, stage, run_id, reused_from, attempts, deferrals)
        select result_id, document_id, stage, %(run)s, reused_from, attempts, deferrals from done order by item_id
        """,
        {
            "items": list(items),
            "stages": list(_DOWNSTREAM),
            "recipes": [recipes[stage] for stage in _DOWNSTREAM],
            "run": run_id,
        },
        prepare=False,
    )
