"""The Dagster instance of a home: the file that is written for it, and its settings."""

import stat
from pathlib import Path

import dagster as dg
import pytest
from psycopg.conninfo import make_conninfo

from dagster_offload.defs.instance import dagster_home, open_instance, prepare_instance
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.graph import BUILT_IN
from tests.support.disks import small_disk


def test_the_file_is_private_and_has_the_database_url_in_dagsters_form(tmp_path: Path, empty_url: str) -> None:
    settings = load_settings(home=tmp_path)
    folder = prepare_instance(settings, empty_url)
    assert folder == dagster_home(settings)
    file = folder / "dagster.yaml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert 'postgres_url: "postgresql+psycopg2://' in file.read_text()


def test_a_file_of_the_user_is_not_changed(tmp_path: Path, empty_url: str) -> None:
    settings = load_settings(home=tmp_path)
    file = prepare_instance(settings, empty_url) / "dagster.yaml"
    own_content = "\n".join(file.read_text().splitlines()[1:])
    file.write_text(own_content)
    prepare_instance(settings, empty_url)
    assert file.read_text() == own_content


def test_our_file_is_updated_with_the_database(tmp_path: Path, empty_url: str) -> None:
    settings = load_settings(home=tmp_path)
    prepare_instance(settings, empty_url)
    file = prepare_instance(settings, make_conninfo(empty_url, connect_timeout=7)) / "dagster.yaml"
    assert "connect_timeout=7" in file.read_text()
    assert [entry.name for entry in dagster_home(settings).iterdir()] == ["dagster.yaml"]


def test_dagsters_tables_have_their_own_schema_in_either_order_of_creation(tmp_path: Path, empty_url: str) -> None:
    settings = load_settings(home=tmp_path, postgres_url=empty_url)
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("documents", ["a.txt"])
    with Ledger(empty_url) as ledger:
        migrate(ledger, BUILT_IN)
        with ledger.transaction() as cur:
            cur.execute("select table_schema from information_schema.tables where table_name in ('runs', 'documents')")
            assert {row["table_schema"] for row in cur.fetchall()} == {"offload_dagster", "offload"}
    with open_instance(settings) as instance:
        assert instance.get_dynamic_partitions("documents") == ["a.txt"]


def test_the_instance_reserves_runs_for_drains_and_sends_no_telemetry(settings: Settings) -> None:
    with open_instance(settings) as instance:
        assert isinstance(instance.run_coordinator, dg.QueuedRunCoordinator)
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        limits = {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits}
        assert (queue.max_concurrent_runs, limits) == (12, {"dagster/partition": 4, "dagster/backfill": 3})
        assert sum(limits.values()) < queue.max_concurrent_runs
        assert instance.run_coordinator.dequeue_interval_seconds == 2
        retried_seconds = queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay
        assert retried_seconds == 3600, "a code server that is away for a while fails no run"
        assert isinstance(instance.run_launcher, dg.DefaultRunLauncher)
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert instance.get_sensor_settings()["use_threads"] is True
        assert sorted(instance.get_required_daemon_types()) == [
            "BACKFILL",
            "MONITORING",
            "QUEUED_RUN_COORDINATOR",
            "SCHEDULER",
            "SENSOR",
        ]
        assert Path(instance.root_directory) == dagster_home(settings)


@pytest.mark.root
def test_a_full_disk_leaves_no_part_of_the_file_behind(empty_url: str) -> None:
    with small_disk(1) as disk:
        settings = load_settings(home=disk.folder / "home")
        folder = dagster_home(settings)
        folder.mkdir(parents=True)
        disk.fill()
        with pytest.raises(OSError, match="No space left on device"):
            prepare_instance(settings, empty_url)
        assert list(folder.iterdir()) == []
        disk.free()
        assert (prepare_instance(settings, empty_url) / "dagster.yaml").exists()
