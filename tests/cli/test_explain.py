"""`explain` over a real ledger, and the ways in which a person may name a document."""

import json
import os
import re
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from dagster_offload.cli.explained_calls import calls_table, shortened
from dagster_offload.cli.options import document_key
from dagster_offload.drain import drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.reports.explanation import ExplainedCall
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from dagster_offload.stages.catalog import recipes
from tests.support.cli import Call, drained, scan_and_extract
from tests.support.ledger import hold_stage


def test_explain_accepts_a_key_or_a_path_and_shows_every_change(call: Call, scanned: Path) -> None:
    by_key = call("explain", "letter.txt")
    by_path = call("explain", str(scanned / "letter.txt"))
    assert by_key.exit_code == 0
    assert by_key.output == by_path.output
    found = json.loads(call("explain", "letter.txt", "--json").stdout)
    steps = [(step["stage"], step["from_state"], step["to_state"]) for step in found["transitions"]]
    assert ("extract", "claimed", "done") in steps
    assert [(item["stage"], item["state"]) for item in found["items"]] == [
        ("extract", "done"),
        ("classify", "pending"),
        ("summarize", "pending"),
    ]


def test_explain_shows_refused_answers_only_with_its_option(call: Call, scanned: Path, router: Router) -> None:
    router.set(answers="garbage")
    drain("classify")
    answer = "I would rather not answer in JSON."
    output = call("explain", "letter.txt").stdout
    assert answer not in output
    assert "--answer" in output
    assert answer not in call("explain", "letter.txt", "--json").stdout
    shown = call("explain", "letter.txt", "--answer").stdout
    assert shown.count(answer) == 2
    assert "classify  no_json" in shown
    (first, _) = json.loads(call("explain", "letter.txt", "--answer", "--json").stdout)["refused_answers"]
    assert (first["stage"], first["code"], first["answer"]) == ("classify", "no_json", answer)


def test_explain_reports_that_no_answer_was_refused(call: Call, scanned: Path) -> None:
    assert "No answer about this document was refused." in call("explain", "letter.txt", "--answer").stdout
    assert "--answer" not in call("explain", "letter.txt").stdout


def test_explain_says_which_results_are_outdated(
    call: Call, scanned: Path, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained()
    assert "outdated" not in call("explain", "letter.txt").stdout
    monkeypatch.setenv("OFFLOAD_DEEP_EXPECTED_MODEL", "another")
    shown = call("explain", "letter.txt").stdout
    assert shown.count("done, outdated") == 2
    how = "classify and summarize are outdated (made with another prompt, options, model or readers): "
    assert f"{how}dagster-offload redo letter.txt --outdated" in " ".join(shown.split())
    items = json.loads(call("explain", "letter.txt", "--json").stdout)["items"]
    assert [item["is_outdated"] for item in items] == [False, True, True]


def test_explain_says_what_a_document_with_the_content_of_another_did_not_need(
    call: Call, scanned: Path, router: Router
) -> None:
    (scanned / "copy.txt").write_bytes((scanned / "letter.txt").read_bytes())
    scan_and_extract()
    drain()
    shown = " ".join(call("explain", "copy.txt").stdout.split())
    assert shown.count("same content as letter.txt: its text is used") == 1
    assert shown.count("same content as letter.txt: no call was needed") == 2


def test_explain_refuses_an_unknown_document(call: Call, scanned: Path) -> None:
    result = call("explain", "nothing.txt", "--json")
    assert result.exit_code == 2
    assert "no such document: nothing.txt" in json.loads(result.stdout)["error"]


def test_a_document_typed_in_another_unicode_form_is_the_same_document() -> None:
    decomposed = "\u1100\u1161.txt"  # a Korean syllable as macOS file systems spell it
    assert document_key(None, decomposed) == "\uac00.txt"
    assert document_key(Path("/library"), "/library/sub/x.txt") == "sub/x.txt"
    assert document_key(None, "./x.txt") == "x.txt"


@pytest.mark.parametrize("named", ["library", "link", "library/letters/.."])
def test_a_document_is_found_by_any_path_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    letters = tmp_path / "library" / "letters"
    letters.mkdir(parents=True)
    (letters / "a.txt").touch()
    (tmp_path / "library" / "b.txt").touch()
    (tmp_path / "library" / "linked.txt").symlink_to("letters/a.txt")
    (tmp_path / "link").symlink_to("library")
    library = load_settings(library=f"{tmp_path}/{named}").library
    monkeypatch.chdir(letters)
    for typed, key in [
        ("a.txt", "letters/a.txt"),
        ("./a.txt", "letters/a.txt"),
        ("../b.txt", "b.txt"),
        ("b.txt", "b.txt"),
        ("letters/a.txt", "letters/a.txt"),
        ("../linked.txt", "linked.txt"),
        (f"{tmp_path}/link/letters/a.txt", "letters/a.txt"),
        (f"{tmp_path}/library/letters/../b.txt", "b.txt"),
        (f"{tmp_path}/link/gone.txt", "gone.txt"),
        ("gone.txt", "gone.txt"),
    ]:
        assert document_key(library, typed) == key, typed


def test_a_path_outside_the_library_stays_unchanged(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "other.txt").touch()
    assert document_key(tmp_path / "library", f"{tmp_path}/other.txt") == f"{tmp_path}/other.txt"
    assert document_key(tmp_path / "library", "/library/b.txt") == "/library/b.txt"


@pytest.mark.parametrize(
    ("name", "shown", "why"),
    [
        (os.fsdecode(b"caf\xe9.txt"), "caf\\xe9.txt", "it is not UTF-8"),
        ("two\nlines.txt", "two\\nlines.txt", "it contains a control character"),
    ],
)
def test_a_name_that_cannot_be_a_key_is_reported_with_the_reason(
    call: Call, with_ledger: str, library: Path, name: str, shown: str, why: str
) -> None:
    (library / name).touch()
    assert call("scan").exit_code == 0
    for command in ("explain", "retry"):
        for typed in (name, str(library / name), shown):
            result = call(command, typed, "--json")
            assert result.exit_code == 2, result.output
            error = json.loads(result.stdout)["error"]
            assert error == f"no such document: {shown} (its name cannot be a key: {why})"


def test_a_backslash_is_part_of_a_key() -> None:
    assert document_key(None, "a\\b.txt") == "a\\b.txt"


def test_a_folder_in_an_option_may_contain_two_dots(call: Call, tmp_path: Path) -> None:
    assert call("stop", "--home", "sub/../else").stdout == f"nothing was running on {tmp_path}/else\n"


def test_explain_shows_when_work_is_taken_not_the_latest_time(call: Call, scanned: Path, router: Router) -> None:
    assert [item["is_due"] for item in explained(call, "letter.txt")] == [False, True, True]
    router.set(mode="cold")
    assert drain().is_slot_unavailable
    shown = call("explain", "letter.txt").stdout + call("explain", "minutes.md").stdout
    assert "when deep can be used" in shown
    assert "(in 30 min)" not in shown
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        cur.execute("update slots set epoch = epoch + 1, breaker = 'closed'")
    router.set(mode="awake")
    items = explained(call, "letter.txt") + explained(call, "minutes.md")
    assert [item["is_due"] for item in items if item["state"] == "deferred"] == [True]


def test_each_document_that_waits_says_for_what_and_not_only_the_one_that_was_deferred(
    call: Call, scanned: Path, router: Router
) -> None:
    router.set(mode="cold")
    assert drain().is_slot_unavailable
    for document in ("letter.txt", "minutes.md"):
        shown = words(call, document)
        assert "classify and summarize wait for deep: unavailable, upstream_cold since " in shown
        assert "`dagster-offload drain` or `up` checks it again" in shown, "as `status` says"
        assert " now " not in shown
        items = explained(call, document)[1:]
        assert [item["is_due"] for item in items] == [False, False]
        assert all(str(item["waits_for"]).startswith("deep: unavailable, upstream_cold since ") for item in items)


def test_a_document_that_waits_for_a_slot_that_rests_says_until_when(call: Call, scanned: Path, router: Router) -> None:
    call("pause", "deep", "--until", "2h")
    assert re.search(
        r"classify and summarize wait for deep: resting until \w+ \d+ \w+ [\d:]+: paused since", words(call)
    )
    [_, classify, _] = explained(call, "letter.txt")
    assert classify["is_due"] is False
    assert str(classify["waits_until"]) > datetime.now(UTC).isoformat()
    call("resume")
    assert "classify and summarize: start `dagster-offload up`, or run `dagster-offload drain` now" in words(call)


def test_a_document_says_that_it_waits_for_a_server_that_gives_no_answer(
    call: Call, scanned: Path, router: Router
) -> None:
    router.stop()
    shown = words(call)
    assert "wait for deep: unavailable: connection refused; start `dagster-offload up`, which continues" in shown
    assert "connection refused; start `dagster-offload up`, which continues" in " ".join(call("status").stdout.split())


def test_a_document_without_a_slot_says_what_to_set(call: Call, scanned: Path) -> None:
    missing = "no deep slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL"
    assert f"classify and summarize wait for a slot: {missing}" in words(call)
    assert f"waiting: {missing}" in " ".join(call("status").stdout.split())


def test_a_document_whose_stage_is_held_is_due_in_its_other_stage(call: Call, scanned: Path, router: Router) -> None:
    assert call("drain", "--limit", "1").exit_code == 0
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger:
        hold_stage(ledger, "classify", "no_json", recipe=recipes(load_settings())["classify"])
        assert "summarize: start `dagster-offload up`" in words(call, "minutes.md")
        [_, classify, summarize] = explained(call, "minutes.md")
    assert (classify["held_by"], classify["is_due"], summarize["is_due"]) == ("deep", False, True)


def words(call: Call, document: str = "letter.txt") -> str:
    return " ".join(call("explain", document).stdout.split())


def explained(call: Call, document: str) -> list[dict[str, object]]:
    items: list[dict[str, object]] = json.loads(call("explain", document, "--json").stdout)["items"]
    return items


def test_work_in_progress_shows_no_reason_why_it_waited_before(call: Call, scanned: Path) -> None:
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        cur.execute("update work_items set reason = 'shorter documents go first' where stage = 'summarize'")
    assert "shorter documents go first" in words(call)
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        cur.execute("update work_items set state = 'claimed' where stage = 'summarize'")
    assert "shorter documents go first" not in words(call)


def call_about(part: str | None, *, outcome: str = "ok", stage: str = "summarize") -> ExplainedCall:
    at = datetime(2026, 11, 25, 14, 2, tzinfo=UTC)
    return ExplainedCall(at, stage, "deep", 1, "qwen", "qwen", "echoed", 900, 40, None, 2.0, outcome, part)


def test_calls_about_many_parts_are_summed_up_and_those_that_failed_are_shown() -> None:
    parts = [call_about(f"part {n} of 611") for n in range(1, 612)]
    failed = [call_about("part 255 of 611", outcome="http_500")]
    calls = [call_about(None, stage="classify"), *parts[:254], *failed, *parts[254:], call_about("merge 1 of 2")]
    shown = list(shortened(calls))
    assert [each.part if isinstance(each, ExplainedCall) else len(each.calls) for each in shown] == [
        None,
        "part 1 of 611",
        252,
        "part 254 of 611",
        "part 255 of 611",
        "part 255 of 611",
        356,
        "merge 1 of 2",
    ]


def test_the_row_of_calls_that_are_summed_up_has_their_tokens_and_seconds() -> None:
    calls = [call_about(f"part {n} of 7") for n in range(1, 8)]
    printed = StringIO()
    Console(width=200, file=printed).print(calls_table(calls))
    assert "summarize, 5 more calls about parts deep qwen (echoed) 4500 200 10.0 ok" in " ".join(
        printed.getvalue().split()
    )
