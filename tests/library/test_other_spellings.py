"""Names that are not ASCII and whose key is: the Kelvin sign, the Greek question mark and the Greek varia in a name."""

import unicodedata
from pathlib import Path

import pytest

from dagster_offload.library.digests import locate
from dagster_offload.library.files import has_one_spelling
from dagster_offload.library.walk import walk
from tests.support.library import write

NAMES = [("273 \u212a.txt", "273 K.txt"), ("a\u037eb.txt", "a;b.txt"), ("a\u1fefb.txt", "a`b.txt")]


@pytest.mark.parametrize(("name", "key"), NAMES)
def test_the_file_of_an_ascii_key_is_found_by_its_other_spelling(library: Path, name: str, key: str) -> None:
    path = write(library, name)
    assert [file.key for file in walk(library).files] == [key]
    assert locate(library, key) == path


@pytest.mark.parametrize(("name", "key"), NAMES)
@pytest.mark.rule("library-3")
def test_of_two_files_with_one_ascii_key_the_one_in_ascii_is_the_document(library: Path, name: str, key: str) -> None:
    write(library, name)
    path = write(library, key)
    found = walk(library)
    assert [file.name for file in found.files] == [key]
    assert len(found.unusable) == 1
    assert locate(library, key) == path


def test_no_other_name_has_the_normal_form_of_a_key_with_one_spelling() -> None:
    others = (chr(code) for code in range(0x80, 0x110000))
    assert not [char for char in others if has_one_spelling(unicodedata.normalize("NFC", char))]
