"""The definitions that Dagster loads. Their import reads no settings and opens no connection."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.utils import DISALLOWED_NAMES

from dagster_offload.definitions import build_definitions, defs
from dagster_offload.defs.resources import describe
from dagster_offload.settings import Stage, load_settings, with_stages

ROOT = Path(__file__).parents[2]


def test_the_asset_graph_is_unchanged() -> None:
    graph = defs.resolve_asset_graph()
    assert {
        key.to_user_string(): {
            "upstream": sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
            "partitions": getattr(graph.get(key).partitions_def, "name", None),
            "checks": sorted(check.name for check in graph.get_check_keys_for_assets({key})),
            "group": graph.get(key).group_name,
            "code_version": graph.get(key).code_version,
            "backfill_policy": graph.get(key).backfill_policy,
        }
        for key in graph.get_all_asset_keys()
        if graph.get(key).group_name == "documents"
    } == {
        "extracted_text": {
            "upstream": [],
            "partitions": "documents",
            "checks": ["documents_that_need_you"],
            "group": "documents",
            "code_version": "extract-3",
            "backfill_policy": dg.BackfillPolicy.single_run(),
        },
        "classification": {
            "upstream": ["extracted_text"],
            "partitions": "documents",
            "checks": ["documents_that_need_you"],
            "group": "documents",
            "code_version": "classify-2",
            "backfill_policy": dg.BackfillPolicy.single_run(),
        },
        "summary": {
            "upstream": ["extracted_text"],
            "partitions": "documents",
            "checks": ["documents_that_need_you"],
            "group": "documents",
            "code_version": "summarize-2",
            "backfill_policy": dg.BackfillPolicy.single_run(),
        },
    }


@pytest.mark.parametrize("prefix", [(), ("mine",)])
def test_a_stage_may_be_called_as_a_word_that_dagster_keeps_for_itself(prefix: tuple[str, ...]) -> None:
    words = [word for word in DISALLOWED_NAMES if word.islower()]
    form = Stage.model_validate({"prompt": "What?", "answer": {"what": "string"}})
    built = build_definitions(
        lambda: with_stages(load_settings(), **dict.fromkeys(words, form)), asset_key_prefix=prefix
    )
    dg.Definitions.validate_loadable(built)
    assets = built.resolve_asset_graph().materializable_asset_keys
    assert {dg.AssetKey([*prefix, word if prefix else f"_{word}"]) for word in words} <= assets


def test_the_assets_with_plots_and_records_cannot_be_materialized_by_a_person() -> None:
    graph = defs.resolve_asset_graph()
    shown = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).group_name == "overview"}
    assert shown == {"backlog", "deep_slot", "records"}
    assert not {key.to_user_string() for key in graph.executable_asset_keys} & shown
    assert graph.get(dg.AssetKey("records")).parent_keys == {dg.AssetKey("classification"), dg.AssetKey("summary")}


def test_the_resource_says_what_the_settings_are_without_the_password() -> None:
    settings = load_settings(
        library="/letters",
        deep_url="http://me:secret@macbook:8890",
        deep_model="qwen-macbook",
        deep_expected_model="Qwen",
    )
    said = describe(settings)
    assert "Library: `/letters`, checked every 60 s" in said
    assert "Deep slot: `qwen-macbook` at `http://" in said
    assert "secret" not in said
    assert "only a model that matches `Qwen` may answer" in said


def test_jobs_and_sensors_keep_their_names_and_sensors_run_by_default() -> None:
    repository = defs.get_repository_def()
    assert sorted(job.name for job in repository.get_all_jobs()) == ["__ASSET_JOB", "drain", "extract", "scan"]
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    assert {name: sensor.job_name for name, sensor in sensors.items()} == {
        "drain_sensor": "drain",
        "library_sensor": "scan",
    }
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}
    assert {name: sensor.minimum_interval_seconds for name, sensor in sensors.items()} == {
        "drain_sensor": 1,
        "library_sensor": 60,
    }


def test_drain_and_scan_are_op_jobs_that_run_in_one_process() -> None:
    for name in ("drain", "scan"):
        job = defs.resolve_job_def(name)
        assert not job.asset_layer.executable_asset_keys
        assert job.executor_def is dg.in_process_executor


def test_definitions_of_two_libraries_do_not_overlap() -> None:
    other = build_definitions(schema="second", asset_key_prefix=["second"], partitions_name="second_documents")
    graph = other.resolve_asset_graph()
    assert dg.AssetKey(["second", "summary"]) in graph.get_all_asset_keys()
    assert not graph.get_all_asset_keys() & defs.resolve_asset_graph().get_all_asset_keys()
    assert {getattr(graph.get(key).partitions_def, "name", None) for key in graph.executable_asset_keys} == {
        "second_documents"
    }


def test_importing_reads_no_settings_and_opens_no_connection() -> None:
    # A URL without a model, and a home that cannot be created: reading the settings or opening Postgres would raise.
    script = (
        "import socket, warnings\n"
        "warnings.simplefilter('error')\n"
        "def refuse(*_): raise AssertionError('a connection was opened')\n"
        "socket.socket.connect = socket.socket.connect_ex = refuse\n"
        "from dagster_offload.definitions import defs\n"
        "print(len(list(defs.sensors)))\n"
    )
    environment = {**os.environ, "OFFLOAD_DEEP_URL": "http://127.0.0.1:9", "OFFLOAD_HOME": "/dev/null/home"}
    environment.pop("OFFLOAD_DEEP_MODEL", None)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


@pytest.mark.parametrize(("interval", "ticks_every"), [("5", 5), ("1.5", 2), ("600", 60), ("never", 60)])
def test_the_library_sensor_ticks_as_often_as_the_setting_asks(
    interval: str, ticks_every: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OFFLOAD_SCAN_INTERVAL", interval)
    sensor = build_definitions().get_repository_def().get_sensor_def("library_sensor")
    assert sensor.minimum_interval_seconds == ticks_every
    assert ("OFFLOAD_SCAN_INTERVAL" in capsys.readouterr().err) == (interval == "never")
