"""Long documents: what is asked about a text that is more than one request takes: its parts, then merges of the answers.

Pure: no I/O. A `Reading` says which passage is to be asked next, given the answers that are there already; it comes to
the same passages whenever it starts anew with the same sizes.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dagster_offload.slot.completion import ContextOverflow
from dagster_offload.stages.splitting import Size, Sizes, split
from dagster_offload.text.tokens import LEAST_TEXT_TOKENS, estimated_tokens, text_tokens, thirds_of_tokens


@dataclass(frozen=True)
class WholeReading:
    """How a stage reads a document of several parts to its end: what it asks about each part, and about the notes of
    their answers. `note` turns an answer into the text the next level reads, the most important first."""

    part_instruction: str
    merge_instruction: str
    note: Callable[[Mapping[str, Any]], str]


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

    def split_smaller(self, passage: Passage, too_long: ContextOverflow) -> bool:
        """Split smaller what a server said is too long. False where it is as small already as makes sense.

        Parts before it stay as they are. So does the size of what follows it, where parts of that size were answered:
        then this one is denser than others (a table of numbers). Merges are grouped anew.
        """
        is_merge = passage.kind is Kind.MERGE
        start = len(self._text) if is_merge else passage.start
        there = next(size for size in reversed(self.sizes) if size.start <= start)
        sent = min(estimated_tokens(passage.text), self._merge_tokens if is_merge else there.tokens)
        if sent <= LEAST_TEXT_TOKENS:
            return False
        end = start + len(passage.text)
        sizes = {size.start: size.tokens for size in self.sizes} | {start: _smaller_size(sent, too_long)}
        if start > there.start and end < len(self._text):
            sizes.setdefault(end, there.tokens)
        self._begin(tuple(Size(*size) for size in sorted(sizes.items())))
        return True

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


def _smaller_size(sent_tokens: int, too_long: ContextOverflow) -> int:
    """A size that should fit, where a passage of `sent_tokens` (our estimate) did not; never much like it."""
    smaller = sent_tokens // 2
    if too_long.context_tokens is not None:
        fits = text_tokens(too_long.context_tokens)
        if too_long.prompt_tokens is not None:
            # Our estimate put right by the server's own count of the same request.
            fits = min(fits, sent_tokens * fits // max(too_long.prompt_tokens, 1))
        smaller = fits if fits < sent_tokens * 0.9 else smaller
    return max(smaller, LEAST_TEXT_TOKENS)
