"""Private-use characters of symbol fonts become the characters that a person sees."""

import pytest

from dagster_offload.extraction.cleaning import clean
from dagster_offload.extraction.symbol_fonts import symbol


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\uf0b7 the first\n  \uf071 the second\n- \uf0fc\tthe third", "• the first\n  • the second\n- ✓\tthe third"),
        ("an angle \uf071 = 90\uf0b0", "an angle θ = 90°"),
        ("the error \uf044x is \uf0a3 5 \uf06dm", "the error Δx is ≤ 5 μm"),
        ("\uf0fe one dog \uf06f one cat", "☑ one dog □ one cat"),
        ("dogs \uf0fe cats and ducks \uf06f", "dogs ☑ cats and ducks □"),
        ("\uf53a글 문서", "ᄒᆞᆫ글 문서"),
        ("unknown \uf0ff \ue123 stays", "unknown \uf0ff \ue123 stays"),
        ("plain", "plain"),
        ("\uf041\uf042 \uf043\uf044 a font", "\uf041\uf042 \uf043\uf044 a font"),
    ],
)
def test_a_symbol_is_written_as_a_person_sees_it(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("code", "font", "shown"),
    [
        (0xF06F, "Symbol", "ο"),
        (0xF06F, "Wingdings", "□"),
        (0x61, "symbol", "α"),
        (0x44, "SymbolMT", "Δ"),
        (0xF0B3, "Symbol", "≥"),
        (0xF0FE, "Symbol", "⎭"),
        (0xFE, "Wingdings", "☑"),
        (0xF08A, "Wingdings", "⑩"),
        (0xF052, "Wingdings 2", "☑"),
        (0xF0A3, "Wingdings 2", "□"),
        (0xF061, "Webdings", "✓"),
        (0xF025, "Wingdings", "•"),  # an ornament
        (0x20, "Wingdings 3", " "),
        (0xF061, "Marlett", None),
        (0x2612, "Symbol", None),  # a character of Unicode
    ],
)
def test_a_character_of_a_known_symbol_font_is_written_as_this_font_shows_it(
    code: int, font: str, shown: str | None
) -> None:
    assert symbol(code, font) == shown
