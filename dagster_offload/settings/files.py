"""Files that may choose settings: the pipeline file and `.env`. They are read only if no other user can have written them."""

import hashlib
import os
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from dagster_offload.errors import SettingsError
from dagster_offload.host.ownership import me, others_may_read, stranger

FILE_NAME = "offload.yaml"
MAX_FILE_BYTES = 256_000


@dataclass(frozen=True)
class PipelineText:
    """The text of a pipeline file. Relative paths in it start at the folder of `path`.

    `readers` describes who other than its owner may read the file; None if no one may. `copy` is the file that has the
    text, if that is another one: the copies of the schemas are beside it.
    """

    path: Path
    text: str
    readers: str | None
    copy: Path | None = None

    def schema_text(self, schema: Path) -> str:
        """The text of a JSON Schema that the pipeline file names: of its copy, if there is one."""
        kept = None if self.copy is None else copy_of_schema(self.copy, schema)
        return read_own(schema if kept is None or not kept.exists() else kept)


def find_file(configured: Path | None, home: Path) -> Path | None:
    """The pipeline file: the configured one, or `./offload.yaml`, or the home's. None if there is none."""
    if configured is not None:
        return configured
    for candidate in (Path(FILE_NAME), home / FILE_NAME):
        if os.path.lexists(candidate):  # also a link to a missing file, which is then reported
            return candidate.absolute()
    return None


def read_pipeline(path: Path, content: Path | None = None) -> PipelineText:
    """Read the pipeline file. `content` names another file that has the text (`up` keeps the one that it started with).

    Raises `SettingsError` if it cannot be read, is too large, or could have been written by another user.
    """
    text, status = _read_own(content or path)
    return PipelineText(Path(os.path.realpath(path)), text, others_may_read(status, me()), content)


def copy_of_schema(copy: Path, schema: Path) -> Path:
    """Where the copy of a JSON Schema is kept, beside that of the pipeline file which names it."""
    return copy.with_name(f"{copy.stem}-{hashlib.sha256(os.fsencode(schema)).hexdigest()[:16]}.json")


def read_dotenv(needed: Collection[str] = ("OFFLOAD_",)) -> Mapping[str, str]:
    """The variables of `.env` in the working folder, without empty ones. Raises `SettingsError`.

    A line that cannot be read is refused only if it names a variable that begins with one of `needed`: other programs may use
    the file, too.
    """
    path = Path(".env")
    if not path.is_file():
        return {}
    text, _ = _read_own(path.absolute())
    is_about_needed = re.compile(rf"^[^#\n]*\b({'|'.join(needed)})", re.IGNORECASE | re.MULTILINE)
    for line in parse_stream(StringIO(text)):
        original = line.original.string
        if line.error and is_about_needed.search(original):
            blank_lines = original[: -len(original.lstrip())].count("\n")  # those above it count as a part of the line
            raise SettingsError(
                f"{path.absolute()}:{line.original.line + blank_lines}: is not NAME=value: is the = missing, or is a quote not "
                "closed?"
            )
    return {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value}


def read_own(path: Path) -> str:
    """The text of a file that chooses settings. Raises `SettingsError` as `read_pipeline` does."""
    return _read_own(path)[0]


def _read_own(path: Path) -> tuple[str, os.stat_result]:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            # The checks use the open file, so the file cannot be exchanged between check and read.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SettingsError(f"{path} cannot be read: it is not a file")
            reason = stranger(status, me())
            if reason is not None:
                raise SettingsError(
                    f"{path} {reason}, so another user can choose your settings: remove the file, work in "
                    f"another folder, or check its content and make it yours (chown {os.geteuid()} {path.name}; "
                    f"chmod go-w {path.name})"
                )
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise SettingsError(f"{path} cannot be read: it is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig"), status
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}:{line}: cannot be read: it is not UTF-8 text: save it as UTF-8") from None


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a named pipe waits for its writer.
    return os.open(path, flags | os.O_NONBLOCK)
