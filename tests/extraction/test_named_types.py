"""Files that are not read, or that are not what their names say: each reason names the type and what to do."""

import io
import zipfile
from pathlib import Path

import pytest

from dagster_offload.extraction.extractor import Extractor
from dagster_offload.stages.graph import Outcome
from tests.extraction.made_pdf import Page, lines, made_pdf
from tests.support.extraction import FORMATS, failure

pytestmark = pytest.mark.slow


def test_an_iwork_document_is_read_from_its_preview_or_is_unsupported(extractor: Extractor, tmp_path: Path) -> None:
    def package(name: str, **members: bytes) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("Index/Document.iwa", b"\0style names")
            for member, content in members.items():
                archive.writestr(f"QuickLook/{member}.pdf", content)
        return tmp_path / name

    error = failure(extractor, package("plan.pages"))
    assert (error.code, error.is_final) == ("unsupported_type", True)
    assert "export it as PDF" in error.message
    found = extractor.extract(package("plan.numbers", Preview=made_pdf(Page(lines("Boiler", "4,200")))))
    assert (found.outcome, found.text, found.metadata["pages"]) == (Outcome.OK, "Boiler\n4,200", 1)


def test_powerpoint_95_is_unsupported_and_the_message_says_what_to_do(extractor: Extractor, tmp_path: Path) -> None:
    document = (FORMATS / "report.doc").read_bytes()
    old = document.replace("WordDocument".encode("utf-16-le"), "PP40".encode("utf-16-le") + bytes(16), 1)
    at = old.index("PP40".encode("utf-16-le"))
    old = old[: at + 64] + (10).to_bytes(2, "little") + old[at + 66 :]  # the length of the stream's name in bytes
    (tmp_path / "old.ppt").write_bytes(old)
    error = failure(extractor, tmp_path / "old.ppt")
    assert error.code == "unsupported_type"
    assert "save it as PPTX" in error.message


def test_a_graphviz_file_named_dot_is_read_as_text(extractor: Extractor, tmp_path: Path) -> None:
    (tmp_path / "a.dot").write_bytes(b"// who reports to whom\ndigraph staff {\n  a -> b\n}\n")
    assert "a -> b" in extractor.extract(tmp_path / "a.dot").text
    (tmp_path / "b.dot").write_bytes(b"no graph at all")
    assert failure(extractor, tmp_path / "b.dot").code == "broken_file"


def test_a_misnamed_file_says_what_it_is(extractor: Extractor, tmp_path: Path) -> None:
    for content, words in (
        (b"Dear all, the meeting is on Tuesday.", "plain text: rename it to .txt"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n", "run `git lfs pull`"),
        (
            bytes(range(256)) * 9,
            "the file name says Word document, but the content is something else: save it again in that format",
        ),
    ):
        (tmp_path / "letter.docx").write_bytes(content)
        assert words in failure(extractor, tmp_path / "letter.docx").message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("account.xls", "Account\tAmount\nMüller\t800\n".encode("utf-16"), "Account\tAmount\nMüller\t800"),
        ("account.xls", b"<table><tr><td>a</td><td>b</td></tr></table>", "| a | b |\n| --- | --- |"),
        ("letter.doc", "Grüße".encode("cp1252"), "Grüße"),
        ("page.doc", b"MIME-Version: 1.0\nContent-Type: text/html\n\n<h1>Berths</h1>", "# Berths"),
        (
            "1741080600.M5P6",
            b"From: a\nTo: b\nSubject: c\nDate: d\n\nwords",
            "Subject: c\nFrom: a\nTo: b\nDate: d\n\nwords",
        ),
    ],
)
def test_text_that_office_opens_is_read_under_its_names(
    extractor: Extractor, tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert extractor.extract(tmp_path / name).text == expected


def test_text_under_another_name_stays_text(extractor: Extractor, tmp_path: Path) -> None:
    mail = "From: a\nTo: b\nSubject: c\nDate: d\n\nwords"
    (tmp_path / "draft.txt").write_text(mail)
    assert extractor.extract(tmp_path / "draft.txt").text == mail
    (tmp_path / "letter.doc").write_bytes(bytes(range(256)) * 9)
    assert failure(extractor, tmp_path / "letter.doc").code == "broken_file"


def test_an_encrypted_mail_and_a_word_2_document_are_named_as_such(extractor: Extractor, tmp_path: Path) -> None:
    (tmp_path / "locked.eml").write_bytes(b"Subject: s\nFrom: a\n\n-----BEGIN PGP MESSAGE-----\nhQEMA\n")
    assert failure(extractor, tmp_path / "locked.eml").code == "password_protected"
    (tmp_path / "old.doc").write_bytes(b"\xdb\xa5\x2d\0" + bytes(900))
    refused = failure(extractor, tmp_path / "old.doc")
    assert (refused.code, "save it as DOCX" in refused.message) == ("unsupported_type", True)


def test_a_book_without_one_of_its_pages_is_read_and_without_all_is_broken(
    extractor: Extractor, tmp_path: Path
) -> None:
    with zipfile.ZipFile(FORMATS / "spine.epub") as book:
        members = {name: book.read(name) for name in book.namelist()}
    pages = [name for name in members if name.endswith("html")]

    def without(path: Path, left_out: list[str]) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                if name not in left_out:
                    archive.writestr(name, content)
        return path

    whole = extractor.extract(FORMATS / "spine.epub").text
    read = extractor.extract(without(tmp_path / "one.epub", pages[:1]))
    assert read.outcome is Outcome.OK
    assert len(read.text) < len(whole)
    assert failure(extractor, without(tmp_path / "none.epub", pages)).code == "broken_file"


def test_a_broken_iwork_document_and_an_archive_are_named_as_such(extractor: Extractor, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("letter.txt", "words")
    for name, content, code, words in (
        ("noise.pages", bytes(range(256)) * 9, "broken_file", "the content is something else"),
        ("cut.pages", archive.getvalue()[:40], "broken_file", "broken or cut off"),
        ("letters.unknown", archive.getvalue(), "unsupported_type", "unpack it into the library"),
    ):
        (tmp_path / name).write_bytes(content)
        failed = failure(extractor, tmp_path / name)
        assert failed.code == code
        assert words in failed.message


def test_an_empty_file_has_a_reason(extractor: Extractor, tmp_path: Path) -> None:
    for content, reason in ((b"", "the file has no bytes"), (b" \n\t\n", "the file contains only blanks")):
        (tmp_path / "a.txt").write_bytes(content)
        assert extractor.extract(tmp_path / "a.txt").metadata["reason"].startswith(reason)
