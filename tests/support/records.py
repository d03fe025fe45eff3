"""A ledger with records: two invoices with a payment, a letter, and a document that waits."""

from collections.abc import Iterator
from typing import Any

from dagster_offload.records import Query
from dagster_offload.records.reading import stream
from tests.support.engine import FILLER, Engine

PAYMENT: dict[str, Any] = {
    "prompt": "What must be paid?",
    "answer": {"amount": "number", "due": "date", "select": "string", "urgent": "boolean", "parties": ["string"]},
    "when": {"classify": {"category": "invoice"}},
    "quotes": True,
}
TEXTS = {
    "b/청구서.txt": f"Invoice of 2025-03-04. Amount due: 1250.5 EUR. 난방비를 냅니다. VAT included.\n{FILLER}",
    "a.txt": f"Dear Sir, kind regards, yours faithfully, sincerely.\n{FILLER}",
    "c.txt": f"Invoice, amount due 80 EUR, VAT 100%_sure.\n{FILLER}",
}


def fill(engine: Engine) -> None:
    """Three documents, two of them invoices with a payment, and one that is not answered yet."""
    engine.use_stages(payment=PAYMENT)
    engine.extracted(*TEXTS, texts=TEXTS)
    engine.drain()
    engine.texts("waiting.txt")


def found(engine: Engine, *where: str, **query: Any) -> list[str]:
    return [record["document"] for record in records(engine, Query(where=where, **query))]


def records(engine: Engine, query: Query | None = None, *, with_text: bool = False) -> Iterator[dict[str, Any]]:
    return stream(engine.settings(), engine.ledger, query or Query(), with_text=with_text)
