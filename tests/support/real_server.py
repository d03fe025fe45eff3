"""A real llama.cpp server in a process of its own, with a generated model."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.slot.completion import RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.stages import classify, summarize
from tests.support import llama_server
from tests.support.needs import skip_or_fail

NEEDED = ("xllamacpp", "gguf", "tokenizers", "numpy")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model. If the server's packages are missing, the test is skipped, or fails with CI=true."""
    if sys.version_info >= (3, 12) or sys.platform != "linux":
        pytest.skip("the real llama.cpp server is a dependency on Linux with Python 3.11 only (pyproject.toml)")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        skip_or_fail(f"the real llama.cpp server needs {', '.join(missing)}")
    path = tmp_path_factory.mktemp("model") / "random-qwen3.gguf"
    llama_server.make_model(path)
    return path


@contextmanager
def served(model_file: Path, *options: str) -> Iterator[tuple[SlotConfig, "subprocess.Popen[str]"]]:
    """Start the server; yields its slot and its process."""
    command = [sys.executable, llama_server.__file__, str(model_file), "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            said = next((line for line in process.stdout if line.startswith("listening")), "")
            assert said, "the server ended before it listened"
            yield SlotConfig(name="deep", url=said.split()[-1], model="qwen-macbook", read_timeout=240), process
        finally:
            process.kill()


def tame_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow the grammars: a random model ends a text and keeps a number within its limits only if the grammar forces it to."""
    words = {"type": "string", "pattern": "^[ !#-Z^-~]{1,40}$"}
    points = {"type": "array", "items": words, "maxItems": 2}
    summarized, classified = summarize.options, classify.options
    monkeypatch.setattr(
        summarize, "options", lambda: _tamed(summarized(), title=words, summary=words, key_points=points)
    )
    monkeypatch.setattr(classify, "options", lambda classes: _tamed(classified(classes), confidence={"enum": [0.5]}))


def _tamed(options: RequestOptions, **fields: dict[str, Any]) -> RequestOptions:
    schema = dict(options.response_schema or {})
    return replace(options, max_tokens=1_500, response_schema=schema | {"properties": schema["properties"] | fields})
