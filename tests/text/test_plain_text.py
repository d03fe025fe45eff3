"""Untrusted text is made safe to show."""

import json
import sys

import pytest

from dagster_offload.text import plain_text
from dagster_offload.text.plain_text import (
    cleaned,
    code_span,
    escaped,
    escaped_json,
    escaped_lines,
    markdown_text,
    shortened,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("one\ntwo\r\n\u2028", "one\\ntwo\\r\\n\\u2028"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("계약서 (2024)　表.pdf", "계약서 (2024)　表.pdf"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_harmful_characters_are_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_line_breaks_stay_in_text_of_several_lines() -> None:
    assert escaped_lines("one\n\x1btwo") == "one\n\\x1btwo"


def test_cleaned_text_has_one_kind_of_line_end() -> None:
    assert cleaned("one\r\ntwo\rthree\x0bfour\u2029five\x85six\x00") == "one\ntwo\nthree\nfour\nfive\nsix"


def test_a_cut_text_ends_with_an_ellipsis() -> None:
    assert shortened("twelve chars", 12) == "twelve chars"
    assert shortened("twelve chars", 8) == "twelve…"


def test_every_harmful_character_is_escaped() -> None:
    harmful = plain_text._HARMFUL_OR_LINE_END.findall("".join(map(chr, range(sys.maxunicode + 1))))
    assert len(harmful) > 2_000
    assert [character for character in harmful if escaped(f"a{character}b").count(character)] == []


def test_escaped_json_is_equivalent() -> None:
    value = {"na\u202eme": "\x7f\x9b\U000e0041 계약서\n"}
    document = escaped_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(document) == value
    assert "\u202e" not in document
    assert "계약서" in document


def test_a_code_span_cannot_be_closed_from_inside() -> None:
    assert code_span("a`b\n[c](d)") == "`a'b\\n[c](d)`"


def test_text_for_markdown_is_shown_as_it_is() -> None:
    assert markdown_text("<b> & [a](b) *c* | d_e `f`\n# g") == (r"&lt;b&gt; &amp; \[a\](b) \*c\* \| d\_e \`f\`\\n\# g")
