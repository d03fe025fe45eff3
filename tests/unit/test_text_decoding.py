"""Bytes become the text that somebody wrote, in the encodings that people's files are in."""

import pytest

from dagster_offload.text_decoding import declared_encoding, decode

KOREAN = "제3조 (기간) 임대차 기간은 2024년 7월 1일부터 3년으로 한다."
JAPANESE = "これは日本語の短い文書です。会議は月曜日に行います。"
CHINESE = "这是一个简短的中文文件。会议将于星期一举行。"
RUSSIAN = "Договор аренды заключён между сторонами в городе Москва."
GERMAN = "Der Vertrag über die Lieferung wird für ungültig erklärt. Größe und Maß sind zu prüfen."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain ASCII", "ascii"),
        (KOREAN, "utf-8"),
        (KOREAN, "utf-8-sig"),
        (KOREAN, "utf-16"),
        (KOREAN, "utf-32"),
        (KOREAN, "cp949"),
        (KOREAN, "euc-kr"),
        ("네", "cp949"),
        ("확인", "cp949"),
        ("Re: 견적서 3부 (수정)", "cp949"),
        ("아래 漢字를 섞어 쓴 글월이다. 韓國의 옛 문서가 그러하다.", "cp949"),
        ("펲시콜라 똠방각하라는 말이 섞인 평범한 글이다", "cp949"),
        ("only Latin letters, no mark", "utf-16-le"),
        ("only Latin letters, no mark", "utf-16-be"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (CHINESE, "gb2312"),
        (RUSSIAN, "cp1251"),
        (GERMAN, "latin-1"),
    ],
)
def test_text_is_read_in_the_encoding_it_was_written_in(text: str, encoding: str) -> None:
    found = decode(text.encode(encoding))
    assert found is not None
    assert found.text == text


def test_what_is_valid_utf8_is_utf8_whatever_its_label_says() -> None:
    found = decode(KOREAN.encode(), declared="euc-kr")
    assert found is not None
    assert (found.text, found.encoding) == (KOREAN, "utf-8")


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("ks_c_5601-1987", "cp949"),
        ("EUC-KR", "cp949"),
        ("gb2312", "gb18030"),
        ("iso-8859-1", "cp1252"),
        ("x-none", "cp949"),
    ],
)
def test_a_label_means_the_superset_that_was_written_under_it(declared: str, encoding: str) -> None:
    text = {"cp949": "똠방각하", "gb18030": "镕基", "cp1252": "“straße” – 5 €"}[encoding]
    raw = ("뜻이 있는 글 " * 9 + text).encode(encoding) if encoding == "cp949" else text.encode(encoding)
    found = decode(raw, declared)
    assert found is not None
    assert found.encoding == encoding
    assert found.text.endswith(text)


def test_a_text_with_a_damaged_byte_is_still_read() -> None:
    for encoding in ("utf-8", "cp949"):
        found = decode((KOREAN * 3).encode(encoding)[:-2])
        assert found is not None
        assert found.text.startswith(KOREAN)


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01\x01\0\0\0\xff\xfe", b"\0" * 64, bytes(range(256)) * 4])
def test_binary_data_is_no_text(data: bytes) -> None:
    assert decode(data) is None


@pytest.mark.parametrize(
    ("head", "declared"),
    [
        (b'<meta charset="euc-kr">', "euc-kr"),
        (b"<meta http-equiv='Content-Type' content='text/html; charset=Shift_JIS'>", "Shift_JIS"),
        (b'<?xml version="1.0" encoding="EUC-KR"?>', "EUC-KR"),
        (b"<html>", None),
    ],
)
def test_the_declared_encoding_is_found_in_the_head(head: bytes, declared: str | None) -> None:
    assert declared_encoding(head) == declared
