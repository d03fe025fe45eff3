"""Old Word documents: what is decoded again after office-oxide, and what is refused."""

import struct

import pytest

from dagster_offload.extraction.formats.office97 import word
from dagster_offload.extraction.refusals import FileRefused
from tests.extraction.made_compound import compound


def word_file(version: int, *charsets: int) -> bytes:
    """A Word document that has only a header and a table of fonts with these charsets."""
    fonts = b"".join(struct.pack("<B", 6 + 5) + bytes((0, 0, 0, charset, 0)) + b"Arial\0" for charset in charsets)
    header = bytearray(struct.pack("<HH", 0xA5DC, version).ljust(0x100, b"\0"))
    struct.pack_into("<II", header, 0xD0, len(header), 2 + len(fonts))
    return compound({"WordDocument": bytes(header) + struct.pack("<H", 2 + len(fonts)) + fonts})


def read_as(monkeypatch: pytest.MonkeyPatch, text: str, data: bytes) -> str:
    class Read:
        def to_markdown(self) -> str:
            return text

    class Library:
        @staticmethod
        def from_bytes(_data: bytes, _kind: str) -> Read:
            return Read()

    monkeypatch.setattr(word, "Document", Library)
    return word.doc_text(data)


RUSSIAN = "Установка и запуск программы требуют новой версии"


def test_the_fonts_of_a_word_95_document_decide_how_its_bytes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    as_western = RUSSIAN.encode("cp1251").decode("cp1252")
    assert read_as(monkeypatch, as_western, word_file(0x65, 0, 204, 204)) == RUSSIAN
    korean = "회의실 사용 신청서를 제출합니다"
    assert read_as(monkeypatch, korean.encode("cp949").decode("cp1252"), word_file(0x68, 129)) == korean


@pytest.mark.parametrize(
    ("header", "encoding", "text"),
    [
        (b"\x97\xa6", "cp932", "管理組合の役員 9月9日 ｶﾅ"),
        (b"\x98\xa6", "cp949", "새 문서를 만들려면 [파일]"),
        (b"\x99\xa6", "gbk", "创建新文档，单击确定"),
        (b"\x99\xa6", "cp950", "建立新文件，按一下確定"),
    ],
)
def test_an_east_asian_word_95_document_is_read_by_its_codes_of_two_bytes(
    monkeypatch: pytest.MonkeyPatch, header: bytes, encoding: str, text: str
) -> None:
    codes = "".join(chr(int.from_bytes(character.encode(encoding), "big")) for character in text)
    data = compound({"WordDocument": header + bytes(5000)})
    assert read_as(monkeypatch, f"# {codes} \u1093\u10e9\u1094", data) == f"# {text} “é”"


def test_codes_that_were_read_as_one_character_or_lost_do_not_spoil_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = "创建亍堋文档在单击确定".encode("gbk").decode("utf-16-be", "surrogatepass")
    data = compound({"WordDocument": b"\x99\xa6" + bytes(5000)})
    assert any(ord(code) > 0xFFFF for code in codes)
    assert read_as(monkeypatch, f"# {codes}\ufffd", data) == "# 创建亍堋文档在单击确定\ufffd"


def test_raised_letters_are_read_without_markup_and_digits_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    written = "the 1<sup>st</sup> of 10<sup>6</sup> H<sub>2</sub>O"
    assert read_as(monkeypatch, written, word_file(0xC1)) == "the 1st of 10⁶ H2O"


def test_western_text_and_later_versions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    german = "Die Prüfung der Heizkörper fällt früher an, daß niemand übrigbleibt"
    assert read_as(monkeypatch, german, word_file(0x65, 0, 204)) == german
    assert read_as(monkeypatch, german, word_file(0x65, 0, 1)) == german
    as_western = RUSSIAN.encode("cp1251").decode("cp1252")
    assert read_as(monkeypatch, as_western, word_file(0xC1, 204)) == as_western


def test_other_data_is_refused_and_the_message_does_not_quote_it() -> None:
    with pytest.raises(FileRefused) as refused:
        word.doc_text(b"xylophone-4711")
    assert refused.value.code == "broken_file"
    assert "xylophone" not in refused.value.message
