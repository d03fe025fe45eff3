"""docs/commands.md is what the commands' own help says."""

from importlib.metadata import version

import pytest
from click.testing import CliRunner

from dagster_offload.cli import main
from tools import commands
from tools.requirements import pins


@pytest.mark.skipif(version("click") != pins()["click"], reason="another version of click writes the help differently")
def test_the_page_of_commands_is_up_to_date() -> None:
    assert commands.FILE.read_text(encoding="utf-8") == commands.content(), "run `make commands`, and commit the page"


@pytest.mark.parametrize(("command", "option"), [("up", "--behind-proxy"), ("stage try", "--prompt-file")])
def test_the_page_has_the_options_that_help_shows(command: str, option: str) -> None:
    assert option in CliRunner().invoke(main, [*command.split(), "--help"]).output
    section = commands.content().partition(f"# dagster-offload {command}\n")[2].partition("\n#")[0]
    assert f"| `{option}" in section
