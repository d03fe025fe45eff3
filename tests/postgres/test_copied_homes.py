"""A copied home is refused, so that two copies never run; a renamed or restored one starts as before."""

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import psycopg
import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres import stop_postgres
from dagster_offload.postgres.embedded import place
from dagster_offload.postgres.embedded.place import Place, Verdict, judge
from tests.support.postgres import copy_home

HERE = Place("box", "/srv/home", 1, 10)


@pytest.mark.parametrize(
    ("recorded", "here", "at_recorded_path", "verdict"),
    [
        (None, HERE, None, Verdict.SAME),
        (HERE, HERE, HERE, Verdict.SAME),
        # renamed, in another container, or the whole disk in another machine
        (HERE, Place("other", "/mnt/home", 1, 10), None, Verdict.SAME),
        # a copy beside the original, by the same machine or by a container that sees both
        (HERE, Place("box", "/srv/copy", 1, 11), HERE, Verdict.COPY_OF_EXISTING),
        (HERE, Place("container", "/srv/copy", 1, 11), HERE, Verdict.COPY_OF_EXISTING),
        (HERE, Place("box", "/mnt/copy", 2, 10), HERE, Verdict.COPY_OF_EXISTING),
        # moved to another disk of the same machine, and restored from a backup of files under its old path
        (HERE, Place("box", "/mnt/home", 2, 10), None, Verdict.MOVED),
        (HERE, Place("box", "/srv/home", 1, 12), Place("box", "/srv/home", 1, 12), Verdict.MOVED),
        (
            HERE,
            Place("laptop", "/srv/home", 1, 12),
            Place("laptop", "/srv/home", 1, 12),
            Verdict.COPY_FROM_ANOTHER_HOST,
        ),
    ],
)
def test_what_a_start_finds(
    recorded: Place | None, here: Place, at_recorded_path: Place | None, verdict: Verdict
) -> None:
    assert judge(recorded, here, at_recorded_path) is verdict


@pytest.mark.rule("backup-4")
def test_a_copy_beside_a_running_home_is_refused_and_the_original_goes_on(
    home: Path, start: Callable[[Path], str]
) -> None:
    url = start(home)
    stop_postgres(home)
    other = copy_home(home, home.parent / "copy")
    start(home)
    with pytest.raises(LedgerUnavailable, match=rf"copy is a copy of {home}, which still exists.*place\.json"):
        start(other)
    with psycopg.connect(url) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_a_copy_that_a_person_confirms_is_a_home_of_its_own(home: Path, start: Callable[[Path], str]) -> None:
    start(home)
    stop_postgres(home)
    other = copy_home(home, home.parent / "copy")
    (other / "postgres" / "place.json").unlink()
    first, second = start(home), start(other)
    with psycopg.connect(first) as one, psycopg.connect(second) as two:
        one.execute("create table only_here (x integer)")
        one.commit()
        assert two.execute("select to_regclass('only_here')").fetchone() == (None,)


@pytest.mark.rule("backup-4")
def test_a_renamed_home_starts(home: Path, start: Callable[[Path], str]) -> None:
    start(home)
    stop_postgres(home)
    renamed = home.rename(home.parent / "renamed")
    start(renamed)
    stop_postgres(renamed)
    with pytest.raises(LedgerUnavailable, match=r"is a copy of .*renamed"):  # the record follows the rename
        start(copy_home(renamed, home))


def test_a_home_restored_under_its_old_path_starts(home: Path, start: Callable[[Path], str]) -> None:
    start(home)
    stop_postgres(home)
    saved = copy_home(home, home.parent / "saved")
    shutil.rmtree(home)
    start(copy_home(saved, home))


def test_a_copy_from_another_machine_is_refused(
    home: Path, start: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(home)
    stop_postgres(home)
    other = copy_home(home, home.parent / "copy")
    shutil.rmtree(home)
    monkeypatch.setattr(place, "_host", lambda: "another machine")
    with pytest.raises(LedgerUnavailable, match=rf"was copied from {home} on another machine"):
        start(other)


IOREG = """+-o J314sAP  <class IOPlatformExpertDevice, id 0x10000022f, registered, matched, active, busy 0, retain 39>
    {
      "IOPolledInterface" = "AppleARMWatchdogTimerHibernateHandler is not serializable"
      "IOPlatformUUID" = "8A2F0C1E-5B77-5D0C-9F55-2C1D6A3B9E10"
      "manufacturer" = <"Apple Inc.">
    }
"""


def test_a_mac_is_the_same_machine_in_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `ioreg` of a Mac prints, because no Mac runs these tests."""
    monkeypatch.setattr(place, "_machine_id", lambda: None)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: CompletedProcess((), 0, IOREG, ""))
    assert place._host() == "8A2F0C1E-5B77-5D0C-9F55-2C1D6A3B9E10"
