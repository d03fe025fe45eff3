"""Which files a walk has found, of those that the last scan saw."""

import tracemalloc
from collections.abc import Iterator

from dagster_offload.library.files import SeenFile
from dagster_offload.library.seen import SeenFiles


def state(number: int, size: int = 1) -> SeenFile:
    return f"folder/{number}.txt", size, 1_700_000_000_000_000_000 + number, 1_700_000_000_000_000_000, number


def test_a_state_is_found_only_if_every_part_of_it_is_the_same() -> None:
    known = ("a.txt", 1, 2, 3, 4)
    seen = SeenFiles([known])
    others = [
        ("b.txt", 1, 2, 3, 4),
        ("a.txt", 9, 2, 3, 4),
        ("a.txt", 1, 9, 3, 4),
        ("a.txt", 1, 2, 9, 4),
        ("a.txt", 1, 2, 3, 9),
    ]
    assert not any(seen.find(other) for other in others)
    assert list(seen.not_found([known])) == ["a.txt"]
    assert seen.find(known)
    assert list(seen.not_found([known])) == []


def test_a_document_that_another_scan_stored_meanwhile_is_not_reported_as_not_found() -> None:
    seen = SeenFiles([state(1)])
    assert list(seen.not_found([state(1, size=2), state(2)])) == []


def test_no_file_of_many_is_mistaken_for_another() -> None:
    files = [state(number) for number in range(20_000)]
    seen = SeenFiles(files[::2])
    assert len(seen) == 10_000
    assert [file for file in files if seen.find(file)] == files[::2]
    assert list(seen.not_found(files)) == []


def test_a_file_takes_a_few_bytes_of_memory() -> None:
    def files(count: int) -> Iterator[SeenFile]:
        return (state(number) for number in range(count))

    def bytes_of(count: int) -> int:
        tracemalloc.start()
        try:
            seen = SeenFiles(files(count))
            assert len(seen) == count
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert (bytes_of(60_000) - bytes_of(20_000)) / 40_000 < 20
