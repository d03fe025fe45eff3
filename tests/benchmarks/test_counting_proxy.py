"""The counting proxy gives both sides records of the same length and keeps the server's token counts."""

from pathlib import Path

import httpx

from benchmarks.counting_proxy import ANSWER_TOKENS, counting_proxy
from dagster_offload.settings import load_settings
from dagster_offload.slot.chat import request_body
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.prompts.prompt import system_message
from tests.support.real_server import served

TEXT = "The document is a letter or a report. " * 20


def test_every_stage_gets_a_record_of_the_same_length_and_the_text_is_read_once(
    model_file: Path, tmp_path: Path
) -> None:
    settings = load_settings(home=tmp_path / "home", library=tmp_path)
    with served(model_file) as (slot, _), counting_proxy(slot.url) as (url, proxy):
        for stage in llm_stages(settings).values():
            body = request_body(slot, stage.instruction, system_message(TEXT), stage.options)
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=240).json()
            stage.parse(answer["choices"][0]["message"]["content"])
        document_tokens = len(httpx.post(f"{url}/tokenize", json={"content": TEXT}, timeout=240).json()["tokens"])
    first, second = proxy.calls
    assert [call.written_tokens for call in proxy.calls] == [ANSWER_TOKENS] * 2
    assert second.cached_tokens > document_tokens
    assert second.read_tokens < first.read_tokens - document_tokens
    assert proxy.seconds > 0


def test_a_trial_has_one_token_and_the_servers_own_answer(model_file: Path) -> None:
    with served(model_file) as (slot, _), counting_proxy(slot.url) as (url, proxy):
        body = {"model": "any", "messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 1}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=240).json()
    assert [call.written_tokens for call in proxy.calls] == [1]
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_refusal_is_passed_on_and_not_counted(model_file: Path) -> None:
    with served(model_file) as (slot, _), counting_proxy(slot.url) as (url, proxy):
        body = {"model": "any", "messages": [{"role": "user", "content": "word " * 9_000}], "max_tokens": 1}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=240)
    assert answer.status_code == 400
    assert proxy.calls == []
