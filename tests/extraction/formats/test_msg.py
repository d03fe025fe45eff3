"""Which body of an Outlook message is read, and its compressed RTF, with the example of [MS-OXRTFCP] section 3.1.1.

Complete messages are fixtures.
"""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import pytest

from dagster_offload.extraction.formats.html import html_text
from dagster_offload.extraction.formats.mail.msg import NotOutlook, OutlookReaders, decompress_rtf, outlook_text
from tests.extraction.made_compound import compound

EXAMPLE = "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"


def test_the_example_of_the_specification_is_decompressed() -> None:
    assert decompress_rtf(bytes.fromhex(EXAMPLE)) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"


def test_uncompressed_rtf_is_returned_unchanged() -> None:
    assert decompress_rtf(b"\x10\0\0\0\x04\0\0\0MELA\0\0\0\0{rtf and more") == b"{rtf"


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(NotOutlook):
        decompress_rtf(bytes(20))


NEWS = "The heating is serviced on Monday, and the lift stands still."


@pytest.mark.parametrize(
    ("plain", "page", "text"),
    [
        ("See the web page.", f"<p>{NEWS}</p>", NEWS),
        ("The heating is serviced.", f"<p>{NEWS}</p>", "The heating is serviced."),
        (NEWS, "<p>See below.</p>", NEWS),
        (" \r\n", "<p>See below.</p>", "See below."),
        (NEWS, "", NEWS),
        ("", "", ""),
    ],
)
def test_the_html_body_is_read_if_the_plain_body_only_refers_to_it(plain: str, page: str, text: str) -> None:
    streams = {"__substg1.0_1000001F": plain.encode("utf-16-le"), "__substg1.0_10130102": page.encode()}
    readers = OutlookReaders(lambda data: html_text(data.decode().strip("\0")), lambda _: "rtf", lambda _: "secured")
    assert outlook_text(compound({name: data for name, data in streams.items() if data}), readers)[0] == text


Properties = Mapping[int, int | str | bytes]
READERS = OutlookReaders(lambda _: "", lambda _: "rtf", lambda _: "secured")
APPOINTMENT, TASK, ADDRESS = (f"0006200{number}-0000-0000-c000-000000000046" for number in (2, 3, 4))


def ticks(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return (
        int((datetime(year, month, day, hour, minute, tzinfo=UTC) - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds())
        * 10**7
    )


def entry(kind: str, group: str, named: Properties, **plain: str) -> str:
    """The text of an Outlook entry of this class, with these properties of a group."""
    streams = {"__substg1.0_001A001F": kind.encode("utf-16-le")}
    streams |= {f"__substg1.0_{number[1:]}001F": value.encode("utf-16-le") for number, value in plain.items()}
    fixed, entries = bytes(32), b""
    for index, (identity, value) in enumerate(named.items()):
        entries += struct.pack("<IHH", identity, 3 << 1, index)
        if isinstance(value, int):
            fixed += struct.pack("<HHIQ", 0x40, 0x8000 + index, 6, value)
        else:
            data, type_number = (value, 0x0102) if isinstance(value, bytes) else (value.encode("utf-16-le"), 0x001F)
            streams[f"__substg1.0_{0x8000 + index:04X}{type_number:04X}"] = data
    streams["__properties_version1.0"] = fixed
    streams["__nameid_version1.0/__substg1.0_00020102"] = UUID(group).bytes_le
    streams["__nameid_version1.0/__substg1.0_00030102"] = entries
    return outlook_text(compound(streams), READERS)[0]


NEVER = (0,) * 8
BERLIN = ((0, 10, 0, 5, 3, 0, 0, 0), (0, 3, 0, 5, 2, 0, 0, 0))  # when summer time ends and begins
SYDNEY = ((0, 4, 0, 1, 3, 0, 0, 0), (0, 10, 0, 1, 2, 0, 0, 0))


def rule(bias: int, changes: tuple[tuple[int, ...], tuple[int, ...]], flags: int = 2) -> bytes:
    return struct.pack("<BBHHH14x", 2, 1, 0x3E, flags, 2007) + struct.pack(
        "<iii8H8H", bias, 0, -60, *changes[0], *changes[1]
    )


def zone(bias: int, changes: tuple[tuple[int, ...], tuple[int, ...]] = (NEVER, NEVER)) -> bytes:
    """A zone that had other clocks before."""
    name = "Home".encode("utf-16-le")
    head = struct.pack("<BBHHH", 2, 1, 6 + len(name), 2, len(name) // 2) + name + struct.pack("<H", 2)
    return head + rule(-600, (NEVER, NEVER), flags=0) + rule(bias, changes)


@pytest.mark.parametrize(
    ("zone", "start", "shown"),
    [
        (zone(-540), ticks(2025, 3, 4, 16), "2025-03-05 01:00 UTC+09:00"),
        (zone(0), ticks(2025, 3, 4, 16), "2025-03-04 16:00 UTC"),
        (zone(-60, BERLIN), ticks(2025, 3, 4, 8, 30), "2025-03-04 09:30 UTC+01:00"),
        (zone(-60, BERLIN), ticks(2025, 3, 30, 0, 59), "2025-03-30 01:59 UTC+01:00"),
        (zone(-60, BERLIN), ticks(2025, 3, 30, 1), "2025-03-30 03:00 UTC+02:00"),
        (zone(-60, BERLIN), ticks(2025, 10, 26, 0, 59), "2025-10-26 02:59 UTC+02:00"),
        (zone(-60, BERLIN), ticks(2025, 10, 26, 1), "2025-10-26 02:00 UTC+01:00"),
        (zone(-600, SYDNEY), ticks(2025, 1, 5, 3), "2025-01-05 14:00 UTC+11:00"),
        (zone(-600, SYDNEY), ticks(2025, 7, 5, 3), "2025-07-05 13:00 UTC+10:00"),
        (zone(-60, ((2025, 10, 0, 26, 3, 0, 0, 0), BERLIN[1])), ticks(2025, 10, 26, 1), "2025-10-26 02:00 UTC+01:00"),
        (zone(2**31 - 61), ticks(2025, 3, 4, 16), "2025-03-04 16:00 UTC"),
        (zone(-60, ((0, 13, 9, 99, 99, 0, 0, 0), BERLIN[1])), ticks(2025, 3, 4, 16), "2025-03-04 16:00 UTC"),
        (zone(-60)[:90], ticks(2025, 3, 4, 16), "2025-03-04 16:00 UTC"),
        (b"\0\0\0\0\0\0\0\0\0\0", ticks(2025, 3, 4, 16), "2025-03-04 16:00 UTC"),
    ],
)
def test_an_appointment_has_the_time_of_its_author(zone: bytes, start: int, shown: str) -> None:
    named: Properties = {0x820D: start, 0x825E: zone}
    assert entry("IPM.Appointment", APPOINTMENT, named) == f"Start: {shown}"


@pytest.mark.parametrize("kind", ["IPM.Appointment", "IPM.Schedule.Meeting.Request"])
def test_an_appointment_has_its_times_and_its_place(kind: str) -> None:
    named: Properties = {
        0x820D: ticks(2025, 3, 4, 8, 30),
        0x820E: ticks(2025, 3, 4, 10),
        0x8208: "Room 4",
        0x8232: "every Tuesday",
    }
    assert entry(kind, APPOINTMENT, named, x0037="Boiler") == (
        "Subject: Boiler\nStart: 2025-03-04 08:30 UTC\nEnd: 2025-03-04 10:00 UTC\nLocation: Room 4\nRepeats: every Tuesday"
    )


@pytest.mark.parametrize(
    ("bias", "start", "end"),
    [
        (-540, ticks(2025, 3, 3, 15), ticks(2025, 3, 4, 15)),
        (300, ticks(2025, 3, 4, 5), ticks(2025, 3, 5, 5)),
        (300, ticks(2025, 3, 4, 4), ticks(2025, 3, 5, 4)),  # in summer
        (-780, ticks(2025, 3, 3, 11), ticks(2025, 3, 4, 11)),
        (None, ticks(2025, 3, 3, 23), ticks(2025, 3, 4, 23)),
        (2**31 - 1, ticks(2025, 3, 3, 23), ticks(2025, 3, 4, 23)),  # damaged
    ],
)
def test_an_appointment_of_a_whole_day_is_on_the_day_of_its_author(bias: int | None, start: int, end: int) -> None:
    named: dict[int, int | bytes] = {0x820D: start, 0x820E: end, 0x8215: 1}
    if bias is not None:
        named[0x825E] = zone(bias)
    assert entry("IPM.Appointment", APPOINTMENT, named) == "Start: 2025-03-04\nEnd: 2025-03-04"


def test_a_task_has_its_days() -> None:
    named = {0x8104: ticks(4501, 1, 1), 0x8105: ticks(2025, 3, 10), 0x810F: 2**64 - 1}
    assert entry("IPM.Task", TASK, named, x0037="Pay") == "Subject: Pay\nDue: 2025-03-10"


def test_a_contact_has_its_numbers_and_addresses() -> None:
    text = entry("IPM.Contact", ADDRESS, {0x8083: "a@mail.example"}, x0037="Ada", x3A1C="+49 30 1234")
    assert text == "Subject: Ada\nPhone (mobile): +49 30 1234\nMail: a@mail.example"


def test_a_mail_has_no_fields_of_an_appointment() -> None:
    assert entry("IPM.Note", APPOINTMENT, {0x820D: ticks(2025, 3, 4)}, x0037="Rent") == "Subject: Rent"
