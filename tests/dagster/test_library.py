"""Job `scan` and its sensor: partitions equal to documents, and a scan only when something differs."""

import json
import time

import dagster as dg
import pytest

from dagster_offload.defs.in_process import run_in_process
from dagster_offload.errors import LibraryMissing, ScanRefused
from dagster_offload.ledger.core.workers import Worker
from tests.support.edge import Edge

LONG_AGO = json.dumps({"looked_at": 0.0})


def tick(edge: Edge, cursor: str | None = None) -> dg.RunRequest | str:
    return edge.tick("library_sensor", cursor)


def settle(edge: Edge) -> None:
    """Let the last scan lie far enough behind the files' times to trust their stats."""
    with edge.ledger.transaction() as cur:
        cur.execute("update documents set digested_at = digested_at + interval '1 minute'")


@pytest.mark.rule("library-4")
def test_a_scan_makes_the_partitions_equal_to_the_documents(edge: Edge) -> None:
    edge.write(a="One.", b="Two.", c="Three.")
    edge.scan()
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt", "b.txt", "c.txt"]
    assert edge.settings.library is not None
    (edge.settings.library / "b.txt").unlink()
    edge.write(d="Four.")
    edge.instance.add_dynamic_partitions("documents", ["invented.txt"])
    result = edge.scan()
    assert edge.instance.get_dynamic_partitions("documents") == ["a.txt", "c.txt", "d.txt"]
    assert {name: result.output_for_node("scan_library")[name] for name in ("found", "added", "vanished")} == {
        "found": 3,
        "added": 1,
        "vanished": 1,
    }


def test_a_scan_takes_the_text_under_its_own_run(edge: Edge) -> None:
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


def test_a_library_that_is_gone_fails_the_scan_and_changes_nothing(edge: Edge) -> None:
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
    assert run_in_process(edge.defs, edge.instance, "scan", accept_vanished=True).summary["vanished"] == 1
    assert edge.instance.get_dynamic_partitions("documents") == []


def test_a_new_file_launches_a_scan_that_says_why(edge: Edge) -> None:
    edge.write(a="One.")
    request = tick(edge)
    assert isinstance(request, dg.RunRequest)
    assert request.tags["dagster_offload/why"] == "1 new or changed, 0 gone, of 1 files"


def test_an_unchanged_library_is_said_and_launches_nothing(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    settle(edge)
    assert tick(edge) == "the library is as the ledger has it; 0 documents wait for extraction"


def test_between_two_looks_the_library_is_left_alone(edge: Edge) -> None:
    edge.write(a="One.")
    assert "next look at the library in" in str(tick(edge, json.dumps({"looked_at": time.time()})))
    assert isinstance(tick(edge, LONG_AGO), dg.RunRequest)


def test_a_clock_that_was_set_back_stops_no_look(edge: Edge) -> None:
    edge.write(a="One.")
    assert isinstance(tick(edge, json.dumps({"looked_at": time.time() + 1e6})), dg.RunRequest)


def test_extraction_that_is_due_launches_a_scan(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    settle(edge)
    with edge.ledger.transaction() as cur:
        cur.execute("update work_items set state = 'pending' where stage = 'extract'")
    request = tick(edge)
    assert isinstance(request, dg.RunRequest)
    assert request.tags["dagster_offload/why"] == "1 document waits for extraction"


def test_a_scan_at_work_is_waited_for(edge: Edge) -> None:
    edge.write(a="One.")
    with Worker(edge.ledger, "scan", ("extract",)):
        assert "1 scan is at work" in str(tick(edge))


def test_a_missing_library_is_said_and_does_not_fail_the_tick(edge: Edge) -> None:
    assert edge.settings.library is not None
    edge.settings.library.rmdir()
    assert str(edge.settings.library) in str(tick(edge))


def test_a_scan_that_was_refused_is_not_launched_again_for_the_same_files(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    assert edge.settings.library is not None
    (edge.settings.library / "a.txt").unlink()
    request = tick(edge)
    assert isinstance(request, dg.RunRequest)
    job = edge.defs.resolve_job_def("scan")
    assert not job.execute_in_process(instance=edge.instance, tags=request.tags, raise_on_error=False).success
    assert "failed, see why there" in str(tick(edge))
    edge.write(b="Two.")
    assert isinstance(tick(edge), dg.RunRequest)
