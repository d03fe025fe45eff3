"""Run commands, and the work that they show, in this process."""

from collections.abc import Callable

from click.testing import CliRunner, Result

from dagster_offload.cli import main

Call = Callable[..., Result]


def call(*arguments: str, **options: str) -> Result:
    """Run a command: `call("status", "--json")`."""
    return CliRunner().invoke(main, arguments, **options)  # type: ignore[arg-type]


def scan_and_extract() -> None:
    """Scan the library and extract its texts by the engine, without Dagster."""
    from dagster_offload.engine.extraction.run import run_extraction
    from dagster_offload.engine.scan import scan
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.settings import load_settings

    settings = load_settings()
    with open_ledger(settings) as ledger:
        scan(settings, ledger)
        run_extraction(settings, ledger)


def drained() -> None:
    """Drain the two documents of `library` by the engine, without Dagster."""
    from dagster_offload.drain import drain

    assert drain().done == 2
