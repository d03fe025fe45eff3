"""Reports to Dagster: a batch stores what `log_event` stores, at least once, and only once if that can be checked."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from dagster_offload.defs import events
from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.names import DRAIN_STEP, RESULT_TAG, names_of
from dagster_offload.defs.shown import documents
from dagster_offload.ledger.core.rows import PendingEvent
from dagster_offload.ledger.events import outbox
from dagster_offload.settings import load_settings
from dagster_offload.stage_spec.stage import StageSpec
from dagster_offload.stages.catalog import code_versions
from dagster_offload.stages.graph import BUILT_IN, StageGraph
from dagster_offload.stages.own_graph import with_own_stages
from tests.support.connections import recording_statements
from tests.support.edge import Edge
from tests.support.stages import STAGE_NAMES

KEYS = names_of(BUILT_IN).keys


def facts(recipes: dict[str, str]) -> documents.StageFacts:
    return documents.StageFacts(BUILT_IN, recipes, code_versions(load_settings()))


PENDING = PendingEvent(
    event_id=1,
    result_id=7,
    document='회사 문서/a, "b" <script>.pdf',
    stage="summarize",
    run_id=None,
    is_in_doubt=False,
    outcome="ok",
    output_digest="d" * 64,
    recipe="r" * 16,
    text_preview=None,
    text_length=None,
    value={"title": "Chairs", "summary": "Three chairs.", "key_points": ["one", "two"], "language": "en"},
    slot="deep",
    served_model="mlx/Qwen3.6-27B-8bit",
    model_evidence="reported",
    tokens_in=900,
    tokens_out=80,
    tokens_cached=850,
    seconds=12.34567,
    attempts=1,
    deferrals=2,
    reused_from=None,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def reporter(edge: Edge, **changes: Any) -> EventReporter:
    return replace(EventReporter(edge.instance, edge.ledger, names_of(BUILT_IN), edge.settings), **changes)


def finished(edge: Edge, count: int = 3) -> None:
    """Leave the events of `count` extracted documents pending in the outbox."""
    edge.write(**{f"d{number}": f"Letter number {number}." for number in range(count)})
    edge.scan()
    make_events_pending(edge)


def make_events_pending(edge: Edge) -> None:
    for key in KEYS.values():
        edge.instance.wipe_assets([key])
    with edge.ledger.transaction() as cur:
        cur.execute("update outbox set told_at = null, sending_since = null")


def test_a_batch_stores_what_log_event_stores(edge: Edge) -> None:
    """The contract of the internal call: fails if a new version of Dagster stores events in another form."""
    materialization = documents.materialization(PENDING, KEYS, facts({"summarize": PENDING.recipe}), None)

    @dg.op(name="drain_backlog")
    def record_in_both_ways(context: dg.OpExecutionContext) -> None:
        context.log_event(materialization)
        entry = events._entry(context.run_id, context.job_name, DRAIN_STEP, events._message(PENDING), materialization)
        context.instance.event_log_storage.store_event_batch([entry])

    @dg.job(name="drain")
    def both() -> None:
        record_in_both_ways()

    assert both.execute_in_process(instance=edge.instance).success
    batched, logged = edge.materializations("summarize", PENDING.document)
    assert batched.asset_materialization == logged.asset_materialization == materialization
    assert batched.run_id == logged.run_id
    assert batched.partition_key == logged.partition_key == PENDING.document
    for field in ("job_name", "step_key", "level", "run_id"):
        assert getattr(batched.event_log_entry, field) == getattr(logged.event_log_entry, field), field
    assert edge.instance.get_event_tags_for_asset(KEYS["summarize"], filter_tags={RESULT_TAG: "7"}) is not None


def test_a_materialization_is_one_that_dagster_accepts() -> None:
    shown = documents.materialization(PENDING, KEYS, facts({"summarize": PENDING.recipe}), None)
    assert dg.AssetMaterialization(**shown._asdict()) == shown


def test_batches_of_any_size_share_one_statement_and_keep_their_order(edge: Edge) -> None:
    def store(*names: str) -> None:
        pending = [replace(PENDING, document=name) for name in names]
        shown = [documents.materialization(each, KEYS, facts({"summarize": PENDING.recipe}), None) for each in pending]
        edge.instance.event_log_storage.store_event_batch(
            [
                events._entry("a-run", "drain", DRAIN_STEP, events._message(event), each)
                for event, each in zip(pending, shown, strict=True)
            ],
        )

    with recording_statements() as statements:
        store("b.txt")
        store("a.txt", "c.txt", "b.txt")
    for table in ("event_logs", "asset_event_tags"):
        assert len({text for text in statements if text.lower().startswith(f"insert into {table}")}) == 1, table
    wanted = dg.AssetRecordsFilter(asset_key=KEYS["summarize"])
    found = edge.instance.fetch_materializations(wanted, limit=10, ascending=True).records
    assert [record.partition_key for record in found] == ["b.txt", "a.txt", "c.txt", "b.txt"]
    tags = edge.instance.get_event_tags_for_asset(KEYS["summarize"], filter_event_id=found[-1].storage_id)
    assert list(tags) == [{documents.DATA_VERSION_TAG: PENDING.data_version}]


def test_a_batch_appears_in_every_query_for_partitions(edge: Edge) -> None:
    finished(edge)
    reporter(edge).report()
    partitions = dg.DynamicPartitionsDefinition(name="documents")
    names = ["d0.txt", "d1.txt", "d2.txt"]
    statuses = edge.instance.get_status_by_partition(KEYS["extract"], names, partitions)
    assert statuses is not None
    assert {name: status and status.value for name, status in statuses.items()} == dict.fromkeys(names, "MATERIALIZED")
    latest = edge.instance.get_latest_materialization_event(KEYS["extract"])
    assert latest is not None
    assert latest.asset_materialization is not None
    (record,) = edge.instance.get_asset_records([KEYS["extract"]])
    assert record.asset_entry.last_materialization is not None
    assert edge.instance.has_asset_key(KEYS["extract"])


def test_metadata_shows_the_record_and_how_it_was_made() -> None:
    shown = documents.materialization(PENDING, KEYS, facts({"summarize": PENDING.recipe}), None)
    assert {name: value.value for name, value in shown.metadata.items()} == {
        "preview": "Three chairs.",
        "key_points": ["one", "two"],
        "path": PENDING.document,
        "outcome": "ok",
        "title": "Chairs",
        "language": "en",
        "served_model": "mlx/Qwen3.6-27B-8bit",
        "model_evidence": "reported",
        "slot": "deep",
        "tokens_in": 900,
        "tokens_out": 80,
        "tokens_cached": 850,
        "seconds": 12.346,
        "attempts": 1,
        "deferrals": 2,
        "result": 7,
    }


def test_without_previews_metadata_has_no_text_of_a_document_or_its_record() -> None:
    extracted = replace(PENDING, stage="extract", text_preview="Dear landlord", text_length=13, value=None)
    for event in (PENDING, extracted):
        shown = documents.materialization(event, KEYS, facts({}), None, previews=False).metadata
        assert not {"preview", "key_points", "title"} & shown.keys()
        for text in ("chairs", "Chairs", "landlord", "two"):
            assert text not in repr(shown)


NAMED_AS_OURS = {
    "category": "a rare illness",
    "language": ["a", "b"],
    "title": {"of": "nobility"},
    "key_points": 3,
    "summary": ["x"],
    "confidence": "low",
    "record": "LP",
    "path": "left",
    "seconds": 60,
    "doubtful": ["value_dropped"],
}


def of_own_stage(*, previews: bool) -> dict[str, Any]:
    graph = with_own_stages({"bill": StageSpec.model_validate({"prompt": "What?", "answer": {"a": "string"}})})
    event = replace(PENDING, stage="bill", value=NAMED_AS_OURS)
    shown = documents.materialization(
        event,
        names_of(graph).keys,
        documents.StageFacts(graph, {}, {"bill": "v"}),
        None,
        previews=previews,
        record=dg.MetadataValue.md("all"),
    )
    return {name: value.value for name, value in shown.metadata.items()}


def test_the_fields_of_an_own_stage_may_have_the_names_of_all_others_that_are_shown() -> None:
    shown = of_own_stage(previews=True)
    ours = {"record": "all", "path": PENDING.document, "seconds": 12.346, "doubtful": "value_dropped"}
    own = {
        f"bill.{name}" if name in ours else name: value for name, value in NAMED_AS_OURS.items() if name != "doubtful"
    }
    assert {name: shown[name] for name in (*ours, *own)} == ours | own


def test_without_previews_no_field_of_an_own_stage_is_shown_whatever_its_name() -> None:
    shown = of_own_stage(previews=False)
    assert not {"category", "language", "title", "key_points", "summary", "confidence", "preview"} & shown.keys()
    assert not [name for name in shown if name.startswith("bill.")]


def test_the_setting_turns_previews_off_for_every_reporter(edge: Edge) -> None:
    finished(edge, 1)
    quiet = edge.settings.model_copy(update={"previews": "off"})
    EventReporter(edge.instance, edge.ledger, names_of(BUILT_IN), quiet).report()
    [record, *_] = edge.materializations("extract", "d0.txt")
    assert record.asset_materialization is not None
    assert "preview" not in record.asset_materialization.metadata
    assert "characters" in record.asset_materialization.metadata


def test_metadata_shows_the_marks_of_a_doubtful_summary() -> None:
    doubtful = replace(PENDING, value={"summary": "Due. Due.", "doubtful": ["repeats_itself", "other_language"]})
    shown = documents.materialization(doubtful, KEYS, facts({}), None).metadata
    assert shown["doubtful"].value == "repeats_itself, other_language"


def test_metadata_shows_how_much_of_a_long_document_was_read() -> None:
    beginning = replace(PENDING, stage="classify", value={"category": "report", "parts": 400, "parts_read": 1})
    shown = documents.materialization(beginning, KEYS, facts({}), None).metadata
    assert (shown["parts"].value, shown["parts_read"].value) == (400, 1)


def test_an_event_carries_result_data_version_and_code_version() -> None:
    current = documents.materialization(PENDING, KEYS, facts({"summarize": PENDING.recipe}), None).tags or {}
    outdated = documents.materialization(PENDING, KEYS, facts({"summarize": "another"}), None).tags or {}
    assert (current[RESULT_TAG], current["dagster/data_version"]) == ("7", PENDING.output_digest)
    assert current["dagster/code_version"] == code_versions(load_settings())["summarize"]
    assert outdated["dagster/code_version"] == PENDING.recipe


def test_an_event_in_doubt_that_was_stored_is_not_sent_again(edge: Edge) -> None:
    finished(edge)
    reporter(edge).report()
    with edge.ledger.transaction() as cur:  # a crash after the event was stored and before it was marked as reported
        cur.execute("update outbox set told_at = null")
    assert reporter(edge).report() == 3
    assert len(edge.materializations("extract")) == 3


def test_an_event_in_doubt_that_was_not_stored_is_sent(edge: Edge) -> None:
    finished(edge)
    edge.ledger.run(outbox.pending_events, STAGE_NAMES)  # a crash after it was marked as being sent
    assert reporter(edge).report() == 3
    assert len(edge.materializations("extract")) == 3


def test_the_same_result_is_reported_under_another_run(edge: Edge) -> None:
    finished(edge, 1)
    reporter(edge).report()
    other = edge.scan().run_id
    edge.ledger.run(outbox.report_under_run, other, ["d0.txt"], ["extract"])
    edge.ledger.run(outbox.pending_events, STAGE_NAMES)
    reporter(edge).report()
    assert edge.materializations("extract")[0].run_id == other
    assert len(edge.materializations("extract")) == 2


def test_only_one_process_reports_at_a_time(edge: Edge) -> None:
    finished(edge)
    with outbox.flushing(edge.ledger) as has_lock:
        assert has_lock
        assert reporter(edge).report() is None
    assert reporter(edge).report() == 3


def test_events_of_a_deleted_run_are_reported_without_a_run(edge: Edge) -> None:
    finished(edge)
    for run in edge.instance.get_runs():
        edge.instance.delete_run(run.run_id)
    reporter(edge).report()
    assert {record.run_id for record in edge.materializations("extract")} == {""}
    assert edge.partitions_done("extract") == {"d0.txt", "d1.txt", "d2.txt"}


def test_events_of_a_stage_that_the_settings_do_not_have_yet_wait_for_a_process_that_has_it(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.write(a="A letter.")
    edge.scan()
    edge.run_job("drain")
    make_events_pending(edge)
    with monkeypatch.context() as older:
        older.setattr(events, "stage_graph", lambda _settings: StageGraph(BUILT_IN.nodes[:2]))
        assert reporter(edge).report() == 2
    assert edge.instance.get_materialized_partitions(KEYS["summarize"]) == set()
    assert reporter(edge).report() == 1
    assert edge.instance.get_materialized_partitions(KEYS["summarize"]) == {"a.txt"}


def test_one_report_sends_more_than_one_batch(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PENDING", 3)
    monkeypatch.setattr(events, "BATCH", 2)
    finished(edge, 5)
    assert reporter(edge).report() == 5
    assert edge.ledger.run(outbox.count_pending) == 0


def test_a_tick_reports_for_a_limited_time(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PENDING", 2)
    finished(edge, 5)
    assert reporter(edge).report(seconds=0) == 2
    assert edge.ledger.run(outbox.count_pending) == 3


def test_no_control_character_reaches_dagsters_pages() -> None:
    """The document's name is also its partition key, which Dagster shows unescaped."""
    controls = "\x1b[2J\u202e"
    hostile = replace(
        PENDING,
        document=f"rent{controls}.txt",
        value={"title": f"Rent{controls}", "summary": f"Due.{controls}\nOn Monday.", "key_points": [controls]},
        served_model=f"model{controls}",
        reused_from=f"other{controls}",
    )
    shown = documents.materialization(hostile, KEYS, facts({"summarize": PENDING.recipe}), None).metadata
    for name, entry in shown.items():
        assert "\x1b" not in str(entry.value), name
        assert "\u202e" not in str(entry.value), name
    assert shown["preview"].value == "Due.[2J\nOn Monday."
    assert shown["path"].value == "rent\\x1b[2J\\u202e.txt"
    stored = events._entry(
        "run",
        "drain",
        "drain_backlog",
        events._message(hostile),
        documents.materialization(hostile, KEYS, facts({}), None),
    )
    assert "\\x1b[2J" in stored.user_message
