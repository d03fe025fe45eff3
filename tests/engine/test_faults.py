"""Which errors cost an attempt: a slot fault never does, a document fault does if the slot answers a trial."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dagster_offload.client.ai_client import AIClient
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.ledger.core.rows import BreakerState, State
from dagster_offload.ledger.slots import breaker, slots
from dagster_offload.slot.config import DEEP, SlotConfig
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.engine import Engine, attempts, outcomes

KEYS = [f"{n}.txt" for n in range(8)]


@pytest.mark.rule("breaker-5")
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("status", "cure", "is_misconfigured"),
    [
        (500, "refused by script", False),
        (401, "OFFLOAD_DEEP_API_KEY", True),
        (404, "the server lists qwen-macbook", True),
    ],
)
def test_a_router_that_refuses_everything_fails_no_document_and_names_the_cure_after_n_plus_2_calls(
    engine: Engine, status: int, cure: str, is_misconfigured: bool, concurrency: int
) -> None:
    engine.router.set(mode="refuse", status=status, health="green")  # else the slot would show the probe's reason
    engine.texts(*KEYS)
    summary = engine.drain(deep_concurrency=concurrency)
    assert (summary.done, summary.failed) == (0, 0)
    assert (summary.is_misconfigured, summary.is_slot_unavailable) == (is_misconfigured, not is_misconfigured)
    assert len(engine.router.completions()) <= concurrency + 2
    assert cure in str(summary.reason)
    assert attempts(engine) == 0
    assert engine.counts(CLASSIFY).failed == 0
    again = engine.drain(deep_concurrency=concurrency)
    assert len(engine.router.completions()) <= concurrency + 2
    assert cure in str(again.reason)


def test_changed_settings_make_a_trial_due_at_a_misconfigured_slot_and_work_resumes_after_it(engine: Engine) -> None:
    engine.router.set(api_key="right")
    engine.texts(*KEYS)
    assert engine.drain(deep_api_key="wrong").is_misconfigured
    assert engine.drain(deep_api_key="wrong").is_misconfigured
    assert engine.drain(deep_api_key="right").done == 8
    assert engine.slot().breaker is BreakerState.CLOSED


def test_a_refused_connection_names_the_setting(engine: Engine) -> None:
    engine.texts(*KEYS)
    engine.router.stop()
    summary = engine.drain()
    engine.router.start()
    assert (summary.failed, summary.is_slot_unavailable) == (0, True)
    assert "connection refused" in str(summary.reason)
    assert "OFFLOAD_DEEP_URL" in str(summary.reason)


@pytest.mark.rule("suspect-1")
def test_a_socks_proxy_accuses_no_document_and_names_the_way_out(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.texts(*KEYS)
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    summary = engine.drain(deep_url="http://router.example:1", deep_concurrency=2)
    assert (summary.done, summary.failed, summary.is_misconfigured) == (0, 0, True)
    assert "add router.example to NO_PROXY" in str(summary.reason)
    assert (attempts(engine), engine.sql("select * from cuts")) == (0, [])
    monkeypatch.delenv("all_proxy")
    assert engine.drain().done == 8


@pytest.mark.rule("suspect-1")
def test_a_wrong_certificate_file_accuses_no_document_and_is_named(engine: Engine) -> None:
    engine.texts(*KEYS)
    wrong = engine.library / "router.pem"
    wrong.write_text("no certificate", encoding="utf-8")
    summary = engine.drain(deep_url=engine.router.url.replace("http:", "https:"), deep_ca_file=wrong)
    assert (summary.done, summary.failed, summary.is_misconfigured) == (0, 0, True)
    assert f"OFFLOAD_DEEP_CA_FILE: {wrong} cannot be used: it contains no certificate" in str(summary.reason)
    assert (attempts(engine), engine.sql("select * from cuts")) == (0, [])


@pytest.mark.parametrize(
    "behaviour", [{"answers": "no_choices"}, {"mode": "cut", "cut": "not_json"}, {"mode": "cut", "cut": "empty"}]
)
def test_a_server_that_is_no_chat_server_fails_no_document_and_names_the_setting(
    engine: Engine, behaviour: dict[str, Any]
) -> None:
    engine.router.set(**behaviour)
    engine.texts(*KEYS)
    summary = engine.drain(deep_concurrency=2)
    assert (summary.done, summary.failed, attempts(engine)) == (0, 0, 0)
    assert len(engine.router.completions()) <= 4
    assert "OFFLOAD_DEEP_URL" in str(summary.reason)


@pytest.mark.rule("slot-7")
def test_an_unexpected_model_is_a_slot_fault_and_leaves_no_record(engine: Engine) -> None:
    engine.router.set(model="some/tiny-model")
    engine.texts(*KEYS)
    summary = engine.drain(deep_expected_model="Qwen3")
    assert (summary.done, summary.failed, summary.deferred) == (0, 0, 1)
    assert summary.is_slot_unavailable
    assert "wrong_model" in str(summary.reason)
    assert "OFFLOAD_DEEP_EXPECTED_MODEL" in str(summary.reason)
    assert engine.sql("select 1 from results where stage <> 'extract'") == []
    assert attempts(engine) == 0


@pytest.mark.rule("answer-1")
def test_an_unusable_answer_costs_an_attempt_and_the_third_fails_the_document(engine: Engine) -> None:
    engine.router.set(answers="empty")
    engine.texts("a.txt")
    failed = []
    for _ in range(3):
        failed.append(engine.drain("classify").failed)
        asked = len(engine.asked())
        engine.drain("classify")
        assert len(engine.asked()) == asked, "nothing is sent during the back-off"
        engine.make_due()
    assert failed == [0, 0, 1]
    item = engine.item("a.txt", CLASSIFY)
    assert (item["state"], item["attempts"]) == (State.FAILED, 3)
    assert item["reason"].startswith("empty_answer")
    assert engine.slot().breaker is BreakerState.CLOSED
    assert engine.sql("select count(*) as trials from calls where item_id is null") == [{"trials": 0}]


@pytest.mark.rule("answer-1")
def test_an_unusable_answer_gets_one_repair_question_and_both_calls_are_recorded(engine: Engine) -> None:
    engine.router.set(answers="garbage")
    engine.texts("a.txt")
    engine.drain("classify")
    assert len(engine.asked()) == 2
    assert outcomes(engine) == {"no_json": 2}
    assert engine.item("a.txt", CLASSIFY)["attempts"] == 1


def test_a_repaired_answer_becomes_the_record(engine: Engine) -> None:
    engine.router.set(answers="garbage", hold=True)
    engine.texts("a.txt")
    drain = engine.beside(engine.drain, "classify")
    engine.router.wait(open=1)
    engine.router.set(hold=False)
    engine.router.wait(answers=1)
    engine.router.set(answers="good")
    drain.result()
    if engine.state("a.txt", CLASSIFY) != State.DONE:  # the second answer was in flight before `good` was set
        engine.make_due()
        engine.drain("classify")
    assert engine.state("a.txt", CLASSIFY) == State.DONE
    assert outcomes(engine)["ok"] == 1


def test_two_stages_of_a_document_fail_independently(engine: Engine) -> None:
    engine.router.set(answers="empty")
    engine.texts("a.txt")
    engine.drain("classify")
    assert engine.item("a.txt", CLASSIFY)["attempts"] == 1
    assert engine.item("a.txt", SUMMARIZE)["attempts"] == 0
    engine.router.set(answers="good")
    engine.drain()
    assert engine.state("a.txt", SUMMARIZE) == State.DONE
    assert engine.state("a.txt", CLASSIFY) == State.PENDING


def refuse_documents(monkeypatch: pytest.MonkeyPatch, status: int) -> list[str]:
    """A server that answers trials and refuses every request with a document. Returns the log of refusals."""
    real, refused = AIClient._request, list[str]()

    async def request(
        self: AIClient, slot: SlotConfig, prompt: str, system: str | None = None, options: Any = None
    ) -> str:
        if system is None:
            return await real(self, slot, prompt, options=options)
        refused.append(system)
        response = httpx.Response(status, request=httpx.Request("POST", slot.url))
        raise httpx.HTTPStatusError("refused", request=response.request, response=response)

    monkeypatch.setattr(AIClient, "_request", request)
    return refused


@pytest.mark.rule("breaker-6")
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("status", [500, 400])
def test_the_same_refusal_for_five_documents_in_a_row_holds_the_stage_and_costs_no_attempt(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, status: int, concurrency: int
) -> None:
    refused = refuse_documents(monkeypatch, status)
    engine.texts(*KEYS, "8.txt", "9.txt")
    summary = engine.drain("classify", deep_concurrency=concurrency)
    assert (summary.done, summary.failed, summary.is_misconfigured) == (0, 0, True)
    assert "deep holds the stage classify: " in str(summary.reason)
    assert attempts(engine) == 0
    assert 5 <= len(refused) <= 5 * concurrency + concurrency


@pytest.mark.rule("breaker-11")
def test_a_held_stage_is_tried_again_only_with_changed_questions(engine: Engine) -> None:
    engine.texts(*KEYS)
    with pytest.MonkeyPatch.context() as refusing:
        refused = refuse_documents(refusing, 400)
        for classes in ("letter,invoice", "letter,bill"):
            already = len(refused)
            assert engine.drain(CLASSIFY, classes=classes).is_misconfigured
            assert len(refused) == already + 5
            assert engine.drain(CLASSIFY, classes=classes).is_misconfigured
            assert len(refused) == already + 5
    assert engine.drain(CLASSIFY, classes="note").done == len(KEYS)


@pytest.mark.rule("breaker-12")
def test_a_slot_that_refuses_every_document_of_every_stage_holds_all_of_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refuse_documents(monkeypatch, 400)
    engine.texts(*KEYS)
    summary = engine.drain()
    assert (summary.done, summary.failed, summary.is_misconfigured, attempts(engine)) == (0, 0, True, 0)
    assert "deep holds the stage classify" in str(summary.reason)
    assert "deep holds the stage summarize" in str(summary.reason)
    assert len(refused) == 10
    decision = decide_drain(engine.settings(), engine.ledger)
    assert not decision.launch
    assert "deep holds the stage classify" in decision.message
    assert len(refused) == 10


@pytest.mark.rule("breaker-5")
def test_a_refusal_of_one_document_by_a_slot_that_answers_a_trial_is_a_document_fault(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_documents(monkeypatch, 500)
    engine.texts("a.txt")
    engine.drain("classify")
    item = engine.item("a.txt", CLASSIFY)
    assert (item["state"], item["attempts"]) == (State.PENDING, 1)
    assert item["reason"].startswith("http_500")
    row = engine.slot()
    assert (row.breaker, row.epoch) == (BreakerState.CLOSED, 2)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_document_that_always_cuts_its_call_is_quarantined_and_harms_no_other(
    engine: Engine, concurrency: int
) -> None:
    engine.router.set(cut_documents=["POISON"], latency=0.02)
    engine.extracted("bad.txt", texts={"bad.txt": "POISON in here"})
    engine.texts(*KEYS)
    engine.drain("classify", deep_concurrency=concurrency)
    assert engine.counts(CLASSIFY).done == 8
    assert engine.item("bad.txt", CLASSIFY)["must_run_alone"]
    for _ in range(4):
        engine.sql("update cuts set at = at - interval '11 minutes'")
        engine.make_due()
        engine.drain("classify", deep_concurrency=concurrency)
    item = engine.item("bad.txt", CLASSIFY)
    assert (item["state"], item["attempts"]) == (State.QUARANTINED, 0)
    assert engine.slot().breaker is BreakerState.CLOSED
    calls = [entry for entry in engine.router.completions() if entry["outcome"] == "cut"]
    assert len(calls) <= 5


def test_a_slot_that_cuts_every_call_blames_no_document(engine: Engine) -> None:
    engine.router.set(mode="cut", cut="mid_body")
    engine.texts(*KEYS)
    summary = engine.drain(deep_concurrency=2)
    assert (summary.failed, summary.is_slot_unavailable, attempts(engine)) == (0, True, 0)
    assert engine.sql("select 1 from cuts where is_suspicion") == []
    behind = engine.sql("select distinct document_id from work_items where must_run_alone")
    assert len(behind) <= 2, "only documents whose calls were cut run after the others"
    assert len(engine.router.completions()) <= 4


@pytest.mark.parametrize("how", ["502", "before_answer"])
def test_a_call_that_was_open_during_an_outage_of_the_slot_blames_no_document(engine: Engine, how: str) -> None:
    engine.texts("a.txt")
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain, "classify")
    engine.router.wait(open=1)
    engine.ledger.run(breaker.open_breaker, DEEP, 1, "warming", None)
    engine.close_breaker()
    engine.router.set(hold=False, cut_documents=["a.txt"], cut=how)
    engine.wait_until("select 1 from work_items where deferrals > 0")
    engine.router.set(cut_documents=[])
    drain.result()
    engine.make_due()
    engine.drain("classify")
    assert engine.state("a.txt", CLASSIFY) == State.DONE
    assert attempts(engine) == 0
    assert engine.sql("select 1 from cuts where epoch = 1 and is_suspicion") == []


@pytest.fixture
def default_ctrl_c() -> Iterator[None]:
    """Handle SIGINT as in a terminal: tests started with a shell's `&` inherit an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_ctrl_c")
def test_a_stopped_trial_does_not_change_the_slots_state(engine: Engine) -> None:
    deep = engine.settings().slots.deep
    assert deep is not None
    engine.ledger.run(slots.register, deep)
    engine.ledger.run(breaker.open_breaker, DEEP, 1, "warming", None)
    engine.retry_now()
    engine.texts("a.txt")
    engine.router.set(hold=True)

    def stop_in_the_trial() -> None:
        engine.router.wait(open=1)
        os.kill(os.getpid(), signal.SIGINT)

    stopping = engine.beside(stop_in_the_trial)
    with pytest.raises(KeyboardInterrupt):
        engine.drain()
    stopping.result()
    slot = engine.slot()
    assert (slot.breaker, slot.is_retry_due, slot.is_trial_running) == (BreakerState.OPEN, True, False)
    assert [row["outcome"] for row in engine.sql("select outcome from calls")] == ["stopped"]
    engine.router.set(hold=False)
    assert engine.drain().done == 1
