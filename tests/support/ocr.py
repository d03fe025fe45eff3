"""What tests of OCR need from the machine, and the words their scans hold."""

import os
from pathlib import Path

import pytest

from dagster_offload.extraction.tesseract import Reader, find_reader

SCANS = Path(__file__).parents[2] / "fixtures" / "scans"
LANGUAGES = "kor+eng"


def tesseract() -> Reader:
    """Tesseract in Korean and English; without it the test is skipped, and fails where CI=true."""
    reader = find_reader("auto", LANGUAGES)
    if reader.languages != LANGUAGES:
        words = f"this test reads scans. {reader.advice}"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    return reader


def share_kept(text: str, known: str) -> float:
    """How many of the words of fixtures/scans/`known` the text holds, from 0 to 1."""
    words, found = (SCANS / known).read_text(encoding="utf-8").split(), text.split()
    kept = 0
    for word in words:
        if word in found:
            found.remove(word)
            kept += 1
    return kept / len(words)
