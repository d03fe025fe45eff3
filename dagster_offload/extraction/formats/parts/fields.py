"""Fields of Word whose page shows what their instruction holds: a word with a gloss above it, a fraction, a character.

A program that does not calculate the fields finds no other text of them.
"""

import re

from dagster_offload.extraction.formats.parts.office_math import fraction
from dagster_offload.extraction.symbol_fonts import symbol

LONGEST_FIELD = 1_000  # characters
# The gloss (Japanese ruby) is the first group, the word the second one.
GLOSS = re.compile(r"\s*EQ\b.*\\s\\up ?\d+\(([^()]*)\)[,;]([^()]*)\)\s*$", re.DOTALL | re.IGNORECASE)
_FRACTION = re.compile(r"\s*EQ\s+\\f\s*\(([^(),;]*)[,;]([^(),;]*)\)\s*$", re.IGNORECASE)
_SYMBOL = re.compile(r"\s*SYMBOL (\d{1,5})\b", re.IGNORECASE)
_FONT = re.compile(r'\\f\s+"?([^"\\]+)', re.IGNORECASE)


def shown_by_field(instruction: str) -> str:
    """Return what the page shows of a field with this instruction, "" if that is the field's result."""
    instruction = instruction[:LONGEST_FIELD]
    if (gloss := GLOSS.match(instruction)) is not None:
        return gloss[1] + gloss[2]
    if (parts := _FRACTION.match(instruction)) is not None:
        return fraction(parts[1].strip(), parts[2].strip())
    if (found := _SYMBOL.match(instruction)) is None:
        return ""
    number, font = int(found[1]), _FONT.search(instruction)
    shown = symbol(number, font[1] if font else "")
    return shown or (chr(number) if number > 0xFF else bytes((number,)).decode("cp1252", "replace"))


class OpenFields:
    """The fields that a text is in, by the instructions that have been read of them. The innermost is the last."""

    def __init__(self) -> None:
        self._instructions: list[str] = []
        self._shown: list[bool] = []  # whether the instruction has given the text of the field

    @property
    def are_shown(self) -> bool:
        """Whether the text at this place is the result of a field whose text is known."""
        return any(self._shown)

    def instruct(self, text: str) -> None:
        """Take a part of the innermost field's instruction."""
        if self._instructions and len(self._instructions[-1]) <= LONGEST_FIELD:
            self._instructions[-1] += text

    def border(self, kind: str | None) -> str:
        """Take the beginning of a field, the end of its instruction or its own end. Returns what the field shows here."""
        if kind == "begin":
            self._instructions.append("")
            self._shown.append(False)
        if kind == "begin" or not self._instructions:
            return ""
        shown = "" if self.are_shown else shown_by_field(self._instructions[-1])
        self._shown[-1] = self._shown[-1] or bool(shown)
        if kind == "end":
            self._instructions.pop()
            self._shown.pop()
        return shown
