"""What `doctor` finds out about JSON, and what is stored of it."""

import json
import os
from pathlib import Path

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.simulator import Router
from tests.support.cli import Call, drained


@pytest.mark.rule("answer-5")
@pytest.mark.parametrize("answers", ["garbage", "empty"])
def test_doctor_fails_if_not_one_answer_is_json_and_learns_nothing_from_it(
    call: Call, scanned: Path, router: Router, answers: str
) -> None:
    drained()
    router.set(answers=answers)
    result = call("doctor")
    assert result.exit_code == 78
    assert "no  json         not one answer was JSON (json_schema " in result.stdout
    assert "shows what the model writes" in result.stdout
    [slot] = json.loads(call("slot", "show", "--json").stdout)["slots"]
    assert slot["dialects"]["response_format"] == {"json_schema": "obeyed"}


def test_findings_of_doctor_replace_findings_of_workers(call: Call, scanned: Path, router: Router) -> None:
    router.set(response_format="refused")
    drained()
    router.set(response_format="honoured")  # the server was upgraded
    assert call("doctor").exit_code == 0
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        (row,) = cur.execute("select dialects from slots where name = 'deep'").fetchall()
    assert row["dialects"]["findings"]["response_format"] == {"json_schema": "obeyed"}
