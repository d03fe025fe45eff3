"""Where a benchmark runs: homes of its own with their embedded Postgres, scratch folders, a cache, words of progress."""

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

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.postgres import stop_postgres
from dagster_offload.settings import Settings, load_settings
from dagster_offload.simulator.server import Router

T = TypeVar("T")

ALIAS = "qwen-macbook"


@dataclass(frozen=True)
class Home:
    """A home, its library and its settings, as a user's environment would name them."""

    folder: Path
    settings: Settings

    @property
    def environment(self) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")}
        # An installed package has its bytecode: nothing is compiled at each start.
        given.pop("PYTHONDONTWRITEBYTECODE", None)
        return given | _as_environment(self.settings)

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """A command of the product as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "dagster_offload.cli", *arguments],
            env=self.environment,
            cwd=self.folder,
            text=True,
            **options,
        )

    def run(self, *arguments: str) -> dict[str, Any]:
        """A command that prints one JSON object, to its end."""
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        printed, said = process.communicate()
        if not printed:
            raise RuntimeError(f"{' '.join(arguments)}: exit code {process.returncode}: {said[-500:]}")
        found: dict[str, Any] = json.loads(printed)
        return found


class Ground:
    """What every benchmark stands on. `repeats`: how often each side of a pair is measured."""

    def __init__(self, repeats: int = 3) -> None:
        self.repeats = repeats
        self._stack = ExitStack()
        self._kept: dict[str, Any] = {}

    def __enter__(self) -> "Ground":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def kept(self, name: str, make: Callable[[ExitStack], T]) -> T:
        """What several rows stand on: made when it is first asked for, kept to the end of the run."""
        if name not in self._kept:
            self._kept[name] = make(self._stack)
        found: T = self._kept[name]
        return found

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A scratch folder with a short name (a socket's path has about 100 bytes)."""
        folder = Path(tempfile.mkdtemp(prefix="offload-bench-", dir="/tmp")).resolve()
        folder.chmod(0o711)  # root's Postgres runs as somebody else
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
        """What is made once and kept: a venv of somebody else's package, a model."""
        return Path(platformdirs.user_cache_dir("dagster-offload-bench", appauthor=False, ensure_exists=True))

    @staticmethod
    def tell(words: str) -> None:
        print(f"  {words}", file=sys.stderr, flush=True)


def _as_environment(settings: Settings) -> dict[str, str]:
    changed = settings.model_dump(exclude_defaults=True)
    return {f"OFFLOAD_{name.upper()}": str(value) for name, value in changed.items() if value is not None}
