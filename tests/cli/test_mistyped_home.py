"""A command that works on an existing ledger refuses a home or a Postgres without one, and makes none."""

import os
from pathlib import Path

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import current_step
from tests.support.cli import Call

PIPELINE = """\
on_record:
  archive: {command: ["true"]}
notify:
  phone: {command: ["true"]}
"""


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["records"],
        ["explain", "a.txt"],
        ["correct", "--list"],
        ["correct", "a.txt", "--set", "category=letter"],
        ["redo", "--outdated"],
        ["retry"],
        ["psql"],
        ["pause"],
        ["pause", "deep", "--until", "2h"],
        ["resume"],
        ["drain"],
        ["gc", "--older-than", "90d"],
        ["backup", "ledger.backup"],
        ["move", "--to", "postgresql://db.invalid/offload"],
        ["move", "--undo"],
        ["slot", "show"],
        ["slot", "set", "deep", "--concurrency", "4"],
        ["slot", "forget", "deep"],
        ["sink", "list"],
        ["sink", "send"],
        ["sink", "pause", "archive"],
        ["sink", "resume", "archive"],
        ["notify", "list"],
        ["notify", "send"],
        ["stage", "sample", "classify"],
        ["stage", "check", "classify", "--expected", "expected.jsonl"],
    ],
    ids=" ".join,
)
def test_a_home_without_a_ledger_is_named_and_not_created(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "offload.yaml").write_text(PIPELINE)
    (tmp_path / "expected.jsonl").write_text('{"document": "a.txt", "category": "letter"}\n')
    home = tmp_path / "typo"
    os.environ |= {"OFFLOAD_HOME": str(home), "OFFLOAD_DEEP_URL": "http://127.0.0.1:1", "OFFLOAD_DEEP_MODEL": "m"}
    refused = call(*command)
    assert refused.exit_code == 2
    assert f"there is no ledger in {home}: correct OFFLOAD_HOME" in " ".join(refused.output.split())
    assert not home.exists()


@pytest.mark.parametrize(
    "command",
    [
        ["pause"],
        ["resume"],
        ["retry"],
        ["redo", "--outdated"],
        ["gc", "--older-than", "90d"],
        ["slot", "set", "deep", "--concurrency", "4"],
        ["slot", "forget", "deep"],
    ],
    ids=" ".join,
)
def test_a_postgres_without_a_ledger_gets_none(call: Call, empty_url: str, command: list[str]) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    refused = call(*command)
    assert refused.exit_code == 2
    assert "there is no ledger in this Postgres" in refused.stderr
    with Ledger(empty_url) as ledger, ledger.transaction() as cur:
        assert current_step(cur, ledger.schema) is None
