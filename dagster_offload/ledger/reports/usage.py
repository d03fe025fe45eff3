"""What a worker's calls cost in tokens, and whether the server read each document once."""

from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor, fetch_one

# Of a second stage's prompt, this much at least comes out of the server's cache where it still holds the document.
EXPECTED_REUSE = 0.5
# In shorter prompts the instruction, which differs from stage to stage, is too large a part to tell.
PROMPT_TOKENS_TO_JUDGE = 1000

_CALLS = (
    "calls c join workers w on w.worker_id = c.worker_id where w.worker_id = %(worker)s "
    "and c.ended_at >= w.started_at and c.item_id is not null"
)


@dataclass(frozen=True)
class TokenUse:
    """Tokens as the server counted them. `cached` is None where it never says what it took out of its cache."""

    calls: int = 0
    read: int = 0  # of prompts, what was not in the cache
    cached: int | None = None  # of prompts, what was
    written: int = 0


def of_worker(cur: Cursor, worker_id: int) -> TokenUse:
    """The sums of one worker's calls for documents; trials are not among them."""
    row = fetch_one(
        cur,
        "select count(*) as calls, coalesce(sum(c.tokens_in - coalesce(c.tokens_cached, 0)), 0)::bigint as read, "
        f"  sum(c.tokens_cached)::bigint as cached, coalesce(sum(c.tokens_out), 0)::bigint as written from {_CALLS}",
        {"worker": worker_id},
    )
    return TokenUse(**row)


def of_last_drain(cur: Cursor) -> TokenUse | None:
    row = cur.execute("select max(worker_id) as worker_id from workers where kind = 'drain'").fetchone()
    return None if row is None or row["worker_id"] is None else of_worker(cur, row["worker_id"])


def second_stage_reuse(cur: Cursor, worker_id: int) -> float | None:
    """Of the prompts of documents' later stages, the part the server had in its cache; None where it does not say.

    Documents asked about in parts, or asked twice for one stage, tell nothing and are left out.
    """
    row = fetch_one(
        cur,
        "with asked as ("
        "  select c.document_id, c.stage, count(*) as n, min(c.call_id) as first, sum(c.tokens_in) as tokens_in, "
        f"    sum(c.tokens_cached) as tokens_cached from {_CALLS} and c.outcome = 'ok' and c.tokens_cached is not null "
        "  group by 1, 2), "
        "turns as (select *, row_number() over (partition by document_id order by first) as turn, "
        "  max(n) over (partition by document_id) as most from asked) "
        "select (sum(tokens_cached) / nullif(sum(tokens_in), 0))::double precision as reuse from turns "
        "where turn > 1 and most = 1 and tokens_in >= %(least)s",
        {"worker": worker_id, "least": PROMPT_TOKENS_TO_JUDGE},
    )
    reuse: float | None = row["reuse"]
    return reuse


def warning_of(reuse: float | None, slot: str) -> str | None:
    """One line for people where a server reads documents twice; None where it does not, or nobody knows."""
    if reuse is None or reuse >= EXPECTED_REUSE:
        return None
    return (
        f"the {slot} slot read most of each document again for its second stage ({reuse:.0%} of the prompt came out of its "
        f"cache): let its server keep more prompts (llama.cpp --parallel, mlx --prompt-cache-size), or have fewer documents "
        f"in flight: dagster-offload slot set {slot} --prompt-cache-size P; dagster-offload doctor shows how many it keeps"
    )
