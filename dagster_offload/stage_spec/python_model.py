"""A pydantic model that the pipeline file names: `model: my_package.answers:Payment`.

Importing runs code. So a module is only taken from the folders of Python's own path (installed packages, PYTHONPATH), never
from the working folder, and only if no other user could have written it.
"""

import importlib
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel

from dagster_offload.host.ownership import me, stranger, why_unsafe_for_code


def import_model(written: str) -> type[BaseModel]:
    """The model of this name. Raises `ValueError`, which says what to change."""
    module, colon, name = written.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ValueError("must be module:Class, such as my_package.answers:Payment")
    _refuse_unsafe(module.partition(".")[0])
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise ValueError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise ValueError(f"{module} has no pydantic model {name!r}")  # noqa: TRY004 - pydantic reports a ValueError
    return found


def _refuse_unsafe(package: str) -> None:
    # The first entry is the folder of the script, or the working folder.
    folders = sys.path if sys.flags.safe_path else sys.path[1:]
    spec = PathFinder.find_spec(package, [folder for folder in folders if os.path.isabs(folder)])
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module {package!r}: install its package, or put its folder into PYTHONPATH")
    file = Path(spec.origin)
    reason = why_unsafe_for_code(file.parent, me())
    if reason is None and (writers := stranger(file.stat(), me())) is not None:
        reason = f"{file} {writers}"
    if reason is not None:
        raise ValueError(f"{package} is not imported, because another user could change it: {reason}")
    first = find_spec(package)  # what Python would import; finding it runs no code
    origin = first.origin if first is not None and first.origin is not None else "another module"
    if os.path.realpath(origin) != os.path.realpath(file):
        raise ValueError(f"{package} is not imported, because {origin} stands before {file}: rename one of them")
