"""What the extractor gives for a file: the outcome, the text, and a failure that quotes nothing of the document."""

import errno
import os
import struct
import zipfile
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import ChangedWhileRead
from dagster_offload.extraction import child as extraction_child
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.ocr.tesseract import NO_READER
from dagster_offload.extraction.protocol import Answer, Crashed, Extracted, Request, Unopened
from dagster_offload.stages.graph import Outcome
from tests.support.extraction import failure

FILES = Path(__file__).parent / "files"
SECRET = "xylophone-4711"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# Outcomes


@pytest.mark.parametrize(
    ("name", "content", "outcome"),
    [
        ("nothing.pdf", b"", Outcome.EMPTY),
        ("blank.txt", b" \r\n\t\n", Outcome.EMPTY),
        ("blank.html", b"<html><body> <p></p></body></html>", Outcome.NO_TEXT),
        ("note.txt", b"a note", Outcome.OK),
        ("note", b"a note", Outcome.OK),
    ],
)
def test_the_outcome_follows_from_the_content_of_the_file(
    extractor: Extractor, tmp_path: Path, name: str, content: bytes, outcome: Outcome
) -> None:
    assert extractor.extract(write(tmp_path / name, content)).outcome == outcome


def test_a_picture_needs_ocr(extractor: Extractor, tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    one_white_pixel = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0\xff")) + chunk(b"IEND", b"")
    found = extractor.extract(write(tmp_path / "page.png", one_white_pixel))
    metadata = {"mime": "image/png", "pages_to_ocr": 1, "reason": "this file is a picture. OCR is not set up here"}
    assert found == Extracted(Outcome.NEEDS_OCR, "", metadata)


def test_text_is_normalized_for_storage(extractor: Extractor, tmp_path: Path) -> None:
    content = "\ufeffone  \r\ntwo\0\t\rthree\x0cfour\n\n\n\n\n각\n".encode()
    found = extractor.extract(write(tmp_path / "a.txt", content))
    assert found.text == "one\ntwo\nthree\nfour\n\n\n각"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("안녕", "cp949"), ("회의록: 5월 20일 (월) 오전", "cp949"), ("안녕 hello", "utf-16"), ("안녕", "utf-8-sig")],
)
def test_short_korean_texts_are_decoded_in_their_own_encoding(
    extractor: Extractor, tmp_path: Path, text: str, encoding: str
) -> None:
    assert extractor.extract(write(tmp_path / "a.txt", text.encode(encoding))).text == text


def test_the_content_of_a_file_takes_precedence_over_its_name(extractor: Extractor, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "really-a-zip.txt", "w") as archive:
        archive.writestr("a.txt", "a")
    for name, content in [
        ("table.xls", b"<html><body><table><tr><td>cell</td></tr></table></body></html>"),
        ("letter.doc", rb"{\rtf1\ansi cell\par}"),
        ("letter.txt", rb"{\rtf1\ansi cell\par}"),
    ]:
        assert "cell" in extractor.extract(write(tmp_path / name, content)).text
    assert failure(extractor, tmp_path / "really-a-zip.txt").code == "unsupported_type"


# Faults


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("a.pdf", "broken_file"),
        ("a.docx", "broken_file"),
        ("a.xlsx", "broken_file"),
        ("a.ppt", "broken_file"),
        ("a.hwp", "broken_file"),
        ("a.epub", "broken_file"),
        ("a.ipynb", "broken_file"),
        ("a.png", "broken_file"),
        ("a.eml", "broken_file"),
        ("a", "unsupported_type"),
    ],
)
def test_a_broken_file_fails_finally_and_no_message_quotes_its_text(
    extractor: Extractor, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, code: str
) -> None:
    content = f"{SECRET}\n".encode() * 50 + (bytes(range(256)) * 4 if name == "a" else b"")
    error = failure(extractor, write(tmp_path / name, content))
    assert (error.code, error.is_final) == (code, True)
    messages = f"{error} {error!r} {error.__cause__!r} {error.__context__!r} {capfd.readouterr()}"
    assert SECRET not in messages


def test_a_password_protected_pdf_is_reported_as_such(extractor: Extractor) -> None:
    error = failure(extractor, FILES / "password_protected.pdf")
    assert (error.code, error.is_final) == ("password_protected", True)
    assert "password" in error.message


def test_a_file_that_cannot_be_opened_is_an_os_error(extractor: Extractor, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.pdf"):
        extractor.extract(tmp_path / "missing.pdf")
    with pytest.raises(IsADirectoryError):
        extractor.extract(tmp_path)


def test_text_of_bytes_with_another_digest_is_never_returned(extractor: Extractor, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"one")
    before = sha256(b"one").hexdigest()
    assert extractor.extract(path, before).text == "one"
    path.write_bytes(b"two")
    with pytest.raises(ChangedWhileRead):
        extractor.extract(path, before)


def test_a_pipe_instead_of_a_file_does_not_block(extractor: Extractor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(ChangedWhileRead):
        extractor.extract(tmp_path / "a.txt")


def test_only_opening_the_file_is_reported_as_an_error_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error inside a reader is a document fault, unless the system reports a machine fault."""
    path = write(tmp_path / "a.txt", b"text")
    request = Request(
        path=str(path), library=None, digest=None, most_bytes=1024**2, file_type="txt", reader=NO_READER, known_pages={}
    )

    def answered_when_reading_raises(error: OSError) -> Answer:
        def broken(*_given: object) -> Any:
            raise error

        monkeypatch.setattr(extraction_child, "read_file", broken)
        return extraction_child._answer(request, lambda _page: None)

    for error, code in [
        (OSError(f"cannot identify {SECRET}"), "extraction_crash"),  # as Pillow raises it, without a number
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "extraction_memory"),
    ]:
        answer = answered_when_reading_raises(error)
        assert isinstance(answer, Crashed)
        assert answer.code == code
        assert SECRET not in str(answer)
    missing = replace(request, path=str(tmp_path / "missing.txt"))
    assert extraction_child._answer(missing, lambda _page: None) == Unopened(errno.ENOENT)


def test_a_folder_replaced_by_a_link_after_its_digest_is_not_read(extractor: Extractor, tmp_path: Path) -> None:
    library = tmp_path / "library"
    (library / "letters").mkdir(parents=True)
    path = write(library / "letters" / "a.txt", b"a letter")
    assert extractor.extract(path, library=library).text == "a letter"
    (library / "letters").rename(tmp_path / "aside")
    (library / "letters").symlink_to(tmp_path / "secrets")
    (tmp_path / "secrets").mkdir()
    write(tmp_path / "secrets" / "a.txt", SECRET.encode())
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        extractor.extract(path, library=library)
    assert SECRET in extractor.extract(path).text, "without a library, the link is followed"


def test_a_link_inside_the_library_is_read(extractor: Extractor, tmp_path: Path) -> None:
    (tmp_path / ".store").mkdir()
    write(tmp_path / ".store" / "x", b"annexed")
    (tmp_path / "a.txt").symlink_to(".store/x")
    assert extractor.extract(tmp_path / "a.txt", library=tmp_path).text == "annexed"


# Faults of the child
