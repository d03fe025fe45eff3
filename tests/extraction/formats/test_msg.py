"""The compressed RTF of Outlook, with the example of [MS-OXRTFCP] section 3.1.1; whole messages are fixtures."""

import pytest

from dagster_offload.extraction.formats.msg import NotOutlook, decompress_rtf

EXAMPLE = "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"


def test_the_example_of_the_specification_is_unpacked() -> None:
    assert decompress_rtf(bytes.fromhex(EXAMPLE)) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"


def test_rtf_that_is_only_wrapped_is_unwrapped() -> None:
    assert decompress_rtf(b"\x10\0\0\0\x04\0\0\0MELA\0\0\0\0{rtf and more") == b"{rtf"


def test_a_kind_that_does_not_exist_says_so() -> None:
    with pytest.raises(NotOutlook):
        decompress_rtf(bytes(20))
