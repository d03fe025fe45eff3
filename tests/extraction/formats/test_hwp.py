"""HWP 5 sections made record by record: tables, notes, boxes and controls."""

import struct
import zlib

import pytest

from dagster_offload.extraction.formats.hwp import NotHangul, hwp_text, section_text
from dagster_offload.extraction.formats.hwp_distribution import (
    _without_noise,
    aes_128_ecb_decrypted,
    unscramble,
)
from dagster_offload.extraction.formats.hwpx import hwpx_text
from dagster_offload.extraction.formats.zip_xml import BrokenArchive

PARAGRAPH, TEXT, CONTROL, LIST, SHAPE, TABLE, EQUATION = 66, 67, 71, 72, 76, 77, 88


def record(tag: int, level: int, data: bytes = b"") -> bytes:
    head = tag | level << 10
    if len(data) < 0xFFF:
        return struct.pack("<I", head | len(data) << 20) + data
    return struct.pack("<II", head | 0xFFF << 20, len(data)) + data


def paragraph(level: int, text: str | bytes) -> bytes:
    characters = text if isinstance(text, bytes) else text.encode("utf-16-le") + b"\r\0"
    return record(PARAGRAPH, level) + record(TEXT, level + 1, characters)


def control(level: int, name: str) -> bytes:
    return record(CONTROL, level, name.encode()[::-1])


def cell(level: int, column: int, row: int, text: str) -> bytes:
    return record(LIST, level, bytes(8) + struct.pack("<HH", column, row)) + paragraph(level, text)


def read(*records: bytes) -> str:
    return section_text(b"".join(records), is_compressed=False)


def test_a_table_is_read_in_place_with_its_caption_and_separate_cells() -> None:
    text = read(
        paragraph(0, "앞"),
        paragraph(0, ""),
        control(1, "tbl "),
        record(LIST, 2, bytes(8)) + paragraph(2, "표 1. 인원"),
        record(TABLE, 2, bytes(8)),
        cell(2, 0, 0, "부서"),
        cell(2, 1, 0, "수"),
        cell(2, 0, 1, "총무"),
        cell(2, 1, 1, "7"),
        paragraph(0, "뒤"),
    )
    assert text == "앞\n\n표 1. 인원\n\n| 부서 | 수 |\n| --- | --- |\n| 총무 | 7 |\n\n뒤"


def test_a_table_of_one_cell_is_plain_text() -> None:
    assert read(paragraph(0, ""), control(1, "tbl "), record(TABLE, 2), cell(2, 0, 0, "알림")) == "알림"


def test_a_note_follows_its_paragraph_in_brackets_and_boxes_and_equations_are_read() -> None:
    text = read(
        paragraph(0, "본문"),
        control(1, "fn  "),
        record(LIST, 2, bytes(8)),
        paragraph(2, "각주"),
        paragraph(0, "그림"),
        control(1, "gso "),
        record(SHAPE, 2),
        record(LIST, 3, bytes(8)),
        paragraph(3, "글상자"),
        control(1, "eqed"),
        record(EQUATION, 2, bytes(4) + struct.pack("<H", 3) + "a+b".encode("utf-16-le")),
    )
    assert text == "본문\n\n[각주]\n\n그림\n\n글상자\n\na+b"


def test_controls_between_characters_are_skipped() -> None:
    tab = struct.pack("<8H", 9, 0x4141, 0, 0, 0, 0, 0, 9)
    field = struct.pack("<8H", 3, 0x4242, 0, 0, 0, 0, 0, 3)
    characters = (
        "가".encode("utf-16-le") + tab + "나".encode("utf-16-le") + field + "다\n라\x1e마\r".encode("utf-16-le")
    )
    assert read(paragraph(0, characters)) == "가\t나다\n라 마"


def test_a_long_paragraph_and_compressed_sections_are_read_completely() -> None:
    long = "긴 글 " * 2000
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(paragraph(0, long)) + packer.flush()
    assert section_text(packed, is_compressed=True) == long


@pytest.mark.parametrize("data", [b"", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), b"PK\x03\x04" + bytes(50)])
def test_other_data_is_refused_as_not_hangul(data: bytes) -> None:
    with pytest.raises(NotHangul):
        hwp_text(data)
    with pytest.raises(BrokenArchive):
        hwpx_text(data)


def test_aes_decrypts_the_example_of_the_standard() -> None:
    """FIPS 197, appendix C.1."""
    sent = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")
    assert aes_128_ecb_decrypted(sent, bytes(range(16))).hex() == "00112233445566778899aabbccddeeff"


def test_a_document_for_distribution_is_decrypted_with_its_own_key() -> None:
    key_data = bytearray(struct.pack("<I", 0x12345677) + bytes(252))
    offset = 4 + (0x77 & 15)
    key_data[offset : offset + 16] = b"0123456789abcdef"
    noisy = _without_noise(bytes(key_data))  # the same noise twice cancels out
    assert noisy[:16].hex() == "7756341245454c4c4c4c4c7c7d7e7f78"
    # The compressed section of one paragraph, encrypted by another program (the cryptography package).
    section = bytes.fromhex("cad7605edc904b08ac35bd1c427a87d6203f3a85e4f1eacd1325f4c08fc55ffe")
    stream = record(28, 0, noisy) + section
    assert section_text(unscramble(stream), is_compressed=True) == "배포용 본문"


@pytest.mark.parametrize("stream", [record(66, 0), record(28, 0, bytes(10))])
def test_a_section_without_its_key_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match="no key data"):
        unscramble(stream)
