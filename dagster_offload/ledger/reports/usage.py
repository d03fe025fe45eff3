"""How many tokens a worker's calls used, and whether the server read each document only once."""

from collections.abc import Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core import next_steps
from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import IS_ANSWERED

# If the server still caches the document, at least this part of a second stage's prompt comes from the cache.
EXPECTED_REUSE = 0.5
# Shorter prompts show nothing: the instruction, which differs between stages, is too large a part of them.
LEAST_PROMPT_TOKENS = 1000

_CALLS = (
    "calls c join workers w on w.worker_id = c.worker_id where w.worker_id = %(worker)s "
    "and c.ended_at >= w.started_at and c.item_id is not null"
)


@dataclass(frozen=True)
class TokenUse:
    """Tokens as the server counted them. `cached` is None if the server never reports cached tokens.

    The tokens of `not_counted` calls are not known: the server answered them and counted none.
    """

    calls: int = 0
    read: int = 0  # prompt tokens that were not in the cache
    cached: int | None = None  # prompt tokens from the cache
    written: int = 0  # completion tokens
    not_counted: int = 0


def of_worker(cur: Cursor, worker_id: int) -> TokenUse:
    """The sums over one worker's calls for documents, without trials."""
    row = fetch_one(
        cur,
        "select count(*) as calls, coalesce(sum(c.tokens_in - coalesce(c.tokens_cached, 0)), 0)::bigint as read, "
        f"  sum(c.tokens_cached)::bigint as cached, coalesce(sum(c.tokens_out), 0)::bigint as written, "
        f"  count(*) filter (where {IS_ANSWERED} and c.tokens_in is null and c.tokens_out is null) as not_counted from {_CALLS}",
        {"worker": worker_id},
    )
    return TokenUse(**row)


def documents_answered_in_part(cur: Cursor, worker_id: int, stages: Sequence[str]) -> int:
    """How many documents have an answer of this worker for a stage, and are not done in `stages`."""
    row = fetch_one(
        cur,
        f"select count(distinct c.document_id) as n from {_CALLS} and exists (select from transitions t "
        "where t.document_id = c.document_id and t.worker_id = %(worker)s and t.to_state = 'done') "
        "and exists (select from work_items i where i.document_id = c.document_id and i.stage = any(%(stages)s) "
        "and i.state in ('pending', 'claimed', 'deferred', 'failed', 'quarantined'))",
        {"worker": worker_id, "stages": list(stages)},
    )
    return int(row["n"])


def of_last_drain(cur: Cursor) -> TokenUse | None:
    """The same for the latest drain; None if there was none."""
    row = cur.execute("select max(worker_id) as worker_id from workers where kind = 'drain'").fetchone()
    return None if row is None or row["worker_id"] is None else of_worker(cur, row["worker_id"])


def second_stage_reuse(cur: Cursor, worker_id: int, slot: str) -> float | None:
    """Which part (0 to 1) of the prompts of documents' later stages came from the cache of a slot's server; None if not
    reported.

    Leaves out documents that were read in parts or had two calls for one stage: they show nothing.
    """
    row = fetch_one(
        cur,
        "with asked as ("
        "  select c.document_id, c.stage, count(*) as n, min(c.call_id) as first, sum(c.tokens_in) as tokens_in, "
        f"    sum(c.tokens_cached) as tokens_cached from {_CALLS} and c.slot = %(slot)s and c.outcome = 'ok' "
        "    and c.tokens_cached is not null "
        "  group by 1, 2), "
        "turns as (select *, row_number() over (partition by document_id order by first) as turn, "
        "  max(n) over (partition by document_id) as most from asked) "
        "select (sum(tokens_cached) / nullif(sum(tokens_in), 0))::double precision as reuse from turns "
        "where turn > 1 and most = 1 and tokens_in >= %(least)s",
        {"worker": worker_id, "slot": slot, "least": LEAST_PROMPT_TOKENS},
    )
    reuse: float | None = row["reuse"]
    return reuse


def warning_of(reuse: float | None, slot: str, schema: str) -> str | None:
    """A warning line if a server reads documents twice; None if it does not, or if that is not known."""
    if reuse is None or reuse >= EXPECTED_REUSE:
        return None
    return (
        f"the {slot} slot read most of each document again for its second stage (only {reuse:.0%} of the prompt came from "
        f"its cache): make its server cache more prompts (llama.cpp --parallel, mlx --prompt-cache-size), or process fewer "
        f"documents at once: {next_steps.fewer_at_once(schema, slot)}"
    )
