"""Files of one folder that share a key, because their names have one normal form: one of them is the document."""

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from dagster_offload.library.files import FileStat, has_one_spelling
from dagster_offload.library.new_files import NewFiles


class Spelling(NamedTuple):
    """A file whose name is not its key, and whether it is the document of that key."""

    file: FileStat
    is_document: bool


class Spellings:
    """The files of one folder whose keys other names may have, too. A name that is its own normal form comes before all others.

    Of a key in normal form only a hash of 64 bits is kept, because a folder may hold 100,000 of them.
    """

    def __init__(self) -> None:
        self._in_normal_form = array("q")
        self._others = NewFiles()

    def add_in_normal_form(self, key: str) -> None:
        """Note a document whose name is its key."""
        if not has_one_spelling(key):
            self._in_normal_form.append(hash(key))

    def add(self, file: FileStat) -> None:
        """Add a file whose name is not its key."""
        self._others.append(file)

    def decide(self) -> Iterator[Spelling]:
        """Decide about the files given to `add`, as `digests.locate` does: the first name in the order of bytes."""
        if not len(self._others):
            return
        documents = array("q", sorted(self._in_normal_form))
        for key, files in groupby(self._others, attrgetter("key")):
            first, *others = sorted(files, key=lambda file: os.fsencode(file.name))
            yield Spelling(first, not _contains(documents, hash(key)))
            yield from (Spelling(file, is_document=False) for file in others)


def _contains(numbers: "array[int]", number: int) -> bool:
    place = bisect_left(numbers, number)
    return place < len(numbers) and numbers[place] == number
