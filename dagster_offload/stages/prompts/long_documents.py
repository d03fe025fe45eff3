"""Long documents: a text that does not fit one request is read in parts, and the parts' answers are merged.

Pure: no I/O. A `Reading` returns the next passage to ask about, given the answers so far. A new `Reading` with the same
sizes yields the same passages.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dagster_offload.slot.completion import ContextOverflow
from dagster_offload.stages.answers.doubts import VALUE_DROPPED
from dagster_offload.stages.prompts.splitting import Size, Sizes, split
from dagster_offload.text.tokens import LEAST_TEXT_TOKENS, estimated_tokens, text_tokens, thirds_of_tokens


@dataclass(frozen=True)
class WholeReading:
    """How a stage reads a document of several parts to its end: the instruction for each part and the one for merges.

    `note` turns an answer into the text that a merge reads, the most important first. `combine` makes the stage's answer
    from those to the parts, in order, without a request; if it is None, requests merge them.
    """

    part_instruction: str
    merge_instruction: str
    note: Callable[[Mapping[str, Any]], str]
    combine: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]] | None = None


class Kind(StrEnum):
    """What the text of a passage is."""

    WHOLE = "whole"  # the document fits one request
    PART = "part"
    MERGE = "merge"  # notes of the answers to parts or to other merges


@dataclass(frozen=True)
class Passage:
    """The text and instruction of one request.

    `number` counts from 1 to `total`, the passages of its level. `start` is the index of a part's first character. With
    the answer to the passage with `is_last`, the stage has its answer: see `Reading.answer`.
    """

    kind: Kind
    text: str
    instruction: str
    number: int
    total: int
    start: int
    is_last: bool

    @property
    def digest(self) -> str:
        """SHA-256 of instruction and text. Answers are stored under it."""
        return hashlib.sha256(f"{self.instruction}\0{self.text}".encode()).hexdigest()

    @property
    def label(self) -> str | None:
        """A label for people, such as `part 7 of 400`; None for a document that fits one request."""
        return None if self.kind is Kind.WHOLE else f"{self.kind} {self.number} of {self.total}"


class Reading:
    """One document as one stage reads it. `answers` holds the answers so far, by the digest of their passage.

    If `whole` is None, the stage asks about the first part only.
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
        """The number of parts that are read one by one; None if the stage needs only one request."""
        return self.parts if self._whole is not None and self.parts > 1 else None

    @property
    def done(self) -> int:
        """How many of the `total` parts have an answer."""
        self.next_passage()
        return self._at if self._level == 0 else self.parts

    @property
    def doubtful(self) -> list[str]:
        """The marks of all doubtful answers to parts and merges, which are also those of the record.

        Not that a part lacks a value, if answers are combined: another part may have it, and `combine` knows.
        """
        marks = {mark for answer in self._answers.values() for mark in answer.get("doubtful", ())}
        return sorted(marks if self._whole is None or self._whole.combine is None else marks - {VALUE_DROPPED})

    def next_passage(self) -> Passage:
        """Return the next passage without an answer: parts in order, then merges, finally the one with `is_last`."""
        while True:
            while self._at < len(self._passages):
                passage = self._passages[self._at]
                if passage.is_last or passage.digest not in self._answers:
                    return passage
                self._at += 1
            self._merge()

    def know(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """Add answers that another worker has stored."""
        self._answers |= answers

    def answered(self, passage: Passage, answer: Mapping[str, Any]) -> None:
        """Add the answer to `passage`."""
        self._answers[passage.digest] = answer
        if self._at < len(self._passages) and self._passages[self._at] is passage:
            self._at += 1

    def answer(self, last: dict[str, Any]) -> dict[str, Any]:
        """Return the stage's answer, given the one to the passage with `is_last`."""
        if self._whole is None or self._whole.combine is None or self.parts == 1:
            return last
        return self._whole.combine([*(self._answers[passage.digest] for passage in self._passages[:-1]), last])

    def split_smaller(self, passage: Passage, too_long: ContextOverflow) -> bool:
        """Split a passage that the server reported as too long. Returns False if it is too small to split further.

        Parts before it do not change. If parts before it were answered at this size, this part is denser than others (a
        table of numbers), and the parts after it keep their size. Merges are grouped again.
        """
        is_merge = passage.kind is Kind.MERGE
        start = len(self._text) if is_merge else passage.start
        current = next(size for size in reversed(self.sizes) if size.start <= start)
        sent_tokens = min(estimated_tokens(passage.text), self._merge_tokens if is_merge else current.tokens)
        if sent_tokens <= LEAST_TEXT_TOKENS:
            return False
        end = start + len(passage.text)
        sizes = {size.start: size.tokens for size in self.sizes} | {start: _smaller_size(sent_tokens, too_long)}
        if start > current.start and end < len(self._text):
            sizes.setdefault(end, current.tokens)
        self._begin(tuple(Size(*size) for size in sorted(sizes.items())))
        return True

    @property
    def _merge_tokens(self) -> int:
        """The size of merges: the reduced one if a merge was too long, else the first part's, not that of dense parts."""
        last = self.sizes[-1]
        return last.tokens if last.start == len(self._text) else self.sizes[0].tokens

    def _parts(self, texts: Sequence[str]) -> list[Passage]:
        if self._whole is None or len(texts) == 1:
            kind = Kind.WHOLE if len(texts) == 1 else Kind.PART
            return [Passage(kind, texts[0], self._instruction, 1, len(texts), 0, is_last=True)]
        passages, start = [], 0
        for number, text in enumerate(texts, 1):
            is_last = self._whole.combine is not None and number == len(texts)
            passages.append(
                Passage(Kind.PART, text, self._whole.part_instruction, number, len(texts), start, is_last=is_last)
            )
            start += len(text)
        return passages

    def _merge(self) -> None:
        """Start the next level: passages of this level's notes, as many in each as fit."""
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
    """Join notes in order into texts of at most `tokens`. A text among several holds at least two, so levels get shorter.

    A note over a quarter of `tokens` is cut and ends in a mark. Answers are bounded, so this needs a tiny context.
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
    """Return a size in tokens that should fit after `sent_tokens` (our estimate) did not; clearly below it.

    Never below `LEAST_TEXT_TOKENS`.
    """
    smaller = sent_tokens // 2
    if too_long.context_tokens is not None:
        fits = text_tokens(too_long.context_tokens)
        if too_long.prompt_tokens is not None:
            # Corrects our estimate by the server's own count of the same request.
            fits = min(fits, sent_tokens * fits // max(too_long.prompt_tokens, 1))
        smaller = fits if fits < sent_tokens * 0.9 else smaller
    return max(smaller, LEAST_TEXT_TOKENS)
