"""Commands called in this process, as typed in a terminal."""

from collections.abc import Callable

from click.testing import CliRunner, Result

from dagster_offload.cli import main

Call = Callable[..., Result]


def call(*arguments: str, **options: str) -> Result:
    """`call("status", "--json")` as typed in a terminal."""
    return CliRunner().invoke(main, arguments, **options)  # type: ignore[arg-type]
