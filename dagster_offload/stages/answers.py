"""From an answer's text to a typed record: pass over thinking and drafts, find the last JSON object that fits.

Models write what they were asked for in their own ways. What certainly means the same is taken (`85%` for 0.85, `Korean`
for `ko`); what means nothing is left out where the record can do without it.
"""

import math
import re
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from dagster_offload.errors import UnusableAnswer
from dagster_offload.slot.completion import Answer
from dagster_offload.slot.dialects import is_blank_without_end
from dagster_offload.slot.thinking import MOST_CHARACTERS, split_thinking
from dagster_offload.stages.cleaning import cleaned_fields
from dagster_offload.stages.languages import language_code
from dagster_offload.text.lenient_json import objects_in_prose, read_written_json, without_trailing_commas

Record = TypeVar("Record", bound=BaseModel)

MOST_OBJECTS = 100  # of one answer, the last ones, are compared with what a stage accepts

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")
_BULLET = re.compile(r"^[-*•·]\s+")
_PLACE = re.compile(r"^(\d{1,2})[.)]\s+")


class StageAnswer(BaseModel):
    """Base of what a stage accepts: extra keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True)
    _clean = model_validator(mode="before")(cleaned_fields)


def _share(value: Any) -> Any:
    """A share of one, also as a percentage (a whole number from 2 on, or with its sign); None where it is no number.

    A number that can be neither is left as it is, and validation leaves the field out.
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
    """A list, each point once, also where it was written as lines of one text; empty where there is none."""
    if value is None:
        return ()
    fewest_numbered = 3
    if isinstance(value, str):
        value, fewest_numbered = value.splitlines(), 2
    if not isinstance(value, list):
        return value
    points = [_BULLET.sub("", point.strip()) if isinstance(point, str) else point for point in value]
    if _are_numbered(points, fewest_numbered):
        points = [_PLACE.sub("", point) if isinstance(point, str) else point for point in points]
    kept: list[Any] = []
    for point in points:
        if point not in ("", None, *kept):
            kept.append(point)
    return kept


def _are_numbered(points: list[Any], fewest: int) -> bool:
    """Whether they carry 1, 2, 3 and so on: a number alone may be a day (`15. März`) or an amount (`5. 000 Stück`)."""
    places = [
        match and match[1] for match in (_PLACE.match(point) for point in points if isinstance(point, str) and point)
    ]
    return len(places) >= fewest and places == [str(number) for number in range(1, len(places) + 1)]


Share = Annotated[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None, BeforeValidator(_share)]
LanguageCode = Annotated[str | None, BeforeValidator(_code)]
Points = Annotated[tuple[str, ...], BeforeValidator(_points)]


def usable_text(answer: Answer) -> tuple[str, str]:
    """The answer without its thinking, and the thinking. Raises `UnusableAnswer` where it cannot be a result."""
    if len(answer) > MOST_CHARACTERS:
        raise UnusableAnswer("answer_too_long", f"the answer has {len(answer):,} characters: it is not read")
    thought, text = split_thinking(answer)
    is_cut = answer.finish_reason == "length"
    if text is None or (is_cut and not text and answer.thinking_tokens):
        raise UnusableAnswer(
            "unclosed_thinking", "the answer ends inside its thinking: raise max_tokens or turn thinking off"
        )
    if is_blank_without_end(answer):
        raise UnusableAnswer("blank_answer", "the answer is blanks up to max_tokens")
    if is_cut:
        raise UnusableAnswer("cut_by_max_tokens", "the answer reached max_tokens before it ended")
    return text, answer.reasoning or thought


def parse_record(answer: str, model: type[Record]) -> Record:
    """The answer as a stage's record. Raises `UnusableAnswer` naming what does not fit, never the text."""
    return next(fitting_records(answer, model))


def fitting_records(answer: str, model: type[Record]) -> Iterator[Record]:
    """The records in an answer that fit, the last one first: models write drafts before it. At least one.

    An optional field that does not fit is left out. Where the answer is empty and its thinking holds one record, that
    is the answer. Raises `UnusableAnswer` as `parse_record` does.
    """
    answer = answer if isinstance(answer, Answer) else Answer(answer)
    text, thought = usable_text(answer)
    problems: list[str] = []
    if not text:
        records = list(_records_in(thought, model, problems)) if len(thought) <= MOST_CHARACTERS else []
        if not records or any(record != records[0] for record in records):
            raise UnusableAnswer("empty_answer", "the answer is empty")
        yield records[0]
        return
    is_fitting = False
    for record in _records_in(text, model, problems):
        is_fitting = True
        yield record
    if is_fitting:
        return
    if problems:
        raise UnusableAnswer("answer_does_not_fit", f"the answer's JSON does not fit the stage: {problems[-1]}")
    raise UnusableAnswer("no_json", "the answer holds no JSON object")


def _records_in(text: str, model: type[Record], problems: list[str]) -> Iterator[Record]:
    """The last one first. What keeps the others from being records is appended to `problems`."""
    seen: list[Any] = []
    for value in _values_in(text):
        if value in seen:
            continue
        seen.append(value)
        try:
            yield _validated(value, model)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)[:5]
            problems.append("; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in found))


def _values_in(text: str) -> Iterator[Any]:
    """The whole text as JSON, else the objects in it, the last one first; then the same without trailing commas."""
    try:
        yield read_written_json(text)
    except ValueError:
        for written in (text, without_trailing_commas(text)):
            yield from reversed(deque(objects_in_prose(written), MOST_OBJECTS))


def _validated(value: Any, model: type[Record]) -> Record:
    """`value` as a record; what an optional field holds costs that field, not the record."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        spoilt = {problem["loc"][0] for problem in error.errors(include_input=False) if problem["loc"]}
        optional = {name for name, field in model.model_fields.items() if not field.is_required()}
        if not isinstance(value, dict) or not spoilt or not spoilt <= optional:
            raise
        return model.model_validate({name: held for name, held in value.items() if name not in spoilt})
