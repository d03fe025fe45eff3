"""Worthless text is recognized, and real text never counts as worthless."""

import base64
import io
import json
import keyword
import math
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dagster_offload.extraction.legibility import (
    is_glyph_numbers,
    is_stray,
    share_of_wrong_letters,
    why_glyph_soup,
    why_worthless,
)

LIBRARY = Path(__file__).parents[2] / "fixtures" / "library"
SOURCES = Path(__file__).parents[2] / "dagster_offload"

KOREAN = "임대인과 임차인은 아래 부동산에 관하여 다음과 같이 임대차계약을 맺는다. 차임은 매월 말일에 지급한다. " * 3
LANGUAGES = {
    "Korean": KOREAN,
    "Japanese": "この度は弊社の製品をお買い上げいただき、誠にありがとうございます。ご使用の前に説明書をお読みください。",
    "half-width Japanese": "ﾌﾘｺﾐ ｶ)ﾔﾏﾀﾞｼﾖｳﾃﾝ ｺﾞｼﾞﾕｳﾏﾝｴﾝ ｻﾞﾝﾀﾞｶ ｼﾖｳｶｲ",
    "Chinese": "甲乙双方经协商一致，就房屋租赁事宜达成如下协议，以资共同遵守。租金按月支付。",
    "Arabic": "يسر شركتنا أن تعلن عن افتتاح فرع جديد في وسط المدينة ابتداء من الشهر القادم",
    "Hebrew": "אנו שמחים להודיע על פתיחת סניף חדש במרכז העיר החל מהחודש הבא",
    "Thai": "บริษัทขอแจ้งให้ทราบว่าจะมีการเปิดสาขาใหม่ในใจกลางเมืองตั้งแต่เดือนหน้าเป็นต้นไป",
    "Hindi": "हमें यह बताते हुए खुशी हो रही है कि अगले महीने से शहर के केंद्र में नई शाखा खुलेगी",
    "Russian": "Настоящим сообщаем, что с первого числа следующего месяца открывается новое отделение",
    "Greek": "Με χαρά ανακοινώνουμε το άνοιγμα νέου καταστήματος στο κέντρο της πόλης",
    "Vietnamese": "Chúng tôi vui mừng thông báo sẽ mở chi nhánh mới ở trung tâm thành phố từ tháng sau, kính mời quý vị",
    "French": "Où êtes-vous né? L'été dernier, près de l'hôtel, le garçon a été très fâché: ça m'a gêné, à vrai dire.",
    "Icelandic": "Það er ánægjulegt að tilkynna að ný búð verður opnuð í miðbænum á næsta ári, öllum íbúum til ánægju",
    "Czech": "Příliš žluťoučký kůň úpěl ďábelské ódy, řekl starý účetní a šel si koupit čerstvé pečivo",
    "Georgian": "გაცნობებთ, რომ მომავალი თვიდან ქალაქის ცენტრში ახალი ფილიალი გაიხსნება",
    "Amharic": "ከሚቀጥለው ወር ጀምሮ በከተማው መሃል አዲስ ቅርንጫፍ እንደሚከፈት በደስታ እናሳውቃለን",
    "Old Korean": "나랏〮말〯ᄊᆞ미〮 듀ᇰ귁〮에〮달아〮 문ᄍᆞᆼ〮와〮로〮서르ᄉᆞᄆᆞᆺ디〮아니〮ᄒᆞᆯᄊᆡ〮",
}
OTHER_TEXTS = {
    "a short note": "Paid 12 EUR",
    "one letter": "x",
    "numbers": "\n".join(f"{n},{n * n},{math.sqrt(n):.6f}" for n in range(400)),
    "a table of signs": "| --- | :-: | ---: |\n" * 60 + "+======+------+\n" * 60,
    "contents with dots": "\n".join(f"Chapter {n} {'.' * 70} {n * 7}" for n in range(40)),
    "contents with middle dots": "\n".join(f"제{n}장 {'·' * 70} {n * 7}" for n in range(1, 40)),
    "mathematics": "∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−f(a)|<ε; ∑_{k=0}^{∞} x^k/k! = e^x, ∮_C F·dr = ∬_S (∇×F)·n̂ dS " * 5,
    "emoji": "🎉🎊👍🏽 👩‍👩‍👧‍👦 ❤️ 🇰🇷 🥳🥳🥳 " * 20,
    "a licence key": "\n".join(["BCDFG-HJKMP-QRTVW-XY234-6789B", "XKCDQ-PLMRT-WVZZT-HHDDL-RRXXD"] * 20),
    "tickers": "MSFT NVDA TSLA KRW GBP JPY XTZ BTC LTC DJX SPX NYSE NDX FTSE DXY LXL HLDR DDHR LLRX XRLD " * 10,
    "an alphabet": "".join(map(chr, range(0xC0, 0x180))) + "".join(map(chr, range(0xC0, 0x100))),
    "syllables in order": "".join(chr(0xAC00 + n) for n in range(0, 200, 28)),
    "brackets": json.dumps([[[{}, [], {"a": [[], {}]}]] * 20] * 5),
    "shell": 'for f in *.txt; do [ -f "$f" ] && { wc -l < "$f" || :; } >> "$1" 2>&1; done; $(( x=${#y} ))\n' * 20,
    "Perl": r"while(<>){s/^\s+|\s+$//g;next unless/\S/;@_=split/,/;$_{$_[0]}.=qq{@_[1..$#_]\n}}print%_,$/" + "\n",
    "box drawing": "┌──┬──┐\n│  │  │\n├──┼──┤\n└──┴──┘\n" * 30,
    "hexadecimal": random.Random(1).randbytes(3000).hex(" ", 2).upper(),
    "DNA": "ACGTTGCATGTCGCATGATGCATGAGAGCT" * 40,
    "morse": "... --- ... / -.-. --.- -.. " * 40,
    "about mojibake": "A Korean file read as Latin-1 shows ¾È³çÇÏ¼¼¿ä where it says 안녕하세요; (cid:12) is a glyph's number.",
    "keywords": " ".join(keyword.kwlist),
    "lost letters": "Der Gesch\ufffdftsf\ufffdhrer der M\ufffdller GmbH gr\ufffd\ufffdt alle G\ufffdste",
}
READABLE = LANGUAGES | OTHER_TEXTS

UTF8_AS_CP1252 = KOREAN.encode().decode("latin-1")
MOJIBAKE = {
    "UTF-8 read as Latin-1": UTF8_AS_CP1252,
    "EUC-KR read as Latin-1": KOREAN.encode("euc_kr").decode("latin-1"),
    "CP949 read as CP1252": KOREAN.encode("cp949").decode("cp1252", errors="ignore"),
    "KOI8-R read as Latin-1": LANGUAGES["Russian"].encode("koi8_r").decode("latin-1"),
    "CP1251 read as CP1252": LANGUAGES["Russian"].encode("cp1251").decode("cp1252", errors="ignore"),
    "Greek UTF-8 read as CP1252": LANGUAGES["Greek"].encode().decode("cp1252", errors="ignore"),
    "UTF-8 read as CP949": KOREAN.encode().decode("cp949", errors="replace"),
    "lost twice": "占쏙옙占쏙옙占쏙옙 占쏙옙占쏙옙",
}
SHIFTED = "".join(
    chr(ord(c) - 29) if c != " " else " "
    for c in "Please make sure that the cellar door can be opened, You do not have to be at home on that day " * 2
)
SOUP = {
    "glyph numbers": "(cid:12)(cid:7)(cid:31) (cid:4)(cid:88)",
    "private use": "\ue012\ue013 \ue014\uf0a7\ue015 a",
    "replacements": "\ufffd\ufffd \ufffd\ufffd\ufffd 1",
    **MOJIBAKE,
}


@pytest.mark.parametrize("name", READABLE)
def test_real_text_counts_as_readable(name: str) -> None:
    assert why_glyph_soup(READABLE[name]) is None


@pytest.mark.parametrize("name", SOUP)
def test_unreadable_text_counts_as_worthless(name: str) -> None:
    assert why_worthless(SOUP[name]) is not None


def test_shifted_glyph_numbers_are_worthless_only_in_a_pdf() -> None:
    assert why_glyph_soup(SHIFTED) is not None
    assert why_worthless(SHIFTED) is None
    assert why_glyph_soup("!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~" * 5) is not None


def test_an_empty_text_is_not_worthless() -> None:
    assert why_worthless(" \n") is None


def test_a_few_characters_are_stray_and_a_sentence_is_not() -> None:
    assert is_stray("l . , ' i ~ 3 t")
    assert not is_stray("The rent is due on the first of each month.")


@pytest.mark.parametrize(
    "path",
    [
        path
        for root in (LIBRARY, SOURCES)
        for path in sorted(root.rglob("*"))
        if path.suffix in (".txt", ".md", ".csv", ".py", ".sql")
    ],
    ids=lambda path: path.name,
)
def test_no_file_of_this_repository_is_worthless(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = path.read_text(encoding="cp949")
    assert why_glyph_soup(text) is None


@example("Czech", 2, 4, 10)
@example("Icelandic", 0, 1, 40)
@given(st.sampled_from(sorted(LANGUAGES)), st.integers(0, 80), st.integers(1, 200), st.integers(1, 40))
def test_no_excerpt_of_a_readable_text_is_worthless(name: str, start: int, length: int, times: int) -> None:
    assert why_glyph_soup(LANGUAGES[name][start : start + length] * times) is None


@example(["Perl", "a table of signs"])
@example(["Perl", "morse"])
@example(["Perl", "brackets"])
@given(st.lists(st.sampled_from(sorted(READABLE)), min_size=1, max_size=6))
def test_no_mixture_of_readable_texts_is_worthless(names: list[str]) -> None:
    assert why_glyph_soup("\n".join(READABLE[name] for name in names)) is None


@given(st.sampled_from(sorted(LANGUAGES)))
def test_upper_case_text_is_readable(name: str) -> None:
    assert why_glyph_soup(LANGUAGES[name].upper() * 5) is None


@given(st.binary(min_size=1, max_size=2000))
def test_base64_is_readable(data: bytes) -> None:
    assert why_glyph_soup(base64.encodebytes(data).decode()) is None


@given(st.lists(st.lists(st.one_of(st.integers(), st.floats(), st.dates(), st.none()), max_size=8), max_size=60))
def test_tables_of_numbers_are_readable(rows: list[list[object]]) -> None:
    table = io.StringIO()
    for row in rows:
        print(*row, sep=";", file=table)
    assert why_glyph_soup(table.getvalue()) is None


@given(st.text(st.characters(categories=["Lu", "Ll", "Nd"], max_codepoint=0x7F), max_size=2000))
def test_codes_of_letters_and_digits_are_never_mojibake(text: str) -> None:
    assert why_worthless(text) is None


@given(st.sampled_from(sorted(MOJIBAKE)), st.integers(2, 20))
def test_mojibake_is_found_below_a_readable_line(name: str, times: int) -> None:
    assert why_worthless("No. 12\n" + f"{MOJIBAKE[name]}\n" * times) is not None


def test_a_long_text_is_checked_by_samples() -> None:
    readable = "The lease of the greenhouse ends in March. " * 8_000
    assert why_worthless("(cid:12)" * 100_000) is not None
    assert why_worthless("(cid:12)" * 10_000 + readable * 3) is None


def test_syllables_that_korean_does_not_use_show_that_a_font_maps_glyphs_to_wrong_letters() -> None:
    right = "블록체인에서의 암호화폐 도난 및 거래 조작 방지 기술" * 3
    wrong = "묾푷 차세대 컪비스 훟심 컴퓨팅, 블록체인에컪픦 팢 솒빪 쭖쩣 먾래 헏방지"
    assert share_of_wrong_letters(right) == 0
    assert share_of_wrong_letters(wrong) > 0.3
    assert 0.02 < share_of_wrong_letters(right * 3 + wrong) < 0.1
    assert share_of_wrong_letters("plain") == share_of_wrong_letters("") == share_of_wrong_letters("똠방각하 펲시") == 0


def test_numbers_beside_ticks_without_letters_are_no_glyph_numbers() -> None:
    assert not is_glyph_numbers("Total\n\x01 1.234,56\n\x01 99,00\n2024")
    assert is_glyph_numbers("\x150\x04SVIQ\x04MTWYQ\n0SVIQ\x04MTWYQ")
