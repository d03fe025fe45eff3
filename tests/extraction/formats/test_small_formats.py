"""Calendars, contacts, messages of Apple Mail and GIF pictures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.errors import ExtractionFailed
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.formats.content_lines import entries_text
from dagster_offload.extraction.ocr.page_images import PdfPages
from dagster_offload.stages.graph import Outcome
from tests.support.ocr import SCANS, share_kept, tesseract


@pytest.fixture(scope="module")
def reading() -> Iterator[Extractor]:
    with Extractor() as extractor:
        yield extractor


def text_of(reading: Extractor, folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    found = reading.extract(path)
    assert found.outcome is Outcome.OK
    return found.text


CALENDAR = """BEGIN:VCALENDAR\r
VERSION:2.0\r
BEGIN:VTIMEZONE\r
TZID:Asia/Seoul\r
BEGIN:STANDARD\r
DTSTART:19700101T000000\r
END:STANDARD\r
END:VTIMEZONE\r
BEGIN:VEVENT\r
UID:1@example.com\r
SUMMARY:회의: boiler\\, second floor\r
DTSTART;TZID=Asia/Seoul:20250304T093000\r
DTEND:20250304T020000Z\r
LOCATION:Room 4\r
ATTENDEE;CN="Yuna Castellan";ROLE=REQ-PARTICIPANT:mailto:yuna@example.com\r
DESCRIPTION:Bring the offer\\nand the lo\r
 ng list.\r
BEGIN:VALARM\r
DESCRIPTION:Reminder\r
END:VALARM\r
END:VEVENT\r
BEGIN:VTODO\r
SUMMARY:Pay the invoice\r
DUE;VALUE=DATE:20250310\r
END:VTODO\r
END:VCALENDAR\r
"""


@pytest.mark.parametrize("name", ["minutes.srt", "minutes.vtt"])
def test_subtitles_are_read_as_they_are(reading: Extractor, tmp_path: Path, name: str) -> None:
    content = "1\n00:00:01,000 --> 00:00:02,500\nThe boiler is paid.\n"
    assert text_of(reading, tmp_path, name, content.encode()) == content.rstrip()


def test_a_calendar_is_read_entry_by_entry(reading: Extractor, tmp_path: Path) -> None:
    assert text_of(reading, tmp_path, "a.ics", CALENDAR.encode()) == (
        "Event\nSummary: 회의: boiler, second floor\nStart: 2025-03-04 09:30 (Asia/Seoul)\nEnd: 2025-03-04 02:00 UTC\n"
        "Location: Room 4\nAttendee: Yuna Castellan <yuna@example.com>\n"
        "Description: Bring the offer\nand the long list.\n\n"
        "Task\nSummary: Pay the invoice\nDue: 2025-03-10"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("BEGIN:VEVENT\nSUMMARY:Boiler\nEND:VEVENT\n", "Event\nSummary: Boiler"),
        ("home.begin:vcard\nhome.fn:Yuna\nhome.end:vcard\n", "Contact\nName: Yuna"),
        (
            "BEGIN:VFREEBUSY\nFREEBUSY:20250304T093000Z/PT1H\nEND:VFREEBUSY\n",
            "Busy times\nBusy: 20250304T093000Z/PT1H",
        ),
        ("BEGIN:VTIMEZONE\nTZID:Asia/Seoul\nEND:VTIMEZONE\n", ""),
        ("BEGIN: the meeting starts at nine", None),
    ],
)
def test_an_entry_without_its_calendar_is_read(content: str, text: str | None) -> None:
    assert entries_text(content.encode()) == text


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ("DTSTART;VALUE=DATE:20250304\nDTEND;VALUE=DATE:20250305", "Start: 2025-03-04\nEnd: 2025-03-04"),
        ("DTSTART;VALUE=DATE:20250227\nDTEND;VALUE=DATE:20250301", "Start: 2025-02-27\nEnd: 2025-02-28"),
        ("DTSTART;VALUE=DATE:20250304\nDTEND;VALUE=DATE:20250304", "Start: 2025-03-04\nEnd: 2025-03-04"),
        ("DTSTART;VALUE=DATE:20250304\nDTEND;VALUE=DATE:20251340", "Start: 2025-03-04\nEnd: 2025-13-40"),
        ("DTSTART:20250304T093000\nDTEND:20250305T093000", "Start: 2025-03-04 09:30\nEnd: 2025-03-05 09:30"),
    ],
)
def test_an_event_of_whole_days_ends_on_its_last_day(lines: str, shown: str) -> None:
    assert entries_text(f"BEGIN:VEVENT\n{lines}\nEND:VEVENT\n".encode()) == f"Event\n{shown}"


def test_the_exceptions_of_a_repeated_event_are_read() -> None:
    event = (
        "BEGIN:VEVENT\nSUMMARY:Yoga\nRECURRENCE-ID;TZID=Asia/Seoul:20250304T093000\nRRULE:FREQ=WEEKLY\n"
        "EXDATE;TZID=Asia/Seoul:20250311T093000,20250318T093000\nEXDATE;VALUE=DATE:20250325\nRDATE:20250401T003000Z\n"
    )
    assert entries_text(event.encode()) == (
        "Event\nSummary: Yoga\nRepeats: FREQ=WEEKLY\nAlso on: 2025-04-01 00:30 UTC\n"
        "Except on: 2025-03-11 09:30 (Asia/Seoul), 2025-03-18 09:30 (Asia/Seoul)\nExcept on: 2025-03-25\n"
        "In place of the one on: 2025-03-04 09:30 (Asia/Seoul)"
    )


@pytest.mark.parametrize("own", ["", "STATUS:CANCELLED\n"])
def test_an_entry_that_is_called_off_says_so(own: str) -> None:
    calendar = f"BEGIN:VCALENDAR\nMETHOD:CANCEL\nBEGIN:VEVENT\nSUMMARY:Boiler\n{own}END:VEVENT\nEND:VCALENDAR\n"
    assert entries_text(calendar.encode()) == "Event\nSummary: Boiler\nStatus: CANCELLED"
    assert entries_text(calendar.replace("CANCEL\n", "PUBLISH\n").replace(own, "").encode()) == "Event\nSummary: Boiler"


def test_only_the_entries_of_a_calendar_that_cancels_are_called_off() -> None:
    cancelled, other = (
        f"BEGIN:VCALENDAR\n{method}BEGIN:VTIMEZONE\nEND:VTIMEZONE\nBEGIN:VEVENT\nSUMMARY:{summary}\nEND:VEVENT\nEND:VCALENDAR\n"
        for method, summary in (("METHOD:CANCEL\n", "Boiler"), ("", "Rent"))
    )
    assert (
        entries_text((cancelled + other).encode())
        == "Event\nSummary: Boiler\nStatus: CANCELLED\n\nEvent\nSummary: Rent"
    )


def test_the_reply_of_an_attendee_is_read() -> None:
    lines = [
        "ATTENDEE;PARTSTAT=DECLINED;CN=Yuna:mailto:yuna@example.com",
        'ATTENDEE;PARTSTAT="ACCEPTED":mailto:ada@example.com',
        "ATTENDEE;PARTSTAT=NEEDS-ACTION:mailto:bo@example.com",
    ]
    assert entries_text("\n".join(["BEGIN:VEVENT", *lines]).encode()) == (
        "Event\nAttendee: Yuna <yuna@example.com> (declined)\nAttendee: ada@example.com (accepted)\n"
        "Attendee: bo@example.com"
    )


def test_contacts_are_read_without_their_pictures(reading: Extractor, tmp_path: Path) -> None:
    card = (
        "BEGIN:VCARD\nVERSION:3.0\nN:Castellan;Yuna;;;\nFN:Yuna Castellan\nORG:Larkfield;Water\n"
        "item1.TEL;TYPE=WORK,CELL:+49 30 1234\nADR;TYPE=HOME:;;12 Mill Lane;Ostbury;;4711;\n"
        f"PHOTO;ENCODING=b;TYPE=JPEG:{'QUJD' * 50}\nEND:VCARD\n"
    )
    quoted = "BEGIN:VCARD\nVERSION:2.1\nFN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=EA=B9=80=\n=EC=9C=A0=EB=82=98\nEND:VCARD\n"
    assert text_of(reading, tmp_path, "a.vcf", (card + quoted).encode()) == (
        "Contact\nName: Yuna Castellan\nOrganization: Larkfield, Water\nPhone: +49 30 1234 (cell, work)\n"
        "Address: 12 Mill Lane, Ostbury, 4711 (home)\n\nContact\nName: 김유나"
    )


def test_a_phone_number_of_eight_digits_is_no_date() -> None:
    card = "BEGIN:VCARD\nFN:Ada\nTEL;TYPE=CELL:91234567\nBDAY:19811210\nEND:VCARD\n"
    assert entries_text(card.encode()) == "Contact\nName: Ada\nPhone: 91234567 (cell)\nBirthday: 1981-12-10"


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x1e"])
def test_a_value_goes_on_after_a_line_separator_of_unicode(end: str) -> None:
    calendar = f"BEGIN:VEVENT\r\nDESCRIPTION:Agenda{end}NOTE:Bring the offer\r\nEND:VEVENT\r\n"
    assert entries_text(calendar.encode()) == f"Event\nDescription: Agenda{end}NOTE:Bring the offer"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("fold", ["\r\n ", "\n\t"])
def test_a_line_that_is_folded_within_a_character_is_read(encoding: str, fold: str) -> None:
    """Programs may fold between any two bytes (RFC 5545, 3.1). In UTF-16 they fold between two characters."""
    head, line, tail = (
        "BEGIN:VEVENT\r\n",
        "SUMMARY:가나다라마 바사아자차카타파하",
        "\r\nLOCATION:Room 4\r\nEND:VEVENT\r\n",
    )
    step = 2 if encoding.startswith("utf-16") else 1
    whole, cut = (head + line + tail).encode(encoding), fold.encode("utf-16-le" if step == 2 else "ascii")
    start, end = (len((head + part).encode(encoding)) for part in ("SUMMARY:", line))
    for at in range(start, end, step):
        text = entries_text(whole[:at] + cut + whole[at:])
        assert text == "Event\nSummary: 가나다라마 바사아자차카타파하\nLocation: Room 4"


def test_a_quoted_value_of_a_contact_goes_on_after_a_soft_break() -> None:
    card = (
        b"BEGIN:VCARD\r\nVERSION:2.1\r\nNOTE;ENCODING=QUOTED-PRINTABLE;CHARSET=UTF-8:=EA=B9=\r\n=80 and=\r\n more\r\n"
        b"FN;CHARSET=EUC-KR;ENCODING=QUOTED-PRINTABLE:=B1=E8=\r\n=C0=AF\r\nEND:VCARD\r\n"
    )
    assert entries_text(card) == "Contact\nName: 김유\nNote: 김 and more"
    assert entries_text(card.decode().encode("utf-16")) == "Contact\nName: 김유\nNote: 김 and more"


def test_a_calendar_that_is_cut_off_gives_what_is_there() -> None:
    assert (
        entries_text(CALENDAR.partition("DTEND")[0].encode())
        == "Event\nSummary: 회의: boiler, second floor\nStart: 2025-03-04 09:30 (Asia/Seoul)"
    )


@pytest.mark.parametrize(("name", "words"), [("a.ics", "calendar"), ("a.vcf", "contacts"), ("a.emlx", "Apple Mail")])
def test_other_content_under_these_names_is_refused_in_words(
    reading: Extractor, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / name).write_text("Dear landlord, the heating is cold.")
    with pytest.raises(ExtractionFailed, match=words) as failed:
        reading.extract(tmp_path / name)
    assert (failed.value.code, failed.value.is_final) == ("broken_file", True)


def test_a_message_of_apple_mail_is_read_as_a_mail(reading: Extractor, tmp_path: Path) -> None:
    mail = "Subject: 보일러\nFrom: a@example.com\nContent-Type: text/plain; charset=utf-8\n\nThe boiler is cold.\n".encode()
    plist = b'<?xml version="1.0"?><plist version="1.0"><dict><key>flags</key><integer>1</integer></dict></plist>'
    text = text_of(reading, tmp_path, "1.emlx", f"{len(mail)}       \n".encode() + mail + plist)
    assert "Subject: 보일러" in text
    assert text.endswith("The boiler is cold.")


def gif(width: int, height: int, grey: bytes) -> bytes:
    """A GIF of a gray picture. Its pixels are not compressed: the code table is cleared before it grows to ten bits."""
    codes: list[int] = []
    for start in range(0, len(grey), 250):
        codes += [256, *grey[start : start + 250]]
    bits, count, packed = 0, 0, bytearray()
    for code in [*codes, 257]:
        bits |= code << count
        count += 9
        while count >= 8:
            packed.append(bits & 255)
            bits >>= 8
            count -= 8
    packed.append(bits)
    blocks = b"".join(
        bytes([len(part)]) + part for part in (bytes(packed[at : at + 255]) for at in range(0, len(packed), 255))
    )
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    palette = bytes(level for level in range(256) for _ in "rgb")
    return b"GIF89a" + size + b"\xf7\0\0" + palette + b",\0\0\0\0" + size + b"\0\x08" + blocks + b"\0;"


@pytest.mark.tesseract
def test_a_gif_is_read_by_ocr(tmp_path: Path) -> None:
    picture, _ = PdfPages((SCANS / "letters.pdf").read_bytes()).render_page(1)
    header, _, pixels = picture.partition(b"\n")
    width, height = map(int, header.split()[1:3])
    (tmp_path / "letter.gif").write_bytes(gif(width, height, pixels))
    with Extractor(reader=tesseract()) as extractor:
        found = extractor.extract(tmp_path / "letter.gif")
    assert share_kept(found.text, "english.txt") > 0.95


def test_a_book_of_thousands_of_nested_sections_is_broken_and_no_fault_of_the_extractor(
    reading: Extractor, tmp_path: Path
) -> None:
    book = tmp_path / "deep.fb2"
    deep = "<section>" * 5_000 + "<p>word</p>" + "</section>" * 5_000
    book.write_text(f"<?xml version='1.0'?><FictionBook><body>{deep}</body></FictionBook>")
    with pytest.raises(ExtractionFailed) as failed:
        reading.extract(book)
    assert failed.value.code == "broken_file"
