"""What a stage reads: the extracted texts of documents, or the records of another stage."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.stages.graph import StageNode

_INPUTS = (
    # The stage itself may be a draft, which the ledger does not have.
    "select d.document_id, d.key, r.text, case when u.upstream is not null then r.value end as record "
    "from documents d join stages u on u.name = %(upstream)s "
    "join work_items i on i.document_id = d.document_id and i.stage = u.name join results r using (result_id) "
    "where d.is_present and i.state = 'done' and i.outcome = 'ok'"
)


def ids_with_text(cur: Cursor) -> list[int]:
    """The ids of the documents present that have a text, oldest first."""
    cur.execute(
        "select d.document_id from documents d join work_items i using (document_id) "
        "where d.is_present and i.stage = (select first_stage()) and i.state = 'done' and i.outcome = 'ok' "
        "order by d.document_id"
    )
    return [row["document_id"] for row in cur.fetchall()]


def texts_of(cur: Cursor, keys: Sequence[str]) -> dict[str, str]:
    """The texts of these documents, by key, without those that have none."""
    cur.execute(
        "select d.key, r.text from documents d join work_items i using (document_id) join results r using (result_id) "
        "where d.is_present and i.stage = (select first_stage()) and i.state = 'done' and i.outcome = 'ok' "
        "and d.key = any(%s)",
        [list(keys)],
    )
    return {row["key"]: row["text"] for row in cur.fetchall()}


def inputs_asked(cur: Cursor, stage: StageNode, ids: Sequence[int]) -> list[tuple[str, str]]:
    """The keys and inputs of those of these documents that the stage is asked about, in this order: its condition is met."""
    condition = None if stage.condition is None else Jsonb(dict(stage.condition))
    cur.execute(
        f"{_INPUTS} and d.document_id = any(%(ids)s) and is_met(%(condition)s, d.document_id)",
        {"upstream": stage.upstream, "ids": list(ids), "condition": condition},
    )
    found = {row["document_id"]: (row["key"], _input(row)) for row in cur.fetchall()}
    return [found[each] for each in ids if each in found]


def inputs_of(cur: Cursor, stage: StageNode, keys: Sequence[str]) -> dict[str, str]:
    """The stage's input for each of these documents, by key, without those that have none."""
    cur.execute(f"{_INPUTS} and d.key = any(%(keys)s)", {"upstream": stage.upstream, "keys": list(keys)})
    return {row["key"]: _input(row) for row in cur.fetchall()}


def conditions_met(cur: Cursor, condition: Mapping[str, Any] | None, keys: Sequence[str]) -> dict[str, bool | None]:
    """Whether these documents meet a stage's condition, by key, without unknown ones. None: an answer is still missing."""
    cur.execute(
        "select d.key, case when not exists (select from jsonb_object_keys(%(condition)s) as c (stage) "
        "  where (select i.state from work_items i where i.document_id = d.document_id and i.stage = c.stage) "
        "    is distinct from 'done') then is_met(%(condition)s, d.document_id) end as is_met "
        "from documents d where d.is_present and d.key = any(%(keys)s)",
        {"condition": Jsonb(dict(condition or {})), "keys": list(keys)},
    )
    return {row["key"]: row["is_met"] for row in cur.fetchall()}


def _input(row: "dict[str, object]") -> str:
    # The same form as in `Claim.input_of`.
    return str(row["text"]) if row["record"] is None else json.dumps(row["record"], ensure_ascii=False, indent=1)
