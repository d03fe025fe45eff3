"""A folder of files, and what a walk finds in it."""

import os
from pathlib import Path

from dagster_offload.library.files import FileStat
from dagster_offload.library.walk import walk


def write(library: Path, name: str | bytes, content: bytes = b"text") -> Path:
    path = Path(os.fsdecode(os.path.join(os.fsencode(library), os.fsencode(name))))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def keys(library: Path) -> list[str]:
    return [file.key for file in walk(library).files]


def only(library: Path) -> FileStat:
    (file,) = walk(library).files
    return file
