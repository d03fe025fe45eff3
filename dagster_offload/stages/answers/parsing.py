"""Parses an answer's text into a typed record: skips thinking and drafts, and takes the last JSON object that fits.

Models vary in how they write an answer. Spellings with a certain meaning are accepted (`85%` for 0.85, `Korean` for
`ko`). A value without a meaning is dropped if its field is optional.
"""

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from dagster_offload.errors import UnusableAnswer
from dagster_offload.slot.completion import Answer
from dagster_offload.slot.dialects import is_blank_without_end
from dagster_offload.slot.thinking import MOST_CHARACTERS, split_thinking
from dagster_offload.stages.answers.cleaning import cleaned_fields
from dagster_offload.stages.prompts.languages import language_code
from dagster_offload.text.lenient_json import objects_in_prose, read_written_json, without_trailing_commas
from dagster_offload.text.validation import faults_in_words

Record = TypeVar("Record", bound=BaseModel)

MOST_OBJECTS = 100  # the last objects of an answer that are tried as a record

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")
_BULLET = re.compile(r"^[-*•·]\s+")
_NUMBERING = re.compile(r"^(\d{1,2})[.)]\s+")


class StageAnswer(BaseModel):
    """Base class of the records that stages accept. Extra keys are ignored.

    `never_dropped`: the keys of optional fields whose value makes the answer invalid if it is wrong.
    `tells_what_was_dropped`: whether a wrong value of another optional field is worth one more question.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True, serialize_by_alias=True)
    never_dropped: ClassVar[frozenset[str]] = frozenset()
    tells_what_was_dropped: ClassVar[bool] = False
    _clean = model_validator(mode="before")(cleaned_fields)
    _dropped: str = PrivateAttr("")
    _dropped_fields: tuple[str, ...] = PrivateAttr(())

    @property
    def dropped(self) -> str:
        """What was wrong with the values that were dropped, in words. Empty if none was, or if no question is worth it."""
        return self._dropped

    @property
    def dropped_fields(self) -> tuple[str, ...]:
        """The keys of the fields whose values were dropped, if `dropped` tells it."""
        return self._dropped_fields

    def note_dropped(self, faults: str, fields: Iterable[str]) -> None:
        """Keep what was wrong with the dropped values of these fields. It is not a part of the record."""
        if self.tells_what_was_dropped:
            self._dropped, self._dropped_fields = faults, tuple(fields)


def _share(value: Any) -> Any:
    """Convert a fraction or a percentage (a whole number from 2 up, or one with `%`) to a fraction. None if not a number.

    A number that is neither is returned unchanged; validation then drops the field.
    """
    is_percentage = False
    if isinstance(value, str):
        written = _NUMBER.fullmatch(value.strip())
        if written is None:
            return None
        value, is_percentage = float(written[1]), bool(written[2])
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if is_percentage or (1 < value <= 100 and value == math.floor(value)):
        return value / 100
    return value


def _code(value: Any) -> str | None:
    return language_code(value) if isinstance(value, str) else None


def _points(value: Any) -> Any:
    """Convert a list, or the lines of one text, to a list without duplicates. Empty if there is no value."""
    if value is None:
        return ()
    fewest_numbered = 3
    if isinstance(value, str):
        value, fewest_numbered = value.splitlines(), 2
    if not isinstance(value, list):
        return value
    points = [_BULLET.sub("", point.strip()) if isinstance(point, str) else point for point in value]
    if _are_numbered(points, fewest_numbered):
        points = [_NUMBERING.sub("", point) if isinstance(point, str) else point for point in points]
    if not all(point is None or isinstance(point, str) for point in points):
        return points  # validation refuses them
    return list(dict.fromkeys(point for point in points if point))


def _are_numbered(points: list[Any], fewest: int) -> bool:
    """Whether points are numbered 1, 2, 3 ... A single number may be a day (`15. März`) or an amount (`5. 000 Stück`)."""
    numbers = [
        match and match[1]
        for match in (_NUMBERING.match(point) for point in points if isinstance(point, str) and point)
    ]
    return len(numbers) >= fewest and numbers == [str(number) for number in range(1, len(numbers) + 1)]


Share = Annotated[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None, BeforeValidator(_share)]
LanguageCode = Annotated[str | None, BeforeValidator(_code)]
Points = Annotated[tuple[str, ...], BeforeValidator(_points)]


def usable_text(answer: Answer) -> tuple[str, str]:
    """Return the answer without its thinking, and the thinking. Raises `UnusableAnswer` if it cannot be a result."""
    if len(answer) > MOST_CHARACTERS:
        raise UnusableAnswer(
            "answer_too_long", f"the answer has {len(answer):,} characters, and the limit is {MOST_CHARACTERS:,}"
        )
    thought, text = split_thinking(answer)
    is_cut = answer.finish_reason == "length"
    if text is None or (is_cut and not text and answer.thinking_tokens):
        raise UnusableAnswer(
            "unclosed_thinking", "the answer ended while the model was thinking: raise max_tokens or turn thinking off"
        )
    if is_blank_without_end(answer):
        raise UnusableAnswer("blank_answer", "the answer is only white space up to max_tokens")
    if is_cut:
        raise UnusableAnswer("cut_by_max_tokens", "the answer reached max_tokens before it ended")
    return text, answer.reasoning or thought


def parse_record(answer: str, model: type[Record]) -> Record:
    """Parse the answer into a stage's record. Raises `UnusableAnswer`, which names the fault and never quotes the text."""
    return next(fitting_records(answer, model))


def fitting_records(answer: str, model: type[Record]) -> Iterator[Record]:
    """Yield the valid records in an answer, the last one first, because models write drafts before it. At least one.

    An invalid optional field is dropped. If the answer is empty and its thinking holds exactly one record, that record
    is the answer. Raises `UnusableAnswer` as `parse_record` does.
    """
    answer = answer if isinstance(answer, Answer) else Answer(answer)
    text, thought = usable_text(answer)
    problems: list[str] = []
    if not text:
        records = list(_records_in(thought, model, problems)) if len(thought) <= MOST_CHARACTERS else []
        # Not the records themselves: they also differ in what was dropped from them.
        if not records or any(record.model_dump() != records[0].model_dump() for record in records):
            raise UnusableAnswer("empty_answer", "the answer is empty")
        yield records[0]
        return
    has_record = False
    for record in _records_in(text, model, problems):
        has_record = True
        yield record
    if has_record:
        return
    if problems:
        raise UnusableAnswer("answer_does_not_fit", f"the answer's JSON does not fit the stage: {problems[-1]}")
    raise UnusableAnswer("no_json", "the answer holds no complete JSON object")


def _records_in(text: str, model: type[Record], problems: list[str]) -> Iterator[Record]:
    """Yield the valid records, the last one first. The faults of other objects are appended to `problems`."""
    tried: list[Any] = []
    for value, is_alone in _values_in(text):
        if value in tried:
            continue
        tried.append(value)
        try:
            record = _validated(value, model)
        except ValidationError as error:
            problems.append(faults_in_words(error.errors(include_url=False, include_input=False)))
            continue
        if _is_about_something_else(value, model, is_alone=is_alone):
            problems.append("it: has none of the fields that were asked for")
            continue
        yield record


def _values_in(text: str) -> Iterator[tuple[Any, bool]]:
    """Yield the whole text as JSON, or else its objects, the last one first, then again without trailing commas.

    With each value goes whether there is no other.
    """
    try:
        yield read_written_json(text), True
    except ValueError:
        for written in dict.fromkeys((text, without_trailing_commas(text))):
            found = deque(objects_in_prose(written), MOST_OBJECTS)
            yield from ((value, len(found) == 1) for value in reversed(found))


def _is_about_something_else(value: Any, model: type[BaseModel], *, is_alone: bool) -> bool:
    """Whether an object has no key of the record. It would be a record of nulls in a stage whose fields are all optional.

    `{}` alone says that the document states nothing.
    """
    names = {field.alias or name for name, field in model.model_fields.items()}
    return isinstance(value, dict) and names.isdisjoint(value) and not (is_alone and not value)


def _validated(value: Any, model: type[Record]) -> Record:
    """Validate `value` as a record. An invalid optional field is dropped and does not invalidate the record."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        invalid = {fault["loc"][0] for fault in error.errors(include_input=False) if fault["loc"]}
        optional = {field.alias or name for name, field in model.model_fields.items() if not field.is_required()}
        optional -= getattr(model, "never_dropped", frozenset())
        if not isinstance(value, dict) or not invalid or not invalid <= optional:
            raise
        record = model.model_validate({name: field for name, field in value.items() if name not in invalid})
        if isinstance(record, StageAnswer):
            faults = faults_in_words(error.errors(include_url=False, include_input=False))
            record.note_dropped(faults, sorted(map(str, invalid)))
        return record
