"""Patterns of people for what to leave out: `OFFLOAD_IGNORE`, and files `.offloadignore` in folders of the library.

The syntax is that of gitignore. A pattern applies to the folder of its file and below. The settings come first, then
the deepest file; in a list the last line that matches decides. A folder that is left out is not entered.
"""

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from pathspec import GitIgnoreSpec

from dagster_offload.library.files import normal_form, printable
from dagster_offload.library.handles import read_in
from dagster_offload.library.left_out import (
    IGNORE_FILE,
    NOT_INCLUDED,
    Kind,
    LeftOut,
    why_file_left_out,
    why_folder_left_out,
)
from dagster_offload.text.sizes import shown_size
from dagster_offload.text.system_errors import reason_of

MAX_IGNORE_BYTES = 1024**2


@dataclass(frozen=True)
class Match:
    """The pattern that decides about a path. `names_it`: it ends in the very name, so a person means this one."""

    leaves_out: bool
    pattern: str
    source: str
    names_it: bool

    @property
    def why(self) -> LeftOut:
        """Why the path is left out."""
        return LeftOut(Kind.IGNORED, f"the pattern {self.pattern} in {self.source} matches it", f"change {self.source}")


class Patterns:
    """The patterns of one list. `folder` is the key of its folder with a slash, "" for the library."""

    def __init__(self, lines: Iterable[str], source: str, folder: str = "") -> None:
        """`source` is shown to people. Raises `ValueError` for a line that is no pattern; it names the line."""
        self.source = source
        self.folder = folder
        self._lines = [normal for line in lines if (normal := unicodedata.normalize("NFC", line)) and _is_pattern(line)]
        for line in self._lines:
            try:
                GitIgnoreSpec.from_lines([line])
            except ValueError:
                raise ValueError(f"{line} is not a gitignore pattern") from None
        # The library of patterns knows files only: a pattern such as `*/` would not decide about the folder itself.
        self._for_files = GitIgnoreSpec.from_lines(self._lines, backend="simple")
        self._for_folders = GitIgnoreSpec.from_lines(map(_without_slash, self._lines), backend="simple")

    def __bool__(self) -> bool:
        return bool(self._lines)

    def match(self, key: str) -> Match | None:
        """Return the pattern that decides about a path below the folder, or None. A folder's path ends with a slash."""
        spec = self._for_folders if key.endswith("/") else self._for_files
        path = key[len(self.folder) :].rstrip("/")
        found = spec.check_file(path)
        if found.include is None or found.index is None:
            return None
        line = self._lines[found.index].strip()
        last = line.removeprefix("!").rstrip("/").rpartition("/")[2]
        return Match(found.include, line, self.source, names_it=last == path.rpartition("/")[2])


@dataclass(frozen=True)
class Selection:
    """What is left out of one folder by name: by patterns of people, and by the rules of `left_out`."""

    settings: Patterns  # OFFLOAD_IGNORE
    include: Patterns  # OFFLOAD_INCLUDE; empty = everything
    files: tuple[Patterns, ...] = ()  # the files with patterns, the deepest first

    @classmethod
    def from_settings(cls, ignore: Iterable[str], include: Iterable[str]) -> Self:
        """The selection for the library's folder. Raises `ValueError` for a line that is no pattern."""
        return cls(Patterns(ignore, "OFFLOAD_IGNORE"), Patterns(include, "OFFLOAD_INCLUDE"))

    def inside(self, folder: int, key: str) -> Self:
        """Add the patterns of an open folder. `key` is its key with a slash, "" for the library.

        Raises `ValueError`, with the reason, if its file with patterns exists and cannot be used, and `OSError` if the
        files of the folder cannot be looked up.
        """
        try:
            data = read_in(folder, IGNORE_FILE, MAX_IGNORE_BYTES + 1)
        except FileNotFoundError:
            return self
        except OSError as error:
            os.stat(IGNORE_FILE, dir_fd=folder, follow_symlinks=False)
            raise ValueError(reason_of(error)) from error
        if len(data) > MAX_IGNORE_BYTES:
            raise ValueError(f"it is larger than {shown_size(MAX_IGNORE_BYTES)}")
        try:
            lines = data.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8 text") from None
        return replace(self, files=(Patterns(lines, printable(key + IGNORE_FILE), key), *self.files))

    @property
    def has_patterns(self) -> bool:
        """Whether people have any pattern for this folder."""
        return bool(self.settings or self.include or self.files)

    def why_file_left_out(self, prefix: str, name: str) -> LeftOut | None:
        """Return why the file `name` of the folder `prefix` (with a slash) is left out by its name, or None."""
        match = self._match(prefix + name)
        if match is not None and match.leaves_out:
            return match.why
        if (match is None or not match.names_it) and (left := why_file_left_out(name)) is not None:
            return left
        if not self.include:
            return None
        wanted = self.include.match(normal_form(prefix + name))
        # In a list of what to read, a pattern that gitignore would leave out is one to read.
        return None if wanted is not None and wanted.leaves_out else NOT_INCLUDED

    def why_folder_left_out(self, prefix: str, name: str) -> LeftOut | None:
        """`why_file_left_out` for a folder."""
        match = self._match(f"{prefix}{name}/")
        if match is not None and match.leaves_out:
            return match.why
        return None if match is not None and match.names_it else why_folder_left_out(name)

    def names(self, path: str) -> bool:
        """Whether a pattern asks for this very file or folder (with a slash), so that no built-in rule leaves it out."""
        match = self._match(path)
        return match is not None and not match.leaves_out and match.names_it

    def _match(self, path: str) -> Match | None:
        if not self.settings and not self.files:
            return None
        for patterns in (self.settings, *self.files):
            if patterns and (match := patterns.match(normal_form(path))) is not None:
                return match
        return None


def _is_pattern(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _without_slash(line: str) -> str:
    stripped = line.rstrip().rstrip("/")
    return line if stripped in ("", "!") else stripped
