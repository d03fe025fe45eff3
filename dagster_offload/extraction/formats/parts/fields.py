"""Fields of Word whose page shows what their instruction holds: a word with a gloss above it, and a character by its number.

A program that does not calculate the fields finds no other text of them.
"""

import re

from dagster_offload.extraction.symbol_fonts import symbol

LONGEST_FIELD = 1_000  # characters
# The gloss (Japanese ruby) is the first group, the word the second one.
GLOSS = re.compile(r"\s*EQ\b.*\\s\\up ?\d+\(([^()]*)\)[,;]([^()]*)\)\s*$", re.DOTALL | re.IGNORECASE)
_SYMBOL = re.compile(r"\s*SYMBOL (\d{1,5})\b", re.IGNORECASE)
_FONT = re.compile(r'\\f\s+"?([^"\\]+)', re.IGNORECASE)


def shown_by_field(instruction: str) -> str:
    """Return what the page shows of a field with this instruction, "" if that is the field's result."""
    instruction = instruction[:LONGEST_FIELD]
    if (gloss := GLOSS.match(instruction)) is not None:
        return gloss[1] + gloss[2]
    if (found := _SYMBOL.match(instruction)) is None:
        return ""
    number, font = int(found[1]), _FONT.search(instruction)
    shown = symbol(number, font[1] if font else "")
    return shown or (chr(number) if number > 0xFF else bytes((number,)).decode("cp1252", "replace"))
