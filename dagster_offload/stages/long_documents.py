"""Long documents: a text in parts that each fit one request, and what is asked of them, the merges of answers included.

Pure: no I/O. `split` cuts by structure and loses no character. A `Reading` says which passage is to be asked next,
given the answers that are there already; it comes to the same passages whenever it starts anew with the same sizes.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from dagster_offload.stages.prompt import (
    LEAST_TEXT_TOKENS,
    MOST_THIRDS_A_CHARACTER,
    estimated_tokens,
    text_tokens,
    thirds_of_tokens,
)


@dataclass(frozen=True)
class WholeReading:
    """How a stage reads a document of several parts to its end: what it asks about each part, and about the notes of
    their answers. `note` turns an answer into the text the next level reads, the most important first."""

    part_instruction: str
    merge_instruction: str
    note: Callable[[Mapping[str, Any]], str]


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


@dataclass(frozen=True)
class TooLong:
    """A server's word that a request is more than its model's context holds. Tokens as it counted them; None where it
    did not say."""

    context_tokens: int | None = None
    prompt_tokens: int | None = None


class Kind(StrEnum):
    WHOLE = "whole"  # the document fits one request
    PART = "part"
    MERGE = "merge"  # of the answers to parts, or to other merges


@dataclass(frozen=True)
class Passage:
    """What one request asks about. `number` of `total` passages of its level, from 1; `start` is a part's first
    character. The answer to the one that `is_last` is the stage's answer."""

    kind: Kind
    text: str
    instruction: str
    number: int
    total: int
    start: int
    is_last: bool

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked: an answer is kept under it."""
        return hashlib.sha256(f"{self.instruction}\0{self.text}".encode()).hexdigest()

    @property
    def label(self) -> str | None:
        """`part 7 of 400`, for people; None for a document asked about in one request."""
        return None if self.kind is Kind.WHOLE else f"{self.kind} {self.number} of {self.total}"


class Reading:
    """One document read for one stage. `answers` holds what is known, by the digest of the passage asked about.

    `whole` None: the stage asks about the first part only.
    """

    def __init__(
        self,
        text: str,
        instruction: str,
        whole: WholeReading | None,
        sizes: Sizes,
        answers: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._text, self._instruction, self._whole = text, instruction, whole
        self._answers = dict(answers)
        self._begin(sizes)

    def _begin(self, sizes: Sizes) -> None:
        self.sizes = sizes
        parts = split(self._text, sizes)
        self.parts = len(parts)
        self.parts_read = self.parts if self._whole is not None else 1
        self._level, self._passages = 0, self._parts(parts)
        self._at = 0

    @property
    def total(self) -> int | None:
        """The parts that are read one by one; None where one request is all there is."""
        return self.parts if self._whole is not None and self.parts > 1 else None

    @property
    def done(self) -> int:
        """How many of these are answered."""
        self.next_passage()
        return self._at if self._level == 0 else self.parts

    def next_passage(self) -> Passage:
        """The next passage without an answer, in the document's order; then the merges; at last the one that is_last."""
        while True:
            while self._at < len(self._passages):
                passage = self._passages[self._at]
                if passage.is_last or passage.digest not in self._answers:
                    return passage
                self._at += 1
            self._merge()

    def know(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """Answers that somebody else brought."""
        self._answers |= answers

    def answered(self, passage: Passage, answer: Mapping[str, Any]) -> None:
        self._answers[passage.digest] = answer
        if self._at < len(self._passages) and self._passages[self._at] is passage:
            self._at += 1

    def split_smaller(self, passage: Passage, too_long: TooLong) -> bool:
        """From this passage on everything is split smaller, as its server said that it is too long.

        False where it is as small already as makes sense. Parts before it stay as they are; merges are grouped anew.
        """
        sent = min(estimated_tokens(passage.text), self._tokens_at(passage))
        if sent <= LEAST_TEXT_TOKENS:
            return False
        start = len(self._text) if passage.kind is Kind.MERGE else passage.start
        before = tuple(size for size in self.sizes if size.start < start)
        self._begin((*before, Size(start, _smaller_size(sent, too_long))))
        return True

    def _tokens_at(self, passage: Passage) -> int:
        if passage.kind is Kind.MERGE:
            return self._merge_tokens
        return next(size.tokens for size in reversed(self.sizes) if size.start <= passage.start)

    @property
    def _merge_tokens(self) -> int:
        """That of the first part, whatever a table in the middle needed; else what a merge that was too long got."""
        last = self.sizes[-1]
        return last.tokens if last.start == len(self._text) else self.sizes[0].tokens

    def _parts(self, texts: Sequence[str]) -> list[Passage]:
        if self._whole is None or len(texts) == 1:
            kind = Kind.WHOLE if len(texts) == 1 else Kind.PART
            return [Passage(kind, texts[0], self._instruction, 1, len(texts), 0, is_last=True)]
        passages, start = [], 0
        for number, text in enumerate(texts, 1):
            passages.append(
                Passage(Kind.PART, text, self._whole.part_instruction, number, len(texts), start, is_last=False)
            )
            start += len(text)
        return passages

    def _merge(self) -> None:
        """The next level: the notes of this level's answers, as many to a passage as fit."""
        assert self._whole is not None  # noqa: S101 - for the type checker: only whole readings have several passages
        notes = [self._whole.note(self._answers[passage.digest]) for passage in self._passages]
        texts = merged(notes, self._merge_tokens)
        self._passages = [
            Passage(Kind.MERGE, text, self._whole.merge_instruction, number, len(texts), 0, is_last=len(texts) == 1)
            for number, text in enumerate(texts, 1)
        ]
        self._level, self._at = self._level + 1, 0


NOTE_SEPARATOR = "\n\n"
NOTE_CUT_MARK = "\n[...]"


def merged(notes: Sequence[str], tokens: int) -> list[str]:
    """Notes in order, as many to a text as fit `tokens`, and never one alone beside others: so every level is shorter.

    A note over a quarter of `tokens` (only where a model's context is tiny, for answers are bounded) ends in a mark.
    """
    notes = [_cut_note(note, tokens // 4) for note in notes]
    groups: list[list[str]] = [[]]
    filled = 0
    for note in notes:
        thirds = thirds_of_tokens(note) + thirds_of_tokens(NOTE_SEPARATOR)
        if groups[-1] and filled + thirds > 3 * tokens:
            groups.append([])
            filled = 0
        groups[-1].append(note)
        filled += thirds
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-1].insert(0, groups[-2].pop())
    return [NOTE_SEPARATOR.join(group) for group in groups]


def _cut_note(note: str, tokens: int) -> str:
    if estimated_tokens(note) <= tokens:
        return note
    room = tokens - estimated_tokens(NOTE_CUT_MARK + NOTE_SEPARATOR)
    return split(note, (Size(0, room),))[0].rstrip() + NOTE_CUT_MARK


def _smaller_size(sent_tokens: int, too_long: TooLong) -> int:
    """A size that should fit, where a passage of `sent_tokens` (our estimate) did not; never much like it."""
    smaller = sent_tokens // 2
    if too_long.context_tokens is not None:
        fits = text_tokens(too_long.context_tokens)
        if too_long.prompt_tokens is not None:
            # Our estimate put right by the server's own count of the same request.
            fits = min(fits, sent_tokens * fits // max(too_long.prompt_tokens, 1))
        smaller = fits if fits < sent_tokens * 0.9 else smaller
    return max(smaller, LEAST_TEXT_TOKENS)
