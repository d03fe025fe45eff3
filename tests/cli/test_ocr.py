"""What commands say about scans, before Tesseract is there and after."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dagster_offload.simulator import Router
from tests.support.cli import Call
from tests.support.ocr import SCANS, tesseract


@pytest.fixture(autouse=True)
def _ocr_is_wished_for() -> None:
    os.environ["OFFLOAD_OCR"] = "auto"


def without_tesseract(folder: Path) -> None:
    """As on a machine without it; Python and Postgres are called by their paths."""
    os.environ["PATH"] = str(folder)


@pytest.mark.tesseract
def test_doctor_names_the_languages_that_are_read(call: Call, router: Router) -> None:
    version = tesseract().version
    assert f"Tesseract {version} reads kor+eng" in call("doctor").stdout
    os.environ["OFFLOAD_OCR_LANGUAGES"] = "eng+tlh"
    found = call("doctor")
    assert f"Tesseract {version} reads eng\n" in found.stdout
    assert "apt-get install tesseract-ocr-tlh" in found.stdout.splitlines()[-1]
    assert found.exit_code == 0


def test_doctor_says_how_to_get_tesseract(call: Call, router: Router, tmp_path: Path) -> None:
    without_tesseract(tmp_path)
    found = call("doctor")
    assert "scans are not read" in found.stdout
    assert "apt-get install tesseract-ocr tesseract-ocr-kor" in found.stdout.splitlines()[-1]
    assert found.exit_code == 0


@pytest.mark.tesseract
def test_scans_wait_for_tesseract_and_for_a_persons_word(
    call: Call, with_ledger: str, library: Path, tmp_path: Path
) -> None:
    shutil.copy(SCANS / "stray_characters.pdf", library / "scan.pdf")
    path = os.environ["PATH"]
    without_tesseract(tmp_path)
    assert call("scan", "--json").exit_code == 0
    assert json.loads(call("status", "--json").stdout)["needs_ocr"] == 1
    assert "1 are pictures of text that nobody has read. Tesseract is not installed: apt-get" in call("status").stdout
    refused = call("redo", "--needs-ocr", "--yes")
    assert (refused.exit_code, "apt-get install tesseract-ocr" in refused.output) == (2, True)

    os.environ["PATH"] = path
    assert "dagster-offload redo --needs-ocr" in call("status").stdout
    preview = call("redo", "--needs-ocr")
    assert preview.exit_code == 2  # it asks, and nobody answers
    assert "1 documents, 1 pages: about" in preview.output
    assert "1 put back" in call("redo", "--needs-ocr", "--yes").output
    assert call("scan", "--json").exit_code == 0
    assert json.loads(call("status", "--json").stdout)["needs_ocr"] == 0
    assert "read by OCR (kor+eng)" in call("explain", "scan.pdf").stdout
    assert "every picture of text was read already" in call("redo", "--needs-ocr", "--yes").output


def test_redo_wants_one_of_its_options(call: Call) -> None:
    assert call("redo").exit_code == 2
    assert call("redo", "--outdated", "--needs-ocr").exit_code == 2
