"""Bodies in forms that only some mail programs write: RTF, enriched text, and what Outlook packs into winmail.dat."""

import base64
import struct

import pytest

from dagster_offload.extraction.formats.html import html_text
from dagster_offload.extraction.formats.mail.eml import mail_text
from dagster_offload.extraction.formats.mail.enriched import enriched_text
from dagster_offload.extraction.formats.mail.tnef import tnef_text

NEWS = "The heating is serviced on Monday, and the lift stands still."
RTF = b"{\\rtf1\\ansi " + NEWS.encode() + b"\\par}"


def body(kind: str, data: bytes, more: str = "") -> str | None:
    head = f"Subject: s\nContent-Type: {kind}\n{more}Content-Transfer-Encoding: base64\n\n"
    return mail_text(head.encode() + base64.encodebytes(data), html_text)


@pytest.mark.parametrize("kind", ["application/rtf", "application/x-rtf", "text/rtf", "text/richtext", "text/plain"])
def test_a_body_in_rtf_is_read_without_its_markup(kind: str) -> None:
    assert body(kind, RTF) == f"Subject: s\n\n{NEWS}"


def test_an_attached_rtf_file_is_only_named() -> None:
    more = 'Content-Disposition: attachment; filename="letter.rtf"\n'
    assert body("application/rtf", RTF, more) == "Subject: s\n\nAttachments: letter.rtf"


def test_a_body_in_enriched_text_is_read_without_its_commands() -> None:
    written = b"<bold>Rent</bold> of\nMay <<1000\n\n<color><param>red</param>due</color>\r\n\r\n\r\nnow"
    assert body("text/enriched", written) == "Subject: s\n\nRent of May <1000\ndue\n\nnow"


def test_a_command_that_is_not_closed_hides_nothing() -> None:
    assert enriched_text("Rent <color><param>red<bold>is due") == "Rent redis due"


def test_lines_that_are_not_filled_stay_apart() -> None:
    assert enriched_text("a\nb<nofill>\nc\n\nd</nofill>\ne") == "a b\nc\n\nd e"


def test_signs_and_lines_of_the_forerunner_of_enriched_text_are_read() -> None:
    assert enriched_text("1 <lt> 2<nl>three<comment>four<bold>five</bold></comment>") == "1 < 2\nthree"


def attribute(number: int, data: bytes, level: int = 1) -> bytes:
    return struct.pack("<BII", level, number, len(data)) + data + bytes(2)


def prop(kind: int, number: int, data: bytes) -> bytes:
    """A property of a variable length."""
    return struct.pack("<HHII", kind, number, 1, len(data)) + data + bytes(-len(data) % 4)


def properties(*of: bytes) -> bytes:
    """Properties behind others whose lengths a reader must know."""
    fixed = struct.pack("<HHI", 0x0003, 0x0017, 1) + struct.pack("<HHQ", 0x0040, 0x0039, 7)
    name = "Keywords".encode("utf-16-le") + bytes(2)
    named = struct.pack("<HH16sII", 0x101F, 0x8001, b"", 1, len(name)) + name + bytes(-len(name) % 4)
    named += struct.pack("<II", 2, 4) + b"a\0\0\0" + struct.pack("<I", 2) + b"b\0\0\0"
    return struct.pack("<I", 4) + fixed + named + b"".join(of)


def tnef(*attributes: bytes) -> bytes:
    return b"\x78\x9f\x3e\x22\x01\x00" + b"".join(attributes)


UNCOMPRESSED = struct.pack("<II4sI", len(RTF) + 12, len(RTF), b"MELA", 0) + RTF
HTML = f"<p>{NEWS}</p>".encode()


@pytest.mark.parametrize(
    "content",
    [
        attribute(0x00069003, properties(prop(0x0102, 0x1009, UNCOMPRESSED))),
        attribute(0x00069003, properties(prop(0x0102, 0x1013, HTML))),
        attribute(0x00069003, properties(prop(0x001F, 0x1000, NEWS.encode("utf-16-le") + bytes(2)))),
        attribute(0x00069007, struct.pack("<II", 1252, 0)) + attribute(0x0002800C, NEWS.encode() + b"\0"),
    ],
    ids=["RTF", "HTML", "text", "bytes"],
)
def test_a_body_that_is_only_in_winmail_dat_is_read(content: bytes) -> None:
    assert body("application/ms-tnef", tnef(content)) == f"Subject: s\n\n{NEWS}"
    assert body('application/octet-stream; name="Winmail.dat"', tnef(content)) == f"Subject: s\n\n{NEWS}"


def in_two_forms(plain: str) -> str | None:
    packed = tnef(
        attribute(0x0002800C, NEWS.encode()),
        attribute(0x00069002, bytes(14), 2),
        attribute(0x00018010, b"CONTRA~1.PDF\0", 2),
        attribute(0x00069005, properties(prop(0x001F, 0x3707, "contract of May.pdf\0".encode("utf-16-le"))), 2),
        attribute(0x00069002, bytes(14), 2),
        attribute(0x00018010, b"plan.png\0", 2),
    )
    mail = f"Subject: s\nContent-Type: multipart/mixed; boundary=m\n\n--m\n\n{plain}\n--m\n"
    head = 'Content-Type: application/ms-tnef; name="winmail.dat"\nContent-Transfer-Encoding: base64\n\n'
    return mail_text((mail + head).encode() + base64.encodebytes(packed) + b"--m--\n", html_text)


@pytest.mark.parametrize(("plain", "shown"), [("", NEWS), (NEWS[:30], NEWS[:30]), ("See.", NEWS)])
def test_winmail_dat_is_another_form_of_the_body_and_names_the_attachments(plain: str, shown: str) -> None:
    assert in_two_forms(plain) == f"Subject: s\n\n{shown}\n\nAttachments: contract of May.pdf, plan.png"


def test_winmail_dat_that_is_something_else_stays_an_attachment() -> None:
    assert body('application/ms-tnef; name="winmail.dat"', b"other") == "Subject: s\n\nAttachments: winmail.dat"


def test_a_damaged_winmail_dat_gives_what_is_there() -> None:
    whole = tnef(
        attribute(0x0002800C, NEWS.encode()),
        attribute(
            0x00069003, properties(prop(0x0102, 0x1009, b"junk"), struct.pack("<HHI", 0x101E, 0x3001, 2**32 - 1))
        ),
    )
    assert tnef_text(whole, []) == NEWS
    for end in range(4, len(whole)):
        assert tnef_text(whole[:end], []) in (NEWS[: max(0, end - 15)], NEWS)


def test_what_became_of_a_mail_is_read_from_its_receipt() -> None:
    mail = (
        b"Subject: s\nContent-Type: multipart/report; report-type=disposition-notification; boundary=x\n\n"
        b"--x\nContent-Type: message/disposition-notification\n\nFinal-Recipient: rfc822;z@mail.example\n"
        b"Disposition: manual-action/MDN-sent-manually; deleted\n--x--\n"
    )
    assert mail_text(mail, html_text) == (
        "Subject: s\n\nFinal-Recipient: rfc822;z@mail.example\nDisposition: manual-action/MDN-sent-manually; deleted"
    )
