"""What failed, in `status`: by reason, with a next step that can help."""

import json
from pathlib import Path

import pytest

from dagster_offload.drain import drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.reports.after_failure import step_after_failure
from dagster_offload.simulator import Router
from tests.support.cli import Call, scan_and_extract

LOOK, AGAIN = "LOOK", "AGAIN"


def step(stage: str, reason: str | None, state: State = State.FAILED) -> str:
    return step_after_failure(stage, state, reason, look=LOOK, again=AGAIN)


@pytest.mark.parametrize(
    "code", ["broken_file", "password_protected", "unsupported_type", "unpacks_too_large", "too_large"]
)
def test_where_the_same_file_would_fail_again_the_reason_has_the_next_step(code: str) -> None:
    assert step("extract", f"{code}: in words") == "Do what the reason says: the next scan reads the file by itself"


def test_a_retry_is_offered_where_it_may_help() -> None:
    assert step("extract", "extraction_timeout: over 300 s").endswith("try the same file again, AGAIN")
    assert step("classify", "no_json: in words") == "See what happened: LOOK. To try again, AGAIN"
    assert step("extract", "broken_file: in words", State.QUARANTINED) == "Check the file, then AGAIN"
    assert step("classify", None).endswith("AGAIN")
    assert step("extract", "unreadable: Permission denied").startswith(
        "Check the file's permissions and its disk, then scan"
    )


def test_documents_that_failed_for_one_reason_are_one_entry(call: Call, library: Path, with_ledger: str) -> None:
    for name in ("a.pdf", "b.pdf", "c.pdf", "d.pdf"):
        (library / name).write_bytes(b"%PDF-1.7 and nothing more")
    scan_and_extract()
    shown = call("status").stdout
    assert "  4 documents, extract failed: broken_file: the file is broken or cut off" in shown
    assert "    a.pdf, b.pdf, c.pdf and 1 more\n" in shown
    assert "    Do what the reason says: the next scan reads the file by itself\n" in shown
    assert "dagster-offload retry" not in shown
    explained = call("explain", "a.pdf").stdout
    assert "\nextract: Do what the reason says: the next scan reads the file by itself\n" in explained
    (group,) = json.loads(call("status", "--json").stdout)["problem_groups"]
    assert (group["stage"], group["state"], group["code"], group["count"]) == ("extract", "failed", "broken_file", 4)
    assert (group["first"], group["has_others"]) == (["a.pdf", "b.pdf", "c.pdf"], False)


def test_the_retry_of_a_reason_is_one_command(call: Call, scanned: Path, router: Router, with_ledger: str) -> None:
    router.set(answers="garbage")
    for _ in range(3):
        drain("classify")
        with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
            cur.execute("update work_items set not_before = null where state = 'pending'")
    shown = call("status").stdout
    assert "  2 documents, classify failed: no_json: " in shown
    assert "To try again, dagster-offload retry --stage classify --reason no_json\n" in shown


def test_doubtful_results_with_the_same_marks_are_one_entry(
    call: Call, library: Path, with_ledger: str, router: Router
) -> None:
    for number in range(3):
        (library / f"z{number}.txt").write_text(f"Letter number {number} about the cold heating.")
    scan_and_extract()
    drain("summarize")
    with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
        cur.execute(
            "update results set value = value || '{\"doubtful\": [\"other_language\"]}' where stage = 'summarize'"
        )
    shown = call("status").stdout
    assert "  5 documents, summarize: other_language\n    " in shown
    assert " and 2 more\n" in shown
    (group,) = json.loads(call("status", "--json").stdout)["doubtful_groups"]
    assert (group["stage"], group["marks"], group["count"], len(group["first"])) == (
        "summarize",
        ["other_language"],
        5,
        3,
    )
