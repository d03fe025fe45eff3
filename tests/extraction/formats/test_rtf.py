"""Handwritten RTF: each font's charset is used, and invisible text is left out."""

import pytest

from dagster_offload.extraction.formats.rtf import is_whole, rtf_text

FONTS = rb"{\fonttbl{\f0\fswiss\fcharset0 Arial;}{\f1\fnil\fcharset%d Other;}{\f2\fcharset2 Symbol;}}"


def escaped(text: str, encoding: str) -> bytes:
    return b"".join(rb"\'%02x" % byte for byte in text.encode(encoding))


def rtf(body: bytes, charset: int = 129) -> str:
    return rtf_text(rb"{\rtf1\ansi\ansicpg1252\deff0" + FONTS % charset + body + b"}")


@pytest.mark.parametrize(
    ("charset", "encoding", "text"),
    [
        (129, "cp949", "회의실 사용 신청서"),
        (128, "cp932", "会議の議事録と表"),
        (134, "gb18030", "会议记录"),
        (136, "cp950", "會議紀錄"),
        (204, "cp1251", "Протокол собрания"),
        (161, "cp1253", "Πρακτικά"),
        (238, "cp1250", "Zażółć gęślą jaźń"),
    ],
)
def test_the_charset_of_a_font_takes_precedence_over_the_code_page(charset: int, encoding: str, text: str) -> None:
    assert rtf(rb"\f0 A: \f1 " + escaped(text, encoding) + rb"\f0  end\par", charset) == f"A: {text} end"


def test_a_second_byte_that_is_an_ascii_letter_belongs_to_its_character() -> None:
    assert rtf(rb"\f1 \'83A\'83\'42\par", 128) == "アィ"


def test_bytes_in_another_charset_than_the_font_declares_are_recognized() -> None:
    assert rtf(rb"\f1 " + escaped("회의실 사용 신청서", "cp949") + rb"\par", 128) == "회의실 사용 신청서"


def test_unicode_characters_are_read_once_and_their_substitutes_skipped() -> None:
    assert (
        rtf(rb"\uc1 \u54924?\u51032? \uc2\u-10179??\u-9144?? {\uc0\u8364}5\par")
        .encode("utf-16-le", "surrogatepass")
        .decode("utf-16-le")
        == "회의 \U0001f448 €5"
    )


def test_a_table_keeps_its_rows_and_is_separate_from_paragraphs() -> None:
    table = rb"\trowd\intbl a\cell b\par c\cell\row\trowd\intbl d\cell\cell\row\pard"
    assert rtf(rb"before\par" + table + rb" after\par") == ("before\n\n| a | b c |\n| --- | --- |\n| d |  |\n\nafter")


def test_notes_are_in_brackets_and_list_labels_precede_their_items() -> None:
    body = rb"Signed{\footnote \pard see nine} today\par{\listtext\f0 1.\tab}first\par{\listtext\f2\'b7\tab}point\par"
    assert rtf(body) == "Signed [see nine]  today\n\n1.\tfirst\n\n•\tpoint"


def test_the_letterhead_is_read_once_and_page_numbers_are_not() -> None:
    head = rb"{\headerl\pard Harbour Office\par}{\headerr\pard Harbour Office\par}{\footer\pard 12\par}"
    assert rtf(head + rb"Dear Sir\par") == "Harbour Office\n\nDear Sir"


@pytest.mark.parametrize(
    "unseen",
    [
        rb"{\info{\title secret}}",
        rb"{\*\unknown secret}",
        rb"{\pict\wmetafile8 abcdef0123}",
        rb"{\v secret}",
        rb"{\deleted secret}",
        rb"{\field{\*\fldinst HYPERLINK secret}{\fldrslt }}",
        rb"{\pict\bin6 }{\\}{}",
    ],
)
def test_invisible_text_is_left_out(unseen: bytes) -> None:
    assert rtf(b"seen " + unseen + rb"too\par") == "seen too"


def test_text_after_a_star_within_a_group_is_read() -> None:
    assert rtf(rb"{\i0\*\cs7\f0 The quick brown fox}\par") == "The quick brown fox"


def test_a_text_box_and_the_visible_part_of_a_field_are_read() -> None:
    box = rb"{\shp{\*\shpinst{\sp{\sn x}{\sv 1}}{\shptxt in the box\par}}}"
    field = rb"{\field{\*\fldinst PAGE}{\fldrslt shown}}"
    assert rtf(b"before " + field + box + rb" after\par") == "in the box\n\nbefore shown after"


def test_a_truncated_file_gives_its_remaining_text_and_is_not_whole() -> None:
    cut = rb"{\rtf1\ansi{\b bold text\par"
    assert rtf_text(cut) == "bold text"
    assert not is_whole(cut)
    assert is_whole(b"{\\rtf1 a}\r\n\0")


def test_a_field_of_a_character_shows_it_once() -> None:
    field = rb"{\field{\*\fldinst SYMBOL %d%b}{\fldrslt ?}}"
    assert rtf(b"a " + field % (8364, b"") + b" b " + field % (169, b"") + b" c\\par") == "a € b © c"
    assert rtf(b"a " + field % (98, rb' \\f "Symbol"') + b"\\par") == "a β"
    assert rtf(b"a " + field % (254, rb" \\f Wingdings \\s 10") + b"\\par") == "a ☑"
    of_its_font = rb'{\field{\*\fldinst {\f2 SYMBOL 98 \\f "Symbol"}}{\fldrslt ?}}'
    assert rtf(b"a " + of_its_font + b"\\par") == "a β"


def test_a_word_with_a_gloss_above_it_is_read() -> None:
    gloss = rb'EQ \\* jc2 \\* "Font:A" \\* hps10 \\o\\ad(\\s\\up 10({\f1 ' + escaped("きもん", "cp932") + rb"}),{\f1 "
    field = rb"{\field{\*\fldinst " + gloss + escaped("鬼門", "cp932") + rb"})}{\fldrslt }}"
    assert rtf(field + rb"{\f1 " + escaped("の方角", "cp932") + rb"}\par", 128) == "きもん鬼門の方角"


def test_an_instruction_is_left_out_and_its_result_is_read() -> None:
    assert rtf(rb'see {\field{\*\fldinst HYPERLINK "http://x"}{\fldrslt the page}} now\par') == "see the page now"


def test_a_character_that_is_written_as_two_halves_is_read() -> None:
    assert rtf(rb"\uc1 A\u-10179?\u-8704?B") == "A😀B"
    assert rtf(rb"\uc1 A\u-10179?B") == "AB"


SYMBOL_FONTS = (
    rb"{\fonttbl{\f0\fcharset0 Arial;}{\f1\froman\fcharset2\fprq2{\*\panose 05050102}Symbol;}"
    rb"{\f2\fnil\fcharset2 Wingdings;}{\f3\fnil\fcharset2 Wingdings 2;}{\f4\fnil\fcharset2 Unknown Dings{\*\falt Symbol};}"
    rb"{\f5\fnil\fcharset0 Symbol;}{\f6\fcharset2\fnil Wingdings 3 ;}}{\colortbl ;}"
)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb"{\f1 Dx} is {\f1 \'a3} 5 {\f1 m}m", "Δξ is ≤ 5 μm"),
        (rb"{\f2 \'fe} dogs {\f2\'a8} cats {\f2 o} ducks", "☑ dogs □ cats □ ducks"),
        (rb"{\f3 R} yes {\f3 \'a3} no", "☑ yes □ no"),
        (rb"{\f1 \u-3999?}{\f2 \u-3842\'fe}", "α☑"),
        (rb"{\f2 \u50500?}", "아"),
        (rb"{\f4 a\'a3}", "a•"),
        (rb"{\f5 a\'e9}", "a\u00e9"),
        (rb"{\f6 g}", "→"),
    ],
)
def test_a_character_of_a_symbol_font_is_written_as_the_font_shows_it(body: bytes, text: str) -> None:
    assert rtf_text(rb"{\rtf1\ansi\deff0" + SYMBOL_FONTS + body + rb"\par}") == text
