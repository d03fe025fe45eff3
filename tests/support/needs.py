"""Markers name what a test needs from the machine. If it is missing, the test is skipped with a reason.

With CI=true the test fails instead, because CI has everything.
"""

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# Their tests start servers, processes or Dagster instances, or take long.
SLOW_FOLDERS = ("acceptance", "benchmarks", "chaos", "dagster", "faults", "postgres", "real_model", "service")
# Tests that mostly wait for processes. Their files are spread among the others, which keep the processors busy meanwhile.
WAITING_FOLDERS = ("chaos", "acceptance", "docs", "demo", "postgres")
# Of the others, these start first, so that no worker of a parallel run still has a long file when the others have finished.
FIRST_FOLDERS = ("dagster", "engine", "faults", "service", "extraction")


def pgbouncer() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _without_root() -> str | None:
    return None if os.geteuid() == 0 else "needs root, to become another user or to mount a disk"


def _without_pgbouncer() -> str | None:
    return None if pgbouncer() else "needs pgbouncer: apt-get install pgbouncer"


def _without_chromium() -> str | None:
    return None if chromium() else "needs a browser: apt-get install chromium"


def _without_caddy() -> str | None:
    return None if shutil.which("caddy") else "needs Caddy: apt-get install caddy"


@functools.cache
def _without_tesseract() -> str | None:
    from dagster_offload.extraction.ocr.tesseract import find_reader
    from tests.support.ocr import LANGUAGES

    reader = find_reader("auto", LANGUAGES)
    return None if reader.languages == LANGUAGES else f"needs OCR. {reader.advice}"


def _without_redis() -> str | None:
    if importlib.util.find_spec("dagster_celery") is None:
        return "needs Celery: pip install dagster-offload[celery]"
    missing = [program for program in ("redis-server", "faketime") if shutil.which(program) is None]
    return f"needs {' and '.join(missing)}: apt-get install {' '.join(missing)}" if missing else None


MISSING: dict[str, Callable[[], str | None]] = {
    "root": _without_root,
    "pgbouncer": _without_pgbouncer,
    "caddy": _without_caddy,
    "chromium": _without_chromium,
    "tesseract": _without_tesseract,
    "redis": _without_redis,
}


def skip_or_fail(reason: str) -> None:
    """Skip the current test; with CI=true, fail it."""
    pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) is not None and (reason := missing()) is not None:
            skip_or_fail(reason)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _folder(item) in SLOW_FOLDERS:
            item.add_marker("slow")
        if _folder(item) == "benchmarks":
            item.add_marker("alone")
    items[:] = in_order(items)


def in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """The items by files. Those that wait are among the first two thirds of the others, at equal distances."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    waiting = sorted((file for file in files.values() if _folder(file[0]) in WAITING_FOLDERS), key=_rank)
    others = sorted((file for file in files.values() if _folder(file[0]) not in WAITING_FOLDERS), key=_rank)
    distance = max(1, 2 * len(others) // (3 * len(waiting))) if waiting else 1
    ordered = []
    while waiting or others:
        ordered += waiting[:1] + others[:distance]
        del waiting[:1], others[:distance]
    return [item for file in ordered for item in file]


def _rank(file: list[pytest.Item]) -> int:
    order, folder = (*WAITING_FOLDERS, *FIRST_FOLDERS), _folder(file[0])
    return order.index(folder) if folder in order else len(order)


def _folder(item: pytest.Item) -> str:
    """The folder of `tests/` that the test is in."""
    return item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
