"""What commands show about scans, before and after Tesseract is installed."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dagster_offload.simulator import Router
from tests.support.cli import Call
from tests.support.ocr import SCANS, tesseract


@pytest.fixture(autouse=True)
def _ocr_is_on() -> None:
    os.environ["OFFLOAD_OCR"] = "auto"


def without_tesseract(folder: Path) -> None:
    """Hide Tesseract; Python and Postgres are called by their full paths."""
    os.environ["PATH"] = str(folder)


@pytest.mark.tesseract
def test_doctor_shows_the_languages_that_ocr_reads(call: Call, router: Router) -> None:
    version = tesseract().version
    assert f"Tesseract {version} reads kor+eng" in call("doctor").stdout
    os.environ["OFFLOAD_OCR_LANGUAGES"] = "eng+tlh"
    found = call("doctor")
    assert f"Tesseract {version} reads eng\n" in found.stdout
    assert "apt-get install tesseract-ocr-tlh" in found.stdout.splitlines()[-1]
    assert found.exit_code == 0


def test_doctor_explains_how_to_install_tesseract(call: Call, router: Router, tmp_path: Path) -> None:
    without_tesseract(tmp_path)
    found = call("doctor")
    assert "scans are not read" in found.stdout
    assert "apt-get install tesseract-ocr tesseract-ocr-kor" in found.stdout.splitlines()[-1]
    assert found.exit_code == 0


@pytest.mark.tesseract
def test_scans_wait_for_tesseract_and_for_redo(call: Call, with_ledger: str, library: Path, tmp_path: Path) -> None:
    shutil.copy(SCANS / "stray_characters.pdf", library / "scan.pdf")
    path = os.environ["PATH"]
    without_tesseract(tmp_path)
    assert call("scan", "--json").exit_code == 0
    assert json.loads(call("status", "--json").stdout)["needs_ocr"] == 1
    assert "1 document of scanned pages not read yet. Tesseract is not installed: apt-get" in call("status").stdout
    refused = call("redo", "--needs-ocr", "--yes")
    assert (refused.exit_code, "apt-get install tesseract-ocr" in refused.output) == (2, True)

    os.environ["PATH"] = path
    assert "dagster-offload redo --needs-ocr" in call("status").stdout
    preview = call("redo", "--needs-ocr")
    assert preview.exit_code == 2  # standard input is not a terminal
    assert "1 document, 1 page: about" in preview.output
    assert "1 marked as pending" in call("redo", "--needs-ocr", "--yes").output
    assert call("scan", "--json").exit_code == 0
    assert json.loads(call("status", "--json").stdout)["needs_ocr"] == 0
    assert "read by OCR (kor+eng)" in call("explain", "scan.pdf").stdout
    assert "all scans have already been read" in call("redo", "--needs-ocr", "--yes").output


def test_redo_requires_exactly_one_option(call: Call) -> None:
    assert call("redo").exit_code == 2
    assert call("redo", "--outdated", "--needs-ocr").exit_code == 2
