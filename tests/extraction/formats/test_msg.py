"""Which body of an Outlook message is read, and its compressed RTF, with the example of [MS-OXRTFCP] section 3.1.1.

Complete messages are fixtures.
"""

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
