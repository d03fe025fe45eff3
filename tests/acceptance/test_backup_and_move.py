"""Back up, destroy, restore; move to another Postgres and back. Real processes, and no call is repeated."""

import json
import shutil
import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from dagster_offload.ledger.archive.file import open_archive
from dagster_offload.postgres import is_running
from dagster_offload.postgres.embedded.server import ensure_embedded
from dagster_offload.simulator import Router
from tests.support.acceptance import Home, a_home, wait_for
from tests.support.ui import answered, text_of

LETTERS = [f"letter-{number}.txt" for number in range(6)]


@pytest.fixture
def home(router: Router) -> Iterator[Home]:
    router.set(mode="awake")
    with a_home(router) as home:
        for letter in LETTERS:
            home.write(letter, text_of(letter))
        yield home


def succeeds(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_backup_destroy_restore_and_drain_repeat_no_call(home: Home, router: Router) -> None:
    file = home.folder / "offload.backup"
    succeeds(home.run("scan"))
    succeeds(home.run("drain", "--limit", "3"))
    before = answered(router)
    assert sum(before.values()) == 6
    succeeds(home.run("backup", "--with-dagster", str(file)))

    succeeds(home.run("stop"))
    shutil.rmtree(home.home)
    succeeds(home.run("restore", str(file)))
    succeeds(home.run("drain"))

    after = answered(router)
    assert set(after.values()) == {1}
    assert len(after) == 2 * len(LETTERS)
    status = home.status()
    assert status["stages"]["summarize"]["done"] == len(LETTERS)
    assert status["events_pending"] == 0


def test_move_to_your_own_postgres_and_back_repeats_no_call(home: Home, router: Router, empty_url: str) -> None:
    succeeds(home.run("scan"))
    succeeds(home.run("drain", "--limit", "2"))
    succeeds(home.run("move", "--to", empty_url))
    refused = home.run("drain")
    assert refused.returncode == 2
    assert "was moved to" in refused.stderr

    home.environment["OFFLOAD_POSTGRES_URL"] = empty_url
    succeeds(home.run("drain", "--limit", "2"))
    back = succeeds(home.run("move", "--to", "embedded", "--json"))
    assert json.loads(back.stdout)["next"] == "unset OFFLOAD_POSTGRES_URL"
    assert home.run("drain").returncode == 2

    del home.environment["OFFLOAD_POSTGRES_URL"]
    succeeds(home.run("drain"))
    assert set(answered(router).values()) == {1}
    assert len(answered(router)) == 2 * len(LETTERS)
    succeeds(home.run("scan"))
    assert home.status()["events_pending"] == 0


def test_up_backs_up_an_older_ledger_and_then_by_schedule(home: Home) -> None:
    """`up` runs on a ledger of an older step, as after an upgrade."""
    succeeds(home.run("scan"))
    make_older(home)
    home.environment["OFFLOAD_BACKUP_EVERY"] = "1d"
    home.up()
    folder = home.home / "backups"
    wait_for(lambda: len(list(folder.glob("offload-*.backup"))) == 1, "the scheduled backup")
    [before] = folder.glob("before-step-*.backup")
    with open_archive(before) as archive:
        assert archive.manifest.rows("documents") == len(LETTERS)
    assert "A backup from before" in home.said
    wait_for(lambda: home.ledger("select 1 from backups") != [], "the recorded outcome")
    [outcome] = home.status()["backups"]
    assert outcome["error"] is None
    refused = home.run("restore", str(before), "--replace")
    assert refused.returncode == 2
    assert "already runs" in refused.stderr


def make_older(home: Home) -> None:
    """Undo the last numbered step that this test knows, which makes two tables."""
    with psycopg.connect(ensure_embedded(home.home)) as conn:
        conn.execute("set search_path to offload")
        conn.execute("drop table identity, backups")
        conn.execute("delete from migrations where number = 15")


def test_a_copy_of_a_home_is_refused_while_the_original_runs(home: Home) -> None:
    succeeds(home.run("scan"))
    succeeds(home.run("stop"))
    other = home.folder / "copy"
    subprocess.run(["cp", "-a", str(home.home), str(other)], check=True)
    assert home.status()["stages"]["extract"]["done"] == len(LETTERS)
    assert is_running(home.home)
    refused = home.run("status", "--home", str(other))
    assert refused.returncode == 2
    assert f"is a copy of {home.home}" in refused.stderr
    assert home.status()["stages"]["extract"]["done"] == len(LETTERS)
