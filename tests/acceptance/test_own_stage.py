"""A stage is added by editing the pipeline file of a running `up`: its asset, its work and its records follow."""

import csv
import io
from collections.abc import Iterator

import pytest

from dagster_offload.simulator import Router
from dagster_offload.stages.graph import SUMMARIZE
from tests.support.acceptance import Home, a_home, wait_for
from tests.support.ui import UI

STAGE = """\
  payment:
    description: What is to be paid.
    when: {classify: {category: invoice}}
    prompt: What must be paid, and by when?
    answer: {amount: number, currency: {enum: [EUR, KRW]}, due: date, items: [{what: string}]}
    quotes: true
"""


@pytest.fixture
def home(router: Router) -> Iterator[Home]:
    router.set(mode="awake")
    with a_home(router) as home:
        home.write("invoice.txt", "Invoice. Amount due: 1250.50 EUR by 2025-03-04. VAT included.")
        home.write("letter.txt", "Dear landlord, kind regards, yours faithfully, sincerely.")
        yield home


def asset_names(ui: UI) -> set[str]:
    return {node["assetKey"]["path"][-1] for node in ui.ask("{ assetNodes { assetKey { path } } }")["assetNodes"]}


def test_a_stage_added_to_a_running_up_becomes_an_asset_work_and_columns(home: Home, router: Router) -> None:
    options = {"--library": str(home.library), "--deep-url": router.url, "--deep-model": "qwen-macbook"}
    for variable in ("OFFLOAD_LIBRARY", "OFFLOAD_DEEP_URL", "OFFLOAD_DEEP_MODEL"):
        del home.environment[variable]
    home.up(*(word for option in options.items() for word in option))
    ui = UI(home)
    wait_for(lambda: home.ledger.count("done", SUMMARIZE) == 2, "the built-in stages")
    assert "payment" not in asset_names(ui)

    file = home.home / "offload.yaml"
    before, stages, after = file.read_text().partition("\nstages:")
    line, _, rest = after.partition("\n")
    edited = file.with_suffix(".new")
    edited.write_text(f"{before}{stages}{line}\n{STAGE}{rest}")
    edited.chmod(file.stat().st_mode)
    edited.replace(file)  # at once: `up` may read the file at any time
    wait_for(lambda: "payment" in asset_names(ui), "the stage's asset")
    wait_for(lambda: home.ledger.count("done", "payment") == 2, "the stage's answers")
    rows = {row["document"]: row for row in csv.DictReader(io.StringIO(home.run("records", "--format", "csv").stdout))}
    assert (rows["invoice.txt"]["payment.amount"], rows["invoice.txt"]["payment.due"]) == ("1250.5", "2025-03-04")
    assert rows["letter.txt"]["payment.amount"] == ""
    wait_for(lambda: home.ledger("select 1 from outbox where told_at is null") == [], "the materializations")
    assert len(router.completions()) == 5, "one call for each built-in stage, and one for the invoice"
