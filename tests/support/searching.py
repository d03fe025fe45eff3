"""Searches everything that a running home leaves or shows: files, command lines, output, and Dagster's tables."""

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg

from tests.support.acceptance import Home, wait_for

PREVIEWS = {
    "preview",
    "title",
    "key_points",
    "record",
    "newest records",
}  # the labels of an event's metadata that show text
ONE_BY_ONE = """
import json, sys
from dagster_offload.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit:  # as each command ends
        pass
"""


class Watch:
    """Collects, while a home runs, what is gone at the end: command lines and temporary files."""

    def __init__(self, home: Home, temporary: Path) -> None:
        self.command_lines: set[str] = set()
        self.temporary_files: dict[str, bytes] = {}
        self.output: list[str] = []  # of the commands that `run` ran
        self._home, self._temporary = home, temporary

    def look(self) -> None:
        for process in self._home.processes():
            with contextlib.suppress(psutil.Error):
                self.command_lines.add(" ".join(process.cmdline()))
        for path, content in files_in(self._temporary):
            self.temporary_files[str(path)] = self.temporary_files.get(str(path), b"") + content

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition is true, and look meanwhile."""

        def is_true() -> bool:
            self.look()
            return condition()

        wait_for(is_true, what)

    def run(self, *arguments: str) -> None:
        done = self._home.run(*arguments)
        self.output.append(f"{arguments}\n{done.stdout}\n{done.stderr}")
        self.look()

    def run_in_one_process(self, *commands: Sequence[str]) -> None:
        """Run several commands, one after the other, in a process that imports what they need once."""
        done = self._home.run_python("-c", ONE_BY_ONE, json.dumps(commands))
        assert done.returncode == 0, done.stderr
        self.output.append(f"{commands}\n{done.stdout}\n{done.stderr}")
        self.look()


def files_in(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """The files below a folder with their bytes. Leaves out what a process that runs removes meanwhile."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            try:
                content = path.read_bytes() if path.is_file() else None
            except FileNotFoundError:
                continue
            if content is not None:
                yield path, content


def files_with(words: Collection[str], folder: Path, *, without: Collection[Path]) -> list[Path]:
    """The files below a folder whose bytes contain one of the words; not those of `without`, and not in its folders."""
    return [
        path
        for path, content in files_in(folder)
        if not any(path.is_relative_to(left) for left in without) and _has(content, words)
    ]


def _has(content: bytes, words: Collection[str]) -> bool:
    return any(word.encode() in content for word in words)


def rows(connection: psycopg.Connection[Any], schema: str) -> Iterator[tuple[str, str]]:
    """Every row of every table of a schema as text, with the table's name. JSON and compressed values are opened."""
    tables = connection.execute(
        "select format('%%I.%%I', schemaname, tablename) from pg_tables where schemaname = %s", [schema]
    ).fetchall()
    for (table,) in tables:
        for (row,) in connection.execute(f"select to_jsonb(t) from {table} t"):  # noqa: S608
            yield table, json.dumps(_opened(row), ensure_ascii=False)


def rows_without_previews(connection: psycopg.Connection[Any], schema: str) -> Iterator[tuple[str, str]]:
    """The same, without the metadata that shows the beginning of a text or a record."""
    for table, row in rows(connection, schema):
        yield table, json.dumps(_without_previews(json.loads(row)), ensure_ascii=False)


def _opened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _opened(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_opened(entry) for entry in value]
    if not isinstance(value, str):
        return value
    if value.startswith("\\x"):
        value = _text_of(bytes.fromhex(value[2:]))
    if value[:1] in "{[":
        with contextlib.suppress(ValueError):
            return _opened(json.loads(value))
    return value


def _text_of(content: bytes) -> str:
    with contextlib.suppress(zlib.error):
        content = zlib.decompress(content)
    return content.decode(errors="replace")


def _without_previews(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_previews(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_previews(entry) for entry in value if not _is_preview(entry)]
    return value


def _is_preview(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("label") in PREVIEWS
