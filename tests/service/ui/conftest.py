"""A UI without a log-in, and one with a token, a password and a path prefix. Each module has its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.service.ui.access import Access
from dagster_offload.service.ui.passwords import hash_password, write_password_file
from tests.support.ui_attacks import PASSWORD, access
from tests.support.web import Web, web


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(scope="module")
def ui(homes: Path) -> Iterator[Web]:
    """A UI on loopback without a log-in."""
    with web(access(homes / "open")) as ui:
        yield ui


@pytest.fixture(scope="module")
def guarded(homes: Path) -> Access:
    file = homes / "password"
    write_password_file(file, hash_password(PASSWORD))
    return access(homes / "guarded", ui_token="on", ui_password_file=str(file), ui_path_prefix="/offload")


@pytest.fixture(scope="module")
def guarded_ui(guarded: Access) -> Iterator[Web]:
    """A UI with a token, a password and a path prefix."""
    with web(guarded) as ui:
        yield ui
