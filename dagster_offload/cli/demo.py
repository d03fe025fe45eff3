"""`dagster-offload demo`: a demonstration on sample documents, with its own home, router and ports."""

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
    "--exit", "exits_when_done", is_flag=True, help="Exit when the records are complete. By default the UI stays up."
)
@json_option
def command(*, exits_when_done: bool, as_json: bool) -> None:
    """Run a demonstration on sample documents: deferred while the router sleeps, drained when it wakes.

    The demo uses its own home, library, Postgres and stand-in router, and removes them when it ends.

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
        with (
            Router(mode="cold", retry_after="20", latency=0.2, concurrency=2) as router,
            _own_settings(home, router.url),
        ):
            summary = play(home, router, console, exits_when_done=exits_when_done)
    except OffloadError as error:
        raise OffloadError(f"{error} (the demo made this home in TMPDIR; its logs are in {home / 'logs'})") from error
    shutil.rmtree(home)
    if summary is None:
        raise KeyboardInterrupt
    if as_json:
        print_json(summary)


@contextmanager
def _own_settings(home: Path, router_url: str) -> Iterator[None]:
    """Replace the caller's settings, both the environment and the `.env` file of the current folder, during the demo."""
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
    """The folder of sample documents: shipped with the package, or `fixtures/library` in a checkout."""
    package = Path(dagster_offload.__file__).parent
    shipped = package / "sample_library"
    return shipped if shipped.is_dir() else package.parent / "fixtures" / "library"
