"""The new and changed files that a walk found, packed: a first scan may find a million."""

import heapq
import json
import zlib
from collections.abc import Iterable, Iterator

from dagster_offload.library.files import FileStat

# Files that are not packed yet. As many are sorted at once.
MOST_UNPACKED = 20_000
# Files that are unpacked together. While the files are read, each run has one such block in memory.
FILES_A_BLOCK = 500
_FASTEST = 1


class NewFiles:
    """Files of one library. Add them in any order; they are read in the order of their keys, as often as needed.

    Beyond the first 20,000 a file takes about 40 bytes of memory, a twelfth of a `FileStat`.
    """

    def __init__(self) -> None:
        self._runs: list[list[bytes]] = []  # each is sorted, in packed blocks
        self._unpacked: list[FileStat] = []
        self._count = 0
        self._library = ""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[FileStat]:
        return heapq.merge(*map(self._unpack, self._runs), sorted(self._unpacked))

    def append(self, file: FileStat) -> None:
        """Add a file."""
        self._count += 1
        self._unpacked.append(file)
        if len(self._unpacked) >= MOST_UNPACKED:
            self._runs.append(list(_packed(sorted(self._unpacked))))
            self._library, self._unpacked = file.library, []

    def _unpack(self, run: Iterable[bytes]) -> Iterator[FileStat]:
        for block in run:
            for fields in json.loads(zlib.decompress(block)):
                yield FileStat._make((*fields, self._library))


def _packed(files: list[FileStat]) -> Iterator[bytes]:
    for start in range(0, len(files), FILES_A_BLOCK):
        fields = [file[:-1] for file in files[start : start + FILES_A_BLOCK]]  # all but the library
        yield zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), _FASTEST)
