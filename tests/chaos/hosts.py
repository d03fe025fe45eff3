"""`python -m tests.chaos.hosts`, started by `make hosts`: the long story of two hosts, with its counts.

Needs root, Redis and faketime. Six parts, each with documents of its own: bob dies; bob is cut off for two minutes; Redis is
gone for a minute; Postgres is stopped for a minute; Postgres is killed; both hosts drain at one slot, and bob dies. ada's clock
is ten minutes ahead, and its time zone is 23 hours from bob's. After each part, every document was done, recorded and
reported once.
"""

import argparse
import signal
import time
from collections import Counter

from dagster_offload.simulator import Router
from tests.support.acceptance import wait_for
from tests.support.hosts import CLI, Host, Site, a_site
from tests.support.patience import PATIENCE_SECONDS

TEN_MINUTES_AHEAD = ("faketime", "-f", "+10m")
CUT_SECONDS, REDIS_SECONDS, POSTGRES_SECONDS = 120, 60, 60
CONCURRENCY = 2
LATER = 50
DRAINED = 40  # documents at most, of each drain


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--documents", type=int, default=1_000, help="of each part")
    count = options.parse_args().documents
    with a_site() as site:
        ada, bob = site.host("ada", clock=TEN_MINUTES_AHEAD, zone="EAST-13"), site.host("bob", zone="WEST+10")
        for name, part in PARTS.items():
            began = time.monotonic()
            site.add_documents(part.__name__, count)
            found = part(site, ada, bob)
            site.assert_each_done_once()
            seconds = time.monotonic() - began
            print(
                f"{name}: {found}; {site.documents} of {site.documents} done once, by {site.done_by_host()}; {seconds:.0f} s",
                flush=True,
            )
            ada.kill()
            bob.kill()
        print(f"both drain, bob dies: {drains(site, ada, bob)}", flush=True)


def dies(site: Site, ada: Host, bob: Host) -> str:
    """bob dies with documents. ada does them, and Celery repeats bob's step there."""
    bob.start_worker()
    run = site.launch(steps=2)
    with site.frozen(bob) as held:
        bob.kill()
    left = site.documents - site.done()
    ada.start_worker()
    site.wait_for_run(run)
    return f"it held {held}, {left} were left"


def cut_off(site: Site, ada: Host, bob: Host) -> str:
    """bob is cut off, and comes back after two minutes. It does the next run alone."""
    bob.start_worker()
    run = site.launch(steps=2)
    with site.frozen(bob) as held:
        bob.unplug()
    began, left = time.monotonic(), site.documents - site.done()
    ada.start_worker()
    time.sleep(CUT_SECONDS)
    bob.plug_in()
    seconds = time.monotonic() - began
    site.wait_until_done()
    site.wait_for_run(run)
    ada.kill()
    site.add_documents("alone", LATER)
    site.wait_for_run(site.launch(steps=1))
    return f"it held {held}, {left} were left, it was back after {seconds:.0f} s and did {LATER} more alone"


def without_redis(site: Site, ada: Host, bob: Host) -> str:
    """Redis stops while a step works, and starts again after a minute."""
    ada.start_worker()
    bob.start_worker()
    run = site.launch(steps=2)
    with site.frozen(bob):
        site.redis.stop()
        left = site.documents - site.done()
    time.sleep(REDIS_SECONDS)
    done = left - (site.documents - site.done())
    site.redis.start()
    site.wait_for_run(run)
    return f"{left} were left, {done} of them were done without it"


def stopped(site: Site, ada: Host, bob: Host) -> str:
    """Postgres is stopped, and starts again after a minute."""
    return _without_postgres(site, ada, bob, signal.SIGINT, POSTGRES_SECONDS)


def killed(site: Site, ada: Host, bob: Host) -> str:
    """All processes of Postgres are killed, and it starts again at once."""
    return _without_postgres(site, ada, bob, signal.SIGKILL, 0)


def _without_postgres(site: Site, ada: Host, bob: Host, how: signal.Signals, seconds: int) -> str:
    bob.start_worker()
    run = site.launch(steps=2)
    with site.frozen(bob) as held:
        ada.start_worker()
        left = site.documents - site.done()
        site.end_postgres(how)
    time.sleep(seconds)
    site.start_postgres()
    site.wait_for_run(run)
    return f"bob held {held}, {left} were left"


def drains(site: Site, ada: Host, bob: Host) -> str:
    """Both hosts drain at one slot. Together they keep to its concurrency, and ada does what bob had begun."""
    router = Router(concurrency=2 * CONCURRENCY, latency=0.05, hold=True)
    router.host = site.address
    with router:
        slot = {"OFFLOAD_DEEP_URL": router.url, "OFFLOAD_DEEP_MODEL": "qwen-macbook"}
        slot["OFFLOAD_DEEP_CONCURRENCY"] = str(CONCURRENCY)
        for host in (ada, bob):
            host.environment |= slot
        of_bob = bob.start(*CLI, "drain", "--limit", str(DRAINED))
        router.wait(open=CONCURRENCY, timeout=PATIENCE_SECONDS)
        of_ada = ada.start(*CLI, "drain", "--limit", str(DRAINED))
        wait_for(lambda: site.count_live(ada) >= 2, "ada's drain")
        open_together = router.log()["open"]
        router.set(hold=False)
        wait_for(lambda: len(router.completions()) >= DRAINED // 2, "answers")
        bob.kill()
        of_bob.wait(PATIENCE_SECONDS)
        assert of_ada.wait(PATIENCE_SECONDS) == 0, ada.said[-3000:]
        asked = Counter((call["document"], call["stage"]) for call in router.completions() if call["document"])
        log = router.log()
    assert max(open_together, log["max_open"]) <= CONCURRENCY
    twice = sum(asked.values()) - len(asked)
    assert twice <= CONCURRENCY, asked.most_common(5)
    [row] = site.sql(
        "select count(*) as results, count(distinct (stage, input_digest)) as inputs from results where stage <> 'extract'"
    )
    assert row["results"] == row["inputs"]
    most = log["max_open"]
    return f"{row['results']} results, {sum(asked.values())} answers ({twice} repeated), at most {most} open of {CONCURRENCY}"


PARTS = {
    "bob dies": dies,
    "bob is cut off": cut_off,
    "Redis is gone": without_redis,
    "Postgres is stopped": stopped,
    "Postgres is killed": killed,
}

if __name__ == "__main__":
    main()
