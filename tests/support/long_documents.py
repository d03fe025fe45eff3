"""A book with one part for each chapter, and what the stand-in router answered about it."""

from collections import Counter
from typing import Any

from dagster_offload.simulator.answers import PART
from dagster_offload.stages.graph import SUMMARIZE
from tests.support.engine import Engine
from tests.support.router import change_after

CONTEXT = 2_500
SENTENCES = (
    "The tenant of flat {n} shall pay the rent on day {n} of every month. The landlord of house {n} repairs it. "
)


def chapter(number: int) -> str:
    """About four fifths of what fits in one request."""
    return f"# Chapter {number}\n\n" + SENTENCES.format(n=number) * 11 + "\n\n"


def book(chapters: int, first: int = 1) -> str:
    return "".join(chapter(number) for number in range(first, first + chapters))


def prepared(engine: Engine, chapters: int = 6, key: str = "book.txt") -> str:
    text = book(chapters)
    engine.extracted(key, texts={key: text})
    return text


def answered(engine: Engine) -> list[dict[str, Any]]:
    return [entry for entry in engine.router.completions() if entry["document"] and entry["outcome"] == "answered"]


def answered_parts(engine: Engine) -> Counter[str]:
    return Counter(entry["document"] for entry in answered(engine) if entry["asked_about"] == PART)


def result_of(engine: Engine, stage: str = SUMMARIZE) -> dict[str, Any]:
    (row,) = engine.sql(
        "select r.* from results r join work_items i using (result_id) join documents d using (document_id) "
        "where d.key = 'book.txt' and i.stage = %s",
        stage,
    )
    return row


def interrupted(engine: Engine) -> int:
    """Run a drain that ends after a few parts. Returns the number of parts done."""
    change_after(engine.router, after_answers=3, mode="cold")
    engine.drain(SUMMARIZE)
    engine.router.set(mode="awake")
    engine.retry_now()
    return int(engine.item("book.txt", SUMMARIZE)["parts_done"])
