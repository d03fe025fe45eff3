"""Every command escapes harmful characters in document names and in answers of a router."""

import json
import logging
import os
import re
import unicodedata
from pathlib import Path

import pytest

from dagster_offload.drain import drain
from dagster_offload.ledger.core.database import Ledger
from tests.faults.raw_server import CompletionRequest, Connection, RawServer, completion, reply
from tests.support.cli import Call

NAME = "rent [bold]\u202efdp.txt"  # shown as `rent [bold]txt.pdf`
DRIVES = "\x1b]0;gone\x07\x9b2J\u202e\u2066"


def hostile(line: Connection, asked: CompletionRequest) -> bool:
    """Answer classify with an invalid record, and summarize with a record full of control characters."""
    if "category" in json.dumps(asked.body["messages"]):
        content = json.dumps({"category": f"no such class {DRIVES}"})
    else:
        content = json.dumps(
            {"title": f"Rent{DRIVES}\n" + "x" * 1000, "summary": f"Due.{DRIVES}", "key_points": [DRIVES]}
        )
    line.send(reply(200, completion(asked, content, model=f"mlx/evil{DRIVES}")))
    return True


@pytest.fixture
def drained(with_ledger: str, library: Path, caplog: pytest.LogCaptureFixture) -> None:
    from dagster_offload.engine.extraction.run import run_extraction
    from dagster_offload.engine.scan import scan
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.settings import load_settings

    caplog.set_level(logging.INFO)
    (library / NAME).write_text("The rent for May is due on Monday, by bank transfer, to the landlord as always.")
    settings = load_settings()
    with open_ledger(settings) as ledger:
        scan(settings, ledger)
        run_extraction(settings, ledger)
    with RawServer(hostile) as server:
        os.environ["OFFLOAD_DEEP_URL"], os.environ["OFFLOAD_DEEP_MODEL"] = server.url, "qwen-macbook"
        for _ in range(3):
            drain("all", 10)
            with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
                cur.execute("update work_items set not_before = null where state = 'pending'")


def harmful_in(text: str) -> list[str]:
    """Control and direction characters, found by Unicode category and class, not by the list that the product uses."""
    return [
        character
        for character in text
        if (unicodedata.category(character) == "Cc" and character not in "\n")
        or unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    ]


def test_no_command_shows_a_harmful_character(call: Call, drained: None, library: Path) -> None:
    outside = library.parent / "letter\u202e.txt"
    outside.write_text(f"The rent for May{DRIVES} is due on Monday, by bank transfer, to the landlord as always.")
    for command in (
        ["status"],
        ["status", "--json"],
        ["explain", NAME],
        ["explain", NAME, "--json"],
        ["explain", NAME, "--answer"],
        ["explain", NAME, "--answer", "--json"],
        ["slot", "show"],
        ["slot", "show", "--json"],
        ["explain", f"missing{DRIVES}"],
        ["explain", f"missing{DRIVES}", "--json"],
        ["retry", f"missing{DRIVES}"],
        ["retry", NAME, "--json"],
        ["records"],
        ["records", "--json"],
        ["records", NAME],
        ["records", NAME, "--text"],
        ["records", NAME, "--json"],
        ["records", "--format", "jsonl"],
        ["records", "--format", "csv"],
        ["records", "--format", "html"],
        ["records", f"missing{DRIVES}"],
        ["records", "--where", f"{DRIVES}=1"],
        ["records", "--where", f"title={DRIVES}"],
        ["records", "--search", DRIVES],
        ["records", "--state", DRIVES],
        ["records", "--changed-since", DRIVES],
        ["records", "--out", f"missing{DRIVES}/records.csv"],
        ["correct", NAME, "--set", f"title=Rent{DRIVES}"],
        ["correct", NAME, "--clear", "title"],
        ["correct", NAME, "--set", f"summary=Due{DRIVES}", "--note", f"note{DRIVES}"],
        ["correct", "--list"],
        ["correct", NAME, "--set", f"{DRIVES}=1"],
        ["redo", NAME],
        ["redo", f"missing{DRIVES}"],
        ["preview"],
        ["preview", "--json"],
        ["text", str(outside), str(library / NAME)],
        ["text", str(outside), str(library / NAME), "--json"],
        ["text", f"missing{DRIVES}"],
        ["stage", "list"],
        ["stage", "try", f"stage{DRIVES}", NAME],
        ["stage", "try", "summarize", f"missing{DRIVES}"],
        ["sink", "list"],
        ["sink", "test", f"sink{DRIVES}"],
        ["notify", "test", f"channel{DRIVES}"],
        ["slot", "show", f"slot{DRIVES}"],
        ["pause", f"slot{DRIVES}"],
        ["pause", "--until", DRIVES],
        ["config", "set", f"key{DRIVES}", "1"],
        ["drain", f"stage{DRIVES}"],
        ["status", "--home", f"home{DRIVES}"],
        [f"command{DRIVES}"],
        ["backup", f"missing{DRIVES}/file"],
        ["restore", f"missing{DRIVES}"],
        ["doctor", f"slot{DRIVES}"],
    ):
        result = call(*command)
        shown = result.output.replace("\r\n", "\n")  # the line ends of CSV
        assert not harmful_in(shown), command
        assert result.output, command
    assert "rent [bold]\\u202efdp.txt" in call("explain", NAME).output
    assert json.loads(call("explain", NAME, "--json").stdout)["document"] == NAME  # scripts get the original name


def test_retry_shows_names_without_a_harmful_character(call: Call, drained: None) -> None:
    shown = call("retry", "--all").output
    assert not harmful_in(shown)
    assert "rent [bold]\\u202efdp.txt  classify" in shown


def test_doctor_shows_a_servers_text_without_a_harmful_character(call: Call, with_ledger: str) -> None:
    with RawServer(hostile) as server:
        os.environ["OFFLOAD_DEEP_URL"], os.environ["OFFLOAD_DEEP_MODEL"] = server.url, "qwen-macbook"
        shown = call("doctor").output
    assert "mlx/evil" in shown
    assert not harmful_in(shown)


def test_no_record_holds_a_harmful_character(drained: None, with_ledger: str) -> None:
    with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
        cur.execute("select title, summary, key_points::text from records where document = %s", [NAME])
        (row,) = cur.fetchall()
    assert not harmful_in(json.dumps(row, ensure_ascii=False))
    assert row["summary"] == "Due.]0;gone2J"
    assert re.fullmatch("Rent\\]0;gone2J x+…", row["title"])
    assert len(row["title"]) == 300


def test_no_log_line_holds_a_harmful_character(drained: None, caplog: pytest.LogCaptureFixture) -> None:
    lines = [record.getMessage() for record in caplog.get_records("setup")]
    assert any("rent [bold]\\u202efdp.txt" in line for line in lines)
    assert not harmful_in("".join(lines))
