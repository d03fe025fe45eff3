"""OCR: which pictures are read, which results are worthless, and how long a page may take."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.errors import ExtractionFailed, OcrWanted
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.file_types.images import tiff_pages
from dagster_offload.extraction.ocr.page_images import MAX_PIXELS, PdfPages
from dagster_offload.extraction.ocr.tesseract import Reader, find_reader
from dagster_offload.extraction.protocol import PageRead
from dagster_offload.stages.graph import Outcome
from tests.support.acceptance import is_running, wait_for
from tests.support.ocr import SCANS, share_kept, tesseract

LIBRARY = Path(__file__).parents[3] / "fixtures" / "library"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has death signals")


@pytest.fixture(scope="module")
def reading() -> Iterator[Extractor]:
    with Extractor(reader=tesseract()) as extractor:
        yield extractor


@pytest.fixture
def blind() -> Iterator[Extractor]:
    """An extractor as on a machine without Tesseract."""
    with Extractor() as extractor:
        yield extractor


def script(folder: Path, body: str) -> str:
    """A stand-in for Tesseract that fails as `body` says."""
    path = folder / "tesseract"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def reader_of(command: str) -> Reader:
    return Reader(command, "5", "eng", (), knows_orientation=True, advice="")


# Reading


@pytest.mark.tesseract
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("letters.pdf", ("english.txt", "korean.txt")),
        ("fax.tif", ("english.txt", "korean.txt")),
        ("korean.png", ("korean.txt",)),
        ("sideways.jpg", ("english.txt",)),
        ("stray_characters.pdf", ("english.txt",)),
        ("typed_scanned_typed.pdf", ("english.txt",)),
    ],
)
def test_ocr_reads_scans(reading: Extractor, name: str, known: tuple[str, ...]) -> None:
    found = reading.extract(SCANS / name)
    assert found.outcome is Outcome.OK
    for words in known:
        assert share_kept(found.text, words) > 0.9
    assert "read by OCR (kor+eng)" in found.metadata["reason"]
    assert found.metadata["ocr_languages"] == "kor+eng"


@pytest.mark.tesseract
def test_ocr_reads_only_the_pages_without_text_and_the_page_order_is_kept(reading: Extractor) -> None:
    pages: list[PageRead] = []
    found = reading.extract(SCANS / "typed_scanned_typed.pdf", on_page=pages.append)
    assert [(page.number, page.of, page.text is None) for page in pages] == [(2, 3, True), (2, 3, False)]
    typed, scanned, typed_again = (
        found.text.index(words) for words in ("the letter as it came in", "Larkfield", "the answer as it came in")
    )
    assert typed < scanned < typed_again


@pytest.mark.tesseract
def test_known_pages_are_not_read_again(reading: Extractor) -> None:
    pages: list[PageRead] = []
    found = reading.extract(SCANS / "fax.tif", known_pages={1: "the first page"}, on_page=pages.append)
    assert {page.number for page in pages} == {2}
    assert found.text.startswith("the first page\n\n늘봄아파트")


@pytest.mark.tesseract
@pytest.mark.parametrize(("name", "numbers", "of"), [("typed_scanned_typed.pdf", (2,), 3), ("fax.tif", (1, 2), 2)])
def test_a_document_can_be_read_page_by_page(reading: Extractor, name: str, numbers: tuple[int, ...], of: int) -> None:
    pages: dict[int, str] = {}

    def on_page(page: PageRead) -> None:
        if page.text is not None:
            pages[page.number] = page.text

    with pytest.raises(OcrWanted) as wanted:
        reading.extract(SCANS / name, pages=(), on_page=on_page)
    assert (wanted.value.numbers, wanted.value.of, pages) == (numbers, of, {})
    for number in numbers:
        with pytest.raises(OcrWanted):
            reading.extract(SCANS / name, pages=(number,), on_page=on_page)
        assert max(pages) == number
    assert reading.extract(SCANS / name, pages=(), known_pages=pages) == reading.extract(SCANS / name)


@pytest.mark.tesseract
def test_a_picture_without_words_has_no_text(reading: Extractor, tmp_path: Path) -> None:
    noise = tmp_path / "leaves.bmp"
    width, height = 300, 200
    pixels = bytes((x * x * 7 + x * y * 13 + y * y * 3) % 251 for y in range(height) for x in range(width * 3))
    size = (54 + len(pixels)).to_bytes(4, "little")
    shape = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    header = b"BM" + size + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little") + shape
    noise.write_bytes(header + b"\1\0\x18\0" + bytes(24) + pixels)
    found = reading.extract(noise)
    assert (found.outcome, found.text) == (Outcome.NO_TEXT, "")
    assert "(with `up`: `dagster-offload redo --needs-ocr`)" in found.metadata["reason"], "no command reads a component"
    assert found.metadata["reason"].startswith("OCR (kor+eng) found no readable text: if it shows words, scan it again")


@pytest.mark.tesseract
def test_ocr_does_not_change_documents_with_text(reading: Extractor, blind: Extractor) -> None:
    for name in (
        "invoice-2024-0317.pdf",
        "../reading/greenhouse-controller-manual.pdf",
        "../회사 문서/임대차계약서.pdf",
    ):
        assert reading.extract(LIBRARY / "finance" / name) == blind.extract(LIBRARY / "finance" / name)


# Without Tesseract, or without one of its languages


def test_without_tesseract_the_reason_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with Extractor(reader=find_reader("auto", "kor+eng")) as extractor:
        scanned = extractor.extract(SCANS / "stray_characters.pdf")
        mixed = extractor.extract(SCANS / "typed_scanned_typed.pdf")
    assert (scanned.outcome, scanned.text) == (Outcome.NEEDS_OCR, "")
    assert "apt-get install tesseract-ocr tesseract-ocr-kor" in scanned.metadata["reason"]
    assert "brew install tesseract tesseract-lang" in scanned.metadata["reason"]
    assert mixed.outcome is Outcome.OK
    assert "the letter as it came in" in mixed.text
    assert mixed.metadata["reason"].startswith("1 of 3 pages were not read: pictures of text. Tesseract")


@pytest.mark.tesseract
def test_a_missing_language_is_reported_and_the_others_are_used() -> None:
    reader = find_reader("auto", "eng+tlh+chi_sim")
    assert (reader.languages, reader.missing) == ("eng", ("tlh", "chi_sim"))
    assert "languages tlh and chi_sim: apt-get install tesseract-ocr-tlh tesseract-ocr-chi-sim" in reader.advice


@pytest.mark.tesseract
def test_tesseract_is_run_once_to_find_its_version_and_its_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = find_reader("auto", "eng")
    script(tmp_path, f'echo run >> "{tmp_path}/runs"\nexec {real.command} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_reader("auto", "eng") == replace(real, command=str(tmp_path / "tesseract"))
    assert re.fullmatch(r"\d+\.\S+", real.version)
    assert (tmp_path / "runs").read_text() == "run\n"


def test_ocr_can_be_switched_off() -> None:
    reader = find_reader("off", "kor+eng")
    assert not reader.can_read
    assert "OFFLOAD_OCR=auto" in reader.advice


# Faults


@pytest.mark.slow
def test_ocr_that_hangs_is_stopped_and_leaves_no_process(tmp_path: Path) -> None:
    command = script(tmp_path, 'echo $$ > "$(dirname "$0")/pid"\nexec sleep 600')
    note = tmp_path / "pid"
    with Extractor(reader=reader_of(command), page_limit_seconds=1) as extractor:
        while not note.exists() or not note.read_text():  # a busy machine may not start the program in this time
            extractor.page_limit_seconds *= 2
            with pytest.raises(ExtractionFailed) as failed:
                extractor.extract(SCANS / "letters.pdf")
            assert (failed.value.code, failed.value.is_final) == ("ocr_timeout", False)
            assert "at page 1 of 2" in failed.value.message
        pid = int(note.read_text())
        wait_for(lambda: has_ended(pid), "the end of tesseract")
        (tmp_path / "a.txt").write_text("the next document")
        assert extractor.extract(tmp_path / "a.txt").text == "the next document"


@linux_only
def test_tesseract_dies_with_an_extractor_that_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "started")
    command = script(tmp_path, 'echo $$ > "$(dirname "$0")/started"\nexec sleep 600')
    code = (
        "import sys; from pathlib import Path; from dagster_offload.extraction.extractor import Extractor; "
        "from dagster_offload.extraction.ocr.tesseract import Reader\n"
        f"with Extractor(reader=Reader({command!r}, '5', 'eng', (), True, '')) as e: e.extract(Path(sys.argv[1]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(SCANS / "korean.png")], cwd=Path(__file__).parents[3])
    running_tesseract = psutil.Process(int((tmp_path / "started").read_text()))
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(running_tesseract), "the end of tesseract")


@pytest.mark.parametrize(("body", "ending"), [("exit 1", "exit code 1"), ("kill -SEGV $$", "SIGSEGV")])
def test_a_crash_of_tesseract_is_a_document_fault(tmp_path: Path, body: str, ending: str) -> None:
    with (
        Extractor(reader=reader_of(script(tmp_path, body))) as extractor,
        pytest.raises(ExtractionFailed) as failed,
    ):
        extractor.extract(SCANS / "korean.png")
    assert (failed.value.code, failed.value.is_final) == ("ocr_crash", False)
    assert ending in failed.value.message


@pytest.mark.slow
def test_each_page_has_its_own_time_limit(tmp_path: Path) -> None:
    def pages_read(seconds: float) -> list[int]:
        """The pages of a document, if OCR takes so long for each, and the limit is a little less than both take."""
        reader = Reader(script(tmp_path, f"sleep {seconds}"), "5", "eng", (), knows_orientation=False, advice="")
        pages: list[PageRead] = []
        with (
            Extractor(reader=reader, page_limit_seconds=1.8 * seconds) as extractor,
            contextlib.suppress(ExtractionFailed),
        ):
            extractor.extract(SCANS / "fax.tif", on_page=pages.append)
        return [page.number for page in pages]

    # A busy machine may need longer than the rest of the limit for all else that is done with a page.
    assert any(pages_read(seconds) == [1, 1, 2, 2] for seconds in (6, 12, 24, 48))


def has_ended(pid: int) -> bool:
    try:
        return not is_running(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


# Pages as pictures


def pdf(width: int, height: int) -> bytes:
    page = f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width} {height}]>>"
    parts = ("<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>", page)
    body = "".join(f"{number} 0 obj{part}endobj\n" for number, part in enumerate(parts, 1))
    return f"%PDF-1.4\n{body}trailer<</Root 1 0 R>>\n%%EOF".encode()


def test_a_poster_is_rendered_within_the_pixel_limit() -> None:
    picture, dpi = PdfPages(pdf(14400, 14400)).render_page(1)
    assert dpi < 300
    assert len(picture) < MAX_PIXELS * 1.1
    assert PdfPages(pdf(595, 842)).render_page(1)[1] == 300


def test_a_page_as_large_as_a_field_is_rendered_within_the_pixel_limit() -> None:
    picture, dpi = PdfPages(pdf(1_000_000, 1_000_000)).render_page(1)
    assert dpi >= 1
    assert len(picture) < MAX_PIXELS * 1.1


def test_the_pages_of_a_tiff_are_counted_even_if_its_chain_is_broken() -> None:
    fax = (SCANS / "fax.tif").read_bytes()
    assert tiff_pages(fax) == 2
    assert tiff_pages(fax[:100]) == 1
    assert tiff_pages(b"II*\0" + (8).to_bytes(4, "little") + b"\0\0" + (8).to_bytes(4, "little")) == 1


def grey_with_transparency() -> bytes:
    """A TIFF of 2 x 2 pixels, two samples each."""
    entries = [(256, 2), (257, 2), (258, 8), (259, 1), (262, 1), (273, 8), (277, 2), (278, 2), (279, 8), (338, 2)]
    chain = len(entries).to_bytes(2, "little")
    for tag, value in entries:
        chain += b"".join(number.to_bytes(size, "little") for number, size in ((tag, 2), (3, 2), (1, 4), (value, 4)))
    return b"II*\0" + (16).to_bytes(4, "little") + bytes(8) + chain + bytes(4)


def test_a_grey_tiff_with_transparency_is_a_picture_and_a_truncated_one_is_broken(
    blind: Extractor, tmp_path: Path
) -> None:
    picture = tmp_path / "page.tiff"
    picture.write_bytes(grey_with_transparency())
    found = blind.extract(picture)
    assert (found.outcome, found.metadata["pages_to_ocr"]) == (Outcome.NEEDS_OCR, 1)
    picture.write_bytes(grey_with_transparency()[:-20])
    with pytest.raises(ExtractionFailed) as failed:
        blind.extract(picture)
    assert failed.value.code == "broken_file"
