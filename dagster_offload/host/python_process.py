"""How this project starts Python: the working folder is never on the module path.

Every process gets the absolute folders of PYTHONPATH, so all processes import the same modules. Empty and relative
entries are dropped: they mean the working folder, and another user may own it.
"""

import gc
import os
import site
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_PACKAGE_PARENT = str(Path(__file__).parents[2])
# What Python, its libraries and Tesseract read from the environment.
_PASSED_ON = frozenset(
    {
        *("PATH", "HOME", "LANG", "LANGUAGE", "LOCPATH", "LOCALE_ARCHIVE", "TZ", "TZDIR", "TMPDIR", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "NIX_LD", "NIX_LD_LIBRARY_PATH", "TESSDATA_PREFIX"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONMALLOC", "PYTHONHASHSEED"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONFAULTHANDLER"),
    }
)
# No prefix of a name that a key could have: `LD_SDK_KEY` is one of a service.
_PASSED_ON_PREFIXES = ("LC_", "DYLD_", "MALLOC_", "GLIBC_", "OMP_", "COVERAGE_", "FAKETIME")


def python_command(*arguments: str) -> tuple[str, ...]:
    """The argument vector for this Python. `-P` keeps the working folder and a script's folder off the module path."""
    return (sys.executable, "-P", *arguments)


def python_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """`environment` (default: this process's) for a process that is Python or starts Python, as Dagster's commands do."""
    result = dict(os.environ if environment is None else environment)
    paths = [path for path in result.pop("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(path)]
    if _PACKAGE_PARENT not in (*paths, *site.getsitepackages()):  # a checkout that is not installed
        paths.append(_PACKAGE_PARENT)
    if paths:
        result["PYTHONPATH"] = os.pathsep.join(paths)
    result["PYTHONSAFEPATH"] = "1"
    return result


def environment_without_secrets() -> dict[str, str]:
    """What a process needs that parses untrusted files. It must not hold a key.

    Not only our own variables have keys: the pipeline file may name any, as in `${HOOK_TOKEN}`.
    """
    return python_environment(
        {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
        }
    )


@contextmanager
def importing() -> Iterator[None]:
    """Import large modules in the block without garbage collections, and let no later collection look at them.

    Modules are never garbage. While they load, collections look at all of them again and again: a fifth of a command's
    start. Later, each full collection would look at a million objects: a sixth of a drain's processor time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
