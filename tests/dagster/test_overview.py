"""The assets `backlog`, `deep_slot` and `records`, and a document's whole record in one materialization."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_offload.definitions import build_definitions
from dagster_offload.defs.names import names_of
from dagster_offload.defs.shown.overview import (
    Overview,
    backlog_numbers,
    needs_report,
    overview_keys,
    slot_keys,
    slot_numbers,
)
from dagster_offload.defs.shown.records import record_markdown, record_table
from dagster_offload.ledger.core.rows import StageCounts
from dagster_offload.ledger.reports.overview import SlotUse
from dagster_offload.ledger.reports.records import DocumentRecord, StageState
from dagster_offload.records.columns import columns
from dagster_offload.settings import load_settings
from dagster_offload.simulator.server import Router
from dagster_offload.stages.graph import BUILT_IN
from tests.support.edge import Edge

KEYS = overview_keys(names_of(BUILT_IN).keys)


def numbers(edge: Edge, asset: str | dg.AssetKey) -> list[dict[str, Any]]:
    """The reported numbers of an asset, given by its key or its name, newest first."""
    key = KEYS[asset] if isinstance(asset, str) else asset
    found = edge.instance.fetch_observations(key, limit=100).records
    return [
        {label: value.value for label, value in record.asset_observation.metadata.items()}
        for record in found
        if record.asset_observation is not None
    ]


def make_reports_older(edge: Edge) -> None:
    with edge.ledger.transaction() as cur:
        cur.execute("update told set told_at = told_at - interval '1 hour'")


def stage(value: dict[str, Any]) -> StageState:
    return StageState("done", "ok", None, value, "Qwen3.6-27B", "reported", None)


def test_a_scan_and_a_drain_add_a_point_to_the_plots(edge: Edge) -> None:
    edge.write(a="Invoice for 3 chairs.", b="Dear landlord, it is cold.")
    edge.scan()
    make_reports_older(edge)
    edge.run_job("drain")
    after, before = numbers(edge, "backlog")
    assert (before["extract: done"], before["classify: due"], before["classify: done"]) == (2, 2, 0)
    assert (after["classify: due"], after["classify: done"], after["summarize: done"]) == (0, 2, 2)
    assert numbers(edge, "deep_slot")[0]["calls in the hour"] == 4
    assert numbers(edge, "deep_slot")[0]["available, % of the hour"] == 100.0
    (record,) = edge.instance.fetch_materializations(KEYS["records"], limit=10).records
    assert record.asset_materialization is not None
    table = record.asset_materialization.metadata["newest records"]
    assert isinstance(table, dg.TableMetadataValue)
    assert {str(row.data["document: title and summary"]).split(" ")[0] for row in table.records} == {"a.txt", "b.txt"}


def test_each_further_slot_has_plots_of_its_own(edge: Edge, tmp_path: Path) -> None:
    with Router() as studio:
        slots = {"studio": {"url": studio.url, "model": "qwen-studio", "concurrency": 3}}
        file = tmp_path / "offload.yaml"
        file.write_text(json.dumps({"slots": slots, "stages": {"classify": {"slots": ["studio"]}}}))  # JSON is YAML
        deep = edge.settings.slots_section.deep
        settings = load_settings(
            config=file,
            home=edge.settings.home,
            library=edge.settings.library,
            postgres_url=edge.settings.postgres_url,
            deep_url=deep.url,
            deep_model=deep.model,
        )
        several = Edge(settings, edge.ledger, edge.instance, edge.router, build_definitions(lambda: settings))
        several.write(a="Invoice for 3 chairs.", b="Dear landlord, it is cold.")
        several.scan()
        make_reports_older(several)
        several.run_job("drain")
    keys = slot_keys(names_of(BUILT_IN).keys, ["studio"])
    assert {key.to_user_string() for key in keys.values()} == {"deep_slot", "slots/studio"}
    assert set(keys.values()) <= several.defs.resolve_asset_graph().get_all_asset_keys()
    assert numbers(several, "deep_slot")[0]["calls in the hour"] == 2, "of the stage summarize"
    after, before = numbers(several, keys["studio"])
    assert (before["calls in the hour"], after["calls in the hour"]) == (0, 2)
    assert (after["available, % of the hour"], after["calls without an answer"], after["concurrency"]) == (100.0, 0, 3)


def test_a_tick_reports_only_after_a_change_and_not_too_often(edge: Edge) -> None:
    assert not needs_report(edge.ledger)  # nothing was ever done
    edge.write(a="Invoice for 3 chairs.")
    edge.scan()
    assert not needs_report(edge.ledger)
    make_reports_older(edge)
    assert not needs_report(edge.ledger)  # nothing has changed
    with edge.ledger.transaction() as cur:
        cur.execute("insert into transitions (document_id, stage, to_state) values (1, 'classify', 'pending')")
    assert needs_report(edge.ledger)
    edge.tick("library_sensor")
    assert len(numbers(edge, "backlog")) == 2
    assert not needs_report(edge.ledger)


def test_a_part_of_the_hour_in_which_the_slot_is_away_lowers_its_share(edge: Edge) -> None:
    edge.write(a="Invoice for 3 chairs.")
    edge.scan()
    with edge.ledger.transaction() as cur:
        cur.execute(
            "insert into availability (slot, is_available, since) values "
            "('deep', true, clock_timestamp() - interval '2 hours'), "
            "('deep', false, clock_timestamp() - interval '30 minutes')"
        )
    make_reports_older(edge)
    edge.router.set(mode="cold")
    edge.run_job("drain")
    assert 40 < numbers(edge, "deep_slot")[0]["available, % of the hour"] <= 50  # less by what the drain took


def test_the_last_stage_of_a_document_shows_its_whole_record(edge: Edge) -> None:
    edge.write(a="Invoice for 3 chairs.")
    edge.scan()
    edge.run_job("drain")
    shown = edge.materializations("summarize", "a.txt")[0].asset_materialization
    assert shown is not None
    record = shown.metadata["record"]
    assert isinstance(record, dg.MarkdownMetadataValue)
    classified = edge.materializations("classify", "a.txt")[0].asset_materialization
    assert classified is not None
    assert f"**{classified.metadata['category'].value}**" in (record.value or "")
    assert "record" not in edge.materializations("extract", "a.txt")[0].asset_materialization.metadata  # type: ignore[union-attr]


def test_without_previews_no_record_is_shown(edge: Edge) -> None:
    private = edge.settings.model_copy(update={"previews": "off"})
    quiet = Edge(private, edge.ledger, edge.instance, edge.router, build_definitions(lambda: private))
    quiet.write(a="Invoice for 3 chairs.")
    quiet.scan()
    quiet.run_job("drain")
    shown = quiet.materializations("summarize", "a.txt")[0].asset_materialization
    assert shown is not None
    assert "record" not in shown.metadata
    answers = {"classify": stage({"category": "invoice"}), "summarize": stage({"title": "T"})}
    (row,) = record_table([DocumentRecord("a.txt", "done", answers, None)], private).records
    assert row.data == {"document": "a.txt (invoice)"}


def record_row(document: str, state: str, title: str) -> str:
    answers = {
        "classify": stage({"category": "invoice"}),
        "summarize": stage({"title": title, "summary": "Three chairs."}),
    }
    (row,) = record_table([DocumentRecord(document, state, answers, None)], load_settings()).records
    [text] = row.data.values()
    return str(text)


def test_the_table_of_records_has_one_column_so_that_its_rows_are_low() -> None:
    assert record_row("a.txt", "done", "Chairs") == "a.txt (invoice): Chairs: Three chairs."
    assert record_row("a.txt", "failed", "Chairs") == "a.txt (invoice, failed): Chairs: Three chairs."


def test_a_record_without_an_answer_is_its_name_and_state() -> None:
    (row,) = record_table([DocumentRecord("a.txt", "failed", {}, None)], load_settings()).records
    assert list(row.data.values()) == ["a.txt (failed)"]


def test_no_word_makes_the_table_of_records_wider_than_the_page() -> None:
    row = record_row(f"letters/{'x' * 100}-the-end-of-a-long-name.txt", "done", f"https://example.org/{'y' * 100}/end")
    assert row == (
        f"letters/{'x' * 12}…{'x' * 12}-the-end-of-a-long-name.txt (invoice): "
        f"https://example.org/{'y' * 12}…{'y' * 12}/end: Three chairs."
    )


def test_a_record_is_shown_as_text_whatever_the_model_wrote() -> None:
    hostile = {"title": "<img src=x> [a](http://b)", "summary": "| *x* |\n# y", "key_points": ["`z`"]}
    answers: dict[str, dict[str, Any]] = {"classify": {"category": "a_b"}, "summarize": hostile}
    class_line, title, summary, points = str(record_markdown(answers, columns(load_settings())).value).split("\n\n")
    assert class_line == r"**a\_b**"
    assert title == r"### &lt;img src=x&gt; \[a\](http://b)"
    assert summary == r"\| \*x\* \| \# y"
    assert points == r"- \`z\`"


def test_numbers_that_are_not_known_are_left_out_and_shares_are_percentages() -> None:
    use = SlotUse(0.25, calls=3, unanswered=1, concurrency=2, tokens_per_second=None, cached_share=0.5)
    assert slot_numbers(use) == {
        "available, % of the hour": 25.0,
        "calls in the hour": 3,
        "calls without an answer": 1,
        "concurrency": 2,
        "tokens per second": None,
        "prompt from cache, %": 50.0,
    }
    counts = {"classify": StageCounts(pending=2, claimed=1, deferred=4, done=5, failed=1, quarantined=1)}
    assert backlog_numbers(Overview(counts, {"classify": 2}, None, {"deep": use}, [])) == {
        "classify: due": 3,
        "classify: deferred": 4,
        "classify: failed": 2,
        "classify: done": 3,
        "hours left": None,
    }
