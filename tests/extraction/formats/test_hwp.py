"""HWP 5 sections made record by record: tables, notes, boxes and controls."""

import io
import struct
import zipfile
import zlib

import pytest

from dagster_offload.extraction.formats.hangul.distribution import _without_noise, aes_128_ecb_decrypted, unscramble
from dagster_offload.extraction.formats.hangul.hwp import NotHangul, _Lists, _tree, hwp_pictures, hwp_text, section_text
from dagster_offload.extraction.formats.hangul.hwpx import hwpx_text
from dagster_offload.extraction.formats.parts.picture_marks import marked_pictures
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive

PARAGRAPH, TEXT, CONTROL, LIST, SHAPE, TABLE, EQUATION = 66, 67, 71, 72, 76, 77, 88
BINARY_DATA, NUMBERING, PARAGRAPH_SHAPE, PICTURE, TEXT_ART, FORM = 18, 23, 25, 85, 90, 91


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


def test_a_hidden_comment_is_left_out() -> None:
    comment = control(1, "tcmt") + record(LIST, 2, bytes(8)) + paragraph(2, "숨은 설명")
    assert read(paragraph(0, "앞"), comment, paragraph(0, "뒤")) == "앞\n\n뒤"
    assert (
        hwpx(p(f"<t>앞</t><ctrl><hiddenComment><subList>{p('<t>숨은 설명</t>')}</subList></hiddenComment></ctrl>"))
        == "앞"
    )


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


def string(words: str) -> bytes:
    return struct.pack("<H", len(words)) + words.encode("utf-16-le")


def numbering(*levels: tuple[str, int]) -> bytes:
    """Seven levels of texts and styles, then first numbers."""
    padded = [*levels, *[("", 0)] * (7 - len(levels))]
    heads = b"".join(struct.pack("<I", style << 5) + bytes(8) + string(words) for words, style in padded)
    return record(NUMBERING, 0, heads + struct.pack("<H", 0) + struct.pack("<7I", *[1] * 7))


def shape(kind: int, level: int, numbering_id: int) -> bytes:
    return record(
        PARAGRAPH_SHAPE,
        0,
        struct.pack("<I", kind << 23 | level << 25) + bytes(26) + struct.pack("<HH", numbering_id, 0),
    )


def shaped(words: str, shape_id: int, *controls: bytes) -> bytes:
    characters = b"".join(struct.pack("<8H", 2, 0, 0, 0, 0, 0, 0, 2) for _ in controls) + words.encode("utf-16-le")
    head = record(PARAGRAPH, 0, bytes(8) + struct.pack("<H", shape_id) + bytes(12))
    return head + record(TEXT, 1, characters + b"\r\0") + b"".join(record(CONTROL, 1, data) for data in controls)


def listed(info: bytes, section: bytes) -> str:
    return section_text(section, is_compressed=False, lists=_Lists(_tree(info)))


def test_list_paragraphs_have_their_numbers() -> None:
    info = numbering(("제^1조", 0), ("^1-^2)", 8)) + shape(0, 0, 0) + shape(2, 0, 1) + shape(2, 1, 1) + shape(1, 0, 0)
    section_definition = b"dces" + bytes(14) + struct.pack("<H", 1) + bytes(4)
    section = (
        shaped("목적", 1, section_definition) + shaped("하나", 2) + shaped("둘", 2) + shaped("본문", 0) + shaped("기간", 3)
        + shaped("하나", 2)
    )  # fmt: skip
    assert listed(info, section).split("\n\n") == [
        "제1조 목적",
        "1-가) 하나",
        "1-나) 둘",
        "본문",
        "제2조 기간",
        "2-가) 하나",
    ]


def test_glosses_and_overprinted_letters_stand_in_their_line() -> None:
    control_character = struct.pack("<8H", 23, 0, 0, 0, 0, 0, 0, 23)
    characters = "앞".encode("utf-16-le") + control_character + control_character + "뒤\r".encode("utf-16-le")
    text = read(
        record(PARAGRAPH, 0) + record(TEXT, 1, characters),
        record(CONTROL, 1, b"tudt" + string("漢字") + string("한자") + bytes(20)),
        record(CONTROL, 1, b"spct" + string("10") + bytes(4)),
    )
    assert text == "앞漢字(한자)10뒤"


def test_word_art_and_form_values_are_read() -> None:
    def form(kind: bytes, properties: str) -> bytes:
        text = f"CommonSet:set:9:Name:wstring:2:N1 {properties} "
        return record(FORM, 2, kind * 2 + struct.pack("<I", len(text)) + string(text))

    text = read(
        paragraph(0, ""),
        control(1, "gso "), record(SHAPE, 2), record(TEXT_ART, 3, bytes(32) + string("글맵시") + string("바탕")),
        control(1, "form"), form(b"tbc+", "ButtonSet:set:30:Caption:wstring:3:동의함 Value:int:1"),
        control(1, "form"), form(b"tbr+", "ButtonSet:set:30:Caption:wstring:3:아니오 Value:int:0"),
        control(1, "form"), form(b"tde+", "EditSet:set:20:Text:wstring:5:홍길동 씨"),
    )  # fmt: skip
    assert text.split("\n\n") == ["글맵시", "[x] 동의함", "[ ] 아니오", "홍길동 씨"]


def test_a_picture_is_marked_at_its_place() -> None:
    info = record(BINARY_DATA, 0, struct.pack("<HH", 0, 7)) + record(
        BINARY_DATA, 0, struct.pack("<HH", 1, 2) + string("png")
    )
    picture = record(PICTURE, 2, bytes(71) + struct.pack("<H", 2) + bytes(9))
    section = shaped("앞", 0) + control(1, "gso ") + picture + shaped("뒤", 0)
    assert marked_pictures(listed(info, section)) == ["BIN0002.png"]
    assert hwp_pictures(b"no document", ["BIN0002.png"]) == {}


HWPX_HEADER = (
    "<head><numbering id='1'><paraHead level='2' numFormat='HANGUL_SYLLABLE' start='1'>^2)</paraHead>"
    "<paraHead level='1' numFormat='DIGIT' start='3'>^1.</paraHead></numbering>"
    "<paraPr id='0'><heading type='NONE' idRef='0' level='0'/></paraPr>"
    "<paraPr id='1'><heading type='NUMBER' idRef='1' level='0'/></paraPr>"
    "<paraPr id='2'><heading type='OUTLINE' idRef='0' level='1'/></paraPr></head>"
)


def hwpx(section: str) -> str:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        new.writestr("Contents/header.xml", HWPX_HEADER)
        new.writestr("Contents/section0.xml", f"<sec><secPr outlineShapeIDRef='1'/>{section}</sec>")
    return hwpx_text(made.getvalue())


def p(inside: str, shape: int = 0) -> str:
    return f"<p paraPrIDRef='{shape}'><run>{inside}</run></p>"


def test_hwpx_list_paragraphs_have_their_numbers() -> None:
    section = p("<t>목적</t>", 1) + p("<t>하나</t>", 2) + p("<t>본문</t>") + p("<t>둘</t>", 2) + p("<t>기간</t>", 1)
    assert hwpx(section).split("\n\n") == ["3. 목적", "가) 하나", "본문", "나) 둘", "4. 기간"]


def test_hwpx_glosses_overprinted_letters_and_word_art_are_read() -> None:
    gloss = "<dutmal><mainText>漢字</mainText><subText>한자</subText></dutmal><compose composeText='10'/>"
    assert hwpx(p(f"<t>앞</t>{gloss}<t>뒤</t><textart text='글맵시'/>")) == "앞漢字(한자)10뒤\n\n글맵시"


def test_hwpx_form_values_are_in_their_line() -> None:
    fields = (
        "<checkBtn caption='동의함' value='CHECKED'/><t> </t><ctrl><radioBtn caption='아니오' value='UNCHECKED'/></ctrl>"
        "<t> 부서: </t><comboBox selectedValue='2'><listItem displayText='총무' value='2'/></comboBox>"
        "<t> 성명: </t><edit><text>홍길동</text></edit><btn caption=' 제출'/>"
    )
    assert hwpx(p(fields)) == "[x] 동의함 [ ] 아니오 부서: 총무 성명: 홍길동 제출"


def test_hwpx_tracked_deletions_are_left_out_even_across_paragraphs() -> None:
    section = p("<t>남고<deleteBegin/>지운</t>") + p(
        "<t>말<tab/><deleteEnd/> 남는다<insertBegin/> 새말<insertEnd/></t>"
    )
    assert hwpx(section) == "남고\n\n 남는다 새말"


def test_hwpx_memos_are_left_out_and_the_words_that_they_are_about_are_kept() -> None:
    memo = f"<ctrl><fieldBegin type='MEMO'><subList>{p('<t>a memo</t>')}</subList></fieldBegin></ctrl>"
    link = "<ctrl><fieldBegin type='HYPERLINK'/></ctrl>"
    assert hwpx(p(f"<t>앞 </t>{memo}<t>본문</t><ctrl><fieldEnd/></ctrl>{link}<t> 뒤</t>")) == "앞 본문 뒤"
