"""Splits a text into parts of a limited number of tokens, at the boundaries of its structure.

Pure and linear in time; the parts together are the whole text. A part never depends on the text after it. If a later
part is too long for a server, the text is split smaller from there on and the earlier parts do not change.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from dagster_offload.text.tokens import MOST_THIRDS_A_CHARACTER, thirds_of_tokens


@dataclass(frozen=True)
class Size:
    """From the character at `start` up to the next `Size`, parts have at most `tokens` tokens."""

    start: int
    tokens: int


Sizes = tuple[Size, ...]  # ordered by start; the first starts at 0


class Break(IntEnum):
    """The boundary between two pieces of a text. A higher value is a better place to cut."""

    CHARACTER = 0
    WORD = 1
    SENTENCE = 2
    LINE = 3
    PARAGRAPH = 4
    PAGE = 5
    SECTION = 6
    CHAPTER = 7


# How full a part must be for a cut at this boundary to be worth the unused rest of the request.
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

# A line and the blank lines after it. Every character that the first bracket excludes is white space too.
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
# Shorter lines and sentences are joined up to this many characters: a book may be five million lines of one digit each.
SHORT = 80
_SENTENCE_END = re.compile(r"[.!?…;]['\")\]]*\s+|[。！？；]['\"」』）]*\s*")


class _Piece(NamedTuple):
    """A range of the text that is cut only if it is too long for a part. `before` is the boundary at its start."""

    start: int
    end: int
    before: Break
    thirds: int


def split(text: str, sizes: Sequence[Size]) -> list[str]:
    """Split `text` at boundaries of its structure into parts within their sizes' tokens. The parts joined are `text`.

    Takes time linear in the length. Deterministic; parts before a size's start do not depend on that size. An empty
    text is one empty part.
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
    """The pieces that are not yet in a part, in order. Pieces that were put back come first."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = _lines(text)
        self._put_back: list[_Piece] = []  # the next one last

    def take(self) -> _Piece | None:
        return self._put_back.pop() if self._put_back else next(self._lines, None)

    def put_back(self, pieces: Sequence[_Piece]) -> None:
        self._put_back.extend(reversed(pieces))


def _cut(ahead: _Ahead, budget: int) -> int:
    """Take the pieces of one part, at most `budget` thirds of a token. Returns the index at which the part ends."""
    budget = max(budget, MOST_THIRDS_A_CHARACTER)
    taken: list[_Piece] = []
    thirds = 0
    while (piece := ahead.take()) is not None:
        if thirds + piece.thirds <= budget:
            taken.append(piece)
            thirds += piece.thirds
            continue
        # The part is less than half full and a long paragraph follows: cutting it is better than half an empty request.
        if thirds < budget / 2 and len(smaller := _smaller(ahead.text, piece, budget)) > 1:
            ahead.put_back(smaller)
            continue
        ahead.put_back([piece])
        keep = _best_cut(taken, piece, budget)
        ahead.put_back(taken[keep:])
        return taken[keep - 1].end
    return taken[-1].end


def _best_cut(taken: Sequence[_Piece], following: _Piece, budget: int) -> int:
    """Return how many of the taken pieces to keep: all, or fewer if the part then ends at a better boundary."""
    best, keep, filled = following.before, len(taken), 0
    for count, piece in enumerate(taken):
        if count and piece.before > best and filled >= _LEAST_FILL[piece.before] * budget:
            best, keep = piece.before, count
        elif count and keep < len(taken) and piece.before == best:
            keep = count  # equally good and later
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
    """The boundary between a line, including the white space after it, and the next line."""
    blank = line[len(line.rstrip()) :]
    if "\f" in blank:
        return Break.PAGE
    return Break.PARAGRAPH if len(blank) > 1 and len(_NEWLINE.findall(blank)) > 1 else Break.LINE


def _piece(text: str, start: int, end: int, before: Break) -> _Piece:
    return _Piece(start, end, before, thirds_of_tokens(text[start:end]))


def _heading(line: str, before: Break) -> Break:
    """The boundary before this line: a chapter or section if the line looks like a heading."""
    stripped = line.strip()
    if len(stripped) > LONGEST_HEADING:
        return before
    if _PAGE_MARK.match(stripped):
        return max(before, Break.PAGE)
    if _CHAPTER.match(stripped):
        return Break.CHAPTER
    # A numbered or upper-case line inside a paragraph is a list item or emphasis.
    if before >= Break.PARAGRAPH and (_SECTION.match(stripped) or (stripped.isupper() and len(stripped) > 3)):
        return Break.SECTION
    return before


def _smaller(text: str, piece: _Piece, budget: int) -> list[_Piece]:
    """Split a piece that is too long at sentences, or a single sentence at words or characters."""
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
    """Yield the starts of slices that certainly fit: after a space, tab or newline if there is one, else anywhere."""
    longest = max(1, budget // MOST_THIRDS_A_CHARACTER)
    start = piece.start
    while (end := start + longest) < piece.end:
        blank = max(text.rfind(" ", start, end), text.rfind("\n", start, end), text.rfind("\t", start, end))
        start, before = (end, Break.CHARACTER) if blank < 0 else (blank + 1, Break.WORD)
        yield start, before
