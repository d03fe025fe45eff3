"""The job `extract` on several hosts: one dies, one is cut off, Redis or Postgres stops, clocks and time zones differ.

Nothing is lost or done twice. And nothing leaks: Redis, the workers' command lines and files hold no key and no text. The
tests share one Postgres, one Redis and one ledger. Each has its own hosts and documents.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.acceptance import wait_for
from tests.support.hosts import CLI, Site, a_site
from tests.support.patience import PATIENCE_SECONDS
from tests.support.redis_server import REDIS_PASSWORD
from tests.support.searching import files_with

pytestmark = [pytest.mark.redis, pytest.mark.root]
DOCUMENTS = 100
# So this host takes the steps of the others for unconfirmed as soon as it sees them, and repeats them.
TEN_MINUTES_AHEAD = ("faketime", "-f", "+10m")


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    with a_site() as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    environment = dict(shared_site.environment)
    shared_site.redis.clear()
    shared_site.add_documents(f"after-{shared_site.documents}", DOCUMENTS)
    shared_site.hold_texts()
    yield shared_site
    shared_site.remove_hosts()
    shared_site.environment = environment


def test_the_documents_of_a_host_that_dies_are_done_by_another_whose_clock_is_ten_minutes_ahead(site: Site) -> None:
    ada, bob = site.host("ada", clock=TEN_MINUTES_AHEAD), site.host("bob")
    checked = ada.run("worker", "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "s ahead of the database's" in checked.stdout
    assert f"its password and that of Postgres are sent to {site.address} unencrypted" in checked.stdout
    assert f"texts and records are sent to {site.address} unencrypted" in checked.stdout

    bob.start_worker()
    run = site.launch(steps=2)
    with site.frozen(bob) as held:
        bob.kill()
    done = site.done()
    ada.start_worker()

    site.wait_for_run(run)
    site.assert_each_done_once()
    assert done <= site.documents - held
    print(f"bob died with {held} documents, when {done} of {site.documents} were done; by host: {site.done_by_host()}")


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
    assert done <= site.documents - held
    assert bob_at_work.poll() is None
    print(f"bob was cut off with {held}, when {done} of {site.documents} were done; by host: {site.done_by_host()}")


def test_a_run_goes_on_when_redis_was_gone_meanwhile(site: Site) -> None:
    ada = site.host("ada")
    ada_at_work = ada.start(*CLI, "worker")
    run = site.launch(steps=2)
    with site.frozen(ada):
        site.redis.stop()
    site.wait_until_done()
    assert run.poll() is None
    site.redis.start()

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
    assert site.done_by_host()[ada.name] > 0


@pytest.mark.rule("hosts-4")
def test_a_worker_whose_terminal_closes_gives_back_what_it_holds(site: Site) -> None:
    ada, bob = site.host("ada"), site.host("bob")
    terminal = bob.start_worker_in_a_terminal()
    run = site.launch(steps=1)
    with site.frozen(bob):
        os.close(terminal)  # the kernel sends SIGHUP to the worker and to its step
        wait_for(site.is_anyone_deregistering, "bob's step to give back its documents")
    wait_for(lambda: not bob.pids(), "the end of bob's worker")
    ada.start_worker()

    site.wait_for_run(run)
    site.assert_each_done_once()
    assert site.done_by_host()[ada.name] > 0


def test_redis_and_the_workers_show_no_key_and_no_text_of_a_document(site: Site) -> None:
    text, secrets = "the rent is", (REDIS_PASSWORD, "s3cret-key", "s3cret-url")
    site.environment |= {
        "OFFLOAD_DEEP_URL": f"http://me:s3cret-url@{site.address}:9",
        "OFFLOAD_DEEP_MODEL": "qwen-macbook",
        "OFFLOAD_DEEP_API_KEY": "s3cret-key",
    }
    ada = site.host("ada")
    worker = ada.start(*CLI, "worker")
    run = site.launch(steps=1)
    with site.frozen(ada):
        task = site.redis.content()
        lines = ada.command_lines()
    site.wait_for_run(run)
    result = site.redis.content()
    worker.terminate()
    assert worker.wait(PATIENCE_SECONDS) == 0

    assert "step_keys_to_execute" in task, "the task that ada works on"
    assert "STEP_SUCCESS" in result
    assert any("celery" in line for line in lines)
    shown = [task, result, *lines, ada.said, (site.folder / "run").read_text()]
    assert [word for word in (text, *secrets) if any(word in each for each in shown)] == []
    assert files_with([text], site.server, without=[]), "the texts are in the ledger"
    assert files_with([text], site.folder, without=[site.library, site.server]) == []
    assert files_with(secrets, site.folder, without=[]) == []
