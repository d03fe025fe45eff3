"""The prompts that a drain would send, for scripts without the product: one line of request bodies per document."""

import json
from pathlib import Path

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.settings import Settings
from dagster_offload.slot.chat import request_body
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.prompts.prompt import system_message


def write_prompts(ledger: Ledger, settings: Settings, file: Path, name: str) -> Path:
    """Write every document under `name/` to `file`, in the order of a drain, with its stages in order. Returns `file`."""
    deep = settings.slots.deep
    assert deep is not None
    with ledger.transaction() as cur, file.open("w", encoding="utf-8") as lines:
        cur.execute(
            "select r.text from documents d join work_items i on i.document_id = d.document_id and i.stage = 'extract' "
            "join results r using (result_id) where d.key like %s order by d.document_id",
            [f"{name}/%"],
        )
        for row in cur:
            system = system_message(row["text"])
            bodies = [
                request_body(deep, stage.instruction, system, stage.options) for stage in llm_stages(settings).values()
            ]
            lines.write(json.dumps(bodies) + "\n")
    return file
