"""A library of small letters that keeps changing: new letters, edits, copies, renames."""

import os
import random
from pathlib import Path

# Every letter contains this and nothing else does, so a log that contains it contains document text.
MARK = "the heating has been cold"
FIRST_MTIME = 1_600_000_000  # old files: a scan need not read them twice


class Library:
    """Random changes to a folder of letters, from a seeded generator."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder = folder
        self._rng = rng
        self._written = 0

    def fill(self, letters: int) -> None:
        """Write the first letters. Every tenth is a copy of another."""
        for number in range(letters):
            if number % 10 == 9:
                self._copy()
            else:
                self._write(self._new_name())

    def change(self, letters: int) -> None:
        """Write new letters and edit others, then copy one, rename one and delete one."""
        for _ in range(letters):
            if self._rng.random() < 0.5:
                self._write(self._new_name())
            else:
                self._write(self._any().name)
        self._copy()
        self._any().rename(self._folder / self._new_name())
        self._any().unlink()

    def _any(self) -> Path:
        return self._rng.choice(sorted(self._folder.glob("*.txt")))

    def _new_name(self) -> str:
        return f"letter {self._written:05}.txt"

    def _copy(self) -> None:
        text, name = self._any().read_text(encoding="utf-8"), self._new_name()
        self._put(name, text)

    def _write(self, name: str) -> None:
        rooms = self._rng.sample(["kitchen", "hall", "cellar", "attic", "garden", "study", "bathroom", "garage"], 4)
        lines = [f"Dear landlord, in the {room} {MARK} for {self._rng.randrange(2, 40)} days." for room in rooms]
        self._put(name, f"Letter number {self._written} of this year.\n\n" + "\n".join(lines * 4))

    def _put(self, name: str, text: str) -> None:
        path = self._folder / name
        path.write_text(text, encoding="utf-8")
        self._written += 1
        os.utime(path, (FIRST_MTIME + self._written, FIRST_MTIME + self._written))
