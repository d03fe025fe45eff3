"""What `dagster_offload.testing` gives to tests of a pipeline, ours included."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from dagster_offload import timing
from dagster_offload.testing import FAST, ChangeTiming, Timing

ROOT = Path(__file__).parents[1]
A_USERS_TEST = """
from dagster_offload import timing
from dagster_offload.client import AIClient
from dagster_offload.settings import load_settings

async def ask(url):
    slots = load_settings(deep_url=url, deep_model="qwen-macbook").slots
    async with AIClient(slots) as client:
        return await client.call_deep("Are you there?")

def test_my_pipeline(stand_in_router, fast_timing):
    import asyncio
    assert asyncio.run(ask(stand_in_router.url))
    assert len(stand_in_router.completions()) == 1
    assert timing.current() is fast_timing
"""


@pytest.mark.slow
def test_users_name_the_module_in_their_conftest_and_have_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["dagster_offload.testing"]\n')
    (tmp_path / "test_mine.py").write_text(A_USERS_TEST)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "test_mine.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_changed_wait_is_seen_by_every_thread_and_ends_with_the_block() -> None:
    with ThreadPoolExecutor(1) as thread:
        with timing.use(heartbeat=0.5):
            assert thread.submit(timing.current).result() == Timing(heartbeat=0.5)
        assert thread.submit(timing.current).result() == Timing()


def test_changes_of_one_test_add_up(change_timing: ChangeTiming) -> None:
    change_timing(heartbeat=0.5)
    change_timing(lease=1.0)
    assert timing.current() == Timing(heartbeat=0.5, lease=1.0)


def test_a_wait_that_does_not_exist_or_is_negative_is_refused() -> None:
    with pytest.raises(TypeError, match="hartbeat"), timing.use(hartbeat=0.5):
        pass
    with pytest.raises(ValueError, match=r"Timing\.heartbeat is -1"):
        Timing(heartbeat=-1)


def test_fast_timing_shortens_pauses_and_no_limit_that_a_busy_machine_could_miss() -> None:
    product = asdict(Timing())
    shorter = {name for name, seconds in asdict(FAST).items() if seconds != product[name]}
    assert all(getattr(FAST, name) < product[name] for name in shorter)
    assert shorter.isdisjoint(
        {"lease", "stale_heartbeat", "server_settled", "probe_limit", "sensor_trial", "ledger_patience"}
    )


def test_every_wait_of_the_table_is_read_by_the_product() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "dagster_offload").rglob("*.py") if path.stem != "testing")
    read = set(re.findall(r"(?:timing\.current\(\)|waits)\.(\w+)", sources))
    assert read == set(asdict(Timing()))
