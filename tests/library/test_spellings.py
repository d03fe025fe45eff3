"""Which of the files of a folder that share a key is the document."""

import tracemalloc
import unicodedata
from collections.abc import Sequence
from typing import Literal

import pytest

from dagster_offload.library.files import FileStat, normal_form
from dagster_offload.library.spellings import Spellings


def spelled(*names: str) -> Spellings:
    found = Spellings()
    for name in names:
        if name == normal_form(name):
            found.add_in_normal_form(name)
        else:
            found.add(stat_of(name))
    return found


def stat_of(name: str) -> FileStat:
    return FileStat(normal_form(name), name, 1, 1_700_000_000_000_000_000, 2, 3, "/library")


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


ONE_MARK_FIRST, OTHER_MARK_FIRST = "a\u0302\u0323.txt", "a\u0323\u0302.txt"


@pytest.mark.parametrize(
    ("names", "documents"),
    [
        ([], []),
        (["계약.txt"], []),
        ([decomposed("계약.txt")], [decomposed("계약.txt")]),
        (["계약.txt", decomposed("계약.txt")], []),
        ([decomposed("계약.txt"), "계약.txt"], []),
        (["계약.txt", decomposed("약관.txt")], [decomposed("약관.txt")]),
        ([OTHER_MARK_FIRST, ONE_MARK_FIRST], [ONE_MARK_FIRST]),
        ([ONE_MARK_FIRST, normal_form(ONE_MARK_FIRST), OTHER_MARK_FIRST], []),
    ],
)
def test_a_name_in_normal_form_comes_first_and_then_the_order_of_bytes(
    names: Sequence[str], documents: list[str]
) -> None:
    decided = list(spelled(*names).decide())
    assert [file.name for file, is_document in decided if is_document] == documents
    assert sorted(file.name for file, _ in decided) == sorted(name for name in names if name != normal_form(name))


@pytest.mark.parametrize(("form", "most_bytes"), [("NFC", 20), ("NFD", 80)])
def test_a_file_takes_a_few_bytes_of_memory(form: Literal["NFC", "NFD"], most_bytes: int) -> None:
    names = [unicodedata.normalize(form, f"보고서/계약 {number}.txt") for number in range(60_000)]

    def bytes_of(count: int) -> int:
        tracemalloc.start()
        try:
            found = spelled(*names[:count])
            held = tracemalloc.get_traced_memory()[0]
            del found
            return held
        finally:
            tracemalloc.stop()

    assert (bytes_of(60_000) - bytes_of(20_000)) / 40_000 < most_bytes
