"""Helpers for tests of OCR."""

from pathlib import Path

from dagster_offload.extraction.ocr.tesseract import Reader, find_reader

SCANS = Path(__file__).parents[2] / "fixtures" / "scans"
LANGUAGES = "kor+eng"


def tesseract() -> Reader:
    """Tesseract in Korean and English. The test has the marker `tesseract`."""
    return find_reader("auto", LANGUAGES)


def share_kept(text: str, known: str) -> float:
    """The share of the words of fixtures/scans/`known` that the text contains, from 0 to 1."""
    words, found = (SCANS / known).read_text(encoding="utf-8").split(), text.split()
    kept = 0
    for word in words:
        if word in found:
            found.remove(word)
            kept += 1
    return kept / len(words)
