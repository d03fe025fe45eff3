"""Materialized selections and backfills in a real instance: results, events, waits and failures."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG

from dagster_offload.definitions import build_definitions
from dagster_offload.defs.checks import NAME as CHECK
from dagster_offload.defs.names import REDO_TAG, RESULT_TAG, names_of
from dagster_offload.defs.runs import RanOn
from dagster_offload.host.machine import boot_id, host_name
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import Settings, SlotSettings, SlotsSection, load_settings
from dagster_offload.stages.catalog import code_versions
from dagster_offload.stages.graph import BUILT_IN
from tests.support.edge import Edge, failure_message
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stages import DRAIN_STAGES, STAGE_NAMES

LLM = DRAIN_STAGES
KEYS = names_of(BUILT_IN).keys


@pytest.fixture
def three(edge: Edge) -> Edge:
    """An edge with three scanned documents."""
    edge.write(a="Invoice for 3 chairs. Total 300 EUR.", b="Dear landlord, it is cold.", c="Minutes of the meeting.")
    edge.scan()
    return edge


def event_types(edge: Edge, run_id: str) -> list[str]:
    return [
        record.event_log_entry.dagster_event.event_type_value
        for record in edge.instance.get_records_for_run(run_id).records
        if record.event_log_entry.dagster_event is not None
    ]


def test_one_document_is_classified_and_summarized_under_the_run(three: Edge) -> None:
    result = three.materialize("b.txt", stages=LLM)
    assert result.success
    for stage in LLM:
        (record,) = three.materializations(stage)
        assert (record.run_id, record.partition_key) == (result.run_id, "b.txt")
    assert len(three.router.completions()) == 2


def test_each_document_of_a_range_is_recorded(three: Edge) -> None:
    result = three.materialize("a.txt", "b.txt", stages=["summarize"])
    assert result.success
    assert three.partitions_done("summarize") == {"a.txt", "b.txt"}
    assert three.partitions_done("classify") == set()
    assert "STEP_OUTPUT" not in event_types(three, result.run_id)


def test_all_three_assets_are_one_step_that_extracts_the_text_first(edge: Edge) -> None:
    edge.write(a="A letter about chairs.")
    edge.scan()
    edge.write(b="A contract about tables.")
    with edge.ledger.transaction() as cur:  # as if the scan had been stopped before the extraction
        cur.execute("delete from outbox")
        cur.execute("delete from work_items where stage <> 'extract'")
        cur.execute("update work_items set state = 'pending', result_id = null, outcome = null")
        cur.execute("delete from results")
    result = edge.materialize("a.txt")
    assert result.success
    assert {stage: edge.partitions_done(stage) for stage in STAGE_NAMES} == {stage: {"a.txt"} for stage in STAGE_NAMES}
    assert {edge.materializations(stage)[0].run_id for stage in STAGE_NAMES} == {result.run_id}


def test_text_is_extracted_while_the_slot_is_unavailable(three: Edge) -> None:
    three.router.set(mode="cold")
    result = three.materialize("a.txt", stages=["extract"])
    assert result.success
    assert three.materializations("extract", "a.txt")[0].run_id == result.run_id
    assert three.router.completions() == []


def test_the_run_is_tagged_with_host_and_boot(three: Edge) -> None:
    result = three.materialize("a.txt", stages=LLM)
    run = three.instance.get_run_by_id(result.run_id)
    assert run is not None
    ran_on = RanOn.of(run.tags)
    assert ran_on is not None
    assert (ran_on.host, ran_on.boot) == (host_name(), boot_id())


def test_each_document_gets_its_check_evaluation_without_a_query_of_dagster_for_each(
    three: Edge, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dg.DagsterInstance, "fetch_materializations", pytest.fail)
    sections = settings.slots_section
    expecting = sections.deep.model_copy(update={"expected_model": "extractive"})
    changed = settings.model_copy(update={"slots_section": sections.model_copy(update={"deep": expecting})})
    edge = Edge(changed, three.ledger, three.instance, three.router, build_definitions(lambda: changed))
    result = edge.materialize("a.txt", "b.txt", stages=LLM)
    evaluations = [e for e in result.get_asset_check_evaluations() if e.check_name == CHECK]
    assert {(e.asset_key, e.partition, e.passed) for e in evaluations} == {
        (KEYS[stage], key, True) for stage in LLM for key in ("a.txt", "b.txt")
    }
    assert {e.description for e in evaluations} == {"reported: `simulated/extractive-8bit`, as expected"}


def test_without_an_expected_model_there_is_no_check_of_it(three: Edge) -> None:
    result = three.materialize("a.txt", stages=LLM)
    assert {e.check_name for e in result.get_asset_check_evaluations()} == {"documents_that_need_you"}


@pytest.mark.rule("drain-5")
def test_documents_that_a_drain_finished_during_a_wait_are_recorded_under_the_run_without_a_call(
    three: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_drained, sleep = threading.Event(), ActiveExecution.sleep_til_ready

    def sleep_until_drained(execution: ActiveExecution) -> None:
        assert is_drained.wait(PATIENCE_SECONDS)
        sleep(execution)

    monkeypatch.setattr(ActiveExecution, "sleep_til_ready", sleep_until_drained)
    three.router.set(mode="cold")
    run_id = str(uuid.uuid4())
    is_waiting = three.listen_for("STEP_UP_FOR_RETRY", run_id)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(three.materialize, "a.txt", "c.txt", stages=LLM, run_id=run_id)
        assert is_waiting.wait(PATIENCE_SECONDS)
        three.router.set(mode="awake")
        with three.ledger.transaction() as cur:
            slots.try_again(cur, "deep", "the test woke it")
        drained = three.run_job("drain")
        is_drained.set()
        result = waiting.result()
    assert drained.output_for_node("drain_backlog").done == 3
    assert result.success
    log = [record.event_log_entry.user_message for record in three.instance.get_records_for_run(run_id).records]
    assert [line for line in log if "0 of 3 documents are done; waiting: deep is unavailable: upstream_cold" in line]
    for stage in LLM:
        of_run = [record for record in three.materializations(stage) if record.run_id == run_id]
        assert sorted(str(record.partition_key) for record in of_run) == ["a.txt", "b.txt", "c.txt"]
    with three.ledger.transaction() as cur:
        calls = cur.execute("select outcome from calls where item_id is not null").fetchall()
    assert sorted(call["outcome"] == "ok" for call in calls).count(True) == 6


def test_every_event_of_an_asset_has_its_partition(three: Edge) -> None:
    three.materialize("a.txt", stages=LLM)
    three.materialize("a.txt", "c.txt")
    three.run_job("drain")
    partitions: dict[str, set[str | None]] = {}
    for run in three.instance.get_runs():
        for record in three.instance.get_records_for_run(run.run_id).records:
            event = record.event_log_entry.dagster_event
            if event is not None and event.asset_key is not None:
                partitions.setdefault(event.event_type_value, set()).add(event.partition)
    documents = {"a.txt", "b.txt", "c.txt"}
    assert partitions["ASSET_MATERIALIZATION_PLANNED"] == partitions["ASSET_MATERIALIZATION"] == documents


def test_a_materialization_has_the_current_code_version_and_metadata(three: Edge) -> None:
    three.run_job("drain")
    (record,) = three.materializations("classify", "a.txt")
    materialization = record.asset_materialization
    assert materialization is not None
    tags = materialization.tags or {}
    assert tags["dagster/code_version"] == code_versions(load_settings())["classify"]
    assert tags["dagster/data_version"]
    assert tags[RESULT_TAG] == str(materialization.metadata["result"].value)
    assert materialization.metadata["category"].value == "invoice"
    assert materialization.metadata["model_evidence"].value == "reported"


def test_a_key_without_a_document_fails_the_run_by_name_and_leaves_no_rows(three: Edge) -> None:
    three.instance.add_dynamic_partitions("documents", ["invented.txt"])
    result = three.materialize("invented.txt", stages=LLM)
    assert not result.success
    assert failure_message(result) == "no such document: invented.txt"
    with three.ledger.transaction() as cur:
        assert cur.execute("select * from documents where key = 'invented.txt'").fetchall() == []
        assert cur.execute("select * from workers where kind = 'run'").fetchall() == []
    assert three.router.completions() == []


def test_documents_beside_an_unknown_key_are_processed(three: Edge) -> None:
    three.instance.add_dynamic_partitions("documents", ["invented.txt"])
    result = three.materialize("c.txt", "invented.txt", stages=["classify"])
    assert failure_message(result) == "no such document: invented.txt"
    assert three.partitions_done("classify") == {"c.txt"}


def test_a_broken_file_fails_the_run_and_the_other_documents_are_recorded(edge: Edge) -> None:
    edge.write(good="A report about chairs.")
    assert edge.settings.library is not None
    (edge.settings.library / "broken.pdf").write_bytes(b"%PDF-1.7 this is no pdf")
    edge.scan()
    result = edge.materialize("broken.pdf", "good.txt", stages=LLM)
    assert not result.success
    assert failure_message(result).startswith("1 of 2 documents failed: broken.pdf: extract failed (")
    assert edge.partitions_done("classify") == {"good.txt"}


def test_a_lost_slot_fails_the_run_with_the_next_step(three: Edge, settings: Settings) -> None:
    small = SlotSettings(url=three.router.url, model="small")
    without = settings.model_copy(update={"slots_section": SlotsSection(primary=small)})
    lost = Edge(without, three.ledger, three.instance, three.router, build_definitions(lambda: without))
    result = lost.materialize("a.txt", stages=LLM)
    assert "dagster-offload slot forget deep" in failure_message(result)
    assert three.router.completions() == []
    assert "STEP_UP_FOR_RETRY" not in event_types(three, result.run_id)


def test_a_run_without_any_slot_fails_and_names_the_setting(edge: Edge, settings: Settings) -> None:
    without = settings.model_copy(update={"slots_section": SlotsSection()})
    bare = Edge(without, edge.ledger, edge.instance, edge.router, build_definitions(lambda: without))
    bare.write(a="A letter.")
    bare.scan()
    result = bare.materialize("a.txt", stages=LLM)
    assert "OFFLOAD_DEEP_URL" in failure_message(result)


def test_no_event_is_pending_when_a_run_ends(three: Edge) -> None:
    three.materialize("a.txt", "c.txt")
    assert three.ledger.run(outbox.count_pending) == 0


def test_a_run_redoes_done_documents_only_if_its_tag_says_so(three: Edge) -> None:
    assert three.materialize("a.txt", stages=["summarize"]).success
    before = len(three.router.completions())
    assert three.materialize("a.txt", stages=["summarize"]).success
    assert three.materialize("a.txt", stages=["summarize"], tags={REDO_TAG: "outdated"}).success
    assert len(three.router.completions()) == before
    result = three.materialize("a.txt", stages=["summarize"], tags={REDO_TAG: "all"})
    assert result.success
    assert len(three.router.completions()) == before + 1
    assert three.materializations("summarize", "a.txt")[0].run_id == result.run_id


def test_a_run_that_is_executed_again_does_not_redo_what_it_redid(three: Edge) -> None:
    assert three.materialize("a.txt", "c.txt", stages=["summarize"]).success
    first = three.materialize("a.txt", stages=["summarize"], tags={REDO_TAG: "all"})
    before = len(three.router.completions())
    again = {REDO_TAG: "all", ROOT_RUN_ID_TAG: first.run_id, PARENT_RUN_ID_TAG: first.run_id}
    assert three.materialize("a.txt", "c.txt", stages=["summarize"], tags=again).success
    assert len(three.router.completions()) == before + 2, "a.txt was redone by the first run"


def test_a_run_that_waits_redoes_its_documents_once(three: Edge) -> None:
    assert three.materialize("a.txt", stages=["summarize"]).success
    before = len(three.router.completions())
    three.router.set(mode="cold")
    run_id = str(uuid.uuid4())
    is_waiting = three.listen_for("STEP_UP_FOR_RETRY", run_id)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(three.materialize, "a.txt", stages=["summarize"], tags={REDO_TAG: "all"}, run_id=run_id)
        assert is_waiting.wait(PATIENCE_SECONDS)
        three.router.set(mode="awake")
        with three.ledger.transaction() as cur:
            slots.try_again(cur, "deep", "the test woke it")
        assert run.result().success
    assert (
        len([entry for entry in three.router.completions()[before:] if entry["status"] == 200 and entry["document"]])
        == 1
    )


def test_a_run_retries_failed_documents_only_if_its_tag_says_so(three: Edge) -> None:
    with three.ledger.transaction() as cur:
        cur.execute(
            "update work_items set state = 'failed', attempts = 3, reason = 'no_json: the answer holds no JSON object' "
            "where stage = 'summarize' and document_id = (select document_id from documents where key = 'a.txt')"
        )
    assert not three.materialize("a.txt", stages=["summarize"]).success
    assert three.router.completions() == []
    assert three.materialize("a.txt", stages=["summarize"], tags={REDO_TAG: "failed"}).success


def test_the_tag_also_ends_the_wait_for_the_next_attempt(three: Edge) -> None:
    with three.ledger.transaction() as cur:
        cur.execute(
            "update work_items set attempts = 1, not_before = clock_timestamp() + interval '1 hour' "
            "where stage = 'summarize'"
        )
    assert three.materialize("a.txt", stages=["summarize"], tags={REDO_TAG: "failed"}).success


def test_a_wrong_value_of_the_redo_tag_fails_the_run_and_names_the_values(three: Edge) -> None:
    result = three.materialize("a.txt", stages=["summarize"], tags={REDO_TAG: "yes"})
    assert not result.success
    assert "set it to outdated, all or failed" in failure_message(result)
