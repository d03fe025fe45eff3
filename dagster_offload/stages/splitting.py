"""A text in parts within a number of tokens, cut where its structure breaks. Pure; nothing is lost, linear in time.

What stands before a part never depends on what comes after it, so a text whose later parts turn out too long can be
split smaller from there on, and the parts before stay as they are.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from dagster_offload.text.tokens import MOST_THIRDS_A_CHARACTER, thirds_of_tokens


@dataclass(frozen=True)
class Size:
    """From this character of the text on, parts of at most so many tokens, until the next `Size`."""

    start: int
    tokens: int


Sizes = tuple[Size, ...]  # by start, the first at 0


class Break(IntEnum):
    """What stands between two pieces of a text; the higher, the better a place to cut."""

    CHARACTER = 0
    WORD = 1
    SENTENCE = 2
    LINE = 3
    PARAGRAPH = 4
    PAGE = 5
    SECTION = 6
    CHAPTER = 7


# How full a part must be for a cut there to be worth the part of a request that it leaves unused.
_LEAST_FILL = {
    Break.CHAPTER: 0.5,
    Break.SECTION: 0.6,
    Break.PAGE: 0.7,
    Break.PARAGRAPH: 0.75,
    Break.LINE: 0.85,
    Break.SENTENCE: 0.9,
    Break.WORD: 1.0,
    Break.CHARACTER: 1.0,
}

# A line and the blank lines after it. Every character matched by the first bracket's opposite is white space, too.
_LINE = re.compile(r"[^\n\r\f\v\x85\u2028\u2029]*(?:\s+|\Z)")
_NEWLINE = re.compile(r"\r\n|[\n\r\v\x85\u2028\u2029]")
_PAGE_MARK = re.compile(r"<!--\s*page\b|-{2,}\s*page \d+\s*-{2,}", re.IGNORECASE)
_CHAPTER = re.compile(
    r"#{1,2}\s|(?:chapter|part|book|appendix|kapitel|teil|chapitre|capítulo|capitolo|глава|часть)\s+[\divxlc]+\b"
    r"|제\s*\d+\s*[장편부]|第\s*[〇一二三四五六七八九十百\d]+\s*[章部編编回]",
    re.IGNORECASE,
)
_SECTION = re.compile(
    r"#{3,6}\s|(?:section|article|§)\s*\d+|\d+(?:\.\d+)*\.?\s+\S"
    r"|제\s*\d+\s*[조절항]|第\s*[〇一二三四五六七八九十百\d]+\s*[節节条條]",
    re.IGNORECASE,
)
LONGEST_HEADING = 120  # characters
# Lines and sentences are gathered up to this many characters: a book may be five million lines of one digit each.
SHORT = 80
_SENTENCE_END = re.compile(r"[.!?…;]['\")\]]*\s+|[。！？；]['\"」』）]*\s*")


class _Piece(NamedTuple):
    """A stretch of the text that is not cut unless it is too long by itself. `before` is what stands in front of it."""

    start: int
    end: int
    before: Break
    thirds: int


def split(text: str, sizes: Sequence[Size]) -> list[str]:
    """`text` in parts within their sizes' tokens, cut where its structure breaks; put together they are `text` again.

    Takes time linear in the length. Deterministic, and what stands before a size's start does not depend on that size.
    An empty text is one empty part.
    """
    if len(sizes) == 1 and thirds_of_tokens(text) <= 3 * sizes[0].tokens:
        return [text]  # nearly every document
    parts: list[str] = []
    ahead = _Ahead(text)
    start = 0
    while start < len(text):
        tokens = next(size.tokens for size in reversed(sizes) if size.start <= start)
        end = _cut(ahead, 3 * tokens)
        parts.append(text[start:end])
        start = end
    return parts or [""]


class _Ahead:
    """The pieces not yet in a part, in order; those put back come first."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = _lines(text)
        self._put_back: list[_Piece] = []  # the next one last

    def take(self) -> _Piece | None:
        return self._put_back.pop() if self._put_back else next(self._lines, None)

    def put_back(self, pieces: Sequence[_Piece]) -> None:
        self._put_back.extend(reversed(pieces))


def _cut(ahead: _Ahead, budget: int) -> int:
    """Take one part's pieces, at most `budget` thirds of a token; returns where it ends."""
    budget = max(budget, MOST_THIRDS_A_CHARACTER)
    taken: list[_Piece] = []
    thirds = 0
    while (piece := ahead.take()) is not None:
        if thirds + piece.thirds <= budget:
            taken.append(piece)
            thirds += piece.thirds
            continue
        # Less than half full and a long paragraph next: rather cut that than leave half a request empty.
        if thirds < budget / 2 and len(smaller := _smaller(ahead.text, piece, budget)) > 1:
            ahead.put_back(smaller)
            continue
        ahead.put_back([piece])
        keep = _best_cut(taken, piece, budget)
        ahead.put_back(taken[keep:])
        return taken[keep - 1].end
    return taken[-1].end


def _best_cut(taken: Sequence[_Piece], following: _Piece, budget: int) -> int:
    """How many of the pieces taken to keep: as many as fit, or fewer where that ends the part at a better place."""
    best, keep, filled = following.before, len(taken), 0
    for count, piece in enumerate(taken):
        if count and piece.before > best and filled >= _LEAST_FILL[piece.before] * budget:
            best, keep = piece.before, count
        elif count and keep < len(taken) and piece.before == best:
            keep = count  # equally good, and later
        filled += piece.thirds
    return keep


def _lines(text: str) -> Iterator[_Piece]:
    start, before, following = 0, Break.LINE, Break.LINE
    for match in _LINE.finditer(text):
        line = match[0]
        here = following if len(line) > 2 * LONGEST_HEADING else _heading(line, following)
        if match.start() - start >= SHORT or here > Break.LINE:
            if match.start() > start:
                yield _piece(text, start, match.start(), before)
            start, before = match.start(), here
        following = _after(line)
    if start < len(text):
        yield _piece(text, start, len(text), before)


def _after(line: str) -> Break:
    """What stands between a line, with the white space after it, and the next one."""
    blank = line[len(line.rstrip()) :]
    if "\f" in blank:
        return Break.PAGE
    return Break.PARAGRAPH if len(blank) > 1 and len(_NEWLINE.findall(blank)) > 1 else Break.LINE


def _piece(text: str, start: int, end: int, before: Break) -> _Piece:
    return _Piece(start, end, before, thirds_of_tokens(text[start:end]))


def _heading(line: str, before: Break) -> Break:
    """What stands before this line: a chapter or a section where it looks like the heading of one."""
    words = line.strip()
    if len(words) > LONGEST_HEADING:
        return before
    if _PAGE_MARK.match(words):
        return max(before, Break.PAGE)
    if _CHAPTER.match(words):
        return Break.CHAPTER
    # A numbered or capital line inside a paragraph is an item or a shout.
    if before >= Break.PARAGRAPH and (_SECTION.match(words) or (words.isupper() and len(words) > 3)):
        return Break.SECTION
    return before


def _smaller(text: str, piece: _Piece, budget: int) -> list[_Piece]:
    """A piece that is too long by itself, by sentences; where it is one sentence, by words or characters."""
    starts = [(piece.start, piece.before), *_sentence_starts(text, piece)]
    if len(starts) == 1:
        starts += _word_starts(text, piece, budget)
    ends = [*(start for start, _ in starts[1:]), piece.end]
    return [_piece(text, start, end, before) for (start, before), end in zip(starts, ends, strict=True)]


def _sentence_starts(text: str, piece: _Piece) -> Iterator[tuple[int, Break]]:
    last = piece.start
    for match in _SENTENCE_END.finditer(text, piece.start, piece.end):
        if match.end() - last >= SHORT and match.end() < piece.end:
            last = match.end()
            yield last, Break.SENTENCE


def _word_starts(text: str, piece: _Piece, budget: int) -> Iterator[tuple[int, Break]]:
    """Starts of slices that surely fit: after a blank where there is one, else after any character."""
    longest = max(1, budget // MOST_THIRDS_A_CHARACTER)
    start = piece.start
    while (end := start + longest) < piece.end:
        blank = max(text.rfind(" ", start, end), text.rfind("\n", start, end), text.rfind("\t", start, end))
        start, before = (end, Break.CHARACTER) if blank < 0 else (blank + 1, Break.WORD)
        yield start, before
