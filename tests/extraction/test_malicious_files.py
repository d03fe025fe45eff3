"""Malicious files: they make a reader loop, swell or crash. Each fails alone, with a code, and the next file is read."""

import io
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dagster_offload.errors import ExtractionFailed
from dagster_offload.extraction.extractor import Extractor
from tests.support.extraction import FORMATS, reads_the_next_one

pytestmark = pytest.mark.slow
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces the memory limit")


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
    with Extractor(time_limit_seconds=240, memory_limit_bytes=1200 * 1024**2) as extractor:
        assert reads_the_next_one(extractor, tmp_path)  # so that the child's start does not count
        extractor.time_limit_seconds = 5
        try:
            ending = str(extractor.extract(path).outcome)
        except ExtractionFailed as failed:
            ending = failed.code
        if "unpacks_too_large" not in allowed:
            allowed = allowed | {"extraction_timeout"}  # a busy machine may be slow
        assert ending in allowed
        extractor.time_limit_seconds = 240
        assert reads_the_next_one(extractor, tmp_path)
