"""The promises that hold after every round, in plain SQL. Each query finds rows only if its promise is broken."""

import time

from tests.chaos.world import PERMITS, BrokenPromise, World

ALWAYS = {
    "per stage, the states add up to the documents present whose upstream is done": """
        select * from (
            select (select count(*) from documents where is_present) as present,
                count(*) filter (where stage = 'extract') as extract,
                count(*) filter (where stage = 'extract' and state = 'done') as extracted,
                count(*) filter (where stage = 'classify') as classify,
                count(*) filter (where stage = 'summarize') as summarize
            from work_items where state in ('pending', 'claimed', 'deferred', 'done', 'failed', 'quarantined')) n
        where extract <> present or classify <> extracted or summarize <> extracted""",
    "one current result per (stage, input digest, recipe)": """
        select stage, input_digest, recipe, count(*) filter (where superseded_at is null) as current from results
        group by 1, 2, 3 having count(*) filter (where superseded_at is null) <> 1""",
    "a done item has the result of its own input": """
        select i.item_id, i.stage, i.result_id from work_items i left join results r on r.result_id = i.result_id
            and r.stage = i.stage and r.input_digest = i.input_digest
        where i.state = 'done' and r.result_id is null""",
    "a done item has an event": """
        select i.item_id, i.stage, i.result_id from work_items i where i.state = 'done' and not exists (
            select 1 from outbox o where o.document_id = i.document_id and o.stage = i.stage
            and o.result_id = i.result_id)""",
    "the last transition led to the present state": """
        select i.item_id, i.stage, i.state, t.to_state from work_items i join lateral (
            select to_state from transitions t where t.document_id = i.document_id and t.stage = i.stage
            order by transition_id desc limit 1) t on true where t.to_state <> i.state""",
    "no claim of a worker that has ended": """
        select i.item_id, i.stage, i.worker_id from work_items i left join workers w using (worker_id)
        where i.state = 'claimed' and (w.worker_id is null or w.ended_at is not null)""",
    "no permit of a worker that has ended": """
        select p.* from permits p join workers w using (worker_id) where w.ended_at is not null""",
    "no worker that has ended waits for a permit or runs a trial": """
        select w.worker_id from workers w where w.ended_at is not null and (
            exists (select 1 from permit_waiters p where p.worker_id = w.worker_id)
            or exists (select 1 from slots s where s.trial_worker = w.worker_id))""",
    "never more permits than the slot has": """
        select s.name, s.permits, count(*) as held from permits p join slots s on s.name = p.slot
        group by 1, 2 having count(*) > s.permits""",
    "every event marked as reported is in Dagster": """
        select o.event_id, o.result_id, o.stage, d.key from outbox o join documents d using (document_id)
        where o.told_at is not null and o.result_id is not null and not exists (
            select 1 from reported t where t.result = o.result_id::text and t.partition = d.key and t.stage = o.stage)""",
    "no partition is materialized without a result": """
        select t.* from reported t where not exists (
            select 1 from results r join outbox o using (result_id) join documents d using (document_id)
            where r.result_id::text = t.result and d.key = t.partition and o.stage = t.stage)""",
}

# From Dagster's own table: the materializations of each partition, with the id of the result. The asset `records` has none.
REPORTED = """
    with reported as materialized (
        select e.id, e.partition, case e.asset_key when '["extracted_text"]' then 'extract'
            when '["classification"]' then 'classify' else 'summarize' end as stage,
            e.event::jsonb #>> '{dagster_event,event_specific_data,materialization,tags,dagster_offload/result}' as result
        from offload_dagster.event_logs e where e.dagster_event_type = 'ASSET_MATERIALIZATION'
            and e.asset_key <> '["records"]')
"""

AFTER_ALL_HAVE_ENDED = {
    "no transaction is open": """
        select pid, application_name, state, xact_start from pg_stat_activity
        where backend_type = 'client backend' and xact_start is not null and pid <> pg_backend_pid()""",
    "every event was reported": "select event_id, result_id, stage from outbox where told_at is null",
}

AFTER_THE_DEAD_ARE_RECLAIMED = {
    "no claim is left": "select item_id, stage, worker_id from work_items where state = 'claimed'",
    "no permit is left": "select * from permits",
    "no worker waits for a permit": "select * from permit_waiters",
    "no trial is marked as running": "select name, trial_worker from slots where trial_worker is not null",
    "no worker is left": "select worker_id, kind, pid, heartbeat_at from workers where ended_at is null",
}

AT_THE_END = {
    "everything is done": """
        select d.key, i.stage, i.state, i.reason from work_items i join documents d using (document_id)
        where d.is_present and i.state <> 'done'""",
    "every document has all its stages": """
        select d.key from documents d where d.is_present and 3 <> (
            select count(*) from work_items i where i.document_id = d.document_id)""",
    "nothing failed or was quarantined because of a kill": """
        select stage, to_state, reason, at from transitions where to_state in ('failed', 'quarantined')""",
}


def check(world: World, promises: dict[str, str]) -> None:
    """Raise `BrokenPromise` with the rows that break a promise. Connections of ended processes get a minute to close."""
    for promise, query in promises.items():
        deadline = time.monotonic() + 60
        while rows := world.sql(REPORTED + query if " reported " in query else query):
            if promises is not AFTER_ALL_HAVE_ENDED or time.monotonic() > deadline:
                raise BrokenPromise(promise, rows)
            time.sleep(0.1)


def check_calls(world: World) -> tuple[int, int]:
    """All answers of the slot, and how many were repeats. Raises `BrokenPromise` if the kills do not explain the repeats."""
    answered = world.slot.answered()
    repeats = {pair: count - 1 for pair, count in answered.items() if count > 1}
    at_most = sum(kill.workers for kill in world.kills) * PERMITS
    if sum(repeats.values()) > at_most:
        rows = [{"document": document, "stage": stage, "repeats": n} for (document, stage), n in repeats.items()]
        raise BrokenPromise(f"at most {at_most} calls are made a second time", rows)
    return sum(answered.values()), sum(repeats.values())
