"""What every test gets: an environment without settings, the databases and the stand-in router."""

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from dagster_offload.host.python_process import importing
from tests.support.environment import without_settings

pytest_plugins = [
    "dagster_offload.testing",
    "tests.support.needs",
    "tests.support.ocr",
    "tests.support.database",
    "tests.support.router",
    "tests.support.engine",
    "tests.support.kept_extractor",
    "tests.support.several_slots",
    "tests.support.real_server",
]

# A test does not assert a time, so an example has no deadline.
settings.register_profile("any machine", settings.default, deadline=None)
settings.load_profile("any machine")

# A shell that runs the tests in the background lets them ignore Ctrl-C, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without garbage collections. Later ones do not look at the modules and at the thousands of tests."""
    with importing():
        return (yield)


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path) -> Iterator[None]:
    """Hide this machine's settings, `.env` file, home and proxies from the test, and undo what the test sets."""
    with without_settings(tmp_path):
        yield
