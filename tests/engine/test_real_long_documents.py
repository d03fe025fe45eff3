"""A document longer than a real llama.cpp server's context, from the first refusal to a validated summary."""

from pathlib import Path

import httpx
import pytest

from dagster_offload.client.context import ask_context
from dagster_offload.ledger.core.rows import BreakerState, State
from dagster_offload.ledger.slots import slots
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.prompts.splitting import Size, split
from dagster_offload.text.tokens import text_tokens
from tests.support.engine import Engine
from tests.support.patience import PATIENCE_SECONDS
from tests.support.real_server import served, tame_answers

pytestmark = pytest.mark.slow


CONTEXT = 2_048
SENTENCE = "On day {n} the landlord of house {n} wrote to the tenant of flat {n} about the rent. "
TEXT = "".join(f"# Chapter {n}\n\n{SENTENCE.format(n=n) * 8}\n\n" for n in range(1, 13))


@pytest.mark.parametrize(
    "is_reported", [True, False], ids=["the server reports its context", "the setting is too large"]
)
def test_a_document_longer_than_the_context_ends_in_a_validated_summary(
    engine: Engine,
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_reported: bool,
) -> None:
    tame_answers(monkeypatch)
    with served(model_file, "--ctx", str(CONTEXT)) as (slot, _):
        engine.options |= {"deep_url": slot.url, "deep_read_timeout": 240.0}
        engine.options["deep_context_tokens"] = None if is_reported else 8_192
        deep = engine.settings().slots.deep
        assert deep is not None
        engine.ledger.run(slots.register, deep)
        engine.extracted("book.txt", texts={"book.txt": TEXT})
        summary = engine.drain()
        reported = httpx.get(f"{slot.url}/v1/models", trust_env=False, timeout=PATIENCE_SECONDS).json()["data"][0][
            "meta"
        ]["n_ctx"]
    assert (summary.done, summary.failed, summary.reason) == (1, 0, None)
    assert reported == CONTEXT
    for stage in (CLASSIFY, SUMMARIZE):
        item = engine.item("book.txt", stage)
        assert (item["state"], item["attempts"]) == (State.DONE, 0)
    assert engine.slot().breaker is BreakerState.CLOSED
    (result,) = engine.sql("select value from results where stage = 'summarize'")
    assert result["value"]["summary"]
    assert result["value"]["parts"] == result["value"]["parts_read"] > 1
    # A refusal counts no tokens. An answer that filled the context does, and a random model's answers vary in length.
    refused = engine.sql("select 1 from calls where outcome = 'context_too_long' and tokens_in is null")
    assert bool(refused) is not is_reported


@pytest.mark.usefixtures("engine")
async def test_the_server_reports_its_real_context_size(model_file: Path) -> None:
    with served(model_file, "--ctx", str(CONTEXT)) as (slot, _):
        assert await ask_context(slot) == CONTEXT
    assert await ask_context(slot) is None, "no answer and no error"
    assert len(split(TEXT, (Size(0, text_tokens(CONTEXT)),))) > 1
