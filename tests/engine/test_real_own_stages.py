"""Five stages of one document at a real llama.cpp server: the server reads the document once."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from dagster_offload.ledger.slots import slots
from dagster_offload.stages.prompts.prompt import system_message
from tests.support.engine import Engine
from tests.support.real_server import served, tame_answers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SENTENCE = "On day {n} the landlord of house {n} wrote to the tenant of flat {n} about the rent of {n} euros. "
TEXTS = {
    key: "".join(SENTENCE.format(n=n * step) for n in range(1, 50)) for step, key in enumerate(("a.txt", "b.txt"), 1)
}
# Values that a random model can give if the grammar forces it to.
OWN: dict[str, Any] = {
    "payment": {"prompt": "What must be paid?", "answer": {"currency": {"enum": ["EUR", "KRW"]}, "is_paid": "boolean"}},
    "tone": {"prompt": "How does it sound?", "answer": {"tone": {"enum": ["kind", "neutral", "angry"]}}},
    "urgency": {"prompt": "Must somebody act soon?", "answer": {"is_urgent": "boolean"}},
}


@pytest.mark.rule("answer-4")
def test_five_stages_of_a_document_are_read_once(
    engine: Engine, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tame_answers(monkeypatch)
    monkeypatch.setattr("dagster_offload.stages.catalog.doubts_about", lambda *_: ())  # a random summary is doubtful
    with served(model_file, "--ctx", "16384") as (slot, _):
        engine.options |= {"deep_url": slot.url, "deep_read_timeout": 300.0, "deep_context_tokens": 16_000}
        engine.use_stages(**OWN)
        deep = engine.settings().slots.deep
        assert deep is not None
        engine.ledger.run(slots.register, deep)
        engine.extracted(*TEXTS, texts=TEXTS)
        assert engine.drain().done == len(TEXTS)
        once = {
            key: len(httpx.post(f"{slot.url}/tokenize", json={"content": system_message(text)}).json()["tokens"])
            for key, text in TEXTS.items()
        }
    calls = engine.sql("select d.key, c.tokens_cached from calls c join documents d using (document_id)")
    assert len(calls) == 5 * len(TEXTS)
    read = sum(max(0, once[call["key"]] - call["tokens_cached"]) for call in calls)
    assert read / sum(once.values()) <= 1.15, (read, once, calls)
