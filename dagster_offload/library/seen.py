"""The states of a library's files as the last scan left them, in ten bytes a file: a library may hold a million."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from dagster_offload.library.files import SeenFile

# Python's hashes are evenly spread over 64 bits. Small parts are sorted with little memory.
_PARTS = 1024


class SeenFiles:
    """A set of file states that remembers which of them a walk has found.

    Only a hash of 64 bits is kept. In a library of a million files, one changed file in 10 ** 13 is taken for an unchanged one.
    Names cannot be chosen to collide, because the hash of a name is different in each process.
    """

    def __init__(self, files: Iterable[SeenFile] = ()) -> None:
        parts = [array("q") for _ in range(_PARTS)]
        for number in map(hash, files):
            parts[number % _PARTS].append(number)
        self._parts = [array("q", sorted(part)) for part in parts]
        self._is_found = [bytearray(len(part)) for part in parts]
        self._count = sum(map(len, parts))

    def __len__(self) -> int:
        return self._count

    def find(self, file: SeenFile) -> bool:
        """Whether this state is in the set. If it is, it counts as found from now on."""
        number = hash(file)
        part = self._parts[number % _PARTS]
        place = bisect_left(part, number)
        if place == len(part) or part[place] != number:
            return False
        self._is_found[number % _PARTS][place] = 1
        return True

    def not_found(self, files: Iterable[SeenFile]) -> Iterator[str]:
        """The keys of those of `files` that are in the set and were not found."""
        for file in files:
            number = hash(file)
            part = self._parts[number % _PARTS]
            place = bisect_left(part, number)
            if place < len(part) and part[place] == number and not self._is_found[number % _PARTS][place]:
                yield file[0]
