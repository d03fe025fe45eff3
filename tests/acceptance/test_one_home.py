"""One home, one pipeline: what `up` runs with is what every command in any terminal uses, until a person edits the file."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.host.replacing import replace_file
from dagster_offload.simulator import Router
from dagster_offload.stages.graph import CLASSIFY
from tests.support.acceptance import Home, a_home, wait_for


@pytest.fixture
def home(router: Router) -> Iterator[Home]:
    """A home without any variable but its own, and a router that is asleep."""
    router.set(mode="cold")
    with a_home(router) as home:
        home.environment = {name: value for name, value in home.environment.items() if not name.startswith("OFFLOAD_")}
        home.environment["OFFLOAD_HOME"] = str(home.home)
        home.write("letter.txt", "Dear landlord, the heating has been cold since Monday. Yours, Ada Lovelace.")
        yield home


@pytest.mark.rule("pipeline-4", "pipeline-8")
def test_up_keeps_its_options_in_a_file_that_every_terminal_uses_and_takes_over_edits(
    home: Home, router: Router
) -> None:
    home.up("--library", str(home.library), "--deep-url", router.url, "--deep-model", "qwen-macbook")
    file = home.home / "offload.yaml"
    assert f"These settings are now in {file}" in home.said
    status = home.status()
    assert status["deep"]["configured"], "status in another terminal needs no variable"
    assert status["pipeline"] == {"file": str(file), "edit_not_in_force": None, "differs_here": None}

    home.environment["OFFLOAD_CLASSES"] = "tax"
    refused = home.run("drain", "--json")
    assert refused.returncode == 2
    assert "stages.classify.classes is tax here and invoice, letter, contract" in json.loads(refused.stdout)["error"]
    assert home.run("redo", "--outdated", "--yes").returncode == 2
    assert "stages.classify.classes is tax here" in home.status()["pipeline"]["differs_here"]
    del home.environment["OFFLOAD_CLASSES"]

    text = file.read_text()
    replace_file(file, text + "clases: [tax]\n", mode=0o600)  # at once: `up` may read the file at any time
    wait_for(lambda: "not in force" in home.said, "the edit is noticed")
    file_in_use = home.home / "running-offload.yaml"
    assert file_in_use.read_text() == text
    wait_for(lambda: home.ledger("select 1 from pipelines where problem is not null") != [], "the problem is announced")
    assert "clases" in home.status()["pipeline"]["edit_not_in_force"]
    for command, code in (("pause", 0), ("resume", 0), ("records", 0), ("drain", 2)):
        ended = home.run(command)
        assert (ended.returncode, "there is no key 'clases'" in ended.stderr) == (code, True), command
    replace_file(file, text, mode=0o600)
    wait_for(lambda: "are in force." in home.said, "the edit is taken over")
    assert home.run("config", "set", "stages.classify.classes", "tax, letter").returncode == 0
    wait_for(lambda: "tax" in file_in_use.read_text(), "the edit is taken over")
    announced = "select 1 from pipelines where settings ->> 'stages.classify.classes' = 'tax, letter'"
    wait_for(lambda: home.ledger(announced) != [], "the edit is announced")
    assert home.status()["pipeline"]["differs_here"] is None

    router.set(mode="awake")
    wait_for(lambda: home.ledger.count("done", CLASSIFY) == 1, "the record of the edited pipeline")
    assert home.status()["stages"]["classify"]["outdated"] == 0

    assert home.run("stop").returncode == 0
    assert not file_in_use.exists()
    home.up()
    assert home.status()["pipeline"]["file"] == str(file)


def test_a_file_elsewhere_is_linked_to_the_home_and_another_one_is_refused(home: Home, router: Router) -> None:
    project = home.folder / "project"
    project.mkdir()
    (project / "offload.yaml").write_text(
        f"library: {{path: ../library}}\nslots: {{deep: {{url: '{router.url}', model: qwen-macbook}}}}\n"
    )
    home.up("--config", str(project / "offload.yaml"))
    assert (home.home / "offload.yaml").resolve() == (project / "offload.yaml").resolve()
    assert home.status()["deep"]["configured"]
    assert home.run("stop").returncode == 0
    other = home.folder / "other.yaml"
    other.write_text("library: {path: library}\n")
    refused = home.run("up", "--config", str(other))
    assert refused.returncode == 2
    assert "is the pipeline file of this home" in refused.stderr


def test_a_first_start_whose_postgres_does_not_answer_writes_no_pipeline_file(home: Home, router: Router) -> None:
    options = ("--library", str(home.library), "--deep-url", router.url, "--deep-model", "qwen-macbook")
    home.environment["OFFLOAD_POSTGRES_URL"] = "postgresql://127.0.0.1:1/offload"
    refused = home.run("up", *options)
    assert "OFFLOAD_POSTGRES_URL: cannot use the database at" in refused.stderr
    assert not (home.home / "offload.yaml").exists()
    del home.environment["OFFLOAD_POSTGRES_URL"]
    home.up(*options)
    assert (home.home / "offload.yaml").exists()


@pytest.mark.rule("pipeline-5")
def test_a_mistyped_library_is_refused_at_the_first_start_and_nothing_is_written(home: Home) -> None:
    wrong = Path(f"{home.library}x")
    refused = home.run("up", "--library", str(wrong))
    assert refused.returncode == 2
    assert f"the library {wrong} does not exist: did you mean {home.library}?" in refused.stderr
    assert not (home.home / "offload.yaml").exists()


def test_after_init_the_options_of_up_are_in_the_file_that_every_terminal_uses(home: Home, router: Router) -> None:
    assert home.run("init").returncode == 0
    file = home.home / "offload.yaml"
    home.up("--library", str(home.library), "--deep-url", router.url, "--deep-model", "qwen-macbook")
    assert f"Now in {file}: " in home.said
    assert "For this start only" not in home.said
    status = home.status()
    assert (status["deep"]["configured"], status["pipeline"]["differs_here"]) == (True, None)
    assert home.run("config", "set", "slots.deep.model", "other").returncode == 0
    wait_for(lambda: "are in force." in home.said, "the edit is taken over: no option overrides it")
