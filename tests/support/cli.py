"""Run commands in this process."""

from collections.abc import Callable

from click.testing import CliRunner, Result

from dagster_offload.cli import main

Call = Callable[..., Result]


def call(*arguments: str, **options: str) -> Result:
    """Run a command: `call("status", "--json")`."""
    return CliRunner().invoke(main, arguments, **options)  # type: ignore[arg-type]
