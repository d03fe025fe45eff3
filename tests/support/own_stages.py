"""A stage of a person's own, documents for it, and what the ledger stored."""

from typing import Any

from dagster_offload.ledger.core import stages
from dagster_offload.stages.catalog import recipes
from tests.support.engine import FILLER, Engine

PAYMENT: dict[str, Any] = {
    "prompt": "What must be paid, to whom, and by when?",
    "answer": {"payee": "string", "amount": "number", "currency": {"enum": ["EUR", "KRW"]}, "due": "date"},
    "when": {"classify": {"category": ["invoice"]}},
    "quotes": True,
}
INVOICE = f"Invoice. Amount due: 1250.50 EUR, payable to the landlord by 2025-03-04. VAT included.\n{FILLER}"
LETTER = f"Dear Sir, kind regards, yours faithfully, sincerely.\n{FILLER}"


def fill(engine: Engine) -> None:
    while engine.ledger.run(stages.fill, recipes(engine.settings())):
        pass


def record(engine: Engine, key: str, stage: str) -> Any:
    [row] = engine.sql(
        "select r.outcome, r.value from work_items i join documents d using (document_id) join results r using (result_id) "
        "where d.key = %s and i.stage = %s",
        key,
        stage,
    )
    return row
