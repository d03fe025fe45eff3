"""The names others rely on stay importable where they are, and importing the package costs nothing."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import dagster_offload

PUBLIC = {
    "dagster_offload": ["__version__"],
    "dagster_offload.client": ["AIClient", "call_deep_or_defer"],
    "dagster_offload.definitions": ["build_definitions", "defs"],
    "dagster_offload.drain": ["drain"],
    "dagster_offload.errors": ["DrainRefused", "StageDeferred", "is_deferrable_error"],
}


@pytest.mark.parametrize(("module", "names"), PUBLIC.items())
def test_public_names_are_where_others_import_them(module: str, names: list[str]) -> None:
    imported = importlib.import_module(module)
    assert [name for name in names if not hasattr(imported, name)] == []
    assert set(getattr(imported, "__all__", names)) >= set(names)


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(dagster_offload.__file__).parent / "py.typed").exists()


def test_importing_the_package_imports_no_library() -> None:
    program = (
        "import sys, dagster_offload; print(sorted({'dagster', 'httpx', 'psycopg', 'pydantic'} & set(sys.modules)))"
    )
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
