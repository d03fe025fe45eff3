"""A router that refuses everything because of a wrong setting: few calls, no failed document, a reason with its name."""

import json
from collections.abc import Iterator

import pytest

from dagster_offload.simulator import Router
from tests.support.acceptance import Home
from tests.support.ui import configure, home_for, write_letters

CONCURRENCY = 3
DOCUMENTS = [f"letter-{number}.txt" for number in range(8)]


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Router(mode="refuse") as router:
        yield router


@pytest.fixture(scope="module")
def home(router: Router) -> Iterator[Home]:
    with home_for(router) as home:
        configure(home, router, deep_concurrency=CONCURRENCY)
        write_letters(home, *DOCUMENTS)
        assert home.run("scan").returncode == 0
        yield home


@pytest.mark.rule("drain-6")
@pytest.mark.parametrize(
    ("status", "exit_code", "cure"),
    [(500, 75, "refused by script"), (401, 78, "OFFLOAD_DEEP_API_KEY"), (404, 78, "the server lists qwen-macbook")],
)
def test_a_drain_at_a_router_that_refuses_everything_stops_early_and_names_the_cure(
    home: Home, router: Router, status: int, exit_code: int, cure: str
) -> None:
    home.run("slot", "forget", "deep")  # forget what the previous case found
    router.set(mode="refuse", health="green", status=status)
    calls = len(router.completions())
    drained = home.run("drain", "--json")
    assert drained.returncode == exit_code, drained.stderr
    summary = json.loads(drained.stdout)
    assert cure in summary["reason"]
    assert str(status) in summary["reason"]
    assert (summary["done"], summary["failed"], summary["deferred"] + summary["left"]) == (0, 0, len(DOCUMENTS))
    assert 0 < len(router.completions()) - calls <= CONCURRENCY + 2
    assert home.ledger.count("failed") == 0
    assert home.ledger("select sum(attempts) as n from work_items") == [{"n": 0}]
