"""What benchmarks share: homes with an embedded Postgres, temporary folders, a cache, progress messages."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from pydantic import SecretStr

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.postgres import stop_postgres
from dagster_offload.settings import Settings, load_settings
from dagster_offload.settings.leaves import ANY_STAGES, LEAVES
from dagster_offload.simulator.server import Router

T = TypeVar("T")

ALIAS = "qwen-macbook"


@dataclass(frozen=True)
class Home:
    """A home with its library and settings."""

    folder: Path
    settings: Settings

    @property
    def environment(self) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")}
        # Let Python use compiled bytecode, as for an installed package.
        given.pop("PYTHONDONTWRITEBYTECODE", None)
        return given | _as_environment(self.settings)

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Start a command of the product in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "dagster_offload.cli", *arguments],
            env=self.environment,
            cwd=self.folder,
            text=True,
            **options,
        )

    def run(self, *arguments: str) -> dict[str, Any]:
        """Run a command to its end and return the JSON object it prints. Raises `RuntimeError` if it prints nothing."""
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        stdout, stderr = process.communicate()
        if not stdout:
            raise RuntimeError(f"{' '.join(arguments)}: exit code {process.returncode}: {stderr[-500:]}")
        found: dict[str, Any] = json.loads(stdout)
        return found


class Workspace:
    """Creates what benchmarks need and removes it at the end. `repeats`: how often each side of a pair is measured."""

    def __init__(self, repeats: int = 3) -> None:
        self.repeats = repeats
        self._stack = ExitStack()
        self._shared: dict[str, Any] = {}

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def shared(self, name: str, make: Callable[[ExitStack], T]) -> T:
        """A value that several rows use: made at the first call, kept until the end of the run."""
        if name not in self._shared:
            self._shared[name] = make(self._stack)
        found: T = self._shared[name]
        return found

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A temporary folder with a short name, because a socket's path may have about 100 bytes."""
        folder = Path(tempfile.mkdtemp(prefix="offload-bench-", dir="/tmp")).resolve()
        folder.chmod(0o711)  # root's Postgres runs as another user
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    @contextmanager
    def home(self, router: Router | None = None, **settings: Any) -> Iterator[tuple[Home, Ledger]]:
        """A fresh home with a running Postgres and an empty ledger."""
        deep = {} if router is None else {"deep_url": router.url, "deep_model": ALIAS}
        with self.folder() as folder:
            library = folder / "library"
            library.mkdir()
            home = Home(folder, load_settings(home=folder / "home", library=library, **deep, **settings))
            try:
                with open_ledger(home.settings) as ledger:
                    yield home, ledger
            finally:
                stop_postgres(home.settings.home)

    @staticmethod
    def cache() -> Path:
        """The folder for what is made once and kept: the venv of another package, a model."""
        return Path(platformdirs.user_cache_dir("dagster-offload-bench", appauthor=False, ensure_exists=True))

    @staticmethod
    def report(message: str) -> None:
        print(f"  {message}", file=sys.stderr, flush=True)


def options_of(settings: Settings) -> dict[str, str]:
    """The settings that are not the default, as options of `load_settings`: `deep_url`, `library`."""
    options = {}
    for leaf in LEAVES:
        value = leaf.value_in(settings)
        if leaf.variable != ANY_STAGES and value not in (None, leaf.field.get_default(call_default_factory=True)):
            options[leaf.variable.removeprefix("OFFLOAD_").lower()] = _plain(value)
    return options


def _as_environment(settings: Settings) -> dict[str, str]:
    return {f"OFFLOAD_{name.upper()}": value for name, value in options_of(settings).items()}


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
