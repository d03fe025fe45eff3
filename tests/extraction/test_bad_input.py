"""Bad input: each format truncated, empty, protected and misnamed, and files that make a reader loop, swell or crash.

Each gives a code and a reason for a person. No reason quotes the document, and no file affects the next one.
"""

import io
import json
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dagster_offload.errors import ExtractionFailed
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.file_types import MAIL, describe_type, type_by_extension
from dagster_offload.stages.graph import Outcome
from tests.extraction.made_pdf import Page, lines, made_pdf

pytestmark = pytest.mark.slow


FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"
WHOLE = {
    name.partition(".")[2]: name
    for name in json.loads((FORMATS / "expected.json").read_text(encoding="utf-8"))
    if name.partition(".")[0] in ("report", "sheets", "slides", "mail", "chapters", "mails", "anthem")
}
PACKED = ["pdf", "docx", "odt", "doc", "epub", "xlsx", "ods", "pptx", "odp", "msg", "hwp", "hwpx"]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces the memory limit")


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    with Extractor() as one:
        yield one


def failure(extractor: Extractor, path: Path) -> ExtractionFailed:
    with pytest.raises(ExtractionFailed) as failed:
        extractor.extract(path)
    assert "haebaragi" not in f"{failed.value!r}".lower()
    assert "application/" not in failed.value.message  # a person reads it
    return failed.value


def reads_the_next_one(extractor: Extractor, folder: Path) -> bool:
    after = folder / "after.txt"
    after.write_bytes(b"the next document")
    return extractor.extract(after).text == "the next document"


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


# Files that loop, swell or crash


def pdf(*objects: bytes) -> bytes:
    parts, offsets, length = [b"%PDF-1.7\n"], [], len(b"%PDF-1.7\n")
    for number, body in enumerate(objects, 1):
        offsets.append(length)
        parts.append(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        length += len(parts[-1])
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return b"".join(parts) + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
        % (len(objects) + 1, table, len(objects) + 1, length)
    )


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(content), content)


CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
ONE_PAGE = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
FONT = b"/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources<<%s/XObject<</X 5 0 R>>>>/Contents 4 0 R>>" % FONT
WORDS = b"BT /F 12 Tf 50 700 Td (hello words) Tj ET "
CIRCLE = stream(b"/X Do /X Do", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>")


def inflating(megabytes: int) -> bytes:
    """A deflated stream of blanks. It repeats one piece, so making it is cheap and reading it is not."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    piece = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + piece * megabytes + b"\x03\x00" + bytes(4)


def with_member(name: str, member: str, content: bytes | None) -> bytes:
    """A copy of an archive with one member replaced by `content`, or removed if `content` is None."""
    made = io.BytesIO()
    with zipfile.ZipFile(FORMATS / name) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.namelist():
            if one != member:
                new.writestr(one, old.read(one))
        if content is not None:
            new.writestr(member, content)
    return made.getvalue()


def swelling(name: str, member: str) -> bytes:
    """A copy of an archive in which one member unpacks to two gigabytes of blanks, a thousand times its packed size."""
    packed = inflating(2048)[2:-4]
    info = zipfile.ZipInfo(member)
    made = io.BytesIO(with_member(name, member, None))
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr(info, packed)  # stored unchanged, then declared as deflated
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, 2**31
    return made.getvalue()


LAUGHS = b'<!DOCTYPE l [<!ENTITY a "lol">' + b"".join(
    b'<!ENTITY %c "%s">' % (ord("a") + n, b"&%c;" % (ord("a") + n - 1) * 10) for n in range(1, 10)
)
LAUGHS = b'<?xml version="1.0"?>' + LAUGHS + b"]><a><p><run><t>&j;</t></run></p></a>"


def pages(count: int) -> bytes:
    kids = b" ".join(b"%d 0 R" % (number + 4) for number in range(count))
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources<<%s>>/Contents 3 0 R>>" % FONT
    return pdf(CATALOG, b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, count), stream(WORDS), *[page] * count)


def mails(count: int) -> bytes:
    mail = "From me@home Mon Jan  1 00:00:00 2024\nSubject: Rent {}\nFrom: me@home\n\nIt is due.\n\n"
    return "".join(map(mail.format, range(count))).encode()


KILLERS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "pages-in-a-circle.pdf": (lambda: pdf(CATALOG, b"<</Type/Pages/Kids[2 0 R]/Count 5>>"), {"broken_file"}),
    "two-billion-pages.pdf": (
        lambda: pdf(CATALOG, ONE_PAGE.replace(b"Count 1", b"Count 2000000000"), PAGE, stream(WORDS), CIRCLE),
        {"ok"},
    ),
    "drawing-of-itself.pdf": (
        lambda: pdf(CATALOG, ONE_PAGE, PAGE, stream(WORDS + b"/X Do"), CIRCLE),
        {"extraction_timeout", "extraction_crash", "extraction_memory"},
    ),
    "deep.pdf": (
        lambda: pdf(
            b"<</Type/Catalog/Pages 2 0 R/D " + b"[" * 300_000 + b"]" * 300_000 + b">>", ONE_PAGE, PAGE, stream(WORDS)
        ),
        {"ok", "broken_file", "extraction_crash", "extraction_timeout"},
    ),
    "swelling.pdf": (
        lambda: pdf(CATALOG, ONE_PAGE, PAGE, stream(inflating(1500), b"/Filter/FlateDecode")),
        {"extraction_memory", "extraction_crash", "extraction_timeout"},
    ),
    "swelling.docx": (
        lambda: swelling("report.docx", "word/document.xml"),
        {"unpacks_too_large"},
    ),
    "swelling.hwpx": (
        lambda: swelling("report.hwpx", "Contents/section0.xml"),
        {"unpacks_too_large"},
    ),
    "laughs.docx": (lambda: with_member("report.docx", "word/document.xml", LAUGHS), {"no_text", "broken_file"}),
    "laughs.pptx": (lambda: with_member("slides.pptx", "ppt/slides/slide1.xml", LAUGHS), {"broken_file"}),
    "laughs.hwpx": (lambda: with_member("report.hwpx", "Contents/section0.xml", LAUGHS), {"broken_file"}),
    "deep.odt": (
        lambda: with_member("report.odt", "content.xml", b"<a>" * 300_000 + b"</a>" * 300_000),
        {"broken_file", "extraction_crash"},
    ),
    "deep.hwpx": (
        lambda: with_member("report.hwpx", "Contents/section0.xml", b"<a>" * 300_000 + b"</a>" * 300_000),
        {"broken_file"},
    ),
    "last-cell.xlsx": (
        lambda: with_member(
            "sheets.xlsx",
            "xl/worksheets/sheet1.xml",
            b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1"><c r="A1">'
            b'<v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>7</v></c></row></sheetData></worksheet>',
        ),
        {"ok"},
    ),
    "deep.rtf": (lambda: b"{\\rtf1 " + b"{" * 300_000 + b"word" + b"}" * 300_000 + b"}", {"ok"}),
    "deep.html": (lambda: b"<html><body>" + b"<div>" * 300_000 + b"word", {"ok", "no_text"}),
    "200,000-pages.pdf": (lambda: pages(200_000), {"ok", "extraction_memory"}),
    "300,000-mails.mbox": (lambda: mails(300_000), {"ok", "extraction_memory"}),
    "mail-in-mail.eml": (lambda: b"Subject: x\n" + b"Content-Type: message/rfc822\n\n" * 10_000, {"broken_file"}),
}


@linux_only
@pytest.mark.parametrize("name", KILLERS)
def test_a_malicious_file_fails_alone_and_the_next_file_is_read(tmp_path: Path, name: str) -> None:
    make, allowed = KILLERS[name]
    path = tmp_path / name
    path.write_bytes(make())
    with Extractor(time_limit_seconds=60, memory_limit_bytes=1200 * 1024**2) as extractor:
        assert reads_the_next_one(extractor, tmp_path)  # so that the child's start does not count
        extractor.time_limit_seconds = 5
        try:
            ending = str(extractor.extract(path).outcome)
        except ExtractionFailed as failed:
            ending = failed.code
        if "unpacks_too_large" not in allowed:
            allowed = allowed | {"extraction_timeout"}  # a busy machine may be slow
        assert ending in allowed
        extractor.time_limit_seconds = 60
        assert reads_the_next_one(extractor, tmp_path)


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


@pytest.mark.parametrize("name", EMPTY)
def test_a_document_without_text_says_what_it_is_and_what_to_do(
    extractor: Extractor, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(EMPTY[name]())
    reason = extractor.extract(tmp_path / name).metadata["reason"]
    assert describe_type(type_by_extension(name.partition(".")[2]) or MAIL) in reason
    assert re.search(": if .* (export|save|print) ", reason), reason


def test_a_misnamed_file_says_what_it_is(extractor: Extractor, tmp_path: Path) -> None:
    for content, words in (
        (b"Dear all, the meeting is on Tuesday.", "plain text: rename it to .txt"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n", "run `git lfs pull`"),
        (bytes(range(256)) * 9, "save it again as Word document"),
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
