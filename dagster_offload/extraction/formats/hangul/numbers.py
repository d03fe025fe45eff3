"""Number the list paragraphs of Hangul documents, as the document shows them.

HWP and HWPX both give each level of a numbering a text, such as `제^1조`, in which `^1` is the number of level 1.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from dagster_offload.extraction.formats.parts.numerals import numeral

# The number formats of HWP files by number, and of HWPX files by name.
STYLES = (
    *("decimal", "circled", "upper roman", "lower roman", "upper letter", "lower letter", "circled upper letter"),
    *("circled lower letter", "syllable", "circled syllable", "jamo", "circled jamo", "korean", "ideograph"),
)
NAMED_STYLES = dict(
    zip(
        (
            *("DIGIT", "CIRCLED_DIGIT", "ROMAN_CAPITAL", "ROMAN_SMALL", "LATIN_CAPITAL", "LATIN_SMALL"),
            *("CIRCLED_LATIN_CAPITAL", "CIRCLED_LATIN_SMALL", "HANGUL_SYLLABLE", "CIRCLED_HANGUL_SYLLABLE"),
            *("HANGUL_JAMO", "CIRCLED_HANGUL_JAMO", "HANGUL_PHONETIC", "IDEOGRAPH"),
        ),
        STYLES,
        strict=True,
    )
)
_REFERENCE = re.compile(r"\^([1-9]|10)")


@dataclass(frozen=True)
class Level:
    """How one level of a numbering is shown, and its first number."""

    text: str
    style: str
    start: int = 1


@dataclass(frozen=True)
class Heading:
    """What a paragraph shape says about numbers. `level` counts from 0. `numbering` is None for the outline's."""

    numbering: int | None
    level: int


@dataclass
class Numbers:
    """The numberings of a document, by id, and the current number of each level."""

    levels: dict[int, list[Level]]
    outline: int = 0  # the id of the outline's numbering
    _counted: dict[int, Counter[int]] = field(default_factory=dict)

    def label(self, heading: Heading | None) -> str:
        """Return the label of the next paragraph with this heading, with a trailing blank; "" if it has none."""
        if heading is None:
            return ""
        numbering = self.outline if heading.numbering is None else heading.numbering
        levels = self.levels.get(numbering, [])
        if heading.level >= len(levels) or not levels[heading.level].text:
            return ""
        counted = self._counted.setdefault(numbering, Counter())
        counted[heading.level] += 1
        for deeper in range(heading.level + 1, len(levels)):
            counted.pop(deeper, None)

        def number(reference: re.Match[str]) -> str:
            level = int(reference[1]) - 1
            if level >= len(levels):
                return ""
            return numeral(levels[level].start - 1 + max(1, counted[level]), levels[level].style)

        return _REFERENCE.sub(number, levels[heading.level].text).strip() + " "
