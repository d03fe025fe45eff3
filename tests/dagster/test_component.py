"""The component `dagster_offload.OffloadPipeline`: libraries in a stranger's project, beside assets of its own."""

import re

import dagster as dg
import pytest

import dagster_offload
from dagster_offload.defs.component.component import OffloadPipeline
from dagster_offload.defs.partitions.keys import sync_partitions
from tests.support.project import Project

DOWNSTREAM = """
import dagster as dg
from pydantic import BaseModel, field_validator

DOCUMENTS = dg.DynamicPartitionsDefinition(name="papers_documents")


class Summary(BaseModel):
    title: str


class Record(BaseModel):
    state: str
    summary: str | None


# Stands for the assets of dbt and similar tools: they have partitions, groups and conditions of their own.
@dg.asset(group_name="staging", partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
def stg_payments() -> None: ...


@dg.asset(
    partitions_def=DOCUMENTS,
    automation_condition=dg.AutomationCondition.eager(),
    ins={"text": dg.AssetIn(["papers", "extracted_text"]), "summary": dg.AssetIn(["papers", "summary"])},
)
def note(context: dg.AssetExecutionContext, text: str, summary: Summary) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"title": summary.title, "characters": len(text)})


@dg.asset(ins={"summaries": dg.AssetIn(["papers", "summary"])})
def index(summaries: dict[str, Summary]) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={name.partition(".")[0]: summary.title for name, summary in summaries.items()})


@dg.asset(
    automation_condition=dg.AutomationCondition.eager(),
    ins={"records": dg.AssetIn(["papers", "records"])},
)
def report(records: dict[str, Record]) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={name.partition(".")[0]: record.state for name, record in records.items()})


@dg.asset(
    partitions_def=dg.StaticPartitionsDefinition(["all"]),
    ins={"summaries": dg.AssetIn(["papers", "summary"], partition_mapping=dg.AllPartitionMapping())},
)
def digest(summaries: dict[str, Summary]) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={name.partition(".")[0]: summary.title for name, summary in summaries.items()})


class Strict(BaseModel):
    title: int
    summary: str

    @field_validator("summary")
    @classmethod
    def refuse(cls, value: str) -> str:
        raise ValueError(f"{value} is refused")


@dg.asset(partitions_def=DOCUMENTS, ins={"summary": dg.AssetIn(["papers", "summary"])})
def strict(summary: Strict) -> None: ...


@dg.asset(ins={"backlog": dg.AssetIn(["papers", "backlog"])})
def chart(backlog: dict) -> None: ...
"""

BOTH = pytest.mark.parametrize("storage", ["sqlite", "postgres"])


@pytest.mark.parametrize("documents", [["lease"], ["lease", "bill"]])
def test_an_asset_with_other_partitions_gets_the_records_of_its_documents_by_document(
    project: Project, documents: list[str]
) -> None:
    project.add("papers", *documents)
    project.add_assets(DOWNSTREAM)
    for job in ("papers_scan", "papers_drain"):
        assert project.run(job).success
    assert set(project.materialize("digest", "all")) >= set(documents)


@BOTH
def test_two_components_and_a_strangers_assets_work_side_by_side(project: Project) -> None:
    project.add("papers", "lease", "bill")
    project.add("letters", "note")
    project.add_assets(DOWNSTREAM)
    dg.Definitions.validate_loadable(project.defs)

    for job in ("papers_scan", "papers_drain", "letters_scan", "letters_extract", "letters_drain", "papers_extract"):
        assert project.run(job).success

    assert project.instance.get_dynamic_partitions("papers_documents") == ["bill.txt", "lease.txt"]
    assert project.instance.get_dynamic_partitions("letters_documents") == ["note.txt"]
    for key, documents in (("papers", {"bill.txt", "lease.txt"}), ("letters", {"note.txt"})):
        for asset in ("extracted_text", "classification", "summary"):
            assert project.instance.get_materialized_partitions(dg.AssetKey([key, asset])) == documents
    note = project.materialize("note", "lease.txt")
    assert note["characters"] == len("The lease of papers is due in March.")
    assert set(project.materialize("index")) >= {"lease", "bill"}
    assert project.materialize("report").items() >= {"lease": "done", "bill": "done"}.items()


@BOTH
# Dagster's own helper selects all assets by a beta parameter.
@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_automation_conditions_on_our_assets_request_the_strangers_assets(project: Project) -> None:
    project.add("papers", "lease")
    project.add_assets(DOWNSTREAM)
    first = dg.evaluate_automation_conditions(defs=project.defs, instance=project.instance)
    assert first.total_requested == 0
    project.run("papers_scan")
    project.run("papers_drain")
    second = dg.evaluate_automation_conditions(defs=project.defs, instance=project.instance, cursor=first.cursor)
    assert second.get_requested_partitions(dg.AssetKey("note")) == {"lease.txt"}
    assert second.get_num_requested(dg.AssetKey("report")) == 1


@BOTH
def test_a_partition_of_several_documents_is_green_once_all_are_done_and_an_input_has_all_of_them(
    project: Project,
) -> None:
    project.add("papers", "lease", "bill", extra="  partition_by: shard:1\n")
    project.add_assets(
        DOWNSTREAM.replace("text: str, summary: Summary", "text: dict, summary: dict[str, Summary]").replace(
            '{"title": summary.title, "characters": len(text)}', '{"titles": sorted(summary), "texts": sorted(text)}'
        )
    )
    summary = dg.AssetKey(["papers", "summary"])
    assert project.run("papers_scan").success
    assert project.instance.get_dynamic_partitions("papers_documents") == ["shard-0000"]
    assert "shard-0000" not in project.instance.get_materialized_partitions(summary)
    assert project.run("papers_drain").success
    assert project.instance.get_materialized_partitions(summary) == {"shard-0000"}
    both = ["bill.txt", "lease.txt"]
    assert project.materialize("note", "shard-0000") == {"titles": both, "texts": both}
    (project.folder_of("papers") / "library" / "rent.txt").write_text("The rent is due in April.")
    assert project.run("papers_scan").success
    assert "shard-0000" not in project.instance.get_materialized_partitions(summary)


def test_an_input_of_other_partitions_is_by_document_even_if_there_is_only_one(project: Project) -> None:
    project.add("papers", "lease")
    project.add_assets(
        DOWNSTREAM.replace("def digest(summaries: dict[str, Summary])", "def digest(summaries: dict)").replace(
            "summary.title for name, summary in summaries", "str(summary) for name, summary in summaries"
        )
    )
    project.run("papers_scan")
    project.run("papers_drain")
    assert set(project.materialize("digest", "all")) == {"lease"}


def test_an_input_without_a_value_names_the_document(project: Project) -> None:
    project.add("papers", "lease")
    project.add_assets(DOWNSTREAM)
    project.run("papers_scan")
    with pytest.raises(dg.Failure, match=r"lease\.txt has no summary yet"):
        project.materialize("note", "lease.txt")


def test_a_record_that_does_not_fit_the_model_is_named_by_its_field_and_no_event_quotes_it(project: Project) -> None:
    project.add("papers", "lease")
    project.add_assets(DOWNSTREAM)
    project.run("papers_scan")
    project.run("papers_drain")
    title = project.materialize("note", "lease.txt")["title"]
    with pytest.raises(dg.Failure) as refused:
        project.materialize("strict", "lease.txt")
    assert refused.value.description == (
        "papers/summary of lease.txt does not fit the model Strict: title: must be a whole number; summary: value_error"
    )
    (run,) = project.instance.get_runs(limit=1)
    events = project.instance.all_logs(run.run_id)
    assert any(event.dagster_event and event.dagster_event.is_step_failure for event in events)
    stored = [dg.serialize_value(event) for event in events]
    assert not [event for event in stored if title in event or "March" in event]


def test_an_asset_with_plots_is_refused_as_an_input(project: Project) -> None:
    project.add("papers", "lease")
    project.add_assets(DOWNSTREAM)
    with pytest.raises(dg.Failure, match="papers/backlog has plots and no value: use it in `deps`"):
        project.materialize("chart")


def test_a_stage_of_ones_own_becomes_an_asset_of_the_component(project: Project) -> None:
    project.add("papers", "lease", extra="  stages: {due: {prompt: 'When is it due?', answer: {month: string}}}\n")
    assert dg.AssetKey(["papers", "due"]) in project.defs.resolve_asset_graph().get_all_asset_keys()


def test_descriptions_name_the_jobs_of_their_own_component(project: Project) -> None:
    project.add("papers")
    defs = project.defs
    described = {
        *(spec.description or "" for spec in defs.resolve_all_asset_specs()),
        *(sensor.description or "" for sensor in defs.sensors or ()),
        *(defs.resolve_job_def(f"papers_{job}").description or "" for job in ("scan", "drain", "extract")),
    }
    named = {
        name for text in described for name in re.findall(r"(?:`|Launches )([a-z_]*(?:scan|drain|extract))\b", text)
    }
    assert named == {"papers_scan", "papers_drain"}


def test_a_run_of_a_sensor_does_not_say_that_up_launched_it(project: Project) -> None:
    project.add("papers", "lease")
    context = dg.build_sensor_context(instance=project.instance, definitions=project.defs)
    (sensor,) = [each for each in project.defs.sensors or () if each.name == "papers_library_sensor"]
    assert isinstance(sensor, dg.SensorDefinition)
    requested = sensor(context)
    assert isinstance(requested, dg.RunRequest)
    assert requested.tags["launched_by"] == "a sensor"


def test_partitions_of_other_assets_are_left_alone(project: Project) -> None:
    """50,000 documents in an instance on SQLite, beside partitions of the stranger's own."""
    project.instance.add_dynamic_partitions("customers", ["a", "b"])
    documents = [f"{number:05}.txt" for number in range(50_000)]
    assert sync_partitions(project.instance, "papers_documents", documents).added == 50_000
    assert project.instance.get_dynamic_partitions("papers_documents") == documents
    assert sync_partitions(project.instance, "papers_documents", documents[1:]).removed == 1
    assert project.instance.get_dynamic_partitions("customers") == ["a", "b"]


@pytest.mark.slow
def test_dg_lists_scaffolds_and_checks_the_component(project: Project) -> None:
    assert "dagster_offload.OffloadPipeline" in project.dg("list", "components").stdout
    scaffolded = project.dg("scaffold", "defs", "dagster_offload.OffloadPipeline", "papers")
    assert scaffolded.returncode == 0, scaffolded.stderr
    file = project.folder_of("papers") / "defs.yaml"
    assert [each.name for each in file.parent.iterdir()] == ["defs.yaml"]
    checked = project.dg("check", "yaml")
    assert checked.returncode == 0, checked.stdout
    error = project.error()
    assert "component papers: set library.path, slots.deep.url and slots.deep.model in its defs.yaml" in error
    text = file.read_text()
    for key, value in (("path", "~/Documents"), ("url", "http://127.0.0.1:1"), ("model", "qwen")):
        text = text.replace(f" {key}: ", f" {key}: {value} ")
    file.write_text(text)
    assert project.defs.resolve_job_def("papers_drain").name == "papers_drain"
    file.write_text(text.replace("  library:", "  librry:"))
    checked = project.dg("check", "yaml")
    assert checked.returncode == 1
    assert "librry" in checked.stdout + checked.stderr


def test_the_type_has_a_description_and_an_example_for_the_components_page() -> None:
    description = OffloadPipeline.get_description() or ""
    assert description.startswith("Turns a folder of documents into typed records")
    assert "type: dagster_offload.OffloadPipeline" in description
    properties = OffloadPipeline.get_model_cls().model_json_schema()["properties"]
    assert {"name", "library", "slots", "stages"} <= set(properties)
    assert all(each.get("description") for each in properties.values())


def test_the_component_is_a_public_name_of_the_package() -> None:
    assert dagster_offload.OffloadPipeline is OffloadPipeline
