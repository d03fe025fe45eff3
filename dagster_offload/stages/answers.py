"""From an answer's text to a typed record: pass over thinking, find the one JSON object, validate it.

Models write what they were asked for in their own ways. What certainly means the same is taken (`85%` for 0.85, `Korean`
for `ko`); what means nothing is left out where the record can do without it.
"""

import math
import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from dagster_offload.errors import UnusableAnswer
from dagster_offload.lenient_json import objects_in_prose, read_json
from dagster_offload.slot.completion import Answer
from dagster_offload.slot.dialects import is_blank_without_end
from dagster_offload.slot.thinking import split_thinking
from dagster_offload.stages.cleaning import cleaned_fields
from dagster_offload.stages.languages import language_code

Record = TypeVar("Record", bound=BaseModel)

_FENCE = re.compile(r"^```[a-zA-Z]*\n(.*)\n```$", re.DOTALL)
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")
_BULLET = re.compile(r"^[-*•·]\s+")
_PLACE = re.compile(r"^(\d{1,2})[.)]\s+")


class StageAnswer(BaseModel):
    """Base of what a stage accepts: extra keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True)
    _clean = model_validator(mode="before")(cleaned_fields)


def _share(value: Any) -> Any:
    """A share of one, also as a percentage (a whole number from 2 on, or with its sign); None where it is no number.

    A number that can be neither is left as it is, and refused by validation.
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


def usable_text(answer: str) -> str:
    """The answer without thinking. Raises `UnusableAnswer` where nothing is left that could be a result."""
    text = split_thinking(answer)[1]
    said = answer if isinstance(answer, Answer) else Answer(answer)
    is_cut = said.finish_reason == "length"
    if text is None or (is_cut and not text and said.thinking_tokens):
        raise UnusableAnswer(
            "unclosed_thinking", "the answer ends inside its thinking: raise max_tokens or turn thinking off"
        )
    if is_blank_without_end(said):
        raise UnusableAnswer("blank_answer", "the answer is blanks up to max_tokens")
    if is_cut:
        raise UnusableAnswer("cut_by_max_tokens", "the answer reached max_tokens before it ended")
    if not text:
        raise UnusableAnswer("empty_answer", "the answer is empty")
    return text


def parse_record(answer: str, model: type[Record]) -> Record:
    """Validate an answer against a stage's model. Raises `UnusableAnswer` naming what does not fit, never the text."""
    text = usable_text(answer)
    fenced = _FENCE.match(text)
    try:
        values = [read_json(fenced[1] if fenced else text)]
    except ValueError:
        values = list(objects_in_prose(text))
    problems = None
    for value in values:  # prose may hold other objects before the answer; the first that fits is it
        try:
            return model.model_validate(value)
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors()[:5])
            problems = problems or found
    if problems is None:
        raise UnusableAnswer("no_json", "the answer holds no JSON object")
    raise UnusableAnswer("answer_does_not_fit", f"the answer's JSON does not fit the stage: {problems}")
