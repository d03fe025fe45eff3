"""Fixtures of the commands' tests. Each test has its own home; settings are environment variables."""

import os
from pathlib import Path

import pytest

from dagster_offload.simulator import Router
from tests.support import cli
from tests.support.cli import Call


@pytest.fixture(autouse=True)
def own_settings(clean_environment: None, kept_extractor: None, tmp_path: Path) -> None:
    os.environ["OFFLOAD_HOME"] = str(tmp_path / "home")
    os.environ["OFFLOAD_OCR"] = "off"  # the tests do not depend on the OCR that this machine has


@pytest.fixture
def call() -> Call:
    return cli.call


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library of two documents; OFFLOAD_LIBRARY names it."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "letter.txt").write_text("Dear landlord, the heating has been cold since Monday. Yours, Ada Lovelace.")
    (folder / "minutes.md").write_text("# Minutes\n\nPresent: Ada, Grace. Decided: buy a second printer for 300 euros.")
    os.environ["OFFLOAD_LIBRARY"] = str(folder)
    return folder


@pytest.fixture
def with_ledger(ledger_url: str) -> str:
    """An empty ledger; OFFLOAD_POSTGRES_URL names it."""
    os.environ["OFFLOAD_POSTGRES_URL"] = ledger_url
    return ledger_url


@pytest.fixture
def router(router: Router) -> Router:
    """The stand-in router; OFFLOAD_DEEP_URL names it."""
    os.environ["OFFLOAD_DEEP_URL"] = router.url
    os.environ["OFFLOAD_DEEP_MODEL"] = "qwen-macbook"
    return router


@pytest.fixture
def scanned(with_ledger: str, library: Path) -> Path:
    """The library after a scan and extraction by the engine, without Dagster."""
    cli.scan_and_extract()
    return library


@pytest.fixture
def answered(library: Path, with_ledger: str, router: Router, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of two documents with records, by the engine, without Dagster."""
    monkeypatch.setenv("OFFLOAD_DEEP_URL", router.url)
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "qwen-macbook")
    cli.scan_and_extract()
    cli.drained()
    return library
