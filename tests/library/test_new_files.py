"""The new files of a walk: packed in memory, and read in the order of their keys."""

import random
import tracemalloc
from collections.abc import Iterator

import pytest

from dagster_offload.library import new_files
from dagster_offload.library.files import FileStat
from dagster_offload.library.new_files import NewFiles


def stat_of(key: str, name: str | None = None) -> FileStat:
    return FileStat(key, name or key, len(key), 1_700_000_000_123_456_789, -(2**63), 2**63 - 1, "/library")


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 50])
def test_files_are_read_in_the_order_of_their_keys_as_often_as_needed(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_files, "MOST_UNPACKED", 7)
    monkeypatch.setattr(new_files, "FILES_A_BLOCK", 3)
    files = [stat_of(f"folder {number % 5}/{number}.txt") for number in range(count)]
    found = NewFiles()
    for file in random.Random(count).sample(files, count):
        found.append(file)
    assert len(found) == count
    assert list(found) == sorted(files)
    assert list(found) == sorted(files), "the second time"


def test_a_name_that_is_not_utf_8_keeps_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_files, "MOST_UNPACKED", 1)
    file = stat_of("보고서.txt", name="\udcff/보고서\n.txt")
    found = NewFiles()
    found.append(file)
    assert list(found) == [file]


def test_many_files_take_a_fraction_of_the_memory_of_a_list() -> None:
    def files() -> Iterator[FileStat]:
        for number in range(2 * new_files.MOST_UNPACKED):
            yield stat_of(f"folder {number % 100}/letter {number}.txt")._replace(
                mtime_ns=1_700_000_000_000_000_000 + number * 1_234_567, ctime_ns=number + 2**61, inode=number + 2**40
            )

    def memory() -> int:
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        found, listed = NewFiles(), list[FileStat]()
        before = memory()
        for file in files():
            found.append(file)
        packed = memory() - before
        before = memory()
        listed.extend(files())
        unpacked = memory() - before
    finally:
        tracemalloc.stop()
    assert packed * 5 < unpacked
