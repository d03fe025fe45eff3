"""Commands called in this process, away from every setting of the person who runs the tests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dagster_offload.cli import main
from dagster_offload.simulator import Router

Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of this test's own; what options put into the environment is gone after it."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("OFFLOAD_")]:
        del os.environ[name]
    os.environ["OFFLOAD_HOME"] = str(tmp_path / "home")
    os.environ["OFFLOAD_OCR"] = "off"  # what this machine has installed has no say
    monkeypatch.chdir(tmp_path)  # no .env of the checkout
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def call() -> Call:
    """`call("status", "--json")` as typed in a terminal."""

    def call(*arguments: str, **options: str) -> Result:
        return CliRunner().invoke(main, arguments, **options)  # type: ignore[arg-type]

    return call


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Two documents and a broken one, named by OFFLOAD_LIBRARY."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "letter.txt").write_text("Dear landlord, the heating has been cold since Monday. Yours, Ada Lovelace.")
    (folder / "minutes.md").write_text("# Minutes\n\nPresent: Ada, Grace. Decided: buy a second printer for 300 euros.")
    os.environ["OFFLOAD_LIBRARY"] = str(folder)
    return folder


@pytest.fixture
def with_ledger(ledger_url: str) -> str:
    """An empty ledger, named by OFFLOAD_POSTGRES_URL."""
    os.environ["OFFLOAD_POSTGRES_URL"] = ledger_url
    return ledger_url


@pytest.fixture
def router() -> Iterator[Router]:
    """A stand-in router, named by OFFLOAD_DEEP_URL."""
    with Router() as router:
        os.environ["OFFLOAD_DEEP_URL"] = router.url
        os.environ["OFFLOAD_DEEP_MODEL"] = "qwen-macbook"
        yield router


@pytest.fixture
def scanned(with_ledger: str, library: Path) -> Path:
    """The library, scanned and extracted by the engine without Dagster."""
    from dagster_offload.engine.extract import run_extraction
    from dagster_offload.engine.scan import scan
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.settings import load_settings

    settings = load_settings()
    with open_ledger(settings) as ledger:
        scan(settings, ledger)
        run_extraction(settings, ledger)
    return library
