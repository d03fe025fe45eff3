"""A stage's question about one text, sent to the slot without a record."""

import pytest

from dagster_offload.engine.trying import try_stage
from dagster_offload.errors import SettingsError, StageDeferred
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.graph import CLASSIFY
from tests.support.engine import Engine


def try_classify(engine: Engine, **changes: object) -> None:
    settings = engine.settings(**changes)
    try_stage(settings, engine.ledger, llm_stages(settings)[CLASSIFY], [("a", "an invoice")])


@pytest.mark.parametrize(("status", "kind"), [(400, SettingsError), (500, StageDeferred)])
def test_a_refusal_is_reported_in_the_servers_own_words(engine: Engine, status: int, kind: type[Exception]) -> None:
    engine.router.set(mode="refuse", status=status)
    with pytest.raises(kind, match=rf'HTTP {status}.*"refused by script"'):
        try_classify(engine)


def test_a_wrong_setting_is_reported_as_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(SettingsError, match="NO_PROXY"):
        try_classify(engine, deep_url="http://router.example:1")
