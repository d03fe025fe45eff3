"""Fill a ledger of any size with SQL in seconds, with the rows that scans and drains would have written."""

from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE

SENTENCE = "The tenant shall pay the rent on the first day of every month to the landlord. "


def add_extracted(
    ledger: Ledger, settings: Settings, count: int, *, characters: int = 1_500, name: str = "due"
) -> None:
    """Add `count` documents with different extracted texts; both LLM stages are pending."""
    ledger.run(_add, settings, count, characters, name, is_done=False)


def add_done(ledger: Ledger, settings: Settings, count: int, *, characters: int = 0, name: str = "done") -> None:
    """Add `count` finished documents: texts of a few words or of `characters`, a classification, a summary."""
    ledger.run(_add, settings, count, characters, name, is_done=True)


def add_history(ledger: Ledger) -> None:
    """Add what scans and drains leave behind for each work item that is done: changes of state, a call, a reported event."""
    ledger.run(_add_history)


def analyze(ledger: Ledger) -> None:
    """Do what autovacuum would do a minute after so many new rows."""
    with ledger.connect() as connection:
        connection.execute("vacuum analyze")


def _add(cur: Cursor, settings: Settings, count: int, characters: int, name: str, *, is_done: bool) -> None:
    known = recipes(settings)
    given = {
        "count": count,
        "name": name,
        "text": (SENTENCE * (characters // len(SENTENCE) + 1))[:characters],
        "extract": known["extract"],
        "classify": known[CLASSIFY],
        "summarize": known[SUMMARIZE],
    }
    cur.execute(
        "insert into documents (key, digest, size, mtime_ns, ctime_ns, inode, digested_at) "
        "select %(name)s || '/' || n / 1000 || '/' || n || '.txt', encode(sha256((%(name)s || n)::bytea), 'hex'), "
        "  1500, 1, 1, n, clock_timestamp() from generate_series(1, %(count)s) n",
        given,
    )
    cur.execute(
        "insert into results (stage, input_digest, recipe, outcome, text, value, output_digest, first_document) "
        "select 'extract', d.digest, %(extract)s, 'ok', d.key || E'\\n' || %(text)s, '{\"mime\": \"text/plain\"}', "
        "  encode(sha256(('text' || d.key)::bytea), 'hex'), d.key from documents d where d.key like %(name)s || '/%%'",
        given,
    )
    cur.execute(
        "insert into work_items (document_id, stage, state, input_digest, recipe, outcome, result_id) "
        "select d.document_id, 'extract', 'done', d.digest, %(extract)s, 'ok', r.result_id "
        "from documents d join results r on r.stage = 'extract' and r.input_digest = d.digest "
        "where d.key like %(name)s || '/%%' order by d.document_id",
        given,
    )
    (_finish if is_done else _start)(cur, given)


# The LLM stages `s` of each document `d` with its text `r`.
_LLM_STAGES = (
    "from documents d join results r on r.stage = 'extract' and r.input_digest = d.digest cross join "
    "unnest(array['classify', 'summarize'], array[%(classify)s, %(summarize)s]) with ordinality as s (stage, recipe, number)"
)
_NAMED = "where d.key like %(name)s || '/%%' order by d.document_id, s.number"


def _start(cur: Cursor, given: dict[str, object]) -> None:
    cur.execute(
        "insert into work_items (document_id, stage, state, input_digest) "
        f"select d.document_id, s.stage, 'pending', r.output_digest {_LLM_STAGES} {_NAMED}",
        given,
    )


def _finish(cur: Cursor, given: dict[str, object]) -> None:
    cur.execute(
        "insert into results (stage, input_digest, recipe, outcome, value, output_digest, slot, served_model, "
        "  model_evidence, tokens_in, tokens_out, tokens_cached, seconds, first_document) "
        "select s.stage, r.output_digest, s.recipe, 'ok', "
        '  \'{"category": "contract", "summary": "A lease.", "title": "Lease"}\', r.output_digest, \'deep\', '
        f"  'simulated/extractive-8bit', 'reported', 500, 60, 400, 2.0, d.key {_LLM_STAGES} {_NAMED}",
        given,
    )
    cur.execute(
        "insert into work_items (document_id, stage, state, input_digest, recipe, outcome, result_id) "
        f"select d.document_id, s.stage, 'done', r.output_digest, s.recipe, 'ok', a.result_id {_LLM_STAGES} "
        f"join results a on a.stage = s.stage and a.input_digest = r.output_digest {_NAMED}",
        given,
    )


def _add_history(cur: Cursor) -> None:
    cur.execute(
        "insert into transitions (document_id, stage, from_state, to_state, worker_id, reason) "
        "select document_id, stage, change.before, change.after, 1, change.reason from work_items, (values "
        "  (null, 'pending', 'new content'), ('pending', 'claimed', null), ('claimed', 'done', null)) "
        "  as change (before, after, reason) where state = 'done'"
    )
    cur.execute(
        "insert into calls (item_id, document_id, stage, worker_id, slot, epoch, asked_model, served_model, model_evidence, "
        "  tokens_in, tokens_out, tokens_cached, seconds, outcome) select i.item_id, i.document_id, i.stage, 1, 'deep', 1, "
        "  'qwen-macbook', r.served_model, r.model_evidence, 500, 60, 400, 2.0, 'ok' "
        "from work_items i join results r using (result_id) where r.slot is not null"
    )
    cur.execute(
        "insert into outbox (result_id, document_id, stage, run_id, told_at) "
        "select result_id, document_id, stage, gen_random_uuid()::text, clock_timestamp() from work_items where state = 'done'"
    )
