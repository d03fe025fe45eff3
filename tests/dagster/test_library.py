"""Job `scan` and its sensor: one partition per document, and a scan only when the library differs."""

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import psycopg
import pytest

from dagster_offload.defs import library
from dagster_offload.defs.execution.in_process import run_in_process
from dagster_offload.engine import library_look
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.progress import ProgressCounts
from dagster_offload.engine.scan import library_differs
from dagster_offload.errors import LibraryMissing, NoRoom, OtherPipeline, ScanRefused
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.reports import news
from dagster_offload.ledger.reports.activity import failed_scan
from dagster_offload.service.event_lines import lines
from dagster_offload.settings import Settings
from tests.support.connections import counting_ledger_connections
from tests.support.edge import OF_LOCATION, Edge, failure_message
from tests.support.patience import PATIENCE_SECONDS

LONG_AGO = json.dumps({"looked_at": 0.0})


def tick(edge: Edge, cursor: str | None = None) -> dg.RunRequest | str:
    return edge.tick("library_sensor", cursor)


def settle(edge: Edge) -> None:
    """Date the last scan long enough after the files' changes that their sizes and times can be trusted."""
    with edge.ledger.transaction() as cur:
        cur.execute("update documents set digested_at = digested_at + interval '1 minute'")


@pytest.mark.rule("library-4")
def test_after_a_scan_each_document_has_one_partition(edge: Edge) -> None:
    edge.write(a="One.", b="Two.", c="Three.")
    edge.scan()
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt", "b.txt", "c.txt"]
    assert edge.settings.library is not None
    (edge.settings.library / "b.txt").unlink()
    edge.write(d="Four.")
    result = edge.scan()
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt", "c.txt", "d.txt"]
    summary = result.output_for_node("scan_library")
    assert (summary.found, summary.added, summary.vanished) == (3, 1, 1)


@pytest.mark.rule("library-4")
def test_a_key_that_a_person_typed_is_kept_until_its_run_can_have_been_launched(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    edge.instance.add_dynamic_partitions("documents", ["typed.txt"])
    for _ in range(3):
        edge.scan()
        assert edge.instance.get_dynamic_partitions("documents") == ["a.txt", "typed.txt"]
    result = edge.materialize("typed.txt", stages=["classify"])
    assert failure_message(result) == "no such document: typed.txt"
    with edge.ledger.transaction() as cur:
        cur.execute("update typed_keys set first_seen = first_seen - interval '10 minutes'")
    edge.scan()
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt"]


@pytest.mark.parametrize("tag", ["dagster/partition", "dagster/asset_partition_range_start"])
def test_the_partition_of_a_vanished_document_stays_until_the_run_that_names_it_has_ended(edge: Edge, tag: str) -> None:
    edge.write(a="One.", b="Two.")
    edge.scan()
    run = dg.DagsterRun(job_name="anything", tags={tag: "b.txt"}, status=dg.DagsterRunStatus.STARTED)
    edge.instance.add_run(run)
    assert edge.settings.library is not None
    (edge.settings.library / "b.txt").unlink()
    edge.scan()
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt", "b.txt"]
    edge.instance.report_run_canceled(run)
    edge.scan()
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt"]


@pytest.mark.rule("library-4")
def test_a_long_look_at_the_library_is_continued_by_the_next_ticks(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    edge.write(a="One.")
    looks, walked = list[object](), threading.Event()

    def walk_slowly(*arguments: Any) -> str | None:
        looks.append(arguments)
        assert walked.wait(PATIENCE_SECONDS)
        return library_differs(*arguments)

    monkeypatch.setattr(library_look, "library_differs", walk_slowly)
    monkeypatch.setattr(library, "LONGEST_WAIT_SECONDS", 0.01)
    for _ in range(2):
        assert "the library has been looked at for" in str(tick(edge))
    walked.set()
    monkeypatch.setattr(library, "LONGEST_WAIT_SECONDS", PATIENCE_SECONDS)
    assert isinstance(tick(edge), dg.RunRequest)
    assert len(looks) == 1


def test_old_history_that_cannot_be_removed_holds_up_no_scan(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> bool:
        raise psycopg.errors.ForeignKeyViolation("a row is in use")

    edge.write(a="One.")
    monkeypatch.setattr(library, "keep_small", broken)
    assert isinstance(tick(edge), dg.RunRequest)


def test_a_scan_records_the_text_under_its_own_run(edge: Edge) -> None:
    edge.write(a="One.", b="Two.")
    run_id = edge.scan().run_id
    assert {(m.run_id, m.partition_key) for m in edge.materializations("extract")} == {
        (run_id, "a.txt"),
        (run_id, "b.txt"),
    }


def test_a_copied_file_is_recorded_under_the_scan_that_found_it(edge: Edge) -> None:
    edge.write(a="One and the same.")
    edge.scan()
    edge.run_job("drain")
    edge.write(copy="One and the same.")
    run_id = edge.scan().run_id
    (record,) = edge.materializations("classify", "copy.txt")
    assert record.run_id == run_id
    assert record.asset_materialization is not None
    assert record.asset_materialization.metadata["reused_from"].value == "a.txt"
    assert len(edge.router.completions()) == 2


def test_a_missing_library_fails_the_scan_and_changes_nothing(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    assert edge.settings.library is not None
    edge.settings.library.rename(edge.settings.library.with_name("unmounted"))
    with pytest.raises(LibraryMissing):
        run_in_process(edge.defs, edge.instance, "scan")
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt"]


def test_an_emptied_library_is_refused_until_a_person_accepts_it(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    assert edge.settings.library is not None
    (edge.settings.library / "a.txt").unlink()
    with pytest.raises(ScanRefused):
        run_in_process(edge.defs, edge.instance, "scan")
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt"]
    assert run_in_process(edge.defs, edge.instance, "scan", accept_vanished=True).vanished == 1
    assert edge.instance.get_dynamic_partitions("documents") == []


def during_ocr(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let `act` happen while the scan's extraction reads pages."""

    def extract_later(*given: Any, look_for_files: Callable[[], None], **options: Any) -> ProgressCounts:
        act()
        look_for_files()
        return run_extraction(*given, **options)

    monkeypatch.setattr("dagster_offload.defs.library.run_extraction", extract_later)


@pytest.mark.rule("extract-1")
def test_a_file_that_arrives_during_ocr_is_added_by_the_running_scan(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.write(a="One.")
    during_ocr(monkeypatch, lambda: edge.write(b="Two."))
    edge.scan()
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt", "b.txt"]
    assert edge.partitions_done("extract") == {"a.txt", "b.txt"}


@pytest.mark.parametrize("refusal", [NoRoom("the disk is full"), OtherPipeline("`up` has another pipeline")])
def test_a_scan_that_is_refused_during_ocr_does_not_end_the_run(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    def refuse(_settings: Settings) -> None:
        raise refusal

    def arrive() -> None:
        edge.write(b="Two.")
        monkeypatch.setattr("dagster_offload.engine.scan.refuse_without_room", refuse)

    edge.write(a="One.")
    during_ocr(monkeypatch, arrive)
    edge.scan()
    assert edge.partitions_done("extract") == {"a.txt"}


def test_a_library_that_vanishes_during_ocr_does_not_end_the_scan(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    edge.write(a="One.")
    assert edge.settings.library is not None
    folder = edge.settings.library
    during_ocr(monkeypatch, lambda: (folder / "a.txt").rename(folder / ".a"))
    edge.scan()
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt"]


def test_a_new_file_launches_a_scan_tagged_with_the_reason(edge: Edge) -> None:
    edge.write(a="One.")
    request = tick(edge)
    assert isinstance(request, dg.RunRequest)
    assert request.tags["why"] == "1 new or changed, 0 gone, of 1 files"


def test_an_unchanged_library_is_reported_and_launches_nothing(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    settle(edge)
    assert tick(edge) == "the library is unchanged; 0 documents are due for extraction"


def test_the_library_is_not_checked_before_the_interval_is_over(edge: Edge) -> None:
    edge.write(a="One.")
    assert "next check of the library in" in str(tick(edge, json.dumps({"looked_at": time.time()})))
    assert isinstance(tick(edge, LONG_AGO), dg.RunRequest)


def test_a_tick_one_interval_after_the_last_one_checks_whatever_the_calls_to_it_took(edge: Edge) -> None:
    edge.write(a="One.")
    a_little_less = time.time() - edge.settings.library_section.scan_interval + 0.5
    assert isinstance(tick(edge, json.dumps({"looked_at": a_little_less})), dg.RunRequest)


def test_a_tick_that_finds_nothing_opens_no_connection_and_not_the_instance(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    settle(edge)
    edge.tick_without_instance("library_sensor")  # the first tick opens the ledger
    with counting_ledger_connections() as opened:
        assert "the library is unchanged" in edge.tick_without_instance("library_sensor")
    assert opened == []


def test_a_clock_that_was_set_back_does_not_stop_the_checks(edge: Edge) -> None:
    edge.write(a="One.")
    assert isinstance(tick(edge, json.dumps({"looked_at": time.time() + 1e6})), dg.RunRequest)


def test_due_extraction_launches_a_scan(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    settle(edge)
    with edge.ledger.transaction() as cur:
        cur.execute("update work_items set state = 'pending' where stage = 'extract'")
    request = tick(edge)
    assert isinstance(request, dg.RunRequest)
    assert request.tags["why"] == "1 document is due for extraction"


def test_no_second_scan_is_launched_beside_a_running_one(edge: Edge) -> None:
    edge.write(a="One.")
    with Worker(edge.ledger, "scan", ("extract",)):
        assert "a scan is running" in str(tick(edge))


def test_a_missing_library_is_reported_and_does_not_fail_the_tick(edge: Edge) -> None:
    assert edge.settings.library is not None
    edge.settings.library.rmdir()
    assert str(edge.settings.library) in str(tick(edge))


@pytest.mark.rule("disk-1")
def test_a_full_disk_launches_no_scan(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    edge.write(a="One.")
    # The disk of this test's Postgres is not that of a home.
    monkeypatch.setattr(
        "dagster_offload.defs.library.shortage_of", lambda _settings: "the disk is full: free some space"
    )
    assert tick(edge) == "the disk is full: free some space"


def test_a_refused_scan_is_not_launched_again_for_the_same_files(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    assert edge.settings.library is not None
    (edge.settings.library / "a.txt").unlink()
    request = tick(edge)
    assert isinstance(request, dg.RunRequest)
    job = edge.defs.resolve_job_def("scan")
    tags = {**request.tags, **OF_LOCATION}
    assert not job.execute_in_process(instance=edge.instance, tags=tags, raise_on_error=False).success
    edge.start_run(dg.DagsterRunStatus.SUCCESS, job_name="scan", location="another")  # does not hide ours
    assert "failed: see its log" in str(tick(edge))
    (refused,) = edge.instance.get_run_ids(dg.RunsFilter(job_name="scan", statuses=[dg.DagsterRunStatus.FAILURE]))
    edge.make_run_older(refused, minutes=-60)
    assert isinstance(tick(edge), dg.RunRequest), "the clock was set back since then"
    edge.make_run_older(refused, minutes=60)
    edge.write(b="Two.")
    assert isinstance(tick(edge), dg.RunRequest)


@pytest.mark.parametrize("minutes", [0, 1])
def test_a_scan_that_failed_before_its_step_is_launched_again_soon(edge: Edge, minutes: int) -> None:
    edge.write(a="One.")
    request = tick(edge)
    assert isinstance(request, dg.RunRequest)
    dropped = edge.start_run(dg.DagsterRunStatus.FAILURE, {**request.tags, **OF_LOCATION}, job_name="scan")
    edge.make_run_older(dropped, minutes=minutes)
    again = tick(edge)
    if minutes:
        assert isinstance(again, dg.RunRequest)
    else:
        assert "failed: see its log" in str(again)
        assert re.search(r"next try in [1-3]?\d s", str(again))


def test_a_scan_that_failed_is_told_once_until_the_next_one_is_due(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    assert edge.settings.library is not None
    (edge.settings.library / "a.txt").unlink()
    marks = edge.ledger.run(news.begin, None)
    refused = edge.run_job("scan")
    assert not refused.success
    now, marks = edge.ledger.run(news.read, marks)
    (line,) = [line for line in lines(news.News(), now) if line.startswith("scan: failed")]
    assert line.startswith("scan: failed, and tried again by ")
    assert "if files still differ: no document found in " in line
    assert line.endswith(" --accept-vanished")
    assert edge.ledger.run(news.read, marks)[0].failed_scan is None
    edge.make_run_older(refused.run_id, minutes=11)
    assert edge.ledger.run(failed_scan) is None
