"""A whole run of `up` with a hostile router: no key anywhere, and document text only in the ledger and in previews.

The router repeats what it was sent in every answer and refusal, and so do the servers of a sink and of a channel. Each document
contains the word `MARKER`.
"""

import base64
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_offload.postgres.embedded.server import ensure_embedded
from dagster_offload.simulator import Router
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.faults.raw_server import CompletionRequest, Connection, RawServer, completion, reply
from tests.support.acceptance import Home
from tests.support.ledger_reader import LedgerReader
from tests.support.searching import Watch, files_in, files_with, rows, rows_without_previews
from tests.support.sink_servers import Answer, Request, serving
from tests.support.ui import UI, home_for

pytestmark = pytest.mark.timeout(1200)

MARKER = "zyxheron"
KEY, URL_PASSWORD, PRIMARY_KEY, PRIMARY_PASSWORD = KEYS = tuple(f"s3cret-{n}" for n in ("key", "url", "key2", "url2"))
HOOK_PATH, HOOK_TOKEN, HOOK_SECRET = HOOK = ("s3cret-path", "s3cret-token", "s3cret-signature")
SECRETS = (
    *KEYS,
    *HOOK,
    *(base64.b64encode(f"me:{password}".encode()).decode() for password in (URL_PASSWORD, PRIMARY_PASSWORD)),
)

ANSWERED = ["backfill-1.txt", "backfill-2.txt", "drained.txt", "materialized.txt", "open-at-the-crash.txt"]
PROSE, REFUSED, CUT = FAILING = ["prose.txt", "refused.txt", "cut.txt"]
BROKEN = ["broken.pdf", "broken.docx"]

# A program that prints what it is given, a webhook and a channel. None of them takes a record or a message.
PIPELINE = """
on_record:
  program: {command: [/bin/sh, -c, 'cat; cat >&2; exit 3']}
  hook: {webhook: "${HOOK_URL}", token: "${HOOK_TOKEN}", secret: "${HOOK_SECRET}"}
notify:
  phone: {webhook: "${HOOK_URL}", token: "${HOOK_TOKEN}", secret: "${HOOK_SECRET}"}
"""
EXPORTS = ("records.jsonl", "records.csv", "records.html", "records.parquet")


class Tattler:
    """A router that repeats the whole request, with its headers, in all that it answers."""

    def __init__(self) -> None:
        self.mode = "away"  # or `refuses the key`, `answers`, `silent`
        self.open_calls = 0

    def __call__(self, connection: Connection, request: CompletionRequest) -> bool:
        said = f"{json.dumps(request.body['messages'], ensure_ascii=False)} {request.headers}"
        if self.mode == "away":
            return _refuse(connection, 503, f"not now: {said}")
        if self.mode == "refuses the key":
            return _refuse(connection, 401, f"Incorrect API key provided: {request.headers['authorization']}. {said}")
        if self.mode == "silent":
            self.open_calls += 1
            connection.stay_silent()
            return False
        document = request.document or ""
        if f"in {PROSE}" in document:
            connection.send(reply(200, completion(request, f"I would rather say: {document}")))
        elif f"in {REFUSED}" in document:
            return _refuse(connection, 400, document)
        elif f"in {CUT}" in document:
            answer = reply(200, completion(request, document))
            connection.send(answer[:-20])
            return False
        else:
            connection.send(reply(200, completion(request)))
        return True


def tattle(request: Request) -> Answer:
    """Refuse what a sink or a channel sends, and repeat all of it."""
    return 400, {"detail": f"{request.path} {request.headers} {request.body.decode()}"}


def _refuse(connection: Connection, status: int, message: str) -> bool:
    connection.send(reply(status, json.dumps({"error": {"message": message}}).encode()))
    return True


@dataclass
class WholeRun:
    """The home after the run, and what was collected meanwhile."""

    home: Home
    watch: Watch
    router: RawServer


@pytest.fixture(scope="module")
def run() -> Iterator[WholeRun]:
    router = Tattler()
    with RawServer(router) as server, serving(tattle) as hook, Router() as unused, home_for(unused) as home:
        watch = Watch(home, _own_folders(home))
        write_documents(home.library)
        (home.folder / "exports").mkdir()
        write_settings(home, server, hook)
        play(home, router, watch)
        yield WholeRun(home, watch, server)


def _own_folders(home: Home) -> Path:
    """Put temporary files and the user's folder below the test's. Returns the temporary folder."""
    for variable, name in (("TMPDIR", "tmp"), ("HOME", "user")):
        folder = home.folder / name
        folder.mkdir()
        home.environment[variable] = str(folder)
    return home.folder / "tmp"


def write_documents(library: Path) -> None:
    for name in (*ANSWERED, *FAILING):
        sentence = f"The {MARKER} in {name} pays the rent for May on Friday, by bank transfer, as always. "
        (library / name).write_text(f"{sentence}\n\n" + sentence * 10)
    (library / "broken.pdf").write_bytes(f"%PDF-1.7\n1 0 obj << /Title ({MARKER}) >> stream {MARKER}".encode())
    with zipfile.ZipFile(library / "broken.docx", "w") as archive:
        archive.writestr("[Content_Types].xml", f"<Types><{MARKER}></Types>")
        archive.writestr("word/document.xml", f"<w:document><{MARKER} {MARKER}='{MARKER}'></w:document>")


def write_settings(home: Home, server: RawServer, hook: str) -> None:
    settings = {
        "OFFLOAD_DEEP_URL": server.url.replace("http://", f"http://me:{URL_PASSWORD}@"),
        "OFFLOAD_DEEP_MODEL": "qwen-macbook",
        "OFFLOAD_DEEP_API_KEY": KEY,
        "OFFLOAD_PRIMARY_URL": server.url.replace("http://", f"http://me:{PRIMARY_PASSWORD}@"),
        "OFFLOAD_PRIMARY_MODEL": "small",
        "OFFLOAD_PRIMARY_API_KEY": PRIMARY_KEY,
        "OFFLOAD_SCAN_INTERVAL": "1",
        "HOOK_URL": f"{hook}/{HOOK_PATH}",
        "HOOK_TOKEN": HOOK_TOKEN,
        "HOOK_SECRET": HOOK_SECRET,
    }
    (home.folder / "offload.yaml").write_text(PIPELINE)
    (home.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def play(home: Home, router: Tattler, watch: Watch) -> None:
    """An unavailable router, a refused key, a drain by the sensor, a run, a backfill, failing documents and a crash."""
    home.up()
    ui, ledger = UI(home), home.ledger
    watch.wait(lambda: ledger.count("done", EXTRACT) == len(ANSWERED) + len(FAILING), "the texts")
    waiting = ui.materialize("materialized.txt")
    watch.wait(lambda: ledger.count("deferred") > 0, "a deferral by the unavailable router")
    watch.wait(lambda: ui.waits(waiting) != [], "the run to wait")

    router.mode = "refuses the key"
    watch.run("slot", "set", "deep", "--try-again")
    watch.run("drain")
    watch.wait(lambda: ledger("select 1 from slots where breaker = 'misconfigured'") != [], "the refused key")
    watch.run("doctor")

    router.mode = "silent"
    watch.run("slot", "set", "deep", "--try-again")
    watch.wait(lambda: router.open_calls > 0, "an open call")
    home.kill_processes()  # including Postgres

    router.mode = "answers"
    home.up()
    watch.run("slot", "set", "deep", "--try-again")
    watch.wait(lambda: _done(ledger, ANSWERED), "the drain by the sensor")
    watch.wait(lambda: all(_failures(ledger, name) for name in FAILING), "a failure of each failing document")
    failing = ui.materialize(PROSE, SUMMARIZE)
    watch.wait(lambda: ui.waits(failing) != [], "the failing document's run to wait for the next attempt")
    backfill = ui.backfill(ANSWERED[:2])
    watch.wait(lambda: ui.backfill_status(backfill) == "COMPLETED_SUCCESS", "the backfill")
    watch.wait(lambda: len(_refused_by_sinks(ledger)) == 2, "a refusal by both sinks")
    watch.wait(lambda: ledger("select 1 from notifications where reason is not null") != [], "a refused message")
    for command in ("status", "doctor", "scan", "drain"):
        watch.run(command)
    sends = [
        (group, *what)
        for group, name in (("sink", "hook"), ("notify", "phone"))
        for what in (("list",), ("list", "--json"), ("test", name), ("send",))
    ]
    exports = [("records", "--out", f"exports/{name}") for name in EXPORTS]
    explained = [("explain", name) for name in (*ANSWERED, *FAILING, *BROKEN)]
    watch.run_in_one_process(
        *sends,
        *exports,
        ("records", "--format", "md", "--out", "exports/notes"),
        ("status", "--json"),
        ("slot", "show", "--json"),
        *explained,
    )
    watch.wait(lambda: home.status()["events_pending"] == 0, "the report to Dagster")


def _done(ledger: LedgerReader, documents: list[str]) -> bool:
    items = [ledger.items(document) for document in documents]
    return all(item[stage]["state"] == "done" for item in items for stage in (CLASSIFY, SUMMARIZE))


def _refused_by_sinks(ledger: LedgerReader) -> list[dict[str, Any]]:
    return ledger("select distinct sink from deliveries where reason is not null")


def _failures(ledger: LedgerReader, document: str) -> bool:
    """Whether a call about the document was made and not recorded as answered."""
    return bool(
        ledger("select 1 from calls join documents using (document_id) where key = %s and outcome <> 'ok'", document)
    )


def test_the_searches_find_what_is_there(run: WholeRun) -> None:
    assert files_with(SECRETS, run.home.folder, without=[]) == [run.home.folder / ".env"]
    assert files_with([MARKER], run.home.home / "postgres" / "data", without=[])
    assert any(KEY in request.headers["authorization"] for request in run.router.requests)
    assert any(MARKER in (request.document or "") for request in run.router.requests)


def test_no_key_and_no_password_is_in_a_file(run: WholeRun) -> None:
    assert files_with(SECRETS, run.home.folder, without=[run.home.folder / ".env"]) == []


def test_document_text_is_in_no_file_but_the_ledgers(run: WholeRun) -> None:
    data, exports = run.home.home / "postgres" / "data", run.home.folder / "exports"
    assert files_with([MARKER], run.home.folder, without=[run.home.library, data, exports]) == []


def test_an_export_holds_the_records_and_only_its_owner_can_read_it(run: WholeRun) -> None:
    exports = run.home.folder / "exports"
    written = [path for path, _ in files_in(exports)]
    assert {path.name for path in written} >= {*EXPORTS, "drained.txt.md"}
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    assert len(files_with([MARKER], exports, without=[])) >= len(EXPORTS) - 1  # Parquet is compressed


def test_no_command_line_no_output_and_no_temporary_file_has_a_key_or_document_text(run: WholeRun) -> None:
    watch = run.watch
    assert len(watch.command_lines) >= 6, "the code server, the daemon, the UI, Postgres, a run and `up` itself"
    seen = [*watch.command_lines, *watch.output, run.home.said, *map(repr, watch.temporary_files.items())]
    assert [text for text in seen if any(word in text for word in (*SECRETS, MARKER))] == []


def test_dagsters_tables_have_no_key_and_document_text_only_in_previews(run: WholeRun) -> None:
    with psycopg.connect(ensure_embedded(run.home.home)) as connection:
        found = list(rows(connection, "offload_dagster"))
        others = list(rows_without_previews(connection, "offload_dagster"))
    assert any(MARKER in row for _, row in found), "previews show text"
    assert [(table, row) for table, row in found if any(secret in row for secret in SECRETS)] == []
    assert [(table, row) for table, row in others if MARKER in row] == []


def test_the_ledger_has_no_key(run: WholeRun) -> None:
    with psycopg.connect(ensure_embedded(run.home.home)) as connection:
        found = list(rows(connection, "offload"))
    assert any(MARKER in row for _, row in found)
    assert [(table, row) for table, row in found if any(secret in row for secret in SECRETS)] == []
