"""A stage's question about one text, sent to the slot without a record."""

import pytest

from dagster_offload.engine.trying import try_stage
from dagster_offload.errors import SettingsError, StageDeferred
from dagster_offload.ledger.slots import holds, slots
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.graph import CLASSIFY
from tests.support.engine import Engine
from tests.support.ledger import hold_stage


def try_classify(engine: Engine, **changes: object) -> None:
    settings = engine.settings(**changes)
    try_stage(settings, engine.ledger, llm_stages(settings)[CLASSIFY], [("a", "an invoice")])


def register(engine: Engine) -> None:
    for slot in engine.settings().slots:
        engine.ledger.run(slots.register, slot)


@pytest.mark.parametrize(("status", "kind"), [(400, SettingsError), (500, StageDeferred)])
def test_a_refusal_is_reported_in_the_servers_own_words(engine: Engine, status: int, kind: type[Exception]) -> None:
    engine.router.set(mode="refuse", status=status)
    with pytest.raises(kind, match=rf'HTTP {status}.*"refused by script"'):
        try_classify(engine)


@pytest.mark.rule("breaker-11")
def test_to_try_another_model_ends_no_hold(engine: Engine) -> None:
    engine.texts("a.txt")
    register(engine)
    hold_stage(engine.ledger, CLASSIFY, "no_json")
    before = engine.slot().fingerprint
    try_classify(engine)
    [known] = engine.sql("select dialects, dialects_at from slots")
    try_classify(engine, deep_model="another")
    assert engine.sql("select dialects, dialects_at from slots") == [known]
    [hold] = engine.ledger.run(holds.list_holds)
    assert (hold.stage, engine.slot().fingerprint) == (CLASSIFY, before)


@pytest.mark.parametrize("key", ["right", "wrong"])
def test_at_an_unavailable_slot_a_stage_is_tried_only_with_other_settings(engine: Engine, key: str) -> None:
    engine.options["deep_api_key"] = "wrong"
    register(engine)
    engine.sql(
        "update slots set breaker = 'misconfigured', reason = 'HTTP 401', retry_at = clock_timestamp() + '1 hour'"
    )
    if key == "right":
        try_classify(engine, deep_api_key="right")
        assert len(engine.router.completions()) == 1
    else:
        with pytest.raises(StageDeferred, match="misconfigured: HTTP 401"):
            try_classify(engine)
        assert engine.router.completions() == []


def test_a_wrong_setting_is_reported_as_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(SettingsError, match="NO_PROXY"):
        try_classify(engine, deep_url="http://router.example:1")


def test_a_person_who_waits_for_a_call_of_a_drain_is_told_so(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.texts("a.txt", "b.txt")
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain)
    engine.router.wait(open=1)
    trying = engine.beside(try_classify, engine)
    engine.wait_until("select 1 from permit_waiters")
    engine.router.set(hold=False)
    trying.result()
    drain.result()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == ["deep has no room for another call; waiting until one of its open calls ends"]
