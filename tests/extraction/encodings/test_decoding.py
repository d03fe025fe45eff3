"""Text in common encodings is decoded correctly, also without a declared encoding."""

import pytest

from dagster_offload.extraction.encodings.decoded import Decoded
from dagster_offload.extraction.encodings.decoding import declared_encoding, decode
from dagster_offload.extraction.encodings.euc_tw import decode_euc_tw

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
        (JAPANESE, "iso2022_jp"),
        (KOREAN, "iso2022_kr"),
        (CHINESE, "gb2312"),
        (RUSSIAN, "cp1251"),
        (GERMAN, "latin-1"),
    ],
)
def test_text_is_decoded_in_its_own_encoding(text: str, encoding: str) -> None:
    found = decode(text.encode(encoding))
    assert found is not None
    assert found.text == text


@pytest.mark.parametrize(
    ("encoding", "declared"), [("gb18030", "GB2312"), ("cp950", "Big5"), ("euc_jp", "EUC-JP"), ("iso2022_jp", None)]
)
def test_a_few_damaged_bytes_do_not_cost_a_text_its_declared_encoding(encoding: str, declared: str | None) -> None:
    text = "日本語 中文 會議室 申請 " * 40
    data = bytearray(text.replace("會議室", "会議室" if "jp" in encoding else "會議室").encode(encoding))
    data[101], data[202] = 0, data[202] ^ 0x80
    found = decode(bytes(data), declared)
    assert found is not None
    assert found.text.count("申請") >= 36


@pytest.mark.parametrize("declared", ["iso-8859-1", "us-ascii", "windows-1252", None])
@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        (
            "cp949",
            "<p class='a letter'>회의실 사용 신청서를 제출합니다.</p> Best regards, the facility office, room 4711. ",
        ),
        ("euc_jp", "会議室の利用申請を提出しますので確認をお願いします。"),
        ("cp874", "ขอส่งใบสมัครใช้ห้องประชุมเพื่อโปรดพิจารณา "),
        ("cp1251", "Установка и запуск программы требуют новой версии. "),
        ("koi8_r", "Установка и запуск программы требуют новой версии. "),
        ("cp1255", "שלום וברכה לכולם זהו מכתב "),
        ("cp1252", "Die Prüfung der Heizkörper fällt früher an, daß niemand übrigbleibt. "),
    ],
)
def test_a_text_that_says_it_is_western_is_judged_by_its_bytes(encoding: str, text: str, declared: str | None) -> None:
    found = decode((text * 3).encode(encoding), declared)
    assert found is not None
    assert found.text == text * 3


def test_a_western_text_keeps_its_declared_encoding_even_if_its_letters_are_rare() -> None:
    text = "Þetta er bréf frá húsfélaginu, við þökkum fyrir ykkar hjálp og aðstoð. "
    assert decode(text.encode("cp1252"), "iso-8859-1") == Decoded(text, "cp1252")


def test_a_zero_byte_in_a_damaged_text_does_not_make_it_binary() -> None:
    for encoding, text in (
        ("cp949", "회의실 사용 신청서를 제출합니다. " * 20),
        ("cp1255", "שלום וברכה לכולם זהו מכתב " * 9),
    ):
        data = bytearray(text.encode(encoding))
        data[30] = 0
        found = decode(bytes(data))
        assert found is not None
        assert found.encoding == encoding
        assert found.text[60:] in text * 2
    assert decode(bytes(range(256)) * 20) is None


def test_valid_utf8_is_decoded_as_utf8_despite_a_wrong_label() -> None:
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
        ("windows-874", "cp874"),
        ("iso-8859-8-i", "iso8859_8"),
        ("UTF-7", "utf-7"),
        ("unicode-1-1-utf-7", "utf-7"),
    ],
)
def test_a_declared_encoding_is_decoded_as_its_windows_superset(declared: str, encoding: str) -> None:
    text = {
        "cp949": "똠방각하", "gb18030": "镕基", "cp1252": "“straße” – 5 €", "cp874": "เรียน", "iso8859_8": "שלום",
        "utf-7": "Grüße",
    }[encoding]  # fmt: skip
    raw = ("뜻이 있는 글 " * 9 + text).encode(encoding) if encoding == "cp949" else text.encode(encoding)
    found = decode(raw, declared)
    assert found is not None
    assert found.encoding == encoding
    assert found.text.endswith(text)


def test_a_text_with_a_damaged_byte_is_still_decoded() -> None:
    for encoding in ("utf-8", "cp949"):
        found = decode((KOREAN * 3).encode(encoding)[:-2])
        assert found is not None
        assert found.text.startswith(KOREAN)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Déjà, le bac est arrivé à midi; la brume épaisse cachait le phare.", "cp1252"),
        ("Die Wärterin prüfte die Geräte und schloß das Tagebuch.", "cp1252"),
        ("El señor Ibáñez pidió mañana más café ¿y qué?", "cp1252"),
        ("He said “no” – for 5 €", "cp1252"),
        ("Dziś rano gęsta mgła zasłoniła latarnię; prom spóźnił się.", "cp1250"),
        ("Přívoz měl zpoždění dvě hodiny, řeka šuměla a žáci čekali.", "cp1250"),
        ("Bu sabah yoğun sis feneri gizledi; vapur İstanbul'a gecikti.", "cp1254"),
        ("Сегодня утром густой туман закрыл маяк; паром опоздал.", "cp1251"),
        ("Молим да платите не по-късно от петък. При въпроси се обърнете към счетоводството", "cp1251"),
        ("Љиља, просимо вас да рачун платите најкасније до петка. Ако имате питања, обратите се нама.", "cp1251"),
        ("настоящим сообщаем, что договор аренды помещения", "koi8_r"),
        ("Με εκτίμηση, Ελένη Άννου, για απορίες απευθυνθείτε στο λογιστήριο.", "cp1253"),
        ("Με εκτίμηση, Ελένη Άννου, για απορίες απευθυνθείτε στο λογιστήριο.", "iso8859_7"),
        ("ureda na drugom katu produžen do kraja prosinca.", "cp1250"),
        ("Szanowny Panie, informujemy, że umowa trwa", "cp1250"),
        ("Za pitanja se obratite računovodstvu. Srdačan pozdrav, Željka Šarić", "iso8859_2"),
        ("Sehr geehrter Herr Müller, wir teilen Ihnen mit", "cp850"),
        ("Dúvidas: o pagamento da fatura até sexta-feira", "cp850"),
        ("Kérjük, a számlát fizesse ki. Szőke Erzsébet, fűtés és víz", "cp852"),
    ],
)
def test_european_encodings_are_distinguished_by_the_letters_of_their_languages(text: str, encoding: str) -> None:
    found = decode(text.encode(encoding))
    assert found is not None
    assert (found.text, found.encoding) == (text, encoding)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", [KOREAN, "今朝は霧が濃く、\n灯台の光は", "今天清晨大雾弥漫,\n几乎看不见", "Hallo, Wärterin", "Привет, маяк"]
)
def test_utf16_without_a_byte_order_mark_is_recognized(text: str, encoding: str) -> None:
    found = decode(text.encode(encoding))
    assert found is not None
    assert (found.text, found.encoding) == (text, encoding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_truncated_text_with_a_byte_order_mark_is_still_decoded(encoding: str) -> None:
    found = decode((KOREAN * 3).encode(encoding)[:-1])
    assert found is not None
    assert found.text.startswith(KOREAN)


def test_16_bit_numbers_are_not_text() -> None:
    assert decode(b"".join(number.to_bytes(2, "little") for number in range(40, 20_000, 7))) is None


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01\x01\0\0\0\xff\xfe", b"\0" * 64, bytes(range(256)) * 4])
def test_binary_data_is_not_text(data: bytes) -> None:
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


TENANT = {
    "de": "Die Mieterin trägt die Kosten für das Wasser im Hof und gibt beide Schlüssel am Monatsende zurück.",
    "fr": "La locataire paie l'eau utilisée dans la cour et rend les deux clés à la fin de l'été, déjà.",
    "ko": "임차인은 마당에서 쓰는 물값을 내고 오월 마지막 날에 열쇠 두 개를 돌려준다.",
}


@pytest.mark.parametrize("language", TENANT)
@pytest.mark.parametrize("broken", [0x80, 0xB0, 0xC3, 0xE9, 0xFF])
@pytest.mark.parametrize("declared", [None, "iso-8859-1", "euc-kr"])
def test_utf8_with_a_broken_byte_at_any_position_stays_utf8(language: str, broken: int, declared: str | None) -> None:
    whole = TENANT[language].encode()
    for index in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[index] = broken
        found = decode(bytes(damaged), declared)
        assert found is not None
        assert found.encoding == "utf-8"


def test_utf8_truncated_within_a_character_stays_utf8() -> None:
    whole = TENANT["ko"].encode()
    assert {found.encoding for end in range(4, len(whole)) if (found := decode(whole[:end]))} == {"utf-8"}


@pytest.mark.parametrize("encoding", ["cp949", "johab", "utf-32-le", "utf-32-be"])
def test_korean_encodings_without_a_byte_order_mark_are_recognized(encoding: str) -> None:
    found = decode(TENANT["ko"].encode(encoding))
    assert found is not None
    assert (found.encoding, found.text) == (encoding, TENANT["ko"])


# Written by the C library's converter.
EUC_TW = bytes.fromhex(
    "ddd5d1d2c4a1c7b9c7e3c6bafda4cefbf7aee7d9e6aac4b8ecd1cefbc5c6c7b5a1a2cabcd4afcefbf0d0d5f7cae4c8a1c4b5c5cce2e4e4c4a1a2"
    "eef9c4cbd5a5c4e2d3d1f2daccafa1a48ea2f0b4"
)
TAIWANESE = "這是一份在台灣的舊電腦上寫的文件，我們的學校每年三月開會，請大家不要遲到。囍"


@pytest.mark.parametrize("declared", [None, "euc-tw", "x-euc-tw"])
def test_chinese_of_taiwan_in_euc_tw_is_decoded(declared: str | None) -> None:
    assert decode(EUC_TW, declared) == Decoded(TAIWANESE, "euc_tw")
    assert decode(b"Subject: " + EUC_TW + b" (4711)") == Decoded(f"Subject: {TAIWANESE} (4711)", "euc_tw")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(KOREAN, "euc-kr"), (JAPANESE, "euc_jp"), (CHINESE * 3, "gb2312"), (TAIWANESE, "big5"), (GERMAN, "latin-1")],
)
def test_other_encodings_are_not_taken_for_euc_tw(text: str, encoding: str) -> None:
    assert decode_euc_tw(text.encode(encoding)) is None


THAI = "สัญญาเช่าฉบับนี้ทำขึ้นระหว่างคู่สัญญาในกรุงเทพมหานคร ผู้เช่าต้องชำระค่าเช่าทุกเดือน"
POLISH = "Umowa najmu została zawarta między stronami w mieście Łódź. Najemca płaci czynsz później niż piątego dnia."
CZECH = "Nájemní smlouva byla uzavřena mezi stranami. Nájemce se zavazuje platit každý měsíc nejpozději pátého dne."
LITHUANIAN = "Nuomos sutartis sudaryta tarp šalių Vilniuje. Nuomininkas įsipareigoja kiekvieną mėnesį mokėti mokestį."
FRENCH = "Le contrat a été conclu à l'été entre les parties à Besançon. Le locataire s'engage à payer où qu'il soit."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (THAI, "cp874"), (POLISH, "cp1250"), (POLISH, "iso8859_2"), (CZECH, "cp1250"), (CZECH, "iso8859_2"),
        (LITHUANIAN, "cp1257"), (FRENCH, "cp1252"), (FRENCH, "mac_roman"), (FRENCH, "cp850"), (GERMAN, "mac_roman"),
        (FRENCH + " Señor Muñoz", "cp1252"), (CHINESE, "hz"), (TAIWANESE.replace("囍", ""), "big5"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("times", [1, 6])
def test_regional_and_older_encodings_are_recognized(text: str, encoding: str, times: int) -> None:
    decoded = decode((text * times).encode(encoding))
    assert decoded is not None
    assert decoded.text == text * times


def test_a_tilde_and_a_brace_in_source_code_are_not_chinese() -> None:
    code = "home = ~{a}; path = ~{abc}~{d}"
    assert decode(code.encode()) == Decoded(code, "utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "Rechnung Nr. 5\nKleidergröße (GRÖßE): M\nStraße 5, 80331 München\nBetrag 20,00 €",
        "Bestellung GRÖßE XL",
        "nach den BGÜs und DÜs",
        "§a Miete, die Größe",
        "Müller ©by Co",
        "¿donde esta el baño, Señor",
    ],
)
def test_a_short_western_text_with_an_odd_sign_or_capitals_stays_western(text: str) -> None:
    found = decode(text.encode("cp1252"))
    assert found is not None
    assert (found.text, found.encoding) == (text, "cp1252")


@pytest.mark.parametrize("declared", ["base64", "hex", "quoted-printable", "uu", "rot13", "zip", "bz2"])
def test_a_declared_encoding_that_is_none_of_texts_is_ignored(declared: str) -> None:
    found = decode(GERMAN.encode("cp1252"), declared)
    assert found is not None
    assert found.text == GERMAN


@pytest.mark.parametrize("text", ["①㈱髙田", "Ⅲ章 日本語", "見積書 ①\r\n㈱髙田\r\nok"])
def test_japanese_mail_of_windows_keeps_the_characters_that_the_standard_does_not_have(text: str) -> None:
    def row_and_cell(character: str) -> bytes:
        first, second = character.encode("cp932")
        row = 2 * (first - (0xC1 if first > 0xA0 else 0x81)) + 0x21 + (second >= 0x9F)
        return bytes((row, second - (0x7E if second >= 0x9F else 0x20 if second > 0x7F else 0x1F)))

    parts = (
        character.encode() if character.isascii() else b"\x1b$B" + row_and_cell(character) + b"\x1b(B"
        for character in text
    )
    assert decode(b"".join(parts), "iso-2022-jp") == Decoded(text, "iso2022_jp")


def test_half_width_letters_of_japanese_mail_are_read() -> None:
    found = decode(b"\x1b(I\x31\x32\x1b(B ok \x1b$B-!\x1b(B")
    assert found is not None
    assert found.text == "ｱｲ ok ①"
