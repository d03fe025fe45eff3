"""`gc`: shows what it would remove, asks, and removes it."""

from pathlib import Path

import pytest

from dagster_offload.engine.scan import scan
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.settings import load_settings
from tests.support.cli import Call


@pytest.fixture
def one_gone(scanned: Path) -> None:
    """One of two documents has been gone for 100 days."""
    (scanned / "letter.txt").unlink()
    settings = load_settings()
    with open_ledger(settings) as ledger:
        scan(settings, ledger)
        with ledger.transaction() as cur:
            cur.execute("update documents set gone_at = gone_at - interval '100 days' where gone_at is not null")
            cur.execute("update results set created_at = created_at - interval '100 days'")


def documents() -> list[str]:
    with open_ledger(load_settings()) as ledger, ledger.transaction() as cur:
        return [row["key"] for row in cur.execute("select key from documents order by key")]


@pytest.mark.rule("keep-3")
def test_gc_removes_what_has_been_gone_for_longer_and_shows_it_first(call: Call, one_gone: None) -> None:
    assert "nothing to remove" in call("gc", "--older-than", "120d").stdout
    assert "1 document gone for more than 1 day, and" in call("gc", "--older-than", "1").stdout
    result = call("gc", "--older-than", "90d", "--yes")
    assert result.exit_code == 0, result.output
    assert "1 document gone for more than 90 days, and 1 result that" in result.stdout
    assert documents() == ["minutes.md"]
    assert "nothing to remove" in call("gc", "--older-than", "90d").stdout


def test_gc_without_a_terminal_removes_nothing_unless_confirmed(call: Call, one_gone: None) -> None:
    result = call("gc", "--older-than", "90")
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert documents() == ["letter.txt", "minutes.md"]


@pytest.mark.parametrize("wrong", ["0d", "-1", "3 weeks", "d", ""])
def test_a_wrong_age_is_wrong_usage(call: Call, wrong: str) -> None:
    assert call("gc", "--older-than", wrong).exit_code == 2
