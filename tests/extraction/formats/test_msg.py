"""Outlook's compressed RTF, with the example of [MS-OXRTFCP] section 3.1.1. Complete messages are fixtures."""

import pytest

from dagster_offload.extraction.formats.mail.msg import NotOutlook, decompress_rtf

EXAMPLE = "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"


def test_the_example_of_the_specification_is_decompressed() -> None:
    assert decompress_rtf(bytes.fromhex(EXAMPLE)) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"


def test_uncompressed_rtf_is_returned_unchanged() -> None:
    assert decompress_rtf(b"\x10\0\0\0\x04\0\0\0MELA\0\0\0\0{rtf and more") == b"{rtf"


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(NotOutlook):
        decompress_rtf(bytes(20))
