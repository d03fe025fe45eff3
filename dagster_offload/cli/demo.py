"""`dagster-offload demo`: the whole product on sample documents, with a home, a router and ports of its own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

import dagster_offload
from dagster_offload.cli.options import json_option


@click.command("demo")
@click.option(
    "--exit", "ends_by_itself", is_flag=True, help="End when the records are there, instead of keeping the UI."
)
@json_option
def command(*, ends_by_itself: bool, as_json: bool) -> None:
    """Watch it work on sample documents: put off while the router sleeps, drained when it wakes.

    Everything it makes (home, library, Postgres, a stand-in router) is its own and gone when it ends.

    \b
    dagster-offload demo
    dagster-offload demo --exit --json
    """
    from dagster_offload.cli.console import progress_console
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.demo.story import play
    from dagster_offload.errors import OffloadError
    from dagster_offload.simulator import Router

    console = progress_console()
    home = Path(tempfile.mkdtemp(prefix="dagster-offload-demo-")).resolve()
    try:
        with Router(mode="cold", retry_after="20", latency=0.2, width=2) as router, _own_settings(home, router.url):
            found = play(home, router, console, ends_by_itself=ends_by_itself)
    except OffloadError as error:
        raise OffloadError(f"{error} (logs are kept in {home / 'logs'})") from error
    shutil.rmtree(home)
    if found is None:
        raise KeyboardInterrupt
    if as_json:
        print_json(found)


@contextmanager
def _own_settings(home: Path, router_url: str) -> Iterator[None]:
    """No setting of the caller's reaches the demo, neither from the environment nor from a `.env` file here."""
    library = home / "library"
    before, folder = dict(os.environ), Path.cwd()
    for name in [name for name in os.environ if name.startswith(("OFFLOAD_", "DAGSTER_"))]:
        del os.environ[name]
    os.environ |= {
        "OFFLOAD_HOME": str(home),
        "OFFLOAD_LIBRARY": str(library),
        "OFFLOAD_DEEP_URL": router_url,
        "OFFLOAD_DEEP_MODEL": "qwen-macbook",
        "OFFLOAD_DEEP_EXPECTED_MODEL": "simulated/",
        "OFFLOAD_DEEP_CONCURRENCY": "2",
    }
    shutil.copytree(sample_library(), library)
    os.chdir(home)
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ |= before


def sample_library() -> Path:
    """The documents that ship with the package; in a checkout, where they are made."""
    package = Path(dagster_offload.__file__).parent
    shipped = package / "sample_library"
    return shipped if shipped.is_dir() else package.parent / "fixtures" / "library"
