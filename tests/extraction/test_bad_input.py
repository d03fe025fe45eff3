"""Bad input: each format truncated, empty, protected and misnamed.

Each gives a code and a reason for a person. No reason quotes the document.
"""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dagster_offload.errors import ExtractionFailed
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.file_types import MAIL, describe_type, type_by_extension
from dagster_offload.stages.graph import Outcome
from tests.support.extraction import FORMATS, failure

pytestmark = pytest.mark.slow


WHOLE = {
    name.partition(".")[2]: name
    for name in json.loads((FORMATS / "expected.json").read_text(encoding="utf-8"))
    if name.partition(".")[0] in ("report", "sheets", "slides", "mail", "chapters", "mails", "anthem")
}
PACKED = ["pdf", "docx", "odt", "doc", "epub", "xlsx", "ods", "pptx", "odp", "msg", "hwp", "hwpx"]


# Truncated


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", PACKED)
def test_a_truncated_file_fails_finally_as_broken(
    extractor: Extractor, tmp_path: Path, kind: str, share: float
) -> None:
    whole = (FORMATS / WHOLE[kind]).read_bytes()
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole[: int(len(whole) * share)])
    error = failure(extractor, path)
    assert (error.code, error.is_final) == ("broken_file", True)
    assert "broken or cut off" in error.message


@pytest.mark.parametrize("name", ["report.rtf", "report.html", "mail.eml", "mails.mbox", "report.md", "table.csv"])
def test_a_truncated_text_file_gives_the_remaining_text(extractor: Extractor, tmp_path: Path, name: str) -> None:
    whole = (FORMATS / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: len(whole) * 3 // 4])
    assert extractor.extract(path).outcome == Outcome.OK


def test_damage_inside_an_archive_fails_with_a_known_code(extractor: Extractor, tmp_path: Path) -> None:
    for kind in ("docx", "xlsx", "pptx", "odt", "odp", "hwpx", "epub"):
        whole = bytearray((FORMATS / WHOLE[kind]).read_bytes())
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            big = max(archive.infolist(), key=lambda member: member.compress_size)
        # Damage the largest member, which holds the text. Not every program notices damage to a style.
        start = big.header_offset + 30 + len(big.filename.encode())
        whole[start : start + big.compress_size] = b"\xff" * big.compress_size
        path = tmp_path / f"damaged.{kind}"
        path.write_bytes(whole)
        try:
            extractor.extract(path)
        except ExtractionFailed as failed:
            assert failed.code in ("broken_file", "unsupported_type"), (kind, failed.code)  # noqa: PT017


# Empty


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_a_file_without_bytes_is_empty(extractor: Extractor, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"nothing.{kind}"
    path.write_bytes(b"")
    assert extractor.extract(path).outcome == Outcome.EMPTY


def without_text(name: str, members: str) -> bytes:
    """A copy of the archive without the text in the XML of these members."""
    made = io.BytesIO()
    with zipfile.ZipFile(FORMATS / name) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            content = old.read(member)
            if re.search(members, member):
                content = re.sub(rb">[^<]+<", b"><", content)
            new.writestr(member, content)
    return made.getvalue()


EMPTY: dict[str, Callable[[], bytes]] = {
    "blank.docx": lambda: without_text("report.docx", r"word/(document|footnotes)\.xml"),
    "blank.odt": lambda: without_text("report.odt", "content.xml"),
    "blank.pptx": lambda: without_text("slides.pptx", r"ppt/(slides|notesSlides)/[^/]*\.xml"),
    "blank.odp": lambda: without_text("slides.odp", "content.xml"),
    "blank.hwpx": lambda: without_text("report.hwpx", "section"),
    "blank.rtf": lambda: rb"{\rtf1\ansi\deff0{\fonttbl{\f0 Times;}}\pard\par}",
    "blank.html": lambda: b"<!DOCTYPE html><html><head><title>x</title></head><body><p> </p></body></html>",
    "blank.eml": lambda: b"Content-Type: text/plain\r\n\r\n",
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_complete_document_without_text_has_the_outcome_no_text(
    extractor: Extractor, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(EMPTY[name]())
    found = extractor.extract(path)
    assert (found.outcome, found.text) == (Outcome.NO_TEXT, "")


@pytest.mark.parametrize("name", ["blank.txt", "blank.md", "blank.csv", "blank.py"])
def test_a_text_file_with_only_blanks_is_empty(extractor: Extractor, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf \r\n\t\r\n")
    assert extractor.extract(path).outcome == Outcome.EMPTY


def test_empty_rows_of_a_table_are_left_out(extractor: Extractor, tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>{cell}</td><td></td></tr>" for cell in ("one", "", "", "two"))
    (tmp_path / "gaps.html").write_text(f"<html><body><table>{rows}</table></body></html>", encoding="utf-8")
    text = extractor.extract(tmp_path / "gaps.html").text
    assert "one" in text
    assert "two" in text
    assert not re.search(r"^\|[ |]*\|$", text, re.MULTILINE)


# Protected


@pytest.mark.parametrize("path", sorted(FORMATS.glob("protected.*")), ids=lambda path: path.name)
def test_a_protected_file_is_reported_for_every_format_and_name(
    extractor: Extractor, tmp_path: Path, path: Path
) -> None:
    misnamed = tmp_path / "letter.docx"
    shutil.copy(path, misnamed)
    for one in (path, misnamed):
        error = failure(extractor, one)
        assert (error.code, error.is_final) == ("password_protected", True)
        assert "password" in error.message


def test_zip_encryption_and_rights_management_are_distinguished_from_damage(
    extractor: Extractor, tmp_path: Path
) -> None:
    locked = bytearray((FORMATS / "report.hwpx").read_bytes())
    for offset in (found.start() for found in re.finditer(b"PK\x01\x02", bytes(locked))):
        locked[offset + 8] |= 1  # 'encrypted' in the central directory
    (tmp_path / "locked.hwpx").write_bytes(locked)
    assert failure(extractor, tmp_path / "locked.hwpx").code == "password_protected"

    book = io.BytesIO((FORMATS / "chapters.epub").read_bytes())
    with zipfile.ZipFile(book, "a") as archive:
        archive.writestr(
            "META-INF/encryption.xml",
            '<encryption><EncryptedData><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'
            "</EncryptedData></encryption>",
        )
    (tmp_path / "bought.epub").write_bytes(book.getvalue())
    assert "digital rights" in failure(extractor, tmp_path / "bought.epub").message


def test_obfuscated_fonts_do_not_count_as_protection(extractor: Extractor, tmp_path: Path) -> None:
    book = io.BytesIO((FORMATS / "chapters.epub").read_bytes())
    with zipfile.ZipFile(book, "a") as archive:
        archive.writestr(
            "META-INF/encryption.xml",
            '<encryption><EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/></encryption>',
        )
    (tmp_path / "fonts.epub").write_bytes(book.getvalue())
    assert extractor.extract(tmp_path / "fonts.epub").outcome == Outcome.OK


def test_a_distribution_hwp_document_without_its_text_is_broken(extractor: Extractor, tmp_path: Path) -> None:
    document = bytearray((FORMATS / "anthem.hwp").read_bytes())
    header = document.index(b"HWP Document File")
    document[header + 36] |= 4
    (tmp_path / "given-out.hwp").write_bytes(document)
    assert failure(extractor, tmp_path / "given-out.hwp").code == "broken_file"


def test_an_hwp_3_document_is_unsupported_and_the_message_says_what_to_do(extractor: Extractor, tmp_path: Path) -> None:
    (tmp_path / "old.hwp").write_bytes(b"HWP Document File V3.00 \x1a\1\2\3\4\5" + bytes(2000))
    error = failure(extractor, tmp_path / "old.hwp")
    assert error.code == "unsupported_type"
    assert "save it as HWP 5 or HWPX" in error.message


# Misnamed


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("report.docx", "a.pdf"),
        ("report.pdf", "a.docx"),
        ("report.odt", "a.docx"),
        ("report.doc", "a.docx"),
        ("report.rtf", "a.doc"),
        ("report.html", "a.doc"),
        ("report.hwp", "a.hwpx"),
        ("report.hwpx", "a.hwp"),
        ("report.pdf", "a.txt"),
        ("sheets.xlsx", "a.csv"),
        ("sheets.xls", "a.xlsx"),
        ("sheets.ods", "a.xls"),
        ("slides.pptx", "a.ppt"),
        ("slides.odp", "a.pptx"),
        ("chapters.epub", "a.pdf"),
        ("mail.msg", "a.eml"),
        ("mails.mbox", "a.eml"),
        ("mails.mbox", "Inbox"),
    ],
)
def test_a_misnamed_file_is_read_by_its_content(extractor: Extractor, tmp_path: Path, original: str, name: str) -> None:
    shutil.copy(FORMATS / original, tmp_path / name)
    found, expected = extractor.extract(tmp_path / name), extractor.extract(FORMATS / original)
    assert (found.outcome, found.text) == (Outcome.OK, expected.text)


@pytest.mark.parametrize("name", ["page.php", "page.vue", "page.txt"])
def test_source_code_that_begins_with_html_is_read_as_plain_text(
    extractor: Extractor, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"<!DOCTYPE html>\n<title>x</title><?php echo 'y'; ?>")
    assert extractor.extract(tmp_path / name).text.startswith("<!DOCTYPE html>\n<title>x</title><?php echo")


@pytest.mark.parametrize("kind", [*(kind for kind in PACKED if kind != "doc"), "rtf", "mbox"])
def test_a_file_whose_content_contradicts_its_name_is_reported_as_broken(
    extractor: Extractor, tmp_path: Path, kind: str
) -> None:
    shutil.copy(FORMATS / "report.md", tmp_path / f"report.{kind}")
    error = failure(extractor, tmp_path / f"report.{kind}")
    assert (error.code, error.is_final) == ("broken_file", True)
    assert "but the content is something else" in error.message


@pytest.mark.parametrize("name", EMPTY)
def test_a_document_without_text_says_what_it_is_and_what_to_do(
    extractor: Extractor, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(EMPTY[name]())
    reason = extractor.extract(tmp_path / name).metadata["reason"]
    assert describe_type(type_by_extension(name.partition(".")[2]) or MAIL) in reason
    assert re.search(": if .* (export|save|print) ", reason), reason
