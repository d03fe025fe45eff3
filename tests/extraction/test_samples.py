"""Each document of the sample library gives the text in `fixtures/library_expected.json`."""

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import ExtractionFailed
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.library.digests import digest, locate
from dagster_offload.library.walk import walk
from dagster_offload.stage_spec.relations import BUILT_IN_CLASSES

FIXTURES = Path(__file__).parents[2] / "fixtures"
LIBRARY = FIXTURES / "library"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "library_expected.json").read_text(encoding="utf-8"))


def test_the_walk_finds_exactly_the_samples() -> None:
    found = walk(LIBRARY)
    assert {file.key for file in found.files} == set(EXPECTED)
    assert (found.unusable, found.unreadable, found.left_out) == ([], [], {})
    assert len(EXPECTED) >= 24
    assert sum(file.size for file in found.files) < 1_500_000


def test_the_samples_spread_over_the_default_classes_and_two_languages() -> None:
    assert {sample["category"] for sample in EXPECTED.values()} - {None} == set(BUILT_IN_CLASSES)
    languages = Counter(sample["language"] for sample in EXPECTED.values())
    assert min(languages["en"], languages["ko"]) >= 10


@pytest.mark.parametrize("key", EXPECTED)
def test_a_sample_gives_its_expected_text(extractor: Extractor, key: str) -> None:
    expected = EXPECTED[key]
    file = next(file for file in walk(LIBRARY).files if file.key == key)
    if expected["outcome"] == "broken_file":
        with pytest.raises(ExtractionFailed) as failed:
            extractor.extract(file.path, digest(file))
        assert failed.value.code == "broken_file"
        assert failed.value.is_final
        return
    found = extractor.extract(file.path, digest(file))
    assert found.outcome == expected["outcome"]
    assert expected["phrase"] in found.text
    assert (found.text != "") == (found.outcome == "ok")
    assert found.text == unicodedata.normalize("NFC", found.text)
    assert not re.search("[\0\r\ufffd\ufeff]|[ \t]\n", found.text)


def test_the_long_manual_has_more_than_sixty_pages(extractor: Extractor) -> None:
    path = locate(LIBRARY, "reading/greenhouse-controller-manual.pdf")
    assert path is not None
    found = extractor.extract(path)
    assert found.metadata["pages"] >= 60
    assert found.metadata["title"].startswith("Everspring GC-12")
    assert len(found.text) > 30_000


def test_the_same_bytes_give_the_same_text_in_another_child() -> None:
    def texts() -> list[str]:
        with Extractor() as fresh:
            keys = [key for key, sample in EXPECTED.items() if sample["outcome"] == "ok"]
            return [fresh.extract(path).text for key in keys if (path := locate(LIBRARY, key)) is not None]

    assert texts() == texts()


def test_a_word_document_keeps_its_first_and_last_words(extractor: Extractor) -> None:
    path = locate(LIBRARY, "office/greenhouse-lease.docx")
    assert path is not None
    text = extractor.extract(path).text
    assert "\\" not in text
    # The first and last words of the document, which extractors lose most easily.
    assert text.startswith("# Lease of a Greenhouse")
    assert text.endswith("Daniel Seo for Everspring Seedlings Ltd (Lessee).")
