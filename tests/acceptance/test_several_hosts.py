"""The job `extract` on several hosts: one dies, one is cut off, Redis or Postgres stops, clocks and time zones differ.

Nothing is lost or done twice.
"""

import signal
from collections.abc import Iterator

import pytest

from tests.support.acceptance import PATIENCE_SECONDS, wait_for
from tests.support.hosts import CLI, Site, a_site

pytestmark = [pytest.mark.redis, pytest.mark.root]
DOCUMENTS = 120
# So this host takes the steps of the others for unconfirmed as soon as it sees them, and repeats them.
TEN_MINUTES_AHEAD = ("faketime", "-f", "+10m")


@pytest.fixture
def site() -> Iterator[Site]:
    with a_site() as site:
        site.add_documents("lease", DOCUMENTS)
        yield site


def test_the_documents_of_a_host_that_dies_are_done_by_another_whose_clock_is_ten_minutes_ahead(site: Site) -> None:
    ada, bob = site.host("ada", clock=TEN_MINUTES_AHEAD), site.host("bob")
    checked = ada.run("worker", "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "s ahead of the database's" in checked.stdout

    bob.start_worker()
    run = site.launch(steps=2)
    with site.frozen(bob) as held:
        bob.kill()
    done = site.done()
    ada.start_worker()

    site.wait_for_run(run)
    site.assert_each_done_once()
    assert done <= DOCUMENTS - held
    print(f"bob died with {held} documents, when {done} of {DOCUMENTS} were done; by host: {site.done_by_host()}")


@pytest.mark.rule("hosts-3")
def test_the_documents_of_a_host_that_is_cut_off_are_done_by_another_and_not_again_when_it_is_back(site: Site) -> None:
    ada, bob = site.host("ada"), site.host("bob")
    bob_at_work = bob.start_worker()
    run = site.launch(steps=2)
    with site.frozen(bob) as held:
        bob.unplug()
    done = site.done()
    ada.start_worker()
    site.wait_until_done()  # after bob's lease
    bob.plug_in()

    site.wait_for_run(run)
    wait_for(lambda: site.count_live(bob) == 0, "the end of bob's step")
    site.assert_each_done_once()
    assert done <= DOCUMENTS - held
    assert bob_at_work.poll() is None
    print(f"bob was cut off with {held}, when {done} of {DOCUMENTS} were done; by host: {site.done_by_host()}")


def test_a_run_goes_on_when_redis_was_gone_meanwhile(site: Site) -> None:
    ada = site.host("ada")
    ada_at_work = ada.start(*CLI, "worker")
    run = site.launch(steps=2)
    with site.frozen(ada):
        site.stop_redis()
    site.wait_until_done()
    assert run.poll() is None
    site.start_redis()

    site.wait_for_run(run)
    site.assert_each_done_once()
    ada_at_work.terminate()
    assert ada_at_work.wait(PATIENCE_SECONDS) == 0


@pytest.mark.rule("hosts-6")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_run_goes_on_when_postgres_has_ended_and_starts_again(site: Site, how: signal.Signals) -> None:
    """Each host has a time zone of its own, 23 hours apart, and its own path to the library."""
    ada, bob = site.host("ada", zone="EAST-13"), site.host("bob", zone="WEST+10")
    checked = ada.run("worker", "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "as the database's" in checked.stdout
    bob.start_worker()
    run = site.launch(steps=2)
    with site.frozen(bob) as held:
        site.end_postgres(how)
    wait_for(lambda: "Postgres is unavailable" in bob.said, "bob's warning")
    site.start_postgres()
    ada.start_worker()

    site.wait_for_run(run)
    site.assert_each_done_once()
    print(f"bob held {held} documents when Postgres ended; by host: {site.done_by_host()}")


@pytest.mark.rule("hosts-4")
def test_a_worker_that_is_stopped_gives_its_step_and_its_documents_to_another(site: Site) -> None:
    ada, bob = site.host("ada"), site.host("bob")
    bob_at_work = bob.start_worker()
    run = site.launch(steps=1)
    with site.frozen(bob):
        bob_at_work.terminate()
        wait_for(site.is_anyone_deregistering, "bob's step to give back its documents")
    bob_at_work.wait(PATIENCE_SECONDS)
    ada.start_worker()

    site.wait_for_run(run)
    site.assert_each_done_once()
    assert site.done_by_host()["ada"] > 0
